//! What a peer may say inside and around its calls, in order and out of it.

use super::peer::{OURS, Peer, Request, THEIRS, header, statuses, summaries, to_tag};
use super::seconds;
use crate::sip::endpoint::{CommandError, EndCause, Event, Hangup};
use std::net::SocketAddr;

#[test]
fn a_repeated_invite_gets_the_same_response_and_makes_no_second_call() {
    let mut peer = Peer::new();
    let invite = Request::invite().text();
    let first = peer.send(&invite);
    assert_eq!(statuses(&first), ["100"]);
    let leg = peer.leg();
    peer.act(|endpoint, now| endpoint.ring(now, leg).unwrap());
    let ringing = peer.last().to_owned();
    assert_eq!(peer.send(&invite), [ringing]);
    assert_eq!(peer.events.len(), 1);
}

#[test]
fn responses_go_back_to_the_source_with_rport_and_say_where_that_is() {
    let mut peer = Peer::new();
    peer.source = "198.51.100.7:40000".parse().unwrap();
    let invite = Request::invite().sent_by("10.0.0.5:5060;rport").text();
    let trying = peer.send(&invite).remove(0);
    assert_eq!(peer.destinations, [peer.source]);
    let via = header(&trying, "Via").unwrap();
    assert!(via.contains("received=198.51.100.7"), "{via}");
    assert!(via.contains("rport=40000"), "{via}");
}

#[test]
fn without_rport_responses_go_to_the_source_address_and_the_port_of_the_via() {
    let mut peer = Peer::new();
    peer.source = "198.51.100.7:40000".parse().unwrap();
    peer.send(
        Request::invite()
            .sent_by("198.51.100.7:5070;maddr=203.0.113.9")
            .text(),
    );
    let expected: SocketAddr = "198.51.100.7:5070".parse().unwrap();
    assert_eq!(peer.destinations, [expected]);
}

#[test]
fn a_peer_behind_nat_is_hung_up_on_where_it_called_from() {
    let mut peer = Peer::new();
    peer.source = "198.51.100.7:40000".parse().unwrap();
    let private = Request::of("INVITE")
        .sent_by("10.0.0.5:5060;rport")
        .field("Contact: <sip:peer@10.0.0.5:5060>")
        .sdp(THEIRS);
    peer.send(private.text());
    let leg = peer.leg();
    peer.act(|endpoint, now| endpoint.accept(now, leg, OURS.into()).unwrap());
    let tag = to_tag(peer.last());
    peer.send(Request::of("ACK").ours(&tag).branch("ack").text());
    peer.act(|endpoint, now| endpoint.hangup(now, leg, Hangup::default()).unwrap());
    assert!(
        peer.last()
            .starts_with("BYE sip:peer@10.0.0.5:5060 SIP/2.0\r\n")
    );
    assert_eq!(peer.destinations.last(), Some(&peer.source));
}

#[test]
fn a_peer_on_this_machine_with_another_contact_is_reached_where_it_called_from() {
    let mut peer = Peer::new();
    peer.source = "127.0.0.1:5080".parse().unwrap();
    peer.send(Request::invite().sent_by("127.0.0.1:5080").text());
    let leg = peer.leg();
    peer.act(|endpoint, now| endpoint.accept(now, leg, OURS.into()).unwrap());
    let tag = to_tag(peer.last());
    peer.send(Request::of("ACK").ours(&tag).branch("ack").text());
    peer.act(|endpoint, now| endpoint.hangup(now, leg, Hangup::default()).unwrap());
    assert_eq!(peer.destinations.last(), Some(&peer.source));
}

#[test]
fn reinvites_that_are_never_acknowledged_do_not_pile_up() {
    let mut peer = Peer::new();
    let (leg, tag) = peer.establish();
    for number in 2..40 {
        let branch = format!("r{number}");
        let reinvite = Request::invite()
            .branch(&branch)
            .ours(&tag)
            .sequence(number);
        peer.send(reinvite.text());
        // Refused ones left no offer to answer.
        let _ = peer.act(|endpoint, now| endpoint.answer_offer(now, leg, OURS.into()));
    }
    let accepted = summaries(&peer.inbox)
        .iter()
        .filter(|name| *name == "200 INVITE")
        .count();
    assert_eq!(accepted, 1 + 8);
}

#[test]
fn requests_in_the_dialog_follow_the_record_routes() {
    let mut peer = Peer::new();
    let invite =
        Request::invite().field("Record-Route: <sip:192.0.2.50;lr=on>, <sip:proxy.example.com;lr>");
    peer.send(invite.text());
    let leg = peer.leg();
    peer.act(|endpoint, now| endpoint.accept(now, leg, OURS.into()).unwrap());
    let ok = peer.last().to_owned();
    assert!(ok.contains("Record-Route: <sip:192.0.2.50;lr=on>, <sip:proxy.example.com;lr>"));
    let tag = to_tag(&ok);
    peer.send(Request::of("ACK").ours(&tag).branch("ack").text());
    peer.act(|endpoint, now| endpoint.hangup(now, leg, Hangup::default()).unwrap());
    let bye = peer.last();
    assert!(bye.starts_with("BYE sip:peer@192.0.2.2:5060 SIP/2.0\r\n"));
    let first = bye.find("Route: <sip:192.0.2.50;lr=on>").unwrap();
    let second = bye.find("Route: <sip:proxy.example.com;lr>").unwrap();
    assert!(first < second);
    assert_eq!(
        peer.destinations.last(),
        Some(&"192.0.2.50:5060".parse().unwrap())
    );
}

#[test]
fn a_strict_router_gets_itself_as_request_uri_and_the_target_as_last_route() {
    let mut peer = Peer::new();
    let invite = Request::invite().field("Record-Route: <sip:192.0.2.50>, <sip:192.0.2.51;lr>");
    peer.send(invite.text());
    let leg = peer.leg();
    peer.act(|endpoint, now| endpoint.accept(now, leg, OURS.into()).unwrap());
    let tag = to_tag(peer.last());
    peer.send(Request::of("ACK").ours(&tag).branch("ack").text());
    peer.act(|endpoint, now| endpoint.hangup(now, leg, Hangup::default()).unwrap());
    let bye = peer.last();
    assert!(bye.starts_with("BYE sip:192.0.2.50 SIP/2.0\r\n"));
    assert!(bye.contains("Route: <sip:192.0.2.51;lr>\r\nRoute: <sip:peer@192.0.2.2:5060>\r\n"));
}

#[test]
fn a_cancel_for_nothing_gets_481_and_one_for_an_answered_call_changes_nothing() {
    let mut peer = Peer::new();
    let stray = peer.send(Request::of("CANCEL").branch("unknown").text());
    assert_eq!(statuses(&stray), ["481"]);
    peer.establish();
    let late = peer.send(Request::of("CANCEL").text());
    assert_eq!(statuses(&late), ["200"]);
    assert_eq!(peer.endpoint.stats().legs, 1);
}

#[test]
fn a_cancelled_call_is_answered_487_with_the_tag_of_its_cancel() {
    let mut peer = Peer::new();
    peer.send(Request::invite().text());
    let cancel =
        Request::of("CANCEL").field("Reason: SIP;cause=200;text=\"Call completed elsewhere\"");
    let answers = peer.send(cancel.text());
    assert_eq!(summaries(&answers), ["200 CANCEL", "487 INVITE"]);
    assert_eq!(to_tag(&answers[0]), to_tag(&answers[1]));
    let Some(Event::Ended {
        cause: EndCause::RemoteCancel {
            reason: Some(reason),
        },
        ..
    }) = peer.events.last()
    else {
        panic!("{:?}", peer.events.last());
    };
    assert_eq!(reason.cause, Some(200));
    peer.assert_clean();
}

#[test]
fn a_request_with_the_wrong_tag_of_its_own_gets_481() {
    let mut peer = Peer::new();
    let (_, tag) = peer.establish();
    let bye = Request::of("BYE")
        .branch("b")
        .ours(&tag)
        .theirs("forged")
        .sequence(2);
    assert_eq!(statuses(&peer.send(bye.text())), ["481"]);
    assert_eq!(peer.endpoint.stats().legs, 1);
}

#[test]
fn a_request_with_an_old_sequence_number_gets_500() {
    let mut peer = Peer::new();
    let (_, tag) = peer.establish();
    let in_dialog = |method: &str, number: u32| {
        let branch = format!("{method}{number}");
        Request::of(method)
            .branch(&branch)
            .ours(&tag)
            .sequence(number)
    };
    assert_eq!(statuses(&peer.send(in_dialog("INFO", 9).text())), ["200"]);
    assert_eq!(statuses(&peer.send(in_dialog("INFO", 8).text())), ["500"]);
    assert_eq!(statuses(&peer.send(in_dialog("BYE", 10).text())), ["200"]);
}

#[test]
fn requests_in_a_dialog_are_answered_as_their_methods_ask() {
    let mut peer = Peer::new();
    let (_, tag) = peer.establish();
    for (number, (method, status)) in [
        ("OPTIONS", "200"),
        ("INFO", "200"),
        ("NOTIFY", "400"),
        ("REFER", "400"),
        ("MESSAGE", "405"),
        ("UPDATE", "200"),
    ]
    .into_iter()
    .enumerate()
    {
        let request = Request::of(method)
            .branch(method)
            .ours(&tag)
            .sequence(2 + u32::try_from(number).unwrap())
            .field("Contact: <sip:peer@192.0.2.2>");
        assert_eq!(statuses(&peer.send(request.text())), [status], "{method}");
    }
}

#[test]
fn an_update_without_sdp_moves_the_remote_target() {
    let mut peer = Peer::new();
    let (leg, tag) = peer.establish();
    let update = Request::of("UPDATE")
        .branch("u")
        .ours(&tag)
        .sequence(2)
        .field("Contact: <sip:moved@192.0.2.9:5066>");
    peer.send(update.text());
    peer.act(|endpoint, now| endpoint.hangup(now, leg, Hangup::default()).unwrap());
    assert!(
        peer.last()
            .starts_with("BYE sip:moved@192.0.2.9:5066 SIP/2.0\r\n")
    );
    assert_eq!(
        peer.destinations.last(),
        Some(&"192.0.2.9:5066".parse().unwrap())
    );
}

#[test]
fn an_update_with_sdp_is_an_offer_answered_in_its_200() {
    let mut peer = Peer::new();
    let (leg, tag) = peer.establish();
    let update = Request::of("UPDATE")
        .branch("u")
        .ours(&tag)
        .sequence(2)
        .field("Contact: <sip:peer@192.0.2.2:5060>")
        .sdp(THEIRS);
    assert!(peer.send(update.text()).is_empty());
    assert!(matches!(
        peer.events.last(),
        Some(Event::Offer { sdp: Some(_), .. })
    ));
    peer.act(|endpoint, now| endpoint.answer_offer(now, leg, OURS.into()).unwrap());
    assert!(peer.last().starts_with("SIP/2.0 200 OK\r\n"));
    assert!(peer.last().ends_with(OURS));
    peer.act(|endpoint, now| endpoint.hangup(now, leg, Hangup::default()).unwrap());
    assert!(peer.last().starts_with("BYE "), "no ACK is due");
}

#[test]
fn a_delayed_offer_is_made_in_the_200_and_answered_in_the_ack() {
    let mut peer = Peer::new();
    let invite = Request::of("INVITE").field("Contact: <sip:peer@192.0.2.2:5060>");
    peer.send(invite.text());
    assert!(matches!(
        peer.events.last(),
        Some(Event::IncomingCall(call)) if call.offer.is_none()
    ));
    let leg = peer.leg();
    peer.act(|endpoint, now| endpoint.accept(now, leg, OURS.into()).unwrap());
    let tag = to_tag(peer.last());
    let crossing = Request::of("UPDATE")
        .branch("u")
        .ours(&tag)
        .sequence(2)
        .sdp(THEIRS);
    assert_eq!(statuses(&peer.send(crossing.text())), ["491"]);
    let ack = Request::of("ACK").branch("a").ours(&tag).sdp(THEIRS);
    peer.send(ack.text());
    assert!(matches!(
        peer.events.last(),
        Some(Event::Confirmed { answer: Some(answer), .. }) if answer == THEIRS.as_bytes()
    ));
}

#[test]
fn a_reinvite_without_sdp_asks_for_an_offer_and_answers_it_in_the_ack() {
    let mut peer = Peer::new();
    let (leg, tag) = peer.establish();
    let reinvite = Request::invite()
        .without_fields()
        .body("")
        .branch("r")
        .ours(&tag)
        .sequence(2);
    assert_eq!(statuses(&peer.send(reinvite.text())), ["100"]);
    assert!(matches!(
        peer.events.last(),
        Some(Event::Offer { sdp: None, .. })
    ));
    peer.act(|endpoint, now| endpoint.answer_offer(now, leg, OURS.into()).unwrap());
    assert!(peer.last().ends_with(OURS));
    let ack = Request::of("ACK")
        .branch("ra")
        .ours(&tag)
        .sequence(2)
        .sdp(THEIRS);
    peer.send(ack.text());
    assert!(
        matches!(peer.events.last(), Some(Event::Answer { sdp, .. }) if sdp == THEIRS.as_bytes())
    );
    assert!(
        peer.wait(seconds(40)).is_empty(),
        "the 200 is not sent again"
    );
}

#[test]
fn a_second_offer_while_the_first_is_open_gets_500_with_retry_after() {
    let mut peer = Peer::new();
    let (_, tag) = peer.establish();
    let reinvite = |number: u32| {
        let branch = format!("r{number}");
        Request::invite()
            .branch(&branch)
            .ours(&tag)
            .sequence(number)
            .text()
    };
    peer.send(reinvite(2));
    let refusal = peer.send(reinvite(3)).remove(0);
    assert!(refusal.starts_with("SIP/2.0 500 "));
    let seconds: u32 = header(&refusal, "Retry-After").unwrap().parse().unwrap();
    assert!(seconds <= 10);
}

#[test]
fn a_cancelled_reinvite_gets_487_and_the_offer_is_withdrawn() {
    let mut peer = Peer::new();
    let (leg, tag) = peer.establish();
    peer.send(Request::invite().branch("r").ours(&tag).sequence(2).text());
    let cancel = Request::of("CANCEL").branch("r").ours(&tag).sequence(2);
    let answers = peer.send(cancel.text());
    assert_eq!(summaries(&answers), ["200 CANCEL", "487 INVITE"]);
    assert!(matches!(
        peer.events.last(),
        Some(Event::OfferWithdrawn { .. })
    ));
    let late = peer.act(|endpoint, now| endpoint.answer_offer(now, leg, OURS.into()));
    assert_eq!(late, Err(CommandError::WrongState));
}

#[test]
fn a_bye_amid_an_open_offer_ends_both() {
    let mut peer = Peer::new();
    let (_, tag) = peer.establish();
    peer.send(Request::invite().branch("r").ours(&tag).sequence(2).text());
    let bye = Request::of("BYE").branch("b").ours(&tag).sequence(3);
    assert_eq!(summaries(&peer.send(bye.text())), ["200 BYE", "487 INVITE"]);
    peer.send(Request::of("ACK").branch("r").ours(&tag).sequence(2).text());
    peer.assert_clean();
}

#[test]
fn the_caller_may_say_bye_before_the_answer_and_before_the_ack() {
    let mut peer = Peer::new();
    peer.send(Request::invite().text());
    let leg = peer.leg();
    peer.act(|endpoint, now| endpoint.ring(now, leg).unwrap());
    let tag = to_tag(peer.last());
    let bye = Request::of("BYE").branch("b").ours(&tag).sequence(2);
    assert_eq!(summaries(&peer.send(bye.text())), ["200 BYE", "487 INVITE"]);
    peer.send(Request::of("ACK").ours(&tag).text());
    peer.assert_clean();

    let mut peer = Peer::new();
    peer.send(Request::invite().text());
    let leg = peer.leg();
    peer.act(|endpoint, now| endpoint.accept(now, leg, OURS.into()).unwrap());
    let tag = to_tag(peer.last());
    let bye = Request::of("BYE").branch("b").ours(&tag).sequence(2);
    assert_eq!(summaries(&peer.send(bye.text())), ["200 BYE"]);
    assert!(
        peer.wait(seconds(40)).is_empty(),
        "the 200 is not sent again"
    );
    peer.assert_clean();
}
