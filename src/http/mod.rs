//! HTTP for machines that watch us: `/healthz` (the process lives), `/readyz` (it takes calls, or
//! why not) and `/metrics`.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::extract::State as Shared;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json};
use axum::routing::get;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

use crate::observe::{Health, Metrics, Scrape, State};

/// Collects what other parts count, at the moment of a scrape.
pub type Scraper = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Scrape> + Send>> + Send + Sync>;

/// What the routes need.
#[derive(Clone)]
pub struct Routes {
    /// For `/readyz`.
    pub health: Health,
    /// For `/metrics`.
    pub metrics: Metrics,
    /// For `/metrics`.
    pub scraper: Scraper,
}

/// The listener could not be opened: the operator's fault, not to be retried.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for HTTP on {address}: {source}")]
pub struct BindError {
    /// The address asked for.
    pub address: SocketAddr,
    /// Why not.
    pub source: io::Error,
}

/// Opens the listener and returns it with its address, port resolved.
///
/// # Errors
/// Where it cannot be opened.
pub async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), BindError> {
    let failed = |source| BindError { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Serves until `stop` resolves.
///
/// # Errors
/// Where accepting fails for good.
pub async fn serve(
    listener: TcpListener,
    routes: Routes,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, router(routes))
        .with_graceful_shutdown(stop)
        .await
}

fn router(routes: Routes) -> Router {
    Router::new()
        .route(
            "/healthz",
            get(|| async { Json(json!({ "status": "ok" })) }),
        )
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(routes)
}

async fn ready(Shared(routes): Shared<Routes>) -> impl IntoResponse {
    let components: Map<String, Value> = routes
        .health
        .snapshot()
        .into_iter()
        .map(|(component, state)| (component.name().to_owned(), describe(&state)))
        .collect();
    let (status, word) = match routes.health.is_ready() {
        true => (StatusCode::OK, "ready"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
    };
    (
        status,
        Json(json!({ "status": word, "components": components })),
    )
}

fn describe(state: &State) -> Value {
    match state {
        State::Ready => json!({ "status": "ready" }),
        State::Starting => json!({ "status": "starting" }),
        State::Restarting => json!({ "status": "restarting" }),
        State::Failed(reason) => json!({ "status": "failed", "reason": reason }),
    }
}

async fn metrics(Shared(routes): Shared<Routes>) -> impl IntoResponse {
    let scrape = (routes.scraper)().await;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], routes.metrics.text(&scrape))
}
