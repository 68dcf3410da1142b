//! What goes into a registration and what comes out of it.

use std::time::Duration;

use serde::Deserialize;

use super::Registrars;
use crate::sip::auth::DigestClient;
use crate::sip::extensions::Extensions;
use crate::sip::headers::NameAddr;
use crate::sip::message::Request;

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

/// What keeps the way back to us open over UDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeepAlive {
    /// Nothing.
    Off,
    /// A datagram of line ends, which nobody answers.
    #[default]
    Crlf,
    /// An OPTIONS, which the registrar answers.
    Options,
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
    /// How the way back to us is kept open over UDP.
    pub keep_alive: KeepAlive,
    /// How long a registrar may say nothing where another is left to try.
    pub patience: Duration,
    /// The extensions of SIP that are used with peers at the registrars' addresses, where they
    /// differ from everybody's.
    pub extensions: Option<Extensions>,
    /// Call-ID of all its requests.
    pub call_id: String,
    /// From tag of all its requests.
    pub local_tag: String,
}

/// What follows from an input.
#[derive(Debug, Default)]
pub struct Step {
    /// Send this; it lacks Via.
    pub send: Option<Request>,
    /// Tell the owner.
    pub report: Option<RegistrationState>,
    /// Send this to the registrar, if anything.
    pub keep_alive: Option<KeepAlive>,
}
