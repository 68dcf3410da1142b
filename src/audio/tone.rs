//! Tones that a telephone network makes: DTMF digits (ITU-T Q.23), ringback and beeps.

use std::f64::consts::TAU;
use std::fmt;
use std::time::Duration;

use super::gain::ramp;
use super::{FRAME_SAMPLES, Frame, SampleRate};

/// A key of a telephone: 0 to 9, `*`, `#`, A to D. Its number is the event code of RFC 4733
/// section 3.2.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DtmfDigit(u8);

const KEYS: [char; 16] = [
    '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '*', '#', 'A', 'B', 'C', 'D',
];
const LOW_HZ: [f64; 4] = [697.0, 770.0, 852.0, 941.0];
const HIGH_HZ: [f64; 4] = [1_209.0, 1_336.0, 1_477.0, 1_633.0];

impl DtmfDigit {
    /// The digit of an event code of RFC 4733; `None` above 15 (flash, modem tones).
    pub fn from_event(code: u8) -> Option<Self> {
        (usize::from(code) < KEYS.len()).then_some(Self(code))
    }

    /// The digit of a character, in either case.
    pub fn from_char(key: char) -> Option<Self> {
        let key = key.to_ascii_uppercase();
        let code = KEYS.iter().position(|known| *known == key)?;
        u8::try_from(code).ok().map(Self)
    }

    /// The event code of RFC 4733, 0 to 15.
    pub fn event(self) -> u8 {
        self.0
    }

    /// The character on the key.
    pub fn to_char(self) -> char {
        KEYS[usize::from(self.0)] // below 16 by construction
    }

    /// The low and the high frequency, in Hz (ITU-T Q.23).
    pub fn frequencies(self) -> (f64, f64) {
        let (row, column) = match self.to_char() {
            '0' => (3, 1),
            '*' => (3, 0),
            '#' => (3, 2),
            'A' => (0, 3),
            'B' => (1, 3),
            'C' => (2, 3),
            'D' => (3, 3),
            _ => {
                let index = usize::from(self.0) - 1; // 1 to 9
                (index / 3, index % 3)
            }
        };
        (LOW_HZ[row], HIGH_HZ[column])
    }
}

impl fmt::Display for DtmfDigit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to_char())
    }
}

impl fmt::Debug for DtmfDigit {
    /// Hides the key: digits may be a PIN or a card number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DtmfDigit(_)")
    }
}

/// Ramps at both ends of a tone, in samples (2.5 ms): no click, and well inside the shortest
/// digit.
const EDGE_SAMPLES: usize = 20;

/// A sum of sines of equal level, `duration` long at 8 kHz, at `dbfs` in all (as
/// [`rms_dbfs`](super::level::rms_dbfs) measures), with short ramps at both ends.
pub fn tone(frequencies_hz: &[f64], duration: Duration, dbfs: f32) -> Vec<i16> {
    let length = SampleRate::TELEPHONE.samples_in(duration);
    let mut samples: Vec<i16> = (0..length)
        .map(|n| sum_of_sines(frequencies_hz, dbfs, n as u64))
        .collect();
    let edge = EDGE_SAMPLES.min(length / 2);
    ramp(&mut samples[..edge], 0.0, 1.0);
    ramp(&mut samples[length - edge..], 1.0, 0.0);
    samples
}

/// A DTMF digit at 8 kHz. -10 dBFS is usual; ITU-T Q.24 asks receivers for 40 ms.
pub fn dtmf(digit: DtmfDigit, duration: Duration, dbfs: f32) -> Vec<i16> {
    let (low, high) = digit.frequencies();
    tone(&[low, high], duration, dbfs)
}

/// The beep before a recording: 1 kHz.
pub fn beep(duration: Duration, dbfs: f32) -> Vec<i16> {
    tone(&[1_000.0], duration, dbfs)
}

fn sum_of_sines(frequencies_hz: &[f64], dbfs: f32, n: u64) -> i16 {
    // A sine's root mean square is its amplitude over the root of 2; powers of sines add.
    let count = frequencies_hz.len().max(1) as f64;
    let amplitude = 32_768.0 * 10f64.powf(f64::from(dbfs) / 20.0) * (2.0 / count).sqrt();
    let time = n as f64 / f64::from(SampleRate::TELEPHONE.hz());
    let sum: f64 = frequencies_hz
        .iter()
        .map(|hz| (TAU * hz * time).sin())
        .sum();
    (amplitude * sum).round() as i16 // `as` saturates
}

/// Ringback: 440 + 480 Hz, 2 s on and 4 s off (North America), endless, frame by frame.
#[derive(Clone, Debug, Default)]
pub struct Ringback {
    position: u64,
}

impl Ringback {
    const HZ: [f64; 2] = [440.0, 480.0];
    const ON_SAMPLES: u64 = 16_000;
    const CYCLE_SAMPLES: u64 = 48_000;
    const DBFS: f32 = -22.0;

    /// From the start of a ring.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next 20 ms.
    pub fn next_frame(&mut self) -> Frame {
        let mut frame = Frame::SILENCE;
        // Both lengths are multiples of a frame, so a frame is in one part of the cadence only.
        if self.position < Self::ON_SAMPLES {
            for (n, sample) in frame.samples_mut().iter_mut().enumerate() {
                *sample = sum_of_sines(&Self::HZ, Self::DBFS, self.position + n as u64);
            }
        }
        self.position = (self.position + FRAME_SAMPLES as u64) % Self::CYCLE_SAMPLES;
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::level::rms_dbfs;

    fn power_at(samples: &[i16], hz: f64) -> f64 {
        let (mut re, mut im) = (0.0, 0.0);
        for (n, sample) in samples.iter().enumerate() {
            let phase = TAU * hz * n as f64 / 8_000.0;
            re += f64::from(*sample) * phase.cos();
            im += f64::from(*sample) * phase.sin();
        }
        re * re + im * im
    }

    fn strongest(samples: &[i16], among: &[f64]) -> f64 {
        let by_power =
            |a: &&f64, b: &&f64| power_at(samples, **a).total_cmp(&power_at(samples, **b));
        *among.iter().max_by(by_power).unwrap()
    }

    #[test]
    fn each_key_sounds_its_own_row_and_column() {
        let keypad = ["123A", "456B", "789C", "*0#D"];
        for (row, keys) in keypad.iter().enumerate() {
            for (column, key) in keys.chars().enumerate() {
                let digit = DtmfDigit::from_char(key).unwrap();
                let heard = dtmf(digit, Duration::from_millis(100), -10.0);
                assert_eq!(strongest(&heard, &LOW_HZ), LOW_HZ[row], "key {key}");
                assert_eq!(strongest(&heard, &HIGH_HZ), HIGH_HZ[column], "key {key}");
            }
        }
    }

    #[test]
    fn characters_and_event_codes_name_the_same_keys() {
        for (code, key) in KEYS.iter().enumerate() {
            let digit = DtmfDigit::from_event(code as u8).unwrap();
            assert_eq!(digit.to_char(), *key);
            assert_eq!(DtmfDigit::from_char(key.to_ascii_lowercase()), Some(digit));
        }
        assert_eq!(DtmfDigit::from_event(16), None);
        assert_eq!(DtmfDigit::from_char('x'), None);
    }

    #[test]
    fn a_tone_has_the_asked_length_and_level_and_ends_without_a_click() {
        let samples = beep(Duration::from_millis(400), -12.0);
        assert_eq!(samples.len(), 3_200);
        assert!((rms_dbfs(&samples[100..3_100]) + 12.0).abs() < 0.1);
        assert_eq!(samples[0], 0);
        let largest = |part: &[i16]| part.windows(2).map(|w| (w[0] - w[1]).abs()).max().unwrap();
        assert!(samples[3_199].abs() <= largest(&samples[1_000..2_000]) / 4);
        assert!(tone(&[1_000.0], Duration::ZERO, -12.0).is_empty());
    }

    #[test]
    fn ringback_rings_two_seconds_of_six() {
        let mut ringback = Ringback::new();
        let frames: Vec<Frame> = (0..600).map(|_| ringback.next_frame()).collect();
        for (n, frame) in frames.iter().enumerate() {
            let ringing = n % 300 < 100;
            assert_eq!(*frame != Frame::SILENCE, ringing, "frame {n}");
        }
    }

    #[test]
    fn a_digit_does_not_show_in_debug_output() {
        let digit = DtmfDigit::from_char('7').unwrap();
        assert!(!format!("{digit:?}").contains('7'));
    }
}
