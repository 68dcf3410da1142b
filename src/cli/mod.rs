//! The command line. Exit codes: 0 done, 1 failed, 2 wrong arguments or configuration.

mod api_key;
mod calls;
mod dial;
mod ladder;
mod live;
mod models;
mod operator;
mod outbound;
pub mod print;
mod replay;
mod trunks;
mod voicemail;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Config};
use crate::store::Database;

pub use replay::Replay;

/// A self-hosted phone server for AI voice agents.
#[derive(Debug, Parser)]
#[command(name = "offhook", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be asked for.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server. Needs no configuration: SIP and RTP on 127.0.0.1, HTTP on 127.0.0.1:8080.
    Serve(Serve),
    /// Report every mistake of a configuration at once.
    Check(Check),
    /// Call an assistant from here: say lines from WAV files, listen, and time the answers.
    Call(dial::Call),
    /// Call the demo assistant of a running server with speech made on this machine.
    Demo(dial::Demo),
    /// Have an assistant of a running server call a number through a trunk.
    Dial(outbound::Dial),
    /// List the calls that a server has kept, show one, or act on a live one.
    Calls(calls::Calls),
    /// Have the recorded caller of a kept call talk with an assistant again, and show what was heard
    /// and said then and now.
    Replay(Replay),
    /// List the messages that callers left, show, export, mark or delete them.
    Voicemail(voicemail::Voicemails),
    /// Show where each trunk of a running server stands with its registrar.
    Trunks(live::At),
    /// Make, list or delete keys of the API.
    ApiKey(api_key::ApiKeys),
    /// Make, list or delete those who may use the dashboard.
    Operator(operator::Operators),
    /// List, fetch and verify the models.
    Models(models::Models),
}

/// Where the configuration is.
#[derive(Clone, Debug, Args)]
pub struct Serve {
    /// Configuration file (TOML); see scripts/offhook.example.toml.
    #[arg(long, value_name = "FILE", env = "OFFHOOK_CONFIG")]
    pub config: Option<PathBuf>,
    /// Data folder: database, recordings, phrases, models. [default: ./data]
    #[arg(long, value_name = "DIR", env = "OFFHOOK_DATA")]
    pub data: Option<PathBuf>,
}

impl Serve {
    /// The configuration, file and environment together.
    ///
    /// # Errors
    /// All its mistakes.
    pub fn config(&self) -> Result<Config, Failure> {
        let mut config = config::load(self.config.as_deref(), std::env::vars())
            .map_err(|mistakes| Failure::Usage(mistakes.to_string()))?;
        if config.engines.models.is_none() {
            config.engines.models = std::env::var_os("OFFHOOK_MODELS").map(PathBuf::from);
        }
        if let Some(data) = &self.data {
            config.data.clone_from(data);
        }
        Ok(config)
    }
}

/// Where a server keeps things, and how they are shown.
#[derive(Debug, Args)]
pub(crate) struct KeptShown {
    #[command(flatten)]
    kept: Kept,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Where a server keeps things.
#[derive(Clone, Debug, Args)]
pub struct Kept {
    /// Data folder of the server.
    #[arg(
        long,
        value_name = "DIR",
        env = "OFFHOOK_DATA",
        default_value = "./data"
    )]
    pub data: PathBuf,
    /// URL of the server's PostgreSQL database, as its `store.url`; SQLite in the data folder
    /// without it. Better in the environment, because other users see arguments.
    #[arg(
        long = "store",
        value_name = "URL",
        env = "OFFHOOK__store__url",
        hide_env_values = true
    )]
    pub store_url: Option<String>,
}

impl Kept {
    /// The database.
    ///
    /// # Errors
    /// Where the URL is of no database that can be used.
    pub fn database(&self) -> Result<Database, Failure> {
        Database::new(&self.data, self.store_url.as_deref())
            .map_err(|error| Failure::Usage(format!("--store: {error}")))
    }
}

/// `offhook check`.
#[derive(Clone, Debug, Args)]
pub struct Check {
    /// Configuration file.
    #[arg(long, value_name = "FILE", env = "OFFHOOK_CONFIG")]
    pub config: Option<PathBuf>,
    /// Print the mistakes as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The arguments or the configuration are wrong.
    #[error("{0}")]
    Usage(String),
    /// Something did not work.
    #[error("{0}")]
    Failed(String),
}

/// Runs any command but `serve` and `replay`.
///
/// # Errors
/// What to tell whoever ran it.
pub async fn run(command: Command) -> Result<(), Failure> {
    match command {
        // What needs every part of the server; main runs it.
        Command::Serve(_) | Command::Replay(_) => Ok(()),
        Command::Check(command) => check(&command),
        Command::Call(command) => dial::call(command).await,
        Command::Demo(command) => dial::demo(command).await,
        Command::Dial(command) => outbound::dial(command).await,
        Command::Calls(command) => calls::calls(command).await,
        Command::Voicemail(command) => voicemail::voicemails(command).await,
        Command::Trunks(command) => trunks::trunks(command).await,
        Command::ApiKey(command) => api_key::api_keys(command).await,
        Command::Operator(command) => operator::operators(command).await,
        Command::Models(command) => models::models(command).await,
    }
}

fn check(command: &Check) -> Result<(), Failure> {
    let result = config::load(command.config.as_deref(), std::env::vars());
    let mistakes = result.err().map(|mistakes| mistakes.0).unwrap_or_default();
    if command.json {
        let list: Vec<_> = mistakes
            .iter()
            .map(|mistake| {
                serde_json::json!({
                    "source": mistake.source.to_string(),
                    "key": mistake.key,
                    "message": mistake.message,
                })
            })
            .collect();
        print::json(&serde_json::json!({ "mistakes": list }));
    }
    match mistakes.len() {
        0 => {
            if !command.json {
                print::line("The configuration is right.");
            }
            Ok(())
        }
        count if command.json => Err(Failure::Usage(format!("{count} mistakes"))),
        _ => Err(Failure::Usage(config::Mistakes(mistakes).to_string())),
    }
}
