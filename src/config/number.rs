//! The number plan: who answers what.

use serde::Deserialize;

use super::{Config, DEMO_ASSISTANT};
use crate::conversation::settings::{AssistantSettings, Server, TransferDestination};
use crate::ids::{AssistantId, MailboxName};

/// One rule of the number plan.
#[derive(Clone, Debug, PartialEq, Deserialize)]
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
    /// Asked who answers where there is no assistant (`assistant-request`), and told of calls
    /// whose assistant has no server of its own.
    #[serde(default)]
    pub server: Option<Server>,
    /// Where callers are passed on to where the server does not say who answers.
    #[serde(default)]
    pub fallback: Option<TransferDestination>,
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
    /// Whoever a server says.
    Server {
        /// The number's, or the account's.
        server: &'a Server,
        /// The rule.
        number: &'a Number,
    },
    /// A mailbox.
    Mailbox(MailboxName),
    /// What this server has.
    Service(Service),
}

impl Number {
    /// Its id in the API.
    pub fn id(&self) -> &str {
        self.id.as_deref().unwrap_or(&self.number)
    }

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
        let id = Some(rule.id());
        let mailbox = rule.mailbox.as_deref().map(MailboxName::new);
        match (&rule.assistant, mailbox, rule.service) {
            (_, _, Some(service)) => Some(Answer::Service(service)),
            (Some(name), mailbox, None) => self.assistant(name, mailbox, id),
            (None, mailbox, None) => match (&rule.server, mailbox) {
                (Some(server), _) => Some(Answer::Server {
                    server,
                    number: rule,
                }),
                (None, Some(mailbox)) => Some(Answer::Mailbox(mailbox)),
                // A number of the API, which has neither.
                (None, None) => self.webhooks.server.as_ref().map(|server| Answer::Server {
                    server,
                    number: rule,
                }),
            },
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

    /// The server that is told of calls whose assistant has none: that of the phone number with
    /// this id, or the account's.
    pub fn server_of(&self, phone_number: Option<&str>) -> Option<Server> {
        let mut rules = self.numbers.iter();
        let rule = phone_number.and_then(|id| rules.find(|rule| rule.id() == id));
        let own = rule.and_then(|rule| rule.server.clone());
        own.or_else(|| self.webhooks.server.clone())
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
