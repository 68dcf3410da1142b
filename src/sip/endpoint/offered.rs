//! Offers of the peer's: in requests inside dialogs, and in responses to ours that brought none
//! (RFC 3261 13.2.1 and 14.2, RFC 3262 5, RFC 3311).

use std::sync::Arc;
use std::time::Instant;

use super::Endpoint;
use super::api::{CommandError, EndCause, LegId, Reason};
use super::body::session_description;
use super::compose::set_description;
use super::event::Event;
use super::leg::{Asked, OfferState, Phase, Session};
use super::requests::Received;
use crate::sip::headers::{HeaderName, RAck};
use crate::sip::message::{Method, Request};
use crate::sip::transaction::{ClientId, ServerId};

/// Answered INVITEs of one dialog that may wait for their ACK at once.
const MAX_HANDSHAKES: usize = 8;

/// What carries our answer to an offer that came in a response.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    /// The ACK of the 2xx of this transaction.
    Ack { client: ClientId },
    /// The PRACK of a reliable provisional response.
    Prack { rack: RAck },
}

impl Endpoint {
    /// re-INVITE or UPDATE.
    pub(super) fn receive_offer(&mut self, now: Instant, id: LegId, received: Received) {
        let Ok(description) = self.offered_description(now, &received) else {
            return;
        };
        let request = &received.request;
        if request.headers.contact().is_err() && request.headers.has(&HeaderName::Contact) {
            self.answer_received(now, &received, 400, &[]);
            return;
        }
        let is_invite = request.method == Method::Invite;
        let Some(leg) = self.legs.get_mut(&id) else {
            return;
        };
        let (extensions, established) =
            (leg.extensions, matches!(leg.phase, Phase::Established(_)));
        let ringing = matches!(leg.phase, Phase::Ringing(_));
        let Some(session) = leg.session_of(request) else {
            return;
        };
        if let (Err(too_small), true) = (session.agree(&extensions, &request.headers), established)
        {
            return self.answer_too_small(now, &received, too_small);
        }
        match session.offer {
            // An UPDATE without SDP only refreshes.
            _ if !is_invite && description.is_none() => {
                self.accept_refresh(now, id, &received);
            }
            // The offer of the INVITE comes first; its answer is ours to give.
            OfferState::Invited if ringing => self.ask_to_retry(now, &received),
            OfferState::Received { .. } => self.ask_to_retry(now, &received),
            _ if session.handshakes.len() >= MAX_HANDSHAKES => self.ask_to_retry(now, &received),
            OfferState::Invited
            | OfferState::Sent { .. }
            | OfferState::InResponse
            | OfferState::InTheirResponse { .. } => {
                self.answer_received(now, &received, 491, &[]);
            }
            OfferState::Idle | OfferState::Glare { .. } => {
                self.open_offer(now, id, received, description);
            }
        }
    }

    /// Hands an offer to the owner of the leg.
    pub(super) fn open_offer(
        &mut self,
        now: Instant,
        id: LegId,
        received: Received,
        description: Option<Vec<u8>>,
    ) {
        let transaction = received.transaction;
        if received.request.method == Method::Invite {
            let trying = self.response(&received.request, 100, "");
            self.send_response(now, transaction, &trying);
            if let Some(transaction) = self.servers.get_mut(transaction) {
                transaction.owner = Some(id);
            }
        }
        let give_up_at = now + self.config.timers.transaction_timeout();
        let leg = self.legs.get_mut(&id);
        let Some(session) = leg.and_then(|leg| leg.session_of(&received.request)) else {
            return;
        };
        let open = OfferState::Received {
            transaction,
            request: Arc::new(received.request),
            offerless: description.is_none(),
            give_up_at,
        };
        let before = std::mem::replace(&mut session.offer, open);
        // What we were about to offer again rests on a session that is changing now.
        if let OfferState::Glare { draft, .. } = before
            && draft.asked == Asked::ByOwner
        {
            self.emit(Event::OfferRefused {
                leg: id,
                status: 491,
            });
        }
        self.refresh_leg(id);
        self.emit(Event::Offer {
            leg: id,
            sdp: description,
        });
    }

    fn accept_refresh(&mut self, now: Instant, id: LegId, received: &Received) {
        let Some(leg) = self.legs.get_mut(&id) else {
            return;
        };
        let (extensions, established) =
            (leg.extensions, matches!(leg.phase, Phase::Established(_)));
        let Some(session) = leg.session_of(&received.request) else {
            return;
        };
        let headers = &received.request.headers;
        if let Ok(target) = headers.contact() {
            session.dialog.refresh_target(target.uri);
        }
        session.learn_peer(headers);
        let mut agreement = None;
        if established {
            // Too small an interval was refused before.
            agreement = session.agree(&extensions, headers).unwrap_or(None);
            session.keep_agreement(now, agreement);
        }
        let Some(leg) = self.legs.get(&id) else {
            return;
        };
        let mut response = self.dialog_response(&received.request, 200, leg);
        if let Some(agreement) = agreement {
            agreement.write(&mut response.headers);
        }
        self.send_response(now, received.transaction, &response);
        self.refresh_leg(id);
    }

    /// Accepts the peer's open offer.
    pub(super) fn accept_offer(
        &mut self,
        now: Instant,
        id: LegId,
        sdp: Vec<u8>,
    ) -> Result<(), CommandError> {
        let leg = self.legs.get_mut(&id).ok_or(CommandError::UnknownLeg)?;
        if let Phase::Closing(_) = leg.phase {
            return Err(CommandError::UnknownLeg);
        }
        let established = matches!(leg.phase, Phase::Established(_));
        let extensions = leg.extensions;
        let session = leg.offered_session().ok_or(CommandError::WrongState)?;
        let (transaction, request, offerless) = match &session.offer {
            OfferState::Received {
                transaction,
                request,
                offerless,
                ..
            } => (*transaction, Arc::clone(request), *offerless),
            _ => return self.send_reply(now, id, sdp),
        };
        session.learn_peer(&request.headers);
        session.local_description.clone_from(&sdp);
        if let Ok(Some(offer)) = session_description(&request.headers, &request.body) {
            session.remote_description = offer;
        }
        if let Ok(target) = request.headers.contact() {
            session.dialog.refresh_target(target.uri);
        }
        session.offer = match offerless {
            true => OfferState::InResponse,
            false => OfferState::Idle,
        };
        let mut agreement = None;
        if established && request.method != Method::Prack {
            // Too small an interval was refused before the owner was asked.
            agreement = session.agree(&extensions, &request.headers).unwrap_or(None);
            session.keep_agreement(now, agreement);
        }
        let Some(leg) = self.legs.get(&id) else {
            return Err(CommandError::UnknownLeg);
        };
        let mut response = self.dialog_response(&request, 200, leg);
        set_description(&mut response.headers, &mut response.body, sdp);
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
        self.release_acceptance(now, id);
        Ok(())
    }

    /// Refuses the peer's open offers, if there are any; whether there were.
    pub(super) fn refuse_open_offer(&mut self, now: Instant, id: LegId, status: u16) -> bool {
        let Some(leg) = self.legs.get_mut(&id) else {
            return false;
        };
        let open: Vec<(ServerId, Arc<Request>)> =
            leg.sessions_mut().filter_map(take_received).collect();
        for (transaction, request) in &open {
            self.answer(now, *transaction, request, status, &[]);
        }
        self.refresh_leg(id);
        !open.is_empty()
    }

    /// The peer's open offer is void.
    pub(super) fn withdraw_offer(&mut self, now: Instant, id: LegId, status: u16) {
        if self.refuse_open_offer(now, id, status) {
            self.emit(Event::OfferWithdrawn { leg: id });
            self.release_acceptance(now, id);
        }
    }

    /// An offer came in a response to a request of ours that brought none.
    pub(super) fn open_reply(
        &mut self,
        now: Instant,
        id: LegId,
        tag: Option<&str>,
        reply: Reply,
        offer: Vec<u8>,
    ) {
        // Before the peer gives the 2xx up.
        let give_up_at = now + self.config.timers.transaction_timeout() / 2;
        let Some(leg) = self.legs.get_mut(&id) else {
            return;
        };
        let session = match tag {
            Some(tag) => leg.session_with(Some(tag)),
            None => leg.session_mut(),
        };
        let Some(session) = session else {
            return;
        };
        session.offer = OfferState::InTheirResponse {
            reply,
            offer: offer.clone(),
            give_up_at,
        };
        self.refresh_leg(id);
        self.emit(Event::Offer {
            leg: id,
            sdp: Some(offer),
        });
    }

    /// Answers an offer that came in a response.
    fn send_reply(&mut self, now: Instant, id: LegId, sdp: Vec<u8>) -> Result<(), CommandError> {
        let leg = self.legs.get_mut(&id).ok_or(CommandError::UnknownLeg)?;
        let session = leg.offered_session().ok_or(CommandError::WrongState)?;
        let before = std::mem::replace(&mut session.offer, OfferState::Idle);
        let OfferState::InTheirResponse { reply, offer, .. } = before else {
            session.offer = before;
            return Err(CommandError::WrongState);
        };
        session.local_description.clone_from(&sdp);
        session.remote_description.clone_from(&offer);
        let tag = session.dialog.remote_tag().map(str::to_owned);
        match reply {
            Reply::Ack { client } => {
                let first = self.acknowledge_late(id, client, Some(sdp));
                if first {
                    self.emit(Event::Answered {
                        leg: id,
                        sdp: offer,
                    });
                }
            }
            Reply::Prack { rack } => self.send_prack(now, id, tag.as_deref(), rack, Some(sdp)),
        }
        self.refresh_leg(id);
        Ok(())
    }

    /// The ACK of a 2xx that had to wait for our answer; whether that 2xx made the dialog.
    pub(super) fn acknowledge_late(
        &mut self,
        id: LegId,
        client: ClientId,
        sdp: Option<Vec<u8>>,
    ) -> bool {
        let Some(transaction) = self.clients.get(client) else {
            return false;
        };
        let invite = Arc::clone(&transaction.request);
        let first = invite.headers.to().is_ok_and(|to| to.tag().is_none());
        let waiting = transaction
            .owner
            .acks
            .iter()
            .find(|ack| ack.bytes.is_none());
        let (Some(hop), Some(leg)) = (waiting.map(|ack| ack.hop), self.legs.get(&id)) else {
            return first;
        };
        let (Phase::Established(session) | Phase::Closing(session)) = &leg.phase else {
            return first;
        };
        let sequence = invite.headers.cseq().map_or(0, |cseq| cseq.number);
        let mut ack = session.dialog.ack(sequence);
        if let Some(sdp) = sdp {
            set_description(&mut ack.headers, &mut ack.body, sdp);
        }
        let bytes = self.send_ack(ack, &invite, hop);
        if let Some(transaction) = self.clients.get_mut(client) {
            let acks = &mut transaction.owner.acks;
            if let Some(ack) = acks.iter_mut().find(|ack| ack.bytes.is_none()) {
                ack.bytes = Some(bytes);
            }
        }
        first
    }

    /// The owner does not take an offer that came in a response. A response cannot be refused:
    /// it is acknowledged, and the call ends (RFC 3261 13.2.2.4).
    pub(super) fn decline_reply(&mut self, now: Instant, id: LegId) {
        let established = self.session(id).is_ok();
        let reason = Reason {
            protocol: "SIP".to_owned(),
            cause: Some(488),
            text: Some("Not Acceptable Here".to_owned()),
        };
        if established {
            self.close_session(now, id, Some(reason), EndCause::Local);
        } else {
            let hangup = super::Hangup {
                status: 488,
                reason: Some(reason),
            };
            self.abandon_invite(now, id, hangup, EndCause::Local);
        }
    }

    /// The ACK that still waits for an answer which will not come.
    pub(super) fn acknowledge_unanswered(&mut self, id: LegId) {
        if let Ok(session) = self.session(id)
            && let OfferState::InTheirResponse {
                reply: Reply::Ack { client },
                ..
            } = session.offer
        {
            self.acknowledge_late(id, client, None);
        }
    }
}

fn take_received(session: &mut Session) -> Option<(ServerId, Arc<Request>)> {
    match std::mem::replace(&mut session.offer, OfferState::Idle) {
        OfferState::Received {
            transaction,
            request,
            ..
        } => Some((transaction, request)),
        other => {
            session.offer = other;
            None
        }
    }
}
