//! What the assistant remembers of what was interrupted, against what the caller heard of it: the
//! recording, written down by the recogniser.

use offhook::audio::Sound;
use offhook::engines::stt::{Effort, Stt, SttConfig, TranscribeRequest};
use offhook::engines::supervisor::find_executable;
use offhook::engines::worker::Scheduling;
use offhook::engines::{EngineEvent, Priority};
use offhook::ids::{CallId, Generation};
use offhook::models::Catalog;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Bench, Findings, interruption};
use crate::Result;
use crate::report::Table;
use crate::server;
use crate::statistics::percent;
use crate::words;

/// What writes down what was heard, where `--model` names no other.
const MODEL: &str = "whisper-base-q8_0";

pub(super) fn run(bench: &mut Bench<'_>) -> Result<Findings> {
    let done = match bench.interruptions.take() {
        Some(done) => done,
        None => interruption::measure(bench)?,
    };
    let mut compared = Vec::new();
    let mut unremembered = 0;
    let pairs = done.all.iter().filter_map(|one| match &one.remembered {
        Some(text) => Some((one.heard.clone(), text.clone())),
        None => {
            unremembered += 1;
            None
        }
    });
    let pairs: Vec<(Vec<i16>, String)> = pairs.collect();
    let sounds = pairs.iter().map(|(sound, _)| sound.clone()).collect();
    let transcripts = transcribe(bench.options.text("model").unwrap_or(MODEL), sounds)?;
    for ((_, remembered), heard) in pairs.iter().zip(transcripts) {
        compared.push(Compared::new(remembered, &heard));
    }
    let mut findings = Findings::default();
    let mut table = Table::new(
        "words that the history has beyond what was heard, and lacks of it",
        &[
            "INTERRUPTED SPEECHES",
            "BEYOND: NONE",
            "ONE",
            "MORE",
            "LACKING: NONE OR ONE",
            "TWO",
            "MORE",
        ],
    );
    let share = |is: &dyn Fn(&Compared) -> bool| {
        let count = compared.iter().filter(|one| is(one)).count();
        format!("{count} ({})", percent(count, compared.len()))
    };
    table.row(vec![
        compared.len().to_string(),
        share(&|one| one.beyond == 0),
        share(&|one| one.beyond == 1),
        share(&|one| one.beyond > 1),
        share(&|one| one.lacking <= 1),
        share(&|one| one.lacking == 2),
        share(&|one| one.lacking > 2),
    ]);
    findings.table(table);
    findings.note(
        "By the transcript of the recording, in which a word that was cut off is often another one, \
         or two.",
    );
    if unremembered > 0 {
        findings.note(format!(
            "{unremembered} speeches are not marked as interrupted in the history"
        ));
    }
    let all: Vec<Value> = compared.iter().map(Compared::to_json).collect();
    findings.detail("history", json!(all));
    Ok(findings)
}

/// One interrupted speech.
#[derive(Debug)]
struct Compared {
    remembered: String,
    heard: String,
    /// Words remembered at the end that were not heard.
    beyond: usize,
    /// Words heard at the end that are not remembered.
    lacking: usize,
}

impl Compared {
    fn new(remembered: &str, heard: &str) -> Self {
        let (beyond, lacking) = tails(&words::normalised(remembered), &words::normalised(heard));
        Self {
            remembered: remembered.to_owned(),
            heard: heard.to_owned(),
            beyond,
            lacking,
        }
    }

    fn to_json(&self) -> Value {
        json!({
            "remembered": self.remembered, "heard": self.heard,
            "beyond": self.beyond, "lacking": self.lacking,
        })
    }
}

/// How many words of `one` at its end have nothing that stands for them in `other`, and how many of
/// `other` at its end stand for none, where as few words as possible differ. What `other` goes on with
/// costs nothing; a word that was misheard stands for the one that it was.
fn tails(one: &[String], other: &[String]) -> (usize, usize) {
    // Each row: what it costs to make the first words of `one` out of those of `other`, and how many
    // of `one` are left over at the end of that.
    let mut row: Vec<(usize, usize)> = (0..=other.len()).map(|column| (column, 0)).collect();
    for (number, word) in one.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], (number + 1, number + 1));
        for (column, theirs) in other.iter().enumerate() {
            let above = row[column + 1];
            let paired = (diagonal.0 + usize::from(word != theirs), 0);
            let left_over = (above.0 + 1, above.1 + 1);
            let skipped = (row[column].0 + 1, row[column].1);
            diagonal = above;
            row[column + 1] = paired.min(left_over).min(skipped);
        }
    }
    let ends = row.iter().enumerate();
    let best = ends.min_by_key(|(column, (cost, _))| (*cost, usize::MAX - column));
    best.map_or((0, 0), |(column, (_, beyond))| {
        (*beyond, other.len() - column)
    })
}

/// Has the worker write down sounds at 8 kHz, while no call needs it.
fn transcribe(model: &str, sounds: Vec<Vec<i16>>) -> Result<Vec<String>> {
    let catalog = Catalog::embedded(server::models())?;
    let executable = find_executable("offhook-stt", Some(&server::binaries()?))?;
    let mut config = SttConfig::new(executable, catalog.path_of(model)?);
    config.scheduling = Scheduling::Normal;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let stt = Stt::start(&config);
        let mut texts = Vec::new();
        for sound in sounds {
            let (events, mut answers) = mpsc::channel(1);
            let request = TranscribeRequest {
                call: CallId::from_random([0; 16]),
                generation: Generation::default(),
                priority: Priority::Waiting,
                audio: Sound::from(sound),
                hint: None,
                effort: Effort::Full,
                language: None,
            };
            let _handle = stt.transcribe(request, events)?;
            match answers.recv().await {
                Some(EngineEvent::Transcript { result, .. }) => texts.push(result?.text),
                Some(_) | None => return Err("the recogniser did not answer".into()),
            }
        }
        stt.shutdown().await;
        Ok(texts)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(remembered: &str, heard: &str) -> (usize, usize) {
        let compared = Compared::new(remembered, heard);
        (compared.beyond, compared.lacking)
    }

    #[test]
    fn words_at_the_end_that_nothing_stands_for_are_beyond_or_lacking() {
        assert_eq!(both("We open at nine.", "we open at nine"), (0, 0));
        assert_eq!(both("We open at nine every day", "We open at nine"), (2, 0));
        assert_eq!(both("We open", "We open at nine"), (0, 2));
        // Misheard is neither.
        assert_eq!(
            both("The chef is Paul and he", "The chef is pole and he cooks"),
            (0, 1)
        );
        assert_eq!(both("what is new this", "what is needed to season"), (0, 1));
        assert_eq!(both("", "hello"), (0, 1));
    }
}
