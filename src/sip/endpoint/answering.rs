//! Incoming calls until their final response (RFC 3261 13.3).

use std::sync::Arc;
use std::time::Instant;

use super::Endpoint;
use super::api::{CommandError, EndCause, LegId, Reason};
use super::compose::{is_behind_nat, is_secure, set_description};
use super::event::{Event, IncomingCall};
use super::leg::{Handshake, Leg, OfferState, Path, Phase, Ringing, Session};
use super::provisional::{ReliableResponses, first_number};
use super::requests::Received;
use crate::sip::dialog::Dialog;
use crate::sip::headers::{HeaderName, Headers};
use crate::sip::message::{Request, Response};
use crate::sip::token;
use crate::sip::transport::{Hop, Protocol};

impl Endpoint {
    /// Starts a leg for an INVITE that passed every check.
    pub(super) fn start_call(
        &mut self,
        now: Instant,
        received: Received,
        authenticated: Option<String>,
        replaces: Option<LegId>,
        offer: Option<Vec<u8>>,
    ) {
        let request = Arc::new(received.request);
        let tag = token::tag(&mut self.rng);
        let contact = self.contact(
            received.source.transport,
            request.uri.user().as_deref(),
            is_secure(&request.uri),
        );
        let extensions = self.extensions_for(received.source);
        let parts = (
            Dialog::as_server(&request, &tag),
            request.headers.from(),
            request.headers.to(),
        );
        let (Some(contact), (Ok(dialog), Ok(from), Ok(to))) = (contact, parts) else {
            self.answer(now, received.transaction, &request, 400, &[]);
            return;
        };
        let Hop {
            transport, address, ..
        } = received.source;
        let protocol = self.protocol(transport);
        let path = Path {
            transport,
            peer: address,
            behind_nat: is_behind_nat(
                dialog.remote_target(),
                Some(&received.via),
                address,
                protocol,
            ),
            accepted: protocol != Protocol::Udp,
        };
        let call_id = dialog.call_id().to_owned();
        let mut session = Session::new(dialog, false);
        session.learn_peer(&request.headers);
        session.remote_description = offer.clone().unwrap_or_default();
        session.offer = OfferState::Invited;
        let first = first_number(&mut self.rng);
        let reliable = ReliableResponses::new(&extensions, &request, first);
        let leg = Leg {
            path,
            call_id: call_id.clone(),
            local_tag: tag,
            contact,
            extensions,
            digest: None,
            phase: Phase::Ringing(Box::new(Ringing {
                transaction: received.transaction,
                request: Arc::clone(&request),
                session,
                offerless: offer.is_none(),
                reliable,
                provisional: None,
                give_up_at: now + self.config.limits.unanswered,
            })),
        };
        let id = self.new_leg_id();
        if let Some(transaction) = self.servers.get_mut(received.transaction) {
            transaction.owner = Some(id);
        }
        self.insert_leg(id, leg);
        let trying = self.response(&request, 100, "");
        self.send_response(now, received.transaction, &trying);
        self.emit(Event::IncomingCall(Box::new(IncomingCall {
            leg: id,
            transport,
            source: address,
            request_uri: request.uri.clone(),
            from,
            to,
            call_id,
            authenticated,
            offer,
            replaces,
            headers: request.headers.clone(),
        })));
    }

    /// The ringing part of a leg, or why there is none.
    pub(super) fn ringing(&self, id: LegId) -> Result<(&Leg, &Ringing), CommandError> {
        let leg = self.legs.get(&id).ok_or(CommandError::UnknownLeg)?;
        match &leg.phase {
            Phase::Ringing(ringing) => Ok((leg, ringing)),
            Phase::Calling(_) | Phase::Established(_) => Err(CommandError::WrongState),
            Phase::Closing(_) => Err(CommandError::UnknownLeg),
        }
    }

    pub(super) fn accept_call(
        &mut self,
        now: Instant,
        id: LegId,
        sdp: Vec<u8>,
    ) -> Result<(), CommandError> {
        if self.hold_acceptance(id, &sdp)? {
            return Ok(());
        }
        let (leg, ringing) = self.ringing(id)?;
        let (request, transaction) = (Arc::clone(&ringing.request), ringing.transaction);
        // Reliable responses may have settled the session; then the 2xx has nothing to say of it.
        let settled = matches!(ringing.session.offer, OfferState::Idle);
        let offerless = ringing.offerless && !settled;
        let unconfirmed = ringing.reliable.unconfirmed(&request);
        let mut response = self.dialog_response(&request, 200, leg);
        // Too small an interval was refused when the call came.
        let agreement = ringing.session.agree(&leg.extensions, &request.headers);
        let agreement = agreement.unwrap_or(None);
        if let Some(agreement) = agreement {
            agreement.write(&mut response.headers);
        }
        if !settled {
            set_description(&mut response.headers, &mut response.body, sdp.clone());
        }
        let Some(sent) = self.send_response(now, transaction, &response) else {
            return Err(CommandError::WrongState);
        };
        let sequence = request.headers.cseq().map_or(0, |cseq| cseq.number);
        let handshake = self.handshake(now, sent, sequence, true, offerless);
        self.establish(id, |session| {
            session.handshakes.push(handshake);
            if !settled {
                session.local_description = sdp;
            }
            session.keep_agreement(now, agreement);
            session.unconfirmed = unconfirmed;
            session.offer = match offerless {
                true => OfferState::InResponse,
                false => OfferState::Idle,
            };
        });
        self.refresh_leg(id);
        Ok(())
    }

    /// Turns a ringing leg into an established one.
    fn establish(&mut self, id: LegId, change: impl FnOnce(&mut Session)) {
        let Some(mut leg) = self.legs.remove(&id) else {
            return;
        };
        leg.phase = match leg.phase {
            Phase::Ringing(ringing) => {
                let mut session = ringing.session;
                change(&mut session);
                Phase::Established(Box::new(session))
            }
            other => other,
        };
        self.legs.insert(id, leg);
    }

    pub(super) fn handshake(
        &self,
        now: Instant,
        (hop, bytes): (Hop, Arc<[u8]>),
        sequence: u32,
        initial: bool,
        answer_due: bool,
    ) -> Handshake {
        let timers = &self.config.timers;
        Handshake {
            sequence,
            bytes,
            hop,
            interval: timers.t1,
            resend_at: now + timers.t1,
            fail_at: now + timers.transaction_timeout(),
            initial,
            answer_due,
        }
    }

    /// Sends a refusal and ends the leg.
    pub(super) fn refuse_call(
        &mut self,
        now: Instant,
        id: LegId,
        status: u16,
        fields: &[(HeaderName, String)],
        cause: EndCause,
    ) -> Result<(), CommandError> {
        if !(300..=699).contains(&status) {
            return Err(CommandError::BadStatus(status));
        }
        self.ringing(id)?;
        self.refuse_open_offer(now, id, 487);
        let (leg, ringing) = self.ringing(id)?;
        let (request, transaction) = (Arc::clone(&ringing.request), ringing.transaction);
        let tag = leg.local_tag.clone();
        let mut response: Response = self.response(&request, status, &tag);
        for (name, value) in fields {
            response.headers.push(name.clone(), value);
        }
        self.send_response(now, transaction, &response);
        self.forget_leg(id);
        self.emit(Event::Ended { leg: id, cause });
        Ok(())
    }

    /// A CANCEL for an INVITE of this leg: the one that rings, or a re-INVITE.
    pub(super) fn cancel_received(&mut self, now: Instant, id: LegId, cancel: &Request) {
        let Some(leg) = self.legs.get(&id) else {
            return;
        };
        match leg.phase {
            Phase::Ringing(_) => {
                let reason = reason_of(&cancel.headers);
                let cause = EndCause::RemoteCancel { reason };
                // It rings, and 487 is a refusal: nothing can fail.
                let _ = self.refuse_call(now, id, 487, &[], cause);
            }
            Phase::Established(_) => self.withdraw_offer(now, id, 487),
            Phase::Calling(_) | Phase::Closing(_) => {}
        }
    }
}

/// The first Reason; peers' broken ones are passed over.
pub(super) fn reason_of(headers: &Headers) -> Option<Reason> {
    headers.reasons().ok()?.into_iter().next()
}
