//! Calls of ours that a machine answers: the assistant falls silent, waits until the machine
//! records, leaves its message and hangs up.

use std::time::{Duration, Instant};

use super::driver::Driver;
use super::passing::Words;
use crate::audio::FRAME_SAMPLES;
use crate::audio::beep::BeepDetector;
use crate::conversation::answering_machine::{AnsweringMachineDetection, Detected, DetectionInput};
use crate::conversation::settings::{AssistantSettings, VoicemailDetection};
use crate::conversation::{CallTime, Control, Input, PhraseKind, SamplePosition};
use crate::engines::vad::{SpeechProbability, WINDOW_SAMPLES};
use crate::net::media::{ClipKey, Tick};
use crate::record::{
    AnsweredBy, Answerer, AnswererEvidence, CallType, EndedBy, EndedReason, Message, Role,
};

/// Names the message among what is played.
const MESSAGE: ClipKey = ClipKey(u64::MAX - 1);
/// Speech begins at this probability.
const SPEECH: f32 = 0.5;
/// A window of the detector, in ms.
const WINDOW_MS: u64 = WINDOW_SAMPLES as u64 / 8;
/// Quiet between the last word and the hang-up.
const TAIL: Duration = Duration::from_millis(500);
/// A machine that is not done with by then is hung up on.
const LONGEST: Duration = Duration::from_secs(180);
/// The message may take no longer to be spoken.
const VOICE_PATIENCE: Duration = Duration::from_secs(10);

/// What watches for a machine.
pub(super) struct MachineWatch {
    detection: AnsweringMachineDetection,
    beeps: BeepDetector,
    stage: Stage,
}

enum Stage {
    /// The assistant talks to whoever it is.
    Talking,
    /// A machine: the assistant is silent until it listens.
    Waiting { until: Instant },
    /// The message is being said, or synthesised.
    Leaving { until: Instant },
}

impl MachineWatch {
    /// For calls of ours whose assistant wants it.
    pub(super) fn new(settings: &AssistantSettings, call_type: CallType) -> Option<Self> {
        let VoicemailDetection::Plan(plan) = &settings.voicemail_detection else {
            return None;
        };
        (call_type == CallType::OutboundPhoneCall).then(|| Self {
            detection: AnsweringMachineDetection::new(plan),
            beeps: BeepDetector::new(),
            stage: Stage::Talking,
        })
    }
}

impl Driver {
    /// What was heard in a tick.
    pub(super) fn watch_for_beeps(&mut self, tick: &Tick) {
        let ended = tick
            .played
            .iter()
            .any(|played| played.clip == MESSAGE && played.finished);
        if ended {
            self.message_left(tick.at);
        }
        let Some(watch) = &mut self.machine else {
            return;
        };
        let late = match watch.stage {
            Stage::Talking => false,
            Stage::Waiting { until } | Stage::Leaving { until } => until <= tick.at,
        };
        if late {
            return self.end_now(EndedReason::Voicemail, EndedBy::Assistant);
        }
        if watch.beeps.push(tick.heard.samples()).is_some() {
            let at = CallTime(tick.index * FRAME_SAMPLES as u64 / 8);
            let detected = watch.detection.handle(DetectionInput::Beep, at);
            self.detected(detected, at);
        }
    }

    /// The detector of speech judged a window.
    pub(super) fn watch_speech(&mut self, window: &SpeechProbability) {
        let Some(watch) = &mut self.machine else {
            return;
        };
        let at = SamplePosition(window.end).time();
        let input = DetectionInput::Sound {
            ms: WINDOW_MS,
            speech: window.probability >= SPEECH,
        };
        let detected = watch.detection.handle(input, at);
        self.detected(detected, at);
    }

    /// Words were recognised.
    pub(super) fn watch_words(&mut self, words: &str) {
        let at = self.call_time(Instant::now());
        let Some(watch) = &mut self.machine else {
            return;
        };
        let detected = watch.detection.handle(DetectionInput::Words(words), at);
        self.detected(detected, at);
    }

    fn detected(&mut self, detected: Option<Detected>, at: CallTime) {
        // Who was put through to somebody else talks to them.
        let idle = self.passing.is_idle();
        match detected.filter(|_| idle) {
            Some(Detected::Answered { by, evidence }) => self.answered_by(by, evidence, at),
            Some(Detected::Listens) => self.leave_word(at),
            None => {}
        }
    }

    fn answered_by(&mut self, who: Answerer, evidence: AnswererEvidence, at: CallTime) {
        tracing::info!(call = %self.call.record.id, %who, %evidence, "who answered");
        self.call.record.answered_by = Some(AnsweredBy {
            who,
            evidence,
            after_ms: at.millis(),
            message_ms: None,
        });
        if who != Answerer::Machine {
            return;
        }
        let Some(watch) = &mut self.machine else {
            return;
        };
        watch.stage = Stage::Waiting {
            until: Instant::now() + LONGEST,
        };
        // As on hold: nothing is said or heard, and no timer of the conversation ends the call.
        self.holds.transfer = true;
        self.handle(Input::Control(Control::Hold));
        self.obey();
        if self.call.settings.voicemail_message.is_none() {
            self.end_now(EndedReason::Voicemail, EndedBy::Assistant);
        }
    }

    /// The machine records: the message, from the phrase book or else synthesised now.
    fn leave_word(&mut self, at: CallTime) {
        let Some(text) = self.call.settings.voicemail_message.clone() else {
            return self.end_now(EndedReason::Voicemail, EndedBy::Assistant);
        };
        if let Some(watch) = &mut self.machine {
            watch.stage = Stage::Leaving {
                until: Instant::now() + LONGEST,
            };
        }
        if let Some(answered) = &mut self.call.record.answered_by {
            answered.message_ms = Some(at.millis());
        }
        match self.call.phrases.get(&PhraseKind::VoicemailMessage) {
            Some(samples) => {
                let samples = samples.clone();
                self.call.party.session.stream.play(MESSAGE, samples, 0);
            }
            None => self.speak_word(text),
        }
    }

    fn speak_word(&mut self, text: String) {
        let tts = self.call.services.tts.clone();
        let (sender, spoken) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            let spoken = tokio::time::timeout(VOICE_PATIENCE, tts.synthesise(&text)).await;
            // The call may be over.
            let _ = sender.send(spoken.ok().and_then(Result::ok));
        });
        self.word = Some(spoken);
    }

    /// The message was synthesised, or could not be.
    pub(super) fn word_spoken(&mut self, samples: Words) {
        self.word = None;
        match samples {
            Some(samples) => self.call.party.session.stream.play(MESSAGE, samples, 0),
            None => {
                if let Some(answered) = &mut self.call.record.answered_by {
                    answered.message_ms = None;
                }
                self.end_now(EndedReason::Voicemail, EndedBy::Assistant);
            }
        }
    }

    fn message_left(&mut self, now: Instant) {
        if let Some(watch) = &mut self.machine {
            watch.stage = Stage::Leaving { until: now + TAIL };
        }
        let since = self.call.record.answered_by.and_then(|it| it.message_ms);
        let end_ms = self.call_time(now).millis();
        let message = Message {
            role: Role::Bot,
            message: self
                .call
                .settings
                .voicemail_message
                .clone()
                .unwrap_or_default(),
            start_ms: since.unwrap_or(end_ms),
            end_ms,
            turn: crate::ids::TurnNumber::default(),
            interrupted: false,
        };
        self.message(message);
    }
}
