//! A peer that says what a test tells it to, byte for byte.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::sip::endpoint::simulation::{UDP, address, config, summary};
use crate::sip::endpoint::{Endpoint, EndpointConfig, Event, LegId, Output};

/// A session description of the peer's.
pub(super) const THEIRS: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.2\r\ns=-\r\n";
/// A session description of ours.
pub(super) const OURS: &str = "v=0\r\no=- 2 2 IN IP4 192.0.2.1\r\ns=-\r\n";

/// One endpoint and one scripted peer.
pub(super) struct Peer {
    pub(super) endpoint: Endpoint,
    pub(super) now: Instant,
    pub(super) source: SocketAddr,
    /// Everything that the endpoint sent, oldest first, until taken.
    pub(super) inbox: Vec<String>,
    pub(super) destinations: Vec<SocketAddr>,
    pub(super) events: Vec<Event>,
}

impl Peer {
    pub(super) fn new() -> Self {
        Self::of(config(address(0)))
    }

    pub(super) fn of(config: EndpointConfig) -> Self {
        Self {
            endpoint: Endpoint::new(config, [7; 32]),
            now: Instant::now(),
            source: address(1),
            inbox: Vec::new(),
            destinations: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Sends a message and returns what came back for it at once.
    pub(super) fn send(&mut self, text: impl AsRef<[u8]>) -> Vec<String> {
        let before = self.inbox.len();
        self.endpoint
            .handle_datagram(self.now, UDP, self.source, text.as_ref());
        self.drain();
        self.inbox[before..].to_vec()
    }

    /// Does something with the endpoint; what it sent at once.
    pub(super) fn act<T>(&mut self, action: impl FnOnce(&mut Endpoint, Instant) -> T) -> T {
        let result = action(&mut self.endpoint, self.now);
        self.drain();
        result
    }

    /// Lets time pass; what the endpoint sent meanwhile.
    pub(super) fn wait(&mut self, duration: Duration) -> Vec<String> {
        let before = self.inbox.len();
        let until = self.now + duration;
        while let Some((at, _)) = self.endpoint.deadline().filter(|(at, _)| *at <= until) {
            self.now = self.now.max(at);
            self.endpoint.handle_timeout(self.now);
            self.drain();
        }
        self.now = until;
        self.inbox[before..].to_vec()
    }

    /// Lets every timer run out and asserts that nothing is left.
    pub(super) fn assert_clean(&mut self) {
        self.wait(Duration::from_secs(400));
        let stats = self.endpoint.stats();
        assert_eq!(stats, crate::sip::endpoint::Stats::default());
    }

    fn drain(&mut self) {
        while let Some(output) = self.endpoint.poll() {
            match output {
                Output::Transmit {
                    bytes, destination, ..
                } => {
                    self.inbox.push(String::from_utf8(bytes.to_vec()).unwrap());
                    self.destinations.push(destination);
                }
                Output::Event(event) => self.events.push(event),
            }
        }
    }

    /// The last thing that the endpoint sent.
    pub(super) fn last(&self) -> &str {
        self.inbox.last().unwrap()
    }

    /// The last thing sent whose summary is this.
    pub(super) fn last_of(&self, wanted: &str) -> String {
        let found = self
            .inbox
            .iter()
            .rev()
            .find(|text| summary(text.as_bytes()) == wanted);
        found
            .unwrap_or_else(|| panic!("no {wanted} in {:?}", summaries(&self.inbox)))
            .clone()
    }

    /// The leg of the last call that came in.
    pub(super) fn leg(&self) -> LegId {
        let calls = self.events.iter().rev().filter_map(|event| match event {
            Event::IncomingCall(call) => Some(call.leg),
            _ => None,
        });
        calls.into_iter().next().unwrap()
    }

    /// A leg that did not end yet.
    pub(super) fn live_leg(&self) -> Option<LegId> {
        let ended = |leg: &LegId| {
            self.events
                .iter()
                .any(|event| matches!(event, Event::Ended { leg: over, .. } if over == leg))
        };
        let mut seen = self.events.iter().filter_map(Event::leg);
        seen.find(|leg| !ended(leg))
    }

    /// Whether any call came in.
    pub(super) fn saw_call(&self) -> bool {
        self.events
            .iter()
            .any(|event| matches!(event, Event::IncomingCall(_)))
    }

    /// An answered and acknowledged call from the peer; the To tag of ours.
    pub(super) fn establish(&mut self) -> (LegId, String) {
        self.send(Request::invite().text());
        let leg = self.leg();
        self.act(|endpoint, now| endpoint.accept(now, leg, OURS.into()).unwrap());
        let tag = to_tag(self.last());
        let ack = Request::of("ACK").ours(&tag).branch("ack").text();
        self.send(ack);
        assert!(matches!(self.events.last(), Some(Event::Confirmed { .. })));
        (leg, tag)
    }
}

/// `200 INVITE` and so on for each.
pub(super) fn summaries(texts: &[String]) -> Vec<String> {
    texts.iter().map(|text| summary(text.as_bytes())).collect()
}

/// `200` and so on for each.
pub(super) fn statuses(texts: &[String]) -> Vec<String> {
    summaries(texts)
        .iter()
        .map(|summary| summary.split(' ').next().unwrap().to_owned())
        .collect()
}

/// The first value of a header.
pub(super) fn header<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.split("\r\n\r\n")
        .next()?
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// The tag in To.
pub(super) fn to_tag(text: &str) -> String {
    let to = header(text, "To").unwrap();
    to.split(";tag=").nth(1).unwrap().to_owned()
}

/// A request of the peer's, in the one dialog of its scripts.
#[derive(Clone)]
pub(super) struct Request {
    method: String,
    uri: String,
    branch: String,
    sent_by: String,
    from_tag: String,
    to_tag: Option<String>,
    call_id: String,
    sequence: u32,
    cseq_method: String,
    fields: Vec<String>,
    body: String,
}

impl Request {
    pub(super) fn of(method: &str) -> Self {
        Self {
            method: method.to_owned(),
            uri: "sip:callee@192.0.2.1:5060".to_owned(),
            branch: "z9hG4bKfirst".to_owned(),
            sent_by: "192.0.2.2:5060".to_owned(),
            from_tag: "theirs".to_owned(),
            to_tag: None,
            call_id: "call".to_owned(),
            sequence: 1,
            cseq_method: method.to_owned(),
            fields: Vec::new(),
            body: String::new(),
        }
    }

    pub(super) fn invite() -> Self {
        Self::of("INVITE")
            .field("Contact: <sip:peer@192.0.2.2:5060>")
            .sdp(THEIRS)
    }

    pub(super) fn sdp(self, body: &str) -> Self {
        let mut request = self.field("Content-Type: application/sdp");
        request.body = body.to_owned();
        request
    }

    pub(super) fn body(mut self, body: &str) -> Self {
        self.body = body.to_owned();
        self
    }

    pub(super) fn field(mut self, line: &str) -> Self {
        self.fields.push(line.to_owned());
        self
    }

    pub(super) fn without_fields(mut self) -> Self {
        self.fields.clear();
        self
    }

    pub(super) fn branch(mut self, branch: &str) -> Self {
        self.branch = format!("z9hG4bK{branch}");
        self
    }

    pub(super) fn raw_branch(mut self, branch: &str) -> Self {
        self.branch = branch.to_owned();
        self
    }

    pub(super) fn sent_by(mut self, sent_by: &str) -> Self {
        self.sent_by = sent_by.to_owned();
        self
    }

    pub(super) fn theirs(mut self, tag: &str) -> Self {
        self.from_tag = tag.to_owned();
        self
    }

    pub(super) fn ours(mut self, tag: &str) -> Self {
        self.to_tag = Some(tag.to_owned());
        self
    }

    pub(super) fn call_id(mut self, call_id: &str) -> Self {
        self.call_id = call_id.to_owned();
        self
    }

    pub(super) fn sequence(mut self, number: u32) -> Self {
        self.sequence = number;
        self
    }

    pub(super) fn text(&self) -> String {
        let branch = match self.branch.as_str() {
            "" => String::new(),
            branch => format!(";branch={branch}"),
        };
        let to_tag = self.to_tag.as_ref().map(|tag| format!(";tag={tag}"));
        let mut text = format!(
            "{} {} SIP/2.0\r\nVia: SIP/2.0/UDP {}{branch}\r\nMax-Forwards: 70\r\n\
             From: <sip:peer@example.com>;tag={}\r\nTo: <sip:callee@example.org>{}\r\n\
             Call-ID: {}\r\nCSeq: {} {}\r\n",
            self.method,
            self.uri,
            self.sent_by,
            self.from_tag,
            to_tag.unwrap_or_default(),
            self.call_id,
            self.sequence,
            self.cseq_method,
        );
        for field in &self.fields {
            text.push_str(field);
            text.push_str("\r\n");
        }
        text.push_str(&format!(
            "Content-Length: {}\r\n\r\n{}",
            self.body.len(),
            self.body
        ));
        text
    }
}

/// A response of the peer's to a request of ours.
pub(super) fn respond(request: &str, status: &str, tag: &str, extra: &str, body: &str) -> String {
    let mut text = format!("SIP/2.0 {status}\r\n");
    for line in request.split("\r\n\r\n").next().unwrap().lines().skip(1) {
        let name = line.split(':').next().unwrap();
        let tagged = name == "To" && line.contains(";tag=");
        if tagged || ["Via", "From", "Call-ID", "CSeq", "Record-Route"].contains(&name) {
            text.push_str(&format!("{line}\r\n"));
        } else if name == "To" {
            text.push_str(&format!("{line};tag={tag}\r\n"));
        }
    }
    text.push_str(extra);
    text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    text
}
