//! When RTCP is sent, and what it and the peer's say (RFC 3550 section 6).

use std::time::{Duration, Instant};

use super::outgoing::Sent;
use super::rtcp::{self, ReportBlock, SenderInfo, VoipMetrics};
use super::source::Source;
use super::{RemoteReport, RtpError};
use crate::audio::SampleRate;

/// The mean time between two reports (RFC 3550 section 6.2): two participants whose reports take
/// far less than 5 % of a call's bandwidth need no longer one.
const INTERVAL: Duration = Duration::from_secs(5);
/// Sent sender reports that are remembered to measure round trips.
const REMEMBERED_REPORTS: usize = 4;
/// Of a VoIP metrics block: no score is given.
const UNKNOWN: u8 = 127;

/// A moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) now: Instant,
    /// The wall clock, in 2^-32 s since 1900.
    pub(super) ntp: u64,
}

/// The control half of a session.
#[derive(Debug)]
pub(super) struct Control {
    ssrc: u32,
    /// Splits the intervals; started by the SSRC, which is random.
    random: u64,
    next: Option<Instant>,
    sent_at_last_report: u64,
    own_reports: Vec<(u32, Instant)>,
    their_report: Option<(u64, Instant)>,
    remote: Option<RemoteReport>,
}

impl Control {
    pub(super) fn new(ssrc: u32) -> Self {
        Self {
            ssrc,
            random: u64::from(ssrc),
            next: None,
            sent_at_last_report: 0,
            own_reports: Vec::new(),
            their_report: None,
            remote: None,
        }
    }

    pub(super) fn remote(&self) -> Option<RemoteReport> {
        self.remote
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// Takes a datagram; `sent` is how many packets we sent so far, by which clock. Whether the peer
    /// said goodbye.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        datagram: &[u8],
        sent: u64,
        clock: SampleRate,
    ) -> Result<bool, RtpError> {
        let compound = rtcp::parse(datagram)?;
        if let Some(ntp) = compound.sender_ntp {
            self.their_report = Some((ntp, now));
        }
        if let Some(block) = compound.blocks.iter().find(|block| block.ssrc == self.ssrc) {
            let before = self.remote;
            self.remote = Some(RemoteReport {
                fraction_lost: f32::from(block.fraction_lost) / 256.0,
                lost: block.lost,
                jitter: clock.duration_of(block.jitter as usize),
                // Not every report answers one of ours.
                round_trip: self
                    .round_trip(block, now)
                    .or(before.and_then(|before| before.round_trip)),
                sent,
                discarded: before.map_or(0, |before| before.discarded),
                playout: before.and_then(|before| before.playout),
                score: before.and_then(|before| before.score),
            });
        }
        let about_us = compound.voip.filter(|voip| voip.ssrc == self.ssrc);
        if let (Some(remote), Some(voip)) = (&mut self.remote, about_us) {
            remote.discarded = sent * u64::from(voip.discard_rate) / 256;
            remote.playout = Some(Duration::from_millis(u64::from(voip.nominal_ms)));
            remote.score = (voip.mos != UNKNOWN).then(|| f32::from(voip.mos) / 10.0);
        }
        Ok(compound.goodbye)
    }

    /// RFC 3550 section 6.4.1: from our report to theirs, without the time they kept it.
    fn round_trip(&self, block: &ReportBlock, now: Instant) -> Option<Duration> {
        let sent = self
            .own_reports
            .iter()
            .find(|(id, _)| *id == block.last_report)?
            .1;
        let kept = Duration::from_secs(1) * (block.delay >> 16)
            + Duration::from_secs(1) * (block.delay & 0xffff) / 65_536;
        now.saturating_duration_since(sent).checked_sub(kept)
    }

    /// Whether a report is due; the next one is then timed. The first comes after half an
    /// interval.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        match self.next {
            None => {
                self.next = Some(now + self.interval() / 2);
                false
            }
            Some(due) if now < due => false,
            Some(_) => {
                self.next = Some(now + self.interval());
                true
            }
        }
    }

    /// RFC 3550 section 6.3.1: half to one and a half times the mean, so that no two sides stay
    /// in step, over e - 3/2, which reconsideration would make up for.
    fn interval(&mut self) -> Duration {
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let share = ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64;
        INTERVAL.mul_f64((0.5 + share) / 1.218_28)
    }

    pub(super) fn report(
        &mut self,
        Moment { now, ntp }: Moment,
        sent: Sent,
        source: Option<&mut Source>,
        voip: Option<VoipMetrics>,
        goodbye: bool,
    ) -> Vec<u8> {
        let sends = sent.packets > self.sent_at_last_report;
        self.sent_at_last_report = sent.packets;
        let sender = sends.then_some(SenderInfo {
            ntp,
            rtp_timestamp: sent.rtp_timestamp,
            packets: sent.packets as u32,
            octets: sent.octets as u32,
        });
        if sends {
            if self.own_reports.len() == REMEMBERED_REPORTS {
                self.own_reports.remove(0);
            }
            self.own_reports.push((middle(ntp), now));
        }
        let times = self.their_report.map(|(ntp, arrived)| {
            let kept = now.saturating_duration_since(arrived).as_micros() * 65_536 / 1_000_000;
            (middle(ntp), u32::try_from(kept).unwrap_or(u32::MAX))
        });
        let block = source.map(|source| {
            let block = ReportBlock::about(&source.reception());
            source.reported();
            let (last_report, delay) = times.unwrap_or_default();
            ReportBlock {
                last_report,
                delay,
                ..block
            }
        });
        rtcp::write(self.ssrc, sender, block, voip, goodbye)
    }
}

/// The middle 32 bits of an NTP time (RFC 3550 section 6.4.1).
fn middle(ntp: u64) -> u32 {
    (ntp >> 16) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_come_at_uneven_times_around_the_interval() {
        let start = Instant::now();
        let mut control = Control::new(0x1234_5678);
        let mut reports = Vec::new();
        for tick in 0..30_000u32 {
            let now = start + Duration::from_millis(20) * tick;
            if control.is_due(now) {
                reports.push(now);
            }
        }
        let first = (reports[0] - start).as_secs_f64();
        assert!((1.0..=3.1).contains(&first), "{first}");
        let gaps: Vec<f64> = reports
            .windows(2)
            .map(|pair| (pair[1] - pair[0]).as_secs_f64())
            .collect();
        assert!(
            gaps.iter().all(|gap| (2.05..=6.2).contains(gap)),
            "{gaps:?}"
        );
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        assert!((3.9..=4.4).contains(&mean), "{mean}");
        let spread = gaps
            .iter()
            .fold(0f64, |most, gap| most.max((gap - mean).abs()));
        assert!(spread > 1.0, "{spread}");
    }
}
