//! SIP messages as a packet capture: classic pcap, raw IP, with the headers below SIP made up
//! from what was kept. TLS is shown as TCP in the clear, and on port 5060 where it was 5061, or
//! else nothing would look for SIP in it.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};

use super::{SipDirection, SipMessage, SipTransport};

const MAGIC: u32 = 0xa1b2_c3d4;
/// Packets begin with an IP header.
const LINKTYPE_RAW: u32 = 101;
/// The most payload of one packet; a TCP message that is longer is cut into segments, a UDP one
/// cannot be.
const MOST: usize = 65_535 - 40 - 20;
const SEGMENT: usize = 1_400;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Writes a capture of messages in the order of their time.
///
/// # Errors
/// Where `out` fails.
pub fn write<'a>(
    out: &mut impl Write,
    messages: impl Iterator<Item = &'a SipMessage>,
) -> io::Result<()> {
    out.write_all(&MAGIC.to_le_bytes())?;
    out.write_all(&2u16.to_le_bytes())?;
    out.write_all(&4u16.to_le_bytes())?;
    // Offset from UTC, accuracy, longest packet, kind.
    for word in [0, 0, 65_535, LINKTYPE_RAW] {
        out.write_all(&word.to_le_bytes())?;
    }
    let mut sequences: HashMap<(SocketAddr, SocketAddr), u32> = HashMap::new();
    for message in messages {
        let (from, to) = match message.direction {
            SipDirection::Received => (message.peer, message.local),
            SipDirection::Sent => (message.local, message.peer),
        };
        match message.transport {
            SipTransport::Udp => {
                let payload = &message.bytes[..message.bytes.len().min(MOST)];
                packet(out, message, from, to, UDP, &udp(from, to, payload))?;
            }
            SipTransport::Tcp | SipTransport::Tls => {
                let (from, to) = (in_clear(message, from), in_clear(message, to));
                for payload in message.bytes.chunks(SEGMENT) {
                    let acknowledged = *sequences.entry((to, from)).or_insert(1);
                    let sequence = sequences.entry((from, to)).or_insert(1);
                    let segment = tcp(from, to, *sequence, acknowledged, payload);
                    *sequence = sequence.wrapping_add(length(payload));
                    packet(out, message, from, to, TCP, &segment)?;
                }
            }
        }
    }
    Ok(())
}

fn in_clear(message: &SipMessage, address: SocketAddr) -> SocketAddr {
    match (message.transport, address.port()) {
        (SipTransport::Tls, 5061) => SocketAddr::new(address.ip(), 5060),
        _ => address,
    }
}

fn packet(
    out: &mut impl Write,
    message: &SipMessage,
    from: SocketAddr,
    to: SocketAddr,
    protocol: u8,
    payload: &[u8],
) -> io::Result<()> {
    let header = ip(from.ip(), to.ip(), protocol, payload);
    let seconds = u32::try_from(message.at.unix_timestamp()).unwrap_or_default();
    let size = length(&header) + length(payload);
    for word in [seconds, message.at.microsecond(), size, size] {
        out.write_all(&word.to_le_bytes())?;
    }
    out.write_all(&header)?;
    out.write_all(payload)
}

/// Both addresses in the form of the same family.
enum Addresses {
    V4([u8; 4], [u8; 4]),
    V6([u8; 16], [u8; 16]),
}

fn addresses(from: IpAddr, to: IpAddr) -> Addresses {
    let wide = |address: IpAddr| match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    };
    match (from.to_canonical(), to.to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => Addresses::V4(from.octets(), to.octets()),
        (from, to) => Addresses::V6(wide(from), wide(to)),
    }
}

fn ip(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    match addresses(from, to) {
        Addresses::V4(from, to) => {
            let total = u16::try_from(payload.len() + 20).unwrap_or(u16::MAX);
            let mut header = vec![0x45, 0];
            header.extend(total.to_be_bytes());
            // Identification, don't fragment, time to live.
            header.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
            header.extend(from);
            header.extend(to);
            let sum = checksum(&[&header]);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            header
        }
        Addresses::V6(from, to) => {
            let size = u16::try_from(payload.len()).unwrap_or(u16::MAX);
            let mut header = vec![0x60, 0, 0, 0];
            header.extend(size.to_be_bytes());
            header.extend([protocol, 64]);
            header.extend(from);
            header.extend(to);
            header
        }
    }
}

fn udp(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let size = u16::try_from(payload.len() + 8).unwrap_or(u16::MAX);
    let mut datagram = Vec::with_capacity(payload.len() + 8);
    datagram.extend(from.port().to_be_bytes());
    datagram.extend(to.port().to_be_bytes());
    datagram.extend(size.to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    // Zero would say that there is no checksum.
    let sum = match transport_checksum(from, to, UDP, &datagram) {
        0 => 0xffff,
        sum => sum,
    };
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    datagram
}

fn tcp(
    from: SocketAddr,
    to: SocketAddr,
    sequence: u32,
    acknowledged: u32,
    payload: &[u8],
) -> Vec<u8> {
    let mut segment = Vec::with_capacity(payload.len() + 20);
    segment.extend(from.port().to_be_bytes());
    segment.extend(to.port().to_be_bytes());
    segment.extend(sequence.to_be_bytes());
    segment.extend(acknowledged.to_be_bytes());
    // Header of five words, PSH and ACK, full window, checksum, no urgent data.
    segment.extend([0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(payload);
    let sum = transport_checksum(from, to, TCP, &segment);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    segment
}

fn transport_checksum(from: SocketAddr, to: SocketAddr, protocol: u8, segment: &[u8]) -> u16 {
    let tail = [0, protocol];
    let size = length(segment).to_be_bytes();
    match addresses(from.ip(), to.ip()) {
        Addresses::V4(from, to) => checksum(&[&from, &to, &tail, &size, segment]),
        Addresses::V6(from, to) => checksum(&[&from, &to, &tail, &size, segment]),
    }
}

/// RFC 1071. Every part but the last has an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for pair in parts.iter().flat_map(|part| part.chunks(2)) {
        let word = [pair[0], pair.get(1).copied().unwrap_or_default()];
        sum += u32::from(u16::from_be_bytes(word));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // Folded above.
    !(sum as u16)
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;

    fn message(transport: SipTransport, peer: &str, bytes: &[u8]) -> SipMessage {
        SipMessage {
            at: OffsetDateTime::UNIX_EPOCH + time::Duration::microseconds(3_000_007),
            direction: SipDirection::Received,
            transport,
            local: "192.0.2.1:5061".parse().expect("address"),
            peer: peer.parse().expect("address"),
            bytes: bytes.to_vec(),
        }
    }

    /// Each packet's time and bytes.
    fn packets(messages: &[SipMessage]) -> Vec<(u32, u32, Vec<u8>)> {
        let mut file = Vec::new();
        write(&mut file, messages.iter()).expect("memory");
        assert_eq!(file[..4], MAGIC.to_le_bytes());
        let mut rest = &file[24..];
        let mut found = Vec::new();
        let word = |at: &[u8]| u32::from_le_bytes(at[..4].try_into().expect("4"));
        while !rest.is_empty() {
            let size = word(&rest[8..]) as usize;
            found.push((word(rest), word(&rest[4..]), rest[16..16 + size].to_vec()));
            rest = &rest[16 + size..];
        }
        found
    }

    #[test]
    fn a_datagram_has_headers_whose_sums_are_right() {
        let all = packets(&[message(SipTransport::Udp, "198.51.100.7:5070", b"INVITE x")]);
        let (seconds, microseconds, packet) = &all[0];
        assert_eq!((*seconds, *microseconds), (3, 7));
        assert_eq!(packet.len(), 20 + 8 + 8);
        assert_eq!(checksum(&[&packet[..20]]), 0);
        let pseudo = [&packet[12..20], &[0, UDP, 0, 16]].concat();
        assert_eq!(checksum(&[&pseudo, &packet[20..]]), 0);
        assert_eq!(&packet[12..16], [198, 51, 100, 7]);
        assert_eq!(&packet[28..], b"INVITE x");
    }

    #[test]
    fn tls_is_a_stream_in_the_clear_cut_into_segments_that_follow_each_other() {
        let long = vec![b'x'; SEGMENT + 5];
        let all = packets(&[
            message(SipTransport::Tls, "[2001:db8::7]:40000", &long),
            message(SipTransport::Tls, "[2001:db8::7]:40000", b"BYE"),
        ]);
        assert_eq!(all.len(), 3);
        let sequence = |at: usize| u32::from_be_bytes(all[at].2[44..48].try_into().expect("4"));
        assert_eq!(
            [sequence(0), sequence(1), sequence(2)],
            [1, 1 + SEGMENT as u32, 6 + SEGMENT as u32]
        );
        assert_eq!(all[0].2[42..44], 5060u16.to_be_bytes());
    }

    #[test]
    fn the_largest_datagram_still_fits() {
        let all = packets(&[message(
            SipTransport::Udp,
            "198.51.100.7:5070",
            &[b'x'; 65_507],
        )]);
        assert!(all[0].2.len() <= 65_535);
    }
}
