//! Who asks, and what they may: bearer keys of the API.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use super::Api;
use super::error::ApiError;
use super::session;
use crate::record::Scope;

/// Longest key that is looked at.
const LONGEST_KEY: usize = 256;
/// Whoever shows no good key is answered this often a second, all of them together.
const STRANGERS_PER_SECOND: u32 = 50;

/// Who asks. Extracted in every handler behind [`authorise`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The key's name, for people.
    pub name: String,
    /// What they may.
    pub scopes: BTreeSet<Scope>,
}

impl Identity {
    /// Whether they may do things of this scope.
    ///
    /// # Errors
    /// [`ApiError::Forbidden`] where not.
    pub fn may(&self, scope: Scope) -> Result<(), ApiError> {
        match self.scopes.contains(&scope) {
            true => Ok(()),
            false => Err(ApiError::Forbidden(scope)),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Identity {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let known = parts.extensions.get::<Self>().cloned();
        known.ok_or(ApiError::Unauthenticated(NO_KEY))
    }
}

const NO_KEY: &str = "an API key is needed: Authorization: Bearer KEY \
     (make one with `offhook api-key create --name NAME`)";

/// What is kept of a key.
pub fn hash_of(key: &str) -> String {
    let digest = Sha256::digest(key.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How often keys may ask.
#[derive(Clone, Debug)]
pub struct Rates {
    keys: Arc<DefaultKeyedRateLimiter<String>>,
    strangers: Arc<governor::DefaultDirectRateLimiter>,
}

impl Rates {
    /// `per_second` requests for each key, with bursts of as many.
    pub fn new(per_second: u32) -> Self {
        let quota = |rate: u32| Quota::per_second(NonZeroU32::new(rate).unwrap_or(NonZeroU32::MIN));
        Self {
            keys: Arc::new(RateLimiter::keyed(quota(per_second))),
            strangers: Arc::new(RateLimiter::direct(quota(STRANGERS_PER_SECOND))),
        }
    }

    fn key(&self, id: &String) -> Result<(), ApiError> {
        self.keys
            .check_key(id)
            .map_err(|until| too_many(until.wait_time_from(DefaultClock::default().now())))
    }

    /// Counts a request of somebody unknown.
    fn stranger(&self) -> Result<(), ApiError> {
        self.strangers
            .check()
            .map_err(|until| too_many(until.wait_time_from(DefaultClock::default().now())))
    }
}

fn too_many(wait: Duration) -> ApiError {
    ApiError::TooMany(wait.as_secs() + 1)
}

/// Lets a request pass that shows a key with the scope; a layer of every route of the API.
pub async fn authorise(
    State((api, scope)): State<(Api, Scope)>,
    mut request: Request,
    next: Next,
) -> Response {
    match identify(&api, request.method(), request.headers()).await {
        Ok(identity) => match identity.may(scope) {
            Ok(()) => {
                request.extensions_mut().insert(identity);
                next.run(request).await
            }
            Err(refused) => refused.into_response(),
        },
        Err(refused) => match api.rates.stranger() {
            Ok(()) => refused.into_response(),
            Err(too_many) => too_many.into_response(),
        },
    }
}

/// Who shows these header fields.
async fn identify(api: &Api, method: &Method, headers: &HeaderMap) -> Result<Identity, ApiError> {
    let Some(shown) = headers.get(header::AUTHORIZATION) else {
        // The dashboard's pages use the API as the operator who is logged in.
        let operator = session::operator(&api.store, method, headers).await?;
        let name = operator.ok_or(ApiError::Unauthenticated(NO_KEY))?;
        let scopes = Scope::ALL.into_iter().collect();
        return Ok(Identity { name, scopes });
    };
    let key = shown.to_str().ok().and_then(|text| {
        let (kind, key) = text.split_once(' ')?;
        kind.eq_ignore_ascii_case("bearer").then_some(key.trim())
    });
    let key = key
        .filter(|key| !key.is_empty() && key.len() <= LONGEST_KEY)
        .ok_or(ApiError::Unauthenticated(NO_KEY))?;
    let known = api.store.api_key(&hash_of(key)).await?;
    let known = known.ok_or(ApiError::Unauthenticated("this API key is not known"))?;
    if known
        .expires_at
        .is_some_and(|at| at <= OffsetDateTime::now_utc())
    {
        return Err(ApiError::Unauthenticated("this API key has expired"));
    }
    api.rates.key(&known.id)?;
    Ok(Identity {
        name: known.name,
        scopes: known.scopes,
    })
}
