//! What happens when an engine fails or is late: try again once, say so, never fall silent.

use std::time::{Duration, Instant};

use crate::ids::{Generation, TurnNumber};
use crate::record::{EndedBy, EndedReason, TurnLedger};

use super::api::{Engine, PhraseKind, Work};
use super::speech::{ClauseState, Speech, SpeechKind, Text};
use super::timers::Timer;
use super::utterance::{Purpose, Transcription};
use super::{Conversation, Phase};

/// Failures after which a piece of work is given up.
const MOST_FAILURES: u32 = 2;
/// Silence after a failure before the holding phrase, where something was playing at the time.
const HOLDING_AFTER_FAILURE: Duration = Duration::from_millis(1000);
/// Holding phrases in one turn; each waits twice as long as the one before.
const MOST_FILLERS: u32 = 4;

impl Conversation {
    pub(super) fn engine_state(&mut self, engine: Engine, up: bool) {
        match engine {
            Engine::Stt => self.engines.stt = up,
            Engine::Llm => self.engines.llm = up,
            Engine::Tts => self.engines.tts = up,
        }
    }

    pub(super) fn failed(&mut self, of: Generation, work: Work, retryable: bool) {
        match work {
            Work::Transcribe => {
                let asked = self
                    .utterance
                    .as_ref()
                    .and_then(|utterance| utterance.asked());
                if let Some((_, purpose)) = asked.filter(|(generation, _)| *generation == of) {
                    self.transcript_failed(purpose, retryable);
                }
            }
            Work::Generate if self.summary_failed(of) => {}
            Work::Generate => match self.written_by(of) {
                Some(speech) if speech.committed => self.text_failed(retryable),
                Some(_) => self.drop_speculation(),
                None => {}
            },
            Work::Speak { clause } => self.audio_failed(of, clause, retryable),
        }
    }

    fn transcript_failed(&mut self, purpose: Purpose, retryable: bool) {
        self.timers.clear(Timer::Engine);
        let Some(utterance) = &mut self.utterance else {
            return;
        };
        utterance.transcription = Transcription::Unknown;
        match (purpose, utterance.ended) {
            (Purpose::Turn, None) => {
                // Nobody waits for it: asked for again at the end of the turn, over a holding
                // phrase.
                utterance.failures += 1;
                utterance.paused = false;
                return;
            }
            (Purpose::Partial, _) => return,
            (Purpose::Part | Purpose::Turn, _) => utterance.failures += 1,
        }
        if retryable && utterance.failures < MOST_FAILURES {
            if utterance.ended.is_some() {
                self.say_one_moment();
            }
        } else if purpose == Purpose::Part && utterance.ended.is_none() {
            let covers = utterance.speech_end;
            utterance.failures = 0;
            utterance.close_part(super::evidence::Verdict::Noise, covers);
        } else {
            self.transcript_lost();
        }
    }

    /// The model failed with the speech that is wanted.
    pub(super) fn text_failed(&mut self, retryable: bool) {
        self.timers.clear(Timer::Engine);
        let Some(speech) = &mut self.speech else {
            return;
        };
        speech.failures += 1;
        if let Some(ledger) = speech.note() {
            ledger.retries += 1;
        }
        if !retryable || speech.failures >= MOST_FAILURES {
            self.abandon_from(usize::MAX);
            return;
        }
        if !speech.was_heard() && speech.sent() == 0 {
            // Nothing of it is remembered by anybody: start afresh.
            speech.clauses.clear();
            let generations = std::mem::take(&mut speech.generations);
            for generation in generations {
                self.emit(super::Output::CancelWork { generation });
            }
        }
        if let Some(speech) = &mut self.speech {
            speech.text = Text::Wanted;
        }
        self.say_one_moment();
    }

    fn audio_failed(&mut self, of: Generation, index: u32, retryable: bool) {
        self.timers.clear(Timer::Engine);
        if let Some(clause) = self
            .filler
            .as_mut()
            .and_then(|filler| filler.asked(of, index))
        {
            clause.state = ClauseState::Lost;
            return;
        }
        let reply = self
            .utterance
            .as_mut()
            .and_then(|utterance| utterance.reply.as_mut());
        if reply.is_some_and(|reply| reply.asked(of, index).is_some()) {
            self.drop_speculation();
            return;
        }
        let Some(speech) = &mut self.speech else {
            return;
        };
        let fixed = matches!(speech.kind, SpeechKind::Phrase(_));
        let Some(clause) = speech.asked(of, index) else {
            return;
        };
        clause.failures += 1;
        let again = retryable && clause.failures < MOST_FAILURES;
        clause.state = if again {
            ClauseState::Waiting
        } else {
            ClauseState::Lost
        };
        if let Some(ledger) = speech.note() {
            ledger.retries += 1;
        }
        match (again, fixed) {
            (true, false) => self.say_one_moment(),
            (false, false) => self.abandon_from(index as usize),
            (_, true) => {}
        }
    }

    /// Gives up the clauses from this one on, and says so after those before it.
    fn abandon_from(&mut self, index: usize) {
        let Some(speech) = &mut self.speech else {
            return;
        };
        speech.abandoned = true;
        speech.clauses.truncate(index);
        speech.text = Text::Complete;
        let ended = speech
            .clauses
            .iter()
            .all(|clause| clause.state == ClauseState::Lost);
        if !ended {
            self.failed_turns = self.failed_turns.saturating_add(1);
            let phrase = self.phrase(self.failure_phrase());
            self.queue.push_front(phrase);
        } else if let Some(speech) = self.speech.take() {
            self.cancel(&speech);
            self.fail_turn(speech.turn, speech.ledger);
        }
    }

    /// The turn gets an apology instead of a reply.
    pub(super) fn fail_turn(&mut self, turn: TurnNumber, ledger: Option<TurnLedger>) {
        self.failed_turns = self.failed_turns.saturating_add(1);
        self.suspended = false;
        let phrase = self.phrase(self.failure_phrase());
        self.speech = Some(Speech {
            turn,
            ledger,
            ..phrase
        });
    }

    fn failure_phrase(&self) -> PhraseKind {
        match self.failed_turns >= self.rules.max_failed_turns {
            true => PhraseKind::Trouble,
            false => PhraseKind::Apology,
        }
    }

    /// Not even an apology could be said.
    pub(super) fn count_failed_turn(&mut self, now: Instant) {
        self.failed_turns = self.failed_turns.saturating_add(1);
        if self.failed_turns >= self.rules.max_failed_turns {
            self.close(EndedReason::InternalError, EndedBy::System, None, now);
        }
    }

    /// The holding phrase, unless something is heard already or the caller is speaking.
    pub(super) fn say_one_moment(&mut self) {
        let sounding = self.speech.as_ref().is_some_and(|speech| speech.sent() > 0);
        let quiet = !sounding && !self.hearing.speaking() && !self.suspended;
        if self.filler.is_none() && quiet && self.phase == Phase::Live {
            self.fillers = self.fillers.saturating_add(1);
            self.filler = Some(self.phrase(PhraseKind::Holding));
        }
    }

    /// The caller has waited long enough in silence.
    pub(super) fn hold_the_line(&mut self) {
        if self.waits_in_silence() {
            self.say_one_moment();
        }
    }

    /// The caller has said something and hears nothing.
    fn waits_in_silence(&self) -> bool {
        if self.filler.is_some() || self.suspended || self.phase != Phase::Live {
            return false;
        }
        match &self.speech {
            Some(speech) => speech.committed && speech.starves(),
            None => self
                .utterance
                .as_ref()
                .is_some_and(|utterance| utterance.ended.is_some()),
        }
    }

    /// Keeps the timers that follow from the state of things.
    pub(super) fn watch(&mut self, now: Instant) {
        if self.waits_in_silence() && self.fillers < MOST_FILLERS {
            let failed = self.speech.as_ref().is_some_and(Speech::has_failed);
            let patience = self.rules.holding * 2u32.pow(self.fillers);
            let patience = match failed && self.fillers == 0 {
                true => patience.min(HOLDING_AFTER_FAILURE),
                false => patience,
            };
            self.timers.start(Timer::Holding, now + patience);
        } else {
            self.timers.clear(Timer::Holding);
        }
        if self.waits_for_engine() {
            self.timers
                .start(Timer::Engine, now + self.rules.engine_timeout);
        } else {
            self.timers.clear(Timer::Engine);
        }
        self.watch_silence(now);
    }

    fn waits_for_engine(&self) -> bool {
        let at_work =
            |speech: &Speech| !matches!(speech.text, Text::Complete) || speech.is_synthesised();
        let transcript = self.utterance.as_ref().is_some_and(|utterance| {
            utterance.asked().is_some()
                || utterance.ended.is_some() && utterance.verdict().is_none()
        });
        let reply = self
            .utterance
            .as_ref()
            .and_then(|utterance| utterance.reply.as_ref());
        transcript
            || self.speech.as_ref().is_some_and(at_work)
            || self.filler.as_ref().is_some_and(at_work)
            || reply.is_some_and(at_work)
    }

    /// Whatever is waited for has failed, whether it says so or not.
    pub(super) fn engine_timed_out(&mut self) {
        let late = self
            .utterance
            .as_ref()
            .and_then(|utterance| match utterance.asked() {
                Some((generation, purpose)) => Some((Some(generation), purpose)),
                None if utterance.ended.is_some() && utterance.verdict().is_none() => {
                    Some((None, Purpose::Turn))
                }
                None => None,
            });
        if let Some((generation, purpose)) = late {
            if let Some(generation) = generation {
                self.emit(super::Output::CancelWork { generation });
            }
            self.transcript_failed(purpose, true);
            return;
        }
        self.drop_speculation();
        if let Some(filler) = self.filler.take_if(|filler| filler.is_synthesised()) {
            self.cancel(&filler);
        }
        let Some(speech) = &mut self.speech else {
            return;
        };
        if let Some((generation, clause)) = speech.late_clause() {
            self.audio_failed(generation, clause, true);
        } else if !matches!(speech.text, Text::Complete) {
            self.text_failed(true);
        }
    }
}

impl Speech {
    /// A clause is at the voice, or would be if the voice took work.
    fn is_synthesised(&self) -> bool {
        self.clauses.iter().any(|clause| match clause.state {
            ClauseState::Asked { .. } => true,
            ClauseState::Waiting => self.ahead() == 0,
            ClauseState::Ready { .. }
            | ClauseState::Sent { .. }
            | ClauseState::Played
            | ClauseState::Lost => false,
        })
    }

    /// The first clause that is at the voice. One that waits for the voice to take work counts
    /// as being there.
    fn late_clause(&mut self) -> Option<(Generation, u32)> {
        let waiting = self.ahead() == 0;
        for (clause, index) in self.clauses.iter_mut().zip(0..) {
            match clause.state {
                ClauseState::Asked { generation } => return Some((generation, index)),
                ClauseState::Waiting if waiting => {
                    let generation = Generation::default();
                    clause.state = ClauseState::Asked { generation };
                    return Some((generation, index));
                }
                ClauseState::Waiting
                | ClauseState::Ready { .. }
                | ClauseState::Sent { .. }
                | ClauseState::Played
                | ClauseState::Lost => {}
            }
        }
        None
    }
}
