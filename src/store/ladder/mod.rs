//! The SIP messages of every call, gathered beside the calls; the first ones are written at once,
//! the last ones when the call ends.
//!
//! ```text
//! SIP driver ──try_send──▶ bounded queue ──▶ task: table of live calls ──▶ database
//! journal ─────row made, row ended───────────┘        │ full: left out and counted
//! ```

mod table;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Connection, Row};
use time::OffsetDateTime;
use tokio::sync::{mpsc, oneshot};

use crate::ids::CallId;
use crate::record::{CallRecord, CallStatus, KeptSipMessage, SipMessage};

use super::rows::{name_of, named, parsed};
use super::{Store, StoreError, trusted};
use table::{Due, Milestone, Table};

/// Messages that may wait for the task.
const QUEUE: usize = 8192;
/// How long messages are gathered before they are written together.
const WRITE_EVERY: Duration = Duration::from_millis(200);
/// Until what could not be written is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Bytes that wait while the database cannot be written; more are dropped and counted.
const MOST_UNWRITTEN: usize = 16 << 20;

enum Command {
    Message(SipMessage),
    Row {
        sip_call_id: String,
        call: CallId,
        milestone: Milestone,
    },
    Flush(oneshot::Sender<()>),
}

/// A handle to the task that keeps ladders. Cheap to clone; the task ends when the last one is
/// dropped.
#[derive(Clone, Debug)]
pub struct Ladders {
    queue: mpsc::Sender<Command>,
    left_out: Arc<AtomicU64>,
}

impl Ladders {
    /// Starts the task on the current tokio runtime.
    pub fn start(store: Store) -> Self {
        let (queue, commands) = mpsc::channel(QUEUE);
        let left_out = Arc::<AtomicU64>::default();
        tokio::spawn(keep(store, commands, Arc::clone(&left_out)));
        Self { queue, left_out }
    }

    /// Takes a message without waiting. A full queue drops it, and counts.
    pub fn message(&self, message: SipMessage) {
        if self.queue.try_send(Command::Message(message)).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Messages of calls that were not kept for want of room.
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }

    /// A call's row was written.
    pub(super) async fn row(&self, call: &CallRecord) {
        let milestone = match call.status {
            // A call of ours has no Call-ID before its INVITE.
            CallStatus::Ringing if call.sip_call_id.is_empty() => return,
            CallStatus::Scheduled | CallStatus::Queued => return,
            CallStatus::Ringing | CallStatus::InProgress | CallStatus::Forwarding => {
                Milestone::Made
            }
            CallStatus::Ended => Milestone::Ended {
                answered: call.started_at.is_some(),
            },
        };
        for sip_call_id in std::iter::once(&call.sip_call_id).chain(&call.later_call_ids) {
            let command = Command::Row {
                sip_call_id: sip_call_id.clone(),
                call: call.id,
                milestone,
            };
            // An error means that the task is gone, and with it all that it kept.
            let _ = self.queue.send(command).await;
        }
    }

    /// Waits until the ladders of all calls that ended so far were tried.
    pub async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if self.queue.send(Command::Flush(done)).await.is_ok() {
            let _ = flushed.await;
        }
    }
}

async fn keep(store: Store, mut commands: mpsc::Receiver<Command>, left_out: Arc<AtomicU64>) {
    let mut table = Table::new();
    let mut writing = Writing::default();
    let mut counted = 0;
    let mut pause = tokio::time::interval(WRITE_EVERY);
    pause.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(Command::Message(message)) => table.message(Instant::now(), message),
                Some(Command::Row { sip_call_id, call, milestone }) => {
                    table.row(Instant::now(), &sip_call_id, call, milestone);
                }
                Some(Command::Flush(done)) => {
                    writing.write(&store, table.take_due()).await;
                    let _ = done.send(());
                }
                None => break,
            },
            _ = pause.tick() => {
                table.forget_old(Instant::now());
                if writing.may_try(Instant::now()) {
                    writing.write(&store, table.take_due()).await;
                }
            }
        }
        let left_out_here = table.left_out() + writing.dropped;
        left_out.fetch_add(left_out_here - counted, Ordering::Relaxed);
        counted = left_out_here;
    }
    writing.write(&store, table.take_due()).await;
}

/// What waits for a database that cannot be written.
#[derive(Default)]
struct Writing {
    unwritten: Vec<Due>,
    retry_at: Option<Instant>,
    dropped: u64,
}

impl Writing {
    fn may_try(&self, now: Instant) -> bool {
        self.retry_at.is_none_or(|at| at <= now)
    }

    async fn write(&mut self, store: &Store, due: Vec<Due>) {
        self.unwritten.extend(due);
        if self.unwritten.is_empty() {
            return;
        }
        let Err(error) = store.save_sip_messages(&self.unwritten).await else {
            self.unwritten.clear();
            self.retry_at = None;
            return;
        };
        if self.retry_at.is_none() {
            tracing::error!(%error, "SIP messages cannot be written down; they wait");
        }
        self.retry_at = Some(Instant::now() + RETRY);
        self.keep_what_fits();
    }

    /// The oldest stay: they say how a call began.
    fn keep_what_fits(&mut self) {
        let mut bytes = 0;
        self.unwritten.retain(|due| {
            bytes += due.bytes();
            let fits = bytes <= MOST_UNWRITTEN;
            if !fits {
                self.dropped += u64::try_from(due.messages.len()).unwrap_or(u64::MAX);
            }
            fits
        });
    }
}

impl Store {
    async fn save_sip_messages(&self, due: &[Due]) -> Result<(), StoreError> {
        let mut connection = self.pool.acquire().await?;
        let saved = save_together(&mut connection, due).await;
        trusted(connection, saved)
    }

    /// The SIP messages of a call in the order of their time, all its legs together.
    ///
    /// # Errors
    /// Where the statement fails or a row is unreadable.
    pub async fn sip_messages(&self, call: CallId) -> Result<Vec<KeptSipMessage>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM sip_messages WHERE call_id = $1 ORDER BY at_us, sip_call_id, position",
        )
        .bind(call.to_string())
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(kept).collect()
    }
}

/// Nothing where the call was deleted meanwhile.
async fn save_together(connection: &mut AnyConnection, due: &[Due]) -> Result<(), StoreError> {
    let mut transaction = connection.begin().await?;
    for Due { call, messages } in due {
        for kept in messages {
            save_sip_message(&mut transaction, *call, kept).await?;
        }
    }
    transaction.commit().await?;
    Ok(())
}

async fn save_sip_message(
    connection: &mut AnyConnection,
    call: CallId,
    kept: &KeptSipMessage,
) -> Result<(), StoreError> {
    let message = &kept.message;
    sqlx::query(
        "INSERT INTO sip_messages (call_id, sip_call_id, position, at_us, direction, transport,
             local_address, peer_address, message)
         SELECT id, $2, $3, $4, $5, $6, $7, $8, $9 FROM calls WHERE id = $1
         ON CONFLICT (call_id, sip_call_id, position) DO NOTHING",
    )
    .bind(call.to_string())
    .bind(&kept.sip_call_id)
    .bind(i64::from(kept.position))
    .bind(microseconds(message.at))
    .bind(name_of(&message.direction))
    .bind(name_of(&message.transport))
    .bind(message.local.to_string())
    .bind(message.peer.to_string())
    .bind(message.bytes.as_slice())
    .execute(connection)
    .await?;
    Ok(())
}

fn kept(row: &AnyRow) -> Result<KeptSipMessage, StoreError> {
    let position: i64 = row.try_get("position")?;
    Ok(KeptSipMessage {
        sip_call_id: row.try_get("sip_call_id")?,
        position: u32::try_from(position).map_err(|_| StoreError::Unreadable {
            column: "position",
            value: position.to_string(),
        })?,
        message: SipMessage {
            at: moment(row.try_get("at_us")?)?,
            direction: parsed(row, "direction", named)?,
            transport: parsed(row, "transport", named)?,
            local: parsed(row, "local_address", |text| text.parse().ok())?,
            peer: parsed(row, "peer_address", |text| text.parse().ok())?,
            bytes: row.try_get("message")?,
        },
    })
}

fn microseconds(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1000).unwrap_or(i64::MAX)
}

fn moment(microseconds: i64) -> Result<OffsetDateTime, StoreError> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(microseconds) * 1000).map_err(|_| {
        StoreError::Unreadable {
            column: "at_us",
            value: microseconds.to_string(),
        }
    })
}
