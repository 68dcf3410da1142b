//! The timers of RFC 3261 (table 4) and RFC 6026, derived from T1, T2 and T4.

use std::time::Duration;

/// T1, T2 and T4, from which every SIP timer follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// Round-trip estimate. RFC 3261: 500 ms.
    pub t1: Duration,
    /// Longest retransmission interval of non-INVITE requests and INVITE responses. RFC 3261: 4 s.
    pub t2: Duration,
    /// Longest time a message lives in the network. RFC 3261: 5 s.
    pub t4: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
        }
    }
}

/// Whether the transport retransmits by itself, which switches retransmission timers off and the
/// waiting timers to zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reliability {
    /// UDP.
    Unreliable,
    /// TCP, TLS.
    Reliable,
}

impl Timers {
    /// 64·T1: how long a transaction is tried before it has failed.
    pub fn transaction_timeout(&self) -> Duration {
        self.t1 * 64
    }

    /// The interval after `interval`: doubled, at most T2 (timers E and G, and the 2xx of a UAS).
    pub fn next_interval(&self, interval: Duration) -> Duration {
        (interval * 2).min(self.t2)
    }

    /// A: first INVITE retransmission; it doubles without a cap.
    pub fn a(&self) -> Duration {
        self.t1
    }

    /// B: INVITE without any response.
    pub fn b(&self) -> Duration {
        self.transaction_timeout()
    }

    /// C: how long an INVITE may stay with provisional responses only (RFC 3261 16.6 gives
    /// "more than 3 minutes" for proxies).
    pub fn c(&self) -> Duration {
        Duration::from_secs(181)
    }

    /// D: how long a client absorbs retransmitted final responses to INVITE.
    pub fn d(&self, reliability: Reliability) -> Duration {
        match reliability {
            Reliability::Unreliable => self.transaction_timeout().max(Duration::from_secs(32)),
            Reliability::Reliable => Duration::ZERO,
        }
    }

    /// E: first retransmission of a non-INVITE request.
    pub fn e(&self) -> Duration {
        self.t1
    }

    /// F: non-INVITE request without a final response.
    pub fn f(&self) -> Duration {
        self.transaction_timeout()
    }

    /// G: first retransmission of a final response to INVITE.
    pub fn g(&self) -> Duration {
        self.t1
    }

    /// H: final response to INVITE without ACK.
    pub fn h(&self) -> Duration {
        self.transaction_timeout()
    }

    /// I: how long a server absorbs retransmitted ACKs.
    pub fn i(&self, reliability: Reliability) -> Duration {
        self.linger(reliability, self.t4)
    }

    /// J: how long a server absorbs retransmitted non-INVITE requests.
    pub fn j(&self, reliability: Reliability) -> Duration {
        self.linger(reliability, self.transaction_timeout())
    }

    /// K: how long a client absorbs retransmitted responses to non-INVITE requests.
    pub fn k(&self, reliability: Reliability) -> Duration {
        self.linger(reliability, self.t4)
    }

    /// L: how long a server absorbs INVITEs that it accepted (RFC 6026).
    pub fn l(&self) -> Duration {
        self.transaction_timeout()
    }

    /// M: how long a client takes further 2xx to its INVITE (RFC 6026).
    pub fn m(&self) -> Duration {
        self.transaction_timeout()
    }

    fn linger(&self, reliability: Reliability, time: Duration) -> Duration {
        match reliability {
            Reliability::Unreliable => time,
            Reliability::Reliable => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_rfc_3261_table_4() {
        let timers = Timers::default();
        let seconds = Duration::from_secs;
        let udp = Reliability::Unreliable;
        assert_eq!(timers.a(), Duration::from_millis(500));
        assert_eq!(timers.b(), seconds(32));
        assert!(timers.c() > seconds(180));
        assert_eq!(timers.d(udp), seconds(32));
        assert_eq!(timers.e(), Duration::from_millis(500));
        assert_eq!(timers.f(), seconds(32));
        assert_eq!(timers.g(), Duration::from_millis(500));
        assert_eq!(timers.h(), seconds(32));
        assert_eq!(timers.i(udp), seconds(5));
        assert_eq!(timers.j(udp), seconds(32));
        assert_eq!(timers.k(udp), seconds(5));
        assert_eq!(timers.l(), seconds(32));
        assert_eq!(timers.m(), seconds(32));
    }

    #[test]
    fn a_reliable_transport_needs_no_lingering() {
        let timers = Timers::default();
        for time in [
            timers.d(Reliability::Reliable),
            timers.i(Reliability::Reliable),
            timers.j(Reliability::Reliable),
            timers.k(Reliability::Reliable),
        ] {
            assert_eq!(time, Duration::ZERO);
        }
    }

    #[test]
    fn retransmission_intervals_double_up_to_t2() {
        let timers = Timers::default();
        let mut interval = timers.e();
        let mut seen = vec![interval.as_millis()];
        for _ in 0..4 {
            interval = timers.next_interval(interval);
            seen.push(interval.as_millis());
        }
        assert_eq!(seen, [500, 1000, 2000, 4000, 4000]);
    }
}
