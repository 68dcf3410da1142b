//! One connection, TCP or TLS, in a task of its own.
//!
//! ```text
//!  connect / accept ──▶ TLS ──▶ open ──────────────┬──▶ closed
//!                                reader ─messages─▶ driver
//!                                writer ◀──queue─── driver (dropping it closes the connection)
//! ```
//!
//! Every wait is bounded: for the connection and the handshake, for an accepted peer's first
//! message, for the rest of a message that began, for a peer to take what we write. A connection
//! that nothing goes over tells the driver that it is idle, which knows whether a call lives on
//! it.

#[cfg(test)]
mod tests;

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use rand::RngExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use crate::sip::message::Message;
use crate::sip::wire::{ParseError, StreamEvent, StreamFramer};

/// How long a connection waits.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    /// For an accepted peer's first message or ping.
    pub(super) first_message: Duration,
    /// From a message's first byte to its last.
    pub(super) whole_message: Duration,
    /// Without a message (or, from a peer that connected to us, without a byte), a connection
    /// says that it is idle.
    pub(super) idle: Duration,
    /// For the peer to take one message.
    pub(super) write: Duration,
    /// For what is queued when the connection closes.
    pub(super) linger: Duration,
    /// Between our keep-alives.
    pub(super) keep_alive: Range<Duration>,
    /// For the answer to one, from a peer that answered one before.
    pub(super) pong: Duration,
}

impl Default for Bounds {
    /// Those for keep-alives are of RFC 5626 4.4.1.
    fn default() -> Self {
        Self {
            first_message: Duration::from_secs(10),
            whole_message: Duration::from_secs(20),
            idle: Duration::from_secs(300),
            write: Duration::from_secs(15),
            linger: Duration::from_secs(5),
            keep_alive: Duration::from_secs(95)..Duration::from_secs(120),
            pong: Duration::from_secs(10),
        }
    }
}

/// Our keep-alive, and the peer's (RFC 5626 3.5.1).
const PING: &[u8] = b"\r\n\r\n";
/// The answer.
const PONG: &[u8] = b"\r\n";
/// Answers to pings that wait for the writer; a peer that asks for more gets fewer.
const PONGS: usize = 4;
/// Read at once.
const CHUNK: usize = 16 * 1024;

/// Names one connection; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ConnectionId(pub(super) u64);

/// What a connection tells the driver.
#[derive(Debug)]
pub(super) enum Told {
    /// A message, or what was wrong with it.
    Message(Result<Message, ParseError>),
    /// Nothing went over it for a while. It stays until its queue is dropped.
    Idle,
    /// It is gone, or never came to be. The last that is told.
    Closed(Closed),
}

/// Why a connection is gone.
#[derive(Debug, thiserror::Error)]
pub(super) enum Closed {
    /// It could not be opened: the peer's or the network's fault.
    #[error("cannot connect: {0}")]
    NotConnected(io::Error),
    /// Nothing came of it in time.
    #[error("no {0} in time")]
    TooSlow(&'static str),
    /// What came is no SIP.
    #[error("what it sent is no SIP")]
    NotSip,
    /// The peer closed it.
    #[error("the peer closed it")]
    ByPeer,
    /// We closed it.
    #[error("closed")]
    ByUs,
    /// It broke.
    #[error("{0}")]
    Broken(io::Error),
}

/// A byte stream, encrypted or not.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opened {
    /// The peer. It owes us a message soon.
    ByPeer,
    /// We. We keep it alive.
    ByUs,
}

/// What a connection's task needs.
pub(super) struct Wiring {
    pub(super) id: ConnectionId,
    pub(super) opened: Opened,
    /// To the driver.
    pub(super) told: mpsc::Sender<(ConnectionId, Told)>,
    /// From the driver.
    pub(super) queue: mpsc::Receiver<Arc<[u8]>>,
    /// Bytes in `queue`.
    pub(super) queued: Arc<AtomicUsize>,
    pub(super) bounds: Bounds,
}

/// Runs a connection until it is gone. `open` connects and shakes hands, within its own bounds.
pub(super) async fn run<F>(wiring: Wiring, open: F)
where
    F: Future<Output = Result<Box<dyn Stream>, Closed>>,
{
    let Wiring {
        id,
        opened,
        told,
        queue,
        queued,
        bounds,
    } = wiring;
    let why = match open.await {
        Ok(stream) => {
            let activity = Activity::new(opened, &bounds);
            let (read_half, write_half) = tokio::io::split(stream);
            let (pong, pongs) = mpsc::channel(PONGS);
            let writer = Writer {
                stream: write_half,
                queue,
                queued,
                pongs,
                activity: &activity,
            };
            let reading = read(id, read_half, &told, pong, &activity);
            let writing = writer.run();
            tokio::pin!(reading, writing);
            tokio::select! {
                why = &mut reading => {
                    // The driver lets go of the queue now. What is in it may still be the
                    // refusal of what could not be read.
                    let _ = told.send((id, Told::Closed(why))).await;
                    let _ = timeout(bounds.linger, writing).await;
                    return;
                }
                why = &mut writing => why,
            }
        }
        Err(why) => why,
    };
    // An error means that the driver is gone.
    let _ = told.send((id, Told::Closed(why))).await;
}

/// When something last went over a connection.
struct Activity<'a> {
    opened: Opened,
    bounds: &'a Bounds,
    start: Instant,
    /// In milliseconds since `start`.
    read: AtomicU64,
    message: AtomicU64,
    /// A ping of ours was answered.
    answers_pings: AtomicBool,
}

impl<'a> Activity<'a> {
    fn new(opened: Opened, bounds: &'a Bounds) -> Self {
        Self {
            opened,
            bounds,
            start: Instant::now(),
            read: AtomicU64::new(0),
            message: AtomicU64::new(0),
            answers_pings: AtomicBool::new(false),
        }
    }

    /// Milliseconds since the start.
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn note(&self, what: &AtomicU64) {
        what.store(self.now(), Ordering::Relaxed);
    }

    fn last(&self, what: &AtomicU64) -> Instant {
        self.start + Duration::from_millis(what.load(Ordering::Relaxed))
    }

    /// When it will have been idle for long enough to say so. Our own keep-alives do not count.
    fn idle_at(&self) -> Instant {
        let message = self.last(&self.message);
        let last = match self.opened {
            Opened::ByPeer => message.max(self.last(&self.read)),
            Opened::ByUs => message,
        };
        last + self.bounds.idle
    }
}

async fn read(
    id: ConnectionId,
    mut stream: impl AsyncRead + Unpin,
    told: &mpsc::Sender<(ConnectionId, Told)>,
    pong: mpsc::Sender<()>,
    activity: &Activity<'_>,
) -> Closed {
    let bounds = activity.bounds;
    let mut framer = StreamFramer::new();
    let mut buffer = vec![0; CHUNK];
    let mut silent = activity.opened == Opened::ByPeer;
    let mut idle_told = activity.start;
    let mut begun: Option<Instant> = None;
    loop {
        let (deadline, late) = match begun {
            Some(begun) => (begun + bounds.whole_message, Some("whole message")),
            None if silent => (activity.start + bounds.first_message, Some("first message")),
            None => (activity.idle_at().max(idle_told + bounds.idle), None),
        };
        let length = match timeout_at(deadline, stream.read(&mut buffer)).await {
            Ok(Ok(0)) => return Closed::ByPeer,
            Ok(Ok(length)) => length,
            Ok(Err(error)) => return Closed::Broken(error),
            Err(_) => match late {
                Some(what) => return Closed::TooSlow(what),
                None => {
                    if activity.idle_at() <= Instant::now() {
                        idle_told = Instant::now();
                        if told.send((id, Told::Idle)).await.is_err() {
                            return Closed::ByUs;
                        }
                    }
                    continue;
                }
            },
        };
        activity.note(&activity.read);
        framer.push(&buffer[..length]);
        while let Some(event) = framer.poll() {
            silent = false;
            begun = None;
            let (message, fatal) = match event {
                StreamEvent::Ping => {
                    // A full queue holds answers enough.
                    let _ = pong.try_send(());
                    continue;
                }
                StreamEvent::Message(message) => (Ok(message), false),
                StreamEvent::Invalid(error) => (Err(error), false),
                StreamEvent::Fatal(error) => (Err(error), true),
            };
            activity.note(&activity.message);
            if told.send((id, Told::Message(message))).await.is_err() {
                return Closed::ByUs;
            }
            if fatal {
                return Closed::NotSip;
            }
        }
        begun = match framer.is_inside_message() {
            true => begun.or_else(|| Some(Instant::now())),
            false => None,
        };
    }
}

struct Writer<'a, W> {
    stream: W,
    queue: mpsc::Receiver<Arc<[u8]>>,
    queued: Arc<AtomicUsize>,
    pongs: mpsc::Receiver<()>,
    activity: &'a Activity<'a>,
}

impl<W: AsyncWrite + Unpin> Writer<'_, W> {
    async fn run(mut self) -> Closed {
        let bounds = self.activity.bounds;
        let mut ping_at = next_ping(bounds);
        let mut pinged: Option<(Instant, u64)> = None;
        loop {
            let wake_at = pinged.map_or(ping_at, |(at, _)| at + bounds.pong);
            let written = tokio::select! {
                message = self.queue.recv() => match message {
                    Some(message) => {
                        self.queued.fetch_sub(message.len(), Ordering::Relaxed);
                        self.activity.note(&self.activity.message);
                        self.write(&message).await
                    }
                    None => {
                        let _ = timeout(bounds.write, self.stream.shutdown()).await;
                        return Closed::ByUs;
                    }
                },
                Some(()) = self.pongs.recv() => self.write(PONG).await,
                () = tokio::time::sleep_until(wake_at), if self.activity.opened == Opened::ByUs => {
                    match pinged.take() {
                        Some((_, stamp)) => self.check_pong(stamp),
                        None => {
                            pinged = Some((Instant::now(), self.activity.now()));
                            ping_at = next_ping(bounds);
                            self.write(PING).await
                        }
                    }
                }
            };
            if let Err(why) = written {
                return why;
            }
        }
    }

    /// Whoever answered one ping is gone when another stays unanswered; others may not know
    /// them.
    fn check_pong(&self, pinged: u64) -> Result<(), Closed> {
        let answers = &self.activity.answers_pings;
        if self.activity.read.load(Ordering::Relaxed) >= pinged {
            answers.store(true, Ordering::Relaxed);
            return Ok(());
        }
        match answers.load(Ordering::Relaxed) {
            true => Err(Closed::TooSlow("answer to a keep-alive")),
            false => Ok(()),
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Closed> {
        let writing = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        match timeout(self.activity.bounds.write, writing).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Closed::Broken(error)),
            Err(_) => Err(Closed::TooSlow("taking of a message")),
        }
    }
}

fn next_ping(bounds: &Bounds) -> Instant {
    Instant::now() + rand::rng().random_range(bounds.keep_alive.clone())
}
