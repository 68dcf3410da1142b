//! What a call begins with where a number's server, or a failure to ask it, decided on it.
//!
//! ```text
//!  answered ──▶ conversation                             (an assistant answers)
//!          ├──▶ words ──▶ hung up                         (an error, an apology)
//!          └──▶ announcement ──▶ passed on ──┬──▶ joined   (a destination)
//!                                            └──▶ not through: explained, hung up
//! ```

use tokio::sync::oneshot;

use super::command::{CallCommand, Manner};
use super::driver::Driver;
use crate::conversation::settings::{AssistantSettings, FirstMessageMode, TransferDestination};
use crate::record::{EndedBy, EndedReason};

/// What callers hear whom nobody can be found for.
const APOLOGY: &str =
    "I'm sorry, I can't take your call at the moment. Please try again later. Goodbye.";

/// After it was explained why the caller could not be passed on.
const FAREWELL: &str = "Please try again later. Goodbye.";

/// What a call begins with.
#[derive(Debug, Default)]
pub(super) enum Opening {
    /// The assistant's greeting.
    #[default]
    Conversation,
    /// Words after which the call ends, for this reason.
    Words(String, EndedReason),
    /// The caller is passed on, which is why the call ends.
    PassOn {
        to: Box<TransferDestination>,
        reason: EndedReason,
    },
}

impl Opening {
    /// An apology, for the reason that the call is written down with.
    pub(super) fn apology(reason: EndedReason) -> Self {
        Self::Words(APOLOGY.to_owned(), reason)
    }

    /// What the call does first, once media flows.
    pub(super) fn command(&self) -> Option<CallCommand> {
        // Whoever watches the call sees whether it is done.
        let (reply, _) = oneshot::channel();
        match self {
            Self::Conversation => None,
            Self::Words(words, _) => Some(CallCommand::Say {
                text: words.clone(),
                then_end: true,
                reply,
            }),
            Self::PassOn { to, .. } => Some(CallCommand::Transfer {
                target: to.target().to_owned(),
                trunk: to.trunk().map(str::to_owned),
                manner: Manner::Blind,
                briefing: None,
                reply,
            }),
        }
    }

    /// What the caller hears last where nobody was reached, in calls that have no assistant.
    pub(super) fn farewell(&self) -> Option<CallCommand> {
        let Self::PassOn { .. } = self else {
            return None;
        };
        let (reply, _) = oneshot::channel();
        Some(CallCommand::Say {
            text: FAREWELL.to_owned(),
            then_end: true,
            reply,
        })
    }

    /// The reason that the call is written down with, and by whom it ended, in place of its own
    /// where it went the way that was decided. What is said here is said as if an operator had
    /// asked for it.
    pub(super) fn reason(&self, own: EndedReason, by: EndedBy) -> (EndedReason, EndedBy) {
        match (self, own) {
            (
                Self::Words(_, reason) | Self::PassOn { reason, .. },
                EndedReason::ManuallyCanceled,
            ) => (*reason, EndedBy::Assistant),
            (Self::PassOn { reason, .. }, EndedReason::AssistantForwardedCall) => (*reason, by),
            _ => (own, by),
        }
    }

    /// Settings of a call that no assistant answers: nobody greets.
    pub(super) fn settings() -> AssistantSettings {
        AssistantSettings {
            first_message_mode: FirstMessageMode::AssistantWaitsForUser,
            ..AssistantSettings::default()
        }
    }
}

impl Driver {
    /// Begins with what was decided before the answer.
    pub(super) fn open(&mut self) {
        if let Some(command) = self.call.opening.command() {
            self.command(command);
        }
    }

    /// Nobody was reached: calls without an assistant end with that.
    pub(super) fn take_leave(&mut self) {
        if let Some(command) = self.call.opening.farewell() {
            self.command(command);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_ends_for_the_servers_reason_only_where_it_went_the_servers_way() {
        let error = EndedReason::AssistantRequestReturnedError;
        let opening = Opening::Words("Closed.".to_owned(), error);
        let said = opening.reason(EndedReason::ManuallyCanceled, EndedBy::Operator);
        assert_eq!(said, (error, EndedBy::Assistant));
        let hung_up = (EndedReason::CustomerEndedCall, EndedBy::Customer);
        assert_eq!(opening.reason(hung_up.0, hung_up.1), hung_up);
        let own = (EndedReason::ManuallyCanceled, EndedBy::Operator);
        assert_eq!(Opening::Conversation.reason(own.0, own.1), own);
    }

    #[test]
    fn only_who_was_to_be_passed_on_hears_a_farewell() {
        let to = TransferDestination::Sip {
            sip_uri: "sip:ann@192.0.2.1".to_owned(),
            message: None,
            transfer_plan: Default::default(),
            description: None,
        };
        let opening = Opening::PassOn {
            to: Box::new(to),
            reason: EndedReason::AssistantRequestReturnedForwardingPhoneNumber,
        };
        assert!(matches!(
            opening.command(),
            Some(CallCommand::Transfer { target, .. }) if target == "sip:ann@192.0.2.1"
        ));
        assert!(matches!(
            opening.farewell(),
            Some(CallCommand::Say { then_end: true, .. })
        ));
        let apology = Opening::apology(EndedReason::AssistantRequestFailed);
        assert!(apology.farewell().is_none());
    }
}
