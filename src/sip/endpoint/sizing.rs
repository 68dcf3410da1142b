//! Requests too large for a datagram (RFC 3261 18.1.1): they go by TCP to peers that take it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Endpoint;
use crate::sip::message::Request;
use crate::sip::token;
use crate::sip::transaction::ClientId;
use crate::sip::transport::{Hop, Protocol};

/// Larger requests could be fragmented, and fragments are lost.
const LARGEST_DATAGRAM: usize = 1_300;
/// Room for the Via, which is not there yet.
const VIA: usize = 120;
/// A peer that took no TCP is not asked again for this long.
const REFUSED: Duration = Duration::from_secs(600);
/// Such peers remembered.
const MOST_REFUSED: usize = 1_024;

impl Endpoint {
    /// The way for `request`, which lacks its Via: `hop`, or where it is too large for that, TCP
    /// to the same address.
    pub(super) fn fitting(&mut self, now: Instant, request: &Request, hop: Hop) -> Hop {
        let large = || request.to_bytes().len() + VIA > LARGEST_DATAGRAM;
        if self.protocol(hop.transport) != Protocol::Udp || !large() {
            return hop;
        }
        self.no_streams.retain(|_, until| *until > now);
        if self.no_streams.contains_key(&hop.address) {
            return hop;
        }
        let Some(datagrams) = self.local(hop.transport) else {
            return hop;
        };
        let streams = self
            .config
            .transports
            .iter()
            .find(|local| {
                local.protocol == Protocol::Tcp
                    && local.advertised_host == datagrams.advertised_host
            })
            .map(|local| local.id);
        streams.map_or(hop, |transport| Hop::new(transport, hop.address))
    }

    /// A request that was too large for a datagram did not get through by TCP: it goes as a
    /// datagram after all. Whether it was one.
    pub(super) fn send_as_datagram(&mut self, now: Instant, id: ClientId) -> bool {
        let Some(transaction) = self.clients.get_mut(id) else {
            return false;
        };
        let Some(hop) = transaction.owner.datagram.take() else {
            return false;
        };
        let mut request = Request::clone(&transaction.request);
        self.note_no_streams(now, hop.address);
        request.headers.pop_via();
        let branch = token::branch(&mut self.rng);
        self.push_via(&mut request, hop.transport, &branch);
        let reliability = self.protocol(hop.transport).reliability();
        self.clients
            .restart(now, id, branch, request, hop, reliability);
        self.launch(id);
        true
    }

    fn note_no_streams(&mut self, now: Instant, peer: SocketAddr) {
        if self.no_streams.len() < MOST_REFUSED {
            self.no_streams.insert(peer, now + REFUSED);
        }
    }
}
