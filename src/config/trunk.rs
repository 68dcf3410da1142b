//! Trunks: a profile from `sip-profiles/`, which says what kind of peer it is, plus what only the
//! operator knows.
//!
//! A profile is the same table as a trunk's, read first: whatever the operator does not set is
//! taken from there.

use std::path::PathBuf;

use ipnet::IpNet;
use serde::Deserialize;
use toml::{Table, Value};

use super::listen::{Transport, one_or_more};
use super::{Network, Outbound, Rates, Secret};
use crate::audio::Codec;
use crate::sip::extensions::{Extensions, Support};
use crate::sip::identity::CallerHeader;
use crate::sip::numbering::NumberRules;
use crate::sip::registration::KeepAlive;
use crate::sip::session_timer::SessionTimerSettings;

/// A carrier or PBX that sends us calls, and that we may register with.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Trunk {
    /// Name of a profile: one of [`Profile::NAMES`].
    pub profile: String,
    /// Whom we register with and send to, the first that answers: `host`, `host:port`, or a URI
    /// with a transport (`sip:host;transport=tcp`, `sips:host`).
    #[serde(default, deserialize_with = "one_or_more")]
    pub registrar: Vec<String>,
    /// PEM file of the certificates that its own must lead to, in TLS; as `sip.tls.ca` if not set.
    pub ca: Option<PathBuf>,
    /// User name of the account.
    pub username: Option<String>,
    /// The name that goes with the password, where it is another one.
    pub auth_username: Option<String>,
    /// The account's domain, where it is not the registrar's host.
    pub domain: Option<String>,
    /// Password of the account.
    pub password: Option<Secret>,
    /// Register at start and keep the registration fresh. The profile decides where not set.
    pub register: Option<bool>,
    /// Whether the trunk transfers calls by REFER; bridged where false. Tried where not set.
    pub refer: Option<bool>,
    /// How calls are sent there. None are where it is not set.
    pub outbound: Option<Outbound>,
    /// Sources that calls of this trunk come from, beside those the profile knows.
    pub allow: Vec<Network>,
    /// How it writes numbers.
    pub numbers: NumberRules,
    /// The header fields that say who calls, the first that does.
    pub caller_headers: Vec<CallerHeader>,
    /// Codecs, best first.
    pub codecs: Vec<CodecName>,
    /// How keys come.
    pub dtmf: Dtmf,
    /// Encryption of media.
    pub srtp: Srtp,
    /// What `registrar` is reached by, where its URI does not say; as DNS has it where not set.
    pub transport: Option<Transport>,
    /// What keeps the way back from the registrar open over UDP.
    pub keep_alive: KeepAlive,
    /// How long one address of the trunk may say nothing, to a REGISTER or a call of ours,
    /// before the next is tried.
    pub failover_seconds: u32,
    /// Timers of sessions (RFC 4028).
    pub session_timer: SessionTimerSettings,
    /// Reliable provisional responses (RFC 3262).
    #[serde(rename = "100rel")]
    pub reliable_provisional: Support,
    /// Ask `registrar` this often whether it is there, with OPTIONS; 0 for never.
    pub ping_seconds: u32,
    /// Calls at once and a second.
    pub limits: Rates,
}

impl Default for Trunk {
    fn default() -> Self {
        Self {
            profile: "generic".to_owned(),
            registrar: Vec::new(),
            ca: None,
            username: None,
            auth_username: None,
            domain: None,
            password: None,
            register: None,
            refer: None,
            outbound: None,
            allow: Vec::new(),
            numbers: NumberRules::default(),
            caller_headers: vec![CallerHeader::PAssertedIdentity, CallerHeader::From],
            codecs: Codec::ALL.map(CodecName).to_vec(),
            dtmf: Dtmf::default(),
            srtp: Srtp::default(),
            transport: None,
            keep_alive: KeepAlive::default(),
            failover_seconds: 5,
            session_timer: SessionTimerSettings::default(),
            reliable_provisional: Support::default(),
            ping_seconds: 0,
            limits: Rates::default(),
        }
    }
}

/// A codec by SDP's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct CodecName(pub Codec);

impl TryFrom<String> for CodecName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let codec = Codec::from_name(&name);
        codec
            .map(Self)
            .ok_or_else(|| format!("{name:?} is no codec of ours: {}", Codec::names()))
    }
}

/// How keys come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtmf {
    /// In RTP, where the peer does so; else in INFO.
    #[default]
    Rfc4733,
    /// In INFO.
    Info,
    /// As tones in the sound.
    Inband,
}

/// Encryption of media (SRTP, with keys in SDP).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Srtp {
    /// Media is in the clear; encrypted calls are refused.
    #[default]
    Off,
    /// Where the peer offers it.
    Optional,
    /// Always; calls in the clear are refused.
    Required,
}

/// What of a profile no trunk can change.
#[derive(Clone, Debug, Deserialize)]
pub struct Profile {
    /// One line for people.
    pub description: String,
    /// The peer expects us to register.
    pub register: bool,
    /// Seconds asked for in REGISTER.
    pub register_expires_seconds: u32,
    /// Published signalling sources.
    #[serde(default)]
    pub sources: Vec<Network>,
}

macro_rules! profiles {
    ($($name:literal),* $(,)?) => {
        impl Profile {
            /// Every profile that ships.
            pub const NAMES: &'static [&'static str] = &[$($name),*];

            fn text(name: &str) -> Option<&'static str> {
                match name {
                    $($name => Some(include_str!(concat!("../../sip-profiles/", $name, ".toml"))),)*
                    _ => None,
                }
            }
        }
    };
}

profiles!(
    "generic",
    "softphone",
    "freepbx",
    "freeswitch",
    "3cx",
    "twilio",
    "telnyx",
    "bandwidth"
);

impl Profile {
    /// The profile of that name, if one ships.
    pub fn named(name: &str) -> Option<Self> {
        // A test parses every profile, so a parse error cannot ship.
        toml::from_str(Self::text(name)?).ok()
    }

    /// What trunks of this profile have where they do not say otherwise.
    fn defaults(name: &str) -> Option<Table> {
        let mut table: Table = Self::text(name)?.parse().ok()?;
        for own in [
            "description",
            "register",
            "register_expires_seconds",
            "sources",
        ] {
            table.remove(own);
        }
        Some(table)
    }
}

/// Puts the profiles' defaults into the trunks of a configuration that is not typed yet.
pub(super) fn fill_in(configuration: &mut Table) {
    let Some(Value::Table(trunks)) = configuration.get_mut("trunks") else {
        return;
    };
    for trunk in trunks
        .iter_mut()
        .filter_map(|(_, trunk)| trunk.as_table_mut())
    {
        let profile = match trunk.get("profile") {
            Some(Value::String(name)) => name.clone(),
            Some(_) => continue,
            None => Trunk::default().profile,
        };
        if let Some(mut defaults) = Profile::defaults(&profile) {
            // No calls are sent where the operator does not say so.
            if !trunk.contains_key("outbound") {
                defaults.remove("outbound");
            }
            merge(trunk, defaults);
        }
    }
}

/// What `table` lacks is taken from `defaults`, table by table.
fn merge(table: &mut Table, defaults: Table) {
    for (key, default) in defaults {
        match (table.get_mut(&key), default) {
            (None, default) => {
                table.insert(key, default);
            }
            (Some(Value::Table(inner)), Value::Table(default)) => merge(inner, default),
            (Some(_), _) => {}
        }
    }
}

impl Trunk {
    /// A trunk with nothing but what a profile says; none where no such profile ships.
    pub fn of_profile(name: &str) -> Self {
        let mut table = Profile::defaults(name).unwrap_or_default();
        table.remove("outbound");
        // A test reads every profile as a trunk's defaults.
        Value::Table(table).try_into().unwrap_or_default()
    }

    /// The trunk's profile. `None` only for a name that validation refuses.
    pub fn profile(&self) -> Option<Profile> {
        Profile::named(&self.profile)
    }

    /// True where we register with this trunk.
    pub fn registers(&self) -> bool {
        self.register
            .or_else(|| self.profile().map(|profile| profile.register))
            .unwrap_or(false)
    }

    /// The name and the password for 401 and 407, where there are both.
    pub fn credentials(&self) -> Option<(&str, &Secret)> {
        let name = self.auth_username.as_ref().or(self.username.as_ref())?;
        Some((name, self.password.as_ref()?))
    }

    /// The extensions of SIP that are used with it.
    pub fn extensions(&self) -> Extensions {
        Extensions {
            session_timer: self.session_timer,
            reliable_provisional: self.reliable_provisional,
        }
    }

    /// Every source that this trunk's calls may come from.
    pub fn sources(&self) -> Vec<IpNet> {
        let known = self
            .profile()
            .into_iter()
            .flat_map(|profile| profile.sources);
        let all = self.allow.iter().copied().chain(known);
        all.map(|network| network.0).collect()
    }
}
