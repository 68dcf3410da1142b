//! What the driver sends by: UDP sockets and connections, by the names that the endpoint knows.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::connections::{Connections, NotSent, StreamTransport};
use super::gate::Gate;
use super::listener::{self, Accepted, Bound, BoundSocket, Listener};
use super::stream::{Closed, ConnectionId, Told};
use super::tls::{ClientTls, Identity, ServerTls, TlsError, TlsSettings, keep_trust_fresh};
use super::udp::{self, Datagram};
use super::{Dropped, StartError};
use crate::sip::endpoint::{Hop, LocalTransport, Protocol, TransportId};

/// Datagrams between the readers and the driver; beyond it the network loses them.
const RECEIVED: usize = 1_024;
/// Messages of streams that wait for the driver; beyond it their connections wait.
const TOLD: usize = 1_024;
/// Connections that wait for the driver.
const ACCEPTED: usize = 64;
/// Transports of TLS peers, each with a name or a trust of its own.
const MOST_PEERS: usize = 1_024;

enum Transport {
    Udp(Arc<UdpSocket>),
    Stream(StreamTransport),
}

/// Whom a TLS transport is for: those of its listener, by the name in the certificate and the
/// file of those who may have signed it.
pub(super) type TlsPeer = (TransportId, String, Option<PathBuf>);

/// What comes from the sockets.
pub(super) struct Inputs {
    pub(super) datagrams: mpsc::Receiver<Datagram>,
    pub(super) accepted: mpsc::Receiver<Accepted>,
    pub(super) told: mpsc::Receiver<(ConnectionId, Told)>,
}

/// All our sockets.
pub(super) struct Transports {
    table: HashMap<TransportId, Transport>,
    connections: Connections,
    peers: HashMap<TlsPeer, TransportId>,
    next: u32,
    dropped: Arc<Dropped>,
    /// Readers, listeners and the look-out for a new certificate.
    _tasks: JoinSet<()>,
}

/// What the operator says about the sockets.
pub(super) struct Settings<'a> {
    pub(super) tls: &'a TlsSettings,
    pub(super) gate: Arc<Gate>,
    pub(super) dropped: Arc<Dropped>,
}

impl Transports {
    /// Starts what reads the sockets.
    pub(super) fn start(
        bound: Vec<Bound>,
        settings: &Settings<'_>,
    ) -> Result<(Self, Inputs, Arc<Identity>), StartError> {
        let identity = Identity::load(settings.tls.identity.clone())?;
        let (received, datagrams) = mpsc::channel(RECEIVED);
        let (accepts, accepted) = mpsc::channel(ACCEPTED);
        let (tells, told) = mpsc::channel(TOLD);
        let mut table = HashMap::new();
        let mut tasks = JoinSet::new();
        for Bound { listener, socket } in bound {
            let Listener {
                transport,
                protocol,
                address,
            } = listener;
            let (gate, dropped) = (Arc::clone(&settings.gate), Arc::clone(&settings.dropped));
            let made = match socket {
                BoundSocket::Udp(socket) => {
                    let reader = Arc::clone(&socket);
                    tasks.spawn(udp::read(
                        transport,
                        reader,
                        gate,
                        received.clone(),
                        dropped,
                    ));
                    Transport::Udp(socket)
                }
                BoundSocket::Stream(socket) => {
                    tasks.spawn(listener::accept(
                        transport,
                        socket,
                        gate,
                        accepts.clone(),
                        dropped,
                    ));
                    Transport::Stream(StreamTransport {
                        from: address.ip(),
                        tls: match protocol {
                            Protocol::Tls => {
                                let (server, client) = tls(&identity, settings.tls)?;
                                if let Some(ca) = settings.tls.ca.clone() {
                                    let (server, client) = (Arc::clone(&server), client.clone());
                                    tasks.spawn(keep_trust_fresh(ca, server, client));
                                }
                                Some((server, client))
                            }
                            Protocol::Udp | Protocol::Tcp => None,
                        },
                    })
                }
            };
            table.insert(transport, made);
        }
        tasks.spawn(Arc::clone(&identity).keep_fresh());
        // Ends with the driver: the senders of what is not listened on are all gone.
        let transports = Self {
            next: u32::try_from(table.len()).unwrap_or(u32::MAX),
            table,
            connections: Connections::new(tells),
            peers: HashMap::new(),
            dropped: Arc::clone(&settings.dropped),
            _tasks: tasks,
        };
        let inputs = Inputs {
            datagrams,
            accepted,
            told,
        };
        Ok((transports, inputs, identity))
    }

    /// A listener's transport, and those of the TLS peers that go by it.
    pub(super) fn family(&self, base: TransportId) -> Vec<TransportId> {
        let peers = self.peers.iter();
        let peers = peers.filter(|((of, _, _), _)| *of == base);
        std::iter::once(base)
            .chain(peers.map(|(_, transport)| *transport))
            .collect()
    }

    /// Connections that are open.
    pub(super) fn connections(&self) -> usize {
        self.connections.len()
    }

    /// The transport for connections to a TLS peer of this name; `made` where it is a new one,
    /// which the endpoint must be told of. `None` where there are too many.
    pub(super) fn tls_peer(
        &mut self,
        peer: &TlsPeer,
        client: ClientTls,
    ) -> Option<(TransportId, Made)> {
        if let Some(known) = self.peers.get(peer) {
            // Its files may be others by now.
            if let Some(Transport::Stream(StreamTransport { tls: Some(tls), .. })) =
                self.table.get_mut(known)
            {
                tls.1 = client;
            }
            return Some((*known, Made::Before));
        }
        let (base, _, _) = peer;
        let Some(Transport::Stream(StreamTransport {
            from,
            tls: Some((server, _)),
        })) = self.table.get(base)
        else {
            return None;
        };
        if self.peers.len() >= MOST_PEERS {
            return None;
        }
        let transport = Transport::Stream(StreamTransport {
            from: *from,
            tls: Some((Arc::clone(server), client)),
        });
        let id = TransportId(self.next);
        self.next += 1;
        self.table.insert(id, transport);
        self.peers.insert(peer.clone(), id);
        Some((id, Made::Now))
    }

    /// Sends one message. Gives the addresses that it failed to reach.
    pub(super) async fn send(&mut self, hop: Hop, bytes: Arc<[u8]>) -> Vec<SocketAddr> {
        let sent = match self.table.get(&hop.transport) {
            None => return vec![hop.address],
            Some(Transport::Udp(socket)) => {
                return match socket.send_to(&bytes, hop.address).await {
                    Ok(_) => Vec::new(),
                    Err(_) => vec![hop.address],
                };
            }
            Some(Transport::Stream(stream)) => self.connections.send(hop, stream, bytes),
        };
        match sent {
            Ok(()) => Vec::new(),
            Err(NotSent::TooMany) => vec![hop.address],
            Err(NotSent::TooSlow(names)) => {
                self.dropped.slow_peers.fetch_add(1, Ordering::Relaxed);
                names
            }
        }
    }

    /// Takes a connection that a peer opened, or closes it where there are too many.
    pub(super) fn accept(&mut self, accepted: Accepted) {
        let Accepted {
            transport,
            peer,
            socket,
        } = accepted;
        let Some(Transport::Stream(how)) = self.table.get(&transport) else {
            return;
        };
        if !self.connections.accept(transport, how, peer, socket) {
            self.dropped.connections.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The transport and peer of a connection that is still ours.
    pub(super) fn peer(&self, id: ConnectionId) -> Option<(TransportId, SocketAddr)> {
        self.connections.key(id)
    }

    /// Closes a connection once what waits is sent. The addresses that it was known by.
    pub(super) fn close(
        &mut self,
        id: ConnectionId,
        why: &Closed,
    ) -> Option<(TransportId, Vec<SocketAddr>)> {
        let (transport, names) = self.connections.remove(id)?;
        tracing::debug!(transport = transport.0, peer = ?names.last(), %why, "connection closed");
        Some((transport, names))
    }
}

/// Whether a transport is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    Before,
    Now,
}

fn tls(
    identity: &Arc<Identity>,
    settings: &TlsSettings,
) -> Result<(Arc<ServerTls>, ClientTls), TlsError> {
    let server = ServerTls::new(Arc::clone(identity), settings)?;
    let client = ClientTls::new(Arc::clone(identity), settings.ca.as_deref())?;
    Ok((Arc::new(server), client))
}

/// How a listener looks to peers.
pub(super) fn local_transport(listener: &Listener, public: Option<IpAddr>) -> LocalTransport {
    let host = crate::net::local::advertised_address(listener.address.ip(), public);
    LocalTransport {
        id: listener.transport,
        protocol: listener.protocol,
        advertised_host: host.into(),
        advertised_port: listener.address.port(),
    }
}
