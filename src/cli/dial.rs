//! `offhook call` and `offhook demo`: callers for people without a phone.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::{Failure, Serve, print};
use crate::audio::{Codec, SampleRate};
use crate::engines::supervisor::find_executable;
use crate::engines::tts::{Tts, TtsConfig};
use crate::engines::worker::Scheduling;
use crate::models::Catalog;
use crate::softphone::{self, CallPlan, Line, Manners, read_sound, read_wav};

/// What the demo's caller says.
const DEMO_LINES: [&str; 3] = [
    "Hello! What time is breakfast?",
    "And how much is parking?",
    "Thank you very much. Goodbye!",
];

/// `offhook call`.
#[derive(Debug, Args)]
pub struct Call {
    /// Whom to call: sip:user@host[:port], with ;transport=tcp or ;transport=tls for those, or
    /// sips:user@host[:port].
    target: String,
    /// Say this WAV file; repeat for more lines, each said when the assistant has answered.
    #[arg(long, value_name = "WAV")]
    play: Vec<PathBuf>,
    /// Keep what was heard.
    #[arg(long, value_name = "WAV")]
    record: Option<PathBuf>,
    /// Keys to press when the greeting is over: 0-9, *, #, A-D.
    #[arg(long, value_name = "KEYS", default_value = "", value_parser = keys)]
    dtmf: String,
    #[command(flatten)]
    manner: Manner,
}

#[derive(Debug, Args)]
struct Manner {
    /// In TLS, verify by the certificates in this PEM file instead of the system's.
    #[arg(long, value_name = "PEM")]
    ca: Option<PathBuf>,
    /// Speak the next line over the answer, this long after it began.
    #[arg(long, value_name = "MS")]
    interrupt_after: Option<u64>,
    /// The assistant has finished when it was quiet for this long.
    #[arg(long, value_name = "MS", default_value_t = 1500)]
    quiet: u64,
    /// Give up waiting for an answer after this long.
    #[arg(long, value_name = "MS", default_value_t = 20_000)]
    reply_timeout: u64,
    /// Mix this WAV file under what is said.
    #[arg(long, value_name = "WAV")]
    noise: Option<PathBuf>,
    /// How much quieter the noise is, in dB.
    #[arg(long, value_name = "DB", default_value_t = 10.0, requires = "noise")]
    snr: f32,
    /// Offer only this codec: opus, G722, PCMU or PCMA. [default: PCMU and PCMA]
    #[arg(long, value_parser = codec)]
    codec: Option<Codec>,
    /// Folder of the server's prepared phrases, to tell holding phrases from replies.
    #[arg(long, value_name = "DIR", default_value = "./data/phrases")]
    phrases: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// `offhook demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// Whom to call.
    #[arg(default_value = "sip:demo@127.0.0.1")]
    target: String,
    /// Say this instead; repeat for more lines.
    #[arg(long, value_name = "TEXT")]
    say: Vec<String>,
    /// Keep what was heard.
    #[arg(long, value_name = "WAV")]
    record: Option<PathBuf>,
    #[command(flatten)]
    serve: Serve,
    #[command(flatten)]
    manner: Manner,
}

fn keys(text: &str) -> Result<String, String> {
    match text
        .chars()
        .all(|key| matches!(key, '0'..='9' | '*' | '#' | 'A'..='D'))
    {
        true => Ok(text.to_owned()),
        false => Err("keys are 0-9, *, #, A-D".to_owned()),
    }
}

fn codec(text: &str) -> Result<Codec, String> {
    Codec::from_name(text).ok_or_else(|| format!("codecs are {}", Codec::names()))
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::Failed(error.to_string())
}

pub(super) async fn call(command: Call) -> Result<(), Failure> {
    let lines = command.play.iter().map(|path| Line::from_file(path));
    let lines = lines.collect::<Result<Vec<Line>, _>>().map_err(failed)?;
    place(
        command.target,
        lines,
        command.dtmf,
        command.record,
        command.manner,
    )
    .await
}

pub(super) async fn demo(command: Demo) -> Result<(), Failure> {
    let texts = match command.say.is_empty() {
        true => DEMO_LINES.map(str::to_owned).to_vec(),
        false => command.say,
    };
    let lines = speak(&command.serve, &texts).await?;
    place(
        command.target,
        lines,
        String::new(),
        command.record,
        command.manner,
    )
    .await
}

/// Makes the caller's lines with the server's own voice model.
async fn speak(serve: &Serve, texts: &[String]) -> Result<Vec<Line>, Failure> {
    let config = serve.config()?;
    let catalog = Catalog::embedded(config.models_folder()).map_err(failed)?;
    let executable =
        find_executable("offhook-tts", config.engines.folder.as_deref()).map_err(failed)?;
    let model = catalog.path_of(&config.engines.tts).map_err(failed)?;
    let runtime = catalog.path_of(&config.engines.runtime).map_err(failed)?;
    let mut voice = TtsConfig::new(executable, model, runtime);
    // Nothing is paced while this runs, and somebody waits for it.
    voice.scheduling = Scheduling::Normal;
    let tts = Tts::start(&voice);
    let mut lines = Vec::new();
    for text in texts {
        let sound = tts.synthesise_at(text, SampleRate::WIDEBAND).await;
        lines.push(Line::new(text, sound.map_err(failed)?));
    }
    tts.shutdown().await;
    Ok(lines)
}

async fn place(
    target: String,
    lines: Vec<Line>,
    keys: String,
    record: Option<PathBuf>,
    manner: Manner,
) -> Result<(), Failure> {
    let noise = match &manner.noise {
        Some(path) => Some((read_sound(path).map_err(failed)?, manner.snr)),
        None => None,
    };
    let plan = CallPlan {
        target,
        ca: manner.ca,
        lines,
        keys,
        manners: Manners {
            quiet: Duration::from_millis(manner.quiet),
            interrupt_after: manner.interrupt_after.map(Duration::from_millis),
            reply_timeout: Duration::from_millis(manner.reply_timeout),
        },
        noise,
        codec: manner.codec,
        phrases: phrases(&manner.phrases),
        record,
    };
    let report = softphone::call(&plan).await.map_err(failed)?;
    match manner.json {
        true => print::json(&report),
        false => print::line(&report.to_string()),
    }
    Ok(())
}

/// The clips of a folder; none where there is no such folder, as on a caller's machine.
fn phrases(folder: &Path) -> Vec<Vec<i16>> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    let clips = paths.filter(|path| path.extension().is_some_and(|extension| extension == "wav"));
    clips.filter_map(|path| read_wav(&path).ok()).collect()
}
