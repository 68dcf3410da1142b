//! Errors as Vapi's API has them: `{"statusCode": 400, "error": "Bad Request", "message": …}`.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use serde_json::{Value, json};

use crate::record::Scope;
use crate::store::StoreError;

/// Why a request is not answered with what it asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// 400: fields of the request are wrong; each text names one and what is allowed.
    #[error("{}", .0.join("; "))]
    Invalid(Vec<String>),
    /// 401: no key, a wrong one, or one that is over.
    #[error("{0}")]
    Unauthenticated(&'static str),
    /// 403: the key may not.
    #[error("this key may not do that: it has no scope `{0}`")]
    Forbidden(Scope),
    /// 403: it would change something, and does not come from a page of the dashboard.
    #[error("this request does not come from the dashboard's own page: log in again")]
    Forged,
    /// 404: there is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// 405.
    #[error("this path has no such method")]
    Method,
    /// 409: it cannot be done as things are; the text says why.
    #[error("{0}")]
    Conflict(String),
    /// 413.
    #[error("the body is too large: at most {0} bytes are allowed")]
    TooLarge(usize),
    /// 415.
    #[error("the body must be JSON, with Content-Type: application/json")]
    NotJson,
    /// 429: ask again after so many seconds.
    #[error("too many requests: wait for {0} s")]
    TooMany(u64),
    /// 503: the database cannot be used, or an engine; asking again may help.
    #[error("{0}")]
    Unavailable(String),
}

impl ApiError {
    /// One wrong field.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(vec![message.into()])
    }

    /// No object of that id.
    pub fn no(kind: &str, id: &str) -> Self {
        // What was asked for is the client's text: cut to what an id can be.
        let id: String = id.chars().take(64).collect();
        Self::NotFound(format!("there is no {kind} with id {id:?}"))
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Invalid(_) => StatusCode::BAD_REQUEST,
            Self::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) | Self::Forged => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NotJson => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// What failed is logged; whoever asked learns only that it did.
impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "a request failed");
        Self::Unavailable("the database cannot be used now".to_owned())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status();
        let message = match &self {
            Self::Invalid(messages) => Value::from(messages.clone()),
            other => Value::from(other.to_string()),
        };
        let body = json!({
            "statusCode": status.as_u16(),
            "error": status.canonical_reason().unwrap_or_default(),
            "message": message,
        });
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        match &self {
            Self::Unauthenticated(_) => {
                let challenge = HeaderValue::from_static("Bearer");
                headers.insert(header::WWW_AUTHENTICATE, challenge);
            }
            Self::TooMany(seconds) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(*seconds));
            }
            _ => {}
        }
        response
    }
}
