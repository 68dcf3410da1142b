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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::observe::Component;

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answered");
        answer
    }

    #[tokio::test]
    async fn readiness_names_the_part_that_is_not_ready_while_the_process_is_healthy() {
        let health = Health::new(&[Component::Stt]);
        let routes = Routes {
            health: health.clone(),
            metrics: Metrics::default(),
            scraper: Arc::new(|| Box::pin(async { vec![("sip_legs", 2)] })),
        };
        let (listener, address) = bind(SocketAddr::from(([127, 0, 0, 1], 0)))
            .await
            .expect("port");
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = tokio::spawn(serve(listener, routes, async {
            let _ = stopped.await;
        }));
        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        health.set(
            Component::Stt,
            State::Failed("model missing: x.bin".to_owned()),
        );
        let answer = get(address, "/readyz").await;
        assert!(
            answer.starts_with("HTTP/1.1 503") && answer.contains("model missing: x.bin"),
            "{answer}"
        );
        health.set(Component::Stt, State::Ready);
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        assert!(
            get(address, "/metrics")
                .await
                .contains("offhook_internal{name=\"sip_legs\"} 2")
        );
        drop(stop);
        server.await.expect("task").expect("served");
    }
}
