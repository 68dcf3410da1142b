//! Word error rate through real calls: what people said against what the server wrote down.

use serde_json::{Value, json};
use toml::Table;

use crate::Result;
use crate::load::{Load, Watch};
use crate::options::Options;
use crate::report::{self, Report};
use crate::server::{Kept, Manner, Seen, Setup, Voice};
use crate::speech::{self, Kind, Line};
use crate::statistics::{Sample, percent, whole};
use crate::words;

/// Says next to nothing, so that the calls are about the caller.
const LISTENER: &str = r#"
firstMessage = "Hello."
silenceTimeoutSeconds = 60
maxDurationSeconds = 3600
[model]
systemPrompt = "Whatever the caller says, answer with: Okay."
maxTokens = 4
[messagePlan]
idleMessages = []
"#;

/// A word that begins this long before its line began is still the line's: speech is transcribed
/// with what went before it.
const EARLY_MS: i64 = 500;

/// A line that was said and what was written down.
#[derive(Debug)]
struct Heard {
    name: String,
    kind: Kind,
    said: String,
    heard: String,
    words: usize,
    errors: usize,
    ran_away: bool,
    /// How many turns the server took it for.
    turns: usize,
    /// From the end of speech to the final transcript.
    transcript: Option<i64>,
    seconds: Option<f64>,
}

impl Heard {
    fn to_json(&self) -> Value {
        json!({
            "line": self.name,
            "said": self.said,
            "heard": self.heard,
            "words": self.words,
            "errors": self.errors,
            "ranAway": self.ran_away,
            "turns": self.turns,
            "transcriptMs": self.transcript,
            "seconds": self.seconds,
        })
    }
}

/// What is varied.
#[derive(Clone, Debug)]
struct Condition {
    model: Option<String>,
    codec: &'static str,
    voice: Voice,
    noisy: bool,
}

impl Condition {
    fn speech(&self) -> String {
        let voice = match self.voice {
            Voice::Recorded => "people",
            Voice::Made => "made",
        };
        match self.noisy {
            true => format!("{voice} + noise"),
            false => voice.to_owned(),
        }
    }

    fn model(&self) -> &str {
        self.model.as_deref().unwrap_or("(configured)")
    }
}

pub(crate) fn run(options: &Options) -> Result<Report> {
    let mut lines = speech::lines(options)?;
    lines.retain(|line| line.text.is_some());
    if lines.is_empty() {
        return Err(
            "these recordings have no transcripts: --audio DIR names a folder with transcripts.tsv"
                .into(),
        );
    }
    let per_call: usize = options.number("lines-per-call", 8)?;
    let mut table = report::Table::new(
        "word error rate; milliseconds from the end of speech to the transcript",
        &[
            "MODEL",
            "CODEC",
            "SPEECH",
            "SENTENCES",
            "DIGITS",
            "RUNAWAYS",
            "UNHEARD",
            "TURNS/LINE",
            "P50",
            "P95",
            "P50 OF 3-5 S",
        ],
    );
    let (mut details, mut failed) = (Vec::new(), Vec::new());
    let mut load: Option<Load> = None;
    for model in models(options) {
        let mut setup = Setup::new(options)?.assistant("listener", LISTENER.parse::<Table>()?);
        if let Some(model) = &model {
            setup = setup.set("engines__stt", model);
        }
        let server = setup.start()?;
        let watch = Watch::start();
        for condition in conditions(options, model.as_deref())? {
            let manner = manner(options, &condition)?;
            let mut all = Vec::new();
            for lines in lines.chunks(per_call.max(1)) {
                let lines: Vec<&Line> = lines.iter().collect();
                match server.place("listener", &lines, condition.voice, &manner) {
                    Ok((seen, kept)) => {
                        let heard = heard(&lines, &seen, &kept);
                        tell(&condition, &heard);
                        all.extend(heard);
                    }
                    Err(error) => failed.push(format!(
                        "not counted, {} lines of a call that failed: {error}",
                        lines.len()
                    )),
                }
            }
            table.row(row(&condition, &all));
            details.push(json!({
                "model": condition.model(),
                "codec": condition.codec,
                "speech": condition.speech(),
                "lines": all.iter().map(Heard::to_json).collect::<Vec<_>>(),
            }));
        }
        let this = watch.stop();
        load = Some(load.map_or_else(|| this.clone(), |load| load.then(&this)));
    }
    let mut report = Report::new("stt", load.ok_or("nothing was measured")?);
    report.table(table);
    report.notes(failed);
    report.detail("conditions", details.into());
    Ok(report)
}

/// `None` is the configured one.
fn models(options: &Options) -> Vec<Option<String>> {
    match options.all("model") {
        [] => vec![None],
        models => models.iter().cloned().map(Some).collect(),
    }
}

fn conditions(options: &Options, model: Option<&str>) -> Result<Vec<Condition>> {
    let codecs: &[&str] = match options.text("codec") {
        None | Some("PCMU") => &["PCMU"],
        Some("PCMA") => &["PCMA"],
        Some("both") => &["PCMU", "PCMA"],
        Some(other) => {
            return Err(format!("--codec: {other:?} is neither PCMU, PCMA nor both").into());
        }
    };
    let mut voices = vec![Voice::Recorded];
    voices.extend(options.is_on("made").then_some(Voice::Made));
    let mut conditions = Vec::new();
    for voice in voices {
        let with_noise: &[bool] = if options.text("noise").is_some() {
            &[false, true]
        } else {
            &[false]
        };
        for noisy in with_noise {
            conditions.extend(codecs.iter().map(|codec| Condition {
                model: model.map(str::to_owned),
                codec,
                voice,
                noisy: *noisy,
            }));
        }
    }
    Ok(conditions)
}

fn manner(options: &Options, condition: &Condition) -> Result<Manner> {
    let mut manner = Manner::of(options, 8000)?;
    manner.codec = Some(condition.codec.to_owned());
    manner.noise = manner.noise.filter(|_| condition.noisy);
    Ok(manner)
}

/// Gives every line the words that were written down from its beginning to that of the next.
fn heard(lines: &[&Line], seen: &Seen, kept: &Kept) -> Vec<Heard> {
    let begins: Vec<Option<i64>> = seen
        .lines
        .iter()
        .map(|line| line.began_ms.map(|at| at - EARLY_MS))
        .collect();
    let mut all = Vec::new();
    for (index, (line, seen)) in lines.iter().zip(&seen.lines).enumerate() {
        let next = begins
            .iter()
            .skip(index + 1)
            .flatten()
            .next()
            .copied()
            .unwrap_or(i64::MAX);
        let messages = begins[index]
            .map(|begin| kept.said("user", begin, next))
            .unwrap_or_default();
        let turn = seen.ended_ms.and_then(|ended| kept.turn_ended_at(ended));
        let said = line.text.clone().unwrap_or_default();
        let heard = messages.join(" ");
        let (said_words, heard_words) = (words::normalised(&said), words::normalised(&heard));
        all.push(Heard {
            name: line.name.clone(),
            kind: line.kind,
            words: said_words.len(),
            errors: words::errors(&said_words, &heard_words),
            ran_away: words::ran_away(&said_words, &heard_words),
            turns: messages.len(),
            transcript: turn.and_then(|turn| Some(turn.transcript_ms? - turn.speech_ended_ms?)),
            seconds: line.seconds,
            said,
            heard,
        });
    }
    all
}

fn tell(condition: &Condition, heard: &[Heard]) {
    for line in heard {
        let transcript = whole(line.transcript.map(|ms| ms as f64));
        let mark = if line.errors == 0 { "" } else { " <-" };
        eprintln!(
            "  {} {} {:<20} {transcript:>6} ms {}/{} {:?}{mark}",
            condition.model(),
            condition.codec,
            line.name,
            line.errors,
            line.words,
            line.heard
        );
    }
}

fn row(condition: &Condition, heard: &[Heard]) -> Vec<String> {
    let rate = |kind: Kind| {
        let of_kind = || heard.iter().filter(|line| line.kind == kind);
        percent(
            of_kind().map(|line| line.errors).sum(),
            of_kind().map(|line| line.words).sum(),
        )
    };
    let count = |is: fn(&Heard) -> bool| heard.iter().filter(|line| is(line)).count();
    let times = Sample::of_ms(heard.iter().filter_map(|line| line.transcript));
    let middling = heard.iter().filter(|line| {
        line.seconds
            .is_some_and(|seconds| (3.0..5.0).contains(&seconds))
    });
    let of_middling = Sample::of_ms(middling.filter_map(|line| line.transcript));
    let turns: usize = heard.iter().map(|line| line.turns).sum();
    vec![
        condition.model().to_owned(),
        condition.codec.to_owned(),
        condition.speech(),
        rate(Kind::Sentence),
        rate(Kind::Digits),
        count(|line| line.ran_away).to_string(),
        count(|line| line.turns == 0).to_string(),
        format!("{:.2}", turns as f64 / heard.len().max(1) as f64),
        whole(times.percentile(0.5)),
        whole(times.percentile(0.95)),
        whole(of_middling.percentile(0.5)),
    ]
}
