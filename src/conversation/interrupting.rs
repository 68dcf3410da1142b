//! When the caller speaks while the assistant has the floor.

use std::time::{Duration, Instant};

use crate::record::Role;

use super::Conversation;
use super::api::{CallTime, Output, PhraseKind, Progress};
use super::evidence::Verdict;
use super::hearing::samples;
use super::phrases::words;
use super::speech::SpeechKind;
use super::timers::Timer;

/// The assistant's voice fades out over this, in ms: no click, and felt as at once.
pub(super) const FADE_MS: u32 = 15;
/// Nobody says "mm-hm" for longer than this, in ms of speech: whoever does, interrupts.
const SURE_INTERRUPTION_MS: u64 = 1000;
/// Nor for longer than this where other words were made out, however badly.
const SURE_WITH_WORDS_MS: u64 = 576;
/// Who interrupts an answer within this of its beginning had not finished, in ms.
const CUT_SHORT_MS: u64 = 600;
/// In so much speech, in ms, a word is heard whole.
const WHOLE_WORD_MS: u64 = 480;
/// This many words are no beginning of "uh-huh" any more.
const SURE_WORDS: usize = 2;
/// How long speech stays suspended after the caller stopped, for want of a transcript.
pub(super) const DECISION_PATIENCE: Duration = Duration::from_millis(2000);

impl Conversation {
    /// Whether the caller can stop what is being said.
    pub(super) fn is_interruptible(&self) -> bool {
        let Some(speech) = &self.speech else {
            return false;
        };
        match speech.kind {
            SpeechKind::Greeting => self.rules.greeting_interruptible,
            SpeechKind::Phrase(PhraseKind::EndCall | PhraseKind::Trouble)
            | SpeechKind::Announcement(_)
            | SpeechKind::Operator { end_call: true } => false,
            SpeechKind::Reply | SpeechKind::Phrase(_) | SpeechKind::Operator { .. } => true,
        }
    }

    /// The caller spoke: does the assistant stop?
    pub(super) fn consider_interruption(&mut self, now: Instant) {
        let Some(utterance) = &self.utterance else {
            return;
        };
        let speech = utterance.speech;
        let sure = match utterance.glimpsed {
            true => SURE_WITH_WORDS_MS,
            false => SURE_INTERRUPTION_MS,
        };
        let enough = speech >= self.rules.voice;
        if self.filler.is_some() && self.speech.is_none() && enough {
            self.stop_playback();
        }
        if !self.is_interruptible() {
            return;
        }
        if !self.suspended && self.rules.num_words == 0 && enough {
            self.take_floor();
        }
        if self.suspended && speech >= samples(sure) {
            self.confirm_interruption(now);
        }
    }

    /// Plays low while the caller has begun to speak and it is not known yet what it is.
    pub(super) fn duck(&mut self) {
        let playing = self.speech.as_ref().is_some_and(|speech| speech.sent() > 0);
        self.hearing.is_beneath(playing);
        let low = playing
            && self.rules.num_words == 0
            && (self.utterance.is_some() && self.hearing.speaking() || self.hearing.stirs())
            && self.is_interruptible();
        if low != self.ducked {
            self.ducked = low;
            self.emit(Output::Duck(low));
        }
    }

    /// The assistant falls silent until it is known what the caller wants.
    fn take_floor(&mut self) {
        let clock = self.clock();
        if let Some(utterance) = &mut self.utterance {
            utterance.took_floor.get_or_insert(clock);
        }
        self.suspended = true;
        self.stop_playback();
    }

    /// Stops what plays; the speech can go on later, a holding phrase cannot.
    pub(super) fn stop_playback(&mut self) {
        let playing = self.speech.as_ref().is_some_and(|speech| speech.sent() > 0)
            || self.filler.as_ref().is_some_and(|filler| filler.sent() > 0);
        if playing {
            self.emit(Output::StopPlayback { fade_ms: FADE_MS });
            self.ducked = false;
        }
        if let Some(speech) = &mut self.speech {
            speech.stopped();
        }
        if let Some(filler) = self.filler.take() {
            self.record_message(&filler, false);
            self.cancel(&filler);
        }
    }

    /// The caller, for whom the assistant may have stopped, is still speaking: are the words so far
    /// enough to go by? One word may be the beginning of any other.
    pub(super) fn judge_first_words(&mut self, verdict: &Verdict, clear: bool, now: Instant) {
        let (Verdict::Words(text) | Verdict::OtherLanguage(text)) = verdict else {
            return;
        };
        if !self.suspended {
            return self.judge_interruption(verdict, now);
        }
        if let Some(utterance) = &mut self.utterance {
            utterance.glimpsed |= !self.rules.acknowledgements.covers(text);
        }
        if !clear {
            return;
        }
        let long = |said: &super::Utterance| said.speech >= samples(WHOLE_WORD_MS);
        let sure = words(text).len() >= SURE_WORDS
            || self.rules.interruptions.is_in(text)
            || self.utterance.as_ref().is_some_and(long);
        if sure && !self.rules.acknowledgements.covers(text) {
            self.confirm_interruption(now);
        }
    }

    /// The caller's words are known, as far as they go.
    pub(super) fn judge_interruption(&mut self, verdict: &Verdict, now: Instant) {
        if self.speech.is_none() || !self.is_interruptible() {
            return;
        }
        let took_floor = self
            .utterance
            .as_ref()
            .is_some_and(|utterance| utterance.took_floor.is_some());
        let answers = self
            .speech
            .as_ref()
            .is_some_and(super::Speech::is_nearly_said);
        let acknowledges = |text: &str| !answers && self.rules.acknowledgements.covers(text);
        match verdict {
            Verdict::Words(text) | Verdict::OtherLanguage(text)
                if took_floor && !acknowledges(text) =>
            {
                self.confirm_interruption(now);
            }
            Verdict::Words(text) | Verdict::OtherLanguage(text)
                if self.rules.num_words > 0 && self.words_interrupt(text) =>
            {
                self.take_floor();
                self.confirm_interruption(now);
            }
            // "Mm-hm", or nobody at all.
            Verdict::Words(_) | Verdict::OtherLanguage(_) | Verdict::Unclear | Verdict::Noise => {
                if self.suspended {
                    self.resume_speech();
                }
            }
        }
    }

    fn words_interrupt(&self, text: &str) -> bool {
        let enough = words(text).len() >= self.rules.num_words;
        self.rules.interruptions.is_in(text)
            || (enough && !self.rules.acknowledgements.covers(text))
    }

    /// The interruption is one: what was said so far is all that was said.
    pub(super) fn confirm_interruption(&mut self, now: Instant) {
        self.stop_playback();
        self.suspended = false;
        self.timers.clear(Timer::Floor);
        let clock = self.clock();
        let at = self
            .utterance
            .as_ref()
            .and_then(|utterance| utterance.took_floor);
        let at = at.unwrap_or(clock);
        self.queue
            .retain(|speech| matches!(speech.kind, SpeechKind::Operator { .. }));
        if let Some(mut speech) = self.speech.take() {
            if let Some(ledger) = speech.note() {
                ledger.interrupted_ms = Some(at.0);
            }
            let began = speech.first_sound.map_or(at.0, CallTime::millis);
            if speech.kind == SpeechKind::Reply && at.0 < began.saturating_add(CUT_SHORT_MS) {
                self.habits.was_cut_short();
            }
            self.emit(Output::Progress(Progress::UserInterrupted {
                turn: speech.turn,
            }));
            self.conclude(speech, true);
        }
        let since = Duration::from_millis(clock.0.saturating_sub(at.0));
        let until = now + self.rules.backoff.saturating_sub(since);
        if until > now {
            self.timers.set(Timer::Backoff, until);
        }
    }

    /// The interruption was none: the assistant goes on, and what was heard is forgotten.
    pub(super) fn resume_speech(&mut self) {
        self.drop_utterance();
        if let Some(speech) = &self.speech {
            self.emit(Output::Progress(Progress::Resumed { turn: speech.turn }));
        }
    }

    /// The caller fell silent and no transcript says why: the assistant goes on. A transcript
    /// that comes later can still interrupt it.
    pub(super) fn go_on_unless_interrupted(&mut self) {
        if self.suspended {
            self.suspended = false;
            if let Some(speech) = &self.speech {
                self.emit(Output::Progress(Progress::Resumed { turn: speech.turn }));
            }
        }
    }

    /// Tells those who watch who is speaking.
    pub(super) fn report_progress(&mut self) {
        let caller = self.hearing.speaking() && self.utterance.is_some();
        if caller != self.caller_speaks {
            self.caller_speaks = caller;
            self.emit(Output::Progress(Progress::Speech {
                role: Role::User,
                speaking: caller,
            }));
        }
        let sounding = |speech: &super::Speech| speech.sent() > 0 && speech.was_heard();
        let assistant = self.speech.as_ref().is_some_and(sounding)
            || self.filler.as_ref().is_some_and(sounding);
        if assistant != self.assistant_speaks {
            self.assistant_speaks = assistant;
            self.emit(Output::Progress(Progress::Speech {
                role: Role::Bot,
                speaking: assistant,
            }));
        }
    }
}
