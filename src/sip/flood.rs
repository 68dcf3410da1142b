//! How many requests that could begin something are taken: from each source, and from all
//! strangers together. Pure; the table is bounded.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;

/// Sources at once; beyond them the rest share one allowance.
const MOST_SOURCES: usize = 10_000;
/// How long a burst may go on at full allowance.
const BURST: Duration = Duration::from_secs(2);

/// A bucket that fills with time.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    per_second: f64,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    /// A full bucket: what two seconds bring, and at least one.
    pub fn new(per_second: u32, now: Instant) -> Self {
        let per_second = f64::from(per_second);
        Self {
            per_second,
            tokens: Self::size(per_second),
            at: now,
        }
    }

    fn size(per_second: f64) -> f64 {
        (per_second * BURST.as_secs_f64()).max(1.0)
    }

    fn fill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.tokens = elapsed
            .mul_add(self.per_second, self.tokens)
            .min(Self::size(self.per_second));
    }

    /// Takes one, if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        self.fill(now);
        let there = self.tokens >= 1.0;
        if there {
            self.tokens -= 1.0;
        }
        there
    }

    fn is_full(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.tokens >= Self::size(self.per_second)
    }
}

/// The operator's limits, in requests a second.
#[derive(Clone, Debug)]
pub struct FloodLimits {
    /// From one address (one /64 of IPv6).
    pub per_source: u32,
    /// From all strangers together, so that they leave room for those we know.
    pub strangers: u32,
    /// Whom we know.
    pub known: Vec<IpNet>,
}

/// What was taken lately.
#[derive(Debug)]
pub struct Flood {
    limits: FloodLimits,
    sources: HashMap<IpAddr, Bucket>,
    strangers: Bucket,
    /// Of sources that found the table full.
    crowd: Bucket,
}

impl Flood {
    /// Nothing was taken yet.
    pub fn new(limits: FloodLimits, now: Instant) -> Self {
        Self {
            strangers: Bucket::new(limits.strangers, now),
            crowd: Bucket::new(limits.per_source, now),
            sources: HashMap::new(),
            limits,
        }
    }

    /// Whom we know from now on.
    pub fn know(&mut self, known: Vec<IpNet>) {
        self.limits.known = known;
    }

    /// Whether a message may be looked at. Only requests that could begin something are counted:
    /// answers, and what belongs to calls, always may.
    pub fn admits(&mut self, now: Instant, source: IpAddr, message: &[u8]) -> bool {
        if !begins_something(message) {
            return true;
        }
        let source = source.to_canonical();
        let known = self.limits.known.iter().any(|net| net.contains(&source));
        self.source_admits(now, source) && (known || self.strangers.take(now))
    }

    fn source_admits(&mut self, now: Instant, source: IpAddr) -> bool {
        let key = aggregate(source);
        if let Some(bucket) = self.sources.get_mut(&key) {
            return bucket.take(now);
        }
        if self.sources.len() >= MOST_SOURCES {
            // Whoever has a full bucket is as good as never seen.
            self.sources.retain(|_, bucket| !bucket.is_full(now));
        }
        if self.sources.len() >= MOST_SOURCES {
            return self.crowd.take(now);
        }
        let mut bucket = Bucket::new(self.limits.per_source, now);
        let admitted = bucket.take(now);
        self.sources.insert(key, bucket);
        admitted
    }
}

/// One host has at least a /64 of IPv6.
fn aggregate(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(_) => source,
        IpAddr::V6(address) => {
            let prefix = u128::from(address) & (u128::MAX << 64);
            IpAddr::V6(prefix.into())
        }
    }
}

/// Everything but responses and the methods that only occur inside a dialog or transaction.
fn begins_something(message: &[u8]) -> bool {
    let message = message.trim_ascii_start();
    let never = [
        b"SIP/2.0 ".as_slice(),
        b"ACK ",
        b"BYE ",
        b"CANCEL ",
        b"INFO ",
        b"NOTIFY ",
        b"PRACK ",
        b"UPDATE ",
    ];
    !message.is_empty() && !never.iter().any(|start| message.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVITE: &[u8] = b"INVITE sip:a SIP/2.0\r\n";

    fn flood() -> (Flood, Instant) {
        let now = Instant::now();
        let limits = FloodLimits {
            per_source: 10,
            strangers: 50,
            known: vec!["192.0.2.0/24".parse().expect("a network")],
        };
        (Flood::new(limits, now), now)
    }

    fn taken(flood: &mut Flood, now: Instant, source: &str, count: usize) -> usize {
        let source = source.parse().expect("an address");
        (0..count)
            .filter(|_| flood.admits(now, source, INVITE))
            .count()
    }

    #[test]
    fn a_source_gets_its_rate_and_no_more_and_calls_go_on() {
        let (mut flood, now) = flood();
        assert_eq!(taken(&mut flood, now, "198.51.100.1", 100), 20);
        let source = "198.51.100.1".parse().expect("an address");
        for text in ["BYE sip:a SIP/2.0\r\n", "SIP/2.0 200 OK\r\n", "\r\n\r\n"] {
            assert!(flood.admits(now, source, text.as_bytes()), "{text}");
        }
        assert_eq!(taken(&mut flood, now, "198.51.100.2", 5), 5);
        let later = now + Duration::from_secs(1);
        assert_eq!(taken(&mut flood, later, "198.51.100.1", 100), 10);
    }

    #[test]
    fn a_crowd_of_strangers_leaves_room_for_those_we_know() {
        let (mut flood, now) = flood();
        let mut all = 0;
        for last in 0..250 {
            all += taken(&mut flood, now, &format!("198.51.100.{last}"), 1);
        }
        assert_eq!(all, 100);
        assert_eq!(taken(&mut flood, now, "192.0.2.7", 15), 15);
    }

    #[test]
    fn one_host_cannot_be_many_by_its_ipv6_addresses_and_the_table_stays_bounded() {
        let (mut flood, now) = flood();
        let mut all = 0;
        for last in 0..100 {
            all += taken(&mut flood, now, &format!("2001:db8::{last:x}"), 1);
        }
        assert_eq!(all, 20);
        for number in 0..3 * MOST_SOURCES as u32 {
            let source = IpAddr::from(number.to_be_bytes());
            flood.admits(now, source, INVITE);
        }
        assert!(flood.sources.len() <= MOST_SOURCES);
        let later = now + Duration::from_secs(10);
        assert_eq!(taken(&mut flood, later, "203.0.113.9", 1), 1);
        assert!(
            flood.sources.len() < 10,
            "those who went quiet are forgotten"
        );
    }
}
