//! What engines tell a call, in the conversation's terms.

use super::driver::Driver;
use super::work::engine_name;
use crate::conversation::{Engine, Input, SpokenLanguage, Transcript, Work as Failing};
use crate::engines::hosted::HostedError;
use crate::engines::{EngineError, EngineEvent, Transcript as Heard};
use crate::ids::Generation;
use crate::record::Fallback;

impl Driver {
    pub(super) fn engine_event(&mut self, event: EngineEvent) {
        let generation = event.generation();
        let input = match event {
            EngineEvent::Transcript {
                result: Ok(heard), ..
            } => {
                self.watch_words(&heard.text);
                Input::Transcript {
                    generation,
                    transcript: transcript(heard),
                }
            }
            EngineEvent::Transcript {
                result: Err(error), ..
            } => {
                return self.failed(Engine::Stt, generation, Failing::Transcribe, &error);
            }
            EngineEvent::SentenceEnds { probability, .. } => Input::SentenceEnds {
                generation,
                probability,
            },
            EngineEvent::ReplyText { text, .. } => Input::ReplyText { generation, text },
            EngineEvent::FellBack { engine, error, .. } => {
                return self.fell_back(generation, engine, &error);
            }
            EngineEvent::ReplyDone { .. } => Input::ReplyDone { generation },
            EngineEvent::ReplyFailed { error, .. } => {
                return self.failed(Engine::Llm, generation, Failing::Generate, &error);
            }
            EngineEvent::Speech {
                clause,
                result: Ok(sound),
                ..
            } => match self.work.spoken(generation, clause, sound) {
                Some(length) => Input::ClauseReady {
                    generation,
                    clause,
                    length,
                },
                None => return,
            },
            EngineEvent::Speech {
                clause,
                result: Err(error),
                ..
            } => return self.failed(Engine::Tts, generation, Failing::Speak { clause }, &error),
        };
        self.handle(input);
    }

    /// The local engine serves in a hosted one's place, which the turn's record shall say.
    fn fell_back(&mut self, generation: Generation, engine: &'static str, error: &HostedError) {
        self.call.services.metrics.fell_back(engine, error.label());
        tracing::warn!(call = %self.call.record.id, engine, %error, "the local engine serves");
        if self.work.is_wanted(generation) {
            self.fallbacks.push(Fallback {
                engine: engine.to_owned(),
                error: error.label().to_owned(),
            });
        }
    }

    pub(super) fn failed(
        &mut self,
        engine: Engine,
        generation: Generation,
        work: Failing,
        error: &EngineError,
    ) {
        let engine = engine_name(engine);
        self.call
            .services
            .metrics
            .engine_failed(engine, error.label());
        tracing::warn!(call = %self.call.record.id, engine, %error, "an engine failed");
        self.handle(Input::Failed {
            generation,
            work,
            retryable: error.is_retryable(),
        });
    }
}

fn transcript(heard: Heard) -> Transcript {
    Transcript {
        text: heard.text,
        mean_logprob: heard.mean_log_probability,
        no_speech_probability: heard.no_speech_probability,
        repeated: heard.repetition_cut,
        language: heard.language.map(|spoken| SpokenLanguage {
            expected_probability: spoken.expected_probability,
            other_probability: spoken.other_probability,
        }),
    }
}
