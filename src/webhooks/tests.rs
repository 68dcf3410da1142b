//! Messages to a real HTTP server, from a real database.

use std::sync::Mutex;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::ids::{AssistantId, CallId};
use crate::observe::Metrics;
use crate::record::{Analysis, CallType, EndedBy, EndedReason};
use crate::store::Store;
use crate::store::testing::{Place, on_both_databases};
use crate::web::{Client, Reach};

on_both_databases![
    a_call_is_told_in_order_signed_and_in_vapis_shapes,
    a_receiver_that_fails_gets_everything_in_order_with_the_same_ids,
    calls_do_not_wait_for_each_other,
    what_waits_outlives_the_server,
    a_private_address_is_not_told_anything,
    what_is_not_wanted_is_not_kept_and_what_is_gone_is_given_up,
    the_report_waits_for_the_analysis_and_has_it,
    words_that_may_still_change_are_told_where_they_are_wanted_and_the_newest_only,
    of_too_many_messages_the_oldest_of_the_busiest_receiver_are_dropped,
    a_receiver_that_was_down_for_a_minute_has_everything_in_order_afterwards,
];

const PATIENCE: Duration = Duration::from_secs(60);

/// What a receiver got: header fields and the message.
type Received = (HeaderMap, Value);

/// A receiver that answers with each status in turn, and with the last one from then on.
#[derive(Clone)]
struct Receiver {
    answers: Arc<Mutex<Vec<u16>>>,
    got: mpsc::UnboundedSender<Received>,
}

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: String) -> StatusCode {
    let status = {
        let mut answers = receiver.answers.lock().unwrap();
        match answers.len() {
            1 => answers[0],
            _ => answers.remove(0),
        }
    };
    if status == 0 {
        std::future::pending::<()>().await;
    }
    let message = serde_json::from_str(&body).unwrap();
    receiver.got.send((headers, message)).unwrap();
    StatusCode::from_u16(status).unwrap()
}

struct World {
    place: Place,
    store: Store,
    journal: Journal,
    url: String,
    got: mpsc::UnboundedReceiver<Received>,
    reach: Reach,
    more: String,
    most_waiting: u64,
}

impl World {
    async fn new(place: Place, answers: &[u16]) -> Self {
        let store = place.open().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let (sender, got) = mpsc::unbounded_channel();
        let receiver = Receiver {
            answers: Arc::new(Mutex::new(answers.to_vec())),
            got: sender,
        };
        let router = Router::new()
            .route("/hook", post(receive))
            .with_state(receiver);
        tokio::spawn(async move { axum::serve(listener, router).await });
        let journal = Journal::start(store.clone(), None);
        Self {
            place,
            store,
            journal,
            url,
            got,
            reach: Reach::Anywhere,
            more: String::new(),
            most_waiting: 1000,
        }
    }

    fn settings(&self) -> AssistantSettings {
        let (url, more) = (&self.url, &self.more);
        let json = format!(
            r#"{{"server": {{"url": "{url}", "secret": "whsec_c2VjcmV0",
                "headers": {{"x-tenant": "seven"}},
                "backoffPlan": {{"type": "fixed", "baseDelaySeconds": 0}}, "timeoutSeconds": 1}},
                "serverMessages": ["status-update", "speech-update", "transcript", "hang",
                "user-interrupted", "end-of-call-report"] {more}}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    fn book(&self) -> Book {
        let settings = self.settings();
        Arc::new(move |_| {
            let settings = settings.clone();
            Box::pin(async { Ok(Some(settings)) })
        })
    }

    fn webhooks(&self) -> Webhooks {
        Webhooks::new(self.journal.clone())
    }

    fn start(&self) -> tokio::task::JoinHandle<()> {
        let sender = Sender {
            store: self.store.clone(),
            client: Client::new(self.reach.clone(), Duration::from_secs(5)).unwrap(),
            settings_of: self.book(),
            metrics: Metrics::default(),
            settings: SenderSettings {
                give_up: Duration::from_secs(3600),
                poll: Duration::from_millis(10),
                most_waiting: self.most_waiting,
                base: Some("https://offhook.example.com/".to_owned()),
            },
        };
        tokio::spawn(sender.run())
    }

    /// A call in the database, and a status, words and the end of it told.
    async fn whole_call(&self, number: u8) -> CallRecord {
        let mut call = record(number);
        self.journal.write_now(call.clone()).await.unwrap();
        let (webhooks, settings) = (self.webhooks(), self.settings());
        webhooks.tell(&settings, &call, Event::Status(CallStatus::InProgress));
        for (index, (role, words)) in [(Role::Bot, "Hello."), (Role::User, "Hi!")]
            .into_iter()
            .enumerate()
        {
            let index = u32::try_from(index).unwrap();
            let message = Message {
                role,
                message: words.into(),
                start_ms: u64::from(index) * 1000,
                end_ms: u64::from(index) * 1000 + 500,
                turn: TurnNumber(index),
                interrupted: false,
            };
            webhooks.tell(&settings, &call, Event::Transcript(&message));
            self.journal.write(Entry::Message(call.id, index, message));
        }
        call.status = CallStatus::Ended;
        call.ended_at = Some(OffsetDateTime::now_utc());
        call.ended_reason = Some(EndedReason::CustomerEndedCall);
        call.ended_by = Some(EndedBy::Customer);
        self.journal.write(Entry::Call(Box::new(call.clone())));
        webhooks.ended(&settings, &call);
        self.journal.flush().await;
        call
    }

    async fn next(&mut self) -> Received {
        let got = tokio::time::timeout(PATIENCE, self.got.recv()).await;
        got.expect("a message in time").unwrap()
    }

    async fn all_delivered(&self) {
        let all = async {
            while self.store.waiting_webhooks().await.unwrap() > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, all)
            .await
            .expect("all in time");
    }
}

fn record(number: u8) -> CallRecord {
    let now = OffsetDateTime::now_utc();
    CallRecord {
        id: CallId::from_random([number; 16]),
        call_type: CallType::InboundPhoneCall,
        status: CallStatus::InProgress,
        assistant: AssistantId::new("reception"),
        from: "sip:a@b".into(),
        to: "sip:c@d".into(),
        customer: None,
        trunk: None,
        diverted_from: None,
        peer: "192.0.2.1:5060".into(),
        sip_call_id: format!("call-{number}"),
        later_call_ids: Vec::new(),
        created_at: now,
        started_at: Some(now),
        ended_at: None,
        ended_reason: None,
        ended_by: None,
        greeting_ms: None,
        codec: None,
        srtp: None,
        quality: None,
        recording: Some("recordings/x.wav".into()),
        recording_sha256: None,
        messages: Vec::new(),
        turns: Vec::new(),
        digits: String::new(),
        mailbox: None,
        phone_number_id: None,
        answered_by: None,
    }
}

fn kind(received: &Received) -> &str {
    received.1["message"]["type"].as_str().unwrap()
}

const WHOLE: [&str; 5] = [
    "status-update",
    "transcript",
    "transcript",
    "status-update",
    "end-of-call-report",
];

async fn a_call_is_told_in_order_signed_and_in_vapis_shapes(place: Place) {
    let mut world = World::new(place, &[200]).await;
    let call = world.whole_call(1).await;
    let _sender = world.start();
    let mut got = Vec::new();
    for _ in 0..5 {
        got.push(world.next().await);
    }
    assert_eq!(got.iter().map(kind).collect::<Vec<_>>(), WHOLE);
    let (headers, first) = &got[0];
    assert_eq!(headers["x-tenant"], "seven");
    assert_eq!(headers["content-type"], "application/json");
    let text = |name: &str| headers[name].to_str().unwrap();
    let seconds = text("webhook-timestamp").parse().unwrap();
    let expected = signature::sign("secret", text("webhook-id"), seconds, &first.to_string());
    assert_eq!(text("webhook-signature"), expected);
    assert_eq!(first["message"]["status"], "in-progress");
    assert_eq!(first["message"]["call"]["id"], call.id.to_string());
    assert_eq!(got[2].1["message"]["role"], "user");
    assert_eq!(got[2].1["message"]["transcript"], "Hi!");
    assert_eq!(got[3].1["message"]["endedReason"], "customer-ended-call");
    let report = &got[4].1["message"];
    assert_eq!(report["endedReason"], "customer-ended-call");
    assert_eq!(report["artifact"]["transcript"], "AI: Hello.\nUser: Hi!\n");
    assert_eq!(report["artifact"]["messages"][1]["secondsFromStart"], 1.0);
    let recording = report["artifact"]["recordingUrl"].as_str().unwrap();
    let expected = format!(
        "https://offhook.example.com/call/{}/mono-recording",
        call.id
    );
    assert_eq!(recording, expected);
    world.all_delivered().await;
}

async fn a_receiver_that_fails_gets_everything_in_order_with_the_same_ids(place: Place) {
    // Down, slow beyond its time, busy, and well again.
    let mut world = World::new(place, &[503, 0, 429, 404, 200]).await;
    world.whole_call(1).await;
    let _sender = world.start();
    let mut kinds = Vec::new();
    let mut ids = Vec::new();
    // The one that was never answered does not show.
    for _ in 0..8 {
        let received = world.next().await;
        ids.push(received.0["webhook-id"].clone());
        kinds.push(kind(&received).to_owned());
    }
    assert_eq!(kinds[..4], ["status-update"; 4], "until it was taken");
    assert_eq!(kinds[3..], WHOLE);
    assert!(ids[..4].iter().all(|id| *id == ids[0]));
    ids.dedup();
    assert_eq!(ids.len(), 5, "every message has its own");
    world.all_delivered().await;
}

async fn calls_do_not_wait_for_each_other(place: Place) {
    let mut world = World::new(place, &[500, 200]).await;
    world.more = r#", "name": "x""#.into();
    for number in 1..=4 {
        world.whole_call(number).await;
    }
    let _sender = world.start();
    let mut of_call: std::collections::HashMap<String, Vec<String>> = Default::default();
    for _ in 0..21 {
        let received = world.next().await;
        let id = received.1["message"]["call"]["id"].as_str().unwrap();
        let list = of_call.entry(id.to_owned()).or_default();
        list.push(kind(&received).to_owned());
    }
    assert_eq!(of_call.len(), 4);
    for list in of_call.values_mut() {
        if list.len() == 6 {
            assert_eq!(list.remove(0), list[0], "the one that failed first");
        }
        assert_eq!(*list, WHOLE);
    }
    world.all_delivered().await;
}

async fn what_waits_outlives_the_server(place: Place) {
    let mut world = World::new(place, &[503, 503, 200]).await;
    world.whole_call(1).await;
    let first = world.start();
    world.next().await;
    first.abort();
    let _ = first.await;
    world.journal = Journal::start(world.store.clone(), None);
    world.store = world.place.open().await;
    assert_eq!(world.store.waiting_webhooks().await.unwrap(), 5);
    let _second = world.start();
    let mut kinds = Vec::new();
    loop {
        let received = world.next().await;
        kinds.push(kind(&received).to_owned());
        if kinds.last().unwrap() == "end-of-call-report" {
            break;
        }
    }
    kinds.dedup();
    let mut whole = WHOLE.to_vec();
    whole.dedup();
    assert_eq!(kinds, whole);
    world.all_delivered().await;
}

async fn a_private_address_is_not_told_anything(place: Place) {
    let mut world = World::new(place, &[200]).await;
    world.reach = Reach::Public { except: Vec::new() };
    world.whole_call(1).await;
    let sender = world.start();
    world.all_delivered().await;
    sender.abort();
    assert!(world.got.try_recv().is_err());
}

async fn what_is_not_wanted_is_not_kept_and_what_is_gone_is_given_up(place: Place) {
    let mut world = World::new(place, &[410]).await;
    let call = record(1);
    world.journal.write_now(call.clone()).await.unwrap();
    let (webhooks, mut settings) = (world.webhooks(), world.settings());
    settings.server_messages = vec!["hang".into(), "transcript[transcriptType=\"final\"]".into()];
    webhooks.tell(&settings, &call, Event::Status(CallStatus::InProgress));
    webhooks.tell(&settings, &call, Event::UserInterrupted(TurnNumber(3)));
    webhooks.tell(&settings, &call, Event::Hang);
    settings.server = None;
    webhooks.tell(&settings, &call, Event::Hang);
    world.journal.flush().await;
    assert_eq!(world.store.waiting_webhooks().await.unwrap(), 1);
    let _sender = world.start();
    assert_eq!(kind(&world.next().await), "hang");
    world.all_delivered().await;
    assert!(world.got.try_recv().is_err(), "410 is final");
}

async fn the_report_waits_for_the_analysis_and_has_it(place: Place) {
    let mut world = World::new(place, &[200]).await;
    world.more = r#", "analysisPlan": {"summaryPlan": {}}"#.into();
    let call = world.whole_call(1).await;
    let _sender = world.start();
    for kind_ in &WHOLE[..4] {
        assert_eq!(kind(&world.next().await), *kind_);
    }
    assert_eq!(world.store.analysis(call.id).await.unwrap(), Some(None));
    let analysis = Analysis {
        summary: Some("Somebody said hi.".into()),
        ..Analysis::default()
    };
    world
        .store
        .save_analysis(call.id, Some(&analysis))
        .await
        .unwrap();
    let report = world.next().await;
    assert_eq!(
        report.1["message"]["analysis"]["summary"],
        "Somebody said hi."
    );
    world.all_delivered().await;
}

async fn words_that_may_still_change_are_told_where_they_are_wanted_and_the_newest_only(
    place: Place,
) {
    let mut world = World::new(place, &[200]).await;
    let call = record(1);
    world.journal.write_now(call.clone()).await.unwrap();
    let (webhooks, settings) = (world.webhooks(), world.settings());
    let partial = |words| Event::PartialTranscript {
        role: Role::User,
        words,
    };
    for words in ["I", "I would", "I would like"] {
        webhooks.tell(&settings, &call, partial(words));
    }
    let final_only = AssistantSettings {
        server_messages: vec![r#"transcript[transcriptType="final"]"#.into()],
        ..settings.clone()
    };
    webhooks.tell(&final_only, &call, partial("I would like nothing"));
    world.journal.flush().await;
    let sender = world.start();
    let first = world.next().await.1;
    assert_eq!(first["message"]["type"], "transcript");
    assert_eq!(first["message"]["transcriptType"], "partial");
    assert_eq!(first["message"]["transcript"], "I would like");
    world.all_delivered().await;
    sender.abort();
    let _ = sender.await;
    webhooks.tell(&settings, &call, partial("I would like a"));
    let message = Message {
        role: Role::User,
        message: "I would like a room.".into(),
        start_ms: 0,
        end_ms: 1,
        turn: TurnNumber(1),
        interrupted: false,
    };
    webhooks.tell(&final_only, &call, Event::Transcript(&message));
    world.journal.flush().await;
    let _sender = world.start();
    assert_eq!(world.next().await.1["message"]["transcriptType"], "final");
    world.all_delivered().await;
}

async fn of_too_many_messages_the_oldest_of_the_busiest_receiver_are_dropped(place: Place) {
    let mut world = World::new(place, &[200]).await;
    let (busy, quiet) = (record(1), record(2));
    let (webhooks, settings) = (world.webhooks(), world.settings());
    let mut elsewhere = settings.clone();
    elsewhere.server.as_mut().unwrap().url = Some("http://192.0.2.1/hook".into());
    for call in [&busy, &quiet] {
        world.journal.write_now(call.clone()).await.unwrap();
    }
    webhooks.tell(&elsewhere, &quiet, Event::Hang);
    for turn in 0..6 {
        webhooks.tell(&settings, &busy, Event::UserInterrupted(TurnNumber(turn)));
    }
    world.journal.flush().await;
    let dropped = world.store.drop_webhooks_over(4).await.unwrap();
    let (count, receiver) = dropped.expect("some were dropped");
    assert_eq!(count, 3);
    assert!(world.url.starts_with(&receiver), "{receiver}");
    assert_eq!(world.store.drop_webhooks_over(4).await.unwrap(), None);
    let _sender = world.start();
    let mut turns = Vec::new();
    for _ in 0..4 {
        let message = world.next().await.1["message"].clone();
        turns.extend(message["turnId"].as_str().map(str::to_owned));
    }
    assert_eq!(turns, ["3", "4", "5"], "the newest are told");
    world.all_delivered().await;
}

async fn a_receiver_that_was_down_for_a_minute_has_everything_in_order_afterwards(place: Place) {
    let mut world = World::new(place, &[200]).await;
    world.whole_call(1).await;
    // It refused its connections for as long as six pauses of ten seconds.
    let mut now = OffsetDateTime::now_utc();
    for _ in 0..6 {
        let due = world.store.due_webhooks(now, 8).await.unwrap();
        assert_eq!(due.len(), 1, "one of the call at a time");
        now += Duration::from_secs(10);
        let again = crate::record::WebhookOutcome::Again {
            at: now,
            why: "no connection".into(),
        };
        world.store.webhook_tried(due[0].id, &again).await.unwrap();
    }
    assert!(world.store.due_webhooks(now, 8).await.unwrap().len() == 1);
    assert_eq!(world.store.waiting_webhooks().await.unwrap(), 5);
    let due = &world.store.due_webhooks(now, 8).await.unwrap()[0];
    assert_eq!(due.attempts, 6);
    let up = crate::record::WebhookOutcome::Again {
        at: OffsetDateTime::now_utc(),
        why: "no connection".into(),
    };
    world.store.webhook_tried(due.id, &up).await.unwrap();
    let _sender = world.start();
    let mut kinds = Vec::new();
    for _ in 0..5 {
        kinds.push(kind(&world.next().await).to_owned());
    }
    assert_eq!(kinds, WHOLE);
    world.all_delivered().await;
}

/// A server of a number that says this, after so long.
async fn said(answer: &'static str, status: u16, after: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let say = move |body: String| async move {
        let asked: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(asked["message"]["type"], "assistant-request");
        assert_eq!(asked["message"]["phoneNumber"]["number"], "+4930");
        assert!(asked["message"]["call"]["id"].is_string());
        tokio::time::sleep(after).await;
        (StatusCode::from_u16(status).unwrap(), answer)
    };
    let router = Router::new().route("/hook", post(say));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

async fn asked(url: &str, reach: Reach) -> Result<ServerAnswer, EndedReason> {
    let client = Client::new(reach, Duration::from_secs(5)).unwrap();
    let requests = Requests::with_deadline(client, Duration::from_millis(300));
    let server = serde_json::from_value(serde_json::json!({ "url": url })).unwrap();
    let number = serde_json::json!({ "number": "+4930" });
    requests.ask(&server, &record(1), Some(&number)).await
}

#[tokio::test]
async fn a_numbers_server_says_who_answers() {
    let url = said(r#"{"assistantId": "reception"}"#, 201, Duration::ZERO).await;
    let answer = ServerAnswer::AssistantId {
        id: "reception".into(),
        overrides: None,
    };
    // Any wait would do: the machine may be slow.
    let client = Client::new(Reach::Anywhere, Duration::from_secs(5)).unwrap();
    let server = serde_json::from_value(serde_json::json!({ "url": url })).unwrap();
    let requests = Requests::with_deadline(client, PATIENCE);
    let number = serde_json::json!({ "number": "+4930" });
    let said = requests.ask(&server, &record(1), Some(&number)).await;
    assert_eq!(said, Ok(answer));
}

#[tokio::test]
async fn a_numbers_server_that_is_slow_down_private_or_talks_garbage_fails() {
    let failed = Err(EndedReason::AssistantRequestFailed);
    let never = Duration::from_secs(3600);
    let slow = said(r#"{"assistantId": "reception"}"#, 200, never).await;
    assert_eq!(asked(&slow, Reach::Anywhere).await, failed);
    let public = Reach::Public { except: Vec::new() };
    assert_eq!(asked(&slow, public).await, failed);
    for (answer, status) in [("<html>", 200), ("[]", 200), ("", 200), ("{}", 500)] {
        let url = said(answer, status, Duration::ZERO).await;
        assert_eq!(asked(&url, Reach::Anywhere).await, failed, "{answer}");
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    assert_eq!(asked(&nobody, Reach::Anywhere).await, failed);
}
