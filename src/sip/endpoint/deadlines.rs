//! All timers of the endpoint in one ordered queue, so that the next one is found in O(log n)
//! however many transactions linger.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::time::Instant;

/// One pending time per key.
#[derive(Debug)]
pub(super) struct Deadlines<K> {
    times: HashMap<K, Instant>,
    queue: BTreeMap<(Instant, K), &'static str>,
}

impl<K: Copy + Eq + Hash + Ord> Deadlines<K> {
    pub(super) fn new() -> Self {
        Self {
            times: HashMap::new(),
            queue: BTreeMap::new(),
        }
    }

    /// Replaces the time of `key`; `None` removes it.
    pub(super) fn set(&mut self, key: K, deadline: Option<(Instant, &'static str)>) {
        if let Some(old) = self.times.remove(&key) {
            self.queue.remove(&(old, key));
        }
        if let Some((at, name)) = deadline {
            self.times.insert(key, at);
            self.queue.insert((at, key), name);
        }
    }

    /// The earliest time.
    pub(super) fn first(&self) -> Option<(Instant, &'static str)> {
        self.queue
            .first_key_value()
            .map(|((at, _), name)| (*at, *name))
    }

    /// Removes and returns the earliest key that is due.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<K> {
        let (&(at, key), _) = self.queue.first_key_value()?;
        if at > now {
            return None;
        }
        self.set(key, None);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn keys_come_out_in_the_order_of_their_latest_times() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut deadlines = Deadlines::new();
        deadlines.set(1, Some((at(30), "late")));
        deadlines.set(2, Some((at(20), "middle")));
        deadlines.set(3, Some((at(10), "removed")));
        deadlines.set(1, Some((at(5), "moved")));
        deadlines.set(3, None);
        assert_eq!(deadlines.first(), Some((at(5), "moved")));
        assert_eq!(deadlines.pop_due(at(4)), None);
        assert_eq!(deadlines.pop_due(at(40)), Some(1));
        assert_eq!(deadlines.pop_due(at(40)), Some(2));
        assert_eq!(deadlines.pop_due(at(40)), None);
        assert_eq!(deadlines.first(), None);
    }
}
