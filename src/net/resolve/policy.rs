//! What to ask DNS for a URI, and in which order to try what it says (RFC 3263 section 4, RFC
//! 2782, RFC 3403). Pure: records and randomness are handed in.

use std::net::SocketAddr;

use rand::{Rng, RngExt};

use crate::sip::transport::{NotSpoken, Protocol};
use crate::sip::uri::{Host, SipUri};

/// Where to begin. `maddr` is not followed: it would send a call elsewhere than its domain says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// The host is an address: nothing is asked.
    Address(Protocol, SocketAddr),
    /// The host's addresses, with this port.
    Host(Protocol, u16),
    /// The servers for this protocol; where there are none, the host with its default port.
    Servers(Protocol),
    /// What the domain offers, and the servers for that.
    Services,
}

impl Plan {
    /// The plan for a URI.
    pub(super) fn of(uri: &SipUri) -> Result<Self, NotSpoken> {
        let asked = Protocol::asked_by(uri)?;
        let fixed = asked.unwrap_or(Protocol::Udp);
        Ok(match (&uri.host, uri.port, asked) {
            (Host::Ip(ip), port, _) => {
                let port = port.unwrap_or(fixed.default_port());
                Self::Address(fixed, SocketAddr::new(*ip, port))
            }
            (Host::Name(_), Some(port), _) => Self::Host(fixed, port),
            // `sips:` fixes the protocol to TLS over TCP, so NAPTR has nothing to choose.
            (Host::Name(_), None, Some(protocol)) => Self::Servers(protocol),
            (Host::Name(_), None, None) => Self::Services,
        })
    }
}

/// A NAPTR record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) order: u16,
    pub(super) preference: u16,
    pub(super) flags: String,
    pub(super) service: String,
    pub(super) replacement: String,
}

/// The protocols that NAPTR records offer and we speak, with the name of each one's servers, in
/// the order to try.
pub(super) fn order_services(
    mut records: Vec<Service>,
    spoken: &[Protocol],
) -> Vec<(Protocol, String)> {
    records.sort_by_key(|record| (record.order, record.preference));
    records
        .into_iter()
        .filter(|record| record.flags.eq_ignore_ascii_case("s"))
        .filter_map(|record| {
            let service = record.service.to_ascii_uppercase();
            let protocol = match service.as_str() {
                "SIP+D2U" => Protocol::Udp,
                "SIP+D2T" => Protocol::Tcp,
                "SIPS+D2T" => Protocol::Tls,
                _ => return None,
            };
            spoken
                .contains(&protocol)
                .then_some((protocol, record.replacement))
        })
        .collect()
}

/// The name of the servers of a domain.
pub(super) fn servers_name(protocol: Protocol, domain: &str) -> String {
    let service = match protocol {
        Protocol::Udp => "_sip._udp",
        Protocol::Tcp => "_sip._tcp",
        Protocol::Tls => "_sips._tcp",
    };
    format!("{service}.{domain}")
}

/// An SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) port: u16,
    pub(super) target: String,
}

/// SRV records in the order to try: by priority, and within one at random by weight, so that a
/// server of twice the weight is twice as often first (RFC 2782).
pub(super) fn order_servers(mut records: Vec<Server>, rng: &mut impl Rng) -> Vec<Server> {
    // Those without weight come first where the draw runs over them, as the RFC has it.
    records.sort_by_key(|record| (record.priority, record.weight));
    let mut ordered = Vec::with_capacity(records.len());
    while let Some(first) = records.first() {
        let priority = first.priority;
        let same = records
            .iter()
            .take_while(|record| record.priority == priority)
            .count();
        let total: u32 = records[..same]
            .iter()
            .map(|record| u32::from(record.weight))
            .sum();
        let drawn = rng.random_range(0..=total);
        let mut sum = 0;
        let chosen = records[..same].iter().position(|record| {
            sum += u32::from(record.weight);
            sum >= drawn
        });
        ordered.push(records.remove(chosen.unwrap_or(0)));
    }
    ordered
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::sip::uri::Uri;

    fn plan(uri: &str) -> Result<Plan, NotSpoken> {
        let uri: Uri = uri.parse().expect("a URI");
        Plan::of(uri.as_sip().expect("a SIP URI"))
    }

    #[test]
    fn an_address_or_a_port_leaves_less_to_ask() {
        let address = |text: &str| text.parse().expect("an address");
        let cases = [
            (
                "sip:192.0.2.1",
                Plan::Address(Protocol::Udp, address("192.0.2.1:5060")),
            ),
            (
                "sips:192.0.2.1",
                Plan::Address(Protocol::Tls, address("192.0.2.1:5061")),
            ),
            (
                "sip:[2001:db8::1]:5080;transport=tcp",
                Plan::Address(Protocol::Tcp, address("[2001:db8::1]:5080")),
            ),
            ("sip:example.com:5070", Plan::Host(Protocol::Udp, 5070)),
            ("sips:example.com:5071", Plan::Host(Protocol::Tls, 5071)),
            (
                "sip:example.com;transport=TCP",
                Plan::Servers(Protocol::Tcp),
            ),
            ("sips:example.com", Plan::Servers(Protocol::Tls)),
            ("sip:example.com", Plan::Services),
        ];
        for (uri, expected) in cases {
            assert_eq!(plan(uri), Ok(expected), "{uri}");
        }
        assert!(plan("sip:example.com;transport=sctp").is_err());
        assert!(plan("sips:example.com;transport=udp").is_err());
    }

    #[test]
    fn services_go_by_order_then_preference_and_only_those_that_we_speak() {
        let record = |order, preference, service: &str| Service {
            order,
            preference,
            flags: "s".to_owned(),
            service: service.to_owned(),
            replacement: format!("{order}.{preference}"),
        };
        let records = vec![
            record(20, 10, "SIP+D2U"),
            record(10, 50, "SIP+D2T"),
            record(10, 10, "SIPS+D2T"),
            record(10, 20, "SIP+D2S"),
            Service {
                flags: "u".to_owned(),
                ..record(1, 1, "SIP+D2U")
            },
        ];
        let both = [Protocol::Udp, Protocol::Tcp];
        assert_eq!(
            order_services(records.clone(), &both),
            [
                (Protocol::Tcp, "10.50".to_owned()),
                (Protocol::Udp, "20.10".to_owned()),
            ]
        );
        let tls = order_services(records, &[Protocol::Tls]);
        assert_eq!(tls, [(Protocol::Tls, "10.10".to_owned())]);
    }

    fn server(priority: u16, weight: u16) -> Server {
        Server {
            priority,
            weight,
            port: 5060,
            target: format!("{priority}-{weight}"),
        }
    }

    #[test]
    fn servers_of_higher_priority_come_first_and_none_is_lost() {
        let mut rng = StdRng::seed_from_u64(2782);
        for _ in 0..100 {
            let records = vec![server(20, 5), server(10, 0), server(10, 70), server(20, 0)];
            let order = order_servers(records.clone(), &mut rng);
            let priorities: Vec<u16> = order.iter().map(|record| record.priority).collect();
            assert_eq!(priorities, [10, 10, 20, 20]);
            assert!(records.iter().all(|record| order.contains(record)));
        }
    }

    #[test]
    fn within_a_priority_the_first_is_drawn_by_weight() {
        let mut rng = StdRng::seed_from_u64(2782);
        let mut first = 0;
        for _ in 0..4_000 {
            let order = order_servers(vec![server(1, 10), server(1, 30)], &mut rng);
            first += u32::from(order[0].weight == 30);
        }
        // Three in four, give or take what chance gives.
        assert!((2_850..3_150).contains(&first), "{first} of 4000");
    }
}
