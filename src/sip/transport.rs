//! Our sockets and the way to a peer, as values: the sockets themselves are the driver's.

use std::net::SocketAddr;

use super::headers::Transport;
use super::timers::Reliability;
use super::uri::Host;

/// Names one of our sockets or listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransportId(pub u32);

/// The transport protocols that we speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Datagrams.
    Udp,
    /// A byte stream.
    Tcp,
    /// A byte stream in TLS.
    Tls,
}

impl Protocol {
    /// The same for a Via.
    pub fn via_transport(self) -> Transport {
        match self {
            Self::Udp => Transport::Udp,
            Self::Tcp => Transport::Tcp,
            Self::Tls => Transport::Tls,
        }
    }

    /// The `transport` parameter that our Contact needs; UDP is what its absence means.
    pub fn uri_parameter(self) -> Option<&'static str> {
        match self {
            Self::Udp => None,
            Self::Tcp => Some("tcp"),
            Self::Tls => Some("tls"),
        }
    }

    /// The port of a URI without one.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Udp | Self::Tcp => 5060,
            Self::Tls => 5061,
        }
    }

    /// Whether lost messages are sent again by the transport.
    pub fn reliability(self) -> Reliability {
        match self {
            Self::Udp => Reliability::Unreliable,
            Self::Tcp | Self::Tls => Reliability::Reliable,
        }
    }
}

/// One of our sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalTransport {
    /// Its name, in everything that the driver hands in and gets.
    pub id: TransportId,
    /// What it speaks.
    pub protocol: Protocol,
    /// Host for our Via and Contact: one that peers reach.
    pub advertised_host: Host,
    /// Port for our Via and Contact.
    pub advertised_port: u16,
}

/// One of our sockets and a peer's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hop {
    /// Our socket.
    pub transport: TransportId,
    /// The peer.
    pub address: SocketAddr,
}
