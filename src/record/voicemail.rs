//! What remains of a message that a caller left in a mailbox.

use std::fmt;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{Customer, write_name};
use crate::ids::{CallId, MailboxName, VoicemailId};

/// Why a call went to a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VoicemailReason {
    /// Its number was called.
    Called,
    /// Somebody's telephone diverted the call to us, and the mailbox is theirs.
    Diverted,
    /// The person whom the caller was to be passed on to did not answer.
    NoAnswer,
    /// That person, or every line of the assistant or the server, was busy.
    Busy,
    /// Outside the hours of the mailbox.
    OutOfHours,
    /// The assistant could not be had: an engine was down.
    Unavailable,
    /// The caller asked the assistant for it, in words or by a key.
    Asked,
    /// The operator sent the caller there.
    Operator,
}

/// Where a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VoicemailState {
    /// Being left now, or cut off by the server's end and not yet recovered.
    Recording,
    /// Nobody has heard it.
    New,
    /// Heard, and kept.
    Saved,
}

/// What ended the recording of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordingEnd {
    /// The caller hung up.
    HungUp,
    /// The caller pressed the key.
    Key,
    /// The caller said no more.
    Silence,
    /// It was as long as it may be.
    TooLong,
    /// The operator ended the call, or the server stopped.
    Stopped,
    /// It could not be written any further: the disk.
    Failed,
    /// The server died in the middle of it; recovered at the next start.
    Crashed,
}

/// Where the transcript of a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transcription {
    /// The mailbox wants none.
    Off,
    /// To be made.
    Pending,
    /// There.
    Done,
    /// The recogniser failed on it.
    Failed,
}

macro_rules! display_name {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_name(self, f)
            }
        }
    )*};
}

display_name!(VoicemailReason, VoicemailState, RecordingEnd, Transcription);

/// A message that a caller left.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Voicemail {
    /// The message.
    pub id: VoicemailId,
    /// Whose it is.
    pub mailbox: MailboxName,
    /// The call in which it was left.
    pub call_id: CallId,
    /// Who left it; `None` where the number was withheld.
    pub customer: Option<Customer>,
    /// What was dialled.
    pub called: String,
    /// Why the call went to the mailbox.
    pub reason: VoicemailReason,
    /// Where it stands.
    pub state: VoicemailState,
    /// When the beep was over.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// Its length in ms; 0 while it is being left.
    pub duration_ms: u64,
    /// The WAV file (8 kHz, mono, 16 bit), relative to the data folder.
    pub file: String,
    /// What ended it; `None` while it is being left.
    pub ended: Option<RecordingEnd>,
    /// Where its transcript stands.
    pub transcription: Transcription,
    /// What was said, as the recogniser heard it.
    pub transcript: Option<String>,
}

/// How many messages a mailbox has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxCounts {
    /// Not heard.
    pub new: u32,
    /// Heard and kept.
    pub saved: u32,
}
