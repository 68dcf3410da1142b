//! RFC 4475 and RFC 5118: no call is born of a bad message, good ones are understood, and the
//! endpoint answers OPTIONS after each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::peer::{OURS, Peer, Request, respond, summaries};
use crate::sip::endpoint::simulation::{address, invitation};
use crate::sip::endpoint::{Event, Hangup};

fn corpus() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sip-corpus");
    let mut folders = vec![root];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "dat") {
                files.push(path);
            }
        }
    }
    files.sort();
    assert_eq!(files.len(), 61);
    files
}

/// What became of a message: the final status that it got, by any means, and whether a call
/// was born.
fn outcome(bytes: &[u8]) -> (Option<u16>, bool) {
    let mut peer = Peer::new();
    let mut answers = peer.send(bytes);
    let born = peer.saw_call();
    if born {
        let leg = peer.leg();
        peer.act(|endpoint, now| endpoint.accept(now, leg, OURS.into()).unwrap());
        answers.push(peer.last().to_owned());
        assert!(matches!(peer.events[0], Event::IncomingCall(_)));
    }
    let ping = Request::of("OPTIONS").branch("ping").call_id("ping");
    assert_eq!(summaries(&peer.send(ping.text())), ["200 OPTIONS"]);
    let status = summaries(&answers)
        .iter()
        .filter_map(|summary| summary.get(..3)?.parse().ok())
        .find(|status| *status >= 200);
    peer.assert_clean();
    (status, born)
}

#[test]
fn every_torture_message_is_answered_as_its_rfc_asks() {
    let expected: BTreeMap<&str, &[Option<u16>]> = BTreeMap::from([
        // RFC 4475 3.1.1: valid.
        // Its To has a tag, of a dialog that we do not know.
        ("wsinv", [Some(481)].as_slice()),
        ("intmeth", &[Some(405), Some(501)]),
        ("esc01", &[Some(200)]),
        ("escnull", &[Some(405)]),
        ("esc02", &[Some(405), Some(501)]),
        ("lwsdisp", &[Some(200)]),
        ("longreq", &[Some(200)]),
        ("dblreq", &[Some(405)]),
        ("semiuri", &[Some(200)]),
        ("transports", &[Some(200)]),
        ("mpart01", &[Some(405)]),
        ("unreason", &[None]),
        ("noreason", &[None]),
        // 3.1.2: invalid.
        ("badinv01", &[Some(400)]),
        ("clerr", &[Some(400)]),
        ("ncl", &[Some(400)]),
        ("scalar02", &[Some(400)]),
        ("scalarlg", &[None]),
        ("quotbal", &[Some(400)]),
        ("ltgtruri", &[Some(400)]),
        ("lwsruri", &[Some(400)]),
        ("lwsstart", &[Some(400)]),
        ("trws", &[Some(400), Some(200)]),
        ("escruri", &[Some(400)]),
        ("baddate", &[Some(400), Some(200)]),
        ("regbadct", &[Some(400), Some(405)]),
        ("badaspec", &[Some(400), Some(200)]),
        ("baddn", &[Some(400), Some(200)]),
        ("badvers", &[Some(505)]),
        ("mismatch01", &[Some(400)]),
        ("mismatch02", &[Some(400), Some(405), Some(501)]),
        ("bigcode", &[None]),
        // 3.2 and 3.3.
        ("badbranch", &[Some(200)]),
        ("insuf", &[Some(400)]),
        ("unkscm", &[Some(416)]),
        ("novelsc", &[Some(416)]),
        ("unksm2", &[Some(405)]),
        ("bext01", &[Some(420)]),
        ("invut", &[Some(415)]),
        ("regaut01", &[Some(405)]),
        ("multi01", &[Some(400)]),
        ("mcl01", &[Some(400)]),
        ("bcast", &[None]),
        ("zeromf", &[Some(200), Some(483)]),
        ("cparam01", &[Some(405)]),
        ("cparam02", &[Some(405)]),
        ("regescrt", &[Some(405)]),
        ("sdp01", &[Some(406), Some(488)]),
        ("inv2543", &[Some(200)]),
    ]);
    let mut wrong = Vec::new();
    let mut calls = 0;
    for file in corpus() {
        let name = file.file_stem().unwrap().to_str().unwrap();
        let (status, born) = outcome(&std::fs::read(&file).unwrap());
        let right = match expected.get(name) {
            Some(allowed) => allowed.contains(&status),
            None if name.ends_with(".invalid") => status == Some(400),
            None => status.is_some_and(|status| status != 400),
        };
        let bad = name.ends_with(".invalid")
            || expected
                .get(name)
                .is_some_and(|allowed| !allowed.contains(&Some(200)));
        assert!(!(bad && born), "{name} became a call");
        calls += u32::from(born);
        if !right {
            wrong.push(format!("{name}: {status:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(calls > 5, "the good INVITEs do become calls");
}

/// Fired one after the other from one address, as a torture tool may do, these have the branch,
/// sent-by, method, Call-ID and CSeq of the message before them, and so are that message once more
/// (RFC 3261 17.2.3): it gets its answer again, which carries the other's Via. A tool that marks
/// each Via and waits for its mark sees 58 of 61 answered; alone each of the three is answered, as
/// the test above shows.
#[test]
fn three_messages_of_rfc_5118_are_others_sent_again_when_they_follow_them() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sip-corpus/rfc5118");
    let read = |name: &str| std::fs::read(folder.join(format!("{name}.valid.dat")));
    for (first, again, answer) in [
        ("4.01-ipv6-good", "4.03-port-ambiguous", "405 REGISTER"),
        ("4.01-ipv6-good", "4.04-port-unambiguous", "405 REGISTER"),
    ] {
        let mut peer = Peer::new();
        let answers = peer.send(read(first).unwrap());
        assert_eq!(summaries(&answers), [answer]);
        assert_eq!(peer.send(read(again).unwrap()), answers);
    }
    let mut peer = Peer::new();
    let three_colons = folder.join("4.10-ipv6-bug-abnf-3-colons.robust.dat");
    let answers = peer.send(std::fs::read(three_colons).unwrap());
    assert_eq!(summaries(&answers), ["200 OPTIONS"]);
    let two_colons = read("4.10-ipv6-correct-abnf-2-colons").unwrap();
    assert_eq!(peer.send(two_colons), answers);
}

/// Bytes changed, cut, doubled or moved between messages.
fn mutate(rng: &mut StdRng, message: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..rng.random_range(1..6) {
        if message.is_empty() {
            return;
        }
        let at = rng.random_range(0..message.len());
        let end = (at + rng.random_range(1..30)).min(message.len());
        match rng.random_range(0..5) {
            0 => message[at] = rng.random(),
            1 => drop(message.drain(at..end)),
            2 => {
                let piece = message[at..end].to_vec();
                message.splice(at..at, piece);
            }
            3 => message[at] = *b"\r\n;,:<>\"@ ".choose(rng).unwrap(),
            _ => {
                let from = rng.random_range(0..other.len());
                let to = (from + rng.random_range(1..60)).min(other.len());
                message.splice(at..at, other[from..to].iter().copied());
            }
        }
    }
}

#[test]
fn mutated_messages_neither_stop_the_endpoint_nor_leave_anything_in_it() {
    let mut messages: Vec<Vec<u8>> = corpus()
        .iter()
        .map(|file| std::fs::read(file).unwrap())
        .collect();
    for seed in 0..60 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut peer = Peer::new();
        let (_, tag) = peer.establish();
        let call = invitation(address(1), OURS);
        peer.act(|endpoint, now| endpoint.invite(now, call).unwrap());
        let invite = peer.last().to_owned();
        let talk = "Contact: <sip:peer@192.0.2.2>\r\nContent-Type: application/sdp\r\n";
        let ours = messages.len();
        for method in ["INVITE", "UPDATE", "INFO", "BYE", "ACK", "CANCEL"] {
            let request = Request::of(method).branch(method).ours(&tag).sequence(7);
            messages.push(request.sdp(OURS).text().into_bytes());
        }
        for status in ["180 Ringing", "200 OK", "401 Unauthorized", "486 Busy Here"] {
            messages.push(respond(&invite, status, "t", talk, OURS).into_bytes());
        }
        for _ in 0..150 {
            let mut message = messages.choose(&mut rng).unwrap().clone();
            let other = messages.choose(&mut rng).unwrap().clone();
            mutate(&mut rng, &mut message, &other);
            peer.send(&message);
            peer.wait(Duration::from_millis(rng.random_range(0..2000)));
        }
        messages.truncate(ours);
        while let Some(leg) = peer.live_leg() {
            peer.act(|endpoint, now| endpoint.hangup(now, leg, Hangup::default()).unwrap());
        }
        peer.assert_clean();
    }
}
