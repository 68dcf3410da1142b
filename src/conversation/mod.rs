//! Who speaks when: a pure state machine, one for each call.
//!
//! Feed it with [`Conversation::handle`], take what it wants done from [`Conversation::poll`]
//! until there is no more, and come back with [`Input::Timeout`] when
//! [`Conversation::deadline`] passes.
//!
//! ```text
//!  call     Waiting ──MediaStarted──► Live ──an end is decided──► Closing ──drained + tail──► Ended
//!                                      │ ▲                                                      ▲
//!                                 Hold ▼ │ Resume                                        HungUp │
//!                                   (on hold: timers stand still) ──────────────────────────────┘
//!
//!  caller   Quiet ──speech──► Speaking ──short silence──► Pausing ──wait over──► Ended ─┐
//!             ▲                  ▲  │     speculate:         │     (endpointing)   │ the transcript
//!             │                  │  └──── transcript,        │                     │ is waited for
//!             │                  │        reply, 1st clause  │                     ▼
//!             │                  └──── speech: drop them ────┘                 judged (evidence)
//!             ├── noise: forgotten ◄──────────────────────────────────────────────┤
//!             ├── hopeless: "Sorry, I missed that" ◄──────────────────────────────┤
//!             ├── another language: "I only understand English" ◄─────────────────┤
//!             └── words: COMMIT, a turn: remembered, answered ◄───────────────────┘
//!
//!  reply    Thinking ──clause──► Speaking ──all played──► Done: remembered, ledger out
//!             │  ▲ failed once:     │  ▲
//!             │  │ holding phrase,  │  │ only "mm-hm" or noise:
//!             │  │ again under a    │  │ go on at the word where it stopped
//!             │  │ new generation   ▼  │
//!             │  └───────────────Suspended (the caller speaks) ──real words──► Interrupted:
//!             └──failed twice──► apology, then listening                       the words played
//!                                (too often in a row: trouble, end)            are remembered
//! ```
//!
//! Every request to an engine carries a new [`Generation`]; an answer
//! that names one that is not waited for any more is dropped at the door.

mod agreement;
pub mod answering_machine;
mod api;
mod closing;
mod endpointing;
mod evidence;
mod failing;
mod habits;
mod hearing;
mod history;
mod interrupting;
mod listening;
mod markup;
mod numbers;
mod phrases;
mod rules;
mod speech;
mod summarising;
mod talking;
mod timers;
mod transcribing;
mod transferring;
mod utterance;

pub mod settings;
pub mod speakable;
pub mod speech_text;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::ids::{Generation, TurnNumber};
use crate::record::{EndedBy, EndedReason};

pub use api::*;
use habits::Habits;
use hearing::Hearing;
use history::History;
use rules::Rules;
use settings::AssistantSettings;
use speech::Speech;
use summarising::Summary;
use timers::{Timer, Timers};
use utterance::Utterance;

/// The phrases that the driver has audio for. One that is missing is synthesised when it is
/// needed.
pub type PreparedPhrases = BTreeMap<PhraseKind, ClipLength>;

/// Where the call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Waiting,
    Live,
    Closing { reason: EndedReason, by: EndedBy },
    Ended,
}

/// Which engines take work.
#[derive(Clone, Copy, Debug)]
struct Engines {
    stt: bool,
    llm: bool,
    tts: bool,
}

/// One call's conversation.
#[derive(Debug)]
pub struct Conversation {
    rules: Rules,
    prepared: PreparedPhrases,
    phase: Phase,
    /// When the media started, once it has; then the time of the last input.
    origin: Option<Instant>,
    now: Option<Instant>,
    timers: Timers,
    engines: Engines,
    generation: Generation,
    last_turn: TurnNumber,
    history: History,
    hearing: Hearing,
    /// What the caller is saying.
    utterance: Option<Utterance>,
    /// What the assistant is saying or about to say.
    speech: Option<Speech>,
    /// The caller speaks: the speech waits until it is known whether they meant to interrupt.
    suspended: bool,
    /// The speech is played low: the caller may be about to interrupt it.
    ducked: bool,
    /// What the assistant says after that.
    queue: VecDeque<Speech>,
    /// A holding phrase, which plays before the speech.
    filler: Option<Speech>,
    /// Holding phrases since the caller's last turn.
    fillers: u32,
    failed_turns: u32,
    /// Turns in a row that could not be made out.
    missed: u32,
    idle_count: u32,
    /// Keys of an entry that is not complete.
    digits: String,
    /// How often in a row an entry was too short.
    short_entries: u32,
    /// An entry that is complete and not answered.
    entry: Option<String>,
    habits: Habits,
    summary: Option<Summary>,
    caller_speaks: bool,
    assistant_speaks: bool,
    outputs: VecDeque<Output>,
}

impl Conversation {
    /// A conversation that waits for [`Input::MediaStarted`].
    pub fn new(settings: &AssistantSettings, phrases: PreparedPhrases) -> Self {
        let rules = Rules::new(settings);
        Self {
            prepared: phrases,
            phase: Phase::Waiting,
            origin: None,
            now: None,
            timers: Timers::default(),
            engines: Engines {
                stt: true,
                llm: true,
                tts: true,
            },
            generation: Generation::default(),
            last_turn: TurnNumber::default(),
            history: History::new(rules.prompt.clone()),
            hearing: Hearing::new(rules.start_threshold, rules.end_threshold, rules.min_speech),
            utterance: None,
            speech: None,
            suspended: false,
            ducked: false,
            queue: VecDeque::new(),
            filler: None,
            fillers: 0,
            failed_turns: 0,
            missed: 0,
            idle_count: 0,
            digits: String::new(),
            short_entries: 0,
            entry: None,
            habits: Habits::default(),
            summary: None,
            caller_speaks: false,
            assistant_speaks: false,
            outputs: VecDeque::new(),
            rules,
        }
    }

    /// Takes in what happened at `now`, which never runs backwards.
    pub fn handle(&mut self, input: Input, now: Instant) {
        if self.phase == Phase::Ended {
            return;
        }
        let now = self.now.map_or(now, |earlier| earlier.max(now));
        self.now = Some(now);
        if self.phase == Phase::Waiting {
            self.handle_waiting(&input, now);
            return;
        }
        while let Some((timer, _)) = self.timers.take_due(now) {
            self.timer(timer, now);
        }
        if self.phase != Phase::Ended {
            self.input(input, now);
        }
        self.settle(now);
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Timeout`] is due, and for what.
    pub fn deadline(&self) -> Option<(Instant, &'static str)> {
        self.timers.next()
    }

    /// No sound of the caller's from before this is asked for any more.
    pub fn asks_from(&self) -> SamplePosition {
        let from = match &self.utterance {
            Some(utterance) => utterance.part_start,
            None => self.hearing.onset(),
        };
        let before = self.rules.pre_roll + hearing::samples(1000);
        SamplePosition(from.0.saturating_sub(before))
    }

    /// True after [`Output::EndCall`] or [`Input::HungUp`]: nothing comes out any more but what
    /// is already to be polled.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Ended
    }

    fn handle_waiting(&mut self, input: &Input, now: Instant) {
        match *input {
            Input::MediaStarted => {
                self.origin = Some(now);
                self.phase = Phase::Live;
                self.timers
                    .set(Timer::MaxDuration, now + self.rules.max_duration);
                self.greet();
                self.settle(now);
            }
            Input::HungUp => self.phase = Phase::Ended,
            Input::Control(Control::End { reason, by, .. }) => {
                self.emit(Output::EndCall { reason, by });
                self.phase = Phase::Ended;
            }
            Input::EngineState { engine, up } => self.engine_state(engine, up),
            _ => {}
        }
    }

    fn input(&mut self, input: Input, now: Instant) {
        match input {
            Input::MediaStarted | Input::Timeout => {}
            Input::Frame { at, level_dbfs } => self.hearing.frame(at, level_dbfs),
            Input::Vad {
                end,
                samples,
                probability,
            } => self.vad(end, samples, probability, now),
            Input::TurnProbability { end, probability } => {
                self.turn_probability(end, probability, now);
            }
            Input::Transcript {
                generation,
                transcript,
            } => {
                self.transcript(generation, &transcript, now);
            }
            Input::SentenceEnds {
                generation,
                probability,
            } => self.sentence_ends(generation, probability, now),
            Input::ReplyText { generation, text } => self.reply_text(generation, &text, now),
            Input::ReplyDone { generation } => self.reply_done(generation),
            Input::ClauseReady {
                generation,
                clause,
                length,
            } => {
                self.clause_ready(generation, clause, length);
            }
            Input::Failed {
                generation,
                work,
                retryable,
            } => {
                self.failed(generation, work, retryable);
            }
            Input::EngineState { engine, up } => self.engine_state(engine, up),
            Input::Playback { clip, played, at } => self.playback(clip, played, at),
            Input::PlaybackFinished { clip, at } => self.playback_finished(clip, at),
            Input::Digit(key) => self.digit(key, now),
            Input::Control(control) => self.control(control, now),
            Input::HungUp => self.hung_up(),
        }
    }

    fn timer(&mut self, timer: Timer, now: Instant) {
        match timer {
            Timer::Speculate => self.short_silence(now),
            Timer::Judge => self.judge_silence(now),
            Timer::Endpoint => self.endpoint(now),
            Timer::Floor => self.go_on_unless_interrupted(),
            Timer::Holding => self.hold_the_line(),
            Timer::Engine => self.engine_timed_out(),
            // What it held back is looked at when the input was taken in.
            Timer::Backoff => {}
            Timer::Idle => self.say_idle_message(),
            Timer::Silence => self.silence_timed_out(now),
            Timer::MaxDuration => {
                let (reason, by) = (EndedReason::ExceededMaxDuration, EndedBy::Assistant);
                self.close(reason, by, Some(PhraseKind::EndCall), now);
                if self.timers.paused() {
                    // Nobody hears a goodbye on hold or through a bridge.
                    self.end_call();
                }
            }
            Timer::Keypad => self.complete_entry(),
            Timer::Closing | Timer::Tail => self.end_call(),
        }
    }

    /// Draws every conclusion from what is known: turns, speeches, requests, timers.
    fn settle(&mut self, now: Instant) {
        // Each round finishes a turn or a speech, or is the last.
        while self.phase != Phase::Ended && (self.settle_turn(now) | self.settle_speech(now)) {}
        if self.phase == Phase::Ended {
            return;
        }
        self.ask_for_transcript();
        self.ask_for_replies();
        self.ask_for_audio();
        self.play();
        self.duck();
        self.watch(now);
        self.report_progress();
    }

    fn emit(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    fn next_generation(&mut self) -> Generation {
        self.generation = self.generation.next();
        self.generation
    }

    fn next_turn(&mut self) -> TurnNumber {
        self.last_turn = TurnNumber(self.last_turn.0.saturating_add(1));
        self.last_turn
    }

    /// Now, on the call's clock.
    fn clock(&self) -> CallTime {
        let since = match (self.now, self.origin) {
            (Some(now), Some(origin)) => now.saturating_duration_since(origin),
            (None, _) | (_, None) => Duration::ZERO,
        };
        CallTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// When this sample passed.
    fn instant_of(&self, position: SamplePosition, now: Instant) -> Instant {
        let offset = Duration::from_millis(position.time().0);
        self.origin
            .and_then(|origin| origin.checked_add(offset))
            .unwrap_or(now)
    }
}

#[cfg(test)]
mod tests;
