//! ElevenLabs' streamed speech (`POST /v1/text-to-speech/{voice}/stream`): a clause in, 16-bit
//! samples at 16 kHz out, in chunks.

use std::sync::Arc;

use reqwest::Response;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use serde::Serialize;
use tokio::sync::mpsc;
use url::Url;

use super::breaker::Gate;
use super::error::{HostedError, Stage};
use super::request::{self, Clock};
use super::settings::Deadlines;
use crate::audio::{SampleRate, Sound, shape};
use crate::engines::supervisor::RequestHandle;
use crate::engines::tts::{SpeakRequest, Tts};
use crate::engines::{EngineError, EngineEvent};
use crate::web::Client;

/// Two minutes of speech: twice what the longest text takes.
const LONGEST_AUDIO: usize = 120 * 16_000 * 2;
/// What ElevenLabs allows.
const SPEEDS: std::ops::RangeInclusive<f32> = 0.7..=1.2;

/// One voice.
#[derive(Debug)]
pub(crate) struct Voice {
    pub(super) client: Client,
    /// With the voice and the format.
    pub(super) url: Url,
    /// The key.
    pub(super) headers: HeaderMap,
    pub(super) model: String,
    /// The assistant's.
    pub(super) speed: f32,
    pub(super) deadlines: Deadlines,
    pub(super) gate: Gate,
}

#[derive(Serialize)]
struct Body<'a> {
    text: &'a str,
    model_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    voice_settings: Option<VoiceSettings>,
}

#[derive(Serialize)]
struct VoiceSettings {
    speed: f32,
}

impl Voice {
    /// Speaks a clause. What comes back is as from [`Tts::speak`], with a
    /// [`EngineEvent::FellBack`] where `local` has to speak.
    pub(crate) fn speak(
        self: &Arc<Self>,
        local: Tts,
        request: SpeakRequest,
        events: mpsc::Sender<EngineEvent>,
    ) -> RequestHandle {
        let voice = Arc::clone(self);
        request::start(request.priority, |serving| async move {
            let (generation, clause) = (request.generation, request.clause);
            let asked = voice.clause(&request.text, request.speed, request.rate);
            let error = match asked.await {
                Ok(sound) => {
                    let result = Ok(sound);
                    // Whoever asked may have gone.
                    let _ = events
                        .send(EngineEvent::Speech {
                            generation,
                            clause,
                            result,
                        })
                        .await;
                    return;
                }
                Err(error) => error,
            };
            let event = EngineEvent::FellBack {
                generation,
                engine: "tts",
                error,
            };
            if events.send(event).await.is_err() {
                return;
            }
            let answers = events.clone();
            let asked = serving.fall_back(|priority| {
                let request = SpeakRequest {
                    priority,
                    ..request
                };
                local.speak_here(request, answers)
            });
            if let Err(error) = asked {
                let result = Err(error);
                let _ = events
                    .send(EngineEvent::Speech {
                        generation,
                        clause,
                        result,
                    })
                    .await;
            }
        })
    }

    /// Speaks a phrase that nobody waits for.
    pub(crate) async fn synthesise(
        &self,
        text: &str,
        rate: SampleRate,
    ) -> Result<Sound, EngineError> {
        let spoken = self.clause(text, self.speed, rate).await;
        spoken.map_err(|error| EngineError::Internal {
            detail: error.to_string(),
        })
    }

    async fn clause(&self, text: &str, speed: f32, rate: SampleRate) -> Result<Sound, HostedError> {
        let permit = self.gate.enter()?;
        let spoken = self.audio(text, speed, rate).await;
        match &spoken {
            Ok(_) => permit.served(),
            Err(error) => permit.failed(error),
        }
        spoken
    }

    async fn audio(&self, text: &str, speed: f32, rate: SampleRate) -> Result<Sound, HostedError> {
        let clock = Clock::start(self.deadlines);
        let mut response = clock.within(Stage::First, self.ask(text, speed)).await??;
        let mut bytes = Vec::new();
        loop {
            let stage = match bytes.is_empty() {
                true => Stage::First,
                false => Stage::Between,
            };
            let chunk = clock.within(stage, response.chunk()).await?;
            let Some(chunk) = chunk.map_err(|_| HostedError::Cut)? else {
                break;
            };
            if bytes.len() + chunk.len() > LONGEST_AUDIO {
                return Err(HostedError::Garbage("more audio than the text can take"));
            }
            bytes.extend_from_slice(&chunk);
        }
        if bytes.len() % 2 != 0 {
            return Err(HostedError::Garbage("half a sample"));
        }
        let (pairs, _) = bytes.as_chunks::<2>();
        let samples: Vec<f32> = pairs
            .iter()
            .map(|pair| f32::from(i16::from_le_bytes(*pair)) / 32_768.0)
            .collect();
        let shaped = shape::for_telephone(&samples, SampleRate::WIDEBAND, rate);
        match shaped.is_empty() {
            true => Err(HostedError::Garbage("no sound")),
            false => Ok(Sound {
                rate,
                samples: shaped.into(),
            }),
        }
    }

    async fn ask(&self, text: &str, speed: f32) -> Result<Response, HostedError> {
        let changed = (speed - 1.0).abs() > f32::EPSILON;
        let body = Body {
            text,
            model_id: &self.model,
            voice_settings: changed.then(|| VoiceSettings {
                speed: speed.clamp(*SPEEDS.start(), *SPEEDS.end()),
            }),
        };
        let body = serde_json::to_vec(&body).map_err(|_| HostedError::Garbage("our request"))?;
        let response = self
            .client
            .post(self.url.clone())?
            .headers(self.headers.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(body)
            .send()
            .await
            .map_err(|error| HostedError::of_request(&error))?;
        if let Some(error) = HostedError::of_status(response.status(), response.headers()) {
            return Err(error);
        }
        match is_text(response.headers()) {
            true => Err(HostedError::Garbage("text in place of audio")),
            false => Ok(response),
        }
    }
}

fn is_text(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("text/") || value.starts_with("application/json"))
}
