use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

/// A caller in virtual time: each frame takes 20 ms, each announcement as long as it says.
struct Visit {
    deposit: Deposit,
    now: Duration,
    heard: Vec<Announcement>,
    /// Frames of the message, once it was begun.
    kept: Option<u32>,
    messages: Vec<(RecordingEnd, u32)>,
    discarded: u32,
    ending: Option<Ending>,
    playing: Option<Duration>,
}

const ANNOUNCEMENT: Duration = Duration::from_secs(2);

impl Visit {
    fn new(mailbox: &MailboxSettings) -> Self {
        let mut visit = Self {
            deposit: Deposit::new(mailbox),
            now: Duration::ZERO,
            heard: Vec::new(),
            kept: None,
            messages: Vec::new(),
            discarded: 0,
            ending: None,
            playing: None,
        };
        visit.obey();
        visit
    }

    fn obey(&mut self) {
        for output in self.deposit.take_outputs() {
            assert_eq!(self.ending, None, "nothing follows the end: {output:?}");
            match output {
                DepositOutput::Play(what) => {
                    self.heard.push(what);
                    self.playing = Some(self.now + ANNOUNCEMENT);
                }
                DepositOutput::Record => assert_eq!(self.kept.replace(0), None),
                DepositOutput::Keep => *self.kept.as_mut().expect("begun") += 1,
                DepositOutput::Finish { end, cut } => {
                    let frames = self.kept.take().expect("begun");
                    let cut = u32::try_from(cut.as_millis() / 20).expect("short");
                    self.messages.push((end, frames - cut));
                }
                DepositOutput::Discard => {
                    self.kept.take().expect("begun");
                    self.discarded += 1;
                }
                DepositOutput::End(how) => self.ending = Some(how),
            }
        }
    }

    fn input(&mut self, input: DepositInput<'_>) {
        self.deposit.handle(input, self.now);
        self.obey();
    }

    fn tick(&mut self, amplitude: i16) {
        self.now += Duration::from_millis(20);
        let samples: Vec<i16> = (0..160)
            .map(|n| if n % 8 < 4 { amplitude } else { -amplitude })
            .collect();
        self.input(DepositInput::Frame(&samples));
        if self.playing.is_some_and(|until| until <= self.now) {
            self.playing = None;
            self.input(DepositInput::Played);
        }
    }

    fn run(&mut self, seconds: f64, amplitude: i16) {
        for _ in 0..(seconds * 50.0) as u32 {
            self.tick(amplitude);
        }
    }

    fn says(&mut self, seconds: f64) {
        self.run(seconds, 4000);
    }

    fn waits(&mut self, seconds: f64) {
        self.run(seconds, 0);
    }
}

fn mailbox() -> MailboxSettings {
    MailboxSettings {
        min_seconds: 1.0,
        max_seconds: 30.0,
        silence_seconds: 4.0,
        ..MailboxSettings::default()
    }
}

#[test]
fn a_caller_speaks_after_the_beep_and_hangs_up() {
    let mut visit = Visit::new(&mailbox());
    visit.waits(4.2);
    assert_eq!(visit.heard, [Announcement::Greeting, Announcement::Beep]);
    visit.says(6.0);
    visit.input(DepositInput::HungUp);
    let [(end, frames)] = visit.messages[..] else {
        panic!("{:?}", visit.messages);
    };
    assert_eq!(end, RecordingEnd::HungUp);
    assert!((300..=312).contains(&frames), "{frames}");
    assert_eq!(visit.ending, Some(Ending::HungUp));
}

#[test]
fn a_key_ends_the_greeting_and_then_the_message() {
    let mut visit = Visit::new(&mailbox());
    visit.waits(0.5);
    visit.input(DepositInput::Key('#'));
    visit.waits(2.1);
    visit.says(3.0);
    visit.input(DepositInput::Key('5'));
    visit.input(DepositInput::Key('#'));
    visit.waits(3.0);
    assert_eq!(visit.messages.len(), 1);
    assert_eq!(visit.messages[0].0, RecordingEnd::Key);
    assert_eq!(visit.heard.last(), Some(&Announcement::Thanks));
    assert_eq!(visit.ending, Some(Ending::Done));
}

#[test]
fn silence_ends_a_message_and_is_cut_off_it() {
    let mut visit = Visit::new(&mailbox());
    visit.waits(4.1);
    visit.says(3.0);
    visit.waits(2.0);
    visit.says(2.0);
    visit.waits(8.0);
    let (end, frames) = visit.messages[0];
    assert_eq!(end, RecordingEnd::Silence);
    let seconds = f64::from(frames) / 50.0;
    assert!((7.6..8.1).contains(&seconds), "{seconds} s");
    assert_eq!(visit.ending, Some(Ending::Done));
}

#[test]
fn a_message_is_no_longer_than_it_may_be() {
    let mut visit = Visit::new(&mailbox());
    visit.waits(4.1);
    visit.says(60.0);
    let (end, frames) = visit.messages[0];
    assert_eq!(end, RecordingEnd::TooLong);
    assert!((1498..=1502).contains(&frames), "{frames}");
}

#[test]
fn who_says_nothing_is_asked_once_more_and_then_let_go() {
    let mut visit = Visit::new(&mailbox());
    visit.waits(30.0);
    assert_eq!(
        visit.heard,
        [
            Announcement::Greeting,
            Announcement::Beep,
            Announcement::Again,
            Announcement::Beep,
            Announcement::Nothing,
        ]
    );
    assert!(visit.messages.is_empty());
    assert_eq!(visit.discarded, 2);
    assert_eq!(visit.ending, Some(Ending::Done));
}

#[test]
fn a_click_and_a_hang_up_leave_nothing() {
    let mut visit = Visit::new(&mailbox());
    visit.waits(4.1);
    visit.says(0.2);
    visit.waits(1.0);
    visit.input(DepositInput::HungUp);
    assert!(visit.messages.is_empty());
    assert_eq!(visit.discarded, 1);
}

#[test]
fn a_full_mailbox_and_a_full_disk_are_explained() {
    let mut full = Visit::new(&mailbox());
    full.input(DepositInput::Refuse(Refused::Full));
    full.waits(3.0);
    assert_eq!(
        full.heard.last(),
        Some(&Announcement::Refused(Refused::Full))
    );
    assert_eq!(full.ending, Some(Ending::Done));
    let mut fails = Visit::new(&mailbox());
    fails.waits(4.1);
    fails.says(5.0);
    fails.input(DepositInput::Refuse(Refused::Disk));
    fails.waits(3.0);
    assert_eq!(fails.messages[0].0, RecordingEnd::Failed);
    assert_eq!(fails.heard.last(), Some(&Announcement::CutOff));
}

#[test]
fn a_server_that_stops_keeps_what_was_said() {
    let mut visit = Visit::new(&mailbox());
    visit.waits(4.1);
    visit.says(5.0);
    visit.input(DepositInput::Stop);
    assert_eq!(visit.messages[0].0, RecordingEnd::Stopped);
    assert_eq!(visit.ending, Some(Ending::Done));
}

#[test]
fn whatever_a_caller_does_every_recording_is_closed_and_every_visit_ends() {
    for seed in 0..300 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut visit = Visit::new(&mailbox());
        for _ in 0..rng.random_range(1..40) {
            if visit.ending.is_some() {
                break;
            }
            match rng.random_range(0..12) {
                0..4 => visit.says(rng.random_range(0.0..9.0)),
                4..8 => visit.waits(rng.random_range(0.0..9.0)),
                8 => visit.input(DepositInput::Key('#')),
                9 => visit.input(DepositInput::Key('7')),
                10 if rng.random_bool(0.1) => {
                    visit.input(DepositInput::Refuse(Refused::Disk));
                }
                _ if rng.random_bool(0.1) => visit.input(DepositInput::HungUp),
                _ => {}
            }
        }
        if visit.ending.is_none() {
            visit.waits(120.0);
        }
        assert!(visit.ending.is_some(), "seed {seed}");
        assert_eq!(visit.kept, None, "seed {seed}: a recording is left open");
        for (_, frames) in visit.messages {
            assert!((50..=1502).contains(&frames), "seed {seed}: {frames}");
        }
    }
}
