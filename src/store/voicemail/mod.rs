//! Messages in mailboxes: their rows, and the files that they are in.
//!
//! The file is the message and the row what is known of it, which is kept beside the file as
//! well: so a message is complete without its row, as after a crash or while the database cannot
//! be written.

mod file;
mod recovery;
#[cfg(test)]
mod tests;

use std::path::Path;

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};
use time::OffsetDateTime;

use super::rows::{self, Timestamp, name_of};
use super::{Store, StoreError};
use crate::ids::{MailboxName, VoicemailId};
use crate::record::{MailboxCounts, Transcription, Voicemail, VoicemailState};

pub use file::MessageFile;
pub use recovery::RecoveredMailboxes;

/// The folder of all mailboxes inside the data folder.
const FOLDER: &str = "voicemail";

/// Where the file of a message is, relative to the data folder.
pub fn message_path(mailbox: &MailboxName, id: VoicemailId) -> String {
    format!("{FOLDER}/{mailbox}/{id}.wav")
}

impl Store {
    /// Messages, newest first: of one mailbox, or of all.
    ///
    /// # Errors
    /// Where the statement fails or a row is unreadable.
    pub async fn voicemails(
        &self,
        mailbox: Option<&MailboxName>,
    ) -> Result<Vec<Voicemail>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM voicemails WHERE $1 IS NULL OR mailbox = $1 \
             ORDER BY created_at DESC, id DESC",
        )
        .bind(mailbox.map(MailboxName::as_str))
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(voicemail).collect()
    }

    /// One message; `None` where there is none.
    ///
    /// # Errors
    /// Where the statement fails or the row is unreadable.
    pub async fn voicemail(&self, id: VoicemailId) -> Result<Option<Voicemail>, StoreError> {
        let row = sqlx::query("SELECT * FROM voicemails WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(voicemail).transpose()
    }

    /// How many messages a mailbox has.
    ///
    /// # Errors
    /// Where the statement fails.
    pub async fn mailbox_counts(&self, mailbox: &MailboxName) -> Result<MailboxCounts, StoreError> {
        let rows = sqlx::query(
            "SELECT state, COUNT(*) AS messages FROM voicemails WHERE mailbox = $1 GROUP BY state",
        )
        .bind(mailbox.as_str())
        .fetch_all(&self.pool)
        .await?;
        let mut counts = MailboxCounts::default();
        for row in &rows {
            let messages = u32::try_from(row.try_get::<i64, _>("messages")?).unwrap_or(u32::MAX);
            match rows::parsed(row, "state", rows::named)? {
                VoicemailState::New => counts.new = messages,
                VoicemailState::Saved => counts.saved = messages,
                VoicemailState::Recording => {}
            }
        }
        Ok(counts)
    }

    /// Length of all messages of a mailbox together, in ms.
    ///
    /// # Errors
    /// Where the statement fails.
    pub async fn mailbox_length_ms(&self, mailbox: &MailboxName) -> Result<u64, StoreError> {
        let sum: Option<i64> = sqlx::query_scalar(
            "SELECT CAST(SUM(duration_ms) AS BIGINT) FROM voicemails WHERE mailbox = $1",
        )
        .bind(mailbox.as_str())
        .fetch_one(&self.pool)
        .await?;
        Ok(sum.and_then(|sum| u64::try_from(sum).ok()).unwrap_or(0))
    }

    /// Notes that a message was heard, or is to count as new again. False where it is gone.
    ///
    /// # Errors
    /// Where the statement fails.
    pub async fn mark_voicemail(
        &self,
        id: VoicemailId,
        state: VoicemailState,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query("UPDATE voicemails SET state = $2 WHERE id = $1")
            .bind(id.to_string())
            .bind(name_of(&state))
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Deletes a message: the files first, so that nothing is left that nobody knows of.
    ///
    /// # Errors
    /// Where a file cannot be deleted or the statement fails.
    pub async fn delete_voicemail(
        &self,
        data: &Path,
        message: &Voicemail,
    ) -> Result<(), StoreError> {
        let path = data.join(&message.file);
        file::remove(&path).map_err(|source| StoreError::File { path, source })?;
        sqlx::query("DELETE FROM voicemails WHERE id = $1")
            .bind(message.id.to_string())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Deletes the messages of a mailbox that are older than `limit`; how many there were.
    ///
    /// # Errors
    /// Where the database fails. A file that cannot be deleted keeps its row.
    pub async fn expire_voicemails(
        &self,
        data: &Path,
        mailbox: &MailboxName,
        limit: OffsetDateTime,
    ) -> Result<u64, StoreError> {
        let mut deleted = 0;
        for message in self.voicemails(Some(mailbox)).await? {
            if message.created_at >= limit || message.state == VoicemailState::Recording {
                continue;
            }
            match self.delete_voicemail(data, &message).await {
                Ok(()) => deleted += 1,
                Err(StoreError::File { path, source }) => {
                    tracing::warn!(path = %path.display(), %source, "cannot delete a message");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(deleted)
    }

    /// Messages whose transcript is to be made, oldest first.
    ///
    /// # Errors
    /// Where the statement fails or a row is unreadable.
    pub async fn untranscribed_voicemails(&self) -> Result<Vec<Voicemail>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM voicemails WHERE transcription = $1 AND state <> $2 \
             ORDER BY created_at, id",
        )
        .bind(name_of(&Transcription::Pending))
        .bind(name_of(&VoicemailState::Recording))
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(voicemail).collect()
    }

    /// Keeps a message's transcript; `None` where it could not be made.
    ///
    /// # Errors
    /// Where the statement fails.
    pub async fn keep_transcript(
        &self,
        id: VoicemailId,
        transcript: Option<&str>,
    ) -> Result<(), StoreError> {
        let state = match transcript {
            Some(_) => Transcription::Done,
            None => Transcription::Failed,
        };
        sqlx::query("UPDATE voicemails SET transcription = $2, transcript = $3 WHERE id = $1")
            .bind(id.to_string())
            .bind(name_of(&state))
            .bind(transcript)
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

/// Writes a message's row. One that is complete is only changed by the calls above.
pub(super) async fn save(
    connection: &mut AnyConnection,
    message: &Voicemail,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO voicemails (id, mailbox, call_id, customer_number, customer_name, called, \
             reason, state, created_at, duration_ms, file, ended, transcription, transcript) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) \
         ON CONFLICT (id) DO UPDATE SET state = excluded.state, \
             duration_ms = excluded.duration_ms, ended = excluded.ended, \
             transcription = excluded.transcription \
         WHERE voicemails.state = 'recording'",
    )
    .bind(message.id.to_string())
    .bind(message.mailbox.as_str())
    .bind(message.call_id.to_string())
    .bind(message.customer.as_ref().map(|who| who.number.as_str()))
    .bind(
        message
            .customer
            .as_ref()
            .and_then(|who| who.name.as_deref()),
    )
    .bind(&message.called)
    .bind(name_of(&message.reason))
    .bind(name_of(&message.state))
    .bind(Timestamp(message.created_at).to_string())
    .bind(rows::signed(message.duration_ms))
    .bind(&message.file)
    .bind(message.ended.as_ref().map(name_of))
    .bind(name_of(&message.transcription))
    .bind(message.transcript.as_deref())
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets a message that came to nothing.
pub(super) async fn forget(
    connection: &mut AnyConnection,
    id: VoicemailId,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM voicemails WHERE id = $1")
        .bind(id.to_string())
        .execute(connection)
        .await?;
    Ok(())
}

fn voicemail(row: &AnyRow) -> Result<Voicemail, StoreError> {
    Ok(Voicemail {
        id: rows::parsed(row, "id", |text| text.parse().ok())?,
        mailbox: MailboxName::new(row.try_get::<String, _>("mailbox")?),
        call_id: rows::parsed(row, "call_id", |text| text.parse().ok())?,
        customer: rows::customer(row)?,
        called: row.try_get("called")?,
        reason: rows::parsed(row, "reason", rows::named)?,
        state: rows::parsed(row, "state", rows::named)?,
        created_at: rows::parsed(row, "created_at", rows::time_of)?,
        duration_ms: rows::unsigned(row, "duration_ms")?,
        file: row.try_get("file")?,
        ended: rows::parsed_option(row, "ended", rows::named)?,
        transcription: rows::parsed(row, "transcription", rows::named)?,
        transcript: row.try_get("transcript")?,
    })
}
