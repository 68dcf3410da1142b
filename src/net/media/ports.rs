//! Free ports of the configured range.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

use socket2::{Domain, Socket, Type};

use super::MediaConfig;

/// Every port of the range is taken, or none can be bound: the operator's range is too small, or
/// the address is not ours. 503; another call may end meanwhile.
#[derive(Debug, thiserror::Error)]
#[error("no media port is free: {0}")]
pub struct NoPort(#[source] io::Error);

/// An even port for RTP, the next one for RTCP (RFC 3550 section 11), and what peers are told of
/// their address.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) rtp: UdpSocket,
    pub(super) rtcp: UdpSocket,
    pub(super) advertised: IpAddr,
}

/// Hands out pairs of ports, each one as late as possible after its last use, so that a late
/// packet of an old call does not reach a new one.
#[derive(Debug)]
pub(super) struct Ports {
    config: MediaConfig,
    next: AtomicU32,
}

impl Ports {
    pub(super) fn new(config: MediaConfig) -> Self {
        Self {
            config,
            next: AtomicU32::new(0),
        }
    }

    /// Binds the next free pair of the family of `peer`.
    pub(super) fn bind(&self, peer: IpAddr) -> Result<Pair, NoPort> {
        let mut addresses = self.config.addresses.iter();
        let address = addresses
            .find(|address| address.bind.is_ipv4() == peer.is_ipv4())
            .ok_or_else(|| NoPort(io::ErrorKind::AddrNotAvailable.into()))?;
        let first = u32::from(self.config.port_min).next_multiple_of(2);
        let last = u32::from(self.config.port_max);
        let pairs = last.saturating_sub(first).div_ceil(2).max(1);
        let mut error = io::Error::from(io::ErrorKind::AddrInUse);
        for _ in 0..pairs {
            let pair = self.next.fetch_add(1, Ordering::Relaxed) % pairs;
            let Ok(port) = u16::try_from(first + pair * 2) else {
                continue;
            };
            let open = |port: u16| open(SocketAddr::new(address.bind, port));
            match open(port).and_then(|rtp| Ok((rtp, open(port.saturating_add(1))?))) {
                Ok((rtp, rtcp)) => {
                    return Ok(Pair {
                        rtp,
                        rtcp,
                        advertised: address.advertised,
                    });
                }
                Err(taken) => error = taken,
            }
        }
        Err(NoPort(error))
    }
}

fn open(at: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(at), Type::DGRAM, None)?;
    if at.is_ipv6() {
        // So that [::] leaves the same port of 0.0.0.0 free.
        socket.set_only_v6(true)?;
    }
    socket.bind(&at.into())?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::super::MediaAddress;
    use super::*;

    #[test]
    fn the_range_is_used_up_and_a_dropped_port_is_free_again() {
        let bind: IpAddr = "127.0.0.44".parse().expect("address");
        let ports = Ports::new(MediaConfig {
            addresses: vec![MediaAddress {
                bind,
                advertised: bind,
            }],
            port_min: 20_001,
            port_max: 20_005,
        });
        let first = ports.bind(bind).expect("20002");
        let second = ports.bind(bind).expect("20004");
        ports.bind(bind).expect_err("range of two");
        let six = "2001:db8::1".parse().expect("address");
        ports.bind(six).expect_err("no address of that family");
        drop(first);
        let port = ports
            .bind(bind)
            .expect("free again")
            .rtp
            .local_addr()
            .expect("address")
            .port();
        assert_eq!(port, 20_002);
        drop(second);
    }
}
