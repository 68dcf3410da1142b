//! Making sound a pitch period shorter or longer without a click: how playout catches up or
//! falls back without dropping anything that is heard.

use super::pitch::{self, LONGEST, SHORTEST};
use crate::audio::FRAME_SAMPLES;

/// Sound that [`shorten`] needs to look at.
pub(super) const SHORTEN_INPUT: usize = FRAME_SAMPLES + LONGEST;
/// The most that [`lengthen`] adds: two periods must fit a frame.
const LONGEST_ADDED: usize = FRAME_SAMPLES / 2;

/// A frame made from the first `FRAME_SAMPLES + removed` samples of `sound`, with `removed`, one
/// period of it but at most `limit`, taken out. `None` where the limit is below a period.
pub(super) fn shorten(
    sound: &[i16; SHORTEN_INPUT],
    limit: usize,
) -> Option<([i16; FRAME_SAMPLES], usize)> {
    let most = limit.min(LONGEST);
    if most < SHORTEST {
        return None;
    }
    // Which lag makes the beginning most like what follows: looked at backwards in time.
    let mut reversed = [0.0; SHORTEN_INPUT];
    for (to, from) in reversed.iter_mut().rev().zip(sound) {
        *to = f32::from(*from);
    }
    let at = SHORTEN_INPUT - FRAME_SAMPLES;
    let removed = pitch::best_lag(&reversed, at, FRAME_SAMPLES, SHORTEST..=most);
    let mut frame = [0; FRAME_SAMPLES];
    for (n, sample) in frame.iter_mut().enumerate() {
        *sample = blend(sound[n], sound[n + removed], n, removed);
    }
    Some((frame, removed))
}

/// A frame made from the first `FRAME_SAMPLES - added` samples of `sound`, of which one period,
/// `added`, is heard twice.
pub(super) fn lengthen(sound: &[i16; FRAME_SAMPLES]) -> ([i16; FRAME_SAMPLES], usize) {
    let floats = sound.map(f32::from);
    let window = FRAME_SAMPLES - LONGEST_ADDED;
    let added = pitch::best_lag(&floats, LONGEST_ADDED, window, SHORTEST..=LONGEST_ADDED);
    let mut frame = *sound;
    for n in added..FRAME_SAMPLES {
        frame[n] = blend(sound[n], sound[n - added], n - added, added);
    }
    (frame, added)
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

    fn tone(period: f64) -> Vec<i16> {
        (0..SHORTEN_INPUT)
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
        for period in [50.0, 64.0, 80.0] {
            let sound: [i16; SHORTEN_INPUT] = tone(period).try_into().unwrap();
            let (frame, removed) = shorten(&sound, LONGEST).unwrap();
            assert_eq!(removed % period as usize, 0, "period {period}");
            assert!(largest_step(&frame) <= largest_step(&sound) + 1);
            assert_eq!(frame[159], sound[159 + removed]);
        }
    }

    #[test]
    fn a_tone_gains_a_whole_period_and_stays_a_tone() {
        for period in [45.0, 64.0, 80.0] {
            let sound: [i16; FRAME_SAMPLES] = tone(period)[..160].try_into().unwrap();
            let (frame, added) = lengthen(&sound);
            assert_eq!(added, period as usize);
            assert!(largest_step(&frame) <= largest_step(&sound) + 1);
            assert_eq!(frame[159], sound[159 - added]);
        }
    }

    #[test]
    fn no_more_is_removed_than_allowed() {
        let sound: [i16; SHORTEN_INPUT] = tone(100.0).try_into().unwrap();
        assert_eq!(shorten(&sound, SHORTEST - 1), None);
        let (_, removed) = shorten(&sound, 55).unwrap();
        assert!((SHORTEST..=55).contains(&removed));
    }
}
