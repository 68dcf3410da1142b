//! The shell round [`sip::endpoint`](crate::sip::endpoint): one task that owns the SIP sockets,
//! the endpoint and the way of each event to the task of its call.
//!
//! ```text
//! socket readers ──bounded──▶ ┌────────┐ ──▶ Incoming (new legs, with their event channel)
//! call tasks ────commands───▶ │ driver │ ──▶ each leg's events
//! timers ───────────────────▶ └────────┘ ──▶ sockets
//! ```

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ipnet::IpNet;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::local::advertised_address;
use crate::sip::endpoint::{
    CommandError, Counters, Endpoint, EndpointConfig, Event, ExtraHeaders, Hangup,
    InboundAuthentication, IncomingCall, InviteRequest, LegId, Limits, LocalTransport, Output,
    Protocol, RegisterRequest, RegistrationId, RegistrationState, Stats, TransportId,
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
/// The largest UDP payload.
const DATAGRAM: usize = 65_535;

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
        let sockets = open(&config.listen).await?;
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
            readers.spawn(read(
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

#[derive(Clone, Debug)]
struct Socket {
    id: TransportId,
    bound: SocketAddr,
    udp: Arc<UdpSocket>,
}

async fn open(listen: &[SocketAddr]) -> Result<Vec<Socket>, BindError> {
    let mut sockets = Vec::new();
    for (id, address) in (0..).zip(listen) {
        let failed = |source| BindError {
            address: *address,
            source,
        };
        let udp = UdpSocket::bind(address).await.map_err(failed)?;
        sockets.push(Socket {
            id: TransportId(id),
            bound: udp.local_addr().map_err(failed)?,
            udp: Arc::new(udp),
        });
    }
    Ok(sockets)
}

fn endpoint_config(config: &SipConfig, sockets: &[Socket]) -> EndpointConfig {
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

struct Received {
    transport: TransportId,
    source: SocketAddr,
    bytes: Vec<u8>,
}

/// Reads one socket. Strangers are dropped here, before anything is parsed.
async fn read(
    socket: Socket,
    allow: Arc<[IpNet]>,
    received: mpsc::Sender<Received>,
    dropped: Arc<Dropped>,
) {
    let mut buffer = vec![0; DATAGRAM];
    loop {
        // An error is an ICMP message about an earlier datagram; the endpoint's timers see to it.
        let Ok((length, source)) = socket.udp.recv_from(&mut buffer).await else {
            tokio::task::yield_now().await;
            continue;
        };
        if !allow.is_empty()
            && !allow
                .iter()
                .any(|net| net.contains(&source.ip().to_canonical()))
        {
            dropped.strangers.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let message = Received {
            transport: socket.id,
            source,
            bytes: buffer[..length].to_vec(),
        };
        match received.try_send(message) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                dropped.datagrams.fetch_add(1, Ordering::Relaxed);
            }
            Err(mpsc::error::TrySendError::Closed(_)) => return,
        }
    }
}

struct Driver {
    endpoint: Endpoint,
    sockets: Vec<Socket>,
    legs: HashMap<LegId, mpsc::Sender<Event>>,
    registrations: HashMap<RegistrationId, watch::Sender<Option<RegistrationState>>>,
    incoming: mpsc::Sender<Incoming>,
    dropped: Arc<Dropped>,
    _readers: JoinSet<()>,
}

impl Driver {
    async fn run(
        mut self,
        mut received: mpsc::Receiver<Received>,
        mut commands: mpsc::Receiver<Command>,
    ) {
        loop {
            let deadline = self.endpoint.deadline().map(|(at, _)| at);
            tokio::select! {
                message = received.recv() => match message {
                    Some(m) => self.endpoint.handle_datagram(Instant::now(), m.transport, m.source, &m.bytes),
                    None => return,
                },
                command = commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => return,
                },
                () = sleep_until(deadline) => self.endpoint.handle_timeout(Instant::now()),
            }
            self.drain().await;
        }
    }

    async fn drain(&mut self) {
        while let Some(output) = self.endpoint.poll() {
            match output {
                Output::Transmit {
                    transport,
                    destination,
                    bytes,
                } => self.transmit(transport, destination, &bytes).await,
                Output::Event(event) => self.deliver(event),
            }
        }
    }

    async fn transmit(&mut self, transport: TransportId, destination: SocketAddr, bytes: &[u8]) {
        let sent = match self.sockets.iter().find(|socket| socket.id == transport) {
            Some(socket) => socket.udp.send_to(bytes, destination).await.is_ok(),
            None => false,
        };
        if !sent {
            self.endpoint
                .handle_transmit_failed(Instant::now(), transport, destination);
        }
    }

    fn deliver(&mut self, event: Event) {
        match event {
            Event::IncomingCall(call) => self.introduce(call),
            Event::Registration { id, state } => {
                if let Some(watch) = self.registrations.get(&id) {
                    let over = state == RegistrationState::Unregistered;
                    watch.send_replace(Some(state));
                    if over {
                        self.registrations.remove(&id);
                    }
                }
            }
            Event::Ended { leg, .. } => {
                self.forward(leg, event);
                self.legs.remove(&leg);
            }
            event => {
                if let Some(leg) = event.leg() {
                    self.forward(leg, event);
                }
            }
        }
    }

    fn introduce(&mut self, call: Box<IncomingCall>) {
        let leg = call.leg;
        let (sender, events) = mpsc::channel(LEG_EVENTS);
        match self.incoming.try_send(Incoming { call, events }) {
            Ok(()) => {
                self.legs.insert(leg, sender);
            }
            Err(_) => {
                // Nobody takes calls: say so instead of letting it ring out.
                let _ = self.endpoint.reject(Instant::now(), leg, 503, Vec::new());
            }
        }
    }

    fn forward(&mut self, leg: LegId, event: Event) {
        let Some(events) = self.legs.get(&leg) else {
            return;
        };
        if events.try_send(event).is_err() {
            self.dropped.events.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn command(&mut self, command: Command) {
        let now = Instant::now();
        match command {
            Command::Leg(leg, command) => {
                if let Err(error) = self.leg_command(now, leg, command) {
                    tracing::debug!(leg = leg.0, %error, "leg command not carried out");
                }
            }
            Command::Invite(request, reply) => {
                let result = self.endpoint.invite(now, *request).map(|leg| {
                    let (sender, events) = mpsc::channel(LEG_EVENTS);
                    self.legs.insert(leg, sender);
                    OutgoingLeg { leg, events }
                });
                // An asker that gave up drops the leg's events, and hangs nothing: end the leg.
                if let Err(Ok(unwanted)) = reply.send(result) {
                    let _ = self.endpoint.hangup(now, unwanted.leg, Hangup::default());
                }
            }
            Command::Register(request, reply) => {
                let result = self.endpoint.register(now, *request).map(|id| {
                    let (sender, state) = watch::channel(None);
                    self.registrations.insert(id, sender);
                    Registration { id, state }
                });
                let _ = reply.send(result);
            }
            Command::Unregister(id) => {
                let _ = self.endpoint.unregister(now, id);
            }
            Command::SetAccepting(accepting) => self.endpoint.set_accepting(accepting),
            Command::Snapshot(reply) => {
                let _ = reply.send((self.endpoint.stats(), self.endpoint.counters()));
            }
        }
    }

    fn leg_command(
        &mut self,
        now: Instant,
        leg: LegId,
        command: LegCommand,
    ) -> Result<(), CommandError> {
        let endpoint = &mut self.endpoint;
        match command {
            LegCommand::Ring => endpoint.ring(now, leg),
            LegCommand::Progress(sdp) => endpoint.progress(now, leg, 183, sdp),
            LegCommand::Accept(sdp) => endpoint.accept(now, leg, sdp),
            LegCommand::Reject(status, headers) => endpoint.reject(now, leg, status, headers),
            LegCommand::Hangup(hangup) => endpoint.hangup(now, leg, hangup),
            LegCommand::AnswerOffer(sdp) => endpoint.answer_offer(now, leg, sdp),
            LegCommand::RejectOffer(status) => endpoint.reject_offer(now, leg, status),
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
