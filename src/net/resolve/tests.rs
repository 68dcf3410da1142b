//! The resolver against a DNS server that the test makes.

#[path = "../../../tests/calls/support/dns.rs"]
mod dns;

use super::*;
use crate::sip::uri::Uri;
use dns::DnsServer;

const ALL: [Protocol; 3] = [Protocol::Udp, Protocol::Tcp, Protocol::Tls];

async fn resolved(
    server: &DnsServer,
    uri: &str,
    spoken: &[Protocol],
) -> Result<Vec<String>, ResolveError> {
    let resolver = Resolver::new(Some(server.address())).expect("a resolver");
    let uri: Uri = uri.parse().expect("a URI");
    let targets = resolver.resolve(uri.as_sip().expect("SIP"), spoken).await?;
    let words = |target: &Target| format!("{:?} {}", target.protocol, target.address);
    Ok(targets.iter().map(words).collect())
}

fn carrier() -> DnsServer {
    DnsServer::start()
        .naptr("example.com", 10, "SIPS+D2T", "_sips._tcp.example.com")
        .naptr("example.com", 20, "SIP+D2U", "_sip._udp.example.com")
        .srv("_sips._tcp.example.com", 1, 0, 5071, "a.example.com")
        .srv("_sip._udp.example.com", 2, 0, 5082, "b.example.com")
        .srv("_sip._udp.example.com", 1, 0, 5081, "a.example.com")
        .srv("_sip._tcp.example.com", 1, 0, 5090, "b.example.com")
        .address_of("a.example.com", "192.0.2.1")
        .address_of("a.example.com", "2001:db8::1")
        .address_of("b.example.com", "192.0.2.2")
        .address_of("bare.example.com", "192.0.2.3")
}

#[tokio::test]
async fn a_domain_is_followed_through_naptr_and_srv_to_every_address_in_order() {
    let server = carrier();
    assert_eq!(
        resolved(&server, "sip:1@example.com", &ALL)
            .await
            .expect("found"),
        [
            "Tls 192.0.2.1:5071",
            "Tls [2001:db8::1]:5071",
            "Udp 192.0.2.1:5081",
            "Udp [2001:db8::1]:5081",
            "Udp 192.0.2.2:5082",
        ]
    );
    let tcp = resolved(&server, "sip:1@example.com;transport=tcp", &ALL).await;
    assert_eq!(tcp.expect("found"), ["Tcp 192.0.2.2:5090"]);
    // What NAPTR offers is of no use without TLS and UDP; the servers for TCP are there.
    let tcp = resolved(&server, "sip:1@example.com", &[Protocol::Tcp]).await;
    assert_eq!(tcp.expect("found"), ["Tcp 192.0.2.2:5090"]);
}

#[tokio::test]
async fn without_servers_it_is_the_host_and_a_port_asks_for_nothing_else() {
    let server = carrier();
    for (uri, expected) in [
        ("sip:1@bare.example.com", "Udp 192.0.2.3:5060"),
        ("sips:1@bare.example.com", "Tls 192.0.2.3:5061"),
        ("sip:1@bare.example.com:5077", "Udp 192.0.2.3:5077"),
        ("sip:1@192.0.2.9;transport=tls", "Tls 192.0.2.9:5061"),
    ] {
        let found = resolved(&server, uri, &ALL).await;
        assert_eq!(found.expect("found"), [expected], "{uri}");
    }
    assert_eq!(server.asked("_sip._udp.bare.example.com"), 1);
}

#[tokio::test]
async fn nothing_there_is_told_from_no_answer() {
    let server = carrier();
    assert_eq!(
        resolved(&server, "sip:1@nowhere.example.com", &ALL).await,
        Err(ResolveError::NotFound("nowhere.example.com".to_owned()))
    );
    let silent = DnsServer::start().silent();
    let error = resolved(&silent, "sip:1@example.com:5060", &ALL).await;
    assert!(
        matches!(error, Err(ResolveError::NoAnswer { .. })),
        "{error:?}"
    );
}

#[tokio::test]
async fn what_is_known_is_not_asked_again() {
    let server = carrier();
    let resolver = Resolver::new(Some(server.address())).expect("a resolver");
    let uri: Uri = "sip:1@example.com".parse().expect("a URI");
    let uri = uri.as_sip().expect("SIP");
    let first = resolver.resolve(uri, &ALL).await;
    let again = resolver.resolve(uri, &ALL).await;
    assert_eq!(first, again);
    assert_eq!(server.asked("example.com"), 1);
    assert_eq!(server.asked("a.example.com"), 2, "A and AAAA");
}
