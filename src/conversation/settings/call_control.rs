//! What a caller hears round a hold.

use serde::{Deserialize, Serialize};

/// What a caller hears who is put on hold, beside the music. Not in Vapi.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct HoldPlan {
    /// Said before the music; nothing where it is empty.
    pub message: String,
    /// Said when the caller is taken back; nothing where it is empty. What was being said when
    /// the hold began is said after it.
    pub resumed_message: String,
}

impl Default for HoldPlan {
    fn default() -> Self {
        Self {
            message: "Please hold for a moment.".to_owned(),
            resumed_message: "Thank you for waiting.".to_owned(),
        }
    }
}
