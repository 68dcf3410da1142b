//! What the caller does when: pure, driven by what was sent and heard.
//!
//! ```text
//! Greeting ──quiet──▶ Keys ──quiet──▶ Speaking(0) ──said──▶ Waiting(0) ──answered, quiet──▶ Speaking(1) …
//!     │ nothing heard for PATIENCE: go on         │              │ or interrupted
//!     └───────────────────────────────────────────┘              └── nothing for `reply_timeout`: go on
//! … last line answered, quiet ──▶ Done
//! ```

use std::time::{Duration, Instant};

use crate::audio::level::AUDIBLE_DBFS;

/// How long the greeting may take to begin.
const PATIENCE: Duration = Duration::from_secs(6);

/// Fewer audible packets than this in a row are a click, not speech.
const SPEECH_PACKETS: u32 = 3;

/// How the caller behaves.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    /// The assistant has finished when nothing was heard for this long.
    pub quiet: Duration,
    /// Speak over a reply this long after it began.
    pub interrupt_after: Option<Duration>,
    /// Give a reply up after this long.
    pub reply_timeout: Duration,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Press the keys.
    PressKeys,
    /// Say the n-th line.
    Say(usize),
    /// Hang up.
    HangUp,
}

/// When things happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// First audible packet of the greeting.
    GreetingBegan(Instant),
    /// First packet of a line.
    LineBegan(usize, Instant),
    /// Last audible frame of a line.
    LineEnded(usize, Instant),
    /// First audible packet of an answer to a line, and one for each later stretch of speech.
    AnswerBegan(usize, Instant),
    /// Last audible packet of a stretch of speech.
    AnswerEnded(usize, Instant),
    /// The caller began to speak over the assistant.
    Interrupted(usize, Instant),
    /// No answer came in time.
    NoAnswer(usize, Instant),
}

#[derive(Clone, Copy, Debug)]
enum State {
    Greeting {
        since: Option<Instant>,
        heard: bool,
    },
    Keys {
        since: Instant,
    },
    Speaking {
        line: usize,
    },
    Waiting {
        line: usize,
        since: Instant,
        answer: Option<Instant>,
    },
    Done,
}

pub(super) struct Script {
    manners: Manners,
    lines: usize,
    keys: bool,
    state: State,
    run: u32,
    run_began: Instant,
    last_audible: Option<Instant>,
    in_speech: bool,
    /// The last stretch of speech began then.
    stretch: Instant,
    /// Whether it was an answer rather than a holding phrase, once that was asked.
    answered: Option<bool>,
    events: Vec<Event>,
}

impl Script {
    pub(super) fn new(manners: Manners, lines: usize, keys: bool, now: Instant) -> Self {
        Self {
            manners,
            lines,
            keys,
            state: State::Greeting {
                since: None,
                heard: false,
            },
            run: 0,
            run_began: now,
            last_audible: None,
            in_speech: false,
            stretch: now,
            answered: None,
            events: Vec::new(),
        }
    }

    /// Everything that happened, in order.
    pub(super) fn into_events(self) -> Vec<Event> {
        self.events
    }

    /// A packet arrived.
    pub(super) fn heard(&mut self, at: Instant, level_dbfs: f32) {
        if level_dbfs <= AUDIBLE_DBFS {
            self.run = 0;
            return;
        }
        if self.run == 0 {
            self.run_began = at;
        }
        self.run += 1;
        if self.run < SPEECH_PACKETS {
            return;
        }
        self.last_audible = Some(at);
        if !self.in_speech {
            self.in_speech = true;
            self.speech_began(self.run_began);
        }
    }

    fn speech_began(&mut self, at: Instant) {
        self.stretch = at;
        self.answered = None;
        match &mut self.state {
            State::Greeting { heard, .. } => {
                if !*heard {
                    *heard = true;
                    self.events.push(Event::GreetingBegan(at));
                }
            }
            State::Waiting { line, answer, .. } => {
                answer.get_or_insert(at);
                self.events.push(Event::AnswerBegan(*line, at));
            }
            State::Keys { .. } | State::Speaking { .. } | State::Done => {}
        }
    }

    /// A line's first packet was sent.
    pub(super) fn line_began(&mut self, line: usize, at: Instant) {
        self.events.push(Event::LineBegan(line, at));
    }

    /// A line's last audible frame was sent.
    pub(super) fn line_ended(&mut self, line: usize, at: Instant) {
        self.events.push(Event::LineEnded(line, at));
        self.in_speech = false;
        self.run = 0;
        self.state = State::Waiting {
            line,
            since: at,
            answer: None,
        };
    }

    /// A tick passed. `is_answer` tells whether the speech that began at a time is an answer, and
    /// not a phrase that asks for patience.
    pub(super) fn tick(
        &mut self,
        now: Instant,
        is_answer: &dyn Fn(Instant) -> bool,
    ) -> Option<Action> {
        let silent = self
            .last_audible
            .is_none_or(|at| now.saturating_duration_since(at) >= self.manners.quiet);
        if silent && self.in_speech {
            self.in_speech = false;
            if let (State::Waiting { line, .. }, Some(at)) = (self.state, self.last_audible) {
                self.events.push(Event::AnswerEnded(line, at));
            }
        }
        match self.state {
            State::Greeting { since, heard } => {
                let since = since.unwrap_or(now);
                self.state = State::Greeting {
                    since: Some(since),
                    heard,
                };
                let over = match heard {
                    true => silent,
                    false => now.saturating_duration_since(since) >= PATIENCE,
                };
                over.then(|| self.after_greeting(now))
            }
            State::Keys { since } => {
                let waited = now.saturating_duration_since(since) >= self.manners.quiet;
                (waited && silent).then(|| self.say(0))
            }
            State::Speaking { .. } | State::Done => None,
            State::Waiting {
                line,
                since,
                answer,
            } => self.wait(now, line, since, answer, silent, is_answer),
        }
    }

    fn wait(
        &mut self,
        now: Instant,
        line: usize,
        since: Instant,
        answer: Option<Instant>,
        silent: bool,
        is_answer: &dyn Fn(Instant) -> bool,
    ) -> Option<Action> {
        let stretch = self.stretch;
        let finished =
            answer.is_some() && silent && *self.answered.get_or_insert_with(|| is_answer(stretch));
        let more = line + 1 < self.lines;
        match (answer, self.manners.interrupt_after) {
            (Some(began), Some(after)) if more && now.saturating_duration_since(began) >= after => {
                self.events.push(Event::Interrupted(line, now));
                Some(self.say(line + 1))
            }
            (Some(_), _) if finished => Some(self.say(line + 1)),
            (_, _)
                if silent && now.saturating_duration_since(since) >= self.manners.reply_timeout =>
            {
                self.events.push(Event::NoAnswer(line, now));
                Some(self.say(line + 1))
            }
            _ => None,
        }
    }

    fn after_greeting(&mut self, now: Instant) -> Action {
        match self.keys {
            true => {
                self.state = State::Keys { since: now };
                Action::PressKeys
            }
            false => self.say(0),
        }
    }

    fn say(&mut self, line: usize) -> Action {
        if line < self.lines {
            self.state = State::Speaking { line };
            Action::Say(line)
        } else {
            self.state = State::Done;
            Action::HangUp
        }
    }

    /// The line that is being said.
    pub(super) fn speaking(&self) -> Option<usize> {
        match self.state {
            State::Speaking { line } => Some(line),
            State::Greeting { .. } | State::Keys { .. } | State::Waiting { .. } | State::Done => {
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOUD: f32 = -20.0;
    const QUIET: f32 = -70.0;

    struct Phone {
        script: Script,
        start: Instant,
        now: Instant,
        /// What is heard is a holding phrase.
        holding: bool,
    }

    impl Phone {
        fn new(lines: usize, interrupt_after: Option<u64>) -> Self {
            let manners = Manners {
                quiet: Duration::from_millis(1000),
                interrupt_after: interrupt_after.map(Duration::from_millis),
                reply_timeout: Duration::from_secs(5),
            };
            let start = Instant::now();
            let script = Script::new(manners, lines, false, start);
            Self {
                script,
                start,
                now: start,
                holding: false,
            }
        }

        /// Lets `ms` pass at a level; stops at the first action.
        fn pass(&mut self, ms: u64, level: f32) -> Option<Action> {
            for _ in 0..ms / 20 {
                self.now += Duration::from_millis(20);
                self.script.heard(self.now, level);
                let is_answer = |_| !self.holding;
                let action = self.script.tick(self.now, &is_answer);
                if action.is_some() {
                    return action;
                }
            }
            None
        }

        fn ms(&self, at: Instant) -> u128 {
            at.duration_since(self.start).as_millis()
        }
    }

    #[test]
    fn it_waits_for_the_greeting_to_end_and_times_the_answer_from_the_lines_last_sound() {
        let mut phone = Phone::new(1, None);
        assert_eq!(phone.pass(2000, LOUD), None);
        assert_eq!(phone.pass(2000, QUIET), Some(Action::Say(0)));
        assert_eq!(phone.script.speaking(), Some(0));
        phone.script.line_began(0, phone.now);
        phone.pass(1500, QUIET);
        let ended = phone.now;
        phone.script.line_ended(0, ended);
        phone.pass(600, QUIET);
        assert_eq!(phone.pass(1000, LOUD), None);
        assert_eq!(phone.pass(500, QUIET), None, "a pause is not the end");
        assert_eq!(phone.pass(500, LOUD), None);
        assert_eq!(phone.pass(1100, QUIET), Some(Action::HangUp));
        let began = phone.script.events.iter().find_map(|event| match event {
            Event::AnswerBegan(0, at) => Some(*at),
            _ => None,
        });
        let latency = phone.ms(began.expect("answered")) - phone.ms(ended);
        assert_eq!(latency, 620);
    }

    #[test]
    fn a_click_is_not_an_answer_and_no_answer_is_given_up() {
        let mut phone = Phone::new(1, None);
        phone.pass(500, LOUD);
        assert_eq!(phone.pass(2000, QUIET), Some(Action::Say(0)));
        phone.script.line_ended(0, phone.now);
        phone.pass(40, LOUD);
        assert_eq!(phone.pass(6000, QUIET), Some(Action::HangUp));
        assert!(matches!(
            phone.script.events.last(),
            Some(Event::NoAnswer(0, _))
        ));
    }

    #[test]
    fn it_speaks_over_the_answer_when_told_to() {
        let mut phone = Phone::new(2, Some(400));
        phone.pass(500, LOUD);
        assert_eq!(phone.pass(2000, QUIET), Some(Action::Say(0)));
        phone.script.line_ended(0, phone.now);
        assert_eq!(phone.pass(3000, LOUD), Some(Action::Say(1)));
        assert!(
            phone
                .script
                .events
                .iter()
                .any(|event| matches!(event, Event::Interrupted(0, _)))
        );
    }

    #[test]
    fn a_holding_phrase_is_no_answer_and_the_line_after_it_waits() {
        let mut phone = Phone::new(2, None);
        phone.pass(500, LOUD);
        assert_eq!(phone.pass(2000, QUIET), Some(Action::Say(0)));
        phone.script.line_ended(0, phone.now);
        phone.holding = true;
        phone.pass(800, LOUD);
        assert_eq!(phone.pass(2000, QUIET), None);
        phone.holding = false;
        phone.pass(800, LOUD);
        assert_eq!(phone.pass(2000, QUIET), Some(Action::Say(1)));
    }
}
