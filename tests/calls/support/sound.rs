//! Sound files: reading, making, and judging whether somebody speaks.

use std::ops::Range;
use std::path::Path;

use offhook::audio::{SampleRate, resample};

/// A frame above this level is audible, as everywhere in the product.
const AUDIBLE_DBFS: f64 = -45.0;

/// Sound, one list of samples for each channel.
#[derive(Clone, Debug)]
pub(crate) struct Sound {
    /// In Hz.
    pub(crate) rate: u32,
    pub(crate) channels: Vec<Vec<i16>>,
}

impl Sound {
    pub(crate) fn read(path: &Path) -> Self {
        let reader = hound::WavReader::open(path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let spec = reader.spec();
        assert_eq!(spec.bits_per_sample, 16, "{}", path.display());
        let mut channels = vec![Vec::new(); usize::from(spec.channels)];
        for (index, sample) in reader.into_samples::<i16>().enumerate() {
            let channel = index % channels.len();
            channels[channel].push(sample.expect("a whole file"));
        }
        Self {
            rate: spec.sample_rate,
            channels,
        }
    }

    /// Samples of 20 ms.
    fn frame(&self) -> usize {
        self.rate as usize / 50
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.channels[0].len() as f64 / f64::from(self.rate)
    }

    /// How much of a stretch (in ms) is audible, from 0 to 1.
    pub(crate) fn audible_share(&self, channel: usize, ms: Range<u64>) -> f64 {
        let samples = &self.channels[channel];
        let place = |ms: u64| {
            let place = usize::try_from(ms * u64::from(self.rate) / 1000);
            place.map_or(samples.len(), |place| place.min(samples.len()))
        };
        let stretch = &samples[place(ms.start)..place(ms.end).max(place(ms.start))];
        let frames = stretch.chunks(self.frame()).count();
        assert!(frames > 0, "the sound ends before {ms:?} ms");
        stretch
            .chunks(self.frame())
            .filter(|frame| is_audible(frame))
            .count() as f64
            / frames as f64
    }

    /// How many seconds of a channel are a tone of this frequency.
    pub(crate) fn tone_seconds(&self, channel: usize, hz: f64) -> f64 {
        let frames = self.channels[channel].chunks(self.frame());
        let turn = std::f64::consts::TAU * hz / f64::from(self.rate);
        frames.filter(|frame| is_tone(frame, turn)).count() as f64 * 0.02
    }

    /// How many seconds of a channel are audible.
    pub(crate) fn audible_seconds(&self, channel: usize) -> f64 {
        let frames = self.channels[channel].chunks(self.frame());
        frames.filter(|frame| is_audible(frame)).count() as f64 * 0.02
    }

    /// The same sound with twice the samples, and nothing more in it.
    pub(crate) fn raise_to_16_khz(&mut self) {
        let (from, to) = (SampleRate::TELEPHONE, SampleRate::WIDEBAND);
        for channel in &mut self.channels {
            *channel = resample::whole(channel, from, to);
        }
        self.rate = to.hz();
    }

    /// The share of a channel's energy that telephones of the last century do not carry: above
    /// 4 kHz, by what a steep high-pass filter leaves.
    pub(crate) fn share_above_4_khz(&self, channel: usize) -> f64 {
        let samples = &self.channels[channel];
        let cut = 4_000.0 / f64::from(self.rate);
        let taps: Vec<f64> = (-60i32..=60)
            .map(|n| {
                let phase = std::f64::consts::TAU * cut * f64::from(n);
                let low = if n == 0 {
                    2.0 * cut
                } else {
                    phase.sin() / (std::f64::consts::PI * f64::from(n))
                };
                let window = 0.54 + 0.46 * (std::f64::consts::PI * f64::from(n) / 60.0).cos();
                f64::from(u8::from(n == 0)) - low * window
            })
            .collect();
        let energy = |value: f64| value * value;
        let all: f64 = samples.iter().map(|s| energy(f64::from(*s))).sum();
        let high: f64 = samples
            .windows(taps.len())
            .map(|window| {
                window
                    .iter()
                    .zip(&taps)
                    .map(|(s, tap)| f64::from(*s) * tap)
                    .sum()
            })
            .map(energy)
            .sum();
        high / all.max(1.0)
    }
}

/// A frame of 20 ms at 8 kHz.
const TELEPHONE_FRAME: usize = 160;

/// How alike the loudness of two sounds moves, frame by frame, where one is in the other: from -1
/// to 1. Speech that went over a network is alike to itself, not to other speech.
pub(crate) fn likeness(part: &[i16], whole: &[i16]) -> f64 {
    let part = loudness(part);
    let whole = loudness(whole);
    let places = whole.windows(part.len());
    places
        .map(|place| correlation(&part, place))
        .fold(-1.0, f64::max)
}

fn loudness(samples: &[i16]) -> Vec<f64> {
    let level = |frame: &[i16]| {
        let energy: f64 = frame.iter().map(|sample| f64::from(*sample).powi(2)).sum();
        (energy / frame.len() as f64).sqrt().max(30.0).ln()
    };
    samples.chunks_exact(TELEPHONE_FRAME).map(level).collect()
}

fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let (mut both, mut of_a, mut of_b) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        both += (a - mean_a) * (b - mean_b);
        of_a += (a - mean_a).powi(2);
        of_b += (b - mean_b).powi(2);
    }
    both / (of_a * of_b).sqrt().max(1e-9)
}

fn is_audible(frame: &[i16]) -> bool {
    let energy: f64 = frame.iter().map(|sample| f64::from(*sample).powi(2)).sum();
    let rms = (energy / frame.len().max(1) as f64).sqrt();
    20.0 * (rms / 32_768.0).max(1e-9).log10() > AUDIBLE_DBFS
}

/// Writes a telephone WAV file: `before` and `after` are seconds of silence round the speech.
pub(crate) fn write_padded(speech: &Path, before: f64, after: f64, to: &Path) {
    write_padded_at((8000, 1), speech, before, after, to);
}

/// The same at a multiple of 8 kHz, in some channels.
pub(crate) fn write_padded_at(
    (rate, channels): (u32, u16),
    speech: &Path,
    before: f64,
    after: f64,
    to: &Path,
) {
    let mut samples = silence(before);
    samples.extend(&Sound::read(speech).channels[0]);
    samples.extend(silence(after));
    let times = (rate / 8000) as usize;
    let samples = samples.windows(2).flat_map(|pair| {
        let [from, to] = [pair[0], pair[1]].map(f64::from);
        (0..times).map(move |n| (from + (to - from) * n as f64 / times as f64) as i16)
    });
    let spec = hound::WavSpec {
        channels,
        sample_rate: rate,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(to, spec).expect("a new file");
    for sample in samples {
        for _ in 0..channels {
            writer.write_sample(sample).expect("room on the disk");
        }
    }
    writer.finalize().expect("room on the disk");
}

/// The same as raw mu-law, which SIPp plays.
pub(crate) fn write_mu_law(speech: &Path, before: f64, after: f64, to: &Path) {
    let mut samples = silence(before);
    samples.extend(&Sound::read(speech).channels[0]);
    samples.extend(silence(after));
    let bytes: Vec<u8> = samples.into_iter().map(mu_law).collect();
    std::fs::write(to, bytes).expect("room on the disk");
}

/// Writes a telephone WAV file with a tone, loud and clear.
pub(crate) fn write_tone(hz: f64, seconds: f64, to: &Path) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 8000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(to, spec).expect("a new file");
    for n in 0..(seconds * 8000.0) as u32 {
        let phase = std::f64::consts::TAU * hz * f64::from(n) / 8000.0;
        let sample = (phase.sin() * 8000.0) as i16;
        writer.write_sample(sample).expect("room on the disk");
    }
    writer.finalize().expect("room on the disk");
}

/// Whether a frame's energy is, most of it, at one frequency, `turn` radians a sample (Goertzel's
/// algorithm).
fn is_tone(frame: &[i16], turn: f64) -> bool {
    let energy: f64 = frame.iter().map(|sample| f64::from(*sample).powi(2)).sum();
    let (mut one, mut two) = (0.0, 0.0);
    for sample in frame {
        let next = f64::from(*sample) + 2.0 * turn.cos() * one - two;
        (two, one) = (one, next);
    }
    let power = one * one + two * two - 2.0 * turn.cos() * one * two;
    let share = 2.0 * power / (energy.max(1.0) * frame.len() as f64);
    is_audible(frame) && share > 0.7
}

fn silence(seconds: f64) -> Vec<i16> {
    vec![0; (seconds * 8000.0) as usize]
}

/// ITU-T G.711 mu-law.
fn mu_law(sample: i16) -> u8 {
    let magnitude = i32::from(sample).abs().min(32_635) + 132;
    let exponent = 7 - (magnitude.leading_zeros() as i32 - 17).clamp(0, 7);
    let mantissa = (magnitude >> (exponent + 3)) & 0x0f;
    let sign = if sample < 0 { 0x80 } else { 0 };
    !(sign | (exponent << 4) | mantissa) as u8
}
