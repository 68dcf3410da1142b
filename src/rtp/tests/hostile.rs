//! Datagrams from those who mean no call.

use super::*;

#[test]
fn hostile_datagrams_never_panic_and_memory_stays_bounded() {
    let mut rng = StdRng::seed_from_u64(3550);
    let start = Instant::now();
    let mut session = session(1, 20);
    let mut now = start;
    for round in 0..60_000u32 {
        let mut datagram = Header {
            marker: rng.random(),
            payload_type: [0, 8, 13, 101, 18][rng.random_range(0..5)],
            sequence: (round / 3) as u16,
            timestamp: round / 3 * 160,
            ssrc: 7,
        }
        .to_bytes()
        .to_vec();
        datagram.resize(HEADER_BYTES + rng.random_range(0..400), 0x55);
        for _ in 0..rng.random_range(0..4) {
            let at = rng.random_range(0..datagram.len());
            datagram[at] = rng.random();
        }
        if round % 7 == 0 {
            rng.fill_bytes(&mut datagram);
        }
        let _outcome = session.receive(now, &datagram);
        let _outcome = session.receive_control(now, &datagram);
        if rng.random_bool(0.4) {
            now += Duration::from_millis(rng.random_range(0..40));
            session.pull(now);
            while session.poll_digit().is_some() {}
        }
    }
    let statistics = session.statistics();
    assert!(statistics.malformed > 1_000, "{statistics:?}");
    assert!(statistics.received > 10_000, "{statistics:?}");
}

#[test]
fn a_flood_that_nobody_plays_is_bounded() {
    let mut call = Call::new(Path::CLEAN, 21, 20);
    let now = call.now();
    for n in 0..50_000u32 {
        let header = Header {
            marker: false,
            payload_type: 0,
            sequence: n as u16,
            timestamp: n * 160,
            ssrc: 7,
        };
        let mut datagram = header.to_bytes().to_vec();
        datagram.extend([0x55; 160]);
        let at = now + Duration::from_millis(20) * n;
        call.receiver.receive(at, &datagram).unwrap();
    }
    let statistics = call.receiver.statistics();
    assert_eq!(statistics.received, 50_000);
    assert_eq!(statistics.dropped, 50_000 - 50, "one second is kept");
}
