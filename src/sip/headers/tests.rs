#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn with(fields: &[(&str, &str)]) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in fields {
        headers.push(HeaderName::new(name), value);
    }
    headers
}

fn name_addr(text: &str) -> NameAddr {
    text.parse()
        .unwrap_or_else(|problem| panic!("{text}: {problem}"))
}

fn via(text: &str) -> Via {
    text.parse()
        .unwrap_or_else(|problem| panic!("{text}: {problem}"))
}

#[test]
fn every_compact_name_is_its_long_one() {
    for (compact, long) in [
        ("a", "Accept-Contact"),
        ("u", "Allow-Events"),
        ("i", "Call-ID"),
        ("m", "Contact"),
        ("e", "Content-Encoding"),
        ("l", "Content-Length"),
        ("c", "Content-Type"),
        ("o", "Event"),
        ("f", "From"),
        ("y", "Identity"),
        ("n", "Identity-Info"),
        ("r", "Refer-To"),
        ("b", "Referred-By"),
        ("j", "Reject-Contact"),
        ("d", "Request-Disposition"),
        ("x", "Session-Expires"),
        ("s", "Subject"),
        ("k", "Supported"),
        ("t", "To"),
        ("v", "Via"),
    ] {
        for spelling in [
            compact.to_owned(),
            compact.to_uppercase(),
            long.to_lowercase(),
        ] {
            assert_eq!(HeaderName::new(&spelling).as_str(), long);
        }
    }
    assert_eq!(
        HeaderName::new("x-twilio-verstat"),
        HeaderName::new("X-Twilio-VerStat")
    );
    assert_ne!(HeaderName::new("X-One"), HeaderName::new("X-Two"));
}

#[test]
fn fields_are_set_in_place_and_removed() {
    let mut headers = with(&[("Via", "a"), ("To", "one"), ("Via", "b"), ("t", "two")]);
    headers.set(HeaderName::To, "three");
    headers.set(HeaderName::UserAgent, "us");
    headers.push_front(HeaderName::Route, "r");
    let all: Vec<_> = headers
        .iter()
        .map(|header| (header.name.as_str(), header.value.as_str()))
        .collect();
    assert_eq!(
        all,
        [
            ("Route", "r"),
            ("Via", "a"),
            ("To", "three"),
            ("Via", "b"),
            ("User-Agent", "us")
        ]
    );
    headers.remove(&HeaderName::Via);
    assert_eq!(headers.len(), 3);
}

#[test]
fn a_via_is_read_with_white_space_everywhere() {
    let via = via(
        "SIP  /   2.0 / udp     192.0.2.2 : 5070 ;   branch =  z9hG4bK30239 ;rport ; received=[2001:db8::9:255]",
    );
    assert_eq!(
        (via.transport.clone(), via.port),
        (Transport::Udp, Some(5070))
    );
    assert_eq!(via.branch(), Some("z9hG4bK30239"));
    assert_eq!(via.rport(), Rport::Requested);
    assert_eq!(via.received(), "2001:db8::9:255".parse().ok());
    assert_eq!(
        via.to_string(),
        "SIP/2.0/UDP 192.0.2.2:5070;branch=z9hG4bK30239;rport;received=[2001:db8::9:255]"
    );
}

#[test]
fn broken_vias_are_refused() {
    for text in [
        "",
        "SIP/2.0/UDP",
        "SIP/2.0/UDP ",
        "SIP/2.0 UDP h",
        "SIP/7.0/UDP h",
        "HTTP/2.0/UDP h",
        "SIP/2.0/UDPh",
        "SIP/2.0/UDP h;;branch=1",
        "SIP/2.0/UDP h:99999",
        "SIP/2.0/UDP 2001:db8::1",
        "SIP/2.0/UDP h branch=1",
        "SIP/2.0/UDP h;b=\"x",
        "SIP/2.0/UDP h;b=x y",
    ] {
        assert!(text.parse::<Via>().is_err(), "{text}");
    }
}

#[test]
fn vias_come_from_lists_and_repeated_fields_alike() {
    let headers = with(&[
        ("v", "SIP/2.0/UDP one , SIP/2.0/TCP two;x=\"a,b\""),
        ("Via", "SIP/2.0/TLS three"),
    ]);
    let hosts: Vec<_> = headers
        .vias()
        .unwrap()
        .iter()
        .map(|via| via.host.to_string())
        .collect();
    assert_eq!(hosts, ["one", "two", "three"]);
    assert_eq!(headers.top_via().unwrap().host.to_string(), "one");
    assert_eq!(
        Headers::new().vias(),
        Err(HeaderError::Missing(HeaderName::Via))
    );
}

#[test]
fn the_source_is_recorded_as_rport_asks() {
    let source = "192.0.2.9:4242".parse().unwrap();
    let recorded = |value: &str| {
        let mut headers = with(&[("Via", value), ("Via", "SIP/2.0/UDP last")]);
        headers.record_source(source);
        headers.get(&HeaderName::Via).unwrap().to_owned()
    };
    assert_eq!(
        recorded("SIP/2.0/UDP h;branch=1;rport, SIP/2.0/UDP next"),
        "SIP/2.0/UDP h;branch=1;rport=4242;received=192.0.2.9, SIP/2.0/UDP next"
    );
    assert_eq!(
        recorded("SIP/2.0/UDP h;branch=1"),
        "SIP/2.0/UDP h;branch=1;received=192.0.2.9"
    );
    assert_eq!(
        recorded("SIP/2.0/UDP 192.0.2.9;branch=1"),
        "SIP/2.0/UDP 192.0.2.9;branch=1"
    );
    assert_eq!(
        recorded("SIP/2.0/UDP 192.0.2.9;rport;received=203.0.113.1"),
        "SIP/2.0/UDP 192.0.2.9;rport=4242;received=192.0.2.9"
    );
    assert_eq!(recorded("garbage;;"), "garbage;;");
}

#[test]
fn popping_a_via_leaves_the_others() {
    let mut headers = with(&[
        ("Via", "SIP/2.0/UDP one, SIP/2.0/UDP two"),
        ("Via", "SIP/2.0/UDP three"),
    ]);
    headers.pop_via();
    assert_eq!(headers.top_via().unwrap().host.to_string(), "two");
    headers.pop_via();
    headers.pop_via();
    assert!(!headers.has(&HeaderName::Via));
}

#[test]
fn display_names_keep_quotes_commas_and_escapes() {
    let caller = name_addr(r#""Bell, \"Alexander\" \\ <x>"  < sip:a@b;lr=on > ; tag = 1 ;flag;"#);
    assert_eq!(
        caller.display_name.as_deref(),
        Some(r#"Bell, "Alexander" \ <x>"#)
    );
    assert!(caller.uri.as_sip().unwrap().is_loose_router());
    assert_eq!(caller.tag(), Some("1"));
    assert!(caller.params.has("FLAG"));
    assert_eq!(
        caller.to_string(),
        r#""Bell, \"Alexander\" \\ <x>" <sip:a@b;lr=on>;tag=1;flag"#
    );
    assert_eq!(
        name_addr("T. Watson<tel:+1-201>").display_name.as_deref(),
        Some("T. Watson")
    );
    assert_eq!(name_addr("<sip:a@b>").display_name, None);
    assert_eq!(name_addr("\"\" <sip:a@b>").to_string(), "\"\" <sip:a@b>");
}

#[test]
fn a_bare_uri_leaves_its_parameters_to_the_header() {
    let bare = name_addr("sip:user@host:5062;tag=abc;+sip.instance=\"<urn:uuid:1>\"");
    assert_eq!(bare.tag(), Some("abc"));
    assert_eq!(bare.instance(), Some("urn:uuid:1"));
    assert!(bare.uri.as_sip().unwrap().params.is_empty());
    assert_eq!(
        bare.to_string(),
        "<sip:user@host:5062>;tag=abc;+sip.instance=\"<urn:uuid:1>\""
    );
}

#[test]
fn broken_name_addrs_are_refused() {
    for text in [
        "",
        "bob",
        "\"Joe <sip:a@b>",
        "\"Joe\" sip:a@b",
        "<sip:a@b",
        "<sip:a@b>tag=1",
        "<sip:a@b>;;tag=1",
        "<>",
        "Joe <>",
        "sip:a@b?Route=x",
        "sip:a@b,c",
        "<sip:a@b>;tag=\"x",
        "<sip:a@b> ;=1",
        "<sip:a b@c>",
    ] {
        assert!(text.parse::<NameAddr>().is_err(), "{text}");
    }
}

#[test]
fn contacts_are_a_list_or_a_star() {
    let headers = with(&[
        (
            "m",
            "\"A, B\" <sip:a@h;x=1,2>;q=0.5;expires=60, sip:c@h;expires=99999999999",
        ),
        (
            "Contact",
            "<name:John_Smith>;q=0.333;+sip.instance=\"<urn:uuid:f>\"",
        ),
    ]);
    let Contacts::List(list) = headers.contacts().unwrap() else {
        panic!("a list was sent")
    };
    assert_eq!(
        list.iter().map(NameAddr::q_thousandths).collect::<Vec<_>>(),
        [500, 1000, 333]
    );
    assert_eq!(
        list.iter().map(NameAddr::expires).collect::<Vec<_>>(),
        [Some(60), Some(3600), None]
    );
    assert_eq!(list[2].instance(), Some("urn:uuid:f"));
    assert_eq!(headers.contact().unwrap(), list[0]);
    assert_eq!(
        with(&[("Contact", " * ")]).contacts(),
        Ok(Contacts::Wildcard)
    );
    assert_eq!(Headers::new().contacts(), Ok(Contacts::List(Vec::new())));
    assert!(
        with(&[("Contact", "*"), ("Contact", "<sip:a@b>")])
            .contacts()
            .is_err()
    );
    assert!(with(&[("Contact", "*")]).contact().is_err());
}

#[test]
fn single_headers_may_repeat_only_what_they_said() {
    assert!(
        with(&[("To", "<sip:a@b>"), ("t", "<sip:a@b>")])
            .to()
            .is_ok()
    );
    assert_eq!(
        with(&[("To", "<sip:a@b>"), ("t", "<sip:c@b>")]).to(),
        Err(HeaderError::Repeated(HeaderName::To))
    );
    assert_eq!(
        Headers::new().call_id(),
        Err(HeaderError::Missing(HeaderName::CallId))
    );
    assert!(with(&[("i", "two words")]).call_id().is_err());
    assert_eq!(
        with(&[("i", "word%ZK-!.*_+'@word`~)(><:\\/\"][?}{")]).call_id(),
        Ok("word%ZK-!.*_+'@word`~)(><:\\/\"][?}{")
    );
}

#[test]
fn numbers_are_bounded() {
    let read = |name: &str, value: &str| with(&[(name, value)]);
    assert_eq!(read("Max-Forwards", "0068").max_forwards(), Ok(Some(68)));
    assert!(read("Max-Forwards", "256").max_forwards().is_err());
    assert_eq!(read("Expires", "4294967295").expires(), Ok(Some(u32::MAX)));
    assert!(read("Expires", "4294967296").expires().is_err());
    for bad in [
        "-1",
        "+1",
        "",
        "1 2",
        "1e3",
        "0x10",
        "99999999999999999999999",
    ] {
        assert!(
            read("Content-Length", bad).content_length().is_err(),
            "{bad}"
        );
    }
    assert_eq!(
        read("Retry-After", "18000;duration=3600").retry_after(),
        Ok(Some(18000))
    );
    assert_eq!(
        read("Retry-After", "120 (in a meeting)").retry_after(),
        Ok(Some(120))
    );
    assert_eq!(read("Min-SE", "90;x").min_se(), Ok(Some(90)));
}

#[test]
fn sequence_numbers_are_read_and_bounded() {
    let cseq: CSeq = "0009 \t INVITE".parse().unwrap();
    assert_eq!((cseq.number, &cseq.method), (9, &Method::Invite));
    assert_eq!(cseq.to_string(), "9 INVITE");
    for bad in [
        "",
        "9",
        "INVITE",
        "9 IN VITE",
        "4294967296 BYE",
        "-1 BYE",
        "1 BYE x",
    ] {
        assert!(bad.parse::<CSeq>().is_err(), "{bad}");
    }
    let rack: RAck = "776656 1 INVITE".parse().unwrap();
    assert_eq!(
        (rack.response_number, rack.to_string().as_str()),
        (776_656, "776656 1 INVITE")
    );
    assert!("1 INVITE".parse::<RAck>().is_err());
}

#[test]
fn session_timers_are_read() {
    let headers = with(&[("x", "1800 ; Refresher = UAS ;other"), ("Min-SE", "900")]);
    let expires = headers.session_expires().unwrap().unwrap();
    assert_eq!(
        expires,
        SessionExpires {
            interval: 1800,
            refresher: Some(Refresher::Uas)
        }
    );
    assert_eq!(expires.to_string(), "1800;refresher=uas");
    assert!(
        with(&[("Session-Expires", "1800;refresher=me")])
            .session_expires()
            .is_err()
    );
}

#[test]
fn transfers_name_the_dialog_they_replace() {
    let replaces: Replaces = "98732@sip.example.com ;from-tag=r33th4x0r ; to-tag=ff87ff;early-only"
        .parse()
        .unwrap();
    assert_eq!(
        (
            replaces.call_id.as_str(),
            replaces.to_tag.as_str(),
            replaces.early_only
        ),
        ("98732@sip.example.com", "ff87ff", true)
    );
    assert_eq!(replaces.to_string().parse::<Replaces>(), Ok(replaces));
    assert!("1;to-tag=2".parse::<Replaces>().is_err());
    let refer = with(&[(
        "r",
        "<sip:dave@denver.example.org?Replaces=12345%40192.168.118.3%3Bto-tag%3D12345%3Bfrom-tag%3D5FFE-3994>",
    )]);
    assert_eq!(
        refer
            .refer_to()
            .unwrap()
            .uri
            .as_sip()
            .unwrap()
            .headers
            .len(),
        1
    );
}

#[test]
fn word_lists_skip_what_is_empty() {
    let headers = with(&[
        ("k", "timer, ,100rel"),
        ("Supported", ""),
        ("Require", "Replaces"),
        ("Allow", "INVITE,ACK, new{}, PUBLISH"),
    ]);
    assert_eq!(headers.supported(), ["timer", "100rel"]);
    assert!(headers.offers("TIMER") && headers.offers("replaces") && !headers.offers("path"));
    assert_eq!(
        headers.allow(),
        [Method::Invite, Method::Ack, Method::Publish]
    );
}

#[test]
fn diversions_and_identities_are_name_addrs() {
    let headers = with(&[
        (
            "Diversion",
            "\"A, B\" <sip:+15550100@h>;reason=user-busy;counter=1, <tel:+15550101>;reason=unconditional",
        ),
        (
            "P-Asserted-Identity",
            "\"Cullen\" <sip:fluffy@cisco.com>, tel:+14085264000",
        ),
        (
            "History-Info",
            "<sip:bob@h?Reason=SIP%3Bcause%3D302>;index=1,<sip:c@h>;index=1.1",
        ),
        (
            "Reason",
            "Q.850;cause=16;text=\"Terminated, normally\", SIP ;cause=200",
        ),
    ]);
    let diversion = headers.diversion().unwrap();
    assert_eq!(
        diversion
            .iter()
            .map(|entry| entry.params.get("reason"))
            .collect::<Vec<_>>(),
        [Some("user-busy"), Some("unconditional")]
    );
    assert_eq!(
        headers.p_asserted_identity().unwrap()[1]
            .uri
            .user()
            .as_deref(),
        Some("+14085264000")
    );
    assert_eq!(
        headers.history_info().unwrap()[1].params.get("index"),
        Some("1.1")
    );
    let reasons = headers.reasons().unwrap();
    assert_eq!(
        (reasons[0].cause, reasons[0].text.as_deref()),
        (Some(16), Some("Terminated, normally"))
    );
    assert_eq!(
        reasons[0].to_string(),
        "Q.850;cause=16;text=\"Terminated, normally\""
    );
}

#[test]
fn several_challenges_share_a_field() {
    let headers = with(&[
        (
            "WWW-Authenticate",
            "Digest realm=\"a, \\\"b\\\"\", qop=\"auth,auth-int\", nonce = \"n1\" , algorithm=SHA-256,opaque=\"\", stale=TRUE, \
             Basic realm=\"x\", Digest realm=r,nonce=\"n2\"",
        ),
        ("WWW-Authenticate", "Negotiate YII=="),
    ]);
    let challenges = headers.www_authenticate().unwrap();
    assert_eq!(challenges.len(), 4);
    let Challenge::Digest(first) = &challenges[0] else {
        panic!("digest comes first")
    };
    assert_eq!(
        (first.realm.as_str(), first.nonce.as_str(), first.stale),
        ("a, \"b\"", "n1", true)
    );
    assert_eq!(
        first.qop,
        [QualityOfProtection::Auth, QualityOfProtection::AuthInt]
    );
    assert_eq!(
        (&first.algorithm, first.opaque.as_deref()),
        (&Algorithm::Sha256, Some(""))
    );
    assert_eq!(challenges[1], Challenge::Other("Basic".to_owned()));
    let Challenge::Digest(third) = &challenges[2] else {
        panic!("digest comes third")
    };
    assert_eq!(
        (&third.algorithm, third.qop.len(), third.stale),
        (&Algorithm::Md5, 0, false)
    );
    assert_eq!(challenges[3], Challenge::Other("Negotiate".to_owned()));
    assert!(
        with(&[("WWW-Authenticate", "Digest realm=\"x\"")])
            .www_authenticate()
            .is_err()
    );
    assert!(
        with(&[(
            "WWW-Authenticate",
            "Digest realm=\"x\", nonce=\"a\", nonce=\"b\""
        )])
        .www_authenticate()
        .is_err()
    );
}

#[test]
fn credentials_survive_the_wire() {
    let text = "Digest username=\"bob \\\"b\\\"\", realm=\"r\", nonce=\"n\", uri=\"sip:a@b\", response=\"00ff\", \
                algorithm=MD5, opaque=\"o\", cnonce=\"c\", qop=auth, nc=0000000a";
    let credentials: Credentials = text.parse().unwrap();
    let Credentials::Digest(digest) = &credentials else {
        panic!("digest was sent")
    };
    assert_eq!(digest.username, "bob \"b\"");
    assert_eq!(
        digest
            .protection
            .as_ref()
            .map(|protection| protection.nonce_count),
        Some(10)
    );
    assert_eq!(digest.to_string(), text);
    assert_eq!(
        "NoOneKnowsThisScheme opaque-data=here".parse(),
        Ok(Credentials::Other("NoOneKnowsThisScheme".to_owned()))
    );
    assert!(
        text.replace("0000000a", "a")
            .parse::<Credentials>()
            .is_err()
    );
    assert!(
        text.replace("response", "answer")
            .parse::<Credentials>()
            .is_err()
    );
}

#[test]
fn media_types_and_events_are_read() {
    let kind = with(&[("c", "Application / SDP ; charset=\"utf-8\"")])
        .content_type()
        .unwrap()
        .unwrap();
    assert!(kind.is("application/sdp"));
    assert_eq!(kind.params.get("charset"), Some("utf-8"));
    assert!(with(&[("c", "sdp")]).content_type().is_err());
    assert_eq!(
        with(&[("o", "refer;id=93809824")])
            .event()
            .unwrap()
            .unwrap()
            .params
            .get("id"),
        Some("93809824")
    );
}
