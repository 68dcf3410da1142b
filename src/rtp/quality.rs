//! How good a conversation sounds, by the E-model (ITU-T G.107; impairments of ITU-T G.113).

use std::time::Duration;

use crate::audio::Codec;

/// The transmission rating of a connection with nothing wrong but its band (ITU-T G.107).
const BEST_RATING: f64 = 93.2;

/// How good one direction is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StreamQuality {
    /// Packets that should have come.
    pub expected: u64,
    /// Of them, lost on the way.
    pub lost: u64,
    /// Of them, too late to be heard. Only the receiver knows: 0 where that is the peer and it
    /// does not say.
    pub discarded: u64,
    /// Interarrival jitter of RFC 3550.
    pub jitter: Duration,
    /// From mouth to ear, as far as it is known: half the round trip, the packet and playout.
    pub delay: Duration,
    /// The E-model's R, 0 to 93.2.
    pub rating: f64,
    /// Mean opinion score, 1 to 4.5.
    pub mos: f64,
}

/// How good both directions are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quality {
    /// From the peer to us; `None` where nothing came.
    pub heard: Option<StreamQuality>,
    /// From us to the peer, by its reports; `None` where it sent none.
    pub spoken: Option<StreamQuality>,
    /// From us to the peer and back.
    pub round_trip: Option<Duration>,
}

/// What was measured of one direction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    pub(super) codec: Codec,
    pub(super) expected: u64,
    pub(super) lost: u64,
    pub(super) discarded: u64,
    pub(super) burst_ratio: f64,
    pub(super) jitter: Duration,
    pub(super) delay: Duration,
}

impl Measured {
    pub(super) fn rated(self) -> StreamQuality {
        let missing = (self.lost + self.discarded).min(self.expected) as f64;
        let share = missing / self.expected.max(1) as f64;
        let rating = rating(self.codec, share, self.burst_ratio, self.delay);
        StreamQuality {
            expected: self.expected,
            lost: self.lost,
            discarded: self.discarded,
            jitter: self.jitter,
            delay: self.delay,
            rating,
            mos: mos(rating),
        }
    }
}

/// Equipment impairment Ie and robustness to loss Bpl (ITU-T G.113 appendix I).
fn impairment(codec: Codec) -> (f64, f64) {
    match codec {
        // With the concealment of appendix I.
        Codec::Pcmu | Codec::Pcma => (0.0, 25.1),
        // At 64 kbit/s no worse than G.711 on the scale of narrowband; it has no concealment of
        // its own.
        Codec::G722 => (0.0, 25.1),
        // G.113 does not have it: taken for no worse either, though it corrects losses.
        Codec::Opus => (0.0, 25.1),
    }
}

/// R of ITU-T G.107 with its default values: what delay and loss leave of the best.
fn rating(codec: Codec, loss: f64, burst_ratio: f64, delay: Duration) -> f64 {
    let (ie, bpl) = impairment(codec);
    let percent = loss * 100.0;
    let effective = ie + (95.0 - ie) * percent / (percent / burst_ratio + bpl);
    (BEST_RATING - delay_impairment(delay) - effective).clamp(0.0, BEST_RATING)
}

/// Idd of ITU-T G.107: nothing up to 100 ms.
fn delay_impairment(delay: Duration) -> f64 {
    let ms = delay.as_secs_f64() * 1_000.0;
    if ms <= 100.0 {
        return 0.0;
    }
    let x = (ms / 100.0).log2();
    let root = |value: f64| (1.0 + value.powi(6)).powf(1.0 / 6.0);
    25.0 * (root(x) - 3.0 * root(x / 3.0) + 2.0)
}

/// ITU-T G.107 annex B.
fn mos(rating: f64) -> f64 {
    if rating <= 0.0 {
        return 1.0;
    }
    let mos = 1.0 + 0.035 * rating + rating * (rating - 60.0) * (100.0 - rating) * 7e-6;
    mos.clamp(1.0, 4.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lost: u64, burst_ratio: f64, delay_ms: u64) -> StreamQuality {
        let measured = Measured {
            codec: Codec::Pcmu,
            expected: 1_000,
            lost,
            discarded: 0,
            burst_ratio,
            jitter: Duration::ZERO,
            delay: Duration::from_millis(delay_ms),
        };
        measured.rated()
    }

    #[test]
    fn a_clean_call_has_the_best_score_of_narrowband() {
        let clean = of(0, 1.0, 50);
        assert_eq!(clean.rating, 93.2);
        assert!((clean.mos - 4.41).abs() < 0.005, "{}", clean.mos);
    }

    #[test]
    fn loss_bursts_and_delay_each_cost() {
        // 95 * 5 / (5 + 25.1) = 15.8
        assert!((of(50, 1.0, 50).rating - 77.4).abs() < 0.05);
        assert!(of(50, 2.5, 50).rating < of(50, 1.0, 50).rating);
        // ITU-T G.107: 400 ms cost about 24.
        let late = of(0, 1.0, 400).rating;
        assert!((68.0..=71.0).contains(&late), "{late}");
        let scores: Vec<f64> = (0..=10).map(|n| of(n * 100, 1.0, 50).mos).collect();
        assert!(
            scores.windows(2).all(|pair| pair[0] >= pair[1]),
            "{scores:?}"
        );
        assert!(scores[10] >= 1.0);
    }
}
