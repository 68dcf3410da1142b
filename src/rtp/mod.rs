//! RTP for one telephone call (RFC 3550, RFC 3551): packets, jitter buffer, loss concealment
//! (ITU-T G.711 Appendix I), digits (RFC 4733) and RTCP reports.
//!
//! [`Session`] is the facade. Pure: sockets, the 20 ms clock and randomness are the caller's.

mod conceal;
mod delay;
mod dtmf;
mod error;
mod jitter;
mod packet;
mod pitch;
mod rtcp;
mod session;
mod source;
mod statistics;
mod stretch;

pub use conceal::{Concealer, DELAY_SAMPLES, Fade};
pub use dtmf::Digit;
pub use error::RtpError;
pub use jitter::{FrameKind, Outcome, PulledFrame};
pub use packet::{HEADER_BYTES, Header, Packet, is_control};
pub use session::{Received, Session, SessionConfig, StreamConfig};
pub use statistics::{RemoteReport, Statistics};

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
