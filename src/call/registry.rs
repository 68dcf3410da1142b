//! Who is on the phone: admission, and the way to each live call.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use time::OffsetDateTime;
use tokio::sync::{mpsc, watch};

use crate::ids::{AssistantId, CallId};
use crate::record::{CallStatus, EndedBy, EndedReason};

/// Commands that a call may lag behind.
const COMMANDS: usize = 16;

/// What others ask of a live call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallCommand {
    /// End it.
    End {
        /// The reason that is recorded.
        reason: EndedReason,
        /// By whom.
        by: EndedBy,
    },
}

/// A live call as others see it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CallSnapshot {
    /// The call.
    pub id: CallId,
    /// Who answers.
    pub assistant: AssistantId,
    /// Where it stands.
    pub status: CallStatus,
    /// INVITE seen.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

struct Entry {
    snapshot: CallSnapshot,
    commands: mpsc::Sender<CallCommand>,
}

struct State {
    calls: HashMap<CallId, Entry>,
    count: watch::Sender<usize>,
}

/// The live calls. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    state: Arc<Mutex<State>>,
    capacity: usize,
}

impl Registry {
    /// A registry that admits `capacity` calls at once.
    pub fn new(capacity: usize) -> Self {
        let state = State {
            calls: HashMap::new(),
            count: watch::Sender::new(0),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            capacity,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change below is whole before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a line for a call; `None` where all are in use. The line is free again when the
    /// returned [`Line`] is dropped.
    pub(super) fn admit(&self, snapshot: CallSnapshot) -> Option<Line> {
        let mut state = self.lock();
        if state.calls.len() >= self.capacity {
            return None;
        }
        let id = snapshot.id;
        let (commands, queue) = mpsc::channel(COMMANDS);
        state.calls.insert(id, Entry { snapshot, commands });
        state.count.send_replace(state.calls.len());
        Some(Line {
            registry: self.clone(),
            id,
            commands: queue,
        })
    }

    /// Every live call.
    pub fn snapshots(&self) -> Vec<CallSnapshot> {
        self.lock()
            .calls
            .values()
            .map(|entry| entry.snapshot.clone())
            .collect()
    }

    /// Sends a command; false where there is no such call or it is not listening.
    pub fn send(&self, id: CallId, command: CallCommand) -> bool {
        let state = self.lock();
        let entry = state.calls.get(&id);
        entry.is_some_and(|entry| entry.commands.try_send(command).is_ok())
    }

    /// Resolves when no call is left.
    pub async fn empty(&self) {
        let mut count = self.lock().count.subscribe();
        // The sender lives in the registry that is borrowed here.
        let _ = count.wait_for(|count| *count == 0).await;
    }
}

/// One of the lines that admission counts.
pub(super) struct Line {
    registry: Registry,
    id: CallId,
    commands: mpsc::Receiver<CallCommand>,
}

impl Line {
    pub(super) fn set_status(&self, status: CallStatus) {
        if let Some(entry) = self.registry.lock().calls.get_mut(&self.id) {
            entry.snapshot.status = status;
        }
    }

    /// The next command. Pending for ever when there can be none.
    pub(super) async fn command(&mut self) -> CallCommand {
        match self.commands.recv().await {
            Some(command) => command,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let mut state = self.registry.lock();
        state.calls.remove(&self.id);
        state.count.send_replace(state.calls.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(seed: u8) -> CallSnapshot {
        CallSnapshot {
            id: CallId::from_random([seed; 16]),
            assistant: AssistantId::new("demo"),
            status: CallStatus::Ringing,
            created_at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    #[tokio::test]
    async fn a_line_is_busy_until_its_call_is_over() {
        let registry = Registry::new(1);
        let mut line = registry.admit(snapshot(1)).expect("free");
        assert!(registry.admit(snapshot(2)).is_none());
        let end = CallCommand::End {
            reason: EndedReason::ManuallyCanceled,
            by: EndedBy::Operator,
        };
        assert!(registry.send(snapshot(1).id, end));
        assert_eq!(line.command().await, end);
        drop(line);
        assert!(!registry.send(snapshot(1).id, end));
        registry.empty().await;
        assert!(registry.admit(snapshot(2)).is_some());
    }
}
