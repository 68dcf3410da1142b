//! Counters and histograms, in Prometheus' text format.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::trunks::{TrunkState, TrunkStatus};
use crate::ids::AssistantId;
use crate::record::{CallQuality, EndedReason, TurnLedger, TurnPart};

/// Assistants that are told apart; what more there are count together, so that whoever makes
/// assistants by the API cannot make this grow without end.
const MOST_ASSISTANTS: usize = 200;
/// What those more are called; no assistant has a space in its id.
const OTHERS: &str = "all others";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failure {
    engine: &'static str,
    error: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Part {
    assistant: String,
    part: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Speculation {
    assistant: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfAssistant {
    assistant: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Name {
    name: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfTrunk {
    trunk: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Direction {
    direction: &'static str,
}

/// Seconds; dense where people notice.
const BUCKETS: [f64; 14] = [
    0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0,
];

fn latency() -> Histogram {
    Histogram::new(BUCKETS)
}

/// Mean opinion scores; dense where calls should be.
const SCORES: [f64; 9] = [1.5, 2.0, 2.5, 3.0, 3.5, 3.8, 4.0, 4.2, 4.4];
/// Shares of packets.
const SHARES: [f64; 8] = [0.0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2];
/// Seconds, of jitter and round trips.
const PATHS: [f64; 10] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8];

type ByDirection = Family<Direction, Histogram, fn() -> Histogram>;

/// How calls sounded, counted at their end.
#[derive(Clone)]
struct Quality {
    scores: ByDirection,
    missing: ByDirection,
    jitter: ByDirection,
    round_trip: Histogram,
}

impl Quality {
    fn register(registry: &mut Registry) -> Self {
        let quality = Self {
            scores: Family::new_with_constructor(|| Histogram::new(SCORES)),
            missing: Family::new_with_constructor(|| Histogram::new(SHARES)),
            jitter: Family::new_with_constructor(|| Histogram::new(PATHS)),
            round_trip: Histogram::new(PATHS),
        };
        registry.register(
            "call_mos",
            "Mean opinion score of a call by the E-model: heard by us, spoken to the peer",
            quality.scores.clone(),
        );
        registry.register(
            "call_missing_ratio",
            "Share of a call's packets that were lost or late",
            quality.missing.clone(),
        );
        registry.register(
            "call_jitter_seconds",
            "Interarrival jitter at a call's end",
            quality.jitter.clone(),
        );
        registry.register(
            "call_round_trip_seconds",
            "Round trip of media by RTCP at a call's end",
            quality.round_trip.clone(),
        );
        quality
    }

    fn observe(&self, call: &CallQuality) {
        let streams = [("heard", &call.heard), ("spoken", &call.spoken)];
        for (direction, stream) in streams {
            let Some(stream) = stream else { continue };
            let label = Direction { direction };
            self.scores.get_or_create(&label).observe(stream.mos);
            let missing = (stream.lost + stream.late) as f64 / stream.packets.max(1) as f64;
            self.missing.get_or_create(&label).observe(missing);
            let jitter = stream.jitter_ms / 1_000.0;
            self.jitter.get_or_create(&label).observe(jitter);
        }
        if let Some(ms) = call.round_trip_ms {
            self.round_trip.observe(ms / 1_000.0);
        }
    }
}

/// Values that other parts count themselves, read at the moment of the scrape: name and value.
pub type Scrape = Vec<(&'static str, u64)>;

/// Everything that is counted. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    started: Counter,
    ended: Family<Reason, Counter>,
    active: Gauge,
    failures: Family<Failure, Counter>,
    fallbacks: Family<Failure, Counter>,
    webhooks: Family<Outcome, Counter>,
    turns: Family<Part, Histogram, fn() -> Histogram>,
    speculations: Family<Speculation, Counter>,
    wasted: Family<OfAssistant, Counter<f64, AtomicU64>>,
    assistants: Arc<Mutex<BTreeSet<String>>>,
    interruptions: Counter,
    scraped: Family<Name, Gauge>,
    trunks_registered: Family<OfTrunk, Gauge>,
    trunks_up: Family<OfTrunk, Gauge>,
    trunks_round_trip: Family<OfTrunk, Gauge>,
    quality: Quality,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("offhook");
        let started = Counter::default();
        registry.register("calls_started", "Calls answered", started.clone());
        let ended = Family::default();
        registry.register(
            "calls_ended",
            "Calls ended or refused, by reason",
            ended.clone(),
        );
        let active = Gauge::default();
        registry.register("calls_active", "Calls in progress", active.clone());
        let webhooks = Family::default();
        registry.register(
            "webhooks",
            "Messages to assistants' servers, by what became of each attempt",
            webhooks.clone(),
        );
        let fallbacks = Family::default();
        registry.register(
            "hosted_engine_fallbacks",
            "Requests that the local engine served because a hosted one failed",
            fallbacks.clone(),
        );
        let failures = Family::default();
        registry.register(
            "engine_failures",
            "Requests that an engine did not serve",
            failures.clone(),
        );
        let turns = Family::new_with_constructor(latency as fn() -> Histogram);
        registry.register(
            "turn_seconds",
            "From the end of the caller's speech to each part",
            turns.clone(),
        );
        let speculations = Family::default();
        registry.register(
            "speculations",
            "Replies begun before it was known that the caller had finished: kept or dropped",
            speculations.clone(),
        );
        let wasted = Family::default();
        registry.register(
            "speculation_wasted_seconds",
            "How long replies had been in the making that were begun for nothing",
            wasted.clone(),
        );
        let interruptions = Counter::default();
        registry.register(
            "interruptions",
            "Replies that the caller interrupted",
            interruptions.clone(),
        );
        let scraped = Family::default();
        registry.register(
            "internal",
            "Totals and levels kept by other parts",
            scraped.clone(),
        );
        let trunks_registered = Family::default();
        registry.register(
            "trunk_registered",
            "1 where we are registered, of trunks that register",
            trunks_registered.clone(),
        );
        let trunks_up = Family::default();
        registry.register(
            "trunk_up",
            "1 where the trunk answers OPTIONS, of trunks that are asked",
            trunks_up.clone(),
        );
        let trunks_round_trip = Family::default();
        registry.register(
            "trunk_round_trip_ms",
            "How long the last answer to OPTIONS took",
            trunks_round_trip.clone(),
        );
        let quality = Quality::register(&mut registry);
        Self {
            registry: Arc::new(registry),
            started,
            ended,
            active,
            failures,
            fallbacks,
            webhooks,
            turns,
            speculations,
            wasted,
            assistants: Arc::default(),
            interruptions,
            scraped,
            trunks_registered,
            trunks_up,
            trunks_round_trip,
            quality,
        }
    }
}

impl Metrics {
    /// A call was answered.
    pub fn call_started(&self) {
        self.started.inc();
        self.active.inc();
    }

    /// An answered call is over.
    pub fn call_ended(&self, reason: EndedReason) {
        self.active.dec();
        self.call_refused(reason);
    }

    /// How an answered call sounded.
    pub fn call_quality(&self, quality: &CallQuality) {
        self.quality.observe(quality);
    }

    /// A call ended before it was answered.
    pub fn call_refused(&self, reason: EndedReason) {
        let reason = reason.to_string();
        self.ended.get_or_create(&Reason { reason }).inc();
    }

    /// An engine did not serve a request.
    pub fn engine_failed(&self, engine: &'static str, error: &'static str) {
        self.failures
            .get_or_create(&Failure { engine, error })
            .inc();
    }

    /// The local engine served in a hosted one's place.
    pub fn fell_back(&self, engine: &'static str, error: &'static str) {
        self.fallbacks
            .get_or_create(&Failure { engine, error })
            .inc();
    }

    /// What became of an attempt to tell an assistant's server something.
    pub fn webhook(&self, outcome: &'static str) {
        self.webhooks(outcome, 1);
    }

    /// The same for several messages.
    pub fn webhooks(&self, outcome: &'static str, count: u64) {
        self.webhooks
            .get_or_create(&Outcome { outcome })
            .inc_by(count);
    }

    /// A turn of an assistant is over.
    pub fn turn(&self, assistant: &AssistantId, turn: &TurnLedger) {
        let assistant = self.told_apart(assistant);
        for part in TurnPart::ALL {
            if let Some(ms) = part.of(turn) {
                let label = Part {
                    assistant: assistant.clone(),
                    part: part.label(),
                };
                // Milliseconds of a call fit a float's 53 bits.
                let seconds = ms as f64 / 1000.0;
                self.turns.get_or_create(&label).observe(seconds);
            }
        }
        let speculations = [
            ("kept", turn.speculations_kept),
            ("dropped", turn.speculations_dropped),
        ];
        for (outcome, count) in speculations {
            if count > 0 {
                let assistant = assistant.clone();
                let label = Speculation { assistant, outcome };
                let counter = self.speculations.get_or_create(&label);
                counter.inc_by(u64::from(count));
            }
        }
        if turn.speculations_wasted_ms > 0 {
            let label = OfAssistant { assistant };
            let seconds = turn.speculations_wasted_ms as f64 / 1000.0;
            self.wasted.get_or_create(&label).inc_by(seconds);
        }
        if turn.interrupted_ms.is_some() {
            self.interruptions.inc();
        }
    }

    fn told_apart(&self, assistant: &AssistantId) -> String {
        // A set of names is whole after a panic elsewhere.
        let mut known = self
            .assistants
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if known.len() < MOST_ASSISTANTS || known.contains(assistant.as_str()) {
            known.insert(assistant.to_string());
            return assistant.to_string();
        }
        OTHERS.to_owned()
    }

    /// Where trunks stand.
    pub fn trunks(&self, trunks: &[TrunkStatus]) {
        for status in trunks {
            let label = OfTrunk {
                trunk: status.trunk.to_string(),
            };
            if status.state != TrunkState::NotRegistering {
                let registered = status.state == TrunkState::Registered;
                let gauge = self.trunks_registered.get_or_create(&label);
                gauge.set(i64::from(registered));
            }
            if let Some(reachability) = status.reachability {
                let gauge = self.trunks_up.get_or_create(&label);
                gauge.set(i64::from(reachability.up));
                let ms = reachability.round_trip_ms.unwrap_or_default();
                let gauge = self.trunks_round_trip.get_or_create(&label);
                gauge.set(i64::try_from(ms).unwrap_or(i64::MAX));
            }
        }
    }

    /// Everything as text (OpenMetrics 1.0), `scrape` included.
    pub fn text(&self, scrape: &Scrape) -> String {
        for (name, value) in scrape {
            let value = i64::try_from(*value).unwrap_or(i64::MAX);
            self.scraped.get_or_create(&Name { name }).set(value);
        }
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_shows_in_the_histogram_and_a_scraped_value_as_it_is_now() {
        let metrics = Metrics::default();
        metrics.call_started();
        let ledger = TurnLedger {
            speech_ended_ms: Some(1000),
            first_clause_ms: Some(1300),
            first_packet_ms: Some(1550),
            speculations_kept: 1,
            speculations_dropped: 2,
            speculations_wasted_ms: 500,
            ..TurnLedger::default()
        };
        metrics.turn(&AssistantId::new("demo"), &ledger);
        metrics.call_ended(EndedReason::CustomerEndedCall);
        metrics.call_quality(&CallQuality {
            heard: Some(crate::record::StreamQuality {
                packets: 1_000,
                lost: 8,
                late: 2,
                jitter_ms: 3.0,
                delay_ms: 60,
                concealed_ms: Some(200),
                mos: 4.1,
            }),
            spoken: None,
            round_trip_ms: Some(30.0),
        });
        metrics.text(&vec![("sip_legs", 3)]);
        let text = metrics.text(&vec![("sip_legs", 1)]);
        for line in [
            "offhook_calls_started_total 1",
            "offhook_calls_active 0",
            "offhook_calls_ended_total{reason=\"customer-ended-call\"} 1",
            "offhook_turn_seconds_sum{assistant=\"demo\",part=\"voice_to_voice\"} 0.55",
            "offhook_turn_seconds_sum{assistant=\"demo\",part=\"first_clause\"} 0.3",
            "offhook_turn_seconds_bucket{le=\"0.5\",assistant=\"demo\",part=\"voice_to_voice\"} 0",
            "offhook_turn_seconds_bucket{le=\"0.6\",assistant=\"demo\",part=\"voice_to_voice\"} 1",
            "offhook_speculations_total{assistant=\"demo\",outcome=\"kept\"} 1",
            "offhook_speculations_total{assistant=\"demo\",outcome=\"dropped\"} 2",
            "offhook_speculation_wasted_seconds_total{assistant=\"demo\"} 0.5",
            "offhook_call_mos_bucket{le=\"4.2\",direction=\"heard\"} 1",
            "offhook_call_missing_ratio_sum{direction=\"heard\"} 0.01",
            "offhook_call_jitter_seconds_count{direction=\"heard\"} 1",
            "offhook_call_round_trip_seconds_sum 0.03",
            "offhook_internal{name=\"sip_legs\"} 1",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }

    #[test]
    fn assistants_without_end_count_together_from_some_number_on() {
        let metrics = Metrics::default();
        let ledger = TurnLedger {
            speech_ended_ms: Some(0),
            endpoint_ms: Some(500),
            ..TurnLedger::default()
        };
        for number in 0..MOST_ASSISTANTS + 5 {
            metrics.turn(&AssistantId::new(number.to_string()), &ledger);
        }
        metrics.turn(&AssistantId::new("7"), &ledger);
        let text = metrics.text(&Vec::new());
        for line in [
            "offhook_turn_seconds_count{assistant=\"all others\",part=\"endpoint\"} 5",
            "offhook_turn_seconds_count{assistant=\"7\",part=\"endpoint\"} 2",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }
}
