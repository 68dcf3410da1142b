//! Transfers that the peer asks for: its REFER inside a call and our NOTIFYs (RFC 3515, RFC 4488).
//!
//! ```text
//!          REFER              accept_refer                   notify_refer with a final status,
//!   None --------> Asked --------------------> Followed ----------------------> None
//!    ^               |   202, NOTIFY 100           |      the peer forgot, too late  ^
//!    `---------------'                             `---------------------------------'
//!     reject_refer, too late: 603
//! ```

use std::sync::Arc;
use std::time::Instant;

use super::Endpoint;
use super::api::{CommandError, LegId};
use super::event::{Event, ReferRequested};
use super::leg::Purpose;
use super::requests::Received;
use crate::sip::fragment::{self, SIPFRAG};
use crate::sip::headers::{
    Event as EventHeader, HeaderError, HeaderName, Headers, NameAddr, Replaces, SubscriptionState,
};
use crate::sip::message::{Method, Request, Response, StatusCode};
use crate::sip::params::Params;
use crate::sip::transaction::{ClientId, ServerId};
use crate::sip::uri::{Uri, decode};

/// A REFER of the peer's.
#[derive(Debug)]
pub(super) enum Referred {
    /// None is open.
    None,
    /// The owner of the leg has not replied yet.
    Asked {
        transaction: ServerId,
        request: Arc<Request>,
        give_up_at: Instant,
    },
    /// Accepted.
    Followed {
        /// The CSeq of the REFER, which names the subscription where the dialog had one before.
        /// Peers exist that do not know the first one by that name.
        named: Option<u32>,
        /// The peer wants no NOTIFY.
        silent: bool,
        expires_at: Instant,
    },
}

impl Referred {
    pub(super) fn deadline(&self) -> Option<(Instant, &'static str)> {
        match self {
            Self::None => None,
            Self::Asked { give_up_at, .. } => Some((*give_up_at, "REFER unanswered")),
            Self::Followed { expires_at, .. } => Some((*expires_at, "subscription")),
        }
    }
}

/// What a NOTIFY says of the subscription.
#[derive(Clone, Copy)]
enum Standing {
    Active { seconds: u64 },
    Over(&'static str),
}

impl Endpoint {
    pub(super) fn receive_refer(&mut self, now: Instant, id: LegId, received: Received) {
        let wanted = match wanted(id, &received.request.headers) {
            Ok(wanted) => wanted,
            Err(status) => return self.answer_received(now, &received, status, &[]),
        };
        let give_up_at = now + self.config.timers.transaction_timeout() / 4;
        let Ok(session) = self.session(id) else {
            return;
        };
        if !matches!(session.referred, Referred::None) {
            self.answer_received(now, &received, 491, &[]);
            return;
        }
        session.referred = Referred::Asked {
            transaction: received.transaction,
            request: Arc::new(received.request),
            give_up_at,
        };
        self.refresh_leg(id);
        self.emit(Event::ReferRequested(Box::new(wanted)));
    }

    /// The open REFER of a leg; it is open no more.
    fn take_asked(&mut self, id: LegId) -> Result<(ServerId, Arc<Request>), CommandError> {
        let session = self.session(id)?;
        match std::mem::replace(&mut session.referred, Referred::None) {
            Referred::Asked {
                transaction,
                request,
                ..
            } => Ok((transaction, request)),
            other => {
                session.referred = other;
                Err(CommandError::WrongState)
            }
        }
    }

    pub(super) fn agree_to_refer(&mut self, now: Instant, id: LegId) -> Result<(), CommandError> {
        let (transaction, request) = self.take_asked(id)?;
        let lifetime = self.config.limits.referral;
        let silent = request.headers.declines_subscription();
        let sequence = request.headers.cseq().map_or(0, |cseq| cseq.number);
        let session = self.session(id)?;
        if let Ok(target) = request.headers.contact() {
            session.dialog.refresh_target(target.uri);
        }
        let again = std::mem::replace(&mut session.was_referred, true);
        session.referred = Referred::Followed {
            named: again.then_some(sequence),
            silent,
            expires_at: now + lifetime,
        };
        let Some(leg) = self.legs.get(&id) else {
            return Err(CommandError::UnknownLeg);
        };
        let mut response = self.dialog_response(&request, 202, leg);
        if silent {
            response.headers.push(HeaderName::ReferSub, "false");
        }
        self.send_response(now, transaction, &response);
        self.refresh_leg(id);
        // RFC 3515 2.4.4: at once, so that the referrer knows of the subscription.
        self.report_referred(now, id, 100)
    }

    pub(super) fn decline_refer(
        &mut self,
        now: Instant,
        id: LegId,
        status: u16,
    ) -> Result<(), CommandError> {
        if !(300..=699).contains(&status) {
            return Err(CommandError::BadStatus(status));
        }
        let (transaction, request) = self.take_asked(id)?;
        self.answer(now, transaction, &request, status, &[]);
        self.refresh_leg(id);
        Ok(())
    }

    pub(super) fn report_referred(
        &mut self,
        now: Instant,
        id: LegId,
        status: u16,
    ) -> Result<(), CommandError> {
        let code = StatusCode::new(status).ok_or(CommandError::BadStatus(status))?;
        let session = self.session(id)?;
        let Referred::Followed { expires_at, .. } = session.referred else {
            return Err(CommandError::WrongState);
        };
        let standing = match code.is_final() {
            true => Standing::Over("noresource"),
            false => Standing::Active {
                seconds: expires_at.saturating_duration_since(now).as_secs(),
            },
        };
        self.send_notify(now, id, code, standing);
        Ok(())
    }

    fn send_notify(&mut self, now: Instant, id: LegId, status: StatusCode, standing: Standing) {
        let Ok(session) = self.session(id) else {
            return;
        };
        let Referred::Followed { named, silent, .. } = session.referred else {
            return;
        };
        if let Standing::Over(_) = standing {
            session.referred = Referred::None;
        }
        if silent {
            self.refresh_leg(id);
            return;
        }
        let mut request = session.dialog.request(Method::Notify);
        let headers = &mut request.headers;
        headers.push(HeaderName::Event, refer_event(named));
        headers.push(HeaderName::SubscriptionState, subscription_state(standing));
        headers.push(HeaderName::ContentType, format!("{SIPFRAG};version=2.0"));
        request.body = fragment::body(status);
        if let Some(leg) = self.legs.get(&id) {
            request.headers.push(HeaderName::Contact, &leg.contact);
        }
        self.send_in_dialog(now, id, request, Purpose::Notify(id));
        self.refresh_leg(id);
    }

    pub(super) fn notify_answered(
        &mut self,
        now: Instant,
        client: ClientId,
        id: LegId,
        response: &Response,
    ) {
        match response.status.code() {
            // The referrer knows no subscription; of the call it says nothing (RFC 5057).
            481 => self.end_notifications(id),
            401 | 407 => {
                self.authorize_again(now, client, id, response);
            }
            _ => {}
        }
    }

    /// The referrer is not told any further.
    pub(super) fn end_notifications(&mut self, id: LegId) {
        if let Ok(session) = self.session(id)
            && let Referred::Followed { silent, .. } = &mut session.referred
        {
            *silent = true;
        }
    }

    /// The time of the peer's REFER.
    pub(super) fn referred_timeout(&mut self, now: Instant, id: LegId) {
        let Ok(session) = self.session(id) else {
            return;
        };
        match &session.referred {
            Referred::Asked { give_up_at, .. } if *give_up_at <= now => {
                // It is asked, and 603 is a refusal: nothing can fail.
                let _ = self.decline_refer(now, id, 603);
            }
            Referred::Followed { expires_at, .. } if *expires_at <= now => {
                self.send_notify(now, id, StatusCode::TRYING, Standing::Over("timeout"));
            }
            _ => {}
        }
    }

    /// The leg ends: what is asked is refused, and a referrer that stays is told that there is
    /// nothing more to hear.
    pub(super) fn end_referred(&mut self, now: Instant, id: LegId) {
        let _ = self.decline_refer(now, id, 603);
        if let Ok(session) = self.session(id) {
            session.referred = Referred::None;
        }
    }
}

fn refer_event(named: Option<u32>) -> EventHeader {
    let mut params = Params::new();
    if let Some(sequence) = named {
        params.set("id", sequence.to_string());
    }
    EventHeader {
        package: "refer".to_owned(),
        params,
    }
}

fn subscription_state(standing: Standing) -> SubscriptionState {
    let mut params = Params::new();
    let state = match standing {
        Standing::Active { seconds } => {
            params.set("expires", seconds.to_string());
            "active"
        }
        Standing::Over(reason) => {
            params.set("reason", reason);
            "terminated"
        }
    };
    SubscriptionState {
        state: state.to_owned(),
        params,
    }
}

/// What a REFER asks for, or the status that refuses it.
fn wanted(leg: LegId, headers: &Headers) -> Result<ReferRequested, u16> {
    let bad = |_: HeaderError| 400_u16;
    let mut refer_to: NameAddr = headers.refer_to().map_err(bad)?;
    let referred_by = headers.referred_by().map_err(bad)?;
    let mut replaces = None;
    match &mut refer_to.uri {
        Uri::Sip(uri) => {
            // Whatever else the peer would put into our INVITE is not taken.
            for (name, value) in std::mem::take(&mut uri.headers) {
                if name.eq_ignore_ascii_case("Replaces") {
                    let value = String::from_utf8(decode(&value)).map_err(|_| 400_u16)?;
                    let value: Replaces = value.parse().map_err(|_| 400_u16)?;
                    replaces = Some(value);
                }
            }
            let method = uri.params.get("method").map(str::to_owned);
            uri.params.remove("method");
            if method.is_some_and(|method| !method.eq_ignore_ascii_case("INVITE")) {
                return Err(501);
            }
        }
        Uri::Tel(_) => {}
        Uri::Other(_) => return Err(416),
    }
    Ok(ReferRequested {
        leg,
        refer_to,
        referred_by,
        replaces,
    })
}
