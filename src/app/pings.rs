//! Asks trunks whether they are there, for as long as the server runs.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use tokio::task::JoinHandle;

use super::registrations::registrar;
use crate::config::{Config, Transport, Trunk};
use crate::ids::TrunkName;
use crate::net::sip::Sip;
use crate::observe::TrunkBoard;
use crate::sip::endpoint::PingRequest;
use crate::sip::uri::Uri;

/// One trunk that is asked.
struct Asked {
    name: TrunkName,
    registrar: String,
    transport: Option<Transport>,
    ca: Option<PathBuf>,
    every: Duration,
}

/// One task for each trunk that is asked.
pub(super) fn start(config: &Config, sip: &Sip, board: &TrunkBoard) -> Vec<JoinHandle<()>> {
    let asked = config
        .trunks
        .iter()
        .filter_map(|(name, trunk)| asked(name, trunk));
    asked
        .map(|asked| tokio::spawn(asked.run(sip.clone(), board.clone())))
        .collect()
}

fn asked(name: &str, trunk: &Trunk) -> Option<Asked> {
    let every = (trunk.ping_seconds > 0).then_some(trunk.ping_seconds)?;
    Some(Asked {
        name: TrunkName::new(name),
        registrar: trunk.registrar.first()?.clone(),
        transport: trunk.transport,
        ca: trunk.ca.clone(),
        every: Duration::from_secs(u64::from(every)),
    })
}

impl Asked {
    async fn run(self, sip: Sip, board: TrunkBoard) {
        loop {
            let request = self.request(&sip).await;
            let began = Instant::now();
            let status = match request {
                Ok(request) => match sip.ping(request).await {
                    Ok(status) => status,
                    // SIP is gone.
                    Err(_) => return,
                },
                Err(why) => {
                    tracing::debug!(trunk = %self.name, why, "OPTIONS cannot be sent");
                    None
                }
            };
            let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            if board.pinged(&self.name, status, took, OffsetDateTime::now_utc()) {
                match status {
                    Some(status @ ..500) => {
                        tracing::info!(trunk = %self.name, status, "the trunk is up");
                    }
                    status => tracing::warn!(trunk = %self.name, ?status, "the trunk is down"),
                }
            }
            tokio::time::sleep(self.every).await;
        }
    }

    /// The name is looked up each time: it may lead elsewhere by now.
    async fn request(&self, sip: &Sip) -> Result<PingRequest, String> {
        let peer = Uri::Sip(registrar(&self.registrar, self.transport)?);
        let ways = sip.resolve(&peer, self.ca.as_deref()).await;
        let ways = ways.map_err(|error| error.to_string())?;
        let way = ways.first().ok_or("it has no address")?;
        Ok(PingRequest {
            transport: way.transport,
            destination: way.destination,
            peer,
        })
    }
}
