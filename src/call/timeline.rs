//! What the caller said of late, on the call's clock: as much as may still be asked for, and never
//! more than half a minute.

use std::collections::VecDeque;

use crate::audio::{FRAME_SAMPLES, SampleRate, Sound};
use crate::conversation::{AudioRange, SamplePosition};

/// 32 s at 8 kHz: a little more than a conversation asks for.
const KEPT: usize = 32 * 8000;
/// By how much it grows and shrinks: a second.
const GROWTH: usize = 8000;

/// A ring of samples with the position of its first one. Positions are counted at 8 kHz; there
/// are `scale` samples for each.
#[derive(Debug)]
pub(super) struct Timeline {
    samples: VecDeque<i16>,
    start: u64,
    rate: SampleRate,
}

impl Default for Timeline {
    fn default() -> Self {
        Self {
            samples: VecDeque::new(),
            start: 0,
            rate: SampleRate::TELEPHONE,
        }
    }
}

impl Timeline {
    /// Adds the frame of a tick; ticks that were lost before it are silence.
    pub(super) fn push(&mut self, index: u64, frame: &[i16], rate: SampleRate) {
        self.change_rate(rate);
        let at = index * FRAME_SAMPLES as u64;
        let missing = at.saturating_sub(self.end());
        if missing > KEPT as u64 {
            self.samples.clear();
            self.start = at;
        } else {
            let missing = missing * self.scale() as u64;
            self.samples.extend((0..missing).map(|_| 0));
        }
        // Not by doubling: this is most of what a call has in memory.
        if self.samples.capacity() < self.samples.len() + frame.len() {
            self.samples.reserve_exact(GROWTH * self.scale());
        }
        self.samples.extend(frame);
        let surplus = self.samples.len().saturating_sub(KEPT * self.scale());
        let positions = surplus.div_ceil(self.scale());
        self.samples.drain(..positions * self.scale());
        self.start += positions as u64;
    }

    /// The codec changed in mid-call: what is kept goes on at its rate.
    fn change_rate(&mut self, rate: SampleRate) {
        if rate == self.rate {
            return;
        }
        let kept = Sound {
            rate: self.rate,
            samples: self.samples.iter().copied().collect(),
        };
        self.rate = rate;
        self.samples = kept.at(rate).samples.iter().copied().collect();
    }

    fn scale(&self) -> usize {
        (self.rate.hz() / SampleRate::TELEPHONE.hz()).max(1) as usize
    }

    /// Forgets what was before `position`.
    pub(super) fn forget_before(&mut self, position: SamplePosition) {
        let over = position.0.saturating_sub(self.start);
        // What is left to forget is worth the move.
        if over < GROWTH as u64 {
            return;
        }
        let over = usize::try_from(over).unwrap_or(usize::MAX);
        let over = over.min(self.samples.len() / self.scale());
        self.samples.drain(..over * self.scale());
        self.start += over as u64;
        let room = GROWTH * self.scale();
        self.samples.shrink_to(self.samples.len() + room);
    }

    fn end(&self) -> u64 {
        self.start + (self.samples.len() / self.scale()) as u64
    }

    /// The samples of a range, as far as they are kept.
    pub(super) fn slice(&self, range: AudioRange) -> Sound {
        let place = |position: SamplePosition| {
            let offset = position.0.clamp(self.start, self.end()) - self.start;
            // Bounded by the ring's length.
            usize::try_from(offset).unwrap_or(usize::MAX)
        };
        let (from, to) = (place(range.start), place(range.end));
        let scale = self.scale();
        let samples = self.samples.range(from * scale..to.max(from) * scale);
        Sound {
            rate: self.rate,
            samples: samples.copied().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> AudioRange {
        AudioRange {
            start: SamplePosition(start),
            end: SamplePosition(end),
        }
    }

    #[test]
    fn lost_ticks_are_silence_and_the_past_is_forgotten_after_half_a_minute() {
        let mut timeline = Timeline::default();
        let narrow = SampleRate::TELEPHONE;
        timeline.push(0, &[1; FRAME_SAMPLES], narrow);
        timeline.push(2, &[3; FRAME_SAMPLES], narrow);
        let heard = timeline.slice(range(159, 322)).samples;
        assert_eq!(heard.len(), 163);
        assert_eq!((heard[0], heard[1], heard[160], heard[161]), (1, 0, 0, 3));
        assert_eq!(timeline.slice(range(400, 10_000)).samples.len(), 80);
        timeline.forget_before(SamplePosition(200));
        let kept = timeline.slice(range(0, 480)).samples;
        assert_eq!(kept.len(), 480, "not worth it");
        for index in 3..2000 {
            timeline.push(index, &[7; FRAME_SAMPLES], narrow);
        }
        assert_eq!(timeline.slice(range(0, 2000 * 160)).samples.len(), KEPT);
        assert!(timeline.slice(range(0, 160)).samples.is_empty());
        let end = 2000 * 160;
        timeline.forget_before(SamplePosition(end - 16_000));
        assert_eq!(timeline.slice(range(0, end)).samples.len(), 16_000);
        assert!(timeline.samples.capacity() <= 16_000 + GROWTH);
    }

    #[test]
    fn what_was_said_keeps_its_place_when_the_codec_becomes_wideband() {
        let mut timeline = Timeline::default();
        let (narrow, wide) = (SampleRate::TELEPHONE, SampleRate::WIDEBAND);
        for index in 0..100 {
            timeline.push(index, &[1_000; 160], narrow);
        }
        for index in 100..200 {
            timeline.push(index, &[-1_000; 320], wide);
        }
        let heard = timeline.slice(range(100 * 160 - 80, 100 * 160 + 80));
        assert_eq!((heard.rate, heard.samples.len()), (wide, 320));
        assert!(heard.samples[100] > 900 && heard.samples[220] < -900);
        for index in 200..2_000 {
            timeline.push(index, &[7; 320], wide);
        }
        let kept = timeline.slice(range(0, 2_000 * 160));
        assert_eq!(kept.telephone_samples(), KEPT);
        timeline.forget_before(SamplePosition(2_000 * 160 - 16_000));
        let kept = timeline.slice(range(0, 2_000 * 160));
        assert_eq!(kept.telephone_samples(), 16_000);
    }
}
