//! OpenAI's chat completions, streamed (`POST {base}/chat/completions`), as OpenAI, vLLM, Ollama,
//! llama-server and others serve them.
//!
//! ```text
//!  asked ──► first piece ──► piece ... ──► finish_reason, [DONE] ──► ReplyDone
//!    │           │             │
//!    └───────────┴─────────────┴─ fails ──► the local engine goes on from what was said
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use reqwest::Response;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use url::Url;

use super::breaker::Gate;
use super::error::{HostedError, Stage};
use super::request::{self, Clock, Serving};
use super::settings::Deadlines;
use super::sse::EventStream;
use crate::engines::llm::{ChatMessage, ChatRole, GenerateRequest, Llm};
use crate::engines::supervisor::RequestHandle;
use crate::engines::{EngineEvent, FinishReason, Priority, ReplyUsage};
use crate::web::Client;

/// A reply longer than this, in bytes, is cut: nobody listens for an hour.
const LONGEST_REPLY: usize = 64 * 1024;

/// Who is spoken to, which decides on the spelling of some fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// OpenAI itself: `max_completion_tokens`, and no temperature for reasoning models.
    OpenAi,
    /// Everybody else.
    Compatible,
}

/// One model at one server.
#[derive(Debug)]
pub(crate) struct ChatModel {
    pub(super) client: Client,
    /// Up to and including `/chat/completions`.
    pub(super) url: Url,
    /// The key and the assistant's own header fields.
    pub(super) headers: HeaderMap,
    pub(super) model: String,
    pub(super) dialect: Dialect,
    pub(super) deadlines: Deadlines,
    pub(super) gate: Gate,
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: &'a [ChatMessage],
    stream: bool,
    stream_options: StreamOptions,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f32>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop: &'a [String],
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

/// `chat.completion.chunk`. What is not here is not looked at.
#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Delta,
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Delta {
    content: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: u32,
    #[serde(default)]
    completion_tokens: u32,
}

impl ChatModel {
    /// Asks for a reply. What comes back is as from [`Llm::generate`], with a
    /// [`EngineEvent::FellBack`] where `local` has to take over.
    pub(crate) fn generate(
        self: &Arc<Self>,
        local: Llm,
        request: GenerateRequest,
        events: mpsc::Sender<EngineEvent>,
    ) -> RequestHandle {
        let model = Arc::clone(self);
        request::start(request.priority, |serving| async move {
            let mut said = String::new();
            let Err(error) = model.reply(&request, &events, &mut said).await else {
                return;
            };
            hand_over(&serving, &local, request, said, error, events).await;
        })
    }

    /// Streams a reply to `events`; `said` is what has come of it.
    async fn reply(
        &self,
        request: &GenerateRequest,
        events: &mpsc::Sender<EngineEvent>,
        said: &mut String,
    ) -> Result<(), HostedError> {
        let permit = self.gate.enter()?;
        let done = self.stream(request, events, said).await;
        match &done {
            Ok(()) => permit.served(),
            Err(error) => permit.failed(error),
        }
        done
    }

    async fn stream(
        &self,
        request: &GenerateRequest,
        events: &mpsc::Sender<EngineEvent>,
        said: &mut String,
    ) -> Result<(), HostedError> {
        let started = tokio::time::Instant::now();
        let clock = Clock::start(self.deadlines);
        let response = clock.within(Stage::First, self.ask(request)).await??;
        let mut pieces = Pieces::new(response);
        let generation = request.generation;
        let mut usage = ReplyUsage::default();
        let mut finish = FinishReason::Stop;
        loop {
            let stage = match said.is_empty() {
                true => Stage::First,
                false => Stage::Between,
            };
            match clock.within(stage, pieces.next()).await?? {
                Piece::Text(text) => {
                    if said.is_empty() {
                        usage.first_token_ms = millis(started.elapsed());
                    }
                    said.push_str(&text);
                    let event = EngineEvent::ReplyText { generation, text };
                    if events.send(event).await.is_err() {
                        return Ok(());
                    }
                    if said.len() > LONGEST_REPLY {
                        finish = FinishReason::Length;
                        break;
                    }
                }
                Piece::Finish(reason) => finish = reason,
                Piece::Usage(of) => {
                    usage.prompt_tokens = of.prompt_tokens;
                    usage.completion_tokens = of.completion_tokens;
                }
                Piece::End => break,
            }
        }
        if said.trim().is_empty() {
            return Err(HostedError::Garbage("a reply without a word"));
        }
        usage.total_ms = millis(started.elapsed());
        // Whoever asked may have gone.
        let _ = events
            .send(EngineEvent::ReplyDone {
                generation,
                finish,
                usage,
            })
            .await;
        Ok(())
    }

    async fn ask(&self, request: &GenerateRequest) -> Result<Response, HostedError> {
        let tokens = request.settings.max_tokens;
        let openai = self.dialect == Dialect::OpenAi;
        let body = Body {
            model: &self.model,
            messages: &request.messages,
            stream: true,
            stream_options: StreamOptions {
                include_usage: true,
            },
            max_tokens: (!openai).then_some(tokens),
            max_completion_tokens: openai.then_some(tokens),
            temperature: self
                .takes_temperature()
                .then_some(request.settings.temperature),
            stop: &request.settings.stop,
        };
        let body = serde_json::to_vec(&body).map_err(|_| HostedError::Garbage("our request"))?;
        let response = self
            .client
            .post(self.url.clone())?
            .headers(self.headers.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "text/event-stream")
            .body(body)
            .send()
            .await
            .map_err(|error| HostedError::of_request(&error))?;
        if let Some(error) = HostedError::of_status(response.status(), response.headers()) {
            return Err(error);
        }
        match is_event_stream(response.headers()) {
            true => Ok(response),
            false => Err(HostedError::Garbage("no event stream")),
        }
    }

    /// OpenAI's reasoning models answer 400 to any temperature but 1.
    fn takes_temperature(&self) -> bool {
        let reasoning = ["o1", "o3", "o4", "gpt-5"];
        self.dialect == Dialect::Compatible
            || !reasoning.iter().any(|name| self.model.starts_with(name))
    }
}

/// The header fields of every request.
pub(super) fn authorization(key: &str) -> Option<(reqwest::header::HeaderName, HeaderValue)> {
    let mut value = HeaderValue::from_str(&format!("Bearer {key}")).ok()?;
    value.set_sensitive(true);
    Some((AUTHORIZATION, value))
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.trim_start().starts_with("text/event-stream"))
}

fn millis(duration: std::time::Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// The local engine goes on with the reply from where it broke off.
async fn hand_over(
    serving: &Serving,
    local: &Llm,
    mut request: GenerateRequest,
    said: String,
    error: HostedError,
    events: mpsc::Sender<EngineEvent>,
) {
    let generation = request.generation;
    let event = EngineEvent::FellBack {
        generation,
        engine: "llm",
        error,
    };
    if events.send(event).await.is_err() {
        return;
    }
    if !said.trim().is_empty() {
        let broken_off = ChatMessage::new(ChatRole::Assistant, said);
        request.messages.push(broken_off);
    }
    let answers = events.clone();
    let asked = serving.fall_back(|priority: Priority| {
        request.priority = priority;
        local.generate_here(request, answers)
    });
    if let Err(error) = asked {
        let _ = events
            .send(EngineEvent::ReplyFailed { generation, error })
            .await;
    }
}

enum Piece {
    Text(String),
    Finish(FinishReason),
    Usage(Usage),
    End,
}

/// The pieces of one streamed reply.
struct Pieces {
    response: Response,
    stream: EventStream,
    waiting: VecDeque<Piece>,
    finished: bool,
}

impl Pieces {
    fn new(response: Response) -> Self {
        Self {
            response,
            stream: EventStream::default(),
            waiting: VecDeque::new(),
            finished: false,
        }
    }

    async fn next(&mut self) -> Result<Piece, HostedError> {
        loop {
            if let Some(piece) = self.waiting.pop_front() {
                return Ok(piece);
            }
            let bytes = self.response.chunk().await.map_err(|_| HostedError::Cut)?;
            let Some(bytes) = bytes else {
                // Some servers leave [DONE] out.
                return match self.finished {
                    true => Ok(Piece::End),
                    false => Err(HostedError::Cut),
                };
            };
            let mut events = Vec::new();
            self.stream
                .push(&bytes, &mut events)
                .map_err(|_| HostedError::Garbage("an event without end"))?;
            for data in events {
                self.read(&data)?;
            }
        }
    }

    fn read(&mut self, data: &str) -> Result<(), HostedError> {
        if data.trim() == "[DONE]" {
            self.waiting.push_back(Piece::End);
            return Ok(());
        }
        let chunk: Chunk =
            serde_json::from_str(data).map_err(|_| HostedError::Garbage("no chunk in an event"))?;
        if chunk.error.is_some_and(|error| !error.is_null()) {
            return Err(HostedError::Garbage("an error in the stream"));
        }
        for choice in chunk.choices.into_iter().take(1) {
            if let Some(text) = choice.delta.content.filter(|text| !text.is_empty()) {
                self.waiting.push_back(Piece::Text(text));
            }
            if let Some(reason) = choice.finish_reason {
                self.finished = true;
                let reason = match reason.as_str() {
                    "length" => FinishReason::Length,
                    _ => FinishReason::Stop,
                };
                self.waiting.push_back(Piece::Finish(reason));
            }
        }
        if let Some(usage) = chunk.usage {
            self.waiting.push_back(Piece::Usage(usage));
        }
        Ok(())
    }
}
