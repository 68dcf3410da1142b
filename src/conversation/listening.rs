//! The caller's side: from speech to a committed turn.

use std::time::{Duration, Instant};

use crate::ids::Generation;
use crate::record::{Message, Role, TurnLedger};

use super::api::{AudioRange, CallTime, ChatRole, Output, PhraseKind, Progress, SamplePosition};
use super::endpointing::{self, Evidence, Whole};
use super::evidence::Verdict;
use super::hearing::{Heard, samples};
use super::speech::{Speech, SpeechKind};
use super::timers::Timer;
use super::utterance::{Ended, Finished, Purpose, Transcription, Utterance};
use super::{Conversation, Phase};

/// How much more may be said before a reply to what was said before it is given up, in ms of
/// speech: a breath, or a click, which changes no words.
const SLIP_MS: u64 = 400;
/// Silence after which the sound of what was said is judged: what the model was trained with.
const JUDGED_SILENCE: Duration = Duration::from_millis(160);
/// How much of the caller's sound is judged, in ms.
const JUDGED_MS: u64 = 8_000;
/// How far the detector may be behind the clock without being waited for, in ms.
const DETECTOR_LAG_MS: u64 = 72;
/// How long the detector is waited for at a silence's end.
const DETECTOR_PATIENCE_MS: u64 = 500;
/// Of a silence this short on a clear line the detector is not asked, in ms: it takes a while to
/// forget speech.
const SOUND_SUFFICES_MS: u64 = 200;
/// A sound in the last so manieth of a silence may be the first of more speech: the detector has
/// not said yet what it is, or misses a single soft word.
const SOUND_DECIDES: u64 = 5;
/// A television in the caller's room is not asked to repeat itself for ever.
const MOST_MISSED: u32 = 2;

impl Conversation {
    pub(super) fn vad(
        &mut self,
        end: SamplePosition,
        samples: u32,
        probability: f32,
        now: Instant,
    ) {
        if end <= self.hearing.heard_to() {
            return;
        }
        let heard = self.hearing.window(end, samples, probability);
        if self.timers.paused() || self.phase != Phase::Live {
            self.hearing.reset();
            return;
        }
        match heard {
            Heard::Silence | Heard::Stopped => return,
            Heard::Began { start, end } => match &mut self.utterance {
                Some(utterance) => {
                    let pause = start.0.saturating_sub(utterance.speech_end.0);
                    self.habits.paused(SamplePosition(pause).time().duration());
                    utterance.close_long_part(start);
                    utterance.more(end.0.saturating_sub(start.0), end, probability);
                }
                None => {
                    let audio_start = SamplePosition(start.0.saturating_sub(self.rules.pre_roll));
                    self.utterance = Some(Utterance::new(start, end, audio_start, probability));
                }
            },
            Heard::Speech { end } => {
                let trail = self.hearing.is_trail(end, self.clock());
                match &mut self.utterance {
                    Some(utterance) if trail => {
                        utterance.trail(end);
                        return self.expect_pause(now);
                    }
                    Some(utterance) => utterance.more(u64::from(samples), end, probability),
                    None => {}
                }
            }
        }
        self.caller_goes_on();
        self.expect_pause(now);
        self.consider_interruption(now);
    }

    /// More speech: what was concluded from the pause before it is void.
    fn caller_goes_on(&mut self) {
        let Some(utterance) = &mut self.utterance else {
            return;
        };
        utterance.paused = false;
        if utterance.ended.take().is_some() {
            self.timers.clear(Timer::Holding);
            self.timers.clear(Timer::Floor);
        }
        utterance.go_on();
        let slip = utterance.answered.speech.saturating_add(samples(SLIP_MS));
        if utterance.speech > slip {
            self.drop_speculation();
        }
    }

    pub(super) fn drop_speculation(&mut self) {
        let Some(utterance) = &mut self.utterance else {
            return;
        };
        let since = utterance.answered.since;
        if let Some(reply) = utterance.reply.take() {
            self.cancel(&reply);
            let wasted = Duration::from_millis(self.clock().0.saturating_sub(since.0));
            self.emit(Output::Progress(Progress::SpeculationDropped { wasted }));
        }
    }

    /// Sets the timers for the silence after the last speech.
    pub(super) fn expect_pause(&mut self, now: Instant) {
        let Some(utterance) = &self.utterance else {
            self.timers.clear(Timer::Speculate);
            self.timers.clear(Timer::Judge);
            self.timers.clear(Timer::Endpoint);
            return;
        };
        if utterance.ended.is_some() {
            return;
        }
        let since = SamplePosition::at(self.silent_since(utterance));
        let since = self.instant_of(since, now);
        let wait = self.silence_wanted(utterance);
        match self.rules.speculation {
            Some(short) if !utterance.paused => self.timers.set(Timer::Speculate, since + short),
            Some(_) | None => self.timers.clear(Timer::Speculate),
        }
        if self.rules.smart_endpointing && utterance.finished == Finished::Unknown {
            self.timers.set(Timer::Judge, since + JUDGED_SILENCE);
        }
        self.timers.set(Timer::Endpoint, since + wait);
    }

    /// Silence that the end-of-turn model wants to hear.
    pub(super) fn judge_silence(&mut self, now: Instant) {
        if self.detector_is_behind(JUDGED_SILENCE) {
            let again = now + Duration::from_millis(20);
            return self.timers.set(Timer::Judge, again);
        }
        let end = self.hearing.heard_to();
        let utterance = self.utterance.as_mut();
        let Some(utterance) = utterance.filter(|it| it.finished == Finished::Unknown) else {
            return;
        };
        utterance.finished = Finished::Asked(utterance.speech_end);
        let earliest = SamplePosition(end.0.saturating_sub(samples(JUDGED_MS)));
        let (speech_end, start) = (utterance.speech_end, utterance.part_start.max(earliest));
        let range = AudioRange { start, end };
        self.emit(Output::JudgeTurn { speech_end, range });
    }

    /// When the silence after the caller's last speech began.
    fn silent_since(&self, utterance: &Utterance) -> CallTime {
        let sounding = self.hearing.last_sounding(utterance.speech_end);
        sounding.unwrap_or(utterance.speech_end.time())
    }

    fn silence_wanted(&self, utterance: &Utterance) -> Duration {
        let verdict = utterance.verdict();
        let transcript = match &verdict {
            // People who speak another language end their sentences no later.
            Some(Verdict::Words(words) | Verdict::OtherLanguage(words)) => Some(words.as_str()),
            // Nothing to go by.
            Some(Verdict::Unclear | Verdict::Noise) => Some(""),
            None => None,
        };
        let finished = match utterance.finished {
            Finished::Known(probability) => Some(probability),
            Finished::Asked(_) | Finished::Unknown => None,
        };
        let reply = utterance.reply.as_ref();
        let whole = match (reply, utterance.answered.whole) {
            (Some(_), Some(probability)) if self.rules.smart_endpointing => {
                Whole::Known(probability)
            }
            (Some(reply), None)
                if self.rules.smart_endpointing && self.engines.llm && reply.is_unwritten() =>
            {
                Whole::Expected
            }
            (Some(_) | None, _) => Whole::Unknown,
        };
        self.rules.waits.silence(Evidence {
            transcript,
            guessed: matches!(
                utterance.transcription,
                Transcription::Known { sure: false, .. }
            ),
            whole,
            finished,
            asked: self.history.last_of(ChatRole::Assistant),
            ways: self.habits.ways(),
        })
    }

    /// The detector has not come to the end of the silence yet, and is worth waiting for; or the
    /// silence began later than was thought.
    fn detector_is_behind(&self, silence: Duration) -> bool {
        let Some(utterance) = &self.utterance else {
            return false;
        };
        let silence = u64::try_from(silence.as_millis()).unwrap_or(u64::MAX);
        let due = self.silent_since(utterance).0.saturating_add(silence);
        if let Some(last) = self.hearing.last_sounding(utterance.speech_end)
            && silence <= SOUND_SUFFICES_MS
        {
            return self.clock().0 < last.0.saturating_add(silence);
        }
        let behind = self
            .hearing
            .heard_to()
            .time()
            .0
            .saturating_add(DETECTOR_LAG_MS)
            < due;
        let waiting = self.clock().0 < due.saturating_add(DETECTOR_PATIENCE_MS);
        let early = self.clock().0 < due;
        let decides = silence / SOUND_DECIDES;
        let last_sound = self.hearing.last_sound_of_any().0;
        let sounds = self.clock().0 < last_sound.saturating_add(decides)
            && self.clock().0 < due.saturating_add(4 * decides);
        early || sounds || (behind || self.hearing.may_be_speaking()) && waiting
    }

    /// Silence of `speculationPlan.silenceSeconds`.
    pub(super) fn short_silence(&mut self, now: Instant) {
        let Some(short) = self.rules.speculation else {
            return;
        };
        if self.detector_is_behind(short) {
            self.timers
                .set(Timer::Speculate, now + Duration::from_millis(20));
        } else if let Some(utterance) = &mut self.utterance {
            utterance.paused = true;
        }
    }

    /// Silence that ends the turn.
    pub(super) fn endpoint(&mut self, now: Instant) {
        let Some(utterance) = &self.utterance else {
            return;
        };
        if self.detector_is_behind(self.silence_wanted(utterance)) {
            self.timers
                .set(Timer::Endpoint, now + Duration::from_millis(20));
            return;
        }
        // A detector that died in the middle of speech does not keep the turn open.
        self.hearing.reset();
        let ended = Ended {
            at: self.clock(),
            speech_ended: self.hearing.speech_ended(utterance.start),
        };
        let words_count = self.rules.num_words > 0 && self.is_interruptible();
        let ignored = self.speech.is_some() && !self.suspended && !words_count;
        if let Some(utterance) = &mut self.utterance {
            utterance.ended = Some(ended);
            utterance.paused = true;
        }
        let failed_before = self
            .utterance
            .as_ref()
            .is_some_and(|utterance| utterance.failures > 0);
        self.timers.clear(Timer::Speculate);
        self.timers.clear(Timer::Judge);
        self.fillers = 0;
        if failed_before && !ignored {
            self.say_one_moment();
        }
        if let Some(utterance) = &mut self.utterance
            && let Some((_, Purpose::Turn)) = utterance.asked()
            && let Some(generation) = utterance.wait_for_it()
        {
            self.emit(Output::Commit { generation });
        }
        if ignored {
            // A cough beneath the assistant's speech, or speech that it is protected from.
            self.drop_utterance();
        } else if self.suspended {
            self.timers
                .set(Timer::Floor, now + super::interrupting::DECISION_PATIENCE);
        }
    }

    pub(super) fn turn_probability(&mut self, end: SamplePosition, finished: f32, now: Instant) {
        let Some(utterance) = &mut self.utterance else {
            return;
        };
        let usable = self.rules.smart_endpointing && (0.0..=1.0).contains(&finished);
        if usable && utterance.finished == Finished::Asked(end) {
            utterance.finished = Finished::Known(finished);
            self.expect_pause(now);
        }
    }

    pub(super) fn sentence_ends(&mut self, of: Generation, probability: f32, now: Instant) {
        let Some(utterance) = &mut self.utterance else {
            return;
        };
        let reply = utterance.reply.as_ref();
        let answers = reply.is_some_and(|reply| reply.is_written_by(of));
        if answers && (0.0..=1.0).contains(&probability) {
            utterance.answered.whole = Some(probability);
            self.expect_pause(now);
        }
    }

    /// Acts on a turn that is over and understood. True where something changed.
    pub(super) fn settle_turn(&mut self, now: Instant) -> bool {
        if let Some(changed) = self.settle_utterance(now) {
            return changed;
        }
        // An entry waits for words being said, and for speech that may not be interrupted.
        if self.utterance.is_none()
            && self.speech.is_none()
            && self.phase == Phase::Live
            && let Some(entry) = self.entry.take()
        {
            let at = self.clock();
            let ended = Ended {
                at,
                speech_ended: at,
            };
            self.commit(&entry, ended, None, now);
            return true;
        }
        false
    }

    fn settle_utterance(&mut self, now: Instant) -> Option<bool> {
        let utterance = self.utterance.as_ref()?;
        let (Some(ended), Some(verdict)) = (utterance.ended, utterance.verdict()) else {
            return Some(false);
        };
        if self.speech.is_some() {
            // Suspended speech was decided about when the words came; else they did not count.
            if self.suspended {
                return Some(false);
            }
            self.drop_utterance();
            return Some(true);
        }
        match verdict {
            Verdict::Words(words) => {
                let utterance = self.utterance.take();
                let words = match self.entry.take() {
                    Some(entry) => format!("{words} {entry}"),
                    None => words,
                };
                self.commit(&words, ended, utterance, now);
            }
            Verdict::OtherLanguage(_) if self.missed < MOST_MISSED => {
                self.say_missed(PhraseKind::OtherLanguage, ended);
            }
            Verdict::Unclear if self.missed < MOST_MISSED => {
                self.say_missed(PhraseKind::Missed, ended);
            }
            Verdict::OtherLanguage(_) | Verdict::Unclear | Verdict::Noise => self.drop_utterance(),
        }
        self.expect_pause(now);
        Some(true)
    }

    fn ledger(&mut self, ended: Ended, utterance: Option<&Utterance>) -> TurnLedger {
        TurnLedger {
            turn: self.next_turn(),
            speech_ended_ms: utterance.map(|_| ended.speech_ended.0),
            endpoint_ms: Some(ended.at.0),
            transcript_ms: utterance
                .and_then(|utterance| utterance.transcript_at)
                .map(|at| at.0),
            holding_packet_ms: utterance
                .and_then(|utterance| utterance.holding)
                .map(|at| at.0),
            retries: utterance.map_or(0, |utterance| utterance.failures),
            ..TurnLedger::default()
        }
    }

    /// The turn stands: it is remembered and answered.
    fn commit(
        &mut self,
        words: &str,
        ended: Ended,
        mut utterance: Option<Utterance>,
        now: Instant,
    ) {
        let ledger = self.ledger(ended, utterance.as_ref());
        let turn = ledger.turn;
        let start = utterance
            .as_ref()
            .map_or(ended.at, |utterance| utterance.start.time());
        self.emit(Output::Message(Message {
            role: Role::User,
            message: words.to_owned(),
            start_ms: start.0,
            end_ms: ended.speech_ended.0.max(start.0),
            turn,
            interrupted: false,
        }));
        self.timers.clear(Timer::Floor);
        self.idle_count = 0;
        self.missed = 0;
        self.habits.turn_over(endpointing::ends_in_number(words));
        let early = utterance
            .as_mut()
            .and_then(|utterance| utterance.reply.take());
        if let Some(to) = self.destination_said(words) {
            if let Some(early) = early {
                self.cancel(&early);
            }
            self.transfer_after_words(words, to, ledger);
            return;
        }
        let ends_call = self.rules.end_call_phrases.is(words);
        if ends_call && self.rules.phrases.contains_key(&PhraseKind::EndCall) {
            if let Some(early) = early {
                self.cancel(&early);
            }
            self.history.push(ChatRole::User, words);
            self.close_after_phrase(ledger, now);
            return;
        }
        let mut reply = match early {
            Some(reply) => self.adopt(reply),
            None => Speech::from_model(SpeechKind::Reply, turn),
        };
        self.history.push(ChatRole::User, words);
        reply.committed = true;
        reply.turn = turn;
        reply.ends_call = ends_call;
        let early = reply.ledger.take().unwrap_or_default();
        reply.ledger = Some(TurnLedger {
            first_token_ms: early.first_token_ms,
            first_clause_ms: early.first_clause_ms,
            first_audio_ms: early.first_audio_ms,
            ..ledger
        });
        self.speech = Some(reply);
    }

    /// A speculative reply is the reply.
    fn adopt(&mut self, reply: Speech) -> Speech {
        for &generation in &reply.generations {
            self.emit(Output::Commit { generation });
        }
        self.emit(Output::Progress(Progress::SpeculationKept));
        reply
    }

    /// Somebody spoke, and was not understood: `kind` says why.
    fn say_missed(&mut self, kind: PhraseKind, ended: Ended) {
        self.missed += 1;
        let utterance = self.utterance.take();
        let ledger = self.ledger(ended, utterance.as_ref());
        self.timers.clear(Timer::Floor);
        self.idle_count = 0;
        let mut speech = self.phrase(kind);
        speech.turn = ledger.turn;
        speech.ledger = Some(ledger);
        self.speech = Some(speech);
    }

    /// Nobody can transcribe it.
    pub(super) fn transcript_lost(&mut self) {
        if self.speech.is_some() {
            // What the assistant was saying is worth more than an apology.
            self.resume_speech();
            return;
        }
        let Some(utterance) = self.utterance.take() else {
            return;
        };
        let now = self.clock();
        let ended = utterance.ended.unwrap_or(Ended {
            at: now,
            speech_ended: now,
        });
        let ledger = self.ledger(ended, Some(&utterance));
        self.timers.clear(Timer::Floor);
        self.fail_turn(ledger.turn, Some(ledger));
    }

    /// Forgets what the caller was saying. Speech that waited for it goes on.
    pub(super) fn drop_utterance(&mut self) {
        self.drop_speculation();
        if let Some(utterance) = self.utterance.take()
            && let Some((generation, _)) = utterance.asked()
        {
            self.emit(Output::CancelWork { generation });
        }
        self.suspended = false;
        for timer in [
            Timer::Speculate,
            Timer::Judge,
            Timer::Endpoint,
            Timer::Floor,
        ] {
            self.timers.clear(timer);
        }
    }
}
