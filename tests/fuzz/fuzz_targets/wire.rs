//! Any bytes: nothing panics, what is taken means the same once written and read again, and a
//! stream gives the same events however it is cut.

#![no_main]

#[allow(dead_code, unused_imports)]
#[path = "../../../src/sip/mod.rs"]
mod sip;

use libfuzzer_sys::fuzz_target;
use sip::headers::{HeaderName, Headers, NameAddr, Via};
use sip::wire::{StreamEvent, StreamFramer, parse_datagram};

fuzz_target!(|bytes: &[u8]| {
    match parse_datagram(bytes) {
        Ok(mut message) => {
            read_all(message.headers());
            let mut again =
                parse_datagram(&message.to_bytes()).expect("what was taken is taken again");
            message.headers_mut().remove(&HeaderName::ContentLength);
            again.headers_mut().remove(&HeaderName::ContentLength);
            assert_eq!(message, again);
        }
        Err(error) => {
            if let Some(rejection) = error.rejection {
                read_all(&rejection.headers);
                rejection.to_response("tag").to_bytes();
            }
        }
    }
    let cut = 1 + usize::from(bytes.first().copied().unwrap_or_default());
    assert_eq!(events(bytes.chunks(cut)), events(std::iter::once(bytes)));
});

fn events<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<StreamEvent> {
    let mut framer = StreamFramer::new();
    let mut events = Vec::new();
    for piece in pieces {
        framer.push(piece);
        events.extend(std::iter::from_fn(|| framer.poll()));
    }
    events
}

fn read_all(headers: &Headers) {
    for via in headers.vias().into_iter().flatten() {
        assert_eq!(via.to_string().parse::<Via>(), Ok(via));
    }
    let lists = [
        headers.routes(),
        headers.record_routes(),
        headers.diversion(),
        headers.history_info(),
    ];
    let singles = headers
        .from()
        .into_iter()
        .chain(headers.to())
        .chain(headers.refer_to());
    for value in lists.into_iter().flatten().flatten().chain(singles) {
        assert!(value.uri.equivalent(&value.uri));
        assert_eq!(value.to_string().parse::<NameAddr>(), Ok(value));
    }
    let _ = (headers.www_authenticate(), headers.proxy_authenticate());
    let _ = (headers.authorization(), headers.proxy_authorization());
    let _ = (
        headers.contacts(),
        headers.session_expires(),
        headers.rack(),
        headers.replaces(),
    );
    let _ = (
        headers.reasons(),
        headers.event(),
        headers.content_type(),
        headers.retry_after(),
    );
}
