//! HTTP to other machines: hosted engines and webhooks.
//!
//! ```text
//!  URL ── literal address? ──► Reach permits it? ──► connect ──► one answer, redirects not followed
//!     └── name ── looked up ──► addresses that Reach permits ──┘
//! ```
//!
//! What a URL leads to is decided on the addresses that are connected to, not on how they are
//! written, so that a name which resolves to a private address is no way round. No proxy is used
//! and no redirect followed: both would have somebody else choose the address.

mod reach;

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use url::{Host, Url};

pub use reach::Reach;

/// Connections that nobody uses are closed after this.
const IDLE: Duration = Duration::from_secs(60);

/// Why a URL is not asked at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Only `http` and `https` are spoken.
    #[error("the URL's scheme is neither http nor https")]
    Scheme,
    /// The URL names no host.
    #[error("the URL names no host")]
    NoHost,
    /// An address that may not be connected to.
    #[error("{0} is a private, loopback or special address, which is not allowed")]
    Address(IpAddr),
    /// A name all of whose addresses may not be connected to.
    #[error("the name leads only to private, loopback or special addresses, which is not allowed")]
    Name,
}

/// A client that connects only where it may. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Client {
    inner: reqwest::Client,
    reach: Arc<Reach>,
}

impl Client {
    /// A client that gives a connection up that does not come about within `connect`.
    ///
    /// # Errors
    /// Where TLS cannot be set up.
    pub fn new(reach: Reach, connect: Duration) -> Result<Self, reqwest::Error> {
        let reach = Arc::new(reach);
        let inner = reqwest::Client::builder()
            .tls_backend_preconfigured(tls().as_ref().clone())
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .connect_timeout(connect)
            .pool_idle_timeout(IDLE)
            .user_agent(concat!("Offhook/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Arc::new(Resolver(Arc::clone(&reach))))
            .build()?;
        Ok(Self { inner, reach })
    }

    /// Begins a POST.
    ///
    /// # Errors
    /// Where the URL may not be asked.
    pub fn post(&self, url: Url) -> Result<reqwest::RequestBuilder, Refused> {
        check(&url, &self.reach)?;
        Ok(self.inner.post(url))
    }
}

/// Whether a URL may be asked, as far as it says without a look-up.
///
/// # Errors
/// Why not.
pub fn check(url: &Url, reach: &Reach) -> Result<(), Refused> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Refused::Scheme);
    }
    let address = match url.host().ok_or(Refused::NoHost)? {
        Host::Domain(_) => return Ok(()),
        Host::Ipv4(address) => IpAddr::V4(address),
        Host::Ipv6(address) => IpAddr::V6(address),
    };
    match reach.permits(address) {
        true => Ok(()),
        false => Err(Refused::Address(address)),
    }
}

/// TLS as every client of ours speaks it: the system's certificates. Read once.
pub fn tls() -> &'static Arc<ClientConfig> {
    static TLS: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            tracing::warn!("the system has no certificates: no HTTPS peer can be verified");
        }
        let provider = Arc::new(ring::default_provider());
        let versions = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions();
        let builder = match versions {
            Ok(builder) => builder,
            // Not with ring, which has them all.
            Err(_) => ClientConfig::builder(),
        };
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
    });
    &TLS
}

/// Looks names up and hands on only what may be connected to.
struct Resolver(Arc<Reach>);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = Arc::clone(&self.0);
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let permitted: Vec<_> = found.filter(|at| reach.permits(at.ip())).collect();
            match permitted.is_empty() {
                true => Err(Refused::Name.into()),
                false => Ok(Box::new(permitted.into_iter()) as Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests;
