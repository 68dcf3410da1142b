//! Established sessions: offers in both directions, the wait for ACK, and their end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;

use super::Endpoint;
use super::api::{CommandError, EndCause, LegId, Reason};
use super::compose::{ALLOW, is_challenge, set_description, set_sequence, with_credentials};
use super::event::Event;
use super::leg::{ByeState, MAX_CHALLENGES, OfferState, Owner, Phase, Purpose, SentAck, Session};
use crate::sip::headers::HeaderName;
use crate::sip::message::{Method, Request, Response, StatusCode};
use crate::sip::transaction::ClientId;
use crate::sip::transport::Hop;

/// How often an offer of ours is sent again after 491.
const MAX_GLARES: u32 = 5;

impl Endpoint {
    /// The session of a leg that has an owner, or why there is none.
    pub(super) fn session(&mut self, id: LegId) -> Result<&mut Session, CommandError> {
        let leg = self.legs.get_mut(&id).ok_or(CommandError::UnknownLeg)?;
        match &mut leg.phase {
            Phase::Established(session) => Ok(session),
            Phase::Ringing(_) | Phase::Calling(_) => Err(CommandError::WrongState),
            Phase::Closing(_) => Err(CommandError::UnknownLeg),
        }
    }

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
        let (tag, contact) = (leg.local_tag.clone(), leg.contact.clone());
        let mut response = self.dialog_response(&request, 200, &tag, &contact);
        set_description(&mut response.headers, &mut response.body, sdp);
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
    ) -> Result<(), CommandError> {
        if self.clients.len() >= self.config.limits.client_transactions {
            return Err(CommandError::LimitReached);
        }
        let session = self.session(id)?;
        if !matches!(session.offer, OfferState::Idle) || !session.handshakes.is_empty() {
            return Err(CommandError::OfferPending);
        }
        let mut request = session.dialog.request(Method::Invite);
        let dialog = session.dialog.clone();
        let leg = self.legs.get_mut(&id).ok_or(CommandError::UnknownLeg)?;
        request.headers.push(HeaderName::Contact, &leg.contact);
        request.headers.push(HeaderName::Allow, ALLOW);
        set_description(&mut request.headers, &mut request.body, sdp.clone());
        if let Some(digest) = &mut leg.digest {
            digest.authorize(&mut request, &mut self.rng);
        }
        let path = leg.path;
        let hop = self.dialog_hop(path, &dialog);
        let mut owner = Owner::new(Purpose::Reinvite(id), path);
        owner.dialog = Some(Box::new(dialog));
        let transaction = self.send_request(now, request, hop, owner);
        // Nobody has to pick up a phone for this one.
        let give_up_at = now + self.config.timers.transaction_timeout() * 2;
        self.session(id)?.offer = OfferState::Sent {
            transaction,
            sdp,
            attempt,
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
            200..=299 => self.reinvite_accepted(client, id, response),
            401 | 407 if self.authorize_again(now, client, id, response) => {}
            status @ (408 | 481) => self.dialog_lost(now, id, Some(status)),
            status => self.offer_refused(now, id, status),
        }
    }

    fn reinvite_accepted(&mut self, client: ClientId, id: LegId, response: &Response) {
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
        session.offer = OfferState::Idle;
        self.refresh_leg(id);
        let sdp = super::body::session_description(&response.headers, &response.body);
        self.emit(Event::Answer {
            leg: id,
            sdp: sdp.ok().flatten().unwrap_or_default(),
        });
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
        let OfferState::Sent { sdp, attempt, .. } = &mut session.offer else {
            return;
        };
        if status == StatusCode::REQUEST_PENDING.code() && *attempt < MAX_GLARES {
            session.offer = OfferState::Glare {
                sdp: std::mem::take(sdp),
                attempt: *attempt + 1,
                at: now + wait(&mut self.rng, session.caller),
            };
            self.refresh_leg(id);
            return;
        }
        session.offer = OfferState::Idle;
        self.refresh_leg(id);
        self.emit(Event::OfferRefused { leg: id, status });
    }

    /// Sends a challenged request of a leg's again with credentials; whether it did.
    pub(super) fn authorize_again(
        &mut self,
        now: Instant,
        client: ClientId,
        id: LegId,
        response: &Response,
    ) -> bool {
        let (Some(transaction), Some(leg)) = (self.clients.get(client), self.legs.get_mut(&id))
        else {
            return false;
        };
        let challenges = transaction.owner.challenges + 1;
        let (Phase::Established(session) | Phase::Closing(session), Some(digest)) =
            (&mut leg.phase, &mut leg.digest)
        else {
            return false;
        };
        if challenges > MAX_CHALLENGES || !is_challenge(response) {
            return false;
        }
        let request = &transaction.request;
        let Some(mut again) = with_credentials(digest, &mut self.rng, request, response) else {
            return false;
        };
        let sequence = session.dialog.next_sequence();
        set_sequence(&mut again, sequence);
        if matches!(transaction.owner.purpose, Purpose::Refer(_)) {
            session.referral.renumber(sequence);
        }
        let hop = transaction.hop;
        let mut owner = Owner::new(transaction.owner.purpose, transaction.owner.path);
        owner.dialog.clone_from(&transaction.owner.dialog);
        owner.challenges = challenges;
        let next = self.send_request(now, again, hop, owner);
        if let Ok(session) = self.session(id)
            && let OfferState::Sent { transaction, .. } = &mut session.offer
            && *transaction == client
        {
            *transaction = next;
        }
        true
    }

    pub(super) fn send_info_request(
        &mut self,
        now: Instant,
        id: LegId,
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<(), CommandError> {
        if self.clients.len() >= self.config.limits.client_transactions {
            return Err(CommandError::LimitReached);
        }
        let mut request = self.session(id)?.dialog.request(Method::Info);
        request.headers.push(HeaderName::ContentType, content_type);
        request.body = body;
        self.send_in_dialog(now, id, request, Purpose::Info(id));
        Ok(())
    }

    /// Sends a request of a leg's dialog.
    pub(super) fn send_in_dialog(
        &mut self,
        now: Instant,
        id: LegId,
        mut request: Request,
        purpose: Purpose,
    ) {
        if let Some(digest) = self.legs.get_mut(&id).and_then(|leg| leg.digest.as_mut()) {
            digest.authorize(&mut request, &mut self.rng);
        }
        let Some(leg) = self.legs.get(&id) else {
            return;
        };
        let (Phase::Established(session) | Phase::Closing(session)) = &leg.phase else {
            return;
        };
        let path = leg.path;
        let hop = self.dialog_hop(path, &session.dialog);
        self.send_request(now, request, hop, Owner::new(purpose, path));
    }

    pub(super) fn info_answered(
        &mut self,
        now: Instant,
        client: ClientId,
        id: LegId,
        response: &Response,
    ) {
        match response.status.code() {
            status @ (408 | 481) => self.dialog_lost(now, id, Some(status)),
            401 | 407 => {
                self.authorize_again(now, client, id, response);
            }
            _ => {}
        }
    }

    /// A request of ours showed that the peer has no such dialog, or is gone (RFC 3261
    /// 12.2.1.2).
    pub(super) fn dialog_lost(&mut self, now: Instant, id: LegId, status: Option<u16>) {
        if self.session(id).is_ok() {
            self.close_session(now, id, None, EndCause::DialogLost { status });
        }
    }

    /// Ends an established leg from our side: tells the owner, and says BYE when it may.
    pub(super) fn close_session(
        &mut self,
        now: Instant,
        id: LegId,
        reason: Option<Reason>,
        cause: EndCause,
    ) {
        self.refuse_open_offer(now, id, 487);
        self.abandon_offer(now, id);
        self.end_transfers(now, id);
        let Some(mut leg) = self.legs.remove(&id) else {
            return;
        };
        leg.phase = match leg.phase {
            Phase::Established(mut session) => {
                session.bye = ByeState::AwaitingAck(reason);
                session.offer = OfferState::Idle;
                Phase::Closing(session)
            }
            other => other,
        };
        self.legs.insert(id, leg);
        self.emit(Event::Ended { leg: id, cause });
        self.send_awaited_bye(now, id);
        self.refresh_leg(id);
    }

    /// Sends the BYE of a closing leg, unless the dialog's first 2xx still waits for its ACK
    /// (RFC 3261 15).
    pub(super) fn send_awaited_bye(&mut self, now: Instant, id: LegId) {
        let Some(leg) = self.legs.get_mut(&id) else {
            return;
        };
        let Phase::Closing(session) = &mut leg.phase else {
            return;
        };
        if session.handshakes.iter().any(|handshake| handshake.initial) {
            return;
        }
        let ByeState::AwaitingAck(reason) = &mut session.bye else {
            return;
        };
        let mut request = session.dialog.request(Method::Bye);
        if let Some(reason) = reason.take() {
            request.headers.push(HeaderName::Reason, reason);
        }
        session.bye = ByeState::Sent;
        session.handshakes.clear();
        self.refresh_leg(id);
        self.send_in_dialog(now, id, request, Purpose::Bye(id));
    }

    pub(super) fn bye_answered(
        &mut self,
        now: Instant,
        client: ClientId,
        id: LegId,
        response: &Response,
    ) {
        if response.status.is_final() && !self.authorize_again(now, client, id, response) {
            self.forget_leg(id);
        }
    }

    /// The leg's own timer.
    pub(super) fn leg_timeout(&mut self, now: Instant, id: LegId) {
        match self.legs.get(&id).map(|leg| &leg.phase) {
            Some(Phase::Ringing(_)) => self.ringing_timeout(now, id),
            Some(Phase::Calling(_)) => self.calling_timeout(now, id),
            Some(Phase::Established(_) | Phase::Closing(_)) => self.session_timeout(now, id),
            None => {}
        }
    }

    fn session_timeout(&mut self, now: Instant, id: LegId) {
        let Some(leg) = self.legs.get_mut(&id) else {
            return;
        };
        let (Phase::Established(session) | Phase::Closing(session)) = &mut leg.phase else {
            return;
        };
        if session.handshakes.iter().any(|each| each.fail_at <= now) {
            self.no_ack(now, id);
            return;
        }
        let again: Vec<(Hop, Arc<[u8]>)> = session
            .handshakes
            .iter_mut()
            .filter(|handshake| handshake.resend_at <= now)
            .map(|handshake| {
                handshake.interval = self.config.timers.next_interval(handshake.interval);
                handshake.resend_at = now + handshake.interval;
                (handshake.hop, Arc::clone(&handshake.bytes))
            })
            .collect();
        for (hop, bytes) in again {
            self.counters.retransmitted += 1;
            self.transmit(hop, bytes);
        }
        self.offer_timeout(now, id);
        self.referral_timeout(now, id);
        self.referred_timeout(now, id);
        self.refresh_leg(id);
    }

    fn offer_timeout(&mut self, now: Instant, id: LegId) {
        let patience = self.config.timers.transaction_timeout() * 2;
        let Ok(session) = self.session(id) else {
            return;
        };
        match &mut session.offer {
            OfferState::Glare { sdp, attempt, at } if *at <= now => {
                let (sdp, attempt) = (std::mem::take(sdp), *attempt);
                session.offer = OfferState::Idle;
                self.retry_offer(now, id, sdp, attempt);
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

    fn retry_offer(&mut self, now: Instant, id: LegId, sdp: Vec<u8>, attempt: u32) {
        if self.send_offer(now, id, sdp, attempt).is_err() {
            let status = StatusCode::REQUEST_PENDING.code();
            self.emit(Event::OfferRefused { leg: id, status });
        }
    }

    /// A 2xx was never acknowledged: the session ends with BYE (RFC 3261 13.3.1.4).
    fn no_ack(&mut self, now: Instant, id: LegId) {
        let Some(leg) = self.legs.get_mut(&id) else {
            return;
        };
        match &mut leg.phase {
            Phase::Established(session) => {
                session.handshakes.clear();
                self.close_session(now, id, None, EndCause::NoAck);
            }
            Phase::Closing(session) => {
                session.handshakes.clear();
                self.send_awaited_bye(now, id);
            }
            Phase::Ringing(_) | Phase::Calling(_) => {}
        }
    }
}
