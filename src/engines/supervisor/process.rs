//! One incarnation of a worker: the child process and the three tasks on its pipes.

use std::collections::VecDeque;
use std::io;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, oneshot};

use super::WorkerSpec;
use crate::engines::ipc::{self, FrameError, FromWorker, Protocol};
use crate::engines::worker::{SCHEDULING_VARIABLE, SERVER_PID_VARIABLE};

/// Messages that may lie unread before the worker is left waiting on its pipe.
const UNREAD_EVENTS: usize = 256;
/// How long a process may take to end after it closed its stdout.
const EXIT_GRACE: Duration = Duration::from_millis(500);
/// How long a killed process may take to be gone before it is left to the runtime.
const KILL_GRACE: Duration = Duration::from_secs(2);
/// Longer lines of stderr are cut.
const MAX_LINE: usize = 2048;
/// Lines of stderr kept to explain a failed start.
const TAIL_LINES: usize = 8;

/// What happens to a process.
pub(super) enum ProcessEvent<P: Protocol> {
    Spawned {
        pid: Option<u32>,
    },
    Message {
        message: FromWorker<P::Response, P::Facts>,
        payload: Vec<u8>,
    },
    Ended(End),
}

/// How a process ended.
#[derive(Debug)]
pub(super) enum End {
    CannotSpawn(io::Error),
    /// It closed its stdout, most likely by dying.
    Closed,
    /// What it wrote is no frame.
    Garbage(FrameError),
}

/// A running (or starting) worker process. Dropping it kills the process.
pub(super) struct Process<P: Protocol> {
    events: mpsc::Receiver<ProcessEvent<P>>,
    frames: Option<mpsc::Sender<Vec<u8>>>,
    kill: Option<oneshot::Sender<()>>,
    tail: Tail,
}

impl<P: Protocol> Process<P> {
    pub(super) fn start(spec: &WorkerSpec, spawner: &Spawner) -> Self {
        let (events_sender, events) = mpsc::channel(UNREAD_EVENTS);
        // Requests, and as many cancellations and pings as can matter.
        let (frames, frames_receiver) = mpsc::channel(4 * spec.parallel + 64);
        let (kill, killed) = oneshot::channel();
        let tail = Tail::default();
        let spawned = spawner.spawn(command(spec));
        let life = Life::<P> {
            events: events_sender,
            frames: frames_receiver,
            tail: tail.clone(),
        };
        tokio::spawn(life.run(spawned, killed));
        Self {
            events,
            frames: Some(frames),
            kill: Some(kill),
            tail,
        }
    }

    /// Cancellation-safe.
    pub(super) async fn event(&mut self) -> ProcessEvent<P> {
        // The sender lives until Ended was sent.
        self.events
            .recv()
            .await
            .unwrap_or(ProcessEvent::Ended(End::Closed))
    }

    /// Hands a frame to the pipe; false where it is so far behind that the worker must be hung.
    pub(super) fn send(&self, frame: Vec<u8>) -> bool {
        self.frames
            .as_ref()
            .is_some_and(|frames| frames.try_send(frame).is_ok())
    }

    /// The last lines of its stderr.
    pub(super) fn tail(&self) -> String {
        self.tail.join()
    }

    /// Closes its stdin, waits for its end, and kills it when that takes longer than `grace`.
    pub(super) async fn stop(mut self, grace: Duration) {
        self.frames = None;
        let drain = async { while self.events.recv().await.is_some() {} };
        if tokio::time::timeout(grace, drain).await.is_err() {
            self.kill = None;
            let drain = async { while self.events.recv().await.is_some() {} };
            let _ = tokio::time::timeout(KILL_GRACE, drain).await;
        }
    }
}

fn command(spec: &WorkerSpec) -> Command {
    let mut command = Command::new(&spec.executable);
    command
        .args(&spec.args)
        .envs(spec.env.iter().map(|(name, value)| (name, value)))
        .env(SERVER_PID_VARIABLE, std::process::id().to_string())
        .env(SCHEDULING_VARIABLE, spec.scheduling.as_str())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own: Ctrl-C at the terminal reaches the server only, which drains.
        .process_group(0)
        .kill_on_drop(true);
    command
}

/// Starts processes from one thread that lives as long as the supervisor. PR_SET_PDEATHSIG is
/// about the *thread* that started a process, and a runtime's threads may come and go.
pub(super) struct Spawner {
    requests: std::sync::mpsc::Sender<SpawnRequest>,
}

struct SpawnRequest {
    command: Command,
    runtime: tokio::runtime::Handle,
    result: oneshot::Sender<io::Result<Child>>,
}

impl Spawner {
    /// # Errors
    /// No thread could be started.
    pub(super) fn new() -> io::Result<Self> {
        let (requests, receiver) = std::sync::mpsc::channel::<SpawnRequest>();
        std::thread::Builder::new()
            .name("spawner".into())
            .spawn(move || {
                for SpawnRequest {
                    mut command,
                    runtime,
                    result,
                } in receiver
                {
                    let _entered = runtime.enter();
                    // Where nobody waits any more the child is dropped, and thereby killed.
                    let _ = result.send(command.spawn());
                }
            })?;
        Ok(Self { requests })
    }

    fn spawn(&self, command: Command) -> oneshot::Receiver<io::Result<Child>> {
        let (result, receiver) = oneshot::channel();
        let runtime = tokio::runtime::Handle::current();
        // A dead thread drops the request and with it the sender, which the receiver notices.
        let _ = self.requests.send(SpawnRequest {
            command,
            runtime,
            result,
        });
        receiver
    }
}

/// The task that owns the child.
struct Life<P: Protocol> {
    events: mpsc::Sender<ProcessEvent<P>>,
    frames: mpsc::Receiver<Vec<u8>>,
    tail: Tail,
}

impl<P: Protocol> Life<P> {
    async fn run(
        self,
        spawned: oneshot::Receiver<io::Result<Child>>,
        mut killed: oneshot::Receiver<()>,
    ) {
        let spawned = spawned
            .await
            .unwrap_or_else(|_| Err(io::Error::other("no thread")));
        let (mut child, pipes) = match spawned.and_then(take_pipes) {
            Ok(spawned) => spawned,
            Err(error) => {
                let _ = self
                    .events
                    .send(ProcessEvent::Ended(End::CannotSpawn(error)))
                    .await;
                return;
            }
        };
        let (stdin, stdout, stderr) = pipes;
        let pid = child.id();
        tokio::spawn(write_frames(stdin, self.frames));
        tokio::spawn(log_lines(stderr, P::ENGINE, pid, self.tail));
        let read = async {
            let _ = self.events.send(ProcessEvent::Spawned { pid }).await;
            let end = read_messages::<P>(stdout, &self.events).await;
            let _ = self.events.send(ProcessEvent::Ended(end)).await;
        };
        let grace = tokio::select! {
            () = read => EXIT_GRACE,
            _ = &mut killed => Duration::ZERO,
        };
        let status = match tokio::time::timeout(grace, child.wait()).await {
            Ok(status) => status,
            Err(_) => {
                // An error means that it is gone already.
                let _ = child.start_kill();
                let waited = tokio::time::timeout(KILL_GRACE, child.wait()).await;
                waited.unwrap_or_else(|_| Err(io::Error::other("still there after SIGKILL")))
            }
        };
        match status {
            Ok(status) => tracing::info!(engine = P::ENGINE, pid, %status, "worker ended"),
            Err(error) => tracing::error!(engine = P::ENGINE, pid, %error, "worker lingers"),
        }
    }
}

type Pipes = (ChildStdin, ChildStdout, ChildStderr);

fn take_pipes(mut child: Child) -> io::Result<(Child, Pipes)> {
    match (child.stdin.take(), child.stdout.take(), child.stderr.take()) {
        (Some(stdin), Some(stdout), Some(stderr)) => Ok((child, (stdin, stdout, stderr))),
        _ => Err(io::Error::other("a pipe is missing")),
    }
}

async fn write_frames(mut stdin: ChildStdin, mut frames: mpsc::Receiver<Vec<u8>>) {
    while let Some(frame) = frames.recv().await {
        if stdin.write_all(&frame).await.is_err() {
            // The reader of its stdout reports the death.
            return;
        }
    }
}

async fn read_messages<P: Protocol>(
    stdout: ChildStdout,
    events: &mpsc::Sender<ProcessEvent<P>>,
) -> End {
    let mut stdout = tokio::io::BufReader::new(stdout);
    match ipc::skip_preamble(&mut stdout).await {
        Ok(0) => {}
        Ok(skipped) => tracing::debug!(engine = P::ENGINE, skipped, "output before the frames"),
        Err(FrameError::Io(_)) => return End::Closed,
        Err(error) => return End::Garbage(error),
    }
    loop {
        let frame = match ipc::read_frame(&mut stdout).await {
            Ok(Some(frame)) => frame,
            // A frame cut short is what a death in mid-write looks like.
            Ok(None) | Err(FrameError::Io(_)) => return End::Closed,
            Err(error) => return End::Garbage(error),
        };
        let message = match frame.message() {
            Ok(message) => message,
            Err(error) => return End::Garbage(error),
        };
        let payload = frame.payload;
        if events
            .send(ProcessEvent::Message { message, payload })
            .await
            .is_err()
        {
            return End::Closed;
        }
    }
}

/// The last lines of a worker's stderr.
#[derive(Clone, Default)]
struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    fn push(&self, line: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == TAIL_LINES {
            lines.pop_front();
        }
        lines.push_back(line.to_owned());
    }

    fn join(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(" | ")
    }
}

/// Passes stderr on: lines that our own subscriber wrote at their level, whatever else (native
/// libraries, a panic's message) at DEBUG, because it may hold a caller's words.
async fn log_lines(stderr: impl AsyncRead + Unpin, engine: &str, pid: Option<u32>, tail: Tail) {
    let mut stderr = tokio::io::BufReader::new(stderr);
    let mut line = Vec::new();
    loop {
        line.clear();
        let Ok(more) = read_line(&mut stderr, &mut line).await else {
            return;
        };
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        if !text.is_empty() {
            tail.push(text);
            log_line(text, engine, pid);
        }
        if !more {
            return;
        }
    }
}

fn log_line(line: &str, engine: &str, pid: Option<u32>) {
    let (level, message) = line.trim_start().split_once(' ').unwrap_or(("", line));
    match level {
        "ERROR" => tracing::error!(engine, pid, "{message}"),
        "WARN" => tracing::warn!(engine, pid, "{message}"),
        "INFO" => tracing::info!(engine, pid, "{message}"),
        "DEBUG" => tracing::debug!(engine, pid, "{message}"),
        "TRACE" => tracing::trace!(engine, pid, "{message}"),
        _ => tracing::debug!(engine, pid, "{line}"),
    }
}

/// Reads to the next newline, keeping at most [`MAX_LINE`] bytes; false at the end of the stream.
async fn read_line<S: AsyncRead + Unpin>(
    stream: &mut tokio::io::BufReader<S>,
    line: &mut Vec<u8>,
) -> io::Result<bool> {
    loop {
        let byte = match stream.read_u8().await {
            Ok(byte) => byte,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        };
        if byte == b'\n' {
            return Ok(true);
        }
        if line.len() < MAX_LINE {
            line.push(byte);
        }
    }
}
