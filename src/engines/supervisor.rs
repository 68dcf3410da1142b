//! Starts a worker process, feeds it and keeps it alive.
//!
//! ```text
//!                 hello                     died, hung, garbage
//!   Starting ─────────────► Ready ───────────────────────────► Restarting
//!      │                      ▲                                  │  │
//!      │                      └──────────── hello ───────────────┘  │
//!      │ cannot start (model or executable missing), or             │
//!      │ died START_ATTEMPTS times in a row before hello            │
//!      └──────────────────────────► Failed ◄────────────────────────┘
//!                                     │ tried again every FAILED_RETRY
//!   any ── shutdown ──► Stopped       └──── hello ──► Ready
//! ```
//!
//! A request waits in the queue of the scheduler until the worker has a free
//! slot. When the worker dies, the requests that it had fail at once with
//! [`EngineError::WorkerDied`]; those that wait go to its successor, if it comes within their
//! [`Limits::wait`]. A worker that makes no progress with a request within [`Limits::progress`]
//! is killed. In the state Failed requests are refused at once with the reason.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, watch};

use super::EngineError;
use super::ipc::{self, Priority, Protocol, RequestId, ToWorker};
use super::load::{Load, Waited};
use super::scheduler::{Pushed, Scheduler, Waiting};
use super::worker::Scheduling;
use crate::ids::CallId;

mod process;
mod request;
mod task;

pub(in crate::engines) use request::Canceller;
pub use request::{RequestHandle, Response, Responses, forward};

/// Answers that may lie unread before their request is given up as [`EngineError::Overloaded`].
const UNREAD_RESPONSES: usize = 512;

/// What to run and within which bounds.
#[derive(Clone, Debug)]
pub struct WorkerSpec {
    /// The worker's executable; see [`find_executable`].
    pub executable: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables set beside the inherited environment.
    pub env: Vec<(OsString, OsString)>,
    /// How it competes for the processors.
    pub scheduling: Scheduling,
    /// What callers wait for, shared by the workers of a machine.
    pub load: Load,
    /// How many requests may wait.
    pub queue_bound: usize,
    /// How many requests the worker has at once: 1 where it serves one after another, so that
    /// priorities and turns are decided here.
    pub parallel: usize,
    /// From start to hello, loading the model included.
    pub start_timeout: Duration,
}

impl WorkerSpec {
    /// A worker that serves one request after another, with a queue of 64 and a minute to load
    /// its model.
    pub fn new(executable: impl Into<PathBuf>) -> Self {
        Self {
            executable: executable.into(),
            args: Vec::new(),
            env: Vec::new(),
            scheduling: Scheduling::default(),
            load: Load::default(),
            queue_bound: 64,
            parallel: 1,
            start_timeout: Duration::from_secs(60),
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// For an engine whose threads (OpenMP's) meet hundreds of times a pass: one that is early
    /// spins for some 50 us, and then sleeps. Measured: to sleep at once costs twice the time a
    /// token; to spin until the last one comes, four to ten times on a busy machine, where that
    /// is a time slice each.
    pub(super) fn spin_briefly(&mut self) {
        self.env.push(("GOMP_SPINCOUNT".into(), "3000".into()));
    }
}

/// Finds a worker's executable in the configured folder, or else beside the running executable
/// and in its parent folder (where a test or a bench runs from).
///
/// # Errors
/// [`EngineError::ExecutableUnusable`], naming what was looked for and where.
pub fn find_executable(name: &str, folder: Option<&Path>) -> Result<PathBuf, EngineError> {
    let unusable = |detail: String| EngineError::ExecutableUnusable { detail };
    let folders = match folder {
        Some(folder) => vec![folder.to_path_buf()],
        None => {
            let own = std::env::current_exe().map_err(|error| {
                unusable(format!(
                    "{name}: the folder of this executable is unknown: {error}"
                ))
            })?;
            own.ancestors()
                .skip(1)
                .take(2)
                .map(Path::to_path_buf)
                .collect()
        }
    };
    let found = folders
        .iter()
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    found.ok_or_else(|| {
        let looked: Vec<_> = folders
            .iter()
            .map(|folder| folder.display().to_string())
            .collect();
        unusable(format!("{name} is not in {}", looked.join(" nor in ")))
    })
}

/// Where a worker stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkerState {
    /// Started for the first time, loading its model.
    Starting,
    /// At work.
    Ready {
        /// Name of its model.
        model: String,
    },
    /// Died and being started again.
    Restarting {
        /// Attempts since it was ready last, from 1.
        attempt: u32,
        /// When it died.
        since: Instant,
    },
    /// Cannot be started; tried again now and then.
    Failed {
        /// What requests are refused with.
        reason: EngineError,
    },
    /// Shut down.
    Stopped,
}

impl WorkerState {
    /// Whether a request made now would be served now or very soon.
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Ready { .. })
    }
}

/// Counters of one supervisor, taken at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerSnapshot {
    /// Requests that wait.
    pub queued: usize,
    /// Requests that the worker has.
    pub in_flight: usize,
    /// Requests accepted since the start.
    pub accepted: u64,
    /// Requests answered to the end.
    pub completed: u64,
    /// Requests that ended in an error other than a cancellation.
    pub failed: u64,
    /// Requests cancelled before their end.
    pub cancelled: u64,
    /// Requests refused or pushed out because the queue was full.
    pub overloaded: u64,
    /// Times that a worker which had been ready died or was killed.
    pub deaths: u64,
    /// Times that it was killed because it made no progress, answered no ping or sent garbage.
    pub killed: u64,
    /// Times that a worker was started, the first included.
    pub starts: u64,
    /// Process id of the worker, if one runs.
    pub pid: Option<u32>,
}

/// How long a request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// In the queue, restarts of the worker included.
    pub wait: Duration,
    /// In the worker, between two signs of progress with this request (a part, a
    /// [`progress`](super::worker::Responder::progress), the end).
    pub progress: Duration,
}

/// One request for a worker.
#[derive(Debug)]
pub struct Submission<P: Protocol> {
    /// Whose turn it is; `None` for the server's own housekeeping.
    pub call: Option<CallId>,
    /// Who goes first.
    pub priority: Priority,
    /// How long it may take.
    pub limits: Limits,
    /// What to do.
    pub body: P::Request,
    /// Bytes beside it.
    pub payload: Vec<u8>,
}

struct WaitingItem<R> {
    frame: Vec<u8>,
    progress: Duration,
    /// Somebody waits for it.
    waited: Option<Waited>,
    responses: mpsc::Sender<Response<R>>,
}

struct Flight<R> {
    /// `None` once cancelled: the slot stays taken until the worker lets go of the request.
    responses: Option<mpsc::Sender<Response<R>>>,
    progress: Duration,
    /// Somebody waits for it.
    waited: Option<Waited>,
    /// When the worker is given up, unless it makes progress with this before.
    until: Instant,
}

/// What the handles and the task share; locked for moments only, never across an await.
struct Inner<R> {
    scheduler: Scheduler<WaitingItem<R>>,
    flights: HashMap<RequestId, Flight<R>>,
    /// In flight and cancelled, and the worker not told yet.
    to_cancel: Vec<RequestId>,
    counters: WorkerSnapshot,
    /// Set while requests are refused.
    refusal: Option<EngineError>,
    stopping: bool,
}

struct Shared<R> {
    inner: Mutex<Inner<R>>,
    wake: Notify,
    next_id: AtomicU64,
    load: Load,
    /// Requests that the worker has at once.
    parallel: usize,
}

impl<R> Shared<R> {
    fn lock(&self) -> MutexGuard<'_, Inner<R>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        self.lock().stopping = true;
        self.wake.notify_one();
    }

    fn cancel(&self, id: RequestId) {
        let mut inner = self.lock();
        if inner.scheduler.remove(id).is_some() {
            inner.counters.cancelled += 1;
            return;
        }
        let Some(flight) = inner.flights.get_mut(&id) else {
            return;
        };
        flight.waited = None;
        if flight.responses.take().is_some() {
            inner.counters.cancelled += 1;
            inner.to_cancel.push(id);
            drop(inner);
            self.wake.notify_one();
        }
    }
}

struct StopOnDrop<R>(Arc<Shared<R>>);

impl<R> Drop for StopOnDrop<R> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl<R: Send> Canceller for Shared<R> {
    fn cancel(&self, id: RequestId) {
        Shared::cancel(self, id);
    }

    fn promote(&self, id: RequestId) {
        let mut inner = self.lock();
        let waited = self.load.count(Priority::Waiting);
        if let Some(entry) = inner.scheduler.promote(id) {
            entry.item.waited = waited;
        } else if let Some(flight) = inner.flights.get_mut(&id)
            && flight.responses.is_some()
        {
            flight.waited = waited;
        }
    }
}

/// Keeps one worker alive and hands it requests. Cheap to clone; needs a tokio runtime.
pub struct Supervisor<P: Protocol> {
    shared: Arc<Shared<P::Response>>,
    /// Dropped with the last clone.
    stop: Arc<StopOnDrop<P::Response>>,
    state: watch::Receiver<WorkerState>,
    facts: watch::Receiver<Option<P::Facts>>,
    stopped: watch::Receiver<bool>,
}

impl<P: Protocol> Clone for Supervisor<P> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            stop: Arc::clone(&self.stop),
            state: self.state.clone(),
            facts: self.facts.clone(),
            stopped: self.stopped.clone(),
        }
    }
}

impl<P: Protocol> Supervisor<P> {
    /// Starts the worker in the background and returns at once. When the last clone is dropped,
    /// the worker is stopped.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(spec: WorkerSpec) -> Self {
        let inner = Inner {
            scheduler: Scheduler::new(spec.queue_bound),
            flights: HashMap::new(),
            to_cancel: Vec::new(),
            counters: WorkerSnapshot::default(),
            refusal: None,
            stopping: false,
        };
        let shared = Arc::new(Shared {
            inner: Mutex::new(inner),
            wake: Notify::new(),
            next_id: AtomicU64::new(1),
            load: spec.load.clone(),
            parallel: spec.parallel,
        });
        let (state_sender, state) = watch::channel(WorkerState::Starting);
        let (facts_sender, facts) = watch::channel(None);
        let (stopped_sender, stopped) = watch::channel(false);
        let task = task::Task::<P>::new(spec, Arc::clone(&shared), state_sender, facts_sender);
        tokio::spawn(async move {
            task.run().await;
            let _ = stopped_sender.send(true);
        });
        let stop = Arc::new(StopOnDrop(Arc::clone(&shared)));
        Self {
            shared,
            stop,
            state,
            facts,
            stopped,
        }
    }

    /// Queues a request.
    ///
    /// # Errors
    /// [`EngineError::Overloaded`] where the queue is full of requests at least as urgent, or a
    /// [`Priority::Spare`] one would take anybody's time, the
    /// reason where the worker cannot be started, [`EngineError::ShutDown`], and
    /// [`EngineError::BadInput`] where the request is too large for a frame.
    pub fn submit(&self, submission: Submission<P>) -> Result<Responses<P::Response>, EngineError> {
        let id = RequestId(self.shared.next_id.fetch_add(1, Ordering::Relaxed));
        let Submission {
            call,
            priority,
            limits,
            body,
            payload,
        } = submission;
        let frame =
            ipc::encode(&ToWorker::Request { id, priority, body }, &payload).map_err(|error| {
                EngineError::BadInput {
                    detail: error.to_string(),
                }
            })?;
        let (sender, receiver) = mpsc::channel(UNREAD_RESPONSES);
        let until = Instant::now() + limits.wait;
        let item = WaitingItem {
            frame,
            progress: limits.progress,
            waited: self.shared.load.count(priority),
            responses: sender,
        };
        let pushed = {
            let mut inner = self.shared.lock();
            if let Some(refusal) = &inner.refusal {
                return Err(refusal.clone());
            }
            let busy = inner.scheduler.len() > 0
                || inner.flights.len() >= self.shared.parallel
                || self.shared.load.somebody_waits();
            if priority == Priority::Spare && busy {
                return Err(EngineError::Overloaded);
            }
            let pushed = inner.scheduler.push(Waiting {
                id,
                call,
                priority,
                until,
                item,
            });
            match &pushed {
                Pushed::Queued => inner.counters.accepted += 1,
                Pushed::InPlaceOf(_) => {
                    inner.counters.accepted += 1;
                    inner.counters.overloaded += 1;
                }
                Pushed::Refused(_) => inner.counters.overloaded += 1,
            }
            pushed
        };
        match pushed {
            Pushed::Queued => {}
            Pushed::InPlaceOf(victim) => {
                // Nothing was sent on this channel yet, so there is room.
                let _ = victim
                    .item
                    .responses
                    .try_send(Response::Failed(EngineError::Overloaded));
            }
            Pushed::Refused(_) => return Err(EngineError::Overloaded),
        }
        self.shared.wake.notify_one();
        let canceller: Arc<dyn Canceller> = Arc::clone(&self.shared) as Arc<dyn Canceller>;
        Ok(Responses::new(RequestHandle::new(id, canceller), receiver))
    }

    /// Where the worker stands, for readiness and admission.
    pub fn state(&self) -> watch::Receiver<WorkerState> {
        self.state.clone()
    }

    /// What the worker said about itself; `None` until it was ready once.
    pub fn facts(&self) -> watch::Receiver<Option<P::Facts>> {
        self.facts.clone()
    }

    /// The counters.
    pub fn snapshot(&self) -> WorkerSnapshot {
        let inner = self.shared.lock();
        WorkerSnapshot {
            queued: inner.scheduler.len(),
            in_flight: inner.flights.len(),
            ..inner.counters
        }
    }

    /// Waits until the worker is ready.
    ///
    /// # Errors
    /// The reason where it cannot be started, [`EngineError::ShutDown`] where it was shut down.
    pub async fn ready(&self) -> Result<(), EngineError> {
        let mut state = self.state.clone();
        let settled = state
            .wait_for(|state| match state {
                WorkerState::Ready { .. } | WorkerState::Failed { .. } | WorkerState::Stopped => {
                    true
                }
                WorkerState::Starting | WorkerState::Restarting { .. } => false,
            })
            .await;
        match settled.as_deref() {
            Ok(WorkerState::Ready { .. }) => Ok(()),
            Ok(WorkerState::Failed { reason }) => Err(reason.clone()),
            Ok(_) | Err(_) => Err(EngineError::ShutDown),
        }
    }

    /// Fails everything that waits or is under way with [`EngineError::ShutDown`], closes the
    /// worker's stdin, gives it a moment, kills it, and returns when it is gone.
    pub async fn shutdown(&self) {
        self.shared.stop();
        // An error means that the task is gone, which is what is waited for.
        let _ = self.stopped.clone().wait_for(|stopped| *stopped).await;
    }
}

#[cfg(test)]
mod tests;
