//! Why a datagram was not taken as media.

use thiserror::Error;

/// Why a datagram was not taken. The sender's fault; the call goes on, and the datagram is
/// counted in [`Statistics::malformed`](super::Statistics::malformed).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RtpError {
    /// Shorter than the headers it announces (RFC 3550 section 5.1).
    #[error("shorter than its headers")]
    Short,
    /// More than 200 ms in one packet.
    #[error("longer than any telephone sends")]
    Long,
    /// A payload that its codec does not know.
    #[error("not a payload of its codec")]
    Payload,
    /// Not version 2.
    #[error("not RTP version 2")]
    Version,
    /// More padding than payload (RFC 3550 section 5.1).
    #[error("more padding than payload")]
    Padding,
    /// Not sealed with the key that was agreed on (RFC 3711), or not sealed at all.
    #[error("not authentic")]
    Authentication,
    /// Received before, or too old to tell (RFC 3711 section 3.3.2).
    #[error("a repetition")]
    Replayed,
    /// Not a valid compound RTCP packet (RFC 3550 appendix A.2).
    #[error("not a valid RTCP packet")]
    Control,
}
