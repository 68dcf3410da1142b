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
use super::settings::AssistantSettings;
use super::speech::{Speech, SpeechKind};
use super::{Conversation, Phase};

/// What makes the assistant pass a caller on.
#[derive(Debug)]
pub(super) struct Trigger {
    to: TransferTo,
    phrases: PhraseSet,
    digit: Option<char>,
}

impl Trigger {
    fn new(to: TransferTo, phrases: &[String], digit: Option<char>) -> Self {
        Self {
            to,
            phrases: PhraseSet::new(phrases),
            digit,
        }
    }

    /// The triggers of an assistant, in the order in which they are looked at.
    pub(super) fn all(settings: &AssistantSettings) -> Vec<Self> {
        let transfers = settings.transfers.iter().zip(0..=u8::MAX);
        let transfers = transfers.map(|(transfer, place)| {
            let to = TransferTo::Destination(place);
            Self::new(to, &transfer.phrases, transfer.digit)
        });
        let plan = &settings.mailbox_plan;
        let mailbox = plan
            .mailbox
            .iter()
            .map(|_| Self::new(TransferTo::Mailbox, &plan.phrases, plan.digit));
        transfers.chain(mailbox).collect()
    }
}

impl Conversation {
    fn destination(&self, wanted: impl Fn(&Trigger) -> bool) -> Option<TransferTo> {
        let mut triggers = self.rules.transfers.iter();
        let trigger = triggers.find(|trigger| wanted(trigger))?;
        Some(trigger.to)
    }

    /// The destination that the caller's words ask for.
    pub(super) fn destination_said(&self, words: &str) -> Option<TransferTo> {
        self.destination(|trigger| trigger.phrases.is_in(words))
    }

    /// The destination of a key, where it is the first of an entry.
    pub(super) fn destination_pressed(&self, key: char) -> Option<TransferTo> {
        let first = self.digits.is_empty() && self.entry.is_none();
        let to = self.destination(|trigger| trigger.digit == Some(key));
        to.filter(|_| first && self.phase == Phase::Live && !self.timers.paused())
    }

    /// The caller asked in words, which are remembered.
    pub(super) fn transfer_after_words(&mut self, words: &str, to: TransferTo, ledger: TurnLedger) {
        self.history.push(ChatRole::User, words);
        self.announce(to);
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
            TransferTo::Mailbox => PhraseKind::Mailbox,
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
