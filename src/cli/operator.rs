//! `offhook operator`: who may use the dashboard.

use std::io::{self, BufRead, IsTerminal};

use clap::{Args, Subcommand};
use rand::RngExt;
use serde_json::json;
use time::OffsetDateTime;

use super::{Failure, KeptShown, print};
use crate::store::{Store, hash_password, operator_name};

/// Letters of a password that we make; none looks like another.
const LETTERS: &[u8] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Letters in it: 100 bits.
const LENGTH: usize = 20;

/// `offhook operator`.
#[derive(Debug, Args)]
pub struct Operators {
    #[command(subcommand)]
    command: OperatorCommand,
}

#[derive(Debug, Subcommand)]
enum OperatorCommand {
    /// Make an operator, or give one another password, which ends their sessions.
    Create(Create),
    /// List the operators.
    List(KeptShown),
    /// Delete an operator; their sessions end.
    Delete(Delete),
}

#[derive(Debug, Args)]
struct Create {
    /// The name to log in with: letters, digits, dots, dashes, underscores.
    #[arg(long)]
    name: String,
    /// Read the password (10 characters or more) from the first line of standard input; without
    /// it one is made and printed.
    #[arg(long)]
    password_stdin: bool,
    #[command(flatten)]
    at: KeptShown,
}

#[derive(Debug, Args)]
struct Delete {
    /// The operator's name.
    name: String,
    #[command(flatten)]
    at: KeptShown,
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::Failed(error.to_string())
}

/// Runs the command.
///
/// # Errors
/// What to tell whoever ran it.
pub(super) async fn operators(command: Operators) -> Result<(), Failure> {
    match command.command {
        OperatorCommand::Create(command) => create(command).await,
        OperatorCommand::List(at) => list(&at).await,
        OperatorCommand::Delete(command) => delete(&command).await,
    }
}

async fn create(command: Create) -> Result<(), Failure> {
    let wrong = Failure::Usage;
    operator_name(&command.name).map_err(|error| wrong(error.to_string()))?;
    let password = match command.password_stdin {
        true => read_password()?,
        false => made_up(),
    };
    let salt: [u8; 16] = rand::rng().random();
    let hash = hash_password(&password, &salt).map_err(|error| wrong(error.to_string()))?;
    // Before the first start as well.
    let store = Store::open_database(&command.at.kept.database()?)
        .await
        .map_err(failed)?;
    let now = OffsetDateTime::now_utc();
    let saved = store.save_operator(&command.name, &hash, now).await;
    saved.map_err(failed)?;
    store.close().await;
    let shown = (!command.password_stdin).then_some(password);
    match (command.at.json, shown) {
        (true, shown) => print::json(&json!({ "name": command.name, "password": shown })),
        (false, Some(password)) => print::line(&password),
        (false, None) => print::line(&format!("{} may log in", command.name)),
    }
    Ok(())
}

fn read_password() -> Result<String, Failure> {
    let input = io::stdin();
    if input.is_terminal() {
        print::line("The password, then Enter (it is shown as you type):");
    }
    let mut line = String::new();
    input.lock().read_line(&mut line).map_err(failed)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn made_up() -> String {
    let mut random = rand::rng();
    let letter = |_| {
        let place = random.random_range(0..LETTERS.len());
        char::from(LETTERS[place])
    };
    (0..LENGTH).map(letter).collect()
}

async fn list(at: &KeptShown) -> Result<(), Failure> {
    let opened = Store::open_to_change(&at.kept.database()?).await;
    let names = match opened.map_err(failed)? {
        Some(store) => store.operators().await.map_err(failed)?,
        None => Vec::new(),
    };
    match at.json {
        true => print::json(&json!(names)),
        false => names.iter().for_each(|name| print::line(name)),
    }
    Ok(())
}

async fn delete(command: &Delete) -> Result<(), Failure> {
    let opened = Store::open_to_change(&command.at.kept.database()?).await;
    let deleted = match opened.map_err(failed)? {
        Some(store) => store.delete_operator(&command.name).await.map_err(failed)?,
        None => false,
    };
    if !deleted {
        return Err(failed(format!("there is no operator {}", command.name)));
    }
    match command.at.json {
        true => print::json(&json!({ "name": command.name, "now": "deleted" })),
        false => print::line(&format!("{} is deleted", command.name)),
    }
    Ok(())
}
