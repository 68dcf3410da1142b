//! The dashboard in a real browser, while somebody is on the phone.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::in_peace;
use crate::support::phone::Phone;
use crate::support::process::run;
use crate::support::record::share_understood;
use crate::support::server::{Server, Setup, offhook};
use crate::support::sound::write_padded;
use crate::support::{sources, speech, until};

/// Every page twice, axe-core on each, on a busy machine.
const TOUR: Duration = Duration::from_secs(300);

const PASSWORD: &str = "an operator's password";

/// Where playwright-core and axe-core are.
fn modules() -> PathBuf {
    let folder = std::env::var_os("OFFHOOK_BROWSER_MODULES");
    folder.map_or_else(|| PathBuf::from("target/browser"), PathBuf::from)
}

/// Makes an operator as the command line does it, the password on its standard input.
fn make_operator(server: &Server, name: &str) {
    let mut making = offhook()
        .args(["operator", "create", "--password-stdin", "--name", name])
        .arg("--data")
        .arg(&server.data)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("offhook");
    let mut input = making.stdin.take().expect("piped");
    writeln!(input, "{PASSWORD}").expect("read");
    drop(input);
    assert!(making.wait().expect("ours").success());
}

/// What the browser saw in a script's hands; its screenshots are kept where somebody wants to look
/// at them.
fn drive(server: &Server, script: &str, more: &[&Path]) -> Value {
    let kept = std::env::var_os("OFFHOOK_SCREENSHOTS").map(PathBuf::from);
    let screenshots = kept.unwrap_or_else(|| server.path("screenshots"));
    std::fs::create_dir_all(&screenshots).expect("a folder");
    let mut browser = Command::new("node");
    browser
        .arg(sources().join("browser").join(script))
        .arg(modules())
        .arg(server.base())
        .args(["ann", PASSWORD])
        .arg(&screenshots)
        .args(more);
    if let Some(pages) = std::env::var_os("OFFHOOK_UI") {
        browser.arg(Path::new(&pages));
    }
    let finished = run(&mut browser, TOUR);
    assert!(finished.status.success(), "{}", finished.output());
    serde_json::from_str(&finished.stdout).expect("one line of JSON")
}

#[test]
fn an_operator_follows_hears_and_ends_a_call_in_the_browser_and_plays_it_afterwards() {
    let _peace = in_peace();
    let server = Setup::new("dashboard")
        .file(
            r#"
            [assistants.reception]
            firstMessage = "Hello there, this is the reception."
            messagePlan = { idleMessages = [] }
            silenceTimeoutSeconds = 300
            [assistants.reception.model]
            systemPrompt = "You are the receptionist of a small shop. Answer with one short sentence."
            maxTokens = 30

            [[numbers]]
            number = "+15550100"
            assistant = "reception"

            [trunks.office]
            profile = "freepbx"
            registrar = "127.0.0.1:9"
            username = "200"
            password = "secret-of-200"

            [mailboxes.desk]
            "#,
        )
        .start_ready();
    make_operator(&server, "ann");
    let (seen, record) = server.record_of(|| {
        // Silent: the operator's words wait for a caller who speaks.
        let phone = Phone::new("caller").dial(&server.uri("reception"));
        let id = server.answered_call();
        let tour = drive(&server, "dashboard.mjs", &[]);
        // The browser has ended the call, and the telephone knows.
        let heard = phone.finish().heard();
        assert!(heard.audible_seconds(0) > 2.0, "the operator's words");
        (tour, id)
    });
    let (tour, id) = seen;
    assert_eq!(tour["faults"], serde_json::json!([]), "{tour:#}");
    assert_eq!(tour["errors"], serde_json::json!([]), "{tour:#}");
    let seen = &tour["seen"];
    assert_eq!(seen["call"], id.as_str());
    assert_eq!(record.reason(), ("manually-canceled", "operator"));
    assert!(seen["heardSeconds"].as_f64() > Some(2.0), "{seen:#}");
    assert!(
        seen["played"].as_f64() > seen["lineSeconds"].as_f64(),
        "{seen:#}"
    );
    assert!(
        seen["mistake"]
            .as_str()
            .is_some_and(|it| it.contains("from 1 to 3600")),
        "{seen:#}"
    );
    assert!(
        seen["ladder"].as_u64() >= Some(5),
        "INVITE to BYE: {seen:#}"
    );
    assert_eq!(seen["cookiesLeft"], 0, "{seen:#}");
    assert!(!server.log().contains(PASSWORD));
}

#[test]
fn an_operator_talks_to_an_assistant_by_the_browser_s_microphone() {
    let _peace = in_peace();
    let server = Setup::new("microphone")
        .file(
            r#"
            [assistants.reception]
            firstMessage = "Hello there."
            messagePlan = { idleMessages = [] }
            [assistants.reception.model]
            systemPrompt = "You are the receptionist of a small shop. Answer with one short sentence."
            maxTokens = 30

            # Whoever dials reaches nobody; the dashboard reaches its assistant all the same.
            [[numbers]]
            number = "*"
            service = "voicemail-menu"

            [mailboxes.desk]
            number = "200"
            pin = "4711"
            "#,
        )
        .start_ready();
    make_operator(&server, "ann");
    let said = server.path("said.wav");
    write_padded(&speech("order_status"), 6.0, 300.0, &said);
    let before = server.held().udp;
    let (tour, record) = server.record_of(|| drive(&server, "talk.mjs", &[&said]));
    until("the sockets of the call to be closed", TOUR, || {
        (server.held().udp == before).then_some(())
    });
    assert_eq!(tour["errors"], serde_json::json!([]), "{tour:#}");
    assert_eq!(tour["faults"], serde_json::json!([]), "{tour:#}");
    let seen = &tour["seen"];
    assert_eq!(seen["call"], record.text("id"));
    let understood = share_understood(
        "I'd like to check my order status, please.",
        &record.words_of_user(),
    );
    assert!(understood > 0.7, "{record:#?}");
    // The greeting, and an answer.
    assert!(record.said_by("bot").len() >= 2, "{record:#?}");
    assert_eq!(record.reason(), ("customer-ended-call", "customer"));
    assert_eq!(record.text("codec"), "G722");
    assert_eq!(seen["over"], "The call is over: You hung up.");
    let denied = seen["denied"].as_str().unwrap_or_default();
    assert!(denied.contains("Allow it"), "{seen:#}");
    let insecure = seen["insecure"].as_str().unwrap_or_default();
    assert!(insecure.contains("HTTPS"), "{seen:#}");
}
