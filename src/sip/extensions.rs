//! Which extensions of SIP are used with a peer.

use serde::Deserialize;

use super::session_timer::{self, SessionTimerSettings};

/// The option tag of reliable provisional responses.
pub const RELIABLE: &str = "100rel";

/// Whether an extension is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Support {
    /// It is not named, and a peer that requires it is refused.
    Off,
    /// It is used with peers that know it.
    #[default]
    Supported,
    /// Peers that do not know it are refused.
    Required,
}

/// The extensions that peers differ in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// Session timers (RFC 4028).
    pub session_timer: SessionTimerSettings,
    /// Reliable provisional responses (RFC 3262).
    pub reliable_provisional: Support,
}

impl Extensions {
    /// Each with its option tag.
    fn options(&self) -> [(&'static str, Support); 4] {
        [
            ("replaces", Support::Supported),
            ("norefersub", Support::Supported),
            (session_timer::OPTION, self.session_timer.support),
            (RELIABLE, self.reliable_provisional),
        ]
    }

    /// The option tags for Supported.
    pub fn supported(&self) -> String {
        let named = self.options();
        let named: Vec<&str> = named
            .iter()
            .filter(|(_, support)| *support != Support::Off)
            .map(|(option, _)| *option)
            .collect();
        named.join(", ")
    }

    /// Whether a Require may name `option`.
    pub fn knows(&self, option: &str) -> bool {
        self.options()
            .iter()
            .any(|(known, support)| *support != Support::Off && known.eq_ignore_ascii_case(option))
    }

    /// The option tags that a peer must know.
    pub fn required(&self) -> impl Iterator<Item = &'static str> {
        self.options()
            .into_iter()
            .filter(|(_, support)| *support == Support::Required)
            .map(|(option, _)| option)
    }
}
