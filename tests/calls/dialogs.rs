//! Dialogs with real peers beyond the plain call: session timers, UPDATE, late offers, Replaces.

use std::time::Duration;

use crate::support::pjsip::Caller;
use crate::support::server::{Setup, Shared};
use crate::support::sipp::Sipp;
use crate::support::softphone::Softphone;
use crate::support::sound::write_padded;
use crate::support::{speech, until};
use crate::{in_peace, ladders};

/// A reception that says hello and does not ask whether anybody is there.
static OFFICE: Shared = Shared::new(|| {
    // SIPp sends no sound here.
    let setup = Setup::new("dialogs").set("rtp__timeout_seconds", "120");
    setup.file(
        r#"
        [assistants.reception]
        firstMessage = "Hello there."
        messagePlan = { idleMessages = [] }
        silenceTimeoutSeconds = 300
        "#,
    )
});

fn goes_by_the_scenario(scenario: &str) {
    let _peace = in_peace();
    let server = OFFICE.take();
    let ((), record) = server.record_of(|| {
        Sipp::new(scenario)
            .dial(&server, "reception")
            .must_go_by_the_scenario();
    });
    assert_eq!(record.reason(), ("customer-ended-call", "customer"));
}

#[test]
fn an_offer_may_come_from_us_and_its_answer_in_the_ack() {
    goes_by_the_scenario("delayed_offer");
}

#[test]
fn a_session_is_refreshed_and_changed_by_update() {
    goes_by_the_scenario("update");
}

#[test]
fn too_small_an_interval_is_told_the_smallest() {
    goes_by_the_scenario("small_interval");
}

#[test]
fn a_request_out_of_order_is_refused_and_the_call_goes_on() {
    goes_by_the_scenario("overlapping");
}

#[test]
fn a_call_that_is_not_there_cannot_be_replaced() {
    let server = OFFICE.take();
    Sipp::new("replaces")
        .dial(&server, "reception")
        .must_go_by_the_scenario();
}

#[test]
fn ringing_is_acknowledged_where_the_caller_asks_for_that() {
    goes_by_the_scenario("prack");
}

/// Our caller is the one that acknowledges.
#[test]
fn early_media_that_is_reliable_is_acknowledged() {
    let server = OFFICE.take();
    let callee = Sipp::new("early_media");
    let uri = format!("sip:callee@{}", callee.address());
    let callee = callee.listen();
    Softphone::dial_uri(&server, &uri, &[], &[]).report();
    callee.must_go_by_the_scenario();
}

#[test]
fn an_invite_that_comes_by_two_ways_is_one_call() {
    goes_by_the_scenario("merged");
}

/// One caller keeps its promise to refresh every 90 s, by UPDATE after 45; one does not; and two
/// leave it to us, by UPDATE and by re-INVITE.
#[test]
fn a_session_that_is_refreshed_goes_on_and_one_that_is_not_is_ended() {
    let _peace = in_peace();
    let server = OFFICE.take();
    let (seen, records) = server.records_of(4, || {
        let silent = Sipp::new("never_refreshed").dial(&server, "reception");
        let by_update = Sipp::new("refreshed_by_update").dial(&server, "reception");
        let by_invite = Sipp::new("refreshed_by_invite").dial(&server, "reception");
        let (play, heard) = (server.path("play.wav"), server.path("heard.wav"));
        write_padded(&speech("hi_how_are_you"), 3.0, 50.0, &play);
        let seen = Caller {
            codec: "PCMU",
            play: &play,
            record: &heard,
            keys: None,
            hang_up: Some(50.0),
            credentials: None,
            extensions_required: true,
        }
        .dial(&server, "reception");
        silent.must_go_by_the_scenario();
        by_update.must_go_by_the_scenario();
        by_invite.must_go_by_the_scenario();
        seen
    });
    assert!(seen.answered, "status {}", seen.status);
    assert_eq!(seen.ended_by, "local");
    assert!(seen.seconds > 49.0, "{} s", seen.seconds);
    // PJSIP took our ringing reliably, too.
    let pjsip = records
        .iter()
        .find(|record| record.text("from").contains("pjsip"));
    let pjsip = pjsip.expect("PJSIP's call").text("id").to_owned();
    let messages = until("its messages", Duration::from_secs(15), || {
        let shown = ladders::calls(&server, &["show", &pjsip, "--sip"]);
        shown.contains("BYE sip:").then_some(shown)
    });
    assert!(messages.contains("PRACK sip:"), "{messages}");
    let mut reasons: Vec<(&str, &str)> = records.iter().map(|record| record.reason()).collect();
    reasons.sort_unstable();
    let expected = [
        ("customer-ended-call", "customer"),
        ("customer-ended-call", "customer"),
        ("customer-ended-call", "customer"),
        ("signalling-timed-out", "system"),
    ];
    assert_eq!(reasons, expected);
    assert!(Duration::from_secs_f64(seen.seconds) < Duration::from_secs(60));
}
