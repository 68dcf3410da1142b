//! The product's own caller, with recorded human speech.

use std::time::Duration;

use serde_json::Value;

use crate::support::phone::Phone;
use crate::support::process::run_well;
use crate::support::record::{Record, share_understood};
use crate::support::server::{Server, offhook};
use crate::support::softphone::{Report, argument, call};
use crate::support::sound::Sound;
use crate::support::speech;
use crate::{OFFICE, PLAIN, in_peace};

const LINES: [(&str, &str); 3] = [
    ("order_status", "I'd like to check my order status, please."),
    ("hi_how_are_you", "Hi, how are you?"),
    ("help_me", "Can you help me with something?"),
];

/// What a telephone line and a small model may cost.
const UNDERSTOOD: f64 = 0.6;

/// The caller's figure and the server's are taken on two sides of the same wire.
const AGREEMENT_MS: i64 = 40;

#[test]
fn a_recorded_caller_is_greeted_and_answered_and_all_of_it_can_be_read_and_heard_afterwards() {
    let _peace = in_peace();
    let server = PLAIN.take();
    let heard = server.path("heard.wav");
    let lines = LINES.map(|(name, _)| speech(name));
    let (report, record) =
        server.record_of(|| call(&server, "demo", &lines, &["--record", argument(&heard)]));

    assert!(report.heard_greeting(), "{:#}", report.0);
    assert!(report.unanswered().is_empty(), "{:#}", report.0);
    the_words_are_kept(&record);
    the_turns_are_in_order(&record);
    caller_and_server_measured_the_same(&report, &record);
    the_recording_has_both_where_the_messages_are(&server, &record);
    let heard = Sound::read(&heard);
    let kept = server.recording(&record);
    let (here, there) = (heard.audible_seconds(0), kept.audible_seconds(1));
    assert!(
        (here - there).abs() < 0.1 * there,
        "the caller heard {here} s of the {there} s that were spoken"
    );
    people_can_read_it(&server, &record);
}

#[test]
fn a_caller_in_another_language_is_told_so_and_understood_in_english() {
    let _peace = in_peace();
    let server = OFFICE.take();
    let lines = ["other-languages/french", "help_me"].map(speech);
    let (report, record) = server.record_of(|| call(&server, "reception", &lines, &[]));

    assert!(report.unanswered().is_empty(), "{:#}", report.0);
    let bot = record.said_by("bot");
    assert_eq!(bot[1].text, "I'm sorry, I only understand English.");
    let user = record.words_of_user();
    let said = "Can you help me with something?";
    assert!(share_understood(said, &user) >= UNDERSTOOD, "{user:?}");
    let made_up = ["volume", "participants"].map(str::to_owned);
    assert!(made_up.iter().all(|word| !user.contains(word)), "{user:?}");
    let turns = record.turns();
    let refused = turns
        .iter()
        .find(|turn| turn["turn"] == 1)
        .expect("its turn");
    assert!(refused["holdingPacketMs"].is_number(), "{refused:#}");
}

#[test]
#[ignore = "fails in one of four runs: the first syllable of an echo is still taken for the caller's"]
fn an_assistant_that_hears_itself_from_a_loudspeaker_speaks_to_the_end() {
    let _peace = in_peace();
    let server = OFFICE.take();
    let (_, record) = server.record_of(|| {
        let options = ["--loudspeaker", "15", "--hang-up-at", "14"];
        let phone = Phone::new("loud").options(&options);
        phone.dial(&server.uri("talker")).finish()
    });
    assert_eq!(record.reason(), ("customer-ended-call", "customer"));
    assert_eq!(record.words_of_user(), Vec::<String>::new());
    let said = record.said_by("bot");
    assert_eq!(said.len(), 1, "{said:#?}");
    let text = &said[0].text;
    assert!(text.ends_with("What would you like?"), "{text}");
    let recording = server.recording(&record);
    let shares = [0, 1].map(|side| recording.audible_share(side, 500..8000));
    assert!(shares.iter().all(|share| *share > 0.4), "{shares:?}");
}

fn the_words_are_kept(record: &Record) {
    assert_eq!(record.reason(), ("customer-ended-call", "customer"));
    assert_eq!(record.text("type"), "inboundPhoneCall");
    assert_eq!(record.text("assistant"), "demo");
    let user = record.words_of_user();
    for (_, said) in LINES {
        let share = share_understood(said, &user);
        assert!(share >= UNDERSTOOD, "{said:?} was understood as {user:?}");
    }
    let bot = record.said_by("bot");
    assert!(
        bot.len() > LINES.len(),
        "a greeting and an answer to each line: {bot:#?}"
    );
    assert!(
        bot.iter()
            .all(|message| message.text.chars().any(char::is_alphabetic)),
        "{bot:#?}"
    );
    assert_eq!(
        bot[0].text,
        "Hello, Larkfield Garden Hotel, this is Emma. How can I help you?"
    );
}

fn the_turns_are_in_order(record: &Record) {
    let turns = record.turns();
    assert!(turns.len() >= LINES.len(), "{turns:#?}");
    for turn in turns {
        let at = |key: &str| {
            turn[key]
                .as_u64()
                .unwrap_or_else(|| panic!("no {key} in {turn:#}"))
        };
        // Work is begun on trust, so a transcript may be there before the turn is known to be over.
        let chain = [
            "speechEndedMs",
            "transcriptMs",
            "firstTokenMs",
            "firstClauseMs",
            "firstAudioMs",
            "firstPacketMs",
        ];
        for pair in chain.windows(2) {
            assert!(
                at(pair[0]) <= at(pair[1]),
                "{} is after {} in {turn:#}",
                pair[0],
                pair[1]
            );
        }
        assert!(
            (at("speechEndedMs")..=at("firstPacketMs")).contains(&at("endpointMs")),
            "{turn:#}"
        );
        assert_eq!(turn["retries"], 0, "{turn:#}");
    }
}

fn caller_and_server_measured_the_same(report: &Report, record: &Record) {
    let turns = record.turns();
    assert_eq!(
        turns.len(),
        report.lines().len(),
        "one turn for each line: {turns:#?}"
    );
    for (line, turn) in report.lines().iter().zip(turns) {
        let number = |value: &serde_json::Value| {
            i64::try_from(value.as_u64().expect("a figure")).expect("small")
        };
        let caller = number(&line["voiceToVoiceMs"]);
        let server = number(&turn["firstPacketMs"]) - number(&turn["speechEndedMs"]);
        assert!(
            (caller - server).abs() <= AGREEMENT_MS,
            "{caller} ms and {server} ms: {line:#} {turn:#}"
        );
    }
}

fn the_recording_has_both_where_the_messages_are(server: &Server, record: &Record) {
    let sound = server.recording(record);
    for (role, channel) in [("user", 0), ("bot", 1)] {
        for message in record.said_by(role) {
            let stretch = message.start_ms..message.end_ms;
            let share = sound.audible_share(channel, stretch.clone());
            assert!(share > 0.5, "{role} is audible in {share} of {message:?}");
            let other = sound.audible_share(1 - channel, stretch);
            assert!(
                other < 0.2,
                "the other side is audible in {other} of {message:?}"
            );
        }
    }
}

fn people_can_read_it(server: &Server, record: &Record) {
    let shown = server.call_for_people(record.text("id"));
    assert!(
        shown.contains("customer-ended-call") && shown.contains("assistant"),
        "{shown}"
    );
    for message in record.said_by("bot") {
        assert!(shown.contains(&message.text), "{shown}");
    }
    latencies_are_put_together(server);
}

fn latencies_are_put_together(server: &Server) {
    let mut command = offhook();
    command.args([
        "calls",
        "latency",
        "--assistant",
        "demo",
        "--json",
        "--data",
    ]);
    let done = run_well(command.arg(&server.data), Duration::from_secs(30));
    let found: Value = serde_json::from_str(&done.stdout).expect("JSON");
    let parts = found[0]["parts"].as_array().expect("parts");
    let voice = parts
        .iter()
        .find(|part| part["part"] == "voiceToVoice")
        .unwrap_or_else(|| panic!("no voice to voice in {found:#}"));
    let ms = |key: &str| voice[key].as_u64().expect("milliseconds");
    assert!(ms("turns") >= LINES.len() as u64, "{found:#}");
    assert!(
        ms("p50Ms") <= ms("p95Ms") && ms("p95Ms") <= ms("maxMs"),
        "{found:#}"
    );
    let (_, metrics) = server.get("/metrics").expect("metrics");
    let label = "offhook_turn_seconds_count{assistant=\"demo\",part=\"voice_to_voice\"}";
    assert!(metrics.contains(label), "{metrics}");
}

#[test]
fn the_server_is_ready_without_any_configuration_and_answers_whatever_name_is_dialled() {
    let _peace = in_peace();
    let server = PLAIN.take();
    let (report, record) = server.record_of(|| call(&server, "anybody", &[], &[]));
    assert!(report.heard_greeting(), "{:#}", report.0);
    assert_eq!(record.text("assistant"), "demo");
    assert_eq!(server.readiness().0, 200);
    assert_eq!(server.get("/healthz").map(|(status, _)| status), Some(200));
}

#[test]
fn a_caller_who_speaks_over_the_assistant_stops_it_and_is_answered() {
    let _peace = in_peace();
    let server = PLAIN.take();
    let lines = [speech("help_me"), speech("order_status")];
    let (report, record) =
        server.record_of(|| call(&server, "demo", &lines, &["--interrupt-after", "300"]));
    assert!(report.unanswered().is_empty(), "{:#}", report.0);
    let interrupted: Vec<_> = record
        .turns()
        .into_iter()
        .filter(|turn| turn["interruptedMs"].is_u64())
        .collect();
    assert_eq!(interrupted.len(), 1, "{:#}", record.0);
    let cut = interrupted[0]["turn"].as_u64().expect("a number");
    let at = interrupted[0]["interruptedMs"].as_u64().expect("a time");
    let message = record
        .said_by("bot")
        .into_iter()
        .rfind(|message| message.turn == cut);
    if let Some(message) = message {
        let kept = record.0["messages"].as_array().expect("messages");
        let kept = kept
            .iter()
            .rfind(|kept| kept["role"] == "bot" && kept["turn"] == cut)
            .expect("the same");
        assert_eq!(kept["interrupted"], true, "{kept:#}");
        assert!(
            message.end_ms <= at + 500,
            "it went on speaking after {at} ms: {message:?}"
        );
    }
    // What was said over it is a turn of its own.
    assert!(
        share_understood("check my order status", &record.words_of_user()) >= UNDERSTOOD,
        "{:#}",
        record.0
    );
}

#[test]
fn keys_pressed_by_the_callers_arrive_in_order_and_once_with_either_codec() {
    let _peace = in_peace();
    let server = OFFICE.take();
    for codec in ["PCMU", "PCMA"] {
        let options = ["--dtmf", "1335#", "--codec", codec];
        let (report, record) = server.record_of(|| call(&server, "reception", &[], &options));
        assert_eq!(report.0["codec"], codec);
        assert_eq!(
            (record.text("digits"), record.text("codec")),
            ("1335#", codec)
        );
    }
}
