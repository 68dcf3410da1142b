//! `assistantOverrides`: fields of an assistant that are other for one call, and the values of
//! its `{{variables}}`.

use serde_json::{Map, Value};

/// An assistant's document as one call has it. Plans are replaced field by field.
pub(super) fn apply(
    assistant: &Map<String, Value>,
    overrides: &Map<String, Value>,
) -> Map<String, Value> {
    let mut document = assistant.clone();
    let mut overrides = overrides.clone();
    let variables = overrides.remove("variableValues");
    merge(&mut document, overrides);
    if let Some(Value::Object(variables)) = variables {
        for value in document.values_mut() {
            fill_in(value, &variables);
        }
    }
    document
}

fn merge(document: &mut Map<String, Value>, overrides: Map<String, Value>) {
    for (field, value) in overrides {
        match (document.get_mut(&field), value) {
            (Some(Value::Object(inner)), Value::Object(value)) => merge(inner, value),
            (_, value) => drop(document.insert(field, value)),
        }
    }
}

fn fill_in(value: &mut Value, variables: &Map<String, Value>) {
    match value {
        Value::String(text) if text.contains("{{") => *text = filled(text, variables),
        Value::Array(items) => items.iter_mut().for_each(|item| fill_in(item, variables)),
        Value::Object(fields) => fields
            .values_mut()
            .for_each(|item| fill_in(item, variables)),
        _ => {}
    }
}

/// Names that have no value stay as they are.
fn filled(text: &str, variables: &Map<String, Value>) -> String {
    let mut done = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("{{") {
        let Some(length) = rest[start..].find("}}") else {
            break;
        };
        let end = start + length + 2;
        done.push_str(&rest[..start]);
        match variables.get(rest[start + 2..end - 2].trim()) {
            Some(Value::String(value)) => done.push_str(value),
            Some(value) => done.push_str(&value.to_string()),
            None => done.push_str(&rest[start..end]),
        }
        rest = &rest[end..];
    }
    done.push_str(rest);
    done
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_call_has_other_fields_and_its_variables_filled_in() {
        let fields = |value: Value| match value {
            Value::Object(fields) => fields,
            other => panic!("{other} is no object"),
        };
        let assistant = fields(json!({
            "firstMessage": "Hello {{ name }}, {{unknown}} {{",
            "model": { "provider": "openai", "messages": [{ "content": "Room {{room}}." }] },
        }));
        let overrides = fields(json!({
            "model": { "temperature": 1 },
            "variableValues": { "name": "Ann", "room": 12 },
        }));
        assert_eq!(
            Value::from(apply(&assistant, &overrides)),
            json!({
                "firstMessage": "Hello Ann, {{unknown}} {{",
                "model": {
                    "provider": "openai",
                    "temperature": 1,
                    "messages": [{ "content": "Room 12." }],
                },
            })
        );
    }
}
