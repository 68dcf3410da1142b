//! A network in virtual time, and a call through it.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::audio::codec::through;
use crate::audio::{AnyFrame, Codec, FRAME_SAMPLES, Frame, PayloadKind};

/// How a path treats datagrams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    /// Share that is lost where losses are alone.
    pub(crate) loss: f64,
    /// How many are lost in a row.
    pub(crate) burst: u32,
    /// Share that comes twice.
    pub(crate) duplicates: f64,
    /// Least time under way, ms.
    pub(crate) delay_ms: f64,
    /// At most this much more, evenly distributed, ms. Beyond 20 it reorders.
    pub(crate) jitter_ms: f64,
}

impl Path {
    pub(crate) const CLEAN: Self = Self {
        loss: 0.0,
        burst: 1,
        duplicates: 0.0,
        delay_ms: 15.0,
        jitter_ms: 0.0,
    };
}

/// Datagrams under way, in order of arrival.
pub(crate) struct Network {
    path: Path,
    rng: StdRng,
    losing: u32,
    under_way: Vec<(Duration, Vec<u8>)>,
}

impl Network {
    pub(crate) fn new(path: Path, seed: u64) -> Self {
        Self {
            path,
            rng: StdRng::seed_from_u64(seed),
            losing: 0,
            under_way: Vec::new(),
        }
    }

    pub(crate) fn set_path(&mut self, path: Path) {
        self.path = path;
    }

    pub(crate) fn send(&mut self, at: Duration, datagram: &[u8]) {
        if self.losing == 0
            && self
                .rng
                .random_bool(self.path.loss / f64::from(self.path.burst))
        {
            self.losing = self.path.burst;
        }
        if self.losing > 0 {
            self.losing -= 1;
            return;
        }
        let copies = 1 + u8::from(self.rng.random_bool(self.path.duplicates));
        for _ in 0..copies {
            let jitter = self.rng.random_range(0.0..=self.path.jitter_ms);
            let under_way = Duration::from_secs_f64((self.path.delay_ms + jitter) / 1_000.0);
            self.under_way.push((at + under_way, datagram.to_vec()));
        }
        self.under_way.sort_by_key(|(arrival, _)| *arrival);
    }

    pub(crate) fn arrived(&mut self, by: Duration) -> Vec<(Duration, Vec<u8>)> {
        let count = self
            .under_way
            .partition_point(|(arrival, _)| *arrival <= by);
        self.under_way.drain(..count).collect()
    }
}

pub(crate) fn stream(codec: Codec, ptime_ms: u8) -> StreamConfig {
    StreamConfig {
        codec,
        payload_type: codec.payload_type(),
        telephone_event: Some(101),
        receive: vec![
            (codec.payload_type(), PayloadKind::Audio(codec)),
            (101, PayloadKind::TelephoneEvent(codec.clock_rate())),
        ],
        ptime_ms,
        voip_metrics: true,
        srtp: None,
    }
}

pub(crate) fn session(ssrc: u32, ptime_ms: u8) -> Session {
    session_in(Codec::Pcmu, ssrc, ptime_ms)
}

pub(crate) fn session_in(codec: Codec, ssrc: u32, ptime_ms: u8) -> Session {
    Session::new(SessionConfig {
        ssrc,
        // Close to their wraps, which so are in every test.
        first_sequence: 65_500,
        first_timestamp: u32::MAX - 8_000,
        stream: stream(codec, ptime_ms),
    })
}

/// What came out of a call.
pub(crate) struct Heard {
    pub(crate) frames: Vec<PulledFrame>,
    pub(crate) received: Vec<Received>,
    pub(crate) loudness: Vec<Loudness>,
    pub(crate) digits: Vec<Digit>,
    pub(crate) statistics: Statistics,
}

impl Heard {
    pub(crate) fn samples(&self) -> Vec<i16> {
        self.frames
            .iter()
            .flat_map(|pulled| pulled.frame.samples().to_vec())
            .collect()
    }

    pub(crate) fn count(&self, kind: FrameKind) -> usize {
        self.frames
            .iter()
            .filter(|pulled| pulled.kind == kind)
            .count()
    }
}

/// One direction of a call: a sender, a network and a receiver, each on its own clock.
pub(crate) struct Call {
    pub(crate) sender: Session,
    pub(crate) receiver: Session,
    pub(crate) network: Network,
    /// The sender's clock is this much fast, in millionths.
    pub(crate) drift_ppm: f64,
    start: Instant,
    ticks: u64,
    heard: Heard,
}

impl Call {
    pub(crate) fn new(path: Path, seed: u64, ptime_ms: u8) -> Self {
        Self::with_codec(Codec::Pcmu, path, seed, ptime_ms)
    }

    pub(crate) fn with_codec(codec: Codec, path: Path, seed: u64, ptime_ms: u8) -> Self {
        Self {
            sender: session_in(codec, 0x5e_7d_e5, ptime_ms),
            receiver: session_in(codec, 0x4ec_e14e, 20),
            network: Network::new(path, seed),
            drift_ppm: 0.0,
            start: Instant::now(),
            ticks: 0,
            heard: Heard {
                frames: Vec::new(),
                received: Vec::new(),
                loudness: Vec::new(),
                digits: Vec::new(),
                statistics: Statistics::default(),
            },
        }
    }

    pub(crate) fn now(&self) -> Instant {
        self.start + Duration::from_millis(20) * self.ticks as u32
    }

    /// Sends one frame (or nothing) and plays one, 20 ms later than the one before.
    pub(crate) fn tick(&mut self, frame: Option<&AnyFrame>) {
        let sent_at = Duration::from_secs_f64(
            self.ticks as f64 * 0.02 * (1.0 - self.drift_ppm / 1e6) + 0.007,
        );
        let network = &mut self.network;
        self.sender
            .send(frame, |datagram| network.send(sent_at, datagram));
        self.ticks += 1;
        self.play();
    }

    /// Plays one frame while the sender's clock stands still.
    pub(crate) fn tick_without_sender(&mut self) {
        self.ticks += 1;
        self.play();
    }

    fn play(&mut self) {
        let by = Duration::from_millis(20) * self.ticks as u32;
        for (arrival, datagram) in self.network.arrived(by) {
            let received = self.receiver.receive(self.start + arrival, &datagram);
            self.heard.received.push(received.unwrap());
        }
        let pulled = self.receiver.pull(self.start + by);
        self.heard.frames.push(pulled);
        while let Some(loudness) = self.receiver.poll_loudness() {
            self.heard.loudness.push(loudness);
        }
        while let Some(digit) = self.receiver.poll_digit() {
            self.heard.digits.push(digit);
        }
    }

    /// Sends all of `sound`, which is at the codec's rate.
    pub(crate) fn speak(&mut self, sound: &[i16]) {
        let rate = self.sender.rate();
        for frame in sound.chunks(rate.samples_in(Frame::DURATION)) {
            self.tick(Some(&AnyFrame::padded(frame, rate)));
        }
    }

    /// Goes on for a number of frames with nothing sent.
    pub(crate) fn be_silent(&mut self, frames: usize) {
        for _ in 0..frames {
            self.tick(None);
        }
    }

    pub(crate) fn finish(mut self) -> Heard {
        self.be_silent(20);
        self.heard.statistics = self.receiver.statistics();
        self.heard
    }
}

/// Speech-like sound: syllables of 200 ms with a gliding voice, 100 ms of near silence between.
pub(crate) fn speech(frames: usize, seed: u64) -> Vec<i16> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut phase = 0.0f64;
    let mut hz = 120.0;
    (0..frames * FRAME_SAMPLES)
        .map(|n| {
            let at = n % 2_400;
            if at == 0 {
                hz = rng.random_range(90.0..180.0);
            }
            let noise = rng.random_range(-20.0..20.0);
            if at >= 1_600 {
                return noise as i16;
            }
            phase += std::f64::consts::TAU * (hz + at as f64 / 100.0) / 8_000.0;
            let envelope = (std::f64::consts::PI * at as f64 / 1_600.0).sin();
            let voice: f64 = (1..=15)
                .map(|k| (f64::from(k) * phase).sin() / f64::from(k))
                .sum();
            (5_000.0 * envelope * voice + noise) as i16
        })
        .collect()
}

/// Sound without a pause, in which delay is not corrected.
pub(crate) fn roar(frames: usize, seed: u64) -> Vec<i16> {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..frames * FRAME_SAMPLES)
        .map(|_| rng.random_range(-4_000..4_000))
        .collect()
}

/// What G.711 makes of sound.
pub(crate) fn coded(sound: &[i16]) -> Vec<i16> {
    through(Codec::Pcmu, sound)
}
