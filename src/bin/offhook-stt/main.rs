//! `offhook-stt`: the recogniser's worker. Links whisper.cpp, nothing else does.
//!
//! ```text
//!   8 kHz samples ─► transcribe ─► decode ─► whisper (unsafe, all of it) ─► words
//! ```

mod decode;
mod language;
mod speech;
mod transcribe;
mod whisper;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use offhook::audio::SampleRate;
use offhook::engines::ipc::payload_to_samples;
use offhook::engines::stt::{Effort, SttFacts, SttProtocol};
use offhook::engines::worker::{self, Job, Jobs, Loaded};
use offhook::engines::{EngineError, Priority};
use offhook::ids::LanguageCode;

use transcribe::{Order, Recogniser, Settings};
use whisper::Whisper;

/// The recogniser of Offhook; started by `offhook`.
#[derive(Parser)]
struct Arguments {
    /// Whisper model (ggml)
    #[arg(long)]
    model: PathBuf,
    /// Language that callers speak where a request names none, as a code of two letters
    #[arg(long, default_value = "en")]
    language: LanguageCode,
    /// Threads that compute
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Encoder positions (of 20 ms) looked at beyond the speech; 1500 looks at all 30 s
    #[arg(long, default_value_t = Settings::default().margin)]
    margin: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    worker::run::<SttProtocol, _>(
        || load(&arguments),
        |recogniser, jobs| serve(recogniser, &jobs),
    )
}

fn load(arguments: &Arguments) -> Result<Loaded<SttProtocol, Recogniser>, EngineError> {
    let path = &arguments.model;
    if !path.is_file() {
        let detail = format!("{} is not there; fetch the models first", path.display());
        return Err(EngineError::ModelMissing { detail });
    }
    let unusable = |error: whisper::WhisperError| {
        let detail = format!("{}: {error}", path.display());
        EngineError::ModelUnusable { detail }
    };
    let whisper = Whisper::load(path, arguments.threads).map_err(unusable)?;
    let facts = SttFacts {
        multilingual: whisper.is_multilingual(),
    };
    let settings = Settings {
        margin: arguments.margin,
        ..Settings::default()
    };
    let mut recogniser =
        Recogniser::new(whisper, settings, &arguments.language).map_err(unusable)?;
    // The first pass allocates; nobody should wait for that.
    recogniser.warm().map_err(unusable)?;
    Ok(Loaded {
        engine: recogniser,
        model: name(path),
        facts,
    })
}

fn name(model: &Path) -> String {
    model
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn serve(mut recogniser: Recogniser, jobs: &Jobs<SttProtocol>) {
    while let Some(job) = jobs.next() {
        answer(&mut recogniser, job);
    }
}

fn answer(recogniser: &mut Recogniser, job: Job<SttProtocol>) {
    let Job {
        request,
        payload,
        priority,
        responder,
    } = job;
    let samples = payload_to_samples(&payload);
    let cancelled = || responder.is_cancelled();
    let order = Order {
        samples: &samples,
        rate: match request.sample_rate == SampleRate::WIDEBAND.hz() {
            true => SampleRate::WIDEBAND,
            false => SampleRate::TELEPHONE,
        },
        hint: request.hint.as_deref(),
        language: request.language.as_ref(),
        waiting: priority == Priority::Waiting && request.effort == Effort::Full,
        cancelled: &cancelled,
        // A long stretch takes longer than one sign of life may.
        progress: &|| responder.progress(),
    };
    match recogniser.transcribe(&order) {
        Ok(Some(transcript)) => responder.done(transcript, &[]),
        Ok(None) => responder.fail(EngineError::Cancelled),
        Err(error) => responder.fail(EngineError::Internal {
            detail: error.to_string(),
        }),
    }
}
