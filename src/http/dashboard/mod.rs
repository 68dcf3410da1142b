//! The dashboard under `/ui`: its pages, and what they ask for.
//!
//! ```text
//! /ui/…          pages, scripts, styles: built in, for everybody
//! /ui/api/session, /ui/api/setup   who one is: for everybody, slowly
//! /ui/api/…      everything else: for operators with a session
//! ```

mod assets;
mod calls;
mod live;
mod login;
mod numbers;
mod overview;
mod talk;
mod voicemail;

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};

use super::error::ApiError;
use super::session::{self, Attempts};
use crate::call::{Dialler, Registry};
use crate::directory::Directory;
use crate::observe::{Health, TrunkBoard};
use crate::store::Store;

pub use login::SetupToken;
pub use numbers::Configured;
pub use overview::{Load, watch_load};
pub use talk::{PlacedTestCall, TestCallRefusal, TestCaller};

/// What the dashboard shows and acts on. Handles only; cheap to clone.
#[derive(Clone)]
pub struct Dashboard {
    /// What is kept.
    pub store: Store,
    /// Knows what an assistant may be.
    pub directory: Directory,
    /// The data folder, for recordings and messages.
    pub data: Arc<PathBuf>,
    /// Live calls.
    pub registry: Registry,
    /// Where the trunks stand.
    pub trunks: TrunkBoard,
    /// Whether calls can be taken.
    pub health: Health,
    /// How busy the engines were.
    pub load: Load,
    /// Begins calls.
    pub dialler: Dialler,
    /// Calls assistants from the browser.
    pub test_caller: TestCaller,
    /// Is told of a mailbox that was changed; false where there is no such one.
    pub mailbox_changed: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    /// What the configuration file has.
    pub configured: Configured,
    /// Makes the first operator, while there is none.
    pub setup: SetupToken,
    attempts: Attempts,
}

/// What a dashboard is made of.
pub struct Parts {
    /// See [`Dashboard`].
    pub store: Store,
    /// See [`Dashboard`].
    pub directory: Directory,
    /// See [`Dashboard`].
    pub data: PathBuf,
    /// See [`Dashboard`].
    pub registry: Registry,
    /// See [`Dashboard`].
    pub trunks: TrunkBoard,
    /// See [`Dashboard`].
    pub health: Health,
    /// See [`Dashboard`].
    pub dialler: Dialler,
    /// See [`Dashboard`].
    pub test_caller: TestCaller,
    /// See [`Dashboard`].
    pub mailbox_changed: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    /// See [`Dashboard`].
    pub configured: Configured,
    /// See [`Dashboard`].
    pub setup: SetupToken,
}

impl Dashboard {
    /// Puts it together.
    pub fn new(parts: Parts) -> Self {
        Self {
            store: parts.store,
            directory: parts.directory,
            data: Arc::new(parts.data),
            registry: parts.registry,
            trunks: parts.trunks,
            health: parts.health,
            load: Load::default(),
            dialler: parts.dialler,
            test_caller: parts.test_caller,
            mailbox_changed: parts.mailbox_changed,
            configured: parts.configured,
            setup: parts.setup,
            attempts: Attempts::default(),
        }
    }
}

/// The routes.
pub(super) fn routes(dashboard: Dashboard) -> Router {
    let behind = Router::new()
        .route("/ui/api/overview", get(overview::overview))
        .route("/ui/api/live", get(live::list))
        .route("/ui/api/live/events", get(live::events))
        .route("/ui/api/live/{id}", get(live::one))
        .route("/ui/api/live/{id}/events", get(live::events_of))
        .route("/ui/api/live/{id}/listen", get(live::listen))
        .route("/ui/api/live/{id}/control", post(live::control))
        .route("/ui/api/dial", post(live::dial))
        .route("/ui/api/talk", get(talk::talk))
        .route("/ui/api/calls", get(calls::search))
        .route("/ui/api/calls/export", get(calls::export))
        .route("/ui/api/calls/{id}", get(calls::one))
        .route("/ui/api/calls/{id}/recording", get(calls::recording))
        .route("/ui/api/trunks", get(numbers::trunks))
        .route("/ui/api/configured", get(numbers::configured))
        .route("/ui/api/assistants/check", post(numbers::check))
        .route("/ui/api/voicemails", get(voicemail::list))
        .route(
            "/ui/api/voicemails/{id}",
            axum::routing::patch(voicemail::mark).delete(voicemail::delete),
        )
        .route("/ui/api/voicemails/{id}/sound", get(voicemail::sound))
        .route_layer(middleware::from_fn_with_state(dashboard.clone(), guard));
    let open = Router::new()
        .route("/ui", get(|| async { Redirect::permanent("/ui/") }))
        .route("/ui/", get(assets::index))
        .route("/ui/{*path}", get(assets::file))
        .route(
            "/ui/api/session",
            get(login::who).post(login::log_in).delete(login::log_out),
        )
        .route("/ui/api/setup", post(login::set_up));
    open.merge(behind)
        .layer(middleware::from_fn(secure))
        .with_state(dashboard)
}

/// Lets operators pass.
async fn guard(State(dashboard): State<Dashboard>, request: Request, next: Next) -> Response {
    let known = session::operator(&dashboard.store, request.method(), request.headers());
    match known.await {
        Ok(Some(_)) => next.run(request).await,
        Ok(None) => ApiError::Unauthenticated("log in to the dashboard").into_response(),
        Err(refused) => refused.into_response(),
    }
}

/// What browsers must not do with our pages: run or load anything of others, show them in frames.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; media-src 'self' blob:; connect-src 'self'; font-src 'self'; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

async fn secure(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let unsaid = HeaderValue::from_static("no-store");
    headers.entry(header::CACHE_CONTROL).or_insert(unsaid);
    response
}
