//! Messages to a real HTTP server, from a real database.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
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
use crate::web::{Client, Reach};

const PATIENCE: Duration = Duration::from_secs(60);

/// A data folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("offhook-webhooks-{}-{number}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

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
    folder: Folder,
    store: Store,
    journal: Journal,
    url: String,
    got: mpsc::UnboundedReceiver<Received>,
    reach: Reach,
    more: String,
}

impl World {
    async fn new(answers: &[u16]) -> Self {
        let folder = Folder::new();
        let store = Store::open(&folder.0).await.unwrap();
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
            folder,
            store,
            journal,
            url,
            got,
            reach: Reach::Anywhere,
            more: String::new(),
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
        Arc::new(move |name| (name == "reception").then(|| settings.clone()))
    }

    fn webhooks(&self) -> Webhooks {
        Webhooks::new(self.journal.clone(), self.book())
    }

    fn start(&self) -> tokio::task::JoinHandle<()> {
        let sender = Sender {
            store: self.store.clone(),
            client: Client::new(self.reach.clone(), Duration::from_secs(5)).unwrap(),
            assistants: self.book(),
            metrics: Metrics::default(),
            settings: SenderSettings {
                give_up: Duration::from_secs(3600),
                poll: Duration::from_millis(10),
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
        webhooks.ended(&call);
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
        recording: None,
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

#[tokio::test]
async fn a_call_is_told_in_order_signed_and_in_vapis_shapes() {
    let mut world = World::new(&[200]).await;
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
    world.all_delivered().await;
}

#[tokio::test]
async fn a_receiver_that_fails_gets_everything_in_order_with_the_same_ids() {
    // Down, slow beyond its time, busy, and well again.
    let mut world = World::new(&[503, 0, 429, 404, 200]).await;
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

#[tokio::test]
async fn calls_do_not_wait_for_each_other() {
    let mut world = World::new(&[500, 200]).await;
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

#[tokio::test]
async fn what_waits_outlives_the_server() {
    let mut world = World::new(&[503, 503, 200]).await;
    world.whole_call(1).await;
    let first = world.start();
    world.next().await;
    first.abort();
    let _ = first.await;
    world.journal = Journal::start(world.store.clone(), None);
    world.store = Store::open(&world.folder.0).await.unwrap();
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

#[tokio::test]
async fn a_private_address_is_not_told_anything() {
    let mut world = World::new(&[200]).await;
    world.reach = Reach::Public { except: Vec::new() };
    world.whole_call(1).await;
    let sender = world.start();
    world.all_delivered().await;
    sender.abort();
    assert!(world.got.try_recv().is_err());
}

#[tokio::test]
async fn what_is_not_wanted_is_not_kept_and_what_is_gone_is_given_up() {
    let mut world = World::new(&[410]).await;
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

#[tokio::test]
async fn the_report_waits_for_the_analysis_and_has_it() {
    let mut world = World::new(&[200]).await;
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
