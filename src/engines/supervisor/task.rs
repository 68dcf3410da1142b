//! The task that keeps a worker alive; see the state diagram one level up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::process::{End, Process, ProcessEvent, Spawner};
use super::{Flight, Response, Shared, WorkerSpec, WorkerState};
use crate::engines::EngineError;
use crate::engines::ipc::{self, FromWorker, PROTOCOL_VERSION, Protocol, RequestId, ToWorker};

/// Deaths before hello in a row after which the worker counts as unable to start.
const START_ATTEMPTS: u32 = 5;
/// How often a worker that cannot start is tried again: its model may have been fetched.
const FAILED_RETRY: Duration = Duration::from_secs(15);
/// Pause before the second restart in a row; doubles from there. The first is immediate.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause between restarts.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A worker that lived this long after hello is healthy.
const STABLE: Duration = Duration::from_secs(10);
/// How often a silent worker is asked whether it is there.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// How long it may take to say so: long, since it runs only when nothing else wants to.
const PING_LIMIT: Duration = Duration::from_secs(20);
/// How long a worker may take to leave when the server stops.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// How far away the next look is when nothing is due.
const FAR: Duration = Duration::from_secs(3600);

/// A process and what is known about it.
struct Running<P: Protocol> {
    process: Process<P>,
    /// When it said hello.
    ready: Option<Instant>,
    start_deadline: Instant,
    /// When it was heard of last.
    heard: Instant,
    /// When the ping was sent that is not answered yet.
    pinged: Option<Instant>,
    /// It has answered a request to the end.
    proved: bool,
}

enum Phase<P: Protocol> {
    Pausing { until: Instant },
    Running(Running<P>),
}

/// Why a process is given up.
enum Death {
    Ended(End),
    StartFailed(EngineError),
    StartTimedOut,
    Hung(&'static str),
    Misbehaved(&'static str),
}

pub(super) struct Task<P: Protocol> {
    spec: WorkerSpec,
    shared: Arc<Shared<P::Response>>,
    state: watch::Sender<WorkerState>,
    facts: watch::Sender<Option<P::Facts>>,
    phase: Phase<P>,
    /// Restarts since a worker proved healthy.
    attempt: u32,
    /// Of those, in a row without a hello.
    silent_deaths: u32,
}

impl<P: Protocol> Task<P> {
    pub(super) fn new(
        spec: WorkerSpec,
        shared: Arc<Shared<P::Response>>,
        state: watch::Sender<WorkerState>,
        facts: watch::Sender<Option<P::Facts>>,
    ) -> Self {
        let phase = Phase::Pausing {
            until: Instant::now(),
        };
        Self {
            spec,
            shared,
            state,
            facts,
            phase,
            attempt: 0,
            silent_deaths: 0,
        }
    }

    pub(super) async fn run(mut self) {
        let spawner = match Spawner::new() {
            Ok(spawner) => spawner,
            Err(error) => {
                self.fail(EngineError::ExecutableUnusable {
                    detail: error.to_string(),
                });
                return;
            }
        };
        while !self.shared.lock().stopping {
            self.look_at_clock(Instant::now(), &spawner);
            self.dispatch();
            let deadline = tokio::time::Instant::from_std(self.deadline());
            let event = tokio::select! {
                () = self.shared.wake.notified() => None,
                event = next_event(&mut self.phase) => Some(event),
                () = tokio::time::sleep_until(deadline) => None,
            };
            if let Some(event) = event {
                self.take_event(event);
            }
        }
        self.refuse_all(&EngineError::ShutDown);
        if let Phase::Running(running) = self.phase {
            running.process.stop(STOP_GRACE).await;
        }
        self.shared.lock().counters.pid = None;
        self.state.send_replace(WorkerState::Stopped);
    }

    fn deadline(&self) -> Instant {
        let now = Instant::now();
        let phase = match &self.phase {
            Phase::Pausing { until } => *until,
            Phase::Running(Running {
                ready: None,
                start_deadline,
                ..
            }) => *start_deadline,
            Phase::Running(Running {
                pinged: Some(sent), ..
            }) => *sent + PING_LIMIT,
            Phase::Running(Running { heard, .. }) => *heard + PING_INTERVAL,
        };
        let inner = self.shared.lock();
        let flights = inner.flights.values().map(|flight| flight.until).min();
        let next = [Some(phase), inner.scheduler.deadline(), flights]
            .into_iter()
            .flatten()
            .min();
        next.unwrap_or(now + FAR)
    }

    fn look_at_clock(&mut self, now: Instant, spawner: &Spawner) {
        let expired = {
            let mut inner = self.shared.lock();
            let expired = inner.scheduler.expire(now);
            inner.counters.failed += expired.len() as u64;
            expired
        };
        for waiting in expired {
            // Nothing was sent on this channel yet, so there is room.
            let _ = waiting
                .item
                .responses
                .try_send(Response::Failed(EngineError::TimedOut));
        }
        let death = match &mut self.phase {
            Phase::Pausing { until } if *until <= now => {
                self.launch(now, spawner);
                None
            }
            Phase::Pausing { .. } => None,
            Phase::Running(running) if running.ready.is_none() => {
                (running.start_deadline <= now).then_some(Death::StartTimedOut)
            }
            Phase::Running(running) => {
                let overdue = self
                    .shared
                    .lock()
                    .flights
                    .values()
                    .any(|flight| flight.until <= now);
                match running.pinged {
                    _ if overdue => Some(Death::Hung("no progress with a request")),
                    Some(sent) if sent + PING_LIMIT <= now => {
                        Some(Death::Hung("no answer to ping"))
                    }
                    None if running.heard + PING_INTERVAL <= now => {
                        running.pinged = Some(now);
                        let ping = ipc::encode(&ToWorker::<()>::Ping { nonce: 0 }, &[]);
                        let sent = ping.is_ok_and(|ping| running.process.send(ping));
                        (!sent).then_some(Death::Hung("its stdin is full"))
                    }
                    Some(_) | None => None,
                }
            }
        };
        if let Some(death) = death {
            self.bury(death, now);
        }
    }

    fn launch(&mut self, now: Instant, spawner: &Spawner) {
        self.shared.lock().counters.starts += 1;
        let process = Process::start(&self.spec, spawner);
        self.phase = Phase::Running(Running {
            process,
            ready: None,
            start_deadline: now + self.spec.start_timeout,
            heard: now,
            pinged: None,
            proved: false,
        });
    }

    /// Tells the worker what was cancelled and fills its free slots.
    fn dispatch(&mut self) {
        let Phase::Running(running) = &mut self.phase else {
            return;
        };
        if running.ready.is_none() {
            return;
        }
        let mut frames = Vec::new();
        {
            let mut inner = self.shared.lock();
            for id in std::mem::take(&mut inner.to_cancel) {
                if inner.flights.contains_key(&id) {
                    frames.extend(ipc::encode(&ToWorker::<()>::Cancel { id }, &[]));
                }
            }
            while inner.flights.len() < self.spec.parallel {
                let Some(waiting) = inner.scheduler.pop() else {
                    break;
                };
                let super::WaitingItem {
                    frame,
                    progress,
                    waited,
                    responses,
                } = waiting.item;
                let until = Instant::now() + progress;
                let flight = Flight {
                    responses: Some(responses),
                    progress,
                    waited,
                    until,
                };
                inner.flights.insert(waiting.id, flight);
                frames.push(frame);
            }
        }
        if !frames.into_iter().all(|frame| running.process.send(frame)) {
            self.bury(Death::Hung("its stdin is full"), Instant::now());
        }
    }

    fn take_event(&mut self, event: ProcessEvent<P>) {
        let now = Instant::now();
        let Phase::Running(running) = &mut self.phase else {
            return;
        };
        running.heard = now;
        running.pinged = None;
        match event {
            ProcessEvent::Spawned { pid } => self.shared.lock().counters.pid = pid,
            ProcessEvent::Ended(end) => self.bury(Death::Ended(end), now),
            ProcessEvent::Message { message, payload } => match message {
                FromWorker::Hello {
                    protocol,
                    engine,
                    model,
                    facts,
                } => {
                    self.take_hello(protocol, &engine, model, facts, now);
                }
                FromWorker::StartFailed { error } => self.bury(Death::StartFailed(error), now),
                _ if running.ready.is_none() => {
                    self.bury(Death::Misbehaved("it spoke before its hello"), now);
                }
                FromWorker::Part { id, body } => self.part(id, body, payload, now),
                FromWorker::Progress { id } => {
                    if let Some(flight) = self.shared.lock().flights.get_mut(&id) {
                        flight.until = now + flight.progress;
                    }
                }
                FromWorker::Done { id, body } => self.end(id, Response::Done { body, payload }),
                FromWorker::Failed { id, error } => self.end(id, Response::Failed(error)),
                FromWorker::Pong { .. } => {}
            },
        }
    }

    fn take_hello(
        &mut self,
        protocol: u32,
        engine: &str,
        model: String,
        facts: P::Facts,
        now: Instant,
    ) {
        let Phase::Running(running) = &mut self.phase else {
            return;
        };
        if protocol != PROTOCOL_VERSION || engine != P::ENGINE || running.ready.is_some() {
            tracing::error!(
                expected = P::ENGINE,
                engine,
                protocol,
                "not the worker it should be"
            );
            self.bury(Death::Misbehaved("its hello is not the expected one"), now);
            return;
        }
        running.ready = Some(now);
        self.silent_deaths = 0;
        self.shared.lock().refusal = None;
        tracing::info!(engine, %model, attempt = self.attempt, "worker ready");
        self.facts.send_replace(Some(facts));
        self.state.send_replace(WorkerState::Ready { model });
    }

    fn part(&self, id: RequestId, body: P::Response, payload: Vec<u8>, now: Instant) {
        let mut inner = self.shared.lock();
        // An unknown request was cancelled or failed meanwhile.
        let Some(flight) = inner.flights.get_mut(&id) else {
            return;
        };
        flight.until = now + flight.progress;
        let Some(responses) = &flight.responses else {
            return;
        };
        // The last place is kept for the end.
        if responses.capacity() > 1 {
            // A closed channel belongs to an answer that is being dropped, which cancels.
            let _ = responses.try_send(Response::Part { body, payload });
            return;
        }
        let _ = responses.try_send(Response::Failed(EngineError::Overloaded));
        flight.responses = None;
        inner.counters.overloaded += 1;
        inner.to_cancel.push(id);
        self.shared.wake.notify_one();
    }

    fn end(&mut self, id: RequestId, response: Response<P::Response>) {
        let Phase::Running(running) = &mut self.phase else {
            return;
        };
        running.proved = true;
        self.attempt = 0;
        let mut inner = self.shared.lock();
        let Some(flight) = inner.flights.remove(&id) else {
            return;
        };
        let Some(responses) = flight.responses else {
            return;
        };
        match &response {
            Response::Failed(_) => inner.counters.failed += 1,
            Response::Done { .. } | Response::Part { .. } => inner.counters.completed += 1,
        }
        // There is room: `part` keeps the last place free.
        let _ = responses.try_send(response);
    }

    /// Gives the process up: fails what it had, and decides when the next one starts.
    fn bury(&mut self, death: Death, now: Instant) {
        let pause = Phase::Pausing { until: now };
        let Phase::Running(running) = std::mem::replace(&mut self.phase, pause) else {
            return;
        };
        self.fail_flights(now);
        let was_ready = running.ready.is_some();
        let healthy = running.proved || running.ready.is_some_and(|ready| now - ready >= STABLE);
        let killed = matches!(
            death,
            Death::Hung(_)
                | Death::Misbehaved(_)
                | Death::StartTimedOut
                | Death::Ended(End::Garbage(_))
        );
        {
            let mut inner = self.shared.lock();
            inner.counters.pid = None;
            inner.counters.deaths += u64::from(was_ready);
            inner.counters.killed += u64::from(killed);
        }
        self.attempt = if healthy {
            1
        } else {
            self.attempt.saturating_add(1)
        };
        self.silent_deaths = if was_ready {
            0
        } else {
            self.silent_deaths.saturating_add(1)
        };
        let reason = death.log(P::ENGINE, self.attempt, &running);
        let reason = reason.or_else(|| {
            let engine = P::ENGINE.to_owned();
            (self.silent_deaths >= START_ATTEMPTS).then_some(EngineError::CrashLoop { engine })
        });
        match reason {
            Some(reason) => {
                self.phase = Phase::Pausing {
                    until: now + FAILED_RETRY,
                };
                self.fail(reason);
            }
            None => {
                self.phase = Phase::Pausing {
                    until: now + pause_before(self.attempt),
                };
                let attempt = self.attempt;
                self.state.send_modify(|state| match state {
                    // Once failed it stays so until it says hello.
                    WorkerState::Failed { .. } => {}
                    WorkerState::Restarting {
                        attempt: counted, ..
                    } => *counted = attempt,
                    _ => {
                        *state = WorkerState::Restarting {
                            attempt,
                            since: now,
                        }
                    }
                });
            }
        }
    }

    /// Fails what the worker had: what it was late with as late, the rest as lost.
    fn fail_flights(&self, now: Instant) {
        let mut inner = self.shared.lock();
        let flights = std::mem::take(&mut inner.flights);
        inner.to_cancel.clear();
        for flight in flights.into_values() {
            let Some(responses) = flight.responses else {
                continue;
            };
            inner.counters.failed += 1;
            let error = if flight.until <= now {
                EngineError::TimedOut
            } else {
                EngineError::WorkerDied {
                    engine: P::ENGINE.to_owned(),
                }
            };
            // There is room: `part` keeps the last place free.
            let _ = responses.try_send(Response::Failed(error));
        }
    }

    fn fail(&self, reason: EngineError) {
        self.refuse_all(&reason);
        self.state.send_replace(WorkerState::Failed { reason });
    }

    /// Fails what waits and is under way, and refuses what comes.
    fn refuse_all(&self, reason: &EngineError) {
        let mut inner = self.shared.lock();
        inner.refusal = Some(reason.clone());
        let waiting = inner
            .scheduler
            .clear()
            .into_iter()
            .map(|waiting| waiting.item.responses);
        let mut channels: Vec<_> = waiting.collect();
        let flights = std::mem::take(&mut inner.flights);
        channels.extend(flights.into_values().filter_map(|flight| flight.responses));
        inner.counters.failed += channels.len() as u64;
        for responses in channels {
            let _ = responses.try_send(Response::Failed(reason.clone()));
        }
    }
}

impl Death {
    /// Logs it, and returns why starting again at once would be of no use, where that is so.
    fn log<P: Protocol>(
        self,
        engine: &'static str,
        attempt: u32,
        running: &Running<P>,
    ) -> Option<EngineError> {
        // Before hello no caller's words have reached the worker, so its stderr may be shown.
        let tail = if running.ready.is_none() {
            running.process.tail()
        } else {
            String::new()
        };
        match self {
            Self::Ended(End::CannotSpawn(error)) => {
                tracing::error!(engine, %error, "the worker cannot be executed");
                return Some(EngineError::ExecutableUnusable {
                    detail: error.to_string(),
                });
            }
            Self::StartFailed(error) => {
                tracing::error!(engine, %error, "the worker cannot start");
                return Some(error);
            }
            Self::Ended(End::Closed) => tracing::warn!(engine, attempt, tail, "the worker died"),
            Self::Ended(End::Garbage(error)) => {
                tracing::error!(engine, attempt, %error, tail, "the worker sends garbage: killed");
            }
            Self::StartTimedOut => {
                tracing::error!(
                    engine,
                    attempt,
                    tail,
                    "the worker takes too long to start: killed"
                );
            }
            Self::Hung(why) | Self::Misbehaved(why) => {
                tracing::error!(engine, attempt, why, tail, "the worker misbehaves: killed");
            }
        }
        None
    }
}

fn pause_before(attempt: u32) -> Duration {
    match attempt {
        0 | 1 => Duration::ZERO,
        _ => FIRST_PAUSE
            .saturating_mul(1 << (attempt - 2).min(10))
            .min(LONGEST_PAUSE),
    }
}

/// Pends forever while no process runs. Cancellation-safe.
async fn next_event<P: Protocol>(phase: &mut Phase<P>) -> ProcessEvent<P> {
    match phase {
        Phase::Running(running) => running.process.event().await,
        Phase::Pausing { .. } => std::future::pending().await,
    }
}
