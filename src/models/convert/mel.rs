//! Whisper's mel filterbank: 16 kHz, 400-point transform, Slaney's scale and area normalisation,
//! as librosa computes it.
//!
//! Only `+ - * /` are used, which IEEE 754 fixes to the last bit; `f64::exp` is whatever the
//! platform's mathematics library says, and the converted file's hash must not depend on that.

const SAMPLE_RATE: f64 = 16_000.0;
const TRANSFORM: u32 = 400;
/// Frequency bins of the transform, the filters' width.
pub(super) const BINS: u32 = TRANSFORM / 2 + 1;

/// Below this the scale is linear, 3 mels for each 200 Hz; above it logarithmic.
const BREAK_HZ: f64 = 1_000.0;
const BREAK_MEL: f64 = 15.0;
const HZ_PER_MEL: f64 = 200.0 / 3.0;
/// ln(6.4) / 27, the step of the logarithmic part.
const LOG_STEP: f64 = 1.856_297_990_365_626_3 / 27.0;
/// ln(8): the top of the scale is 8 kHz, eight times the break.
const LN_8: f64 = 2.079_441_541_679_835_7;

fn exp(x: f64) -> f64 {
    // Taylor's series; x is at most ln(8), where 40 terms leave nothing above the last bit.
    let mut term = 1.0;
    let mut sum = 1.0;
    for n in 1..40_u32 {
        term = term * x / f64::from(n);
        sum += term;
    }
    sum
}

fn mel_to_hz(mel: f64) -> f64 {
    if mel < BREAK_MEL {
        mel * HZ_PER_MEL
    } else {
        BREAK_HZ * exp(LOG_STEP * (mel - BREAK_MEL))
    }
}

/// `mels` rows of [`BINS`] weights, row after row.
pub(super) fn filterbank(mels: u32) -> Vec<f32> {
    let top = BREAK_MEL + LN_8 / LOG_STEP;
    let edges: Vec<f64> = (0..mels + 2)
        .map(|i| mel_to_hz(top * (f64::from(i) / f64::from(mels + 1))))
        .collect();
    let mut weights = Vec::with_capacity(mels as usize * BINS as usize);
    for edge in edges.windows(3) {
        let (low, centre, high) = (edge[0], edge[1], edge[2]);
        let area = 2.0 / (high - low);
        for bin in 0..BINS {
            let hz = f64::from(bin) * SAMPLE_RATE / f64::from(TRANSFORM);
            let rising = (hz - low) / (centre - low);
            let falling = (high - hz) / (high - centre);
            let triangle = if rising < falling { rising } else { falling };
            // Rounded to single before and after the normalisation, as the original does. Written
            // so that a zero is positive however it came about: the file's hash shows its sign.
            let triangle = if triangle > 0.0 { triangle as f32 } else { 0.0 };
            weights.push((f64::from(triangle) * area) as f32);
        }
    }
    weights
}
