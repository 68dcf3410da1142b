//! How many conversations this machine carries at once, measured before the first call.
//!
//! ```text
//!  engines ready ──► speak ──► hear what was spoken ──► answer ──► room: as many calls as leave
//!       ▲              three times, the best of each                the processors some rest
//!       └── a call came in between: measured again once there is none
//! ```

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::audio::{SampleRate, Sound};
use crate::call::Registry;
use crate::engines::llm::{ChatMessage, ChatRole, GenerateRequest, GenerateSettings, Llm};
use crate::engines::stt::{Effort, Stt, TranscribeRequest};
use crate::engines::tts::Tts;
use crate::engines::{EngineError, EngineEvent, Priority};
use crate::ids::{CallId, Generation};

/// A caller's line as callers say them, some 3.5 s.
const LINE: &str = "Hello, I would like to know when you are open on Saturday, please.";
/// Of a turn of this length, questions and pauses included, the engines work for a part.
const TURN: Duration = Duration::from_secs(9);
/// A line is transcribed this often: at its pauses, while it is spoken, and at its end.
const TRANSCRIPTS: u32 = 2;
/// A reply has as many tokens as this.
const REPLY_TOKENS: u32 = 24;
/// The share of the time that the engines may work, for 95 of 100 replies not to be late.
const LOAD: f64 = 0.7;
/// A busy machine delays some attempts, never hastens one.
const ATTEMPTS: usize = 3;
const AGAIN: Duration = Duration::from_secs(5);

/// What the engines take for one turn, one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TurnCost {
    hearing: Duration,
    thinking: Duration,
    speaking: Duration,
}

impl TurnCost {
    fn room(self) -> usize {
        let work = self.hearing * TRANSCRIPTS + self.thinking + self.speaking;
        let room = TURN.as_secs_f64() * LOAD / work.as_secs_f64().max(0.001);
        // A float of at least 0 that fits; at least one call is always worth a try.
        (room as usize).max(1)
    }

    fn best(self, other: Self) -> Self {
        Self {
            hearing: self.hearing.min(other.hearing),
            thinking: self.thinking.min(other.thinking),
            speaking: self.speaking.min(other.speaking),
        }
    }
}

/// Measures once all engines are ready, and has the registry admit no more calls than that.
pub(super) async fn calibrate(stt: Stt, llm: Llm, tts: Tts, registry: Registry) {
    let ready = async { tokio::try_join!(stt.ready(), llm.ready(), tts.ready()) };
    if let Err(error) = ready.await {
        tracing::warn!(%error, "the room for calls is not measured");
        return;
    }
    loop {
        registry.empty().await;
        match measure(&stt, &llm, &tts).await {
            Ok(_) if !registry.is_empty() => {}
            Ok(cost) => {
                let room = registry.make_room_for(cost.room());
                tracing::info!(
                    room,
                    hearing_ms = cost.hearing.as_millis(),
                    thinking_ms = cost.thinking.as_millis(),
                    speaking_ms = cost.speaking.as_millis(),
                    "measured how many conversations this machine carries"
                );
                return;
            }
            Err(error) => tracing::warn!(%error, "the room for calls is not measured yet"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn measure(stt: &Stt, llm: &Llm, tts: &Tts) -> Result<TurnCost, EngineError> {
    let mut best: Option<TurnCost> = None;
    for _ in 0..ATTEMPTS {
        let begun = Instant::now();
        let spoken = tts.synthesise_at(LINE, SampleRate::TELEPHONE).await?;
        let speaking = begun.elapsed();
        let begun = Instant::now();
        hear(stt, spoken).await?;
        let hearing = begun.elapsed();
        let begun = Instant::now();
        answer(llm).await?;
        let cost = TurnCost {
            hearing,
            thinking: begun.elapsed(),
            speaking,
        };
        best = Some(best.map_or(cost, |best| best.best(cost)));
    }
    // There is at least one attempt.
    best.ok_or(EngineError::Cancelled)
}

async fn hear(stt: &Stt, audio: Sound) -> Result<(), EngineError> {
    let (events, mut answers) = mpsc::channel(4);
    let request = TranscribeRequest {
        call: CallId::from_random([0; 16]),
        generation: Generation::default(),
        priority: Priority::Speculative,
        audio,
        hint: None,
        effort: Effort::Full,
        language: None,
    };
    let _handle = stt.transcribe(request, events)?;
    while let Some(event) = answers.recv().await {
        if let EngineEvent::Transcript { result, .. } = event {
            return result.map(|_| ());
        }
    }
    Err(EngineError::Cancelled)
}

async fn answer(llm: &Llm) -> Result<(), EngineError> {
    let call = CallId::from_random([0; 16]);
    let (events, mut answers) = mpsc::channel(64);
    let request = GenerateRequest {
        call,
        generation: Generation::default(),
        priority: Priority::Speculative,
        messages: vec![
            ChatMessage::new(ChatRole::System, "You answer the telephone of a shop."),
            ChatMessage::new(ChatRole::User, LINE),
        ],
        settings: GenerateSettings {
            max_tokens: REPLY_TOKENS,
            ..GenerateSettings::default()
        },
        seed: 0,
    };
    let _handle = llm.generate(request, events)?;
    let mut outcome = Err(EngineError::Cancelled);
    while let Some(event) = answers.recv().await {
        match event {
            EngineEvent::ReplyDone { .. } => outcome = Ok(()),
            EngineEvent::ReplyFailed { error, .. } => outcome = Err(error),
            _ => continue,
        }
        break;
    }
    llm.release(call);
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(hearing: u64, thinking: u64, speaking: u64) -> TurnCost {
        TurnCost {
            hearing: Duration::from_millis(hearing),
            thinking: Duration::from_millis(thinking),
            speaking: Duration::from_millis(speaking),
        }
    }

    #[test]
    fn a_faster_machine_has_more_room_and_the_slowest_has_some() {
        assert_eq!(cost(260, 500, 250).room(), 4);
        assert_eq!(cost(26, 50, 25).room(), 49);
        assert_eq!(cost(20_000, 30_000, 9_000).room(), 1);
    }

    #[test]
    fn of_several_attempts_the_best_of_each_counts() {
        assert_eq!(
            cost(260, 900, 250).best(cost(400, 500, 300)),
            cost(260, 500, 250)
        );
    }
}
