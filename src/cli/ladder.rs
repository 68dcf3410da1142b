//! A call's SIP messages for people, for programs, and for Wireshark.

use std::collections::HashSet;
use std::fmt::Write;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;

use serde::Serialize;
use time::OffsetDateTime;

use super::print;
use crate::record::pcap;
use crate::record::{KeptSipMessage, SipDirection, SipMessage};
use crate::sip::ladder::{body, first_line, sequence_method};

/// Columns between the two sides.
const WIDTH: usize = 64;

/// A message for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Json<'a> {
    sip_call_id: &'a str,
    position: u32,
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    direction: SipDirection,
    transport: crate::record::SipTransport,
    local: String,
    peer: String,
    message: String,
}

pub(super) fn print_json(messages: &[KeptSipMessage]) {
    let all = messages.iter().map(|kept| Json {
        sip_call_id: &kept.sip_call_id,
        position: kept.position,
        at: kept.message.at,
        direction: kept.message.direction,
        transport: kept.message.transport,
        local: kept.message.local.to_string(),
        peer: kept.message.peer.to_string(),
        message: String::from_utf8_lossy(&kept.message.bytes).into_owned(),
    });
    print::json(&all.collect::<Vec<_>>());
}

/// One ladder for each Call-ID, peer on the left, Offhook on the right.
pub(super) fn print_ladder(messages: &[KeptSipMessage]) {
    print::line(draw(messages).trim_end());
}

pub(super) fn save(messages: &[KeptSipMessage], file: &Path) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(file)?);
    pcap::write(&mut out, messages.iter().map(|kept| &kept.message))?;
    io::Write::flush(&mut out)
}

fn draw(messages: &[KeptSipMessage]) -> String {
    let Some(start) = messages.iter().map(|kept| kept.message.at).min() else {
        return "No SIP messages were kept of this call.".to_owned();
    };
    let mut text = String::new();
    let mut legs: Vec<&str> = Vec::new();
    for kept in messages {
        if !legs.contains(&kept.sip_call_id.as_str()) {
            legs.push(&kept.sip_call_id);
        }
    }
    for leg in legs {
        // Writing to a String does not fail.
        let _ = writeln!(text, "Call-ID {leg}");
        let of_leg = messages.iter().filter(|kept| kept.sip_call_id == leg);
        draw_leg(&mut text, of_leg, start);
        text.push('\n');
    }
    text
}

fn draw_leg<'a>(
    text: &mut String,
    messages: impl Iterator<Item = &'a KeptSipMessage>,
    start: OffsetDateTime,
) {
    let mut sides = None;
    let mut expected = 0;
    let mut seen: HashSet<&[u8]> = HashSet::new();
    for kept in messages {
        let message = &kept.message;
        let now = (message.transport, message.peer, message.local);
        if sides.replace(now) != Some(now) {
            let transport = format!("{:?}", message.transport).to_uppercase();
            let left = format!("{} {transport}", message.peer);
            let right = format!("Offhook {}", message.local);
            let gap = (WIDTH + 2).saturating_sub(left.len());
            let _ = writeln!(text, "{:>11}{left}{right:>gap$}", "");
        }
        if kept.position > expected {
            let _ = writeln!(
                text,
                "{:>11}... {} left out ...",
                "",
                kept.position - expected
            );
        }
        expected = kept.position.saturating_add(1);
        let again = !seen.insert(&message.bytes);
        let seconds = (message.at - start).as_seconds_f64();
        let _ = writeln!(text, "{seconds:>9.3}  |{}|", arrow(message, again));
    }
}

fn arrow(message: &SipMessage, again: bool) -> String {
    let mut label = label(message);
    if again {
        label.push_str(" (again)");
    }
    if label.chars().count() > WIDTH - 8 {
        label = label.chars().take(WIDTH - 11).collect();
        label.push_str("...");
    }
    let rest = "-".repeat(WIDTH - 6 - label.chars().count());
    match message.direction {
        SipDirection::Received => format!("-- {label} {rest}->"),
        SipDirection::Sent => format!("<-{rest} {label} --"),
    }
}

/// `INVITE sip:demo@example.com (SDP)`, `200 OK to INVITE (SDP)`.
fn label(message: &SipMessage) -> String {
    let first = first_line(&message.bytes);
    let mut label: String = match first.strip_prefix("SIP/2.0 ") {
        Some(status) => {
            let method = sequence_method(&message.bytes).unwrap_or("?");
            format!("{status} to {method}")
        }
        None => first.trim_end_matches(" SIP/2.0").to_owned(),
    };
    if body(&message.bytes).starts_with(b"v=") {
        label.push_str(" (SDP)");
    }
    // What came over the network does not steer the terminal.
    label.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::*;
    use crate::record::SipTransport;

    fn kept(position: u32, direction: SipDirection, text: &str) -> KeptSipMessage {
        KeptSipMessage {
            sip_call_id: "abc".to_owned(),
            position,
            message: SipMessage {
                at: OffsetDateTime::UNIX_EPOCH + Duration::milliseconds(i64::from(position) * 5),
                direction,
                transport: SipTransport::Udp,
                local: "192.0.2.1:5060".parse().expect("address"),
                peer: "198.51.100.7:5070".parse().expect("address"),
                bytes: text.as_bytes().to_vec(),
            },
        }
    }

    #[test]
    fn a_ladder_shows_who_said_what_when() {
        let invite = "INVITE sip:demo@192.0.2.1 SIP/2.0\r\nCSeq: 1 INVITE\r\n\r\nv=0\r\n";
        let drawn = draw(&[
            kept(0, SipDirection::Received, invite),
            kept(1, SipDirection::Received, invite),
            kept(
                4,
                SipDirection::Sent,
                "SIP/2.0 200 OK\u{1b}[2J\r\nCSeq: 1 INVITE\r\n\r\n",
            ),
        ]);
        let expected = "\
Call-ID abc
           198.51.100.7:5070 UDP                       Offhook 192.0.2.1:5060
    0.000  |-- INVITE sip:demo@192.0.2.1 (SDP) ---------------------------->|
    0.005  |-- INVITE sip:demo@192.0.2.1 (SDP) (again) -------------------->|
           ... 2 left out ...
    0.020  |<---------------------------------------- 200 OK[2J to INVITE --|
";
        assert_eq!(drawn.trim_end(), expected.trim_end());
        assert!(draw(&[]).contains("No SIP messages"));
    }
}
