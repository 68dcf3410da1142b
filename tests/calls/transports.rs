//! TCP, TLS and IPv6, and registrars that are found by DNS.

use std::path::Path;
use std::time::Duration;

use crate::support::certificates::Authority;
use crate::support::dns::DnsServer;
use crate::support::kamailio::Kamailio;
use crate::support::server::{Server, Setup};
use crate::support::softphone::{Softphone, argument};
use crate::support::sound::write_padded;
use crate::support::{Folder, baresip, pjsip, speech, tcp_port, until};
use crate::{in_peace, ladders};

const ASSISTANT: &str = r#"
    [assistants.demo]
    firstMessage = "Hello there."
    [assistants.demo.model]
    systemPrompt = "You are the receptionist of a small shop. Answer with one short sentence."
    maxTokens = 30
"#;

/// A call of PJSIP's that it ends after some seconds.
fn pjsip_calls(server: &Server, uri: &str, options: &[&str], seconds: f64) -> pjsip::Seen {
    let heard = server.path("pjsip.wav");
    let caller = pjsip::Caller {
        codec: "PCMU",
        play: &speech("order_status"),
        record: &heard,
        keys: None,
        hang_up: Some(seconds),
        credentials: None,
        extensions_required: false,
    };
    caller.dial_uri(uri, options)
}

fn it_talked(seen: &pjsip::Seen) {
    assert!(seen.answered, "status {}", seen.status);
    assert_eq!(seen.ended_by, "local");
    assert!(
        seen.packets_received > seen.seconds * 50.0 * 0.9 - 25.0,
        "{} packets in {} s",
        seen.packets_received,
        seen.seconds
    );
}

fn tls_settings(certificate: &Path, key: &Path, ca: &Path) -> String {
    format!("[sip.tls]\ncertificate = {certificate:?}\nkey = {key:?}\nca = {ca:?}\n{ASSISTANT}")
}

#[test]
fn pjsip_calls_over_tcp_and_tls_and_a_new_certificate_disturbs_no_call() {
    let _peace = in_peace();
    let folder = Folder::new("certificates");
    let authority = Authority::new(folder.path());
    let (certificate, key) = authority.certify("server", &["127.0.0.1", "localhost"]);
    let (tcp, tls) = (tcp_port(), tcp_port());
    let server = Setup::new("tls")
        .listen(&[
            format!("tcp:127.0.0.1:{tcp}"),
            format!("tls:127.0.0.1:{tls}"),
        ])
        .file(&tls_settings(&certificate, &key, &authority.ca()))
        .start_ready();
    let uri = format!("sip:demo@127.0.0.1:{tcp};transport=tcp");
    let (seen, record) =
        server.record_of(|| pjsip_calls(&server, &uri, &["--transport", "tcp"], 3.0));
    it_talked(&seen);
    assert_eq!(record.reason(), ("customer-ended-call", "customer"));

    let secure = format!("sip:demo@127.0.0.1:{tls};transport=tls");
    let ca = authority.ca();
    let options = ["--transport", "tls", "--ca", argument(&ca)];
    // Another authority's from then on, so that whoever is shown the old one refuses it.
    let other = Authority::new(&folder.path().join("other"));
    let (seen, records) = server.records_of(2, || {
        std::thread::scope(|scope| {
            let long = scope.spawn(|| pjsip_calls(&server, &secure, &options, 20.0));
            until("the call", Duration::from_secs(30), || {
                (server.counted("sip_legs") == 1).then_some(())
            });
            let (fresh, fresh_key) = other.certify("fresh", &["localhost"]);
            std::fs::copy(fresh_key, &key).expect("a copy");
            std::fs::copy(fresh, &certificate).expect("a copy");
            until("the new certificate", Duration::from_secs(30), || {
                server
                    .log()
                    .contains("TLS certificate read again")
                    .then_some(())
            });
            let ca = other.ca();
            let options = ["--ca", argument(&ca), "--quiet", "200"];
            let uri = format!("sips:demo@localhost:{tls}");
            Softphone::dial_uri(&server, &uri, &[], &options).report();
            assert_eq!(
                server.counted("sip_legs"),
                1,
                "the first call is still there"
            );
            long.join().expect("the long call")
        })
    });
    it_talked(&seen);
    for record in &records {
        assert_eq!(record.reason(), ("customer-ended-call", "customer"));
    }
    // Who is shown a certificate that leads nowhere does not call.
    let seen = pjsip_calls(&server, &secure, &options, 3.0);
    assert!(!seen.answered);
}

#[test]
fn baresip_calls_over_tcp_and_tls() {
    let _peace = in_peace();
    let folder = Folder::new("baresip-certificates");
    let authority = Authority::new(folder.path());
    let (certificate, key) = authority.certify("server", &["127.0.0.1", "localhost"]);
    let (tcp, tls) = (tcp_port(), tcp_port());
    let server = Setup::new("baresip")
        .listen(&[
            format!("tcp:127.0.0.1:{tcp}"),
            format!("tls:127.0.0.1:{tls}"),
        ])
        .file(&tls_settings(&certificate, &key, &authority.ca()))
        .start_ready();
    let play = server.path("baresip.wav");
    write_padded(&speech("hi_how_are_you"), 2.0, 3.0, &play);
    let ca = format!("sip_cafile {}", authority.ca().display());
    for (uri, protocol) in [
        (format!("sip:demo@127.0.0.1:{tcp};transport=tcp"), "TCP"),
        (format!("sip:demo@127.0.0.1:{tls};transport=tls"), "TLS"),
    ] {
        let more = [ca.clone()];
        let (seen, record) =
            server.record_of(|| baresip::dial_uri(&uri, &play, &more, "audio_codecs=pcma"));
        assert_eq!(
            record.reason(),
            ("customer-ended-call", "customer"),
            "{uri}: {}",
            seen.output
        );
        assert!(seen.heard.audible_seconds(0) > 0.3, "{}", seen.output);
        let messages = until("its messages", Duration::from_secs(15), || {
            let shown = ladders::calls(&server, &["show", record.text("id"), "--sip"]);
            shown.contains("BYE sip:").then_some(shown)
        });
        assert!(messages.contains(&format!(" {protocol} ")), "{messages}");
    }
}

#[test]
fn a_call_over_ipv6() {
    let _peace = in_peace();
    let port = tcp_port();
    let server = Setup::new("ipv6")
        .listen(&[format!("udp:[::1]:{port}"), format!("tcp:[::1]:{port}")])
        .set("rtp__bind", "[\"127.0.0.1\", \"::1\"]")
        .file(ASSISTANT)
        .start_ready();
    for uri in [
        format!("sip:demo@[::1]:{port}"),
        format!("sip:demo@[::1]:{port};transport=tcp"),
    ] {
        let (report, record) = server
            .record_of(|| Softphone::dial_uri(&server, &uri, &[], &["--quiet", "300"]).report());
        assert!(report.heard_greeting(), "{uri}: {report:?}");
        assert_eq!(record.reason(), ("customer-ended-call", "customer"));
    }
    // The same server by IPv4.
    let report = Softphone::dial(&server, "demo", &[], &["--quiet", "300"]).report();
    assert!(report.heard_greeting(), "{report:?}");
}

/// A server that registers as 200, and what a caller at kamailio reaches by that name.
fn registered_with(kamailio: &Kamailio, dns: &DnsServer, registrar: &str, name: &'static str) {
    let trunk = format!(
        r#"
        [sip]
        name_server = "{}"
        [trunks.pbx]
        profile = "generic"
        register = true
        registrar = {registrar}
        username = "200"
        password = "secret-of-200"
        [[numbers]]
        number = "200"
        assistant = "demo"
        {ASSISTANT}
        "#,
        dns.address()
    );
    let server = Setup::new(name)
        .listen(&[format!("tcp:127.0.0.1:{}", tcp_port())])
        .file(&trunk)
        .start_ready();
    until("a registration", Duration::from_secs(60), || {
        server.log().contains("registered").then_some(())
    });
    let uri = kamailio.uri("200");
    let (report, record) =
        server.record_of(|| Softphone::dial_uri(&server, &uri, &[], &["--quiet", "300"]).report());
    assert!(report.heard_greeting(), "{report:?}");
    assert_eq!(record.reason(), ("customer-ended-call", "customer"));
    server.terminate();
    assert!(server.wait_for_exit().success(), "{}", server.log());
    assert!(server.log().contains("unregistered"), "{}", server.log());
    let refused = Softphone::dial_uri(&server, &uri, &[], &[]).refusal();
    assert!(
        refused.contains("404"),
        "it is registered no more: {refused}"
    );
}

#[test]
fn kamailio_is_found_by_srv_and_sends_calls_over_udp() {
    let _peace = in_peace();
    let kamailio = Kamailio::start("200", "secret-of-200");
    let dns = DnsServer::start()
        .srv("_sip._udp.pbx.test", 1, 0, kamailio.port(), "a.pbx.test")
        .address_of("a.pbx.test", "127.0.0.1");
    registered_with(&kamailio, &dns, "\"pbx.test\"", "registers-udp");
}

#[test]
fn kamailio_is_the_second_server_and_sends_calls_over_the_connection_of_the_registration() {
    let _peace = in_peace();
    let kamailio = Kamailio::start("200", "secret-of-200");
    // Nobody listens at the first registrar, nor at the first server of the second.
    let dns = DnsServer::start()
        .srv("_sip._tcp.old.test", 1, 0, tcp_port(), "a.pbx.test")
        .srv("_sip._tcp.pbx.test", 1, 0, tcp_port(), "a.pbx.test")
        .srv("_sip._tcp.pbx.test", 2, 0, kamailio.port(), "a.pbx.test")
        .address_of("a.pbx.test", "127.0.0.1");
    let registrars = "[\"sip:old.test;transport=tcp\", \"sip:pbx.test;transport=tcp\"]";
    registered_with(&kamailio, &dns, registrars, "registers-tcp");
}
