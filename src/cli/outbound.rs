//! `offhook dial`: have an assistant of a running server call somebody.

use clap::Args;

use super::live::{At, ask, strange};
use super::{Failure, print};
use crate::control::{Answer, Ask};

/// `offhook dial`.
#[derive(Debug, Args)]
pub struct Dial {
    /// The assistant that calls, by its name in the configuration.
    assistant: String,
    /// The number to call, as the trunk's `outbound.destinations` allow it.
    number: String,
    /// The trunk to call through; not needed where there is only one.
    #[arg(long, value_name = "NAME")]
    trunk: Option<String>,
    /// Wait until the call is over; the exit code is 1 where nobody answered.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    at: At,
}

pub(super) async fn dial(command: Dial) -> Result<(), Failure> {
    let Dial {
        assistant,
        number,
        trunk,
        wait,
        at,
    } = command;
    let request = Ask::Dial {
        assistant,
        number,
        trunk,
        wait,
    };
    match ask(&at.data, request).await? {
        Answer::Done { id } => {
            match at.json {
                true => print::json(&serde_json::json!({ "id": id })),
                false => print::line(&format!("call {id} is being made")),
            }
            Ok(())
        }
        Answer::Over {
            id,
            answered,
            ended_reason,
        } => {
            let reason = ended_reason.map_or_else(|| "unknown".to_owned(), |it| it.to_string());
            let outcome = serde_json::json!({
                "id": id, "answered": answered, "endedReason": ended_reason,
            });
            match at.json {
                true => print::json(&outcome),
                false => print::line(&format!("call {id} ended: {reason}")),
            }
            match answered {
                true => Ok(()),
                false => Err(Failure::Failed(format!("nobody answered: {reason}"))),
            }
        }
        _ => Err(strange()),
    }
}
