//! How much silence ends a turn: one pure policy over what is known of the caller's words.

use std::time::Duration;

use super::phrases::{PhraseSet, UNFINISHED};

/// What is known when the caller pauses.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Evidence<'a> {
    /// The words up to the pause, where they are there already.
    pub(super) transcript: Option<&'a str>,
    /// An end-of-turn model's probability that the caller has finished.
    pub(super) finished: Option<f32>,
}

/// `startSpeakingPlan`, as durations.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Waits {
    /// Never less than this.
    pub(super) least: Duration,
    /// After a finished sentence.
    pub(super) finished: Duration,
    /// After an unfinished one.
    pub(super) unfinished: Duration,
    /// After a number or letters.
    pub(super) number: Duration,
    /// A transcript will come before the end of the turn.
    pub(super) transcript_expected: bool,
    /// Words that leave a sentence unfinished.
    pub(super) unfinished_words: PhraseSet,
}

/// How the caller's words look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Finished,
    Unfinished,
    Number,
}

/// Above this the end-of-turn model is sure that the caller has finished.
const SURELY_FINISHED: f32 = 0.8;
/// Below this it is sure that they have not.
const SURELY_UNFINISHED: f32 = 0.2;

impl Waits {
    /// `UNFINISHED` words, ready to compare.
    pub(super) fn default_unfinished_words() -> PhraseSet {
        PhraseSet::new(UNFINISHED)
    }

    /// The silence that ends the turn.
    pub(super) fn silence(&self, evidence: Evidence<'_>) -> Duration {
        let Some(transcript) = evidence.transcript else {
            // Nothing can be answered before the transcript: there is no hurry to decide.
            let patience = if self.transcript_expected {
                self.unfinished
            } else {
                self.finished
            };
            return patience.max(self.least);
        };
        let ending = self.ending(transcript);
        let wait = match (ending, evidence.finished) {
            // Models of sentence melody are at a loss with digits.
            (Ending::Number, _) => self.number,
            // Where words and melody disagree: the melody of a greeting often says to go on, and
            // a recogniser writes a full stop wherever it can.
            (Ending::Finished, Some(sure)) if sure <= SURELY_UNFINISHED => {
                (self.finished + self.unfinished) / 2
            }
            (Ending::Unfinished, Some(sure)) if sure >= SURELY_FINISHED => self.finished,
            (Ending::Finished, _) => self.finished,
            (Ending::Unfinished, _) => self.unfinished,
        };
        wait.max(self.least)
    }

    fn ending(&self, transcript: &str) -> Ending {
        let text = transcript.trim();
        if ends_in_number(text) {
            return Ending::Number;
        }
        let question = text.ends_with('?');
        if text.ends_with([',', ';', ':', '-', '\u{2014}', '\u{2026}']) || text.ends_with("...") {
            return Ending::Unfinished;
        }
        if !question && self.unfinished_words.ends(text) {
            return Ending::Unfinished;
        }
        // Recognisers leave out the full stop after a word or two.
        let short = text.split_whitespace().count() <= 3;
        if question || text.ends_with(['.', '!', '"']) || short {
            Ending::Finished
        } else {
            Ending::Unfinished
        }
    }
}

/// The text ends with digits or letters being read out: two or more, or nothing else.
fn ends_in_number(text: &str) -> bool {
    let mut read_out = 0;
    let mut others = false;
    for word in text.split_whitespace().rev() {
        match read_out_symbols(word) {
            0 => {
                others = true;
                break;
            }
            symbols => read_out += symbols,
        }
    }
    read_out >= 2 || (read_out == 1 && !others)
}

/// How many digits or letters the word reads out: "12345." five, "five" one, "B" one, "five-oh"
/// two, "order" none, "10:30" none.
fn read_out_symbols(word: &str) -> usize {
    let word = word.trim_matches(|letter: char| matches!(letter, '.' | ',' | '!' | '?' | '-'));
    if word.is_empty() {
        return 0;
    }
    let mut symbols = 0;
    for part in word.split(['-', '.', ',']) {
        let digits = part.chars().all(|letter| letter.is_ascii_digit());
        let letter = part.len() == 1 && part.chars().all(|c| c.is_ascii_uppercase() && c != 'I');
        let lower = part.to_lowercase();
        symbols += match lower.as_str() {
            _ if digits => part.len(),
            _ if letter => 1,
            "zero" | "oh" | "one" | "two" | "three" | "four" | "five" | "six" | "seven"
            | "eight" | "nine" | "double" | "triple" => 1,
            _ => return 0,
        };
    }
    symbols
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn waits() -> Waits {
        Waits {
            least: MS(400),
            finished: MS(100),
            unfinished: MS(1500),
            number: MS(1100),
            transcript_expected: true,
            unfinished_words: Waits::default_unfinished_words(),
        }
    }

    fn silence(transcript: &str) -> Duration {
        waits().silence(Evidence {
            transcript: Some(transcript),
            finished: None,
        })
    }

    #[test]
    fn a_finished_sentence_waits_least() {
        for text in [
            "When do you open?",
            "I need help with my order.",
            "Yes",
            "no thank you",
            "Is it that?",
            "Come at 9.",
            "See you at 10:30.",
            "It was $4.99.",
        ] {
            assert_eq!(silence(text), MS(400), "{text}");
        }
    }

    #[test]
    fn an_unfinished_one_waits_longest() {
        for text in [
            "I would like to",
            "My name is, um.",
            "Well, because",
            "I want the...",
            "On Monday,",
            "I was wondering whether you could help",
        ] {
            assert_eq!(silence(text), MS(1500), "{text}");
        }
    }

    #[test]
    fn digits_and_letters_read_out_wait_for_more() {
        for text in [
            "five five five",
            "My order number is 123.",
            "It's A B",
            "Five",
            "Nine-one-one.",
            "555-1234",
            "double seven",
        ] {
            assert_eq!(silence(text), MS(1100), "{text}");
        }
    }

    #[test]
    fn without_a_transcript_there_is_no_hurry_unless_none_will_come() {
        assert_eq!(waits().silence(Evidence::default()), MS(1500));
        let waits = Waits {
            transcript_expected: false,
            ..waits()
        };
        assert_eq!(waits.silence(Evidence::default()), MS(400));
    }

    #[test]
    fn an_end_of_turn_model_overrules_the_words_but_not_digits() {
        let with = |transcript, finished| {
            waits().silence(Evidence {
                transcript: Some(transcript),
                finished: Some(finished),
            })
        };
        assert_eq!(with("I would like to", 0.95), MS(400));
        assert_eq!(with("I need help.", 0.1), MS(800));
        assert_eq!(with("I need help.", 0.5), MS(400));
        assert_eq!(with("five five", 0.95), MS(1100));
    }
}
