//! `offhook-tts`: the speech worker. Links Piper and espeak-ng (GPL-3-or-later), and so is
//! GPL-3 as distributed; nothing else of Offhook links it.
//!
//! ```text
//!   text ─► phonemes (espeak-ng, one lock) ─► sentence by sentence: inference ─► shape ─► 8 or 16 kHz
//! ```

mod engine;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use offhook::audio::SampleRate;
use offhook::engines::EngineError;
use offhook::engines::ipc::samples_to_payload;
use offhook::engines::tts::{Spoken, TtsFacts, TtsProtocol};
use offhook::engines::worker::{self, Job, Jobs, Loaded};

use engine::Engine;

/// The speech worker of Offhook; started by `offhook`.
#[derive(Parser)]
struct Arguments {
    /// Piper voice (.onnx)
    #[arg(long)]
    model: PathBuf,
    /// Description of the voice [default: the model's path with .json added]
    #[arg(long)]
    description: Option<PathBuf>,
    /// libonnxruntime.so
    #[arg(long)]
    onnxruntime: PathBuf,
    /// Threads for one clause
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Clauses at once, each with a copy of the model
    #[arg(long, default_value_t = 1)]
    parallel: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    worker::run::<TtsProtocol, _>(|| load(&arguments), |engines, jobs| serve(engines, &jobs))
}

fn load(arguments: &Arguments) -> Result<Loaded<TtsProtocol, Vec<Engine>>, EngineError> {
    let description = arguments.description.clone().unwrap_or_else(|| {
        let mut path = arguments.model.clone().into_os_string();
        path.push(".json");
        path.into()
    });
    let mut engines = Vec::new();
    for _ in 0..arguments.parallel.max(1) {
        let mut engine = Engine::load(
            &arguments.model,
            &description,
            &arguments.onnxruntime,
            arguments.threads.max(1),
        )?;
        // Finds a missing espeak-ng-data now, and spares the first caller the first allocations.
        engine.speak("Ready to speak.", 1.0, SampleRate::TELEPHONE, &|| false)?;
        engines.push(engine);
    }
    let facts = match engines.first() {
        Some(engine) => TtsFacts {
            model_sample_rate: engine.sample_rate(),
            language: engine.language().to_owned(),
        },
        None => {
            return Err(EngineError::Internal {
                detail: "no engine".into(),
            });
        }
    };
    let name = arguments.model.file_stem().unwrap_or_default();
    Ok(Loaded {
        engine: engines,
        model: name.to_string_lossy().into_owned(),
        facts,
    })
}

/// One thread for each engine; the requests go to whichever is free.
fn serve(engines: Vec<Engine>, jobs: &Jobs<TtsProtocol>) {
    std::thread::scope(|scope| {
        for engine in engines {
            scope.spawn(move || {
                let _abort = AbortOnPanic;
                speak_all(engine, jobs);
            });
        }
    });
}

fn speak_all(mut engine: Engine, jobs: &Jobs<TtsProtocol>) {
    while let Some(Job {
        request, responder, ..
    }) = jobs.next()
    {
        let start = Instant::now();
        let cancelled = || {
            responder.progress();
            responder.is_cancelled()
        };
        let rate = match request.sample_rate == SampleRate::WIDEBAND.hz() {
            true => SampleRate::WIDEBAND,
            false => SampleRate::TELEPHONE,
        };
        match engine.speak(&request.text, request.speed, rate, &cancelled) {
            Ok(samples) => {
                let synthesis_ms = u32::try_from(start.elapsed().as_millis()).unwrap_or(u32::MAX);
                responder.done(Spoken { synthesis_ms }, &samples_to_payload(&samples));
            }
            Err(error) => responder.fail(error),
        }
    }
}

/// A worker with a dead thread would look alive and serve nobody; a dead worker is restarted.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}
