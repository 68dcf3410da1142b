//! Whether a person or a machine has answered a call of ours, and when a machine listens.
//!
//! ```text
//!            short greeting, then a pause ─▶ a person ──a phrase of machines, a beep─┐
//!  Listening ─ middling one: the words decide ─┤                                     ▼
//!            ─ long greeting, a phrase of machines, a beep ───────────────────▶ a machine
//!            ─ nothing for long ─▶ nobody can tell                                   │
//!                                        a beep is over, or it is quiet, or too late ▼
//!                                                                             it listens
//! ```
//!
//! The person's verdict changes nothing and may be taken back; the machine's is final. Times are
//! from the answer, on the call's clock.

use super::api::CallTime;
use super::phrases::PhraseSet;
use super::settings::{DetectionKind, VoicemailDetectionPlan};
use crate::record::{Answerer, AnswererEvidence};

/// A pause this long ends a greeting, in ms.
const PAUSE: u64 = 1_100;
/// A person says no more than this, in ms, before listening.
const SHORT: u64 = 3_000;
/// A machine says more than this.
const LONG: u64 = 7_000;
/// Silence from the answer on, after which nobody can tell.
const SILENCE: u64 = 10_000;
/// The words of a greeting may come this much after it.
const WORDS: u64 = 4_000;
/// Evidence of a machine counts until this long after the answer: longer greetings are rare.
const WINDOW: u64 = 40_000;
/// Quiet after which a machine without a beep listens.
const QUIET: u64 = 3_000;
/// From the end of a beep to the message.
const AFTER_BEEP: u64 = 300;
/// A stretch of sound shorter than this is no speech.
const CLICK: u64 = 100;

/// Phrases that machines say and people who answer do not.
const MACHINES: &[&str] = &[
    "after the tone",
    "after the beep",
    "at the tone",
    "at the beep",
    "at the sound of the tone",
    "leave a message",
    "leave me a message",
    "leave us a message",
    "leave your message",
    "leave your name",
    "leave a brief message",
    "leave a short message",
    "leave a detailed message",
    "record your message",
    "voicemail",
    "voice mail",
    "voice mailbox",
    "mailbox",
    "answering machine",
    "cant come to the phone",
    "cannot come to the phone",
    "unable to come to the phone",
    "cant take your call",
    "cannot take your call",
    "unable to take your call",
    "unable to answer your call",
    "not available to take your call",
    "nobody is available to take your call",
    "no one is available to take your call",
    "get back to you as soon as",
    "return your call as soon as",
    "when you have finished recording",
    "the person you are trying to reach",
    "the person you have called is",
    "the number you have dialed",
    "the number you have dialled",
    "nach dem ton",
    "nach dem signalton",
    "nach dem piepton",
    "hinterlassen sie",
    "nicht erreichbar",
    "anrufbeantworter",
    "después de la señal",
    "deje su mensaje",
    "buzón de voz",
    "après le bip",
    "laissez un message",
    "messagerie vocale",
];

/// What the detection learns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum DetectionInput<'a> {
    /// A stretch of what the other side says, in order: up to now, of this many ms.
    Sound {
        /// Its length in ms.
        ms: u64,
        /// Whether it is speech.
        speech: bool,
    },
    /// A beep is over.
    Beep,
    /// Words of the other side, as they are recognised.
    Words(&'a str),
}

/// What comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detected {
    /// Who it is, as far as is known by now.
    Answered {
        /// Who.
        by: Answerer,
        /// By what it is known.
        evidence: AnswererEvidence,
    },
    /// The machine records now.
    Listens,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// `until`: the words of a middling greeting are waited for.
    Listening {
        until: Option<u64>,
    },
    /// It is believed; evidence to the contrary counts on.
    Believed,
    /// `listens_at`: a beep is over.
    Machine {
        since: u64,
        listens_at: Option<u64>,
    },
    Over,
}

/// One call's detection.
#[derive(Debug)]
pub struct AnsweringMachineDetection {
    machines: PhraseSet,
    kind: Option<DetectionKind>,
    /// How long a beep is waited for, in ms.
    patience: u64,
    state: State,
    /// First and last speech of the present greeting.
    greeting: Option<(u64, u64)>,
    /// Speech without a break up to now, in ms.
    run: u64,
    /// Last speech.
    last: u64,
}

impl AnsweringMachineDetection {
    /// Begins at the answer.
    pub fn new(plan: &VoicemailDetectionPlan) -> Self {
        Self {
            machines: PhraseSet::new(MACHINES),
            kind: plan.kind,
            patience: (plan.beep_max_await_seconds.clamp(0.0, 60.0) * 1000.0) as u64,
            state: State::Listening { until: None },
            greeting: None,
            run: 0,
            last: 0,
        }
    }

    /// Takes what happened at `at`.
    pub fn handle(&mut self, input: DetectionInput<'_>, at: CallTime) -> Option<Detected> {
        let now = at.millis();
        match input {
            DetectionInput::Sound { ms, speech } => self.sound(ms, speech, now),
            DetectionInput::Beep => self.beep(now),
            DetectionInput::Words(words) => self.words(words, now),
        }
    }

    fn sound(&mut self, ms: u64, speech: bool, now: u64) -> Option<Detected> {
        self.run = if speech { self.run + ms } else { 0 };
        if self.run >= CLICK {
            let since = now.saturating_sub(self.run);
            self.last = now;
            self.greeting = match self.greeting {
                Some((first, last)) if since.saturating_sub(last) < PAUSE => Some((first, now)),
                _ => Some((since, now)),
            };
        }
        match self.state {
            State::Listening { until } => self.judge(until, now),
            State::Machine { since, listens_at } => self.wait(since, listens_at, now),
            State::Believed | State::Over => None,
        }
    }

    fn judge(&mut self, until: Option<u64>, now: u64) -> Option<Detected> {
        let Some((first, last)) = self.greeting else {
            return (now >= SILENCE)
                .then(|| self.believe(Answerer::Unknown, AnswererEvidence::Silence));
        };
        let (length, quiet) = (last - first, now.saturating_sub(last));
        let by_length = self.kind != Some(DetectionKind::Transcript);
        if by_length && length >= LONG {
            return Some(self.machine(AnswererEvidence::LongGreeting, now));
        }
        if quiet < PAUSE {
            return None;
        }
        match until {
            None if length < SHORT => {
                Some(self.believe(Answerer::Human, AnswererEvidence::ShortGreeting))
            }
            None => {
                self.state = State::Listening {
                    until: Some(now + WORDS),
                };
                None
            }
            Some(until) if until <= now => {
                Some(self.believe(Answerer::Human, AnswererEvidence::Words))
            }
            Some(_) => None,
        }
    }

    fn words(&mut self, words: &str, now: u64) -> Option<Detected> {
        if self.kind == Some(DetectionKind::Audio) || now > WINDOW {
            return None;
        }
        match self.state {
            State::Listening { .. } | State::Believed if self.machines.is_in(words) => {
                Some(self.machine(AnswererEvidence::Words, now))
            }
            // The words of the whole greeting, and no machine's.
            State::Listening { until: Some(_) } if !words.trim().is_empty() => {
                Some(self.believe(Answerer::Human, AnswererEvidence::Words))
            }
            _ => None,
        }
    }

    fn beep(&mut self, now: u64) -> Option<Detected> {
        let heard = |state: &mut State, since| {
            *state = State::Machine {
                since,
                listens_at: Some(now + AFTER_BEEP),
            };
        };
        match self.state {
            State::Machine { since, .. } => {
                heard(&mut self.state, since);
                None
            }
            State::Listening { .. } | State::Believed if now <= WINDOW => {
                heard(&mut self.state, now);
                Some(Detected::Answered {
                    by: Answerer::Machine,
                    evidence: AnswererEvidence::Beep,
                })
            }
            State::Listening { .. } | State::Believed | State::Over => None,
        }
    }

    /// Whether the machine listens by now.
    fn wait(&mut self, since: u64, listens_at: Option<u64>, now: u64) -> Option<Detected> {
        let listens = match listens_at {
            // What else it says is waited for.
            Some(at) => now >= at && now.saturating_sub(self.last) >= AFTER_BEEP,
            None => now.saturating_sub(self.last.max(since)) >= QUIET,
        };
        let late = now.saturating_sub(since) >= self.patience;
        (listens || late).then(|| {
            self.state = State::Over;
            Detected::Listens
        })
    }

    fn believe(&mut self, by: Answerer, evidence: AnswererEvidence) -> Detected {
        self.state = State::Believed;
        Detected::Answered { by, evidence }
    }

    fn machine(&mut self, evidence: AnswererEvidence, now: u64) -> Detected {
        self.state = State::Machine {
            since: now,
            listens_at: None,
        };
        Detected::Answered {
            by: Answerer::Machine,
            evidence,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The other side in virtual time.
    struct Other {
        detection: AnsweringMachineDetection,
        now: u64,
        found: Vec<(u64, Answerer, AnswererEvidence)>,
        listens: Option<u64>,
    }

    impl Other {
        fn new(kind: Option<DetectionKind>) -> Self {
            let plan = VoicemailDetectionPlan {
                kind,
                ..VoicemailDetectionPlan::default()
            };
            Self {
                detection: AnsweringMachineDetection::new(&plan),
                now: 0,
                found: Vec::new(),
                listens: None,
            }
        }

        fn take(&mut self, detected: Option<Detected>) {
            match detected {
                Some(Detected::Answered { by, evidence }) => {
                    self.found.push((self.now, by, evidence));
                }
                Some(Detected::Listens) => self.listens = Some(self.now),
                None => {}
            }
        }

        fn sound(mut self, ms: u64, speech: bool) -> Self {
            for _ in 0..ms / 20 {
                self.now += 20;
                let input = DetectionInput::Sound { ms: 20, speech };
                let detected = self.detection.handle(input, CallTime(self.now));
                self.take(detected);
            }
            self
        }

        fn says(self, ms: u64) -> Self {
            self.sound(ms, true)
        }

        fn pauses(self, ms: u64) -> Self {
            self.sound(ms, false)
        }

        fn words(mut self, words: &str) -> Self {
            let input = DetectionInput::Words(words);
            let detected = self.detection.handle(input, CallTime(self.now));
            self.take(detected);
            self
        }

        fn beeps(mut self) -> Self {
            let detected = self
                .detection
                .handle(DetectionInput::Beep, CallTime(self.now));
            self.take(detected);
            self
        }

        fn last(&self) -> (Answerer, AnswererEvidence) {
            let (_, by, evidence) = self.found.last().expect("a verdict");
            (*by, *evidence)
        }
    }

    #[test]
    fn a_short_hello_and_a_pause_are_a_person() {
        let other = Other::new(None).pauses(600).says(700).pauses(1500);
        assert_eq!(
            other.last(),
            (Answerer::Human, AnswererEvidence::ShortGreeting)
        );
        assert!(other.found[0].0 < 2600, "{:?}", other.found);
        let talks_on = other
            .words("Hello?")
            .says(12_000)
            .words("And then I told him that I would call")
            .pauses(20_000);
        assert_eq!(talks_on.found.len(), 1);
        assert_eq!(talks_on.listens, None);
    }

    #[test]
    fn a_long_greeting_is_a_machine_that_listens_after_its_beep() {
        let other = Other::new(None)
            .pauses(400)
            .says(3000)
            .pauses(600)
            .says(4000);
        assert_eq!(
            other.last(),
            (Answerer::Machine, AnswererEvidence::LongGreeting)
        );
        let other = other.says(2000).pauses(900);
        assert_eq!(other.listens, None, "it waits for the beep");
        let beep = other.now;
        let other = other.beeps().pauses(1000);
        assert_eq!(other.listens, Some(beep + AFTER_BEEP));
    }

    #[test]
    fn words_tell_a_machine_at_once_and_a_company_from_one() {
        let machine = Other::new(None)
            .says(2500)
            .words("Hi, it's Ann. Please leave a message");
        assert_eq!(machine.last(), (Answerer::Machine, AnswererEvidence::Words));
        let company = Other::new(None)
            .says(4500)
            .pauses(1500)
            .words("Good morning, Example Limited, this is Mary, how can I help you?");
        assert_eq!(company.last(), (Answerer::Human, AnswererEvidence::Words));
        let unheard = Other::new(None).says(4500).pauses(6000);
        assert_eq!(unheard.last(), (Answerer::Human, AnswererEvidence::Words));
        let german = Other::new(None)
            .says(2000)
            .words("Bitte hinterlassen Sie eine Nachricht.");
        assert_eq!(german.last().0, Answerer::Machine);
    }

    #[test]
    fn a_machine_that_sounds_like_a_person_at_first_is_found_out() {
        let other = Other::new(None).says(900).pauses(1300);
        assert_eq!(other.last().0, Answerer::Human);
        let other = other.says(2000).words("after the tone").pauses(400);
        assert_eq!(other.last(), (Answerer::Machine, AnswererEvidence::Words));
        let only_a_beep = Other::new(None).says(900).pauses(1300).beeps().pauses(600);
        assert_eq!(
            only_a_beep.last(),
            (Answerer::Machine, AnswererEvidence::Beep)
        );
        assert!(only_a_beep.listens.is_some());
    }

    #[test]
    fn a_machine_without_a_beep_listens_when_it_is_quiet_or_when_it_is_late() {
        let quiet = Other::new(None).says(8000).pauses(4000);
        assert_eq!(quiet.listens, Some(8000 + QUIET));
        let talks = Other::new(None).says(60_000);
        assert_eq!(talks.listens, Some(LONG + 30_000));
    }

    #[test]
    fn nobody_can_tell_of_silence_and_clicks() {
        let other = Other::new(None).pauses(3000).says(60).pauses(9000);
        assert_eq!(other.last(), (Answerer::Unknown, AnswererEvidence::Silence));
        assert_eq!(other.found.len(), 1);
    }

    #[test]
    fn each_kind_of_evidence_can_be_left_out() {
        let deaf = Other::new(Some(DetectionKind::Audio))
            .says(2000)
            .words("leave a message after the tone");
        assert!(deaf.found.is_empty());
        let by_words = Other::new(Some(DetectionKind::Transcript)).says(20_000);
        assert!(by_words.found.is_empty());
        let by_words = by_words.words("leave a message");
        assert_eq!(by_words.last().0, Answerer::Machine);
    }
}
