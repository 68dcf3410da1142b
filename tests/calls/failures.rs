//! What breaks while people are on the phone, and before they call.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::support::process::{is_alive, run, signal};
use crate::support::record::Record;
use crate::support::server::{Server, Setup, WORKERS, models};
use crate::support::sipp::Sipp;
use crate::support::softphone::{Report, Softphone, argument, call, refused};
use crate::support::sound::Sound;
use crate::support::{Folder, speech, until};
use crate::{OFFICE, in_peace};

/// Nobody waits longer than this for a sound after a failure.
const PHRASE_WITHIN_MS: i64 = 2000;

/// The caller's clock and the server's are set at the two ends of one answer, a packet is 20 ms,
/// and a busy machine is late now and then.
const TOLERANCE_MS: i64 = 300;

#[test]
fn the_call_goes_on_when_the_ears_are_killed_in_mid_turn() {
    a_worker_is_killed_in_mid_turn("offhook-stt", "stt");
}

#[test]
fn the_call_goes_on_when_the_mind_is_killed_in_mid_turn() {
    a_worker_is_killed_in_mid_turn("offhook-llm", "llm");
}

#[test]
fn the_call_goes_on_when_the_voice_is_killed_in_mid_turn() {
    a_worker_is_killed_in_mid_turn("offhook-tts", "tts");
}

fn a_worker_is_killed_in_mid_turn(worker: &str, engine: &str) {
    let _peace = in_peace();
    let server = OFFICE.take();
    let deaths = server.counted(&format!("{engine}_deaths"));
    let pid = server.workers()[worker];
    let lines = [speech("order_status"), speech("help_me")];
    let ((report, killed_at), record) = server.record_of(|| {
        let phone = Softphone::dial(&server, "reception", &lines, &[]);
        // At work, and so in the middle of the first turn.
        until("the worker to be asked", Duration::from_secs(60), || {
            (server.counted(&format!("{engine}_in_flight")) > 0).then_some(())
        });
        let now = SystemTime::now();
        signal(pid, "KILL");
        (phone.report(), now)
    });
    assert_eq!(
        record.reason(),
        ("customer-ended-call", "customer"),
        "the call stays up"
    );
    something_is_heard_soon(&report, &record, killed_at);
    let second = &report.lines()[1];
    assert!(
        second["replyMs"].is_u64(),
        "the next turn works: {second:#}\n{:#}",
        record.0
    );
    until("a new worker", Duration::from_secs(60), || {
        (server.readiness().0 == 200).then_some(())
    });
    assert_ne!(server.workers()[worker], pid);
    assert_eq!(
        server.counted(&format!("{engine}_deaths")),
        deaths + 1,
        "it died once"
    );
    let told = format!("the worker died engine=\"{engine}\"");
    assert!(server.log().contains(&told), "{}", server.log());
}

/// From the failure, or from the end of the caller's line where that is later, nobody waits long
/// for a reply or a phrase.
fn something_is_heard_soon(report: &Report, record: &Record, killed_at: SystemTime) {
    let answered = OffsetDateTime::parse(record.text("startedAt"), &Rfc3339).expect("a time");
    let killed = i64::try_from((OffsetDateTime::from(killed_at) - answered).whole_milliseconds())
        .expect("small");
    let line = &report.lines()[0];
    let at = |key: &str| line[key].as_i64();
    let ended = at("endedMs").expect("the line was said");
    let heard = [at("replyMs"), at("holdingMs")].into_iter().flatten().min();
    let heard = heard.unwrap_or_else(|| panic!("silence: {line:#}\n{:#}", record.0));
    let latest = killed.max(ended) + PHRASE_WITHIN_MS + TOLERANCE_MS;
    assert!(
        heard <= latest,
        "killed at {killed} ms, heard at {heard} ms: {line:#}\n{:#}",
        record.0
    );
}

#[test]
fn after_the_server_is_killed_no_worker_is_left_and_the_open_call_is_closed_at_the_next_start() {
    let _peace = in_peace();
    let folder = Folder::new("crash");
    let server = Setup::new("crash").data(folder.path()).start_ready();
    let phone = Softphone::dial(&server, "demo", &[speech("order_status")], &[]);
    until("a call", Duration::from_secs(30), || {
        (server.metric("offhook_calls_active") == 1).then_some(())
    });
    let workers = server.workers();
    assert_eq!(
        workers.keys().collect::<Vec<_>>(),
        WORKERS.iter().collect::<Vec<_>>()
    );
    let open = server.call_ids();
    assert_eq!(server.call(&open[0]).text("status"), "in-progress");
    // The caller speaks after the greeting.
    let recording = server.data.join(format!("recordings/{}.wav", open[0]));
    until("words in the recording", Duration::from_secs(30), || {
        (Sound::read(&recording).audible_seconds(0) > 1.0).then_some(())
    });
    server.kill();
    until("the workers to end", Duration::from_secs(10), || {
        workers.values().all(|pid| !is_alive(*pid)).then_some(())
    });
    drop(phone);

    let again = server.same_again().start_ready();
    let record = again.call(&open[0]);
    assert_eq!(
        (record.text("status"), record.reason()),
        ("ended", ("server-crashed", "system"))
    );
    assert!(again.log().contains("closed"), "{}", again.log());
    // The line was said, and answered or not: the recording has all of it but the last second.
    let sound = again.recording(&record);
    assert!(sound.audible_seconds(0) > 0.5 && sound.audible_seconds(1) > 0.5);
    until("the recording's hash", Duration::from_secs(10), || {
        let record = again.call(&open[0]);
        (record.text("recordingSha256").len() == 64).then_some(())
    });
    call(&again, "demo", &[], &[]);
}

#[test]
fn told_to_stop_the_server_lets_a_call_finish_refuses_new_ones_and_takes_its_workers_along() {
    let _peace = in_peace();
    let server = Setup::new("stop").start_ready();
    let workers = server.workers();
    let ((), record) = server.record_of(|| {
        let phone = Sipp::new("call").with("MS", "5000").dial(&server, "demo");
        until("a call", Duration::from_secs(30), || {
            (server.metric("offhook_calls_active") == 1).then_some(())
        });
        server.terminate();
        until(
            "the server to stop taking calls",
            Duration::from_secs(5),
            || server.log().contains("stopping").then_some(()),
        );
        assert!(refused(&server, "demo").contains("503"));
        phone.must_go_by_the_scenario();
        assert!(server.wait_for_exit().success(), "{}", server.log());
    });
    assert_eq!(record.reason(), ("customer-ended-call", "customer"));
    assert!(workers.values().all(|pid| !is_alive(*pid)));
}

#[test]
fn a_missing_model_is_named_and_calls_are_refused_with_503() {
    let folder = Folder::new("models");
    let missing = [
        ("vad", "silero-vad", "silero_vad.onnx"),
        ("stt", "whisper-base-q8_0", "ggml-base-q8_0.bin"),
        (
            "llm",
            "qwen2.5-coder-0.5b-instruct-q4_k_m",
            "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        ),
    ];
    for file in fs::read_dir(models()).expect("the models").flatten() {
        if !missing.iter().any(|(_, _, name)| file.file_name() == *name) {
            std::os::unix::fs::symlink(file.path(), folder.path().join(file.file_name()))
                .expect("a link");
        }
    }
    let mut setup = Setup::new("missing").set("engines__models", argument(folder.path()));
    for (component, model, _) in missing {
        setup = setup.set(&format!("engines__{component}"), model);
    }
    let server = setup.start();
    for (component, model, _) in missing {
        let reason = server.wait_for_failure(component);
        assert!(reason.contains(model), "{component}: {reason}");
        assert!(server.log().contains(model), "{}", server.log());
    }
    assert_eq!(server.readiness().0, 503);
    let told = refused(&server, "demo");
    assert!(told.contains("503"), "{told}");
}

/// A small disk of its own; `None` where this system lets nobody have one.
struct Disk(Folder);

impl Disk {
    fn mount(megabytes: u32) -> Option<Self> {
        let folder = Folder::new("disk");
        let size = format!("size={megabytes}m");
        let mut command = Command::new("mount");
        command
            .args(["-t", "tmpfs", "-o", &size, "offhook-test"])
            .arg(folder.path());
        let mounted = run(&mut command, Duration::from_secs(10));
        if mounted.status.success() {
            return Some(Self(folder));
        }
        eprintln!(
            "SKIPPED: no disk can be mounted here, which needs root: {}",
            mounted.output().trim()
        );
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all room but this much.
    fn fill(&self, leave_kilobytes: u64) -> PathBuf {
        let path = self.path().join("filler");
        let mut file = fs::File::create(&path).expect("a file");
        // Until nothing more fits; then some is given back.
        let written =
            std::io::copy(&mut std::io::repeat(0), &mut file).expect_err("an endless file fits");
        assert_eq!(written.kind(), std::io::ErrorKind::StorageFull);
        let length = file.metadata().expect("its length").len();
        file.set_len(length.saturating_sub(leave_kilobytes * 1000))
            .expect("shorter");
        path
    }

    fn remount(&self, how: &str) {
        let mut command = Command::new("mount");
        command
            .args(["-o", &format!("remount,{how}")])
            .arg(self.path());
        let done = run(&mut command, Duration::from_secs(10));
        assert!(done.status.success(), "{}", done.output());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[test]
fn a_full_disk_ends_no_call_and_refuses_new_ones_until_there_is_room() {
    let _peace = in_peace();
    let Some(disk) = Disk::mount(40) else {
        return;
    };
    let data = disk.path().join("data");
    let server = Setup::new("full")
        .data(&data)
        .set("recording__minimum_free_megabytes", "5")
        .start_ready();
    let phone = Softphone::dial(
        &server,
        "demo",
        &[speech("order_status"), speech("help_me")],
        &[],
    );
    until("a call", Duration::from_secs(30), || {
        (server.metric("offhook_calls_active") == 1).then_some(())
    });
    let filler = disk.fill(0);
    let report = phone.report();
    assert_eq!(report.0["ended"], "you hang up", "{:#}", report.0);
    assert!(report.unanswered().is_empty(), "{:#}", report.0);

    let told = refused(&server, "demo");
    assert!(told.contains("503"), "{told}");
    assert!(
        server.log().contains("full") || server.log().contains("left"),
        "{}",
        server.log()
    );
    let reason = server.wait_for_failure("disk");
    assert!(
        reason.contains("5 MB") && reason.contains(&data.display().to_string()),
        "{reason}"
    );

    fs::remove_file(filler).expect("the filler");
    server.wait_until_ready();
    call(&server, "demo", &[], &[]);
}

/// In mid-call something keeps the database from being written, until it is taken away. The call
/// goes on and loses nothing; new ones are refused meanwhile.
fn the_database_cannot_be_written_in_mid_call(
    server: &Server,
    obstacle: impl FnOnce() -> Obstacle,
) {
    let lines = [speech("order_status"), speech("help_me")];
    let phone = Softphone::dial(server, "demo", &lines, &[]);
    until("a call", Duration::from_secs(30), || {
        (server.metric("offhook_calls_active") == 1).then_some(())
    });
    let obstacle = obstacle();
    let reason = server.wait_for_failure("store");
    assert!(reason.contains("database"), "{reason}");
    let told = refused(server, "demo");
    assert!(told.contains("503"), "{told}");
    let report = phone.report();
    drop(obstacle);
    server.wait_until_ready();
    // The refused call is written down as well.
    let record = until("the call's record", Duration::from_secs(30), || {
        let records = server.call_ids().into_iter().map(|id| server.call(&id));
        let ended = |record: &Record| record.text("status") == "ended";
        records
            .filter(ended)
            .find(|record| !record.turns().is_empty())
    });
    assert_eq!(report.0["ended"], "you hang up", "{:#}", report.0);
    assert!(report.unanswered().is_empty(), "{:#}", report.0);
    assert_eq!(record.reason(), ("customer-ended-call", "customer"));
    assert!(
        record.said_by("user").len() >= lines.len(),
        "{:#}",
        record.0
    );
    assert!(record.turns().len() >= lines.len(), "{:#}", record.0);
    assert_eq!(server.counted("journal_dropped"), 0);
}

/// Is in the way until it is dropped.
struct Obstacle(Box<dyn FnOnce()>);

impl Drop for Obstacle {
    fn drop(&mut self) {
        std::mem::replace(&mut self.0, Box::new(|| ()))();
    }
}

#[test]
fn a_call_survives_a_database_that_another_program_has_locked_and_loses_nothing() {
    let _peace = in_peace();
    let server = Setup::new("locked").start_ready();
    let database = server.data.join("offhook.db");
    the_database_cannot_be_written_in_mid_call(&server, || {
        let hold = "import sqlite3, sys\n\
            database = sqlite3.connect(sys.argv[1], isolation_level=None)\n\
            database.execute('BEGIN IMMEDIATE')\n\
            sys.stdin.read()";
        let mut holder = Command::new("python3")
            .args(["-c", hold])
            .arg(&database)
            .stdin(Stdio::piped())
            .spawn()
            .expect("python3");
        Obstacle(Box::new(move || {
            // Waiting closes its input, which is what it is waiting for.
            holder.wait().expect("our own child");
        }))
    });
}

#[test]
fn a_call_survives_a_database_that_became_read_only_and_loses_nothing() {
    let _peace = in_peace();
    let server = Setup::new("immutable").start_ready();
    // Tried on another file: the server may be writing to its own.
    let trial = [server.data.join("trial")];
    fs::write(&trial[0], "").expect("a file");
    if !make_immutable(&trial, true) {
        eprintln!("SKIPPED: this file system or user cannot make a file immutable (chattr +i)");
        return;
    }
    make_immutable(&trial, false);
    let files = ["offhook.db", "offhook.db-wal"].map(|name| server.data.join(name));
    the_database_cannot_be_written_in_mid_call(&server, || {
        assert!(make_immutable(&files, true));
        Obstacle(Box::new(move || {
            make_immutable(&files, false);
        }))
    });
}

/// Nobody, root included, can write such a file, not even through a descriptor opened before.
fn make_immutable(files: &[PathBuf], immutable: bool) -> bool {
    let mut command = Command::new("chattr");
    command.arg(if immutable { "+i" } else { "-i" }).args(files);
    run(&mut command, Duration::from_secs(10)).status.success()
}

#[test]
fn a_read_only_data_folder_is_said_clearly_at_the_start() {
    let Some(disk) = Disk::mount(10) else {
        return;
    };
    let data = disk.path().join("data");
    fs::create_dir(&data).expect("a folder");
    disk.remount("ro");
    let server: Server = Setup::new("read-only").data(&data).start();
    let status = server.wait_for_exit();
    assert_eq!(status.code(), Some(1));
    let log = server.log();
    assert!(
        log.contains(&data.display().to_string()) && log.to_lowercase().contains("read-only"),
        "{log}"
    );
}
