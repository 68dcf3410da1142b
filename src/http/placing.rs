//! Calls to be made: now, later (`schedulePlan`), or one for each of several (`customers`).

use rand::RngExt;
use serde_json::{Map, Value, json};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::Api;
use super::call_shape::{self, Detail};
use super::calls::{call_name, dial_request};
use super::error::ApiError;
use crate::call::{DialRequest, Talker};
use crate::ids::{AssistantId, CallId};
use crate::record::{CallDocument, CallRecord, CallStatus, CallType, Customer};
use crate::store::StoredCall;

/// Customers of one request.
const MOST_CUSTOMERS: usize = 1000;
/// How far ahead calls are scheduled.
const LONGEST: Duration = Duration::days(366);
/// A queued call that found no free line for this long is given up.
const PATIENCE: Duration = Duration::DAY;

type Fields = Map<String, Value>;

/// When the calls of a request are to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct When {
    status: CallStatus,
    earliest_at: OffsetDateTime,
    latest_at: Option<OffsetDateTime>,
}

/// What a request asks for that is not one call now.
pub(super) enum Later {
    /// One call at its time.
    One(Fields),
    /// One for each customer.
    Batch(Vec<Fields>),
}

/// Whether a request's calls are to be made later than now.
///
/// # Errors
/// What is wrong with it.
pub(super) fn later(body: &Fields) -> Result<Option<Later>, ApiError> {
    let set = |field: &str| body.get(field).filter(|value| !value.is_null());
    if set("squadId").or(set("squad")).is_some() {
        return Err(ApiError::invalid(
            "squad: squads are not supported; name one assistant with assistantId or assistant",
        ));
    }
    match set("customers") {
        None if set("schedulePlan").is_some() => Ok(Some(Later::One(body.clone()))),
        None => Ok(None),
        Some(Value::Array(customers)) if (1..=MOST_CUSTOMERS).contains(&customers.len()) => {
            if set("customer").is_some() {
                return Err(ApiError::invalid("customers: is in place of customer"));
            }
            let one = |customer: &Value| {
                let mut one = body.clone();
                one.remove("customers");
                one.insert("customer".to_owned(), customer.clone());
                one
            };
            Ok(Some(Later::Batch(customers.iter().map(one).collect())))
        }
        Some(_) => Err(ApiError::invalid(format!(
            "customers: must be a list of 1 to {MOST_CUSTOMERS} customers"
        ))),
    }
}

/// Keeps a call that is to be made later; as it is shown.
pub(super) async fn schedule(api: &Api, base: &str, body: &Fields) -> Result<Fields, ApiError> {
    let when = when(body, OffsetDateTime::now_utc())?;
    keep(api, base, body, when).await
}

/// Keeps one call for each customer, Vapi's `CallBatchResponse`: those that cannot be made are
/// among the errors.
pub(super) async fn schedule_all(
    api: &Api,
    base: &str,
    calls: Vec<Fields>,
) -> Result<Fields, ApiError> {
    let now = OffsetDateTime::now_utc();
    let (mut results, mut errors) = (Vec::new(), Vec::new());
    for body in calls {
        match keep(api, base, &body, when(&body, now)?).await {
            Ok(call) => results.push(Value::Object(call)),
            Err(ApiError::Invalid(mistakes)) => errors.push(json!({
                "customer": body.get("customer"),
                "error": mistakes.join("; "),
            })),
            Err(other) => return Err(other),
        }
    }
    Ok(Fields::from_iter([
        ("results".to_owned(), Value::Array(results)),
        ("errors".to_owned(), Value::Array(errors)),
    ]))
}

async fn keep(api: &Api, base: &str, body: &Fields, when: When) -> Result<Fields, ApiError> {
    let name = call_name(body)?;
    let id = CallId::from_random(rand::rng().random());
    let request = dial_request(api, id, body).await?;
    let document = request.document.clone();
    let document = document.map(|document| *document).unwrap_or_default();
    let record = record(&request, id, when.status);
    let times = (when.earliest_at, when.latest_at);
    api.store
        .schedule_call(&record, &document, name.as_deref(), times)
        .await?;
    let updated_at = record.created_at;
    let call = StoredCall {
        record,
        name,
        document,
        updated_at,
        analysis: None,
    };
    Ok(call_shape::show(&call, base, Detail::Full))
}

/// The request that a scheduled call was kept with, to be carried out now.
///
/// # Errors
/// What is wrong with it by now.
pub async fn scheduled_request(
    api: &Api,
    id: CallId,
    document: &CallDocument,
) -> Result<DialRequest, ApiError> {
    let fields = api.directory.open_call(id, document);
    let request = dial_request(api, id, &fields).await?;
    Ok(DialRequest {
        // It is kept already.
        document: None,
        ..request
    })
}

fn when(body: &Fields, now: OffsetDateTime) -> Result<When, ApiError> {
    let plan = match body.get("schedulePlan") {
        None | Some(Value::Null) => {
            return Ok(When {
                status: CallStatus::Queued,
                earliest_at: now,
                latest_at: Some(now + PATIENCE),
            });
        }
        Some(Value::Object(plan)) => plan,
        Some(_) => return Err(ApiError::invalid("schedulePlan: must be an object")),
    };
    let time = |field: &str| match plan.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let text = value.as_str().unwrap_or_default();
            let time = OffsetDateTime::parse(text, &Rfc3339);
            time.map(Some).map_err(|_| {
                ApiError::invalid(format!(
                    "schedulePlan.{field}: must be a time like 2026-12-24T18:00:00Z"
                ))
            })
        }
    };
    let earliest_at = time("earliestAt")?
        .ok_or_else(|| ApiError::invalid("schedulePlan.earliestAt: must be given"))?;
    let latest_at = time("latestAt")?;
    if earliest_at > now + LONGEST {
        return Err(ApiError::invalid(
            "schedulePlan.earliestAt: must be within 366 days",
        ));
    }
    if latest_at.is_some_and(|latest| latest <= earliest_at || latest <= now) {
        return Err(ApiError::invalid(
            "schedulePlan.latestAt: must be after earliestAt and in the future",
        ));
    }
    Ok(When {
        status: CallStatus::Scheduled,
        earliest_at,
        latest_at,
    })
}

/// What is known of a call before it is made.
fn record(request: &DialRequest, id: CallId, status: CallStatus) -> CallRecord {
    let assistant = match &request.talker {
        Talker::Named(name) => AssistantId::new(name),
        Talker::Given(id, _) => id.clone(),
    };
    CallRecord {
        id,
        call_type: CallType::OutboundPhoneCall,
        status,
        assistant,
        from: request.caller_id.clone().unwrap_or_default(),
        to: request.number.clone(),
        customer: Some(Customer {
            number: request.number.clone(),
            name: request.customer_name.clone(),
        }),
        trunk: None,
        phone_number_id: request.phone_number_id.clone(),
        diverted_from: None,
        peer: String::new(),
        sip_call_id: String::new(),
        later_call_ids: Vec::new(),
        created_at: OffsetDateTime::now_utc(),
        started_at: None,
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
        answered_by: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(value: Value) -> Fields {
        match value {
            Value::Object(fields) => fields,
            other => panic!("{other} is no object"),
        }
    }

    fn wrong<T>(result: Result<T, ApiError>) -> String {
        match result {
            Err(ApiError::Invalid(mistakes)) => mistakes.join("; "),
            _ => panic!("not refused"),
        }
    }

    #[test]
    fn a_plan_says_when_and_one_that_is_wrong_is_named() {
        let now = OffsetDateTime::UNIX_EPOCH + Duration::days(365 * 56);
        let at = |plan: Value| when(&fields(json!({ "schedulePlan": plan })), now);
        let text = |at: OffsetDateTime| at.format(&Rfc3339).expect("a time");
        let later = now + Duration::HOUR;
        let found = at(json!({ "earliestAt": text(later), "latestAt": null })).expect("right");
        let expected = When {
            status: CallStatus::Scheduled,
            earliest_at: later,
            latest_at: None,
        };
        assert_eq!(found, expected);
        let queued = when(&Fields::new(), now).expect("right");
        assert_eq!(
            (queued.status, queued.earliest_at),
            (CallStatus::Queued, now)
        );
        for (plan, named) in [
            (json!(7), "schedulePlan: must be an object"),
            (json!({}), "schedulePlan.earliestAt"),
            (
                json!({ "earliestAt": "tomorrow" }),
                "schedulePlan.earliestAt",
            ),
            (
                json!({ "earliestAt": text(now + Duration::days(400)) }),
                "366 days",
            ),
            (
                json!({ "earliestAt": text(later), "latestAt": text(now) }),
                "schedulePlan.latestAt",
            ),
        ] {
            let said = wrong(at(plan.clone()));
            assert!(said.contains(named), "{plan}: {said}");
        }
    }

    #[test]
    fn customers_are_a_call_each_and_squads_are_refused() {
        let body = fields(json!({ "assistantId": "a",
            "customers": [{ "number": "+4930111111" }, { "number": "+4930222222" }] }));
        let Ok(Some(Later::Batch(calls))) = later(&body) else {
            panic!("no batch");
        };
        assert_eq!(calls.len(), 2);
        assert_eq!(calls[1]["customer"]["number"], "+4930222222");
        assert!(!calls[0].contains_key("customers"));
        assert!(
            later(&fields(json!({ "customer": {} })))
                .expect("right")
                .is_none()
        );
        let squad = wrong(later(&fields(json!({ "squadId": "s" }))));
        assert!(squad.contains("squads are not supported"), "{squad}");
        let none = wrong(later(&fields(json!({ "customers": [] }))));
        assert!(none.contains("1 to 1000"), "{none}");
    }
}
