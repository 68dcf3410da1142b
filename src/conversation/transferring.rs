//! Passing the caller on: what starts it, what is said before, and coming back.
//!
//! ```text
//!  phrase, key, operator ──▶ announced ──played──▶ Output::Transfer, as on hold
//!                                                       │ Control::ComeBack
//!                                    explained, and on ◀┘
//! ```

use std::time::Instant;

use crate::record::TurnLedger;

use super::api::{ChatRole, NotThrough, Output, PhraseKind, TransferTo};
use super::phrases::PhraseSet;
use super::settings::{AssistantSettings, Transfer};
use super::speech::{Speech, SpeechKind};
use super::{Conversation, Phase};

/// What makes the assistant pass a caller on.
#[derive(Debug)]
pub(super) struct Trigger {
    phrases: PhraseSet,
    digit: Option<char>,
}

impl Trigger {
    fn new(transfer: &Transfer) -> Self {
        Self {
            phrases: PhraseSet::new(&transfer.phrases),
            digit: transfer.digit,
        }
    }

    /// The triggers of an assistant, by the place of their destination.
    pub(super) fn all(settings: &AssistantSettings) -> Vec<Self> {
        settings.transfers.iter().map(Self::new).collect()
    }
}

impl Conversation {
    fn destination(&self, wanted: impl Fn(&Trigger) -> bool) -> Option<u8> {
        let place = self.rules.transfers.iter().position(wanted)?;
        u8::try_from(place).ok()
    }

    /// The destination that the caller's words ask for.
    pub(super) fn destination_said(&self, words: &str) -> Option<u8> {
        self.destination(|trigger| trigger.phrases.is_in(words))
    }

    /// The destination of a key, where it is the first of an entry.
    pub(super) fn destination_pressed(&self, key: char) -> Option<u8> {
        let first = self.digits.is_empty() && self.entry.is_none();
        let place = self.destination(|trigger| trigger.digit == Some(key));
        place.filter(|_| first && self.phase == Phase::Live && !self.timers.paused())
    }

    /// The caller asked in words, which are remembered.
    pub(super) fn transfer_after_words(&mut self, words: &str, place: u8, ledger: TurnLedger) {
        self.history.push(ChatRole::User, words);
        self.announce(TransferTo::Destination(place));
        if let Some(speech) = &mut self.speech {
            speech.turn = ledger.turn;
            speech.ledger = Some(ledger);
        }
    }

    /// Says that the caller is put through, instead of whatever was being said.
    pub(super) fn announce(&mut self, to: TransferTo) {
        // A turn that nothing was said to yet is answered by this.
        let unheard = self.speech.as_mut().filter(|speech| !speech.was_heard());
        let turn = unheard.and_then(|speech| Some((speech.turn, speech.ledger.take()?)));
        self.abandon_everything();
        let kind = match to {
            TransferTo::Destination(place) => PhraseKind::Transfer(place),
            TransferTo::Operators => PhraseKind::Announcement,
        };
        let mut speech = self.phrase(kind);
        speech.kind = SpeechKind::Announcement(to);
        if let Some((turn, ledger)) = turn {
            speech.turn = turn;
            speech.ledger = Some(ledger);
        }
        self.speech = Some(speech);
    }

    /// The announcement was said: the driver's turn.
    pub(super) fn pass_on(&mut self, to: TransferTo, now: Instant) {
        self.emit(Output::Transfer(to));
        self.hold(now);
        self.timers.count_on();
    }

    /// The caller was not put through.
    pub(super) fn come_back(&mut self, why: NotThrough, now: Instant) {
        self.timers.resume(now);
        if self.phase != Phase::Live {
            return;
        }
        let mut speech: Speech = self.phrase(PhraseKind::NotThrough(why));
        speech.kind = SpeechKind::Operator { end_call: false };
        match self.speech.is_none() {
            true => self.speech = Some(speech),
            false => self.queue.push_back(speech),
        }
    }
}
