//! Who answers, as numbers' servers say it: their words put together with what is kept.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::call::{AssistantRequest, AssistantRequests, Assistants, Requested};
use crate::directory::Directory;
use crate::ids::{AssistantId, CallId};
use crate::record::EndedReason;
use crate::store::ObjectKind;
use crate::webhooks::{Requests, ServerAnswer};

/// Asks by HTTP, and looks up what the answer names.
pub(super) fn requests(
    requests: Requests,
    directory: Directory,
    assistants: Assistants,
) -> AssistantRequests {
    let asker = Asker {
        requests,
        directory,
        assistants,
    };
    Arc::new(move |request| {
        let asker = asker.clone();
        Box::pin(async move { asker.ask(request).await })
    })
}

#[derive(Clone)]
struct Asker {
    requests: Requests,
    directory: Directory,
    assistants: Assistants,
}

impl Asker {
    async fn ask(&self, request: AssistantRequest) -> Requested {
        let AssistantRequest { server, call } = request;
        let number = match call.phone_number_id.as_deref() {
            Some(id) => self.directory.get(ObjectKind::PhoneNumber, id).await.ok(),
            None => None,
        };
        let number = number.map(Value::Object);
        match self.requests.ask(&server, &call, number.as_ref()).await {
            Err(reason) => Requested::Failed(reason),
            Ok(ServerAnswer::Error(words)) => Requested::Error(words),
            Ok(ServerAnswer::Destination(to)) => Requested::Destination(to),
            Ok(ServerAnswer::AssistantId { id, overrides }) => {
                self.kept(call.id, id, overrides).await
            }
            Ok(ServerAnswer::Assistant {
                assistant,
                overrides,
            }) => self.given(call.id, &assistant, overrides),
        }
    }

    async fn kept(
        &self,
        call: CallId,
        id: String,
        overrides: Option<Map<String, Value>>,
    ) -> Requested {
        let Some(overrides) = overrides else {
            return match (self.assistants)(&id) {
                Some((id, settings)) => Requested::Assistant {
                    id,
                    settings: Box::new(settings),
                    document: None,
                },
                None => invalid(call, &format!("there is no assistant {id:?}")),
            };
        };
        match self.directory.overridden(&id, &overrides).await {
            Ok(settings) => Requested::Assistant {
                id: AssistantId::new(id),
                settings: Box::new(settings),
                document: self.document(call, json!({ "assistantOverrides": overrides })),
            },
            Err(refused) => invalid(call, &refused.to_string()),
        }
    }

    fn given(
        &self,
        call: CallId,
        assistant: &Map<String, Value>,
        overrides: Option<Map<String, Value>>,
    ) -> Requested {
        match self.directory.transient(assistant, overrides.as_ref()) {
            Ok((settings, _)) => {
                let mut kept = json!({ "assistant": assistant });
                if let Some(overrides) = overrides {
                    kept["assistantOverrides"] = Value::Object(overrides);
                }
                Requested::Assistant {
                    id: AssistantId::new(""),
                    settings: Box::new(settings),
                    document: self.document(call, kept),
                }
            }
            Err(refused) => invalid(call, &refused.to_string()),
        }
    }

    fn document(&self, call: CallId, kept: Value) -> Option<Box<crate::record::CallDocument>> {
        match kept {
            Value::Object(fields) => Some(Box::new(self.directory.seal_call(call, fields))),
            _ => None,
        }
    }
}

fn invalid(call: CallId, why: &str) -> Requested {
    tracing::warn!(%call, why, "assistant-request: the assistant cannot be used");
    Requested::Failed(EndedReason::AssistantRequestReturnedInvalidAssistant)
}
