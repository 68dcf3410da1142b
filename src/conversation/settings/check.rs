//! What settings may be.

use std::collections::BTreeMap;
use std::fmt;

use super::super::phrases::words;
use super::{AssistantSettings, VoicemailDetection};

/// What a number may be, both ends included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// Least.
    pub least: f64,
    /// Most.
    pub most: f64,
}

impl Range {
    const fn new(least: f64, most: f64) -> Self {
        Self { least, most }
    }

    fn has(self, value: f64) -> bool {
        (self.least..=self.most).contains(&value)
    }

    /// The value, or the nearest one that is allowed (the least where it is no number).
    pub(in crate::conversation) fn nearest(self, value: f64) -> f64 {
        if value.is_nan() {
            self.least
        } else {
            value.clamp(self.least, self.most)
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "from {} to {}", self.least, self.most)
    }
}

pub(in crate::conversation) const SILENCE_TIMEOUT: Range = Range::new(1.0, 3600.0);
pub(in crate::conversation) const MAX_DURATION: Range = Range::new(10.0, 43_200.0);
pub(in crate::conversation) const MAX_TOKENS: Range = Range::new(1.0, 10_000.0);
pub(in crate::conversation) const TEMPERATURE: Range = Range::new(0.0, 2.0);
const SPEED: Range = Range::new(0.25, 4.0);
pub(in crate::conversation) const WAIT: Range = Range::new(0.0, 5.0);
pub(in crate::conversation) const TRANSCRIPTION_WAIT: Range = Range::new(0.0, 3.0);
pub(in crate::conversation) const NUM_WORDS: Range = Range::new(0.0, 10.0);
pub(in crate::conversation) const VOICE: Range = Range::new(0.0, 0.5);
pub(in crate::conversation) const BACKOFF: Range = Range::new(0.0, 10.0);
pub(in crate::conversation) const IDLE_COUNT: Range = Range::new(0.0, 10.0);
pub(in crate::conversation) const IDLE_TIMEOUT: Range = Range::new(1.0, 60.0);
/// Keys that an entry has at most.
pub(in crate::conversation) const KEYPAD_MOST: u32 = 32;
pub(in crate::conversation) const KEYPAD_MOST_RETRIES: u32 = 5;
pub(in crate::conversation) const KEYPAD_TIMEOUT: Range = Range::new(0.0, 10.0);
pub(in crate::conversation) const HOLDING: Range = Range::new(0.5, 30.0);
pub(in crate::conversation) const FAILED_TURNS: Range = Range::new(1.0, 10.0);
pub(in crate::conversation) const ENGINE_TIMEOUT: Range = Range::new(1.0, 120.0);
pub(in crate::conversation) const START_THRESHOLD: Range = Range::new(0.05, 0.99);
pub(in crate::conversation) const END_THRESHOLD: Range = Range::new(0.01, 0.99);
pub(in crate::conversation) const MIN_SPEECH: Range = Range::new(0.0, 1.0);
pub(in crate::conversation) const PRE_ROLL: Range = Range::new(0.0, 1.0);
const BEEP_WAIT: Range = Range::new(0.0, 60.0);
pub(in crate::conversation) const SPECULATION: Range = Range::new(0.05, 2.0);
pub(in crate::conversation) const PARTIAL: Range = Range::new(0.3, 10.0);

const SERVER_TIMEOUT: Range = Range::new(1.0, 300.0);
const RETRIES: Range = Range::new(0.0, 10.0);
const ANALYSIS_TIMEOUT: Range = Range::new(1.0, 600.0);
const MODEL_TIMEOUT: Range = Range::new(0.0, 300.0);

const MOST_NAME: usize = 40;
const MOST_ENGINE_NAME: usize = 200;
const MOST_URL: usize = 2000;
const MOST_HEADERS: usize = 20;
const MOST_HEADER: usize = 4000;
const MOST_MESSAGE: usize = 1000;
const MOST_PHRASES: usize = 100;
const MOST_IDLE_MESSAGES: usize = 20;
const MOST_TRANSFERS: usize = 50;
/// Instructions beyond this fill any context that a telephone can afford.
const MOST_PROMPT: usize = 100_000;

/// Collects what is wrong.
#[derive(Default)]
struct Report(Vec<(String, String)>);

impl Report {
    fn wrong(&mut self, field: &str, message: impl Into<String>) {
        self.0.push((field.to_owned(), message.into()));
    }

    fn number(&mut self, field: &str, value: f64, range: Range) {
        if !range.has(value) {
            self.wrong(field, format!("{value} is not {range}"));
        }
    }

    fn text(&mut self, field: &str, text: &str, most: usize) {
        let length = text.chars().count();
        if length > most {
            self.wrong(
                field,
                format!("has {length} characters; at most {most} are allowed"),
            );
        }
    }

    fn spoken(&mut self, field: &str, text: &str) {
        if words(text).is_empty() {
            self.wrong(field, "must have a word to say");
        }
        self.text(field, text, MOST_MESSAGE);
    }

    fn provider(&mut self, field: &str, provider: Option<&str>, known: &[&str]) {
        if let Some(name) = provider.filter(|name| !known.contains(name)) {
            let known: Vec<_> = known.iter().map(|name| format!("{name:?}")).collect();
            let known = known.join(", ");
            self.wrong(field, format!("{name:?} is not known; allowed: {known}"));
        }
    }

    /// A name that goes into a request's address or body.
    fn name(&mut self, field: &str, name: Option<&str>) {
        let fine = |name: &str| (1..=MOST_ENGINE_NAME).contains(&name.len()) && is_graphic(name);
        if name.is_some_and(|name| !fine(name)) {
            let message = format!("must be 1 to {MOST_ENGINE_NAME} visible ASCII characters");
            self.wrong(field, message);
        }
    }

    fn phrases(&mut self, field: &str, phrases: &[String]) {
        if phrases.len() > MOST_PHRASES {
            let count = phrases.len();
            self.wrong(
                field,
                format!("has {count} phrases; at most {MOST_PHRASES} are allowed"),
            );
        }
        for (index, phrase) in phrases.iter().enumerate().take(MOST_PHRASES) {
            self.spoken(&format!("{field}.[{index}]"), phrase);
        }
    }
}

/// Everything that is wrong, as dotted field and message.
pub(super) fn mistakes(settings: &AssistantSettings) -> Vec<(String, String)> {
    let mut report = Report::default();
    if let Some(name) = &settings.name {
        report.text("name", name, MOST_NAME);
    }
    if let Some(message) = &settings.first_message {
        report.spoken("firstMessage", message);
    }
    if let Some(message) = &settings.end_call_message {
        report.spoken("endCallMessage", message);
    }
    report.phrases("endCallPhrases", &settings.end_call_phrases);
    report.number(
        "silenceTimeoutSeconds",
        settings.silence_timeout_seconds,
        SILENCE_TIMEOUT,
    );
    report.number(
        "maxDurationSeconds",
        settings.max_duration_seconds,
        MAX_DURATION,
    );
    check_engines(settings, &mut report);
    check_speaking_plans(settings, &mut report);
    check_messages(settings, &mut report);
    check_detection(settings, &mut report);
    report.0
}

fn check_engines(settings: &AssistantSettings, report: &mut Report) {
    let AssistantSettings {
        transcriber,
        model,
        voice,
        ..
    } = settings;
    report.provider(
        "transcriber.provider",
        transcriber.provider.as_deref(),
        &["offhook", "vapi", "deepgram"],
    );
    report.provider(
        "model.provider",
        model.provider.as_deref(),
        &["offhook", "vapi", "openai", "custom-llm"],
    );
    report.provider(
        "voice.provider",
        voice.provider.as_deref(),
        &["offhook", "vapi", "11labs"],
    );
    report.name("transcriber.model", transcriber.model.as_deref());
    report.name("model.model", model.model.as_deref());
    report.name("voice.voiceId", voice.voice_id.as_deref());
    report.name("voice.model", voice.model.as_deref());
    check_hosted(settings, report);
    check_server(settings, report);
    let language = &transcriber.language;
    if !(language.len() == 2 && language.bytes().all(|byte| byte.is_ascii_lowercase())) {
        let message = format!("{language:?} is not an ISO 639-1 code, two lower-case letters");
        report.wrong("transcriber.language", message);
    }
    if let Some(prompt) = &model.system_prompt {
        report.text("model.systemPrompt", prompt, MOST_PROMPT);
    }
    for (index, message) in model.messages.iter().enumerate() {
        report.text(
            &format!("model.messages.[{index}].content"),
            &message.content,
            MOST_PROMPT,
        );
    }
    report.number("model.maxTokens", f64::from(model.max_tokens), MAX_TOKENS);
    report.number("model.temperature", model.temperature, TEMPERATURE);
    report.number("voice.speed", voice.speed, SPEED);
}

/// What hosted engines need of an assistant.
fn check_hosted(settings: &AssistantSettings, report: &mut Report) {
    let AssistantSettings { model, voice, .. } = settings;
    let hosted = matches!(model.provider.as_deref(), Some("openai" | "custom-llm"));
    if hosted && model.model.is_none() {
        report.wrong("model.model", "must be set for this provider");
    }
    if voice.provider.as_deref() == Some("11labs") && voice.voice_id.is_none() {
        report.wrong("voice.voiceId", "must be set for this provider");
    }
    if model.url.as_deref().is_some_and(|url| !is_http(url)) {
        let message = format!("must begin with http:// or https://, at most {MOST_URL} bytes");
        report.wrong("model.url", message);
    }
    if let Some(seconds) = model.timeout_seconds {
        report.number("model.timeoutSeconds", seconds, MODEL_TIMEOUT);
    }
    check_headers("model.headers", &model.headers, report);
}

/// Who is told, and what is found out afterwards.
fn check_server(settings: &AssistantSettings, report: &mut Report) {
    let names = &settings.server_messages;
    if names.len() > MOST_PHRASES || names.iter().any(|name| name.len() > MOST_MESSAGE) {
        let message = format!("at most {MOST_PHRASES} names of {MOST_MESSAGE} bytes are allowed");
        report.wrong("serverMessages", message);
    }
    if let Some(server) = &settings.server {
        if server.url.as_deref().is_some_and(|url| !is_http(url)) {
            let message = format!("must begin with http:// or https://, at most {MOST_URL} bytes");
            report.wrong("server.url", message);
        }
        report.number(
            "server.timeoutSeconds",
            server.timeout_seconds,
            SERVER_TIMEOUT,
        );
        let plan = &server.backoff_plan;
        if let Some(retries) = plan.max_retries {
            report.number("server.backoffPlan.maxRetries", retries.into(), RETRIES);
        }
        let delay = plan.base_delay_seconds;
        report.number("server.backoffPlan.baseDelaySeconds", delay, RETRIES);
        check_headers("server.headers", &server.headers, report);
    }
    let Some(plan) = &settings.analysis_plan else {
        return;
    };
    let summary = plan.summary_plan.as_ref();
    let data = plan.structured_data_plan.as_ref();
    let success = plan.success_evaluation_plan.as_ref();
    for (name, timeout) in [
        ("summaryPlan", summary.and_then(|plan| plan.timeout_seconds)),
        (
            "structuredDataPlan",
            data.and_then(|plan| plan.timeout_seconds),
        ),
        (
            "successEvaluationPlan",
            success.and_then(|plan| plan.timeout_seconds),
        ),
    ] {
        if let Some(timeout) = timeout {
            let field = format!("analysisPlan.{name}.timeoutSeconds");
            report.number(&field, timeout, ANALYSIS_TIMEOUT);
        }
    }
    if data.is_some_and(|plan| plan.enabled && !plan.schema.is_object()) {
        report.wrong(
            "analysisPlan.structuredDataPlan.schema",
            "must be a JSON schema",
        );
    }
}

/// Header fields that an assistant has sent (RFC 9110 5.5).
fn check_headers(field: &str, headers: &BTreeMap<String, String>, report: &mut Report) {
    if headers.len() > MOST_HEADERS {
        let message = format!("has {} fields; at most {MOST_HEADERS}", headers.len());
        report.wrong(field, message);
    }
    for (name, value) in headers.iter().take(MOST_HEADERS) {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let named = !name.is_empty() && name.bytes().all(token);
        let valued = value
            .bytes()
            .all(|byte| byte == b' ' || byte.is_ascii_graphic());
        if !named || !valued || name.len() + value.len() > MOST_HEADER {
            let message = format!(
                "must be a header field's name and visible ASCII, {MOST_HEADER} bytes together"
            );
            report.wrong(&format!("{field}.{name}"), message);
        }
    }
}

fn is_http(url: &str) -> bool {
    let rest = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"));
    rest.is_some_and(|rest| !rest.is_empty()) && is_graphic(url) && url.len() <= MOST_URL
}

fn is_graphic(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn check_speaking_plans(settings: &AssistantSettings, report: &mut Report) {
    let start = &settings.start_speaking_plan;
    let plan = &start.transcription_endpointing_plan;
    report.number("startSpeakingPlan.waitSeconds", start.wait_seconds, WAIT);
    for (name, value) in [
        ("onPunctuationSeconds", plan.on_punctuation_seconds),
        ("onNoPunctuationSeconds", plan.on_no_punctuation_seconds),
        ("onNumberSeconds", plan.on_number_seconds),
    ] {
        let field = format!("startSpeakingPlan.transcriptionEndpointingPlan.{name}");
        report.number(&field, value, TRANSCRIPTION_WAIT);
    }
    let stop = &settings.stop_speaking_plan;
    report.number(
        "stopSpeakingPlan.numWords",
        f64::from(stop.num_words),
        NUM_WORDS,
    );
    report.number("stopSpeakingPlan.voiceSeconds", stop.voice_seconds, VOICE);
    report.number(
        "stopSpeakingPlan.backoffSeconds",
        stop.backoff_seconds,
        BACKOFF,
    );
    report.phrases(
        "stopSpeakingPlan.acknowledgementPhrases",
        &stop.acknowledgement_phrases,
    );
    report.phrases(
        "stopSpeakingPlan.interruptionPhrases",
        &stop.interruption_phrases,
    );
}

fn check_messages(settings: &AssistantSettings, report: &mut Report) {
    let plan = &settings.message_plan;
    if plan.idle_messages.len() > MOST_IDLE_MESSAGES {
        let count = plan.idle_messages.len();
        let message = format!("has {count} messages; at most {MOST_IDLE_MESSAGES} are allowed");
        report.wrong("messagePlan.idleMessages", message);
    }
    for (index, message) in plan
        .idle_messages
        .iter()
        .enumerate()
        .take(MOST_IDLE_MESSAGES)
    {
        report.spoken(&format!("messagePlan.idleMessages.[{index}]"), message);
    }
    let count = f64::from(plan.idle_message_max_spoken_count);
    report.number("messagePlan.idleMessageMaxSpokenCount", count, IDLE_COUNT);
    report.number(
        "messagePlan.idleTimeoutSeconds",
        plan.idle_timeout_seconds,
        IDLE_TIMEOUT,
    );
    let keypad = &settings.keypad_input_plan;
    report.number(
        "keypadInputPlan.timeoutSeconds",
        keypad.timeout_seconds,
        KEYPAD_TIMEOUT,
    );
    report.number(
        "keypadInputPlan.length",
        f64::from(keypad.length),
        Range::new(0.0, f64::from(KEYPAD_MOST)),
    );
    report.number(
        "keypadInputPlan.retries",
        f64::from(keypad.retries),
        Range::new(0.0, f64::from(KEYPAD_MOST_RETRIES)),
    );
    report.text(
        "keypadInputPlan.retryMessage",
        &keypad.retry_message,
        MOST_MESSAGE,
    );
    if let Some(other) = keypad
        .delimiters
        .chars()
        .find(|key| !matches!(key, '#' | '*'))
    {
        let message = format!("{other:?} cannot be a delimiter; allowed: \"#\", \"*\" or both");
        report.wrong("keypadInputPlan.delimiters", message);
    }
    if settings.transfers.len() > MOST_TRANSFERS {
        let count = settings.transfers.len();
        let message = format!("has {count} destinations; at most {MOST_TRANSFERS} are allowed");
        report.wrong("transfers", message);
    }
    if let VoicemailDetection::Plan(plan) = &settings.voicemail_detection {
        let field = "voicemailDetection.beepMaxAwaitSeconds";
        report.number(field, plan.beep_max_await_seconds, BEEP_WAIT);
        report.provider(
            "voicemailDetection.provider",
            plan.provider.as_deref(),
            &["offhook"],
        );
    }
    if let Some(message) = &settings.voicemail_message {
        report.spoken("voicemailMessage", message);
    }
    for (field, message) in settings.mailbox_plan.mistakes() {
        report.wrong(&format!("mailboxPlan.{field}"), message);
    }
    for (index, transfer) in settings.transfers.iter().enumerate() {
        for (field, message) in transfer.mistakes() {
            report.wrong(&format!("transfers.[{index}].{field}"), message);
        }
    }
    let failed = &settings.transfer_failure_plan;
    report.spoken("transferFailurePlan.busyMessage", &failed.busy_message);
    report.spoken(
        "transferFailurePlan.noAnswerMessage",
        &failed.no_answer_message,
    );
    report.spoken("transferFailurePlan.failedMessage", &failed.failed_message);
    let hold = &settings.hold_plan;
    report.text("holdPlan.message", &hold.message, MOST_MESSAGE);
    report.text(
        "holdPlan.resumedMessage",
        &hold.resumed_message,
        MOST_MESSAGE,
    );
    let failure = &settings.failure_plan;
    report.spoken("failurePlan.holdingMessage", &failure.holding_message);
    report.spoken("failurePlan.missedMessage", &failure.missed_message);
    if let Some(text) = &failure.other_language_message {
        report.text("failurePlan.otherLanguageMessage", text, MOST_MESSAGE);
    }
    report.spoken("failurePlan.apologyMessage", &failure.apology_message);
    report.spoken("failurePlan.troubleMessage", &failure.trouble_message);
    report.number(
        "failurePlan.holdingSeconds",
        failure.holding_seconds,
        HOLDING,
    );
    let turns = f64::from(failure.max_failed_turns);
    report.number("failurePlan.maxFailedTurns", turns, FAILED_TURNS);
    let timeout = failure.engine_timeout_seconds;
    report.number("failurePlan.engineTimeoutSeconds", timeout, ENGINE_TIMEOUT);
}

fn check_detection(settings: &AssistantSettings, report: &mut Report) {
    let plan = &settings.speech_detection_plan;
    let start = plan.start_threshold;
    report.number("speechDetectionPlan.startThreshold", start, START_THRESHOLD);
    let most = if START_THRESHOLD.has(start) {
        start
    } else {
        END_THRESHOLD.most
    };
    let range = Range {
        most,
        ..END_THRESHOLD
    };
    report.number(
        "speechDetectionPlan.endThreshold",
        plan.end_threshold,
        range,
    );
    let shortest = plan.min_speech_seconds;
    report.number("speechDetectionPlan.minSpeechSeconds", shortest, MIN_SPEECH);
    report.number(
        "speechDetectionPlan.preRollSeconds",
        plan.pre_roll_seconds,
        PRE_ROLL,
    );
    let silence = settings.speculation_plan.silence_seconds;
    report.number("speculationPlan.silenceSeconds", silence, SPECULATION);
    let partial = settings.speculation_plan.partial_seconds;
    if partial != 0.0 {
        report.number("speculationPlan.partialSeconds", partial, PARTIAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> AssistantSettings {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_defaults_are_vapis_and_without_mistakes() {
        let settings = AssistantSettings::default();
        assert_eq!(settings.mistakes(), []);
        assert_eq!(settings.max_duration_seconds, 600.0);
        assert_eq!(settings.silence_timeout_seconds, 30.0);
        assert_eq!(settings.start_speaking_plan.wait_seconds, 0.4);
        assert_eq!(settings.stop_speaking_plan.voice_seconds, 0.2);
        assert!(!settings.first_message_interruptions_enabled);
    }

    #[test]
    fn vapis_names_are_understood() {
        let settings = read(
            r#"{"firstMessage": "Hi.", "firstMessageMode": "assistant-waits-for-user",
                "model": {"messages": [{"role": "system", "content": "Be kind."}], "maxTokens": 60},
                "startSpeakingPlan": {"transcriptionEndpointingPlan": {"onNumberSeconds": 0.5}},
                "stopSpeakingPlan": {"numWords": 2, "backoffSeconds": 0},
                "endCallPhrases": ["goodbye"]}"#,
        );
        assert_eq!(settings.mistakes(), []);
        assert_eq!(settings.prompt()[0].content, "Be kind.");
        assert_eq!(settings.stop_speaking_plan.num_words, 2);
        assert!(
            settings.phrases().iter().all(|(_, text)| text != "Hi."),
            "an assistant that waits needs no greeting"
        );
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        for json in [
            r#"{"firstMesage": "Hi"}"#,
            r#"{"stopSpeakingPlan": {"words": 1}}"#,
        ] {
            let error = serde_json::from_str::<AssistantSettings>(json)
                .unwrap_err()
                .to_string();
            assert!(error.contains("unknown field"), "{error}");
        }
    }

    #[test]
    fn every_mistake_is_named_with_what_is_allowed() {
        let settings = read(
            r##"{"maxDurationSeconds": 5, "endCallMessage": " ", "voice": {"speed": 9},
                "transcriber": {"language": "English", "provider": "azure"},
                "stopSpeakingPlan": {"voiceSeconds": 0.8},
                "speechDetectionPlan": {"startThreshold": 0.4, "endThreshold": 0.6},
                "keypadInputPlan": {"delimiters": "#5", "length": 33, "retries": 6}, "endCallPhrases": ["..."]}"##,
        );
        let mistakes = settings.mistakes();
        for (field, allowed) in [
            ("maxDurationSeconds", "from 10 to 43200"),
            ("endCallMessage", "a word to say"),
            ("voice.speed", "from 0.25 to 4"),
            ("transcriber.language", "ISO 639-1"),
            ("transcriber.provider", "offhook"),
            ("stopSpeakingPlan.voiceSeconds", "from 0 to 0.5"),
            ("speechDetectionPlan.endThreshold", "from 0.01 to 0.4"),
            ("keypadInputPlan.delimiters", "\"#\", \"*\""),
            ("keypadInputPlan.length", "from 0 to 32"),
            ("keypadInputPlan.retries", "from 0 to 5"),
            ("endCallPhrases.[0]", "a word to say"),
        ] {
            let found = mistakes.iter().find(|(name, _)| name == field);
            assert!(
                found.is_some_and(|(_, message)| message.contains(allowed)),
                "{field}"
            );
        }
        assert_eq!(mistakes.len(), 11, "{mistakes:?}");
    }
}
