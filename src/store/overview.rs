//! What the dashboard's first page counts: calls, minutes, outcomes and latencies of a while.

use sqlx::Row;
use sqlx::any::AnyRow;
use time::OffsetDateTime;

use super::rows::{self, Timestamp, parsed, parsed_option};
use super::{Store, StoreError};
use crate::record::{CallType, EndedReason, TurnLedger};

/// Calls that are looked at; of more than these only the newest.
const MOST_CALLS: i64 = 100_000;

/// Turns that are looked at, the newest.
const MOST_TURNS: i64 = 20_000;

/// As much of a call as counting needs.
#[derive(Clone, Debug, PartialEq)]
pub struct EndedCall {
    /// INVITE seen or sent.
    pub created_at: OffsetDateTime,
    /// Which way.
    pub call_type: CallType,
    /// From the answer to the end, in ms; `None` where it was not answered or is not over.
    pub talked_ms: Option<u64>,
    /// Why it ended; `None` while it lasts.
    pub ended_reason: Option<EndedReason>,
}

/// What counting needs.
#[derive(Clone, Debug, Default)]
pub struct Overview {
    /// Calls, newest first.
    pub calls: Vec<EndedCall>,
    /// Turns with the time of their call, newest first.
    pub turns: Vec<(OffsetDateTime, TurnLedger)>,
}

impl Store {
    /// Calls made since, and their turns.
    ///
    /// # Errors
    /// Where a statement fails or a row is unreadable.
    pub async fn overview(&self, since: OffsetDateTime) -> Result<Overview, StoreError> {
        let since = Timestamp(since).to_string();
        let calls = sqlx::query(
            "SELECT created_at, call_type, started_at, ended_at, ended_reason FROM calls \
             WHERE created_at >= $1 ORDER BY created_at DESC LIMIT $2",
        )
        .bind(&since)
        .bind(MOST_CALLS)
        .fetch_all(&self.pool)
        .await?;
        let turns = sqlx::query(
            "SELECT calls.created_at AS created_at, turns.ledger AS ledger FROM calls \
             JOIN turns ON turns.call_id = calls.id WHERE calls.created_at >= $1 \
             ORDER BY calls.created_at DESC LIMIT $2",
        )
        .bind(&since)
        .bind(MOST_TURNS)
        .fetch_all(&self.pool)
        .await?;
        Ok(Overview {
            calls: calls.iter().map(ended_call).collect::<Result<_, _>>()?,
            turns: turns
                .iter()
                .map(|row| Ok((parsed(row, "created_at", rows::time_of)?, rows::turn(row)?)))
                .collect::<Result<_, StoreError>>()?,
        })
    }

    /// The assistants that calls were kept of, by name.
    ///
    /// # Errors
    /// Where the statement fails.
    pub async fn assistants_of_calls(&self) -> Result<Vec<String>, StoreError> {
        let rows = sqlx::query("SELECT DISTINCT assistant FROM calls ORDER BY assistant LIMIT 200")
            .fetch_all(&self.pool)
            .await?;
        rows.iter()
            .map(|row| Ok(row.try_get("assistant")?))
            .collect()
    }
}

fn ended_call(row: &AnyRow) -> Result<EndedCall, StoreError> {
    let started = parsed_option(row, "started_at", rows::time_of)?;
    let ended = parsed_option(row, "ended_at", rows::time_of)?;
    let talked = started.zip(ended).map(|(started, ended)| ended - started);
    Ok(EndedCall {
        created_at: parsed(row, "created_at", rows::time_of)?,
        call_type: parsed(row, "call_type", rows::named)?,
        talked_ms: talked.and_then(|talked| u64::try_from(talked.whole_milliseconds()).ok()),
        ended_reason: parsed_option(row, "ended_reason", rows::named)?,
    })
}
