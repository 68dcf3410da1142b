//! An assistant's server, and what is found out about its calls afterwards. Vapi's names.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::AssistantSettings;

/// Where an assistant's messages go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Server {
    /// `https://...`
    pub url: Option<String>,
    /// Signs every message (Standard Webhooks).
    #[serde(skip_serializing)]
    pub secret: Option<ServerSecret>,
    /// Header fields of every message.
    pub headers: BTreeMap<String, String>,
    /// Longest wait for the answer to one; 1 to 300.
    pub timeout_seconds: f64,
    /// How what fails is tried again.
    pub backoff_plan: BackoffPlan,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            url: None,
            secret: None,
            headers: BTreeMap::new(),
            timeout_seconds: 20.0,
            backoff_plan: BackoffPlan::default(),
        }
    }
}

impl Server {
    /// Everything that is wrong with it: fields, `server.` before them, and what is allowed.
    pub fn mistakes(&self) -> Vec<(String, String)> {
        let settings = AssistantSettings {
            server: Some(self.clone()),
            ..AssistantSettings::default()
        };
        settings.mistakes()
    }
}

/// Never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct ServerSecret(String);

impl ServerSecret {
    /// The secret itself, for the one place that signs with it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ServerSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// How what fails is tried again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct BackoffPlan {
    /// How pauses grow.
    #[serde(rename = "type")]
    pub kind: Backoff,
    /// How often; by default until `webhooks.give_up_hours` have passed. 0 to 10.
    pub max_retries: Option<u32>,
    /// The first pause; 0 to 10.
    pub base_delay_seconds: f64,
    /// Answers after which it is not tried again.
    pub excluded_status_codes: Vec<u16>,
}

impl Default for BackoffPlan {
    fn default() -> Self {
        Self {
            kind: Backoff::default(),
            max_retries: None,
            base_delay_seconds: 1.0,
            excluded_status_codes: Vec::new(),
        }
    }
}

/// How pauses grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backoff {
    /// Not at all.
    Fixed,
    /// Twofold, up to five minutes.
    #[default]
    Exponential,
}

/// What is sent unless `serverMessages` says otherwise: of Vapi's default, what there is here.
pub(super) const SERVER_MESSAGES: &[&str] = &[
    "end-of-call-report",
    "hang",
    "speech-update",
    "status-update",
    "user-interrupted",
];

/// Found out by the model when a call is over. What is not there is not asked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct AnalysisPlan {
    /// Calls with fewer messages are not looked at; 2 by default.
    pub min_messages_threshold: Option<u32>,
    /// A summary.
    pub summary_plan: Option<SummaryPlan>,
    /// Facts, by a schema.
    pub structured_data_plan: Option<StructuredDataPlan>,
    /// Whether the call was a success.
    pub success_evaluation_plan: Option<SuccessEvaluationPlan>,
}

/// A summary in a few sentences.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct SummaryPlan {
    /// Whether.
    pub enabled: bool,
    /// In place of our own words to the model; `{{transcript}}`, `{{systemPrompt}}` and
    /// `{{endedReason}}` are filled in.
    pub messages: Vec<Value>,
    /// Longest wait for the model; 1 to 60 at Vapi, up to 600 here.
    pub timeout_seconds: Option<f64>,
}

/// Facts of a call as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct StructuredDataPlan {
    /// Whether.
    pub enabled: bool,
    /// As in [`SummaryPlan`]; `{{schema}}` is filled in, too.
    pub messages: Vec<Value>,
    /// A JSON schema of an object.
    pub schema: Value,
    /// As in [`SummaryPlan`].
    pub timeout_seconds: Option<f64>,
}

/// Whether a call was a success.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct SuccessEvaluationPlan {
    /// Whether.
    pub enabled: bool,
    /// How it is put: `PassFail`, `NumericScale`, `DescriptiveScale`, ...
    pub rubric: Rubric,
    /// As in [`SummaryPlan`]; `{{rubric}}` is filled in, too.
    pub messages: Vec<Value>,
    /// As in [`SummaryPlan`].
    pub timeout_seconds: Option<f64>,
}

/// How success is put. Vapi's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rubric {
    /// 1 to 10.
    NumericScale,
    /// Excellent, Good, Fair, Poor.
    DescriptiveScale,
    /// 0% to 100%.
    PercentageScale,
    /// 1 to 5, by agreement.
    LikertScale,
    /// `true` or `false`.
    #[default]
    PassFail,
}

impl Default for SummaryPlan {
    fn default() -> Self {
        Self {
            enabled: true,
            messages: Vec::new(),
            timeout_seconds: None,
        }
    }
}

impl Default for StructuredDataPlan {
    fn default() -> Self {
        Self {
            enabled: true,
            messages: Vec::new(),
            schema: Value::Null,
            timeout_seconds: None,
        }
    }
}

impl Default for SuccessEvaluationPlan {
    fn default() -> Self {
        Self {
            enabled: true,
            rubric: Rubric::default(),
            messages: Vec::new(),
            timeout_seconds: None,
        }
    }
}

impl AnalysisPlan {
    /// Whether anything is asked of a call with so many messages.
    pub fn wants(&self, messages: usize) -> bool {
        let least = self.min_messages_threshold.unwrap_or(2) as usize;
        let summary = self.summary_plan.as_ref().is_some_and(|plan| plan.enabled);
        let data = self.structured_data_plan.as_ref();
        let success = self.success_evaluation_plan.as_ref();
        let any = summary
            || data.is_some_and(|plan| plan.enabled)
            || success.is_some_and(|plan| plan.enabled);
        any && messages >= least.max(1)
    }
}
