//! Digest authentication, both sides (RFC 7616 as profiled by RFC 3261 section 22 and
//! RFC 8760): MD5 and SHA-256, `qop=auth` and none.
//!
//! ```text
//! client   401/407 --learn()--> session per realm --authorize()--> credentials, count + 1
//!             ^                       | refused at first use: ClientAuthError::Refused
//!             `-----stale-------------'
//! server   challenges() --> nonce = time | number | MAC, nothing remembered
//!          verify()     --> MAC, age, proof, count; only a proven nonce is remembered
//! ```

mod client;
mod verifier;

pub use client::{ClientAuthError, DigestClient};
pub use verifier::{Refusal, Verifier, VerifierSettings};

use md5::Md5;
use sha2::{Digest, Sha256};

use super::headers::{Algorithm, Protection};

/// The algorithms we speak, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Hash {
    Md5,
    Sha256,
}

impl Hash {
    fn of(algorithm: &Algorithm) -> Option<Self> {
        match algorithm {
            Algorithm::Md5 => Some(Self::Md5),
            Algorithm::Sha256 => Some(Self::Sha256),
            Algorithm::Other(_) => None,
        }
    }

    fn algorithm(self) -> Algorithm {
        match self {
            Self::Md5 => Algorithm::Md5,
            Self::Sha256 => Algorithm::Sha256,
        }
    }

    /// The lower-case hexadecimal digest of the parts joined by colons.
    fn digest(self, parts: &[&str]) -> String {
        let text = parts.join(":");
        match self {
            Self::Md5 => hex(&Md5::digest(text)),
            Self::Sha256 => hex(&Sha256::digest(text)),
        }
    }
}

/// All that a proof is made from (RFC 7616 section 3.4.1).
struct Proof<'a> {
    hash: Hash,
    username: &'a str,
    realm: &'a str,
    password: &'a str,
    method: &'a str,
    uri: &'a str,
    nonce: &'a str,
    protection: Option<&'a Protection>,
}

impl Proof<'_> {
    fn response(&self) -> String {
        let identity = self
            .hash
            .digest(&[self.username, self.realm, self.password]);
        let request = self.hash.digest(&[self.method, self.uri]);
        match self.protection {
            None => self.hash.digest(&[&identity, self.nonce, &request]),
            Some(protection) => {
                let count = format!("{:08x}", protection.nonce_count);
                let qop = protection.qop.as_str();
                self.hash.digest(&[
                    &identity,
                    self.nonce,
                    &count,
                    &protection.cnonce,
                    qop,
                    &request,
                ])
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| {
            [
                DIGITS[usize::from(byte >> 4)],
                DIGITS[usize::from(byte & 15)],
            ]
        })
        .map(char::from)
        .collect()
}

#[cfg(test)]
mod tests;
