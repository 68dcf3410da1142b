//! What a mailbox is set to.

use std::path::PathBuf;

use serde::Deserialize;

use super::hours::Hours;
use super::pin::Pin;
use crate::record::VoicemailReason;

/// What callers hear where nothing else is configured.
const GREETING: &str = "Nobody can take your call at the moment. Please leave a message after the \
                        tone.";

/// The longest text that is spoken, in characters.
const MOST_TEXT: usize = 1000;

/// One mailbox. Every key is optional.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MailboxSettings {
    /// The digits by which its owner names it on the telephone.
    pub number: Option<String>,
    /// What its owner has to know; without one its messages cannot be heard by telephone.
    pub pin: Option<Pin>,
    /// What callers hear before the tone.
    pub greeting: Option<String>,
    /// A WAV file that they hear instead.
    pub greeting_file: Option<PathBuf>,
    /// What they hear where everybody is busy.
    pub busy_greeting: Option<String>,
    /// What they hear outside `hours`.
    pub out_of_hours_greeting: Option<String>,
    /// Calls for these users or numbers that their telephones diverted to us are for this
    /// mailbox.
    pub diverted_from: Vec<String>,
    /// Numbers of its owner: who calls from one of them is asked for the PIN only.
    pub owners: Vec<String>,
    /// Sound that makes a message, in seconds; 0 to 30.
    pub min_seconds: f64,
    /// The longest message, in seconds; 5 to 3600.
    pub max_seconds: f64,
    /// Silence that ends a message, in seconds; 2 to 60.
    pub silence_seconds: f64,
    /// Messages that it holds; 1 to 10000.
    pub max_messages: u32,
    /// Minutes of sound that it holds; 1 to 100000.
    pub max_minutes: u32,
    /// Messages older than this are deleted. Kept for ever if not set.
    pub retention_days: Option<u32>,
    /// Whether messages are written down.
    pub transcribe: bool,
    /// When an assistant or number that has this mailbox takes calls; always if not set.
    pub hours: Option<Hours>,
    /// SIP addresses that are told of waiting messages without asking (RFC 3842).
    pub notify: Vec<String>,
    /// Who may subscribe to its message summary, as they show themselves by digest, beside those
    /// whose name is the mailbox's.
    pub subscribers: Vec<String>,
}

impl Default for MailboxSettings {
    fn default() -> Self {
        Self {
            number: None,
            pin: None,
            greeting: None,
            greeting_file: None,
            busy_greeting: None,
            out_of_hours_greeting: None,
            diverted_from: Vec::new(),
            owners: Vec::new(),
            min_seconds: 1.0,
            max_seconds: 180.0,
            silence_seconds: 5.0,
            max_messages: 100,
            max_minutes: 120,
            retention_days: None,
            transcribe: true,
            hours: None,
            notify: Vec::new(),
            subscribers: Vec::new(),
        }
    }
}

impl MailboxSettings {
    /// What a caller hears who comes for this reason, where `greeting_file` is not set.
    pub fn greeting_for(&self, reason: VoicemailReason) -> &str {
        let special = match reason {
            VoicemailReason::Busy => self.busy_greeting.as_deref(),
            VoicemailReason::OutOfHours => self.out_of_hours_greeting.as_deref(),
            VoicemailReason::Called
            | VoicemailReason::Diverted
            | VoicemailReason::NoAnswer
            | VoicemailReason::Unavailable
            | VoicemailReason::Asked
            | VoicemailReason::Operator => None,
        };
        special.or(self.greeting.as_deref()).unwrap_or(GREETING)
    }

    /// Every greeting, to be spoken ahead.
    pub fn greetings(&self) -> Vec<String> {
        let reasons = [
            VoicemailReason::Called,
            VoicemailReason::Busy,
            VoicemailReason::OutOfHours,
        ];
        reasons
            .map(|reason| self.greeting_for(reason).to_owned())
            .into()
    }

    /// Everything that is wrong, as the field and what is allowed.
    pub fn mistakes(&self) -> Vec<(&'static str, String)> {
        let mut mistakes = Vec::new();
        let mut wrong = |field, message| mistakes.push((field, message));
        let seconds = [
            ("min_seconds", self.min_seconds, 0.0, 30.0),
            ("max_seconds", self.max_seconds, 5.0, 3600.0),
            ("silence_seconds", self.silence_seconds, 2.0, 60.0),
        ];
        for (field, value, least, most) in seconds {
            if !(least..=most).contains(&value) {
                wrong(field, format!("{value} is not from {least} to {most}"));
            }
        }
        if self.min_seconds > self.max_seconds {
            wrong(
                "min_seconds",
                format!("is more than max_seconds ({})", self.max_seconds),
            );
        }
        if !(1..=10_000).contains(&self.max_messages) {
            wrong(
                "max_messages",
                format!("{} is not from 1 to 10000", self.max_messages),
            );
        }
        if !(1..=100_000).contains(&self.max_minutes) {
            wrong(
                "max_minutes",
                format!("{} is not from 1 to 100000", self.max_minutes),
            );
        }
        let texts = [
            ("greeting", &self.greeting),
            ("busy_greeting", &self.busy_greeting),
            ("out_of_hours_greeting", &self.out_of_hours_greeting),
        ];
        for (field, text) in texts {
            if let Some(text) = text
                && (!text.chars().any(char::is_alphanumeric) || text.chars().count() > MOST_TEXT)
            {
                wrong(
                    field,
                    format!("must have a word to say, and at most {MOST_TEXT} characters"),
                );
            }
        }
        if let Some(number) = &self.number
            && (number.is_empty()
                || number.len() > 15
                || !number.bytes().all(|b| b.is_ascii_digit()))
        {
            wrong("number", format!("{number:?} is not 1 to 15 digits"));
        }
        if self.pin.is_none() && self.number.is_some() {
            wrong(
                "pin",
                "is needed, because the mailbox has a number to hear it by".to_owned(),
            );
        }
        mistakes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_greeting_and_all_of_them_are_spoken_ahead() {
        let mailbox = MailboxSettings {
            busy_greeting: Some("We are all on the phone.".to_owned()),
            ..MailboxSettings::default()
        };
        assert_eq!(mailbox.greeting_for(VoicemailReason::Called), GREETING);
        assert_eq!(mailbox.greeting_for(VoicemailReason::OutOfHours), GREETING);
        let busy = mailbox.greeting_for(VoicemailReason::Busy);
        assert_eq!(busy, "We are all on the phone.");
        assert!(mailbox.greetings().contains(&busy.to_owned()));
    }

    #[test]
    fn every_mistake_names_its_field_and_what_is_allowed() {
        let mailbox = MailboxSettings {
            number: Some("2a".to_owned()),
            greeting: Some(" ".to_owned()),
            min_seconds: 40.0,
            max_seconds: 1.0,
            silence_seconds: f64::NAN,
            max_messages: 0,
            max_minutes: 0,
            ..MailboxSettings::default()
        };
        let fields: Vec<&str> = mailbox.mistakes().iter().map(|(field, _)| *field).collect();
        assert_eq!(
            fields,
            [
                "min_seconds",
                "max_seconds",
                "silence_seconds",
                "min_seconds",
                "max_messages",
                "max_minutes",
                "greeting",
                "number",
                "pin"
            ]
        );
        assert!(MailboxSettings::default().mistakes().is_empty());
    }
}
