//! `offhook calls live|hold|resume|pause-recording|resume-recording|hangup|say|transfer`: what a running server does with its calls.

use std::path::{Path, PathBuf};

use clap::Args;
use time::format_description::well_known::Rfc3339;

use super::{Failure, print};
use crate::control::{self, Answer, Ask, CallSnapshot, Manner, Refusal};
use crate::ids::CallId;
use crate::record::CallType;

/// Where the running server is, and how to print.
#[derive(Debug, Args)]
pub struct At {
    /// Data folder of the server.
    #[arg(
        long,
        value_name = "DIR",
        env = "OFFHOOK_DATA",
        default_value = "./data"
    )]
    pub(super) data: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// A live call.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// The call's id, or the beginning of it.
    id: String,
    #[command(flatten)]
    at: At,
}

/// Something for the assistant to say.
#[derive(Debug, Args)]
pub(super) struct Say {
    /// The call's id, or the beginning of it.
    id: String,
    /// What to say, after what is being said.
    text: String,
    #[command(flatten)]
    at: At,
}

/// Somebody to pass a caller on to.
#[derive(Debug, Args)]
pub(super) struct Transfer {
    /// The call's id, or the beginning of it.
    id: String,
    /// A number, as the trunk's `outbound.destinations` allow it, or sip:user@host.
    target: String,
    /// Speak to the person called first.
    #[arg(long, conflicts_with = "bridge")]
    attended: bool,
    /// Call there and stay between the two, instead of asking the caller's side to (REFER).
    #[arg(long)]
    bridge: bool,
    /// What the person called hears first.
    #[arg(long, value_name = "TEXT")]
    message: Option<String>,
    /// The trunk to call through; not needed where there is only one.
    #[arg(long, value_name = "NAME")]
    trunk: Option<String>,
    #[command(flatten)]
    at: At,
}

/// A mailbox for a caller.
#[derive(Debug, Args)]
pub(super) struct LeaveMessage {
    /// The call's id, or the beginning of it.
    id: String,
    /// The mailbox; the assistant's or the number's where it is not named.
    #[arg(long, value_name = "NAME")]
    mailbox: Option<String>,
    #[command(flatten)]
    at: At,
}

/// Asks the server; a refusal is a failure.
pub(super) async fn ask(data: &Path, ask: Ask) -> Result<Answer, Failure> {
    let answer = control::ask(data, ask)
        .await
        .map_err(|error| Failure::Failed(error.to_string()))?;
    match answer {
        Answer::Refused { refusal, message } => Err(match refusal {
            Refusal::BadRequest | Refusal::AmbiguousCall => Failure::Usage(message),
            Refusal::UnknownCall | Refusal::NotNow | Refusal::NotAllowed => {
                Failure::Failed(message)
            }
        }),
        answer => Ok(answer),
    }
}

/// What the server says does not answer the question.
pub(super) fn strange() -> Failure {
    Failure::Failed("the server answers another question; is it another version?".to_owned())
}

pub(super) async fn live(at: At) -> Result<(), Failure> {
    let Answer::Calls(calls) = ask(&at.data, Ask::Calls).await? else {
        return Err(strange());
    };
    if at.json {
        print::json(&calls);
    } else if calls.is_empty() {
        print::line("No live calls.");
    } else {
        let rows: Vec<Vec<String>> = calls.iter().map(row).collect();
        print::table(
            &["ID", "SINCE", "WAY", "FROM", "TO", "ASSISTANT", "STATUS"],
            &rows,
        );
    }
    Ok(())
}

fn row(call: &CallSnapshot) -> Vec<String> {
    let way = match call.call_type {
        CallType::InboundPhoneCall => "in",
        CallType::OutboundPhoneCall => "out",
    };
    let status = match call.on_hold {
        true => "on hold".to_owned(),
        false => call.status.to_string(),
    };
    vec![
        call.id.to_string(),
        call.created_at.format(&Rfc3339).unwrap_or_default(),
        way.to_owned(),
        call.from.clone(),
        call.to.clone(),
        call.assistant.to_string(),
        status,
    ]
}

pub(super) async fn hold(which: Which) -> Result<(), Failure> {
    tell(&which.at, Ask::Hold { id: which.id }, "is on hold").await
}

pub(super) async fn resume(which: Which) -> Result<(), Failure> {
    tell(&which.at, Ask::Resume { id: which.id }, "goes on").await
}

pub(super) async fn pause_recording(which: Which) -> Result<(), Failure> {
    let what = Ask::PauseRecording { id: which.id };
    tell(&which.at, what, "is not recorded for the time being").await
}

pub(super) async fn resume_recording(which: Which) -> Result<(), Failure> {
    let what = Ask::ResumeRecording { id: which.id };
    tell(&which.at, what, "is recorded again").await
}

pub(super) async fn hangup(which: Which) -> Result<(), Failure> {
    tell(&which.at, Ask::Hangup { id: which.id }, "is ended").await
}

pub(super) async fn say(command: Say) -> Result<(), Failure> {
    let Say { id, text, at } = command;
    tell(&at, Ask::Say { id, text }, "will hear it").await
}

pub(super) async fn transfer(command: Transfer) -> Result<(), Failure> {
    let manner = match (command.attended, command.bridge) {
        (true, _) => Manner::Attended,
        (false, true) => Manner::Bridge,
        (false, false) => Manner::Blind,
    };
    let what = Ask::Transfer {
        id: command.id,
        target: command.target,
        trunk: command.trunk,
        manner,
        briefing: command.message,
    };
    tell(&command.at, what, "is being passed on").await
}

pub(super) async fn leave_message(command: LeaveMessage) -> Result<(), Failure> {
    let LeaveMessage { id, mailbox, at } = command;
    tell(&at, Ask::LeaveMessage { id, mailbox }, "leaves a message").await
}

async fn tell(at: &At, what: Ask, done: &str) -> Result<(), Failure> {
    let Answer::Done { id } = ask(&at.data, what).await? else {
        return Err(strange());
    };
    report(at, id, done);
    Ok(())
}

fn report(at: &At, id: CallId, done: &str) {
    match at.json {
        true => print::json(&serde_json::json!({ "id": id })),
        false => print::line(&format!("call {id} {done}")),
    }
}
