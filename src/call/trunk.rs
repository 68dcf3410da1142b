//! The trunk that a call comes from, and what its rules make of the INVITE.

use std::sync::Arc;

use ipnet::IpNet;
use rand::RngExt;

use crate::audio::Codec;
use crate::ids::TrunkName;
use crate::record::{CallRecord, Customer};
use crate::sdp::{Encryption, LocalKeys, LocalMedia, MasterKey};
use crate::sip::endpoint::IncomingCall;
use crate::sip::headers::NameAddr;
use crate::sip::identity::{self, CallerHeader};
use crate::sip::numbering::NumberRules;

/// How a peer sends the keys that callers press.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keys {
    /// In RTP (RFC 4733); in INFO where the peer's offer has no such events.
    #[default]
    Rfc4733,
    /// In INFO; we offer no events.
    Info,
    /// As tones in the sound; we offer no events.
    Inband,
}

/// Whether the media of a trunk's calls is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MediaEncryption {
    /// Never.
    #[default]
    Off,
    /// Where the peer offers it.
    Optional,
    /// Always, or there is no call.
    Required,
}

impl MediaEncryption {
    /// What SDP says of it in one dialog, with keys of its own.
    pub(super) fn for_dialog(self) -> Encryption {
        let mut random = rand::rng();
        let keys = LocalKeys {
            sha1_80: MasterKey(random.random()),
            sha1_32: MasterKey(random.random()),
        };
        match self {
            Self::Off => Encryption::Off,
            Self::Optional => Encryption::Optional(keys),
            Self::Required => Encryption::Required(keys),
        }
    }
}

/// Speaks to a peer in its codecs, encrypted as it wants, and takes keys as it sends them.
pub(super) fn speak(
    local: &mut LocalMedia,
    codecs: &[Codec],
    keys: Keys,
    encryption: MediaEncryption,
) {
    local.codecs = codecs.to_vec();
    local.encryption = encryption.for_dialog();
    match keys {
        Keys::Rfc4733 => {}
        Keys::Info | Keys::Inband => local.telephone_event = None,
    }
}

/// What is known of a trunk that calls come from.
#[derive(Clone, Debug)]
pub struct InboundTrunk {
    /// Its key in the configuration.
    pub name: TrunkName,
    /// Where its calls come from.
    pub sources: Vec<IpNet>,
    /// The user of our Contact with its registrar, which its calls then have in their
    /// Request-URI.
    pub account: Option<String>,
    /// How it writes numbers.
    pub numbers: NumberRules,
    /// The header fields that say who calls, the first that does.
    pub caller_headers: Vec<CallerHeader>,
    /// Codecs, best first.
    pub codecs: Vec<Codec>,
    /// How it sends keys.
    pub keys: Keys,
    /// Whether its media is encrypted.
    pub encryption: MediaEncryption,
    /// It transfers calls by REFER.
    pub refer: bool,
    /// Calls at once, and calls a second.
    pub limits: super::CallRates,
}

/// Every trunk that calls come from.
#[derive(Clone, Debug, Default)]
pub struct Trunks(Arc<[InboundTrunk]>);

impl Trunks {
    /// The trunks of a configuration.
    pub fn new(trunks: Vec<InboundTrunk>) -> Self {
        Self(trunks.into())
    }

    /// The trunk of a call: the one with the narrowest network that the call comes from; among
    /// equals, and where no network fits, the one that is registered under the called name.
    pub(super) fn of(&self, call: &IncomingCall) -> Option<&InboundTrunk> {
        let source = call.source.ip().to_canonical();
        let user = call.request_uri.user();
        let fit = |trunk: &InboundTrunk| {
            let account = trunk.account.as_deref();
            let registered = account.is_some() && account == user.as_deref();
            let networks = trunk.sources.iter().filter(|net| net.contains(&source));
            let narrowest = networks.map(|net| net.prefix_len() + 1).max();
            match narrowest {
                Some(bits) => Some((bits, registered)),
                None if trunk.sources.is_empty() && registered => Some((0, true)),
                None => None,
            }
        };
        let fitting = self.0.iter().filter_map(|trunk| Some((fit(trunk)?, trunk)));
        fitting.max_by_key(|(fit, _)| *fit).map(|(_, trunk)| trunk)
    }
}

/// Notes who calls, through which trunk, and whom they called first.
pub(super) fn describe(trunk: Option<&InboundTrunk>, call: &IncomingCall, record: &mut CallRecord) {
    let plain = NumberRules::default();
    let rules = trunk.map_or(&plain, |trunk| &trunk.numbers);
    // Of a peer that is not known only From is taken, for what it is worth.
    let trusted = match trunk {
        Some(trunk) => trunk.caller_headers.as_slice(),
        None => &[CallerHeader::From],
    };
    record.trunk = trunk.map(|trunk| trunk.name.clone());
    record.customer = identity::caller(&call.headers, trusted).map(|address| Customer {
        number: written(rules, &address),
        name: address.display_name.filter(|name| !name.is_empty()),
    });
    record.diverted_from = trunk
        .and_then(|_| identity::diverted_from(&call.headers))
        .map(|address| written(rules, &address));
}

/// E.164 where it is a number, else the user part or the whole URI.
fn written(rules: &NumberRules, address: &NameAddr) -> String {
    match address.uri.user() {
        Some(user) => rules.read(&user).unwrap_or_else(|| user.into_owned()),
        None => address.uri.to_string(),
    }
}

/// What was dialled, in the spellings under which the number plan may know it.
pub(super) fn called(trunk: Option<&InboundTrunk>, call: &IncomingCall) -> Vec<String> {
    let user = call.request_uri.user().unwrap_or_default().into_owned();
    let plain = NumberRules::default();
    let rules = trunk.map_or(&plain, |trunk| &trunk.numbers);
    let number = rules.read(&user).filter(|number| *number != user);
    number.into_iter().chain([user]).collect()
}
