//! Assistants, phone numbers and credentials of the API: checked, kept, and put together with the
//! configuration into what calls are routed by.
//!
//! ```text
//! API ─▶ read (fields, warnings) ─▶ secrets apart, encrypted ─▶ store ─┐
//! configuration file ──────────────────────────────────────────────────┴─▶ Config ─▶ published
//! ```
//!
//! What is published is a whole configuration: the next call is routed by it, and calls that are
//! going on keep what they began with.

mod assistant;
mod credential;
mod document;
mod overrides;
mod phone_number;
mod secrets;
mod seed;

use std::sync::Arc;

use rand::RngExt;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use tokio::sync::{Mutex, watch};
use uuid::Uuid;

use crate::config::{Config, Configured};
use crate::conversation::settings::AssistantSettings;
use crate::ids::CallId;
use crate::record::CallDocument;
use crate::store::{Object, ObjectKind, ObjectQuery, Origin, Saved, Store, StoreError};

pub use document::{ORGANISATION, Warning, stamp};
pub use secrets::{KeyError, Keyring};

/// Why a request on an object is not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Fields are wrong; each text names one and what is allowed.
    #[error("{}", .0.join("; "))]
    Invalid(Vec<String>),
    /// There is no such object.
    #[error("there is no such {0}")]
    Unknown(&'static str),
    /// It cannot be as things are.
    #[error("{0}")]
    Conflict(String),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why the directory cannot be opened. The operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The key of secrets cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The objects of this server. Cheap to clone.
#[derive(Clone)]
pub struct Directory {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    /// The file's.
    base: Arc<Config>,
    keyring: Keyring,
    /// One change at a time, so that what is published last is newest.
    changing: Mutex<()>,
    published: watch::Sender<Arc<Config>>,
}

impl Inner {
    /// Which providers the configuration has the keys of.
    fn usable(&self) -> impl Fn(&str, &str) -> bool {
        |part, name| self.base.providers.serves(part, name)
    }
}

/// An object as it is shown: its document with id, times and warnings, without its secrets.
pub type Shown = Map<String, Value>;

impl Directory {
    /// Brings the objects of the configuration into the store, and publishes.
    ///
    /// # Errors
    /// Where the key of secrets or the database cannot be used.
    pub async fn open(
        store: Store,
        base: Arc<Config>,
        keyring: Keyring,
    ) -> Result<Self, DirectoryError> {
        let directory = Self {
            inner: Arc::new(Inner {
                store,
                published: watch::Sender::new(Arc::clone(&base)),
                base,
                keyring,
                changing: Mutex::new(()),
            }),
        };
        let inner = &directory.inner;
        seed::bring_in(&inner.store, &inner.base, &inner.keyring).await?;
        directory.publish().await?;
        Ok(directory)
    }

    /// The configuration that calls are routed by, the file's and the API's objects together.
    pub fn published(&self) -> watch::Receiver<Arc<Config>> {
        self.inner.published.subscribe()
    }

    /// Objects of a kind, newest first.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn list(&self, kind: ObjectKind, query: &ObjectQuery) -> Result<Vec<Shown>, Refused> {
        let objects = self.inner.store.objects(kind, query).await?;
        Ok(objects.iter().map(|object| self.show(object)).collect())
    }

    /// One object.
    ///
    /// # Errors
    /// Where there is none, or the database fails.
    pub async fn get(&self, kind: ObjectKind, id: &str) -> Result<Shown, Refused> {
        Ok(self.show(&self.object(kind, id).await?))
    }

    async fn object(&self, kind: ObjectKind, id: &str) -> Result<Object, Refused> {
        let found = self.inner.store.object(kind, id).await?;
        found.ok_or(Refused::Unknown(kind.name()))
    }

    /// Makes an object.
    ///
    /// # Errors
    /// Where fields are wrong, something is there once only and taken, or the database fails.
    pub async fn create(&self, kind: ObjectKind, body: Shown) -> Result<Shown, Refused> {
        let _one = self.inner.changing.lock().await;
        let document = document::given(body)?;
        self.check(kind, &document).await?;
        let now = OffsetDateTime::now_utc();
        let id = uuid::Builder::from_random_bytes(rand::rng().random()).into_uuid();
        let object = self.sealed(kind, id.to_string(), document, now, now);
        match self.inner.store.add_object(&object).await? {
            Saved::Kept => {}
            Saved::Taken | Saved::Gone => return Err(taken(&object)),
        }
        self.publish().await?;
        Ok(self.show(&object))
    }

    /// Changes the fields of an object that `patch` has; `null` removes one.
    ///
    /// # Errors
    /// As [`Self::create`]; and where there is no such object or the configuration file has it.
    pub async fn change(&self, kind: ObjectKind, id: &str, patch: Shown) -> Result<Shown, Refused> {
        let _one = self.inner.changing.lock().await;
        let before = self.object(kind, id).await?;
        not_pinned(&before)?;
        let mut document = self.whole(&before);
        let mut patch = document::given_patch(patch)?;
        for (field, value) in &mut patch {
            if let Some(before) = document.get(field) {
                secrets::keep(before, value);
            }
        }
        document::patch(&mut document, patch);
        self.check(kind, &document).await?;
        let now = OffsetDateTime::now_utc();
        let object = self.sealed(kind, before.id, document, before.created_at, now);
        match self.inner.store.change_object(&object).await? {
            Saved::Kept => {}
            Saved::Taken => return Err(taken(&object)),
            Saved::Gone => return Err(Refused::Unknown(kind.name())),
        }
        self.publish().await?;
        Ok(self.show(&object))
    }

    /// Deletes an object and returns what it was.
    ///
    /// # Errors
    /// Where there is none, another needs it, the configuration file has it, or the database
    /// fails.
    pub async fn delete(&self, kind: ObjectKind, id: &str) -> Result<Shown, Refused> {
        let _one = self.inner.changing.lock().await;
        let object = self.object(kind, id).await?;
        not_pinned(&object)?;
        if let Some(user) = self.user_of(kind, id).await? {
            return Err(Refused::Conflict(format!(
                "the phone number {user} uses this {}: change that first",
                kind.name()
            )));
        }
        self.inner.store.delete_object(kind, id).await?;
        self.publish().await?;
        Ok(self.show(&object))
    }

    /// The phone number that an object is needed for.
    async fn user_of(&self, kind: ObjectKind, id: &str) -> Result<Option<String>, StoreError> {
        let field = match kind {
            ObjectKind::Credential => "credentialId",
            ObjectKind::Assistant | ObjectKind::PhoneNumber => return Ok(None),
        };
        let all = self.inner.store.all_objects().await?;
        let user = all.into_iter().find(|object| {
            object.kind == ObjectKind::PhoneNumber
                && object.document.get(field).and_then(Value::as_str) == Some(id)
        });
        Ok(user.map(|user| user.id))
    }

    /// An object's document with its secrets, for whoever needs them.
    pub fn whole(&self, object: &Object) -> Map<String, Value> {
        let mut document = object.document.clone();
        let context = context(object.kind, &object.id);
        self.unseal(&mut document, object.secrets.as_deref(), &context);
        document
    }

    fn unseal(&self, document: &mut Map<String, Value>, sealed: Option<&[u8]>, context: &str) {
        let Some(sealed) = sealed else { return };
        match self.inner.keyring.open(sealed, context) {
            Ok(secrets) => secrets::join(document, &secrets),
            Err(error) => tracing::error!(context, %error, "secrets cannot be read"),
        }
    }

    /// The settings of an assistant that comes with a request, with fields of it replaced, and
    /// what is to be said of them.
    ///
    /// # Errors
    /// What is wrong.
    pub fn transient(
        &self,
        document: &Map<String, Value>,
        overrides: Option<&Map<String, Value>>,
    ) -> Result<(AssistantSettings, Vec<Warning>), Refused> {
        let document = match overrides {
            Some(overrides) => overrides::apply(document, overrides),
            None => document.clone(),
        };
        assistant::read(&document, &self.inner.usable()).map_err(Refused::Invalid)
    }

    /// The settings of a kept assistant with fields of it replaced for one call
    /// (`assistantOverrides`).
    ///
    /// # Errors
    /// Where there is no such assistant, fields are wrong or the database fails.
    pub async fn overridden(
        &self,
        id: &str,
        overrides: &Map<String, Value>,
    ) -> Result<AssistantSettings, Refused> {
        let object = self.object(ObjectKind::Assistant, id).await?;
        let document = overrides::apply(&self.whole(&object), overrides);
        let read = assistant::read(&document, &self.inner.usable());
        let (settings, _) = read.map_err(Refused::Invalid)?;
        Ok(settings)
    }

    /// What is kept of a request that a call is made by: its secrets apart, encrypted.
    pub fn seal_call(&self, call: CallId, mut fields: Map<String, Value>) -> CallDocument {
        let secrets = secrets::split(&mut fields);
        CallDocument {
            fields,
            secrets: sealed(&self.inner.keyring, &secrets, &call_context(call)),
        }
    }

    /// A call's request with its secrets.
    pub fn open_call(&self, call: CallId, document: &CallDocument) -> Map<String, Value> {
        let mut fields = document.fields.clone();
        self.unseal(
            &mut fields,
            document.secrets.as_deref(),
            &call_context(call),
        );
        fields
    }

    /// The settings that a kept call was made with, as far as they are still known: those of its
    /// request, else its assistant's as they are now. The server that is told of it is the
    /// assistant's, the phone number's or the account's. `None` where there is none of all that.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn settings_of(&self, call: CallId) -> Result<Option<AssistantSettings>, StoreError> {
        let Some(call) = self.inner.store.stored_call(call).await? else {
            return Ok(None);
        };
        let record = &call.record;
        let fields = self.open_call(record.id, &call.document);
        let part = |name: &str| fields.get(name).and_then(Value::as_object);
        let overrides = part("assistantOverrides");
        let given = match (part("assistant"), overrides) {
            (Some(assistant), overrides) => self.transient(assistant, overrides).map(|(it, _)| it),
            (None, Some(overrides)) => self.overridden(record.assistant.as_str(), overrides).await,
            (None, None) => Err(Refused::Unknown("assistant")),
        };
        let config = Arc::clone(&self.inner.published.borrow());
        let kept = || config.assistants.get(record.assistant.as_str()).cloned();
        let known = given.ok().or_else(kept);
        let own = known.as_ref().and_then(|settings| settings.server.clone());
        let own = own.filter(|server| server.url.is_some());
        let server = own.or_else(|| config.server_of(record.phone_number_id.as_deref()));
        if known.is_none() && server.is_none() {
            return Ok(None);
        }
        let settings = known.unwrap_or_default();
        Ok(Some(AssistantSettings { server, ..settings }))
    }

    async fn check(&self, kind: ObjectKind, document: &Map<String, Value>) -> Result<(), Refused> {
        match kind {
            ObjectKind::Assistant => {
                assistant::read(document, &self.inner.usable()).map_err(Refused::Invalid)?;
            }
            ObjectKind::Credential => {
                credential::read(document).map_err(Refused::Invalid)?;
            }
            ObjectKind::PhoneNumber => {
                let number = phone_number::read(document).map_err(Refused::Invalid)?;
                let needs = [
                    (
                        ObjectKind::Credential,
                        "credentialId",
                        Some(number.credential_id),
                    ),
                    (ObjectKind::Assistant, "assistantId", number.assistant_id),
                ];
                for (kind, field, id) in needs {
                    let Some(id) = id else { continue };
                    if self.inner.store.object(kind, &id).await?.is_none() {
                        let message = format!("{field}: there is no {} {id:?}", kind.name());
                        return Err(Refused::Invalid(vec![message]));
                    }
                }
            }
        }
        Ok(())
    }

    fn sealed(
        &self,
        kind: ObjectKind,
        id: String,
        mut document: Map<String, Value>,
        created_at: OffsetDateTime,
        updated_at: OffsetDateTime,
    ) -> Object {
        let unique_key = match kind {
            ObjectKind::PhoneNumber => phone_number::unique_key(&document),
            ObjectKind::Assistant | ObjectKind::Credential => None,
        };
        let secrets = secrets::split(&mut document);
        Object {
            kind,
            secrets: sealed(&self.inner.keyring, &secrets, &context(kind, &id)),
            id,
            document,
            unique_key,
            origin: Origin::Api,
            created_at,
            updated_at,
        }
    }

    fn show(&self, object: &Object) -> Shown {
        let warnings = match object.origin {
            Origin::Configuration => Vec::new(),
            Origin::Api => warnings(object, &self.inner.usable()),
        };
        document::show(object, &warnings)
    }

    /// Puts the file's and the API's objects together.
    async fn publish(&self) -> Result<(), StoreError> {
        let objects = self.inner.store.all_objects().await?;
        let mut config = Config::clone(&self.inner.base);
        if config.store.configured == Configured::Seed {
            config.assistants.clear();
            config
                .numbers
                .retain(|number| !seed::is_phone_number(number));
        }
        for object in objects.iter().filter(|object| object.origin == Origin::Api) {
            if let Err(mistakes) = add(&mut config, object, &self.whole(object)) {
                // It was checked when it was made: by another version, or its secrets are lost.
                tracing::error!(
                    kind = object.kind.name(),
                    id = object.id,
                    ?mistakes,
                    "an object is left out"
                );
            }
        }
        self.inner.published.send_replace(Arc::new(config));
        Ok(())
    }
}

fn add(
    config: &mut Config,
    object: &Object,
    whole: &Map<String, Value>,
) -> Result<(), Vec<String>> {
    match object.kind {
        ObjectKind::Assistant => {
            let providers = config.providers.clone();
            let usable = |part: &str, name: &str| providers.serves(part, name);
            let (settings, _) = assistant::read(whole, &usable)?;
            config.assistants.insert(object.id.clone(), settings);
        }
        ObjectKind::Credential => {
            if let (Some(trunk), _) = credential::read(whole)? {
                config.trunks.insert(object.id.clone(), trunk);
            }
        }
        ObjectKind::PhoneNumber => {
            let account = config.webhooks.server.is_some();
            let read = phone_number::read(whole)?;
            config.numbers.extend(read.rule(&object.id, account));
        }
    }
    Ok(())
}

/// What an object's fields cannot do, as it was kept.
fn warnings(object: &Object, usable: assistant::Usable<'_>) -> Vec<Warning> {
    let read = match object.kind {
        ObjectKind::Assistant => {
            assistant::read(&object.document, usable).map(|(_, warnings)| warnings)
        }
        ObjectKind::Credential => credential::read(&object.document).map(|(_, warnings)| warnings),
        ObjectKind::PhoneNumber => phone_number::read(&object.document).map(|read| read.warnings),
    };
    read.unwrap_or_default()
}

/// Secrets as they are kept; `None` where there are none.
fn sealed(keyring: &Keyring, secrets: &secrets::Secrets, context: &str) -> Option<Vec<u8>> {
    let nonce = rand::rng().random();
    (!secrets.is_empty()).then(|| keyring.seal(secrets, context, nonce))
}

fn context(kind: ObjectKind, id: &str) -> String {
    format!("{}/{id}", kind.name())
}

fn call_context(call: CallId) -> String {
    format!("call/{call}")
}

fn taken(object: &Object) -> Refused {
    let key = object.unique_key.as_deref().unwrap_or_default();
    Refused::Conflict(format!("there is a {} {key:?} already", object.kind.name()))
}

fn not_pinned(object: &Object) -> Result<(), Refused> {
    match object.origin {
        Origin::Api => Ok(()),
        Origin::Configuration => Err(Refused::Conflict(format!(
            "the {} {:?} is the configuration file's: change it there",
            object.kind.name(),
            object.id
        ))),
    }
}

/// Whether a text is an id that the API gave.
pub fn is_uuid(text: &str) -> bool {
    Uuid::parse_str(text).is_ok()
}

#[cfg(test)]
mod tests;
