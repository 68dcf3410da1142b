//! Music for callers on hold: a short piece of our own, made note by note, so that it is
//! nobody's property. It loops without a seam.

use std::f64::consts::TAU;

use super::SampleRate;

/// Seconds of one bar.
const BAR: f64 = 2.4;
/// Notes in a bar.
const NOTES: usize = 8;
/// Loudness of the whole, in dB relative to full scale: below speech (about -20), well above
/// what counts as audible (-45).
const DBFS: f64 = -26.0;
/// Seconds in which a note falls to about a third.
const DECAY: f64 = 0.55;

/// Chords as MIDI notes, low to high, with the bass first: C, A minor, F, G, and the same again
/// with other endings.
const CHORDS: [[u8; 4]; 8] = [
    [48, 60, 64, 67],
    [45, 57, 60, 64],
    [41, 57, 60, 65],
    [43, 55, 59, 62],
    [48, 60, 64, 67],
    [40, 55, 59, 64],
    [41, 57, 60, 65],
    [43, 59, 62, 65],
];
/// Which notes of the chord are plucked when.
const PATTERN: [usize; NOTES] = [0, 1, 2, 3, 1, 2, 3, 2];

/// The whole piece at 8 kHz, about 19 s. Play it again from the start when it is over.
pub fn hold_music() -> Vec<i16> {
    let rate = f64::from(SampleRate::TELEPHONE.hz());
    let length = (BAR * CHORDS.len() as f64 * rate) as usize;
    let step = BAR / NOTES as f64;
    let mut sum = vec![0.0; length];
    for (bar, chord) in CHORDS.iter().enumerate() {
        for (place, &note) in PATTERN.iter().enumerate() {
            let start = ((bar as f64 * NOTES as f64 + place as f64) * step * rate) as usize;
            pluck(&mut sum, start, hertz(chord[note]), rate);
        }
    }
    let power = sum.iter().map(|sample| sample * sample).sum::<f64>() / length as f64;
    let gain = 32_768.0 * 10f64.powf(DBFS / 20.0) / power.sqrt();
    // `as` saturates.
    sum.iter().map(|sample| (sample * gain) as i16).collect()
}

fn hertz(note: u8) -> f64 {
    440.0 * 2f64.powf((f64::from(note) - 69.0) / 12.0)
}

/// Adds a plucked string. What rings on past the end rings on at the start, so that the loop has
/// no seam.
fn pluck(sum: &mut [f64], start: usize, hz: f64, rate: f64) {
    let length = sum.len();
    for n in 0..(DECAY * 5.0 * rate) as usize {
        let time = n as f64 / rate;
        let attack = (time / 0.004).min(1.0);
        let envelope = attack * (-time / DECAY).exp();
        let phase = TAU * hz * time;
        let tone = phase.sin() + 0.4 * (2.0 * phase).sin() + 0.15 * (3.0 * phase).sin();
        sum[(start + n) % length] += envelope * tone;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::level::{is_audible, rms_dbfs};

    #[test]
    fn it_is_quieter_than_speech_never_silent_for_long_and_never_clips() {
        let music = hold_music();
        assert_eq!(music.len(), 153_600);
        let level = rms_dbfs(&music);
        assert!((-27.0..=-25.0).contains(&level), "{level} dBFS");
        assert!(music.chunks(800).all(is_audible), "every 100 ms are heard");
        let loudest = music.iter().map(|sample| sample.unsigned_abs()).max();
        assert!(loudest < Some(20_000), "{loudest:?}");
    }

    #[test]
    fn it_starts_where_it_ends() {
        let music = hold_music();
        let step = |a: i16, b: i16| (i32::from(a) - i32::from(b)).abs();
        let largest = music.windows(2).map(|pair| step(pair[0], pair[1])).max();
        let seam = step(music[music.len() - 1], music[0]);
        assert!(Some(seam) <= largest, "{seam} against {largest:?}");
    }
}
