//! UDP sockets: one reader task each.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::Dropped;
use super::gate::Gate;
use crate::sip::endpoint::TransportId;

/// The largest UDP payload.
const DATAGRAM: usize = 65_535;

/// One datagram.
pub(super) struct Datagram {
    pub(super) transport: TransportId,
    pub(super) source: SocketAddr,
    pub(super) bytes: Vec<u8>,
}

/// Reads one socket. Strangers are dropped here, before anything is parsed.
pub(super) async fn read(
    transport: TransportId,
    socket: Arc<UdpSocket>,
    gate: Arc<Gate>,
    received: mpsc::Sender<Datagram>,
    dropped: Arc<Dropped>,
) {
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let read = tokio::select! {
            read = socket.recv_from(&mut buffer) => read,
            // The driver has gone, and the socket goes with it.
            () = received.closed() => return,
        };
        // An error is an ICMP message about an earlier datagram; the endpoint's timers see to it.
        let Ok((length, source)) = read else {
            tokio::task::yield_now().await;
            continue;
        };
        if !gate.admits(source, &buffer[..length]) {
            dropped.strangers.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let message = Datagram {
            transport,
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
