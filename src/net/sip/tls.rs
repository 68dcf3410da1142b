//! TLS for SIP (RFC 3261 26.3.1, RFC 5922): our certificate and whom we trust, both of which may
//! change while calls go on.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use tokio::net::TcpStream;
use tokio_rustls::rustls::client::ResolvesClientCert;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig, SignatureScheme};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::stream::Stream;

/// How often the files of certificates are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// What the operator says about TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// Our certificate, with its chain, and its key, both in PEM. Shown to who connects to us,
    /// and to servers that ask for one.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Certificates, in PEM, that peers' certificates must lead to, instead of the system's.
    pub ca: Option<PathBuf>,
    /// Who connects to us must show a certificate that leads to them.
    pub verify_clients: bool,
}

/// A file that TLS needs and cannot use: the operator's to mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot use {} for TLS: {why}", path.display())]
pub struct TlsError {
    /// The file.
    pub path: PathBuf,
    /// Why not.
    pub why: String,
}

impl TlsError {
    fn new(path: &Path, why: impl fmt::Display) -> Self {
        Self {
            path: path.to_owned(),
            why: why.to_string(),
        }
    }
}

/// Our certificate as it is now.
pub(super) struct Identity {
    files: Option<(PathBuf, PathBuf)>,
    current: RwLock<Option<Arc<CertifiedKey>>>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads it, where there is one.
    pub(super) fn load(files: Option<(PathBuf, PathBuf)>) -> Result<Arc<Self>, TlsError> {
        let key = files
            .as_ref()
            .map(|(certificate, key)| certified_key(certificate, key))
            .transpose()?;
        Ok(Arc::new(Self {
            files,
            current: RwLock::new(key),
        }))
    }

    fn current(&self) -> Option<Arc<CertifiedKey>> {
        let current = self.current.read();
        current.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the files again whenever they change, for as long as it is polled. Connections that
    /// are open stay as they are; files that do not fit each other (one of the two was replaced
    /// so far) change nothing.
    pub(super) async fn keep_fresh(self: Arc<Self>) {
        let Some((certificate, key)) = &self.files else {
            return;
        };
        let mut seen = stamps(certificate, key).await;
        let mut ticks = tokio::time::interval(LOOK);
        loop {
            ticks.tick().await;
            let now = stamps(certificate, key).await;
            if now == seen {
                continue;
            }
            seen = now;
            match certified_key(certificate, key) {
                Ok(fresh) => {
                    let current = self.current.write();
                    *current.unwrap_or_else(PoisonError::into_inner) = Some(fresh);
                    tracing::info!(certificate = %certificate.display(), "TLS certificate read again");
                }
                Err(error) => {
                    tracing::warn!(%error, "the TLS certificate changed; the one before stays in use");
                }
            }
        }
    }
}

/// What shows that a file is another than before.
type Stamp = Option<(SystemTime, u64)>;

async fn stamp(path: &Path) -> Stamp {
    let metadata = tokio::fs::metadata(path).await.ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

async fn stamps(certificate: &Path, key: &Path) -> [Stamp; 2] {
    [stamp(certificate).await, stamp(key).await]
}

/// Settings that new connections take, whichever the open ones began with.
struct Current<T>(RwLock<Arc<T>>);

impl<T> Current<T> {
    fn new(settings: T) -> Self {
        Self(RwLock::new(Arc::new(settings)))
    }

    fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, settings: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }
}

/// Reads the certificates that peers' must lead to again whenever their file changes, for as long
/// as it is polled.
pub(super) async fn keep_trust_fresh(ca: PathBuf, server: Arc<ServerTls>, client: ClientTls) {
    let mut seen = stamp(&ca).await;
    let mut ticks = tokio::time::interval(LOOK);
    loop {
        ticks.tick().await;
        let now = stamp(&ca).await;
        if now == seen {
            continue;
        }
        seen = now;
        match server.renew().and_then(|()| client.renew()) {
            Ok(()) => tracing::info!(ca = %ca.display(), "trusted TLS certificates read again"),
            Err(error) => {
                tracing::warn!(%error, "the trusted TLS certificates changed; those before stay in use");
            }
        }
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current()
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.current()
    }

    fn has_certs(&self) -> bool {
        self.current().is_some()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn certified_key(certificate: &Path, key: &Path) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = certificates(certificate)?;
    let private = std::fs::read(key).map_err(|error| TlsError::new(key, error))?;
    let private = PrivateKeyDer::from_pem_slice(&private)
        .map_err(|_| TlsError::new(key, "there is no private key in PEM in it"))?;
    CertifiedKey::from_der(chain, private, &provider())
        .map(Arc::new)
        .map_err(|error| TlsError::new(key, error))
}

/// All certificates in a PEM file: at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = std::fs::read(path).map_err(|error| TlsError::new(path, error))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) | Err(_) => Err(TlsError::new(path, "there is no certificate in PEM in it")),
    }
}

/// The certificates that peers' must lead to: a file's, or the system's.
fn roots(ca: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    match ca {
        Some(path) => {
            for certificate in certificates(path)? {
                store
                    .add(certificate)
                    .map_err(|error| TlsError::new(path, error))?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            let (taken, _) = store.add_parsable_certificates(found.certs);
            if taken == 0 {
                tracing::warn!(
                    errors = ?found.errors,
                    "the system has no certificates to verify TLS peers by"
                );
            }
        }
    }
    Ok(store)
}

/// Our side of connections that peers open.
pub(super) struct ServerTls {
    identity: Arc<Identity>,
    settings: TlsSettings,
    config: Current<ServerConfig>,
}

impl ServerTls {
    /// With an identity that has a certificate.
    pub(super) fn new(identity: Arc<Identity>, settings: &TlsSettings) -> Result<Self, TlsError> {
        let config = server_config(&identity, settings)?;
        Ok(Self {
            identity,
            settings: settings.clone(),
            config: Current::new(config),
        })
    }

    fn renew(&self) -> Result<(), TlsError> {
        self.config
            .set(server_config(&self.identity, &self.settings)?);
        Ok(())
    }

    /// Shakes hands with who connected. No bound of time of its own.
    pub(super) async fn accept(&self, socket: TcpStream) -> io::Result<Box<dyn Stream>> {
        let acceptor = TlsAcceptor::from(self.config.get());
        Ok(Box::new(acceptor.accept(socket).await?))
    }
}

fn server_config(
    identity: &Arc<Identity>,
    settings: &TlsSettings,
) -> Result<ServerConfig, TlsError> {
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::new(Path::new("the TLS versions"), error))?;
    let config = match settings.verify_clients {
        true => {
            let ca = settings.ca.as_deref();
            let roots = Arc::new(roots(ca)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
                .build()
                .map_err(|error| TlsError::new(ca.unwrap_or(Path::new("")), error))?;
            config.with_client_cert_verifier(verifier)
        }
        false => config.with_no_client_auth(),
    };
    Ok(config.with_cert_resolver(Arc::clone(identity) as Arc<dyn ResolvesServerCert>))
}

/// Our side of connections that we open.
#[derive(Clone)]
pub(super) struct ClientTls {
    trust: Arc<Trust>,
    /// Whom the certificate must name; the address where there is no name.
    name: Option<ServerName<'static>>,
}

/// What peers' certificates must lead to.
struct Trust {
    identity: Arc<Identity>,
    ca: Option<PathBuf>,
    config: Current<ClientConfig>,
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl ClientTls {
    /// Trusting the certificates in `ca`, or the system's. Reads files.
    pub(super) fn new(identity: Arc<Identity>, ca: Option<&Path>) -> Result<Self, TlsError> {
        let config = client_config(&identity, ca)?;
        let trust = Trust {
            identity,
            ca: ca.map(Path::to_owned),
            config: Current::new(config),
        };
        Ok(Self {
            trust: Arc::new(trust),
            name: None,
        })
    }

    fn renew(&self) -> Result<(), TlsError> {
        let Trust {
            identity,
            ca,
            config,
        } = &*self.trust;
        config.set(client_config(identity, ca.as_deref())?);
        Ok(())
    }

    /// The same for one peer: `name` is the domain of the URI, whatever DNS made of it (RFC 5922
    /// section 4). `None` where no certificate could have that name.
    pub(super) fn named(&self, name: &str) -> Option<Self> {
        Some(Self {
            trust: Arc::clone(&self.trust),
            name: Some(ServerName::try_from(name.to_owned()).ok()?),
        })
    }

    /// Shakes hands with whom we connected to. No bound of time of its own.
    pub(super) async fn connect(
        self,
        socket: TcpStream,
        address: SocketAddr,
    ) -> io::Result<Box<dyn Stream>> {
        let name = self
            .name
            .unwrap_or_else(|| ServerName::IpAddress(address.ip().into()));
        let connector = TlsConnector::from(self.trust.config.get());
        Ok(Box::new(connector.connect(name, socket).await?))
    }
}

fn client_config(identity: &Arc<Identity>, ca: Option<&Path>) -> Result<ClientConfig, TlsError> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::new(Path::new("the TLS versions"), error))?
        .with_root_certificates(roots(ca)?);
    Ok(config.with_client_cert_resolver(Arc::clone(identity) as Arc<dyn ResolvesClientCert>))
}
