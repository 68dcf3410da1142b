//! What goes on beside calls and after them: assistants' servers are told, the model is asked.

use std::sync::Arc;
use std::time::Duration;

use super::ServeError;
use crate::analysis::Analyst;
use crate::call::{Assistants, Registry};
use crate::config::Config;
use crate::engines::hosted::Hosted;
use crate::engines::llm::Llm;
use crate::observe::Metrics;
use crate::store::Store;
use crate::web::{Client, Reach};
use crate::webhooks::{Book, Sender, SenderSettings};

/// Until a receiver's connection is given up.
const CONNECT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(500);

/// An assistant's settings alone.
pub(super) fn book(assistants: Assistants) -> Book {
    Arc::new(move |name| Some(assistants(name)?.1))
}

/// Sends what waits for assistants' servers.
pub(super) fn sender(
    config: &Config,
    store: &Store,
    metrics: &Metrics,
    assistants: Assistants,
) -> Result<Sender, ServeError> {
    let except = config.webhooks.allow.iter().map(|network| network.0);
    let reach = Reach::Public {
        except: except.collect(),
    };
    Ok(Sender {
        store: store.clone(),
        client: Client::new(reach, CONNECT).map_err(ServeError::Tls)?,
        assistants: book(assistants),
        metrics: metrics.clone(),
        settings: SenderSettings {
            give_up: Duration::from_secs(u64::from(config.webhooks.give_up_hours) * 3600),
            poll: POLL,
        },
    })
}

/// Looks at calls that are over.
pub(super) fn analyst(
    store: &Store,
    llm: &Llm,
    hosted: &Hosted,
    assistants: Assistants,
    registry: &Registry,
) -> Analyst {
    let registry = registry.clone();
    Analyst {
        store: store.clone(),
        llm: llm.clone(),
        hosted: hosted.clone(),
        assistants: book(assistants),
        calls_up: Arc::new(move || registry.snapshots().len()),
    }
}
