//! Speech to text: hears what a caller said.
//!
//! ```text
//!   transcribe ──► queue ──► offhook-stt ──► Transcript
//!       │ dropping the handle cancels: in the queue at once, in the worker at the next token
//! ```
//!
//! A [`Priority::Waiting`] request may cost a second pass, over more context, where the first one
//! is doubtful; a [`Priority::Speculative`] one never does.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use super::hosted::Listener;
use super::ipc::{Protocol, samples_to_payload};
use super::load::Load;
use super::supervisor::{
    Limits, RequestHandle, Response, Submission, Supervisor, WorkerSnapshot, WorkerSpec,
    WorkerState, forward,
};
use super::worker::Scheduling;
use super::{EngineError, EngineEvent, Priority, Transcript};
use crate::audio::Sound;
use crate::ids::{CallId, Generation, LanguageCode};

/// A transcript may wait longer than a restart of the worker takes.
const LIMITS: Limits = Limits {
    wait: Duration::from_secs(10),
    progress: Duration::from_secs(15),
};

/// What the server and `offhook-stt` say to each other.
#[derive(Debug)]
pub struct SttProtocol;

impl Protocol for SttProtocol {
    const ENGINE: &'static str = "stt";
    type Request = SttRequest;
    type Response = Transcript;
    type Facts = SttFacts;
}

/// To the worker: transcribe the samples beside this.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SttRequest {
    /// Their rate in Hz: 8000 or 16000.
    pub sample_rate: u32,
    /// What was said just before, or what the words may be about, as running text.
    pub hint: Option<String>,
    /// How hard to try.
    pub effort: Effort,
    /// What the caller is expected to speak; the worker's own where absent or unknown to it.
    pub language: Option<LanguageCode>,
}

/// How hard the recogniser tries with what it is unsure of, where somebody waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effort {
    /// A first guess will do.
    Glance,
    /// A second look, which takes three times as long, is worth it.
    Full,
}

/// What the worker says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SttFacts {
    /// It knows more than English.
    pub multilingual: bool,
}

/// Where the worker and its model are.
#[derive(Clone, Debug)]
pub struct SttConfig {
    /// `offhook-stt`.
    pub executable: PathBuf,
    /// A GGML Whisper model.
    pub model: PathBuf,
    /// Threads that compute.
    pub threads: u16,
    /// How it competes for the processors.
    pub scheduling: Scheduling,
    /// What callers wait for, shared by the workers of a machine.
    pub load: Load,
    /// What callers speak, as a code of two letters; English-only models ignore it.
    pub language: String,
    /// Encoder positions (20 ms each) looked at beyond the speech, up to 1500; `None` leaves it to
    /// the worker, which knows what measured best.
    pub context_margin: Option<u16>,
}

impl SttConfig {
    /// English on two threads.
    pub fn new(executable: impl Into<PathBuf>, model: impl Into<PathBuf>) -> Self {
        Self {
            executable: executable.into(),
            model: model.into(),
            threads: 2,
            scheduling: Scheduling::default(),
            load: Load::default(),
            language: "en".to_owned(),
            context_margin: None,
        }
    }
}

/// A stretch of speech to transcribe.
#[derive(Clone, Debug)]
pub struct TranscribeRequest {
    /// For turns between calls.
    pub call: CallId,
    /// Comes back in the event.
    pub generation: Generation,
    /// Who goes first.
    pub priority: Priority,
    /// At 8 or 16 kHz, up to eight or four minutes. A second of silence at either end costs nothing; a long
    /// stretch is cut at its pauses.
    pub audio: Sound,
    /// What was said just before, or what the words may be about, as running text.
    pub hint: Option<String>,
    /// How hard to try.
    pub effort: Effort,
    /// What the caller is expected to speak; [`SttConfig::language`] where absent or unknown to
    /// the model.
    pub language: Option<LanguageCode>,
}

/// A handle on the recogniser. Cheap to clone.
#[derive(Clone)]
pub struct Stt {
    supervisor: Supervisor<SttProtocol>,
    hosted: Option<Arc<Listener>>,
}

impl Stt {
    /// Starts the worker in the background.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(config: &SttConfig) -> Self {
        let mut spec = WorkerSpec::new(&config.executable)
            .arg("--model")
            .arg(&config.model)
            .arg("--threads")
            .arg(config.threads.to_string())
            .arg("--language")
            .arg(&config.language);
        if let Some(margin) = config.context_margin {
            spec = spec.arg("--margin").arg(margin.to_string());
        }
        spec.spin_briefly();
        spec.scheduling = config.scheduling;
        spec.load = config.load.clone();
        Self {
            supervisor: Supervisor::start(spec),
            hosted: None,
        }
    }

    /// Queues a transcription. One [`EngineEvent::Transcript`] follows, unless it is cancelled by
    /// dropping the handle.
    ///
    /// # Errors
    /// What [`Supervisor::submit`] says.
    pub fn transcribe(
        &self,
        request: TranscribeRequest,
        events: mpsc::Sender<EngineEvent>,
    ) -> Result<RequestHandle, EngineError> {
        match &self.hosted {
            // Every request is paid for.
            Some(_) if request.priority == Priority::Spare => Err(EngineError::Overloaded),
            Some(hosted) => Ok(hosted.transcribe(self.clone(), request, events)),
            None => self.transcribe_here(request, events),
        }
    }

    /// This handle, asking a hosted recogniser first.
    pub(in crate::engines) fn through(mut self, hosted: Option<Arc<Listener>>) -> Self {
        self.hosted = hosted;
        self
    }

    /// As [`Stt::transcribe`], by the worker of this machine.
    pub(in crate::engines) fn transcribe_here(
        &self,
        request: TranscribeRequest,
        events: mpsc::Sender<EngineEvent>,
    ) -> Result<RequestHandle, EngineError> {
        let generation = request.generation;
        let responses = self.supervisor.submit(Submission {
            call: Some(request.call),
            priority: request.priority,
            limits: LIMITS,
            body: SttRequest {
                sample_rate: request.audio.rate.hz(),
                hint: request.hint,
                effort: request.effort,
                language: request.language,
            },
            payload: samples_to_payload(&request.audio.samples),
        })?;
        Ok(forward(responses, events, move |response| {
            let result = match response {
                Response::Part { .. } => return None,
                Response::Done { body, .. } => Ok(body),
                Response::Failed(error) => Err(error),
            };
            Some(EngineEvent::Transcript { generation, result })
        }))
    }

    /// Where the worker stands, for readiness and admission.
    pub fn state(&self) -> watch::Receiver<WorkerState> {
        self.supervisor.state()
    }

    /// The worker's counters.
    pub fn snapshot(&self) -> WorkerSnapshot {
        self.supervisor.snapshot()
    }

    /// Waits until the worker is ready.
    ///
    /// # Errors
    /// The reason where it cannot start.
    pub async fn ready(&self) -> Result<(), EngineError> {
        self.supervisor.ready().await
    }

    /// Stops the worker.
    pub async fn shutdown(&self) {
        self.supervisor.shutdown().await;
    }
}
