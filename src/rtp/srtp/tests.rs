use std::time::{Duration, Instant};

use super::*;
use crate::rtp::packet::Header;

const OURS: MasterKey = MasterKey(
    *b"\xe1\xf9\x7a\x0d\x3e\x01\x8b\xe0\xd6\x4f\xa3\x2c\x06\xde\x41\x39\
    \x0e\xc6\x75\xad\x49\x8a\xfe\xeb\xb6\x96\x0b\x3a\xab\xe6",
);
const THEIRS: MasterKey = MasterKey([0x5a; 30]);

fn pair(tag: Tag) -> (Srtp, Srtp) {
    let keys = SrtpKeys {
        tag,
        ours: OURS,
        theirs: THEIRS,
    };
    let mirrored = SrtpKeys {
        tag,
        ours: THEIRS,
        theirs: OURS,
    };
    (Srtp::new(keys), Srtp::new(mirrored))
}

fn packet(n: u32) -> Vec<u8> {
    let header = Header {
        marker: false,
        payload_type: 0,
        sequence: n as u16,
        timestamp: n * 160,
        ssrc: 0xcafe_babe,
    };
    let mut bytes = header.to_bytes().to_vec();
    bytes.extend([n as u8; 160]);
    bytes
}

fn sealed(srtp: &mut Srtp, n: u32) -> Vec<u8> {
    let mut bytes = packet(n);
    srtp.protect(&mut bytes).unwrap();
    bytes
}

#[test]
fn keys_are_derived_as_rfc_3711_appendix_b3_has_it() {
    let (cipher, mac, salt) = Context::session_keys(&OURS);
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    assert_eq!(hex(&cipher), "c61e7a93744f39ee10734afe3ff7a087");
    assert_eq!(hex(&salt), "30cbbc08863d8c85d49db34a9ae1");
    assert_eq!(hex(&mac), "cebe321f6ff7716b6fd4ab49af256a156d38baa4");
}

/// The packet of libsrtp's own test (srtp_validate in srtp_driver.c), under the same master key.
#[test]
fn a_packet_looks_as_libsrtp_makes_it() {
    let plain = [
        &b"\x80\x0f\x12\x34\xde\xca\xfb\xad\xca\xfe\xba\xbe"[..],
        &[0xab; 16],
    ]
    .concat();
    let expected = b"\x80\x0f\x12\x34\xde\xca\xfb\xad\xca\xfe\xba\xbe\
        \x4e\x55\xdc\x4c\xe7\x99\x78\xd8\x8c\xa4\xd2\x15\x94\x9d\x24\x02\
        \xb7\x8d\x6a\xcc\x99\xea\x17\x9b\x8d\xbb";
    let (mut sender, mut receiver) = pair(Tag::Bits80);
    let mut bytes = plain.clone();
    sender.protect(&mut bytes).unwrap();
    assert_eq!(bytes, expected);
    let opened = receiver.unprotect(Instant::now(), &bytes, false);
    assert_eq!(opened.unwrap(), plain);
}

#[test]
fn a_long_call_is_read_over_many_rollovers_with_loss_and_reordering() {
    let now = Instant::now();
    for tag in [Tag::Bits80, Tag::Bits32] {
        let (mut sender, mut receiver) = pair(tag);
        let mut held = None;
        for n in 65_000..65_536 * 3 + 500 {
            let bytes = sealed(&mut sender, n);
            assert_eq!(bytes.len(), 172 + tag.bytes());
            assert_ne!(bytes[12..172], packet(n)[12..]);
            // One in 50 is lost, one in 10 overtaken by the next.
            if n % 50 == 7 {
                continue;
            }
            if n % 10 == 3 {
                held = Some((n, bytes));
                continue;
            }
            let opened = receiver.unprotect(now, &bytes, false).unwrap();
            assert_eq!(opened, packet(n));
            if let Some((late, bytes)) = held.take() {
                let opened = receiver.unprotect(now, &bytes, false).unwrap();
                assert_eq!(opened, packet(late));
            }
        }
    }
}

#[test]
fn a_packet_is_taken_once() {
    let now = Instant::now();
    let (mut sender, mut receiver) = pair(Tag::Bits80);
    let packets: Vec<Vec<u8>> = (10..400).map(|n| sealed(&mut sender, n)).collect();
    for bytes in &packets {
        receiver.unprotect(now, bytes, false).unwrap();
    }
    for bytes in &packets {
        let again = receiver.unprotect(now, bytes, false);
        assert_eq!(again, Err(RtpError::Replayed));
    }
}

#[test]
fn whatever_is_changed_on_the_way_is_refused_and_disturbs_nothing() {
    let now = Instant::now();
    let (mut sender, mut receiver) = pair(Tag::Bits32);
    let good = sealed(&mut sender, 100);
    receiver.unprotect(now, &good, false).unwrap();
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = sealed(&mut sender, 101);
            bad[at] ^= 1 << bit;
            let opened = receiver.unprotect(now, &bad, false);
            assert!(opened.is_err(), "bit {bit} of byte {at}");
        }
    }
    for length in 0..good.len() {
        assert!(receiver.unprotect(now, &good[..length], false).is_err());
        assert!(receiver.unprotect(now, &good[..length], true).is_err());
    }
    let plain = packet(102);
    assert!(receiver.unprotect(now, &plain, false).is_err(), "no key");
    let good = sealed(&mut sender, 103);
    assert_eq!(receiver.unprotect(now, &good, false), Ok(packet(103)));
}

#[test]
fn reports_are_sealed_with_an_index_of_their_own() {
    let now = Instant::now();
    let (mut sender, mut receiver) = pair(Tag::Bits32);
    let report = [&[0x80, 201, 0, 1, 1, 2, 3, 4][..], &[7; 40]].concat();
    let mut before = Vec::new();
    for _ in 0..100 {
        let mut bytes = report.clone();
        sender.protect_control(&mut bytes).unwrap();
        assert_eq!(bytes.len(), report.len() + 14);
        assert_ne!(bytes, before, "no two are alike");
        assert_ne!(bytes[8..48], report[8..]);
        assert_eq!(receiver.unprotect(now, &bytes, true), Ok(report.clone()));
        let again = receiver.unprotect(now, &bytes, true);
        assert_eq!(again, Err(RtpError::Replayed));
        before = bytes;
    }
    before[20] ^= 1;
    let changed = receiver.unprotect(now, &before, true);
    assert_eq!(changed, Err(RtpError::Authentication));
}

#[test]
fn a_new_key_takes_over_and_the_old_one_is_soon_worth_nothing() {
    let start = Instant::now();
    let (mut sender, mut receiver) = pair(Tag::Bits80);
    for n in 65_500..65_600 {
        let bytes = sealed(&mut sender, n);
        receiver.unprotect(start, &bytes, false).unwrap();
    }
    let under_way = sealed(&mut sender, 65_600);
    let much_later = sealed(&mut sender, 65_601);
    let new = MasterKey([9; 30]);
    receiver.rekey(SrtpKeys {
        tag: Tag::Bits80,
        ours: THEIRS,
        theirs: new,
    });
    let mut sender = Srtp::new(SrtpKeys {
        tag: Tag::Bits80,
        ours: new,
        theirs: THEIRS,
    });
    let first = sealed(&mut sender, 65_602 - 65_536);
    let opened = receiver.unprotect(start, &first, false);
    assert!(opened.is_ok(), "its sender counts wraps anew");
    let opened = receiver.unprotect(start, &under_way, false);
    assert_eq!(opened, Ok(packet(65_600)));
    let later = start + Duration::from_secs(10);
    let opened = receiver.unprotect(later, &much_later, false);
    assert_eq!(opened, Err(RtpError::Authentication));
}

#[test]
fn keys_do_not_show_in_debug_output() {
    let (srtp, _) = pair(Tag::Bits80);
    let text = format!("{srtp:?}");
    assert!(
        !text.contains("225") && !text.contains("5a") && !text.contains("90"),
        "{text}"
    );
}
