//! What others ask of a live call, and what they see of it.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::sync::oneshot;

use super::taking_over::TakeOver;
use crate::conversation::ChatRole;
use crate::ids::{AssistantId, CallId};
use crate::record::{CallRecord, CallStatus, CallType, EndedBy, EndedReason};

/// Where a call says whether it did what was asked.
pub type Reply = oneshot::Sender<Result<(), CommandRefusal>>;

/// What others ask of a live call.
#[derive(Debug)]
pub enum CallCommand {
    /// End it.
    End {
        /// The reason that is recorded.
        reason: EndedReason,
        /// By whom.
        by: EndedBy,
    },
    /// Put the caller on hold.
    Hold(Reply),
    /// Take the caller back.
    Resume(Reply),
    /// Leave out of the recording what is said from now on, or go on with it.
    PauseRecording {
        /// Whether to stop or to go on.
        pause: bool,
        /// Whether it does.
        reply: Reply,
    },
    /// Say this after what is being said.
    Say {
        /// The words.
        text: String,
        /// Then the call ends.
        then_end: bool,
        /// Whether it will be said.
        reply: Reply,
    },
    /// Tell the model something. Nobody hears it.
    AddMessage {
        /// Who is taken to have said it.
        role: ChatRole,
        /// The words.
        content: String,
        /// Whether the assistant answers it.
        respond: bool,
        /// Whether it is known now.
        reply: Reply,
    },
    /// Have the assistant keep still, or let it speak again. It is neither heard nor does it
    /// listen meanwhile; caller and sound stay as they are.
    Mute {
        /// Which.
        mute: bool,
        /// Whether it does.
        reply: Reply,
    },
    /// Have the caller leave a message.
    LeaveMessage {
        /// The mailbox; the assistant's where it is not named.
        mailbox: Option<String>,
        /// Whether it is begun.
        reply: Reply,
    },
    /// Let another leg take the place of one of the call's.
    TakeOver {
        /// Which, by which.
        take_over: Box<TakeOver>,
        /// Whether it has. Where not, whoever asked ends the new leg.
        reply: Reply,
    },
    /// Pass the caller on.
    Transfer {
        /// A number or a SIP address.
        target: String,
        /// The trunk to call through; not needed where there is only one.
        trunk: Option<String>,
        /// How.
        manner: Manner,
        /// Said to the person called.
        briefing: Option<String>,
        /// Whether it is begun.
        reply: Reply,
    },
}

/// How the operator has a caller passed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Manner {
    /// By REFER; as a bridge where the caller's side cannot.
    #[default]
    Blind,
    /// The person called is spoken to first; then REFER with Replaces, or a bridge.
    Attended,
    /// Offhook calls there and stays between the two.
    Bridge,
}

impl CallCommand {
    /// Says no.
    pub(super) fn refuse(self, why: &'static str) {
        match self {
            Self::End { .. } => {}
            Self::Hold(reply)
            | Self::Resume(reply)
            | Self::PauseRecording { reply, .. }
            | Self::Say { reply, .. }
            | Self::AddMessage { reply, .. }
            | Self::Mute { reply, .. }
            | Self::LeaveMessage { reply, .. }
            | Self::TakeOver { reply, .. }
            | Self::Transfer { reply, .. } => {
                // Whoever asked may have gone.
                let _ = reply.send(Err(CommandRefusal::NotNow(why)));
            }
        }
    }
}

/// Why a call does not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandRefusal {
    /// It is over, or was over before it could answer.
    #[error("the call is over")]
    Gone,
    /// Its state does not allow it; the text says why.
    #[error("{0}")]
    NotNow(&'static str),
    /// What is asked for is wrong or not allowed.
    #[error("{0}")]
    Wrong(String),
}

/// A live call as others see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallSnapshot {
    /// The call.
    pub id: CallId,
    /// Inbound or outbound.
    #[serde(rename = "type")]
    pub call_type: CallType,
    /// Who answers.
    pub assistant: AssistantId,
    /// Where it stands.
    pub status: CallStatus,
    /// Either side holds the other.
    pub on_hold: bool,
    /// Nothing of it is recorded for the time being.
    pub recording_paused: bool,
    /// The calling URI or number.
    pub from: String,
    /// The called URI or number.
    pub to: String,
    /// INVITE seen or sent.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// Why it ended: the last thing that is seen of it.
    pub ended_reason: Option<EndedReason>,
}

impl CallSnapshot {
    /// What others see of a call that has just begun.
    pub(super) fn of(record: &CallRecord) -> Self {
        Self {
            id: record.id,
            call_type: record.call_type,
            assistant: record.assistant.clone(),
            status: record.status,
            on_hold: false,
            recording_paused: false,
            from: record.from.clone(),
            to: record.to.clone(),
            created_at: record.created_at,
            ended_reason: record.ended_reason,
        }
    }
}
