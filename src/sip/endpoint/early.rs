//! Outgoing calls that ring: their early dialogs, one for each To tag (RFC 3261 13.2.2.1), and
//! their reliable provisional responses (RFC 3262 section 4).

use std::sync::Arc;
use std::time::Instant;

use super::Endpoint;
use super::api::{LegId, Support};
use super::body::session_description;
use super::compose::set_description;
use super::event::Event;
use super::leg::{Early, OfferState, Phase, Purpose, Session};
use super::offered::Reply;
use crate::sip::dialog::Dialog;
use crate::sip::extensions::RELIABLE;
use crate::sip::headers::{HeaderName, RAck};
use crate::sip::message::{Method, Request, Response};
use crate::sip::transaction::ClientId;

/// Early dialogs of one call that are kept; of further ones only the progress is told.
const MAX_EARLY: usize = 16;

/// What a provisional response is to us.
enum Provisional {
    /// Lost ones may be missing between, or it has no dialog.
    Plain,
    /// The next reliable one; to be confirmed.
    Reliable(RAck),
    /// A repeat, or one that overtook another.
    OutOfTurn,
}

impl Endpoint {
    pub(super) fn invite_progressed(
        &mut self,
        now: Instant,
        client: ClientId,
        id: LegId,
        status: u16,
        response: &Response,
    ) {
        let wanted = self.clients.get_mut(client);
        if let Some(reason) = wanted.and_then(|transaction| transaction.owner.cancel.take()) {
            self.cancel_invite(now, client, reason);
            return;
        }
        if status == 100 || !self.is_calling(id) {
            return;
        }
        let Some(invite) = self.clients.get(client).map(|it| Arc::clone(&it.request)) else {
            return;
        };
        let sdp = session_description(&response.headers, &response.body);
        let sdp = sdp.ok().flatten();
        let rack = match self.early_dialog(id, &invite, response) {
            Provisional::OutOfTurn => return,
            Provisional::Plain => None,
            Provisional::Reliable(rack) => Some(rack),
        };
        let tag = response.headers.to().ok();
        let tag = tag.as_ref().and_then(|to| to.tag());
        self.emit(Event::Progress {
            leg: id,
            status,
            sdp: sdp.clone().filter(|_| !invite.body.is_empty()),
        });
        let leg = self.legs.get_mut(&id);
        let Some(early) = leg.and_then(|leg| leg.early_with(tag)) else {
            return;
        };
        let session = &mut early.session;
        if let Some(sdp) = &sdp {
            early.described = Some(sdp.clone());
        }
        let Some(rack) = rack else {
            return;
        };
        let mut offer = None;
        if let (OfferState::Invited, Some(sdp)) = (&session.offer, sdp) {
            if invite.body.is_empty() {
                offer = Some(sdp);
            } else {
                session.local_description.clone_from(&invite.body);
                session.remote_description = sdp;
                session.offer = OfferState::Idle;
            }
        }
        match offer {
            Some(offer) => self.open_reply(now, id, tag, Reply::Prack { rack }, offer),
            None => self.send_prack(now, id, tag, rack, None),
        }
    }

    /// The early dialog of a response, made if need be.
    fn early_dialog(&mut self, id: LegId, invite: &Request, response: &Response) -> Provisional {
        let headers = &response.headers;
        let (Some(leg), Ok(dialog)) = (self.legs.get_mut(&id), Dialog::as_client(invite, response))
        else {
            return Provisional::Plain;
        };
        if dialog.remote_tag().is_none() {
            return Provisional::Plain;
        }
        let confirms = leg.extensions.reliable_provisional != Support::Off;
        let requires = headers.require();
        let reliable = confirms
            && requires
                .iter()
                .any(|tag| tag.eq_ignore_ascii_case(RELIABLE));
        let number = headers.rseq().ok().flatten().filter(|_| reliable);
        let Phase::Calling(calling) = &mut leg.phase else {
            return Provisional::Plain;
        };
        let known = calling
            .early
            .iter()
            .position(|early| early.session.dialog.remote_tag() == dialog.remote_tag());
        let at = match known {
            Some(at) => at,
            None if calling.early.len() >= MAX_EARLY => return Provisional::Plain,
            None => {
                let mut session = Session::new(dialog, true);
                session.offer = OfferState::Invited;
                calling.early.push(Early {
                    session,
                    last_reliable: None,
                    described: None,
                });
                calling.early.len() - 1
            }
        };
        let early = &mut calling.early[at];
        early.session.learn_peer(headers);
        let (Some(number), Ok(cseq)) = (number, headers.cseq()) else {
            return Provisional::Plain;
        };
        let in_turn = match early.last_reliable {
            None => true,
            Some(last) => last.checked_add(1) == Some(number),
        };
        if !in_turn {
            return Provisional::OutOfTurn;
        }
        early.last_reliable = Some(number);
        Provisional::Reliable(RAck {
            response_number: number,
            cseq,
        })
    }

    /// Confirms a reliable provisional response.
    pub(super) fn send_prack(
        &mut self,
        now: Instant,
        id: LegId,
        tag: Option<&str>,
        rack: RAck,
        answer: Option<Vec<u8>>,
    ) {
        let leg = self.legs.get_mut(&id);
        let Some(session) = leg.and_then(|leg| leg.session_with(tag)) else {
            return;
        };
        let mut request = session.dialog.request(Method::Prack);
        request.headers.push(HeaderName::RAck, rack);
        if let Some(answer) = answer {
            set_description(&mut request.headers, &mut request.body, answer);
        }
        self.send_in_dialog(now, id, request, Purpose::Prack(id));
    }

    /// A PRACK of ours was answered. A refusal is ignored: the INVITE decides.
    pub(super) fn prack_answered(
        &mut self,
        now: Instant,
        client: ClientId,
        id: LegId,
        response: &Response,
    ) {
        if matches!(response.status.code(), 401 | 407) {
            self.authorize_again(now, client, id, response);
        }
    }
}
