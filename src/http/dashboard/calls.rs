//! Kept calls: found again, exported, and one with everything that is known of it.

use axum::extract::{Path, Query, Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Json, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tower_http::services::ServeFile;

use super::Dashboard;
use crate::http::error::ApiError;
use crate::ids::CallId;
use crate::record::{CallRecord, CallStatus, EndedReason, KeptSipMessage};
use crate::store::{CallQuery, Times};

/// Calls on a page where nothing else is asked for, and at most.
const PAGE: u32 = 50;
const LARGEST_PAGE: u32 = 200;

/// Calls in an export at most; the newest.
const LARGEST_EXPORT: u32 = 50_000;

/// Longest words that are searched for, in characters.
const LONGEST_SEARCH: usize = 200;

/// SIP messages that are shown of a call.
const MOST_MESSAGES: usize = 500;

/// What is searched for.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Wanted {
    number: String,
    text: String,
    assistant: String,
    outcome: String,
    status: String,
    from: String,
    until: String,
    /// `TIME,ID` of the last call of the page before.
    after: String,
    limit: Option<u32>,
    format: String,
}

impl Wanted {
    fn search(&self, most: u32) -> Result<CallQuery, ApiError> {
        let words = |field: &str, text: &str| match text.chars().count() {
            0 => Ok(None),
            _ if text.contains('\0') => Err(ApiError::invalid(format!(
                "{field}: must have no zero character"
            ))),
            length if length <= LONGEST_SEARCH => Ok(Some(text.trim().to_owned())),
            _ => Err(ApiError::invalid(format!(
                "{field}: must have at most {LONGEST_SEARCH} characters"
            ))),
        };
        Ok(CallQuery {
            limit: self.limit.unwrap_or(PAGE).clamp(1, most),
            after: after(&self.after)?,
            assistant: words("assistant", &self.assistant)?,
            number: words("number", &self.number)?,
            status: named::<CallStatus>("status", &self.status)?,
            ended_reason: named::<EndedReason>("outcome", &self.outcome)?,
            created: Times {
                ge: time("from", &self.from)?,
                lt: time("until", &self.until)?,
                ..Times::default()
            },
            words: words("text", &self.text)?,
            ..CallQuery::default()
        })
    }
}

fn named<T: serde::de::DeserializeOwned>(field: &str, text: &str) -> Result<Option<T>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    let named = serde_json::from_value(Value::from(text));
    named
        .map(Some)
        .map_err(|error| ApiError::invalid(format!("{field}: {error}")))
}

fn time(field: &str, text: &str) -> Result<Option<OffsetDateTime>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = |_| ApiError::invalid(format!("{field}: must be a time like 2026-01-31T08:00:00Z"));
    OffsetDateTime::parse(text, &Rfc3339)
        .map(Some)
        .map_err(wrong)
}

fn after(text: &str) -> Result<Option<(OffsetDateTime, String)>, ApiError> {
    let Some((at, id)) = text.split_once(',') else {
        return match text.is_empty() {
            true => Ok(None),
            false => Err(ApiError::invalid(
                "after: must be the `next` of a page before",
            )),
        };
    };
    Ok(time("after", at)?.map(|at| (at, id.to_owned())))
}

/// A page of calls: `{calls, next, assistants}`.
pub(super) async fn search(
    State(dashboard): State<Dashboard>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Value>, ApiError> {
    let mut search = wanted.search(LARGEST_PAGE)?;
    let first = search.after.is_none();
    let page = usize::try_from(search.limit).unwrap_or(usize::MAX);
    // One more, to know whether there is a next page.
    search.limit += 1;
    let mut calls = dashboard.store.calls(&search).await?;
    let more = calls.len() > page;
    calls.truncate(page);
    let last = calls.last().filter(|_| more);
    let next = last.and_then(|last| {
        let at = last.created_at.format(&Rfc3339).ok()?;
        Some(format!("{at},{}", last.id))
    });
    let assistants = match first {
        true => dashboard.store.assistants_of_calls().await?,
        false => Vec::new(),
    };
    Ok(Json(json!({
        "calls": calls,
        "next": next,
        "assistants": assistants,
    })))
}

/// The same calls as a file, CSV or JSON, without paging.
pub(super) async fn export(
    State(dashboard): State<Dashboard>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, ApiError> {
    let mut search = wanted.search(LARGEST_EXPORT)?;
    search.limit = LARGEST_EXPORT;
    let calls = dashboard.store.calls(&search).await?;
    let (kind, name, body) = match wanted.format.as_str() {
        "csv" => ("text/csv; charset=utf-8", "calls.csv", csv(&calls)),
        "json" | "" => {
            // Records always serialise.
            let body = serde_json::to_string(&calls).unwrap_or_default();
            ("application/json", "calls.json", body)
        }
        _ => return Err(ApiError::invalid("format: must be csv or json")),
    };
    let disposition = format!("attachment; filename=\"{name}\"");
    let headers = [
        (header::CONTENT_TYPE, kind.to_owned()),
        (header::CONTENT_DISPOSITION, disposition),
    ];
    Ok((headers, body).into_response())
}

fn csv(calls: &[CallRecord]) -> String {
    let head = "id,type,status,assistant,from,to,customer,trunk,createdAt,startedAt,endedAt,\
                endedReason,endedBy,codec\r\n";
    let mut text = head.to_owned();
    for call in calls {
        let time = |at: Option<OffsetDateTime>| at.and_then(|at| at.format(&Rfc3339).ok());
        let customer = call
            .customer
            .as_ref()
            .map(|customer| customer.number.clone());
        let name = |value: Value| value.as_str().map(str::to_owned);
        let fields = [
            Some(call.id.to_string()),
            name(json!(call.call_type)),
            Some(call.status.to_string()),
            Some(call.assistant.to_string()),
            Some(call.from.clone()),
            Some(call.to.clone()),
            customer,
            call.trunk.as_ref().map(ToString::to_string),
            time(Some(call.created_at)),
            time(call.started_at),
            time(call.ended_at),
            call.ended_reason.map(|reason| reason.to_string()),
            name(json!(call.ended_by)),
            call.codec.clone(),
        ];
        let fields: Vec<String> = fields
            .into_iter()
            .map(|f| field(&f.unwrap_or_default()))
            .collect();
        text.push_str(&fields.join(","));
        text.push_str("\r\n");
    }
    text
}

/// Quoted where it must be (RFC 4180). What a spreadsheet would take for a formula is text.
fn field(value: &str) -> String {
    let formula = value.starts_with(['=', '@', '-', '\t', '\r'])
        || (value.starts_with('+') && !value[1..].bytes().all(|byte| byte.is_ascii_digit()));
    let guard = if formula { "'" } else { "" };
    match formula || value.contains(['"', ',', '\n', '\r']) {
        true => format!("\"{guard}{}\"", value.replace('"', "\"\"")),
        false => value.to_owned(),
    }
}

/// A call with messages, turns, analysis and its SIP messages; `live` says whether it is in progress.
pub(super) async fn one(
    State(dashboard): State<Dashboard>,
    Path(id): Path<CallId>,
) -> Result<Json<Value>, ApiError> {
    let call = dashboard.store.stored_call(id).await?;
    let call = call.ok_or_else(|| ApiError::no("call", &id.to_string()))?;
    let waits = dashboard.store.analysis(id).await? == Some(None);
    let mut sip = dashboard.store.sip_messages(id).await?;
    let left_out = sip.len().saturating_sub(MOST_MESSAGES);
    sip.truncate(MOST_MESSAGES);
    let sip: Vec<Value> = sip.iter().map(ladder_step).collect();
    Ok(Json(json!({
        "call": call.record,
        "analysis": call.analysis,
        "analysisWaits": waits,
        "sip": sip,
        "sipLeftOut": left_out,
        "live": dashboard.registry.monitor_key(id).is_some(),
    })))
}

fn ladder_step(kept: &KeptSipMessage) -> Value {
    let message = &kept.message;
    let text = String::from_utf8(message.bytes.clone());
    let (text, base64) = match text {
        Ok(text) => (Some(text), None),
        Err(error) => (None, Some(STANDARD.encode(error.as_bytes()))),
    };
    json!({
        "sipCallId": kept.sip_call_id,
        "position": kept.position,
        "at": message.at.format(&Rfc3339).ok(),
        "direction": message.direction,
        "transport": message.transport,
        "local": message.local,
        "peer": message.peer,
        "text": text,
        "base64": base64,
    })
}

/// A call's recording, caller left and assistant right; parts of it where asked for (RFC 9110).
pub(super) async fn recording(
    State(dashboard): State<Dashboard>,
    Path(id): Path<CallId>,
    request: Request,
) -> Result<Response, ApiError> {
    let none = || ApiError::NotFound("this call has no recording".to_owned());
    let call = dashboard.store.call(id).await?.ok_or_else(none)?;
    let name = call.recording.ok_or_else(none)?;
    let mut file = ServeFile::new(dashboard.data.join(name));
    let served = file.try_call(request).await;
    let served = served.map_err(|error| ApiError::Unavailable(format!("recording: {error}")))?;
    Ok(served.into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_never_becomes_two_nor_a_formula() {
        assert_eq!(field("sip:a@b"), "sip:a@b");
        assert_eq!(field("+15550100"), "+15550100");
        assert_eq!(field("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(field("=1+1"), "\"'=1+1\"");
        assert_eq!(field("+1+cmd|x"), "\"'+1+cmd|x\"");
    }

    #[test]
    fn a_wrong_search_names_its_field() {
        let wrong = |change: fn(&mut Wanted)| {
            let mut wanted = Wanted::default();
            change(&mut wanted);
            wanted.search(200).expect_err("wrong").to_string()
        };
        assert!(wrong(|w| w.outcome = "nonsense".into()).starts_with("outcome: "));
        assert!(wrong(|w| w.from = "yesterday".into()).starts_with("from: "));
        assert!(wrong(|w| w.after = "x".into()).starts_with("after: "));
        assert!(wrong(|w| w.text = "x".repeat(201)).starts_with("text: "));
        let limit = Wanted::default().search(200).map(|search| search.limit);
        assert_eq!(limit, Ok(50));
    }
}
