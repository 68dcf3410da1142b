//! `offhook api-key`: who may use the API.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Args, Subcommand};
use rand::RngExt;
use serde_json::json;
use sha2::{Digest, Sha256};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::{Failure, KeptShown, print};
use crate::record::Scope;
use crate::store::{ApiKey, Store};

/// `offhook api-key`.
#[derive(Debug, Args)]
pub struct ApiKeys {
    #[command(subcommand)]
    command: ApiKeyCommand,
}

#[derive(Debug, Subcommand)]
enum ApiKeyCommand {
    /// Make a key and print it, this once: only its hash is kept.
    Create(Create),
    /// List the keys: their ids, names, scopes and expiry, not the keys.
    List(KeptShown),
    /// Delete a key; it is good for nothing from then on.
    Delete(Delete),
}

#[derive(Debug, Args)]
struct Create {
    /// What to call it.
    #[arg(long, value_parser = name)]
    name: String,
    /// What it may: read, write (objects) or call (place calls, act on them); repeat it for more.
    /// All of them where not given.
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<Scope>,
    /// Days until it expires; never where not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    expires_days: Option<u32>,
    #[command(flatten)]
    at: KeptShown,
}

#[derive(Debug, Args)]
struct Delete {
    /// The key's id, as `list` shows it.
    id: String,
    #[command(flatten)]
    at: KeptShown,
}

fn name(text: &str) -> Result<String, String> {
    match text.chars().count() {
        1..=40 if !text.trim().is_empty() => Ok(text.to_owned()),
        _ => Err("must have 1 to 40 characters".to_owned()),
    }
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::Failed(error.to_string())
}

/// Runs the command.
///
/// # Errors
/// What to tell whoever ran it.
pub(super) async fn api_keys(command: ApiKeys) -> Result<(), Failure> {
    match command.command {
        ApiKeyCommand::Create(command) => create(command).await,
        ApiKeyCommand::List(at) => list(&at).await,
        ApiKeyCommand::Delete(command) => delete(&command).await,
    }
}

async fn create(command: Create) -> Result<(), Failure> {
    let Create {
        name,
        scopes,
        expires_days,
        at,
    } = command;
    let random: [u8; 32] = rand::rng().random();
    let secret = format!("offhook_{}", URL_SAFE_NO_PAD.encode(random));
    let digest = Sha256::digest(secret.as_bytes());
    let hash: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let now = OffsetDateTime::now_utc();
    let key = ApiKey {
        id: Uuid::from_bytes(rand::rng().random()).to_string(),
        name,
        scopes: match scopes.is_empty() {
            true => Scope::ALL.into_iter().collect(),
            false => scopes.into_iter().collect(),
        },
        created_at: now,
        expires_at: expires_days.map(|days| now + Duration::days(i64::from(days))),
    };
    // Before the first start as well, so that a key can be there with it.
    let store = Store::open_database(&at.kept.database()?)
        .await
        .map_err(failed)?;
    store.add_api_key(&key, &hash).await.map_err(failed)?;
    store.close().await;
    if at.json {
        let mut shown = shown(&key);
        shown["key"] = json!(secret);
        print::json(&shown);
    } else {
        print::line(&secret);
    }
    Ok(())
}

async fn opened(at: &KeptShown) -> Result<Option<Store>, Failure> {
    let database = at.kept.database()?;
    Store::open_to_change(&database).await.map_err(failed)
}

async fn list(at: &KeptShown) -> Result<(), Failure> {
    let keys = match opened(at).await? {
        Some(store) => store.api_keys().await.map_err(failed)?,
        None => Vec::new(),
    };
    if at.json {
        print::json(&keys.iter().map(shown).collect::<Vec<_>>());
    } else if keys.is_empty() {
        print::line("No keys. Make one with `offhook api-key create --name NAME`.");
    } else {
        let rows: Vec<Vec<String>> = keys.iter().map(row).collect();
        print::table(&["ID", "NAME", "SCOPES", "CREATED", "EXPIRES"], &rows);
    }
    Ok(())
}

fn scopes(key: &ApiKey) -> Vec<String> {
    key.scopes.iter().map(ToString::to_string).collect()
}

fn time_of(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}

fn row(key: &ApiKey) -> Vec<String> {
    vec![
        key.id.clone(),
        key.name.clone(),
        scopes(key).join(" "),
        time_of(key.created_at),
        key.expires_at.map_or_else(|| "never".to_owned(), time_of),
    ]
}

fn shown(key: &ApiKey) -> serde_json::Value {
    json!({
        "id": key.id,
        "name": key.name,
        "scopes": scopes(key),
        "createdAt": time_of(key.created_at),
        "expiresAt": key.expires_at.map(time_of),
    })
}

async fn delete(command: &Delete) -> Result<(), Failure> {
    let none = || Failure::Failed(format!("there is no key with id {}", command.id));
    let store = opened(&command.at).await?.ok_or_else(none)?;
    match store.delete_api_key(&command.id).await.map_err(failed)? {
        true if command.at.json => print::json(&json!({ "id": command.id })),
        true => print::line("Deleted."),
        false => return Err(none()),
    }
    Ok(())
}
