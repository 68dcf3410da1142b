//! Stereo recordings, written by one thread off every call's path: caller left, assistant right,
//! aligned by tick to the call's clock.
//!
//! ```text
//! call task ──try_send──▶ bounded queue ──▶ writer thread ──▶ WAV, its header brought up to date
//!                │ full: the frame is lost, and its place  │  every second, so that a killed
//!                ▼ is filled with silence                  ▼  server leaves a file that plays
//! ```

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};

use hound::{SampleFormat, WavSpec, WavWriter};
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use super::command::CommandRefusal;
use super::driver::Driver;
use crate::audio::Frame;
use crate::ids::CallId;
use crate::store::{Entry, Journal};

/// Frames that may wait: a second of 600 calls, 20 MB.
const QUEUE: usize = 30_000;

/// Ticks between header updates.
const FLUSH_EVERY: u64 = 50;

/// A jump in the tick index beyond this is a mistake and not filled: ten minutes.
const LARGEST_GAP: u64 = 30_000;

enum Command {
    Frame(CallId, u64, Box<(Frame, Frame)>),
    Finish(CallId, oneshot::Sender<io::Result<PathBuf>>),
}

enum Job {
    Open(CallId, PathBuf, mpsc::Sender<io::Result<()>>),
    Do(Command),
}

/// A handle to the writer thread. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Recorder {
    queue: SyncSender<Job>,
    lost: Arc<AtomicU64>,
}

impl Recorder {
    /// Starts the thread; it ends with the last handle.
    ///
    /// # Errors
    /// Where the system has no thread left.
    pub fn start() -> io::Result<Self> {
        let (queue, jobs) = mpsc::sync_channel(QUEUE);
        std::thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || write_all(&jobs))?;
        Ok(Self {
            queue,
            lost: Arc::default(),
        })
    }

    /// Makes the file and waits for it; call it before the answer, off the async threads.
    ///
    /// # Errors
    /// Where the folder or file cannot be made: full or read-only disk.
    pub fn open(&self, call: CallId, path: &Path) -> io::Result<()> {
        let (reply, opened) = mpsc::channel();
        let gone = || io::Error::other("the recorder is gone");
        self.queue
            .send(Job::Open(call, path.to_owned(), reply))
            .map_err(|_| gone())?;
        opened.recv().map_err(|_| gone())?
    }

    /// Queues 20 ms without waiting.
    pub fn frame(&self, call: CallId, index: u64, heard: Frame, spoken: Frame) {
        self.queue_or_count(Command::Frame(call, index, Box::new((heard, spoken))));
    }

    /// The call is over; says when its file is complete, and where it is. A receiver that is
    /// closed without a word: the queue was full, and the file ends a second early at most.
    pub fn finish(&self, call: CallId) -> oneshot::Receiver<io::Result<PathBuf>> {
        let (done, finished) = oneshot::channel();
        self.queue_or_count(Command::Finish(call, done));
        finished
    }

    /// Frames lost because the disk was too slow.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn queue_or_count(&self, command: Command) {
        if self.queue.try_send(Job::Do(command)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The recording of one call.
#[derive(Debug)]
pub(super) struct Tape {
    recorder: Recorder,
    call: CallId,
    paused: bool,
}

impl Tape {
    /// Of a call whose file is open.
    pub(super) fn new(recorder: Recorder, call: CallId) -> Self {
        Self {
            recorder,
            call,
            paused: false,
        }
    }

    /// Takes a tick of both sides; while it is paused, their place is silence.
    pub(super) fn frame(&self, index: u64, heard: &Frame, spoken: &Frame) {
        let (heard, spoken) = match self.paused {
            true => (Frame::SILENCE, Frame::SILENCE),
            false => (heard.clone(), spoken.clone()),
        };
        self.recorder.frame(self.call, index, heard, spoken);
    }

    /// Stops or goes on; whether that changed anything.
    pub(super) fn pause(&mut self, pause: bool) -> bool {
        std::mem::replace(&mut self.paused, pause) != pause
    }

    /// The call is over. SHA-256 of the complete file, in hexadecimal.
    ///
    /// # Errors
    /// Where the file's end is lost or cannot be read.
    pub(super) async fn finish(self) -> io::Result<String> {
        let finished = self.recorder.finish(self.call);
        let lost = |_| io::Error::other("the recorder was too busy");
        let path = finished.await.map_err(lost)??;
        let hashed = tokio::task::spawn_blocking(move || sha256(&path)).await;
        hashed.map_err(io::Error::other)?
    }
}

/// Completes a call's recording and writes down its hash.
pub(super) async fn finish(tape: Tape, call: CallId, journal: &Journal) {
    match tape.finish().await {
        Ok(hash) => journal.write(Entry::RecordingHash(call, hash)),
        Err(error) => tracing::error!(%call, %error, "the recording is not hashed"),
    }
}

impl Driver {
    /// Leaves both sides out of the recording from now on, or no longer.
    pub(super) fn pause_recording(&mut self, pause: bool) -> Result<(), CommandRefusal> {
        let tape = self.call.tape.as_mut();
        let tape = tape.ok_or(CommandRefusal::NotNow("the call is not recorded"))?;
        if !tape.pause(pause) {
            let already = match pause {
                true => "the recording is paused already",
                false => "the recording is not paused",
            };
            return Err(CommandRefusal::NotNow(already));
        }
        self.call.line.show(|call| call.recording_paused = pause);
        self.tell(match pause {
            true => "The recording was paused.",
            false => "The recording went on.",
        });
        Ok(())
    }
}

/// SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// Where it cannot be read.
pub fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            let bytes = hash.finalize();
            return Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect());
        }
        hash.update(&buffer[..length]);
    }
}

struct Recording {
    path: PathBuf,
    writer: WavWriter<BufWriter<File>>,
    next: u64,
}

fn write_all(jobs: &Receiver<Job>) {
    let mut recordings: HashMap<CallId, Recording> = HashMap::new();
    while let Ok(job) = jobs.recv() {
        match job {
            Job::Open(call, path, reply) => {
                let opened = Recording::create(&path).map(|recording| {
                    recordings.insert(call, recording);
                });
                let _ = reply.send(opened);
            }
            Job::Do(Command::Frame(call, index, frames)) => {
                let Some(recording) = recordings.get_mut(&call) else {
                    continue;
                };
                if let Err(error) = recording.add(index, &frames.0, &frames.1) {
                    tracing::error!(%call, %error, "the recording stops here");
                    recordings.remove(&call);
                }
            }
            Job::Do(Command::Finish(call, done)) => {
                let recording = recordings.remove(&call);
                let finished = recording.map_or_else(
                    || Err(io::Error::other("it stopped before")),
                    Recording::finish,
                );
                if let Err(error) = &finished {
                    tracing::error!(%call, %error, "the recording's end is lost");
                }
                // Whoever asked may have gone.
                let _ = done.send(finished);
            }
        }
    }
}

impl Recording {
    fn create(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let spec = WavSpec {
            channels: 2,
            sample_rate: 8000,
            bits_per_sample: 16,
            sample_format: SampleFormat::Int,
        };
        let mut writer = WavWriter::create(path, spec).map_err(io_error)?;
        writer.flush().map_err(io_error)?;
        Ok(Self {
            path: path.to_owned(),
            writer,
            next: 0,
        })
    }

    fn finish(self) -> io::Result<PathBuf> {
        self.writer.finalize().map_err(io_error)?;
        Ok(self.path)
    }

    fn add(&mut self, index: u64, heard: &Frame, spoken: &Frame) -> io::Result<()> {
        let gap = index.saturating_sub(self.next);
        if index < self.next || gap > LARGEST_GAP {
            return Ok(());
        }
        for _ in 0..gap {
            self.write(&Frame::SILENCE, &Frame::SILENCE)?;
        }
        self.write(heard, spoken)?;
        self.next = index + 1;
        if self.next.is_multiple_of(FLUSH_EVERY) {
            self.writer.flush().map_err(io_error)?;
        }
        Ok(())
    }

    fn write(&mut self, left: &Frame, right: &Frame) -> io::Result<()> {
        for (left, right) in left.samples().iter().zip(right.samples()) {
            self.writer.write_sample(*left).map_err(io_error)?;
            self.writer.write_sample(*right).map_err(io_error)?;
        }
        Ok(())
    }
}

fn io_error(error: hound::Error) -> io::Error {
    match error {
        hound::Error::IoError(error) => error,
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests;
