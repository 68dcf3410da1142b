//! An assistant's settings, in Vapi's field names: what a conversation is configured with.
//!
//! Times are seconds as Vapi has them. [`AssistantSettings::mistakes`] says everything that is
//! wrong at once; a [`Conversation`](super::Conversation) made from wrong settings behaves as if
//! the wrong values were the nearest allowed ones.

mod call_control;
pub(super) mod check;
mod languages;
mod server;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::api::{ChatMessage, ChatRole, NotThrough, PhraseKind};
use super::phrases;

use call_control::ANNOUNCEMENT;
pub use call_control::{
    DetectionKind, HoldPlan, MailboxPlan, SipVerb, Transfer, TransferDestination,
    TransferFailurePlan, TransferMode, TransferPlan, VoicemailDetection, VoicemailDetectionPlan,
};
pub use check::Range;
use languages::only_understands;
use server::SERVER_MESSAGES;
pub use server::{
    AnalysisPlan, Backoff, BackoffPlan, Rubric, Server, ServerSecret, StructuredDataPlan,
    SuccessEvaluationPlan, SummaryPlan,
};

/// One assistant. Every key is optional.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct AssistantSettings {
    /// A name for people, at most 40 characters.
    pub name: Option<String>,
    /// What the assistant says first.
    pub first_message: Option<String>,
    /// Who speaks first.
    pub first_message_mode: FirstMessageMode,
    /// Whether the caller can interrupt the first message.
    pub first_message_interruptions_enabled: bool,
    /// How speech is recognised.
    pub transcriber: TranscriberSettings,
    /// How replies are made.
    pub model: ModelSettings,
    /// How replies sound.
    pub voice: VoiceSettings,
    /// When the assistant starts to speak.
    pub start_speaking_plan: StartSpeakingPlan,
    /// When the assistant stops speaking.
    pub stop_speaking_plan: StopSpeakingPlan,
    /// What it says into a silence.
    pub message_plan: MessagePlan,
    /// Silence of the caller after which the call ends; 1 to 3600.
    pub silence_timeout_seconds: f64,
    /// Length after which the call ends; 10 to 43200.
    pub max_duration_seconds: f64,
    /// Said before the assistant ends the call by its rules.
    pub end_call_message: Option<String>,
    /// Phrases that end the call after the assistant has said one, or when they are all that the
    /// caller says.
    pub end_call_phrases: Vec<String>,
    /// What keys that the caller presses do.
    pub keypad_input_plan: KeypadInputPlan,
    /// What the caller hears round a hold. Not in Vapi.
    pub hold_plan: HoldPlan,
    /// To whom callers are passed on, and what makes the assistant do it. Vapi has the
    /// destinations in its `transferCall` tool.
    pub transfers: Vec<Transfer>,
    /// What a caller hears who could not be passed on. Not in Vapi.
    pub transfer_failure_plan: TransferFailurePlan,
    /// Whether calls of ours look for answering machines: `off` or how.
    pub voicemail_detection: VoicemailDetection,
    /// Said to an answering machine when it records; it is hung up on where there is none.
    pub voicemail_message: Option<String>,
    /// Where callers leave a message. Not in Vapi.
    pub mailbox_plan: MailboxPlan,
    /// Who is told what happens in calls.
    pub server: Option<Server>,
    /// What they are told, by Vapi's names.
    pub server_messages: Vec<String>,
    /// What the model is asked about a call that is over.
    pub analysis_plan: Option<AnalysisPlan>,
    /// What the caller hears when something fails. Not in Vapi.
    pub failure_plan: FailurePlan,
    /// How speech is told from silence. Not in Vapi.
    pub speech_detection_plan: SpeechDetectionPlan,
    /// Work done before a turn is known to be over. Not in Vapi.
    pub speculation_plan: SpeculationPlan,
}

impl Default for AssistantSettings {
    fn default() -> Self {
        Self {
            name: None,
            first_message: None,
            first_message_mode: FirstMessageMode::default(),
            first_message_interruptions_enabled: false,
            transcriber: TranscriberSettings::default(),
            model: ModelSettings::default(),
            voice: VoiceSettings::default(),
            start_speaking_plan: StartSpeakingPlan::default(),
            stop_speaking_plan: StopSpeakingPlan::default(),
            message_plan: MessagePlan::default(),
            silence_timeout_seconds: 30.0,
            max_duration_seconds: 600.0,
            end_call_message: None,
            end_call_phrases: Vec::new(),
            keypad_input_plan: KeypadInputPlan::default(),
            hold_plan: HoldPlan::default(),
            transfers: Vec::new(),
            transfer_failure_plan: TransferFailurePlan::default(),
            voicemail_detection: VoicemailDetection::default(),
            voicemail_message: None,
            mailbox_plan: MailboxPlan::default(),
            server: None,
            server_messages: phrases::owned(SERVER_MESSAGES),
            analysis_plan: None,
            failure_plan: FailurePlan::default(),
            speech_detection_plan: SpeechDetectionPlan::default(),
            speculation_plan: SpeculationPlan::default(),
        }
    }
}

impl AssistantSettings {
    /// Whether a message of this kind goes to the assistant's server. Vapi's `transcript` asks for
    /// partial and final ones, `transcript[transcriptType="final"]` for those only.
    pub fn server_wants(&self, kind: &str) -> bool {
        let plain = kind.split('[').next().unwrap_or_default();
        let narrowed = format!("{plain}[transcriptType=\"final\"]");
        let named = |wanted: &String| {
            wanted == kind || wanted == plain || (plain == kind && *wanted == narrowed)
        };
        let server = self.server.as_ref();
        server.is_some_and(|server| server.url.is_some()) && self.server_messages.iter().any(named)
    }
}

/// Who speaks first. Vapi's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FirstMessageMode {
    /// The assistant says `firstMessage`; where there is none it waits.
    #[default]
    AssistantSpeaksFirst,
    /// The model makes the first message.
    AssistantSpeaksFirstWithModelGeneratedMessage,
    /// The caller speaks first.
    AssistantWaitsForUser,
}

/// How speech is recognised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct TranscriberSettings {
    /// `offhook` or `vapi`: the engine on this machine. `deepgram`, where its key is configured.
    pub provider: Option<String>,
    /// A model of the provider by name; the server's own where absent.
    pub model: Option<String>,
    /// ISO 639-1 code of what the caller speaks. Numbers are spelled out for `en` only.
    pub language: String,
}

impl Default for TranscriberSettings {
    fn default() -> Self {
        Self {
            provider: None,
            model: None,
            language: "en".to_owned(),
        }
    }
}

/// How replies are made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ModelSettings {
    /// `offhook` or `vapi`: the engine on this machine. `openai`, where its key is configured, or
    /// `custom-llm`: any server with OpenAI's chat completions.
    pub provider: Option<String>,
    /// A language model by name; the server's default where absent.
    pub model: Option<String>,
    /// Of `custom-llm`: what `/chat/completions` is under, as `http://127.0.0.1:11434/v1`.
    pub url: Option<String>,
    /// Of `custom-llm`: header fields of every request.
    pub headers: BTreeMap<String, String>,
    /// Of `custom-llm`: longest wait for the first word; 0 to 300.
    pub timeout_seconds: Option<f64>,
    /// Instructions. Short for one message with role `system`. Not in Vapi.
    pub system_prompt: Option<String>,
    /// Instructions, and turns that the model is to believe went before.
    pub messages: Vec<ModelMessage>,
    /// Longest reply in tokens; 1 to 10000.
    pub max_tokens: u32,
    /// 0 to 2; 0 always takes the likeliest token.
    pub temperature: f64,
}

impl Default for ModelSettings {
    fn default() -> Self {
        Self {
            provider: None,
            model: None,
            url: None,
            headers: BTreeMap::new(),
            timeout_seconds: None,
            system_prompt: None,
            messages: Vec::new(),
            max_tokens: 250,
            temperature: 0.0,
        }
    }
}

/// One of `model.messages`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModelMessage {
    /// Who.
    pub role: ModelMessageRole,
    /// The words.
    pub content: String,
}

/// Who speaks in `model.messages`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelMessageRole {
    /// Instructions.
    System,
    /// The caller.
    User,
    /// The assistant.
    Assistant,
}

impl From<ModelMessageRole> for ChatRole {
    fn from(role: ModelMessageRole) -> Self {
        match role {
            ModelMessageRole::System => Self::System,
            ModelMessageRole::User => Self::User,
            ModelMessageRole::Assistant => Self::Assistant,
        }
    }
}

/// How replies sound.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct VoiceSettings {
    /// `offhook` or `vapi`: the engine on this machine. `11labs`, where its key is configured.
    pub provider: Option<String>,
    /// A voice by name; the server's default where absent.
    pub voice_id: Option<String>,
    /// Of `11labs`: the model that speaks.
    pub model: Option<String>,
    /// 1 is the voice's own speed; 0.25 to 4.
    pub speed: f64,
}

impl Default for VoiceSettings {
    fn default() -> Self {
        Self {
            provider: None,
            voice_id: None,
            model: None,
            speed: 1.0,
        }
    }
}

/// When the assistant starts to speak.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct StartSpeakingPlan {
    /// The assistant never speaks sooner than this after the caller's last sound; 0 to 5.
    pub wait_seconds: f64,
    /// Let the language model say how likely the caller's words are a whole sentence, or an
    /// end-of-turn model, where the server has one.
    pub smart_endpointing_enabled: bool,
    /// Waits by what the transcript looks like.
    pub transcription_endpointing_plan: TranscriptionEndpointingPlan,
}

impl Default for StartSpeakingPlan {
    fn default() -> Self {
        Self {
            wait_seconds: 0.4,
            smart_endpointing_enabled: true,
            transcription_endpointing_plan: TranscriptionEndpointingPlan::default(),
        }
    }
}

/// Silence to wait for, by what the transcript looks like; each 0 to 3.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct TranscriptionEndpointingPlan {
    /// After a finished sentence.
    pub on_punctuation_seconds: f64,
    /// After an unfinished one, and the longest wait for a transcript to look at.
    pub on_no_punctuation_seconds: f64,
    /// After a number or spelled letters. Vapi has 0.5; people reading a number out pause for
    /// 0.9.
    pub on_number_seconds: f64,
}

impl Default for TranscriptionEndpointingPlan {
    fn default() -> Self {
        Self {
            on_punctuation_seconds: 0.1,
            on_no_punctuation_seconds: 1.5,
            on_number_seconds: 1.2,
        }
    }
}

/// When the assistant stops speaking.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct StopSpeakingPlan {
    /// Words that the caller must say to interrupt; 0 to 10. With 0, speech of `voiceSeconds` is
    /// enough and no transcript is waited for.
    pub num_words: u32,
    /// Speech that interrupts, with `numWords` 0; 0 to 0.5.
    pub voice_seconds: f64,
    /// The assistant does not speak again sooner than this after an interruption; 0 to 10.
    pub backoff_seconds: f64,
    /// A caller who says only this does not interrupt.
    pub acknowledgement_phrases: Vec<String>,
    /// A caller who says one of these words interrupts, whatever `numWords` is.
    pub interruption_phrases: Vec<String>,
}

impl Default for StopSpeakingPlan {
    fn default() -> Self {
        Self {
            num_words: 0,
            voice_seconds: 0.2,
            backoff_seconds: 1.0,
            acknowledgement_phrases: phrases::owned(phrases::ACKNOWLEDGEMENTS),
            interruption_phrases: phrases::owned(phrases::INTERRUPTIONS),
        }
    }
}

/// What the assistant says into a silence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct MessagePlan {
    /// Said one after another; none are said where this is empty.
    pub idle_messages: Vec<String>,
    /// How many before the caller speaks again; 0 to 10.
    pub idle_message_max_spoken_count: u32,
    /// Silence before each; 1 to 60.
    pub idle_timeout_seconds: f64,
}

impl Default for MessagePlan {
    fn default() -> Self {
        Self {
            idle_messages: vec!["Are you still there?".to_owned()],
            idle_message_max_spoken_count: 3,
            idle_timeout_seconds: 10.0,
        }
    }
}

/// What keys that the caller presses do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct KeypadInputPlan {
    /// Whether the model learns of them.
    pub enabled: bool,
    /// The entry is complete after this long without a key; 0 to 10.
    pub timeout_seconds: f64,
    /// Keys that complete the entry at once: any of `#` and `*`, or empty.
    pub delimiters: String,
    /// The entry is complete with so many keys, and not before; 0 to 32, 0 for any number.
    pub length: u32,
    /// How often a caller whose entry is shorter than `length` is asked again before the model
    /// gets what there is; 0 to 5.
    pub retries: u32,
    /// What the caller is asked with. Nothing where empty.
    pub retry_message: String,
}

impl Default for KeypadInputPlan {
    fn default() -> Self {
        Self {
            enabled: true,
            timeout_seconds: 2.0,
            delimiters: "#".to_owned(),
            length: 0,
            retries: 1,
            retry_message: "That was too short. Please enter it again.".to_owned(),
        }
    }
}

/// What the caller hears when something fails or is slow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct FailurePlan {
    /// While something is tried again, or a reply is late.
    pub holding_message: String,
    /// The caller spoke, but nothing could be made out.
    pub missed_message: String,
    /// The caller spoke another language than `transcriber.language`. Names that language where
    /// absent; where empty, such turns are answered as they were heard.
    pub other_language_message: Option<String>,
    /// The turn failed for good; the call goes on.
    pub apology_message: String,
    /// Turns keep failing; the call ends.
    pub trouble_message: String,
    /// A caller who has heard nothing for this long after a turn hears `holdingMessage`; 0.5 to
    /// 30.
    pub holding_seconds: f64,
    /// Turns that fail one after another until the call ends; 1 to 10.
    pub max_failed_turns: u32,
    /// An engine that shows no sign of life for this long has failed; 1 to 120.
    pub engine_timeout_seconds: f64,
}

impl Default for FailurePlan {
    fn default() -> Self {
        Self {
            holding_message: "One moment, please.".to_owned(),
            missed_message: "Sorry, I missed that. Could you say it again?".to_owned(),
            other_language_message: None,
            apology_message: "I'm sorry, something went wrong. Could you say that again?"
                .to_owned(),
            trouble_message: "I'm sorry, I am having technical trouble. Please call back later."
                .to_owned(),
            holding_seconds: 3.0,
            max_failed_turns: 2,
            engine_timeout_seconds: 15.0,
        }
    }
}

/// How speech is told from silence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct SpeechDetectionPlan {
    /// Speech begins at this probability; 0.05 to 0.99.
    pub start_threshold: f64,
    /// Speech goes on at this probability; 0.01 to `startThreshold`.
    pub end_threshold: f64,
    /// Speech shorter than this is no speech; 0 to 1.
    pub min_speech_seconds: f64,
    /// Audio before the first speech that is transcribed with it; 0 to 1.
    pub pre_roll_seconds: f64,
}

impl Default for SpeechDetectionPlan {
    fn default() -> Self {
        Self {
            start_threshold: 0.5,
            end_threshold: 0.35,
            min_speech_seconds: 0.06,
            pre_roll_seconds: 0.25,
        }
    }
}

/// Work done before a turn is known to be over. None of it plays, acts or is remembered unless
/// the turn is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct SpeculationPlan {
    /// Transcribe and reply at the first short silence, rather than at the end of the turn.
    pub enabled: bool,
    /// The short silence; 0.05 to 2.
    pub silence_seconds: f64,
    /// While the caller speaks, and the engines have nothing else to do, the words so far are
    /// transcribed, and read by the model, each time that this much more was said; 0 for never,
    /// or 0.3 to 10.
    pub partial_seconds: f64,
}

impl Default for SpeculationPlan {
    fn default() -> Self {
        Self {
            enabled: true,
            silence_seconds: 0.1,
            partial_seconds: 1.0,
        }
    }
}

impl AssistantSettings {
    /// Everything that is wrong, as the dotted field and what is allowed.
    pub fn mistakes(&self) -> Vec<(String, String)> {
        check::mistakes(self)
    }

    /// The fixed phrases of this assistant, to be synthesised before a call needs them.
    pub fn phrases(&self) -> Vec<(PhraseKind, String)> {
        let failure = &self.failure_plan;
        let mut phrases = vec![
            (PhraseKind::Holding, failure.holding_message.clone()),
            (PhraseKind::Missed, failure.missed_message.clone()),
            (PhraseKind::OtherLanguage, self.other_language_message()),
            (PhraseKind::Apology, failure.apology_message.clone()),
            (PhraseKind::Trouble, failure.trouble_message.clone()),
            (PhraseKind::Hold, self.hold_plan.message.clone()),
            (PhraseKind::Resumed, self.hold_plan.resumed_message.clone()),
            (PhraseKind::Announcement, ANNOUNCEMENT.to_owned()),
        ];
        let keypad = &self.keypad_input_plan;
        if keypad.length > 0 {
            phrases.push((PhraseKind::EnterAgain, keypad.retry_message.clone()));
        }
        phrases.extend(self.transfer_phrases());
        if self.mailbox_plan.mailbox.is_some() {
            phrases.push((PhraseKind::Mailbox, self.mailbox_plan.message.clone()));
        }
        if let (FirstMessageMode::AssistantSpeaksFirst, Some(text)) =
            (self.first_message_mode, &self.first_message)
        {
            phrases.push((PhraseKind::Greeting, text.clone()));
        }
        if let Some(text) = &self.voicemail_message {
            phrases.push((PhraseKind::VoicemailMessage, text.clone()));
        }
        if let Some(text) = &self.end_call_message {
            phrases.push((PhraseKind::EndCall, text.clone()));
        }
        let idle = self.message_plan.idle_messages.iter().zip(0..=u8::MAX);
        phrases.extend(idle.map(|(text, index)| (PhraseKind::Idle(index), text.clone())));
        phrases.retain(|(_, text)| !text.trim().is_empty());
        phrases
    }

    fn other_language_message(&self) -> String {
        let own = self.failure_plan.other_language_message.clone();
        own.unwrap_or_else(|| only_understands(&self.transcriber.language))
    }

    fn transfer_phrases(&self) -> Vec<(PhraseKind, String)> {
        let failure = &self.transfer_failure_plan;
        let mut phrases = vec![
            (NotThrough::Busy, &failure.busy_message),
            (NotThrough::NoAnswer, &failure.no_answer_message),
            (NotThrough::Failed, &failure.failed_message),
        ]
        .into_iter()
        .map(|(why, text)| (PhraseKind::NotThrough(why), text.clone()))
        .collect::<Vec<_>>();
        for (transfer, place) in self.transfers.iter().zip(0..=u8::MAX) {
            let announcement = transfer.destination.announcement().to_owned();
            phrases.push((PhraseKind::Transfer(place), announcement));
            if let Some(words) = transfer.destination.plan().briefing() {
                phrases.push((PhraseKind::Briefing(place), words.to_owned()));
            }
        }
        phrases
    }

    /// What the model is told before the conversation.
    pub fn prompt(&self) -> Vec<ChatMessage> {
        let system = self.model.system_prompt.iter().map(|content| ChatMessage {
            role: ChatRole::System,
            content: content.clone(),
        });
        let messages = self.model.messages.iter().map(|message| ChatMessage {
            role: message.role.into(),
            content: message.content.clone(),
        });
        system.chain(messages).collect()
    }
}

/// Seconds as a duration; what no duration can be is nought.
pub(super) fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or_default()
}
