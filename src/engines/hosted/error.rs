//! How a hosted engine fails.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::web::Refused;

/// A server that wants to be left alone for longer is asked again after this all the same.
const LONGEST_REST: Duration = Duration::from_secs(300);

/// Which part of a request took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// To the connection.
    Connect,
    /// To the first piece of the answer.
    First,
    /// Between two pieces.
    Between,
    /// To its end.
    Whole,
}

/// Why a hosted engine did not serve a request. Holds nothing that the peer wrote, which may
/// quote a caller or a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostedError {
    /// 401 or 403: the key is wrong, or not good for this.
    #[error("the provider refuses the key")]
    Unauthorised,
    /// 402 or 429: too much was asked.
    #[error("the provider's limit is reached")]
    RateLimited {
        /// What `Retry-After` says.
        retry_after: Option<Duration>,
    },
    /// Another answer than 2xx.
    #[error("the provider answers with status {0}")]
    Status(u16),
    /// The URL leads where nothing may be asked.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// No connection: name, address, TLS.
    #[error("the provider cannot be reached")]
    Unreachable,
    /// A deadline passed.
    #[error("the provider does not answer in time ({0:?})")]
    TimedOut(Stage),
    /// The connection ended in the middle of the answer.
    #[error("the answer broke off")]
    Cut,
    /// The answer is not what the protocol says.
    #[error("the provider's answer is not understood: {0}")]
    Garbage(&'static str),
    /// Not asked, because it has just failed several times.
    #[error("the provider failed just now and is not asked for a while")]
    Resting,
}

impl HostedError {
    /// The label in metrics and in the turn's record.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unauthorised => "unauthorised",
            Self::RateLimited { .. } => "rate_limited",
            Self::Status(_) => "status",
            Self::Refused(_) => "refused",
            Self::Unreachable => "unreachable",
            Self::TimedOut(Stage::Connect) => "connect_timed_out",
            Self::TimedOut(Stage::First) => "first_timed_out",
            Self::TimedOut(Stage::Between) => "between_timed_out",
            Self::TimedOut(Stage::Whole) => "whole_timed_out",
            Self::Cut => "cut",
            Self::Garbage(_) => "garbage",
            Self::Resting => "resting",
        }
    }

    /// What an answer's status means; `None` for success.
    pub(super) fn of_status(status: StatusCode, headers: &HeaderMap) -> Option<Self> {
        match status.as_u16() {
            200..=299 => None,
            401 | 403 => Some(Self::Unauthorised),
            402 | 429 => Some(Self::RateLimited {
                retry_after: retry_after(headers),
            }),
            status => Some(Self::Status(status)),
        }
    }

    /// What went wrong before the answer's head was there.
    pub(super) fn of_request(error: &reqwest::Error) -> Self {
        match error.is_connect() {
            true if error.is_timeout() => Self::TimedOut(Stage::Connect),
            true => Self::Unreachable,
            false => Self::Cut,
        }
    }
}

/// RFC 9110 10.2.3, in seconds; dates are not looked at.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_REST))
}
