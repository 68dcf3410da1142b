use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use time::OffsetDateTime;

use super::*;
use crate::ids::CallId;
use crate::record::{Customer, Transcription, VoicemailReason};

/// Monday, 2026-01-12, 10:00 UTC.
const NOW: i64 = 1_768_212_000;

fn message(seed: u8, state: VoicemailState, age: i64) -> Voicemail {
    let mailbox = MailboxName::new("office");
    Voicemail {
        id: VoicemailId::from_random([seed; 16]),
        file: String::new(),
        mailbox,
        call_id: CallId::from_random([seed; 16]),
        customer: Some(Customer {
            number: "+4930".to_owned(),
            name: None,
        }),
        called: "200".to_owned(),
        reason: VoicemailReason::Called,
        state,
        created_at: OffsetDateTime::from_unix_timestamp(NOW - age).expect("in range"),
        duration_ms: 4000,
        ended: None,
        transcription: Transcription::Off,
        transcript: None,
    }
}

fn said(words: &[Prompt]) -> String {
    let words: Vec<&str> = words.iter().map(|word| word.text()).collect();
    words.join(" ")
}

/// An owner in virtual time, with a mailbox that has these messages.
struct Visit {
    menu: Menu,
    now: Duration,
    messages: Vec<Envelope>,
    heard: Vec<String>,
    played: Vec<VoicemailId>,
    saved: Vec<VoicemailId>,
    deleted: Vec<VoicemailId>,
    playing: Option<Duration>,
    over: bool,
    /// The database fails.
    down: bool,
}

impl Visit {
    fn new(owner: Owner, messages: &[Voicemail]) -> Self {
        let envelopes = messages
            .iter()
            .map(|message| Envelope::new(message, None, NOW));
        let mut visit = Self {
            menu: Menu::new(owner),
            now: Duration::ZERO,
            messages: envelopes.collect(),
            heard: Vec::new(),
            played: Vec::new(),
            saved: Vec::new(),
            deleted: Vec::new(),
            playing: None,
            over: false,
            down: false,
        };
        visit.obey();
        visit
    }

    fn obey(&mut self) {
        for output in self.menu.take_outputs() {
            assert!(!self.over, "nothing follows the end: {output:?}");
            match output {
                MenuOutput::Say(words) => self.says(&words),
                MenuOutput::Play(words, id) => {
                    self.says(&words);
                    self.played.push(id);
                }
                MenuOutput::Quiet => self.playing = None,
                MenuOutput::Check { mailbox, pin } => {
                    let name = MailboxName::new("office");
                    let known = [
                        Claimed::Number("200".to_owned()),
                        Claimed::Name(name.clone()),
                    ];
                    let right = known.contains(&mailbox) && pin == "4711";
                    let answer = match right {
                        true => MenuInput::Right(name),
                        false => MenuInput::Wrong,
                    };
                    self.input(answer);
                }
                MenuOutput::List(_) if self.down => self.input(MenuInput::Unavailable),
                MenuOutput::List(_) => {
                    let messages = self.messages.clone();
                    self.input(MenuInput::Messages(messages));
                }
                MenuOutput::Save(id) => self.saved.push(id),
                MenuOutput::Delete(id) => self.deleted.push(id),
                MenuOutput::End => self.over = true,
            }
        }
    }

    fn says(&mut self, words: &[Prompt]) {
        self.heard.push(said(words));
        self.playing = Some(self.now + Duration::from_secs(2));
    }

    fn input(&mut self, input: MenuInput) {
        self.menu.handle(input, self.now);
        self.obey();
    }

    fn waits(&mut self, seconds: f64) {
        for _ in 0..(seconds * 50.0) as u32 {
            self.now += Duration::from_millis(20);
            self.input(MenuInput::Tick);
            if self.playing.is_some_and(|until| until <= self.now) {
                self.playing = None;
                self.input(MenuInput::Played);
            }
        }
    }

    fn presses(&mut self, keys: &str) {
        for key in keys.chars() {
            self.input(MenuInput::Key(key));
            self.waits(0.2);
        }
    }

    fn last(&self) -> &str {
        self.heard.last().map_or("", String::as_str)
    }
}

fn two() -> [Voicemail; 2] {
    [
        message(1, VoicemailState::New, 3600),
        message(2, VoicemailState::Saved, 2 * DAY),
    ]
}

#[test]
fn an_owner_hears_repeats_saves_and_deletes() {
    let mut visit = Visit::new(Owner::Unknown, &two());
    assert!(visit.last().starts_with("Welcome"));
    visit.presses("200#");
    assert!(visit.last().contains("PIN"), "{:?}", visit.heard);
    visit.presses("4711#");
    assert_eq!(
        visit.last(),
        "You have one new message. and one saved message. New message, from four nine three \
         zero received today at nine zero"
    );
    visit.waits(2.5);
    visit.presses("1");
    visit.presses("2");
    assert!(
        visit.last().starts_with(
            "Message saved. Saved message, from four nine three zero received on Saturday at ten"
        ),
        "{}",
        visit.last()
    );
    visit.presses("3");
    assert_eq!(
        visit.last(),
        "Message deleted. There are no more messages. Goodbye."
    );
    visit.waits(3.0);
    assert!(visit.over);
    let id = |seed| VoicemailId::from_random([seed; 16]);
    assert_eq!(visit.played, [id(1), id(1), id(2)]);
    assert_eq!((visit.saved, visit.deleted), (vec![id(1)], vec![id(2)]));
}

#[test]
fn a_known_caller_needs_the_pin_only_and_no_hash_key_where_they_wait() {
    let owner = Owner::Of(MailboxName::new("office"));
    let mut visit = Visit::new(owner, &two());
    assert!(visit.last().contains("PIN"));
    visit.presses("4711");
    assert_eq!(visit.heard.len(), 1);
    visit.waits(4.5);
    assert!(visit.last().starts_with("You have"), "{:?}", visit.heard);
}

#[test]
fn three_wrong_pins_end_the_call_and_an_unknown_mailbox_looks_the_same() {
    let mut visit = Visit::new(Owner::Unknown, &two());
    for mailbox in ["200#", "999#", "200#"] {
        assert!(!visit.over);
        visit.presses(mailbox);
        visit.presses("0000#");
    }
    assert!(visit.last().starts_with("There were too many"));
    visit.waits(3.0);
    assert!(visit.over && visit.played.is_empty());
}

#[test]
fn who_presses_nothing_is_asked_again_and_then_let_go() {
    let mut visit = Visit::new(Owner::Unknown, &two());
    visit.waits(40.0);
    assert!(visit.over);
    assert_eq!(visit.heard.len(), 4, "{:?}", visit.heard);
    assert_eq!(visit.last(), "Goodbye.");
}

#[test]
fn an_empty_mailbox_and_a_dead_database_are_explained() {
    let mut empty = Visit::new(Owner::Unknown, &[]);
    empty.presses("200#4711#");
    assert_eq!(empty.last(), "You have no messages. Goodbye.");
    let mut down = Visit::new(Owner::Unknown, &two());
    down.down = true;
    down.presses("200#4711#");
    assert!(down.last().contains("cannot be read"));
    down.waits(3.0);
    assert!(down.over);
}

#[test]
fn whatever_an_owner_presses_the_visit_ends_and_nothing_is_touched_without_the_pin() {
    for seed in 0..300 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut visit = Visit::new(Owner::Unknown, &two());
        let knows = rng.random_bool(0.5);
        if knows {
            visit.presses("200#4711#");
        }
        for _ in 0..rng.random_range(0..60) {
            if visit.over {
                break;
            }
            let key = ['0', '1', '2', '3', '9', '#', '*', 'A'][rng.random_range(0..8)];
            visit.presses(&key.to_string());
            visit.waits(rng.random_range(0.0..6.0));
        }
        visit.waits(60.0);
        assert!(visit.over, "seed {seed}");
        if !knows {
            assert!(
                visit.played.is_empty() && visit.saved.is_empty() && visit.deleted.is_empty(),
                "seed {seed}"
            );
        }
        assert!(visit.saved.len() + visit.deleted.len() <= 2, "seed {seed}");
    }
}
