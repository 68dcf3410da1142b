//! Messages that wait for assistants' servers, and analyses that wait for the model.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};
use time::OffsetDateTime;
use uuid::Uuid;

use super::rows::{self, Timestamp, parsed};
use super::{Store, StoreError, trusted};
use crate::ids::{AssistantId, CallId};
use crate::record::{Analysis, PARTIAL_TRANSCRIPT, TRANSCRIPT, WebhookDelivery, WebhookOutcome};

const WAITING: &str = "waiting";
const DELIVERED: &str = "delivered";
const GIVEN_UP: &str = "given-up";

/// Messages of one call. Beyond them only its end is told.
const MOST_OF_A_CALL: i64 = 10_000;

/// Why a message was dropped that nobody failed to take.
const TOO_MANY: &str = "too many messages waited";

impl Store {
    /// The first waiting message of each call whose time has come, those due the longest first.
    ///
    /// # Errors
    /// Where the statement fails or a row is unreadable.
    pub async fn due_webhooks(
        &self,
        now: OffsetDateTime,
        limit: u32,
    ) -> Result<Vec<WebhookDelivery>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM webhook_deliveries d WHERE state = $1 AND next_at <= $2 \
             AND NOT EXISTS (SELECT 1 FROM webhook_deliveries e WHERE e.call_id = d.call_id \
             AND e.state = $1 AND e.position < d.position) ORDER BY next_at, position LIMIT $3",
        )
        .bind(WAITING)
        .bind(Timestamp(now).to_string())
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(delivery).collect()
    }

    /// Writes down what became of an attempt.
    ///
    /// # Errors
    /// Where the statement fails.
    pub async fn webhook_tried(
        &self,
        id: Uuid,
        outcome: &WebhookOutcome,
    ) -> Result<(), StoreError> {
        let later = |at: &OffsetDateTime| Some(Timestamp(*at).to_string());
        let (state, tried, why, next_at) = match outcome {
            WebhookOutcome::Delivered => (DELIVERED, 1, None, None),
            WebhookOutcome::Later { at } => (WAITING, 0, None, later(at)),
            WebhookOutcome::Again { at, why } => (WAITING, 1, Some(why), later(at)),
            WebhookOutcome::GivenUp { why } => (GIVEN_UP, 1, Some(why), None),
        };
        let mut connection = self.pool.acquire().await?;
        let done = sqlx::query(
            "UPDATE webhook_deliveries SET state = $1, outcome = $2, attempts = attempts + $3, \
             next_at = COALESCE($4, next_at) WHERE id = $5",
        )
        .bind(state)
        .bind(why)
        .bind(tried)
        .bind(next_at)
        .bind(id.to_string())
        .execute(&mut *connection)
        .await;
        trusted(connection, done.map(drop).map_err(StoreError::from))
    }

    /// Messages that wait, of all calls.
    ///
    /// # Errors
    /// Where the statement fails.
    pub async fn waiting_webhooks(&self) -> Result<u64, StoreError> {
        let count: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM webhook_deliveries WHERE state = $1")
                .bind(WAITING)
                .fetch_one(&self.pool)
                .await?;
        Ok(u64::try_from(count).unwrap_or_default())
    }

    /// Drops the oldest messages of the receiver that the most wait for, as far as more than
    /// `most` wait altogether. Returns how many, and whose.
    ///
    /// # Errors
    /// Where a statement fails.
    pub async fn drop_webhooks_over(&self, most: u64) -> Result<Option<(u64, String)>, StoreError> {
        let over = self.waiting_webhooks().await?.saturating_sub(most);
        if over == 0 {
            return Ok(None);
        }
        let receiver: String = sqlx::query_scalar(
            "SELECT receiver FROM webhook_deliveries WHERE state = $1 \
             GROUP BY receiver ORDER BY COUNT(*) DESC, receiver LIMIT 1",
        )
        .bind(WAITING)
        .fetch_one(&self.pool)
        .await?;
        let done = sqlx::query(
            "UPDATE webhook_deliveries SET state = $1, outcome = $2 WHERE id IN (SELECT id FROM \
             webhook_deliveries WHERE state = $3 AND receiver = $4 \
             ORDER BY created_at, call_id, position LIMIT $5)",
        )
        .bind(GIVEN_UP)
        .bind(TOO_MANY)
        .bind(WAITING)
        .bind(&receiver)
        .bind(rows::signed(over))
        .execute(&self.pool)
        .await?;
        Ok(Some((done.rows_affected(), receiver)))
    }

    /// Deletes what was delivered or given up before a time. Returns how many.
    ///
    /// # Errors
    /// Where the statement fails.
    pub async fn sweep_webhooks(&self, before: OffsetDateTime) -> Result<u64, StoreError> {
        let done =
            sqlx::query("DELETE FROM webhook_deliveries WHERE state <> $1 AND created_at < $2")
                .bind(WAITING)
                .bind(Timestamp(before).to_string())
                .execute(&self.pool)
                .await?;
        Ok(done.rows_affected())
    }

    /// The oldest call that waits for its analysis, and how often it was tried.
    ///
    /// # Errors
    /// Where the statement fails or the row is unreadable.
    pub async fn next_analysis(&self) -> Result<Option<(CallId, u32)>, StoreError> {
        let row = sqlx::query(
            "SELECT * FROM call_analyses WHERE analysis = '' ORDER BY attempts, created_at LIMIT 1",
        )
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let call = parsed(&row, "call_id", |text| text.parse().ok())?;
        let attempts = u32::try_from(rows::unsigned(&row, "attempts")?).unwrap_or(u32::MAX);
        Ok(Some((call, attempts)))
    }

    /// Keeps a call's analysis; without one, counts an attempt that failed.
    ///
    /// # Errors
    /// Where the statement fails.
    pub async fn save_analysis(
        &self,
        call: CallId,
        analysis: Option<&Analysis>,
    ) -> Result<(), StoreError> {
        // Text, and JSON that was read as such, always serialise.
        let text = analysis.map(|analysis| serde_json::to_string(analysis).unwrap_or_default());
        let mut connection = self.pool.acquire().await?;
        let done = sqlx::query(
            "UPDATE call_analyses SET analysis = COALESCE($1, analysis), attempts = attempts + 1 \
             WHERE call_id = $2",
        )
        .bind(text)
        .bind(call.to_string())
        .execute(&mut *connection)
        .await;
        trusted(connection, done.map(drop).map_err(StoreError::from))
    }

    /// What the model said of a call: `None` where it is not asked, `Some(None)` while it still
    /// is to be.
    ///
    /// # Errors
    /// Where the statement fails or the row is unreadable.
    pub async fn analysis(&self, call: CallId) -> Result<Option<Option<Analysis>>, StoreError> {
        let row = sqlx::query("SELECT analysis FROM call_analyses WHERE call_id = $1")
            .bind(call.to_string())
            .fetch_optional(&self.pool)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let text: String = row.try_get("analysis")?;
        if text.is_empty() {
            return Ok(Some(None));
        }
        let analysis = parsed(&row, "analysis", |text| serde_json::from_str(text).ok())?;
        Ok(Some(Some(analysis)))
    }
}

/// Puts a message behind those of its call. One writer does this, so that places are not taken
/// twice.
pub(super) async fn queue(
    connection: &mut AnyConnection,
    new: &WebhookDelivery,
) -> Result<(), StoreError> {
    let last: i64 = sqlx::query_scalar(
        "SELECT COALESCE(MAX(position), 0) FROM webhook_deliveries WHERE call_id = $1",
    )
    .bind(new.call.to_string())
    .fetch_one(&mut *connection)
    .await?;
    if last >= MOST_OF_A_CALL && !new.body.is_empty() {
        return Ok(());
    }
    if new.kind.starts_with(TRANSCRIPT) {
        // Words that may still change are of no use once there are newer ones.
        sqlx::query(
            "DELETE FROM webhook_deliveries WHERE call_id = $1 AND type = $2 AND state = $3",
        )
        .bind(new.call.to_string())
        .bind(PARTIAL_TRANSCRIPT)
        .bind(WAITING)
        .execute(&mut *connection)
        .await?;
    }
    let at = Timestamp(new.created_at).to_string();
    sqlx::query(
        "INSERT INTO webhook_deliveries \
         (call_id, position, id, assistant, type, body, state, created_at, next_at, receiver) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9) ON CONFLICT (id) DO NOTHING",
    )
    .bind(new.call.to_string())
    .bind(last + 1)
    .bind(new.id.to_string())
    .bind(new.assistant.as_str())
    .bind(&new.kind)
    .bind(&new.body)
    .bind(WAITING)
    .bind(at)
    .bind(&new.receiver)
    .execute(connection)
    .await?;
    Ok(())
}

/// A call is to be analysed.
pub(super) async fn want_analysis(
    connection: &mut AnyConnection,
    call: CallId,
    assistant: &AssistantId,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO call_analyses (call_id, assistant, analysis, created_at) \
         VALUES ($1, $2, '', $3) ON CONFLICT (call_id) DO NOTHING",
    )
    .bind(call.to_string())
    .bind(assistant.as_str())
    .bind(Timestamp(now).to_string())
    .execute(connection)
    .await?;
    Ok(())
}

fn delivery(row: &AnyRow) -> Result<WebhookDelivery, StoreError> {
    Ok(WebhookDelivery {
        id: parsed(row, "id", |text| text.parse().ok())?,
        call: parsed(row, "call_id", |text| text.parse().ok())?,
        assistant: AssistantId::new(row.try_get::<String, _>("assistant")?),
        receiver: row.try_get("receiver")?,
        kind: row.try_get("type")?,
        body: row.try_get("body")?,
        attempts: u32::try_from(rows::unsigned(row, "attempts")?).unwrap_or(u32::MAX),
        created_at: parsed(row, "created_at", rows::time_of)?,
    })
}
