//! The configuration file's objects in the store, so that the API shows them.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::config::{Config, Configured, Number, Trunk};
use crate::store::{Object, ObjectKind, Origin, Saved, Store, StoreError};

/// Brings them in: pinned ones every time, as they are now; others once, to be changed there.
/// Pinned ones that the file has no more are removed.
pub(super) async fn bring_in(store: &Store, config: &Config) -> Result<(), StoreError> {
    let now = OffsetDateTime::now_utc();
    let wanted = objects(config, now);
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

fn objects(config: &Config, now: OffsetDateTime) -> Vec<Object> {
    let seeded = match config.store.configured {
        Configured::Pinned => Origin::Configuration,
        Configured::Seed => Origin::Api,
    };
    let object = |kind, id: &str, origin, document| Object {
        kind,
        id: id.to_owned(),
        document,
        secrets: None,
        unique_key: (kind == ObjectKind::PhoneNumber).then(|| id.to_owned()),
        origin,
        created_at: now,
        updated_at: now,
    };
    let trunks = config.trunks.iter().map(|(name, trunk)| {
        object(
            ObjectKind::Credential,
            name,
            Origin::Configuration,
            credential(name, trunk),
        )
    });
    let assistants = config.assistants.iter().filter_map(|(name, settings)| {
        let Ok(Value::Object(mut document)) = serde_json::to_value(settings) else {
            return None;
        };
        document.retain(|_, value| !value.is_null());
        document.entry("name").or_insert_with(|| json!(name));
        Some(object(ObjectKind::Assistant, name, seeded, document))
    });
    // A pattern is no phone number, and a mailbox answers otherwise.
    let plain = |number: &&Number| number.assistant.is_some() && !number.number.ends_with('*');
    let numbers = config.numbers.iter().filter(plain).map(|number| {
        let document = phone_number(config, number);
        object(ObjectKind::PhoneNumber, &number.number, seeded, document)
    });
    trunks.chain(assistants).chain(numbers).collect()
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
        .outbound_host()
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
    fields(json!({
        "provider": "byo-phone-number",
        "number": number.number,
        "numberE164CheckEnabled": false,
        "credentialId": trunk,
        "assistantId": number.assistant,
    }))
}
