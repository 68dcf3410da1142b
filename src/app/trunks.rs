//! From the configuration's trunks and limits to those of calls.

use ipnet::IpNet;

use crate::call::{Admission, CallRates, InboundTrunk, Keys, MediaEncryption, Trunks};
use crate::config::{Config, Dtmf, Rates, Srtp};
use crate::ids::{AssistantId, TrunkName};
use crate::sip::endpoint::Extensions;

/// The trunks that calls come from.
pub(super) fn inbound(config: &Config) -> Trunks {
    let trunks = config.trunks.iter().map(|(name, trunk)| InboundTrunk {
        name: TrunkName::new(name),
        sources: trunk.sources(),
        account: trunk.username.clone().filter(|_| trunk.registers()),
        numbers: trunk.numbers.clone(),
        caller_headers: trunk.caller_headers.clone(),
        codecs: trunk.codecs.iter().map(|codec| codec.0).collect(),
        keys: keys(trunk.dtmf),
        encryption: encryption(trunk.srtp),
        refer: trunk.refer != Some(false),
        limits: rates(trunk.limits),
    });
    Trunks::new(trunks.collect())
}

/// The extensions that are used with callers from a trunk's addresses, the narrowest network
/// first, as for the trunk itself.
pub(super) fn extensions(config: &Config) -> Vec<(IpNet, Extensions)> {
    let trunks = config.trunks.values();
    let mut networks: Vec<(IpNet, Extensions)> = trunks
        .flat_map(|trunk| {
            let sources = trunk.sources().into_iter();
            sources.map(|network| (network, trunk.extensions()))
        })
        .collect();
    networks.sort_by_key(|(network, _)| std::cmp::Reverse(network.prefix_len()));
    networks
}

pub(super) fn keys(dtmf: Dtmf) -> Keys {
    match dtmf {
        Dtmf::Rfc4733 => Keys::Rfc4733,
        Dtmf::Info => Keys::Info,
        Dtmf::Inband => Keys::Inband,
    }
}

pub(super) fn encryption(srtp: Srtp) -> MediaEncryption {
    match srtp {
        Srtp::Off => MediaEncryption::Off,
        Srtp::Optional => MediaEncryption::Optional,
        Srtp::Required => MediaEncryption::Required,
    }
}

/// The limits of assistants.
pub(super) fn admission(config: &Config) -> Admission {
    let limits = config.limits.assistants.iter();
    let limits = limits.map(|(name, limits)| (AssistantId::new(name), rates(*limits)));
    Admission::new(limits.collect())
}

pub(super) fn rates(rates: Rates) -> CallRates {
    CallRates {
        max_calls: rates.max_calls,
        calls_per_second: rates.calls_per_second,
    }
}
