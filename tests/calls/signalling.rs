//! SIPp: signalling that goes as it should, and that does not; and that nothing is left of it.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::in_peace;
use crate::support::process::Held;
use crate::support::server::{Server, Setup, Shared};
use crate::support::sipp::Sipp;
use crate::support::sound::write_mu_law;
use crate::support::{speech, until};

/// Four lines, a number plan, and nothing to say after the greeting.
static EXCHANGE: Shared = Shared::new(|| {
    Setup::new("exchange").set("limits__max_calls", "4").file(
        r#"
        [[numbers]]
        number = "100*"
        assistant = "reception"
        [[numbers]]
        number = "200"
        assistant = "brief"

        [assistants.reception]
        firstMessage = "Hello there."
        [assistants.reception.model]
        systemPrompt = "You are the receptionist of a small shop. Answer with one short sentence."
        maxTokens = 30

        [assistants.brief]
        firstMessage = "Hello there."
        maxDurationSeconds = 10
        "#,
    )
});

/// Every timer of SIP's transactions is over after this (64 x T1), with some to spare.
const TIMERS: Duration = Duration::from_secs(60);

fn call(ms: &str) -> Sipp {
    Sipp::new("call").with("MS", ms)
}

fn refused(codec: &str, payload_type: &str, status: &str) -> Sipp {
    Sipp::new("refused")
        .with("CODEC", codec)
        .with("TYPE", payload_type)
        .with("STATUS", status)
}

#[test]
fn sipp_is_heard_and_hears() {
    let _peace = in_peace();
    let server = EXCHANGE.take();
    let sipp = Sipp::new("speaking").with("MS", "12000");
    write_mu_law(&speech("order_status"), 3.0, 8.0, &sipp.file("speech.ulaw"));
    let ((), record) = server.record_of(|| sipp.dial(&server, "1001").must_go_by_the_scenario());
    assert_eq!(record.reason(), ("customer-ended-call", "customer"));
    assert!(
        record.words_of_user().contains(&"order".to_owned()),
        "{:#}",
        record.0
    );
    assert!(record.said_by("bot").len() >= 2, "{:#}", record.0);
    let sound = server.recording(&record);
    assert!(sound.audible_seconds(0) > 0.5 && sound.audible_seconds(1) > 1.0);
}

#[test]
fn a_caller_who_gives_up_while_it_rings_hears_487_and_is_remembered_so() {
    let server = EXCHANGE.take();
    // A writer in the way of the call's row keeps it ringing for a moment.
    let writer = Writer::hold(&server);
    let ((), record) = server.record_of(|| {
        Sipp::new("cancelled")
            .dial(&server, "1001")
            .must_go_by_the_scenario();
        drop(writer);
    });
    assert_eq!(record.reason(), ("customer-canceled", "customer"));
    assert_eq!(record.text("recording"), "", "there was nothing to record");
}

/// Another program that is writing to the server's database, and does not finish.
struct Writer(std::process::Child);

impl Writer {
    fn hold(server: &Server) -> Self {
        let python = std::env::var_os("OFFHOOK_PJSIP_PYTHON").unwrap_or_else(|| "python3".into());
        let script = "import sqlite3, sys\n\
                      database = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=10)\n\
                      database.execute('BEGIN IMMEDIATE')\n\
                      print('held', flush=True)\n\
                      sys.stdin.read()\n";
        let mut child = Command::new(python)
            .args(["-c", script])
            .arg(server.data.join("offhook.db"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line)
            .expect("its word");
        assert_eq!(line, "held\n");
        Self(child)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
fn a_call_that_cannot_be_written_down_is_refused_with_503_rather_than_answered() {
    let server = EXCHANGE.take();
    let writer = Writer::hold(&server);
    refused("PCMU/8000", "0", "503")
        .dial(&server, "1001")
        .must_go_by_the_scenario();
    drop(writer);
    assert!(server.log().contains("503"), "{}", server.log());
    server.wait_until_ready();
    call("500").dial(&server, "1001").must_go_by_the_scenario();
}

#[test]
fn options_is_answered_with_what_the_server_can_do() {
    let server = EXCHANGE.take();
    Sipp::new("options")
        .dial(&server, "1001")
        .must_go_by_the_scenario();
}

#[test]
fn an_offer_of_unknown_codecs_is_refused_with_488_and_an_unknown_number_with_404() {
    let server = EXCHANGE.take();
    let ((), record) = server.record_of(|| {
        refused("G729/8000", "18", "488")
            .dial(&server, "1001")
            .must_go_by_the_scenario();
    });
    assert_eq!(record.reason(), ("incompatible-media", "system"));
    let ((), record) = server.record_of(|| {
        refused("PCMU/8000", "0", "404")
            .dial(&server, "300")
            .must_go_by_the_scenario();
    });
    assert_eq!(record.reason(), ("call-rejected", "system"));
}

#[test]
fn a_caller_beyond_the_limit_hears_busy_and_gets_through_when_a_line_is_free() {
    let server = EXCHANGE.take();
    server.records_of(6, || {
        let four = call("4000")
            .arguments(&["-m", "4", "-l", "4", "-r", "20"])
            .dial(&server, "1001");
        until("four calls", Duration::from_secs(10), || {
            (server.metric("offhook_calls_active") == 4).then_some(())
        });
        refused("PCMU/8000", "0", "486")
            .dial(&server, "1001")
            .must_go_by_the_scenario();
        four.must_go_by_the_scenario();
        call("500").dial(&server, "1001").must_go_by_the_scenario();
    });
}

#[test]
fn a_call_survives_hold_and_resume() {
    let server = EXCHANGE.take();
    let ((), record) = server.record_of(|| {
        Sipp::new("hold")
            .dial(&server, "1001")
            .must_go_by_the_scenario();
    });
    assert_eq!(record.reason(), ("customer-ended-call", "customer"));
}

#[test]
fn the_assistant_hangs_up_when_the_longest_duration_is_over() {
    let server = EXCHANGE.take();
    let ((), record) = server.record_of(|| {
        Sipp::new("callee_hangs_up")
            .dial(&server, "200")
            .must_go_by_the_scenario();
    });
    assert_eq!(record.reason(), ("exceeded-max-duration", "assistant"));
}

#[test]
fn after_calls_of_every_kind_no_dialog_port_file_or_task_is_left() {
    let server = EXCHANGE.take();
    // What the first call opens for good is not a leak.
    call("500").dial(&server, "1001").must_go_by_the_scenario();
    let before = settled(&server);
    let retransmitted = server.counted("sip_retransmitted");
    let (_, records) = server.records_of(30, || {
        let unconfirmed = Sipp::new("lost_ack").dial(&server, "1002");
        for (user, status) in [("300", "404"), ("1001", "488")] {
            let codec = if status == "488" {
                ("G729/8000", "18")
            } else {
                ("PCMU/8000", "0")
            };
            refused(codec.0, codec.1, status)
                .dial(&server, user)
                .must_go_by_the_scenario();
        }
        let writer = Writer::hold(&server);
        Sipp::new("cancelled")
            .dial(&server, "1001")
            .must_go_by_the_scenario();
        drop(writer);
        let one_after_another = ["-m", "20", "-l", "1", "-r", "10"];
        call("500")
            .arguments(&one_after_another)
            .dial(&server, "1001")
            .must_go_by_the_scenario();
        // The fifth line would be the unconfirmed call's.
        let at_once = ["-m", "3", "-l", "3", "-r", "20"];
        call("3000")
            .arguments(&at_once)
            .dial(&server, "1001")
            .must_go_by_the_scenario();
        Sipp::new("hold")
            .dial(&server, "1001")
            .must_go_by_the_scenario();
        unconfirmed.must_go_by_the_scenario();
        let at_once = ["-m", "2", "-l", "2", "-r", "20"];
        call("1000")
            .arguments(&at_once)
            .dial(&server, "1001")
            .must_go_by_the_scenario();
    });
    let unconfirmed = records
        .iter()
        .find(|record| record.text("to").contains("1002"))
        .expect("kept");
    assert_eq!(unconfirmed.reason(), ("signalling-timed-out", "system"));
    assert!(
        server.counted("sip_retransmitted") >= retransmitted + 5,
        "the unconfirmed 200 is repeated"
    );
    assert_eq!(settled(&server), before);
    assert_eq!(server.workers().len(), 3);
}

/// What the server holds when all that has an end is over.
#[derive(Debug, PartialEq, Eq)]
struct Settled {
    held: Held,
    tasks: u64,
}

fn settled(server: &Server) -> Settled {
    let levels = [
        "sip_legs",
        "sip_lingering_legs",
        "sip_client_transactions",
        "sip_server_transactions",
    ];
    until("SIP to forget", TIMERS, || {
        let left: u64 = levels.iter().map(|level| server.counted(level)).sum();
        (left == 0).then_some(())
    });
    assert_eq!(server.metric("offhook_calls_active"), 0);
    // Only this connection's own task comes on top.
    Settled {
        held: server.held(),
        tasks: server.counted("runtime_tasks"),
    }
}

#[test]
fn four_callers_at_once_are_all_greeted() {
    let server = EXCHANGE.take();
    let (_, records) = server.records_of(4, || {
        let at_once = ["-m", "4", "-l", "4", "-r", "40"];
        call("4000")
            .arguments(&at_once)
            .dial(&server, "1001")
            .must_go_by_the_scenario();
    });
    for record in records {
        assert_eq!(record.reason(), ("customer-ended-call", "customer"));
        let spoken = server.recording(&record).audible_seconds(1);
        assert!(spoken > 0.4, "{spoken} s of the greeting");
    }
}
