//! What the server tells those who watch a live call: when the caller was found to interrupt.

use std::io::{BufRead, BufReader};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::Result;
use crate::server::Server;

/// A live call's events, as they come.
pub(crate) struct Watching {
    told: Arc<Mutex<Vec<Told>>>,
}

/// When, and an event's type.
type Told = (SystemTime, String);

impl Watching {
    /// Watches the newest call of a server; `key` is of its API.
    ///
    /// # Errors
    /// Where there is none, or it is not live.
    pub(crate) fn newest(server: &Server, key: &str) -> Result<Self> {
        let get = |path: &str| -> Result<Value> {
            let answer = ureq::get(format!("http://{}{path}", server.http()))
                .header("Authorization", format!("Bearer {key}"))
                .call()?
                .into_body()
                .read_to_string()?;
            Ok(serde_json::from_str(&answer)?)
        };
        let list = get("/call?limit=1")?;
        let id = list[0]["id"].as_str().ok_or("there is no call")?;
        let call = get(&format!("/call/{id}"))?;
        let control = call["monitor"]["controlUrl"].as_str();
        let control = control.ok_or("the newest call is not live")?;
        let events = format!("{}/events", control.trim_end_matches("/control"));
        let stream = ureq::get(events).call()?.into_body().into_reader();
        let told = Arc::<Mutex<Vec<Told>>>::default();
        let telling = Arc::clone(&told);
        // It ends with the call.
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines() {
                let Ok(line) = line else { return };
                if let Some(event) = line.strip_prefix("data:").and_then(read) {
                    let mut told = telling.lock().unwrap_or_else(PoisonError::into_inner);
                    told.push(event);
                }
            }
        });
        Ok(Self { told })
    }

    /// When events of this type were told.
    pub(crate) fn all(&self, kind: &str) -> Vec<SystemTime> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = told.iter().filter(|(_, of)| of == kind);
        wanted.map(|(at, _)| *at).collect()
    }
}

fn read(data: &str) -> Option<Told> {
    let event: Value = serde_json::from_str(data).ok()?;
    let at = OffsetDateTime::parse(event.get("at")?.as_str()?, &Rfc3339).ok()?;
    Some((at.into(), event.get("type")?.as_str()?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_with_its_time_and_what_is_none_is_not() {
        let data =
            r#"{"callId":"x","at":"2026-01-31T12:00:00.25Z","type":"user-interrupted","turn":1}"#;
        let (at, kind) = read(data).expect("an event");
        let since = at.duration_since(SystemTime::UNIX_EPOCH).expect("later");
        assert_eq!(since.as_millis() % 1000, 250);
        assert_eq!(kind, "user-interrupted");
        assert!(read("12").is_none());
    }
}
