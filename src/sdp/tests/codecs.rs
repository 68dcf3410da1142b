//! Which codec is agreed to, and what G.722, Opus and comfort noise are called.

use super::*;

#[test]
fn voip_metrics_are_promised_to_who_asks_for_them() {
    let (text, negotiated) = answered(&with_media(
        "m=audio 4000 RTP/AVP 0\r\na=rtcp-xr:pkt-loss-rle=300 VoIP-metrics\r\n",
    ));
    assert!(negotiated.voip_metrics);
    assert!(text.contains("a=rtcp-xr:voip-metrics\r\n"), "{text}");
    let (text, negotiated) = answered(&with_media("m=audio 4000 RTP/AVP 0\r\n"));
    assert!(
        !negotiated.voip_metrics && !text.contains("rtcp-xr"),
        "{text}"
    );
}

#[test]
fn the_codec_is_the_first_of_ours_that_is_offered_and_there_may_be_none() {
    let local = LocalMedia {
        codecs: vec![Codec::G722, Codec::Pcma, Codec::Pcmu],
        ..local()
    };
    let answered = |payloads: &str| {
        let offer = with_media(&format!("m=audio 4000 RTP/AVP {payloads}\r\n"));
        answer(offer.as_bytes(), &local).map(|(_, negotiated)| negotiated.codec)
    };
    assert_eq!(answered("0 8 9"), Ok(Codec::G722));
    assert_eq!(answered("0 8 18"), Ok(Codec::Pcma));
    assert_eq!(answered("18 0"), Ok(Codec::Pcmu));
    let error = answered("18 3").unwrap_err();
    assert_eq!((error.clone(), error.status()), (SdpError::Codec, 488));
}

#[test]
fn an_answer_says_what_the_peer_likes_best_of_what_we_offered() {
    let local = LocalMedia {
        codecs: vec![Codec::G722, Codec::Pcmu],
        ..local()
    };
    let reply = with_media("m=audio 4000 RTP/AVP 0 9\r\n");
    let negotiated = accept(reply.as_bytes(), &local).unwrap();
    assert_eq!(negotiated.codec, Codec::Pcmu);
    let received = (9, PayloadKind::Audio(Codec::G722));
    assert!(negotiated.receive.contains(&received), "it may send either");
}

#[test]
fn g722_is_at_eight_kilohertz_in_sdp_though_it_is_at_sixteen() {
    let wide = LocalMedia {
        codecs: vec![Codec::G722],
        ..local()
    };
    let text = String::from_utf8(offer(&wide)).unwrap();
    assert!(text.contains("RTP/AVP 9 101\r\n"), "{text}");
    assert!(text.contains("a=rtpmap:9 G722/8000\r\n"), "{text}");
    let theirs = with_media("m=audio 4000 RTP/AVP 9\r\na=rtpmap:9 G722/16000\r\n");
    assert_eq!(
        answer(theirs.as_bytes(), &wide).unwrap_err(),
        SdpError::Codec
    );
}

#[test]
fn comfort_noise_is_agreed_to_where_it_is_offered() {
    for offer in [
        "m=audio 4000 RTP/AVP 0 13 101\r\na=rtpmap:101 telephone-event/8000\r\n",
        "m=audio 4000 RTP/AVP 0 98 101\r\na=rtpmap:98 CN/8000\r\n\
         a=rtpmap:101 telephone-event/8000\r\n",
    ] {
        let (text, negotiated) = answered(&with_media(offer));
        let number = if offer.contains("98") { 98 } else { 13 };
        let line = format!(
            "m=audio 40000 RTP/AVP 0 {number} 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:{number} CN/8000\r\n"
        );
        assert!(text.contains(&line), "{text}");
        let kind = (number, PayloadKind::ComfortNoise);
        assert!(negotiated.receive.contains(&kind));
    }
}

#[test]
fn opus_is_offered_and_answered_as_rfc_7587_says_with_digits_on_its_clock() {
    let wide = LocalMedia {
        codecs: vec![Codec::Opus, Codec::Pcmu],
        ..local()
    };
    let text = String::from_utf8(offer(&wide)).unwrap();
    for line in [
        "m=audio 40000 RTP/AVP 111 0 101 102\r\n",
        "a=rtpmap:111 opus/48000/2\r\n",
        "a=fmtp:111 maxplaybackrate=16000;sprop-maxcapturerate=16000;useinbandfec=1\r\n",
        "a=rtpmap:101 telephone-event/8000\r\n",
        "a=rtpmap:102 telephone-event/48000\r\n",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let (reply, theirs) = answer(text.as_bytes(), &wide).unwrap();
    assert_eq!(
        (theirs.codec, theirs.telephone_event),
        (Codec::Opus, Some(102))
    );
    let reply = String::from_utf8(reply).unwrap();
    assert!(reply.contains("RTP/AVP 111 102\r\n"), "{reply}");
    assert!(reply.contains("a=rtpmap:102 telephone-event/48000\r\n"));
    let ours = accept(reply.as_bytes(), &wide).unwrap();
    assert_eq!((ours.codec, ours.telephone_event), (Codec::Opus, Some(102)));
    assert!(
        ours.receive
            .contains(&(101, PayloadKind::TelephoneEvent(SampleRate::TELEPHONE)))
    );
}

#[test]
fn opus_has_two_channels_in_sdp_whatever_it_carries_and_digits_may_be_at_eight_kilohertz() {
    let wide = LocalMedia {
        codecs: vec![Codec::Opus],
        ..local()
    };
    for encoding in ["opus/48000", "opus/16000/2", "opus/48000/1"] {
        let offer = with_media(&format!(
            "m=audio 4000 RTP/AVP 97\r\na=rtpmap:97 {encoding}\r\n"
        ));
        let error = answer(offer.as_bytes(), &wide).unwrap_err();
        assert_eq!(error, SdpError::Codec, "{encoding}");
    }
    let offer = with_media(
        "m=audio 4000 RTP/AVP 97 101\r\na=rtpmap:97 OPUS/48000/2\r\n\
         a=rtpmap:101 telephone-event/8000\r\n",
    );
    let (_, negotiated) = answer(offer.as_bytes(), &wide).unwrap();
    assert_eq!(negotiated.payload_type, 97);
    assert_eq!(negotiated.telephone_event, Some(101));
}
