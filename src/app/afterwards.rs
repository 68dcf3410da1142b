//! What goes on beside calls and after them: assistants' servers are told, the model is asked.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::ServeError;
use crate::analysis::Analyst;
use crate::call::Registry;
use crate::config::Config;
use crate::directory::Directory;
use crate::engines::hosted::Hosted;
use crate::engines::llm::Llm;
use crate::ids::CallId;
use crate::observe::Metrics;
use crate::store::Store;
use crate::web::{Client, Reach};
use crate::webhooks::{Finding, Sender, SenderSettings, Webhooks};

/// Until a receiver's connection is given up.
const CONNECT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(500);

/// Connects where messages may go.
pub(super) fn client(config: &Config) -> Result<Client, ServeError> {
    let except = config.webhooks.allow.iter().map(|network| network.0);
    let reach = Reach::Public {
        except: except.collect(),
    };
    Client::new(reach, CONNECT).map_err(ServeError::Tls)
}

fn settings_of(directory: &Directory) -> impl Fn(CallId) -> Finding + Send + Sync + use<> {
    let directory = directory.clone();
    move |call| {
        let directory = directory.clone();
        Box::pin(async move { directory.settings_of(call).await })
    }
}

/// Tells servers of the calls that a crash ended.
pub(super) async fn tell_of_closed(
    webhooks: &Webhooks,
    store: &Store,
    directory: &Directory,
    closed: &[CallId],
) -> Result<(), ServeError> {
    for id in closed {
        let settings = directory.settings_of(*id).await?;
        let call = store.call(*id).await?;
        if let (Some(settings), Some(call)) = (settings, call) {
            webhooks.ended(&settings, &call);
        }
    }
    Ok(())
}

/// Sends what waits for assistants' servers. `http` is where this server listens.
pub(super) fn sender(
    config: &Config,
    store: &Store,
    metrics: &Metrics,
    directory: &Directory,
    http: SocketAddr,
) -> Result<Sender, ServeError> {
    let here = Some(http).filter(|address| !address.ip().is_unspecified());
    let here = here.map(|address| format!("http://{address}"));
    Ok(Sender {
        store: store.clone(),
        client: client(config)?,
        settings_of: Arc::new(settings_of(directory)),
        metrics: metrics.clone(),
        settings: SenderSettings {
            give_up: Duration::from_secs(u64::from(config.webhooks.give_up_hours) * 3600),
            poll: POLL,
            most_waiting: config.webhooks.max_waiting.into(),
            base: config.http.public_url.clone().or(here),
        },
    })
}

/// Looks at calls that are over.
pub(super) fn analyst(
    store: &Store,
    llm: &Llm,
    hosted: &Hosted,
    directory: &Directory,
    registry: &Registry,
) -> Analyst {
    let registry = registry.clone();
    Analyst {
        store: store.clone(),
        llm: llm.clone(),
        hosted: hosted.clone(),
        settings_of: Arc::new(settings_of(directory)),
        calls_up: Arc::new(move || registry.snapshots().len()),
    }
}
