//! From a SIP URI to the addresses to try (RFC 3263).
//!
//! ```text
//!  URI ──▶ plan ──▶ NAPTR ──▶ SRV ──▶ A, AAAA ──▶ targets, best first
//!            │        └─ none ─▲ └─ none ─▲
//!            └── port, transport or address written in the URI: straight to SRV, A or nothing
//! ```
//!
//! The DNS client is hickory-resolver, which caches what it learns for as long as its time to
//! live says, within bounds.

mod policy;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};

use crate::sip::transport::{NotSpoken, Protocol};
use crate::sip::uri::{Host, SipUri};
use policy::{Plan, Server, Service, order_servers, order_services, servers_name};

/// For one question, before it is asked again.
const ANSWER: Duration = Duration::from_secs(2);
/// For all questions about one URI.
const WHOLE: Duration = Duration::from_secs(10);
/// Answers are believed for no longer, whatever they say,
const LONGEST_LIFE: Duration = Duration::from_secs(3_600);
/// "There is none" for no longer,
const LONGEST_ABSENCE: Duration = Duration::from_secs(60);
/// and neither for less, so that each call does not ask again.
const SHORTEST_LIFE: Duration = Duration::from_secs(1);
/// Records in the cache.
const CACHED: u64 = 4_096;
/// Servers of a domain that are looked at.
const MOST_SERVERS: usize = 16;
/// Targets for a URI.
const MOST_TARGETS: usize = 32;

/// One address to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// What to speak.
    pub protocol: Protocol,
    /// Where.
    pub address: SocketAddr,
}

/// Why a URI leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The URI asks for what we do not speak: its writer's fault.
    #[error(transparent)]
    NotSpoken(#[from] NotSpoken),
    /// DNS knows no such host, or none that we could speak with: the URI's writer's fault.
    #[error("{0} has no address that we can use")]
    NotFound(String),
    /// DNS did not answer: the network's fault. Retry later; 503 where it matters.
    #[error("DNS has no answer about {host}: {why}")]
    NoAnswer {
        /// What was asked about.
        host: String,
        /// Why not.
        why: String,
    },
}

/// The DNS client cannot be set up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot set up DNS: {0}")]
pub struct SetupError(String);

/// Asks DNS. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Resolver {
    dns: TokioResolver,
}

impl Resolver {
    /// One that asks `name_server`, or those that the system asks.
    ///
    /// # Errors
    /// Where the client cannot be built.
    pub fn new(name_server: Option<SocketAddr>) -> Result<Self, SetupError> {
        let provider = TokioRuntimeProvider::default();
        let mut builder = match name_server.map(only) {
            Some(config) => TokioResolver::builder_with_config(config, provider),
            None => TokioResolver::builder(provider).unwrap_or_else(|error| {
                // As resolv.conf(5) has it where there is no such file.
                tracing::warn!(%error, "no DNS settings of the system: asking this machine");
                let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 53));
                TokioResolver::builder_with_config(only(local), TokioRuntimeProvider::default())
            }),
        };
        bound(builder.options_mut());
        let dns = builder
            .build()
            .map_err(|error| SetupError(error.to_string()))?;
        Ok(Self { dns })
    }

    /// The addresses to try for `uri`, best first; `spoken` is what we can, in the order that we
    /// prefer where the domain leaves it to us. Never an empty list. Dropping the future stops
    /// asking.
    ///
    /// # Errors
    /// Where the URI leads nowhere, or DNS does not answer within ten seconds.
    pub async fn resolve(
        &self,
        uri: &SipUri,
        spoken: &[Protocol],
    ) -> Result<Vec<Target>, ResolveError> {
        let mut inquiry = Inquiry {
            dns: &self.dns,
            host: uri.host.to_string(),
            targets: Vec::new(),
            failure: None,
        };
        let plan = Plan::of(uri)?;
        let asked = tokio::time::timeout(WHOLE, inquiry.follow(plan, spoken));
        if asked.await.is_err() {
            inquiry
                .failure
                .get_or_insert("it takes too long".to_owned());
        }
        let Inquiry {
            host,
            mut targets,
            failure,
            ..
        } = inquiry;
        targets.retain(|target| spoken.contains(&target.protocol));
        targets.truncate(MOST_TARGETS);
        match (targets.is_empty(), failure) {
            (false, _) => Ok(targets),
            (true, Some(why)) => Err(ResolveError::NoAnswer { host, why }),
            (true, None) => Err(ResolveError::NotFound(host)),
        }
    }
}

fn only(name_server: SocketAddr) -> ResolverConfig {
    let mut server = NameServerConfig::udp_and_tcp(name_server.ip());
    for connection in &mut server.connections {
        connection.port = name_server.port();
    }
    ResolverConfig::from_name_servers(vec![server])
}

fn bound(options: &mut ResolverOpts) {
    options.timeout = ANSWER;
    options.attempts = 2;
    options.cache_size = CACHED;
    options.positive_min_ttl = Some(SHORTEST_LIFE);
    options.negative_min_ttl = Some(SHORTEST_LIFE);
    options.positive_max_ttl = Some(LONGEST_LIFE);
    options.negative_max_ttl = Some(LONGEST_ABSENCE);
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
}

/// The questions about one URI.
struct Inquiry<'a> {
    dns: &'a TokioResolver,
    host: String,
    targets: Vec<Target>,
    /// The first question that got no answer.
    failure: Option<String>,
}

impl Inquiry<'_> {
    async fn follow(&mut self, plan: Plan, spoken: &[Protocol]) {
        match plan {
            Plan::Address(protocol, address) => self.targets.push(Target { protocol, address }),
            Plan::Host(protocol, port) => self.host_itself(protocol, port).await,
            Plan::Servers(protocol) => {
                let name = servers_name(protocol, &self.host);
                self.servers(protocol, name).await;
                if self.targets.is_empty() {
                    self.host_itself(protocol, protocol.default_port()).await;
                }
            }
            Plan::Services => {
                for (protocol, name) in self.services(spoken).await {
                    self.servers(protocol, name).await;
                }
                if self.targets.is_empty() {
                    // RFC 3263 4.1: without NAPTR, whatever has servers.
                    for protocol in spoken {
                        let name = servers_name(*protocol, &self.host);
                        self.servers(*protocol, name).await;
                    }
                }
                if self.targets.is_empty() {
                    let port = Protocol::Udp.default_port();
                    self.host_itself(Protocol::Udp, port).await;
                }
            }
        }
    }

    async fn services(&mut self, spoken: &[Protocol]) -> Vec<(Protocol, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let records = self.lookup(absolute(&self.host), RecordType::NAPTR).await;
        let services = records.into_iter().filter_map(|record| match record {
            RData::NAPTR(naptr) => Some(Service {
                order: naptr.order,
                preference: naptr.preference,
                flags: text(&naptr.flags),
                service: text(&naptr.services),
                replacement: naptr.replacement.to_string(),
            }),
            _ => None,
        });
        order_services(services.collect(), spoken)
    }

    async fn servers(&mut self, protocol: Protocol, name: String) {
        let records = self.lookup(absolute(&name), RecordType::SRV).await;
        let servers = records.into_iter().filter_map(|record| match record {
            RData::SRV(srv) => Some(Server {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                target: srv.target.to_string(),
            }),
            _ => None,
        });
        let ordered = order_servers(servers.collect(), &mut rand::rng());
        for server in ordered.into_iter().take(MOST_SERVERS) {
            // "." says that there is decidedly no such service.
            if server.target != "." {
                self.addresses(&server.target, protocol, server.port).await;
            }
        }
    }

    async fn host_itself(&mut self, protocol: Protocol, port: u16) {
        let host = match self.host.parse() {
            Ok(Host::Name(name)) => name,
            Ok(Host::Ip(_)) | Err(_) => return,
        };
        self.addresses(&host, protocol, port).await;
    }

    async fn addresses(&mut self, host: &str, protocol: Protocol, port: u16) {
        let found: Vec<IpAddr> = match self.dns.lookup_ip(host).await {
            Ok(found) => found.iter().collect(),
            Err(error) => return self.note(&error),
        };
        let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = found.into_iter().partition(IpAddr::is_ipv4);
        for ip in v4.into_iter().chain(v6) {
            let target = Target {
                protocol,
                address: SocketAddr::new(ip, port),
            };
            if !self.targets.contains(&target) {
                self.targets.push(target);
            }
        }
    }

    async fn lookup(&mut self, name: String, kind: RecordType) -> Vec<RData> {
        match self.dns.lookup(name, kind).await {
            Ok(found) => found
                .answers()
                .iter()
                .map(|record| record.data.clone())
                .collect(),
            Err(error) => {
                self.note(&error);
                Vec::new()
            }
        }
    }

    /// That there is no record is an answer; anything else may be another thing the next time.
    fn note(&mut self, error: &NetError) {
        if !error.is_no_records_found() {
            self.failure.get_or_insert_with(|| error.to_string());
        }
    }
}

/// With the dot at its end that keeps the search list away; a name of one label may need that
/// list.
fn absolute(name: &str) -> String {
    match name.contains('.') && !name.ends_with('.') {
        true => format!("{name}."),
        false => name.to_owned(),
    }
}
