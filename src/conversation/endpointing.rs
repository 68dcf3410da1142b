//! How much silence ends a turn: one pure policy over what is known of the caller's words and ways,
//! and of what they were asked. Its main knob is `startSpeakingPlan.transcriptionEndpointingPlan`.

use std::time::Duration;

use super::habits::Ways;
use super::phrases::{PhraseSet, UNFINISHED, words};

/// What is known when the caller pauses.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Evidence<'a> {
    /// What the assistant said last.
    pub(super) asked: Option<&'a str>,
    pub(super) ways: Ways,
    /// The words up to the pause, where they are there already.
    pub(super) transcript: Option<&'a str>,
    /// They are the best that could be made of what was heard.
    pub(super) guessed: bool,
    /// Whether the language model takes the words for a whole sentence.
    pub(super) whole: Whole,
    /// An end-of-turn model's probability that the caller has finished.
    pub(super) finished: Option<f32>,
}

impl Evidence<'_> {
    /// How likely the words are a whole sentence, where somebody can tell. People's melody on the
    /// telephone tells less than their words do.
    fn whole(&self) -> Option<f32> {
        match (self.whole, self.finished) {
            (Whole::Known(probability), _) => Some(probability),
            // It is known before the reply could be heard.
            (Whole::Expected, _) => Some(0.0),
            (Whole::Unknown, Some(sure)) if sure >= SURELY_FINISHED => Some(1.0),
            (Whole::Unknown, Some(sure)) if sure <= SURELY_UNFINISHED => Some(0.0),
            (Whole::Unknown, _) => None,
        }
    }
}

/// The language model's word on the caller's words.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Whole {
    /// There is none, and there will be none.
    #[default]
    Unknown,
    /// It comes before the reply does.
    Expected,
    /// The probability that the sentence ends with them.
    Known(f32),
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
    /// What is an answer by itself.
    pub(super) answers: PhraseSet,
}

/// How the caller's words look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// No words: noise, or half a word.
    Nothing,
    /// "Yes, please."
    Answer,
    Finished,
    Unfinished,
    Number,
    /// "Is my order number 12345?": the sentence is whole, the number may not be.
    NumberInQuestion,
}

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
/// The language model takes words for a whole statement from the second probability on, and doubts
/// them up to the first: few are above that at a pause inside, and about half at their end.
const STATEMENT: (f32, f32) = (0.6, 0.9);
/// Likewise for a question: a recogniser writes its mark where it hears one, too.
const QUESTION: (f32, f32) = (0.3, 0.7);
/// Said after a request, and seldom before the rest of it.
const POLITE_ENDINGS: &[&str] = &[", please", ", thanks", ", thank you"];
/// Whole in themselves, whatever might follow.
const ANSWERS: &[&str] = &[
    "yes",
    "yeah",
    "yep",
    "no",
    "nope",
    "no thanks",
    "no thank you",
    "yes please",
    "okay",
    "ok",
    "sure",
    "right",
    "hello",
    "hi",
    "hey",
    "how are you",
    "hi how are you",
    "hello how are you",
    "good morning",
    "good afternoon",
    "good evening",
    "thanks",
    "thank you",
    "thank you very much",
    "bye",
    "goodbye",
    "what",
    "pardon",
    "sorry",
];

impl Waits {
    /// `UNFINISHED` words, ready to compare.
    pub(super) fn default_unfinished_words() -> PhraseSet {
        PhraseSet::new(UNFINISHED)
    }

    /// `ANSWERS`, ready to compare.
    pub(super) fn default_answers() -> PhraseSet {
        PhraseSet::new(ANSWERS)
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
        let usual = |pause| match pause {
            Duration::ZERO => Duration::ZERO,
            pause => (pause + BEYOND_PAUSE).min(MOST_PATIENCE),
        };
        let in_sentences = usual(ways.in_sentences);
        let wait = match ending {
            // Models of sentences are at a loss with digits.
            Ending::Number => self.number.max(usual(ways.in_numbers)),
            Ending::NumberInQuestion => match evidence.whole() {
                Some(whole) => between(whole, QUESTION, least, self.number),
                None => (self.finished + self.number) / 2,
            },
            Ending::Nothing => self.doubtful(),
            Ending::Answer => self.finished,
            Ending::Finished if evidence.guessed => self.doubtful().max(in_sentences),
            Ending::Finished if ends_politely(transcript) => in_sentences.min(self.patient()),
            Ending::Finished => {
                // A recogniser writes a full stop wherever it can.
                let bounds = match transcript.trim_end().ends_with('?') {
                    true => QUESTION,
                    false => STATEMENT,
                };
                let wait = match evidence.whole() {
                    Some(whole) => between(whole, bounds, least, self.doubtful()),
                    None => self.finished,
                };
                wait.max(in_sentences.min(self.patient()))
            }
            Ending::Unfinished => match evidence.whole() {
                Some(whole) if whole >= STATEMENT.1 => self.doubtful(),
                Some(_) | None => self.unfinished.max(in_sentences),
            },
        };
        wait.max(least)
    }

    /// Where it can be either: longer than most people pause.
    fn doubtful(&self) -> Duration {
        (self.finished * 2 + self.unfinished * 3) / 5
    }

    /// For who pauses in their sentences, after what looks like a whole one.
    fn patient(&self) -> Duration {
        (self.finished + self.unfinished * 3) / 4
    }

    fn ending(&self, transcript: &str, asked: Option<&str>) -> Ending {
        let text = transcript.trim();
        if text.is_empty() {
            return Ending::Nothing;
        }
        if self.answers.is(text) {
            return Ending::Answer;
        }
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

/// The wait for words that are so likely whole, where `doubted` is the most and `whole` the least.
fn between(
    probability: f32,
    (doubted, whole): (f32, f32),
    least: Duration,
    most: Duration,
) -> Duration {
    let doubt = ((whole - probability) / (whole - doubted)).clamp(0.0, 1.0);
    least + most.saturating_sub(least) * (1000.0 * doubt) as u32 / 1000
}

fn ends_politely(text: &str) -> bool {
    let text = text.trim_end_matches(['.', '!', '?']).to_lowercase();
    POLITE_ENDINGS.iter().any(|ending| text.ends_with(ending))
}

/// The assistant wants something that is read out.
fn asks_for_number(said: &str) -> bool {
    let said = words(said);
    READ_OUT
        .iter()
        .any(|word| said.iter().any(|said| said == word))
}

/// The text ends with digits or letters being read out: two or more, or nothing else.
pub(super) fn ends_in_number(text: &str) -> bool {
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
/// and "B2" two, "order" none, "10:30" none.
fn read_out_symbols(word: &str) -> usize {
    let word = word.trim_matches(|letter: char| matches!(letter, '.' | ',' | '!' | '?' | '-'));
    if word.is_empty() {
        return 0;
    }
    let mut symbols = 0;
    for part in word.split(['-', '.', ',']) {
        let digits = part.chars().all(|letter| letter.is_ascii_digit());
        let letter = part.len() == 1 && part.chars().all(|c| c.is_ascii_uppercase() && c != 'I');
        // "B2", as a plate or a postcode has it.
        let code = part.chars().any(|c| c.is_ascii_digit())
            && part
                .chars()
                .all(|c| c.is_ascii_digit() || c.is_ascii_uppercase());
        let lower = part.to_lowercase();
        symbols += match lower.as_str() {
            _ if digits || code => part.len(),
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
            answers: Waits::default_answers(),
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
            "178094-B2",
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
        let with = |transcript, in_sentences, in_numbers| {
            let ways = Ways {
                in_sentences: MS(in_sentences),
                in_numbers: MS(in_numbers),
                cut_ins: 0,
            };
            waits().silence(Evidence {
                transcript: Some(transcript),
                ways,
                ..Evidence::default()
            })
        };
        assert_eq!(with("five five", 0, 1300), MS(1600));
        assert_eq!(with("five five", 1300, 0), MS(1100));
        assert_eq!(with("I would like to", 1300, 0), MS(1600));
        assert_eq!(with("I need help.", 0, 1300), MS(400));
        assert_eq!(with("I need help.", 450, 0), MS(750));
        assert_eq!(
            with("I need help.", 1300, 0),
            MS(1150),
            "but they have, it seems"
        );
        assert_eq!(with("Yes.", 1300, 0), MS(400));
    }

    #[test]
    fn who_was_cut_short_is_answered_later_but_not_ever_later() {
        for (cut_ins, expected) in [(0, 400), (1, 550), (2, 700), (3, 850), (4, 850)] {
            let wait = waits().silence(Evidence {
                transcript: Some("I need help."),
                ways: Ways {
                    cut_ins,
                    ..Ways::default()
                },
                ..Evidence::default()
            });
            assert_eq!(wait, MS(expected));
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
    fn the_language_model_says_which_full_stops_are_ones() {
        let with = |transcript, whole| {
            waits().silence(Evidence {
                transcript: Some(transcript),
                whole,
                finished: Some(0.9),
                ..Evidence::default()
            })
        };
        assert_eq!(with("I need a room.", Whole::Known(0.9)), MS(400));
        assert_eq!(with("I need a room.", Whole::Known(0.2)), MS(940));
        let between = with("I need a room.", Whole::Known(0.75));
        assert!((MS(660)..MS(680)).contains(&between), "{between:?}");
        assert_eq!(with("A room, please.", Whole::Known(0.2)), MS(400));
        assert_eq!(with("Could you please.", Whole::Known(0.2)), MS(940));
        assert_eq!(with("Is it far?", Whole::Known(0.7)), MS(400));
        assert_eq!(with("Is it?", Whole::Known(0.1)), MS(940));
        assert_eq!(
            with("I need a room.", Whole::Expected),
            MS(940),
            "it soon knows"
        );
        assert_eq!(with("I need a room.", Whole::Unknown), MS(400));
        assert_eq!(with("I would like to", Whole::Known(0.01)), MS(1500));
        assert_eq!(with("Tell me when you open", Whole::Known(0.9)), MS(940));
        assert_eq!(with("five five", Whole::Known(0.9)), MS(1100));
        assert_eq!(
            with("Is my order number 12345?", Whole::Known(0.2)),
            MS(1100)
        );
        assert_eq!(
            with("Yes, please.", Whole::Known(0.1)),
            MS(400),
            "an answer"
        );
    }

    #[test]
    fn what_could_not_be_made_out_is_not_hurried() {
        assert_eq!(silence(""), MS(940));
        let guessed = |transcript| {
            waits().silence(Evidence {
                transcript: Some(transcript),
                guessed: true,
                whole: Whole::Known(0.95),
                ..Evidence::default()
            })
        };
        assert_eq!(guessed("Why?"), MS(940));
        assert_eq!(guessed("five five"), MS(1100));
        assert_eq!(guessed("Yes."), MS(400));
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
        assert_eq!(with("I would like to", 0.95), MS(940));
        assert_eq!(with("I need help.", 0.1), MS(940));
        assert_eq!(with("I need help.", 0.5), MS(400));
        assert_eq!(with("five five", 0.95), MS(1100));
    }
}
