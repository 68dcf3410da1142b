//! Who answered a call of ours.

use serde::{Deserialize, Serialize};

use super::write_name;

/// Who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answerer {
    /// A person.
    Human,
    /// An answering machine or a mailbox.
    Machine,
    /// Nobody can tell.
    Unknown,
}

/// By what that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AnswererEvidence {
    /// A few words and a pause.
    ShortGreeting,
    /// More words than people say.
    LongGreeting,
    /// What was said.
    Words,
    /// A beep.
    Beep,
    /// Nothing was said.
    Silence,
}

/// The verdict on one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AnsweredBy {
    /// Who.
    pub who: Answerer,
    /// By what it is known.
    pub evidence: AnswererEvidence,
    /// From the answer to the verdict, in ms.
    pub after_ms: u64,
    /// When the message for the machine began, in ms from the answer; `None` where none was left.
    pub message_ms: Option<u64>,
}

impl std::fmt::Display for Answerer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write_name(self, f)
    }
}

impl std::fmt::Display for AnswererEvidence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write_name(self, f)
    }
}
