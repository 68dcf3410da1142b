//! What goes into the endpoint and what comes out of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::event::Event;
use crate::sip::headers::{NameAddr, Replaces};
use crate::sip::timers::Timers;
use crate::sip::uri::Uri;

/// A Reason header (RFC 3326).
pub use crate::sip::extensions::{Extensions, Support};
pub use crate::sip::headers::ReasonValue as Reason;
pub use crate::sip::registration::{KeepAlive, RegistrationState};
pub use crate::sip::session_timer::{RefreshedBy, SessionTimerSettings};
pub use crate::sip::transport::{Hop, LocalTransport, Protocol, TransportId};

/// Names one call leg for as long as the endpoint lives; ids are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LegId(pub u64);

/// Names one registration with a registrar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegistrationId(pub u64);

/// Names one OPTIONS of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PingId(pub u64);

/// Names one subscription of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionId(pub u64);

/// News for somebody who has not subscribed to it.
#[derive(Clone, Debug)]
pub struct NotifyRequest {
    /// The socket to use.
    pub transport: TransportId,
    /// The peer's address, already resolved.
    pub destination: SocketAddr,
    /// Request-URI and To.
    pub target: Uri,
    /// The event package.
    pub package: &'static str,
    /// The type of the body.
    pub kind: &'static str,
    /// The state.
    pub body: Vec<u8>,
}

/// An OPTIONS to see whether a peer is there.
#[derive(Clone, Debug)]
pub struct PingRequest {
    /// The socket to use.
    pub transport: TransportId,
    /// The peer's address, already resolved.
    pub destination: SocketAddr,
    /// Request-URI and To.
    pub peer: Uri,
}

/// Caps against hostile or runaway peers. Beyond them new requests get 503 with Retry-After.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Legs at once, both directions, finished ones included until their last timer.
    pub legs: usize,
    /// Server transactions at once for requests outside dialogs. Requests inside dialogs get as
    /// many again, so that calls can end while the server is flooded.
    pub server_transactions: usize,
    /// Client transactions at once; commands beyond them fail.
    pub client_transactions: usize,
    /// Subscriptions of peers at once.
    pub subscriptions: usize,
    /// Bytes of responses kept to be sent again.
    pub retained_bytes: usize,
    /// What Retry-After says.
    pub retry_after: Duration,
    /// How long an incoming call may ring before it is answered 480.
    pub unanswered: Duration,
    /// How long a transfer is followed, in either direction.
    pub referral: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            legs: 1_000,
            server_transactions: 20_000,
            client_transactions: 20_000,
            subscriptions: 1_000,
            retained_bytes: 64 << 20,
            retry_after: Duration::from_secs(5),
            unanswered: Duration::from_secs(180),
            referral: Duration::from_secs(180),
        }
    }
}

/// Name and password of one digest user.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User name, often the number.
    pub username: String,
    /// The secret.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// Digest authentication asked of callers.
#[derive(Clone, Debug)]
pub struct InboundAuthentication {
    /// The realm of our challenges.
    pub realm: String,
    /// Who may call.
    pub users: Vec<Credentials>,
    /// Source addresses that are not challenged (trunks known by address).
    pub trusted: Vec<ipnet::IpNet>,
}

/// The peers that are known by their addresses.
#[derive(Clone, Debug, Default)]
pub struct KnownPeers {
    /// Their networks, which are not challenged and count as no strangers.
    pub trusted: Vec<ipnet::IpNet>,
    /// The extensions of SIP that are used with those that differ from the rest; the first that
    /// fits.
    pub extensions: Vec<(ipnet::IpNet, Extensions)>,
}

/// How the endpoint presents itself and where it stops.
#[derive(Clone, Debug)]
pub struct EndpointConfig {
    /// For User-Agent and Server.
    pub user_agent: String,
    /// Our sockets.
    pub transports: Vec<LocalTransport>,
    /// Caps.
    pub limits: Limits,
    /// T1, T2, T4.
    pub timers: Timers,
    /// The extensions of SIP that are used with peers.
    pub extensions: Extensions,
    /// The same for peers that differ, by the address they call from; the first that fits.
    pub extensions_by_source: Vec<(ipnet::IpNet, Extensions)>,
    /// Challenge INVITEs; `None` takes every caller that the driver's allow-list let through.
    pub authentication: Option<InboundAuthentication>,
    /// The event packages that peers may subscribe to (RFC 6665). Without any, SUBSCRIBE is no
    /// method of ours.
    pub event_packages: Vec<&'static str>,
}

/// Extra header fields, in order.
pub type ExtraHeaders = Vec<(String, String)>;

/// How to end a leg. What it says on the wire depends on the leg's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hangup {
    /// The final status of an incoming call that was not answered yet.
    pub status: u16,
    /// Reason header for that response, the CANCEL or the BYE.
    pub reason: Option<Reason>,
}

impl Default for Hangup {
    fn default() -> Self {
        Self {
            status: 480,
            reason: None,
        }
    }
}

/// An outgoing call.
#[derive(Clone, Debug)]
pub struct InviteRequest {
    /// The socket to use.
    pub transport: TransportId,
    /// Where the datagrams go (next hop, already resolved).
    pub destination: SocketAddr,
    /// Request-URI.
    pub request_uri: Uri,
    /// From, without tag.
    pub from: NameAddr,
    /// To, without tag.
    pub to: NameAddr,
    /// Route headers to preload, such as an outbound proxy or a Service-Route.
    pub route: Vec<NameAddr>,
    /// For 401 and 407.
    pub credentials: Option<Credentials>,
    /// P-Asserted-Identity and the like.
    pub headers: ExtraHeaders,
    /// The extensions of SIP that are used with the callee; where `None`, those that are used with
    /// callers from `destination`.
    pub extensions: Option<Extensions>,
    /// The callee's dialog whose place this call takes (RFC 3891).
    pub replaces: Option<Replaces>,
    /// The offer. `None` asks the callee for one, which comes as an
    /// [`Event::Offer`](super::Event::Offer) to be answered with `answer_offer` before
    /// [`Event::Answered`](super::Event::Answered).
    pub sdp: Option<Vec<u8>>,
    /// Without any response after this long the call ends as
    /// [`EndCause::NoResponse`], before timer B: there is another way to try. An answer that
    /// comes later is cancelled or ended (RFC 3261 9.1).
    pub patience: Option<Duration>,
    /// CANCEL after this long without a final response.
    pub ring_timeout: Duration,
}

/// Whom a peer is asked to call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReferTarget {
    /// Somebody that we have no call with.
    Blind(Uri),
    /// Whoever is at the other end of an established leg of ours; the peer's call takes that
    /// leg's place (RFC 3891).
    Attended {
        /// That leg.
        leg: LegId,
        /// How the peer reaches it, where its Contact is not the way.
        uri: Option<Uri>,
    },
}

/// A transfer that we ask for (RFC 3515).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferRequest {
    /// Whom the peer shall call.
    pub target: ReferTarget,
    /// On whose behalf (RFC 3892).
    pub referred_by: Option<NameAddr>,
    /// Whether we want to be told how it goes. Not every peer may be asked not to (RFC 4488).
    pub follow: bool,
}

/// How a transfer of ours ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReferOutcome {
    /// The peer's call to the target got this final status; 200 to 299 for a transfer that is
    /// done: hang up at once.
    Completed(u16),
    /// The peer refused to call, with this status; 408 where it did not answer. The call with
    /// it goes on.
    Refused(u16),
    /// The peer agreed, and nobody said how it ended: it was not asked to, hung up or fell
    /// silent.
    Unknown,
}

/// A registrar, already resolved.
#[derive(Clone, Debug)]
pub struct RegistrarTarget {
    /// The socket to use.
    pub transport: TransportId,
    /// The registrar's address.
    pub destination: SocketAddr,
    /// Request-URI: the registrar's domain, without user.
    pub registrar: Uri,
    /// Address of record, for From and To.
    pub address_of_record: Uri,
}

/// A registration to keep alive.
#[derive(Clone, Debug)]
pub struct RegisterRequest {
    /// With the first of these that takes it; at least one.
    pub targets: Vec<RegistrarTarget>,
    /// User part of our Contact, which incoming calls will have in their Request-URI.
    pub contact_user: String,
    /// For 401 and 407.
    pub credentials: Option<Credentials>,
    /// Lifetime to ask for.
    pub expires: Duration,
    /// Replace the advertised Contact address by the one that the registrar saw (`received` and
    /// `rport` of our Via), for use behind NAT.
    pub learn_contact: bool,
    /// Over UDP, what keeps the way back to us open.
    pub keep_alive: KeepAlive,
    /// How long a registrar may say nothing before the next is tried. The last has until timer F.
    pub patience: Duration,
    /// The extensions of SIP that are used with peers at the registrars' addresses;
    /// [`EndpointConfig`]'s where `None`.
    pub extensions: Option<Extensions>,
}

/// Why a leg is over. `status` is a SIP status code everywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndCause {
    /// [`Endpoint::hangup`](super::Endpoint::hangup) or `reject`.
    Local,
    /// The peer sent BYE.
    RemoteBye {
        /// Its Reason header.
        reason: Option<Reason>,
    },
    /// The caller sent CANCEL before we answered.
    RemoteCancel {
        /// Its Reason header.
        reason: Option<Reason>,
    },
    /// Our INVITE was refused.
    Rejected {
        /// The final status, 300 to 699.
        status: u16,
        /// The reason phrase as received.
        phrase: String,
        /// Its Reason header.
        reason: Option<Reason>,
        /// Contacts of a 3xx, in order.
        contacts: Vec<Uri>,
        /// Retry-After in seconds.
        retry_after: Option<u32>,
    },
    /// Our INVITE got no response (timer B): 408 in RFC 3261's words, the peer's or the network's
    /// fault.
    NoResponse,
    /// Our INVITE rang until its timeout; it was cancelled.
    RingTimeout,
    /// An incoming call was neither answered nor refused in [`Limits::unanswered`]: our fault.
    Unanswered,
    /// Nobody refreshed the session in time (RFC 4028), or refreshing it failed; a BYE was sent.
    SessionExpired,
    /// Our 2xx was never acknowledged (64·T1) and a BYE was sent, or a reliable provisional
    /// response never was and the call was refused with 504.
    NoAck,
    /// The peer no longer knows the dialog or no longer answers (481 or 408 to a request of ours).
    DialogLost {
        /// The response, or `None` where none came.
        status: Option<u16>,
    },
    /// The transport refused our INVITE.
    TransportFailed,
}

/// What `poll` hands out.
#[derive(Clone, Debug)]
pub enum Output {
    /// Send these bytes.
    Transmit {
        /// From this socket.
        transport: TransportId,
        /// To this address: on a stream, on the connection to it.
        destination: SocketAddr,
        /// On a stream without such a connection: connect here instead (see [`Hop`]).
        reconnect: Option<SocketAddr>,
        /// One SIP message.
        bytes: Arc<[u8]>,
    },
    /// Tell the owner.
    Event(Event),
}

/// Why a command was not carried out. The leg, where there is one, stays as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The leg never was or is over: usually a race with the peer's hang-up, to be ignored.
    #[error("the leg is over")]
    UnknownLeg,
    /// The registration never was or is over.
    #[error("the registration is over")]
    UnknownRegistration,
    /// The leg's state does not allow it, such as `accept` on an answered call: the caller's bug.
    #[error("not possible in the leg's present state")]
    WrongState,
    /// The subscription never was or is over.
    #[error("the subscription is over")]
    UnknownSubscription,
    /// An offer is open in either direction. Retry when it is answered.
    #[error("another offer is open")]
    OfferPending,
    /// Another REFER in the same direction is not finished.
    #[error("another transfer is going on")]
    ReferPending,
    /// The target cannot be put into a Refer-To, such as an attended transfer to no SIP URI.
    #[error("not a target of a transfer")]
    BadTarget,
    /// The configured limits are reached. Retry later; 503 where it matters.
    #[error("too many legs or transactions")]
    LimitReached,
    /// There is no registrar to register with.
    #[error("nowhere to register")]
    NoTarget,
    /// No such transport is configured.
    #[error("unknown transport")]
    UnknownTransport,
    /// A status outside the range that the command takes.
    #[error("status {0} does not fit here")]
    BadStatus(u16),
}

/// How much is alive, for metrics and for tests that look for leaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Legs with an owner.
    pub legs: usize,
    /// Legs that are over and wait for their last timer.
    pub lingering_legs: usize,
    /// Client transactions.
    pub client_transactions: usize,
    /// Server transactions.
    pub server_transactions: usize,
    /// Registrations.
    pub registrations: usize,
    /// Subscriptions of peers.
    pub subscriptions: usize,
    /// Outputs not polled yet.
    pub outputs: usize,
}

/// What was counted since the start, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages received.
    pub received: u64,
    /// Messages handed out, retransmissions included.
    pub transmitted: u64,
    /// Requests and responses that we sent again.
    pub retransmitted: u64,
    /// Datagrams that were no SIP message and got no answer.
    pub dropped_unparsable: u64,
    /// Responses and ACKs that belong to nothing of ours.
    pub dropped_stray: u64,
    /// Requests answered 503 because of a limit.
    pub refused_by_limit: u64,
    /// Requests answered 401.
    pub challenged: u64,
}
