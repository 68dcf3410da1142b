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

use super::conceal::DELAY_SAMPLES;
use super::control::{Control, Moment};
use super::delay::MOST_TARGET;
use super::dtmf::{self, Digit, Event};
use super::jitter::{JitterBuffer, Outcome, PulledFrame};
use super::outgoing::Outgoing;
use super::packet::{Packet, is_control};
use super::quality::{Measured, Quality};
use super::rtcp::VoipMetrics;
use super::source::{Candidate, Placed, Source};
use super::srtp::{Srtp, SrtpKeys};
use super::{RtpError, Statistics};
use crate::audio::level::{AUDIBLE_DBFS, SILENCE_DBFS, rms_dbfs};
use crate::audio::tone::DtmfDigit;
use crate::audio::{Codec, FRAME_SAMPLES, Frame, PayloadKind, SampleRate};

/// The longest packet of sound that is taken: 200 ms.
const MOST_PAYLOAD: usize = 1_600;
/// RFC 3389 comfort noise at 8 kHz has this static payload type (RFC 3551 table 4).
const COMFORT_NOISE: u8 = 13;
/// What concealment needs to look back: 3.75 ms.
const CONCEALMENT_DELAY: Duration = Duration::from_micros(DELAY_SAMPLES as u64 * 125);

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
    /// The peer asked for VoIP metrics (RFC 3611) in our reports.
    pub voip_metrics: bool,
    /// The keys of both directions; `None` where media is in the clear. Where they are there,
    /// nothing is sent or taken without them.
    pub srtp: Option<SrtpKeys>,
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
    srtp: Option<Srtp>,
    epoch: Option<Instant>,
    // receiving
    source: Option<Source>,
    candidate: Option<Candidate>,
    jitter: JitterBuffer,
    digits: dtmf::Receiver,
    /// Sources before the present one.
    past: Statistics,
    outgoing: Outgoing,
    control: Control,
}

impl Session {
    /// A session that has neither sent nor received anything.
    pub fn new(config: SessionConfig) -> Self {
        Self {
            srtp: config.stream.srtp.map(Srtp::new),
            stream: config.stream,
            epoch: None,
            source: None,
            candidate: None,
            jitter: JitterBuffer::new(),
            digits: dtmf::Receiver::default(),
            past: Statistics::default(),
            outgoing: Outgoing::new(config.ssrc, config.first_sequence, config.first_timestamp),
            control: Control::new(config.ssrc),
        }
    }

    /// Goes on with what a re-INVITE negotiated. Our numbers, and what was received, go on.
    pub fn reconfigure(&mut self, stream: StreamConfig) {
        if self.stream.codec != stream.codec {
            self.outgoing.codec_changes();
        }
        match (&mut self.srtp, stream.srtp) {
            (Some(srtp), Some(keys)) => srtp.rekey(keys),
            (_, keys) => self.srtp = keys.map(Srtp::new),
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
        match self.opened(now, datagram, false)? {
            Opened::Clear => self.receive_clear(now, datagram),
            Opened::Sealed(packet) => self.receive_clear(now, &packet),
            Opened::Repeated => Ok(Received::Duplicate),
        }
    }

    /// Takes the seal off a datagram, where the stream has one.
    fn opened(
        &mut self,
        now: Instant,
        datagram: &[u8],
        is_control: bool,
    ) -> Result<Opened, RtpError> {
        let Some(srtp) = &mut self.srtp else {
            return Ok(Opened::Clear);
        };
        match srtp.unprotect(now, datagram, is_control) {
            Ok(packet) => Ok(Opened::Sealed(packet)),
            Err(RtpError::Replayed) => {
                self.past.duplicate += 1;
                Ok(Opened::Repeated)
            }
            Err(error) => {
                self.past.unauthentic += 1;
                Err(error)
            }
        }
    }

    fn receive_clear(&mut self, now: Instant, datagram: &[u8]) -> Result<Received, RtpError> {
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
        let _first = self.receive_clear(first.arrived, &first.datagram);
        self.receive_clear(now, datagram)
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
        let Some(srtp) = &mut self.srtp else {
            return self.outgoing.send(&self.stream, frame, transmit);
        };
        self.outgoing.send(&self.stream, frame, |packet| {
            let mut sealed = packet.to_vec();
            if srtp.protect(&mut sealed).is_ok() {
                transmit(&sealed);
            }
        });
    }

    /// Queues a digit to be sent for `duration` (at least 40 ms, in steps of 20 ms). `false`
    /// where the peer takes no events or too many digits wait.
    pub fn send_digit(&mut self, digit: DtmfDigit, duration: Duration) -> bool {
        self.stream.telephone_event.is_some() && self.outgoing.queue_digit(digit, duration)
    }

    /// Whether digits are being sent or wait to be.
    pub fn is_sending_digits(&self) -> bool {
        self.stream.telephone_event.is_some() && self.outgoing.is_sending_digits()
    }

    /// Takes a datagram from the RTCP port.
    ///
    /// # Errors
    /// [`RtpError::Control`] for what is not RTCP; it is counted and changes nothing else.
    pub fn receive_control(&mut self, now: Instant, datagram: &[u8]) -> Result<Received, RtpError> {
        let opened = match self.opened(now, datagram, true)? {
            Opened::Clear => None,
            Opened::Sealed(report) => Some(report),
            Opened::Repeated => return Ok(Received::Duplicate),
        };
        let report = opened.as_deref().unwrap_or(datagram);
        let goodbye = self
            .control
            .receive(now, report, self.outgoing.packets())
            .map_err(|error| self.malformed(error))?;
        Ok(Received::Control { goodbye })
    }

    /// When [`poll_control`](Self::poll_control) next has a report.
    pub fn control_deadline(&self) -> Option<Instant> {
        self.control.deadline()
    }

    /// A report to send to the peer's RTCP address, about each 5 s from the first call on (RFC
    /// 3550 section 6.3). `ntp` is the wall clock in NTP's format: seconds since 1900 in the
    /// upper 32 bits.
    pub fn poll_control(&mut self, now: Instant, ntp: u64) -> Option<Vec<u8>> {
        self.control
            .is_due(now)
            .then(|| self.report(now, ntp, false))
            .flatten()
    }

    /// The last report, with a goodbye, for when the call ends.
    pub fn goodbye(&mut self, now: Instant, ntp: u64) -> Option<Vec<u8>> {
        self.report(now, ntp, true)
    }

    fn report(&mut self, now: Instant, ntp: u64, goodbye: bool) -> Option<Vec<u8>> {
        let voip = self.stream.voip_metrics.then(|| self.voip_metrics());
        let moment = Moment { now, ntp };
        let sent = self.outgoing.sent();
        let source = self.source.as_mut();
        let mut report = self
            .control
            .report(moment, sent, source, voip.flatten(), goodbye);
        let sealed = self.srtp.as_mut();
        sealed
            .map_or(Ok(()), |srtp| srtp.protect_control(&mut report))
            .ok()
            .map(|()| report)
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
            sent: self.outgoing.packets(),
            remote: self.control.remote(),
            ..self.past
        }
    }

    /// How good both directions are so far.
    pub fn quality(&self) -> Quality {
        let statistics = self.statistics();
        let remote = statistics.remote;
        let round_trip = remote.and_then(|remote| remote.round_trip);
        let under_way = round_trip.unwrap_or_default() / 2;
        let packet = Duration::from_millis(u64::from(self.stream.ptime_ms));
        let expected = statistics.received + statistics.lost;
        let bursts = self.source.as_ref().map(Source::bursts).unwrap_or_default();
        let share = statistics.lost as f64 / expected.max(1) as f64;
        let heard = Measured {
            codec: self.stream.codec,
            expected,
            lost: statistics.lost,
            discarded: statistics.late + statistics.dropped,
            burst_ratio: bursts.ratio(share),
            jitter: statistics.jitter,
            delay: under_way + packet + statistics.target_delay + CONCEALMENT_DELAY,
        };
        let spoken = remote.map(|remote| Measured {
            codec: self.stream.codec,
            expected: remote.sent,
            lost: u64::try_from(remote.lost).unwrap_or(0),
            discarded: remote.discarded,
            burst_ratio: 1.0,
            jitter: remote.jitter,
            // A peer that does not say so is taken to wait for twice its jitter.
            delay: under_way + packet + remote.playout.unwrap_or(remote.jitter * 2),
        });
        Quality {
            heard: (expected > 0).then(|| heard.rated()),
            spoken: spoken.map(Measured::rated),
            round_trip,
        }
    }

    fn voip_metrics(&self) -> Option<VoipMetrics> {
        let source = self.source.as_ref()?;
        let quality = self.quality();
        let heard = quality.heard?;
        let density = source.bursts().density();
        let expected = heard.expected.max(1) as f64;
        let in_256ths = |share: f64| (share * 256.0).min(255.0) as u8;
        let ms = |duration: Duration| u16::try_from(duration.as_millis()).unwrap_or(u16::MAX);
        let packets = |count: f64| (count * f64::from(self.stream.ptime_ms)) as u16;
        let target = self.statistics().target_delay;
        Some(VoipMetrics {
            ssrc: source.reception().ssrc,
            loss_rate: in_256ths(heard.lost as f64 / expected),
            discard_rate: in_256ths(heard.discarded as f64 / expected),
            burst_density: in_256ths(density.burst),
            gap_density: in_256ths(density.gap),
            burst_ms: packets(density.burst_packets),
            gap_ms: packets(density.gap_packets),
            round_trip_ms: quality.round_trip.map(ms).unwrap_or_default(),
            end_system_ms: ms(target + CONCEALMENT_DELAY + Frame::DURATION),
            r_factor: heard.rating.round() as u8,
            mos: (heard.mos * 10.0).round() as u8,
            nominal_ms: ms(target),
            maximum_ms: ms(SampleRate::TELEPHONE.duration_of(MOST_TARGET as usize)),
        })
    }

    /// Samples at 8 kHz from the first call on.
    fn samples_at(&mut self, now: Instant) -> i64 {
        let epoch = *self.epoch.get_or_insert(now);
        let since = now.saturating_duration_since(epoch).as_micros();
        i64::try_from(since * 8 / 1_000).unwrap_or(i64::MAX / 4)
    }
}

/// A datagram without its seal.
enum Opened {
    /// It had none, as agreed.
    Clear,
    Sealed(Vec<u8>),
    /// It came before.
    Repeated,
}

/// What a payload type stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sound(Codec),
    Event,
    ComfortNoise,
}
