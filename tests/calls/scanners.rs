//! Strangers who look for telephones, names and passwords: sipvicious, which is what most of them
//! use, and by hand. They learn nothing.

use std::net::UdpSocket;
use std::process::Command;
use std::time::Duration;

use crate::support::process::run;
use crate::support::server::{Server, Setup};
use crate::support::udp_port;

/// Longer than any of them takes.
const LONGEST: Duration = Duration::from_secs(60);

const ASSISTANTS: &str = r#"
    [assistants.100]
    firstMessage = "Hello there."
    [assistants.reception]
    firstMessage = "Hello there."
"#;

/// Takes calls from an address that is not ours.
fn with_a_list() -> Server {
    Setup::new("listed")
        .set("sip__allow", "[\"127.0.0.9\"]")
        .file(ASSISTANTS)
        .start_ready()
}

/// Takes calls of those who know the password of user 100.
fn with_passwords() -> Server {
    let digest = "[sip.digest.users]\n100 = \"correct-horse\"\n";
    Setup::new("guarded")
        .file(&format!("{digest}{ASSISTANTS}"))
        .start_ready()
}

/// What one of the tools printed.
fn scan(server: &Server, tool: &str, arguments: &[&str]) -> String {
    let port = server.sip.rsplit(':').next().expect("a port");
    let mut command = Command::new(tool);
    command.args(["-p", port, "-P", &udp_port().to_string()]);
    command.args(arguments).arg("127.0.0.1");
    let finished = run(&mut command, LONGEST);
    finished.output()
}

/// Nothing that a tool printed is a name, a password or who we are.
fn learned_nothing(printed: &str) {
    for found in ["Offhook", "correct-horse", "reqauth", "noauth", "weird"] {
        assert!(!printed.contains(found), "{found} in\n{printed}");
    }
}

#[test]
fn scanners_find_no_device_where_their_address_is_not_allowed() {
    let server = with_a_list();
    let printed = scan(&server, "svmap", &[]);
    assert!(printed.contains("found nothing"), "{printed}");
    for method in ["REGISTER", "INVITE", "OPTIONS"] {
        let arguments = [
            "-m",
            method,
            "-e",
            "98-102",
            "--force",
            "--maximumtime",
            "5",
        ];
        let printed = scan(&server, "svwar", &arguments);
        assert!(printed.contains("found nothing"), "{method}: {printed}");
        learned_nothing(&printed);
    }
    assert!(server.counted("sip_dropped_strangers") > 3);
    assert_eq!(server.counted("sip_received"), 0, "nothing was looked at");
}

#[test]
fn scanners_learn_no_name_and_no_password_where_one_is_asked_for() {
    let server = with_passwords();
    // There is a device: it has to answer callers. It does not say which.
    let printed = scan(&server, "svmap", &[]);
    learned_nothing(&printed);
    for method in ["REGISTER", "OPTIONS", "INVITE"] {
        let printed = scan(&server, "svwar", &["-m", method, "-e", "98-102"]);
        learned_nothing(&printed);
    }
    let printed = scan(&server, "svcrack", &["-u", "100", "-r", "100-110"]);
    assert!(!printed.contains("correct-horse"), "{printed}");
    assert!(server.call_ids().is_empty(), "strangers leave no record");
}

/// Asks for a user in each way that strangers have, and gives the answers without what differs
/// from one request to the next.
fn answers(server: &Server, user: &str, credentials: &str) -> Vec<String> {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.connect(&server.sip).expect("connected");
    socket.set_read_timeout(Some(LONGEST)).expect("a timeout");
    let local = socket.local_addr().expect("an address");
    let ask = |method: &str| {
        let id = format!("{user}-{method}-{}", credentials.len());
        let request = format!(
            "{method} sip:{user}@{server} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {local};branch=z9hG4bK{id};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{user}@{server}>;tag=t\r\nTo: <sip:{user}@{server}>\r\n\
             Call-ID: {id}\r\nCSeq: 1 {method}\r\nContact: <sip:{user}@{local}>\r\n\
             {credentials}Content-Length: 0\r\n\r\n",
            server = server.sip
        );
        socket.send(request.as_bytes()).expect("sent");
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).expect("an answer");
        let answer = String::from_utf8_lossy(&buffer[..length]);
        let told = answer.lines().filter(|line| {
            let name = line.split(':').next().unwrap_or_default();
            !["Via", "From", "To", "Call-ID", "WWW-Authenticate"].contains(&name)
        });
        told.collect::<Vec<_>>().join("\n")
    };
    [
        "OPTIONS",
        "REGISTER",
        "SUBSCRIBE",
        "MESSAGE",
        "BYE",
        "INVITE",
    ]
    .iter()
    .map(|method| ask(method))
    .collect()
}

#[test]
fn strangers_get_the_same_answers_about_users_who_are_there_and_who_are_not() {
    let server = with_passwords();
    let guess = "Authorization: Digest username=\"USER\", realm=\"offhook\", nonce=\"n\", \
                 uri=\"sip:x\", response=\"0\"\r\n";
    for credentials in ["", guess] {
        let of = |user| answers(&server, user, &credentials.replace("USER", user));
        let unknown = of("nobody");
        assert_eq!(of("reception"), unknown);
        assert_eq!(of("100"), unknown);
        assert!(unknown.last().expect("INVITE").starts_with("SIP/2.0 401 "));
        for answer in &unknown {
            assert!(
                !answer.contains("Server") && !answer.contains("Offhook"),
                "{answer}"
            );
        }
    }
}
