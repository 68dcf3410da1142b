//! How far apart a sound repeats itself: what concealment copies from and time scaling cuts at.
//!
//! Lengths are in samples at 8 kHz; at a higher rate they are `scale` times as many.

/// The shortest period looked for, in samples at 8 kHz: 200 Hz. Higher voices are found at a
/// multiple of theirs.
pub(super) const SHORTEST: usize = 40;
/// The longest period looked for: 66 Hz.
pub(super) const LONGEST: usize = 120;

/// Energy below which a window counts as this loud, so that silence is not matched by its noise.
const LEAST_ENERGY: f32 = 250.0;

/// Among `lags`, the one at which `sound[at..at + window]` is most like what lies that many
/// samples before it, by normalised cross-correlation: every second lag and sample at 8 kHz first,
/// then around the best. `at` must be at least the longest lag, and the window inside `sound`.
pub(super) fn best_lag(
    sound: &[f32],
    at: usize,
    window: usize,
    lags: std::ops::RangeInclusive<usize>,
    scale: usize,
) -> usize {
    let coarsely = 2 * scale;
    let (first, last) = (*lags.start(), *lags.end());
    let likeness = |lag: usize, step: usize| -> f32 {
        let now = sound[at..at + window].iter().step_by(step);
        let before = sound[at - lag..at - lag + window].iter().step_by(step);
        let (mut correlation, mut energy) = (0.0, 0.0);
        for (a, b) in now.zip(before) {
            correlation += a * b;
            energy += b * b;
        }
        correlation / energy.max(LEAST_ENERGY).sqrt()
    };
    let most_alike = |lags: &mut dyn Iterator<Item = usize>, step: usize| {
        lags.map(|lag| (likeness(lag, step), lag))
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map_or(first, |(_, lag)| lag)
    };
    let coarse = most_alike(&mut (first..=last).step_by(coarsely), coarsely);
    most_alike(
        &mut (coarse.saturating_sub(coarsely - 1).max(first)..=(coarse + coarsely - 1).min(last)),
        scale,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_period_of_a_voice_like_sound_is_found_to_a_sample() {
        for period in [45usize, 60, 83, 101, 118] {
            let sound: Vec<f32> = (0..400)
                .map(|n| {
                    let phase = (n % period) as f32 / period as f32;
                    4_000.0 * (-6.0 * phase).exp() * (60.0 * phase).sin()
                })
                .collect();
            let found = best_lag(&sound, 240, 160, SHORTEST..=LONGEST, 1);
            assert!(
                found.abs_diff(period) <= 1 || found.abs_diff(2 * period) <= 1,
                "{period}: {found}"
            );
        }
    }

    #[test]
    fn silence_has_some_period_and_no_panic() {
        let lag = best_lag(&[0.0; 300], 140, 160, SHORTEST..=LONGEST, 1);
        assert!((SHORTEST..=LONGEST).contains(&lag));
    }
}
