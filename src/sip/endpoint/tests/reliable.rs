//! Provisional responses that are acknowledged (RFC 3262), on both sides of a call.

use std::time::Duration;

use super::peer::{OURS, Peer, Request, THEIRS, header, respond, statuses, summaries, to_tag};
use super::seconds;
use crate::sip::endpoint::simulation::{address, config, invitation};
use crate::sip::endpoint::{CommandError, EndCause, Event, Extensions, Hangup, LegId, Support};

const RELIABLE: &str = "Supported: 100rel";

fn extensions(support: Support) -> Extensions {
    Extensions {
        reliable_provisional: support,
        ..Extensions::default()
    }
}

/// A call that rings here with a reliable response; that response and our tag.
fn ringing(status: u16, sdp: Option<&str>) -> (Peer, LegId, String, String) {
    let mut peer = Peer::new();
    peer.send(Request::invite().field(RELIABLE).text());
    let leg = peer.leg();
    let sdp = sdp.map(|sdp| sdp.as_bytes().to_vec());
    peer.act(|endpoint, now| endpoint.progress(now, leg, status, sdp).unwrap());
    let response = peer.last().to_owned();
    let tag = to_tag(&response);
    (peer, leg, response, tag)
}

fn prack(response: &str, tag: &str, number: u32) -> Request {
    let rseq = header(response, "RSeq").unwrap();
    let branch = format!("prack{number}");
    Request::of("PRACK")
        .branch(&branch)
        .ours(tag)
        .sequence(number)
        .field(&format!("RAck: {rseq} 1 INVITE"))
}

fn accept(peer: &mut Peer, leg: LegId) {
    peer.act(|endpoint, now| endpoint.accept(now, leg, OURS.into()).unwrap());
}

#[test]
fn a_reliable_response_is_sent_again_with_doubling_intervals_until_its_prack() {
    let (mut peer, _, ringing, tag) = ringing(180, None);
    assert_eq!(header(&ringing, "Require"), Some("100rel"));
    assert!(header(&ringing, "Contact").is_some());
    let repeats = peer.wait(Duration::from_millis(3600));
    assert_eq!(repeats, [ringing.clone(), ringing.clone(), ringing.clone()]);
    let confirmed = peer.send(prack(&ringing, &tag, 2).text());
    assert_eq!(summaries(&confirmed), ["200 PRACK"]);
    assert!(peer.wait(seconds(20)).is_empty());
    let again = peer.send(prack(&ringing, &tag, 2).text());
    assert_eq!(again, confirmed, "a repeat of the same PRACK");
    let another = prack(&ringing, &tag, 3).text();
    assert_eq!(statuses(&peer.send(another)), ["481"], "nothing is open");
}

#[test]
fn a_response_that_nobody_confirms_ends_the_call() {
    let (mut peer, _, _, _) = ringing(183, Some(OURS));
    let sent = peer.wait(seconds(33));
    assert_eq!(statuses(&sent).last().unwrap(), "504");
    assert!(matches!(
        peer.events.last(),
        Some(Event::Ended {
            cause: EndCause::NoAck,
            ..
        })
    ));
    peer.send(Request::of("ACK").text());
    peer.assert_clean();
}

#[test]
fn responses_are_numbered_and_each_waits_for_the_prack_of_the_one_before() {
    let (mut peer, leg, first, tag) = ringing(180, None);
    peer.act(|endpoint, now| {
        endpoint.progress(now, leg, 183, Some(OURS.into())).unwrap();
    });
    assert_eq!(*peer.last(), first, "it waits");
    let sent = peer.send(prack(&first, &tag, 2).text());
    assert_eq!(summaries(&sent), ["200 PRACK", "183 INVITE"]);
    let number = |text: &str| header(text, "RSeq").unwrap().parse::<u32>().unwrap();
    assert_eq!(number(&sent[1]), number(&first) + 1);
    assert!(sent[1].ends_with(OURS));
}

#[test]
fn a_prack_for_something_else_gets_481() {
    let (mut peer, _, response, tag) = ringing(180, None);
    for (number, rack) in [
        (2, "1 1 INVITE".to_owned()),
        (
            3,
            format!("{} 2 INVITE", header(&response, "RSeq").unwrap()),
        ),
        (
            4,
            format!("{} 1 UPDATE", header(&response, "RSeq").unwrap()),
        ),
    ] {
        let wrong = prack(&response, &tag, number)
            .without_fields()
            .field(&format!("RAck: {rack}"));
        assert_eq!(statuses(&peer.send(wrong.text())), ["481"], "{rack}");
    }
    let bare = prack(&response, &tag, 5).without_fields();
    assert_eq!(statuses(&peer.send(bare.text())), ["400"]);
    let stray = Request::of("PRACK")
        .call_id("none")
        .field("RAck: 1 1 INVITE");
    assert_eq!(statuses(&peer.send(stray.text())), ["481"]);
}

#[test]
fn a_200_waits_for_the_prack_of_a_response_that_described_the_session() {
    let (mut peer, leg, early, tag) = ringing(183, Some(OURS));
    accept(&mut peer, leg);
    assert_eq!(*peer.last(), early, "it waits");
    let twice = peer.act(|endpoint, now| endpoint.accept(now, leg, OURS.into()));
    assert_eq!(twice, Err(CommandError::WrongState));
    let sent = peer.send(prack(&early, &tag, 2).text());
    assert_eq!(summaries(&sent), ["200 PRACK", "200 INVITE"]);
    assert!(
        sent[1].ends_with("\r\n\r\n"),
        "the session was described already"
    );
    peer.send(Request::of("ACK").branch("a").ours(&tag).text());
    assert!(matches!(
        peer.events.last(),
        Some(Event::Confirmed { answer: None, .. })
    ));
}

#[test]
fn a_200_does_not_wait_for_the_prack_of_a_mere_ringing() {
    let (mut peer, leg, early, tag) = ringing(180, None);
    accept(&mut peer, leg);
    assert!(peer.last().starts_with("SIP/2.0 200 ") && peer.last().ends_with(OURS));
    let late = peer.send(prack(&early, &tag, 2).text());
    assert_eq!(summaries(&late), ["200 PRACK"]);
    peer.send(Request::of("ACK").branch("a").ours(&tag).text());
    assert!(peer.wait(seconds(40)).is_empty(), "nothing is sent again");
}

#[test]
fn a_hang_up_and_a_cancel_end_a_call_whose_answer_waits() {
    let (mut peer, leg, _, _) = ringing(183, Some(OURS));
    accept(&mut peer, leg);
    let cancelled = peer.send(Request::of("CANCEL").text());
    assert_eq!(summaries(&cancelled), ["200 CANCEL", "487 INVITE"]);
    peer.send(Request::of("ACK").text());
    peer.assert_clean();
    let (mut peer, leg, _, _) = ringing(183, Some(OURS));
    accept(&mut peer, leg);
    peer.act(|endpoint, now| endpoint.hangup(now, leg, Hangup::default()).unwrap());
    assert_eq!(summaries(&peer.inbox).last().unwrap(), "480 INVITE");
    peer.send(Request::of("ACK").text());
    peer.assert_clean();
}

#[test]
fn a_prack_may_bring_a_new_offer_and_its_200_the_answer() {
    let (mut peer, leg, early, tag) = ringing(183, Some(OURS));
    let offer = prack(&early, &tag, 2).sdp("v=0 their second offer");
    assert!(peer.send(offer.text()).is_empty());
    assert!(matches!(
        peer.events.last(),
        Some(Event::Offer { sdp: Some(sdp), .. }) if sdp == b"v=0 their second offer"
    ));
    accept(&mut peer, leg);
    assert!(
        !peer.last().contains(" INVITE\r\n") || peer.last() == early,
        "the 200 waits for the answer"
    );
    let before = peer.inbox.len();
    peer.act(|endpoint, now| {
        endpoint
            .answer_offer(now, leg, b"v=0 our second".to_vec())
            .unwrap();
    });
    let sent = &peer.inbox[before..];
    assert_eq!(summaries(sent), ["200 PRACK", "200 INVITE"]);
    assert!(sent[0].ends_with("v=0 our second"));
}

#[test]
fn an_invite_without_offer_gets_ours_reliably_and_its_prack_answers_it() {
    let mut peer = Peer::new();
    let invite = Request::of("INVITE")
        .field("Contact: <sip:peer@192.0.2.2:5060>")
        .field(RELIABLE);
    peer.send(invite.text());
    let leg = peer.leg();
    peer.act(|endpoint, now| {
        endpoint.progress(now, leg, 183, Some(OURS.into())).unwrap();
    });
    let early = peer.last().to_owned();
    let tag = to_tag(&early);
    assert!(early.ends_with(OURS));
    let answer = prack(&early, &tag, 2).sdp(THEIRS);
    assert_eq!(statuses(&peer.send(answer.text())), ["200"]);
    assert!(matches!(
        peer.events.last(),
        Some(Event::Answer { sdp, .. }) if sdp == THEIRS.as_bytes()
    ));
    accept(&mut peer, leg);
    assert!(peer.last().starts_with("SIP/2.0 200 ") && peer.last().ends_with("\r\n\r\n"));
}

#[test]
fn callers_that_do_not_know_reliability_ring_as_before() {
    let mut peer = Peer::new();
    peer.send(Request::invite().text());
    let leg = peer.leg();
    peer.act(|endpoint, now| endpoint.ring(now, leg).unwrap());
    assert_eq!(header(peer.last(), "RSeq"), None);
    assert!(peer.wait(seconds(50)).is_empty());
}

#[test]
fn reliability_is_off_or_required_where_the_settings_say_so() {
    let mut settings = config(address(0));
    settings.extensions = extensions(Support::Off);
    let mut peer = Peer::of(settings);
    let required = Request::invite().field("Require: 100rel");
    let refusal = peer.send(required.text()).remove(0);
    assert!(refusal.starts_with("SIP/2.0 420 "));
    assert_eq!(header(&refusal, "Unsupported"), Some("100rel"));
    let mut settings = config(address(0));
    settings.extensions = extensions(Support::Required);
    let mut peer = Peer::of(settings);
    let refusal = peer.send(Request::invite().text()).remove(0);
    assert!(refusal.starts_with("SIP/2.0 421 "));
    assert_eq!(header(&refusal, "Require"), Some("100rel"));
}

#[test]
fn a_call_that_rings_for_minutes_says_so_again_with_a_new_number() {
    let (mut peer, _, first, tag) = ringing(180, None);
    peer.send(prack(&first, &tag, 2).text());
    let again = peer.wait(seconds(60)).remove(0);
    let number = |text: &str| header(text, "RSeq").unwrap().parse::<u32>().unwrap();
    assert_eq!(number(&again), number(&first) + 1);
}

/// Our INVITE as the peer got it.
fn call_out(peer: &mut Peer) -> String {
    let request = invitation(address(1), OURS);
    peer.act(|endpoint, now| endpoint.invite(now, request).unwrap());
    peer.last().to_owned()
}

fn reliably(invite: &str, status: &str, tag: &str, number: u32, body: &str) -> String {
    let extra = format!(
        "Contact: <sip:{tag}@192.0.2.2:5060>\r\nRequire: 100rel\r\nRSeq: {number}\r\n\
         Content-Type: application/sdp\r\nAllow: UPDATE\r\n"
    );
    respond(invite, status, tag, &extra, body)
}

fn progress(peer: &Peer) -> Vec<u16> {
    peer.events
        .iter()
        .filter_map(|event| match event {
            Event::Progress { status, .. } => Some(*status),
            _ => None,
        })
        .collect()
}

#[test]
fn we_confirm_each_reliable_response_once_and_in_order() {
    let mut peer = Peer::new();
    let invite = call_out(&mut peer);
    assert!(header(&invite, "Supported").unwrap().contains("100rel"));
    let ringing = reliably(&invite, "180 Ringing", "t", 700, "");
    let confirmed = peer.send(&ringing);
    assert_eq!(summaries(&confirmed), ["PRACK"]);
    let prack = &confirmed[0];
    assert!(prack.starts_with("PRACK sip:t@192.0.2.2:5060 SIP/2.0\r\n"));
    assert_eq!(header(prack, "RAck"), Some("700 1 INVITE"));
    assert_eq!(header(prack, "CSeq"), Some("2 PRACK"));
    assert_eq!(to_tag(prack), "t");
    peer.send(respond(prack, "200 OK", "", "", ""));
    assert!(peer.send(&ringing).is_empty(), "a repeat");
    let early = reliably(&invite, "183 Session Progress", "t", 702, THEIRS);
    assert!(peer.send(early).is_empty(), "701 is missing");
    let next = reliably(&invite, "182 Queued", "t", 701, "");
    assert_eq!(summaries(&peer.send(next)), ["PRACK"]);
    assert_eq!(progress(&peer), [180, 182]);
}

#[test]
fn each_callee_of_a_forked_call_has_numbers_and_a_dialog_of_its_own() {
    let mut peer = Peer::new();
    let invite = call_out(&mut peer);
    for tag in ["one", "two"] {
        let early = reliably(&invite, "183 Session Progress", tag, 5, THEIRS);
        let prack = peer.send(early).remove(0);
        assert_eq!(to_tag(&prack), tag);
        assert_eq!(header(&prack, "CSeq"), Some("2 PRACK"));
    }
    let ok =
        reliably(&invite, "200 OK", "two", 0, "").replace("Require: 100rel\r\nRSeq: 0\r\n", "");
    let answered = peer.send(ok);
    assert_eq!(summaries(&answered), ["ACK"]);
    assert_eq!(to_tag(&answered[0]), "two");
    let leg = peer.events.last().unwrap().leg().unwrap();
    peer.act(|endpoint, now| endpoint.hangup(now, leg, Hangup::default()).unwrap());
    let bye = peer.last_of("BYE");
    assert_eq!(header(&bye, "CSeq"), Some("3 BYE"), "after its PRACK");
}

#[test]
fn the_answer_of_a_reliable_response_is_that_of_the_call() {
    let mut peer = Peer::new();
    let invite = call_out(&mut peer);
    peer.send(reliably(&invite, "183 Session Progress", "t", 1, THEIRS));
    assert!(matches!(
        peer.events.last(),
        Some(Event::Progress { status: 183, sdp: Some(sdp), .. }) if sdp == THEIRS.as_bytes()
    ));
    let contact = "Contact: <sip:t@192.0.2.2:5060>\r\n";
    peer.send(respond(&invite, "200 OK", "t", contact, ""));
    assert!(matches!(
        peer.events.last(),
        Some(Event::Answered { sdp, .. }) if sdp == THEIRS.as_bytes()
    ));
}

#[test]
fn without_reliability_on_our_side_there_is_no_prack() {
    let mut peer = Peer::new();
    let mut request = invitation(address(1), OURS);
    request.extensions = Some(extensions(Support::Off));
    peer.act(|endpoint, now| endpoint.invite(now, request).unwrap());
    let invite = peer.last().to_owned();
    assert!(!header(&invite, "Supported").unwrap().contains("100rel"));
    assert!(
        peer.send(reliably(&invite, "180 Ringing", "t", 1, ""))
            .is_empty()
    );
    assert_eq!(progress(&peer), [180]);
}

#[test]
fn where_it_is_required_our_invite_says_so() {
    let mut peer = Peer::new();
    let mut request = invitation(address(1), OURS);
    request.extensions = Some(extensions(Support::Required));
    peer.act(|endpoint, now| endpoint.invite(now, request).unwrap());
    assert_eq!(header(peer.last(), "Require"), Some("100rel"));
}

#[test]
fn a_prack_is_challenged_like_any_request() {
    let mut peer = Peer::new();
    let mut request = invitation(address(1), OURS);
    request.credentials = Some(crate::sip::endpoint::Credentials {
        username: "user".to_owned(),
        password: "secret".to_owned(),
    });
    peer.act(|endpoint, now| endpoint.invite(now, request).unwrap());
    let invite = peer.last().to_owned();
    let prack = peer
        .send(reliably(&invite, "180 Ringing", "t", 1, ""))
        .remove(0);
    let challenge = "WWW-Authenticate: Digest realm=\"r\", nonce=\"n1\", qop=\"auth\"\r\n";
    let again = peer
        .send(respond(&prack, "401 Unauthorized", "", challenge, ""))
        .remove(0);
    assert!(again.starts_with("PRACK ") && header(&again, "Authorization").is_some());
    assert_eq!(header(&again, "CSeq"), Some("3 PRACK"));
    assert_eq!(header(&again, "RAck"), Some("1 1 INVITE"));
}
