//! A kept call in Vapi's shape.

use serde_json::{Map, Value, json};
use time::{Duration, OffsetDateTime};

use crate::directory::{ORGANISATION, stamp};
use crate::record::{CallRecord, Message, Role};
use crate::store::StoredCall;

/// How much of a call is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// A line of a list.
    Brief,
    /// With what was said.
    Full,
}

/// A call. `base` is the server's own URL, with which those of its files begin.
pub(super) fn show(call: &StoredCall, base: &str, detail: Detail) -> Map<String, Value> {
    let record = &call.record;
    let mut shown = call.document.fields.clone();
    let time = |at: Option<OffsetDateTime>| at.map(stamp);
    let ours = json!({
        "id": record.id,
        "orgId": ORGANISATION,
        "type": record.call_type,
        "status": record.status,
        "phoneCallTransport": "sip",
        "createdAt": stamp(record.created_at),
        "updatedAt": stamp(call.updated_at),
        "startedAt": time(record.started_at),
        "endedAt": time(record.ended_at),
        "endedReason": record.ended_reason,
        "assistantId": Some(record.assistant.as_str()).filter(|id| !id.is_empty()),
        "phoneNumberId": record.phone_number_id,
        "customer": customer(call),
        "name": call.name,
        "cost": 0,
        "costs": [],
        "analysis": call.analysis,
        "artifact": artifact(record, base, detail),
        "offhook": ours_only(record, detail),
    });
    if let Value::Object(ours) = ours {
        shown.extend(ours.into_iter().filter(|(_, value)| !value.is_null()));
    }
    if detail == Detail::Full {
        shown.insert("messages".to_owned(), messages(record));
        shown.insert("transcript".to_owned(), json!(transcript(record)));
    }
    shown
}

/// What the request said of the person, under what the telephone knows.
fn customer(call: &StoredCall) -> Option<Value> {
    let given = call
        .document
        .fields
        .get("customer")
        .and_then(Value::as_object);
    let mut customer = given.cloned().unwrap_or_default();
    if let Some(known) = &call.record.customer {
        customer.insert("number".to_owned(), json!(known.number));
        if let Some(name) = &known.name {
            customer.insert("name".to_owned(), json!(name));
        }
    }
    (!customer.is_empty()).then_some(Value::Object(customer))
}

fn artifact(record: &CallRecord, base: &str, detail: Detail) -> Value {
    let at = |path: &str| format!("{base}/call/{}/{path}", record.id);
    let mut artifact = Map::new();
    if record.recording.is_some() {
        let urls = json!({
            "recordingUrl": at("mono-recording"),
            "stereoRecordingUrl": at("stereo-recording"),
            "recording": {
                "stereoUrl": at("stereo-recording"),
                "mono": {
                    "combinedUrl": at("mono-recording"),
                    "customerUrl": at("customer-recording"),
                    "assistantUrl": at("assistant-recording"),
                },
            },
        });
        if let Value::Object(urls) = urls {
            artifact.extend(urls);
        }
    }
    artifact.insert("logUrl".to_owned(), json!(at("call-logs")));
    artifact.insert("pcapUrl".to_owned(), json!(at("pcap")));
    if detail == Detail::Full {
        artifact.insert("messages".to_owned(), messages(record));
        artifact.insert("messagesOpenAIFormatted".to_owned(), chat(record));
        artifact.insert("transcript".to_owned(), json!(transcript(record)));
    }
    Value::Object(artifact)
}

fn ours_only(record: &CallRecord, detail: Detail) -> Value {
    let mut ours = json!({
        "from": record.from,
        "to": record.to,
        "trunk": record.trunk,
        "divertedFrom": record.diverted_from,
        "endedBy": record.ended_by,
        "mailbox": record.mailbox,
        "answeredBy": record.answered_by,
    });
    if detail == Detail::Full {
        let more = json!({
            "peer": record.peer,
            "sipCallId": record.sip_call_id,
            "codec": record.codec,
            "srtp": record.srtp,
            "greetingMs": record.greeting_ms,
            "quality": record.quality,
            "recordingSha256": record.recording_sha256,
            "digits": record.digits,
            "turns": record.turns,
        });
        if let (Value::Object(ours), Value::Object(more)) = (&mut ours, more) {
            ours.extend(more);
        }
    }
    ours
}

fn messages(record: &CallRecord) -> Value {
    let messages = record.messages.iter();
    messages
        .map(|message| shown_message(record, message))
        .collect()
}

fn shown_message(record: &CallRecord, message: &Message) -> Value {
    let start = record.started_at.unwrap_or(record.created_at);
    let epoch_ms = |ms: u64| {
        let at = start + Duration::milliseconds(i64::try_from(ms).unwrap_or(i64::MAX / 2));
        i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(0)
    };
    json!({
        "role": message.role,
        "message": message.message,
        "time": epoch_ms(message.start_ms),
        "endTime": epoch_ms(message.end_ms),
        "secondsFromStart": seconds(message.start_ms),
        "duration": message.end_ms.saturating_sub(message.start_ms),
        "interrupted": message.interrupted,
    })
}

fn seconds(ms: u64) -> f64 {
    std::time::Duration::from_millis(ms).as_secs_f64()
}

fn chat(record: &CallRecord) -> Value {
    let messages = record.messages.iter().map(|message| {
        let role = match message.role {
            Role::User => "user",
            Role::Bot => "assistant",
            Role::System => "system",
        };
        json!({ "role": role, "content": message.message })
    });
    messages.collect()
}

/// `AI: …` and `User: …`, line by line, as Vapi writes it.
pub(super) fn transcript(record: &CallRecord) -> String {
    let mut text = String::new();
    for message in &record.messages {
        let who = match message.role {
            Role::User => "User: ",
            Role::Bot => "AI: ",
            Role::System => continue,
        };
        text.push_str(who);
        text.push_str(&message.message);
        text.push('\n');
    }
    text
}
