//! The configuration file's objects in the store, so that the API shows them.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::secrets::{self, Keyring};
use super::{context, sealed};
use crate::config::{Config, Configured, Number, Trunk};
use crate::conversation::settings::Server;
use crate::store::{Object, ObjectKind, Origin, Saved, Store, StoreError};

/// Brings them in: pinned ones every time, as they are now; others once, to be changed there.
/// Pinned ones that the file has no more are removed.
pub(super) async fn bring_in(
    store: &Store,
    config: &Config,
    keyring: &Keyring,
) -> Result<(), StoreError> {
    let now = OffsetDateTime::now_utc();
    let wanted = objects(config, keyring, now);
    let there = store.all_objects().await?;
    let keys: BTreeSet<(ObjectKind, &str)> = wanted
        .iter()
        .map(|object| (object.kind, object.id.as_str()))
        .collect();
    for old in &there {
        let gone = !keys.contains(&(old.kind, old.id.as_str()));
        if gone && old.origin == Origin::Configuration {
            store.delete_object(old.kind, &old.id).await?;
        }
    }
    for object in &wanted {
        let before = there
            .iter()
            .find(|old| (old.kind, &old.id) == (object.kind, &object.id));
        let saved = match (before, object.origin) {
            (None, _) => store.add_object(object).await?,
            (Some(_), Origin::Api) => Saved::Kept,
            (Some(old), Origin::Configuration) => {
                match old.document == object.document && old.origin == object.origin {
                    true => Saved::Kept,
                    false => store.change_object(object).await?,
                }
            }
        };
        if saved == Saved::Taken {
            tracing::warn!(
                kind = object.kind.name(),
                id = object.id,
                "the API has an object with this number, which is not shown"
            );
        }
    }
    Ok(())
}

/// Whether a rule is a phone number of the API: a pattern is none, and a mailbox answers
/// otherwise.
pub(super) fn is_phone_number(number: &Number) -> bool {
    let answered = number.assistant.is_some() || number.server.is_some();
    answered && !number.number.ends_with('*')
}

fn objects(config: &Config, keyring: &Keyring, now: OffsetDateTime) -> Vec<Object> {
    let seeded = match config.store.configured {
        Configured::Pinned => Origin::Configuration,
        Configured::Seed => Origin::Api,
    };
    let object = |kind, id: &str, origin, mut document| {
        let secrets = secrets::split(&mut document);
        // Those of the file stay there, where it has the object.
        let secrets = match origin {
            Origin::Configuration => None,
            Origin::Api => sealed(keyring, &secrets, &context(kind, id)),
        };
        Object {
            kind,
            id: id.to_owned(),
            document,
            secrets,
            unique_key: (kind == ObjectKind::PhoneNumber).then(|| id.to_owned()),
            origin,
            created_at: now,
            updated_at: now,
        }
    };
    let trunks = config.trunks.iter().map(|(name, trunk)| {
        object(
            ObjectKind::Credential,
            name,
            Origin::Configuration,
            credential(name, trunk),
        )
    });
    let assistants = config.assistants.iter().map(|(name, settings)| {
        let mut document = fields(serde_json::to_value(settings).unwrap_or_default());
        document.retain(|_, value| !value.is_null());
        document.entry("name").or_insert_with(|| json!(name));
        if let Some(server) = &settings.server {
            document.insert("server".to_owned(), whole(server));
        }
        object(ObjectKind::Assistant, name, seeded, document)
    });
    let numbers = config.numbers.iter();
    let numbers = numbers.filter(|number| is_phone_number(number));
    let numbers = numbers.map(|number| {
        let document = phone_number(config, number);
        object(ObjectKind::PhoneNumber, &number.number, seeded, document)
    });
    trunks.chain(assistants).chain(numbers).collect()
}

/// A server with its secret, which is not written elsewhere.
fn whole(server: &Server) -> Value {
    let mut document = fields(serde_json::to_value(server).unwrap_or_default());
    document.retain(|_, value| !value.is_null());
    if let Some(secret) = &server.secret {
        document.insert("secret".to_owned(), json!(secret.expose()));
    }
    Value::Object(document)
}

fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// What can be said of a trunk in Vapi's words, without its password.
fn credential(name: &str, trunk: &Trunk) -> Map<String, Value> {
    let outbound = trunk
        .outbound_hosts()
        .iter()
        .map(|host| json!({ "ip": host, "inboundEnabled": false, "outboundEnabled": true }));
    let inbound = trunk.sources().into_iter().map(|network| {
        json!({
            "ip": network.addr().to_string(),
            "netmask": network.prefix_len(),
            "inboundEnabled": true,
            "outboundEnabled": false,
        })
    });
    let gateways: Vec<Value> = outbound.into_iter().chain(inbound).collect();
    let mut document = fields(json!({
        "provider": "byo-sip-trunk",
        "name": name,
        "gateways": gateways,
    }));
    if let Some(username) = &trunk.username {
        let plan = json!({ "authUsername": username });
        document.insert("outboundAuthenticationPlan".to_owned(), plan);
    }
    document
}

fn phone_number(config: &Config, number: &Number) -> Map<String, Value> {
    // The file's numbers belong to no trunk; Vapi's name one.
    let mut trunks = config.trunks.keys();
    let trunk = match (trunks.next(), trunks.next()) {
        (Some(only), None) => only.as_str(),
        _ => "configuration",
    };
    let mut document = fields(json!({
        "provider": "byo-phone-number",
        "number": number.number,
        "numberE164CheckEnabled": false,
        "credentialId": trunk,
        "assistantId": number.assistant,
        "server": number.server.as_ref().map(whole),
        "fallbackDestination": number.fallback,
    }));
    document.retain(|_, value| !value.is_null());
    document
}
