//! What the assistant's server is told of a call while it lasts.

use super::driver::Driver;
use crate::conversation::Progress;
use crate::record::{Role, TurnLedger};
use crate::webhooks::Event;

impl Driver {
    pub(super) fn notify(&self, event: Event<'_>) {
        let call = &self.call;
        call.services
            .webhooks
            .tell(&call.settings, &call.record, event);
    }

    pub(super) fn notify_progress(&self, progress: &Progress) {
        match progress {
            Progress::Speech { role, speaking } => self.notify(Event::Speech {
                role: *role,
                speaking: *speaking,
            }),
            Progress::UserInterrupted { turn } => self.notify(Event::UserInterrupted(*turn)),
            Progress::PartialTranscript(words) => self.notify(Event::PartialTranscript {
                role: Role::User,
                words,
            }),
            Progress::Resumed { .. }
            | Progress::TranscriptRefused
            | Progress::SpeculationDropped { .. }
            | Progress::SpeculationKept => {}
        }
    }

    pub(super) fn notify_turn(&self, turn: &TurnLedger) {
        if turn.holding_packet_ms.is_some() {
            self.notify(Event::Hang);
        }
    }
}
