//! Puts everything together: the only file that sees every part.
//!
//! ```text
//! lock data ─▶ store ─▶ HTTP ─▶ SIP (503) ─▶ engines, phrases, prompts ─▶ ready ─▶ calls
//! signal ─▶ new calls 503 ─▶ live ones finish, or end when the time is over ─▶ journal closed
//! ```

mod afterwards;
mod announcing;
mod asking;
mod calibration;
mod engines;
mod hold;
mod indicators;
mod mailboxes;
mod outbound;
mod pings;
mod published;
mod registrations;
mod replay;
mod scheduling;
mod signalling;
mod test_calls;
mod trunks;
mod upkeep;

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use rustix::fs::FlockOperation;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::audio::Codec;
use crate::call::{self, CallCommand, CallLimits, Mailboxes, Recorder, Registry, Services};
use crate::config::{Config, Secret};
use crate::control::{ControlError, Desk, Socket};
use crate::directory::{Directory, DirectoryError, Keyring};
use crate::engines::EngineError;
use crate::engines::hosted::Hosted;
use crate::http::{self, Api, Configured, Dashboard, Routes, Scraper};
use crate::net::local::advertised_address;
use crate::net::media::{Media, MediaAddress, MediaConfig};
use crate::net::sip::{self, Sip, SipConfig};
use crate::observe::{Component, Health, Metrics, State, TrunkBoard};
use crate::record::{EndedBy, EndedReason};
use crate::store::{Database, Journal, Ladders, NoDatabase, Store, StoreError};
use crate::webhooks::{Requests, Webhooks};

use engines::Engines;
use published::Published;
pub use replay::{Replay, ReplayError, replay};
use scheduling::Scheduler;

/// How long calls that outlast the drain get to say goodbye on the wire.
const FAREWELL: Duration = Duration::from_secs(3);

/// Why the server could not start. The operator's to mend; the message says what.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Another server uses the data folder.
    #[error("another offhook is running on the data folder {}", .0.display())]
    Locked(PathBuf),
    /// The data folder cannot be used.
    #[error("cannot use the data folder {}: {source}", path.display())]
    Data {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The configuration names no database.
    #[error("store.url: {0}")]
    Database(#[from] NoDatabase),
    /// The API's objects cannot be read.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The HTTP listener cannot be opened.
    #[error(transparent)]
    Http(#[from] http::BindError),
    /// A SIP listener cannot be opened, or a certificate cannot be used.
    #[error(transparent)]
    Sip(#[from] sip::StartError),
    /// The control socket cannot be made.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// TLS cannot be set up for hosted engines.
    #[error("cannot set TLS up: {0}")]
    Tls(reqwest::Error),
    /// The configured hold music cannot be used.
    #[error("hold.music: cannot use {}: {reason}", path.display())]
    HoldMusic {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A mailbox's recorded greeting cannot be used.
    #[error("mailboxes.{mailbox}.greeting_file: cannot use {}: {reason}", path.display())]
    Greeting {
        /// The mailbox.
        mailbox: String,
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// An engine that runs in this process cannot be loaded.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A thread or timer cannot be had.
    #[error("cannot start the media thread or the recorder: {0}")]
    System(io::Error),
}

/// Runs the server until `stop` turns true, then drains it.
///
/// # Errors
/// Where it cannot start.
pub async fn serve(config: Config, mut stop: watch::Receiver<bool>) -> Result<(), ServeError> {
    let _lock = lock_data(&config)?;
    raise_open_files();
    let server = Server::start(config).await?;
    // The sender lives in main until the end.
    let _ = stop.wait_for(|stop| *stop).await;
    server.stop().await;
    Ok(())
}

/// A call has two sockets, and systems let a process have 1024 files unless it asks for more.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, allowed = limit.current, "more open files are not to be had");
    }
}

/// Holds the data folder for this process; the lock goes with the file.
fn lock_data(config: &Config) -> Result<File, ServeError> {
    let failed = |source| ServeError::Data {
        path: config.data.clone(),
        source,
    };
    std::fs::create_dir_all(&config.data).map_err(failed)?;
    let file = File::create(config.data.join("offhook.lock")).map_err(failed)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(ServeError::Locked(config.data.clone())),
        Err(error) => Err(failed(error.into())),
    }
}

fn database(config: &Config) -> Result<Database, ServeError> {
    let url = config.store.url.as_ref().map(Secret::expose);
    Ok(Database::new(&config.data, url)?)
}

/// The key that secrets are encrypted with: the environment's, or a file's.
fn keyring(config: &Config) -> Result<Keyring, ServeError> {
    const VARIABLE: &str = "OFFHOOK_SECRETS_KEY";
    let key = match (std::env::var(VARIABLE), &config.store.key_file) {
        (Ok(text), None) => Keyring::read(&text, VARIABLE),
        (_, Some(file)) => Keyring::file(file, rand::rng().random()),
        (Err(_), None) => Keyring::file(&config.data.join("secrets.key"), rand::rng().random()),
    };
    Ok(key.map_err(DirectoryError::from)?)
}

struct Server {
    config: Arc<Config>,
    health: Health,
    sip: Sip,
    registry: Registry,
    mailboxes: Mailboxes,
    journal: Journal,
    ladders: Option<Ladders>,
    engines: Engines,
    registrations: registrations::Registrations,
    scheduler: JoinHandle<()>,
    http_stop: watch::Sender<bool>,
    http: JoinHandle<io::Result<()>>,
    background: Vec<JoinHandle<()>>,
}

impl Server {
    async fn start(config: Config) -> Result<Self, ServeError> {
        let config = Arc::new(config);
        let hold_music = hold::music(&config)?;
        let control = Socket::bind(&config.data)?;
        let health = Health::new(&[
            Component::Stt,
            Component::Llm,
            Component::Tts,
            Component::Vad,
            Component::Phrases,
            Component::Store,
            Component::Disk,
            Component::Sip,
        ]);
        let metrics = Metrics::default();
        let store = Store::open_database(&database(&config)?).await?;
        let directory =
            Directory::open(store.clone(), Arc::clone(&config), keyring(&config)?).await?;
        let objects = directory.published();
        let published = Published::new(objects.clone());
        let closed = store.close_open_calls(OffsetDateTime::now_utc()).await?;
        if !closed.is_empty() {
            let closed = closed.len();
            tracing::warn!(closed, "calls left open by a crash were closed");
        }
        let ladders = config
            .recording
            .signalling
            .then(|| Ladders::start(store.clone()));
        let journal = Journal::start(store.clone(), ladders.clone());
        let (mailboxes, changed) = mailboxes::open(&config, &store, &journal).await?;
        let media = Media::start(MediaConfig {
            addresses: media_addresses(&config),
            port_min: config.rtp.port_min,
            port_max: config.rtp.port_max,
        })
        .map_err(ServeError::System)?;
        let recorder = match config.recording.enabled {
            true => Some(Recorder::start().map_err(ServeError::System)?),
            false => None,
        };
        let (subscriptions, subscribed) = indicators::subscriptions(!config.mailboxes.is_empty());
        let sip_config = SipConfig {
            subscriptions,
            ..signalling::sip_config(&config, ladders.as_ref())
        };
        let (sip, incoming) = Sip::start(sip_config, rand::rng().random()).await?;
        let (listener, http_address) = http::bind(config.http.listen).await?;
        health.set(Component::Sip, State::Ready);
        announcing::announce(&sip, http_address);
        announcing::announce_keys(&store).await?;
        let engines = Engines::start(&config, &health)?;
        let registry = Registry::with_visits(count(config.limits.max_calls), visits(&config));
        if config.limits.calibrate {
            tokio::spawn(calibration::calibrate(
                engines.stt.clone(),
                engines.llm.clone(),
                engines.tts.clone(),
                registry.clone(),
            ));
        }
        let trunks = TrunkBoard::default();
        let scraper = scraper(
            (&metrics, &trunks),
            &sip,
            &media,
            &journal,
            ladders.clone(),
            recorder.clone(),
            &engines,
        );
        let routes = Routes {
            health: health.clone(),
            metrics: metrics.clone(),
            scraper: Arc::clone(&scraper),
        };
        let hosted = Hosted::new(config.providers.clone()).map_err(ServeError::Tls)?;
        let assistants = published.assistant_book();
        let sender = afterwards::sender(&config, &store, &metrics, &directory, http_address)?;
        let analyst = afterwards::analyst(&store, &engines.llm, &hosted, &directory, &registry);
        let requests = Requests::new(afterwards::client(&config)?);
        let tickets = test_calls::Tickets::default();
        let test_caller =
            test_calls::caller(&config, &sip, tickets.clone(), Arc::clone(&assistants));
        let webhooks = Webhooks::new(journal.clone());
        afterwards::tell_of_closed(&webhooks, &store, &directory, &closed).await?;
        let services = Services {
            webhooks: webhooks.clone(),
            requests: asking::requests(requests, directory.clone(), Arc::clone(&assistants)),
            servers: published.servers(),
            sip: sip.clone(),
            media,
            stt: engines.stt.clone(),
            llm: engines.llm.clone(),
            tts: engines.tts.clone(),
            hosted: hosted.clone(),
            vad: engines.vad.clone(),
            turn: engines.turn.clone(),
            phrases: engines.phrases.clone(),
            journal: journal.clone(),
            recorder,
            health: health.clone(),
            metrics,
            numbers: tickets.over(published.number_plan(), Arc::clone(&assistants)),
            trunks: published.trunks(),
            admission: trunks::admission(&config),
            assistants,
            mailboxes: mailboxes.clone(),
            routes: published.routes(),
            registry: registry.clone(),
            limits: call_limits(&config, hold_music),
        };
        let dialling = services.clone();
        let dialler: call::Dialler =
            Arc::new(move |request| Box::pin(call::place(dialling.clone(), request)));
        let api = Api {
            store: store.clone(),
            directory: directory.clone(),
            registry: registry.clone(),
            dialler: Arc::clone(&dialler),
            data: config.data.clone(),
            public_url: config.http.public_url.clone(),
            rates: http::Rates::new(config.http.requests_per_second),
            cors_origins: config.http.cors_origins.clone(),
        };
        let desk = Desk {
            dialler: Arc::clone(&dialler),
            registry: registry.clone(),
            trunks: trunks.clone(),
            mailbox_changed: mailboxes::changed(&mailboxes),
        };
        let dashboard = Dashboard::new(http::Parts {
            store: store.clone(),
            directory,
            data: config.data.clone(),
            registry: registry.clone(),
            trunks: trunks.clone(),
            health: health.clone(),
            dialler,
            test_caller,
            mailbox_changed: mailboxes::changed(&mailboxes),
            configured: Configured::of(&config),
            setup: announcing::setup(&store, http_address).await?,
        });
        let load = dashboard.load.clone();
        let scheduler = Scheduler {
            api: api.clone(),
            journal: journal.clone(),
            webhooks,
        };
        let (http_stop, mut stopped) = watch::channel(false);
        let http = tokio::spawn(http::serve(
            listener,
            http::router(routes, api, dashboard),
            async move {
                let _ = stopped.wait_for(|stop| *stop).await;
            },
        ));
        let waiting = indicators::Indicators::new(&sip, &mailboxes);
        let mut background = vec![
            mailboxes::look_after(
                &mailboxes,
                changed,
                &engines.stt,
                &journal,
                waiting.indicator(),
            ),
            tokio::spawn(sender.run()),
            tokio::spawn(analyst.run()),
            tokio::spawn(http::watch_load(load, registry.clone(), scraper)),
            tokio::spawn(waiting.clone().tell_all()),
            tokio::spawn(waiting.serve(subscribed)),
            tokio::spawn(control.serve(desk)),
            tokio::spawn(published.follow(
                sip.clone(),
                engines.phrases.clone(),
                engines.tts.clone(),
                hosted,
            )),
            tokio::spawn(call::take_calls(services, incoming)),
            tokio::spawn(upkeep::watch_store(
                store.clone(),
                Arc::clone(&config),
                health.clone(),
            )),
            tokio::spawn(upkeep::hash_recordings(
                store.clone(),
                Arc::clone(&config),
                journal.clone(),
            )),
            tokio::spawn(upkeep::sweep(store, Arc::clone(&config))),
        ];
        let registrations = registrations::start(objects, &sip, &trunks);
        background.extend(pings::start(&config, &sip, &trunks));
        Ok(Self {
            config,
            health,
            sip,
            registry,
            mailboxes,
            journal,
            ladders,
            engines,
            registrations,
            scheduler: tokio::spawn(scheduler.run()),
            http_stop,
            http,
            background,
        })
    }

    /// New calls are refused, live ones may finish within the drain time.
    async fn stop(self) {
        tracing::info!(calls = self.registry.snapshots().len(), "stopping");
        // An error means that SIP is gone, which is where this leads.
        let _ = self.sip.set_accepting(false).await;
        self.scheduler.abort();
        let drain = Duration::from_secs(u64::from(self.config.limits.drain_seconds));
        if tokio::time::timeout(drain, self.registry.empty())
            .await
            .is_err()
        {
            for call in self.registry.snapshots() {
                self.registry.send(
                    call.id,
                    CallCommand::End {
                        reason: EndedReason::ServerShutdown,
                        by: EndedBy::Operator,
                    },
                );
            }
            let _ = tokio::time::timeout(FAREWELL, self.registry.empty()).await;
        }
        self.registrations.stop().await;
        self.engines.stop().await;
        self.mailboxes.flush().await;
        self.journal.flush().await;
        if let Some(ladders) = &self.ladders {
            ladders.flush().await;
        }
        self.http_stop.send_replace(true);
        let _ = tokio::time::timeout(FAREWELL, self.http).await;
        for task in self.background {
            task.abort();
        }
        tracing::info!("stopped");
    }
}

fn count(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// Calls at once that are in a mailbox.
fn visits(config: &Config) -> usize {
    match config.mailboxes.is_empty() {
        true => 0,
        false => count(config.limits.max_voicemail_calls),
    }
}

fn media_addresses(config: &Config) -> Vec<MediaAddress> {
    let public = config.rtp.public_address.or(config.sip.public_address);
    let addresses = config.rtp.bind.iter().map(|bind| MediaAddress {
        bind: *bind,
        advertised: advertised_address(*bind, public),
    });
    addresses.collect()
}

fn call_limits(config: &Config, hold_music: Arc<[i16]>) -> CallLimits {
    CallLimits {
        codecs: Codec::ALL.to_vec(),
        hold_music,
        refer_targets: config.sip.refer_targets.clone(),
        data: config.data.clone(),
        media_timeout: Duration::from_secs(u64::from(config.rtp.timeout_seconds)),
        minimum_free: config
            .recording
            .minimum_free_megabytes
            .saturating_mul(1_000_000),
    }
}

fn scraper(
    (metrics, trunks): (&Metrics, &TrunkBoard),
    sip: &Sip,
    media: &Media,
    journal: &Journal,
    ladders: Option<Ladders>,
    recorder: Option<Recorder>,
    engines: &Engines,
) -> Scraper {
    let (sip, media, journal, engines) = (
        sip.clone(),
        media.clone(),
        journal.clone(),
        engines.counters(),
    );
    let (metrics, trunks) = (metrics.clone(), trunks.clone());
    Arc::new(move || {
        metrics.trunks(&trunks.snapshot());
        let (sip, media, journal) = (sip.clone(), media.clone(), journal.clone());
        let (recorder, engines) = (recorder.clone(), Arc::clone(&engines));
        let ladders = ladders.clone();
        Box::pin(async move {
            let mut scrape = upkeep::sip_counters(&sip).await;
            scrape.extend(upkeep::media_counters(media.counters()));
            scrape.push(("journal_dropped", journal.dropped()));
            scrape.push((
                "ladder_messages_left_out",
                ladders.map_or(0, |ladders| ladders.left_out()),
            ));
            scrape.push((
                "recording_frames_lost",
                recorder.map_or(0, |recorder| recorder.lost()),
            ));
            scrape.extend(engines());
            scrape
        })
    })
}
