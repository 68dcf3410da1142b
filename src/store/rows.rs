//! Rows to records and back.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row;
use sqlx::any::AnyRow;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{OffsetDateTime, UtcOffset};

use crate::ids::{AssistantId, MailboxName, TrunkName, TurnNumber};
use crate::record::{CallRecord, Customer, Message, TurnLedger};

use super::StoreError;

/// RFC 3339 in UTC with exactly three decimals, so that text order is time order.
pub(super) struct Timestamp(pub OffsetDateTime);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = format_description!(
            "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"
        );
        let text = self
            .0
            .to_offset(UtcOffset::UTC)
            .format(&format)
            .map_err(|_| fmt::Error)?;
        f.write_str(&text)
    }
}

/// The serialised name of a unit variant.
pub(super) fn name_of<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        Ok(_) | Err(_) => String::new(),
    }
}

/// SQL has no unsigned numbers; a call's clock never comes near the limit.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn parsed<T>(
    row: &AnyRow,
    column: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, StoreError> {
    let value: String = row.try_get(column)?;
    parse(&value).ok_or(StoreError::Unreadable { column, value })
}

pub(super) fn parsed_option<T>(
    row: &AnyRow,
    column: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, StoreError> {
    match row.try_get::<Option<String>, _>(column)? {
        None => Ok(None),
        Some(value) => parse(&value)
            .map(Some)
            .ok_or(StoreError::Unreadable { column, value }),
    }
}

pub(super) fn named<T: DeserializeOwned>(name: &str) -> Option<T> {
    serde_json::from_value(serde_json::Value::String(name.to_owned())).ok()
}

pub(super) fn time_of(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}

pub(super) fn unsigned(row: &AnyRow, column: &'static str) -> Result<u64, StoreError> {
    let value: i64 = row.try_get(column)?;
    u64::try_from(value).map_err(|_| StoreError::Unreadable {
        column,
        value: value.to_string(),
    })
}

pub(super) fn customer(row: &AnyRow) -> Result<Option<Customer>, StoreError> {
    let number: Option<String> = row.try_get("customer_number")?;
    let name = row.try_get("customer_name")?;
    Ok(number.map(|number| Customer { number, name }))
}

/// A call's row, without its messages and turns.
pub(super) fn call(row: &AnyRow) -> Result<CallRecord, StoreError> {
    Ok(CallRecord {
        id: parsed(row, "id", |text| text.parse().ok())?,
        call_type: parsed(row, "call_type", named)?,
        status: parsed(row, "status", named)?,
        assistant: AssistantId::new(row.try_get::<String, _>("assistant")?),
        from: row.try_get("caller")?,
        to: row.try_get("called")?,
        customer: customer(row)?,
        trunk: row
            .try_get::<Option<String>, _>("trunk")?
            .map(TrunkName::new),
        phone_number_id: row.try_get("phone_number_id")?,
        diverted_from: row.try_get("diverted_from")?,
        peer: row.try_get("peer")?,
        sip_call_id: row.try_get("sip_call_id")?,
        later_call_ids: Vec::new(),
        created_at: parsed(row, "created_at", time_of)?,
        started_at: parsed_option(row, "started_at", time_of)?,
        ended_at: parsed_option(row, "ended_at", time_of)?,
        ended_reason: parsed_option(row, "ended_reason", named)?,
        ended_by: parsed_option(row, "ended_by", named)?,
        greeting_ms: row
            .try_get::<Option<i64>, _>("greeting_ms")?
            .and_then(|value| u64::try_from(value).ok()),
        codec: row.try_get("codec")?,
        srtp: row.try_get("srtp")?,
        quality: parsed_option(row, "quality", |text| serde_json::from_str(text).ok())?,
        recording: row.try_get("recording")?,
        recording_sha256: row.try_get("recording_sha256")?,
        messages: Vec::new(),
        turns: Vec::new(),
        digits: row.try_get("digits")?,
        mailbox: row
            .try_get::<Option<String>, _>("mailbox")?
            .map(MailboxName::new),
        answered_by: parsed_option(row, "answered_by", |text| serde_json::from_str(text).ok())?,
    })
}

pub(super) fn message(row: &AnyRow) -> Result<Message, StoreError> {
    Ok(Message {
        role: parsed(row, "role", named)?,
        message: row.try_get("message")?,
        start_ms: unsigned(row, "start_ms")?,
        end_ms: unsigned(row, "end_ms")?,
        turn: TurnNumber(u32::try_from(unsigned(row, "turn")?).unwrap_or(u32::MAX)),
        interrupted: row.try_get::<i64, _>("interrupted")? != 0,
    })
}

pub(super) fn turn(row: &AnyRow) -> Result<TurnLedger, StoreError> {
    parsed(row, "ledger", |text| serde_json::from_str(text).ok())
}
