//! Subscriptions of peers to what we have to tell, as notifier (RFC 6665).
//!
//! ```text
//!  SUBSCRIBE ─▶ Asked ──accept: 200, NOTIFY──▶ Active ◀─┐ SUBSCRIBE, Expires > 0: 200, NOTIFY
//!                 │ reject, or 16·T1: 403        │  │   └─ notify: NOTIFY
//!                 ▼                              │  └─ its NOTIFY unanswered, 481, 404, ...
//!               (gone)                           │                          │
//!                 Expires: 0, its time is over ──▶ Ending ──answered──▶ (gone) ◀┘
//! ```
//!
//! One NOTIFY of a subscription is out at a time; what changes meanwhile is told by the next, in
//! its latest state only.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::api::{CommandError, NotifyRequest, PingId, SubscriptionId};
use super::compose::{is_behind_nat, is_secure};
use super::event::{Event, SubscribeRequested};
use super::leg::{Owner, Path, Purpose};
use super::requests::Received;
use super::{Endpoint, TimerKey};
use crate::sip::dialog::{Dialog, Sequence};
use crate::sip::headers::{
    CSeq, Event as EventHeader, HeaderName, Headers, NameAddr, SubscriptionState,
};
use crate::sip::message::{Method, Request, Response};
use crate::sip::params::Params;
use crate::sip::token;
use crate::sip::transaction::ServerId;
use crate::sip::transport::{Hop, Protocol};

/// What a subscriber gets that does not say how long.
const USUAL: Duration = Duration::from_secs(3600);
/// The longest, and the shortest but none.
const LONGEST: Duration = Duration::from_secs(3600);
const SHORTEST: Duration = Duration::from_secs(60);

/// Status and header fields of a refusal.
type Refusal = (u16, Vec<(HeaderName, String)>);

/// One subscription.
#[derive(Debug)]
pub(super) struct Subscription {
    dialog: Dialog,
    path: Path,
    contact: NameAddr,
    event: EventHeader,
    state: State,
    delivery: Delivery,
    /// The latest state.
    content: Option<Content>,
}

/// A type and a body.
#[derive(Clone, Debug)]
struct Content {
    kind: &'static str,
    body: Vec<u8>,
}

#[derive(Debug)]
enum State {
    /// The owner has not said whether it may.
    Asked {
        transaction: ServerId,
        request: Arc<Request>,
        expires: Duration,
        give_up_at: Instant,
    },
    Active {
        until: Instant,
    },
    /// The last NOTIFY is out, or waits for the one before it.
    Ending {
        reason: &'static str,
    },
}

/// What is on the way to the subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delivery {
    Idle,
    Sent,
    /// Something has changed since.
    Outdated,
}

impl Subscription {
    /// Whether the subscriber is reached on this connection.
    pub(super) fn is_at(&self, hop: Hop) -> bool {
        self.path.transport == hop.transport && self.path.peer == hop.address
    }

    fn deadline(&self) -> Option<(Instant, &'static str)> {
        match &self.state {
            State::Asked { give_up_at, .. } => Some((*give_up_at, "SUBSCRIBE")),
            State::Active { until } => Some((*until, "subscription")),
            State::Ending { .. } => None,
        }
    }
}

impl Endpoint {
    /// Whether we have anything to tell of this package.
    fn has_package(&self, package: &str) -> bool {
        let packages = &self.config.event_packages;
        packages.iter().any(|it| it.eq_ignore_ascii_case(package))
    }

    /// The subscription whose dialog a request is in.
    pub(super) fn subscription_of(&self, request: &Request) -> Option<SubscriptionId> {
        let call_id = request.headers.call_id().ok()?;
        let to = request.headers.to().ok()?;
        let (tag, from) = (to.tag()?, request.headers.from().ok()?);
        let ours = |subscription: &Subscription| {
            let dialog = &subscription.dialog;
            dialog.call_id() == call_id
                && dialog.local_tag() == tag
                && dialog.remote_tag() == from.tag()
        };
        let mut all = self.subscriptions.iter();
        all.find(|(_, subscription)| ours(subscription))
            .map(|(id, _)| *id)
    }

    /// A SUBSCRIBE outside of dialogs.
    pub(super) fn receive_subscribe(&mut self, now: Instant, received: Received) {
        let Ok(authenticated) = self.authenticate(now, &received) else {
            return;
        };
        let headers = &received.request.headers;
        let (event, expires) = match self.wanted(headers) {
            Ok(wanted) => wanted,
            Err((status, fields)) => return self.answer_received(now, &received, status, &fields),
        };
        if self.subscriptions.len() >= self.config.limits.subscriptions {
            self.counters.refused_by_limit += 1;
            let fields = [(HeaderName::RetryAfter, self.retry_after())];
            return self.answer_received(now, &received, 503, &fields);
        }
        let tag = token::tag(&mut self.rng);
        let request = Arc::new(received.request);
        let Hop {
            transport, address, ..
        } = received.source;
        let user = request.uri.user();
        let contact = self.contact(transport, user.as_deref(), is_secure(&request.uri));
        let dialog = Dialog::as_server(&request, &tag);
        let (Some(contact), Ok(dialog), Ok(from)) = (contact, dialog, request.headers.from())
        else {
            return self.answer(now, received.transaction, &request, 400, &[]);
        };
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
        self.next_subscription += 1;
        let id = SubscriptionId(self.next_subscription);
        let resource = request.uri.clone();
        let package = event.package.clone();
        let subscription = Subscription {
            dialog,
            path,
            contact,
            event,
            state: State::Asked {
                transaction: received.transaction,
                request,
                expires,
                give_up_at: now + self.config.timers.t1 * 16,
            },
            delivery: Delivery::Idle,
            content: None,
        };
        self.subscriptions.insert(id, subscription);
        self.refresh_subscription(id);
        let asked = SubscribeRequested {
            id,
            source: address,
            package,
            resource,
            from,
            authenticated,
        };
        self.emit(Event::SubscribeRequested(Box::new(asked)));
    }

    /// Package and lifetime of a SUBSCRIBE, or its refusal.
    fn wanted(&self, headers: &Headers) -> Result<(EventHeader, Duration), Refusal> {
        let event = match headers.event() {
            Ok(Some(event)) if self.has_package(&event.package) => event,
            Ok(_) => {
                let packages = self.config.event_packages.join(", ");
                return Err((489, vec![(HeaderName::AllowEvents, packages)]));
            }
            Err(_) => return Err((400, Vec::new())),
        };
        Ok((event, lifetime(headers)?))
    }

    /// A refresh, or the end, that the subscriber asks for.
    pub(super) fn receive_resubscribe(
        &mut self,
        now: Instant,
        id: SubscriptionId,
        received: &Received,
    ) {
        let request = &received.request;
        let number = request.headers.cseq().map(|cseq| cseq.number);
        let lifetime = lifetime(&request.headers);
        let Some(subscription) = self.subscriptions.get_mut(&id) else {
            return;
        };
        match number.map(|number| subscription.dialog.take_sequence(number)) {
            Ok(Sequence::InOrder) => {}
            Ok(Sequence::OutOfOrder) => return self.answer_received(now, received, 500, &[]),
            Err(_) => return self.answer_received(now, received, 400, &[]),
        }
        if request.method != Method::Subscribe {
            return self.answer_received(now, received, 481, &[]);
        }
        let State::Active { until } = &mut subscription.state else {
            // Not begun, or over.
            return self.answer_received(now, received, 481, &[]);
        };
        let expires = match lifetime {
            Ok(expires) => expires,
            Err((status, fields)) => return self.answer_received(now, received, status, &fields),
        };
        *until = now + expires;
        if let Ok(contact) = request.headers.contact() {
            subscription.dialog.refresh_target(contact.uri);
        }
        if expires.is_zero() {
            subscription.state = State::Ending { reason: "timeout" };
        }
        let fields = [
            (HeaderName::Expires, expires.as_secs().to_string()),
            (HeaderName::Contact, subscription.contact.to_string()),
        ];
        self.answer_received(now, received, 200, &fields);
        self.tell(now, id);
    }

    /// Takes a subscription that was asked for: 200, and the state as it is.
    ///
    /// # Errors
    /// Where it is gone, or was answered before.
    pub fn accept_subscription(
        &mut self,
        now: Instant,
        id: SubscriptionId,
        kind: &'static str,
        body: Vec<u8>,
    ) -> Result<(), CommandError> {
        let subscription = self
            .subscriptions
            .get_mut(&id)
            .ok_or(CommandError::UnknownSubscription)?;
        let State::Asked {
            transaction,
            request,
            expires,
            ..
        } = &subscription.state
        else {
            return Err(CommandError::WrongState);
        };
        let (transaction, request, expires) = (*transaction, Arc::clone(request), *expires);
        subscription.content = Some(Content { kind, body });
        subscription.state = match expires.is_zero() {
            // A look, and no more (RFC 6665 section 4.4.3).
            true => State::Ending { reason: "timeout" },
            false => State::Active {
                until: now + expires,
            },
        };
        let (tag, contact) = (
            subscription.dialog.local_tag().to_owned(),
            subscription.contact.clone(),
        );
        let mut response = self.response(&request, 200, &tag);
        let headers = &mut response.headers;
        headers.copy_all(&request.headers, &HeaderName::RecordRoute);
        headers.push(HeaderName::Expires, expires.as_secs());
        headers.push(HeaderName::Contact, contact);
        self.send_response(now, transaction, &response);
        self.tell(now, id);
        Ok(())
    }

    /// Refuses a subscription that was asked for, with a status from 300 to 699.
    ///
    /// # Errors
    /// Where it is gone, or was answered before.
    pub fn reject_subscription(
        &mut self,
        now: Instant,
        id: SubscriptionId,
        status: u16,
    ) -> Result<(), CommandError> {
        if !(300..=699).contains(&status) {
            return Err(CommandError::BadStatus(status));
        }
        let subscription = self
            .subscriptions
            .get(&id)
            .ok_or(CommandError::UnknownSubscription)?;
        let State::Asked {
            transaction,
            request,
            ..
        } = &subscription.state
        else {
            return Err(CommandError::WrongState);
        };
        let (transaction, request) = (*transaction, Arc::clone(request));
        self.forget_subscription(id);
        self.answer(now, transaction, &request, status, &[]);
        Ok(())
    }

    /// Tells a subscriber the state as it is now.
    ///
    /// # Errors
    /// Where the subscription is over, or not accepted yet.
    pub fn notify(
        &mut self,
        now: Instant,
        id: SubscriptionId,
        kind: &'static str,
        body: Vec<u8>,
    ) -> Result<(), CommandError> {
        let subscription = self
            .subscriptions
            .get_mut(&id)
            .ok_or(CommandError::UnknownSubscription)?;
        if let State::Asked { .. } = subscription.state {
            return Err(CommandError::WrongState);
        }
        subscription.content = Some(Content { kind, body });
        self.tell(now, id);
        Ok(())
    }

    /// Tells somebody who has not subscribed. [`Event::Ping`] says what they answered.
    ///
    /// # Errors
    /// Where the transport is unknown or there are too many transactions.
    pub fn notify_unsolicited(
        &mut self,
        now: Instant,
        notify: NotifyRequest,
    ) -> Result<PingId, CommandError> {
        if self.clients.len() >= self.config.limits.client_transactions {
            return Err(CommandError::LimitReached);
        }
        let contact = self
            .contact(notify.transport, None, is_secure(&notify.target))
            .ok_or(CommandError::UnknownTransport)?;
        self.next_ping += 1;
        let id = PingId(self.next_ping);
        let from = NameAddr::new(contact.uri.clone()).with_tag(token::tag(&mut self.rng));
        let mut request = Request::new(Method::Notify, notify.target.clone());
        let headers = &mut request.headers;
        headers.push(HeaderName::MaxForwards, 70);
        headers.push(HeaderName::From, from);
        headers.push(HeaderName::To, NameAddr::new(notify.target));
        headers.push(HeaderName::CallId, token::call_id(&mut self.rng));
        let sequence = CSeq {
            number: 1,
            method: Method::Notify,
        };
        headers.push(HeaderName::CSeq, sequence);
        headers.push(HeaderName::Contact, contact);
        headers.push(HeaderName::Event, notify.package);
        // There is no subscription that could go on.
        headers.push(
            HeaderName::SubscriptionState,
            standing("terminated", "reason", "noresource".to_owned()),
        );
        headers.push(HeaderName::ContentType, notify.kind);
        request.body = notify.body;
        let hop = Hop::new(notify.transport, notify.destination);
        let path = Path {
            transport: notify.transport,
            peer: notify.destination,
            behind_nat: false,
            accepted: false,
        };
        self.send_request(now, request, hop, Owner::new(Purpose::Ping(id), path));
        Ok(id)
    }

    /// Sends the state, unless the last NOTIFY is still on its way.
    fn tell(&mut self, now: Instant, id: SubscriptionId) {
        self.refresh_subscription(id);
        let Some(subscription) = self.subscriptions.get_mut(&id) else {
            return;
        };
        if subscription.delivery != Delivery::Idle {
            subscription.delivery = Delivery::Outdated;
            return;
        }
        subscription.delivery = Delivery::Sent;
        let state = match &subscription.state {
            State::Active { until } => {
                let left = until.saturating_duration_since(now);
                standing("active", "expires", left.as_secs().to_string())
            }
            State::Ending { reason } => standing("terminated", "reason", (*reason).to_owned()),
            State::Asked { .. } => return,
        };
        let mut request = subscription.dialog.request(Method::Notify);
        let headers = &mut request.headers;
        headers.push(HeaderName::Event, &subscription.event);
        headers.push(HeaderName::SubscriptionState, state);
        headers.push(HeaderName::Contact, &subscription.contact);
        if let Some(content) = &subscription.content {
            headers.push(HeaderName::ContentType, content.kind);
            request.body.clone_from(&content.body);
        }
        let (path, dialog) = (subscription.path, subscription.dialog.clone());
        let hop = self.dialog_hop(path, &dialog);
        self.send_request(now, request, hop, Owner::new(Purpose::Tell(id), path));
    }

    pub(super) fn tell_answered(&mut self, now: Instant, id: SubscriptionId, response: &Response) {
        match response.status.code() {
            100..=199 => {}
            200..=299 => self.told(now, id),
            // The subscriber knows nothing of it, or wants no more (RFC 6665 section 4.2.2).
            _ => self.end_subscription(id),
        }
    }

    pub(super) fn tell_failed(&mut self, id: SubscriptionId) {
        self.end_subscription(id);
    }

    fn told(&mut self, now: Instant, id: SubscriptionId) {
        let Some(subscription) = self.subscriptions.get_mut(&id) else {
            return;
        };
        let before = std::mem::replace(&mut subscription.delivery, Delivery::Idle);
        match (before, &subscription.state) {
            (Delivery::Outdated, _) => self.tell(now, id),
            (_, State::Ending { .. }) => self.end_subscription(id),
            (_, _) => {}
        }
    }

    pub(super) fn subscription_timeout(&mut self, now: Instant, id: SubscriptionId) {
        let Some(subscription) = self.subscriptions.get_mut(&id) else {
            return;
        };
        match subscription.state {
            State::Asked { .. } => {
                // It is asked, and 403 is a refusal: nothing can fail.
                let _ = self.reject_subscription(now, id, 403);
            }
            State::Active { .. } => {
                subscription.state = State::Ending { reason: "timeout" };
                self.tell(now, id);
            }
            State::Ending { .. } => {}
        }
    }

    fn end_subscription(&mut self, id: SubscriptionId) {
        if self.forget_subscription(id) {
            self.emit(Event::SubscriptionEnded { id });
        }
    }

    fn forget_subscription(&mut self, id: SubscriptionId) -> bool {
        self.deadlines.set(TimerKey::Subscription(id), None);
        self.subscriptions.remove(&id).is_some()
    }

    fn refresh_subscription(&mut self, id: SubscriptionId) {
        let deadline = self.subscriptions.get(&id).and_then(Subscription::deadline);
        self.deadlines.set(TimerKey::Subscription(id), deadline);
    }
}

/// How long a SUBSCRIBE is for, or its refusal.
fn lifetime(headers: &Headers) -> Result<Duration, Refusal> {
    let asked = match headers.expires() {
        Ok(Some(seconds)) => Duration::from_secs(u64::from(seconds)),
        Ok(None) => USUAL,
        Err(_) => return Err((400, Vec::new())),
    };
    if !asked.is_zero() && asked < SHORTEST {
        let shortest = SHORTEST.as_secs().to_string();
        return Err((423, vec![(HeaderName::MinExpires, shortest)]));
    }
    Ok(asked.min(LONGEST))
}

fn standing(state: &str, name: &str, value: String) -> SubscriptionState {
    let mut params = Params::new();
    params.set(name, value);
    SubscriptionState {
        state: state.to_owned(),
        params,
    }
}
