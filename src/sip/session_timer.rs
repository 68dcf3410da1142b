//! Session timers (RFC 4028): what is agreed in an INVITE or UPDATE and its 2xx, and when a
//! session is to be refreshed or given up.
//!
//! ```text
//!                 2xx with Session-Expires
//!   none --------------------------------------> running
//!    ^                                           |  ^  |
//!    |        2xx without Session-Expires        |  |  | 2xx to a refresh of either side
//!    `-------------------------------------------'  `--'
//!                                                |
//!                                                | give_up_at: BYE
//!                                                v
//! ```

use std::time::{Duration, Instant};

use serde::Deserialize;

use super::extensions::Support;
use super::headers::{HeaderName, Headers, Refresher, SessionExpires};

/// The option tag.
pub const OPTION: &str = "timer";

/// The smallest interval that RFC 4028 lets anybody ask for, in seconds.
const SMALLEST: u32 = 90;

/// Which side sends the refreshes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RefreshedBy {
    /// We do.
    Us,
    /// The peer does.
    Peer,
}

/// What we ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionTimerSettings {
    /// Whether sessions have timers.
    #[serde(rename = "use")]
    pub support: Support,
    /// The interval that we propose, in seconds.
    #[serde(rename = "interval_seconds")]
    pub interval: u32,
    /// The smallest interval that we take, in seconds; at least 90.
    #[serde(rename = "minimum_seconds")]
    pub minimum: u32,
    /// Who refreshes where the peer leaves it to us; where it does not, its word counts.
    pub refreshed_by: RefreshedBy,
}

impl Default for SessionTimerSettings {
    fn default() -> Self {
        Self {
            support: Support::Supported,
            interval: 1800,
            minimum: SMALLEST,
            refreshed_by: RefreshedBy::Us,
        }
    }
}

impl SessionTimerSettings {
    /// What is wrong with them, as key and what is allowed.
    pub fn mistakes(&self) -> Vec<(&'static str, String)> {
        let mut mistakes = Vec::new();
        if self.minimum < SMALLEST {
            let message = format!("{} is less than the {SMALLEST} of RFC 4028", self.minimum);
            mistakes.push(("minimum_seconds", message));
        }
        if self.interval < self.floor() {
            let message = format!(
                "{} is less than the minimum, {}",
                self.interval,
                self.floor()
            );
            mistakes.push(("interval_seconds", message));
        }
        mistakes
    }

    fn floor(&self) -> u32 {
        self.minimum.max(SMALLEST)
    }
}

/// What a UAS puts into its 2xx.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// Interval and refresher.
    pub expires: SessionExpires,
    /// Whether the UAC must know the extension: the response says so in Require.
    pub required: bool,
}

/// The interval is too small for us: 422 with this Min-SE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSmall(pub u32);

impl Agreement {
    /// What a UAS answers a request with (RFC 4028 section 9); `running` is the session's timer
    /// where there is one already. Values that cannot be read count as absent.
    pub fn with(
        settings: &SessionTimerSettings,
        request: &Headers,
        running: Option<&SessionTimer>,
    ) -> Result<Option<Self>, TooSmall> {
        if settings.support == Support::Off {
            return Ok(None);
        }
        let knows = request.offers(OPTION);
        let asked = request.session_expires().ok().flatten();
        // Refreshes would only give a peer that never asked for any a chance to fail.
        if !knows && asked.is_none() {
            return Ok(None);
        }
        let minimum = request.min_se().ok().flatten().unwrap_or(SMALLEST);
        if let Some(asked) = asked
            && asked.interval < settings.floor()
            && knows
        {
            return Err(TooSmall(settings.floor()));
        }
        let ours = match running {
            Some(timer) => timer.interval,
            None => settings.interval,
        };
        let interval = match asked {
            Some(asked) => asked.interval.min(ours),
            None => ours,
        };
        let interval = interval.max(minimum).max(settings.floor());
        let refresher = match (knows, asked.and_then(|asked| asked.refresher)) {
            // Nobody but us can.
            (false, _) => Refresher::Uas,
            (true, Some(refresher)) => refresher,
            (true, None) => {
                let by = running.map_or(settings.refreshed_by, |timer| timer.by);
                match by {
                    RefreshedBy::Us => Refresher::Uas,
                    RefreshedBy::Peer => Refresher::Uac,
                }
            }
        };
        Ok(Some(Self {
            expires: SessionExpires {
                interval,
                refresher: Some(refresher),
            },
            required: knows && refresher == Refresher::Uac,
        }))
    }

    /// Says so in a 2xx.
    pub fn write(&self, headers: &mut Headers) {
        headers.set(HeaderName::SessionExpires, self.expires);
        if self.required {
            headers.push(HeaderName::Require, OPTION);
        }
    }

    /// The timer that a 2xx with this starts at the UAS.
    pub fn start(&self, now: Instant) -> SessionTimer {
        let by = match self.expires.refresher {
            Some(Refresher::Uac) => RefreshedBy::Peer,
            Some(Refresher::Uas) | None => RefreshedBy::Us,
        };
        SessionTimer::start(now, self.expires.interval, by)
    }
}

/// What a UAC asks for; grows with each 422.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposal {
    interval: u32,
    minimum: u32,
    refresher: Option<Refresher>,
}

impl Proposal {
    /// For the INVITE that starts a session; `None` without timers.
    pub fn first(settings: &SessionTimerSettings) -> Option<Self> {
        let refresher = match settings.refreshed_by {
            // RFC 4028 section 7.1 leaves it to the callee, which may know nothing of timers.
            RefreshedBy::Us => None,
            RefreshedBy::Peer => Some(Refresher::Uas),
        };
        (settings.support != Support::Off).then(|| Self {
            interval: settings.interval.max(settings.floor()),
            minimum: settings.floor(),
            refresher,
        })
    }

    /// For a request inside a session with a timer.
    pub fn again(timer: &SessionTimer) -> Self {
        let refresher = match timer.by {
            RefreshedBy::Us => Refresher::Uac,
            RefreshedBy::Peer => Refresher::Uas,
        };
        Self {
            interval: timer.interval,
            minimum: timer.minimum,
            refresher: Some(refresher),
        }
    }

    /// After a 422 with this Min-SE; `None` where that asks for nothing new.
    pub fn grown(self, minimum: u32) -> Option<Self> {
        (minimum > self.interval).then_some(Self {
            interval: minimum,
            minimum,
            ..self
        })
    }

    /// Says so in a request.
    pub fn write(&self, headers: &mut Headers) {
        let expires = SessionExpires {
            interval: self.interval,
            refresher: self.refresher,
        };
        headers.set(HeaderName::SessionExpires, expires);
        headers.set(HeaderName::MinSe, self.minimum);
    }

    /// The timer that a 2xx starts at the UAC (RFC 4028 section 7.2).
    pub fn accepted(
        &self,
        now: Instant,
        response: &Headers,
        running: Option<&SessionTimer>,
    ) -> Option<SessionTimer> {
        let (interval, by) = match response.session_expires().ok().flatten() {
            Some(expires) => {
                let by = match expires.refresher.or(self.refresher) {
                    Some(Refresher::Uas) => RefreshedBy::Peer,
                    Some(Refresher::Uac) | None => RefreshedBy::Us,
                };
                (expires.interval.max(SMALLEST), by)
            }
            // Our refreshes keep the session alive at a peer that forgot to say so.
            None => match running {
                Some(timer) if timer.by == RefreshedBy::Us => (timer.interval, timer.by),
                _ => return None,
            },
        };
        let mut timer = SessionTimer::start(now, interval, by);
        timer.minimum = self.minimum;
        Some(timer)
    }
}

/// A session's timer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionTimer {
    interval: u32,
    minimum: u32,
    by: RefreshedBy,
    refresh_at: Option<Instant>,
    give_up_at: Instant,
}

impl SessionTimer {
    fn start(now: Instant, interval: u32, by: RefreshedBy) -> Self {
        let length = Duration::from_secs(interval.into());
        // RFC 4028 section 10: a little before the interval is over.
        let margin = Duration::from_secs(32).min(length / 3);
        Self {
            interval,
            minimum: SMALLEST,
            by,
            refresh_at: (by == RefreshedBy::Us).then(|| now + length / 2),
            give_up_at: now + length - margin,
        }
    }

    /// When it is due, and for what.
    pub fn deadline(&self) -> (Instant, &'static str) {
        match self.refresh_at {
            Some(at) if at < self.give_up_at => (at, "session refresh"),
            _ => (self.give_up_at, "session expiry"),
        }
    }

    /// Nobody refreshed it in time.
    pub fn is_over(&self, now: Instant) -> bool {
        self.give_up_at <= now
    }

    /// Whether to refresh now; not again before [`Self::retry`].
    pub fn take_refresh(&mut self, now: Instant) -> bool {
        let due = self.refresh_at.is_some_and(|at| at <= now);
        if due {
            self.refresh_at = None;
        }
        due
    }

    /// A refresh failed, or had to wait: try again at `at`.
    pub fn retry(&mut self, at: Instant) {
        if self.by == RefreshedBy::Us {
            self.refresh_at = Some(at);
        }
    }

    /// A refresh met 422 with this Min-SE.
    pub fn grow(&mut self, minimum: u32, now: Instant) {
        if minimum > self.minimum {
            self.minimum = minimum;
            self.interval = self.interval.max(minimum);
            self.retry(now);
        }
    }
}

#[cfg(test)]
mod tests;
