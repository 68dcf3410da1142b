//! Where each trunk stands with its registrar, for the command line and metrics.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::ids::TrunkName;

/// Where a trunk stands with its registrar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrunkState {
    /// It does not register: calls come from known addresses.
    NotRegistering,
    /// The first answer is not there yet.
    Registering,
    /// Bound.
    Registered,
    /// The last attempt failed; the next one comes by itself.
    Failed,
    /// Taken back, or never possible.
    Unregistered,
}

/// Whether a trunk answers OPTIONS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reachability {
    /// It answered the last one, with anything but 5xx and 6xx.
    pub up: bool,
    /// Since when.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// The last status; `None` where no answer came.
    pub status: Option<u16>,
    /// How long the last answer took, in ms.
    pub round_trip_ms: Option<u64>,
}

/// One trunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrunkStatus {
    /// Its key in the configuration.
    pub trunk: TrunkName,
    /// Where it stands.
    pub state: TrunkState,
    /// Since when.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// Registered: when the registration ends unless it is refreshed.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires: Option<OffsetDateTime>,
    /// The last thing that went wrong, in words without secrets.
    pub last_error: Option<String>,
    /// Whether it answers OPTIONS; `None` where it is not asked, or not yet.
    #[serde(default)]
    pub reachability: Option<Reachability>,
}

/// What is known of every trunk. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct TrunkBoard(Arc<Mutex<BTreeMap<TrunkName, TrunkStatus>>>);

impl TrunkBoard {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<TrunkName, TrunkStatus>> {
        // Each change below is whole before anything can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every trunk, by name.
    pub fn snapshot(&self) -> Vec<TrunkStatus> {
        self.lock().values().cloned().collect()
    }

    /// There is no such trunk any more.
    pub fn remove(&self, trunk: &TrunkName) {
        self.lock().remove(trunk);
    }

    /// A trunk's new state. `since` moves only where the state is another one; an earlier error
    /// is kept until a later one.
    pub fn set(
        &self,
        trunk: &TrunkName,
        state: TrunkState,
        expires: Option<OffsetDateTime>,
        error: Option<String>,
        now: OffsetDateTime,
    ) {
        let mut trunks = self.lock();
        let before = trunks.get(trunk);
        let since = before
            .filter(|before| before.state == state)
            .map_or(now, |before| before.since);
        let last_error = error.or_else(|| before?.last_error.clone());
        let reachability = before.and_then(|before| before.reachability);
        let status = TrunkStatus {
            trunk: trunk.clone(),
            state,
            since,
            expires,
            last_error,
            reachability,
        };
        trunks.insert(trunk.clone(), status);
    }

    /// What a trunk answered to OPTIONS, and how long that took. True where it came up or went
    /// down by that.
    pub fn pinged(
        &self,
        trunk: &TrunkName,
        status: Option<u16>,
        round_trip_ms: u64,
        now: OffsetDateTime,
    ) -> bool {
        let mut trunks = self.lock();
        let Some(entry) = trunks.get_mut(trunk) else {
            return false;
        };
        let up = status.is_some_and(|status| status < 500);
        let before = entry.reachability.filter(|before| before.up == up);
        entry.reachability = Some(Reachability {
            up,
            since: before.map_or(now, |before| before.since),
            status,
            round_trip_ms: status.map(|_| round_trip_ms),
        });
        before.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::Duration;

    #[test]
    fn a_refresh_moves_the_expiry_and_not_the_beginning_and_errors_are_remembered() {
        let board = TrunkBoard::default();
        let name = TrunkName::new("office");
        let start = OffsetDateTime::UNIX_EPOCH;
        let minute = Duration::MINUTE;
        board.set(
            &name,
            TrunkState::Failed,
            None,
            Some("403".to_owned()),
            start,
        );
        for minutes in 1..=3 {
            let now = start + minute * minutes;
            board.set(&name, TrunkState::Registered, Some(now + minute), None, now);
        }
        assert!(board.pinged(&name, Some(200), 7, start));
        assert!(!board.pinged(&name, Some(404), 8, start + minute));
        assert!(board.pinged(&name, None, 0, start + minute * 2));
        let status = board.snapshot().remove(0);
        let reachability = status.reachability.expect("pinged");
        assert!(!reachability.up && reachability.since == start + minute * 2);
        assert_eq!(status.since, start + minute);
        assert_eq!(status.expires, Some(start + minute * 4));
        assert_eq!(status.last_error.as_deref(), Some("403"));
    }
}
