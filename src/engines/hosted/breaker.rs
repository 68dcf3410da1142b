//! Whether a provider that failed is asked again.
//!
//! ```text
//!              two failures in a row, a refused key, a limit
//!   ┌─────────┐ ─────────────────────────────────────────────► ┌──────────────────┐
//!   │ Working │                                                │ Resting { until }│◄─┐
//!   └─────────┘ ◄── served ── ┌─────────┐ ◄─ until has passed ─└──────────────────┘  │
//!                             │ Probing │ ── failed: twice as long ──────────────────┘
//!                             └─────────┘
//! ```
//!
//! While it rests the local engine serves at once, so that a dead provider costs two turns its
//! deadline and not every one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::error::HostedError;

/// Failures in a row that make a provider rest. One may be chance.
const FAILURES: u32 = 2;
const FIRST_REST: Duration = Duration::from_secs(5);
const LONGEST_REST: Duration = Duration::from_secs(120);
/// A key does not become right by itself.
const KEY_REST: Duration = Duration::from_secs(60);
const LIMIT_REST: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Working { failures: u32 },
    Resting { until: Instant, rest: Duration },
    Probing { rest: Duration },
}

/// The state machine. Pure.
#[derive(Debug)]
struct Breaker(State);

impl Breaker {
    fn enter(&mut self, now: Instant) -> bool {
        match self.0 {
            State::Working { .. } => true,
            State::Resting { until, rest } if until <= now => {
                self.0 = State::Probing { rest };
                true
            }
            State::Resting { .. } | State::Probing { .. } => false,
        }
    }

    fn served(&mut self) {
        self.0 = State::Working { failures: 0 };
    }

    fn failed(&mut self, error: &HostedError, now: Instant) {
        let before = match self.0 {
            State::Working { .. } => Duration::ZERO,
            State::Resting { rest, .. } | State::Probing { rest } => rest,
        };
        let longer = (before * 2).clamp(FIRST_REST, LONGEST_REST);
        let rest = match (error, self.0) {
            (HostedError::Unauthorised, _) => longer.max(KEY_REST),
            (HostedError::RateLimited { retry_after }, _) => retry_after.unwrap_or(LIMIT_REST),
            (_, State::Working { failures }) if failures + 1 < FAILURES => {
                self.0 = State::Working {
                    failures: failures + 1,
                };
                return;
            }
            (_, _) => longer,
        };
        self.0 = State::Resting {
            until: now + rest,
            rest,
        };
    }

    /// A probe was thrown away before its outcome was known: the next request probes.
    fn abandoned(&mut self, now: Instant) {
        if let State::Probing { rest } = self.0 {
            self.0 = State::Resting { until: now, rest };
        }
    }
}

/// A provider's breaker, shared by all calls.
#[derive(Clone, Debug)]
pub(super) struct Gate(Arc<Mutex<Breaker>>);

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Breaker(State::Working {
            failures: 0,
        }))))
    }
}

impl Gate {
    /// Leave to ask the provider now.
    pub(super) fn enter(&self) -> Result<Permit, HostedError> {
        match self.lock().enter(Instant::now()) {
            true => Ok(Permit {
                gate: self.clone(),
                reported: false,
            }),
            false => Err(HostedError::Resting),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Breaker> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request to a provider. Dropped without a report where the request was thrown away.
#[derive(Debug)]
pub(super) struct Permit {
    gate: Gate,
    reported: bool,
}

impl Permit {
    pub(super) fn served(mut self) {
        self.reported = true;
        self.gate.lock().served();
    }

    pub(super) fn failed(mut self, error: &HostedError) {
        self.reported = true;
        self.gate.lock().failed(error, Instant::now());
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.reported {
            self.gate.lock().abandoned(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn working() -> Breaker {
        Breaker(State::Working { failures: 0 })
    }

    #[test]
    fn one_failure_is_chance_and_two_make_it_rest_longer_each_time() {
        let mut breaker = working();
        let mut now = Instant::now();
        breaker.failed(&HostedError::Cut, now);
        assert!(breaker.enter(now), "one failure");
        breaker.failed(&HostedError::Cut, now);
        for rest in [5, 10, 20, 40, 80, 120, 120] {
            assert!(!breaker.enter(now + seconds(rest - 1)), "{rest}");
            now += seconds(rest);
            assert!(breaker.enter(now), "{rest}");
            assert!(!breaker.enter(now), "one probe at a time");
            breaker.failed(&HostedError::Cut, now);
        }
    }

    #[test]
    fn a_served_request_forgets_what_failed_before() {
        let mut breaker = working();
        let now = Instant::now();
        breaker.failed(&HostedError::Cut, now);
        breaker.served();
        breaker.failed(&HostedError::Cut, now);
        assert!(breaker.enter(now));
    }

    #[test]
    fn a_limit_is_kept_for_as_long_as_the_server_says() {
        let mut breaker = working();
        let now = Instant::now();
        let retry_after = Some(seconds(17));
        breaker.failed(&HostedError::RateLimited { retry_after }, now);
        assert!(!breaker.enter(now + seconds(16)));
        assert!(breaker.enter(now + seconds(17)));
    }

    #[test]
    fn a_refused_key_rests_for_a_minute_at_once() {
        let mut breaker = working();
        let now = Instant::now();
        breaker.failed(&HostedError::Unauthorised, now);
        assert!(!breaker.enter(now + seconds(59)));
        assert!(breaker.enter(now + seconds(60)));
    }

    #[test]
    fn a_probe_that_is_thrown_away_leaves_the_next_request_to_probe() {
        let mut breaker = working();
        let now = Instant::now();
        breaker.failed(&HostedError::Unauthorised, now);
        let later = now + seconds(60);
        assert!(breaker.enter(later));
        breaker.abandoned(later);
        assert!(breaker.enter(later));
    }
}
