//! Calls of ours to a peer that answers as the test tells it to.

use super::peer::{OURS, Peer, THEIRS, header, respond, summaries, to_tag};
use super::seconds;
use crate::sip::endpoint::simulation::{address, invitation};
use crate::sip::endpoint::{Credentials, EndCause, Event, Hangup};
use crate::sip::uri::Uri;

/// Our INVITE as the peer got it.
fn call_out(peer: &mut Peer) -> String {
    let mut request = invitation(address(1), OURS);
    request.credentials = Some(Credentials {
        username: "user".to_owned(),
        password: "secret".to_owned(),
    });
    peer.act(|endpoint, now| endpoint.invite(now, request).unwrap());
    peer.last().to_owned()
}

const CONTACT: &str = "Contact: <sip:peer@192.0.2.2:5060>\r\n";
const ANSWER: &str = "Contact: <sip:peer@192.0.2.2:5060>\r\nContent-Type: application/sdp\r\n";

#[test]
fn wrong_credentials_are_tried_once() {
    let mut peer = Peer::new();
    let invite = call_out(&mut peer);
    let challenge = "WWW-Authenticate: Digest realm=\"r\", nonce=\"n1\", qop=\"auth\"\r\n";
    peer.send(respond(&invite, "401 Unauthorized", "t", challenge, ""));
    let again = peer.last_of("INVITE");
    assert_eq!(header(&again, "CSeq"), Some("2 INVITE"));
    assert!(
        header(&again, "Authorization")
            .unwrap()
            .contains("username=\"user\"")
    );
    let same = |name| header(&invite, name) == header(&again, name);
    assert!(same("Call-ID") && same("From") && !same("Via"));
    let challenge = "WWW-Authenticate: Digest realm=\"r\", nonce=\"n2\", qop=\"auth\"\r\n";
    peer.send(respond(&again, "401 Unauthorized", "t", challenge, ""));
    assert!(matches!(
        peer.events.last(),
        Some(Event::Ended {
            cause: EndCause::Rejected { status: 401, .. },
            ..
        })
    ));
    peer.assert_clean();
}

#[test]
fn a_stale_nonce_is_tried_again_but_not_for_ever() {
    let mut peer = Peer::new();
    let mut invite = call_out(&mut peer);
    for number in 0..10 {
        let challenge =
            format!("Proxy-Authenticate: Digest realm=\"r\", nonce=\"n{number}\", stale=true\r\n");
        peer.send(respond(
            &invite,
            "407 Proxy Authentication Required",
            "t",
            &challenge,
            "",
        ));
        let latest = peer.last_of("INVITE");
        if latest == invite {
            break;
        }
        invite = latest;
    }
    let invites = summaries(&peer.inbox)
        .iter()
        .filter(|name| *name == "INVITE")
        .count();
    assert_eq!(invites, 4);
    assert!(matches!(peer.events.last(), Some(Event::Ended { .. })));
    peer.assert_clean();
}

#[test]
fn the_ack_of_a_200_carries_the_credentials_of_its_invite() {
    let mut peer = Peer::new();
    let invite = call_out(&mut peer);
    let challenge = "WWW-Authenticate: Digest realm=\"r\", nonce=\"n1\", qop=\"auth\"\r\n";
    peer.send(respond(&invite, "401 Unauthorized", "t", challenge, ""));
    let again = peer.last_of("INVITE");
    peer.send(respond(&again, "200 OK", "t", ANSWER, THEIRS));
    let ack = peer.last_of("ACK");
    assert_eq!(
        header(&ack, "Authorization"),
        header(&again, "Authorization")
    );
    assert_eq!(header(&ack, "CSeq"), Some("2 ACK"));
}

#[test]
fn a_later_request_is_authorised_ahead_of_the_challenge() {
    let mut peer = Peer::new();
    let invite = call_out(&mut peer);
    let challenge = "WWW-Authenticate: Digest realm=\"r\", nonce=\"n1\", qop=\"auth\"\r\n";
    peer.send(respond(&invite, "401 Unauthorized", "t", challenge, ""));
    let again = peer.last_of("INVITE");
    peer.send(respond(&again, "200 OK", "t", ANSWER, THEIRS));
    let leg = peer.events.last().unwrap().leg().unwrap();
    peer.act(|endpoint, now| endpoint.hangup(now, leg, Hangup::default()).unwrap());
    let bye = peer.last_of("BYE");
    assert!(
        header(&bye, "Authorization")
            .unwrap()
            .contains("nc=00000002")
    );
    assert_eq!(header(&bye, "CSeq"), Some("3 BYE"));
    peer.send(respond(&bye, "200 OK", "t", "", ""));
    peer.assert_clean();
}

#[test]
fn a_forked_call_keeps_the_first_answer_and_ends_the_others() {
    let mut peer = Peer::new();
    let invite = call_out(&mut peer);
    peer.send(respond(&invite, "180 Ringing", "one", CONTACT, ""));
    peer.send(respond(&invite, "180 Ringing", "two", CONTACT, ""));
    peer.send(respond(&invite, "200 OK", "two", ANSWER, THEIRS));
    let surplus = peer.send(respond(&invite, "200 OK", "one", ANSWER, THEIRS));
    assert_eq!(summaries(&surplus), ["ACK", "BYE"]);
    assert_eq!(to_tag(&surplus[1]), "one");
    peer.send(respond(&surplus[1], "200 OK", "one", "", ""));
    let answers = peer
        .events
        .iter()
        .filter(|event| matches!(event, Event::Answered { .. }));
    assert_eq!(answers.count(), 1);
    assert_eq!(peer.endpoint.stats().legs, 1);
    let repeated = peer.send(respond(&invite, "200 OK", "one", ANSWER, THEIRS));
    assert_eq!(summaries(&repeated), ["ACK"], "and no second BYE");
}

#[test]
fn a_redirection_is_told_with_its_contacts() {
    let mut peer = Peer::new();
    let invite = call_out(&mut peer);
    let contacts = "Contact: <sip:a@example.com>;q=1, <sip:b@example.com>;q=0.5\r\n";
    peer.send(respond(&invite, "302 Moved Temporarily", "t", contacts, ""));
    assert_eq!(summaries(&peer.inbox), ["INVITE", "ACK"]);
    let Some(Event::Ended {
        cause:
            EndCause::Rejected {
                status: 302,
                contacts,
                ..
            },
        ..
    }) = peer.events.last()
    else {
        panic!("{:?}", peer.events.last());
    };
    let contacts: Vec<String> = contacts.iter().map(Uri::to_string).collect();
    assert_eq!(contacts, ["sip:a@example.com", "sip:b@example.com"]);
}

#[test]
fn the_ack_of_a_refusal_stays_on_the_branch_of_its_invite() {
    let mut peer = Peer::new();
    let invite = call_out(&mut peer);
    peer.send(respond(&invite, "486 Busy Here", "t", "", ""));
    let ack = peer.last_of("ACK");
    assert_eq!(header(&ack, "Via"), header(&invite, "Via"));
    assert_eq!(to_tag(&ack), "t");
    let repeated = peer.send(respond(&invite, "486 Busy Here", "t", "", ""));
    assert_eq!(repeated, [ack]);
    peer.assert_clean();
}

#[test]
fn a_response_that_is_not_for_us_is_dropped() {
    let mut peer = Peer::new();
    let invite = call_out(&mut peer);
    let elsewhere = invite.replace("Via: SIP/2.0/UDP 192.0.2.1", "Via: SIP/2.0/UDP 192.0.2.66");
    peer.send(respond(&elsewhere, "486 Busy Here", "t", "", ""));
    let unknown = invite.replace("branch=z9hG4bK", "branch=z9hG4bKx");
    peer.send(respond(&unknown, "486 Busy Here", "t", "", ""));
    assert_eq!(peer.endpoint.counters().dropped_stray, 2);
    assert_eq!(peer.endpoint.stats().legs, 1);
    assert!(peer.events.is_empty());
}

#[test]
fn a_reinvite_nobody_answers_finally_is_cancelled_and_the_call_goes_on() {
    let mut peer = Peer::new();
    let (leg, _) = peer.establish();
    peer.act(|endpoint, now| endpoint.reinvite(now, leg, OURS.into()).unwrap());
    let reinvite = peer.last().to_owned();
    peer.send(respond(&reinvite, "100 Trying", "", "", ""));
    let later = peer.wait(seconds(64));
    assert_eq!(summaries(&later), ["CANCEL"]);
    peer.send(respond(&later[0], "200 OK", "", "", ""));
    peer.send(respond(&reinvite, "487 Request Terminated", "", "", ""));
    assert!(matches!(
        peer.events.last(),
        Some(Event::OfferRefused { status: 487, .. })
    ));
    assert_eq!(peer.endpoint.stats().legs, 1);
}

/// Our INVITE to an address that has said nothing for the five seconds that it had.
fn call_out_in_vain(peer: &mut Peer) -> String {
    let mut request = invitation(address(1), OURS);
    request.patience = Some(seconds(5));
    peer.act(|endpoint, now| endpoint.invite(now, request).unwrap());
    let invite = peer.last().to_owned();
    peer.wait(seconds(4));
    assert!(peer.events.is_empty());
    peer.wait(seconds(1));
    assert!(matches!(
        peer.events.last(),
        Some(Event::Ended {
            cause: EndCause::NoResponse,
            ..
        })
    ));
    assert_eq!(peer.endpoint.stats().legs, 0);
    invite
}

#[test]
fn an_address_that_says_nothing_is_given_up_before_timer_b_where_there_is_another() {
    let mut peer = Peer::new();
    call_out_in_vain(&mut peer);
    peer.wait(seconds(64));
    peer.assert_clean();
}

#[test]
fn a_telephone_that_rings_after_its_address_was_given_up_is_cancelled() {
    let mut peer = Peer::new();
    let invite = call_out_in_vain(&mut peer);
    let cancel = peer.send(respond(&invite, "180 Ringing", "t", CONTACT, ""));
    assert_eq!(summaries(&cancel), ["CANCEL"]);
    peer.send(respond(&cancel[0], "200 OK", "t", "", ""));
    peer.send(respond(&invite, "487 Request Terminated", "t", "", ""));
    peer.wait(seconds(64));
    peer.assert_clean();
}

#[test]
fn an_answer_from_an_address_that_was_given_up_is_acknowledged_and_ended() {
    let mut peer = Peer::new();
    let invite = call_out_in_vain(&mut peer);
    let ended = peer.send(respond(&invite, "200 OK", "t", ANSWER, THEIRS));
    assert_eq!(summaries(&ended), ["ACK", "BYE"]);
    peer.send(respond(&ended[1], "200 OK", "t", "", ""));
    peer.wait(seconds(64));
    peer.assert_clean();
}

#[test]
fn an_address_that_has_answered_provisionally_has_all_the_time_to_ring() {
    let mut peer = Peer::new();
    let mut request = invitation(address(1), OURS);
    request.patience = Some(seconds(5));
    request.ring_timeout = seconds(60);
    peer.act(|endpoint, now| endpoint.invite(now, request).unwrap());
    let invite = peer.last().to_owned();
    peer.send(respond(&invite, "100 Trying", "", "", ""));
    peer.wait(seconds(59));
    assert_eq!(peer.endpoint.stats().legs, 1);
    peer.send(respond(&invite, "200 OK", "t", ANSWER, THEIRS));
    assert!(matches!(peer.events.last(), Some(Event::Answered { .. })));
}
