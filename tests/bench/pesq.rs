//! How loss and jitter sound: PESQ (ITU-T P.862, 8 kHz) of what a session plays, against the same
//! packets with silence in the gaps, and with spandsp's concealment.
//!
//! ```text
//! recordings ─▶ 8 s of speech ─▶ G.711 packets ─▶ trace (what is lost, when the rest arrives)
//!                    │                              ├─▶ session (jitter buffer, concealment)
//!                    │                              ├─▶ fixed delay, silence for what is missing
//!                    │                              └─▶ fixed delay, spandsp's plc_fillin (helper)
//!                    └──────────────▶ reference ──▶ helper (Python: pesq, libspandsp) ─▶ scores
//! ```
//!
//! The others get the packets by a buffer of fixed delay that is long enough for every packet, so
//! that only loss is missing to them; how long that is stands beside their scores.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use offhook::audio::codec::through;
use offhook::audio::level::rms_dbfs;
use offhook::audio::{
    AnyFrame, Codec, FRAME_SAMPLES, PayloadKind, SampleRate, gain, resample, wav,
};
use offhook::rtp::{Session, SessionConfig, StreamConfig};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::Result;
use crate::load::Watch;
use crate::options::Options;
use crate::report::{Report, Table};
use crate::speech;

/// What PESQ is defined for, and long enough for every loss to be heard.
const SECONDS: usize = 8;
/// The level of telephone speech that P.862 expects.
const LEVEL_DBFS: f32 = -26.0;
/// The path itself.
const UNDER_WAY: Duration = Duration::from_millis(20);
/// The grid of playout is not the sender's.
const GRID: Duration = Duration::from_millis(9);
/// Length of a packet, which leaves when it is full.
const PACKET: Duration = Duration::from_millis(20);

/// What the network does.
#[derive(Clone, Copy, Debug)]
struct Condition {
    name: &'static str,
    loss: f64,
    /// Packets that are lost in a row.
    burst: u32,
    /// At most this much later than the path takes, evenly distributed.
    jitter_ms: f64,
}

const CONDITIONS: [Condition; 9] = {
    const fn row(name: &'static str, loss: f64, burst: u32, jitter_ms: f64) -> Condition {
        Condition {
            name,
            loss,
            burst,
            jitter_ms,
        }
    }
    [
        row("clean", 0.0, 1, 0.0),
        row("1 %", 0.01, 1, 0.0),
        row("3 %", 0.03, 1, 0.0),
        row("5 %", 0.05, 1, 0.0),
        row("3 % in bursts of 3", 0.03, 3, 0.0),
        row("5 % in bursts of 3", 0.05, 3, 0.0),
        row("30 ms jitter", 0.0, 1, 30.0),
        row("3 %, 30 ms jitter", 0.03, 1, 30.0),
        row("5 % in bursts of 3, 30 ms jitter", 0.05, 3, 30.0),
    ]
};

/// When each packet arrives; `None` where it is lost.
type Trace = Vec<Option<Duration>>;

pub(crate) fn run(options: &Options) -> Result<Report> {
    let seeds: u64 = options.number("seeds", 20)?;
    let python = std::env::var_os("OFFHOOK_PESQ_PYTHON").unwrap_or_else(|| "python3".into());
    let folder = std::env::temp_dir().join(format!("offhook-pesq-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let watch = Watch::start();
    let outcome = measure(options, seeds, &python, &folder);
    fs::remove_dir_all(&folder)?;
    let (table, details) = outcome?;
    let mut report = Report::new("pesq", watch.stop());
    report.table(table);
    report.note(format!(
        "Means of {seeds} seeds a row, {SECONDS} s of recorded speech each. Delay is from a \
         packet's full length and the least time under way to the ear."
    ));
    report.detail("rows", json!(details));
    Ok(report)
}

fn measure(
    options: &Options,
    seeds: u64,
    python: &std::ffi::OsStr,
    folder: &Path,
) -> Result<(Table, Vec<Value>)> {
    let pieces = pieces(options, seeds)?;
    let mut jobs = Vec::new();
    let mut delays = Vec::new();
    for (row, condition) in CONDITIONS.iter().enumerate() {
        for (seed, piece) in pieces.iter().enumerate() {
            let (job, delay) = job(folder, row, seed, *condition, piece)?;
            jobs.push(job);
            delays.push(delay);
        }
    }
    let list = folder.join("jobs.json");
    fs::write(&list, serde_json::to_vec(&jobs)?)?;
    let scores = scores(python, &list)?;
    let mut table = Table::new(
        "PESQ (8 kHz), and delay in ms beside it",
        &[
            "NETWORK",
            "OURS",
            "MS",
            "SILENCE",
            "SPANDSP",
            "MS",
            "OURS - BEST",
            "LEAST OURS",
        ],
    );
    let mut details = Vec::new();
    for (row, condition) in CONDITIONS.iter().enumerate() {
        let of_row = row * pieces.len()..(row + 1) * pieces.len();
        let mean = |key: &str| {
            mean(
                scores[of_row.clone()]
                    .iter()
                    .map(|score| number(score, key)),
            )
        };
        let (ours, silence, spandsp) = (mean("ours"), mean("silence"), mean("spandsp"));
        let least = scores[of_row.clone()]
            .iter()
            .map(|score| number(score, "ours"))
            .fold(f64::MAX, f64::min);
        let delay = self::mean(delays[of_row].iter().map(|delay| delay.as_secs_f64() * 1e3));
        let fixed = condition.jitter_ms;
        table.row(vec![
            condition.name.to_owned(),
            format!("{ours:.2}"),
            format!("{delay:.0}"),
            format!("{silence:.2}"),
            format!("{spandsp:.2}"),
            format!("{fixed:.0}"),
            format!("{:+.2}", ours - silence.max(spandsp)),
            format!("{least:.2}"),
        ]);
        details.push(json!({
            "network": condition.name, "ours": ours, "silence": silence, "spandsp": spandsp,
            "delayMs": delay, "fixedDelayMs": fixed, "least": least,
        }));
    }
    Ok((table, details))
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.collect();
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn number(score: &Value, key: &str) -> f64 {
    score[key].as_f64().unwrap_or(f64::NAN)
}

/// Stretches of speech at 8 kHz, a different one for each seed as far as there are.
fn pieces(options: &Options, seeds: u64) -> Result<Vec<Vec<i16>>> {
    let mut speech = Vec::new();
    for line in speech::lines(options)? {
        let clip = wav::read(fs::File::open(line.recording()?)?)?;
        speech.extend(resample::whole(
            &clip.samples,
            clip.rate,
            SampleRate::TELEPHONE,
        ));
        speech.extend([0; 4_000]);
    }
    let length = SECONDS * 8_000;
    let step = (speech.len() / usize::try_from(seeds)?.max(1)).max(FRAME_SAMPLES);
    let piece = |seed: u64| {
        let start = usize::try_from(seed).unwrap_or(0) * step;
        let mut piece: Vec<i16> = speech
            .iter()
            .cycle()
            .skip(start)
            .take(length)
            .copied()
            .collect();
        let change = LEVEL_DBFS - rms_dbfs(&piece);
        gain::apply_db(&mut piece, change);
        piece
    };
    Ok((0..seeds).map(piece).collect())
}

fn trace(packets: usize, condition: Condition, seed: u64) -> Trace {
    let mut rng = StdRng::seed_from_u64(seed * 1_000 + 7);
    let mut losing = 0;
    (0..packets)
        .map(|n| {
            let at = PACKET * n as u32;
            let begins =
                losing == 0 && rng.random_bool(condition.loss / f64::from(condition.burst));
            if begins {
                losing = condition.burst;
            }
            let jitter = rng.random_range(0.0..=condition.jitter_ms.max(1e-9)) / 1_000.0;
            let lost = losing > 0;
            losing = losing.saturating_sub(1);
            (!lost).then(|| at + UNDER_WAY + Duration::from_secs_f64(jitter))
        })
        .collect()
}

/// Plays a piece through the network and writes what the helper scores; the job, and our delay.
fn job(
    folder: &Path,
    row: usize,
    seed: usize,
    condition: Condition,
    piece: &[i16],
) -> Result<(Value, Duration)> {
    let trace = trace(
        piece.len() / FRAME_SAMPLES,
        condition,
        (row * 100 + seed) as u64,
    );
    let (ours, delay) = played(piece, &trace)?;
    let received = through(Codec::Pcmu, piece);
    let lost: Vec<bool> = trace.iter().map(Option::is_none).collect();
    let save = |name: &str, samples: &[i16]| -> Result<PathBuf> {
        let path = folder.join(format!("{row}-{seed}-{name}.raw"));
        let bytes: Vec<u8> = samples.iter().flat_map(|s| s.to_le_bytes()).collect();
        fs::write(&path, bytes)?;
        Ok(path)
    };
    let job = json!({
        "reference": save("reference", piece)?,
        "ours": save("ours", &ours)?,
        "received": save("received", &received)?,
        "lost": lost,
    });
    Ok((job, delay))
}

/// What a session plays of a piece, and how long after the least possible time on average.
fn played(piece: &[i16], trace: &[Option<Duration>]) -> Result<(Vec<i16>, Duration)> {
    let stream = StreamConfig {
        codec: Codec::Pcmu,
        payload_type: 0,
        telephone_event: None,
        receive: vec![(0, PayloadKind::Audio(Codec::Pcmu))],
        ptime_ms: 20,
        voip_metrics: false,
        srtp: None,
    };
    let session = |ssrc| {
        Session::new(SessionConfig {
            ssrc,
            first_sequence: 1,
            first_timestamp: 1,
            stream: stream.clone(),
        })
    };
    let (mut sender, mut receiver) = (session(1), session(2));
    let mut under_way: Vec<(Duration, Vec<u8>)> = Vec::new();
    for (frame, arrival) in piece.chunks(FRAME_SAMPLES).zip(trace) {
        let frame = AnyFrame::padded(frame, SampleRate::TELEPHONE);
        sender.send(Some(&frame), |datagram| {
            under_way.extend(arrival.map(|arrival| (arrival, datagram.to_vec())));
        });
    }
    under_way.sort_by_key(|(arrival, _)| *arrival);
    let start = Instant::now();
    let mut arrivals = under_way.into_iter().peekable();
    let mut heard = Vec::new();
    let ticks = trace.len() as u32 + 25;
    for tick in (0..ticks).map(|tick| PACKET * tick + GRID) {
        while let Some((arrival, datagram)) = arrivals.next_if(|(arrival, _)| *arrival <= tick) {
            receiver.receive(start + arrival, &datagram)?;
        }
        let pulled = receiver.pull(start + tick);
        heard.extend_from_slice(pulled.frame.samples());
    }
    let delay = (lag(piece, &heard) + GRID).saturating_sub(UNDER_WAY);
    Ok((heard, delay))
}

/// By how much `heard` is behind what was said, over its second half, when playout has settled.
fn lag(said: &[i16], heard: &[i16]) -> Duration {
    let half = said.len() / 2;
    let said = &said[half..said.len() - 4_000];
    let alike = |lag: usize| -> f64 {
        let shifted = heard.iter().skip(half + lag);
        let products = said.iter().zip(shifted).step_by(2);
        products.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let best = (0..1_600).max_by(|a, b| alike(*a).total_cmp(&alike(*b)));
    SampleRate::TELEPHONE.duration_of(best.unwrap_or(0))
}

fn scores(python: &std::ffi::OsStr, list: &Path) -> Result<Vec<Value>> {
    let helper = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench/pesq/score.py");
    let output = Command::new(python).arg(helper).arg(list).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!(
            "the helper that scores failed (scripts/bench installs what it needs):\n{said}"
        )
        .into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
