//! The jitter buffer: received sound on the sender's time line, played 20 ms at a time.
//!
//! ```text
//!              first packet due                     nothing left to play
//!   Waiting --------------------> Playing ------------------------------------> Playing, held
//!      ^                            ^  | a later packet is here: conceal the gap     |
//!      |                            |  +---> and go on behind it                     |
//!      |                            +--------- the packet comes after all -----------+
//!      +---------------- concealed until silent: the sender stopped -----------------+
//! ```
//!
//! A sample is due at its timestamp plus the least transit time plus the target, which covers
//! the measured jitter (see [`DelayEstimator`]). Where nothing is left to play, playout holds
//! its place and conceals: if the missing packet turns out to be late, it is played late; if a
//! later one comes first, it was lost, and what was concealed counts for it. Delay that grew in
//! this way, or through clocks that differ, is worked off by taking out single pitch periods,
//! preferably of silence; and the other way round.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Instant;

use super::conceal::{Concealer, Fade};
use super::delay::DelayEstimator;
use super::stretch::{self, SHORTEN_INPUT};
use crate::audio::level::rms_dbfs;
use crate::audio::{FRAME_SAMPLES, Frame};

/// Playout starts up to half a frame early rather than up to a whole one late: its 20 ms grid
/// is not the sender's.
const EARLY_START: i64 = FRAME_SAMPLES as i64 / 2;
/// Delay beyond which waiting sound is dropped rather than played: 200 ms.
const MOST_DELAY: i64 = 1_600;
/// Delay beyond which playout starts anew, since it was not asked for so long: 300 ms.
const STALLED: i64 = 2_400;
/// Sound that is kept at most: 1 s, in at most this many packets.
const MOST_SAMPLES: usize = 8_000;
const MOST_PACKETS: usize = 128;

/// Below this level a frame may be shortened or lengthened at any time.
const QUIET_DBFS: f32 = -50.0;
/// How far delay may be off target, in samples, before quiet frames are used to correct it.
const QUIET_ERROR: RangeInclusive<i64> = -40..=80;
/// And before any frame is. Too early, packets are missed; too late is only late.
const ANY_ERROR: RangeInclusive<i64> = -120..=320;
/// Frames between two corrections: in quiet, and in any sound.
const QUIET_PAUSE: u32 = 4;
const ANY_PAUSE: u32 = 2;

/// What a frame of playout is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// Mostly received sound.
    Voice,
    /// Mostly made up for lost or late packets.
    Concealed,
    /// Nothing was sent, or nothing has come for so long that nothing is made up any more.
    Silence,
}

/// One 20 ms frame of playout.
#[derive(Clone, Debug)]
pub struct PulledFrame {
    /// What is to be heard, 3.75 ms behind the packets it is from.
    pub frame: Frame,
    /// What it is made of.
    pub kind: FrameKind,
    /// When the newest packet in it arrived; `None` where no received sound is in it.
    pub arrived: Option<Instant>,
}

/// What became of a packet of sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It will be played.
    Buffered,
    /// It came after its time, and is not played.
    Late,
    /// It was here before.
    Duplicate,
}

/// Counted in samples at 8 kHz unless named otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) played: u64,
    pub(super) concealed: u64,
    pub(super) removed: u64,
    pub(super) added: u64,
    pub(super) late_packets: u64,
    pub(super) dropped_packets: u64,
}

#[derive(Debug)]
struct Stored {
    samples: Vec<i16>,
    sequence: i64,
    arrived: Instant,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Until a packet is due. Nothing before `floor` is played any more.
    Waiting { floor: Option<i64> },
    /// `next` is to be played; `held` samples were made up since without going on.
    Playing { next: i64, held: i64 },
}

/// Buffers one stream of 8 kHz sound. All times are in samples.
#[derive(Debug)]
pub(super) struct JitterBuffer {
    packets: BTreeMap<i64, Stored>,
    samples: usize,
    delay: DelayEstimator,
    state: State,
    /// The sender said that it stops: by comfort noise or a digit.
    sender_stopped: bool,
    /// Of the packet played last.
    sequence: Option<i64>,
    concealer: Concealer,
    since_correction: u32,
    counters: Counters,
}

/// A frame being filled.
struct Filling {
    samples: [i16; FRAME_SAMPLES],
    filled: usize,
    received: usize,
    concealed: usize,
    arrived: Option<Instant>,
}

impl JitterBuffer {
    pub(super) fn new() -> Self {
        Self {
            packets: BTreeMap::new(),
            samples: 0,
            delay: DelayEstimator::new(),
            state: State::Waiting { floor: None },
            sender_stopped: false,
            sequence: None,
            concealer: Concealer::new(),
            since_correction: 0,
            counters: Counters::default(),
        }
    }

    pub(super) fn counters(&self) -> Counters {
        self.counters
    }

    /// How long playout means to wait, in samples.
    pub(super) fn target(&self) -> i64 {
        self.delay.target()
    }

    /// Forgets the stream, since another one begins. What was heard last fades out.
    pub(super) fn reset(&mut self) {
        self.packets.clear();
        self.samples = 0;
        self.delay.restart();
        self.state = State::Waiting { floor: None };
        self.sender_stopped = false;
        self.sequence = None;
    }

    /// The sender sends something else for now, so that what follows is silence and not loss.
    pub(super) fn sender_stopped(&mut self) {
        self.sender_stopped = true;
    }

    /// Takes a packet whose first sample has the extended `timestamp`.
    pub(super) fn insert(
        &mut self,
        (sequence, timestamp): (i64, i64),
        mut samples: Vec<i16>,
        arrival: i64,
        arrived: Instant,
    ) -> Outcome {
        self.sender_stopped = false;
        self.observe(arrival, timestamp);
        let floor = match self.state {
            State::Waiting { floor } => floor.unwrap_or(i64::MIN),
            State::Playing { next, .. } => next,
        };
        // Of a packet of which the beginning is too late, the rest is played.
        let start = timestamp.max(floor);
        let too_late = usize::try_from(start - timestamp).unwrap_or(usize::MAX);
        if too_late >= samples.len() {
            self.counters.late_packets += 1;
            return Outcome::Late;
        }
        samples.drain(..too_late);
        if self.packets.contains_key(&start) {
            return Outcome::Duplicate;
        }
        self.samples += samples.len();
        self.packets.insert(
            start,
            Stored {
                samples,
                sequence,
                arrived,
            },
        );
        while self.samples > MOST_SAMPLES || self.packets.len() > MOST_PACKETS {
            self.drop_first();
        }
        Outcome::Buffered
    }

    fn observe(&mut self, arrival: i64, timestamp: i64) {
        // A stream that comes back much later than its timestamps say has a new time line.
        let base = self.delay.base().unwrap_or(i64::MAX / 2);
        let waiting = matches!(self.state, State::Waiting { .. }) && self.packets.is_empty();
        if waiting && arrival - timestamp - base > MOST_DELAY {
            self.delay.restart();
        }
        self.delay.observe(arrival, timestamp);
    }

    fn drop_first(&mut self) {
        if self.remove_first().is_some() {
            self.counters.dropped_packets += 1;
        }
    }

    fn remove_first(&mut self) -> Option<(i64, Stored)> {
        let (at, stored) = self.packets.pop_first()?;
        self.samples -= stored.samples.len();
        Some((at, stored))
    }

    /// The next 20 ms.
    pub(super) fn pull(&mut self, now: i64) -> PulledFrame {
        if let State::Playing { next, .. } = self.state
            && self.lag_at(now, next) > STALLED
        {
            self.state = State::Waiting { floor: Some(next) };
        }
        if let State::Waiting { .. } = self.state
            && let Some(next) = self.start(now)
        {
            self.state = State::Playing { next, held: 0 };
        }
        let mut filling = Filling {
            samples: [0; FRAME_SAMPLES],
            filled: 0,
            received: 0,
            concealed: 0,
            arrived: None,
        };
        match self.state {
            State::Waiting { .. } => {
                self.concealer.lost(&mut filling.samples, Fade::Quick);
            }
            State::Playing { next, held } => {
                self.state = self.play(now, next, held, &mut filling);
            }
        }
        self.counters.played += filling.received as u64;
        self.counters.concealed += filling.concealed as u64;
        filling.into_frame()
    }

    /// How long after its earliest possible arrival the sample `next` is being played.
    fn lag_at(&self, now: i64, next: i64) -> i64 {
        self.delay.base().map_or(0, |base| now - base - next)
    }

    /// Where to start playing, if the first packet is due.
    fn start(&mut self, now: i64) -> Option<i64> {
        let first = *self.packets.first_key_value()?.0;
        if self.lag_at(now, first) < self.delay.target() - EARLY_START {
            return None;
        }
        while self.packets.len() > 1 {
            let (at, stored) = self.packets.first_key_value()?;
            if self.lag_at(now, at + stored.samples.len() as i64) <= MOST_DELAY {
                break;
            }
            self.drop_first();
        }
        self.since_correction = 0;
        self.packets.first_key_value().map(|(at, _)| *at)
    }

    /// Fills a frame from `next` on and returns where that leads.
    fn play(&mut self, now: i64, mut next: i64, mut held: i64, filling: &mut Filling) -> State {
        self.since_correction = self.since_correction.saturating_add(1);
        if held == 0
            && let Some(corrected) = self.correct_delay(now, next, filling)
        {
            return State::Playing {
                next: corrected,
                held,
            };
        }
        while filling.filled < FRAME_SAMPLES {
            let Some(first) = self.packets.first_entry() else {
                let fade = if self.sender_stopped {
                    Fade::Quick
                } else {
                    Fade::Slow
                };
                held += self.conceal(FRAME_SAMPLES, fade, filling);
                if self.concealer.is_silent() {
                    return State::Waiting { floor: Some(next) };
                }
                break;
            };
            let (at, length) = (*first.key(), first.get().samples.len() as i64);
            if at + length <= next {
                self.remove_first();
            } else if at > next {
                // What was made up while holding stands for what is missing here.
                next += held.min(at - next);
                held = 0;
                let follows = self
                    .sequence
                    .is_some_and(|last| first.get().sequence == last + 1);
                let fade = if follows { Fade::Quick } else { Fade::Slow };
                let gap = usize::try_from(at - next).unwrap_or(0);
                next += self.conceal(gap, fade, filling);
            } else {
                held = 0;
                let skip = usize::try_from(next - at).unwrap_or(0);
                let received = filling.take(&first.get().samples[skip..]);
                next += received.len() as i64;
                self.concealer.received(received);
                self.sequence = Some(first.get().sequence);
                filling.arrived = filling.arrived.max(Some(first.get().arrived));
            }
        }
        State::Playing { next, held }
    }

    /// Makes up at most `wanted` samples, as far as the frame has room, and returns how many.
    fn conceal(&mut self, wanted: usize, fade: Fade, filling: &mut Filling) -> i64 {
        let from = filling.filled;
        let to = FRAME_SAMPLES.min(from.saturating_add(wanted));
        self.concealer.lost(&mut filling.samples[from..to], fade);
        filling.filled = to;
        if !self.concealer.is_silent() {
            filling.concealed += to - from;
        }
        (to - from) as i64
    }

    /// Plays a frame shorter or longer than it is where the delay is off target, and returns
    /// where to go on.
    fn correct_delay(&mut self, now: i64, next: i64, filling: &mut Filling) -> Option<i64> {
        let error = self.lag_at(now, next) - self.delay.target();
        let pause = if ANY_ERROR.contains(&error) {
            QUIET_PAUSE
        } else {
            ANY_PAUSE
        };
        if QUIET_ERROR.contains(&error) || self.since_correction < pause {
            return None;
        }
        let mut sound = [0; SHORTEN_INPUT];
        let available = self.peek(next, &mut sound);
        let frame: [i16; FRAME_SAMPLES] = *sound.first_chunk()?;
        if pause == QUIET_PAUSE && rms_dbfs(&frame) >= QUIET_DBFS {
            return None;
        }
        let (corrected, used) = if error > 0 && available >= SHORTEN_INPUT {
            let limit = usize::try_from(error).unwrap_or(0);
            let (corrected, removed) = stretch::shorten(&sound, limit)?;
            self.counters.removed += removed as u64;
            (corrected, FRAME_SAMPLES + removed)
        } else if error < 0 && available >= FRAME_SAMPLES {
            let (corrected, added) = stretch::lengthen(&frame);
            self.counters.added += added as u64;
            (corrected, FRAME_SAMPLES - added)
        } else {
            return None;
        };
        self.since_correction = 0;
        self.concealer.received(filling.take(&corrected));
        let used_up = next + used as i64;
        for (_, stored) in self.packets.range(..used_up) {
            self.sequence = Some(stored.sequence);
            filling.arrived = filling.arrived.max(Some(stored.arrived));
        }
        Some(used_up)
    }

    /// Copies what is there from `next` on without a gap, and returns how much that is.
    fn peek(&self, next: i64, sound: &mut [i16]) -> usize {
        let mut copied = 0;
        for (at, stored) in &self.packets {
            let wanted = next + copied as i64;
            let Some(skip) = usize::try_from(wanted - at).ok() else {
                break; // a gap
            };
            let piece = stored.samples.get(skip..).unwrap_or_default();
            for (to, from) in sound[copied..].iter_mut().zip(piece) {
                *to = *from;
            }
            copied = sound.len().min(copied + piece.len());
        }
        copied
    }
}

impl Filling {
    /// Appends what fits of `sound`, and returns that part of the frame.
    fn take(&mut self, sound: &[i16]) -> &mut [i16] {
        let room = &mut self.samples[self.filled..];
        let count = room.len().min(sound.len());
        self.filled += count;
        self.received += count;
        let taken = &mut room[..count];
        taken.copy_from_slice(&sound[..count]);
        taken
    }

    fn into_frame(self) -> PulledFrame {
        let kind = if self.received * 2 >= FRAME_SAMPLES {
            FrameKind::Voice
        } else if self.concealed > 0 {
            FrameKind::Concealed
        } else {
            FrameKind::Silence
        };
        PulledFrame {
            frame: Frame::new(self.samples),
            kind,
            arrived: self.arrived,
        }
    }
}
