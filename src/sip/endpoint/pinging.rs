//! OPTIONS outside dialogs, to see whether a peer is there (RFC 3261 11).

use std::time::Instant;

use super::Endpoint;
use super::api::{CommandError, PingId, PingRequest};
use super::event::Event;
use super::leg::{Owner, Path, Purpose};
use crate::sip::headers::{CSeq, HeaderName, NameAddr};
use crate::sip::message::{Method, Request, Response};
use crate::sip::token;
use crate::sip::transport::Hop;
use crate::sip::uri::Uri;

impl Endpoint {
    /// Asks a peer whether it is there; [`Event::Ping`] says what it answered.
    ///
    /// # Errors
    /// Where the transport is unknown or there are too many transactions.
    pub fn ping(&mut self, now: Instant, ping: PingRequest) -> Result<PingId, CommandError> {
        self.next_ping += 1;
        let id = PingId(self.next_ping);
        let hop = Hop::new(ping.transport, ping.destination);
        self.send_options(now, hop, ping.peer, Purpose::Ping(id))?;
        Ok(id)
    }

    /// Sends an OPTIONS outside of dialogs.
    pub(super) fn send_options(
        &mut self,
        now: Instant,
        hop: Hop,
        peer: Uri,
        purpose: Purpose,
    ) -> Result<(), CommandError> {
        if self.clients.len() >= self.config.limits.client_transactions {
            return Err(CommandError::LimitReached);
        }
        let contact = self
            .contact(hop.transport, None, false)
            .ok_or(CommandError::UnknownTransport)?;
        let tag = token::tag(&mut self.rng);
        let from = NameAddr::new(contact.uri.clone()).with_tag(&tag);
        let mut request = Request::new(Method::Options, peer.clone());
        let headers = &mut request.headers;
        headers.push(HeaderName::MaxForwards, 70);
        headers.push(HeaderName::From, from);
        headers.push(HeaderName::To, NameAddr::new(peer));
        headers.push(HeaderName::CallId, token::call_id(&mut self.rng));
        let sequence = CSeq {
            number: 1,
            method: Method::Options,
        };
        headers.push(HeaderName::CSeq, sequence);
        headers.push(HeaderName::Contact, contact);
        headers.push(HeaderName::Accept, super::body::SDP);
        let path = Path {
            transport: hop.transport,
            peer: hop.address,
            behind_nat: false,
            accepted: false,
        };
        self.send_request(now, request, hop, Owner::new(purpose, path));
        Ok(())
    }

    pub(super) fn ping_answered(&mut self, id: PingId, response: &Response) {
        if response.status.is_final() {
            let status = Some(response.status.code());
            self.emit(Event::Ping { id, status });
        }
    }

    pub(super) fn ping_failed(&mut self, id: PingId) {
        self.emit(Event::Ping { id, status: None });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sip::endpoint::simulation::{Simulation, UDP, Weather, address};

    fn pinged(simulation: &Simulation) -> Vec<Option<u16>> {
        let events = simulation.events(0).iter();
        events
            .filter_map(|event| match event {
                Event::Ping { status, .. } => Some(*status),
                _ => None,
            })
            .collect()
    }

    fn ping(simulation: &mut Simulation, to: usize) {
        let destination = address(to);
        let request = PingRequest {
            transport: UDP,
            destination,
            peer: format!("sip:{destination}").parse().unwrap(),
        };
        simulation
            .act(0, |endpoint, now| endpoint.ping(now, request))
            .unwrap();
        simulation.run_for(Duration::from_secs(60));
    }

    #[test]
    fn a_peer_that_is_there_answers_and_one_that_is_not_does_not() {
        let mut simulation = Simulation::new(1, Weather::clear());
        simulation.add(|_, _, _| {});
        simulation.add(|_, _, _| {});
        ping(&mut simulation, 1);
        ping(&mut simulation, 7);
        assert_eq!(pinged(&simulation), [Some(200), None]);
        assert!(simulation.is_clean());
    }

    #[test]
    fn a_peer_that_drains_says_so() {
        let mut simulation = Simulation::new(1, Weather::clear());
        simulation.add(|_, _, _| {});
        simulation.add(|_, _, _| {});
        simulation.act(1, |endpoint, _| endpoint.set_accepting(false));
        ping(&mut simulation, 1);
        assert_eq!(pinged(&simulation), [Some(503)]);
    }
}
