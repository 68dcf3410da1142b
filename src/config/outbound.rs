//! How calls are sent to a trunk.

use serde::Deserialize;

use super::Trunk;
use super::listen::one_or_more;
use crate::sip::identity::CallerHeader;

/// The part of a trunk that concerns calls of ours. Without it none are sent there.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Outbound {
    /// Where calls go, the first that answers, written as registrars are; the registrars where not
    /// set.
    #[serde(deserialize_with = "one_or_more")]
    pub host: Vec<String>,
    /// Numbers that may be called: whole ones, or beginnings with a `*`. None by default.
    pub destinations: Vec<String>,
    /// The number that we call from; the user name where not set.
    pub caller_id: Option<String>,
    /// The header field that says it, beside From.
    pub identity: CallerHeader,
    /// What From has.
    pub from: FromUser,
    /// Ask the trunk not to show the number to the person called.
    pub hide_caller_id: bool,
    /// How long a telephone rings, in seconds; 5 to 300.
    pub ring_seconds: Option<u32>,
}

impl Default for Outbound {
    fn default() -> Self {
        Self {
            host: Vec::new(),
            destinations: Vec::new(),
            caller_id: None,
            identity: CallerHeader::From,
            from: FromUser::default(),
            hide_caller_id: false,
            ring_seconds: None,
        }
    }
}

/// Whom From names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FromUser {
    /// The number that we call from.
    #[default]
    CallerId,
    /// The account, by which a PBX knows its extensions.
    Account,
}

impl Trunk {
    /// Where calls of ours go, in the order to try; empty where there is no place.
    pub fn outbound_hosts(&self) -> &[String] {
        match &self.outbound {
            None => &[],
            Some(outbound) if outbound.host.is_empty() => &self.registrar,
            Some(outbound) => &outbound.host,
        }
    }
}
