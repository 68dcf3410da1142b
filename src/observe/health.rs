//! The state of every part that a call needs, kept by the parts and read by `/readyz` and by
//! admission.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A part that must work before a call is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    /// Speech to text worker.
    Stt,
    /// Language model worker.
    Llm,
    /// Text to speech worker.
    Tts,
    /// Voice activity detector.
    Vad,
    /// Prepared phrases.
    Phrases,
    /// Database.
    Store,
    /// Room and permission in the data folder.
    Disk,
    /// SIP sockets.
    Sip,
}

impl Component {
    /// The name in `/readyz`, logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stt => "stt",
            Self::Llm => "llm",
            Self::Tts => "tts",
            Self::Vad => "vad",
            Self::Phrases => "phrases",
            Self::Store => "store",
            Self::Disk => "disk",
            Self::Sip => "sip",
        }
    }

    /// True where a call that is up survives the loss by its own means, so that a restart in
    /// progress is no reason to refuse new ones.
    fn recovers(self) -> bool {
        matches!(self, Self::Stt | Self::Llm | Self::Tts)
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a part stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Not there yet, for the first time.
    Starting,
    /// Works.
    Ready,
    /// Was there, and is on its way back.
    Restarting,
    /// Does not work; the text says why and what to do.
    Failed(String),
}

/// The states of all parts. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Health {
    states: Arc<Mutex<BTreeMap<Component, State>>>,
}

impl Health {
    /// Every part that is listed is starting.
    pub fn new(components: &[Component]) -> Self {
        let states = components
            .iter()
            .map(|component| (*component, State::Starting));
        Self {
            states: Arc::new(Mutex::new(states.collect())),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Component, State>> {
        // A map of plain values is whole after a panic elsewhere.
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a part's state; a change is logged.
    pub fn set(&self, component: Component, state: State) {
        let mut states = self.lock();
        if states.get(&component) == Some(&state) {
            return;
        }
        match &state {
            State::Ready => tracing::info!(%component, "ready"),
            State::Starting | State::Restarting => tracing::info!(%component, ?state, "not ready"),
            State::Failed(reason) => tracing::error!(%component, reason, "failed"),
        }
        states.insert(component, state);
    }

    /// All states, by name.
    pub fn snapshot(&self) -> Vec<(Component, State)> {
        self.lock()
            .iter()
            .map(|(component, state)| (*component, state.clone()))
            .collect()
    }

    /// True where every part works.
    pub fn is_ready(&self) -> bool {
        self.lock().values().all(|state| *state == State::Ready)
    }

    /// The first part for whose sake a new call must be refused.
    pub fn refusal(&self) -> Option<(Component, State)> {
        let states = self.lock();
        let bad = states.iter().find(|(component, state)| match state {
            State::Ready => false,
            State::Restarting => !component.recovers(),
            State::Starting | State::Failed(_) => true,
        });
        bad.map(|(component, state)| (*component, state.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_refused_until_everything_works_but_not_while_a_worker_restarts() {
        let health = Health::new(&[Component::Stt, Component::Store]);
        assert!(!health.is_ready());
        assert_eq!(health.refusal(), Some((Component::Stt, State::Starting)));
        health.set(Component::Stt, State::Ready);
        health.set(Component::Store, State::Ready);
        assert!(health.is_ready() && health.refusal().is_none());
        health.set(Component::Stt, State::Restarting);
        assert!(!health.is_ready() && health.refusal().is_none());
        health.set(Component::Store, State::Failed("read-only".to_owned()));
        assert!(matches!(
            health.refusal(),
            Some((Component::Store, State::Failed(_)))
        ));
    }
}
