//! What an operator says about hosted engines.

use std::fmt;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use url::Url;

/// A key that never reaches a log, an error or a snapshot.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct ApiKey(String);

impl ApiKey {
    /// Wraps a key that did not come from the configuration.
    pub fn new(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    /// The key itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Hosted engines, by the names that assistants use for them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Providers {
    /// Private networks that an assistant's own `model.url` may lead to. A provider's `url` may
    /// lead anywhere.
    pub allow: Vec<IpNet>,
    /// OpenAI's chat completions.
    pub openai: Provider,
    /// Any server with OpenAI's chat completions, at the assistant's `model.url`.
    #[serde(rename = "custom-llm")]
    pub custom_llm: Provider,
    /// Deepgram's streaming speech to text.
    pub deepgram: Provider,
    /// ElevenLabs' streaming text to speech.
    #[serde(rename = "11labs")]
    pub eleven_labs: Provider,
}

/// One provider.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Provider {
    /// The key. Without one the provider is not used, except for `custom-llm`, which may need
    /// none.
    pub api_key: Option<ApiKey>,
    /// Where it is, in place of the provider's own address.
    pub url: Option<Url>,
    /// How long it may take.
    pub deadlines: ProviderDeadlines,
}

/// How long a provider may take, in seconds, before the local engine serves in its place. What
/// is not set has the engine's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProviderDeadlines {
    /// To the connection.
    pub connect_seconds: Option<f64>,
    /// To the first piece of the answer.
    pub first_seconds: Option<f64>,
    /// Between two pieces.
    pub between_seconds: Option<f64>,
    /// To the end of the answer.
    pub whole_seconds: Option<f64>,
}

/// Least and most of each deadline, in seconds.
const ALLOWED: std::ops::RangeInclusive<f64> = 0.05..=120.0;

impl Providers {
    /// Whether what an assistant names as provider of its `model`, `transcriber` or `voice` can be
    /// used. The local engine serves what cannot.
    pub fn serves(&self, part: &str, name: &str) -> bool {
        match (part, name) {
            ("model", "openai") => self.openai.api_key.is_some(),
            ("model", "custom-llm") => true,
            ("transcriber", "deepgram") => self.deepgram.api_key.is_some(),
            ("voice", "11labs") => self.eleven_labs.api_key.is_some(),
            _ => false,
        }
    }

    /// Everything that is wrong, as dotted key and what is allowed.
    pub fn mistakes(&self) -> Vec<(String, String)> {
        let providers = [
            ("openai", &self.openai),
            ("custom-llm", &self.custom_llm),
            ("deepgram", &self.deepgram),
            ("11labs", &self.eleven_labs),
        ];
        let mut mistakes = Vec::new();
        for (name, provider) in providers {
            provider.check(name, &mut mistakes);
        }
        mistakes
    }
}

impl Provider {
    fn check(&self, name: &str, mistakes: &mut Vec<(String, String)>) {
        let deadlines = &self.deadlines;
        for (key, value) in [
            ("connect_seconds", deadlines.connect_seconds),
            ("first_seconds", deadlines.first_seconds),
            ("between_seconds", deadlines.between_seconds),
            ("whole_seconds", deadlines.whole_seconds),
        ] {
            if let Some(value) = value.filter(|value| !ALLOWED.contains(value)) {
                let key = format!("{name}.deadlines.{key}");
                let (least, most) = (ALLOWED.start(), ALLOWED.end());
                mistakes.push((key, format!("{value} is not from {least} to {most}")));
            }
        }
        let schemes = match name {
            "deepgram" => ["ws", "wss"],
            _ => ["http", "https"],
        };
        let wrong = |url: &&Url| !schemes.contains(&url.scheme()) || url.host().is_none();
        if let Some(url) = self.url.as_ref().filter(wrong) {
            let scheme = url.scheme();
            let [plain, secure] = schemes;
            mistakes.push((
                format!("{name}.url"),
                format!("has scheme {scheme:?}; allowed: {plain:?} and {secure:?}, with a host"),
            ));
        }
        let unsendable = |key: &&ApiKey| !key.0.bytes().all(|byte| byte.is_ascii_graphic());
        if self.api_key.as_ref().filter(unsendable).is_some() {
            mistakes.push((
                format!("{name}.api_key"),
                "may only have visible ASCII characters".to_owned(),
            ));
        }
    }
}

/// How long each part of a request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deadlines {
    pub(super) connect: Duration,
    pub(super) first: Duration,
    pub(super) between: Duration,
    pub(super) whole: Duration,
}

impl Deadlines {
    /// What the operator set, over an engine's defaults in ms.
    pub(super) fn of(set: ProviderDeadlines, [connect, first, between, whole]: [u64; 4]) -> Self {
        let choose = |set: Option<f64>, default| match set {
            Some(seconds) => {
                let seconds = seconds.clamp(*ALLOWED.start(), *ALLOWED.end());
                Duration::from_secs_f64(seconds)
            }
            None => Duration::from_millis(default),
        };
        Self {
            connect: choose(set.connect_seconds, connect),
            first: choose(set.first_seconds, first),
            between: choose(set.between_seconds, between),
            whole: choose(set.whole_seconds, whole),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_shown() {
        let provider = Provider {
            api_key: Some(ApiKey::new("sk-1234")),
            ..Provider::default()
        };
        assert!(!format!("{provider:?}").contains("1234"));
    }

    #[test]
    fn every_mistake_is_named_with_what_is_allowed() {
        let text = r#"{"deepgram": {"url": "https://api.deepgram.com"},
            "11labs": {"deadlines": {"first_seconds": 0}, "api_key": "a b"},
            "openai": {"deadlines": {"whole_seconds": 1e9}}}"#;
        let providers: Providers = serde_json::from_str(text).unwrap();
        let mistakes = providers.mistakes();
        for (key, allowed) in [
            ("deepgram.url", "\"wss\""),
            ("11labs.deadlines.first_seconds", "from 0.05 to 120"),
            ("11labs.api_key", "visible ASCII"),
            ("openai.deadlines.whole_seconds", "from 0.05 to 120"),
        ] {
            let found = mistakes.iter().find(|(name, _)| name == key);
            assert!(
                found.is_some_and(|(_, text)| text.contains(allowed)),
                "{key}"
            );
        }
        assert_eq!(mistakes.len(), 4, "{mistakes:?}");
    }
}
