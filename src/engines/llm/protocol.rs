//! What runs between the server and `offhook-llm`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{ChatMessage, GenerateSettings};
use crate::engines::ipc::Protocol;
use crate::engines::{FinishReason, ReplyUsage};
use crate::ids::CallId;

/// What a worker is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum LlmRequest {
    /// Write a reply. Answered by [`LlmResponse::SentenceEnds`], [`LlmResponse::Text`] and
    /// [`LlmResponse::End`].
    Generate {
        /// Whose conversation.
        call: CallId,
        /// All of it.
        messages: Vec<ChatMessage>,
        /// How.
        settings: GenerateSettings,
        /// For the draw.
        seed: u64,
    },
    /// Read a conversation ahead of a reply to it. Answered by [`LlmResponse::End`].
    Prefill {
        /// Whose conversation.
        call: CallId,
        /// All of it so far.
        messages: Vec<ChatMessage>,
    },
    /// Read the beginning of many conversations and keep it. Answered by [`LlmResponse::End`].
    Warm {
        /// Instructions, and possibly a greeting.
        messages: Vec<ChatMessage>,
    },
    /// Forget a call. Answered by [`LlmResponse::End`].
    Release {
        /// Which.
        call: CallId,
    },
}

/// What a worker answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum LlmResponse {
    /// How likely the caller's sentence ends with its last word, 0 to 1: before a reply that is
    /// written ahead, where the model can tell.
    SentenceEnds(f32),
    /// A piece of the reply, in order.
    Text(String),
    /// The end.
    End(LlmEnd),
}

/// How a request ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LlmEnd {
    /// Why a reply ended; `None` for what is not a reply.
    pub finish: Option<LlmFinish>,
    /// What it cost.
    pub usage: ReplyUsage,
    /// Oldest messages left out because the conversation was too long; the instructions stay.
    pub dropped_messages: u32,
}

/// Why a reply ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LlmFinish {
    /// The model ended its turn.
    Stop,
    /// A stop text came.
    StopText,
    /// `max_tokens` was reached.
    Length,
    /// It began to repeat itself and was cut.
    Repetition,
}

impl From<LlmFinish> for FinishReason {
    fn from(finish: LlmFinish) -> Self {
        match finish {
            LlmFinish::Stop | LlmFinish::StopText => Self::Stop,
            LlmFinish::Length | LlmFinish::Repetition => Self::Length,
        }
    }
}

/// What a worker says about its model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LlmFacts {
    /// Tokens of all conversations that fit at once.
    pub context_tokens: u32,
    /// Tokens of one conversation, reply included.
    pub conversation_tokens: u32,
    /// Conversations that are kept.
    pub conversations: u32,
    /// The model brings its own chat template.
    pub has_template: bool,
}

/// What runs between the server and `offhook-llm`.
#[derive(Clone, Copy, Debug)]
pub struct LlmProtocol;

impl Protocol for LlmProtocol {
    const ENGINE: &'static str = "llm";
    type Request = LlmRequest;
    type Response = LlmResponse;
    type Facts = LlmFacts;
}

/// What the worker is started with; its only argument, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LlmWorkerSettings {
    /// A GGUF file.
    pub model: PathBuf,
    /// Threads that compute.
    #[serde(default = "default_threads")]
    pub threads: u32,
    /// Tokens of all conversations that are kept at once (12 KB each for a 0.5 B model).
    #[serde(default = "default_context_tokens")]
    pub context_tokens: u32,
    /// Tokens of one conversation, reply included; the oldest messages go when it is longer.
    #[serde(default = "default_conversation_tokens")]
    pub conversation_tokens: u32,
    /// Calls whose conversations are kept.
    #[serde(default = "default_conversations")]
    pub conversations: u32,
    /// Layers computed by a GPU, where the build has one.
    #[serde(default)]
    pub gpu_layers: u32,
}

fn default_threads() -> u32 {
    2
}

fn default_context_tokens() -> u32 {
    16_384
}

fn default_conversation_tokens() -> u32 {
    4096
}

fn default_conversations() -> u32 {
    16
}

impl LlmWorkerSettings {
    /// The defaults for a model.
    pub fn new(model: impl Into<PathBuf>) -> Self {
        Self {
            model: model.into(),
            threads: default_threads(),
            context_tokens: default_context_tokens(),
            conversation_tokens: default_conversation_tokens(),
            conversations: default_conversations(),
            gpu_layers: 0,
        }
    }
}
