//! RTP packets (RFC 3550 section 5.1).
//!
//! Our own, since a network port must survive anything: the `rtp` crate 0.17.2 panics on a header
//! extension whose element is longer than the extension (20 bytes suffice).

use super::RtpError;

/// Bytes of a header without CSRCs and extension.
pub const HEADER_BYTES: usize = 12;

/// The header fields that a telephone call uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The marker bit: with audio, the first packet after silence (RFC 3551 section 4.1).
    pub marker: bool,
    /// What the payload is, 0 to 127.
    pub payload_type: u8,
    /// Counts packets, modulo 2^16.
    pub sequence: u16,
    /// Counts samples, modulo 2^32.
    pub timestamp: u32,
    /// Names the source.
    pub ssrc: u32,
}

/// A received packet, borrowing its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The header.
    pub header: Header,
    /// The payload, without padding. May be empty.
    pub payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads a datagram. CSRCs and header extensions are skipped.
    ///
    /// # Errors
    /// [`RtpError`] where it is not RTP version 2 with all that its header announces.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, RtpError> {
        let (fixed, mut rest) = datagram
            .split_first_chunk::<HEADER_BYTES>()
            .ok_or(RtpError::Short)?;
        let [first, second, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3] = *fixed;
        if first >> 6 != 2 {
            return Err(RtpError::Version);
        }
        let csrc_bytes = usize::from(first & 0x0f) * 4;
        rest = rest.get(csrc_bytes..).ok_or(RtpError::Short)?;
        if first & 0x10 != 0 {
            let (extension, after) = rest.split_first_chunk::<4>().ok_or(RtpError::Short)?;
            let words = usize::from(u16::from_be_bytes([extension[2], extension[3]]));
            rest = after.get(words * 4..).ok_or(RtpError::Short)?;
        }
        if first & 0x20 != 0 {
            let padding = usize::from(*rest.last().ok_or(RtpError::Padding)?);
            let kept = rest.len().checked_sub(padding).filter(|_| padding > 0);
            rest = &rest[..kept.ok_or(RtpError::Padding)?];
        }
        Ok(Self {
            header: Header {
                marker: second & 0x80 != 0,
                payload_type: second & 0x7f,
                sequence: u16::from_be_bytes([s0, s1]),
                timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
                ssrc: u32::from_be_bytes([c0, c1, c2, c3]),
            },
            payload: rest,
        })
    }
}

/// What SRTP needs to know of a packet, whose payload and padding may be encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outline {
    pub(super) sequence: u16,
    pub(super) ssrc: u32,
    /// Where what is encrypted begins.
    pub(super) payload: usize,
}

impl Outline {
    /// Reads what stays in the clear (RFC 3711 section 3.1).
    pub(super) fn of(datagram: &[u8]) -> Result<Self, RtpError> {
        let (fixed, rest) = datagram
            .split_first_chunk::<HEADER_BYTES>()
            .ok_or(RtpError::Short)?;
        if fixed[0] >> 6 != 2 {
            return Err(RtpError::Version);
        }
        let mut payload = HEADER_BYTES + usize::from(fixed[0] & 0x0f) * 4;
        if fixed[0] & 0x10 != 0 {
            let extension = rest.get(payload - HEADER_BYTES..).unwrap_or_default();
            let head = extension.first_chunk::<4>().ok_or(RtpError::Short)?;
            payload += 4 + usize::from(u16::from_be_bytes([head[2], head[3]])) * 4;
        }
        if payload > datagram.len() {
            return Err(RtpError::Short);
        }
        Ok(Self {
            sequence: u16::from_be_bytes([fixed[2], fixed[3]]),
            ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
            payload,
        })
    }
}

impl Header {
    /// The header's bytes, without CSRCs, extension or padding.
    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let [s0, s1] = self.sequence.to_be_bytes();
        let [t0, t1, t2, t3] = self.timestamp.to_be_bytes();
        let [c0, c1, c2, c3] = self.ssrc.to_be_bytes();
        let second = u8::from(self.marker) << 7 | self.payload_type & 0x7f;
        [0x80, second, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3]
    }
}

/// Whether a datagram on a shared port is RTCP: the second byte of RTCP is 192 to 223, which RTP
/// leaves free (RFC 5761 section 4).
pub fn is_control(datagram: &[u8]) -> bool {
    matches!(datagram, [first, 192..=223, ..] if first >> 6 == 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header {
        marker: true,
        payload_type: 101,
        sequence: 0xfffe,
        timestamp: 0xdead_beef,
        ssrc: 0x0102_0304,
    };

    fn datagram(first: u8, tail: &[u8]) -> Vec<u8> {
        let mut bytes = HEADER.to_bytes().to_vec();
        bytes[0] = first;
        bytes.extend_from_slice(tail);
        bytes
    }

    #[test]
    fn what_was_written_is_read_back() {
        let bytes = datagram(0x80, b"voice");
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!(packet.header, HEADER);
        assert_eq!(packet.payload, b"voice");
    }

    #[test]
    fn contributors_extensions_and_padding_are_skipped() {
        let bytes = datagram(0x82, b"\0\0\0\x01\0\0\0\x02voice");
        assert_eq!(Packet::parse(&bytes).unwrap().payload, b"voice");
        let bytes = datagram(0x90, b"\xbe\xde\0\x01abcdvoice");
        assert_eq!(Packet::parse(&bytes).unwrap().payload, b"voice");
        let bytes = datagram(0xa0, b"voice\0\0\x03");
        assert_eq!(Packet::parse(&bytes).unwrap().payload, b"voice");
        let bytes = datagram(0xb1, b"\0\0\0\x01\xbe\xde\0\0voice\x01");
        assert_eq!(Packet::parse(&bytes).unwrap().payload, b"voice");
    }

    #[test]
    fn an_extension_element_longer_than_its_extension_is_no_harm() {
        let bytes = datagram(0x90, b"\xbe\xde\0\x01\0\0\0\x1f");
        assert_eq!(Packet::parse(&bytes).unwrap().payload, b"");
    }

    #[test]
    fn what_is_announced_must_be_there() {
        assert_eq!(Packet::parse(&[]), Err(RtpError::Short));
        assert_eq!(Packet::parse(&[0x80; 11]), Err(RtpError::Short));
        assert_eq!(
            Packet::parse(&datagram(0x82, &[0; 7])),
            Err(RtpError::Short)
        );
        assert_eq!(
            Packet::parse(&datagram(0x90, &[0; 3])),
            Err(RtpError::Short)
        );
        assert_eq!(
            Packet::parse(&datagram(0x90, &[0, 0, 0xff, 0xff])),
            Err(RtpError::Short)
        );
        assert_eq!(
            Packet::parse(&datagram(0x40, b"voice")),
            Err(RtpError::Version)
        );
        assert_eq!(Packet::parse(&datagram(0xa0, &[])), Err(RtpError::Padding));
        assert_eq!(
            Packet::parse(&datagram(0xa0, &[1, 0])),
            Err(RtpError::Padding)
        );
        assert_eq!(
            Packet::parse(&datagram(0xa0, &[1, 3])),
            Err(RtpError::Padding)
        );
    }

    #[test]
    fn control_packets_are_told_apart_on_a_shared_port() {
        assert!(is_control(&[0x81, 200, 0, 7]));
        assert!(is_control(&[0x81, 207]));
        assert!(!is_control(&[0x80, 0x80, 0, 7]));
        assert!(!is_control(&[0x80, 0x80 | 101, 0, 7]));
        assert!(!is_control(&[0x80]));
    }
}
