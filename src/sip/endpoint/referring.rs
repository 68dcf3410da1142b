//! Transfers that we ask for: REFER and the NOTIFYs that tell how it went (RFC 3515, RFC 4488).
//!
//! ```text
//!          refer                NOTIFY or 2xx             final NOTIFY, end of
//!   None ---------> Sent ------------------------> Followed ----------------> Over
//!                    |                                 |   subscription, silence ^
//!                    | 3xx-6xx; 2xx without            | the leg ends            |
//!                    `--- subscription ----------------+-------------------------'
//!                                   ReferFinished is told on each way to Over
//! ```

use std::time::Instant;

use super::Endpoint;
use super::api::{CommandError, LegId, ReferOutcome, ReferRequest, ReferTarget};
use super::event::Event;
use super::leg::{Phase, Purpose};
use super::requests::Received;
use crate::sip::fragment::{self, SIPFRAG};
use crate::sip::headers::{HeaderName, NameAddr, Replaces};
use crate::sip::message::{Method, Request, Response};
use crate::sip::transaction::ClientId;
use crate::sip::uri::{Uri, escape_component};

/// A REFER of ours.
#[derive(Debug)]
pub(super) enum Referral {
    /// None was sent.
    None,
    /// Not answered.
    Sent { sequence: u32, give_up_at: Instant },
    /// Accepted: NOTIFYs say how it goes.
    Followed {
        sequence: u32,
        /// The first NOTIFY must come soon.
        next_at: Instant,
        give_up_at: Instant,
    },
    /// Told. What is still notified is answered and ignored.
    Over,
}

impl Referral {
    pub(super) fn deadline(&self) -> Option<(Instant, &'static str)> {
        match self {
            Self::Followed { next_at, .. } => Some((*next_at, "NOTIFY")),
            // The transaction has its own timer, unless the peer notifies without answering.
            Self::Sent { give_up_at, .. } => Some((*give_up_at, "REFER")),
            Self::None | Self::Over => None,
        }
    }

    /// The REFER went out again with credentials.
    pub(super) fn renumber(&mut self, number: u32) {
        if let Self::Sent { sequence, .. } = self {
            *sequence = number;
        }
    }

    fn is_open(&self) -> bool {
        matches!(self, Self::Sent { .. } | Self::Followed { .. })
    }
}

impl Endpoint {
    pub(super) fn send_refer(
        &mut self,
        now: Instant,
        id: LegId,
        refer: ReferRequest,
    ) -> Result<(), CommandError> {
        if self.clients.len() >= self.config.limits.client_transactions {
            return Err(CommandError::LimitReached);
        }
        let refer_to = self.refer_to(refer.target)?;
        let give_up_at = now + self.config.limits.referral;
        let session = self.session(id)?;
        if session.referral.is_open() {
            return Err(CommandError::ReferPending);
        }
        let mut request = session.dialog.request(Method::Refer);
        let sequence = request.headers.cseq().map_or(0, |cseq| cseq.number);
        session.referral = Referral::Sent {
            sequence,
            give_up_at,
        };
        if let Some(leg) = self.legs.get(&id) {
            request.headers.push(HeaderName::Contact, &leg.contact);
        }
        request.headers.push(HeaderName::ReferTo, refer_to);
        if let Some(referrer) = refer.referred_by {
            request.headers.push(HeaderName::ReferredBy, referrer);
        }
        if !refer.follow {
            request.headers.push(HeaderName::ReferSub, "false");
        }
        request.headers.push(HeaderName::Supported, "norefersub");
        self.send_in_dialog(now, id, request, Purpose::Refer(id));
        self.refresh_leg(id);
        Ok(())
    }

    fn refer_to(&self, target: ReferTarget) -> Result<NameAddr, CommandError> {
        let (leg, uri) = match target {
            ReferTarget::Blind(uri) => return Ok(NameAddr::new(uri)),
            ReferTarget::Attended { leg, uri } => (leg, uri),
        };
        let leg = self.legs.get(&leg).ok_or(CommandError::UnknownLeg)?;
        let Phase::Established(session) = &leg.phase else {
            return Err(CommandError::WrongState);
        };
        let dialog = &session.dialog;
        let replaces = Replaces {
            call_id: dialog.call_id().to_owned(),
            to_tag: dialog.remote_tag().unwrap_or("0").to_owned(),
            from_tag: dialog.local_tag().to_owned(),
            early_only: false,
        };
        let Uri::Sip(mut uri) = uri.unwrap_or_else(|| dialog.remote_target().clone()) else {
            return Err(CommandError::BadTarget);
        };
        let value = escape_component(&replaces.to_string());
        uri.headers.push(("Replaces".to_owned(), value));
        Ok(NameAddr::new(Uri::Sip(uri)))
    }

    pub(super) fn refer_answered(
        &mut self,
        now: Instant,
        client: ClientId,
        id: LegId,
        response: &Response,
    ) {
        match response.status.code() {
            100..=199 => {}
            200..=299 => self.refer_accepted(now, id, response.headers.declines_subscription()),
            401 | 407 if self.authorize_again(now, client, id, response) => {}
            status @ (408 | 481) => {
                self.finish_referral(id, ReferOutcome::Refused(status));
                self.dialog_lost(now, id, Some(status));
            }
            status => {
                // A peer that notified before it refused has said all there is.
                let sent = self.session(id).map(|session| &session.referral);
                if matches!(sent, Ok(Referral::Sent { .. })) {
                    self.finish_referral(id, ReferOutcome::Refused(status));
                }
            }
        }
    }

    fn refer_accepted(&mut self, now: Instant, id: LegId, unfollowed: bool) {
        if unfollowed {
            self.finish_referral(id, ReferOutcome::Unknown);
            return;
        }
        let patience = self.config.timers.transaction_timeout();
        let Ok(session) = self.session(id) else {
            return;
        };
        if let Referral::Sent {
            sequence,
            give_up_at,
        } = session.referral
        {
            session.referral = Referral::Followed {
                sequence,
                next_at: give_up_at.min(now + patience),
                give_up_at,
            };
            self.refresh_leg(id);
        }
    }

    /// The REFER's transaction failed.
    pub(super) fn refer_failed(&mut self, now: Instant, id: LegId) {
        let sent = self.session(id).map(|session| &session.referral);
        if matches!(sent, Ok(Referral::Sent { .. })) {
            self.finish_referral(id, ReferOutcome::Refused(408));
            self.dialog_lost(now, id, None);
        }
    }

    /// NOTIFY inside a dialog. It may overtake the answer to our REFER.
    pub(super) fn receive_notify(&mut self, now: Instant, id: LegId, received: &Received) {
        let headers = &received.request.headers;
        let (event, state) = match (headers.event(), headers.subscription_state()) {
            (Ok(Some(event)), Ok(state)) => (event, state),
            _ => return self.answer_received(now, received, 400, &[]),
        };
        if !event.package.eq_ignore_ascii_case("refer") {
            return self.answer_received(now, received, 489, &[]);
        }
        let Some(leg) = self.legs.get(&id) else {
            return;
        };
        let (Phase::Established(session) | Phase::Closing(session)) = &leg.phase else {
            return;
        };
        let sequence = match session.referral {
            Referral::None => return self.answer_received(now, received, 481, &[]),
            Referral::Over => None,
            Referral::Sent { sequence, .. } | Referral::Followed { sequence, .. } => Some(sequence),
        };
        self.answer_received(now, received, 200, &[]);
        let named = event
            .params
            .get("id")
            .and_then(|number| number.parse().ok());
        // One for an earlier REFER of ours is answered, no more.
        if sequence.is_some() && (named.is_none() || named == sequence) {
            self.take_notify(id, &received.request, state.is_terminated());
        }
    }

    fn take_notify(&mut self, id: LegId, notify: &Request, terminated: bool) {
        let Ok(session) = self.session(id) else {
            return;
        };
        if let Referral::Sent {
            sequence,
            give_up_at,
        }
        | Referral::Followed {
            sequence,
            give_up_at,
            ..
        } = session.referral
        {
            session.referral = Referral::Followed {
                sequence,
                next_at: give_up_at,
                give_up_at,
            };
            self.refresh_leg(id);
        }
        let told = match notify.headers.content_type() {
            Ok(Some(kind)) if kind.is(SIPFRAG) => fragment::status(&notify.body),
            _ => None,
        };
        match told {
            Some(status) if status.is_final() => {
                self.finish_referral(id, ReferOutcome::Completed(status.code()));
            }
            _ if terminated => self.finish_referral(id, ReferOutcome::Unknown),
            Some(status) => self.emit(Event::ReferProgress {
                leg: id,
                status: status.code(),
            }),
            None => {}
        }
    }

    /// The time of an open REFER.
    pub(super) fn referral_timeout(&mut self, now: Instant, id: LegId) {
        let due = self
            .session(id)
            .ok()
            .and_then(|session| session.referral.deadline())
            .is_some_and(|(at, _)| at <= now);
        if due {
            self.finish_referral(id, ReferOutcome::Unknown);
        }
    }

    /// Tells how an open REFER ended, if there is one.
    pub(super) fn finish_referral(&mut self, id: LegId, outcome: ReferOutcome) {
        let Ok(session) = self.session(id) else {
            return;
        };
        if session.referral.is_open() {
            session.referral = Referral::Over;
            self.refresh_leg(id);
            self.emit(Event::ReferFinished { leg: id, outcome });
        }
    }

    /// The leg ends, and with it what REFERs there are.
    pub(super) fn end_transfers(&mut self, now: Instant, id: LegId) {
        self.finish_referral(id, ReferOutcome::Unknown);
        self.end_referred(now, id);
    }
}
