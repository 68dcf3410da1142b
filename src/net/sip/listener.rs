//! Listeners: what the operator asked for, bound, and the tasks that take connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;

use super::gate::Gate;
use super::{Dropped, StartError};
use crate::sip::endpoint::{Protocol, TransportId};

/// Connections that wait for the driver, beside the kernel's own queue.
const BACKLOG: i32 = 256;
/// After a connection could not be taken, for want of file descriptors for one.
const BREATH: Duration = Duration::from_millis(100);

/// One of our listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its name.
    pub transport: TransportId,
    /// What it speaks.
    pub protocol: Protocol,
    /// Where it is bound, its port resolved.
    pub address: SocketAddr,
}

/// A listener with its socket.
pub(super) struct Bound {
    pub(super) listener: Listener,
    pub(super) socket: BoundSocket,
}

pub(super) enum BoundSocket {
    Udp(Arc<UdpSocket>),
    Stream(TcpListener),
}

/// Binds all; their ids follow their order.
pub(super) fn bind_all(listen: &[(Protocol, SocketAddr)]) -> Result<Vec<Bound>, StartError> {
    (0..)
        .map(TransportId)
        .zip(listen)
        .map(|(transport, (protocol, address))| {
            bind(transport, *protocol, *address).map_err(|source| StartError::Bind {
                protocol: *protocol,
                address: *address,
                source,
            })
        })
        .collect()
}

fn bind(transport: TransportId, protocol: Protocol, address: SocketAddr) -> io::Result<Bound> {
    let kind = match protocol {
        Protocol::Udp => Type::DGRAM,
        Protocol::Tcp | Protocol::Tls => Type::STREAM,
    };
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    if address.is_ipv6() {
        // So that [::] and 0.0.0.0 can both be listened on, and each peer has one address.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    let (socket, address) = match protocol {
        Protocol::Udp => {
            socket.bind(&address.into())?;
            let udp = UdpSocket::from_std(socket.into())?;
            let address = udp.local_addr()?;
            (BoundSocket::Udp(Arc::new(udp)), address)
        }
        Protocol::Tcp | Protocol::Tls => {
            // Connections of before that linger do not keep us from starting.
            socket.set_reuse_address(true)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            let tcp = TcpListener::from_std(socket.into())?;
            let address = tcp.local_addr()?;
            (BoundSocket::Stream(tcp), address)
        }
    };
    Ok(Bound {
        listener: Listener {
            transport,
            protocol,
            address,
        },
        socket,
    })
}

/// A connection that a peer opened.
pub(super) struct Accepted {
    pub(super) transport: TransportId,
    pub(super) peer: SocketAddr,
    pub(super) socket: TcpStream,
}

/// Takes connections for as long as the driver lives. Strangers are shut out at once.
pub(super) async fn accept(
    transport: TransportId,
    listener: TcpListener,
    gate: Arc<Gate>,
    accepted: mpsc::Sender<Accepted>,
    dropped: Arc<Dropped>,
) {
    loop {
        let connected = tokio::select! {
            connected = listener.accept() => connected,
            // The driver has gone, and the socket goes with it.
            () = accepted.closed() => return,
        };
        let Ok((socket, peer)) = connected else {
            tokio::time::sleep(BREATH).await;
            continue;
        };
        if !gate.admits_connection(peer.ip()) {
            dropped.strangers.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let connection = Accepted {
            transport,
            peer,
            socket,
        };
        if accepted.send(connection).await.is_err() {
            return;
        }
    }
}
