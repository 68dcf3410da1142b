//! Digits as telephone events (RFC 4733), received and sent.
//!
//! ```text
//!   receiving an event, by its timestamp:
//!     any packet of it --> Open --+--> end packet, or a later event began, or 200 ms of nothing
//!                                 |      --> the digit is reported, once
//!                                 +--> its timestamp is remembered: repeated and late packets
//!                                        of it change nothing
//!   sending:
//!     Idle --digit--> Pressed (a packet each 20 ms) --> Ending (3 packets) --> Pausing --> Idle
//! ```

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::TELEPHONE_HZ;
use crate::audio::SampleRate;
use crate::audio::tone::DtmfDigit;

/// An event of which nothing more comes is over after this. Updates come each 20 to 50 ms.
const ABANDONED: Duration = Duration::from_millis(200);
/// Events that are remembered after their end, against late packets.
const REMEMBERED: usize = 16;
/// Events that are open at a time; more is no telephone.
const MOST_OPEN: usize = 4;
/// Digits that wait to be fetched.
const MOST_WAITING: usize = 64;
/// Digits that wait to be sent.
const MOST_QUEUED: usize = 64;

/// A digit that was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digit {
    /// The key.
    pub digit: DtmfDigit,
    /// How long it was pressed, as far as it was seen.
    pub duration: Duration,
}

/// The payload of a telephone event (RFC 4733 section 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) code: u8,
    pub(super) end: bool,
    /// In samples at 8 kHz, from the event's timestamp on.
    pub(super) duration: u16,
}

/// Power of the tone that an event stands for: -10 dBm0.
const VOLUME: u8 = 10;

impl Event {
    /// Reads a payload whose durations are on `clock`.
    pub(super) fn parse(payload: &[u8], clock: SampleRate) -> Option<Self> {
        let [code, flags, d0, d1, ..] = *payload else {
            return None;
        };
        let units = u32::from(u16::from_be_bytes([d0, d1]));
        let samples = units * TELEPHONE_HZ / clock.hz().max(TELEPHONE_HZ);
        Some(Self {
            code,
            end: flags & 0x80 != 0,
            duration: samples as u16, // not larger than the units
        })
    }

    /// The payload with durations on `clock`, which at 48 kHz do not go beyond 1.3 s.
    pub(super) fn to_bytes(self, clock: SampleRate) -> [u8; 4] {
        let units = u32::from(self.duration) * (clock.hz() / TELEPHONE_HZ);
        let [d0, d1] = u16::try_from(units).unwrap_or(u16::MAX).to_be_bytes();
        [self.code, u8::from(self.end) << 7 | VOLUME, d0, d1]
    }
}

/// One press of a key: an event, or the segments of a long one.
#[derive(Clone, Copy, Debug)]
struct Press {
    digit: DtmfDigit,
    /// Extended timestamp of its beginning.
    start: i64,
    /// Where its newest segment begins.
    segment: i64,
    /// End of what was seen of it.
    until: i64,
    seen: Instant,
}

impl Press {
    fn duration(&self) -> Duration {
        let samples = usize::try_from(self.until - self.start).unwrap_or(0);
        SampleRate::TELEPHONE.duration_of(samples)
    }
}

/// Receives digits: each once, whatever is lost, repeated or out of order, as long as one of
/// its packets arrives.
#[derive(Debug, Default)]
pub(super) struct Receiver {
    open: Vec<Press>,
    over: VecDeque<Press>,
    waiting: VecDeque<Digit>,
}

/// What an event packet said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) digit: DtmfDigit,
    /// It is the first packet of its press that was seen.
    pub(super) began: bool,
}

impl Receiver {
    /// Takes an event packet. `timestamp` is the extended one of its header, at 8 kHz. `None` for events
    /// that are no digit.
    pub(super) fn receive(
        &mut self,
        event: Event,
        timestamp: i64,
        marker: bool,
        now: Instant,
    ) -> Option<Seen> {
        let digit = DtmfDigit::from_event(event.code)?;
        let until = timestamp + i64::from(event.duration);
        let is_over = |press: &&Press| press.digit == digit && press.covers(timestamp);
        if self.over.iter().any(|press| is_over(&press)) {
            return Some(Seen {
                digit,
                began: false,
            });
        }
        let belongs = |press: &Press| press.digit == digit && press.continues_at(timestamp, marker);
        let known = self.open.iter().position(belongs);
        let Some(index) = known.or_else(|| self.begin(digit, timestamp, now)) else {
            return Some(Seen { digit, began: true });
        };
        if let Some(press) = self.open.get_mut(index) {
            press.segment = press.segment.max(timestamp);
            press.until = press.until.max(until);
            press.seen = now;
        }
        if event.end {
            // What is older is over, too, and was pressed before.
            for _ in 0..=index {
                self.close_oldest();
            }
        }
        Some(Seen {
            digit,
            began: known.is_none(),
        })
    }

    /// Opens a press in order of time and closes those that it follows. Returns its index, or
    /// `None` where so many are open that it is over already.
    fn begin(&mut self, digit: DtmfDigit, start: i64, now: Instant) -> Option<usize> {
        let index = self
            .open
            .iter()
            .filter(|press| press.start <= start)
            .count();
        let press = Press {
            digit,
            start,
            segment: start,
            until: start,
            seen: now,
        };
        self.open.insert(index, press);
        let closed = index.max(self.open.len().saturating_sub(MOST_OPEN));
        for _ in 0..closed {
            self.close_oldest();
        }
        index.checked_sub(closed)
    }

    fn close_oldest(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let press = self.open.remove(0);
        if self.over.len() == REMEMBERED {
            self.over.pop_front();
        }
        self.over.push_back(press);
        if self.waiting.len() < MOST_WAITING {
            self.waiting.push_back(Digit {
                digit: press.digit,
                duration: press.duration(),
            });
        }
    }

    /// Ends presses of which nothing was seen for a while.
    pub(super) fn tick(&mut self, now: Instant) {
        let abandoned = |press: &Press| now.saturating_duration_since(press.seen) >= ABANDONED;
        while self.open.first().is_some_and(abandoned) {
            self.close_oldest();
        }
    }

    /// Whether a key is being pressed.
    pub(super) fn is_pressed(&self) -> bool {
        !self.open.is_empty()
    }

    /// Ends everything, since another stream begins.
    pub(super) fn reset(&mut self) {
        while !self.open.is_empty() {
            self.close_oldest();
        }
        self.over.clear();
    }

    pub(super) fn poll(&mut self) -> Option<Digit> {
        self.waiting.pop_front()
    }
}

impl Press {
    /// A repeated or late packet of a press that is over. Some senders give each packet of an
    /// event a later timestamp, which then lies inside it.
    fn covers(&self, timestamp: i64) -> bool {
        timestamp == self.start || (self.start..self.until).contains(&timestamp)
    }

    /// A packet of a press that is not over: the same timestamp, or one inside or right after
    /// what was seen of it (RFC 4733 section 2.5.1.3: long events in segments), which a new
    /// press, after a pause and with the marker, is not.
    fn continues_at(&self, timestamp: i64, marker: bool) -> bool {
        self.covers(timestamp)
            || timestamp == self.segment
            || (!marker && (self.start..=self.until).contains(&timestamp))
    }
}

/// Samples by which a sent event grows with each packet: 20 ms.
const STEP: u16 = 160;
/// RFC 4733 section 2.5.1.4: the end is sent three times.
const END_PACKETS: u8 = 3;
/// Between two digits: 60 ms, in packets.
const PAUSE_PACKETS: u8 = 3;
/// ITU-T Q.24 lets receivers ignore what is shorter: 40 ms in samples.
const SHORTEST: u16 = 2 * STEP;
/// RFC 4733 durations have 16 bits; 8 s is a long press: in samples.
const LONGEST: u16 = 400 * STEP;

#[derive(Clone, Copy, Debug, Default)]
enum Sending {
    #[default]
    Idle,
    Pressed {
        code: u8,
        timestamp: u32,
        sent: u16,
        total: u16,
    },
    Ending {
        code: u8,
        timestamp: u32,
        total: u16,
        left: u8,
    },
    Pausing {
        left: u8,
    },
}

/// Sends digits one after another.
#[derive(Debug, Default)]
pub(super) struct Sender {
    queue: VecDeque<(DtmfDigit, u16)>,
    state: Sending,
}

/// An event packet to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EventPacket {
    pub(super) event: Event,
    pub(super) timestamp: u32,
    pub(super) marker: bool,
}

impl Sender {
    /// Queues a digit; `false` where too many wait.
    pub(super) fn queue(&mut self, digit: DtmfDigit, duration: Duration) -> bool {
        if self.queue.len() >= MOST_QUEUED {
            return false;
        }
        let samples = SampleRate::TELEPHONE.samples_in(duration);
        let steps = samples.div_ceil(usize::from(STEP)) * usize::from(STEP);
        let samples = u16::try_from(steps)
            .unwrap_or(LONGEST)
            .clamp(SHORTEST, LONGEST);
        self.queue.push_back((digit, samples));
        true
    }

    /// Whether digits are being sent or wait to be.
    pub(super) fn is_busy(&self) -> bool {
        !self.queue.is_empty() || !matches!(self.state, Sending::Idle)
    }

    /// The packet of this 20 ms tick, in which then no voice is sent; `timestamp` is the tick's.
    pub(super) fn tick(&mut self, timestamp: u32) -> Option<EventPacket> {
        if matches!(self.state, Sending::Idle)
            && let Some((digit, total)) = self.queue.pop_front()
        {
            self.state = Sending::Pressed {
                code: digit.event(),
                timestamp,
                sent: 0,
                total,
            };
        }
        let packet = |code, end, duration, timestamp, marker| EventPacket {
            event: Event {
                code,
                end,
                duration,
            },
            timestamp,
            marker,
        };
        match self.state {
            Sending::Idle => None,
            Sending::Pressed {
                code,
                timestamp,
                sent,
                total,
            } => {
                let duration = sent + STEP;
                let end = duration >= total;
                self.state = if end {
                    Sending::Ending {
                        code,
                        timestamp,
                        total,
                        left: END_PACKETS - 1,
                    }
                } else {
                    Sending::Pressed {
                        code,
                        timestamp,
                        sent: duration,
                        total,
                    }
                };
                Some(packet(code, end, duration, timestamp, sent == 0))
            }
            Sending::Ending {
                code,
                timestamp,
                total,
                left,
            } => {
                self.state = if left > 1 {
                    Sending::Ending {
                        code,
                        timestamp,
                        total,
                        left: left - 1,
                    }
                } else {
                    Sending::Pausing {
                        left: PAUSE_PACKETS,
                    }
                };
                Some(packet(code, true, total, timestamp, false))
            }
            Sending::Pausing { left } => {
                self.state = if left > 1 {
                    Sending::Pausing { left: left - 1 }
                } else {
                    Sending::Idle
                };
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
