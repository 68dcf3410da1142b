//! Peers that begin and do not go on: half a message, half a handshake, nothing taken of what is
//! sent to them. They cost little for a while, and nobody else notices.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::support::certificates::Authority;
use crate::support::process::resident_megabytes;
use crate::support::server::{Server, Setup};
use crate::support::sipp::Sipp;
use crate::support::softphone::Softphone;
use crate::support::{Folder, tcp_port, until};

/// Of each kind; all of them are fewer than one address may have.
const PEERS: usize = 30;
/// What all of them may cost. Each has a queue of at most a megabyte, and most use none of it.
const MEGABYTES: f64 = 60.0;
/// After the longest wait of a connection, on a busy machine.
const OVER: Duration = Duration::from_secs(60);

const ASSISTANTS: &str = r#"
    [assistants.reception]
    firstMessage = "Hello there."
"#;

fn options(number: usize, local: SocketAddr) -> String {
    format!(
        "OPTIONS sip:reception@127.0.0.1 SIP/2.0\r\n\
         Via: SIP/2.0/TCP {local};branch=z9hG4bK{local}-{number};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:slow@127.0.0.1>;tag=t\r\nTo: <sip:reception@127.0.0.1>\r\n\
         Call-ID: {local}-{number}\r\nCSeq: 1 OPTIONS\r\nSubject: {}\r\nContent-Length: 0\r\n\r\n",
        "s".repeat(1_000)
    )
}

/// A connection whose side takes little before it is full.
fn narrow(port: u16) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("a small buffer");
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    socket
        .connect(&SockAddr::from(address))
        .expect("a connection");
    socket.into()
}

/// Asks and asks and takes no answer, until the server has had enough of it.
fn asks_without_listening(port: u16) {
    let mut stream = narrow(port);
    let local = stream.local_addr().expect("an address");
    stream.set_write_timeout(Some(OVER)).expect("a timeout");
    for number in 0.. {
        match stream.write_all(options(number, local).as_bytes()) {
            Ok(()) => {}
            Err(error) => {
                let closed = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
                assert!(closed.contains(&error.kind()), "{error}");
                return;
            }
        }
    }
}

/// Says a whole request a few bytes at a time, and hears the answer.
fn speaks_slowly(port: u16) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    stream.set_nodelay(true).expect("no delay");
    stream.set_read_timeout(Some(OVER)).expect("a timeout");
    let local = stream.local_addr().expect("an address");
    for piece in options(0, local).as_bytes().chunks(7) {
        stream.write_all(piece).expect("taken");
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"SIP/2.0 200 ");
}

/// Connections that say the beginning of something and then nothing.
fn begin(port: u16, beginning: &[u8]) -> Vec<TcpStream> {
    let connections = (0..PEERS).map(|number| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        let length = beginning.len() * number / PEERS;
        stream.write_all(&beginning[..length]).expect("taken");
        stream
    });
    connections.collect()
}

/// A caller by UDP and one by TCP, who notice nothing.
fn others_call(server: &Server, tcp: u16) {
    let (_, records) = server.records_of(2, || {
        Sipp::new("call")
            .with("MS", "500")
            .dial(server, "reception")
            .must_go_by_the_scenario();
        let uri = format!("sip:reception@127.0.0.1:{tcp};transport=tcp");
        let report = Softphone::dial_uri(server, &uri, &[], &["--quiet", "200"]).report();
        assert!(report.heard_greeting(), "{report:?}");
    });
    for record in records {
        assert_eq!(record.reason(), ("customer-ended-call", "customer"));
    }
}

#[test]
fn peers_that_do_not_go_on_cost_little_and_nobody_else_notices() {
    let folder = Folder::new("slow-certificates");
    let authority = Authority::new(folder.path());
    let (certificate, key) = authority.certify("server", &["localhost"]);
    let (tcp, tls) = (tcp_port(), tcp_port());
    let server = Setup::new("slow")
        .listen(&[
            format!("tcp:127.0.0.1:{tcp}"),
            format!("tls:127.0.0.1:{tls}"),
        ])
        .set("limits__requests_per_second_per_source", "1000000")
        .set("limits__requests_per_second_of_strangers", "1000000")
        .file(&format!(
            "[sip.tls]\ncertificate = {certificate:?}\nkey = {key:?}\n{ASSISTANTS}"
        ))
        .start_ready();
    others_call(&server, tcp);
    let before = resident_megabytes(server.pid);
    let half = options(0, SocketAddr::from(([127, 0, 0, 1], 5060)));
    // The beginning of a ClientHello: its records have 512 bytes, of which fewer come.
    let hello: Vec<u8> = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]
        .into_iter()
        .chain(std::iter::repeat_n(7, 200))
        .collect();
    let waiting = (begin(tcp, half.as_bytes()), begin(tls, &hello));
    until("all of them to be connected", OVER, || {
        (server.counted("sip_connections") >= 2 * PEERS as u64).then_some(())
    });
    std::thread::scope(|scope| {
        let deaf: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| asks_without_listening(tcp)))
            .collect();
        others_call(&server, tcp);
        speaks_slowly(tcp);
        let now = resident_megabytes(server.pid);
        assert!(now < before + MEGABYTES, "{before} MB have become {now} MB");
        for one in deaf {
            one.join().expect("closed by the server");
        }
    });
    assert!(server.counted("sip_slow_peers") >= 4);
    until("the server to close them all", OVER, || {
        (server.counted("sip_connections") == 0).then_some(())
    });
    others_call(&server, tcp);
    drop(waiting);
}
