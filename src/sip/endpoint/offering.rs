//! Offers of ours inside dialogs, by re-INVITE or UPDATE (RFC 3261 14.1, RFC 3264, RFC 3311).

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;

use super::Endpoint;
use super::api::{CommandError, LegId};
use super::body::session_description;
use super::compose::set_description;
use super::event::Event;
use super::leg::{Asked, Draft, Means, OfferState, Owner, Phase, Purpose, SentAck};
use super::offered::Reply;
use crate::sip::message::{Method, Response, StatusCode};
use crate::sip::transaction::ClientId;

/// How often an offer of ours is sent again after 491 and its like.
const MAX_GLARES: u32 = 5;

/// How long after a refused refresh the next one is tried.
const REFRESH_RETRY: Duration = Duration::from_secs(10);

/// The longest Retry-After of an overlapping request that is worth waiting for (RFC 3261 14.2).
const LONGEST_WAIT: u32 = 10;

impl Endpoint {
    /// Makes an offer, or asks for one.
    pub(super) fn send_offer(
        &mut self,
        now: Instant,
        id: LegId,
        draft: Draft,
    ) -> Result<(), CommandError> {
        if self.clients.len() >= self.config.limits.client_transactions {
            return Err(CommandError::LimitReached);
        }
        let leg = self.legs.get_mut(&id).ok_or(CommandError::UnknownLeg)?;
        let established = matches!(leg.phase, Phase::Established(_));
        let extensions = leg.extensions;
        let session = match (&draft.means, established) {
            (Means::Reinvite, true) | (Means::Update, _) => leg.free_session(),
            (Means::Reinvite, false) => None,
        };
        let session = session.ok_or(CommandError::WrongState)?;
        let waiting = draft.means == Means::Reinvite && !session.handshakes.is_empty();
        if !matches!(session.offer, OfferState::Idle) || waiting {
            return Err(CommandError::OfferPending);
        }
        let (method, purpose) = match draft.means {
            Means::Reinvite => (Method::Invite, Purpose::Reinvite(id)),
            Means::Update if session.peer_updates => (Method::Update, Purpose::Update(id)),
            Means::Update => return Err(CommandError::WrongState),
        };
        let mut request = session.dialog.request(method);
        let dialog = session.dialog.clone();
        let tag = dialog.remote_tag().map(str::to_owned);
        // Before the call is answered there is no session to be timed.
        let proposal = established.then(|| session.proposal(&extensions)).flatten();
        self.describe_ourselves(id, &mut request, proposal);
        if let Some(sdp) = &draft.sdp {
            set_description(&mut request.headers, &mut request.body, sdp.clone());
        }
        let Some(leg) = self.legs.get_mut(&id) else {
            return Err(CommandError::UnknownLeg);
        };
        if let Some(digest) = &mut leg.digest {
            digest.authorize(&mut request, &mut self.rng);
        }
        let leg = self.legs.get(&id).ok_or(CommandError::UnknownLeg)?;
        let path = self.path_along(leg, &dialog);
        let hop = self.dialog_hop(path, &dialog);
        let mut owner = Owner::new(purpose, path);
        owner.dialog = Some(Box::new(dialog));
        owner.proposal = proposal;
        let transaction = self.send_request(now, request, hop, owner);
        // Nobody has to pick up a phone for this one.
        let give_up_at = now + self.config.timers.transaction_timeout() * 2;
        let leg = self.legs.get_mut(&id);
        if let Some(session) = leg.and_then(|leg| leg.session_with(tag.as_deref())) {
            session.offer = OfferState::Sent {
                transaction,
                draft,
                give_up_at,
            };
        }
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
            _ => self.offer_refused(now, client, id, response),
        }
    }

    /// The answer to an UPDATE with an offer.
    pub(super) fn update_answered(
        &mut self,
        now: Instant,
        client: ClientId,
        id: LegId,
        response: &Response,
    ) {
        match response.status.code() {
            100..=199 => {}
            200..=299 => {
                if let Ok(contact) = response.headers.contact()
                    && let Some(session) = self.session_awaiting(id, client)
                {
                    session.dialog.refresh_target(contact.uri);
                }
                self.take_answer(now, client, id, response);
            }
            401 | 407 if self.authorize_again(now, client, id, response) => {}
            status @ (408 | 481) if self.session(id).is_ok() => {
                self.dialog_lost(now, id, Some(status));
            }
            _ => self.offer_refused(now, client, id, response),
        }
        self.release_acceptance(now, id);
    }

    /// An UPDATE with an offer got no answer.
    pub(super) fn update_failed(&mut self, now: Instant, client: ClientId, id: LegId) {
        self.dialog_lost(now, id, None);
        // Before the call is answered the INVITE decides.
        if let Some(session) = self.session_awaiting(id, client) {
            session.offer = OfferState::Idle;
            self.refresh_leg(id);
            self.emit(Event::OfferRefused {
                leg: id,
                status: 408,
            });
            self.release_acceptance(now, id);
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
            self.repeat_ack(ack);
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
        let asked_for_offer = invite.body.is_empty();
        let offer = session_description(&response.headers, &response.body);
        if let (true, Ok(Some(offer)), true) = (
            asked_for_offer,
            offer,
            self.session_awaiting(id, client).is_some(),
        ) {
            self.note_ack(client, None, None, hop);
            self.accept_proposal(now, client, id, response);
            self.open_reply(now, id, None, Reply::Ack { client }, offer);
            return;
        }
        let bytes = self.send_ack(dialog.ack(sequence), &invite, hop);
        self.note_ack(client, None, Some(bytes), hop);
        self.take_answer(now, client, id, response);
    }

    /// Remembers the ACK of a 2xx, or that it must wait.
    pub(super) fn note_ack(
        &mut self,
        client: ClientId,
        to_tag: Option<String>,
        bytes: Option<Arc<[u8]>>,
        hop: crate::sip::transport::Hop,
    ) {
        if let Some(transaction) = self.clients.get_mut(client) {
            transaction.owner.acks.push(SentAck { to_tag, bytes, hop });
        }
    }

    /// A 2xx came again: so does its ACK, if it is out.
    pub(super) fn repeat_ack(&mut self, ack: SentAck) {
        if let Some(bytes) = ack.bytes {
            self.counters.retransmitted += 1;
            self.transmit(ack.hop, bytes);
        }
    }

    /// The session whose offer this transaction carries.
    pub(super) fn session_awaiting(
        &mut self,
        id: LegId,
        client: ClientId,
    ) -> Option<&mut super::leg::Session> {
        let leg = self.legs.get_mut(&id)?;
        leg.sessions_mut().find(|session| {
            matches!(&session.offer, OfferState::Sent { transaction, .. } if *transaction == client)
        })
    }

    fn accept_proposal(&mut self, now: Instant, client: ClientId, id: LegId, response: &Response) {
        let proposal = self.clients.get(client).and_then(|it| it.owner.proposal);
        if let Some(session) = self.session_awaiting(id, client) {
            session.take_acceptance(now, proposal, &response.headers);
        }
    }

    /// A 2xx brings the answer to our offer.
    fn take_answer(&mut self, now: Instant, client: ClientId, id: LegId, response: &Response) {
        self.accept_proposal(now, client, id, response);
        let Some(session) = self.session_awaiting(id, client) else {
            return;
        };
        let answer = session_description(&response.headers, &response.body);
        let answer = answer.ok().flatten().unwrap_or_default();
        let OfferState::Sent { draft, .. } =
            std::mem::replace(&mut session.offer, OfferState::Idle)
        else {
            return;
        };
        session.local_description = draft.sdp.unwrap_or_default();
        let before = std::mem::replace(&mut session.remote_description, answer.clone());
        self.refresh_leg(id);
        // A refresh that changed nothing is nobody's business.
        if draft.asked == Asked::ByOwner || before != answer {
            self.emit(Event::Answer {
                leg: id,
                sdp: answer,
            });
        }
    }

    /// An offer of ours was refused: it is tried again after a while where that is what the
    /// refusal asks for, else the owner is told.
    fn offer_refused(&mut self, now: Instant, client: ClientId, id: LegId, response: &Response) {
        let status = response.status.code();
        if status == 422 {
            self.interval_too_small(now, id, &response.headers);
        }
        // RFC 3261 14.1: the owner of the Call-ID waits longer, in units of 10 ms.
        let long = self.rng.random_range(210..=400_u64);
        let short = self.rng.random_range(0..=200_u64);
        let Some(session) = self.session_awaiting(id, client) else {
            return;
        };
        let retry_after = response.headers.retry_after().ok().flatten();
        let wait = match (status, retry_after) {
            (491, _) if session.caller => Some(Duration::from_millis(long * 10)),
            (491, _) => Some(Duration::from_millis(short * 10)),
            (422, _) if session.timer.is_some() => Some(Duration::ZERO),
            (500, Some(seconds)) if seconds <= LONGEST_WAIT => {
                Some(Duration::from_secs(seconds.into()))
            }
            _ => None,
        };
        let OfferState::Sent { draft, .. } =
            std::mem::replace(&mut session.offer, OfferState::Idle)
        else {
            return;
        };
        match wait.filter(|_| draft.attempt < MAX_GLARES) {
            Some(wait) => {
                session.offer = OfferState::Glare {
                    draft: Draft {
                        attempt: draft.attempt + 1,
                        ..draft
                    },
                    at: now + wait,
                };
                self.refresh_leg(id);
            }
            None => {
                self.refresh_leg(id);
                self.tell_refusal(now, id, status, draft.asked);
            }
        }
    }

    /// An offer of ours came to nothing.
    fn tell_refusal(&mut self, now: Instant, id: LegId, status: u16, asked: Asked) {
        match asked {
            Asked::ByOwner => self.emit(Event::OfferRefused { leg: id, status }),
            Asked::ToRefresh => self.retry_refresh(now + REFRESH_RETRY, id),
        }
        self.release_acceptance(now, id);
    }

    /// The time of the open offers of a leg.
    pub(super) fn offer_timeout(&mut self, now: Instant, id: LegId) {
        let patience = self.config.timers.transaction_timeout() * 2;
        let Some(leg) = self.legs.get_mut(&id) else {
            return;
        };
        let due = leg
            .sessions_mut()
            .find(|session| session.offer.deadline().is_some_and(|(at, _)| at <= now));
        let Some(session) = due else {
            return;
        };
        match &mut session.offer {
            OfferState::Glare { .. } => {
                let before = std::mem::replace(&mut session.offer, OfferState::Idle);
                let OfferState::Glare { draft, .. } = before else {
                    return;
                };
                let asked = draft.asked;
                if self.send_offer(now, id, draft).is_err() {
                    self.tell_refusal(now, id, StatusCode::REQUEST_PENDING.code(), asked);
                }
            }
            // The owner is late: our fault.
            OfferState::Received { .. } => self.withdraw_offer(now, id, 500),
            OfferState::InTheirResponse { .. } => self.decline_reply(now, id),
            // The peer is. The final response, or its absence, decides.
            OfferState::Sent {
                transaction,
                give_up_at,
                ..
            } => {
                let transaction = *transaction;
                *give_up_at = now + patience;
                self.cancel_invite(now, transaction, None);
            }
            OfferState::Idle | OfferState::Invited | OfferState::InResponse => {}
        }
        self.refresh_leg(id);
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
