use std::sync::atomic::{AtomicU32, Ordering};

use time::Duration as Span;

use super::testing::{Place, on_both_databases};
use super::*;
use crate::ids::{AssistantId, MailboxName, TrunkName, TurnNumber};
use crate::record::{
    AnsweredBy, Answerer, AnswererEvidence, CallQuality, CallType, Customer, Role, SipDirection,
    SipMessage, SipTransport, StreamQuality,
};

pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    pub(super) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("offhook-store-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&path).expect("folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn call(seed: u8, created_at: OffsetDateTime) -> CallRecord {
    CallRecord {
        id: CallId::from_random([seed; 16]),
        call_type: CallType::InboundPhoneCall,
        status: CallStatus::InProgress,
        assistant: AssistantId::new("demo"),
        from: "sip:ann@127.0.0.1".to_owned(),
        to: "sip:demo@127.0.0.1".to_owned(),
        customer: Some(Customer {
            number: "+15551234567".to_owned(),
            name: Some("Ann".to_owned()),
        }),
        trunk: Some(TrunkName::new("carrier")),
        phone_number_id: Some("+4930".to_owned()),
        diverted_from: Some("+15550000".to_owned()),
        peer: "127.0.0.1:5070".to_owned(),
        sip_call_id: "abc".to_owned(),
        later_call_ids: Vec::new(),
        created_at,
        started_at: Some(created_at),
        ended_at: None,
        ended_reason: None,
        ended_by: None,
        greeting_ms: Some(40),
        codec: Some("PCMU".to_owned()),
        srtp: Some("AES_CM_128_HMAC_SHA1_80".to_owned()),
        quality: Some(CallQuality {
            heard: Some(StreamQuality {
                packets: 500,
                lost: 5,
                late: 1,
                jitter_ms: 1.5,
                delay_ms: 44,
                concealed_ms: Some(120),
                mos: 4.31,
            }),
            spoken: None,
            round_trip_ms: Some(20.5),
        }),
        recording: None,
        recording_sha256: None,
        messages: Vec::new(),
        turns: Vec::new(),
        digits: "12#".to_owned(),
        mailbox: Some(MailboxName::new("office")),
        answered_by: Some(AnsweredBy {
            who: Answerer::Machine,
            evidence: AnswererEvidence::Beep,
            after_ms: 4200,
            message_ms: Some(5000),
        }),
    }
}

on_both_databases![
    a_call_is_read_back_as_it_was_written,
    calls_left_open_by_a_crash_are_closed_with_the_reason_at_the_next_start,
    a_call_cut_off_by_a_crash_ended_when_the_server_last_showed_a_sign_of_life,
    an_entry_of_a_deleted_call_holds_nothing_up,
    pages_come_newest_first,
    the_quota_deletes_the_oldest_recordings_and_retention_whole_calls,
    the_messages_of_a_call_are_kept_while_it_goes_on_and_go_with_it,
    a_connection_that_cannot_write_is_replaced_by_one_that_can,
    the_messages_of_a_call_wait_for_a_database_that_cannot_be_written,
];

fn moment() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_790_000_000).expect("in range")
}

async fn a_call_is_read_back_as_it_was_written(place: Place) {
    let store = place.open().await;
    let journal = Journal::start(store.clone(), None);
    let mut written = call(1, moment());
    written.messages = vec![Message {
        role: Role::User,
        message: "Zwei Grüße, 'quoted'".to_owned(),
        start_ms: 1000,
        end_ms: 2000,
        turn: TurnNumber(1),
        interrupted: false,
    }];
    written.turns = vec![TurnLedger {
        turn: TurnNumber(1),
        speech_ended_ms: Some(2000),
        first_packet_ms: Some(2550),
        ..TurnLedger::default()
    }];
    journal.write_now(written.clone()).await.expect("row");
    journal.write(Entry::Message(written.id, 0, written.messages[0].clone()));
    journal.write(Entry::Turn(written.id, written.turns[0].clone()));
    journal.flush().await;
    assert_eq!(journal.health(), JournalHealth::Writable);
    let read = store.call(written.id).await.expect("read").expect("there");
    assert_eq!(read, written);
    assert_eq!(read.turns[0].voice_to_voice_ms(), Some(550));
    let turns = store.turns(moment() - Span::HOUR).await.expect("turns");
    assert_eq!(turns.len(), 1);
    assert_eq!(turns[0].assistant, written.assistant);
    assert_eq!(turns[0].ledger, written.turns[0]);
    let later = store.turns(moment() + Span::HOUR).await.expect("turns");
    assert!(later.is_empty());
    let prefix = &written.id.to_string()[..6];
    assert_eq!(store.ids_starting(prefix).await.expect("ids"), [written.id]);
    assert!(store.ids_starting("%").await.expect("ids").is_empty());
}

async fn calls_left_open_by_a_crash_are_closed_with_the_reason_at_the_next_start(place: Place) {
    let store = place.open().await;
    let open = call(1, moment());
    store.save_call(&open).await.expect("save");
    store.close().await;
    let store = place.open().await;
    assert_eq!(
        store
            .close_open_calls(moment() + Span::HOUR)
            .await
            .expect("close"),
        [open.id]
    );
    assert_eq!(
        store
            .close_open_calls(moment() + Span::HOUR)
            .await
            .expect("close"),
        []
    );
    let read = store.call(open.id).await.expect("read").expect("there");
    assert_eq!(read.ended_reason, Some(EndedReason::ServerCrashed));
    assert_eq!(read.ended_by, Some(EndedBy::System));
    assert_eq!(read.status, CallStatus::Ended);
}

async fn a_call_cut_off_by_a_crash_ended_when_the_server_last_showed_a_sign_of_life(place: Place) {
    let store = place.open().await;
    let (before, after) = (call(1, moment()), call(2, moment() + Span::minutes(2)));
    for call in [&before, &after] {
        store.save_call(call).await.expect("save");
    }
    for minutes in [0, 1] {
        store
            .beat(moment() + Span::minutes(minutes))
            .await
            .expect("beat");
    }
    let restart = moment() + Span::HOUR;
    let closed = store.close_open_calls(restart).await.expect("close");
    assert_eq!(closed.len(), 2);
    for (call, ended) in [
        (&before, moment() + Span::MINUTE),
        (&after, after.created_at),
    ] {
        let read = store.call(call.id).await.expect("read").expect("there");
        assert_eq!(read.ended_at, Some(ended));
    }
}

#[tokio::test]
async fn what_cannot_be_written_while_the_database_is_locked_is_written_afterwards_in_order() {
    let folder = Folder::new();
    let store = Store::open(&folder.0).await.expect("open");
    let journal = Journal::start(store.clone(), None);
    let mut written = call(1, moment());
    journal.write_now(written.clone()).await.expect("row");
    sqlx::query("PRAGMA busy_timeout = 1")
        .execute(&store.pool)
        .await
        .expect("impatience");
    let lock = Store::open(&folder.0).await.expect("another process");
    let lock = lock
        .pool
        .begin_with("BEGIN IMMEDIATE")
        .await
        .expect("the lock");
    for (position, text) in (0..).zip(["one", "two"]) {
        let message = Message {
            role: Role::User,
            message: text.to_owned(),
            start_ms: 1000 + u64::from(position),
            end_ms: 2000,
            turn: TurnNumber(1),
            interrupted: false,
        };
        written.messages.push(message.clone());
        journal.write(Entry::Message(written.id, position, message));
    }
    journal.flush().await;
    assert!(matches!(journal.health(), JournalHealth::Failing(_)));
    lock.rollback().await.expect("released");
    journal.flush().await;
    let read = store.call(written.id).await.expect("read").expect("there");
    assert_eq!(read, written);
    assert_eq!(
        (journal.health(), journal.dropped()),
        (JournalHealth::Writable, 0)
    );
}

async fn an_entry_of_a_deleted_call_holds_nothing_up(place: Place) {
    let store = place.open().await;
    let journal = Journal::start(store.clone(), None);
    let (gone, here) = (call(1, moment()), call(2, moment()));
    journal.write(Entry::Turn(gone.id, TurnLedger::default()));
    journal.write(Entry::Call(Box::new(here.clone())));
    journal.flush().await;
    assert!(store.call(here.id).await.expect("read").is_some());
    assert_eq!(journal.dropped(), 1);
}

async fn pages_come_newest_first(place: Place) {
    let store = place.open().await;
    for seed in 1..=5u8 {
        store
            .save_call(&call(seed, moment() + Span::seconds(i64::from(seed))))
            .await
            .expect("save");
    }
    let first = store
        .calls(&CallQuery {
            limit: 2,
            before: None,
            ..CallQuery::default()
        })
        .await
        .expect("page");
    assert_eq!(
        first.iter().map(|c| c.id).collect::<Vec<_>>(),
        [5, 4].map(|s| CallId::from_random([s; 16]))
    );
    let rest = store
        .calls(&CallQuery {
            limit: 10,
            before: Some(first[1].created_at),
            ..CallQuery::default()
        })
        .await
        .expect("page");
    assert_eq!(rest.len(), 3);
}

#[tokio::test]
async fn a_read_only_database_fails_the_probe_and_shows_in_the_health() {
    let folder = Folder::new();
    Store::open(&folder.0).await.expect("open").close().await;
    let store = Store::open_existing(&Database::Folder(folder.0.clone()))
        .await
        .expect("open")
        .expect("there");
    store.beat(moment()).await.expect_err("read-only");
    let journal = Journal::start(store, None);
    journal
        .write_now(call(1, moment()))
        .await
        .expect_err("read-only");
    assert!(matches!(journal.health(), JournalHealth::Failing(_)));
}

async fn the_quota_deletes_the_oldest_recordings_and_retention_whole_calls(place: Place) {
    let store = place.open().await;
    for seed in 1..=4u8 {
        let mut ended = call(seed, moment() + Span::days(i64::from(seed)));
        ended.status = CallStatus::Ended;
        let name = format!("{seed}.wav");
        std::fs::write(place.folder.join(&name), [0; 100]).expect("file");
        ended.recording = Some(name);
        store.save_call(&ended).await.expect("save");
    }
    let keep = Sweep {
        calls_before: Some(moment() + Span::hours(36)),
        recordings_bytes: Some(250),
    };
    assert_eq!(store.sweep(&place.folder, keep).await.expect("sweep"), 2);
    let left = store
        .calls(&CallQuery {
            limit: 10,
            before: None,
            ..CallQuery::default()
        })
        .await
        .expect("page");
    let names: Vec<Option<&str>> = left.iter().map(|c| c.recording.as_deref()).collect();
    assert_eq!(names, [Some("4.wav"), Some("3.wav"), None]);
    assert!(!place.folder.join("1.wav").exists() && !place.folder.join("2.wav").exists());
}

fn sip_message(first_line: &str, at: OffsetDateTime) -> SipMessage {
    SipMessage {
        at,
        direction: SipDirection::Received,
        transport: SipTransport::Udp,
        local: "127.0.0.1:5060".parse().expect("address"),
        peer: "[2001:db8::1]:5070".parse().expect("address"),
        bytes: format!("{first_line}\r\nCall-ID: abc\r\nCSeq: 1 INVITE\r\n\r\n\u{7f}\0")
            .into_bytes(),
    }
}

async fn the_messages_of_a_call_are_kept_while_it_goes_on_and_go_with_it(place: Place) {
    let store = place.open().await;
    let ladders = Ladders::start(store.clone());
    let journal = Journal::start(store.clone(), Some(ladders.clone()));
    let ended = call(1, moment());
    let invite = sip_message("INVITE sip:a SIP/2.0", moment());
    let busy = sip_message("SIP/2.0 486 Busy Here", moment() + Span::microseconds(7));
    ladders.message(invite.clone());
    ladders.message(sip_message(
        "INVITE sip:b SIP/2.0\r\nX: y\r\nCall-ID: other",
        moment(),
    ));
    journal.write_now(ended.clone()).await.expect("row");
    ladders.message(busy.clone());
    journal.flush().await;
    ladders.flush().await;
    let kept = async || {
        let kept = store.sip_messages(ended.id).await.expect("read");
        let messages = kept.into_iter().map(|kept| kept.message);
        messages.collect::<Vec<SipMessage>>()
    };
    assert_eq!(kept().await, [invite.clone(), busy.clone()]);
    let ack = sip_message("ACK sip:a SIP/2.0", moment() + Span::microseconds(9));
    ladders.message(ack.clone());
    let mut over = ended.clone();
    over.status = CallStatus::Ended;
    journal.write(Entry::Call(Box::new(over)));
    journal.flush().await;
    ladders.flush().await;
    assert_eq!(kept().await, [invite, busy, ack]);
    let sweep = Sweep {
        calls_before: Some(moment() + Span::days(1)),
        recordings_bytes: None,
    };
    store.sweep(&place.folder, sweep).await.expect("swept");
    assert_eq!(store.sip_messages(ended.id).await.expect("read"), []);
}

/// Every connection of the pool refuses writes, as those do that were opened while the file was
/// read-only.
async fn refuse_writes(place: &Place, store: &Store) {
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut connection = store.pool.acquire().await.expect("connection");
        sqlx::query(place.refuses_writes())
            .execute(&mut *connection)
            .await
            .expect("pragma");
        held.push(connection);
    }
}

async fn a_connection_that_cannot_write_is_replaced_by_one_that_can(place: Place) {
    let store = place.open().await;
    refuse_writes(&place, &store).await;
    // A new one may be there before the last of the others comes back to the pool.
    let mut failures = 0;
    while store.beat(moment()).await.is_err() {
        failures += 1;
        assert!(failures <= CONNECTIONS, "none is replaced");
    }
    assert!(failures > 0, "the first one is read-only");
}

async fn the_messages_of_a_call_wait_for_a_database_that_cannot_be_written(place: Place) {
    let store = place.open().await;
    let ladders = Ladders::start(store.clone());
    let journal = Journal::start(store.clone(), Some(ladders.clone()));
    journal.write_now(call(1, moment())).await.expect("row");
    refuse_writes(&place, &store).await;
    let invite = sip_message("INVITE sip:a SIP/2.0", moment());
    ladders.message(invite.clone());
    // The ladder hears of the row again, which is there already.
    ladders.row(&call(1, moment())).await;
    for _ in 0..=CONNECTIONS {
        ladders.flush().await;
    }
    let kept = store
        .sip_messages(call(1, moment()).id)
        .await
        .expect("read");
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].message, invite);
    assert_eq!(ladders.left_out(), 0);
}
