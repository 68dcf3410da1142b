//! What a session counted, and what it amounts to.

use std::time::Duration;

use super::{CONCEALMENT_DELAY, Session};
use crate::audio::{Frame, SampleRate};
use crate::rtp::Statistics;
use crate::rtp::delay::MOST_TARGET;
use crate::rtp::quality::{Measured, Quality};
use crate::rtp::rtcp::VoipMetrics;
use crate::rtp::source::Source;

impl Session {
    /// What happened so far.
    pub fn statistics(&self) -> Statistics {
        let reception = self
            .source
            .as_ref()
            .map(Source::reception)
            .unwrap_or_default();
        let counters = self.jitter.counters();
        let duration = |samples: u64| self.jitter.rate().duration_of(samples as usize);
        Statistics {
            received: self.past.received + reception.received,
            lost: self.past.lost + reception.expected.saturating_sub(reception.received),
            late: self.past.late + counters.late_packets,
            dropped: self.past.dropped + counters.dropped_packets,
            jitter: reception.jitter,
            target_delay: duration(self.jitter.target().unsigned_abs()),
            played: self.past.played + duration(counters.played),
            concealed: self.past.concealed + duration(counters.concealed),
            removed: self.past.removed + duration(counters.removed),
            added: self.past.added + duration(counters.added),
            sent: self.outgoing.packets(),
            remote: self.control.remote(),
            ..self.past
        }
    }

    /// How good both directions are so far.
    pub fn quality(&self) -> Quality {
        let statistics = self.statistics();
        let remote = statistics.remote;
        let round_trip = remote.and_then(|remote| remote.round_trip);
        let under_way = round_trip.unwrap_or_default() / 2;
        let packet = Duration::from_millis(u64::from(self.stream.ptime_ms));
        let expected = statistics.received + statistics.lost;
        let bursts = self.source.as_ref().map(Source::bursts).unwrap_or_default();
        let share = statistics.lost as f64 / expected.max(1) as f64;
        let heard = Measured {
            codec: self.stream.codec,
            expected,
            lost: statistics.lost,
            discarded: statistics.late + statistics.dropped,
            burst_ratio: bursts.ratio(share),
            jitter: statistics.jitter,
            delay: under_way + packet + statistics.target_delay + CONCEALMENT_DELAY,
        };
        let spoken = remote.map(|remote| Measured {
            codec: self.stream.codec,
            expected: remote.sent,
            lost: u64::try_from(remote.lost).unwrap_or(0),
            discarded: remote.discarded,
            burst_ratio: 1.0,
            jitter: remote.jitter,
            // A peer that does not say so is taken to wait for twice its jitter.
            delay: under_way + packet + remote.playout.unwrap_or(remote.jitter * 2),
        });
        Quality {
            heard: (expected > 0).then(|| heard.rated()),
            spoken: spoken.map(Measured::rated),
            round_trip,
        }
    }

    pub(super) fn voip_metrics(&self) -> Option<VoipMetrics> {
        let source = self.source.as_ref()?;
        let quality = self.quality();
        let heard = quality.heard?;
        let density = source.bursts().density();
        let expected = heard.expected.max(1) as f64;
        let in_256ths = |share: f64| (share * 256.0).min(255.0) as u8;
        let ms = |duration: Duration| u16::try_from(duration.as_millis()).unwrap_or(u16::MAX);
        let packets = |count: f64| (count * f64::from(self.stream.ptime_ms)) as u16;
        let target = self.statistics().target_delay;
        Some(VoipMetrics {
            ssrc: source.reception().ssrc,
            loss_rate: in_256ths(heard.lost as f64 / expected),
            discard_rate: in_256ths(heard.discarded as f64 / expected),
            burst_density: in_256ths(density.burst),
            gap_density: in_256ths(density.gap),
            burst_ms: packets(density.burst_packets),
            gap_ms: packets(density.gap_packets),
            round_trip_ms: quality.round_trip.map(ms).unwrap_or_default(),
            end_system_ms: ms(target + CONCEALMENT_DELAY + Frame::DURATION),
            r_factor: heard.rating.round() as u8,
            mos: (heard.mos * 10.0).round() as u8,
            nominal_ms: ms(target),
            maximum_ms: ms(SampleRate::TELEPHONE.duration_of(MOST_TARGET as usize)),
        })
    }

    /// Adds the present source's figures to those of the past, and forgets it.
    pub(super) fn settle_source(&mut self) {
        if let Some(source) = self.source.take() {
            let reception = source.reception();
            self.past.received += reception.received;
            self.past.lost += reception.expected.saturating_sub(reception.received);
        }
    }

    /// Adds the playout's figures to those of the past.
    pub(super) fn settle_playout(&mut self) {
        let counters = self.jitter.counters();
        let duration = |samples: u64| self.jitter.rate().duration_of(samples as usize);
        self.past.late += counters.late_packets;
        self.past.dropped += counters.dropped_packets;
        self.past.played += duration(counters.played);
        self.past.concealed += duration(counters.concealed);
        self.past.removed += duration(counters.removed);
        self.past.added += duration(counters.added);
    }
}
