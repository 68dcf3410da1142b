//! HTTP: the API in Vapi's vocabulary, for those who show a key; and for machines that watch us
//! `/healthz` (the process lives), `/readyz` (it takes calls, or why not) and `/metrics`.
//!
//! ```text
//! request ─▶ id ─▶ CORS ─▶ size ─┬─▶ /healthz, /readyz, /metrics
//!                                └─▶ key and scope ─▶ rate ─▶ handler ─▶ store, registry
//! ```

mod call_shape;
mod calls;
mod dashboard;
mod documentation;
mod error;
mod extract;
mod identity;
mod live;
mod monitor;
mod objects;
mod placing;
mod recordings;
mod session;
mod shapes;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State as Shared};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Json};
use axum::routing::get;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

use tower_http::cors::{AllowOrigin, CorsLayer};
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};

use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::SwaggerUi;

use documentation::Documentation;

use crate::call::{Dialler, Registry};
use crate::directory::Directory;
use crate::observe::{Health, Metrics, Scrape, State};
use crate::record::Scope;
use crate::store::Store;

pub use dashboard::{
    Configured, Dashboard, Load, Parts, PlacedTestCall, SetupToken, TestCallRefusal, TestCaller,
    watch_load,
};
pub use error::ApiError;
pub use identity::{Identity, Rates, authorise, hash_of};
pub use placing::scheduled_request;

/// Largest body of a request, in bytes.
pub const LARGEST_BODY: usize = 1 << 20;

/// The header field with each request's id.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

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

/// What the API needs. Handles only; cheap to clone.
#[derive(Clone)]
pub struct Api {
    /// What is kept.
    pub store: Store,
    /// Assistants, phone numbers, credentials.
    pub directory: Directory,
    /// Live calls.
    pub registry: Registry,
    /// Places calls.
    pub dialler: Dialler,
    /// Data folder.
    pub data: PathBuf,
    /// The URL that this server is reached at, where it is not the one that a request names.
    pub public_url: Option<String>,
    /// How often keys may ask.
    pub rates: Rates,
    /// Origins that browsers may use it from.
    pub cors_origins: Vec<String>,
}

impl Api {
    /// What the URLs of this server's files begin with.
    fn base(&self, headers: &HeaderMap) -> String {
        match &self.public_url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => calls::base(headers),
        }
    }
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
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    // Logging in is limited by address.
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service)
        .with_graceful_shutdown(stop)
        .await
}

/// What machines that watch us ask.
fn watched(routes: Routes) -> Router {
    Router::new()
        .route(
            "/healthz",
            get(|| async { Json(json!({ "status": "ok" })) }),
        )
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(routes)
}

/// Everything that is served.
pub fn router(routes: Routes, api: Api, dashboard: Dashboard) -> Router {
    let cors = cors(&api.cors_origins);
    let (reading, description) = reading().split_for_parts();
    let (writing, of_writing) = writing().split_for_parts();
    let (calling, of_calling) = calling().split_for_parts();
    let mut whole = Documentation::openapi();
    for part in [description, of_writing, of_calling] {
        whole.merge(part);
    }
    watched(routes)
        .merge(SwaggerUi::new("/docs").url("/openapi.json", whole))
        .merge(
            guarded(&api, Scope::Read, reading)
                .merge(guarded(&api, Scope::Write, writing))
                .merge(guarded(&api, Scope::Call, calling))
                .with_state(api),
        )
        .merge(monitor::routes(dashboard.registry.clone()))
        .merge(dashboard::routes(dashboard))
        .fallback(|| async { ApiError::NotFound("there is no such path".to_owned()) })
        .method_not_allowed_fallback(|| async { ApiError::Method })
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(cors)
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        .layer(SetRequestIdLayer::new(REQUEST_ID, MakeRequestUuid))
}

/// Routes behind a key that has a scope.
fn guarded(api: &Api, scope: Scope, routes: Router<Api>) -> Router<Api> {
    routes.route_layer(middleware::from_fn_with_state(
        (api.clone(), scope),
        authorise,
    ))
}

/// What needs the scope `read`.
fn reading() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(objects::assistants::list))
        .routes(routes!(objects::assistants::get))
        .routes(routes!(objects::phone_numbers::list))
        .routes(routes!(objects::phone_numbers::get))
        .routes(routes!(objects::credentials::list))
        .routes(routes!(objects::credentials::get))
        .routes(routes!(calls::list))
        .routes(routes!(calls::get))
        .routes(routes!(recordings::mono))
        .routes(routes!(recordings::stereo))
        .routes(routes!(recordings::customer))
        .routes(routes!(recordings::assistant))
        .routes(routes!(recordings::packets))
        .routes(routes!(recordings::log))
        .routes(routes!(recordings::transcript))
}

/// What needs the scope `write`.
fn writing() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(objects::assistants::create))
        .routes(routes!(
            objects::assistants::change,
            objects::assistants::delete
        ))
        .routes(routes!(objects::phone_numbers::create))
        .routes(routes!(
            objects::phone_numbers::change,
            objects::phone_numbers::delete
        ))
        .routes(routes!(objects::credentials::create))
        .routes(routes!(
            objects::credentials::change,
            objects::credentials::delete
        ))
}

/// What needs the scope `call`.
fn calling() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(calls::create))
        .routes(routes!(calls::change, calls::delete))
}

/// None where no origin is allowed.
fn cors(origins: &[String]) -> CorsLayer {
    let origins: Vec<HeaderValue> = origins
        .iter()
        .filter_map(|origin| HeaderValue::from_str(origin).ok())
        .collect();
    if origins.is_empty() {
        return CorsLayer::new();
    }
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::POST, Method::PATCH, Method::DELETE])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, header::RANGE])
        .expose_headers([REQUEST_ID, header::CONTENT_RANGE])
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
        let server = tokio::spawn(serve(listener, watched(routes), async {
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
