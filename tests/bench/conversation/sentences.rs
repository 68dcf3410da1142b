//! People talk with the demo assistant: voice to voice from the caller's packets, and the parts of
//! it from the server's ledger, with and without speculation.

use serde_json::{Value, json};

use super::{Bench, Findings, Variant};
use crate::Result;
use crate::report;
use crate::server::{Kept, Manner, Seen, Server, Turn, Voice};
use crate::speech::Line;
use crate::statistics::{Sample, percent, whole};

/// How far the two ends of the telephone may disagree about one turn.
const AGREEMENT_MS: i64 = 40;

/// The parts of a turn, from the end of the caller's speech on.
type Part = (&'static str, fn(&Turn) -> Option<i64>);

const PARTS: [Part; 7] = [
    ("endpoint", |turn| turn.endpoint_ms),
    ("transcript", |turn| turn.transcript_ms),
    ("first token", |turn| turn.first_token_ms),
    ("first clause", |turn| turn.first_clause_ms),
    ("first audio", |turn| turn.first_audio_ms),
    ("first packet", |turn| turn.first_packet_ms),
    ("holding phrase", |turn| turn.holding_packet_ms),
];

/// One line of a caller and what came of it.
#[derive(Debug)]
struct Exchange {
    line: String,
    /// By the caller.
    voice_to_voice: Option<i64>,
    holding: Option<i64>,
    /// By the server; absent where it heard no turn end there.
    turn: Option<Turn>,
    heard: String,
    answer: String,
}

impl Exchange {
    fn part(&self, part: fn(&Turn) -> Option<i64>) -> Option<i64> {
        let turn = self.turn.as_ref()?;
        Some(part(turn)? - turn.speech_ended_ms?)
    }

    /// The caller's figure less the ledger's.
    fn difference(&self) -> Option<i64> {
        Some(self.voice_to_voice? - self.part(|turn| turn.first_packet_ms)?)
    }

    fn to_json(&self) -> Value {
        let parts = PARTS
            .iter()
            .map(|(name, part)| ((*name).to_owned(), json!(self.part(*part))));
        json!({
            "line": self.line,
            "voiceToVoiceMs": self.voice_to_voice,
            "holdingMs": self.holding,
            "ledger": parts.collect::<serde_json::Map<_, _>>(),
            "retries": self.turn.as_ref().map(|turn| turn.retries),
            "speculationsKept": self.turn.as_ref().map(|turn| turn.speculations_kept),
            "speculationsWastedMs": self.turn.as_ref().map(|turn| turn.speculations_wasted_ms),
            "heard": self.heard,
            "answer": self.answer,
        })
    }
}

/// An assistant and the calls to it.
#[derive(Debug)]
struct Calls {
    variant: Variant,
    /// How many it is to have.
    turns: usize,
    exchanges: Vec<Exchange>,
    greetings: Vec<i64>,
    calls: usize,
    cut_short: usize,
}

impl Calls {
    fn new(variant: Variant, turns: usize) -> Self {
        Self {
            variant,
            turns,
            exchanges: Vec::new(),
            greetings: Vec::new(),
            calls: 0,
            cut_short: 0,
        }
    }

    fn add(&mut self, lines: &[&Line], seen: &Seen, kept: &Kept) {
        self.calls += 1;
        self.greetings.extend(seen.greeting_ms);
        for (line, seen) in lines.iter().zip(&seen.lines) {
            let Some(ended) = seen.ended_ms else {
                self.cut_short += 1;
                continue;
            };
            let turn = kept.turn_ended_at(ended).cloned();
            let number = turn.as_ref().map(|turn| turn.turn);
            let said = |role: &str| {
                let of_turn = kept
                    .messages
                    .iter()
                    .filter(|said| said.role == role && Some(said.turn) == number);
                of_turn
                    .map(|said| said.message.as_str())
                    .collect::<Vec<_>>()
                    .join(" ")
            };
            self.exchanges.push(Exchange {
                line: line.name.clone(),
                voice_to_voice: seen.voice_to_voice_ms,
                holding: seen.holding_ms.map(|at| at - ended),
                heard: said("user"),
                answer: said("bot"),
                turn,
            });
        }
    }

    fn sample(&self, of: impl Fn(&Exchange) -> Option<i64>) -> Sample {
        Sample::of_ms(self.exchanges.iter().filter_map(of))
    }

    fn rows(&self, table: &mut report::Table) {
        let mut row = |measure: &str, sample: &Sample| {
            if sample.count() > 0 {
                table.row(vec![
                    measure.to_owned(),
                    self.variant.name.clone(),
                    sample.count().to_string(),
                    whole(sample.percentile(0.5)),
                    whole(sample.percentile(0.95)),
                    whole(sample.max()),
                ]);
            }
        };
        row(
            "voice to voice, by the caller",
            &self.sample(|exchange| exchange.voice_to_voice),
        );
        row(
            "  holding phrase, by the caller",
            &self.sample(|exchange| exchange.holding),
        );
        for (name, part) in PARTS {
            row(
                &format!("  {name}"),
                &self.sample(|exchange| exchange.part(part)),
            );
        }
        row(
            "answer to greeting, by the caller",
            &Sample::of_ms(self.greetings.iter().copied()),
        );
    }

    /// The turns about which the two ends disagree.
    fn disagreements(&self) -> Option<String> {
        let each = self.exchanges.iter().filter_map(|exchange| {
            let difference = exchange.difference()?;
            let differ = difference.abs() > AGREEMENT_MS;
            differ.then(|| format!("{} {difference:+} ms", exchange.line))
        });
        let each: Vec<String> = each.collect();
        let list = || format!("{}: they differ on {}", self.variant.name, each.join(", "));
        (!each.is_empty()).then(list)
    }

    /// How often thinking ahead paid, and what it cost where it did not.
    fn speculation(&self) -> String {
        let turns = || self.exchanges.iter().filter_map(|it| it.turn.as_ref());
        let kept: u32 = turns().map(|turn| turn.speculations_kept).sum();
        let dropped: u32 = turns().map(|turn| turn.speculations_dropped).sum();
        let wasted: u64 = turns().map(|turn| turn.speculations_wasted_ms).sum();
        format!(
            "{}: {kept} of {} replies were begun early and used, {dropped} begun for nothing \
             ({wasted} ms)",
            self.variant.name,
            turns().count(),
        )
    }

    fn summary(&self) -> String {
        let differences = self.sample(Exchange::difference);
        let agreeing =
            self.sample(|exchange| exchange.difference().filter(|ms| ms.abs() <= AGREEMENT_MS));
        let unanswered = self
            .exchanges
            .iter()
            .filter(|exchange| exchange.voice_to_voice.is_none())
            .count();
        let retries: u32 = self
            .exchanges
            .iter()
            .filter_map(|exchange| Some(exchange.turn.as_ref()?.retries))
            .sum();
        format!(
            "{}: {} turns in {} calls, {unanswered} unanswered, {} not said, {retries} retries; caller and ledger agree \
             within {AGREEMENT_MS} ms on {} of {} turns ({}), median difference {} ms",
            self.variant.name,
            self.exchanges.len(),
            self.calls,
            self.cut_short,
            agreeing.count(),
            differences.count(),
            percent(agreeing.count(), differences.count()),
            whole(differences.percentile(0.5)),
        )
    }
}

pub(super) fn run(bench: &mut Bench<'_>) -> Result<Findings> {
    let options = bench.options;
    let turns: usize = options.number("turns", 30)?;
    let compared: usize = options.number("comparison-turns", turns)?;
    let per_call = options.number("turns-per-call", 10)?.max(1);
    let lines = bench.lines()?;
    let manner = Manner::of(options, 20_000)?;
    let demo = bench.demo()?;
    let mut all = vec![Calls::new(Variant::new("as configured", &demo, &[]), turns)];
    if bench.is_compared() {
        let without = Variant::without(&demo)?.into_iter();
        all.extend(without.map(|variant| Calls::new(variant, compared)));
    }
    let server = bench.server(all.iter().map(|calls| &calls.variant))?;
    // Call by call in turn, so that whatever else the machine does meets all of them alike.
    let (mut said, mut failed) = (0, Vec::new());
    while all.iter().any(|calls| said < calls.turns) {
        for calls in all.iter_mut().filter(|calls| said < calls.turns) {
            let count = per_call.min(calls.turns - said);
            let lines: Vec<&Line> = lines.iter().cycle().skip(said).take(count).collect();
            if let Err(error) = talk(&server, calls, &lines, &manner) {
                failed.push(format!("{}: a call failed: {error}", calls.variant.name));
            }
        }
        said += per_call;
    }
    let mut findings = Findings::default();
    let mut table = report::Table::new(
        "milliseconds from the end of the caller's speech",
        &["MEASURE", "VARIANT", "N", "P50", "P95", "MAX"],
    );
    for calls in &all {
        calls.rows(&mut table);
        findings.note(calls.summary());
        findings.note(calls.speculation());
        findings.notes(calls.disagreements().into_iter().collect());
        let exchanges = calls
            .exchanges
            .iter()
            .map(Exchange::to_json)
            .collect::<Vec<_>>();
        findings.detail(
            &format!("sentences, {}", calls.variant.name),
            json!({ "exchanges": exchanges, "greetingsMs": calls.greetings }),
        );
    }
    findings.table(table);
    findings.notes(failed);
    Ok(findings)
}

fn talk(server: &Server, calls: &mut Calls, lines: &[&Line], manner: &Manner) -> Result<()> {
    let (seen, kept) = server.place(&calls.variant.user, lines, Voice::Recorded, manner)?;
    let before = calls.exchanges.len();
    calls.add(lines, &seen, &kept);
    eprintln!(
        "{}, call {} ({}, {}):",
        calls.variant.name, calls.calls, seen.codec, seen.ended
    );
    for exchange in &calls.exchanges[before..] {
        let ledger = exchange
            .part(|turn| turn.first_packet_ms)
            .map(|ms| ms as f64);
        eprintln!(
            "  {:<20} {:>6} ms (ledger {}) {:?} -> {:?}",
            exchange.line,
            whole(exchange.voice_to_voice.map(|ms| ms as f64)),
            whole(ledger),
            exchange.heard,
            exchange.answer
        );
    }
    Ok(())
}
