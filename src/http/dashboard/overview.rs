//! The first page: calls, minutes, outcomes, latencies, and how busy the engines were.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Query, State};
use axum::response::Json;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Dashboard;
use crate::call::Registry;
use crate::http::Scraper;
use crate::http::error::ApiError;
use crate::observe::State as Part;
use crate::record::{AssistantLatency, CallType, TurnPart, latencies, percentile};
use crate::store::{CountedCalls, Every, Overview};

/// How often the engines are looked at.
const EVERY: Duration = Duration::from_secs(10);

/// A day's worth.
const MOST_SAMPLES: usize = 8640;

/// Points that a chart gets at most.
const MOST_POINTS: usize = 288;

/// Longest while that is looked at: 90 days, in hours.
const LONGEST: u32 = 90 * 24;

/// Calls, and requests that each engine worked on or had waiting, at one moment.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Sample {
    at: i64,
    calls: u64,
    stt: u64,
    llm: u64,
    tts: u64,
}

/// How busy the server was during the last day; since its start at most.
#[derive(Clone, Debug, Default)]
pub struct Load(Arc<Mutex<VecDeque<Sample>>>);

impl Load {
    fn push(&self, sample: Sample) {
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.len() == MOST_SAMPLES {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    /// The highest values of each stretch, so that no peak is lost.
    fn since(&self, since: OffsetDateTime) -> Vec<Sample> {
        let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = since.unix_timestamp();
        let wanted: Vec<Sample> = samples
            .iter()
            .filter(|it| it.at >= since)
            .copied()
            .collect();
        let stretch = wanted.len().div_ceil(MOST_POINTS).max(1);
        let highest = |stretch: &[Sample]| {
            let first = stretch.first().copied().unwrap_or_default();
            stretch.iter().fold(first, |all, one| Sample {
                at: all.at,
                calls: all.calls.max(one.calls),
                stt: all.stt.max(one.stt),
                llm: all.llm.max(one.llm),
                tts: all.tts.max(one.tts),
            })
        };
        wanted.chunks(stretch).map(highest).collect()
    }
}

/// Looks at the engines now and then, for ever.
pub async fn watch_load(load: Load, registry: Registry, scraper: Scraper) {
    let mut ticks = tokio::time::interval(EVERY);
    loop {
        ticks.tick().await;
        let scrape = scraper().await;
        let of = |engine: [&str; 2]| {
            let counted = scrape.iter().filter(|(name, _)| engine.contains(name));
            counted.map(|(_, value)| value).sum()
        };
        load.push(Sample {
            at: OffsetDateTime::now_utc().unix_timestamp(),
            calls: u64::try_from(registry.snapshots().len()).unwrap_or(u64::MAX),
            stt: of(["stt_queued", "stt_in_flight"]),
            llm: of(["llm_queued", "llm_in_flight"]),
            tts: of(["tts_queued", "tts_in_flight"]),
        });
    }
}

/// The while that is looked at.
#[derive(Debug, Deserialize)]
pub(super) struct While {
    #[serde(default = "day")]
    hours: u32,
}

fn day() -> u32 {
    24
}

/// Everything that the first page shows.
pub(super) async fn overview(
    State(dashboard): State<Dashboard>,
    Query(While { hours }): Query<While>,
) -> Result<Json<Value>, ApiError> {
    if !(1..=LONGEST).contains(&hours) {
        return Err(ApiError::invalid(format!("hours: must be 1 to {LONGEST}")));
    }
    let (bucket, every): (i64, Every) = match hours {
        0..=6 => (900, Every::Minute),
        7..=48 => (3600, Every::Hour),
        _ => (86_400, Every::Day),
    };
    let now = OffsetDateTime::now_utc();
    let count = (i64::from(hours) * 3600).div_euclid(bucket).max(1);
    let start = (now.unix_timestamp().div_euclid(bucket) + 1 - count) * bucket;
    let since = OffsetDateTime::from_unix_timestamp(start).unwrap_or(now);
    let found = dashboard.store.overview(since, every).await?;
    let parts: Map<String, Value> = dashboard
        .health
        .snapshot()
        .into_iter()
        .map(|(part, state)| (part.name().to_owned(), described(&state)))
        .collect();
    Ok(Json(json!({
        "since": since.format(&Rfc3339).ok(),
        "bucketSeconds": bucket,
        "buckets": buckets(&found, start, bucket, count),
        "totals": totals(&found),
        "outcomes": outcomes(&found),
        "latency": latency(&found),
        "latencyByAssistant": by_assistant(&found),
        "load": dashboard.load.since(since),
        "live": dashboard.registry.snapshots().len(),
        "parts": parts,
    })))
}

fn described(state: &Part) -> Value {
    match state {
        Part::Ready => json!({ "status": "ready" }),
        Part::Starting => json!({ "status": "starting" }),
        Part::Restarting => json!({ "status": "restarting" }),
        Part::Failed(reason) => json!({ "status": "failed", "reason": reason }),
    }
}

#[derive(Clone, Debug, Default)]
struct Bucket {
    inbound: u64,
    outbound: u64,
    talked_ms: u64,
    voice_to_voice: Vec<u64>,
}

fn buckets(found: &Overview, start: i64, length: i64, count: i64) -> Vec<Value> {
    let place = |at: OffsetDateTime| {
        let place = (at.unix_timestamp() - start).div_euclid(length);
        usize::try_from(place).ok()
    };
    let mut all = vec![Bucket::default(); usize::try_from(count).unwrap_or(1)];
    for call in &found.calls {
        let Some(bucket) = place(call.at).and_then(|place| all.get_mut(place)) else {
            continue;
        };
        match call.call_type {
            CallType::InboundPhoneCall => bucket.inbound += call.calls,
            CallType::OutboundPhoneCall => bucket.outbound += call.calls,
        }
        bucket.talked_ms += call.talked_ms;
    }
    for turn in &found.turns {
        let bucket = place(turn.called_at).and_then(|place| all.get_mut(place));
        if let (Some(bucket), Some(ms)) = (bucket, turn.ledger.voice_to_voice_ms()) {
            bucket.voice_to_voice.push(ms);
        }
    }
    let shown = |(place, mut bucket): (usize, Bucket)| {
        bucket.voice_to_voice.sort_unstable();
        let at = start + i64::try_from(place).unwrap_or_default() * length;
        json!({
            "at": at,
            "inbound": bucket.inbound,
            "outbound": bucket.outbound,
            "minutes": minutes(bucket.talked_ms),
            "p50": percentile(&bucket.voice_to_voice, 50),
            "p95": percentile(&bucket.voice_to_voice, 95),
        })
    };
    all.into_iter().enumerate().map(shown).collect()
}

/// Minutes with one decimal.
fn minutes(ms: u64) -> f64 {
    // Far below 2^53.
    (ms as f64 / 6_000.0).round() / 10.0
}

fn totals(found: &Overview) -> Value {
    let sum = |of: fn(&CountedCalls) -> u64| found.calls.iter().map(of).sum::<u64>();
    let (answered, talked) = (sum(|call| call.answered), sum(|call| call.talked_ms));
    json!({
        "calls": sum(|call| call.calls),
        "answered": answered,
        "minutes": minutes(talked),
        "meanSeconds": talked.checked_div(answered).map(|mean| mean / 1000),
        "turns": found.turns.len(),
    })
}

/// The commonest first.
fn outcomes(found: &Overview) -> Vec<Value> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for call in &found.calls {
        if let Some(reason) = call.ended_reason {
            *counts.entry(reason.to_string()).or_default() += call.calls;
        }
    }
    let mut counts: Vec<(String, u64)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let shown = |(reason, count)| json!({ "reason": reason, "count": count });
    counts.into_iter().map(shown).collect()
}

/// Each part of a turn from the end of the caller's speech, in ms.
fn latency(found: &Overview) -> Vec<Value> {
    let shown = |part: TurnPart| {
        let stretches = found.turns.iter().filter_map(|turn| part.of(&turn.ledger));
        let mut all: Vec<u64> = stretches.collect();
        all.sort_unstable();
        json!({
            "part": part,
            "p50": percentile(&all, 50),
            "p95": percentile(&all, 95),
            "max": all.last(),
        })
    };
    TurnPart::ALL.into_iter().map(shown).collect()
}

fn by_assistant(found: &Overview) -> Vec<AssistantLatency> {
    let turns = found.turns.iter();
    latencies(turns.map(|turn| (turn.assistant.clone(), turn.ledger.clone())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::EndedReason;

    #[test]
    fn calls_fall_into_their_bucket_and_older_ones_into_none() {
        let calls = |second: i64, calls, answered, talked_ms| CountedCalls {
            at: OffsetDateTime::from_unix_timestamp(second).expect("a time"),
            call_type: CallType::InboundPhoneCall,
            ended_reason: Some(EndedReason::CustomerEndedCall),
            calls,
            answered,
            talked_ms,
        };
        let found = Overview {
            calls: vec![
                calls(7260, 2, 1, 90_000),
                calls(3600, 1, 0, 0),
                calls(3540, 1, 0, 0),
            ],
            turns: Vec::new(),
        };
        let shown = buckets(&found, 3600, 3600, 2);
        assert_eq!(shown.len(), 2);
        assert_eq!(
            (&shown[0]["inbound"], &shown[0]["at"]),
            (&json!(1), &json!(3600))
        );
        assert_eq!(
            (&shown[1]["inbound"], &shown[1]["minutes"]),
            (&json!(2), &json!(1.5))
        );
        let totals = totals(&found);
        assert_eq!(
            (&totals["calls"], &totals["answered"]),
            (&json!(4), &json!(1))
        );
        assert_eq!(totals["meanSeconds"], 90);
        assert_eq!(outcomes(&found)[0]["count"], 4);
    }

    #[test]
    fn a_chart_of_a_day_keeps_its_peaks() {
        let load = Load::default();
        for second in 0..9000 {
            let calls = u64::from(second == 5000);
            load.push(Sample {
                at: second,
                calls,
                ..Sample::default()
            });
        }
        let shown = load.since(OffsetDateTime::UNIX_EPOCH);
        assert!(shown.len() <= MOST_POINTS);
        assert_eq!(shown.iter().map(|sample| sample.calls).max(), Some(1));
        assert_eq!(shown[0].at, 360, "the oldest were forgotten");
    }
}
