//! Encrypted media: SRTP with keys in SDP, over TLS.

use std::path::PathBuf;

use crate::in_peace;
use crate::support::certificates::Authority;
use crate::support::record::{Record, share_understood};
use crate::support::server::{Server, Setup};
use crate::support::softphone::{Softphone, argument};
use crate::support::sound::{Sound, write_padded};
use crate::support::{Folder, baresip, pjsip, speech, tcp_port};

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
