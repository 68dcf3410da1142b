//! The sending half of a session: sound and digits into packets.

use std::time::Duration;

use super::HEADER_BYTES;
use super::dtmf;
use super::packet::Header;
use super::session::StreamConfig;
use crate::audio::tone::DtmfDigit;
use crate::audio::{FRAME_SAMPLES, Frame};

/// Our stream.
#[derive(Debug)]
pub(super) struct Outgoing {
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    /// Encoded sound that does not fill a packet yet, and its timestamp.
    unsent: Vec<u8>,
    unsent_timestamp: u32,
    talking: bool,
    digits: dtmf::Sender,
    datagram: Vec<u8>,
    packets: u64,
    octets: u64,
}

/// What a sender report says of what was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    /// Of the next frame.
    pub(super) rtp_timestamp: u32,
    pub(super) packets: u64,
    pub(super) octets: u64,
}

impl Outgoing {
    pub(super) fn new(ssrc: u32, first_sequence: u16, first_timestamp: u32) -> Self {
        Self {
            ssrc,
            sequence: first_sequence,
            timestamp: first_timestamp,
            unsent: Vec::new(),
            unsent_timestamp: first_timestamp,
            talking: false,
            digits: dtmf::Sender::default(),
            datagram: Vec::new(),
            packets: 0,
            octets: 0,
        }
    }

    /// Forgets what was encoded for a codec that is left.
    pub(super) fn codec_changes(&mut self) {
        self.unsent.clear();
    }

    pub(super) fn packets(&self) -> u64 {
        self.packets
    }

    pub(super) fn sent(&self) -> Sent {
        Sent {
            rtp_timestamp: self.timestamp,
            packets: self.packets,
            octets: self.octets,
        }
    }

    /// Queues a digit; `false` where too many wait.
    pub(super) fn queue_digit(&mut self, digit: DtmfDigit, duration: Duration) -> bool {
        self.digits.queue(digit, duration)
    }

    pub(super) fn is_sending_digits(&self) -> bool {
        self.digits.is_busy()
    }

    /// Sends 20 ms: a digit, else the frame, else nothing.
    pub(super) fn send(
        &mut self,
        stream: &StreamConfig,
        frame: Option<&Frame>,
        mut transmit: impl FnMut(&[u8]),
    ) {
        let timestamp = self.timestamp;
        self.timestamp = timestamp.wrapping_add(FRAME_SAMPLES as u32);
        if let Some(payload_type) = stream.telephone_event
            && let Some(packet) = self.digits.tick(timestamp)
        {
            self.send_unsent(stream.payload_type, 1, &mut transmit);
            self.talking = false;
            let payload = packet.event.to_bytes();
            self.transmit(
                packet.marker,
                payload_type,
                packet.timestamp,
                &payload,
                &mut transmit,
            );
            return;
        }
        match frame {
            None => {
                self.send_unsent(stream.payload_type, 1, &mut transmit);
                self.talking = false;
            }
            Some(frame) => {
                if self.unsent.is_empty() {
                    self.unsent_timestamp = timestamp;
                }
                stream.codec.encode(frame.samples(), &mut self.unsent);
                let full = usize::from(stream.ptime_ms.clamp(10, 60)) * 8;
                self.send_unsent(stream.payload_type, full, &mut transmit);
            }
        }
    }

    /// Sends what was encoded in packets of `full` bytes (or what is left, where that is 1).
    fn send_unsent(&mut self, payload_type: u8, full: usize, transmit: &mut impl FnMut(&[u8])) {
        let unsent = std::mem::take(&mut self.unsent);
        let mut rest = unsent.as_slice();
        while rest.len() >= full {
            let length = if full == 1 { rest.len() } else { full };
            let (payload, after) = rest.split_at(length);
            let marker = !self.talking;
            let timestamp = self.unsent_timestamp;
            self.talking = true;
            self.unsent_timestamp = timestamp.wrapping_add(length as u32);
            self.transmit(marker, payload_type, timestamp, payload, transmit);
            rest = after;
        }
        let sent = unsent.len() - rest.len();
        self.unsent = unsent;
        self.unsent.drain(..sent);
    }

    fn transmit(
        &mut self,
        marker: bool,
        payload_type: u8,
        timestamp: u32,
        payload: &[u8],
        transmit: &mut impl FnMut(&[u8]),
    ) {
        let header = Header {
            marker,
            payload_type,
            sequence: self.sequence,
            timestamp,
            ssrc: self.ssrc,
        };
        self.sequence = self.sequence.wrapping_add(1);
        self.packets += 1;
        self.octets += payload.len() as u64;
        self.datagram.clear();
        self.datagram.reserve(HEADER_BYTES + payload.len());
        self.datagram.extend_from_slice(&header.to_bytes());
        self.datagram.extend_from_slice(payload);
        transmit(&self.datagram);
    }
}
