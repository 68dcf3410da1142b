//! SDP offer and answer (RFC 3264, RFC 8866) for one telephone audio stream.
//!
//! ```text
//!   we call:    offer(local) ----> peer ----> accept(answer, local) -> Negotiated
//!   we answer:  peer ----> answer(offer, local) -> (answer, Negotiated)
//! ```
//!
//! Stateless: a re-INVITE is one more offer, with [`LocalMedia::next_version`] called before it.
//! Pure: no sockets; addresses are IP addresses, host names in `c=` are refused.
//!
//! The `sdp` crate is not used: version 0.17.2 refuses SDP that carriers send (a session id
//! beyond 64 bits, a missing `s=` or `t=`, a space in the user name of `o=`, `b=AS:84.5`,
//! `m=... UDP/BFCP *`). The lexer here reads what it needs and ignores the rest.

mod crypto;
mod error;
mod negotiate;
mod parse;

use std::net::{IpAddr, SocketAddr};

pub use crypto::{Crypto, CryptoSuite, Encryption, LocalKeys, MasterKey};
pub use error::SdpError;
pub use negotiate::{accept, answer, offer};

use crate::audio::{Codec, PayloadKind};

/// The content type of a session description in SIP.
pub const CONTENT_TYPE: &str = "application/sdp";

/// Which way media flows, seen by the side whose description it is in (RFC 3264 section 5.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// Both ways.
    #[default]
    SendRecv,
    /// It sends and does not want to receive.
    SendOnly,
    /// It receives and does not send.
    RecvOnly,
    /// Neither.
    Inactive,
}

impl Direction {
    /// The direction in which it sends and receives as given.
    pub fn from_parts(sends: bool, receives: bool) -> Self {
        match (sends, receives) {
            (true, true) => Self::SendRecv,
            (true, false) => Self::SendOnly,
            (false, true) => Self::RecvOnly,
            (false, false) => Self::Inactive,
        }
    }

    /// Whether media is sent.
    pub fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// Whether media is received.
    pub fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }

    /// The same flow seen from the other side.
    #[must_use]
    pub fn mirrored(self) -> Self {
        Self::from_parts(self.receives(), self.sends())
    }

    /// What both allow.
    #[must_use]
    pub fn limited_to(self, other: Self) -> Self {
        Self::from_parts(
            self.sends() && other.sends(),
            self.receives() && other.receives(),
        )
    }

    /// The attribute's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }
}

/// Our side of the one audio stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalMedia {
    /// Where RTP reaches us, for `c=` and `o=`.
    pub address: IpAddr,
    /// The RTP port; RTCP is on the next one unless multiplexed.
    pub port: u16,
    /// What we speak, best first. An offer lists them in this order; an answer takes the first
    /// of them that the peer offers.
    pub codecs: Vec<Codec>,
    /// The payload type an offer of ours gives `telephone-event` (RFC 4733), and the one after it
    /// where codecs have another clock as well; an answer uses the peer's. `None`: digits are not
    /// negotiated.
    pub telephone_event: Option<u8>,
    /// The packet length that we ask for, in ms.
    pub ptime_ms: u8,
    /// Whether media is encrypted.
    pub encryption: Encryption,
    /// What we want: `SendRecv`, or `SendOnly` to put the peer on hold.
    pub direction: Direction,
    /// `o=` session id: drawn once a dialog. At most 2^62, since some peers read it as signed.
    pub session_id: u64,
    /// `o=` session version: one more with each change (RFC 3264 section 8).
    pub session_version: u64,
}

impl LocalMedia {
    /// Counts a change of our description; before each new offer or answer of a dialog but the
    /// first.
    pub fn next_version(&mut self) {
        self.session_version = self.session_version.wrapping_add(1);
    }
}

/// What both sides agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// Where to send RTP. Not to be used unless [`Direction::sends`]: it may be `0.0.0.0`.
    pub remote: SocketAddr,
    /// Where to send RTCP; the same as `remote` when multiplexed.
    pub remote_rtcp: SocketAddr,
    /// RTP and RTCP share a port both ways (RFC 5761).
    pub rtcp_mux: bool,
    /// The peer asks for VoIP metrics in our RTCP (RFC 3611 section 5).
    pub voip_metrics: bool,
    /// The codec to send.
    pub codec: Codec,
    /// The payload type to send it with.
    pub payload_type: u8,
    /// The payload type to send digits with, where the peer takes them.
    pub telephone_event: Option<u8>,
    /// What the peer may send, by payload type.
    pub receive: Vec<(u8, PayloadKind)>,
    /// The keys of both directions; `None` where media is in the clear.
    pub crypto: Option<Crypto>,
    /// The packet length to send, in ms: 10, 20, 40 or 60. The peer's wish rounded down.
    pub ptime_ms: u8,
    /// What we may do. Never sends while the peer holds us.
    pub direction: Direction,
    /// The peer does not want our media: `sendonly`, `inactive` or the address `0.0.0.0`.
    pub remote_hold: bool,
}

#[cfg(test)]
mod tests;
