//! Where we listen for SIP, and TLS.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// Streams.
    Tcp,
    /// Streams in TLS.
    Tls,
}

impl Transport {
    const ALL: [Self; 3] = [Self::Udp, Self::Tcp, Self::Tls];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }
}

/// One listener: `udp:0.0.0.0:5060`, `tcp:[::]:5060`, `tls:0.0.0.0:5061`; a bare address is UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Listen {
    /// What it speaks.
    pub transport: Transport,
    /// Where.
    pub address: SocketAddr,
}

impl TryFrom<String> for Listen {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let named = Transport::ALL.into_iter().find_map(|transport| {
            let rest = text.strip_prefix(transport.name())?;
            Some((transport, rest.strip_prefix(':')?))
        });
        let (transport, address) = named.unwrap_or((Transport::Udp, &text));
        let address = address.parse().map_err(|_| {
            format!(
                "{text:?} is not a listener like \"udp:0.0.0.0:5060\", \"tcp:[::]:5060\" or \
                 \"tls:0.0.0.0:5061\" (an address and port alone are UDP)"
            )
        })?;
        Ok(Self { transport, address })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.transport.name(), self.address)
    }
}

/// Our certificate for TLS, and whom we trust.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// PEM file of our certificate with its chain. Read again when it changes.
    pub certificate: Option<PathBuf>,
    /// PEM file of its key.
    pub key: Option<PathBuf>,
    /// PEM file of the certificates that peers' must lead to; the system's if not set.
    pub ca: Option<PathBuf>,
    /// Who connects to us must show a certificate that leads to `ca`.
    pub verify_clients: bool,
}

/// What is wrong with listeners and TLS taken together, as key below `sip` and message.
pub(super) fn mistakes(listen: &[Listen], tls: &Tls) -> Vec<(&'static str, String)> {
    let mut mistakes = Vec::new();
    if listen.is_empty() {
        mistakes.push(("listen", "needs at least one address:port".to_owned()));
    }
    let mut seen = std::collections::BTreeSet::new();
    for at in listen {
        // Port 0 is a port of its own for each.
        if !seen.insert(at) && at.address.port() != 0 {
            mistakes.push(("listen", format!("{at} is listed twice")));
        }
    }
    let listens = listen.iter().any(|at| at.transport == Transport::Tls);
    match (&tls.certificate, &tls.key) {
        (None, Some(_)) => mistakes.push(("tls.certificate", "is needed beside key".to_owned())),
        (Some(_), None) => mistakes.push(("tls.key", "is needed beside certificate".to_owned())),
        (None, None) if listens => mistakes.push((
            "tls.certificate",
            "is needed, with tls.key, because sip.listen has a tls: listener".to_owned(),
        )),
        (Some(_), Some(_)) | (None, None) => {}
    }
    if tls.verify_clients && tls.ca.is_none() {
        mistakes.push((
            "tls.ca",
            "is needed because verify_clients is on: who may have signed the clients' certificates"
                .to_owned(),
        ));
    }
    mistakes
}

/// One value, or a list of them.
pub(super) fn one_or_more<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    #[derive(Deserialize)]
    #[serde(
        untagged,
        expecting = "it is neither a fitting value nor a list of them"
    )]
    enum OneOrMore<T> {
        One(T),
        More(Vec<T>),
    }
    Ok(match OneOrMore::deserialize(deserializer)? {
        OneOrMore::One(one) => vec![one],
        OneOrMore::More(more) => more,
    })
}
