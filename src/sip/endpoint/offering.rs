//! Offers inside established sessions, of either side (RFC 3261 14, RFC 3264, RFC 3311).

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;

use super::Endpoint;
use super::api::{CommandError, LegId};
use super::compose::set_description;
use super::event::Event;
use super::leg::{Asked, OfferState, Owner, Purpose, SentAck};
use crate::sip::message::{Method, Response, StatusCode};
use crate::sip::transaction::ClientId;

/// How often an offer of ours is sent again after 491.
const MAX_GLARES: u32 = 5;

/// How long after a refused refresh the next one is tried.
const REFRESH_RETRY: Duration = Duration::from_secs(10);

impl Endpoint {
    /// Accepts the peer's open offer.
    pub(super) fn accept_offer(
        &mut self,
        now: Instant,
        id: LegId,
        sdp: Vec<u8>,
    ) -> Result<(), CommandError> {
        let session = self.session(id)?;
        let OfferState::Received {
            transaction,
            request,
            offerless,
            ..
        } = &session.offer
        else {
            return Err(CommandError::WrongState);
        };
        let (transaction, request, offerless) = (*transaction, Arc::clone(request), *offerless);
        session.learn_peer(&request.headers);
        session.local_description.clone_from(&sdp);
        if !offerless {
            session.remote_description.clone_from(&request.body);
        }
        if let Ok(target) = request.headers.contact() {
            session.dialog.refresh_target(target.uri);
        }
        session.offer = match offerless {
            true => OfferState::InResponse,
            false => OfferState::Idle,
        };
        let Some(leg) = self.legs.get(&id) else {
            return Err(CommandError::UnknownLeg);
        };
        let mut response = self.dialog_response(&request, 200, leg);
        let extensions = leg.extensions;
        set_description(&mut response.headers, &mut response.body, sdp);
        let session = self.session(id)?;
        // Too small an interval was refused before the owner was asked.
        let agreement = session.agree(&extensions, &request.headers).unwrap_or(None);
        session.keep_agreement(now, agreement);
        if let Some(agreement) = agreement {
            agreement.write(&mut response.headers);
        }
        let sent = self.send_response(now, transaction, &response);
        if let (Some(sent), Method::Invite) = (sent, &request.method) {
            let sequence = request.headers.cseq().map_or(0, |cseq| cseq.number);
            let handshake = self.handshake(now, sent, sequence, false, offerless);
            if let Ok(session) = self.session(id) {
                session.handshakes.push(handshake);
            }
        }
        self.refresh_leg(id);
        Ok(())
    }

    /// Refuses the peer's open offer, if there is one; whether there was.
    pub(super) fn refuse_open_offer(&mut self, now: Instant, id: LegId, status: u16) -> bool {
        let Ok(session) = self.session(id) else {
            return false;
        };
        let OfferState::Received {
            transaction,
            request,
            ..
        } = &session.offer
        else {
            return false;
        };
        let (transaction, request) = (*transaction, Arc::clone(request));
        session.offer = OfferState::Idle;
        self.answer(now, transaction, &request, status, &[]);
        self.refresh_leg(id);
        true
    }

    /// The peer's open offer is void.
    pub(super) fn withdraw_offer(&mut self, now: Instant, id: LegId, status: u16) {
        if self.refuse_open_offer(now, id, status) {
            self.emit(Event::OfferWithdrawn { leg: id });
        }
    }

    /// Offers `sdp` in a re-INVITE, for the `attempt`th time.
    pub(super) fn send_offer(
        &mut self,
        now: Instant,
        id: LegId,
        sdp: Vec<u8>,
        attempt: u32,
        asked: Asked,
    ) -> Result<(), CommandError> {
        if self.clients.len() >= self.config.limits.client_transactions {
            return Err(CommandError::LimitReached);
        }
        let extensions = self.legs.get(&id).map(|leg| leg.extensions);
        let extensions = extensions.ok_or(CommandError::UnknownLeg)?;
        let session = self.session(id)?;
        if !matches!(session.offer, OfferState::Idle) || !session.handshakes.is_empty() {
            return Err(CommandError::OfferPending);
        }
        let mut request = session.dialog.request(Method::Invite);
        let dialog = session.dialog.clone();
        let proposal = session.proposal(&extensions);
        self.describe_ourselves(id, &mut request, proposal);
        let leg = self.legs.get_mut(&id).ok_or(CommandError::UnknownLeg)?;
        set_description(&mut request.headers, &mut request.body, sdp.clone());
        if let Some(digest) = &mut leg.digest {
            digest.authorize(&mut request, &mut self.rng);
        }
        let path = leg.path;
        let hop = self.dialog_hop(path, &dialog);
        let mut owner = Owner::new(Purpose::Reinvite(id), path);
        owner.dialog = Some(Box::new(dialog));
        owner.proposal = proposal;
        let transaction = self.send_request(now, request, hop, owner);
        // Nobody has to pick up a phone for this one.
        let give_up_at = now + self.config.timers.transaction_timeout() * 2;
        self.session(id)?.offer = OfferState::Sent {
            transaction,
            sdp,
            attempt,
            asked,
            give_up_at,
        };
        self.refresh_leg(id);
        Ok(())
    }

    pub(super) fn reinvite_answered(
        &mut self,
        now: Instant,
        client: ClientId,
        id: LegId,
        response: &Response,
    ) {
        match response.status.code() {
            100..=199 => {}
            200..=299 => self.reinvite_accepted(now, client, id, response),
            401 | 407 if self.authorize_again(now, client, id, response) => {}
            status @ (408 | 481) => self.dialog_lost(now, id, Some(status)),
            422 if self.offer_larger_interval(now, id, response) => {}
            status => self.offer_refused(now, id, status),
        }
    }

    fn reinvite_accepted(
        &mut self,
        now: Instant,
        client: ClientId,
        id: LegId,
        response: &Response,
    ) {
        let Some(transaction) = self.clients.get(client) else {
            return;
        };
        if let Some(ack) = transaction.owner.acks.first().cloned() {
            self.counters.retransmitted += 1;
            self.transmit(ack.hop, ack.bytes);
            return;
        }
        let invite = Arc::clone(&transaction.request);
        let path = transaction.owner.path;
        let proposal = transaction.owner.proposal;
        let Some(mut dialog) = transaction.owner.dialog.as_deref().cloned() else {
            return;
        };
        if let Ok(contact) = response.headers.contact() {
            dialog.refresh_target(contact.uri.clone());
            if let Ok(session) = self.session(id) {
                session.dialog.refresh_target(contact.uri);
            }
        }
        let hop = self.dialog_hop(path, &dialog);
        let sequence = invite.headers.cseq().map_or(0, |cseq| cseq.number);
        let bytes = self.send_ack(dialog.ack(sequence), &invite, hop);
        if let Some(transaction) = self.clients.get_mut(client) {
            transaction.owner.acks.push(SentAck {
                to_tag: None,
                bytes,
                hop,
            });
        }
        let Ok(session) = self.session(id) else {
            return;
        };
        session.take_acceptance(now, proposal, &response.headers);
        let answer = super::body::session_description(&response.headers, &response.body);
        let answer = answer.ok().flatten().unwrap_or_default();
        let OfferState::Sent { sdp, asked, .. } =
            std::mem::replace(&mut session.offer, OfferState::Idle)
        else {
            return;
        };
        session.local_description = sdp;
        let before = std::mem::replace(&mut session.remote_description, answer.clone());
        self.refresh_leg(id);
        // A refresh that changed nothing is nobody's business.
        if asked == Asked::ByOwner || before != answer {
            self.emit(Event::Answer {
                leg: id,
                sdp: answer,
            });
        }
    }

    /// A re-INVITE of ours met 422 and is sent again with a larger interval; whether it is.
    fn offer_larger_interval(&mut self, now: Instant, id: LegId, response: &Response) -> bool {
        self.interval_too_small(now, id, &response.headers);
        let Ok(session) = self.session(id) else {
            return false;
        };
        let OfferState::Sent {
            sdp,
            attempt,
            asked,
            ..
        } = &mut session.offer
        else {
            return false;
        };
        if session.timer.is_none() || *attempt >= MAX_GLARES {
            return false;
        }
        session.offer = OfferState::Glare {
            sdp: std::mem::take(sdp),
            attempt: *attempt + 1,
            asked: *asked,
            at: now,
        };
        self.refresh_leg(id);
        true
    }

    fn offer_refused(&mut self, now: Instant, id: LegId, status: u16) {
        let wait = |rng: &mut rand::rngs::StdRng, caller: bool| {
            // RFC 3261 14.1: the owner of the Call-ID waits longer, in units of 10 ms.
            let units: u64 = match caller {
                true => rng.random_range(210..=400),
                false => rng.random_range(0..=200),
            };
            Duration::from_millis(units * 10)
        };
        let Some(session) = self.legs.get_mut(&id).and_then(|leg| leg.session_mut()) else {
            return;
        };
        let OfferState::Sent {
            sdp,
            attempt,
            asked,
            ..
        } = &mut session.offer
        else {
            return;
        };
        let asked = *asked;
        if status == StatusCode::REQUEST_PENDING.code() && *attempt < MAX_GLARES {
            session.offer = OfferState::Glare {
                sdp: std::mem::take(sdp),
                attempt: *attempt + 1,
                asked,
                at: now + wait(&mut self.rng, session.caller),
            };
            self.refresh_leg(id);
            return;
        }
        session.offer = OfferState::Idle;
        self.refresh_leg(id);
        self.tell_refusal(now, id, status, asked);
    }

    /// An offer of ours came to nothing.
    fn tell_refusal(&mut self, now: Instant, id: LegId, status: u16, asked: Asked) {
        match asked {
            Asked::ByOwner => self.emit(Event::OfferRefused { leg: id, status }),
            Asked::ToRefresh => self.retry_refresh(now + REFRESH_RETRY, id),
        }
    }

    pub(super) fn offer_timeout(&mut self, now: Instant, id: LegId) {
        let patience = self.config.timers.transaction_timeout() * 2;
        let Ok(session) = self.session(id) else {
            return;
        };
        match &mut session.offer {
            OfferState::Glare {
                sdp,
                attempt,
                asked,
                at,
            } if *at <= now => {
                let (sdp, attempt, asked) = (std::mem::take(sdp), *attempt, *asked);
                session.offer = OfferState::Idle;
                if self.send_offer(now, id, sdp, attempt, asked).is_err() {
                    self.tell_refusal(now, id, StatusCode::REQUEST_PENDING.code(), asked);
                }
            }
            // The owner is late: our fault.
            OfferState::Received { give_up_at, .. } if *give_up_at <= now => {
                self.withdraw_offer(now, id, 500);
            }
            // The peer is. The final response, or its absence, decides.
            OfferState::Sent {
                transaction,
                give_up_at,
                ..
            } if *give_up_at <= now => {
                let transaction = *transaction;
                *give_up_at = now + patience;
                self.cancel_invite(now, transaction, None);
            }
            _ => {}
        }
    }

    /// Our offer, if one is open, is not waited for any longer: the dialog is over.
    pub(super) fn abandon_offer(&mut self, now: Instant, id: LegId) {
        if let Ok(session) = self.session(id)
            && let OfferState::Sent { transaction, .. } = session.offer
            && let Some(transaction_state) = self.clients.get_mut(transaction)
        {
            transaction_state.give_up(now);
            self.refresh_client(transaction);
        }
    }
}
