//! Operators' sessions: a cookie that only we read, and a token that only our pages know.
//!
//! ```text
//! POST /ui/api/session {name, password} ─▶ rate ─▶ argon2id ─▶ cookie (HttpOnly, SameSite=Strict)
//! any request with the cookie ─▶ session kept and not over?
//!     reads ─▶ yes          anything else ─▶ X-CSRF-Token fits the cookie? ─▶ yes
//! ```

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, Method, header};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use time::OffsetDateTime;
use tokio::sync::Semaphore;

use super::error::ApiError;
use super::identity::hash_of;
use crate::store::Store;

/// How long a session lasts, from the login.
pub(super) const SESSION_HOURS: i64 = 12;

/// The header field that shows that a request comes from our pages.
pub(super) const CSRF_HEADER: &str = "x-csrf-token";

const COOKIE: &str = "offhook_session";

/// Attempts to log in a minute, from one address; as many at once.
const ATTEMPTS_OF_ONE: u32 = 10;

/// The same from all addresses together.
const ATTEMPTS_OF_ALL: u32 = 60;

/// Addresses that are remembered before those that have been quiet are forgotten.
const MOST_ADDRESSES: usize = 10_000;

/// Passwords that are hashed at once: each takes a processor for 30 ms, and 19 MiB.
const HASHED_AT_ONCE: usize = 1;

/// How often people may try to log in.
#[derive(Clone, Debug)]
pub(super) struct Attempts {
    one: Arc<DefaultKeyedRateLimiter<IpAddr>>,
    all: Arc<DefaultDirectRateLimiter>,
    pub(super) hashing: Arc<Semaphore>,
}

impl Default for Attempts {
    fn default() -> Self {
        let quota = |rate| Quota::per_minute(NonZeroU32::new(rate).unwrap_or(NonZeroU32::MIN));
        Self {
            one: Arc::new(RateLimiter::keyed(quota(ATTEMPTS_OF_ONE))),
            all: Arc::new(RateLimiter::direct(quota(ATTEMPTS_OF_ALL))),
            hashing: Arc::new(Semaphore::new(HASHED_AT_ONCE)),
        }
    }
}

impl Attempts {
    /// Counts an attempt.
    ///
    /// # Errors
    /// [`ApiError::TooMany`] where there were too many.
    pub(super) fn count(&self, from: IpAddr) -> Result<(), ApiError> {
        let clock = DefaultClock::default();
        let too_many = |wait: Duration| ApiError::TooMany(wait.as_secs() + 1);
        if self.one.len() > MOST_ADDRESSES {
            self.one.retain_recent();
        }
        self.one
            .check_key(&network(from))
            .map_err(|until| too_many(until.wait_time_from(clock.now())))?;
        self.all
            .check()
            .map_err(|until| too_many(until.wait_time_from(clock.now())))
    }
}

/// Whoever has one IPv6 address has the 2^64 beside it.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

/// The session's token, where the request has one.
pub(super) fn token(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).into_iter();
    let mut cookies = cookies.filter_map(|value| value.to_str().ok());
    cookies.find_map(|cookies| {
        let mut pairs = cookies.split(';').map(str::trim);
        let value = pairs.find_map(|pair| pair.strip_prefix(COOKIE)?.strip_prefix('='))?;
        (value.len() == 64 && value.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(value)
    })
}

/// What our pages show beside the cookie, which they cannot read.
pub(super) fn csrf(token: &str) -> String {
    hash_of(&format!("csrf {token}"))
}

/// The cookie of a session; `None` to take it away. Over TLS, in front of us, it stays there.
pub(super) fn cookie(token: Option<&str>, headers: &HeaderMap) -> String {
    let secure = headers
        .get("x-forwarded-proto")
        .is_some_and(|scheme| scheme.as_bytes().eq_ignore_ascii_case(b"https"));
    let (token, age) = match token {
        Some(token) => (token, SESSION_HOURS * 3600),
        None => ("", 0),
    };
    let secure = if secure { "; Secure" } else { "" };
    format!("{COOKIE}={token}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict{secure}")
}

/// The operator whose session it is; `None` where there is none.
///
/// # Errors
/// [`ApiError::Forged`] where the request would change something and does not come from our
/// pages; a database that fails.
pub(super) async fn operator(
    store: &Store,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Option<String>, ApiError> {
    let Some(token) = token(headers) else {
        return Ok(None);
    };
    let now = OffsetDateTime::now_utc();
    let Some(operator) = store.session(&hash_of(token), now).await? else {
        return Ok(None);
    };
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let shown = headers.get(CSRF_HEADER).map(|value| value.as_bytes());
    if !reads && shown != Some(csrf(token).as_bytes()) {
        return Err(ApiError::Forged);
    }
    if !is_ours(headers) {
        return Err(ApiError::Forged);
    }
    Ok(Some(operator))
}

/// False where a browser says that another site's page asks. WebSockets are asked for with GET.
pub(super) fn is_ours(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let origin = origin.to_str().ok().and_then(|origin| {
        let (_, host) = origin.split_once("://")?;
        Some(host)
    });
    origin.is_some() && origin == host
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let value = |text: &str| HeaderValue::from_str(text).expect("a value");
        pairs
            .iter()
            .map(|(name, text)| (header::HeaderName::from_static(name), value(text)))
            .collect()
    }

    #[test]
    fn a_token_is_found_among_other_cookies_and_is_nothing_else() {
        let good = "ab".repeat(32);
        let found = headers(&[("cookie", &format!("a=b; offhook_session={good}; c=d"))]);
        assert_eq!(token(&found), Some(good.as_str()));
        let other = headers(&[("cookie", &format!("xoffhook_session={good}"))]);
        assert_eq!(token(&other), None);
        let short = headers(&[("cookie", "offhook_session=abcd")]);
        assert_eq!(token(&short), None);
    }

    #[test]
    fn a_page_of_another_site_is_not_ours() {
        let host = ("host", "phone.example.com:8080");
        assert!(is_ours(&headers(&[host])));
        assert!(is_ours(&headers(&[
            host,
            ("origin", "http://phone.example.com:8080")
        ])));
        assert!(!is_ours(&headers(&[
            host,
            ("origin", "http://evil.example.com")
        ])));
        assert!(!is_ours(&headers(&[host, ("origin", "null")])));
    }

    #[test]
    fn ten_attempts_a_minute_from_one_network_and_others_are_not_in_the_way() {
        let attempts = Attempts::default();
        let address = |last| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, last]);
        for last in 0..10 {
            attempts.count(address(last)).expect("allowed");
        }
        assert!(matches!(
            attempts.count(address(99)),
            Err(ApiError::TooMany(_))
        ));
        attempts
            .count(IpAddr::from([192, 0, 2, 1]))
            .expect("another");
    }
}
