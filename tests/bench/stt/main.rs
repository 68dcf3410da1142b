//! Word errors and time of the recogniser's worker, without calls.
//!
//! ```text
//! stt --model FILE [--worker FILE] [--speech FOLDER]... [--codec PCMU|PCMA]
//!     [--noise FILE --snr DB] [--margin POSITIONS]... [--threads N]
//!     [--scheduling idle|nice|normal] [--hint TEXT] [--verbose]
//! ```
//!
//! A folder of speech holds 8 kHz WAV files and `transcripts.tsv` with a header: the file's `name`
//! and its `text` or `digits`. Without one, the spoken numbers beside this file are used. Each
//! margin (1500: the whole context of 30 s) gives one line of the table. Figures and number words
//! count as the same; case and punctuation do not count.
#![allow(clippy::print_stdout, missing_docs)]

mod score;

use std::error::Error;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Parser;
use offhook::audio::codec::through;
use offhook::audio::{Codec, SampleRate, Sound, mix, resample, wav};
use offhook::engines::stt::{Effort, Stt, SttConfig, TranscribeRequest};
use offhook::engines::supervisor::find_executable;
use offhook::engines::worker::Scheduling;
use offhook::engines::{EngineEvent, Priority, Transcript};
use offhook::ids::{CallId, Generation};
use tokio::sync::mpsc;

use score::{Words, errors};

type Failure = Box<dyn Error>;

/// Measures the recogniser's worker.
#[derive(Debug, Parser)]
struct Arguments {
    #[arg(long)]
    model: PathBuf,
    /// [default: the one built with this program]
    #[arg(long)]
    worker: Option<PathBuf>,
    #[arg(long)]
    speech: Vec<PathBuf>,
    #[arg(long, default_value = "PCMU")]
    codec: String,
    #[arg(long, requires = "snr")]
    noise: Option<PathBuf>,
    #[arg(long, allow_hyphen_values = true)]
    snr: Option<f32>,
    #[arg(long)]
    margin: Vec<u16>,
    #[arg(long, default_value_t = 2)]
    threads: u16,
    #[arg(long, default_value = "normal")]
    scheduling: String,
    #[arg(long)]
    hint: Option<String>,
    #[arg(long)]
    verbose: bool,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// One recording and what is said in it.
struct Utterance {
    name: String,
    said: String,
    kind: Words,
    audio: Sound,
}

/// Sums over some utterances.
#[derive(Default)]
struct Tally {
    errors: usize,
    words: usize,
}

impl Tally {
    fn percent(&self) -> f64 {
        100.0 * self.errors as f64 / self.words.max(1) as f64
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = Arguments::parse();
    if arguments.speech.is_empty() {
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench/stt/digits");
        arguments.speech.push(beside);
    }
    let utterances = utterances(&arguments)?;
    println!("| margin | digits wrong | words wrong | cut | mean | p95 | for 3.5 to 4.5 s |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let default = arguments.margin.is_empty().then_some(None);
    let margins = arguments.margin.iter().copied().map(Some);
    for margin in margins.chain(default) {
        measure(&arguments, margin, &utterances).await?;
    }
    Ok(())
}

async fn measure(
    arguments: &Arguments,
    margin: Option<u16>,
    utterances: &[Utterance],
) -> Result<(), Failure> {
    let stt = start(arguments, margin)?;
    stt.ready().await?;
    let (mut digits, mut words) = (Tally::default(), Tally::default());
    let (mut times, mut of_four_seconds, mut cut) = (Vec::new(), Vec::new(), 0);
    for utterance in utterances {
        let started = Instant::now();
        let heard = transcribe(&stt, arguments, utterance).await?;
        let took = started.elapsed().as_secs_f64() * 1e3;
        times.push(took);
        if (3500..4500).contains(&heard.audio_ms) {
            of_four_seconds.push(took);
        }
        cut += usize::from(heard.repetition_cut);
        let (wrong, of) = errors(&utterance.said, &heard.text, utterance.kind);
        let tally = if utterance.kind == Words::Digits {
            &mut digits
        } else {
            &mut words
        };
        tally.errors += wrong;
        tally.words += of;
        if arguments.verbose {
            let Transcript {
                mean_log_probability,
                no_speech_probability,
                ..
            } = heard;
            println!(
                "{}: {wrong} of {of}, {took:.0} ms, {mean_log_probability:.2}, \
                 {no_speech_probability:.2} | {} | {}",
                utterance.name, utterance.said, heard.text,
            );
        }
    }
    stt.shutdown().await;
    let margin = margin.map_or("default".to_owned(), |margin| margin.to_string());
    println!(
        "| {margin} | {:.1} % | {:.1} % | {cut} | {:.0} ms | {:.0} ms | {:.0} ms |",
        digits.percent(),
        words.percent(),
        mean(&times),
        percentile(&mut times, 95),
        mean(&of_four_seconds),
    );
    Ok(())
}

fn start(arguments: &Arguments, margin: Option<u16>) -> Result<Stt, Failure> {
    let worker = match &arguments.worker {
        Some(worker) => worker.clone(),
        None => match option_env!("CARGO_BIN_EXE_offhook-stt") {
            Some(worker) => worker.into(),
            None => find_executable("offhook-stt", None)?,
        },
    };
    let mut config = SttConfig::new(worker, &arguments.model);
    config.threads = arguments.threads;
    config.context_margin = margin;
    config.scheduling = match arguments.scheduling.as_str() {
        "idle" => Scheduling::Idle,
        "nice" => Scheduling::Nice,
        "normal" => Scheduling::Normal,
        other => return Err(format!("no such scheduling: {other}").into()),
    };
    Ok(Stt::start(&config))
}

async fn transcribe(
    stt: &Stt,
    arguments: &Arguments,
    utterance: &Utterance,
) -> Result<Transcript, Failure> {
    let (events, mut arrived) = mpsc::channel(1);
    let request = TranscribeRequest {
        call: CallId::from_random([0; 16]),
        generation: Generation::default(),
        priority: Priority::Waiting,
        audio: utterance.audio.clone(),
        hint: arguments.hint.clone(),
        effort: Effort::Full,
        language: None,
    };
    let _handle = stt.transcribe(request, events)?;
    match arrived.recv().await {
        Some(EngineEvent::Transcript { result, .. }) => Ok(result?),
        other => Err(format!("no transcript: {other:?}").into()),
    }
}

fn utterances(arguments: &Arguments) -> Result<Vec<Utterance>, Failure> {
    let codec = Codec::from_name(&arguments.codec).ok_or("--codec: PCMU or PCMA")?;
    let noise = match &arguments.noise {
        Some(path) => Some((
            read(path, codec.sample_rate())?,
            arguments.snr.unwrap_or(10.0),
        )),
        None => None,
    };
    let mut utterances = Vec::new();
    for folder in &arguments.speech {
        let table = std::fs::read_to_string(folder.join("transcripts.tsv"))?;
        let mut lines = table
            .lines()
            .map(|line| line.split('\t').collect::<Vec<_>>());
        let header = lines.next().unwrap_or_default();
        let column = |wanted: &str| header.iter().position(|name| *name == wanted);
        let name = column("name").ok_or("transcripts.tsv has no column \"name\"")?;
        let (said, kind) = match (column("digits"), column("text")) {
            (Some(digits), _) => (digits, Words::Digits),
            (None, Some(text)) => (text, Words::Any),
            (None, None) => {
                return Err("transcripts.tsv has neither \"text\" nor \"digits\"".into());
            }
        };
        for line in lines {
            let (Some(name), Some(said)) = (line.get(name), line.get(said)) else {
                continue;
            };
            let clean = read(&folder.join(format!("{name}.wav")), codec.sample_rate())?;
            let noisy = match &noise {
                Some((noise, snr)) => mix::at_snr(&clean, noise, *snr),
                None => clean,
            };
            let received = Sound {
                rate: codec.sample_rate(),
                samples: through(codec, &noisy).into(),
            };
            let (name, said) = ((*name).to_owned(), (*said).to_owned());
            utterances.push(Utterance {
                name,
                said,
                kind,
                audio: received,
            });
        }
    }
    Ok(utterances)
}

/// A file at the rate of the codec.
fn read(path: &Path, rate: SampleRate) -> Result<Vec<i16>, Failure> {
    let clip = wav::read(File::open(path)?)?;
    Ok(resample::whole(&clip.samples, clip.rate, rate))
}

fn mean(times: &[f64]) -> f64 {
    times.iter().fold(0.0, |sum, time| sum + time) / times.len().max(1) as f64
}

fn percentile(times: &mut [f64], percent: usize) -> f64 {
    times.sort_by(f64::total_cmp);
    let at = (times.len() * percent / 100).min(times.len().saturating_sub(1));
    times.get(at).copied().unwrap_or_default()
}
