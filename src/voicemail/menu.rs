//! An owner hears what was left for them.
//!
//! ```text
//!  AskMailbox ─`#`─▶ AskPin ─`#`─▶ Checking ─right─▶ Listing ─▶ Message ◀─ 1: again
//!      ▲  (skipped where  ▲           │ wrong,                   │  │
//!      │   the caller is  └───────────┤ three times: over        │  ├─ 2: save, 3: delete ─┐
//!      │   known)                     ▼                          │  └─ #: as it is         ▼
//!      └──── no such mailbox: as a wrong PIN             none left: goodbye ◀──── next one
//!  no key for a while, twice: goodbye
//! ```

use std::time::Duration;

use super::hours::Hours;
use super::prompts::{Prompt, count_prompts, spoken_number};
use crate::ids::{MailboxName, VoicemailId};
use crate::record::{MailboxCounts, Voicemail, VoicemailState};

/// Wrong PINs in one call.
const MOST_WRONG: u32 = 3;
/// An entry is complete after this long without a key.
const ENTRY_PAUSE: Duration = Duration::from_secs(4);
/// After a prompt without a key it is said again.
const PATIENCE: Duration = Duration::from_secs(7);
/// Prompts in a row that nobody reacts to.
const MOST_UNANSWERED: u32 = 3;
/// Keys of an entry beyond which the rest is ignored.
const MOST_KEYS: usize = 20;
/// Digits of a number that are said.
const MOST_DIGITS: usize = 20;
/// The database and the disk may take no longer.
const STORE_PATIENCE: Duration = Duration::from_secs(10);
/// The last words may take no longer.
const LONGEST_GOODBYE: Duration = Duration::from_secs(15);
/// Quiet between the last word and the hang-up.
const LAST_TAIL: Duration = Duration::from_millis(300);
const DAY: i64 = 86_400;

/// Whom the caller is known to be before they say so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Nobody in particular.
    Unknown,
    /// Who calls from a number of this mailbox's owner.
    Of(MailboxName),
}

/// What a message's announcement needs of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The message.
    pub id: VoicemailId,
    /// Where it stands.
    pub state: VoicemailState,
    /// What is said before it.
    words: Vec<Prompt>,
}

impl Envelope {
    /// Of a message, as it is said at a time (seconds since 1970), by the clock of `hours`, or
    /// else by UTC.
    pub fn new(message: &Voicemail, hours: Option<&Hours>, now: i64) -> Self {
        let mut words = vec![match message.state {
            VoicemailState::Saved => Prompt::HeadSaved,
            VoicemailState::New | VoicemailState::Recording => Prompt::HeadNew,
        }];
        let number = message.customer.as_ref().map(|who| who.number.as_str());
        let digits: Vec<Prompt> = number
            .unwrap_or_default()
            .chars()
            .filter_map(|c| c.to_digit(10))
            .filter_map(|digit| u8::try_from(digit).ok())
            .map(Prompt::Number)
            .take(MOST_DIGITS)
            .collect();
        match digits.is_empty() {
            true => words.push(Prompt::FromUnknown),
            false => {
                words.push(Prompt::From);
                words.extend(digits);
            }
        }
        words.extend(received(message.created_at.unix_timestamp(), hours, now));
        Self {
            id: message.id,
            state: message.state,
            words,
        }
    }
}

/// "received yesterday at nine fifteen".
fn received(at: i64, hours: Option<&Hours>, now: i64) -> Vec<Prompt> {
    let utc = Hours::utc();
    let hours = hours.unwrap_or(&utc);
    let (then, today) = (hours.local(at), hours.local(now).date());
    let days = today
        .since(then.date())
        .map_or(i64::MAX / DAY, |span| i64::from(span.get_days()));
    let day = match days {
        ..=0 => Prompt::Today,
        1 => Prompt::Yesterday,
        2..=6 => {
            let weekday = then.weekday().to_monday_zero_offset();
            Prompt::On(u8::try_from(weekday).unwrap_or(0))
        }
        _ => return vec![Prompt::Earlier],
    };
    let part = |value: i8| spoken_number(u32::try_from(value).unwrap_or(0));
    let mut words = vec![day, Prompt::At];
    words.extend(part(then.hour()));
    words.extend(part(then.minute()));
    words
}

/// What happens to an owner. Times are on the call's clock.
#[derive(Clone, Debug, PartialEq)]
pub enum MenuInput {
    /// 20 ms have passed.
    Tick,
    /// What was to be played was, or could not be.
    Played,
    /// A key.
    Key(char),
    /// Mailbox and PIN belong together.
    Right(MailboxName),
    /// They do not.
    Wrong,
    /// The mailbox takes no PIN at the moment.
    Closed,
    /// The messages of the mailbox, in the order in which they are heard.
    Messages(Vec<Envelope>),
    /// The database cannot be read or written.
    Unavailable,
}

/// What a visit of the owner wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum MenuOutput {
    /// Say this, instead of what plays; answer with [`MenuInput::Played`].
    Say(Vec<Prompt>),
    /// Say this and play the message; answer with [`MenuInput::Played`].
    Play(Vec<Prompt>, VoicemailId),
    /// Say nothing any more; no [`MenuInput::Played`] for it.
    Quiet,
    /// Whether these belong together: [`MenuInput::Right`], [`MenuInput::Wrong`] or
    /// [`MenuInput::Closed`].
    Check {
        /// The mailbox: as its number was keyed, or as it is known.
        mailbox: Claimed,
        /// The PIN.
        pin: String,
    },
    /// What messages there are: [`MenuInput::Messages`] or [`MenuInput::Unavailable`].
    List(MailboxName),
    /// The message was heard and is kept.
    Save(VoicemailId),
    /// The message goes.
    Delete(VoicemailId),
    /// The call is over.
    End,
}

/// The mailbox that a caller claims to own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// By its number.
    Number(String),
    /// By the number that they call from.
    Name(MailboxName),
}

#[derive(Clone, Debug, PartialEq)]
enum State {
    AskMailbox,
    AskPin(Claimed),
    Checking {
        claimed: Claimed,
        until: Duration,
    },
    Listing {
        until: Duration,
    },
    /// The message at this place is heard, or was.
    Message(usize),
    Goodbye {
        until: Duration,
    },
    Over,
}

/// One owner's visit.
#[derive(Debug)]
pub struct Menu {
    owner: Owner,
    state: State,
    keys: String,
    wrong: u32,
    unanswered: u32,
    /// When the caller has waited, or paused in an entry, for long enough.
    deadline: Option<Duration>,
    messages: Vec<Envelope>,
    outputs: Vec<MenuOutput>,
}

impl Menu {
    /// Begins with the first question.
    pub fn new(owner: Owner) -> Self {
        let mut menu = Self {
            state: State::AskMailbox,
            owner,
            keys: String::new(),
            wrong: 0,
            unanswered: 0,
            deadline: None,
            messages: Vec::new(),
            outputs: Vec::new(),
        };
        menu.ask(Vec::new());
        menu
    }

    /// What is to be done, in order.
    pub fn take_outputs(&mut self) -> Vec<MenuOutput> {
        std::mem::take(&mut self.outputs)
    }

    /// Takes what happened at `now`.
    pub fn handle(&mut self, input: MenuInput, now: Duration) {
        match (self.state.clone(), input) {
            (State::Over, _) => {}
            (_, MenuInput::Tick) => self.tick(now),
            (State::Goodbye { until }, MenuInput::Played) => {
                // So that no network cuts the last word.
                self.state = State::Goodbye {
                    until: until.min(now + LAST_TAIL),
                };
            }
            (State::Goodbye { .. }, _) => {}
            (_, MenuInput::Unavailable) => self.leave(vec![Prompt::Unavailable], now),
            (State::AskMailbox | State::AskPin(_) | State::Message(_), MenuInput::Played) => {
                self.deadline = Some(now + PATIENCE);
            }
            (State::AskMailbox | State::AskPin(_), MenuInput::Key(key)) => self.entry(key, now),
            (State::Checking { .. }, MenuInput::Right(mailbox)) => {
                self.state = State::Listing {
                    until: now + STORE_PATIENCE,
                };
                self.outputs.push(MenuOutput::List(mailbox));
            }
            (State::Checking { .. }, MenuInput::Wrong) => {
                self.wrong += 1;
                if self.wrong >= MOST_WRONG {
                    self.leave(vec![Prompt::Closed], now);
                } else {
                    self.ask(vec![Prompt::WrongPin]);
                }
            }
            (State::Checking { .. }, MenuInput::Closed) => self.leave(vec![Prompt::Closed], now),
            (State::Listing { .. }, MenuInput::Messages(messages)) => self.listed(messages, now),
            (State::Message(place), MenuInput::Key(key)) => self.choose(place, key, now),
            (_, _) => {}
        }
    }

    /// Asks for what is not known yet.
    fn ask(&mut self, before: Vec<Prompt>) {
        self.keys.clear();
        self.deadline = None;
        let mut words = before;
        match &self.owner {
            Owner::Unknown => {
                self.state = State::AskMailbox;
                words.push(Prompt::AskMailbox);
            }
            Owner::Of(mailbox) => {
                self.state = State::AskPin(Claimed::Name(mailbox.clone()));
                words.push(Prompt::AskPin);
            }
        }
        self.outputs.push(MenuOutput::Say(words));
    }

    fn tick(&mut self, now: Duration) {
        match self.state {
            State::Checking { until, .. } | State::Listing { until } if until <= now => {
                self.leave(vec![Prompt::Unavailable], now);
            }
            State::Goodbye { until } if until <= now => self.end(),
            _ if self.deadline.is_some_and(|at| at <= now) => {
                self.deadline = None;
                self.waited(now);
            }
            _ => {}
        }
    }

    /// The caller pressed no key, or no more.
    fn waited(&mut self, now: Duration) {
        if !self.keys.is_empty() {
            return self.entered(now);
        }
        self.unanswered += 1;
        if self.unanswered >= MOST_UNANSWERED {
            return self.leave(vec![Prompt::Goodbye], now);
        }
        let again = match &self.state {
            State::AskMailbox => Prompt::AskMailbox,
            State::AskPin(_) => Prompt::AskPin,
            _ => Prompt::Choices,
        };
        self.outputs.push(MenuOutput::Say(vec![again]));
    }

    fn entry(&mut self, key: char, now: Duration) {
        self.unanswered = 0;
        if self.keys.is_empty() {
            self.outputs.push(MenuOutput::Quiet);
        }
        match key {
            '#' if !self.keys.is_empty() => return self.entered(now),
            '0'..='9' if self.keys.len() < MOST_KEYS => self.keys.push(key),
            // Begin anew.
            '*' => self.keys.clear(),
            _ => {}
        }
        self.deadline = Some(
            now + if self.keys.is_empty() {
                PATIENCE
            } else {
                ENTRY_PAUSE
            },
        );
    }

    fn entered(&mut self, now: Duration) {
        self.deadline = None;
        let keys = std::mem::take(&mut self.keys);
        match self.state.clone() {
            State::AskMailbox => {
                self.state = State::AskPin(Claimed::Number(keys));
                self.outputs.push(MenuOutput::Say(vec![Prompt::AskPin]));
            }
            State::AskPin(claimed) => {
                self.state = State::Checking {
                    claimed: claimed.clone(),
                    until: now + STORE_PATIENCE,
                };
                self.outputs.push(MenuOutput::Check {
                    mailbox: claimed,
                    pin: keys,
                });
            }
            _ => {}
        }
    }

    fn listed(&mut self, messages: Vec<Envelope>, now: Duration) {
        self.messages = messages;
        let count = |state: VoicemailState| {
            let of = self
                .messages
                .iter()
                .filter(|message| message.state == state);
            u32::try_from(of.count()).unwrap_or(u32::MAX)
        };
        let counts = MailboxCounts {
            new: count(VoicemailState::New),
            saved: count(VoicemailState::Saved),
        };
        let mut words = count_prompts(counts);
        if self.messages.is_empty() {
            words.push(Prompt::Goodbye);
            return self.leave(words, now);
        }
        self.play(0, words);
    }

    fn play(&mut self, place: usize, before: Vec<Prompt>) {
        let Some(message) = self.messages.get(place) else {
            return;
        };
        self.state = State::Message(place);
        self.deadline = None;
        let mut words = before;
        words.extend(&message.words);
        self.outputs.push(MenuOutput::Play(words, message.id));
    }

    fn choose(&mut self, place: usize, key: char, now: Duration) {
        self.unanswered = 0;
        let Some(message) = self.messages.get(place) else {
            return;
        };
        let done = match key {
            '1' => return self.play(place, Vec::new()),
            '2' => {
                self.outputs.push(MenuOutput::Save(message.id));
                vec![Prompt::Saved]
            }
            '3' => {
                self.outputs.push(MenuOutput::Delete(message.id));
                vec![Prompt::Deleted]
            }
            '#' => Vec::new(),
            _ => {
                self.deadline = None;
                self.outputs.push(MenuOutput::Say(vec![Prompt::Choices]));
                return;
            }
        };
        if place + 1 < self.messages.len() {
            return self.play(place + 1, done);
        }
        let mut words = done;
        words.extend([Prompt::NoMore, Prompt::Goodbye]);
        self.leave(words, now);
    }

    fn leave(&mut self, words: Vec<Prompt>, now: Duration) {
        self.deadline = None;
        self.state = State::Goodbye {
            until: now + LONGEST_GOODBYE,
        };
        self.outputs.push(MenuOutput::Say(words));
    }

    fn end(&mut self) {
        self.state = State::Over;
        self.outputs.push(MenuOutput::End);
    }
}

#[cfg(test)]
mod tests;
