//! The messages, in Vapi's shapes.

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Event, REPORT};
use crate::record::{Analysis, CallRecord, Message, Role};

/// A message about something that happened in a call.
pub(super) fn message(call: &CallRecord, event: Event<'_>, now: OffsetDateTime) -> String {
    let mut message = json!({
        "type": event.name(),
        "timestamp": millis(now),
        "call": call_object(call),
    });
    let more = match event {
        Event::Status(status) => match call.ended_reason {
            Some(reason) => json!({"status": status, "endedReason": reason}),
            None => json!({"status": status}),
        },
        Event::Transcript(words) => json!({
            "role": speaker(words.role),
            "transcriptType": "final",
            "transcript": words.message,
        }),
        Event::PartialTranscript { role, words } => json!({
            "role": speaker(role),
            "transcriptType": "partial",
            "transcript": words,
        }),
        Event::Speech { role, speaking } => json!({
            "role": speaker(role),
            "status": if speaking { "started" } else { "stopped" },
        }),
        Event::UserInterrupted(turn) => json!({"turnId": turn.0.to_string()}),
        Event::Hang => json!({}),
    };
    merge(&mut message, more);
    json!({ "message": message }).to_string()
}

/// An `assistant-request`. `phone_number` is the number's object, where it has one.
pub(super) fn assistant_request(
    call: &CallRecord,
    phone_number: Option<&Value>,
    now: OffsetDateTime,
) -> String {
    let message = json!({
        "type": "assistant-request",
        "timestamp": millis(now),
        "call": call_object(call),
        "customer": call.customer,
        "phoneNumber": phone_number,
    });
    json!({ "message": message }).to_string()
}

/// A call's `end-of-call-report`. `base` is this server's own URL, where receivers can use it.
pub(super) fn report(
    call: &CallRecord,
    analysis: Option<&Analysis>,
    base: Option<&str>,
    now: OffsetDateTime,
) -> String {
    let messages: Vec<Value> = call
        .messages
        .iter()
        .map(|said| spoken(call, said))
        .collect();
    let openai: Vec<Value> = call
        .messages
        .iter()
        .map(|said| json!({"role": speaker(said.role), "content": said.message}))
        .collect();
    let mut artifact = json!({
        "messages": messages,
        "messagesOpenAIFormatted": openai,
        "transcript": transcript(&call.messages),
    });
    if let Some(base) = base {
        merge(&mut artifact, files(call, base));
    }
    let message = json!({
        "type": REPORT,
        "timestamp": millis(now),
        "call": call_object(call),
        "customer": call.customer,
        "startedAt": call.started_at.and_then(rfc3339),
        "endedAt": call.ended_at.and_then(rfc3339),
        "endedReason": call.ended_reason,
        "artifact": artifact,
        "analysis": analysis.cloned().unwrap_or_default(),
    });
    json!({ "message": message }).to_string()
}

/// Where a call's files are. They are shown to whoever has a key of the API.
fn files(call: &CallRecord, base: &str) -> Value {
    let base = base.trim_end_matches('/');
    let at = |path: &str| format!("{base}/call/{}/{path}", call.id);
    let mut files = json!({ "logUrl": at("call-logs"), "pcapUrl": at("pcap") });
    if call.recording.is_some() {
        let recordings = json!({
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
        merge(&mut files, recordings);
    }
    files
}

/// What was said, a line for each message.
pub(super) fn transcript(messages: &[Message]) -> String {
    let line = |said: &Message| match said.role {
        Role::User => Some(format!("User: {}\n", said.message)),
        Role::Bot => Some(format!("AI: {}\n", said.message)),
        Role::System => None,
    };
    messages.iter().filter_map(line).collect()
}

fn spoken(call: &CallRecord, said: &Message) -> Value {
    let start = call.started_at.map_or(0, millis);
    json!({
        "role": said.role,
        "message": said.message,
        "time": start + u128::from(said.start_ms),
        "endTime": start + u128::from(said.end_ms),
        "secondsFromStart": said.start_ms as f64 / 1000.0,
        "duration": said.end_ms.saturating_sub(said.start_ms),
    })
}

fn call_object(call: &CallRecord) -> Value {
    json!({
        "id": call.id,
        "type": call.call_type,
        "status": call.status,
        "phoneCallTransport": "sip",
        "assistantId": Some(call.assistant.as_str()).filter(|id| !id.is_empty()),
        "phoneNumberId": call.phone_number_id,
        "customer": call.customer,
        "createdAt": rfc3339(call.created_at),
        "startedAt": call.started_at.and_then(rfc3339),
        "endedAt": call.ended_at.and_then(rfc3339),
        "endedReason": call.ended_reason,
    })
}

fn merge(into: &mut Value, more: Value) {
    if let (Value::Object(into), Value::Object(more)) = (into, more) {
        into.extend(more);
    }
}

/// Vapi's word for who speaks, in messages to servers.
fn speaker(role: Role) -> &'static str {
    match role {
        Role::User => "user",
        Role::Bot => "assistant",
        Role::System => "system",
    }
}

fn millis(at: OffsetDateTime) -> u128 {
    u128::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or_default()
}

fn rfc3339(at: OffsetDateTime) -> Option<String> {
    at.format(&Rfc3339).ok()
}
