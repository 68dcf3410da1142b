//! How a call ends, what happens when nobody says anything, and what others do to a call.

use std::time::{Duration, Instant};

use crate::record::{EndedBy, EndedReason, TurnLedger};

use super::api::{ChatRole, Control, Output, PhraseKind, TransferTo};
use super::hearing::samples;
use super::settings::check::KEYPAD_MOST;
use super::speech::{Speech, SpeechKind};
use super::timers::Timer;
use super::{Conversation, Phase};

/// Quiet between the last word and the hang-up, so that no network cuts the word.
const TAIL: Duration = Duration::from_millis(300);
/// A goodbye that takes longer is not waited for.
const LONGEST_GOODBYE: Duration = Duration::from_secs(20);
/// How soon a silence that the caller broke is looked at again.
const SILENCE_AGAIN: Duration = Duration::from_millis(500);
/// Keys beyond this start the next entry.
const MOST_DIGITS: usize = KEYPAD_MOST as usize;
/// Operator's words that wait to be said.
const MOST_QUEUED: usize = 8;
/// Sound shorter than this is the key's tone, in ms.
const KEY_TONE_MS: u64 = 400;

impl Conversation {
    /// Ends the call after a phrase, if there is one. What is being said stops.
    pub(super) fn close(
        &mut self,
        reason: EndedReason,
        by: EndedBy,
        phrase: Option<PhraseKind>,
        now: Instant,
    ) {
        if self.phase != Phase::Live {
            return;
        }
        self.abandon_everything();
        self.start_closing(reason, by, now);
        if let Some(kind) = phrase.filter(|kind| self.rules.phrases.contains_key(kind)) {
            self.timers.clear(Timer::Tail);
            self.speech = Some(self.phrase(kind));
        }
    }

    /// The caller said goodbye: so does the assistant.
    pub(super) fn close_after_phrase(&mut self, ledger: TurnLedger, now: Instant) {
        let reason = EndedReason::AssistantSaidEndCallPhrase;
        self.close(reason, EndedBy::Assistant, Some(PhraseKind::EndCall), now);
        match &mut self.speech {
            Some(speech) => {
                speech.turn = ledger.turn;
                speech.ledger = Some(ledger);
            }
            None => self.emit(Output::Turn(ledger)),
        }
    }

    /// Nothing more is said or heard; the call ends after the tail.
    pub(super) fn start_closing(&mut self, reason: EndedReason, by: EndedBy, now: Instant) {
        self.drop_utterance();
        self.queue.clear();
        self.timers.clear_all();
        self.phase = Phase::Closing { reason, by };
        self.timers.set(Timer::Closing, now + LONGEST_GOODBYE);
        self.start_tail(now);
    }

    pub(super) fn start_tail(&mut self, now: Instant) {
        self.timers.set(Timer::Tail, now + TAIL);
    }

    pub(super) fn end_call(&mut self) {
        if let Phase::Closing { reason, by } = self.phase {
            self.abandon_everything();
            self.emit(Output::EndCall { reason, by });
            self.end();
        }
    }

    pub(super) fn hung_up(&mut self) {
        self.abandon_everything();
        self.end();
    }

    fn end(&mut self) {
        self.timers.clear_all();
        self.phase = Phase::Ended;
    }

    /// Records what was heard and cancels all else.
    pub(super) fn abandon_everything(&mut self) {
        self.drop_utterance();
        self.stop_playback();
        self.queue.clear();
        self.digits.clear();
        self.entry = None;
        if let Some(speech) = self.speech.take() {
            self.conclude(speech, false);
        }
    }

    /// Starts and stops the timers of a silence.
    pub(super) fn watch_silence(&mut self, now: Instant) {
        let idle_speech = self
            .speech
            .as_ref()
            .is_none_or(|speech| matches!(speech.kind, SpeechKind::Phrase(PhraseKind::Idle(_))));
        let waiting = !self.queue.is_empty() || self.filler.is_some() || !self.digits.is_empty();
        if self.phase != Phase::Live || !idle_speech || waiting || self.entry.is_some() {
            self.timers.clear(Timer::Silence);
            self.timers.clear(Timer::Idle);
            return;
        }
        self.timers
            .start(Timer::Silence, now + self.rules.silence_timeout);
        let quiet = self.speech.is_none() && self.utterance.is_none();
        let more = self.idle_count < self.rules.idle_most && self.rules.idle_messages > 0;
        if quiet && more {
            self.timers
                .start(Timer::Idle, now + self.rules.idle_timeout);
        } else {
            self.timers.clear(Timer::Idle);
        }
    }

    pub(super) fn say_idle_message(&mut self) {
        if self.speech.is_none() && self.utterance.is_none() && self.rules.idle_messages > 0 {
            let count = u32::from(self.rules.idle_messages);
            let index = u8::try_from(self.idle_count % count).unwrap_or(0);
            self.idle_count = self.idle_count.saturating_add(1);
            self.speech = Some(self.phrase(PhraseKind::Idle(index)));
        }
    }

    pub(super) fn silence_timed_out(&mut self, now: Instant) {
        if self.utterance.is_some() {
            // Noise gives no more time than it takes; a turn starts the silence anew.
            self.timers.set(Timer::Silence, now + SILENCE_AGAIN);
            return;
        }
        let (reason, by) = (EndedReason::SilenceTimedOut, EndedBy::Assistant);
        self.close(reason, by, Some(PhraseKind::EndCall), now);
    }

    pub(super) fn control(&mut self, control: Control, now: Instant) {
        match control {
            Control::Hold => self.hold(now),
            Control::Resume => self.timers.resume(now),
            Control::TakeBack if self.timers.paused() => {
                self.timers.resume(now);
                self.thank_for_waiting();
            }
            Control::TakeBack => {}
            Control::Transfer => {
                if self.phase == Phase::Live && !self.timers.paused() {
                    self.announce(TransferTo::Operators);
                }
            }
            Control::ComeBack(why) => self.come_back(why, now),
            Control::Say {
                text,
                end_call_after_spoken,
            } => {
                if self.phase == Phase::Live && self.queue.len() < MOST_QUEUED {
                    let kind = SpeechKind::Operator {
                        end_call: end_call_after_spoken,
                    };
                    self.queue
                        .push_back(Speech::fixed(kind, self.last_turn, &text, None));
                }
            }
            Control::AddMessage {
                role,
                content,
                respond,
            } => self.add_message(role, &content, respond),
            Control::End {
                reason,
                by,
                say_goodbye,
            } => {
                let phrase = say_goodbye.then_some(PhraseKind::EndCall);
                match self.phase {
                    Phase::Live => self.close(reason, by, phrase, now),
                    // Said once more: without further ado.
                    Phase::Closing { .. } if !say_goodbye => self.end_call(),
                    Phase::Closing { .. } | Phase::Waiting | Phase::Ended => {}
                }
                if self.timers.paused() {
                    // Nobody hears a goodbye on hold.
                    self.end_call();
                }
            }
        }
    }

    fn add_message(&mut self, role: ChatRole, content: &str, respond: bool) {
        if self.phase != Phase::Live {
            return;
        }
        self.history.push(role, content);
        // Speculation does not know of it.
        self.drop_speculation();
        if respond && self.speech.is_none() && self.utterance.is_none() && !self.timers.paused() {
            let turn = self.next_turn();
            let mut reply = Speech::from_model(SpeechKind::Reply, turn);
            reply.ledger = Some(TurnLedger {
                turn,
                endpoint_ms: Some(self.clock().0),
                ..TurnLedger::default()
            });
            self.idle_count = 0;
            self.speech = Some(reply);
        }
    }

    pub(super) fn hold(&mut self, now: Instant) {
        if self.timers.paused() {
            return;
        }
        self.stop_playback();
        self.hearing.reset();
        // A turn that is over is answered after the hold; half a sentence is not.
        if self
            .utterance
            .as_ref()
            .is_some_and(|utterance| utterance.ended.is_none())
        {
            self.drop_utterance();
        }
        self.timers.pause(now);
    }

    /// The caller was held by us. What was being said follows.
    fn thank_for_waiting(&mut self) {
        if self.phase != Phase::Live || !self.rules.phrases.contains_key(&PhraseKind::Resumed) {
            return;
        }
        self.interject(PhraseKind::Resumed);
    }

    /// Says a phrase now, or before what is being prepared.
    fn interject(&mut self, kind: PhraseKind) {
        let phrase = self.phrase(kind);
        match self.speech.is_none() && self.utterance.is_none() {
            true => self.speech = Some(phrase),
            false => self.filler = Some(phrase),
        }
    }

    pub(super) fn digit(&mut self, key: char, now: Instant) {
        if let Some(to) = self.destination_pressed(key) {
            return self.announce(to);
        }
        let known = matches!(key, '0'..='9' | '*' | '#' | 'A'..='D');
        let Some(timeout) = self.rules.keypad.filter(|_| known) else {
            return;
        };
        if self.phase != Phase::Live || self.timers.paused() {
            return;
        }
        let tone = self.utterance.as_ref().is_some_and(|utterance| {
            utterance.speech < samples(KEY_TONE_MS) && utterance.ended.is_none()
        });
        if tone {
            self.drop_utterance();
        }
        // A key is pressed on purpose: it always interrupts what may be interrupted.
        if self.is_interruptible() {
            self.interrupt_for_key(now);
        }
        let delimits = self.rules.delimiters.contains(key);
        if !delimits {
            self.digits.push(key);
        }
        if delimits || self.digits.len() >= self.rules.keypad_length.unwrap_or(MOST_DIGITS) {
            self.complete_entry();
        } else {
            self.timers.set(Timer::Keypad, now + timeout);
        }
    }

    fn interrupt_for_key(&mut self, now: Instant) {
        self.confirm_interruption(now);
        self.timers.clear(Timer::Backoff);
    }

    /// Whether the entry is too short to be of use: the caller is asked for another.
    fn asks_again(&mut self) -> bool {
        let asks = self
            .rules
            .keypad_length
            .is_some_and(|length| self.digits.len() < length)
            && self.short_entries < self.rules.keypad_retries;
        if asks {
            self.short_entries += 1;
            self.digits.clear();
            if self.rules.phrases.contains_key(&PhraseKind::EnterAgain) {
                self.interject(PhraseKind::EnterAgain);
            }
        }
        asks
    }

    /// The caller has pressed all keys that belong together.
    pub(super) fn complete_entry(&mut self) {
        self.timers.clear(Timer::Keypad);
        if self.digits.is_empty() || self.asks_again() {
            return;
        }
        self.short_entries = 0;
        let keys: Vec<String> = self.digits.chars().map(String::from).collect();
        let said = format!("Keypad entry: {}", keys.join(" "));
        self.digits.clear();
        self.entry = Some(match self.entry.take() {
            // Entries that wait long enough to be two are read as one.
            Some(earlier) if earlier.len() < 8 * MOST_DIGITS => format!("{earlier}. {said}"),
            Some(_) | None => said,
        });
    }
}
