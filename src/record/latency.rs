//! Latencies of turns put together: percentiles of each part, by assistant.

use std::collections::BTreeMap;

use serde::Serialize;

use super::TurnLedger;
use crate::ids::AssistantId;

/// A stretch of a turn's latency, from the end of the caller's speech on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum TurnPart {
    /// To the decision that the turn is over.
    Endpoint,
    /// To the final transcript.
    Transcript,
    /// To the reply's first token.
    FirstToken,
    /// To the first clause of it.
    FirstClause,
    /// To that clause's audio.
    FirstAudio,
    /// To the first audible packet of the reply.
    VoiceToVoice,
}

impl TurnPart {
    /// In the order in which they end.
    pub const ALL: [Self; 6] = [
        Self::Endpoint,
        Self::Transcript,
        Self::FirstToken,
        Self::FirstClause,
        Self::FirstAudio,
        Self::VoiceToVoice,
    ];

    /// The label in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Endpoint => "endpoint",
            Self::Transcript => "transcript",
            Self::FirstToken => "first_token",
            Self::FirstClause => "first_clause",
            Self::FirstAudio => "first_audio",
            Self::VoiceToVoice => "voice_to_voice",
        }
    }

    /// Its length in ms; `None` where the turn did not come so far. 0 for what was there before
    /// the caller had finished.
    pub fn of(self, turn: &TurnLedger) -> Option<u64> {
        let end = match self {
            Self::Endpoint => turn.endpoint_ms,
            Self::Transcript => turn.transcript_ms,
            Self::FirstToken => turn.first_token_ms,
            Self::FirstClause => turn.first_clause_ms,
            Self::FirstAudio => turn.first_audio_ms,
            Self::VoiceToVoice => turn.first_packet_ms,
        };
        Some(end?.saturating_sub(turn.speech_ended_ms?))
    }
}

/// How one part was distributed, in ms: values that occurred, by nearest rank.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PartLatency {
    /// Which.
    pub part: TurnPart,
    /// Turns that came so far.
    pub turns: usize,
    /// Half of them took no longer.
    pub p50_ms: u64,
    /// 95 % of them took no longer.
    pub p95_ms: u64,
    /// The longest.
    pub max_ms: u64,
}

/// The latencies of an assistant's turns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AssistantLatency {
    /// Who.
    pub assistant: AssistantId,
    /// Turns, greetings included.
    pub turns: usize,
    /// Turns whose reply was ready before it was known that the caller had finished, and was used.
    pub speculations_kept: u64,
    /// Replies that were begun for nothing because the caller went on.
    pub speculations_dropped: u64,
    /// How long those had been in the making, in ms.
    pub speculations_wasted_ms: u64,
    /// Parts that any turn came to.
    pub parts: Vec<PartLatency>,
}

/// Turns by assistant, in the order of their names.
pub fn latencies(
    turns: impl IntoIterator<Item = (AssistantId, TurnLedger)>,
) -> Vec<AssistantLatency> {
    let mut by_assistant: BTreeMap<AssistantId, Vec<TurnLedger>> = BTreeMap::new();
    for (assistant, turn) in turns {
        by_assistant.entry(assistant).or_default().push(turn);
    }
    by_assistant
        .into_iter()
        .map(|(assistant, turns)| AssistantLatency {
            assistant,
            turns: turns.len(),
            speculations_kept: turns
                .iter()
                .map(|turn| u64::from(turn.speculations_kept))
                .sum(),
            speculations_dropped: turns
                .iter()
                .map(|turn| u64::from(turn.speculations_dropped))
                .sum(),
            speculations_wasted_ms: turns.iter().map(|turn| turn.speculations_wasted_ms).sum(),
            parts: TurnPart::ALL
                .into_iter()
                .filter_map(|part| distribution(part, &turns))
                .collect(),
        })
        .collect()
}

fn distribution(part: TurnPart, turns: &[TurnLedger]) -> Option<PartLatency> {
    let mut all: Vec<u64> = turns.iter().filter_map(|turn| part.of(turn)).collect();
    all.sort_unstable();
    Some(PartLatency {
        part,
        turns: all.len(),
        p50_ms: percentile(&all, 50)?,
        p95_ms: percentile(&all, 95)?,
        max_ms: *all.last()?,
    })
}

/// Of sorted values, by the nearest rank; `None` of nothing.
pub fn percentile(sorted: &[u64], percent: usize) -> Option<u64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(endpoint_ms: u64, first_packet_ms: Option<u64>) -> TurnLedger {
        TurnLedger {
            speech_ended_ms: Some(1000),
            endpoint_ms: Some(endpoint_ms),
            first_packet_ms,
            speculations_kept: 1,
            speculations_dropped: 2,
            speculations_wasted_ms: 300,
            ..TurnLedger::default()
        }
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values: Vec<u64> = (1..=20).collect();
        assert_eq!(percentile(&values, 50), Some(10));
        assert_eq!(percentile(&values, 95), Some(19));
        assert_eq!(percentile(&[7], 95), Some(7));
        assert_eq!(percentile(&[], 50), None);
    }

    #[test]
    fn every_assistant_has_its_own_and_only_parts_that_turns_came_to() {
        let (a, b) = (AssistantId::new("a"), AssistantId::new("b"));
        let found = latencies([
            (b.clone(), turn(1400, None)),
            (a.clone(), turn(1500, Some(2000))),
            (a.clone(), turn(900, Some(1600))),
            (a.clone(), TurnLedger::default()),
        ]);
        assert_eq!(found.len(), 2);
        assert_eq!((&found[0].assistant, found[0].turns), (&a, 3));
        assert_eq!(found[0].speculations_kept, 2);
        assert_eq!(found[0].speculations_dropped, 4);
        assert_eq!(found[0].speculations_wasted_ms, 600);
        let part = |part, p50_ms, max_ms, turns| PartLatency {
            part,
            turns,
            p50_ms,
            p95_ms: max_ms,
            max_ms,
        };
        assert_eq!(
            found[0].parts,
            [
                part(TurnPart::Endpoint, 0, 500, 2),
                part(TurnPart::VoiceToVoice, 600, 1000, 2)
            ]
        );
        assert_eq!((&found[1].assistant, found[1].parts.len()), (&b, 1));
    }
}
