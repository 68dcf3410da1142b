//! A credential in Vapi's shape: `byo-sip-trunk`, which is a trunk here; and keys of providers.

use ipnet::IpNet;
use serde_json::{Map, Value};

use super::document::Warning;
use crate::config::{Network, Outbound, Secret, Srtp, Transport, Trunk};
use crate::sip::numbering::NumberFormat;

/// Fields of Vapi's that nothing is done with yet.
const UNSUPPORTED: &[&str] = &["sipDiversionHeader", "sbcConfiguration"];

/// Most gateways of a trunk.
const MOST_GATEWAYS: usize = 64;

/// The trunk that a credential is (`None` where it is a key), and what is to be said of it.
///
/// # Errors
/// Everything that is wrong, each with its field and what is allowed.
pub(super) fn read(
    document: &Map<String, Value>,
) -> Result<(Option<Trunk>, Vec<Warning>), Vec<String>> {
    let mut reading = Reading::default();
    if let Some(name) = document.get("name") {
        reading.text("name", name, 40);
    }
    let trunk = match document.get("provider").and_then(Value::as_str) {
        Some("byo-sip-trunk") | None if document.contains_key("gateways") => {
            Some(reading.trunk(document))
        }
        Some("byo-sip-trunk") => {
            reading.wrong("gateways", "must be a list of one gateway or more");
            None
        }
        Some(provider) => {
            reading.key(provider);
            // What only trunks have means nothing here, and is kept in the same shape.
            if document.get("gateways").is_some_and(|list| !list.is_null()) {
                reading.gateways(document);
            }
            reading.manner(document, &mut Trunk::default());
            None
        }
        None => {
            reading.wrong(
                "provider",
                "must be \"byo-sip-trunk\", or a provider of models",
            );
            None
        }
    };
    match reading.mistakes.is_empty() {
        true => Ok((trunk, reading.warnings)),
        false => Err(reading.mistakes),
    }
}

#[derive(Default)]
struct Reading {
    mistakes: Vec<String>,
    warnings: Vec<Warning>,
}

/// One of `gateways`.
struct Gateway {
    host: String,
    networks: Option<IpNet>,
    secure_media: bool,
    outbound: bool,
}

impl Reading {
    fn wrong(&mut self, field: &str, message: &str) {
        self.mistakes.push(format!("{field}: {message}"));
    }

    fn text(&mut self, field: &str, value: &Value, most: usize) -> Option<String> {
        match value {
            Value::String(text) if (1..=most).contains(&text.chars().count()) => Some(text.clone()),
            Value::Null => None,
            _ => {
                self.wrong(field, &format!("must be text of 1 to {most} characters"));
                None
            }
        }
    }

    fn flag(&mut self, field: &str, value: Option<&Value>, default: bool) -> bool {
        match value {
            None | Some(Value::Null) => default,
            Some(Value::Bool(flag)) => *flag,
            Some(_) => {
                self.wrong(field, "must be true or false");
                default
            }
        }
    }

    fn number(&mut self, field: &str, value: Option<&Value>, least: u16, most: u16) -> Option<u16> {
        let value = value.filter(|value| !value.is_null())?;
        let number = value.as_f64().filter(|number| number.fract() == 0.0);
        let range = f64::from(least)..=f64::from(most);
        match number.filter(|number| range.contains(number)) {
            Some(number) => format!("{number:.0}").parse().ok(),
            None => {
                self.wrong(
                    field,
                    &format!("must be a whole number from {least} to {most}"),
                );
                None
            }
        }
    }

    fn key(&mut self, provider: &str) {
        if provider.is_empty() || provider.chars().count() > 40 {
            self.wrong("provider", "must be text of 1 to 40 characters");
        }
        let message = format!("{provider:?} is kept, but not used yet");
        self.warnings.push(Warning::new("provider", message));
    }

    fn gateways(&mut self, document: &Map<String, Value>) -> Vec<Gateway> {
        let gateways = match document.get("gateways") {
            Some(Value::Array(list)) if (1..=MOST_GATEWAYS).contains(&list.len()) => {
                list.as_slice()
            }
            _ => {
                let message = format!("must be a list of 1 to {MOST_GATEWAYS} gateways");
                self.wrong("gateways", &message);
                &[]
            }
        };
        gateways
            .iter()
            .enumerate()
            .filter_map(|(index, gateway)| self.gateway(index, gateway))
            .collect()
    }

    fn trunk(&mut self, document: &Map<String, Value>) -> Trunk {
        let gateways = self.gateways(document);
        let ways = gateways.iter().filter(|gateway| gateway.outbound);
        let hosts: Vec<String> = ways.map(|gateway| gateway.host.clone()).collect();
        let mut trunk = Trunk::of_profile("generic");
        // Vapi's trunks are not asked whether they are there unless they say so.
        trunk.ping_seconds = 0;
        trunk.allow = gateways
            .iter()
            .filter_map(|gateway| gateway.networks)
            .map(Network)
            .collect();
        if gateways.iter().any(|gateway| gateway.secure_media) {
            trunk.srtp = Srtp::Required;
        }
        trunk.outbound = (!hosts.is_empty()).then(|| Outbound {
            host: hosts.clone(),
            destinations: vec!["*".to_owned()],
            ..Outbound::default()
        });
        trunk.registrar = hosts;
        self.manner(document, &mut trunk);
        for field in UNSUPPORTED {
            if document.get(*field).is_some_and(|value| !value.is_null()) {
                self.warnings.push(Warning::unsupported(*field));
            }
        }
        trunk
    }

    /// How a trunk writes numbers, and its account.
    fn manner(&mut self, document: &Map<String, Value>, trunk: &mut Trunk) {
        if !self.flag(
            "outboundLeadingPlusEnabled",
            document.get("outboundLeadingPlusEnabled"),
            true,
        ) {
            trunk.numbers.format = NumberFormat::E164WithoutPlus;
        }
        if let Some(prefix) = document.get("techPrefix") {
            trunk.numbers.tech_prefix = self.text("techPrefix", prefix, 40).unwrap_or_default();
        }
        self.account(document.get("outboundAuthenticationPlan"), trunk);
    }

    fn account(&mut self, plan: Option<&Value>, trunk: &mut Trunk) {
        let plan = match plan {
            None | Some(Value::Null) => return,
            Some(Value::Object(plan)) => plan,
            Some(_) => return self.wrong("outboundAuthenticationPlan", "must be an object"),
        };
        let field = |name: &str| format!("outboundAuthenticationPlan.{name}");
        if let Some(name) = plan.get("authUsername") {
            trunk.username = self.text(&field("authUsername"), name, 200);
        }
        if let Some(password) = plan.get("authPassword") {
            trunk.password = self
                .text(&field("authPassword"), password, 200)
                .map(Secret::new);
        }
        match plan.get("sipRegisterPlan") {
            None | Some(Value::Null) => {}
            Some(Value::Object(register)) => self.register(register, trunk),
            Some(_) => self.wrong(&field("sipRegisterPlan"), "must be an object"),
        }
    }

    /// The account is registered with the gateways that calls are sent to. A registrar names its
    /// realm itself, so that nothing is done with the plan's.
    fn register(&mut self, plan: &Map<String, Value>, trunk: &mut Trunk) {
        let field = |name: &str| format!("outboundAuthenticationPlan.sipRegisterPlan.{name}");
        let needed = [
            ("authUsername", trunk.username.is_some()),
            ("authPassword", trunk.password.is_some()),
        ];
        for (name, _) in needed.into_iter().filter(|(_, there)| !there) {
            let place = format!("outboundAuthenticationPlan.{name}");
            self.wrong(&place, "is needed, because the trunk registers");
        }
        if let Some(name) = plan.get("username")
            && let Some(name) = self.text(&field("username"), name, 200)
        {
            trunk.auth_username = trunk.username.replace(name);
        }
        if let Some(domain) = plan.get("domain") {
            trunk.domain = self.text(&field("domain"), domain, 255);
            if trunk
                .domain
                .as_deref()
                .is_some_and(|domain| !is_host(domain))
            {
                self.wrong(&field("domain"), "must be an address or a host name");
            }
        }
        if trunk.registrar.is_empty() {
            let message = "must have one with outboundEnabled, because the trunk registers";
            self.wrong("gateways", message);
        }
        trunk.register = Some(true);
    }

    fn gateway(&mut self, index: usize, gateway: &Value) -> Option<Gateway> {
        let place = |name: &str| format!("gateways.[{index}].{name}");
        let Value::Object(gateway) = gateway else {
            self.wrong(&format!("gateways.[{index}]"), "must be an object");
            return None;
        };
        let host = gateway.get("ip").unwrap_or(&Value::Null);
        let host = self.text(&place("ip"), host, 255);
        let host = host.filter(|host| is_host(host));
        let Some(host) = host else {
            self.wrong(&place("ip"), "must be an address or a host name");
            return None;
        };
        let port = self.number(&place("port"), gateway.get("port"), 1, u16::MAX);
        let netmask = self
            .number(&place("netmask"), gateway.get("netmask"), 24, 32)
            .unwrap_or(32);
        let inbound = self.flag(
            &place("inboundEnabled"),
            gateway.get("inboundEnabled"),
            true,
        );
        let outbound = self.flag(
            &place("outboundEnabled"),
            gateway.get("outboundEnabled"),
            true,
        );
        let protocol = match gateway.get("outboundProtocol") {
            None | Some(Value::Null) => Some(Transport::Udp),
            Some(protocol) => match protocol.as_str() {
                Some("udp") => Some(Transport::Udp),
                Some("tcp") => Some(Transport::Tcp),
                Some("tls" | "tls/srtp") => Some(Transport::Tls),
                _ => None,
            },
        };
        let Some(protocol) = protocol else {
            let message = "must be \"udp\", \"tcp\", \"tls\" or \"tls/srtp\"";
            self.wrong(&place("outboundProtocol"), message);
            return None;
        };
        let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        if inbound && address.is_err() {
            let message = "calls from a gateway with a name are not told apart: use its address";
            self.warnings.push(Warning::new(place("ip"), message));
        }
        let networks = address
            .clone()
            .ok()
            .filter(|_| inbound)
            .and_then(|address| {
                let length = if address.is_ipv4() {
                    u8::try_from(netmask).ok()?
                } else {
                    128
                };
                IpNet::new(address, length)
                    .ok()
                    .map(|network| network.trunc())
            });
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let host = match address {
            Ok(std::net::IpAddr::V6(address)) => format!("[{address}]"),
            _ => host,
        };
        Some(Gateway {
            host: match protocol {
                Transport::Udp => format!("sip:{host}{port};transport=udp"),
                Transport::Tcp => format!("sip:{host}{port};transport=tcp"),
                Transport::Tls => format!("sips:{host}{port}"),
            },
            networks,
            secure_media: gateway.get("outboundProtocol").and_then(Value::as_str)
                == Some("tls/srtp"),
            outbound,
        })
    }
}

fn is_host(text: &str) -> bool {
    text.trim_matches(['[', ']'])
        .parse::<std::net::IpAddr>()
        .is_ok()
        || text.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::directory::tests::fields;

    #[test]
    fn a_sip_trunk_of_vapis_is_a_trunk() {
        let (trunk, warnings) = read(&fields(json!({
            "provider": "byo-sip-trunk",
            "gateways": [
                { "ip": "198.51.100.7", "port": 5070.0, "netmask": 28, "outboundEnabled": false },
                { "ip": "sip.example.com", "outboundProtocol": "tls/srtp" },
            ],
            "outboundAuthenticationPlan": { "authUsername": "u", "authPassword": "p" },
            "outboundLeadingPlusEnabled": false,
            "techPrefix": "77",
        })))
        .expect("right");
        let trunk = trunk.expect("a trunk");
        assert_eq!(
            trunk.sources(),
            ["198.51.100.0/28".parse().expect("a network")]
        );
        assert_eq!(trunk.outbound_hosts(), ["sips:sip.example.com"]);
        assert!(!trunk.registers());
        assert_eq!(trunk.srtp, Srtp::Required);
        assert_eq!(trunk.numbers.write("+4930"), "4930");
        assert_eq!(trunk.username.as_deref(), Some("u"));
        assert_eq!(warnings[0].field, "gateways.[1].ip");
    }

    #[test]
    fn a_trunk_with_a_plan_for_it_registers_with_its_gateways_in_order() {
        let credential = |plan: Value| {
            read(&fields(json!({
                "provider": "byo-sip-trunk",
                "gateways": [{ "ip": "192.0.2.1", "port": 5070 },
                             { "ip": "192.0.2.2", "outboundProtocol": "tcp" }],
                "outboundAuthenticationPlan": plan,
            })))
        };
        let plan = json!({ "authUsername": "u", "authPassword": "p",
            "sipRegisterPlan": { "domain": "example.com", "username": "200", "realm": "r" } });
        let (trunk, warnings) = credential(plan).expect("right");
        let trunk = trunk.expect("a trunk");
        assert_eq!(warnings, []);
        assert!(trunk.registers());
        let hosts = [
            "sip:192.0.2.1:5070;transport=udp",
            "sip:192.0.2.2;transport=tcp",
        ];
        assert_eq!(trunk.outbound_hosts(), hosts);
        assert_eq!(trunk.registrar, hosts);
        assert_eq!(trunk.username.as_deref(), Some("200"));
        assert_eq!(trunk.domain.as_deref(), Some("example.com"));
        let (name, _) = trunk.credentials().expect("both");
        assert_eq!(name, "u");
        let without = credential(json!({ "authUsername": "u", "sipRegisterPlan": {} }));
        let mistakes = without.expect_err("wrong");
        assert!(mistakes[0].starts_with("outboundAuthenticationPlan.authPassword: is needed"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let credential = json!({
            "provider": "byo-sip-trunk",
            "gateways": [{ "ip": "a b" }, { "ip": "192.0.2.1", "port": 0 }, { "ip": "192.0.2.1", "netmask": 8 },
                         { "ip": "192.0.2.1", "outboundProtocol": "sctp" }, 5],
        });
        let mistakes = read(&fields(credential)).expect_err("wrong");
        let named: Vec<&str> = mistakes
            .iter()
            .filter_map(|text| text.split(':').next())
            .collect();
        assert_eq!(
            named,
            [
                "gateways.[0].ip",
                "gateways.[1].port",
                "gateways.[2].netmask",
                "gateways.[3].outboundProtocol",
                "gateways.[4]",
            ]
        );
    }
}
