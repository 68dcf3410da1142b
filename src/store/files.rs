//! Recordings on disk: retention, quota and the space that is left.

use std::io;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;

use super::{Store, StoreError};

/// Bytes left on the disk of a folder, for users who are not root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreeSpace(pub u64);

/// Asks the file system how much room a folder has.
///
/// # Errors
/// Where the folder does not exist or cannot be asked.
pub fn free_space(folder: &Path) -> io::Result<FreeSpace> {
    let facts = rustix::fs::statvfs(folder)?;
    Ok(FreeSpace(facts.f_bavail.saturating_mul(facts.f_frsize)))
}

/// What [`Store::sweep`] may keep.
#[derive(Clone, Copy, Debug)]
pub struct Sweep {
    /// Calls made before this go, with everything kept of them.
    pub calls_before: Option<OffsetDateTime>,
    /// Recordings, oldest first, go until the rest fits.
    pub recordings_bytes: Option<u64>,
}

impl Store {
    /// Applies retention and quota. Returns how many recordings were deleted.
    ///
    /// # Errors
    /// Where the database fails; files that cannot be deleted are logged and tried again next
    /// time.
    pub async fn sweep(&self, data: &Path, keep: Sweep) -> Result<u64, StoreError> {
        let mut deleted = 0;
        if let Some(limit) = keep.calls_before {
            for (id, recording) in self.ended_before(limit).await? {
                let gone = match &recording {
                    Some(name) => delete(&data.join(name)),
                    None => true,
                };
                if gone {
                    deleted += u64::from(recording.is_some());
                    self.delete_call(&id).await?;
                }
            }
        }
        if let Some(quota) = keep.recordings_bytes {
            deleted += self.shrink(data, quota).await?;
        }
        Ok(deleted)
    }

    async fn shrink(&self, data: &Path, quota: u64) -> Result<u64, StoreError> {
        let recordings: Vec<(String, PathBuf, u64)> = self
            .recordings_oldest_first()
            .await?
            .into_iter()
            .map(|(id, name)| {
                let path = data.join(name);
                let bytes = std::fs::metadata(&path).map_or(0, |facts| facts.len());
                (id, path, bytes)
            })
            .collect();
        let mut total: u64 = recordings.iter().map(|(_, _, bytes)| bytes).sum();
        let mut deleted = 0;
        for (id, path, bytes) in recordings {
            if total <= quota {
                break;
            }
            if delete(&path) {
                self.forget_recording(&id).await?;
                total -= bytes;
                deleted += 1;
            }
        }
        Ok(deleted)
    }
}

/// True where the file is gone afterwards.
fn delete(path: &Path) -> bool {
    match std::fs::remove_file(path) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot delete a recording");
            false
        }
    }
}
