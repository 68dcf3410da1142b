//! What an engine tells a call, and how it fails.

use serde::{Deserialize, Serialize};

use super::hosted::HostedError;
use crate::audio::Sound;
use crate::ids::{Generation, LanguageCode};

/// Why an engine did not do what was asked. The texts hold no words of a caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum EngineError {
    /// The worker process ended with the request in it. Asking again reaches a new worker.
    #[error("the {engine} worker died while it had the request")]
    WorkerDied {
        /// Which engine.
        engine: String,
    },
    /// The queue is full, or whoever asked does not read the answers.
    #[error("the engine has more requests than it can queue")]
    Overloaded,
    /// The request waited too long in the queue, or the worker stopped making progress with it.
    #[error("the engine did not answer in time")]
    TimedOut,
    /// A model file is absent.
    #[error("model missing: {detail}")]
    ModelMissing {
        /// Which file and what to do.
        detail: String,
    },
    /// A model file or a native library is there but cannot be used.
    #[error("model unusable: {detail}")]
    ModelUnusable {
        /// What was said about it.
        detail: String,
    },
    /// The worker's executable is absent or cannot be run.
    #[error("worker executable unusable: {detail}")]
    ExecutableUnusable {
        /// Which file and what to do.
        detail: String,
    },
    /// The worker dies as soon as it starts, again and again.
    #[error("the {engine} worker keeps failing to start")]
    CrashLoop {
        /// Which engine.
        engine: String,
    },
    /// The request itself cannot be served: nothing to say, no audio, too long.
    #[error("bad input: {detail}")]
    BadInput {
        /// What is wrong with it, without quoting it.
        detail: String,
    },
    /// The request was cancelled by whoever made it.
    #[error("cancelled")]
    Cancelled,
    /// The server is stopping.
    #[error("the engine is shut down")]
    ShutDown,
    /// The engine failed with this request, but lives.
    #[error("the engine failed: {detail}")]
    Internal {
        /// What the engine said.
        detail: String,
    },
}

impl EngineError {
    /// Whether the same request may succeed when it is made again at once.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::WorkerDied { .. } | Self::TimedOut | Self::Internal { .. } => true,
            Self::Overloaded
            | Self::ModelMissing { .. }
            | Self::ModelUnusable { .. }
            | Self::ExecutableUnusable { .. }
            | Self::CrashLoop { .. }
            | Self::BadInput { .. }
            | Self::Cancelled
            | Self::ShutDown => false,
        }
    }

    /// The label of this error in metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::WorkerDied { .. } => "worker_died",
            Self::Overloaded => "overloaded",
            Self::TimedOut => "timed_out",
            Self::ModelMissing { .. } => "model_missing",
            Self::ModelUnusable { .. } => "model_unusable",
            Self::ExecutableUnusable { .. } => "executable_unusable",
            Self::CrashLoop { .. } => "crash_loop",
            Self::BadInput { .. } => "bad_input",
            Self::Cancelled => "cancelled",
            Self::ShutDown => "shut_down",
            Self::Internal { .. } => "internal",
        }
    }

    /// The SIP status (RFC 3261 section 21) for a call that cannot be answered because of this:
    /// always the server's fault, hence 503, except for what was wrongly asked of us (500).
    pub fn sip_status(&self) -> u16 {
        match self {
            Self::BadInput { .. } | Self::Cancelled => 500,
            Self::WorkerDied { .. }
            | Self::Overloaded
            | Self::TimedOut
            | Self::ModelMissing { .. }
            | Self::ModelUnusable { .. }
            | Self::ExecutableUnusable { .. }
            | Self::CrashLoop { .. }
            | Self::ShutDown
            | Self::Internal { .. } => 503,
        }
    }
}

/// What the caller said, as heard by the recogniser.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Transcript {
    /// The words; empty where nothing was said.
    pub text: String,
    /// Mean natural-log probability of the tokens, 0 at best.
    pub mean_log_probability: f32,
    /// Probability that the audio holds no speech.
    pub no_speech_probability: f32,
    /// The decode repeated itself and was cut there.
    pub repetition_cut: bool,
    /// In which language it was said; `None` where the recogniser cannot tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<SpokenLanguage>,
    /// Length of the audio in ms.
    pub audio_ms: u32,
    /// Time in the recogniser in ms, without queueing.
    pub decode_ms: u32,
}

/// Whether the caller spoke the language that was expected. Whatever they spoke, the words are
/// written as if they had.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpokenLanguage {
    /// Probability of the language that was expected, among all that the recogniser knows.
    pub expected_probability: f32,
    /// The likeliest of the others.
    pub other: LanguageCode,
    /// Its probability.
    pub other_probability: f32,
}

/// Why a reply ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FinishReason {
    /// The model ended its turn.
    Stop,
    /// The token limit was reached.
    Length,
    /// The context is full.
    ContextFull,
}

/// What a reply cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyUsage {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens of the prompt that were in the KV cache already.
    pub cached_tokens: u32,
    /// Tokens generated.
    pub completion_tokens: u32,
    /// Time from the worker's receipt of the request to the first token, in ms.
    pub first_token_ms: u32,
    /// Time in the worker, in ms.
    pub total_ms: u32,
}

/// What an engine tells a call. Delivered through the one bounded channel that the call handed
/// in with its requests.
#[derive(Clone, Debug)]
pub enum EngineEvent {
    /// What the caller said; one per request to transcribe.
    Transcript {
        /// Of the request.
        generation: Generation,
        /// The words, or why there are none.
        result: Result<Transcript, EngineError>,
    },
    /// How likely the caller's words are a whole sentence; before a reply written ahead, at most
    /// once.
    SentenceEnds {
        /// Of the request.
        generation: Generation,
        /// 0 to 1.
        probability: f32,
    },
    /// A piece of the reply, in order.
    ReplyText {
        /// Of the request.
        generation: Generation,
        /// Whole characters, as the model wrote them.
        text: String,
    },
    /// The reply is complete; the last event of its request.
    ReplyDone {
        /// Of the request.
        generation: Generation,
        /// Why it ended.
        finish: FinishReason,
        /// What it cost.
        usage: ReplyUsage,
    },
    /// There is no more of the reply; the last event of its request.
    ReplyFailed {
        /// Of the request.
        generation: Generation,
        /// Why.
        error: EngineError,
    },
    /// A hosted engine failed with a request, and the local one serves it: its events follow.
    FellBack {
        /// Of the request.
        generation: Generation,
        /// `stt`, `llm` or `tts`.
        engine: &'static str,
        /// Why.
        error: HostedError,
    },
    /// A clause was spoken; one per request to speak.
    Speech {
        /// Of the request.
        generation: Generation,
        /// Which clause of the reply, as the request numbered it.
        clause: u32,
        /// At the rate that was asked for, or why there is none.
        result: Result<Sound, EngineError>,
    },
}

impl EngineEvent {
    /// The generation of the request that this answers.
    pub fn generation(&self) -> Generation {
        match self {
            Self::Transcript { generation, .. }
            | Self::SentenceEnds { generation, .. }
            | Self::ReplyText { generation, .. }
            | Self::ReplyDone { generation, .. }
            | Self::ReplyFailed { generation, .. }
            | Self::FellBack { generation, .. }
            | Self::Speech { generation, .. } => *generation,
        }
    }
}
