//! The SIP messages of a call: kept of answered and refused ones, shown, and read by tcpdump.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::OFFICE;
use crate::support::process::run_well;
use crate::support::server::Server;
use crate::support::sipp::Sipp;
use crate::support::until;

/// `offhook calls ...` on a server's data.
pub(crate) fn calls(server: &Server, arguments: &[&str]) -> String {
    let mut command = crate::support::server::offhook();
    command.arg("calls").args(arguments);
    command.arg("--data").arg(&server.data);
    run_well(&mut command, Duration::from_secs(15)).stdout
}

/// The messages of a call, as they were on the wire.
pub(crate) fn messages(server: &Server, id: &str) -> Vec<String> {
    let shown = calls(server, &["show", id, "--sip", "--json"]);
    let messages: Vec<Value> = serde_json::from_str(&shown).expect("a list");
    let texts = messages.iter().map(|message| &message["message"]);
    texts.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The first lines of a call's messages, as soon as `last` is the last of them.
fn first_lines(server: &Server, id: &str, last: &str) -> Vec<String> {
    until("the messages of a call", Duration::from_secs(15), || {
        let messages = messages(server, id).into_iter();
        let lines: Vec<String> = messages
            .filter_map(|message| message.lines().next().map(str::to_owned))
            .collect();
        lines
            .last()
            .is_some_and(|line| line.starts_with(last))
            .then_some(lines)
    })
}

#[test]
fn the_messages_of_a_call_are_drawn_as_a_ladder_and_saved_for_other_programs() {
    let server = OFFICE.take();
    let ((), record) = server.record_of(|| {
        Sipp::new("call")
            .with("MS", "500")
            .dial(&server, "brief")
            .must_go_by_the_scenario();
    });
    let id = record.text("id");
    let lines = first_lines(&server, id, "SIP/2.0 200");
    let starts = [
        "INVITE ",
        "SIP/2.0 100",
        "SIP/2.0 180",
        "SIP/2.0 200",
        "ACK ",
        "BYE ",
    ];
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{lines:#?}");
    }
    let ladder = calls(&server, &["show", id, "--sip"]);
    for part in [
        "-- INVITE sip:brief@",
        "200 OK to INVITE (SDP) --|",
        "200 OK to BYE --|",
    ] {
        assert!(ladder.contains(part), "{part} in\n{ladder}");
    }
    let file = server.path("call.pcap");
    calls(&server, &["pcap", id, &file.display().to_string()]);
    let mut tcpdump = Command::new("tcpdump");
    let read = run_well(
        tcpdump.args(["-nn", "-vvv", "-r"]).arg(&file),
        Duration::from_secs(15),
    );
    assert!(!read.stdout.contains("bad "), "{}", read.stdout);
    let packets = read.stdout.matches("proto UDP (17)").count();
    assert_eq!(read.stdout.matches("udp sum ok").count(), packets);
    assert_eq!(packets, lines.len(), "{}", read.stdout);
}

#[test]
fn a_refused_call_has_its_messages_too() {
    let server = OFFICE.take();
    let ((), record) = server.record_of(|| {
        Sipp::new("refused")
            .with("CODEC", "G729/8000")
            .with("TYPE", "18")
            .with("STATUS", "488")
            .dial(&server, "brief")
            .must_go_by_the_scenario();
    });
    let lines = first_lines(&server, record.text("id"), "ACK");
    assert!(lines[0].starts_with("INVITE "), "{lines:#?}");
    assert!(
        lines.iter().any(|line| line.starts_with("SIP/2.0 488")),
        "{lines:#?}"
    );
}

#[test]
fn the_ladder_of_a_call_that_goes_on_is_shown_as_far_as_it_is() {
    let server = OFFICE.take();
    let before = server.call_ids();
    let ((), record) = server.record_of(|| {
        let call = Sipp::new("call").with("MS", "6000").dial(&server, "brief");
        let id = until("a call", Duration::from_secs(15), || {
            let ids = server.call_ids().into_iter();
            ids.into_iter().find(|id| !before.contains(id))
        });
        let lines = first_lines(&server, &id, "ACK ");
        assert!(lines[0].starts_with("INVITE "), "{lines:#?}");
        assert_eq!(server.call(&id).text("status"), "in-progress");
        call.must_go_by_the_scenario();
    });
    let lines = first_lines(&server, record.text("id"), "SIP/2.0 200");
    assert_eq!(
        lines
            .iter()
            .filter(|line| line.starts_with("INVITE "))
            .count(),
        1
    );
}
