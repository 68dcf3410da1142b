//! The worker's side of [`ipc`]: what the `offhook-*` binaries share.
//!
//! ```text
//!   stdin ──► reader thread ──► queue ──► Jobs::next ──► engine ──► Responder ──► stdout
//!                 │ Cancel: sets the job's CancelFlag          (one lock for all writers)
//!                 │ Ping:   answered here
//!                 └ end of file: queue closes, all flags set; SIGKILL if the engine lingers
//! ```
//!
//! A worker never outlives the server: the end of its stdin stops it, whatever ended the server,
//! and `PR_SET_PDEATHSIG` kills it should its reader be stuck. It runs below everything else on
//! the machine (see [`Scheduling`]), so that inference never delays a packet.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

use super::EngineError;
use super::ipc::{
    self, FrameError, FromWorker, MAGIC, PROTOCOL_VERSION, Priority, Protocol, RequestId, ToWorker,
};

/// Names the environment variable that holds the server's process id.
pub(super) const SERVER_PID_VARIABLE: &str = "OFFHOOK_SERVER_PID";
/// Names the environment variable that holds a [`Scheduling`].
pub(super) const SCHEDULING_VARIABLE: &str = "OFFHOOK_WORKER_SCHEDULING";
/// More than any server leaves with a worker at once: one that does is broken.
const MAX_JOBS: usize = 1024;
/// How long an engine may take to notice that the server is gone.
const LINGER: Duration = Duration::from_secs(1);

/// How a worker competes for the processors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheduling {
    /// `SCHED_IDLE`: only what nobody else wants. Measured to delay 20 ms ticks by 0.2 ms at most.
    #[default]
    Idle,
    /// Nice 19: for a machine that has other work to do too. Delays ticks by up to 2 ms.
    Nice,
    /// As any other process. Delays ticks by tens of milliseconds under load.
    Normal,
}

impl Scheduling {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Nice => "nice",
            Self::Normal => "normal",
        }
    }

    fn from_environment() -> Self {
        match std::env::var(SCHEDULING_VARIABLE).as_deref() {
            Ok("normal") => Self::Normal,
            Ok("nice") => Self::Nice,
            Ok(_) | Err(_) => Self::Idle,
        }
    }
}

/// Set once its request is cancelled. Cheap to clone into a native engine's abort callback.
#[derive(Clone, Debug, Default)]
pub struct CancelFlag(Arc<AtomicBool>);

impl CancelFlag {
    /// Whether the request was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The flag itself, for a callback that takes a pointer to it.
    pub fn as_atomic(&self) -> &Arc<AtomicBool> {
        &self.0
    }

    fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A loaded engine and what the worker says about it.
pub struct Loaded<P: Protocol, E> {
    /// The engine, moved into `serve`.
    pub engine: E,
    /// Name of the model, for people.
    pub model: String,
    /// For the engine's handle in the server.
    pub facts: P::Facts,
}

/// One request, and the way to answer it.
pub struct Job<P: Protocol> {
    /// What to do.
    pub request: P::Request,
    /// Bytes that came with it, for audio to be read with [`ipc::payload_to_samples`].
    pub payload: Vec<u8>,
    /// Who goes first, for engines that serve several at once.
    pub priority: Priority,
    /// Answers it. Dropped without an end, it reports an internal error.
    pub responder: Responder<P>,
}

/// Answers one request. All methods may block while the server does not read.
pub struct Responder<P: Protocol> {
    id: RequestId,
    cancel: CancelFlag,
    port: Arc<Port>,
    ended: bool,
    protocol: std::marker::PhantomData<fn() -> P>,
}

impl<P: Protocol> Responder<P> {
    /// The request's id.
    pub fn id(&self) -> RequestId {
        self.id
    }

    /// Whether nobody wants the answer any more. Check it often and then call
    /// [`Responder::fail`] with [`EngineError::Cancelled`].
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// The flag behind [`Responder::is_cancelled`].
    pub fn cancel_flag(&self) -> CancelFlag {
        self.cancel.clone()
    }

    /// Sends a piece of the answer; more follow.
    pub fn part(&self, body: P::Response, payload: &[u8]) {
        self.port
            .send::<P>(&FromWorker::Part { id: self.id, body }, payload);
    }

    /// Says that the engine is alive and at work on this request, where that takes longer than
    /// its progress limit (see [`Limits`](super::supervisor::Limits)).
    pub fn progress(&self) {
        self.port
            .send::<P>(&FromWorker::Progress { id: self.id }, &[]);
    }

    /// Sends the last piece of the answer.
    pub fn done(mut self, body: P::Response, payload: &[u8]) {
        self.end(&FromWorker::Done { id: self.id, body }, payload);
    }

    /// Ends the request without a (further) answer.
    pub fn fail(mut self, error: EngineError) {
        self.end(&FromWorker::Failed { id: self.id, error }, &[]);
    }

    fn end(&mut self, message: &FromWorker<P::Response, P::Facts>, payload: &[u8]) {
        self.ended = true;
        // Forgotten before the server hears of it: it may reuse nothing, but counts our slots.
        self.port.queue().flags.remove(&self.id);
        self.port.send::<P>(message, payload);
    }
}

impl<P: Protocol> Drop for Responder<P> {
    fn drop(&mut self) {
        if !self.ended {
            let error = EngineError::Internal {
                detail: "the engine dropped the request".into(),
            };
            let id = self.id;
            self.end(&FromWorker::Failed { id, error }, &[]);
        }
    }
}

/// The requests that wait in this worker, oldest first.
pub struct Jobs<P: Protocol> {
    port: Arc<Port>,
    protocol: std::marker::PhantomData<fn() -> P>,
}

impl<P: Protocol> Clone for Jobs<P> {
    fn clone(&self) -> Self {
        Self {
            port: Arc::clone(&self.port),
            protocol: std::marker::PhantomData,
        }
    }
}

impl<P: Protocol> Jobs<P> {
    /// Waits for a request. `None` when the server is gone: return from `serve` then. Requests
    /// that were cancelled while they waited are answered here and not handed out.
    pub fn next(&self) -> Option<Job<P>> {
        let mut queue = self.port.queue();
        loop {
            if let Some(raw) = queue.waiting.pop_front() {
                drop(queue);
                if let Some(job) = self.job(raw) {
                    return Some(job);
                }
                queue = self.port.queue();
                continue;
            }
            if queue.closed {
                return None;
            }
            queue = self
                .port
                .arrived
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A request, if one waits now. For engines that work on several at once.
    pub fn try_next(&self) -> Option<Job<P>> {
        loop {
            let raw = self.port.queue().waiting.pop_front()?;
            if let Some(job) = self.job(raw) {
                return Some(job);
            }
        }
    }

    /// Whether the server is gone.
    pub fn is_closed(&self) -> bool {
        self.port.queue().closed
    }

    fn job(&self, raw: RawJob) -> Option<Job<P>> {
        let RawJob { frame, id, cancel } = raw;
        let responder = Responder::<P> {
            id,
            cancel,
            port: Arc::clone(&self.port),
            ended: false,
            protocol: std::marker::PhantomData,
        };
        if responder.is_cancelled() {
            responder.fail(EngineError::Cancelled);
            return None;
        }
        match frame.message::<ToWorker<P::Request>>() {
            Ok(ToWorker::Request { priority, body, .. }) => Some(Job {
                request: body,
                payload: frame.payload,
                priority,
                responder,
            }),
            Ok(ToWorker::Cancel { .. } | ToWorker::Ping { .. }) | Err(_) => {
                let detail = "the request is not of this engine's protocol".to_owned();
                responder.fail(EngineError::BadInput { detail });
                None
            }
        }
    }
}

struct RawJob {
    frame: ipc::Frame,
    id: RequestId,
    cancel: CancelFlag,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<RawJob>,
    flags: HashMap<RequestId, CancelFlag>,
    closed: bool,
}

struct Port {
    output: Mutex<std::fs::File>,
    queue: Mutex<Queue>,
    arrived: Condvar,
}

impl Port {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send<P: Protocol>(&self, message: &FromWorker<P::Response, P::Facts>, payload: &[u8]) {
        let written = ipc::encode(message, payload).and_then(|bytes| self.write(&bytes));
        if let Err(error) = written {
            // Nobody can be told on this pipe; the server sees the worker's end.
            tracing::error!(%error, "answer lost");
            self.close();
        }
    }

    fn write(&self, bytes: &[u8]) -> Result<(), FrameError> {
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        output.write_all(bytes)?;
        Ok(output.flush()?)
    }

    fn close(&self) {
        let mut queue = self.queue();
        queue.closed = true;
        queue.flags.values().for_each(CancelFlag::cancel);
        self.arrived.notify_all();
    }

    fn take_frame(&self, frame: ipc::Frame) -> Result<(), FrameError> {
        // The body is parsed by the engine's thread; here only whom it concerns.
        match frame.message::<ToWorker<serde::de::IgnoredAny>>()? {
            ToWorker::Request { id, .. } => {
                let mut queue = self.queue();
                if queue.waiting.len() >= MAX_JOBS {
                    return Err(io::Error::other("too many requests").into());
                }
                let cancel = CancelFlag::default();
                queue.flags.insert(id, cancel.clone());
                queue.waiting.push_back(RawJob { frame, id, cancel });
                self.arrived.notify_one();
            }
            ToWorker::Cancel { id } => {
                if let Some(flag) = self.queue().flags.get(&id) {
                    flag.cancel();
                }
            }
            ToWorker::Ping { nonce } => {
                let pong = FromWorker::<(), ()>::Pong { nonce };
                self.write(&ipc::encode(&pong, &[])?)?;
            }
        }
        Ok(())
    }

    /// Reads until the server is gone, then sees to it that this process ends.
    fn read(&self) {
        let mut input = io::stdin().lock();
        loop {
            let taken = match ipc::read_frame_blocking(&mut input) {
                Ok(None) => break,
                Ok(Some(frame)) => self.take_frame(frame),
                Err(error) => Err(error),
            };
            if let Err(error) = taken {
                tracing::error!(%error, "the server's frames cannot be read");
                break;
            }
        }
        self.close();
        std::thread::sleep(LINGER);
        // Not exit(): it would run destructors of native libraries under a running engine.
        let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::KILL);
    }
}

/// Runs a worker: lowers its priority, ties its life to the server's, loads the engine, says
/// hello and serves. Call it first in `main`, before any thread is started; `load` may take as
/// long as the supervisor's start time-out allows. `serve` loops over [`Jobs::next`].
///
/// What native libraries print to stdout goes to stderr from here on. `tracing` events go there
/// too, and reach the server's log at their level.
pub fn run<P: Protocol, E>(
    load: impl FnOnce() -> Result<Loaded<P, E>, EngineError>,
    serve: impl FnOnce(E, Jobs<P>),
) -> ExitCode {
    start_log();
    let output = match prepare_process() {
        Ok(output) => output,
        Err(error) => {
            tracing::error!(%error, "cannot start as a worker");
            return ExitCode::FAILURE;
        }
    };
    let port = Arc::new(Port {
        output: Mutex::new(output),
        queue: Mutex::new(Queue::default()),
        arrived: Condvar::new(),
    });
    if let Err(error) = port.write(&MAGIC).and_then(|()| start_reader(&port)) {
        tracing::error!(%error, "cannot talk to the server");
        return ExitCode::FAILURE;
    }
    match load() {
        Ok(Loaded {
            engine,
            model,
            facts,
        }) => {
            let engine_name = P::ENGINE.to_owned();
            let protocol = PROTOCOL_VERSION;
            port.send::<P>(
                &FromWorker::Hello {
                    protocol,
                    engine: engine_name,
                    model,
                    facts,
                },
                &[],
            );
            serve(
                engine,
                Jobs {
                    port,
                    protocol: std::marker::PhantomData,
                },
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!(%error, "the engine cannot start");
            port.send::<P>(&FromWorker::StartFailed { error }, &[]);
            ExitCode::FAILURE
        }
    }
}

fn start_reader(port: &Arc<Port>) -> Result<(), FrameError> {
    let port = Arc::clone(port);
    std::thread::Builder::new()
        .name("frames".into())
        .spawn(move || port.read())?;
    Ok(())
}

fn start_log() {
    use tracing_subscriber::EnvFilter;
    let wanted = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    let mut filter = EnvFilter::try_new(&wanted)
        .ok()
        .filter(|_| !wanted.is_empty())
        .unwrap_or_else(|| EnvFilter::new("info,llama-cpp-2=warn"));
    // ONNX Runtime tells a thousand things at INFO while it loads a model.
    if !wanted.contains("ort=") {
        filter = "ort=warn"
            .parse()
            .map(|quiet| filter.clone().add_directive(quiet))
            .unwrap_or(filter);
    }
    // A second subscriber is refused, and then the first one stays.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .without_time()
        .with_target(false)
        .with_ansi(false)
        .try_init();
}

/// Says why the process could not be made a worker.
#[derive(Debug, thiserror::Error)]
enum PrepareError {
    #[error("the server ended meanwhile")]
    Orphaned,
    #[error(transparent)]
    Io(#[from] rustix::io::Errno),
}

/// Ties this process to its parent, lowers its priority and claims stdout for frames.
fn prepare_process() -> Result<std::fs::File, PrepareError> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let server = std::env::var(SERVER_PID_VARIABLE)
        .ok()
        .and_then(|pid| pid.parse::<i32>().ok());
    if let Some(server) = server {
        // The server may have died before the line above; then nobody would be signalled.
        let parent = rustix::process::getppid().map(Pid::as_raw_nonzero);
        if parent.is_none_or(|parent| parent.get() != server) {
            return Err(PrepareError::Orphaned);
        }
    }
    lower_priority(Scheduling::from_environment());
    // Above the three standard ones.
    let output = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
    Ok(output.into())
}

/// Threads started later inherit it.
fn lower_priority(scheduling: Scheduling) {
    let idle = || {
        use thread_priority::{
            NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
            set_thread_priority_and_policy, thread_native_id,
        };
        set_thread_priority_and_policy(
            thread_native_id(),
            ThreadPriority::Min,
            ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle),
        )
    };
    let nice = match scheduling {
        Scheduling::Normal => return,
        Scheduling::Nice => true,
        Scheduling::Idle => idle().is_err(),
    };
    if nice && let Err(error) = rustix::process::setpriority_process(None, 19) {
        tracing::warn!(%error, "cannot lower the worker's priority");
    }
}

impl<P: Protocol> fmt::Debug for Responder<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
