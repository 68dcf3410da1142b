//! Calls that the server makes: to a telephone, to carriers that refuse, and to nobody.

use std::net::UdpSocket;
use std::time::Duration;

use serde_json::Value;

use crate::in_peace;
use crate::ladders;
use crate::support::dns::DnsServer;
use crate::support::phone::{Phone, Seen};
use crate::support::record::Record;
use crate::support::server::{Server, Setup};
use crate::support::sipp::Sipp;
use crate::support::until;

/// A server with one trunk, at `host`.
fn setup(name: &'static str, host: &str, more: &str) -> Setup {
    Setup::new(name).file(&format!(
        r#"
        [trunks.carrier]
        profile = "generic"
        username = "200"
        password = "secret-of-200"
        [trunks.carrier.outbound]
        host = "{host}"
        destinations = ["+49*", "112"]
        caller_id = "+4930555"
        ring_seconds = 6
        {more}

        [assistants.reception]
        firstMessage = "Hello, this is the reception of the office calling."
        messagePlan = {{ idleMessages = [] }}
        "#
    ))
}

/// `offhook dial` to its end: exit code and what it printed as JSON.
fn dial(server: &Server, number: &str) -> (Option<i32>, Value) {
    let arguments = ["dial", "reception", number, "--wait", "--json"];
    let finished = server.command(&arguments);
    let told = serde_json::from_str(&finished.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", finished.output()));
    (finished.status.code(), told)
}

fn called(phone: Phone, more: &str, name: &'static str) -> (Seen, Record) {
    let server = setup(name, &phone.address(), more).start_ready();
    server.record_of(|| {
        let phone = phone.listen();
        let dialled = server.told(&["dial", "reception", "+49 30 1234"]);
        let id = dialled["id"].as_str().expect("an id").to_owned();
        server.wait_for_words(&id, 1);
        phone.finish()
    })
}

#[test]
fn somebody_who_answers_is_greeted_and_the_call_is_remembered_as_ours() {
    let _peace = in_peace();
    let phone = Phone::new("callee").options(&["--hang-up-at", "6"]);
    let (seen, record) = called(phone, "", "dials");
    assert_eq!(record.text("type"), "outboundPhoneCall");
    assert_eq!(record.text("to"), "+49301234");
    assert_eq!(record.text("from"), "+4930555");
    assert!(!record.text("sipCallId").is_empty());
    assert_eq!(record.reason(), ("customer-ended-call", "customer"));
    let said = record.said_by("bot");
    assert!(said[0].text.starts_with("Hello"), "{said:?}");
    assert!(
        said[0].start_ms < 3000,
        "the clock starts at the answer: {said:?}"
    );
    let invite = seen.first("called")["invite"].as_str().expect("text");
    assert!(invite.starts_with("INVITE sip:+49301234@"), "{invite}");
    assert!(invite.contains("From: <sip:+4930555@"), "{invite}");
    let heard = seen.heard().audible_seconds(0);
    assert!(heard > 1.5, "{heard} s of the greeting");
}

#[test]
fn nothing_is_played_before_the_answer_and_a_hidden_caller_is_hidden() {
    let _peace = in_peace();
    let options = ["--early", "--ring", "3", "--hang-up-at", "6"];
    let phone = Phone::new("early").options(&options);
    let hidden = "identity = \"p-asserted-identity\"\nhide_caller_id = true";
    let (seen, record) = called(phone, hidden, "early-media");
    assert_eq!(record.reason(), ("customer-ended-call", "customer"));
    let heard = seen.heard();
    let before = heard.audible_share(0, 0..2500);
    assert!(
        before < 0.02,
        "{before} of the time before the answer is audible"
    );
    assert!(heard.audible_seconds(0) > 1.5);
    let invite = seen.first("called")["invite"].as_str().expect("text");
    assert!(invite.contains("anonymous@anonymous.invalid"), "{invite}");
    assert!(
        invite.contains("P-Asserted-Identity: <sip:+4930555@"),
        "{invite}"
    );
    assert!(invite.contains("Privacy: id"), "{invite}");
}

#[test]
fn every_refusal_is_an_outcome_with_a_name() {
    let cases = [
        ("486", "X-None: 1", "customer-busy"),
        ("404", "X-None: 1", "sip-outbound-number-invalid"),
        ("403", "X-None: 1", "sip-outbound-forbidden"),
        ("480", "X-None: 1", "customer-did-not-answer"),
        ("603", "X-None: 1", "call-rejected"),
        ("503", "Retry-After: 30", "sip-outbound-server-failed"),
        ("488", "X-None: 1", "incompatible-media"),
        (
            "302",
            "Contact: <sip:+33123456789@elsewhere.test>",
            "sip-outbound-redirect-refused",
        ),
    ];
    let first = Sipp::new("callee_refuses");
    let address = first.address();
    let server = setup("refusals", &address, "").start_ready();
    let mut next = Some(first);
    for (status, header, outcome) in cases {
        let sipp = next
            .take()
            .unwrap_or_else(|| Sipp::at("callee_refuses", &address));
        let sipp = sipp.with("STATUS", status).with("HEADER", header);
        let (told, record) = server.record_of(|| {
            let sipp = sipp.listen();
            let told = dial(&server, "+49301234");
            sipp.must_go_by_the_scenario();
            told
        });
        assert_eq!(told.0, Some(1), "{status}");
        assert_eq!(told.1["endedReason"], outcome, "{status}");
        assert_eq!(record.text("endedReason"), outcome, "{status}");
        assert_eq!(record.text("recording"), "", "there was nothing to record");
    }
    // Nobody listens there any more.
    let ((code, told), _) = server.record_of(|| dial(&server, "+49301234"));
    assert_eq!(code, Some(1));
    assert_eq!(told["endedReason"], "sip-gateway-failed-to-connect-call");
}

#[test]
fn a_telephone_that_rings_too_long_is_given_up_even_where_the_answer_crosses_the_cancel() {
    for scenario in ["callee_rings", "callee_answers_late"] {
        let sipp = Sipp::new(scenario);
        let server = setup("rings", &sipp.address(), "").start_ready();
        let (told, record) = server.record_of(|| {
            let sipp = sipp.listen();
            let told = dial(&server, "+49301234");
            sipp.must_go_by_the_scenario();
            told
        });
        assert_eq!(told.0, Some(1), "{scenario}");
        let reason = ("customer-did-not-answer", "customer");
        assert_eq!(record.reason(), reason, "{scenario}");
    }
}

#[test]
fn a_carrier_that_asks_for_a_password_gets_it_and_the_operator_hangs_up() {
    let _peace = in_peace();
    let sipp = Sipp::new("callee_asks_for_password").with("WANTED", "From: &lt;sip:.4930555@");
    let server = setup("digest", &sipp.address(), "").start_ready();
    let ((), record) = server.record_of(|| {
        let sipp = sipp.listen();
        server.told(&["dial", "reception", "+49301234", "--trunk", "carrier"]);
        let id = server.answered_call();
        server.wait_for_words(&id, 1);
        server.told(&["calls", "hangup", &id]);
        sipp.must_go_by_the_scenario();
    });
    assert_eq!(record.reason(), ("manually-canceled", "operator"));
    assert!(!server.log().contains("secret-of-200"));
}

#[test]
fn a_trunk_gets_numbers_as_it_writes_them_and_knows_us_by_its_account() {
    let wanted = "INVITE sip:7%230301234@.*From: &lt;sip:200@.*\
                  P-Asserted-Identity: &lt;sip:030555@";
    let sipp = Sipp::new("callee_answers").with("WANTED", wanted);
    let numbers = r#"
        identity = "p-asserted-identity"
        from = "account"
        [trunks.carrier.numbers]
        format = "national"
        country_code = "49"
        national_prefix = "0"
        international_prefix = "00"
        tech_prefix = "7#""#;
    let server = setup("national", &sipp.address(), numbers).start_ready();
    let ((), record) = server.record_of(|| {
        let sipp = sipp.listen();
        server.told(&["dial", "reception", "030 1234"]);
        let id = server.answered_call();
        server.wait_for_words(&id, 1);
        server.told(&["calls", "hangup", &id]);
        sipp.must_go_by_the_scenario();
    });
    assert_eq!(record.text("to"), "+49301234", "what is kept is E.164");
    assert_eq!(record.text("trunk"), "carrier");
}

#[test]
fn a_call_that_still_rings_is_given_up_by_the_operator() {
    let sipp = Sipp::new("callee_rings");
    let server = setup("gives-up", &sipp.address(), "").start_ready();
    let ((), record) = server.record_of(|| {
        let sipp = sipp.listen();
        let id = server.told(&["dial", "reception", "+49301234"])["id"].clone();
        let id = id.as_str().expect("an id");
        until("a call that rings", Duration::from_secs(10), || {
            (server.counted("sip_received") >= 1).then_some(())
        });
        let refused = server.command(&["calls", "hold", id]);
        assert!(
            refused.stderr.contains("nobody has answered"),
            "{}",
            refused.stderr
        );
        server.told(&["calls", "hangup", id]);
        sipp.must_go_by_the_scenario();
    });
    assert_eq!(record.reason(), ("manually-canceled", "operator"));
}

#[test]
fn what_may_not_be_called_is_refused_at_once_and_in_words() {
    let server = setup("guarded", "127.0.0.1:9", "").start_ready();
    let cases = [
        ("reception", "911", "emergency"),
        ("reception", "+1 900 555 1234", "premium-rate"),
        ("reception", "+49 900 1234567", "premium-rate"),
        ("reception", "+33 1 23456789", "do not allow"),
        ("reception", "Alice", "neither a telephone number"),
        ("nobody", "+49301234", "no assistant nobody"),
    ];
    for (assistant, number, words) in cases {
        let refused = server.command(&["dial", assistant, number]);
        assert_eq!(refused.status.code(), Some(1), "{number}");
        assert!(
            refused.stderr.contains(words),
            "{number}: {}",
            refused.stderr
        );
    }
    let other = server.command(&["dial", "reception", "+49301234", "--trunk", "other"]);
    assert!(other.stderr.contains("no trunk other"), "{}", other.stderr);
    assert!(server.call_ids().is_empty(), "no call was begun");
}

#[test]
fn a_carrier_whose_first_address_says_nothing_is_called_at_its_second() {
    let deaf = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let patience = Some(Duration::from_secs(5));
    deaf.set_read_timeout(patience).expect("a timeout");
    let deaf_port = deaf.local_addr().expect("bound").port();
    let sipp = Sipp::new("callee_answers").with("WANTED", "INVITE sip:.49301234@");
    let dns = DnsServer::start()
        .srv("_sip._udp.carrier.test", 1, 0, deaf_port, "a.carrier.test")
        .srv(
            "_sip._udp.carrier.test",
            2,
            0,
            sipp.port(),
            "a.carrier.test",
        )
        .address_of("a.carrier.test", "127.0.0.1");
    let server = setup("failover", "carrier.test", "")
        .set("sip__name_server", &dns.address().to_string())
        .start_ready();
    let ((), record) = server.record_of(|| {
        let sipp = sipp.listen();
        server.told(&["dial", "reception", "+49301234"]);
        let id = server.answered_call();
        server.wait_for_words(&id, 1);
        server.told(&["calls", "hangup", &id]);
        sipp.must_go_by_the_scenario();
    });
    assert_eq!(record.reason(), ("manually-canceled", "operator"));
    let mut buffer = [0; 2000];
    let (length, _) = deaf.recv_from(&mut buffer).expect("an INVITE came first");
    assert!(buffer[..length].starts_with(b"INVITE "));
}

#[test]
fn a_call_that_rings_at_one_telephone_is_picked_up_at_another() {
    let _peace = in_peace();
    let ringing = Sipp::new("callee_rings");
    let server = Setup::new("picked-up")
        .file(&format!(
            r#"
            [trunks.carrier]
            allow = ["127.0.0.1"]
            [trunks.carrier.outbound]
            host = "{}"
            destinations = ["+49*"]
            [assistants.reception]
            firstMessage = "Hello, this is the reception of the office calling."
            "#,
            ringing.address()
        ))
        .start_ready();
    let ((), record) = server.record_of(|| {
        let ringing = ringing.listen();
        let id = server.told(&["dial", "reception", "+49301234"])["id"].clone();
        let id = id.as_str().expect("an id");
        let dialog = until("a telephone that rings", Duration::from_secs(15), || {
            early_dialog(&server, id)
        });
        let picks_up = Sipp::new("picks_up").with("REPLACES", &dialog);
        let picks_up = picks_up.with("MS", "4000").dial(&server, "reception");
        ringing.must_go_by_the_scenario();
        picks_up.must_go_by_the_scenario();
    });
    assert_eq!(record.text("type"), "outboundPhoneCall");
    assert_eq!(record.reason(), ("customer-ended-call", "customer"));
    assert_eq!(record.text("codec"), "PCMA", "that of the second telephone");
    assert!(record.said_by("bot")[0].text.starts_with("Hello"));
}

/// The value of a Replaces that names a ringing call of the server's: To and From are seen from
/// its side (RFC 3891 section 3).
fn early_dialog(server: &Server, id: &str) -> Option<String> {
    let messages = ladders::messages(server, id);
    let ringing = messages
        .iter()
        .find(|text| text.starts_with("SIP/2.0 180"))?;
    let field = |name: &str| {
        let lines = ringing.lines();
        lines
            .filter_map(|line| line.split_once(": "))
            .find_map(|(field, value)| field.eq_ignore_ascii_case(name).then_some(value.trim()))
    };
    let tag = |name| Some(field(name)?.split_once(";tag=")?.1.to_owned());
    Some(format!(
        "{};to-tag={};from-tag={}",
        field("Call-ID")?,
        tag("From")?,
        tag("To")?
    ))
}
