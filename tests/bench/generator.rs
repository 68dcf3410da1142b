//! A caller of many: short calls at a rate, from one socket and one thread.

use std::collections::{HashMap, VecDeque};
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use serde_json::json;
use toml::Table as Toml;

use crate::Result;
use crate::options::Options;
use crate::server::{Server, Setup};
use crate::statistics::Sample;

/// What answers.
const ASSISTANT: &str = r#"
firstMessage = "Hello."
[model]
systemPrompt = "You are a receptionist."
"#;

/// A call that is not answered, or not ended, in this time has failed.
const PATIENCE: Duration = Duration::from_secs(4);
/// Where nobody listens.
const DISCARD: u16 = 9;
/// Two ports a call, and calls that are just over.
const MEDIA_PORTS: u16 = 800;

/// The real server for such calls, with recording off. Nobody speaks in them, and the greeting is a
/// prepared phrase, so that no engine has work; media flows from the server's side, and the calls
/// and their SIP messages are kept as always.
pub(crate) fn server(options: &Options) -> Result<Server> {
    Setup::new(options)?
        .assistant("short", ASSISTANT.parse::<Toml>()?)
        .media_ports(MEDIA_PORTS)
        .set("recording__enabled", &false)
        .set("limits__max_calls", &(MEDIA_PORTS / 2))
        .set("limits__requests_per_second_per_source", &1_000_000)
        .set("limits__requests_per_second_of_strangers", &1_000_000)
        .start()
}

/// Of such a server and its callers.
pub(crate) const NOTE: &str = "\
The generator is one thread of this program on the same processors. Recording is off; the greeting is
a prepared phrase; nobody speaks. Calls and SIP messages are kept as always.";

/// What one rate gave.
pub(crate) struct Stage {
    /// INVITE to 180 of each call that rang, in ms.
    pub(crate) ringing: Sample,
    /// INVITE to 200 of each call that was answered, in ms.
    pub(crate) set_up: Sample,
    pub(crate) failed: usize,
    calls: usize,
    took: Duration,
}

impl Stage {
    /// Calls that were answered, a second.
    fn rate(&self) -> f64 {
        self.set_up.count() as f64 / self.took.as_secs_f64()
    }

    /// The head of a table of stages.
    pub(crate) const HEAD: [&str; 11] = [
        "calls/s asked",
        "calls",
        "set up/s",
        "failed",
        "180 p50",
        "p95",
        "p99",
        "max",
        "200 p50",
        "p95",
        "max",
    ];

    pub(crate) fn row(&self, asked: u32) -> Vec<String> {
        let ms = |sample: &Sample, share| {
            let value = sample.percentile(share);
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"))
        };
        let mut row = vec![
            asked.to_string(),
            self.calls.to_string(),
            format!("{:.1}", self.rate()),
            self.failed.to_string(),
        ];
        row.extend([0.5, 0.95, 0.99, 1.0].map(|share| ms(&self.ringing, share)));
        row.extend([0.5, 0.95, 1.0].map(|share| ms(&self.set_up, share)));
        row
    }

    pub(crate) fn to_json(&self, asked: u32) -> serde_json::Value {
        json!({
            "asked": asked,
            "calls": self.calls,
            "perSecond": self.rate(),
            "failed": self.failed,
            "inviteTo180Ms": self.ringing.to_json(),
            "inviteTo200Ms": self.set_up.to_json(),
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Calling,
    Ringing,
    Answered,
    Ending,
}

struct Call {
    began: Instant,
    phase: Phase,
    /// To with the server's tag, and its Contact.
    remote: Option<(String, String)>,
}

/// A caller of many.
pub(crate) struct Generator {
    socket: UdpSocket,
    local: String,
    /// `user@host:port`.
    target: String,
    hold: Duration,
    next: u64,
    calls: HashMap<u64, Call>,
    hang_ups: VecDeque<(Instant, u64)>,
    ringing: Vec<f64>,
    set_up: Vec<f64>,
    failed: usize,
    /// The server's media ports of calls that were answered, by their number.
    answered: Vec<(u64, u16)>,
}

impl Generator {
    /// Calls that assistant of [`server`].
    pub(crate) fn new(server: &Server, hold: Duration) -> Result<Self> {
        Self::to(server, "short", hold)
    }

    /// Calls `user`.
    pub(crate) fn to(server: &Server, user: &str, hold: Duration) -> Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(server.sip())?;
        Ok(Self {
            local: socket.local_addr()?.to_string(),
            target: format!("{user}@{}", server.sip()),
            socket,
            hold,
            next: 0,
            calls: HashMap::new(),
            hang_ups: VecDeque::new(),
            ringing: Vec::new(),
            set_up: Vec::new(),
            failed: 0,
            answered: Vec::new(),
        })
    }

    /// The Call-ID of the first call.
    pub(crate) fn first_call_id(&self) -> String {
        format!("1-{}", self.local)
    }

    /// Makes a call for each of `media`, the callers' ports, and waits until all are answered;
    /// the server's port for each, in that order. The calls go on.
    ///
    /// # Errors
    /// Where one is not answered.
    pub(crate) fn establish(&mut self, rate: u32, media: &[u16]) -> Result<Vec<u16>> {
        let began = Instant::now();
        let distance = Duration::from_secs(1) / rate;
        let mut made = 0;
        while made < media.len() || self.answered.len() < made {
            let due = began + distance * u32::try_from(made)?;
            if made < media.len() && due <= Instant::now() {
                self.invite(media[made])?;
                made += 1;
                continue;
            }
            self.receive(Duration::from_millis(1))?;
            self.give_up(Instant::now());
            if self.failed > 0 {
                return Err(format!("{} calls of {made} failed", self.failed).into());
            }
        }
        let mut answered = std::mem::take(&mut self.answered);
        answered.sort_unstable();
        Ok(answered.into_iter().map(|(_, port)| port).collect())
    }

    /// Hangs up on everybody.
    pub(crate) fn hang_up_all(&mut self) -> Result<()> {
        self.hang_ups.clear();
        let all: Vec<u64> = self.calls.keys().copied().collect();
        for id in all {
            self.bye(id)?;
            // A burst would not fit into the server's socket.
            self.receive(Duration::from_millis(2))?;
        }
        let since = Instant::now();
        while !self.calls.is_empty() && since.elapsed() < PATIENCE {
            self.receive(Duration::from_millis(50))?;
        }
        match self.calls.len() {
            0 => Ok(()),
            left => Err(format!("{left} calls did not end").into()),
        }
    }

    /// Makes `count` calls at a rate and waits until all are over.
    pub(crate) fn run(&mut self, rate: u32, count: usize) -> Result<Stage> {
        let began = Instant::now();
        let distance = Duration::from_secs(1) / rate;
        self.failed = 0;
        self.answered.clear();
        let mut made = 0;
        let mut last_made = began;
        while made < count || !self.calls.is_empty() {
            let now = Instant::now();
            let due = began + distance * u32::try_from(made)?;
            if made < count && due <= now {
                self.invite(DISCARD)?;
                (made, last_made) = (made + 1, now);
                continue;
            }
            while self.hang_ups.front().is_some_and(|(at, _)| *at <= now) {
                if let Some((_, id)) = self.hang_ups.pop_front() {
                    self.bye(id)?;
                }
            }
            let hang_up = self.hang_ups.front().map(|(at, _)| *at);
            let next = (made < count)
                .then_some(due)
                .into_iter()
                .chain(hang_up)
                .min();
            let wait = next.map_or(Duration::from_millis(50), |at| {
                at.saturating_duration_since(now)
            });
            self.receive(wait.clamp(Duration::from_micros(50), Duration::from_millis(50)))?;
            self.give_up(Instant::now());
        }
        Ok(Stage {
            ringing: Sample::new(std::mem::take(&mut self.ringing)),
            set_up: Sample::new(std::mem::take(&mut self.set_up)),
            failed: self.failed,
            calls: count,
            took: (last_made - began) + distance,
        })
    }

    fn give_up(&mut self, now: Instant) {
        let before = self.calls.len();
        let limit = PATIENCE + self.hold;
        self.calls.retain(|_, call| {
            call.phase == Phase::Answered || now.saturating_duration_since(call.began) < limit
        });
        self.failed += before - self.calls.len();
    }

    fn invite(&mut self, media: u16) -> Result<()> {
        self.next += 1;
        let id = self.next;
        let sdp = format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
             m=audio {media} RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\n\
             a=rtpmap:101 telephone-event/8000\r\na=ptime:20\r\n"
        );
        let to = format!("<sip:{}>", self.target);
        let uri = format!("sip:{}", self.target);
        let extra = format!(
            "Contact: <sip:bench@{}>\r\nContent-Type: application/sdp\r\n",
            self.local
        );
        self.calls.insert(
            id,
            Call {
                began: Instant::now(),
                phase: Phase::Calling,
                remote: None,
            },
        );
        self.send("INVITE", &uri, &to, id, 1, &extra, &sdp)
    }

    fn bye(&mut self, id: u64) -> Result<()> {
        let Some(call) = self.calls.get_mut(&id) else {
            return Ok(());
        };
        call.phase = Phase::Ending;
        let Some((to, contact)) = call.remote.clone() else {
            return Ok(());
        };
        self.send("BYE", &contact, &to, id, 2, "", "")
    }

    #[allow(clippy::too_many_arguments)]
    fn send(
        &self,
        method: &str,
        uri: &str,
        to: &str,
        id: u64,
        sequence: u32,
        extra: &str,
        body: &str,
    ) -> Result<()> {
        let local = &self.local;
        let text = format!(
            "{method} {uri} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {local};branch=z9hG4bK{id}{method};rport\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:bench@{local}>;tag=t{id}\r\n\
             To: {to}\r\n\
             Call-ID: {id}-{local}\r\n\
             CSeq: {sequence} {method}\r\n\
             {extra}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.socket.send(text.as_bytes())?;
        Ok(())
    }

    fn receive(&mut self, wait: Duration) -> Result<()> {
        let mut buffer = [0; 4096];
        self.socket.set_read_timeout(Some(wait))?;
        let length = match self.socket.recv(&mut buffer) {
            Ok(length) => length,
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) =>
            {
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let text = String::from_utf8_lossy(&buffer[..length]);
        self.received(&text)
    }

    fn received(&mut self, text: &str) -> Result<()> {
        let status = text.strip_prefix("SIP/2.0 ").and_then(|rest| rest.get(..3));
        // A request of the server's: it hung up, and the call will be missed.
        let Some(status) = status.and_then(|status| status.parse::<u16>().ok()) else {
            return Ok(());
        };
        let id = field(text, "Call-ID").and_then(|id| id.split('-').next()?.parse::<u64>().ok());
        let method = field(text, "CSeq").and_then(|value| value.split(' ').nth(1));
        let (Some(id), Some(method)) = (id, method) else {
            return Ok(());
        };
        let Some(call) = self.calls.get_mut(&id) else {
            return Ok(());
        };
        match (method, status) {
            ("INVITE", 180) if call.phase == Phase::Calling => {
                call.phase = Phase::Ringing;
                self.ringing
                    .push(call.began.elapsed().as_secs_f64() * 1000.0);
                Ok(())
            }
            (_, 100..=199) => Ok(()),
            ("INVITE", 200..=299) => {
                let first = matches!(call.phase, Phase::Calling | Phase::Ringing);
                let to = field(text, "To").unwrap_or_default().to_owned();
                let contact = field(text, "Contact").unwrap_or_default();
                let contact = contact
                    .trim_start_matches('<')
                    .split('>')
                    .next()
                    .unwrap_or_default();
                let contact = contact.to_owned();
                if first {
                    self.set_up
                        .push(call.began.elapsed().as_secs_f64() * 1000.0);
                    call.phase = Phase::Answered;
                    call.remote = Some((to.clone(), contact.clone()));
                    self.hang_ups.push_back((Instant::now() + self.hold, id));
                    self.answered
                        .extend(media_port(text).map(|port| (id, port)));
                }
                self.send("ACK", &contact, &to, id, 1, "", "")
            }
            ("BYE", 200..=299) => {
                self.calls.remove(&id);
                Ok(())
            }
            _ => {
                self.failed += 1;
                self.calls.remove(&id);
                if method != "INVITE" {
                    return Ok(());
                }
                let to = field(text, "To").unwrap_or_default().to_owned();
                let uri = format!("sip:{}", self.target);
                // The ACK of a refusal has the branch of its INVITE.
                self.send_ack_of_refusal(&uri, &to, id)
            }
        }
    }

    fn send_ack_of_refusal(&self, uri: &str, to: &str, id: u64) -> Result<()> {
        let local = &self.local;
        let text = format!(
            "ACK {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK{id}INVITE;rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:bench@{local}>;tag=t{id}\r\nTo: {to}\r\n\
             Call-ID: {id}-{local}\r\nCSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n"
        );
        self.socket.send(text.as_bytes())?;
        Ok(())
    }
}

/// The port of a session description's sound.
fn media_port(text: &str) -> Option<u16> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("m=audio "))?;
    line.split(' ').next()?.parse().ok()
}

/// The first header field of a name, as our server writes it.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_calls_that_were_answered() {
        let stage = Stage {
            ringing: Sample::new([0.5, 1.0, 1.5, 4.0]),
            set_up: Sample::new([1.0, 2.0, 3.0]),
            failed: 1,
            calls: 4,
            took: Duration::from_secs(2),
        };
        let row = stage.row(2);
        let expected = [
            "2", "4", "1.5", "1", "1.00", "4.00", "4.00", "4.00", "2.00", "3.00", "3.00",
        ];
        assert_eq!(row, expected);
        assert_eq!(row.len(), Stage::HEAD.len());
        assert_eq!(stage.to_json(2)["failed"], 1);
    }

    #[test]
    fn a_field_is_found_by_its_name() {
        let text = "SIP/2.0 200 OK\r\nTo: <sip:a@b>;tag=1\r\nCall-ID: 7-x\r\n\r\n";
        assert_eq!(field(text, "to"), Some("<sip:a@b>;tag=1"));
        assert_eq!(field(text, "CSeq"), None);
    }
}
