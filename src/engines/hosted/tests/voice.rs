use std::io;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, RawQuery};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::post;
use futures_util::stream;
use serde_json::{Value, json};

use super::*;
use crate::audio::SampleRate;
use crate::audio::level::rms_dbfs;
use crate::engines::Priority;
use crate::engines::tts::SpeakRequest;

fn with_server(base: &str, deadlines: ProviderDeadlines) -> Hosted {
    Hosted::new(Providers {
        eleven_labs: provider(base, deadlines),
        ..Providers::default()
    })
    .unwrap()
}

fn clause(speed: f32) -> SpeakRequest {
    SpeakRequest {
        call: call(),
        generation: generation(),
        clause: 3,
        text: "We open at nine.".into(),
        priority: Priority::Waiting,
        speed,
        rate: SampleRate::TELEPHONE,
    }
}

fn assistant() -> AssistantSettings {
    settings(r#"{"voice": {"provider": "11labs", "voiceId": "a/b?c"}}"#)
}

/// A second of a quiet tone, as bytes.
fn tone() -> Vec<u8> {
    let sample = |n: u32| (f64::from(n) * 0.3).sin() * 300.0;
    (0..16_000)
        .flat_map(|n| (sample(n) as i16).to_le_bytes())
        .collect()
}

async fn speak(hosted: &Hosted, tts: &Tts) -> (Vec<i16>, Vec<&'static str>) {
    let (sender, mut events) = mpsc::channel(16);
    let (_, _, tts) = hosted.equip(&assistant(), &local::stt(), &local::llm(), tts);
    let _handle = tts.speak(clause(1.5), sender).unwrap();
    let mut labels = Vec::new();
    loop {
        match next(&mut events).await {
            EngineEvent::FellBack { error, .. } => labels.push(error.label()),
            EngineEvent::Speech { clause, result, .. } => {
                assert_eq!(clause, 3);
                return (result.unwrap().samples.to_vec(), labels);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_clause_comes_in_chunks_and_is_made_as_loud_as_a_local_one() {
    let (asked, mut requests) = mpsc::channel(1);
    let router = Router::new().route(
        "/v1/text-to-speech/{voice}/stream",
        post(
            async move |Path(voice): Path<String>,
                        RawQuery(query): RawQuery,
                        headers: HeaderMap,
                        Json(body): Json<Value>| {
                asked.send((voice, query, headers, body)).await.unwrap();
                // Chunks that end within a sample.
                let chunks: Vec<_> = tone()
                    .chunks(333)
                    .map(|chunk| Ok::<_, io::Error>(Bytes::copy_from_slice(chunk)))
                    .collect();
                Response::builder()
                    .header("content-type", "audio/pcm")
                    .body(Body::from_stream(stream::iter(chunks)))
                    .unwrap()
            },
        ),
    );
    let hosted = with_server(&serve(router).await, patient());
    let (samples, labels) = speak(&hosted, &local::tts()).await;
    assert!(labels.is_empty(), "{labels:?}");
    assert!((7800..=8000).contains(&samples.len()), "{}", samples.len());
    let level = rms_dbfs(&samples[800..7200]);
    assert!((level + 20.0).abs() < 1.0, "{level} dBFS");
    let (voice, query, headers, body) = requests.recv().await.unwrap();
    assert_eq!(
        voice, "a/b?c",
        "no voice's name leaves its place in the path"
    );
    assert_eq!(query.as_deref(), Some("output_format=pcm_16000"));
    assert_eq!(headers["xi-api-key"], "a-key");
    let speed = body["voice_settings"]["speed"].as_f64().unwrap();
    assert!((speed - 1.2).abs() < 1e-6, "as fast as ElevenLabs allows");
    assert_eq!(body["text"], json!("We open at nine."));
    assert_eq!(body["model_id"], json!("eleven_flash_v2_5"));
}

#[tokio::test]
async fn every_way_to_fail_is_spoken_by_the_local_voice() {
    let path = |name: &str| format!("/{name}/v1/text-to-speech/{{voice}}/stream");
    let refused = || async { Response::builder().status(401).body(Body::empty()).unwrap() };
    let text = || async { Json(json!({"detail": {"status": "quota_exceeded"}})) };
    let half = || async { Response::new(Body::from(vec![1u8; 801])) };
    let silence = || async { Response::new(Body::from(vec![0u8; 8000])) };
    let cut = || async {
        let parts = [Ok(Bytes::from(tone())), Err(io::Error::other("gone"))];
        Response::new(Body::from_stream(stream::iter(parts)))
    };
    let endless = || async {
        let zeros = stream::repeat_with(|| Ok::<_, io::Error>(Bytes::from(vec![9u8; 65_536])));
        Response::new(Body::from_stream(zeros))
    };
    let router = Router::new()
        .route(&path("refused"), post(refused))
        .route(&path("text"), post(text))
        .route(&path("half"), post(half))
        .route(&path("silence"), post(silence))
        .route(&path("cut"), post(cut))
        .route(&path("endless"), post(endless));
    let server = serve(router).await;
    let tts = local::tts();
    for (name, label) in [
        ("refused", "unauthorised"),
        ("text", "garbage"),
        ("half", "garbage"),
        ("silence", "garbage"),
        ("cut", "cut"),
        ("endless", "garbage"),
    ] {
        let hosted = with_server(&format!("{server}/{name}"), patient());
        let (samples, labels) = speak(&hosted, &tts).await;
        assert_eq!(samples, local::LOCAL_SPEECH, "{name}");
        assert_eq!(labels, [label], "{name}");
    }
    let dead = with_server(&format!("http://{}", mute().await), hasty());
    assert_eq!(speak(&dead, &tts).await.1, ["first_timed_out"]);
}
