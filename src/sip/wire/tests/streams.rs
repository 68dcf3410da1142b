//! The framer gives the same however the bytes are cut.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

/// Everything in `bytes` when it comes in pieces of `sizes`, over and over.
fn events(bytes: &[u8], sizes: &[usize]) -> Vec<StreamEvent> {
    let mut framer = StreamFramer::new();
    let mut events = Vec::new();
    let (mut rest, mut sizes) = (bytes, sizes.iter().cycle());
    while !rest.is_empty() {
        let (piece, after) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
        framer.push(piece);
        events.extend(std::iter::from_fn(|| framer.poll()));
        rest = after;
    }
    events
}

/// One word for each event.
fn outline(events: &[StreamEvent]) -> Vec<String> {
    events
        .iter()
        .map(|event| match event {
            StreamEvent::Message(Message::Request(request)) => {
                format!("{} {}", request.method, request.body.len())
            }
            StreamEvent::Message(Message::Response(response)) => {
                format!("{} {}", response.status, response.body.len())
            }
            StreamEvent::Ping => "ping".to_owned(),
            StreamEvent::Invalid(error) => format!("invalid: {error}"),
            StreamEvent::Fatal(error) => format!("fatal: {error}"),
        })
        .collect()
}

fn get(body: &str) -> Vec<u8> {
    invite(&format!("Content-Length: {}\r\n", body.len()), body)
}

#[test]
fn any_split_and_merge_gives_the_same_events() {
    let bad = invite("Max-Forwards: 300\r\nl: 2\r\n", "\r\n");
    let bytes = [
        b"\r\n".to_vec(),
        get("body\r\n\r\n"),
        b"\r\n\r\n".to_vec(),
        get(""),
        b"\r\n\r\n\r\n".to_vec(),
        bad,
        invite("", ""),
        b"\n".to_vec(),
        get("INVITE sip:a@b SIP/2.0\r\n\r\n"),
        b"\r\n\r\n\r\n\r\n".to_vec(),
    ]
    .concat();
    let whole = events(&bytes, &[usize::MAX]);
    assert_eq!(
        outline(&whole),
        [
            "INVITE 8",
            "ping",
            "INVITE 0",
            "ping",
            "invalid: Malformed Max-Forwards: number out of range",
            "INVITE 0",
            "INVITE 26",
            "ping",
            "ping",
        ]
    );
    for size in 1..=64 {
        assert_eq!(events(&bytes, &[size]), whole, "pieces of {size}");
    }
    assert_eq!(events(&bytes, &[1, 100, 3, 37, 2]), whole);
    for cut in 1..bytes.len() {
        let two = [cut, bytes.len() - cut];
        assert_eq!(events(&bytes, &two), whole, "cut at {cut}");
    }
    let mut rng = StdRng::seed_from_u64(5626);
    for _ in 0..500 {
        let sizes: Vec<usize> = (0..40).map(|_| rng.random_range(1..120)).collect();
        assert_eq!(events(&bytes, &sizes), whole, "pieces of {sizes:?}");
    }
}

#[test]
fn both_messages_of_dblreq_come_out() {
    let bytes = corpus::messages().remove("dblreq").unwrap();
    let events = outline(&events(&bytes, &[7]));
    // The second one's body is longer than its Content-Length, and what is over is no message.
    assert_eq!(events, ["REGISTER 0", "INVITE 150", "fatal: Not SIP"]);
}

#[test]
fn a_stream_with_no_known_end_is_given_up() {
    let fatal = |bytes: Vec<u8>| {
        let mut bytes = bytes;
        bytes.extend(get("never seen"));
        let whole = events(&bytes, &[usize::MAX]);
        assert_eq!(events(&bytes, &[11]), whole);
        outline(&whole).join(", ")
    };
    assert_eq!(
        fatal(invite("Content-Type: application/sdp\r\n", "v=0\r\n")),
        "fatal: Missing Content-Length"
    );
    assert_eq!(
        fatal(invite("l: 1\r\nContent-Length: 2\r\n", "ab")),
        "fatal: Conflicting Content-Length"
    );
    assert_eq!(
        fatal(invite("Content-Length: -1\r\n", "")),
        "fatal: Malformed Content-Length: not a decimal number"
    );
    assert_eq!(
        fatal(invite("Content-Length: 65535\r\n", "")),
        "fatal: Message Too Large"
    );
    assert_eq!(
        fatal(invite("Content-Length 3\r\n", "abc")),
        "fatal: Malformed Header Line"
    );
    assert_eq!(
        fatal(invite(&"X: y\r\n".repeat(300), "")),
        "fatal: Too Many Header Fields"
    );
    assert_eq!(
        fatal(b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".to_vec()),
        "fatal: Not SIP"
    );
    assert_eq!(
        fatal(invite(&format!("X: {}\r\n", "y".repeat(70_000)), "")),
        "fatal: Message Too Large"
    );
}

#[test]
fn an_endless_head_is_given_up_in_bounded_memory() {
    let mut framer = StreamFramer::new();
    let mut pushed = 0;
    let error = loop {
        framer.push(&[b'x'; 1000]);
        pushed += 1000;
        match framer.poll() {
            Some(StreamEvent::Fatal(error)) => break error,
            other => assert_eq!(other, None),
        }
        assert!(pushed <= 66_000);
    };
    assert_eq!(error.kind, ParseErrorKind::TooLarge);
    framer.push(&get(""));
    assert_eq!(framer.poll(), None);
}
