use serde_json::{Value, json};

use super::prompts::{Facts, object_in, structured_data, success, summary, verdict};
use crate::conversation::settings::{
    AssistantSettings, Rubric, StructuredDataPlan, SuccessEvaluationPlan, SummaryPlan,
};
use crate::engines::llm::ChatRole;

fn facts() -> Facts {
    let settings: AssistantSettings =
        serde_json::from_str(r#"{"model": {"systemPrompt": "Book rooms."}}"#).unwrap();
    let call: crate::record::CallRecord = serde_json::from_value(json!({
        "id": "7b1f2f0e-3c1d-4a51-9f61-6a0d0c6c8a11", "type": "inboundPhoneCall",
        "status": "ended", "assistant": "a", "from": "x", "to": "y", "peer": "z",
        "sipCallId": "s", "createdAt": "2026-01-01T00:00:00Z", "startedAt": null,
        "endedAt": null, "endedReason": "customer-ended-call", "endedBy": null,
        "greetingMs": null, "codec": null, "recording": null, "turns": [], "digits": "",
        "messages": [
            {"role": "bot", "message": "Hello.", "startMs": 0, "endMs": 1, "turn": 0,
                "interrupted": false},
            {"role": "user", "message": "A room, {{schema}}.", "startMs": 2, "endMs": 3,
                "turn": 1, "interrupted": false}]
    }))
    .unwrap();
    Facts::of(&settings, &call)
}

#[test]
fn the_model_is_shown_what_was_said_and_what_the_assistant_was_for() {
    let messages = summary(&SummaryPlan::default(), &facts());
    assert_eq!(messages[0].role, ChatRole::System);
    assert!(messages[1].content.contains("AI: Hello.\nUser: A room"));
    assert!(messages[1].content.contains("Book rooms."));
    assert!(messages[1].content.contains("customer-ended-call"));
}

#[test]
fn an_own_prompt_is_filled_in_and_what_callers_say_is_no_prompt() {
    let plan = StructuredDataPlan {
        schema: json!({"type": "object"}),
        messages: vec![
            json!({"role": "system", "content": "By {{ schema }}: {{transcript}} {{nothing}}{{"}),
            Value::Null,
        ],
        ..StructuredDataPlan::default()
    };
    let messages = structured_data(&plan, &facts());
    assert_eq!(messages.len(), 1);
    assert_eq!(
        messages[0].content,
        "By {\"type\":\"object\"}: AI: Hello.\nUser: A room, {{schema}}.\n {{"
    );
}

#[test]
fn a_verdict_is_found_in_what_a_small_model_says_round_it() {
    for (answer, expected) in [
        ("true", "true"),
        (" False.", "false"),
        ("The answer is: Yes, it did.", "true"),
        ("maybe", "maybe"),
    ] {
        assert_eq!(verdict(Rubric::PassFail, answer), expected, "{answer}");
    }
    assert_eq!(verdict(Rubric::NumericScale, "8\nbecause"), "8");
    let asked = success(&SuccessEvaluationPlan::default(), &facts());
    assert!(asked[0].content.contains("true where it did"));
}

#[test]
fn an_object_is_found_in_what_a_small_model_says_round_it() {
    let answer = "Sure!\n```json\n{\"name\": \"Ann {x}\", \"nights\": 2}\n```\nAnything else?";
    let object = object_in(answer).unwrap();
    assert_eq!(object["nights"], 2);
    assert_eq!(object_in("none"), None);
    assert_eq!(object_in("{broken"), None);
    assert_eq!(object_in("[1, 2]"), None);
}
