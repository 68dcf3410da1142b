//! `offhook models`: what there is, and getting it here.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Failure, Serve, print};
use crate::config::Engines;
use crate::models::{Catalog, Console, FetchOptions, FileState, Listing, Pin};

/// `offhook models`.
#[derive(Debug, Args)]
pub struct Models {
    #[command(subcommand)]
    command: ModelsCommand,
}

#[derive(Debug, Args)]
struct Place {
    #[command(flatten)]
    serve: Serve,
    /// Folder of the models. [default: engines.models, else `models` in the data folder]
    #[arg(long, value_name = "DIR", env = "OFFHOOK_MODELS")]
    models: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum ModelsCommand {
    /// List every model with its use, licence, size and state.
    List {
        #[command(flatten)]
        place: Place,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Fetch models. Goes on where it stopped.
    Fetch {
        /// Names from the list; those that the configuration names if none is given.
        names: Vec<String>,
        #[command(flatten)]
        place: Place,
        /// Also fetch files whose hash the manifest does not know, and trust what comes first.
        #[arg(long)]
        allow_unpinned: bool,
    },
    /// Hash models again and report what is wrong.
    Verify {
        /// Names from the list; all that are there if none is given.
        names: Vec<String>,
        #[command(flatten)]
        place: Place,
    },
    /// Print where a model's file is.
    Path {
        /// Name from the list.
        name: String,
        #[command(flatten)]
        place: Place,
    },
}

impl Place {
    fn catalog(&self) -> Result<Catalog, Failure> {
        let folder = match &self.models {
            Some(folder) => folder.clone(),
            None => self.serve.config()?.models_folder(),
        };
        Catalog::embedded(folder).map_err(failed)
    }

    /// The models that the configuration names. What it gives as a file is not ours to fetch.
    fn configured(&self, catalog: &Catalog) -> Result<Vec<String>, Failure> {
        let engines = self.serve.config()?.engines;
        let turn = engines.turn_model().map(str::to_owned);
        let Engines {
            stt,
            llm,
            tts,
            vad,
            runtime,
            ..
        } = engines;
        let (ours, others): (Vec<String>, Vec<String>) = [vad, stt, llm, tts, runtime]
            .into_iter()
            .chain(turn)
            .partition(|name| catalog.model(name).is_ok());
        match others.iter().find(|name| !Path::new(name).is_file()) {
            None => Ok(ours),
            Some(name) => catalog.model(name).map(|_| ours).map_err(failed),
        }
    }
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::Failed(error.to_string())
}

pub(super) async fn models(command: Models) -> Result<(), Failure> {
    // Fetching and hashing block for minutes, so they get a thread of their own.
    let done = tokio::task::spawn_blocking(move || match command.command {
        ModelsCommand::List { place, json } => list(&place.catalog()?, json),
        ModelsCommand::Fetch {
            names,
            place,
            allow_unpinned,
        } => {
            let catalog = place.catalog()?;
            let names = match names.is_empty() {
                true => place.configured(&catalog)?,
                false => names,
            };
            fetch(&catalog, &names, allow_unpinned)
        }
        ModelsCommand::Verify { names, place } => verify(&place.catalog()?, &names),
        ModelsCommand::Path { name, place } => {
            let path = place.catalog()?.path_of(&name).map_err(failed)?;
            print::line(&path.display().to_string());
            Ok(())
        }
    });
    done.await.map_err(failed)?
}

fn list(catalog: &Catalog, as_json: bool) -> Result<(), Failure> {
    let listings = catalog.list();
    if as_json {
        let models: Vec<_> = listings
            .iter()
            .map(|listing| {
                json!({
                    "name": listing.model.name,
                    "use": listing.model.r#use.to_string(),
                    "default": listing.model.default,
                    "licence": listing.model.licence,
                    "bytes": bytes(listing),
                    "state": state(listing),
                })
            })
            .collect();
        print::json(&models);
        return Ok(());
    }
    let rows: Vec<Vec<String>> = listings
        .iter()
        .map(|listing| {
            vec![
                listing.model.name.clone(),
                listing.model.r#use.to_string(),
                if listing.model.default { "yes" } else { "" }.to_owned(),
                format!("{:.1} MB", bytes(listing) as f64 / 1e6),
                listing.model.licence.clone(),
                state(listing).to_owned(),
            ]
        })
        .collect();
    print::table(
        &["NAME", "USE", "DEFAULT", "SIZE", "LICENCE", "STATE"],
        &rows,
    );
    print::line(&format!("\nfolder: {}", catalog.folder().display()));
    Ok(())
}

/// Size of all files together, as far as the manifest knows it.
fn bytes(listing: &Listing<'_>) -> u64 {
    let size = |pin: &Pin| match pin {
        Pin::Pinned { size, .. } => *size,
        Pin::Unpinned => 0,
    };
    listing.model.files.iter().map(|file| size(&file.pin)).sum()
}

fn state(listing: &Listing<'_>) -> &'static str {
    if listing.is_ready() {
        return "ready";
    }
    let states = listing.files.iter().map(|(_, state)| state);
    let word = |state: &FileState| match state {
        FileState::Wrong { .. } => (3, "damaged"),
        FileState::Missing => (2, "missing"),
        FileState::Unverified => (1, "unverified"),
        FileState::Verified => (0, "ready"),
    };
    states.map(word).max().map_or("ready", |(_, word)| word)
}

fn fetch(catalog: &Catalog, names: &[String], allow_unpinned: bool) -> Result<(), Failure> {
    let options = FetchOptions {
        allow_unpinned,
        ..FetchOptions::default()
    };
    let report = catalog
        .fetch(names, &options, &Console::new())
        .map_err(failed)?;
    for fetched in &report.fetched {
        print::line(&fetched.path.display().to_string());
    }
    match report.failed.is_empty() {
        true => Ok(()),
        false => {
            let reasons: Vec<String> = report.failed.iter().map(ToString::to_string).collect();
            Err(Failure::Failed(reasons.join("\n")))
        }
    }
}

fn verify(catalog: &Catalog, names: &[String]) -> Result<(), Failure> {
    let listings = catalog.verify(names, &Console::new()).map_err(failed)?;
    let mut wrong = Vec::new();
    for listing in &listings {
        for (file, state) in &listing.files {
            match state {
                FileState::Verified => print::line(&format!("{}: right", file.name)),
                FileState::Wrong { why } => wrong.push(format!("{}: {why}", file.name)),
                FileState::Missing if names.is_empty() => {}
                FileState::Missing | FileState::Unverified => {
                    wrong.push(format!("{}: not there", file.name));
                }
            }
        }
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(Failure::Failed(wrong.join("\n"))),
    }
}
