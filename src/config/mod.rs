//! The configuration file: its shape, its defaults and its rules.
//!
//! One TOML file, every key of which can be overridden from the environment
//! (`OFFHOOK__section__key=value`, value in TOML or bare text). No file at all is a valid
//! configuration: everything on loopback, the demo assistant for any number. All mistakes are
//! reported at once, each with its file, key and what is allowed.

mod listen;
mod load;
mod mailbox;
mod number;
mod outbound;
mod trunk;
mod validate;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use serde::Deserialize;

pub use listen::{Listen, Tls, Transport};
pub use load::{Mistake, Mistakes, Source, load};
pub use number::{Answer, Number, Service};
pub use outbound::{FromUser, Outbound};
pub use trunk::{CodecName, Dtmf, Profile, Srtp, Trunk};

use listen::one_or_more;

use crate::conversation::settings::{AssistantSettings, Server};
use crate::engines::hosted::Providers;
use crate::engines::worker::Scheduling;
use crate::voicemail::MailboxSettings;

/// The name of the assistant that is always there unless the file names others.
pub const DEMO_ASSISTANT: &str = "demo";

/// The commented example, which is also the documentation of every key.
pub const EXAMPLE: &str = include_str!("../../scripts/offhook.example.toml");

const DEMO: &str = include_str!("demo-assistant.toml");

/// A source of calls: a network, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Network(pub IpNet);

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let address = text.parse::<IpAddr>().map(IpNet::from);
        let network = address.or_else(|_| text.parse::<IpNet>());
        network
            .map(Self)
            .map_err(|_| format!("{text:?} is neither an address nor a network like 192.0.2.0/24"))
    }
}

/// Text that never reaches a log, an error or a snapshot.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret that did not come from the file.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Everything that the operator can set.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Data folder: database, recordings, phrases.
    pub data: PathBuf,
    /// SIP listeners and who may call.
    pub sip: Sip,
    /// Media sockets.
    pub rtp: Rtp,
    /// Where calls and objects are kept.
    pub store: Storage,
    /// Health and metrics, and the API.
    pub http: Http,
    /// What callers on hold hear.
    pub hold: Hold,
    /// What is kept of a call's sound.
    pub recording: Recording,
    /// Workers and models.
    pub engines: Engines,
    /// Hosted engines, and their keys.
    pub providers: Providers,
    /// How assistants' servers are told of their calls.
    pub webhooks: Webhooks,
    /// Admission.
    pub limits: Limits,
    /// Carriers and PBXs, by name.
    pub trunks: BTreeMap<String, Trunk>,
    /// Who answers which number.
    pub numbers: Vec<Number>,
    /// Where callers leave messages, by name.
    pub mailboxes: BTreeMap<String, MailboxSettings>,
    /// Assistants by name, in Vapi's field names.
    pub assistants: BTreeMap<String, AssistantSettings>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("./data"),
            sip: Sip::default(),
            rtp: Rtp::default(),
            store: Storage::default(),
            http: Http::default(),
            hold: Hold::default(),
            recording: Recording::default(),
            engines: Engines::default(),
            providers: Providers::default(),
            webhooks: Webhooks::default(),
            limits: Limits::default(),
            trunks: BTreeMap::new(),
            numbers: Vec::new(),
            mailboxes: BTreeMap::new(),
            assistants: BTreeMap::new(),
        }
    }
}

/// SIP listeners and who may call.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sip {
    /// Where to listen, over what.
    pub listen: Vec<Listen>,
    /// Certificates.
    pub tls: Tls,
    /// The DNS server to ask, where it is not the system's.
    pub name_server: Option<SocketAddr>,
    /// The address that peers should use for us, where it is not the one we listen on (NAT).
    pub public_address: Option<IpAddr>,
    /// Sources that may send us anything at all. Empty: everybody, which is allowed on loopback
    /// or with digest only.
    pub allow: Vec<Network>,
    /// Credentials that callers from outside `allow` and the trunks' addresses must show.
    pub digest: Option<Digest>,
    /// Whom callers may send us to by REFER: numbers, `sip:user@host`, or beginnings with a `*`.
    pub refer_targets: Vec<String>,
    /// What we call ourselves in User-Agent and Server.
    pub user_agent: String,
}

impl Default for Sip {
    fn default() -> Self {
        Self {
            listen: vec![Listen {
                transport: Transport::Udp,
                address: SocketAddr::from((Ipv4Addr::LOCALHOST, 5060)),
            }],
            tls: Tls::default(),
            name_server: None,
            public_address: None,
            allow: Vec::new(),
            digest: None,
            refer_targets: Vec::new(),
            user_agent: concat!("Offhook/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// Inbound digest authentication (RFC 3261 section 22).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Digest {
    /// Realm shown in the challenge.
    #[serde(default = "default_realm")]
    pub realm: String,
    /// User names and passwords.
    pub users: BTreeMap<String, Secret>,
}

fn default_realm() -> String {
    "offhook".to_owned()
}

/// Media sockets.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rtp {
    /// Addresses that media sockets bind to: one, or one of each family.
    #[serde(deserialize_with = "one_or_more")]
    pub bind: Vec<IpAddr>,
    /// The address in our SDP, where it is not the one of its family in `bind` (NAT).
    pub public_address: Option<IpAddr>,
    /// First port of the range; even ports are used for RTP.
    pub port_min: u16,
    /// Last port of the range.
    pub port_max: u16,
    /// A call ends when no packet arrived for this long.
    pub timeout_seconds: u32,
}

impl Default for Rtp {
    fn default() -> Self {
        Self {
            bind: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
            public_address: None,
            port_min: 16384,
            port_max: 32767,
            timeout_seconds: 60,
        }
    }
}

/// Where calls and objects are kept.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Storage {
    /// PostgreSQL's URL; SQLite in the data folder where not set.
    pub url: Option<Secret>,
    /// File of the key that secrets are encrypted with; `secrets.key` in the data folder where
    /// neither it nor `OFFHOOK_SECRETS_KEY` in the environment is set.
    pub key_file: Option<PathBuf>,
    /// Whose the objects of this file are.
    pub configured: Configured,
}

/// Whose the assistants, numbers and trunks of the configuration file are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Configured {
    /// The file's: the API shows them and changes none.
    #[default]
    Pinned,
    /// The database's, once they were written there at the first start that had them.
    Seed,
}

/// The HTTP listener.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Where `/healthz`, `/readyz`, `/metrics` and the API answer.
    pub listen: SocketAddr,
    /// The URL that the API is reached at, for the links in its answers; the one that a request
    /// names where not set.
    pub public_url: Option<String>,
    /// Origins whose pages may use the API from a browser (CORS). None by default.
    pub cors_origins: Vec<String>,
    /// Requests a second for each API key; others are answered 429.
    pub requests_per_second: u32,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            public_url: None,
            cors_origins: Vec::new(),
            requests_per_second: 100,
        }
    }
}

/// Callers on hold.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hold {
    /// A WAV file that is played over and over; a piece of our own if not set.
    pub music: Option<PathBuf>,
}

/// Recordings.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recording {
    /// Keep a stereo WAV of every call.
    pub enabled: bool,
    /// Keep the SIP messages of every call, secrets masked.
    pub signalling: bool,
    /// Delete recordings and calls older than this.
    pub retention_days: Option<u32>,
    /// Delete the oldest recordings when all of them together are larger than this.
    pub quota_megabytes: Option<u64>,
    /// Refuse new calls when the data folder's disk has less than this left.
    pub minimum_free_megabytes: u64,
}

impl Default for Recording {
    fn default() -> Self {
        Self {
            enabled: true,
            signalling: true,
            retention_days: None,
            quota_megabytes: Some(10_000),
            minimum_free_megabytes: 100,
        }
    }
}

/// Workers and their models.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Engines {
    /// Folder of the worker binaries; beside `offhook` itself if not set.
    pub folder: Option<PathBuf>,
    /// Folder of the models; `models` in the data folder if not set.
    pub models: Option<PathBuf>,
    /// Speech to text model, by its name in the manifest.
    pub stt: String,
    /// Language model, by its name in the manifest, or a path to a GGUF file.
    pub llm: String,
    /// Voice, by its name in the manifest.
    pub tts: String,
    /// Voice activity detector, by its name in the manifest.
    pub vad: String,
    /// End-of-turn model, by its name in the manifest; "off" for none.
    pub turn: String,
    /// ONNX runtime, by its name in the manifest.
    pub runtime: String,
    /// Threads that each worker may use.
    pub threads: u8,
    /// How the workers compete with other processes: `idle`, `nice` or `normal`.
    pub scheduling: Scheduling,
}

impl Default for Engines {
    fn default() -> Self {
        Self {
            folder: None,
            models: None,
            stt: "whisper-base-q8_0".to_owned(),
            llm: "qwen2.5-coder-0.5b-instruct-q4_k_m".to_owned(),
            tts: "piper-en-us-joe-medium".to_owned(),
            vad: "silero-vad".to_owned(),
            turn: "off".to_owned(),
            runtime: "onnxruntime".to_owned(),
            threads: 2,
            scheduling: Scheduling::default(),
        }
    }
}

impl Engines {
    /// The end-of-turn model, unless it is switched off.
    pub fn turn_model(&self) -> Option<&str> {
        Some(self.turn.as_str()).filter(|name| *name != "off")
    }
}

/// How assistants' servers are told of their calls.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Webhooks {
    /// Private networks that messages may go to. Others of the public Internet only.
    pub allow: Vec<Network>,
    /// What could not be delivered for this long is given up.
    pub give_up_hours: u32,
    /// Messages that may wait, for all servers together; beyond them the oldest are dropped of
    /// the server that the most wait for.
    pub max_waiting: u32,
    /// The account's server, as an assistant's: for numbers and assistants that have none.
    pub server: Option<Server>,
    /// The assistant that answers where a number's server does not say who does, and the number
    /// has no fallback; an apology where not set.
    pub fallback_assistant: Option<String>,
}

impl Default for Webhooks {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            give_up_hours: 24,
            max_waiting: 100_000,
            server: None,
            fallback_assistant: None,
        }
    }
}

/// How much we take on.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Calls at once; the next one is answered 486, or goes to a mailbox.
    pub max_calls: u32,
    /// Fewer where the machine, measured at the start, has room for fewer conversations.
    pub calibrate: bool,
    /// Calls at once that are in a mailbox, beside those; the next one is answered 486.
    pub max_voicemail_calls: u32,
    /// How long a stop waits for calls to end by themselves.
    pub drain_seconds: u32,
    /// Requests a second that could begin something, from one address. Others are dropped.
    pub requests_per_second_per_source: u32,
    /// The same from all addresses together that are in no trunk's and no `sip.allow` list.
    pub requests_per_second_of_strangers: u32,
    /// Calls at once and a second for each assistant.
    pub assistants: BTreeMap<String, Rates>,
}

/// Limits of one trunk or assistant. No limit where not set.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rates {
    /// Calls at once.
    pub max_calls: Option<u32>,
    /// New calls a second, with bursts of two seconds' worth.
    pub calls_per_second: Option<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_calls: 8,
            calibrate: true,
            max_voicemail_calls: 4,
            drain_seconds: 30,
            requests_per_second_per_source: 100,
            requests_per_second_of_strangers: 200,
            assistants: BTreeMap::new(),
        }
    }
}

impl Config {
    /// Folder of the models.
    pub fn models_folder(&self) -> PathBuf {
        self.engines
            .models
            .clone()
            .unwrap_or_else(|| self.data.join("models"))
    }

    /// True where a peer on another machine could reach a SIP listener.
    pub fn reachable_from_outside(&self) -> bool {
        self.sip
            .listen
            .iter()
            .any(|at| !at.address.ip().is_loopback())
    }
}

#[cfg(test)]
mod tests;
