//! What assistants' servers are told of their calls, at least once and in order for each call.
//!
//! ```text
//!  a call ── tell ──► journal ──► waiting ──► sent ──► 2xx ──► delivered
//!  (never waits)                     ▲          │
//!                                    └─ pause ──┤ no answer, 5xx, 429, ...
//!                                               └─ too often, too old, refused ──► given up
//! ```
//!
//! Messages wait in the database, so that a restart loses none; a call's next one is sent when
//! the one before it was delivered or given up. Bodies have Vapi's shapes. Each is signed as
//! Standard Webhooks has it (`webhook-id`, `webhook-timestamp`, `webhook-signature`), and the id
//! stays the same in all attempts. One kind waits for nothing: `assistant-request` asks who
//! answers a call, see [`Requests`].

mod asking;
mod body;
mod posting;
mod sender;
mod signature;

use std::pin::Pin;
use std::sync::Arc;

use time::OffsetDateTime;
use url::Url;

use crate::conversation::settings::AssistantSettings;
use crate::ids::{CallId, TurnNumber};
use crate::record::{
    CallRecord, CallStatus, Message, PARTIAL_TRANSCRIPT, Role, TRANSCRIPT, WebhookDelivery,
};
use crate::store::{Entry, Journal, StoreError};

pub use asking::{Requests, ServerAnswer};
pub use sender::{Sender, SenderSettings};

/// Finds the settings that are in force in a kept call, the server that is told of it in them;
/// `None` where there are none any more.
pub type Book = Arc<dyn Fn(CallId) -> Finding + Send + Sync>;

/// A look into the [`Book`].
pub type Finding =
    Pin<Box<dyn Future<Output = Result<Option<AssistantSettings>, StoreError>> + Send>>;

/// The kind of the message that waits for a call's analysis.
const REPORT: &str = "end-of-call-report";

/// Something that an assistant's server may want to know.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The call stands elsewhere.
    Status(CallStatus),
    /// Words that stand.
    Transcript(&'a Message),
    /// Words that may still change: all of one utterance so far.
    PartialTranscript {
        /// Whose.
        role: Role,
        /// The words.
        words: &'a str,
    },
    /// Somebody began or stopped speaking.
    Speech {
        /// Who.
        role: Role,
        /// Began.
        speaking: bool,
    },
    /// The assistant was interrupted for good.
    UserInterrupted(TurnNumber),
    /// The caller had to be asked to wait, because the assistant was slow.
    Hang,
}

impl Event<'_> {
    /// Vapi's name of the message, with what narrows it in `serverMessages`.
    fn kind(&self) -> &'static str {
        match self {
            Self::Status(_) => "status-update",
            Self::Transcript(_) => TRANSCRIPT,
            Self::PartialTranscript { .. } => PARTIAL_TRANSCRIPT,
            Self::Speech { .. } => "speech-update",
            Self::UserInterrupted(_) => "user-interrupted",
            Self::Hang => "hang",
        }
    }

    /// Vapi's name of the message.
    fn name(&self) -> &'static str {
        match self {
            Self::PartialTranscript { .. } => TRANSCRIPT,
            other => other.kind(),
        }
    }
}

/// The calls' way to their assistants' servers. Cheap to clone; never waits.
#[derive(Clone)]
pub struct Webhooks {
    journal: Journal,
}

impl Webhooks {
    /// Queues through the journal.
    pub fn new(journal: Journal) -> Self {
        Self { journal }
    }

    /// Queues a message, where the assistant's server wants it.
    pub fn tell(&self, settings: &AssistantSettings, call: &CallRecord, event: Event<'_>) {
        if settings.server_wants(event.kind()) {
            let now = OffsetDateTime::now_utc();
            let body = body::message(call, event, now);
            self.queue(settings, call, event.kind(), body, now);
        }
    }

    /// Queues what follows a call's end: its last status, its analysis and its report.
    pub fn ended(&self, settings: &AssistantSettings, call: &CallRecord) {
        self.tell(settings, call, Event::Status(CallStatus::Ended));
        let now = OffsetDateTime::now_utc();
        if settings.analysis_plan.is_some() {
            let assistant = call.assistant.clone();
            let entry = Entry::AnalysisWanted(call.id, assistant, now);
            self.journal.write(entry);
        }
        if settings.server_wants(REPORT) {
            self.queue(settings, call, REPORT, String::new(), now);
        }
    }

    fn queue(
        &self,
        settings: &AssistantSettings,
        call: &CallRecord,
        kind: &str,
        body: String,
        now: OffsetDateTime,
    ) {
        let id = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
        self.journal.write(Entry::Webhook(Box::new(WebhookDelivery {
            id,
            call: call.id,
            assistant: call.assistant.clone(),
            receiver: receiver(settings),
            kind: kind.to_owned(),
            body,
            attempts: 0,
            created_at: now,
        })));
    }
}

/// Scheme, host and port of an assistant's server: the rest of its URL may be a secret.
fn receiver(settings: &AssistantSettings) -> String {
    let url = settings
        .server
        .as_ref()
        .and_then(|server| server.url.as_deref());
    let url = url.and_then(|url| url.parse::<Url>().ok());
    url.map(|url| url.origin().ascii_serialization())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
