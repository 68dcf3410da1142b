//! The shell round [`sip::endpoint`](crate::sip::endpoint): one task that owns the SIP sockets,
//! the endpoint and the way of each event to the task of its call.
//!
//! ```text
//! socket readers ──bounded──▶ ┌────────┐ ──▶ Incoming (new legs, with their event channel)
//! call tasks ────commands───▶ │ driver │ ──▶ each leg's events
//! timers ───────────────────▶ └────────┘ ──▶ sockets
//! ```

mod driver;
mod udp;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ipnet::IpNet;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use driver::Driver;

use super::local::advertised_address;
use crate::sip::endpoint::{
    CommandError, Counters, Endpoint, EndpointConfig, Event, ExtraHeaders, Hangup,
    InboundAuthentication, IncomingCall, InviteRequest, LegId, Limits, LocalTransport, Protocol,
    ReferRequest, RegisterRequest, RegistrationId, RegistrationState, Stats, TransportId,
};
use crate::sip::timers::Timers;
use crate::sip::uri::Host;

/// Datagrams between the readers and the driver; beyond it the network loses them.
const RECEIVED: usize = 1024;
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
    /// UDP sockets.
    pub listen: Vec<SocketAddr>,
    /// Our address as peers see it, where it differs.
    pub public_address: Option<IpAddr>,
    /// Sources whose datagrams are looked at; empty for all.
    pub allow: Vec<IpNet>,
    /// User-Agent and Server.
    pub user_agent: String,
    /// Challenge callers.
    pub authentication: Option<InboundAuthentication>,
    /// Caps.
    pub limits: Limits,
}

/// A listener that could not be opened: the operator's fault, not to be retried.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for SIP on {address}: {source}")]
pub struct BindError {
    /// The address asked for.
    pub address: SocketAddr,
    /// Why not.
    pub source: io::Error,
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
    Unregister(RegistrationId),
    SetAccepting(bool),
    Snapshot(oneshot::Sender<(Stats, Counters)>),
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

/// A handle to the driver. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sip {
    commands: mpsc::Sender<Command>,
    transports: Arc<[(TransportId, SocketAddr)]>,
    dropped: Arc<Dropped>,
}

/// What was thrown away, for metrics.
#[derive(Debug, Default)]
pub struct Dropped {
    /// Datagrams from sources outside the allow-list.
    pub strangers: AtomicU64,
    /// Datagrams because the driver was behind.
    pub datagrams: AtomicU64,
    /// Events because a call was behind.
    pub events: AtomicU64,
    /// Commands because the driver was behind.
    pub commands: AtomicU64,
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
    /// Where a socket cannot be opened.
    pub async fn start(
        config: SipConfig,
        seed: [u8; 32],
    ) -> Result<(Self, mpsc::Receiver<Incoming>), BindError> {
        let sockets = udp::open(&config.listen).await?;
        let transports: Arc<[(TransportId, SocketAddr)]> = sockets
            .iter()
            .map(|socket| (socket.id, socket.bound))
            .collect();
        let (commands, command_queue) = mpsc::channel(COMMANDS);
        let (incoming, incoming_queue) = mpsc::channel(INCOMING);
        let dropped = Arc::<Dropped>::default();
        let endpoint = Endpoint::new(endpoint_config(&config, &sockets), seed);
        let mut readers = JoinSet::new();
        let (received, received_queue) = mpsc::channel(RECEIVED);
        let allow: Arc<[IpNet]> = config.allow.into();
        for socket in &sockets {
            readers.spawn(udp::read(
                socket.clone(),
                Arc::clone(&allow),
                received.clone(),
                Arc::clone(&dropped),
            ));
        }
        let driver = Driver {
            endpoint,
            sockets,
            legs: HashMap::new(),
            registrations: HashMap::new(),
            incoming,
            dropped: Arc::clone(&dropped),
            _readers: readers,
        };
        tokio::spawn(driver.run(received_queue, command_queue));
        let sip = Self {
            commands,
            transports,
            dropped,
        };
        Ok((sip, incoming_queue))
    }

    /// Our sockets with the addresses they are bound to, ports resolved.
    pub fn transports(&self) -> &[(TransportId, SocketAddr)] {
        &self.transports
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
        let (reply, answer) = oneshot::channel();
        self.send(Command::Register(Box::new(request), reply))
            .await
            .map_err(|SipGone| None)?;
        answer.await.map_err(|_| None)?.map_err(Some)
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
    pub async fn snapshot(&self) -> Result<(Stats, Counters), SipGone> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Snapshot(reply)).await?;
        answer.await.map_err(|_| SipGone)
    }

    /// What was thrown away so far.
    pub fn dropped(&self) -> &Dropped {
        &self.dropped
    }

    async fn send(&self, command: Command) -> Result<(), SipGone> {
        self.commands.send(command).await.map_err(|_| SipGone)
    }
}

fn endpoint_config(config: &SipConfig, sockets: &[udp::Socket]) -> EndpointConfig {
    let transports = sockets.iter().map(|socket| LocalTransport {
        id: socket.id,
        protocol: Protocol::Udp,
        advertised_host: Host::Ip(advertised_address(socket.bound.ip(), config.public_address)),
        advertised_port: socket.bound.port(),
    });
    EndpointConfig {
        user_agent: config.user_agent.clone(),
        transports: transports.collect(),
        limits: config.limits,
        timers: Timers::default(),
        authentication: config.authentication.clone(),
    }
}
