//! The connections that are open, and the bounds on them. Owned by the driver, so that nothing
//! here is shared.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use super::stream::{self, Bounds, Closed, ConnectionId, Opened, Stream, Told, Wiring};
use super::tls::{ClientTls, ServerTls};
use crate::sip::endpoint::{Hop, TransportId};

/// For a connection to be made, and again for its handshake.
const CONNECT: Duration = Duration::from_secs(5);
/// For a peer that connected to shake hands.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Connections at once; those that we open may go beyond what peers may fill.
const MOST: usize = 2_000;
/// Of these, opened by peers.
const MOST_ACCEPTED: usize = 1_500;
/// Opened by one IPv4 address or IPv6 /64.
const MOST_FROM_ONE: usize = 100;
/// Messages that wait for a slow peer.
const QUEUE: usize = 1_024;
/// Bytes that wait for a slow peer.
const QUEUE_BYTES: usize = 1 << 20;
/// Addresses by which one connection is known.
const MOST_NAMES: usize = 64;

/// How the connections of a stream transport are made.
#[derive(Clone)]
pub(super) struct StreamTransport {
    /// The address that ours start from; all zeros for what the way out has.
    pub(super) from: IpAddr,
    /// In TLS, both ways.
    pub(super) tls: Option<(Arc<ServerTls>, ClientTls)>,
}

/// Why a message was not handed to a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotSent {
    /// There are too many connections.
    TooMany,
    /// The peer takes too little of what waits for it: the connection, known by these
    /// addresses, is closed.
    TooSlow(Vec<SocketAddr>),
}

struct Connection {
    key: (TransportId, SocketAddr),
    source: Option<IpAddr>,
    queue: mpsc::Sender<Arc<[u8]>>,
    queued: Arc<AtomicUsize>,
    task: AbortHandle,
    /// Other addresses that messages on it were meant for (see [`Hop::reconnect`]).
    names: HashSet<SocketAddr>,
}

/// All connections.
pub(super) struct Connections {
    told: mpsc::Sender<(ConnectionId, Told)>,
    by_id: HashMap<ConnectionId, Connection>,
    by_key: HashMap<(TransportId, SocketAddr), ConnectionId>,
    by_source: HashMap<IpAddr, usize>,
    accepted: usize,
    next: u64,
    tasks: JoinSet<()>,
}

impl Connections {
    /// None yet. What they tell goes to `told`.
    pub(super) fn new(told: mpsc::Sender<(ConnectionId, Told)>) -> Self {
        Self {
            told,
            by_id: HashMap::new(),
            by_key: HashMap::new(),
            by_source: HashMap::new(),
            accepted: 0,
            next: 0,
            tasks: JoinSet::new(),
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// The transport and peer of a connection.
    pub(super) fn key(&self, id: ConnectionId) -> Option<(TransportId, SocketAddr)> {
        self.by_id.get(&id).map(|connection| connection.key)
    }

    /// Takes a connection that a peer opened; false where there are too many.
    pub(super) fn accept(
        &mut self,
        transport: TransportId,
        how: &StreamTransport,
        peer: SocketAddr,
        socket: TcpStream,
    ) -> bool {
        let source = network(peer.ip());
        let from_one = self.by_source.get(&source).copied().unwrap_or(0);
        if self.by_id.len() >= MOST || self.accepted >= MOST_ACCEPTED || from_one >= MOST_FROM_ONE {
            return false;
        }
        self.accepted += 1;
        *self.by_source.entry(source).or_default() += 1;
        let server = how.tls.as_ref().map(|(server, _)| Arc::clone(server));
        self.start((transport, peer), Some(source), async move {
            prepare(&socket).map_err(Closed::Broken)?;
            let Some(server) = server else {
                return Ok(Box::new(socket) as Box<dyn Stream>);
            };
            match timeout(HANDSHAKE, server.accept(socket)).await {
                Ok(stream) => stream.map_err(Closed::NotConnected),
                Err(_) => Err(Closed::TooSlow("TLS handshake")),
            }
        });
        true
    }

    /// Sends on the connection of `hop`, which is opened if need be.
    pub(super) fn send(
        &mut self,
        hop: Hop,
        how: &StreamTransport,
        bytes: Arc<[u8]>,
    ) -> Result<(), NotSent> {
        let found = [Some(hop.address), hop.reconnect]
            .into_iter()
            .flatten()
            .find_map(|address| self.by_key.get(&(hop.transport, address)).copied());
        let id = match found {
            Some(id) => id,
            None if self.by_id.len() >= MOST => return Err(NotSent::TooMany),
            None => self.connect(hop, how),
        };
        let Some(connection) = self.by_id.get_mut(&id) else {
            return Err(NotSent::TooMany);
        };
        if connection.key.1 != hop.address && connection.names.len() < MOST_NAMES {
            connection.names.insert(hop.address);
        }
        let length = bytes.len();
        let waiting = connection.queued.fetch_add(length, Ordering::Relaxed);
        if waiting + length > QUEUE_BYTES || connection.queue.try_send(bytes).is_err() {
            connection.task.abort();
            let names = self.remove(id).map(|(_, names)| names);
            return Err(NotSent::TooSlow(names.unwrap_or_default()));
        }
        Ok(())
    }

    fn connect(&mut self, hop: Hop, how: &StreamTransport) -> ConnectionId {
        let to = hop.reconnect.unwrap_or(hop.address);
        let from = how.from;
        let client = how.tls.as_ref().map(|(_, client)| client.clone());
        self.start((hop.transport, to), None, async move {
            let connecting = timeout(CONNECT, connect(from, to)).await;
            let socket = match connecting {
                Ok(connected) => connected.map_err(Closed::NotConnected)?,
                Err(_) => return Err(Closed::TooSlow("connection")),
            };
            let Some(client) = client else {
                return Ok(Box::new(socket) as Box<dyn Stream>);
            };
            match timeout(CONNECT, client.connect(socket, to)).await {
                Ok(stream) => stream.map_err(Closed::NotConnected),
                Err(_) => Err(Closed::TooSlow("TLS handshake")),
            }
        })
    }

    fn start(
        &mut self,
        key: (TransportId, SocketAddr),
        source: Option<IpAddr>,
        open: impl Future<Output = Result<Box<dyn Stream>, Closed>> + Send + 'static,
    ) -> ConnectionId {
        // The ends of those before are of no interest: each told it.
        while self.tasks.try_join_next().is_some() {}
        let id = ConnectionId(self.next);
        self.next += 1;
        let (sender, queue) = mpsc::channel(QUEUE);
        let queued = Arc::<AtomicUsize>::default();
        let wiring = Wiring {
            id,
            opened: match source {
                Some(_) => Opened::ByPeer,
                None => Opened::ByUs,
            },
            told: self.told.clone(),
            queue,
            queued: Arc::clone(&queued),
            bounds: Bounds::default(),
        };
        let task = self.tasks.spawn(stream::run(wiring, open));
        self.by_key.insert(key, id);
        let connection = Connection {
            key,
            source,
            queue: sender,
            queued,
            task,
            names: HashSet::new(),
        };
        self.by_id.insert(id, connection);
        id
    }

    /// Lets go of a connection, which closes once what is queued is sent. The peer's addresses,
    /// by all of its names, where it was still there.
    pub(super) fn remove(&mut self, id: ConnectionId) -> Option<(TransportId, Vec<SocketAddr>)> {
        let connection = self.by_id.remove(&id)?;
        // A newer connection may have taken its place.
        if self.by_key.get(&connection.key) == Some(&id) {
            self.by_key.remove(&connection.key);
        }
        if let Some(source) = connection.source {
            self.accepted -= 1;
            if let Some(count) = self.by_source.get_mut(&source) {
                *count -= 1;
                if *count == 0 {
                    self.by_source.remove(&source);
                }
            }
        }
        let (transport, address) = connection.key;
        let mut names: Vec<SocketAddr> = connection.names.into_iter().collect();
        names.push(address);
        Some((transport, names))
    }
}

/// What counts as one source: an IPv4 address, or the /64 that one IPv6 host may fill.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

async fn connect(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = match to {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if !from.is_unspecified() && from.is_ipv4() == to.is_ipv4() {
        socket.bind(SocketAddr::new(from, 0))?;
    }
    let stream = socket.connect(to).await?;
    prepare(&stream)?;
    Ok(stream)
}

/// Messages go out at once, and a peer that vanished is noticed within two minutes.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keep_alive = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15))
        .with_retries(4);
    SockRef::from(stream).set_tcp_keepalive(&keep_alive)
}
