//! One registration (RFC 3261 section 10), kept alive until it is stopped, with the first of its
//! registrars that takes it.
//!
//! ```text
//!        start                 2xx
//!   ---> +-------------+ ------------> +------------+
//!        | Registering |               | Registered |
//!        +-------------+ <------------ +------------+
//!          |  ^   | ^     before expiry       | stop
//!  401/407 |  |   | | pause over              |
//!  423, new|  |   v |                         v
//!  address +--+ +---------+   stop     +---------------+  any final response,
//!               | Waiting |----------> | Unregistering |  no response
//!               +---------+            +---------------+ -----------> Over
//! ```
//! A registrar that does not answer, or cannot, is passed over for the next at once; only when
//! none is left there is a pause. Pauses double from 5 s to 10 min with jitter (RFC 5626 4.5 asks
//! for both), so that a registrar that comes back is not met by all its clients at once.
//!
//! Where another registrar is left to try, one that says nothing is passed over sooner than by
//! timer F. Registered with another than the first, halfway through each lifetime it tries those
//! that are preferred again; the binding that it has lives on meanwhile.
//!
//! Over UDP the way back to us is kept open now and then by a datagram of line ends (RFC 5626
//! 4.4.1) or an OPTIONS, which also notices when nobody is there any more, or when a router on the
//! way gave us another address. On streams that is the connection's own business.

mod api;
mod registrars;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;

pub use api::{KeepAlive, RegistrationSettings, RegistrationState, Step};
pub use registrars::{Registrar, Registrars};

use super::extensions::Extensions;
use super::headers::{CSeq, Contacts, HeaderName, NameAddr, Rport};
use super::message::{Method, Request, Response};
use super::timers::Reliability;
use super::transport::Hop;
use super::uri::{Host, Uri};

const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// Registrars that grant less are asked again no sooner than this.
const SHORTEST_REFRESH: Duration = Duration::from_secs(5);
/// A 423 that asks for more is a fault of the registrar's.
const LONGEST_EXPIRES: Duration = Duration::from_secs(7 * 86_400);
/// Between keep-alive datagrams (RFC 5626 4.4.1: 24 to 29 s).
const KEEP_ALIVE: std::ops::Range<u64> = 24_000..29_000;
/// After its connection was lost, or our address changed, it is refreshed within this.
const SOON: std::ops::Range<u64> = 500..2_000;
/// A server can call every nonce stale.
const MAX_CHALLENGES: u8 = 3;

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Registering {
        stopping: bool,
    },
    Registered {
        refresh_at: Instant,
        keep_alive_at: Option<Instant>,
        return_at: Option<Instant>,
    },
    Waiting {
        until: Instant,
    },
    Unregistering,
    Over,
}

/// The registration. See the module.
#[derive(Debug)]
pub struct Registration {
    settings: RegistrationSettings,
    /// Our Contact at the current registrar.
    contact: NameAddr,
    phase: Phase,
    sequence: u32,
    failures: u32,
    challenges: u8,
    /// A binding of ours may exist at the registrar.
    bound: bool,
    /// The Contact before a new address was learned, to be removed with the next request.
    stale_contact: Option<NameAddr>,
    relearned: bool,
    /// It left a registrar that it was registered with for one that is preferred.
    returning: bool,
}

impl Registration {
    /// A registration with its first REGISTER.
    pub fn start(settings: RegistrationSettings) -> (Self, Request) {
        let mut registration = Self {
            contact: settings.registrars.current().contact.clone(),
            settings,
            phase: Phase::Registering { stopping: false },
            sequence: 0,
            failures: 0,
            challenges: 0,
            bound: false,
            stale_contact: None,
            relearned: false,
            returning: false,
        };
        let request = registration.request(None);
        (registration, request)
    }

    /// Where its requests go.
    pub fn hop(&self) -> Hop {
        self.settings.registrars.current().hop
    }

    /// The current registrar's domain.
    pub fn registrar(&self) -> &Uri {
        &self.settings.registrars.current().registrar
    }

    /// Nothing more will happen.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// How long the request that is sent now may stay without any response.
    pub fn patience(&self) -> Option<Duration> {
        let registrars = &self.settings.registrars;
        registrars.has_more().then_some(self.settings.patience)
    }

    /// The extensions that are used with peers at `address`; `None` where it is no registrar's.
    pub fn extensions_at(&self, address: IpAddr) -> Option<Extensions> {
        let mut registrars = self.registrars().iter();
        let known = registrars.any(|one| one.hop.address.ip().to_canonical() == address);
        self.settings.extensions.filter(|_| known)
    }

    /// When it wants the time, and why.
    pub fn deadline(&self) -> Option<(Instant, &'static str)> {
        match self.phase {
            Phase::Registered {
                refresh_at,
                keep_alive_at,
                return_at,
            } => {
                let times = [
                    Some((refresh_at, "REGISTER refresh")),
                    keep_alive_at.map(|at| (at, "keep-alive")),
                    return_at.map(|at| (at, "REGISTER with a preferred registrar")),
                ];
                times.into_iter().flatten().min()
            }
            Phase::Waiting { until } => Some((until, "REGISTER retry")),
            Phase::Registering { .. } | Phase::Unregistering | Phase::Over => None,
        }
    }

    /// Takes the time.
    pub fn handle_timeout(&mut self, now: Instant, rng: &mut StdRng) -> Step {
        let Some((due, _)) = self.deadline().filter(|(at, _)| *at <= now) else {
            return Step::default();
        };
        if let Phase::Registered {
            keep_alive_at: Some(at),
            ..
        } = &mut self.phase
            && *at == due
        {
            *at = now + milliseconds(rng, KEEP_ALIVE);
            return Step {
                keep_alive: Some(self.settings.keep_alive),
                ..Step::default()
            };
        }
        let returns =
            matches!(self.phase, Phase::Registered { return_at, .. } if return_at == Some(due));
        if returns {
            self.settings.registrars.restart();
            self.bound = false;
            self.settle_contact();
            self.returning = true;
        }
        self.phase = Phase::Registering { stopping: false };
        self.challenges = 0;
        self.relearned = false;
        self.again(rng)
    }

    /// Its registrars, in the order to try.
    pub fn registrars(&self) -> &[Registrar] {
        self.settings.registrars.list()
    }

    /// Its connection is gone, or our address is another: registers anew soon. `contacts` are our
    /// Contacts at each registrar now.
    pub fn renew(&mut self, now: Instant, rng: &mut StdRng, contacts: Vec<Option<NameAddr>>) {
        for (registrar, contact) in self.settings.registrars.list_mut().iter_mut().zip(contacts) {
            if let Some(contact) = contact {
                registrar.contact = contact;
            }
        }
        let fresh = &self.settings.registrars.current().contact;
        if self.contact != *fresh {
            let old = std::mem::replace(&mut self.contact, fresh.clone());
            if self.bound {
                self.stale_contact.get_or_insert(old);
            }
        }
        self.refresh_soon(now, rng);
    }

    fn refresh_soon(&mut self, now: Instant, rng: &mut StdRng) {
        if let Phase::Registered { refresh_at, .. } = &mut self.phase {
            let soon = now + milliseconds(rng, SOON);
            *refresh_at = soon.min(*refresh_at);
        }
    }

    /// An OPTIONS that kept the way open was answered, or was not: registers anew soon where
    /// nobody is there, or where the registrar sees us at another address than before.
    pub fn handle_keep_alive(
        &mut self,
        now: Instant,
        rng: &mut StdRng,
        response: Option<&Response>,
    ) {
        let moved = |response| {
            let seen = Self::seen_at(response);
            self.settings.learn_contact && seen.is_some() && seen != self.contact_address()
        };
        if response.is_none_or(moved) {
            self.refresh_soon(now, rng);
        }
    }

    /// Takes what is now known of the registrars. The one that it is registered with stays its
    /// choice as long as it is among them.
    pub fn retarget(&mut self, registrars: Registrars) {
        let (before, after) = (self.hop(), registrars);
        self.settings.registrars = after;
        if !(self.bound && self.settings.registrars.choose(&before)) {
            self.settle_contact();
        }
    }

    /// Takes the current registrar's Contact. A binding elsewhere expires by itself.
    fn settle_contact(&mut self) {
        self.contact = self.settings.registrars.current().contact.clone();
        self.stale_contact = None;
        self.relearned = false;
        self.challenges = 0;
    }

    /// Removes the binding, if there may be one. A REGISTER under way is waited for (RFC 3261
    /// 10.2).
    pub fn stop(&mut self, rng: &mut StdRng) -> Step {
        match &mut self.phase {
            Phase::Registering { stopping } => {
                *stopping = true;
                Step::default()
            }
            Phase::Registered { .. } | Phase::Waiting { .. } if self.bound => self.unregister(rng),
            Phase::Registered { .. } | Phase::Waiting { .. } => self.over(),
            Phase::Unregistering | Phase::Over => Step::default(),
        }
    }

    /// Takes a response to `sent`, the request under way.
    pub fn handle_response(
        &mut self,
        now: Instant,
        rng: &mut StdRng,
        sent: &Request,
        response: &Response,
    ) -> Step {
        let status = response.status.code();
        let learned = self.learn_contact(response);
        match status {
            100..=199 => Step::default(),
            401 | 407 if self.meet_challenge(sent, response) => self.again(rng),
            _ if self.phase == Phase::Unregistering => self.over(),
            423 if self.raise_expires(response) => self.again(rng),
            200..=299 => self.registered(now, rng, response, learned),
            _ => {
                let retry_after = response.headers.retry_after().ok().flatten();
                // Another registrar would know no other password, unless it took it before.
                let personal = matches!(status, 401 | 403 | 404 | 407) && !self.returning;
                match personal || !self.pass_on() {
                    true => self.failed(now, rng, Some(status), retry_after),
                    false => self.again(rng),
                }
            }
        }
    }

    /// The request under way got no response.
    pub fn handle_failure(&mut self, now: Instant, rng: &mut StdRng) -> Step {
        if self.phase == Phase::Unregistering {
            return self.over();
        }
        match self.pass_on() {
            true => self.again(rng),
            false => self.failed(now, rng, None, None),
        }
    }

    /// Turns to the next registrar, where one is left in this round and wanted.
    fn pass_on(&mut self) -> bool {
        if self.is_stopping() || !self.settings.registrars.pass() {
            return false;
        }
        self.bound = false;
        self.settle_contact();
        true
    }

    fn again(&mut self, rng: &mut StdRng) -> Step {
        Step {
            send: Some(self.request(Some(rng))),
            ..Step::default()
        }
    }

    fn over(&mut self) -> Step {
        self.phase = Phase::Over;
        Step {
            report: Some(RegistrationState::Unregistered),
            ..Step::default()
        }
    }

    fn unregister(&mut self, rng: &mut StdRng) -> Step {
        self.phase = Phase::Unregistering;
        self.challenges = 0;
        self.again(rng)
    }

    fn is_stopping(&self) -> bool {
        self.phase == Phase::Registering { stopping: true }
    }

    fn registered(
        &mut self,
        now: Instant,
        rng: &mut StdRng,
        response: &Response,
        learned: bool,
    ) -> Step {
        self.failures = 0;
        self.challenges = 0;
        self.bound = true;
        if self.is_stopping() {
            return self.unregister(rng);
        }
        if learned {
            return self.again(rng);
        }
        self.stale_contact = None;
        let expires = self.granted(response);
        let share = rng.random_range(0.75..0.9);
        let refresh_at = now + expires.mul_f64(share).max(SHORTEST_REFRESH);
        self.returning = false;
        self.settings.registrars.settle();
        self.phase = Phase::Registered {
            refresh_at,
            keep_alive_at: self.first_keep_alive(now, rng),
            return_at: self.return_at(now, expires),
        };
        // A registrar's broken one is as none: calls go the way that the registration went.
        let service_route = response.headers.service_routes().unwrap_or_default();
        Step {
            report: Some(RegistrationState::Registered {
                expires,
                service_route,
            }),
            ..Step::default()
        }
    }

    fn first_keep_alive(&self, now: Instant, rng: &mut StdRng) -> Option<Instant> {
        let reliability = self.settings.registrars.current().reliability;
        let wanted =
            self.settings.keep_alive != KeepAlive::Off && reliability == Reliability::Unreliable;
        wanted.then(|| now + milliseconds(rng, KEEP_ALIVE))
    }

    /// When to try those that are preferred to the current registrar, if it leaves the time to
    /// come back to it before the binding expires.
    fn return_at(&self, now: Instant, expires: Duration) -> Option<Instant> {
        let better = u32::try_from(self.settings.registrars.better()).unwrap_or(u32::MAX);
        let half = expires / 2;
        let needed = self.settings.patience.saturating_mul(better);
        (better > 0 && needed < half).then(|| now + half)
    }

    fn failed(
        &mut self,
        now: Instant,
        rng: &mut StdRng,
        status: Option<u16>,
        retry_after: Option<u32>,
    ) -> Step {
        if self.is_stopping() {
            return match self.bound {
                true => self.unregister(rng),
                false => self.over(),
            };
        }
        self.returning = false;
        let longest = match status {
            // Asking again soon would only lock the account, unless it worked before.
            Some(401 | 403 | 404 | 407) if !self.bound => LONGEST_PAUSE,
            _ => (FIRST_PAUSE * 2_u32.saturating_pow(self.failures.min(16))).min(LONGEST_PAUSE),
        };
        self.failures = self.failures.saturating_add(1);
        let asked = Duration::from_secs(retry_after.unwrap_or(0).into()).min(LONGEST_PAUSE * 6);
        let retry_in = longest.mul_f64(rng.random_range(0.5..1.0)).max(asked);
        self.phase = Phase::Waiting {
            until: now + retry_in,
        };
        let before = self.hop();
        self.settings.registrars.restart();
        if !self.hop().is_same_flow(&before) {
            self.bound = false;
            self.settle_contact();
        }
        Step {
            report: Some(RegistrationState::Failed { status, retry_in }),
            ..Step::default()
        }
    }

    fn meet_challenge(&mut self, sent: &Request, response: &Response) -> bool {
        self.challenges = self.challenges.saturating_add(1);
        match &mut self.settings.digest {
            Some(digest) if self.challenges <= MAX_CHALLENGES => {
                digest.learn(sent, response).is_ok()
            }
            _ => false,
        }
    }

    /// 423: takes the registrar's minimum; whether that changes anything.
    fn raise_expires(&mut self, response: &Response) -> bool {
        let Ok(Some(seconds)) = response.headers.min_expires() else {
            return false;
        };
        let minimum = Duration::from_secs(seconds.into());
        let raises = minimum > self.settings.expires && minimum <= LONGEST_EXPIRES;
        if raises {
            self.settings.expires = minimum;
        }
        raises
    }

    /// The lifetime of our binding: its own, the response's, or what we asked for.
    fn granted(&self, response: &Response) -> Duration {
        let contacts = match response.headers.contacts() {
            Ok(Contacts::List(list)) => list,
            Ok(Contacts::Wildcard) | Err(_) => Vec::new(),
        };
        let ours = contacts
            .iter()
            .find(|contact| contact.uri.equivalent(&self.contact.uri))
            // Registrars behind a proxy may have rewritten it.
            .or_else(|| contacts.first().filter(|_| contacts.len() == 1));
        ours.and_then(NameAddr::expires)
            .or_else(|| response.headers.expires().ok().flatten())
            .map_or(self.settings.expires, |seconds| {
                Duration::from_secs(seconds.into()).min(LONGEST_EXPIRES)
            })
    }

    /// Takes over the address that the registrar saw in our Via (RFC 3581), at most once for
    /// each attempt; whether it is a new one.
    fn learn_contact(&mut self, response: &Response) -> bool {
        if !self.settings.learn_contact || self.relearned {
            return false;
        }
        let Some(seen) = Self::seen_at(response) else {
            return false;
        };
        let Uri::Sip(uri) = &self.contact.uri else {
            return false;
        };
        if self.contact_address() == Some(seen) {
            return false;
        }
        self.relearned = true;
        let mut moved = uri.clone();
        moved.host = Host::Ip(seen.ip());
        moved.port = Some(seen.port());
        let old = std::mem::replace(&mut self.contact, NameAddr::new(Uri::Sip(moved)));
        if self.bound || response.status.is_success() {
            self.stale_contact = Some(old);
        }
        true
    }

    /// The address that the sender of a response saw our request come from (RFC 3581).
    fn seen_at(response: &Response) -> Option<SocketAddr> {
        let via = response.headers.top_via().ok()?;
        let Rport::Port(port) = via.rport() else {
            return None;
        };
        Some(SocketAddr::new(via.received().or(via.host.ip())?, port))
    }

    /// The address that peers are told to reach us at.
    pub fn contact_address(&self) -> Option<SocketAddr> {
        let uri = self.contact.uri.as_sip()?;
        Some(SocketAddr::new(uri.host.ip()?, uri.port?))
    }

    fn request(&mut self, rng: Option<&mut StdRng>) -> Request {
        self.sequence = self.sequence.saturating_add(1);
        let settings = &mut self.settings;
        let expires = match self.phase {
            Phase::Unregistering => 0,
            _ => settings.expires.as_secs(),
        };
        let registrar = settings.registrars.current();
        let mut request = Request::new(Method::Register, registrar.registrar.clone());
        let headers = &mut request.headers;
        let party = NameAddr::new(registrar.address_of_record.clone());
        headers.push(HeaderName::MaxForwards, 70);
        headers.push(
            HeaderName::From,
            party.clone().with_tag(&settings.local_tag),
        );
        headers.push(HeaderName::To, party);
        headers.push(HeaderName::CallId, &settings.call_id);
        let cseq = CSeq {
            number: self.sequence,
            method: Method::Register,
        };
        headers.push(HeaderName::CSeq, cseq);
        let mut contact = self.contact.clone();
        contact.params.set("expires", expires.to_string());
        headers.push(HeaderName::Contact, contact);
        if let Some(stale) = &self.stale_contact {
            let mut stale = stale.clone();
            stale.params.set("expires", "0");
            headers.push(HeaderName::Contact, stale);
        }
        headers.push(HeaderName::Expires, expires);
        // Proxies on the way may ask to stay in the way of calls to us (RFC 3327).
        headers.push(HeaderName::Supported, "path");
        if let (Some(digest), Some(rng)) = (&mut settings.digest, rng) {
            digest.authorize(&mut request, rng);
        }
        request
    }
}

fn milliseconds(rng: &mut StdRng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(rng.random_range(range))
}
