//! How long the server takes to refuse a wrong password for a user whom it knows and for users whom
//! it does not: a difference would tell strangers who is there.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::Result;
use crate::load::Watch;
use crate::options::Options;
use crate::report::{Report, Table};
use crate::server::{Server, Setup};
use crate::statistics::Sample;

/// The user who is there, and two who are not: what they differ by is chance.
const USERS: [(&str, &str); 3] = [("100", "known"), ("200", "unknown"), ("300", "another")];
/// Right by its form.
const WRONG: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
/// No answer in this time is none.
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) fn run(options: &Options) -> Result<Report> {
    let rounds: usize = options.number("rounds", 3000)?;
    let server = Setup::new(options)?
        .set("sip__digest__users__100", &"correct-horse")
        .set("limits__requests_per_second_per_source", &1_000_000)
        .set("limits__requests_per_second_of_strangers", &1_000_000)
        .start()?;
    let watch = Watch::start();
    let mut table = Table::new(
        format!("A wrong password refused, ms; {rounds} requests each, taken in turn"),
        &["method", "user", "p50", "p95", "p99"],
    );
    let mut details = Vec::new();
    for method in ["REGISTER", "INVITE"] {
        let mut stranger = Stranger::new(&server)?;
        let mut took = USERS.map(|_| Vec::new());
        for round in 0..rounds {
            // Nobody always comes first, or after the same one.
            for place in 0..USERS.len() {
                let of = (round + place) % USERS.len();
                took[of].push(stranger.ask(method, USERS[of].0)?);
            }
        }
        for (sample, (_, name)) in took.map(Sample::new).iter().zip(USERS) {
            let ms = |share| format!("{:.4}", sample.percentile(share).unwrap_or(f64::NAN));
            table.row(vec![
                method.to_owned(),
                name.to_owned(),
                ms(0.5),
                ms(0.95),
                ms(0.99),
            ]);
            details.push(json!({ "method": method, "user": name, "ms": sample.to_json() }));
        }
    }
    let mut report = Report::new("strangers", watch.stop());
    report.table(table);
    report.note("Two users are unknown, to show by how much equal ones differ.");
    report.detail("answers", json!(details));
    Ok(report)
}

struct Stranger {
    socket: UdpSocket,
    server: String,
    local: String,
    asked: u64,
    /// Of the last challenge.
    nonce: String,
}

impl Stranger {
    fn new(server: &Server) -> Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(server.sip())?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            local: socket.local_addr()?.to_string(),
            server: server.sip(),
            socket,
            asked: 0,
            nonce: "none".to_owned(),
        })
    }

    /// Milliseconds until a user with a wrong password is refused.
    fn ask(&mut self, method: &str, user: &str) -> Result<f64> {
        self.asked += 1;
        let credentials = format!(
            "Authorization: Digest username=\"{user}\", realm=\"offhook\", nonce=\"{}\", \
             uri=\"sip:{user}@{}\", qop=auth, nc=00000001, cnonce=\"c\", algorithm=SHA-256, \
             response=\"{WRONG}\"\r\n",
            self.nonce, self.server
        );
        let to = format!("<sip:{user}@{}>", self.server);
        let request = self.request(method, user, &to, &credentials);
        let began = Instant::now();
        self.socket.send(request.as_bytes())?;
        let mut buffer = [0; 4096];
        loop {
            let length = self.socket.recv(&mut buffer)?;
            let took = began.elapsed().as_secs_f64() * 1000.0;
            let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if !answer.contains(&format!("Call-ID: {}-", self.asked))
                || answer.starts_with("SIP/2.0 1")
            {
                continue;
            }
            if let Some((_, rest)) = answer.split_once("nonce=\"") {
                self.nonce = rest.split('"').next().unwrap_or_default().to_owned();
            }
            if method == "INVITE" {
                let line = answer.lines().find_map(|line| line.strip_prefix("To: "));
                let ack = self.request("ACK", user, line.unwrap_or(&to), "");
                self.socket.send(ack.as_bytes())?;
            }
            return Ok(took);
        }
    }

    fn request(&self, method: &str, user: &str, to: &str, more: &str) -> String {
        let (server, local, number) = (&self.server, &self.local, self.asked);
        let of = if method == "ACK" { "INVITE" } else { method };
        format!(
            "{method} sip:{user}@{server} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {local};branch=z9hG4bK{number}{of};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{user}@{server}>;tag=t{number}\r\nTo: {to}\r\n\
             Call-ID: {number}-{local}\r\nCSeq: 1 {method}\r\nContact: <sip:{user}@{local}>\r\n\
             {more}Content-Length: 0\r\n\r\n"
        )
    }
}
