//! Who and what is refused, matched or challenged before it becomes a call.

use super::peer::{OURS, Peer, Request, header, statuses, summaries, to_tag};
use super::seconds;
use crate::sip::endpoint::simulation::{UDP, address, config, invitation};
use crate::sip::endpoint::{
    CommandError, Credentials, EndpointConfig, Event, Hangup, InboundAuthentication, TransportId,
};
use crate::sip::wire::parse_datagram;

#[test]
fn the_same_request_by_two_paths_is_one_call_and_a_482() {
    let mut peer = Peer::new();
    peer.send(Request::invite().branch("one").text());
    let second = peer.send(Request::invite().branch("two").text());
    assert_eq!(statuses(&second), ["482"]);
    assert_eq!(peer.events.len(), 1);
}

#[test]
fn peers_of_rfc_2543_are_matched_without_a_branch() {
    let mut peer = Peer::new();
    let invite = Request::invite().raw_branch("").text();
    peer.send(&invite);
    assert_eq!(statuses(&peer.send(&invite)), ["100"]);
    let leg = peer.leg();
    peer.act(|endpoint, now| endpoint.reject(now, leg, 486, Vec::new()).unwrap());
    let tag = to_tag(peer.last());
    let ack = Request::of("ACK").raw_branch("").ours(&tag).text();
    peer.send(ack);
    assert!(peer.wait(seconds(40)).is_empty(), "the ACK stops the 486");
    assert_eq!(peer.events.len(), 2);
}

#[test]
fn a_branch_of_only_the_magic_cookie_does_not_mix_up_two_calls() {
    let mut peer = Peer::new();
    peer.send(Request::invite().raw_branch("z9hG4bK").text());
    let other = Request::invite()
        .raw_branch("z9hG4bK")
        .call_id("other")
        .theirs("other");
    peer.send(other.text());
    assert_eq!(peer.endpoint.stats().legs, 2);
}

#[test]
fn a_branch_used_twice_does_not_mix_up_two_calls() {
    let mut peer = Peer::new();
    peer.send(Request::invite().text());
    peer.send(Request::invite().call_id("other").theirs("other").text());
    assert_eq!(peer.endpoint.stats().legs, 2);
    let cancel = Request::of("CANCEL").call_id("other").theirs("other");
    peer.send(cancel.text());
    assert_eq!(peer.endpoint.stats().legs, 1);
}

#[test]
fn a_to_that_is_said_twice_alike_is_answered_once() {
    let mut peer = Peer::new();
    let invite = Request::invite().text();
    let to = invite
        .lines()
        .find(|line| line.starts_with("To: "))
        .unwrap();
    let answers = peer.send(invite.replacen(to, &format!("{to}\r\n{to}"), 1));
    assert!(peer.saw_call());
    let leg = peer.leg();
    peer.act(|endpoint, now| endpoint.ring(now, leg).unwrap());
    for answer in answers.iter().chain([&peer.last().to_owned()]) {
        parse_datagram(answer.as_bytes()).expect(answer);
    }
    assert_eq!(peer.last().matches("\r\nTo: ").count(), 1);
}

#[test]
fn a_call_whose_contact_nothing_could_be_sent_to_is_refused() {
    for scheme in ["qip:", "tel:"] {
        let mut peer = Peer::new();
        let invite = Request::invite().text();
        let invite = invite.replace("Contact: <sip:", &format!("Contact: <{scheme}"));
        assert!(invite.contains(scheme));
        assert_eq!(summaries(&peer.send(invite)), ["400 INVITE"]);
        assert!(!peer.saw_call());
    }
}

#[test]
fn an_unknown_extension_is_refused_by_name() {
    let mut peer = Peer::new();
    let invite = Request::invite().field("Require: replaces, nothingSupportsThis, timer");
    let refusal = peer.send(invite.text()).remove(0);
    assert!(refusal.starts_with("SIP/2.0 420 Bad Extension\r\n"));
    assert_eq!(header(&refusal, "Unsupported"), Some("nothingSupportsThis"));
    assert!(!peer.saw_call());
}

#[test]
fn methods_that_are_not_ours_get_405_with_allow() {
    let mut peer = Peer::new();
    for method in ["SUBSCRIBE", "MESSAGE", "PUBLISH", "REGISTER", "NEWMETHOD"] {
        let request = Request::of(method).branch(method).call_id(method);
        let refusal = peer.send(request.text()).remove(0);
        assert!(refusal.starts_with("SIP/2.0 405 "), "{method}: {refusal}");
        assert!(
            header(&refusal, "Allow")
                .unwrap()
                .contains("INVITE, ACK, CANCEL, BYE")
        );
    }
}

#[test]
fn an_unknown_body_gets_415_with_what_is_accepted() {
    let mut peer = Peer::new();
    let invite = Request::of("INVITE")
        .field("Contact: <sip:peer@192.0.2.2>")
        .field("Content-Type: application/unknownformat")
        .body("<audio/>");
    let refusal = peer.send(invite.text()).remove(0);
    assert!(refusal.starts_with("SIP/2.0 415 "));
    assert_eq!(header(&refusal, "Accept"), Some("application/sdp"));
    assert!(!peer.saw_call());
}

#[test]
fn a_caller_who_does_not_take_sdp_gets_406() {
    let mut peer = Peer::new();
    let invite = Request::invite().field("Accept: text/nobodyKnowsThis");
    assert_eq!(statuses(&peer.send(invite.text())), ["406"]);
}

#[test]
fn a_call_that_used_up_its_hops_gets_483_and_options_an_answer() {
    let mut peer = Peer::new();
    let worn = Request::invite()
        .text()
        .replace("Max-Forwards: 70", "Max-Forwards: 0");
    assert_eq!(statuses(&peer.send(worn)), ["483"]);
    let options = Request::of("OPTIONS").branch("o").text();
    let options = options.replace("Max-Forwards: 70", "Max-Forwards: 0");
    assert_eq!(statuses(&peer.send(options)), ["200"]);
}

#[test]
fn options_tell_what_we_can_do() {
    let mut peer = Peer::new();
    let answer = peer.send(Request::of("OPTIONS").text()).remove(0);
    assert!(answer.starts_with("SIP/2.0 200 OK\r\n"));
    for (name, value) in [
        (
            "Allow",
            "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, PRACK, UPDATE, REFER, NOTIFY",
        ),
        ("Accept", "application/sdp"),
        ("Server", "Offhook test"),
    ] {
        assert_eq!(header(&answer, name), Some(value));
    }
    assert!(answer.contains("\r\nSupported: "));
}

#[test]
fn requests_for_unknown_dialogs_get_481() {
    let mut peer = Peer::new();
    for method in ["BYE", "INVITE", "INFO", "UPDATE", "NOTIFY", "OPTIONS"] {
        let request = Request::of(method).branch(method).ours("nobody");
        assert_eq!(statuses(&peer.send(request.text())), ["481"], "{method}");
    }
    for method in ["BYE", "INFO", "UPDATE", "NOTIFY"] {
        let request = Request::of(method).branch(&format!("{method}2"));
        assert_eq!(statuses(&peer.send(request.text())), ["481"], "{method}");
    }
}

#[test]
fn commands_in_the_wrong_state_change_nothing() {
    let mut peer = Peer::new();
    peer.send(Request::invite().text());
    let leg = peer.leg();
    peer.act(|endpoint, now| {
        let early = endpoint.reinvite(now, leg, OURS.into());
        assert_eq!(early, Err(CommandError::WrongState));
        let status = endpoint.reject(now, leg, 200, Vec::new());
        assert_eq!(status, Err(CommandError::BadStatus(200)));
        let status = endpoint.progress(now, leg, 200, None);
        assert_eq!(status, Err(CommandError::BadStatus(200)));
        endpoint.accept(now, leg, OURS.into()).unwrap();
        let twice = endpoint.accept(now, leg, OURS.into());
        assert_eq!(twice, Err(CommandError::WrongState));
        let early = endpoint.reinvite(now, leg, OURS.into());
        assert_eq!(early, Err(CommandError::OfferPending), "before the ACK");
        endpoint.hangup(now, leg, Hangup::default()).unwrap();
        let late = endpoint.hangup(now, leg, Hangup::default());
        assert_eq!(late, Err(CommandError::UnknownLeg));
        let mut elsewhere = invitation(address(1), OURS);
        elsewhere.transport = TransportId(9);
        let unknown = endpoint.invite(now, elsewhere);
        assert_eq!(unknown, Err(CommandError::UnknownTransport));
    });
}

#[test]
fn beyond_the_limit_calls_get_503_with_retry_after_and_live_ones_can_end() {
    let mut limited = config(address(0));
    limited.limits.legs = 1;
    let mut peer = Peer::of(limited);
    let (_, tag) = peer.establish();
    let second = Request::invite().branch("x").call_id("x").theirs("x");
    let refusal = peer.send(second.text()).remove(0);
    assert!(refusal.starts_with("SIP/2.0 503 "));
    assert_eq!(header(&refusal, "Retry-After"), Some("5"));
    let out = peer.act(|endpoint, now| endpoint.invite(now, invitation(address(1), OURS)));
    assert_eq!(out, Err(CommandError::LimitReached));
    let bye = Request::of("BYE").branch("b").ours(&tag).sequence(2);
    assert_eq!(statuses(&peer.send(bye.text())), ["200"]);
}

#[test]
fn a_flood_is_refused_without_memory_and_calls_still_end() {
    let mut limited = config(address(0));
    limited.limits.server_transactions = 50;
    let mut peer = Peer::of(limited);
    let (_, tag) = peer.establish();
    for number in 0..500 {
        let name = format!("flood{number}");
        peer.send(Request::of("OPTIONS").branch(&name).call_id(&name).text());
    }
    assert_eq!(peer.endpoint.stats().server_transactions, 50);
    assert!(peer.last().starts_with("SIP/2.0 503 "));
    assert_eq!(peer.endpoint.counters().refused_by_limit, 451);
    let bye = Request::of("BYE").branch("b").ours(&tag).sequence(2);
    assert_eq!(statuses(&peer.send(bye.text())), ["200"]);
    peer.assert_clean();
}

#[test]
fn large_requests_cannot_pile_up_either() {
    let mut limited = config(address(0));
    limited.limits.retained_bytes = 100_000;
    let mut peer = Peer::of(limited);
    let long = format!("Via: SIP/2.0/UDP {}.example.com", "a".repeat(20_000));
    for number in 0..50 {
        let name = format!("large{number}");
        let request = Request::of("OPTIONS")
            .branch(&name)
            .call_id(&name)
            .field(&long);
        peer.send(request.text());
    }
    assert!(peer.endpoint.stats().server_transactions < 6);
}

#[test]
fn garbage_is_counted_and_bad_requests_are_refused_with_the_reason() {
    let mut peer = Peer::new();
    assert!(peer.send([0_u8, 159, 146, 150]).is_empty());
    assert!(peer.send("\r\n\r\n").is_empty());
    assert_eq!(peer.endpoint.counters().dropped_unparsable, 1);
    let no_call_id = Request::invite().text().replace("Call-ID: call\r\n", "");
    let refusal = peer.send(no_call_id).remove(0);
    assert!(refusal.starts_with("SIP/2.0 400 "), "{refusal}");
    assert_eq!(header(&refusal, "CSeq"), Some("1 INVITE"));
    assert!(!peer.saw_call());
}

/// Who is not at 192.0.2.77 is asked for a password.
fn guarded() -> EndpointConfig {
    let mut guarded = config(address(0));
    guarded.authentication = Some(InboundAuthentication {
        realm: "offhook".to_owned(),
        users: vec![Credentials {
            username: "user".to_owned(),
            password: "secret".to_owned(),
        }],
        trusted: vec!["192.0.2.77/32".parse().unwrap()],
    });
    guarded
}

#[test]
fn strangers_are_not_told_who_we_are_and_those_whom_we_know_are() {
    let bad = Request::invite().text().replace("Call-ID: call\r\n", "");
    let requests = [
        bad,
        Request::of("OPTIONS").branch("o").call_id("o").text(),
        Request::of("REGISTER").branch("r").call_id("r").text(),
        Request::of("BYE").branch("b").ours("nobody").text(),
        Request::invite().text(),
    ];
    for (source, known) in [
        (address(1), false),
        ("192.0.2.77:5060".parse().unwrap(), true),
    ] {
        let mut peer = Peer::of(guarded());
        peer.source = source;
        for request in &requests {
            let answer = peer.send(request).pop().expect("an answer");
            assert_eq!(answer.contains("Offhook"), known, "{answer}");
        }
    }
}

#[test]
fn a_call_from_a_stranger_is_challenged_and_taken_with_the_right_password() {
    let guarded = guarded();
    let mut callee = Peer::of(guarded.clone());
    let mut caller = Peer::of(config(address(1)));
    let mut invitation = invitation(address(0), OURS);
    invitation.credentials = Some(Credentials {
        username: "user".to_owned(),
        password: "secret".to_owned(),
    });
    caller.act(|endpoint, now| endpoint.invite(now, invitation).unwrap());
    let challenge = callee.send(caller.last()).remove(0);
    assert!(challenge.starts_with("SIP/2.0 401 "));
    assert!(challenge.contains("algorithm=SHA-256"));
    assert!(!callee.saw_call());
    caller.source = address(0);
    let reply = caller.send(&challenge);
    assert_eq!(summaries(&reply), ["ACK", "INVITE"]);
    callee.send(&reply[0]);
    assert_eq!(statuses(&callee.send(&reply[1])), ["100"]);
    assert!(matches!(
        callee.events.last(),
        Some(Event::IncomingCall(call)) if call.authenticated.as_deref() == Some("user")
    ));

    let mut trusting = Peer::of(guarded);
    trusting.source = "192.0.2.77:5060".parse().unwrap();
    trusting.send(Request::invite().text());
    assert!(trusting.saw_call());
}

#[test]
fn keep_alives_and_unknown_sockets_are_nothing() {
    let mut peer = Peer::new();
    let source = peer.source;
    let now = peer.now;
    peer.endpoint.handle_datagram(
        now,
        TransportId(7),
        source,
        Request::invite().text().as_bytes(),
    );
    assert!(peer.endpoint.poll().is_none());
    peer.endpoint.handle_transmit_failed(now, UDP, source);
    assert!(peer.endpoint.poll().is_none());
}
