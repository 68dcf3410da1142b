//! One RTP session: a call's audio and digits, both ways.
//!
//! ```text
//!   datagram --receive()--> source --+--> sound --> jitter buffer --> concealment --pull()--> frame
//!                             |      +--> digits ----------------------------poll_digit()--> digit
//!                             +--> elsewhere: held back until a second packet confirms a new source
//!
//!   frame --send()--> encode, cut to the packet length --> datagrams
//!   digit --send_digit()--> events instead of sound, in the next calls of send()
//! ```

use std::time::{Duration, Instant};

use super::dtmf::{self, Digit, Event};
use super::jitter::{JitterBuffer, Outcome, PulledFrame};
use super::packet::{Header, Packet, is_control};
use super::rtcp::{self, ReportBlock, SenderInfo};
use super::source::{Candidate, Placed, Source};
use super::{HEADER_BYTES, RemoteReport, RtpError, Statistics};
use crate::audio::level::{AUDIBLE_DBFS, SILENCE_DBFS, rms_dbfs};
use crate::audio::tone::DtmfDigit;
use crate::audio::{Codec, FRAME_SAMPLES, Frame, PayloadKind, SampleRate};

/// The longest packet of sound that is taken: 200 ms.
const MOST_PAYLOAD: usize = 1_600;
/// RFC 3389 comfort noise at 8 kHz has this static payload type (RFC 3551 table 4).
const COMFORT_NOISE: u8 = 13;
/// Between two RTCP reports: RFC 3550 section 6.2 recommends at least 5 s.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);
/// Sent sender reports that are remembered to measure round trips.
const REMEMBERED_REPORTS: usize = 4;

/// What was negotiated about a stream. The names are those of the SDP module's outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamConfig {
    /// The codec to send.
    pub codec: Codec,
    /// The payload type to send it with.
    pub payload_type: u8,
    /// The payload type to send digits with; `None`: the peer takes none.
    pub telephone_event: Option<u8>,
    /// What the peer may send. The static types of G.711 are taken in any case.
    pub receive: Vec<(u8, PayloadKind)>,
    /// The packet length to send, in ms: 10, or a multiple of 20.
    pub ptime_ms: u8,
}

/// What a session starts from. The first three are drawn at random by the caller (RFC 3550
/// sections 5.1 and 8.1).
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// Our synchronisation source.
    pub ssrc: u32,
    /// Sequence number of the first packet sent.
    pub first_sequence: u16,
    /// Timestamp of the first frame.
    pub first_timestamp: u32,
    /// What was negotiated.
    pub stream: StreamConfig,
}

/// What a received datagram was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Received {
    /// Sound.
    Voice {
        /// Level of its loudest 20 ms.
        level_dbfs: f32,
        /// Its length.
        duration: Duration,
        /// Whether it will be heard.
        outcome: Outcome,
    },
    /// A key is pressed. The digit is reported once, by [`Session::poll_digit`].
    Digit {
        /// The key.
        digit: DtmfDigit,
        /// It is the first packet of this press.
        began: bool,
    },
    /// The peer is silent and says so (RFC 3389).
    ComfortNoise,
    /// RTCP on the shared port.
    Control {
        /// The peer said goodbye.
        goodbye: bool,
    },
    /// A repeated packet.
    Duplicate,
    /// Not of this stream, or of no known kind; counted.
    Ignored,
}

impl Received {
    /// Whether it is sound at or above the level from which a frame counts as audible.
    pub fn is_audible(&self) -> bool {
        matches!(self, Self::Voice { level_dbfs, .. } if *level_dbfs >= AUDIBLE_DBFS)
    }
}

/// A call's RTP, pure: datagrams and frames in and out, time handed in. Call
/// [`pull`](Self::pull) and [`send`](Self::send) once each 20 ms.
#[derive(Debug)]
pub struct Session {
    stream: StreamConfig,
    epoch: Option<Instant>,
    // receiving
    source: Option<Source>,
    candidate: Option<Candidate>,
    jitter: JitterBuffer,
    digits: dtmf::Receiver,
    /// Sources before the present one.
    past: Statistics,
    // sending
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    /// Encoded sound that does not fill a packet yet, and its timestamp.
    unsent: Vec<u8>,
    unsent_timestamp: u32,
    talking: bool,
    sending_digits: dtmf::Sender,
    datagram: Vec<u8>,
    sent_packets: u64,
    sent_octets: u64,
    // control
    next_report: Option<Instant>,
    sent_at_last_report: u64,
    own_reports: Vec<(u32, Instant)>,
    their_report: Option<(u64, Instant)>,
    remote: Option<RemoteReport>,
}

impl Session {
    /// A session that has neither sent nor received anything.
    pub fn new(config: SessionConfig) -> Self {
        Self {
            stream: config.stream,
            epoch: None,
            source: None,
            candidate: None,
            jitter: JitterBuffer::new(),
            digits: dtmf::Receiver::default(),
            past: Statistics::default(),
            ssrc: config.ssrc,
            sequence: config.first_sequence,
            timestamp: config.first_timestamp,
            unsent: Vec::new(),
            unsent_timestamp: config.first_timestamp,
            talking: false,
            sending_digits: dtmf::Sender::default(),
            datagram: Vec::new(),
            sent_packets: 0,
            sent_octets: 0,
            next_report: None,
            sent_at_last_report: 0,
            own_reports: Vec::new(),
            their_report: None,
            remote: None,
        }
    }

    /// Goes on with what a re-INVITE negotiated. Our numbers, and what was received, go on.
    pub fn reconfigure(&mut self, stream: StreamConfig) {
        if self.stream.codec != stream.codec {
            self.unsent.clear();
        }
        self.stream = stream;
    }

    /// Takes a datagram from the RTP port: RTP, or RTCP where the port is shared. Whether its
    /// sender's address may be trusted is the socket's business, decided before.
    ///
    /// # Errors
    /// [`RtpError`] for what is neither; it is counted and changes nothing else.
    pub fn receive(&mut self, now: Instant, datagram: &[u8]) -> Result<Received, RtpError> {
        if is_control(datagram) {
            return self.receive_control(now, datagram);
        }
        let packet = match Packet::parse(datagram) {
            Ok(packet) if packet.payload.len() <= MOST_PAYLOAD => packet,
            Ok(_) => return Err(self.malformed(RtpError::Long)),
            Err(error) => return Err(self.malformed(error)),
        };
        let arrival = self.samples_at(now);
        let Some((kind, placed)) = self.place(&packet, arrival) else {
            self.past.unknown_payload += 1;
            return Ok(Received::Ignored);
        };
        match placed {
            Placed::Here {
                sequence,
                timestamp,
                reordered,
            } => {
                self.candidate = None;
                self.past.reordered += u64::from(reordered);
                self.take(&packet, kind, (sequence, timestamp), arrival, now)
            }
            Placed::Duplicate => {
                self.past.duplicate += 1;
                Ok(Received::Duplicate)
            }
            Placed::Elsewhere => self.elsewhere(&packet, arrival, now, datagram),
        }
    }

    /// What a packet is and where it belongs; `None` for payload types that mean nothing.
    fn place(&mut self, packet: &Packet<'_>, arrival: i64) -> Option<(Kind, Placed)> {
        let kind = self.kind_of(packet.header.payload_type);
        let timed = matches!(kind, Some(Kind::Sound(_)));
        let header = &packet.header;
        let source = match (&mut self.source, kind) {
            (Some(source), _) => source,
            (None, Some(_)) => self.source.insert(Source::starting_with(header)),
            (None, None) => return None,
        };
        let placed = source.place(header, arrival, timed);
        Some((kind?, placed))
    }

    fn kind_of(&self, payload_type: u8) -> Option<Kind> {
        let negotiated = self
            .stream
            .receive
            .iter()
            .find(|(known, _)| *known == payload_type);
        match negotiated {
            Some((_, PayloadKind::Audio(codec))) => Some(Kind::Sound(*codec)),
            Some((_, PayloadKind::TelephoneEvent)) => Some(Kind::Event),
            None if payload_type == COMFORT_NOISE => Some(Kind::ComfortNoise),
            None => Codec::from_payload_type(payload_type).map(Kind::Sound),
        }
    }

    fn take(
        &mut self,
        packet: &Packet<'_>,
        kind: Kind,
        place: (i64, i64),
        arrival: i64,
        now: Instant,
    ) -> Result<Received, RtpError> {
        match kind {
            Kind::Sound(_) if packet.payload.is_empty() => Ok(Received::Ignored),
            Kind::Sound(codec) => {
                let mut samples = Vec::with_capacity(packet.payload.len());
                codec.decode(packet.payload, &mut samples);
                let level_dbfs = samples
                    .chunks(FRAME_SAMPLES)
                    .map(rms_dbfs)
                    .fold(SILENCE_DBFS, f32::max);
                let duration = SampleRate::TELEPHONE.duration_of(samples.len());
                let outcome = self.jitter.insert(place, samples, arrival, now);
                Ok(Received::Voice {
                    level_dbfs,
                    duration,
                    outcome,
                })
            }
            Kind::Event => {
                let Some(event) = Event::parse(packet.payload) else {
                    return Err(self.malformed(RtpError::Short));
                };
                self.jitter.sender_stopped();
                let seen = self
                    .digits
                    .receive(event, place.1, packet.header.marker, now);
                Ok(seen.map_or(Received::Ignored, |seen| Received::Digit {
                    digit: seen.digit,
                    began: seen.began,
                }))
            }
            Kind::ComfortNoise => {
                self.jitter.sender_stopped();
                Ok(Received::ComfortNoise)
            }
        }
    }

    /// A packet that does not fit the stream begins a new one if the next confirms it.
    fn elsewhere(
        &mut self,
        packet: &Packet<'_>,
        arrival: i64,
        now: Instant,
        datagram: &[u8],
    ) -> Result<Received, RtpError> {
        let confirmed = self
            .candidate
            .take_if(|candidate| candidate.is_confirmed_by(&packet.header, arrival));
        let Some(first) = confirmed else {
            self.past.stray += 1;
            self.candidate = Some(Candidate::new(packet.header, arrival, now, datagram));
            return Ok(Received::Ignored);
        };
        self.past.stray -= 1;
        self.past.sources += 1;
        self.settle_source();
        self.jitter.reset();
        self.digits.reset();
        self.source = Some(Source::starting_with(first.header()));
        // What it said itself is heard, but only the present packet is reported.
        let _first = self.receive(first.arrived, &first.datagram);
        self.receive(now, datagram)
    }

    /// Adds the present source's figures to those of the past, and forgets it.
    fn settle_source(&mut self) {
        if let Some(source) = self.source.take() {
            let reception = source.reception();
            self.past.received += reception.received;
            self.past.lost += reception.expected.saturating_sub(reception.received);
        }
    }

    fn malformed(&mut self, error: RtpError) -> RtpError {
        self.past.malformed += 1;
        error
    }

    /// The next 20 ms to be heard.
    pub fn pull(&mut self, now: Instant) -> PulledFrame {
        self.digits.tick(now);
        let now = self.samples_at(now);
        self.jitter.pull(now)
    }

    /// The next digit that was pressed: each once, after its end.
    pub fn poll_digit(&mut self) -> Option<Digit> {
        self.digits.poll()
    }

    /// Whether the peer is pressing a key now.
    pub fn is_digit_pressed(&self) -> bool {
        self.digits.is_pressed()
    }

    /// Sends 20 ms: sound, or nothing. `transmit` gets each datagram; there is none while a
    /// packet is not full, two where packets are 10 ms. The timestamp goes on in any case, and
    /// the first packet after a pause has the marker (RFC 3551 section 4.1). While a queued
    /// digit is being sent, it is sent instead of the sound.
    pub fn send(&mut self, frame: Option<&Frame>, mut transmit: impl FnMut(&[u8])) {
        let timestamp = self.timestamp;
        self.timestamp = timestamp.wrapping_add(FRAME_SAMPLES as u32);
        if let Some(payload_type) = self.stream.telephone_event
            && let Some(packet) = self.sending_digits.tick(timestamp)
        {
            self.send_unsent(1, &mut transmit);
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
                self.send_unsent(1, &mut transmit);
                self.talking = false;
            }
            Some(frame) => {
                if self.unsent.is_empty() {
                    self.unsent_timestamp = timestamp;
                }
                self.stream.codec.encode(frame.samples(), &mut self.unsent);
                let full = usize::from(self.stream.ptime_ms.clamp(10, 60)) * 8;
                self.send_unsent(full, &mut transmit);
            }
        }
    }

    /// Sends what was encoded in packets of `full` bytes (or what is left, where that is 1).
    fn send_unsent(&mut self, full: usize, transmit: &mut impl FnMut(&[u8])) {
        let unsent = std::mem::take(&mut self.unsent);
        let mut rest = unsent.as_slice();
        while rest.len() >= full {
            let length = if full == 1 { rest.len() } else { full };
            let (payload, after) = rest.split_at(length);
            let marker = !self.talking;
            let timestamp = self.unsent_timestamp;
            self.talking = true;
            self.unsent_timestamp = timestamp.wrapping_add(length as u32);
            self.transmit(
                marker,
                self.stream.payload_type,
                timestamp,
                payload,
                transmit,
            );
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
        self.sent_packets += 1;
        self.sent_octets += payload.len() as u64;
        self.datagram.clear();
        self.datagram.reserve(HEADER_BYTES + payload.len());
        self.datagram.extend_from_slice(&header.to_bytes());
        self.datagram.extend_from_slice(payload);
        transmit(&self.datagram);
    }

    /// Queues a digit to be sent for `duration` (at least 40 ms, in steps of 20 ms). `false`
    /// where the peer takes no events or too many digits wait.
    pub fn send_digit(&mut self, digit: DtmfDigit, duration: Duration) -> bool {
        self.stream.telephone_event.is_some() && self.sending_digits.queue(digit, duration)
    }

    /// Whether digits are being sent or wait to be.
    pub fn is_sending_digits(&self) -> bool {
        self.stream.telephone_event.is_some() && self.sending_digits.is_busy()
    }

    /// Takes a datagram from the RTCP port.
    ///
    /// # Errors
    /// [`RtpError::Control`] for what is not RTCP; it is counted and changes nothing else.
    pub fn receive_control(&mut self, now: Instant, datagram: &[u8]) -> Result<Received, RtpError> {
        let compound = rtcp::parse(datagram).map_err(|error| self.malformed(error))?;
        if let Some(ntp) = compound.sender_ntp {
            self.their_report = Some((ntp, now));
        }
        if let Some(block) = compound.blocks.iter().find(|block| block.ssrc == self.ssrc) {
            self.remote = Some(RemoteReport {
                fraction_lost: f32::from(block.fraction_lost) / 256.0,
                lost: block.lost,
                jitter: SampleRate::TELEPHONE.duration_of(block.jitter as usize),
                round_trip: self.round_trip(block, now),
            });
        }
        Ok(Received::Control {
            goodbye: compound.goodbye,
        })
    }

    /// RFC 3550 section 6.4.1: from our report to theirs, without the time they kept it.
    fn round_trip(&self, block: &ReportBlock, now: Instant) -> Option<Duration> {
        let sent = self
            .own_reports
            .iter()
            .find(|(id, _)| *id == block.last_report)?
            .1;
        let kept = Duration::from_secs(1) * (block.delay >> 16)
            + Duration::from_secs(1) * (block.delay & 0xffff) / 65_536;
        now.saturating_duration_since(sent).checked_sub(kept)
    }

    /// When [`poll_control`](Self::poll_control) next has a report.
    pub fn control_deadline(&self) -> Option<Instant> {
        self.next_report
    }

    /// A report to send to the peer's RTCP address, each 5 s from the first call on. `ntp` is
    /// the wall clock in NTP's format: seconds since 1900 in the upper 32 bits.
    pub fn poll_control(&mut self, now: Instant, ntp: u64) -> Option<Vec<u8>> {
        match self.next_report {
            // Two sides that start together should not report together (section 6.3.5).
            None => {
                self.next_report =
                    Some(now + REPORT_INTERVAL / 2 + REPORT_INTERVAL / 256 * (self.ssrc & 0x7f));
                None
            }
            Some(due) if now < due => None,
            Some(due) => {
                self.next_report = Some((due + REPORT_INTERVAL).max(now));
                Some(self.report(now, ntp, false))
            }
        }
    }

    /// The last report, with a goodbye, for when the call ends.
    pub fn goodbye(&mut self, now: Instant, ntp: u64) -> Vec<u8> {
        self.report(now, ntp, true)
    }

    fn report(&mut self, now: Instant, ntp: u64, goodbye: bool) -> Vec<u8> {
        let sends = self.sent_packets > self.sent_at_last_report;
        self.sent_at_last_report = self.sent_packets;
        let sender = sends.then_some(SenderInfo {
            ntp,
            rtp_timestamp: self.timestamp,
            packets: self.sent_packets as u32,
            octets: self.sent_octets as u32,
        });
        if sends {
            if self.own_reports.len() == REMEMBERED_REPORTS {
                self.own_reports.remove(0);
            }
            self.own_reports.push((middle(ntp), now));
        }
        let times = self.their_report.map(|(ntp, arrived)| {
            let kept = now.saturating_duration_since(arrived).as_micros() * 65_536 / 1_000_000;
            (middle(ntp), u32::try_from(kept).unwrap_or(u32::MAX))
        });
        let block = self.source.as_mut().map(|source| {
            let block = ReportBlock::about(&source.reception());
            source.reported();
            let (last_report, delay) = times.unwrap_or_default();
            ReportBlock {
                last_report,
                delay,
                ..block
            }
        });
        rtcp::write(self.ssrc, sender, block, goodbye)
    }

    /// What happened so far.
    pub fn statistics(&self) -> Statistics {
        let reception = self
            .source
            .as_ref()
            .map(Source::reception)
            .unwrap_or_default();
        let counters = self.jitter.counters();
        let duration = |samples: u64| SampleRate::TELEPHONE.duration_of(samples as usize);
        Statistics {
            received: self.past.received + reception.received,
            lost: self.past.lost + reception.expected.saturating_sub(reception.received),
            late: counters.late_packets,
            dropped: counters.dropped_packets,
            jitter: Duration::from_secs_f64(reception.jitter_samples / 8_000.0),
            target_delay: duration(self.jitter.target().unsigned_abs()),
            played: duration(counters.played),
            concealed: duration(counters.concealed),
            removed: duration(counters.removed),
            added: duration(counters.added),
            sent: self.sent_packets,
            remote: self.remote,
            ..self.past
        }
    }

    /// Samples at 8 kHz from the first call on.
    fn samples_at(&mut self, now: Instant) -> i64 {
        let epoch = *self.epoch.get_or_insert(now);
        let since = now.saturating_duration_since(epoch).as_micros();
        i64::try_from(since * 8 / 1_000).unwrap_or(i64::MAX / 4)
    }
}

/// The middle 32 bits of an NTP time (RFC 3550 section 6.4.1).
fn middle(ntp: u64) -> u32 {
    (ntp >> 16) as u32
}

/// What a payload type stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sound(Codec),
    Event,
    ComfortNoise,
}
