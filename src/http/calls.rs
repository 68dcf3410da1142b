//! `/call`: find kept calls, read one, place one, name or delete one.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use rand::RngExt;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::Api;
use super::call_shape::{self, Detail};
use super::error::ApiError;
use super::extract::{Body, Page, Parameters, plain};
use super::identity::Identity;
use super::monitor::monitor;
use super::placing::{self, Later};
use super::shapes::{CallShape, CreateCallShape, CreatedShape, ErrorShape, UpdateCallShape};
use crate::call::{DialRefusal, DialRequest, Talker};
use crate::directory::Refused;
use crate::ids::{AssistantId, CallId};
use crate::record::Scope;
use crate::store::{CallQuery, ObjectKind, StoredCall};

/// What calls may be narrowed by, beside their time.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// This call.
    id: Option<String>,
    /// By the assistant.
    assistant_id: Option<String>,
    /// By the phone number.
    phone_number_id: Option<String>,
    /// By the customer's whole number, in E.164. Not in Vapi.
    customer_number: Option<String>,
    /// By a part of either side's number or SIP address. Not in Vapi.
    number: Option<String>,
    /// `scheduled`, `queued`, `ringing`, `in-progress`, `forwarding` or `ended`. Not in Vapi.
    status: Option<String>,
    /// `inboundPhoneCall` or `outboundPhoneCall`. Not in Vapi.
    r#type: Option<String>,
    /// By why they ended. Not in Vapi.
    ended_reason: Option<String>,
    /// By words that were said in them, all of them, in any order; the last one may be a word's
    /// beginning. Not in Vapi.
    search: Option<String>,
}

fn named<T: DeserializeOwned>(field: &str, name: Option<String>) -> Result<Option<T>, ApiError> {
    let Some(name) = name else { return Ok(None) };
    let known = serde_json::from_value(Value::String(name));
    known
        .map(Some)
        .map_err(|error| ApiError::invalid(format!("{field}: {error}")))
}

/// List calls, newest first, without what was said.
#[utoipa::path(get, path = "/call", tag = "Calls", operation_id = "Calls list", params(Page, Filter),
    security(("key" = [])),
    responses((status = 200, body = Vec<CallShape>), (status = 400, body = ErrorShape),
        (status = 401, body = ErrorShape), (status = 403, body = ErrorShape)))]
pub(super) async fn list(
    State(api): State<Api>,
    headers: HeaderMap,
    Parameters(page): Parameters<Page>,
    Parameters(filter): Parameters<Filter>,
) -> Result<Json<Vec<Value>>, ApiError> {
    let window = page.window()?;
    let id = match filter.id.as_deref().map(str::parse) {
        None => None,
        Some(Ok(id)) => Some(id),
        Some(Err(_)) => return Ok(Json(Vec::new())),
    };
    let query = CallQuery {
        limit: window.limit,
        before: None,
        after: None,
        id,
        assistant: plain("assistantId", filter.assistant_id)?,
        phone_number_id: plain("phoneNumberId", filter.phone_number_id)?,
        customer_number: plain("customerNumber", filter.customer_number)?,
        number: plain("number", filter.number)?,
        status: named("status", filter.status)?,
        call_type: named("type", filter.r#type)?,
        ended_reason: named("endedReason", filter.ended_reason)?,
        created: window.created,
        updated: window.updated,
        words: plain("search", filter.search)?,
    };
    let base = api.base(&headers);
    let calls = api.store.find_calls(&query).await?;
    let shown = calls
        .iter()
        .map(|call| call_shape::show(call, &base, Detail::Brief));
    Ok(Json(shown.map(Value::Object).collect()))
}

/// The call of that id, with everything kept of it.
pub(super) async fn find(api: &Api, id: &str) -> Result<StoredCall, ApiError> {
    let none = || ApiError::no("call", id);
    let id: CallId = id.parse().map_err(|_| none())?;
    api.store.stored_call(id).await?.ok_or_else(none)
}

/// Get a call with what was said.
#[utoipa::path(get, path = "/call/{id}", tag = "Calls", operation_id = "Calls get",
    params(("id" = String, Path)), security(("key" = [])),
    responses((status = 200, body = CallShape), (status = 401, body = ErrorShape),
        (status = 403, body = ErrorShape), (status = 404, body = ErrorShape)))]
pub(super) async fn get(
    State(api): State<Api>,
    headers: HeaderMap,
    identity: Identity,
    Path(id): Path<String>,
) -> Result<Json<Map<String, Value>>, ApiError> {
    let call = find(&api, &id).await?;
    let base = api.base(&headers);
    let mut shown = call_shape::show(&call, &base, Detail::Full);
    // Its URLs let whoever has them act on the call.
    if identity.may(Scope::Call).is_ok()
        && let Some(monitor) = monitor(&api.registry, call.record.id, &base)
    {
        shown.insert("monitor".to_owned(), monitor);
    }
    Ok(Json(shown))
}

/// Have an assistant call somebody, now or later, or several people.
#[utoipa::path(post, path = "/call", tag = "Calls", operation_id = "Calls create",
    request_body = CreateCallShape, security(("key" = [])),
    responses((status = 201, body = CreatedShape), (status = 400, body = ErrorShape),
        (status = 401, body = ErrorShape), (status = 403, body = ErrorShape),
        (status = 413, body = ErrorShape), (status = 415, body = ErrorShape),
        (status = 503, body = ErrorShape)))]
pub(super) async fn create(
    State(api): State<Api>,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<(StatusCode, Json<Map<String, Value>>), ApiError> {
    let base = api.base(&headers);
    let kept = match placing::later(&body)? {
        None => None,
        Some(Later::One(body)) => Some(placing::schedule(&api, &base, &body).await?),
        Some(Later::Batch(calls)) => Some(placing::schedule_all(&api, &base, calls).await?),
    };
    if let Some(kept) = kept {
        return Ok((StatusCode::CREATED, Json(kept)));
    }
    let name = call_name(&body)?;
    let id = CallId::from_random(rand::rng().random());
    let request = dial_request(&api, id, &body).await?;
    let document = request.document.clone();
    let placed = (api.dialler)(request)
        .await
        .map_err(|refusal| match refusal {
            DialRefusal::UnknownAssistant(_) | DialRefusal::NoRoute(_) => {
                ApiError::invalid(refusal.to_string())
            }
            DialRefusal::Busy
            | DialRefusal::TrunkBusy
            | DialRefusal::AssistantBusy
            | DialRefusal::Unavailable(_) => ApiError::Unavailable(refusal.to_string()),
        })?;
    if let Some(name) = name.as_deref() {
        api.store.name_call(placed.id, Some(name)).await?;
    }
    let mut call = find(&api, &placed.id.to_string()).await?;
    // It may still wait to be written down.
    call.document = document.map(|document| *document).unwrap_or_default();
    let mut shown = call_shape::show(&call, &base, Detail::Full);
    if let Some(monitor) = monitor(&api.registry, placed.id, &base) {
        shown.insert("monitor".to_owned(), monitor);
    }
    Ok((StatusCode::CREATED, Json(shown)))
}

fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, ApiError> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.len() <= 1000 && !text.contains('\0') => Ok(Some(text)),
        Some(_) => Err(ApiError::invalid(format!(
            "{name}: must be text of at most 1000 bytes"
        ))),
    }
}

fn fields<'a>(
    fields: &'a Map<String, Value>,
    name: &str,
) -> Result<Option<&'a Map<String, Value>>, ApiError> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(inner)) => Ok(Some(inner)),
        Some(_) => Err(ApiError::invalid(format!("{name}: must be an object"))),
    }
}

/// The name that a request gives a call; `null` for none.
pub(super) fn call_name(body: &Map<String, Value>) -> Result<Option<String>, ApiError> {
    let name = text(body, "name")?;
    match name.filter(|name| name.chars().count() > 40) {
        Some(_) => Err(ApiError::invalid("name: must have at most 40 characters")),
        None => Ok(name.map(ToOwned::to_owned)),
    }
}

/// Who calls whom, through what.
pub(super) async fn dial_request(
    api: &Api,
    id: CallId,
    body: &Map<String, Value>,
) -> Result<DialRequest, ApiError> {
    // To leave these out silently would make another call than was asked for.
    for field in ["phoneNumber", "customerId"] {
        if body.get(field).is_some_and(|value| !value.is_null()) {
            return Err(ApiError::invalid(format!("{field}: is not supported yet")));
        }
    }
    let body = with_customers_overrides(body)?;
    let customer = fields(&body, "customer")?
        .ok_or_else(|| ApiError::invalid("customer: must have a number or a sipUri"))?;
    let number = match (text(customer, "number")?, text(customer, "sipUri")?) {
        (Some(number), _) => number,
        (None, Some(uri)) => uri,
        (None, None) => {
            return Err(ApiError::invalid(
                "customer: must have a number or a sipUri",
            ));
        }
    };
    let phone_number =
        match text(&body, "phoneNumberId")? {
            None => None,
            Some(id) => {
                let found = api.directory.get(ObjectKind::PhoneNumber, id).await;
                Some(found.map_err(|_| {
                    ApiError::invalid("phoneNumberId: there is no such phone number")
                })?)
            }
        };
    let of_number = |field: &str| {
        let value = phone_number.as_ref()?.get(field)?.as_str()?;
        Some(value.to_owned())
    };
    let mut kept = body.clone();
    kept.remove("name");
    Ok(DialRequest {
        id: Some(id),
        document: Some(Box::new(api.directory.seal_call(id, kept))),
        talker: talker(api, &body, of_number("assistantId")).await?,
        number: number.to_owned(),
        trunk: of_number("credentialId").filter(|id| id != "configuration"),
        caller_id: of_number("number"),
        phone_number_id: of_number("id"),
        customer_name: text(customer, "name")?.map(ToOwned::to_owned),
    })
}

/// What the assistant is to be for this customer counts before what it is to be for all.
fn with_customers_overrides(body: &Map<String, Value>) -> Result<Map<String, Value>, ApiError> {
    let mut body = body.clone();
    let own = match fields(&body, "customer")? {
        Some(customer) => fields(customer, "assistantOverrides")?.cloned(),
        None => None,
    };
    if let Some(own) = own {
        let mut all = fields(&body, "assistantOverrides")?
            .cloned()
            .unwrap_or_default();
        all.extend(own);
        body.insert("assistantOverrides".to_owned(), Value::Object(all));
    }
    Ok(body)
}

async fn talker(
    api: &Api,
    body: &Map<String, Value>,
    of_number: Option<String>,
) -> Result<Talker, ApiError> {
    let overrides = fields(body, "assistantOverrides")?;
    if let Some(assistant) = fields(body, "assistant")? {
        let (settings, _) = api.directory.transient(assistant, overrides)?;
        return Ok(Talker::Given(AssistantId::new(""), Box::new(settings)));
    }
    let id = text(body, "assistantId")?
        .map(ToOwned::to_owned)
        .or(of_number);
    let id = id.ok_or_else(|| {
        ApiError::invalid("assistantId: must name an assistant, or assistant be one")
    })?;
    match overrides {
        None => Ok(Talker::Named(id)),
        Some(overrides) => {
            let settings = api.directory.overridden(&id, overrides).await;
            let settings = settings.map_err(|refused| match refused {
                Refused::Unknown(_) => ApiError::invalid("assistantId: there is no such assistant"),
                other => other.into(),
            })?;
            Ok(Talker::Given(AssistantId::new(id), Box::new(settings)))
        }
    }
}

/// Name a call.
#[utoipa::path(patch, path = "/call/{id}", tag = "Calls", operation_id = "Calls update",
    params(("id" = String, Path)), request_body = UpdateCallShape, security(("key" = [])),
    responses((status = 200, body = CallShape), (status = 400, body = ErrorShape),
        (status = 401, body = ErrorShape), (status = 403, body = ErrorShape),
        (status = 404, body = ErrorShape), (status = 413, body = ErrorShape),
        (status = 415, body = ErrorShape)))]
pub(super) async fn change(
    State(api): State<Api>,
    headers: HeaderMap,
    Path(id): Path<String>,
    Body(body): Body,
) -> Result<Json<Map<String, Value>>, ApiError> {
    let name = call_name(&body)?;
    let call = find(&api, &id).await?;
    if body.contains_key("name") {
        api.store.name_call(call.record.id, name.as_deref()).await?;
    }
    let call = find(&api, &id).await?;
    Ok(Json(call_shape::show(
        &call,
        &api.base(&headers),
        Detail::Full,
    )))
}

/// Delete a call that is over, with its recording and everything else kept of it.
#[utoipa::path(delete, path = "/call/{id}", tag = "Calls", operation_id = "Calls delete",
    params(("id" = String, Path)), security(("key" = [])),
    responses((status = 200, body = CallShape), (status = 401, body = ErrorShape),
        (status = 403, body = ErrorShape), (status = 404, body = ErrorShape),
        (status = 409, body = ErrorShape)))]
pub(super) async fn delete(
    State(api): State<Api>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Json<Map<String, Value>>, ApiError> {
    let call = find(&api, &id).await?;
    if api.registry.follow(call.record.id).is_some() {
        return Err(ApiError::Conflict(
            "the call is live: end it first".to_owned(),
        ));
    }
    api.store.erase_call(&api.data, &call.record).await?;
    Ok(Json(call_shape::show(
        &call,
        &api.base(&headers),
        Detail::Full,
    )))
}

/// What a call says of where it was called from: for the links in an answer.
pub(super) fn base(headers: &HeaderMap) -> String {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let scheme = headers
        .get("x-forwarded-proto")
        .and_then(|scheme| scheme.to_str().ok());
    let scheme = match scheme {
        Some("https") => "https",
        _ => "http",
    };
    host.map(|host| format!("{scheme}://{host}"))
        .unwrap_or_default()
}
