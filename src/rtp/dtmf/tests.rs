use super::*;

const MS: i64 = 8;

struct Line {
    receiver: Receiver,
    now: Instant,
}

impl Line {
    fn new() -> Self {
        Self {
            receiver: Receiver::default(),
            now: Instant::now(),
        }
    }

    fn packet(&mut self, key: char, timestamp: i64, duration: i64, end: bool) -> Option<Seen> {
        self.marked(key, timestamp, duration, end, false)
    }

    fn marked(
        &mut self,
        key: char,
        timestamp: i64,
        duration: i64,
        end: bool,
        marker: bool,
    ) -> Option<Seen> {
        let code = DtmfDigit::from_char(key).unwrap().event();
        let event = Event {
            code,
            end,
            duration: duration as u16,
        };
        self.now += Duration::from_millis(20);
        self.receiver.receive(event, timestamp, marker, self.now)
    }

    fn wait(&mut self, milliseconds: u64) {
        self.now += Duration::from_millis(milliseconds);
        self.receiver.tick(self.now);
    }

    fn digits(&mut self) -> String {
        std::iter::from_fn(|| self.receiver.poll())
            .map(|d| d.digit.to_char())
            .collect()
    }
}

#[test]
fn a_press_is_reported_at_its_end_with_its_length() {
    let mut line = Line::new();
    for step in 1..=4 {
        line.packet('7', 1_000, step * 160, false);
        assert!(line.receiver.is_pressed());
    }
    assert_eq!(line.receiver.poll(), None);
    for _ in 0..3 {
        line.packet('7', 1_000, 800, true);
    }
    let digit = line.receiver.poll().unwrap();
    assert_eq!(
        (digit.digit.to_char(), digit.duration.as_millis()),
        ('7', 100)
    );
    assert_eq!(line.receiver.poll(), None);
    assert!(!line.receiver.is_pressed());
}

#[test]
fn the_first_packet_alone_is_a_digit_after_a_while() {
    let mut line = Line::new();
    line.packet('7', 1_000, 160, false);
    line.wait(199);
    assert_eq!(line.digits(), "");
    line.wait(1);
    assert_eq!(line.digits(), "7");
    line.packet('7', 1_000, 800, true);
    assert_eq!(line.digits(), "", "its end comes too late to matter");
}

#[test]
fn one_end_packet_alone_is_a_digit_without_any_marker() {
    let mut line = Line::new();
    line.packet('*', 1_000, 800, true);
    assert_eq!(line.digits(), "*");
}

#[test]
fn late_packets_of_a_press_that_is_over_change_nothing() {
    let mut line = Line::new();
    line.packet('1', 1_000, 160, false);
    line.packet('1', 1_000, 480, true);
    line.packet('1', 1_000, 320, false);
    line.packet('2', 2_000, 160, false);
    line.packet('1', 1_000, 480, true);
    line.packet('2', 2_000, 320, true);
    assert_eq!(line.digits(), "12");
}

#[test]
fn the_same_key_twice_is_two_digits_even_when_the_end_between_is_lost() {
    let mut line = Line::new();
    line.packet('1', 1_000, 160, false);
    line.packet('1', 1_000, 320, false);
    line.packet('1', 1_000 + 100 * MS, 160, false);
    line.packet('1', 1_000 + 100 * MS, 320, true);
    assert_eq!(line.digits(), "11");
}

#[test]
fn a_press_that_was_overtaken_is_still_reported_once() {
    let mut line = Line::new();
    line.packet('2', 3_000, 160, false);
    line.packet('1', 1_000, 480, true);
    line.packet('2', 3_000, 320, true);
    line.packet('1', 1_000, 480, true);
    assert_eq!(line.digits(), "12");
}

#[test]
fn a_long_press_in_segments_is_one_digit() {
    let mut line = Line::new();
    line.packet('9', 0, 0xffff, false);
    line.packet('9', 0xffff, 160, false);
    line.packet('9', 0xffff, 8_000, false);
    line.packet('9', 0xffff, 8_160, true);
    line.packet('9', 0xffff, 8_160, true);
    let digit = line.receiver.poll().unwrap();
    assert_eq!(digit.duration.as_millis(), (0xffff + 8_160) / 8);
    assert_eq!(line.receiver.poll(), None);
}

#[test]
fn a_sender_whose_timestamp_moves_within_the_press_sends_one_digit() {
    let mut line = Line::new();
    for step in 0..5 {
        line.packet('4', 1_000 + step * 160, (step + 1) * 160, false);
    }
    for step in 5..8 {
        line.packet('4', 1_000 + step * 160, 800, true);
    }
    assert_eq!(line.digits(), "4");
}

#[test]
fn a_press_right_after_another_of_the_same_key_is_told_by_its_marker() {
    let mut line = Line::new();
    line.marked('4', 1_000, 160, false, true);
    line.packet('4', 1_000, 320, false);
    line.marked('4', 1_320, 160, false, true);
    line.packet('4', 1_320, 320, true);
    assert_eq!(line.digits(), "44");
}

#[test]
fn flash_and_short_payloads_are_no_digits() {
    let mut line = Line::new();
    let flash = Event {
        code: 16,
        end: true,
        duration: 160,
    };
    assert_eq!(line.receiver.receive(flash, 0, true, line.now), None);
    assert_eq!(Event::parse(&[1, 0x80, 0], SampleRate::TELEPHONE), None);
    line.wait(1_000);
    assert_eq!(line.digits(), "");
}

#[test]
fn random_events_stay_bounded() {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    let mut rng = StdRng::seed_from_u64(1);
    let mut line = Line::new();
    for _ in 0..50_000 {
        let event = Event {
            code: rng.random_range(0..20),
            end: rng.random(),
            duration: rng.random(),
        };
        let timestamp = rng.random_range(-10_000..10_000_000);
        line.receiver
            .receive(event, timestamp, rng.random(), line.now);
        assert!(line.receiver.open.len() <= MOST_OPEN);
        assert!(line.receiver.over.len() <= REMEMBERED);
        assert!(line.receiver.waiting.len() <= MOST_WAITING);
    }
}

#[test]
fn what_is_sent_is_what_rfc_4733_says() {
    let mut sender = Sender::default();
    let key = DtmfDigit::from_char('3').unwrap();
    assert!(sender.queue(key, Duration::from_millis(70)));
    let packets: Vec<Option<EventPacket>> = (0..10).map(|n| sender.tick(500 + n * 160)).collect();
    let said: Vec<Option<(u16, bool, bool)>> = packets
        .iter()
        .map(|packet| packet.map(|p| (p.event.duration, p.event.end, p.marker)))
        .collect();
    assert_eq!(
        said,
        [
            Some((160, false, true)),
            Some((320, false, false)),
            Some((480, false, false)),
            Some((640, true, false)),
            Some((640, true, false)),
            Some((640, true, false)),
            None,
            None,
            None,
            None
        ]
    );
    assert!(
        packets
            .iter()
            .flatten()
            .all(|packet| packet.timestamp == 500)
    );
    assert!(!sender.is_busy());
    let bytes = Event {
        code: 3,
        end: true,
        duration: 640,
    }
    .to_bytes(SampleRate::TELEPHONE);
    assert_eq!(bytes, [3, 0x8a, 0x02, 0x80]);
}

#[test]
fn too_many_digits_are_refused() {
    let mut sender = Sender::default();
    let key = DtmfDigit::from_char('3').unwrap();
    let accepted = (0..1_000)
        .filter(|_| sender.queue(key, Duration::from_secs(60)))
        .count();
    assert_eq!(accepted, MOST_QUEUED);
    let longest = std::iter::from_fn(|| sender.tick(0))
        .take_while(|p| !p.event.end)
        .count();
    assert_eq!(longest, 399, "8 s");
}
