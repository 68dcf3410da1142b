//! Trunks, and what the configuration file has: assistants and numbers.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Json;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Dashboard;
use crate::config::{Config, Trunk};
use crate::conversation::settings::AssistantSettings;
use crate::directory::Refused;
use crate::http::error::ApiError;

/// What the configuration file has, without secrets.
#[derive(Clone, Debug)]
pub struct Configured(Arc<Shown>);

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    assistants: BTreeMap<String, AssistantSettings>,
    numbers: Vec<ShownNumber>,
    trunks: BTreeMap<String, ShownTrunk>,
    mailboxes: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownNumber {
    number: String,
    assistant: Option<String>,
    mailbox: Option<String>,
    voicemail_menu: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownTrunk {
    registrar: Option<String>,
    outbound: bool,
    transport: Option<String>,
}

impl Configured {
    /// Of a configuration.
    pub fn of(config: &Config) -> Self {
        let trunks = config.trunks.iter();
        let numbers = config.numbers.iter();
        Self(Arc::new(Shown {
            assistants: config.assistants.clone(),
            numbers: numbers
                .map(|number| ShownNumber {
                    number: number.number.clone(),
                    assistant: number.assistant.clone(),
                    mailbox: number.mailbox.clone(),
                    voicemail_menu: number.service.is_some(),
                })
                .collect(),
            trunks: trunks
                .map(|(name, trunk)| (name.clone(), shown(trunk)))
                .collect(),
            mailboxes: config.mailboxes.keys().cloned().collect(),
        }))
    }
}

fn shown(trunk: &Trunk) -> ShownTrunk {
    ShownTrunk {
        registrar: trunk.registrar.first().cloned(),
        outbound: trunk.outbound.is_some(),
        transport: trunk.transport.map(|transport| format!("{transport:?}")),
    }
}

/// Trunks with their state and what went wrong last.
pub(super) async fn trunks(State(dashboard): State<Dashboard>) -> Json<Value> {
    let states = dashboard.trunks.snapshot();
    Json(json!({ "trunks": states, "configured": dashboard.configured.0.trunks }))
}

/// What the file has.
pub(super) async fn configured(State(dashboard): State<Dashboard>) -> Json<Value> {
    Json(json!(*dashboard.configured.0))
}

/// Looks at an assistant as it is typed, as the API would: `{mistakes: [text], warnings: [{field,
/// message}]}`.
pub(super) async fn check(
    State(dashboard): State<Dashboard>,
    Json(document): Json<Map<String, Value>>,
) -> Result<Json<Value>, ApiError> {
    match dashboard.directory.transient(&document, None) {
        Ok((_, warnings)) => Ok(Json(json!({ "mistakes": [], "warnings": warnings }))),
        Err(Refused::Invalid(mistakes)) => {
            Ok(Json(json!({ "mistakes": mistakes, "warnings": [] })))
        }
        Err(other) => Err(other.into()),
    }
}
