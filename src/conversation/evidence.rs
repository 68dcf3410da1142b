//! Whether a transcript is what somebody said: recognisers invent words for noise, and for speech
//! in a language that they were not told to expect.

use std::time::Duration;

use super::api::Transcript;
use super::phrases::{PhraseSet, words};

/// What Whisper writes for noise and silence, learnt from subtitles.
const INVENTED: &[&str] = &[
    "thank you",
    "thanks",
    "thanks for watching",
    "thank you for watching",
    "thank you so much for watching",
    "please subscribe",
    "like and subscribe",
    "dont forget to subscribe",
    "see you next time",
    "see you in the next video",
    "bye",
    "bye bye",
    "you",
    "the end",
    "subtitles by the amara org community",
    "music",
    "applause",
    "so",
];

/// Nobody says more in one stretch.
const MOST_LETTERS: usize = 4000;

/// So much speech tells its language; a single word is often taken for another one's.
const ENOUGH_FOR_LANGUAGE: Duration = Duration::from_millis(1000);
/// Another language is spoken from this probability on.
const OTHER_LANGUAGE: f32 = 0.75;
/// And where the expected one has no more than this: noisy, cut and soft English has four times as
/// much.
const EXPECTED_LANGUAGE: f32 = 0.1;
/// Noise has a language as well, from this probability on that nobody spoke.
const NOBODY_SPOKE: f32 = 0.5;
/// Whisper's own bound for silence.
const SILENCE: f32 = 0.6;
/// Sentences are likelier than this on the telephone; words made of half heard digits are not.
const SURE_LOGPROB: f32 = -0.85;

/// What the voice activity detector says about the stretch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct SpeechEvidence {
    /// How much of it was speech.
    pub(super) speech: Duration,
    /// Mean probability of the windows that were.
    pub(super) mean_probability: f32,
    /// Length of what was transcribed, which may be less than the speech: only its last part.
    pub(super) transcribed: Duration,
}

impl SpeechEvidence {
    /// Somebody spoke for certain, so that they deserve an answer.
    pub(super) fn is_strong(&self) -> bool {
        self.is_long() && self.mean_probability >= 0.75
    }

    /// Too long for a cough.
    fn is_long(&self) -> bool {
        self.speech >= Duration::from_millis(400)
    }
}

/// What a transcript is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Words that were said.
    Words(String),
    /// Somebody spoke another language, and was heard as these words.
    OtherLanguage(String),
    /// Somebody spoke, but nothing can be made out.
    Unclear,
    /// Nobody spoke.
    Noise,
}

/// What becomes of speech in a language that is not expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OtherLanguages {
    /// It is not understood, whatever words were made of it.
    Refused,
    /// Those words are what was said.
    AsHeard,
}

/// Judges a transcript of a stretch.
pub(super) fn judge(
    transcript: &Transcript,
    heard: SpeechEvidence,
    others: OtherLanguages,
) -> Verdict {
    let text = without_annotations(&transcript.text);
    let count = words(&text).len();
    let refusable = others == OtherLanguages::Refused && has_words(&text);
    if refusable && is_other_language(transcript, heard) {
        return Verdict::OtherLanguage(text);
    }
    if count > 0 && is_credible(transcript, &text, count, heard) {
        return Verdict::Words(text);
    }
    // Soft words are speech to the recogniser where the detector is in doubt.
    let spoken = count > 0 && transcript.no_speech_probability < SILENCE;
    if heard.is_strong() || spoken && heard.is_long() {
        Verdict::Unclear
    } else {
        Verdict::Noise
    }
}

/// The recogniser is sure of the words: if not, they do not tell whether more will come.
pub(super) fn is_sure(transcript: &Transcript) -> bool {
    transcript.mean_logprob >= SURE_LOGPROB
}

/// Whether there is more than figures, which sound alike in many languages.
fn has_words(text: &str) -> bool {
    let is_word = |word: &String| word.chars().all(|letter| !letter.is_numeric());
    words(text).iter().any(is_word)
}

/// Whether another language was spoken, for certain: whoever is refused by mistake cannot help it.
/// How likely the words are says nothing: a recogniser that expects another language may translate.
fn is_other_language(transcript: &Transcript, heard: SpeechEvidence) -> bool {
    let Some(spoken) = transcript.language else {
        return false;
    };
    let enough = heard.speech.min(heard.transcribed) >= ENOUGH_FOR_LANGUAGE;
    enough
        && heard.is_strong()
        && transcript.no_speech_probability < NOBODY_SPOKE
        && spoken.other_probability >= OTHER_LANGUAGE
        && spoken.expected_probability <= EXPECTED_LANGUAGE
}

fn is_credible(transcript: &Transcript, text: &str, count: usize, heard: SpeechEvidence) -> bool {
    let Transcript {
        mean_logprob,
        no_speech_probability,
        repeated,
        ..
    } = *transcript;
    // What is no number is no evidence of anything.
    if mean_logprob.is_nan() || no_speech_probability.is_nan() {
        return heard.is_strong();
    }
    let guessed = mean_logprob < -1.2;
    let silent = no_speech_probability > 0.8 && mean_logprob < -0.6;
    let looped = repeated && mean_logprob < -0.8;
    // Nobody says eight words a second.
    // The detector may have missed a first or a last quarter of a second.
    let seconds = heard.speech.as_secs_f64() + 0.25;
    let rushed = count >= 5 && count as f64 / seconds > 8.0;
    let doubtful = !heard.is_strong() || no_speech_probability > 0.5 || mean_logprob < -0.7;
    let invented = doubtful && PhraseSet::new(INVENTED).is(text)
        // A short "thank you" is common enough to be believed with good probabilities.
        && !(mean_logprob > -0.35 && no_speech_probability < 0.3);
    !(guessed || silent || looped || rushed || invented)
}

/// The text without "[BLANK_AUDIO]", "(coughs)" and "*music*".
fn without_annotations(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut closing = None;
    let mut aside = String::new();
    for letter in text.chars().take(MOST_LETTERS) {
        match closing {
            Some(close) if letter == close => {
                closing = None;
                aside.clear();
            }
            Some(_) => aside.push(letter),
            None => match letter {
                '[' => closing = Some(']'),
                '(' => closing = Some(')'),
                '*' => closing = Some('*'),
                '\u{266A}' | '\u{266B}' => {}
                letter => kept.push(letter),
            },
        }
    }
    // A bracket that never closes is no annotation.
    kept.push_str(&aside);
    kept.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::api::SpokenLanguage;
    use super::OtherLanguages::{AsHeard, Refused};
    use super::*;

    fn transcript(text: &str, mean_logprob: f32, no_speech_probability: f32) -> Transcript {
        Transcript {
            text: text.to_owned(),
            mean_logprob,
            no_speech_probability,
            repeated: false,
            language: None,
        }
    }

    const STRONG: SpeechEvidence = SpeechEvidence {
        speech: Duration::from_millis(900),
        mean_probability: 0.92,
        transcribed: Duration::from_millis(1200),
    };
    const WEAK: SpeechEvidence = SpeechEvidence {
        speech: Duration::from_millis(160),
        mean_probability: 0.6,
        transcribed: Duration::from_millis(300),
    };

    #[test]
    fn clear_words_are_words_however_short() {
        for (text, heard) in [
            ("No.", WEAK),
            ("When do you open?", STRONG),
            ("Thank you.", WEAK),
        ] {
            let said = judge(&transcript(text, -0.2, 0.02), heard, Refused);
            assert_eq!(said, Verdict::Words(text.to_owned()));
        }
    }

    #[test]
    fn nothing_heard_is_noise_or_unclear_by_the_detectors_evidence() {
        for text in [
            "",
            "[BLANK_AUDIO]",
            "(coughs)",
            " ... ",
            "*music*",
            "\u{266A}",
        ] {
            assert_eq!(
                judge(&transcript(text, -0.3, 0.9), WEAK, Refused),
                Verdict::Noise,
                "{text}"
            );
            assert_eq!(
                judge(&transcript(text, -0.3, 0.9), STRONG, Refused),
                Verdict::Unclear,
                "{text}"
            );
        }
    }

    #[test]
    fn soft_words_that_nobody_can_make_out_are_unclear() {
        let soft = SpeechEvidence {
            speech: Duration::from_millis(864),
            mean_probability: 0.737,
            ..WEAK
        };
        let guessed = |silence| transcript("Oh, I'm getting full.", -1.49, silence);
        assert_eq!(judge(&guessed(0.36), soft, Refused), Verdict::Unclear);
        assert_eq!(judge(&guessed(0.66), soft, Refused), Verdict::Noise);
        assert_eq!(judge(&guessed(0.36), WEAK, Refused), Verdict::Noise);
    }

    #[test]
    fn inventions_are_refused() {
        let refused = |text, logprob, silence, heard| {
            assert_ne!(
                judge(&transcript(text, logprob, silence), heard, Refused),
                Verdict::Words(text.to_owned()),
                "{text}"
            );
        };
        refused("Thanks for watching!", -0.5, 0.4, WEAK);
        refused("Thank you.", -0.8, 0.6, STRONG);
        refused("The quick brown fox jumps over it", -1.5, 0.1, STRONG);
        refused("I am here", -0.7, 0.95, STRONG);
        refused(
            "one two three four five six seven eight nine ten",
            -0.3,
            0.1,
            STRONG,
        );
        let looped = Transcript {
            repeated: true,
            ..transcript("no no no", -0.9, 0.1)
        };
        assert_eq!(judge(&looped, STRONG, Refused), Verdict::Unclear);
    }

    #[test]
    fn another_language_is_one_only_for_certain() {
        let long = SpeechEvidence {
            speech: Duration::from_millis(1500),
            ..STRONG
        };
        let figures = Transcript {
            language: Some(SpokenLanguage {
                expected_probability: 0.02,
                other_probability: 0.9,
            }),
            ..transcript("29, 29.", -0.3, 0.1)
        };
        let number = Verdict::Words("29, 29.".to_owned());
        assert_eq!(judge(&figures, long, Refused), number);
        let judged = |expected_probability, other_probability, silence, heard, others| {
            let language = Some(SpokenLanguage {
                expected_probability,
                other_probability,
            });
            let transcript = Transcript {
                language,
                ..transcript("Good in Tag", -0.3, silence)
            };
            judge(&transcript, heard, others)
        };
        let heard = "Good in Tag".to_owned();
        let refused = judged(0.02, 0.9, 0.1, long, Refused);
        assert_eq!(refused, Verdict::OtherLanguage(heard.clone()));
        let short_part = SpeechEvidence {
            transcribed: Duration::from_millis(700),
            ..long
        };
        for (name, said) in [
            ("an accent", judged(0.2, 0.78, 0.1, long, Refused)),
            ("no language", judged(0.05, 0.2, 0.1, long, Refused)),
            ("a word", judged(0.02, 0.9, 0.1, STRONG, Refused)),
            ("the last word", judged(0.02, 0.9, 0.1, short_part, Refused)),
            ("noise", judged(0.02, 0.9, 0.65, long, Refused)),
            ("nothing to say", judged(0.02, 0.9, 0.1, long, AsHeard)),
        ] {
            assert_eq!(said, Verdict::Words(heard.clone()), "{name}");
        }
    }

    #[test]
    fn annotations_are_taken_out_of_words() {
        let said = judge(
            &transcript("[noise] Hello (laughs) there (I think", -0.2, 0.0),
            STRONG,
            Refused,
        );
        assert_eq!(said, Verdict::Words("Hello there I think".to_owned()));
    }
}
