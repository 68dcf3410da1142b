//! Outgoing calls until their final response (RFC 3261 13.2), and what their INVITE transaction
//! does after the leg is gone: CANCEL, and the end of answers that nobody wants.

use std::sync::Arc;
use std::time::Instant;

use super::Endpoint;
use super::answering::reason_of;
use super::api::{CommandError, EndCause, Hangup, InviteRequest, LegId};
use super::body::session_description;
use super::compose::{
    ALLOW, is_challenge, is_secure, set_description, set_sequence, with_credentials,
};
use super::event::Event;
use super::leg::{
    Calling, Early, Leg, MAX_CHALLENGES, OfferState, Owner, Path, Phase, Purpose, Session,
};
use super::offered::Reply;
use crate::sip::auth::DigestClient;
use crate::sip::dialog::Dialog;
use crate::sip::extensions::Extensions;
use crate::sip::headers::{CSeq, Contacts, HeaderName, Headers, NameAddr};
use crate::sip::message::{Method, Request, Response};
use crate::sip::session_timer::Proposal;
use crate::sip::token;
use crate::sip::transaction::ClientId;
use crate::sip::transport::Hop;

/// Surplus answers of a forked INVITE that are acknowledged and ended; more are ignored.
const MAX_ANSWERS: usize = 16;

/// How far the CSeq of a surplus answer's BYE is from its INVITE's: more than what was sent in
/// its early dialog.
const SURPLUS_SEQUENCE: u32 = 16;

impl Endpoint {
    pub(super) fn start_invite(
        &mut self,
        now: Instant,
        call: InviteRequest,
    ) -> Result<LegId, CommandError> {
        let limits = &self.config.limits;
        if self.legs.len() >= limits.legs || self.clients.len() >= limits.client_transactions {
            return Err(CommandError::LimitReached);
        }
        let user = call.from.uri.user();
        let contact = self
            .contact(
                call.transport,
                user.as_deref(),
                is_secure(&call.request_uri),
            )
            .ok_or(CommandError::UnknownTransport)?;
        let path = Path {
            transport: call.transport,
            peer: call.destination,
            behind_nat: false,
            accepted: false,
        };
        let hop = Hop::new(call.transport, call.destination);
        let call_id = token::call_id(&mut self.rng);
        let local_tag = token::tag(&mut self.rng);
        let give_up_at = now + call.ring_timeout;
        let answer_by = call.patience.map(|patience| now + patience);
        let digest = call.credentials.as_ref().map(|credentials| {
            let client = DigestClient::new(&credentials.username, &credentials.password);
            Box::new(client)
        });
        let id = self.new_leg_id();
        let mut owner = Owner::new(Purpose::Invite(id), path);
        owner.credentials.clone_from(&call.credentials);
        let extensions = call.extensions.unwrap_or_else(|| self.extensions_for(hop));
        owner.proposal = Proposal::first(&extensions.session_timer);
        let mut request = initial_invite(call, &call_id, &local_tag, &contact);
        announce(&mut request.headers, &extensions, owner.proposal);
        let transaction = self.send_request(now, request, hop, owner);
        let leg = Leg {
            path,
            call_id,
            local_tag,
            contact,
            extensions,
            digest,
            phase: Phase::Calling(Calling {
                transaction,
                answer_by,
                give_up_at,
                early: Vec::new(),
            }),
        };
        self.insert_leg(id, leg);
        Ok(id)
    }

    pub(super) fn invite_answered(
        &mut self,
        now: Instant,
        client: ClientId,
        id: LegId,
        response: &Response,
    ) {
        if let Some(Phase::Calling(calling)) = self.legs.get_mut(&id).map(|leg| &mut leg.phase) {
            calling.answer_by = None;
        }
        match response.status.code() {
            status @ 100..=199 => self.invite_progressed(now, client, id, status, response),
            200..=299 => self.invite_accepted(now, client, id, response),
            401 | 407 if self.invite_again(now, client, id, response) => {}
            422 if self.invite_for_longer(now, client, id, response) => {}
            _ => self.invite_refused(now, id, response),
        }
    }

    pub(super) fn is_calling(&self, id: LegId) -> bool {
        let phase = self.legs.get(&id).map(|leg| &leg.phase);
        matches!(phase, Some(Phase::Calling(_)))
    }

    /// Every 2xx is acknowledged; the first makes the leg's dialog, if the leg still wants one,
    /// and all others are ended with BYE (RFC 3261 13.2.2.4).
    fn invite_accepted(&mut self, now: Instant, client: ClientId, id: LegId, response: &Response) {
        let Some(transaction) = self.clients.get(client) else {
            return;
        };
        let invite = Arc::clone(&transaction.request);
        let Ok(dialog) = Dialog::as_client(&invite, response) else {
            return;
        };
        let acks = &transaction.owner.acks;
        let known = acks
            .iter()
            .find(|ack| ack.to_tag.as_deref() == dialog.remote_tag());
        if let Some(ack) = known.cloned() {
            self.repeat_ack(ack);
            return;
        }
        if acks.len() >= MAX_ANSWERS {
            return;
        }
        let path = self.path_to_callee(transaction.owner.path, &dialog);
        let wanted = acks.is_empty() && self.is_calling(id);
        let hop = self.dialog_hop(path, &dialog);
        let to_tag = dialog.remote_tag().map(str::to_owned);
        if wanted {
            self.take_up(now, client, id, response, &dialog, path);
            return;
        }
        let sequence = invite.headers.cseq().map_or(0, |cseq| cseq.number);
        let bytes = self.send_ack(dialog.ack(sequence), &invite, hop);
        self.note_ack(client, to_tag, Some(bytes), hop);
        self.end_surplus(now, client, dialog, path, hop);
    }

    /// Ends a dialog that no leg wants.
    fn end_surplus(
        &mut self,
        now: Instant,
        client: ClientId,
        mut dialog: Dialog,
        path: Path,
        hop: Hop,
    ) {
        let mut owner = Owner::new(Purpose::SurplusBye, path);
        if let Some(transaction) = self.clients.get(client) {
            owner.credentials.clone_from(&transaction.owner.credentials);
        }
        // Whatever went out in its early dialog counts on from the INVITE.
        for _ in 0..SURPLUS_SEQUENCE {
            dialog.next_sequence();
        }
        self.send_request(now, dialog.request(Method::Bye), hop, owner);
    }

    /// Turns a calling leg into an established one.
    fn take_up(
        &mut self,
        now: Instant,
        client: ClientId,
        id: LegId,
        response: &Response,
        dialog: &Dialog,
        path: Path,
    ) {
        let Some(transaction) = self.clients.get(client) else {
            return;
        };
        let (invite, proposal) = (Arc::clone(&transaction.request), transaction.owner.proposal);
        let tag = dialog.remote_tag().map(str::to_owned);
        let sdp = session_description(&response.headers, &response.body);
        let sdp = sdp.ok().flatten();
        let early = self.take_early(now, id, tag.as_deref());
        let (mut session, described) = match early {
            Some(early) => (early.session, early.described),
            None => {
                let mut session = Session::new(dialog.clone(), true);
                session.offer = OfferState::Invited;
                (session, None)
            }
        };
        session.dialog.confirm(dialog);
        session.take_acceptance(now, proposal, &response.headers);
        let hop = self.dialog_hop(path, &session.dialog);
        let settled = !matches!(session.offer, OfferState::Invited);
        let mut offer = None;
        let answer = if settled {
            // What a reliable response said stands (RFC 3261 13.2.1).
            session.remote_description.clone()
        } else if invite.body.is_empty() {
            session.offer = OfferState::Idle;
            offer.clone_from(&sdp);
            Vec::new()
        } else {
            session.offer = OfferState::Idle;
            session.local_description.clone_from(&invite.body);
            session.remote_description = sdp.or(described).unwrap_or_default();
            session.remote_description.clone()
        };
        let sequence = invite.headers.cseq().map_or(0, |cseq| cseq.number);
        let ack = session.dialog.ack(sequence);
        if let Some(leg) = self.legs.get_mut(&id) {
            leg.path = path;
            leg.phase = Phase::Established(Box::new(session));
        }
        if let Some(offer) = offer {
            self.note_ack(client, tag, None, hop);
            self.open_reply(now, id, None, Reply::Ack { client }, offer);
            return;
        }
        let bytes = self.send_ack(ack, &invite, hop);
        self.note_ack(client, tag, Some(bytes), hop);
        self.refresh_leg(id);
        self.emit(Event::Answered {
            leg: id,
            sdp: answer,
        });
    }

    /// The early dialog that became the call. What others offered is refused: they are over.
    fn take_early(&mut self, now: Instant, id: LegId, tag: Option<&str>) -> Option<Early> {
        let leg = self.legs.get_mut(&id)?;
        let Phase::Calling(calling) = &mut leg.phase else {
            return None;
        };
        let at = calling
            .early
            .iter()
            .position(|early| early.session.dialog.remote_tag() == tag);
        let chosen = at.map(|at| calling.early.swap_remove(at));
        self.refuse_open_offer(now, id, 487);
        chosen
    }

    /// Sends a challenged INVITE again with credentials; whether it did.
    fn invite_again(
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
        let (Phase::Calling(_), Some(digest)) = (&leg.phase, &mut leg.digest) else {
            return false;
        };
        let challenges = transaction.owner.challenges + 1;
        if challenges > MAX_CHALLENGES {
            return false;
        }
        let request = &transaction.request;
        let Some(again) = with_credentials(digest, &mut self.rng, request, response) else {
            return false;
        };
        let proposal = transaction.owner.proposal;
        self.repeat_invite(now, client, id, again, challenges, proposal)
    }

    /// Sends an INVITE that met 422 again with the interval that the callee, or a proxy, asks
    /// for (RFC 4028 section 7.3); whether it did.
    fn invite_for_longer(
        &mut self,
        now: Instant,
        client: ClientId,
        id: LegId,
        response: &Response,
    ) -> bool {
        let (Some(transaction), true) = (self.clients.get(client), self.is_calling(id)) else {
            return false;
        };
        let minimum = response.headers.min_se().ok().flatten();
        let proposal = transaction.owner.proposal;
        let Some(proposal) = minimum.and_then(|minimum| proposal?.grown(minimum)) else {
            return false;
        };
        let challenges = transaction.owner.challenges + 1;
        if challenges > MAX_CHALLENGES {
            return false;
        }
        let mut again = Request::clone(&transaction.request);
        again.headers.pop_via();
        proposal.write(&mut again.headers);
        if let Some(leg) = self.legs.get_mut(&id)
            && let Some(digest) = &mut leg.digest
        {
            digest.authorize(&mut again, &mut self.rng);
        }
        self.repeat_invite(now, client, id, again, challenges, Some(proposal))
    }

    /// Sends an INVITE in the place of one that was refused; whether it did.
    fn repeat_invite(
        &mut self,
        now: Instant,
        before: ClientId,
        id: LegId,
        mut invite: Request,
        challenges: u8,
        proposal: Option<Proposal>,
    ) -> bool {
        let (Some(transaction), Ok(cseq)) = (self.clients.get(before), invite.headers.cseq())
        else {
            return false;
        };
        set_sequence(&mut invite, cseq.number.saturating_add(1));
        let hop = transaction.hop;
        let mut owner = Owner::new(Purpose::Invite(id), transaction.owner.path);
        owner.credentials.clone_from(&transaction.owner.credentials);
        owner.challenges = challenges;
        owner.proposal = proposal;
        self.refuse_open_offer(now, id, 487);
        let transaction = self.send_request(now, invite, hop, owner);
        if let Some(leg) = self.legs.get_mut(&id)
            && let Phase::Calling(calling) = &mut leg.phase
        {
            calling.transaction = transaction;
            // Those of the refused one are over.
            calling.early.clear();
        }
        true
    }

    fn invite_refused(&mut self, now: Instant, id: LegId, response: &Response) {
        if !self.is_calling(id) {
            return;
        }
        self.refuse_open_offer(now, id, 487);
        let headers = &response.headers;
        let contacts = match headers.contacts() {
            Ok(Contacts::List(list)) if response.status.is_redirection() => {
                list.into_iter().map(|contact| contact.uri).collect()
            }
            _ => Vec::new(),
        };
        let cause = EndCause::Rejected {
            status: response.status.code(),
            phrase: response.reason.clone(),
            reason: reason_of(headers),
            contacts,
            retry_after: headers.retry_after().ok().flatten(),
        };
        self.forget_leg(id);
        self.emit(Event::Ended { leg: id, cause });
    }

    /// The INVITE's transaction failed (timer B, transport).
    pub(super) fn invite_failed(&mut self, now: Instant, id: LegId, transport: bool) {
        if !self.is_calling(id) {
            return;
        }
        self.refuse_open_offer(now, id, 487);
        let cause = match transport {
            true => EndCause::TransportFailed,
            false => EndCause::NoResponse,
        };
        self.forget_leg(id);
        self.emit(Event::Ended { leg: id, cause });
    }

    /// Ends a leg that has no final response: the CANCEL, and the end of an answer that
    /// crosses it, go on without the leg.
    pub(super) fn abandon_invite(
        &mut self,
        now: Instant,
        id: LegId,
        hangup: Hangup,
        cause: EndCause,
    ) {
        let Some(Phase::Calling(calling)) = self.legs.get(&id).map(|leg| &leg.phase) else {
            return;
        };
        let transaction = calling.transaction;
        self.refuse_open_offer(now, id, 487);
        self.forget_leg(id);
        self.cancel_invite(now, transaction, hangup.reason);
        self.emit(Event::Ended { leg: id, cause });
    }

    /// The leg's own timer while the call is not answered.
    pub(super) fn calling_timeout(&mut self, now: Instant, id: LegId) {
        let Some(Phase::Calling(calling)) = self.legs.get(&id).map(|leg| &leg.phase) else {
            return;
        };
        if calling.give_up_at <= now {
            self.abandon_invite(now, id, Hangup::default(), EndCause::RingTimeout);
        } else if calling.answer_by.is_some_and(|at| at <= now) {
            self.abandon_invite(now, id, Hangup::default(), EndCause::NoResponse);
        } else {
            self.offer_timeout(now, id);
        }
    }

    /// A BYE without a leg was challenged.
    pub(super) fn surplus_bye_answered(
        &mut self,
        now: Instant,
        client: ClientId,
        response: &Response,
    ) {
        let Some(transaction) = self.clients.get(client) else {
            return;
        };
        let Some(credentials) = transaction.owner.credentials.as_ref() else {
            return;
        };
        if !is_challenge(response) {
            return;
        }
        let mut digest = DigestClient::new(&credentials.username, &credentials.password);
        let request = &transaction.request;
        let (Some(mut again), Ok(cseq)) = (
            with_credentials(&mut digest, &mut self.rng, request, response),
            request.headers.cseq(),
        ) else {
            return;
        };
        set_sequence(&mut again, cseq.number.saturating_add(1));
        // Without credentials in its owner it is not tried a third time.
        let owner = Owner::new(Purpose::SurplusBye, transaction.owner.path);
        let hop = transaction.hop;
        self.send_request(now, again, hop, owner);
    }
}

/// What an INVITE says of extensions.
fn announce(headers: &mut Headers, extensions: &Extensions, proposal: Option<Proposal>) {
    headers.push(HeaderName::Supported, extensions.supported());
    for option in extensions.required() {
        headers.push(HeaderName::Require, option);
    }
    if let Some(proposal) = proposal {
        proposal.write(headers);
    }
}

fn initial_invite(
    call: InviteRequest,
    call_id: &str,
    local_tag: &str,
    contact: &NameAddr,
) -> Request {
    let mut request = Request::new(Method::Invite, call.request_uri);
    for route in call.route {
        request.headers.push(HeaderName::Route, route);
    }
    request.headers.push(HeaderName::MaxForwards, 70);
    request
        .headers
        .push(HeaderName::From, call.from.with_tag(local_tag));
    request.headers.push(HeaderName::To, call.to);
    request.headers.push(HeaderName::CallId, call_id);
    let cseq = CSeq {
        number: 1,
        method: Method::Invite,
    };
    request.headers.push(HeaderName::CSeq, cseq);
    request.headers.push(HeaderName::Contact, contact);
    request.headers.push(HeaderName::Allow, ALLOW);
    if let Some(replaces) = call.replaces {
        request.headers.push(HeaderName::Require, "replaces");
        request.headers.push(HeaderName::Replaces, replaces);
    }
    for (name, value) in call.headers {
        request.headers.push(HeaderName::new(&name), value);
    }
    if let Some(sdp) = call.sdp {
        set_description(&mut request.headers, &mut request.body, sdp);
    }
    request
}
