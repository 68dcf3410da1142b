//! How evenly packets leave while the engines work: their distance from the 20 ms grid, by packet
//! capture, beside a thread that does nothing but wake every 20 ms.

use std::fs;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use toml::Table;

use crate::Result;
use crate::capture::{self, Capture};
use crate::load::Watch;
use crate::options::Options;
use crate::report::{self, Report};
use crate::server::{Manner, Server, Setup, Voice};
use crate::speech::{self, Line};
use crate::statistics::Sample;

/// The name under which this program starts itself as a timer.
pub(crate) const IDLE_TIMER: &str = "idle-timer";

/// Distance of packets.
const GRID_MS: f64 = 20.0;

/// RTP timestamp units in that.
const GRID_UNITS: f64 = 160.0;

/// Packets of a stream's first 200 ms, in which the two sides still find each other.
const IGNORED_UNITS: u32 = 1600;

/// The timer's longest run: an hour.
const MOST_TICKS: usize = 180_000;

/// What is allowed.
const CLOSE_MS: f64 = 5.0;

/// Talks so much that the model and the voice are never done.
const TALKER: &str = r#"
firstMessage = "Hello."
maxDurationSeconds = 3600
[model]
systemPrompt = "You are a storyteller. Whatever the caller says, tell a long story of at least ten sentences."
maxTokens = 250
"#;

/// When, in ms, and the place on the grid that it was meant for.
type Tick = (f64, f64);

pub(crate) fn run(options: &Options) -> Result<Report> {
    let calls: usize = options.number("calls", 4)?;
    let length = Duration::from_secs(options.number("seconds", 60)?);
    let lines = speech::lines(options)?;
    let mut manner = Manner::of(options, 20_000)?;
    // The caller soon speaks over the answer, so that all engines work all the time.
    manner.interrupt_after_ms = Some(4000);
    let setup = Setup::new(options)?.assistant("talker", TALKER.parse::<Table>()?);
    let server = setup.set("limits__max_calls", &(calls + 1)).start()?;
    let scheduling = Scheduling::of_media_thread(&server);
    let capture = Capture::start(&server.media)?;
    let timer = Timer::start(&scheduling)?;
    let watch = Watch::start();
    let made = talk(&server, calls, length, &lines, &manner)?;
    let load = watch.stop();
    let packets = capture.stop()?;
    let idle = timer.ticks()?;
    let streams: Vec<Vec<Tick>> = capture::streams(&packets)
        .iter()
        .map(|stream| on_grid(stream))
        .collect();
    let streams: Vec<Sample> = streams
        .iter()
        .filter(|ticks| ticks.len() > 50)
        .map(|ticks| deviations(ticks))
        .collect();

    let mut report = Report::new("pacing", load);
    let mut table = report::Table::new(
        "distance from the 20 ms grid, in ms",
        &["THREAD", "N", "P50", "P99", "P99.9", "MAX", "WITHIN 5 MS"],
    );
    let packets = Sample::new(streams.iter().flat_map(Sample::values));
    let timer = deviations(&idle);
    table.row(row("outgoing packets", &packets));
    table.row(row("idle timer thread", &timer));
    report.table(table);
    report.note(format!(
        "{} streams of {made} calls, {calls} at once; the media thread and the timer run as {}",
        streams.len(),
        scheduling.name()
    ));
    report.detail("packets", packets.to_json());
    report.detail("timer", timer.to_json());
    report.detail("streams", streams.iter().map(Sample::to_json).collect());
    report.detail("scheduling", json!(scheduling.name()));
    Ok(report)
}

/// Keeps `calls` calls going for `length`; says how many were made.
fn talk(
    server: &Server,
    calls: usize,
    length: Duration,
    lines: &[Line],
    manner: &Manner,
) -> Result<usize> {
    let until = Instant::now() + length;
    let made = AtomicUsize::new(0);
    let caller = |number: usize| {
        while Instant::now() < until {
            let lines: Vec<&Line> = lines.iter().cycle().skip(number).take(4).collect();
            // Across threads an error goes as text.
            let call = server
                .call("talker", &lines, Voice::Recorded, manner)
                .map_err(|error| error.to_string());
            let number = made.fetch_add(1, Ordering::Relaxed) + 1;
            eprintln!("  call {number}: {}", call?.ended);
        }
        Ok::<(), String>(())
    };
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..calls)
            .map(|number| scope.spawn(move || caller(number)))
            .collect();
        for caller in callers {
            caller.join().map_err(|_| "a caller's thread died")??;
        }
        Ok(made.load(Ordering::Relaxed))
    })
}

fn on_grid(stream: &[(f64, u32)]) -> Vec<Tick> {
    let settled = stream
        .iter()
        .filter(|(_, timestamp)| *timestamp >= IGNORED_UNITS);
    settled
        .map(|(at, timestamp)| (*at, f64::from(*timestamp) / GRID_UNITS * GRID_MS))
        .collect()
}

/// How far each tick is from its place, where the middle one is in its place.
fn deviations(ticks: &[Tick]) -> Sample {
    let late = Sample::new(ticks.iter().map(|(at, place)| at - place));
    let middle = late.percentile(0.5).unwrap_or(0.0);
    Sample::new(late.values().map(|late| (late - middle).abs()))
}

fn row(name: &str, sample: &Sample) -> Vec<String> {
    let figure =
        |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
    vec![
        name.to_owned(),
        sample.count().to_string(),
        figure(sample.percentile(0.5)),
        figure(sample.percentile(0.99)),
        figure(sample.percentile(0.999)),
        figure(sample.max()),
        format!("{:.3} %", 100.0 * sample.share(|value| value <= CLOSE_MS)),
    ]
}

/// How the kernel schedules a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Scheduling {
    /// SCHED_FIFO of a priority.
    RealTime(u32),
    Ordinary,
}

impl Scheduling {
    /// That of the thread that sends packets.
    fn of_media_thread(server: &Server) -> Self {
        let tasks = fs::read_dir(format!("/proc/{}/task", server.pid()))
            .into_iter()
            .flatten()
            .flatten();
        let media = tasks.map(|task| task.path()).find(|task| {
            fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim_end() == "media")
        });
        let stat = media
            .and_then(|task| fs::read_to_string(task.join("stat")).ok())
            .unwrap_or_default();
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .map_or("", |(_, fields)| fields)
            .split_whitespace()
            .collect();
        // Fields 40 and 41 of proc_pid_stat(5): the real-time priority and the policy; 1 is FIFO.
        match (
            fields.get(37).and_then(|priority| priority.parse().ok()),
            fields.get(38),
        ) {
            (Some(priority), Some(&"1")) => Self::RealTime(priority),
            _ => Self::Ordinary,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::RealTime(priority) => format!("SCHED_FIFO {priority}"),
            Self::Ordinary => "ordinary threads".to_owned(),
        }
    }

    /// This program again, scheduled so.
    fn command(&self) -> Result<Command> {
        let own = std::env::current_exe()?;
        Ok(match self {
            Self::RealTime(priority) => {
                let mut command = Command::new("chrt");
                command.args(["-f", &priority.to_string()]).arg(own);
                command
            }
            Self::Ordinary => Command::new(own),
        })
    }
}

/// The timer to compare with, in a process of its own; it ends with its standard input.
#[derive(Debug)]
struct Timer(Child);

impl Timer {
    fn start(scheduling: &Scheduling) -> Result<Self> {
        let mut command = scheduling.command()?;
        command
            .arg(IDLE_TIMER)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        Ok(Self(
            command
                .spawn()
                .map_err(|error| format!("{command:?}: {error}"))?,
        ))
    }

    fn ticks(self) -> Result<Vec<Tick>> {
        // This closes its standard input first.
        let output = self.0.wait_with_output()?;
        let text = String::from_utf8(output.stdout)?;
        let ticks = text
            .lines()
            .zip(1u32..)
            .map(|(line, number)| Ok((line.parse()?, GRID_MS * f64::from(number))));
        ticks.collect()
    }
}

/// Wakes every 20 ms until standard input ends, and then prints when it woke, in ms since it began.
pub(crate) fn idle_timer() -> Result<()> {
    let input = std::thread::spawn(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    let mut woken = Vec::with_capacity(MOST_TICKS);
    let began = Instant::now();
    let mut due = began;
    while !input.is_finished() && woken.len() < MOST_TICKS {
        due += Duration::from_millis(20);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        woken.push(began.elapsed());
    }
    let mut output = std::io::stdout().lock();
    for at in woken {
        writeln!(output, "{}", at.as_secs_f64() * 1e3)?;
    }
    Ok(())
}
