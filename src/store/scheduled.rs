//! Calls that are to be made later.
//!
//! ```text
//!  scheduled, queued ──due, made──▶ ringing ──▶ ... ──▶ ended
//!          └──latest_at passed, or it cannot be made──▶ ended
//! ```

use time::OffsetDateTime;

use super::calls::{save_document, stored};
use super::rows::{self, Timestamp, name_of};
use super::{Store, StoreError, StoredCall, save_call, trusted};
use crate::record::{CallDocument, CallRecord, CallStatus};

/// A call that is to be made later.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduledCall {
    /// The call as far as it is known.
    pub call: StoredCall,
    /// It is not to be made after this.
    pub latest_at: Option<OffsetDateTime>,
}

impl Store {
    /// Keeps a call that is to be made later, with what it is to be made with.
    ///
    /// # Errors
    /// Where a statement fails.
    pub async fn schedule_call(
        &self,
        call: &CallRecord,
        document: &CallDocument,
        name: Option<&str>,
        (earliest_at, latest_at): (OffsetDateTime, Option<OffsetDateTime>),
    ) -> Result<(), StoreError> {
        use sqlx::Connection;
        let mut connection = self.pool.acquire().await?;
        let written = async {
            let mut transaction = connection.begin().await?;
            save_call(&mut transaction, call).await?;
            save_document(&mut transaction, call.id, document).await?;
            sqlx::query(
                "UPDATE calls SET name = $2, earliest_at = $3, latest_at = $4 WHERE id = $1",
            )
            .bind(call.id.to_string())
            .bind(name)
            .bind(Timestamp(earliest_at).to_string())
            .bind(latest_at.map(|at| Timestamp(at).to_string()))
            .execute(&mut *transaction)
            .await?;
            transaction.commit().await?;
            Ok(())
        };
        let written = written.await;
        trusted(connection, written)
    }

    /// Calls whose time has come, those first that were due first.
    ///
    /// # Errors
    /// Where the statement fails or a row is unreadable.
    pub async fn due_calls(
        &self,
        now: OffsetDateTime,
        limit: u32,
    ) -> Result<Vec<ScheduledCall>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM calls WHERE status IN ($1, $2) AND earliest_at <= $3 \
             ORDER BY earliest_at, created_at, id LIMIT $4",
        )
        .bind(name_of(&CallStatus::Scheduled))
        .bind(name_of(&CallStatus::Queued))
        .bind(Timestamp(now).to_string())
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(ScheduledCall {
                    call: stored(row)?,
                    latest_at: rows::parsed_option(row, "latest_at", rows::time_of)?,
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::*;
    use crate::store::testing::{Place, on_both_databases};
    use crate::store::tests::call;

    on_both_databases![a_scheduled_call_is_due_at_its_time_and_outlives_a_restart];

    async fn a_scheduled_call_is_due_at_its_time_and_outlives_a_restart(place: Place) {
        let store = place.open().await;
        let now = OffsetDateTime::UNIX_EPOCH;
        let mut later = call(1, now);
        later.status = CallStatus::Scheduled;
        let mut document = CallDocument {
            secrets: Some(vec![1, 2]),
            ..CallDocument::default()
        };
        document.fields.insert("customer".into(), "x".into());
        let times = (now + Duration::HOUR, Some(now + Duration::DAY));
        let kept = store.schedule_call(&later, &document, Some("x"), times);
        kept.await.expect("kept");
        let mut queued = call(2, now);
        queued.status = CallStatus::Queued;
        let kept = store.schedule_call(&queued, &document, None, (now, None));
        kept.await.expect("kept");
        let due = async |store: &Store, at| store.due_calls(at, 9).await.expect("read");
        let ids =
            |due: &[ScheduledCall]| due.iter().map(|due| due.call.record.id).collect::<Vec<_>>();
        assert_eq!(ids(&due(&store, now).await), [queued.id]);
        store.close().await;
        let store = place.open().await;
        let closed = store.close_open_calls(now + Duration::HOUR).await;
        assert_eq!(closed.expect("closed"), []);
        let all = due(&store, now + Duration::HOUR).await;
        assert_eq!(ids(&all), [queued.id, later.id]);
        assert_eq!(all[1].latest_at, Some(now + Duration::DAY));
        assert_eq!(all[1].call.document, document);
        assert_eq!(all[1].call.name.as_deref(), Some("x"));
        later.status = CallStatus::Ringing;
        later.from = "+4930".to_owned();
        store.save_call(&later).await.expect("made");
        assert_eq!(ids(&due(&store, now + Duration::HOUR).await), [queued.id]);
        let made = store.call(later.id).await.expect("read").expect("there");
        assert_eq!(made.from, "+4930");
    }
}
