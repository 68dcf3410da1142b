//! What is seen and heard of calls while they last.
//!
//! ```text
//!             ┌─▶ events, every call's in one queue ─▶ watchers (dashboard, clients, webhooks)
//!  a call ────┼─▶ what was said so far, for those who come later
//!             └─▶ sound of both sides, only while somebody listens ─▶ listeners
//! ```
//!
//! Nothing here ever waits: a watcher or listener that is slow loses the oldest, and is told how
//! many.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::command::CallSnapshot;
use crate::audio::Frame;
use crate::ids::{CallId, TurnNumber};
use crate::record::{Message, Role, TurnLedger};

/// Events, of all calls together, that a watcher may lag behind.
const EVENTS: usize = 1024;

/// Frames that a listener may lag behind: two seconds.
const FRAMES: usize = 100;

/// Messages, and turns, that are kept of a live call for those who come later.
const REMEMBERED: usize = 200;

/// Something happened in a live call. Named as Vapi names its messages.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(
    tag = "type",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase"
)]
pub enum LiveEvent {
    /// It is seen differently from now on; `status` in it says where it stands.
    StatusUpdate {
        /// How.
        call: CallSnapshot,
    },
    /// Words that may still change: all that is heard or being said of one utterance so far.
    Transcript {
        /// Whose.
        role: Role,
        /// The words.
        transcript: String,
        /// Always `partial`; what is final is a [`Self::Message`].
        transcript_type: TranscriptType,
    },
    /// Words that stand: for the assistant, only those that were played.
    Message {
        /// Always `final`.
        transcript_type: TranscriptType,
        /// Who, what and when.
        #[serde(flatten)]
        message: Message,
    },
    /// Somebody began or stopped speaking.
    SpeechUpdate {
        /// Who.
        role: Role,
        /// Which.
        status: SpeechStatus,
    },
    /// The caller interrupted the assistant for good.
    UserInterrupted {
        /// In this turn.
        turn: TurnNumber,
    },
    /// A turn is over; its latencies are known.
    Turn {
        /// The ledger.
        ledger: TurnLedger,
    },
    /// The assistant was muted or may speak again.
    Muted {
        /// Which.
        muted: bool,
    },
}

/// Whether words may still change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TranscriptType {
    /// They may.
    Partial,
    /// They do not.
    Final,
}

/// Whether somebody began or stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SpeechStatus {
    /// Began.
    Started,
    /// Stopped.
    Stopped,
}

/// An event, of which call, and when.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CallEvent {
    /// The call.
    pub call_id: CallId,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// What.
    #[serde(flatten)]
    pub event: LiveEvent,
}

/// 20 ms of a call at 8 kHz.
#[derive(Clone, Debug, PartialEq)]
pub struct Sound {
    /// What the caller said.
    pub heard: Frame,
    /// What the caller was sent.
    pub spoken: Frame,
}

impl Sound {
    /// Signed 16-bit little-endian samples, caller and assistant in turn: 640 bytes.
    pub fn stereo(&self) -> Vec<u8> {
        let pairs = self.heard.samples().iter().zip(self.spoken.samples());
        pairs
            .flat_map(|(heard, spoken)| {
                let ([a, b], [c, d]) = (heard.to_le_bytes(), spoken.to_le_bytes());
                [a, b, c, d]
            })
            .collect()
    }
}

/// What comes out of a queue that loses its oldest rather than wait.
#[derive(Clone, Debug, PartialEq)]
pub enum Next<T> {
    /// The next one.
    One(T),
    /// So many were lost, because they were not taken in time.
    Missed(u64),
}

/// Follows events.
#[derive(Debug)]
pub struct Watcher {
    queue: broadcast::Receiver<Arc<CallEvent>>,
    only: Option<CallId>,
}

impl Watcher {
    /// The next event; `None` when there will be none any more.
    pub async fn next(&mut self) -> Option<Next<Arc<CallEvent>>> {
        loop {
            match self.queue.recv().await {
                Ok(event) if self.only.is_none_or(|only| only == event.call_id) => {
                    return Some(Next::One(event));
                }
                Ok(_) => {}
                Err(RecvError::Lagged(count)) => return Some(Next::Missed(count)),
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

/// Listens in.
#[derive(Debug)]
pub struct Listener(broadcast::Receiver<Arc<Sound>>);

impl Listener {
    /// The next 20 ms; `None` when the call is over.
    pub async fn next(&mut self) -> Option<Next<Arc<Sound>>> {
        match self.0.recv().await {
            Ok(sound) => Some(Next::One(sound)),
            Err(RecvError::Lagged(count)) => Some(Next::Missed(count)),
            Err(RecvError::Closed) => None,
        }
    }
}

/// What opens one live call to whoever shows it: to listen and to command. Nothing else.
#[derive(Clone, PartialEq, Eq)]
pub struct MonitorKey(String);

impl MonitorKey {
    pub(super) fn from_random(bytes: [u8; 32]) -> Self {
        Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The key, for the URL that it is a part of.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Takes as long for every wrong key.
    pub(super) fn is(&self, shown: &str) -> bool {
        Sha256::digest(&self.0) == Sha256::digest(shown)
    }
}

impl fmt::Debug for MonitorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A live call for somebody who comes later: as it is seen, and what was said so far.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LiveCall {
    /// As it is seen.
    pub call: CallSnapshot,
    /// The last messages, oldest first.
    pub messages: Vec<Message>,
    /// The last turns, oldest first.
    pub turns: Vec<TurnLedger>,
    /// What the caller is saying, as far as it is understood.
    pub partial: Option<String>,
    /// The caller speaks.
    pub user_speaks: bool,
    /// The assistant speaks.
    pub bot_speaks: bool,
    /// The assistant was muted.
    pub muted: bool,
}

/// The queue of all calls' events.
#[derive(Debug)]
pub(super) struct Events(broadcast::Sender<Arc<CallEvent>>);

impl Default for Events {
    fn default() -> Self {
        Self(broadcast::Sender::new(EVENTS))
    }
}

impl Events {
    pub(super) fn publish(&self, call_id: CallId, event: LiveEvent) {
        // An error means that nobody watches.
        let _ = self.0.send(Arc::new(CallEvent {
            call_id,
            at: OffsetDateTime::now_utc(),
            event,
        }));
    }

    pub(super) fn watch(&self, only: Option<CallId>) -> Watcher {
        Watcher {
            queue: self.0.subscribe(),
            only,
        }
    }
}

/// What is kept of one live call for those who come later.
#[derive(Debug)]
pub(super) struct Memory {
    messages: VecDeque<Message>,
    turns: VecDeque<TurnLedger>,
    partial: Option<String>,
    user_speaks: bool,
    bot_speaks: bool,
    muted: bool,
    sound: SoundTap,
    pub(super) key: MonitorKey,
}

impl Memory {
    pub(super) fn new(key: MonitorKey) -> Self {
        Self {
            messages: VecDeque::new(),
            turns: VecDeque::new(),
            partial: None,
            user_speaks: false,
            bot_speaks: false,
            muted: false,
            sound: SoundTap(broadcast::Sender::new(FRAMES)),
            key,
        }
    }

    pub(super) fn note(&mut self, event: &LiveEvent) {
        match event {
            LiveEvent::Transcript {
                role: Role::User,
                transcript,
                ..
            } => self.partial = Some(transcript.clone()),
            LiveEvent::Message { message, .. } => {
                if message.role == Role::User {
                    self.partial = None;
                }
                remember(&mut self.messages, message);
            }
            LiveEvent::Turn { ledger } => remember(&mut self.turns, ledger),
            LiveEvent::SpeechUpdate { role, status } => {
                let speaks = *status == SpeechStatus::Started;
                match role {
                    Role::User => self.user_speaks = speaks,
                    Role::Bot | Role::System => self.bot_speaks = speaks,
                }
            }
            LiveEvent::Muted { muted } => self.muted = *muted,
            LiveEvent::StatusUpdate { .. }
            | LiveEvent::Transcript { .. }
            | LiveEvent::UserInterrupted { .. } => {}
        }
    }

    pub(super) fn so_far(&self, call: CallSnapshot) -> LiveCall {
        LiveCall {
            call,
            messages: self.messages.iter().cloned().collect(),
            turns: self.turns.iter().cloned().collect(),
            partial: self.partial.clone(),
            user_speaks: self.user_speaks,
            bot_speaks: self.bot_speaks,
            muted: self.muted,
        }
    }

    pub(super) fn listen(&self) -> Listener {
        Listener(self.sound.0.subscribe())
    }

    pub(super) fn tap(&self) -> SoundTap {
        self.sound.clone()
    }
}

fn remember<T: Clone>(kept: &mut VecDeque<T>, new: &T) {
    if kept.len() == REMEMBERED {
        kept.pop_front();
    }
    kept.push_back(new.clone());
}

/// Where a call puts its sound.
#[derive(Clone, Debug)]
pub(super) struct SoundTap(broadcast::Sender<Arc<Sound>>);

impl SoundTap {
    /// Costs next to nothing while nobody listens.
    pub(super) fn pass(&self, heard: &Frame, spoken: &Frame) {
        if self.0.receiver_count() > 0 {
            let sound = Sound {
                heard: heard.clone(),
                spoken: spoken.clone(),
            };
            // An error means that the last listener has just gone.
            let _ = self.0.send(Arc::new(sound));
        }
    }
}
