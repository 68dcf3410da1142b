//! The non-INVITE server transaction (RFC 3261 17.2.2).
//!
//! ```text
//!                 | request received
//!                 v
//!  request:   +--------+
//!  absorb +-->| Trying |--- 200-699 ----+
//!         +---|        |                |
//!             +--------+                |
//!                 | 1xx                 v
//!                 v               +-----------+ timer J  +------------+
//!  request:  +------------+       | Completed |--------->| Terminated |
//!  resend +->| Proceeding |------>|           |          +------------+
//!         +--|            |       +-----------+
//!            +------------+ 200-699  |     ^ request: resend
//!                                    +-----+
//! ```

use std::time::Instant;

use super::{RequestAction, Tick};
use crate::sip::timers::{Reliability, Timers};

#[derive(Debug)]
enum State {
    Trying,
    Proceeding,
    Completed { until: Instant },
    Terminated,
}

/// One request that we received, other than INVITE and ACK.
#[derive(Debug)]
pub struct Server {
    state: State,
    timers: Timers,
    reliability: Reliability,
}

impl Server {
    /// Starts with the request just received.
    pub fn new(timers: Timers, reliability: Reliability) -> Self {
        Self {
            state: State::Trying,
            timers,
            reliability,
        }
    }

    /// The request came again.
    pub fn handle_request(&mut self) -> RequestAction {
        match self.state {
            State::Proceeding | State::Completed { .. } => RequestAction::ResendResponse,
            State::Trying | State::Terminated => RequestAction::Absorb,
        }
    }

    /// The user responds. Returns whether the response may be sent.
    pub fn handle_response(&mut self, now: Instant, status: u16) -> bool {
        match self.state {
            State::Trying | State::Proceeding => {
                self.state = match (status, self.reliability) {
                    (..=199, _) => State::Proceeding,
                    (_, Reliability::Unreliable) => State::Completed {
                        until: now + self.timers.j(self.reliability),
                    },
                    (_, Reliability::Reliable) => State::Terminated,
                };
                true
            }
            State::Completed { .. } | State::Terminated => false,
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) -> Tick {
        if let State::Completed { until } = self.state
            && until <= now
        {
            self.state = State::Terminated;
        }
        Tick::Nothing
    }

    /// When `handle_timeout` is due, and for which timer.
    pub fn deadline(&self) -> Option<(Instant, &'static str)> {
        match self.state {
            State::Completed { until } => Some((until, "timer J")),
            State::Trying | State::Proceeding | State::Terminated => None,
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
    use std::time::Duration;

    #[test]
    fn the_final_response_is_sent_again_for_each_repeat_until_timer_j() {
        let start = Instant::now();
        let mut transaction = Server::new(Timers::default(), Reliability::Unreliable);
        assert_eq!(transaction.handle_request(), RequestAction::Absorb);
        assert!(transaction.handle_response(start, 200));
        assert_eq!(transaction.handle_request(), RequestAction::ResendResponse);
        assert!(!transaction.handle_response(start, 500), "second final");
        let end = start + Duration::from_secs(32);
        assert_eq!(transaction.deadline(), Some((end, "timer J")));
        transaction.handle_timeout(end);
        assert!(transaction.is_terminated());
    }

    #[test]
    fn over_tcp_the_response_ends_it() {
        let mut transaction = Server::new(Timers::default(), Reliability::Reliable);
        transaction.handle_response(Instant::now(), 200);
        assert!(transaction.is_terminated());
    }
}
