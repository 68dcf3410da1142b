//! Wideband calls: what other telephones and we make of them, both ways.

use crate::support::record::share_understood;
use crate::support::server::Server;
use crate::support::softphone::{argument, call};
use crate::support::sound::{Sound, write_padded, write_padded_at};
use crate::support::{baresip, pjsip, speech};
use crate::{OFFICE, in_peace};

/// Seconds of silence before the line, in which the greeting is over.
const LISTEN_FIRST: f64 = 3.5;

const LINE: &str = "I'd like to check my order status, please.";

/// Speech has this share of its energy above 4 kHz where it is wideband at all.
const AUDIBLY_WIDE: f64 = 0.0005;

#[test]
fn pjsip_talks_in_g722_and_hears_more_than_a_telephone_band() {
    let _peace = in_peace();
    let server = OFFICE.take();
    let (play, heard) = (server.path("g722.wav"), server.path("g722-heard.wav"));
    write_padded(&speech("order_status"), LISTEN_FIRST, 20.0, &play);
    let caller = pjsip::Caller {
        codec: "G722",
        play: &play,
        record: &heard,
        keys: Some(("17#", 13.0)),
        hang_up: Some(17.0),
        credentials: None,
        extensions_required: false,
    };
    let (seen, record) = server.record_of(|| caller.dial(&server, "reception"));
    assert_eq!((seen.codec.as_str(), seen.packets_lost), ("G722", 0.0));
    assert_eq!(record.text("codec"), "G722");
    assert_eq!(record.text("digits"), "17#");
    let understood = record.words_of_user();
    assert!(share_understood(LINE, &understood) >= 0.6, "{understood:?}");
    was_recorded(&server.recording(&record));
    let heard = Sound::read(&heard);
    assert_eq!(heard.rate, 16_000);
    assert!(heard.audible_seconds(0) > 1.0);
    let share = heard.share_above_4_khz(0);
    assert!(share > AUDIBLY_WIDE, "{share} above 4 kHz");
}

#[test]
fn baresip_talks_in_g722() {
    baresip_talks("G722", (16_000, 1), "module g722.so", "audio_codecs=g722");
}

#[test]
fn baresip_talks_in_opus() {
    baresip_talks("opus", (48_000, 2), "module opus.so", "audio_codecs=opus");
}

fn baresip_talks(codec: &str, format: (u32, u16), module: &str, account: &str) {
    let _peace = in_peace();
    let server = OFFICE.take();
    let play = server.path(&format!("baresip-{codec}.wav"));
    write_padded_at(format, &speech("order_status"), LISTEN_FIRST, 9.0, &play);
    let more = [module.to_owned(), format!("audio_srate {}", format.0)];
    let uri = server.uri("reception");
    let (seen, record) = server.record_of(|| baresip::dial_uri(&uri, &play, &more, account));
    let ended = ("customer-ended-call", "customer");
    assert_eq!(record.reason(), ended, "{}", seen.output);
    assert_eq!(record.text("codec"), codec);
    let understood = record.words_of_user();
    assert!(
        share_understood(LINE, &understood) >= 0.6,
        "{understood:?}\n{}",
        seen.output
    );
    let recording = server.recording(&record);
    was_recorded(&recording);
    let (heard, spoken) = (seen.heard.audible_seconds(0), recording.audible_seconds(1));
    assert!(
        heard > 0.8 * spoken,
        "baresip heard {heard} s of the {spoken} s that were spoken"
    );
}

/// Both sides are in it, caller left.
fn was_recorded(sound: &Sound) {
    assert_eq!(sound.rate, 8_000);
    assert!(sound.audible_seconds(0) > 0.5);
    assert!(sound.audible_seconds(1) > 1.0);
}

#[test]
fn a_caller_of_ours_hears_wideband_where_it_offers_it_and_narrowband_elsewhere() {
    let _peace = in_peace();
    let server = OFFICE.take();
    for codec in ["G722", "opus"] {
        let share = heard_by_us(&server, codec).share_above_4_khz(0);
        assert!(share > AUDIBLY_WIDE, "{codec}: {share} above 4 kHz");
    }
    let mut narrow = heard_by_us(&server, "PCMU");
    assert_eq!(narrow.rate, 8_000);
    narrow.raise_to_16_khz();
    let share = narrow.share_above_4_khz(0);
    assert!(share < AUDIBLY_WIDE / 2.0, "{share} above 4 kHz in G.711");
}

/// What `offhook call` hears.
fn heard_by_us(server: &Server, codec: &str) -> Sound {
    let record = server.path(&format!("{codec}-heard.wav"));
    let options = ["--codec", codec, "--record", argument(&record)];
    let lines = [speech("order_status")];
    let (report, kept) = server.record_of(|| call(server, "reception", &lines, &options));
    assert!(report.unanswered().is_empty(), "{:#}", report.0);
    assert_eq!(kept.text("codec"), codec);
    let understood = kept.words_of_user();
    assert!(share_understood(LINE, &understood) >= 0.6, "{understood:?}");
    let heard = Sound::read(&record);
    assert!(heard.audible_seconds(0) > 1.0);
    heard
}
