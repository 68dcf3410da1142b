//! The ways out: what is known of each trunk that calls can be sent to.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::audio::Codec;
use crate::call::CallRates;
use crate::call::trunk::{Keys, MediaEncryption, speak};
use crate::ids::TrunkName;
use crate::net::sip::{Sip, Way};
use crate::numbers::{NotDialled, Number, Pattern, permit, permit_named};
use crate::sdp::LocalMedia;
use crate::sip::endpoint::{Credentials, Extensions, ExtraHeaders};
use crate::sip::headers::NameAddr;
use crate::sip::identity::{CallerHeader, Identity};
use crate::sip::numbering::NumberRules;
use crate::sip::uri::{Host, SipUri, Uri, escape_user};

/// A trunk that calls can be sent to.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its key in the configuration.
    pub trunk: TrunkName,
    /// Where calls go.
    pub host: SipUri,
    /// Where they go if nobody answers there, in the order to try.
    pub other_hosts: Vec<SipUri>,
    /// PEM file of the certificates that its own must lead to, in TLS.
    pub ca: Option<PathBuf>,
    /// For 401 and 407.
    pub credentials: Option<Credentials>,
    /// The account that a trunk knows us by.
    pub account: Option<String>,
    /// The number that we call from.
    pub caller_id: Option<String>,
    /// The header field that says it, beside From.
    pub shown_in: CallerHeader,
    /// From has the account whatever the number is: the trunk knows its customers by it.
    pub from_account: bool,
    /// The number is not shown to the person called.
    pub hide_caller_id: bool,
    /// How the trunk writes numbers.
    pub numbers: NumberRules,
    /// Numbers that may be called.
    pub destinations: Vec<Pattern>,
    /// Codecs, best first.
    pub codecs: Vec<Codec>,
    /// How it sends keys.
    pub keys: Keys,
    /// Whether its media is encrypted.
    pub encryption: MediaEncryption,
    /// Calls at once, and calls a second, both ways together.
    pub limits: CallRates,
    /// The extensions of SIP that are used with it.
    pub extensions: Extensions,
    /// The trunk transfers calls by REFER.
    pub refer: bool,
    /// How long a telephone rings.
    pub ring_timeout: Duration,
    /// How long one of the trunk's addresses may say nothing before the next is tried.
    pub patience: Duration,
}

impl Route {
    /// A number as people dial it behind this trunk, with its plus.
    fn read(&self, number: Number) -> Number {
        let read = self.numbers.read(number.as_str());
        let read = read.and_then(|read| read.parse().ok());
        read.unwrap_or(number)
    }

    /// The route to each of the hosts alone.
    fn by_host(&self) -> impl Iterator<Item = Arc<Self>> + '_ {
        let hosts = std::iter::once(&self.host).chain(&self.other_hosts);
        hosts.map(|host| {
            Arc::new(Self {
                host: host.clone(),
                other_hosts: Vec::new(),
                ..self.clone()
            })
        })
    }

    fn uri(&self, number: &Number) -> Uri {
        let user = self.numbers.dial(number.as_str());
        Uri::Sip(SipUri {
            raw_user: Some(escape_user(&user)),
            ..self.host.clone()
        })
    }

    /// A user of the trunk's domain.
    fn user(&self, user: &str) -> Uri {
        let mut uri = SipUri::new(Some(user), self.host.host.clone(), None);
        uri.secure = self.host.secure;
        Uri::Sip(uri)
    }

    fn identity(&self) -> Identity {
        let account = self.account.as_ref();
        let number = self.caller_id.as_deref();
        let caller = match (number, account) {
            (Some(number), _) => self.numbers.write(number),
            (None, Some(account)) => account.clone(),
            (None, None) => "offhook".to_owned(),
        };
        Identity {
            caller: self.user(&caller),
            account: account
                .filter(|_| self.from_account)
                .map(|account| self.user(account)),
            shown_in: self.shown_in,
            hidden: self.hide_caller_id,
        }
    }
}

/// Every way out.
#[derive(Clone, Debug, Default)]
pub struct Routes(Arc<BTreeMap<TrunkName, Arc<Route>>>);

/// Who says that somebody is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::call) enum Authority {
    /// A command: the trunk's destinations decide.
    Command,
    /// The configuration, which names whom.
    Configuration,
}

/// Whom to call.
#[derive(Clone, Debug)]
pub(in crate::call) enum Target {
    /// A number, through a trunk.
    Number(Number, Arc<Route>),
    /// A SIP address, at its own host.
    Address(Uri),
}

/// Why nobody can be called.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoute {
    /// No trunk of that name can be called through.
    #[error("there is no trunk {0} with outbound.host")]
    UnknownTrunk(String),
    /// No trunk can be called through.
    #[error("no trunk can be called through: none has outbound.host")]
    None,
    /// More than one can.
    #[error("more than one trunk can be called through: name one")]
    Ambiguous,
    /// The number may not be called.
    #[error("{reason} (trunk {trunk})")]
    Number {
        /// The trunk.
        trunk: TrunkName,
        /// Why not.
        #[source]
        reason: NotDialled,
    },
    /// It is neither a number nor a SIP address.
    #[error("that is neither a telephone number nor a SIP address")]
    NoTarget,
}

impl Routes {
    /// Every way out, by trunk.
    pub fn new(routes: impl IntoIterator<Item = Route>) -> Self {
        let named = routes.into_iter();
        let named = named.map(|route| (route.trunk.clone(), Arc::new(route)));
        Self(Arc::new(named.collect()))
    }

    fn route(&self, trunk: Option<&str>) -> Result<&Arc<Route>, NoRoute> {
        if let Some(name) = trunk {
            let found = self.0.get(&TrunkName::new(name));
            return found.ok_or_else(|| NoRoute::UnknownTrunk(name.to_owned()));
        }
        let mut all = self.0.values();
        match (all.next(), all.next()) {
            (Some(only), None) => Ok(only),
            (None, _) => Err(NoRoute::None),
            (Some(_), Some(_)) => Err(NoRoute::Ambiguous),
        }
    }

    /// Finds the way to a number or a SIP address.
    ///
    /// # Errors
    /// Where there is none, or it may not be taken.
    pub(in crate::call) fn find(
        &self,
        target: &str,
        trunk: Option<&str>,
        authority: Authority,
    ) -> Result<Target, NoRoute> {
        if let Ok(number) = target.parse::<Number>() {
            let route = self.route(trunk)?;
            let number = route.read(number);
            let permitted = match authority {
                Authority::Command => permit(&number, &route.destinations),
                Authority::Configuration => permit_named(&number, &route.destinations),
            };
            permitted.map_err(|reason| NoRoute::Number {
                trunk: route.trunk.clone(),
                reason,
            })?;
            return Ok(Target::Number(number, Arc::clone(route)));
        }
        let uri: Uri = target.parse().map_err(|_| NoRoute::NoTarget)?;
        if uri.as_sip().is_none() {
            return Err(NoRoute::NoTarget);
        }
        Ok(Target::Address(uri))
    }
}

/// What an INVITE to a target says, and the ways to send it, in the order to try.
pub(in crate::call) struct Invitation {
    pub(in crate::call) ways: Vec<Way>,
    pub(in crate::call) request_uri: Uri,
    pub(in crate::call) from: NameAddr,
    pub(in crate::call) headers: ExtraHeaders,
    pub(in crate::call) credentials: Option<Credentials>,
}

impl Target {
    /// Called from this number, where one is given.
    pub(in crate::call) fn from(self, caller_id: Option<String>) -> Self {
        match (self, caller_id) {
            (Self::Number(number, route), Some(caller_id)) => {
                let route = Route {
                    caller_id: Some(caller_id),
                    ..Route::clone(&route)
                };
                Self::Number(number, Arc::new(route))
            }
            (target, _) => target,
        }
    }

    /// What goes into Request-URI and Refer-To.
    pub(in crate::call) fn uri(&self) -> Uri {
        match self {
            Self::Number(number, route) => route.uri(number),
            Self::Address(uri) => uri.clone(),
        }
    }

    /// Whether the other side can be asked to call somebody else.
    pub(in crate::call) fn refers(&self) -> bool {
        match self {
            Self::Number(_, route) => route.refer,
            Self::Address(_) => true,
        }
    }

    /// How long an address may say nothing before the next is tried.
    pub(in crate::call) fn patience(&self) -> Duration {
        match self {
            Self::Number(_, route) => route.patience,
            Self::Address(_) => Duration::from_secs(5),
        }
    }

    pub(in crate::call) fn ring_timeout(&self) -> Duration {
        match self {
            Self::Number(_, route) => route.ring_timeout,
            Self::Address(_) => Duration::from_secs(60),
        }
    }

    /// Finds the ways on the wire, those of each host together. Words for the log where there are
    /// none at all.
    pub(in crate::call) async fn invitations(&self, sip: &Sip) -> Result<Vec<Invitation>, String> {
        let targets: Vec<Self> = match self {
            Self::Number(number, route) => {
                let routes = route.by_host();
                let target = |route| Self::Number(number.clone(), route);
                routes.map(target).collect()
            }
            Self::Address(_) => vec![self.clone()],
        };
        let mut found = Vec::new();
        let mut failure = "it has no host".to_owned();
        for target in targets {
            match target.invitation(sip).await {
                Ok(invitation) => found.push(invitation),
                Err(why) => failure = why,
            }
        }
        match found.is_empty() {
            true => Err(failure),
            false => Ok(found),
        }
    }

    async fn invitation(&self, sip: &Sip) -> Result<Invitation, String> {
        let request_uri = self.uri();
        let ca = match self {
            Self::Number(_, route) => route.ca.as_deref(),
            Self::Address(_) => None,
        };
        let ways = sip
            .resolve(&request_uri, ca)
            .await
            .map_err(|error| error.to_string())?;
        let transport = ways.first().map(|way| way.transport);
        let mut ours = sip.listeners().iter();
        let ours = ours.find(|listener| Some(listener.transport) == transport);
        let ours = ours.or(sip.listeners().first());
        let own = ours.ok_or("there is no SIP listener")?.address;
        let (from, headers) = self.identity(own);
        let credentials = match self {
            Self::Number(_, route) => route.credentials.clone(),
            Self::Address(_) => None,
        };
        Ok(Invitation {
            ways,
            request_uri,
            from,
            headers,
            credentials,
        })
    }

    /// From, and what else says who calls.
    fn identity(&self, own: SocketAddr) -> (NameAddr, ExtraHeaders) {
        match self {
            Self::Number(_, route) => route.identity().written(),
            Self::Address(_) => {
                let host = Host::Ip(own.ip());
                let from = Uri::sip(Some("offhook"), host, Some(own.port()));
                (NameAddr::new(from), Vec::new())
            }
        }
    }

    /// Speaks what the trunk speaks.
    pub(in crate::call) fn prepare(&self, local: &mut LocalMedia) {
        if let Self::Number(_, route) = self {
            speak(local, &route.codecs, route.keys, route.encryption);
        }
    }

    /// The extensions of SIP that are used; the server's where `None`.
    pub(in crate::call) fn extensions(&self) -> Option<Extensions> {
        match self {
            Self::Number(_, route) => Some(route.extensions),
            Self::Address(_) => None,
        }
    }

    /// How keys come from there.
    pub(in crate::call) fn keys(&self) -> Keys {
        match self {
            Self::Number(_, route) => route.keys,
            Self::Address(_) => Keys::default(),
        }
    }

    /// The trunk whose line the call takes, with its limits.
    pub(in crate::call) fn limits(&self) -> Option<(&TrunkName, CallRates)> {
        match self {
            Self::Number(_, route) => Some((&route.trunk, route.limits)),
            Self::Address(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::numbering::NumberFormat;

    fn route(name: &str) -> Route {
        let host = Host::Name("carrier.example".to_owned());
        Route {
            trunk: TrunkName::new(name),
            host: SipUri::new(None, host, Some(5070)),
            other_hosts: Vec::new(),
            ca: None,
            credentials: None,
            account: None,
            caller_id: Some("+4930555".to_owned()),
            shown_in: CallerHeader::From,
            from_account: false,
            hide_caller_id: false,
            numbers: NumberRules::default(),
            destinations: vec!["+49*".parse().expect("a pattern")],
            codecs: vec![Codec::Pcmu],
            keys: Keys::Rfc4733,
            encryption: MediaEncryption::Off,
            limits: CallRates::default(),
            extensions: Extensions::default(),
            refer: true,
            ring_timeout: Duration::from_secs(60),
            patience: Duration::from_secs(5),
        }
    }

    #[test]
    fn a_number_goes_through_the_only_trunk_or_the_one_that_is_named() {
        let find = |routes: &Routes, trunk| routes.find("+4930123", trunk, Authority::Command);
        assert!(matches!(find(&Routes::default(), None), Err(NoRoute::None)));
        let one = Routes::new([route("one")]);
        let target = find(&one, None).expect("found");
        let uri = target.uri().to_string();
        assert_eq!(uri, "sip:+4930123@carrier.example:5070");
        let two = Routes::new([route("one"), route("two")]);
        assert!(matches!(find(&two, None), Err(NoRoute::Ambiguous)));
        assert!(find(&two, Some("two")).is_ok());
        assert!(matches!(
            find(&two, Some("three")),
            Err(NoRoute::UnknownTrunk(_))
        ));
        let refused = one.find("+33123456789", None, Authority::Command);
        let reason = NotDialled::NotAllowed;
        let trunk = TrunkName::new("one");
        assert_eq!(refused.err(), Some(NoRoute::Number { trunk, reason }));
        let named = one.find("+33123456789", None, Authority::Configuration);
        assert!(named.is_ok());
        assert!(one.find("alice", None, Authority::Command).is_err());
        assert!(
            one.find("sip:alice@192.0.2.7", None, Authority::Command)
                .is_ok()
        );
    }

    #[test]
    fn numbers_are_judged_as_e164_and_written_as_the_trunk_has_them() {
        let german = Route {
            numbers: NumberRules {
                format: NumberFormat::National,
                country_code: "49".to_owned(),
                national_prefix: "0".to_owned(),
                international_prefix: "00".to_owned(),
                tech_prefix: "7#".to_owned(),
            },
            ..route("one")
        };
        let routes = Routes::new([german]);
        for dialled in ["+49 30 123456", "030 123456", "0049 30 123456"] {
            let target = routes.find(dialled, None, Authority::Command);
            let uri = target.expect(dialled).uri().to_string();
            assert_eq!(uri, "sip:7%23030123456@carrier.example:5070");
        }
        let premium = routes.find("0900 1234567", None, Authority::Command);
        let reason = NotDialled::Premium;
        let trunk = TrunkName::new("one");
        assert_eq!(premium.err(), Some(NoRoute::Number { trunk, reason }));
        let Target::Number(_, route) = routes
            .find("030 123456", None, Authority::Command)
            .expect("found")
        else {
            panic!("a number");
        };
        let caller = route.identity().caller.to_string();
        assert_eq!(caller, "sip:030555@carrier.example");
    }

    #[test]
    fn a_pbx_sees_the_account_in_from_and_the_number_beside_it() {
        let extension = Route {
            account: Some("200".to_owned()),
            shown_in: CallerHeader::PAssertedIdentity,
            from_account: true,
            ..route("one")
        };
        let (from, headers) = extension.identity().written();
        assert_eq!(from.uri.to_string(), "sip:200@carrier.example");
        assert_eq!(headers[0].1, "<sip:+4930555@carrier.example>");
    }
}
