//! SDES: whose key, which suite, and what is refused (RFC 4568).

use super::*;

fn with(encryption: Encryption) -> LocalMedia {
    LocalMedia {
        encryption,
        ..local()
    }
}

fn stream(protocol: &str, suites: &[(u32, &str)]) -> String {
    let lines: String = suites
        .iter()
        .map(|(tag, suite)| format!("a=crypto:{tag} {suite} inline:{THEIRS}|2^31\r\n"))
        .collect();
    with_media(&format!("m=audio 4000 {protocol} 0\r\n{lines}"))
}

#[test]
fn an_encrypted_stream_is_answered_with_our_key_for_the_first_suite_that_we_know() {
    for wish in [Encryption::Optional(KEYS), Encryption::Required(KEYS)] {
        for protocol in ["RTP/SAVP", "RTP/AVP", "RTP/SAVPF"] {
            let suites = [
                (1, "AES_256_CM_HMAC_SHA1_80"),
                (5, "AES_CM_128_HMAC_SHA1_32"),
                (6, "AES_CM_128_HMAC_SHA1_80"),
            ];
            let offer = stream(protocol, &suites);
            let (text, negotiated) = answer(offer.as_bytes(), &with(wish)).unwrap();
            let text = String::from_utf8(text).unwrap();
            let crypto = negotiated.crypto.unwrap();
            assert_eq!(crypto.suite, CryptoSuite::AesCm128HmacSha1_32);
            assert_eq!(crypto.ours, KEYS.sha1_32);
            assert_eq!(&crypto.theirs.0[..5], b"YS___");
            assert!(
                text.contains(&format!("m=audio 40000 {protocol} 0")),
                "{text}"
            );
            assert!(
                text.contains("a=crypto:5 AES_CM_128_HMAC_SHA1_32 inline:ICAg"),
                "{text}"
            );
            assert_eq!(text.matches("a=crypto").count(), 1);
        }
    }
}

#[test]
fn a_stream_in_the_clear_is_refused_where_encryption_is_required() {
    let plain = stream("RTP/AVP", &[]);
    let refused = answer(plain.as_bytes(), &with(Encryption::Required(KEYS)));
    let error = refused.unwrap_err();
    assert_eq!((error.status(), error.label()), (488, "encryption"));
    let taken = answer(plain.as_bytes(), &with(Encryption::Optional(KEYS))).unwrap();
    assert_eq!(taken.1.crypto, None);
    // Once encrypted, always.
    let kept = with(Encryption::Optional(KEYS).kept());
    assert_eq!(
        answer(plain.as_bytes(), &kept).unwrap_err(),
        SdpError::Encryption
    );
    // Encrypted, but with nothing that we can use.
    for wish in [Encryption::Optional(KEYS), Encryption::Required(KEYS)] {
        let strange = stream("RTP/SAVP", &[(1, "AES_256_CM_HMAC_SHA1_80")]);
        let refused = answer(strange.as_bytes(), &with(wish));
        assert_eq!(refused.unwrap_err(), SdpError::Encryption);
    }
}

#[test]
fn without_encryption_an_encrypted_stream_is_refused_and_an_optional_one_is_in_the_clear() {
    let suites = [(1, "AES_CM_128_HMAC_SHA1_80")];
    assert_eq!(refusal(&stream("RTP/SAVP", &suites)), SdpError::Transport);
    let (text, negotiated) = answered(&stream("RTP/AVP", &suites));
    assert_eq!(negotiated.crypto, None);
    assert!(!text.contains("crypto"), "{text}");
}

#[test]
fn both_sides_of_our_own_offer_have_the_same_keys() {
    let theirs = LocalKeys {
        sha1_80: MasterKey([1; 30]),
        sha1_32: MasterKey([2; 30]),
    };
    for wish in [Encryption::Optional(KEYS), Encryption::Required(KEYS)] {
        let ours = with(wish);
        let offer = offer(&ours);
        let (answer, at_theirs) = answer(&offer, &with(Encryption::Optional(theirs))).unwrap();
        let at_ours = accept(&answer, &ours).unwrap().crypto.unwrap();
        let at_theirs = at_theirs.crypto.unwrap();
        assert_eq!(at_ours.suite, CryptoSuite::AesCm128HmacSha1_80);
        assert_eq!(
            (at_ours.ours, at_ours.theirs),
            (at_theirs.theirs, at_theirs.ours)
        );
    }
    // An answer without a key, or under a tag that we did not offer, to a required offer.
    for answer in [
        stream("RTP/SAVP", &[]),
        stream("RTP/AVP", &[]),
        stream("RTP/SAVP", &[(3, "AES_CM_128_HMAC_SHA1_80")]),
    ] {
        let accepted = accept(answer.as_bytes(), &with(Encryption::Required(KEYS)));
        assert_eq!(accepted.unwrap_err(), SdpError::Encryption, "{answer}");
    }
}
