//! Engines that are not on this machine, used only where an assistant names one and its key is
//! configured: OpenAI-compatible chat completions, Deepgram's streaming speech to text,
//! ElevenLabs' streaming text to speech.
//!
//! ```text
//!   Llm::generate ──► chat completions ──► ReplyText, ReplyDone
//!   Stt::transcribe ► Deepgram ──────────► Transcript
//!   Tts::speak ─────► ElevenLabs ────────► Speech
//!                       │
//!                       └─ fails, late, cut, resting: FellBack, then the local engine's events
//! ```
//!
//! A call's handles are exchanged for ones that ask the hosted engine first
//! ([`Hosted::equip`]); what they send back is the same. Every request has deadlines (connection,
//! first piece, between pieces, whole), bounded buffers, and ends when its handle is dropped. A
//! request that fails is served by the local engine within the same turn, and a provider that
//! keeps failing is left alone for a while.

mod breaker;
mod chat;
mod deepgram;
mod eleven_labs;
mod error;
mod listening;
mod request;
mod settings;
mod sse;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::llm::Llm;
use super::stt::Stt;
use super::tts::Tts;
use crate::conversation::settings::AssistantSettings;
use crate::web::{Client, Reach};

use breaker::Gate;
pub(crate) use chat::ChatModel;
use chat::Dialect;
pub(crate) use eleven_labs::Voice;
pub use error::{HostedError, Stage};
pub(crate) use listening::Listener;
use listening::Recogniser;
use settings::Deadlines;
pub use settings::{ApiKey, Provider, ProviderDeadlines, Providers};

/// Connection, first piece, between pieces, whole: in ms, of each kind of engine. A caller who
/// waits for the first three and then for the local engine has heard the holding phrase.
const CHAT: [u64; 4] = [2000, 4000, 3000, 30_000];
const SPEECH_TO_TEXT: [u64; 4] = [2000, 2500, 1500, 6000];
const TEXT_TO_SPEECH: [u64; 4] = [2000, 2500, 1500, 8000];

/// Different servers whose failures are remembered.
const MOST_GATES: usize = 256;

const OPENAI: &str = "https://api.openai.com/v1";
const DEEPGRAM: &str = "wss://api.deepgram.com";
const ELEVEN_LABS: &str = "https://api.elevenlabs.io";

/// What an assistant that names no model gets.
const DEEPGRAM_MODEL: &str = "nova-3";
/// The one made for conversations.
const ELEVEN_LABS_MODEL: &str = "eleven_flash_v2_5";

/// The hosted engines that this server may use. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Hosted {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    providers: Providers,
    openai: Client,
    custom_llm: Client,
    /// For addresses that assistants name.
    public: Client,
    eleven_labs: Client,
    /// By server.
    gates: Mutex<HashMap<String, Gate>>,
}

impl Hosted {
    /// With what the operator configured.
    ///
    /// # Errors
    /// Where TLS cannot be set up.
    pub fn new(providers: Providers) -> Result<Self, reqwest::Error> {
        let client = |provider: &Provider, defaults| {
            let deadlines = Deadlines::of(provider.deadlines, defaults);
            Client::new(Reach::Anywhere, deadlines.connect)
        };
        Ok(Self {
            shared: Arc::new(Shared {
                openai: client(&providers.openai, CHAT)?,
                custom_llm: client(&providers.custom_llm, CHAT)?,
                public: Client::new(
                    Reach::Public {
                        except: providers.allow.clone(),
                    },
                    Deadlines::of(providers.custom_llm.deadlines, CHAT).connect,
                )?,
                eleven_labs: client(&providers.eleven_labs, TEXT_TO_SPEECH)?,
                providers,
                gates: Mutex::default(),
            }),
        })
    }

    /// A call's handles for an assistant: those given, asking a hosted engine first where the
    /// assistant names one that is configured.
    pub fn equip(
        &self,
        settings: &AssistantSettings,
        stt: &Stt,
        llm: &Llm,
        tts: &Tts,
    ) -> (Stt, Llm, Tts) {
        (
            stt.clone().through(self.listener(settings)),
            llm.clone().through(self.chat_model(settings)),
            tts.clone().through(self.voice(settings)),
        )
    }

    /// The handle for an assistant's model alone.
    pub fn equip_model(&self, settings: &AssistantSettings, llm: &Llm) -> Llm {
        llm.clone().through(self.chat_model(settings))
    }

    /// The handle for an assistant's voice alone, and the name of that voice; `None` where it is
    /// the local one.
    pub fn equip_voice(&self, settings: &AssistantSettings, tts: &Tts) -> Option<(Tts, String)> {
        let voice = self.voice(settings)?;
        let name = format!("{} {} {}", voice.url, voice.model, voice.speed);
        Some((tts.clone().through(Some(voice)), name))
    }

    fn chat_model(&self, settings: &AssistantSettings) -> Option<Arc<ChatModel>> {
        let model = &settings.model;
        let providers = &self.shared.providers;
        let (provider, client, dialect, base) = match model.provider.as_deref()? {
            "openai" => {
                let provider = &providers.openai;
                provider.api_key.as_ref()?;
                let base = provider.url.clone().or_else(|| OPENAI.parse().ok());
                (provider, &self.shared.openai, Dialect::OpenAi, base)
            }
            "custom-llm" => {
                let provider = &providers.custom_llm;
                let own = model.url.as_deref().and_then(|url| url.parse().ok());
                let base = own.or_else(|| provider.url.clone());
                (provider, &self.shared.custom_llm, Dialect::Compatible, base)
            }
            _ => return None,
        };
        let url = completions_url(&base?)?;
        let mut headers = header_map(&model.headers);
        // The operator's key goes to the operator's server, never to one of an assistant's own.
        let theirs = provider.url.as_ref().map(Url::origin);
        let ours = dialect == Dialect::OpenAi || theirs == Some(url.origin());
        let client = if ours { client } else { &self.shared.public };
        let key = provider.api_key.as_ref().filter(|_| ours);
        headers.extend(key.and_then(|key| chat::authorization(key.expose())));
        let mut deadlines = Deadlines::of(provider.deadlines, CHAT);
        if let Some(seconds) = model.timeout_seconds {
            let limit = std::time::Duration::from_secs_f64(seconds.clamp(1.0, 300.0));
            deadlines.first = deadlines.first.min(limit);
        }
        Some(Arc::new(ChatModel {
            gate: self.gate(&url),
            client: client.clone(),
            url,
            headers,
            model: model.model.clone()?,
            dialect,
            deadlines,
        }))
    }

    fn listener(&self, settings: &AssistantSettings) -> Option<Arc<Listener>> {
        let transcriber = &settings.transcriber;
        if transcriber.provider.as_deref() != Some("deepgram") {
            return None;
        }
        let provider = &self.shared.providers.deepgram;
        let key = provider.api_key.clone()?;
        let base = provider.url.clone().or_else(|| DEEPGRAM.parse().ok())?;
        let model = transcriber.model.as_deref().unwrap_or(DEEPGRAM_MODEL);
        Some(Listener::start(Recogniser {
            url: deepgram::listen_url(&base, model, &transcriber.language),
            key,
            deadlines: Deadlines::of(provider.deadlines, SPEECH_TO_TEXT),
            gate: self.gate(&base),
        }))
    }

    fn voice(&self, settings: &AssistantSettings) -> Option<Arc<Voice>> {
        let voice = &settings.voice;
        if voice.provider.as_deref() != Some("11labs") {
            return None;
        }
        let provider = &self.shared.providers.eleven_labs;
        let key = provider.api_key.as_ref()?;
        let mut url = provider.url.clone().or_else(|| ELEVEN_LABS.parse().ok())?;
        url.path_segments_mut().ok()?.pop_if_empty().extend([
            "v1",
            "text-to-speech",
            voice.voice_id.as_deref()?,
            "stream",
        ]);
        url.set_query(Some("output_format=pcm_16000"));
        let mut value = HeaderValue::from_str(key.expose()).ok()?;
        value.set_sensitive(true);
        let headers = HeaderMap::from_iter([(HeaderName::from_static("xi-api-key"), value)]);
        let model = voice.model.as_deref().unwrap_or(ELEVEN_LABS_MODEL);
        Some(Arc::new(Voice {
            client: self.shared.eleven_labs.clone(),
            gate: self.gate(&url),
            url,
            headers,
            model: model.to_owned(),
            speed: voice.speed as f32,
            deadlines: Deadlines::of(provider.deadlines, TEXT_TO_SPEECH),
        }))
    }

    /// The memory of a server's failures. Too many servers share none.
    fn gate(&self, url: &Url) -> Gate {
        let mut gates = self
            .shared
            .gates
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let server = url.origin().ascii_serialization();
        match gates.get(&server) {
            Some(gate) => gate.clone(),
            None if gates.len() < MOST_GATES => gates.entry(server).or_default().clone(),
            None => Gate::default(),
        }
    }
}

/// `{base}/chat/completions`, where the base does not say so already.
fn completions_url(base: &Url) -> Option<Url> {
    let mut url = base.clone();
    if !url
        .path()
        .trim_end_matches('/')
        .ends_with("/chat/completions")
    {
        let mut path = url.path_segments_mut().ok()?;
        path.pop_if_empty().extend(["chat", "completions"]);
    }
    Some(url)
}

/// An assistant's own header fields; those that are none were refused with its settings.
fn header_map(fields: &BTreeMap<String, String>) -> HeaderMap {
    let parse = |(name, value): (&String, &String)| {
        let mut value = HeaderValue::from_str(value).ok()?;
        value.set_sensitive(true);
        Some((HeaderName::from_bytes(name.as_bytes()).ok()?, value))
    };
    fields.iter().filter_map(parse).collect()
}

#[cfg(test)]
mod tests;
