//! What SIP is told of the configuration.

use std::sync::Arc;

use ipnet::IpNet;

use super::{count, trunks, visits};
use crate::config::{Config, Transport};
use crate::net::sip::{SipConfig, TlsSettings, Witness};
use crate::sip::endpoint::{Credentials, InboundAuthentication, Limits, Protocol};
use crate::sip::flood::FloodLimits;
use crate::store::Ladders;

/// The networks that calls come from.
pub(super) fn known_sources(config: &Config) -> Vec<IpNet> {
    let allowed = config.sip.allow.iter().map(|network| network.0);
    let trunks = config.trunks.values();
    allowed
        .chain(trunks.flat_map(crate::config::Trunk::sources))
        .collect()
}

pub(super) fn sip_config(config: &Config, ladders: Option<&Ladders>) -> SipConfig {
    let known = known_sources(config);
    let authentication = config
        .sip
        .digest
        .as_ref()
        .map(|digest| InboundAuthentication {
            realm: digest.realm.clone(),
            users: digest
                .users
                .iter()
                .map(|(username, password)| Credentials {
                    username: username.clone(),
                    password: password.expose().to_owned(),
                })
                .collect(),
            trusted: known.clone(),
        });
    SipConfig {
        listen: config
            .sip
            .listen
            .iter()
            .map(|at| (protocol(at.transport), at.address))
            .collect(),
        tls: TlsSettings {
            identity: config
                .sip
                .tls
                .certificate
                .clone()
                .zip(config.sip.tls.key.clone()),
            ca: config.sip.tls.ca.clone(),
            verify_clients: config.sip.tls.verify_clients,
        },
        name_server: config.sip.name_server,
        public_address: config.sip.public_address,
        // With digest, strangers may knock: they are challenged.
        allow: if authentication.is_some() {
            Vec::new()
        } else {
            known.clone()
        },
        user_agent: config.sip.user_agent.clone(),
        extensions: trunks::extensions(config),
        authentication,
        limits: Limits {
            legs: Limits::default()
                .legs
                .max((count(config.limits.max_calls) + visits(config)) * 2),
            ..Limits::default()
        },
        flood: Some(FloodLimits {
            per_source: config.limits.requests_per_second_per_source,
            strangers: config.limits.requests_per_second_of_strangers,
            known,
        }),
        witness: ladders
            .cloned()
            .map(|ladders| Witness(Arc::new(move |message| ladders.message(message)))),
        subscriptions: None,
    }
}

fn protocol(transport: Transport) -> Protocol {
    match transport {
        Transport::Udp => Protocol::Udp,
        Transport::Tcp => Protocol::Tcp,
        Transport::Tls => Protocol::Tls,
    }
}
