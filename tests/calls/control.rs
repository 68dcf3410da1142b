//! The control socket as the command line shows it.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::hold::DESK;
use crate::in_peace;
use crate::support::phone::Phone;
use crate::support::process::run;
use crate::support::record::Message;
use crate::support::server::{Setup, offhook};
use crate::support::{Folder, until};

#[test]
fn commands_say_so_where_no_server_is_running() {
    let folder = Folder::new("nobody");
    for arguments in [
        &["calls", "live"][..],
        &["calls", "hangup", "12"],
        &["trunks"],
    ] {
        let mut command = offhook();
        command.args(arguments).arg("--data").arg(folder.path());
        let finished = run(&mut command, Duration::from_secs(10));
        assert_eq!(finished.status.code(), Some(1), "{}", finished.output());
        let told = &finished.stderr;
        assert!(told.contains("no server is running"), "{told}");
        assert!(
            told.contains(&folder.path().display().to_string()),
            "{told}"
        );
    }
}

#[test]
fn an_operator_speaks_to_a_live_call_and_ends_it() {
    let _peace = in_peace();
    let server = DESK.take();
    let socket = server.data.join("control.sock");
    let mode = std::fs::metadata(&socket)
        .expect("there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600, "nobody else can open it");
    let unknown = server.command(&["calls", "hold", "ffff"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(
        unknown.stderr.contains("no live call ffff"),
        "{}",
        unknown.stderr
    );
    let (seen, record) = server.record_of(|| {
        let phone = Phone::new("listens").dial(&server.uri("reception"));
        let id = server.answered_call();
        let live = server.live().remove(0);
        assert_eq!(live["type"], "inboundPhoneCall");
        assert_eq!(live["assistant"], "reception");
        assert_eq!(live["onHold"], false);
        server.wait_for_words(&id, 1);
        let empty = server.command(&["calls", "say", &id, " "]);
        assert_eq!(empty.status.code(), Some(2), "{}", empty.output());
        server.told(&["calls", "say", &id, "The line is closing now."]);
        server.wait_for_words(&id, 2);
        let done = server.command(&["calls", "hangup", &id]);
        assert!(done.status.success() && done.stdout.contains(&id));
        phone.finish()
    });
    assert_eq!(record.reason(), ("manually-canceled", "operator"));
    assert_eq!(record.said_by("bot")[1].text, "The line is closing now.");
    assert!(seen.heard().audible_seconds(0) > 2.0);
    assert!(server.live().is_empty());
}

#[test]
fn a_killed_servers_socket_is_replaced_and_a_stopped_one_takes_its_own_away() {
    let server = Setup::new("killed").start_ready();
    server.kill();
    let data = server.data.clone();
    assert!(data.join("control.sock").exists(), "left behind");
    let nobody = server.command(&["calls", "live"]);
    assert!(
        nobody.stderr.contains("no server is running"),
        "{}",
        nobody.stderr
    );
    let again = server.same_again().start_ready();
    assert!(again.live().is_empty());
    again.terminate();
    assert!(again.wait_for_exit().success());
    assert!(!data.join("control.sock").exists());
}

#[test]
fn trunks_are_shown_with_their_state_and_what_went_wrong() {
    let server = Setup::new("trunks")
        .file(
            r#"
            [trunks.carrier]
            profile = "generic"
            allow = ["127.0.0.1"]

            [trunks.office]
            profile = "freepbx"
            registrar = "127.0.0.1:9"
            username = "200"
            password = "secret-of-200"
            "#,
        )
        .start_ready();
    let office = until("a failed registration", Duration::from_secs(60), || {
        let trunks = server.told(&["trunks"]);
        let office = trunks
            .as_array()?
            .iter()
            .find(|trunk| trunk["trunk"] == "office")?;
        (office["state"] == "failed").then(|| office.clone())
    });
    let error = office["lastError"].as_str().expect("why");
    assert!(error.contains("did not answer"), "{error}");
    let shown = server.command(&["trunks"]);
    assert!(
        shown.stdout.contains("does not register"),
        "{}",
        shown.stdout
    );
    assert!(!shown.output().contains("secret-of-200"));
}

#[test]
fn what_is_said_while_the_recording_is_paused_is_heard_but_not_recorded() {
    let _peace = in_peace();
    let server = DESK.take();
    let (seen, record) = server.record_of(|| {
        let phone = Phone::new("secret").dial(&server.uri("reception"));
        let id = server.answered_call();
        server.wait_for_words(&id, 1);
        server.told(&["calls", "pause-recording", &id]);
        let again = server.command(&["calls", "pause-recording", &id]);
        assert!(
            again.stderr.contains("paused already"),
            "{}",
            again.output()
        );
        server.live_call("a paused recording", |call| call["recordingPaused"] == true);
        server.told(&["calls", "say", &id, "Your card number ends with four two."]);
        server.wait_for_words(&id, 2);
        server.told(&["calls", "resume-recording", &id]);
        server.told(&["calls", "say", &id, "Thank you, we are recording again."]);
        server.wait_for_words(&id, 3);
        server.told(&["calls", "hangup", &id]);
        phone.finish()
    });
    let said = record.said_by("bot");
    let recording = server.recording(&record);
    let share = |message: &Message| {
        let middle = message.start_ms + 300..message.end_ms - 300;
        recording.audible_share(1, middle)
    };
    assert_eq!(share(&said[1]), 0.0, "{said:?}");
    assert!(share(&said[2]) > 0.5, "{said:?}");
    let heard = seen.heard().audible_seconds(0);
    assert!(heard > recording.audible_seconds(1) + 1.0, "{heard} s");
    let told = record.said_by("system");
    assert_eq!(told[0].text, "The recording was paused.");
    until("the recording's hash", Duration::from_secs(10), || {
        let record = server.call(record.text("id"));
        (record.text("recordingSha256").len() == 64).then_some(())
    });
}
