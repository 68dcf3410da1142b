//! Twice or half the sample rate, in pieces of any size, for what is spoken and heard as it
//! comes: a half-band filter, 1.5 ms late.
//!
//! The general [`Resampler`](super::resample::Resampler) works in blocks of 20 ms, which is too
//! late for a call.

use std::f64::consts::PI;
use std::sync::LazyLock;

use super::{AnyFrame, Frame, SampleRate};

/// Taps on each side of the middle one, without those that are zero.
const TAPS: usize = 12;
/// Samples at the lower rate that a doubled sample depends on.
const SPAN: usize = 2 * TAPS;
/// Samples at the higher rate that a halved sample depends on.
const WIDE_SPAN: usize = 2 * SPAN - 1;
/// Shape of the Kaiser window: 60 dB of attenuation.
const KAISER_BETA: f64 = 5.65;

/// Every second tap of the low-pass filter from the middle outwards; the others are zero.
static HALF_BAND: LazyLock<[f32; TAPS]> = LazyLock::new(|| {
    let width = (WIDE_SPAN / 2 + 1) as f64;
    let tap = |n: usize| {
        let offset = (2 * n + 1) as f64;
        let window = bessel(KAISER_BETA * (1.0 - (offset / width).powi(2)).sqrt());
        (PI * offset / 2.0).sin() / (PI * offset) * window / bessel(KAISER_BETA)
    };
    let taps: [f64; TAPS] = std::array::from_fn(tap);
    // Together with the middle tap, one half, they let a constant pass as it is.
    let scale = 0.25 / taps.iter().sum::<f64>();
    taps.map(|tap| (tap * scale) as f32)
});

/// The modified Bessel function of the first kind and order zero.
fn bessel(x: f64) -> f64 {
    let (mut sum, mut term) = (1.0, 1.0);
    for k in 1..30 {
        term *= (x / 2.0 / f64::from(k)).powi(2);
        sum += term;
    }
    sum
}

/// From 8 kHz to 16 kHz.
#[derive(Clone, Debug)]
pub struct Doubler {
    /// The newest samples, oldest first.
    history: [f32; SPAN],
}

impl Default for Doubler {
    fn default() -> Self {
        Self {
            history: [0.0; SPAN],
        }
    }
}

impl Doubler {
    /// Takes `samples` and appends twice as many to `doubled`.
    pub fn process(&mut self, samples: &[i16], doubled: &mut Vec<i16>) {
        let taps = &*HALF_BAND;
        doubled.reserve(samples.len() * 2);
        for sample in samples {
            self.history.copy_within(1.., 0);
            self.history[SPAN - 1] = f32::from(*sample);
            let (before, after) = self.history.split_at(TAPS);
            let between: f32 = taps
                .iter()
                .zip(before.iter().rev().zip(after))
                .map(|(tap, (before, after))| tap * (before + after))
                .sum();
            doubled.push(before[TAPS - 1].round() as i16);
            doubled.push((2.0 * between).round() as i16); // `as` saturates
        }
    }
}

/// From 16 kHz to 8 kHz.
#[derive(Clone, Debug)]
pub struct Halver {
    /// The newest samples, oldest first.
    history: [f32; WIDE_SPAN],
    /// The first sample of two is in, for which nothing came out yet.
    waiting: bool,
}

impl Default for Halver {
    fn default() -> Self {
        Self {
            history: [0.0; WIDE_SPAN],
            waiting: false,
        }
    }
}

impl Halver {
    /// Takes `samples` and appends half as many to `halved`; of an odd number, the last is kept
    /// for the next time.
    pub fn process(&mut self, samples: &[i16], halved: &mut Vec<i16>) {
        let taps = &*HALF_BAND;
        halved.reserve(samples.len() / 2 + 1);
        for sample in samples {
            self.history.copy_within(1.., 0);
            self.history[WIDE_SPAN - 1] = f32::from(*sample);
            self.waiting = !self.waiting;
            if self.waiting {
                continue;
            }
            let middle = WIDE_SPAN / 2;
            let around: f32 = taps
                .iter()
                .enumerate()
                .map(|(n, tap)| {
                    let away = 2 * n + 1;
                    tap * (self.history[middle - away] + self.history[middle + away])
                })
                .sum();
            halved.push((0.5 * self.history[middle] + around).round() as i16); // `as` saturates
        }
    }
}

/// Brings the frames of one stream to the rate that is asked for.
#[derive(Clone, Debug, Default)]
pub struct Fitter {
    doubler: Doubler,
    halver: Halver,
}

impl Fitter {
    /// The frame at `rate`.
    pub fn fit(&mut self, frame: &AnyFrame, rate: SampleRate) -> AnyFrame {
        let mut samples = Vec::new();
        match (frame.rate() == rate, frame) {
            (true, _) => return frame.clone(),
            (false, AnyFrame::Narrow(frame)) => self.doubler.process(frame.samples(), &mut samples),
            (false, AnyFrame::Wide(frame)) => self.halver.process(frame.samples(), &mut samples),
        }
        AnyFrame::padded(&samples, rate)
    }

    /// The frame at 8 kHz.
    pub fn narrow(&mut self, frame: &AnyFrame) -> Frame {
        match self.fit(frame, SampleRate::TELEPHONE) {
            AnyFrame::Narrow(frame) => frame,
            AnyFrame::Wide(_) => Frame::SILENCE, // not reached: it was asked to be narrow
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::level::rms;

    fn tone(hz: f64, rate: f64, samples: usize) -> Vec<i16> {
        (0..samples)
            .map(|n| (10_000.0 * (std::f64::consts::TAU * hz * n as f64 / rate).sin()) as i16)
            .collect()
    }

    fn decibels(sound: &[i16], of: &[i16]) -> f64 {
        20.0 * (rms(&sound[500..]) / rms(&of[500..])).log10()
    }

    fn doubled(samples: &[i16]) -> Vec<i16> {
        let mut wide = Vec::new();
        Doubler::default().process(samples, &mut wide);
        wide
    }

    fn halved(samples: &[i16]) -> Vec<i16> {
        let mut narrow = Vec::new();
        Halver::default().process(samples, &mut narrow);
        narrow
    }

    #[test]
    fn the_telephone_band_passes_both_ways_unchanged() {
        for hz in [200.0, 1_000.0, 3_000.0, 3_400.0] {
            let (narrow, wide) = (tone(hz, 8_000.0, 8_000), tone(hz, 16_000.0, 16_000));
            assert!(decibels(&doubled(&narrow), &wide).abs() < 0.1, "{hz} Hz up");
            assert!(
                decibels(&halved(&wide), &narrow).abs() < 0.1,
                "{hz} Hz down"
            );
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_have_is_gone() {
        for hz in [4_700.0, 6_000.0, 7_500.0] {
            let wide = tone(hz, 16_000.0, 16_000);
            let left = decibels(&halved(&wide), &wide);
            assert!(left < -50.0, "{hz} Hz folds at {left:.0} dB");
        }
        // The image of 1 kHz would be at 7 kHz: what is left beside the tone itself.
        let narrow = tone(1_000.0, 8_000.0, 8_000);
        let wide = doubled(&narrow);
        let (shifted, exact) = (&wide[24..], tone(1_000.0, 16_000.0, 16_000));
        let rest: Vec<i16> = shifted.iter().zip(&exact).map(|(a, b)| a - b).collect();
        assert!(decibels(&rest, &exact) < -50.0);
    }

    #[test]
    fn pieces_of_any_size_give_what_the_whole_gives() {
        let sound = tone(700.0, 16_000.0, 4_001);
        for size in [1, 7, 160, 333] {
            let (mut up, mut down) = (Doubler::default(), Halver::default());
            let (mut wide, mut narrow) = (Vec::new(), Vec::new());
            for piece in sound.chunks(size) {
                up.process(piece, &mut wide);
                down.process(piece, &mut narrow);
            }
            assert_eq!(wide, doubled(&sound));
            assert_eq!(narrow, halved(&sound));
        }
        assert_eq!(halved(&sound).len(), 2_000);
    }

    #[test]
    fn full_scale_clips_instead_of_wrapping() {
        let square: Vec<i16> = (0..4_000)
            .map(|n| if n / 20 % 2 == 0 { i16::MAX } else { i16::MIN })
            .collect();
        for sound in [doubled(&square), halved(&square)] {
            let level = rms(&sound[500..]);
            assert!(level > 29_000.0, "{level}");
        }
    }
}
