//! What the caller said of late, on the call's clock: as much as may still be asked for, and never
//! more than half a minute.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::audio::{FRAME_SAMPLES, Frame};
use crate::conversation::{AudioRange, SamplePosition};

/// 32 s at 8 kHz: a little more than a conversation asks for.
const KEPT: usize = 32 * 8000;
/// By how much it grows and shrinks: a second.
const GROWTH: usize = 8000;

/// A ring of samples with the position of its first one.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    samples: VecDeque<i16>,
    start: u64,
}

impl Timeline {
    /// Adds the frame of a tick; ticks that were lost before it are silence.
    pub(super) fn push(&mut self, index: u64, frame: &Frame) {
        let at = index * FRAME_SAMPLES as u64;
        let missing = at.saturating_sub(self.end());
        if missing > KEPT as u64 {
            self.samples.clear();
            self.start = at;
        } else {
            self.samples.extend((0..missing).map(|_| 0));
        }
        // Not by doubling: this is most of what a call has in memory.
        if self.samples.capacity() < self.samples.len() + FRAME_SAMPLES {
            self.samples.reserve_exact(GROWTH);
        }
        self.samples.extend(frame.samples());
        let surplus = self.samples.len().saturating_sub(KEPT);
        self.samples.drain(..surplus);
        self.start += surplus as u64;
    }

    /// Forgets what was before `position`.
    pub(super) fn forget_before(&mut self, position: SamplePosition) {
        let over = position.0.saturating_sub(self.start);
        // What is left to forget is worth the move.
        if over < GROWTH as u64 {
            return;
        }
        let over = usize::try_from(over).unwrap_or(usize::MAX);
        let over = over.min(self.samples.len());
        self.samples.drain(..over);
        self.start += over as u64;
        self.samples.shrink_to(self.samples.len() + GROWTH);
    }

    fn end(&self) -> u64 {
        self.start + self.samples.len() as u64
    }

    /// The samples of a range, as far as they are kept.
    pub(super) fn slice(&self, range: AudioRange) -> Arc<[i16]> {
        let place = |position: SamplePosition| {
            let offset = position.0.clamp(self.start, self.end()) - self.start;
            // Bounded by the ring's length.
            usize::try_from(offset).unwrap_or(usize::MAX)
        };
        let (from, to) = (place(range.start), place(range.end));
        self.samples.range(from..to.max(from)).copied().collect()
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
        let frame = |value| Frame::new([value; FRAME_SAMPLES]);
        timeline.push(0, &frame(1));
        timeline.push(2, &frame(3));
        let heard = timeline.slice(range(159, 322));
        assert_eq!(heard.len(), 163);
        assert_eq!((heard[0], heard[1], heard[160], heard[161]), (1, 0, 0, 3));
        assert_eq!(timeline.slice(range(400, 10_000)).len(), 80);
        timeline.forget_before(SamplePosition(200));
        assert_eq!(timeline.slice(range(0, 480)).len(), 480, "not worth it");
        for index in 3..2000 {
            timeline.push(index, &frame(7));
        }
        assert_eq!(timeline.slice(range(0, 2000 * 160)).len(), KEPT);
        assert!(timeline.slice(range(0, 160)).is_empty());
        let end = 2000 * 160;
        timeline.forget_before(SamplePosition(end - 16_000));
        assert_eq!(timeline.slice(range(0, end)).len(), 16_000);
        assert!(timeline.samples.capacity() <= 16_000 + GROWTH);
    }
}
