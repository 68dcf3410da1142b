//! How long packets take, and how long playout has to wait for them.
//!
//! The constants are in samples at 8 kHz; an estimator counts in those of its stream.

use super::TELEPHONE_HZ;
use crate::audio::SampleRate;

/// 5 ms in samples: the resolution of the histogram.
const BIN: i64 = 40;
/// 0 to 130 ms; the last bin takes everything beyond.
const BINS: usize = 26;
/// The share of packets that playout waits for.
const COVERED: f32 = 0.98;
/// Weight of a new packet once enough were seen: the memory is about 100 packets.
const NEWEST: f32 = 0.01;
/// Half of the time over which the least transit is remembered: 5 s. A sender's clock that is
/// 100 ppm slow moves it by 1 ms in that time.
const LEAST_SPAN: i64 = 40_000;

/// The least wait, in samples: 10 ms.
const LEAST_TARGET: i64 = 80;
/// The most, in samples: 120 ms.
pub(super) const MOST_TARGET: i64 = 960;
/// Before anything is known, in samples: 40 ms.
const FIRST_TARGET: i64 = 320;
/// Packets after which the target is more than a guess: a second.
const SETTLED: u32 = 50;

/// Measures transit times (arrival minus timestamp, in samples, of unknown origin). What counts
/// is a packet's lag: its transit minus the least one of the last 5 to 10 s.
#[derive(Clone, Debug)]
pub(super) struct DelayEstimator {
    /// Samples of the stream for one at 8 kHz.
    scale: i64,
    /// Least transit since `since`, and in the span before.
    least: Option<i64>,
    least_before: Option<i64>,
    since: i64,
    /// Share of packets by lag; sums to 1.
    lags: [f32; BINS],
    seen: u32,
    target: i64,
}

impl DelayEstimator {
    /// For a stream whose samples come at `rate`.
    pub(super) fn new(rate: SampleRate) -> Self {
        let mut lags = [0.0; BINS];
        lags[bin(FIRST_TARGET - 2 * BIN)] = 1.0;
        let scale = i64::from(rate.hz() / TELEPHONE_HZ);
        Self {
            scale,
            least: None,
            least_before: None,
            since: 0,
            lags,
            seen: 1,
            target: FIRST_TARGET * scale,
        }
    }

    /// Takes a packet's arrival and timestamp, in samples.
    pub(super) fn observe(&mut self, arrival: i64, timestamp: i64) {
        let transit = arrival - timestamp;
        if arrival - self.since > LEAST_SPAN * self.scale {
            self.least_before = self.least.take();
            self.since = arrival;
        }
        self.least = Some(self.least.map_or(transit, |least| least.min(transit)));
        let lag = transit - self.base().unwrap_or(transit);

        // The first packets count in full, so that the guess made without any is soon forgotten.
        self.seen = self.seen.saturating_add(1);
        let weight = (1.0 / self.seen as f32).max(NEWEST);
        for share in &mut self.lags {
            *share *= 1.0 - weight;
        }
        self.lags[bin(lag / self.scale)] += weight;
        self.target = self.covering_lag();
    }

    /// The least transit of late: what a packet takes that waits nowhere.
    pub(super) fn base(&self) -> Option<i64> {
        match (self.least, self.least_before) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// How long after its least transit a sample should be played, in samples.
    pub(super) fn target(&self) -> i64 {
        self.target
    }

    /// Whether enough was seen for the target to be trusted.
    pub(super) fn is_settled(&self) -> bool {
        self.seen > SETTLED
    }

    /// Forgets transit times, since clock or path changed, but not how much they vary.
    pub(super) fn restart(&mut self) {
        self.least = None;
        self.least_before = None;
    }

    /// The upper edge of the bin that completes the covered share, and one bin more.
    fn covering_lag(&self) -> i64 {
        let mut share = 0.0;
        let mut edge = 0;
        for in_bin in &self.lags {
            share += in_bin;
            edge += BIN;
            if share >= COVERED {
                break;
            }
        }
        (edge + BIN).clamp(LEAST_TARGET, MOST_TARGET) * self.scale
    }
}

fn bin(lag: i64) -> usize {
    usize::try_from(lag / BIN).unwrap_or(0).min(BINS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(packets: i64, lag: impl Fn(i64) -> i64) -> DelayEstimator {
        let mut delay = DelayEstimator::new(SampleRate::TELEPHONE);
        for n in 0..packets {
            delay.observe(5_000 + n * 160 + lag(n), n * 160);
        }
        delay
    }

    #[test]
    fn the_wait_starts_at_forty_milliseconds_and_falls_to_ten_on_a_steady_path() {
        assert_eq!(DelayEstimator::new(SampleRate::TELEPHONE).target(), 320);
        assert_eq!(after(5, |_| 0).target(), 320);
        assert_eq!(after(100, |_| 0).target(), LEAST_TARGET);
    }

    #[test]
    fn thirty_milliseconds_of_jitter_are_covered_and_little_more() {
        let target = after(500, |n| n * 7_919 % 241).target();
        assert!((240..=320).contains(&target), "{target}");
    }

    #[test]
    fn the_wait_rises_within_a_few_late_packets_and_falls_within_some_seconds() {
        let mut delay = after(500, |_| 0);
        for n in 500..503 {
            delay.observe(5_000 + n * 160 + 480, n * 160);
        }
        assert!(delay.target() >= 480, "{}", delay.target());
        for n in 503..800 {
            delay.observe(5_000 + n * 160, n * 160);
        }
        assert_eq!(delay.target(), LEAST_TARGET);
    }

    #[test]
    fn the_wait_has_an_upper_limit() {
        assert_eq!(after(500, |n| n % 2 * 4_000).target(), MOST_TARGET);
    }

    #[test]
    fn a_longer_path_becomes_the_normal_one_after_a_while() {
        let delay = after(2_000, |n| if n < 600 { 0 } else { 400 });
        assert_eq!(delay.base(), Some(5_400));
        assert_eq!(delay.target(), LEAST_TARGET);
    }

    #[test]
    fn at_sixteen_kilohertz_the_same_times_have_twice_the_samples() {
        let mut wide = DelayEstimator::new(SampleRate::WIDEBAND);
        assert_eq!(wide.target(), 640);
        for n in 0..500 {
            wide.observe(5_000 + n * 320 + n * 7_919 % 481, n * 320);
        }
        let target = wide.target();
        assert!((480..=640).contains(&target), "{target}");
    }
}
