//! Registrations, with a registrar that says what the test tells it to, and with one behind bad
//! weather.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::peer::{Peer, header, respond, summaries};
use super::seconds;
use crate::sip::auth::{Verifier, VerifierSettings};
use crate::sip::endpoint::simulation::{Simulation, UDP, Weather, address};
use crate::sip::endpoint::{
    Credentials, Event, KeepAlive, RegisterRequest, RegistrarTarget, RegistrationId,
    RegistrationState,
};
use crate::sip::headers::HeaderName;
use crate::sip::message::{Message, Response, StatusCode};
use crate::sip::uri::{Host, Uri};
use crate::sip::wire::parse_datagram;

fn registration() -> RegisterRequest {
    let domain = || Host::Name("example.com".to_owned());
    RegisterRequest {
        targets: vec![RegistrarTarget {
            transport: UDP,
            destination: address(1),
            registrar: Uri::sip(None, domain(), None),
            address_of_record: Uri::sip(Some("100"), domain(), None),
        }],
        contact_user: "100".to_owned(),
        credentials: Some(Credentials {
            username: "100".to_owned(),
            password: "secret".to_owned(),
        }),
        expires: Duration::from_secs(300),
        learn_contact: true,
        keep_alive: KeepAlive::Off,
        patience: seconds(5),
        extensions: None,
    }
}

fn registered(expires: u64) -> RegistrationState {
    RegistrationState::Registered {
        expires: seconds(expires),
        service_route: Vec::new(),
    }
}

fn start(peer: &mut Peer) -> RegistrationId {
    peer.act(|endpoint, now| endpoint.register(now, registration()).unwrap())
}

fn state(peer: &Peer) -> RegistrationState {
    match peer.events.last() {
        Some(Event::Registration { state, .. }) => state.clone(),
        other => panic!("{other:?}"),
    }
}

fn granted(peer: &Peer) -> String {
    let request = peer.last_of("REGISTER");
    let contact = header(&request, "Contact").unwrap().to_owned();
    respond(
        &request,
        "200 OK",
        "r",
        &format!("Contact: {contact}\r\n"),
        "",
    )
}

fn register_count(texts: &[String]) -> usize {
    summaries(texts)
        .iter()
        .filter(|name| *name == "REGISTER")
        .count()
}

#[test]
fn a_challenged_registration_succeeds_and_is_refreshed_before_it_expires() {
    let mut peer = Peer::new();
    start(&mut peer);
    let first = peer.last().to_owned();
    assert!(first.starts_with("REGISTER sip:example.com SIP/2.0\r\n"));
    assert_eq!(
        header(&first, "Contact"),
        Some("<sip:100@192.0.2.1:5060>;expires=300")
    );
    let challenge = "WWW-Authenticate: Digest realm=\"example.com\", nonce=\"n\", qop=\"auth\"\r\n";
    peer.send(respond(&first, "401 Unauthorized", "r", challenge, ""));
    let second = peer.last().to_owned();
    assert!(header(&second, "Authorization").is_some());
    assert_eq!(header(&second, "CSeq"), Some("2 REGISTER"));
    assert_eq!(header(&second, "Call-ID"), header(&first, "Call-ID"));
    peer.send(granted(&peer));
    assert_eq!(state(&peer), registered(300));
    assert_eq!(register_count(&peer.wait(seconds(224))), 0);
    let refreshes = peer.wait(seconds(47));
    assert!(
        header(&refreshes[0], "Authorization")
            .unwrap()
            .contains("nc=00000002")
    );
}

#[test]
fn the_registrars_shorter_lifetime_is_kept() {
    let mut peer = Peer::new();
    start(&mut peer);
    let contact =
        "Contact: <sip:other@192.0.2.99>;expires=9999, <sip:100@192.0.2.1:5060>;expires=60\r\n";
    let first = peer.last().to_owned();
    peer.send(respond(&first, "200 OK", "r", contact, ""));
    assert_eq!(state(&peer), registered(60));
    assert!(register_count(&peer.wait(seconds(55))) > 0);
}

#[test]
fn too_brief_an_interval_is_raised_to_the_registrars_minimum() {
    let mut peer = Peer::new();
    start(&mut peer);
    let first = peer.last().to_owned();
    let minimum = "Min-Expires: 1800\r\n";
    peer.send(respond(&first, "423 Interval Too Brief", "r", minimum, ""));
    assert_eq!(header(peer.last(), "Expires"), Some("1800"));
    peer.send(granted(&peer));
    assert_eq!(state(&peer), registered(1800));
}

#[test]
fn an_unreachable_registrar_is_tried_again_with_growing_pauses() {
    let mut peer = Peer::new();
    start(&mut peer);
    let mut pauses = Vec::new();
    for _ in 0..12 {
        peer.wait(seconds(32));
        let RegistrationState::Failed {
            status: None,
            retry_in,
        } = state(&peer)
        else {
            panic!("{:?}", state(&peer));
        };
        pauses.push(retry_in);
        peer.wait(retry_in);
    }
    for (index, pause) in pauses.iter().enumerate() {
        let longest = (5 * 2_u64.pow(u32::try_from(index).unwrap())).min(600);
        assert!(*pause <= seconds(longest), "{pauses:?}");
        assert!(*pause * 2 >= seconds(longest), "{pauses:?}");
    }
}

#[test]
fn refused_credentials_are_not_tried_again_soon() {
    let mut peer = Peer::new();
    start(&mut peer);
    let challenge = |nonce: &str| {
        format!("WWW-Authenticate: Digest realm=\"r\", nonce=\"{nonce}\", qop=\"auth\"\r\n")
    };
    for nonce in ["one", "two"] {
        let request = peer.last().to_owned();
        peer.send(respond(
            &request,
            "401 Unauthorized",
            "r",
            &challenge(nonce),
            "",
        ));
    }
    let RegistrationState::Failed {
        status: Some(401),
        retry_in,
    } = state(&peer)
    else {
        panic!("{:?}", state(&peer));
    };
    assert!(retry_in >= seconds(300));
    assert_eq!(register_count(&peer.wait(seconds(299))), 0);
}

#[test]
fn credentials_that_worked_before_are_tried_again_soon() {
    let mut peer = Peer::new();
    start(&mut peer);
    peer.send(granted(&peer));
    peer.wait(seconds(270));
    let refresh = peer.last().to_owned();
    peer.send(respond(&refresh, "403 Forbidden", "r", "", ""));
    let RegistrationState::Failed { retry_in, .. } = state(&peer) else {
        panic!("{:?}", state(&peer));
    };
    assert!(retry_in <= seconds(5));
}

#[test]
fn retry_after_is_waited_for() {
    let mut peer = Peer::new();
    start(&mut peer);
    let first = peer.last().to_owned();
    peer.send(respond(
        &first,
        "503 Service Unavailable",
        "r",
        "Retry-After: 90\r\n",
        "",
    ));
    assert_eq!(
        state(&peer),
        RegistrationState::Failed {
            status: Some(503),
            retry_in: seconds(90)
        }
    );
}

#[test]
fn behind_nat_the_contact_becomes_the_address_that_the_registrar_saw() {
    let mut peer = Peer::new();
    start(&mut peer);
    let seen = |text: &str| text.replace(";rport", ";rport=41000;received=203.0.113.5");
    let first = peer.last().to_owned();
    peer.send(seen(&respond(
        &first,
        "200 OK",
        "r",
        "Expires: 300\r\n",
        "",
    )));
    let second = peer.last().to_owned();
    assert!(second.contains("Contact: <sip:100@203.0.113.5:41000>;expires=300\r\n"));
    assert!(
        second.contains("Contact: <sip:100@192.0.2.1:5060>;expires=0\r\n"),
        "the binding that nobody reaches goes"
    );
    peer.send(seen(&granted(&peer)));
    assert_eq!(state(&peer), registered(300));
    let refresh = peer.wait(seconds(280)).remove(0);
    assert_eq!(refresh.matches("Contact: ").count(), 1);
}

#[test]
fn a_registration_is_removed_with_expires_0() {
    let mut peer = Peer::new();
    let id = start(&mut peer);
    peer.send(granted(&peer));
    peer.act(|endpoint, now| endpoint.unregister(now, id).unwrap());
    assert_eq!(
        header(peer.last(), "Contact"),
        Some("<sip:100@192.0.2.1:5060>;expires=0")
    );
    peer.send(granted(&peer));
    assert_eq!(state(&peer), RegistrationState::Unregistered);
    peer.assert_clean();
}

#[test]
fn removal_waits_for_the_registration_under_way_and_gives_up_on_a_dead_registrar() {
    let mut peer = Peer::new();
    let id = start(&mut peer);
    peer.act(|endpoint, now| endpoint.unregister(now, id).unwrap());
    assert_eq!(register_count(&peer.inbox), 1);
    peer.send(granted(&peer));
    assert_eq!(register_count(&peer.inbox), 2);
    peer.wait(seconds(33));
    assert_eq!(state(&peer), RegistrationState::Unregistered);
    peer.assert_clean();
}

/// A registrar with one binding. It answers repeats as its transaction would.
fn registrar(
    bound: Rc<RefCell<Option<String>>>,
    epoch: Instant,
) -> impl FnMut(Instant, &[u8]) -> Option<Vec<u8>> {
    let settings = VerifierSettings {
        realm: "example.com".to_owned(),
        secret: [3; 32],
        nonce_lifetime: Duration::from_secs(120),
        allow_md5: true,
        max_used_nonces: 100,
    };
    let mut verifier = Verifier::new(settings, epoch);
    let mut replies: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
    move |now, bytes| {
        if let Some(reply) = replies.get(bytes) {
            return Some(reply.clone());
        }
        let Ok(Message::Request(request)) = parse_datagram(bytes) else {
            return None;
        };
        let credentials = request.headers.authorization().unwrap();
        let password = |_: &str| Some("secret".to_owned());
        let verdict = verifier.verify(&request.method, &credentials, password, now);
        let mut response = match verdict {
            Ok(_) => Response::to_request(&request, StatusCode::OK),
            Err(_) => Response::to_request(&request, StatusCode::UNAUTHORIZED),
        };
        response.headers.set_to_tag("registrar");
        match verdict {
            Ok(_) => {
                let contact = request
                    .headers
                    .get(&HeaderName::Contact)
                    .unwrap()
                    .to_owned();
                response.headers.push(HeaderName::Contact, &contact);
                let removed = contact.ends_with("expires=0");
                *bound.borrow_mut() = (!removed).then_some(contact);
            }
            Err(refusal) => {
                for challenge in verifier.challenges(refusal.is_stale(), now) {
                    response
                        .headers
                        .push(HeaderName::WwwAuthenticate, challenge);
                }
            }
        }
        replies.insert(bytes.to_vec(), response.to_bytes());
        Some(response.to_bytes())
    }
}

#[test]
fn in_bad_weather_registrations_last_for_hours_and_end_without_a_trace() {
    for seed in 0..100 {
        let weather = Weather {
            loss: 0.1,
            duplication: 0.2,
            delay: 0..400,
        };
        let mut simulation = Simulation::new(seed, weather);
        let client = simulation.add(|_, _, _| {});
        let bound = Rc::new(RefCell::new(None));
        simulation.add_responder(registrar(Rc::clone(&bound), simulation.start));
        let id = simulation.act(client, |endpoint, now| {
            endpoint.register(now, registration()).unwrap()
        });
        simulation.run_for(Duration::from_secs(3600));
        assert!(bound.borrow().is_some(), "seed {seed}");
        let states = simulation.events(client);
        let failed = states.iter().any(|event| {
            matches!(
                event,
                Event::Registration {
                    state: RegistrationState::Failed { .. },
                    ..
                }
            )
        });
        assert!(!failed, "seed {seed}: {states:?}");
        assert!(
            states.len() >= 13,
            "seed {seed}: refreshed {}",
            states.len()
        );
        simulation.act(client, |endpoint, now| {
            endpoint.unregister(now, id).unwrap();
        });
        simulation.run_for(Duration::from_secs(100));
        assert!(bound.borrow().is_none(), "seed {seed}");
        assert!(simulation.is_clean(), "seed {seed}");
    }
}
