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
//! stays the same in all attempts.

mod body;
mod sender;
mod signature;

use std::sync::Arc;

use time::OffsetDateTime;

use crate::conversation::settings::AssistantSettings;
use crate::ids::TurnNumber;
use crate::record::{CallRecord, CallStatus, Message, Role, WebhookDelivery};
use crate::store::{Entry, Journal};

pub use sender::{Sender, SenderSettings};

/// Finds an assistant's settings by its name.
pub type Book = Arc<dyn Fn(&str) -> Option<AssistantSettings> + Send + Sync>;

/// The kind of the message that waits for a call's analysis.
const REPORT: &str = "end-of-call-report";

/// Something that an assistant's server may want to know.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The call stands elsewhere.
    Status(CallStatus),
    /// Words that stand.
    Transcript(&'a Message),
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
    /// Vapi's name of the message.
    fn kind(&self) -> &'static str {
        match self {
            Self::Status(_) => "status-update",
            Self::Transcript(_) => "transcript",
            Self::Speech { .. } => "speech-update",
            Self::UserInterrupted(_) => "user-interrupted",
            Self::Hang => "hang",
        }
    }
}

/// The calls' way to their assistants' servers. Cheap to clone; never waits.
#[derive(Clone)]
pub struct Webhooks {
    journal: Journal,
    assistants: Book,
}

impl Webhooks {
    /// Queues through the journal.
    pub fn new(journal: Journal, assistants: Book) -> Self {
        Self {
            journal,
            assistants,
        }
    }

    /// Queues a message, where the assistant's server wants it.
    pub fn tell(&self, settings: &AssistantSettings, call: &CallRecord, event: Event<'_>) {
        if settings.server_wants(event.kind()) {
            let now = OffsetDateTime::now_utc();
            let body = body::message(call, event, now);
            self.queue(call, event.kind(), body, now);
        }
    }

    /// Queues what follows a call's end: its last status, its analysis and its report.
    pub fn ended(&self, call: &CallRecord) {
        let Some(settings) = (self.assistants)(call.assistant.as_str()) else {
            return;
        };
        self.tell(&settings, call, Event::Status(CallStatus::Ended));
        let now = OffsetDateTime::now_utc();
        if settings.analysis_plan.is_some() {
            let assistant = call.assistant.clone();
            let entry = Entry::AnalysisWanted(call.id, assistant, now);
            self.journal.write(entry);
        }
        if settings.server_wants(REPORT) {
            self.queue(call, REPORT, String::new(), now);
        }
    }

    fn queue(&self, call: &CallRecord, kind: &str, body: String, now: OffsetDateTime) {
        let id = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
        self.journal.write(Entry::Webhook(Box::new(WebhookDelivery {
            id,
            call: call.id,
            assistant: call.assistant.clone(),
            kind: kind.to_owned(),
            body,
            attempts: 0,
            created_at: now,
        })));
    }
}

#[cfg(test)]
mod tests;
