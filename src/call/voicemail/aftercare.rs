//! What is done with messages when nobody waits for it.
//!
//! ```text
//!  changed mailboxes ──▶ counts ──▶ indicator (message waiting)
//!                   └──▶ transcripts, one after another, behind every caller
//!  every hour ──▶ messages that are too old go
//! ```

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::{Notify, mpsc};

use super::Mailboxes;
use super::visit::read_message;
use crate::audio::level::rms;
use crate::engines::stt::{Effort, Stt, TranscribeRequest};
use crate::engines::{EngineError, EngineEvent, Priority};
use crate::ids::{Generation, MailboxName};
use crate::record::{MailboxCounts, Voicemail};
use crate::store::{Journal, StoreError};

/// Between two looks for old messages.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);
/// Until a transcript that could not be made is tried again.
const AGAIN: Duration = Duration::from_secs(30);
/// Tries of a transcript while the recogniser lives.
const MOST_TRIES: u32 = 3;
const DAY: Duration = Duration::from_secs(86_400);
/// A piece that the recogniser hears at once, in samples at 8 kHz: 25 s.
const PIECE: usize = 200_000;
/// It is cut at the quietest place of its last seconds.
const SEARCH: usize = 48_000;
/// Places are looked at in steps of this: 50 ms.
const STEP: usize = 400;
/// Words that the recogniser itself believes nobody said.
const NO_SPEECH: f32 = 0.6;
const GUESSED: f32 = -1.0;

/// Is told how many messages a mailbox has.
pub type Indicator = Arc<dyn Fn(&MailboxName, MailboxCounts) + Send + Sync>;

/// The task that looks after mailboxes.
pub struct Aftercare {
    /// Whose.
    pub mailboxes: Mailboxes,
    /// Writes messages down.
    pub stt: Stt,
    /// Has the rows that are not written yet.
    pub journal: Journal,
    /// Tells others.
    pub indicator: Indicator,
}

impl Aftercare {
    /// Looks after mailboxes until nobody can change them any more.
    pub async fn run(self, mut changed: mpsc::Receiver<MailboxName>) {
        let wake = Arc::new(Notify::new());
        let scribe = Scribe {
            mailboxes: self.mailboxes.clone(),
            stt: self.stt.clone(),
        };
        let writing = tokio::spawn(scribe.run(Arc::clone(&wake)));
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        loop {
            tokio::select! {
                name = changed.recv() => match name {
                    Some(name) => {
                        let mut names = BTreeSet::from([name]);
                        while let Ok(more) = changed.try_recv() {
                            names.insert(more);
                        }
                        // The rows of what has just been left are in its queue.
                        self.journal.flush().await;
                        for name in &names {
                            self.tell(name).await;
                        }
                        wake.notify_one();
                    }
                    None => break,
                },
                _ = sweep.tick() => self.sweep().await,
            }
        }
        writing.abort();
    }

    async fn tell(&self, name: &MailboxName) {
        match self.mailboxes.store.mailbox_counts(name).await {
            Ok(counts) => (self.indicator)(name, counts),
            Err(error) => tracing::error!(mailbox = %name, %error, "messages are not counted"),
        }
    }

    async fn sweep(&self) {
        for (name, mailbox) in self.mailboxes.iter() {
            let Some(days) = mailbox.settings.retention_days else {
                continue;
            };
            let limit = OffsetDateTime::now_utc() - DAY * days;
            let store = &self.mailboxes.store;
            match store
                .expire_voicemails(&self.mailboxes.data, name, limit)
                .await
            {
                Ok(0) => {}
                Ok(deleted) => {
                    tracing::info!(mailbox = %name, deleted, "old messages deleted");
                    self.tell(name).await;
                }
                Err(error) => {
                    tracing::error!(mailbox = %name, %error, "old messages are not deleted");
                }
            }
        }
    }
}

impl Mailboxes {
    /// How many messages a mailbox has.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn counts(&self, name: &MailboxName) -> Result<MailboxCounts, StoreError> {
        self.store.mailbox_counts(name).await
    }
}

/// Makes transcripts.
struct Scribe {
    mailboxes: Mailboxes,
    stt: Stt,
}

impl Scribe {
    async fn run(self, wake: Arc<Notify>) {
        loop {
            // What a stopped server left is done first.
            let pause = match self.write_all().await {
                Ok(()) => Duration::MAX,
                Err(error) => {
                    tracing::warn!(error, "a message waits for its transcript");
                    AGAIN
                }
            };
            match pause {
                Duration::MAX => wake.notified().await,
                pause => tokio::time::sleep(pause).await,
            }
        }
    }

    async fn write_all(&self) -> Result<(), String> {
        let store = &self.mailboxes.store;
        let pending = store.untranscribed_voicemails().await;
        for message in pending.map_err(|error| error.to_string())? {
            self.stt.ready().await.map_err(|error| error.to_string())?;
            let transcript = self.transcript(&message).await?;
            store
                .keep_transcript(message.id, transcript.as_deref())
                .await
                .map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// What a message says; `None` where that cannot be known. An error is for later.
    async fn transcript(&self, message: &Voicemail) -> Result<Option<String>, String> {
        let path: PathBuf = self.mailboxes.data.join(&message.file);
        let read = tokio::task::spawn_blocking(move || read_message(&path)).await;
        let samples = match read.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(samples) => samples,
            Err(error) => {
                tracing::error!(id = %message.id, error, "a message cannot be transcribed");
                return Ok(None);
            }
        };
        let mut text = Vec::new();
        for piece in pieces(&samples) {
            match self.piece(message, piece.into()).await {
                Ok(heard) => text.extend((!heard.is_empty()).then_some(heard)),
                Err(error) if error.is_retryable() || error == EngineError::Overloaded => {
                    return Err(error.to_string());
                }
                Err(error) => {
                    tracing::error!(id = %message.id, %error, "a message has no transcript");
                    return Ok(None);
                }
            }
        }
        Ok(Some(text.join(" ")))
    }

    async fn piece(&self, message: &Voicemail, audio: Arc<[i16]>) -> Result<String, EngineError> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.hear(message, Arc::clone(&audio)).await {
                Err(error) if error.is_retryable() && tries < MOST_TRIES => {}
                heard => return heard,
            }
        }
    }

    async fn hear(&self, message: &Voicemail, audio: Arc<[i16]>) -> Result<String, EngineError> {
        let (sender, mut events) = mpsc::channel(2);
        let request = TranscribeRequest {
            call: message.call_id,
            generation: Generation::default(),
            priority: Priority::Speculative,
            audio: audio.into(),
            hint: None,
            effort: Effort::Full,
            language: None,
        };
        let _handle = self.stt.transcribe(request, sender)?;
        while let Some(event) = events.recv().await {
            if let EngineEvent::Transcript { result, .. } = event {
                let heard = result?;
                let nobody =
                    heard.no_speech_probability > NO_SPEECH && heard.mean_log_probability < GUESSED;
                return Ok(match nobody {
                    true => String::new(),
                    false => heard.text,
                });
            }
        }
        Err(EngineError::ShutDown)
    }
}

/// Cuts a message where it is quiet.
fn pieces(samples: &[i16]) -> Vec<&[i16]> {
    let mut pieces = Vec::new();
    let mut rest = samples;
    while rest.len() > PIECE {
        let from = PIECE - SEARCH;
        let steps = rest[from..PIECE].chunks(STEP).enumerate();
        let quietest = steps.min_by(|(_, a), (_, b)| rms(a).total_cmp(&rms(b)));
        let at = from + quietest.map_or(SEARCH, |(step, _)| step * STEP);
        let (piece, after) = rest.split_at(at);
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_are_cut_in_their_pauses_and_nothing_is_lost() {
        let mut samples = vec![5_000i16; 500_000];
        samples[170_000..171_000].fill(3);
        samples[330_000..331_000].fill(3);
        let pieces = pieces(&samples);
        let ends: Vec<usize> = pieces
            .iter()
            .scan(0, |at, piece| {
                *at += piece.len();
                Some(*at)
            })
            .collect();
        assert_eq!(pieces.len(), 3, "{ends:?}");
        assert!((170_000..171_000).contains(&ends[0]), "{ends:?}");
        assert!((330_000..331_000).contains(&ends[1]), "{ends:?}");
        assert_eq!(ends[2], samples.len());
        assert_eq!(super::pieces(&[1, 2, 3]), [[1, 2, 3]]);
    }
}
