//! A call's timers, which stand still while the call is on hold. A caller who is passed on does not
//! get a longer call by it: that timer runs on.

use std::time::Instant;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// The short silence after which a transcript and a reply are tried.
    Speculate,
    /// The silence after which its sound is judged.
    Judge,
    /// The silence after which the caller's turn is over.
    Endpoint,
    /// A transcript that says whether an interruption is one.
    Floor,
    /// A reply that is late.
    Holding,
    /// An engine that shows no sign of life.
    Engine,
    /// No speech so soon after an interruption.
    Backoff,
    /// Silence before an idle message.
    Idle,
    /// Silence before the end of the call.
    Silence,
    /// The longest call.
    MaxDuration,
    /// A pause in keys.
    Keypad,
    /// A goodbye that does not come.
    Closing,
    /// The quiet after the last word.
    Tail,
}

impl Timer {
    const ALL: [Self; 13] = [
        Self::Speculate,
        Self::Judge,
        Self::Endpoint,
        Self::Floor,
        Self::Holding,
        Self::Engine,
        Self::Backoff,
        Self::Idle,
        Self::Silence,
        Self::MaxDuration,
        Self::Keypad,
        Self::Closing,
        Self::Tail,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Speculate => "speculate",
            Self::Judge => "judge the silence",
            Self::Endpoint => "endpoint",
            Self::Floor => "interruption",
            Self::Holding => "holding phrase",
            Self::Engine => "engine timeout",
            Self::Backoff => "backoff",
            Self::Idle => "idle message",
            Self::Silence => "silence timeout",
            Self::MaxDuration => "maximum duration",
            Self::Keypad => "keypad entry",
            Self::Closing => "goodbye",
            Self::Tail => "tail",
        }
    }
}

/// When each timer is due.
#[derive(Clone, Debug, Default)]
pub(super) struct Timers {
    due: [Option<Instant>; Timer::ALL.len()],
    paused_at: Option<Instant>,
    /// The longest call is counted all the same.
    counting: bool,
}

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, at: Instant) {
        self.due[timer as usize] = Some(at);
    }

    /// Sets it unless it runs.
    pub(super) fn start(&mut self, timer: Timer, at: Instant) {
        self.due[timer as usize].get_or_insert(at);
    }

    pub(super) fn clear(&mut self, timer: Timer) {
        self.due[timer as usize] = None;
    }

    pub(super) fn clear_all(&mut self) {
        self.due = Default::default();
    }

    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.due[timer as usize].is_some()
    }

    /// What does not stand still.
    fn running(&self) -> impl Iterator<Item = Timer> + use<> {
        let (paused, counting) = (self.paused(), self.counting);
        let all = Timer::ALL.into_iter();
        all.filter(move |timer| !paused || (counting && *timer == Timer::MaxDuration))
    }

    /// The next one and its name.
    pub(super) fn next(&self) -> Option<(Instant, &'static str)> {
        let running = self
            .running()
            .filter_map(|timer| Some((self.due[timer as usize]?, timer.name())));
        running.min_by_key(|(at, _)| *at)
    }

    /// Takes the earliest one that is due at `now`.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<(Timer, Instant)> {
        let due = self
            .running()
            .filter_map(|timer| Some((self.due[timer as usize].filter(|at| *at <= now)?, timer)));
        let (at, timer) = due.min_by_key(|(at, _)| *at)?;
        self.clear(timer);
        Some((timer, at))
    }

    /// Every timer stands still from `now` on.
    pub(super) fn pause(&mut self, now: Instant) {
        self.paused_at.get_or_insert(now);
    }

    /// Every timer goes on.
    pub(super) fn resume(&mut self, now: Instant) {
        let Some(since) = self.paused_at.take() else {
            return;
        };
        let held = now.saturating_duration_since(since);
        for timer in Timer::ALL {
            if !(self.counting && timer == Timer::MaxDuration)
                && let Some(at) = &mut self.due[timer as usize]
            {
                *at += held;
            }
        }
        self.counting = false;
    }

    /// On hold the longest call is counted from now on.
    pub(super) fn count_on(&mut self) {
        self.counting = true;
    }

    pub(super) fn paused(&self) -> bool {
        self.paused_at.is_some()
    }
}
