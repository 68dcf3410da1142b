//! Messages: left by telephones in bad weather, kept through a crash, and heard again by key.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::in_peace;
use crate::support::phone::Phone;
use crate::support::pjsip::{Caller, Seen, python};
use crate::support::process::Running;
use crate::support::record::share_understood;
use crate::support::relay::{Relay, Weather};
use crate::support::server::{Server, Setup};
use crate::support::sipp::Sipp;
use crate::support::softphone::{Softphone, argument};
use crate::support::sound::{Sound, likeness, write_padded};
use crate::support::{Folder, sources, speech, udp_port, until};

/// Writing a row and a transcript on a busy machine.
const SHORTLY: Duration = Duration::from_secs(60);

/// A recorded caller begins to speak this long after the answer, in seconds: the greeting and the
/// tone are over.
const AFTER_THE_BEEP: f64 = 4.5;

const LINE: &str = "I'd like to check my order status, please.";

fn office(name: &'static str) -> Setup {
    Setup::new(name).file(
        r#"
        numbers = [
          { number = "200", mailbox = "office" },
          { number = "*97", service = "voicemail-menu" },
          { number = "closed", assistant = "reception", mailbox = "closed" },
          { number = "reception", assistant = "reception" },
        ]
        [assistants.reception]
        firstMessage = "Hello there."
        messagePlan = { idleMessages = [] }
        [assistants.reception.mailboxPlan]
        mailbox = "office"
        digit = "9"
        message = "One moment."
        [limits.assistants.reception]
        max_calls = 1

        [trunks.carrier]
        allow = ["127.0.0.1"]
        caller_headers = ["p-asserted-identity", "from"]

        [mailboxes.office]
        number = "200"
        pin = "4711"
        greeting = "Please leave a message."
        silence_seconds = 4
        diverted_from = ["030888"]
        [mailboxes.closed]
        greeting = "We are closed."
        max_messages = 1
        hours = { open = [] }
        "#,
    )
}

fn messages(server: &Server) -> Vec<Value> {
    let listed = server.told(&["voicemail"]);
    listed.as_array().expect("a list").clone()
}

/// Waits for so many messages that are complete; the newest first.
fn wait_for_messages(server: &Server, count: usize) -> Vec<Value> {
    until("messages", SHORTLY, || {
        let all = messages(server);
        let complete = all.iter().all(|message| message["state"] != "recording");
        (all.len() == count && complete).then_some(all)
    })
}

/// Waits for a message's transcript.
fn transcript(server: &Server, message: &Value) -> String {
    let id = message["id"].as_str().expect("an id");
    until("a transcript", SHORTLY, || {
        let shown = server.told(&["voicemail", "show", id]);
        assert_ne!(shown["transcription"], "failed", "{shown}");
        Some(shown["transcript"].as_str()?.to_owned())
    })
}

fn sound(server: &Server, message: &Value) -> Sound {
    Sound::read(&server.data.join(message["file"].as_str().expect("a file")))
}

/// PJSIP leaves the line and hangs up.
fn leave(server: &Server, uri: &str, hang_up: f64) -> Seen {
    let (play, heard) = (server.path("leaves.wav"), server.path("heard.wav"));
    write_padded(&speech("order_status"), AFTER_THE_BEEP, 20.0, &play);
    let caller = Caller {
        codec: "PCMU",
        play: &play,
        record: &heard,
        keys: None,
        hang_up: Some(hang_up),
        credentials: None,
        extensions_required: false,
    };
    caller.dial_uri(uri, &[])
}

#[test]
fn a_message_left_in_bad_weather_is_transcribed_and_heard_again_by_key() {
    let _peace = in_peace();
    let server = office("voicemail").start_ready();
    let weather = Weather {
        loss: 0.05,
        jitter: Duration::from_millis(30),
        seed: 4,
    };
    let relay = Relay::before(&server.sip, weather);
    let (seen, record) = server.record_of(|| leave(&server, &relay.uri("200"), 10.0));
    assert!(seen.answered);
    let (passed, lost) = relay.counts();
    assert!(lost >= 8, "{lost} of {} packets were lost", passed + lost);
    assert_eq!(record.text("mailbox"), "office");
    assert_eq!(record.reason(), ("customer-ended-call", "customer"));
    let message = wait_for_messages(&server, 1).remove(0);
    assert_eq!(message["mailbox"], "office");
    assert_eq!(message["reason"], "called");
    assert_eq!(message["ended"], "hung-up");
    let words = transcript(&server, &message);
    assert!(
        share_understood(LINE, &crate::support::record::words(&words)) >= 0.6,
        "{words:?}"
    );
    let left = sound(&server, &message);
    let said = Sound::read(&speech("order_status"));
    let alike = likeness(&said.channels[0], &left.channels[0]);
    assert!(alike > 0.8, "what is kept is what was said: {alike}");
    let seconds = message["durationMs"].as_u64().expect("ms") as f64 / 1000.0;
    assert!((left.seconds() - seconds).abs() < 0.05);

    let id = message["id"].as_str().expect("an id").to_owned();
    let owner = |presses: &[&str], name: &str| {
        let mut phone = Phone::new(name);
        for press in presses {
            phone = phone.options(&["--press", press]);
        }
        phone.dial(&server.uri("*97")).finish()
    };
    // Heard to its end, and hung up on: it is still new.
    let heard = owner(&["200#4711#@2", "2@18", "#@22"], "owner");
    let again = likeness(&said.channels[0], &heard.heard().channels[0]);
    let other = likeness(
        &Sound::read(&speech("help_me")).channels[0],
        &heard.heard().channels[0],
    );
    eprintln!("likeness: kept {alike:.3}, heard again {again:.3}, other speech {other:.3}");
    assert!(
        again > 0.75 && again > other + 0.1,
        "{again}, other speech {other}"
    );
    let shown = server.told(&["voicemail", "show", &id]);
    assert_eq!(shown["state"], "saved");
    // A wrong PIN reaches nothing; the right one deletes.
    owner(&["200#0000#@2", "200#4711#@9", "3@20"], "deletes");
    until("the message to be deleted", SHORTLY, || {
        messages(&server).is_empty().then_some(())
    });
    let file = server.data.join(message["file"].as_str().expect("a file"));
    assert!(!file.exists());
    let log = server.log();
    assert!(!log.contains("4711"), "no PIN in the log");
}

#[test]
fn a_killed_server_loses_at_most_the_last_second_of_a_message() {
    let _peace = in_peace();
    let data = Folder::new("voicemail-data");
    let server = office("killed").data(data.path()).start_ready();
    let play = server.path("talks.wav");
    write_padded(&speech("help_me"), AFTER_THE_BEEP, 0.5, &play);
    let phone = Phone::new("talker").plays(&play);
    let busy = phone.dial(&server.uri("200"));
    let begun = until("a message that is being left", SHORTLY, || {
        let message = messages(&server).pop()?;
        let at = message["createdAt"].as_str().expect("a time");
        let at = OffsetDateTime::parse(at, &Rfc3339).expect("a time");
        (OffsetDateTime::now_utc() - at > Duration::from_secs(6)).then_some((at, message))
    });
    server.kill();
    let killed = OffsetDateTime::now_utc();
    let (at, message) = begun;
    let path = data.path().join(message["file"].as_str().expect("a file"));
    let spoken = (killed - at).as_seconds_f64();
    let kept = Sound::read(&path).seconds();
    eprintln!("killed after {spoken:.2} s of the message; {kept:.2} s of it play at once");
    assert!(kept > spoken - 1.0, "{kept} s of {spoken} s can be played");

    let again = server.same_again();
    drop(busy);
    let server = again.start_ready();
    let recovered = wait_for_messages(&server, 1).remove(0);
    assert_eq!(recovered["id"], message["id"]);
    assert_eq!(recovered["ended"], "crashed");
    assert_eq!(recovered["state"], "new");
    let seconds = sound(&server, &recovered).seconds();
    eprintln!("{seconds:.2} s after the restart");
    assert!(
        seconds > spoken - 1.0,
        "{seconds} s of {spoken} s were recovered"
    );
    assert!(!transcript(&server, &recovered).is_empty());
}

#[test]
fn a_caller_reaches_the_mailbox_for_each_reason() {
    let _peace = in_peace();
    let server = office("reasons").start_ready();
    let line = [speech("order_status")];
    let heard = server.path("heard.wav");
    let record = ["--record", argument(&heard)];
    // Outside its hours.
    Softphone::dial(&server, "closed", &line, &record).report();
    // A key, while the assistant talks.
    Softphone::dial(&server, "reception", &line, &["--dtmf", "9"]).report();
    // Every line of the assistant is busy.
    let busy = Phone::new("busy").options(&["--hang-up-at", "30"]);
    let busy = busy.dial(&server.uri("reception"));
    let id = server.answered_call();
    Softphone::dial(&server, "reception", &line, &[]).report();
    // The operator sends that caller there.
    server.told(&["calls", "voicemail", &id, "--mailbox", "closed"]);
    let seen = busy.finish();
    assert!(!seen.all("ended").is_empty());
    let all = wait_for_messages(&server, 3);
    let reasons: Vec<&str> = all
        .iter()
        .map(|message| message["reason"].as_str().expect("a reason"))
        .collect();
    assert_eq!(
        reasons,
        ["busy", "asked", "out-of-hours"],
        "the newest first"
    );
    assert_eq!(all[2]["mailbox"], "closed");
    for message in &all {
        assert_eq!(message["ended"], "silence", "{message}");
        let seconds = sound(&server, message).seconds();
        assert!((2.0..12.0).contains(&seconds), "{seconds} s");
    }
    let thanked = Sound::read(&heard);
    assert!(
        thanked.audible_seconds(0) > 2.0,
        "a greeting, a tone and thanks"
    );
    // What is full takes no more, and says so.
    Softphone::dial(&server, "closed", &[], &record).report();
    let full = Sound::read(&heard);
    assert!(full.audible_seconds(0) > 2.0, "an explanation");
    wait_for_messages(&server, 3);
    // Whoever called its owner and was diverted to us.
    let (_, record) = server.record_of(|| {
        Sipp::new("carrier")
            .with("MS", "6000")
            .dial(&server, "reception")
            .must_go_by_the_scenario();
    });
    assert_eq!(record.text("mailbox"), "office");
    assert_eq!(record.text("divertedFrom"), "030888");
    assert_eq!(server.counted("sip_legs"), 0);
}

#[test]
fn a_mailbox_explains_a_full_disk_and_needs_no_database() {
    let _peace = in_peace();
    let server = office("no-room")
        .set("recording__minimum_free_megabytes", "100000000")
        .start();
    until("the phrases", Duration::from_secs(120), || {
        let (_, components) = server.readiness();
        (components["phrases"]["status"] == "ready").then_some(())
    });
    let heard = server.path("heard.wav");
    let options = ["--record", argument(&heard)];
    let (_, record) = server.record_of(|| {
        Softphone::dial(&server, "200", &[], &options).report();
    });
    assert_eq!(record.text("mailbox"), "office");
    let heard = Sound::read(&heard);
    assert!(heard.audible_seconds(0) > 2.5, "the explanation");
    assert!(messages(&server).is_empty());
    assert!(is_empty(&server.data.join("voicemail/office")));
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).map_or(true, |mut files| files.next().is_none())
}

#[test]
fn a_message_is_taken_while_the_database_is_locked_and_written_down_later() {
    let _peace = in_peace();
    let server = office("locked-mailbox").start_ready();
    let lock = "import sqlite3, sys, time\n\
         database = sqlite3.connect(sys.argv[1], isolation_level=None)\n\
         database.execute('BEGIN IMMEDIATE')\n\
         print('locked', flush=True)\n\
         time.sleep(25)";
    let mut locks = Command::new("python3");
    locks.args(["-c", lock]).arg(server.data.join("offhook.db"));
    let locks = Running::start(&mut locks);
    std::thread::sleep(Duration::from_secs(1));
    let heard = server.path("heard.wav");
    let line = [speech("order_status")];
    let options = ["--record", argument(&heard)];
    Softphone::dial(&server, "200", &line, &options).report();
    assert!(
        messages(&server).is_empty(),
        "nothing can be written down yet"
    );
    assert!(!is_empty(&server.data.join("voicemail/office")));
    let thanked = Sound::read(&heard);
    assert!(
        thanked.audible_seconds(0) > 3.0,
        "a greeting, a tone and thanks"
    );
    locks.finish(Duration::from_secs(60));
    let message = wait_for_messages(&server, 1).remove(0);
    assert_eq!(message["ended"], "silence");
    assert!(sound(&server, &message).seconds() > 3.0);
}

#[test]
fn an_owner_hears_messages_though_nothing_can_speak() {
    let _peace = in_peace();
    let data = Folder::new("mute-data");
    let server = office("speaks").data(data.path()).start_ready();
    let line = [speech("order_status")];
    Softphone::dial(&server, "200", &line, &[]).report();
    wait_for_messages(&server, 1);
    // What owners hear is spoken ahead once the server is ready.
    let (_, owners) = offhook::voicemail::prompts();
    until("the words of the menu", Duration::from_secs(120), || {
        let spoken = std::fs::read_dir(data.path().join("phrases")).expect("a folder");
        (spoken.count() > owners.len() + 10).then_some(())
    });
    server.terminate();
    server.wait_for_exit();
    // No worker at all: neither ears nor mind nor voice.
    let mute = server.same_again();
    let mute = mute.set("engines__folder", argument(data.path())).start();
    until("the prompts", Duration::from_secs(120), || {
        let (_, components) = mute.readiness();
        (components["phrases"]["status"] == "ready").then_some(())
    });
    let heard = mute.path("owner.wav");
    let options = [
        "--dtmf",
        "200#4711#",
        "--record",
        argument(&heard),
        "--quiet",
        "4000",
    ];
    Softphone::dial(&mute, "*97", &[], &options).report();
    let said = Sound::read(&speech("order_status"));
    let heard = Sound::read(&heard);
    let alike = likeness(&said.channels[0], &heard.channels[0]);
    eprintln!("without a voice the message is heard with likeness {alike:.3}");
    assert!(alike > 0.8, "{alike}");
    assert!(heard.audible_seconds(0) > 8.0, "questions, count, message");
}

#[test]
fn whoever_is_not_put_through_leaves_a_message() {
    let _peace = in_peace();
    let phone = Phone::new("away").options(&["--status", "486", "--ring", "1"]);
    let server = Setup::new("not-through")
        .file(&format!(
            r#"
            [trunks.carrier.outbound]
            host = "{}"
            destinations = ["+49*"]
            [assistants.reception]
            firstMessage = "Hello there."
            messagePlan = {{ idleMessages = [] }}
            [[assistants.reception.transfers]]
            destination = {{ type = "number", number = "+49301234", transferPlan = {{ sipVerb = "dial" }} }}
            digit = "0"
            mailbox = "ann"
            [mailboxes.ann]
            greeting = "Ann is on the phone."
            busy_greeting = "Ann is talking to somebody else."
            "#,
            phone.address()
        ))
        .start_ready();
    let away = phone.listen();
    let line = [speech("order_status")];
    Softphone::dial(
        &server,
        "reception",
        &line,
        &["--dtmf", "0", "--quiet", "4000"],
    )
    .report();
    let message = wait_for_messages(&server, 1).remove(0);
    assert_eq!(message["mailbox"], "ann");
    assert_eq!(message["reason"], "busy");
    away.finish();
}

#[test]
fn message_lamps_follow_the_mailbox_subscribed_or_not() {
    let _peace = in_peace();
    let lamp = Sipp::new("message_lamp").arguments(&["-m", "4", "-trace_logs"]);
    let notify = format!("notify = [\"sip:200@{}\"]", lamp.address());
    let lamp = lamp.listen();
    let server = Setup::new("lamps")
        .file(&format!(
            r#"
            numbers = [{{ number = "200", mailbox = "office" }}]
            [mailboxes.office]
            number = "200"
            pin = "4711"
            greeting = "Please leave a message."
            {notify}
            "#
        ))
        .start_ready();
    let lit = |what: &str| {
        until(what, SHORTLY, || lamp.logged().contains(what).then_some(()));
    };
    lit("Messages-Waiting: no, Voice-Message: 0/0");
    let mut phone = Command::new(python());
    phone
        .arg(sources().join("peers/pjsip_mwi.py"))
        .arg(server.uri("200"))
        .args(["--port", &udp_port().to_string()]);
    let phone = Running::start(&mut phone);
    until("a subscription", SHORTLY, || {
        (server.counted("sip_subscriptions") == 1).then_some(())
    });
    let line = [speech("order_status")];
    Softphone::dial(&server, "200", &line, &[]).report();
    lit("Messages-Waiting: yes, Voice-Message: 1/0");
    let message = wait_for_messages(&server, 1).remove(0);
    let id = message["id"].as_str().expect("an id");
    server.told(&["voicemail", "save", id]);
    lit("Messages-Waiting: no, Voice-Message: 0/1");
    server.told(&["voicemail", "delete", id]);
    let finished = phone.finish(Duration::from_secs(90));
    let seen: Vec<Value> = finished
        .stdout
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let counts: Vec<&str> = seen
        .iter()
        .filter_map(|summary| summary["counts"].as_str())
        .collect();
    eprintln!("PJSIP was told {counts:?}");
    assert_eq!(counts[..4], ["0/0", "1/0", "0/1", "0/0"], "{seen:#?}");
    until("the end of the subscription", SHORTLY, || {
        (server.counted("sip_subscriptions") == 0).then_some(())
    });
    lamp.must_go_by_the_scenario();
}
