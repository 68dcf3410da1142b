//! Messages that callers left.

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use serde::Deserialize;
use tower_http::services::ServeFile;

use super::Dashboard;
use crate::http::error::ApiError;
use crate::ids::VoicemailId;
use crate::record::{Voicemail, VoicemailState};

/// Messages that are listed, the newest.
const MOST: usize = 500;

/// Every mailbox's messages, newest first.
pub(super) async fn list(
    State(dashboard): State<Dashboard>,
) -> Result<Json<Vec<Voicemail>>, ApiError> {
    let mut messages = dashboard.store.voicemails(None).await?;
    messages.truncate(MOST);
    Ok(Json(messages))
}

async fn find(dashboard: &Dashboard, id: VoicemailId) -> Result<Voicemail, ApiError> {
    let found = dashboard.store.voicemail(id).await?;
    found.ok_or_else(|| ApiError::no("message", &id.to_string()))
}

/// A message's sound; parts of it where asked for.
pub(super) async fn sound(
    State(dashboard): State<Dashboard>,
    Path(id): Path<VoicemailId>,
    request: Request,
) -> Result<Response, ApiError> {
    let message = find(&dashboard, id).await?;
    let path = dashboard.data.join(&message.file);
    let served = ServeFile::new(path).try_call(request).await;
    let served = served.map_err(|error| ApiError::Unavailable(format!("message: {error}")))?;
    Ok(served.into_response())
}

/// What a message becomes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mark {
    state: VoicemailState,
}

/// Marks a message as heard, or as new again.
pub(super) async fn mark(
    State(dashboard): State<Dashboard>,
    Path(id): Path<VoicemailId>,
    Json(mark): Json<Mark>,
) -> Result<StatusCode, ApiError> {
    let message = find(&dashboard, id).await?;
    if mark.state == VoicemailState::Recording {
        return Err(ApiError::invalid("state: must be new or saved"));
    }
    if message.state == VoicemailState::Recording {
        return Err(ApiError::Conflict(
            "the message is being left now".to_owned(),
        ));
    }
    dashboard.store.mark_voicemail(id, mark.state).await?;
    (dashboard.mailbox_changed)(message.mailbox.as_str());
    Ok(StatusCode::NO_CONTENT)
}

/// Deletes a message.
pub(super) async fn delete(
    State(dashboard): State<Dashboard>,
    Path(id): Path<VoicemailId>,
) -> Result<StatusCode, ApiError> {
    let message = find(&dashboard, id).await?;
    if message.state == VoicemailState::Recording {
        return Err(ApiError::Conflict(
            "the message is being left now".to_owned(),
        ));
    }
    dashboard
        .store
        .delete_voicemail(&dashboard.data, &message)
        .await?;
    (dashboard.mailbox_changed)(message.mailbox.as_str());
    Ok(StatusCode::NO_CONTENT)
}
