use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

use super::*;
use crate::audio::{SampleRate, Sound};
use crate::engines::Priority;
use crate::engines::stt::{Effort, TranscribeRequest};

type Socket = WebSocketStream<TcpStream>;

fn with_server(base: &str, deadlines: ProviderDeadlines) -> Hosted {
    Hosted::new(Providers {
        deepgram: provider(base, deadlines),
        ..Providers::default()
    })
    .unwrap()
}

fn equipped(hosted: &Hosted, stt: &Stt) -> Stt {
    let settings = settings(r#"{"transcriber": {"provider": "deepgram"}}"#);
    hosted.equip(&settings, stt, &local::llm(), &local::tts()).0
}

/// A second of sound.
fn speech() -> TranscribeRequest {
    TranscribeRequest {
        call: call(),
        generation: generation(),
        priority: Priority::Waiting,
        audio: Sound {
            rate: SampleRate::TELEPHONE,
            samples: vec![1000i16; 8000].into(),
        },
        hint: None,
        effort: Effort::Full,
        language: None,
    }
}

/// Takes one connection after another and lets `behave` serve each, with its number.
async fn serve_with<F>(behave: impl Fn(Socket, u32) -> F + Send + 'static) -> String
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut number = 0;
        while let Ok((stream, _)) = listener.accept().await {
            #[allow(clippy::result_large_err, reason = "tungstenite's signature")]
            let check = |request: &Request, response: Response| {
                assert_eq!(request.headers()["authorization"], "Token a-key");
                assert_eq!(request.uri().path(), "/v1/listen");
                Ok(response)
            };
            let socket = tokio_tungstenite::accept_hdr_async(stream, check).await;
            tokio::spawn(behave(socket.unwrap(), number));
            number += 1;
        }
    });
    format!("ws://{address}")
}

/// Samples received until the client wants them heard; `None` where it has closed.
async fn listen(socket: &mut Socket) -> Option<usize> {
    let mut bytes = 0;
    loop {
        match socket.next().await?.ok()? {
            Message::Binary(audio) => bytes += audio.len(),
            Message::Text(text) if text.contains("Finalize") => return Some(bytes / 2),
            Message::Text(text) if text.contains("CloseStream") => return None,
            _ => {}
        }
    }
}

async fn say(socket: &mut Socket, message: serde_json::Value) {
    let sent = socket.send(Message::text(message.to_string())).await;
    sent.unwrap();
}

fn results(start: f64, duration: f64, text: &str, from_finalize: bool) -> serde_json::Value {
    json!({"type": "Results", "channel_index": [0, 1], "start": start, "duration": duration,
        "is_final": true, "speech_final": true, "from_finalize": from_finalize,
        "channel": {"alternatives": [{"transcript": text, "confidence": 0.9, "words": []}]}})
}

async fn heard(stt: &Stt) -> (String, Vec<&'static str>) {
    let (sender, mut events) = mpsc::channel(16);
    let _handle = stt.transcribe(speech(), sender).unwrap();
    let mut labels = Vec::new();
    loop {
        match next(&mut events).await {
            EngineEvent::FellBack { error, .. } => labels.push(error.label()),
            EngineEvent::Transcript { result, .. } => return (result.unwrap().text, labels),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn one_connection_hears_the_whole_call_and_is_closed_with_it() {
    let (closed, mut was_closed) = mpsc::channel(1);
    let url = serve_with(move |mut socket, number| {
        let closed = closed.clone();
        async move {
            assert_eq!(number, 0, "one connection for all");
            let mut at = 0.0;
            while let Some(samples) = listen(&mut socket).await {
                assert_eq!(samples, 16_000, "a second at the rate that was agreed");
                let half = results(at, 0.5, "I would like", false);
                say(&mut socket, half).await;
                let rest = results(at + 0.5, 0.5, &format!("room {at}."), true);
                say(&mut socket, rest).await;
                at += 1.0;
            }
            closed.send(()).await.unwrap();
        }
    })
    .await;
    let hosted = with_server(&url, patient());
    let stt = equipped(&hosted, &local::stt());
    for text in ["I would like room 0.", "I would like room 1."] {
        assert_eq!(heard(&stt).await, (text.to_owned(), vec![]));
    }
    drop(stt);
    let closed = tokio::time::timeout(PATIENCE, was_closed.recv()).await;
    assert_eq!(closed.unwrap(), Some(()));
}

#[tokio::test]
async fn a_connection_that_is_gone_is_made_again_for_the_next_utterance() {
    let url = serve_with(|mut socket, number| async move {
        if listen(&mut socket).await.is_some() && number == 1 {
            say(&mut socket, results(0.0, 1.0, "Again.", true)).await;
            listen(&mut socket).await;
        }
        // The first connection is cut in the middle of its utterance.
    })
    .await;
    let hosted = with_server(&url, patient());
    let stt = equipped(&hosted, &local::stt());
    assert_eq!(heard(&stt).await, (local::LOCAL_WORDS.into(), vec!["cut"]));
    assert_eq!(heard(&stt).await, ("Again.".into(), vec![]));
}

#[tokio::test]
async fn a_recogniser_that_fails_leaves_the_utterance_to_the_local_one() {
    let stt = local::stt();
    let mute_after_audio =
        serve_with(|mut socket, _| async move { while listen(&mut socket).await.is_some() {} })
            .await;
    let noise = serve_with(|mut socket, _| async move {
        listen(&mut socket).await;
        let sent = socket.send(Message::text("<html>")).await;
        sent.unwrap();
        listen(&mut socket).await;
    })
    .await;
    let page = serve(Router::new()).await.replace("http", "ws");
    let refuses = axum::routing::any(async || axum::http::StatusCode::UNAUTHORIZED);
    let refuses = serve(Router::new().route("/v1/listen", refuses)).await;
    for (url, label, deadlines) in [
        (mute_after_audio, "first_timed_out", hasty()),
        (noise, "garbage", patient()),
        (page, "status", patient()),
        (refuses.replace("http", "ws"), "unauthorised", patient()),
        (format!("ws://{}", nobody().await), "unreachable", patient()),
    ] {
        let hosted = with_server(&url, deadlines);
        let (text, labels) = heard(&equipped(&hosted, &stt)).await;
        assert_eq!(text, local::LOCAL_WORDS, "{label}");
        assert_eq!(labels, [label]);
    }
    let slow = ProviderDeadlines {
        connect_seconds: Some(0.2),
        ..patient()
    };
    let hosted = with_server(&format!("ws://{}", mute().await), slow);
    let labels = heard(&equipped(&hosted, &stt)).await.1;
    assert_eq!(labels, ["connect_timed_out"]);
}
