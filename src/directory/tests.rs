use serde_json::json;

use super::*;
use crate::ids::AssistantId;
use crate::store::testing::{Place, on_both_databases};

on_both_databases![
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
