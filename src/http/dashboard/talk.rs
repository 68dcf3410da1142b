//! Talking to an assistant from the browser: its microphone is the caller's telephone.
//!
//! ```text
//! browser ◀──WebSocket──▶ here ◀──▶ softphone ◀──SIP, RTP──▶ this server, as any call
//! ```
//!
//! From the browser come pieces of 16-bit little-endian mono at 16 kHz. To it go JSON texts,
//! `{"type":"ringing"}`, `{"type":"start","sampleRate":16000,"callId":…}` and
//! `{"type":"ended","reason":…}`, and between the last two sound in the same form at that rate.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message as Frame, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until, timeout};

use super::Dashboard;
use crate::call::Registry;
use crate::ids::CallId;
use crate::softphone::{CallError, Noticed, Talk};

/// Largest piece of sound at once, in bytes: a quarter of a second.
const LARGEST_PIECE: usize = 8192;

/// A browser that sends no sound for this long is asleep or gone.
const QUIET: Duration = Duration::from_secs(15);

/// A connection that takes nothing for this long is gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no test call.
#[derive(Debug, thiserror::Error)]
pub enum TestCallRefusal {
    /// There is no such assistant.
    #[error("there is no such assistant")]
    NoAssistant,
    /// Enough of them are in progress.
    #[error("other test calls are in progress: end one first")]
    Busy,
    /// Our telephone speaks UDP.
    #[error("sip.listen has no UDP listener, which a test call needs")]
    NoListener,
    /// It cannot be dialled.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// A test call that is dialled.
pub struct PlacedTestCall {
    /// Its caller's side.
    pub talk: Talk,
    /// What is dialled, which no other call has.
    pub dialled: String,
}

/// Calls the assistant of that name.
pub type TestCaller = Arc<
    dyn Fn(String) -> Pin<Box<dyn Future<Output = Result<PlacedTestCall, TestCallRefusal>> + Send>>
        + Send
        + Sync,
>;

/// Whom to talk to.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    assistant: String,
}

/// A test call, for as long as the WebSocket is open.
pub(super) async fn talk(
    State(dashboard): State<Dashboard>,
    Query(Wanted { assistant }): Query<Wanted>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let upgrade = upgrade
        .max_message_size(LARGEST_PIECE)
        .max_frame_size(LARGEST_PIECE);
    upgrade.on_upgrade(async move |mut socket| {
        // Browsers show their pages no answer to a WebSocket that is refused, so it says why itself.
        let why = match (dashboard.test_caller)(assistant).await {
            Ok(placed) => converse(&mut socket, placed, &dashboard.registry).await,
            Err(refusal) => Some(refusal.to_string()),
        };
        if let Some(why) = why {
            tell(&mut socket, &json!({ "type": "ended", "reason": why })).await;
            let _ = timeout(PATIENCE, socket.send(Frame::Close(None))).await;
        }
    })
}

/// True where it was taken.
async fn tell(socket: &mut WebSocket, message: &Value) -> bool {
    send(socket, Frame::text(message.to_string())).await
}

async fn send(socket: &mut WebSocket, frame: Frame) -> bool {
    matches!(timeout(PATIENCE, socket.send(frame)).await, Ok(Ok(())))
}

/// The whole call: why it ended, or `None` where the browser has gone.
async fn converse(
    socket: &mut WebSocket,
    placed: PlacedTestCall,
    registry: &Registry,
) -> Option<String> {
    let PlacedTestCall { mut talk, dialled } = placed;
    if !tell(socket, &json!({ "type": "ringing" })).await {
        return None;
    }
    let mut heard_until = Instant::now() + QUIET;
    loop {
        tokio::select! {
            noticed = talk.next() => {
                let taken = match noticed? {
                    Noticed::Answered(rate) => {
                        let call = of(registry, &dialled);
                        let start = json!({ "type": "start", "sampleRate": rate.hz(), "callId": call });
                        tell(socket, &start).await
                    }
                    Noticed::Heard(samples) => send(socket, Frame::binary(bytes(&samples))).await,
                    Noticed::Over(why) => return Some(why),
                };
                if !taken {
                    return None;
                }
            }
            said = socket.recv() => match said {
                Some(Ok(Frame::Binary(piece))) => {
                    heard_until = Instant::now() + QUIET;
                    talk.say(samples(&piece));
                }
                Some(Ok(Frame::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            },
            () = sleep_until(heard_until) => {
                return Some("the browser sends no sound any more".to_owned());
            }
        }
    }
}

/// The call that somebody dialled so.
fn of(registry: &Registry, dialled: &str) -> Option<CallId> {
    let calls = registry.snapshots().into_iter();
    let mut ours = calls.filter(|call| call.to.contains(dialled));
    ours.next().map(|call| call.id)
}

fn samples(piece: &[u8]) -> Vec<i16> {
    let pairs = piece.chunks_exact(2);
    pairs
        .map(|pair| i16::from_le_bytes([pair[0], pair[1]]))
        .collect()
}

fn bytes(samples: &[i16]) -> Vec<u8> {
    samples
        .iter()
        .flat_map(|sample| sample.to_le_bytes())
        .collect()
}
