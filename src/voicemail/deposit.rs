//! A caller leaves a message.
//!
//! ```text
//!            `#`                      key, silence, too long
//!  Greeting ────▶ Beep ──▶ Recording ───────────────────────▶ Farewell ──▶ over
//!     │   played   ▲          │  too short: asked once more       ▲
//!     │            └──────────┘                                   │
//!     ├── full, closed, no disk ─▶ told so ───────────────────────┘
//!     └── hung up anywhere: what was recorded is kept if it is long enough
//! ```

use std::time::Duration;

use super::settings::MailboxSettings;
use super::sound::SoundGate;
use crate::record::RecordingEnd;

/// Silence that is kept at the end of a message that ended in silence.
const TAIL: Duration = Duration::from_millis(700);
/// The last thing a caller hears may take no longer.
const LONGEST_WORDS: Duration = Duration::from_secs(30);
/// Quiet between the last word and the hang-up.
const LAST_TAIL: Duration = Duration::from_millis(300);
/// A caller who says nothing is asked this often.
const MOST_TRIES: u32 = 2;

/// Why no message can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It has as many messages, or as long ones, as it may.
    Full,
    /// It could not be written down.
    Disk,
}

/// What the caller hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announcement {
    /// The mailbox's greeting.
    Greeting,
    /// The tone after which the message begins.
    Beep,
    /// Nothing was recorded: once more, please.
    Again,
    /// The message is kept.
    Thanks,
    /// There is no message.
    Nothing,
    /// None can be taken.
    Refused(Refused),
    /// The disk failed in the middle: what was said up to now is kept.
    CutOff,
}

/// How a visit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The caller hung up.
    HungUp,
    /// The mailbox has done what it can.
    Done,
}

/// What happens to a deposit. Times are on the call's clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum DepositInput<'a> {
    /// 20 ms of what the caller said.
    Frame(&'a [i16]),
    /// What was to be played was, or could not be.
    Played,
    /// A key.
    Key(char),
    /// The mailbox can take no message, now or no more.
    Refuse(Refused),
    /// The caller is gone.
    HungUp,
    /// The operator or the server ends the call.
    Stop,
}

/// What a deposit wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DepositOutput {
    /// Play this, instead of what plays; answer with [`DepositInput::Played`].
    Play(Announcement),
    /// The message begins with the next frame.
    Record,
    /// The frame just taken is part of the message.
    Keep,
    /// The message is over; all but the last `cut` of it is kept.
    Finish {
        /// What ended it.
        end: RecordingEnd,
        /// Silence at its end.
        cut: Duration,
    },
    /// The message is no message.
    Discard,
    /// The call is over.
    End(Ending),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Greeting,
    Beep,
    Recording {
        since: Duration,
        /// When something was heard last; the beginning where nothing was.
        heard: Duration,
        /// How much of it was sound.
        sound: Duration,
    },
    /// Asked to speak, and the beep follows.
    Again,
    Farewell {
        until: Duration,
    },
    Over,
}

/// One caller's visit.
#[derive(Debug)]
pub struct Deposit {
    shortest: Duration,
    longest: Duration,
    silence: Duration,
    state: State,
    gate: SoundGate,
    tries: u32,
    outputs: Vec<DepositOutput>,
}

impl Deposit {
    /// Begins with the greeting.
    pub fn new(mailbox: &MailboxSettings) -> Self {
        let seconds = |value: f64| Duration::try_from_secs_f64(value).unwrap_or_default();
        Self {
            shortest: seconds(mailbox.min_seconds),
            longest: seconds(mailbox.max_seconds),
            silence: seconds(mailbox.silence_seconds),
            state: State::Greeting,
            gate: SoundGate::new(),
            tries: 0,
            outputs: vec![DepositOutput::Play(Announcement::Greeting)],
        }
    }

    /// What is to be done, in order.
    pub fn take_outputs(&mut self) -> Vec<DepositOutput> {
        std::mem::take(&mut self.outputs)
    }

    /// Takes what happened at `now`.
    pub fn handle(&mut self, input: DepositInput<'_>, now: Duration) {
        match (self.state, input) {
            (State::Over, _) => {}
            (_, DepositInput::HungUp) => {
                self.conclude(RecordingEnd::HungUp);
                self.end(Ending::HungUp);
            }
            (_, DepositInput::Stop) => {
                self.conclude(RecordingEnd::Stopped);
                self.end(Ending::Done);
            }
            (State::Recording { .. }, DepositInput::Refuse(_)) => {
                let kept = self.conclude(RecordingEnd::Failed);
                let why = if kept {
                    Announcement::CutOff
                } else {
                    Announcement::Refused(Refused::Disk)
                };
                self.say_last(why, now);
            }
            (State::Farewell { .. }, DepositInput::Refuse(_)) => {}
            (_, DepositInput::Refuse(why)) => self.say_last(Announcement::Refused(why), now),
            (_, DepositInput::Frame(samples)) => self.frame(samples, now),
            (State::Greeting | State::Again, DepositInput::Played | DepositInput::Key('#')) => {
                self.state = State::Beep;
                self.outputs.push(DepositOutput::Play(Announcement::Beep));
            }
            (State::Beep, DepositInput::Played) => {
                self.state = State::Recording {
                    since: now,
                    heard: now,
                    sound: Duration::ZERO,
                };
                self.outputs.push(DepositOutput::Record);
            }
            (State::Recording { .. }, DepositInput::Key('#')) => {
                self.finish(RecordingEnd::Key, now);
            }
            (State::Farewell { until }, DepositInput::Played) => {
                // So that no network cuts the last word.
                self.state = State::Farewell {
                    until: until.min(now + LAST_TAIL),
                };
            }
            (_, DepositInput::Played | DepositInput::Key(_)) => {}
        }
    }

    fn frame(&mut self, samples: &[i16], now: Duration) {
        let heard_now = self.gate.hears(samples);
        match &mut self.state {
            State::Recording {
                since,
                heard,
                sound,
            } => {
                self.outputs.push(DepositOutput::Keep);
                if heard_now {
                    *heard = now;
                    *sound += Duration::from_millis(20);
                }
                let (silent, long) = (now.saturating_sub(*heard), now.saturating_sub(*since));
                if long >= self.longest {
                    self.finish(RecordingEnd::TooLong, now);
                } else if silent >= self.silence {
                    self.finish(RecordingEnd::Silence, now);
                }
            }
            State::Farewell { until } if *until <= now => self.end(Ending::Done),
            State::Greeting | State::Beep | State::Again | State::Farewell { .. } | State::Over => {
            }
        }
    }

    /// The caller is still there.
    fn finish(&mut self, end: RecordingEnd, now: Duration) {
        if self.conclude(end) {
            return self.say_last(Announcement::Thanks, now);
        }
        self.tries += 1;
        if self.tries < MOST_TRIES {
            self.state = State::Again;
            self.outputs.push(DepositOutput::Play(Announcement::Again));
        } else {
            self.say_last(Announcement::Nothing, now);
        }
    }

    /// Closes the message that is being left; whether there is one that is long enough.
    fn conclude(&mut self, end: RecordingEnd) -> bool {
        let State::Recording { sound, .. } = self.state else {
            return false;
        };
        let kept = sound >= self.shortest;
        let cut = match end {
            RecordingEnd::Silence => self.silence.saturating_sub(TAIL),
            _ => Duration::ZERO,
        };
        self.outputs.push(match kept {
            true => DepositOutput::Finish { end, cut },
            false => DepositOutput::Discard,
        });
        kept
    }

    fn say_last(&mut self, words: Announcement, now: Duration) {
        self.state = State::Farewell {
            until: now + LONGEST_WORDS,
        };
        self.outputs.push(DepositOutput::Play(words));
    }

    fn end(&mut self, how: Ending) {
        self.state = State::Over;
        self.outputs.push(DepositOutput::End(how));
    }
}

#[cfg(test)]
mod tests;
