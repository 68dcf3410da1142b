//! Half precision and llama.cpp's `q8_0` blocks, bit for bit as the reference code computes them,
//! so that a converted file has one possible hash.

/// Values in one `q8_0` block.
pub(super) const BLOCK: usize = 32;

/// The value of a half-precision number. Exact.
pub(super) fn half_to_single(bits: u16) -> f32 {
    let sign = u32::from(bits >> 15) << 31;
    let exponent = u32::from(bits >> 10) & 0x1f;
    let fraction = u32::from(bits) & 0x3ff;
    match exponent {
        0 => {
            // Subnormal: the fraction counts steps of 2^-24.
            let magnitude = fraction as f32 * f32::from_bits(0x3380_0000);
            f32::from_bits(sign | magnitude.to_bits())
        }
        0x1f => f32::from_bits(sign | 0x7f80_0000 | (fraction << 13)),
        _ => f32::from_bits(sign | ((exponent + 112) << 23) | (fraction << 13)),
    }
}

/// The nearest half-precision number, ties to even; too large becomes infinite.
pub(super) fn single_to_half(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = ((bits >> 16) & 0x8000) as u16;
    let exponent = ((bits >> 23) & 0xff) as i32 - 127;
    let fraction = bits & 0x007f_ffff;
    if exponent == 128 {
        let quiet = if fraction == 0 { 0 } else { 0x0200 };
        return sign | 0x7c00 | quiet;
    }
    if exponent > 15 {
        return sign | 0x7c00;
    }
    if exponent < -25 {
        return sign;
    }
    // The significand with its leading one, and how many of its low bits must go.
    let (significand, drop, base) = if exponent < -14 {
        (fraction | 0x0080_0000, (-exponent - 1) as u32, 0_u32)
    } else {
        (fraction, 13, ((exponent + 15) as u32) << 10)
    };
    let kept = base + (significand >> drop);
    let rest = significand & ((1 << drop) - 1);
    let tie = 1_u32 << (drop - 1);
    let up = rest > tie || (rest == tie && kept & 1 == 1);
    // A carry out of the fraction raises the exponent, up to infinity, as it should.
    sign | (kept + u32::from(up)) as u16
}

/// Appends `values` to `out` as `q8_0` blocks. A remainder shorter than a block is not written:
/// callers hand over whole blocks.
pub(super) fn quantise_q8_0(values: &[f32], out: &mut Vec<u8>) {
    for block in values.as_chunks::<BLOCK>().0 {
        let peak = block
            .iter()
            .fold(0.0_f32, |peak, value| peak.max(value.abs()));
        let scale = peak / 127.0;
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        out.extend_from_slice(&single_to_half(scale).to_le_bytes());
        out.extend(
            block
                .iter()
                .map(|value| (value * inverse).round() as i8 as u8),
        );
    }
}
