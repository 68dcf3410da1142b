//! Who may use the dashboard, and who is using it.

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use sqlx::Row;
use time::OffsetDateTime;

use super::rows::Timestamp;
use super::{Store, StoreError, trusted};

/// Sessions of one operator at once; the oldest go first.
const MOST_SESSIONS: i64 = 50;

/// Shortest password, in characters.
const SHORTEST_PASSWORD: usize = 10;

/// Longest password, in bytes: what is hashed is bounded.
const LONGEST_PASSWORD: usize = 256;

/// Why a name or a password is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadOperator {
    /// The name.
    #[error("name: must have 1 to 40 letters, digits, dots, dashes or underscores")]
    Name,
    /// The password.
    #[error("password: must have at least 10 characters, and at most 256 bytes")]
    Password,
    /// The hash cannot be made.
    #[error("the password cannot be hashed")]
    Hash,
}

/// Whether an operator can have this name.
///
/// # Errors
/// [`BadOperator::Name`] where not.
pub fn operator_name(name: &str) -> Result<(), BadOperator> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    match (1..=40).contains(&name.len()) && name.chars().all(plain) {
        true => Ok(()),
        false => Err(BadOperator::Name),
    }
}

/// The argon2id hash of a password, as a PHC string. Takes some 30 ms and 19 MiB.
///
/// # Errors
/// Where the password is too short or too long.
pub fn hash_password(password: &str, salt: &[u8; 16]) -> Result<String, BadOperator> {
    if password.chars().count() < SHORTEST_PASSWORD || password.len() > LONGEST_PASSWORD {
        return Err(BadOperator::Password);
    }
    let hash = Argon2::default().hash_password_with_salt(password.as_bytes(), salt);
    Ok(hash.map_err(|_| BadOperator::Hash)?.to_string())
}

/// Whether this is the password. Takes as long where there is no operator to compare with.
pub fn is_password(shown: &str, hash: Option<&str>) -> bool {
    if shown.len() > LONGEST_PASSWORD {
        return false;
    }
    let Some(hash) = hash else {
        let mut unused = [0; 32];
        let _ = Argon2::default().hash_password_into(shown.as_bytes(), &[0; 16], &mut unused);
        return false;
    };
    let Ok(parsed) = PasswordHash::new(hash) else {
        return false;
    };
    Argon2::default()
        .verify_password(shown.as_bytes(), &parsed)
        .is_ok()
}

impl Store {
    /// Keeps an operator, new or with another password (argon2id, PHC string). Another password
    /// ends the sessions.
    ///
    /// # Errors
    /// Where a statement fails.
    pub async fn save_operator(
        &self,
        name: &str,
        password: &str,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let mut connection = self.pool.acquire().await?;
        let saved = async {
            sqlx::query(
                "INSERT INTO operators (name, password, created_at) VALUES ($1, $2, $3) \
                 ON CONFLICT (name) DO UPDATE SET password = excluded.password",
            )
            .bind(name)
            .bind(password)
            .bind(Timestamp(now).to_string())
            .execute(&mut *connection)
            .await?;
            sqlx::query("DELETE FROM sessions WHERE operator = $1")
                .bind(name)
                .execute(&mut *connection)
                .await
        }
        .await;
        trusted(connection, saved.map(drop).map_err(StoreError::from))
    }

    /// Keeps the first operator; false where there is one already, however close the race.
    ///
    /// # Errors
    /// Where the statement fails.
    pub async fn add_first_operator(
        &self,
        name: &str,
        password: &str,
        now: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let added = sqlx::query(
            "INSERT INTO operators (name, password, created_at) \
             SELECT $1, $2, $3 WHERE NOT EXISTS (SELECT 1 FROM operators)",
        )
        .bind(name)
        .bind(password)
        .bind(Timestamp(now).to_string())
        .execute(&mut *connection)
        .await;
        let added = added.map(|done| done.rows_affected() > 0);
        trusted(connection, added.map_err(StoreError::from))
    }

    /// The names of all operators.
    ///
    /// # Errors
    /// Where the statement fails.
    pub async fn operators(&self) -> Result<Vec<String>, StoreError> {
        let names = sqlx::query_scalar("SELECT name FROM operators ORDER BY name")
            .fetch_all(&self.pool)
            .await?;
        Ok(names)
    }

    /// The password's hash (PHC string) of an operator; `None` where there is no such one.
    ///
    /// # Errors
    /// Where the statement fails.
    pub async fn operator_password(&self, name: &str) -> Result<Option<String>, StoreError> {
        let hash = sqlx::query_scalar("SELECT password FROM operators WHERE name = $1")
            .bind(name)
            .fetch_optional(&self.pool)
            .await?;
        Ok(hash)
    }

    /// Deletes an operator, sessions included; false where there was none.
    ///
    /// # Errors
    /// Where the statement fails.
    pub async fn delete_operator(&self, name: &str) -> Result<bool, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let done = sqlx::query("DELETE FROM operators WHERE name = $1")
            .bind(name)
            .execute(&mut *connection)
            .await;
        let done = done.map(|done| done.rows_affected() > 0);
        trusted(connection, done.map_err(StoreError::from))
    }

    /// Begins a session, by the hash of its token (SHA-256 in hexadecimal); forgets those that
    /// are over, and the operator's oldest beyond fifty.
    ///
    /// # Errors
    /// Where a statement fails.
    pub async fn begin_session(
        &self,
        hash: &str,
        operator: &str,
        now: OffsetDateTime,
        expires_at: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let mut connection = self.pool.acquire().await?;
        let begun = async {
            sqlx::query("DELETE FROM sessions WHERE expires_at <= $1")
                .bind(Timestamp(now).to_string())
                .execute(&mut *connection)
                .await?;
            sqlx::query(
                "DELETE FROM sessions WHERE hash IN (SELECT hash FROM sessions \
                 WHERE operator = $1 ORDER BY created_at DESC, hash LIMIT 1000 OFFSET $2)",
            )
            .bind(operator)
            .bind(MOST_SESSIONS - 1)
            .execute(&mut *connection)
            .await?;
            sqlx::query(
                "INSERT INTO sessions (hash, operator, created_at, expires_at) \
                 VALUES ($1, $2, $3, $4)",
            )
            .bind(hash)
            .bind(operator)
            .bind(Timestamp(now).to_string())
            .bind(Timestamp(expires_at).to_string())
            .execute(&mut *connection)
            .await
        }
        .await;
        trusted(connection, begun.map(drop).map_err(StoreError::from))
    }

    /// Whose session it is; `None` where it is none, or is over.
    ///
    /// # Errors
    /// Where the statement fails.
    pub async fn session(
        &self,
        hash: &str,
        now: OffsetDateTime,
    ) -> Result<Option<String>, StoreError> {
        let row = sqlx::query("SELECT operator FROM sessions WHERE hash = $1 AND expires_at > $2")
            .bind(hash)
            .bind(Timestamp(now).to_string())
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map(|row| row.try_get("operator")).transpose()?)
    }

    /// Ends a session.
    ///
    /// # Errors
    /// Where the statement fails.
    pub async fn end_session(&self, hash: &str) -> Result<(), StoreError> {
        let mut connection = self.pool.acquire().await?;
        let ended = sqlx::query("DELETE FROM sessions WHERE hash = $1")
            .bind(hash)
            .execute(&mut *connection)
            .await;
        trusted(connection, ended.map(drop).map_err(StoreError::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{Place, on_both_databases};
    use time::Duration;

    on_both_databases![
        a_session_lasts_until_it_is_ended_is_over_or_its_operator_has_another_password,
        an_operator_has_fifty_sessions_at_most,
    ];

    async fn a_session_lasts_until_it_is_ended_is_over_or_its_operator_has_another_password(
        place: Place,
    ) {
        let store = place.open().await;
        let now = OffsetDateTime::UNIX_EPOCH;
        let hour = Duration::HOUR;
        assert!(
            store
                .add_first_operator("ann", "h1", now)
                .await
                .expect("kept")
        );
        assert!(
            !store
                .add_first_operator("eve", "h2", now)
                .await
                .expect("kept")
        );
        for hash in ["a", "b", "c"] {
            let begun = store.begin_session(hash, "ann", now, now + hour);
            begun.await.expect("begun");
        }
        let whose = async |hash: &str, at| store.session(hash, at).await.expect("read");
        assert_eq!(whose("a", now).await.as_deref(), Some("ann"));
        assert_eq!(whose("a", now + hour).await, None, "over");
        assert_eq!(whose("x", now).await, None);
        store.end_session("a").await.expect("ended");
        assert_eq!(whose("a", now).await, None);
        assert!(whose("b", now).await.is_some());
        store.save_operator("ann", "h3", now).await.expect("kept");
        assert_eq!(whose("b", now).await, None);
        let password = store.operator_password("ann").await.expect("read");
        assert_eq!(password.as_deref(), Some("h3"));
    }

    #[test]
    fn a_password_is_known_again_and_no_other_is() {
        let hash = hash_password("correct horse", &[7; 16]).expect("hashed");
        assert!(
            hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{hash}"
        );
        assert!(is_password("correct horse", Some(&hash)));
        assert!(!is_password("correct horsf", Some(&hash)));
        assert!(!is_password("correct horse", None));
        assert_eq!(hash_password("short", &[7; 16]), Err(BadOperator::Password));
        let long = "x".repeat(257);
        assert_eq!(hash_password(&long, &[7; 16]), Err(BadOperator::Password));
        assert_eq!(operator_name("ann b"), Err(BadOperator::Name));
        assert_eq!(operator_name("ann.b-2_c"), Ok(()));
    }

    async fn an_operator_has_fifty_sessions_at_most(place: Place) {
        let store = place.open().await;
        let now = OffsetDateTime::UNIX_EPOCH;
        store.save_operator("ann", "h", now).await.expect("kept");
        for at in 0..60_i64 {
            let at = now + Duration::seconds(at);
            let hash = at.unix_timestamp().to_string();
            let begun = store.begin_session(&hash, "ann", at, at + Duration::DAY);
            begun.await.expect("begun");
        }
        let later = now + Duration::HOUR;
        assert_eq!(store.session("9", later).await.expect("read"), None);
        assert!(store.session("10", later).await.expect("read").is_some());
    }
}
