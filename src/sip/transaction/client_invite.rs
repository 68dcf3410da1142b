//! The INVITE client transaction (RFC 3261 17.1.1 with RFC 6026).
//!
//! ```text
//!                        | INVITE sent
//!                        v
//!     timer A: resend +-----------+
//!              +----->|  Calling  |-- timer B, transport error ------------+
//!              +------|           |                                        |
//!                     +-----------+                                        |
//!             1xx |     | 2xx   | 300-699: ACK                             |
//!                 v     |       |                                          |
//!     +------------+    |       |                                          |
//!     | Proceeding |--- | ----->| 300-699: ACK                             |
//!     +------------+    |       v                                          |
//!        |   | 2xx      |   +-----------+ 300-699: ACK                     |
//!        |   |          |   | Completed |-----+                            |
//!        |   v          v   +-----------+<----+                            |
//!        |  +------------+        | timer D                                |
//!        |  |  Accepted  |--+     |                                        |
//!        |  +------------+<-+ 2xx to the user                              |
//!        |        | timer M       |                                        |
//!        v        v               v                                        |
//!     +----------------------------------+                                 |
//!     |            Terminated            |<--------------------------------+
//!     +----------------------------------+
//! ```
//! Proceeding ends by itself only after `give_up`: 64·T1 later the server is taken for dead
//! (RFC 3261 9.1).

use std::time::{Duration, Instant};

use super::{ResponseAction, Tick};
use crate::sip::timers::{Reliability, Timers};

#[derive(Debug)]
enum State {
    Calling {
        retransmit: Option<(Instant, Duration)>,
        fail_at: Instant,
    },
    Proceeding,
    Completed {
        until: Instant,
    },
    Accepted {
        until: Instant,
    },
    Terminated,
}

/// One INVITE that we sent.
#[derive(Debug)]
pub struct ClientInvite {
    state: State,
    timers: Timers,
    reliability: Reliability,
    give_up_at: Option<Instant>,
}

impl ClientInvite {
    /// Starts with the INVITE that is sent at `now`.
    pub fn new(now: Instant, timers: Timers, reliability: Reliability) -> Self {
        let retransmit = match reliability {
            Reliability::Unreliable => Some((now + timers.a(), timers.a())),
            Reliability::Reliable => None,
        };
        Self {
            state: State::Calling {
                retransmit,
                fail_at: now + timers.b(),
            },
            timers,
            reliability,
            give_up_at: None,
        }
    }

    /// A response with this transaction's branch came.
    pub fn handle_response(&mut self, now: Instant, status: u16) -> ResponseAction {
        match (&self.state, status) {
            (State::Calling { .. }, 100..=199) => {
                self.state = State::Proceeding;
                ResponseAction::Deliver
            }
            (State::Proceeding, 100..=199) => ResponseAction::Deliver,
            (State::Calling { .. } | State::Proceeding, 200..=299) => {
                self.state = State::Accepted {
                    until: now + self.timers.m(),
                };
                ResponseAction::Deliver
            }
            (State::Calling { .. } | State::Proceeding, 300..=699) => {
                self.complete(now);
                ResponseAction::AckAndDeliver
            }
            (State::Completed { .. }, 300..=699) => ResponseAction::Ack,
            (State::Accepted { .. }, 200..=299) => ResponseAction::Deliver,
            _ => ResponseAction::Absorb,
        }
    }

    fn complete(&mut self, now: Instant) {
        self.state = match self.reliability {
            Reliability::Unreliable => State::Completed {
                until: now + self.timers.d(self.reliability),
            },
            Reliability::Reliable => State::Terminated,
        };
    }

    /// The peer answered provisionally, so that CANCEL may be sent (RFC 3261 9.1).
    pub fn may_cancel(&self) -> bool {
        matches!(self.state, State::Proceeding)
    }

    /// The INVITE is cancelled, or its dialog is over: a final response that does not come
    /// within 64·T1 is not waited for.
    pub fn give_up(&mut self, now: Instant) {
        self.give_up_at = Some(now + self.timers.transaction_timeout());
    }

    /// The transport could not send.
    pub fn handle_transport_error(&mut self) -> Tick {
        match self.state {
            State::Calling { .. } => {
                self.state = State::Terminated;
                Tick::Failed
            }
            _ => Tick::Nothing,
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) -> Tick {
        match &mut self.state {
            State::Calling { fail_at, .. } if *fail_at <= now => {
                self.state = State::Terminated;
                Tick::Failed
            }
            State::Calling {
                retransmit: Some((at, interval)),
                ..
            } if *at <= now => {
                *interval *= 2;
                *at = now + *interval;
                Tick::Retransmit
            }
            State::Proceeding if self.give_up_at.is_some_and(|at| at <= now) => {
                self.state = State::Terminated;
                Tick::Failed
            }
            State::Completed { until } | State::Accepted { until } if *until <= now => {
                self.state = State::Terminated;
                Tick::Nothing
            }
            _ => Tick::Nothing,
        }
    }

    /// When `handle_timeout` is due, and for which timer.
    pub fn deadline(&self) -> Option<(Instant, &'static str)> {
        match &self.state {
            State::Calling {
                retransmit: Some((at, _)),
                fail_at,
            } if at < fail_at => Some((*at, "timer A")),
            State::Calling { fail_at, .. } => Some((*fail_at, "timer B")),
            State::Proceeding => self.give_up_at.map(|at| (at, "abandoned INVITE")),
            State::Completed { until } => Some((*until, "timer D")),
            State::Accepted { until } => Some((*until, "timer M")),
            State::Terminated => None,
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

    fn calling(reliability: Reliability) -> (ClientInvite, Instant) {
        let now = Instant::now();
        (ClientInvite::new(now, Timers::default(), reliability), now)
    }

    /// Runs the transaction until it has no deadline; what happened at which millisecond.
    fn run(transaction: &mut ClientInvite, start: Instant) -> Vec<(u128, Tick)> {
        let mut seen = Vec::new();
        while let Some((at, _)) = transaction.deadline() {
            seen.push(((at - start).as_millis(), transaction.handle_timeout(at)));
        }
        seen
    }

    #[test]
    fn an_invite_without_any_response_is_sent_seven_times_and_fails_after_32_seconds() {
        let (mut transaction, start) = calling(Reliability::Unreliable);
        let seen = run(&mut transaction, start);
        let retransmissions: Vec<u128> = seen
            .iter()
            .filter(|(_, tick)| *tick == Tick::Retransmit)
            .map(|(at, _)| *at)
            .collect();
        assert_eq!(retransmissions, [500, 1500, 3500, 7500, 15500, 31500]);
        assert_eq!(seen.last(), Some(&(32000, Tick::Failed)));
        assert!(transaction.is_terminated());
    }

    #[test]
    fn on_a_reliable_transport_nothing_is_sent_again() {
        let (mut transaction, start) = calling(Reliability::Reliable);
        assert_eq!(run(&mut transaction, start), [(32000, Tick::Failed)]);
    }

    #[test]
    fn a_provisional_response_stops_retransmission_and_timer_b() {
        let (mut transaction, start) = calling(Reliability::Unreliable);
        assert_eq!(
            transaction.handle_response(start, 100),
            ResponseAction::Deliver
        );
        assert_eq!(transaction.deadline(), None);
        assert!(transaction.may_cancel());
        assert_eq!(
            transaction.handle_response(start, 180),
            ResponseAction::Deliver
        );
    }

    #[test]
    fn each_retransmitted_refusal_is_acknowledged_and_delivered_once() {
        let (mut transaction, start) = calling(Reliability::Unreliable);
        assert_eq!(
            transaction.handle_response(start, 486),
            ResponseAction::AckAndDeliver
        );
        assert_eq!(transaction.handle_response(start, 486), ResponseAction::Ack);
        assert_eq!(
            transaction.handle_response(start, 180),
            ResponseAction::Absorb
        );
        assert_eq!(run(&mut transaction, start), [(32000, Tick::Nothing)]);
        assert!(transaction.is_terminated());
    }

    #[test]
    fn every_2xx_reaches_the_user_until_timer_m() {
        let (mut transaction, start) = calling(Reliability::Unreliable);
        for _ in 0..3 {
            assert_eq!(
                transaction.handle_response(start, 200),
                ResponseAction::Deliver
            );
        }
        assert_eq!(
            transaction.handle_response(start, 486),
            ResponseAction::Absorb
        );
        assert_eq!(run(&mut transaction, start), [(32000, Tick::Nothing)]);
    }

    #[test]
    fn a_cancelled_invite_without_final_response_fails_after_32_seconds() {
        let (mut transaction, start) = calling(Reliability::Unreliable);
        assert!(!transaction.may_cancel());
        transaction.give_up(start);
        transaction.handle_response(start, 180);
        assert_eq!(run(&mut transaction, start), [(32000, Tick::Failed)]);
    }

    #[test]
    fn a_refusal_over_tcp_ends_the_transaction_at_once() {
        let (mut transaction, start) = calling(Reliability::Reliable);
        assert_eq!(
            transaction.handle_response(start, 404),
            ResponseAction::AckAndDeliver
        );
        assert!(transaction.is_terminated());
    }
}
