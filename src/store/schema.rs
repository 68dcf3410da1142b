//! The migrations, built in.

use std::borrow::Cow;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{SqlSafeStr, SqlStr};

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
];

/// Brings an empty or older database to this version's schema.
pub(super) fn migrator() -> Migrator {
    let migrations = MIGRATIONS.iter().map(|(version, name, sql)| {
        let sql: SqlStr = (*sql).into_sql_str();
        Migration::new(
            *version,
            Cow::Borrowed(name),
            MigrationType::Simple,
            sql,
            false,
        )
    });
    Migrator::with_migrations(migrations.collect())
}
