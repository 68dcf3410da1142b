//! Whoever keeps the ladder of a call is shown every message.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use time::OffsetDateTime;

use crate::record::{SipDirection, SipMessage, SipTransport};
use crate::sip::endpoint::{LocalTransport, Protocol, TransportId};
use crate::sip::uri::Host;

/// Is shown every message, in both directions, by the task that handles them: it must not block.
#[derive(Clone)]
pub struct Witness(pub Arc<dyn Fn(SipMessage) + Send + Sync>);

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Witness")
    }
}

/// Shows messages with our own address as peers see it.
pub(super) struct Shown {
    witness: Option<Witness>,
    transports: Vec<(TransportId, SipTransport, SocketAddr)>,
}

impl Shown {
    pub(super) fn new(witness: Option<Witness>, transports: &[LocalTransport]) -> Self {
        let mut shown = Self {
            witness,
            transports: Vec::new(),
        };
        transports.iter().for_each(|local| shown.add(local));
        shown
    }

    /// A transport that was not there at the start.
    pub(super) fn add(&mut self, local: &LocalTransport) {
        if let Host::Ip(ip) = local.advertised_host {
            let address = SocketAddr::new(ip, local.advertised_port);
            self.transports
                .push((local.id, carrier(local.protocol), address));
        }
    }

    /// A transport's address as peers see it is another one.
    pub(super) fn moved(&mut self, transport: TransportId, host: &Host) {
        let found = self.transports.iter_mut().find(|(id, ..)| *id == transport);
        if let (Some((_, _, address)), Host::Ip(ip)) = (found, host) {
            address.set_ip(*ip);
        }
    }

    pub(super) fn show(
        &self,
        direction: SipDirection,
        transport: TransportId,
        peer: SocketAddr,
        bytes: impl FnOnce() -> Vec<u8>,
    ) {
        let Some(Witness(show)) = &self.witness else {
            return;
        };
        let found = self.transports.iter().find(|(id, ..)| *id == transport);
        if let Some((_, transport, local)) = found {
            show(SipMessage {
                at: OffsetDateTime::now_utc(),
                direction,
                transport: *transport,
                local: *local,
                peer,
                bytes: bytes(),
            });
        }
    }
}

fn carrier(protocol: Protocol) -> SipTransport {
    match protocol {
        Protocol::Udp => SipTransport::Udp,
        Protocol::Tcp => SipTransport::Tcp,
        Protocol::Tls => SipTransport::Tls,
    }
}
