//! What a call tells those who watch it, and what it writes down of itself.

use super::driver::Driver;
use super::live::{LiveEvent, SpeechStatus, TranscriptType};
use super::work::Speculations;
use crate::conversation::{ClipId, Progress};
use crate::record::{Message, Role, TurnLedger};
use crate::store::Entry;
use crate::webhooks::Event as Told;

/// Longest text that is shown of what is being said, in bytes; more of it comes when it is final.
const LONGEST_PARTIAL: usize = 4096;

impl Driver {
    /// A message is final.
    pub(super) fn message(&mut self, message: Message) {
        if message.role == Role::Bot {
            self.saying.clear();
        }
        self.notify(Told::Transcript(&message));
        self.call.line.tell(LiveEvent::Message {
            transcript_type: TranscriptType::Final,
            message: message.clone(),
        });
        let entry = Entry::Message(self.call.record.id, self.messages, message);
        self.messages += 1;
        self.call.services.journal.write(entry);
    }

    /// A turn is final.
    pub(super) fn turn(&mut self, mut ledger: TurnLedger) {
        ledger.fallbacks = std::mem::take(&mut self.fallbacks);
        let Speculations {
            kept,
            dropped,
            wasted,
        } = std::mem::take(&mut self.work.speculations);
        (ledger.speculations_kept, ledger.speculations_dropped) = (kept, dropped);
        ledger.speculations_wasted_ms = u64::try_from(wasted.as_millis()).unwrap_or(u64::MAX);
        let assistant = &self.call.record.assistant;
        self.call.services.metrics.turn(assistant, &ledger);
        self.notify_turn(&ledger);
        if ledger.turn.0 == 0 {
            self.call.record.greeting_ms = ledger.first_packet_ms;
        }
        let told = LiveEvent::Turn {
            ledger: ledger.clone(),
        };
        self.call.line.tell(told);
        let entry = Entry::Turn(self.call.record.id, ledger);
        self.call.services.journal.write(entry);
    }

    /// The assistant begins to say what this clip holds.
    pub(super) fn begins_to_say(&mut self, clip: ClipId) {
        let text = match clip {
            ClipId::Clause { .. } => self.work.text(clip),
            ClipId::Phrase(kind) => {
                let phrases = self.call.settings.phrases();
                phrases
                    .into_iter()
                    .find(|(of, _)| *of == kind)
                    .map(|(_, text)| text)
            }
        };
        let Some(text) = text else { return };
        if self.saying.len() + text.len() > LONGEST_PARTIAL {
            return;
        }
        if !self.saying.is_empty() {
            self.saying.push(' ');
        }
        self.saying.push_str(&text);
        self.notify(Told::PartialTranscript {
            role: Role::Bot,
            words: &self.saying,
        });
        self.call.line.tell(LiveEvent::Transcript {
            role: Role::Bot,
            transcript: self.saying.clone(),
            transcript_type: TranscriptType::Partial,
        });
    }

    /// For those who watch.
    pub(super) fn progress(&mut self, progress: Progress) {
        self.notify_progress(&progress);
        match progress {
            Progress::SpeculationKept => self.work.speculations.kept += 1,
            Progress::SpeculationDropped { wasted } => {
                self.work.speculations.dropped += 1;
                self.work.speculations.wasted += wasted;
            }
            _ => {}
        }
        tracing::debug!(call = %self.call.record.id, ?progress, "progress");
        let event = match progress {
            Progress::Speech { role, speaking } => LiveEvent::SpeechUpdate {
                role,
                status: match speaking {
                    true => SpeechStatus::Started,
                    false => SpeechStatus::Stopped,
                },
            },
            Progress::PartialTranscript(transcript) => LiveEvent::Transcript {
                role: Role::User,
                transcript,
                transcript_type: TranscriptType::Partial,
            },
            Progress::UserInterrupted { turn } => LiveEvent::UserInterrupted { turn },
            Progress::Resumed { .. }
            | Progress::TranscriptRefused
            | Progress::SpeculationDropped { .. }
            | Progress::SpeculationKept => return,
        };
        self.call.line.tell(event);
    }
}
