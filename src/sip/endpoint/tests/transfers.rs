//! REFER in both directions, and INVITEs that replace a call.

use super::peer::{OURS, Peer, Request, THEIRS, header, respond, statuses, summaries, to_tag};
use super::seconds;
use crate::sip::endpoint::simulation::{Simulation, Weather};
use crate::sip::endpoint::{
    CommandError, EndCause, Event, Hangup, LegId, ReferOutcome, ReferRequest, ReferTarget,
};
use crate::sip::headers::NameAddr;
use crate::sip::uri::Uri;

fn uri(text: &str) -> Uri {
    text.parse().unwrap()
}

fn blind(target: &str) -> ReferRequest {
    ReferRequest {
        target: ReferTarget::Blind(uri(target)),
        referred_by: None,
        follow: true,
    }
}

/// An established call from the peer, and the REFER that we sent in it.
fn referring(refer: ReferRequest) -> (Peer, LegId, String, String) {
    let mut peer = Peer::new();
    let (leg, tag) = peer.establish();
    peer.act(|endpoint, now| endpoint.refer(now, leg, refer).unwrap());
    let sent = peer.last_of("REFER");
    (peer, leg, tag, sent)
}

fn notify(tag: &str, number: u32, state: &str, status_line: &str) -> Request {
    let branch = format!("n{number}");
    Request::of("NOTIFY")
        .branch(&branch)
        .ours(tag)
        .sequence(number)
        .field("Event: refer")
        .field(&format!("Subscription-State: {state}"))
        .field("Content-Type: message/sipfrag;version=2.0")
        .body(status_line)
}

/// What was told of transfers, in order.
fn told(peer: &Peer) -> Vec<String> {
    peer.events
        .iter()
        .filter_map(|event| match event {
            Event::ReferProgress { status, .. } => Some(status.to_string()),
            Event::ReferFinished { outcome, .. } => Some(format!("{outcome:?}")),
            _ => None,
        })
        .collect()
}

#[test]
fn a_blind_transfer_is_followed_to_its_end_and_hung_up_on_at_once() {
    let (mut peer, leg, tag, refer) = referring(ReferRequest {
        referred_by: Some(NameAddr::new(uri("sip:us@example.org"))),
        ..blind("sip:sales@example.net")
    });
    assert_eq!(header(&refer, "Refer-To"), Some("<sip:sales@example.net>"));
    assert_eq!(header(&refer, "Referred-By"), Some("<sip:us@example.org>"));
    assert!(
        header(&refer, "Contact").is_some(),
        "REFER refreshes the target"
    );
    assert_eq!(header(&refer, "Refer-Sub"), None);
    peer.send(respond(&refer, "202 Accepted", "", "", ""));
    let trying = notify(&tag, 2, "active;expires=60", "SIP/2.0 100 Trying");
    assert_eq!(statuses(&peer.send(trying.text())), ["200"]);
    let ringing = notify(&tag, 3, "active;expires=55", "SIP/2.0 180 Ringing\r\n");
    peer.send(ringing.text());
    let done = notify(
        &tag,
        4,
        "terminated;reason=noresource",
        "SIP/2.0 200 OK\r\n",
    );
    peer.send(done.text());
    assert_eq!(told(&peer), ["100", "180", "Completed(200)"]);
    peer.act(|endpoint, now| endpoint.hangup(now, leg, Hangup::default()).unwrap());
    let bye = peer.last_of("BYE");
    peer.send(respond(&bye, "200 OK", "", "", ""));
    peer.assert_clean();
}

#[test]
fn a_notify_may_overtake_the_202_and_the_final_one_the_whole_answer() {
    let (mut peer, _, tag, refer) = referring(blind("sip:sales@example.net"));
    peer.send(notify(&tag, 2, "active", "SIP/2.0 100 Trying").text());
    peer.send(respond(&refer, "202 Accepted", "", "", ""));
    peer.send(notify(&tag, 3, "terminated", "SIP/2.0 486 Busy Here").text());
    assert_eq!(told(&peer), ["100", "Completed(486)"]);

    let (mut peer, _, tag, refer) = referring(blind("sip:sales@example.net"));
    peer.send(notify(&tag, 2, "terminated", "SIP/2.0 200 OK").text());
    peer.send(respond(&refer, "202 Accepted", "", "", ""));
    assert!(peer.wait(seconds(200)).is_empty());
    assert_eq!(told(&peer), ["Completed(200)"], "told once");
    assert_eq!(peer.endpoint.stats().legs, 1, "the call goes on");
}

#[test]
fn a_refused_transfer_leaves_the_call_as_it_was_and_may_be_tried_again() {
    let (mut peer, leg, _, refer) = referring(blind("sip:sales@example.net"));
    let second = peer.act(|endpoint, now| endpoint.refer(now, leg, blind("sip:b@example.net")));
    assert_eq!(second, Err(CommandError::ReferPending));
    peer.send(respond(&refer, "603 Decline", "", "", ""));
    assert_eq!(told(&peer), ["Refused(603)"]);
    peer.act(|endpoint, now| {
        endpoint
            .refer(now, leg, blind("sip:b@example.net"))
            .unwrap();
    });
    assert_eq!(
        header(&peer.last_of("REFER"), "Refer-To"),
        Some("<sip:b@example.net>")
    );
}

#[test]
fn a_peer_that_does_not_answer_a_refer_is_gone() {
    let (mut peer, _, _, _) = referring(blind("sip:sales@example.net"));
    peer.wait(seconds(33));
    assert_eq!(told(&peer), ["Refused(408)"]);
    assert!(matches!(
        peer.events.last(),
        Some(Event::Ended {
            cause: EndCause::DialogLost { status: None },
            ..
        })
    ));
    peer.assert_clean();
}

#[test]
fn a_peer_that_never_notifies_or_stops_notifying_is_not_waited_for() {
    let (mut peer, _, _, refer) = referring(blind("sip:sales@example.net"));
    peer.send(respond(&refer, "202 Accepted", "", "", ""));
    peer.wait(seconds(31));
    assert!(told(&peer).is_empty());
    peer.wait(seconds(2));
    assert_eq!(told(&peer), ["Unknown"]);

    let (mut peer, _, tag, refer) = referring(blind("sip:sales@example.net"));
    peer.send(respond(&refer, "202 Accepted", "", "", ""));
    peer.send(notify(&tag, 2, "active", "SIP/2.0 180 Ringing").text());
    peer.wait(seconds(170));
    assert_eq!(told(&peer), ["180"], "a target may ring for long");
    peer.wait(seconds(20));
    assert_eq!(told(&peer), ["180", "Unknown"]);
    let late = notify(&tag, 3, "terminated", "SIP/2.0 200 OK");
    assert_eq!(statuses(&peer.send(late.text())), ["200"]);
    assert_eq!(told(&peer), ["180", "Unknown"], "too late");
}

#[test]
fn a_subscription_that_ends_without_a_status_leaves_the_outcome_unknown() {
    for body in ["", "SIP/2.0 100 Trying", "nonsense"] {
        let (mut peer, _, tag, refer) = referring(blind("sip:sales@example.net"));
        peer.send(respond(&refer, "202 Accepted", "", "", ""));
        peer.send(notify(&tag, 2, "terminated;reason=noresource", body).text());
        assert_eq!(told(&peer), ["Unknown"], "{body}");
    }
}

#[test]
fn a_transfer_need_not_be_followed() {
    let (mut peer, _, tag, refer) = referring(ReferRequest {
        follow: false,
        ..blind("sip:sales@example.net")
    });
    assert_eq!(header(&refer, "Refer-Sub"), Some("false"));
    peer.send(respond(&refer, "200 OK", "", "Refer-Sub: false\r\n", ""));
    assert_eq!(told(&peer), ["Unknown"]);
    // A peer that does not know RFC 4488 notifies all the same.
    let (mut peer, _, other, refer) = referring(ReferRequest {
        follow: false,
        ..blind("sip:sales@example.net")
    });
    peer.send(respond(&refer, "202 Accepted", "", "", ""));
    peer.send(notify(&other, 2, "terminated", "SIP/2.0 200 OK").text());
    assert_eq!(told(&peer), ["Completed(200)"]);
    assert_eq!(tag.len(), other.len());
}

#[test]
fn a_notify_for_another_refer_or_package_changes_nothing() {
    let (mut peer, _, tag, refer) = referring(blind("sip:sales@example.net"));
    peer.send(respond(&refer, "202 Accepted", "", "", ""));
    let other = notify(&tag, 2, "terminated", "SIP/2.0 200 OK");
    let older = other.text().replace("Event: refer", "Event: refer;id=77");
    assert_eq!(statuses(&peer.send(older)), ["200"]);
    let presence = notify(&tag, 3, "active", "").text();
    let presence = presence.replace("Event: refer", "Event: presence");
    assert_eq!(statuses(&peer.send(presence)), ["489"]);
    assert!(told(&peer).is_empty());
    let number = header(&refer, "CSeq").unwrap().split(' ').next().unwrap();
    let named = notify(&tag, 4, "terminated", "SIP/2.0 200 OK").text();
    let named = named.replace("Event: refer", &format!("Event: refer;id={number}"));
    peer.send(named);
    assert_eq!(told(&peer), ["Completed(200)"]);
}

#[test]
fn a_notify_in_a_call_without_a_transfer_gets_481() {
    let mut peer = Peer::new();
    let (_, tag) = peer.establish();
    let stray = notify(&tag, 2, "active", "SIP/2.0 100 Trying");
    assert_eq!(statuses(&peer.send(stray.text())), ["481"]);
    assert_eq!(peer.endpoint.stats().legs, 1);
}

#[test]
fn a_hang_up_by_the_peer_amid_a_transfer_leaves_its_outcome_unknown() {
    let (mut peer, _, tag, refer) = referring(blind("sip:sales@example.net"));
    peer.send(respond(&refer, "202 Accepted", "", "", ""));
    let bye = Request::of("BYE").branch("b").ours(&tag).sequence(2);
    peer.send(bye.text());
    assert_eq!(told(&peer), ["Unknown"]);
    assert!(matches!(peer.events.last(), Some(Event::Ended { .. })));
    peer.assert_clean();
}

#[test]
fn an_attended_transfer_names_the_other_dialog_as_its_target_knows_it() {
    let mut peer = Peer::new();
    let (first, _) = peer.establish();
    let consult = Request::invite()
        .call_id("second@call")
        .branch("second")
        .theirs("target");
    peer.send(consult.text());
    let second = peer.leg();
    peer.act(|endpoint, now| endpoint.accept(now, second, OURS.into()).unwrap());
    let tag = to_tag(peer.last());
    let ack = Request::of("ACK")
        .call_id("second@call")
        .branch("ack2")
        .theirs("target")
        .ours(&tag);
    peer.send(ack.text());
    let attended = |leg| ReferRequest {
        target: ReferTarget::Attended { leg, uri: None },
        referred_by: None,
        follow: true,
    };
    peer.act(|endpoint, now| endpoint.refer(now, first, attended(second)).unwrap());
    let refer = peer.last_of("REFER");
    let expected = format!(
        "<sip:peer@192.0.2.2:5060?Replaces=second%40call%3Bto-tag%3Dtarget%3Bfrom-tag%3D{tag}>"
    );
    assert_eq!(header(&refer, "Refer-To"), Some(expected.as_str()));
    let nobody = LegId(99);
    let failed = peer.act(|endpoint, now| endpoint.refer(now, second, attended(nobody)));
    assert_eq!(failed, Err(CommandError::UnknownLeg));
}

fn refer_of_theirs(tag: &str, target: &str) -> Request {
    Request::of("REFER")
        .branch("refer")
        .ours(tag)
        .sequence(2)
        .field("Contact: <sip:peer@192.0.2.2:5060>")
        .field(&format!("Refer-To: {target}"))
        .field("Referred-By: <sip:peer@example.com>")
}

#[test]
fn a_transfer_that_the_peer_asks_for_is_reported_to_it_until_it_is_done() {
    let mut peer = Peer::new();
    let (leg, tag) = peer.establish();
    let refer = refer_of_theirs(
        &tag,
        "<sip:other@example.net;method=INVITE?Replaces=a%40b%3Bto-tag%3D1%3Bfrom-tag%3D2&X=y>",
    );
    assert!(peer.send(refer.text()).is_empty(), "the owner decides");
    let Some(Event::ReferRequested(request)) = peer.events.last() else {
        panic!("{:?}", peer.events.last());
    };
    assert_eq!(request.refer_to.uri.to_string(), "sip:other@example.net");
    let referrer = request.referred_by.as_ref().unwrap().uri.to_string();
    assert_eq!(referrer, "sip:peer@example.com");
    let replaces = request.replaces.as_ref().unwrap().to_string();
    assert_eq!(replaces, "a@b;to-tag=1;from-tag=2");
    peer.act(|endpoint, now| endpoint.accept_refer(now, leg).unwrap());
    let sent = summaries(&peer.inbox);
    assert_eq!(sent[sent.len() - 2..], ["202 REFER", "NOTIFY"]);
    let first = peer.last_of("NOTIFY");
    assert!(first.ends_with("SIP/2.0 100 Trying\r\n"));
    assert_eq!(header(&first, "Event"), Some("refer"));
    assert_eq!(
        header(&first, "Subscription-State"),
        Some("active;expires=180")
    );
    peer.send(respond(&first, "200 OK", "", "", ""));
    peer.act(|endpoint, now| endpoint.notify_refer(now, leg, 200).unwrap());
    let last = peer.last_of("NOTIFY");
    assert!(last.ends_with("SIP/2.0 200 OK\r\n"));
    assert_eq!(
        header(&last, "Subscription-State"),
        Some("terminated;reason=noresource")
    );
    peer.send(respond(&last, "200 OK", "", "", ""));
    let late = peer.act(|endpoint, now| endpoint.notify_refer(now, leg, 200));
    assert_eq!(late, Err(CommandError::WrongState));
    let bye = Request::of("BYE").branch("b").ours(&tag).sequence(3);
    peer.send(bye.text());
    peer.assert_clean();
}

#[test]
fn the_second_transfer_in_a_call_is_known_by_the_number_of_its_refer() {
    let mut peer = Peer::new();
    let (leg, tag) = peer.establish();
    for number in [2, 3] {
        let branch = format!("r{number}");
        let refer = refer_of_theirs(&tag, "<sip:other@example.net>");
        peer.send(refer.branch(&branch).sequence(number).text());
        peer.act(|endpoint, now| endpoint.accept_refer(now, leg).unwrap());
        peer.act(|endpoint, now| endpoint.notify_refer(now, leg, 486).unwrap());
    }
    assert_eq!(header(&peer.last_of("NOTIFY"), "Event"), Some("refer;id=3"));
}

#[test]
fn a_transfer_is_refused_by_its_owner_by_silence_and_while_another_goes_on() {
    let mut peer = Peer::new();
    let (leg, tag) = peer.establish();
    let refer = |number: u32| {
        let branch = format!("r{number}");
        refer_of_theirs(&tag, "<tel:+15550100>")
            .branch(&branch)
            .sequence(number)
            .text()
    };
    peer.send(refer(2));
    assert_eq!(statuses(&peer.send(refer(3))), ["491"]);
    peer.act(|endpoint, now| endpoint.reject_refer(now, leg, 603).unwrap());
    assert_eq!(summaries(&peer.inbox).last().unwrap(), "603 REFER");
    peer.send(refer(4));
    assert_eq!(summaries(&peer.wait(seconds(9))), ["603 REFER"]);
    let late = peer.act(|endpoint, now| endpoint.accept_refer(now, leg));
    assert_eq!(late, Err(CommandError::WrongState));
}

#[test]
fn a_referrer_that_wants_no_notifies_gets_none() {
    let mut peer = Peer::new();
    let (leg, tag) = peer.establish();
    let refer = refer_of_theirs(&tag, "<sip:other@example.net>").field("Refer-Sub: false");
    peer.send(refer.text());
    peer.act(|endpoint, now| endpoint.accept_refer(now, leg).unwrap());
    assert_eq!(header(peer.last(), "Refer-Sub"), Some("false"));
    peer.act(|endpoint, now| endpoint.notify_refer(now, leg, 200).unwrap());
    assert_eq!(summaries(&peer.inbox).last().unwrap(), "202 REFER");
}

#[test]
fn a_subscription_that_nobody_ends_ends_by_itself() {
    let mut peer = Peer::new();
    let (leg, tag) = peer.establish();
    peer.send(refer_of_theirs(&tag, "<sip:other@example.net>").text());
    peer.act(|endpoint, now| endpoint.accept_refer(now, leg).unwrap());
    let first = peer.last_of("NOTIFY");
    peer.send(respond(&first, "200 OK", "", "", ""));
    let later = peer.wait(seconds(181));
    assert_eq!(
        header(&later[0], "Subscription-State"),
        Some("terminated;reason=timeout")
    );
    assert_eq!(peer.endpoint.stats().legs, 1);
}

#[test]
fn a_refer_that_makes_no_sense_or_has_no_call_is_refused() {
    let mut peer = Peer::new();
    let stray = Request::of("REFER")
        .call_id("none")
        .field("Refer-To: <sip:a@example.net>");
    assert_eq!(statuses(&peer.send(stray.text())), ["403"]);
    let (_, tag) = peer.establish();
    for (number, (target, status)) in [
        ("<sip:a@example.net;method=BYE>", "501"),
        ("<mailto:a@example.net>", "416"),
        ("<sip:a@example.net?Replaces=none>", "400"),
        ("", "400"),
    ]
    .into_iter()
    .enumerate()
    {
        let branch = format!("r{number}");
        let refer = refer_of_theirs(&tag, target)
            .branch(&branch)
            .sequence(2 + u32::try_from(number).unwrap());
        assert_eq!(statuses(&peer.send(refer.text())), [status], "{target}");
    }
    assert!(
        !peer
            .events
            .iter()
            .any(|event| matches!(event, Event::ReferRequested(_)))
    );
}

/// A second caller's INVITE with this Replaces.
fn replacing(value: &str) -> String {
    Request::invite()
        .call_id("replacing")
        .branch("replacing")
        .theirs("another")
        .field("Require: replaces")
        .field(&format!("Replaces: {value}"))
        .text()
}

#[test]
fn an_invite_may_take_the_place_of_an_established_call() {
    let mut peer = Peer::new();
    let (leg, tag) = peer.establish();
    peer.send(replacing(&format!("call;to-tag={tag};from-tag=theirs")));
    let Some(Event::IncomingCall(call)) = peer.events.last() else {
        panic!("{:?}", peer.events.last());
    };
    assert_eq!(call.replaces, Some(leg));
}

#[test]
fn an_invite_that_cannot_replace_what_it_names_is_refused() {
    let mut peer = Peer::new();
    let (leg, tag) = peer.establish();
    for (value, status) in [
        (format!("call;to-tag={tag};from-tag=forged"), "481"),
        ("call;to-tag=forged;from-tag=theirs".to_owned(), "481"),
        (format!("other;to-tag={tag};from-tag=theirs"), "481"),
        (
            format!("call;to-tag={tag};from-tag=theirs;early-only"),
            "486",
        ),
        ("call".to_owned(), "400"),
    ] {
        let fresh = replacing(&value)
            .replace(
                "z9hG4bKreplacing",
                &format!("z9hG4bK{status}{}", value.len()),
            )
            .replace("tag=another", &format!("tag=another{}", value.len()));
        assert_eq!(statuses(&peer.send(fresh)), [status], "{value}");
    }
    peer.act(|endpoint, now| endpoint.hangup(now, leg, Hangup::default()).unwrap());
    let value = format!("call;to-tag={tag};from-tag=theirs");
    assert_eq!(statuses(&peer.send(replacing(&value))), ["603"]);
}

#[test]
fn a_call_that_still_rings_here_cannot_be_replaced() {
    let mut peer = Peer::new();
    peer.send(Request::invite().text());
    let leg = peer.leg();
    peer.act(|endpoint, now| endpoint.ring(now, leg).unwrap());
    let tag = to_tag(peer.last());
    let value = format!("call;to-tag={tag};from-tag=theirs");
    assert_eq!(statuses(&peer.send(replacing(&value))), ["481"]);
}

#[test]
fn a_call_of_ours_may_replace_another() {
    let mut peer = Peer::new();
    let mut request = crate::sip::endpoint::simulation::invitation(
        crate::sip::endpoint::simulation::address(1),
        THEIRS,
    );
    request.replaces = Some("a@b;to-tag=1;from-tag=2".parse().unwrap());
    peer.act(|endpoint, now| endpoint.invite(now, request).unwrap());
    let invite = peer.last();
    assert_eq!(header(invite, "Require"), Some("replaces"));
    assert_eq!(header(invite, "Replaces"), Some("a@b;to-tag=1;from-tag=2"));
}

/// Both sides of a transfer are endpoints: the caller refers, the callee does as it is told.
#[test]
fn two_endpoints_agree_on_how_a_transfer_ended_whatever_the_network_does() {
    for seed in 0..300 {
        let weather = Weather {
            loss: 0.1,
            duplication: 0.2,
            delay: 0..700,
        };
        let mut simulation = Simulation::new(seed, weather);
        let caller = simulation.add(|_, _, _| {});
        let callee = simulation.add(|endpoint, now, event| match event {
            Event::IncomingCall(call) => endpoint.accept(now, call.leg, OURS.into()).unwrap(),
            Event::ReferRequested(request) => {
                endpoint.accept_refer(now, request.leg).unwrap();
                endpoint.notify_refer(now, request.leg, 180).unwrap();
                endpoint.notify_refer(now, request.leg, 486).unwrap();
            }
            _ => {}
        });
        let leg = simulation.call(caller, callee, OURS);
        simulation.run_for(seconds(70));
        simulation.act(caller, |endpoint, now| {
            endpoint
                .refer(now, leg, blind("sip:sales@example.net"))
                .unwrap();
        });
        simulation.run_for(seconds(70));
        let outcomes: Vec<ReferOutcome> = simulation
            .events(caller)
            .iter()
            .filter_map(|event| match event {
                Event::ReferFinished { outcome, .. } => Some(*outcome),
                _ => None,
            })
            .collect();
        assert_eq!(outcomes, [ReferOutcome::Completed(486)], "seed {seed}");
        simulation.act(caller, |endpoint, now| {
            endpoint.hangup(now, leg, Hangup::default()).unwrap();
        });
        simulation.run_for(seconds(200));
        assert!(simulation.is_clean(), "seed {seed}");
    }
}
