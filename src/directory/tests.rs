use serde_json::json;

use super::*;
use crate::ids::AssistantId;
use crate::store::testing::{Place, on_both_databases};

on_both_databases![
    no_secret_is_shown_or_kept_in_clear,
    a_call_is_told_by_the_settings_that_it_was_made_with,
    a_configured_assistants_secrets_are_its_files,
    an_assistant_on_a_number_answers_the_next_call_and_still_does_after_a_restart,
    what_the_configuration_has_is_shown_and_cannot_be_changed,
    a_seeded_assistant_is_the_databases_from_then_on,
    a_number_is_there_once_and_names_what_is_there,
    documents_that_are_too_deep_or_hold_zero_characters_are_refused,
];

async fn open(place: &Place, config: Config) -> Directory {
    let keyring = Keyring::file(&place.folder.join("secrets.key"), [9; 32]).expect("a key");
    Directory::open(place.open().await, Arc::new(config), keyring)
        .await
        .expect("directory")
}

pub(super) fn fields(value: Value) -> Shown {
    match value {
        Value::Object(fields) => fields,
        other => panic!("{other} is no object"),
    }
}

fn configured() -> Config {
    let mut config = Config::default();
    let demo = AssistantSettings {
        first_message: Some("Hello.".to_owned()),
        ..AssistantSettings::default()
    };
    config.assistants.insert("demo".to_owned(), demo);
    config
}

fn answers(directory: &Directory, number: &str) -> Option<(String, Option<String>)> {
    let config = directory.published().borrow().clone();
    match config.answer_for(&[number])? {
        crate::config::Answer::Assistant { id, settings, .. } => {
            assert_ne!(id, AssistantId::new(""));
            Some((id.to_string(), settings.first_message.clone()))
        }
        _ => None,
    }
}

async fn an_assistant_on_a_number_answers_the_next_call_and_still_does_after_a_restart(
    place: Place,
) {
    let directory = open(&place, configured()).await;
    let trunk = json!({ "provider": "byo-sip-trunk", "gateways": [{ "ip": "192.0.2.7" }],
        "outboundAuthenticationPlan": { "authUsername": "u", "authPassword": "hush" } });
    let trunk = directory
        .create(ObjectKind::Credential, fields(trunk))
        .await
        .expect("made");
    assert!(!Value::from(trunk.clone()).to_string().contains("hush"));
    let assistant = json!({ "firstMessage": "Good day.", "theirs": [1, { "a": null }] });
    let assistant = directory
        .create(ObjectKind::Assistant, fields(assistant))
        .await
        .expect("made");
    assert_eq!(assistant["theirs"], json!([1, { "a": null }]));
    let number = json!({ "provider": "byo-phone-number", "number": "+4930123456",
        "credentialId": trunk["id"], "assistantId": assistant["id"] });
    let number = directory
        .create(ObjectKind::PhoneNumber, fields(number))
        .await
        .expect("made");
    let id = assistant["id"].as_str().expect("an id").to_owned();
    let expected = Some((id.clone(), Some("Good day.".to_owned())));
    assert_eq!(answers(&directory, "+4930123456"), expected);
    let patch = fields(json!({ "firstMessage": "Hello there.", "id": "other" }));
    directory
        .change(ObjectKind::Assistant, &id, patch)
        .await
        .expect("changed");
    let expected = Some((id, Some("Hello there.".to_owned())));
    assert_eq!(answers(&directory, "+4930123456"), expected);
    let again = open(&place, configured()).await;
    assert_eq!(answers(&again, "+4930123456"), expected);
    let config = again.published().borrow().clone();
    let trunk_id = trunk["id"].as_str().expect("an id");
    let password = config.trunks[trunk_id].password.as_ref().expect("kept");
    assert_eq!(password.expose(), "hush");
    let in_use = again.delete(ObjectKind::Credential, trunk_id).await;
    assert!(matches!(in_use, Err(Refused::Conflict(_))));
    let number_id = number["id"].as_str().expect("an id");
    again
        .delete(ObjectKind::PhoneNumber, number_id)
        .await
        .expect("deleted");
    again
        .delete(ObjectKind::Credential, trunk_id)
        .await
        .expect("deleted");
    assert_eq!(
        answers(&again, "+4930123456").expect("by default").0,
        "demo"
    );
}

async fn what_the_configuration_has_is_shown_and_cannot_be_changed(place: Place) {
    let directory = open(&place, configured()).await;
    let demo = directory
        .get(ObjectKind::Assistant, "demo")
        .await
        .expect("shown");
    assert_eq!(demo["firstMessage"], "Hello.");
    let patch = fields(json!({ "firstMessage": "No." }));
    let refused = directory.change(ObjectKind::Assistant, "demo", patch).await;
    assert!(matches!(refused, Err(Refused::Conflict(why)) if why.contains("configuration file")));
    drop(directory);
    let without = open(&place, Config::default()).await;
    let gone = without.get(ObjectKind::Assistant, "demo").await;
    assert!(matches!(gone, Err(Refused::Unknown("assistant"))));
}

async fn a_seeded_assistant_is_the_databases_from_then_on(place: Place) {
    let seeded = || {
        let mut config = configured();
        config.store.configured = Configured::Seed;
        config
    };
    let directory = open(&place, seeded()).await;
    let patch = fields(json!({ "firstMessage": "Changed." }));
    directory
        .change(ObjectKind::Assistant, "demo", patch)
        .await
        .expect("changed");
    let again = open(&place, seeded()).await;
    let expected = Some(("demo".to_owned(), Some("Changed.".to_owned())));
    assert_eq!(answers(&again, "anything"), expected);
}

async fn a_number_is_there_once_and_names_what_is_there(place: Place) {
    let directory = open(&place, configured()).await;
    let trunk = json!({ "provider": "byo-sip-trunk", "gateways": [{ "ip": "192.0.2.7" }] });
    let trunk = directory
        .create(ObjectKind::Credential, fields(trunk))
        .await
        .expect("made");
    let number = |assistant: &str| {
        fields(
            json!({ "provider": "byo-phone-number", "number": "+4930123456",
            "credentialId": trunk["id"], "assistantId": assistant }),
        )
    };
    let unknown = directory
        .create(ObjectKind::PhoneNumber, number("nobody"))
        .await;
    assert!(matches!(unknown, Err(Refused::Invalid(why)) if why[0].starts_with("assistantId")));
    directory
        .create(ObjectKind::PhoneNumber, number("demo"))
        .await
        .expect("made");
    let twice = directory
        .create(ObjectKind::PhoneNumber, number("demo"))
        .await;
    assert!(matches!(twice, Err(Refused::Conflict(_))));
}

async fn documents_that_are_too_deep_or_hold_zero_characters_are_refused(place: Place) {
    let directory = open(&place, configured()).await;
    let mut deep = json!(1);
    for _ in 0..40 {
        deep = json!([deep]);
    }
    for (value, why) in [
        (deep, "nested too deeply"),
        (json!("a\0b"), "zero character"),
    ] {
        let body = fields(json!({ "metadata": value }));
        let refused = directory.create(ObjectKind::Assistant, body).await;
        assert!(
            matches!(&refused, Err(Refused::Invalid(said)) if said[0].contains(why)),
            "{why}"
        );
    }
}

async fn no_secret_is_shown_or_kept_in_clear(place: Place) {
    let directory = open(&place, configured()).await;
    let server = json!({ "url": "https://example.com", "secret": "hush1",
        "headers": { "Authorization": "Bearer hush2", "x-tenant": "seven" } });
    let assistant = directory
        .create(ObjectKind::Assistant, fields(json!({ "server": server })))
        .await
        .expect("made");
    assert_eq!(assistant["server"]["headers"]["x-tenant"], "seven");
    let id = assistant["id"].as_str().expect("an id").to_owned();
    let patch = json!({ "server": { "url": "https://example.com", "timeoutSeconds": 5,
        "headers": { "x-tenant": "eight" } } });
    directory
        .change(ObjectKind::Assistant, &id, fields(patch))
        .await
        .expect("changed");
    let shown = directory.get(ObjectKind::Assistant, &id).await;
    let query = ObjectQuery {
        limit: 9,
        ..ObjectQuery::default()
    };
    let listed = directory.list(ObjectKind::Assistant, &query).await;
    let seen = format!(
        "{assistant:?} {:?} {:?}",
        shown.expect("shown"),
        listed.expect("listed")
    );
    let kept = directory.object(ObjectKind::Assistant, &id).await;
    let kept = kept.expect("kept");
    let sealed = String::from_utf8_lossy(kept.secrets.as_deref().expect("sealed")).into_owned();
    let document = Value::Object(kept.document).to_string();
    for text in [&seen, &sealed, &document] {
        assert!(!text.contains("hush"), "{text}");
    }
    let config = directory.published().borrow().clone();
    let server = config.assistants[&id].server.as_ref().expect("a server");
    assert_eq!(server.secret.as_ref().expect("kept").expose(), "hush1");
    assert_eq!(server.headers["Authorization"], "Bearer hush2");
    assert_eq!(server.headers["x-tenant"], "eight");
}

async fn a_call_is_told_by_the_settings_that_it_was_made_with(place: Place) {
    let mut config = configured();
    config.webhooks.server = serde_json::from_value(json!({ "url": "https://account" })).ok();
    let directory = open(&place, config).await;
    let store = place.open().await;
    let journal = crate::store::Journal::start(store.clone(), None);
    let made_with = async |seed: u8, made: Value| {
        let mut call = crate::store::tests::call(seed, OffsetDateTime::UNIX_EPOCH);
        call.assistant = AssistantId::new(if seed == 1 { "" } else { "demo" });
        journal.write_now(call.clone()).await.expect("written");
        let document = directory.seal_call(call.id, fields(made));
        assert!(!format!("{:?}", document.fields).contains("hush"));
        journal.write(crate::store::Entry::Document(call.id, Box::new(document)));
        journal.flush().await;
        let settings = directory.settings_of(call.id).await.expect("read");
        settings.expect("settings")
    };
    let own = json!({ "assistant": { "firstMessage": "Mine.", "server":
        { "url": "https://own", "secret": "hush" } }, "customer": {} });
    let own = made_with(1, own).await;
    assert_eq!(own.first_message.as_deref(), Some("Mine."));
    let server = own.server.expect("its own");
    assert_eq!(server.secret.expect("opened").expose(), "hush");
    let changed = json!({ "assistantOverrides": { "firstMessage": "Other." } });
    let changed = made_with(2, changed).await;
    assert_eq!(changed.first_message.as_deref(), Some("Other."));
    let url = changed.server.and_then(|server| server.url);
    assert_eq!(url.as_deref(), Some("https://account"));
    let plain = made_with(3, json!({})).await;
    assert_eq!(plain.first_message.as_deref(), Some("Hello."));
    let unknown = CallId::from_random([9; 16]);
    let unknown = directory.settings_of(unknown).await.expect("read");
    assert_eq!(unknown, None);
}

async fn a_configured_assistants_secrets_are_its_files(place: Place) {
    let server = json!({ "url": "https://example.com", "secret": "hush",
        "headers": { "x-api-key": "hush" } });
    let mut config = configured();
    let demo = config.assistants.get_mut("demo").expect("there");
    demo.server = serde_json::from_value(server).ok();
    let pinned = open(&place, config.clone()).await;
    let kept = pinned.object(ObjectKind::Assistant, "demo").await;
    let kept = kept.expect("kept");
    assert!(!Value::Object(kept.document).to_string().contains("hush"));
    assert_eq!(kept.secrets, None);
    drop(pinned);
    config.store.configured = Configured::Seed;
    let store = place.open().await;
    store
        .delete_object(ObjectKind::Assistant, "demo")
        .await
        .expect("deleted");
    let seeded = open(&place, config).await;
    let published = seeded.published().borrow().clone();
    let server = published.assistants["demo"].server.clone();
    let server = server.expect("a server");
    assert_eq!(server.secret.expect("sealed and opened").expose(), "hush");
    assert_eq!(server.headers["x-api-key"], "hush");
}
