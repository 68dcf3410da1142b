//! Finding calls again.

use time::Duration;

use super::*;
use crate::ids::{AssistantId, TurnNumber};
use crate::record::{Message, Role};
use crate::store::save_message;
use crate::store::testing::{Place, on_both_databases};
use crate::store::tests::call;

on_both_databases![
    calls_are_found_by_number_assistant_outcome_and_time,
    calls_are_found_by_all_words_of_which_the_last_may_be_begun,
    a_frequent_beginning_is_found_as_a_rare_one_is,
    pages_follow_each_other_without_gap_or_repetition,
];

async fn ids(store: &Store, query: CallQuery) -> Vec<CallId> {
    let query = CallQuery { limit: 10, ..query };
    let found = store.calls(&query).await.expect("found");
    found.iter().map(|call| call.id).collect()
}

async fn said(store: &Store, call: CallId, position: u32, words: &str) {
    let message = Message {
        role: Role::User,
        message: words.to_owned(),
        start_ms: 0,
        end_ms: 1,
        turn: TurnNumber(1),
        interrupted: false,
    };
    let mut connection = store.pool.acquire().await.expect("connection");
    let saved = save_message(&mut connection, call, position, &message);
    saved.await.expect("saved");
}

/// Four calls, an hour apart; the third is the night's, and ended in silence.
async fn four_calls(store: &Store) -> Vec<CallId> {
    let mut all = Vec::new();
    for place in 0..4_u8 {
        let at = OffsetDateTime::UNIX_EPOCH + Duration::hours(i64::from(place));
        let mut call = call(place, at);
        call.from = format!("sip:+49{place}55@Example.com");
        if place == 2 {
            call.assistant = AssistantId::new("night");
            call.ended_reason = Some(EndedReason::SilenceTimedOut);
        }
        store.save_call(&call).await.expect("saved");
        let words = format!("My order is {place}, I paid 100% for Äpfel.");
        said(store, call.id, 0, &words).await;
        all.push(call.id);
    }
    all
}

async fn calls_are_found_by_number_assistant_outcome_and_time(place: Place) {
    let store = place.open().await;
    let all = four_calls(&store).await;
    let by = CallQuery::default;
    let number = Some("+49155".to_owned());
    assert_eq!(ids(&store, CallQuery { number, ..by() }).await, [all[1]]);
    let number = Some("55@EXAMPLE".to_owned());
    assert_eq!(ids(&store, CallQuery { number, ..by() }).await.len(), 4);
    let number = Some("+49_55".to_owned());
    assert!(ids(&store, CallQuery { number, ..by() }).await.is_empty());
    let assistant = Some("night".to_owned());
    assert_eq!(ids(&store, CallQuery { assistant, ..by() }).await, [all[2]]);
    let ended_reason = Some(EndedReason::SilenceTimedOut);
    assert_eq!(
        ids(
            &store,
            CallQuery {
                ended_reason,
                ..by()
            }
        )
        .await,
        [all[2]]
    );
    let created = Times {
        ge: Some(OffsetDateTime::UNIX_EPOCH + Duration::hours(2)),
        ..Times::default()
    };
    assert_eq!(
        ids(&store, CallQuery { created, ..by() }).await,
        [all[3], all[2]]
    );
}

async fn calls_are_found_by_all_words_of_which_the_last_may_be_begun(place: Place) {
    let store = place.open().await;
    let all = four_calls(&store).await;
    let found = async |words: &str| {
        let words = Some(words.to_owned());
        ids(
            &store,
            CallQuery {
                words,
                ..CallQuery::default()
            },
        )
        .await
    };
    assert_eq!(found("ord").await.len(), 4);
    assert_eq!(found("ORDER 3").await, [all[3]]);
    assert_eq!(found("3 order äpf").await, [all[3]]);
    // Words before the last one are whole.
    assert!(found("ord 3").await.is_empty());
    assert!(found("order nobody").await.is_empty());
    assert!(found("%").await.is_empty());
}

async fn a_frequent_beginning_is_found_as_a_rare_one_is(place: Place) {
    let store = place.open().await;
    let all = four_calls(&store).await;
    let many = usize::try_from(RARE).expect("small") / MOST_WORDS + 1;
    for part in 0..many {
        let words: Vec<String> = (0..MOST_WORDS)
            .map(|n| format!("often{}", part * MOST_WORDS + n))
            .collect();
        let position = u32::try_from(part + 1).expect("few");
        said(&store, all[1], position, &words.join(" ")).await;
    }
    assert_eq!(store.is_rare("often").await.ok(), Some(false));
    assert_eq!(store.is_rare("often9").await.ok(), Some(true));
    for words in ["often", "often9", "order often", "order often9"] {
        let words = Some(words.to_owned());
        let query = CallQuery {
            words,
            ..CallQuery::default()
        };
        assert_eq!(ids(&store, query).await, [all[1]]);
    }
}

async fn pages_follow_each_other_without_gap_or_repetition(place: Place) {
    let store = place.open().await;
    for number in 0..7_u8 {
        // Several at the same time.
        let at = OffsetDateTime::UNIX_EPOCH + Duration::hours(i64::from(number / 3));
        store.save_call(&call(number, at)).await.expect("saved");
    }
    let mut seen = Vec::new();
    let mut query = CallQuery {
        limit: 2,
        ..CallQuery::default()
    };
    loop {
        let page = store.calls(&query).await.expect("found");
        seen.extend(page.iter().map(|call| call.id.to_string()));
        let Some(last) = page.last() else { break };
        query.after = Some((last.created_at, last.id.to_string()));
    }
    let count = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!((count, seen.len()), (7, 7));
}
