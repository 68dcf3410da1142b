//! Documents: what of a request is kept, and how it is shown.

use serde::Serialize;
use serde_json::{Map, Value, json};
use time::format_description::FormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, UtcOffset};

use super::Refused;
use crate::store::Object;

/// The one organisation of this server. Vapi's objects each name theirs.
pub const ORGANISATION: &str = "00000000-0000-0000-0000-000000000000";

/// What the server itself writes into an object.
const OURS: &[&str] = &["id", "orgId", "createdAt", "updatedAt", "warnings"];

/// Deepest nesting of a document, and most values in it.
const DEEPEST: usize = 32;
const MOST_VALUES: usize = 20_000;

/// A field that does less than it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// Dotted path.
    pub field: String,
    /// What becomes of it.
    pub message: String,
}

impl Warning {
    pub(super) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            message: message.into(),
        }
    }

    pub(super) fn unsupported(field: impl Into<String>) -> Self {
        Self::new(field, "is kept, but not supported yet")
    }
}

/// What is kept of a new object's body: all but what is ours to write, and nulls.
pub(super) fn given(body: Map<String, Value>) -> Result<Map<String, Value>, Refused> {
    let mut document = given_patch(body)?;
    document.retain(|_, value| !value.is_null());
    Ok(document)
}

pub(super) fn given_patch(mut body: Map<String, Value>) -> Result<Map<String, Value>, Refused> {
    for field in OURS {
        body.remove(*field);
    }
    let mut left = MOST_VALUES;
    for (field, value) in &body {
        measure(value, DEEPEST, &mut left)
            .map_err(|why| Refused::Invalid(vec![format!("{field}: {why}")]))?;
    }
    Ok(body)
}

fn measure(value: &Value, depth: usize, left: &mut usize) -> Result<(), String> {
    *left = left
        .checked_sub(1)
        .ok_or_else(|| format!("has too many values: at most {MOST_VALUES} are allowed"))?;
    let depth = depth
        .checked_sub(1)
        .ok_or_else(|| format!("is nested too deeply: at most {DEEPEST} levels are allowed"))?;
    match value {
        // PostgreSQL's text cannot hold it.
        Value::String(text) if text.contains('\0') => Err("has a zero character".to_owned()),
        Value::Array(items) => items.iter().try_for_each(|item| measure(item, depth, left)),
        Value::Object(fields) => {
            fields
                .iter()
                .try_for_each(|(name, item)| match name.contains('\0') {
                    true => Err("has a zero character in a name".to_owned()),
                    false => measure(item, depth, left),
                })
        }
        _ => Ok(()),
    }
}

/// Field by field; `null` removes one.
pub(super) fn patch(document: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (field, value) in patch {
        match value.is_null() {
            true => drop(document.remove(&field)),
            false => drop(document.insert(field, value)),
        }
    }
}

/// A time as Vapi writes it: RFC 3339, milliseconds, UTC.
pub fn stamp(at: OffsetDateTime) -> String {
    const FORMAT: &[FormatItem<'_>] =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    at.to_offset(UtcOffset::UTC)
        .format(FORMAT)
        .unwrap_or_default()
}

pub(super) fn show(object: &Object, warnings: &[Warning]) -> Map<String, Value> {
    let mut shown = object.document.clone();
    let ours = [
        ("id", json!(object.id)),
        ("orgId", json!(ORGANISATION)),
        ("createdAt", json!(stamp(object.created_at))),
        ("updatedAt", json!(stamp(object.updated_at))),
    ];
    for (field, value) in ours {
        shown.insert(field.to_owned(), value);
    }
    if !warnings.is_empty() {
        shown.insert("warnings".to_owned(), json!(warnings));
    }
    shown
}
