//! The INVITE server transaction (RFC 3261 17.2.1 with RFC 6026).
//!
//! ```text
//!                         | INVITE: 100 Trying
//!                         v
//!  INVITE: resend   +------------+
//!  last 1xx  +----->| Proceeding |---- 2xx from the user ----+
//!            +------|            |                           |
//!                   +------------+                           v
//!                         | 300-699             +----------------+ INVITE: absorb
//!                         v                     |    Accepted    |---+
//!  INVITE: resend   +-----------+               |                |<--+ ACK, 2xx: to and
//!  timer G   +----->| Completed |--- timer H    +----------------+     from the user
//!  resend    +------|           |       |                | timer L
//!                   +-----------+       |                |
//!                         | ACK         |                |
//!                         v             |                |
//!                   +-----------+       |                |
//!                   | Confirmed |       |                |
//!                   +-----------+       |                |
//!                         | timer I     |                |
//!                         v             v                v
//!                   +-----------------------------------------+
//!                   |               Terminated                |
//!                   +-----------------------------------------+
//! ```

use std::time::{Duration, Instant};

use super::{AckAction, RequestAction, Tick};
use crate::sip::timers::{Reliability, Timers};

#[derive(Debug)]
enum State {
    Proceeding,
    Completed {
        retransmit: Option<(Instant, Duration)>,
        fail_at: Instant,
    },
    Confirmed {
        until: Instant,
    },
    Accepted {
        until: Instant,
    },
    Terminated,
}

/// One INVITE that we received.
#[derive(Debug)]
pub struct ServerInvite {
    state: State,
    timers: Timers,
    reliability: Reliability,
}

impl ServerInvite {
    /// Starts with the INVITE just received.
    pub fn new(timers: Timers, reliability: Reliability) -> Self {
        Self {
            state: State::Proceeding,
            timers,
            reliability,
        }
    }

    /// The INVITE came again.
    pub fn handle_request(&mut self) -> RequestAction {
        match self.state {
            State::Proceeding | State::Completed { .. } => RequestAction::ResendResponse,
            State::Confirmed { .. } | State::Accepted { .. } | State::Terminated => {
                RequestAction::Absorb
            }
        }
    }

    /// The user responds. Returns whether the response may be sent: a second final response may
    /// not, except for retransmissions of a 2xx.
    pub fn handle_response(&mut self, now: Instant, status: u16) -> bool {
        match (&self.state, status) {
            (State::Proceeding, 100..=199) | (State::Accepted { .. }, 200..=299) => true,
            (State::Proceeding, 200..=299) => {
                self.state = State::Accepted {
                    until: now + self.timers.l(),
                };
                true
            }
            (State::Proceeding, _) => {
                let retransmit = match self.reliability {
                    Reliability::Unreliable => Some((now + self.timers.g(), self.timers.g())),
                    Reliability::Reliable => None,
                };
                self.state = State::Completed {
                    retransmit,
                    fail_at: now + self.timers.h(),
                };
                true
            }
            _ => false,
        }
    }

    /// An ACK with this transaction's branch came.
    pub fn handle_ack(&mut self, now: Instant) -> AckAction {
        match self.state {
            State::Completed { .. } => {
                self.state = match self.reliability {
                    Reliability::Unreliable => State::Confirmed {
                        until: now + self.timers.i(self.reliability),
                    },
                    Reliability::Reliable => State::Terminated,
                };
                AckAction::Absorb
            }
            State::Accepted { .. } => AckAction::Deliver,
            State::Proceeding | State::Confirmed { .. } | State::Terminated => AckAction::Absorb,
        }
    }

    /// No final response was sent yet, so that CANCEL has an effect.
    pub fn is_proceeding(&self) -> bool {
        matches!(self.state, State::Proceeding)
    }

    /// Time passed. `Failed` means that a refusal was never acknowledged.
    pub fn handle_timeout(&mut self, now: Instant) -> Tick {
        let timers = self.timers;
        match &mut self.state {
            State::Completed { fail_at, .. } if *fail_at <= now => {
                self.state = State::Terminated;
                Tick::Failed
            }
            State::Completed {
                retransmit: Some((at, interval)),
                ..
            } if *at <= now => {
                *interval = timers.next_interval(*interval);
                *at = now + *interval;
                Tick::Retransmit
            }
            State::Confirmed { until } | State::Accepted { until } if *until <= now => {
                self.state = State::Terminated;
                Tick::Nothing
            }
            _ => Tick::Nothing,
        }
    }

    /// When `handle_timeout` is due, and for which timer.
    pub fn deadline(&self) -> Option<(Instant, &'static str)> {
        match &self.state {
            State::Completed {
                retransmit: Some((at, _)),
                fail_at,
            } if at < fail_at => Some((*at, "timer G")),
            State::Completed { fail_at, .. } => Some((*fail_at, "timer H")),
            State::Confirmed { until } => Some((*until, "timer I")),
            State::Accepted { until } => Some((*until, "timer L")),
            State::Proceeding | State::Terminated => None,
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

    fn udp() -> (ServerInvite, Instant) {
        (
            ServerInvite::new(Timers::default(), Reliability::Unreliable),
            Instant::now(),
        )
    }

    #[test]
    fn a_refusal_is_sent_again_until_timer_h_when_no_ack_comes() {
        let (mut transaction, start) = udp();
        assert!(transaction.handle_response(start, 486));
        let mut times = Vec::new();
        let failed = loop {
            let (at, _) = transaction.deadline().unwrap();
            match transaction.handle_timeout(at) {
                Tick::Retransmit => times.push((at - start).as_millis()),
                Tick::Failed => break (at - start).as_millis(),
                Tick::Nothing => {}
            }
        };
        assert_eq!(
            times,
            [
                500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500
            ]
        );
        assert_eq!(failed, 32000);
        assert!(transaction.is_terminated());
    }

    #[test]
    fn the_ack_of_a_refusal_stays_in_the_transaction_and_its_repeats_are_absorbed() {
        let (mut transaction, start) = udp();
        transaction.handle_response(start, 404);
        assert_eq!(transaction.handle_ack(start), AckAction::Absorb);
        assert_eq!(transaction.handle_ack(start), AckAction::Absorb);
        assert_eq!(transaction.handle_request(), RequestAction::Absorb);
        assert_eq!(
            transaction.deadline(),
            Some((start + Duration::from_secs(5), "timer I"))
        );
    }

    #[test]
    fn in_accepted_a_repeated_invite_is_absorbed_and_the_ack_is_the_users() {
        let (mut transaction, start) = udp();
        assert!(transaction.handle_response(start, 180));
        assert_eq!(transaction.handle_request(), RequestAction::ResendResponse);
        assert!(transaction.handle_response(start, 200));
        assert_eq!(transaction.handle_request(), RequestAction::Absorb);
        assert!(transaction.handle_response(start, 200), "2xx sent again");
        assert!(!transaction.handle_response(start, 486), "second final");
        assert_eq!(transaction.handle_ack(start), AckAction::Deliver);
        assert_eq!(
            transaction.deadline(),
            Some((start + Duration::from_secs(32), "timer L"))
        );
    }

    #[test]
    fn over_tcp_a_refusal_is_sent_once_and_the_ack_ends_it() {
        let start = Instant::now();
        let mut transaction = ServerInvite::new(Timers::default(), Reliability::Reliable);
        transaction.handle_response(start, 486);
        assert_eq!(
            transaction.deadline(),
            Some((start + Duration::from_secs(32), "timer H"))
        );
        transaction.handle_ack(start);
        assert!(transaction.is_terminated());
    }
}
