//! A kept call is had again with another configuration, beside the running server.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::process::{Finished, run};
use crate::support::record::{share_understood, words};
use crate::support::server::{Server, models, offhook};
use crate::support::softphone::call;
use crate::support::speech;
use crate::{PLAIN, in_peace};

/// Models are loaded, phrases spoken, and the recording is played at its own pace.
const PATIENCE: Duration = Duration::from_secs(240);

fn replay(server: &Server, id: &str, options: &[&str], temporary: &Path) -> Finished {
    let mut command: Command = offhook();
    command
        .arg("replay")
        .arg(id)
        .arg("--data")
        .arg(&server.data)
        .args(options)
        .env("OFFHOOK__engines__models", models())
        .env("OFFHOOK__engines__threads", "1")
        .env("TMPDIR", temporary);
    run(&mut command, PATIENCE)
}

#[test]
fn a_recorded_caller_is_heard_again_and_answered_by_another_configuration() {
    let _peace = in_peace();
    let server = PLAIN.take();
    let (_, record) = server.record_of(|| call(&server, "demo", &[speech("order_status")], &[]));
    // The recording is complete a little after the record.
    server.recording(&record);
    let id = record.text("id");
    let temporary = server.path("replays");
    fs::create_dir_all(&temporary).expect("room on the disk");
    let other = server.path("other.toml");
    let text = "[assistants.demo]\nfirstMessage = \"Good evening.\"\n\
                server = { url = \"https://example.com/hook\" }\n\
                [assistants.demo.model]\nmaxTokens = 20\n";
    fs::write(&other, text).expect("room on the disk");
    let other = other.to_str().expect("ASCII");

    let done = replay(
        &server,
        &id[..8],
        &["--config", other, "--json"],
        &temporary,
    );
    assert!(done.status.success(), "{}", done.output());
    let calls: Value = serde_json::from_str(&done.stdout).expect("JSON");
    let turns = calls["turns"].as_array().expect("turns");
    let greeting = turns.first().expect("a greeting");
    let before = greeting["then"]["assistant"].as_str().expect("a greeting");
    assert!(before.starts_with("Hello, Larkfield"), "{calls:#}");
    assert_eq!(greeting["now"]["assistant"], "Good evening.", "{calls:#}");
    let answered = turns
        .iter()
        .find(|turn| turn["then"]["caller"] != "" && turn["now"]["caller"] != "")
        .unwrap_or_else(|| panic!("no turn of both in {calls:#}"));
    for call in ["then", "now"] {
        let heard = words(answered[call]["caller"].as_str().expect("words"));
        let share = share_understood("I'd like to check my order status, please.", &heard);
        assert!(share >= 0.6, "{call}: {heard:?}");
        assert!(answered[call]["voiceToVoiceMs"].is_u64(), "{calls:#}");
    }
    assert_ne!(calls["now"]["id"], calls["then"]["id"]);
    assert_eq!(
        server.call_ids().iter().filter(|kept| *kept == id).count(),
        1
    );
    // Not the only one who leaves things there: ONNX Runtime has a file of its own.
    let left = fs::read_dir(&temporary).expect("a folder").flatten();
    let ours = left.filter(|entry| {
        let name = entry.file_name();
        name.to_string_lossy().starts_with("offhook")
    });
    assert_eq!(ours.count(), 0, "everything of it is gone");

    the_mistakes_are_named(&server, id, &temporary);
}

fn the_mistakes_are_named(server: &Server, id: &str, temporary: &Path) {
    let unknown = replay(server, "ffffffff", &[], temporary);
    assert_eq!(unknown.status.code(), Some(1), "{}", unknown.output());
    assert!(unknown.stderr.contains("there is no call ffffffff"));

    let wrong = server.path("wrong.toml");
    fs::write(&wrong, "[assistants.demo]\nmaxDurationSeconds = 1\n").expect("room on the disk");
    let wrong = wrong.to_str().expect("ASCII");
    let refused = replay(server, id, &["--config", wrong], temporary);
    assert_eq!(refused.status.code(), Some(2), "{}", refused.output());
    assert!(
        refused.stderr.contains("maxDurationSeconds"),
        "{}",
        refused.output()
    );

    let nobody = replay(server, id, &["--assistant", "nobody"], temporary);
    assert_eq!(nobody.status.code(), Some(2), "{}", nobody.output());
    assert!(
        nobody
            .stderr
            .contains("--assistant: there is no assistant \"nobody\"")
    );

    let recording = server.data.join("recordings").join(format!("{id}.wav"));
    let away = recording.with_extension("away");
    fs::rename(&recording, &away).expect("a recording");
    let lost = replay(server, id, &[], temporary);
    fs::rename(&away, &recording).expect("a recording");
    assert_eq!(lost.status.code(), Some(1), "{}", lost.output());
    assert!(
        lost.stderr.contains(&format!("{id}.wav")),
        "{}",
        lost.output()
    );
}
