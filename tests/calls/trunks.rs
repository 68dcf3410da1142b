//! Trunks: whose call it is, who calls and whom they called, and how many calls there may be.

use std::time::Duration;

use crate::support::server::{Setup, Shared};
use crate::support::sipp::Sipp;
use crate::support::until;

/// A carrier that writes numbers as people dial them in Germany, and may have two calls.
static CARRIER: Shared = Shared::new(|| {
    Setup::new("carrier").file(
        r#"
        [trunks.carrier]
        allow = ["127.0.0.0/8"]
        codecs = ["PCMA"]
        [trunks.carrier.numbers]
        format = "national"
        country_code = "49"
        national_prefix = "0"
        international_prefix = "00"
        [trunks.carrier.limits]
        max_calls = 2

        [[numbers]]
        number = "+4940123"
        assistant = "reception"
        [[numbers]]
        number = "busy"
        assistant = "brief"

        [limits.assistants.brief]
        max_calls = 1

        [assistants.reception]
        firstMessage = "Hello there."
        [assistants.brief]
        firstMessage = "Hello there."
        "#,
    )
});

fn refused(status: &str) -> Sipp {
    Sipp::new("refused")
        .with("CODEC", "PCMA/8000")
        .with("TYPE", "8")
        .with("STATUS", status)
}

#[test]
fn a_call_is_known_by_the_rules_of_its_trunk() {
    let server = CARRIER.take();
    let ((), record) = server.record_of(|| {
        Sipp::new("carrier")
            .with("MS", "500")
            .dial(&server, "040123")
            .must_go_by_the_scenario();
    });
    assert_eq!(record.text("assistant"), "reception");
    assert_eq!(record.text("trunk"), "carrier");
    assert_eq!(record.text("codec"), "PCMA");
    assert_eq!(record.text("divertedFrom"), "+4930888");
    let customer = &record.0["customer"];
    assert_eq!(customer["number"], "+4930123456");
    assert_eq!(customer["name"], "Ann Example");
    assert!(!server.log().contains("30123456"), "{}", server.log());
}

#[test]
fn a_trunk_and_an_assistant_have_no_more_calls_than_they_may() {
    let server = CARRIER.take();
    let (_, records) = server.records_of(4, || {
        let carrier = |user| {
            let call = Sipp::new("carrier").with("MS", "4000");
            call.dial(&server, user)
        };
        let brief = carrier("busy");
        until("a call", Duration::from_secs(10), || {
            (server.metric("offhook_calls_active") == 1).then_some(())
        });
        refused("486")
            .dial(&server, "busy")
            .must_go_by_the_scenario();
        let reception = carrier("040123");
        until("two calls", Duration::from_secs(10), || {
            (server.metric("offhook_calls_active") == 2).then_some(())
        });
        refused("503")
            .dial(&server, "040123")
            .must_go_by_the_scenario();
        brief.must_go_by_the_scenario();
        reception.must_go_by_the_scenario();
    });
    let refused = |record: &&crate::support::record::Record| {
        record.reason() == ("admission-refused", "system")
    };
    assert_eq!(records.iter().filter(refused).count(), 2);
}

/// Callers from one address know session timers and 100rel, but the trunk wants none of them.
#[test]
fn a_trunk_that_has_no_session_timers_and_no_100rel_is_offered_none() {
    let server = Setup::new("plain-trunk")
        .file(
            r#"
            [trunks.old]
            allow = ["127.0.0.1"]
            100rel = "off"
            session_timer = { use = "off" }
            [assistants.reception]
            firstMessage = "Hello there."
            "#,
        )
        .start_ready();
    let ((), record) = server.record_of(|| {
        Sipp::new("no_extensions")
            .dial(&server, "reception")
            .must_go_by_the_scenario();
    });
    assert_eq!(record.text("trunk"), "old");
}

#[test]
fn a_trunk_that_requires_100rel_takes_nobody_without_it() {
    let server = Setup::new("strict-trunk")
        .file(
            r#"
            [trunks.strict]
            allow = ["127.0.0.1"]
            100rel = "required"
            [assistants.reception]
            firstMessage = "Hello there."
            "#,
        )
        .start_ready();
    Sipp::new("refused")
        .with("CODEC", "PCMU/8000")
        .with("TYPE", "0")
        .with("STATUS", "421")
        .dial(&server, "reception")
        .must_go_by_the_scenario();
    Sipp::new("prack")
        .dial(&server, "reception")
        .must_go_by_the_scenario();
}
