//! Session timers (RFC 4028) in both roles, on both sides of a call.

use super::peer::{OURS, Peer, Request, THEIRS, header, respond, statuses, summaries, to_tag};
use super::seconds;
use crate::sip::endpoint::simulation::{Simulation, Weather, address, config, invitation};
use crate::sip::endpoint::{
    EndCause, Event, Extensions, Hangup, LegId, RefreshedBy, SessionTimerSettings, Support,
};

fn timers(settings: SessionTimerSettings) -> Extensions {
    Extensions {
        session_timer: settings,
        ..Extensions::default()
    }
}

fn every(interval: u32, refreshed_by: RefreshedBy) -> Extensions {
    timers(SessionTimerSettings {
        interval,
        refreshed_by,
        ..SessionTimerSettings::default()
    })
}

/// An endpoint with these settings, and a scripted peer.
fn peer_with(extensions: Extensions) -> Peer {
    let mut config = config(address(0));
    config.extensions = extensions;
    Peer::of(config)
}

const TIMED: &str = "Supported: timer";

/// A call from the peer whose INVITE has these fields; the 200 and our tag.
fn called(peer: &mut Peer, fields: &[&str]) -> (LegId, String, String) {
    let mut invite = Request::invite();
    for field in fields {
        invite = invite.field(field);
    }
    peer.send(invite.text());
    let leg = peer.leg();
    peer.act(|endpoint, now| endpoint.accept(now, leg, OURS.into()).unwrap());
    let ok = peer.last().to_owned();
    let tag = to_tag(&ok);
    peer.send(Request::of("ACK").ours(&tag).branch("ack").text());
    (leg, tag, ok)
}

/// What was sent, without repeats.
fn kinds(texts: &[String]) -> Vec<String> {
    let mut kinds = summaries(texts);
    kinds.dedup();
    kinds
}

fn end(peer: &Peer) -> Option<&EndCause> {
    peer.events.iter().find_map(|event| match event {
        Event::Ended { cause, .. } => Some(cause),
        _ => None,
    })
}

#[test]
fn a_caller_that_refreshes_is_trusted_to_and_hung_up_on_when_it_does_not() {
    let mut peer = Peer::new();
    let fields = [TIMED, "Session-Expires: 90;refresher=uac", "Require: timer"];
    let (_, tag, ok) = called(&mut peer, &fields);
    assert_eq!(header(&ok, "Session-Expires"), Some("90;refresher=uac"));
    assert_eq!(header(&ok, "Require"), Some("timer"));
    assert!(header(&ok, "Supported").unwrap().contains("timer"));
    peer.wait(seconds(45));
    let refresh = Request::of("UPDATE")
        .branch("u")
        .ours(&tag)
        .sequence(2)
        .field("Contact: <sip:peer@192.0.2.2:5060>")
        .field(TIMED)
        .field("Session-Expires: 90;refresher=uac");
    let refreshed = peer.send(refresh.text()).remove(0);
    assert!(refreshed.starts_with("SIP/2.0 200 OK\r\n"));
    assert_eq!(
        header(&refreshed, "Session-Expires"),
        Some("90;refresher=uac")
    );
    assert!(peer.wait(seconds(59)).is_empty(), "it has 60 s again");
    let later = peer.wait(seconds(2));
    assert_eq!(kinds(&later), ["BYE"]);
    assert_eq!(
        header(&later[0], "Reason"),
        Some("SIP;cause=408;text=\"Session Expired\"")
    );
    assert_eq!(end(&peer), Some(&EndCause::SessionExpired));
    peer.send(respond(&later[0], "200 OK", "", "", ""));
    peer.assert_clean();
}

#[test]
fn we_refresh_by_update_where_the_peer_allows_it() {
    let mut peer = Peer::new();
    let fields = [
        TIMED,
        "Session-Expires: 90;refresher=uas",
        "Allow: INVITE, UPDATE",
    ];
    let (_, _, ok) = called(&mut peer, &fields);
    assert_eq!(header(&ok, "Session-Expires"), Some("90;refresher=uas"));
    assert_eq!(header(&ok, "Require"), None);
    for round in 0..20 {
        let due = peer.wait(seconds(45));
        assert_eq!(summaries(&due), ["UPDATE"], "round {round}");
        let update = &due[0];
        // Now we are the client of the refresh.
        assert_eq!(header(update, "Session-Expires"), Some("90;refresher=uac"));
        assert!(header(update, "Contact").is_some() && update.ends_with("\r\n\r\n"));
        let extra = "Session-Expires: 90;refresher=uac\r\nRequire: timer\r\n";
        peer.send(respond(update, "200 OK", "", extra, ""));
    }
    assert_eq!(end(&peer), None);
}

#[test]
fn we_refresh_by_reinvite_with_the_same_description_where_update_is_not_allowed() {
    let mut peer = Peer::new();
    let (_, _, _) = called(&mut peer, &[TIMED, "Session-Expires: 90;refresher=uas"]);
    let reinvite = peer.wait(seconds(45)).remove(0);
    assert!(reinvite.starts_with("INVITE ") && reinvite.ends_with(OURS));
    let extra = "Content-Type: application/sdp\r\nSession-Expires: 90;refresher=uac\r\n";
    let events = peer.events.len();
    peer.send(respond(&reinvite, "200 OK", "", extra, THEIRS));
    assert_eq!(peer.last_of("ACK").split(' ').next(), Some("ACK"));
    assert_eq!(peer.events.len(), events, "nothing changed");
    let reinvite = peer.wait(seconds(45)).remove(0);
    peer.send(respond(&reinvite, "200 OK", "", extra, "v=0 on hold now"));
    assert!(matches!(
        peer.events.last(),
        Some(Event::Answer { sdp, .. }) if sdp == b"v=0 on hold now"
    ));
}

#[test]
fn a_peer_that_refuses_update_is_refreshed_by_reinvite() {
    let mut peer = Peer::new();
    let fields = [
        TIMED,
        "Session-Expires: 90;refresher=uas",
        "Allow: INVITE, UPDATE",
    ];
    called(&mut peer, &fields);
    let update = peer.wait(seconds(45)).remove(0);
    let refused = peer.send(respond(&update, "405 Method Not Allowed", "", "", ""));
    assert!(refused.is_empty());
    assert_eq!(kinds(&peer.wait(seconds(1))), ["INVITE"]);
}

#[test]
fn a_refresh_that_is_refused_is_tried_again_until_the_session_is_over() {
    let mut peer = Peer::new();
    let fields = [
        TIMED,
        "Session-Expires: 90;refresher=uas",
        "Allow: INVITE, UPDATE",
    ];
    called(&mut peer, &fields);
    let mut refreshes = 0;
    let mut sent = peer.wait(seconds(45));
    while let Some(update) = sent.iter().find(|text| text.starts_with("UPDATE ")) {
        refreshes += 1;
        let refusal = respond(update, "500 Server Internal Error", "", "", "");
        peer.send(refusal);
        sent = peer.wait(seconds(6));
    }
    assert_eq!(kinds(&sent), ["BYE"]);
    assert_eq!(refreshes, 3);
    assert_eq!(end(&peer), Some(&EndCause::SessionExpired));
}

#[test]
fn a_refresh_without_any_answer_or_into_a_lost_dialog_ends_the_call() {
    let fields = [
        TIMED,
        "Session-Expires: 1800;refresher=uas",
        "Allow: INVITE, UPDATE",
    ];
    let mut peer = Peer::new();
    called(&mut peer, &fields);
    peer.wait(seconds(900 + 33));
    assert_eq!(end(&peer), Some(&EndCause::DialogLost { status: None }));
    let mut peer = Peer::new();
    called(&mut peer, &fields);
    let update = peer.wait(seconds(900)).remove(0);
    let unknown = "481 Call/Transaction Does Not Exist";
    peer.send(respond(&update, unknown, "", "", ""));
    assert_eq!(
        end(&peer),
        Some(&EndCause::DialogLost { status: Some(481) })
    );
}

#[test]
fn too_small_an_interval_gets_422_with_the_smallest_that_we_take() {
    let mut peer = Peer::new();
    let invite = Request::invite().field(TIMED).field("Session-Expires: 30");
    let refusal = peer.send(invite.text()).remove(0);
    assert!(refusal.starts_with("SIP/2.0 422 Session Interval Too Small\r\n"));
    assert_eq!(header(&refusal, "Min-SE"), Some("90"));
    assert!(!peer.saw_call());
    let mut peer = Peer::new();
    let (_, tag, _) = called(&mut peer, &[TIMED]);
    let reinvite = Request::invite()
        .branch("r")
        .ours(&tag)
        .sequence(2)
        .field(TIMED)
        .field("Session-Expires: 30");
    assert_eq!(statuses(&peer.send(reinvite.text())), ["422"]);
    assert_eq!(peer.endpoint.stats().legs, 1, "the call goes on");
}

#[test]
fn a_peer_that_must_know_timers_and_does_not_gets_421() {
    let required = timers(SessionTimerSettings {
        support: Support::Required,
        ..SessionTimerSettings::default()
    });
    let mut peer = peer_with(required);
    let refusal = peer.send(Request::invite().text()).remove(0);
    assert!(refusal.starts_with("SIP/2.0 421 Extension Required\r\n"));
    assert_eq!(header(&refusal, "Require"), Some("timer"));
    let mut peer = peer_with(required);
    called(&mut peer, &[TIMED]);
}

#[test]
fn without_timers_require_timer_is_refused_and_no_call_has_one() {
    let off = timers(SessionTimerSettings {
        support: Support::Off,
        ..SessionTimerSettings::default()
    });
    let mut peer = peer_with(off);
    let invite = Request::invite().field("Require: timer");
    let refusal = peer.send(invite.text()).remove(0);
    assert!(refusal.starts_with("SIP/2.0 420 "));
    assert_eq!(header(&refusal, "Unsupported"), Some("timer"));
    let mut peer = peer_with(off);
    let (_, _, ok) = called(&mut peer, &[TIMED, "Session-Expires: 90;refresher=uac"]);
    assert_eq!(header(&ok, "Session-Expires"), None);
    peer.wait(seconds(4000));
    assert_eq!(end(&peer), None);
}

#[test]
fn the_settings_may_differ_by_where_the_peer_is() {
    let mut config = config(address(0));
    let off = timers(SessionTimerSettings {
        support: Support::Off,
        ..SessionTimerSettings::default()
    });
    config.extensions_by_source = vec![("192.0.2.2/32".parse().unwrap(), off)];
    let mut peer = Peer::of(config);
    let invite = Request::invite().field("Require: timer");
    assert_eq!(statuses(&peer.send(invite.text())), ["420"]);
    peer.source = address(4);
    let invite = invite.branch("other").call_id("other");
    assert_eq!(statuses(&peer.send(invite.text())), ["100"]);
}

/// Our INVITE as the peer got it.
fn call_out(peer: &mut Peer, extensions: Extensions) -> String {
    let mut request = invitation(address(1), OURS);
    request.extensions = Some(extensions);
    peer.act(|endpoint, now| endpoint.invite(now, request).unwrap());
    peer.last().to_owned()
}

const ANSWER: &str = "Contact: <sip:peer@192.0.2.2:5060>\r\nContent-Type: application/sdp\r\n\
                      Allow: INVITE, UPDATE\r\n";

#[test]
fn our_call_proposes_an_interval_and_keeps_what_the_callee_chose() {
    let mut peer = Peer::new();
    let invite = call_out(&mut peer, every(600, RefreshedBy::Us));
    assert_eq!(header(&invite, "Session-Expires"), Some("600"));
    assert_eq!(header(&invite, "Min-SE"), Some("90"));
    let answer = format!("{ANSWER}Session-Expires: 120;refresher=uas\r\n");
    peer.send(respond(&invite, "200 OK", "t", &answer, THEIRS));
    assert!(peer.wait(seconds(87)).is_empty());
    assert_eq!(kinds(&peer.wait(seconds(2))), ["BYE"]);
    assert_eq!(end(&peer), Some(&EndCause::SessionExpired));
}

#[test]
fn our_call_without_an_interval_in_the_answer_has_no_timer() {
    let mut peer = Peer::new();
    let invite = call_out(&mut peer, every(90, RefreshedBy::Us));
    peer.send(respond(&invite, "200 OK", "t", ANSWER, THEIRS));
    assert!(peer.wait(seconds(4000)).is_empty());
    assert_eq!(end(&peer), None);
}

#[test]
fn our_call_that_meets_422_is_made_again_with_the_larger_interval() {
    let mut peer = Peer::new();
    let mut invite = call_out(&mut peer, every(90, RefreshedBy::Peer));
    assert_eq!(header(&invite, "Session-Expires"), Some("90;refresher=uas"));
    for (number, minimum) in [(2, 300), (3, 900)] {
        let refusal = "422 Session Interval Too Small";
        let extra = format!("Min-SE: {minimum}\r\n");
        peer.send(respond(&invite, refusal, "t", &extra, ""));
        invite = peer.last_of("INVITE");
        let expected = format!("{minimum};refresher=uas");
        assert_eq!(header(&invite, "Session-Expires"), Some(expected.as_str()));
        let expected = minimum.to_string();
        assert_eq!(header(&invite, "Min-SE"), Some(expected.as_str()));
        let expected = format!("{number} INVITE");
        assert_eq!(header(&invite, "CSeq"), Some(expected.as_str()));
    }
    // It asks for what it was given: that is no way to a call.
    let extra = "Min-SE: 900\r\n";
    let refusal = "422 Session Interval Too Small";
    peer.send(respond(&invite, refusal, "t", extra, ""));
    assert!(matches!(
        end(&peer),
        Some(EndCause::Rejected { status: 422, .. })
    ));
    peer.assert_clean();
}

#[test]
fn a_refresh_that_meets_422_is_sent_again_with_the_larger_interval() {
    let mut peer = Peer::new();
    let invite = call_out(&mut peer, every(90, RefreshedBy::Us));
    let answer = format!("{ANSWER}Session-Expires: 90;refresher=uac\r\n");
    peer.send(respond(&invite, "200 OK", "t", &answer, THEIRS));
    let update = peer.wait(seconds(45)).remove(0);
    let refusal = "422 Session Interval Too Small";
    peer.send(respond(&update, refusal, "", "Min-SE: 200\r\n", ""));
    let again = peer.wait(seconds(1)).remove(0);
    assert_eq!(header(&again, "Session-Expires"), Some("200;refresher=uac"));
    assert_eq!(header(&again, "Min-SE"), Some("200"));
    let extra = "Session-Expires: 200;refresher=uac\r\n";
    peer.send(respond(&again, "200 OK", "", extra, ""));
    assert!(peer.wait(seconds(98)).is_empty());
    assert_eq!(kinds(&peer.wait(seconds(2))), ["UPDATE"]);
}

#[test]
fn a_changed_session_is_a_refreshed_one() {
    let mut peer = Peer::new();
    let fields = [
        TIMED,
        "Session-Expires: 90;refresher=uas",
        "Allow: INVITE, UPDATE",
    ];
    let (leg, _, _) = called(&mut peer, &fields);
    peer.wait(seconds(40));
    peer.act(|endpoint, now| endpoint.reinvite(now, leg, OURS.into()).unwrap());
    let reinvite = peer.last_of("INVITE");
    assert_eq!(
        header(&reinvite, "Session-Expires"),
        Some("90;refresher=uac")
    );
    let extra = "Content-Type: application/sdp\r\nSession-Expires: 90;refresher=uac\r\n";
    peer.send(respond(&reinvite, "200 OK", "", extra, THEIRS));
    assert!(peer.wait(seconds(44)).is_empty());
    assert_eq!(kinds(&peer.wait(seconds(2))), ["UPDATE"]);
}

/// A call between two endpoints with a 90 s interval, refreshed by one of them.
fn long_call(weather: Weather, caller: Extensions, callee: Extensions) -> (Simulation, LegId) {
    let mut simulation = Simulation::new(1, weather);
    simulation.add_with(caller, |_, _, _| {});
    simulation.add_with(callee, |endpoint, now, event| match event {
        Event::IncomingCall(call) => endpoint.accept(now, call.leg, OURS.into()).unwrap(),
        Event::Offer { leg, .. } => endpoint.answer_offer(now, *leg, OURS.into()).unwrap(),
        _ => {}
    });
    let leg = simulation.call(0, 1, THEIRS);
    (simulation, leg)
}

fn count(simulation: &Simulation, node: usize, wanted: &str) -> usize {
    let sent = simulation.sent(node);
    sent.iter().filter(|summary| *summary == wanted).count()
}

#[test]
fn a_call_of_30_minutes_with_an_interval_of_90_s_is_refreshed_by_either_side() {
    for (by, refresher) in [(RefreshedBy::Us, 1), (RefreshedBy::Peer, 0)] {
        // The caller leaves it to the callee.
        let caller = every(90, RefreshedBy::Us);
        let (mut simulation, leg) = long_call(Weather::clear(), caller, every(90, by));
        simulation.run_for(seconds(30 * 60));
        let refreshes = count(&simulation, refresher, "UPDATE");
        assert!((39..=40).contains(&refreshes), "{by:?}: {refreshes}");
        assert_eq!(count(&simulation, 1 - refresher, "UPDATE"), 0, "{by:?}");
        assert_eq!(
            count(&simulation, 0, "BYE") + count(&simulation, 1, "BYE"),
            0
        );
        simulation.act(0, |endpoint, now| {
            endpoint.hangup(now, leg, Hangup::default()).unwrap();
        });
        simulation.run_for(seconds(60));
        assert!(simulation.is_clean());
    }
}

#[test]
fn a_call_of_a_day_in_bad_weather_stays_up() {
    let weather = Weather {
        loss: 0.1,
        duplication: 0.1,
        delay: 0..400,
    };
    let extensions = every(90, RefreshedBy::Us);
    let (mut simulation, leg) = long_call(weather, extensions, extensions);
    simulation.run_for(seconds(24 * 3600));
    assert_eq!(
        simulation.endpoint(0).stats().legs + simulation.endpoint(1).stats().legs,
        2
    );
    simulation.act(0, |endpoint, now| {
        endpoint.hangup(now, leg, Hangup::default()).unwrap();
    });
    simulation.run_for(seconds(60));
    assert!(simulation.is_clean());
}

#[test]
fn a_side_that_vanishes_is_noticed_by_the_other() {
    for by in [RefreshedBy::Us, RefreshedBy::Peer] {
        let caller = every(90, RefreshedBy::Us);
        let (mut simulation, _) = long_call(Weather::clear(), caller, every(90, by));
        simulation.run_for(seconds(100));
        simulation.lose(|datagram| datagram.from == 0);
        simulation.run_for(seconds(200));
        let gone = simulation.events(1).last();
        assert!(matches!(gone, Some(Event::Ended { .. })), "{gone:?}");
    }
}
