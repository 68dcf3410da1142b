//! Two endpoints, with one message lost or late at a time.

use std::time::Duration;

use super::seconds;
use crate::sip::endpoint::simulation::{Datagram, Simulation, Weather};
use crate::sip::endpoint::{EndCause, Event, Extensions, Hangup, LegId, Reason, Support};

const CALLER: usize = 0;
const CALLEE: usize = 1;

/// Without reliable provisional responses, which would come between.
fn plain() -> Extensions {
    Extensions {
        reliable_provisional: Support::Off,
        ..Extensions::default()
    }
}

/// A caller that does nothing by itself and a callee that answers, at once, calls and offers.
fn answered() -> Simulation {
    let mut simulation = Simulation::new(1, Weather::clear());
    simulation.add_with(plain(), |_, _, _| {});
    simulation.add_with(plain(), |endpoint, now, event| match event {
        Event::IncomingCall(call) => {
            endpoint.ring(now, call.leg).unwrap();
            endpoint
                .accept(now, call.leg, b"v=0 callee".to_vec())
                .unwrap();
        }
        Event::Offer { leg, .. } => {
            endpoint
                .answer_offer(now, *leg, b"v=0 again".to_vec())
                .unwrap();
        }
        _ => {}
    });
    simulation
}

/// Two endpoints whose owners do nothing by themselves.
fn manual() -> Simulation {
    let mut simulation = Simulation::new(1, Weather::clear());
    simulation.add_with(plain(), |_, _, _| {});
    simulation.add_with(plain(), |_, _, _| {});
    simulation
}

/// Loses the first `count` datagrams with this summary.
fn lose_first(simulation: &mut Simulation, wanted: &'static str, mut count: u32) {
    simulation.lose(move |datagram: &Datagram| {
        let hit = datagram.summary() == wanted && count > 0;
        count -= u32::from(hit);
        hit
    });
}

fn end_of(simulation: &Simulation, node: usize) -> EndCause {
    let causes: Vec<EndCause> = simulation
        .events(node)
        .iter()
        .filter_map(|event| match event {
            Event::Ended { cause, .. } => Some(cause.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(causes.len(), 1, "ended once");
    assert!(matches!(
        simulation.events(node).last(),
        Some(Event::Ended { .. })
    ));
    causes[0].clone()
}

fn has(simulation: &Simulation, node: usize, test: impl Fn(&Event) -> bool) -> bool {
    simulation.events(node).iter().any(test)
}

fn hang_up(simulation: &mut Simulation, node: usize, leg: LegId) {
    simulation.act(node, |endpoint, now| {
        endpoint.hangup(now, leg, Hangup::default()).unwrap();
    });
}

#[test]
fn a_call_is_set_up_with_five_messages_and_ended_with_two() {
    let mut simulation = answered();
    let leg = simulation.call(CALLER, CALLEE, "v=0 caller");
    simulation.run_for(seconds(60));
    hang_up(&mut simulation, CALLER, leg);
    simulation.run_for(seconds(60));
    assert_eq!(simulation.sent(CALLER), ["INVITE", "ACK", "BYE"]);
    assert_eq!(
        simulation.sent(CALLEE),
        ["100 INVITE", "180 INVITE", "200 INVITE", "200 BYE"]
    );
    assert_eq!(end_of(&simulation, CALLER), EndCause::Local);
    assert_eq!(
        end_of(&simulation, CALLEE),
        EndCause::RemoteBye { reason: None }
    );
    assert!(simulation.is_clean());
}

#[test]
fn the_invite_carries_the_offer_and_the_200_the_answer() {
    let mut simulation = answered();
    simulation.call(CALLER, CALLEE, "v=0 caller");
    simulation.run_for(seconds(1));
    assert!(has(&simulation, CALLEE, |event| matches!(
        event, Event::IncomingCall(call) if call.offer.as_deref() == Some(b"v=0 caller")
    )));
    assert!(has(&simulation, CALLER, |event| matches!(
        event, Event::Answered { sdp, .. } if sdp == b"v=0 callee"
    )));
}

#[test]
fn a_lost_ack_is_sent_again_for_each_repeat_of_the_200() {
    let mut simulation = answered();
    lose_first(&mut simulation, "ACK", 3);
    let leg = simulation.call(CALLER, CALLEE, "v=0");
    simulation.run_for(seconds(40));
    let acks = simulation
        .sent(CALLER)
        .iter()
        .filter(|sent| *sent == "ACK")
        .count();
    let oks = simulation
        .sent(CALLEE)
        .iter()
        .filter(|sent| *sent == "200 INVITE")
        .count();
    assert_eq!((acks, oks), (4, 4));
    assert!(has(&simulation, CALLEE, |event| matches!(
        event,
        Event::Confirmed { .. }
    )));
    hang_up(&mut simulation, CALLER, leg);
    simulation.run_for(seconds(60));
    assert!(simulation.is_clean());
}

#[test]
fn a_call_whose_ack_never_comes_is_ended_with_bye_after_32_seconds() {
    let mut simulation = answered();
    lose_first(&mut simulation, "ACK", 1000);
    simulation.call(CALLER, CALLEE, "v=0");
    simulation.run_for(Duration::from_millis(31_900));
    assert!(!has(&simulation, CALLEE, |event| matches!(
        event,
        Event::Ended { .. }
    )));
    simulation.run_for(seconds(100));
    assert_eq!(end_of(&simulation, CALLEE), EndCause::NoAck);
    assert_eq!(
        end_of(&simulation, CALLER),
        EndCause::RemoteBye { reason: None }
    );
    assert!(simulation.is_clean());
}

#[test]
fn the_callee_hangs_up_before_the_ack_and_bye_waits_for_it() {
    let mut simulation = answered();
    lose_first(&mut simulation, "ACK", 2);
    simulation.call(CALLER, CALLEE, "v=0");
    simulation.run_for(Duration::from_millis(100));
    let leg = simulation.incoming(CALLEE);
    hang_up(&mut simulation, CALLEE, leg);
    assert_eq!(end_of(&simulation, CALLEE), EndCause::Local);
    assert!(!simulation.sent(CALLEE).contains(&"BYE".to_owned()));
    simulation.run_for(seconds(60));
    let sent = simulation.sent(CALLEE);
    let last_ok = sent.iter().rposition(|sent| sent == "200 INVITE").unwrap();
    assert_eq!(sent[last_ok + 1..], ["BYE"]);
    assert_eq!(
        end_of(&simulation, CALLER),
        EndCause::RemoteBye { reason: None }
    );
    assert!(simulation.is_clean());
}

#[test]
fn a_cancel_waits_for_a_provisional_response() {
    let mut simulation = manual();
    lose_first(&mut simulation, "100 INVITE", 1);
    let leg = simulation.call(CALLER, CALLEE, "v=0");
    simulation.run_for(Duration::from_millis(100));
    hang_up(&mut simulation, CALLER, leg);
    simulation.run_for(Duration::from_millis(300));
    assert_eq!(simulation.sent(CALLER), ["INVITE"]);
    simulation.run_for(seconds(60));
    assert_eq!(
        simulation.sent(CALLER),
        ["INVITE", "INVITE", "CANCEL", "ACK"]
    );
    assert_eq!(
        simulation.sent(CALLEE),
        ["100 INVITE", "100 INVITE", "200 CANCEL", "487 INVITE"]
    );
    assert_eq!(end_of(&simulation, CALLER), EndCause::Local);
    assert_eq!(
        end_of(&simulation, CALLEE),
        EndCause::RemoteCancel { reason: None }
    );
    assert!(simulation.is_clean());
}

#[test]
fn a_200_that_crosses_the_cancel_is_acknowledged_and_ended() {
    let mut simulation = manual();
    simulation.weather.delay = 100..101;
    let leg = simulation.call(CALLER, CALLEE, "v=0");
    simulation.run_for(seconds(1));
    hang_up(&mut simulation, CALLER, leg);
    let callee = simulation.incoming(CALLEE);
    simulation.act(CALLEE, |endpoint, now| {
        endpoint.accept(now, callee, b"v=0".to_vec()).unwrap();
    });
    simulation.run_for(seconds(60));
    assert_eq!(simulation.sent(CALLER), ["INVITE", "CANCEL", "ACK", "BYE"]);
    assert_eq!(end_of(&simulation, CALLER), EndCause::Local);
    assert_eq!(
        end_of(&simulation, CALLEE),
        EndCause::RemoteBye { reason: None }
    );
    assert!(simulation.is_clean());
}

#[test]
fn a_call_to_nobody_fails_after_32_seconds() {
    let mut simulation = manual();
    simulation.lose(|_| true);
    simulation.call(CALLER, CALLEE, "v=0");
    simulation.run_for(Duration::from_millis(31_999));
    assert!(simulation.events(CALLER).is_empty());
    simulation.run_for(seconds(1));
    assert_eq!(end_of(&simulation, CALLER), EndCause::NoResponse);
    assert!(simulation.is_clean());
}

#[test]
fn a_call_that_rings_too_long_is_cancelled() {
    let mut simulation = manual();
    simulation.call(CALLER, CALLEE, "v=0");
    simulation.run_for(seconds(200));
    assert_eq!(end_of(&simulation, CALLER), EndCause::RingTimeout);
    assert_eq!(
        end_of(&simulation, CALLEE),
        EndCause::RemoteCancel { reason: None }
    );
    assert!(simulation.is_clean());
}

#[test]
fn a_call_that_nobody_takes_is_answered_480_in_the_end() {
    let mut simulation = manual();
    let request = {
        let mut request = crate::sip::endpoint::simulation::invitation(
            crate::sip::endpoint::simulation::address(CALLEE),
            "v=0",
        );
        request.ring_timeout = seconds(600);
        request
    };
    simulation.act(CALLER, |endpoint, now| {
        endpoint.invite(now, request).unwrap()
    });
    simulation.run_for(seconds(300));
    assert_eq!(end_of(&simulation, CALLEE), EndCause::Unanswered);
    assert!(matches!(
        end_of(&simulation, CALLER),
        EndCause::Rejected { status: 480, .. }
    ));
    assert!(simulation.is_clean());
}

#[test]
fn a_ringing_call_says_so_every_minute() {
    let mut simulation = manual();
    simulation.call(CALLER, CALLEE, "v=0");
    simulation.run_for(seconds(1));
    let leg = simulation.incoming(CALLEE);
    simulation.act(CALLEE, |endpoint, now| endpoint.ring(now, leg).unwrap());
    simulation.run_for(seconds(110));
    assert_eq!(
        simulation.sent(CALLEE),
        ["100 INVITE", "180 INVITE", "180 INVITE"]
    );
}

#[test]
fn early_media_reaches_the_caller() {
    let mut simulation = manual();
    simulation.call(CALLER, CALLEE, "v=0");
    simulation.run_for(seconds(1));
    let leg = simulation.incoming(CALLEE);
    simulation.act(CALLEE, |endpoint, now| {
        endpoint
            .progress(now, leg, 183, Some(b"v=0 early".to_vec()))
            .unwrap();
    });
    simulation.run_for(seconds(1));
    assert!(has(&simulation, CALLER, |event| matches!(
        event, Event::Progress { status: 183, sdp: Some(sdp), .. } if sdp == b"v=0 early"
    )));
}

#[test]
fn a_refusal_carries_its_headers_and_reason() {
    let mut simulation = manual();
    simulation.call(CALLER, CALLEE, "v=0");
    simulation.run_for(seconds(1));
    let leg = simulation.incoming(CALLEE);
    let headers = vec![
        ("Retry-After".to_owned(), "30".to_owned()),
        (
            "Reason".to_owned(),
            "Q.850;cause=17;text=\"User busy\"".to_owned(),
        ),
    ];
    simulation.act(CALLEE, |endpoint, now| {
        endpoint.reject(now, leg, 486, headers).unwrap();
    });
    simulation.run_for(seconds(60));
    assert_eq!(
        end_of(&simulation, CALLER),
        EndCause::Rejected {
            status: 486,
            phrase: "Busy Here".to_owned(),
            reason: Some(Reason {
                protocol: "Q.850".to_owned(),
                cause: Some(17),
                text: Some("User busy".to_owned()),
            }),
            contacts: Vec::new(),
            retry_after: Some(30),
        }
    );
    assert!(simulation.is_clean());
}

#[test]
fn the_reason_of_a_hang_up_arrives_with_the_bye() {
    let mut simulation = answered();
    let leg = simulation.call(CALLER, CALLEE, "v=0");
    simulation.run_for(seconds(1));
    let reason = Reason {
        protocol: "SIP".to_owned(),
        cause: Some(200),
        text: Some("Call completed elsewhere".to_owned()),
    };
    let hangup = Hangup {
        reason: Some(reason.clone()),
        ..Hangup::default()
    };
    simulation.act(CALLER, |endpoint, now| {
        endpoint.hangup(now, leg, hangup).unwrap();
    });
    simulation.run_for(seconds(60));
    assert_eq!(
        end_of(&simulation, CALLEE),
        EndCause::RemoteBye {
            reason: Some(reason)
        }
    );
}

#[test]
fn both_sides_hang_up_at_once_and_both_byes_get_200() {
    let mut simulation = answered();
    simulation.weather.delay = 50..51;
    let leg = simulation.call(CALLER, CALLEE, "v=0");
    simulation.run_for(seconds(5));
    let other = simulation.incoming(CALLEE);
    hang_up(&mut simulation, CALLER, leg);
    hang_up(&mut simulation, CALLEE, other);
    simulation.run_for(seconds(60));
    assert_eq!(simulation.sent(CALLER).last().unwrap(), "200 BYE");
    assert_eq!(simulation.sent(CALLEE).last().unwrap(), "200 BYE");
    assert_eq!(end_of(&simulation, CALLER), EndCause::Local);
    assert_eq!(end_of(&simulation, CALLEE), EndCause::Local);
    assert!(simulation.is_clean());
}

#[test]
fn a_reinvite_changes_the_session_and_is_acknowledged() {
    let mut simulation = answered();
    let leg = simulation.call(CALLER, CALLEE, "v=0");
    simulation.run_for(seconds(1));
    simulation.act(CALLER, |endpoint, now| {
        endpoint.reinvite(now, leg, b"v=0 hold".to_vec()).unwrap();
    });
    simulation.run_for(seconds(60));
    assert!(has(&simulation, CALLEE, |event| matches!(
        event, Event::Offer { sdp: Some(sdp), .. } if sdp == b"v=0 hold"
    )));
    assert!(has(&simulation, CALLER, |event| matches!(
        event, Event::Answer { sdp, .. } if sdp == b"v=0 again"
    )));
    assert_eq!(simulation.sent(CALLER), ["INVITE", "ACK", "INVITE", "ACK"]);
}

#[test]
fn a_refused_offer_leaves_the_call_up() {
    let mut simulation = manual();
    let leg = simulation.call(CALLER, CALLEE, "v=0");
    simulation.run_for(seconds(1));
    let other = simulation.incoming(CALLEE);
    simulation.act(CALLEE, |endpoint, now| {
        endpoint.accept(now, other, b"v=0".to_vec()).unwrap();
    });
    simulation.run_for(seconds(1));
    simulation.act(CALLER, |endpoint, now| {
        endpoint.reinvite(now, leg, b"v=0 video".to_vec()).unwrap();
    });
    simulation.run_for(seconds(1));
    simulation.act(CALLEE, |endpoint, now| {
        endpoint.reject_offer(now, other, 488).unwrap();
    });
    simulation.run_for(seconds(60));
    assert!(has(&simulation, CALLER, |event| matches!(
        event,
        Event::OfferRefused { status: 488, .. }
    )));
    assert_eq!(simulation.endpoint(CALLER).stats().legs, 1);
    assert_eq!(simulation.endpoint(CALLEE).stats().legs, 1);
}

#[test]
fn an_offer_that_its_owner_forgets_is_answered_500_and_withdrawn() {
    let mut simulation = manual();
    let leg = simulation.call(CALLER, CALLEE, "v=0");
    simulation.run_for(seconds(1));
    let other = simulation.incoming(CALLEE);
    simulation.act(CALLEE, |endpoint, now| {
        endpoint.accept(now, other, b"v=0".to_vec()).unwrap();
    });
    simulation.run_for(seconds(1));
    simulation.act(CALLER, |endpoint, now| {
        endpoint.reinvite(now, leg, b"v=0".to_vec()).unwrap();
    });
    simulation.run_for(seconds(60));
    assert!(has(&simulation, CALLEE, |event| matches!(
        event,
        Event::OfferWithdrawn { .. }
    )));
    assert!(has(&simulation, CALLER, |event| matches!(
        event,
        Event::OfferRefused { status: 500, .. }
    )));
}

#[test]
fn offers_that_cross_get_491_and_are_sent_again_one_after_the_other() {
    let mut simulation = answered();
    simulation.weather.delay = 50..51;
    let leg = simulation.call(CALLER, CALLEE, "v=0");
    simulation.run_for(seconds(2));
    let other = simulation.incoming(CALLEE);
    simulation.act(CALLER, |endpoint, now| {
        endpoint.reinvite(now, leg, b"v=0 a".to_vec()).unwrap();
    });
    simulation.act(CALLEE, |endpoint, now| {
        endpoint.reinvite(now, other, b"v=0 b".to_vec()).unwrap();
    });
    simulation.run_for(Duration::from_millis(200));
    assert!(simulation.sent(CALLER).contains(&"491 INVITE".to_owned()));
    assert!(simulation.sent(CALLEE).contains(&"491 INVITE".to_owned()));
    // The callee, which does not own the Call-ID, is back within 2 s; the caller's owner
    // answers it and is told that its own offer is off.
    simulation.run_for(Duration::from_millis(1_900));
    assert!(has(&simulation, CALLER, |event| matches!(
        event,
        Event::Offer { .. }
    )));
    assert!(has(&simulation, CALLER, |event| matches!(
        event,
        Event::OfferRefused { status: 491, .. }
    )));
}

#[test]
fn info_is_answered_and_delivered_once() {
    let mut simulation = answered();
    lose_first(&mut simulation, "200 INFO", 1);
    let leg = simulation.call(CALLER, CALLEE, "v=0");
    simulation.run_for(seconds(1));
    simulation.act(CALLER, |endpoint, now| {
        let body = b"Signal=5\r\nDuration=160\r\n".to_vec();
        endpoint
            .send_info(now, leg, "application/dtmf-relay", body)
            .unwrap();
    });
    simulation.run_for(seconds(60));
    let infos: Vec<&Event> = simulation
        .events(CALLEE)
        .iter()
        .filter(|event| matches!(event, Event::Info { .. }))
        .collect();
    assert_eq!(infos.len(), 1);
    assert!(matches!(
        infos[0],
        Event::Info { content_type, body, .. }
            if content_type == "application/dtmf-relay" && body.starts_with(b"Signal=5")
    ));
}

#[test]
fn a_peer_that_lost_the_dialog_ends_the_call() {
    let mut simulation = answered();
    let leg = simulation.call(CALLER, CALLEE, "v=0");
    simulation.run_for(seconds(1));
    let other = simulation.incoming(CALLEE);
    simulation.lose(|datagram| datagram.summary() == "BYE");
    hang_up(&mut simulation, CALLEE, other);
    simulation.run_for(seconds(60));
    simulation.lose(|_| false);
    simulation.act(CALLER, |endpoint, now| {
        endpoint.reinvite(now, leg, b"v=0".to_vec()).unwrap();
    });
    simulation.run_for(seconds(60));
    assert_eq!(
        end_of(&simulation, CALLER),
        EndCause::DialogLost { status: Some(481) }
    );
    assert!(simulation.is_clean());
}

#[test]
fn a_refused_transport_fails_the_call_at_once() {
    let mut simulation = manual();
    let leg = simulation.call(CALLER, CALLEE, "v=0");
    simulation.act(CALLER, |endpoint, now| {
        let callee = crate::sip::endpoint::simulation::address(CALLEE);
        endpoint.handle_transmit_failed(now, crate::sip::endpoint::simulation::UDP, callee);
    });
    assert_eq!(end_of(&simulation, CALLER), EndCause::TransportFailed);
    assert_eq!(simulation.events(CALLER)[0].leg(), Some(leg));
}

#[test]
fn while_draining_new_calls_get_503_and_live_ones_go_on() {
    let mut simulation = answered();
    let leg = simulation.call(CALLER, CALLEE, "v=0");
    simulation.run_for(seconds(1));
    simulation.act(CALLEE, |endpoint, _| endpoint.set_accepting(false));
    simulation.call(CALLER, CALLEE, "v=0");
    simulation.run_for(seconds(1));
    assert!(matches!(
        end_of(&simulation, CALLER),
        EndCause::Rejected {
            status: 503,
            retry_after: Some(5),
            ..
        }
    ));
    simulation.act(CALLER, |endpoint, now| {
        endpoint.reinvite(now, leg, b"v=0".to_vec()).unwrap();
    });
    simulation.run_for(seconds(1));
    assert!(has(&simulation, CALLER, |event| matches!(
        event,
        Event::Answer { .. }
    )));
}
