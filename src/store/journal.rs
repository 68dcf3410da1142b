//! The one task that writes what calls report, in order, so that no call waits for the disk.
//!
//! ```text
//! call ──try_send──▶ bounded queue ──▶ writer task ──▶ database, and word to the ladders
//!                        │ full: dropped and counted      │ fails: kept as the health's reason
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, oneshot, watch};

use crate::ids::CallId;
use crate::record::{CallRecord, Message, TurnLedger};

use super::{Ladders, Store, StoreError, save_call, save_message, save_turn};

/// Entries that may wait; a call makes about two a turn.
const QUEUE: usize = 4096;

/// What a call reports.
#[derive(Debug)]
pub enum Entry {
    /// The call's own row, new or changed.
    Call(Box<CallRecord>),
    /// One message, with its place in the call.
    Message(CallId, u32, Message),
    /// One turn's ledger, new or changed.
    Turn(CallId, TurnLedger),
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
        tokio::spawn(write_all(store, ladders, commands, health_sender));
        Self {
            queue,
            health,
            dropped: Arc::default(),
        }
    }

    /// Queues an entry without waiting. A full queue drops it, and counts.
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

    /// Waits until everything queued so far was tried.
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

    /// Entries dropped because the queue was full.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

async fn write_all(
    store: Store,
    ladders: Option<Ladders>,
    mut commands: mpsc::Receiver<Command>,
    health: watch::Sender<JournalHealth>,
) {
    while let Some(command) = commands.recv().await {
        match command {
            Command::Write(entry) => {
                let result = write(&store, &entry).await;
                note(&health, &result);
                if let (Ok(()), Entry::Call(call), Some(ladders)) = (&result, &entry, &ladders) {
                    ladders.row(call).await;
                }
            }
            Command::WriteNow(call, done) => {
                let result = store.save_call(&call).await;
                note(&health, &result);
                let written = result.is_ok();
                // The asker may have given up.
                let _ = done.send(result);
                if let (true, Some(ladders)) = (written, &ladders) {
                    ladders.row(&call).await;
                }
            }
            Command::Flush(done) => {
                let _ = done.send(());
            }
        }
    }
    store.close().await;
}

async fn write(store: &Store, entry: &Entry) -> Result<(), StoreError> {
    let mut connection = store.pool.acquire().await?;
    match entry {
        Entry::Call(call) => save_call(&mut connection, call).await,
        Entry::Message(call, position, message) => {
            save_message(&mut connection, *call, *position, message).await
        }
        Entry::Turn(call, turn) => save_turn(&mut connection, *call, turn).await,
    }
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
