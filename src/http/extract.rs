//! What is read of requests, refused in the API's own words.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::LARGEST_BODY;
use super::error::ApiError;
use crate::store::Times;

/// A body that is a JSON object.
pub(super) struct Body(pub(super) Map<String, Value>);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let kind = request.headers().get(header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.to_ascii_lowercase().contains("json") {
            return Err(ApiError::NotJson);
        }
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|rejected| match rejected.status() {
                StatusCode::PAYLOAD_TOO_LARGE => ApiError::TooLarge(LARGEST_BODY),
                _ => ApiError::invalid("the body did not arrive whole"),
            })?;
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err(ApiError::invalid("the body must be a JSON object")),
            Err(error) => Err(ApiError::invalid(format!("the body is not JSON: {error}"))),
        }
    }
}

/// Parameters of the query.
pub(super) struct Parameters<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        match query {
            Ok(Query(parameters)) => Ok(Self(parameters)),
            Err(rejected) => Err(ApiError::invalid(rejected.body_text())),
        }
    }
}

/// What a page of anything may be narrowed by.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct Page {
    /// At most this many, newest first; 0 to 1000, 100 where not given.
    #[param(minimum = 0, maximum = 1000)]
    limit: Option<u32>,
    /// Made after this time (RFC 3339).
    #[param(format = "date-time")]
    created_at_gt: Option<String>,
    /// Made at this time or after it.
    #[param(format = "date-time")]
    created_at_ge: Option<String>,
    /// Made before this time.
    #[param(format = "date-time")]
    created_at_lt: Option<String>,
    /// Made at this time or before it.
    #[param(format = "date-time")]
    created_at_le: Option<String>,
    /// Changed after this time.
    #[param(format = "date-time")]
    updated_at_gt: Option<String>,
    /// Changed at this time or after it.
    #[param(format = "date-time")]
    updated_at_ge: Option<String>,
    /// Changed before this time.
    #[param(format = "date-time")]
    updated_at_lt: Option<String>,
    /// Changed at this time or before it.
    #[param(format = "date-time")]
    updated_at_le: Option<String>,
}

/// A page, read.
pub(super) struct Window {
    pub(super) limit: u32,
    pub(super) created: Times,
    pub(super) updated: Times,
}

impl Page {
    pub(super) fn window(&self) -> Result<Window, ApiError> {
        let limit = self.limit.unwrap_or(100);
        if limit > 1000 {
            return Err(ApiError::invalid("limit: must be from 0 to 1000"));
        }
        Ok(Window {
            limit,
            created: Times {
                gt: time("createdAtGt", self.created_at_gt.as_deref())?,
                ge: time("createdAtGe", self.created_at_ge.as_deref())?,
                lt: time("createdAtLt", self.created_at_lt.as_deref())?,
                le: time("createdAtLe", self.created_at_le.as_deref())?,
            },
            updated: Times {
                gt: time("updatedAtGt", self.updated_at_gt.as_deref())?,
                ge: time("updatedAtGe", self.updated_at_ge.as_deref())?,
                lt: time("updatedAtLt", self.updated_at_lt.as_deref())?,
                le: time("updatedAtLe", self.updated_at_le.as_deref())?,
            },
        })
    }
}

fn time(field: &str, text: Option<&str>) -> Result<Option<OffsetDateTime>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    // Years beyond four digits cannot be compared as text.
    match OffsetDateTime::parse(text, &Rfc3339) {
        Ok(at) if (1..=9998).contains(&at.year()) => Ok(Some(at)),
        Ok(_) | Err(_) => Err(ApiError::invalid(format!(
            "{field}: must be a time like 2026-01-31T12:00:00Z"
        ))),
    }
}

/// Text that a database can look for.
pub(super) fn plain(field: &str, text: Option<String>) -> Result<Option<String>, ApiError> {
    match text {
        Some(text) if text.contains('\0') || text.len() > 1000 => Err(ApiError::invalid(format!(
            "{field}: must have at most 1000 bytes and no zero character"
        ))),
        text => Ok(text),
    }
}
