//! Changing loudness without clicks.

use super::{FRAME_SAMPLES, Frame};

/// How long a fade lasts, in samples: 15 ms at 8 kHz, long enough not to click and short enough
/// to be felt as at once.
pub const FADE_SAMPLES: usize = 120;

/// Scales `samples` by `decibels`, clipping at full scale.
pub fn apply_db(samples: &mut [i16], decibels: f32) {
    let factor = 10f32.powf(decibels / 20.0);
    ramp(samples, factor, factor);
}

/// Scales `samples` by a factor that goes from `from` (at the first) towards `to` (just after
/// the last) in a straight line, clipping at full scale.
pub fn ramp(samples: &mut [i16], from: f32, to: f32) {
    let step = (to - from) / samples.len().max(1) as f32;
    for (n, sample) in samples.iter_mut().enumerate() {
        let scaled = f32::from(*sample) * (from + step * n as f32);
        *sample = scaled.round() as i16; // `as` saturates
    }
}

/// Ends what is playing within this frame: it fades to nothing over [`FADE_SAMPLES`] and the
/// rest is silence. What a barge-in plays last.
pub fn fade_out(frame: &mut Frame) {
    let (fading, silent) = frame.samples_mut().split_at_mut(FADE_SAMPLES);
    ramp(fading, 1.0, 0.0);
    silent.fill(0);
}

/// Begins what is playing within this frame, rising over [`FADE_SAMPLES`]: for audio that
/// starts in the middle of a sound.
pub fn fade_in(frame: &mut Frame) {
    ramp(&mut frame.samples_mut()[..FADE_SAMPLES], 0.0, 1.0);
}

const _: () = assert!(FADE_SAMPLES <= FRAME_SAMPLES);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::level::rms_dbfs;

    #[test]
    fn six_decibels_double_and_clip_at_full_scale() {
        let mut samples = [1_000, -1_000, 30_000, -30_000];
        apply_db(&mut samples, 6.0206);
        assert_eq!(samples, [2_000, -2_000, i16::MAX, i16::MIN]);
    }

    #[test]
    fn a_barge_in_ends_in_silence_with_no_step_larger_than_the_ramp() {
        let mut frame = Frame::new([12_000; FRAME_SAMPLES]);
        fade_out(&mut frame);
        let samples = frame.samples();
        assert_eq!(samples[0], 12_000);
        assert!(samples[FADE_SAMPLES..].iter().all(|s| *s == 0));
        let largest = samples.windows(2).map(|w| (w[0] - w[1]).abs()).max();
        assert!(largest <= Some(101), "{largest:?}");
    }

    #[test]
    fn a_fade_in_starts_from_nothing() {
        let mut frame = Frame::new([12_000; FRAME_SAMPLES]);
        fade_in(&mut frame);
        assert_eq!(frame.samples()[0], 0);
        assert_eq!(frame.samples()[FRAME_SAMPLES - 1], 12_000);
        assert!(rms_dbfs(frame.samples()) < rms_dbfs(&[12_000; 160]));
    }
}
