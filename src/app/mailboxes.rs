//! The mailboxes of a configuration, and what looks after them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::ServeError;
use crate::audio::{SampleRate, resample, wav};
use crate::call::{Aftercare, Indicator, Mailbox, Mailboxes, MessageKeeper};
use crate::config::Config;
use crate::engines::stt::Stt;
use crate::ids::MailboxName;
use crate::store::{Journal, Store};

/// Makes whole what a crash left, and opens the mailboxes.
pub(super) async fn open(
    config: &Config,
    store: &Store,
    journal: &Journal,
) -> Result<(Mailboxes, mpsc::Receiver<MailboxName>), ServeError> {
    let found = store.recover_voicemails(&config.data).await?;
    if found.recovered + found.dropped > 0 {
        tracing::warn!(
            recovered = found.recovered,
            dropped = found.dropped,
            "messages that a crash cut off"
        );
    }
    let mut all = BTreeMap::new();
    for (name, settings) in &config.mailboxes {
        let greeting = settings.greeting_file.as_deref();
        let mailbox = Mailbox {
            settings: settings.clone(),
            greeting: greeting.map(|path| recorded(name, path)).transpose()?,
        };
        all.insert(MailboxName::new(name), mailbox);
    }
    let minimum_free = config
        .recording
        .minimum_free_megabytes
        .saturating_mul(1_000_000);
    let (changes, changed) = Mailboxes::changes();
    let keeper = MessageKeeper::start(&config.data, minimum_free, journal.clone(), changes.clone())
        .map_err(ServeError::System)?;
    let mailboxes = Mailboxes::new(all, store.clone(), config.data.clone(), keeper, changes);
    Ok((mailboxes, changed))
}

fn recorded(name: &str, path: &Path) -> Result<Arc<[i16]>, ServeError> {
    let failed = |reason: String| ServeError::Greeting {
        mailbox: name.to_owned(),
        path: path.to_owned(),
        reason,
    };
    let file = File::open(path).map_err(|error| failed(error.to_string()))?;
    let clip = wav::read(BufReader::new(file)).map_err(|error| failed(error.to_string()))?;
    let samples = resample::whole(&clip.samples, clip.rate, SampleRate::TELEPHONE);
    match samples.is_empty() {
        true => Err(failed("there is no sound in it".to_owned())),
        false => Ok(samples.into()),
    }
}

/// Looks after them in the background.
pub(super) fn look_after(
    mailboxes: &Mailboxes,
    changed: mpsc::Receiver<MailboxName>,
    stt: &Stt,
    journal: &Journal,
    indicator: Indicator,
) -> JoinHandle<()> {
    let aftercare = Aftercare {
        mailboxes: mailboxes.clone(),
        stt: stt.clone(),
        journal: journal.clone(),
        indicator,
    };
    tokio::spawn(aftercare.run(changed))
}

/// Where changes in the database are told.
pub(super) fn changed(mailboxes: &Mailboxes) -> Arc<dyn Fn(&str) -> bool + Send + Sync> {
    let mailboxes = mailboxes.clone();
    Arc::new(move |name| match mailboxes.named(name) {
        Some(name) => {
            mailboxes.changed(&name);
            true
        }
        None => false,
    })
}
