//! `monitor.listenUrl` and `monitor.controlUrl`: whoever has the URL may listen to and act on one
//! live call, and nothing else. It opens nothing when the call is over.

use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::error::ApiError;
use super::live::{self, ControlMessage, over};
use crate::call::Registry;
use crate::ids::CallId;

/// Largest message from a listener, who has nothing to say, in bytes.
const LARGEST_MESSAGE: usize = 1024;

/// The routes, which need no key but the one in their path.
pub(super) fn routes(registry: Registry) -> Router {
    Router::new()
        .route("/monitor/{call}/{key}/listen", get(listen))
        .route("/monitor/{call}/{key}/events", get(events))
        .route("/monitor/{call}/{key}/control", post(control))
        .with_state(registry)
}

/// `monitor` of a call in Vapi's shape; `base` is the server's own URL. `None` where the call is
/// not live.
pub(super) fn monitor(registry: &Registry, id: CallId, base: &str) -> Option<Value> {
    let key = registry.monitor_key(id)?;
    let key = key.expose();
    let sockets = match base.strip_prefix("http") {
        Some(rest) => format!("ws{rest}"),
        None => base.to_owned(),
    };
    Some(json!({
        "listenUrl": format!("{sockets}/monitor/{id}/{key}/listen"),
        "controlUrl": format!("{base}/monitor/{id}/{key}/control"),
    }))
}

fn open(registry: &Registry, call: &str, key: &str) -> Result<CallId, ApiError> {
    // The same answer to every wrong URL.
    let unknown = || ApiError::NotFound("there is no such live call".to_owned());
    let id: CallId = call.parse().map_err(|_| unknown())?;
    match registry.is_monitor_key(id, key) {
        true => Ok(id),
        false => Err(unknown()),
    }
}

async fn listen(
    State(registry): State<Registry>,
    Path((call, key)): Path<(String, String)>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, ApiError> {
    let id = open(&registry, &call, &key)?;
    let listener = registry.listen(id).ok_or_else(|| over(id))?;
    let upgrade = upgrade.max_message_size(LARGEST_MESSAGE);
    Ok(upgrade.on_upgrade(move |socket| live::listen(socket, listener)))
}

async fn events(
    State(registry): State<Registry>,
    Path((call, key)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let id = open(&registry, &call, &key)?;
    live::one_call(&registry, id)
}

async fn control(
    State(registry): State<Registry>,
    Path((call, key)): Path<(String, String)>,
    Json(message): Json<ControlMessage>,
) -> Result<impl IntoResponse, ApiError> {
    let id = open(&registry, &call, &key)?;
    live::control(&registry, id, message).await?;
    Ok((StatusCode::OK, Json(json!({ "id": id }))))
}
