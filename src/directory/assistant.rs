//! An assistant in Vapi's shape, and the settings that a conversation here takes of it.
//!
//! What a conversation has no setting for is kept in the document and left out of the settings:
//! with a warning where it is a field of Vapi's, which somebody may count on.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::document::Warning;
use crate::conversation::settings::{
    AnalysisPlan, AssistantSettings, Server, StructuredDataPlan, SuccessEvaluationPlan,
    SummaryPlan, VoicemailDetectionPlan,
};

/// Providers that mean the engines on this machine.
const LOCAL: &[&str] = &["offhook", "vapi"];

/// Whether a provider can be used for `model`, `transcriber` or `voice`.
pub(super) type Usable<'a> = &'a dyn Fn(&str, &str) -> bool;

/// Fields of Vapi's that nothing is done with yet.
const UNSUPPORTED: &[&str] = &[
    "analysisPlan.outcomeIds",
    "analysisPlan.structuredDataMultiPlan",
    "artifactPlan",
    "backgroundSound",
    "backgroundSpeechDenoisingPlan",
    "clientMessages",
    "compliancePlan",
    "credentialIds",
    "credentials",
    "hooks",
    "model.emotionRecognitionEnabled",
    "model.knowledgeBase",
    "model.knowledgeBaseId",
    "model.numFastTurns",
    "model.toolIds",
    "model.tools",
    "modelOutputInMessagesEnabled",
    "monitorPlan",
    "observabilityPlan",
    "server.credentialId",
    "server.encryptedPaths",
    "server.staticIpAddressesEnabled",
    "serverUrl",
    "startSpeakingPlan.customEndpointingRules",
    "startSpeakingPlan.smartEndpointingPlan",
    "transcriber.confidenceThreshold",
    "transcriber.endpointing",
    "transcriber.fallbackPlan",
    "transcriber.keyterm",
    "transcriber.keywords",
    "transportConfigurations",
    "voice.chunkPlan",
    "voice.fallbackPlan",
    "voicemailDetection.backoffPlan",
];

/// Every field that there is a setting for, with its default; plans in full.
static TEMPLATE: LazyLock<Map<String, Value>> = LazyLock::new(|| {
    let object = |value: Result<Value, _>| match value {
        Ok::<_, serde_json::Error>(Value::Object(fields)) => fields,
        Ok(_) | Err(_) => Map::new(),
    };
    let mut fields = object(serde_json::to_value(AssistantSettings::default()));
    let detection = object(serde_json::to_value(VoicemailDetectionPlan::default()));
    fields.insert("voicemailDetection".to_owned(), Value::Object(detection));
    let mut server = object(serde_json::to_value(Server::default()));
    server.insert("secret".to_owned(), Value::Null);
    fields.insert("server".to_owned(), Value::Object(server));
    let analysis = AnalysisPlan {
        summary_plan: Some(SummaryPlan::default()),
        structured_data_plan: Some(StructuredDataPlan::default()),
        success_evaluation_plan: Some(SuccessEvaluationPlan::default()),
        ..AnalysisPlan::default()
    };
    let analysis = object(serde_json::to_value(analysis));
    fields.insert("analysisPlan".to_owned(), Value::Object(analysis));
    fields
});

/// The settings of an assistant, and what is to be said of its fields.
///
/// # Errors
/// Everything that is wrong, each with its field and what is allowed.
pub(super) fn read(
    document: &Map<String, Value>,
    usable: Usable<'_>,
) -> Result<(AssistantSettings, Vec<Warning>), Vec<String>> {
    let mut lists = Vec::new();
    lists_in_place_of_objects(document, &TEMPLATE, "", &mut lists);
    if !matches!(
        document.get("metadata"),
        None | Some(Value::Null | Value::Object(_))
    ) {
        lists.push("metadata: must be an object".to_owned());
    }
    if !lists.is_empty() {
        return Err(lists);
    }
    let mut warnings: Vec<Warning> = UNSUPPORTED
        .iter()
        .filter(|field| is_set(document, field))
        .map(|field| Warning::unsupported(*field))
        .collect();
    let mut settings = known(document, &TEMPLATE);
    for engine in ["model", "transcriber", "voice"] {
        if let Some(Value::Object(fields)) = settings.get_mut(engine) {
            replace_provider(engine, fields, usable, &mut warnings);
        }
    }
    if let Some(Value::Object(transcriber)) = settings.get_mut("transcriber") {
        plain_language(transcriber, &mut warnings);
    }
    if let Some(Value::Object(model)) = settings.get_mut("model") {
        plain_messages(model, &mut warnings);
    }
    if let Some(Value::Object(plan)) = settings.get_mut("startSpeakingPlan") {
        // Vapi's older form names a provider here.
        if let Some(Value::String(provider)) = plan.get("smartEndpointingEnabled") {
            let on = provider != "off";
            plan.insert("smartEndpointingEnabled".to_owned(), json!(on));
        }
    }
    if let Some(Value::Object(plan)) = settings.get_mut("voicemailDetection")
        && let Some(Value::String(provider)) = plan.remove("provider")
        && !LOCAL.contains(&provider.as_str())
    {
        warnings.push(replaced("voicemailDetection.provider", &provider));
    }
    for spoken in ["firstMessage", "endCallMessage", "voicemailMessage"] {
        let blank = |text: &Value| text.as_str().is_some_and(|text| text.trim().is_empty());
        if settings.get(spoken).is_some_and(blank) {
            settings.remove(spoken);
        }
    }
    let settings: AssistantSettings =
        serde_path_to_error::deserialize(Value::Object(settings)).map_err(mistake)?;
    let mistakes = settings.mistakes();
    match mistakes.is_empty() {
        true => Ok((settings, warnings)),
        false => Err(mistakes
            .into_iter()
            .map(|(field, message)| format!("{field}: {message}"))
            .collect()),
    }
}

fn mistake(error: serde_path_to_error::Error<serde_json::Error>) -> Vec<String> {
    let path = error.path().to_string();
    vec![format!("{path}: {}", error.into_inner())]
}

fn is_set(document: &Map<String, Value>, path: &str) -> bool {
    let mut names = path.split('.');
    let first = names.next().and_then(|name| document.get(name));
    let found = names.fold(first, |value, name| value?.get(name));
    match found {
        None | Some(Value::Null) => false,
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::String(text)) => text != "off",
        Some(_) => true,
    }
}

/// Fields that must be objects and are lists, which would be read as the fields in their order.
fn lists_in_place_of_objects(
    document: &Map<String, Value>,
    template: &Map<String, Value>,
    path: &str,
    mistakes: &mut Vec<String>,
) {
    for (name, value) in document {
        let Some(Value::Object(inner)) = template.get(name) else {
            continue;
        };
        match value {
            Value::Array(_) => mistakes.push(format!("{path}{name}: must be an object")),
            Value::Object(value) => {
                let path = format!("{path}{name}.");
                lists_in_place_of_objects(value, inner, &path, mistakes);
            }
            _ => {}
        }
    }
}

/// What of a document there are settings for, nulls left out. Numbers without decimals are whole
/// ones, however they were written.
fn known(document: &Map<String, Value>, template: &Map<String, Value>) -> Map<String, Value> {
    let mut fields = Map::new();
    for (name, value) in document {
        let value = match (template.get(name), value) {
            (None, _) | (_, Value::Null) => continue,
            // Without a field of its own it takes any, as header fields.
            (Some(Value::Object(inner)), Value::Object(value)) if !inner.is_empty() => {
                Value::Object(known(value, inner))
            }
            (Some(_), value) => whole(value),
        };
        fields.insert(name.clone(), value);
    }
    fields
}

fn whole(value: &Value) -> Value {
    const MOST: f64 = 1e15;
    match value.as_f64() {
        Some(number) if value.is_f64() && number.fract() == 0.0 && number.abs() < MOST => {
            // Its text has no decimals and fits.
            format!("{number:.0}")
                .parse::<i64>()
                .map_or_else(|_| value.clone(), Value::from)
        }
        _ => value.clone(),
    }
}

fn replaced(field: &str, provider: &str) -> Warning {
    let message =
        format!("{provider:?} is not configured here: the engine on this machine serves it");
    Warning::new(field, message)
}

/// The engine on this machine takes the place of a provider that cannot be used, with its own
/// model and voice.
fn replace_provider(
    engine: &str,
    fields: &mut Map<String, Value>,
    usable: Usable<'_>,
    warnings: &mut Vec<Warning>,
) {
    let provider = match fields.remove("provider") {
        Some(Value::String(provider)) => provider,
        _ => return,
    };
    if provider == "offhook" {
        return;
    }
    if usable(engine, &provider) {
        fields.insert("provider".to_owned(), Value::String(provider));
        return;
    }
    if !LOCAL.contains(&provider.as_str()) {
        warnings.push(replaced(&format!("{engine}.provider"), &provider));
    }
    for name in ["model", "voiceId"] {
        fields.remove(name);
    }
}

/// `en-US` is `en` to the recogniser.
fn plain_language(transcriber: &mut Map<String, Value>, warnings: &mut Vec<Warning>) {
    let Some(Value::String(language)) = transcriber.get("language") else {
        return;
    };
    let base = language
        .split(['-', '_'])
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase();
    if language == "multi" || base.len() != 2 {
        let message = format!("{language:?} is no single language: \"en\" is listened for");
        warnings.push(Warning::new("transcriber.language", message));
        transcriber.remove("language");
    } else {
        transcriber.insert("language".to_owned(), json!(base));
    }
}

/// Messages that a prompt can have; of others only words are told.
fn plain_messages(model: &mut Map<String, Value>, warnings: &mut Vec<Warning>) {
    let Some(Value::Array(messages)) = model.get("messages") else {
        return;
    };
    let mut plain = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        let role = message.get("role").and_then(Value::as_str);
        let content = message.get("content").and_then(Value::as_str);
        match (role, content) {
            (Some(role @ ("system" | "user" | "assistant")), Some(content)) => {
                plain.push(json!({ "role": role, "content": content }));
            }
            _ => {
                let field = format!("model.messages.[{index}]");
                let message = "is left out of the prompt: it has no text, or a role other than \
                               system, user and assistant";
                warnings.push(Warning::new(field, message));
            }
        }
    }
    model.insert("messages".to_owned(), Value::Array(plain));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::tests::fields;

    #[test]
    fn an_assistant_written_for_hosted_providers_runs_here_with_warnings_that_name_them() {
        let document = fields(json!({
            "name": "Front desk",
            "firstMessage": "Hello.",
            "transcriber": { "provider": "deepgram", "model": "nova-2", "language": "en-US",
                             "keywords": ["Larkfield:2"] },
            "model": { "provider": "openai", "model": "gpt-4o", "temperature": 0.5, "maxTokens": 200.0,
                       "messages": [{ "role": "system", "content": "Be kind." },
                                    { "role": "tool", "content": "x" }],
                       "tools": [{ "type": "endCall" }] },
            "voice": { "provider": "11labs", "voiceId": "sarah", "stability": 0.5 },
            "startSpeakingPlan": { "waitSeconds": 0.6, "smartEndpointingEnabled": "livekit" },
            "voicemailDetection": { "provider": "google", "beepMaxAwaitSeconds": 20 },
            "backgroundSound": "off",
            "somethingOfTheirs": { "kept": true },
        }));
        let (settings, warnings) = read(&document, &|_, _| false).expect("right");
        assert_eq!(settings.transcriber.language, "en");
        assert_eq!(
            (settings.model.provider, settings.model.model),
            (None, None)
        );
        assert_eq!(
            (settings.model.max_tokens, settings.model.temperature),
            (200, 0.5)
        );
        assert_eq!(settings.model.messages.len(), 1);
        assert_eq!(settings.start_speaking_plan.wait_seconds, 0.6);
        let named: Vec<&str> = warnings
            .iter()
            .map(|warning| warning.field.as_str())
            .collect();
        assert_eq!(
            named,
            [
                "model.tools",
                "transcriber.keywords",
                "model.provider",
                "transcriber.provider",
                "voice.provider",
                "model.messages.[1]",
                "voicemailDetection.provider",
            ]
        );
    }

    #[test]
    fn providers_whose_keys_are_configured_are_used_with_their_models_and_voices() {
        let document = fields(json!({
            "transcriber": { "provider": "deepgram", "model": "nova-2", "language": "en-US" },
            "model": { "provider": "openai", "model": "gpt-4o" },
            "voice": { "provider": "11labs", "voiceId": "sarah" },
        }));
        let (settings, warnings) = read(&document, &|_, _| true).expect("right");
        assert_eq!(warnings, []);
        assert_eq!(settings.transcriber.provider.as_deref(), Some("deepgram"));
        assert_eq!(settings.model.model.as_deref(), Some("gpt-4o"));
        assert_eq!(settings.voice.voice_id.as_deref(), Some("sarah"));
    }

    #[test]
    fn a_server_and_a_plan_for_the_end_are_taken_with_what_is_known_of_them() {
        let document = fields(json!({
            "server": { "url": "https://example.com/hook", "secret": "s", "credentialId": "c",
                        "headers": { "x-tenant": "seven" }, "timeoutSeconds": 5.0 },
            "serverMessages": ["hang", "model-output"],
            "analysisPlan": { "summaryPlan": { "enabled": true }, "outcomeIds": ["o"],
                "structuredDataPlan": { "schema": { "type": "object",
                    "properties": { "name": { "type": "string" } } } } },
        }));
        let (settings, warnings) = read(&document, &|_, _| false).expect("right");
        let named: Vec<_> = warnings.iter().map(|warning| &warning.field).collect();
        assert_eq!(named, ["analysisPlan.outcomeIds", "server.credentialId"]);
        assert!(settings.server_wants("hang") && !settings.server_wants("status-update"));
        let server = settings.server.expect("a server");
        assert_eq!(server.headers["x-tenant"], "seven");
        assert_eq!(server.secret.expect("a secret").expose(), "s");
        let plan = settings.analysis_plan.expect("a plan");
        let schema = plan.structured_data_plan.expect("facts").schema;
        assert_eq!(schema["properties"]["name"]["type"], "string");
        assert!(plan.success_evaluation_plan.is_none());
    }

    #[test]
    fn vapis_own_engines_are_ours_without_a_word() {
        let document = fields(json!({
            "model": { "provider": "vapi", "model": "any" },
            "voice": { "provider": "vapi", "voiceId": "Elliot" },
            "transcriber": { "provider": "vapi" },
            "firstMessage": "", "endCallMessage": null,
        }));
        let (settings, warnings) = read(&document, &|_, _| false).expect("right");
        assert_eq!(warnings, []);
        assert_eq!(
            (settings.first_message, settings.voice.voice_id),
            (None, None)
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_what_is_allowed() {
        let wrong = |value| {
            read(&fields(value), &|_, _| false)
                .expect_err("wrong")
                .join("; ")
        };
        let range = wrong(json!({ "maxDurationSeconds": 5, "name": "n".repeat(41) }));
        assert!(
            range.contains("maxDurationSeconds: 5 is not from 10 to 43200"),
            "{range}"
        );
        assert!(
            range.contains("name: has 41 characters; at most 40"),
            "{range}"
        );
        let kind = wrong(json!({ "model": { "maxTokens": "many" } }));
        assert!(kind.starts_with("model.maxTokens: invalid type"), "{kind}");
        let metadata = wrong(json!({ "metadata": [null] }));
        assert_eq!(metadata, "metadata: must be an object");
        let lists = wrong(json!({ "voice": [null], "analysisPlan": { "summaryPlan": [] } }));
        assert_eq!(
            lists,
            "analysisPlan.summaryPlan: must be an object; voice: must be an object"
        );
        let mode = wrong(json!({ "firstMessageMode": "sing" }));
        assert!(
            mode.contains("firstMessageMode") && mode.contains("assistant-waits-for-user"),
            "{mode}"
        );
    }
}
