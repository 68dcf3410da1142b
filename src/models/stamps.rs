//! What was verified before, so that starting up does not hash half a gigabyte each time.
//!
//! A stamp holds for a file as long as its size and modification time are those seen when it was
//! hashed. It guards against accidents, not against someone who can write to the folder.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::progress::{Activity, Event, Reporter};

/// The stamps' file in the models folder.
const FILE: &str = ".verified.toml";

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Stored {
    #[serde(default)]
    file: BTreeMap<String, Stamp>,
}

/// A file as it was when it was hashed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Stamp {
    /// Bytes.
    pub(super) size: u64,
    /// Nanoseconds since 1970.
    pub(super) modified: u64,
    /// Lower-case hexadecimal.
    pub(super) sha256: String,
}

/// All stamps of a models folder.
#[derive(Debug)]
pub(super) struct Stamps {
    path: PathBuf,
    stored: Stored,
}

impl Stamps {
    /// Reads the folder's stamps. Unreadable ones are as good as none: files are hashed again.
    pub(super) fn load(folder: &Path) -> Self {
        let path = folder.join(FILE);
        let stored = fs::read_to_string(&path)
            .ok()
            .and_then(|text| toml::from_str(&text).ok())
            .unwrap_or_default();
        Self { path, stored }
    }

    /// The stamp of `name`, whether or not it still holds.
    pub(super) fn recorded(&self, name: &str) -> Option<&Stamp> {
        self.stored.file.get(name)
    }

    /// The hash of the file at `path`, if it was hashed before and has not changed since.
    pub(super) fn current(&self, name: &str, path: &Path) -> Option<&str> {
        let stamp = self.stored.file.get(name)?;
        let (size, modified) = seen(path).ok()?;
        (stamp.size == size && stamp.modified == modified).then_some(stamp.sha256.as_str())
    }

    /// Records that the file at `path` has this hash, and saves.
    pub(super) fn record(&mut self, name: &str, path: &Path, sha256: &str) -> io::Result<()> {
        let (size, modified) = seen(path)?;
        self.stored.file.insert(
            name.into(),
            Stamp {
                size,
                modified,
                sha256: sha256.into(),
            },
        );
        self.save()
    }

    fn save(&self) -> io::Result<()> {
        let text = toml::to_string(&self.stored).map_err(io::Error::other)?;
        let partial = self.path.with_extension("part");
        let mut file = fs::File::create(&partial)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(partial, &self.path)
    }
}

fn seen(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::metadata(path)?;
    let modified = metadata
        .modified()?
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Ok((
        metadata.len(),
        u64::try_from(modified.as_nanos()).unwrap_or(u64::MAX),
    ))
}

/// The SHA-256 of a file, in lower-case hexadecimal.
pub(super) fn sha256_of(path: &Path, name: &str, reporter: &dyn Reporter) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let total = Some(file.metadata()?.len());
    reporter.report(Event::Started {
        item: name,
        activity: Activity::Hashing,
        total,
    });
    let mut hasher = Sha256::new();
    let mut buffer = vec![0_u8; 1 << 18];
    let mut done = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        done += read as u64;
        reporter.report(Event::Advanced(done));
    }
    reporter.report(Event::Finished);
    Ok(hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}
