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
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};

use hound::{SampleFormat, WavSpec, WavWriter};

use crate::audio::Frame;
use crate::ids::CallId;

/// Frames that may wait: two seconds of 40 calls.
const QUEUE: usize = 4000;

/// Ticks between header updates.
const FLUSH_EVERY: u64 = 50;

/// A jump in the tick index beyond this is a mistake and not filled: ten minutes.
const LARGEST_GAP: u64 = 30_000;

enum Command {
    Frame(CallId, u64, Box<(Frame, Frame)>),
    Finish(CallId),
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

    /// The call is over; its file is complete shortly after.
    pub fn finish(&self, call: CallId) {
        self.queue_or_count(Command::Finish(call));
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

struct Recording {
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
            Job::Do(Command::Finish(call)) => {
                let finished = recordings
                    .remove(&call)
                    .map(|recording| recording.writer.finalize());
                if let Some(Err(error)) = finished {
                    tracing::error!(%call, %error, "the recording's end is lost");
                }
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
        Ok(Self { writer, next: 0 })
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
mod tests {
    use super::*;

    fn frame(value: i16) -> Frame {
        let mut frame = Frame::SILENCE;
        frame.samples_mut().fill(value);
        frame
    }

    #[test]
    fn lost_ticks_are_silence_so_that_both_sides_stay_aligned_and_an_unfinished_file_plays() {
        let path =
            std::env::temp_dir().join(format!("offhook-recording-{}.wav", std::process::id()));
        let recorder = Recorder::start().expect("thread");
        let call = CallId::from_random([7; 16]);
        recorder.open(call, &path).expect("file");
        for index in (0..100).filter(|index| *index != 30) {
            let value = i16::try_from(index).expect("small");
            recorder.frame(call, index, frame(value), frame(-value));
        }
        // Opening another waits for everything before it; the first file was never finished.
        let other = CallId::from_random([8; 16]);
        let other_path = path.with_extension("2.wav");
        recorder.open(other, &other_path).expect("file");
        let reader = hound::WavReader::open(&path).expect("plays");
        assert_eq!(reader.spec().channels, 2);
        let samples: Vec<i16> = reader.into_samples().map(|s| s.expect("sample")).collect();
        assert_eq!(samples.len(), 100 * 160 * 2);
        let at = |index: usize| (samples[index * 320], samples[index * 320 + 1]);
        assert_eq!(at(29), (29, -29));
        assert_eq!(at(30), (0, 0));
        assert_eq!(at(31), (31, -31));
        std::fs::remove_file(path).expect("remove");
        std::fs::remove_file(other_path).expect("remove");
    }
}
