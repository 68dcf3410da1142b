//! UDP sockets: one reader task each.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ipnet::IpNet;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::{BindError, Dropped};
use crate::sip::endpoint::TransportId;

/// The largest UDP payload.
const DATAGRAM: usize = 65_535;

/// One socket of ours.
#[derive(Clone, Debug)]
pub(super) struct Socket {
    pub(super) id: TransportId,
    pub(super) bound: SocketAddr,
    pub(super) udp: Arc<UdpSocket>,
}

/// Binds all; their ids follow their order.
pub(super) async fn open(listen: &[SocketAddr]) -> Result<Vec<Socket>, BindError> {
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

/// One datagram.
pub(super) struct Received {
    pub(super) transport: TransportId,
    pub(super) source: SocketAddr,
    pub(super) bytes: Vec<u8>,
}

/// Reads one socket. Strangers are dropped here, before anything is parsed.
pub(super) async fn read(
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
