//! Finding calls again: by number, words, assistant, outcome and time, a page at a time.

use sqlx::{Any, QueryBuilder};
use time::OffsetDateTime;

use super::rows::{self, Timestamp, name_of};
use super::{Store, StoreError};
use crate::record::{CallRecord, CallStatus, EndedReason};

/// Which calls, newest first. What is not set does not matter.
#[derive(Clone, Debug, Default)]
pub struct CallSearch {
    /// Part of the caller's or the called number or address, without regard to case.
    pub number: Option<String>,
    /// Part of what was said in it, without regard to the case of ASCII letters.
    pub text: Option<String>,
    /// The assistant's id.
    pub assistant: Option<String>,
    /// Why it ended.
    pub outcome: Option<EndedReason>,
    /// Where it stands.
    pub status: Option<CallStatus>,
    /// Made at this time or later.
    pub from: Option<OffsetDateTime>,
    /// Made before this time.
    pub until: Option<OffsetDateTime>,
    /// The last call of the page before: its time and id.
    pub after: Option<(OffsetDateTime, String)>,
    /// At most this many.
    pub limit: u32,
}

/// A page of calls.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Newest first, without messages and turns.
    pub calls: Vec<CallRecord>,
    /// There are more.
    pub more: bool,
}

impl Store {
    /// Searches the calls.
    ///
    /// # Errors
    /// Where the statement fails or a row is unreadable.
    pub async fn search_calls(&self, search: &CallSearch) -> Result<Found, StoreError> {
        let mut query = statement(search);
        let rows = query.build().fetch_all(&self.pool).await?;
        let mut calls: Vec<CallRecord> = rows.iter().map(rows::call).collect::<Result<_, _>>()?;
        let limit = usize::try_from(search.limit).unwrap_or(usize::MAX);
        let more = calls.len() > limit;
        calls.truncate(limit);
        Ok(Found { calls, more })
    }
}

fn statement(search: &CallSearch) -> QueryBuilder<Any> {
    let mut query = QueryBuilder::new("SELECT * FROM calls WHERE 1 = 1");
    if let Some(number) = &search.number {
        let part = contains(number);
        query
            .push(" AND (lower(caller) LIKE ")
            .push_bind(part.clone());
        query
            .push(" ESCAPE '\\' OR lower(called) LIKE ")
            .push_bind(part.clone());
        query
            .push(" ESCAPE '\\' OR lower(customer_number) LIKE ")
            .push_bind(part);
        query.push(" ESCAPE '\\')");
    }
    if let Some(text) = &search.text {
        query.push(" AND EXISTS (SELECT 1 FROM messages WHERE messages.call_id = calls.id");
        query
            .push(" AND lower(message) LIKE ")
            .push_bind(contains(text));
        query.push(" ESCAPE '\\')");
    }
    let equal = [
        (" AND assistant = ", search.assistant.clone()),
        (" AND ended_reason = ", search.outcome.as_ref().map(name_of)),
        (" AND status = ", search.status.as_ref().map(name_of)),
        (
            " AND created_at >= ",
            search.from.map(|at| Timestamp(at).to_string()),
        ),
        (
            " AND created_at < ",
            search.until.map(|at| Timestamp(at).to_string()),
        ),
    ];
    for (condition, value) in equal {
        if let Some(value) = value {
            query.push(condition).push_bind(value);
        }
    }
    if let Some((at, id)) = &search.after {
        let at = Timestamp(*at).to_string();
        query.push(" AND (created_at < ").push_bind(at.clone());
        query.push(" OR (created_at = ").push_bind(at);
        query.push(" AND id < ").push_bind(id.clone()).push("))");
    }
    query.push(" ORDER BY created_at DESC, id DESC LIMIT ");
    query.push_bind(i64::from(search.limit) + 1);
    query
}

/// A LIKE pattern of a part, whose own signs mean nothing.
fn contains(part: &str) -> String {
    let mut pattern = "%".to_owned();
    for letter in part.to_ascii_lowercase().chars() {
        if matches!(letter, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern.push('%');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{AssistantId, CallId, TurnNumber};
    use crate::record::{Message, Role};
    use crate::store::save_message;
    use crate::store::tests::{Folder, call};
    use time::Duration;

    async fn ids(store: &Store, search: CallSearch) -> Vec<CallId> {
        let search = CallSearch {
            limit: 10,
            ..search
        };
        let found = store.search_calls(&search).await.expect("searched");
        found.calls.iter().map(|call| call.id).collect()
    }

    #[tokio::test]
    async fn calls_are_found_by_number_words_assistant_outcome_and_time() {
        let folder = Folder::new();
        let store = Store::open(&folder.0).await.expect("opened");
        let start = OffsetDateTime::UNIX_EPOCH;
        let mut all = Vec::new();
        for place in 0..4_u8 {
            let mut call = call(place, start + Duration::hours(i64::from(place)));
            call.from = format!("sip:+49{place}55@example.com");
            if place == 2 {
                call.assistant = AssistantId::new("night");
                call.ended_reason = Some(EndedReason::SilenceTimedOut);
            }
            store.save_call(&call).await.expect("saved");
            let message = Message {
                role: Role::User,
                message: format!("I owe 100% of {place}_0"),
                start_ms: 0,
                end_ms: 1,
                turn: TurnNumber(1),
                interrupted: false,
            };
            let mut connection = store.pool.acquire().await.expect("connection");
            let saved = save_message(&mut connection, call.id, 0, &message);
            saved.await.expect("saved");
            all.push(call.id);
        }
        let by = CallSearch::default;
        let number = Some("+49155".to_owned());
        assert_eq!(ids(&store, CallSearch { number, ..by() }).await, [all[1]]);
        let text = Some("100% OF 3_".to_owned());
        assert_eq!(ids(&store, CallSearch { text, ..by() }).await, [all[3]]);
        let text = Some("100_".to_owned());
        assert!(ids(&store, CallSearch { text, ..by() }).await.is_empty());
        let assistant = Some("night".to_owned());
        assert_eq!(
            ids(&store, CallSearch { assistant, ..by() }).await,
            [all[2]]
        );
        let outcome = Some(EndedReason::SilenceTimedOut);
        assert_eq!(ids(&store, CallSearch { outcome, ..by() }).await, [all[2]]);
        let from = Some(start + Duration::hours(2));
        assert_eq!(
            ids(&store, CallSearch { from, ..by() }).await,
            [all[3], all[2]]
        );
    }

    #[tokio::test]
    async fn pages_follow_each_other_without_gap_or_repetition() {
        let folder = Folder::new();
        let store = Store::open(&folder.0).await.expect("opened");
        for place in 0..7_u8 {
            // Several at the same time.
            let at = OffsetDateTime::UNIX_EPOCH + Duration::hours(i64::from(place / 3));
            let call = call(place, at);
            store.save_call(&call).await.expect("saved");
        }
        let mut seen = Vec::new();
        let mut search = CallSearch {
            limit: 2,
            ..CallSearch::default()
        };
        loop {
            let found = store.search_calls(&search).await.expect("searched");
            seen.extend(found.calls.iter().map(|call| call.id.to_string()));
            let last = found.calls.last().expect("a call");
            search.after = Some((last.created_at, last.id.to_string()));
            if !found.more {
                break;
            }
        }
        let count = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!((count, seen.len()), (7, 7));
    }
}
