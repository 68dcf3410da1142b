//! `offhook replay`: a kept call's caller, heard again.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::{Failure, Kept, calls, print};
use crate::audio::{SampleRate, Sound};
use crate::config::{self, Config};
use crate::ids::{AssistantId, TurnNumber};
use crate::record::{CallRecord, Message, Role};
use crate::store::{Object, ObjectKind, Store};

/// Passages of two calls whose callers stopped this close to each other are the same one, in ms.
const SAME_MS: u64 = 2000;

/// `offhook replay`. The caller's side of the recording is played to a server of its own on this
/// machine, in real time, with the engines and models of the configuration; nobody else is called
/// or told. Keys that were pressed are not.
#[derive(Debug, Args)]
pub struct Replay {
    /// The call's id, or the beginning of it.
    id: String,
    #[command(flatten)]
    kept: Kept,
    /// Configuration with the assistants and engines to try. [default: as for `serve`]
    #[arg(long, value_name = "FILE", env = "OFFHOOK_CONFIG")]
    config: Option<PathBuf>,
    /// Who answers this time, instead of the call's own assistant.
    #[arg(long, value_name = "NAME")]
    assistant: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A kept call, and what it takes to have it again.
pub struct RecordedCall {
    /// As it was.
    pub then: CallRecord,
    /// What the caller said, from the answer on.
    pub caller: Sound,
    /// With the assistants and engines to try.
    pub config: Config,
    /// Who answers.
    pub assistant: AssistantId,
    /// The same, where it is an object of the API.
    pub object: Option<Object>,
}

impl Replay {
    /// Reads the call and the configuration.
    ///
    /// # Errors
    /// Where there is no such call, no recording of it, no such assistant, or the configuration is
    /// wrong.
    pub async fn call(&self) -> Result<RecordedCall, Failure> {
        let mut config = config::load(self.config.as_deref(), std::env::vars())
            .map_err(|mistakes| Failure::Usage(mistakes.to_string()))?;
        if config.engines.models.is_none() {
            config.engines.models = std::env::var_os("OFFHOOK_MODELS").map(PathBuf::from);
        }
        config.data.clone_from(&self.kept.data);
        let (store, then) = calls::open(&self.kept, &self.id).await?;
        let (assistant, object) = self.assistant(&config, &store, &then).await?;
        let recording = then
            .recording
            .as_ref()
            .ok_or_else(|| Failure::Failed(format!("call {} has no recording", then.id)))?;
        let caller = caller(&self.kept.data.join(recording))?;
        Ok(RecordedCall {
            then,
            caller,
            config,
            assistant,
            object,
        })
    }

    async fn assistant(
        &self,
        config: &Config,
        store: &Store,
        then: &CallRecord,
    ) -> Result<(AssistantId, Option<Object>), Failure> {
        let id = match &self.assistant {
            Some(name) => AssistantId::new(name.clone()),
            None => then.assistant.clone(),
        };
        if config.assistants.contains_key(id.as_str()) {
            return Ok((id, None));
        }
        let object = store.object(ObjectKind::Assistant, id.as_str()).await;
        let object = object.map_err(|error| Failure::Failed(error.to_string()))?;
        match object {
            Some(object) => Ok((id, Some(object))),
            None => {
                let known: Vec<&str> = config.assistants.keys().map(String::as_str).collect();
                Err(Failure::Usage(format!(
                    "--assistant: there is no assistant {:?}; the configuration has {}",
                    id.as_str(),
                    known.join(", ")
                )))
            }
        }
    }

    /// Prints both calls, turn by turn.
    pub fn show(&self, then: &CallRecord, now: &CallRecord) {
        let pairs = pairs(&passages(then), &passages(now));
        if self.json {
            let turns: Vec<_> = pairs
                .iter()
                .map(|(then, now)| serde_json::json!({ "then": then, "now": now }))
                .collect();
            let calls = serde_json::json!({ "then": then, "now": now, "turns": turns });
            return print::json(&calls);
        }
        print::line(&format!("call       {}", then.id));
        print::line(&format!(
            "assistant  {} (then {})",
            now.assistant, then.assistant
        ));
        print::line("");
        for (then, now) in &pairs {
            for (name, passage) in [("then", then), ("now", now)] {
                for line in passage.iter().flat_map(Passage::lines) {
                    print::line(&format!("{name:<4}  {line}"));
                }
            }
            print::line("");
        }
        let answers = |passages: &dyn Fn(&Pair) -> Option<u64>| {
            let mut times: Vec<u64> = pairs.iter().filter_map(passages).collect();
            times.sort_unstable();
            match times.get(times.len() / 2) {
                Some(middle) => format!("{} answers, {middle} ms in the middle", times.len()),
                None => "no answers".to_owned(),
            }
        };
        let then = answers(&|(then, _)| then.as_ref()?.voice_to_voice_ms);
        let now = answers(&|(_, now)| now.as_ref()?.voice_to_voice_ms);
        print::line(&format!("then  {then}\nnow   {now}"));
    }
}

/// The caller's side of a recording: left.
fn caller(file: &Path) -> Result<Sound, Failure> {
    let failed = |why: String| Failure::Failed(format!("{}: {why}", file.display()));
    let opened = File::open(file).map_err(|error| failed(error.to_string()))?;
    let reader = hound::WavReader::new(BufReader::new(opened));
    let mut reader = reader.map_err(|error| failed(error.to_string()))?;
    let spec = reader.spec();
    let rate = SampleRate::new(spec.sample_rate);
    let (Some(rate), 2, 16) = (rate, spec.channels, spec.bits_per_sample) else {
        return Err(failed(
            "it is no recording of a call: 16 bits, stereo".to_owned(),
        ));
    };
    let left = reader.samples::<i16>().step_by(2);
    let samples = left.collect::<Result<Vec<i16>, _>>();
    Ok(Sound {
        rate,
        samples: samples.map_err(|error| failed(error.to_string()))?.into(),
    })
}

/// What was said in one turn: by the caller, and in answer to that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Passage {
    turn: TurnNumber,
    /// The caller stopped speaking; where they said nothing, the assistant began.
    at_ms: u64,
    caller: String,
    assistant: String,
    interrupted: bool,
    voice_to_voice_ms: Option<u64>,
}

impl Passage {
    fn lines(&self) -> impl Iterator<Item = String> + '_ {
        let at = self.at_ms as f64 / 1000.0;
        let caller =
            (!self.caller.is_empty()).then(|| format!("{at:>8.2} s  caller     {}", self.caller));
        let when = match self.voice_to_voice_ms {
            Some(ms) => format!("{:>7} ms", format!("+{ms}")),
            None => format!("{at:>8.2} s"),
        };
        let cut = if self.interrupted {
            " [interrupted]"
        } else {
            ""
        };
        let assistant = (!self.assistant.is_empty())
            .then(|| format!("{when}  assistant  {}{cut}", self.assistant));
        caller.into_iter().chain(assistant)
    }
}

/// A call's turns, in order.
fn passages(call: &CallRecord) -> Vec<Passage> {
    let mut passages: Vec<Passage> = Vec::new();
    for message in &call.messages {
        let passage = match passages.iter_mut().find(|known| known.turn == message.turn) {
            Some(passage) => passage,
            None => {
                passages.push(passage_of(call, message));
                let last = passages.len() - 1;
                &mut passages[last]
            }
        };
        let words = match message.role {
            Role::User => &mut passage.caller,
            Role::Bot => &mut passage.assistant,
            Role::System => continue,
        };
        if !words.is_empty() {
            words.push(' ');
        }
        words.push_str(&message.message);
        passage.interrupted |= message.interrupted;
    }
    passages.sort_by_key(|passage| passage.at_ms);
    passages
}

fn passage_of(call: &CallRecord, first: &Message) -> Passage {
    let ledger = call.turns.iter().find(|ledger| ledger.turn == first.turn);
    let ended = ledger.and_then(|ledger| ledger.speech_ended_ms);
    Passage {
        turn: first.turn,
        at_ms: ended.unwrap_or(match first.role {
            Role::User => first.end_ms,
            Role::Bot | Role::System => first.start_ms,
        }),
        voice_to_voice_ms: ledger.and_then(crate::record::TurnLedger::voice_to_voice_ms),
        ..Passage::default()
    }
}

/// A turn of either call, or of both.
type Pair = (Option<Passage>, Option<Passage>);

/// Turns of two calls beside each other by when the caller stopped.
fn pairs(then: &[Passage], now: &[Passage]) -> Vec<Pair> {
    let (mut then, mut now) = (then.iter().peekable(), now.iter().peekable());
    let mut pairs = Vec::new();
    loop {
        let pair = match (then.peek(), now.peek()) {
            (None, None) => return pairs,
            (Some(before), Some(after)) if before.at_ms.abs_diff(after.at_ms) <= SAME_MS => {
                (then.next(), now.next())
            }
            (Some(before), Some(after)) if after.at_ms < before.at_ms => (None, now.next()),
            (Some(_), _) => (then.next(), None),
            (None, Some(_)) => (None, now.next()),
        };
        pairs.push((pair.0.cloned(), pair.1.cloned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passage(at_ms: u64, caller: &str) -> Passage {
        Passage {
            at_ms,
            caller: caller.to_owned(),
            ..Passage::default()
        }
    }

    #[test]
    fn turns_stand_beside_those_in_which_the_caller_stopped_at_the_same_time() {
        let then = [
            passage(3000, "a b"),
            passage(9000, "c"),
            passage(20_000, "d"),
        ];
        let now = [passage(2100, "a"), passage(5500, "b"), passage(9300, "c")];
        let pairs = pairs(&then, &now);
        let words = |passage: &Option<Passage>| match passage {
            Some(passage) => passage.caller.clone(),
            None => "-".to_owned(),
        };
        let shown: Vec<String> = pairs
            .iter()
            .map(|(then, now)| format!("{} | {}", words(then), words(now)))
            .collect();
        assert_eq!(shown, ["a b | a", "- | b", "c | c", "d | -"]);
    }

    #[test]
    fn an_answer_is_shown_by_its_latency() {
        let answered = Passage {
            assistant: "Hello.".to_owned(),
            voice_to_voice_ms: Some(612),
            interrupted: true,
            ..passage(4120, "Hi.")
        };
        let lines: Vec<String> = answered.lines().collect();
        assert_eq!(
            lines,
            [
                "    4.12 s  caller     Hi.",
                "   +612 ms  assistant  Hello. [interrupted]",
            ]
        );
    }
}
