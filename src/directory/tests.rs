use serde_json::json;

use super::*;
use crate::ids::AssistantId;

struct Folder(std::path::PathBuf);

impl Folder {
    fn new() -> Self {
        let id: u64 = rand::rng().random();
        let path = std::env::temp_dir().join(format!("offhook-directory-{id}"));
        std::fs::create_dir_all(&path).expect("folder");
        Self(path)
    }

    async fn directory(&self, config: Config) -> Directory {
        let keyring = Keyring::file(&self.0.join("secrets.key"), [9; 32]).expect("a key");
        let store = Store::open(&self.0).await.expect("store");
        Directory::open(store, Arc::new(config), keyring)
            .await
            .expect("directory")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
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

#[tokio::test]
async fn an_assistant_on_a_number_answers_the_next_call_and_still_does_after_a_restart() {
    let folder = Folder::new();
    let directory = folder.directory(configured()).await;
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
    let again = folder.directory(configured()).await;
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

#[tokio::test]
async fn what_the_configuration_has_is_shown_and_cannot_be_changed() {
    let folder = Folder::new();
    let directory = folder.directory(configured()).await;
    let demo = directory
        .get(ObjectKind::Assistant, "demo")
        .await
        .expect("shown");
    assert_eq!(demo["firstMessage"], "Hello.");
    let patch = fields(json!({ "firstMessage": "No." }));
    let refused = directory.change(ObjectKind::Assistant, "demo", patch).await;
    assert!(matches!(refused, Err(Refused::Conflict(why)) if why.contains("configuration file")));
    drop(directory);
    let without = folder.directory(Config::default()).await;
    let gone = without.get(ObjectKind::Assistant, "demo").await;
    assert!(matches!(gone, Err(Refused::Unknown("assistant"))));
}

#[tokio::test]
async fn a_seeded_assistant_is_the_databases_from_then_on() {
    let folder = Folder::new();
    let seeded = || {
        let mut config = configured();
        config.store.configured = Configured::Seed;
        config
    };
    let directory = folder.directory(seeded()).await;
    let patch = fields(json!({ "firstMessage": "Changed." }));
    directory
        .change(ObjectKind::Assistant, "demo", patch)
        .await
        .expect("changed");
    let again = folder.directory(seeded()).await;
    let expected = Some(("demo".to_owned(), Some("Changed.".to_owned())));
    assert_eq!(answers(&again, "anything"), expected);
}

#[tokio::test]
async fn a_number_is_there_once_and_names_what_is_there() {
    let folder = Folder::new();
    let directory = folder.directory(configured()).await;
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

#[tokio::test]
async fn documents_that_are_too_deep_or_hold_zero_characters_are_refused() {
    let folder = Folder::new();
    let directory = folder.directory(configured()).await;
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
