//! Who is served next: a bounded queue with priorities and turns between calls. Pure.
//!
//! ```text
//!  push ──► waiting ──pop──► (given to the worker)
//!              ├─ remove: cancelled
//!              ├─ expire: waited longer than it may
//!              └─ pushed out by a request of higher priority when the queue is full
//! ```

use std::collections::VecDeque;
use std::time::Instant;

use super::ipc::{Priority, RequestId};
use crate::ids::CallId;

/// How many calls' turns are remembered. More calls than that at once only blurs fairness.
const REMEMBERED_CALLS: usize = 256;

/// A request that waits. `call` is `None` for the server's own housekeeping.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    pub(super) id: RequestId,
    pub(super) call: Option<CallId>,
    pub(super) priority: Priority,
    /// When waiting is given up.
    pub(super) until: Instant,
    pub(super) item: T,
}

#[derive(Debug)]
pub(super) struct Scheduler<T> {
    waiting: VecDeque<Waiting<T>>,
    bound: usize,
    /// Calls by when they were served, the latest at the back.
    served: VecDeque<Option<CallId>>,
}

/// What became of a request that was pushed.
#[derive(Debug)]
pub(super) enum Pushed<T> {
    Queued,
    /// Queued in the place of this one, which was of lower priority.
    InPlaceOf(Waiting<T>),
    Refused(Waiting<T>),
}

impl<T> Scheduler<T> {
    pub(super) fn new(bound: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            bound,
            served: VecDeque::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn push(&mut self, new: Waiting<T>) -> Pushed<T> {
        if self.waiting.len() < self.bound {
            self.waiting.push_back(new);
            return Pushed::Queued;
        }
        // The youngest of the lowest priority goes: it has the least to lose.
        let victim = (0..self.waiting.len())
            .rev()
            .filter(|&index| self.waiting[index].priority < new.priority)
            .min_by_key(|&index| self.waiting[index].priority);
        match victim.and_then(|index| self.waiting.remove(index)) {
            Some(victim) => {
                self.waiting.push_back(new);
                Pushed::InPlaceOf(victim)
            }
            None => Pushed::Refused(new),
        }
    }

    /// The next request: highest priority first, then the call served the longest ago, then the
    /// oldest.
    pub(super) fn pop(&mut self) -> Option<Waiting<T>> {
        let best = (0..self.waiting.len()).min_by_key(|&index| {
            let entry = &self.waiting[index];
            let turn = self.served.iter().position(|call| *call == entry.call);
            // A call never served (None) sorts before all that were.
            (std::cmp::Reverse(entry.priority), turn, index)
        })?;
        let entry = self.waiting.remove(best)?;
        self.served.retain(|call| *call != entry.call);
        self.served.push_back(entry.call);
        if self.served.len() > REMEMBERED_CALLS {
            self.served.pop_front();
        }
        Some(entry)
    }

    pub(super) fn remove(&mut self, id: RequestId) -> Option<Waiting<T>> {
        let index = self.waiting.iter().position(|entry| entry.id == id)?;
        self.waiting.remove(index)
    }

    /// Raises a waiting request's priority; it keeps its place among its new equals. `None` where
    /// it does not wait.
    pub(super) fn promote(&mut self, id: RequestId) -> Option<&mut Waiting<T>> {
        let entry = self.waiting.iter_mut().find(|entry| entry.id == id)?;
        entry.priority = Priority::Waiting;
        Some(entry)
    }

    /// Takes out what waited longer than it may.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Waiting<T>> {
        let (expired, waiting) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition::<VecDeque<_>, _>(|entry| entry.until <= now);
        self.waiting = waiting;
        expired.into()
    }

    /// Takes out everything.
    pub(super) fn clear(&mut self) -> Vec<Waiting<T>> {
        std::mem::take(&mut self.waiting).into()
    }

    /// When [`Scheduler::expire`] has something to do next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waiting.iter().map(|entry| entry.until).min()
    }
}

#[cfg(test)]
mod tests;
