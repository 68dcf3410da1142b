//! Starts the engines, keeps their health, and prepares what calls need of them: phrases and
//! read prompts.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::call::chat_messages;
use crate::config::Config;
use crate::conversation::settings::AssistantSettings;
use crate::conversation::{ChatMessage, ChatRole, PhraseKind};
use crate::engines::EngineError;
use crate::engines::llm::{Llm, LlmWorkerSettings};
use crate::engines::load::Load;
use crate::engines::phrases::PhraseBook;
use crate::engines::stt::{Stt, SttConfig};
use crate::engines::supervisor::{WorkerSnapshot, WorkerSpec, WorkerState, find_executable};
use crate::engines::tts::{Tts, TtsConfig};
use crate::engines::turn::TurnJudge;
use crate::engines::vad::Vad;
use crate::models::{Catalog, CatalogError};
use crate::observe::{Component, Health, Scrape, State};
use crate::voicemail::{self, MailboxSettings};

/// Until the next try to prepare what failed.
const RETRY: Duration = Duration::from_secs(10);

/// The engines of the server.
pub(super) struct Engines {
    pub(super) stt: Stt,
    pub(super) llm: Llm,
    pub(super) tts: Tts,
    pub(super) vad: Vad,
    pub(super) turn: Option<TurnJudge>,
    pub(super) phrases: PhraseBook,
}

/// Where everything that engines need is. A file that is not there keeps its name, so that the
/// worker says what is missing.
struct Files {
    stt: PathBuf,
    llm: PathBuf,
    tts: PathBuf,
    vad: PathBuf,
    turn: Option<PathBuf>,
    runtime: PathBuf,
}

impl Files {
    fn of(config: &Config) -> Self {
        let folder = config.models_folder();
        let catalog = Catalog::embedded(&folder);
        let path = |name: &str| match catalog.as_ref().map(|catalog| catalog.path_of(name)) {
            Ok(Ok(path) | Err(CatalogError::Missing { path, .. })) => path,
            Ok(Err(_)) | Err(_) if Path::new(name).is_file() => PathBuf::from(name),
            Ok(Err(_)) | Err(_) => folder.join(name),
        };
        Self {
            stt: path(&config.engines.stt),
            llm: path(&config.engines.llm),
            tts: path(&config.engines.tts),
            vad: path(&config.engines.vad),
            turn: config.engines.turn_model().map(path),
            runtime: path(&config.engines.runtime),
        }
    }
}

impl Engines {
    /// Starts everything in the background. What cannot start shows in the health.
    ///
    /// # Errors
    /// Where the operating system refuses what every worker needs.
    pub(super) fn start(config: &Arc<Config>, health: &Health) -> Result<Self, EngineError> {
        let files = Files::of(config);
        let executable = |name: &str| {
            find_executable(name, config.engines.folder.as_deref())
                .unwrap_or_else(|_| PathBuf::from(name))
        };
        let threads = config.engines.threads;
        let load = Load::default();
        let mut stt = SttConfig::new(executable("offhook-stt"), &files.stt);
        stt.threads = u16::from(threads);
        stt.scheduling = config.engines.scheduling;
        stt.load = load.clone();
        let stt = Stt::start(&stt);
        let mut llm = LlmWorkerSettings::new(&files.llm);
        llm.threads = u32::from(threads);
        let mut spec = WorkerSpec::new(executable("offhook-llm"));
        spec.scheduling = config.engines.scheduling;
        spec.load = load.clone();
        let llm = Llm::start(spec, &llm)?;
        let mut tts = TtsConfig::new(executable("offhook-tts"), &files.tts, &files.runtime);
        tts.threads = u16::from(threads);
        tts.scheduling = config.engines.scheduling;
        tts.load = load;
        let tts = Tts::start(&tts);
        let vad = open_vad(config, &files, health);
        let turn = open_turn(config, &files);
        let phrases = PhraseBook::new(config.data.join("phrases"), &config.engines.tts);
        let engines = Self {
            stt,
            llm,
            tts,
            vad,
            turn,
            phrases,
        };
        engines.watch(config, health);
        Ok(engines)
    }

    fn watch(&self, config: &Arc<Config>, health: &Health) {
        tokio::spawn(watch_worker(
            self.stt.state(),
            Component::Stt,
            health.clone(),
            missing(config, &config.engines.stt),
        ));
        tokio::spawn(watch_worker(
            self.tts.state(),
            Component::Tts,
            health.clone(),
            missing(config, &config.engines.tts),
        ));
        tokio::spawn(prepare_phrases(
            self.phrases.clone(),
            self.tts.clone(),
            texts(config),
            later_texts(config),
            health.clone(),
        ));
        tokio::spawn(read_prompts(
            self.llm.clone(),
            Arc::clone(config),
            health.clone(),
        ));
    }

    /// What the engines count, by name.
    pub(super) fn counters(&self) -> Arc<dyn Fn() -> Scrape + Send + Sync> {
        let turn = self.turn.clone();
        let (stt, llm, tts, vad) = (
            self.stt.clone(),
            self.llm.clone(),
            self.tts.clone(),
            self.vad.clone(),
        );
        Arc::new(move || {
            let vad = vad.snapshot();
            let mut scrape = vec![
                ("vad_windows", vad.windows),
                ("vad_runs", vad.runs),
                ("vad_dropped", vad.dropped),
            ];
            let turn = turn.as_ref().map(TurnJudge::snapshot).unwrap_or_default();
            scrape.extend([
                ("turn_judged", turn.judged),
                ("turn_left_out", turn.left_out),
            ]);
            scrape.extend(worker_counters(
                [
                    "stt_queued",
                    "stt_in_flight",
                    "stt_completed",
                    "stt_failed",
                    "stt_deaths",
                    "stt_starts",
                ],
                &stt.snapshot(),
            ));
            scrape.extend(worker_counters(
                [
                    "llm_queued",
                    "llm_in_flight",
                    "llm_completed",
                    "llm_failed",
                    "llm_deaths",
                    "llm_starts",
                ],
                &llm.snapshot(),
            ));
            scrape.extend(worker_counters(
                [
                    "tts_queued",
                    "tts_in_flight",
                    "tts_completed",
                    "tts_failed",
                    "tts_deaths",
                    "tts_starts",
                ],
                &tts.snapshot(),
            ));
            scrape
        })
    }

    pub(super) async fn stop(&self) {
        tokio::join!(
            self.stt.shutdown(),
            self.llm.shutdown(),
            self.tts.shutdown()
        );
    }
}

/// The detector runs in this process; without it calls are refused, as without a worker.
fn open_vad(config: &Config, files: &Files, health: &Health) -> Vad {
    match Vad::open(&files.vad, &files.runtime) {
        Ok(vad) => {
            health.set(Component::Vad, State::Ready);
            vad
        }
        Err(error) => {
            let names = [&config.engines.vad, &config.engines.runtime];
            let missing = names.iter().find_map(|name| missing(config, name));
            let why = missing.unwrap_or_else(|| error.to_string());
            health.set(Component::Vad, State::Failed(why));
            Vad::unavailable()
        }
    }
}

/// Calls go on without it, a little slower to answer.
fn open_turn(config: &Config, files: &Files) -> Option<TurnJudge> {
    let model = files.turn.as_ref()?;
    match TurnJudge::open(model, &files.runtime) {
        Ok(judge) => Some(judge),
        Err(error) => {
            let missing = missing(config, &config.engines.turn);
            let why = missing.unwrap_or_else(|| error.to_string());
            tracing::warn!(why, "ends of turns are not judged by their sound");
            None
        }
    }
}

/// What is wrong with a model of the manifest, and what to do; the worker knows only its path.
fn missing(config: &Config, name: &str) -> Option<String> {
    let catalog = Catalog::embedded(config.models_folder()).ok()?;
    match catalog.path_of(name) {
        Err(error @ (CatalogError::Missing { .. } | CatalogError::Damaged { .. })) => {
            Some(error.to_string())
        }
        Ok(_) | Err(CatalogError::Unknown { .. }) => None,
    }
}

fn worker_counters(names: [&'static str; 6], snapshot: &WorkerSnapshot) -> Scrape {
    let level = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let values = [
        level(snapshot.queued),
        level(snapshot.in_flight),
        snapshot.completed,
        snapshot.failed,
        snapshot.deaths,
        snapshot.starts,
    ];
    names.into_iter().zip(values).collect()
}

/// Every fixed phrase of every assistant, once.
fn texts(config: &Config) -> Vec<String> {
    let phrases = config
        .assistants
        .values()
        .flat_map(AssistantSettings::phrases);
    let mut texts: BTreeSet<String> = phrases.map(|(_, text)| text).collect();
    if !config.mailboxes.is_empty() {
        let (callers, _) = voicemail::prompts();
        texts.extend(callers.into_iter().map(str::to_owned));
        let greetings = config
            .mailboxes
            .values()
            .flat_map(MailboxSettings::greetings);
        texts.extend(greetings);
    }
    texts.into_iter().collect()
}

/// What owners of mailboxes hear, which no caller waits for.
fn later_texts(config: &Config) -> Vec<String> {
    match config.mailboxes.is_empty() {
        true => Vec::new(),
        false => voicemail::prompts()
            .1
            .into_iter()
            .map(str::to_owned)
            .collect(),
    }
}

fn health_of(state: &WorkerState) -> State {
    match state {
        WorkerState::Starting => State::Starting,
        WorkerState::Ready { .. } => State::Ready,
        WorkerState::Restarting { .. } => State::Restarting,
        WorkerState::Failed { reason } => State::Failed(reason.to_string()),
        WorkerState::Stopped => State::Failed("stopped".to_owned()),
    }
}

/// Keeps a worker's health up to date until the worker is gone for good.
async fn watch_worker(
    mut state: watch::Receiver<WorkerState>,
    component: Component,
    health: Health,
    missing: Option<String>,
) {
    loop {
        let now = state.borrow_and_update().clone();
        // A server that stops has no ill engines.
        if now == WorkerState::Stopped {
            return;
        }
        let state_now = match (health_of(&now), &missing) {
            (State::Failed(_), Some(missing)) => State::Failed(missing.clone()),
            (state, _) => state,
        };
        health.set(component, state_now);
        if state.changed().await.is_err() {
            return;
        }
    }
}

/// Loads the phrases from disk, has the missing ones spoken, and tries again until all are there.
/// `later` follows when the server is ready.
async fn prepare_phrases(
    book: PhraseBook,
    tts: Tts,
    texts: Vec<String>,
    later: Vec<String>,
    health: Health,
) {
    loop {
        if book.load(&texts).await.is_empty() {
            break;
        }
        // A voice that is not there yet is waited for; one that failed is tried again.
        let failed = match tts.ready().await {
            Ok(()) => book.prepare(&tts, &texts).await,
            Err(error) => vec![(String::new(), error)],
        };
        let Some((_, error)) = failed.first() else {
            break;
        };
        health.set(
            Component::Phrases,
            State::Failed(format!("{} phrases are missing: {error}", failed.len())),
        );
        tokio::time::sleep(RETRY).await;
    }
    health.set(Component::Phrases, State::Ready);
    // What is missing is spoken when it is needed.
    if let Some((_, error)) = book.prepare(&tts, &later).await.first() {
        tracing::warn!(%error, "a mailbox's words are not spoken ahead");
    }
}

/// Has every assistant's prompt read before the first call, then keeps the worker's health. The
/// worker reads them again by itself after a restart.
async fn read_prompts(llm: Llm, config: Arc<Config>, health: Health) {
    if llm.ready().await.is_ok() {
        for (name, assistant) in &config.assistants {
            let mut prompt = assistant.prompt();
            if prompt.is_empty() {
                continue;
            }
            // Every conversation goes on from the greeting.
            let greeting = assistant
                .phrases()
                .into_iter()
                .find(|(kind, _)| *kind == PhraseKind::Greeting);
            prompt.extend(greeting.map(|(_, content)| ChatMessage {
                role: ChatRole::Assistant,
                content,
            }));
            if let Err(error) = llm.warm(chat_messages(&prompt)).await {
                tracing::warn!(assistant = name, %error, "its prompt is not read ahead");
            }
        }
    }
    let missing = missing(&config, &config.engines.llm);
    watch_worker(llm.state(), Component::Llm, health, missing).await;
}
