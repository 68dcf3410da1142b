//! `/assistant`, `/phone-number` and `/credential`: the same five things with each.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Map, Value};

use super::Api;
use super::error::ApiError;
use super::extract::{Body, Page, Parameters};
use crate::directory::Refused;
use crate::store::{ObjectKind, ObjectQuery};

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Invalid(mistakes) => Self::Invalid(mistakes),
            Refused::Unknown(kind) => Self::NotFound(format!("there is no such {kind}")),
            Refused::Conflict(why) => Self::Conflict(why),
            Refused::Store(error) => error.into(),
        }
    }
}

type Shown = Json<Map<String, Value>>;

async fn list(api: &Api, kind: ObjectKind, page: &Page) -> Result<Json<Vec<Value>>, ApiError> {
    let window = page.window()?;
    let query = ObjectQuery {
        limit: window.limit,
        created: window.created,
        updated: window.updated,
    };
    let objects = api.directory.list(kind, &query).await?;
    Ok(Json(objects.into_iter().map(Value::Object).collect()))
}

/// An id as it may be asked for.
fn id(kind: ObjectKind, id: &str) -> Result<&str, ApiError> {
    match id.contains('\0') || id.len() > 200 {
        true => Err(ApiError::no(kind.name(), id)),
        false => Ok(id),
    }
}

macro_rules! resource {
    ($module:ident, $kind:ident, $shape:ident, $path:literal, $one:literal, $tag:literal) => {
        pub(super) mod $module {
            use super::super::shapes::{ErrorShape, $shape as Shape};
            use super::*;

            const KIND: ObjectKind = ObjectKind::$kind;

            /// List them, newest first.
            #[utoipa::path(get, path = $path, tag = $tag, params(Page), security(("key" = [])),
                operation_id = concat!($tag, " list"),
                responses((status = 200, body = Vec<Shape>), (status = 400, body = ErrorShape),
                    (status = 401, body = ErrorShape), (status = 403, body = ErrorShape)))]
            pub(crate) async fn list(
                State(api): State<Api>,
                Parameters(page): Parameters<Page>,
            ) -> Result<Json<Vec<Value>>, ApiError> {
                super::list(&api, KIND, &page).await
            }

            /// Make one.
            #[utoipa::path(post, path = $path, tag = $tag, request_body = Shape, security(("key" = [])),
                operation_id = concat!($tag, " create"),
                responses((status = 201, body = Shape), (status = 400, body = ErrorShape),
                    (status = 401, body = ErrorShape), (status = 403, body = ErrorShape),
                    (status = 409, body = ErrorShape), (status = 413, body = ErrorShape),
                    (status = 415, body = ErrorShape)))]
            pub(crate) async fn create(
                State(api): State<Api>,
                Body(body): Body,
            ) -> Result<(StatusCode, Shown), ApiError> {
                let made = api.directory.create(KIND, body).await?;
                Ok((StatusCode::CREATED, Json(made)))
            }

            /// Get one.
            #[utoipa::path(get, path = $one, tag = $tag, params(("id" = String, Path)), security(("key" = [])),
                operation_id = concat!($tag, " get"),
                responses((status = 200, body = Shape), (status = 401, body = ErrorShape),
                    (status = 403, body = ErrorShape), (status = 404, body = ErrorShape)))]
            pub(crate) async fn get(
                State(api): State<Api>,
                Path(name): Path<String>,
            ) -> Result<Shown, ApiError> {
                Ok(Json(api.directory.get(KIND, id(KIND, &name)?).await?))
            }

            /// Change the fields that are given; `null` removes one.
            #[utoipa::path(patch, path = $one, tag = $tag, params(("id" = String, Path)),
                request_body = Shape, operation_id = concat!($tag, " update"), security(("key" = [])),
                responses((status = 200, body = Shape), (status = 400, body = ErrorShape),
                    (status = 401, body = ErrorShape), (status = 403, body = ErrorShape),
                    (status = 404, body = ErrorShape), (status = 409, body = ErrorShape),
                    (status = 413, body = ErrorShape), (status = 415, body = ErrorShape)))]
            pub(crate) async fn change(
                State(api): State<Api>,
                Path(name): Path<String>,
                Body(body): Body,
            ) -> Result<Shown, ApiError> {
                let changed = api.directory.change(KIND, id(KIND, &name)?, body).await?;
                Ok(Json(changed))
            }

            /// Delete one, and return what it was.
            #[utoipa::path(delete, path = $one, tag = $tag, params(("id" = String, Path)), security(("key" = [])),
                operation_id = concat!($tag, " delete"),
                responses((status = 200, body = Shape), (status = 401, body = ErrorShape),
                    (status = 403, body = ErrorShape), (status = 404, body = ErrorShape),
                    (status = 409, body = ErrorShape)))]
            pub(crate) async fn delete(
                State(api): State<Api>,
                Path(name): Path<String>,
            ) -> Result<Shown, ApiError> {
                Ok(Json(api.directory.delete(KIND, id(KIND, &name)?).await?))
            }
        }
    };
}

resource!(
    assistants,
    Assistant,
    AssistantShape,
    "/assistant",
    "/assistant/{id}",
    "Assistants"
);
resource!(
    phone_numbers,
    PhoneNumber,
    PhoneNumberShape,
    "/phone-number",
    "/phone-number/{id}",
    "Phone Numbers"
);
resource!(
    credentials,
    Credential,
    CredentialShape,
    "/credential",
    "/credential/{id}",
    "Credentials"
);
