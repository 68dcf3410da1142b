//! The facade of SIP: datagrams, time and commands in; datagrams and events out.
//!
//! ```text
//!  handle_datagram --> wire --> transactions --> requests: new call, in-dialog, refused
//!                                   |        `-> responses: calls, sessions, registrations
//!  handle_timeout  --> deadlines ---+
//!  commands -------> legs ----------+--> Transmit, Event --> poll
//! ```
//!
//! The endpoint owns transactions, dialogs and registrations. A leg (one side of a call, made
//! by an INVITE in either direction; see `leg` for its states) is named by [`LegId`]; its
//! owner gets [`Event`]s, the last of which is [`Event::Ended`], and sends commands. What SIP
//! needs after that (retransmissions, CANCEL, BYE) goes on without the owner.
//!
//! Nothing here blocks, reads a clock or draws randomness that it was not handed. After every
//! call of a `&mut self` method: take all of [`Endpoint::poll`], then sleep until
//! [`Endpoint::deadline`].

mod answering;
mod api;
mod body;
mod calling;
mod commands;
mod compose;
mod deadlines;
mod early;
mod event;
mod indialog;
mod leg;
mod offered;
mod offering;
mod pinging;
mod provisional;
mod referred;
mod referring;
mod refreshing;
mod registrar;
mod replacing;
mod requests;
mod session;
#[cfg(any(test, fuzzing))]
// Clippy takes only `cfg(test)` for a test.
#[allow(clippy::unwrap_used)]
pub(crate) mod simulation;
mod sizing;
mod subscribing;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

pub use api::{
    CommandError, Counters, Credentials, EndCause, EndpointConfig, Extensions, ExtraHeaders,
    Hangup, Hop, InboundAuthentication, InviteRequest, KeepAlive, KnownPeers, LegId, Limits,
    LocalTransport, NotifyRequest, Output, PingId, PingRequest, Protocol, Reason, ReferOutcome,
    ReferRequest, ReferTarget, RefreshedBy, RegisterRequest, RegistrarTarget, RegistrationId,
    RegistrationState, SessionTimerSettings, Stats, SubscriptionId, Support, TransportId,
};
pub use event::{Event, IncomingCall, ReferRequested, SubscribeRequested};

use crate::sip::auth::Verifier;
use crate::sip::message::{Message, Response};
use crate::sip::registration::Registration;
use crate::sip::transaction::{ClientId, Clients, ResponseAction, ServerId, Servers, Tick};
use crate::sip::uri::Host;
use crate::sip::wire::{self, ParseError, ParseErrorKind};
use deadlines::Deadlines;
use leg::{Leg, Owner, Phase, Purpose};
use subscribing::Subscription;

/// Former hosts of our transports that are remembered.
const MOST_FORMER: usize = 8;

/// Whose timer it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum TimerKey {
    Client(ClientId),
    Server(ServerId),
    Leg(LegId),
    Registration(RegistrationId),
    Subscription(SubscriptionId),
}

/// All of SIP for one server. See the module.
pub struct Endpoint {
    config: EndpointConfig,
    rng: StdRng,
    accepting: bool,
    nonce_secret: [u8; 32],
    /// Made at the first challenge, whose time is its epoch.
    verifier: Option<Verifier>,
    servers: Servers<LegId>,
    clients: Clients<Owner>,
    legs: HashMap<LegId, Leg>,
    /// Legs by Call-ID and local tag.
    dialogs: HashMap<(String, String), LegId>,
    /// Peers that took no TCP, until when.
    no_streams: HashMap<SocketAddr, Instant>,
    /// Where our transports were before they moved, for the responses that still come.
    former: VecDeque<(Host, u16)>,
    registrations: HashMap<RegistrationId, Registration>,
    subscriptions: HashMap<SubscriptionId, Subscription>,
    deadlines: Deadlines<TimerKey>,
    outputs: VecDeque<Output>,
    counters: Counters,
    next_leg: u64,
    next_registration: u64,
    next_ping: u64,
    next_subscription: u64,
}

/// Without its contents, which hold secrets and callers' numbers.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    /// An endpoint without calls. All tags, branches and back-offs follow from `seed`, which
    /// must be unpredictable to peers.
    pub fn new(config: EndpointConfig, seed: [u8; 32]) -> Self {
        let mut rng = StdRng::from_seed(seed);
        let mut secret = [0; 16];
        rng.fill_bytes(&mut secret);
        let mut nonce_secret = [0; 32];
        rng.fill_bytes(&mut nonce_secret);
        Self {
            servers: Servers::new(config.timers, secret),
            clients: Clients::new(config.timers),
            config,
            rng,
            accepting: true,
            nonce_secret,
            verifier: None,
            legs: HashMap::new(),
            dialogs: HashMap::new(),
            no_streams: HashMap::new(),
            former: VecDeque::new(),
            registrations: HashMap::new(),
            subscriptions: HashMap::new(),
            deadlines: Deadlines::new(),
            outputs: VecDeque::new(),
            counters: Counters::default(),
            next_leg: 0,
            next_registration: 0,
            next_ping: 0,
            next_subscription: 0,
        }
    }

    /// Takes one datagram that came in on `transport` from `source`. Bytes that are no SIP are
    /// dropped and counted.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        transport: TransportId,
        source: SocketAddr,
        bytes: &[u8],
    ) {
        self.handle_message(now, transport, source, wire::parse_datagram(bytes));
    }

    /// Takes one message that was cut out of a stream ([`wire::StreamFramer`]), or what was
    /// wrong with it.
    pub fn handle_message(
        &mut self,
        now: Instant,
        transport: TransportId,
        source: SocketAddr,
        message: Result<Message, ParseError>,
    ) {
        if self.local(transport).is_none() {
            return;
        }
        self.counters.received += 1;
        let hop = Hop::new(transport, source);
        match message {
            Ok(Message::Request(request)) => self.receive_request(now, hop, request),
            Ok(Message::Response(response)) => self.receive_response(now, &response),
            Err(problem) => match problem.rejection {
                Some(rejection) => self.reject_unparsed(hop, *rejection),
                None if problem.kind == ParseErrorKind::KeepAlive => {}
                None => self.counters.dropped_unparsable += 1,
            },
        }
    }

    /// The transport could not send to `destination` (connection refused, ICMP error), or the
    /// connection there is gone: what waits for an answer from there fails now rather than by its
    /// timer. An INVITE that was answered provisionally goes on: its final response may come on
    /// another connection.
    pub fn handle_transmit_failed(
        &mut self,
        now: Instant,
        transport: TransportId,
        destination: SocketAddr,
    ) {
        let hop = Hop::new(transport, destination);
        for id in self.clients.sent_to(hop) {
            let Some(transaction) = self.clients.get_mut(id) else {
                continue;
            };
            if transaction.handle_transport_error() == Tick::Failed {
                self.client_failed(now, id, true);
            }
        }
        self.renew_registrations(now, |registration| registration.hop().is_same_flow(&hop));
    }

    /// A transport of ours is reached by another host from now on, as when the machine's address
    /// changed: what is registered there is registered anew.
    pub fn move_transport(&mut self, now: Instant, id: TransportId, host: Host) {
        let transports = &mut self.config.transports;
        let Some(local) = transports.iter_mut().find(|local| local.id == id) else {
            return;
        };
        let before = std::mem::replace(&mut local.advertised_host, host);
        self.former.push_back((before, local.advertised_port));
        if self.former.len() > MOST_FORMER {
            self.former.pop_front();
        }
        self.renew_registrations(now, |registration| registration.hop().transport == id);
    }

    /// Takes the time. Cheap when nothing is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(key) = self.deadlines.pop_due(now) {
            match key {
                TimerKey::Client(id) => self.client_timeout(now, id),
                TimerKey::Server(id) => self.server_timeout(now, id),
                TimerKey::Leg(id) => self.leg_timeout(now, id),
                TimerKey::Registration(id) => self.registration_timeout(now, id),
                TimerKey::Subscription(id) => self.subscription_timeout(now, id),
            }
        }
    }

    /// When `handle_timeout` is due next, and for which timer.
    pub fn deadline(&self) -> Option<(Instant, &'static str)> {
        self.deadlines.first()
    }

    /// The next output, oldest first.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// A further transport, such as one for connections to peers that are verified by another
    /// name. Ids must differ from all before.
    pub fn add_transport(&mut self, transport: LocalTransport) {
        self.config.transports.push(transport);
    }

    /// Whether a call, a registration, a subscription or a transaction lives on this connection.
    pub fn uses(&self, transport: TransportId, address: SocketAddr) -> bool {
        let hop = Hop::new(transport, address);
        self.legs
            .values()
            .any(|leg| leg.path.transport == transport && leg.path.peer == address)
            || self
                .registrations
                .values()
                .any(|registration| registration.hop().is_same_flow(&hop))
            || self
                .subscriptions
                .values()
                .any(|subscription| subscription.is_at(hop))
            || !self.clients.sent_to(hop).is_empty()
    }

    /// Whether new calls are taken. While they are not, INVITE and OPTIONS outside dialogs get
    /// 503 with Retry-After and calls go on: the first half of a graceful drain.
    pub fn set_accepting(&mut self, accepting: bool) {
        self.accepting = accepting;
    }

    /// How much is alive.
    pub fn stats(&self) -> Stats {
        let lingering_legs = self
            .legs
            .values()
            .filter(|leg| matches!(leg.phase, Phase::Closing(_)))
            .count();
        Stats {
            legs: self.legs.len() - lingering_legs,
            lingering_legs,
            client_transactions: self.clients.len(),
            server_transactions: self.servers.len(),
            registrations: self.registrations.len(),
            subscriptions: self.subscriptions.len(),
            outputs: self.outputs.len(),
        }
    }

    /// What was counted since the start.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn emit(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    fn receive_response(&mut self, now: Instant, response: &Response) {
        let found = self.find_client(response);
        let Some((id, transaction)) = found.and_then(|id| {
            self.clients
                .get_mut(id)
                .map(|transaction| (id, transaction))
        }) else {
            self.counters.dropped_stray += 1;
            return;
        };
        let action = transaction.handle_response(now, response.status.code());
        let purpose = transaction.owner.purpose;
        if matches!(action, ResponseAction::AckAndDeliver | ResponseAction::Ack) {
            self.acknowledge_refusal(id, response);
        }
        if matches!(
            action,
            ResponseAction::AckAndDeliver | ResponseAction::Deliver
        ) {
            self.deliver_response(now, id, purpose, response);
        }
        self.refresh_client(id);
    }

    /// The transaction of a response: its top Via must be ours (RFC 3261 18.1.2).
    fn find_client(&self, response: &Response) -> Option<ClientId> {
        let via = response.headers.top_via().ok()?;
        let ours = self.config.transports.iter().any(|local| {
            local.advertised_host == via.host && local.advertised_port == via.port_or_default()
        }) || self
            .former
            .iter()
            .any(|(host, port)| *host == via.host && *port == via.port_or_default());
        if !ours {
            return None;
        }
        let cseq = response.headers.cseq().ok()?;
        self.clients.find(via.branch()?, &cseq.method)
    }

    fn deliver_response(
        &mut self,
        now: Instant,
        id: ClientId,
        purpose: Purpose,
        response: &Response,
    ) {
        match purpose {
            Purpose::Invite(leg) => self.invite_answered(now, id, leg, response),
            Purpose::Reinvite(leg) => self.reinvite_answered(now, id, leg, response),
            Purpose::Update(leg) => self.update_answered(now, id, leg, response),
            Purpose::Refresh(leg) => self.refresh_answered(now, id, leg, response),
            Purpose::Prack(leg) => self.prack_answered(now, id, leg, response),
            Purpose::Bye(leg) => self.bye_answered(now, id, leg, response),
            Purpose::Info(leg) => self.info_answered(now, id, leg, response),
            Purpose::Refer(leg) => self.refer_answered(now, id, leg, response),
            Purpose::Notify(leg) => self.notify_answered(now, id, leg, response),
            Purpose::SurplusBye => self.surplus_bye_answered(now, id, response),
            Purpose::Cancel => {}
            Purpose::Ping(ping) => self.ping_answered(ping, response),
            Purpose::Tell(subscription) => self.tell_answered(now, subscription, response),
            Purpose::KeepAlive(registration) if response.status.is_final() => {
                self.keep_alive_answered(now, registration, Some(response));
            }
            Purpose::KeepAlive(_) => {}
            Purpose::Register(registration) => {
                self.register_answered(now, id, registration, response);
            }
        }
    }

    fn client_timeout(&mut self, now: Instant, id: ClientId) {
        let Some(transaction) = self.clients.get_mut(id) else {
            return;
        };
        match transaction.handle_timeout(now) {
            Tick::Nothing => self.refresh_client(id),
            Tick::Retransmit => {
                let (hop, bytes) = (transaction.hop, transaction.bytes());
                self.counters.retransmitted += 1;
                self.transmit(hop, bytes);
                self.refresh_client(id);
            }
            Tick::Failed => self.client_failed(now, id, false),
        }
    }

    /// A transaction of ours ended without a final response.
    fn client_failed(&mut self, now: Instant, id: ClientId, transport: bool) {
        if transport && self.send_as_datagram(now, id) {
            return;
        }
        self.deadlines.set(TimerKey::Client(id), None);
        let Some(transaction) = self.clients.remove(id) else {
            return;
        };
        match transaction.owner.purpose {
            Purpose::Invite(leg) => self.invite_failed(now, leg, transport),
            Purpose::Reinvite(leg) | Purpose::Refresh(leg) | Purpose::Info(leg) => {
                self.dialog_lost(now, leg, None);
            }
            Purpose::Refer(leg) => self.refer_failed(now, leg),
            // The dialog may be well: a referrer that is gone need not be told (RFC 5057).
            Purpose::Notify(leg) => self.end_notifications(leg),
            Purpose::Bye(leg) => {
                self.forget_leg(leg);
            }
            Purpose::Update(leg) => self.update_failed(now, id, leg),
            Purpose::SurplusBye | Purpose::Cancel | Purpose::Prack(_) => {}
            Purpose::Ping(ping) => self.ping_failed(ping),
            Purpose::Tell(subscription) => self.tell_failed(subscription),
            Purpose::KeepAlive(registration) => self.keep_alive_answered(now, registration, None),
            Purpose::Register(registration) => self.register_failed(now, registration),
        }
    }

    fn server_timeout(&mut self, now: Instant, id: ServerId) {
        let Some(transaction) = self.servers.get_mut(id) else {
            return;
        };
        let hop = transaction.hop;
        if let Some(bytes) = transaction.handle_timeout(now) {
            self.counters.retransmitted += 1;
            self.transmit(hop, bytes);
        }
        self.refresh_server(id);
    }

    /// Sets a client transaction's timer, or forgets the transaction when it is over.
    fn refresh_client(&mut self, id: ClientId) {
        let Some(transaction) = self.clients.get(id) else {
            return;
        };
        self.deadlines
            .set(TimerKey::Client(id), transaction.deadline());
        if transaction.is_terminated() {
            self.clients.remove(id);
        }
    }

    /// Sets a server transaction's timer, or forgets the transaction when it is over.
    fn refresh_server(&mut self, id: ServerId) {
        let Some(transaction) = self.servers.get(id) else {
            return;
        };
        self.deadlines
            .set(TimerKey::Server(id), transaction.deadline());
        if transaction.is_terminated() {
            self.servers.remove(id);
        }
    }

    /// Sets a leg's own timer.
    fn refresh_leg(&mut self, id: LegId) {
        let deadline = self.legs.get(&id).and_then(Leg::deadline);
        self.deadlines.set(TimerKey::Leg(id), deadline);
    }

    /// Registers a leg under its dialog.
    fn insert_leg(&mut self, id: LegId, leg: Leg) {
        self.dialogs
            .insert((leg.call_id.clone(), leg.local_tag.clone()), id);
        self.legs.insert(id, leg);
        self.refresh_leg(id);
    }

    /// Forgets a leg and its timer.
    fn forget_leg(&mut self, id: LegId) -> Option<Leg> {
        let leg = self.legs.remove(&id)?;
        self.dialogs
            .remove(&(leg.call_id.clone(), leg.local_tag.clone()));
        self.deadlines.set(TimerKey::Leg(id), None);
        Some(leg)
    }

    fn new_leg_id(&mut self) -> LegId {
        self.next_leg += 1;
        LegId(self.next_leg)
    }

    fn transmit(&mut self, hop: Hop, bytes: Arc<[u8]>) {
        self.counters.transmitted += 1;
        self.outputs.push_back(Output::Transmit {
            transport: hop.transport,
            destination: hop.address,
            reconnect: hop.reconnect,
            bytes,
        });
    }
}
