//! A request that a hosted engine serves, and the local one where it cannot.
//!
//! ```text
//!            failed            ┌───────────────┐
//!   Hosted ───────────────────►│ Local(handle) │
//!     │ handle dropped         └───────┬───────┘
//!     └───────────────► Over ◄─────────┘ handle dropped: cancelled there, too
//! ```

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use super::error::{HostedError, Stage};
use super::settings::Deadlines;
use crate::engines::ipc::RequestId;
use crate::engines::supervisor::{Canceller, RequestHandle};
use crate::engines::{EngineError, Priority};

enum State {
    Hosted { priority: Priority },
    Local(RequestHandle),
    Over,
}

/// Who serves a request now. Shared by its task and its handle.
pub(super) struct Serving(Mutex<State>);

impl Serving {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the local engine serve from now on, with the priority that the request has by now.
    ///
    /// # Errors
    /// The local engine refuses.
    pub(super) fn fall_back(
        &self,
        ask: impl FnOnce(Priority) -> Result<RequestHandle, EngineError>,
    ) -> Result<(), EngineError> {
        let mut state = self.lock();
        if let State::Hosted { priority } = *state {
            *state = State::Local(ask(priority)?);
        }
        Ok(())
    }
}

struct Handle {
    serving: Arc<Serving>,
    task: AbortHandle,
}

impl Canceller for Handle {
    fn cancel(&self, _: RequestId) {
        self.task.abort();
        let was = std::mem::replace(&mut *self.serving.lock(), State::Over);
        // Outside the lock: dropping the local handle takes the supervisor's.
        drop(was);
    }

    fn promote(&self, _: RequestId) {
        match &mut *self.serving.lock() {
            State::Hosted { priority } => *priority = Priority::Waiting,
            State::Local(handle) => handle.promote(),
            State::Over => {}
        }
    }
}

/// Runs a request in a task of its own that ends when the handle is dropped.
pub(super) fn start<F>(priority: Priority, run: impl FnOnce(Arc<Serving>) -> F) -> RequestHandle
where
    F: Future<Output = ()> + Send + 'static,
{
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let serving = Arc::new(Serving(Mutex::new(State::Hosted { priority })));
    let task = tokio::spawn(run(Arc::clone(&serving))).abort_handle();
    let id = RequestId(NEXT.fetch_add(1, Ordering::Relaxed));
    RequestHandle::new(id, Arc::new(Handle { serving, task }))
}

/// The deadlines of one request, from its start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    deadlines: Deadlines,
    end: Instant,
}

impl Clock {
    pub(super) fn start(deadlines: Deadlines) -> Self {
        let end = Instant::now() + deadlines.whole;
        Self { deadlines, end }
    }

    /// Waits for a part of the answer, no longer than that part and the whole may take.
    pub(super) async fn within<T>(
        &self,
        stage: Stage,
        part: impl Future<Output = T>,
    ) -> Result<T, HostedError> {
        let limit: Duration = match stage {
            Stage::Connect => self.deadlines.connect,
            Stage::First => self.deadlines.first,
            Stage::Between => self.deadlines.between,
            Stage::Whole => self.deadlines.whole,
        };
        let at = Instant::now() + limit;
        let stage = if at < self.end { stage } else { Stage::Whole };
        timeout_at(at.min(self.end), part)
            .await
            .map_err(|_| HostedError::TimedOut(stage))
    }
}
