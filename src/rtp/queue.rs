//! Packets of sound on the sender's time line, decoded as soon as they can be.
//!
//! ```text
//!   insert ──▶ Coded ──nothing is missing before it, or the codec does not mind──▶ Sound
//!                │                                                                  ▲
//!                └──it is to be played, so what is missing is lost for good─────────┘
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use super::jitter::Outcome;
use crate::audio::level::{SILENCE_DBFS, rms_dbfs};
use crate::audio::{Codec, Decoder, Frame, SampleRate};

/// Sound that is kept at most, in ms and in packets.
const MOST_MS: usize = 1_000;
const MOST_PACKETS: usize = 128;
/// A longer gap is none that a codec fills, in ms.
const MOST_RECOVERED_MS: usize = 120;
/// Packets whose level was not asked for yet.
const MOST_UNREPORTED: usize = 256;

/// How loud a packet of sound is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loudness {
    /// When the packet arrived.
    pub arrived: Instant,
    /// Level of its loudest 20 ms; the least one of a packet that came too late to be decoded.
    pub level_dbfs: f32,
}

/// A packet of sound as it came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Coded<'a> {
    pub(super) codec: Codec,
    pub(super) payload: &'a [u8],
    /// Extended.
    pub(super) sequence: i64,
    /// Of its first sample, extended, in samples of the stream.
    pub(super) timestamp: i64,
}

/// Where a packet lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Its first sample to be played.
    pub(super) at: i64,
    length: usize,
    pub(super) sequence: i64,
    pub(super) arrived: Instant,
    /// It says that nothing is said.
    pub(super) rests: bool,
    /// It did not come, but the next one told of it.
    pub(super) made_up: bool,
}

impl Place {
    /// Just behind its last sample.
    pub(super) fn end(&self) -> i64 {
        self.at + self.length as i64
    }
}

#[derive(Debug)]
struct Stored {
    content: Content,
    /// Samples at its beginning that were due before it came, and are not played.
    skipped: usize,
    place: Place,
}

#[derive(Debug)]
enum Content {
    Coded(Codec, Vec<u8>),
    Sound(Vec<i16>),
}

impl Stored {
    /// What is to be played of it; nothing while it is coded.
    fn sound(&self) -> &[i16] {
        match &self.content {
            Content::Sound(samples) => samples.get(self.skipped..).unwrap_or_default(),
            Content::Coded(..) => &[],
        }
    }
}

/// The waiting packets of one stream. All times are in samples of its rate.
#[derive(Debug)]
pub(super) struct Queue {
    rate: SampleRate,
    packets: BTreeMap<i64, Stored>,
    samples: usize,
    decoder: Decoder,
    /// Sequence number of the packet decoded last.
    decoded: Option<i64>,
    loudness: VecDeque<Loudness>,
}

impl Queue {
    /// For a stream that is most likely in `codec`, and played at `rate`.
    pub(super) fn new(codec: Codec, rate: SampleRate) -> Self {
        Self {
            rate,
            packets: BTreeMap::new(),
            samples: 0,
            decoder: Decoder::new(codec, rate),
            decoded: None,
            loudness: VecDeque::new(),
        }
    }

    /// Forgets the stream.
    pub(super) fn reset(&mut self) {
        self.packets.clear();
        self.samples = 0;
        self.decoder = Decoder::new(self.decoder.codec(), self.rate);
        self.decoded = None;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.packets.len()
    }

    /// More waits than is ever played.
    pub(super) fn is_overfull(&self) -> bool {
        let ms = self.samples * 1_000 / self.rate.hz() as usize;
        ms > MOST_MS || self.packets.len() > MOST_PACKETS
    }

    /// How many samples a payload has; `None` where it is no sound.
    pub(super) fn length_of(&self, codec: Codec, payload: &[u8]) -> Option<usize> {
        self.decoder.length_of(codec, payload)
    }

    /// How loud the next packet is of those that were decoded, each once.
    pub(super) fn poll_loudness(&mut self) -> Option<Loudness> {
        self.loudness.pop_front()
    }

    /// Takes a packet, of which nothing before `floor` is played any more.
    pub(super) fn insert(&mut self, coded: Coded<'_>, floor: i64, arrived: Instant) -> Outcome {
        let whole = self.length_of(coded.codec, coded.payload).unwrap_or(0);
        let mut stored = Stored {
            content: Content::Coded(coded.codec, coded.payload.to_vec()),
            skipped: 0,
            place: Place {
                at: coded.timestamp.max(floor),
                length: whole,
                sequence: coded.sequence,
                arrived,
                rests: coded.codec.is_resting(coded.payload),
                made_up: false,
            },
        };
        // Of a packet of which the beginning is too late, the rest is played.
        let skipped = usize::try_from(stored.place.at - coded.timestamp).unwrap_or(usize::MAX);
        let Some(length) = whole.checked_sub(skipped).filter(|length| *length > 0) else {
            if coded.codec.has_memory() {
                // A sign of life all the same.
                self.report(arrived, &[]);
            } else {
                self.decode(&mut stored);
            }
            return Outcome::Late;
        };
        (stored.skipped, stored.place.length) = (skipped, length);
        let at = stored.place.at;
        if self.packets.contains_key(&at) {
            return Outcome::Duplicate;
        }
        self.samples += length;
        self.packets.insert(at, stored);
        self.decode_what_follows(at);
        Outcome::Buffered
    }

    /// Decodes the packet at `start` and those behind it, as far as nothing is missing before
    /// them that they need.
    fn decode_what_follows(&mut self, start: i64) {
        let mut packets = std::mem::take(&mut self.packets);
        for (_, stored) in packets.range_mut(start..) {
            let Content::Coded(codec, _) = &stored.content else {
                continue;
            };
            let follows = |last| stored.place.sequence == last + 1;
            if codec.has_memory() && !self.decoded.is_none_or(follows) {
                break;
            }
            self.decode(stored);
        }
        self.packets = packets;
    }

    fn decode(&mut self, stored: &mut Stored) {
        let Content::Coded(codec, payload) = &stored.content else {
            return;
        };
        if *codec != self.decoder.codec() {
            self.decoder = Decoder::new(*codec, self.rate);
        }
        let length = stored.skipped + stored.place.length;
        let mut samples = Vec::with_capacity(length);
        self.decoder.decode(payload, &mut samples);
        samples.resize(length, 0);
        self.decoded = self.decoded.max(Some(stored.place.sequence));
        self.report(stored.place.arrived, &samples);
        stored.content = Content::Sound(samples);
    }

    fn report(&mut self, arrived: Instant, samples: &[i16]) {
        if self.loudness.len() == MOST_UNREPORTED {
            self.loudness.pop_front();
        }
        let frames = samples.chunks(self.rate.samples_in(Frame::DURATION));
        let level_dbfs = frames.map(rms_dbfs).fold(SILENCE_DBFS, f32::max);
        self.loudness.push_back(Loudness {
            arrived,
            level_dbfs,
        });
    }

    /// The first packet.
    pub(super) fn first(&self) -> Option<Place> {
        self.packets
            .first_key_value()
            .map(|(_, stored)| stored.place)
    }

    /// The first packet with its sound, decoded even where what it builds on is missing.
    pub(super) fn decoded_first(&mut self) -> Option<(Place, &[i16])> {
        if let Content::Coded(..) = self.packets.first_key_value()?.1.content {
            let (at, mut stored) = self.packets.pop_first()?;
            self.decode(&mut stored);
            self.packets.insert(at, stored);
            self.decode_what_follows(at);
        }
        let (_, stored) = self.packets.first_key_value()?;
        Some((stored.place, stored.sound()))
    }

    /// Makes up what follows what was decoded last; false where the codec has no way to.
    pub(super) fn conceal(&mut self, samples: &mut [i16]) -> bool {
        self.decoder.conceal(samples)
    }

    /// Fills the gap from `next` to the first packet, where packets were lost and the codec has a
    /// way to; false where there is none.
    pub(super) fn recover(&mut self, next: i64) -> bool {
        let Some((_, mut first)) = self.packets.pop_first() else {
            return false;
        };
        let place = first.place;
        let missing = usize::try_from(place.at - next).unwrap_or(0);
        let longest = self.rate.hz() as usize * MOST_RECOVERED_MS / 1_000;
        let mut samples = Vec::new();
        let recovered = match &first.content {
            Content::Coded(codec, payload) if *codec == self.decoder.codec() => {
                (1..=longest).contains(&missing)
                    && self.decoder.recover(payload, missing, &mut samples)
            }
            Content::Coded(..) | Content::Sound(_) => false,
        };
        if recovered {
            let made_up = Stored {
                content: Content::Sound(samples),
                skipped: 0,
                place: Place {
                    at: next,
                    length: missing,
                    sequence: place.sequence - 1,
                    made_up: true,
                    rests: false,
                    ..place
                },
            };
            self.samples += missing;
            self.packets.insert(next, made_up);
            self.decode(&mut first);
        }
        self.packets.insert(place.at, first);
        if recovered {
            self.decode_what_follows(place.at);
        }
        recovered
    }

    /// Removes the first packet; false where there is none.
    pub(super) fn remove_first(&mut self) -> bool {
        let removed = self.packets.pop_first();
        self.samples -= removed
            .as_ref()
            .map_or(0, |(_, stored)| stored.place.length);
        removed.is_some()
    }

    /// The packets that begin before `end`.
    pub(super) fn before(&self, end: i64) -> impl Iterator<Item = Place> {
        self.packets.range(..end).map(|(_, stored)| stored.place)
    }

    /// Copies what is there from `next` on without a gap, and returns how much that is.
    pub(super) fn peek(&self, next: i64, sound: &mut [i16]) -> usize {
        let mut copied = 0;
        for (at, stored) in &self.packets {
            let wanted = next + copied as i64;
            let Some(skip) = usize::try_from(wanted - at).ok() else {
                break; // a gap
            };
            let piece = stored.sound().get(skip..).unwrap_or_default();
            for (to, from) in sound[copied..].iter_mut().zip(piece) {
                *to = *from;
            }
            copied = sound.len().min(copied + piece.len());
        }
        copied
    }
}
