//! The phrase book: what is said without asking the speech worker.
//!
//! ```text
//!   prepare ─► in memory? ─► on disk? ─► synthesise ─► memory ─► disk
//!                 yes: done    yes: into memory          (a full disk costs a warning)
//! ```
//!
//! Failure phrases, idle prompts and greetings are spoken ahead and kept as 16 kHz WAV files,
//! named by a hash of the voice and the text. So a call is greeted at once, and a dead worker
//! still has its failures explained in the assistant's own voice, after a restart of the server
//! too.

use std::collections::HashMap;
use std::io::{self, Cursor};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use sha2::{Digest, Sha256};

use super::EngineError;
use super::tts::Tts;
use crate::audio::{SampleRate, Sound, wav};

/// Largest file that is read: a minute and a half, longer than any text that may be spoken.
const MAX_FILE_BYTES: u64 = 90 * 32_000;

type Phrases = HashMap<String, Phrase>;

/// Phrases in one voice. Cheap to clone.
#[derive(Clone)]
pub struct PhraseBook {
    folder: Arc<Path>,
    voice: Arc<str>,
    /// Who says what `voice` has not said yet.
    stand_in: Option<Arc<str>>,
    /// By voice.
    phrases: Arc<RwLock<HashMap<Arc<str>, Phrases>>>,
}

/// A phrase as calls need it.
#[derive(Clone)]
struct Phrase {
    narrow: Sound,
    wide: Sound,
}

/// Speaks a phrase; what [`PhraseBook::prepare`] needs of the speech worker.
pub trait Speaker: Sync {
    /// 16 kHz audio of a text.
    fn synthesise(&self, text: &str) -> impl Future<Output = Result<Sound, EngineError>> + Send;
}

impl Speaker for Tts {
    fn synthesise(&self, text: &str) -> impl Future<Output = Result<Sound, EngineError>> + Send {
        self.synthesise_at(text, SampleRate::WIDEBAND)
    }
}

impl PhraseBook {
    /// An empty book. `voice` names the voice model beyond doubt (its SHA-256 as a rule), so
    /// that another voice makes its own recordings. The folder is made when it is needed.
    pub fn new(folder: impl Into<PathBuf>, voice: &str) -> Self {
        Self {
            folder: folder.into().into(),
            voice: voice.into(),
            stand_in: None,
            phrases: Arc::default(),
        }
    }

    /// The same book in another voice, which shares its folder and memory. What that voice has
    /// not said yet, this one says.
    #[must_use]
    pub fn in_voice(&self, voice: &str) -> Self {
        Self {
            voice: voice.into(),
            stand_in: Some(Arc::clone(&self.voice)),
            ..self.clone()
        }
    }

    /// The phrase as 8 kHz audio, if it is in memory.
    pub fn get(&self, text: &str) -> Option<Arc<[i16]>> {
        let sound = self.get_at(text, SampleRate::TELEPHONE)?;
        Some(sound.samples)
    }

    /// The phrase at 8 or 16 kHz, if it is in memory.
    pub fn get_at(&self, text: &str, rate: SampleRate) -> Option<Sound> {
        let stand_in = || self.said_by(self.stand_in.as_ref()?, text);
        let phrase = self.said_by(&self.voice, text).or_else(stand_in)?;
        Some(match rate == SampleRate::WIDEBAND {
            true => phrase.wide,
            false => phrase.narrow,
        })
    }

    fn said_by(&self, voice: &str, text: &str) -> Option<Phrase> {
        let phrases = self.phrases.read().unwrap_or_else(PoisonError::into_inner);
        phrases.get(voice)?.get(text).cloned()
    }

    /// Brings into memory what is on disk, without the speech worker. Returns what is still
    /// missing. A file that cannot be read or holds something else counts as missing.
    pub async fn load(&self, texts: &[String]) -> Vec<String> {
        let mut missing = Vec::new();
        for text in texts {
            if self.said_by(&self.voice, text).is_some() || missing.contains(text) {
                continue;
            }
            let path = self.path(text);
            let read = tokio::task::spawn_blocking(move || read_phrase(&path)).await;
            match read.unwrap_or_else(|error| Err(error.to_string())) {
                Ok(Some(sound)) => self.keep(text, sound),
                Ok(None) => missing.push(text.clone()),
                Err(reason) => {
                    let file = self.path(text);
                    tracing::warn!(file = %file.display(), reason, "recorded phrase unusable");
                    missing.push(text.clone());
                }
            }
        }
        missing
    }

    /// Brings all phrases into memory, from disk or else spoken by `speaker`, and keeps new ones
    /// on disk. Returns those that could not be spoken, each with the reason; call again to try
    /// those again. A failing disk costs a warning and the synthesis at the next start.
    pub async fn prepare(
        &self,
        speaker: &impl Speaker,
        texts: &[String],
    ) -> Vec<(String, EngineError)> {
        let mut failed = Vec::new();
        for text in self.load(texts).await {
            let mut spoken = speaker.synthesise(&text).await;
            if spoken.as_ref().is_err_and(EngineError::is_retryable) {
                spoken = speaker.synthesise(&text).await;
            }
            match spoken {
                Ok(sound) => {
                    self.keep(&text, sound.clone());
                    self.save(&text, sound).await;
                }
                Err(error) => failed.push((text, error)),
            }
        }
        failed
    }

    fn keep(&self, text: &str, wide: Sound) {
        let narrow = wide.at(SampleRate::TELEPHONE);
        let mut phrases = self.phrases.write().unwrap_or_else(PoisonError::into_inner);
        let voice = phrases.entry(Arc::clone(&self.voice)).or_default();
        voice.insert(text.to_owned(), Phrase { narrow, wide });
    }

    async fn save(&self, text: &str, sound: Sound) {
        let path = self.path(text);
        let shown = path.display().to_string();
        let written = tokio::task::spawn_blocking(move || write_phrase(&path, &sound)).await;
        if let Err(error) = written.unwrap_or_else(|error| Err(io::Error::other(error))) {
            tracing::warn!(file = shown, %error, "phrase not kept on disk");
        }
    }

    fn path(&self, text: &str) -> PathBuf {
        let mut hash = Sha256::new();
        hash.update(self.voice.as_bytes());
        // So that no voice and text run into another pair, and a file at another rate is another.
        hash.update([0]);
        hash.update(SampleRate::WIDEBAND.hz().to_be_bytes());
        hash.update(text.as_bytes());
        let hash = hash.finalize();
        let name: String = hash
            .iter()
            .take(16)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        self.folder.join(name + ".wav")
    }
}

/// `None` where there is no such file.
fn read_phrase(path: &Path) -> Result<Option<Sound>, String> {
    let bytes = match std::fs::metadata(path) {
        Ok(metadata) if metadata.len() > MAX_FILE_BYTES => return Err("too large".into()),
        Ok(_) => std::fs::read(path).map_err(|error| error.to_string())?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let clip = wav::read(bytes.as_slice()).map_err(|error| error.to_string())?;
    if clip.rate != SampleRate::WIDEBAND {
        return Err(format!("{} Hz", clip.rate.hz()));
    }
    if clip.samples.is_empty() {
        return Err("empty".into());
    }
    Ok(Some(Sound::wide(clip.samples)))
}

/// Writes beside and renames, so that a file is whole or absent.
fn write_phrase(path: &Path, sound: &Sound) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut bytes = Cursor::new(Vec::new());
    wav::write(&mut bytes, &sound.samples, sound.rate).map_err(io::Error::other)?;
    let unfinished = path.with_extension("part");
    let written = std::fs::write(&unfinished, bytes.into_inner())
        .and_then(|()| std::fs::rename(&unfinished, path));
    if written.is_err() {
        // It may be what filled the disk.
        let _ = std::fs::remove_file(&unfinished);
    }
    written
}

#[cfg(test)]
mod tests;
