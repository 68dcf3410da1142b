//! Several callers at once, one after another into the call: how the answers slow down, and whether
//! any packet comes late.

use std::thread;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use toml::Value as Setting;

use super::{Bench, Findings, Variant, material, set};
use crate::Result;
use crate::caller::{Caller, Said};
use crate::report::Table;
use crate::server::{Server, Setup};
use crate::statistics::{Sample, whole};

/// Between the first words of two callers, in ms.
const STAGGER_MS: u64 = 1700;
const PATIENCE_MS: u64 = 20_000;
const QUIET_MS: u64 = 1000;
/// The record and the caller's clock agree as closely as this.
const AGREEMENT_MS: i64 = 60;
/// A packet so much off the 20 ms is late.
const LATE_MS: f64 = 5.0;

/// What one caller met.
#[derive(Debug, Default)]
struct Met {
    voice_to_voice: Vec<i64>,
    unanswered: usize,
    held: usize,
    jitter_ms: Vec<f64>,
    missing: u64,
}

pub(super) fn run(bench: &mut Bench<'_>) -> Result<Findings> {
    let most: usize = bench.options.number("callers", 6)?;
    let turns: usize = bench.options.number("turns-per-caller", 6)?;
    let mut sounds = Vec::new();
    for line in bench.lines()? {
        sounds.push(material::read(line.recording()?)?);
    }
    let mut assistant = bench.demo()?;
    for (path, value) in [
        (
            "firstMessageMode",
            Setting::from("assistant-waits-for-user"),
        ),
        ("endCallPhrases", Setting::Array(Vec::new())),
        ("silenceTimeoutSeconds", 600.into()),
    ] {
        set(&mut assistant, path, value);
    }
    let variant = Variant::new("callers", &assistant, &[]);
    let server = Setup::new(bench.options)?
        .assistant(&variant.user, variant.settings)
        .set("limits__max_calls", &(most + 2))
        .set("limits__calibrate", &false)
        .start()?;
    let mut findings = Findings::default();
    let mut table = Table::new(
        "callers at once: voice to voice in ms, packets of the assistant",
        &[
            "CALLERS",
            "TURNS",
            "P50",
            "P95",
            "MAX",
            "HELD",
            "UNANSWERED",
            "PACKETS",
            "LATE",
            "P99 OFF MS",
            "LATE TICKS",
            "LOST",
        ],
    );
    for callers in 1..=most {
        eprintln!("callers: {callers} at once");
        let before = Counted::read(&server)?;
        let (met, failed) = together(
            &server,
            &variant.user,
            callers,
            turns,
            &sounds,
            bench.seed()?,
        );
        let after = Counted::read(&server)?;
        findings.notes(failed);
        let (row, detail) = summary(callers, &met, &before, &after);
        table.row(row);
        findings.detail(&format!("callers, {callers}"), detail);
    }
    findings.table(table);
    findings.note(
        "Late: a packet more than 5 ms off 20 ms after the one before, as a caller who shares these \
         processors saw it; late ticks: the same by the server's own pacer. Lost: on the way, or not sent.",
    );
    Ok(findings)
}

struct Counted {
    late_ticks: f64,
    lost: f64,
}

impl Counted {
    fn read(server: &Server) -> Result<Self> {
        Ok(Self {
            late_ticks: server.counted("media_late_ticks")?,
            lost: server.counted("media_lost_ticks")? + server.counted("media_unsent_packets")?,
        })
    }
}

fn summary(
    callers: usize,
    met: &[Met],
    before: &Counted,
    after: &Counted,
) -> (Vec<String>, serde_json::Value) {
    let voice = Sample::of_ms(
        met.iter()
            .flat_map(|met| met.voice_to_voice.iter().copied()),
    );
    let jitter = Sample::new(met.iter().flat_map(|met| met.jitter_ms.iter().copied()));
    let late = jitter.values().filter(|off| *off > LATE_MS).count();
    let unanswered: usize = met.iter().map(|met| met.unanswered).sum();
    let held: usize = met.iter().map(|met| met.held).sum();
    let missing: u64 = met.iter().map(|met| met.missing).sum();
    let late_ticks = after.late_ticks - before.late_ticks;
    let lost = after.lost - before.lost + missing as f64;
    let p99 = jitter.percentile(0.99);
    let row = vec![
        callers.to_string(),
        voice.count().to_string(),
        whole(voice.percentile(0.5)),
        whole(voice.percentile(0.95)),
        whole(voice.max()),
        held.to_string(),
        unanswered.to_string(),
        jitter.count().to_string(),
        late.to_string(),
        p99.map_or_else(|| "-".to_owned(), |off| format!("{off:.1}")),
        format!("{late_ticks:.0}"),
        format!("{lost:.0}"),
    ];
    let detail = json!({
        "voiceToVoiceMs": voice.to_json(), "each": voice.values().collect::<Vec<_>>(), "held": held,
        "unanswered": unanswered, "offMs": jitter.to_json(), "late": late, "lateTicks": late_ticks,
        "lost": lost,
    });
    (row, detail)
}

/// So many callers, each in a thread of its own.
fn together(
    server: &Server,
    user: &str,
    callers: usize,
    turns: usize,
    sounds: &[Vec<i16>],
    seed: u64,
) -> (Vec<Met>, Vec<String>) {
    let (mut met, mut failed) = (Vec::new(), Vec::new());
    thread::scope(|scope| {
        let threads: Vec<_> = (0..callers)
            .map(|number| {
                scope.spawn(move || {
                    one(server, user, number, turns, sounds, seed)
                        .map_err(|error| error.to_string())
                })
            })
            .collect();
        for thread in threads {
            match thread.join() {
                Ok(Ok(one)) => met.push(one),
                Ok(Err(error)) => failed.push(format!("{callers} callers: a call failed: {error}")),
                Err(_) => failed.push(format!("{callers} callers: one of them panicked")),
            }
        }
    });
    (met, failed)
}

fn one(
    server: &Server,
    user: &str,
    number: usize,
    turns: usize,
    sounds: &[Vec<i16>],
    seed: u64,
) -> Result<Met> {
    let mut random = StdRng::seed_from_u64(seed + number as u64);
    let mut caller = Caller::dial(server, user)?;
    caller.listen(500 + number as u64 * STAGGER_MS)?;
    let mut said: Vec<(Said, Option<i64>)> = Vec::new();
    for turn in 0..turns {
        let sound = &sounds[(turn + number) % sounds.len()];
        let spoken = caller.say(sound)?;
        let reply = caller.wait_for_sound(spoken.ended_ms, PATIENCE_MS)?;
        caller.wait_for_quiet(QUIET_MS, PATIENCE_MS)?;
        caller.listen(random.random_range(0..1000))?;
        said.push((spoken, reply));
    }
    let id = caller.sip_call_id();
    let hearing = caller.hang_up()?;
    let kept = server.kept_of(&id)?;
    let mut met = Met {
        jitter_ms: hearing.jitter_ms().collect(),
        missing: hearing.missing(),
        ..Met::default()
    };
    for (said, reply) in said {
        let turn = kept.turn_ended_at(said.ended_ms);
        let held = turn.and_then(|turn| turn.holding_packet_ms);
        let holding = held
            .zip(reply)
            .is_some_and(|(held, heard)| (held - heard).abs() <= AGREEMENT_MS);
        met.held += usize::from(holding);
        let reply = match holding {
            true => turn.and_then(|turn| turn.first_packet_ms),
            false => reply,
        };
        match reply {
            Some(at) => met.voice_to_voice.push(at - said.ended_ms),
            None => met.unanswered += 1,
        }
    }
    Ok(met)
}
