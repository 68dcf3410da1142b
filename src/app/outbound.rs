//! The ways out of this server, from its configuration.

use std::time::Duration;

use super::registrations::{credentials, registrar};
use super::trunks::{encryption, keys, rates};
use crate::call::{Route, Routes};
use crate::config::{Config, FromUser, Trunk};
use crate::ids::TrunkName;

/// How long a telephone rings where nothing else is configured.
const RING: u32 = 60;

/// Every trunk that calls can be sent to.
pub(super) fn routes(config: &Config) -> Routes {
    let trunks = config.trunks.iter();
    Routes::new(trunks.filter_map(|(name, trunk)| route(name, trunk)))
}

fn route(name: &str, trunk: &Trunk) -> Option<Route> {
    let outbound = trunk.outbound.as_ref()?;
    let hosts = trunk.outbound_hosts().iter();
    let mut hosts = hosts.filter_map(|host| {
        registrar(host, trunk.transport)
            .inspect_err(|why| tracing::error!(trunk = name, why, "calls cannot be sent"))
            .ok()
    });
    let host = hosts.next()?;
    // Validation has read each of them already.
    let patterns = outbound.destinations.iter();
    let destinations = patterns.filter_map(|pattern| pattern.parse().ok());
    Some(Route {
        ca: trunk.ca.clone(),
        trunk: TrunkName::new(name),
        host,
        other_hosts: hosts.collect(),
        credentials: credentials(trunk),
        account: trunk.username.clone(),
        caller_id: outbound.caller_id.clone(),
        shown_in: outbound.identity,
        from_account: outbound.from == FromUser::Account,
        hide_caller_id: outbound.hide_caller_id,
        numbers: trunk.numbers.clone(),
        destinations: destinations.collect(),
        codecs: trunk.codecs.iter().map(|codec| codec.0).collect(),
        keys: keys(trunk.dtmf),
        encryption: encryption(trunk.srtp),
        limits: rates(trunk.limits),
        extensions: trunk.extensions(),
        refer: trunk.refer != Some(false),
        patience: Duration::from_secs(u64::from(trunk.failover_seconds)),
        ring_timeout: Duration::from_secs(u64::from(outbound.ring_seconds.unwrap_or(RING))),
    })
}
