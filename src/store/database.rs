//! Which database it is, and how it is opened: SQLite in the data folder, or PostgreSQL by URL.
//!
//! Both are spoken to through one driver with one set of statements; what they call differently
//! is put right here and in the migrations.

use std::fmt;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Once;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyPool, Executor};

use super::StoreError;

/// File name of the database inside the data folder.
pub const DATABASE_FILE: &str = "offhook.db";

/// At most this many connections at once.
pub(super) const CONNECTIONS: u32 = 4;

/// WAL, so that readers do not wait for the writer; how long a statement waits for another
/// process's write lock; foreign keys, which SQLite leaves out unless asked.
const SQLITE_CONNECTION: &str = "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; \
     PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON";

/// Where calls and objects are kept.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    /// SQLite, in this folder.
    Folder(PathBuf),
    /// PostgreSQL: `postgres://user:password@host/database`. One server to a database.
    PostgreSql(String),
}

/// Why a URL names no database that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must begin with postgres:// or postgresql://; without one, SQLite in the data folder is used"
)]
pub struct NoDatabase;

impl Database {
    /// PostgreSQL where there is a URL, else SQLite in the data folder.
    ///
    /// # Errors
    /// Where the URL is of another kind.
    pub fn new(data: &Path, url: Option<&str>) -> Result<Self, NoDatabase> {
        match url {
            None => Ok(Self::Folder(data.to_owned())),
            Some(url) if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
                Ok(Self::PostgreSql(url.to_owned()))
            }
            Some(_) => Err(NoDatabase),
        }
    }

    /// Whether there is something to open: a server is taken to be there.
    pub(super) fn exists(&self) -> bool {
        match self {
            Self::Folder(folder) => folder.join(DATABASE_FILE).exists(),
            Self::PostgreSql(_) => true,
        }
    }

    pub(super) async fn connect(&self, access: Access) -> Result<AnyPool, StoreError> {
        static DRIVERS: Once = Once::new();
        DRIVERS.call_once(sqlx::any::install_default_drivers);
        let failed = |source| StoreError::Open {
            database: self.clone(),
            source,
        };
        let options: AnyConnectOptions = self.url(access).parse().map_err(failed)?;
        let setup = match self {
            Self::Folder(_) => SQLITE_CONNECTION,
            // Compiling a statement takes longer than any of ours.
            Self::PostgreSql(_) => "SET client_min_messages = warning; SET jit = off",
        };
        AnyPoolOptions::new()
            .max_connections(CONNECTIONS)
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    connection.execute(sqlx::raw_sql(setup)).await?;
                    Ok(())
                })
            })
            .connect_with(options)
            .await
            .map_err(failed)
    }

    fn url(&self, access: Access) -> String {
        match self {
            Self::PostgreSql(url) => url.clone(),
            Self::Folder(folder) => {
                // Where it cannot be made absolute, opening it says why.
                let folder = folder.canonicalize().unwrap_or_else(|_| folder.clone());
                let mut url = "sqlite://".to_owned();
                for byte in folder.join(DATABASE_FILE).as_os_str().as_encoded_bytes() {
                    match byte {
                        b'/' | b'-' | b'_' | b'.' => url.push(char::from(*byte)),
                        plain if plain.is_ascii_alphanumeric() => url.push(char::from(*plain)),
                        // Writing to a string cannot fail.
                        other => drop(write!(url, "%{other:02X}")),
                    }
                }
                url.push_str(match access {
                    Access::Create => "?mode=rwc",
                    Access::Change => "?mode=rw",
                    Access::Read => "?mode=ro",
                });
                url
            }
        }
    }
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Create,
    Change,
    Read,
}

/// Without the password that a URL may have.
impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => folder.join(DATABASE_FILE).display().fmt(f),
            Self::PostgreSql(url) => {
                let place = url
                    .rsplit_once('@')
                    .map_or(url.as_str(), |(_, place)| place);
                let place = place.split('?').next().unwrap_or_default();
                let place = place.trim_start_matches("postgresql://");
                write!(
                    f,
                    "PostgreSQL at {}",
                    place.trim_start_matches("postgres://")
                )
            }
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_named_without_its_password() {
        let folder = Path::new("/data");
        let named = |url| Database::new(folder, url).map(|database| format!("{database}"));
        assert_eq!(named(None), Ok("/data/offhook.db".to_owned()));
        let url = Some("postgres://offhook:secret@db.example.com:5433/calls?sslmode=require");
        assert_eq!(
            named(url),
            Ok("PostgreSQL at db.example.com:5433/calls".to_owned())
        );
        assert_eq!(named(Some("mysql://x")), Err(NoDatabase));
    }

    #[tokio::test]
    async fn a_folder_may_have_any_name() {
        let folder = std::env::temp_dir().join(format!("offhook 50% ö?#{}", std::process::id()));
        let database = Database::Folder(folder.clone());
        let store = super::super::Store::open_database(&database)
            .await
            .expect("opened");
        assert!(folder.join(DATABASE_FILE).exists());
        store.close().await;
        std::fs::remove_dir_all(folder).expect("removed");
    }
}
