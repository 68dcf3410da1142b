//! The same paths in wideband: loss, jitter, drift, other packet lengths, changes in mid-call.

use super::*;
use crate::audio::codec::through;

/// Every codec whose sound is at 16 kHz.
const WIDEBAND: [Codec; 2] = [Codec::G722, Codec::Opus];

/// Speech-like sound at 16 kHz, with something above 4 kHz in it.
fn wide_speech(frames: usize, seed: u64) -> Vec<i16> {
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut phase, mut hz) = (0.0f64, 120.0);
    (0..frames * 320)
        .map(|n| {
            let at = n % 4_800;
            if at == 0 {
                hz = rng.random_range(90.0..180.0);
            }
            let noise = rng.random_range(-20.0..20.0);
            if at >= 3_200 {
                return noise as i16;
            }
            phase += std::f64::consts::TAU * (hz + at as f64 / 200.0) / 16_000.0;
            let envelope = (std::f64::consts::PI * at as f64 / 3_200.0).sin();
            let voice: f64 = (1..=36)
                .map(|k| (f64::from(k) * phase).sin() / f64::from(k))
                .sum();
            (5_000.0 * envelope * voice + noise) as i16
        })
        .collect()
}

/// By how many samples `heard` is behind `sound`, where their first second is most alike.
fn wide_lag(sound: &[i16], heard: &[i16]) -> usize {
    let part = &sound[..16_000.min(sound.len())];
    let alike = |lag: usize| -> f64 {
        part.iter()
            .zip(heard.iter().skip(lag))
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum()
    };
    (0..4_800)
        .max_by(|a, b| alike(*a).total_cmp(&alike(*b)))
        .unwrap()
}

#[test]
fn a_clean_path_delivers_what_the_codec_makes_of_the_sound_in_packets_of_any_length() {
    for (codec, ptime) in WIDEBAND
        .into_iter()
        .flat_map(|codec| [10, 20, 40, 60].map(|ptime| (codec, ptime)))
    {
        let sound = wide_speech(200, 30);
        let mut call = Call::with_codec(codec, Path::CLEAN, 30, ptime);
        assert_eq!(call.receiver.rate(), SampleRate::WIDEBAND);
        call.speak(&sound);
        let heard = call.finish();
        let samples = heard.samples();
        assert_eq!(samples.len() % 320, 0);
        let lag = wide_lag(&sound, &samples);
        let most = (usize::from(ptime) + 15 + 40 + 20 + 4 + 10) * 16;
        assert!(lag < most, "{codec} in {ptime} ms: {} ms", lag / 16);
        assert_eq!((heard.statistics.lost, heard.statistics.late), (0, 0));
        let concealed = heard.statistics.concealed;
        assert!(concealed < Duration::from_millis(100), "{concealed:?}");
    }
    // G.722 to the bit.
    let sound = wide_speech(100, 31);
    let mut call = Call::with_codec(Codec::G722, Path::CLEAN, 31, 20);
    call.speak(&sound);
    let (samples, expected) = (call.finish().samples(), through(Codec::G722, &sound));
    let lag = wide_lag(&expected, &samples);
    assert!(samples[lag + 40..lag + 4_000] == expected[40..4_000]);
}

#[test]
fn losses_are_concealed_and_playout_keeps_the_sample_clock() {
    for (codec, (loss, burst)) in WIDEBAND
        .into_iter()
        .flat_map(|codec| [(0.01, 1), (0.05, 1), (0.05, 3)].map(|loss| (codec, loss)))
    {
        let sound = wide_speech(1_500, 32);
        let path = Path {
            loss,
            burst,
            ..Path::CLEAN
        };
        let mut call = Call::with_codec(codec, path, 32, 20);
        call.speak(&sound);
        let heard = call.finish();
        let lost = heard.statistics.lost as f64 / 1_500.0;
        assert!((lost - loss).abs() < 0.02, "{codec} {loss}: lost {lost}");
        let made_up = heard.count(FrameKind::Concealed) as f64 / 1_500.0;
        assert!(made_up < lost + 0.01, "{codec} {loss}: made up {made_up}");
        assert_eq!(heard.statistics.late, 0, "{codec}");
        // Nothing is added or left out beyond what was asked for, but for the ends of bursts,
        // which are silent by then.
        let Statistics {
            played,
            concealed,
            removed,
            added,
            ..
        } = heard.statistics;
        let said = played + concealed + removed - added;
        let ms = said.as_millis();
        let least = if burst > 1 { 29_500 } else { 29_850 };
        assert!((least..=30_130).contains(&ms), "{codec} {loss}: {ms} ms");
    }
}

#[test]
fn jitter_costs_no_more_than_in_narrowband() {
    for codec in WIDEBAND {
        for seed in 0..5 {
            let sound = wide_speech(1_000, seed);
            let mut call = Call::with_codec(codec, JITTERY, seed, 20);
            call.speak(&sound);
            let heard = call.finish();
            let Statistics { late, lost, .. } = heard.statistics;
            assert!(late <= 20, "{codec} seed {seed}: {late} of 1000 late");
            assert_eq!(lost, 0);
            let samples = heard.samples();
            let from = 160_000;
            let lag = wide_lag(&sound[from..], &samples[from..]);
            let added = lag.saturating_sub((15 + 20) * 16) / 16;
            // Opus looks ahead, G.722 filters: up to 8 ms of their own.
            assert!(added <= 88, "{codec} seed {seed}: {added} ms added");
        }
    }
}

#[test]
fn clocks_that_differ_are_followed() {
    for (codec, drift_ppm) in WIDEBAND
        .into_iter()
        .flat_map(|codec| [-500.0, 500.0].map(|drift| (codec, drift)))
    {
        let sound = wide_speech(300, 33);
        let path = Path {
            jitter_ms: 3.0,
            ..Path::CLEAN
        };
        let mut call = Call::with_codec(codec, path, 33, 20);
        call.drift_ppm = drift_ppm;
        for _ in 0..10 {
            call.speak(&sound);
        }
        let heard = call.finish();
        let statistics = heard.statistics;
        assert_eq!((statistics.late, statistics.dropped), (0, 0), "{codec}");
        // The end alone takes 60 ms, or 90 as Opus goes on.
        let concealed = statistics.concealed;
        assert!(concealed < Duration::from_millis(140), "{concealed:?}");
    }
}

#[test]
fn a_packet_that_was_overtaken_is_decoded_in_its_turn() {
    let sound = wide_speech(300, 34);
    let expected = through(Codec::G722, &sound);
    let path = Path {
        jitter_ms: 35.0,
        ..Path::CLEAN
    };
    let mut call = Call::with_codec(Codec::G722, path, 34, 20);
    call.speak(&sound);
    let heard = call.finish();
    assert!(heard.statistics.reordered > 20, "{:?}", heard.statistics);
    assert_eq!(heard.loudness.len(), 300, "each packet tells its level");
    // In the middle of a syllable nothing is stretched: there it is the same to the bit.
    let samples = heard.samples();
    let piece = &expected[4_800 * 8 + 800..][..800];
    let same = samples.windows(800).any(|window| window == piece);
    assert!(same, "the state of the decoder is that of the encoder");
}

#[test]
fn a_re_invite_may_change_between_wideband_and_narrowband() {
    for codec in WIDEBAND {
        let mut call = Call::new(Path::CLEAN, 35, 20);
        let narrow = speech(100, 35);
        call.speak(&narrow);
        for (other, sound) in [
            (codec, wide_speech(100, 35)),
            (Codec::Pcmu, narrow.clone()),
            (codec, wide_speech(100, 36)),
        ] {
            call.sender.reconfigure(stream(other, 20));
            call.receiver.reconfigure(stream(other, 20));
            call.speak(&sound);
        }
        let heard = call.finish();
        let voice = heard.count(FrameKind::Voice);
        assert!(voice >= 380, "{codec}: {voice} of 400 frames");
        let unknown = heard.statistics.unknown_payload;
        assert!(unknown <= 3, "only those under way at a change: {unknown}");
        let played = heard.statistics.played.as_millis();
        assert!(played > 7_500, "{codec}: {played} ms over all codecs");
    }
}

#[test]
fn narrowband_packets_in_a_wideband_stream_are_heard_at_its_rate() {
    let mut call = Call::with_codec(Codec::G722, Path::CLEAN, 36, 20);
    call.speak(&wide_speech(100, 36));
    call.sender.reconfigure(stream(Codec::Pcmu, 20));
    call.speak(&speech(100, 36));
    let heard = call.finish();
    assert!(
        heard
            .frames
            .iter()
            .all(|pulled| pulled.frame.rate() == SampleRate::WIDEBAND)
    );
    assert!(heard.count(FrameKind::Voice) >= 196);
}

#[test]
fn timestamps_follow_the_clock_of_the_codec_over_silence_and_digits() {
    for codec in WIDEBAND {
        let step = codec.clock_rate().hz() / 50;
        let mut sender = session_in(codec, 1, 20);
        let mut sent: Vec<Header> = Vec::new();
        let frame = AnyFrame::padded(&[1_000; 320], SampleRate::WIDEBAND);
        for talking in [true, true, false, false, true, true] {
            sender.send(talking.then_some(&frame), |datagram| {
                sent.push(Packet::parse(datagram).unwrap().header);
            });
        }
        let since = |header: &Header| header.timestamp.wrapping_sub(sent[0].timestamp);
        let seen: Vec<(bool, u32)> = sent.iter().map(|h| (h.marker, since(h))).collect();
        let expected = [
            (true, 0),
            (false, step),
            (true, 4 * step),
            (false, 5 * step),
        ];
        assert_eq!(seen, expected, "{codec}");
    }
}

#[test]
fn digits_beside_wideband_keep_their_length() {
    for codec in WIDEBAND {
        let sound = wide_speech(20, 37);
        let mut call = Call::with_codec(codec, Path::CLEAN, 37, 20);
        call.speak(&sound);
        call.sender
            .send_digit(digit('5'), Duration::from_millis(120));
        call.speak(&sound);
        let heard = call.finish();
        let pressed = heard.digits[0];
        assert_eq!(heard.digits.len(), 1);
        assert_eq!(pressed.digit.to_char(), '5');
        assert_eq!(pressed.duration, Duration::from_millis(120), "{codec}");
    }
}
