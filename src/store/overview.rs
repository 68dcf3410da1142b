//! What the dashboard's first page counts: calls, minutes, outcomes and latencies of a while.

use sqlx::Row;
use sqlx::any::AnyRow;
use time::OffsetDateTime;

use super::rows::{self, Timestamp, parsed, parsed_option};
use super::{Store, StoreError};
use crate::ids::AssistantId;
use crate::record::{CallType, EndedReason, TurnLedger};

/// Turns that are looked at; calls whose turns are, where there are more, and which are then picked
/// from the whole time.
const MOST_TURNS: i64 = 5_000;
const ENOUGH_CALLS: u64 = 1_000;

/// The stretches of time that calls are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Every {
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day, in UTC.
    Day,
}

impl Every {
    /// As much of a time as all of a stretch have in common, in characters; and the rest of its
    /// first moment.
    fn common(self) -> (i32, &'static str) {
        match self {
            Self::Minute => (16, ":00Z"),
            Self::Hour => (13, ":00:00Z"),
            Self::Day => (10, "T00:00:00Z"),
        }
    }
}

/// Calls of one stretch that went the same way and ended alike.
#[derive(Clone, Debug, PartialEq)]
pub struct CountedCalls {
    /// When the stretch begins.
    pub at: OffsetDateTime,
    /// Which way.
    pub call_type: CallType,
    /// Why they ended; `None` of those that last.
    pub ended_reason: Option<EndedReason>,
    /// How many.
    pub calls: u64,
    /// How many were answered.
    pub answered: u64,
    /// From the answer to the end, of all together, in ms.
    pub talked_ms: u64,
}

/// What counting needs.
#[derive(Clone, Debug, Default)]
pub struct Overview {
    /// Calls.
    pub calls: Vec<CountedCalls>,
    /// Turns, those of the newest calls first; of many calls a part, picked by chance.
    pub turns: Vec<KeptTurn>,
}

/// A turn of a kept call.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptTurn {
    /// When its call was made.
    pub called_at: OffsetDateTime,
    /// Who answered.
    pub assistant: AssistantId,
    /// Its latencies.
    pub ledger: TurnLedger,
}

impl Store {
    /// Calls made since, and their turns.
    ///
    /// # Errors
    /// Where a statement fails or a row is unreadable.
    pub async fn overview(
        &self,
        since: OffsetDateTime,
        every: Every,
    ) -> Result<Overview, StoreError> {
        let since = Timestamp(since).to_string();
        let (length, _) = every.common();
        let calls = sqlx::query(
            "SELECT substr(created_at, 1, $1) AS stretch, call_type, ended_reason, \
             COUNT(*) AS calls, COUNT(started_at) AS answered, \
             CAST(COALESCE(SUM(talked_ms), 0) AS BIGINT) AS talked_ms \
             FROM calls WHERE created_at >= $2 GROUP BY 1, 2, 3",
        )
        .bind(length)
        .bind(&since)
        .fetch_all(&self.pool)
        .await?;
        let calls: Vec<CountedCalls> = calls
            .iter()
            .map(|row| counted(row, every))
            .collect::<Result<_, _>>()?;
        let answered = calls.iter().map(|calls| calls.answered).sum();
        let turns = self.turns_since(&since, &ids_of_enough(answered)).await?;
        Ok(Overview { calls, turns })
    }

    /// The turns of calls made since, those of the newest calls first; at most 10,000.
    ///
    /// # Errors
    /// Where the statement fails or a row is unreadable.
    pub async fn turns(&self, since: OffsetDateTime) -> Result<Vec<KeptTurn>, StoreError> {
        let since = Timestamp(since).to_string();
        self.turns_since(&since, &ids_of_enough(0)).await
    }

    /// Those of calls whose ids are below `ids`.
    async fn turns_since(&self, since: &str, ids: &str) -> Result<Vec<KeptTurn>, StoreError> {
        let turns = sqlx::query(
            "SELECT calls.created_at AS created_at, calls.assistant AS assistant, \
             turns.ledger AS ledger FROM calls \
             JOIN turns ON turns.call_id = calls.id WHERE calls.created_at >= $1 \
             AND calls.id < $2 ORDER BY calls.created_at DESC LIMIT $3",
        )
        .bind(since)
        .bind(ids)
        .bind(MOST_TURNS)
        .fetch_all(&self.pool)
        .await?;
        turns.iter().map(kept_turn).collect()
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

/// The ids of about [`ENOUGH_CALLS`] of so many calls are below this: they begin with random
/// hexadecimal digits.
fn ids_of_enough(calls: u64) -> String {
    match ENOUGH_CALLS * 0x1_0000 / calls.max(ENOUGH_CALLS) {
        0x1_0000 => "g".to_owned(),
        share => format!("{share:04x}"),
    }
}

fn kept_turn(row: &AnyRow) -> Result<KeptTurn, StoreError> {
    Ok(KeptTurn {
        called_at: parsed(row, "created_at", rows::time_of)?,
        assistant: AssistantId::new(row.try_get::<String, _>("assistant")?),
        ledger: rows::turn(row)?,
    })
}

fn counted(row: &AnyRow, every: Every) -> Result<CountedCalls, StoreError> {
    let (_, rest) = every.common();
    Ok(CountedCalls {
        at: parsed(row, "stretch", |text| {
            rows::time_of(&format!("{text}{rest}"))
        })?,
        call_type: parsed(row, "call_type", rows::named)?,
        ended_reason: parsed_option(row, "ended_reason", rows::named)?,
        calls: rows::unsigned(row, "calls")?,
        answered: rows::unsigned(row, "answered")?,
        talked_ms: rows::unsigned(row, "talked_ms")?,
    })
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::*;
    use crate::store::testing::{Place, on_both_databases};
    use crate::store::tests::call;

    on_both_databases![calls_are_counted_by_stretch_way_and_end];

    #[test]
    fn of_many_calls_a_part_is_picked_by_their_ids() {
        assert_eq!(ids_of_enough(0), "g");
        assert_eq!(ids_of_enough(1_000), "g");
        assert_eq!(ids_of_enough(2_000), "8000");
        assert_eq!(ids_of_enough(256_000), "0100");
    }

    async fn calls_are_counted_by_stretch_way_and_end(place: Place) {
        let store = place.open().await;
        let start = OffsetDateTime::UNIX_EPOCH + Duration::days(20_000);
        for (seed, minutes) in [(1, 0), (2, 30), (3, 59), (4, 60), (5, 61)] {
            let mut call = call(seed, start + Duration::minutes(minutes));
            call.started_at = (seed != 2).then_some(call.created_at);
            call.ended_at = Some(call.created_at + Duration::seconds(i64::from(seed)));
            call.ended_reason = Some(EndedReason::SilenceTimedOut);
            store.save_call(&call).await.expect("saved");
        }
        let since = start + Duration::seconds(1);
        let found = store.overview(since, Every::Hour).await.expect("counted");
        let counts = |found: Overview| {
            let mut calls = found.calls;
            calls.sort_by_key(|call| call.at);
            let facts = calls.iter().map(|call| {
                let at = (call.at - start).whole_minutes();
                (at, call.calls, call.answered, call.talked_ms)
            });
            facts.collect::<Vec<_>>()
        };
        assert_eq!(counts(found), [(0, 2, 1, 3000), (60, 2, 2, 9000)]);
        let found = store.overview(start, Every::Minute).await.expect("counted");
        assert_eq!(counts(found)[1], (30, 1, 0, 0));
        let found = store.overview(start, Every::Day).await.expect("counted");
        assert_eq!(counts(found), [(0, 5, 4, 13_000)]);
    }
}
