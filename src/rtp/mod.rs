//! RTP for one telephone call (RFC 3550, RFC 3551): packets, jitter buffer, loss concealment
//! (ITU-T G.711 Appendix I), comfort noise (RFC 3389), digits (RFC 4733), RTCP reports and encryption (RFC 3711).
//!
//! [`Session`] is the facade. Pure: sockets, the 20 ms clock and randomness are the caller's.

mod bursts;
mod conceal;
mod control;
mod delay;
mod dtmf;
mod error;
mod jitter;
mod noise;
mod outgoing;
mod packet;
mod pitch;
mod quality;
mod queue;
mod rtcp;
mod session;
mod source;
mod srtp;
mod statistics;
mod stretch;

/// The rate of narrowband sound, which lengths are given for where nothing else is said.
const TELEPHONE_HZ: u32 = 8_000;

pub use conceal::{Concealer, DELAY_SAMPLES, Fade};
pub use dtmf::Digit;
pub use error::RtpError;
pub use jitter::{FrameKind, Outcome, PulledFrame};
pub use packet::{HEADER_BYTES, Header, Packet, is_control};
pub use quality::{Quality, StreamQuality};
pub use queue::Loudness;
pub use session::{Received, Session, SessionConfig, StreamConfig};
pub use srtp::{MasterKey, SrtpKeys, Tag};
pub use statistics::{RemoteReport, Statistics};

#[cfg(test)]
pub(crate) mod simulation;
#[cfg(test)]
mod tests;
