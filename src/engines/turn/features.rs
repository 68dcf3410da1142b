//! Log-mel features as Whisper takes them (Radford et al. 2022, section 2.2), of 8 s at 16 kHz:
//! windows of 25 ms every 10 ms, 80 mel bands on Slaney's scale from 0 to 8 kHz.

use std::f64::consts::PI;
use std::sync::Arc;

use realfft::{RealFftPlanner, RealToComplex};

/// Samples that are looked at, 16 kHz.
pub(super) const SAMPLES: usize = 8 * 16_000;
/// Mel bands.
pub(super) const BANDS: usize = 80;
/// Columns: one every 10 ms.
pub(super) const FRAMES: usize = SAMPLES / HOP;
const WINDOW: usize = 400;
const HOP: usize = 160;
const BINS: usize = WINDOW / 2 + 1;
/// Power below this is none.
const FLOOR: f64 = 1e-10;
/// Keeps silence from being divided by nothing.
const VARIANCE_FLOOR: f64 = 1e-7;

/// One triangle of the filter bank: the first bin that it takes from, and the weights from there on.
struct Band {
    first: usize,
    weights: Vec<f64>,
}

/// Computes features. Holds its tables and buffers.
pub(super) struct Features {
    fft: Arc<dyn RealToComplex<f64>>,
    window: Vec<f64>,
    bands: Vec<Band>,
}

impl Features {
    pub(super) fn new() -> Self {
        let window = (0..WINDOW).map(|n| {
            let turn = 2.0 * PI * n as f64 / WINDOW as f64;
            0.5 - 0.5 * turn.cos()
        });
        Self {
            fft: RealFftPlanner::new().plan_fft_forward(WINDOW),
            window: window.collect(),
            bands: bands(),
        }
    }

    /// Features of the end of `samples` (16 kHz), which silence precedes where they are fewer than
    /// [`SAMPLES`]: [`BANDS`] rows of [`FRAMES`], roughly from -1 to 1.
    pub(super) fn of(&self, samples: &[i16]) -> Vec<f32> {
        let signal = normalised(samples);
        let mut power = vec![FLOOR; BANDS * FRAMES];
        let mut frame = self.fft.make_input_vec();
        let mut spectrum = self.fft.make_output_vec();
        let mut scratch = self.fft.make_scratch_vec();
        for column in 0..FRAMES {
            // Windows are centred on multiples of the hop; the ends are mirrored.
            for (n, sample) in frame.iter_mut().enumerate() {
                let at = (column * HOP + n).abs_diff(WINDOW / 2);
                let at = if at < SAMPLES {
                    at
                } else {
                    2 * SAMPLES - 2 - at
                };
                *sample = signal[at] * self.window[n];
            }
            // The buffers are made by the plan, so that their lengths are right.
            if self
                .fft
                .process_with_scratch(&mut frame, &mut spectrum, &mut scratch)
                .is_err()
            {
                continue;
            }
            for (row, band) in self.bands.iter().enumerate() {
                let bins = &spectrum[band.first..];
                let sum: f64 = band
                    .weights
                    .iter()
                    .zip(bins)
                    .map(|(weight, bin)| weight * bin.norm_sqr())
                    .sum();
                power[row * FRAMES + column] = sum.max(FLOOR);
            }
        }
        let logarithms: Vec<f64> = power.iter().map(|power| power.log10()).collect();
        let loudest = logarithms.iter().copied().fold(f64::MIN, f64::max);
        logarithms
            .iter()
            .map(|value| ((value.max(loudest - 8.0) + 4.0) / 4.0) as f32)
            .collect()
    }
}

/// The last 8 s with a mean of 0 and a variance of 1.
fn normalised(samples: &[i16]) -> Vec<f64> {
    let kept = &samples[samples.len().saturating_sub(SAMPLES)..];
    let mut signal = vec![0.0; SAMPLES - kept.len()];
    signal.extend(kept.iter().map(|sample| f64::from(*sample) / 32_768.0));
    let mean = signal.iter().sum::<f64>() / SAMPLES as f64;
    let variance = signal.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / SAMPLES as f64;
    let scale = (variance + VARIANCE_FLOOR).sqrt().recip();
    for sample in &mut signal {
        *sample = (*sample - mean) * scale;
    }
    signal
}

/// Slaney's filter bank: triangles of equal area, linear up to 1 kHz and logarithmic above.
fn bands() -> Vec<Band> {
    let top = mel(8_000.0);
    let edge = |index: usize| hertz(top * index as f64 / (BANDS + 1) as f64);
    (0..BANDS)
        .map(|band| {
            let (low, middle, high) = (edge(band), edge(band + 1), edge(band + 2));
            let weight = |bin: usize| {
                let at = 8_000.0 * bin as f64 / (BINS - 1) as f64;
                let rising = (at - low) / (middle - low);
                let falling = (high - at) / (high - middle);
                2.0 / (high - low) * rising.min(falling).max(0.0)
            };
            let taken = (0..BINS).filter(|bin| weight(*bin) > 0.0);
            let first = taken.clone().next().unwrap_or(0);
            Band {
                first,
                weights: taken.map(weight).collect(),
            }
        })
        .collect()
}

fn mel(hertz: f64) -> f64 {
    if hertz < 1_000.0 {
        3.0 * hertz / 200.0
    } else {
        15.0 + 27.0 * (hertz / 1_000.0).ln() / 6.4_f64.ln()
    }
}

fn hertz(mel: f64) -> f64 {
    if mel < 15.0 {
        200.0 * mel / 3.0
    } else {
        1_000.0 * (6.4_f64.ln() * (mel - 15.0) / 27.0).exp()
    }
}
