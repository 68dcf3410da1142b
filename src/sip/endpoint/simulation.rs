//! A network in virtual time, for tests: nodes that are endpoints with a scripted owner, joined
//! by links that lose, delay, reorder and duplicate datagrams as a seed says.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{
    Endpoint, EndpointConfig, Event, Extensions, InviteRequest, LegId, Limits, LocalTransport,
    Output, Protocol, TransportId,
};
use crate::sip::headers::NameAddr;
use crate::sip::timers::Timers;
use crate::sip::uri::{Host, Uri};

/// The only transport of each node.
pub(crate) const UDP: TransportId = TransportId(0);

/// What a link does to datagrams.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    pub(crate) loss: f64,
    pub(crate) duplication: f64,
    /// In milliseconds; reordering follows from its width.
    pub(crate) delay: Range<u64>,
}

impl Weather {
    /// Nothing is lost and nothing takes time.
    pub(crate) fn clear() -> Self {
        Self {
            loss: 0.0,
            duplication: 0.0,
            delay: 0..1,
        }
    }
}

/// A datagram seen by the network, as sent.
#[derive(Clone, Debug)]
pub(crate) struct Datagram {
    pub(crate) at: Instant,
    pub(crate) from: usize,
    pub(crate) bytes: Vec<u8>,
}

impl Datagram {
    /// `INVITE` or `200 INVITE`.
    pub(crate) fn summary(&self) -> String {
        summary(&self.bytes)
    }
}

/// `INVITE` for a request, `200 INVITE` for a response.
pub(crate) fn summary(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let first = text.lines().next().unwrap_or_default();
    let mut words = first.split(' ');
    match words.next() {
        Some("SIP/2.0") => {
            let method = text
                .lines()
                .find_map(|line| line.strip_prefix("CSeq: "))
                .and_then(|value| value.split(' ').nth(1));
            let status = words.next().unwrap_or_default();
            format!("{status} {}", method.unwrap_or_default())
        }
        Some(method) => method.to_owned(),
        None => String::new(),
    }
}

/// What an endpoint's owner does on an event.
type User = Box<dyn FnMut(&mut Endpoint, Instant, &Event)>;
/// What happens at a time, whatever events there are.
type Action = Box<dyn FnOnce(&mut Endpoint, Instant)>;
/// Whether a datagram is lost, beside what the weather does.
type Filter = Box<dyn FnMut(&Datagram) -> bool>;

/// A peer without memory: what it sends back for a datagram.
type Responder = Box<dyn FnMut(Instant, &[u8]) -> Option<Vec<u8>>>;

struct Node {
    endpoint: Endpoint,
    address: SocketAddr,
    events: Vec<Event>,
    user: User,
    responder: Option<Responder>,
}

enum Happening {
    Arrival {
        to: usize,
        source: SocketAddr,
        bytes: Vec<u8>,
    },
    Act {
        node: usize,
        action: Action,
    },
}

/// Nodes and the datagrams between them.
pub(crate) struct Simulation {
    pub(crate) start: Instant,
    pub(crate) now: Instant,
    pub(crate) weather: Weather,
    pub(crate) trace: Vec<Datagram>,
    rng: StdRng,
    nodes: Vec<Node>,
    agenda: BTreeMap<(Instant, u64), Happening>,
    next: u64,
    loses: Filter,
}

impl Simulation {
    pub(crate) fn new(seed: u64, weather: Weather) -> Self {
        let start = Instant::now();
        Self {
            start,
            now: start,
            weather,
            trace: Vec::new(),
            rng: StdRng::seed_from_u64(seed),
            nodes: Vec::new(),
            agenda: BTreeMap::new(),
            next: 0,
            loses: Box::new(|_| false),
        }
    }

    /// Adds an endpoint; `user` gets its events as they come.
    pub(crate) fn add(
        &mut self,
        user: impl FnMut(&mut Endpoint, Instant, &Event) + 'static,
    ) -> usize {
        self.add_with(Extensions::default(), user)
    }

    /// The same with its own choice of extensions.
    pub(crate) fn add_with(
        &mut self,
        extensions: Extensions,
        user: impl FnMut(&mut Endpoint, Instant, &Event) + 'static,
    ) -> usize {
        let index = self.nodes.len();
        let address = address(index);
        let mut seed = [0; 32];
        self.rng.fill(&mut seed[..]);
        let mut config = config(address);
        config.extensions = extensions;
        self.nodes.push(Node {
            endpoint: Endpoint::new(config, seed),
            address,
            events: Vec::new(),
            user: Box::new(user),
            responder: None,
        });
        index
    }

    /// Adds a peer that answers each datagram by itself, such as a registrar.
    pub(crate) fn add_responder(
        &mut self,
        responder: impl FnMut(Instant, &[u8]) -> Option<Vec<u8>> + 'static,
    ) -> usize {
        let index = self.add(|_, _, _| {});
        self.nodes[index].responder = Some(Box::new(responder));
        index
    }

    /// Loses what `filter` says.
    pub(crate) fn lose(&mut self, filter: impl FnMut(&Datagram) -> bool + 'static) {
        self.loses = Box::new(filter);
    }

    /// Does something with a node's endpoint now.
    pub(crate) fn act<T>(
        &mut self,
        node: usize,
        action: impl FnOnce(&mut Endpoint, Instant) -> T,
    ) -> T {
        let result = action(&mut self.nodes[node].endpoint, self.now);
        self.drain(node);
        result
    }

    /// Does something with a node's endpoint later.
    pub(crate) fn later(
        &mut self,
        delay: Duration,
        node: usize,
        action: impl FnOnce(&mut Endpoint, Instant) + 'static,
    ) {
        let action = Box::new(action);
        self.schedule(self.now + delay, Happening::Act { node, action });
    }

    /// A call from one node to another.
    pub(crate) fn call(&mut self, from: usize, to: usize, sdp: &str) -> LegId {
        let request = invitation(self.nodes[to].address, sdp);
        self.act(from, |endpoint, now| endpoint.invite(now, request))
            .unwrap()
    }

    pub(crate) fn endpoint(&self, node: usize) -> &Endpoint {
        &self.nodes[node].endpoint
    }

    pub(crate) fn events(&self, node: usize) -> &[Event] {
        &self.nodes[node].events
    }

    /// The leg of the first call that came in at a node.
    pub(crate) fn incoming(&self, node: usize) -> LegId {
        self.events(node)
            .iter()
            .find_map(|event| match event {
                Event::IncomingCall(call) => Some(call.leg),
                _ => None,
            })
            .unwrap()
    }

    /// Lets time pass.
    pub(crate) fn run_for(&mut self, duration: Duration) {
        let until = self.now + duration;
        while let Some(at) = self.next_time().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.step();
        }
        self.now = until;
    }

    /// Summaries of what a node sent.
    pub(crate) fn sent(&self, node: usize) -> Vec<String> {
        self.trace
            .iter()
            .filter(|datagram| datagram.from == node)
            .map(Datagram::summary)
            .collect()
    }

    /// Whether every leg and transaction is gone.
    pub(crate) fn is_clean(&self) -> bool {
        self.nodes
            .iter()
            .all(|node| node.endpoint.stats() == super::Stats::default())
    }

    fn next_time(&self) -> Option<Instant> {
        let agenda = self.agenda.first_key_value().map(|((at, _), _)| *at);
        let deadlines = self
            .nodes
            .iter()
            .filter_map(|node| node.endpoint.deadline());
        deadlines.map(|(at, _)| at).chain(agenda).min()
    }

    fn step(&mut self) {
        for node in 0..self.nodes.len() {
            let due = self.nodes[node].endpoint.deadline();
            if due.is_some_and(|(at, _)| at <= self.now) {
                self.nodes[node].endpoint.handle_timeout(self.now);
                self.drain(node);
            }
        }
        while let Some(entry) = self.agenda.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            match entry.remove() {
                Happening::Arrival { to, source, bytes } => {
                    if let Some(responder) = &mut self.nodes[to].responder {
                        if let Some(reply) = responder(self.now, &bytes) {
                            self.carry(to, source, &reply);
                        }
                        continue;
                    }
                    let endpoint = &mut self.nodes[to].endpoint;
                    endpoint.handle_datagram(self.now, UDP, source, &bytes);
                    self.drain(to);
                }
                Happening::Act { node, action } => {
                    action(&mut self.nodes[node].endpoint, self.now);
                    self.drain(node);
                }
            }
        }
    }

    fn drain(&mut self, index: usize) {
        while let Some(output) = self.nodes[index].endpoint.poll() {
            match output {
                Output::Transmit {
                    destination, bytes, ..
                } => self.carry(index, destination, &bytes),
                Output::Event(event) => {
                    let node = &mut self.nodes[index];
                    (node.user)(&mut node.endpoint, self.now, &event);
                    node.events.push(event);
                }
            }
        }
    }

    fn carry(&mut self, from: usize, destination: SocketAddr, bytes: &[u8]) {
        let datagram = Datagram {
            at: self.now,
            from,
            bytes: bytes.to_vec(),
        };
        let lost = (self.loses)(&datagram) || self.rng.random_bool(self.weather.loss);
        self.trace.push(datagram);
        let to = self
            .nodes
            .iter()
            .position(|node| node.address == destination);
        let copies = 1 + usize::from(self.rng.random_bool(self.weather.duplication));
        let Some(to) = to.filter(|_| !lost) else {
            return;
        };
        for _ in 0..copies {
            let delay = Duration::from_millis(self.rng.random_range(self.weather.delay.clone()));
            let arrival = Happening::Arrival {
                to,
                source: self.nodes[from].address,
                bytes: bytes.to_vec(),
            };
            self.schedule(self.now + delay, arrival);
        }
    }

    fn schedule(&mut self, at: Instant, happening: Happening) {
        self.next += 1;
        self.agenda.insert((at, self.next), happening);
    }
}

/// The address of a node: 192.0.2.1, .2, ...
pub(crate) fn address(index: usize) -> SocketAddr {
    let last = u8::try_from(index + 1).unwrap();
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)), 5060)
}

/// An endpoint at `address` with RFC timers.
pub(crate) fn config(address: SocketAddr) -> EndpointConfig {
    EndpointConfig {
        user_agent: "Offhook test".to_owned(),
        transports: vec![LocalTransport {
            id: UDP,
            protocol: Protocol::Udp,
            advertised_host: Host::Ip(address.ip()),
            advertised_port: address.port(),
        }],
        limits: Limits::default(),
        timers: Timers::default(),
        extensions: Extensions::default(),
        extensions_by_source: Vec::new(),
        authentication: None,
        event_packages: Vec::new(),
    }
}

/// A call to `destination`.
pub(crate) fn invitation(destination: SocketAddr, sdp: &str) -> InviteRequest {
    let callee = Uri::sip(
        Some("callee"),
        Host::Ip(destination.ip()),
        Some(destination.port()),
    );
    let caller = Uri::sip(Some("caller"), Host::Name("example.org".to_owned()), None);
    InviteRequest {
        transport: UDP,
        destination,
        request_uri: callee.clone(),
        from: NameAddr::new(caller),
        to: NameAddr::new(callee),
        route: Vec::new(),
        credentials: None,
        headers: Vec::new(),
        extensions: None,
        replaces: None,
        sdp: Some(sdp.as_bytes().to_vec()),
        patience: None,
        ring_timeout: Duration::from_secs(120),
    }
}
