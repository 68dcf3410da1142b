//! The migrations, built in: one series for SQLite and PostgreSQL.

use std::borrow::Cow;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, SqlSafeStr};

use super::Database;

const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "calls", include_str!("../../migrations/0001_calls.sql")),
    (
        2,
        "sip messages",
        include_str!("../../migrations/0002_sip_messages.sql"),
    ),
    (
        3,
        "call origins",
        include_str!("../../migrations/0003_call_origins.sql"),
    ),
    (
        4,
        "heartbeat",
        include_str!("../../migrations/0004_heartbeat.sql"),
    ),
    (
        5,
        "call_quality",
        include_str!("../../migrations/0005_call_quality.sql"),
    ),
    (
        6,
        "voicemail",
        include_str!("../../migrations/0006_voicemail.sql"),
    ),
    (
        7,
        "recording hash",
        include_str!("../../migrations/0007_recording_hash.sql"),
    ),
    (
        10,
        "objects and keys",
        include_str!("../../migrations/0010_objects_and_keys.sql"),
    ),
    (
        11,
        "call words",
        include_str!("../../migrations/0011_call_words.sql"),
    ),
    (
        20,
        "operators",
        include_str!("../../migrations/0020_operators.sql"),
    ),
    (
        30,
        "webhooks",
        include_str!("../../migrations/0030_webhooks.sql"),
    ),
    (
        40,
        "call search",
        include_str!("../../migrations/0040_call_search.sql"),
    ),
    (
        45,
        "call settings",
        include_str!("../../migrations/0045_call_settings.sql"),
    ),
    (
        46,
        "scheduled calls",
        include_str!("../../migrations/0046_scheduled_calls.sql"),
    ),
];

/// Brings an empty or older database to this version's schema.
pub(super) fn migrator(database: &Database) -> Migrator {
    let migrations = MIGRATIONS.iter().map(|(version, name, sql)| {
        // The one type that they do not share the name of, and what only one of them needs.
        let sql = match database {
            Database::Folder(_) => sql.replace("-- SQLite only: ", ""),
            Database::PostgreSql(_) => sql
                .replace(" BLOB", " BYTEA")
                .replace("-- PostgreSQL only: ", ""),
        };
        Migration::new(
            *version,
            Cow::Borrowed(name),
            MigrationType::Simple,
            AssertSqlSafe(sql).into_sql_str(),
            false,
        )
    });
    Migrator::with_migrations(migrations.collect())
}
