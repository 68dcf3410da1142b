//! Several registrars, and what keeps calls coming: keep-alives, renewal, Service-Route.

use std::time::Duration;

use super::peer::{Peer, Request, header, respond};
use super::seconds;
use crate::sip::endpoint::simulation::{UDP, address};
use crate::sip::endpoint::{
    Event, Extensions, KeepAlive, RegisterRequest, RegistrarTarget, RegistrationState, Support,
};
use crate::sip::uri::{Host, Uri};

const PATIENCE: Duration = Duration::from_secs(5);

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
        keep_alive: KeepAlive::Crlf,
        patience: PATIENCE,
        extensions: None,
    }
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

/// Waits for the next REGISTER.
fn next_register(peer: &mut Peer) -> String {
    for _ in 0..300 {
        let sent = peer.wait(seconds(1)).into_iter();
        if let Some(register) = sent.into_iter().find(|text| text.starts_with("REGISTER ")) {
            return register;
        }
    }
    panic!("no REGISTER");
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
    // Nobody answers, and another is left to try.
    peer.wait(PATIENCE);
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
    assert_eq!(registrar_of(&next_register(&mut peer)), "sip:1.example.com");
    grant(&mut peer, "");
    peer.act(|endpoint, _| endpoint.retarget(id, &both[..1], "100").unwrap());
    assert_eq!(registrar_of(&next_register(&mut peer)), "sip:2.example.com");
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

#[test]
fn the_last_registrar_has_until_timer_f() {
    let mut peer = Peer::new();
    peer.act(|endpoint, now| endpoint.register(now, request(&[1, 2])).unwrap());
    peer.wait(PATIENCE);
    assert_eq!(registrar_of(peer.last()), "sip:2.example.com");
    peer.wait(seconds(31));
    assert!(states(&peer).is_empty());
    peer.wait(seconds(1));
    assert!(matches!(
        states(&peer).last(),
        Some(RegistrationState::Failed { status: None, .. })
    ));
}

#[test]
fn a_registrar_that_is_still_thinking_is_waited_for() {
    let mut peer = Peer::new();
    peer.act(|endpoint, now| endpoint.register(now, request(&[1, 2])).unwrap());
    let first = peer.last().to_owned();
    peer.send(respond(&first, "100 Trying", "", "", ""));
    peer.wait(PATIENCE * 2);
    assert_eq!(registrar_of(peer.last()), "sip:1.example.com");
    peer.send(respond(&first, "200 OK", "r", "Expires: 300\r\n", ""));
    assert!(is_registered(&peer));
}

/// Registered with the second registrar, as the first did not answer.
fn with_the_second() -> Peer {
    let mut peer = Peer::new();
    peer.act(|endpoint, now| endpoint.register(now, request(&[1, 2])).unwrap());
    peer.wait(PATIENCE);
    grant(&mut peer, "");
    assert!(is_registered(&peer));
    peer
}

#[test]
fn when_the_preferred_registrar_is_back_it_is_returned_to() {
    let mut peer = with_the_second();
    peer.wait(seconds(150));
    let back = peer.last_of("REGISTER");
    assert_eq!(registrar_of(&back), "sip:1.example.com");
    grant(&mut peer, "");
    peer.wait(seconds(280));
    let refresh = peer.last_of("REGISTER");
    assert_eq!(registrar_of(&refresh), "sip:1.example.com");
}

#[test]
fn while_the_preferred_registrar_is_away_or_refuses_the_other_one_is_kept() {
    let mut peer = with_the_second();
    let before = states(&peer).len();
    peer.wait(seconds(150) + PATIENCE);
    assert_eq!(registrar_of(&peer.last_of("REGISTER")), "sip:2.example.com");
    grant(&mut peer, "");
    peer.wait(seconds(150));
    let back = peer.last_of("REGISTER");
    peer.send(respond(&back, "403 Forbidden", "r", "", ""));
    assert_eq!(registrar_of(&peer.last_of("REGISTER")), "sip:2.example.com");
    grant(&mut peer, "");
    let later = states(&peer).split_off(before);
    let registered =
        |state: &&RegistrationState| matches!(state, RegistrationState::Registered { .. });
    assert!(later.iter().all(registered), "{later:?}");
}

fn with_options() -> Peer {
    let mut peer = Peer::new();
    let asked = RegisterRequest {
        keep_alive: KeepAlive::Options,
        ..request(&[1])
    };
    peer.act(|endpoint, now| endpoint.register(now, asked).unwrap());
    grant(&mut peer, "");
    peer
}

#[test]
fn options_keep_the_way_open_over_udp_whatever_is_answered() {
    let mut peer = with_options();
    for status in ["200 OK", "404 Not Found", "501 Not Implemented"] {
        let sent = peer.wait(seconds(29));
        let options = sent.last().expect("an OPTIONS").clone();
        assert!(
            options.starts_with("OPTIONS sip:1.example.com "),
            "{options}"
        );
        assert_eq!(peer.destinations.last(), Some(&address(1)));
        peer.send(respond(&options, status, "r", "", ""));
    }
    assert_eq!(states(&peer).len(), 1);
}

#[test]
fn where_nobody_answers_the_options_it_registers_anew() {
    let mut peer = with_options();
    let sent = peer.wait(seconds(29 + 32 + 2));
    assert!(
        sent.iter().any(|text| text.starts_with("REGISTER ")),
        "{sent:?}"
    );
}

#[test]
fn where_the_options_come_from_another_address_than_before_that_one_is_registered() {
    let mut peer = with_options();
    let options = peer.wait(seconds(29)).pop().expect("an OPTIONS");
    let answer = respond(&options, "200 OK", "r", "", "");
    let moved = answer.replacen(";rport", ";rport=6060;received=198.51.100.9", 1);
    assert_ne!(answer, moved);
    peer.send(moved);
    let sent = peer.wait(seconds(2));
    assert!(
        sent.iter().any(|text| text.starts_with("REGISTER ")),
        "{sent:?}"
    );
}

#[test]
fn calls_from_a_registrar_have_the_extensions_of_its_trunk() {
    let mut peer = Peer::new();
    let asked = RegisterRequest {
        extensions: Some(Extensions {
            reliable_provisional: Support::Required,
            ..Extensions::default()
        }),
        ..request(&[1])
    };
    peer.act(|endpoint, now| endpoint.register(now, asked).unwrap());
    grant(&mut peer, "");
    let refusal = peer.send(Request::invite().text()).remove(0);
    assert!(refusal.starts_with("SIP/2.0 421 "), "{refusal}");
    assert_eq!(header(&refusal, "Require"), Some("100rel"));
}
