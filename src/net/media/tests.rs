use std::time::Duration;

use super::*;
use crate::audio::Codec;
use crate::sdp::{Direction, Encryption, LocalMedia};

/// A peer of IPv4.
const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn media(bind: &str) -> Media {
    let bind = bind.parse().expect("address");
    Media::start(MediaConfig {
        addresses: vec![MediaAddress {
            bind,
            advertised: bind,
        }],
        port_min: 30_000,
        port_max: 30_100,
    })
    .expect("thread")
}

fn describe(bind: &str, port: &MediaPort) -> LocalMedia {
    LocalMedia {
        address: bind.parse().expect("address"),
        port: port.port().expect("port"),
        codecs: vec![Codec::Pcmu],
        telephone_event: Some(101),
        ptime_ms: 20,
        encryption: Encryption::Off,
        direction: Direction::SendRecv,
        session_id: 1,
        session_version: 1,
    }
}

/// Two streams on this machine that send to each other.
fn joined(a: &Media, b: &Media) -> [(MediaStream, mpsc::Receiver<Tick>); 2] {
    joined_in(&[Codec::Pcmu], Some(101), a, b)
}

fn joined_in(
    codecs: &[Codec],
    telephone_event: Option<u8>,
    a: &Media,
    b: &Media,
) -> [(MediaStream, mpsc::Receiver<Tick>); 2] {
    let (a, b) = (
        a.reserve(LOOPBACK).expect("port"),
        b.reserve(LOOPBACK).expect("port"),
    );
    let [of_a, of_b] = [("127.0.0.45", &a), ("127.0.0.46", &b)].map(|(bind, port)| LocalMedia {
        codecs: codecs.to_vec(),
        telephone_event,
        ..describe(bind, port)
    });
    let (answer, at_b) = crate::sdp::answer(&crate::sdp::offer(&of_a), &of_b).expect("answer");
    let at_a = crate::sdp::accept(&answer, &of_a).expect("accepted");
    [a.flow(&at_a).expect("flows"), b.flow(&at_b).expect("flows")]
}

#[tokio::test]
async fn what_one_side_plays_the_other_hears_and_keys_arrive_once() {
    let (left, right) = (media("127.0.0.45"), media("127.0.0.46"));
    let [(speaker, mut sent), (_listener, mut heard)] = joined(&left, &right);
    speaker.play(ClipKey(1), vec![8000; 16_000], 0);
    for key in "12#".chars() {
        speaker.send_digit(
            DtmfDigit::from_char(key).expect("key"),
            Duration::from_millis(100),
        );
    }
    let mut keys = String::new();
    let mut loud = 0;
    let mut arrivals = 0;
    let mut finished = false;
    while keys.len() < 3 || loud < 10 || !finished {
        let tick = heard.recv().await.expect("flowing");
        assert!(
            tick.index < 500,
            "heard {loud} loud frames and keys {keys:?}"
        );
        keys.extend(tick.digits.iter().map(|digit| digit.digit.to_char()));
        loud += u32::from(tick.heard.samples()[80].abs() > 7000);
        arrivals += tick.arrivals.len();
        while let Ok(tick) = sent.try_recv() {
            finished |= tick
                .played
                .iter()
                .any(|played| played.clip == ClipKey(1) && played.finished);
        }
    }
    assert_eq!(keys, "12#");
    assert!(arrivals >= 20);
}

#[tokio::test]
async fn a_dropped_stream_frees_its_port_and_ends_its_ticks() {
    let media = media("127.0.0.47");
    let port = media.reserve(LOOPBACK).expect("port");
    let description = describe("127.0.0.47", &port);
    let answer = crate::sdp::answer(&crate::sdp::offer(&description), &description)
        .expect("answer")
        .1;
    let number = port.port().expect("port");
    let (stream, mut ticks) = port.flow(&answer).expect("flows");
    ticks.recv().await.expect("flowing");
    drop(stream);
    while ticks.recv().await.is_some() {}
    std::net::UdpSocket::bind(("127.0.0.47", number)).expect("free");
}

#[tokio::test]
async fn joined_streams_pass_on_what_they_hear_sound_and_keys() {
    let (server, phones) = (media("127.0.0.45"), media("127.0.0.46"));
    let [(to_caller, _to_caller_ticks), (caller, _caller_ticks)] = joined(&server, &phones);
    let [(to_callee, _to_callee_ticks), (_callee, mut heard)] = joined(&server, &phones);
    to_caller.join(&to_callee);
    caller.play(ClipKey(1), vec![8000; 16_000], 0);
    let key = DtmfDigit::from_char('7').expect("key");
    caller.send_digit(key, Duration::from_millis(100));
    let (mut loud, mut keys) = (0, String::new());
    while loud < 10 || keys.is_empty() {
        let tick = heard.recv().await.expect("flowing");
        assert!(tick.index < 500, "heard {loud} loud frames and {keys:?}");
        keys.extend(tick.digits.iter().map(|digit| digit.digit.to_char()));
        loud += u32::from(tick.heard.samples()[80].abs() > 7000);
    }
    assert_eq!(keys, "7");
}

#[tokio::test]
async fn keys_are_tones_for_a_peer_that_takes_no_events_in_every_codec() {
    for codec in Codec::ALL {
        let (left, right) = (media("127.0.0.45"), media("127.0.0.46"));
        let [(speaker, mut sent), _listener] = joined_in(&[codec], None, &left, &right);
        speaker.play(ClipKey(1), vec![3_000; 16_000], 0);
        for key in "179#".chars() {
            let digit = DtmfDigit::from_char(key).expect("key");
            speaker.send_digit(digit, Duration::from_millis(100));
        }
        let mut detector = crate::audio::dtmf::Detector::new();
        let mut keys = String::new();
        while keys.len() < 4 {
            let tick = sent.recv().await.expect("flowing");
            assert!(tick.index < 500, "{codec}: sent {keys:?}");
            detector.push(tick.spoken.samples(), |digit| keys.push(digit.to_char()));
        }
        assert_eq!(keys, "179#", "{codec}");
    }
}

#[tokio::test]
async fn a_wideband_stream_is_heard_at_both_rates_and_joined_to_a_narrow_one() {
    let (server, phones) = (media("127.0.0.45"), media("127.0.0.46"));
    let wide = joined_in(&[Codec::G722], Some(101), &server, &phones);
    let [(to_caller, mut at_server), (caller, _caller_ticks)] = wide;
    let [(to_callee, _to_callee_ticks), (callee, mut heard)] = joined(&server, &phones);
    assert_eq!(caller.rate(), SampleRate::WIDEBAND);
    assert_eq!(callee.rate(), SampleRate::TELEPHONE);
    to_caller.join(&to_callee);
    let tone = crate::audio::tone::beep(Duration::from_secs(4), -10.0);
    caller.play(ClipKey(1), tone, 0);
    let mut loud = 0;
    while loud < 20 {
        let tick = heard.recv().await.expect("flowing");
        assert!(tick.index < 500, "heard {loud} loud frames");
        assert!(tick.heard_wide.is_none());
        let level = crate::audio::level::rms_dbfs(tick.heard.samples());
        loud += u32::from((-12.0..-8.0).contains(&level));
    }
    let tick = std::iter::from_fn(|| at_server.try_recv().ok()).last();
    let tick = tick.expect("some came");
    let wide = tick.heard_wide.expect("wideband");
    let level = crate::audio::level::rms_dbfs(wide.samples());
    assert!((-12.0..-8.0).contains(&level), "{level} dBFS");
}
