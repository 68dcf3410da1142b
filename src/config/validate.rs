//! Rules that span keys or that a type cannot say.

use std::net::IpAddr;

use super::{Config, FromUser, Profile, Rates, Trunk, listen, mailbox};
use crate::conversation::settings::Server;
use crate::numbers::{Number, Pattern};

/// Every broken rule, as its dotted key and what is allowed.
pub(super) fn validate(config: &Config) -> Vec<(String, String)> {
    let mut mistakes = Vec::new();
    let mut report = |key: String, message: String| mistakes.push((key, message));
    validate_sip(config, &mut report);
    validate_rtp(config, &mut report);
    validate_numbers(config, &mut report);
    for (name, trunk) in &config.trunks {
        validate_trunk(&format!("trunks.{name}"), trunk, &mut report);
    }
    for (name, assistant) in &config.assistants {
        for (field, message) in assistant.mistakes() {
            report(format!("assistants.{name}.{field}"), message);
        }
    }
    if !(1..=64).contains(&config.engines.threads) {
        report(
            "engines.threads".to_owned(),
            format!("{} is not from 1 to 64", config.engines.threads),
        );
    }
    for (key, message) in config.providers.mistakes() {
        report(format!("providers.{key}"), message);
    }
    validate_webhooks(config, &mut report);
    mailbox::validate(config, &mut report);
    validate_limits(config, &mut report);
    if config.limits.max_calls == 0 {
        report(
            "limits.max_calls".to_owned(),
            "must be at least 1".to_owned(),
        );
    }
    mistakes
}

fn validate_webhooks(config: &Config, report: &mut dyn FnMut(String, String)) {
    let webhooks = &config.webhooks;
    if !(1..=720).contains(&webhooks.give_up_hours) {
        report(
            "webhooks.give_up_hours".to_owned(),
            format!("{} is not from 1 to 720", webhooks.give_up_hours),
        );
    }
    if webhooks.max_waiting == 0 {
        report(
            "webhooks.max_waiting".to_owned(),
            "must be at least 1".to_owned(),
        );
    }
    validate_server("webhooks", webhooks.server.as_ref(), report);
    if let Some(name) = &webhooks.fallback_assistant
        && !config.assistants.contains_key(name)
    {
        report(
            "webhooks.fallback_assistant".to_owned(),
            format!("there is no assistant {name:?}"),
        );
    }
}

fn validate_server(key: &str, server: Option<&Server>, report: &mut dyn FnMut(String, String)) {
    for (field, message) in server.map(Server::mistakes).unwrap_or_default() {
        report(format!("{key}.{field}"), message);
    }
}

fn validate_sip(config: &Config, report: &mut dyn FnMut(String, String)) {
    let sip = &config.sip;
    for (key, message) in listen::mistakes(&sip.listen, &sip.tls) {
        report(format!("sip.{key}"), message);
    }
    for (index, target) in sip.refer_targets.iter().enumerate() {
        if !target.starts_with("sip:")
            && let Err(message) = target.parse::<Pattern>()
        {
            report(
                format!("sip.refer_targets.[{index}]"),
                format!("{message}, or sip:user@host"),
            );
        }
    }
    if let Some(digest) = &sip.digest
        && digest.users.is_empty()
    {
        report(
            "sip.digest.users".to_owned(),
            "needs at least one name = \"password\"".to_owned(),
        );
    }
    let known_sources =
        !sip.allow.is_empty() || config.trunks.values().any(|t| !t.sources().is_empty());
    if config.reachable_from_outside() && !known_sources && sip.digest.is_none() {
        report(
            "sip.listen".to_owned(),
            "reaches other machines, so say who may call: set sip.allow (addresses), \
             sip.digest.users (passwords) or a trunk with addresses"
                .to_owned(),
        );
    }
}

fn validate_limits(config: &Config, report: &mut dyn FnMut(String, String)) {
    let limits = &config.limits;
    let rates = [
        (
            "requests_per_second_per_source",
            limits.requests_per_second_per_source,
        ),
        (
            "requests_per_second_of_strangers",
            limits.requests_per_second_of_strangers,
        ),
    ];
    for (key, rate) in rates {
        if rate == 0 {
            report(format!("limits.{key}"), "must be at least 1".to_owned());
        }
    }
    for (name, rates) in &limits.assistants {
        let key = format!("limits.assistants.{name}");
        if !config.assistants.contains_key(name) {
            report(key.clone(), "there is no such assistant".to_owned());
        }
        validate_rates(&key, *rates, report);
    }
}

fn validate_rates(key: &str, rates: Rates, report: &mut dyn FnMut(String, String)) {
    let given = [
        ("max_calls", rates.max_calls),
        ("calls_per_second", rates.calls_per_second),
    ];
    for (field, value) in given {
        if value == Some(0) {
            report(format!("{key}.{field}"), "must be at least 1".to_owned());
        }
    }
}

fn validate_rtp(config: &Config, report: &mut dyn FnMut(String, String)) {
    let rtp = &config.rtp;
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = rtp.bind.iter().partition(|ip| ip.is_ipv4());
    if v4.len() > 1 || v6.len() > 1 || rtp.bind.is_empty() {
        report(
            "rtp.bind".to_owned(),
            "is one address, or one of IPv4 and one of IPv6".to_owned(),
        );
    }
    if rtp.port_min < 1024 {
        report(
            "rtp.port_min".to_owned(),
            format!("{} is not from 1024 to 65534", rtp.port_min),
        );
    }
    let visits = match config.mailboxes.is_empty() {
        true => 0,
        false => config.limits.max_voicemail_calls,
    };
    let calls = config.limits.max_calls.saturating_add(visits);
    if rtp.port_max <= rtp.port_min {
        report(
            "rtp.port_max".to_owned(),
            format!(
                "{} is not above rtp.port_min ({})",
                rtp.port_max, rtp.port_min
            ),
        );
    } else if u32::from(rtp.port_max - rtp.port_min) + 1 < calls.saturating_mul(2) {
        report(
            "rtp.port_max".to_owned(),
            format!(
                "leaves too few ports for {calls} calls (limits.max_calls and \
                 limits.max_voicemail_calls): 2 for each"
            ),
        );
    }
    if config.reachable_from_outside() && rtp.bind.iter().all(IpAddr::is_loopback) {
        report(
            "rtp.bind".to_owned(),
            "is a loopback address while sip.listen reaches other machines, which would hear nothing: \
             use the same address as sip.listen, or 0.0.0.0"
                .to_owned(),
        );
    }
    if !(5..=3600).contains(&rtp.timeout_seconds) {
        report(
            "rtp.timeout_seconds".to_owned(),
            format!("{} is not from 5 to 3600", rtp.timeout_seconds),
        );
    }
}

fn validate_numbers(config: &Config, report: &mut dyn FnMut(String, String)) {
    for (index, rule) in config.numbers.iter().enumerate() {
        if let Some(name) = &rule.assistant
            && !config.assistants.contains_key(name)
        {
            let names: Vec<&str> = config.assistants.keys().map(String::as_str).collect();
            report(
                format!("numbers.[{index}].assistant"),
                format!(
                    "there is no assistant {name:?}; there are: {}",
                    names.join(", ")
                ),
            );
        }
        validate_server(&format!("numbers.[{index}]"), rule.server.as_ref(), report);
        mailbox::validate_number(config, &format!("numbers.[{index}]"), rule, report);
        // A star code of a telephone, such as *97, begins with one.
        let code = rule.number.strip_prefix('*').unwrap_or(&rule.number);
        let stars = code.matches('*').count();
        if rule.number.is_empty() || stars > 1 || (stars == 1 && !code.ends_with('*')) {
            report(
                format!("numbers.[{index}].number"),
                format!(
                    "{:?} is not a number or name, optionally ending in one *",
                    rule.number
                ),
            );
        }
    }
}

fn validate_outbound(key: &str, trunk: &Trunk, report: &mut dyn FnMut(String, String)) {
    let Some(outbound) = &trunk.outbound else {
        return;
    };
    for host in outbound.host.iter().filter(|host| !is_host(host)) {
        report(format!("{key}.outbound.host"), no_host(host));
    }
    if outbound.from == FromUser::Account && trunk.username.is_none() {
        report(
            format!("{key}.username"),
            "is needed, because calls come from the account (outbound.from)".to_owned(),
        );
    }
    if trunk.outbound_hosts().is_empty() {
        report(
            format!("{key}.outbound.host"),
            "is needed: the host that calls go to".to_owned(),
        );
    }
    for (index, pattern) in outbound.destinations.iter().enumerate() {
        if let Err(message) = pattern.parse::<Pattern>() {
            report(format!("{key}.outbound.destinations.[{index}]"), message);
        }
    }
    if let Some(caller) = &outbound.caller_id
        && caller.parse::<Number>().is_err()
    {
        report(
            format!("{key}.outbound.caller_id"),
            format!("{caller:?} is no telephone number"),
        );
    }
    if let Some(seconds) = outbound.ring_seconds
        && !(5..=300).contains(&seconds)
    {
        report(
            format!("{key}.outbound.ring_seconds"),
            format!("{seconds} is not from 5 to 300"),
        );
    }
}

fn is_host(text: &str) -> bool {
    let host = text.trim_start_matches("sips:");
    let host = host.trim_start_matches("sip:");
    !host.is_empty() && !host.contains(|c: char| c == '@' || c.is_whitespace())
}

fn no_host(text: &str) -> String {
    format!(
        "{text:?} is not a host like \"pbx.example.com\", \"pbx.example.com:5070\", \
         \"sip:pbx.example.com;transport=tcp\" or \"sips:pbx.example.com\""
    )
}

fn validate_trunk(key: &str, trunk: &Trunk, report: &mut dyn FnMut(String, String)) {
    validate_outbound(key, trunk, report);
    if Profile::named(&trunk.profile).is_none() {
        report(
            format!("{key}.profile"),
            format!(
                "there is no profile {:?}; there are: {}",
                trunk.profile,
                Profile::NAMES.join(", ")
            ),
        );
        return;
    }
    for (field, message) in trunk.numbers.mistakes() {
        report(format!("{key}.numbers.{field}"), message);
    }
    for (field, message) in trunk.session_timer.mistakes() {
        report(format!("{key}.session_timer.{field}"), message);
    }
    if !(1..=32).contains(&trunk.failover_seconds) {
        report(
            format!("{key}.failover_seconds"),
            format!("{} is not from 1 to 32", trunk.failover_seconds),
        );
    }
    if trunk.codecs.is_empty() {
        report(
            format!("{key}.codecs"),
            "needs at least one: PCMU, PCMA".to_owned(),
        );
    }
    if trunk.caller_headers.is_empty() {
        report(
            format!("{key}.caller_headers"),
            "needs at least one: p-asserted-identity, remote-party-id, from".to_owned(),
        );
    }
    validate_rates(&format!("{key}.limits"), trunk.limits, report);
    if trunk
        .domain
        .as_deref()
        .is_some_and(|domain| !is_host(domain))
    {
        report(
            format!("{key}.domain"),
            "is not a host name or address".to_owned(),
        );
    }
    if trunk.registers() {
        let needed = [
            ("registrar", !trunk.registrar.is_empty()),
            ("username", trunk.username.is_some()),
            ("password", trunk.password.is_some()),
        ];
        for (field, present) in needed {
            if !present {
                report(
                    format!("{key}.{field}"),
                    "is needed, because this trunk registers".to_owned(),
                );
            }
        }
        for registrar in &trunk.registrar {
            if !is_host(registrar) {
                report(format!("{key}.registrar"), no_host(registrar));
            }
        }
    } else if trunk.sources().is_empty() && trunk.outbound.is_none() {
        report(
            format!("{key}.allow"),
            "is needed: the addresses that this trunk's calls come from".to_owned(),
        );
    }
}
