//! 20 ms of sound, and the sample rate.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Samples of a [`Frame`]: 20 ms at 8 kHz.
pub const FRAME_SAMPLES: usize = 160;
/// Samples of a [`WideFrame`]: 20 ms at 16 kHz.
pub const WIDE_FRAME_SAMPLES: usize = 2 * FRAME_SAMPLES;

/// Samples a second, between 1 kHz and 384 kHz.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SampleRate(u32);

impl SampleRate {
    /// 8 kHz, the rate between media and engines.
    pub const TELEPHONE: Self = Self(8_000);
    /// 16 kHz, the rate speech models are trained at.
    pub const WIDEBAND: Self = Self(16_000);
    /// 48 kHz, the RTP clock of Opus whatever it carries (RFC 7587).
    pub(super) const OPUS_CLOCK: Self = Self(48_000);

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

/// 20 ms of mono audio at 16 kHz: what a tick of a wideband call carries.
#[derive(Clone, PartialEq, Eq)]
pub struct WideFrame(Box<[i16; WIDE_FRAME_SAMPLES]>);

impl WideFrame {
    /// All zeros.
    pub fn silence() -> Self {
        Self(Box::new([0; WIDE_FRAME_SAMPLES]))
    }

    /// The samples.
    pub fn samples(&self) -> &[i16; WIDE_FRAME_SAMPLES] {
        &self.0
    }
}

impl fmt::Debug for WideFrame {
    /// Names the level, not the samples.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = super::level::rms_dbfs(self.0.as_slice());
        write!(f, "WideFrame({level:.0} dBFS)")
    }
}

/// 20 ms of mono audio at the rate of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "no allocation in narrowband, and little room where a tick has no wideband"
)]
pub enum AnyFrame {
    /// At 8 kHz.
    Narrow(Frame),
    /// At 16 kHz.
    Wide(WideFrame),
}

impl AnyFrame {
    /// Silence at a rate; at 8 kHz where it is neither of the two.
    pub fn silence(rate: SampleRate) -> Self {
        if rate == SampleRate::WIDEBAND {
            Self::Wide(WideFrame::silence())
        } else {
            Self::Narrow(Frame::SILENCE)
        }
    }

    /// The first 20 ms of `samples`, with zeros after them where there are fewer.
    pub fn padded(samples: &[i16], rate: SampleRate) -> Self {
        let mut frame = Self::silence(rate);
        for (to, from) in frame.samples_mut().iter_mut().zip(samples) {
            *to = *from;
        }
        frame
    }

    /// The rate of the samples.
    pub fn rate(&self) -> SampleRate {
        match self {
            Self::Narrow(_) => SampleRate::TELEPHONE,
            Self::Wide(_) => SampleRate::WIDEBAND,
        }
    }

    /// The samples, 160 or 320.
    pub fn samples(&self) -> &[i16] {
        match self {
            Self::Narrow(frame) => &frame.0,
            Self::Wide(frame) => frame.0.as_slice(),
        }
    }

    /// The samples, to change in place.
    pub fn samples_mut(&mut self) -> &mut [i16] {
        match self {
            Self::Narrow(frame) => &mut frame.0,
            Self::Wide(frame) => frame.0.as_mut_slice(),
        }
    }
}

impl From<Frame> for AnyFrame {
    fn from(frame: Frame) -> Self {
        Self::Narrow(frame)
    }
}

/// A stretch of sound at its own rate. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Sound {
    /// The rate of the samples.
    pub rate: SampleRate,
    /// Mono.
    pub samples: Arc<[i16]>,
}

impl Sound {
    /// Samples at 16 kHz.
    pub fn wide(samples: impl Into<Arc<[i16]>>) -> Self {
        Self {
            rate: SampleRate::WIDEBAND,
            samples: samples.into(),
        }
    }

    /// The same sound at another rate.
    #[must_use]
    pub fn at(&self, rate: SampleRate) -> Self {
        if self.rate == rate {
            return self.clone();
        }
        let samples = super::resample::whole(&self.samples, self.rate, rate);
        Self {
            rate,
            samples: samples.into(),
        }
    }

    /// How many samples it would have at 8 kHz, in which calls count.
    pub fn telephone_samples(&self) -> usize {
        self.telephone_samples_to(self.samples.len())
    }

    /// How many its first `samples` would be at 8 kHz.
    pub fn telephone_samples_to(&self, samples: usize) -> usize {
        let scaled = samples as u64 * u64::from(SampleRate::TELEPHONE.0);
        usize::try_from(scaled.div_ceil(u64::from(self.rate.0))).unwrap_or(usize::MAX)
    }

    /// The place of a sample that is counted at 8 kHz; not beyond the end.
    pub fn place_of(&self, telephone_sample: usize) -> usize {
        let place =
            telephone_sample as u64 * u64::from(self.rate.0) / u64::from(SampleRate::TELEPHONE.0);
        usize::try_from(place).map_or(self.samples.len(), |place| place.min(self.samples.len()))
    }
}

/// At 8 kHz.
impl From<Arc<[i16]>> for Sound {
    fn from(samples: Arc<[i16]>) -> Self {
        Self {
            rate: SampleRate::TELEPHONE,
            samples,
        }
    }
}

/// At 8 kHz.
impl From<Vec<i16>> for Sound {
    fn from(samples: Vec<i16>) -> Self {
        Arc::<[i16]>::from(samples).into()
    }
}

impl fmt::Debug for Sound {
    /// Names the length, not the samples.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sound({} at {})", self.samples.len(), self.rate)
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
