//! Other people's telephones: PJSIP and baresip.

use crate::support::record::{Record, share_understood};
use crate::support::server::Server;
use crate::support::sound::{Sound, write_padded};
use crate::support::{baresip, pjsip, speech};
use crate::{OFFICE, in_peace};

/// Seconds of silence before the line, in which the greeting is over.
const LISTEN_FIRST: f64 = 3.5;

/// The line was understood and answered, and the recording has both.
fn was_a_conversation(server: &Server, record: &Record, said: &str) {
    let heard = record.words_of_user();
    assert!(
        share_understood(said, &heard) >= 0.6,
        "{said:?} was understood as {heard:?}"
    );
    let bot = record.said_by("bot");
    assert!(bot.len() >= 2, "a greeting and an answer: {bot:#?}");
    let sound = server.recording(record);
    let (caller, assistant) = (sound.audible_seconds(0), sound.audible_seconds(1));
    assert!(caller > 0.5, "{caller} s of the caller are audible");
    assert!(
        assistant > 1.0,
        "{assistant} s of the assistant are audible"
    );
    for (role, channel) in [("user", 0), ("bot", 1)] {
        // Keys are a message without a sound.
        for message in record
            .said_by(role)
            .iter()
            .filter(|message| message.end_ms > message.start_ms)
        {
            let share = sound.audible_share(channel, message.start_ms..message.end_ms);
            assert!(share > 0.5, "{role} is audible in {share} of {message:?}");
        }
    }
}

#[test]
fn pjsip_talks_in_mu_law_presses_keys_and_hangs_up() {
    let _peace = in_peace();
    let server = OFFICE.take();
    let (play, heard) = (
        server.path("pjsip-mu-law.wav"),
        server.path("pjsip-mu-law-heard.wav"),
    );
    write_padded(&speech("order_status"), LISTEN_FIRST, 20.0, &play);
    let caller = pjsip::Caller {
        codec: "PCMU",
        play: &play,
        record: &heard,
        keys: Some(("1335#", 13.0)),
        hang_up: Some(19.0),
        credentials: None,
        extensions_required: false,
    };
    let (seen, record) = server.record_of(|| caller.dial(&server, "reception"));
    assert_eq!(
        (seen.codec.as_str(), seen.ended_by.as_str()),
        ("PCMU", "local")
    );
    assert_eq!(record.text("codec"), "PCMU");
    assert_eq!(record.reason(), ("customer-ended-call", "customer"));
    assert_eq!(record.text("digits"), "1335#");
    was_a_conversation(
        &server,
        &record,
        "I'd like to check my order status, please.",
    );
    it_received_everything(&seen);
    // Its own clock warps what it records, so only that there is speech counts.
    let heard = Sound::read(&heard);
    assert!(
        heard.audible_seconds(0) > 1.0,
        "PJSIP heard {} s",
        heard.audible_seconds(0)
    );
}

#[test]
fn pjsip_talks_in_a_law_until_the_assistant_hangs_up_on_its_end_call_phrase() {
    let _peace = in_peace();
    let server = OFFICE.take();
    let (play, heard) = (
        server.path("pjsip-a-law.wav"),
        server.path("pjsip-a-law-heard.wav"),
    );
    write_padded(&speech("thank_you"), LISTEN_FIRST, 40.0, &play);
    let caller = pjsip::Caller {
        codec: "PCMA",
        play: &play,
        record: &heard,
        keys: None,
        hang_up: None,
        credentials: None,
        extensions_required: false,
    };
    let (seen, record) = server.record_of(|| caller.dial(&server, "reception"));
    assert_eq!(
        (seen.codec.as_str(), seen.ended_by.as_str()),
        ("PCMA", "remote")
    );
    assert_eq!(record.text("codec"), "PCMA");
    assert_eq!(
        record.reason(),
        ("assistant-said-end-call-phrase", "assistant")
    );
    was_a_conversation(&server, &record, "Thank you very much.");
    // The last words are heard to their end before the line goes.
    let bot = record.said_by("bot");
    let last = bot.last().expect("a message");
    assert_eq!(last.text, "Until next time.");
    let sound = server.recording(&record);
    assert!(
        sound.seconds() * 1000.0 >= last.end_ms as f64,
        "{last:?} is longer than the recording"
    );
    it_received_everything(&seen);
}

/// A packet every 20 ms, but for what was on its way when the call ended.
fn it_received_everything(seen: &pjsip::Seen) {
    let expected = seen.seconds * 50.0;
    assert!(
        seen.packets_received > expected * 0.95 - 25.0,
        "{} of {expected} packets",
        seen.packets_received
    );
    assert!(
        seen.packets_lost < 1.0,
        "{} packets were lost",
        seen.packets_lost
    );
}

#[test]
fn baresip_talks_and_hangs_up() {
    let _peace = in_peace();
    let server = OFFICE.take();
    let play = server.path("baresip.wav");
    write_padded(&speech("order_status"), LISTEN_FIRST, 9.0, &play);
    let (seen, record) = server.record_of(|| baresip::dial(&server, "reception", &play));
    assert_eq!(
        record.reason(),
        ("customer-ended-call", "customer"),
        "{}",
        seen.output
    );
    assert_eq!(record.text("codec"), "PCMA");
    was_a_conversation(
        &server,
        &record,
        "I'd like to check my order status, please.",
    );
    let (heard, spoken) = (
        seen.heard.audible_seconds(0),
        server.recording(&record).audible_seconds(1),
    );
    assert!(
        heard > 0.8 * spoken,
        "baresip heard {heard} s of the {spoken} s that were spoken"
    );
}
