//! Established sessions: requests without offers, the wait for ACK, and the end.

use std::sync::Arc;
use std::time::Instant;

use super::Endpoint;
use super::api::{CommandError, EndCause, LegId, Reason};
use super::compose::{is_challenge, set_sequence, with_credentials};
use super::event::Event;
use super::leg::{ByeState, MAX_CHALLENGES, OfferState, Owner, Phase, Purpose, Session};
use crate::sip::headers::HeaderName;
use crate::sip::message::{Method, Request, Response};
use crate::sip::transaction::ClientId;
use crate::sip::transport::Hop;

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
        let Some(digest) = &mut leg.digest else {
            return false;
        };
        if challenges > MAX_CHALLENGES || !is_challenge(response) {
            return false;
        }
        let request = &transaction.request;
        let Some(mut again) = with_credentials(digest, &mut self.rng, request, response) else {
            return false;
        };
        let to = request.headers.to().ok();
        let tag = to.as_ref().and_then(|to| to.tag());
        let Some(session) = leg.session_with(tag) else {
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
        owner.proposal = transaction.owner.proposal;
        let next = self.send_request(now, again, hop, owner);
        if let Some(session) = self.session_awaiting(id, client)
            && let OfferState::Sent { transaction, .. } = &mut session.offer
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

    /// Sends a request of a leg's dialog. `None` where the leg has none.
    pub(super) fn send_in_dialog(
        &mut self,
        now: Instant,
        id: LegId,
        mut request: Request,
        purpose: Purpose,
    ) -> Option<ClientId> {
        if let Some(digest) = self.legs.get_mut(&id).and_then(|leg| leg.digest.as_mut()) {
            digest.authorize(&mut request, &mut self.rng);
        }
        let leg = self.legs.get(&id)?;
        let to = request.headers.to().ok()?;
        let dialog = leg.dialog_with(to.tag())?;
        let path = self.path_along(leg, dialog);
        let hop = self.dialog_hop(path, dialog);
        Some(self.send_request(now, request, hop, Owner::new(purpose, path)))
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
        self.acknowledge_unanswered(id);
        self.abandon_offer(now, id);
        self.end_transfers(now, id);
        let Some(mut leg) = self.legs.remove(&id) else {
            return;
        };
        leg.phase = match leg.phase {
            Phase::Established(mut session) => {
                session.bye = ByeState::AwaitingAck(reason);
                session.offer = OfferState::Idle;
                session.timer = None;
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
        self.session_timer_timeout(now, id);
        self.referral_timeout(now, id);
        self.referred_timeout(now, id);
        self.refresh_leg(id);
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
