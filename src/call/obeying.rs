//! Does what a conversation wants done.

use std::time::Instant;

use super::driver::Driver;
use crate::conversation::{Engine, Input, Output, Urgency, Work as Failing};
use crate::engines::EngineError;
use crate::engines::llm::GenerateSettings;
use crate::ids::Generation;

impl Driver {
    /// Does everything that the conversation wants by now.
    pub(super) fn obey(&mut self) {
        while let Some(output) = self.conversation.poll() {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Transcribe {
                generation,
                range,
                urgency,
            } => {
                let audio = self.timeline.slice(range);
                let asked = self.work.transcribe(generation, audio, urgency);
                match asked {
                    Err(EngineError::Overloaded) if urgency == Urgency::Spare => {
                        self.handle(Input::Failed {
                            generation,
                            work: Failing::Transcribe,
                            retryable: false,
                        });
                    }
                    asked => self.check(asked, Engine::Stt, generation, Failing::Transcribe),
                }
            }
            Output::Prefill { messages } => self.work.prefill(&messages),
            Output::Summarise {
                generation,
                messages,
                max_tokens,
            } => {
                let asked = self.work.summarise(generation, &messages, max_tokens);
                self.check(asked, Engine::Llm, generation, Failing::Generate);
            }
            Output::JudgeTurn { speech_end, range } => {
                let audio = self.timeline.slice(range);
                let turn = &self.call.turn;
                turn.judge(audio.samples, audio.rate, speech_end.0);
            }
            Output::Generate {
                generation,
                messages,
                max_tokens,
                temperature,
                urgency,
            } => {
                let settings = GenerateSettings {
                    temperature,
                    max_tokens,
                    ..GenerateSettings::default()
                };
                let asked = self.work.generate(generation, &messages, settings, urgency);
                self.check(asked, Engine::Llm, generation, Failing::Generate);
            }
            Output::Speak {
                generation,
                clause,
                text,
                urgency,
            } => {
                let rate = self.call.party.session.stream.rate();
                let asked = self.work.speak(generation, clause, text, rate, urgency);
                self.check(asked, Engine::Tts, generation, Failing::Speak { clause });
            }
            Output::Play { clip, from } => match self.work.clip(clip) {
                Some((key, sound)) => {
                    self.call.party.session.stream.play(key, sound, from);
                    if from == 0 {
                        self.begins_to_say(clip);
                    }
                }
                None => {
                    let at = self.call_time(Instant::now());
                    self.handle(Input::PlaybackFinished { clip, at });
                }
            },
            Output::Duck(lower) => self.call.party.session.stream.duck(lower),
            Output::StopPlayback { fade_ms } => {
                self.call.party.session.stream.stop(fade_ms);
                self.work.silenced();
            }
            Output::Commit { generation } => self.work.commit(generation),
            Output::CancelWork { generation } | Output::Release { generation } => {
                self.work.cancel(generation);
            }
            Output::Transfer(to) => self.pass_on(to),
            Output::EndCall { reason, by } => self.end_now(reason, by),
            Output::Message(message) => self.message(message),
            Output::Turn(turn) => self.turn(turn),
            Output::Progress(progress) => self.progress(progress),
        }
    }

    fn check(
        &mut self,
        asked: Result<(), EngineError>,
        engine: Engine,
        generation: Generation,
        work: Failing,
    ) {
        if let Err(error) = asked {
            self.failed(engine, generation, work, &error);
        }
    }
}
