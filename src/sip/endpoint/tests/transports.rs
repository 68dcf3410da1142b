//! Connections as the endpoint sees them: which one a message goes on, and what goes by TCP for
//! its size.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::peer::{OURS, THEIRS, header, to_tag};
use crate::sip::endpoint::simulation::{UDP, address, config, invitation, summary};
use crate::sip::endpoint::{
    EndCause, Endpoint, Event, Hangup, LegId, LocalTransport, Output, Protocol, TransportId,
};
use crate::sip::wire::parse_datagram;

const TCP: TransportId = TransportId(1);

/// A message with its way.
struct Sent {
    transport: TransportId,
    to: SocketAddr,
    reconnect: Option<SocketAddr>,
    text: String,
}

struct Wire {
    endpoint: Endpoint,
    now: Instant,
    events: Vec<Event>,
}

impl Wire {
    /// An endpoint that speaks UDP and TCP at one address.
    fn new() -> Self {
        let mut config = config(address(0));
        let udp = config.transports[0].clone();
        config.transports.push(LocalTransport {
            id: TCP,
            protocol: Protocol::Tcp,
            ..udp
        });
        Self {
            endpoint: Endpoint::new(config, [7; 32]),
            now: Instant::now(),
            events: Vec::new(),
        }
    }

    fn take(&mut self) -> Vec<Sent> {
        let mut sent = Vec::new();
        while let Some(output) = self.endpoint.poll() {
            match output {
                Output::Transmit {
                    transport,
                    destination,
                    reconnect,
                    bytes,
                } => sent.push(Sent {
                    transport,
                    to: destination,
                    reconnect,
                    text: String::from_utf8(bytes.to_vec()).unwrap(),
                }),
                Output::Event(event) => self.events.push(event),
            }
        }
        sent
    }

    fn receive(&mut self, transport: TransportId, from: SocketAddr, text: &str) -> Vec<Sent> {
        let message = parse_datagram(text.as_bytes());
        self.endpoint
            .handle_message(self.now, transport, from, message);
        self.take()
    }

    fn invite(&mut self, sdp: &str) -> (LegId, Vec<Sent>) {
        let leg = self
            .endpoint
            .invite(self.now, invitation(address(1), sdp))
            .unwrap();
        (leg, self.take())
    }
}

fn request(method: &str, contact: &str, to_tag: &str) -> String {
    format!(
        "{method} sip:callee@192.0.2.1 SIP/2.0\r\n\
         Via: SIP/2.0/TCP 192.0.2.2:5070;branch=z9hG4bK{method}\r\nMax-Forwards: 70\r\n\
         From: <sip:caller@192.0.2.2>;tag=theirs\r\nTo: <sip:callee@192.0.2.1>{to_tag}\r\n\
         Call-ID: call\r\nCSeq: 1 {method}\r\nContact: <{contact}>\r\n\
         Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{THEIRS}",
        THEIRS.len()
    )
}

/// A call that came in over TCP from a port that nobody listens on; the BYE that ends it.
fn bye_to(contact: &str) -> Sent {
    let ephemeral = SocketAddr::new(address(1).ip(), 41_000);
    let mut wire = Wire::new();
    let trying = wire.receive(TCP, ephemeral, &request("INVITE", contact, ""));
    for sent in &trying {
        assert_eq!((sent.transport, sent.to), (TCP, ephemeral));
        let sent_by = SocketAddr::new(address(1).ip(), 5070);
        assert_eq!(sent.reconnect, Some(sent_by), "RFC 3261 18.2.2");
    }
    let Some(Event::IncomingCall(call)) = wire.events.last() else {
        panic!("{:?}", wire.events);
    };
    let leg = call.leg;
    wire.endpoint.accept(wire.now, leg, OURS.into()).unwrap();
    let ok = wire.take().remove(0).text;
    assert_eq!(
        header(&ok, "Contact"),
        Some("<sip:callee@192.0.2.1:5060;transport=tcp>")
    );
    let tag = format!(";tag={}", to_tag(&ok));
    wire.receive(TCP, ephemeral, &request("ACK", contact, &tag));
    wire.endpoint
        .hangup(wire.now, leg, Hangup::default())
        .unwrap();
    let bye = wire.take().remove(0);
    assert_eq!(summary(bye.text.as_bytes()), "BYE");
    assert_eq!((bye.transport, bye.to), (TCP, ephemeral));
    bye
}

#[test]
fn requests_in_a_dialog_go_on_its_connection_and_to_the_contact_without_it() {
    let bye = bye_to("sip:caller@192.0.2.2:5070;transport=tcp");
    assert_eq!(bye.reconnect, Some(SocketAddr::new(address(1).ip(), 5070)));
    // A Contact that does not resolve, or only where UDP would: the connection is all there is.
    for contact in [
        "sip:caller@phone.invalid",
        "sip:caller@192.0.2.2;transport=udp",
    ] {
        assert_eq!(bye_to(contact).reconnect, None, "{contact}");
    }
}

#[test]
fn a_large_request_goes_by_tcp_and_back_to_udp_where_that_is_refused() {
    let mut wire = Wire::new();
    let large = format!("{THEIRS}a=x:{}\r\n", "y".repeat(1_200));
    let (_, sent) = wire.invite(&large);
    assert_eq!((sent[0].transport, sent[0].to), (TCP, address(1)));
    assert!(sent[0].text.contains("Via: SIP/2.0/TCP "));
    wire.endpoint
        .handle_transmit_failed(wire.now, TCP, address(1));
    let again = wire.take();
    assert_eq!((again[0].transport, again[0].to), (UDP, address(1)));
    assert!(again[0].text.contains("Via: SIP/2.0/UDP "));
    assert!(wire.events.is_empty(), "{:?}", wire.events);
    let branch = |text: &str| header(text, "Via").unwrap().to_owned();
    assert_ne!(branch(&again[0].text), branch(&sent[0].text));
    let ringing =
        again[0]
            .text
            .lines()
            .skip(1)
            .fold(
                "SIP/2.0 180 Ringing\r\n".to_owned(),
                |text, line| match line {
                    "" => text,
                    line if line.starts_with("v=") || line.contains("Content-") => text,
                    line => format!("{text}{line}\r\n"),
                },
            );
    let head = ringing.split("o=-").next().unwrap();
    let progress = format!("{head}Content-Length: 0\r\n\r\n");
    wire.receive(UDP, address(1), &progress);
    assert!(matches!(
        wire.events.last(),
        Some(Event::Progress { status: 180, .. })
    ));
    // Remembered for a while, and then tried again.
    let (_, sent) = wire.invite(&large);
    assert_eq!(sent[0].transport, UDP);
    wire.now += Duration::from_secs(601);
    let (_, sent) = wire.invite(&large);
    assert_eq!(sent[0].transport, TCP);
    let (_, sent) = wire.invite(THEIRS);
    assert_eq!(sent[0].transport, UDP, "it is small");
}

#[test]
fn a_large_request_to_nobody_fails_once() {
    let mut wire = Wire::new();
    let large = format!("{THEIRS}a=x:{}\r\n", "y".repeat(1_200));
    let (leg, _) = wire.invite(&large);
    wire.endpoint
        .handle_transmit_failed(wire.now, TCP, address(1));
    wire.endpoint
        .handle_transmit_failed(wire.now, UDP, address(1));
    wire.take();
    assert!(matches!(
        wire.events.last(),
        Some(Event::Ended { leg: over, cause: EndCause::TransportFailed }) if *over == leg
    ));
}
