//! The `offhook` command: logs, configuration, runtime, then what was asked for.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use offhook::cli::{Cli, Command, Failure, print};
use offhook::{app, cli};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_logs(&cli);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return report(&Failure::Failed(format!("cannot start: {error}"))),
    };
    match runtime.block_on(run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure),
    }
}

/// Logs go to standard error, so that standard output is for results. `OFFHOOK_LOG` says what is
/// logged, in tracing's syntax; `OFFHOOK_LOG_FORMAT=json` how.
fn start_logs(cli: &Cli) {
    let default = match cli.command {
        Command::Serve(_) => "info,ort=warn,sqlx=warn,offhook::engines::supervisor::process=warn",
        Command::Replay(_) => {
            "warn,ort=error,sqlx=error,offhook::engines::supervisor::process=error"
        }
        _ => "warn,ort=error,sqlx=error",
    };
    let filter = EnvFilter::try_from_env("OFFHOOK_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    if std::env::var("OFFHOOK_LOG_FORMAT").is_ok_and(|format| format == "json") {
        logs.json().init();
    } else {
        logs.init();
    }
}

async fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Serve(command) => serve(&command).await,
        Command::Replay(command) => replay(&command).await,
        command => cli::run(command).await,
    }
}

async fn serve(command: &cli::Serve) -> Result<(), Failure> {
    let config = command.config()?;
    let stop = stop_on_signals()
        .map_err(|error| Failure::Failed(format!("cannot watch for signals: {error}")))?;
    app::serve(config, stop)
        .await
        .map_err(|error| Failure::Failed(error.to_string()))
}

async fn replay(command: &cli::Replay) -> Result<(), Failure> {
    let call = command.call().await?;
    let replay = app::Replay {
        config: call.config,
        assistant: call.assistant,
        object: call.object,
        caller: call.caller,
    };
    let now = app::replay(replay).await;
    let now = now.map_err(|error| Failure::Failed(error.to_string()))?;
    command.show(&call.then, &now);
    Ok(())
}

/// Turns true on SIGTERM or SIGINT; a second one ends the process at once.
fn stop_on_signals() -> std::io::Result<watch::Receiver<bool>> {
    let (stop, stopped) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        for last in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if last {
                std::process::exit(130);
            }
            stop.send_replace(true);
        }
    });
    Ok(stopped)
}

fn report(failure: &Failure) -> ExitCode {
    print::error(&failure.to_string());
    match failure {
        Failure::Usage(_) => ExitCode::from(2),
        Failure::Failed(_) => ExitCode::FAILURE,
    }
}
