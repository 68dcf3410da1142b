//! A call while it lasts: its events, its sound, and what may be done to it. Vapi's messages.

use std::time::Duration;

use axum::extract::ws::{Message as Frame, WebSocket};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use futures_util::stream::unfold;
use serde::Deserialize;
use serde_json::json;

use super::error::ApiError;
use crate::call::{
    CallCommand, CommandRefusal, Listener, LiveEvent, Manner, Next, Registry, Reply, Watcher,
};
use crate::conversation::ChatRole;
use crate::ids::CallId;
use crate::record::{CallStatus, EndedBy, EndedReason};

/// The longest text that is said or told at once, in characters.
const LONGEST_TEXT: usize = 2000;

/// A call that says nothing to a command for this long is stuck.
const CALL_PATIENCE: Duration = Duration::from_secs(10);

/// Sound that a listener's connection does not take within this ends the listening.
const LISTENER_PATIENCE: Duration = Duration::from_secs(10);

/// What may be done to a live call.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase"
)]
pub(super) enum ControlMessage {
    /// The assistant says this, after what it is saying.
    Say {
        content: String,
        #[serde(default)]
        end_call_after_spoken: bool,
    },
    /// The model is told something.
    AddMessage {
        message: AddedMessage,
        #[serde(default = "yes")]
        trigger_response_enabled: bool,
    },
    /// The assistant keeps still, or not any more.
    Control { control: Switch },
    /// The caller is passed on.
    Transfer {
        destination: Destination,
        /// What the person called hears first.
        content: Option<String>,
    },
    /// The call ends.
    EndCall,
}

fn yes() -> bool {
    true
}

/// A message in OpenAI's shape.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct AddedMessage {
    role: AddedRole,
    content: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum AddedRole {
    System,
    User,
    Assistant,
}

/// `hold` and `resume` are ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Switch {
    MuteAssistant,
    UnmuteAssistant,
    Hold,
    Resume,
}

/// To whom a caller is passed on.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase"
)]
pub(super) enum Destination {
    Number {
        number: String,
        #[serde(default)]
        transfer_plan: Plan,
    },
    Sip {
        sip_uri: String,
        #[serde(default)]
        transfer_plan: Plan,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(super) struct Plan {
    /// Vapi's: what begins with `warm` speaks to the person called first.
    #[serde(default)]
    mode: String,
}

/// Does what a message asks for.
///
/// # Errors
/// Where the message is wrong, the call is over, or its state does not allow it.
pub(super) async fn control(
    registry: &Registry,
    id: CallId,
    message: ControlMessage,
) -> Result<(), ApiError> {
    match message {
        ControlMessage::EndCall => {
            let end = CallCommand::End {
                reason: EndedReason::ManuallyCanceled,
                by: EndedBy::Operator,
            };
            registry.send(id, end).then_some(()).ok_or_else(|| over(id))
        }
        ControlMessage::Say {
            content,
            end_call_after_spoken: then_end,
        } => {
            let text = text("content", &content)?;
            let say = |reply| CallCommand::Say {
                text,
                then_end,
                reply,
            };
            ask(registry, id, say).await
        }
        ControlMessage::AddMessage {
            message,
            trigger_response_enabled: respond,
        } => {
            let content = text("message.content", &message.content)?;
            let role = match message.role {
                AddedRole::System => ChatRole::System,
                AddedRole::User => ChatRole::User,
                AddedRole::Assistant => ChatRole::Assistant,
            };
            let add = |reply| CallCommand::AddMessage {
                role,
                content,
                respond,
                reply,
            };
            ask(registry, id, add).await
        }
        ControlMessage::Control { control } => {
            let switch = |reply| match control {
                Switch::MuteAssistant => CallCommand::Mute { mute: true, reply },
                Switch::UnmuteAssistant => CallCommand::Mute { mute: false, reply },
                Switch::Hold => CallCommand::Hold(reply),
                Switch::Resume => CallCommand::Resume(reply),
            };
            ask(registry, id, switch).await
        }
        ControlMessage::Transfer {
            destination,
            content,
        } => {
            let (target, plan) = match destination {
                Destination::Number {
                    number,
                    transfer_plan,
                } => (text("destination.number", &number)?, transfer_plan),
                Destination::Sip {
                    sip_uri,
                    transfer_plan,
                } => (text("destination.sipUri", &sip_uri)?, transfer_plan),
            };
            let briefing = content.map(|words| text("content", &words)).transpose()?;
            let manner = match plan.mode.starts_with("warm") {
                true => Manner::Attended,
                false => Manner::Blind,
            };
            let transfer = |reply| CallCommand::Transfer {
                target,
                trunk: None,
                manner,
                briefing,
                reply,
            };
            ask(registry, id, transfer).await
        }
    }
}

fn text(field: &str, text: &str) -> Result<String, ApiError> {
    let text = text.trim();
    match (1..=LONGEST_TEXT).contains(&text.chars().count()) {
        true => Ok(text.to_owned()),
        false => Err(ApiError::invalid(format!(
            "{field}: must have 1 to {LONGEST_TEXT} characters"
        ))),
    }
}

/// There is no such live call (any more).
pub(super) fn over(id: CallId) -> ApiError {
    ApiError::NotFound(format!("call {id} is not in progress"))
}

async fn ask(
    registry: &Registry,
    id: CallId,
    command: impl FnOnce(Reply) -> CallCommand,
) -> Result<(), ApiError> {
    let asked = tokio::time::timeout(CALL_PATIENCE, registry.ask(id, command)).await;
    match asked {
        Ok(Ok(())) => Ok(()),
        Ok(Err(CommandRefusal::Gone)) => Err(over(id)),
        Ok(Err(CommandRefusal::NotNow(why))) => Err(ApiError::Conflict(why.to_owned())),
        Ok(Err(CommandRefusal::Wrong(why))) => Err(ApiError::invalid(why)),
        Err(_) => Err(ApiError::Conflict(
            "the call is not answered yet".to_owned(),
        )),
    }
}

/// Sends a call's sound until it is over or the listener goes: a JSON message that says what
/// comes, then 16-bit little-endian stereo at 8 kHz, caller left and assistant right.
pub(super) async fn listen(mut socket: WebSocket, mut listener: Listener) {
    let start = json!({
        "type": "start",
        "encoding": "linear16",
        "sampleRate": 8000,
        "container": "raw",
        "channels": 2,
    });
    if socket.send(Frame::text(start.to_string())).await.is_err() {
        return;
    }
    loop {
        tokio::select! {
            sound = listener.next() => {
                let sound = match sound {
                    Some(Next::One(sound)) => sound,
                    // Time has passed: the next sound is of now.
                    Some(Next::Missed(_)) => continue,
                    None => break,
                };
                let frame = Frame::binary(sound.stereo());
                let sent = tokio::time::timeout(LISTENER_PATIENCE, socket.send(frame)).await;
                if !matches!(sent, Ok(Ok(()))) {
                    return;
                }
            }
            said = socket.recv() => match said {
                Some(Ok(Frame::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {}
            }
        }
    }
    // The listener may have gone.
    let _ = socket.send(Frame::Close(None)).await;
}

/// Events as server-sent events, each with its type as the event's name; `missed` says how many
/// a slow reader did not get. The first is `first`.
pub(super) fn events(
    first: Option<Event>,
    watcher: Watcher,
    until: Option<CallId>,
) -> Sse<impl Stream<Item = Result<Event, axum::Error>>> {
    let stream = unfold((first, Some(watcher)), move |(first, watcher)| async move {
        if let Some(first) = first {
            return Some((Ok(first), (None, watcher)));
        }
        let mut watcher = watcher?;
        match watcher.next().await? {
            Next::Missed(count) => {
                let event = Event::default().event("missed").data(count.to_string());
                Some((Ok(event), (None, Some(watcher))))
            }
            Next::One(event) => {
                let last = until == Some(event.call_id) && is_end(&event.event);
                let told = Event::default().event("event").json_data(&*event);
                Some((told, (None, (!last).then_some(watcher))))
            }
        }
    });
    Sse::new(stream).keep_alive(KeepAlive::default())
}

/// The events of one call until it ends: first, as `so-far`, the call with what was said before.
///
/// # Errors
/// Where it is not live.
pub(super) fn one_call(registry: &Registry, id: CallId) -> Result<Response, ApiError> {
    let (so_far, watcher) = registry.watch_call(id).ok_or_else(|| over(id))?;
    let first = Event::default().event("so-far").json_data(so_far).ok();
    Ok(events(first, watcher, Some(id)).into_response())
}

fn is_end(event: &LiveEvent) -> bool {
    matches!(event, LiveEvent::StatusUpdate { call } if call.status == CallStatus::Ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ControlMessage, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn messages_are_read_as_vapi_writes_them() {
        let say = read(r#"{"type":"say","content":"Hi","endCallAfterSpoken":true}"#);
        let content = "Hi".to_owned();
        let end_call_after_spoken = true;
        assert_eq!(
            say,
            Ok(ControlMessage::Say {
                content,
                end_call_after_spoken
            })
        );
        let add = r#"{"type":"add-message","message":{"role":"system","content":"He is Bob."}}"#;
        assert!(matches!(
            read(add),
            Ok(ControlMessage::AddMessage {
                trigger_response_enabled: true,
                ..
            })
        ));
        let mute = r#"{"type":"control","control":"mute-assistant"}"#;
        let control = Switch::MuteAssistant;
        assert_eq!(read(mute), Ok(ControlMessage::Control { control }));
        let transfer = r#"{"type":"transfer","destination":{"type":"number","number":"+15550100",
            "transferPlan":{"mode":"warm-transfer-say-message"}},"content":"A caller."}"#;
        assert!(matches!(
            read(transfer),
            Ok(ControlMessage::Transfer { .. })
        ));
        assert_eq!(read(r#"{"type":"end-call"}"#), Ok(ControlMessage::EndCall));
        let unknown = read(r#"{"type":"control","control":"sing"}"#).expect_err("no such thing");
        assert!(unknown.contains("mute-assistant"), "{unknown}");
    }

    #[test]
    fn a_text_has_a_length() {
        assert_eq!(text("content", " Hi. "), Ok("Hi.".to_owned()));
        for wrong in ["", "  ", &"x".repeat(2001)] {
            let error = text("content", wrong).expect_err("wrong").to_string();
            assert!(error.contains("content: must have 1 to 2000"), "{error}");
        }
    }
}
