//! What goes on in the background: probing database and disk, deleting what is too old.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use time::OffsetDateTime;

use crate::call::sha256;
use crate::config::Config;
use crate::net::media::MediaCounters;
use crate::net::sip::{Sip, Snapshot};
use crate::observe::{Component, Health, Scrape, State};
use crate::store::{Entry, Journal, Store, Sweep, free_space};

const PROBE_EVERY: Duration = Duration::from_secs(5);
const SWEEP_EVERY: Duration = Duration::from_secs(600);
const DAY: Duration = Duration::from_secs(86_400);

/// Keeps the health of the database and the disk up to date.
pub(super) async fn watch_store(store: Store, config: Arc<Config>, health: Health) {
    let minimum = config
        .recording
        .minimum_free_megabytes
        .saturating_mul(1_000_000);
    loop {
        let state = match store.beat(OffsetDateTime::now_utc()).await {
            Ok(()) => State::Ready,
            Err(error) => State::Failed(error.to_string()),
        };
        health.set(Component::Store, state);
        let state = match free_space(&config.data) {
            Ok(free) if free.0 >= minimum => State::Ready,
            Ok(_) => State::Failed(format!(
                "less than {} MB are left for {}",
                config.recording.minimum_free_megabytes,
                config.data.display()
            )),
            Err(error) => State::Failed(format!("{}: {error}", config.data.display())),
        };
        health.set(Component::Disk, state);
        tokio::time::sleep(PROBE_EVERY).await;
    }
}

/// Hashes the recordings of calls that a crash cut off.
pub(super) async fn hash_recordings(store: Store, config: Arc<Config>, journal: Journal) {
    let unhashed = match store.unhashed_recordings().await {
        Ok(unhashed) => unhashed,
        Err(error) => {
            tracing::error!(%error, "recordings without a hash cannot be listed");
            return;
        }
    };
    for (call, recording) in unhashed {
        let path = config.data.join(recording);
        match tokio::task::spawn_blocking(move || sha256(&path)).await {
            Ok(Ok(hash)) => journal.write(Entry::RecordingHash(call, hash)),
            Ok(Err(error)) => tracing::warn!(%call, %error, "a recording cannot be hashed"),
            Err(error) => tracing::error!(%call, %error, "a recording cannot be hashed"),
        }
    }
}

/// Applies retention and quota now and then.
pub(super) async fn sweep(store: Store, config: Arc<Config>) {
    loop {
        let keep = Sweep {
            calls_before: config
                .recording
                .retention_days
                .map(|days| OffsetDateTime::now_utc() - DAY * days),
            recordings_bytes: config
                .recording
                .quota_megabytes
                .map(|mb| mb.saturating_mul(1_000_000)),
        };
        match store.sweep(&config.data, keep).await {
            Ok(0) => {}
            Ok(deleted) => tracing::info!(deleted, "old recordings deleted"),
            Err(error) => tracing::error!(%error, "old recordings cannot be deleted"),
        }
        tokio::time::sleep(SWEEP_EVERY).await;
    }
}

pub(super) async fn sip_counters(sip: &Sip) -> Scrape {
    let level = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let dropped = sip.dropped();
    let mut scrape = vec![
        (
            "sip_dropped_strangers",
            dropped.strangers.load(Ordering::Relaxed),
        ),
        ("sip_flooded", dropped.flooded.load(Ordering::Relaxed)),
        (
            "sip_dropped_datagrams",
            dropped.datagrams.load(Ordering::Relaxed),
        ),
        ("sip_dropped_events", dropped.events.load(Ordering::Relaxed)),
        (
            "sip_dropped_commands",
            dropped.commands.load(Ordering::Relaxed),
        ),
        (
            "sip_dropped_connections",
            dropped.connections.load(Ordering::Relaxed),
        ),
        ("sip_slow_peers", dropped.slow_peers.load(Ordering::Relaxed)),
        (
            "runtime_tasks",
            level(
                tokio::runtime::Handle::current()
                    .metrics()
                    .num_alive_tasks(),
            ),
        ),
    ];
    let Ok(Snapshot {
        stats,
        counters,
        connections,
    }) = sip.snapshot().await
    else {
        return scrape;
    };
    scrape.extend([
        ("sip_connections", level(connections)),
        ("sip_legs", level(stats.legs)),
        ("sip_lingering_legs", level(stats.lingering_legs)),
        ("sip_client_transactions", level(stats.client_transactions)),
        ("sip_server_transactions", level(stats.server_transactions)),
        ("sip_subscriptions", level(stats.subscriptions)),
        ("sip_received", counters.received),
        ("sip_transmitted", counters.transmitted),
        ("sip_retransmitted", counters.retransmitted),
        ("sip_unparsable", counters.dropped_unparsable),
        ("sip_refused_by_limit", counters.refused_by_limit),
    ]);
    scrape
}

pub(super) fn media_counters(counters: &MediaCounters) -> Scrape {
    vec![
        ("media_ticks", counters.ticks.load(Ordering::Relaxed)),
        (
            "media_late_ticks",
            counters.late_ticks.load(Ordering::Relaxed),
        ),
        (
            "media_worst_lateness_us",
            counters.worst_lateness_us.load(Ordering::Relaxed),
        ),
        (
            "media_lost_ticks",
            counters.lost_ticks.load(Ordering::Relaxed),
        ),
        (
            "media_unsent_packets",
            counters.unsent_packets.load(Ordering::Relaxed),
        ),
        (
            "media_stranger_packets",
            counters.stranger_packets.load(Ordering::Relaxed),
        ),
        (
            "media_bad_packets",
            counters.bad_packets.load(Ordering::Relaxed),
        ),
    ]
}
