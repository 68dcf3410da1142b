//! From a voice's samples to what goes out on the line: 8 or 16 kHz, the silence at both ends
//! trimmed, levelled, peaks rounded off.

use super::level::{rms, rms_dbfs};
use super::{SampleRate, gain, resample};

/// Level of the active parts of what is spoken.
pub const SPEECH_LEVEL_DBFS: f32 = -20.0;

/// What is judged as sound or silence at once: 10 ms, in samples at 8 kHz as all lengths here.
const WINDOW: usize = 80;
/// A window this far below the loudest is silence.
const SILENCE_BELOW_DB: f32 = 38.0;
/// A window this far below the loudest is no part of the active level.
const INACTIVE_BELOW_DB: f32 = 22.0;
/// Kept before the first sound: a soft onset hides in it.
const LEAD: usize = 160;
/// Kept behind the last sound, faded out: a soft ending, and the breath between two clauses.
const TAIL: usize = 400;
/// Most that a voice is raised or lowered.
const MAX_GAIN_DB: f32 = 25.0;
/// Where rounding off begins: -6 dBFS.
const KNEE: f32 = 16_384.0;
/// What no sample exceeds: -1 dBFS.
const CEILING: f32 = 29_204.0;

/// What a voice made, of any level at `rate`, as it is played at `to`, 8 or 16 kHz. Empty where
/// there is no sound.
pub fn for_telephone(samples: &[f32], rate: SampleRate, to: SampleRate) -> Vec<i16> {
    let peak = samples
        .iter()
        .filter(|s| s.is_finite())
        .fold(0.0f32, |peak, s| peak.max(s.abs()));
    if peak < 1e-4 {
        return Vec::new();
    }
    // Half of full scale: room for the filter's overshoot, and little rounding noise.
    let pcm: Vec<i16> = samples
        .iter()
        .map(|s| (s / peak * KNEE).round() as i16)
        .collect();
    let speech = resample::whole(&pcm, rate, to);
    let scale = (to.hz() / SampleRate::TELEPHONE.hz()) as usize;
    let window = WINDOW * scale;
    let levels: Vec<f32> = speech.chunks(window).map(rms_dbfs).collect();
    let loudest = levels.iter().copied().fold(f32::MIN, f32::max);
    let mut trimmed = trim(&speech, &levels, loudest - SILENCE_BELOW_DB, scale);
    let level = active_level(&speech, &levels, loudest - INACTIVE_BELOW_DB, window);
    let change = (SPEECH_LEVEL_DBFS - level).clamp(-MAX_GAIN_DB, MAX_GAIN_DB);
    amplify(&mut trimmed, 10f32.powf(change / 20.0));
    let (lead, tail) = ((LEAD * scale).min(trimmed.len()), window.min(trimmed.len()));
    gain::ramp(&mut trimmed[..lead / 2], 0.0, 1.0);
    let fade = trimmed.len() - tail;
    gain::ramp(&mut trimmed[fade..], 1.0, 0.0);
    trimmed
}

/// From [`LEAD`] before the first window at or above `threshold` to [`TAIL`] behind the last.
fn trim(speech: &[i16], levels: &[f32], threshold: f32, scale: usize) -> Vec<i16> {
    let first = levels
        .iter()
        .position(|level| *level >= threshold)
        .unwrap_or(0);
    let last = levels
        .iter()
        .rposition(|level| *level >= threshold)
        .unwrap_or(0);
    let start = (first * WINDOW).saturating_sub(LEAD) * scale;
    let end = (((last + 1) * WINDOW + TAIL) * scale).min(speech.len());
    speech[start..end].to_vec()
}

/// Root mean square of the windows at or above `threshold`, in dBFS.
fn active_level(speech: &[i16], levels: &[f32], threshold: f32, window: usize) -> f32 {
    let active: Vec<f64> = speech
        .chunks(window)
        .zip(levels)
        .filter(|(_, level)| **level >= threshold)
        .map(|(window, _)| rms(window).powi(2))
        .collect();
    let mean = active.iter().sum::<f64>() / active.len().max(1) as f64;
    (10.0 * (mean.max(1.0) / (32_768.0f64 * 32_768.0)).log10()) as f32
}

/// Scales, and bends what would exceed [`KNEE`] towards [`CEILING`].
fn amplify(samples: &mut [i16], factor: f32) {
    for sample in samples {
        let scaled = f32::from(*sample) * factor;
        let over = scaled.abs() - KNEE;
        let room = CEILING - KNEE;
        let magnitude = if over > 0.0 {
            KNEE + room * (over / room).tanh()
        } else {
            scaled.abs()
        };
        *sample = magnitude.copysign(scaled).round() as i16;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: u32 = 22_050;

    fn rate() -> SampleRate {
        SampleRate::new(MODEL).unwrap()
    }

    /// A second of a tone that swells and fades like syllables, `silence` seconds before it and
    /// behind it.
    fn syllables(amplitude: f32, silence: f32) -> Vec<f32> {
        let gap = vec![0.0; (silence * MODEL as f32) as usize];
        let tone = (0..MODEL).map(|index| {
            let time = index as f32 / MODEL as f32;
            let swell = (time * 4.0 * std::f32::consts::PI).sin().abs();
            amplitude * swell * (time * 300.0 * std::f32::consts::TAU).sin()
        });
        gap.iter()
            .copied()
            .chain(tone)
            .chain(gap.iter().copied())
            .collect()
    }

    #[test]
    fn quiet_and_loud_voices_come_out_at_the_same_level() {
        for amplitude in [0.01, 0.1, 0.9] {
            let shaped = for_telephone(&syllables(amplitude, 0.0), rate(), SampleRate::TELEPHONE);
            let levels: Vec<_> = shaped.chunks(WINDOW).map(rms_dbfs).collect();
            let loudest = levels.iter().copied().fold(f32::MIN, f32::max);
            let level = active_level(&shaped, &levels, loudest - INACTIVE_BELOW_DB, WINDOW);
            assert!(
                (level - SPEECH_LEVEL_DBFS).abs() < 0.5,
                "{amplitude}: {level}"
            );
        }
    }

    #[test]
    fn the_first_audible_frame_comes_at_once_and_the_end_is_short() {
        let shaped = for_telephone(&syllables(0.3, 0.4), rate(), SampleRate::TELEPHONE);
        let audible: Vec<_> = shaped
            .chunks(160)
            .map(|frame| rms_dbfs(frame) >= -45.0)
            .collect();
        assert!(audible.iter().position(|audible| *audible).unwrap() <= 1);
        let silent_at_end = audible
            .iter()
            .rev()
            .take_while(|audible| !**audible)
            .count();
        assert!(silent_at_end <= 3, "{silent_at_end} frames");
        let seconds = shaped.len() as f32 / 8000.0;
        assert!((1.0..1.1).contains(&seconds), "{seconds} s");
        assert!(shaped[0].abs() < 50);
        assert!(shaped[shaped.len() - 1].abs() < 50);
    }

    #[test]
    fn a_click_is_rounded_off_below_the_ceiling() {
        let mut samples = syllables(0.02, 0.0);
        samples[11_000] = 1.0;
        samples[11_001] = 1.0;
        let shaped = for_telephone(&samples, rate(), SampleRate::TELEPHONE);
        let peak = shaped.iter().map(|s| i32::from(*s).abs()).max().unwrap();
        assert!(peak <= CEILING as i32 + 1, "{peak}");
    }

    #[test]
    fn wideband_has_the_same_length_and_level_and_more_in_it() {
        let sound = syllables(0.3, 0.4);
        let narrow = for_telephone(&sound, rate(), SampleRate::TELEPHONE);
        let wide = for_telephone(&sound, rate(), SampleRate::WIDEBAND);
        assert!(wide.len().abs_diff(narrow.len() * 2) <= 4 * WINDOW);
        assert!((rms_dbfs(&wide) - rms_dbfs(&narrow)).abs() < 0.5);
    }

    #[test]
    fn what_holds_no_sound_comes_out_empty() {
        assert!(for_telephone(&[], rate(), SampleRate::TELEPHONE).is_empty());
        assert!(for_telephone(&vec![0.0; 22_050], rate(), SampleRate::TELEPHONE).is_empty());
        assert!(for_telephone(&[f32::NAN; 100], rate(), SampleRate::TELEPHONE).is_empty());
    }
}
