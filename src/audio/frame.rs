//! The telephone frame and the sample rate.

use std::fmt;
use std::time::Duration;

/// Samples of a [`Frame`]: 20 ms at 8 kHz.
pub const FRAME_SAMPLES: usize = 160;

/// Samples a second, between 1 kHz and 384 kHz.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SampleRate(u32);

impl SampleRate {
    /// 8 kHz, the rate between media and engines.
    pub const TELEPHONE: Self = Self(8_000);
    /// 16 kHz, the rate speech models are trained at.
    pub const WIDEBAND: Self = Self(16_000);

    /// A rate in Hz; `None` outside 1 kHz to 384 kHz, which no audio that we meet has.
    pub fn new(hz: u32) -> Option<Self> {
        (1_000..=384_000).contains(&hz).then_some(Self(hz))
    }

    /// The rate in Hz.
    pub fn hz(self) -> u32 {
        self.0
    }

    /// Whole samples in `duration`, rounded down.
    pub fn samples_in(self, duration: Duration) -> usize {
        let samples = duration.as_nanos() * u128::from(self.0) / 1_000_000_000;
        usize::try_from(samples).unwrap_or(usize::MAX)
    }

    /// How long `samples` last.
    pub fn duration_of(self, samples: usize) -> Duration {
        let nanos = samples as u128 * 1_000_000_000 / u128::from(self.0);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for SampleRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} Hz", self.0)
    }
}

/// 20 ms of mono audio at 8 kHz: what one tick of a call carries in each direction.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame([i16; FRAME_SAMPLES]);

impl Frame {
    /// All zeros.
    pub const SILENCE: Self = Self([0; FRAME_SAMPLES]);
    /// How long a frame lasts: 20 ms.
    pub const DURATION: Duration = Duration::from_millis(20);

    /// A frame of exactly these samples.
    pub fn new(samples: [i16; FRAME_SAMPLES]) -> Self {
        Self(samples)
    }

    /// The first 160 of `samples`, with zeros after them where there are fewer.
    pub fn padded(samples: &[i16]) -> Self {
        let mut frame = Self::SILENCE;
        for (to, from) in frame.0.iter_mut().zip(samples) {
            *to = *from;
        }
        frame
    }

    /// The samples.
    pub fn samples(&self) -> &[i16; FRAME_SAMPLES] {
        &self.0
    }

    /// The samples, to change in place.
    pub fn samples_mut(&mut self) -> &mut [i16; FRAME_SAMPLES] {
        &mut self.0
    }
}

impl Default for Frame {
    fn default() -> Self {
        Self::SILENCE
    }
}

impl fmt::Debug for Frame {
    /// Names the level, not the samples: speech does not belong in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({:.0} dBFS)", super::level::rms_dbfs(&self.0))
    }
}

impl From<[i16; FRAME_SAMPLES]> for Frame {
    fn from(samples: [i16; FRAME_SAMPLES]) -> Self {
        Self(samples)
    }
}
