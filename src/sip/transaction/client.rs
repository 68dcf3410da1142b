//! The non-INVITE client transaction (RFC 3261 17.1.2).
//!
//! ```text
//!                    | request sent
//!                    v
//!  timer E: resend +--------+
//!          +------>| Trying |-- timer F, transport error --+
//!          +-------|        |                              |
//!                  +--------+                              |
//!                1xx |    | 200-699                        |
//!                    v    |                                |
//!  timer E:  +------------+ timer F, transport error       |
//!  resend +->| Proceeding |--------------------------------+
//!         +--|            |                                |
//!            +------------+                                |
//!        200-699 |    |                                    |
//!                v    v                                    |
//!            +-----------+  timer K   +------------+       |
//!            | Completed |----------->| Terminated |<------+
//!            +-----------+            +------------+
//! ```

use std::time::{Duration, Instant};

use super::{ResponseAction, Tick};
use crate::sip::timers::{Reliability, Timers};

#[derive(Debug)]
enum State {
    Trying {
        retransmit: Option<(Instant, Duration)>,
        fail_at: Instant,
    },
    Proceeding {
        retransmit: Option<Instant>,
        fail_at: Instant,
    },
    Completed {
        until: Instant,
    },
    Terminated,
}

/// One request that we sent, other than INVITE and ACK.
#[derive(Debug)]
pub struct Client {
    state: State,
    timers: Timers,
    reliability: Reliability,
}

impl Client {
    /// Starts with the request that is sent at `now`.
    pub fn new(now: Instant, timers: Timers, reliability: Reliability) -> Self {
        let retransmit = match reliability {
            Reliability::Unreliable => Some((now + timers.e(), timers.e())),
            Reliability::Reliable => None,
        };
        Self {
            state: State::Trying {
                retransmit,
                fail_at: now + timers.f(),
            },
            timers,
            reliability,
        }
    }

    /// A response with this transaction's branch came.
    pub fn handle_response(&mut self, now: Instant, status: u16) -> ResponseAction {
        match &self.state {
            State::Trying {
                retransmit,
                fail_at,
            } if status < 200 => {
                self.state = State::Proceeding {
                    retransmit: retransmit.map(|_| now + self.timers.t2),
                    fail_at: *fail_at,
                };
                ResponseAction::Deliver
            }
            State::Proceeding { .. } if status < 200 => ResponseAction::Deliver,
            State::Trying { .. } | State::Proceeding { .. } => {
                self.state = match self.reliability {
                    Reliability::Unreliable => State::Completed {
                        until: now + self.timers.k(self.reliability),
                    },
                    Reliability::Reliable => State::Terminated,
                };
                ResponseAction::Deliver
            }
            State::Completed { .. } | State::Terminated => ResponseAction::Absorb,
        }
    }

    /// The transport could not send.
    pub fn handle_transport_error(&mut self) -> Tick {
        match self.state {
            State::Trying { .. } | State::Proceeding { .. } => {
                self.state = State::Terminated;
                Tick::Failed
            }
            State::Completed { .. } | State::Terminated => Tick::Nothing,
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) -> Tick {
        let timers = self.timers;
        match &mut self.state {
            State::Trying { fail_at, .. } | State::Proceeding { fail_at, .. }
                if *fail_at <= now =>
            {
                self.state = State::Terminated;
                Tick::Failed
            }
            State::Trying {
                retransmit: Some((at, interval)),
                ..
            } if *at <= now => {
                *interval = timers.next_interval(*interval);
                *at = now + *interval;
                Tick::Retransmit
            }
            State::Proceeding {
                retransmit: Some(at),
                ..
            } if *at <= now => {
                *at = now + timers.t2;
                Tick::Retransmit
            }
            State::Completed { until } if *until <= now => {
                self.state = State::Terminated;
                Tick::Nothing
            }
            _ => Tick::Nothing,
        }
    }

    /// When `handle_timeout` is due, and for which timer.
    pub fn deadline(&self) -> Option<(Instant, &'static str)> {
        let (retransmit, fail_at) = match &self.state {
            State::Trying {
                retransmit,
                fail_at,
            } => (retransmit.map(|(at, _)| at), *fail_at),
            State::Proceeding {
                retransmit,
                fail_at,
            } => (*retransmit, *fail_at),
            State::Completed { until } => return Some((*until, "timer K")),
            State::Terminated => return None,
        };
        match retransmit {
            Some(at) if at < fail_at => Some((at, "timer E")),
            _ => Some((fail_at, "timer F")),
        }
    }

    /// Nothing more will happen.
    pub fn is_terminated(&self) -> bool {
        matches!(self.state, State::Terminated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retransmissions(transaction: &mut Client, start: Instant) -> (Vec<u128>, Option<u128>) {
        let mut times = Vec::new();
        while let Some((at, _)) = transaction.deadline() {
            match transaction.handle_timeout(at) {
                Tick::Retransmit => times.push((at - start).as_millis()),
                Tick::Failed => return (times, Some((at - start).as_millis())),
                Tick::Nothing => {}
            }
        }
        (times, None)
    }

    #[test]
    fn an_unanswered_request_backs_off_to_t2_and_fails_after_32_seconds() {
        let start = Instant::now();
        let mut transaction = Client::new(start, Timers::default(), Reliability::Unreliable);
        let (times, failed) = retransmissions(&mut transaction, start);
        assert_eq!(
            times,
            [
                500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500
            ]
        );
        assert_eq!(failed, Some(32000));
    }

    #[test]
    fn after_a_provisional_response_it_is_sent_again_every_t2() {
        let start = Instant::now();
        let mut transaction = Client::new(start, Timers::default(), Reliability::Unreliable);
        assert_eq!(
            transaction.handle_response(start, 100),
            ResponseAction::Deliver
        );
        let (times, failed) = retransmissions(&mut transaction, start);
        assert_eq!(times, [4000, 8000, 12000, 16000, 20000, 24000, 28000]);
        assert_eq!(failed, Some(32000));
    }

    #[test]
    fn the_final_response_is_delivered_once_and_repeats_are_absorbed_for_t4() {
        let start = Instant::now();
        let mut transaction = Client::new(start, Timers::default(), Reliability::Unreliable);
        assert_eq!(
            transaction.handle_response(start, 200),
            ResponseAction::Deliver
        );
        assert_eq!(
            transaction.handle_response(start, 200),
            ResponseAction::Absorb
        );
        assert_eq!(
            transaction.deadline(),
            Some((start + Duration::from_secs(5), "timer K"))
        );
        assert_eq!(retransmissions(&mut transaction, start), (vec![], None));
        assert!(transaction.is_terminated());
    }

    #[test]
    fn a_transport_error_fails_it_at_once() {
        let start = Instant::now();
        let mut transaction = Client::new(start, Timers::default(), Reliability::Reliable);
        assert_eq!(transaction.handle_transport_error(), Tick::Failed);
        assert!(transaction.is_terminated());
    }
}
