use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::post;
use futures_util::stream::{self, Stream, StreamExt};
use serde_json::{Value, json};

use super::*;
use crate::engines::llm::{ChatMessage, ChatRole, GenerateRequest, GenerateSettings};
use crate::engines::{FinishReason, Priority};

fn with_server(base: &str, deadlines: ProviderDeadlines) -> Hosted {
    Hosted::new(Providers {
        custom_llm: provider(&format!("{base}/v1"), deadlines),
        ..Providers::default()
    })
    .unwrap()
}

fn assistant() -> AssistantSettings {
    settings(r#"{"model": {"provider": "custom-llm", "model": "m"}}"#)
}

fn question() -> GenerateRequest {
    GenerateRequest {
        generation: generation(),
        call: call(),
        priority: Priority::Speculative,
        messages: vec![
            ChatMessage::new(ChatRole::System, "Be kind."),
            ChatMessage::new(ChatRole::User, "When do you open?"),
        ],
        settings: GenerateSettings::default(),
        seed: 1,
    }
}

fn chunk(content: &str, finish: Option<&str>) -> String {
    let chunk = json!({"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{"index": 0, "delta": {"content": content}, "finish_reason": finish}]});
    format!("data: {chunk}\n\n")
}

fn events_of(stream: impl Stream<Item = Result<String, io::Error>> + Send + 'static) -> Response {
    Response::builder()
        .header("content-type", "text/event-stream; charset=utf-8")
        .body(Body::from_stream(stream))
        .unwrap()
}

fn whole(parts: Vec<String>) -> Response {
    events_of(stream::iter(parts.into_iter().map(Ok)))
}

/// What the caller would hear: the text, and the labels of fallbacks.
async fn answer(hosted: &Hosted, llm: &Llm) -> (String, Vec<&'static str>) {
    let (sender, mut events) = mpsc::channel(16);
    let handle = hosted
        .equip_model(&assistant(), llm)
        .generate(question(), sender)
        .unwrap();
    let mut text = String::new();
    let mut labels = Vec::new();
    loop {
        match next(&mut events).await {
            EngineEvent::ReplyText { text: piece, .. } => text.push_str(&piece),
            EngineEvent::FellBack { error, .. } => labels.push(error.label()),
            EngineEvent::ReplyDone { .. } => break,
            other => panic!("{other:?}"),
        }
    }
    drop(handle);
    (text, labels)
}

#[tokio::test]
async fn a_reply_comes_in_pieces_and_the_request_is_as_documented() {
    let (asked, mut requests) = mpsc::channel(1);
    let router = Router::new().route(
        "/v1/chat/completions",
        post(async move |headers: HeaderMap, Json(body): Json<Value>| {
            asked.send((headers, body)).await.unwrap();
            whole(vec![
                ": hello\n\n".into(),
                chunk("", None),
                chunk("We open ", None),
                chunk("at nine.", None),
                chunk("", Some("length")),
                "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":5}}\n\n"
                    .into(),
                "data: [DONE]\n\n".into(),
            ])
        }),
    );
    let hosted = with_server(&serve(router).await, patient());
    let (sender, mut events) = mpsc::channel(16);
    let _handle = hosted
        .equip_model(&assistant(), &local::llm())
        .generate(question(), sender)
        .unwrap();
    let mut pieces = Vec::new();
    let (finish, usage) = loop {
        match next(&mut events).await {
            EngineEvent::ReplyText { text, .. } => pieces.push(text),
            EngineEvent::ReplyDone { finish, usage, .. } => break (finish, usage),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(pieces, ["We open ", "at nine."]);
    assert_eq!(finish, FinishReason::Length);
    assert_eq!((usage.prompt_tokens, usage.completion_tokens), (12, 5));
    let (headers, body) = requests.recv().await.unwrap();
    assert_eq!(headers["authorization"], "Bearer a-key");
    assert_eq!(body["model"], "m");
    assert_eq!(body["stream"], true);
    assert_eq!(body["max_tokens"], 160);
    assert_eq!(
        body["messages"],
        json!([{"role": "system", "content": "Be kind."},
            {"role": "user", "content": "When do you open?"}])
    );
}

#[tokio::test]
async fn openai_is_asked_in_its_own_words() {
    let (asked, mut requests) = mpsc::channel(1);
    let router = Router::new().route(
        "/v1/chat/completions",
        post(async move |Json(body): Json<Value>| {
            asked.send(body).await.unwrap();
            whole(vec![chunk("Yes.", Some("stop"))])
        }),
    );
    let url = format!("{}/v1/", serve(router).await);
    let hosted = Hosted::new(Providers {
        openai: provider(&url, patient()),
        ..Providers::default()
    })
    .unwrap();
    let settings = settings(r#"{"model": {"provider": "openai", "model": "gpt-5-mini"}}"#);
    let (sender, mut events) = mpsc::channel(16);
    let _handle = hosted
        .equip_model(&settings, &local::llm())
        .generate(question(), sender)
        .unwrap();
    assert!(matches!(
        next(&mut events).await,
        EngineEvent::ReplyText { .. }
    ));
    let body = requests.recv().await.unwrap();
    assert_eq!(body["max_completion_tokens"], 160);
    assert!(body.get("max_tokens").is_none());
    assert!(
        body.get("temperature").is_none(),
        "a reasoning model takes none"
    );
    // The end without [DONE] is an end all the same, for finish_reason has come.
    assert!(matches!(
        next(&mut events).await,
        EngineEvent::ReplyDone { .. }
    ));
}

#[tokio::test]
async fn the_operators_key_is_not_sent_to_an_assistants_own_server() {
    let (asked, mut requests) = mpsc::channel(1);
    let router = Router::new().route(
        "/chat/completions",
        post(async move |headers: HeaderMap| {
            asked.send(headers).await.unwrap();
            whole(vec![chunk("Yes.", Some("stop"))])
        }),
    );
    let own = serve(router).await;
    let mut providers = Providers {
        custom_llm: provider("http://operators.example/v1", patient()),
        ..Providers::default()
    };
    let refused = Hosted::new(providers.clone()).unwrap();
    providers.allow = vec!["127.0.0.0/8".parse().unwrap()];
    let hosted = Hosted::new(providers).unwrap();
    let settings = settings(&format!(
        r#"{{"model": {{"provider": "custom-llm", "model": "m", "url": "{own}",
            "headers": {{"x-tenant": "seven"}}}}}}"#
    ));
    let (sender, mut events) = mpsc::channel(16);
    let llm = local::llm();
    let handle = refused
        .equip_model(&settings, &llm)
        .generate(question(), sender);
    let event = next(&mut events).await;
    assert!(
        matches!(&event, EngineEvent::FellBack { error, .. } if error.label() == "refused"),
        "no private address without the operator's leave: {event:?}"
    );
    drop(handle);
    let (sender, _events) = mpsc::channel(16);
    let _handle = hosted
        .equip_model(&settings, &llm)
        .generate(question(), sender)
        .unwrap();
    let headers = tokio::time::timeout(PATIENCE, requests.recv()).await;
    let headers = headers.unwrap().unwrap();
    assert_eq!(headers["x-tenant"], "seven");
    assert!(!headers.contains_key("authorization"));
}

#[tokio::test]
async fn every_way_to_fail_is_answered_by_the_local_model_in_the_same_turn() {
    let status = |status: u16| {
        move || async move {
            Response::builder()
                .status(status)
                .header("retry-after", "20")
                .body(Body::from("{\"error\": {\"message\": \"no\"}}"))
                .unwrap()
        }
    };
    let page = || async { Response::new(Body::from("<html>Welcome</html>")) };
    let noise = || async { whole(vec!["data: hello\n\n".into()]) };
    let error = || async { whole(vec!["data: {\"error\":{\"code\":500}}\n\n".into()]) };
    let nothing = || async { whole(vec![chunk("", Some("content_filter"))]) };
    let unfinished = || async { whole(vec!["data: {\"choices\":[]}\n\n".into()]) };
    let router = Router::new()
        .route("/401/v1/chat/completions", post(status(401)))
        .route("/429/v1/chat/completions", post(status(429)))
        .route("/500/v1/chat/completions", post(status(500)))
        .route("/redirect/v1/chat/completions", post(status(302)))
        .route("/page/v1/chat/completions", post(page))
        .route("/noise/v1/chat/completions", post(noise))
        .route("/error/v1/chat/completions", post(error))
        .route("/nothing/v1/chat/completions", post(nothing))
        .route("/unfinished/v1/chat/completions", post(unfinished));
    let server = serve(router).await;
    let llm = local::llm();
    for (path, label) in [
        ("401", "unauthorised"),
        ("429", "rate_limited"),
        ("500", "status"),
        ("redirect", "status"),
        ("page", "garbage"),
        ("noise", "garbage"),
        ("error", "garbage"),
        ("nothing", "garbage"),
        ("unfinished", "cut"),
    ] {
        let hosted = with_server(&format!("{server}/{path}"), patient());
        let (text, labels) = answer(&hosted, &llm).await;
        assert_eq!(text, "[user: When do you open?]", "{path}");
        assert_eq!(labels, [label], "{path}");
    }
    let gone = with_server(&format!("http://{}", nobody().await), patient());
    assert_eq!(answer(&gone, &llm).await.1, ["unreachable"]);
    let dead = with_server(&format!("http://{}", mute().await), hasty());
    assert_eq!(answer(&dead, &llm).await.1, ["first_timed_out"]);
}

#[tokio::test]
async fn a_reply_that_breaks_off_is_continued_by_the_local_model() {
    let cut = || async {
        let first = stream::iter([Ok(chunk("We open at", None))]);
        // Or the server would not even send what came before.
        let gone = stream::once(async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Err(io::Error::other("the cable is out"))
        });
        events_of(first.chain(gone))
    };
    let stalled = || async {
        let first = stream::iter([Ok(chunk("We open at", None))]);
        events_of(first.chain(stream::pending()))
    };
    let router = Router::new()
        .route("/cut/v1/chat/completions", post(cut))
        .route("/stalled/v1/chat/completions", post(stalled));
    let server = serve(router).await;
    let llm = local::llm();
    for (path, label, deadlines) in [
        ("cut", "cut", patient()),
        (
            "stalled",
            "between_timed_out",
            ProviderDeadlines {
                first_seconds: Some(20.0),
                ..hasty()
            },
        ),
    ] {
        let hosted = with_server(&format!("{server}/{path}"), deadlines);
        let (text, labels) = answer(&hosted, &llm).await;
        assert_eq!(text, "We open at[assistant: We open at]", "{path}");
        assert_eq!(labels, [label], "{path}");
    }
}

#[tokio::test]
async fn a_server_that_keeps_failing_is_left_alone_for_a_while() {
    static ASKED: AtomicU32 = AtomicU32::new(0);
    let router = Router::new().route(
        "/v1/chat/completions",
        post(async || {
            ASKED.fetch_add(1, Ordering::SeqCst);
            Response::builder().status(503).body(Body::empty()).unwrap()
        }),
    );
    let hosted = with_server(&serve(router).await, patient());
    let llm = local::llm();
    let mut labels = Vec::new();
    for _ in 0..4 {
        labels.extend(answer(&hosted, &llm).await.1);
    }
    assert_eq!(labels, ["status", "status", "resting", "resting"]);
    assert_eq!(ASKED.load(Ordering::SeqCst), 2);
}

/// Tells when a body is not wanted any more.
struct Told(Option<tokio::sync::oneshot::Sender<()>>);

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.0.take().unwrap().send(());
    }
}

#[tokio::test]
async fn a_turn_that_is_thrown_away_ends_the_request_at_the_server() {
    let (gone, dropped) = tokio::sync::oneshot::channel();
    let told = std::sync::Mutex::new(Some(Told(Some(gone))));
    let told = Arc::new(told);
    let router = Router::new().route(
        "/v1/chat/completions",
        post(async move || {
            let told = told.lock().unwrap().take();
            let first = stream::iter([Ok::<_, Infallible>(Bytes::from(chunk("We", None)))]);
            let endless = first.chain(stream::pending()).map(move |part| {
                let _keep = &told;
                part
            });
            Response::builder()
                .header("content-type", "text/event-stream")
                .body(Body::from_stream(endless))
                .unwrap()
        }),
    );
    let hosted = with_server(&serve(router).await, patient());
    let (sender, mut events) = mpsc::channel(16);
    let handle = hosted
        .equip_model(&assistant(), &local::llm())
        .generate(question(), sender)
        .unwrap();
    assert!(matches!(
        next(&mut events).await,
        EngineEvent::ReplyText { .. }
    ));
    drop(handle);
    tokio::time::timeout(PATIENCE, dropped)
        .await
        .unwrap()
        .unwrap();
    assert!(events.recv().await.is_none(), "and no event follows");
}
