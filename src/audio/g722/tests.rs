use super::*;
use crate::audio::level::rms;

fn tone(hz: f64, amplitude: f64, samples: usize) -> Vec<i16> {
    (0..samples)
        .map(|n| {
            (amplitude * (std::f64::consts::TAU * hz * n as f64 / 16_000.0).sin()).round() as i16
        })
        .collect()
}

fn through(samples: &[i16]) -> Vec<i16> {
    let (mut octets, mut heard) = (Vec::new(), Vec::new());
    Encoder::default().encode(samples, &mut octets);
    Decoder::default().decode(&octets, &mut heard);
    heard
}

/// Signal to noise where the mirror filters' delay of 22 samples is taken off.
fn snr_db(samples: &[i16]) -> f64 {
    let heard = through(samples);
    let noise: Vec<i16> = samples[2_000..samples.len() - 22]
        .iter()
        .zip(&heard[2_022..])
        .map(|(said, heard)| said.saturating_sub(*heard))
        .collect();
    20.0 * (rms(&samples[2_000..]) / rms(&noise).max(1.0)).log10()
}

/// FNV-1a, so that a long vector is compared by one number.
fn hash(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Sweeps, silence, clicks and full-scale noise, from integers alone.
fn torture() -> Vec<i16> {
    let mut state = 1u32;
    (0..32_000u32)
        .map(|n| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = (state >> 16) as i16;
            match n / 4_000 {
                0 => noise / 64,
                1 => (n % 80 * 400) as i16,
                2 => 0,
                3 => noise,
                4 => (n * n / 64 % 20_000) as i16 - 10_000,
                5 => {
                    if n % 7 == 0 {
                        i16::MAX
                    } else {
                        i16::MIN
                    }
                }
                6 => (n % 3 * 5_000) as i16 - 5_000,
                _ => noise / 8,
            }
        })
        .collect()
}

#[test]
fn both_bands_keep_their_signal() {
    for (hz, least) in [
        (300.0, 22.0),
        (1_000.0, 22.0),
        (3_000.0, 18.0),
        (6_000.0, 9.0),
    ] {
        for amplitude in [300.0, 3_000.0, 12_000.0] {
            let snr = snr_db(&tone(hz, amplitude, 16_000));
            assert!(snr > least, "{hz} Hz at {amplitude}: {snr:.1} dB");
        }
    }
}

#[test]
fn silence_stays_silent() {
    let heard = through(&[0; 3_200]);
    assert!(heard.iter().all(|sample| sample.abs() <= 8));
}

#[test]
fn pieces_of_any_size_give_what_the_whole_gives() {
    let samples = torture();
    let mut whole = Vec::new();
    Encoder::default().encode(&samples, &mut whole);
    for size in [1, 3, 320] {
        let (mut encoder, mut octets) = (Encoder::default(), Vec::new());
        for piece in samples.chunks(size) {
            encoder.encode(piece, &mut octets);
        }
        assert_eq!(octets, whole, "pieces of {size}");
    }
}

/// The figures are those of another implementation (libspandsp 0.0.6) for the same samples.
#[test]
fn codes_and_sound_are_the_same_to_the_bit_as_elsewhere() {
    let (mut octets, mut heard) = (Vec::new(), Vec::new());
    Encoder::default().encode(&torture(), &mut octets);
    assert_eq!(hash(octets.iter().copied()), 0x4d30_e6b5_89c9_d3b9);
    // A quarter as loud, since that one wraps round at full scale.
    let quiet: Vec<i16> = torture().iter().map(|sample| sample / 4).collect();
    octets.clear();
    Encoder::default().encode(&quiet, &mut octets);
    Decoder::default().decode(&octets, &mut heard);
    let bytes = heard.iter().flat_map(|sample| sample.to_le_bytes());
    assert_eq!(hash(bytes), 0x7d70_7859_ab6c_3e5e);
}

#[test]
fn any_codes_are_sound_and_full_scale_does_not_wrap() {
    let codes: Vec<u8> = (0..16_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 20) as u8)
        .collect();
    let mut heard = Vec::new();
    Decoder::default().decode(&codes, &mut heard);
    assert_eq!(heard.len(), 32_000);
    let square: Vec<i16> = (0..16_000)
        .map(|n| if n / 40 % 2 == 0 { 32_000 } else { -32_000 })
        .collect();
    assert!(rms(&through(&square)[2_000..]) > 28_000.0);
}
