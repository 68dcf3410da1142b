//! What an assistant's server is told, and what the model says of a call that is over.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::ids::{AssistantId, CallId};

/// Vapi's name of messages with words that stand.
pub const TRANSCRIPT: &str = "transcript";
/// And of those with words that may still change.
pub const PARTIAL_TRANSCRIPT: &str = "transcript[transcriptType=\"partial\"]";

/// One message for an assistant's server. Kept until it is delivered or given up.
#[derive(Clone, Debug, PartialEq)]
pub struct WebhookDelivery {
    /// Names it in all attempts, so that a receiver can tell that it has it.
    pub id: Uuid,
    /// The call.
    pub call: CallId,
    /// Whose server.
    pub assistant: AssistantId,
    /// Where the server is (scheme, host and port), to tell whose messages pile up.
    pub receiver: String,
    /// Vapi's name, as `status-update`.
    pub kind: String,
    /// JSON; empty for a report that is written when the call's analysis is there.
    pub body: String,
    /// Attempts so far.
    pub attempts: u32,
    /// When it happened.
    pub created_at: OffsetDateTime,
}

/// What became of an attempt to deliver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebhookOutcome {
    /// The server has it.
    Delivered,
    /// It was not tried, because what it tells is not known yet.
    Later {
        /// When it may be.
        at: OffsetDateTime,
    },
    /// It is tried again.
    Again {
        /// When.
        at: OffsetDateTime,
        /// Why; no words of the call.
        why: String,
    },
    /// It is not tried again.
    GivenUp {
        /// Why.
        why: String,
    },
}

/// What the model says of a call that is over. Vapi's names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Analysis {
    /// A few sentences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// By the rubric of `successEvaluationPlan`: `true`, `7`, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success_evaluation: Option<String>,
    /// By the schema of `structuredDataPlan`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub structured_data: Option<Map<String, Value>>,
}
