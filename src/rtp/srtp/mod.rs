//! Secure RTP and RTCP (RFC 3711): AES in counter mode and HMAC-SHA1, without MKI, keys from SDP
//! (RFC 4568).
//!
//! ```text
//!   datagram ──unprotect──▶ tag right? ──▶ not replayed? ──▶ decrypted ──▶ Session
//!                            │ no             │ no
//!                            ▼                ▼
//!                            refused, counted; nothing remembered
//! ```
//!
//! Our own on RustCrypto's primitives: `webrtc-srtp` 0.17.2 reads headers with the `rtp` crate,
//! which panics on some extensions, before it checks the tag.

mod context;
mod index;

use std::fmt;
use std::time::{Duration, Instant};

use super::RtpError;
use context::Context;

/// How long packets under a key that was replaced are still taken.
const OLD_KEY: Duration = Duration::from_secs(5);

/// Key and salt that everything else is derived from (RFC 3711 section 4.3).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MasterKey(pub [u8; 30]);

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(_)")
    }
}

/// How much of the tag a packet carries. RTCP's is 80 bits in any case (RFC 4568 section 6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// AES_CM_128_HMAC_SHA1_80.
    Bits80,
    /// AES_CM_128_HMAC_SHA1_32.
    Bits32,
}

impl Tag {
    fn bytes(self) -> usize {
        match self {
            Self::Bits80 => 10,
            Self::Bits32 => 4,
        }
    }
}

/// The keys of a stream, as negotiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SrtpKeys {
    /// Of both directions.
    pub tag: Tag,
    /// What we send with.
    pub ours: MasterKey,
    /// What the peer sends with.
    pub theirs: MasterKey,
}

/// Protects what a session sends and opens what it receives.
#[derive(Debug)]
pub(super) struct Srtp {
    keys: SrtpKeys,
    outbound: Context,
    inbound: Context,
    /// Until when packets under the key before are taken, from the first look on.
    previous: Option<(Context, Option<Instant>)>,
}

impl Srtp {
    pub(super) fn new(keys: SrtpKeys) -> Self {
        Self {
            keys,
            outbound: Context::new(&keys.ours, keys.tag),
            inbound: Context::new(&keys.theirs, keys.tag),
            previous: None,
        }
    }

    /// Goes on with what a new offer and answer agreed on. A direction whose key stays goes on
    /// as it was.
    pub(super) fn rekey(&mut self, keys: SrtpKeys) {
        let tag_changed = keys.tag != self.keys.tag;
        if tag_changed || keys.ours != self.keys.ours {
            self.outbound = Context::new(&keys.ours, keys.tag);
        }
        if tag_changed || keys.theirs != self.keys.theirs {
            let new = self.inbound.successor(&keys.theirs, keys.tag);
            let old = std::mem::replace(&mut self.inbound, new);
            self.previous = Some((old, None));
        }
        self.keys = keys;
    }

    /// The packet in the clear.
    pub(super) fn unprotect(
        &mut self,
        now: Instant,
        datagram: &[u8],
        is_control: bool,
    ) -> Result<Vec<u8>, RtpError> {
        let open = |context: &mut Context| {
            if is_control {
                context.open_control(datagram)
            } else {
                context.open(datagram)
            }
        };
        let opened = open(&mut self.inbound);
        if opened != Err(RtpError::Authentication) {
            return opened;
        }
        if let Some((old, until)) = &mut self.previous {
            if *until.get_or_insert(now + OLD_KEY) > now {
                return open(old);
            }
            self.previous = None;
        }
        opened
    }

    /// Protects an RTP packet in place.
    pub(super) fn protect(&mut self, packet: &mut Vec<u8>) -> Result<(), RtpError> {
        self.outbound.seal(packet)
    }

    /// Protects a compound RTCP packet in place.
    pub(super) fn protect_control(&mut self, packet: &mut Vec<u8>) -> Result<(), RtpError> {
        self.outbound.seal_control(packet)
    }
}

#[cfg(test)]
mod tests;
