//! Secrets of objects: taken out of the document, and encrypted at rest (XChaCha20-Poly1305).

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use serde_json::{Map, Value};

/// How names of fields end that hold secrets, in lower case and wherever they are: `apiKey`,
/// `authPassword`, `awsSecretAccessKey`, `clientSecret`, ...
const SECRET_FIELDS: &[&str] = &[
    "accesskey",
    "accesstoken",
    "apikey",
    "authtoken",
    "connectionstring",
    "passphrase",
    "password",
    "privatekey",
    "private_key",
    "refreshtoken",
    "secret",
    "secretkey",
    "bearertoken",
];

/// What the names of HTTP header fields have in them whose values are secrets, in lower case.
const SECRET_HEADERS: &[&str] = &[
    "auth",
    "cookie",
    "credential",
    "key",
    "password",
    "secret",
    "signature",
    "token",
];

/// Fields that hold HTTP header fields.
const HEADERS: &str = "headers";

const NONCE: usize = 24;
const KEY: usize = 32;

/// Secrets by the JSON pointer of their field.
pub(super) type Secrets = Map<String, Value>;

/// Takes the secrets out of a document.
pub(super) fn split(document: &mut Map<String, Value>) -> Secrets {
    let mut secrets = Secrets::new();
    take(document, "", &mut secrets);
    secrets
}

fn take(fields: &mut Map<String, Value>, place: &str, secrets: &mut Secrets) {
    take_where(fields, place, secrets, is_secret);
}

/// Whether a field holds a secret. What is no text is something that is named like one: the
/// property of a schema, say.
fn is_secret(name: &str, value: &Value) -> bool {
    let name = name.to_ascii_lowercase();
    value.is_string() && SECRET_FIELDS.iter().any(|end| name.ends_with(end))
}

fn is_secret_header(name: &str, value: &Value) -> bool {
    let name = name.to_ascii_lowercase();
    value.is_string() && SECRET_HEADERS.iter().any(|part| name.contains(part))
}

fn take_where(
    fields: &mut Map<String, Value>,
    place: &str,
    secrets: &mut Secrets,
    is_secret: fn(&str, &Value) -> bool,
) {
    let names: Vec<String> = fields.keys().cloned().collect();
    for name in names {
        let here = format!("{place}/{}", name.replace('~', "~0").replace('/', "~1"));
        if fields
            .get(&name)
            .is_some_and(|value| is_secret(&name, value))
        {
            if let Some(secret) = fields.remove(&name) {
                secrets.insert(here, secret);
            }
            continue;
        }
        match fields.get_mut(&name) {
            Some(Value::Object(headers)) if name == HEADERS => {
                take_where(headers, &here, secrets, is_secret_header);
            }
            Some(value) => take_from(value, &here, secrets),
            None => {}
        }
    }
}

fn take_from(value: &mut Value, place: &str, secrets: &mut Secrets) {
    match value {
        Value::Object(fields) => take(fields, place, secrets),
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                take_from(item, &format!("{place}/{index}"), secrets);
            }
        }
        _ => {}
    }
}

/// Puts secrets back. Those whose place is gone are left out.
pub(super) fn join(document: &mut Map<String, Value>, secrets: &Secrets) {
    let mut whole = Value::Object(std::mem::take(document));
    for (pointer, secret) in secrets {
        let Some((parent, name)) = pointer.rsplit_once('/') else {
            continue;
        };
        if let Some(Value::Object(fields)) = whole.pointer_mut(parent) {
            let name = name.replace("~1", "/").replace("~0", "~");
            fields.insert(name, secret.clone());
        }
    }
    if let Value::Object(fields) = whole {
        *document = fields;
    }
}

/// Lets a field that is written anew keep the secrets that it had, which nobody can send back
/// because they are never shown. Not where it leads elsewhere (`url`), or whoever may write an
/// object could have its secrets sent to a place of theirs; and not those that are `null` now.
pub(super) fn keep(before: &Value, now: &mut Value) {
    if urls(before) != urls(now) {
        return;
    }
    let mut secrets = Secrets::new();
    take_from(&mut before.clone(), "", &mut secrets);
    for (pointer, secret) in secrets {
        let Some((parent, name)) = pointer.rsplit_once('/') else {
            continue;
        };
        if let Some(Value::Object(fields)) = now.pointer_mut(parent) {
            let name = name.replace("~1", "/").replace("~0", "~");
            fields.entry(name).or_insert(secret);
        }
    }
}

fn urls(value: &Value) -> Vec<&Value> {
    match value {
        Value::Object(fields) => {
            let own = fields.get("url").into_iter();
            own.chain(fields.values().flat_map(urls)).collect()
        }
        Value::Array(items) => items.iter().flat_map(urls).collect(),
        _ => Vec::new(),
    }
}

/// The key of secrets.
#[derive(Clone)]
pub struct Keyring(XChaCha20Poly1305);

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyring")
    }
}

/// Why secrets cannot be encrypted. The operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The text is no key.
    #[error("{from}: a key is 32 bytes in base64, such as `openssl rand -base64 32` makes")]
    NoKey {
        /// Where it was read.
        from: String,
    },
    /// The file cannot be read or made.
    #[error("cannot read or make the key file {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// What was kept is not what was encrypted with this key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("they were encrypted with another key, or changed")]
pub(super) struct Sealed;

impl Keyring {
    /// A key from 32 bytes in base64.
    ///
    /// # Errors
    /// Where the text is no such key; `from` says where it was read.
    pub fn read(text: &str, from: &str) -> Result<Self, KeyError> {
        let no_key = || KeyError::NoKey {
            from: from.to_owned(),
        };
        let bytes = STANDARD.decode(text.trim()).map_err(|_| no_key())?;
        let key: [u8; KEY] = bytes.try_into().map_err(|_| no_key())?;
        Ok(Self(XChaCha20Poly1305::new(&key.into())))
    }

    /// The key in a file. Where there is no such file it is made, with `fresh` as its key and for
    /// its owner's eyes only.
    ///
    /// # Errors
    /// Where the file cannot be used.
    pub fn file(path: &Path, fresh: [u8; KEY]) -> Result<Self, KeyError> {
        let failed = |source| KeyError::File {
            path: path.to_owned(),
            source,
        };
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        match made {
            Ok(mut file) => {
                let text = format!("{}\n", STANDARD.encode(fresh));
                file.write_all(text.as_bytes()).map_err(failed)?;
                file.sync_all().map_err(failed)?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
        }
        let mut text = String::new();
        let file = OpenOptions::new().read(true).open(path).map_err(failed)?;
        file.take(1024).read_to_string(&mut text).map_err(failed)?;
        Self::read(&text, &path.display().to_string())
    }

    /// Encrypts secrets for one object, which `context` names; `nonce` is random, drawn by the
    /// caller.
    pub(super) fn seal(&self, secrets: &Secrets, context: &str, nonce: [u8; NONCE]) -> Vec<u8> {
        let text = serde_json::to_vec(secrets).unwrap_or_default();
        let payload = Payload {
            msg: &text,
            aad: context.as_bytes(),
        };
        let mut sealed = nonce.to_vec();
        // It fails only for more than 256 GB.
        sealed.extend(
            self.0
                .encrypt(&XNonce::from(nonce), payload)
                .unwrap_or_default(),
        );
        sealed
    }

    /// # Errors
    /// Where they were encrypted with another key, for another object, or changed.
    pub(super) fn open(&self, sealed: &[u8], context: &str) -> Result<Secrets, Sealed> {
        let (nonce, text) = sealed.split_at_checked(NONCE).ok_or(Sealed)?;
        let nonce: [u8; NONCE] = nonce.try_into().map_err(|_| Sealed)?;
        let payload = Payload {
            msg: text,
            aad: context.as_bytes(),
        };
        let text = self
            .0
            .decrypt(&XNonce::from(nonce), payload)
            .map_err(|_| Sealed)?;
        serde_json::from_slice(&text).map_err(|_| Sealed)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::directory::tests::fields;

    #[test]
    fn secrets_leave_the_document_and_come_back_to_their_places() {
        let whole = fields(json!({
            "outboundAuthenticationPlan": { "authUsername": "a", "authPassword": "b" },
            "servers": [{ "url": "c" }, { "url/x": { "secret": "d" } }],
        }));
        let mut document = whole.clone();
        let secrets = split(&mut document);
        let kept = Value::from(document.clone()).to_string();
        assert!(!kept.contains("\"b\"") && !kept.contains("\"d\""), "{kept}");
        let keyring = Keyring::read(&STANDARD.encode([7; 32]), "here").expect("a key");
        let sealed = keyring.seal(&secrets, "credential/1", [1; 24]);
        assert_eq!(keyring.open(&sealed, "credential/2"), Err(Sealed));
        let other = Keyring::read(&STANDARD.encode([8; 32]), "here").expect("a key");
        assert_eq!(other.open(&sealed, "credential/1"), Err(Sealed));
        join(
            &mut document,
            &keyring.open(&sealed, "credential/1").expect("opened"),
        );
        assert_eq!(document, whole);
    }

    #[test]
    fn header_fields_and_keys_of_providers_are_secrets_and_what_is_named_like_them_is_none() {
        let mut document = fields(json!({
            "server": { "secret": "s1", "headers": { "Authorization": "s2", "X-Api-Key": "s3",
                "x-tenant": "seven" } },
            "awsSecretAccessKey": "s4",
            "model": { "tools": [{ "server": { "headers": { "cookie": "s5" } } }],
                "maxTokens": 5, "schema": { "properties": { "password": { "type": "string" } } } },
        }));
        assert_eq!(split(&mut document).len(), 5);
        let left = json!({
            "server": { "headers": { "x-tenant": "seven" } },
            "model": { "tools": [{ "server": { "headers": {} } }],
                "maxTokens": 5, "schema": { "properties": { "password": { "type": "string" } } } },
        });
        assert_eq!(Value::Object(document), left);
    }

    #[test]
    fn a_field_that_is_written_anew_keeps_its_secrets_unless_it_leads_elsewhere() {
        let before = json!({ "url": "https://a", "secret": "s", "headers": { "x-key": "k" } });
        let kept = |now: Value| {
            let mut now = now;
            keep(&before, &mut now);
            now
        };
        let same = json!({ "url": "https://a", "timeoutSeconds": 5, "headers": {} });
        assert_eq!(
            kept(same),
            json!({ "url": "https://a", "timeoutSeconds": 5, "secret": "s", "headers": { "x-key": "k" } })
        );
        let elsewhere = json!({ "url": "https://b", "headers": {} });
        assert_eq!(kept(elsewhere.clone()), elsewhere);
        let removed = json!({ "url": "https://a", "secret": null });
        assert_eq!(kept(removed.clone()), removed);
        let other = json!({ "url": "https://a", "secret": "t" });
        assert_eq!(kept(other.clone()), other);
    }

    #[test]
    fn a_key_that_is_none_is_refused_with_what_is_needed() {
        let error = Keyring::read("short", "OFFHOOK_SECRETS_KEY").expect_err("no key");
        assert!(
            error.to_string().contains("openssl rand -base64 32"),
            "{error}"
        );
    }
}
