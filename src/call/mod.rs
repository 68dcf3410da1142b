//! One task per call: it owns the call's media, its conversation and what is remembered of it.
//!
//! ```text
//!             ┌─ inbound: admission, offer, port, row, file ─▶ 180, 200
//! Incoming ──▶│
//!             └─ refused: 4xx/5xx, written down
//!                       │ ACK
//!                       ▼
//! ticks, SIP events, ┌────────┐ ──▶ Conversation ──▶ engines, playback, journal
//! engine events,  ──▶│ driver │
//! commands, time     └────────┘ ──▶ BYE, record closed, everything released
//! ```

mod admission;
mod answering;
mod answering_machine;
mod command;
mod commanding;
mod driver;
mod ending;
mod engine_events;
mod finishing;
mod follow;
mod hold;
mod inbound;
mod live;
mod notifying;
mod obeying;
mod opening;
mod outbound;
mod passing;
mod quality;
mod recording;
mod registry;
mod requesting;
mod session;
mod taking_over;
mod telling;
mod timeline;
mod transfer;
mod trunk;
mod voicemail;
mod work;

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::audio::Codec;
use crate::conversation::settings::{AssistantSettings, Server, TransferDestination};
use crate::engines::hosted::Hosted;
use crate::engines::llm::Llm;
use crate::engines::phrases::PhraseBook;
use crate::engines::stt::Stt;
use crate::engines::tts::Tts;
use crate::engines::turn::TurnJudge;
use crate::engines::vad::Vad;
use crate::ids::{AssistantId, MailboxName};
use crate::net::media::Media;
use crate::net::sip::Sip;
use crate::observe::{Health, Metrics};
use crate::record::{CallDocument, CallRecord, EndedReason};
use crate::store::Journal;
use crate::webhooks::Webhooks;

pub use admission::{Admission, CallRates};
pub use command::{CallCommand, CallSnapshot, CommandRefusal, Manner, Reply};
pub use inbound::take_calls;
pub use live::{
    CallEvent, Listener, LiveCall, LiveEvent, MonitorKey, Next, Sound, SpeechStatus,
    TranscriptType, Watcher,
};
pub use outbound::{DialRefusal, DialRequest, NoRoute, Placed, Route, Routes, Talker, place};
pub use recording::{Recorder, sha256};
pub use registry::{Lookup, Registry};
pub use trunk::{InboundTrunk, Keys, MediaEncryption, Trunks};
pub use voicemail::{Aftercare, Indicator, Mailbox, Mailboxes, MessageKeeper};
pub use work::chat_messages;

/// Finds who answers what was called, which comes in each of its spellings.
pub type NumberPlan = Arc<dyn Fn(&[&str]) -> Option<Answers> + Send + Sync>;

/// Who answers a number.
#[derive(Clone, Debug)]
pub enum Answers {
    /// An assistant, and the mailbox that takes its calls where it cannot.
    Assistant {
        /// Its name.
        id: AssistantId,
        /// What it is set to.
        settings: Box<AssistantSettings>,
        /// The number's mailbox; the assistant's own where there is none.
        mailbox: Option<MailboxName>,
        /// The phone number's id in the API.
        phone_number: Option<String>,
    },
    /// Whoever the number's server says.
    Server(Box<ServedNumber>),
    /// A mailbox takes messages at once.
    Mailbox(MailboxName),
    /// Owners hear their messages.
    VoicemailMenu,
}

/// A number whose server is asked who answers its calls.
#[derive(Clone, Debug)]
pub struct ServedNumber {
    /// Its own server, or the account's.
    pub server: Server,
    /// The number's mailbox.
    pub mailbox: Option<MailboxName>,
    /// The phone number's id in the API.
    pub phone_number: Option<String>,
    /// Where callers are passed on to where the server does not say who answers.
    pub fallback: Option<Box<TransferDestination>>,
    /// Who answers them where there is no such place.
    pub fallback_assistant: Option<(AssistantId, Box<AssistantSettings>)>,
}

/// A question to a number's server: who answers this call?
#[derive(Clone, Debug)]
pub struct AssistantRequest {
    /// The server.
    pub server: Server,
    /// The call.
    pub call: CallRecord,
}

/// What becomes of an [`AssistantRequest`].
#[derive(Clone, Debug)]
pub enum Requested {
    /// An assistant answers.
    Assistant {
        /// Its id; empty where it is not kept.
        id: AssistantId,
        /// Its settings.
        settings: Box<AssistantSettings>,
        /// What is to be kept of it, where that is not all in the id.
        document: Option<Box<CallDocument>>,
    },
    /// The caller is passed on.
    Destination(Box<TransferDestination>),
    /// The caller hears this and is hung up on.
    Error(String),
    /// The server did not say, for this reason.
    Failed(EndedReason),
}

/// Asks numbers' servers, within a bounded time.
pub type AssistantRequests =
    Arc<dyn Fn(AssistantRequest) -> Pin<Box<dyn Future<Output = Requested> + Send>> + Send + Sync>;

/// Finds the server that is told of calls whose assistant has none: the phone number's, by its
/// id, or the account's.
pub type Servers = Arc<dyn Fn(Option<&str>) -> Option<Server> + Send + Sync>;

/// Places calls: [`place`] with the services that it needs.
pub type Dialler = Arc<
    dyn Fn(DialRequest) -> Pin<Box<dyn Future<Output = Result<Placed, DialRefusal>> + Send>>
        + Send
        + Sync,
>;

/// Finds an assistant by its name.
pub type Assistants = Arc<dyn Fn(&str) -> Option<(AssistantId, AssistantSettings)> + Send + Sync>;

/// What calls need of the rest of the server. Handles only; cheap to clone.
#[derive(Clone)]
pub struct Services {
    /// Signalling.
    pub sip: Sip,
    /// Media.
    pub media: Media,
    /// Hears.
    pub stt: Stt,
    /// Thinks.
    pub llm: Llm,
    /// Speaks.
    pub tts: Tts,
    /// Engines elsewhere, for assistants that name one.
    pub hosted: Hosted,
    /// Notices speech.
    pub vad: Vad,
    /// Whether a caller has finished, by the sound; `None` where that is switched off or has no
    /// model.
    pub turn: Option<TurnJudge>,
    /// What is spoken without an engine.
    pub phrases: PhraseBook,
    /// What is kept.
    pub journal: Journal,
    /// The way to assistants' servers.
    pub webhooks: Webhooks,
    /// Asks numbers' servers who answers.
    pub requests: AssistantRequests,
    /// Servers of numbers.
    pub servers: Servers,
    /// What is recorded; `None` where recording is switched off.
    pub recorder: Option<Recorder>,
    /// Whether calls can be taken.
    pub health: Health,
    /// What is counted.
    pub metrics: Metrics,
    /// Who answers what.
    pub numbers: NumberPlan,
    /// Where calls come from, now.
    pub trunks: Arc<dyn Fn() -> Trunks + Send + Sync>,
    /// How many calls trunks and assistants may have.
    pub admission: Admission,
    /// Assistants by name.
    pub assistants: Assistants,
    /// Where messages are left.
    pub mailboxes: Mailboxes,
    /// The ways out, now.
    pub routes: Arc<dyn Fn() -> Routes + Send + Sync>,
    /// Live calls.
    pub registry: Registry,
    /// Numbers and limits.
    pub limits: CallLimits,
}

impl Services {
    /// Settings of a call with the server that is told of it.
    fn serve(&self, settings: AssistantSettings, record: &CallRecord) -> AssistantSettings {
        let own = settings.server.as_ref();
        if own.is_some_and(|server| server.url.is_some()) {
            return settings;
        }
        AssistantSettings {
            server: (self.servers)(record.phone_number_id.as_deref()),
            ..settings
        }
    }

    /// With the engines that an assistant names.
    fn for_assistant(&self, settings: &AssistantSettings) -> Self {
        let (stt, llm, tts) = self.hosted.equip(settings, &self.stt, &self.llm, &self.tts);
        Self {
            stt,
            llm,
            tts,
            ..self.clone()
        }
    }
}

/// Settings of the operator that concern every call.
#[derive(Clone, Debug)]
pub struct CallLimits {
    /// Codecs we speak, best first.
    pub codecs: Vec<Codec>,
    /// What callers on hold hear, at 8 kHz, over and over.
    pub hold_music: Arc<[i16]>,
    /// Whom callers may send us to by REFER: numbers, addresses, or beginnings of them.
    pub refer_targets: Vec<String>,
    /// Data folder.
    pub data: PathBuf,
    /// A call without packets for this long is over.
    pub media_timeout: Duration,
    /// The disk must have this many bytes left for a new call.
    pub minimum_free: u64,
}
