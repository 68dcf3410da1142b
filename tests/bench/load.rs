//! The machine during a measurement: a figure taken while others used the processors says little.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The kernel's clock ticks a second in /proc, on every Linux that we know.
const TICKS: f64 = 100.0;

/// Begins a measurement.
#[derive(Debug)]
pub(crate) struct Watch {
    since: Instant,
    all: f64,
    ours: f64,
    average: String,
}

/// How the processors were used.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    cpu: String,
    processors: usize,
    took: Duration,
    /// Share of all processors' time that our processes used, 0 to 1.
    ours: f64,
    /// Likewise for everybody else.
    others: f64,
    before: String,
    after: String,
    settings: BTreeMap<String, String>,
}

impl Watch {
    pub(crate) fn start() -> Self {
        Self {
            since: Instant::now(),
            all: busy_seconds(),
            ours: our_seconds(),
            average: load_average(),
        }
    }

    /// Ends the measurement. The servers must still be running: only then are they seen.
    pub(crate) fn stop(&self) -> Load {
        let took = self.since.elapsed();
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let available = took.as_secs_f64() * processors as f64;
        let ours = our_seconds() - self.ours;
        let others = busy_seconds() - self.all - ours;
        let settings = std::env::vars().filter(|(name, _)| name.starts_with("OFFHOOK__"));
        Load {
            cpu: cpu_name(),
            processors,
            took,
            ours: (ours / available).clamp(0.0, 1.0),
            others: (others / available).clamp(0.0, 1.0),
            before: self.average.clone(),
            after: load_average(),
            settings: settings
                .filter(|(name, _)| !name.ends_with("__models"))
                .collect(),
        }
    }
}

impl Load {
    /// One measurement that was interrupted between servers.
    pub(crate) fn then(mut self, later: &Self) -> Self {
        let (first, second) = (self.took.as_secs_f64(), later.took.as_secs_f64());
        let mean =
            |a: f64, b: f64| (a * first + b * second) / (first + second).max(f64::MIN_POSITIVE);
        self.ours = mean(self.ours, later.ours);
        self.others = mean(self.others, later.others);
        self.took += later.took;
        self.after.clone_from(&later.after);
        self
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "cpu": self.cpu,
            "processors": self.processors,
            "seconds": self.took.as_secs(),
            "cpuShareOfThisBench": self.ours,
            "cpuShareOfOthers": self.others,
            "loadAverageBefore": self.before,
            "loadAverageAfter": self.after,
            "settings": self.settings,
        })
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} s on {} x {}; CPU {:.0} % ours, {:.0} % others; load average {} -> {}",
            self.took.as_secs(),
            self.processors,
            self.cpu,
            100.0 * self.ours,
            100.0 * self.others,
            self.before,
            self.after
        )?;
        for (name, value) in &self.settings {
            write!(f, "; {name}={value}")?;
        }
        Ok(())
    }
}

fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

fn cpu_name() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or_else(
        || std::env::consts::ARCH.to_owned(),
        |(_, name)| name.trim().to_owned(),
    )
}

/// Time that the processors were busy since the machine started.
fn busy_seconds() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let total = text.lines().next().unwrap_or_default();
    // user nice system idle iowait irq softirq steal
    let ticks: Vec<f64> = total
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    let busy = ticks
        .iter()
        .enumerate()
        .filter(|(field, _)| matches!(field, 0..=2 | 5..=7));
    busy.map(|(_, ticks)| ticks).sum::<f64>() / TICKS
}

/// Time that one process has used.
pub(crate) fn process_seconds(pid: u32) -> f64 {
    process(&pid.to_string()).map_or(0.0, |process| process.seconds)
}

struct Process {
    pid: u32,
    parent: u32,
    /// Its own time and that of its children that it has waited for.
    seconds: f64,
}

/// Time used by this process and everything that it started.
fn our_seconds() -> f64 {
    let all: Vec<Process> = fs::read_dir("/proc")
        .map(|entries| {
            entries
                .flatten()
                .filter_map(|entry| process(entry.file_name().to_str()?))
                .collect()
        })
        .unwrap_or_default();
    let mut family = vec![std::process::id()];
    let mut seconds = 0.0;
    while let Some(pid) = family.pop() {
        seconds += all
            .iter()
            .filter(|process| process.pid == pid)
            .map(|process| process.seconds)
            .sum::<f64>();
        family.extend(
            all.iter()
                .filter(|process| process.parent == pid)
                .map(|process| process.pid),
        );
    }
    seconds
}

fn process(pid: &str) -> Option<Process> {
    let pid = pid.parse().ok()?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; the third field comes after it.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
    let ticks = number(14)? + number(15)? + number(16)? + number(17)?;
    Some(Process {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        seconds: ticks / TICKS,
    })
}
