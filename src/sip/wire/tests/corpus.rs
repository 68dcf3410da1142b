//! The torture messages of RFC 4475 and RFC 5118, each with the verdict it deserves.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::*;
use crate::sip::headers::{Contacts, NameAddr, Transport};
use crate::sip::message::Response;

/// All messages by name.
pub(super) fn messages() -> BTreeMap<String, Vec<u8>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/sip-corpus");
    let mut folders = vec![root];
    let mut messages = BTreeMap::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "dat") {
                messages.insert(
                    path.file_stem().unwrap().to_str().unwrap().to_owned(),
                    std::fs::read(&path).unwrap(),
                );
            }
        }
    }
    messages
}

fn message(name: &str) -> Vec<u8> {
    messages()
        .remove(name)
        .unwrap_or_else(|| panic!("no {name} in the corpus"))
}

fn response(name: &str) -> Response {
    match parse_datagram(&message(name)) {
        Ok(Message::Response(response)) => response,
        other => panic!("no response: {other:?}"),
    }
}

fn contacts(request: &Request) -> Vec<NameAddr> {
    match request.headers.contacts() {
        Ok(Contacts::List(list)) => list,
        other => panic!("no list: {other:?}"),
    }
}

/// Those that are not taken. Of the RFC's invalid ones the Date in another zone, the space in
/// angle brackets, the unquoted display name and the space after the version hide nothing that
/// matters, and are taken, as the RFC allows.
const NOT_TAKEN: &[(&str, &str)] = &[
    // RFC 4475 section 3.1.2
    (
        "badinv01",
        "400 Bad Request (Malformed Via: parameter name is no token)",
    ),
    (
        "clerr",
        "400 Bad Request (Body Shorter Than Content-Length)",
    ),
    (
        "ncl",
        "400 Bad Request (Malformed Content-Length: not a decimal number)",
    ),
    (
        "scalar02",
        "400 Bad Request (Malformed CSeq: number out of range)",
    ),
    ("scalarlg", "dropped: Malformed CSeq: number out of range"),
    (
        "quotbal",
        "400 Bad Request (Malformed To: unbalanced quotes)",
    ),
    (
        "ltgtruri",
        "400 Bad Request (Malformed Request-URI: character not allowed in a URI)",
    ),
    (
        "lwsruri",
        "400 Bad Request (Malformed Request-URI: character not allowed in a URI)",
    ),
    (
        "lwsstart",
        "400 Bad Request (Malformed Request-URI: character not allowed in a URI)",
    ),
    (
        "escruri",
        "400 Bad Request (Malformed Request-URI: headers are not allowed)",
    ),
    (
        "regbadct",
        "400 Bad Request (Malformed Contact: URI must stand in angle brackets)",
    ),
    ("badvers", "505 Version Not Supported"),
    ("mismatch01", "400 Bad Request (CSeq Method Mismatch)"),
    ("mismatch02", "400 Bad Request (CSeq Method Mismatch)"),
    ("bigcode", "dropped: Malformed Status Code"),
    // RFC 4475 section 3.3
    ("insuf", "400 Bad Request (Missing From)"),
    ("multi01", "400 Bad Request (Conflicting From)"),
    ("mcl01", "400 Bad Request (Conflicting Content-Length)"),
    ("unkscm", "416 Unsupported URI Scheme"),
    ("novelsc", "416 Unsupported URI Scheme"),
    // RFC 5118
    (
        "4.02-ipv6-bad.invalid",
        "400 Bad Request (Malformed Request-URI: not a decimal number)",
    ),
];

#[test]
fn every_message_gets_the_verdict_it_deserves() {
    let messages = messages();
    assert_eq!(messages.len(), 49 + 12);
    for (name, bytes) in &messages {
        let expected = NOT_TAKEN
            .iter()
            .find(|(bad, _)| bad == name)
            .map_or("taken", |(_, verdict)| verdict);
        assert_eq!(verdict(bytes), expected, "{name}");
    }
    assert!(
        NOT_TAKEN
            .iter()
            .all(|(name, _)| messages.contains_key(*name))
    );
}

#[test]
fn what_is_taken_survives_being_written_and_read_again() {
    for (name, bytes) in messages() {
        let Ok(mut message) = parse_datagram(&bytes) else {
            continue;
        };
        let mut again = parse_datagram(&message.to_bytes())
            .unwrap_or_else(|problem| panic!("{name}: {problem}"));
        message.headers_mut().remove(&HeaderName::ContentLength);
        again.headers_mut().remove(&HeaderName::ContentLength);
        assert_eq!(message, again, "{name}");
    }
}

#[test]
fn wsinv_a_short_tortuous_invite() {
    let request = request(&message("wsinv"));
    let headers = &request.headers;
    assert_eq!(
        request.uri.to_string(),
        "sip:vivekg@chair-dnrc.example.com;unknownparam"
    );
    assert_eq!(headers.to().unwrap().tag(), Some("1918181833n"));
    let from = headers.from().unwrap();
    assert_eq!(from.display_name.as_deref(), Some("J Rosenberg \\\""));
    assert_eq!(from.tag(), Some("98asjd8"));
    assert_eq!(headers.max_forwards(), Ok(Some(68)));
    assert_eq!(headers.call_id(), Ok("wsinv.ndaksdj@192.0.2.1"));
    assert_eq!(headers.cseq().unwrap().number, 9);
    let vias: Vec<_> = headers
        .vias()
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        vias,
        [
            "SIP/2.0/UDP 192.0.2.2;branch=390skdjuw",
            "SIP/2.0/TCP spindle.example.com;branch=z9hG4bK9ikj8",
            "SIP/2.0/UDP 192.168.255.111;branch=z9hG4bK30239",
        ]
    );
    assert_eq!(headers.get(&HeaderName::Subject), Some(""));
    assert_eq!(
        headers.get(&HeaderName::new("newfangledheader")),
        Some("newfangled value continued newfangled value")
    );
    assert_eq!(
        headers.get(&HeaderName::new("UnknownHeaderWithUnusualValue")),
        Some(";;,,;;,;")
    );
    let route = headers.routes().unwrap().remove(0);
    assert!(route.uri.as_sip().unwrap().is_loose_router());
    let contact = headers.contact().unwrap();
    assert_eq!(contact.display_name.as_deref(), Some("Quoted string \"\""));
    assert_eq!(contact.params.get("newparam"), Some("newvalue"));
    assert!(contact.params.has("secondparam"));
    assert_eq!(contact.q_thousandths(), 330);
    assert_eq!(request.body.len(), 150);
}

#[test]
fn intmeth_wide_range_of_valid_characters() {
    let request = request(&message("intmeth"));
    let name = "!interesting-Method0123456789_*+`.%indeed'~";
    assert_eq!(request.method, Method::Extension(name.to_owned()));
    assert_eq!(request.headers.cseq().unwrap().number, 139_122_385);
    let uri = request.uri.as_sip().unwrap();
    assert_eq!(
        uri.user().as_deref(),
        Some("1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*")
    );
    assert_eq!(
        uri.raw_password.as_deref(),
        Some("&it+has=1,weird!*pas$wo~d_too.(doesn't-it)")
    );
    assert_eq!(uri.host, "example.com".parse().unwrap());
    assert_eq!(
        request.headers.top_via().unwrap().branch(),
        Some("z9hG4bK-.!%66*_+`'~")
    );
    assert_eq!(
        request.headers.to().unwrap().display_name.as_deref(),
        Some("BEL:\u{7} NUL:\0 DEL:\u{7f}")
    );
    let from = request.headers.from().unwrap();
    assert_eq!(
        from.display_name.as_deref(),
        Some("token1~` token2'+_ token3*%!.-")
    );
    assert_eq!(from.params.get("fromparam''~+*_!.-%"), Some("работающий"));
    assert_eq!(from.tag(), Some("_token~1'+`*%!-."));
    assert_eq!(
        request.headers.call_id(),
        Ok("intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{")
    );
    assert_eq!(request.headers.max_forwards(), Ok(Some(255)));
    assert_eq!(
        request
            .headers
            .get(&HeaderName::new("extensionHeader-!.%*+_`'~")),
        Some("\u{feff}大停電")
    );
}

#[test]
fn esc01_escaped_characters_in_uris() {
    let request = request(&message("esc01"));
    assert_eq!(request.uri.user().as_deref(), Some("sips:user@example.com"));
    assert_eq!(
        request.headers.to().unwrap().uri.user().as_deref(),
        Some("user")
    );
    assert_eq!(
        request.headers.from().unwrap().uri.user().as_deref(),
        Some("I have spaces")
    );
    let contact = request.headers.contact().unwrap().uri;
    assert_eq!(contact.user().as_deref(), Some("caller"));
    assert!(contact.as_sip().unwrap().is_loose_router());
    assert!(
        contact.equivalent(
            &"sip:caller@host5.example.net;lr;name=value%2541"
                .parse()
                .unwrap()
        )
    );
}

#[test]
fn esc02_percent_signs_that_escape_nothing() {
    let request = request(&message("esc02"));
    assert_eq!(request.method, Method::Extension("RE%47IST%45R".to_owned()));
    assert_eq!(
        request.headers.to().unwrap().display_name.as_deref(),
        Some("%Z%45")
    );
    assert_eq!(
        request.headers.top_via().unwrap().branch(),
        Some("z9hG4bK209%fzsnel234")
    );
    assert_eq!(contacts(&request).len(), 2);
    assert!(request.headers.has(&HeaderName::new("C%6Fntact")));
}

#[test]
fn escnull_escaped_nulls() {
    let request = request(&message("escnull"));
    assert_eq!(
        request.headers.to().unwrap().uri.user().as_deref(),
        Some("null-\0-null")
    );
    let users: Vec<_> = contacts(&request)
        .iter()
        .map(|contact| contact.uri.user().unwrap().into_owned())
        .collect();
    assert_eq!(users, ["\0", "\0\0"]);
}

#[test]
fn lwsdisp_no_space_before_the_bracket() {
    let from = request(&message("lwsdisp")).headers.from().unwrap();
    assert_eq!(from.display_name.as_deref(), Some("caller"));
    assert_eq!(from.uri.to_string(), "sip:caller@example.com");
}

#[test]
fn longreq_long_values() {
    let request = request(&message("longreq"));
    let vias = request.headers.vias().unwrap();
    assert_eq!(vias.len(), 34);
    assert_eq!(vias[0].host.to_string(), "sip33.example.com");
    assert_eq!(vias[33].received(), "192.0.2.5".parse().ok());
    assert!(vias[33].branch().unwrap().len() > 150);
    let to = request.headers.to().unwrap();
    assert!(to.display_name.unwrap().ends_with("extreme proportion"));
    assert_eq!(to.uri.as_sip().unwrap().port, Some(6000));
    assert!(
        request
            .headers
            .from()
            .unwrap()
            .tag()
            .unwrap()
            .starts_with("12982982982")
    );
    assert_eq!(request.body.len(), 150);
}

#[test]
fn dblreq_extra_bytes_after_the_message() {
    let request = request(&message("dblreq"));
    assert_eq!(request.method, Method::Register);
    assert!(request.body.is_empty());
    assert_eq!(
        request.headers.call_id(),
        Ok("dblreq.0ha0isndaksdj99sdfafnl3lk233412")
    );
}

#[test]
fn semiuri_semicolon_in_the_user_part() {
    let request = request(&message("semiuri"));
    assert_eq!(
        request.uri.user().as_deref(),
        Some("user;par=u@example.net")
    );
    assert!(request.uri.as_sip().unwrap().params.is_empty());
    assert!(
        request
            .headers
            .get(&HeaderName::Accept)
            .unwrap()
            .ends_with("message/sipfrag")
    );
}

#[test]
fn transports_known_and_unknown() {
    let vias = request(&message("transports")).headers.vias().unwrap();
    let transports: Vec<_> = vias.into_iter().map(|via| via.transport).collect();
    let unknown = Transport::Other("UNKNOWN".to_owned());
    assert_eq!(
        transports,
        [
            Transport::Udp,
            Transport::Sctp,
            Transport::Tls,
            unknown,
            Transport::Tcp
        ]
    );
}

#[test]
fn mpart01_a_binary_body() {
    let bytes = message("mpart01");
    let request = request(&bytes);
    assert_eq!(request.body.len(), 553);
    assert!(bytes.ends_with(&request.body));
    let kind = request.headers.content_type().unwrap().unwrap();
    assert!(kind.is("multipart/mixed"));
    assert_eq!(kind.params.get("boundary"), Some("7a9cbec02ceef655"));
    assert!(request.to_bytes().ends_with(&request.body));
}

#[test]
fn unreason_and_noreason_odd_reason_phrases() {
    let odd = response("unreason");
    assert_eq!(odd.status.code(), 200);
    assert!(
        odd.reason.starts_with("= 2**3 * 5**2 но сто"),
        "{}",
        odd.reason
    );
    assert_eq!(odd.body.len(), 154);
    let none = response("noreason");
    assert_eq!((none.status.code(), none.reason.as_str()), (100, ""));
}

#[test]
fn inv2543_an_old_invite() {
    let headers = request(&message("inv2543")).headers;
    assert_eq!(headers.top_via().unwrap().branch(), None);
    assert_eq!(headers.from().unwrap().tag(), None);
    assert_eq!(headers.max_forwards(), Ok(None));
    assert_eq!(headers.to().unwrap().params.get("user"), Some("phone"));
    assert_eq!(
        headers.record_routes().unwrap()[0]
            .uri
            .as_sip()
            .unwrap()
            .params
            .get("maddr"),
        Some("ss1.example.com")
    );
}

#[test]
fn what_applications_look_at_is_read() {
    assert_eq!(
        request(&message("bext01")).headers.require(),
        ["nothingSupportsThis", "nothingSupportsThisEither"]
    );
    assert_eq!(
        request(&message("bext01")).headers.proxy_require(),
        ["noProxiesSupportThis", "norDoAnyProxiesSupportThis"]
    );
    assert!(
        request(&message("invut"))
            .headers
            .content_type()
            .unwrap()
            .unwrap()
            .is("application/unknownformat")
    );
    assert_eq!(
        request(&message("zeromf")).headers.max_forwards(),
        Ok(Some(0))
    );
    assert_eq!(response("bcast").headers.vias().unwrap().len(), 2);
    assert!(
        contacts(&request(&message("cparam01")))[0]
            .params
            .has("unknownparam")
    );
    assert!(
        contacts(&request(&message("cparam02")))[0]
            .params
            .is_empty()
    );
    assert_eq!(
        contacts(&request(&message("regescrt")))[0]
            .uri
            .as_sip()
            .unwrap()
            .headers
            .len(),
        1
    );
    assert_eq!(
        request(&message("unksm2"))
            .headers
            .to()
            .unwrap()
            .uri
            .scheme(),
        "isbn"
    );
    assert_eq!(
        request(&message("baddn"))
            .headers
            .from()
            .unwrap()
            .display_name
            .as_deref(),
        Some("Bell, Alexander")
    );
    assert_eq!(
        request(&message("badaspec"))
            .headers
            .to()
            .unwrap()
            .uri
            .to_string(),
        "sip:t.watson@example.org"
    );
}

#[test]
fn ipv6_addresses_are_read_wherever_they_stand() {
    let uri = |name: &str| request(&message(name)).uri.to_string();
    assert_eq!(uri("4.01-ipv6-good.valid"), "sip:[2001:db8::10]");
    assert_eq!(uri("4.03-port-ambiguous.valid"), "sip:[2001:db8::10:5070]");
    assert_eq!(
        uri("4.04-port-unambiguous.valid"),
        "sip:[2001:db8::10]:5070"
    );
    assert_eq!(
        uri("4.10-ipv6-correct-abnf-2-colons.valid"),
        "sip:user@[2001:db8::c000:201]"
    );
    assert_eq!(
        uri("4.10-ipv6-bug-abnf-3-colons.robust"),
        "sip:user@[2001:db8::c000:201]"
    );
    let contact = request(&message("4.01-ipv6-good.valid"))
        .headers
        .contact()
        .unwrap();
    assert_eq!(
        (
            contact.display_name.as_deref(),
            contact.uri.to_string().as_str()
        ),
        (Some("Caller"), "sip:caller@[2001:db8::1]")
    );
    for name in [
        "4.05-via-received-param-no-delim.valid",
        "4.05-via-received-param-with-delim.robust",
    ] {
        let via = request(&message(name)).headers.top_via().unwrap();
        assert_eq!(via.received(), "2001:db8::9:255".parse().ok(), "{name}");
        assert_eq!(via.host.ip(), "2001:db8::9:1".parse().ok(), "{name}");
    }
    let vias = request(&message("4.07-mult-ip-in-header.valid"))
        .headers
        .vias()
        .unwrap();
    assert_eq!(
        (vias[0].port, vias[2].received()),
        (Some(6050), "192.0.2.200".parse().ok())
    );
    let mapped = request(&message("4.09-ipv4-mapped-ipv6.valid"))
        .headers
        .vias()
        .unwrap();
    assert_eq!(
        (mapped[0].host.to_string().as_str(), mapped[0].port),
        ("[::ffff:192.0.2.10]", Some(19823))
    );
    for (name, length) in [
        ("4.06-ipv6-in-sdp.valid", 251),
        ("4.08-mult-ip-in-sdp.valid", 190),
        ("4.09-ipv4-mapped-ipv6.valid", 245),
    ] {
        assert_eq!(request(&message(name)).body.len(), length, "{name}");
    }
}
