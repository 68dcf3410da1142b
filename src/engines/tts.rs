//! Text to speech: a handle on the `offhook-tts` worker (Piper).
//!
//! One request is one clause, or a few sentences for a phrase made ahead. What comes back is
//! 8 or 16 kHz, as the request says, levelled to [`SPEECH_LEVEL_DBFS`], with silence trimmed at both ends so that the first
//! audible sample comes at once and clauses follow one another at a natural distance.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use super::hosted::Voice;
use super::ipc::{Protocol, payload_to_samples};
use super::load::Load;
use super::supervisor::{
    Limits, RequestHandle, Response, Responses, Submission, Supervisor, WorkerSnapshot, WorkerSpec,
    WorkerState, forward,
};
use super::worker::Scheduling;
use super::{EngineError, EngineEvent, Priority};
use crate::audio::{SampleRate, Sound};
use crate::ids::{CallId, Generation};

pub use crate::audio::shape::SPEECH_LEVEL_DBFS;

/// Longest text of one request, in characters: about a minute of speech.
pub const MAX_TEXT_CHARS: usize = 1000;
/// Names the variable in which Piper's espeak-ng looks for the folder holding `espeak-ng-data`.
const ESPEAK_DATA_VARIABLE: &str = "PIPER_ESPEAKNG_DATA_DIRECTORY";

/// A caller waits: a clause that comes later than this is of no use.
const CLAUSE_LIMITS: Limits = Limits {
    wait: Duration::from_secs(8),
    progress: Duration::from_secs(8),
};
/// Nobody waits for phrases made ahead.
const PHRASE_LIMITS: Limits = Limits {
    wait: Duration::from_secs(120),
    progress: Duration::from_secs(30),
};

/// What the server and `offhook-tts` say to each other.
#[derive(Debug)]
pub struct TtsProtocol;

impl Protocol for TtsProtocol {
    const ENGINE: &'static str = "tts";
    type Request = TtsRequest;
    type Response = Spoken;
    type Facts = TtsFacts;
}

/// To the worker: speak this.
#[derive(Debug, Serialize, Deserialize)]
pub struct TtsRequest {
    /// At most [`MAX_TEXT_CHARS`].
    pub text: String,
    /// Speech rate, 1 for the voice's own, 1.2 for a fifth faster.
    pub speed: f32,
    /// Rate of the samples that are to come back, in Hz: 8000 or 16000.
    pub sample_rate: u32,
}

/// From the worker, beside the samples.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spoken {
    /// Time for phonemes, inference and resampling in ms.
    pub synthesis_ms: u32,
}

/// What the worker says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TtsFacts {
    /// Rate of the model's own output, in Hz.
    pub model_sample_rate: u32,
    /// Language of its phonemes, as espeak-ng calls it.
    pub language: String,
}

/// Where the worker and its files are.
#[derive(Clone, Debug)]
pub struct TtsConfig {
    /// `offhook-tts`; see [`find_executable`](super::supervisor::find_executable).
    pub executable: PathBuf,
    /// The Piper voice, `.onnx`.
    pub model: PathBuf,
    /// Its description; by default the model's path with `.json` added.
    pub description: Option<PathBuf>,
    /// `libonnxruntime.so`.
    pub onnxruntime: PathBuf,
    /// The folder that holds `espeak-ng-data`; by default the executable's own, or where it was
    /// built.
    pub espeak_data: Option<PathBuf>,
    /// Threads for one clause.
    pub threads: u16,
    /// Clauses at once, each with a copy of the model (about 100 MB). More than 1 pays only on a
    /// machine with several times `threads` cores.
    pub parallel: usize,
    /// Requests that may wait.
    pub queue_bound: usize,
    /// How the worker competes for the processors.
    pub scheduling: Scheduling,
    /// What callers wait for, shared by the workers of a machine.
    pub load: Load,
}

impl TtsConfig {
    /// Two threads for one clause after another.
    pub fn new(
        executable: impl Into<PathBuf>,
        model: impl Into<PathBuf>,
        onnxruntime: impl Into<PathBuf>,
    ) -> Self {
        Self {
            executable: executable.into(),
            model: model.into(),
            description: None,
            onnxruntime: onnxruntime.into(),
            espeak_data: None,
            threads: 2,
            parallel: 1,
            queue_bound: 128,
            scheduling: Scheduling::default(),
            load: Load::default(),
        }
    }

    fn spec(&self) -> WorkerSpec {
        let mut spec = WorkerSpec::new(&self.executable)
            .arg("--model")
            .arg(&self.model)
            .arg("--onnxruntime")
            .arg(&self.onnxruntime)
            .arg("--threads")
            .arg(self.threads.to_string())
            .arg("--parallel")
            .arg(self.parallel.to_string());
        if let Some(description) = &self.description {
            spec = spec.arg("--description").arg(description);
        }
        if let Some(folder) = &self.espeak_data {
            spec.env.push((ESPEAK_DATA_VARIABLE.into(), folder.into()));
        }
        spec.scheduling = self.scheduling;
        spec.load = self.load.clone();
        spec.queue_bound = self.queue_bound;
        spec.parallel = self.parallel;
        spec
    }
}

/// One clause to be spoken for a call.
#[derive(Clone, Debug)]
pub struct SpeakRequest {
    /// For turns between calls.
    pub call: CallId,
    /// Comes back in the event.
    pub generation: Generation,
    /// Comes back in the event.
    pub clause: u32,
    /// Plain words, at most [`MAX_TEXT_CHARS`].
    pub text: String,
    /// Who goes first.
    pub priority: Priority,
    /// Speech rate, 1 for the voice's own.
    pub speed: f32,
    /// Of the samples: what the call's codec has.
    pub rate: SampleRate,
}

/// A handle on the speech worker. Cheap to clone.
#[derive(Clone)]
pub struct Tts {
    supervisor: Supervisor<TtsProtocol>,
    hosted: Option<Arc<Voice>>,
}

impl Tts {
    /// Starts the worker in the background.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(config: &TtsConfig) -> Self {
        Self {
            supervisor: Supervisor::start(config.spec()),
            hosted: None,
        }
    }

    /// Queues a clause. One [`EngineEvent::Speech`] follows, unless it is cancelled by dropping
    /// the handle.
    ///
    /// # Errors
    /// [`EngineError::BadInput`] where there is nothing to speak or too much, and what
    /// [`Supervisor::submit`] says.
    pub fn speak(
        &self,
        request: SpeakRequest,
        events: mpsc::Sender<EngineEvent>,
    ) -> Result<RequestHandle, EngineError> {
        match &self.hosted {
            Some(hosted) => {
                check_text(&request.text)?;
                Ok(hosted.speak(self.clone(), request, events))
            }
            None => self.speak_here(request, events),
        }
    }

    /// This handle, asking a hosted voice first.
    pub(in crate::engines) fn through(mut self, hosted: Option<Arc<Voice>>) -> Self {
        self.hosted = hosted;
        self
    }

    /// As [`Tts::speak`], by the worker of this machine.
    pub(in crate::engines) fn speak_here(
        &self,
        request: SpeakRequest,
        events: mpsc::Sender<EngineEvent>,
    ) -> Result<RequestHandle, EngineError> {
        let SpeakRequest {
            call,
            generation,
            clause,
            text,
            priority,
            speed,
            rate,
        } = request;
        let body = TtsRequest {
            text,
            speed,
            sample_rate: rate.hz(),
        };
        let responses = self.submit(Some(call), body, priority, CLAUSE_LIMITS)?;
        Ok(forward(responses, events, move |response| {
            let result = match response {
                Response::Part { .. } => return None,
                Response::Done { payload, .. } => Ok(Sound {
                    rate,
                    samples: payload_to_samples(&payload).into(),
                }),
                Response::Failed(error) => Err(error),
            };
            Some(EngineEvent::Speech {
                generation,
                clause,
                result,
            })
        }))
    }

    /// Speaks a phrase that nobody waits for yet; 8 kHz. In the voice of this handle, or not at
    /// all.
    ///
    /// # Errors
    /// As [`Tts::speak`], and what the request failed with.
    pub async fn synthesise(&self, text: &str) -> Result<Arc<[i16]>, EngineError> {
        let sound = self.synthesise_at(text, SampleRate::TELEPHONE).await?;
        Ok(sound.samples)
    }

    /// The same at a rate of 8 or 16 kHz.
    ///
    /// # Errors
    /// As [`Tts::synthesise`].
    pub async fn synthesise_at(&self, text: &str, rate: SampleRate) -> Result<Sound, EngineError> {
        if let Some(hosted) = &self.hosted {
            return hosted.synthesise(text, rate).await;
        }
        let body = TtsRequest {
            text: text.to_owned(),
            speed: 1.0,
            sample_rate: rate.hz(),
        };
        let responses = self.submit(None, body, Priority::Speculative, PHRASE_LIMITS)?;
        let (_, payload) = responses.done().await?;
        Ok(Sound {
            rate,
            samples: payload_to_samples(&payload).into(),
        })
    }

    fn submit(
        &self,
        call: Option<CallId>,
        body: TtsRequest,
        priority: Priority,
        limits: Limits,
    ) -> Result<Responses<Spoken>, EngineError> {
        check_text(&body.text)?;
        self.supervisor.submit(Submission {
            call,
            priority,
            limits,
            body,
            payload: Vec::new(),
        })
    }

    /// Where the worker stands, for readiness and admission.
    pub fn state(&self) -> watch::Receiver<WorkerState> {
        self.supervisor.state()
    }

    /// What the worker said about itself.
    pub fn facts(&self) -> watch::Receiver<Option<TtsFacts>> {
        self.supervisor.facts()
    }

    /// The worker's counters.
    pub fn snapshot(&self) -> WorkerSnapshot {
        self.supervisor.snapshot()
    }

    /// Waits until the worker is ready; see [`Supervisor::ready`].
    ///
    /// # Errors
    /// The reason where it cannot start.
    pub async fn ready(&self) -> Result<(), EngineError> {
        self.supervisor.ready().await
    }

    /// Stops the worker; see [`Supervisor::shutdown`].
    pub async fn shutdown(&self) {
        self.supervisor.shutdown().await;
    }
}

/// Whether a text can be spoken at all.
///
/// # Errors
/// [`EngineError::BadInput`].
pub fn check_text(text: &str) -> Result<(), EngineError> {
    let bad = |detail: &str| {
        Err(EngineError::BadInput {
            detail: detail.to_owned(),
        })
    };
    if !text.chars().any(char::is_alphanumeric) {
        return bad("the text has no letter and no digit");
    }
    if text.chars().count() > MAX_TEXT_CHARS {
        return bad("the text is too long to be spoken in one piece");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
