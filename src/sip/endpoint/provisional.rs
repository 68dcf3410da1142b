//! Provisional responses to incoming calls, reliable ones among them (RFC 3261 13.3.1.1,
//! RFC 3262 section 3).
//!
//! ```text
//!              send_provisional               PRACK, or the final response
//!   none or ----------------------> pending -------------------------------> confirmed
//!   confirmed                        |   ^                 |
//!                                    `---' sent again      | 64 * T1: the call is refused 504
//!    further ones wait until it is confirmed; a 2xx waits where it rests on an open offer
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;

use super::Endpoint;
use super::api::{CommandError, EndCause, LegId, Support};
use super::compose::set_description;
use super::event::Event;
use super::leg::{OfferState, Phase, Ringing, Session};
use super::requests::Received;
use crate::sip::extensions::{Extensions, RELIABLE};
use crate::sip::headers::{HeaderName, RAck};
use crate::sip::message::Request;

/// How often a provisional response is sent again, lest proxies give up (RFC 3261 13.3.1.1).
const INTERVAL: Duration = Duration::from_secs(60);

/// Responses that may wait for the PRACK of one before them.
const MOST_WAITING: usize = 8;

/// The reliable provisional responses of a ringing leg.
#[derive(Debug)]
pub(super) struct ReliableResponses {
    /// Whether they are reliable at all.
    in_use: bool,
    /// RSeq of the last one.
    number: u32,
    pending: Option<Pending>,
    /// Sent once `pending` is confirmed: status and description.
    waiting: VecDeque<(u16, Option<Vec<u8>>)>,
    /// The description of a 2xx that waits.
    acceptance: Option<Vec<u8>>,
}

/// One that was not confirmed yet.
#[derive(Debug)]
struct Pending {
    status: u16,
    bytes: Arc<[u8]>,
    /// It carried a session description, on which a 2xx would rest.
    described: bool,
    interval: Duration,
    resend_at: Instant,
    fail_at: Instant,
}

impl ReliableResponses {
    /// For a call whose INVITE is `request`. `seed` is the first RSeq less one.
    pub(super) fn new(extensions: &Extensions, request: &Request, seed: u32) -> Self {
        let in_use =
            extensions.reliable_provisional != Support::Off && request.headers.offers(RELIABLE);
        Self {
            in_use,
            number: seed,
            pending: None,
            waiting: VecDeque::new(),
            acceptance: None,
        }
    }

    pub(super) fn deadline(&self) -> Option<(Instant, &'static str)> {
        let pending = self.pending.as_ref()?;
        Some((pending.resend_at.min(pending.fail_at), "PRACK"))
    }

    /// What a PRACK that comes after the 2xx would confirm.
    pub(super) fn unconfirmed(&self, invite: &Request) -> Option<RAck> {
        self.pending.as_ref()?;
        Some(RAck {
            response_number: self.number,
            cseq: invite.headers.cseq().ok()?,
        })
    }

    /// Whether a 2xx must wait (RFC 3262 section 3), and remembers it then.
    fn holds(&mut self, session: &Session, sdp: &[u8]) -> bool {
        let settled = matches!(session.offer, OfferState::Idle | OfferState::Invited);
        let described = self.pending.as_ref().is_some_and(|it| it.described);
        let hold = described || !settled;
        if hold {
            self.acceptance = Some(sdp.to_vec());
        }
        hold
    }
}

/// The first RSeq less one (RFC 3262 section 3): low enough to be counted up from for ever.
pub(super) fn first_number(rng: &mut rand::rngs::StdRng) -> u32 {
    rng.random_range(0..1 << 30)
}

impl Endpoint {
    /// The ringing part of a leg, or why there is none.
    fn ringing_mut(&mut self, id: LegId) -> Result<&mut Ringing, CommandError> {
        let leg = self.legs.get_mut(&id).ok_or(CommandError::UnknownLeg)?;
        match &mut leg.phase {
            Phase::Ringing(ringing) => Ok(ringing),
            Phase::Calling(_) | Phase::Established(_) => Err(CommandError::WrongState),
            Phase::Closing(_) => Err(CommandError::UnknownLeg),
        }
    }

    pub(super) fn send_provisional(
        &mut self,
        now: Instant,
        id: LegId,
        status: u16,
        sdp: Option<Vec<u8>>,
    ) -> Result<(), CommandError> {
        if !(101..=199).contains(&status) {
            return Err(CommandError::BadStatus(status));
        }
        let ringing = self.ringing_mut(id)?;
        let reliable = &mut ringing.reliable;
        if reliable.acceptance.is_some() {
            return Err(CommandError::WrongState);
        }
        if reliable.pending.is_some() {
            if reliable.waiting.len() >= MOST_WAITING {
                return Err(CommandError::LimitReached);
            }
            reliable.waiting.push_back((status, sdp));
            return Ok(());
        }
        let in_use = reliable.in_use;
        match in_use {
            true => self.send_reliably(now, id, status, sdp),
            false => self.send_plainly(now, id, status, sdp),
        }
    }

    fn send_plainly(
        &mut self,
        now: Instant,
        id: LegId,
        status: u16,
        sdp: Option<Vec<u8>>,
    ) -> Result<(), CommandError> {
        let (leg, ringing) = self.ringing(id)?;
        let transaction = ringing.transaction;
        let mut response = self.dialog_response(&ringing.request, status, leg);
        if let Some(sdp) = sdp {
            set_description(&mut response.headers, &mut response.body, sdp);
        }
        let sent = self.send_response(now, transaction, &response);
        if let Some((_, bytes)) = sent {
            self.ringing_mut(id)?.provisional = Some((bytes, status, now + INTERVAL));
        }
        self.refresh_leg(id);
        Ok(())
    }

    fn send_reliably(
        &mut self,
        now: Instant,
        id: LegId,
        status: u16,
        sdp: Option<Vec<u8>>,
    ) -> Result<(), CommandError> {
        let t1 = self.config.timers.t1;
        let fail_at = now + self.config.timers.transaction_timeout();
        let (leg, ringing) = self.ringing(id)?;
        let transaction = ringing.transaction;
        // Once offer and answer are exchanged, a response must not describe the session again.
        let unsettled = matches!(ringing.session.offer, OfferState::Invited);
        let sdp = sdp.filter(|_| unsettled);
        let number = ringing.reliable.number + 1;
        let mut response = self.dialog_response(&ringing.request, status, leg);
        response.headers.push(HeaderName::Require, RELIABLE);
        response.headers.push(HeaderName::RSeq, number);
        if let Some(sdp) = &sdp {
            set_description(&mut response.headers, &mut response.body, sdp.clone());
        }
        let Some((_, bytes)) = self.send_response(now, transaction, &response) else {
            return Err(CommandError::WrongState);
        };
        let ringing = self.ringing_mut(id)?;
        ringing.reliable.number = number;
        ringing.reliable.pending = Some(Pending {
            status,
            bytes: Arc::clone(&bytes),
            described: sdp.is_some(),
            interval: t1,
            resend_at: now + t1,
            fail_at,
        });
        ringing.provisional = Some((bytes, status, now + INTERVAL));
        if let Some(sdp) = sdp {
            ringing.session.local_description = sdp;
            ringing.session.offer = match ringing.offerless {
                true => OfferState::InResponse,
                false => OfferState::Idle,
            };
        }
        self.refresh_leg(id);
        Ok(())
    }

    /// PRACK inside a dialog.
    pub(super) fn receive_prack(&mut self, now: Instant, id: LegId, received: Received) {
        let Ok(rack) = received.request.headers.rack() else {
            return self.answer_received(now, &received, 400, &[]);
        };
        let Ok(description) = self.offered_description(now, &received) else {
            return;
        };
        let Ok(ringing) = self.ringing_mut(id) else {
            // It crossed our 2xx, which did not need it.
            let session = self.session(id).ok();
            let late = session.and_then(|session| session.unconfirmed.take_if(|it| *it == rack));
            let status = if late.is_some() { 200 } else { 481 };
            return self.answer_received(now, &received, status, &[]);
        };
        if ringing.reliable.unconfirmed(&ringing.request) != Some(rack) {
            return self.answer_received(now, &received, 481, &[]);
        }
        match (&ringing.session.offer, description) {
            // Our offer was in the response: the answer is due here.
            (OfferState::InResponse, Some(answer)) => {
                ringing.session.offer = OfferState::Idle;
                ringing.session.remote_description.clone_from(&answer);
                self.confirm_provisional(now, id, &received);
                self.emit(Event::Answer {
                    leg: id,
                    sdp: answer,
                });
            }
            (OfferState::InResponse, None) => self.answer_received(now, &received, 400, &[]),
            (OfferState::Idle, Some(offer)) => {
                ringing.reliable.pending = None;
                self.open_offer(now, id, received, Some(offer));
            }
            (_, Some(_)) => {
                // An offer while another is open.
                ringing.reliable.pending = None;
                self.answer_received(now, &received, 491, &[]);
            }
            (_, None) => self.confirm_provisional(now, id, &received),
        }
        self.send_waiting(now, id);
        self.release_acceptance(now, id);
    }

    fn confirm_provisional(&mut self, now: Instant, id: LegId, received: &Received) {
        if let Ok(ringing) = self.ringing_mut(id) {
            ringing.reliable.pending = None;
        }
        self.answer_received(now, received, 200, &[]);
        self.refresh_leg(id);
    }

    /// Sends what waited for the PRACK of the response before it.
    fn send_waiting(&mut self, now: Instant, id: LegId) {
        let Ok(ringing) = self.ringing_mut(id) else {
            return;
        };
        if ringing.reliable.pending.is_none()
            && let Some((status, sdp)) = ringing.reliable.waiting.pop_front()
        {
            // Still ringing: nothing can fail.
            let _ = self.send_reliably(now, id, status, sdp);
        }
        self.refresh_leg(id);
    }

    /// Keeps a 2xx back where it must wait; whether it did.
    pub(super) fn hold_acceptance(&mut self, id: LegId, sdp: &[u8]) -> Result<bool, CommandError> {
        let ringing = self.ringing_mut(id)?;
        if ringing.reliable.acceptance.is_some() {
            return Err(CommandError::WrongState);
        }
        ringing.reliable.waiting.clear();
        Ok(ringing.reliable.holds(&ringing.session, sdp))
    }

    /// Sends a 2xx that waited, if nothing is in its way any more.
    pub(super) fn release_acceptance(&mut self, now: Instant, id: LegId) {
        if let Ok(ringing) = self.ringing_mut(id)
            && let Some(sdp) = ringing.reliable.acceptance.take()
        {
            // It waits on, or goes out.
            let _ = self.accept_call(now, id, sdp);
        }
    }

    /// The leg's own timer while it rings.
    pub(super) fn ringing_timeout(&mut self, now: Instant, id: LegId) {
        let Ok(ringing) = self.ringing_mut(id) else {
            return;
        };
        if ringing.give_up_at <= now {
            let _ = self.refuse_call(now, id, 480, &[], EndCause::Unanswered);
            return;
        }
        let transaction = ringing.transaction;
        match &mut ringing.reliable.pending {
            Some(pending) if pending.fail_at <= now => {
                let _ = self.refuse_call(now, id, 504, &[], EndCause::NoAck);
                return;
            }
            Some(pending) if pending.resend_at <= now => {
                pending.interval *= 2;
                pending.resend_at = now + pending.interval;
                let (bytes, status) = (Arc::clone(&pending.bytes), pending.status);
                if let Some(hop) = self.servers.respond(now, transaction, status, &bytes) {
                    self.counters.retransmitted += 1;
                    self.transmit(hop, bytes);
                }
            }
            _ => {}
        }
        self.repeat_provisional(now, id);
        self.offer_timeout(now, id);
        self.refresh_leg(id);
    }

    fn repeat_provisional(&mut self, now: Instant, id: LegId) {
        let Ok(ringing) = self.ringing_mut(id) else {
            return;
        };
        let transaction = ringing.transaction;
        let Some((bytes, status, at)) = &mut ringing.provisional else {
            return;
        };
        if *at > now {
            return;
        }
        *at = now + INTERVAL;
        let (bytes, status) = (Arc::clone(bytes), *status);
        let reliable = &ringing.reliable;
        if reliable.in_use {
            if reliable.pending.is_none() && reliable.acceptance.is_none() {
                let _ = self.send_reliably(now, id, status, None);
            }
        } else if let Some(hop) = self.servers.respond(now, transaction, status, &bytes) {
            self.transmit(hop, bytes);
        }
    }
}
