//! Hold from either side, and what the caller hears meanwhile.

use std::time::Duration;

use crate::in_peace;
use crate::support::phone::Phone;
use crate::support::server::{Setup, Shared};
use crate::support::sipp::Sipp;

/// Nobody is asked whether they are still there, so that silence is silence.
pub(crate) static DESK: Shared = Shared::new(|| {
    Setup::new("desk").file(
        r#"
        [assistants.reception]
        firstMessage = "Hello there, this is the reception of the office."
        messagePlan = { idleMessages = [] }
        [assistants.reception.holdPlan]
        message = "Please hold."
        "#,
    )
});

/// `pjmedia_dir`: it receives and does not send.
const RECEIVES_ONLY: u64 = 2;
const BOTH_WAYS: u64 = 3;

#[test]
fn a_caller_on_hold_hears_music_and_is_taken_back_with_thanks() {
    let _peace = in_peace();
    let server = DESK.take();
    let (seen, record) = server.record_of(|| {
        let phone = Phone::new("holds").dial(&server.uri("reception"));
        let id = server.answered_call();
        server.wait_for_words(&id, 1);
        server.told(&["calls", "hold", &id]);
        let again = server.command(&["calls", "hold", &id[..8]]);
        assert_eq!(again.status.code(), Some(1), "{}", again.output());
        assert!(again.stderr.contains("on hold already"), "{}", again.stderr);
        let refused = server.command(&["calls", "say", &id, "Hello?"]);
        assert!(refused.stderr.contains("on hold"), "{}", refused.stderr);
        server.live_call("a call on hold", |call| call["onHold"] == true);
        std::thread::sleep(Duration::from_secs(6));
        server.told(&["calls", "resume", &id]);
        server.wait_for_words(&id, 2);
        server.told(&["calls", "hangup", &id]);
        phone.finish()
    });
    assert_eq!(record.reason(), ("manually-canceled", "operator"));
    let directions: Vec<u64> = seen
        .all("media")
        .iter()
        .filter_map(|media| media["direction"].as_u64())
        .collect();
    assert_eq!(directions, [BOTH_WAYS, RECEIVES_ONLY, BOTH_WAYS]);
    let said = record.said_by("bot");
    assert_eq!(said[1].text, "Thank you for waiting.");
    // Six seconds of announcement and music, on the wire and in the recording.
    let music = said[1].start_ms - 5500..said[1].start_ms - 500;
    let recording = server.recording(&record);
    let share = recording.audible_share(1, music);
    assert!(share > 0.95, "{share} of the hold is audible");
    let heard = seen.heard().audible_seconds(0);
    assert!(heard > 8.0, "greeting, music and thanks in {heard} s");
}

#[test]
fn a_caller_who_holds_us_is_sent_nothing_and_hears_the_rest_afterwards() {
    let _peace = in_peace();
    let server = DESK.take();
    let (seen, record) = server.record_of(|| {
        let times = ["--hold-at", "0.8", "--resume-at", "6", "--hang-up-at", "11"];
        let phone = Phone::new("held").options(&times);
        let phone = phone.dial(&server.uri("reception"));
        server.live_call("a call on hold", |call| call["onHold"] == true);
        phone.finish()
    });
    assert_eq!(record.reason(), ("customer-ended-call", "customer"));
    let packets = seen.first("packets-on-hold")["packets"].as_u64();
    assert!(
        packets.is_some_and(|packets| packets <= 2),
        "{packets:?} on hold"
    );
    let said = record.said_by("bot");
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(
        said[0].text,
        "Hello there, this is the reception of the office."
    );
    assert!(
        said[0].end_ms > 6000,
        "its end comes after the hold: {said:?}"
    );
    let silent = server.recording(&record).audible_share(1, 1500..5500);
    assert!(silent < 0.02, "{silent} of the hold is audible");
}

#[test]
fn a_hold_that_crosses_an_offer_of_the_callers_is_made_again() {
    let server = DESK.take();
    let ((), record) = server.record_of(|| {
        let sipp = Sipp::new("crossing_hold").dial(&server, "reception");
        let id = server.answered_call();
        server.told(&["calls", "hold", &id]);
        // Answered 491 first: made again after a pause.
        std::thread::sleep(Duration::from_secs(4));
        server.told(&["calls", "resume", &id]);
        std::thread::sleep(Duration::from_secs(1));
        server.told(&["calls", "hangup", &id]);
        sipp.must_go_by_the_scenario();
    });
    assert_eq!(record.reason(), ("manually-canceled", "operator"));
}
