//! Hostile input: nothing panics, and what is taken means the same when written and read again.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::sip::headers::{Headers, NameAddr, Via};

/// Bytes that mean something to the parser.
const SPICE: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b"\xff",
    b"\"",
    b"\\",
    b"<",
    b">",
    b";",
    b",",
    b":",
    b"=",
    b"@",
    b"?",
    b"%",
    b"[",
    b"]",
    b" ",
    b"\r\n ",
    b"sip:",
    b"SIP/2.0",
    b"Via: ",
    b"l: ",
    b"4294967296",
    b"-1",
    b"%00",
    b"\xc3\xa9",
    b"Digest nonce=\"",
    b"*",
];

/// A number below `bound`, which is not 0.
fn below(rng: &mut StdRng, bound: usize) -> usize {
    usize::try_from(rng.next_u64() % u64::try_from(bound).unwrap()).unwrap()
}

fn mutate(bytes: &mut Vec<u8>, rng: &mut StdRng) {
    for _ in 0..=below(rng, 4) {
        let at = below(rng, bytes.len() + 1);
        let end = (at + below(rng, 20)).min(bytes.len());
        match below(rng, 5) {
            0 => drop(bytes.drain(at..end)),
            1 => drop(bytes.splice(at..at, SPICE[below(rng, SPICE.len())].iter().copied())),
            2 => drop(bytes.splice(at..end, SPICE[below(rng, SPICE.len())].iter().copied())),
            3 => {
                let copy = bytes[at..end].to_vec();
                let to = below(rng, bytes.len() + 1);
                drop(bytes.splice(to..to, copy));
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << below(rng, 8);
                }
            }
        }
    }
}

/// Reads everything there is, and checks that values mean the same once written.
fn read_all(headers: &Headers) {
    let same_via = |via: Via| assert_eq!(via.to_string().parse::<Via>(), Ok(via));
    let same_name_addr =
        |value: NameAddr| assert_eq!(value.to_string().parse::<NameAddr>(), Ok(value));
    headers.vias().into_iter().flatten().for_each(same_via);
    headers
        .from()
        .into_iter()
        .chain(headers.to())
        .chain(headers.refer_to())
        .for_each(same_name_addr);
    for list in [
        headers.routes(),
        headers.record_routes(),
        headers.service_routes(),
        headers.p_asserted_identity(),
        headers.diversion(),
    ] {
        list.into_iter().flatten().for_each(same_name_addr);
    }
    for challenge in headers
        .www_authenticate()
        .into_iter()
        .chain(headers.proxy_authenticate())
        .flatten()
    {
        if let crate::sip::headers::Challenge::Digest(digest) = &challenge {
            let mut again = Headers::new();
            again.push(HeaderName::WwwAuthenticate, digest);
            assert_eq!(again.www_authenticate(), Ok(vec![challenge]));
        }
    }
    let _ = (
        headers.contacts(),
        headers.authorization(),
        headers.proxy_authorization(),
        headers.history_info(),
    );
    let _ = (
        headers.expires(),
        headers.min_expires(),
        headers.min_se(),
        headers.session_expires(),
        headers.retry_after(),
    );
    let _ = (
        headers.rseq(),
        headers.rack(),
        headers.replaces(),
        headers.reasons(),
        headers.event(),
        headers.content_type(),
    );
    let _ = (
        headers.allow(),
        headers.supported(),
        headers.require(),
        headers.unsupported(),
        headers.referred_by(),
    );
}

#[test]
fn mutated_messages_neither_panic_nor_change_meaning() {
    let mut rng = StdRng::seed_from_u64(4475);
    let (mut taken, mut refused) = (0, 0);
    for bytes in corpus::messages().into_values() {
        for _ in 0..150 {
            let mut bytes = bytes.clone();
            mutate(&mut bytes, &mut rng);
            match parse_datagram(&bytes) {
                Ok(mut message) => {
                    taken += 1;
                    read_all(message.headers());
                    let source = "192.0.2.1:5060".parse().unwrap();
                    let mut again = parse_datagram(&message.to_bytes()).unwrap();
                    message.headers_mut().remove(&HeaderName::ContentLength);
                    again.headers_mut().remove(&HeaderName::ContentLength);
                    assert_eq!(message, again);
                    again.headers_mut().record_source(source);
                    again.headers_mut().set_to_tag("t");
                    assert!(parse_datagram(&again.to_bytes()).is_ok());
                }
                Err(ParseError {
                    rejection: Some(rejection),
                    ..
                }) => {
                    refused += 1;
                    read_all(&rejection.headers);
                    let answer = rejection.to_response("t").to_bytes();
                    let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
                    assert_eq!(end, Some(answer.len() - 4));
                }
                Err(ParseError {
                    rejection: None, ..
                }) => {}
            }
        }
    }
    assert!(
        taken > 1000 && refused > 1000,
        "{taken} taken, {refused} refused"
    );
}

#[test]
fn mutated_streams_come_out_the_same_however_cut() {
    let mut rng = StdRng::seed_from_u64(5118);
    let corpus: Vec<_> = corpus::messages().into_values().collect();
    for _ in 0..300 {
        let mut bytes = Vec::new();
        for _ in 0..4 {
            let mut next = corpus[below(&mut rng, corpus.len())].clone();
            if below(&mut rng, 2) == 0 {
                mutate(&mut next, &mut rng);
            }
            bytes.extend(next);
        }
        let drain =
            |framer: &mut StreamFramer| std::iter::from_fn(|| framer.poll()).collect::<Vec<_>>();
        let mut whole = StreamFramer::new();
        whole.push(&bytes);
        let whole = drain(&mut whole);
        let mut cut = StreamFramer::new();
        let (mut rest, mut pieces) = (bytes.as_slice(), Vec::new());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((1 + below(&mut rng, 200)).min(rest.len()));
            cut.push(piece);
            pieces.extend(drain(&mut cut));
            rest = after;
        }
        assert_eq!(pieces, whole);
    }
}
