//! Comfort noise (RFC 3389): what is heard while the peer is silent and says how its silence
//! sounds.

use std::f32::consts::TAU;

use crate::audio::SampleRate;
use crate::audio::twofold::Doubler;

/// Reflection coefficients that are used; more describe nothing that is heard.
const MOST_COEFFICIENTS: usize = 10;
/// Full scale, to which levels relate.
const FULL_SCALE: f32 = 32_768.0;
/// The noise comes in over this many samples at 8 kHz: 10 ms, against a click.
const ONSET: f32 = 80.0;

/// How a peer's silence sounds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Silence {
    /// Root mean square, of 32768.
    rms: f32,
    /// Reflection coefficients of its spectrum; none where it is white.
    coefficients: Vec<f32>,
}

impl Silence {
    /// Reads a payload (RFC 3389 section 3): the level in -dBov, then a reflection coefficient an
    /// octet. `None` where it is empty.
    pub(super) fn parse(payload: &[u8]) -> Option<Self> {
        let (level, spectrum) = payload.split_first()?;
        let coefficient = |octet: &u8| 258.0 * (f32::from(*octet) - 127.0) / FULL_SCALE;
        let coefficients = spectrum.iter().take(MOST_COEFFICIENTS).map(coefficient);
        Some(Self {
            // An octet of 255 would be 1.0, at which the filter does not settle.
            coefficients: coefficients.map(|k| k.clamp(-0.98, 0.98)).collect(),
            ..Self::white(-f32::from(level & 0x7f))
        })
    }

    /// White noise at a level.
    pub(super) fn white(dbfs: f32) -> Self {
        Self {
            rms: FULL_SCALE * 10f32.powf(dbfs / 20.0),
            coefficients: Vec::new(),
        }
    }
}

/// Makes the noise of one stream.
#[derive(Clone, Debug)]
pub(super) struct Noise {
    silence: Silence,
    /// Of the random numbers; noise is no secret.
    seed: u64,
    /// The lattice filter's memory.
    memory: [f32; MOST_COEFFICIENTS + 1],
    /// Power of the noise over that of what it is filtered from, its root.
    gain: f32,
    onset: f32,
    doubler: Option<Doubler>,
}

impl Noise {
    /// Noise for a stream whose samples come at `rate`.
    pub(super) fn new(silence: Silence, rate: SampleRate) -> Self {
        Self {
            gain: Self::gain_of(&silence),
            silence,
            seed: 0x9e37_79b9_7f4a_7c15,
            memory: [0.0; MOST_COEFFICIENTS + 1],
            onset: 0.0,
            doubler: (rate == SampleRate::WIDEBAND).then(Doubler::default),
        }
    }

    fn gain_of(silence: &Silence) -> f32 {
        let powers = silence.coefficients.iter().map(|k| 1.0 - k * k);
        silence.rms * powers.product::<f32>().sqrt()
    }

    /// The peer says anew how its silence sounds.
    pub(super) fn change(&mut self, silence: Silence) {
        self.gain = Self::gain_of(&silence);
        self.silence = silence;
    }

    /// Adds the noise to `samples`.
    pub(super) fn add_to(&mut self, samples: &mut [i16]) {
        let Some(mut doubler) = self.doubler.take() else {
            for sample in samples {
                *sample = sample.saturating_add(self.next());
            }
            return;
        };
        let narrow: Vec<i16> = (0..samples.len().div_ceil(2))
            .map(|_| self.next())
            .collect();
        let mut wide = Vec::new();
        doubler.process(&narrow, &mut wide);
        for (sample, noise) in samples.iter_mut().zip(wide) {
            *sample = sample.saturating_add(noise);
        }
        self.doubler = Some(doubler);
    }

    fn next(&mut self) -> i16 {
        let mut forward = self.gaussian() * self.gain;
        for (n, k) in self.silence.coefficients.iter().enumerate().rev() {
            forward -= k * self.memory[n];
            self.memory[n + 1] = self.memory[n] + k * forward;
        }
        self.memory[0] = forward;
        self.onset = (self.onset + 1.0 / ONSET).min(1.0);
        (forward * self.onset).round() as i16 // `as` saturates
    }

    /// Box-Muller over SplitMix64.
    fn gaussian(&mut self) -> f32 {
        let (a, b) = (self.uniform(), self.uniform());
        (-2.0 * (1.0 - a).ln()).sqrt() * (TAU * b).cos()
    }

    fn uniform(&mut self) -> f32 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u32 << 24) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::level::rms_dbfs;

    fn made(payload: &[u8], rate: SampleRate) -> Vec<i16> {
        let mut noise = Noise::new(Silence::parse(payload).unwrap(), rate);
        let mut samples = vec![0; rate.hz() as usize];
        for frame in samples.chunks_mut(rate.hz() as usize / 50) {
            noise.add_to(frame);
        }
        samples
    }

    #[test]
    fn noise_has_the_level_that_the_peer_names_whatever_its_spectrum() {
        for payload in [
            &[40][..],
            &[60],
            &[50, 200, 100, 127],
            &[
                0x80 | 45,
                20,
                220,
                90,
                140,
                127,
                127,
                127,
                127,
                127,
                255,
                0,
                1,
            ],
        ] {
            for rate in [SampleRate::TELEPHONE, SampleRate::WIDEBAND] {
                let level = rms_dbfs(&made(payload, rate)[800..]);
                let named = -f32::from(payload[0] & 0x7f);
                assert!((level - named).abs() < 1.5, "{payload:?}: {level:.1} dBFS");
            }
        }
        assert!(Silence::parse(&[]).is_none());
    }

    #[test]
    fn a_spectrum_that_falls_makes_neighbours_alike() {
        let correlation = |samples: &[i16]| {
            let product = |(a, b): (&i16, &i16)| f64::from(*a) * f64::from(*b);
            let neighbours: f64 = samples.iter().zip(&samples[1..]).map(product).sum();
            neighbours / samples.iter().zip(samples).map(product).sum::<f64>()
        };
        let white = correlation(&made(&[40], SampleRate::TELEPHONE));
        // k = 258 * (27 - 127) / 32768 = -0.79
        let dull = correlation(&made(&[40, 27], SampleRate::TELEPHONE));
        assert!(white.abs() < 0.05 && dull > 0.6, "{white:.2} and {dull:.2}");
    }

    #[test]
    fn the_loudest_noise_with_any_spectrum_stays_finite() {
        for octet in 0..=255 {
            let samples = made(&[0, octet, 255 - octet, octet], SampleRate::TELEPHONE);
            assert!(samples.iter().any(|sample| *sample != 0));
        }
    }
}
