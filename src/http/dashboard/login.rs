//! Logging in and out, and the first operator.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Extension;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use rand::RngExt;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use time::{Duration, OffsetDateTime};

use super::Dashboard;
use crate::http::error::ApiError;
use crate::http::identity::hash_of;
use crate::http::session;
use crate::store::{BadOperator, hash_password, is_password, operator_name};

/// Makes the first operator, once.
#[derive(Clone, Debug, Default)]
pub struct SetupToken(Arc<Mutex<Option<String>>>);

impl SetupToken {
    /// A token to print for whoever started the server; only its hash stays here.
    pub fn draw() -> (Self, String) {
        let token = random();
        let kept = hash_of(&token);
        (Self(Arc::new(Mutex::new(Some(kept)))), token)
    }

    fn is(&self, shown: &str) -> bool {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = Sha256::digest(hash_of(shown));
        kept.as_ref()
            .is_some_and(|kept| Sha256::digest(kept) == shown)
    }

    fn is_open(&self) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }

    fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

fn random() -> String {
    let bytes: [u8; 32] = rand::rng().random();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the pages need to know first: who is logged in, with the token for requests that change
/// something; or whether there is an operator at all.
pub(super) async fn who(
    State(dashboard): State<Dashboard>,
    method: Method,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let operator = session::operator(&dashboard.store, &method, &headers).await?;
    if let (Some(operator), Some(token)) = (operator, session::token(&headers)) {
        return Ok(Json(described(&operator, token)));
    }
    let setup = dashboard.setup.is_open() && dashboard.store.operators().await?.is_empty();
    Ok(Json(json!({ "operator": null, "setup": setup })))
}

fn described(operator: &str, token: &str) -> Value {
    json!({
        "operator": operator,
        "csrf": session::csrf(token),
        "version": env!("CARGO_PKG_VERSION"),
    })
}

/// Name and password.
#[derive(Deserialize)]
pub(super) struct Login {
    name: String,
    password: String,
}

/// Begins a session.
pub(super) async fn log_in(
    State(dashboard): State<Dashboard>,
    Extension(ConnectInfo(from)): Extension<ConnectInfo<SocketAddr>>,
    headers: HeaderMap,
    Json(login): Json<Login>,
) -> Result<Response, ApiError> {
    allowed(&dashboard, from, &headers)?;
    let Login { name, password } = login;
    let kept = dashboard.store.operator_password(&name).await?;
    let good = hashing(&dashboard, move || is_password(&password, kept.as_deref())).await?;
    if !good {
        tracing::warn!(address = %from.ip(), "a login to the dashboard failed");
        return Err(ApiError::Unauthenticated(
            "the name or the password is wrong",
        ));
    }
    begin(&dashboard, &name, &headers).await
}

/// The token that the server printed, and whom to make.
#[derive(Deserialize)]
pub(super) struct Setup {
    token: String,
    name: String,
    password: String,
}

/// Makes the first operator and begins a session.
pub(super) async fn set_up(
    State(dashboard): State<Dashboard>,
    Extension(ConnectInfo(from)): Extension<ConnectInfo<SocketAddr>>,
    headers: HeaderMap,
    Json(setup): Json<Setup>,
) -> Result<Response, ApiError> {
    allowed(&dashboard, from, &headers)?;
    if !dashboard.setup.is(setup.token.trim()) {
        let why = "token: is not the one that `offhook serve` printed at this start";
        return Err(ApiError::invalid(why));
    }
    let Setup { name, password, .. } = setup;
    let invalid = |error: BadOperator| ApiError::invalid(error.to_string());
    operator_name(&name).map_err(invalid)?;
    let salt: [u8; 16] = rand::rng().random();
    let hash = hashing(&dashboard, move || hash_password(&password, &salt)).await?;
    let hash = hash.map_err(invalid)?;
    let now = OffsetDateTime::now_utc();
    let first = dashboard
        .store
        .add_first_operator(&name, &hash, now)
        .await?;
    dashboard.setup.close();
    match first {
        true => begin(&dashboard, &name, &headers).await,
        false => Err(ApiError::Conflict(
            "there is an operator already".to_owned(),
        )),
    }
}

fn allowed(dashboard: &Dashboard, from: SocketAddr, headers: &HeaderMap) -> Result<(), ApiError> {
    if !session::is_ours(headers) {
        return Err(ApiError::Forged);
    }
    dashboard.attempts.count(from.ip())
}

/// Beside the runtime's own threads, which calls need.
async fn hashing<T: Send + 'static>(
    dashboard: &Dashboard,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    let unavailable = || ApiError::Unavailable("the server is stopping".to_owned());
    let place = dashboard.attempts.hashing.acquire().await;
    let _place = place.map_err(|_| unavailable())?;
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| unavailable())
}

async fn begin(
    dashboard: &Dashboard,
    operator: &str,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let token = random();
    let now = OffsetDateTime::now_utc();
    let until = now + Duration::hours(session::SESSION_HOURS);
    let hash = hash_of(&token);
    let begun = dashboard.store.begin_session(&hash, operator, now, until);
    begun.await?;
    tracing::info!(operator, "logged in to the dashboard");
    let cookie = [(header::SET_COOKIE, session::cookie(Some(&token), headers))];
    Ok((cookie, Json(described(operator, &token))).into_response())
}

/// Ends the session.
pub(super) async fn log_out(
    State(dashboard): State<Dashboard>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let known = session::operator(&dashboard.store, &method, &headers).await?;
    if let (Some(_), Some(token)) = (known, session::token(&headers)) {
        dashboard.store.end_session(&hash_of(token)).await?;
    }
    let cookie = [(header::SET_COOKIE, session::cookie(None, &headers))];
    Ok((StatusCode::NO_CONTENT, cookie).into_response())
}
