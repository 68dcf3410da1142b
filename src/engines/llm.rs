//! The language model: writes the assistant's replies, streamed as they come.
//!
//! ```text
//!   warm ─────────► worker reads a system prompt once, for all calls
//!   prefill ──────► worker reads what a caller has said so far, ahead of the reply
//!   generate ─────► SentenceEnds (ahead only), ReplyText, ... ReplyDone | ReplyFailed
//!   release ──────► the call's memory in the worker is freed
//! ```
//!
//! Every request carries the whole conversation. The worker keeps what it has read of each call
//! and reads only what is new, so that a turn costs its own words; a history that was cut by an
//! interruption is recognised and read again from the cut on. A worker that was restarted has
//! forgotten everything and is told the warmed prompts again.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use super::hosted::ChatModel;
use super::supervisor::{
    Limits, RequestHandle, Response, Responses, Submission, Supervisor, WorkerSnapshot, WorkerSpec,
    WorkerState, forward,
};
use super::{EngineError, EngineEvent, FinishReason, Priority};
use crate::ids::{CallId, Generation};

mod protocol;

pub use protocol::{
    LlmEnd, LlmFacts, LlmFinish, LlmProtocol, LlmRequest, LlmResponse, LlmWorkerSettings,
};

/// Chosen by measuring; see `tests/bench/answers`.
const SPEECH_BEFORE: &str = "You are on a telephone call.";
const SPEECH_AFTER: &str = "The caller asks questions. Answer each in one short spoken sentence. \
    Take names, times and prices exactly from the facts above. When something is not allowed or \
    not accepted, say no.";
/// A reply may wait longer than a restart of the worker takes. On a machine that is overloaded
/// tenfold, one step of the worker takes some ten seconds, and killing it would not help.
const REPLY_LIMITS: Limits = Limits {
    wait: Duration::from_secs(10),
    progress: Duration::from_secs(20),
};
/// For what nobody waits for.
const HOUSEKEEPING_LIMITS: Limits = Limits {
    wait: Duration::from_secs(60),
    progress: Duration::from_secs(60),
};
/// Requests that the worker has beside one for each conversation: prompts read ahead, releases.
const BESIDE_REPLIES: usize = 8;
/// A large model is read from a slow disk.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// How many prompts are read again after a restart of the worker.
const MAX_WARMED: usize = 8;

/// Who says a message. The words that chat templates use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChatRole {
    /// The instructions.
    System,
    /// The caller.
    User,
    /// The model.
    Assistant,
}

impl ChatRole {
    /// The word in templates.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ChatMessage {
    /// Who.
    pub role: ChatRole,
    /// What.
    pub content: String,
}

impl ChatMessage {
    /// A message of `role`.
    pub fn new(role: ChatRole, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
        }
    }
}

/// What an assistant's own instructions are wrapped in, so that replies can be spoken. It is part
/// of the system prompt, and so is read once and kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SpeechPrompt {
    /// Stands before the instructions.
    pub before: String,
    /// Stands behind the instructions, where a small model heeds it most.
    pub after: String,
}

impl Default for SpeechPrompt {
    fn default() -> Self {
        Self {
            before: SPEECH_BEFORE.to_owned(),
            after: SPEECH_AFTER.to_owned(),
        }
    }
}

impl SpeechPrompt {
    /// The system message for an assistant with these instructions.
    pub fn system_message(&self, instructions: &str) -> ChatMessage {
        let parts = [&self.before, instructions, &self.after];
        let parts: Vec<&str> = parts
            .into_iter()
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .collect();
        ChatMessage::new(ChatRole::System, parts.join("\n\n"))
    }
}

/// How a reply is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GenerateSettings {
    /// 0, the default, takes the likeliest word each time, which small models need to stay with
    /// the facts; up to 2.
    pub temperature: f32,
    /// Share of the probability that stays in the draw where the temperature is above 0.
    pub top_p: f32,
    /// Above 1, makes words of the same reply less likely to come again. 1 by default: more
    /// damages telephone numbers.
    pub repetition_penalty: f32,
    /// Longest reply, in tokens (about three quarters of a word each).
    pub max_tokens: u32,
    /// Texts that end the reply; they are not part of it.
    pub stop: Vec<String>,
}

impl Default for GenerateSettings {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_p: 0.9,
            repetition_penalty: 1.0,
            max_tokens: 160,
            stop: Vec::new(),
        }
    }
}

impl GenerateSettings {
    /// What is wrong with the settings, if anything.
    ///
    /// # Errors
    /// One text for each mistake, naming the setting and what is allowed.
    pub fn validate(&self) -> Result<(), Vec<String>> {
        let rules = [
            (
                (0.0..=2.0).contains(&self.temperature),
                "temperature: 0 to 2",
            ),
            (
                self.top_p > 0.0 && self.top_p <= 1.0,
                "topP: above 0, up to 1",
            ),
            (
                (1.0..=2.0).contains(&self.repetition_penalty),
                "repetitionPenalty: 1 to 2",
            ),
            (
                (1..=4096).contains(&self.max_tokens),
                "maxTokens: 1 to 4096",
            ),
            (self.stop.len() <= 16, "stop: at most 16 texts"),
            (
                self.stop.iter().all(|stop| (1..=64).contains(&stop.len())),
                "stop: 1 to 64 bytes",
            ),
        ];
        let mistakes: Vec<String> = rules
            .iter()
            .filter(|(fine, _)| !fine)
            .map(|(_, rule)| (*rule).to_owned())
            .collect();
        if mistakes.is_empty() {
            Ok(())
        } else {
            Err(mistakes)
        }
    }
}

/// One reply to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateRequest {
    /// Comes back in every event.
    pub generation: Generation,
    /// Whose conversation it is. A newer request for the same call ends an older one.
    pub call: CallId,
    /// [`Priority::Speculative`] where the turn may not be over.
    pub priority: Priority,
    /// The whole conversation: instructions first, the caller's words last.
    pub messages: Vec<ChatMessage>,
    /// How.
    pub settings: GenerateSettings,
    /// Seeds the draw where the temperature is above 0.
    pub seed: u64,
}

/// The handle. Cheap to clone; the worker is stopped when the last clone is dropped.
#[derive(Clone)]
pub struct Llm {
    shared: Arc<Shared>,
    hosted: Option<Arc<ChatModel>>,
}

struct Shared {
    supervisor: Supervisor<LlmProtocol>,
    /// What is read again after a restart of the worker.
    warmed: Mutex<Vec<Vec<ChatMessage>>>,
}

impl Llm {
    /// Starts the worker found at `spec.executable`. Its arguments, its number of parallel
    /// requests and its time to start are set here.
    ///
    /// # Errors
    /// [`EngineError::BadInput`] where the model's path is no UTF-8.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(mut spec: WorkerSpec, settings: &LlmWorkerSettings) -> Result<Self, EngineError> {
        let argument = serde_json::to_string(settings).map_err(|error| EngineError::BadInput {
            detail: error.to_string(),
        })?;
        spec.args = vec![argument.into()];
        spec.spin_briefly();
        spec.parallel = settings.conversations as usize + BESIDE_REPLIES;
        spec.start_timeout = spec.start_timeout.max(START_TIMEOUT);
        let supervisor = Supervisor::start(spec);
        let shared = Arc::new(Shared {
            supervisor,
            warmed: Mutex::default(),
        });
        tokio::spawn(warm_again(
            shared.supervisor.state(),
            Arc::downgrade(&shared),
        ));
        Ok(Self {
            shared,
            hosted: None,
        })
    }

    /// This handle, asking a hosted model first.
    pub(in crate::engines) fn through(mut self, hosted: Option<Arc<ChatModel>>) -> Self {
        self.hosted = hosted;
        self
    }

    /// Asks for a reply; its pieces and its end come as events. Dropping the handle cancels it.
    ///
    /// # Errors
    /// The request was not accepted, and no event will come: queue full, worker unusable,
    /// settings out of range.
    pub fn generate(
        &self,
        request: GenerateRequest,
        events: mpsc::Sender<EngineEvent>,
    ) -> Result<RequestHandle, EngineError> {
        match &self.hosted {
            Some(hosted) => Ok(hosted.generate(self.clone(), request, events)),
            None => self.generate_here(request, events),
        }
    }

    /// As [`Llm::generate`], by the worker of this machine.
    pub(in crate::engines) fn generate_here(
        &self,
        request: GenerateRequest,
        events: mpsc::Sender<EngineEvent>,
    ) -> Result<RequestHandle, EngineError> {
        let GenerateRequest {
            generation,
            call,
            priority,
            messages,
            settings,
            seed,
        } = request;
        settings
            .validate()
            .map_err(|mistakes| EngineError::BadInput {
                detail: mistakes.join("; "),
            })?;
        let body = LlmRequest::Generate {
            call,
            messages,
            settings,
            seed,
        };
        let responses = self
            .shared
            .submit(Some(call), priority, REPLY_LIMITS, body)?;
        Ok(forward(responses, events, move |response| {
            Some(event(generation, response))
        }))
    }

    /// Has the conversation so far read ahead of a reply to it. A newer request for the same
    /// call ends it; so does dropping the handle.
    ///
    /// # Errors
    /// As for [`Llm::generate`], and [`EngineError::Overloaded`] where it would take the time of
    /// somebody who waits.
    pub fn prefill(
        &self,
        call: CallId,
        messages: Vec<ChatMessage>,
    ) -> Result<RequestHandle, EngineError> {
        if self.hosted.is_some() {
            // It is not the worker that will reply.
            return Err(EngineError::Overloaded);
        }
        let body = LlmRequest::Prefill { call, messages };
        let responses = self
            .shared
            .submit(Some(call), Priority::Spare, REPLY_LIMITS, body)?;
        // Nobody is told of the end; the channel only has to stay open until it comes.
        let (events, mut open) = mpsc::channel(1);
        tokio::spawn(async move { while open.recv().await.is_some() {} });
        Ok(forward(responses, events, |_| None))
    }

    /// Has the beginning of many conversations (instructions, and possibly a greeting) read and
    /// kept, and read again after every restart of the worker; returns when it was read the
    /// first time. The last eight are remembered.
    ///
    /// # Errors
    /// It could not be read now. It is tried again after a restart.
    pub async fn warm(&self, messages: Vec<ChatMessage>) -> Result<LlmEnd, EngineError> {
        {
            let mut warmed = self
                .shared
                .warmed
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            warmed.retain(|other| *other != messages);
            if warmed.len() == MAX_WARMED {
                warmed.remove(0);
            }
            warmed.push(messages.clone());
        }
        let responses = self.shared.submit(
            None,
            Priority::Speculative,
            HOUSEKEEPING_LIMITS,
            LlmRequest::Warm { messages },
        )?;
        match responses.done().await? {
            (LlmResponse::End(end), _) => Ok(end),
            (LlmResponse::Text(_) | LlmResponse::SentenceEnds(_), _) => Ok(LlmEnd::default()),
        }
    }

    /// Forgets a call that has ended. Where the request cannot be queued, the worker forgets
    /// the call in time by itself.
    pub fn release(&self, call: CallId) {
        self.shared
            .in_background(Some(call), LlmRequest::Release { call });
    }

    /// Where the worker stands, for readiness and admission.
    pub fn state(&self) -> watch::Receiver<WorkerState> {
        self.shared.supervisor.state()
    }

    /// What the worker says about its model; `None` until it was ready once.
    pub fn facts(&self) -> watch::Receiver<Option<LlmFacts>> {
        self.shared.supervisor.facts()
    }

    /// Counters of the worker.
    pub fn snapshot(&self) -> WorkerSnapshot {
        self.shared.supervisor.snapshot()
    }

    /// Waits until the worker is ready.
    ///
    /// # Errors
    /// As for [`Supervisor::ready`].
    pub async fn ready(&self) -> Result<(), EngineError> {
        self.shared.supervisor.ready().await
    }

    /// Stops the worker.
    pub async fn shutdown(&self) {
        self.shared.supervisor.shutdown().await;
    }
}

impl Shared {
    fn submit(
        &self,
        call: Option<CallId>,
        priority: Priority,
        limits: Limits,
        body: LlmRequest,
    ) -> Result<Responses<LlmResponse>, EngineError> {
        self.supervisor.submit(Submission {
            call,
            priority,
            limits,
            body,
            payload: Vec::new(),
        })
    }

    /// Asks for something that nobody waits for.
    fn in_background(&self, call: Option<CallId>, body: LlmRequest) {
        let submitted = self.submit(call, Priority::Speculative, HOUSEKEEPING_LIMITS, body);
        match submitted {
            Ok(responses) => {
                tokio::spawn(responses.done());
            }
            Err(error) => tracing::debug!(%error, "language model: housekeeping left out"),
        }
    }
}

/// Tells each new worker what its predecessor had read ahead.
async fn warm_again(mut state: watch::Receiver<WorkerState>, shared: Weak<Shared>) {
    let mut deaths = 0;
    while state.changed().await.is_ok() {
        let ready = state.borrow_and_update().is_ready();
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let died = shared.supervisor.snapshot().deaths;
        if ready && died > deaths {
            deaths = died;
            let warmed = shared
                .warmed
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            for messages in warmed {
                shared.in_background(None, LlmRequest::Warm { messages });
            }
        }
    }
}

fn event(generation: Generation, response: Response<LlmResponse>) -> EngineEvent {
    match response {
        Response::Part {
            body: LlmResponse::Text(text),
            ..
        }
        | Response::Done {
            body: LlmResponse::Text(text),
            ..
        } => EngineEvent::ReplyText { generation, text },
        Response::Part {
            body: LlmResponse::SentenceEnds(probability),
            ..
        }
        | Response::Done {
            body: LlmResponse::SentenceEnds(probability),
            ..
        } => EngineEvent::SentenceEnds {
            generation,
            probability,
        },
        Response::Part {
            body: LlmResponse::End(end),
            ..
        }
        | Response::Done {
            body: LlmResponse::End(end),
            ..
        } => {
            if end.dropped_messages > 0 {
                tracing::info!(
                    messages = end.dropped_messages,
                    "conversation too long: oldest left out"
                );
            }
            let finish = end.finish.map_or(FinishReason::Stop, FinishReason::from);
            EngineEvent::ReplyDone {
                generation,
                finish,
                usage: end.usage,
            }
        }
        Response::Failed(error) => EngineEvent::ReplyFailed { generation, error },
    }
}

#[cfg(test)]
mod tests;
