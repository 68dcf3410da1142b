//! Telling a person how a long fetch is going.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What is being done with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Bytes come from the network.
    Downloading,
    /// Parts are unpacked and joined.
    Unpacking,
    /// Weights are rewritten in another container.
    Converting,
    /// The SHA-256 is computed.
    Hashing,
}

impl Activity {
    fn verb(self) -> &'static str {
        match self {
            Self::Downloading => "downloading",
            Self::Unpacking => "unpacking",
            Self::Converting => "converting",
            Self::Hashing => "checking",
        }
    }
}

/// One step of a fetch. Steps do not overlap: a `Started` ends the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Work on `item` begins; `total` in bytes where it is known.
    Started {
        /// A file's or package's name.
        item: &'a str,
        /// What is being done.
        activity: Activity,
        /// Bytes in all.
        total: Option<u64>,
    },
    /// So many bytes of the current step are done.
    Advanced(u64),
    /// The current step is over.
    Finished,
    /// Something worth a line: a source that failed, a file that is there already.
    Note(&'a str),
}

/// Receives the progress of [`super::Catalog::fetch`] and [`super::Catalog::verify`].
pub trait Reporter {
    /// Called from the fetching thread, often; returns quickly.
    fn report(&self, event: Event<'_>);
}

/// Reports nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Reporter for Silent {
    fn report(&self, _event: Event<'_>) {}
}

/// Reports on standard error: a bar on a terminal, else a line every few seconds.
#[derive(Debug, Default)]
pub struct Console {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    step: Option<Step>,
}

#[derive(Debug)]
struct Step {
    title: String,
    total: Option<u64>,
    bar: Option<ProgressBar>,
    started: Instant,
    last_line: Instant,
    done: u64,
}

const LINE_EVERY: Duration = Duration::from_secs(5);

impl Console {
    /// A reporter on this process's standard error.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Reporter for Console {
    fn report(&self, event: Event<'_>) {
        // A panic elsewhere while reporting leaves nothing half-changed that matters here.
        let mut state = self
            .state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        match event {
            Event::Started {
                item,
                activity,
                total,
            } => {
                end(state.step.take());
                state.step = Some(Step::begin(format!("{} {item}", activity.verb()), total));
            }
            Event::Advanced(done) => {
                if let Some(step) = &mut state.step {
                    step.advance(done);
                }
            }
            Event::Finished => end(state.step.take()),
            Event::Note(text) => match state.step.as_ref().and_then(|step| step.bar.as_ref()) {
                Some(bar) => bar.suspend(|| line(text)),
                None => line(text),
            },
        }
    }
}

impl Step {
    fn begin(title: String, total: Option<u64>) -> Self {
        let now = Instant::now();
        let bar = std::io::stderr().is_terminal().then(|| bar(&title, total));
        Self {
            title,
            total,
            bar,
            started: now,
            last_line: now,
            done: 0,
        }
    }

    fn advance(&mut self, done: u64) {
        self.done = done;
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        } else if self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            match self.total.filter(|total| *total > 0) {
                Some(total) => line(&format!(
                    "{}: {} of {} ({} %)",
                    self.title,
                    HumanBytes(done),
                    HumanBytes(total),
                    u128::from(done) * 100 / u128::from(total)
                )),
                None => line(&format!("{}: {}", self.title, HumanBytes(done))),
            }
        }
    }
}

fn bar(title: &str, total: Option<u64>) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
    let template = if total.is_some() {
        "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}"
    } else {
        "{msg} {spinner} {bytes} {bytes_per_sec}"
    };
    // Indicatif's own style if the template were ever refused.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(title.to_owned());
    bar
}

fn end(step: Option<Step>) {
    let Some(step) = step else { return };
    match &step.bar {
        Some(bar) => bar.finish_and_clear(),
        // Short steps stay silent; a long one that has shown lines says that it is over.
        None if step.started.elapsed() >= LINE_EVERY => {
            line(&format!("{}: {} done", step.title, HumanBytes(step.done)));
        }
        None => {}
    }
}

/// Standard error may be closed; progress is not worth failing for.
fn line(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
