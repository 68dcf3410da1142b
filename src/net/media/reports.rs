//! Where a stream's RTCP comes and goes: the port above RTP's, or RTP's own (RFC 5761).

use std::io;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use mio::net::UdpSocket;

use crate::sdp::Negotiated;

/// From 1900, where NTP begins, to 1970, in seconds.
const NTP_EPOCH: u64 = 2_208_988_800;

/// The RTCP side of a stream.
pub(super) struct Reports {
    pub(super) socket: UdpSocket,
    remote: SocketAddr,
    shared: bool,
}

/// Where a stream's RTCP goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReportRoute {
    remote: SocketAddr,
    shared: bool,
}

impl ReportRoute {
    pub(super) fn of(negotiated: &Negotiated) -> Self {
        Self {
            remote: negotiated.remote_rtcp,
            shared: negotiated.rtcp_mux,
        }
    }
}

impl Reports {
    pub(super) fn new(socket: UdpSocket, route: ReportRoute) -> Self {
        Self {
            socket,
            remote: route.remote,
            shared: route.shared,
        }
    }

    pub(super) fn redirect(&mut self, route: ReportRoute) {
        self.remote = route.remote;
        self.shared = route.shared;
    }

    /// RTP turned out to come from elsewhere; RTCP will come from beside it.
    pub(super) fn follow(&mut self, rtp: SocketAddr) {
        self.remote = SocketAddr::new(rtp.ip(), rtp.port().saturating_add(1));
    }

    /// Whether a datagram on our RTCP port may be the peer's, whose RTP is at `rtp`.
    pub(super) fn is_peer(&self, source: SocketAddr, rtp: SocketAddr) -> bool {
        source == self.remote || source.ip() == rtp.ip()
    }

    /// The peer's RTCP is known to come from here.
    pub(super) fn heard_from(&mut self, source: SocketAddr) {
        self.remote = source;
    }

    /// Sends a report, through `rtp`'s socket to the peer's RTP where they share one.
    pub(super) fn send(
        &self,
        report: &[u8],
        (rtp, rtp_remote): (&UdpSocket, SocketAddr),
    ) -> io::Result<usize> {
        if self.shared {
            rtp.send_to(report, rtp_remote)
        } else {
            self.socket.send_to(report, self.remote)
        }
    }
}

/// The wall clock in NTP's format: seconds since 1900, in 2^-32 s.
pub(super) fn ntp_now() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
    (since.as_secs().wrapping_add(NTP_EPOCH) << 32) | fraction
}
