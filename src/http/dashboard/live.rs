//! Live calls: seen, heard and acted on; and new ones.

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Dashboard;
use crate::call::{DialRefusal, DialRequest, LiveCall, Talker};
use crate::http::error::ApiError;
use crate::http::live::{self, ControlMessage, over};
use crate::ids::CallId;

/// Largest message from a listener, who has nothing to say, in bytes.
const LARGEST_MESSAGE: usize = 1024;

/// Every live call with what was said so far, the oldest first.
pub(super) async fn list(State(dashboard): State<Dashboard>) -> Json<Vec<LiveCall>> {
    let registry = &dashboard.registry;
    let calls = registry.snapshots().into_iter();
    let calls = calls.filter_map(|call| registry.watch_call(call.id));
    Json(calls.map(|(so_far, _)| so_far).collect())
}

/// What happens in all of them, as it happens.
pub(super) async fn events(State(dashboard): State<Dashboard>) -> Response {
    live::events(None, dashboard.registry.watch(), None).into_response()
}

/// What happens in one, until it ends.
pub(super) async fn events_of(
    State(dashboard): State<Dashboard>,
    Path(id): Path<CallId>,
) -> Result<Response, ApiError> {
    live::one_call(&dashboard.registry, id)
}

/// One live call.
pub(super) async fn one(
    State(dashboard): State<Dashboard>,
    Path(id): Path<CallId>,
) -> Result<Json<LiveCall>, ApiError> {
    let found = dashboard.registry.watch_call(id);
    found
        .map(|(so_far, _)| Json(so_far))
        .ok_or_else(|| over(id))
}

/// Its sound.
pub(super) async fn listen(
    State(dashboard): State<Dashboard>,
    Path(id): Path<CallId>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, ApiError> {
    let listener = dashboard.registry.listen(id).ok_or_else(|| over(id))?;
    let upgrade = upgrade.max_message_size(LARGEST_MESSAGE);
    Ok(upgrade.on_upgrade(move |socket| live::listen(socket, listener)))
}

/// Does something to it.
pub(super) async fn control(
    State(dashboard): State<Dashboard>,
    Path(id): Path<CallId>,
    Json(message): Json<ControlMessage>,
) -> Result<Json<Value>, ApiError> {
    live::control(&dashboard.registry, id, message).await?;
    Ok(Json(json!({ "id": id })))
}

/// Whom an assistant shall call.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Dial {
    assistant: String,
    number: String,
    trunk: Option<String>,
}

/// Has an assistant call somebody.
pub(super) async fn dial(
    State(dashboard): State<Dashboard>,
    Json(dial): Json<Dial>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let request = DialRequest {
        talker: Talker::Named(dial.assistant),
        number: dial.number,
        trunk: dial.trunk.filter(|trunk| !trunk.is_empty()),
        caller_id: None,
        phone_number_id: None,
        customer_name: None,
        id: None,
        document: None,
    };
    match (dashboard.dialler)(request).await {
        Ok(placed) => Ok((StatusCode::CREATED, Json(json!({ "id": placed.id })))),
        Err(refusal @ (DialRefusal::UnknownAssistant(_) | DialRefusal::NoRoute(_))) => {
            Err(ApiError::invalid(refusal.to_string()))
        }
        Err(refusal) => Err(ApiError::Conflict(refusal.to_string())),
    }
}
