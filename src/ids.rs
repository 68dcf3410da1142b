//! Newtypes that name things, so that one kind of number is never passed for another.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Names one call for as long as anything remembers it. A version 4 UUID, as Vapi's call ids are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CallId(Uuid);

impl CallId {
    /// Makes an id from 16 random bytes drawn by the caller.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for CallId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::from_str(text).map(Self)
    }
}

/// Names one voicemail message, and the file that it is in. A version 4 UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VoicemailId(Uuid);

impl VoicemailId {
    /// Makes an id from 16 random bytes drawn by the caller.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }
}

impl fmt::Display for VoicemailId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for VoicemailId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::from_str(text).map(Self)
    }
}

macro_rules! name_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Wraps a name that was checked where it was read.
            pub fn new(name: impl Into<String>) -> Self {
                Self(name.into())
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_newtype! {
    /// An assistant's key in the configuration.
    AssistantId
}
name_newtype! {
    /// A trunk's key in the configuration.
    TrunkName
}
name_newtype! {
    /// A mailbox's key in the configuration.
    MailboxName
}

/// Counts what a call asked of the engines. Every request carries the generation it was made
/// under, and a result of an older one is ignored, which makes late, speculative and
/// interrupted work harmless.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Generation(u64);

impl Generation {
    /// The generation after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The bare count, for logs and frames.
    pub fn get(self) -> u64 {
        self.0
    }

    /// A generation read back from a frame.
    pub fn from_raw(count: u64) -> Self {
        Self(count)
    }
}

/// Numbers a call's turns from 0, the greeting.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct TurnNumber(pub u32);

/// Names a language as ISO 639 does: `en`, or three letters where there is no code of two.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LanguageCode(String);

/// A text that is no [`LanguageCode`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no ISO 639 code of two or three lower-case letters")]
pub struct NoLanguageCode(String);

impl LanguageCode {
    /// The code.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LanguageCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for LanguageCode {
    type Error = NoLanguageCode;

    fn try_from(code: String) -> Result<Self, Self::Error> {
        let letters = code.bytes().all(|byte| byte.is_ascii_lowercase());
        match letters && (2..=3).contains(&code.len()) {
            true => Ok(Self(code)),
            false => Err(NoLanguageCode(code)),
        }
    }
}

impl FromStr for LanguageCode {
    type Err = NoLanguageCode;

    fn from_str(code: &str) -> Result<Self, Self::Err> {
        Self::try_from(code.to_owned())
    }
}

impl From<LanguageCode> for String {
    fn from(code: LanguageCode) -> Self {
        code.0
    }
}
