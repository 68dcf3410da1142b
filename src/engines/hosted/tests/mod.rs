//! Hosted engines over real HTTP and WebSocket, and the local ones that take over.

mod chat;
mod local;
mod recogniser;
mod voice;

use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::engines::EngineEvent;
use crate::ids::{CallId, Generation};

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Serves on loopback; the address as a URL without a path.
async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

/// Takes connections and never says a word.
async fn mute() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            open.push(stream);
        }
    });
    address.to_string()
}

/// An address where nobody listens.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

fn settings(json: &str) -> AssistantSettings {
    let settings: AssistantSettings = serde_json::from_str(json).unwrap();
    assert_eq!(settings.mistakes(), [], "the test's own settings");
    settings
}

/// Deadlines that a test waits for, and others that it never reaches.
fn hasty() -> ProviderDeadlines {
    ProviderDeadlines {
        first_seconds: Some(0.2),
        between_seconds: Some(0.2),
        ..patient()
    }
}

fn patient() -> ProviderDeadlines {
    ProviderDeadlines {
        connect_seconds: Some(20.0),
        first_seconds: Some(20.0),
        between_seconds: Some(20.0),
        whole_seconds: Some(20.0),
    }
}

fn provider(url: &str, deadlines: ProviderDeadlines) -> Provider {
    Provider {
        api_key: Some(ApiKey::new("a-key")),
        url: Some(url.parse().unwrap()),
        deadlines,
    }
}

fn call() -> CallId {
    CallId::from_random([7; 16])
}

fn generation() -> Generation {
    Generation::from_raw(5)
}

async fn next(events: &mut mpsc::Receiver<EngineEvent>) -> EngineEvent {
    let event = tokio::time::timeout(PATIENCE, events.recv()).await;
    let event = event.expect("an event in time").expect("an event");
    assert_eq!(event.generation().get(), 5);
    event
}

#[tokio::test]
async fn what_an_assistant_names_without_a_key_is_served_here() {
    let hosted = Hosted::new(Providers::default()).unwrap();
    let settings = settings(
        r#"{"model": {"provider": "openai", "model": "gpt-4.1-mini"},
            "voice": {"provider": "11labs", "voiceId": "v"},
            "transcriber": {"provider": "deepgram"}}"#,
    );
    for (part, name) in [
        ("model", "openai"),
        ("transcriber", "deepgram"),
        ("voice", "11labs"),
    ] {
        assert!(!hosted.shared.providers.serves(part, name), "{name}");
    }
    assert!(hosted.chat_model(&settings).is_none());
    assert!(hosted.listener(&settings).is_none());
    assert!(hosted.voice(&settings).is_none());
}
