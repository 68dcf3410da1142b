//! UPDATE before and after the answer (RFC 3311), and offers that come late: in 2xx, in reliable
//! responses, in ACK and PRACK.

use super::peer::{OURS, Peer, Request, THEIRS, header, respond, statuses, summaries, to_tag};
use super::seconds;
use crate::sip::endpoint::simulation::{address, invitation};
use crate::sip::endpoint::{CommandError, EndCause, Event, Hangup, LegId};

const SECOND: &str = "v=0\r\no=- 1 2 IN IP4 192.0.2.2\r\ns=second\r\n";

/// An established call from a peer that takes UPDATE.
fn established() -> (Peer, LegId, String) {
    let mut peer = Peer::new();
    peer.send(Request::invite().field("Allow: INVITE, UPDATE").text());
    let leg = peer.leg();
    peer.act(|endpoint, now| endpoint.accept(now, leg, OURS.into()).unwrap());
    let tag = to_tag(peer.last());
    peer.send(Request::of("ACK").ours(&tag).branch("ack").text());
    (peer, leg, tag)
}

fn update(tag: &str, number: u32, sdp: &str) -> Request {
    let branch = format!("u{number}");
    Request::of("UPDATE")
        .branch(&branch)
        .ours(tag)
        .sequence(number)
        .field("Contact: <sip:peer@192.0.2.2:5060>")
        .sdp(sdp)
}

const DESCRIBED: &str = "Contact: <sip:peer@192.0.2.2:5060>\r\nContent-Type: application/sdp\r\n";

#[test]
fn we_change_a_session_by_update() {
    let (mut peer, leg, _) = established();
    peer.act(|endpoint, now| endpoint.update(now, leg, OURS.into()).unwrap());
    let update = peer.last_of("UPDATE");
    assert!(update.ends_with(OURS));
    assert!(header(&update, "Contact").is_some());
    let answered = peer.send(respond(&update, "200 OK", "", DESCRIBED, THEIRS));
    assert!(answered.is_empty(), "no ACK");
    assert!(matches!(
        peer.events.last(),
        Some(Event::Answer { sdp, .. }) if sdp == THEIRS.as_bytes()
    ));
}

#[test]
fn an_update_that_meets_491_or_a_short_wait_is_sent_again() {
    let (mut peer, leg, _) = established();
    peer.act(|endpoint, now| endpoint.update(now, leg, OURS.into()).unwrap());
    let first = peer.last_of("UPDATE");
    peer.send(respond(&first, "491 Request Pending", "", "", ""));
    let second = peer.wait(seconds(5)).remove(0);
    assert!(second.starts_with("UPDATE ") && second.ends_with(OURS));
    let busy = "500 Server Internal Error";
    peer.send(respond(&second, busy, "", "Retry-After: 7\r\n", ""));
    assert!(peer.wait(seconds(6)).is_empty());
    let third = peer.wait(seconds(2)).remove(0);
    peer.send(respond(&third, "488 Not Acceptable Here", "", "", ""));
    assert!(matches!(
        peer.events.last(),
        Some(Event::OfferRefused { status: 488, .. })
    ));
    assert_eq!(peer.endpoint.stats().legs, 1);
}

#[test]
fn a_peer_that_does_not_take_update_gets_none() {
    let mut peer = Peer::new();
    let (leg, _) = peer.establish();
    let refused = peer.act(|endpoint, now| endpoint.update(now, leg, OURS.into()));
    assert_eq!(refused, Err(CommandError::WrongState));
}

#[test]
fn offers_that_cross_are_told_apart_by_who_is_late() {
    let (mut peer, leg, tag) = established();
    peer.act(|endpoint, now| endpoint.update(now, leg, OURS.into()).unwrap());
    let crossing = update(&tag, 2, SECOND);
    assert_eq!(statuses(&peer.send(crossing.text())), ["491"]);
    let crossing = Request::invite().branch("r").ours(&tag).sequence(3);
    assert_eq!(statuses(&peer.send(crossing.text())), ["491"]);
    let refresh = update(&tag, 4, "").without_fields();
    assert_eq!(statuses(&peer.send(refresh.text())), ["200"], "no offer");
    let (mut peer, _, tag) = established();
    assert!(peer.send(update(&tag, 2, SECOND).text()).is_empty());
    let overlapping = peer.send(update(&tag, 3, SECOND).text()).remove(0);
    assert!(overlapping.starts_with("SIP/2.0 500 "));
    assert!(header(&overlapping, "Retry-After").is_some());
}

#[test]
fn before_the_answer_an_update_waits_for_the_invites_own_offer() {
    let mut peer = Peer::new();
    peer.send(Request::invite().field("Supported: 100rel").text());
    let leg = peer.leg();
    peer.act(|endpoint, now| endpoint.ring(now, leg).unwrap());
    let tag = to_tag(peer.last());
    let early = peer.send(update(&tag, 2, SECOND).text()).remove(0);
    assert!(early.starts_with("SIP/2.0 500 "));
    assert!(header(&early, "Retry-After").is_some());
    let refresh = update(&tag, 3, "").without_fields();
    assert_eq!(statuses(&peer.send(refresh.text())), ["200"], "no offer");
}

#[test]
fn a_caller_may_change_the_session_before_the_answer() {
    let mut peer = Peer::new();
    let invite = Request::invite()
        .field("Supported: 100rel")
        .field("Allow: UPDATE, PRACK");
    peer.send(invite.text());
    let leg = peer.leg();
    let early = |endpoint: &mut crate::sip::endpoint::Endpoint, now| {
        endpoint.progress(now, leg, 183, Some(OURS.into())).unwrap();
    };
    peer.act(early);
    let response = peer.last().to_owned();
    let tag = to_tag(&response);
    let rack = format!("RAck: {} 1 INVITE", header(&response, "RSeq").unwrap());
    let prack = Request::of("PRACK").branch("p").ours(&tag).sequence(2);
    peer.send(prack.field(&rack).text());
    assert!(peer.send(update(&tag, 3, SECOND).text()).is_empty());
    assert!(matches!(
        peer.events.last(),
        Some(Event::Offer { sdp: Some(sdp), .. }) if sdp == SECOND.as_bytes()
    ));
    peer.act(|endpoint, now| endpoint.answer_offer(now, leg, OURS.into()).unwrap());
    assert_eq!(summaries(&peer.inbox).last().unwrap(), "200 UPDATE");
    // And so may we.
    peer.act(|endpoint, now| endpoint.update(now, leg, OURS.into()).unwrap());
    let ours = peer.last_of("UPDATE");
    peer.send(respond(&ours, "200 OK", "", DESCRIBED, THEIRS));
    assert!(matches!(peer.events.last(), Some(Event::Answer { .. })));
    // A cancelled call leaves no UPDATE without a response.
    assert!(peer.send(update(&tag, 4, SECOND).text()).is_empty());
    let ended = peer.send(Request::of("CANCEL").text());
    assert_eq!(
        summaries(&ended),
        ["200 CANCEL", "487 UPDATE", "487 INVITE"]
    );
    peer.send(Request::of("ACK").text());
    peer.assert_clean();
}

/// Our INVITE, answered early and reliably by a callee that takes UPDATE; ours, and our tag.
fn answered_early() -> (Peer, LegId, String, String) {
    let mut peer = Peer::new();
    let request = invitation(address(1), OURS);
    let leg = peer.act(|endpoint, now| endpoint.invite(now, request).unwrap());
    let invite = peer.last().to_owned();
    let extra = format!("{DESCRIBED}Require: 100rel\r\nRSeq: 1\r\nAllow: UPDATE\r\n");
    peer.send(respond(
        &invite,
        "183 Session Progress",
        "t",
        &extra,
        THEIRS,
    ));
    let prack = peer.last_of("PRACK");
    peer.send(respond(&prack, "200 OK", "", "", ""));
    let from = header(&invite, "From").unwrap();
    let tag = from.split(";tag=").nth(1).unwrap().to_owned();
    (peer, leg, invite, tag)
}

/// A request of the callee's in the dialog of our INVITE.
fn of_callee(method: &str, invite: &str, tag: &str, number: u32, sdp: &str) -> String {
    let call_id = header(invite, "Call-ID").unwrap();
    let branch = format!("c{number}");
    Request::of(method)
        .branch(&branch)
        .call_id(call_id)
        .theirs("t")
        .ours(tag)
        .sequence(number)
        .field("Contact: <sip:peer@192.0.2.2:5060>")
        .sdp(sdp)
        .text()
}

#[test]
fn a_callee_may_change_the_session_before_it_answers() {
    let (mut peer, leg, invite, tag) = answered_early();
    let offer = of_callee("UPDATE", &invite, &tag, 1, SECOND);
    assert!(peer.send(offer).is_empty());
    assert!(matches!(peer.events.last(), Some(Event::Offer { .. })));
    // Its 2xx may overtake our answer.
    peer.send(respond(&invite, "200 OK", "t", DESCRIBED, ""));
    assert!(matches!(peer.events.last(), Some(Event::Answered { .. })));
    peer.act(|endpoint, now| endpoint.answer_offer(now, leg, OURS.into()).unwrap());
    assert_eq!(summaries(&peer.inbox).last().unwrap(), "200 UPDATE");
    peer.act(|endpoint, now| endpoint.hangup(now, leg, Hangup::default()).unwrap());
    let bye = peer.last_of("BYE");
    peer.send(respond(&bye, "200 OK", "", "", ""));
    peer.assert_clean();
}

#[test]
fn we_may_change_the_session_before_the_callee_answers() {
    let (mut peer, leg, invite, _) = answered_early();
    peer.act(|endpoint, now| endpoint.update(now, leg, OURS.into()).unwrap());
    let update = peer.last_of("UPDATE");
    assert_eq!(header(&update, "CSeq"), Some("3 UPDATE"));
    assert_eq!(header(&update, "Session-Expires"), None);
    peer.send(respond(&update, "200 OK", "", DESCRIBED, SECOND));
    peer.send(respond(&invite, "200 OK", "t", DESCRIBED, ""));
    assert!(matches!(
        peer.events.last(),
        Some(Event::Answered { sdp, .. }) if sdp == SECOND.as_bytes()
    ));
}

#[test]
fn before_its_answer_a_callee_may_neither_offer_nor_reinvite_nor_hang_up() {
    let mut peer = Peer::new();
    let request = invitation(address(1), OURS);
    peer.act(|endpoint, now| endpoint.invite(now, request).unwrap());
    let invite = peer.last().to_owned();
    peer.send(respond(&invite, "180 Ringing", "t", DESCRIBED, ""));
    let from = header(&invite, "From").unwrap();
    let tag = from.split(";tag=").nth(1).unwrap().to_owned();
    for (number, (method, status)) in [("UPDATE", "491"), ("INVITE", "491"), ("BYE", "481")]
        .into_iter()
        .enumerate()
    {
        let number = u32::try_from(number + 1).unwrap();
        let request = of_callee(method, &invite, &tag, number, SECOND);
        assert_eq!(statuses(&peer.send(request)), [status], "{method}");
    }
}

#[test]
fn an_offer_of_a_callee_that_lost_the_race_is_refused() {
    let (mut peer, _, invite, tag) = answered_early();
    peer.send(of_callee("UPDATE", &invite, &tag, 1, SECOND));
    let other = peer.send(respond(&invite, "200 OK", "other", DESCRIBED, THEIRS));
    assert_eq!(summaries(&other), ["487 UPDATE", "ACK"]);
}

/// Our INVITE that asks for an offer.
fn asking() -> (Peer, LegId, String) {
    let mut peer = Peer::new();
    let mut request = invitation(address(1), OURS);
    request.sdp = None;
    let leg = peer.act(|endpoint, now| endpoint.invite(now, request).unwrap());
    let invite = peer.last().to_owned();
    assert!(invite.ends_with("\r\n\r\n") && header(&invite, "Content-Type").is_none());
    (peer, leg, invite)
}

#[test]
fn a_call_without_offer_answers_the_callees_in_its_ack() {
    let (mut peer, leg, invite) = asking();
    let ok = respond(&invite, "200 OK", "t", DESCRIBED, THEIRS);
    assert!(peer.send(&ok).is_empty(), "the ACK waits for our answer");
    assert!(matches!(
        peer.events.last(),
        Some(Event::Offer { sdp: Some(sdp), .. }) if sdp == THEIRS.as_bytes()
    ));
    assert!(peer.send(&ok).is_empty(), "so does that of a repeat");
    peer.act(|endpoint, now| endpoint.answer_offer(now, leg, OURS.into()).unwrap());
    let ack = peer.last().to_owned();
    assert!(ack.starts_with("ACK ") && ack.ends_with(OURS));
    assert!(matches!(
        peer.events.last(),
        Some(Event::Answered { sdp, .. }) if sdp == THEIRS.as_bytes()
    ));
    assert_eq!(peer.send(&ok), [ack]);
}

#[test]
fn a_callees_offer_that_is_not_taken_is_acknowledged_and_the_call_ended() {
    for patient in [false, true] {
        let (mut peer, leg, invite) = asking();
        peer.send(respond(&invite, "200 OK", "t", DESCRIBED, THEIRS));
        let before = peer.inbox.len();
        if patient {
            peer.wait(seconds(17));
        } else {
            peer.act(|endpoint, now| endpoint.reject_offer(now, leg, 488).unwrap());
        }
        let mut sent = summaries(&peer.inbox[before..]);
        sent.dedup();
        assert_eq!(sent, ["ACK", "BYE"], "{patient}");
        let bye = peer.last_of("BYE");
        assert_eq!(
            header(&bye, "Reason"),
            Some("SIP;cause=488;text=\"Not Acceptable Here\"")
        );
        peer.send(respond(&bye, "200 OK", "", "", ""));
        assert!(matches!(
            peer.events.last(),
            Some(Event::Ended {
                cause: EndCause::Local,
                ..
            })
        ));
        peer.assert_clean();
    }
}

#[test]
fn a_call_without_offer_may_get_one_in_a_reliable_response_and_answer_it_in_the_prack() {
    let (mut peer, leg, invite) = asking();
    let extra = format!("{DESCRIBED}Require: 100rel\r\nRSeq: 9\r\n");
    let early = respond(&invite, "183 Session Progress", "t", &extra, THEIRS);
    assert!(peer.send(&early).is_empty(), "the PRACK waits");
    peer.act(|endpoint, now| endpoint.answer_offer(now, leg, OURS.into()).unwrap());
    let prack = peer.last().to_owned();
    assert!(prack.starts_with("PRACK ") && prack.ends_with(OURS));
    assert_eq!(header(&prack, "RAck"), Some("9 1 INVITE"));
    peer.send(respond(&prack, "200 OK", "", "", ""));
    let contact = "Contact: <sip:peer@192.0.2.2:5060>\r\n";
    let answered = peer.send(respond(&invite, "200 OK", "t", contact, ""));
    assert_eq!(summaries(&answered), ["ACK"]);
    assert!(matches!(
        peer.events.last(),
        Some(Event::Answered { sdp, .. }) if sdp == THEIRS.as_bytes()
    ));
}

#[test]
fn we_may_ask_for_an_offer_amid_a_call_and_answer_it_in_the_ack() {
    let (mut peer, leg, _) = established();
    peer.act(|endpoint, now| endpoint.request_offer(now, leg).unwrap());
    let reinvite = peer.last_of("INVITE");
    assert!(reinvite.ends_with("\r\n\r\n"));
    let ok = respond(&reinvite, "200 OK", "", DESCRIBED, SECOND);
    assert!(peer.send(&ok).is_empty());
    assert!(matches!(
        peer.events.last(),
        Some(Event::Offer { sdp: Some(sdp), .. }) if sdp == SECOND.as_bytes()
    ));
    peer.act(|endpoint, now| endpoint.answer_offer(now, leg, OURS.into()).unwrap());
    let ack = peer.last().to_owned();
    assert!(ack.starts_with("ACK ") && ack.ends_with(OURS));
    assert_eq!(peer.send(&ok), [ack], "for a repeat");
    let again = peer.act(|endpoint, now| endpoint.reinvite(now, leg, OURS.into()));
    assert_eq!(again, Ok(()), "no offer is open");
}

#[test]
fn an_invite_of_ours_that_comes_back_is_a_loop() {
    let mut peer = Peer::new();
    let request = invitation(address(1), OURS);
    peer.act(|endpoint, now| endpoint.invite(now, request).unwrap());
    let ours = peer.last().to_owned();
    let via = "Via: SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bKproxy\r\nVia:";
    let back = ours.replacen("Via:", via, 1);
    assert_eq!(statuses(&peer.send(back)), ["482"]);
    assert!(!peer.saw_call());
}

#[test]
fn a_route_or_contact_that_does_not_resolve_leads_to_where_the_call_came_from() {
    for field in [
        "Record-Route: <sip:proxy.invalid;lr>",
        "Record-Route: <sip:proxy.invalid>",
        "Subject: no route at all",
    ] {
        let mut peer = Peer::new();
        peer.source = "198.51.100.7:5080".parse().unwrap();
        let invite = Request::of("INVITE")
            .sent_by("198.51.100.7:5080;rport")
            .field("Contact: <sip:peer@pbx.invalid>")
            .field(field)
            .sdp(THEIRS);
        peer.send(invite.text());
        let leg = peer.leg();
        peer.act(|endpoint, now| endpoint.accept(now, leg, OURS.into()).unwrap());
        let tag = to_tag(peer.last());
        peer.send(Request::of("ACK").ours(&tag).branch("ack").text());
        peer.act(|endpoint, now| endpoint.hangup(now, leg, Hangup::default()).unwrap());
        assert!(peer.last().starts_with("BYE "));
        assert_eq!(peer.destinations.last(), Some(&peer.source), "{field}");
    }
}
