//! The rules of mailboxes, and of those that refer to them.

use std::collections::BTreeMap;

use super::{Config, Number};
use crate::sip::uri::Uri;

/// Names are folders.
const LONGEST_NAME: usize = 40;

pub(super) fn validate(config: &Config, report: &mut dyn FnMut(String, String)) {
    let mut numbers: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, mailbox) in &config.mailboxes {
        let key = format!("mailboxes.{name}");
        if !is_name(name) {
            report(
                key.clone(),
                format!("a mailbox's name is 1 to {LONGEST_NAME} of a-z, A-Z, 0-9, - and _"),
            );
        }
        for (field, message) in mailbox.mistakes() {
            report(format!("{key}.{field}"), message);
        }
        if let Some(number) = &mailbox.number
            && let Some(other) = numbers.insert(number, name)
        {
            report(
                format!("{key}.number"),
                format!("is the number of mailbox {other:?} already"),
            );
        }
        for (index, target) in mailbox.notify.iter().enumerate() {
            let uri = target.parse::<Uri>().ok();
            if uri
                .and_then(|uri| uri.as_sip()?.user().map(|_| ()))
                .is_none()
            {
                report(
                    format!("{key}.notify.[{index}]"),
                    format!("{target:?} is not like \"sip:200@pbx.example.com\""),
                );
            }
        }
    }
    for (name, assistant) in &config.assistants {
        let key = format!("assistants.{name}");
        let plan = assistant.mailbox_plan.mailbox.as_deref();
        exists(
            config,
            plan,
            || format!("{key}.mailboxPlan.mailbox"),
            report,
        );
        for (index, transfer) in assistant.transfers.iter().enumerate() {
            let place = || format!("{key}.transfers.[{index}].mailbox");
            exists(config, transfer.mailbox.as_deref(), place, report);
        }
    }
}

/// What a rule of the number plan leads to.
pub(super) fn validate_number(
    config: &Config,
    key: &str,
    rule: &Number,
    report: &mut dyn FnMut(String, String),
) {
    let mailbox = rule.mailbox.as_deref();
    exists(config, mailbox, || format!("{key}.mailbox"), report);
    let answers = rule.assistant.is_some() || mailbox.is_some() || rule.server.is_some();
    match (answers, rule.service) {
        (false, None) => report(
            key.to_owned(),
            "needs an assistant, a server, a mailbox, or service = \"voicemail-menu\"".to_owned(),
        ),
        (true, Some(_)) => report(
            format!("{key}.service"),
            "answers in place of an assistant, a server and a mailbox: name one of them".to_owned(),
        ),
        (_, _) => {}
    }
}

fn exists(
    config: &Config,
    name: Option<&str>,
    key: impl Fn() -> String,
    report: &mut dyn FnMut(String, String),
) {
    if let Some(name) = name
        && !config.mailboxes.contains_key(name)
    {
        let names: Vec<&str> = config.mailboxes.keys().map(String::as_str).collect();
        report(
            key(),
            format!(
                "there is no mailbox {name:?}; there are: {}",
                names.join(", ")
            ),
        );
    }
}

fn is_name(name: &str) -> bool {
    let fits = (1..=LONGEST_NAME).contains(&name.len());
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    fits && name.chars().all(plain)
}
