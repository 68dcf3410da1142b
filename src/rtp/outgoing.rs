//! The sending half of a session: sound and digits into packets.

use std::time::Duration;

use super::HEADER_BYTES;
use super::dtmf;
use super::packet::Header;
use super::session::StreamConfig;
use crate::audio::tone::DtmfDigit;
use crate::audio::{AnyFrame, Codec, Encoder, Frame};

/// Our stream.
#[derive(Debug)]
pub(super) struct Outgoing {
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    codec: Codec,
    encoder: Encoder,
    /// Sound that does not fill a packet yet, and its timestamp.
    unsent: Vec<i16>,
    unsent_timestamp: u32,
    talking: bool,
    digits: dtmf::Sender,
    payload: Vec<u8>,
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
    pub(super) fn new(codec: Codec, ssrc: u32, first_sequence: u16, first_timestamp: u32) -> Self {
        Self {
            ssrc,
            sequence: first_sequence,
            timestamp: first_timestamp,
            codec,
            encoder: Encoder::new(codec),
            unsent: Vec::new(),
            unsent_timestamp: first_timestamp,
            talking: false,
            digits: dtmf::Sender::default(),
            payload: Vec::new(),
            datagram: Vec::new(),
            packets: 0,
            octets: 0,
        }
    }

    /// Goes on in another codec, without what did not fill a packet yet.
    pub(super) fn change_codec(&mut self, codec: Codec) {
        self.unsent.clear();
        self.codec = codec;
        self.encoder = Encoder::new(codec);
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

    /// Sends 20 ms: a digit, else the frame, which has the codec's rate, else nothing.
    pub(super) fn send(
        &mut self,
        stream: &StreamConfig,
        frame: Option<&AnyFrame>,
        mut transmit: impl FnMut(&[u8]),
    ) {
        let timestamp = self.timestamp;
        self.timestamp = timestamp.wrapping_add(self.units(self.frame_samples()));
        if let Some((payload_type, clock)) = stream.events()
            && let Some(packet) = self.digits.tick(timestamp)
        {
            self.send_unsent(stream.payload_type, None, &mut transmit);
            self.talking = false;
            let payload = packet.event.to_bytes(clock);
            self.transmit(
                packet.marker,
                payload_type,
                packet.timestamp,
                &payload,
                &mut transmit,
            );
            return;
        }
        let fitting = frame.filter(|frame| frame.rate() == self.codec.sample_rate());
        match fitting {
            None => {
                self.send_unsent(stream.payload_type, None, &mut transmit);
                self.talking = false;
            }
            Some(frame) => {
                if self.unsent.is_empty() {
                    self.unsent_timestamp = timestamp;
                }
                self.unsent.extend_from_slice(frame.samples());
                let ms = usize::from(stream.ptime_ms.clamp(10, 60));
                let full = self.frame_samples() * ms / Frame::DURATION.as_millis() as usize;
                self.send_unsent(stream.payload_type, Some(full), &mut transmit);
            }
        }
    }

    /// Samples of 20 ms.
    fn frame_samples(&self) -> usize {
        self.codec.sample_rate().samples_in(Frame::DURATION)
    }

    /// By how much the timestamp grows over so many samples.
    fn units(&self, samples: usize) -> u32 {
        let clock = u64::from(self.codec.clock_rate().hz());
        let units = samples as u64 * clock / u64::from(self.codec.sample_rate().hz());
        units as u32 // modulo 2^32, as timestamps are
    }

    /// Sends what waits in packets of `full` samples, or all of it in one.
    fn send_unsent(
        &mut self,
        payload_type: u8,
        full: Option<usize>,
        transmit: &mut impl FnMut(&[u8]),
    ) {
        let unsent = std::mem::take(&mut self.unsent);
        let mut rest = unsent.as_slice();
        while let Some((samples, after)) = rest.split_at_checked(full.unwrap_or(rest.len()))
            && !samples.is_empty()
        {
            let mut payload = std::mem::take(&mut self.payload);
            payload.clear();
            self.encoder.encode(samples, &mut payload);
            let marker = !self.talking;
            let timestamp = self.unsent_timestamp;
            self.talking = true;
            self.unsent_timestamp = timestamp.wrapping_add(self.units(samples.len()));
            self.transmit(marker, payload_type, timestamp, &payload, transmit);
            self.payload = payload;
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
