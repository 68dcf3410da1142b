//! What the model is asked about a call, and what is made of its answers. Pure.

use serde_json::{Map, Value};

use crate::conversation::settings::{
    AssistantSettings, Rubric, StructuredDataPlan, SuccessEvaluationPlan, SummaryPlan,
};
use crate::engines::llm::{ChatMessage, ChatRole};
use crate::record::{CallRecord, Message, Role};

/// The end of a longer conversation is looked at: about 2500 tokens, which every model holds.
const MOST_TRANSCRIPT: usize = 10_000;
const MOST_INSTRUCTIONS: usize = 2000;

const SUMMARY: &str = "You summarise telephone calls. Say in two or three sentences what the \
    caller wanted and what came of it. Write nothing else.";
const STRUCTURED_DATA: &str = "You take facts from the transcript of a telephone call. Answer \
    with one JSON object that follows this JSON schema, and nothing else. Leave out what was not \
    said.\n\nSchema:\n{{schema}}";
const SUCCESS: &str = "You judge whether a telephone call reached the goals of the assistant in \
    it. {{rubric}} Write nothing else.";
const TRANSCRIPT: &str = "The assistant's instructions:\n{{systemPrompt}}\n\nTranscript:\n\
    {{transcript}}\n\nThe call ended because of: {{endedReason}}";

/// What questions are made of.
pub(super) struct Facts {
    transcript: String,
    instructions: String,
    ended_reason: String,
}

impl Facts {
    pub(super) fn of(settings: &AssistantSettings, call: &CallRecord) -> Self {
        let instructions = settings.prompt();
        let instructions: Vec<_> = instructions.into_iter().map(|part| part.content).collect();
        Self {
            transcript: last_chars(&transcript(&call.messages), MOST_TRANSCRIPT),
            instructions: first_chars(&instructions.join("\n"), MOST_INSTRUCTIONS),
            ended_reason: call
                .ended_reason
                .map_or_else(String::new, |reason| reason.to_string()),
        }
    }

    fn fill(&self, template: &str, more: (&str, &str)) -> String {
        // What is filled in comes last, so that what callers said is never taken for a name.
        let mut text = String::new();
        let mut rest = template;
        while let Some((before, behind)) = rest.split_once("{{") {
            text.push_str(before);
            let Some((name, after)) = behind.split_once("}}") else {
                text.push_str("{{");
                rest = behind;
                continue;
            };
            match name.trim() {
                "transcript" => text.push_str(&self.transcript),
                "systemPrompt" => text.push_str(&self.instructions),
                "endedReason" => text.push_str(&self.ended_reason),
                name if name == more.0 => text.push_str(more.1),
                _ => {}
            }
            rest = after;
        }
        text.push_str(rest);
        text
    }

    fn question(&self, own: &[Value], system: &str, more: (&str, &str)) -> Vec<ChatMessage> {
        if own.is_empty() {
            return vec![
                ChatMessage::new(ChatRole::System, self.fill(system, more)),
                ChatMessage::new(ChatRole::User, self.fill(TRANSCRIPT, more)),
            ];
        }
        let message = |own: &Value| {
            let content = own.get("content")?.as_str()?;
            let role = match own.get("role")?.as_str()? {
                "system" => ChatRole::System,
                "assistant" => ChatRole::Assistant,
                _ => ChatRole::User,
            };
            Some(ChatMessage::new(role, self.fill(content, more)))
        };
        own.iter().filter_map(message).collect()
    }
}

pub(super) fn summary(plan: &SummaryPlan, facts: &Facts) -> Vec<ChatMessage> {
    facts.question(&plan.messages, SUMMARY, ("", ""))
}

pub(super) fn structured_data(plan: &StructuredDataPlan, facts: &Facts) -> Vec<ChatMessage> {
    let schema = plan.schema.to_string();
    facts.question(&plan.messages, STRUCTURED_DATA, ("schema", &schema))
}

pub(super) fn success(plan: &SuccessEvaluationPlan, facts: &Facts) -> Vec<ChatMessage> {
    let rubric = match plan.rubric {
        Rubric::NumericScale => "Answer with a number from 1 (failed) to 10 (a full success).",
        Rubric::DescriptiveScale => "Answer with one word: Excellent, Good, Fair or Poor.",
        Rubric::PercentageScale => "Answer with a percentage from 0% to 100%.",
        Rubric::LikertScale => {
            "Answer with one of: Strongly Agree, Agree, Neutral, Disagree, Strongly Disagree \
             (that it did)."
        }
        Rubric::PassFail => "Answer with one word: true where it did, false where it did not.",
    };
    facts.question(&plan.messages, SUCCESS, ("rubric", rubric))
}

/// The verdict in an answer that may say more.
pub(super) fn verdict(rubric: Rubric, answer: &str) -> String {
    let answer = answer.trim();
    match rubric {
        Rubric::PassFail => {
            let mut words = answer.split(|c: char| !c.is_alphabetic());
            let verdict = words.find_map(|word| match word.to_lowercase().as_str() {
                "true" | "yes" | "pass" => Some("true"),
                "false" | "no" | "fail" => Some("false"),
                _ => None,
            });
            verdict.unwrap_or(answer).to_owned()
        }
        _ => first_chars(answer.lines().next().unwrap_or_default(), 100),
    }
}

/// The JSON object in an answer that may hold more; `None` where there is none.
pub(super) fn object_in(answer: &str) -> Option<Map<String, Value>> {
    let start = answer.find('{')?;
    let mut stream = serde_json::Deserializer::from_str(&answer[start..]).into_iter();
    stream.next()?.ok()
}

fn transcript(messages: &[Message]) -> String {
    let line = |said: &Message| match said.role {
        Role::User => Some(format!("User: {}\n", said.message)),
        Role::Bot => Some(format!("AI: {}\n", said.message)),
        Role::System => None,
    };
    messages.iter().filter_map(line).collect()
}

fn last_chars(text: &str, most: usize) -> String {
    let count = text.chars().count();
    text.chars().skip(count.saturating_sub(most)).collect()
}

fn first_chars(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}
