//! Voice activity detection: Silero, one thread for all calls.
//!
//! ```text
//!  call 1: push 160 samples ─► window of 256 ─┐
//!  call 2: push 160 samples ─► window of 256 ─┼─► bounded channel ─► "vad" thread: one run for
//!  call n: ...                                ┘                      all windows that wait
//!      ▲                                                                │
//!      └──────────── (end position, probability) ◄──────────────────────┘
//! ```
//!
//! A window is 32 ms, which the model sees behind the last 4 ms of the window before it: at 8 kHz,
//! or at 16 kHz where the call has it, which are different models in one file. Its recurrent state belongs to the call. When the thread falls behind,
//! windows are dropped and counted; positions stay right.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use ort::session::Session;
use ort::value::Tensor;
use tokio::sync::mpsc;

use super::EngineError;
use super::onnx::{self, unusable};

/// Samples of one window at 8 kHz: 32 ms.
pub const WINDOW_SAMPLES: usize = 256;
/// Samples of the window before that the model sees again, at 8 kHz.
const CONTEXT_SAMPLES: usize = 32;
/// The same at 16 kHz.
const WIDE_WINDOW_SAMPLES: usize = 2 * WINDOW_SAMPLES;
const WIDE_CONTEXT_SAMPLES: usize = 2 * CONTEXT_SAMPLES;
/// The recurrent state is two layers of this.
const STATE_SIZE: usize = 128;
/// Windows in one run of the model.
const MAX_BATCH: usize = 64;
/// Windows that may wait for the thread: half a second of 64 calls.
const MAX_WAITING: usize = 1024;
/// Results that may lie unread: two seconds of a call that does not look.
const MAX_UNREAD: usize = 64;

/// How likely one window holds speech.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpeechProbability {
    /// Position just behind the window's last sample, counted from the stream's first.
    pub end: u64,
    /// From 0 to 1.
    pub probability: f32,
}

/// Counters of the detector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VadSnapshot {
    /// Windows judged.
    pub windows: u64,
    /// Runs of the model; `windows / runs` is the mean batch.
    pub runs: u64,
    /// Windows dropped because the thread was behind, and results that nobody read.
    pub dropped: u64,
    /// Windows lost because a run failed.
    pub failed: u64,
}

#[derive(Default)]
struct Counters {
    windows: AtomicU64,
    runs: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

/// The detector of all calls. Cheap to clone; the thread ends with the last clone and stream.
#[derive(Clone)]
pub struct Vad {
    windows: SyncSender<Window>,
    counters: Arc<Counters>,
}

/// Which of the two models.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Rate {
    #[default]
    Narrow,
    Wide,
}

impl Rate {
    fn hz(self) -> i64 {
        match self {
            Self::Narrow => 8_000,
            Self::Wide => 16_000,
        }
    }

    fn window(self) -> usize {
        match self {
            Self::Narrow => WINDOW_SAMPLES,
            Self::Wide => WIDE_WINDOW_SAMPLES,
        }
    }

    fn context(self) -> usize {
        match self {
            Self::Narrow => CONTEXT_SAMPLES,
            Self::Wide => WIDE_CONTEXT_SAMPLES,
        }
    }
}

/// What the model remembers of a call. Locked by the thread only.
struct Memory {
    state: [f32; 2 * STATE_SIZE],
    context: [f32; WIDE_CONTEXT_SAMPLES],
    rate: Rate,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            state: [0.0; 2 * STATE_SIZE],
            context: [0.0; WIDE_CONTEXT_SAMPLES],
            rate: Rate::Narrow,
        }
    }
}

struct Stream {
    memory: Mutex<Memory>,
    results: mpsc::Sender<SpeechProbability>,
}

struct Window {
    stream: Arc<Stream>,
    end: u64,
    rate: Rate,
    /// As many as the rate's window has.
    samples: Vec<f32>,
}

impl Vad {
    /// Loads the runtime and the model, tries the model once and starts the thread.
    ///
    /// # Errors
    /// [`EngineError::ModelMissing`] or [`EngineError::ModelUnusable`], naming the file.
    pub fn open(model: &Path, onnxruntime: &Path) -> Result<Self, EngineError> {
        let mut detector = Detector::load(model, onnxruntime)?;
        detector.prove(model)?;
        let (windows, receiver) = sync_channel(MAX_WAITING);
        let counters = Arc::new(Counters::default());
        let shared = Arc::clone(&counters);
        std::thread::Builder::new()
            .name("vad".into())
            .spawn(move || detector.run(&receiver, &shared))
            .map_err(|error| EngineError::Internal {
                detail: format!("no thread: {error}"),
            })?;
        Ok(Self { windows, counters })
    }

    /// A detector that hears nothing, for a server that has to say that it cannot work: every
    /// window counts as dropped.
    pub fn unavailable() -> Self {
        let (windows, _) = sync_channel(1);
        Self {
            windows,
            counters: Arc::default(),
        }
    }

    /// A stream for one call's audio, starting in silence at position 0.
    pub fn stream(&self) -> VadStream {
        let (results, unread) = mpsc::channel(MAX_UNREAD);
        let stream = Arc::new(Stream {
            memory: Mutex::default(),
            results,
        });
        VadStream {
            vad: self.clone(),
            stream,
            results: unread,
            rate: Rate::Narrow,
            window: Vec::with_capacity(WINDOW_SAMPLES),
            half: false,
            position: 0,
        }
    }

    /// The counters.
    pub fn snapshot(&self) -> VadSnapshot {
        VadSnapshot {
            windows: self.counters.windows.load(Ordering::Relaxed),
            runs: self.counters.runs.load(Ordering::Relaxed),
            dropped: self.counters.dropped.load(Ordering::Relaxed),
            failed: self.counters.failed.load(Ordering::Relaxed),
        }
    }
}

/// One call's way to the detector and back.
pub struct VadStream {
    vad: Vad,
    stream: Arc<Stream>,
    results: mpsc::Receiver<SpeechProbability>,
    rate: Rate,
    window: Vec<f32>,
    /// At 16 kHz: a sample is in that `position` does not count yet.
    half: bool,
    /// In samples at 8 kHz.
    position: u64,
}

impl VadStream {
    /// Takes the next samples, 8 kHz, any number (a frame of 160 as a rule). Never blocks.
    pub fn push(&mut self, samples: &[i16]) {
        self.push_at(Rate::Narrow, samples);
    }

    /// Takes the next samples at 16 kHz. Positions are still counted at 8 kHz.
    pub fn push_wide(&mut self, samples: &[i16]) {
        self.push_at(Rate::Wide, samples);
    }

    fn push_at(&mut self, rate: Rate, samples: &[i16]) {
        if self.rate != rate {
            self.rate = rate;
            // Less than 32 ms, which the other model cannot use.
            self.window.clear();
            self.half = false;
        }
        for sample in samples {
            self.window.push(f32::from(*sample) / 32_768.0);
            self.half = rate == Rate::Wide && !self.half;
            self.position += u64::from(!self.half);
            if self.window.len() == rate.window() {
                self.hand_over();
            }
        }
    }

    fn hand_over(&mut self) {
        let stream = Arc::clone(&self.stream);
        let next = Vec::with_capacity(self.rate.window());
        let window = Window {
            stream,
            end: self.position,
            rate: self.rate,
            samples: std::mem::replace(&mut self.window, next),
        };
        if self.vad.windows.try_send(window).is_err() {
            self.vad.counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The next result, in order of position. Cancellation-safe. Pends while there is none.
    pub async fn next(&mut self) -> SpeechProbability {
        match self.results.recv().await {
            Some(result) => result,
            // Not reached: this stream itself keeps a sender.
            None => std::future::pending().await,
        }
    }

    /// The next result, if there is one.
    pub fn try_next(&mut self) -> Option<SpeechProbability> {
        self.results.try_recv().ok()
    }
}

/// The thread's side.
struct Detector {
    session: Session,
}

impl Detector {
    fn load(model: &Path, onnxruntime: &Path) -> Result<Self, EngineError> {
        // A window takes a tenth of a millisecond: a second thread would cost more than it
        // brings.
        Ok(Self {
            session: onnx::open_session(model, onnxruntime, 1)?,
        })
    }

    /// Runs the model on silence, which shows at once whether it is the model it should be.
    fn prove(&mut self, model: &Path) -> Result<(), EngineError> {
        for rate in [Rate::Narrow, Rate::Wide] {
            let (results, _unread) = mpsc::channel(1);
            let stream = Arc::new(Stream {
                memory: Mutex::default(),
                results,
            });
            let silence = Window {
                stream,
                end: 0,
                rate,
                samples: vec![0.0; rate.window()],
            };
            match self
                .judge(&[silence])
                .map_err(|error| unusable(model, &error))?
                .as_slice()
            {
                [probability] if (0.0..0.5).contains(probability) => {}
                other => {
                    let said = format!("it says {other:?} about silence");
                    return Err(unusable(model, &said));
                }
            }
        }
        Ok(())
    }

    fn run(mut self, windows: &Receiver<Window>, counters: &Counters) {
        // Windows of a stream that is in the batch already: they need its new state.
        let mut later: VecDeque<Window> = VecDeque::new();
        loop {
            let mut batch: Vec<Window> = Vec::with_capacity(MAX_BATCH);
            for window in std::mem::take(&mut later) {
                place(window, &mut batch, &mut later);
            }
            if batch.is_empty() {
                match windows.recv() {
                    Ok(window) => batch.push(window),
                    Err(_) => return,
                }
            }
            while batch.len() < MAX_BATCH && later.len() < MAX_WAITING {
                match windows.try_recv() {
                    Ok(window) => place(window, &mut batch, &mut later),
                    Err(_) => break,
                }
            }
            self.serve(&batch, counters);
        }
    }

    fn serve(&mut self, batch: &[Window], counters: &Counters) {
        let count = batch.len() as u64;
        match self.judge(batch) {
            Ok(probabilities) => {
                counters.runs.fetch_add(1, Ordering::Relaxed);
                counters.windows.fetch_add(count, Ordering::Relaxed);
                for (window, probability) in batch.iter().zip(probabilities) {
                    let result = SpeechProbability {
                        end: window.end,
                        probability,
                    };
                    if window.stream.results.try_send(result).is_err() {
                        counters.dropped.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
            Err(error) => {
                // Counted for every window, but logged once in a while only.
                if counters.failed.fetch_add(count, Ordering::Relaxed) % 1000 < count {
                    tracing::error!(%error, "voice activity detection failed");
                }
            }
        }
    }

    /// Runs the model once over windows of different streams, all at one rate, and updates their
    /// memories.
    fn judge(&mut self, batch: &[Window]) -> Result<Vec<f32>, ort::Error> {
        let count = batch.len();
        let rate = batch.first().map_or(Rate::Narrow, |window| window.rate);
        let inputs = rate.context() + rate.window();
        let mut input = Vec::with_capacity(count * inputs);
        let mut state = vec![0.0f32; 2 * count * STATE_SIZE];
        for (index, window) in batch.iter().enumerate() {
            let mut memory = window.stream.lock();
            if memory.rate != rate {
                *memory = Memory {
                    rate,
                    ..Memory::default()
                };
            }
            input.extend_from_slice(&memory.context[..rate.context()]);
            input.extend_from_slice(&window.samples);
            for (layer, values) in memory.state.chunks_exact(STATE_SIZE).enumerate() {
                let start = (layer * count + index) * STATE_SIZE;
                state[start..start + STATE_SIZE].copy_from_slice(values);
            }
        }
        let outputs = self.session.run(ort::inputs![
            "input" => Tensor::from_array(([count, inputs], input))?,
            "state" => Tensor::from_array(([2, count, STATE_SIZE], state))?,
            "sr" => Tensor::from_array(([0usize; 0], vec![rate.hz()]))?,
        ])?;
        let output = |name: &str| {
            outputs
                .get(name)
                .ok_or_else(|| ort::Error::new(format!("no output {name}")))
        };
        let (_, probabilities) = output("output")?.try_extract_tensor::<f32>()?;
        let (_, state) = output("stateN")?.try_extract_tensor::<f32>()?;
        if probabilities.len() != count || state.len() != 2 * count * STATE_SIZE {
            return Err(ort::Error::new("outputs of another size than the batch"));
        }
        for (index, window) in batch.iter().enumerate() {
            let mut memory = window.stream.lock();
            for (layer, values) in memory.state.chunks_exact_mut(STATE_SIZE).enumerate() {
                let start = (layer * count + index) * STATE_SIZE;
                values.copy_from_slice(&state[start..start + STATE_SIZE]);
            }
            memory.context[..rate.context()]
                .copy_from_slice(&window.samples[rate.window() - rate.context()..]);
        }
        Ok(probabilities.to_vec())
    }
}

impl Stream {
    fn lock(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts a window into the batch, or behind it where its stream is in there already or the batch is
/// at the other rate.
fn place(window: Window, batch: &mut Vec<Window>, later: &mut VecDeque<Window>) {
    let same = |other: &Window| Arc::ptr_eq(&other.stream, &window.stream);
    let fits = batch.first().is_none_or(|first| first.rate == window.rate);
    if !fits || batch.len() == MAX_BATCH || batch.iter().any(same) || later.iter().any(same) {
        later.push_back(window);
    } else {
        batch.push(window);
    }
}

#[cfg(test)]
mod tests;
