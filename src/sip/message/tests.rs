#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::sip::headers::HeaderName;

#[test]
fn methods_are_matched_exactly() {
    assert_eq!(Method::parse("INVITE"), Some(Method::Invite));
    assert_eq!(Method::parse("PRACK"), Some(Method::Prack));
    assert_eq!(
        Method::parse("invite"),
        Some(Method::Extension("invite".to_owned()))
    );
    assert_eq!(Method::parse("IN VITE"), None);
    assert_eq!(Method::parse(""), None);
    for method in rsip::Method::all() {
        let ours = Method::from(method);
        assert_eq!(ours.as_str(), method.to_string());
        assert_eq!(Method::parse(ours.as_str()), Some(ours));
    }
}

#[test]
fn reason_phrases_are_those_of_the_vocabulary() {
    let letters = |text: &str| text.replace([' ', '-', '/'], "").to_lowercase();
    let mut compared = 0;
    for code in 100..=699 {
        let theirs = rsip::StatusCode::from(code);
        // 201 is misnamed there, 437 was renamed by RFC 8224, 606 has 406's phrase.
        if matches!(theirs, rsip::StatusCode::Other(..)) || [201, 437, 606].contains(&code) {
            continue;
        }
        let ours = StatusCode::try_from(theirs.clone()).unwrap();
        assert_eq!(
            letters(ours.reason_phrase()),
            letters(&format!("{theirs:?}")),
            "{code}"
        );
        compared += 1;
    }
    assert!(compared > 60, "{compared}");
    assert_eq!(StatusCode::new(486).unwrap().reason_phrase(), "Busy Here");
    assert_eq!(StatusCode::new(499).unwrap().reason_phrase(), "Bad Request");
    assert_eq!(StatusCode::new(99), None);
    assert_eq!(StatusCode::new(700), None);
}

#[test]
fn a_request_is_written_with_canonical_names_and_the_true_length() {
    let mut request = Request::new(
        Method::Message,
        "sip:bob@[2001:db8::1]:5070;lr".parse().unwrap(),
    );
    request
        .headers
        .push(HeaderName::new("v"), "SIP/2.0/UDP h;branch=z9hG4bK1");
    request.headers.push(HeaderName::new("l"), "99");
    request
        .headers
        .push(HeaderName::new("X-Own"), "one\r\nInjected: two");
    request.body = b"\xff\x00\r\n".to_vec();
    assert_eq!(
        request.to_bytes(),
        b"MESSAGE sip:bob@[2001:db8::1]:5070;lr SIP/2.0\r\n\
          Via: SIP/2.0/UDP h;branch=z9hG4bK1\r\n\
          X-Own: one  Injected: two\r\n\
          Content-Length: 4\r\n\r\n\xff\x00\r\n"
    );
}

#[test]
fn an_answer_copies_what_the_rfc_says_in_order() {
    let mut request = Request::new(Method::Invite, "sip:a@b".parse().unwrap());
    for (name, value) in [
        ("Via", "SIP/2.0/UDP one;branch=z9hG4bK1"),
        ("Max-Forwards", "70"),
        ("Via", "SIP/2.0/UDP two;branch=z9hG4bK2"),
        ("To", "sip:a@b;"),
        ("From", "<sip:c@d>;tag=x"),
        ("CSeq", "1 INVITE"),
        ("Call-ID", "id"),
        ("Timestamp", "54"),
    ] {
        request.headers.push(HeaderName::new(name), value);
    }
    let mut busy = Response::to_request(&request, StatusCode::BUSY_HERE);
    busy.headers.set_to_tag("t1");
    busy.headers.set_to_tag("t2");
    assert_eq!(
        String::from_utf8(busy.to_bytes()).unwrap(),
        "SIP/2.0 486 Busy Here\r\n\
         Via: SIP/2.0/UDP one;branch=z9hG4bK1\r\n\
         Via: SIP/2.0/UDP two;branch=z9hG4bK2\r\n\
         From: <sip:c@d>;tag=x\r\n\
         To: sip:a@b;tag=t1\r\n\
         Call-ID: id\r\n\
         CSeq: 1 INVITE\r\n\
         Content-Length: 0\r\n\r\n"
    );
    let trying = Response::to_request(&request, StatusCode::TRYING);
    assert_eq!(trying.headers.get(&HeaderName::Timestamp), Some("54"));
}
