//! Free ports of the configured range.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

use super::MediaConfig;

/// Every port of the range is taken, or none can be bound: the operator's range is too small, or
/// the address is not ours. 503; another call may end meanwhile.
#[derive(Debug, thiserror::Error)]
#[error("no media port is free: {0}")]
pub struct NoPort(#[source] io::Error);

/// Hands out even ports (RFC 3550 section 11), each one as late as possible after its last use,
/// so that a late packet of an old call does not reach a new one.
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

    /// Binds the next free port.
    pub(super) fn bind(&self) -> Result<UdpSocket, NoPort> {
        let first = u32::from(self.config.port_min).next_multiple_of(2);
        let last = u32::from(self.config.port_max);
        let pairs = (last.saturating_sub(first) + 1).div_ceil(2).max(1);
        let mut error = io::Error::from(io::ErrorKind::AddrInUse);
        for _ in 0..pairs {
            let pair = self.next.fetch_add(1, Ordering::Relaxed) % pairs;
            let Ok(port) = u16::try_from(first + pair * 2) else {
                continue;
            };
            match UdpSocket::bind(SocketAddr::new(self.config.bind, port)) {
                Ok(socket) => return Ok(socket),
                Err(taken) => error = taken,
            }
        }
        Err(NoPort(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_is_used_up_and_a_dropped_port_is_free_again() {
        let ports = Ports::new(MediaConfig {
            bind: "127.0.0.44".parse().expect("address"),
            port_min: 20_001,
            port_max: 20_005,
        });
        let first = ports.bind().expect("20002");
        let second = ports.bind().expect("20004");
        ports.bind().expect_err("range of two");
        drop(first);
        let port = ports
            .bind()
            .expect("free again")
            .local_addr()
            .expect("address")
            .port();
        assert_eq!(port, 20_002);
        drop(second);
    }
}
