//! A call to a number whose server is asked who answers it, while it rings.
//!
//! ```text
//!  180 ─▶ assistant-request ──┬─ an assistant ─────▶ as with any number's
//!              │              ├─ error, destination ▶ said or passed on, see [`Opening`]
//!   CANCEL ◀───┤              └─ failed ─▶ the number's fallback, or else the configured
//!              ▼                          assistant, or else an apology
//!            over
//! ```

use tokio::sync::mpsc;

use super::ending::ended;
use super::inbound::{Unanswered, Who};
use super::opening::Opening;
use super::{AssistantRequest, Requested, ServedNumber, Services};
use crate::conversation::settings::AssistantSettings;
use crate::ids::AssistantId;
use crate::net::sip::LegCommand;
use crate::record::{CallRecord, EndedBy, EndedReason};
use crate::sip::endpoint::{Event, LegId};

/// Who answers, by the number's server or in its place.
pub(super) async fn who_answers(
    services: &Services,
    record: &CallRecord,
    leg: LegId,
    events: &mut mpsc::Receiver<Event>,
    number: ServedNumber,
) -> Result<Who, Unanswered> {
    services.sip.leg(leg, LegCommand::Ring);
    let request = AssistantRequest {
        server: number.server.clone(),
        call: record.clone(),
    };
    let requested = tokio::select! {
        requested = (services.requests)(request) => requested,
        (reason, by) = over(events) => return Err(Unanswered::Left(reason, by)),
    };
    Ok(match requested {
        Requested::Assistant {
            id,
            settings,
            document,
        } => Who {
            document,
            ..number.answered_by(id, *settings, Opening::Conversation)
        },
        Requested::Destination(to) => {
            let reason = EndedReason::AssistantRequestReturnedForwardingPhoneNumber;
            number.nobody(Opening::PassOn { to, reason })
        }
        Requested::Error(words) => number.nobody(Opening::Words(
            words,
            EndedReason::AssistantRequestReturnedError,
        )),
        Requested::Failed(reason) => number.fall_back(reason),
    })
}

/// Waits until the caller gives up.
async fn over(events: &mut mpsc::Receiver<Event>) -> (EndedReason, EndedBy) {
    loop {
        match events.recv().await {
            Some(Event::Ended { cause, .. }) => return ended(&cause),
            Some(_) => {}
            None => return (EndedReason::SignallingTimedOut, EndedBy::System),
        }
    }
}

impl ServedNumber {
    fn answered_by(self, id: AssistantId, settings: AssistantSettings, opening: Opening) -> Who {
        Who {
            id,
            settings: Box::new(settings),
            mailbox: self.mailbox,
            phone_number: self.phone_number,
            opening,
            document: None,
        }
    }

    /// No assistant, but the call is answered.
    fn nobody(self, opening: Opening) -> Who {
        let number = Self {
            mailbox: None,
            ..self
        };
        number.answered_by(AssistantId::new(""), Opening::settings(), opening)
    }

    fn fall_back(mut self, reason: EndedReason) -> Who {
        if let Some(to) = self.fallback.take() {
            return self.nobody(Opening::PassOn { to, reason });
        }
        if let Some((id, settings)) = self.fallback_assistant.take() {
            return self.answered_by(id, *settings, Opening::Conversation);
        }
        self.nobody(Opening::apology(reason))
    }
}
