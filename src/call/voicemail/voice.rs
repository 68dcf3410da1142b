//! What a mailbox says: pieces spoken ahead, put together; what is missing is synthesised now.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::visit::Happening;
use crate::engines::phrases::PhraseBook;
use crate::engines::tts::Tts;
use crate::net::media::{ClipKey, MediaStream, Played};

/// A piece that takes longer is left out.
const PATIENCE: Duration = Duration::from_secs(6);
/// Between two pieces, in samples at 8 kHz (60 ms).
const PAUSE: usize = 480;
/// What was playing is faded out over this, in ms.
const FADE_MS: u32 = 20;
/// Keys of the mailbox's clips begin here, apart from those of the conversation before.
const FIRST_KEY: u64 = 1 << 40;

/// One piece of what is said.
pub(super) enum Piece {
    Text(String),
    Sound(Arc<[i16]>),
}

/// The voice of one visit: one thing at a time.
pub(super) struct Voice {
    phrases: PhraseBook,
    tts: Tts,
    happenings: mpsc::Sender<Happening>,
    key: u64,
}

impl Voice {
    pub(super) fn new(phrases: PhraseBook, tts: Tts, happenings: mpsc::Sender<Happening>) -> Self {
        Self {
            phrases,
            tts,
            happenings,
            key: FIRST_KEY,
        }
    }

    /// Says nothing any more.
    pub(super) fn quiet(&mut self, stream: &MediaStream) {
        self.key += 1;
        stream.stop(FADE_MS);
    }

    /// Says this instead of what is being said. [`Self::was_played`] or
    /// [`Happening::Speech`] follow.
    pub(super) fn say(&mut self, pieces: Vec<Piece>, stream: &MediaStream) {
        self.quiet(stream);
        let ready: Option<Vec<Arc<[i16]>>> = pieces.iter().map(|piece| self.ready(piece)).collect();
        if let Some(ready) = ready {
            return self.play(&ready, stream);
        }
        let (key, phrases) = (self.key, self.phrases.clone());
        let (tts, happenings) = (self.tts.clone(), self.happenings.clone());
        tokio::spawn(async move {
            let mut spoken = Vec::new();
            for piece in pieces {
                spoken.extend(speak(piece, &phrases, &tts).await);
            }
            // The visit may be over.
            let _ = happenings.send(Happening::Speech { key, spoken }).await;
        });
    }

    fn ready(&self, piece: &Piece) -> Option<Arc<[i16]>> {
        match piece {
            Piece::Text(text) => self.phrases.get(text),
            Piece::Sound(samples) => Some(Arc::clone(samples)),
        }
    }

    /// What was missing is there. False where nothing of it could be spoken.
    pub(super) fn arrived(&self, key: u64, spoken: &[Arc<[i16]>], stream: &MediaStream) -> bool {
        if key == self.key && !spoken.is_empty() {
            self.play(spoken, stream);
        }
        key != self.key || !spoken.is_empty()
    }

    fn play(&self, pieces: &[Arc<[i16]>], stream: &MediaStream) {
        let samples: Arc<[i16]> = match pieces {
            [one] => Arc::clone(one),
            pieces => pieces.join(&[0; PAUSE][..]).into(),
        };
        stream.play(ClipKey(self.key), samples, 0);
    }

    /// Whether that was the end of what is being said.
    pub(super) fn was_played(&self, played: &[Played]) -> bool {
        let mut played = played.iter();
        played.any(|played| played.finished && played.clip == ClipKey(self.key))
    }
}

async fn speak(piece: Piece, phrases: &PhraseBook, tts: &Tts) -> Option<Arc<[i16]>> {
    match piece {
        Piece::Sound(samples) => Some(samples),
        Piece::Text(text) => {
            if let Some(known) = phrases.get(&text) {
                return Some(known);
            }
            let spoken = tokio::time::timeout(PATIENCE, tts.synthesise(&text)).await;
            match spoken {
                Ok(Ok(samples)) => Some(samples),
                Ok(Err(error)) => {
                    tracing::error!(%error, "a mailbox's words cannot be spoken");
                    None
                }
                Err(_) => None,
            }
        }
    }
}
