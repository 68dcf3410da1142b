//! Engines elsewhere and assistants' servers, both as programs that come and go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::post;
use serde_json::{Value, json};

use crate::in_peace;
use crate::support::program::{Program, Told, receiver};
use crate::support::server::Setup;
use crate::support::softphone::call;
use crate::support::{speech, tcp_port, until};

const REPLY: &str = "We open at nine sharp.";

/// OpenAI's chat completions and ElevenLabs' speech, at one address.
fn providers() -> Router {
    let chat = || async {
        let chunk = json!({"choices": [{"delta": {"content": REPLY}, "finish_reason": "stop"}]});
        Response::builder()
            .header("content-type", "text/event-stream")
            .body(Body::from(format!("data: {chunk}\n\ndata: [DONE]\n\n")))
            .expect("an answer")
    };
    let voice = || async {
        let tone = (0..16_000u32).flat_map(|n| {
            let sample = (f64::from(n) * 0.2).sin() * 8000.0;
            (sample as i16).to_le_bytes()
        });
        Response::new(Body::from(tone.collect::<Vec<u8>>()))
    };
    Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/v1/text-to-speech/{voice}/stream", post(voice))
}

#[test]
fn a_call_goes_on_without_the_hosted_engines_and_its_server_is_told_when_it_is_back() {
    let _peace = in_peace();
    let (hosted, hook) = (tcp_port(), tcp_port());
    let program = Program::serve(hosted, providers());
    let server = Setup::new("hosted")
        .file(&format!(
            r#"
            [providers.custom-llm]
            url = "http://127.0.0.1:{hosted}/v1"
            [providers.11labs]
            api_key = "a-key"
            url = "http://127.0.0.1:{hosted}"
            [webhooks]
            allow = ["127.0.0.0/8"]
            [assistants.reception]
            firstMessage = "Hello there."
            serverMessages = ["status-update", "transcript", "end-of-call-report"]
            model = {{ provider = "custom-llm", model = "any", systemPrompt = "Be brief.", maxTokens = 20 }}
            voice = {{ provider = "11labs", voiceId = "any" }}
            server = {{ url = "http://127.0.0.1:{hook}/hook", secret = "secret" }}
            analysisPlan = {{ summaryPlan = {{ }} }}
            "#
        ))
        .start_ready();
    let lines = [speech("order_status")];
    let (report, record) = server.record_of(|| call(&server, "reception", &lines, &[]));
    assert!(report.unanswered().is_empty(), "{:#}", record.0);
    let said = record.said_by("bot");
    assert!(
        said.iter().any(|message| message.text == REPLY),
        "{:#}",
        record.0
    );
    assert!(
        record
            .turns()
            .iter()
            .all(|turn| turn["fallbacks"].is_null()),
        "{:#}",
        record.0
    );

    drop(program);
    let (report, without) = server.record_of(|| call(&server, "reception", &lines, &[]));
    assert!(report.unanswered().is_empty(), "{:#}", without.0);
    assert!(
        without.said_by("bot").len() > 1,
        "the local model answers: {:#}",
        without.0
    );
    let turns = without.turns();
    let fell_back = |engine: &str| {
        let mut all = turns.iter().filter_map(|turn| turn["fallbacks"].as_array());
        all.any(|of| of.iter().any(|fallback| fallback["engine"] == engine))
    };
    assert!(fell_back("llm") && fell_back("tts"), "{:#}", without.0);

    let told = Told::default();
    let _receiver = Program::serve(hook, receiver(Arc::clone(&told)));
    let reports = || {
        let told = told.lock().expect("no panic");
        let reports = told.iter().filter(|m| m["type"] == "end-of-call-report");
        (reports.count() == 2).then(|| told.clone())
    };
    let told = until("both reports", Duration::from_secs(240), reports);
    let mut calls: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for message in told {
        let id = message["call"]["id"].as_str().expect("an id").to_owned();
        calls.entry(id).or_default().push(message);
    }
    assert_eq!(calls.len(), 2);
    for record in [&record, &without] {
        let messages = &calls[record.text("id")];
        let kinds: Vec<_> = messages.iter().filter_map(|m| m["type"].as_str()).collect();
        assert_eq!(kinds[0], "status-update");
        assert_eq!(
            kinds[kinds.len() - 2..],
            ["status-update", "end-of-call-report"]
        );
        let transcripts = kinds.iter().filter(|kind| **kind == "transcript");
        let kept = record.0["messages"].as_array().expect("messages").len();
        assert_eq!(transcripts.count(), kept);
        let report = messages.last().expect("the report");
        let summary = report["analysis"]["summary"].as_str().unwrap_or_default();
        assert!(!summary.is_empty(), "{report:#}");
        assert_eq!(
            report["artifact"]["messages"].as_array().map(Vec::len),
            Some(kept)
        );
    }
}
