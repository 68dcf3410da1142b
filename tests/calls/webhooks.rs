//! Numbers whose servers say who answers, and what servers are told of calls.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use serde_json::{Value, json};

use crate::in_peace;
use crate::support::phone::Phone;
use crate::support::program::{Program, Told, receiver};
use crate::support::record::Record;
use crate::support::server::{Server, Setup};
use crate::support::sipp::Sipp;
use crate::support::softphone::{Softphone, call, refused};
use crate::support::sound::write_tone;
use crate::support::{tcp_port, until};

const PATIENCE: Duration = Duration::from_secs(60);

/// A caller who waits for the other side to hang up.
const STAY: [&str; 2] = ["--quiet", "20000"];

/// Longer than a number's server is given.
const TOO_LONG: Duration = Duration::from_secs(3600);

/// What each server of a number says, by its path; all others are told at `/hook`.
fn servers(told: Told, colleague: String) -> Router {
    type Asked = Arc<(Told, String)>;
    async fn own(State(asked): State<Asked>, body: String) -> String {
        // As slow as somebody who looks the caller up.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let message: Value = serde_json::from_str(&body).expect("JSON");
        let message = message["message"].clone();
        let number = message["call"]["phoneNumberId"].as_str().expect("a number");
        let hello = format!("Hello, this is number {}.", &number[number.len() - 1..]);
        asked.0.lock().expect("no panic").push(message);
        json!({ "assistant": { "firstMessage": hello, "serverMessages": ["end-of-call-report"] } })
            .to_string()
    }
    async fn destination(State(asked): State<Asked>) -> String {
        json!({ "destination": { "type": "sip", "sipUri": asked.1 } }).to_string()
    }
    let closed = || async { json!({ "error": "We are closed today." }).to_string() };
    let never = || async {
        tokio::time::sleep(TOO_LONG).await;
        String::new()
    };
    Router::new()
        .route("/own", post(own))
        .route("/destination", post(destination))
        .route("/closed", post(closed))
        .route("/never", post(never))
        .route("/garbage", post(|| async { "<html>" }))
        .with_state(Arc::new((Arc::clone(&told), colleague)))
        .merge(receiver(told))
}

/// A server with a number for each of those.
fn setup(port: u16) -> Setup {
    let number = |number: &str, path: &str, more: &str| {
        format!(
            r#"
            [[numbers]]
            number = "{number}"
            server = {{ url = "http://127.0.0.1:{port}/{path}", secret = "hush" }}
            {more}
            "#
        )
    };
    let numbers = [
        number("+15550000001", "own", ""),
        number("+15550000002", "destination", ""),
        number("+15550000003", "closed", ""),
        number("+15550000004", "never", ""),
        number("+15550000005", "garbage", ""),
    ]
    .concat();
    Setup::new("asks").file(&format!(
        r#"
        [webhooks]
        allow = ["127.0.0.0/8"]
        {numbers}
        [assistants.reception]
        firstMessage = "Hello there."
        [[numbers]]
        number = "+15550000009"
        assistant = "reception"
        "#
    ))
}

fn spoken(record: &Record) -> Vec<String> {
    let said = record.said_by("bot").into_iter();
    said.map(|message| message.text).collect()
}

/// The report of a call that its server got.
fn report(told: &Told, id: &str) -> Value {
    until("its report", PATIENCE, || {
        let told = told.lock().expect("no panic");
        let mut reports = told.iter().filter(|message| {
            message["type"] == "end-of-call-report" && message["call"]["id"] == id
        });
        reports.next().cloned()
    })
}

#[test]
fn a_numbers_server_says_who_answers_while_the_caller_hears_it_ring() {
    let _peace = in_peace();
    let port = tcp_port();
    let told = Told::default();
    let colleague = Phone::new("colleague").options(&["--hang-up-at", "4"]);
    let tone = colleague.path("tone.wav");
    write_tone(1300.0, 30.0, &tone);
    let colleague = colleague.plays(&tone);
    let uri = colleague.uri("colleague");
    let program = Program::serve(port, servers(Arc::clone(&told), uri));
    let server = setup(port).start_ready();

    an_assistant_of_the_servers_answers(&server, &told);
    the_caller_is_passed_on(&server, colleague);
    the_caller_hears_why_nobody_answers(&server);
    a_caller_who_waits_in_vain_hears_an_apology(&server);
    a_caller_may_give_up_while_it_is_asked(&server);
    assert!(!server.log().contains("hush"));
    drop(program);
}

fn an_assistant_of_the_servers_answers(server: &Server, told: &Told) {
    let (_, record) = server.record_of(|| call(server, "+15550000001", &[], &[]));
    assert_eq!(spoken(&record)[0], "Hello, this is number 1.");
    let request = told.lock().expect("no panic")[0].clone();
    assert_eq!(request["type"], "assistant-request");
    assert_eq!(request["call"]["id"], record.text("id"));
    assert_eq!(request["phoneNumber"]["number"], "+15550000001");
    assert!(!request.to_string().contains("hush"));
    // Its own has no server: the number's is told.
    let report = report(told, record.text("id"));
    assert_eq!(report["endedReason"], record.text("endedReason"));
    let transcript = report["artifact"]["transcript"].as_str();
    assert_eq!(transcript, Some("AI: Hello, this is number 1.\n"));
    let recording = report["artifact"]["recordingUrl"].as_str();
    let expected = format!(
        "{}/call/{}/mono-recording",
        server.base(),
        record.text("id")
    );
    assert_eq!(recording, Some(expected.as_str()));
}

fn the_caller_is_passed_on(server: &Server, colleague: Phone) {
    let ((caller, _), record) = server.record_of(|| {
        let colleague = colleague.listen();
        let caller = Phone::new("caller").dial(&server.uri("+15550000002"));
        (caller.finish(), colleague.finish())
    });
    let reason = "assistant-request-returned-forwarding-phone-number";
    assert_eq!(record.text("endedReason"), reason, "{:#}", record.0);
    // The two talk without us, in the caller's second call.
    let heard = caller.heard_in(1).tone_seconds(0, 1300.0);
    assert!(heard > 1.5, "{heard} s of the colleague");
}

fn the_caller_hears_why_nobody_answers(server: &Server) {
    let (_, record) =
        server.record_of(|| Softphone::dial(server, "+15550000003", &[], &STAY).report());
    assert_eq!(spoken(&record), ["We are closed today."]);
    let reason = "assistant-request-returned-error";
    assert_eq!(record.reason(), (reason, "assistant"), "{:#}", record.0);
}

fn a_caller_who_waits_in_vain_hears_an_apology(server: &Server) {
    for number in ["+15550000004", "+15550000005"] {
        let (_, record) = server.record_of(|| Softphone::dial(server, number, &[], &STAY).report());
        let said = spoken(&record);
        assert!(said[0].starts_with("I'm sorry"), "{said:?}");
        let reason = ("assistant-request-failed", "assistant");
        assert_eq!(record.reason(), reason, "{:#}", record.0);
    }
}

fn a_caller_may_give_up_while_it_is_asked(server: &Server) {
    let (_, record) = server.record_of(|| {
        let caller = Sipp::new("cancelled").dial(server, "+15550000004");
        caller.must_go_by_the_scenario();
    });
    assert_eq!(record.reason(), ("customer-canceled", "customer"));
}

#[test]
fn calls_that_nobody_answered_or_that_a_crash_ended_are_reported() {
    let _peace = in_peace();
    let port = tcp_port();
    let told = Told::default();
    let _program = Program::serve(port, receiver(Arc::clone(&told)));
    let busy = Sipp::new("callee_refuses")
        .with("STATUS", "486")
        .with("HEADER", "X-A: b");
    let server = Setup::new("reports")
        .set("limits__max_calls", "1")
        .file(&format!(
            r#"
            [webhooks]
            allow = ["127.0.0.0/8"]
            server = {{ url = "http://127.0.0.1:{port}/hook" }}
            [trunks.carrier.outbound]
            host = "{}"
            destinations = ["+49*"]
            [assistants.reception]
            firstMessage = "Hello there."
            "#,
            busy.address()
        ))
        .start_ready();
    let busy = busy.listen();
    let (_, record) = server
        .record_of(|| server.command(&["dial", "reception", "+49 30 1234", "--wait", "--json"]));
    busy.must_go_by_the_scenario();
    let id = record.text("id");
    assert_eq!(report(&told, id)["endedReason"], "customer-busy");
    let statuses = || {
        let told = told.lock().expect("no panic");
        let of_call = told.iter().filter(|message| message["call"]["id"] == id);
        let statuses = of_call.filter_map(|message| message["status"].as_str());
        statuses.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(statuses().last().map(String::as_str), Some("ended"));

    let phone = Softphone::dial(&server, "reception", &[], &STAY);
    let live = until("a call", PATIENCE, || server.live().pop());
    let id = live["id"].as_str().expect("an id").to_owned();
    server.wait_for_words(&id, 1);
    let (_, turned_away) = server.record_of(|| refused(&server, "reception"));
    let turned_away = report(&told, turned_away.text("id"));
    assert_eq!(turned_away["endedReason"], "admission-refused");
    server.kill();
    drop(phone);
    let again = server.same_again().start_ready();
    let crashed = report(&told, &id);
    assert_eq!(crashed["endedReason"], "server-crashed");
    assert_eq!(crashed["artifact"]["transcript"], "AI: Hello there.\n");
    drop(again);
}
