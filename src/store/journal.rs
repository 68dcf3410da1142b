//! The one task that writes what calls report, in order, so that no call waits for the disk.
//!
//! ```text
//! call ──try_send──▶ bounded queue ──▶ writer task ──────▶ database, and word to the ladders
//!                        │ full: dropped     │    ▲ fails: kept as the health's reason
//!                        ▼ and counted       ▼    │
//!                                    bounded backlog, tried again every second
//! ```
//!
//! What could not be written is kept, with everything behind it, until it can: a database that is
//! locked for a minute, or a disk that is full for an hour, costs no words of a call.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sqlx::error::ErrorKind;
use time::OffsetDateTime;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::ids::{AssistantId, CallId, VoicemailId};
use crate::record::{CallDocument, CallRecord, Message, TurnLedger, Voicemail, WebhookDelivery};

use super::{
    Ladders, Store, StoreError, calls, save_call, save_message, save_recording_hash, save_turn,
    trusted, voicemail, webhooks,
};

/// Entries that may wait; a call makes about two a turn.
const QUEUE: usize = 4096;
/// Entries that are kept while the database cannot be written, the oldest first.
const BACKLOG: usize = 65_536;
/// Until the backlog is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What a call reports.
#[derive(Debug)]
pub enum Entry {
    /// The call's own row, new or changed.
    Call(Box<CallRecord>),
    /// What a call was made with.
    Document(CallId, Box<CallDocument>),
    /// One message, with its place in the call.
    Message(CallId, u32, Message),
    /// One turn's ledger, new or changed.
    Turn(CallId, TurnLedger),
    /// SHA-256 of a call's finished recording, in hexadecimal.
    RecordingHash(CallId, String),
    /// A message that is being left, or is complete.
    Voicemail(Box<Voicemail>),
    /// Something for an assistant's server, behind what it was told of the call before.
    Webhook(Box<WebhookDelivery>),
    /// A call that is over shall be analysed by the plan of this assistant, since when.
    AnalysisWanted(CallId, AssistantId, OffsetDateTime),
    /// A message that came to nothing.
    NoVoicemail(VoicemailId),
}

/// Whether the last write worked; the text says why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JournalHealth {
    /// It did, or nothing was written yet.
    Writable,
    /// It did not.
    Failing(String),
}

enum Command {
    Write(Entry),
    WriteNow(Box<CallRecord>, oneshot::Sender<Result<(), StoreError>>),
    Flush(oneshot::Sender<()>),
}

/// A handle to the writer. Cheap to clone; the task ends when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Journal {
    queue: mpsc::Sender<Command>,
    health: watch::Receiver<JournalHealth>,
    dropped: Arc<AtomicU64>,
}

impl Journal {
    /// Starts the writer on the current tokio runtime. `ladders`, where SIP messages are kept,
    /// hear of each call's row.
    pub fn start(store: Store, ladders: Option<Ladders>) -> Self {
        let (queue, commands) = mpsc::channel(QUEUE);
        let (health_sender, health) = watch::channel(JournalHealth::Writable);
        let dropped = Arc::<AtomicU64>::default();
        let writer = Writer {
            store,
            ladders,
            health: health_sender,
            backlog: VecDeque::new(),
            retry_at: None,
            dropped: Arc::clone(&dropped),
        };
        tokio::spawn(writer.run(commands));
        Self {
            queue,
            health,
            dropped,
        }
    }

    /// Queues an entry without waiting. A full queue drops it, and counts; so does a backlog that
    /// is full because the database could not be written for very long.
    pub fn write(&self, entry: Entry) {
        if self.queue.try_send(Command::Write(entry)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes a call's row and waits until it is there. For calls that are not answered yet.
    ///
    /// # Errors
    /// Where the row could not be written.
    pub async fn write_now(&self, call: CallRecord) -> Result<(), StoreError> {
        let (done, written) = oneshot::channel();
        let closed = || StoreError::Statement(sqlx::Error::PoolClosed);
        self.queue
            .send(Command::WriteNow(Box::new(call), done))
            .await
            .map_err(|_| closed())?;
        written.await.map_err(|_| closed())?
    }

    /// Waits until everything queued so far was tried; what cannot be written stays in the backlog.
    pub async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if self.queue.send(Command::Flush(done)).await.is_ok() {
            // An error means that the writer is gone, and with it everything queued.
            let _ = flushed.await;
        }
    }

    /// Whether writes work.
    pub fn health(&self) -> JournalHealth {
        self.health.borrow().clone()
    }

    /// Entries dropped because too many waited, or because the database refused them for good.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

struct Writer {
    store: Store,
    ladders: Option<Ladders>,
    health: watch::Sender<JournalHealth>,
    backlog: VecDeque<Entry>,
    /// When the backlog is tried again, after a failure.
    retry_at: Option<Instant>,
    dropped: Arc<AtomicU64>,
}

impl Writer {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        loop {
            let retry_at = self.retry_at;
            let retry = async {
                match retry_at {
                    None => std::future::pending().await,
                    Some(at) => tokio::time::sleep_until(at).await,
                }
            };
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.obey(command).await,
                    None => break,
                },
                () = retry => self.write_backlog().await,
            }
        }
        self.write_backlog().await;
        self.drop_entries(self.backlog.len());
        self.store.close().await;
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Write(entry) => {
                if self.backlog.len() >= BACKLOG {
                    return self.drop_entries(1);
                }
                self.backlog.push_back(entry);
                // Behind what waits already it would only fail as well.
                if self.backlog.len() == 1 {
                    self.write_backlog().await;
                }
            }
            // A call that is not answered yet has nothing in the backlog.
            Command::WriteNow(call, done) => {
                let result = self.store.save_call(&call).await;
                note(&self.health, &result);
                let written = result.is_ok();
                // The asker may have given up.
                let _ = done.send(result);
                if let (true, Some(ladders)) = (written, &self.ladders) {
                    ladders.row(&call).await;
                }
            }
            Command::Flush(done) => {
                self.write_backlog().await;
                let _ = done.send(());
            }
        }
    }

    /// Writes what waits, oldest first, until something fails that may work later.
    async fn write_backlog(&mut self) {
        self.retry_at = None;
        while let Some(entry) = self.backlog.pop_front() {
            let result = write(&self.store, &entry).await;
            note(&self.health, &result);
            match (result, &entry, &self.ladders) {
                (Ok(()), Entry::Call(call), Some(ladders)) => ladders.row(call).await,
                (Ok(()), _, _) => {}
                (Err(error), _, _) if is_for_good(&error) => self.drop_entries(1),
                (Err(_), _, _) => {
                    self.backlog.push_front(entry);
                    self.retry_at = Some(Instant::now() + RETRY);
                    return;
                }
            }
        }
    }

    fn drop_entries(&self, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.dropped.fetch_add(count, Ordering::Relaxed);
    }
}

/// The entry itself is at fault, such as a message of a call that was deleted meanwhile.
fn is_for_good(error: &StoreError) -> bool {
    let StoreError::Statement(error) = error else {
        return false;
    };
    error.as_database_error().is_some_and(|error| {
        // PostgreSQL's class 22: a value that it cannot hold, such as text with a zero byte.
        let refused = |code: &str| code.len() == 5 && code.starts_with("22");
        !matches!(error.kind(), ErrorKind::Other) || error.code().is_some_and(|code| refused(&code))
    })
}

async fn write(store: &Store, entry: &Entry) -> Result<(), StoreError> {
    let mut connection = store.pool.acquire().await?;
    let written = match entry {
        Entry::Call(call) => save_call(&mut connection, call).await,
        Entry::Document(call, document) => {
            calls::save_document(&mut connection, *call, document).await
        }
        Entry::Message(call, position, message) => {
            save_message(&mut connection, *call, *position, message).await
        }
        Entry::Turn(call, turn) => save_turn(&mut connection, *call, turn).await,
        Entry::RecordingHash(call, hash) => save_recording_hash(&mut connection, *call, hash).await,
        Entry::Voicemail(message) => voicemail::save(&mut connection, message).await,
        Entry::Webhook(delivery) => webhooks::queue(&mut connection, delivery).await,
        Entry::AnalysisWanted(call, assistant, now) => {
            webhooks::want_analysis(&mut connection, *call, assistant, *now).await
        }
        Entry::NoVoicemail(id) => voicemail::forget(&mut connection, *id).await,
    };
    trusted(connection, written)
}

fn note(health: &watch::Sender<JournalHealth>, result: &Result<(), StoreError>) {
    let now = match result {
        Ok(()) => JournalHealth::Writable,
        Err(error) => JournalHealth::Failing(error.to_string()),
    };
    health.send_if_modified(|before| {
        if *before == now {
            return false;
        }
        match &now {
            JournalHealth::Writable => tracing::info!("the database can be written again"),
            JournalHealth::Failing(reason) => {
                tracing::error!(reason, "calls cannot be written down");
            }
        }
        *before = now;
        true
    });
}
