//! What happens to a caller who is put on hold or passed on.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::super::phrases::words;

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

/// Somebody to whom callers can be passed on, and what makes the assistant do it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Transfer {
    /// To whom, in Vapi's shape.
    pub destination: TransferDestination,
    /// A caller who says one of these is passed on.
    #[serde(default)]
    pub phrases: Vec<String>,
    /// A caller who presses this key first in an entry is passed on.
    #[serde(default)]
    pub digit: Option<char>,
    /// The mailbox in which a caller who is not put through leaves a message. Not in Vapi.
    #[serde(default)]
    pub mailbox: Option<String>,
}

/// The mailbox of an assistant: it takes the calls that the assistant cannot (every line is busy,
/// an engine is down, outside its hours), and those of callers who ask for it. Not in Vapi.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct MailboxPlan {
    /// Its key in the configuration. A number's own mailbox comes before it.
    pub mailbox: Option<String>,
    /// A caller who says one of these leaves a message.
    pub phrases: Vec<String>,
    /// A caller who presses this key first in an entry leaves a message.
    pub digit: Option<char>,
    /// Said before the mailbox's greeting.
    pub message: String,
}

impl Default for MailboxPlan {
    fn default() -> Self {
        Self {
            mailbox: None,
            phrases: Vec::new(),
            digit: None,
            message: "One moment, you can leave a message.".to_owned(),
        }
    }
}

impl MailboxPlan {
    /// What is wrong, as the field and what is allowed.
    pub(super) fn mistakes(&self) -> Vec<(&'static str, String)> {
        let mut mistakes = Vec::new();
        if let Some(key) = self.digit.filter(|key| !is_key(*key)) {
            mistakes.push(("digit", format!("{key:?} is no key: 0-9, *, #")));
        }
        if self.phrases.iter().any(|phrase| words(phrase).is_empty()) {
            mistakes.push(("phrases", "must each have a word".to_owned()));
        }
        if words(&self.message).is_empty() {
            mistakes.push(("message", "must have a word to say".to_owned()));
        }
        mistakes
    }
}

/// Whether calls of ours look for answering machines. Vapi's shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum VoicemailDetection {
    /// They do not.
    Off(DetectionOff),
    /// They do.
    Plan(VoicemailDetectionPlan),
}

impl Default for VoicemailDetection {
    fn default() -> Self {
        Self::Off(DetectionOff::Off)
    }
}

/// The word for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DetectionOff {
    /// `off`.
    Off,
}

/// How answering machines are looked for. Vapi's names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct VoicemailDetectionPlan {
    /// Only `offhook` for now: on this machine.
    pub provider: Option<String>,
    /// By `audio` only (how long it speaks, beeps), or by `transcript` only (what it says, beeps);
    /// by all of it where not set.
    #[serde(rename = "type")]
    pub kind: Option<DetectionKind>,
    /// How long a machine's beep is waited for, in seconds; 0 to 60.
    pub beep_max_await_seconds: f64,
}

impl Default for VoicemailDetectionPlan {
    fn default() -> Self {
        Self {
            provider: None,
            kind: None,
            beep_max_await_seconds: 30.0,
        }
    }
}

/// What answering machines are known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DetectionKind {
    /// How long they speak.
    Audio,
    /// What they say.
    Transcript,
}

fn is_key(key: char) -> bool {
    matches!(key, '0'..='9' | '*' | '#')
}

/// To whom a caller is passed on. Vapi's shape; `trunk` is ours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "lowercase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum TransferDestination {
    /// A telephone number.
    Number {
        /// The number.
        number: String,
        /// The trunk to call through; not needed where there is only one.
        #[serde(default)]
        trunk: Option<String>,
        /// Said to the caller before.
        #[serde(default)]
        message: Option<String>,
        /// How.
        #[serde(default)]
        transfer_plan: TransferPlan,
        /// For people.
        #[serde(default)]
        description: Option<String>,
    },
    /// A SIP address, which is called at its own host.
    Sip {
        /// The address.
        sip_uri: String,
        /// Said to the caller before.
        #[serde(default)]
        message: Option<String>,
        /// How.
        #[serde(default)]
        transfer_plan: TransferPlan,
        /// For people.
        #[serde(default)]
        description: Option<String>,
    },
}

/// What the caller hears before being passed on, where nothing else is configured.
pub(super) const ANNOUNCEMENT: &str = "One moment, I'll put you through.";

impl TransferDestination {
    /// A destination in Vapi's shape, fields that we do not know left out.
    pub fn read(given: &Map<String, Value>) -> Option<Self> {
        const KNOWN: &[&str] = &["type", "number", "sipUri", "description"];
        let mut fields = given.clone();
        fields.retain(|name, value| KNOWN.contains(&name.as_str()) && !value.is_null());
        serde_json::from_value(Value::Object(fields)).ok()
    }

    /// The number or address.
    pub fn target(&self) -> &str {
        match self {
            Self::Number { number, .. } => number,
            Self::Sip { sip_uri, .. } => sip_uri,
        }
    }

    /// The trunk to call through, where one is named.
    pub fn trunk(&self) -> Option<&str> {
        match self {
            Self::Number { trunk, .. } => trunk.as_deref(),
            Self::Sip { .. } => None,
        }
    }

    /// What the caller hears before.
    pub fn announcement(&self) -> &str {
        match self {
            Self::Number { message, .. } | Self::Sip { message, .. } => {
                message.as_deref().unwrap_or(ANNOUNCEMENT)
            }
        }
    }

    /// How the caller is passed on.
    pub fn plan(&self) -> &TransferPlan {
        match self {
            Self::Number { transfer_plan, .. } | Self::Sip { transfer_plan, .. } => transfer_plan,
        }
    }
}

/// How a caller is passed on. Vapi's names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct TransferPlan {
    /// Whether the person called is spoken to first.
    pub mode: TransferMode,
    /// Said to the person called, in the warm modes.
    pub message: Option<String>,
    /// How the calls are joined.
    pub sip_verb: SipVerb,
    /// How long their telephone rings, in seconds; 5 to 600.
    pub dial_timeout: f64,
    /// In the warm modes: only who presses this key gets the caller. Another key, or none for
    /// 15 s after the message, refuses. Not in Vapi.
    pub accept_digit: Option<char>,
}

impl Default for TransferPlan {
    fn default() -> Self {
        Self {
            mode: TransferMode::default(),
            message: None,
            sip_verb: SipVerb::default(),
            dial_timeout: 60.0,
            accept_digit: None,
        }
    }
}

impl TransferPlan {
    /// What the person called hears first; nothing in a blind transfer.
    pub fn briefing(&self) -> Option<&str> {
        match self.mode {
            TransferMode::BlindTransfer => None,
            TransferMode::WarmTransferSayMessage => Some(
                self.message
                    .as_deref()
                    .unwrap_or("I have a caller for you."),
            ),
        }
    }
}

/// Whether the person called is spoken to first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TransferMode {
    /// No.
    #[default]
    BlindTransfer,
    /// They hear `message`, then the caller.
    WarmTransferSayMessage,
}

/// How calls are joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SipVerb {
    /// The caller's side is asked to call there itself (REFER); where it cannot, as `dial`.
    #[default]
    Refer,
    /// Offhook calls there and stays between the two.
    Dial,
}

/// What a caller hears who was to be passed on and was not. Not in Vapi.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct TransferFailurePlan {
    /// The person was busy.
    pub busy_message: String,
    /// Nobody answered.
    pub no_answer_message: String,
    /// Anything else.
    pub failed_message: String,
}

impl Default for TransferFailurePlan {
    fn default() -> Self {
        Self {
            busy_message: "I'm sorry, the line is busy. Is there anything I can do for you?"
                .to_owned(),
            no_answer_message:
                "I'm sorry, nobody is answering. Is there anything I can do for you?".to_owned(),
            failed_message: "I'm sorry, I could not put you through. Is there anything I can do \
                             for you?"
                .to_owned(),
        }
    }
}

impl Transfer {
    /// What is wrong, as the dotted field and what is allowed.
    pub(super) fn mistakes(&self) -> Vec<(&'static str, String)> {
        let mut mistakes = Vec::new();
        let plan = self.destination.plan();
        if !(5.0..=600.0).contains(&plan.dial_timeout) {
            let message = format!("{} is not from 5 to 600", plan.dial_timeout);
            mistakes.push(("destination.transferPlan.dialTimeout", message));
        }
        if let Some(key) = plan.accept_digit.filter(|key| !is_key(*key)) {
            let message = format!("{key:?} is no key: 0-9, *, #");
            mistakes.push(("destination.transferPlan.acceptDigit", message));
        }
        if plan.accept_digit.is_some() && plan.briefing().is_none() {
            let message = "needs a warm mode, which says what to press".to_owned();
            mistakes.push(("destination.transferPlan.acceptDigit", message));
        }
        if let Some(key) = self.digit.filter(|key| !is_key(*key)) {
            mistakes.push(("digit", format!("{key:?} is no key: 0-9, *, #")));
        }
        if self.phrases.iter().any(|phrase| words(phrase).is_empty()) {
            mistakes.push(("phrases", "must each have a word".to_owned()));
        }
        if words(self.destination.announcement()).is_empty() {
            let message = "must have a word to say".to_owned();
            mistakes.push(("destination.message", message));
        }
        mistakes
    }
}
