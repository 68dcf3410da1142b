//! Keys of the API. What is kept of a key is its SHA-256, which is enough to know it again.

use std::collections::BTreeSet;

use sqlx::Row;
use sqlx::any::AnyRow;
use time::OffsetDateTime;

use super::rows::{self, Timestamp, name_of, parsed, parsed_option};
use super::{Store, StoreError, trusted};
use crate::record::Scope;

/// What is kept of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// A UUID, to speak of it by.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What it may.
    pub scopes: BTreeSet<Scope>,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// It is good for nothing from then on.
    pub expires_at: Option<OffsetDateTime>,
}

impl Store {
    /// Keeps a key, by its hash (SHA-256 in hexadecimal).
    ///
    /// # Errors
    /// Where the statement fails.
    pub async fn add_api_key(&self, key: &ApiKey, hash: &str) -> Result<(), StoreError> {
        let mut connection = self.pool.acquire().await?;
        let scopes: Vec<String> = key.scopes.iter().map(name_of).collect();
        let added = sqlx::query(
            "INSERT INTO api_keys (id, name, hash, scopes, created_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(&key.id)
        .bind(&key.name)
        .bind(hash)
        .bind(scopes.join(" "))
        .bind(Timestamp(key.created_at).to_string())
        .bind(key.expires_at.map(|at| Timestamp(at).to_string()))
        .execute(&mut *connection)
        .await;
        trusted(connection, added.map(drop).map_err(StoreError::from))
    }

    /// Every key, newest first.
    ///
    /// # Errors
    /// Where the statement fails or a row is unreadable.
    pub async fn api_keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        let rows = sqlx::query("SELECT * FROM api_keys ORDER BY created_at DESC, id DESC")
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(api_key).collect()
    }

    /// The key of that hash; `None` where there is none.
    ///
    /// # Errors
    /// Where the statement fails or the row is unreadable.
    pub async fn api_key(&self, hash: &str) -> Result<Option<ApiKey>, StoreError> {
        let row = sqlx::query("SELECT * FROM api_keys WHERE hash = $1")
            .bind(hash)
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(api_key).transpose()
    }

    /// Deletes a key; false where there was none.
    ///
    /// # Errors
    /// Where the statement fails.
    pub async fn delete_api_key(&self, id: &str) -> Result<bool, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let done = sqlx::query("DELETE FROM api_keys WHERE id = $1")
            .bind(id)
            .execute(&mut *connection)
            .await;
        let done = done.map(|done| done.rows_affected() > 0);
        trusted(connection, done.map_err(StoreError::from))
    }
}

fn api_key(row: &AnyRow) -> Result<ApiKey, StoreError> {
    Ok(ApiKey {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        scopes: parsed(row, "scopes", |text| {
            text.split_whitespace().map(rows::named).collect()
        })?,
        created_at: parsed(row, "created_at", rows::time_of)?,
        expires_at: parsed_option(row, "expires_at", rows::time_of)?,
    })
}
