//! From the configuration's trunks and limits to those of calls.

use crate::call::{Admission, CallRates, InboundTrunk, Keys, Trunks};
use crate::config::{Config, Dtmf, Rates, Srtp};
use crate::ids::{AssistantId, TrunkName};

/// The trunks that calls come from.
pub(super) fn inbound(config: &Config) -> Trunks {
    let trunks = config.trunks.iter().map(|(name, trunk)| {
        // There is nothing to set up for it.
        let Srtp::Off = trunk.srtp;
        InboundTrunk {
            name: TrunkName::new(name),
            sources: trunk.sources(),
            account: trunk.username.clone().filter(|_| trunk.registers()),
            numbers: trunk.numbers.clone(),
            caller_headers: trunk.caller_headers.clone(),
            codecs: trunk.codecs.iter().map(|codec| codec.0).collect(),
            keys: match trunk.dtmf {
                Dtmf::Rfc4733 => Keys::Rfc4733,
                Dtmf::Info => Keys::Info,
            },
            limits: rates(trunk.limits),
        }
    });
    Trunks::new(trunks.collect())
}

/// The limits of assistants.
pub(super) fn admission(config: &Config) -> Admission {
    let limits = config.limits.assistants.iter();
    let limits = limits.map(|(name, limits)| (AssistantId::new(name), rates(*limits)));
    Admission::new(limits.collect())
}

fn rates(rates: Rates) -> CallRates {
    CallRates {
        max_calls: rates.max_calls,
        calls_per_second: rates.calls_per_second,
    }
}
