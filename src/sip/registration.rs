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
//! Over UDP the way back to us is kept open by a datagram of line ends now and then (RFC 5626
//! 4.4.1); on streams that is the connection's own business.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;

use super::auth::DigestClient;
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

/// Where a registration stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistrationState {
    /// Bound; refreshed by itself before it expires.
    Registered {
        /// Lifetime that the registrar granted.
        expires: Duration,
        /// The Route of our requests to this provider (RFC 3608), top first; usually empty.
        service_route: Vec<NameAddr>,
    },
    /// The last attempt failed; tried again by itself.
    Failed {
        /// The response, or `None` where none came.
        status: Option<u16>,
        /// Time until the next attempt.
        retry_in: Duration,
    },
    /// Removed on request, or given up on removing. The last event of a registration.
    Unregistered,
}

/// One registrar at one address.
#[derive(Clone, Debug)]
pub struct Registrar {
    /// Where requests go.
    pub hop: Hop,
    /// Whether a stream, which keeps itself alive, or datagrams.
    pub reliability: Reliability,
    /// Request-URI: the registrar's domain.
    pub registrar: Uri,
    /// Address of record, for From and To.
    pub address_of_record: Uri,
    /// Our Contact there.
    pub contact: NameAddr,
}

/// What is registered, and with whom.
#[derive(Debug)]
pub struct RegistrationSettings {
    /// With the first of these that takes it.
    pub registrars: Registrars,
    /// For challenges.
    pub digest: Option<DigestClient>,
    /// Lifetime to ask for.
    pub expires: Duration,
    /// Take over the address that the registrar sees us at.
    pub learn_contact: bool,
    /// Keep the way back to us open over UDP.
    pub keep_alive: bool,
    /// Call-ID of all its requests.
    pub call_id: String,
    /// From tag of all its requests.
    pub local_tag: String,
}

/// At least one registrar, and which of them it is the turn of.
#[derive(Debug)]
pub struct Registrars {
    list: Vec<Registrar>,
    current: usize,
    /// How many were passed over since the last that took it, or the last pause.
    passed: usize,
}

impl Registrars {
    /// In the order to try; `None` where there is none.
    pub fn new(list: Vec<Registrar>) -> Option<Self> {
        (!list.is_empty()).then_some(Self {
            list,
            current: 0,
            passed: 0,
        })
    }

    fn current(&self) -> &Registrar {
        // Never empty, and `current` stays within.
        &self.list[self.current]
    }

    /// The next one that was not tried in this round.
    fn pass(&mut self) -> bool {
        self.passed += 1;
        self.current = (self.current + 1) % self.list.len();
        self.passed < self.list.len()
    }

    fn restart(&mut self) {
        self.current = 0;
        self.passed = 0;
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Registering {
        stopping: bool,
    },
    Registered {
        refresh_at: Instant,
        keep_alive_at: Option<Instant>,
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
}

/// What follows from an input.
#[derive(Debug, Default)]
pub struct Step {
    /// Send this; it lacks Via.
    pub send: Option<Request>,
    /// Tell the owner.
    pub report: Option<RegistrationState>,
    /// Send line ends to the registrar.
    pub keep_alive: bool,
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
        };
        let request = registration.request(None);
        (registration, request)
    }

    /// Where its requests go.
    pub fn hop(&self) -> Hop {
        self.settings.registrars.current().hop
    }

    /// Nothing more will happen.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// When it wants the time, and why.
    pub fn deadline(&self) -> Option<(Instant, &'static str)> {
        match self.phase {
            Phase::Registered {
                refresh_at,
                keep_alive_at: Some(at),
            } if at < refresh_at => Some((at, "keep-alive")),
            Phase::Registered { refresh_at, .. } => Some((refresh_at, "REGISTER refresh")),
            Phase::Waiting { until } => Some((until, "REGISTER retry")),
            Phase::Registering { .. } | Phase::Unregistering | Phase::Over => None,
        }
    }

    /// Takes the time.
    pub fn handle_timeout(&mut self, now: Instant, rng: &mut StdRng) -> Step {
        let due = self.deadline().is_some_and(|(at, _)| at <= now);
        if !due {
            return Step::default();
        }
        if let Phase::Registered {
            refresh_at,
            keep_alive_at: Some(at),
        } = &mut self.phase
            && *at < *refresh_at
        {
            *at = now + milliseconds(rng, KEEP_ALIVE);
            return Step {
                keep_alive: true,
                ..Step::default()
            };
        }
        self.phase = Phase::Registering { stopping: false };
        self.challenges = 0;
        self.relearned = false;
        self.again(rng)
    }

    /// Its registrars, in the order to try.
    pub fn registrars(&self) -> &[Registrar] {
        &self.settings.registrars.list
    }

    /// Its connection is gone, or our address is another: registers anew soon. `contacts` are our
    /// Contacts at each registrar now.
    pub fn renew(&mut self, now: Instant, rng: &mut StdRng, contacts: Vec<Option<NameAddr>>) {
        for (registrar, contact) in self.settings.registrars.list.iter_mut().zip(contacts) {
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
        if let Phase::Registered { refresh_at, .. } = &mut self.phase {
            let soon = now + milliseconds(rng, SOON);
            *refresh_at = soon.min(*refresh_at);
        }
    }

    /// Takes what is now known of the registrars. The one that it is registered with stays its
    /// choice as long as it is among them.
    pub fn retarget(&mut self, registrars: Registrars) {
        let (before, after) = (self.hop(), registrars);
        self.settings.registrars = after;
        let list = &self.settings.registrars.list;
        let same = list.iter().position(|one| one.hop.is_same_flow(&before));
        match same {
            Some(at) if self.bound => self.settings.registrars.current = at,
            _ => self.settle_contact(),
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
                // Another registrar would know no other password.
                let personal = matches!(status, 401 | 403 | 404 | 407);
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
        self.settings.registrars.passed = 0;
        let datagrams = self.settings.registrars.current().reliability == Reliability::Unreliable;
        let keep_alive_at =
            (self.settings.keep_alive && datagrams).then(|| now + milliseconds(rng, KEEP_ALIVE));
        self.phase = Phase::Registered {
            refresh_at,
            keep_alive_at,
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
        let Ok(via) = response.headers.top_via() else {
            return false;
        };
        let Rport::Port(port) = via.rport() else {
            return false;
        };
        let Some(ip) = via.received().or(via.host.ip()) else {
            return false;
        };
        let Uri::Sip(uri) = &self.contact.uri else {
            return false;
        };
        if uri.host.ip() == Some(ip) && uri.port == Some(port) {
            return false;
        }
        self.relearned = true;
        let mut moved = uri.clone();
        moved.host = Host::Ip(ip);
        moved.port = Some(port);
        let old = std::mem::replace(&mut self.contact, NameAddr::new(Uri::Sip(moved)));
        if self.bound || response.status.is_success() {
            self.stale_contact = Some(old);
        }
        true
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
