//! Via (RFC 3261 section 20.42, RFC 3581).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::sip::params::Params;
use crate::sip::syntax::{Scanner, SyntaxError, is_space};
use crate::sip::uri::{Host, parse_ip};

/// A transport as named in a Via.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// SCTP.
    Sctp,
    /// WebSocket.
    Ws,
    /// WebSocket over TLS.
    Wss,
    /// Any other token.
    Other(String),
}

impl Transport {
    /// The name as written in a Via.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
            Self::Sctp => "SCTP",
            Self::Ws => "WS",
            Self::Wss => "WSS",
            Self::Other(name) => name,
        }
    }

    /// Whether the transport delivers by itself, so that requests are not repeated.
    pub fn is_reliable(&self) -> bool {
        !matches!(self, Self::Udp)
    }

    /// The port where none is written.
    pub fn default_port(&self) -> u16 {
        match self {
            Self::Tls | Self::Wss => 5061,
            Self::Udp | Self::Tcp | Self::Sctp | Self::Ws | Self::Other(_) => 5060,
        }
    }

    fn parse(text: &str) -> Self {
        match text.to_ascii_uppercase().as_str() {
            "UDP" => Self::Udp,
            "TCP" => Self::Tcp,
            "TLS" => Self::Tls,
            "SCTP" => Self::Sctp,
            "WS" => Self::Ws,
            "WSS" => Self::Wss,
            _ => Self::Other(text.to_owned()),
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a Via says of `rport` (RFC 3581).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rport {
    /// Not there.
    Absent,
    /// Asked for, not filled in.
    Requested,
    /// The source port that the next element saw.
    Port(u16),
}

/// One Via value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Via {
    /// The transport of the hop.
    pub transport: Transport,
    /// The host of the sent-by.
    pub host: Host,
    /// The port of the sent-by, where one is written.
    pub port: Option<u16>,
    /// All parameters.
    pub params: Params,
}

impl Via {
    /// A Via of ours: with `branch`, and asking for `rport`.
    pub fn new(transport: Transport, host: Host, port: Option<u16>, branch: &str) -> Self {
        let mut params = Params::new();
        params.set("branch", branch);
        params.set_flag("rport");
        Self {
            transport,
            host,
            port,
            params,
        }
    }

    /// The branch, absent or without the magic cookie from peers of RFC 2543.
    pub fn branch(&self) -> Option<&str> {
        self.params
            .get("branch")
            .filter(|branch| !branch.is_empty())
    }

    /// Where the next element saw the message come from.
    pub fn received(&self) -> Option<IpAddr> {
        self.params.get("received").and_then(parse_ip)
    }

    /// Sets `received`, an IPv6 address without brackets (RFC 5118 section 4.5).
    pub fn set_received(&mut self, ip: IpAddr) {
        self.params.set("received", ip.to_string());
    }

    /// `rport`; a value that is no port counts as asked for.
    pub fn rport(&self) -> Rport {
        match (
            self.params.has("rport"),
            self.params.get("rport").map(str::parse),
        ) {
            (false, _) => Rport::Absent,
            (true, Some(Ok(port))) => Rport::Port(port),
            (true, Some(Err(_)) | None) => Rport::Requested,
        }
    }

    /// Fills `rport` in.
    pub fn set_rport(&mut self, port: u16) {
        self.params.set("rport", port.to_string());
    }

    /// The `maddr` parameter.
    pub fn maddr(&self) -> Option<&str> {
        self.params.get("maddr")
    }

    /// The port of the sent-by, or its transport's default.
    pub fn port_or_default(&self) -> u16 {
        self.port.unwrap_or_else(|| self.transport.default_port())
    }
}

impl FromStr for Via {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let mut scanner = Scanner::new(text);
        let protocol = scanner.skip_space().token()?;
        let slash = SyntaxError("slash expected in the sent protocol");
        scanner.skip_space().eat('/').then_some(()).ok_or(slash)?;
        let version = scanner.skip_space().token()?;
        scanner.skip_space().eat('/').then_some(()).ok_or(slash)?;
        if !protocol.eq_ignore_ascii_case("SIP") || version != "2.0" {
            return Err(SyntaxError("sent protocol is not SIP/2.0"));
        }
        let transport = Transport::parse(scanner.skip_space().token()?);
        if !scanner.peek().is_some_and(is_space) {
            return Err(SyntaxError("space expected before the sent-by"));
        }
        let sent_by = scanner.skip_space().until(|character| character == ';');
        let (host, port) = Host::parse_with_port(super::trim(sent_by))?;
        Ok(Self {
            transport,
            host,
            port,
            params: Params::scan(&mut scanner)?,
        })
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SIP/2.0/{} {}", self.transport, self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        self.params.fmt(f)
    }
}
