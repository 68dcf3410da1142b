//! Registers with the trunks that want it, for as long as the server runs.

use std::net::SocketAddr;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::watch;

use crate::config::{Config, Trunk};
use crate::ids::TrunkName;
use crate::net::sip::{Registration, Sip};
use crate::observe::{TrunkBoard, TrunkState};
use crate::sip::endpoint::{Credentials, Protocol, RegisterRequest, RegistrationState};
use crate::sip::uri::Uri;

/// How long a stop waits for the registrars.
const GOODBYE: Duration = Duration::from_secs(2);

/// The registrations of this server.
pub(super) struct Registrations(Vec<Registration>);

/// Starts a registration for each trunk that registers. A trunk whose registrar cannot be found
/// is logged and left out.
pub(super) async fn start(config: &Config, sip: &Sip, board: &TrunkBoard) -> Registrations {
    let mut registrations = Vec::new();
    for (name, trunk) in &config.trunks {
        let entry = Entry {
            trunk: TrunkName::new(name),
            board: board.clone(),
        };
        if !trunk.registers() {
            entry.set(TrunkState::NotRegistering, None, None);
            continue;
        }
        entry.set(TrunkState::Registering, None, None);
        let request = match request(trunk, sip).await {
            Ok(request) => request,
            Err(why) => {
                tracing::error!(trunk = name, why, "cannot register");
                entry.set(TrunkState::Unregistered, None, Some(why));
                continue;
            }
        };
        match sip.register(request).await {
            Ok(registration) => {
                tokio::spawn(follow(entry, registration.state.clone()));
                registrations.push(registration);
            }
            Err(error) => {
                tracing::error!(trunk = name, ?error, "cannot register");
                let why = error.map_or_else(|| "SIP stopped".to_owned(), |error| error.to_string());
                entry.set(TrunkState::Unregistered, None, Some(why));
            }
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
    let domain = registrar
        .rsplit_once(':')
        .map_or(registrar, |(host, _)| host);
    let transport = sip
        .reach(Protocol::Udp, destination, domain, None)
        .await
        .map_err(|error| error.to_string())?;
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

/// A trunk's place on the board.
struct Entry {
    trunk: TrunkName,
    board: TrunkBoard,
}

impl Entry {
    fn set(&self, state: TrunkState, expires: Option<Duration>, error: Option<String>) {
        let now = OffsetDateTime::now_utc();
        let expires = expires.map(|expires| now + expires);
        self.board.set(&self.trunk, state, expires, error, now);
    }
}

/// Logs a registration's changes and shows them on the board.
async fn follow(entry: Entry, mut state: watch::Receiver<Option<RegistrationState>>) {
    while state.changed().await.is_ok() {
        let trunk = entry.trunk.as_str();
        match state.borrow_and_update().clone() {
            Some(RegistrationState::Registered { expires }) => {
                tracing::info!(trunk, ?expires, "registered");
                entry.set(TrunkState::Registered, Some(expires), None);
            }
            Some(RegistrationState::Failed { status, retry_in }) => {
                tracing::warn!(trunk, ?status, ?retry_in, "registration failed");
                let why = match status {
                    Some(status) => format!("the registrar answered {status}"),
                    None => "the registrar did not answer".to_owned(),
                };
                entry.set(TrunkState::Failed, None, Some(why));
            }
            Some(RegistrationState::Unregistered) => {
                tracing::info!(trunk, "unregistered");
                entry.set(TrunkState::Unregistered, None, None);
            }
            None => {}
        }
    }
}
