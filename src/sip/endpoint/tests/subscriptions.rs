//! Peers that subscribe (RFC 6665): a scripted one, and seeded ones in bad weather.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::peer::{Peer, Request, header, respond, summaries, to_tag};
use super::seconds;
use crate::sip::endpoint::simulation::{UDP, address, config};
use crate::sip::endpoint::{
    Credentials, EndpointConfig, Event, InboundAuthentication, NotifyRequest, SubscriptionId,
};

const KIND: &str = "application/simple-message-summary";

fn telling() -> EndpointConfig {
    EndpointConfig {
        event_packages: vec!["message-summary"],
        ..config(address(0))
    }
}

fn subscribe() -> Request {
    Request::of("SUBSCRIBE")
        .field("Contact: <sip:peer@192.0.2.2:5060>")
        .field("Event: message-summary")
}

impl Peer {
    fn asked(&self) -> SubscriptionId {
        let mut asked = self.events.iter().rev().filter_map(|event| match event {
            Event::SubscribeRequested(request) => Some(request.id),
            _ => None,
        });
        asked.next().unwrap()
    }

    fn ended(&self) -> bool {
        let mut events = self.events.iter();
        events.any(|event| matches!(event, Event::SubscriptionEnded { .. }))
    }

    /// Subscribes and is accepted; the subscription and our tag. The NOTIFY is answered.
    fn subscribed(&mut self) -> (SubscriptionId, String) {
        self.send(subscribe().field("Expires: 600").text());
        let id = self.asked();
        self.act(|endpoint, now| endpoint.accept_subscription(now, id, KIND, b"first".into()))
            .unwrap();
        let tag = to_tag(&self.last_of("200 SUBSCRIBE"));
        self.answer_notify("200 OK");
        (id, tag)
    }

    fn answer_notify(&mut self, status: &str) {
        let notify = self.last_of("NOTIFY");
        self.send(respond(&notify, status, "x", "", ""));
    }

    fn state(&self) -> String {
        let notify = self.last_of("NOTIFY");
        header(&notify, "Subscription-State").unwrap().to_owned()
    }
}

#[test]
fn a_subscriber_is_told_the_state_at_once_and_each_change() {
    let mut peer = Peer::of(telling());
    let (id, tag) = peer.subscribed();
    let accepted = peer.last_of("200 SUBSCRIBE");
    assert_eq!(header(&accepted, "Expires"), Some("600"));
    assert!(header(&accepted, "Contact").is_some());
    let first = peer.last_of("NOTIFY");
    assert!(first.starts_with("NOTIFY sip:peer@192.0.2.2:5060 SIP/2.0\r\n"));
    assert_eq!(header(&first, "Event"), Some("message-summary"));
    assert_eq!(
        header(&first, "Subscription-State"),
        Some("active;expires=600")
    );
    assert_eq!(header(&first, "Content-Type"), Some(KIND));
    assert!(first.ends_with("\r\n\r\nfirst"));
    assert!(
        header(&first, "From")
            .unwrap()
            .ends_with(&format!("tag={tag}"))
    );
    peer.wait(seconds(100));
    peer.act(|endpoint, now| endpoint.notify(now, id, KIND, b"second".into()))
        .unwrap();
    let second = peer.last_of("NOTIFY");
    assert!(second.ends_with("second"));
    assert_eq!(
        header(&second, "Subscription-State"),
        Some("active;expires=500")
    );
    peer.answer_notify("200 OK");
    assert!(!peer.ended());
}

#[test]
fn changes_while_a_notify_is_out_are_told_by_one_more() {
    let mut peer = Peer::of(telling());
    let (id, _) = peer.subscribed();
    for body in ["a", "b", "c"] {
        peer.act(|endpoint, now| endpoint.notify(now, id, KIND, body.into()))
            .unwrap();
    }
    assert!(peer.last_of("NOTIFY").ends_with("\r\n\r\na"));
    let before = peer.inbox.len();
    peer.answer_notify("200 OK");
    assert_eq!(summaries(&peer.inbox[before..]), ["NOTIFY"]);
    assert!(peer.last_of("NOTIFY").ends_with("\r\n\r\nc"));
    let before = peer.inbox.len();
    peer.answer_notify("200 OK");
    assert!(peer.inbox[before..].is_empty());
}

#[test]
fn a_refresh_prolongs_it_and_tells_the_state_again() {
    let mut peer = Peer::of(telling());
    let (_, tag) = peer.subscribed();
    peer.wait(seconds(500));
    let refresh = subscribe().ours(&tag).branch("again").sequence(2);
    peer.send(refresh.clone().field("Expires: 600").text());
    assert_eq!(peer.state(), "active;expires=600");
    peer.answer_notify("200 OK");
    peer.wait(seconds(599));
    assert!(!peer.ended());
    // An old one, as a network that duplicates late has it.
    let late = subscribe().ours(&tag).branch("late").sequence(2);
    let refused = peer.send(late.text()).remove(0);
    assert!(refused.starts_with("SIP/2.0 500 "), "{refused}");
    let short = refresh.branch("short").sequence(3).field("Expires: 30");
    let refused = peer.send(short.text()).remove(0);
    assert!(refused.starts_with("SIP/2.0 423 "), "{refused}");
    assert_eq!(header(&refused, "Min-Expires"), Some("60"));
}

#[test]
fn it_ends_when_its_time_is_over() {
    let mut peer = Peer::of(telling());
    peer.subscribed();
    peer.wait(seconds(601));
    assert_eq!(peer.state(), "terminated;reason=timeout");
    peer.answer_notify("200 OK");
    assert!(peer.ended());
    peer.assert_clean();
}

#[test]
fn it_ends_when_the_subscriber_says_so_and_then_is_unknown() {
    let mut peer = Peer::of(telling());
    let (id, tag) = peer.subscribed();
    let bye = subscribe().ours(&tag).branch("end").sequence(2);
    peer.send(bye.clone().field("Expires: 0").text());
    assert_eq!(header(&peer.last_of("200 SUBSCRIBE"), "Expires"), Some("0"));
    assert_eq!(peer.state(), "terminated;reason=timeout");
    peer.answer_notify("200 OK");
    assert!(peer.ended());
    let refused = peer.send(bye.branch("more").sequence(3).text()).remove(0);
    assert!(refused.starts_with("SIP/2.0 481 "), "{refused}");
    let gone = peer.act(|endpoint, now| endpoint.notify(now, id, KIND, Vec::new()));
    assert!(gone.is_err());
    peer.assert_clean();
}

#[test]
fn a_subscriber_who_looks_once_is_told_once() {
    let mut peer = Peer::of(telling());
    peer.send(subscribe().field("Expires: 0").text());
    let id = peer.asked();
    peer.act(|endpoint, now| endpoint.accept_subscription(now, id, KIND, b"now".into()))
        .unwrap();
    assert_eq!(peer.state(), "terminated;reason=timeout");
    assert!(peer.last_of("NOTIFY").ends_with("now"));
    peer.answer_notify("200 OK");
    peer.assert_clean();
}

#[test]
fn a_subscriber_who_knows_nothing_of_it_or_is_gone_is_forgotten() {
    for status in ["481 Call/Transaction Does Not Exist", "404 Not Found"] {
        let mut peer = Peer::of(telling());
        let (id, _) = peer.subscribed();
        peer.act(|endpoint, now| endpoint.notify(now, id, KIND, b"news".into()))
            .unwrap();
        peer.answer_notify(status);
        assert!(peer.ended(), "{status}");
        peer.assert_clean();
    }
    let mut peer = Peer::of(telling());
    let (id, _) = peer.subscribed();
    peer.act(|endpoint, now| endpoint.notify(now, id, KIND, b"news".into()))
        .unwrap();
    peer.wait(seconds(33));
    assert!(peer.ended(), "nobody answers");
    peer.assert_clean();
}

#[test]
fn what_may_not_or_cannot_be_subscribed_to_is_refused() {
    let mut peer = Peer::of(telling());
    let other = Request::of("SUBSCRIBE").field("Event: presence");
    let refused = peer.send(other.text()).remove(0);
    assert!(refused.starts_with("SIP/2.0 489 "), "{refused}");
    assert_eq!(header(&refused, "Allow-Events"), Some("message-summary"));
    let none = Request::of("SUBSCRIBE").branch("none").call_id("none");
    assert!(peer.send(none.text())[0].starts_with("SIP/2.0 489 "));
    peer.send(subscribe().branch("no").call_id("no").text());
    let id = peer.asked();
    peer.act(|endpoint, now| endpoint.reject_subscription(now, id, 404))
        .unwrap();
    peer.last_of("404 SUBSCRIBE");
    peer.send(subscribe().branch("silent").call_id("silent").text());
    peer.wait(seconds(9));
    peer.last_of("403 SUBSCRIBE");
    peer.assert_clean();
}

#[test]
fn strangers_are_asked_for_a_password() {
    let mut guarded = telling();
    guarded.authentication = Some(InboundAuthentication {
        realm: "offhook".to_owned(),
        users: vec![Credentials {
            username: "user".to_owned(),
            password: "secret".to_owned(),
        }],
        trusted: Vec::new(),
    });
    let mut peer = Peer::of(guarded);
    let refused = peer.send(subscribe().text()).remove(0);
    assert!(refused.starts_with("SIP/2.0 401 "), "{refused}");
    peer.assert_clean();
}

#[test]
fn somebody_who_has_not_subscribed_can_be_told() {
    let mut peer = Peer::new();
    let notify = NotifyRequest {
        transport: UDP,
        destination: address(1),
        target: "sip:200@192.0.2.2".parse().unwrap(),
        package: "message-summary",
        kind: KIND,
        body: b"news".into(),
    };
    let id = peer
        .act(|endpoint, now| endpoint.notify_unsolicited(now, notify))
        .unwrap();
    let told = peer.last_of("NOTIFY");
    assert!(told.starts_with("NOTIFY sip:200@192.0.2.2 SIP/2.0\r\n"));
    assert_eq!(
        header(&told, "Subscription-State"),
        Some("terminated;reason=noresource")
    );
    peer.answer_notify("200 OK");
    let answered = peer
        .events
        .iter()
        .any(|event| matches!(event, Event::Ping { id: of, status: Some(200) } if *of == id));
    assert!(answered);
    peer.assert_clean();
}

/// What a subscriber knows, whatever order of things a seed chooses.
#[test]
fn whatever_a_subscriber_does_it_knows_the_latest_state_or_that_it_is_over() {
    for seed in 0..400 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut peer = Peer::of(telling());
        let (id, tag) = peer.subscribed();
        let (mut sequence, mut latest) = (1, "first".to_owned());
        let mut answered = peer.inbox.len();
        for step in 0..rng.random_range(1..30) {
            match rng.random_range(0..8) {
                0..3 => {
                    latest = format!("state {step}");
                    let body = latest.clone().into_bytes();
                    let told = peer.act(|endpoint, now| endpoint.notify(now, id, KIND, body));
                    assert_eq!(told.is_ok(), !peer.ended(), "seed {seed}");
                }
                3 => {
                    sequence += 1;
                    let expires = [0, 60, 600, 90_000][rng.random_range(0..4)];
                    let again = subscribe()
                        .ours(&tag)
                        .branch(&format!("s{sequence}"))
                        .sequence(sequence)
                        .field(&format!("Expires: {expires}"));
                    peer.send(again.text());
                }
                4 => {
                    peer.wait(seconds(rng.random_range(0..300)));
                }
                _ => {}
            }
            // The NOTIFYs that came since, some of them lost, some answered late.
            if rng.random_bool(0.7) {
                let came: Vec<String> = peer.inbox[answered..].to_vec();
                answered = peer.inbox.len();
                for notify in came.iter().filter(|text| text.starts_with("NOTIFY")) {
                    peer.send(respond(notify, "200 OK", "x", "", ""));
                }
            }
        }
        // In the end everything is answered.
        for _ in 0..200 {
            peer.wait(seconds(1));
            let came: Vec<String> = peer.inbox[answered..].to_vec();
            answered = peer.inbox.len();
            for notify in came.iter().filter(|text| text.starts_with("NOTIFY")) {
                peer.send(respond(notify, "200 OK", "x", "", ""));
            }
        }
        let last = peer.last_of("NOTIFY");
        let over = header(&last, "Subscription-State")
            .unwrap()
            .starts_with("terminated");
        if !peer.ended() {
            assert!(!over, "seed {seed}");
            assert!(
                last.ends_with(&format!("\r\n\r\n{latest}")),
                "seed {seed}: {last}"
            );
        }
        let stats = peer.endpoint.stats();
        assert_eq!(
            stats.subscriptions,
            usize::from(!peer.ended()),
            "seed {seed}"
        );
        let ends = peer
            .events
            .iter()
            .filter(|event| matches!(event, Event::SubscriptionEnded { .. }));
        assert!(ends.count() <= 1, "seed {seed}");
    }
}
