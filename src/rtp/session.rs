//! One RTP session: a call's audio and digits, both ways.
//!
//! ```text
//!   datagram --receive()--> source --+--> sound --> jitter buffer --> concealment --pull()--> frame
//!                             |      |                   +-------------poll_loudness()--> level
//!                             |      +--> digits ----------------------------poll_digit()--> digit
//!                             +--> elsewhere: held back until a second packet confirms a new source
//!
//!   frame --send()--> encode, cut to the packet length --> datagrams
//!   digit --send_digit()--> events instead of sound, in the next calls of send()
//! ```

mod figures;

use std::time::{Duration, Instant};

use super::conceal::DELAY_SAMPLES;
use super::control::{Control, Moment};
use super::dtmf::{self, Digit, Event};
use super::jitter::{JitterBuffer, Outcome, PulledFrame};
use super::noise::Silence;
use super::outgoing::Outgoing;
use super::packet::{Packet, is_control};
use super::queue::{Coded, Loudness};
use super::source::{Arrival, Candidate, Placed, Source};
use super::srtp::{Srtp, SrtpKeys};
use super::{RtpError, Statistics};
use crate::audio::tone::DtmfDigit;
use crate::audio::{AnyFrame, Codec, PayloadKind, SampleRate};

/// The longest payload that is taken: 200 ms of G.711.
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
    /// What the peer may send. The static types of RFC 3551 are taken in any case.
    pub receive: Vec<(u8, PayloadKind)>,
    /// The packet length to send, in ms: 10, or a multiple of 20.
    pub ptime_ms: u8,
    /// The peer asked for VoIP metrics (RFC 3611) in our reports.
    pub voip_metrics: bool,
    /// The keys of both directions; `None` where media is in the clear. Where they are there,
    /// nothing is sent or taken without them.
    pub srtp: Option<SrtpKeys>,
}

impl StreamConfig {
    /// The payload type of digits, and the clock of their durations.
    pub(super) fn events(&self) -> Option<(u8, SampleRate)> {
        let number = self.telephone_event?;
        let clock = self.receive.iter().find_map(|(known, kind)| match kind {
            PayloadKind::TelephoneEvent(clock) if *known == number => Some(*clock),
            _ => None,
        });
        Some((number, clock.unwrap_or(self.codec.clock_rate())))
    }
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
    /// Sound. How loud it is, [`Session::poll_loudness`] tells.
    Voice {
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
        let codec = config.stream.codec;
        Self {
            srtp: config.stream.srtp.map(Srtp::new),
            stream: config.stream,
            epoch: None,
            source: None,
            candidate: None,
            jitter: JitterBuffer::new(codec),
            digits: dtmf::Receiver::default(),
            past: Statistics::default(),
            outgoing: Outgoing::new(
                codec,
                config.ssrc,
                config.first_sequence,
                config.first_timestamp,
            ),
            control: Control::new(config.ssrc),
        }
    }

    /// Goes on with what a re-INVITE negotiated. Our numbers, and what was received, go on.
    pub fn reconfigure(&mut self, stream: StreamConfig) {
        if self.stream.codec != stream.codec {
            self.outgoing.change_codec(stream.codec);
        }
        if self.jitter.rate() != stream.codec.sample_rate() {
            self.settle_playout();
            self.jitter = JitterBuffer::new(stream.codec);
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
        let arrival = self.arrival_at(now);
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
            Placed::Elsewhere => self.elsewhere(&packet, kind, arrival, now, datagram),
        }
    }

    /// What a packet is and where it belongs; `None` for payload types that mean nothing.
    fn place(&mut self, packet: &Packet<'_>, arrival: Arrival) -> Option<(Kind, Placed)> {
        let kind = self.kind_of(packet.header.payload_type);
        let timed = match kind {
            Some(Kind::Sound(codec)) => Some(codec.clock_rate()),
            _ => None,
        };
        let header = &packet.header;
        let source = match (&mut self.source, kind) {
            (Some(source), _) => source,
            (None, Some(_)) => {
                let clock = timed.unwrap_or(self.stream.codec.clock_rate());
                self.source.insert(Source::starting_with(header, clock))
            }
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
            Some((_, PayloadKind::TelephoneEvent(clock))) => Some(Kind::Event(*clock)),
            Some((_, PayloadKind::ComfortNoise)) => Some(Kind::ComfortNoise),
            None if payload_type == COMFORT_NOISE => Some(Kind::ComfortNoise),
            None => Codec::from_payload_type(payload_type).map(Kind::Sound),
        }
    }

    fn take(
        &mut self,
        packet: &Packet<'_>,
        kind: Kind,
        (sequence, timestamp): (i64, i64),
        arrival: Arrival,
        now: Instant,
    ) -> Result<Received, RtpError> {
        match kind {
            Kind::Sound(_) if packet.payload.is_empty() => Ok(Received::Ignored),
            Kind::Sound(codec) => {
                let length = self.jitter.length_of(codec, packet.payload);
                let Some(length) = length else {
                    return Err(self.malformed(RtpError::Payload));
                };
                let rate = self.jitter.rate();
                let coded = Coded {
                    codec,
                    payload: packet.payload,
                    sequence,
                    timestamp: converted(timestamp, codec.clock_rate(), rate),
                };
                let outcome = self.jitter.insert(coded, arrival.units(rate), now);
                Ok(Received::Voice {
                    duration: rate.duration_of(length),
                    outcome,
                })
            }
            Kind::Event(clock) => {
                let Some(event) = Event::parse(packet.payload, clock) else {
                    return Err(self.malformed(RtpError::Short));
                };
                self.jitter.sender_stopped(None, sequence);
                let clock = self.source.as_ref().map_or(clock, Source::clock);
                let timestamp = converted(timestamp, clock, SampleRate::TELEPHONE);
                let seen = self
                    .digits
                    .receive(event, timestamp, packet.header.marker, now);
                Ok(seen.map_or(Received::Ignored, |seen| Received::Digit {
                    digit: seen.digit,
                    began: seen.began,
                }))
            }
            Kind::ComfortNoise => {
                self.jitter
                    .sender_stopped(Silence::parse(packet.payload), sequence);
                Ok(Received::ComfortNoise)
            }
        }
    }

    /// A packet that does not fit the stream begins a new one if the next confirms it.
    fn elsewhere(
        &mut self,
        packet: &Packet<'_>,
        kind: Kind,
        arrival: Arrival,
        now: Instant,
        datagram: &[u8],
    ) -> Result<Received, RtpError> {
        let clock = match kind {
            Kind::Sound(codec) => codec.clock_rate(),
            Kind::Event(_) | Kind::ComfortNoise => self.stream.codec.clock_rate(),
        };
        let confirmed = self
            .candidate
            .take_if(|candidate| candidate.is_confirmed_by(&packet.header, arrival, clock));
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
        // What it said itself is heard, but only the present packet is reported.
        let _first = self.receive_clear(first.arrived, &first.datagram);
        self.receive_clear(now, datagram)
    }

    fn malformed(&mut self, error: RtpError) -> RtpError {
        self.past.malformed += 1;
        error
    }

    /// The next 20 ms to be heard.
    pub fn pull(&mut self, now: Instant) -> PulledFrame {
        self.digits.tick(now);
        let now = self.arrival_at(now).units(self.jitter.rate());
        self.jitter.pull(now)
    }

    /// How loud the next packet of sound was; each is reported once, as soon as it could be
    /// decoded.
    pub fn poll_loudness(&mut self) -> Option<Loudness> {
        self.jitter.poll_loudness()
    }

    /// The rate of the frames that are pulled and sent: what the codec has.
    pub fn rate(&self) -> SampleRate {
        self.stream.codec.sample_rate()
    }

    /// The next digit that was pressed: each once, after its end.
    pub fn poll_digit(&mut self) -> Option<Digit> {
        self.digits.poll()
    }

    /// Whether the peer is pressing a key now.
    pub fn is_digit_pressed(&self) -> bool {
        self.digits.is_pressed()
    }

    /// Sends 20 ms: sound at [`rate`](Self::rate), or nothing. `transmit` gets each datagram; there is none while a
    /// packet is not full, two where packets are 10 ms. The timestamp goes on in any case, and
    /// the first packet after a pause has the marker (RFC 3551 section 4.1). While a queued
    /// digit is being sent, it is sent instead of the sound.
    pub fn send(&mut self, frame: Option<&AnyFrame>, mut transmit: impl FnMut(&[u8])) {
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

    /// Whether the peer takes digits as events.
    pub fn takes_digits(&self) -> bool {
        self.stream.telephone_event.is_some()
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
            .receive(
                now,
                report,
                self.outgoing.packets(),
                self.stream.codec.clock_rate(),
            )
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

    fn arrival_at(&mut self, now: Instant) -> Arrival {
        let epoch = *self.epoch.get_or_insert(now);
        Arrival(now.saturating_duration_since(epoch))
    }
}

/// A time on one clock, on another one.
fn converted(time: i64, from: SampleRate, to: SampleRate) -> i64 {
    (time * i64::from(to.hz())).div_euclid(i64::from(from.hz()))
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
    /// Digits, their durations on this clock.
    Event(SampleRate),
    ComfortNoise,
}
