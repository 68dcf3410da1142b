//! Header fields: an ordered list of raw values, and getters that type them on demand.

mod answer;
mod challenge;
mod name;
mod name_addr;
mod values;
mod via;

use std::fmt;

pub use challenge::{
    Algorithm, Challenge, Credentials, DigestChallenge, DigestCredentials, Protection,
    QualityOfProtection,
};
pub use name::HeaderName;
pub use name_addr::{Contacts, NameAddr};
pub use values::{
    CSeq, ContentType, Event, RAck, ReasonValue, Refresher, Replaces, SessionExpires,
    SubscriptionState,
};
pub use via::{Rport, Transport, Via};

use super::message::Method;
use super::syntax::{SyntaxError, number, split_list, trim};
use super::uri::Uri;

/// Why a header cannot be used. Always the peer's doing; a request with one is answered 400,
/// a response with one is dropped. Sending the same again would not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// A header that must be there is not.
    #[error("Missing {0}")]
    Missing(HeaderName),
    /// A header that may come once comes again and says something else.
    #[error("Conflicting {0}")]
    Repeated(HeaderName),
    /// The value breaks its grammar.
    #[error("Malformed {name}: {problem}")]
    Malformed {
        /// Which header.
        name: HeaderName,
        /// Which rule.
        problem: SyntaxError,
    },
}

impl HeaderError {
    /// The header in question.
    pub fn header(&self) -> &HeaderName {
        match self {
            Self::Missing(name) | Self::Repeated(name) | Self::Malformed { name, .. } => name,
        }
    }
}

/// One header field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its name.
    pub name: HeaderName,
    /// Its value, unfolded and trimmed; never with CR or LF.
    pub value: String,
}

/// Header fields in the order of the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<Header>);

impl Headers {
    /// No headers.
    pub fn new() -> Self {
        Self::default()
    }

    /// All fields in order.
    pub fn iter(&self) -> impl Iterator<Item = &Header> {
        self.0.iter()
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first value of `name`, raw.
    pub fn get(&self, name: &HeaderName) -> Option<&str> {
        self.get_all(name).next()
    }

    /// All values of `name`, raw and in order, one for each field.
    pub fn get_all<'a>(&'a self, name: &HeaderName) -> impl Iterator<Item = &'a str> + use<'a> {
        let name = name.clone();
        self.0
            .iter()
            .filter(move |header| header.name == name)
            .map(|header| header.value.as_str())
    }

    /// Whether `name` is there.
    pub fn has(&self, name: &HeaderName) -> bool {
        self.get(name).is_some()
    }

    /// Adds a field at the end. CR and LF in the value become spaces, so that no value can
    /// start another header.
    pub fn push(&mut self, name: HeaderName, value: impl fmt::Display) {
        self.0.push(Header {
            name,
            value: one_line(value),
        });
    }

    /// Adds a field before all others, as a new top Via or Route must be.
    pub fn push_front(&mut self, name: HeaderName, value: impl fmt::Display) {
        self.0.insert(
            0,
            Header {
                name,
                value: one_line(value),
            },
        );
    }

    /// Replaces all fields of `name` by one, in the place of the first.
    pub fn set(&mut self, name: HeaderName, value: impl fmt::Display) {
        let value = one_line(value);
        match self.0.iter().position(|header| header.name == name) {
            Some(first) => {
                let mut at = 0;
                self.0.retain(|header| {
                    at += 1;
                    header.name != name || at == first + 1
                });
                if let Some(header) = self.0.get_mut(first) {
                    header.value = value;
                }
            }
            None => self.0.push(Header { name, value }),
        }
    }

    /// Takes all fields of `name` away.
    pub fn remove(&mut self, name: &HeaderName) {
        self.0.retain(|header| header.name != *name);
    }

    /// Appends all fields of `name` from `source`, unchanged.
    pub fn copy_all(&mut self, source: &Self, name: &HeaderName) {
        self.0.extend(
            source
                .0
                .iter()
                .filter(|header| header.name == *name)
                .cloned(),
        );
    }

    /// All Via values, topmost first; at least one.
    pub fn vias(&self) -> Result<Vec<Via>, HeaderError> {
        let vias = self.list(HeaderName::Via)?;
        if vias.is_empty() {
            return Err(HeaderError::Missing(HeaderName::Via));
        }
        Ok(vias)
    }

    /// The topmost Via. Reads no further than it needs.
    pub fn top_via(&self) -> Result<Via, HeaderError> {
        let name = HeaderName::Via;
        let value = self
            .get(&name)
            .ok_or(HeaderError::Missing(HeaderName::Via))?;
        let first = split_list(value)
            .and_then(|elements| elements.first().copied().unwrap_or_default().parse());
        first.map_err(|problem| HeaderError::Malformed { name, problem })
    }

    /// From.
    pub fn from(&self) -> Result<NameAddr, HeaderError> {
        self.required(HeaderName::From)
    }

    /// To.
    pub fn to(&self) -> Result<NameAddr, HeaderError> {
        self.required(HeaderName::To)
    }

    /// Contact: its addresses, or the `*` of a REGISTER.
    pub fn contacts(&self) -> Result<Contacts, HeaderError> {
        let mut values = self.get_all(&HeaderName::Contact);
        if values.next().map(trim) == Some("*") && values.next().is_none() {
            return Ok(Contacts::Wildcard);
        }
        self.list(HeaderName::Contact).map(Contacts::List)
    }

    /// The one Contact that an INVITE, its answers and other target refreshes carry; the first
    /// where there are several. It is where requests go, so it has to be a SIP URI (RFC 3261
    /// 8.1.1.8).
    pub fn contact(&self) -> Result<NameAddr, HeaderError> {
        let malformed = |problem| HeaderError::Malformed {
            name: HeaderName::Contact,
            problem: SyntaxError(problem),
        };
        let Contacts::List(list) = self.contacts()? else {
            return Err(malformed("* outside REGISTER"));
        };
        let first = list.into_iter().next();
        let contact = first.ok_or(HeaderError::Missing(HeaderName::Contact))?;
        match contact.uri {
            Uri::Sip(_) => Ok(contact),
            Uri::Tel(_) | Uri::Other(_) => Err(malformed("not a SIP URI")),
        }
    }

    /// CSeq.
    pub fn cseq(&self) -> Result<CSeq, HeaderError> {
        self.required(HeaderName::CSeq)
    }

    /// Call-ID, which compares byte for byte.
    pub fn call_id(&self) -> Result<&str, HeaderError> {
        let name = HeaderName::CallId;
        match self.single(&name)? {
            None => Err(HeaderError::Missing(name)),
            Some(value) if value.is_empty() || value.contains([' ', '\t']) => {
                Err(HeaderError::Malformed {
                    name,
                    problem: SyntaxError("not one word"),
                })
            }
            Some(value) => Ok(value),
        }
    }

    /// Max-Forwards, 0..=255; absent from old peers.
    pub fn max_forwards(&self) -> Result<Option<u8>, HeaderError> {
        self.number(HeaderName::MaxForwards)
    }

    /// Content-Length in bytes.
    pub fn content_length(&self) -> Result<Option<usize>, HeaderError> {
        self.number(HeaderName::ContentLength)
    }

    /// Content-Type.
    pub fn content_type(&self) -> Result<Option<ContentType>, HeaderError> {
        self.optional(HeaderName::ContentType)
    }

    /// Route, topmost first.
    pub fn routes(&self) -> Result<Vec<NameAddr>, HeaderError> {
        self.list(HeaderName::Route)
    }

    /// Record-Route, topmost first; a UAC's route set is its reverse.
    pub fn record_routes(&self) -> Result<Vec<NameAddr>, HeaderError> {
        self.list(HeaderName::RecordRoute)
    }

    /// Service-Route of a REGISTER's 200 (RFC 3608).
    pub fn service_routes(&self) -> Result<Vec<NameAddr>, HeaderError> {
        self.list(HeaderName::ServiceRoute)
    }

    /// The methods in Allow; what is no token is left out.
    pub fn allow(&self) -> Vec<Method> {
        self.words(&HeaderName::Allow)
            .filter_map(Method::parse)
            .collect()
    }

    /// The option tags in Supported.
    pub fn supported(&self) -> Vec<&str> {
        self.words(&HeaderName::Supported).collect()
    }

    /// Whether `option` is supported or required, in any case.
    pub fn offers(&self, option: &str) -> bool {
        self.supported()
            .into_iter()
            .chain(self.require())
            .any(|tag| tag.eq_ignore_ascii_case(option))
    }

    /// The option tags in Require.
    pub fn require(&self) -> Vec<&str> {
        self.words(&HeaderName::Require).collect()
    }

    /// The option tags in Proxy-Require.
    pub fn proxy_require(&self) -> Vec<&str> {
        self.words(&HeaderName::ProxyRequire).collect()
    }

    /// The option tags in Unsupported.
    pub fn unsupported(&self) -> Vec<&str> {
        self.words(&HeaderName::Unsupported).collect()
    }

    /// Expires in seconds.
    pub fn expires(&self) -> Result<Option<u32>, HeaderError> {
        self.number(HeaderName::Expires)
    }

    /// Min-Expires in seconds.
    pub fn min_expires(&self) -> Result<Option<u32>, HeaderError> {
        self.number(HeaderName::MinExpires)
    }

    /// Session-Expires (RFC 4028).
    pub fn session_expires(&self) -> Result<Option<SessionExpires>, HeaderError> {
        self.optional(HeaderName::SessionExpires)
    }

    /// Min-SE in seconds (RFC 4028); its parameters, if any, are ignored.
    pub fn min_se(&self) -> Result<Option<u32>, HeaderError> {
        self.leading_number(HeaderName::MinSe)
    }

    /// Retry-After in seconds; its comment and parameters are ignored.
    pub fn retry_after(&self) -> Result<Option<u32>, HeaderError> {
        self.leading_number(HeaderName::RetryAfter)
    }

    /// RSeq of a reliable provisional answer (RFC 3262).
    pub fn rseq(&self) -> Result<Option<u32>, HeaderError> {
        self.number(HeaderName::RSeq)
    }

    /// RAck of a PRACK (RFC 3262).
    pub fn rack(&self) -> Result<RAck, HeaderError> {
        self.required(HeaderName::RAck)
    }

    /// Replaces (RFC 3891).
    pub fn replaces(&self) -> Result<Option<Replaces>, HeaderError> {
        self.optional(HeaderName::Replaces)
    }

    /// Refer-To (RFC 3515).
    pub fn refer_to(&self) -> Result<NameAddr, HeaderError> {
        self.required(HeaderName::ReferTo)
    }

    /// Referred-By (RFC 3892).
    pub fn referred_by(&self) -> Result<Option<NameAddr>, HeaderError> {
        self.optional(HeaderName::ReferredBy)
    }

    /// Whether a REFER, or its answer, is without a subscription: `Refer-Sub: false` (RFC 4488).
    pub fn declines_subscription(&self) -> bool {
        let value = self.get(&HeaderName::ReferSub).unwrap_or_default();
        let word = trim(value.split(';').next().unwrap_or_default());
        word.eq_ignore_ascii_case("false")
    }

    /// Subscription-State of a NOTIFY (RFC 6665).
    pub fn subscription_state(&self) -> Result<SubscriptionState, HeaderError> {
        self.required(HeaderName::SubscriptionState)
    }

    /// Event (RFC 6665).
    pub fn event(&self) -> Result<Option<Event>, HeaderError> {
        self.optional(HeaderName::Event)
    }

    /// WWW-Authenticate, every challenge of every field.
    pub fn www_authenticate(&self) -> Result<Vec<Challenge>, HeaderError> {
        self.challenges(HeaderName::WwwAuthenticate)
    }

    /// Proxy-Authenticate, every challenge of every field.
    pub fn proxy_authenticate(&self) -> Result<Vec<Challenge>, HeaderError> {
        self.challenges(HeaderName::ProxyAuthenticate)
    }

    /// Authorization, one for each field.
    pub fn authorization(&self) -> Result<Vec<Credentials>, HeaderError> {
        self.each(&HeaderName::Authorization)
    }

    /// Proxy-Authorization, one for each field.
    pub fn proxy_authorization(&self) -> Result<Vec<Credentials>, HeaderError> {
        self.each(&HeaderName::ProxyAuthorization)
    }

    /// Reason (RFC 3326), why a request was sent.
    pub fn reasons(&self) -> Result<Vec<ReasonValue>, HeaderError> {
        self.list(HeaderName::Reason)
    }

    /// P-Asserted-Identity (RFC 3325). To be believed only from a trusted peer.
    pub fn p_asserted_identity(&self) -> Result<Vec<NameAddr>, HeaderError> {
        self.list(HeaderName::PAssertedIdentity)
    }

    /// Diversion (RFC 5806), the latest diversion first.
    pub fn diversion(&self) -> Result<Vec<NameAddr>, HeaderError> {
        self.list(HeaderName::Diversion)
    }

    /// History-Info (RFC 7044), the oldest entry first.
    pub fn history_info(&self) -> Result<Vec<NameAddr>, HeaderError> {
        self.list(HeaderName::HistoryInfo)
    }

    /// User-Agent.
    pub fn user_agent(&self) -> Option<&str> {
        self.get(&HeaderName::UserAgent)
    }

    /// The one value of a header that may come once. The very same value twice is let pass.
    fn single(&self, name: &HeaderName) -> Result<Option<&str>, HeaderError> {
        let mut values = self.get_all(name);
        let first = values.next();
        if values.any(|other| Some(other) != first) {
            return Err(HeaderError::Repeated(name.clone()));
        }
        Ok(first)
    }

    fn optional<T: Typed>(&self, name: HeaderName) -> Result<Option<T>, HeaderError> {
        match self.single(&name)? {
            None => Ok(None),
            Some(value) => value
                .parse()
                .map(Some)
                .map_err(|problem| HeaderError::Malformed { name, problem }),
        }
    }

    fn required<T: Typed>(&self, name: HeaderName) -> Result<T, HeaderError> {
        self.optional(name.clone())?
            .ok_or(HeaderError::Missing(name))
    }

    fn number<T: std::str::FromStr>(&self, name: HeaderName) -> Result<Option<T>, HeaderError> {
        match self.single(&name)? {
            None => Ok(None),
            Some(value) => number(value)
                .map(Some)
                .map_err(|problem| HeaderError::Malformed { name, problem }),
        }
    }

    fn leading_number(&self, name: HeaderName) -> Result<Option<u32>, HeaderError> {
        match self.single(&name)? {
            None => Ok(None),
            Some(value) => {
                let end = value.find([';', '(', ' ', '\t']).unwrap_or(value.len());
                number(&value[..end])
                    .map(Some)
                    .map_err(|problem| HeaderError::Malformed { name, problem })
            }
        }
    }

    /// Every element of a comma-separated header over all its fields.
    fn list<T: Typed>(&self, name: HeaderName) -> Result<Vec<T>, HeaderError> {
        let mut all = Vec::new();
        for value in self.get_all(&name) {
            let typed = split_list(value).and_then(|elements| {
                elements
                    .into_iter()
                    .map(str::parse)
                    .collect::<Result<Vec<T>, _>>()
            });
            match typed {
                Ok(elements) => all.extend(elements),
                Err(problem) => return Err(HeaderError::Malformed { name, problem }),
            }
        }
        Ok(all)
    }

    /// One value for each field, commas and all.
    fn each<T: Typed>(&self, name: &HeaderName) -> Result<Vec<T>, HeaderError> {
        self.get_all(name)
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map_err(|problem| HeaderError::Malformed {
                name: name.clone(),
                problem,
            })
    }

    fn challenges(&self, name: HeaderName) -> Result<Vec<Challenge>, HeaderError> {
        let mut all = Vec::new();
        for value in self.get_all(&name) {
            match Challenge::parse_list(value) {
                Ok(challenges) => all.extend(challenges),
                Err(problem) => return Err(HeaderError::Malformed { name, problem }),
            }
        }
        Ok(all)
    }

    /// The words of a list of tokens; empty elements are nothing.
    fn words(&self, name: &HeaderName) -> impl Iterator<Item = &str> {
        self.get_all(name)
            .flat_map(|value| value.split(','))
            .map(trim)
            .filter(|word| !word.is_empty())
    }
}

/// What a header value can be read as.
trait Typed: std::str::FromStr<Err = SyntaxError> {}
impl<T: std::str::FromStr<Err = SyntaxError>> Typed for T {}

fn one_line(value: impl fmt::Display) -> String {
    let text = value.to_string();
    if text.contains(['\r', '\n']) {
        text.replace(['\r', '\n'], " ")
    } else {
        text
    }
}

#[cfg(test)]
mod tests;
