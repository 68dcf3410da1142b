//! The media thread: an epoll loop with a timerfd on an absolute 20 ms grid.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, TryRecvError};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

use super::stream::Stream;
use super::{Command, MediaCounters, StreamId, TICK_MS};

const TIMER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

/// A tick that is later than this is counted.
const LATE: Duration = Duration::from_millis(5);

/// Ticks made up for after a stall; more are skipped, as nobody would want to hear them.
const CATCH_UP: u64 = 5;

/// SCHED_FIFO priority: above every ordinary thread, below the kernel's own.
const PRIORITY: u8 = 20;

/// Starts the thread; it ends when the sender is dropped and the waker called.
pub(super) fn start(counters: Arc<MediaCounters>) -> io::Result<(mpsc::Sender<Command>, Waker)> {
    let poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), WAKER)?;
    let grid = Grid::new()?;
    poll.registry().register(
        &mut SourceFd(&grid.timer.as_raw_fd()),
        TIMER,
        Interest::READABLE,
    )?;
    let (sender, commands) = mpsc::channel();
    let pacer = Pacer {
        poll,
        grid,
        commands,
        streams: HashMap::new(),
        joined: HashMap::new(),
        counters,
    };
    std::thread::Builder::new()
        .name("media".to_owned())
        .spawn(move || {
            ask_for_real_time();
            if let Err(error) = pacer.run() {
                tracing::error!(%error, "the media thread stopped");
            }
        })?;
    Ok((sender, waker))
}

/// Without the permission (CAP_SYS_NICE) the thread runs as any other; the workers' low priority
/// then has to do.
fn ask_for_real_time() {
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
    let priority = ThreadPriority::from_posix(thread_priority::ScheduleParams {
        sched_priority: i32::from(PRIORITY),
    });
    match set_thread_priority_and_policy(thread_native_id(), priority, policy) {
        Ok(()) => tracing::debug!("the media thread has SCHED_FIFO"),
        Err(error) => tracing::info!(
            ?error,
            "the media thread runs without SCHED_FIFO (needs CAP_SYS_NICE)"
        ),
    }
}

/// Absolute times of the ticks on CLOCK_MONOTONIC.
struct Grid {
    timer: OwnedFd,
    next: Duration,
}

impl Grid {
    fn new() -> io::Result<Self> {
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        let next = monotonic() + Duration::from_millis(TICK_MS);
        let spec = Itimerspec {
            it_interval: timespec(Duration::from_millis(TICK_MS)),
            it_value: timespec(next),
        };
        timerfd_settime(&timer, TimerfdTimerFlags::ABSTIME, &spec)?;
        Ok(Self { timer, next })
    }

    /// How many ticks are due, and how late the first of them is.
    fn due(&mut self) -> (u64, Duration) {
        let mut count = [0; 8];
        if rustix::io::read(&self.timer, &mut count).is_err() {
            return (0, Duration::ZERO);
        }
        let ticks = u64::from_ne_bytes(count);
        let lateness = monotonic().saturating_sub(self.next);
        self.next += Duration::from_millis(TICK_MS) * u32::try_from(ticks).unwrap_or(u32::MAX);
        (ticks, lateness)
    }
}

fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    // Since boot: never negative.
    Duration::new(
        u64::try_from(now.tv_sec).unwrap_or(0),
        u32::try_from(now.tv_nsec).unwrap_or(0),
    )
}

fn timespec(at: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(at.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(at.subsec_nanos()),
    }
}

/// One of a stream's two sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Port {
    Rtp,
    Rtcp,
}

impl Port {
    fn of(token: Token) -> Self {
        if token.0.is_multiple_of(2) {
            Self::Rtp
        } else {
            Self::Rtcp
        }
    }
}

/// Names for a stream's RTP and RTCP sockets.
fn tokens(StreamId(id): StreamId) -> [Token; 2] {
    [Token(id * 2), Token(id * 2 + 1)]
}

struct Pacer {
    poll: Poll,
    grid: Grid,
    commands: mpsc::Receiver<Command>,
    streams: HashMap<StreamId, Box<Stream>>,
    /// Whom each joined stream talks to.
    joined: HashMap<StreamId, StreamId>,
    counters: Arc<MediaCounters>,
}

impl Pacer {
    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        // Sockets that had more than a batch; epoll reports edges only.
        let mut unread: Vec<Token> = Vec::new();
        loop {
            let timeout = (!unread.is_empty()).then_some(Duration::ZERO);
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            // The grid first: reading can wait, sending cannot.
            if events.iter().any(|event| event.token() == TIMER) {
                self.tick();
            }
            if !self.obey() {
                return Ok(());
            }
            let ready = events.iter().map(mio::event::Event::token);
            let ready = ready.filter(|token| ![TIMER, WAKER].contains(token));
            let waiting: Vec<Token> = ready.chain(unread.drain(..)).collect();
            for token in waiting {
                if let Some(stream) = self.streams.get_mut(&StreamId(token.0 / 2))
                    && stream.read(Port::of(token), &self.counters)
                {
                    unread.push(token);
                }
            }
        }
    }

    fn tick(&mut self) {
        let (due, lateness) = self.grid.due();
        self.counters.ticks.fetch_add(due, Ordering::Relaxed);
        if lateness > LATE {
            self.counters.late_ticks.fetch_add(1, Ordering::Relaxed);
        }
        let us = u64::try_from(lateness.as_micros()).unwrap_or(u64::MAX);
        self.counters
            .worst_lateness_us
            .fetch_max(us, Ordering::Relaxed);
        for _ in 0..due.min(CATCH_UP) {
            let mut relayed = Vec::new();
            for (id, stream) in &mut self.streams {
                let heard = stream.tick(&self.counters);
                if let Some(other) = self.joined.get(id) {
                    relayed.push((*other, heard));
                }
            }
            for (other, heard) in relayed {
                self.with(other, |stream| stream.relay(heard));
            }
        }
    }

    /// Carries out what was asked for. False when nobody is left to ask.
    fn obey(&mut self) -> bool {
        loop {
            match self.commands.try_recv() {
                Ok(command) => self.carry_out(command),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Add(id, mut stream) => {
                let [rtp, rtcp] = tokens(id);
                let registry = self.poll.registry();
                let registered = registry
                    .register(&mut stream.socket, rtp, Interest::READABLE)
                    .and_then(|()| {
                        registry.register(&mut stream.reports.socket, rtcp, Interest::READABLE)
                    });
                match registered {
                    Ok(()) => {
                        self.streams.insert(id, stream);
                    }
                    // Dropping the stream closes its ticks, which the call sees.
                    Err(error) => tracing::error!(%error, "cannot watch a media socket"),
                }
            }
            Command::Remove(id) => {
                if let Some(other) = self.joined.remove(&id)
                    && self.joined.get(&other) == Some(&id)
                {
                    self.joined.remove(&other);
                }
                if let Some(mut stream) = self.streams.remove(&id) {
                    stream.say_goodbye();
                    let registry = self.poll.registry();
                    let _ = registry.deregister(&mut stream.socket);
                    let _ = registry.deregister(&mut stream.reports.socket);
                }
            }
            Command::Play(id, key, sound, from) => {
                self.with(id, |stream| stream.play(key, &sound, from));
            }
            Command::Duck(id, lower) => self.with(id, |stream| stream.duck(lower)),
            Command::Stop(id, fade_ms) => self.with(id, |stream| stream.stop(fade_ms)),
            Command::Redirect(id, destination) => {
                self.with(id, |stream| stream.redirect(*destination));
            }
            Command::Report(id, reply) => self.with(id, |stream| {
                // Whoever asked may have gone.
                let _ = reply.send(stream.report());
            }),
            Command::SendDigit(id, digit, duration) => {
                self.with(id, |stream| stream.send_digit(digit, duration));
            }
            Command::Join(one, other) => {
                self.joined.insert(one, other);
                self.joined.insert(other, one);
            }
            Command::Music(id, sound) => self.with(id, |stream| stream.music(sound.as_ref())),
            Command::SetSending(id, sending) => {
                self.with(id, |stream| stream.set_sending(sending));
            }
        }
    }

    fn with(&mut self, id: StreamId, action: impl FnOnce(&mut Stream)) {
        if let Some(stream) = self.streams.get_mut(&id) {
            action(stream);
        }
    }
}
