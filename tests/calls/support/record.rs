//! What the server kept of a call, as `offhook calls show ID --json` prints it.

use serde_json::Value;

/// One call's record.
#[derive(Clone, Debug)]
pub(crate) struct Record(pub(crate) Value);

/// One message of it.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) text: String,
    pub(crate) start_ms: u64,
    pub(crate) end_ms: u64,
    pub(crate) turn: u64,
}

impl Record {
    pub(crate) fn text(&self, key: &str) -> &str {
        self.0[key].as_str().unwrap_or_default()
    }

    pub(crate) fn reason(&self) -> (&str, &str) {
        (self.text("endedReason"), self.text("endedBy"))
    }

    /// The messages of a role: `user` or `bot`.
    pub(crate) fn said_by(&self, role: &str) -> Vec<Message> {
        let messages = self.0["messages"].as_array().expect("messages").iter();
        messages
            .filter(|message| message["role"] == role)
            .map(|message| Message {
                text: message["message"].as_str().expect("text").to_owned(),
                start_ms: message["startMs"].as_u64().expect("startMs"),
                end_ms: message["endMs"].as_u64().expect("endMs"),
                turn: message["turn"].as_u64().expect("turn"),
            })
            .collect()
    }

    /// The ledgers of the turns after the greeting in which the caller spoke.
    pub(crate) fn turns(&self) -> Vec<&Value> {
        let turns = self.0["turns"].as_array().expect("turns").iter();
        turns.filter(|turn| turn["turn"] != 0).collect()
    }

    /// What the user said, all turns together, in lower case and without punctuation.
    pub(crate) fn words_of_user(&self) -> Vec<String> {
        self.said_by("user")
            .iter()
            .flat_map(|message| words(&message.text))
            .collect()
    }
}

pub(crate) fn words(text: &str) -> Vec<String> {
    let plain: String = text
        .chars()
        .filter(|c| *c != '\'')
        .map(|c| {
            if c.is_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                ' '
            }
        })
        .collect();
    plain.split_whitespace().map(str::to_owned).collect()
}

/// The share of the words of `said` that are found, in order, in `heard`.
pub(crate) fn share_understood(said: &str, heard: &[String]) -> f64 {
    let said = words(said);
    let mut rest = heard.iter();
    let mut found = 0;
    for word in &said {
        let mut ahead = rest.clone();
        if ahead.any(|candidate| candidate == word) {
            rest = ahead;
            found += 1;
        }
    }
    f64::from(found) / said.len().max(1) as f64
}
