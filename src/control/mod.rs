//! The control socket: what an operator on this machine asks of the running server.
//!
//! ```text
//!  offhook calls hold ID ──one JSON line──▶ DATA/control.sock (0600) ──▶ desk ──▶ the call's task
//!                        ◀──one JSON line──
//! ```
//!
//! Whoever may open the socket may do everything: the file belongs to the server's user, and the
//! other end is asked for its user id besides. Lines are bounded, connections are few, and a
//! client that says nothing is dropped.

mod client;
mod server;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use client::{AskError, ask};
pub use server::{ControlError, Desk, Socket};

pub use crate::call::{CallSnapshot, Manner};
use crate::ids::CallId;
pub use crate::observe::{TrunkState, TrunkStatus};
use crate::record::EndedReason;

/// The version of the lines below. Another one is refused.
pub const VERSION: u32 = 1;

/// The longest line, either way, in bytes.
pub const LONGEST_LINE: u64 = 256 * 1024;

/// The longest text that can be said at once, in characters.
pub const LONGEST_TEXT: usize = 2000;

/// Where the socket of a data folder is.
pub fn socket_path(data: &Path) -> PathBuf {
    data.join("control.sock")
}

/// A line to the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// [`VERSION`].
    pub version: u32,
    /// What is wanted.
    pub ask: Ask,
}

/// What can be asked. Calls are named by their id or an unambiguous beginning of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ask {
    /// Every live call.
    Calls,
    /// Every trunk and where it stands with its registrar.
    Trunks,
    /// Put a caller on hold.
    Hold {
        /// The call.
        id: String,
    },
    /// Take a caller back.
    Resume {
        /// The call.
        id: String,
    },
    /// Leave out of a call's recording what is said from now on.
    PauseRecording {
        /// The call.
        id: String,
    },
    /// Record a call again.
    ResumeRecording {
        /// The call.
        id: String,
    },
    /// End a call.
    Hangup {
        /// The call.
        id: String,
    },
    /// Have the assistant say something.
    Say {
        /// The call.
        id: String,
        /// The words.
        text: String,
    },
    /// Pass a caller on.
    Transfer {
        /// The call.
        id: String,
        /// A number or a SIP address.
        target: String,
        /// The trunk to call through; not needed where there is only one.
        trunk: Option<String>,
        /// How.
        manner: Manner,
        /// Said to the person called before the calls are joined.
        briefing: Option<String>,
    },
    /// Have a caller leave a message.
    LeaveMessage {
        /// The call.
        id: String,
        /// The mailbox; the assistant's where it is not named.
        mailbox: Option<String>,
    },
    /// Messages of a mailbox were changed in the database: those who wait for them are told.
    MailboxChanged {
        /// The mailbox.
        mailbox: String,
    },
    /// Have an assistant call somebody.
    Dial {
        /// The assistant, by its name in the configuration.
        assistant: String,
        /// The number.
        number: String,
        /// The trunk; not needed where there is only one.
        trunk: Option<String>,
        /// Answer when the call is over rather than when it is begun.
        wait: bool,
    },
}

/// A line from the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Response {
    /// [`VERSION`].
    pub version: u32,
    /// What came of it.
    pub answer: Answer,
}

/// What came of what was asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Answer {
    /// The live calls, the oldest first.
    Calls(Vec<CallSnapshot>),
    /// The trunks, by name.
    Trunks(Vec<TrunkStatus>),
    /// The call does it.
    Done {
        /// The call's whole id.
        id: CallId,
    },
    /// It is known now.
    Noted,
    /// A call that was waited for is over.
    Over {
        /// The call.
        id: CallId,
        /// Somebody answered.
        answered: bool,
        /// Why it ended.
        ended_reason: Option<EndedReason>,
    },
    /// Nothing came of it.
    Refused {
        /// What kind of refusal it is.
        refusal: Refusal,
        /// The same for people.
        message: String,
    },
}

/// Why nothing came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// The line was none of the above, or of another version: the client's fault.
    BadRequest,
    /// There is no such live call.
    UnknownCall,
    /// More than one live call's id begins so.
    AmbiguousCall,
    /// The call's state, or the server's, does not allow it. Retry later, perhaps.
    NotNow,
    /// It is not allowed, or there is no such thing: asking again does not help.
    NotAllowed,
}
