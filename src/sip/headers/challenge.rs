//! Digest challenges and credentials (RFC 3261 section 22.4, RFC 7616, RFC 8760).

use std::fmt;
use std::str::FromStr;

use crate::sip::syntax::{Scanner, SyntaxError, is_space, write_quoted};

/// A digest algorithm.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// MD5, also where none is named.
    Md5,
    /// SHA-256.
    Sha256,
    /// One that we do not speak.
    Other(String),
}

impl Algorithm {
    /// The name on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
            Self::Other(name) => name,
        }
    }

    fn parse(text: &str) -> Self {
        if text.eq_ignore_ascii_case("MD5") {
            Self::Md5
        } else if text.eq_ignore_ascii_case("SHA-256") {
            Self::Sha256
        } else {
            Self::Other(text.to_owned())
        }
    }
}

/// A quality of protection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum QualityOfProtection {
    /// Method and URI are covered.
    Auth,
    /// The body too.
    AuthInt,
    /// One that we do not speak.
    Other(String),
}

impl QualityOfProtection {
    /// The name on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Auth => "auth",
            Self::AuthInt => "auth-int",
            Self::Other(name) => name,
        }
    }

    fn parse(text: &str) -> Self {
        if text.eq_ignore_ascii_case("auth") {
            Self::Auth
        } else if text.eq_ignore_ascii_case("auth-int") {
            Self::AuthInt
        } else {
            Self::Other(text.to_owned())
        }
    }
}

/// A challenge of any scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// `Digest`.
    Digest(DigestChallenge),
    /// A scheme that we do not speak, by name.
    Other(String),
}

/// A digest challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestChallenge {
    /// The protection domain.
    pub realm: String,
    /// The server's nonce.
    pub nonce: String,
    /// To be given back unchanged.
    pub opaque: Option<String>,
    /// The algorithm to use.
    pub algorithm: Algorithm,
    /// The qualities on offer; empty from servers of RFC 2069.
    pub qop: Vec<QualityOfProtection>,
    /// Whether only the nonce was too old.
    pub stale: bool,
}

/// Credentials of any scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// `Digest`.
    Digest(DigestCredentials),
    /// A scheme that we do not speak, by name.
    Other(String),
}

/// Digest credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestCredentials {
    /// The user name.
    pub username: String,
    /// The protection domain.
    pub realm: String,
    /// The server's nonce.
    pub nonce: String,
    /// The Request-URI as the client saw it.
    pub uri: String,
    /// The proof, in hexadecimal.
    pub response: String,
    /// The algorithm used.
    pub algorithm: Algorithm,
    /// The server's opaque.
    pub opaque: Option<String>,
    /// Quality of protection with its client nonce and nonce count; `None` as RFC 2069 had it.
    pub protection: Option<Protection>,
}

/// What comes with a quality of protection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protection {
    /// The quality.
    pub qop: QualityOfProtection,
    /// The client's nonce.
    pub cnonce: String,
    /// How often the client has used the server's nonce, this time included.
    pub nonce_count: u32,
}

/// The most parameters of one field's challenges or credentials, which are looked up one by one.
const MAX_AUTH_PARAMS: usize = 64;

/// `name=value` with the value unquoted.
struct AuthParams(Vec<(String, String)>);

impl AuthParams {
    fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    fn need(&self, name: &str, problem: &'static str) -> Result<String, SyntaxError> {
        self.get(name)
            .map(str::to_owned)
            .ok_or(SyntaxError(problem))
    }

    fn algorithm(&self) -> Algorithm {
        self.get("algorithm")
            .map_or(Algorithm::Md5, Algorithm::parse)
    }
}

/// Reads schemes with their parameters. A word that no `=` follows begins another scheme,
/// which is how several challenges can share one field.
fn parse_schemes(text: &str) -> Result<Vec<(String, AuthParams)>, SyntaxError> {
    let mut schemes: Vec<(String, AuthParams)> = Vec::new();
    let mut scanner = Scanner::new(text);
    for _ in 0..MAX_AUTH_PARAMS {
        while scanner.skip_space().eat(',') {}
        if scanner.is_done() {
            return Ok(schemes);
        }
        let word = scanner.token()?.to_owned();
        if scanner.skip_space().eat('=') {
            let Some((scheme, params)) = schemes.last_mut() else {
                return Err(SyntaxError("authentication scheme missing"));
            };
            let value = match scanner.skip_space().peek() {
                Some('"') => scanner.quoted()?,
                _ => scanner
                    .until(|character| is_space(character) || character == ',')
                    .to_owned(),
            };
            // Only Digest's grammar is known, and there a parameter comes once.
            if scheme.eq_ignore_ascii_case("Digest") && params.get(&word).is_some() {
                return Err(SyntaxError("authentication parameter repeated"));
            }
            params.0.push((word, value));
        } else {
            schemes.push((word, AuthParams(Vec::new())));
        }
    }
    Err(SyntaxError("too many authentication parameters"))
}

impl Challenge {
    /// Reads all the challenges of one field.
    pub(super) fn parse_list(text: &str) -> Result<Vec<Self>, SyntaxError> {
        let schemes = match parse_schemes(text) {
            Ok(schemes) => schemes,
            // Another scheme's token68 and such is not ours to judge.
            Err(_) if !is_digest(text) => return Ok(vec![Self::Other(scheme_of(text))]),
            Err(problem) => return Err(problem),
        };
        schemes
            .into_iter()
            .map(|(scheme, params)| {
                if scheme.eq_ignore_ascii_case("Digest") {
                    DigestChallenge::from_params(&params).map(Self::Digest)
                } else {
                    Ok(Self::Other(scheme))
                }
            })
            .collect()
    }
}

fn scheme_of(text: &str) -> String {
    text.split(is_space)
        .find(|word| !word.is_empty())
        .unwrap_or_default()
        .to_owned()
}

fn is_digest(text: &str) -> bool {
    scheme_of(text).eq_ignore_ascii_case("Digest")
}

impl DigestChallenge {
    fn from_params(params: &AuthParams) -> Result<Self, SyntaxError> {
        let qop = params.get("qop").unwrap_or_default();
        Ok(Self {
            realm: params.need("realm", "realm missing")?,
            nonce: params.need("nonce", "nonce missing")?,
            opaque: params.get("opaque").map(str::to_owned),
            algorithm: params.algorithm(),
            qop: qop
                .split([',', ' ', '\t'])
                .filter(|name| !name.is_empty())
                .map(QualityOfProtection::parse)
                .collect(),
            stale: params
                .get("stale")
                .is_some_and(|value| value.eq_ignore_ascii_case("true")),
        })
    }
}

impl fmt::Display for DigestChallenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest realm=")?;
        write_quoted(f, &self.realm)?;
        f.write_str(", nonce=")?;
        write_quoted(f, &self.nonce)?;
        if let Some(opaque) = &self.opaque {
            f.write_str(", opaque=")?;
            write_quoted(f, opaque)?;
        }
        write!(f, ", algorithm={}", self.algorithm.as_str())?;
        if !self.qop.is_empty() {
            let names: Vec<_> = self.qop.iter().map(QualityOfProtection::as_str).collect();
            f.write_str(", qop=")?;
            write_quoted(f, &names.join(","))?;
        }
        f.write_str(if self.stale { ", stale=true" } else { "" })
    }
}

impl FromStr for Credentials {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        if !is_digest(text) {
            return Ok(Self::Other(scheme_of(text)));
        }
        match parse_schemes(text)?.as_slice() {
            [(_, params)] => DigestCredentials::from_params(params).map(Self::Digest),
            _ => Err(SyntaxError("one set of credentials expected")),
        }
    }
}

impl DigestCredentials {
    fn from_params(params: &AuthParams) -> Result<Self, SyntaxError> {
        let protection = match params.get("qop") {
            None | Some("") => None,
            Some(qop) => Some(Protection {
                qop: QualityOfProtection::parse(qop),
                cnonce: params.need("cnonce", "cnonce missing")?,
                nonce_count: parse_nonce_count(params.get("nc").unwrap_or_default())?,
            }),
        };
        Ok(Self {
            username: params.need("username", "username missing")?,
            realm: params.need("realm", "realm missing")?,
            nonce: params.need("nonce", "nonce missing")?,
            uri: params.need("uri", "uri missing")?,
            response: params.need("response", "response missing")?,
            algorithm: params.algorithm(),
            opaque: params.get("opaque").map(str::to_owned),
            protection,
        })
    }
}

fn parse_nonce_count(text: &str) -> Result<u32, SyntaxError> {
    if text.len() != 8 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(SyntaxError("nonce count is not eight hexadecimal digits"));
    }
    u32::from_str_radix(text, 16).map_err(|_| SyntaxError("nonce count out of range"))
}

impl fmt::Display for DigestCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = [
            ("Digest username=", &self.username),
            (", realm=", &self.realm),
            (", nonce=", &self.nonce),
            (", uri=", &self.uri),
            (", response=", &self.response),
        ];
        for (name, value) in quoted {
            f.write_str(name)?;
            write_quoted(f, value)?;
        }
        write!(f, ", algorithm={}", self.algorithm.as_str())?;
        if let Some(opaque) = &self.opaque {
            f.write_str(", opaque=")?;
            write_quoted(f, opaque)?;
        }
        if let Some(protection) = &self.protection {
            f.write_str(", cnonce=")?;
            write_quoted(f, &protection.cnonce)?;
            write!(
                f,
                ", qop={}, nc={:08x}",
                protection.qop.as_str(),
                protection.nonce_count
            )?;
        }
        Ok(())
    }
}
