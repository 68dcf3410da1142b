//! A byte stream: the same events however it is cut, and no more held than one message may have.

#![no_main]

#[allow(dead_code, unused_imports)]
#[path = "../../../src/sip/mod.rs"]
mod sip;

use libfuzzer_sys::fuzz_target;
use sip::wire::{StreamEvent, StreamFramer};

fuzz_target!(|bytes: &[u8]| {
    // The first bytes say where it is cut.
    let (cuts, stream) = bytes.split_at(bytes.len().min(4));
    let whole = events([stream].into_iter());
    assert_eq!(events(stream.chunks(1)), whole);
    assert_eq!(events(pieces(stream, cuts).into_iter()), whole);
});

fn pieces<'a>(mut stream: &'a [u8], cuts: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for cut in cuts.iter().cycle().take(4096) {
        if stream.is_empty() {
            break;
        }
        let (piece, rest) = stream.split_at(usize::from(*cut).min(stream.len()));
        pieces.push(piece);
        stream = rest;
    }
    pieces.push(stream);
    pieces
}

fn events<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<StreamEvent> {
    let mut framer = StreamFramer::new();
    let mut events = Vec::new();
    for piece in pieces {
        framer.push(piece);
        events.extend(std::iter::from_fn(|| framer.poll()));
    }
    events
}
