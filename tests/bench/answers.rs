//! Facts that two assistants have in their prompts, asked for by voice: how many are answered right.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};
use toml::Table;

use crate::Result;
use crate::load::{Load, Watch};
use crate::options::Options;
use crate::report::{self, Report};
use crate::server::{Kept, Manner, Seen, Server, Setup, Voice};
use crate::speech::Line;
use crate::statistics::{Sample, percent, whole};
use crate::words::spaced;

#[derive(Debug, Deserialize)]
struct Data {
    assistants: Vec<Assistant>,
}

#[derive(Debug, Deserialize)]
struct Assistant {
    name: String,
    greeting: String,
    instructions: String,
    facts: Vec<Fact>,
}

/// A question, and what an answer to it must hold: one text of every list, and none of `reject`.
#[derive(Debug, Deserialize)]
struct Fact {
    id: String,
    question: String,
    accept: Vec<Vec<String>>,
    #[serde(default)]
    reject: Vec<String>,
}

impl Fact {
    fn is_right(&self, answer: &str) -> bool {
        let answer = spaced(answer);
        let holds = |text: &String| answer.contains(&spaced(text));
        self.accept.iter().all(|texts| texts.iter().any(holds)) && !self.reject.iter().any(holds)
    }
}

impl Assistant {
    fn settings(&self) -> Table {
        let model =
            Table::from_iter([("systemPrompt".to_owned(), self.instructions.clone().into())]);
        Table::from_iter([
            ("firstMessage".to_owned(), self.greeting.clone().into()),
            ("model".to_owned(), model.into()),
        ])
    }
}

/// A question that was asked on a call.
#[derive(Debug)]
struct Asked {
    model: String,
    assistant: String,
    id: String,
    question: String,
    heard: String,
    answer: String,
    is_right: bool,
    voice_to_voice: Option<i64>,
}

impl Asked {
    fn to_json(&self) -> Value {
        json!({
            "model": self.model,
            "assistant": self.assistant,
            "id": self.id,
            "question": self.question,
            "heard": self.heard,
            "answer": self.answer,
            "right": self.is_right,
            "voiceToVoiceMs": self.voice_to_voice,
        })
    }
}

pub(crate) fn run(options: &Options) -> Result<Report> {
    let file = options.path("facts").unwrap_or_else(default_facts);
    let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let data: Data = toml::from_str(&text)?;
    let per_call: usize = options.number("per-call", 1)?;
    let manner = Manner::of(options, 20_000)?;
    let models = match options.all("model") {
        [] => vec![None],
        models => models.iter().map(Some).collect(),
    };
    let mut all: Vec<Asked> = Vec::new();
    let mut failed: Vec<String> = Vec::new();
    let mut load: Option<Load> = None;
    for model in models {
        let mut setup = Setup::new(options)?;
        for assistant in &data.assistants {
            setup = setup.assistant(&assistant.name, assistant.settings());
        }
        if let Some(model) = model {
            setup = setup.set("engines__llm", model);
        }
        let name = model.map_or("(configured)", String::as_str);
        let server = setup.start()?;
        let watch = Watch::start();
        for assistant in &data.assistants {
            for facts in assistant.facts.chunks(per_call.max(1)) {
                match ask(&server, name, assistant, facts, &manner) {
                    Ok(asked) => {
                        asked.iter().for_each(tell);
                        all.extend(asked);
                    }
                    Err(error) => failed.push(format!(
                        "not asked, {} questions of a call that failed: {error}",
                        facts.len()
                    )),
                }
            }
        }
        let this = watch.stop();
        load = Some(load.map_or_else(|| this.clone(), |load| load.then(&this)));
    }
    let mut report = Report::new("answers", load.ok_or("nothing was asked")?);
    report.table(table(&all, &data));
    for wrong in all.iter().filter(|asked| !asked.is_right) {
        report.note(format!(
            "wrong: {} {}: {:?}, heard as {:?}: {:?}",
            wrong.model, wrong.id, wrong.question, wrong.heard, wrong.answer
        ));
    }
    report.notes(failed);
    report.detail("asked", all.iter().map(Asked::to_json).collect());
    Ok(report)
}

fn default_facts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench/answers/answers.toml")
}

/// One call with these questions.
fn ask(
    server: &Server,
    model: &str,
    assistant: &Assistant,
    facts: &[Fact],
    manner: &Manner,
) -> Result<Vec<Asked>> {
    let lines: Vec<Line> = facts
        .iter()
        .map(|fact| Line::text(&fact.question))
        .collect();
    let lines: Vec<&Line> = lines.iter().collect();
    let (seen, kept) = server.place(&assistant.name, &lines, Voice::Made, manner)?;
    let asked = facts.iter().enumerate().map(|(index, fact)| {
        let answer = said(&seen, &kept, index, "bot");
        Asked {
            model: model.to_owned(),
            assistant: assistant.name.clone(),
            id: fact.id.clone(),
            question: fact.question.clone(),
            heard: said(&seen, &kept, index, "user"),
            is_right: fact.is_right(&answer),
            answer,
            voice_to_voice: seen
                .lines
                .get(index)
                .and_then(|line| line.voice_to_voice_ms),
        }
    });
    Ok(asked.collect())
}

/// What one side said from the beginning of a line to that of the next.
fn said(seen: &Seen, kept: &Kept, index: usize, role: &str) -> String {
    let begin = |index: usize| seen.lines.get(index).and_then(|line| line.began_ms);
    match begin(index) {
        Some(from) => kept
            .said(
                role,
                from - 500,
                begin(index + 1).map_or(i64::MAX, |next| next - 500),
            )
            .join(" "),
        None => String::new(),
    }
}

fn tell(asked: &Asked) {
    eprintln!(
        "  {} {:<24} {:>6} ms {} {:?} -> {:?}",
        asked.model,
        asked.id,
        whole(asked.voice_to_voice.map(|ms| ms as f64)),
        if asked.is_right { "right" } else { "WRONG" },
        asked.heard,
        asked.answer
    );
}

fn table(all: &[Asked], data: &Data) -> report::Table {
    let mut table = report::Table::new(
        "facts answered right by voice; voice to voice in ms",
        &[
            "MODEL",
            "ASSISTANT",
            "RIGHT",
            "ASKED",
            "SHARE",
            "P50",
            "P95",
            "MAX",
        ],
    );
    let mut models: Vec<&str> = all.iter().map(|asked| asked.model.as_str()).collect();
    models.dedup();
    for model in models {
        let names = data
            .assistants
            .iter()
            .map(|assistant| assistant.name.as_str());
        for name in names.chain(["all"]) {
            let of: Vec<&Asked> = all
                .iter()
                .filter(|asked| asked.model == model && (name == "all" || asked.assistant == name))
                .collect();
            let right = of.iter().filter(|asked| asked.is_right).count();
            let times = Sample::of_ms(of.iter().filter_map(|asked| asked.voice_to_voice));
            table.row(vec![
                model.to_owned(),
                name.to_owned(),
                right.to_string(),
                of.len().to_string(),
                percent(right, of.len()),
                whole(times.percentile(0.5)),
                whole(times.percentile(0.95)),
                whole(times.max()),
            ]);
        }
    }
    table
}
