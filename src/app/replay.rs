//! A recorded caller talks with an assistant again: over loopback, with a server of its own that
//! nobody else can reach and that leaves nothing behind.
//!
//! ```text
//! configuration, less everything that reaches others ─▶ server in a folder of its own ─▶ ready
//! recording ─▶ softphone ─▶ that server ─▶ record of the call ─▶ server stopped, folder removed
//! ```

use std::fs::{self, DirBuilder};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{ServeError, Server};
use crate::audio::Sound;
use crate::config::{Config, Listen, Tls, Transport};
use crate::conversation::settings::VoicemailDetection;
use crate::ids::AssistantId;
use crate::observe::{Health, State};
use crate::record::CallRecord;
use crate::softphone::{self, CallError};
use crate::store::{CallQuery, Object, Store, StoreError};

/// Between looks at whether the engines are ready.
const LOOK: Duration = Duration::from_millis(100);
/// The caller hangs up when nothing was heard for this long after their last recorded moment.
const QUIET: Duration = Duration::from_secs(3);
/// The database is asked for the record so often, as often as it takes the journal to write it.
const LOOKS: u32 = 100;

/// What is to be replayed.
pub struct Replay {
    /// With the assistants, engines and models to use. Its data folder is only read, for prepared
    /// phrases.
    pub config: Config,
    /// Who answers.
    pub assistant: AssistantId,
    /// The same, where it is an object of the API.
    pub object: Option<Object>,
    /// What the caller said, from the answer on.
    pub caller: Sound,
}

/// Why a call cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The server for it cannot start.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// A part of it does not work.
    #[error("{part} cannot be used: {reason}")]
    Part {
        /// Which.
        part: String,
        /// Why not.
        reason: String,
    },
    /// There is no room for its folder.
    #[error("cannot make the folder {}: {source}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The call to it failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The record of the call cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The call left no record.
    #[error("the server kept no record of the call")]
    Unrecorded,
    /// The operator gave up.
    #[error("interrupted")]
    Interrupted,
}

/// Has the recorded caller call an assistant; says what the server kept of that call. Takes as long
/// as the recording, and the loading of the models.
///
/// # Errors
/// Where the server cannot be started, or the call fails.
pub async fn replay(replay: Replay) -> Result<CallRecord, ReplayError> {
    let folder = Folder::new()?;
    copy_phrases(&replay.config.data, &folder.0);
    if let Some(object) = &replay.object {
        let store = Store::open(&folder.0).await?;
        store.add_object(&private_object(object)).await?;
        store.close().await;
    }
    let server = Server::start(private(replay.config, &folder.0)).await?;
    let called = tokio::select! {
        called = call(&server, &replay.assistant, replay.caller) => called,
        _ = tokio::signal::ctrl_c() => Err(ReplayError::Interrupted),
    };
    server.stop().await;
    called?;
    let store = Store::open(&folder.0).await?;
    let record = record(&store).await;
    store.close().await;
    record
}

async fn call(server: &Server, assistant: &AssistantId, caller: Sound) -> Result<(), ReplayError> {
    until_ready(&server.health).await?;
    let listener = server.sip.listeners().first();
    let address = listener.ok_or(ReplayError::Unrecorded)?.address;
    softphone::recite(&format!("sip:{assistant}@{address}"), caller, QUIET).await?;
    Ok(())
}

async fn until_ready(health: &Health) -> Result<(), ReplayError> {
    while !health.is_ready() {
        for (component, state) in health.snapshot() {
            if let State::Failed(reason) = state {
                let part = component.name().to_owned();
                return Err(ReplayError::Part { part, reason });
            }
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

async fn record(store: &Store) -> Result<CallRecord, ReplayError> {
    let query = CallQuery {
        limit: 1,
        ..CallQuery::default()
    };
    for _ in 0..LOOKS {
        let newest = store.calls(&query).await?.into_iter().next();
        if let Some(call) = newest
            && call.ended_at.is_some()
            && let Some(call) = store.call(call.id).await?
        {
            return Ok(call);
        }
        tokio::time::sleep(LOOK).await;
    }
    Err(ReplayError::Unrecorded)
}

/// The configuration without everything that others would notice: peers, numbers, webhooks.
fn private(mut config: Config, folder: &Path) -> Config {
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    config.engines.models = Some(config.models_folder());
    config.data = folder.to_owned();
    config.store.url = None;
    config.store.key_file = None;
    // It would be under way when the call comes.
    config.limits.calibrate = false;
    config.recording.enabled = false;
    config.recording.signalling = false;
    config.sip.listen = vec![Listen {
        transport: Transport::Udp,
        address: local,
    }];
    config.sip.tls = Tls::default();
    config.sip.public_address = None;
    config.sip.allow = Vec::new();
    config.sip.digest = None;
    config.sip.refer_targets = Vec::new();
    config.rtp.bind = vec![local.ip()];
    config.rtp.public_address = None;
    config.http.listen = local;
    config.trunks.clear();
    config.numbers.clear();
    config.webhooks.server = None;
    for mailbox in config.mailboxes.values_mut() {
        mailbox.notify.clear();
    }
    for assistant in config.assistants.values_mut() {
        assistant.server = None;
        assistant.analysis_plan = None;
        assistant.voicemail_detection = VoicemailDetection::default();
    }
    config
}

/// The same for an assistant of the API.
fn private_object(object: &Object) -> Object {
    let mut private = object.clone();
    // Its secrets are its server's, and encrypted with a key that is not there.
    private.secrets = None;
    for field in ["server", "analysisPlan", "voicemailDetection"] {
        private.document.remove(field);
    }
    private
}

/// Phrases that were made already need not be made again; where they cannot be copied, they are.
fn copy_phrases(from: &Path, to: &Path) {
    let (from, to) = (from.join("phrases"), to.join("phrases"));
    let Ok(files) = fs::read_dir(from) else {
        return;
    };
    if fs::create_dir_all(&to).is_err() {
        return;
    }
    for file in files.flatten() {
        let _ = fs::copy(file.path(), to.join(file.file_name()));
    }
}

/// A folder that only its owner can read, and that goes with this.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, ReplayError> {
        let name = format!("offhook-replay-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Ok(Self(path)),
            Err(source) => Err(ReplayError::Folder { path, source }),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_others_would_notice_is_left() {
        let text = r#"
            data = "/var/lib/offhook"
            [sip]
            listen = ["udp:0.0.0.0:5060"]
            allow = ["192.0.2.0/24"]
            [assistants.a]
            server = { url = "https://example.com/hook" }
            [assistants.a.analysisPlan]
            summaryPlan = {}
        "#;
        let config: Config = toml::from_str(text).expect("a configuration");
        let private = private(config, Path::new("/nowhere"));
        assert!(private.sip.allow.is_empty());
        let mut listeners = private.sip.listen.iter();
        assert!(listeners.all(|at| at.address.ip().is_loopback()));
        let assistant = &private.assistants["a"];
        assert!(assistant.server.is_none() && assistant.analysis_plan.is_none());
        assert_eq!(private.data, Path::new("/nowhere"));
        let models = private.engines.models.as_deref();
        assert_eq!(models, Some(Path::new("/var/lib/offhook/models")));
    }
}
