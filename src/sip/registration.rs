//! One registration with one registrar (RFC 3261 section 10), kept alive until it is stopped.
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
//! Pauses double from 5 s to 10 min with jitter (RFC 5626 4.5 asks for both), so that a
//! registrar that comes back is not met by all its clients at once.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;

use super::auth::DigestClient;
use super::headers::{CSeq, Contacts, HeaderName, NameAddr, Rport};
use super::message::{Method, Request, Response};
use super::transport::Hop;
use super::uri::{Host, Uri};

const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// Registrars that grant less are asked again no sooner than this.
const SHORTEST_REFRESH: Duration = Duration::from_secs(5);
/// A 423 that asks for more is a fault of the registrar's.
const LONGEST_EXPIRES: Duration = Duration::from_secs(7 * 86_400);
/// A server can call every nonce stale.
const MAX_CHALLENGES: u8 = 3;

/// Where a registration stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistrationState {
    /// Bound; refreshed by itself before it expires.
    Registered {
        /// Lifetime that the registrar granted.
        expires: Duration,
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

/// What is registered, and with whom.
#[derive(Debug)]
pub struct RegistrationSettings {
    /// Where requests go.
    pub hop: Hop,
    /// Request-URI: the registrar's domain.
    pub registrar: Uri,
    /// Address of record, for From and To.
    pub address_of_record: Uri,
    /// Our Contact.
    pub contact: NameAddr,
    /// For challenges.
    pub digest: Option<DigestClient>,
    /// Lifetime to ask for.
    pub expires: Duration,
    /// Take over the address that the registrar sees us at.
    pub learn_contact: bool,
    /// Call-ID of all its requests.
    pub call_id: String,
    /// From tag of all its requests.
    pub local_tag: String,
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Registering { stopping: bool },
    Registered { refresh_at: Instant },
    Waiting { until: Instant },
    Unregistering,
    Over,
}

/// The registration. See the module.
#[derive(Debug)]
pub struct Registration {
    settings: RegistrationSettings,
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
}

impl Registration {
    /// A registration with its first REGISTER.
    pub fn start(settings: RegistrationSettings) -> (Self, Request) {
        let mut registration = Self {
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
        self.settings.hop
    }

    /// Nothing more will happen.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// When it wants the time, and why.
    pub fn deadline(&self) -> Option<(Instant, &'static str)> {
        match self.phase {
            Phase::Registered { refresh_at } => Some((refresh_at, "REGISTER refresh")),
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
        self.phase = Phase::Registering { stopping: false };
        self.challenges = 0;
        self.relearned = false;
        Step {
            send: Some(self.request(Some(rng))),
            report: None,
        }
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
                self.failed(now, rng, Some(status), retry_after)
            }
        }
    }

    /// The request under way got no response.
    pub fn handle_failure(&mut self, now: Instant, rng: &mut StdRng) -> Step {
        match self.phase {
            Phase::Unregistering => self.over(),
            _ => self.failed(now, rng, None, None),
        }
    }

    fn again(&mut self, rng: &mut StdRng) -> Step {
        Step {
            send: Some(self.request(Some(rng))),
            report: None,
        }
    }

    fn over(&mut self) -> Step {
        self.phase = Phase::Over;
        Step {
            send: None,
            report: Some(RegistrationState::Unregistered),
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
        self.phase = Phase::Registered { refresh_at };
        Step {
            send: None,
            report: Some(RegistrationState::Registered { expires }),
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
        Step {
            send: None,
            report: Some(RegistrationState::Failed { status, retry_in }),
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
            .find(|contact| contact.uri.equivalent(&self.settings.contact.uri))
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
        let Uri::Sip(uri) = &self.settings.contact.uri else {
            return false;
        };
        if uri.host.ip() == Some(ip) && uri.port == Some(port) {
            return false;
        }
        self.relearned = true;
        let mut moved = uri.clone();
        moved.host = Host::Ip(ip);
        moved.port = Some(port);
        let old = std::mem::replace(&mut self.settings.contact, NameAddr::new(Uri::Sip(moved)));
        if self.bound || response.status.is_success() {
            self.stale_contact = Some(old);
        }
        true
    }

    /// The address that peers are told to reach us at.
    pub fn contact_address(&self) -> Option<SocketAddr> {
        let uri = self.settings.contact.uri.as_sip()?;
        Some(SocketAddr::new(uri.host.ip()?, uri.port?))
    }

    fn request(&mut self, rng: Option<&mut StdRng>) -> Request {
        self.sequence = self.sequence.saturating_add(1);
        let settings = &mut self.settings;
        let expires = match self.phase {
            Phase::Unregistering => 0,
            _ => settings.expires.as_secs(),
        };
        let mut request = Request::new(Method::Register, settings.registrar.clone());
        let headers = &mut request.headers;
        let party = NameAddr::new(settings.address_of_record.clone());
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
        let mut contact = settings.contact.clone();
        contact.params.set("expires", expires.to_string());
        headers.push(HeaderName::Contact, contact);
        if let Some(stale) = &self.stale_contact {
            let mut stale = stale.clone();
            stale.params.set("expires", "0");
            headers.push(HeaderName::Contact, stale);
        }
        headers.push(HeaderName::Expires, expires);
        if let (Some(digest), Some(rng)) = (&mut settings.digest, rng) {
            digest.authorize(&mut request, rng);
        }
        request
    }
}
