//! Any bytes as a session description, offered to us or answering us: nothing panics, and what we
//! answer can itself be answered.

#![no_main]

#[allow(dead_code, unused_imports)]
#[path = "../../../src/audio/mod.rs"]
mod audio;
#[allow(dead_code, unused_imports)]
#[path = "../../../src/sdp/mod.rs"]
mod sdp;

use audio::Codec;
use libfuzzer_sys::fuzz_target;
use sdp::{Direction, Encryption, LocalMedia};

fuzz_target!(|bytes: &[u8]| {
    let local = LocalMedia {
        address: std::net::IpAddr::from([192, 0, 2, 1]),
        port: 4000,
        codecs: Codec::ALL.to_vec(),
        telephone_event: Some(101),
        ptime_ms: 20,
        encryption: Encryption::Off,
        direction: Direction::SendRecv,
        session_id: 1,
        session_version: 1,
    };
    if let Ok((answer, negotiated)) = sdp::answer(bytes, &local) {
        assert!(local.codecs.contains(&negotiated.codec));
        assert!(answer.len() < 4096 + 4 * bytes.len());
        // Refused only where nothing of it was left to be agreed on.
        let _ = sdp::accept(&answer, &local);
    }
    let _ = sdp::accept(bytes, &local);
});
