//! Encrypted media: SRTP with keys in SDP, over TLS.

use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use crate::in_peace;
use crate::support::certificates::Authority;
use crate::support::phone::Phone;
use crate::support::record::{Record, share_understood};
use crate::support::server::{Server, Setup};
use crate::support::sipp::Sipp;
use crate::support::softphone::{Softphone, argument};
use crate::support::sound::{Sound, write_padded, write_tone};
use crate::support::{Folder, baresip, pjsip, speech, tcp_port, until};

/// Seconds of silence before the line, in which the greeting is over.
const LISTEN_FIRST: f64 = 3.5;
const SAID: &str = "I'd like to check my order status, please.";

/// A server whose only trunk wants media as given, and where it listens with TLS.
fn server(name: &'static str, folder: &Folder, srtp: &str) -> (Server, PathBuf, u16) {
    let authority = Authority::new(folder.path());
    let (certificate, key) = authority.certify("server", &["127.0.0.1", "localhost"]);
    let tls = tcp_port();
    let file = format!(
        r#"
        [sip.tls]
        certificate = {certificate:?}
        key = {key:?}
        [trunks.phones]
        profile = "softphone"
        allow = ["127.0.0.1"]
        srtp = "{srtp}"
        [assistants.demo]
        firstMessage = "Hello there, how are you?"
        [assistants.demo.model]
        systemPrompt = "You are the receptionist of a small shop. Answer with one short sentence."
        maxTokens = 30
        "#
    );
    let server = Setup::new(name)
        .listen(&[format!("tls:127.0.0.1:{tls}")])
        .file(&file)
        .start_ready();
    (server, authority.ca(), tls)
}

/// Both sides were heard: the caller was understood and so decrypted, and answered.
fn was_understood(record: &Record) {
    let heard = record.words_of_user();
    assert!(
        share_understood(SAID, &heard) >= 0.6,
        "{SAID:?} was understood as {heard:?}"
    );
    let quality = &record.0["quality"]["heard"];
    assert!(quality["mos"].as_f64() > Some(3.8), "{quality}");
    assert!(quality["packets"].as_u64() > Some(300), "{quality}");
}

/// No key may be kept or logged.
fn no_key_shows(server: &Server, record: &Record) {
    let id = record.text("id");
    let shown = crate::ladders::calls(server, &["show", id, "--sip", "--json"]);
    assert!(shown.contains("AES_CM_128_HMAC_SHA1"), "{shown}");
    assert!(!shown.contains("inline:"), "a key is in the ladder");
    assert!(!server.log().contains("inline:"), "a key is in the log");
}

#[test]
fn pjsip_talks_in_srtp_over_tls_and_is_refused_in_the_clear() {
    let _peace = in_peace();
    let folder = Folder::new("srtp");
    let (server, ca, tls) = server("srtp", &folder, "required");
    let (play, heard) = (server.path("said.wav"), server.path("heard.wav"));
    write_padded(&speech("order_status"), LISTEN_FIRST, 20.0, &play);
    let caller = pjsip::Caller {
        codec: "PCMU",
        play: &play,
        record: &heard,
        keys: Some(("42", 10.0)),
        hang_up: Some(13.0),
        credentials: None,
        extensions_required: false,
    };
    let uri = format!("sip:demo@127.0.0.1:{tls};transport=tls");
    let options = ["--transport", "tls", "--ca", argument(&ca)];
    let encrypted = [&options[..], &["--srtp", "mandatory"]].concat();
    let (seen, record) = server.record_of(|| caller.dial_uri(&uri, &encrypted));
    assert!(seen.answered, "status {}", seen.status);
    assert_eq!(record.text("srtp"), "AES_CM_128_HMAC_SHA1_80");
    assert_eq!(record.text("digits"), "42");
    was_understood(&record);
    // Its reports are encrypted as well.
    let spoken = &record.0["quality"]["spoken"];
    assert!(spoken["mos"].as_f64() > Some(3.8), "{spoken}");
    let heard = Sound::read(&heard).audible_seconds(0);
    assert!(heard > 1.0, "PJSIP heard {heard} s");
    no_key_shows(&server, &record);

    let (seen, record) = server.record_of(|| caller.dial_uri(&uri, &options));
    assert_eq!((seen.answered, seen.status), (false, 488.0));
    assert_eq!(record.text("endedReason"), "incompatible-media");
    let refused = Softphone::dial(&server, "demo", &[], &[]).refusal();
    assert!(refused.contains("488"), "{refused}");
}

#[test]
fn baresip_talks_in_srtp_over_tls_where_it_is_optional() {
    let _peace = in_peace();
    let folder = Folder::new("srtp-optional");
    let (server, ca, tls) = server("srtp-optional", &folder, "optional");
    let play = server.path("baresip.wav");
    write_padded(&speech("order_status"), LISTEN_FIRST, 9.0, &play);
    let uri = format!("sip:demo@127.0.0.1:{tls};transport=tls");
    let more = [
        "module srtp.so".to_owned(),
        format!("sip_cafile {}", ca.display()),
    ];
    for encryption in ["srtp-mand", "srtp"] {
        let account = format!("audio_codecs=pcma;mediaenc={encryption}");
        let (seen, record) = server.record_of(|| baresip::dial_uri(&uri, &play, &more, &account));
        let suite = record.text("srtp");
        assert!(
            suite.starts_with("AES_CM_128"),
            "{suite:?}: {}",
            seen.output
        );
        was_understood(&record);
        let heard = seen.heard.audible_seconds(0);
        assert!(heard > 1.0, "baresip heard {heard} s");
        no_key_shows(&server, &record);
    }
    // Nor is anybody kept out who cannot.
    let report = Softphone::dial(&server, "demo", &[], &["--quiet", "300"]).report();
    assert!(report.heard_greeting(), "{report:?}");
}

#[test]
fn a_call_in_srtp_is_not_talked_out_of_it_but_may_change_its_key() {
    let folder = Folder::new("downgrade");
    let (server, ..) = server("downgrade", &folder, "required");
    let ((), record) = server.record_of(|| {
        let caller = Sipp::new("downgrade").dial(&server, "demo");
        caller.must_go_by_the_scenario();
    });
    assert_eq!(record.reason(), ("customer-ended-call", "customer"));
    assert_eq!(record.text("srtp"), "AES_CM_128_HMAC_SHA1_80");
    no_key_shows(&server, &record);
}

#[test]
fn we_call_a_telephone_in_srtp_over_tls_and_hear_each_other_after_both_have_held() {
    let _peace = in_peace();
    let folder = Folder::new("srtp-outbound");
    let authority = Authority::new(folder.path());
    let (certificate, key) = authority.certify("phone", &["127.0.0.1", "localhost"]);
    let ca = authority.ca();
    let play = folder.path().join("tone.wav");
    write_tone(700.0, 30.0, &play);
    let held = ["--hold-at", "3", "--resume-at", "5", "--hang-up-at", "13"];
    let phone = Phone::new("callee")
        .options(&[
            "--tls",
            argument(&certificate),
            argument(&key),
            argument(&ca),
        ])
        .options(&["--srtp"])
        .options(&held)
        .plays(&play);
    let server = Setup::new("srtp-outbound")
        .listen(&[format!("tls:127.0.0.1:{}", tcp_port())])
        .file(&format!(
            r#"
            [sip.tls]
            certificate = {certificate:?}
            key = {key:?}
            [trunks.carrier]
            srtp = "required"
            transport = "tls"
            ca = {ca:?}
            [trunks.carrier.outbound]
            host = "{}"
            destinations = ["+49*"]
            [assistants.reception]
            firstMessage = "Hello, this is the reception."
            messagePlan = {{ idleMessages = [] }}
            "#,
            phone.address()
        ))
        .start_ready();
    let address = phone.address();
    let (seen, record) = server.record_of(|| {
        let phone = phone.listen();
        until("a telephone that listens", Duration::from_secs(20), || {
            TcpStream::connect(&address).ok()
        });
        let id = server.told(&["dial", "reception", "+49301234"])["id"].clone();
        let id = id.as_str().expect("an id");
        server.wait_for_words(id, 1);
        // The telephone has held by then, and taken back.
        std::thread::sleep(Duration::from_secs(7));
        server.told(&["calls", "hold", id]);
        std::thread::sleep(Duration::from_secs(1));
        server.told(&["calls", "resume", id]);
        server.wait_for_words(id, 2);
        phone.finish()
    });
    assert_eq!(record.text("srtp"), "AES_CM_128_HMAC_SHA1_80");
    assert_eq!(record.reason(), ("customer-ended-call", "customer"));
    let said = record.said_by("bot");
    let thanks = said.last().expect("words");
    assert_eq!(thanks.text, "Thank you for waiting.");
    let heard = seen.heard().audible_seconds(0);
    assert!(heard > 2.0, "{heard} s of a greeting, music and thanks");
    // What came from the telephone since then is its tone, and not what a wrong key makes of it.
    let sound = server.recording(&record);
    let tone = Sound {
        rate: 8_000,
        channels: vec![sound.channels[0][place(thanks.start_ms)..].to_vec()],
    };
    let seconds = tone.tone_seconds(0, 700.0);
    assert!(seconds > 0.8 * tone.seconds(), "{seconds} s of the tone");
    no_key_shows(&server, &record);
}

/// Where a time, in ms, is in a recording.
fn place(ms: u64) -> usize {
    usize::try_from(ms * 8).expect("small")
}
