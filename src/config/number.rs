//! The number plan: who answers what.

use serde::Deserialize;

use super::{Config, DEMO_ASSISTANT};
use crate::conversation::settings::AssistantSettings;
use crate::ids::{AssistantId, MailboxName};

/// One rule of the number plan.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Number {
    /// The called user part: exact, or with a trailing `*`, or `*` alone for any.
    pub number: String,
    /// The assistant that answers.
    #[serde(default)]
    pub assistant: Option<String>,
    /// The mailbox that takes the calls that the assistant cannot; all of them where there is no
    /// assistant.
    #[serde(default)]
    pub mailbox: Option<String>,
    /// What answers in place of both.
    #[serde(default)]
    pub service: Option<Service>,
    /// Its id in the API; the number itself where the file has it.
    #[serde(skip)]
    pub id: Option<String>,
}

/// What the server itself answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    /// Owners of mailboxes hear their messages.
    VoicemailMenu,
}

/// Who answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer<'a> {
    /// An assistant, and the number's mailbox.
    Assistant {
        /// Its name.
        id: AssistantId,
        /// What it is set to.
        settings: &'a AssistantSettings,
        /// Where its calls go that it cannot take.
        mailbox: Option<MailboxName>,
        /// The phone number's id in the API; `None` where no rule is for it.
        phone_number: Option<String>,
    },
    /// A mailbox.
    Mailbox(MailboxName),
    /// The server.
    Service(Service),
}

impl Number {
    /// How well this rule fits a called user part: the length of what it fixes, exact rules
    /// before patterns. `None` where it does not fit.
    fn fit(&self, user: &str) -> Option<usize> {
        match self.number.strip_suffix('*') {
            // Star codes of telephones, such as *97, begin with one.
            Some(prefix) => user.starts_with(prefix).then_some(prefix.len()),
            None => (self.number == user).then_some(usize::MAX),
        }
    }
}

impl Config {
    /// Who answers what was called, given in each of its spellings: the best fitting rule, else an
    /// assistant of that name, else the only one or the demo assistant. `None` where the plan has
    /// no answer.
    pub fn answer_for(&self, called: &[&str]) -> Option<Answer<'_>> {
        let fit = |rule: &Number| called.iter().filter_map(|user| rule.fit(user)).max();
        let rules = self.numbers.iter();
        let fitting = rules.filter_map(|rule| Some((fit(rule)?, rule)));
        let rule = fitting.max_by_key(|(fit, _)| *fit).map(|(_, rule)| rule);
        let Some(rule) = rule else {
            return self.assistant(self.by_name(called)?, None, None);
        };
        let id = rule.id.as_deref().or(Some(&rule.number));
        let mailbox = rule.mailbox.as_deref().map(MailboxName::new);
        match (&rule.assistant, mailbox, rule.service) {
            (_, _, Some(service)) => Some(Answer::Service(service)),
            (Some(name), mailbox, None) => self.assistant(name, mailbox, id),
            (None, mailbox, None) => mailbox.map(Answer::Mailbox),
        }
    }

    fn assistant(
        &self,
        name: &str,
        mailbox: Option<MailboxName>,
        phone_number: Option<&str>,
    ) -> Option<Answer<'_>> {
        Some(Answer::Assistant {
            id: AssistantId::new(name),
            settings: self.assistants.get(name)?,
            mailbox,
            phone_number: phone_number.map(ToOwned::to_owned),
        })
    }

    /// The assistant of a number that no rule is for.
    fn by_name(&self, called: &[&str]) -> Option<&str> {
        let mut names = called.iter();
        let named = names.find_map(|user| self.assistants.get_key_value(*user));
        match named {
            Some((name, _)) => Some(name),
            None if self.numbers.is_empty() => self.default_assistant(),
            None => None,
        }
    }

    fn default_assistant(&self) -> Option<&str> {
        if self.assistants.contains_key(DEMO_ASSISTANT) {
            return Some(DEMO_ASSISTANT);
        }
        match self.assistants.len() {
            1 => self.assistants.keys().next().map(String::as_str),
            _ => None,
        }
    }
}
