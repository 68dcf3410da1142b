//! False cut-ins: callers who pause inside a number or a sentence. How often the assistant takes the
//! pause for the end, and what waiting costs where it was the end.

use serde_json::{Value, json};
use toml::Value as Setting;

use super::material::{self, Case};
use super::{Bench, Findings, Variant, set};
use crate::Result;
use crate::caller::{Caller, Said};
use crate::report::Table;
use crate::server::{Kept, Server};
use crate::statistics::{Sample, percent, whole};

/// Cases in one call.
const PER_CALL: usize = 10;
/// A reply that has not come by then is none.
const PATIENCE_MS: u64 = 15_000;
/// The reply is over after this much silence.
const QUIET_MS: u64 = 700;
/// The record and the caller's clock agree as closely as this.
const AGREEMENT_MS: i64 = 60;

/// What became of a case.
#[derive(Clone, Debug)]
struct Outcome {
    kind: &'static str,
    text: String,
    pause_ms: u64,
    /// The turn was taken for over before the caller was done, at that time of the sound.
    committed_early_ms: Option<i64>,
    /// Something was heard before the caller was done.
    heard_early: bool,
    /// From the end of the speech to the decision that it was over.
    endpoint_ms: Option<i64>,
    voice_to_voice_ms: Option<i64>,
    /// "Sorry, I missed that" was the answer.
    asked_again: bool,
    heard: String,
}

impl Outcome {
    fn is_cut_in(&self) -> bool {
        self.committed_early_ms.is_some() || self.heard_early
    }

    fn to_json(&self) -> Value {
        json!({
            "kind": self.kind,
            "text": self.text,
            "longestPauseMs": self.pause_ms,
            "committedEarlyMs": self.committed_early_ms,
            "heardEarly": self.heard_early,
            "endpointMs": self.endpoint_ms,
            "voiceToVoiceMs": self.voice_to_voice_ms,
            "askedAgain": self.asked_again,
            "heard": self.heard,
        })
    }
}

pub(super) fn run(bench: &mut Bench<'_>) -> Result<Findings> {
    let count: usize = bench.options.number("cases", 100)?;
    let at_knob: usize = bench.options.number("curve-cases", 30)?;
    let cases = cases(bench, count)?;
    let knob = bench.options.text("knob");
    let assistant = terse(bench.demo()?);
    let mut variants = vec![(Variant::new("as configured", &assistant, &[]), cases.len())];
    for value in bench.knob_values()? {
        let variant = Variant::at_knob(&assistant, knob, value)?;
        variants.push((variant, at_knob.min(cases.len())));
    }
    if bench.is_compared() {
        let compared = Variant::without(&assistant)?.into_iter();
        variants.extend(compared.map(|variant| (variant, at_knob.min(cases.len()))));
    }
    let server = bench.server(variants.iter().map(|(variant, _)| variant))?;
    let mut findings = Findings::default();
    let mut curve = Table::new(
        "false cut-ins, and the wait at true ends, by the setting of the policy",
        &head("ASSISTANT"),
    );
    for (variant, count) in &variants {
        // Every n-th, so that few cases are of all kinds too.
        let step = cases.len() / count.max(&1);
        let chosen: Vec<&Case> = cases.iter().step_by(step.max(1)).take(*count).collect();
        let (outcomes, failed) = spoken(&server, variant, &chosen);
        findings.notes(failed);
        curve.row(row(&variant.name, &outcomes));
        if variant.name == "as configured" {
            findings.table(by_kind(&outcomes));
        }
        let all: Vec<Value> = outcomes.iter().map(Outcome::to_json).collect();
        findings.detail(&format!("pauses, {}", variant.name), json!(all));
    }
    findings.table(curve);
    Ok(findings)
}

fn cases(bench: &mut Bench<'_>, count: usize) -> Result<Vec<Case>> {
    let options = bench.options;
    let (lines, seed) = (bench.lines()?, bench.seed()?);
    let voices = bench.voices()?;
    eprintln!("making {count} numbers and {count} sentences");
    let digits = material::digits(options, voices, seed, count)?;
    let sentences = material::sentences(&lines, voices, seed, count)?;
    voices.rest();
    // One of each in turn, so that what comes early in a run is of all kinds.
    let mut cases = Vec::new();
    for (number, sentence) in digits.into_iter().zip(sentences) {
        cases.extend([number, sentence]);
    }
    Ok(cases)
}

/// The assistant, of few words: its replies are not what is measured here.
fn terse(mut assistant: toml::Table) -> toml::Table {
    let nothing = || Setting::Array(Vec::new());
    for (path, value) in [
        ("firstMessageMode", "assistant-waits-for-user".into()),
        ("model.maxTokens", 8.into()),
        ("messagePlan.idleMessages", nothing()),
        ("endCallPhrases", nothing()),
        ("silenceTimeoutSeconds", 600.into()),
        ("maxDurationSeconds", 3600.into()),
    ] {
        set(&mut assistant, path, value);
    }
    assistant
}

fn spoken(server: &Server, variant: &Variant, cases: &[&Case]) -> (Vec<Outcome>, Vec<String>) {
    let (mut outcomes, mut failed) = (Vec::new(), Vec::new());
    for (number, some) in cases.chunks(PER_CALL).enumerate() {
        match call(server, &variant.user, some) {
            Ok(more) => outcomes.extend(more),
            Err(error) => failed.push(format!("{}: a call failed: {error}", variant.name)),
        }
        let cut = outcomes
            .iter()
            .filter(|outcome| outcome.is_cut_in())
            .count();
        eprintln!(
            "pauses, {}: {} of {} said, {cut} cut into",
            variant.name,
            (number * PER_CALL + some.len()).min(cases.len()),
            cases.len()
        );
    }
    (outcomes, failed)
}

fn call(server: &Server, user: &str, cases: &[&Case]) -> Result<Vec<Outcome>> {
    let mut caller = Caller::dial(server, user)?;
    caller.listen(500)?;
    let mut said: Vec<(Said, Option<i64>)> = Vec::new();
    for case in cases {
        let spoken = caller.say(&case.sound)?;
        let reply = caller.wait_for_sound(spoken.ended_ms, PATIENCE_MS)?;
        caller.wait_for_quiet(QUIET_MS, PATIENCE_MS)?;
        said.push((spoken, reply));
    }
    let id = caller.sip_call_id();
    let hearing = caller.hang_up()?;
    let kept = server.kept_of(&id)?;
    Ok(cases
        .iter()
        .zip(said)
        .map(|(case, (said, reply))| {
            let early = hearing.speech_since(said.began_ms);
            judge(case, said, early, reply, &kept)
        })
        .collect())
}

/// `early` is when the first speech was heard since the caller began, `reply` since they ended.
fn judge(case: &Case, said: Said, early: Option<i64>, reply: Option<i64>, kept: &Kept) -> Outcome {
    let Said { began_ms, ended_ms } = said;
    let while_speaking = began_ms + AGREEMENT_MS..ended_ms - AGREEMENT_MS;
    let committed = kept
        .turns
        .iter()
        // A late reply to what was said before is another fault.
        .filter(|turn| turn.speech_ended_ms.is_some_and(|ended| ended > began_ms))
        .filter_map(|turn| turn.endpoint_ms)
        .find(|at| while_speaking.contains(at));
    let turn = kept.turn_ended_at(ended_ms);
    let late = kept
        .turns
        .iter()
        .filter(|turn| turn.speech_ended_ms.is_some_and(|ended| ended <= began_ms))
        .filter_map(|turn| turn.first_packet_ms)
        .any(|at| while_speaking.contains(&at));
    let since_end = |at: Option<i64>| at.map(|at| at - ended_ms);
    Outcome {
        kind: case.kind,
        text: case.text.clone(),
        pause_ms: case.pause_ms,
        committed_early_ms: committed.map(|at| at - began_ms),
        heard_early: !late && early.is_some_and(|at| while_speaking.contains(&at)),
        endpoint_ms: since_end(turn.and_then(|turn| turn.endpoint_ms)),
        voice_to_voice_ms: since_end(reply_of(reply, turn)),
        asked_again: turn
            .is_some_and(|it| it.holding_packet_ms.is_some() && it.first_packet_ms.is_none()),
        heard: kept
            .said("user", began_ms - 500, ended_ms + 500)
            .join(" / "),
    }
}

/// When the reply was heard: not the holding phrase before it.
fn reply_of(heard: Option<i64>, turn: Option<&crate::server::Turn>) -> Option<i64> {
    let held = turn.and_then(|turn| turn.holding_packet_ms);
    match heard.zip(held) {
        Some((heard, held)) if (heard - held).abs() <= AGREEMENT_MS => turn?.first_packet_ms,
        _ => heard,
    }
}

/// The waits of turns that were not cut into.
fn samples(outcomes: &[Outcome]) -> (Sample, Sample) {
    let right = || outcomes.iter().filter(|outcome| !outcome.is_cut_in());
    (
        Sample::of_ms(right().filter_map(|outcome| outcome.endpoint_ms)),
        Sample::of_ms(right().filter_map(|outcome| outcome.voice_to_voice_ms)),
    )
}

fn head(first: &'static str) -> [&'static str; 10] {
    [
        first,
        "CASES",
        "CUT INTO",
        "OF THEM HEARD",
        "ASKED AGAIN",
        "UNANSWERED",
        "ENDPOINT P50",
        "ENDPOINT P95",
        "VOICE TO VOICE P50",
        "VOICE TO VOICE P95",
    ]
}

fn row(name: &str, outcomes: &[Outcome]) -> Vec<String> {
    let cut = outcomes
        .iter()
        .filter(|outcome| outcome.is_cut_in())
        .count();
    let heard = outcomes
        .iter()
        .filter(|outcome| outcome.heard_early)
        .count();
    let again = outcomes
        .iter()
        .filter(|outcome| outcome.asked_again)
        .count();
    let unanswered = outcomes
        .iter()
        .filter(|outcome| outcome.voice_to_voice_ms.is_none() && !outcome.asked_again)
        .count();
    let (endpoint, voice) = samples(outcomes);
    vec![
        name.to_owned(),
        outcomes.len().to_string(),
        format!("{cut} ({})", percent(cut, outcomes.len())),
        heard.to_string(),
        again.to_string(),
        unanswered.to_string(),
        whole(endpoint.percentile(0.5)),
        whole(endpoint.percentile(0.95)),
        whole(voice.percentile(0.5)),
        whole(voice.percentile(0.95)),
    ]
}

fn by_kind(outcomes: &[Outcome]) -> Table {
    let mut table = Table::new(
        "cut into, by what was said (as configured); ms from the end of speech",
        &head("SAID"),
    );
    for kind in material::DIGITS.into_iter().chain(material::SENTENCES) {
        let of_kind: Vec<Outcome> = outcomes
            .iter()
            .filter(|outcome| outcome.kind == kind)
            .cloned()
            .collect();
        if !of_kind.is_empty() {
            table.row(row(kind, &of_kind));
        }
    }
    table.row(row("all", outcomes));
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case() -> Case {
        Case {
            kind: material::DIGITS[2],
            text: "one two | three".to_owned(),
            pause_ms: 700,
            sound: Vec::new(),
        }
    }

    fn kept(turns: &str) -> Kept {
        let turns: Value = serde_json::from_str(turns).expect("JSON");
        serde_json::from_value(json!({ "status": "ended", "messages": [], "turns": turns }))
            .expect("a record")
    }

    const SAID: Said = Said {
        began_ms: 10_000,
        ended_ms: 13_000,
    };

    #[test]
    fn a_turn_that_ends_in_the_callers_pause_is_a_cut_in() {
        let kept = kept(
            r#"[{"turn": 1, "speechEndedMs": 11000, "endpointMs": 11600, "retries": 0},
                {"turn": 2, "speechEndedMs": 13010, "endpointMs": 14000, "retries": 0}]"#,
        );
        let outcome = judge(&case(), SAID, None, Some(14_500), &kept);
        assert_eq!(outcome.committed_early_ms, Some(1600));
        assert!(outcome.is_cut_in() && !outcome.heard_early);
        assert_eq!(outcome.endpoint_ms, Some(1000));
    }

    #[test]
    fn a_late_reply_to_what_was_said_before_is_none() {
        let kept = kept(
            r#"[{"turn": 1, "speechEndedMs": 6000, "endpointMs": 7000, "firstPacketMs": 11000, "retries": 0},
                {"turn": 2, "speechEndedMs": 13000, "endpointMs": 13400, "retries": 0}]"#,
        );
        let outcome = judge(&case(), SAID, Some(11_000), Some(13_600), &kept);
        assert!(!outcome.is_cut_in());
        assert_eq!(outcome.voice_to_voice_ms, Some(600));
    }

    #[test]
    fn a_holding_phrase_is_no_reply() {
        let kept = kept(
            r#"[{"turn": 1, "speechEndedMs": 13000, "endpointMs": 13400, "holdingPacketMs": 16000,
                 "firstPacketMs": 17000, "retries": 0}]"#,
        );
        let outcome = judge(&case(), SAID, None, Some(16_020), &kept);
        assert_eq!(outcome.voice_to_voice_ms, Some(4000));
        assert!(!outcome.asked_again);
    }

    #[test]
    fn who_is_asked_again_is_neither_answered_nor_left_in_silence() {
        let kept = kept(
            r#"[{"turn": 1, "speechEndedMs": 13000, "endpointMs": 13900, "holdingPacketMs": 13950,
                 "retries": 0}]"#,
        );
        let outcome = judge(&case(), SAID, None, Some(13_960), &kept);
        assert!(outcome.asked_again);
        assert_eq!(outcome.voice_to_voice_ms, None);
    }
}
