//! Where a stream stands: extended sequence numbers and timestamps, duplicates, RFC 3550's loss
//! and jitter, and packets that do not belong to the stream.

use std::time::{Duration, Instant};

use super::bursts::Bursts;
use super::packet::Header;
use crate::audio::SampleRate;

/// Sequence numbers may jump this far ahead (RFC 3550 appendix A.1): a minute of 20 ms.
const MAX_DROPOUT: i16 = 3_000;
/// And lie this far back. Also the memory for duplicates, less than 128.
const MAX_MISORDER: i16 = 100;
/// A packet that is missing this many packets later counts as lost.
const GIVEN_UP: u32 = 32;
/// Timestamp and arrival may disagree by this much before it is another clock.
const MAX_TRANSIT_CHANGE_S: i64 = 1;
/// A packet that confirms a new stream is at most this many after the first.
const MAX_CONFIRMATION: i16 = 10;

/// When a packet came, since the session began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrival(pub(super) Duration);

impl Arrival {
    /// In units of a clock.
    pub(super) fn units(self, clock: SampleRate) -> i64 {
        i64::try_from(clock.samples_in(self.0)).unwrap_or(i64::MAX / 4)
    }
}

/// The stream that is being received.
#[derive(Clone, Debug)]
pub(super) struct Source {
    ssrc: u32,
    /// Of its timestamps.
    clock: SampleRate,
    first: i64,
    /// Highest sequence number, extended.
    highest: i64,
    /// Bit `n`: the packet `highest - n` was received.
    window: u128,
    /// Timestamp of the latest timed packet, extended.
    timestamp: i64,
    transit: Option<i64>,
    received: u64,
    /// RFC 3550 section 6.4.1, in units of the clock.
    jitter: f64,
    /// Expected and received at the last report.
    reported: (u64, u64),
    bursts: Bursts,
}

/// Where a packet belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placed {
    /// Into the stream, at this extended sequence number and timestamp.
    Here {
        sequence: i64,
        timestamp: i64,
        /// A later one came before.
        reordered: bool,
    },
    /// It was received before, or is too old to tell.
    Duplicate,
    /// Not into this stream: another source, or the same after a jump.
    Elsewhere,
}

/// What RTCP and statistics say of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Reception {
    pub(super) ssrc: u32,
    pub(super) highest_sequence: u32,
    pub(super) expected: u64,
    pub(super) received: u64,
    /// In units of the timestamp's clock, as RTCP has it.
    pub(super) jitter_units: f64,
    pub(super) jitter: Duration,
    /// Lost since the last report, in 256ths.
    pub(super) fraction_lost: u8,
}

impl Source {
    /// A stream that begins with this packet. Call [`place`](Self::place) for it, too.
    pub(super) fn starting_with(header: &Header, clock: SampleRate) -> Self {
        let first = i64::from(header.sequence);
        Self {
            ssrc: header.ssrc,
            clock,
            first,
            highest: first,
            window: 0,
            timestamp: i64::from(header.timestamp),
            transit: None,
            received: 0,
            jitter: 0.0,
            reported: (0, 0),
            bursts: Bursts::default(),
        }
    }

    /// The clock of its timestamps.
    pub(super) fn clock(&self) -> SampleRate {
        self.clock
    }

    /// Finds a packet's place and counts it. A packet is `timed`, by its clock, where its
    /// timestamp is that of its own first sample, which is not so for digits.
    pub(super) fn place(
        &mut self,
        header: &Header,
        arrival: Arrival,
        timed: Option<SampleRate>,
    ) -> Placed {
        let ahead = header.sequence.wrapping_sub(self.highest as u16) as i16;
        let here = header.ssrc == self.ssrc && timed.is_none_or(|clock| clock == self.clock);
        if !here || !(-MAX_MISORDER..=MAX_DROPOUT).contains(&ahead) {
            return Placed::Elsewhere;
        }
        let (timed, arrival) = (timed.is_some(), arrival.units(self.clock));
        let since = header.timestamp.wrapping_sub(self.timestamp as u32) as i32;
        let timestamp = self.timestamp + i64::from(since);
        let transit = arrival - timestamp;
        let change = self.transit.map_or(0, |before| transit - before);
        if timed && change.abs() > MAX_TRANSIT_CHANGE_S * i64::from(self.clock.hz()) {
            return Placed::Elsewhere;
        }
        let bit = 1u128 << ahead.min(0).unsigned_abs();
        if ahead > 0 {
            for _ in 0..ahead {
                self.advance();
            }
            self.window |= 1;
        } else if self.window & bit != 0 {
            return Placed::Duplicate;
        } else {
            self.window |= bit;
        }
        self.received += 1;
        if timed {
            if self.transit.is_some() {
                self.jitter += (change.abs() as f64 - self.jitter) / 16.0;
            }
            self.transit = Some(transit);
            self.timestamp = self.timestamp.max(timestamp);
        }
        let sequence = self.highest + i64::from(ahead.min(0));
        // What came before the first packet widens the range rather than making up for a loss.
        self.first = self.first.min(sequence);
        Placed::Here {
            sequence,
            timestamp,
            reordered: ahead < 0,
        }
    }

    fn advance(&mut self) {
        self.window <<= 1;
        self.highest += 1;
        if self.highest - self.first >= i64::from(GIVEN_UP) {
            self.bursts.push((self.window >> GIVEN_UP) & 1 == 1);
        }
    }

    pub(super) fn bursts(&self) -> Bursts {
        self.bursts
    }

    /// Packets that should have come so far.
    fn expected(&self) -> u64 {
        (self.highest - self.first + 1).unsigned_abs()
    }

    pub(super) fn reception(&self) -> Reception {
        let (expected, received) = (self.expected(), self.received);
        let expected_since = expected.saturating_sub(self.reported.0);
        let received_since = received.saturating_sub(self.reported.1);
        let lost_since = expected_since.saturating_sub(received_since);
        let fraction = (lost_since * 256).checked_div(expected_since).unwrap_or(0);
        Reception {
            ssrc: self.ssrc,
            highest_sequence: self.highest as u32,
            expected,
            received,
            jitter_units: self.jitter,
            jitter: Duration::from_secs_f64(self.jitter / f64::from(self.clock.hz())),
            fraction_lost: u8::try_from(fraction).unwrap_or(u8::MAX),
        }
    }

    /// Begins the next reporting interval.
    pub(super) fn reported(&mut self) {
        self.reported = (self.expected(), self.received);
    }
}

/// A packet from elsewhere. Where the next one follows it, the stream has moved there.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    header: Header,
    arrival: Arrival,
    /// The packet, to be taken after all when it is confirmed.
    pub(super) datagram: Vec<u8>,
    pub(super) arrived: Instant,
}

impl Candidate {
    pub(super) fn new(header: Header, arrival: Arrival, arrived: Instant, datagram: &[u8]) -> Self {
        Self {
            header,
            arrival,
            datagram: datagram.to_vec(),
            arrived,
        }
    }

    /// Whether `header` follows: the same source, next in sequence, on the same clock.
    pub(super) fn is_confirmed_by(
        &self,
        header: &Header,
        arrival: Arrival,
        clock: SampleRate,
    ) -> bool {
        let ahead = header.sequence.wrapping_sub(self.header.sequence) as i16;
        let transit =
            |header: &Header, arrival: Arrival| arrival.units(clock) - i64::from(header.timestamp);
        // Modulo 2^32, as timestamps are.
        let change = transit(header, arrival) - transit(&self.header, self.arrival);
        let change = i64::from(change as i32);
        header.ssrc == self.header.ssrc
            && (1..=MAX_CONFIRMATION).contains(&ahead)
            && change.abs() <= MAX_TRANSIT_CHANGE_S * i64::from(clock.hz())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOCK: SampleRate = SampleRate::TELEPHONE;

    fn after(samples: i64) -> Arrival {
        Arrival(CLOCK.duration_of(samples as usize))
    }

    fn header(sequence: u16, timestamp: u32) -> Header {
        Header {
            marker: false,
            payload_type: 0,
            sequence,
            timestamp,
            ssrc: 7,
        }
    }

    /// The `n`th packet of a stream that starts at these numbers, on time.
    fn place(source: &mut Source, first: (u16, u32), n: i64) -> Placed {
        let header = header(
            first.0.wrapping_add(n as u16),
            first.1.wrapping_add((n * 160) as u32),
        );
        source.place(&header, after(n * 160), Some(CLOCK))
    }

    #[test]
    fn numbers_go_on_over_their_wrap() {
        let first = (65_530, u32::MAX - 500);
        let mut source = Source::starting_with(&header(first.0, first.1), CLOCK);
        for n in 0..200_000 {
            let Placed::Here {
                sequence,
                timestamp,
                reordered,
            } = place(&mut source, first, n)
            else {
                unreachable!("packet {n} is in order")
            };
            assert_eq!(sequence, i64::from(first.0) + n);
            assert_eq!(timestamp, i64::from(first.1) + n * 160);
            assert!(!reordered);
        }
        let reception = source.reception();
        assert_eq!((reception.expected, reception.received), (200_000, 200_000));
        assert!(reception.jitter_units < 1e-9);
    }

    #[test]
    fn each_packet_counts_once_however_often_and_in_whatever_order_it_comes() {
        let first = (10, 0);
        let mut source = Source::starting_with(&header(first.0, first.1), CLOCK);
        let order = [0, 3, 1, 1, 3, 2, 0, 5, 4, 5];
        let new: Vec<bool> = order
            .iter()
            .map(|n| matches!(place(&mut source, first, *n), Placed::Here { .. }))
            .collect();
        assert_eq!(
            new,
            [
                true, true, true, false, false, true, false, true, true, false
            ]
        );
        assert_eq!(source.reception().received, 6);
        assert_eq!(source.reception().expected, 6);
    }

    #[test]
    fn losses_are_reported_by_interval_in_256ths() {
        let first = (0, 0);
        let mut source = Source::starting_with(&header(0, 0), CLOCK);
        for n in (0..100).filter(|n| n % 4 != 1) {
            place(&mut source, first, n);
        }
        let reception = source.reception();
        assert_eq!(reception.expected - reception.received, 25);
        assert_eq!(reception.fraction_lost, 64);
        source.reported();
        for n in 100..200 {
            place(&mut source, first, n);
        }
        assert_eq!(source.reception().fraction_lost, 0);
    }

    #[test]
    fn jitter_follows_the_formula_of_rfc_3550() {
        let mut source = Source::starting_with(&header(0, 0), CLOCK);
        let mut expected = 0.0f64;
        let mut before = 0i64;
        for n in 0..50i64 {
            let lag = n * 37 % 80;
            let header = header(n as u16, (n * 160) as u32);
            let placed = source.place(&header, after(n * 160 + lag), Some(CLOCK));
            assert!(matches!(placed, Placed::Here { .. }));
            if n > 0 {
                expected += ((lag - before).abs() as f64 - expected) / 16.0;
            }
            before = lag;
        }
        assert!((source.reception().jitter_units - expected).abs() < 1e-9);
    }

    #[test]
    fn strangers_jumps_and_other_clocks_are_elsewhere() {
        let first = (1_000, 0);
        let mut source = Source::starting_with(&header(first.0, first.1), CLOCK);
        place(&mut source, first, 0);
        let stranger = Header {
            ssrc: 8,
            ..header(1_001, 160)
        };
        assert_eq!(
            source.place(&stranger, after(160), Some(CLOCK)),
            Placed::Elsewhere
        );
        assert_eq!(
            source.place(&header(5_000, 160), after(160), Some(CLOCK)),
            Placed::Elsewhere
        );
        assert_eq!(
            source.place(&header(800, 160), after(160), Some(CLOCK)),
            Placed::Elsewhere
        );
        assert_eq!(
            source.place(&header(1_001, 900_000), after(160), Some(CLOCK)),
            Placed::Elsewhere
        );
        assert!(matches!(place(&mut source, first, 1), Placed::Here { .. }));
    }

    #[test]
    fn a_second_packet_confirms_a_new_stream() {
        let at = std::time::Instant::now();
        let candidate = Candidate::new(header(40_000, 90), after(1_000), at, &[]);
        assert!(candidate.is_confirmed_by(&header(40_001, 250), after(1_160), CLOCK));
        assert!(!candidate.is_confirmed_by(&header(40_000, 90), after(1_160), CLOCK));
        assert!(!candidate.is_confirmed_by(&header(40_001, 50_000), after(1_160), CLOCK));
        let stranger = Header {
            ssrc: 8,
            ..header(40_001, 250)
        };
        assert!(!candidate.is_confirmed_by(&stranger, after(1_160), CLOCK));
    }

    #[test]
    fn sound_on_another_clock_is_elsewhere_and_digits_have_none() {
        let mut source = Source::starting_with(&header(0, 0), CLOCK);
        place(&mut source, (0, 0), 0);
        let next = header(1, 160);
        let other = Some(SampleRate::WIDEBAND);
        assert_eq!(source.place(&next, after(160), other), Placed::Elsewhere);
        let placed = source.place(&next, after(160), None);
        assert!(matches!(placed, Placed::Here { .. }));
    }
}
