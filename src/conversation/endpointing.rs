//! How much silence ends a turn: one pure policy over what is known of the caller's words and ways,
//! and of what they were asked. Its main knob is `startSpeakingPlan.transcriptionEndpointingPlan`.

use std::collections::VecDeque;
use std::time::Duration;

use super::phrases::{PhraseSet, UNFINISHED, words};

/// What is known when the caller pauses.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Evidence<'a> {
    /// What the assistant said last.
    pub(super) asked: Option<&'a str>,
    pub(super) ways: Ways,
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

/// How this caller has spoken so far in this call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ways {
    /// How long they pause without having finished.
    pub(super) pause: Duration,
    /// How often they went on as soon as they were answered.
    pub(super) cut_ins: u32,
}

/// What [`Ways`] is drawn from.
#[derive(Clone, Debug, Default)]
pub(super) struct Habits {
    /// The latest pauses inside turns.
    pauses: VecDeque<Duration>,
    cut_ins: u32,
}

impl Habits {
    /// The caller went on after a pause.
    pub(super) fn paused(&mut self, pause: Duration) {
        if pause < NOTABLE_PAUSE || pause > LONGEST_PAUSE {
            return;
        }
        if self.pauses.len() >= REMEMBERED_PAUSES {
            self.pauses.pop_front();
        }
        self.pauses.push_back(pause);
    }

    /// The caller went on although the assistant had begun to answer.
    pub(super) fn was_cut_short(&mut self) {
        self.cut_ins = self.cut_ins.saturating_add(1);
    }

    /// One long pause is none; two are a habit.
    pub(super) fn ways(&self) -> Ways {
        let mut pauses: Vec<Duration> = self.pauses.iter().copied().collect();
        pauses.sort_unstable();
        Ways {
            pause: pauses.iter().rev().nth(1).copied().unwrap_or_default(),
            cut_ins: self.cut_ins,
        }
    }
}

/// How the caller's words look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Finished,
    Unfinished,
    Number,
    /// "Is my order number 12345?": the sentence is whole, the number may not be.
    NumberInQuestion,
}

/// A shorter pause is a gap between words.
const NOTABLE_PAUSE: Duration = Duration::from_millis(300);
/// A longer one is a turn of its own.
const LONGEST_PAUSE: Duration = Duration::from_millis(2000);
const REMEMBERED_PAUSES: usize = 6;
/// What is read out digit by digit or letter by letter.
const READ_OUT: &[&str] = &[
    "number", "numbers", "digit", "digits", "code", "zip", "postcode", "spell", "spelling", "pin",
    "birth", "phone", "account", "card",
];
/// From this many words on a question with a number is a sentence.
const SENTENCE_WORDS: usize = 6;
/// Who pauses like this is waited for this much longer than that...
const BEYOND_PAUSE: Duration = Duration::from_millis(300);
/// ... but never longer than this.
const MOST_PATIENCE: Duration = Duration::from_millis(2000);
/// Every time that a caller was cut short, the least silence grows by this, three times at most.
const AFTER_CUT_IN: Duration = Duration::from_millis(150);
const MOST_CUT_INS: u32 = 3;
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
        let ending = self.ending(transcript, evidence.asked);
        let ways = evidence.ways;
        let least = self.least + AFTER_CUT_IN * ways.cut_ins.min(MOST_CUT_INS);
        let usual = match ways.pause {
            Duration::ZERO => Duration::ZERO,
            pause => (pause + BEYOND_PAUSE).min(MOST_PATIENCE),
        };
        let wait = match (ending, evidence.finished) {
            // Models of sentence melody are at a loss with digits.
            (Ending::Number, _) => self.number.max(usual),
            (Ending::NumberInQuestion, Some(sure)) if sure <= SURELY_UNFINISHED => self.number,
            (Ending::NumberInQuestion, _) => (self.finished + self.number) / 2,
            // Where words and melody disagree: the melody of a greeting often says to go on, and
            // a recogniser writes a full stop wherever it can.
            (Ending::Finished, Some(sure)) if sure <= SURELY_UNFINISHED => {
                (self.finished + self.unfinished) / 2
            }
            (Ending::Unfinished, Some(sure)) if sure >= SURELY_FINISHED => self.finished,
            (Ending::Finished, _) => self.finished,
            (Ending::Unfinished, _) => self.unfinished.max(usual),
        };
        wait.max(least)
    }

    fn ending(&self, transcript: &str, asked: Option<&str>) -> Ending {
        let text = transcript.trim();
        let question = text.ends_with('?');
        if ends_in_number(text) {
            let wanted = asked.is_some_and(asks_for_number);
            let long = text.split_whitespace().count() >= SENTENCE_WORDS;
            return match question && long && !wanted {
                true => Ending::NumberInQuestion,
                false => Ending::Number,
            };
        }
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

/// The assistant wants something that is read out.
fn asks_for_number(said: &str) -> bool {
    let said = words(said);
    READ_OUT
        .iter()
        .any(|word| said.iter().any(|said| said == word))
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
            ..Evidence::default()
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
    fn a_whole_question_with_a_number_waits_less_unless_a_number_was_asked_for() {
        let question = "Can you check the status of my order number 12345?";
        assert_eq!(silence(question), MS(600));
        let after = |asked| {
            waits().silence(Evidence {
                transcript: Some(question),
                asked: Some(asked),
                ..Evidence::default()
            })
        };
        assert_eq!(after("What is your order number?"), MS(1100));
        assert_eq!(after("How can I help you?"), MS(600));
    }

    #[test]
    fn who_pauses_long_is_waited_for_longer_where_they_have_not_finished() {
        let mut habits = Habits::default();
        for ms in [100, 1400, 5000] {
            habits.paused(MS(ms));
        }
        let silence = |habits: &Habits, transcript| {
            waits().silence(Evidence {
                transcript: Some(transcript),
                ways: habits.ways(),
                ..Evidence::default()
            })
        };
        assert_eq!(silence(&habits, "five five"), MS(1100), "one is no habit");
        habits.paused(MS(1300));
        assert_eq!(silence(&habits, "five five"), MS(1600));
        assert_eq!(silence(&habits, "I would like to"), MS(1600));
        assert_eq!(silence(&habits, "I need help."), MS(400));
    }

    #[test]
    fn who_was_cut_short_is_answered_later_but_not_ever_later() {
        let mut habits = Habits::default();
        let waits_for = [400, 550, 700, 850, 850].map(|expected| {
            let wait = waits().silence(Evidence {
                transcript: Some("I need help."),
                ways: habits.ways(),
                ..Evidence::default()
            });
            habits.was_cut_short();
            (wait, MS(expected))
        });
        for (wait, expected) in waits_for {
            assert_eq!(wait, expected);
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
                ..Evidence::default()
            })
        };
        assert_eq!(with("I would like to", 0.95), MS(400));
        assert_eq!(with("I need help.", 0.1), MS(800));
        assert_eq!(with("I need help.", 0.5), MS(400));
        assert_eq!(with("five five", 0.95), MS(1100));
    }
}
