//! Why no media could be agreed on.

use thiserror::Error;

/// Why a session description led to no session. The fault is the peer's; trying again with the
/// same description does not help.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SdpError {
    /// It is not SDP, or lacks what cannot be guessed.
    #[error("malformed session description: {0}")]
    Malformed(&'static str),
    /// It exceeds what any telephone sends.
    #[error("session description beyond limits: {0}")]
    TooLarge(&'static str),
    /// It offers no audio stream, or none that is open.
    #[error("no audio stream is offered")]
    NoAudio,
    /// All its audio streams use a transport that we do not speak, or not with this peer.
    #[error("no audio stream has a usable transport")]
    Transport,
    /// Encryption is required and not offered, or offered with nothing that we can use.
    #[error("no usable encryption is offered")]
    Encryption,
    /// All its codecs are strange to us.
    #[error("no common codec")]
    Codec,
    /// Its address is a host name, a multicast group or of the other IP version.
    #[error("unusable media address: {0}")]
    Address(&'static str),
    /// The answer refuses the only stream that we offered.
    #[error("the peer refused the audio stream")]
    Refused,
}

impl SdpError {
    /// The SIP status to refuse the offer with: 400 or 488 (RFC 3261 sections 21.4.1, 21.4.26).
    pub fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) | Self::TooLarge(_) => 400,
            Self::NoAudio
            | Self::Transport
            | Self::Encryption
            | Self::Codec
            | Self::Address(_)
            | Self::Refused => 488,
        }
    }

    /// Code and text for the Warning header (RFC 3261 section 20.43). The text holds nothing of
    /// what the peer sent.
    pub fn warning(&self) -> (u16, String) {
        let code = match self {
            Self::Malformed(_) | Self::TooLarge(_) | Self::Refused => 399,
            Self::NoAudio => 304,
            Self::Transport | Self::Encryption => 302,
            Self::Codec => 305,
            Self::Address(_) => 301,
        };
        (code, self.to_string())
    }

    /// A stable word for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::TooLarge(_) => "too_large",
            Self::NoAudio => "no_audio",
            Self::Transport => "transport",
            Self::Encryption => "encryption",
            Self::Codec => "codec",
            Self::Address(_) => "address",
            Self::Refused => "refused",
        }
    }
}
