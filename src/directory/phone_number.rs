//! A phone number in Vapi's shape (`byo-phone-number`), and the rule that it is here.

use serde_json::{Map, Value};

use super::document::Warning;
use crate::config::Number;

/// Fields of Vapi's that nothing is done with yet.
const UNSUPPORTED: &[&str] = &[
    "fallbackDestination",
    "hooks",
    "server",
    "squadId",
    "workflowId",
];

/// What a phone number says.
#[derive(Debug)]
pub(super) struct PhoneNumber {
    number: Option<String>,
    pub(super) credential_id: String,
    pub(super) assistant_id: Option<String>,
    pub(super) warnings: Vec<Warning>,
}

impl PhoneNumber {
    /// Who answers it; nobody where it has no assistant.
    pub(super) fn rule(self, id: &str) -> Option<Number> {
        Some(Number {
            number: self.number?,
            assistant: Some(self.assistant_id?),
            mailbox: None,
            service: None,
            id: Some(id.to_owned()),
        })
    }
}

pub(super) fn unique_key(document: &Map<String, Value>) -> Option<String> {
    let number = document.get("number").and_then(Value::as_str)?;
    Some(number.to_owned())
}

/// What a document says.
///
/// # Errors
/// Everything that is wrong, each with its field and what is allowed.
pub(super) fn read(document: &Map<String, Value>) -> Result<PhoneNumber, Vec<String>> {
    let mut mistakes = Vec::new();
    let mut text = |field: &str, least: usize, most: usize| match document.get(field) {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) if (least..=most).contains(&text.chars().count()) => {
            Some(text.clone())
        }
        Some(_) => {
            mistakes.push(format!(
                "{field}: must be text of {least} to {most} characters"
            ));
            None
        }
    };
    let provider = text("provider", 1, 40);
    let number = text("number", 3, 40);
    let credential_id = text("credentialId", 1, 64);
    let assistant_id = text("assistantId", 1, 64);
    text("name", 1, 40);
    if provider.as_deref() != Some("byo-phone-number") {
        mistakes.push("provider: must be \"byo-phone-number\"".to_owned());
    }
    let checked = match document.get("numberE164CheckEnabled") {
        None | Some(Value::Null | Value::Bool(true)) => true,
        Some(Value::Bool(false)) => false,
        Some(_) => {
            mistakes.push("numberE164CheckEnabled: must be true or false".to_owned());
            false
        }
    };
    if let Some(number) = number
        .as_deref()
        .filter(|number| checked && !is_e164(number))
    {
        mistakes.push(format!(
            "number: {number:?} is not E.164, a plus and 7 to 15 digits; set numberE164CheckEnabled \
             to false for other numbers"
        ));
    }
    if number
        .as_deref()
        .is_some_and(|number| number.ends_with('*'))
    {
        mistakes.push("number: cannot end with a *".to_owned());
    }
    if credential_id.is_none() && !mistakes.iter().any(|text| text.starts_with("credentialId")) {
        mistakes.push("credentialId: must name a credential, the trunk of the number".to_owned());
    }
    let set = |field: &&&str| document.get(**field).is_some_and(|value| !value.is_null());
    match (mistakes.is_empty(), credential_id) {
        (true, Some(credential_id)) => Ok(PhoneNumber {
            number,
            credential_id,
            assistant_id,
            warnings: UNSUPPORTED
                .iter()
                .filter(set)
                .map(|field| Warning::unsupported(*field))
                .collect(),
        }),
        _ => Err(mistakes),
    }
}

fn is_e164(number: &str) -> bool {
    number.strip_prefix('+').is_some_and(|digits| {
        (7..=15).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::directory::tests::fields;

    #[test]
    fn a_number_with_an_assistant_is_a_rule() {
        let number = json!({
            "provider": "byo-phone-number", "number": "200", "numberE164CheckEnabled": false,
            "credentialId": "c", "assistantId": "a", "hooks": [],
        });
        let read = read(&fields(number)).expect("right");
        assert_eq!(read.warnings[0].field, "hooks");
        let rule = read.rule("id").expect("a rule");
        assert_eq!(
            (rule.number.as_str(), rule.assistant.as_deref()),
            ("200", Some("a"))
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let number = json!({ "provider": "twilio", "number": "030 123", "name": "n".repeat(41) });
        let mistakes = read(&fields(number)).expect_err("wrong");
        let named: Vec<&str> = mistakes
            .iter()
            .filter_map(|text| text.split(':').next())
            .collect();
        assert_eq!(named, ["name", "provider", "number", "credentialId"]);
    }
}
