//! The beep of an answering machine: one steady tone with quiet after it.
//!
//! ```text
//!  Listening ──a tone──▶ Sounding ──it ends, as long as a beep──▶ Ended ──quiet──▶ reported
//!      ▲                   │ another frequency, too short,         │ another tone: a melody
//!      └───────────────────┴── too long: no beep ◀─────────────────┘
//! ```

use std::f32::consts::TAU;

/// Samples between two looks: 10 ms at 8 kHz.
const HOP: usize = 80;
/// Samples that are looked at: 40 ms.
const WINDOW: usize = 320;
/// Below this mean square nothing is a beep (-42 dBFS).
const LEAST_POWER: f32 = 67_700.0;
/// Where beeps are. Busy and dialling tones of one frequency are below.
const LOWEST_HZ: f32 = 430.0;
const HIGHEST_HZ: f32 = 2_050.0;
/// Share of the power that is in the tone. Ten dB of noise leave 0.9.
const PURITY: f32 = 0.78;
/// A first look, which costs little: how well one frequency foretells the next sample.
const FORETOLD: f32 = 0.2;
/// How much a steady tone may seem to move.
const STEADY: f32 = 0.02;
/// How long a beep is, in hops.
const SHORTEST: u32 = 9;
const LONGEST: u32 = 220;
/// Quiet after it that makes it the last of its kind, in hops.
const QUIET: u32 = 8;
/// Hops in which a tone may be missed.
const GAPS: u32 = 2;

/// A beep that is over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Beep {
    /// Its frequency, in Hz.
    pub hz: f32,
    /// Its length, in ms.
    pub ms: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Listening,
    Sounding {
        hz: f32,
        hops: u32,
        gaps: u32,
    },
    Ended {
        beep: Beep,
        quiet: u32,
    },
    /// Tones one after another, until there is quiet.
    Melody {
        quiet: u32,
    },
}

/// Detects the beeps of one stream at 8 kHz.
#[derive(Clone, Debug)]
pub struct BeepDetector {
    /// The last window of sound, oldest first.
    sound: [f32; WINDOW],
    since: usize,
    state: State,
}

impl Default for BeepDetector {
    fn default() -> Self {
        Self {
            sound: [0.0; WINDOW],
            since: 0,
            state: State::Listening,
        }
    }
}

impl BeepDetector {
    /// With silence before the first sample.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next samples at 8 kHz; a beep is given 80 ms after its end.
    pub fn push(&mut self, mut samples: &[i16]) -> Option<Beep> {
        let mut found = None;
        while !samples.is_empty() {
            let (now, later) = samples.split_at(samples.len().min(HOP - self.since));
            self.sound.copy_within(now.len().., 0);
            for (to, from) in self.sound[WINDOW - now.len()..].iter_mut().zip(now) {
                *to = f32::from(*from);
            }
            self.since += now.len();
            samples = later;
            if self.since == HOP {
                self.since = 0;
                found = self.hop().or(found);
            }
        }
        found
    }

    fn hop(&mut self) -> Option<Beep> {
        let tone = self.tone();
        let (state, found) = match (self.state, tone) {
            (State::Listening, None) => (State::Listening, None),
            (State::Listening, Some(hz)) => (begun(hz), None),
            (State::Sounding { hz, hops, .. }, Some(now)) if near(hz, now) => {
                let mean = hz + (now - hz) / (hops as f32 + 1.0);
                (
                    State::Sounding {
                        hz: mean,
                        hops: hops + 1,
                        gaps: 0,
                    },
                    None,
                )
            }
            (State::Sounding { hz, hops, gaps }, _) if gaps < GAPS => (
                State::Sounding {
                    hz,
                    hops,
                    gaps: gaps + 1,
                },
                None,
            ),
            (State::Sounding { hops, .. }, Some(_)) if hops >= SHORTEST => {
                (State::Melody { quiet: 0 }, None)
            }
            (State::Sounding { .. }, Some(hz)) => (begun(hz), None),
            (State::Sounding { hz, hops, .. }, None) if (SHORTEST..=LONGEST).contains(&hops) => {
                let beep = Beep { hz, ms: hops * 10 };
                (State::Ended { beep, quiet: GAPS }, None)
            }
            (State::Sounding { .. }, None) => (State::Listening, None),
            (State::Ended { .. }, Some(_)) => (State::Melody { quiet: 0 }, None),
            (State::Ended { beep, quiet }, None) if quiet + 1 >= QUIET => {
                (State::Listening, Some(beep))
            }
            (State::Ended { beep, quiet }, None) => (
                State::Ended {
                    beep,
                    quiet: quiet + 1,
                },
                None,
            ),
            (State::Melody { .. }, Some(_)) => (State::Melody { quiet: 0 }, None),
            (State::Melody { quiet }, None) if quiet + 1 >= QUIET => (State::Listening, None),
            (State::Melody { quiet }, None) => (State::Melody { quiet: quiet + 1 }, None),
        };
        self.state = state;
        found
    }

    /// The frequency of the last window, where it is a tone.
    fn tone(&self) -> Option<f32> {
        let power = self.sound.iter().map(|s| s * s).sum::<f32>() / WINDOW as f32;
        if power < LEAST_POWER {
            return None;
        }
        // Of a sine, x[n-1] + x[n+1] = 2 cos(w) x[n].
        let (mut both, mut squares) = (0.0f32, 0.0f32);
        for part in self.sound.windows(3) {
            both += (part[0] + part[2]) * part[1];
            squares += part[1] * part[1];
        }
        let factor = (both / squares).clamp(-2.0, 2.0);
        let error: f32 = self
            .sound
            .windows(3)
            .map(|part| (part[0] + part[2] - factor * part[1]).powi(2))
            .sum();
        if error > FORETOLD * 4.0 * squares {
            return None;
        }
        let guess = (factor / 2.0).acos() / TAU * 8_000.0;
        // Noise moves the guess towards the middle, low tones more than high ones.
        let coarse = (-13..=2).map(|step: i16| guess + f32::from(step) * 20.0);
        let (near, _) = self.strongest(coarse)?;
        let fine = (-3..=3).map(|step: i16| near + f32::from(step) * 5.0);
        let (hz, strength) = self.strongest(fine)?;
        let fits = (LOWEST_HZ..=HIGHEST_HZ).contains(&hz);
        (fits && strength >= PURITY * power).then_some(hz)
    }

    fn strongest(&self, frequencies: impl Iterator<Item = f32>) -> Option<(f32, f32)> {
        let strengths = frequencies.map(|hz| (hz, self.strength(hz)));
        strengths.max_by(|(_, a), (_, b)| a.total_cmp(b))
    }

    /// Mean square of the sine of this frequency in the window (G. Goertzel, 1958).
    fn strength(&self, hz: f32) -> f32 {
        let coefficient = 2.0 * (TAU * hz / 8_000.0).cos();
        let (mut last, mut before) = (0.0f32, 0.0f32);
        for sample in &self.sound {
            (last, before) = (sample + coefficient * last - before, last);
        }
        let magnitude = last * last + before * before - coefficient * last * before;
        2.0 * magnitude / (WINDOW * WINDOW) as f32
    }
}

fn begun(hz: f32) -> State {
    State::Sounding {
        hz,
        hops: 1,
        gaps: 0,
    }
}

fn near(one: f32, other: f32) -> bool {
    (one - other).abs() <= STEADY * one
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::super::tone::{DtmfDigit, dtmf, tone};
    use super::*;

    fn beeps(sound: &[i16]) -> Vec<Beep> {
        let mut detector = BeepDetector::new();
        // As frames come.
        let frames = sound.chunks(160);
        frames.filter_map(|frame| detector.push(frame)).collect()
    }

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn gaussian(rng: &mut StdRng) -> f64 {
        let (a, b): (f64, f64) = (rng.random_range(1e-12..1.0), rng.random());
        (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    }

    fn among(parts: &[&[i16]]) -> Vec<i16> {
        let quiet = [0; 2400];
        let mut sound = quiet.to_vec();
        for part in parts {
            sound.extend_from_slice(part);
        }
        sound.extend(quiet);
        sound
    }

    #[test]
    fn beeps_of_every_pitch_length_and_level_are_heard_once_with_noise() {
        let mut rng = StdRng::seed_from_u64(1);
        for hz in [440.0, 620.0, 850.0, 1000.0, 1400.0, 1800.0, 2000.0] {
            for length in [150, 400, 1000] {
                for dbfs in [-10.0, -30.0] {
                    let mut sound = among(&[&tone(&[hz], ms(length), dbfs)]);
                    let noise = 32_768.0 * 10f64.powf((f64::from(dbfs) - 14.0) / 20.0);
                    for sample in &mut sound {
                        *sample += (noise * gaussian(&mut rng)) as i16;
                    }
                    let heard = beeps(&sound);
                    let [beep] = heard[..] else {
                        panic!("{hz} Hz, {length} ms, {dbfs} dBFS: {heard:?}");
                    };
                    assert!((f64::from(beep.hz) - hz).abs() < 15.0, "{beep:?}");
                    let length = length as u32;
                    assert!(beep.ms.abs_diff(length) <= 50, "{beep:?} of {length} ms");
                }
            }
        }
    }

    #[test]
    fn network_tones_keys_and_melodies_are_no_beeps() {
        let long = tone(&[1000.0], ms(4000), -12.0);
        assert_eq!(beeps(&among(&[&long])), [], "a tone that does not end");
        let click = tone(&[1000.0], ms(40), -12.0);
        assert_eq!(beeps(&among(&[&click])), [], "a click");
        for pair in [[350.0, 440.0], [440.0, 480.0], [480.0, 620.0]] {
            assert_eq!(beeps(&among(&[&tone(&pair, ms(500), -12.0)])), []);
        }
        let busy = tone(&[425.0], ms(500), -12.0);
        assert_eq!(beeps(&among(&[&busy])), [], "busy in Europe");
        for key in "0123456789*#".chars() {
            let digit = DtmfDigit::from_char(key).unwrap();
            assert_eq!(beeps(&among(&[&dtmf(digit, ms(200), -10.0)])), [], "{key}");
        }
        // "The number that you have dialled" (ITU-T E.180, special information tone).
        let parts = [950.0, 1400.0, 1800.0].map(|hz| tone(&[hz], ms(330), -12.0));
        assert_eq!(beeps(&among(&[&parts[0], &parts[1], &parts[2]])), []);
    }

    #[test]
    fn noise_and_glides_are_no_beeps() {
        let mut rng = StdRng::seed_from_u64(2);
        let noise: Vec<i16> = (0..8_000 * 60)
            .map(|_| (4_000.0 * gaussian(&mut rng)) as i16)
            .collect();
        assert_eq!(beeps(&noise), []);
        for (from, to) in [(500.0, 900.0), (1500.0, 800.0)] {
            let mut phase = 0.0f64;
            let glide: Vec<i16> = (0..4_000)
                .map(|n| {
                    let hz = from + (to - from) * f64::from(n) / 4_000.0;
                    phase += std::f64::consts::TAU * hz / 8_000.0;
                    (8_000.0 * phase.sin()) as i16
                })
                .collect();
            assert_eq!(beeps(&among(&[&glide])), [], "from {from} to {to} Hz");
        }
    }

    #[test]
    fn a_beep_goes_through_g711_and_comes_after_other_sound() {
        let mut rng = StdRng::seed_from_u64(3);
        let speech: Vec<i16> = (0..8_000)
            .map(|_| (3_000.0 * gaussian(&mut rng)) as i16)
            .collect();
        let beep = tone(&[1_000.0], ms(300), -18.0);
        let sound = among(&[&speech, &beep]);
        let (mut bytes, mut coded) = (Vec::new(), Vec::new());
        crate::audio::Encoder::new(crate::audio::Codec::Pcmu).encode(&sound, &mut bytes);
        crate::audio::Decoder::new(
            crate::audio::Codec::Pcmu,
            crate::audio::SampleRate::TELEPHONE,
        )
        .decode(&bytes, &mut coded);
        assert_eq!(beeps(&coded).len(), 1);
    }
}
