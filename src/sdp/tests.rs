use std::net::SocketAddr;

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use super::*;
use crate::audio::SampleRate;

mod codecs;
mod encryption;

fn local() -> LocalMedia {
    LocalMedia {
        address: "192.0.2.10".parse().unwrap(),
        port: 40_000,
        codecs: vec![Codec::Pcmu, Codec::Pcma],
        telephone_event: Some(101),
        ptime_ms: 20,
        encryption: Encryption::Off,
        direction: Direction::SendRecv,
        session_id: 77,
        session_version: 1,
    }
}

/// A description with the usual session part and this media part.
fn with_media(media: &str) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 198.51.100.1\r\ns=-\r\nc=IN IP4 198.51.100.1\r\nt=0 0\r\n{media}"
    )
}

fn answered(offer: &str) -> (String, Negotiated) {
    let (answer, negotiated) = answer(offer.as_bytes(), &local()).unwrap();
    (String::from_utf8(answer).unwrap(), negotiated)
}

fn refusal(offer: &str) -> SdpError {
    answer(offer.as_bytes(), &local()).unwrap_err()
}

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

#[test]
fn a_carrier_offers_and_gets_our_first_codec_with_its_own_numbers() {
    let ours = LocalMedia {
        codecs: vec![Codec::Pcma, Codec::Pcmu],
        ..local()
    };
    let (reply, negotiated) = answer(
        "v=0\r\n\
         o=root 1234 5678 IN IP4 168.86.137.6\r\n\
         s=Twilio Media Gateway\r\n\
         c=IN IP4 168.86.137.6\r\n\
         t=0 0\r\n\
         m=audio 17812 RTP/AVP 0 8 96\r\n\
         a=rtpmap:8 PCMA/8000\r\n\
         a=rtpmap:0 PCMU/8000\r\n\
         a=rtpmap:96 telephone-event/8000\r\n\
         a=fmtp:96 0-16\r\n\
         a=ptime:20\r\n\
         a=maxptime:20\r\n\
         a=sendrecv\r\n"
            .as_bytes(),
        &ours,
    )
    .unwrap();
    let text = String::from_utf8(reply).unwrap();
    assert_eq!(
        text,
        "v=0\r\n\
         o=- 77 1 IN IP4 192.0.2.10\r\n\
         s=-\r\n\
         c=IN IP4 192.0.2.10\r\n\
         t=0 0\r\n\
         m=audio 40000 RTP/AVP 8 96\r\n\
         a=rtpmap:8 PCMA/8000\r\n\
         a=rtpmap:96 telephone-event/8000\r\n\
         a=fmtp:96 0-16\r\n\
         a=ptime:20\r\n\
         a=sendrecv\r\n"
    );
    assert_eq!(
        negotiated,
        Negotiated {
            remote: at("168.86.137.6:17812"),
            remote_rtcp: at("168.86.137.6:17813"),
            rtcp_mux: false,
            voip_metrics: false,
            crypto: None,
            codec: Codec::Pcma,
            payload_type: 8,
            telephone_event: Some(96),
            receive: vec![
                (8, PayloadKind::Audio(Codec::Pcma)),
                (96, PayloadKind::TelephoneEvent(SampleRate::TELEPHONE))
            ],
            ptime_ms: 20,
            direction: Direction::SendRecv,
            remote_hold: false,
        }
    );
}

#[test]
fn our_offer_is_answered_by_ourselves_and_both_agree() {
    let caller = LocalMedia {
        address: "198.51.100.1".parse().unwrap(),
        ..local()
    };
    let sent = offer(&caller);
    let (reply, callee_side) = answer(&sent, &local()).unwrap();
    let caller_side = accept(&reply, &caller).unwrap();
    assert_eq!(callee_side.remote, at("198.51.100.1:40000"));
    assert_eq!(caller_side.remote, at("192.0.2.10:40000"));
    assert_eq!(caller_side.codec, callee_side.codec);
    assert_eq!(caller_side.payload_type, callee_side.payload_type);
    assert_eq!(caller_side.telephone_event, Some(101));
    assert!(
        caller_side
            .receive
            .contains(&(8, PayloadKind::Audio(Codec::Pcma)))
    );
}

#[test]
fn static_payload_types_need_no_rtpmap_and_lines_may_be_sloppy() {
    let (text, negotiated) = answered(
        "v=0\no=Cisco Systems 123456789012345678901234567890 1 IN IP4 198.51.100.1\n\
         c = IN IP4 198.51.100.1 \nb=AS:84.5\nk=clear:x\nnonsense\n=\n\n\
         m=audio 4000/1  rtp/avp  18 0 8 127 200 * \n\
         a=rtpmap:127 Telephone-Event/8000/1 \na=fmtp:127\na=PTIME:20.0\na=unknown:x\n",
    );
    assert!(text.contains("m=audio 40000 rtp/avp 0 127\r\n"), "{text}");
    assert_eq!(negotiated.codec, Codec::Pcmu);
    assert_eq!(negotiated.telephone_event, Some(127));
    assert_eq!(negotiated.remote, at("198.51.100.1:4000"));
}

#[test]
fn a_codec_under_a_dynamic_number_keeps_that_number() {
    let (text, negotiated) = answered(&with_media(
        "m=audio 4000 RTP/AVP 97\r\na=rtpmap:97 pcma/8000\r\n",
    ));
    assert!(
        text.contains("m=audio 40000 RTP/AVP 97\r\na=rtpmap:97 PCMA/8000\r\n"),
        "{text}"
    );
    assert_eq!(
        (negotiated.codec, negotiated.payload_type),
        (Codec::Pcma, 97)
    );
}

#[test]
fn wideband_or_stereo_namesakes_are_other_codecs() {
    for encoding in ["PCMU/16000", "PCMU/8000/2", "L16/8000", "PCMU", "PCMU/x"] {
        let offer = with_media(&format!(
            "m=audio 4000 RTP/AVP 97\r\na=rtpmap:97 {encoding}\r\n"
        ));
        assert_eq!(refusal(&offer), SdpError::Codec, "{encoding}");
    }
}

#[test]
fn digits_are_taken_only_at_the_rate_of_the_codec() {
    let (_, negotiated) = answered(&with_media(
        "m=audio 4000 RTP/AVP 111 0 110 126\r\n\
         a=rtpmap:111 opus/48000/2\r\n\
         a=rtpmap:110 telephone-event/48000\r\n\
         a=rtpmap:126 telephone-event/8000\r\n",
    ));
    assert_eq!(negotiated.telephone_event, Some(126));
}

#[test]
fn a_peer_without_digits_gets_none_and_we_offer_none_when_told_so() {
    let (text, negotiated) = answered(&with_media("m=audio 4000 RTP/AVP 0\r\n"));
    assert_eq!(negotiated.telephone_event, None);
    assert!(!text.contains("telephone-event"));
    let silent = LocalMedia {
        telephone_event: None,
        ..local()
    };
    assert!(
        !String::from_utf8(offer(&silent))
            .unwrap()
            .contains("telephone-event")
    );
}

#[test]
fn directions_are_mirrored_and_a_hold_is_seen() {
    let cases = [
        ("sendrecv", "sendrecv", false),
        ("sendonly", "recvonly", true),
        ("recvonly", "sendonly", false),
        ("inactive", "inactive", true),
    ];
    for (offered, expected, hold) in cases {
        for offer in [
            with_media(&format!("m=audio 4000 RTP/AVP 0\r\na={offered}\r\n")),
            with_media("m=audio 4000 RTP/AVP 0\r\n").replace("t=0 0", &format!("a={offered}")),
        ] {
            let (text, negotiated) = answered(&offer);
            assert!(
                text.contains(&format!("a={expected}\r\n")),
                "{offered}: {text}"
            );
            assert_eq!(negotiated.direction.name(), expected);
            assert_eq!(negotiated.remote_hold, hold, "{offered}");
        }
    }
}

#[test]
fn a_stream_direction_wins_over_the_session_direction() {
    let offer =
        with_media("m=audio 4000 RTP/AVP 0\r\na=sendrecv\r\n").replace("t=0 0", "a=inactive");
    assert_eq!(answered(&offer).1.direction, Direction::SendRecv);
}

#[test]
fn the_address_of_zeros_is_a_hold_and_nothing_is_sent_there() {
    let offer = with_media("m=audio 4000 RTP/AVP 0\r\nc=IN IP4 0.0.0.0\r\n");
    let (text, negotiated) = answered(&offer);
    assert!(negotiated.remote_hold);
    assert!(!negotiated.direction.sends());
    assert!(text.contains("a=recvonly\r\n"), "{text}");
    let (text, negotiated) = answered(&offer.replace("0.0.0.0\r\n", "0.0.0.0\r\na=recvonly\r\n"));
    assert_eq!(negotiated.direction, Direction::Inactive);
    assert!(text.contains("a=inactive\r\n"), "{text}");
}

#[test]
fn while_we_hold_the_peer_an_offer_to_talk_does_not_end_our_hold() {
    let holding = LocalMedia {
        direction: Direction::SendOnly,
        ..local()
    };
    let offer = with_media("m=audio 4000 RTP/AVP 0\r\n");
    let (reply, negotiated) = answer(offer.as_bytes(), &holding).unwrap();
    assert_eq!(negotiated.direction, Direction::SendOnly);
    assert!(String::from_utf8(reply).unwrap().contains("a=sendonly\r\n"));
}

#[test]
fn an_answer_cannot_turn_our_hold_into_talk() {
    let holding = LocalMedia {
        direction: Direction::SendOnly,
        ..local()
    };
    let reply = with_media("m=audio 4000 RTP/AVP 0\r\na=sendrecv\r\n");
    assert_eq!(
        accept(reply.as_bytes(), &holding).unwrap().direction,
        Direction::SendOnly
    );
}

#[test]
fn every_other_stream_is_refused_in_its_place() {
    let (text, negotiated) = answered(&with_media(
        "m=audio 0 RTP/AVP 0\r\n\
         m=video 5004 RTP/AVP 31 34\r\n\
         m=audio 4002 RTP/SAVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:abc\r\n\
         m=audio 4004 RTP/AVP 0\r\n\
         m=audio 4006 RTP/AVP 8\r\n\
         m=image 4008 udptl t38\r\n\
         m=application 4010 UDP/BFCP *\r\n",
    ));
    let streams: Vec<&str> = text.lines().filter(|line| line.starts_with("m=")).collect();
    assert_eq!(
        streams,
        [
            "m=audio 0 RTP/AVP 0",
            "m=video 0 RTP/AVP 31",
            "m=audio 0 RTP/SAVP 0",
            "m=audio 40000 RTP/AVP 0",
            "m=audio 0 RTP/AVP 8",
            "m=image 0 udptl t38",
            "m=application 0 UDP/BFCP *",
        ]
    );
    assert_eq!(negotiated.remote, at("198.51.100.1:4004"));
}

#[test]
fn what_cannot_be_answered_names_the_nearest_reason() {
    let cases = [
        ("", SdpError::NoAudio, 304),
        ("m=video 5000 RTP/AVP 31\r\n", SdpError::NoAudio, 304),
        ("m=audio 0 RTP/AVP 0\r\n", SdpError::NoAudio, 304),
        ("m=audio 4000 RTP/SAVP 0\r\n", SdpError::Transport, 302),
        (
            "m=audio 4000 UDP/TLS/RTP/SAVPF 0\r\n",
            SdpError::Transport,
            302,
        ),
        (
            "m=audio 4000 RTP/AVP 18\r\nm=audio 4002 RTP/SAVP 0\r\n",
            SdpError::Codec,
            305,
        ),
        ("m=audio 4000 RTP/AVP\r\n", SdpError::Codec, 305),
    ];
    for (media, expected, code) in cases {
        let error = refusal(&with_media(media));
        assert_eq!(error, expected, "{media}");
        assert_eq!((error.status(), error.warning().0), (488, code), "{media}");
    }
}

#[test]
fn addresses_that_are_no_unicast_address_of_our_kind_are_refused() {
    for address in [
        "IN IP4 pbx.example.com",
        "IN IP4 224.2.1.1/127",
        "IN IP6 2001:db8::1",
        "",
    ] {
        let offer = with_media(&format!("m=audio 4000 RTP/AVP 0\r\nc={address}\r\n"));
        let error = refusal(&offer);
        assert!(
            matches!(error, SdpError::Address(_)),
            "{address}: {error:?}"
        );
        assert_eq!(error.status(), 488);
    }
}

#[test]
fn without_any_connection_line_the_origin_serves() {
    let offer = with_media("m=audio 4000 RTP/AVP 0\r\n").replace("c=IN IP4 198.51.100.1\r\n", "");
    assert_eq!(answered(&offer).1.remote, at("198.51.100.1:4000"));
    let offer = offer.replace("o=- 1 1 IN IP4 198.51.100.1\r\n", "");
    assert_eq!(refusal(&offer), SdpError::Malformed("no c= line"));
}

#[test]
fn ipv6_on_both_sides() {
    let ours = LocalMedia {
        address: "2001:db8::10".parse().unwrap(),
        ..local()
    };
    let offer =
        with_media("m=audio 4000 RTP/AVP 0\r\n").replace("IP4 198.51.100.1", "IP6 2001:db8::1");
    let (reply, negotiated) = answer(offer.as_bytes(), &ours).unwrap();
    let text = String::from_utf8(reply).unwrap();
    assert!(text.contains("c=IN IP6 2001:db8::10\r\n"), "{text}");
    assert_eq!(negotiated.remote, at("[2001:db8::1]:4000"));
}

#[test]
fn rtcp_goes_where_the_peer_says() {
    let rtcp = |attributes: &str| {
        let media = format!("m=audio 4000 RTP/AVP 0\r\n{attributes}");
        let (text, negotiated) = answered(&with_media(&media));
        assert_eq!(text.contains("a=rtcp-mux"), negotiated.rtcp_mux);
        negotiated.remote_rtcp
    };
    assert_eq!(rtcp(""), at("198.51.100.1:4001"));
    assert_eq!(rtcp("a=rtcp:5555\r\n"), at("198.51.100.1:5555"));
    assert_eq!(
        rtcp("a=rtcp:5555 IN IP4 198.51.100.9\r\n"),
        at("198.51.100.9:5555")
    );
    assert_eq!(rtcp("a=rtcp-mux\r\n"), at("198.51.100.1:4000"));
}

#[test]
fn the_peer_s_packet_length_is_honoured_as_far_as_the_grid_allows() {
    let cases = [
        ("", 20),
        ("a=ptime:10\r\n", 10),
        ("a=ptime:30\r\n", 20),
        ("a=ptime:60\r\n", 60),
        ("a=ptime:60\r\na=maxptime:40\r\n", 40),
        ("a=ptime:200\r\n", 60),
        ("a=maxptime:10\r\n", 10),
        ("a=ptime:0\r\n", 20),
        ("a=ptime:5\r\n", 10),
    ];
    for (attributes, expected) in cases {
        let media = format!("m=audio 4000 RTP/AVP 0\r\n{attributes}");
        assert_eq!(
            answered(&with_media(&media)).1.ptime_ms,
            expected,
            "{attributes}"
        );
    }
}

#[test]
fn a_feedback_profile_is_answered_in_kind() {
    let (text, _) = answered(&with_media("m=audio 4000 RTP/AVPF 0\r\n"));
    assert!(text.contains("m=audio 40000 RTP/AVPF 0\r\n"), "{text}");
}

#[test]
fn an_answer_may_use_another_number_for_digits_than_we_offered() {
    let reply = with_media(
        "m=audio 4000 RTP/AVP 8 96\r\na=rtpmap:96 telephone-event/8000\r\na=sendrecv\r\n",
    );
    let negotiated = accept(reply.as_bytes(), &local()).unwrap();
    assert_eq!(negotiated.telephone_event, Some(96));
    for number in [96, 101] {
        assert!(
            negotiated
                .receive
                .contains(&(number, PayloadKind::TelephoneEvent(SampleRate::TELEPHONE))),
            "{number}"
        );
    }
}

#[test]
fn an_answer_that_refuses_or_invents_is_an_error() {
    let answers = [
        ("m=audio 0 RTP/AVP 0\r\n", SdpError::Refused),
        ("m=audio 4000 RTP/AVP 18\r\n", SdpError::Codec),
        ("", SdpError::NoAudio),
    ];
    for (media, expected) in answers {
        assert_eq!(
            accept(with_media(media).as_bytes(), &local()),
            Err(expected),
            "{media}"
        );
    }
}

#[test]
fn each_change_has_the_next_version() {
    let mut local = local();
    assert!(
        String::from_utf8(offer(&local))
            .unwrap()
            .contains("o=- 77 1 IN")
    );
    local.next_version();
    assert!(
        String::from_utf8(offer(&local))
            .unwrap()
            .contains("o=- 77 2 IN")
    );
}

#[test]
fn what_is_too_large_or_no_sdp_at_all_is_a_bad_request() {
    let lines = "a=x\r\n".repeat(2_000);
    let streams = "m=audio 4000 RTP/AVP 18\r\n".repeat(40);
    let long = format!("a={}\r\n", "x".repeat(20_000));
    for body in [with_media(&lines), with_media(&streams), with_media(&long)] {
        let error = refusal(&body);
        assert!(matches!(error, SdpError::TooLarge(_)), "{error:?}");
        assert_eq!(error.status(), 400);
    }
    for body in [
        "",
        "hello",
        "<xml/>",
        "m=audio\r\n",
        "m=audio x RTP/AVP 0",
        "m=audio 99999 RTP/AVP 0",
    ] {
        let error = refusal(body);
        assert!(matches!(error, SdpError::Malformed(_)), "{body}: {error:?}");
        assert_eq!(error.status(), 400);
    }
}

#[test]
fn mutated_and_random_bodies_never_panic_and_answers_stay_well_formed() {
    let mut rng = StdRng::seed_from_u64(3264);
    let seed = with_media(
        "m=audio 4000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\na=ptime:20\r\n\
         a=rtcp:4001 IN IP4 198.51.100.1\r\na=sendonly\r\nm=video 5000 RTP/AVP 31\r\n",
    );
    let mut answers = 0;
    for round in 0..20_000 {
        let mut body = seed.clone().into_bytes();
        for _ in 0..rng.random_range(1..12) {
            let at = rng.random_range(0..body.len().max(1));
            if body.is_empty() {
                break;
            }
            match rng.random_range(0..4) {
                0 => body[at] = rng.random(),
                1 => drop(body.remove(at)),
                2 => body.insert(at, b"\r\n=:/ 0\xff"[rng.random_range(0..8)]),
                _ => body.truncate(at.max(1)),
            }
        }
        if round % 10 == 0 {
            rng.fill_bytes(&mut body);
        }
        let _outcome = accept(&body, &local());
        if let Ok((answer, _)) = answer(&body, &local()) {
            answers += 1;
            let text = String::from_utf8(answer).unwrap();
            for line in text.split_terminator("\r\n") {
                assert_eq!(line.as_bytes().get(1), Some(&b'='), "{line}");
                assert!(!line.contains(['\r', '\n']), "{line}");
            }
        }
    }
    assert!(answers > 1_000, "the corpus hardly ever parses: {answers}");
}

const KEYS: LocalKeys = LocalKeys {
    sha1_80: MasterKey([80; 30]),
    sha1_32: MasterKey([32; 30]),
};
const THEIRS: &str = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";
