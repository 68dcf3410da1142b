//! A life of the endpoint: datagrams, time and the owner's commands in any order. Nothing panics,
//! and when all is over nothing is left.
//!
//! The input is cut at NUL bytes into steps. A step's first byte says what it is; a datagram's
//! `{T}`, `{F}`, `{C}`, `{B}`, `{R}` stand for the To tag, From tag, Call-ID, branch and RSeq of the
//! last message that the endpoint sent, without which no fuzzer gets into a dialog.

#![no_main]

#[allow(dead_code, unused_imports)]
#[path = "../../../src/sip/mod.rs"]
mod sip;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use sip::endpoint::simulation::{UDP, address, config, invitation};
use sip::endpoint::{
    Credentials, Endpoint, Event, Extensions, Hangup, InboundAuthentication, KeepAlive, LegId,
    Output, PingRequest, ReferRequest, ReferTarget, RegisterRequest, RegistrarTarget,
    RegistrationId, Stats, SubscriptionId, Support,
};
use sip::headers::{HeaderName, NameAddr};
use sip::wire::parse_datagram;

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
const MOST_STEPS: usize = 64;

struct Life {
    endpoint: Endpoint,
    now: Instant,
    legs: Vec<LegId>,
    registrations: Vec<RegistrationId>,
    subscriptions: Vec<SubscriptionId>,
    last: [String; 5],
}

fuzz_target!(|bytes: &[u8]| {
    let mut steps = bytes.split(|byte| *byte == 0).take(MOST_STEPS);
    let mut settings = config(address(0));
    settings.event_packages = vec!["message-summary"];
    match bytes.first() {
        Some(b'!') => {
            steps.next();
            settings.authentication = Some(InboundAuthentication {
                realm: "r".to_owned(),
                users: vec![user()],
                trusted: Vec::new(),
            });
        }
        Some(b'%') => {
            steps.next();
            settings.extensions.reliable_provisional = Support::Required;
        }
        Some(b'-') => {
            steps.next();
            settings.extensions = without_extensions();
        }
        _ => {}
    }
    let mut life = Life {
        endpoint: Endpoint::new(settings, [7; 32]),
        now: Instant::now(),
        legs: Vec::new(),
        registrations: Vec::new(),
        subscriptions: Vec::new(),
        last: Default::default(),
    };
    for step in steps {
        life.step(step);
        life.drain();
    }
    life.end();
});

fn user() -> Credentials {
    Credentials {
        username: "u".to_owned(),
        password: "p".to_owned(),
    }
}

fn without_extensions() -> Extensions {
    let mut extensions = Extensions::default();
    extensions.session_timer.support = Support::Off;
    extensions.reliable_provisional = Support::Off;
    extensions
}

impl Life {
    fn step(&mut self, step: &[u8]) {
        let Some((kind, rest)) = step.split_first() else {
            return;
        };
        let pick = rest.first().map_or(0, |byte| usize::from(*byte));
        let leg = match self.legs.len() {
            0 => LegId(1),
            count => self.legs[pick % count],
        };
        let (endpoint, now) = (&mut self.endpoint, self.now);
        match kind {
            b't' => self.pass(Duration::from_millis(1 << (pick % 18))),
            b'r' => drop(endpoint.ring(now, leg)),
            b'p' => drop(endpoint.progress(now, leg, 183, Some(SDP.into()))),
            b'a' => drop(endpoint.accept(now, leg, SDP.into())),
            b'x' => drop(endpoint.reject(now, leg, 486, Vec::new())),
            b'h' => drop(endpoint.hangup(now, leg, Hangup::default())),
            b'o' => drop(endpoint.answer_offer(now, leg, SDP.into())),
            b'n' => drop(endpoint.reject_offer(now, leg, 488)),
            b'e' => drop(endpoint.reinvite(now, leg, SDP.into())),
            b'f' => drop(endpoint.send_info(now, leg, "text/plain", b"x".to_vec())),
            b'u' => drop(endpoint.update(now, leg, SDP.into())),
            b'q' => drop(endpoint.request_offer(now, leg)),
            b'y' => drop(endpoint.accept_refer(now, leg)),
            b'k' => drop(endpoint.reject_refer(now, leg, 603)),
            b'v' => drop(endpoint.notify_refer(now, leg, if pick & 1 == 0 { 180 } else { 200 })),
            b'd' => self.refer(leg),
            b'w' => {
                let ping = PingRequest {
                    transport: UDP,
                    destination: address(1),
                    peer: "sip:example.org".parse().expect("a URI"),
                };
                let _ = endpoint.ping(now, ping);
            }
            b'b' | b'c' | b'j' => self.tell(*kind),
            b's' => endpoint.set_accepting(pick & 1 == 0),
            b'i' => {
                let leg = endpoint.invite(now, invitation(address(1), SDP));
                self.legs.extend(leg);
            }
            b'g' => self.register(),
            b'l' => endpoint.handle_transmit_failed(now, UDP, address(1)),
            _ => {
                let text = self.filled(step);
                let source = SocketAddr::new(address(1).ip(), 5060 + (pick as u16 & 1));
                endpoint_input(&mut self.endpoint, now, source, &text);
            }
        }
    }

    /// Accepts or rejects the last subscription, or tells it something.
    fn tell(&mut self, kind: u8) {
        let (endpoint, now) = (&mut self.endpoint, self.now);
        let Some(id) = self.subscriptions.last() else {
            return;
        };
        let body = b"x".to_vec();
        let _ = match kind {
            b'c' => endpoint.accept_subscription(now, *id, "text/plain", body),
            b'j' => endpoint.reject_subscription(now, *id, 404),
            _ => endpoint.notify(now, *id, "text/plain", body),
        };
    }

    /// Asks the peer to call one of the legs' peers, or somebody.
    fn refer(&mut self, leg: LegId) {
        let target = match self.legs.iter().find(|other| **other != leg) {
            Some(other) => ReferTarget::Attended {
                leg: *other,
                uri: None,
            },
            None => ReferTarget::Blind("sip:c@example.org".parse().expect("a URI")),
        };
        let request = ReferRequest {
            target,
            referred_by: None,
            follow: true,
        };
        let _ = self.endpoint.refer(self.now, leg, request);
    }

    fn register(&mut self) {
        let target = RegistrarTarget {
            transport: UDP,
            destination: address(1),
            registrar: "sip:example.org".parse().expect("a URI"),
            address_of_record: "sip:u@example.org".parse().expect("a URI"),
        };
        let request = RegisterRequest {
            targets: vec![target.clone(), target],
            contact_user: "u".to_owned(),
            credentials: Some(user()),
            expires: Duration::from_secs(60),
            learn_contact: true,
            keep_alive: KeepAlive::Options,
            patience: Duration::from_secs(5),
            extensions: None,
        };
        self.registrations
            .extend(self.endpoint.register(self.now, request));
    }

    fn filled(&self, step: &[u8]) -> Vec<u8> {
        let mut filled = Vec::with_capacity(step.len() + 64);
        let mut rest = step;
        while let Some(byte) = rest.first() {
            let word = match rest.get(..3) {
                Some(b"{T}") => Some(&self.last[0]),
                Some(b"{F}") => Some(&self.last[1]),
                Some(b"{C}") => Some(&self.last[2]),
                Some(b"{B}") => Some(&self.last[3]),
                Some(b"{R}") => Some(&self.last[4]),
                _ => None,
            };
            match word {
                Some(word) => filled.extend(word.as_bytes()),
                None => filled.push(*byte),
            }
            rest = &rest[if word.is_some() { 3 } else { 1 }..];
        }
        filled
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        // A timer that is due again at once, for ever, would be a bug of its own.
        for _ in 0..10_000 {
            match self.endpoint.deadline() {
                Some((at, _)) if at <= until => {
                    self.now = self.now.max(at);
                    self.endpoint.handle_timeout(self.now);
                    self.drain();
                }
                Some(_) | None => {
                    self.now = until;
                    return;
                }
            }
        }
        panic!("timers without end: {:?}", self.endpoint.deadline());
    }

    fn drain(&mut self) {
        while let Some(output) = self.endpoint.poll() {
            match output {
                Output::Event(Event::IncomingCall(call)) => self.legs.push(call.leg),
                Output::Event(Event::Ended { leg, .. }) => self.legs.retain(|each| *each != leg),
                Output::Event(Event::SubscribeRequested(request)) => {
                    self.subscriptions.push(request.id);
                }
                Output::Event(Event::SubscriptionEnded { id }) => {
                    self.subscriptions.retain(|each| *each != id);
                }
                Output::Event(_) => {}
                Output::Transmit { bytes, .. } => self.sent(&bytes),
            }
        }
    }

    /// What we send can be read.
    fn sent(&mut self, bytes: &[u8]) {
        if bytes == b"\r\n\r\n" {
            return;
        }
        let message = match parse_datagram(bytes) {
            Ok(message) => message,
            // A refusal quotes what was wrong.
            Err(_) if bytes.starts_with(b"SIP/2.0 4") || bytes.starts_with(b"SIP/2.0 5") => return,
            Err(error) => panic!("{error:?} in {}", String::from_utf8_lossy(bytes)),
        };
        let headers = message.headers();
        let tag = |address: Option<NameAddr>| {
            let address = address?;
            address.tag().map(str::to_owned)
        };
        let found = [
            tag(headers.to().ok()),
            tag(headers.from().ok()),
            headers.call_id().ok().map(str::to_owned),
            headers
                .top_via()
                .ok()
                .and_then(|via| via.branch().map(str::to_owned)),
            headers.get(&HeaderName::RSeq).map(str::to_owned),
        ];
        for (last, found) in self.last.iter_mut().zip(found) {
            if let Some(found) = found {
                *last = found;
            }
        }
    }

    /// Everything is hung up; after the last timer nothing is left.
    fn end(&mut self) {
        for leg in std::mem::take(&mut self.legs) {
            let _ = self.endpoint.hangup(self.now, leg, Hangup::default());
            self.drain();
        }
        for id in std::mem::take(&mut self.registrations) {
            let _ = self.endpoint.unregister(self.now, id);
            self.drain();
        }
        self.pass(Duration::from_secs(24 * 3600));
        assert_eq!(self.endpoint.stats(), Stats::default());
    }
}

fn endpoint_input(endpoint: &mut Endpoint, now: Instant, source: SocketAddr, bytes: &[u8]) {
    endpoint.handle_datagram(now, UDP, source, bytes);
}
