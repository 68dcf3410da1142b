//! The shell round [`sip::endpoint`](crate::sip::endpoint): one task that owns the SIP sockets,
//! the endpoint and the way of each event to the task of its call.
//!
//! ```text
//! UDP readers, connections ──▶ ┌────────┐ ──▶ Incoming (new legs, with their event channel)
//! call tasks ────commands───▶ │ driver │ ──▶ each leg's events
//! timers ───────────────────▶ └────────┘ ──▶ sockets
//! ```

mod connections;
mod driver;
mod gate;
mod listener;
mod stream;
mod subscriptions;
#[cfg(test)]
mod tests;
mod tls;
mod transports;
mod udp;
mod witness;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ipnet::IpNet;
use tokio::sync::{mpsc, oneshot, watch};

use driver::Driver;
pub use gate::Guest;
use gate::{Gate, Trust};
pub use listener::Listener;
use subscriptions::SubscriptionCommand;
pub use subscriptions::{SubscriptionEvent, Subscriptions};
use tls::{ClientTls, Identity};
pub use tls::{TlsError, TlsSettings};
use transports::{TlsPeer, Transports};
use witness::Shown;
pub use witness::Witness;

use super::resolve::{ResolveError, Resolver, SetupError, Target};
use crate::sip::endpoint::{
    CommandError, Counters, Endpoint, EndpointConfig, Event, Extensions, ExtraHeaders, Hangup,
    InboundAuthentication, IncomingCall, InviteRequest, KnownPeers, LegId, Limits, LocalTransport,
    NotifyRequest, PingRequest, Protocol, ReferRequest, RegisterRequest, RegistrarTarget,
    RegistrationId, RegistrationState, Stats, SubscriptionId, TransportId,
};
use crate::sip::flood::{Flood, FloodLimits};
use crate::sip::timers::Timers;
use crate::sip::uri::Uri;

/// Commands that may wait.
const COMMANDS: usize = 1024;
/// Events that a call may lag behind before they are dropped and counted. A leg's end is told by
/// the channel's end, which cannot be dropped.
const LEG_EVENTS: usize = 64;
/// New legs that nobody took yet.
const INCOMING: usize = 64;

/// What the driver needs to start.
#[derive(Clone, Debug)]
pub struct SipConfig {
    /// Listeners. Their transport ids follow their order.
    pub listen: Vec<(Protocol, SocketAddr)>,
    /// Certificates.
    pub tls: TlsSettings,
    /// The DNS server to ask; the system's where `None`.
    pub name_server: Option<SocketAddr>,
    /// Our address as peers see it, where it differs.
    pub public_address: Option<IpAddr>,
    /// Sources whose datagrams are looked at, beside those that we turn to; empty for all.
    pub allow: Vec<IpNet>,
    /// User-Agent and Server.
    pub user_agent: String,
    /// The extensions of SIP that are used with peers that differ from the rest, by their address;
    /// the first that fits.
    pub extensions: Vec<(IpNet, Extensions)>,
    /// Challenge callers.
    pub authentication: Option<InboundAuthentication>,
    /// Caps.
    pub limits: Limits,
    /// How many requests that could begin something are taken; `None` for all.
    pub flood: Option<FloodLimits>,
    /// Is shown every message.
    pub witness: Option<Witness>,
    /// What peers may subscribe to.
    pub subscriptions: Option<Subscriptions>,
}

/// SIP cannot start: the operator's fault, not to be retried.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener cannot be opened.
    #[error("cannot listen for SIP on {address} ({protocol:?}): {source}")]
    Bind {
        /// What it was to speak.
        protocol: Protocol,
        /// The address asked for.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// A certificate or key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// DNS cannot be set up.
    #[error(transparent)]
    Dns(#[from] SetupError),
}

/// Why there is no way to a peer.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// No SIP URI, so that there is nowhere to go.
    #[error("only sip: and sips: URIs can be reached")]
    NotSip,
    /// DNS leads nowhere, or does not answer.
    #[error(transparent)]
    Dns(#[from] ResolveError),
    /// We do not listen on what the peer speaks: the operator's to mend.
    #[error("sip.listen has no {protocol:?} listener from which {address} can be reached")]
    NoListener {
        /// What the peer speaks.
        protocol: Protocol,
        /// The peer.
        address: SocketAddr,
    },
    /// No certificate can have the peer's name.
    #[error("{0:?} is no name that a TLS certificate can have")]
    Name(String),
    /// The certificates to verify it by cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Too many peers are known by too many names. Retry when the server has restarted.
    #[error("too many TLS peers")]
    TooMany,
    /// The driver is gone.
    #[error(transparent)]
    Gone(#[from] SipGone),
}

/// A new leg with the channel on which its events come.
#[derive(Debug)]
pub struct Incoming {
    /// The INVITE.
    pub call: Box<IncomingCall>,
    /// Its events; the end of the channel is the end of the leg.
    pub events: mpsc::Receiver<Event>,
}

#[derive(Debug)]
enum Command {
    Leg(LegId, LegCommand),
    Invite(
        Box<InviteRequest>,
        oneshot::Sender<Result<OutgoingLeg, CommandError>>,
    ),
    Register(
        Box<RegisterRequest>,
        oneshot::Sender<Result<Registration, CommandError>>,
    ),
    Retarget(RegistrationId, Vec<RegistrarTarget>, String),
    Ping(Box<PingRequest>, oneshot::Sender<Option<u16>>),
    Subscription(SubscriptionId, SubscriptionCommand),
    NotifyUnsolicited(Box<NotifyRequest>, oneshot::Sender<Option<u16>>),
    Unregister(RegistrationId),
    SetAccepting(bool),
    Know(KnownPeers),
    TlsPeer(TlsPeer, ClientTls, oneshot::Sender<Option<TransportId>>),
    Snapshot(oneshot::Sender<Snapshot>),
}

/// How much is alive and what was counted.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot {
    /// What the endpoint holds.
    pub stats: Stats,
    /// What it counted.
    pub counters: Counters,
    /// Open connections.
    pub connections: usize,
}

/// What a call asks of its leg.
#[derive(Clone, Debug)]
pub enum LegCommand {
    /// 180.
    Ring,
    /// 183 with early media.
    Progress(Option<Vec<u8>>),
    /// 200 with this SDP.
    Accept(Vec<u8>),
    /// A final refusal.
    Reject(u16, ExtraHeaders),
    /// Whatever ends the leg in its present state.
    Hangup(Hangup),
    /// The answer to the peer's offer.
    AnswerOffer(Vec<u8>),
    /// The peer's offer is refused.
    RejectOffer(u16),
    /// The peer is asked to call somebody else.
    Refer(Box<ReferRequest>),
    /// The transfer that the peer asked for is begun.
    AcceptRefer,
    /// It is refused.
    RejectRefer(u16),
    /// The new call of an accepted transfer got this response.
    NotifyRefer(u16),
    /// An offer of ours in a re-INVITE. Where another offer is open, it is as if the peer had
    /// refused it with 491.
    Reinvite(Vec<u8>),
}

/// An outgoing leg.
#[derive(Debug)]
pub struct OutgoingLeg {
    /// Its name.
    pub leg: LegId,
    /// Its Call-ID.
    pub call_id: String,
    /// Its events; the end of the channel is the end of the leg.
    pub events: mpsc::Receiver<Event>,
}

/// A registration that is kept alive.
#[derive(Debug)]
pub struct Registration {
    /// Its name.
    pub id: RegistrationId,
    /// Where it stands; `None` before the first answer.
    pub state: watch::Receiver<Option<RegistrationState>>,
}

/// One way to a peer, for an [`InviteRequest`] or a [`RegisterRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// By this transport of ours.
    pub transport: TransportId,
    /// What it speaks.
    pub protocol: Protocol,
    /// To this address.
    pub destination: SocketAddr,
}

/// A handle to the driver. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sip {
    commands: mpsc::Sender<Command>,
    listeners: Arc<[Listener]>,
    gate: Arc<Gate>,
    resolver: Resolver,
    identity: Arc<Identity>,
    ca: Option<PathBuf>,
    dropped: Arc<Dropped>,
}

/// What was thrown away, for metrics.
#[derive(Debug, Default)]
pub struct Dropped {
    /// Datagrams from sources outside the allow-list.
    pub strangers: AtomicU64,
    /// Requests beyond the flood limits.
    pub flooded: AtomicU64,
    /// Datagrams because the driver was behind.
    pub datagrams: AtomicU64,
    /// Events because a call was behind.
    pub events: AtomicU64,
    /// Commands because the driver was behind.
    pub commands: AtomicU64,
    /// Connections because there were too many, in all or from one source.
    pub connections: AtomicU64,
    /// Connections because their peer did not take what was sent.
    pub slow_peers: AtomicU64,
}

/// The driver is gone, because the server is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("SIP is shut down")]
pub struct SipGone;

impl Sip {
    /// Opens the sockets and starts the driver on the current tokio runtime. `seed` feeds tags,
    /// branches and back-off.
    ///
    /// # Errors
    /// Where a socket cannot be opened, or a certificate cannot be used.
    pub async fn start(
        config: SipConfig,
        seed: [u8; 32],
    ) -> Result<(Self, mpsc::Receiver<Incoming>), StartError> {
        let resolver = Resolver::new(config.name_server)?;
        let bound = listener::bind_all(&config.listen)?;
        let listeners: Arc<[Listener]> = bound.iter().map(|bound| bound.listener).collect();
        let locals: Vec<LocalTransport> = listeners
            .iter()
            .map(|listener| transports::local_transport(listener, config.public_address))
            .collect();
        let dropped = Arc::<Dropped>::default();
        let gate = Arc::new(Gate::new(config.allow));
        let settings = transports::Settings {
            tls: &config.tls,
            gate: Arc::clone(&gate),
            dropped: Arc::clone(&dropped),
        };
        let (transports, inputs, identity) = Transports::start(bound, &settings)?;
        let endpoint = EndpointConfig {
            user_agent: config.user_agent,
            transports: locals.clone(),
            limits: config.limits,
            timers: Timers::default(),
            extensions: Extensions::default(),
            extensions_by_source: config.extensions,
            authentication: config.authentication,
            event_packages: config
                .subscriptions
                .as_ref()
                .map(|it| it.packages.clone())
                .unwrap_or_default(),
        };
        let (commands, command_queue) = mpsc::channel(COMMANDS);
        let (incoming, incoming_queue) = mpsc::channel(INCOMING);
        let driver = Driver {
            endpoint: Endpoint::new(endpoint, seed),
            transports,
            flood: config
                .flood
                .map(|limits| Flood::new(limits, Instant::now())),
            shown: Shown::new(config.witness, &locals),
            locals,
            listeners: Arc::clone(&listeners),
            public_address: config.public_address,
            legs: HashMap::new(),
            registrations: HashMap::new(),
            pings: HashMap::new(),
            subscriptions: config.subscriptions,
            incoming,
            dropped: Arc::clone(&dropped),
        };
        tokio::spawn(driver.run(inputs, command_queue));
        let sip = Self {
            commands,
            listeners,
            gate,
            resolver,
            identity,
            ca: config.tls.ca,
            dropped,
        };
        Ok((sip, incoming_queue))
    }

    /// Knows these peers from now on, and lets them in where not everybody is let in.
    ///
    /// # Errors
    /// Where the driver is gone.
    pub async fn know(&self, peers: KnownPeers) -> Result<(), SipGone> {
        self.gate.allow(peers.trusted.clone());
        self.send(Command::Know(peers)).await
    }

    /// Lets the datagrams of one socket in for as long as the guest lives.
    pub fn welcome(&self, address: SocketAddr) -> Guest {
        Guest::new(&self.gate, address)
    }

    /// Our listeners.
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// The ways to a URI, in the order to try (RFC 3263): the next one is for when a transport
    /// fails, nobody answers or the answer is 503. Never an empty list. `ca` is as in
    /// [`Sip::reach`].
    ///
    /// # Errors
    /// Where it leads nowhere, or only where no listener of ours can reach.
    pub async fn resolve(&self, uri: &Uri, ca: Option<&Path>) -> Result<Vec<Way>, ReachError> {
        let uri = uri.as_sip().ok_or(ReachError::NotSip)?;
        // TLS last, for it is worth most where it was asked for.
        let mut spoken = vec![Protocol::Udp, Protocol::Tcp, Protocol::Tls];
        spoken.retain(|protocol| {
            let mut listeners = self.listeners.iter();
            listeners.any(|listener| listener.protocol == *protocol)
        });
        let name = uri.host.to_string();
        let targets = self.resolver.resolve(uri, &spoken).await?;
        let mut ways = Vec::new();
        let mut failure = None;
        for Target { protocol, address } in targets {
            match self.reach(protocol, address, &name, ca).await {
                Ok(transport) => ways.push(Way {
                    transport,
                    protocol,
                    destination: address,
                }),
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) if ways.is_empty() => Err(error),
            _ => Ok(ways),
        }
    }

    /// The transport by which `address` is reached over `protocol`. In TLS it is one for
    /// connections whose certificate names `name` (the domain of the URI, whatever DNS made of
    /// it) and leads to those in `ca`, or else to those that the server trusts.
    ///
    /// # Errors
    /// Where no listener of ours speaks that, or TLS cannot be had.
    pub async fn reach(
        &self,
        protocol: Protocol,
        address: SocketAddr,
        name: &str,
        ca: Option<&Path>,
    ) -> Result<TransportId, ReachError> {
        let loopback = address.ip().is_loopback();
        let usable = |listener: &&Listener| {
            listener.protocol == protocol
                && listener.address.is_ipv4() == address.is_ipv4()
                && (loopback || !listener.address.ip().is_loopback())
        };
        let listener = self
            .listeners
            .iter()
            .find(usable)
            .ok_or(ReachError::NoListener { protocol, address })?;
        if protocol != Protocol::Tls {
            return Ok(listener.transport);
        }
        let ca = ca.map(Path::to_owned).or_else(|| self.ca.clone());
        let (identity, read) = (Arc::clone(&self.identity), ca.clone());
        // Reads files.
        let client = tokio::task::spawn_blocking(move || ClientTls::new(identity, read.as_deref()))
            .await
            .map_err(|_| SipGone)??
            .named(name)
            .ok_or_else(|| ReachError::Name(name.to_owned()))?;
        let (reply, answer) = oneshot::channel();
        let peer = (listener.transport, name.to_ascii_lowercase(), ca);
        self.send(Command::TlsPeer(peer, client, reply)).await?;
        answer
            .await
            .map_err(|_| SipGone)?
            .ok_or(ReachError::TooMany)
    }

    /// Sends a leg's command without waiting. A command for a leg that is over does nothing. A
    /// full queue drops it, and counts: the leg then ends by its own timers.
    pub fn leg(&self, leg: LegId, command: LegCommand) {
        if self.commands.try_send(Command::Leg(leg, command)).is_err() {
            self.dropped.commands.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Calls somebody.
    ///
    /// # Errors
    /// Where the endpoint refuses; `Err(None)` where the driver is gone.
    pub async fn invite(
        &self,
        request: InviteRequest,
    ) -> Result<OutgoingLeg, Option<CommandError>> {
        self.gate.reach(request.destination.ip(), Trust::Answers);
        let (reply, answer) = oneshot::channel();
        self.send(Command::Invite(Box::new(request), reply))
            .await
            .map_err(|SipGone| None)?;
        answer.await.map_err(|_| None)?.map_err(Some)
    }

    /// Registers and keeps registered.
    ///
    /// # Errors
    /// Where the endpoint refuses; `Err(None)` where the driver is gone.
    pub async fn register(
        &self,
        request: RegisterRequest,
    ) -> Result<Registration, Option<CommandError>> {
        self.reach_registrars(&request.targets);
        let (reply, answer) = oneshot::channel();
        self.send(Command::Register(Box::new(request), reply))
            .await
            .map_err(|SipGone| None)?;
        answer.await.map_err(|_| None)?.map_err(Some)
    }

    /// What is now known of a registration's registrars.
    ///
    /// # Errors
    /// Where the driver is gone.
    pub async fn retarget(
        &self,
        id: RegistrationId,
        targets: Vec<RegistrarTarget>,
        contact_user: String,
    ) -> Result<(), SipGone> {
        self.reach_registrars(&targets);
        self.send(Command::Retarget(id, targets, contact_user))
            .await
    }

    /// Asks a peer whether it is there, with OPTIONS: its final status, `None` where none came.
    ///
    /// # Errors
    /// Where the driver is gone, or could not send.
    pub async fn ping(&self, request: PingRequest) -> Result<Option<u16>, SipGone> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Ping(Box::new(request), reply)).await?;
        answer.await.map_err(|_| SipGone)
    }

    /// Takes a registration back; its state says when that is done.
    ///
    /// # Errors
    /// Where the driver is gone.
    pub async fn unregister(&self, id: RegistrationId) -> Result<(), SipGone> {
        self.send(Command::Unregister(id)).await
    }

    /// Whether new calls are taken; 503 otherwise.
    ///
    /// # Errors
    /// Where the driver is gone.
    pub async fn set_accepting(&self, accepting: bool) -> Result<(), SipGone> {
        self.send(Command::SetAccepting(accepting)).await
    }

    /// How much is alive and what was counted.
    ///
    /// # Errors
    /// Where the driver is gone.
    pub async fn snapshot(&self) -> Result<Snapshot, SipGone> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Snapshot(reply)).await?;
        answer.await.map_err(|_| SipGone)
    }

    /// What was thrown away so far.
    pub fn dropped(&self) -> &Dropped {
        &self.dropped
    }

    fn reach_registrars(&self, targets: &[RegistrarTarget]) {
        for target in targets {
            self.gate.reach(target.destination.ip(), Trust::All);
        }
    }

    async fn send(&self, command: Command) -> Result<(), SipGone> {
        self.commands.send(command).await.map_err(|_| SipGone)
    }
}
