//! What RTCP tells (RFC 3550 section 6.4).

use super::*;

#[test]
fn reports_tell_loss_jitter_and_round_trip() {
    let start = Instant::now();
    let ntp = |now: Instant| {
        let since = now.duration_since(start).as_millis() as u64;
        (3_900_000_000 << 32) + since * (1 << 32) / 1_000
    };
    let mut call = Call::new(
        Path {
            loss: 0.1,
            ..Path::CLEAN
        },
        19,
        20,
    );
    let offset = call.now();
    let at = |now: Instant| start + now.duration_since(offset);
    let mut reports = 0;
    for frame in speech(1_000, 19).chunks(FRAME_SAMPLES) {
        call.tick(Some(&Frame::padded(frame).into()));
        let now = call.now();
        if let Some(report) = call.sender.poll_control(now, ntp(at(now))) {
            let later = now + Duration::from_millis(30);
            call.receiver.receive_control(later, &report).unwrap();
            reports += 1;
        }
        if let Some(report) = call.receiver.poll_control(now, ntp(at(now)) + 77) {
            let later = now + Duration::from_millis(30);
            call.sender.receive_control(later, &report).unwrap();
        }
    }
    assert!((3..=8).contains(&reports), "{reports} in 20 s");
    let quality = call.receiver.quality().heard.unwrap();
    assert!((2.8..3.8).contains(&quality.mos), "{quality:?}");
    let told = call.sender.quality();
    let told = told.spoken.unwrap();
    assert!((told.mos - quality.mos).abs() < 0.4, "{told:?} {quality:?}");
    let own = call.sender.statistics().remote.unwrap().score.unwrap();
    assert!(
        (f64::from(own) - quality.mos).abs() < 0.4,
        "{own} {quality:?}"
    );
    let remote = call.sender.statistics().remote.unwrap();
    assert!((remote.fraction_lost - 0.1).abs() < 0.06, "{remote:?}");
    assert!((remote.lost - 100).abs() < 40, "{remote:?}");
    let round_trip = remote.round_trip.unwrap().as_millis();
    assert!((58..=62).contains(&round_trip), "{round_trip} ms");

    let now = call.now();
    let goodbye = call.sender.goodbye(now, ntp(at(now))).unwrap();
    assert_eq!(
        call.receiver.receive(now, &goodbye),
        Ok(Received::Control { goodbye: true }),
        "also on a shared port"
    );
}
