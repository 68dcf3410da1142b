//! Trunks: a profile from `sip-profiles/`, which says what kind of peer it is, plus what only the
//! operator knows.

use std::path::PathBuf;

use ipnet::IpNet;
use serde::Deserialize;

use super::listen::one_or_more;
use super::{Network, Secret};

/// A carrier or PBX that sends us calls, and that we may register with.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trunk {
    /// Name of a profile: one of [`Profile::NAMES`].
    #[serde(default = "default_profile")]
    pub profile: String,
    /// Whom we register with and send to, the first that answers: `host`, `host:port`, or a URI
    /// with a transport (`sip:host;transport=tcp`, `sips:host`).
    #[serde(default, deserialize_with = "one_or_more")]
    pub registrar: Vec<String>,
    /// PEM file of the certificates that its own must lead to, in TLS; as `sip.tls.ca` if not set.
    pub ca: Option<PathBuf>,
    /// User name of the account.
    pub username: Option<String>,
    /// Password of the account.
    pub password: Option<Secret>,
    /// Register at start and keep the registration fresh. The profile decides where not set.
    pub register: Option<bool>,
    /// Sources that calls of this trunk come from, beside those the profile knows.
    #[serde(default)]
    pub allow: Vec<Network>,
}

fn default_profile() -> String {
    "generic".to_owned()
}

/// What differs between kinds of peers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
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

profiles!("generic", "softphone", "freepbx", "twilio", "telnyx");

impl Profile {
    /// The profile of that name, if one ships.
    pub fn named(name: &str) -> Option<Self> {
        // A test parses every profile, so a parse error cannot ship.
        toml::from_str(Self::text(name)?).ok()
    }
}

impl Trunk {
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
