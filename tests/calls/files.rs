//! What is left of a finished call, fetched over HTTP: recordings in every form, whole and in
//! parts, the capture, the log, the transcript, and what the model says of it.

use std::collections::BTreeSet;
use std::io::Cursor;
use std::time::Duration;

use serde_json::Value;

use crate::in_peace;
use crate::ladders::calls;
use crate::support::record::{Record, share_understood};
use crate::support::server::{Server, Setup};
use crate::support::sound::Sound;
use crate::support::{softphone, speech, until};

/// The model's turn comes when nobody is on the phone.
const ANALYSIS: Duration = Duration::from_secs(180);

/// What was answered.
struct Answer {
    status: u16,
    /// `Content-Range`.
    range: String,
    kind: String,
    body: Vec<u8>,
}

/// Asks for a file of a call, with the API key where there is one.
struct Files<'a> {
    server: &'a Server,
    id: &'a str,
    key: String,
}

impl Files<'_> {
    /// A file by its name, or without one the call itself.
    fn get(&self, name: &str, range: Option<&str>, key: Option<&str>) -> Answer {
        let mut url = format!("{}/call/{}", self.server.base(), self.id);
        if !name.is_empty() {
            url = format!("{url}/{name}");
        }
        let config = ureq::Agent::config_builder().http_status_as_error(false);
        let mut request = ureq::Agent::new_with_config(config.build()).get(url);
        if let Some(key) = key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        if let Some(range) = range {
            request = request.header("Range", range);
        }
        let mut answer = request.call().expect("an answer");
        let field = |name: &str| {
            let value = answer.headers().get(name);
            value.map_or_else(String::new, |value| {
                value.to_str().expect("text").to_owned()
            })
        };
        Answer {
            status: answer.status().as_u16(),
            range: field("content-range"),
            kind: field("content-type"),
            body: answer.body_mut().read_to_vec().expect("a whole body"),
        }
    }

    fn whole(&self, name: &str) -> Answer {
        let answer = self.get(name, None, Some(&self.key));
        assert_eq!(answer.status, 200, "{name}");
        assert_eq!(self.get(name, None, None).status, 401, "{name}");
        answer
    }

    fn part(&self, name: &str, range: &str) -> Answer {
        self.get(name, Some(range), Some(&self.key))
    }
}

fn channels(wav: &[u8]) -> Vec<Vec<i16>> {
    let reader = hound::WavReader::new(Cursor::new(wav)).expect("a WAV file");
    let count = usize::from(reader.spec().channels);
    let mut channels = vec![Vec::new(); count];
    for (index, sample) in reader.into_samples::<i16>().enumerate() {
        channels[index % count].push(sample.expect("a whole file"));
    }
    channels
}

/// Ranges of a file are the bytes of the whole, wherever they begin and end.
fn ranges_fit(files: &Files<'_>, name: &str, whole: &[u8]) {
    let total = whole.len();
    let cases = [
        // The header alone, across its end, odd bytes far inside, the end, and beyond it.
        ("bytes=0-43".to_owned(), 0..44),
        ("bytes=40-50".to_owned(), 40..51),
        ("bytes=16385-49158".to_owned(), 16_385..49_159),
        (format!("bytes={}-", total - 7), total - 7..total),
        ("bytes=-9".to_owned(), total - 9..total),
        (format!("bytes=100-{}", total * 2), 100..total),
    ];
    for (range, bytes) in cases {
        let part = files.part(name, &range);
        assert_eq!(part.status, 206, "{name} {range}");
        let (first, last) = (bytes.start, bytes.end - 1);
        assert_eq!(part.range, format!("bytes {first}-{last}/{total}"));
        assert!(part.body == whole[bytes], "{name} {range}");
    }
    let beyond = files.part(name, &format!("bytes={total}-"));
    assert_eq!((beyond.status, beyond.body.len()), (416, 0), "{name}");
    assert_eq!(beyond.range, format!("bytes */{total}"));
    let unclear = files.part(name, "bytes=9-1");
    assert_eq!((unclear.status, unclear.body.len()), (200, total), "{name}");
}

fn recordings_fit(files: &Files<'_>, record: &Record) {
    let kept = Sound::read(&files.server.data.join(record.text("recording"))).channels;
    let [customer, assistant] = kept.as_slice() else {
        panic!("both sides");
    };
    let mixed = customer.iter().zip(assistant);
    let mixed: Vec<i16> = mixed
        .map(|(one, other)| one.saturating_add(*other))
        .collect();
    let expected = [
        ("stereo-recording", kept.clone()),
        ("mono-recording", vec![mixed]),
        ("customer-recording", vec![customer.clone()]),
        ("assistant-recording", vec![assistant.clone()]),
    ];
    for (name, sound) in expected {
        let whole = files.whole(name);
        assert_eq!(whole.kind, "audio/wav");
        assert!(channels(&whole.body) == sound, "{name}");
        ranges_fit(files, name, &whole.body);
    }
}

/// What happened, in the order of time.
fn log_fits(files: &Files<'_>) {
    let log = String::from_utf8(files.whole("call-logs").body).expect("text");
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let times: Vec<&str> = lines
        .iter()
        .filter_map(|line| line["time"].as_str())
        .collect();
    assert_eq!(times.len(), lines.len(), "{log}");
    assert!(times.is_sorted(), "{log}");
    let kinds: BTreeSet<&str> = lines
        .iter()
        .filter_map(|line| line["kind"].as_str())
        .collect();
    assert!(
        kinds.is_superset(&BTreeSet::from(["sip", "message", "turn", "end"])),
        "{log}"
    );
    let first = lines[0]["message"].as_str().unwrap_or_default();
    assert!(first.starts_with("INVITE "), "{log}");
}

/// What the model says of the call, in the API and at the command line.
fn analysis_fits(server: &Server, files: &Files<'_>) {
    let shown = until("an analysis", ANALYSIS, || {
        let answer = files.get("", None, Some(&files.key));
        let call: Value = serde_json::from_slice(&answer.body).expect("JSON");
        call["analysis"]["summary"].is_string().then_some(call)
    });
    let analysis = &shown["analysis"];
    let success = analysis["successEvaluation"].as_str().expect("a verdict");
    assert!(matches!(success, "true" | "false"), "{analysis}");
    let told = server.call(files.id);
    assert_eq!(&told.0["analysis"], analysis);
    let people = server.call_for_people(files.id);
    let summary = analysis["summary"].as_str().unwrap_or_default();
    let first = summary.lines().next().unwrap_or_default();
    assert!(people.contains(&format!("summary    {first}")), "{people}");
    assert!(
        people.contains(&format!("success    {success}")),
        "{people}"
    );
}

#[test]
fn a_finished_call_is_fetched_in_every_form_whole_and_in_parts() {
    let _peace = in_peace();
    let server = Setup::new("files")
        .file(
            r#"
            [assistants.reception]
            firstMessage = "Hello there."
            [assistants.reception.model]
            systemPrompt = "You are the receptionist of a small shop. Answer with one short sentence."
            maxTokens = 30
            [assistants.reception.analysisPlan]
            summaryPlan = {}
            successEvaluationPlan = { rubric = "PassFail" }
            "#,
        )
        .start_ready();
    let (_, record) =
        server.record_of(|| softphone::call(&server, "reception", &[speech("order_status")], &[]));
    let key = server.told(&["api-key", "create", "--name", "files"]);
    let id = record.text("id");
    let files = Files {
        server: &server,
        id,
        key: key["key"].as_str().expect("a key").to_owned(),
    };
    recordings_fit(&files, &record);
    log_fits(&files);
    let transcript = String::from_utf8(files.whole("transcript").body).expect("text");
    let heard = crate::support::record::words(&transcript);
    let said = "Hello there. I'd like to check my order status, please.";
    assert!(share_understood(said, &heard) > 0.7, "{transcript}");
    let capture = files.whole("pcap");
    let file = server.path("call.pcap");
    calls(&server, &["pcap", id, &file.display().to_string()]);
    assert!(capture.body == std::fs::read(&file).expect("a capture"));
    analysis_fits(&server, &files);
}
