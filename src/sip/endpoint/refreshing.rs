//! Session timers of established legs (RFC 4028): refreshes by UPDATE or re-INVITE, 422, and the
//! BYE when a session was not refreshed in time. `session_timer` has the rules.

use std::time::{Duration, Instant};

use super::Endpoint;
use super::api::{CommandError, EndCause, LegId, Reason};
use super::compose::ALLOW;
use super::leg::{Asked, Draft, Means, OfferState, Purpose, Session};
use crate::sip::extensions::Extensions;
use crate::sip::headers::{HeaderName, Headers};
use crate::sip::message::{Method, Request, Response};
use crate::sip::session_timer::{Agreement, Proposal, TooSmall};
use crate::sip::transaction::ClientId;

/// How long a refresh that could not be sent, or was refused for now, waits.
const RETRY: Duration = Duration::from_secs(5);

impl Session {
    /// What a request of ours inside the session asks for.
    pub(super) fn proposal(&self, extensions: &Extensions) -> Option<Proposal> {
        match &self.timer {
            Some(timer) => Some(Proposal::again(timer)),
            None => Proposal::first(&extensions.session_timer),
        }
    }

    /// The peer accepted a request of ours.
    pub(super) fn take_acceptance(
        &mut self,
        now: Instant,
        proposal: Option<Proposal>,
        response: &Headers,
    ) {
        self.learn_peer(response);
        if let Some(proposal) = proposal {
            self.timer = proposal.accepted(now, response, self.timer.as_ref());
        }
    }

    /// What the peer's headers say of it.
    pub(super) fn learn_peer(&mut self, headers: &Headers) {
        if headers.has(&HeaderName::Allow) {
            self.peer_updates = headers.allow().contains(&Method::Update);
        }
    }

    /// What a 2xx of ours to `request` says.
    pub(super) fn agree(
        &self,
        extensions: &Extensions,
        request: &Headers,
    ) -> Result<Option<Agreement>, TooSmall> {
        Agreement::with(&extensions.session_timer, request, self.timer.as_ref())
    }

    /// A 2xx of ours with this is out.
    pub(super) fn keep_agreement(&mut self, now: Instant, agreement: Option<Agreement>) {
        self.timer = agreement.map(|agreement| agreement.start(now));
    }
}

impl Endpoint {
    /// The session's timer: a refresh is due, or nothing refreshed it.
    pub(super) fn session_timer_timeout(&mut self, now: Instant, id: LegId) {
        let Ok(session) = self.session(id) else {
            return;
        };
        let Some(timer) = &mut session.timer else {
            return;
        };
        if timer.is_over(now) {
            let reason = Reason {
                protocol: "SIP".to_owned(),
                cause: Some(408),
                text: Some("Session Expired".to_owned()),
            };
            self.close_session(now, id, Some(reason), EndCause::SessionExpired);
        } else if timer.take_refresh(now) && self.refresh_session(now, id).is_err() {
            self.retry_refresh(now + RETRY, id);
        }
    }

    fn refresh_session(&mut self, now: Instant, id: LegId) -> Result<(), CommandError> {
        let session = self.session(id)?;
        // An offer in either direction refreshes the session by itself when it is accepted.
        if !matches!(session.offer, OfferState::Idle) {
            return Err(CommandError::OfferPending);
        }
        if session.peer_updates {
            return self.send_update(now, id);
        }
        let draft = Draft {
            sdp: Some(session.local_description.clone()),
            means: Means::Reinvite,
            asked: Asked::ToRefresh,
            attempt: 0,
        };
        self.send_offer(now, id, draft)
    }

    /// Sends UPDATE without an offer.
    fn send_update(&mut self, now: Instant, id: LegId) -> Result<(), CommandError> {
        if self.clients.len() >= self.config.limits.client_transactions {
            return Err(CommandError::LimitReached);
        }
        let extensions = self.legs.get(&id).map(|leg| leg.extensions);
        let extensions = extensions.ok_or(CommandError::UnknownLeg)?;
        let session = self.session(id)?;
        let proposal = session.proposal(&extensions);
        let mut request = session.dialog.request(Method::Update);
        self.describe_ourselves(id, &mut request, proposal);
        let client = self.send_in_dialog(now, id, request, Purpose::Refresh(id));
        if let Some(transaction) = client.and_then(|client| self.clients.get_mut(client)) {
            transaction.owner.proposal = proposal;
        }
        self.refresh_leg(id);
        Ok(())
    }

    /// What a target refresh of ours says of us and of the session's timer.
    pub(super) fn describe_ourselves(
        &self,
        id: LegId,
        request: &mut Request,
        proposal: Option<Proposal>,
    ) {
        let Some(leg) = self.legs.get(&id) else {
            return;
        };
        let headers = &mut request.headers;
        headers.push(HeaderName::Contact, &leg.contact);
        headers.push(HeaderName::Allow, ALLOW);
        headers.push(HeaderName::Supported, leg.extensions.supported());
        if let Some(proposal) = proposal {
            proposal.write(headers);
        }
    }

    /// The answer to an UPDATE that only refreshes.
    pub(super) fn refresh_answered(
        &mut self,
        now: Instant,
        client: ClientId,
        id: LegId,
        response: &Response,
    ) {
        let proposal = self.clients.get(client).and_then(|it| it.owner.proposal);
        let headers = &response.headers;
        match response.status.code() {
            100..=199 => {}
            200..=299 => {
                if let Ok(session) = self.session(id) {
                    if let Ok(contact) = headers.contact() {
                        session.dialog.refresh_target(contact.uri);
                    }
                    session.take_acceptance(now, proposal, headers);
                }
                self.refresh_leg(id);
            }
            401 | 407 if self.authorize_again(now, client, id, response) => {}
            status @ (408 | 481) => self.dialog_lost(now, id, Some(status)),
            422 => self.interval_too_small(now, id, headers),
            405 | 501 => {
                if let Ok(session) = self.session(id) {
                    session.peer_updates = false;
                }
                self.retry_refresh(now, id);
            }
            _ => {
                let wait = headers.retry_after().ok().flatten();
                let wait = wait.map_or(RETRY, |seconds| Duration::from_secs(seconds.into()));
                self.retry_refresh(now + wait.max(RETRY), id);
            }
        }
    }

    /// A request of ours met 422: whether the session's timer grew.
    pub(super) fn interval_too_small(&mut self, now: Instant, id: LegId, headers: &Headers) {
        if let (Ok(session), Ok(Some(minimum))) = (self.session(id), headers.min_se())
            && let Some(timer) = &mut session.timer
        {
            timer.grow(minimum, now);
        }
        self.refresh_leg(id);
    }

    pub(super) fn retry_refresh(&mut self, at: Instant, id: LegId) {
        if let Ok(session) = self.session(id)
            && let Some(timer) = &mut session.timer
        {
            timer.retry(at);
        }
        self.refresh_leg(id);
    }
}
