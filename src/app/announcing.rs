//! What whoever starts a server has to know.

use std::net::SocketAddr;

use crate::http::SetupToken;
use crate::net::sip::Sip;
use crate::store::{Store, StoreError};

/// Where it listens.
pub(super) fn announce(sip: &Sip, http: SocketAddr) {
    for listener in sip.listeners() {
        tracing::info!(address = %listener.address, protocol = ?listener.protocol, "SIP");
    }
    tracing::info!(address = %http, "HTTP: the dashboard at /ui; the API, its description at /docs; /healthz, /readyz, /metrics");
}

/// While nobody can log in, whoever reads what the server prints can make the first operator.
pub(super) async fn setup(store: &Store, http: SocketAddr) -> Result<SetupToken, StoreError> {
    if !store.operators().await?.is_empty() {
        return Ok(SetupToken::default());
    }
    let (setup, token) = SetupToken::draw();
    tracing::info!(
        "the dashboard has no operator yet: open http://{http}/ui/ and make one with the token \
         {token}, or run `offhook operator create --name NAME`"
    );
    Ok(setup)
}

/// Says how the API is let into, as long as nobody is.
pub(super) async fn announce_keys(store: &Store) -> Result<(), StoreError> {
    if store.api_keys().await?.is_empty() {
        tracing::info!("nobody may use the API yet: offhook api-key create --name NAME");
    }
    Ok(())
}
