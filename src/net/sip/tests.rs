//! Calls over real sockets on loopback: what only a kernel can show.

#[path = "../../../tests/calls/support/certificates.rs"]
mod certificates;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::*;
use crate::sip::endpoint::EndCause;
use crate::sip::headers::NameAddr;
use certificates::Authority;

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
                   m=audio 9 RTP/AVP 0\r\n";

/// Long enough for a busy machine, and no statement about speed.
const PATIENCE: Duration = Duration::from_secs(30);

struct Phone {
    sip: Sip,
    incoming: mpsc::Receiver<Incoming>,
}

impl Phone {
    async fn listening(protocol: Protocol, ip: IpAddr, tls: TlsSettings) -> Self {
        let config = SipConfig {
            listen: vec![(protocol, SocketAddr::new(ip, 0))],
            tls,
            name_server: None,
            public_address: None,
            allow: Vec::new(),
            user_agent: "test".to_owned(),
            extensions: Vec::new(),
            authentication: None,
            limits: Limits::default(),
            flood: None,
            witness: None,
            subscriptions: None,
        };
        let (sip, incoming) = Sip::start(config, [7; 32]).await.expect("starts");
        Self { sip, incoming }
    }

    async fn tcp() -> Self {
        let loopback = Ipv4Addr::LOCALHOST.into();
        Self::listening(Protocol::Tcp, loopback, TlsSettings::default()).await
    }

    fn address(&self) -> SocketAddr {
        self.sip.listeners()[0].address
    }

    /// Calls `name` at `address`.
    async fn call(&self, address: SocketAddr, name: &str, ca: Option<&Path>) -> OutgoingLeg {
        let protocol = self.sip.listeners()[0].protocol;
        let way = self.sip.reach(protocol, address, name, ca).await;
        let uri = |text: String| text.parse::<Uri>().expect("a URI");
        let request = InviteRequest {
            transport: way.expect("a way"),
            destination: address,
            request_uri: uri(format!("sip:bob@{name}:{}", address.port())),
            from: NameAddr::new(uri(format!("sip:alice@{}", self.address()))),
            to: NameAddr::new(uri(format!("sip:bob@{name}"))),
            replaces: None,
            route: Vec::new(),
            credentials: None,
            headers: Vec::new(),
            extensions: None,
            sdp: Some(SDP.into()),
            patience: None,
            ring_timeout: Duration::from_secs(60),
        };
        self.sip.invite(request).await.expect("an INVITE")
    }

    /// Answers the next call.
    async fn answer(&mut self) -> Incoming {
        let call = within(self.incoming.recv()).await.expect("a call");
        self.sip.leg(call.call.leg, LegCommand::Accept(SDP.into()));
        call
    }

    async fn connections(&self) -> usize {
        self.sip.snapshot().await.expect("alive").connections
    }
}

async fn within<T>(happening: impl Future<Output = T>) -> T {
    timeout(PATIENCE, happening).await.expect("in time")
}

async fn next(events: &mut mpsc::Receiver<Event>) -> Event {
    within(events.recv()).await.expect("an event")
}

async fn answered(leg: &mut OutgoingLeg) {
    while !matches!(next(&mut leg.events).await, Event::Answered { .. }) {}
}

async fn end_of(events: &mut mpsc::Receiver<Event>) -> EndCause {
    loop {
        if let Event::Ended { cause, .. } = next(events).await {
            return cause;
        }
    }
}

async fn a_call_over(caller: &Phone, called: &mut Phone, name: &str, ca: Option<&Path>) {
    let mut leg = caller.call(called.address(), name, ca).await;
    let mut call = called.answer().await;
    answered(&mut leg).await;
    let confirmed = next(&mut call.events).await;
    assert!(matches!(confirmed, Event::Confirmed { .. }));
    // The called side hangs up on the connection that it was called over.
    called
        .sip
        .leg(call.call.leg, LegCommand::Hangup(Hangup::default()));
    let cause = end_of(&mut leg.events).await;
    assert!(matches!(cause, EndCause::RemoteBye { .. }), "{cause:?}");
    assert_eq!(caller.connections().await, 1);
    assert_eq!(called.connections().await, 1);
}

#[tokio::test]
async fn calls_over_tcp_share_one_connection_both_ways() {
    let (caller, mut called) = (Phone::tcp().await, Phone::tcp().await);
    for _ in 0..3 {
        a_call_over(&caller, &mut called, "127.0.0.1", None).await;
    }
}

#[tokio::test]
async fn a_call_over_ipv6() {
    let ip = std::net::Ipv6Addr::LOCALHOST.into();
    let caller = Phone::listening(Protocol::Tcp, ip, TlsSettings::default()).await;
    let mut called = Phone::listening(Protocol::Tcp, ip, TlsSettings::default()).await;
    a_call_over(&caller, &mut called, "[::1]", None).await;
}

#[tokio::test]
async fn nobody_there_fails_at_once() {
    let caller = Phone::tcp().await;
    // A port that was free a moment ago.
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        listener.local_addr().expect("bound")
    };
    let mut leg = caller.call(closed, "127.0.0.1", None).await;
    assert_eq!(end_of(&mut leg.events).await, EndCause::TransportFailed);
    assert_eq!(caller.connections().await, 0);
}

#[tokio::test]
async fn what_we_do_not_listen_on_cannot_be_reached_and_the_error_says_so() {
    let caller = Phone::tcp().await;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 5061));
    let way = caller.sip.reach(Protocol::Tls, address, "localhost", None);
    let error = way.await.expect_err("no way");
    assert_eq!(
        error.to_string(),
        "sip.listen has no Tls listener from which 127.0.0.1:5061 can be reached"
    );
}

/// A caller of few words, over a connection of its own.
struct Bare {
    reader: BufReader<TcpStream>,
    contact: SocketAddr,
    call_id: String,
}

impl Bare {
    async fn connect(server: SocketAddr, contact: SocketAddr, call_id: &str) -> Self {
        let stream = TcpStream::connect(server).await.expect("connects");
        Self {
            reader: BufReader::new(stream),
            contact,
            call_id: call_id.to_owned(),
        }
    }

    async fn send(&mut self, method: &str, to_tag: &str, body: &str) {
        let Self {
            contact, call_id, ..
        } = self;
        let message = format!(
            "{method} sip:bob@127.0.0.1 SIP/2.0\r\n\
             Via: SIP/2.0/TCP {contact};branch=z9hG4bK{call_id}{method}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:bare@{contact}>;tag=bare\r\n\
             To: <sip:bob@127.0.0.1>{to_tag}\r\nCall-ID: {call_id}\r\nCSeq: 1 {method}\r\n\
             Contact: <sip:bare@{contact};transport=tcp>\r\n\
             Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let stream = self.reader.get_mut();
        stream.write_all(message.as_bytes()).await.expect("sent");
    }
}

/// The next message's head, body read away. `None` at the end.
async fn head(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if within(reader.read_line(&mut line)).await.ok()? == 0 {
            return None;
        }
        if line == "\r\n" && !head.is_empty() {
            break;
        }
        head.push_str(&line);
    }
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .map_or(0, |length| length.trim().parse().expect("a number"));
    let mut body = vec![0; length];
    within(reader.read_exact(&mut body)).await.expect("a body");
    Some(head)
}

#[tokio::test]
async fn when_the_connection_of_a_call_is_gone_bye_goes_to_the_contact() {
    let mut server = Phone::tcp().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let contact = listener.local_addr().expect("bound");
    let mut bare = Bare::connect(server.address(), contact, "gone").await;
    bare.send("INVITE", "", SDP).await;
    let mut call = server.answer().await;
    let ok = loop {
        let head = head(&mut bare.reader).await.expect("a response");
        if head.starts_with("SIP/2.0 200") {
            break head;
        }
    };
    let to = ok.lines().find(|line| line.starts_with("To: "));
    let tag = to.and_then(|to| to.split_once(";tag=")).expect("a tag").1;
    bare.send("ACK", &format!(";tag={tag}"), "").await;
    let confirmed = next(&mut call.events).await;
    assert!(matches!(confirmed, Event::Confirmed { .. }));
    drop(bare);
    while server.connections().await > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server
        .sip
        .leg(call.call.leg, LegCommand::Hangup(Hangup::default()));
    let (stream, _) = within(listener.accept()).await.expect("a connection");
    let bye = head(&mut BufReader::new(stream)).await.expect("a request");
    assert!(bye.starts_with("BYE sip:bare@"), "{bye}");
}

#[tokio::test]
async fn pings_are_answered_and_what_is_no_sip_is_refused_and_shut_out() {
    let server = Phone::tcp().await;
    let mut stream = TcpStream::connect(server.address())
        .await
        .expect("connects");
    stream.write_all(b"\r\n\r\n").await.expect("sent");
    let mut pong = [0; 2];
    within(stream.read_exact(&mut pong)).await.expect("a pong");
    assert_eq!(&pong, b"\r\n");
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .expect("sent");
    let mut rest = Vec::new();
    within(stream.read_to_end(&mut rest)).await.expect("an end");
    assert_eq!(server.connections().await, 0);
}

#[tokio::test]
async fn one_source_cannot_take_every_connection() {
    let server = Phone::tcp().await;
    let mut held = Vec::new();
    for _ in 0..100 {
        let stream = TcpStream::connect(server.address())
            .await
            .expect("connects");
        held.push(stream);
    }
    while server.connections().await < 100 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut beyond = TcpStream::connect(server.address())
        .await
        .expect("connects");
    let mut nothing = Vec::new();
    within(beyond.read_to_end(&mut nothing))
        .await
        .expect("an end");
    assert_eq!(server.connections().await, 100);
    drop(held.pop());
    while server.connections().await == 100 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut again = TcpStream::connect(server.address())
        .await
        .expect("connects");
    again.write_all(b"\r\n\r\n").await.expect("sent");
    let mut pong = [0; 2];
    within(again.read_exact(&mut pong)).await.expect("a pong");
}

/// A certification authority in a folder of its own.
struct Office {
    folder: PathBuf,
    authority: Authority,
}

impl Office {
    fn new(name: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("offhook-tls-{}-{name}", std::process::id()));
        Self {
            authority: Authority::new(&folder),
            folder,
        }
    }

    async fn phone(&self, identity: Option<(PathBuf, PathBuf)>, verify_clients: bool) -> Phone {
        let tls = TlsSettings {
            identity,
            ca: Some(self.authority.ca()),
            verify_clients,
        };
        Phone::listening(Protocol::Tls, Ipv4Addr::LOCALHOST.into(), tls).await
    }

    fn certify(&self, file: &str, host: &str) -> (PathBuf, PathBuf) {
        self.authority.certify(file, &[host])
    }
}

impl Drop for Office {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[tokio::test]
async fn over_tls_the_certificate_must_name_the_domain_and_lead_to_the_authority() {
    let authority = Office::new("names");
    let stranger = Office::new("stranger");
    let identity = authority.certify("server", "pbx.example.com");
    let mut called = authority.phone(Some(identity), false).await;
    let caller = authority.phone(None, false).await;
    a_call_over(&caller, &mut called, "pbx.example.com", None).await;
    // The same address by another name is another connection, and not to be trusted.
    for (name, ca) in [
        ("other.example.com", None),
        ("127.0.0.1", None),
        ("pbx.example.com", Some(stranger.authority.ca())),
    ] {
        let mut leg = caller.call(called.address(), name, ca.as_deref()).await;
        let cause = end_of(&mut leg.events).await;
        assert_eq!(cause, EndCause::TransportFailed, "{name}");
    }
    a_call_over(&caller, &mut called, "pbx.example.com", None).await;
}

#[tokio::test]
async fn a_server_that_verifies_clients_takes_only_those_with_a_certificate() {
    let authority = Office::new("clients");
    let identity = authority.certify("server", "localhost");
    let mut called = authority.phone(Some(identity), true).await;
    let nobody = authority.phone(None, false).await;
    let mut leg = nobody.call(called.address(), "localhost", None).await;
    assert_eq!(end_of(&mut leg.events).await, EndCause::TransportFailed);
    let identity = authority.certify("client", "client.example.com");
    let known = authority.phone(Some(identity), false).await;
    a_call_over(&known, &mut called, "localhost", None).await;
}

#[tokio::test]
async fn a_new_certificate_is_used_from_then_on_and_the_call_before_goes_on() {
    let authority = Office::new("renewal");
    let identity = authority.certify("server", "old.example.com");
    let mut called = authority.phone(Some(identity), false).await;
    let caller = authority.phone(None, false).await;
    let mut leg = caller.call(called.address(), "old.example.com", None).await;
    let call = called.answer().await;
    answered(&mut leg).await;
    authority.certify("server", "new.example.com");
    let address = called.address();
    let renewed = async {
        loop {
            let mut leg = caller.call(address, "new.example.com", None).await;
            // Refused as long as the old one is shown.
            if let Some(Event::Ended { .. }) = leg.events.recv().await {
                continue;
            }
            break;
        }
    };
    let accepting = async {
        let call = called.incoming.recv().await.expect("a call");
        called
            .sip
            .leg(call.call.leg, LegCommand::Accept(SDP.into()));
        call
    };
    let (_second, ()) = within(async { tokio::join!(accepting, renewed) }).await;
    called
        .sip
        .leg(call.call.leg, LegCommand::Hangup(Hangup::default()));
    let cause = end_of(&mut leg.events).await;
    assert!(matches!(cause, EndCause::RemoteBye { .. }), "{cause:?}");
}

#[tokio::test]
async fn new_authorities_are_trusted_from_then_on_on_both_sides() {
    let (before, after) = (Office::new("before"), Office::new("after"));
    let identity = after.certify("server", "localhost");
    let mut called = before.phone(Some(identity), true).await;
    let client = after.certify("client", "client.example.com");
    let caller = before.phone(Some(client), false).await;
    let mut leg = caller.call(called.address(), "localhost", None).await;
    assert_eq!(end_of(&mut leg.events).await, EndCause::TransportFailed);
    std::fs::copy(after.authority.ca(), before.authority.ca()).expect("a copy");
    let address = called.address();
    let calling = async {
        loop {
            let mut leg = caller.call(address, "localhost", None).await;
            // Refused as long as one of them trusts the other authority.
            if let Some(Event::Ended { .. }) = leg.events.recv().await {
                continue;
            }
            break;
        }
    };
    let accepting = async {
        let call = called.incoming.recv().await.expect("a call");
        called
            .sip
            .leg(call.call.leg, LegCommand::Accept(SDP.into()));
        call
    };
    within(async { tokio::join!(accepting, calling) }).await;
}

#[tokio::test]
async fn sockets_are_given_back_with_the_last_handle() {
    for protocol in [Protocol::Udp, Protocol::Tcp] {
        let loopback = Ipv4Addr::LOCALHOST.into();
        let phone = Phone::listening(protocol, loopback, TlsSettings::default()).await;
        let address = phone.address();
        let is_free = async || match protocol {
            Protocol::Udp => tokio::net::UdpSocket::bind(address).await.is_ok(),
            _ => TcpListener::bind(address).await.is_ok(),
        };
        assert!(!is_free().await);
        drop(phone);
        within(async {
            while !is_free().await {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}
