//! Whether a caller has finished, judged by the sound of their last seconds: the Smart Turn model,
//! one thread for all calls.
//!
//! ```text
//!  call, at a short silence ── last 8 s ─▶ bounded queue ─▶ "turn" thread: features, model
//!       ▲                                    │ full: left out, and counted
//!       └──────────── (end of the speech, probability) ◀────┘
//! ```
//!
//! Its judgement is one more piece of evidence: without it, turns end by transcript and silence.

mod features;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use ort::session::Session;
use ort::value::Tensor;
use rustix::process::setpriority_process;
use tokio::sync::mpsc;

use self::features::{BANDS, FRAMES, Features, SAMPLES};
use super::EngineError;
use super::onnx::{self, unusable};
use crate::audio::{SampleRate, resample};

/// What is looked at, in ms; more before it changes nothing.
pub const LOOKED_AT_MS: u64 = 8_000;
/// Judgements that may wait; each takes some 50 ms.
const MOST_WAITING: usize = 16;
/// Judgements that a call may leave unread.
const MOST_UNREAD: usize = 8;
/// Behind everything that serves calls at once, before the workers.
const NICE: i32 = 10;

/// Counters of the judge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TurnSnapshot {
    /// Silences judged.
    pub judged: u64,
    /// Silences left out because too many waited, or because the model failed.
    pub left_out: u64,
}

#[derive(Debug, Default)]
struct Counters {
    judged: AtomicU64,
    left_out: AtomicU64,
}

/// What was judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judgement {
    /// Where the speech ends, as the call named the place.
    pub end: u64,
    /// How likely the caller has finished, from 0 to 1.
    pub probability: f32,
}

struct Job {
    audio: Arc<[i16]>,
    rate: SampleRate,
    end: u64,
    judgements: mpsc::Sender<Judgement>,
}

/// The judge of all calls. Cheap to clone; the thread ends with the last clone.
#[derive(Clone, Debug)]
pub struct TurnJudge {
    jobs: SyncSender<Job>,
    counters: Arc<Counters>,
}

impl TurnJudge {
    /// Loads the runtime and the model, tries the model once and starts the thread.
    ///
    /// # Errors
    /// [`EngineError::ModelMissing`] or [`EngineError::ModelUnusable`], naming the file.
    pub fn open(model: &Path, onnxruntime: &Path) -> Result<Self, EngineError> {
        let mut ear = Ear {
            session: onnx::open_session(model, onnxruntime, 1)?,
            features: Features::new(),
        };
        let silence = [0; SAMPLES];
        ear.judge(&silence)
            .map_err(|error| unusable(model, &error))?;
        let (jobs, waiting) = sync_channel(MOST_WAITING);
        let counters = Arc::<Counters>::default();
        let shared = Arc::clone(&counters);
        std::thread::Builder::new()
            .name("turn".into())
            .spawn(move || {
                // Without it, it still works.
                let _ = setpriority_process(Some(rustix::thread::gettid()), NICE);
                ear.run(&waiting, &shared);
            })
            .map_err(|error| EngineError::Internal {
                detail: format!("no thread: {error}"),
            })?;
        Ok(Self { jobs, counters })
    }

    /// The counters.
    pub fn snapshot(&self) -> TurnSnapshot {
        TurnSnapshot {
            judged: self.counters.judged.load(Ordering::Relaxed),
            left_out: self.counters.left_out.load(Ordering::Relaxed),
        }
    }
}

/// One call's way to the judge and back.
#[derive(Debug)]
pub struct TurnStream {
    judge: Option<TurnJudge>,
    judgements: mpsc::Sender<Judgement>,
    unread: mpsc::Receiver<Judgement>,
}

impl TurnStream {
    /// A stream to a judge, or to none, which never says a word.
    pub fn new(judge: Option<TurnJudge>) -> Self {
        let (judgements, unread) = mpsc::channel(MOST_UNREAD);
        Self {
            judge,
            judgements,
            unread,
        }
    }

    /// Has speech judged that ends at `end`, with the silence after it. There is no answer where
    /// too many wait already. Never blocks.
    pub fn judge(&self, audio: Arc<[i16]>, rate: SampleRate, end: u64) {
        let Some(judge) = &self.judge else {
            return;
        };
        let job = Job {
            audio,
            rate,
            end,
            judgements: self.judgements.clone(),
        };
        if judge.jobs.try_send(job).is_err() {
            judge.counters.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The next judgement. Cancellation-safe. Pends while there is none.
    pub async fn next(&mut self) -> Judgement {
        match self.unread.recv().await {
            Some(judgement) => judgement,
            // Not reached: this stream itself keeps a sender.
            None => std::future::pending().await,
        }
    }
}

/// The thread's side.
struct Ear {
    session: Session,
    features: Features,
}

impl Ear {
    fn run(mut self, jobs: &Receiver<Job>, counters: &Counters) {
        while let Ok(job) = jobs.recv() {
            // Narrowband fed as it is would be judged, and wrongly.
            let audio = resample::whole(&job.audio, job.rate, SampleRate::WIDEBAND);
            match self.judge(&audio) {
                Ok(probability) => {
                    counters.judged.fetch_add(1, Ordering::Relaxed);
                    let end = job.end;
                    // A call that does not listen, or is over, does without.
                    let _ = job.judgements.try_send(Judgement { end, probability });
                }
                Err(error) => {
                    let before = counters.left_out.fetch_add(1, Ordering::Relaxed);
                    if before.is_multiple_of(1000) {
                        tracing::error!(%error, "ends of turns are not judged by their sound");
                    }
                }
            }
        }
    }

    /// Probability that the speaker has finished, of samples at 16 kHz.
    fn judge(&mut self, samples: &[i16]) -> Result<f32, ort::Error> {
        let features = self.features.of(samples);
        let outputs = self.session.run(ort::inputs![
            "input_features" => Tensor::from_array(([1, BANDS, FRAMES], features))?,
        ])?;
        let output = outputs
            .get("logits")
            .ok_or_else(|| ort::Error::new("no output logits"))?;
        let (_, probabilities) = output.try_extract_tensor::<f32>()?;
        match probabilities {
            [probability] if (0.0..=1.0).contains(probability) => Ok(*probability),
            other => Err(ort::Error::new(format!("it says {other:?}"))),
        }
    }
}

#[cfg(test)]
mod tests;
