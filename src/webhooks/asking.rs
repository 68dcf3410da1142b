//! Asks a number's server who answers a call: Vapi's `assistant-request`.
//!
//! ```text
//!  a call rings ── POST, signed ──► 2xx, JSON, in time ──► error | destination | assistantId | assistant
//!                        └─ no answer, another status, no JSON, nothing of these ──► failed
//! ```

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use time::OffsetDateTime;
use tokio::sync::Semaphore;

use super::{body, posting};
use crate::conversation::settings::{Server, TransferDestination};
use crate::record::{CallRecord, EndedReason};
use crate::web::Client;

/// As long as Vapi waits; callers hear it ring meanwhile.
const DEADLINE: Duration = Duration::from_millis(7500);
/// Calls whose servers are asked at once.
const AT_ONCE: usize = 64;
/// Largest answer, in bytes: an assistant with its prompt.
const LARGEST_ANSWER: usize = 1 << 20;
/// Longest error that is spoken, in bytes.
const LONGEST_ERROR: usize = 1000;

/// What a server said. Vapi's names.
#[derive(Clone, Debug, PartialEq)]
pub enum ServerAnswer {
    /// A kept assistant answers.
    AssistantId {
        /// Its id.
        id: String,
        /// Fields that are other in this call.
        overrides: Option<Map<String, Value>>,
    },
    /// This assistant answers.
    Assistant {
        /// Its document.
        assistant: Map<String, Value>,
        /// Fields that are other in this call.
        overrides: Option<Map<String, Value>>,
    },
    /// The caller is passed on at once.
    Destination(Box<TransferDestination>),
    /// The caller hears this, and is hung up on.
    Error(String),
}

/// Asks servers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Requests {
    client: Client,
    deadline: Duration,
    at_once: Arc<Semaphore>,
}

impl Requests {
    /// Connects only where the client may.
    pub fn new(client: Client) -> Self {
        Self::with_deadline(client, DEADLINE)
    }

    pub(super) fn with_deadline(client: Client, deadline: Duration) -> Self {
        Self {
            client,
            deadline,
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// Asks who answers a call; `phone_number` is the number's object, where it has one.
    ///
    /// # Errors
    /// The reason that the call is written down with where the server does not say.
    pub async fn ask(
        &self,
        server: &Server,
        call: &CallRecord,
        phone_number: Option<&Value>,
    ) -> Result<ServerAnswer, EndedReason> {
        let asked = async {
            let _one = self
                .at_once
                .try_acquire()
                .map_err(|_| "too many are asked")?;
            self.answer(server, call, phone_number).await
        };
        let answered = tokio::time::timeout(self.deadline, asked).await;
        match answered.unwrap_or(Err("no answer in time")) {
            Ok(answer) => read(answer).inspect_err(|reason| {
                tracing::warn!(call = %call.id, %reason, "assistant-request: the answer is of no use");
            }),
            Err(why) => {
                tracing::warn!(call = %call.id, why, "assistant-request failed");
                Err(EndedReason::AssistantRequestFailed)
            }
        }
    }

    async fn answer(
        &self,
        server: &Server,
        call: &CallRecord,
        phone_number: Option<&Value>,
    ) -> Result<Map<String, Value>, &'static str> {
        let url = posting::url_of(server).ok_or("the server has no URL")?;
        let body = body::assistant_request(call, phone_number, OffsetDateTime::now_utc());
        let id = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
        let request = posting::request(&self.client, server, url, &id.to_string(), body)
            .map_err(|_| "its address may not be asked")?;
        let mut answer = request.send().await.map_err(|_| "no connection")?;
        if !answer.status().is_success() {
            return Err("another status than 2xx");
        }
        let mut bytes = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(|_| "the answer broke off")? {
            if bytes.len() + part.len() > LARGEST_ANSWER {
                return Err("the answer is too long");
            }
            bytes.extend_from_slice(&part);
        }
        serde_json::from_slice(&bytes).map_err(|_| "the answer is no JSON object")
    }
}

/// What an answer says. An error counts before a destination, and that before an assistant.
fn read(mut answer: Map<String, Value>) -> Result<ServerAnswer, EndedReason> {
    // Vapi's reference wraps it so, its guide does not.
    if let Some(Value::Object(inner)) = answer.remove("messageResponse") {
        answer = inner;
    }
    let mut given = |field: &str| answer.remove(field).filter(|value| !value.is_null());
    if let Some(error) = given("error") {
        return match error {
            Value::String(words) if is_speakable(&words) => Ok(ServerAnswer::Error(words)),
            _ => Err(EndedReason::AssistantRequestReturnedUnspeakableError),
        };
    }
    let invalid = EndedReason::AssistantRequestReturnedInvalidAssistant;
    if let Some(destination) = given("destination") {
        let read = destination.as_object().and_then(TransferDestination::read);
        let read = read.map(|to| ServerAnswer::Destination(Box::new(to)));
        return read.ok_or(invalid);
    }
    let overrides = match given("assistantOverrides") {
        None => None,
        Some(Value::Object(overrides)) => Some(overrides),
        Some(_) => return Err(invalid),
    };
    match (given("assistantId"), given("assistant")) {
        (Some(Value::String(id)), _) => Ok(ServerAnswer::AssistantId { id, overrides }),
        (None, Some(Value::Object(assistant))) => Ok(ServerAnswer::Assistant {
            assistant,
            overrides,
        }),
        (None, None) => Err(EndedReason::AssistantRequestReturnedNoAssistant),
        _ => Err(invalid),
    }
}

fn is_speakable(words: &str) -> bool {
    words.len() <= LONGEST_ERROR && words.chars().any(char::is_alphanumeric)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(answer: Value) -> Result<ServerAnswer, EndedReason> {
        match answer {
            Value::Object(fields) => read(fields),
            other => panic!("{other} is no object"),
        }
    }

    #[test]
    fn an_error_counts_before_a_destination_and_that_before_an_assistant() {
        let all = json!({
            "error": "We are closed.", "destination": { "type": "number", "number": "+4930123456" },
            "assistantId": "a", "assistant": {},
        });
        let error = ServerAnswer::Error("We are closed.".to_owned());
        assert_eq!(said(all), Ok(error));
        let passed_on = json!({
            "destination": { "type": "number", "number": "+4930123456", "extension": "7",
                             "message": "One moment." },
            "assistantId": "a",
        });
        match said(passed_on) {
            Ok(ServerAnswer::Destination(to)) => {
                assert_eq!(to.target(), "+4930123456");
            }
            other => panic!("{other:?}"),
        }
        let kept = json!({ "assistantId": "a", "assistantOverrides": { "name": "b" } });
        assert!(matches!(
            said(kept),
            Ok(ServerAnswer::AssistantId { id, overrides: Some(_) }) if id == "a"
        ));
        let own = json!({ "error": null, "assistant": { "firstMessage": "Hello." } });
        assert!(matches!(
            said(own),
            Ok(ServerAnswer::Assistant {
                overrides: None,
                ..
            })
        ));
    }

    #[test]
    fn garbage_has_a_reason_of_its_own() {
        use EndedReason as Why;
        for (answer, why) in [
            (json!({}), Why::AssistantRequestReturnedNoAssistant),
            (
                json!({ "squadId": "s" }),
                Why::AssistantRequestReturnedNoAssistant,
            ),
            (
                json!({ "error": 7 }),
                Why::AssistantRequestReturnedUnspeakableError,
            ),
            (
                json!({ "error": " … " }),
                Why::AssistantRequestReturnedUnspeakableError,
            ),
            (
                json!({ "assistantId": 7 }),
                Why::AssistantRequestReturnedInvalidAssistant,
            ),
            (
                json!({ "assistant": [] }),
                Why::AssistantRequestReturnedInvalidAssistant,
            ),
            (
                json!({ "destination": { "type": "pigeon" } }),
                Why::AssistantRequestReturnedInvalidAssistant,
            ),
            (
                json!({ "assistantId": "a", "assistantOverrides": 7 }),
                Why::AssistantRequestReturnedInvalidAssistant,
            ),
        ] {
            assert_eq!(said(answer.clone()), Err(why), "{answer}");
        }
    }
}
