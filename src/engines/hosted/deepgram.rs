//! What runs between us and Deepgram's streaming recogniser. Pure.

use serde::Deserialize;
use url::Url;

/// No audio for ten seconds, and the server closes, unless this comes every few seconds.
pub(super) const KEEP_ALIVE: &str = r#"{"type":"KeepAlive"}"#;
/// The words of what was sent so far are wanted now.
pub(super) const FINALIZE: &str = r#"{"type":"Finalize"}"#;
/// That was all.
pub(super) const CLOSE_STREAM: &str = r#"{"type":"CloseStream"}"#;

/// Samples a second of what we send, 16 bits each, little-endian.
pub(super) const RATE: u32 = 16_000;
/// What ends within this of the end of the audio has heard all of it.
const SLACK_SECONDS: f64 = 0.1;

/// Where to connect to for a model and a language.
pub(super) fn listen_url(base: &Url, model: &str, language: &str) -> Url {
    let mut url = base.clone();
    url.set_path("/v1/listen");
    url.query_pairs_mut()
        .clear()
        .append_pair("model", model)
        .append_pair("language", language)
        .append_pair("encoding", "linear16")
        .append_pair("sample_rate", &RATE.to_string())
        .append_pair("channels", "1")
        .append_pair("smart_format", "true")
        .append_pair("interim_results", "false");
    url
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum Message {
    Results(Results),
    Error,
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Results {
    #[serde(default)]
    start: f64,
    #[serde(default)]
    duration: f64,
    #[serde(default)]
    is_final: bool,
    #[serde(default)]
    from_finalize: bool,
    channel: Channel,
}

#[derive(Deserialize)]
struct Channel {
    alternatives: Vec<Alternative>,
}

#[derive(Deserialize)]
struct Alternative {
    transcript: String,
    #[serde(default)]
    confidence: f32,
}

/// What a message from the server means for the utterance that is being heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing yet.
    Waiting,
    /// All of it has been heard.
    Complete,
}

/// The server's message is not understood, or says that it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotUnderstood;

/// Collects the words of one utterance. Times are seconds of all audio sent over the connection.
#[derive(Debug)]
pub(super) struct Hearing {
    start: f64,
    end: f64,
    words: Vec<String>,
    /// Sum of natural logarithms of each result's confidence.
    log_confidence: f32,
    results: u16,
}

impl Hearing {
    pub(super) fn new(start: f64, end: f64) -> Self {
        Self {
            start,
            end,
            words: Vec::new(),
            log_confidence: 0.0,
            results: 0,
        }
    }

    /// Takes a message. Results of an earlier utterance, which come late, are passed over.
    pub(super) fn take(&mut self, message: &str) -> Result<Progress, NotUnderstood> {
        let results = match serde_json::from_str(message).map_err(|_| NotUnderstood)? {
            Message::Results(results) => results,
            Message::Error => return Err(NotUnderstood),
            Message::Other => return Ok(Progress::Waiting),
        };
        let until = results.start + results.duration;
        if until <= self.start + SLACK_SECONDS / 2.0 {
            return Ok(Progress::Waiting);
        }
        if !results.is_final {
            return Ok(Progress::Waiting);
        }
        let best = results.channel.alternatives.into_iter().next();
        if let Some(best) = best.filter(|best| !best.transcript.trim().is_empty()) {
            self.words.push(best.transcript.trim().to_owned());
            self.log_confidence += best.confidence.clamp(0.01, 1.0).ln();
            self.results += 1;
        }
        match results.from_finalize || until + SLACK_SECONDS >= self.end {
            true => Ok(Progress::Complete),
            false => Ok(Progress::Waiting),
        }
    }

    /// The words, and the mean natural logarithm of how sure the recogniser is of them.
    pub(super) fn words(self) -> (String, f32) {
        let mean = self.log_confidence / f32::from(self.results.max(1));
        (self.words.join(" "), mean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(start: f64, duration: f64, text: &str, from_finalize: bool) -> String {
        format!(
            r#"{{"type":"Results","channel_index":[0,1],"duration":{duration},"start":{start},
            "is_final":true,"speech_final":false,"from_finalize":{from_finalize},
            "channel":{{"alternatives":[{{"transcript":"{text}","confidence":0.5,"words":[]}}]}},
            "metadata":{{"request_id":"x"}}}}"#
        )
    }

    #[test]
    fn results_are_joined_until_the_one_from_finalize() {
        let mut hearing = Hearing::new(4.0, 8.0);
        let waiting = [
            r#"{"type":"Metadata","duration":0}"#.to_owned(),
            r#"{"type":"SpeechStarted","timestamp":4.1}"#.to_owned(),
            results(4.0, 2.0, "I would like", false),
        ];
        for message in waiting {
            assert_eq!(hearing.take(&message), Ok(Progress::Waiting), "{message}");
        }
        let last = results(6.0, 1.0, "a room.", true);
        assert_eq!(hearing.take(&last), Ok(Progress::Complete));
        let (words, mean) = hearing.words();
        assert_eq!(words, "I would like a room.");
        assert!((mean - 0.5f32.ln()).abs() < 1e-6);
    }

    #[test]
    fn what_heard_all_of_it_completes_it_though_finalize_has_no_answer() {
        let mut hearing = Hearing::new(0.0, 2.0);
        let all = results(0.0, 1.95, "Yes.", false);
        assert_eq!(hearing.take(&all), Ok(Progress::Complete));
    }

    #[test]
    fn a_late_answer_to_the_utterance_before_changes_nothing() {
        let mut hearing = Hearing::new(2.0, 4.0);
        for late in [results(0.0, 2.0, "old", false), results(2.0, 0.0, "", true)] {
            assert_eq!(hearing.take(&late), Ok(Progress::Waiting));
        }
        assert_eq!(hearing.words().0, "");
    }

    #[test]
    fn what_is_no_message_of_deepgrams_is_refused() {
        let mut hearing = Hearing::new(0.0, 2.0);
        for text in [
            "",
            "hello",
            "[1]",
            r#"{"type":"Results"}"#,
            r#"{"type":"Error"}"#,
        ] {
            assert_eq!(hearing.take(text), Err(NotUnderstood), "{text}");
        }
    }

    #[test]
    fn the_address_carries_model_language_and_format_and_no_key() {
        let base: Url = "wss://api.deepgram.com".parse().unwrap();
        let url = listen_url(&base, "nova-3", "en");
        assert_eq!(url.path(), "/v1/listen");
        assert_eq!(
            url.query(),
            Some(
                "model=nova-3&language=en&encoding=linear16&sample_rate=16000&channels=1\
                 &smart_format=true&interim_results=false"
            )
        );
    }
}
