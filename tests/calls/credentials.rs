//! Digest authentication (RFC 3261 section 22), asked of us and asked by us.

use std::time::Duration;

use crate::support::server::Setup;
use crate::support::sipp::Sipp;
use crate::support::sound::write_padded;
use crate::support::{pjsip, speech, until};

#[test]
fn callers_without_the_right_password_hear_401_and_with_it_are_answered() {
    let server = Setup::new("password")
        .file(
            r#"
            [sip.digest]
            realm = "offhook.test"
            [sip.digest.users]
            alice = "correct-horse"
            "#,
        )
        .start_ready();
    Sipp::new("refused")
        .with("CODEC", "PCMU/8000")
        .with("TYPE", "0")
        .with("STATUS", "401")
        .dial(&server, "demo")
        .must_go_by_the_scenario();
    let play = server.path("play.wav");
    write_padded(&speech("hi_how_are_you"), 5.0, 0.0, &play);
    let heard = server.path("heard.wav");
    let call = |user, password| {
        let caller = pjsip::Caller {
            codec: "PCMU",
            play: &play,
            record: &heard,
            keys: None,
            hang_up: Some(2.0),
            credentials: Some((user, password)),
            extensions_required: false,
        };
        caller.dial(&server, "demo")
    };
    for (user, password) in [("alice", "battery-staple"), ("mallory", "correct-horse")] {
        let seen = call(user, password);
        assert!(!seen.answered, "{user} with {password}");
        assert_eq!(seen.status, 401.0, "{user} with {password}");
    }
    assert_eq!(server.metric("offhook_calls_started_total"), 0);
    assert!(server.call_ids().is_empty(), "strangers leave no record");
    let (seen, record) = server.record_of(|| call("alice", "correct-horse"));
    assert!(seen.answered);
    assert_eq!(record.reason(), ("customer-ended-call", "customer"));
    // Neither the log nor what is kept tells the password, or what it could be guessed from.
    assert!(!server.log().contains("correct-horse"));
    let messages = until("its messages", Duration::from_secs(15), || {
        let messages =
            crate::ladders::calls(&server, &["show", record.text("id"), "--sip", "--json"]);
        messages.contains("BYE sip:").then_some(messages)
    });
    assert!(
        messages.contains("username=\\\"alice\\\"") && messages.contains("response=\\\"***"),
        "{messages}"
    );
}

#[test]
fn it_registers_with_a_password_refreshes_in_time_and_takes_the_registration_back() {
    let registrar = Sipp::new("registrar")
        .with("USER", "200")
        .with("PASSWORD", "secret-of-200");
    let trunk = format!(
        r#"
        [trunks.office]
        profile = "generic"
        register = true
        registrar = "{}"
        username = "200"
        password = "secret-of-200"
        ping_seconds = 0
        "#,
        registrar.address()
    );
    let registrar = registrar.listen();
    let server = Setup::new("registers").file(&trunk).start();
    // One without and one with the password, and the refresh.
    until("a refresh", Duration::from_secs(60), || {
        server.get("/metrics")?;
        (server.counted("sip_transmitted") >= 3).then_some(())
    });
    server.terminate();
    assert!(server.wait_for_exit().success(), "{}", server.log());
    registrar.must_go_by_the_scenario();
    assert!(server.log().contains("registered"), "{}", server.log());
    assert!(!server.log().contains("secret-of-200"));
}
