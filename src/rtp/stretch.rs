//! Making sound a pitch period shorter or longer without a click: how playout catches up or
//! falls back without dropping anything that is heard.

use super::pitch::{self, LONGEST, SHORTEST};
use crate::audio::{FRAME_SAMPLES, WIDE_FRAME_SAMPLES};

/// Sound that [`shorten`] needs to look at, in samples at 8 kHz.
pub(super) const SHORTEN_INPUT: usize = FRAME_SAMPLES + LONGEST;
/// The same at the highest rate.
pub(super) const MOST_INPUT: usize = WIDE_FRAME_SAMPLES / FRAME_SAMPLES * SHORTEN_INPUT;
/// The most that [`lengthen`] adds: two periods must fit a frame.
const LONGEST_ADDED: usize = FRAME_SAMPLES / 2;

/// A frame of 20 ms that was made from more or less than that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stretched {
    samples: [i16; WIDE_FRAME_SAMPLES],
    length: usize,
    /// Samples that it has less or more than it was made from.
    pub(super) difference: usize,
}

impl Stretched {
    fn new(length: usize, difference: usize, sample: impl Fn(usize) -> i16) -> Self {
        let mut samples = [0; WIDE_FRAME_SAMPLES];
        for (n, to) in samples.iter_mut().take(length).enumerate() {
            *to = sample(n);
        }
        Self {
            samples,
            length,
            difference,
        }
    }

    pub(super) fn samples(&self) -> &[i16] {
        &self.samples[..self.length]
    }
}

/// A frame made from more of `sound`, which has [`SHORTEN_INPUT`] times `scale` samples: one
/// period of it, but at most `limit`, is taken out. `None` where the limit is below a period.
pub(super) fn shorten(sound: &[i16], limit: usize, scale: usize) -> Option<Stretched> {
    let frame = FRAME_SAMPLES * scale;
    let (least, most) = (SHORTEST * scale, limit.min(LONGEST * scale));
    if most < least || sound.len() != SHORTEN_INPUT * scale {
        return None;
    }
    // Which lag makes the beginning most like what follows: looked at backwards in time.
    let mut reversed = [0.0; MOST_INPUT];
    let reversed = &mut reversed[..sound.len()];
    for (to, from) in reversed.iter_mut().rev().zip(sound) {
        *to = f32::from(*from);
    }
    let at = sound.len() - frame;
    let removed = pitch::best_lag(reversed, at, frame, least..=most, scale);
    Some(Stretched::new(frame, removed, |n| {
        blend(sound[n], sound[n + removed], n, removed)
    }))
}

/// A frame made from less of `sound`, a frame itself: one period is heard twice.
pub(super) fn lengthen(sound: &[i16], scale: usize) -> Stretched {
    let mut floats = [0.0; WIDE_FRAME_SAMPLES];
    let floats = &mut floats[..sound.len()];
    for (to, from) in floats.iter_mut().zip(sound) {
        *to = f32::from(*from);
    }
    let most = LONGEST_ADDED * scale;
    let window = sound.len() - most;
    let added = pitch::best_lag(floats, most, window, SHORTEST * scale..=most, scale);
    Stretched::new(sound.len(), added, |n| match n.checked_sub(added) {
        Some(again) => blend(sound[n], sound[again], again, added),
        None => sound[n],
    })
}

/// From `old` to `new` in a straight line over `length` samples, of which this is the `n`th.
fn blend(old: i16, new: i16, n: usize, length: usize) -> i16 {
    if n >= length {
        return new;
    }
    let weight = (n + 1) as f32 / length as f32;
    (f32::from(old) * (1.0 - weight) + f32::from(new) * weight).round() as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(period: f64, samples: usize) -> Vec<i16> {
        (0..samples)
            .map(|n| (8_000.0 * (std::f64::consts::TAU * n as f64 / period).sin()) as i16)
            .collect()
    }

    fn largest_step(sound: &[i16]) -> i32 {
        let steps = sound
            .windows(2)
            .map(|w| (i32::from(w[0]) - i32::from(w[1])).abs());
        steps.max().unwrap()
    }

    #[test]
    fn a_tone_loses_a_whole_period_and_stays_a_tone() {
        for (scale, period) in [(1, 50.0), (1, 64.0), (1, 80.0), (2, 100.0), (2, 129.0)] {
            let sound = tone(period, SHORTEN_INPUT * scale);
            let shorter = shorten(&sound, LONGEST * scale, scale).unwrap();
            assert_eq!(shorter.difference % period as usize, 0, "period {period}");
            let frame = shorter.samples();
            assert_eq!(frame.len(), FRAME_SAMPLES * scale);
            assert!(largest_step(frame) <= largest_step(&sound) + 1);
            let last = frame.len() - 1;
            assert_eq!(frame[last], sound[last + shorter.difference]);
        }
    }

    #[test]
    fn a_tone_gains_a_whole_period_and_stays_a_tone() {
        for (scale, period) in [(1, 45.0), (1, 64.0), (1, 80.0), (2, 128.0), (2, 160.0)] {
            let sound = tone(period, FRAME_SAMPLES * scale);
            let longer = lengthen(&sound, scale);
            assert_eq!(longer.difference, period as usize);
            let frame = longer.samples();
            assert!(largest_step(frame) <= largest_step(&sound) + 1);
            let last = frame.len() - 1;
            assert_eq!(frame[last], sound[last - longer.difference]);
        }
    }

    #[test]
    fn no_more_is_removed_than_allowed() {
        let sound = tone(100.0, SHORTEN_INPUT);
        assert_eq!(shorten(&sound, SHORTEST - 1, 1), None);
        let shorter = shorten(&sound, 55, 1).unwrap();
        assert!((SHORTEST..=55).contains(&shorter.difference));
    }
}
