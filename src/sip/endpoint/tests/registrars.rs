//! Several registrars, and what keeps calls coming: keep-alives, renewal, Service-Route.

use std::time::Duration;

use super::peer::{Peer, header, respond};
use crate::sip::endpoint::simulation::{UDP, address};
use crate::sip::endpoint::{Event, RegisterRequest, RegistrarTarget, RegistrationState};
use crate::sip::uri::{Host, Uri};

fn target(index: usize) -> RegistrarTarget {
    let domain = || Host::Name(format!("{index}.example.com"));
    RegistrarTarget {
        transport: UDP,
        destination: address(index),
        registrar: Uri::sip(None, domain(), None),
        address_of_record: Uri::sip(Some("100"), domain(), None),
    }
}

fn request(indexes: &[usize]) -> RegisterRequest {
    RegisterRequest {
        targets: indexes.iter().copied().map(target).collect(),
        contact_user: "100".to_owned(),
        credentials: None,
        expires: seconds(300),
        learn_contact: true,
        keep_alive: true,
    }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn states(peer: &Peer) -> Vec<&RegistrationState> {
    let states = peer.events.iter().filter_map(|event| match event {
        Event::Registration { state, .. } => Some(state),
        _ => None,
    });
    states.collect()
}

fn is_registered(peer: &Peer) -> bool {
    matches!(
        states(peer).last(),
        Some(RegistrationState::Registered { .. })
    )
}

/// Answers the last REGISTER with 200 and these header fields.
fn grant(peer: &mut Peer, fields: &str) {
    let register = peer.last_of("REGISTER");
    let fields = format!("Expires: 300\r\n{fields}");
    peer.send(respond(&register, "200 OK", "r", &fields, ""));
}

fn registrar_of(text: &str) -> &str {
    text.split(' ').nth(1).unwrap()
}

#[test]
fn a_registrar_that_cannot_is_passed_over_and_the_one_that_can_is_kept() {
    let mut peer = Peer::new();
    peer.act(|endpoint, now| endpoint.register(now, request(&[1, 2, 3])).unwrap());
    let first = peer.last().to_owned();
    assert_eq!(registrar_of(&first), "sip:1.example.com");
    peer.send(respond(&first, "503 Service Unavailable", "r", "", ""));
    assert_eq!(registrar_of(peer.last()), "sip:2.example.com");
    assert_eq!(peer.destinations.last(), Some(&address(2)));
    // Nobody answers: timer F.
    peer.wait(seconds(32));
    assert_eq!(registrar_of(peer.last()), "sip:3.example.com");
    assert!(states(&peer).is_empty(), "nothing failed so far");
    grant(&mut peer, "");
    assert!(is_registered(&peer));
    peer.wait(seconds(280));
    let refresh = peer.last_of("REGISTER");
    assert_eq!(registrar_of(&refresh), "sip:3.example.com");
}

#[test]
fn when_all_failed_it_begins_with_the_first_again_after_a_pause() {
    let mut peer = Peer::new();
    peer.act(|endpoint, now| endpoint.register(now, request(&[1, 2])).unwrap());
    for _ in 0..2 {
        let sent = peer.last().to_owned();
        peer.send(respond(&sent, "500 Server Internal Error", "r", "", ""));
    }
    let Some(RegistrationState::Failed {
        status: Some(500),
        retry_in,
    }) = states(&peer).last().copied()
    else {
        panic!("{:?}", states(&peer));
    };
    let sent = peer.wait(*retry_in);
    assert_eq!(registrar_of(&sent[0]), "sip:1.example.com");
}

#[test]
fn a_wrong_password_is_not_taken_from_registrar_to_registrar() {
    let mut peer = Peer::new();
    peer.act(|endpoint, now| endpoint.register(now, request(&[1, 2])).unwrap());
    let first = peer.last().to_owned();
    peer.send(respond(&first, "403 Forbidden", "r", "", ""));
    assert!(matches!(
        states(&peer).last(),
        Some(RegistrationState::Failed {
            status: Some(403),
            ..
        })
    ));
}

#[test]
fn registrars_that_dns_moved_are_used_unless_the_present_one_is_still_among_them() {
    let mut peer = Peer::new();
    let id = peer.act(|endpoint, now| endpoint.register(now, request(&[1])).unwrap());
    grant(&mut peer, "");
    let both = [target(2), target(1)];
    peer.act(|endpoint, _| endpoint.retarget(id, &both, "100").unwrap());
    peer.wait(seconds(280));
    let refresh = peer.last_of("REGISTER");
    assert_eq!(registrar_of(&refresh), "sip:1.example.com");
    grant(&mut peer, "");
    peer.act(|endpoint, _| endpoint.retarget(id, &both[..1], "100").unwrap());
    peer.wait(seconds(280));
    let refresh = peer.last_of("REGISTER");
    assert_eq!(registrar_of(&refresh), "sip:2.example.com");
}

#[test]
fn the_service_route_is_told_and_path_is_offered() {
    let mut peer = Peer::new();
    peer.act(|endpoint, now| endpoint.register(now, request(&[1])).unwrap());
    assert_eq!(header(peer.last(), "Supported"), Some("path"));
    grant(
        &mut peer,
        "Path: <sip:p.example.com;lr>\r\n\
         Service-Route: <sip:a.example.com;lr>, <sip:b.example.com;lr>\r\n",
    );
    let Some(RegistrationState::Registered { service_route, .. }) = states(&peer).last().copied()
    else {
        panic!("{:?}", states(&peer));
    };
    let route: Vec<String> = service_route.iter().map(ToString::to_string).collect();
    assert_eq!(route, ["<sip:a.example.com;lr>", "<sip:b.example.com;lr>"]);
}

#[test]
fn line_ends_keep_the_way_open_over_udp() {
    let mut peer = Peer::new();
    peer.act(|endpoint, now| endpoint.register(now, request(&[1])).unwrap());
    grant(&mut peer, "");
    let sent = peer.wait(seconds(150));
    assert!((5..=6).contains(&sent.len()), "{sent:?}");
    assert!(sent.iter().all(|text| text == "\r\n\r\n"), "{sent:?}");
}

#[test]
fn when_the_way_is_lost_it_registers_anew_soon() {
    let mut peer = Peer::new();
    peer.act(|endpoint, now| endpoint.register(now, request(&[1])).unwrap());
    grant(&mut peer, "");
    peer.act(|endpoint, now| endpoint.handle_transmit_failed(now, UDP, address(1)));
    let sent = peer.wait(seconds(2));
    assert!(sent[0].starts_with("REGISTER "), "{sent:?}");
    grant(&mut peer, "");
    assert!(is_registered(&peer));
}

#[test]
fn when_our_address_changes_the_new_one_is_registered_and_the_old_one_removed() {
    let mut peer = Peer::new();
    peer.act(|endpoint, now| endpoint.register(now, request(&[1])).unwrap());
    grant(&mut peer, "");
    let moved = Host::Ip("192.0.2.77".parse().unwrap());
    peer.act(|endpoint, now| endpoint.move_transport(now, UDP, moved));
    let sent = peer.wait(seconds(2));
    assert!(sent[0].contains("Contact: <sip:100@192.0.2.77:5060>;expires=300\r\n"));
    assert!(sent[0].contains("Contact: <sip:100@192.0.2.1:5060>;expires=0\r\n"));
    assert!(sent[0].starts_with("REGISTER "));
    grant(&mut peer, "");
    assert!(is_registered(&peer));
}
