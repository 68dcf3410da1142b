//! DTMF digits in sound (ITU-T Q.23, Q.24): told from speech by what else is in it.
//!
//! ```text
//!           three hops in a row agree: reported
//!   Listening ──────────────────────────────────▶ Pressed
//!       ▲                                            │
//!       └──── two hops without it, or half as loud ──┘
//! ```
//!
//! Each 10 ms the last 25.6 ms are looked at. A digit is one tone of each group, each well above
//! the rest of its group, of like strength, that together are nearly all there is: speech that
//! happens to have both frequencies has harmonics and noise as well.

use std::f32::consts::TAU;

use super::tone::DtmfDigit;

/// 25.6 ms: frequencies 73 Hz apart do not mix.
const WINDOW: usize = 205;
/// 10 ms.
const HOP: usize = 80;
/// Hops that agree before a digit counts: 45 ms of it at least.
const AGREEING: u32 = 3;
/// Hops without it after which it is over.
const MISSING: u32 = 2;
/// -45 dBFS, as mean square: quieter digits are crosstalk.
const LEAST_POWER: f32 = 33_950.0;
/// Share of the power that the two tones must make up. 15 dB of noise leaves 0.97.
const PURITY: f32 = 0.75;
/// Between the tones of a digit: 8 dB. Exchanges allow 4 to 8 (Q.24).
const TWIST: f32 = 6.3;
/// Between a tone and the rest of its group: 8 dB.
const PROMINENCE: f32 = 6.3;

/// A tone may be 1.5 % off (Q.24); the window is too long to measure that far beside it.
const OFF: f32 = 0.012;

const ROWS_HZ: [f32; 4] = [697.0, 770.0, 852.0, 941.0];
const COLUMNS_HZ: [f32; 4] = [1_209.0, 1_336.0, 1_477.0, 1_633.0];
const KEYS: [[char; 4]; 4] = [
    ['1', '2', '3', 'A'],
    ['4', '5', '6', 'B'],
    ['7', '8', '9', 'C'],
    ['*', '0', '#', 'D'],
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// A digit was seen in this many hops up to now.
    Listening(Option<(DtmfDigit, u32)>),
    /// Reported; its power at its loudest, and hops without it up to now.
    Pressed {
        digit: DtmfDigit,
        power: f32,
        missing: u32,
    },
}

/// Detects the digits of one stream at 8 kHz.
#[derive(Clone, Debug)]
pub struct Detector {
    /// The last window of sound, oldest first.
    sound: [f32; WINDOW],
    /// Samples since the last hop.
    since: usize,
    state: State,
}

impl Default for Detector {
    fn default() -> Self {
        Self {
            sound: [0.0; WINDOW],
            since: 0,
            state: State::Listening(None),
        }
    }
}

impl Detector {
    /// With silence before the first sample.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next samples at 8 kHz; `pressed` gets each digit once, 45 ms after it began.
    pub fn push(&mut self, mut samples: &[i16], mut pressed: impl FnMut(DtmfDigit)) {
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
                self.hop(&mut pressed);
            }
        }
    }

    fn hop(&mut self, pressed: &mut impl FnMut(DtmfDigit)) {
        let seen = self.look();
        self.state = match (self.state, seen) {
            (State::Listening(before), Some((digit, power))) => {
                let hops = match before {
                    Some((known, hops)) if known == digit => hops + 1,
                    Some(_) | None => 1,
                };
                if hops == AGREEING {
                    pressed(digit);
                    State::Pressed {
                        digit,
                        power,
                        missing: 0,
                    }
                } else {
                    State::Listening(Some((digit, hops)))
                }
            }
            (State::Listening(_), None) => State::Listening(None),
            (State::Pressed { digit, power, .. }, Some((same, now)))
                if same == digit && now * 2.0 >= power =>
            {
                State::Pressed {
                    digit,
                    power: power.max(now),
                    missing: 0,
                }
            }
            (State::Pressed { missing, .. }, seen) if missing + 1 >= MISSING => {
                State::Listening(seen.map(|(digit, _)| (digit, 1)))
            }
            (
                State::Pressed {
                    digit,
                    power,
                    missing,
                },
                _,
            ) => State::Pressed {
                digit,
                power,
                missing: missing + 1,
            },
        };
    }

    /// The digit in the last window, and the window's mean square.
    fn look(&self) -> Option<(DtmfDigit, f32)> {
        let power = self.sound.iter().map(|s| s * s).sum::<f32>() / WINDOW as f32;
        if power < LEAST_POWER {
            return None;
        }
        let row = prominent(ROWS_HZ.map(|hz| goertzel(&self.sound, hz)))?;
        let column = prominent(COLUMNS_HZ.map(|hz| goertzel(&self.sound, hz)))?;
        let (low, high) = (
            self.strength(ROWS_HZ[row]),
            self.strength(COLUMNS_HZ[column]),
        );
        let alike = low < high * TWIST && high < low * TWIST;
        if !alike || low + high < PURITY * power {
            return None;
        }
        let digit = DtmfDigit::from_char(KEYS[row][column])?;
        Some((digit, power))
    }

    /// Power of a tone that may be a little off.
    fn strength(&self, hz: f32) -> f32 {
        let around = [1.0 - OFF, 1.0, 1.0 + OFF];
        let powers = around.map(|factor| goertzel(&self.sound, hz * factor));
        powers.into_iter().fold(0.0, f32::max)
    }
}

/// The strongest of a group, where it is well above the rest.
fn prominent(powers: [f32; 4]) -> Option<usize> {
    let strongest = (0..4).max_by(|a, b| powers[*a].total_cmp(&powers[*b]))?;
    let power = powers[strongest];
    let alone = (0..4).all(|n| n == strongest || powers[n] * PROMINENCE < power);
    alone.then_some(strongest)
}

/// Mean square of the sine of this frequency in a window (G. Goertzel, 1958).
fn goertzel(sound: &[f32; WINDOW], hz: f32) -> f32 {
    let coefficient = 2.0 * (TAU * hz / 8_000.0).cos();
    let (mut last, mut before) = (0.0f32, 0.0f32);
    for sample in sound {
        (last, before) = (sample + coefficient * last - before, last);
    }
    let magnitude = last * last + before * before - coefficient * last * before;
    2.0 * magnitude / (WINDOW * WINDOW) as f32
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::super::tone::tone;
    use super::*;

    const KEYPAD: &str = "1234567890*#ABCD";

    fn heard(sound: &[i16]) -> String {
        let mut detector = Detector::new();
        let mut digits = String::new();
        // As frames come.
        for frame in sound.chunks(160) {
            detector.push(frame, |digit| digits.push(digit.to_char()));
        }
        digits
    }

    fn gaussian(rng: &mut StdRng) -> f64 {
        let (a, b): (f64, f64) = (rng.random_range(1e-12..1.0), rng.random());
        (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    }

    /// Digits of `ms` with pauses of `pause_ms`, at a twist, off by a share, with noise under it.
    fn dialled(
        keys: &str,
        ms: u64,
        pause_ms: u64,
        conditions: (f64, f64, f64),
        seed: u64,
    ) -> Vec<i16> {
        let (twist_db, off, snr_db) = conditions;
        let mut rng = StdRng::seed_from_u64(seed);
        let mut sound = vec![0i16; rng.random_range(100..900)];
        for key in keys.chars() {
            let (low, high) = DtmfDigit::from_char(key).unwrap().frequencies();
            let length = Duration::from_millis(ms);
            let low = tone(&[low * (1.0 + off)], length, -16.0);
            let high = tone(&[high * (1.0 - off)], length, -16.0 + twist_db as f32);
            sound.extend(low.iter().zip(&high).map(|(a, b)| a + b));
            sound.extend(vec![0; pause_ms as usize * 8 + rng.random_range(0..80)]);
        }
        let power = 2.0 * 32_768f64.powi(2) * 10f64.powf((-16.0 + twist_db / 2.0) / 10.0);
        let noise = (power / 10f64.powf(snr_db / 10.0)).sqrt();
        sound
            .iter()
            .map(|sample| (f64::from(*sample) + noise * gaussian(&mut rng)) as i16)
            .collect()
    }

    #[test]
    fn every_digit_of_sixty_ms_is_heard_once_at_fifteen_db_and_four_db_of_twist() {
        for seed in 0..60 {
            for twist in [-4.0, 0.0, 4.0] {
                let sound = dialled(KEYPAD, 60, 60, (twist, 0.0, 15.0), seed);
                assert_eq!(heard(&sound), KEYPAD, "seed {seed}, twist {twist} dB");
            }
        }
    }

    #[test]
    fn frequencies_may_be_off_by_one_and_a_half_percent_but_not_by_four() {
        for seed in 0..10 {
            for off in [-0.015, 0.015] {
                let sound = dialled(KEYPAD, 70, 60, (0.0, off, 25.0), seed);
                assert_eq!(heard(&sound), KEYPAD, "seed {seed}, {off}");
            }
            let sound = dialled("159D", 70, 60, (0.0, 0.04, 40.0), seed);
            assert_eq!(heard(&sound), "", "seed {seed}");
        }
    }

    #[test]
    fn the_same_key_twice_is_two_digits_and_a_long_one_is_one() {
        let sound = dialled("5555", 50, 40, (0.0, 0.0, 30.0), 3);
        assert_eq!(heard(&sound), "5555");
        let sound = dialled("5", 3_000, 40, (0.0, 0.0, 20.0), 3);
        assert_eq!(heard(&sound), "5");
    }

    #[test]
    fn single_tones_dial_tones_and_noise_are_no_digits() {
        let second = Duration::from_secs(1);
        for hz in (300..3_400).step_by(7) {
            assert_eq!(heard(&tone(&[f64::from(hz)], second, -12.0)), "", "{hz}");
        }
        for pair in [[350.0, 440.0], [440.0, 480.0], [480.0, 620.0]] {
            assert_eq!(heard(&tone(&pair, second, -12.0)), "");
        }
        let mut rng = StdRng::seed_from_u64(1);
        let noise: Vec<i16> = (0..8_000 * 60)
            .map(|_| (3_000.0 * gaussian(&mut rng)) as i16)
            .collect();
        assert_eq!(heard(&noise), "");
    }

    #[test]
    fn it_hears_what_the_generator_makes_through_g711() {
        let mut sound = Vec::new();
        for key in KEYPAD.chars() {
            let digit = DtmfDigit::from_char(key).unwrap();
            sound.extend(super::super::tone::dtmf(
                digit,
                Duration::from_millis(100),
                -10.0,
            ));
            sound.extend([0; 640]);
        }
        let coded = crate::audio::codec::through(crate::audio::Codec::Pcma, &sound);
        assert_eq!(heard(&coded), KEYPAD);
    }
}
