//! Scenarios through a simulated network, in virtual time.

mod hostile;
mod reports;
mod wideband;

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use super::simulation::*;
use super::*;
use crate::audio::level::{AUDIBLE_DBFS, is_audible, rms, rms_dbfs};
use crate::audio::tone::DtmfDigit;
use crate::audio::{AnyFrame, Codec, FRAME_SAMPLES, Frame, SampleRate};

const JITTERY: Path = Path {
    jitter_ms: 30.0,
    ..Path::CLEAN
};

fn digit(key: char) -> DtmfDigit {
    DtmfDigit::from_char(key).unwrap()
}

/// By how many samples `heard` is behind `sound`, where the first 2 s are most alike.
fn lag(sound: &[i16], heard: &[i16]) -> usize {
    let part = &sound[..16_000.min(sound.len())];
    let alike = |lag: usize| -> f64 {
        let shifted = heard.iter().skip(lag);
        part.iter()
            .zip(shifted)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum()
    };
    (0..3_200)
        .max_by(|a, b| alike(*a).total_cmp(&alike(*b)))
        .unwrap()
}

#[test]
fn a_clean_path_delivers_every_sample_unchanged_and_soon() {
    for ptime in [10, 20, 40, 60] {
        let sound = roar(200, 1);
        let mut call = Call::new(Path::CLEAN, 1, ptime);
        call.speak(&sound);
        let heard = call.finish();
        let lag = lag(&coded(&sound), &heard.samples());
        let samples = heard.samples();
        let last = sound.len() / 480 * 480; // what fills packets of any length
        // The very beginning is ramped, against clicks.
        let (heard_now, said) = (&samples[lag + 20..lag + last], &coded(&sound)[20..last]);
        assert!(heard_now == said, "{ptime} ms: it changed");
        // Packet length, path, 40 ms of target, grid, concealment.
        let most = (usize::from(ptime) + 15 + 40 + 20 + 4) * 8;
        assert!(lag < most, "{ptime} ms packets: {} ms", lag / 8);
        let statistics = heard.statistics;
        assert_eq!(
            (statistics.lost, statistics.late, statistics.duplicate),
            (0, 0, 0)
        );
        assert_eq!(
            statistics.concealed.as_millis() / 80,
            0,
            "{ptime} ms: only the end"
        );
    }
}

#[test]
fn the_delay_shrinks_in_the_first_pauses_of_a_steady_path() {
    let sentence = [speech(60, 2), vec![10; 25 * FRAME_SAMPLES]].concat();
    let sound = sentence.repeat(4);
    let mut call = Call::new(Path::CLEAN, 2, 20);
    call.speak(&sound);
    let heard = call.finish();
    let (sound, samples) = (coded(&sound), heard.samples());
    let early = lag(&sound[..8_000], &samples);
    let late = lag(&sound[32_000..40_000], &samples[32_000..]);
    assert!(late + 80 <= early, "{} ms, then {} ms", early / 8, late / 8);
    assert!(heard.statistics.target_delay == Duration::from_millis(10));
    assert!(heard.statistics.removed > Duration::from_millis(9));
}

#[test]
fn thirty_milliseconds_of_jitter_cost_few_frames_and_less_than_eighty_milliseconds() {
    for seed in 0..20 {
        let sound = speech(1_000, seed);
        let mut call = Call::new(JITTERY, seed, 20);
        call.speak(&sound);
        let heard = call.finish();
        let late = heard.statistics.late;
        assert!(late <= 20, "seed {seed}: {late} of 1000 late");
        let (sound, samples) = (coded(&sound), heard.samples());
        let from = 80_000;
        let lag = lag(&sound[from..], &samples[from..]);
        let added = lag.saturating_sub((15 + 20) * 8) / 8;
        assert!(added <= 80, "seed {seed}: {added} ms added");
        assert_eq!(heard.statistics.lost, 0, "seed {seed}");
        assert!(heard.statistics.reordered > 0, "seed {seed}");
    }
}

#[test]
fn losses_alone_and_in_bursts_are_concealed_and_counted() {
    for (loss, burst) in [(0.01, 1), (0.03, 1), (0.05, 1), (0.05, 3)] {
        let sound = speech(2_000, 5);
        let mut call = Call::new(
            Path {
                loss,
                burst,
                ..Path::CLEAN
            },
            5,
            20,
        );
        call.speak(&sound);
        let heard = call.finish();
        let lost = heard.statistics.lost as f64 / 2_000.0;
        assert!((lost - loss).abs() < 0.02, "{loss} of {burst}: lost {lost}");
        let made_up = heard.count(FrameKind::Concealed) as f64 / 2_000.0;
        assert!(
            (made_up - lost).abs() < 0.01,
            "{loss} of {burst}: made up {made_up}"
        );
        assert_eq!(heard.statistics.late, 0);
    }
}

#[test]
fn concealed_sound_is_nearer_to_the_truth_than_silence() {
    let sound = speech(1_000, 6);
    let mut call = Call::new(
        Path {
            loss: 0.05,
            ..Path::CLEAN
        },
        6,
        20,
    );
    call.speak(&sound);
    let heard = call.finish();
    let (sound, samples) = (coded(&sound), heard.samples());
    let (mut with, mut without) = (0.0, 0.0);
    // The delay changes in pauses, so each lost frame is compared where it best fits.
    for (n, pulled) in heard.frames.iter().enumerate().skip(10) {
        if pulled.kind != FrameKind::Concealed || (n + 1) * 160 > sound.len() {
            continue;
        }
        let made_up = &samples[n * 160..(n + 1) * 160];
        let error = |lag: usize| -> f64 {
            let truth = &sound[n * 160 - lag..(n + 1) * 160 - lag];
            truth
                .iter()
                .zip(made_up)
                .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2))
                .sum()
        };
        let lag = (200..1_000)
            .min_by(|a, b| error(*a).total_cmp(&error(*b)))
            .unwrap();
        with += error(lag);
        without += rms(&sound[n * 160 - lag..(n + 1) * 160 - lag]).powi(2) * 160.0;
    }
    assert!(with < without / 2.0, "{with:.0} against {without:.0}");
}

#[test]
fn duplicates_are_played_once() {
    let sound = speech(200, 7);
    let mut call = Call::new(
        Path {
            duplicates: 0.5,
            ..Path::CLEAN
        },
        7,
        20,
    );
    call.speak(&sound);
    let heard = call.finish();
    assert!(heard.statistics.duplicate > 50);
    assert_eq!(heard.statistics.received, 200);
    let played = heard.statistics.played + heard.statistics.removed;
    assert_eq!(
        played,
        Duration::from_millis(200 * 20) + heard.statistics.added
    );
}

#[test]
fn clocks_that_differ_are_followed_without_a_lost_or_concealed_frame() {
    for drift_ppm in [-500.0, 500.0] {
        let sound = speech(300, 8);
        let mut call = Call::new(
            Path {
                jitter_ms: 3.0,
                ..Path::CLEAN
            },
            8,
            20,
        );
        call.drift_ppm = drift_ppm;
        for _ in 0..20 {
            call.speak(&sound); // 2 minutes: 60 ms of drift
        }
        let heard = call.finish();
        let Statistics {
            late,
            dropped,
            removed,
            added,
            concealed,
            ..
        } = heard.statistics;
        assert_eq!((late, dropped), (0, 0), "{drift_ppm}");
        assert!(
            concealed < Duration::from_millis(100),
            "{drift_ppm}: {concealed:?}"
        );
        let corrected = if drift_ppm > 0.0 { removed } else { added };
        assert!(
            corrected >= Duration::from_millis(15),
            "{drift_ppm}: {corrected:?}"
        );
    }
}

#[test]
fn a_sender_that_is_silent_between_words_is_not_concealed_for_long() {
    let sound = speech(50, 9);
    let mut call = Call::new(
        Path {
            jitter_ms: 10.0,
            ..Path::CLEAN
        },
        9,
        20,
    );
    for _ in 0..10 {
        call.speak(&sound);
        call.be_silent(100);
    }
    let heard = call.finish();
    assert_eq!((heard.statistics.lost, heard.statistics.late), (0, 0));
    assert!(heard.count(FrameKind::Concealed) <= 10 * 4);
    assert!(heard.count(FrameKind::Silence) > 10 * 90);
    assert!(heard.count(FrameKind::Voice) >= 10 * 49);
}

#[test]
fn a_sender_whose_timestamps_stand_still_in_silence_is_heard_again() {
    for gap in [10, 30, 150, 600] {
        let sound = speech(100, 10);
        let mut call = Call::new(Path::CLEAN, 10, 20);
        call.speak(&sound);
        for _ in 0..gap {
            call.tick_without_sender();
        }
        call.speak(&sound);
        let heard = call.finish();
        let voice = heard.count(FrameKind::Voice);
        assert!(
            voice >= 195,
            "{gap} frames of silence: {voice} of 200 heard"
        );
    }
}

#[test]
fn a_path_that_becomes_longer_or_shorter_in_mid_call_is_followed() {
    for delays in [(15.0, 115.0), (15.0, 415.0), (115.0, 15.0), (15.0, 2_015.0)] {
        let sound = speech(600, 11);
        let mut call = Call::new(
            Path {
                delay_ms: delays.0,
                ..Path::CLEAN
            },
            11,
            20,
        );
        call.speak(&sound);
        call.network.set_path(Path {
            delay_ms: delays.1,
            ..Path::CLEAN
        });
        call.speak(&sound);
        call.speak(&sound);
        let heard = call.finish();
        let after = &heard.frames[900..1_750];
        let voice = after
            .iter()
            .filter(|pulled| pulled.kind == FrameKind::Voice)
            .count();
        assert!(voice >= 840, "{delays:?}: {voice} of 850 frames");
    }
}

#[test]
fn an_outage_is_silence_and_then_the_call_goes_on() {
    let sound = speech(200, 12);
    let mut call = Call::new(Path::CLEAN, 12, 20);
    call.speak(&sound);
    call.network.set_path(Path {
        loss: 1.0,
        ..Path::CLEAN
    });
    call.speak(&sound);
    call.network.set_path(Path::CLEAN);
    call.speak(&sound);
    let heard = call.finish();
    assert_eq!(heard.statistics.lost, 200);
    assert!(heard.count(FrameKind::Concealed) <= 8);
    assert!(heard.count(FrameKind::Voice) >= 395);
}

#[test]
fn another_source_takes_over_after_its_second_packet_and_a_stranger_does_not() {
    let sound = speech(100, 13);
    let mut call = Call::new(Path::CLEAN, 13, 20);
    call.speak(&sound);
    let stranger = Header {
        marker: true,
        payload_type: 0,
        sequence: 1,
        timestamp: 5,
        ssrc: 666,
    };
    let mut datagram = stranger.to_bytes().to_vec();
    datagram.extend([0; 160]);
    let now = call.now();
    assert_eq!(call.receiver.receive(now, &datagram), Ok(Received::Ignored));
    call.speak(&sound);
    assert_eq!(call.receiver.statistics().stray, 1);
    assert_eq!(call.receiver.statistics().sources, 0);

    call.sender = session(0xdead_beef, 20);
    call.speak(&sound);
    let heard = call.finish();
    assert_eq!(heard.statistics.sources, 1);
    assert_eq!(heard.statistics.received, 300);
    let voice = heard.count(FrameKind::Voice);
    assert!(voice >= 298, "{voice} of 300 heard");
}

#[test]
fn the_codec_may_change_from_packet_to_packet() {
    let sound = roar(100, 14);
    let mut call = Call::new(Path::CLEAN, 14, 20);
    for (n, frame) in sound.chunks(FRAME_SAMPLES).enumerate() {
        let codec = if n % 2 == 0 { Codec::Pcmu } else { Codec::Pcma };
        call.sender.reconfigure(stream(codec, 20));
        call.tick(Some(&Frame::padded(frame).into()));
    }
    let heard = call.finish();
    assert_eq!(heard.count(FrameKind::Voice), 100);
    assert_eq!(heard.statistics.unknown_payload, 0);
    let samples = heard.samples();
    let lag = lag(&sound, &samples);
    let noise: Vec<i16> = sound
        .iter()
        .zip(&samples[lag..])
        .map(|(a, b)| a - b)
        .collect();
    assert!(rms(&noise[20..]) < rms(&sound) / 30.0);
}

#[test]
fn unknown_payloads_are_counted_and_leave_no_loss_behind() {
    let mut call = Call::new(Path::CLEAN, 15, 20);
    let sound = speech(50, 15);
    call.sender.reconfigure(StreamConfig {
        payload_type: 18,
        ..stream(Codec::Pcmu, 20)
    });
    call.speak(&sound);
    let heard = call.finish();
    assert_eq!(heard.statistics.unknown_payload, 50);
    assert_eq!(heard.count(FrameKind::Voice), 0);
}

#[test]
fn every_received_packet_tells_its_level_and_arrival() {
    let loud = [8_000i16; FRAME_SAMPLES];
    let mut call = Call::new(Path::CLEAN, 16, 40);
    let start = call.now();
    call.speak(&[[0; FRAME_SAMPLES], loud].concat());
    call.speak(&[0; 2 * FRAME_SAMPLES]);
    let heard = call.finish();
    let loudness = |n: usize| heard.loudness[n].level_dbfs;
    assert_eq!(heard.loudness.len(), 2);
    assert!((loudness(0) + 12.2).abs() < 0.2, "half of it is loud");
    assert!(loudness(1) < AUDIBLE_DBFS);
    let Received::Voice { duration, outcome } = heard.received[0] else {
        unreachable!("it is sound")
    };
    assert_eq!((duration.as_millis(), outcome), (40, Outcome::Buffered));

    // Its end is sent after 27 ms, and the path takes 15.
    let first_arrival = start + Duration::from_millis(20 + 7 + 15);
    assert_eq!(heard.loudness[0].arrived, first_arrival);
    let first_loud = heard
        .frames
        .iter()
        .find(|pulled| is_audible(pulled.frame.samples()));
    assert_eq!(first_loud.unwrap().arrived, Some(first_arrival));
}

#[test]
fn a_talkspurt_begins_with_the_marker_and_time_goes_on_in_silence() {
    let mut sender = session(1, 20);
    let mut sent: Vec<Header> = Vec::new();
    let frame = AnyFrame::from(Frame::new([1_000; FRAME_SAMPLES]));
    for talking in [true, true, false, false, true, true] {
        sender.send(talking.then_some(&frame), |datagram| {
            sent.push(Packet::parse(datagram).unwrap().header);
        });
    }
    let first = sent[0];
    let since: Vec<(bool, u16, u32)> = sent
        .iter()
        .map(|header| {
            let sequence = header.sequence.wrapping_sub(first.sequence);
            (
                header.marker,
                sequence,
                header.timestamp.wrapping_sub(first.timestamp),
            )
        })
        .collect();
    assert_eq!(
        since,
        [
            (true, 0, 0),
            (false, 1, 160),
            (true, 2, 640),
            (false, 3, 800)
        ]
    );
}

#[test]
fn packets_have_the_negotiated_length_and_the_rest_is_not_kept_back() {
    for (ptime, lengths) in [
        (10, vec![80; 10]),
        (20, vec![160; 5]),
        (40, vec![320, 320, 160]),
        (60, vec![480, 320]),
    ] {
        let mut sender = session(1, ptime);
        let mut sent = Vec::new();
        let frame = AnyFrame::from(Frame::new([1_000; FRAME_SAMPLES]));
        for frame in [Some(&frame); 5].into_iter().chain([None]) {
            sender.send(frame, |datagram| sent.push(datagram.len() - HEADER_BYTES));
        }
        assert_eq!(sent, lengths, "{ptime} ms");
    }
}

#[test]
fn a_sent_digit_is_one_digit_with_its_length_and_sound_resumes_after_it() {
    let sound = speech(50, 17);
    let mut call = Call::new(Path::CLEAN, 17, 20);
    call.speak(&sound);
    assert!(
        call.sender
            .send_digit(digit('5'), Duration::from_millis(100))
    );
    assert!(
        call.sender
            .send_digit(digit('#'), Duration::from_millis(160))
    );
    call.speak(&sound);
    assert!(!call.sender.is_sending_digits());
    let heard = call.finish();
    let digits: Vec<(char, u128)> = heard
        .digits
        .iter()
        .map(|d| (d.digit.to_char(), d.duration.as_millis()))
        .collect();
    assert_eq!(digits, [('5', 100), ('#', 160)]);
    assert_eq!(heard.statistics.lost, 0);
    let began = heard
        .received
        .iter()
        .filter(|r| matches!(r, Received::Digit { began: true, .. }));
    assert_eq!(began.count(), 2);
}

#[test]
fn ten_thousand_digits_at_ten_percent_loss_and_reordering_come_once_each() {
    let mut rng = StdRng::seed_from_u64(4733);
    let path = Path {
        loss: 0.1,
        duplicates: 0.05,
        jitter_ms: 50.0,
        ..Path::CLEAN
    };
    let mut call = Call::new(path, 18, 20);
    let mut sent = String::new();
    let frame = AnyFrame::from(Frame::SILENCE);
    for _ in 0..10_000 {
        let key = DtmfDigit::from_event(rng.random_range(0..16)).unwrap();
        sent.push(key.to_char());
        assert!(
            call.sender
                .send_digit(key, Duration::from_millis(rng.random_range(60..140)))
        );
        while call.sender.is_sending_digits() {
            call.tick(Some(&frame));
        }
    }
    let heard = call.finish();
    let received: String = heard.digits.iter().map(|d| d.digit.to_char()).collect();
    assert_eq!(received.len(), sent.len());
    assert!(received == sent, "in another order or other digits");
    assert!(heard.statistics.lost > 5_000 && heard.statistics.reordered > 5_000);
}

#[test]
fn silence_is_heard_as_the_peer_says_it_sounds() {
    let sound = speech(50, 40);
    let mut call = Call::new(Path::CLEAN, 40, 20);
    call.speak(&sound);
    let now = call.now();
    let sent = call.sender.statistics().sent as u16;
    let noise = Header {
        marker: false,
        payload_type: 13,
        sequence: 65_500u16.wrapping_add(sent),
        timestamp: (u32::MAX - 8_000).wrapping_add(50 * 160),
        ssrc: 0x5e_7d_e5,
    };
    let mut datagram = noise.to_bytes().to_vec();
    datagram.push(50); // -50 dBov
    let received = call.receiver.receive(now, &datagram);
    assert_eq!(received, Ok(Received::ComfortNoise));
    call.be_silent(100);
    let heard = call.finish();
    let quiet: Vec<f32> = heard.frames[60..140]
        .iter()
        .map(|pulled| rms_dbfs(pulled.frame.samples()))
        .collect();
    assert!(
        quiet.iter().all(|level| (-52.0..-48.0).contains(level)),
        "{quiet:?}"
    );
    assert_eq!(heard.statistics.lost, 0);
}
