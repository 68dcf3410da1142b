//! What a call has asked of the engines, and the audio that came back.

use std::collections::HashMap;
use std::time::Duration;

use rand::RngExt;
use tokio::sync::mpsc;

use crate::audio::level::is_audible;
use crate::audio::{SampleRate, Sound};
use crate::conversation::{
    ChatMessage, ChatRole, ClipId, ClipLength, Engine, PhraseKind, PreparedPhrases, Urgency,
};
use crate::engines::llm::{self, GenerateRequest, GenerateSettings, SpeechPrompt};
use crate::engines::stt::{Effort, TranscribeRequest};
use crate::engines::supervisor::RequestHandle;
use crate::engines::tts::SpeakRequest;
use crate::engines::{EngineError, EngineEvent, Priority};
use crate::ids::{CallId, Generation, LanguageCode};
use crate::net::media::ClipKey;

use super::Services;

/// 5 ms at 8 kHz: fine enough to find where a clip becomes audible.
const AUDIBILITY_STEP: usize = 40;

/// Requests by generation, clauses by name, and the keys under which clips play.
pub(super) struct Work {
    call: CallId,
    services: Services,
    events: mpsc::Sender<EngineEvent>,
    requests: HashMap<Generation, Vec<RequestHandle>>,
    clauses: HashMap<(Generation, u32), Sound>,
    texts: HashMap<(Generation, u32), String>,
    phrases: HashMap<PhraseKind, Sound>,
    playing: HashMap<ClipKey, ClipId>,
    /// What the model reads ahead.
    reading: Option<RequestHandle>,
    /// A conversation of the model's beside the call's, as far as the model is concerned.
    beside: Option<(Generation, CallId)>,
    next_key: u64,
    speed: f32,
    /// What the caller is expected to speak.
    language: Option<LanguageCode>,
    pub(super) speculations: Speculations,
}

/// Replies that were begun before a turn was known to be over, since the last turn that was written
/// down.
#[derive(Debug, Default)]
pub(super) struct Speculations {
    pub(super) kept: u32,
    pub(super) dropped: u32,
    pub(super) wasted: Duration,
}

impl Work {
    pub(super) fn new(
        call: CallId,
        services: Services,
        events: mpsc::Sender<EngineEvent>,
        phrases: HashMap<PhraseKind, Sound>,
        speed: f32,
        language: Option<LanguageCode>,
    ) -> Self {
        Self {
            call,
            services,
            events,
            requests: HashMap::new(),
            clauses: HashMap::new(),
            texts: HashMap::new(),
            phrases,
            playing: HashMap::new(),
            reading: None,
            beside: None,
            next_key: 0,
            speed,
            language,
            speculations: Speculations::default(),
        }
    }

    /// Length and lead-in of the phrases that this call can play.
    pub(super) fn prepared(&self) -> PreparedPhrases {
        self.phrases
            .iter()
            .map(|(kind, sound)| (*kind, length(sound)))
            .collect()
    }

    pub(super) fn transcribe(
        &mut self,
        generation: Generation,
        audio: Sound,
        urgency: Urgency,
    ) -> Result<(), EngineError> {
        let request = TranscribeRequest {
            generation,
            call: self.call,
            priority: priority(urgency),
            audio,
            hint: None,
            effort: match urgency {
                Urgency::Glance => Effort::Glance,
                Urgency::Spare | Urgency::Speculative | Urgency::Waited => Effort::Full,
            },
            language: self.language.clone(),
        };
        let handle = self.services.stt.transcribe(request, self.events.clone())?;
        self.keep(generation, handle);
        Ok(())
    }

    pub(super) fn generate(
        &mut self,
        generation: Generation,
        messages: &[ChatMessage],
        settings: GenerateSettings,
        urgency: Urgency,
    ) -> Result<(), EngineError> {
        let request = GenerateRequest {
            generation,
            call: self.call,
            priority: priority(urgency),
            messages: chat_messages(messages),
            settings,
            seed: generation.get(),
        };
        let handle = self.services.llm.generate(request, self.events.clone())?;
        self.keep(generation, handle);
        Ok(())
    }

    /// Has the model write beside the conversation, which stays in its cache.
    pub(super) fn summarise(
        &mut self,
        generation: Generation,
        messages: &[ChatMessage],
        max_tokens: u32,
    ) -> Result<(), EngineError> {
        let beside = CallId::from_random(rand::rng().random());
        self.beside = Some((generation, beside));
        let request = GenerateRequest {
            generation,
            call: beside,
            priority: Priority::Speculative,
            messages: messages.iter().map(chat_message).collect(),
            settings: GenerateSettings {
                max_tokens,
                ..GenerateSettings::default()
            },
            seed: generation.get(),
        };
        let handle = self.services.llm.generate(request, self.events.clone())?;
        self.keep(generation, handle);
        Ok(())
    }

    /// Has the model read ahead, where it has the time.
    pub(super) fn prefill(&mut self, messages: &[ChatMessage]) {
        let read = self
            .services
            .llm
            .prefill(self.call, chat_messages(messages));
        self.reading = read.ok();
    }

    pub(super) fn speak(
        &mut self,
        generation: Generation,
        clause: u32,
        text: String,
        rate: SampleRate,
        urgency: Urgency,
    ) -> Result<(), EngineError> {
        let request = SpeakRequest {
            generation,
            clause,
            call: self.call,
            priority: priority(urgency),
            text: text.clone(),
            speed: self.speed,
            rate,
        };
        let handle = self.services.tts.speak(request, self.events.clone())?;
        self.texts.insert((generation, clause), text);
        self.keep(generation, handle);
        Ok(())
    }

    fn keep(&mut self, generation: Generation, handle: RequestHandle) {
        self.requests.entry(generation).or_default().push(handle);
    }

    /// Speculative work became work that the caller waits for.
    pub(super) fn commit(&self, generation: Generation) {
        for handle in self.requests.get(&generation).into_iter().flatten() {
            handle.promote();
        }
    }

    /// Stops the work of a generation (dropping a handle cancels its request) and forgets its
    /// audio.
    pub(super) fn cancel(&mut self, generation: Generation) {
        if let Some((_, beside)) = self.beside.take_if(|(own, _)| *own == generation) {
            self.services.llm.release(beside);
        }
        self.requests.remove(&generation);
        self.clauses.retain(|(of, _), _| *of != generation);
        self.texts.retain(|(of, _), _| *of != generation);
    }

    /// Whether anything asked under a generation has not been cancelled.
    pub(super) fn is_wanted(&self, generation: Generation) -> bool {
        self.requests.contains_key(&generation)
    }

    /// Keeps a clause's audio until its generation is cancelled. `None` where it was cancelled
    /// already.
    pub(super) fn spoken(
        &mut self,
        generation: Generation,
        clause: u32,
        sound: Sound,
    ) -> Option<ClipLength> {
        self.requests.contains_key(&generation).then(|| {
            let length = length(&sound);
            self.clauses.insert((generation, clause), sound);
            length
        })
    }

    /// A key and the sound to play for a clip; `None` where there is no such audio.
    pub(super) fn clip(&mut self, clip: ClipId) -> Option<(ClipKey, Sound)> {
        let sound = match clip {
            ClipId::Phrase(kind) => self.phrases.get(&kind),
            ClipId::Clause { generation, clause } => self.clauses.get(&(generation, clause)),
        }?
        .clone();
        let key = ClipKey(self.next_key);
        self.next_key += 1;
        self.playing.insert(key, clip);
        Some((key, sound))
    }

    /// What a clause says.
    pub(super) fn text(&self, clip: ClipId) -> Option<String> {
        match clip {
            ClipId::Clause { generation, clause } => self.texts.get(&(generation, clause)).cloned(),
            ClipId::Phrase(_) => None,
        }
    }

    /// The clip that plays under a key.
    pub(super) fn playing(&self, key: ClipKey) -> Option<ClipId> {
        self.playing.get(&key).copied()
    }

    /// A clip was played to its end.
    pub(super) fn played(&mut self, key: ClipKey) {
        self.playing.remove(&key);
    }

    /// Playback was stopped: no clip plays any more.
    pub(super) fn silenced(&mut self) {
        self.playing.clear();
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Some((_, beside)) = self.beside.take() {
            self.services.llm.release(beside);
        }
    }
}

/// The word for an engine in metrics.
pub(super) fn engine_name(engine: Engine) -> &'static str {
    match engine {
        Engine::Stt => "stt",
        Engine::Llm => "llm",
        Engine::Tts => "tts",
    }
}

fn priority(urgency: Urgency) -> Priority {
    match urgency {
        Urgency::Spare => Priority::Spare,
        Urgency::Speculative => Priority::Speculative,
        Urgency::Glance | Urgency::Waited => Priority::Waiting,
    }
}

/// The conversation as the engine reads it, its instructions made fit for speech.
pub fn chat_messages(messages: &[ChatMessage]) -> Vec<llm::ChatMessage> {
    let speech = SpeechPrompt::default();
    let mut first = true;
    let convert = |message: &ChatMessage| match message.role {
        ChatRole::System if std::mem::take(&mut first) => speech.system_message(&message.content),
        ChatRole::System | ChatRole::User | ChatRole::Assistant => chat_message(message),
    };
    messages.iter().map(convert).collect()
}

fn chat_message(message: &ChatMessage) -> llm::ChatMessage {
    let role = match message.role {
        ChatRole::System => llm::ChatRole::System,
        ChatRole::User => llm::ChatRole::User,
        ChatRole::Assistant => llm::ChatRole::Assistant,
    };
    llm::ChatMessage::new(role, message.content.clone())
}

/// In samples at 8 kHz.
fn length(sound: &Sound) -> ClipLength {
    let step = (sound.rate.hz() / SampleRate::TELEPHONE.hz()).max(1) as usize * AUDIBILITY_STEP;
    let quiet = sound
        .samples
        .chunks(step)
        .take_while(|chunk| !is_audible(chunk))
        .count();
    let count = |samples: usize| u32::try_from(samples).unwrap_or(u32::MAX);
    ClipLength {
        samples: count(sound.telephone_samples()),
        audible_from: count((quiet * AUDIBILITY_STEP).min(sound.telephone_samples())),
    }
}
