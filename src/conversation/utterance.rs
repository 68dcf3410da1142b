//! What the caller is saying: one turn in the making.

use std::time::Duration;

use crate::ids::Generation;

use super::agreement::Agreement;
use super::api::{CallTime, SAMPLES_PER_MS, SamplePosition, Urgency};
use super::evidence::{SpeechEvidence, Verdict};
use super::hearing::samples;
use super::speech::Speech;

/// From here on a pause of [`PART_PAUSE_MS`] ends a part of a long turn, in ms: what is transcribed
/// last is short then.
const LONG_PART_MS: u64 = 5_000;
/// A breath, in ms; what is cut elsewhere loses words.
const PART_PAUSE_MS: u64 = 250;
/// Earlier parts of a very long turn are forgotten beyond this many.
const MOST_PARTS: usize = 20;

/// Why a transcript was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To answer it.
    Turn,
    /// The audio is getting too long for one decode.
    Part,
    /// To know the words so far, while the caller goes on.
    Partial,
}

/// The words, as far as they are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Transcription {
    Unknown,
    Asked {
        generation: Generation,
        purpose: Purpose,
        /// Speech up to here is in it.
        covers: SamplePosition,
        urgency: Urgency,
    },
    Known {
        verdict: Verdict,
        covers: SamplePosition,
        /// The recogniser is sure of the words.
        sure: bool,
    },
}

/// The words that a speculative reply answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Answered {
    pub(super) words: String,
    /// Samples of speech that they took.
    pub(super) speech: u64,
    /// When it was begun.
    pub(super) since: CallTime,
    /// How likely they are a whole sentence.
    pub(super) whole: Option<f32>,
}

/// The turn was judged to be over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) at: CallTime,
    pub(super) speech_ended: CallTime,
}

/// An end-of-turn model's word on whether the caller has finished.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Finished {
    Unknown,
    /// It was asked about the silence that lasts, after speech that ended here.
    Asked(SamplePosition),
    /// A probability.
    Known(f32),
}

#[derive(Debug)]
pub(super) struct Utterance {
    pub(super) start: SamplePosition,
    pub(super) speech_end: SamplePosition,
    /// Samples of confirmed speech.
    pub(super) speech: u64,
    probabilities: f64,
    windows: u32,
    /// Audio from here on is not in `parts`.
    pub(super) part_start: SamplePosition,
    parts: Vec<String>,
    /// What a part that was said in another language was heard as.
    other_language: Option<String>,
    /// Over the decodes so far.
    pub(super) agreement: Agreement,
    pub(super) transcription: Transcription,
    /// When the transcript that is known came.
    pub(super) transcript_at: Option<CallTime>,
    /// The short silence has passed.
    pub(super) paused: bool,
    pub(super) ended: Option<Ended>,
    /// A reply made before the turn is over.
    pub(super) reply: Option<Speech>,
    /// What it answers.
    pub(super) answered: Answered,
    /// Whether they have finished at `speech_end`.
    pub(super) finished: Finished,
    /// The assistant stopped for it at this time.
    pub(super) took_floor: Option<CallTime>,
    /// A look at its beginning found words that are no "mm-hm", however unsure of them it was.
    pub(super) glimpsed: bool,
    /// Speech that the last transcript asked for covers, in samples.
    pub(super) checked: u64,
    /// Failed transcripts since the end of the turn.
    pub(super) failures: u32,
    /// A holding phrase was heard while the transcript was waited for.
    pub(super) holding: Option<CallTime>,
}

impl Utterance {
    /// Speech was confirmed at `end` that began at `start`; audio from `audio_start` on.
    pub(super) fn new(
        start: SamplePosition,
        end: SamplePosition,
        audio_start: SamplePosition,
        probability: f32,
    ) -> Self {
        Self {
            start,
            speech_end: end,
            speech: end.0.saturating_sub(start.0),
            probabilities: f64::from(probability),
            windows: 1,
            part_start: audio_start,
            parts: Vec::new(),
            other_language: None,
            agreement: Agreement::default(),
            transcription: Transcription::Unknown,
            transcript_at: None,
            paused: false,
            ended: None,
            reply: None,
            answered: Answered::default(),
            finished: Finished::Unknown,
            took_floor: None,
            glimpsed: false,
            checked: 0,
            failures: 0,
            holding: None,
        }
    }

    /// Speech went on to `end`: nothing that was known of its end holds any more.
    pub(super) fn more(&mut self, samples: u64, end: SamplePosition, probability: f32) {
        self.speech = self.speech.saturating_add(samples);
        self.speech_end = end;
        self.probabilities += f64::from(probability);
        self.windows = self.windows.saturating_add(1);
        self.finished = Finished::Unknown;
    }

    /// What was asked about the pause before more speech, or is known of it, is about the words so
    /// far.
    pub(super) fn go_on(&mut self) {
        match &mut self.transcription {
            Transcription::Asked { purpose, .. } if *purpose == Purpose::Turn => {
                *purpose = Purpose::Partial;
            }
            Transcription::Known { .. } => self.transcription = Transcription::Unknown,
            Transcription::Asked { .. } | Transcription::Unknown => {}
        }
    }

    /// Speech goes on at `start` after a pause. What was said before it and is known is a part of
    /// its own, where that is long enough for that.
    pub(super) fn close_long_part(&mut self, start: SamplePosition) {
        let Transcription::Known {
            verdict, covers, ..
        } = &self.transcription
        else {
            return;
        };
        let part = covers.0.saturating_sub(self.part_start.0);
        let pause = start.0.saturating_sub(covers.0);
        if part >= samples(LONG_PART_MS) && pause >= samples(PART_PAUSE_MS) {
            let (verdict, covers) = (verdict.clone(), *covers);
            self.close_part(verdict, covers);
        }
    }

    /// The detector's trail of what was said before: whatever is known of the end still holds.
    pub(super) fn trail(&mut self, end: SamplePosition) {
        let before = std::mem::replace(&mut self.speech_end, end);
        match &mut self.transcription {
            Transcription::Known { covers, .. }
            | Transcription::Asked {
                covers,
                purpose: Purpose::Turn,
                ..
            } if *covers >= before => *covers = end,
            Transcription::Known { .. } | Transcription::Asked { .. } | Transcription::Unknown => {}
        }
    }

    pub(super) fn evidence(&self) -> SpeechEvidence {
        let part = self.speech_end.0.saturating_sub(self.part_start.0);
        SpeechEvidence {
            speech: Duration::from_millis(self.speech / SAMPLES_PER_MS),
            mean_probability: (self.probabilities / f64::from(self.windows.max(1))) as f32,
            transcribed: Duration::from_millis(part / SAMPLES_PER_MS),
        }
    }

    /// What was said, where all of it is known.
    pub(super) fn verdict(&self) -> Option<Verdict> {
        let last = match &self.transcription {
            Transcription::Known {
                verdict, covers, ..
            } if *covers >= self.speech_end => verdict,
            // The last part ended where the caller stopped.
            _ if self.speech_end <= self.part_start && self.has_parts() => &Verdict::Noise,
            Transcription::Known { .. } | Transcription::Asked { .. } | Transcription::Unknown => {
                return None;
            }
        };
        Some(match last {
            Verdict::Words(words) => Verdict::Words(self.with_parts(words)),
            // What was understood is answered.
            Verdict::OtherLanguage(_) | Verdict::Unclear | Verdict::Noise
                if !self.parts.is_empty() =>
            {
                Verdict::Words(self.parts.join(" "))
            }
            Verdict::OtherLanguage(heard) => Verdict::OtherLanguage(heard.clone()),
            Verdict::Unclear | Verdict::Noise if let Some(heard) = &self.other_language => {
                Verdict::OtherLanguage(heard.clone())
            }
            Verdict::Unclear => Verdict::Unclear,
            Verdict::Noise => Verdict::Noise,
        })
    }

    fn has_parts(&self) -> bool {
        !self.parts.is_empty() || self.other_language.is_some()
    }

    /// The words of earlier parts and these.
    pub(super) fn with_parts(&self, words: &str) -> String {
        let parts = self.parts.iter().map(String::as_str).chain([words]);
        parts.collect::<Vec<_>>().join(" ")
    }

    /// The words up to `covers` are final; what follows is decoded on its own.
    pub(super) fn close_part(&mut self, verdict: Verdict, covers: SamplePosition) {
        match verdict {
            Verdict::Words(words) => {
                if self.parts.len() >= MOST_PARTS {
                    self.parts.remove(0);
                }
                self.parts.push(words);
            }
            Verdict::OtherLanguage(heard) => self.other_language = Some(heard),
            Verdict::Unclear | Verdict::Noise => {}
        }
        self.part_start = covers;
        self.transcription = Transcription::Unknown;
    }

    /// The caller waits for the transcript that was asked for: its generation, where nobody did
    /// before.
    pub(super) fn wait_for_it(&mut self) -> Option<Generation> {
        match &mut self.transcription {
            Transcription::Asked {
                generation,
                urgency,
                ..
            } if *urgency != Urgency::Waited => {
                *urgency = Urgency::Waited;
                Some(*generation)
            }
            Transcription::Asked { .. } | Transcription::Unknown | Transcription::Known { .. } => {
                None
            }
        }
    }

    /// The generation of the transcript that is waited for.
    pub(super) fn asked(&self) -> Option<(Generation, Purpose)> {
        match self.transcription {
            Transcription::Asked {
                generation,
                purpose,
                ..
            } => Some((generation, purpose)),
            Transcription::Unknown | Transcription::Known { .. } => None,
        }
    }
}
