//! Which address of ours a peer should use.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// The address to write into Via, Contact or SDP: the configured public one (of the same family),
/// else the one bound to, else (bound to all) the one that the routing table picks for the way
/// out. Nothing is sent.
pub fn advertised_address(bound: IpAddr, public: Option<IpAddr>) -> IpAddr {
    if let Some(public) = public.filter(|public| public.is_ipv4() == bound.is_ipv4()) {
        return public;
    }
    if !bound.is_unspecified() {
        return bound;
    }
    route_out(bound).unwrap_or(match bound {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    })
}

/// Connecting a datagram socket asks the routing table and sends nothing. The targets are
/// documentation addresses (RFC 5737, RFC 3849), which take the default route.
fn route_out(bound: IpAddr) -> io::Result<IpAddr> {
    let target: IpAddr = match bound {
        IpAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 1).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(bound, 0))?;
    socket.connect(SocketAddr::new(target, 9))?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_address_wins_over_a_bound_one_and_all_zeros_is_never_advertised() {
        let all = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let bound: IpAddr = "127.0.0.2".parse().expect("address");
        let public: IpAddr = "192.0.2.7".parse().expect("address");
        assert_eq!(advertised_address(bound, Some(public)), public);
        assert_eq!(advertised_address(bound, None), bound);
        let six = IpAddr::V6(Ipv6Addr::LOCALHOST);
        assert_eq!(
            advertised_address(six, Some(public)),
            six,
            "not of its family"
        );
        assert!(!advertised_address(all, None).is_unspecified());
    }
}
