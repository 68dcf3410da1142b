//! Our sockets and the way to a peer, as values: the sockets themselves are the driver's.
//!
//! A [`TransportId`] names a UDP socket, or a listener with every connection that belongs to it:
//! those that peers opened to it, and those that we open under its name. On a stream, transport
//! and address together name one connection, whichever side opened it; a peer that opened it is
//! known by the port that it came from. So a response, and a request inside a dialog, goes back
//! on the connection that it belongs to by carrying its [`Hop`], and a new request to a peer uses
//! the connection that is open to the same hop. Connections to one address that must not be
//! shared (another name to verify in TLS, another trust) are kept apart by a transport of their
//! own.

use std::net::SocketAddr;

use super::headers::Transport;
use super::timers::Reliability;
use super::uri::{Host, SipUri};

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

    /// What a URI asks for by scheme and `transport`; `Ok(None)` where it leaves it open.
    ///
    /// # Errors
    /// Where it asks for what we do not speak, or for `sips:` over what has no TLS.
    pub fn asked_by(uri: &SipUri) -> Result<Option<Self>, NotSpoken> {
        let asked = uri.transport().map(str::to_ascii_lowercase);
        match (uri.secure, asked.as_deref()) {
            (true, None | Some("tcp" | "tls")) | (false, Some("tls")) => Ok(Some(Self::Tls)),
            (false, Some("tcp")) => Ok(Some(Self::Tcp)),
            (false, Some("udp")) => Ok(Some(Self::Udp)),
            (false, None) => Ok(None),
            (_, Some(other)) => Err(NotSpoken(other.to_owned())),
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

/// A URI that asks for a transport that we do not speak, or that cannot be secure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("transport {0:?} is none that we speak there")]
pub struct NotSpoken(pub String);

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
    /// Where to connect when there is no connection to `address`, which is then a port that the
    /// peer connected from. `None`: to `address` itself.
    pub reconnect: Option<SocketAddr>,
}

impl Hop {
    /// The way to an address that can be connected to, or that datagrams go to.
    pub fn new(transport: TransportId, address: SocketAddr) -> Self {
        Self {
            transport,
            address,
            reconnect: None,
        }
    }

    /// Whether both are the same socket and peer, or the same connection.
    pub fn is_same_flow(&self, other: &Self) -> bool {
        self.transport == other.transport && self.address == other.address
    }
}
