//! `offhook voicemail`: the messages that callers left.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use time::format_description::well_known::Rfc3339;

use super::{Failure, Kept, KeptShown, print};
use crate::control::{self, Ask};
use crate::ids::MailboxName;
use crate::record::{Transcription, Voicemail, VoicemailState};
use crate::store::Store;

/// `offhook voicemail`.
#[derive(Debug, Args)]
pub struct Voicemails {
    #[command(subcommand)]
    command: Option<VoicemailCommand>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, Subcommand)]
enum VoicemailCommand {
    /// List messages, newest first.
    List(List),
    /// Show one message: who left it, when, and what was said.
    Show(Which),
    /// Copy one message's WAV file; "-" writes it to standard output, for a player.
    Export(Export),
    /// Mark messages as heard.
    Save(Several),
    /// Mark messages as new again.
    Renew(Several),
    /// Delete messages.
    Delete(Several),
}

#[derive(Debug, Args)]
struct List {
    /// Only this mailbox's.
    #[arg(long, value_name = "NAME")]
    mailbox: Option<String>,
    #[command(flatten)]
    at: KeptShown,
}

#[derive(Debug, Args)]
struct Which {
    /// The message's id, or the beginning of it.
    id: String,
    #[command(flatten)]
    at: KeptShown,
}

#[derive(Debug, Args)]
struct Several {
    /// The messages' ids, or the beginnings of them.
    #[arg(required = true)]
    ids: Vec<String>,
    #[command(flatten)]
    at: KeptShown,
}

#[derive(Debug, Args)]
struct Export {
    /// The message's id, or the beginning of it.
    id: String,
    /// The file to write, or "-".
    file: PathBuf,
    #[command(flatten)]
    kept: Kept,
}

/// What is done with a message.
#[derive(Clone, Copy)]
enum Change {
    Mark(VoicemailState),
    Delete,
}

pub(super) async fn voicemails(command: Voicemails) -> Result<(), Failure> {
    match command.command {
        None => list(command.list).await,
        Some(VoicemailCommand::List(command)) => list(command).await,
        Some(VoicemailCommand::Show(command)) => show(command).await,
        Some(VoicemailCommand::Export(command)) => export(command).await,
        Some(VoicemailCommand::Save(command)) => {
            change(command, Change::Mark(VoicemailState::Saved)).await
        }
        Some(VoicemailCommand::Renew(command)) => {
            change(command, Change::Mark(VoicemailState::New)).await
        }
        Some(VoicemailCommand::Delete(command)) => change(command, Change::Delete).await,
    }
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::Failed(error.to_string())
}

async fn list(command: List) -> Result<(), Failure> {
    let List { mailbox, at } = command;
    let mailbox = mailbox.map(MailboxName::new);
    let messages = match Store::open_existing(&at.kept.database()?)
        .await
        .map_err(failed)?
    {
        Some(store) => store.voicemails(mailbox.as_ref()).await.map_err(failed)?,
        None => Vec::new(),
    };
    if at.json {
        print::json(&messages);
    } else if messages.is_empty() {
        print::line(&format!("No messages in {}.", at.kept.database()?));
    } else {
        let rows: Vec<Vec<String>> = messages.iter().map(row).collect();
        print::table(
            &["ID", "TIME", "MAILBOX", "STATE", "FROM", "SECONDS", "SAYS"],
            &rows,
        );
    }
    Ok(())
}

fn row(message: &Voicemail) -> Vec<String> {
    vec![
        message.id.to_string(),
        message.created_at.format(&Rfc3339).unwrap_or_default(),
        message.mailbox.to_string(),
        message.state.to_string(),
        caller(message),
        format!("{:.1}", message.duration_ms as f64 / 1000.0),
        beginning(message.transcript.as_deref().unwrap_or("-")),
    ]
}

fn caller(message: &Voicemail) -> String {
    let number = message.customer.as_ref().map(|who| who.number.clone());
    number.unwrap_or_else(|| "unknown".to_owned())
}

/// As much of a text as fits a line.
fn beginning(text: &str) -> String {
    const MOST: usize = 60;
    match text.char_indices().nth(MOST) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}...", &text[..end]),
    }
}

async fn show(command: Which) -> Result<(), Failure> {
    let Which { id, at } = command;
    let (_, message) = open(&at.kept, &id, Access::Read).await?;
    match at.json {
        true => print::json(&message),
        false => describe(&message, &at.kept.data),
    }
    Ok(())
}

fn describe(message: &Voicemail, data: &Path) {
    let name = message.customer.as_ref().and_then(|who| who.name.clone());
    let name = name.map(|name| format!(" ({name})")).unwrap_or_default();
    let lines = [
        ("message", message.id.to_string()),
        ("mailbox", message.mailbox.to_string()),
        ("state", message.state.to_string()),
        ("from", format!("{}{name}", caller(message))),
        ("to", message.called.clone()),
        ("because", message.reason.to_string()),
        (
            "time",
            message.created_at.format(&Rfc3339).unwrap_or_default(),
        ),
        (
            "length",
            format!("{:.1} s", message.duration_ms as f64 / 1000.0),
        ),
        (
            "ended",
            message
                .ended
                .map_or_else(|| "not yet".to_owned(), |end| end.to_string()),
        ),
        ("call", message.call_id.to_string()),
        ("file", data.join(&message.file).display().to_string()),
    ];
    for (what, value) in lines {
        print::line(&format!("{what:<9}  {value}"));
    }
    print::line("");
    print::line(match (&message.transcript, message.transcription) {
        (Some(text), _) if !text.is_empty() => text,
        (Some(_), _) => "(no words)",
        (None, Transcription::Failed) => "(the transcript could not be made)",
        (None, Transcription::Off) => "(no transcript is wanted)",
        (None, _) => "(the transcript is not there yet)",
    });
}

async fn export(command: Export) -> Result<(), Failure> {
    let (_, message) = open(&command.kept, &command.id, Access::Read).await?;
    let source = command.kept.data.join(&message.file);
    let bytes =
        std::fs::read(&source).map_err(|error| failed(format!("{}: {error}", source.display())))?;
    if command.file == Path::new("-") {
        // A player that is closed is no error.
        let _ = std::io::stdout().lock().write_all(&bytes);
        return Ok(());
    }
    std::fs::write(&command.file, bytes)
        .map_err(|error| failed(format!("{}: {error}", command.file.display())))?;
    print::line(&format!("{} in {}", message.id, command.file.display()));
    Ok(())
}

async fn change(command: Several, change: Change) -> Result<(), Failure> {
    let Several { ids, at } = command;
    let mut changed = Vec::new();
    for id in &ids {
        let (store, message) = open(&at.kept, id, Access::Change).await?;
        match change {
            Change::Mark(state) => {
                store
                    .mark_voicemail(message.id, state)
                    .await
                    .map_err(failed)?;
            }
            Change::Delete => store
                .delete_voicemail(&at.kept.data, &message)
                .await
                .map_err(failed)?,
        }
        // A running server tells those who wait for messages; without one nobody waits.
        let mailbox = message.mailbox.to_string();
        let _ = control::ask(&at.kept.data, Ask::MailboxChanged { mailbox }).await;
        changed.push(message.id);
    }
    let done = match change {
        Change::Mark(state) => state.to_string(),
        Change::Delete => "deleted".to_owned(),
    };
    match at.json {
        true => print::json(&serde_json::json!({ "ids": changed, "now": done })),
        false => {
            for id in changed {
                print::line(&format!("{id} is {done}"));
            }
        }
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Change,
}

/// The one message whose id begins so.
async fn open(kept: &Kept, id: &str, access: Access) -> Result<(Store, Voicemail), Failure> {
    let database = kept.database()?;
    let none = || Failure::Failed(format!("there is no message {id} in {database}"));
    let store = match access {
        Access::Read => Store::open_existing(&database).await,
        Access::Change => Store::open_to_change(&database).await,
    };
    let store = store.map_err(failed)?.ok_or_else(none)?;
    let messages = store.voicemails(None).await.map_err(failed)?;
    let mut found = messages
        .into_iter()
        .filter(|message| !id.is_empty() && message.id.to_string().starts_with(id));
    match (found.next(), found.next()) {
        (None, _) => Err(none()),
        (Some(message), None)
            if access == Access::Change && message.state == VoicemailState::Recording =>
        {
            Err(Failure::Failed(format!("{} is being left now", message.id)))
        }
        (Some(message), None) => Ok((store, message)),
        (Some(_), Some(_)) => Err(Failure::Usage(format!(
            "more than one message's id begins with {id}"
        ))),
    }
}
