//! Objects of the API: documents with an id, kept as they were given.

use serde_json::{Map, Value};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};
use time::OffsetDateTime;

use super::rows::{self, Timestamp, parsed};
use super::statement::{Statement, Times};
use super::{Store, StoreError, trusted};

/// What an object is. Vapi's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKind {
    /// Who talks.
    Assistant,
    /// A number, and who answers it.
    PhoneNumber,
    /// A SIP trunk, or a key of a provider.
    Credential,
}

impl ObjectKind {
    /// As it is in a path: `assistant`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Assistant => "assistant",
            Self::PhoneNumber => "phone-number",
            Self::Credential => "credential",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::Assistant, Self::PhoneNumber, Self::Credential]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

/// Who may change an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The API.
    Api,
    /// The configuration file only.
    Configuration,
}

/// One object.
#[derive(Clone, PartialEq)]
pub struct Object {
    /// What it is.
    pub kind: ObjectKind,
    /// Its id: a UUID, or its key in the configuration.
    pub id: String,
    /// Its fields as they were given, unknown ones included, without secrets.
    pub document: Map<String, Value>,
    /// Its secrets, encrypted by whoever wrote it.
    pub secrets: Option<Vec<u8>>,
    /// What no other object of the kind may have as well, such as a number.
    pub unique_key: Option<String>,
    /// Who may change it.
    pub origin: Origin,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it was changed last.
    pub updated_at: OffsetDateTime,
}

/// Which objects, newest first.
#[derive(Clone, Debug, Default)]
pub struct ObjectQuery {
    /// At most this many.
    pub limit: u32,
    /// By when they were made.
    pub created: Times,
    /// By when they were changed last.
    pub updated: Times,
}

/// What became of a new or changed object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved {
    /// It is kept.
    Kept,
    /// Another one has its unique key.
    Taken,
    /// There is none of that id to change.
    Gone,
}

impl Store {
    /// Objects of a kind, newest first.
    ///
    /// # Errors
    /// Where the statement fails or a row is unreadable.
    pub async fn objects(
        &self,
        kind: ObjectKind,
        query: &ObjectQuery,
    ) -> Result<Vec<Object>, StoreError> {
        let mut statement = Statement::new("SELECT * FROM objects");
        statement.equals("kind", Some(kind.name()));
        statement.within("created_at", &query.created);
        statement.within("updated_at", &query.updated);
        let order = "created_at DESC, id DESC";
        let rows = statement.fetch(order, query.limit, &self.pool).await?;
        rows.iter().map(object).collect()
    }

    /// Every object of every kind.
    ///
    /// # Errors
    /// Where the statement fails or a row is unreadable.
    pub async fn all_objects(&self) -> Result<Vec<Object>, StoreError> {
        let rows = sqlx::query("SELECT * FROM objects ORDER BY kind, created_at, id")
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(object).collect()
    }

    /// One object; `None` where there is none.
    ///
    /// # Errors
    /// Where the statement fails or the row is unreadable.
    pub async fn object(&self, kind: ObjectKind, id: &str) -> Result<Option<Object>, StoreError> {
        let row = sqlx::query("SELECT * FROM objects WHERE kind = $1 AND id = $2")
            .bind(kind.name())
            .bind(id)
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(object).transpose()
    }

    /// Keeps a new object.
    ///
    /// # Errors
    /// Where the statement fails.
    pub async fn add_object(&self, object: &Object) -> Result<Saved, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let added = add(&mut connection, object).await;
        trusted(connection, saved(added))
    }

    /// Changes an object's document, secrets and unique key.
    ///
    /// # Errors
    /// Where the statement fails.
    pub async fn change_object(&self, object: &Object) -> Result<Saved, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let changed = sqlx::query(
            "UPDATE objects SET document = $3, secrets = $4, unique_key = $5, updated_at = $6, \
             pinned = $7 WHERE kind = $1 AND id = $2",
        )
        .bind(object.kind.name())
        .bind(&object.id)
        .bind(document(object))
        .bind(object.secrets.clone())
        .bind(object.unique_key.as_deref())
        .bind(Timestamp(object.updated_at).to_string())
        .bind(i64::from(object.origin == Origin::Configuration))
        .execute(&mut *connection)
        .await;
        trusted(connection, saved(changed))
    }

    /// Deletes an object; false where there was none.
    ///
    /// # Errors
    /// Where the statement fails.
    pub async fn delete_object(&self, kind: ObjectKind, id: &str) -> Result<bool, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let done = sqlx::query("DELETE FROM objects WHERE kind = $1 AND id = $2")
            .bind(kind.name())
            .bind(id)
            .execute(&mut *connection)
            .await;
        trusted(
            connection,
            done.map(|done| done.rows_affected() > 0)
                .map_err(StoreError::from),
        )
    }
}

async fn add(
    connection: &mut AnyConnection,
    object: &Object,
) -> Result<sqlx::any::AnyQueryResult, sqlx::Error> {
    sqlx::query(
        "INSERT INTO objects (kind, id, document, secrets, unique_key, pinned, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(object.kind.name())
    .bind(&object.id)
    .bind(document(object))
    .bind(object.secrets.clone())
    .bind(object.unique_key.as_deref())
    .bind(i64::from(object.origin == Origin::Configuration))
    .bind(Timestamp(object.created_at).to_string())
    .bind(Timestamp(object.updated_at).to_string())
    .execute(connection)
    .await
}

fn saved(written: Result<sqlx::any::AnyQueryResult, sqlx::Error>) -> Result<Saved, StoreError> {
    match written {
        Ok(done) if done.rows_affected() == 0 => Ok(Saved::Gone),
        Ok(_) => Ok(Saved::Kept),
        Err(error)
            if error
                .as_database_error()
                .is_some_and(|e| e.is_unique_violation()) =>
        {
            Ok(Saved::Taken)
        }
        Err(error) => Err(error.into()),
    }
}

fn document(object: &Object) -> String {
    // JSON always serialises.
    serde_json::to_string(&object.document).unwrap_or_default()
}

fn object(row: &AnyRow) -> Result<Object, StoreError> {
    Ok(Object {
        kind: parsed(row, "kind", ObjectKind::named)?,
        id: row.try_get("id")?,
        document: parsed(row, "document", |text| serde_json::from_str(text).ok())?,
        secrets: row.try_get("secrets")?,
        unique_key: row.try_get("unique_key")?,
        origin: match row.try_get::<i64, _>("pinned")? {
            0 => Origin::Api,
            _ => Origin::Configuration,
        },
        created_at: parsed(row, "created_at", rows::time_of)?,
        updated_at: parsed(row, "updated_at", rows::time_of)?,
    })
}
