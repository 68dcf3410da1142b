//! The caller speaks over the assistant and means it: how soon it falls silent, or speaks 15 dB
//! lower, and how soon it is known that the caller has the turn.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::talker::talker;
use super::{Bench, Findings, Variant, material};
use crate::Result;
use crate::caller::{Caller, Said};
use crate::hearing::Hearing;
use crate::report::Table;
use crate::server::{Kept, Server};
use crate::speech::Kind;
use crate::statistics::{Sample, percent, whole};
use crate::watching::Watching;

/// What callers interrupt with, beside the recordings.
const LINES: [&str; 6] = [
    "Sorry, can I stop you there?",
    "Wait, I have a question about the parking.",
    "Actually, can you tell me when breakfast is?",
    "Excuse me, how much is a double room?",
    "Hold on, is the pool open on Sundays?",
    "No, that is not what I want to know.",
];
/// A recording that is longer takes too long, in samples.
const LONGEST_LINE: usize = 4 * 8000;
/// So much lower counts as ducked.
const DUCKED_DB: f32 = 15.0;
/// It is silent when it is so for this long, in ms.
const SILENT_MS: f64 = 500.0;
/// Silence sooner than this is no answer to the caller, in ms: the speech that is detected has not
/// even arrived.
const FASTEST_MS: i64 = 60;
/// The level of the assistant is that of so long before.
const BEFORE_MS: i64 = 1500;
/// The server's word about an interruption comes within this.
const TOLD_MS: u64 = 700;
const PATIENCE_MS: u64 = 15_000;

/// One interruption.
#[derive(Clone, Debug)]
pub(super) struct Interruption {
    /// The greeting, or a reply.
    of: &'static str,
    line: String,
    /// From the caller's first audible packet.
    silent_ms: Option<i64>,
    yielded_ms: Option<i64>,
    /// What was heard of what the assistant said, until it fell silent.
    pub(super) heard: Vec<i16>,
    /// What the history has of it; `None` where it has nothing that was interrupted.
    pub(super) remembered: Option<String>,
}

/// All of a run.
#[derive(Clone, Debug, Default)]
pub(super) struct Interruptions {
    pub(super) all: Vec<Interruption>,
    failed: Vec<String>,
}

struct Line {
    name: String,
    sound: Vec<i16>,
}

pub(super) fn run(bench: &mut Bench<'_>) -> Result<Findings> {
    let interruptions = measure(bench)?;
    let findings = report(&interruptions);
    bench.interruptions = Some(interruptions);
    Ok(findings)
}

/// Makes the calls.
pub(super) fn measure(bench: &mut Bench<'_>) -> Result<Interruptions> {
    let count: usize = bench.options.number("interruptions", 60)?;
    let lines = lines(bench)?;
    let mut random = StdRng::seed_from_u64(bench.seed()?);
    let variant = Variant::new("talker", &talker(&bench.demo()?), &[]);
    let server = bench.server(std::iter::once(&variant))?;
    let key = server.api_key(None)?;
    let mut done = Interruptions::default();
    while done.all.len() < count && done.failed.len() < 5 {
        match call(&server, &key, &variant.user, &lines, &mut random) {
            Ok(more) => done.all.extend(more),
            Err(error) => done
                .failed
                .push(format!("interruption: a call failed: {error}")),
        }
        let yielded = done.all.iter().filter(|one| one.yielded_ms.is_some());
        eprintln!(
            "interruption: {} of {count}, yielded in {}",
            done.all.len(),
            yielded.count()
        );
    }
    Ok(done)
}

fn lines(bench: &mut Bench<'_>) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for line in bench.lines()? {
        let sound = material::read(line.recording()?)?;
        if line.kind == Kind::Sentence && sound.len() <= LONGEST_LINE {
            lines.push(Line {
                name: line.name,
                sound,
            });
        }
    }
    let voices = bench.voices()?;
    let speakers = voices.speakers().to_vec();
    for (text, speaker) in LINES.iter().zip(speakers.iter().cycle()) {
        lines.push(Line {
            name: (*text).to_owned(),
            sound: voices.say(speaker, text)?,
        });
    }
    voices.rest();
    Ok(lines)
}

/// One call: into the greeting, and into the reply to that where it is long enough.
fn call(
    server: &Server,
    key: &str,
    user: &str,
    lines: &[Line],
    random: &mut StdRng,
) -> Result<Vec<Interruption>> {
    let mut caller = Caller::dial(server, user)?;
    let watching = Watching::newest(server, key)?;
    let id = caller.sip_call_id();
    let mut spoken = Vec::new();
    let mut speech = caller.wait_for_sound(0, PATIENCE_MS)?;
    for of in ["greeting", "reply"] {
        let Some(began) = speech else { break };
        let after = match of {
            "greeting" => random.random_range(1500..4500),
            _ => random.random_range(600..1200),
        };
        caller.listen(after)?;
        let sounding = caller
            .hearing
            .level_between(caller.now_ms() - 250, caller.now_ms());
        if sounding.is_none() {
            break;
        }
        let line = lines.choose(random).ok_or("there is nothing to say")?;
        let said = caller.say(&line.sound)?;
        spoken.push((of, line.name.clone(), began, said));
        speech = caller.wait_for_sound(said.ended_ms + 100, PATIENCE_MS)?;
    }
    caller.listen(TOLD_MS)?;
    let told: Vec<i64> = watching
        .all("user-interrupted")
        .into_iter()
        .map(|at| caller.ms_of(at))
        .collect();
    let hearing = caller.hang_up()?;
    let kept = server.kept_of(&id)?;
    Ok(spoken
        .into_iter()
        .filter_map(|(of, line, began, said)| judge(of, line, began, said, &told, &hearing, &kept))
        .collect())
}

/// `began_ms` is when the assistant began what is interrupted; `told` are the interruptions that the
/// server told of.
fn judge(
    of: &'static str,
    line: String,
    began_ms: i64,
    said: Said,
    told: &[i64],
    hearing: &Hearing,
    kept: &Kept,
) -> Option<Interruption> {
    let level = hearing.level_between((said.began_ms - BEFORE_MS).max(began_ms), said.began_ms)?;
    let silent = hearing.quiet_since(said.began_ms, level - DUCKED_DB, SILENT_MS);
    // The reply to the line comes after it: what is silent then is another story.
    let silent = silent.filter(|at| *at <= said.ended_ms + 1000);
    // Nobody reacts so fast: the assistant had just finished.
    if silent.is_some_and(|at| at < said.began_ms + FASTEST_MS) {
        return None;
    }
    let until = silent.unwrap_or(said.ended_ms);
    let yielded = told
        .iter()
        .find(|at| (said.began_ms..said.ended_ms + 3000).contains(*at));
    let message = kept
        .messages
        .iter()
        .filter(|message| message.role == "bot" && message.start_ms <= said.began_ms)
        .max_by_key(|message| message.start_ms);
    Some(Interruption {
        of,
        line,
        silent_ms: silent.map(|at| at - said.began_ms),
        yielded_ms: yielded.map(|at| at - said.began_ms),
        heard: hearing.between(began_ms - 100, until + 40).to_vec(),
        remembered: message
            .filter(|message| message.interrupted)
            .map(|message| message.message.clone()),
    })
}

fn report(done: &Interruptions) -> Findings {
    let mut findings = Findings::default();
    let mut table = Table::new(
        "interrupting the assistant: ms from the caller's first audible packet",
        &[
            "INTERRUPTED",
            "CASES",
            "SILENT P50",
            "SILENT P95",
            "SILENT MAX",
            "NEVER SILENT",
            "YIELDED P50",
            "YIELDED P95",
            "YIELDED MAX",
            "NEVER YIELDED",
        ],
    );
    for of in ["greeting", "reply", "both"] {
        let cases: Vec<&Interruption> = done
            .all
            .iter()
            .filter(|one| one.of == of || of == "both")
            .collect();
        let mut row = vec![of.to_owned(), cases.len().to_string()];
        for times in [
            cases.iter().map(|one| one.silent_ms).collect::<Vec<_>>(),
            cases.iter().map(|one| one.yielded_ms).collect(),
        ] {
            let sample = Sample::of_ms(times.iter().flatten().copied());
            row.extend([0.5, 0.95, 1.0].map(|share| whole(sample.percentile(share))));
            let never = times.iter().filter(|at| at.is_none()).count();
            row.push(format!("{never} ({})", percent(never, times.len())));
        }
        table.row(row);
    }
    findings.table(table);
    findings.notes(done.failed.clone());
    let to_json = |one: &Interruption| -> Value {
        json!({
            "of": one.of, "line": one.line, "silentMs": one.silent_ms,
            "yieldedMs": one.yielded_ms, "remembered": one.remembered,
        })
    };
    let all: Vec<Value> = done.all.iter().map(to_json).collect();
    findings.detail("interruption", json!(all));
    findings
}
