//! The models that there are, and those that are here.

use std::fs;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::fetch::{self, FetchError, FetchOptions, FetchReport};
use super::manifest::{File, Manifest, ManifestError, Model, Pin};
use super::progress::Reporter;
use super::stamps::{Stamps, sha256_of};

/// The manifest that this version was built with.
const EMBEDDED: &str = include_str!("../../models/manifest.toml");

/// Why a model cannot be named or used. Whoever runs the server can mend it.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CatalogError {
    /// The manifest has none of this name for this platform.
    #[error("there is no model \"{name}\"; there are: {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The names that there are, joined.
        known: String,
    },
    /// It has not been fetched.
    #[error("model \"{name}\" is not here: {} is missing; run `offhook models fetch {name}`", path.display())]
    Missing {
        /// The model.
        name: String,
        /// The first of its files that is missing.
        path: PathBuf,
    },
    /// A file has another size than the manifest says.
    #[error(
        "model \"{name}\" is damaged: {} has {found} bytes instead of {expected}; run `offhook \
         models fetch {name}`", path.display()
    )]
    Damaged {
        /// The model.
        name: String,
        /// The file.
        path: PathBuf,
        /// Its size.
        found: u64,
        /// What its size should be.
        expected: u64,
    },
}

/// How a file in the models folder stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileState {
    /// Not there.
    Missing,
    /// There, and not hashed since it last changed.
    Unverified,
    /// There, and its hash is the manifest's, or for an unpinned file the one recorded when it
    /// was first fetched.
    Verified,
    /// There, with another size or hash.
    Wrong {
        /// Which of them, and how.
        why: String,
    },
}

/// A model and how its files stand.
#[derive(Clone, Debug)]
pub struct Listing<'a> {
    /// The manifest's entry.
    pub model: &'a Model,
    /// One state for each of its files.
    pub files: Vec<(&'a File, FileState)>,
}

impl Listing<'_> {
    /// Whether every file is there and verified.
    pub fn is_ready(&self) -> bool {
        self.files
            .iter()
            .all(|(_, state)| *state == FileState::Verified)
    }
}

/// The manifest, with the folder that models are kept in.
#[derive(Clone, Debug)]
pub struct Catalog {
    manifest: Manifest,
    folder: PathBuf,
}

impl Catalog {
    /// The catalogue of the embedded manifest for this machine's platform.
    ///
    /// # Errors
    /// [`ManifestError`] if the manifest is wrong, which its test rules out.
    pub fn embedded(folder: impl Into<PathBuf>) -> Result<Self, ManifestError> {
        Self::load(EMBEDDED, folder)
    }

    /// The catalogue of a manifest's text for this machine's platform.
    ///
    /// # Errors
    /// [`ManifestError`] naming the entry and the field.
    pub fn load(manifest: &str, folder: impl Into<PathBuf>) -> Result<Self, ManifestError> {
        let platform = format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH);
        Ok(Self {
            manifest: Manifest::parse(manifest, &platform)?,
            folder: folder.into(),
        })
    }

    /// Every model for this platform, in the manifest's order.
    pub fn models(&self) -> &[Model] {
        &self.manifest.models
    }

    /// Where the files are kept.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Looks a model up by name.
    ///
    /// # Errors
    /// [`CatalogError::Unknown`], listing the names that there are.
    pub fn model(&self, name: &str) -> Result<&Model, CatalogError> {
        self.models()
            .iter()
            .find(|model| model.name == name)
            .ok_or_else(|| CatalogError::Unknown {
                name: name.into(),
                known: self
                    .models()
                    .iter()
                    .map(|model| model.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", "),
            })
    }

    /// The named models, or the default set if no name is given.
    ///
    /// # Errors
    /// [`CatalogError::Unknown`] for the first name that there is not.
    pub fn select(&self, names: &[String]) -> Result<Vec<&Model>, CatalogError> {
        if names.is_empty() {
            return Ok(self.models().iter().filter(|model| model.default).collect());
        }
        names.iter().map(|name| self.model(name)).collect()
    }

    /// The path of a model's first file, the one that an engine is given. All its files are there
    /// and have the right sizes; nothing is hashed, so this is cheap.
    ///
    /// # Errors
    /// [`CatalogError`] if there is no such model, or it was not fetched, or only in part.
    pub fn path_of(&self, name: &str) -> Result<PathBuf, CatalogError> {
        let model = self.model(name)?;
        for file in &model.files {
            let path = self.folder.join(&file.name);
            let found = match fs::metadata(&path) {
                Ok(metadata) if metadata.is_file() => metadata.len(),
                _ => {
                    return Err(CatalogError::Missing {
                        name: name.into(),
                        path,
                    });
                }
            };
            if let Some(expected) = file.size().filter(|&expected| expected != found) {
                return Err(CatalogError::Damaged {
                    name: name.into(),
                    path,
                    found,
                    expected,
                });
            }
        }
        // A model has at least one file: the manifest's parser sees to it.
        Ok(model
            .files
            .first()
            .map_or_else(|| self.folder.clone(), |file| self.folder.join(&file.name)))
    }

    /// Every model with the state of its files, from sizes and recorded hashes alone.
    pub fn list(&self) -> Vec<Listing<'_>> {
        let stamps = Stamps::load(&self.folder);
        self.models()
            .iter()
            .map(|model| self.listing(model, |file| self.glance(file, &stamps)))
            .collect()
    }

    /// Hashes what is there of the named models (or of all of them) again and says how each file
    /// stands. Changes nothing.
    ///
    /// # Errors
    /// [`CatalogError::Unknown`] for the first name that there is not.
    pub fn verify(
        &self,
        names: &[String],
        reporter: &dyn Reporter,
    ) -> Result<Vec<Listing<'_>>, CatalogError> {
        let models = match names {
            [] => self.models().iter().collect(),
            names => self.select(names)?,
        };
        let stamps = Stamps::load(&self.folder);
        Ok(models
            .into_iter()
            .map(|model| self.listing(model, |file| self.hash(file, &stamps, reporter)))
            .collect())
    }

    /// Fetches the named models, or the default set if no name is given. What is there and
    /// verified is left alone; one model's failure does not keep the others from being fetched.
    ///
    /// # Errors
    /// [`FetchError`] if nothing could be begun: an unknown name, another fetch under way, a
    /// folder that cannot be written. Failures of single models are in the report.
    pub fn fetch(
        &self,
        names: &[String],
        options: &FetchOptions,
        reporter: &dyn Reporter,
    ) -> Result<FetchReport, FetchError> {
        fetch::run(self, names, options, reporter)
    }

    #[cfg(test)]
    pub(super) fn replace_sources(&mut self, sources: Vec<super::manifest::Source>) {
        self.manifest.models[0].files[0].sources = sources;
    }

    fn listing<'a>(&'a self, model: &'a Model, state: impl Fn(&File) -> FileState) -> Listing<'a> {
        Listing {
            model,
            files: model.files.iter().map(|file| (file, state(file))).collect(),
        }
    }

    /// A file's state without reading it.
    pub(super) fn glance(&self, file: &File, stamps: &Stamps) -> FileState {
        let path = self.folder.join(&file.name);
        let Ok(metadata) = fs::metadata(&path) else {
            return FileState::Missing;
        };
        if let Some(expected) = file.size().filter(|&expected| expected != metadata.len()) {
            return FileState::Wrong {
                why: format!("{} bytes instead of {expected}", metadata.len()),
            };
        }
        match stamps.current(&file.name, &path) {
            Some(sha256) => judge(file, stamps, sha256),
            None => FileState::Unverified,
        }
    }

    /// A file's state after hashing it.
    pub(super) fn hash(&self, file: &File, stamps: &Stamps, reporter: &dyn Reporter) -> FileState {
        match self.glance(file, stamps) {
            state @ FileState::Missing => state,
            FileState::Wrong { why } if file.size().is_some() => FileState::Wrong { why },
            _ => match sha256_of(&self.folder.join(&file.name), &file.name, reporter) {
                Ok(sha256) => judge(file, stamps, &sha256),
                Err(error) => FileState::Wrong {
                    why: error.to_string(),
                },
            },
        }
    }
}

/// Whether `sha256` is what the file must have.
pub(super) fn judge(file: &File, stamps: &Stamps, sha256: &str) -> FileState {
    let expected = match &file.pin {
        Pin::Pinned { sha256, .. } => Some(sha256.as_str()),
        Pin::Unpinned => stamps
            .recorded(&file.name)
            .map(|stamp| stamp.sha256.as_str()),
    };
    match expected {
        Some(expected) if expected == sha256 => FileState::Verified,
        Some(expected) => FileState::Wrong {
            why: format!("SHA-256 {sha256} instead of {expected}"),
        },
        None => FileState::Unverified,
    }
}
