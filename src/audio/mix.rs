//! Adding one sound to another.

use super::FRAME_SAMPLES;
use super::level::{is_audible, rms};

/// Adds `other` to `samples` as far as both go, clipping at full scale.
pub fn add(samples: &mut [i16], other: &[i16]) {
    for (sample, added) in samples.iter_mut().zip(other) {
        *sample = sample.saturating_add(*added);
    }
}

/// `speech` with `noise` under it at `snr_db` decibels of signal-to-noise ratio.
///
/// Both at one rate (8 kHz for the frame-wise measure to be 20 ms). The noise is repeated to the
/// length of the speech. The speech level is the mean over its audible 20 ms frames, so that
/// pauses do not make the noise quieter. Where either is silent the speech comes back as it was.
pub fn at_snr(speech: &[i16], noise: &[i16], snr_db: f32) -> Vec<i16> {
    let speech_rms = active_rms(speech);
    let noise_rms = rms(noise);
    if speech_rms <= 0.0 || noise_rms <= 0.0 {
        return speech.to_vec();
    }
    let factor = speech_rms / noise_rms * 10f64.powf(f64::from(-snr_db) / 20.0);
    let scaled = noise
        .iter()
        .map(|sample| (f64::from(*sample) * factor).round() as i16);
    speech
        .iter()
        .zip(scaled.cycle())
        .map(|(sample, added)| sample.saturating_add(added))
        .collect()
}

/// Root mean square over the audible 20 ms frames; over everything where none is audible.
fn active_rms(speech: &[i16]) -> f64 {
    let (energy, frames) = speech
        .chunks(FRAME_SAMPLES)
        .filter(|frame| is_audible(frame))
        .fold((0.0, 0u32), |(energy, frames), frame| {
            (energy + rms(frame).powi(2), frames + 1)
        });
    if frames == 0 {
        rms(speech)
    } else {
        (energy / f64::from(frames)).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(amplitude: f64, step: f64, samples: i32) -> Vec<i16> {
        (0..samples)
            .map(|n| (amplitude * (f64::from(n) * step).sin()) as i16)
            .collect()
    }

    #[test]
    fn noise_lies_under_the_speech_at_the_asked_ratio_and_pauses_do_not_count() {
        let mut speech = tone(8_000.0, 0.7, 16_000);
        speech.extend(vec![0; 64_000]);
        let noise = tone(500.0, 2.1, 1_000);
        let mixed = at_snr(&speech, &noise, 10.0);
        assert_eq!(mixed.len(), speech.len());
        let under: Vec<i16> = mixed.iter().zip(&speech).map(|(m, s)| m - s).collect();
        let ratio = 20.0 * (rms(&speech[..16_000]) / rms(&under)).log10();
        assert!((ratio - 10.0).abs() < 0.1, "{ratio:.2} dB");
    }

    #[test]
    fn silence_on_either_side_changes_nothing() {
        let speech = tone(8_000.0, 0.7, 800);
        assert_eq!(at_snr(&speech, &[0; 80], 10.0), speech);
        assert_eq!(at_snr(&speech, &[], 10.0), speech);
        assert_eq!(at_snr(&[0; 800], &speech, 10.0), vec![0; 800]);
    }

    #[test]
    fn sums_clip_at_full_scale() {
        let mut samples = [30_000, -30_000, 5];
        add(&mut samples, &[10_000, -10_000]);
        assert_eq!(samples, [i16::MAX, i16::MIN, 5]);
    }
}
