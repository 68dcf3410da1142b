//! How loud audio is.

/// At and above this level a frame counts as audible. Latency ledgers start at the last received
/// frame above it and end at the first sent one.
pub const AUDIBLE_DBFS: f32 = -45.0;

/// What digital silence is reported as; no frame is quieter.
pub const SILENCE_DBFS: f32 = -96.0;

/// Root mean square of `samples` in decibels relative to full scale, where 0 dBFS is a
/// full-scale square wave, so that a full-scale sine is at -3.01. Not below [`SILENCE_DBFS`],
/// which is also the level of no samples at all.
pub fn rms_dbfs(samples: &[i16]) -> f32 {
    let rms = rms(samples);
    if rms <= 0.0 {
        return SILENCE_DBFS;
    }
    ((20.0 * (rms / 32_768.0).log10()) as f32).max(SILENCE_DBFS)
}

/// Root mean square of `samples`, in sample units; 0 for none.
pub fn rms(samples: &[i16]) -> f64 {
    if samples.is_empty() {
        return 0.0;
    }
    let energy: i64 = samples.iter().map(|s| i64::from(*s) * i64::from(*s)).sum();
    (energy as f64 / samples.len() as f64).sqrt()
}

/// Whether `samples` (20 ms, for the latency ledger) reach [`AUDIBLE_DBFS`].
pub fn is_audible(samples: &[i16]) -> bool {
    rms_dbfs(samples) >= AUDIBLE_DBFS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_scale_square_is_zero_and_each_halving_six_decibels_less() {
        assert!(rms_dbfs(&[i16::MIN; 160]).abs() < 0.001);
        assert!((rms_dbfs(&[16_384; 160]) + 6.02).abs() < 0.01);
        assert!((rms_dbfs(&[-8_192; 160]) + 12.04).abs() < 0.01);
    }

    #[test]
    fn a_full_scale_sine_is_three_decibels_below() {
        let sine: Vec<i16> = (0..8_000)
            .map(|n| (32_767.0 * (f64::from(n) * 0.5).sin()) as i16)
            .collect();
        assert!((rms_dbfs(&sine) + 3.01).abs() < 0.02);
    }

    #[test]
    fn silence_and_nothing_have_a_finite_level() {
        assert_eq!(rms_dbfs(&[0; 160]), SILENCE_DBFS);
        assert_eq!(rms_dbfs(&[]), SILENCE_DBFS);
    }

    #[test]
    fn the_threshold_lies_between_amplitude_183_and_186() {
        assert!(!is_audible(&[183; 160]));
        assert!(is_audible(&[186; 160]));
    }
}
