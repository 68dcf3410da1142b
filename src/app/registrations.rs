//! Registers with the trunks that want it, for as long as the server runs: a task each, which goes
//! with the trunk and is another for a trunk that is changed.
//!
//! ```text
//!  resolve ──▶ register ──▶ follow its states ──▶ stop: take it back
//!    ▲  │ DNS does not answer  │ failed: resolve again, before it is tried again
//!    └──┘ pause                └──▶ retarget
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::config::{Config, Transport, Trunk};
use crate::ids::TrunkName;
use crate::net::sip::{Registration, Sip, Way};
use crate::observe::{TrunkBoard, TrunkState};
use crate::sip::endpoint::{
    Credentials, Extensions, KeepAlive, RegisterRequest, RegistrarTarget, RegistrationState,
};
use crate::sip::uri::{Host, SipUri, Uri};

/// How long a stop waits for the registrars.
const GOODBYE: Duration = Duration::from_secs(2);
/// After registrars could not be found; doubled each time up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// The registrations of this server.
pub(super) struct Registrations {
    task: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

/// Registers with each trunk that wants it, those of the API as they come, change and go.
pub(super) fn start(
    mut published: watch::Receiver<Arc<Config>>,
    sip: &Sip,
    board: &TrunkBoard,
) -> Registrations {
    let (stop, mut stopped) = watch::channel(false);
    let mut accounts = Accounts {
        sip: sip.clone(),
        board: board.clone(),
        live: BTreeMap::new(),
    };
    let task = tokio::spawn(async move {
        loop {
            let config = Arc::clone(&published.borrow_and_update());
            accounts.follow(&config).await;
            tokio::select! {
                // Without objects that change, what is there stays until the stop.
                Ok(()) = published.changed() => {}
                () = told_to_stop(&mut stopped) => break,
            }
        }
        let all = std::mem::take(&mut accounts.live);
        end(all.into_values().collect()).await;
    });
    Registrations { task, stop }
}

async fn told_to_stop(stopped: &mut watch::Receiver<bool>) {
    // An error means that nobody can tell us any more.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

impl Registrations {
    /// Takes all registrations back and waits shortly for the registrars to agree.
    pub(super) async fn stop(self) {
        self.stop.send_replace(true);
        let _ = tokio::time::timeout(GOODBYE * 2, self.task).await;
    }
}

/// What a trunk registers: nothing, an account, or why it cannot.
type Wanted = Result<Option<Account>, String>;

/// A trunk as it is kept up.
struct Live {
    account: Wanted,
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

/// Every trunk's.
struct Accounts {
    sip: Sip,
    board: TrunkBoard,
    live: BTreeMap<TrunkName, Live>,
}

impl Accounts {
    /// Ends what is no more or is another, then begins what is new.
    async fn follow(&mut self, config: &Config) {
        let trunks = config.trunks.iter();
        let mut wanted: BTreeMap<TrunkName, Wanted> = trunks
            .map(|(name, trunk)| (TrunkName::new(name), Account::wanted(trunk)))
            .collect();
        let other = |(name, live): (&TrunkName, &Live)| {
            let same = wanted.get(name) == Some(&live.account);
            (!same).then(|| name.clone())
        };
        let over: Vec<TrunkName> = self.live.iter().filter_map(other).collect();
        let ended = over.iter().filter_map(|name| self.live.remove(name));
        // The old one goes first, or its goodbye would take the new one back.
        end(ended.collect()).await;
        for name in over.iter().filter(|name| !wanted.contains_key(*name)) {
            self.board.remove(name);
        }
        wanted.retain(|name, _| !self.live.contains_key(name));
        for (name, account) in wanted {
            let live = self.begin(&name, account);
            self.live.insert(name, live);
        }
    }

    fn begin(&self, name: &TrunkName, account: Wanted) -> Live {
        let entry = Entry {
            trunk: name.clone(),
            board: self.board.clone(),
        };
        let (stop, stopped) = watch::channel(false);
        let task = match &account {
            Ok(None) => {
                entry.set(TrunkState::NotRegistering, None, None);
                None
            }
            Err(why) => {
                tracing::error!(trunk = name.as_str(), why, "cannot register");
                entry.set(TrunkState::Unregistered, None, Some(why.clone()));
                None
            }
            Ok(Some(account)) => {
                entry.set(TrunkState::Registering, None, None);
                let keeper = Keeper {
                    sip: self.sip.clone(),
                    account: account.clone(),
                    entry,
                };
                Some(tokio::spawn(keeper.run(stopped)))
            }
        };
        Live {
            account,
            stop,
            task,
        }
    }
}

/// Takes registrations back, all at once, and waits shortly for the registrars to agree.
async fn end(registrations: Vec<Live>) {
    let mut tasks = JoinSet::new();
    for live in registrations {
        live.stop.send_replace(true);
        if let Some(task) = live.task {
            tasks.spawn(async move {
                let abort = task.abort_handle();
                if tokio::time::timeout(GOODBYE, task).await.is_err() {
                    abort.abort();
                }
            });
        }
    }
    while tasks.join_next().await.is_some() {}
}

/// The name and the password that a trunk asks for, where there are both.
pub(super) fn credentials(trunk: &Trunk) -> Option<Credentials> {
    let (username, password) = trunk.credentials()?;
    Some(Credentials {
        username: username.to_owned(),
        password: password.expose().to_owned(),
    })
}

/// What a trunk registers, and with whom.
#[derive(Clone, PartialEq)]
struct Account {
    registrars: Vec<SipUri>,
    username: String,
    /// Where it is not the registrar's host.
    domain: Option<Host>,
    credentials: Credentials,
    expires: Duration,
    ca: Option<PathBuf>,
    keep_alive: KeepAlive,
    patience: Duration,
    extensions: Extensions,
}

impl Account {
    /// `None` where the trunk does not register.
    fn wanted(trunk: &Trunk) -> Wanted {
        match trunk.registers() {
            true => Self::of(trunk).map(Some),
            false => Ok(None),
        }
    }

    fn of(trunk: &Trunk) -> Result<Self, String> {
        let username = trunk.username.as_deref().ok_or("it has no username")?;
        let registrars = trunk.registrar.iter();
        let registrars: Result<Vec<SipUri>, String> = registrars
            .map(|text| registrar(text, trunk.transport))
            .collect();
        let domain = match &trunk.domain {
            None => None,
            Some(domain) => Some(registrar(domain, None)?.host),
        };
        let expires = trunk
            .profile()
            .map_or(3600, |profile| profile.register_expires_seconds);
        Ok(Self {
            registrars: registrars?,
            username: username.to_owned(),
            domain,
            credentials: credentials(trunk).ok_or("it has no password")?,
            expires: Duration::from_secs(u64::from(expires)),
            ca: trunk.ca.clone(),
            keep_alive: trunk.keep_alive,
            patience: Duration::from_secs(u64::from(trunk.failover_seconds)),
            extensions: trunk.extensions(),
        })
    }

    /// Every registrar at every address, in the order to try. `Err` where none was found.
    async fn targets(&self, sip: &Sip) -> Result<Vec<RegistrarTarget>, String> {
        let mut targets = Vec::new();
        let mut failure = "it has no registrar".to_owned();
        for registrar in &self.registrars {
            let uri = Uri::Sip(registrar.clone());
            match sip.resolve(&uri, self.ca.as_deref()).await {
                Ok(ways) => targets.extend(ways.iter().map(|way| self.target(registrar, way))),
                Err(error) => failure = error.to_string(),
            }
        }
        match targets.is_empty() {
            true => Err(failure),
            false => Ok(targets),
        }
    }

    fn target(&self, registrar: &SipUri, way: &Way) -> RegistrarTarget {
        let (host, port) = match &self.domain {
            Some(domain) => (domain.clone(), None),
            None => (registrar.host.clone(), registrar.port),
        };
        let mut domain = SipUri::new(None, host.clone(), port);
        domain.secure = registrar.secure;
        let mut address_of_record = SipUri::new(Some(&self.username), host, None);
        address_of_record.secure = registrar.secure;
        RegistrarTarget {
            transport: way.transport,
            destination: way.destination,
            registrar: Uri::Sip(domain),
            address_of_record: Uri::Sip(address_of_record),
        }
    }

    fn request(&self, targets: Vec<RegistrarTarget>) -> RegisterRequest {
        RegisterRequest {
            targets,
            contact_user: self.username.clone(),
            credentials: Some(self.credentials.clone()),
            expires: self.expires,
            learn_contact: true,
            keep_alive: self.keep_alive,
            patience: self.patience,
            extensions: Some(self.extensions),
        }
    }
}

/// `host`, `host:port`, or a URI with a transport; `transport` is for those without.
pub(super) fn registrar(text: &str, transport: Option<Transport>) -> Result<SipUri, String> {
    let whole = match text.starts_with("sip:") || text.starts_with("sips:") {
        true => text.to_owned(),
        false => format!("sip:{text}"),
    };
    match whole.parse::<Uri>() {
        Ok(Uri::Sip(mut uri)) => {
            if let Some(transport) = transport
                && !uri.secure
                && uri.transport().is_none()
            {
                uri.params.set("transport", transport.name());
            }
            Ok(uri)
        }
        Ok(_) => Err(format!("{text} is no registrar")),
        Err(error) => Err(format!("{text}: {error}")),
    }
}

/// One trunk's task.
struct Keeper {
    sip: Sip,
    account: Account,
    entry: Entry,
}

impl Keeper {
    async fn run(self, mut stopped: watch::Receiver<bool>) {
        let registration = tokio::select! {
            registration = self.register() => registration,
            _ = stopped.wait_for(|stopped| *stopped) => return,
        };
        let Some(mut registration) = registration else {
            return;
        };
        tokio::select! {
            () = self.follow(&mut registration) => return,
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
        // An error means that SIP is gone.
        let _ = self.sip.unregister(registration.id).await;
        self.follow(&mut registration).await;
    }

    /// `None` where SIP is gone or refuses.
    async fn register(&self) -> Option<Registration> {
        let mut pause = FIRST_PAUSE;
        let targets = loop {
            match self.account.targets(&self.sip).await {
                Ok(targets) => break targets,
                Err(why) => {
                    tracing::error!(trunk = self.entry.trunk.as_str(), why, "cannot register");
                    self.entry.set(TrunkState::Failed, None, Some(why));
                }
            }
            let share = rand::rng().random_range(0.5..1.0);
            tokio::time::sleep(pause.mul_f64(share)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        };
        match self.sip.register(self.account.request(targets)).await {
            Ok(registration) => Some(registration),
            Err(error) => {
                let why = error.map_or_else(|| "SIP stopped".to_owned(), |error| error.to_string());
                tracing::error!(trunk = self.entry.trunk.as_str(), why, "cannot register");
                self.entry.set(TrunkState::Unregistered, None, Some(why));
                None
            }
        }
    }

    /// Logs a registration's changes and shows them on the board, until it is over.
    async fn follow(&self, registration: &mut Registration) {
        let trunk = self.entry.trunk.as_str();
        while registration.state.changed().await.is_ok() {
            let state = registration.state.borrow_and_update().clone();
            match state {
                Some(RegistrationState::Registered { expires, .. }) => {
                    tracing::info!(trunk, ?expires, "registered");
                    self.entry.set(TrunkState::Registered, Some(expires), None);
                }
                Some(RegistrationState::Failed { status, retry_in }) => {
                    tracing::warn!(trunk, ?status, ?retry_in, "registration failed");
                    let why = match status {
                        Some(status) => format!("the registrar answered {status}"),
                        None => "the registrar did not answer".to_owned(),
                    };
                    self.entry.set(TrunkState::Failed, None, Some(why));
                    self.look_again(registration).await;
                }
                Some(RegistrationState::Unregistered) => {
                    tracing::info!(trunk, "unregistered");
                    self.entry.set(TrunkState::Unregistered, None, None);
                }
                None => {}
            }
        }
    }

    /// The registrars may be elsewhere by now.
    async fn look_again(&self, registration: &Registration) {
        if let Ok(targets) = self.account.targets(&self.sip).await {
            let user = self.account.username.clone();
            // An error means that SIP is gone.
            let _ = self.sip.retarget(registration.id, targets, user).await;
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registrar_that_names_its_transport_is_reached_by_that_and_others_by_the_trunks() {
        let reached = |text: &str| {
            let uri = registrar(text, Some(Transport::Tcp)).expect("a registrar");
            uri.to_string()
        };
        assert_eq!(
            reached("pbx.example.com"),
            "sip:pbx.example.com;transport=tcp"
        );
        assert_eq!(
            reached("sip:pbx.example.com:5070;transport=udp"),
            "sip:pbx.example.com:5070;transport=udp"
        );
        assert_eq!(reached("sips:pbx.example.com"), "sips:pbx.example.com");
        let plain = registrar("pbx.example.com", None).expect("a registrar");
        assert_eq!(plain.to_string(), "sip:pbx.example.com");
    }
}
