//! Incoming requests up to the point where they belong to a leg: matching, validation in the
//! order of RFC 3261 8.2, and everything outside dialogs.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Endpoint;
use super::api::LegId;
use super::body::{BodyError, SDP};
use crate::sip::auth::{Verifier, VerifierSettings};
use crate::sip::extensions::Extensions;
use crate::sip::headers::{HeaderName, Headers, Rport, Via};
use crate::sip::message::{Method, Request};
use crate::sip::session_timer::{Agreement, TooSmall};
use crate::sip::timers::Reliability;
use crate::sip::transaction::{AckAction, RequestKeys, ServerId};
use crate::sip::transport::Hop;
use crate::sip::uri::Uri;
use crate::sip::wire::Rejection;

/// How long a nonce of ours can be used.
const NONCE_LIFETIME: Duration = Duration::from_secs(300);
/// Nonces remembered against replay.
const MAX_USED_NONCES: usize = 10_000;

/// A request that was given a transaction.
pub(super) struct Received {
    pub(super) transaction: ServerId,
    /// Where it came from.
    pub(super) source: Hop,
    /// Its topmost Via as the sender wrote it.
    pub(super) via: Via,
    pub(super) request: Request,
}

impl Endpoint {
    pub(super) fn receive_request(&mut self, now: Instant, source: Hop, mut request: Request) {
        let Ok(via) = request.headers.top_via() else {
            self.counters.dropped_unparsable += 1;
            return;
        };
        let Ok(keys) = self.servers.keys(&request, &via) else {
            self.counters.dropped_unparsable += 1;
            return;
        };
        request.headers.record_source(source.address);
        if request.method == Method::Ack {
            self.receive_ack(now, &keys, &request);
            return;
        }
        if let Some(id) = self.servers.find(&keys) {
            self.repeat_response(id);
            return;
        }
        let hop = self.response_hop(source, &via);
        let in_dialog = request.headers.to().is_ok_and(|to| to.tag().is_some());
        if self.is_flooded(in_dialog || request.method == Method::Cancel) {
            self.refuse_statelessly(hop, &request);
            return;
        }
        let merged = self.servers.is_merged(&keys);
        let reliability = self.reliability(source);
        let transaction = self.servers.start(&request.method, keys, hop, reliability);
        let received = Received {
            transaction,
            source,
            via,
            request,
        };
        if merged {
            self.answer_received(now, &received, 482, &[]);
        } else if received.request.method == Method::Cancel {
            self.receive_cancel(now, &keys, &received);
        } else if let Some((status, fields)) = unacceptable(
            &received.request,
            &self.extensions_for(source),
            self.allow(),
        ) {
            self.answer_received(now, &received, status, &fields);
        } else if in_dialog {
            self.receive_in_dialog(now, received);
        } else {
            self.receive_outside_dialog(now, received);
        }
    }

    fn repeat_response(&mut self, id: ServerId) {
        if let Some(transaction) = self.servers.get_mut(id) {
            let hop = transaction.hop;
            if let Some(bytes) = transaction.handle_request() {
                self.counters.retransmitted += 1;
                self.transmit(hop, bytes);
            }
        }
    }

    fn reliability(&self, hop: Hop) -> Reliability {
        self.local(hop.transport)
            .map_or(Reliability::Unreliable, |local| {
                local.protocol.reliability()
            })
    }

    /// Where responses go: back to the source with `rport` or on the connection, else (or when
    /// the connection is gone) to the source's address and the port of the sent-by (RFC 3261
    /// 18.2.2, RFC 3581). `maddr` is not followed: it would let anybody aim our answers at a
    /// third party.
    fn response_hop(&self, source: Hop, via: &Via) -> Hop {
        let mut hop = source;
        let sent_by = SocketAddr::new(source.address.ip(), via.port_or_default());
        match self.reliability(source) {
            Reliability::Reliable => hop.reconnect = Some(sent_by),
            Reliability::Unreliable if via.rport() == Rport::Absent => hop.address = sent_by,
            Reliability::Unreliable => {}
        }
        hop
    }

    /// Whether no more transactions are taken. Requests that belong to a call have twice the
    /// room, so that calls can end under a flood.
    fn is_flooded(&self, belongs_to_call: bool) -> bool {
        let limits = &self.config.limits;
        let room = if belongs_to_call { 2 } else { 1 };
        self.servers.len() >= limits.server_transactions * room
            || self.servers.held_bytes() >= limits.retained_bytes * room
    }

    fn refuse_statelessly(&mut self, hop: Hop, request: &Request) {
        self.counters.refused_by_limit += 1;
        let tag = self.stateless_tag(&request.headers);
        let mut response = self.response(request, 503, &tag);
        response
            .headers
            .push(HeaderName::RetryAfter, self.retry_after());
        self.sign(&mut response, hop);
        self.transmit(hop, response.to_bytes().into());
    }

    /// A tag that is the same for each repeat of a request (RFC 3261 8.2.7).
    fn stateless_tag(&self, headers: &Headers) -> String {
        let call_id = headers.get(&HeaderName::CallId).unwrap_or_default();
        let from = headers.get(&HeaderName::From).unwrap_or_default();
        self.servers.stateless_tag(&format!("{call_id} {from}"))
    }

    pub(super) fn retry_after(&self) -> String {
        self.config.limits.retry_after.as_secs().max(1).to_string()
    }

    /// Refuses what was recognisably a request but a bad one. No transaction: a repeat is
    /// refused again.
    pub(super) fn reject_unparsed(&mut self, source: Hop, mut rejection: Rejection) {
        let via = rejection.headers.top_via();
        let hop = via.map_or(source, |via| self.response_hop(source, &via));
        rejection.headers.record_source(source.address);
        let tag = self.stateless_tag(&rejection.headers);
        let mut response = rejection.to_response(&tag);
        self.sign(&mut response, hop);
        self.transmit(hop, response.to_bytes().into());
    }

    pub(super) fn answer_received(
        &mut self,
        now: Instant,
        received: &Received,
        status: u16,
        fields: &[(HeaderName, String)],
    ) {
        self.answer(now, received.transaction, &received.request, status, fields);
    }

    /// An ACK ends a refused INVITE's transaction, or confirms a 2xx of a leg.
    fn receive_ack(&mut self, now: Instant, keys: &RequestKeys, request: &Request) {
        if let Some(id) = self.servers.find(keys)
            && let Some(transaction) = self.servers.get_mut(id)
        {
            let action = transaction.handle_ack(now);
            self.refresh_server(id);
            if action == AckAction::Absorb {
                return;
            }
        }
        match self.leg_of(request) {
            Some(leg) => self.receive_leg_ack(now, leg, request),
            None => self.counters.dropped_stray += 1,
        }
    }

    /// The leg whose dialog a request is in.
    pub(super) fn leg_of(&self, request: &Request) -> Option<LegId> {
        let call_id = request.headers.call_id().ok()?;
        let to = request.headers.to().ok()?;
        let key = (call_id.to_owned(), to.tag()?.to_owned());
        self.dialogs.get(&key).copied()
    }

    /// CANCEL is answered by itself and acts on the INVITE with its branch (RFC 3261 9.2).
    fn receive_cancel(&mut self, now: Instant, keys: &RequestKeys, received: &Received) {
        let cancelled = self.servers.find_cancelled(keys);
        let Some(transaction) = cancelled.and_then(|id| self.servers.get(id)) else {
            self.answer_received(now, received, 481, &[]);
            return;
        };
        let leg = transaction
            .owner
            .filter(|_| transaction.is_proceeding_invite());
        let tag = leg
            .and_then(|leg| self.legs.get(&leg))
            .map(|leg| leg.local_tag.clone());
        let tag = tag.unwrap_or_else(|| self.stateless_tag(&received.request.headers));
        let response = self.response(&received.request, 200, &tag);
        self.send_response(now, received.transaction, &response);
        if let Some(leg) = leg {
            self.cancel_received(now, leg, &received.request);
        }
    }

    fn receive_outside_dialog(&mut self, now: Instant, received: Received) {
        match received.request.method {
            Method::Invite | Method::Options | Method::Subscribe if !self.accepting => {
                let fields = [(HeaderName::RetryAfter, self.retry_after())];
                self.answer_received(now, &received, 503, &fields);
            }
            Method::Options => self.answer_options(now, &received),
            Method::Invite => self.receive_call(now, received),
            Method::Subscribe => self.receive_subscribe(now, received),
            // Whom we call for strangers is never theirs to say.
            Method::Refer => self.answer_received(now, &received, 403, &[]),
            // Only ever sent inside a dialog or a subscription.
            _ => self.answer_received(now, &received, 481, &[]),
        }
    }

    pub(super) fn answer_options(&mut self, now: Instant, received: &Received) {
        let fields = [
            (HeaderName::Allow, self.allow().to_owned()),
            (HeaderName::Accept, SDP.to_owned()),
            (HeaderName::AcceptEncoding, "identity".to_owned()),
            (
                HeaderName::Supported,
                self.extensions_for(received.source).supported(),
            ),
        ];
        self.answer_received(now, received, 200, &fields);
    }

    fn receive_call(&mut self, now: Instant, received: Received) {
        let authenticated = match self.authenticate(now, &received) {
            Ok(user) => user,
            Err(()) => return,
        };
        if received.request.headers.max_forwards() == Ok(Some(0)) {
            self.answer_received(now, &received, 483, &[]);
            return;
        }
        if self.is_our_own(&received.request.headers) {
            self.answer_received(now, &received, 482, &[]);
            return;
        }
        if self.legs.len() >= self.config.limits.legs {
            self.counters.refused_by_limit += 1;
            let fields = [(HeaderName::RetryAfter, self.retry_after())];
            self.answer_received(now, &received, 503, &fields);
            return;
        }
        let timer = self.extensions_for(received.source).session_timer;
        if let Err(too_small) = Agreement::with(&timer, &received.request.headers, None) {
            return self.answer_too_small(now, &received, too_small);
        }
        let replaces = match self.replaced_leg(&received.request.headers) {
            Ok(replaces) => replaces,
            Err(status) => return self.answer_received(now, &received, status, &[]),
        };
        if let Ok(offer) = self.offered_description(now, &received) {
            self.start_call(now, received, authenticated, replaces, offer);
        }
    }

    /// Whether an INVITE is one that we sent and that came back: a loop.
    fn is_our_own(&self, headers: &Headers) -> bool {
        let (Ok(call_id), Ok(from)) = (headers.call_id(), headers.from()) else {
            return false;
        };
        let tag = from.tag().unwrap_or_default().to_owned();
        self.dialogs.contains_key(&(call_id.to_owned(), tag))
    }

    /// The extensions that are used with a peer.
    pub(super) fn extensions_for(&self, peer: Hop) -> Extensions {
        let address = peer.address.ip().to_canonical();
        let by_source = &self.config.extensions_by_source;
        let configured = by_source.iter().find(|(net, _)| net.contains(&address));
        let configured = configured.map(|(_, extensions)| *extensions);
        let registered = || {
            let registrations = self.registrations.iter();
            let known = registrations
                .filter_map(|(id, registration)| Some((id, registration.extensions_at(address)?)));
            known.min_by_key(|(id, _)| **id).map(|(_, found)| found)
        };
        configured
            .or_else(registered)
            .unwrap_or(self.config.extensions)
    }

    /// Refuses a session interval (RFC 4028 section 6).
    pub(super) fn answer_too_small(
        &mut self,
        now: Instant,
        received: &Received,
        TooSmall(minimum): TooSmall,
    ) {
        let fields = [(HeaderName::MinSe, minimum.to_string())];
        self.answer_received(now, received, 422, &fields);
    }

    /// The user who sent a request, `None` where none is asked for. `Err` when the request was
    /// answered 401.
    pub(super) fn authenticate(
        &mut self,
        now: Instant,
        received: &Received,
    ) -> Result<Option<String>, ()> {
        let Some(policy) = &self.config.authentication else {
            return Ok(None);
        };
        if !self.is_challenged(received.source) {
            return Ok(None);
        }
        let secret = self.nonce_secret;
        let verifier = self.verifier.get_or_insert_with(|| {
            let settings = VerifierSettings {
                realm: policy.realm.clone(),
                secret,
                nonce_lifetime: NONCE_LIFETIME,
                allow_md5: true,
                max_used_nonces: MAX_USED_NONCES,
            };
            Verifier::new(settings, now)
        });
        let password = |username: &str| {
            let user = policy.users.iter().find(|user| user.username == username);
            user.map(|user| user.password.clone())
        };
        let credentials = received.request.headers.authorization().unwrap_or_default();
        let refusal = match verifier.verify(&received.request.method, &credentials, password, now) {
            Ok(user) => return Ok(Some(user)),
            Err(refusal) => refusal,
        };
        let challenges = verifier.challenges(refusal.is_stale(), now);
        let fields: Vec<(HeaderName, String)> = challenges
            .iter()
            .map(|challenge| (HeaderName::WwwAuthenticate, challenge.to_string()))
            .collect();
        self.counters.challenged += 1;
        self.answer_received(now, received, 401, &fields);
        Err(())
    }

    /// The session description of an INVITE or UPDATE; `Err` when the request was refused for
    /// its body or for not accepting ours.
    pub(super) fn offered_description(
        &mut self,
        now: Instant,
        received: &Received,
    ) -> Result<Option<Vec<u8>>, ()> {
        let request = &received.request;
        let accepts = || (HeaderName::Accept, SDP.to_owned());
        let problem = match super::body::session_description(&request.headers, &request.body) {
            Ok(_) if !accepts_description(&request.headers) => (406, accepts()),
            Ok(description) => return Ok(description),
            Err(BodyError::UnsupportedType) => (415, accepts()),
            Err(BodyError::UnsupportedEncoding) => {
                (415, (HeaderName::AcceptEncoding, "identity".to_owned()))
            }
            Err(BodyError::Malformed) => (400, accepts()),
        };
        let (status, field) = problem;
        self.answer_received(now, received, status, &[field]);
        Err(())
    }
}

/// Method and extensions (RFC 3261 8.2.1, 8.2.2): the refusal that a request earns whatever it
/// asks for.
fn unacceptable(
    request: &Request,
    extensions: &Extensions,
    allow: &'static str,
) -> Option<(u16, Vec<(HeaderName, String)>)> {
    match request.method {
        Method::Invite
        | Method::Ack
        | Method::Bye
        | Method::Cancel
        | Method::Info
        | Method::Notify
        | Method::Options
        | Method::Prack
        | Method::Refer
        | Method::Update => {}
        Method::Subscribe if allow.contains("SUBSCRIBE") => {}
        Method::Message
        | Method::Publish
        | Method::Register
        | Method::Subscribe
        | Method::Extension(_) => {
            return Some((405, vec![(HeaderName::Allow, allow.to_owned())]));
        }
    }
    if let Uri::Other(_) = request.uri {
        return Some((416, Vec::new()));
    }
    let unsupported: Vec<&str> = request
        .headers
        .require()
        .into_iter()
        .filter(|option| !extensions.knows(option))
        .collect();
    if !unsupported.is_empty() {
        let fields = vec![(HeaderName::Unsupported, unsupported.join(", "))];
        return Some((420, fields));
    }
    let is_first =
        request.method == Method::Invite && request.headers.to().is_ok_and(|to| to.tag().is_none());
    let missing: Vec<&str> = extensions
        .required()
        .filter(|option| !request.headers.offers(option))
        .collect();
    // RFC 3261 21.4.16.
    (is_first && !missing.is_empty())
        .then(|| (421, vec![(HeaderName::Require, missing.join(", "))]))
}

/// Whether the peer takes a session description in answer. No Accept means it does.
fn accepts_description(headers: &Headers) -> bool {
    let mut ranges = headers
        .get_all(&HeaderName::Accept)
        .flat_map(|value| value.split(','))
        .map(|range| range.split(';').next().unwrap_or_default().trim())
        .filter(|range| !range.is_empty())
        .peekable();
    ranges.peek().is_none()
        || ranges.any(|range| {
            ["*/*", "application/*", SDP]
                .iter()
                .any(|taken| taken.eq_ignore_ascii_case(range))
        })
}
