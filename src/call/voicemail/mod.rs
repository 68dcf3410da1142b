//! Callers and owners in mailboxes.
//!
//! ```text
//!  no answer, busy, out of hours, diverted, asked ─▶ Visit ─▶ Deposit ──frames──▶ keeper thread
//!  the number of the voicemail ────────────────────▶ Visit ─▶ Menu               │ file, row
//!                                                              │ saved, deleted  ▼
//!                                                              └──────────▶ aftercare: transcript,
//!                                                                           message waiting, age
//! ```

mod aftercare;
mod keeper;
mod owner;
mod visit;
mod voice;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::mpsc;

pub use aftercare::{Aftercare, Indicator};
pub use keeper::MessageKeeper;
pub(super) use visit::{Errand, Visit};

use crate::ids::MailboxName;
use crate::record::{VoicemailReason, VoicemailState};
use crate::store::{Store, StoreError};
use crate::voicemail::{Claimed, Envelope, MailboxSettings, MenuInput, PinGuard};

/// Changes that the aftercare may lag behind; one that is lost is seen with the next.
const CHANGES: usize = 64;

/// One mailbox.
#[derive(Clone, Debug)]
pub struct Mailbox {
    /// What it is set to.
    pub settings: MailboxSettings,
    /// `greeting_file` at 8 kHz.
    pub greeting: Option<Arc<[i16]>>,
}

impl Mailbox {
    fn is_open(&self, unix_seconds: i64) -> bool {
        let hours = self.settings.hours.as_ref();
        hours.is_none_or(|hours| hours.is_open(unix_seconds))
    }
}

/// Every mailbox. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Mailboxes {
    all: Arc<BTreeMap<MailboxName, Mailbox>>,
    pins: Arc<Mutex<PinGuard>>,
    store: Store,
    data: Arc<PathBuf>,
    keeper: MessageKeeper,
    changes: mpsc::Sender<MailboxName>,
}

impl Mailboxes {
    /// The way on which changes are told.
    pub fn changes() -> (mpsc::Sender<MailboxName>, mpsc::Receiver<MailboxName>) {
        mpsc::channel(CHANGES)
    }

    /// The mailboxes of a data folder.
    pub fn new(
        all: BTreeMap<MailboxName, Mailbox>,
        store: Store,
        data: PathBuf,
        keeper: MessageKeeper,
        changes: mpsc::Sender<MailboxName>,
    ) -> Self {
        Self {
            all: Arc::new(all),
            pins: Arc::default(),
            store,
            data: Arc::new(data),
            keeper,
            changes,
        }
    }

    /// One of them.
    pub fn get(&self, name: &MailboxName) -> Option<&Mailbox> {
        self.all.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&MailboxName, &Mailbox)> {
        self.all.iter()
    }

    /// The mailbox that has this name.
    pub fn named(&self, name: &str) -> Option<MailboxName> {
        let name = MailboxName::new(name);
        self.all.contains_key(&name).then_some(name)
    }

    /// The mailbox that is meant by a user part: by its name, its number, or one of whom calls
    /// are diverted to it.
    pub fn meant_by(&self, user: &str) -> Option<MailboxName> {
        let meant = |(name, mailbox): &(&MailboxName, &Mailbox)| {
            name.as_str() == user
                || mailbox.settings.number.as_deref() == Some(user)
                || mailbox.settings.diverted_from.iter().any(|it| it == user)
        };
        self.all.iter().find(meant).map(|(name, _)| name.clone())
    }

    /// Waits until every message that was left is whole.
    pub async fn flush(&self) {
        self.keeper.flush().await;
    }

    /// Parts of messages lost because the disk was too slow.
    pub fn lost(&self) -> u64 {
        self.keeper.lost()
    }

    /// Somebody changed what is in a mailbox.
    pub fn changed(&self, name: &MailboxName) {
        // A full queue has more news already.
        let _ = self.changes.try_send(name.clone());
    }

    /// The mailbox of a call that was diverted to us.
    pub(super) fn of_diverted(&self, from: Option<&str>) -> Option<MailboxName> {
        let from = from?;
        let theirs = |(_, mailbox): &(&MailboxName, &Mailbox)| {
            mailbox.settings.diverted_from.iter().any(|it| it == from)
        };
        self.all.iter().find(theirs).map(|(name, _)| name.clone())
    }

    /// The mailbox that takes calls outside its hours.
    pub(super) fn closed(&self, name: Option<&MailboxName>, unix_seconds: i64) -> bool {
        name.and_then(|name| self.get(name))
            .is_some_and(|mailbox| !mailbox.is_open(unix_seconds))
    }

    /// The mailbox whose owner calls from this number.
    fn owned_from(&self, number: Option<&str>) -> Option<MailboxName> {
        let number = number?;
        let owns = |(_, mailbox): &(&MailboxName, &Mailbox)| {
            mailbox.settings.owners.iter().any(|it| it == number)
        };
        self.all.iter().find(owns).map(|(name, _)| name.clone())
    }

    /// Whether this is the owner.
    fn check(&self, claimed: &Claimed, pin: &str, now: Instant) -> MenuInput {
        let name = match claimed {
            Claimed::Name(name) => Some(name.clone()),
            Claimed::Number(number) => {
                let numbered = |(_, mailbox): &(&MailboxName, &Mailbox)| {
                    mailbox.settings.number.as_deref() == Some(number)
                };
                self.all.iter().find(numbered).map(|(name, _)| name.clone())
            }
        };
        let known = name.and_then(|name| Some((self.get(&name)?.settings.pin.clone()?, name)));
        let Some((right, name)) = known else {
            return MenuInput::Wrong;
        };
        // Its map is whole after a panic elsewhere.
        let mut guard = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        if !guard.is_open(&name, now) {
            tracing::warn!(mailbox = %name, "too many wrong PINs: the mailbox is closed for a while");
            return MenuInput::Closed;
        }
        let is_right = right.is(pin);
        guard.tried(&name, is_right, now);
        match is_right {
            true => MenuInput::Right(name),
            false => MenuInput::Wrong,
        }
    }

    /// Whether a mailbox takes another message.
    async fn is_full(&self, name: &MailboxName) -> Result<bool, StoreError> {
        let Some(mailbox) = self.get(name) else {
            return Ok(false);
        };
        let settings = &mailbox.settings;
        let counts = self.store.mailbox_counts(name).await?;
        let messages = counts.new.saturating_add(counts.saved);
        let most_ms = u64::from(settings.max_minutes) * 60_000;
        Ok(messages >= settings.max_messages
            || self.store.mailbox_length_ms(name).await? >= most_ms)
    }

    /// A mailbox's messages as its owner hears them: new ones first, the oldest first.
    async fn listed(&self, name: &MailboxName, now: i64) -> MenuInput {
        let hours = self
            .get(name)
            .and_then(|mailbox| mailbox.settings.hours.clone());
        let mut messages = match self.store.voicemails(Some(name)).await {
            Ok(messages) => messages,
            Err(error) => {
                tracing::error!(mailbox = %name, %error, "a mailbox cannot be read");
                return MenuInput::Unavailable;
            }
        };
        messages.retain(|message| message.state != VoicemailState::Recording);
        messages.sort_by_key(|message| {
            let heard = message.state == VoicemailState::Saved;
            (heard, message.created_at, message.id)
        });
        let envelope = |message| Envelope::new(message, hours.as_ref(), now);
        MenuInput::Messages(messages.iter().map(envelope).collect())
    }
}

/// A call's way into a mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ToMailbox {
    pub(super) name: MailboxName,
    pub(super) reason: VoicemailReason,
}
