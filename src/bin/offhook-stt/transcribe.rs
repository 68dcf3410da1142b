//! From telephone audio to words.
//!
//! ```text
//!  sound ─► pieces at pauses ─► audible part ─► 16 kHz ─► trimmed context ─► decode ─┬─► text
//!                                                  ▲                                 │ suspicious
//!                                                  │    figures? decode as figures ◄─┤
//!                                                  └── a larger context, if waiting ◄┘
//! ```
//!
//! The encoder looks at the speech and [`Settings::margin`] more, not at 30 s, which is where the
//! speed comes from. A decode that repeats itself, runs on or is unsure gets a second opinion, and
//! the likelier of the two stays: as figures only, which costs no second look at the audio, or
//! over [`Settings::second_context`].

use std::time::Instant;

use offhook::audio::{SampleRate, resample};
use offhook::engines::{SpokenLanguage, Transcript};
use offhook::ids::LanguageCode;

use crate::decode::{Alphabet, Decoded, Ending, Rules, Vocabulary, decode};
use crate::language::Languages;
use crate::speech::{TELEPHONE_RATE, audible, pieces};
use crate::whisper::{
    FULL_CONTEXT, Language, POSITIONS_PER_SECOND, RATE, Token, Whisper, WhisperError,
};

/// Most tokens of a hint; the latest ones count.
const LONGEST_HINT: usize = 64;
/// Probability above which a doubtful decode is taken for noise.
const NO_SPEECH: f32 = 0.6;
/// What makes the model write figures as a caller reads them out.
const FIGURES_HINT: &str = " 2, 5, 8, 1, 0, 7.";

/// How to transcribe. The defaults are what measured best; see `tests/bench/stt`.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Encoder positions (20 ms each) looked at beyond the speech.
    pub(crate) margin: usize,
    /// Fewest encoder positions.
    pub(crate) floor: usize,
    /// Mean log-probability under which a decode is doubted.
    pub(crate) doubt: f32,
    /// Mean log-probability under which even words with some figures among them may all be
    /// figures.
    pub(crate) strong_doubt: f32,
    /// Mean log-probability under which a larger context is worth its time.
    pub(crate) despair: f32,
    /// That larger context, in encoder positions.
    pub(crate) second_context: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            margin: 256,
            floor: 160,
            doubt: -0.25,
            strong_doubt: -0.5,
            despair: -0.9,
            second_context: 1000,
        }
    }
}

/// What is asked.
pub(crate) struct Order<'a> {
    /// At `rate`, 8 or 16 kHz.
    pub(crate) samples: &'a [i16],
    pub(crate) rate: SampleRate,
    /// What was said before, or what the words may be about.
    pub(crate) hint: Option<&'a str>,
    /// What the words are to be written in; the recogniser's own where it does not know it.
    pub(crate) language: Option<&'a LanguageCode>,
    /// Somebody waits for it: worth a second look at the full context.
    pub(crate) waiting: bool,
    /// Asked between tokens.
    pub(crate) cancelled: &'a dyn Fn() -> bool,
    /// Told between the steps, since a busy machine may take long over them.
    pub(crate) progress: &'a dyn Fn(),
}

/// A transcript, or `None` where it was cancelled.
type Outcome<T> = Result<Option<T>, WhisperError>;

/// Turns audio into transcripts, one after another.
pub(crate) struct Recogniser {
    whisper: Whisper,
    vocabulary: Vocabulary,
    settings: Settings,
    figures_hint: Vec<Token>,
    /// `None` where the model knows only one.
    language: Option<Language>,
}

/// One decode, with what is needed to compare it with another.
struct Candidate {
    decoded: Decoded,
    text: String,
    rushed: bool,
}

impl Candidate {
    fn is_broken(&self) -> bool {
        self.rushed || matches!(self.decoded.ending, Ending::Repetition | Ending::Limit)
    }

    /// How much it counts beside other pieces of a stretch.
    fn weight(&self) -> f32 {
        self.text.len().max(1) as f32
    }

    fn score(&self) -> f32 {
        let penalty = if self.is_broken() { 1.0 } else { 0.0 };
        self.decoded.mean_log_probability - penalty
    }
}

impl Recogniser {
    /// Uses a loaded model, for callers who speak `language` where nothing else is asked.
    pub(crate) fn new(
        whisper: Whisper,
        settings: Settings,
        language: &LanguageCode,
    ) -> Result<Self, WhisperError> {
        let vocabulary = Vocabulary::new(whisper.special(), whisper.pieces());
        let own = find(language, &whisper.special().languages).cloned();
        if own.is_none() && whisper.is_multilingual() {
            return Err(WhisperError::Language(language.clone()));
        }
        let figures_hint = whisper.tokenize(FIGURES_HINT)?;
        Ok(Self {
            whisper,
            vocabulary,
            settings,
            figures_hint,
            language: own,
        })
    }

    /// Makes the model allocate what it needs.
    pub(crate) fn warm(&mut self) -> Result<(), WhisperError> {
        self.whisper.listen(&[0.0; RATE], FULL_CONTEXT / 4)?;
        self.whisper.encode()
    }

    /// Transcribes. `None` where the order was cancelled meanwhile.
    pub(crate) fn transcribe(&mut self, order: &Order<'_>) -> Outcome<Transcript> {
        let started = Instant::now();
        let mut heard = Vec::new();
        let scale = (order.rate.hz() as usize / TELEPHONE_RATE).max(1);
        for piece in pieces(order.samples, scale) {
            let part = audible(piece, scale);
            if part.is_empty() {
                continue;
            }
            match self.piece(&piece[part], order)? {
                None => return Ok(None),
                Some(candidate) => heard.push(candidate),
            }
            (order.progress)();
        }
        let mut transcript = join(&heard);
        transcript.language = self.spoken(&heard, order);
        transcript.audio_ms = milliseconds(order.samples.len() / scale);
        transcript.decode_ms = u32::try_from(started.elapsed().as_millis()).unwrap_or(u32::MAX);
        Ok(Some(transcript))
    }

    fn piece(&mut self, samples: &[i16], order: &Order<'_>) -> Outcome<Candidate> {
        let seconds = samples.len() as f32 / order.rate.hz() as f32;
        let samples = to_whisper(samples, order.rate);
        let speech = samples.len() * POSITIONS_PER_SECOND / RATE;
        let context = (speech + self.settings.margin)
            .max(self.settings.floor)
            .min(FULL_CONTEXT);
        let hint = self.hint(order.hint)?;
        self.whisper.listen(&samples, context)?;
        if (order.cancelled)() {
            return Ok(None);
        }
        self.whisper.encode()?;
        (order.progress)();
        let Some(first) = self.decode(seconds, &hint, Alphabet::Words, order)? else {
            return Ok(None);
        };
        let Some(best) = self.as_figures(first, seconds, order)? else {
            return Ok(None);
        };
        let despair = best.is_broken() || best.score() < self.settings.despair;
        // What is probably noise is not worth it.
        let noise = best.decoded.no_speech_probability > NO_SPEECH;
        let larger = self.settings.second_context;
        if !order.waiting || !despair || noise || context >= larger {
            return Ok(Some(best));
        }
        (order.progress)();
        self.whisper.listen(&samples, larger)?;
        self.whisper.encode()?;
        (order.progress)();
        let Some(second) = self.decode(seconds, &hint, Alphabet::Words, order)? else {
            return Ok(None);
        };
        let second = self.as_figures(second, seconds, order)?;
        Ok(second.map(|second| {
            if second.score() > best.score() {
                second
            } else {
                best
            }
        }))
    }

    /// What is mostly figures, but not only, is tried as nothing else.
    fn as_figures(
        &mut self,
        words: Candidate,
        seconds: f32,
        order: &Order<'_>,
    ) -> Outcome<Candidate> {
        let doubted = words.score() < self.settings.doubt && is_mostly_figures(&words.text)
            || words.score() < self.settings.strong_doubt && figures_and_others(&words.text).0 >= 3;
        let broken = words.is_broken() && has_figures(&words.text);
        if !(doubted || broken) {
            return Ok(Some(words));
        }
        let hint = self.figures_hint.clone();
        let figures = self.decode(seconds, &hint, Alphabet::Figures, order)?;
        Ok(figures.map(|figures| {
            let likelier = figures.score() > words.score();
            if likelier && !figures.text.is_empty() {
                // Its hint speaks for the hint's language.
                let languages = words.decoded.languages;
                let decoded = Decoded {
                    languages,
                    ..figures.decoded
                };
                Candidate { decoded, ..figures }
            } else {
                words
            }
        }))
    }

    fn decode(
        &mut self,
        seconds: f32,
        hint: &[Token],
        alphabet: Alphabet,
        order: &Order<'_>,
    ) -> Outcome<Candidate> {
        let special = self.vocabulary.special();
        let mut prompt = Vec::new();
        if !hint.is_empty() {
            prompt.push(special.previous);
            prompt.extend_from_slice(hint);
        }
        prompt.push(special.start);
        if let Some(language) = self.language(order) {
            prompt.extend([language.token, special.transcribe]);
        }
        let room = self.whisper.text_context() / 2;
        let rules = Rules {
            speech_end: seconds,
            slack: 0.4,
            // Twice the tokens of the fastest talkers, and some for "yes".
            max_tokens: ((12.0 + 9.0 * seconds) as usize).min(room),
            alphabet,
        };
        let decoded = decode(
            &mut self.whisper,
            &self.vocabulary,
            &prompt,
            &rules,
            order.cancelled,
        )?;
        if decoded.ending == Ending::Cancelled {
            return Ok(None);
        }
        let text = self.vocabulary.text(decoded.tokens.iter().copied());
        let words = text.split_whitespace().count();
        let rushed = words >= 6 && words as f32 > 7.0 * seconds;
        Ok(Some(Candidate {
            decoded,
            text,
            rushed,
        }))
    }

    /// The language in which an order's words are written.
    fn language(&self, order: &Order<'_>) -> Option<&Language> {
        let languages = &self.vocabulary.special().languages;
        let asked = order.language.and_then(|code| find(code, languages));
        asked.or(self.language.as_ref())
    }

    /// Whether they were said in it, where that can be told.
    fn spoken(&self, heard: &[Candidate], order: &Order<'_>) -> Option<SpokenLanguage> {
        // Behind a hint the model expects its language.
        if heard.is_empty() || order.hint.is_some() {
            return None;
        }
        let language = self.language(order)?;
        let wanted = order.language.unwrap_or(&language.code);
        let pieces = heard.iter().map(|it| (&it.decoded.languages, it.weight()));
        Languages::mean(pieces).beside(wanted, &self.vocabulary.special().languages)
    }

    fn hint(&self, hint: Option<&str>) -> Result<Vec<Token>, WhisperError> {
        let Some(hint) = hint.map(str::trim).filter(|hint| !hint.is_empty()) else {
            return Ok(Vec::new());
        };
        let mut tokens = self
            .whisper
            .tokenize(&format!(" {}", hint.replace('\0', " ")))?;
        tokens.drain(..tokens.len().saturating_sub(LONGEST_HINT));
        Ok(tokens)
    }
}

fn find<'a>(code: &LanguageCode, languages: &'a [Language]) -> Option<&'a Language> {
    languages.iter().find(|language| language.code == *code)
}

/// Samples as Whisper wants them; those at 16 kHz are so already.
fn to_whisper(samples: &[i16], rate: SampleRate) -> Vec<f32> {
    let wide = resample::whole(samples, rate, SampleRate::WIDEBAND);
    let mut samples: Vec<f32> = wide
        .into_iter()
        .map(|sample| f32::from(sample) / 32_768.0)
        .collect();
    // whisper.cpp refuses less than 0.1 s and was trained on more than a word.
    samples.resize(samples.len().max(RATE * 11 / 10), 0.0);
    samples
}

/// Whether two words or more, and half of all, but not all, are figures, written or spelled.
fn is_mostly_figures(text: &str) -> bool {
    let (figures, others) = figures_and_others(text);
    figures >= 2 && others > 0 && figures >= others
}

/// How many words are figures, written or spelled, and how many are not.
fn figures_and_others(text: &str) -> (usize, usize) {
    let spelled = [
        "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    ];
    let is_figure = |word: &&str| {
        word.bytes().any(|byte| byte.is_ascii_digit())
            || spelled.iter().any(|name| name.eq_ignore_ascii_case(word))
    };
    let words = text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty());
    let (figures, others): (Vec<&str>, Vec<&str>) = words.partition(is_figure);
    (figures.len(), others.len())
}

fn has_figures(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_digit())
}

/// Whether a decode made words out of noise: OpenAI's own rule and thresholds.
fn is_noise(decoded: &Decoded) -> bool {
    decoded.no_speech_probability > NO_SPEECH && decoded.mean_log_probability < -1.0
}

/// The pieces of a long stretch as one.
fn join(heard: &[Candidate]) -> Transcript {
    let spoken = heard.iter().filter(|piece| !is_noise(&piece.decoded));
    let texts = spoken
        .map(|piece| piece.text.as_str())
        .filter(|text| !text.is_empty());
    let text = texts.collect::<Vec<_>>().join(" ");
    let weights: Vec<f32> = heard.iter().map(Candidate::weight).collect();
    let total: f32 = weights.iter().sum();
    let mean = |value: fn(&Decoded) -> f32| {
        let sum: f32 = heard
            .iter()
            .zip(&weights)
            .map(|(h, w)| value(&h.decoded) * w)
            .sum();
        if total > 0.0 { sum / total } else { 0.0 }
    };
    Transcript {
        mean_log_probability: mean(|decoded| decoded.mean_log_probability),
        no_speech_probability: if heard.is_empty() {
            1.0
        } else {
            mean(|decoded| decoded.no_speech_probability)
        },
        repetition_cut: heard.iter().any(|h| h.decoded.ending == Ending::Repetition),
        text,
        ..Transcript::default()
    }
}

fn milliseconds(samples: usize) -> u32 {
    u32::try_from(samples / (TELEPHONE_RATE / 1000)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixed_figures_are_told_from_words_with_a_number_in_them() {
        assert!(is_mostly_figures("0, R, A, 7, 7, 7, 0, 6."));
        assert!(is_mostly_figures("Thine, two, thine, three, eight, one"));
        assert!(is_mostly_figures("8 by 2, 5, 3, 8, 8."));
        assert!(!is_mostly_figures("2, 5, 3, 8, 8."), "nothing to doubt");
        assert!(!is_mostly_figures(
            "Can you check the status of my order number 12345?"
        ));
        assert!(!is_mostly_figures("A table for two at seven, please."));
        assert!(!is_mostly_figures(""));
    }

    #[test]
    fn telephone_audio_doubles_its_rate_and_is_padded() {
        let narrow = SampleRate::TELEPHONE;
        assert_eq!(to_whisper(&[0; 4 * TELEPHONE_RATE], narrow).len(), 4 * RATE);
        assert_eq!(to_whisper(&[0; 80], narrow).len(), RATE * 11 / 10);
        assert_eq!(to_whisper(&[], narrow).len(), RATE * 11 / 10);
        let wide = to_whisper(&[16_384; 2 * RATE], SampleRate::WIDEBAND);
        assert_eq!(wide, [0.5; 2 * RATE], "as it is");
    }

    #[test]
    fn words_made_out_of_noise_are_dropped_and_the_evidence_stays() {
        let mut noise = candidate("I'm going to go to the next one.", -1.8, Ending::SpeechEnd);
        noise.decoded.no_speech_probability = 0.7;
        let joined = join(&[noise]);
        assert_eq!(joined.text, "");
        assert!(joined.mean_log_probability < -1.7 && joined.no_speech_probability > 0.6);
    }

    fn candidate(text: &str, mean_log_probability: f32, ending: Ending) -> Candidate {
        let decoded = Decoded {
            tokens: Vec::new(),
            mean_log_probability,
            no_speech_probability: 0.1,
            languages: Languages::default(),
            ending,
        };
        Candidate {
            decoded,
            text: text.into(),
            rushed: false,
        }
    }

    #[test]
    fn a_long_stretch_is_one_transcript() {
        let heard = [
            candidate("It was the best of times,", -0.1, Ending::SpeechEnd),
            candidate("", 0.0, Ending::End),
            candidate("it was the worst of times.", -0.3, Ending::Repetition),
        ];
        let joined = join(&heard);
        assert_eq!(
            joined.text,
            "It was the best of times, it was the worst of times."
        );
        assert!(joined.repetition_cut);
        assert!((-0.25..-0.15).contains(&joined.mean_log_probability));
    }

    #[test]
    fn nothing_audible_is_no_speech() {
        let joined = join(&[]);
        assert_eq!(
            (joined.text.as_str(), joined.no_speech_probability),
            ("", 1.0)
        );
    }

    #[test]
    fn a_broken_decode_loses_to_a_whole_one() {
        let broken = candidate("no no no", -0.2, Ending::Repetition);
        let whole = candidate("no", -0.8, Ending::SpeechEnd);
        assert!(whole.score() > broken.score());
    }
}
