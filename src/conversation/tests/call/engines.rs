//! The engines of a call: each answers after its time, fails or hangs as it is told.

use super::*;

/// After this the model knows whether what it has read is a whole sentence.
const PROMPT_READ_MS: u64 = 60;

impl Call {
    pub(super) fn behave(behaviour: &mut Behaviour) -> Option<bool> {
        if behaviour.hangs {
            return None;
        }
        let fails = behaviour.failures > 0;
        behaviour.failures = behaviour.failures.saturating_sub(1);
        Some(!fails)
    }

    pub(super) fn fail(&mut self, generation: Generation, work: Work, of: &Behaviour) {
        self.later(
            of.delay,
            Input::Failed {
                generation,
                work,
                retryable: of.retryable,
            },
        );
    }

    pub(super) fn transcribe(&mut self, generation: Generation, range: AudioRange) {
        assert!(
            range.samples() > 0 && range.samples() <= 30 * 8000,
            "{range:?}"
        );
        assert!(range.end.time().0 <= self.clock + 40, "audio of the future");
        let stt = self.stt.clone();
        match Self::behave(&mut self.stt) {
            None => {}
            Some(false) => self.fail(generation, Work::Transcribe, &stt),
            Some(true) => {
                let transcript = self.transcript(range);
                self.later(
                    stt.delay,
                    Input::Transcript {
                        generation,
                        transcript,
                    },
                );
            }
        }
    }

    /// The words whose middle is within the range.
    fn transcript(&self, range: AudioRange) -> Transcript {
        let (from, to) = (range.start.time().0, range.end.time().0);
        let mut text = Vec::new();
        let (mut mean_logprob, mut no_speech_probability) = (-0.1, 0.9);
        let mut language = None;
        for sound in &self.sounds {
            let words: Vec<&str> = sound.words.split_whitespace().collect();
            let each = (sound.to - sound.from) as f64 / words.len().max(1) as f64;
            for (index, word) in words.iter().enumerate() {
                let middle = sound.from as f64 + (index as f64 + 0.5) * each;
                if (from as f64..to as f64).contains(&middle) {
                    text.push(*word);
                    mean_logprob = sound.mean_logprob;
                    no_speech_probability = sound.no_speech_probability;
                    language = sound.language;
                }
            }
        }
        Transcript {
            text: text.join(" "),
            mean_logprob,
            no_speech_probability,
            repeated: false,
            language,
        }
    }

    pub(super) fn generate(&mut self, generation: Generation) {
        let llm = self.llm.clone();
        match Self::behave(&mut self.llm) {
            None => return,
            Some(false) => return self.fail(generation, Work::Generate, &llm),
            Some(true) => {}
        }
        let answer = self
            .answers
            .pop_front()
            .unwrap_or_else(|| "All right.".to_owned());
        if let Some(probability) = self.whole {
            let ends = Input::SentenceEnds {
                generation,
                probability,
            };
            self.later(llm.delay.min(PROMPT_READ_MS), ends);
        }
        let mut at = llm.delay;
        for (index, word) in answer.split_inclusive(' ').enumerate() {
            if self.breaks_off_after == Some(index) {
                self.breaks_off_after = None;
                let failed = Input::Failed {
                    generation,
                    work: Work::Generate,
                    retryable: true,
                };
                self.later(at, failed);
                return;
            }
            self.later(
                at,
                Input::ReplyText {
                    generation,
                    text: word.to_owned(),
                },
            );
            at += 25;
        }
        self.later(at, Input::ReplyDone { generation });
    }

    pub(super) fn speak(&mut self, generation: Generation, clause: u32, text: &str) {
        let tts = self.tts.clone();
        match Self::behave(&mut self.tts) {
            None => return,
            Some(false) => return self.fail(generation, Work::Speak { clause }, &tts),
            Some(true) => {}
        }
        let id = ClipId::Clause { generation, clause };
        let samples = u32::try_from(audio_ms(text) * SAMPLES_PER_MS).unwrap();
        self.texts.insert(id, text.to_owned());
        self.lengths.insert(id, samples);
        let length = ClipLength {
            samples,
            audible_from: 0,
        };
        self.later(
            tts.delay,
            Input::ClauseReady {
                generation,
                clause,
                length,
            },
        );
    }
}
