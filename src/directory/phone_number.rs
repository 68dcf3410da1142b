//! A phone number in Vapi's shape (`byo-phone-number`), and the rule that it is here.

use serde_json::{Map, Value};

use super::assistant;
use super::document::Warning;
use crate::config::Number;
use crate::conversation::settings::{Server, TransferDestination};

/// Fields of Vapi's that nothing is done with yet.
const UNSUPPORTED: &[&str] = &["hooks", "squadId", "workflowId"];

/// What a phone number says.
#[derive(Debug)]
pub(super) struct PhoneNumber {
    number: Option<String>,
    pub(super) credential_id: String,
    pub(super) assistant_id: Option<String>,
    server: Option<Server>,
    fallback: Option<TransferDestination>,
    pub(super) warnings: Vec<Warning>,
}

impl PhoneNumber {
    /// Who answers it: its assistant, or whoever its server says, or the account's where
    /// `account` has one; nobody where there is none of these.
    pub(super) fn rule(self, id: &str, account: bool) -> Option<Number> {
        let answered = self.assistant_id.is_some() || self.server.is_some() || account;
        Some(Number {
            number: self.number.filter(|_| answered)?,
            assistant: self.assistant_id,
            mailbox: None,
            service: None,
            server: self.server,
            fallback: self.fallback,
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
    let server = server(document, &mut mistakes);
    let fallback = fallback(document, &mut mistakes);
    let set = |field: &&&str| document.get(**field).is_some_and(|value| !value.is_null());
    match (mistakes.is_empty(), credential_id) {
        (true, Some(credential_id)) => Ok(PhoneNumber {
            number,
            credential_id,
            assistant_id,
            server,
            fallback,
            warnings: UNSUPPORTED
                .iter()
                .filter(set)
                .map(|field| Warning::unsupported(*field))
                .collect(),
        }),
        _ => Err(mistakes),
    }
}

/// Its server, in an assistant's shape.
fn server(document: &Map<String, Value>, mistakes: &mut Vec<String>) -> Option<Server> {
    let given = document.get("server").filter(|value| !value.is_null())?;
    let alone = Map::from_iter([("server".to_owned(), given.clone())]);
    match assistant::read(&alone, &|_, _| false) {
        Ok((settings, _)) => settings.server.filter(|server| server.url.is_some()),
        Err(wrong) => {
            mistakes.extend(wrong);
            None
        }
    }
}

fn fallback(
    document: &Map<String, Value>,
    mistakes: &mut Vec<String>,
) -> Option<TransferDestination> {
    let given = document.get("fallbackDestination");
    let given = given.filter(|value| !value.is_null())?;
    let read = given.as_object().and_then(TransferDestination::read);
    if read.is_none() {
        mistakes.push(
            "fallbackDestination: must have type \"number\" and a number, or type \"sip\" and a \
             sipUri"
                .to_owned(),
        );
    }
    read
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
        let rule = read.rule("id", false).expect("a rule");
        assert_eq!(
            (rule.number.as_str(), rule.assistant.as_deref()),
            ("200", Some("a"))
        );
    }

    #[test]
    fn a_number_without_an_assistant_is_a_rule_where_somebody_can_be_asked() {
        let number = json!({
            "provider": "byo-phone-number", "number": "+4930123456", "credentialId": "c",
            "server": { "url": "https://example.com/hook", "credentialId": "x" },
            "fallbackDestination": { "type": "number", "number": "+4930999999", "callerId": "x" },
        });
        let rule = read(&fields(number.clone()))
            .expect("right")
            .rule("id", false);
        let rule = rule.expect("a rule");
        let server = rule.server.expect("a server");
        assert_eq!(server.url.as_deref(), Some("https://example.com/hook"));
        assert_eq!(rule.fallback.expect("a place").target(), "+4930999999");
        let mut alone = fields(number);
        alone.remove("server");
        let rule = |account| read(&alone).expect("right").rule("id", account);
        assert!(rule(false).is_none() && rule(true).is_some());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let number = json!({ "provider": "twilio", "number": "030 123", "name": "n".repeat(41),
            "server": { "url": "ftp://example.com" }, "fallbackDestination": { "type": "fax" } });
        let mistakes = read(&fields(number)).expect_err("wrong");
        let named: Vec<&str> = mistakes
            .iter()
            .filter_map(|text| text.split(':').next())
            .collect();
        let expected = [
            "name",
            "provider",
            "number",
            "credentialId",
            "server.url",
            "fallbackDestination",
        ];
        assert_eq!(named, expected);
    }
}
