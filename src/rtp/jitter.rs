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

use std::ops::RangeInclusive;
use std::time::Instant;

use super::TELEPHONE_HZ;
use super::conceal::{Concealer, Fade};
use super::delay::DelayEstimator;
use super::noise::{Noise, Silence};
use super::queue::{Coded, Loudness, Queue};
use super::stretch::{self, MOST_INPUT, SHORTEN_INPUT};
use crate::audio::level::rms_dbfs;
use crate::audio::{AnyFrame, Codec, FRAME_SAMPLES, SampleRate, WIDE_FRAME_SAMPLES};

// Times are in samples at 8 kHz; at 16 kHz they are twice as many.

/// Playout starts up to half a frame early rather than up to a whole one late: its 20 ms grid
/// is not the sender's.
const EARLY_START: i64 = FRAME_SAMPLES as i64 / 2;
/// Delay beyond which waiting sound is dropped rather than played: 200 ms.
const MOST_DELAY: i64 = 1_600;
/// Delay beyond which playout starts anew, since it was not asked for so long: 300 ms.
const STALLED: i64 = 2_400;

/// What a codec makes up by itself at most, before it fades to silence: 80 ms.
const MOST_CONTINUED: usize = 640;

/// Below this level a frame is quiet; after so many, it is in a pause, in which it may be shortened
/// or lengthened at any time. Between the sounds of a word it would be heard.
const QUIET_DBFS: f32 = -50.0;
const QUIET_BEFORE: u32 = 15;
/// Where packets are about to be missed, or much is too late, a shorter pause has to do.
const QUIET_IN_HASTE: u32 = 2;
const UNHURRIED: RangeInclusive<i64> = 0..=240;
/// How far delay may be off target before quiet frames are used to correct it.
const QUIET_ERROR: RangeInclusive<i64> = -20..=39;
/// And before any frame is. Too early, packets are missed; too late is only late.
const ANY_ERROR: RangeInclusive<i64> = -160..=480;
/// By how much more than the target a packet must be there before any is cut out.
const HYSTERESIS: i64 = 60;
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
    /// Nothing was sent, or nothing has come for so long that nothing is made up any more. Where
    /// the peer says how its silence sounds, it does.
    Silence,
}

/// One 20 ms frame of playout.
#[derive(Clone, Debug)]
pub struct PulledFrame {
    /// What is to be heard, 3.75 ms behind the packets it is from, at the rate of the stream.
    pub frame: AnyFrame,
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

/// Counted in samples of the stream unless named otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) played: u64,
    pub(super) concealed: u64,
    pub(super) removed: u64,
    pub(super) added: u64,
    pub(super) late_packets: u64,
    pub(super) dropped_packets: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Until a packet is due. Nothing before `floor` is played any more.
    Waiting { floor: Option<i64> },
    /// `next` is to be played; `held` samples were made up since without going on.
    Playing { next: i64, held: i64 },
}

/// Packets follow each other from `at` on.
#[derive(Clone, Copy, Debug)]
struct Grid {
    at: i64,
    length: i64,
}

/// Buffers one stream of sound. All times are in samples of its rate, whatever the RTP clock.
#[derive(Debug)]
pub(super) struct JitterBuffer {
    rate: SampleRate,
    /// Samples of the stream for one at 8 kHz.
    scale: usize,
    queue: Queue,
    delay: DelayEstimator,
    state: State,
    /// Where packets begin, and how long they are.
    grid: Option<Grid>,
    /// The packet by which the sender said that it stops: comfort noise, a digit, or one that says
    /// that nothing is said.
    stopped_by: Option<i64>,
    /// How the peer's silence sounds, and the packet that said so.
    noise: Option<(Noise, i64)>,
    /// Of the packet played last.
    sequence: Option<i64>,
    concealer: Concealer,
    /// Samples that the codec made up since it decoded a packet.
    continued: usize,
    since_correction: u32,
    /// Frames without a sound before this one.
    quiet_frames: u32,
    counters: Counters,
}

/// A frame being filled.
struct Filling {
    frame: AnyFrame,
    filled: usize,
    received: usize,
    concealed: usize,
    arrived: Option<Instant>,
}

impl JitterBuffer {
    /// For a stream in `codec`. Other codecs are brought to its rate.
    pub(super) fn new(codec: Codec) -> Self {
        let rate = codec.sample_rate();
        Self {
            rate,
            scale: (rate.hz() / TELEPHONE_HZ) as usize,
            queue: Queue::new(codec, rate),
            delay: DelayEstimator::new(rate),
            state: State::Waiting { floor: None },
            grid: None,
            stopped_by: None,
            noise: None,
            sequence: None,
            concealer: Concealer::new(rate),
            continued: 0,
            since_correction: 0,
            quiet_frames: 0,
            counters: Counters::default(),
        }
    }

    /// The rate of what it plays.
    pub(super) fn rate(&self) -> SampleRate {
        self.rate
    }

    pub(super) fn counters(&self) -> Counters {
        self.counters
    }

    /// How long playout means to wait, in samples.
    pub(super) fn target(&self) -> i64 {
        self.delay.target()
    }

    /// A time that is counted at 8 kHz.
    fn scaled(&self, samples: i64) -> i64 {
        samples * self.scale as i64
    }

    fn frame_samples(&self) -> usize {
        FRAME_SAMPLES * self.scale
    }

    /// Forgets the stream, since another one begins. What was heard last fades out.
    pub(super) fn reset(&mut self) {
        self.queue.reset();
        self.delay.restart();
        self.state = State::Waiting { floor: None };
        self.stopped_by = None;
        self.noise = None;
        self.sequence = None;
    }

    /// The sender sends something else for now, the packet `sequence`, so that what follows is
    /// silence and not loss; where it says how that sounds, it is heard so.
    pub(super) fn sender_stopped(&mut self, silence: Option<Silence>, sequence: i64) {
        self.stopped_by = Some(sequence);
        let noise = match (self.noise.take(), silence) {
            (Some((mut noise, _)), Some(silence)) => {
                noise.change(silence);
                Some(noise)
            }
            (_, silence) => silence.map(|silence| Noise::new(silence, self.rate)),
        };
        self.noise = noise.map(|noise| (noise, sequence));
    }

    /// How many samples of the stream a payload has; `None` where it is no sound.
    pub(super) fn length_of(&self, codec: Codec, payload: &[u8]) -> Option<usize> {
        self.queue.length_of(codec, payload)
    }

    /// How loud the next packet is of those that were decoded: in the order in which they were
    /// said, each once.
    pub(super) fn poll_loudness(&mut self) -> Option<Loudness> {
        self.queue.poll_loudness()
    }

    /// Takes a packet, which [`length_of`](Self::length_of) knows; `arrival` is in samples, too.
    pub(super) fn insert(&mut self, coded: Coded<'_>, arrival: i64, arrived: Instant) -> Outcome {
        self.stopped_by.take_if(|by| *by < coded.sequence);
        let timestamp = coded.timestamp;
        self.observe(arrival, timestamp);
        let floor = match self.state {
            State::Waiting { floor } => floor.unwrap_or(i64::MIN),
            State::Playing { next, .. } => next,
        };
        let length = self.length_of(coded.codec, coded.payload).unwrap_or(0);
        if length > 0 {
            self.grid = Some(Grid {
                at: timestamp,
                length: length as i64,
            });
        }
        let outcome = self.queue.insert(coded, floor, arrived);
        match outcome {
            Outcome::Late => self.counters.late_packets += 1,
            Outcome::Buffered | Outcome::Duplicate => {}
        }
        while self.queue.is_overfull() {
            self.drop_first();
        }
        outcome
    }

    fn observe(&mut self, arrival: i64, timestamp: i64) {
        // A stream that comes back much later than its timestamps say has a new time line.
        let base = self.delay.base().unwrap_or(i64::MAX / 2);
        let waiting = matches!(self.state, State::Waiting { .. }) && self.queue.is_empty();
        if waiting && arrival - timestamp - base > self.scaled(MOST_DELAY) {
            self.delay.restart();
        }
        self.delay.observe(arrival, timestamp);
    }

    fn drop_first(&mut self) {
        if self.queue.remove_first() {
            self.counters.dropped_packets += 1;
        }
    }

    /// The next 20 ms.
    pub(super) fn pull(&mut self, now: i64) -> PulledFrame {
        if let State::Playing { next, .. } = self.state
            && self.lag_at(now, next) > self.scaled(STALLED)
        {
            self.state = State::Waiting { floor: Some(next) };
        }
        if let State::Waiting { .. } = self.state
            && let Some(next) = self.start(now)
        {
            self.state = State::Playing { next, held: 0 };
        }
        let mut filling = Filling {
            frame: AnyFrame::silence(self.rate),
            filled: 0,
            received: 0,
            concealed: 0,
            arrived: None,
        };
        let silent = match self.state {
            State::Waiting { .. } => {
                let samples = filling.frame.samples_mut();
                self.concealer.lost(samples, Fade::Quick);
                true
            }
            State::Playing { next, held } => {
                self.state = self.play(now, next, held, &mut filling);
                filling.received == 0 && self.stopped_by.is_some()
            }
        };
        if let Some((noise, _)) = &mut self.noise
            && silent
        {
            noise.add_to(filling.frame.samples_mut());
        }
        self.quiet_frames = match rms_dbfs(filling.frame.samples()) < QUIET_DBFS {
            true => self.quiet_frames.saturating_add(1),
            false => 0,
        };
        self.counters.played += filling.received as u64;
        self.counters.concealed += filling.concealed as u64;
        filling.into_frame()
    }

    /// How long after its earliest possible arrival the sample `next` is being played.
    fn lag_at(&self, now: i64, next: i64) -> i64 {
        self.delay.base().map_or(0, |base| now - base - next)
    }

    /// How much more than a frame from `next` on is there for sure by now, if packets take no longer
    /// than the target covers; what is missing where it is less. A frame waits for the last packet
    /// that it needs, which is that of its first sample only where the two begin together.
    fn surplus(&self, now: i64, next: i64) -> i64 {
        let Some((base, grid)) = self.delay.base().zip(self.grid) else {
            return 0;
        };
        let frame = self.frame_samples() as i64;
        let there = |wait: i64| {
            let packets = (now - base - wait - grid.at).div_euclid(grid.length);
            grid.at + (packets + 1) * grid.length - (next + frame)
        };
        let target = self.delay.target();
        // Packets come and go whole: with one limit for both, one would be cut out now and put in
        // then.
        let late = there(target + self.scaled(HYSTERESIS));
        if late > 0 { late } else { there(target).min(0) }
    }

    /// Where to start playing, if the first packet is due.
    fn start(&mut self, now: i64) -> Option<i64> {
        let first = self.queue.first()?;
        if self.lag_at(now, first.at) < self.delay.target() - self.scaled(EARLY_START) {
            return None;
        }
        while self.queue.len() > 1 {
            let first = self.queue.first()?;
            if self.lag_at(now, first.end()) <= self.scaled(MOST_DELAY) {
                break;
            }
            self.drop_first();
        }
        self.since_correction = 0;
        self.queue.first().map(|first| first.at)
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
        while filling.room() > 0 {
            let Some(first) = self.queue.first() else {
                let fade = if self.stopped_by.is_some() {
                    Fade::Quick
                } else {
                    Fade::Slow
                };
                held += match fade {
                    Fade::Slow => self.continue_decoding(filling),
                    Fade::Quick => self.conceal(usize::MAX, fade, filling),
                };
                if self.concealer.is_silent() {
                    return State::Waiting { floor: Some(next) };
                }
                break;
            };
            if first.end() <= next {
                self.queue.remove_first();
            } else if first.at > next {
                // What was made up while holding stands for what is missing here.
                next += held.min(first.at - next);
                held = 0;
                if self.queue.recover(next) {
                    continue;
                }
                let follows = self.sequence.is_some_and(|last| first.sequence == last + 1);
                let fade = if follows { Fade::Quick } else { Fade::Slow };
                let gap = usize::try_from(first.at - next).unwrap_or(0);
                next += self.conceal(gap, fade, filling);
            } else {
                held = 0;
                next += self.play_first(next, filling);
            }
        }
        State::Playing { next, held }
    }

    /// Plays the first packet from `next` on as far as the frame has room.
    fn play_first(&mut self, next: i64, filling: &mut Filling) -> i64 {
        let Some((first, sound)) = self.queue.decoded_first() else {
            return 0;
        };
        let skip = usize::try_from(next - first.at).unwrap_or(0);
        let rests = first.rests.then(|| Silence::white(rms_dbfs(sound)));
        let received = filling.take(sound.get(skip..).unwrap_or_default());
        let played = received.len() as i64;
        self.concealer.received(received);
        if first.made_up {
            filling.received -= played as usize;
            filling.concealed += played as usize;
        }
        self.continued = 0;
        self.sequence = Some(first.sequence);
        self.noise.take_if(|(_, since)| *since < first.sequence);
        if rests.is_some() {
            self.sender_stopped(rests, first.sequence);
        }
        filling.arrived = filling.arrived.max(Some(first.arrived));
        played
    }

    /// Makes up the rest of the frame: as the codec does it, for a while, where it has a way to.
    fn continue_decoding(&mut self, filling: &mut Filling) -> i64 {
        let too_long = self.continued >= MOST_CONTINUED * self.scale;
        let mut made_up = [0; WIDE_FRAME_SAMPLES];
        let made_up = &mut made_up[..filling.room()];
        if too_long || !self.queue.conceal(made_up) {
            // What a codec makes up for so long is no speech any more.
            let fade = if too_long { Fade::Quick } else { Fade::Slow };
            return self.conceal(usize::MAX, fade, filling);
        }
        let length = made_up.len();
        self.continued += length;
        filling.concealed += length;
        let gap = filling.gap(length);
        gap.copy_from_slice(made_up);
        self.concealer.received(gap);
        length as i64
    }

    /// Makes up at most `wanted` samples, as far as the frame has room, and returns how many.
    fn conceal(&mut self, wanted: usize, fade: Fade, filling: &mut Filling) -> i64 {
        let gap = filling.gap(wanted);
        let length = gap.len();
        self.concealer.lost(gap, fade);
        if !self.concealer.is_silent() {
            filling.concealed += length;
        }
        length as i64
    }

    /// Plays a frame shorter or longer than it is where the delay is off target, and returns
    /// where to go on.
    fn correct_delay(&mut self, now: i64, next: i64, filling: &mut Filling) -> Option<i64> {
        let error = self.surplus(now, next);
        let telephone_error = error / self.scale as i64;
        let pause = if ANY_ERROR.contains(&telephone_error) {
            QUIET_PAUSE
        } else {
            ANY_PAUSE
        };
        let guessed = pause == QUIET_PAUSE && !self.delay.is_settled();
        if guessed || QUIET_ERROR.contains(&telephone_error) || self.since_correction < pause {
            return None;
        }
        let mut sound = [0; MOST_INPUT];
        let sound = &mut sound[..SHORTEN_INPUT * self.scale];
        let available = self.queue.peek(next, sound);
        let frame = &sound[..self.frame_samples()];
        let long_enough = match UNHURRIED.contains(&telephone_error) {
            true => QUIET_BEFORE,
            false => QUIET_IN_HASTE,
        };
        let in_pause = self.quiet_frames >= long_enough && rms_dbfs(frame) < QUIET_DBFS;
        if pause == QUIET_PAUSE && !in_pause {
            return None;
        }
        let (corrected, used) = if error > 0 && available >= sound.len() {
            let limit = usize::try_from(error).unwrap_or(0);
            let shorter = stretch::shorten(sound, limit, self.scale)?;
            self.counters.removed += shorter.difference as u64;
            let used = frame.len() + shorter.difference;
            (shorter, used)
        } else if error < 0 && available >= frame.len() {
            let longer = stretch::lengthen(frame, self.scale);
            self.counters.added += longer.difference as u64;
            let used = frame.len() - longer.difference;
            (longer, used)
        } else {
            return None;
        };
        self.since_correction = 0;
        self.concealer.received(filling.take(corrected.samples()));
        let used_up = next + used as i64;
        for used in self.queue.before(used_up) {
            self.sequence = Some(used.sequence);
            filling.arrived = filling.arrived.max(Some(used.arrived));
        }
        Some(used_up)
    }
}

impl Filling {
    fn room(&self) -> usize {
        self.frame.samples().len() - self.filled
    }

    /// Appends what fits of `sound`, and returns that part of the frame.
    fn take(&mut self, sound: &[i16]) -> &mut [i16] {
        let count = self.room().min(sound.len());
        self.received += count;
        let taken = self.gap(count);
        taken.copy_from_slice(&sound[..count]);
        taken
    }

    /// The next part of the frame, at most `wanted` samples of it, to be filled.
    fn gap(&mut self, wanted: usize) -> &mut [i16] {
        let from = self.filled;
        self.filled += self.room().min(wanted);
        &mut self.frame.samples_mut()[from..self.filled]
    }

    fn into_frame(self) -> PulledFrame {
        let kind = if self.received * 2 >= self.frame.samples().len() {
            FrameKind::Voice
        } else if self.concealed > 0 {
            FrameKind::Concealed
        } else {
            FrameKind::Silence
        };
        PulledFrame {
            frame: self.frame,
            kind,
            arrived: self.arrived,
        }
    }
}
