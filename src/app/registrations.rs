//! Registers with the trunks that want it, for as long as the server runs.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::watch;

use crate::config::{Config, Trunk};
use crate::net::sip::{Registration, Sip};
use crate::sip::endpoint::{Credentials, RegisterRequest, RegistrationState, TransportId};
use crate::sip::uri::Uri;

/// How long a stop waits for the registrars.
const GOODBYE: Duration = Duration::from_secs(2);

/// The registrations of this server.
pub(super) struct Registrations(Vec<Registration>);

/// Starts a registration for each trunk that registers. A trunk whose registrar cannot be found
/// is logged and left out.
pub(super) async fn start(config: &Config, sip: &Sip) -> Registrations {
    let mut registrations = Vec::new();
    for (name, trunk) in config.trunks.iter().filter(|(_, trunk)| trunk.registers()) {
        let request = match request(trunk, sip).await {
            Ok(request) => request,
            Err(why) => {
                tracing::error!(trunk = name, why, "cannot register");
                continue;
            }
        };
        match sip.register(request).await {
            Ok(registration) => {
                tokio::spawn(log_changes(name.clone(), registration.state.clone()));
                registrations.push(registration);
            }
            Err(error) => tracing::error!(trunk = name, ?error, "cannot register"),
        }
    }
    Registrations(registrations)
}

impl Registrations {
    /// Takes all registrations back and waits shortly for the registrars to agree.
    pub(super) async fn stop(self, sip: &Sip) {
        for registration in &self.0 {
            // An error means that SIP is gone.
            let _ = sip.unregister(registration.id).await;
        }
        let all = async {
            for mut registration in self.0 {
                let over = |state: &Option<RegistrationState>| {
                    *state == Some(RegistrationState::Unregistered)
                };
                let _ = registration.state.wait_for(over).await;
            }
        };
        let _ = tokio::time::timeout(GOODBYE, all).await;
    }
}

async fn request(trunk: &Trunk, sip: &Sip) -> Result<RegisterRequest, String> {
    let registrar = trunk.registrar.as_deref().ok_or("it has no registrar")?;
    let username = trunk.username.as_deref().ok_or("it has no username")?;
    let password = trunk.password.as_ref().ok_or("it has no password")?;
    let uri = |text: String| {
        text.parse::<Uri>()
            .map_err(|error| format!("{text}: {error}"))
    };
    let destination = resolve(registrar).await?;
    let transport = transport_to(sip, destination).ok_or("no SIP socket can reach it")?;
    let domain = registrar
        .rsplit_once(':')
        .map_or(registrar, |(host, _)| host);
    let expires = trunk
        .profile()
        .map_or(3600, |profile| profile.register_expires_seconds);
    Ok(RegisterRequest {
        transport,
        destination,
        registrar: uri(format!("sip:{registrar}"))?,
        address_of_record: uri(format!("sip:{username}@{domain}"))?,
        contact_user: username.to_owned(),
        credentials: Some(Credentials {
            username: username.to_owned(),
            password: password.expose().to_owned(),
        }),
        expires: Duration::from_secs(u64::from(expires)),
        learn_contact: true,
    })
}

async fn resolve(registrar: &str) -> Result<SocketAddr, String> {
    let with_port = match registrar.contains(':') {
        true => registrar.to_owned(),
        false => format!("{registrar}:5060"),
    };
    let mut found = tokio::net::lookup_host(&with_port)
        .await
        .map_err(|error| format!("{with_port}: {error}"))?;
    found
        .next()
        .ok_or_else(|| format!("{with_port} has no address"))
}

fn transport_to(sip: &Sip, destination: SocketAddr) -> Option<TransportId> {
    let usable = |address: &SocketAddr| {
        address.is_ipv4() == destination.is_ipv4()
            && (destination.ip().is_loopback() || !address.ip().is_loopback())
    };
    let found = sip.transports().iter().find(|(_, address)| usable(address));
    found.map(|(transport, _)| *transport)
}

async fn log_changes(trunk: String, mut state: watch::Receiver<Option<RegistrationState>>) {
    while state.changed().await.is_ok() {
        match &*state.borrow_and_update() {
            Some(RegistrationState::Registered { expires }) => {
                tracing::info!(trunk, ?expires, "registered");
            }
            Some(RegistrationState::Failed { status, retry_in }) => {
                tracing::warn!(trunk, ?status, ?retry_in, "registration failed");
            }
            Some(RegistrationState::Unregistered) => tracing::info!(trunk, "unregistered"),
            None => {}
        }
    }
}
