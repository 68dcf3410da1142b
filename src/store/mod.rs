//! What remains of calls: all SQL, and the files beside it.
//!
//! The SQL is written for SQLite and PostgreSQL alike. Nothing here is awaited by a live call:
//! calls hand their events to a [`Journal`], whose one task writes them in order.

mod calls;
mod database;
mod files;
mod journal;
mod keys;
mod ladder;
mod objects;
mod operators;
mod overview;
mod rows;
mod scheduled;
mod schema;
mod statement;
mod voicemail;
mod webhooks;

use std::path::{Path, PathBuf};

use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection, AnyPool, Connection, Row};
use time::OffsetDateTime;

use crate::ids::{CallId, MailboxName, TrunkName};
use crate::record::{CallRecord, CallStatus, EndedBy, EndedReason, Message, TurnLedger};

pub use calls::{CallQuery, StoredCall};
use database::Access;
#[cfg(test)]
use database::CONNECTIONS;
pub use database::{DATABASE_FILE, Database, NoDatabase};
pub use files::{FreeSpace, Sweep, free_space};
pub use journal::{Entry, Journal, JournalHealth};
pub use keys::ApiKey;
pub use ladder::Ladders;
pub use objects::{Object, ObjectKind, ObjectQuery, Origin, Saved};
pub use operators::{BadOperator, hash_password, is_password, operator_name};
pub use overview::{CountedCalls, Every, KeptTurn, Overview};
use rows::{Timestamp, name_of};
pub use scheduled::ScheduledCall;
pub use statement::Times;
pub use voicemail::{MessageFile, RecoveredMailboxes, message_path};

/// The server is at fault in all of these; a call that meets one is refused with 503 or goes on
/// unrecorded, and trying again may help.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder or the file could not be made or opened.
    #[error("cannot open the database {database}: {source}")]
    Open {
        /// Which.
        database: Database,
        /// Why.
        source: sqlx::Error,
    },
    /// The data folder could not be made.
    #[error("cannot make the data folder {}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The schema could not be brought up to date.
    #[error("cannot bring the database's schema up to date: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A statement failed.
    #[error("database: {0}")]
    Statement(#[from] sqlx::Error),
    /// A file could not be deleted.
    #[error("cannot delete {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A stored value is not what this version writes.
    #[error("the database holds an unreadable {column}: {value:?}")]
    Unreadable {
        /// The column.
        column: &'static str,
        /// What it holds.
        value: String,
    },
}

/// All that is kept. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    pool: AnyPool,
}

impl Store {
    /// Opens the SQLite database of a data folder; see [`Self::open_database`].
    ///
    /// # Errors
    /// Where the folder or the file cannot be made, read or written.
    pub async fn open(data: &Path) -> Result<Self, StoreError> {
        Self::open_database(&Database::Folder(data.to_owned())).await
    }

    /// Opens a database, making SQLite's folder and file where they are missing, and brings its
    /// schema up to date.
    ///
    /// # Errors
    /// Where it cannot be made, reached, read or written.
    pub async fn open_database(database: &Database) -> Result<Self, StoreError> {
        if let Database::Folder(folder) = database {
            std::fs::create_dir_all(folder).map_err(|source| StoreError::Folder {
                path: folder.clone(),
                source,
            })?;
        }
        let pool = database.connect(Access::Create).await?;
        schema::migrator(database).run(&pool).await?;
        Ok(Self { pool })
    }

    /// Opens an existing database to read it; `None` where there is none yet.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub async fn open_existing(database: &Database) -> Result<Option<Self>, StoreError> {
        Self::open_with(database, Access::Read).await
    }

    /// Opens an existing database to change it beside a running server; `None` where there is
    /// none yet. The schema is the server's business.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub async fn open_to_change(database: &Database) -> Result<Option<Self>, StoreError> {
        Self::open_with(database, Access::Change).await
    }

    async fn open_with(database: &Database, access: Access) -> Result<Option<Self>, StoreError> {
        if !database.exists() {
            return Ok(None);
        }
        let pool = database.connect(access).await?;
        Ok(Some(Self { pool }))
    }

    /// Proves that the database can be written now, by writing down that the server is alive.
    ///
    /// # Errors
    /// Where it cannot.
    pub async fn beat(&self, now: OffsetDateTime) -> Result<(), StoreError> {
        let mut connection = self.pool.acquire().await?;
        let beaten = sqlx::query(
            "INSERT INTO heartbeat (id, beat_at) VALUES (1, $1) \
             ON CONFLICT (id) DO UPDATE SET beat_at = excluded.beat_at",
        )
        .bind(Timestamp(now).to_string())
        .execute(&mut *connection)
        .await;
        trusted(connection, beaten.map(drop).map_err(StoreError::from))
    }

    /// Writes a call's row, new or changed. Messages and turns are not touched.
    ///
    /// # Errors
    /// Where the statement fails.
    pub async fn save_call(&self, call: &CallRecord) -> Result<(), StoreError> {
        let mut connection = self.pool.acquire().await?;
        let saved = save_call(&mut connection, call).await;
        trusted(connection, saved)
    }

    /// Ends every call that a crash left open and returns which. They ended when the server last
    /// showed a sign of life, or at `now` where it never did.
    ///
    /// # Errors
    /// Where a statement fails.
    pub async fn close_open_calls(&self, now: OffsetDateTime) -> Result<Vec<CallId>, StoreError> {
        let beat: Option<String> = sqlx::query_scalar("SELECT beat_at FROM heartbeat")
            .fetch_optional(&self.pool)
            .await?;
        let closed = sqlx::query(
            "UPDATE calls SET status = $1, ended_reason = $3, ended_by = $4, ended_at = CASE \
             WHEN COALESCE(started_at, created_at) > $2 THEN COALESCE(started_at, created_at) ELSE $2 END \
             WHERE status NOT IN ($1, $5, $6) RETURNING id",
        )
        .bind(name_of(&CallStatus::Ended))
        .bind(beat.unwrap_or_else(|| Timestamp(now).to_string()))
        .bind(name_of(&EndedReason::ServerCrashed))
        .bind(name_of(&EndedBy::System))
        .bind(name_of(&CallStatus::Scheduled))
        .bind(name_of(&CallStatus::Queued))
        .fetch_all(&self.pool)
        .await?;
        closed
            .iter()
            .map(|row| rows::parsed(row, "id", |text: &str| text.parse().ok()))
            .collect()
    }

    /// A call with everything that was kept of it. `None` where there is no such call.
    ///
    /// # Errors
    /// Where a statement fails or a row is unreadable.
    pub async fn call(&self, id: CallId) -> Result<Option<CallRecord>, StoreError> {
        Ok(self.stored_call(id).await?.map(|call| call.record))
    }

    /// What was said in a call, and its turns.
    async fn said(&self, id: CallId) -> Result<(Vec<Message>, Vec<TurnLedger>), StoreError> {
        let messages =
            sqlx::query("SELECT * FROM messages WHERE call_id = $1 ORDER BY start_ms, position")
                .bind(id.to_string())
                .fetch_all(&self.pool)
                .await?;
        let turns = sqlx::query("SELECT ledger FROM turns WHERE call_id = $1 ORDER BY turn")
            .bind(id.to_string())
            .fetch_all(&self.pool)
            .await?;
        Ok((
            messages
                .iter()
                .map(rows::message)
                .collect::<Result<_, _>>()?,
            turns.iter().map(rows::turn).collect::<Result<_, _>>()?,
        ))
    }

    /// Ids whose text starts with `prefix`, at most two: enough to know whether it is one call.
    ///
    /// # Errors
    /// Where the statement fails.
    pub async fn ids_starting(&self, prefix: &str) -> Result<Vec<CallId>, StoreError> {
        let plain: String = prefix
            .chars()
            .filter(|c| c.is_ascii_hexdigit() || *c == '-')
            .collect();
        if plain != prefix {
            return Ok(Vec::new());
        }
        let rows = sqlx::query("SELECT id FROM calls WHERE id LIKE $1 ORDER BY id LIMIT 2")
            .bind(format!("{}%", plain.to_ascii_lowercase()))
            .fetch_all(&self.pool)
            .await?;
        rows.iter()
            .map(|row| rows::parsed(row, "id", |text: &str| text.parse().ok()))
            .collect()
    }

    /// Ended calls whose recording was never hashed, because the server ended before.
    ///
    /// # Errors
    /// Where the statement fails or a row is unreadable.
    pub async fn unhashed_recordings(&self) -> Result<Vec<(CallId, String)>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, recording FROM calls \
             WHERE recording IS NOT NULL AND recording_sha256 IS NULL AND status = $1",
        )
        .bind(name_of(&CallStatus::Ended))
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                let id = rows::parsed(row, "id", |text: &str| text.parse().ok())?;
                Ok((id, row.try_get("recording")?))
            })
            .collect()
    }

    /// Ended calls with a recording, oldest first: what a quota removes.
    async fn recordings_oldest_first(&self) -> Result<Vec<(String, String)>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, recording FROM calls WHERE recording IS NOT NULL AND status = $1 ORDER BY created_at, id",
        )
        .bind(name_of(&CallStatus::Ended))
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| Ok((row.try_get("id")?, row.try_get("recording")?)))
            .collect()
    }

    async fn forget_recording(&self, id: &str) -> Result<(), StoreError> {
        sqlx::query("UPDATE calls SET recording = NULL WHERE id = $1")
            .bind(id)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Ended calls made before `limit`: what retention removes.
    async fn ended_before(
        &self,
        limit: OffsetDateTime,
    ) -> Result<Vec<(String, Option<String>)>, StoreError> {
        let rows =
            sqlx::query("SELECT id, recording FROM calls WHERE created_at < $1 AND status = $2")
                .bind(Timestamp(limit).to_string())
                .bind(name_of(&CallStatus::Ended))
                .fetch_all(&self.pool)
                .await?;
        rows.iter()
            .map(|row| Ok((row.try_get("id")?, row.try_get("recording")?)))
            .collect()
    }

    async fn delete_call(&self, id: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM calls WHERE id = $1")
            .bind(id)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Deletes a call with everything kept of it; its recording first, so that nothing is left
    /// that nobody knows of.
    ///
    /// # Errors
    /// Where the file cannot be deleted or the statement fails.
    pub async fn erase_call(&self, data: &Path, call: &CallRecord) -> Result<(), StoreError> {
        if let Some(recording) = &call.recording {
            let path = data.join(recording);
            match std::fs::remove_file(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(StoreError::File { path, source }),
            }
        }
        self.delete_call(&call.id.to_string()).await
    }

    /// Closes every connection, so that the files are complete.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// A connection that failed to write is closed, not used again. It may hold the write lock of a
/// transaction that could be neither committed nor rolled back, and one opened while the file
/// was read-only stays so.
fn trusted<T>(
    mut connection: PoolConnection<Any>,
    written: Result<T, StoreError>,
) -> Result<T, StoreError> {
    if written.is_err() {
        connection.close_on_drop();
    }
    written
}

async fn save_call(connection: &mut AnyConnection, call: &CallRecord) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO calls (id, call_type, status, assistant, caller, called, peer, sip_call_id, created_at,
             started_at, ended_at, ended_reason, ended_by, greeting_ms, codec, recording, digits,
             customer_number, customer_name, trunk, diverted_from, quality, srtp, mailbox, answered_by, phone_number_id, updated_at, people, talked_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29)
         ON CONFLICT (id) DO UPDATE SET status = excluded.status, caller = excluded.caller, called = excluded.called,
             peer = excluded.peer, trunk = excluded.trunk, customer_number = excluded.customer_number,
             customer_name = excluded.customer_name, people = excluded.people, sip_call_id = excluded.sip_call_id, started_at = excluded.started_at,
             ended_at = excluded.ended_at, ended_reason = excluded.ended_reason, ended_by = excluded.ended_by,
             greeting_ms = excluded.greeting_ms, codec = excluded.codec, recording = excluded.recording,
             digits = excluded.digits, quality = excluded.quality,
             srtp = excluded.srtp, mailbox = excluded.mailbox, answered_by = excluded.answered_by, updated_at = excluded.updated_at,
             talked_ms = excluded.talked_ms",
    )
    .bind(call.id.to_string())
    .bind(name_of(&call.call_type))
    .bind(name_of(&call.status))
    .bind(call.assistant.as_str())
    .bind(&call.from)
    .bind(&call.to)
    .bind(&call.peer)
    .bind(&call.sip_call_id)
    .bind(Timestamp(call.created_at).to_string())
    .bind(call.started_at.map(|at| Timestamp(at).to_string()))
    .bind(call.ended_at.map(|at| Timestamp(at).to_string()))
    .bind(call.ended_reason.as_ref().map(name_of))
    .bind(call.ended_by.as_ref().map(name_of))
    .bind(call.greeting_ms.map(rows::signed))
    .bind(call.codec.as_deref())
    .bind(call.recording.as_deref())
    .bind(&call.digits)
    .bind(call.customer.as_ref().map(|customer| customer.number.as_str()))
    .bind(call.customer.as_ref().and_then(|customer| customer.name.as_deref()))
    .bind(call.trunk.as_ref().map(TrunkName::as_str))
    .bind(call.diverted_from.as_deref())
    // Numbers and names always serialise.
    .bind(call.quality.as_ref().and_then(|quality| serde_json::to_string(quality).ok()))
    .bind(call.srtp.as_deref())
    .bind(call.mailbox.as_ref().map(MailboxName::as_str))
    .bind(call.answered_by.and_then(|answered| serde_json::to_string(&answered).ok()))
    .bind(call.phone_number_id.as_deref())
    .bind(Timestamp(OffsetDateTime::now_utc()).to_string())
    .bind(calls::people(call))
    .bind(talked_ms(call))
    .execute(connection)
    .await?;
    Ok(())
}

/// From the answer to the end.
fn talked_ms(call: &CallRecord) -> Option<i64> {
    let talked = call.ended_at? - call.started_at?;
    i64::try_from(talked.whole_milliseconds()).ok()
}

async fn save_message(
    connection: &mut AnyConnection,
    call: CallId,
    position: u32,
    message: &Message,
) -> Result<(), StoreError> {
    let mut transaction = connection.begin().await?;
    let done = sqlx::query(
        "INSERT INTO messages (call_id, position, role, message, start_ms, end_ms, turn, interrupted)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (call_id, position) DO NOTHING",
    )
    .bind(call.to_string())
    .bind(i64::from(position))
    .bind(name_of(&message.role))
    .bind(&message.message)
    .bind(rows::signed(message.start_ms))
    .bind(rows::signed(message.end_ms))
    .bind(i64::from(message.turn.0))
    .bind(i64::from(message.interrupted))
    .execute(&mut *transaction)
    .await?;
    if done.rows_affected() > 0 {
        calls::save_words(&mut transaction, call, &message.message).await?;
    }
    transaction.commit().await?;
    Ok(())
}

async fn save_turn(
    connection: &mut AnyConnection,
    call: CallId,
    turn: &TurnLedger,
) -> Result<(), StoreError> {
    // A ledger is numbers only, which always serialise.
    let ledger = serde_json::to_string(turn).unwrap_or_default();
    sqlx::query(
        "INSERT INTO turns (call_id, turn, ledger) VALUES ($1, $2, $3)
         ON CONFLICT (call_id, turn) DO UPDATE SET ledger = excluded.ledger",
    )
    .bind(call.to_string())
    .bind(i64::from(turn.turn.0))
    .bind(ledger)
    .execute(connection)
    .await?;
    Ok(())
}

async fn save_recording_hash(
    connection: &mut AnyConnection,
    call: CallId,
    hash: &str,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE calls SET recording_sha256 = $2 WHERE id = $1")
        .bind(call.to_string())
        .bind(hash)
        .execute(connection)
        .await?;
    Ok(())
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
pub(crate) mod tests;
