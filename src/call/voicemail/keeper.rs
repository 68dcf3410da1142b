//! The one thread that writes messages down, off every call's path.
//!
//! ```text
//!  visit ──try_send──▶ bounded queue ──▶ keeper thread ──▶ ID.wav, ID.json; the row by the journal
//!                          │ full: the frame's place is silence        │
//!                          ▼ and it is counted                         └──▶ the visit: it failed
//! ```

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::visit::Happening;
use crate::audio::Frame;
use crate::ids::{MailboxName, VoicemailId};
use crate::record::{RecordingEnd, Voicemail, VoicemailState};
use crate::store::{Entry, Journal, MessageFile, free_space};

/// Jobs that may wait: two seconds of 40 callers.
const QUEUE: usize = 4000;
/// A jump in time beyond this is a mistake and not filled: a minute of frames.
const LARGEST_GAP: u64 = 3000;

enum Job {
    Open(Box<Voicemail>, mpsc::Sender<Happening>),
    Frame(VoicemailId, u64, Box<Frame>),
    Finish(VoicemailId, RecordingEnd, Duration),
    Discard(VoicemailId),
    Flush(oneshot::Sender<()>),
}

/// A handle to the thread, which ends with the last one. Cheap to clone.
#[derive(Clone, Debug)]
pub struct MessageKeeper {
    queue: SyncSender<Job>,
    lost: Arc<AtomicU64>,
}

impl MessageKeeper {
    /// Starts the thread. Messages go into `data` as long as `minimum_free` bytes are left there.
    ///
    /// # Errors
    /// Where the system has no thread left.
    pub fn start(
        data: &Path,
        minimum_free: u64,
        journal: Journal,
        changes: mpsc::Sender<MailboxName>,
    ) -> io::Result<Self> {
        let (queue, jobs) = sync_channel(QUEUE);
        let keeper = Keeper {
            data: data.to_owned(),
            minimum_free,
            journal,
            changes,
            open: HashMap::new(),
        };
        std::thread::Builder::new()
            .name("voicemail".to_owned())
            .spawn(move || keeper.run(&jobs))?;
        Ok(Self {
            queue,
            lost: Arc::default(),
        })
    }

    /// Jobs lost because the disk was too slow.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Begins a message. Where that fails, or it cannot be gone on with, `visit` is told.
    pub(super) fn open(&self, message: Voicemail, visit: &mpsc::Sender<Happening>) {
        let job = Job::Open(Box::new(message), visit.clone());
        if !self.queue_or_count(job) {
            // A visit that is over needs no word.
            let _ = visit.try_send(Happening::KeeperFailed);
        }
    }

    /// Adds 20 ms; `index` counts frames from the beginning of the message.
    pub(super) fn frame(&self, id: VoicemailId, index: u64, frame: &Frame) {
        self.queue_or_count(Job::Frame(id, index, Box::new(frame.clone())));
    }

    /// The message is over, but for `cut` at its end.
    pub(super) fn finish(&self, id: VoicemailId, end: RecordingEnd, cut: Duration) {
        self.queue_or_count(Job::Finish(id, end, cut));
    }

    /// The message is none.
    pub(super) fn discard(&self, id: VoicemailId) {
        self.queue_or_count(Job::Discard(id));
    }

    /// Waits until everything asked for so far is done.
    pub async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if self.queue.try_send(Job::Flush(done)).is_ok() {
            // An error means that the thread is gone, and with it everything queued.
            let _ = flushed.await;
        }
    }

    fn queue_or_count(&self, job: Job) -> bool {
        let queued = self.queue.try_send(job).is_ok();
        if !queued {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        queued
    }
}

struct Open {
    message: Voicemail,
    file: MessageFile,
    next: u64,
    visit: mpsc::Sender<Happening>,
}

struct Keeper {
    data: PathBuf,
    minimum_free: u64,
    journal: Journal,
    changes: mpsc::Sender<MailboxName>,
    open: HashMap<VoicemailId, Open>,
}

impl Keeper {
    fn run(mut self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            match job {
                Job::Open(message, visit) => self.begin(*message, visit),
                Job::Frame(id, index, frame) => self.add(id, index, &frame),
                Job::Finish(id, end, cut) => self.finish(id, end, cut),
                Job::Flush(done) => {
                    let _ = done.send(());
                }
                Job::Discard(id) => {
                    if let Some(open) = self.open.remove(&id) {
                        open.file.discard();
                        self.journal.write(Entry::NoVoicemail(id));
                    }
                }
            }
        }
        // The server ends: what is open was said until now.
        let open: Vec<VoicemailId> = self.open.keys().copied().collect();
        for id in open {
            self.finish(id, RecordingEnd::Stopped, Duration::ZERO);
        }
    }

    fn begin(&mut self, message: Voicemail, visit: mpsc::Sender<Happening>) {
        let made = check_room(&self.data, self.minimum_free)
            .and_then(|()| MessageFile::create(&self.data, &message));
        match made {
            Ok(file) => {
                let entry = Entry::Voicemail(Box::new(message.clone()));
                self.journal.write(entry);
                let open = Open {
                    message,
                    file,
                    next: 0,
                    visit,
                };
                self.open.insert(open.message.id, open);
            }
            Err(error) => {
                tracing::error!(mailbox = %message.mailbox, %error, "a message cannot be taken");
                // A visit that is over needs no word.
                let _ = visit.try_send(Happening::KeeperFailed);
            }
        }
    }

    fn add(&mut self, id: VoicemailId, index: u64, frame: &Frame) {
        let Some(open) = self.open.get_mut(&id) else {
            return;
        };
        if let Err(error) = open.add(index, frame) {
            tracing::error!(mailbox = %open.message.mailbox, %error, "a message stops here");
            let _ = open.visit.try_send(Happening::KeeperFailed);
        }
    }

    fn finish(&mut self, id: VoicemailId, end: RecordingEnd, cut: Duration) {
        let Some(open) = self.open.remove(&id) else {
            return;
        };
        let Open {
            mut message, file, ..
        } = open;
        let cut = u64::try_from(cut.as_millis()).unwrap_or(u64::MAX);
        message.duration_ms = file.duration_ms().saturating_sub(cut);
        message.state = VoicemailState::New;
        message.ended = Some(end);
        if let Err(error) = file.finish(message.duration_ms, &message) {
            tracing::error!(mailbox = %message.mailbox, %error, "a message's end may be lost");
        }
        tracing::info!(mailbox = %message.mailbox, id = %message.id, %end, "a message was left");
        let mailbox = message.mailbox.clone();
        self.journal.write(Entry::Voicemail(Box::new(message)));
        let _ = self.changes.try_send(mailbox);
    }
}

fn check_room(data: &Path, minimum_free: u64) -> io::Result<()> {
    match free_space(data)?.0 >= minimum_free {
        true => Ok(()),
        false => Err(io::Error::from(io::ErrorKind::StorageFull)),
    }
}

impl Open {
    fn add(&mut self, index: u64, frame: &Frame) -> io::Result<()> {
        let gap = index.saturating_sub(self.next);
        if index < self.next || gap > LARGEST_GAP {
            return Ok(());
        }
        for _ in 0..gap {
            self.file.append(Frame::SILENCE.samples())?;
        }
        self.next = index + 1;
        self.file.append(frame.samples())
    }
}
