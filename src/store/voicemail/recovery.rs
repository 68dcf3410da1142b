//! What a crash left of messages, made whole at the next start.

use std::fs;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;

use super::{FOLDER, file, message_path, save};
use crate::ids::{CallId, MailboxName, VoicemailId};
use crate::record::{RecordingEnd, Transcription, Voicemail, VoicemailReason, VoicemailState};
use crate::store::{Store, StoreError};

/// Less than this is no message, in ms.
const SHORTEST: u64 = 500;

/// What was found after a crash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecoveredMailboxes {
    /// Messages that were cut off, or had no row, and can be heard now.
    pub recovered: u32,
    /// Files without sound, and rows without a file.
    pub dropped: u32,
}

impl Store {
    /// Makes whole what a crash left: a file that was cut off gets its length and its row, an
    /// empty one goes, and so does a row whose file is gone. To be called before the first call.
    ///
    /// # Errors
    /// Where the database fails. A file that cannot be read is logged and left alone.
    pub async fn recover_voicemails(&self, data: &Path) -> Result<RecoveredMailboxes, StoreError> {
        let mut found = RecoveredMailboxes::default();
        let known = self.voicemails(None).await?;
        for message in &known {
            if !data.join(&message.file).exists() {
                self.delete_voicemail(data, message).await?;
                found.dropped += 1;
            }
        }
        for path in message_files(&data.join(FOLDER)) {
            let Some((mailbox, id)) = named(&path) else {
                continue;
            };
            let row = known.iter().find(|message| message.id == id);
            if row.is_some_and(|message| message.state != VoicemailState::Recording) {
                continue;
            }
            match recovered(&path, mailbox, id, row) {
                Ok(Some(message)) => {
                    let mut connection = self.pool.acquire().await?;
                    save(&mut connection, &message).await?;
                    found.recovered += 1;
                }
                Ok(None) => {
                    if let Some(message) = row {
                        self.delete_voicemail(data, message).await?;
                    }
                    found.dropped += 1;
                }
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "a message is not recovered");
                }
            }
        }
        Ok(found)
    }
}

/// The WAV files of all mailboxes.
fn message_files(folder: &Path) -> Vec<PathBuf> {
    let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries(folder).flat_map(|mailbox| entries(&mailbox.path()));
    let mut files: Vec<PathBuf> = files
        .map(|file| file.path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "wav"))
        .collect();
    files.sort();
    files
}

fn named(path: &Path) -> Option<(MailboxName, VoicemailId)> {
    let mailbox = path.parent()?.file_name()?.to_str()?;
    let id = path.file_stem()?.to_str()?.parse().ok()?;
    Some((MailboxName::new(mailbox), id))
}

/// A message from its files; `None` where it has no sound, and is removed.
fn recovered(
    path: &Path,
    mailbox: MailboxName,
    id: VoicemailId,
    row: Option<&Voicemail>,
) -> std::io::Result<Option<Voicemail>> {
    let duration_ms = file::repair(path)?;
    if duration_ms < SHORTEST {
        file::remove(path)?;
        return Ok(None);
    }
    let beside = fs::read(file::description(path)).ok();
    let beside = beside.and_then(|bytes| serde_json::from_slice::<Voicemail>(&bytes).ok());
    let known = beside.or_else(|| row.cloned());
    let mut message = match known {
        Some(message) => message,
        None => unknown(path, mailbox, id)?,
    };
    message.duration_ms = duration_ms;
    message.state = VoicemailState::New;
    message.ended.get_or_insert(RecordingEnd::Crashed);
    file::describe(path, &message)?;
    Ok(Some(message))
}

/// A message of which nothing is known but its sound.
fn unknown(path: &Path, mailbox: MailboxName, id: VoicemailId) -> std::io::Result<Voicemail> {
    let changed = fs::metadata(path)?.modified()?;
    Ok(Voicemail {
        id,
        file: message_path(&mailbox, id),
        mailbox,
        call_id: CallId::from_random([0; 16]),
        customer: None,
        called: String::new(),
        reason: VoicemailReason::Called,
        state: VoicemailState::New,
        created_at: OffsetDateTime::from(changed),
        duration_ms: 0,
        ended: None,
        transcription: Transcription::Pending,
        transcript: None,
    })
}
