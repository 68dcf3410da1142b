#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod corpus;
mod mutations;
mod streams;

use super::*;
use crate::sip::headers::HeaderName;
use crate::sip::message::Request;

/// What [`parse_datagram`] makes of bytes, in a word: `taken`, the refusal's status line, or why
/// there is none.
fn verdict(bytes: &[u8]) -> String {
    match parse_datagram(bytes) {
        Ok(_) => "taken".to_owned(),
        Err(ParseError {
            rejection: Some(rejection),
            ..
        }) => format!("{} {}", rejection.status, rejection.reason),
        Err(ParseError {
            kind,
            rejection: None,
        }) => format!("dropped: {kind}"),
    }
}

fn request(bytes: &[u8]) -> Request {
    match parse_datagram(bytes) {
        Ok(Message::Request(request)) => request,
        other => panic!("no request: {other:?}"),
    }
}

/// A good request, with `extra` header lines and `body`.
fn invite(extra: &str, body: &str) -> Vec<u8> {
    format!(
        "INVITE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
         To: <sip:bob@example.com>\r\nCall-ID: 1@h\r\nCSeq: 1 INVITE\r\n{extra}\r\n{body}"
    )
    .into_bytes()
}

#[test]
fn the_body_ends_where_content_length_says() {
    assert_eq!(
        request(&invite("Content-Length: 3\r\n", "abcdef")).body,
        b"abc"
    );
    assert_eq!(request(&invite("l:0\r\n", "abcdef")).body, b"");
    assert_eq!(request(&invite("", "abc\r\n")).body, b"abc\r\n");
    assert_eq!(
        request(&invite("l: 3\r\nContent-Length: 3\r\n", "abc")).body,
        b"abc"
    );
    assert_eq!(
        verdict(&invite("Content-Length: 4\r\n", "abc")),
        "400 Bad Request (Body Shorter Than Content-Length)"
    );
    assert_eq!(
        verdict(&invite("Content-Length: 18446744073709551616\r\n", "abc")),
        "400 Bad Request (Malformed Content-Length: number out of range)"
    );
    assert_eq!(
        verdict(&invite("Content-Length: 18446744073709551615\r\n", "abc")),
        "400 Bad Request (Body Shorter Than Content-Length)"
    );
}

#[test]
fn odd_line_ends_are_taken() {
    let plain = request(&invite("Subject: a b\r\n", "body"));
    let newlines = String::from_utf8(invite("Subject: a b\r\n", "body"))
        .unwrap()
        .replace("\r\n", "\n");
    assert_eq!(request(newlines.as_bytes()), plain);
    let leading = [
        b"\r\n\r\n".to_vec(),
        invite("Subject: a\r\n\t \r\n   b\r\n", "body"),
    ]
    .concat();
    assert_eq!(
        request(&leading).headers.get(&HeaderName::Subject),
        Some("a  b")
    );
    let unfinished = invite("", "");
    assert_eq!(verdict(&unfinished[..unfinished.len() - 2]), "taken");
    assert_eq!(
        verdict(&unfinished[..unfinished.len() - 5]),
        "400 Bad Request (Truncated Message)"
    );
}

#[test]
fn keep_alives_are_told_apart_from_faults() {
    for bytes in [&b""[..], b"\r\n", b"\r\n\r\n"] {
        assert_eq!(verdict(bytes), "dropped: Keep-Alive");
    }
    for bytes in [
        &b"\0\0\0\0"[..],
        b"GET / HTTP/1.1\r\nVia: x\r\n\r\n",
        b"\x00\x01\x00\x00\x21\x12\xa4\x42",
        b"hello\r\n\r\n",
    ] {
        assert!(
            verdict(bytes).starts_with("dropped: "),
            "{}",
            verdict(bytes)
        );
    }
}

#[test]
fn text_that_is_no_utf8_is_read_as_latin1() {
    let mut bytes = invite("", "");
    let at = bytes
        .windows(6)
        .position(|window| window == b"From: ")
        .unwrap()
        + 6;
    bytes.splice(at..at, b"\"J\xfcrgen\" ".iter().copied());
    assert_eq!(
        request(&bytes)
            .headers
            .from()
            .unwrap()
            .display_name
            .as_deref(),
        Some("Jürgen")
    );
}

#[test]
fn header_lines_without_a_name_are_refused() {
    for line in [
        "No colon here",
        ": value",
        "Two words: x",
        "Sub\rject: x",
        "Subject: a\rb",
        "Gr\u{fc}n: x",
    ] {
        assert_eq!(
            verdict(&invite(&format!("{line}\r\n"), "")),
            "400 Bad Request (Malformed Header Line)",
            "{line:?}"
        );
    }
}

#[test]
fn sizes_are_bounded() {
    assert_eq!(
        verdict(&invite(&"X: y\r\n".repeat(MAX_HEADER_FIELDS - 5), "")),
        "taken"
    );
    assert_eq!(
        verdict(&invite(&"X: y\r\n".repeat(MAX_HEADER_FIELDS), "")),
        "400 Bad Request (Too Many Header Fields)"
    );
    assert_eq!(
        verdict(&invite("", &"x".repeat(MAX_MESSAGE_BYTES))),
        "513 Message Too Large"
    );
}

#[test]
fn a_missing_header_is_named() {
    let whole = String::from_utf8(invite("", "")).unwrap();
    for (name, expected) in [
        ("From", "400 Bad Request (Missing From)"),
        ("To", "400 Bad Request (Missing To)"),
        ("Call-ID", "400 Bad Request (Missing Call-ID)"),
        ("CSeq", "400 Bad Request (Missing CSeq)"),
        ("Via", "dropped: Missing Via"),
    ] {
        let without: String = whole
            .split_inclusive("\r\n")
            .filter(|line| !line.starts_with(name))
            .collect();
        assert_eq!(verdict(without.as_bytes()), expected);
    }
}

#[test]
fn an_ack_is_never_refused() {
    let ack = String::from_utf8(invite("Content-Length: 7\r\n", ""))
        .unwrap()
        .replace("INVITE", "ACK");
    assert_eq!(
        verdict(ack.as_bytes()),
        "dropped: Body Shorter Than Content-Length"
    );
    let response = invite("", "")
        .strip_prefix(b"INVITE sip:bob@example.com SIP/2.0")
        .unwrap()
        .to_vec();
    assert_eq!(
        verdict(&[b"SIP/2.0 200 OK".to_vec(), response.clone()].concat()),
        "taken"
    );
    assert_eq!(
        verdict(&[b"SIP/2.0 99 OK".to_vec(), response.clone()].concat()),
        "dropped: Malformed Status Code"
    );
    assert_eq!(
        verdict(&[b"SIP/3.0 200 OK".to_vec(), response].concat()),
        "dropped: Version Not Supported"
    );
}

#[test]
fn a_refusal_carries_what_could_be_saved() {
    let bytes = invite("Via: SIP/2.0/TCP next;;;\r\n", "");
    let Err(ParseError {
        rejection: Some(rejection),
        ..
    }) = parse_datagram(&bytes)
    else {
        panic!("the Via is broken")
    };
    assert_eq!(rejection.method, Some(Method::Invite));
    assert_eq!(
        String::from_utf8(rejection.to_response("tag").to_bytes()).unwrap(),
        "SIP/2.0 400 Bad Request (Malformed Via: parameter name is no token)\r\n\
         Via: SIP/2.0/UDP h;branch=z9hG4bK1\r\n\
         Via: SIP/2.0/TCP next;;;\r\n\
         From: <sip:a@b>;tag=1\r\n\
         To: <sip:bob@example.com>;tag=tag\r\n\
         Call-ID: 1@h\r\n\
         CSeq: 1 INVITE\r\n\
         Content-Length: 0\r\n\r\n"
    );
}

#[test]
fn values_made_to_be_slow_are_refused() {
    let params = ";a".repeat(200);
    assert_eq!(
        verdict(&invite(&format!("Contact: <sip:a@b>{params}\r\n"), "")),
        "400 Bad Request (Malformed Contact: too many parameters)"
    );
    assert_eq!(
        verdict(&invite(&format!("Contact: <sip:a@b{params}>\r\n"), "")),
        "400 Bad Request (Malformed Contact: too many parameters)"
    );
    let digest = format!("Authorization: Digest {}\r\n", "a=b,".repeat(200));
    assert!(
        request(&invite(&digest, ""))
            .headers
            .authorization()
            .is_err()
    );
}

#[test]
fn a_conflicting_header_is_answered_once() {
    let bytes = invite("From: <sip:other@b>;tag=2\r\n", "");
    let Err(ParseError {
        rejection: Some(rejection),
        ..
    }) = parse_datagram(&bytes)
    else {
        panic!("From conflicts")
    };
    assert_eq!(
        rejection
            .headers
            .get_all(&HeaderName::From)
            .collect::<Vec<_>>(),
        ["<sip:a@b>;tag=1"]
    );
}
