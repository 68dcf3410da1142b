//! People talk with an assistant over the telephone: how fast it answers, whether it lets them
//! finish, and whether it lets itself be interrupted by what should, and by nothing else.
//!
//! ```text
//! parts ─▶ sentences      recordings, `offhook call`: voice to voice and its parts
//!          pauses         numbers and sentences with pauses inside: false cut-ins
//!          interruption   the caller speaks over the assistant: silence, yielding
//!          history        what is remembered of what was interrupted, against what was heard
//!          backchannels   "mm-hm" over the assistant            ┐ dips, repeated words,
//!          noises         a dog, a siren over the assistant     ┘ yielding for nothing
//!          callers        several at once
//! ```
//!
//! Each part starts a server of its own, with the assistants that it compares.

mod callers;
mod following;
mod history;
mod interruption;
mod material;
mod overlap;
mod pauses;
mod sentences;
mod talker;
mod variant;

use std::path::Path;

use toml::Table;

use crate::Result;
use crate::load::Watch;
use crate::options::Options;
use crate::report::{Findings, Report};
use crate::server::{Server, Setup};
use crate::speech::{self, Line};
use crate::voices::Voices;
use variant::{Variant, set};

/// The assistant that answers when nothing else is configured.
const DEMO: &str = include_str!("../../../src/config/demo-assistant.toml");
/// Factors of the policy's waits, or values of `--knob`, where `--knob-value` has no others.
const KNOB_VALUES: [f64; 3] = [0.5, 0.75, 1.5];
/// Everything made at random is made from this.
const SEED: u64 = 20_260;

/// What can be asked for, beside the options of every bench.
pub(crate) const OPTIONS: [&str; 18] = [
    "turns",
    "comparison-turns",
    "turns-per-call",
    "codec",
    "cases",
    "curve-cases",
    "knob",
    "knob-value",
    "interruptions",
    "model",
    "backchannels",
    "noises",
    "noise-dir",
    "callers",
    "turns-per-caller",
    "seed",
    "voice",
    "made",
];

type Part = fn(&mut Bench<'_>) -> Result<Findings>;

/// In this order where none is named.
const PARTS: [(&str, Part); 7] = [
    ("sentences", sentences::run),
    ("pauses", pauses::run),
    ("interruption", interruption::run),
    ("history", history::run),
    ("backchannels", overlap::backchannels),
    ("noises", overlap::noises),
    ("callers", callers::run),
];

/// What the parts share.
struct Bench<'a> {
    options: &'a Options,
    voices: Option<Voices>,
    /// Of `interruption`, for `history`.
    interruptions: Option<interruption::Interruptions>,
}

impl Bench<'_> {
    /// The assistant that is measured.
    fn demo(&self) -> Result<Table> {
        let configured = Setup::new(self.options)?.configured("demo");
        configured.map_or_else(|| Ok(DEMO.parse()?), Ok)
    }

    /// What recorded people say.
    fn lines(&self) -> Result<Vec<Line>> {
        speech::lines(self.options)
    }

    fn voices(&mut self) -> Result<&mut Voices> {
        let voices = match self.voices.take() {
            Some(voices) => voices,
            None => Voices::new(self.options)?,
        };
        Ok(self.voices.insert(voices))
    }

    fn seed(&self) -> Result<u64> {
        self.options.number("seed", SEED)
    }

    fn knob_values(&self) -> Result<Vec<f64>> {
        if self.options.number("curve-cases", 1)? == 0 {
            return Ok(Vec::new());
        }
        let given = self.options.all("knob-value");
        if given.is_empty() {
            return Ok(KNOB_VALUES.to_vec());
        }
        let read = |text: &String| {
            let number = text.parse();
            number.map_err(|_| format!("--knob-value: {text:?} is no number").into())
        };
        given.iter().map(read).collect()
    }

    /// Whether what is switched off is compared with what is on.
    fn is_compared(&self) -> bool {
        self.options.text("comparison-turns") != Some("0")
    }

    /// A server that has these assistants and as many lines as any part needs.
    fn server<'v>(&self, variants: impl Iterator<Item = &'v Variant>) -> Result<Server> {
        // The room for calls would be measured while they are made.
        let mut setup = Setup::new(self.options)?.set("limits__calibrate", &false);
        for variant in variants {
            setup = setup.assistant(&variant.user, variant.settings.clone());
        }
        setup.start()
    }
}

/// Runs the parts that are named, or all.
pub(crate) fn run(names: &[String], options: &Options) -> Result<Report> {
    let known = |name: &String| PARTS.iter().any(|(part, _)| part == name);
    if let Some(unknown) = names.iter().find(|name| !known(name)) {
        let parts = PARTS.map(|(part, _)| part).join(", ");
        return Err(format!("there is no part {unknown:?}; the parts are {parts}").into());
    }
    let watch = Watch::start();
    let mut bench = Bench {
        options,
        voices: None,
        interruptions: None,
    };
    let mut all = Findings::default();
    for (name, part) in PARTS {
        if !names.is_empty() && !names.iter().any(|wanted| wanted == name) {
            continue;
        }
        eprintln!("\n{name}");
        match part(&mut bench) {
            Ok(findings) => {
                eprint!("{findings}");
                all.extend(findings);
            }
            // The others are worth having all the same.
            Err(error) => all.note(format!("{name}: it could not be measured: {error}")),
        }
        if let Some(file) = options.text("json") {
            Report::of("conversation", watch.stop(), all.clone()).save(Path::new(file))?;
        }
    }
    Ok(Report::of("conversation", watch.stop(), all))
}
