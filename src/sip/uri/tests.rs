#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn uri(text: &str) -> Uri {
    text.parse()
        .unwrap_or_else(|problem| panic!("{text}: {problem}"))
}

fn sip(text: &str) -> SipUri {
    uri(text)
        .as_sip()
        .unwrap_or_else(|| panic!("{text} is no SIP URI"))
        .clone()
}

#[test]
fn a_full_sip_uri_gives_its_parts() {
    let uri = sip("sips:alice:secretword@atlanta.com:5071;transport=tcp;lr=on?subject=a%20b&x=");
    assert!(uri.secure && uri.is_loose_router());
    assert_eq!(uri.user().as_deref(), Some("alice"));
    assert_eq!(uri.raw_password.as_deref(), Some("secretword"));
    assert_eq!(
        (uri.host.to_string().as_str(), uri.port),
        ("atlanta.com", Some(5071))
    );
    assert_eq!(uri.transport(), Some("tcp"));
    assert_eq!(
        uri.headers,
        [
            ("subject".into(), "a%20b".into()),
            ("x".into(), String::new())
        ]
    );
}

#[test]
fn uris_go_out_as_they_came_in() {
    for text in [
        "sip:example.com",
        "sip:%61lice@example.com;a;b=c?h=v&i=w",
        "sip:+14155550100@[::ffff:192.0.2.1]:5060;user=phone",
        "sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com",
        "tel:+1-201-555-0123;phone-context=example.com",
        "urn:service:sos",
        "http://www.example.com",
    ] {
        assert_eq!(uri(text).to_string(), text);
    }
}

#[test]
fn users_are_escaped_and_decoded() {
    let odd = "a b@c%é\0";
    let uri = SipUri::new(Some(odd), "h".parse().unwrap(), None);
    assert_eq!(uri.to_string(), "sip:a%20b%40c%25%C3%A9%00@h");
    assert_eq!(uri.user().as_deref(), Some(odd));
    assert_eq!(sip("sip:100%@h").user().as_deref(), Some("100%"));
    assert_eq!(escape_component("id@h;to-tag=1"), "id%40h%3Bto-tag%3D1");
}

#[test]
fn numbers_lose_their_separators() {
    assert_eq!(
        uri("tel:+1-(201).555-0123;ext=9").user().as_deref(),
        Some("+12015550123")
    );
    assert_eq!(uri("TEL:*31#").to_string(), "tel:*31#");
}

#[test]
fn what_is_no_uri_is_refused() {
    for text in [
        "",
        "sip",
        "sip:",
        "sip:@h",
        "sip:a@",
        "sip:a b@h",
        "<sip:a@h>",
        "sip:a@h:0",
        "sip:a@h:65536",
        "sip:a@h:-1",
        "sip:2001:db8::10",
        "sip:[2001:db8::10",
        "sip:[::g]",
        "sip:[::1]5060",
        "sip:a@b@c",
        "sip:h;;lr",
        "sip:h;=x",
        "sip:h?x",
        "sip:h?=x",
        "1sip:h",
        "tel:",
        "tel:+",
        "tel:bob",
        "sip:h\r\nVia: x",
        "sip:a\"@h",
        ":h",
    ] {
        assert!(text.parse::<Uri>().is_err(), "{text}");
    }
}

#[test]
fn equivalence_is_that_of_the_rfc() {
    // RFC 3261 section 19.1.4, its own examples.
    for (a, b) in [
        (
            "sip:%61lice@atlanta.com;transport=TCP",
            "sip:alice@AtLanTa.CoM;Transport=tcp",
        ),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
        (
            "sip:carol@chicago.com;security=on",
            "sip:carol@chicago.com;newparam=5",
        ),
        (
            "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
            "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
        ),
        (
            "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
            "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
        ),
        ("tel:+1-201-555-0123", "tel:+12015550123"),
    ] {
        assert!(
            uri(a).equivalent(&uri(b)) && uri(b).equivalent(&uri(a)),
            "{a} {b}"
        );
    }
    for (a, b) in [
        (
            "SIP:ALICE@AtLanTa.CoM;Transport=udp",
            "sip:alice@AtLanTa.CoM;Transport=UDP",
        ),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
        (
            "sip:bob@biloxi.com",
            "sip:bob@biloxi.com:6000;transport=tcp",
        ),
        (
            "sip:carol@chicago.com",
            "sip:carol@chicago.com?Subject=next%20meeting",
        ),
        ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
        (
            "sip:carol@chicago.com;security=on",
            "sip:carol@chicago.com;security=off",
        ),
        ("sip:a@h", "sips:a@h"),
        ("sip:a@h", "sip:a:@h"),
        ("tel:+12015550123", "tel:12015550123"),
    ] {
        assert!(
            !uri(a).equivalent(&uri(b)) && !uri(b).equivalent(&uri(a)),
            "{a} {b}"
        );
    }
}
