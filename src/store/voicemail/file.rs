//! The file of a message while it is being left.
//!
//! ```text
//!  create ──▶ ID.json (what is known of it), then ID.wav (a header, no sound)
//!    │ append: samples at the end, the header twice a second, the disk once a second
//!    ├─ finish ──▶ cut to length, header, ID.json with how it ended, both on the disk
//!    └─ discard ─▶ both gone
//!  killed anywhere ──▶ a file that plays, from whose length the next start knows the rest
//! ```

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::record::Voicemail;

/// Bytes before the first sample.
const HEADER: u64 = 44;
/// 16-bit samples at 8 kHz.
const BYTES_PER_MS: u64 = 16;
/// Between two updates of the header, in ms of sound.
const HEADER_EVERY: u64 = 500;
/// Between two requests to the disk to keep what it has, in ms of sound.
const SYNC_EVERY: u64 = 1000;

/// A message that is being left.
#[derive(Debug)]
pub struct MessageFile {
    path: PathBuf,
    file: File,
    /// Length of the sound in bytes.
    written: u64,
    header_at: u64,
    sync_at: u64,
}

impl MessageFile {
    /// Makes the files of a message; the folders too, where they are missing.
    ///
    /// # Errors
    /// Where the disk is full or cannot be written.
    pub fn create(data: &Path, message: &Voicemail) -> io::Result<Self> {
        let path = data.join(&message.file);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        describe(&path, message)?;
        let options = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path);
        let started = options.and_then(|file| {
            file.write_all_at(&header(0), 0)?;
            Ok(file)
        });
        match started {
            Ok(file) => Ok(Self {
                path,
                file,
                written: 0,
                header_at: 0,
                sync_at: 0,
            }),
            Err(error) => {
                // What could be made may be what filled the disk.
                let _ = remove(&path);
                Err(error)
            }
        }
    }

    /// Adds sound, 8 kHz mono.
    ///
    /// # Errors
    /// Where it cannot be written; what was written before is kept.
    pub fn append(&mut self, samples: &[i16]) -> io::Result<()> {
        let bytes: Vec<u8> = samples.iter().flat_map(|s| s.to_le_bytes()).collect();
        self.file.write_all_at(&bytes, HEADER + self.written)?;
        self.written += bytes.len() as u64;
        if self.written >= self.header_at + HEADER_EVERY * BYTES_PER_MS {
            self.header_at = self.written;
            self.file.write_all_at(&header(self.written), 0)?;
        }
        if self.written >= self.sync_at + SYNC_EVERY * BYTES_PER_MS {
            self.sync_at = self.written;
            self.file.sync_data()?;
        }
        Ok(())
    }

    /// Length of the sound so far, in ms.
    pub fn duration_ms(&self) -> u64 {
        self.written / BYTES_PER_MS
    }

    /// Closes the message, cut to at most `most_ms`; `message` says how it ended.
    ///
    /// # Errors
    /// Where the disk fails; the sound is kept as far as it was written.
    pub fn finish(mut self, most_ms: u64, message: &Voicemail) -> io::Result<()> {
        self.written = self.written.min(most_ms.saturating_mul(BYTES_PER_MS));
        let closed = self
            .file
            .set_len(HEADER + self.written)
            .and_then(|()| self.file.write_all_at(&header(self.written), 0))
            .and_then(|()| self.file.sync_all());
        let described = describe(&self.path, message);
        closed.and(described)
    }

    /// Removes the message.
    pub fn discard(self) {
        let _ = remove(&self.path);
    }
}

/// The file beside a message that says what is known of it.
pub(super) fn description(wav: &Path) -> PathBuf {
    wav.with_extension("json")
}

/// Writes what is known of a message beside it, whole or not at all.
pub(super) fn describe(wav: &Path, message: &Voicemail) -> io::Result<()> {
    let path = description(wav);
    let unfinished = path.with_extension("part");
    let bytes = serde_json::to_vec(message)?;
    let written = fs::write(&unfinished, bytes).and_then(|()| {
        File::open(&unfinished)?.sync_data()?;
        fs::rename(&unfinished, &path)
    });
    if written.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    written
}

/// Makes the header of a file that was cut off say how long it is; its length in ms.
pub(super) fn repair(path: &Path) -> io::Result<u64> {
    let file = OpenOptions::new().write(true).open(path)?;
    let sound = file.metadata()?.len().saturating_sub(HEADER) / 2 * 2;
    file.set_len(HEADER + sound)?;
    file.write_all_at(&header(sound), 0)?;
    file.sync_all()?;
    Ok(sound / BYTES_PER_MS)
}

/// Removes a message and what is beside it. Files that are not there are no failure.
pub(super) fn remove(wav: &Path) -> io::Result<()> {
    for path in [wav.to_owned(), description(wav)] {
        match fs::remove_file(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// RIFF, WAVE, PCM, mono, 8 kHz, 16 bits, with this many bytes of sound.
fn header(sound: u64) -> [u8; HEADER as usize] {
    // Messages are minutes long, not days.
    let sound = u32::try_from(sound).unwrap_or(u32::MAX - 36);
    let mut header = [0; HEADER as usize];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        header[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    put(b"RIFF");
    put(&(sound + 36).to_le_bytes());
    put(b"WAVEfmt ");
    put(&16u32.to_le_bytes());
    put(&1u16.to_le_bytes());
    put(&1u16.to_le_bytes());
    put(&8000u32.to_le_bytes());
    put(&16_000u32.to_le_bytes());
    put(&2u16.to_le_bytes());
    put(&16u16.to_le_bytes());
    put(b"data");
    put(&sound.to_le_bytes());
    header
}
