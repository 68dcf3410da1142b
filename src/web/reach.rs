//! Which addresses may be connected to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Which addresses may be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All: the operator has named the peer.
    Anywhere,
    /// Those of the public Internet, and these networks.
    Public {
        /// Private networks that are allowed all the same.
        except: Vec<IpNet>,
    },
}

impl Reach {
    /// Whether this address may be connected to. One of IPv4 that is written as one of IPv6
    /// (mapped, NAT64, 6to4) is judged as what it leads to.
    pub fn permits(&self, address: IpAddr) -> bool {
        match self {
            Self::Anywhere => true,
            Self::Public { except } => {
                let address = plain(address);
                is_public(address) || except.iter().any(|network| network.contains(&address))
            }
        }
    }
}

fn plain(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => embedded(v6).map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

/// The IPv4 address that packets to this one end up at.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let parts = address.segments();
    let of = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match parts {
        // Mapped (RFC 4291 2.5.5.2).
        [0, 0, 0, 0, 0, 0xffff, high, low] => Some(of(high, low)),
        // NAT64 (RFC 6052).
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(of(high, low)),
        // 6to4 (RFC 3056).
        [0x2002, high, low, ..] => Some(of(high, low)),
        _ => None,
    }
}

/// By the IANA registries of special-purpose addresses (RFC 6890 and what followed it).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !is_special_v4(address),
        // Only 2000::/3 is given out, less what documentation, ORCHID and benchmarks have of it.
        IpAddr::V6(address) => {
            let parts = address.segments();
            let special = parts[0] == 0x2001 && (parts[1] < 0x200 || parts[1] == 0xdb8)
                || parts[0] == 0x3fff && parts[1] < 0x1000;
            parts[0] & 0xe000 == 0x2000 && !special
        }
    }
}

fn is_special_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        // Carriers' NAT (RFC 6598).
        || (a == 100 && (64..128).contains(&b))
        // Protocol assignments, 6to4 relays, benchmarks, reserved.
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b == 18 || b == 19))
        || a >= 240
}
