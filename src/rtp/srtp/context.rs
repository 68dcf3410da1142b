//! One direction's keys and state (RFC 3711 section 3.2).

use std::fmt;

use aes::Aes128;
use ctr::cipher::{InnerIvInit, KeyInit as _, StreamCipher};
use ctr::{Ctr128BE, CtrCore};
use hmac::{Hmac, Mac};
use sha1::Sha1;

use super::super::packet;
use super::index::Position;
use super::{MasterKey, RtpError, Tag};

/// AES in counter mode, from this counter on.
fn counter_mode(cipher: &Aes128, counter: [u8; 16]) -> Ctr128BE<Aes128> {
    Ctr128BE::from_core(CtrCore::inner_iv_init(cipher.clone(), &counter.into()))
}

/// Streams with a state of their own; the oldest is forgotten for the next. A telephone has one.
const MOST_STREAMS: usize = 4;
/// Header of RTCP that stays in the clear: the first report's, with its SSRC.
const CONTROL_HEADER: usize = 8;
/// Marks encrypted RTCP, before its index.
const ENCRYPTED: u32 = 1 << 31;
/// RTCP's tag (RFC 4568 section 6.2.2).
const CONTROL_TAG: usize = 10;

/// The keys of one kind of packet.
#[derive(Clone)]
struct Session {
    cipher: Aes128,
    salt: [u8; 16],
    mac: Hmac<Sha1>,
}

/// One direction.
#[derive(Clone)]
pub(super) struct Context {
    rtp: Session,
    rtcp: Session,
    tag: usize,
    streams: Vec<(u32, Position)>,
    control: Vec<(u32, Position)>,
    /// Of the last RTCP packet sent.
    control_index: u32,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").finish_non_exhaustive()
    }
}

impl Session {
    /// Derives the keys with these labels (RFC 3711 section 4.3): cipher, tag, salt.
    fn derive(master: &MasterKey, labels: [u8; 3]) -> Self {
        let [cipher, mac, salt] = labels;
        let cipher: [u8; 16] = derived(master, cipher);
        let mac: [u8; 20] = derived(master, mac);
        let salt_bytes: [u8; 14] = derived(master, salt);
        let mut salt = [0; 16];
        salt[..14].copy_from_slice(&salt_bytes);
        Self {
            cipher: Aes128::new(&cipher.into()),
            salt,
            mac: keyed(&mac),
        }
    }

    /// En- or decrypts (RFC 3711 section 4.1.1).
    fn apply(&self, ssrc: u32, index: u64, bytes: &mut [u8]) {
        let mut counter = self.salt;
        xor(&mut counter[4..8], &ssrc.to_be_bytes());
        xor(&mut counter[8..14], &index.to_be_bytes()[2..]);
        counter_mode(&self.cipher, counter).apply_keystream(bytes);
    }
}

#[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
fn keyed(key: &[u8]) -> Hmac<Sha1> {
    Hmac::new_from_slice(key).expect("any length")
}

fn xor(bytes: &mut [u8], with: &[u8]) {
    for (byte, with) in bytes.iter_mut().zip(with) {
        *byte ^= with;
    }
}

/// AES in counter mode as a generator of keys.
fn derived<const N: usize>(MasterKey(master): &MasterKey, label: u8) -> [u8; N] {
    let (key, salt) = master.split_at(16);
    let mut counter = [0; 16];
    counter[..14].copy_from_slice(salt);
    counter[7] ^= label;
    let mut key_bytes = [0; 16];
    key_bytes.copy_from_slice(key);
    let mut bytes = [0; N];
    counter_mode(&Aes128::new(&key_bytes.into()), counter).apply_keystream(&mut bytes);
    bytes
}

impl Context {
    pub(super) fn new(master: &MasterKey, tag: Tag) -> Self {
        Self {
            rtp: Session::derive(master, [0, 1, 2]),
            rtcp: Session::derive(master, [3, 4, 5]),
            tag: tag.bytes(),
            streams: Vec::new(),
            control: Vec::new(),
            control_index: 0,
        }
    }

    /// A context under a new key that knows how far the streams were.
    pub(super) fn successor(&self, master: &MasterKey, tag: Tag) -> Self {
        let hinted = |(ssrc, before): &(u32, Position)| (*ssrc, Position::hinted(before));
        Self {
            streams: self.streams.iter().map(hinted).collect(),
            ..Self::new(master, tag)
        }
    }

    /// Opens an RTP packet. Nothing is remembered of one that is not authentic.
    pub(super) fn open(&mut self, datagram: &[u8]) -> Result<Vec<u8>, RtpError> {
        let tag_at = datagram.len().checked_sub(self.tag);
        let (packet, tag) = datagram.split_at(tag_at.ok_or(RtpError::Short)?);
        let outline = packet::Outline::of(packet)?;
        let known = position(&self.streams, outline.ssrc);
        let fresh = Position::default();
        let stream = known.unwrap_or(&fresh);
        let authentic = |index: &u64| {
            let mut mac = self.rtp.mac.clone();
            mac.update(packet);
            mac.update(&wraps(*index).to_be_bytes());
            mac.verify_truncated_left(tag).is_ok()
        };
        let likely = stream.index_of(outline.sequence);
        let index = std::iter::once(likely)
            .chain(stream.alternative(outline.sequence))
            .find(authentic)
            .ok_or(RtpError::Authentication)?;
        if stream.is_replayed(index) {
            return Err(RtpError::Replayed);
        }
        let mut opened = packet.to_vec();
        self.rtp
            .apply(outline.ssrc, index, &mut opened[outline.payload..]);
        position_mut(&mut self.streams, outline.ssrc).received(index);
        Ok(opened)
    }

    /// Seals an RTP packet of ours in place.
    pub(super) fn seal(&mut self, packet: &mut Vec<u8>) -> Result<(), RtpError> {
        let outline = packet::Outline::of(packet)?;
        let stream = position_mut(&mut self.streams, outline.ssrc);
        let index = stream.index_of(outline.sequence);
        stream.received(index);
        self.rtp
            .apply(outline.ssrc, index, &mut packet[outline.payload..]);
        let mut mac = self.rtp.mac.clone();
        mac.update(packet);
        mac.update(&wraps(index).to_be_bytes());
        packet.extend_from_slice(&mac.finalize().into_bytes()[..self.tag]);
        Ok(())
    }

    /// Opens an RTCP packet (RFC 3711 section 3.4).
    pub(super) fn open_control(&mut self, datagram: &[u8]) -> Result<Vec<u8>, RtpError> {
        let tag_at = datagram.len().checked_sub(CONTROL_TAG);
        let (signed, tag) = datagram.split_at(tag_at.ok_or(RtpError::Control)?);
        let (packet, index) = signed.split_last_chunk::<4>().ok_or(RtpError::Control)?;
        let ssrc = control_ssrc(packet)?;
        let mut mac = self.rtcp.mac.clone();
        mac.update(signed);
        mac.verify_truncated_left(tag)
            .map_err(|_| RtpError::Authentication)?;
        let word = u32::from_be_bytes(*index);
        let index = u64::from(word & !ENCRYPTED);
        let stream = position_mut(&mut self.control, ssrc);
        if stream.is_replayed(index) {
            return Err(RtpError::Replayed);
        }
        stream.received(index);
        let mut opened = packet.to_vec();
        if word & ENCRYPTED != 0 {
            self.rtcp.apply(ssrc, index, &mut opened[CONTROL_HEADER..]);
        }
        Ok(opened)
    }

    /// Seals an RTCP packet of ours in place.
    pub(super) fn seal_control(&mut self, packet: &mut Vec<u8>) -> Result<(), RtpError> {
        let ssrc = control_ssrc(packet)?;
        self.control_index = self.control_index.wrapping_add(1) & !ENCRYPTED;
        let index = self.control_index;
        self.rtcp
            .apply(ssrc, u64::from(index), &mut packet[CONTROL_HEADER..]);
        packet.extend_from_slice(&(ENCRYPTED | index).to_be_bytes());
        let mut mac = self.rtcp.mac.clone();
        mac.update(packet);
        packet.extend_from_slice(&mac.finalize().into_bytes()[..CONTROL_TAG]);
        Ok(())
    }

    /// The first bytes that a counter of a packet yields, for the standard's vectors.
    #[cfg(test)]
    pub(super) fn session_keys(master: &MasterKey) -> ([u8; 16], [u8; 20], [u8; 14]) {
        (derived(master, 0), derived(master, 1), derived(master, 2))
    }
}

/// The rollover counter of a packet index.
fn wraps(index: u64) -> u32 {
    (index >> 16) as u32
}

fn control_ssrc(packet: &[u8]) -> Result<u32, RtpError> {
    match *packet {
        [_, _, _, _, a, b, c, d, ..] => Ok(u32::from_be_bytes([a, b, c, d])),
        _ => Err(RtpError::Control),
    }
}

fn position(streams: &[(u32, Position)], ssrc: u32) -> Option<&Position> {
    let mut found = streams.iter().filter(|(known, _)| *known == ssrc);
    found.next().map(|(_, position)| position)
}

/// The state of a stream whose packet was authentic, new where it is the first.
fn position_mut(streams: &mut Vec<(u32, Position)>, ssrc: u32) -> &mut Position {
    let known = streams.iter().position(|(known, _)| *known == ssrc);
    let at = known.unwrap_or_else(|| {
        if streams.len() == MOST_STREAMS {
            streams.remove(0);
        }
        streams.push((ssrc, Position::default()));
        streams.len() - 1
    });
    &mut streams[at].1
}
