//! How losses lie together: bursts and gaps as RFC 3611 section 4.7.2 tells them apart.
//!
//! ```text
//!           a loss, at least 16 packets after the one before
//!   Gap <──────────────────────────────────────────────────── Burst
//!    └──────── a loss, fewer than 16 packets after ────────────▶┘
//! ```

/// Packets received in a row that end a burst: Gmin, as RFC 3611 recommends it.
pub(super) const GMIN: u64 = 16;

/// Counts of RFC 3611 appendix A.2, and runs of losses.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Bursts {
    /// Received since the last loss.
    received: u64,
    /// Losses of the burst that may be going on.
    in_burst: u64,
    within_gap: u64,
    gap_to_burst: u64,
    lone_loss: u64,
    received_in_burst: u64,
    burst_resumed: u64,
    lost_in_burst: u64,
    lost: u64,
    runs: u64,
}

/// What a report says of bursts and gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Density {
    /// Share lost within bursts, and within gaps.
    pub(super) burst: f64,
    pub(super) gap: f64,
    /// Mean length, in packets.
    pub(super) burst_packets: f64,
    pub(super) gap_packets: f64,
}

impl Bursts {
    /// The next packet in sequence came, or is given up.
    pub(super) fn push(&mut self, came: bool) {
        if came {
            self.received += 1;
            return;
        }
        self.lost += 1;
        self.runs += u64::from(self.received > 0 || self.runs == 0);
        if self.received >= GMIN {
            if self.in_burst == 1 {
                self.lone_loss += 1;
            } else {
                self.gap_to_burst += 1;
            }
            self.in_burst = 1;
            self.within_gap += self.received;
        } else {
            self.in_burst += 1;
            if self.received == 0 {
                self.lost_in_burst += 1;
            } else {
                self.burst_resumed += 1;
                self.received_in_burst += self.received - 1;
            }
        }
        self.received = 0;
    }

    /// RFC 3611 appendix A.2, with the packets since the last loss in the gap that they form.
    pub(super) fn density(&self) -> Density {
        let of = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
        let float = |count: u64| count as f64;
        let within_gap = float(self.within_gap + self.received);
        let bursts = float(self.gap_to_burst);
        let gap_total = within_gap + float(self.lone_loss) + bursts;
        if self.burst_resumed + self.lost_in_burst == 0 {
            return Density {
                gap: of(float(self.lost), float(self.lost) + within_gap),
                gap_packets: float(self.lost) + within_gap,
                ..Density::default()
            };
        }
        let to_received = float(self.burst_resumed);
        let p32 = of(
            to_received,
            bursts + to_received + float(self.lost_in_burst),
        );
        let inside = float(self.received_in_burst) + to_received;
        let p23 = if inside < 1.0 {
            1.0
        } else {
            1.0 - float(self.received_in_burst) / inside
        };
        let total = gap_total
            + float(self.received_in_burst)
            + to_received * 2.0
            + bursts
            + float(self.lost_in_burst);
        let gap_packets = of(gap_total, bursts.max(1.0));
        Density {
            burst: of(p23, p23 + p32),
            gap: of(float(self.lone_loss), within_gap + float(self.lone_loss)),
            burst_packets: (total / bursts.max(1.0) - gap_packets).max(0.0),
            gap_packets,
        }
    }

    /// BurstR of ITU-T G.107: the mean run of losses against that of independent losses of the
    /// same share; 1 where they fall alone.
    pub(super) fn ratio(&self, share: f64) -> f64 {
        if self.runs == 0 {
            return 1.0;
        }
        (self.lost as f64 / self.runs as f64 * (1.0 - share)).max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(pattern: impl IntoIterator<Item = bool>) -> Bursts {
        let mut bursts = Bursts::default();
        for came in pattern {
            bursts.push(came);
        }
        bursts
    }

    #[test]
    fn losses_far_apart_are_no_burst() {
        let bursts = after((0..1_000).map(|n| n % 50 != 49));
        let density = bursts.density();
        assert_eq!(density.burst_packets, 0.0);
        assert!((density.gap - 0.02).abs() < 0.001, "{density:?}");
        assert_eq!(bursts.ratio(0.02), 1.0);
    }

    #[test]
    fn three_in_a_row_are_a_burst_of_three_between_gaps() {
        let bursts = after((0..10_000).map(|n| n % 100 < 97));
        let density = bursts.density();
        assert!(density.burst > 0.9, "{density:?}");
        assert!((density.burst_packets - 3.0).abs() < 0.5, "{density:?}");
        assert!((density.gap_packets - 97.0).abs() < 2.0, "{density:?}");
        assert!((bursts.ratio(0.03) - 2.91).abs() < 0.01);
    }

    #[test]
    fn a_stream_without_loss_is_one_gap() {
        let density = after([true; 200]).density();
        assert_eq!((density.burst, density.gap), (0.0, 0.0));
        assert_eq!(density.gap_packets, 200.0);
    }
}
