//! Other people's HTTP servers: programs that come and go.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// Serves on a port of its own, in threads of its own, until it is dropped.
pub(crate) struct Program {
    _runtime: Runtime,
}

impl Program {
    pub(crate) fn serve(port: u16, router: Router) -> Self {
        let runtime = Runtime::new().expect("threads");
        let listener = runtime
            .block_on(TcpListener::bind(("127.0.0.1", port)))
            .expect("the port");
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { _runtime: runtime }
    }
}

/// The messages that a receiver got.
pub(crate) type Told = Arc<Mutex<Vec<Value>>>;

/// Takes an assistant's messages, at `/hook`.
pub(crate) fn receiver(told: Told) -> Router {
    async fn take(State(told): State<Told>, body: String) -> StatusCode {
        let message: Value = serde_json::from_str(&body).expect("JSON");
        told.lock()
            .expect("no panic")
            .push(message["message"].clone());
        StatusCode::OK
    }
    Router::new().route("/hook", post(take)).with_state(told)
}
