//! Callers who are passed on: by REFER, by a bridge, with a briefing, and back again.

use std::path::PathBuf;
use std::time::Duration;

use crate::in_peace;
use crate::ladders::calls;
use crate::support::phone::{Phone, Seen};
use crate::support::record::Record;
use crate::support::server::{Server, Setup};
use crate::support::sipp::Sipp;
use crate::support::sound::write_tone;
use crate::support::until;

const SHORTLY: Duration = Duration::from_secs(15);

/// The messages of every leg are kept with the call.
fn until_the_ladder_has(server: &Server, record: &Record, what: &str, times: usize) {
    until("every leg in the ladder", SHORTLY, || {
        let shown = calls(server, &["show", record.text("id"), "--sip"]);
        (shown.matches(what).count() >= times).then_some(())
    });
}

/// What the two people play, so that one can be told from the other.
const CALLER_HZ: f64 = 700.0;
const COLLEAGUE_HZ: f64 = 1300.0;

fn setup(name: &'static str, more: &str) -> Setup {
    Setup::new(name).file(&format!(
        r#"
        [assistants.reception]
        firstMessage = "Hello, this is the reception."
        messagePlan = {{ idleMessages = [] }}
        {more}
        "#
    ))
}

/// A transfer of the reception's, by key 5, with more of its plan.
fn to(uri: &str, plan: &str) -> String {
    format!(
        r#"
        [[assistants.reception.transfers]]
        destination = {{ type = "sip", sipUri = "{uri}", transferPlan = {{ {plan} }} }}
        digit = "5"
        phrases = ["order status"]
        "#
    )
}

fn tone(phone: &Phone, hz: f64) -> PathBuf {
    let file = phone.path("tone.wav");
    write_tone(hz, 30.0, &file);
    file
}

fn caller(options: &[&str]) -> Phone {
    let phone = Phone::new("caller").options(options);
    let file = tone(&phone, CALLER_HZ);
    phone.plays(&file)
}

fn colleague(options: &[&str]) -> Phone {
    let phone = Phone::new("colleague").options(options);
    let file = tone(&phone, COLLEAGUE_HZ);
    phone.plays(&file)
}

/// Both heard each other, and the recording has both, each on its side.
fn assert_both_ways(server: &Server, record: &Record, caller: &Seen, colleague: &Seen) {
    let heard = caller.heard().tone_seconds(0, COLLEAGUE_HZ);
    assert!(heard > 1.5, "the caller hears {heard} s of the colleague");
    let heard = colleague.heard().tone_seconds(0, CALLER_HZ);
    assert!(heard > 1.5, "the colleague hears {heard} s of the caller");
    let recording = server.recording(record);
    let right = recording.tone_seconds(1, COLLEAGUE_HZ);
    assert!(right > 1.5, "{right} s of the colleague on the right");
    let left = recording.tone_seconds(0, CALLER_HZ);
    assert!(left > 1.5, "{left} s of the caller on the left");
    assert_eq!(recording.tone_seconds(0, COLLEAGUE_HZ), 0.0);
}

#[test]
fn a_key_passes_the_caller_on_by_refer() {
    let _peace = in_peace();
    let colleague = colleague(&["--hang-up-at", "4"]);
    let server = setup("refers", &to(&colleague.uri("colleague"), "")).start_ready();
    let ((caller, colleague), record) = server.record_of(|| {
        let colleague = colleague.listen();
        let caller = caller(&["--keys", "5", "--keys-at", "4"]).dial(&server.uri("reception"));
        (caller.finish(), colleague.finish())
    });
    assert_eq!(record.reason(), ("assistant-forwarded-call", "assistant"));
    assert_eq!(caller.all("refer").len(), 1);
    let said = record.said_by("bot");
    assert_eq!(said[1].text, "One moment, I'll put you through.");
    // The two talk without us: in the caller's second call.
    let heard = caller.heard_in(1).tone_seconds(0, COLLEAGUE_HZ);
    assert!(heard > 1.5, "{heard} s of the colleague");
    assert!(colleague.heard().tone_seconds(0, CALLER_HZ) > 1.5);
}

#[test]
fn a_refused_refer_becomes_a_bridge_that_carries_sound_and_keys_both_ways() {
    let _peace = in_peace();
    let colleague = colleague(&["--codec", "PCMA", "--hang-up-at", "6"]);
    let server = setup("bridges", &to(&colleague.uri("colleague"), "")).start_ready();
    let ((caller, colleague), record) = server.record_of(|| {
        let colleague = colleague.listen();
        let options = ["--refuse-refer", "603", "--keys", "5", "--keys-at", "4"];
        let caller = caller(&options).dial(&server.uri("reception"));
        server.live_call("a bridge", |call| call["status"] == "forwarding");
        (caller.finish(), colleague.finish())
    });
    let reason = ("assistant-forwarded-call", "transfer-destination");
    assert_eq!(record.reason(), reason, "the colleague hung up");
    assert_eq!(caller.all("refer").len(), 1);
    assert_both_ways(&server, &record, &caller, &colleague);
    until_the_ladder_has(&server, &record, "INVITE sip:colleague@", 1);
}

#[test]
fn the_operator_bridges_and_the_callers_hang_up_ends_both() {
    let _peace = in_peace();
    let colleague = colleague(&[]);
    let server = setup("operator", "").start_ready();
    let ((caller, colleague), record) = server.record_of(|| {
        let uri = colleague.uri("colleague");
        let colleague = colleague.listen();
        let caller = caller(&["--keys", "7", "--keys-at", "11", "--hang-up-at", "14"]);
        let caller = caller.dial(&server.uri("reception"));
        let id = server.answered_call();
        server.wait_for_words(&id, 1);
        server.told(&["calls", "transfer", &id, &uri, "--bridge"]);
        let busy = server.command(&["calls", "transfer", &id, &uri]);
        assert_eq!(busy.status.code(), Some(1), "{}", busy.output());
        (caller.finish(), colleague.finish())
    });
    assert_eq!(record.reason(), ("customer-ended-call", "customer"));
    assert_both_ways(&server, &record, &caller, &colleague);
    assert_eq!(colleague.first("key")["key"], "7", "keys are passed on");
}

#[test]
fn the_person_called_is_briefed_while_the_caller_hears_music_and_then_they_talk_without_us() {
    let _peace = in_peace();
    let colleague = colleague(&["--ring", "2", "--longest", "26"]);
    let plan = "mode = \"warm-transfer-say-message\", message = \"Here is somebody for you.\"";
    let server = setup("warm", &to(&colleague.uri("colleague"), plan)).start_ready();
    let ((caller, colleague), record) = server.record_of(|| {
        let colleague = colleague.listen();
        let options = ["--keys", "5", "--keys-at", "4", "--longest", "22"];
        let caller = caller(&options).dial(&server.uri("reception"));
        (caller.finish(), colleague.finish())
    });
    assert_eq!(record.reason(), ("assistant-forwarded-call", "assistant"));
    assert_eq!(caller.all("refer").len(), 1, "with Replaces");
    assert!(
        !colleague.all("replaced").is_empty(),
        "{:#?}",
        colleague.events
    );
    let briefing = colleague.heard().audible_seconds(0);
    assert!(briefing > 0.8, "{briefing} s of the briefing");
}

#[test]
fn a_person_who_was_briefed_is_bridged_where_the_callers_side_cannot_take_our_place() {
    let _peace = in_peace();
    let colleague = colleague(&["--hang-up-at", "8"]);
    let plan = "mode = \"warm-transfer-say-message\", message = \"Somebody for you.\"";
    let server = setup("warm-bridge", &to(&colleague.uri("colleague"), plan)).start_ready();
    let ((caller, colleague), record) = server.record_of(|| {
        let colleague = colleague.listen();
        let options = ["--refuse-refer", "603", "--keys", "5", "--keys-at", "4"];
        let caller = caller(&options).dial(&server.uri("reception"));
        (caller.finish(), colleague.finish())
    });
    let reason = ("assistant-forwarded-call", "transfer-destination");
    assert_eq!(record.reason(), reason, "the colleague hung up");
    assert_eq!(caller.all("refer").len(), 1, "with Replaces");
    assert_both_ways(&server, &record, &caller, &colleague);
}

#[test]
fn a_caller_is_taken_back_with_an_explanation_when_nobody_is_there() {
    let _peace = in_peace();
    let colleague = colleague(&["--status", "486"]);
    let plan = "sipVerb = \"dial\"";
    let server = setup("busy", &to(&colleague.uri("colleague"), plan)).start_ready();
    let (seen, record) = server.record_of(|| {
        let colleague = colleague.listen();
        let caller = Phone::new("caller").options(&["--keys", "5", "--keys-at", "4"]);
        let caller = caller.dial(&server.uri("reception"));
        let id = server.answered_call();
        server.wait_for_words(&id, 3);
        assert_eq!(server.live()[0]["status"], "in-progress");
        // The conversation goes on.
        server.told(&["calls", "say", &id, "I am still here."]);
        server.wait_for_words(&id, 4);
        server.told(&["calls", "hangup", &id]);
        colleague.finish();
        caller.finish()
    });
    let said: Vec<String> = record
        .said_by("bot")
        .into_iter()
        .map(|it| it.text)
        .collect();
    assert_eq!(said[1], "One moment, I'll put you through.");
    assert!(
        said[2].starts_with("I'm sorry, the line is busy."),
        "{said:?}"
    );
    assert_eq!(said[3], "I am still here.");
    assert!(seen.heard().audible_seconds(0) > 4.0);
}

#[test]
fn a_caller_may_not_send_us_anywhere() {
    let _peace = in_peace();
    let colleague = colleague(&["--longest", "12"]);
    let uri = colleague.uri("colleague");
    let server = setup("strangers", "").start_ready();
    let ((caller, colleague), record) = server.record_of(|| {
        let colleague = colleague.listen();
        let options = [
            "--transfer-to",
            &uri,
            "--transfer-at",
            "2",
            "--hang-up-at",
            "6",
        ];
        let caller = caller(&options).dial(&server.uri("reception"));
        (caller.finish(), colleague.finish())
    });
    assert_eq!(record.reason(), ("customer-ended-call", "customer"));
    assert!(!caller.all("asked-for-transfer").is_empty());
    assert!(
        server.log().contains("REFER is not permitted"),
        "{}",
        server.log()
    );
    assert!(colleague.all("called").is_empty());
}

/// A server that goes to the colleague when a caller asks it to.
fn open_to(name: &'static str, uri: &str) -> Server {
    let setup = setup(name, "").set("sip__refer_targets", &format!("[\"{uri}\"]"));
    setup.start_ready()
}

#[test]
fn a_caller_may_send_us_where_the_operator_permits_it() {
    let _peace = in_peace();
    let colleague = colleague(&["--longest", "30"]);
    let uri = colleague.uri("colleague");
    let server = open_to("sent-on", &uri);
    let ((caller, colleague), record) = server.record_of(|| {
        let colleague = colleague.listen();
        let caller = caller(&["--transfer-to", &uri, "--transfer-at", "3"]);
        let caller = caller.dial(&server.uri("reception"));
        let id = server.answered_call();
        // The colleague is greeted as the caller was.
        server.wait_for_words(&id, 2);
        let caller = caller.finish();
        server.told(&["calls", "hangup", &id]);
        (caller, colleague.finish())
    });
    assert_eq!(record.reason(), ("manually-canceled", "operator"));
    let last = caller.all("notify").pop().cloned().expect("a NOTIFY");
    assert_eq!(last["status"], 200, "{:#?}", caller.events);
    assert!(colleague.heard().audible_seconds(0) > 1.0);
    let recording = server.recording(&record);
    let heard = recording.tone_seconds(0, COLLEAGUE_HZ);
    assert!(heard > 1.0, "{heard} s of the colleague in the recording");
}

#[test]
fn a_caller_may_give_us_a_call_of_theirs_where_the_operator_permits_it() {
    let _peace = in_peace();
    let colleague = colleague(&["--longest", "40"]);
    let uri = colleague.uri("colleague");
    let server = open_to("given", &uri);
    let ((caller, colleague), record) = server.record_of(|| {
        let colleague = colleague.listen();
        let options = ["--second", &uri, "--second-at", "3"];
        let caller = caller(&options).options(&["--attend", "first", "--attend-at", "6"]);
        let caller = caller.dial(&server.uri("reception"));
        let id = server.answered_call();
        server.wait_for_words(&id, 2);
        let caller = caller.finish();
        server.told(&["calls", "hangup", &id]);
        (caller, colleague.finish())
    });
    assert_eq!(record.reason(), ("manually-canceled", "operator"));
    assert!(!colleague.all("replaced").is_empty(), "by our call");
    assert!(colleague.heard_in(1).audible_seconds(0) > 1.0);
    assert_eq!(caller.all("ended").len(), 2, "{:#?}", caller.events);
}

#[test]
fn somebody_else_takes_over_the_callers_side_and_the_call_goes_on() {
    let _peace = in_peace();
    let colleague = colleague(&["--longest", "40"]);
    let uri = colleague.uri("colleague");
    let server = setup("taken-over", "").start_ready();
    let ((caller, colleague), record) = server.record_of(|| {
        let colleague = colleague.listen();
        let options = ["--second", &uri, "--second-at", "3"];
        let caller = caller(&options).options(&["--attend", "second", "--attend-at", "6"]);
        let caller = caller.dial(&server.uri("reception"));
        let id = server.answered_call();
        let caller = caller.finish();
        until("a call with another party", SHORTLY, || {
            server.log().contains("a leg was taken over").then_some(())
        });
        server.told(&[
            "calls",
            "say",
            &id,
            "Here I am again, and I know who you are.",
        ]);
        server.wait_for_words(&id, 2);
        server.told(&["calls", "hangup", &id]);
        (caller, colleague.finish())
    });
    assert_eq!(record.reason(), ("manually-canceled", "operator"));
    assert_eq!(caller.all("ended").len(), 2, "{:#?}", caller.events);
    // The colleague's second call is the one with us.
    assert!(colleague.heard_in(1).audible_seconds(0) > 1.0);
    let recording = server.recording(&record);
    let heard = recording.tone_seconds(0, COLLEAGUE_HZ);
    assert!(heard > 1.0, "{heard} s of the colleague in the recording");
    assert!(recording.tone_seconds(0, CALLER_HZ) > 1.0, "one recording");
    until_the_ladder_has(&server, &record, "INVITE sip:reception@", 2);
}

/// A SIPp caller who is passed on by the operator's command.
fn passed_on(scenario: Sipp, server: &Server, target: &str, wanted: usize) -> Record {
    let ((), record) = server.record_of(|| {
        let caller = scenario.with("REFER_TO", target).dial(server, "reception");
        let id = server.answered_call();
        server.wait_for_words(&id, 1);
        server.told(&["calls", "transfer", &id, target]);
        if wanted > 0 {
            server.wait_for_words(&id, wanted);
            server.told(&["calls", "hangup", &id]);
        }
        caller.must_go_by_the_scenario();
    });
    record
}

#[test]
fn an_accepted_refer_is_followed_and_ended_with_bye_at_once() {
    let server = setup("refer", "").start_ready();
    let target = "sip:colleague@127.0.0.1:9";
    let record = passed_on(Sipp::new("refer_accepted"), &server, target, 0);
    assert_eq!(record.reason(), ("assistant-forwarded-call", "assistant"));
}

#[test]
fn a_caller_whose_side_finds_nobody_is_taken_back() {
    let _peace = in_peace();
    let server = setup("refer-busy", "").start_ready();
    let target = "sip:colleague@127.0.0.1:9";
    let record = passed_on(Sipp::new("refer_failed"), &server, target, 3);
    assert_eq!(record.reason(), ("manually-canceled", "operator"));
    let said = record.said_by("bot");
    assert!(said[2].text.contains("the line is busy"), "{said:?}");
}

#[test]
fn a_refused_refer_is_bridged_by_us_and_the_callers_bye_ends_both() {
    let server = setup("refer-refused", "").start_ready();
    for status in ["403", "405", "603"] {
        let colleague = Sipp::new("callee_answers").with("WANTED", "INVITE sip:colleague@");
        let target = format!("sip:colleague@{}", colleague.address());
        let colleague = colleague.listen();
        let caller = Sipp::new("refer_refused").with("STATUS", status);
        let record = passed_on(caller, &server, &target, 0);
        assert_eq!(record.reason(), ("customer-ended-call", "customer"));
        // Our BYE reached the colleague too.
        colleague.must_go_by_the_scenario();
    }
}

#[test]
fn the_longest_call_is_no_longer_through_a_bridge() {
    let colleague = Sipp::new("callee_answers").with("WANTED", "INVITE sip:colleague@");
    let target = format!("sip:colleague@{}", colleague.address());
    let server = setup("longest", "maxDurationSeconds = 12").start_ready();
    let ((), record) = server.record_of(|| {
        let colleague = colleague.listen();
        let caller = Sipp::new("callee_hangs_up").dial(&server, "reception");
        let id = server.answered_call();
        server.wait_for_words(&id, 1);
        server.told(&["calls", "transfer", &id, &target, "--bridge"]);
        colleague.must_go_by_the_scenario();
        caller.must_go_by_the_scenario();
    });
    assert_eq!(record.text("endedReason"), "exceeded-max-duration");
}

const ASKED: &str = "sipVerb = \"dial\", mode = \"warm-transfer-say-message\", \
                     message = \"Press one.\", acceptDigit = \"1\"";

#[test]
fn a_person_who_takes_the_call_by_key_gets_the_caller() {
    let _peace = in_peace();
    let colleague = colleague(&["--keys", "1", "--keys-at", "3", "--hang-up-at", "8"]);
    let server = setup("accepted", &to(&colleague.uri("colleague"), ASKED)).start_ready();
    let ((caller, colleague), record) = server.record_of(|| {
        let colleague = colleague.listen();
        let caller = caller(&["--keys", "5", "--keys-at", "4"]).dial(&server.uri("reception"));
        (caller.finish(), colleague.finish())
    });
    let reason = ("assistant-forwarded-call", "transfer-destination");
    assert_eq!(record.reason(), reason);
    assert_both_ways(&server, &record, &caller, &colleague);
}

/// Somebody who was asked for a key does not get the caller, who is taken back and told why.
fn assert_does_not_take_the_call(name: &'static str, pressed: &[&str], told: &str) {
    let colleague = colleague(pressed);
    let server = setup(name, &to(&colleague.uri("colleague"), ASKED)).start_ready();
    let (colleague, record) = server.record_of(|| {
        let colleague = colleague.listen();
        let options = ["--keys", "5", "--keys-at", "4"];
        let caller = caller(&options).dial(&server.uri("reception"));
        let id = server.answered_call();
        server.wait_for_words(&id, 3);
        server.told(&["calls", "hangup", &id]);
        caller.finish();
        colleague.finish()
    });
    let said = record.said_by("bot");
    assert!(said[2].text.contains(told), "{said:?}");
    assert_eq!(colleague.heard().tone_seconds(0, CALLER_HZ), 0.0);
}

#[test]
fn a_person_who_refuses_by_key_does_not_get_the_caller_who_is_taken_back() {
    let _peace = in_peace();
    let pressed = ["--keys", "2", "--keys-at", "3"];
    assert_does_not_take_the_call("declined", &pressed, "could not put you through");
}

#[test]
fn a_person_or_machine_that_presses_nothing_does_not_get_the_caller() {
    let _peace = in_peace();
    assert_does_not_take_the_call("undecided", &[], "nobody is answering");
}
