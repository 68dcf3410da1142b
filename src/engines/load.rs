//! Whether a caller waits for any engine of this machine. Engines share its processors: what may
//! be left undone is not begun meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Priority;

/// Work that callers wait for, over all workers that share it. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Load(Arc<AtomicUsize>);

impl Load {
    /// Whether a caller waits.
    pub fn somebody_waits(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    /// Counts a request, where a caller waits for it, until the guard is dropped.
    pub(super) fn count(&self, priority: Priority) -> Option<Waited> {
        (priority == Priority::Waiting).then(|| {
            self.0.fetch_add(1, Ordering::Relaxed);
            Waited(self.clone())
        })
    }
}

/// A caller waits for a request.
#[derive(Debug)]
pub(super) struct Waited(Load);

impl Drop for Waited {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_work_that_is_waited_for_counts_and_only_until_it_ends() {
        let load = Load::default();
        let speculative = load.count(Priority::Speculative);
        assert!(speculative.is_none() && !load.somebody_waits());
        let (first, second) = (load.count(Priority::Waiting), load.count(Priority::Waiting));
        drop(first);
        assert!(load.somebody_waits());
        drop(second);
        assert!(!load.somebody_waits());
    }
}
