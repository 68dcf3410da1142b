//! `sip:`, `sips:` and `tel:` URIs (RFC 3261 section 19.1, RFC 3966); others are kept whole.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use super::params::Params;
use super::syntax::{SyntaxError, number};

/// Any URI. `==` is of spelling; [`Uri::equivalent`] compares as RFC 3261 section 19.1.4 does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Uri {
    /// `sip:` or `sips:`.
    Sip(SipUri),
    /// `tel:`.
    Tel(TelUri),
    /// A scheme that is not ours to understand.
    Other(OtherUri),
}

/// A `sip:` or `sips:` URI. User, password, parameters and headers keep their escapes, so that
/// a URI goes back out as it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SipUri {
    /// Whether it is `sips:`.
    pub secure: bool,
    /// The user part as escaped on the wire; [`SipUri::user`] decodes it.
    pub raw_user: Option<String>,
    /// The password as escaped on the wire.
    pub raw_password: Option<String>,
    /// The host.
    pub host: Host,
    /// The port, where one is written.
    pub port: Option<u16>,
    /// The parameters.
    pub params: Params,
    /// The headers after `?`, escaped.
    pub headers: Vec<(String, String)>,
}

/// A `tel:` URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TelUri {
    /// The number as written, visual separators included.
    pub number: String,
    /// The parameters, such as `phone-context`.
    pub params: Params,
}

/// A URI of another scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherUri {
    /// The scheme as spelt.
    pub scheme: String,
    /// All that follows the colon.
    pub opaque: String,
}

/// A host name or address. Names compare without regard to case.
#[derive(Clone, Debug)]
pub enum Host {
    /// A domain name.
    Name(String),
    /// An IPv4 or IPv6 address; the latter is written in brackets.
    Ip(IpAddr),
}

impl Host {
    /// The address, where it is one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Name(_) => None,
            Self::Ip(ip) => Some(*ip),
        }
    }

    /// Reads `host [":" port]`, with white space round the colon allowed where `spaced`.
    pub(super) fn parse_with_port(text: &str) -> Result<(Self, Option<u16>), SyntaxError> {
        let (host, port) = if text.starts_with('[') {
            let end = text.find(']').ok_or(SyntaxError("unclosed IPv6 address"))?;
            let (host, rest) = text.split_at(end + 1);
            match super::syntax::trim(rest) {
                "" => (host, None),
                rest => (
                    host,
                    Some(
                        rest.strip_prefix(':')
                            .ok_or(SyntaxError("colon expected before the port"))?,
                    ),
                ),
            }
        } else {
            match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };
        let port = match port.map(super::syntax::trim) {
            // "host:" with nothing after it is common enough to let pass.
            None | Some("") => None,
            Some(digits) => match number::<u16>(digits)? {
                0 => return Err(SyntaxError("port 0")),
                port => Some(port),
            },
        };
        Ok((super::syntax::trim(host).parse()?, port))
    }
}

impl PartialEq for Host {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(a), Self::Name(b)) => a.eq_ignore_ascii_case(b),
            (Self::Ip(a), Self::Ip(b)) => a == b,
            (Self::Name(_), Self::Ip(_)) | (Self::Ip(_), Self::Name(_)) => false,
        }
    }
}

impl Eq for Host {}

impl From<IpAddr> for Host {
    fn from(ip: IpAddr) -> Self {
        Self::Ip(ip)
    }
}

impl FromStr for Host {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        if let Some(inside) = text.strip_prefix('[') {
            let inside = inside
                .strip_suffix(']')
                .ok_or(SyntaxError("unclosed IPv6 address"))?;
            return parse_ipv6(inside).map(|ip| Self::Ip(IpAddr::V6(ip)));
        }
        if let Ok(ip) = text.parse() {
            return Ok(Self::Ip(IpAddr::V4(ip)));
        }
        let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if text.is_empty() || text.len() > 255 || !text.bytes().all(is_name_byte) {
            return Err(SyntaxError("not a host"));
        }
        Ok(Self::Name(text.to_owned()))
    }
}

/// Reads an IPv6 address, also with the third colon that RFC 3261's grammar wrongly asks for
/// before an embedded IPv4 address (RFC 5118 section 4.10).
fn parse_ipv6(text: &str) -> Result<Ipv6Addr, SyntaxError> {
    text.parse()
        .or_else(|_| text.replacen(":::", "::", 1).parse())
        .map_err(|_| SyntaxError("not an IPv6 address"))
}

/// Reads an address that may or may not stand in brackets, as `received` does (RFC 5118
/// section 4.5).
pub(super) fn parse_ip(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    bare.parse().ok()
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

impl Uri {
    /// A plain `sip:` URI; `user` is escaped here.
    pub fn sip(user: Option<&str>, host: Host, port: Option<u16>) -> Self {
        Self::Sip(SipUri::new(user, host, port))
    }

    /// The SIP URI, where it is one.
    pub fn as_sip(&self) -> Option<&SipUri> {
        match self {
            Self::Sip(uri) => Some(uri),
            Self::Tel(_) | Self::Other(_) => None,
        }
    }

    /// Who is meant: the decoded user of a SIP URI or the number of a `tel:` one, without its
    /// visual separators.
    pub fn user(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Sip(uri) => uri.user(),
            Self::Tel(uri) => Some(Cow::Owned(uri.subscriber())),
            Self::Other(_) => None,
        }
    }

    /// The scheme as written out.
    pub fn scheme(&self) -> &str {
        match self {
            Self::Sip(uri) if uri.secure => "sips",
            Self::Sip(_) => "sip",
            Self::Tel(_) => "tel",
            Self::Other(uri) => &uri.scheme,
        }
    }

    /// Whether both name the same resource (RFC 3261 section 19.1.4, RFC 3966 section 4).
    pub fn equivalent(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Sip(a), Self::Sip(b)) => a.equivalent(b),
            (Self::Tel(a), Self::Tel(b)) => a.equivalent(b),
            (Self::Other(a), Self::Other(b)) => {
                a.scheme.eq_ignore_ascii_case(&b.scheme) && a.opaque == b.opaque
            }
            _ => false,
        }
    }
}

impl SipUri {
    /// A plain `sip:` URI; `user` is escaped here.
    pub fn new(user: Option<&str>, host: Host, port: Option<u16>) -> Self {
        Self {
            secure: false,
            raw_user: user.map(escape_user),
            raw_password: None,
            host,
            port,
            params: Params::new(),
            headers: Vec::new(),
        }
    }

    /// The decoded user part. Bytes that are no UTF-8 once decoded come as U+FFFD.
    pub fn user(&self) -> Option<Cow<'_, str>> {
        self.raw_user.as_deref().map(decode_text)
    }

    /// Whether a Route to it is loose: `lr`, however valued (`lr=on` is common).
    pub fn is_loose_router(&self) -> bool {
        self.params.has("lr")
    }

    /// The `transport` parameter.
    pub fn transport(&self) -> Option<&str> {
        self.params.get("transport")
    }

    /// Whether both name the same resource (RFC 3261 section 19.1.4).
    pub fn equivalent(&self, other: &Self) -> bool {
        let same = |a: &Option<String>, b: &Option<String>| {
            a.as_deref().map(decode) == b.as_deref().map(decode)
        };
        self.secure == other.secure
            && same(&self.raw_user, &other.raw_user)
            && same(&self.raw_password, &other.raw_password)
            && self.host == other.host
            && self.port == other.port
            && self.params_match(other)
            && headers_match(&self.headers, &other.headers)
    }

    /// Parameters in both must agree; these few must be in both or in neither. Transport is
    /// among them by the section's examples, if not by its text.
    fn params_match(&self, other: &Self) -> bool {
        let never_alone = ["user", "ttl", "method", "maddr", "transport"];
        let value = |params: &Params, name: &str| {
            params
                .get(name)
                .map(|value| decode(value).to_ascii_lowercase())
        };
        never_alone
            .iter()
            .all(|name| self.params.has(name) == other.params.has(name))
            && self
                .params
                .iter()
                .filter(|param| other.params.has(&param.name))
                .all(|param| value(&self.params, &param.name) == value(&other.params, &param.name))
    }
}

/// Headers must be the same set, in any order.
fn headers_match(ours: &[(String, String)], theirs: &[(String, String)]) -> bool {
    let key = |headers: &[(String, String)]| {
        let mut key: Vec<_> = headers
            .iter()
            .map(|(name, value)| (decode(name).to_ascii_lowercase(), decode(value)))
            .collect();
        key.sort();
        key
    };
    ours.len() == theirs.len() && key(ours) == key(theirs)
}

impl TelUri {
    /// The number without its visual separators.
    pub fn subscriber(&self) -> String {
        self.number
            .chars()
            .filter(|character| !"-.()".contains(*character))
            .collect()
    }

    /// Whether both name the same number (RFC 3966 section 4).
    pub fn equivalent(&self, other: &Self) -> bool {
        let key = |uri: &Self| {
            let mut params: Vec<_> = uri
                .params
                .iter()
                .map(|param| {
                    (
                        param.name.to_ascii_lowercase(),
                        param.value.as_deref().map(str::to_ascii_lowercase),
                    )
                })
                .collect();
            params.sort();
            (uri.subscriber().to_ascii_lowercase(), params)
        };
        key(self) == key(other)
    }
}

/// Reads a URI. White space, controls, quotes and angle brackets are never part of one.
impl FromStr for Uri {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let forbidden = |character: char| character.is_control() || " <>\"".contains(character);
        if text.contains(forbidden) {
            return Err(SyntaxError("character not allowed in a URI"));
        }
        let (scheme, rest) = text
            .split_once(':')
            .ok_or(SyntaxError("URI without a scheme"))?;
        let is_scheme_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        if !scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            || !scheme.bytes().all(is_scheme_byte)
        {
            return Err(SyntaxError("malformed URI scheme"));
        }
        match scheme.to_ascii_lowercase().as_str() {
            "sip" => parse_sip(false, rest).map(Self::Sip),
            "sips" => parse_sip(true, rest).map(Self::Sip),
            "tel" => parse_tel(rest).map(Self::Tel),
            _ => Ok(Self::Other(OtherUri {
                scheme: scheme.to_owned(),
                opaque: rest.to_owned(),
            })),
        }
    }
}

fn parse_sip(secure: bool, rest: &str) -> Result<SipUri, SyntaxError> {
    // The user part may hold ';', '?' and ':', so the first '@' decides before they do.
    let (userinfo, rest) = match rest.split_once('@') {
        Some((userinfo, rest)) => (Some(userinfo), rest),
        None => (None, rest),
    };
    let (raw_user, raw_password) = match userinfo.map(|info| {
        info.split_once(':')
            .map_or((info, None), |(user, password)| (user, Some(password)))
    }) {
        Some(("", _)) => return Err(SyntaxError("empty user part")),
        Some((user, password)) => (Some(user.to_owned()), password.map(str::to_owned)),
        None => (None, None),
    };
    let (rest, headers) = match rest.split_once('?') {
        Some((rest, headers)) => (rest, parse_uri_headers(headers)?),
        None => (rest, Vec::new()),
    };
    let (host_port, params) = match rest.split_once(';') {
        Some((host_port, params)) => (host_port, Params::parse_uri(params)?),
        None => (rest, Params::new()),
    };
    let (host, port) = Host::parse_with_port(host_port)?;
    Ok(SipUri {
        secure,
        raw_user,
        raw_password,
        host,
        port,
        params,
        headers,
    })
}

fn parse_uri_headers(text: &str) -> Result<Vec<(String, String)>, SyntaxError> {
    text.split('&')
        .map(|pair| match pair.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
            _ => Err(SyntaxError("malformed URI header")),
        })
        .collect()
}

fn parse_tel(rest: &str) -> Result<TelUri, SyntaxError> {
    let (number, params) = match rest.split_once(';') {
        Some((number, params)) => (number, Params::parse_uri(params)?),
        None => (rest, Params::new()),
    };
    let is_number_byte = |byte: u8| byte.is_ascii_hexdigit() || b"*#-.()".contains(&byte);
    let digits = number.strip_prefix('+').unwrap_or(number);
    if digits.is_empty() || !digits.bytes().all(is_number_byte) {
        return Err(SyntaxError("not a telephone number"));
    }
    Ok(TelUri {
        number: number.to_owned(),
        params,
    })
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sip(uri) => uri.fmt(f),
            Self::Tel(uri) => write!(f, "tel:{}{}", uri.number, uri.params),
            Self::Other(uri) => write!(f, "{}:{}", uri.scheme, uri.opaque),
        }
    }
}

impl fmt::Display for SipUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.secure { "sips:" } else { "sip:" })?;
        if let Some(user) = &self.raw_user {
            f.write_str(user)?;
            if let Some(password) = &self.raw_password {
                write!(f, ":{password}")?;
            }
            f.write_str("@")?;
        }
        self.host.fmt(f)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        self.params.fmt(f)?;
        for (at, (name, value)) in self.headers.iter().enumerate() {
            write!(f, "{}{name}={value}", if at == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

impl From<SipUri> for Uri {
    fn from(uri: SipUri) -> Self {
        Self::Sip(uri)
    }
}

/// Escapes what a user part may not hold (RFC 3261 section 25.1, `user`).
pub fn escape_user(user: &str) -> String {
    escape(user, b"-_.!~*'()&=+$,;?/")
}

/// Escapes what a parameter or header of a URI may not hold, such as a Replaces value in a
/// Refer-To.
pub fn escape_component(text: &str) -> String {
    escape(text, b"-_.!~*'()[]/:$+")
}

fn escape(text: &str, allowed: &[u8]) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || allowed.contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// Undoes percent escapes. A percent sign without two hexadecimal digits stands for itself.
pub fn decode(text: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if let (b'%', [high, low, after @ ..]) = (*first, tail)
            && let (Some(high), Some(low)) = (hex_digit(*high), hex_digit(*low))
        {
            decoded.push(high << 4 | low);
            rest = after;
        } else {
            decoded.push(*first);
        }
    }
    decoded
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

fn decode_text(text: &str) -> Cow<'_, str> {
    if text.contains('%') {
        Cow::Owned(String::from_utf8_lossy(&decode(text)).into_owned())
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests;
