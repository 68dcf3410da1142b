use std::path::Path;

use super::*;
use crate::audio::Codec;
use crate::ids::MailboxName;
use crate::sip::extensions::{Extensions, Support};
use crate::sip::identity::CallerHeader;
use crate::sip::numbering::NumberFormat;
use crate::sip::registration::KeepAlive;
use crate::sip::session_timer::{RefreshedBy, SessionTimerSettings};

fn load_text(text: &str, environment: &[(&str, &str)]) -> Result<Config, Mistakes> {
    let file = std::env::temp_dir().join(format!(
        "offhook-config-{}-{:?}.toml",
        std::process::id(),
        std::thread::current().id()
    ));
    std::fs::write(&file, text).expect("temporary file");
    let environment = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let result = load(Some(&file), environment);
    std::fs::remove_file(&file).expect("remove");
    result
}

fn keys(result: Result<Config, Mistakes>) -> Vec<String> {
    result
        .expect_err("mistakes")
        .0
        .into_iter()
        .map(|mistake| mistake.key)
        .collect()
}

/// The name of the assistant that answers.
fn answering(config: &Config, called: &[&str]) -> Option<String> {
    match config.answer_for(called)? {
        Answer::Assistant { id, .. } => Some(id.to_string()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_file_is_a_valid_configuration_with_the_demo_assistant_on_loopback() {
    let config = load(None, []).expect("defaults are valid");
    assert_eq!(
        config.sip.listen,
        vec![Listen {
            transport: Transport::Udp,
            address: "127.0.0.1:5060".parse().expect("address"),
        }]
    );
    assert!(!config.reachable_from_outside());
    let name = answering(&config, &["anything"]).expect("an assistant");
    assert_eq!(name, DEMO_ASSISTANT);
}

#[test]
fn the_commented_example_is_valid_and_every_profile_parses() {
    load_text(EXAMPLE, &[]).expect("example");
    for name in Profile::NAMES {
        assert!(Profile::named(name).is_some(), "{name}");
    }
}

#[test]
fn every_mistake_is_reported_at_once_with_its_key() {
    let found = keys(load_text(
        r#"
        colour = "blue"
        [sip]
        listen = ["127.0.0.1:5060"]
        lisen = 3
        allow = ["10.0.0.0/99", "192.0.2.1"]
        [http]
        listen = "everywhere"
        [limits]
        max_calls = -1
        [[numbers]]
        number = "1*2"
        assistant = "nobody"
        [assistants.a]
        firstMesage = "hello"
        maxDurationSeconds = "long"
        "#,
        &[],
    ));
    for key in [
        "colour",
        "sip.lisen",
        "sip.allow.[0]",
        "http.listen",
        "limits.max_calls",
        "numbers.[0].number",
        "numbers.[0].assistant",
        "assistants.a.firstMesage",
        "assistants.a.maxDurationSeconds",
    ] {
        assert!(
            found.contains(&key.to_owned()),
            "{key} missing in {found:?}"
        );
    }
}

#[test]
fn other_machines_are_let_in_only_with_an_allow_list_or_digest() {
    let open = "[sip]\nlisten = [\"0.0.0.0:5060\"]\n[rtp]\nbind = \"0.0.0.0\"\n";
    assert_eq!(keys(load_text(open, &[])), ["sip.listen"]);
    load_text(open, &[("OFFHOOK__sip__allow", "[\"192.0.2.0/24\"]")]).expect("allow-list");
    load_text(open, &[("OFFHOOK__sip__digest__users__ann", "secret")]).expect("digest");
}

#[test]
fn the_environment_overrides_the_file_and_is_named_in_its_mistakes() {
    let config = load_text(
        "[limits]\nmax_calls = 3\n",
        &[("OFFHOOK__limits__max_calls", "5")],
    )
    .expect("valid");
    assert_eq!(config.limits.max_calls, 5);
    let mistakes = load_text("", &[("OFFHOOK__limits__max_cals", "5")])
        .expect_err("unknown")
        .0;
    assert_eq!(mistakes[0].source, Source::Environment);
    assert_eq!(mistakes[0].key, "limits.max_cals");
}

#[test]
fn the_best_fitting_number_rule_wins() {
    let config = load_text(
        r#"
        numbers = [
          { number = "*", assistant = "any" },
          { number = "+1555*", assistant = "prefix" },
          { number = "+15551234", assistant = "exact" },
        ]
        [assistants.any]
        [assistants.prefix]
        [assistants.exact]
        "#,
        &[],
    )
    .expect("valid");
    for (user, name) in [("+15551234", "exact"), ("+15559", "prefix"), ("bob", "any")] {
        assert_eq!(answering(&config, &[user]).expect("match"), name);
    }
}

#[test]
fn numbers_lead_to_assistants_with_a_mailbox_to_mailboxes_and_to_the_menu() {
    let config = load_text(
        r#"
        numbers = [
          { number = "100", assistant = "reception", mailbox = "office" },
          { number = "200", mailbox = "office" },
          { number = "*97", service = "voicemail-menu" },
        ]
        [assistants.reception]
        [mailboxes.office]
        number = "200"
        pin = "4711"
        hours = { open = ["mon-fri 09:00-17:00"], timezone = "Europe/Berlin" }
        "#,
        &[],
    )
    .expect("valid");
    let office = MailboxName::new("office");
    let Some(Answer::Assistant { mailbox, .. }) = config.answer_for(&["100"]) else {
        panic!("no assistant");
    };
    assert_eq!(mailbox.as_ref(), Some(&office));
    assert_eq!(config.answer_for(&["200"]), Some(Answer::Mailbox(office)));
    let menu = Some(Answer::Service(Service::VoicemailMenu));
    assert_eq!(config.answer_for(&["*97"]), menu);
    assert_eq!(config.answer_for(&["300"]), None);
}

#[test]
fn what_is_wrong_with_mailboxes_is_said_of_each_key() {
    let found = keys(load_text(
        r#"
        numbers = [
          { number = "1" },
          { number = "2", mailbox = "none" },
          { number = "3", mailbox = "a", service = "voicemail-menu" },
        ]
        [assistants.x.mailboxPlan]
        mailbox = "none"
        digit = "x"
        [mailboxes.a]
        number = "1"
        pin = "4711"
        silence_seconds = 1
        notify = ["200"]
        [mailboxes.b]
        number = "1"
        [mailboxes."a/b"]
        "#,
        &[],
    ));
    let expected = [
        "numbers.[0]",
        "numbers.[1].mailbox",
        "numbers.[2].service",
        "assistants.x.mailboxPlan.digit",
        "mailboxes.a.silence_seconds",
        "mailboxes.a.notify.[0]",
        "mailboxes.a/b",
        "mailboxes.b.pin",
        "mailboxes.b.number",
        "assistants.x.mailboxPlan.mailbox",
    ];
    assert_eq!(found, expected);
    let found = keys(load_text("[mailboxes.a]\npin = \"12\"", &[]));
    assert_eq!(found, ["mailboxes.a.pin"]);
}

#[test]
fn a_number_is_found_in_whichever_spelling_the_plan_has_it() {
    let config = load_text(
        r#"
        numbers = [
          { number = "*", assistant = "any" },
          { number = "030123", assistant = "local" },
          { number = "+4940*", assistant = "north" },
        ]
        [assistants.any]
        [assistants.local]
        [assistants.north]
        "#,
        &[],
    )
    .expect("valid");
    let found = |called: &[&str]| answering(&config, called).expect("match");
    assert_eq!(found(&["+4930123", "030123"]), "local");
    assert_eq!(found(&["+4940123", "040123"]), "north");
    assert_eq!(found(&["+4989123", "089123"]), "any");
}

#[test]
fn a_trunk_has_what_its_profile_says_unless_it_says_otherwise() {
    let config = load_text(
        r#"
        [trunks.a]
        profile = "bandwidth"
        allow = ["192.0.2.1"]
        [trunks.b]
        profile = "bandwidth"
        allow = ["192.0.2.2"]
        codecs = ["pcma"]
        dtmf = "info"
        srtp = "required"
        [trunks.b.numbers]
        tech_prefix = "77"
        [trunks.b.limits]
        calls_per_second = 5
        [trunks.c]
        profile = "freepbx"
        registrar = "pbx.example.com"
        username = "200"
        password = "secret"
        [trunks.c.outbound]
        destinations = ["+49*"]
        "#,
        &[],
    )
    .expect("valid");
    let (a, b) = (&config.trunks["a"], &config.trunks["b"]);
    assert_eq!(a.codecs, [CodecName(Codec::Pcmu)]);
    assert_eq!(b.codecs, [CodecName(Codec::Pcma)]);
    assert_eq!((a.dtmf, b.dtmf), (Dtmf::Rfc4733, Dtmf::Info));
    assert_eq!((a.srtp, b.srtp), (Srtp::Off, Srtp::Required));
    assert_eq!(b.numbers.format, NumberFormat::E164);
    assert_eq!(b.numbers.tech_prefix, "77");
    assert_eq!(b.limits.calls_per_second, Some(5));
    assert!(a.outbound.is_none(), "nobody said that calls go there");
    let outbound = config.trunks["c"].outbound.as_ref().expect("set");
    assert_eq!(outbound.from, FromUser::Account);
    assert_eq!(outbound.identity, CallerHeader::PAssertedIdentity);
}

#[test]
fn a_trunk_says_which_extensions_and_keep_alives_it_takes() {
    let config = load_text(
        r#"
        [trunks.a]
        profile = "bandwidth"
        allow = ["192.0.2.1"]
        transport = "tcp"
        keep_alive = "options"
        100rel = "off"
        session_timer = { use = "required", refreshed_by = "peer" }
        [trunks.b]
        allow = ["192.0.2.2"]
        100rel = "required"
        session_timer = { use = "off" }
        failover_seconds = 2
        "#,
        &[("OFFHOOK__trunks__b__session_timer__interval_seconds", "120")],
    )
    .expect("valid");
    let (a, b) = (&config.trunks["a"], &config.trunks["b"]);
    assert_eq!(a.transport, Some(Transport::Tcp));
    assert_eq!(a.keep_alive, KeepAlive::Options);
    let timer = SessionTimerSettings {
        support: Support::Required,
        interval: 1800,
        minimum: 90,
        refreshed_by: RefreshedBy::Peer,
    };
    let extensions = Extensions {
        session_timer: timer,
        reliable_provisional: Support::Off,
    };
    assert_eq!(a.extensions(), extensions);
    assert_eq!(b.reliable_provisional, Support::Required);
    assert_eq!(b.session_timer.support, Support::Off);
    assert_eq!(b.session_timer.interval, 120);
    assert_eq!(b.failover_seconds, 2);
}

#[test]
fn every_profile_is_a_trunk() {
    for name in Profile::NAMES {
        let text = format!(
            "[trunks.t]\nprofile = \"{name}\"\nregistrar = \"r\"\nusername = \"u\"\npassword = \"p\"\nallow = [\"192.0.2.1\"]\n"
        );
        load_text(&text, &[]).unwrap_or_else(|mistakes| panic!("{name}: {mistakes}"));
        assert!(
            !Profile::named(name)
                .expect("it parses")
                .description
                .is_empty()
        );
    }
}

#[test]
fn mistakes_in_a_trunk_are_named() {
    let text = r#"
        [trunks.t]
        allow = ["192.0.2.1"]
        codecs = ["G729"]
        caller_headers = ["x-caller"]
        srtp = "always"
        [trunks.t.numbers]
        format = "national"
        [trunks.t.limits]
        max_calls = 0
        [trunks.u]
        allow = ["192.0.2.2"]
        failover_seconds = 60
        session_timer = { interval_seconds = 100, minimum_seconds = 120 }
        [trunks.v]
        allow = ["192.0.2.3"]
        transport = "sctp"
        100rel = "perhaps"
        [limits]
        requests_per_second_per_source = 0
        [limits.assistants.nobody]
        max_calls = 1
        "#;
    let mistakes = load_text(text, &[]).expect_err("mistakes");
    let told = mistakes.to_string();
    for part in [
        "trunks.t.codecs.[0]",
        "trunks.t.caller_headers.[0]",
        "trunks.t.srtp",
        "trunks.t.numbers.country_code",
        "trunks.t.limits.max_calls",
        "trunks.u.failover_seconds",
        "trunks.u.session_timer.interval_seconds: 100 is less than the minimum, 120",
        "trunks.v.transport",
        "trunks.v.100rel",
        "limits.requests_per_second_per_source",
        "limits.assistants.nobody",
    ] {
        assert!(told.contains(part), "{part} in\n{told}");
    }
}

#[test]
fn a_trunk_that_registers_names_what_it_lacks() {
    let found = keys(load_text(
        "[trunks.pbx]\nprofile = \"freepbx\"\nusername = \"200\"\n",
        &[],
    ));
    assert_eq!(found, ["trunks.pbx.registrar", "trunks.pbx.password"]);
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    let config = load_text(
        "[sip.digest.users]\nann = \"hunter2\"\n[trunks.p]\nprofile=\"freepbx\"\nregistrar=\"pbx\"\nusername=\"u\"\npassword=\"hunter3\"\n",
        &[],
    )
    .expect("valid");
    assert!(!format!("{config:?}").contains("hunter"));
}

#[test]
fn a_file_that_is_missing_or_not_toml_is_one_clear_mistake() {
    let missing = load(Some(Path::new("/nonexistent/offhook.toml")), []).expect_err("missing");
    assert!(missing.to_string().contains("cannot be read"));
    assert!(
        load_text("[sip", &[])
            .expect_err("syntax")
            .to_string()
            .contains("not TOML")
    );
}

#[test]
fn listeners_name_their_transport_and_tls_ones_need_a_certificate() {
    let config = load_text(
        r#"
        [sip]
        listen = ["127.0.0.1:5060", "udp:[::1]:5060", "tcp:127.0.0.1:5060", "tls:127.0.0.1:5061"]
        [sip.tls]
        certificate = "certificate.pem"
        key = "key.pem"
        "#,
        &[],
    )
    .expect("valid");
    let written: Vec<String> = config.sip.listen.iter().map(Listen::to_string).collect();
    assert_eq!(
        written,
        [
            "udp:127.0.0.1:5060",
            "udp:[::1]:5060",
            "tcp:127.0.0.1:5060",
            "tls:127.0.0.1:5061",
        ]
    );
    let mistakes = load_text(
        r#"
        [sip]
        listen = ["sctp:127.0.0.1:5060"]
        "#,
        &[],
    )
    .expect_err("a mistake");
    let told = mistakes.to_string();
    assert!(
        told.contains("sip.listen.[0]") && told.contains("tls:0.0.0.0:5061"),
        "{told}"
    );
    let wrong = r#"
        [sip]
        listen = ["tls:127.0.0.1:5061", "tls:127.0.0.1:5061"]
        [sip.tls]
        verify_clients = true
        "#;
    assert_eq!(
        keys(load_text(wrong, &[])),
        ["sip.listen", "sip.tls.certificate", "sip.tls.ca"]
    );
}
