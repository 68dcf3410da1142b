//! The server's side: nonces that need no memory until they are used, and then a bounded one.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::{Hash, Proof, hex};
use crate::sip::headers::{Credentials, DigestChallenge, DigestCredentials, QualityOfProtection};
use crate::sip::message::Method;

/// How a [`Verifier`] works.
#[derive(Clone)]
pub struct VerifierSettings {
    /// The protection domain, as clients show it to their users.
    pub realm: String,
    /// Signs nonces. Random, and new in each process.
    pub secret: [u8; 32],
    /// How long a nonce can be used.
    pub nonce_lifetime: Duration,
    /// Whether MD5 is offered after SHA-256, for the many peers that know nothing else.
    pub allow_md5: bool,
    /// How many used nonces are remembered. With more, the oldest are called stale early.
    pub max_used_nonces: usize,
}

/// Hidden, since it holds the secret.
impl fmt::Debug for VerifierSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifierSettings")
            .field("realm", &self.realm)
            .finish_non_exhaustive()
    }
}

/// Why a request was not let in. All are the client's fault and answered alike, with a new
/// challenge, so that an answer never tells whether a user exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No digest credentials for our realm in an algorithm that we offer.
    #[error("no credentials")]
    Missing,
    /// User name, password or form is wrong.
    #[error("wrong credentials")]
    Wrong,
    /// Right, but for a nonce that is too old or not ours. Worth another try.
    #[error("stale nonce")]
    Stale,
    /// Right, but this nonce count was used before. Worth another try.
    #[error("nonce count used before")]
    Replayed,
}

impl Refusal {
    /// Whether the new challenge should say `stale`, so that a client tries again without
    /// asking its user.
    pub fn is_stale(self) -> bool {
        matches!(self, Self::Stale | Self::Replayed)
    }
}

/// Checks digest credentials. Work and answers are the same for users known and unknown.
pub struct Verifier {
    settings: VerifierSettings,
    epoch: Instant,
    issued: u64,
    used: BTreeMap<u64, UsedNonce>,
    /// Nonces below this number that are not remembered might have been forgotten.
    forgotten_below: u64,
}

/// A nonce that once came with a right proof.
struct UsedNonce {
    issued_at: Duration,
    highest: u32,
    /// Bit n: the count `highest - n` was used.
    window: u64,
}

/// What a nonce of ours says.
#[derive(Clone, Copy)]
struct Nonce {
    issued_at: Duration,
    number: u64,
}

impl Verifier {
    /// A verifier whose nonces count time from `epoch`.
    pub fn new(settings: VerifierSettings, epoch: Instant) -> Self {
        Self {
            settings,
            epoch,
            issued: 0,
            used: BTreeMap::new(),
            forgotten_below: 0,
        }
    }

    /// The challenges for a 401 or 407, one header field each, the strongest first (RFC 8760
    /// section 2.3). They share a new nonce.
    pub fn challenges(&mut self, stale: bool, now: Instant) -> Vec<DigestChallenge> {
        let nonce = self.write_nonce(Nonce {
            issued_at: self.age(now),
            number: self.issued,
        });
        self.issued += 1;
        [Hash::Sha256, Hash::Md5]
            .into_iter()
            .filter(|hash| self.offers(*hash))
            .map(|hash| DigestChallenge {
                realm: self.settings.realm.clone(),
                nonce: nonce.clone(),
                opaque: None,
                algorithm: hash.algorithm(),
                qop: vec![QualityOfProtection::Auth],
                stale,
            })
            .collect()
    }

    /// Checks the credentials of a request and gives back the user's name. `password` looks a
    /// user up; it is asked exactly once for each set of credentials in our realm. Not for ACK
    /// and CANCEL, which cannot be challenged (RFC 3261 section 22.1).
    ///
    /// The digest URI is taken as the client gives it: proxies rewrite the Request-URI.
    /// Credentials without `qop` are good for one request.
    pub fn verify(
        &mut self,
        method: &Method,
        credentials: &[Credentials],
        password: impl Fn(&str) -> Option<String>,
        now: Instant,
    ) -> Result<String, Refusal> {
        let (hash, given) = credentials
            .iter()
            .find_map(|given| self.ours(given))
            .ok_or(Refusal::Missing)?;
        let known = password(&given.username);
        let expected = Proof {
            hash,
            username: &given.username,
            realm: &given.realm,
            password: known.as_deref().unwrap_or("a password of the usual length"),
            method: method.as_str(),
            uri: &given.uri,
            nonce: &given.nonce,
            protection: given.protection.as_ref(),
        }
        .response();
        let proven = equal(
            expected.as_bytes(),
            given.response.to_ascii_lowercase().as_bytes(),
        );
        let nonce = self.read_nonce(&given.nonce);
        if !(proven & known.is_some()) {
            return Err(Refusal::Wrong);
        }
        let count = match &given.protection {
            None => 1,
            Some(protection) if protection.qop == QualityOfProtection::Auth => {
                protection.nonce_count
            }
            Some(_) => return Err(Refusal::Wrong),
        };
        let now = self.age(now);
        match nonce {
            Some(nonce) if now.saturating_sub(nonce.issued_at) < self.settings.nonce_lifetime => {
                self.spend(nonce, count, now)
                    .map(|()| given.username.clone())
            }
            Some(_) | None => Err(Refusal::Stale),
        }
    }

    /// How many used nonces are remembered now.
    pub fn used_nonces(&self) -> usize {
        self.used.len()
    }

    fn ours<'a>(&self, credentials: &'a Credentials) -> Option<(Hash, &'a DigestCredentials)> {
        match credentials {
            Credentials::Digest(given) if given.realm == self.settings.realm => {
                Hash::of(&given.algorithm)
                    .filter(|hash| self.offers(*hash))
                    .map(|hash| (hash, given))
            }
            Credentials::Digest(_) | Credentials::Other(_) => None,
        }
    }

    fn offers(&self, hash: Hash) -> bool {
        match hash {
            Hash::Sha256 => true,
            Hash::Md5 => self.settings.allow_md5,
        }
    }

    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.epoch)
    }

    /// Notes that `count` of `nonce` is used up. Counts may come a little out of order, as
    /// datagrams do.
    fn spend(&mut self, nonce: Nonce, count: u32, now: Duration) -> Result<(), Refusal> {
        self.forget_expired(now);
        if count == 0 {
            return Err(Refusal::Wrong);
        }
        if let Some(used) = self.used.get_mut(&nonce.number) {
            return used.spend(count);
        }
        if nonce.number < self.forgotten_below {
            return Err(Refusal::Stale);
        }
        let used = UsedNonce {
            issued_at: nonce.issued_at,
            highest: count,
            window: 1,
        };
        self.used.insert(nonce.number, used);
        while self.used.len() > self.settings.max_used_nonces.max(1) {
            if let Some((number, _)) = self.used.pop_first() {
                self.forgotten_below = self.forgotten_below.max(number + 1);
            }
        }
        Ok(())
    }

    /// Numbers rise with time, so that the expired ones are the first.
    fn forget_expired(&mut self, now: Duration) {
        while let Some(first) = self.used.first_entry() {
            if now.saturating_sub(first.get().issued_at) < self.settings.nonce_lifetime {
                break;
            }
            first.remove();
        }
    }

    fn write_nonce(&self, nonce: Nonce) -> String {
        let milliseconds = u64::try_from(nonce.issued_at.as_millis()).unwrap_or(u64::MAX);
        let text = format!("{milliseconds:016x}{:016x}", nonce.number);
        let mac = self.mac(&text);
        text + &mac
    }

    /// `None` where the nonce was not made here.
    fn read_nonce(&self, text: &str) -> Option<Nonce> {
        let (claim, mac) = text.split_at_checked(32)?;
        if !equal(self.mac(claim).as_bytes(), mac.as_bytes()) {
            return None;
        }
        let (milliseconds, number) = claim.split_at_checked(16)?;
        Some(Nonce {
            issued_at: Duration::from_millis(u64::from_str_radix(milliseconds, 16).ok()?),
            number: u64::from_str_radix(number, 16).ok()?,
        })
    }

    /// HMAC-SHA-256 (RFC 2104) of `text` and the realm, halved.
    fn mac(&self, text: &str) -> String {
        let pad = |with: u8| {
            let mut block = [with; 64];
            for (byte, key) in block.iter_mut().zip(self.settings.secret) {
                *byte ^= key;
            }
            block
        };
        let inner = Sha256::new_with_prefix(pad(0x36))
            .chain_update(text)
            .chain_update(&self.settings.realm)
            .finalize();
        let outer = Sha256::new_with_prefix(pad(0x5c))
            .chain_update(inner)
            .finalize();
        hex(&outer[..16])
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("settings", &self.settings)
            .field("used", &self.used.len())
            .finish_non_exhaustive()
    }
}

impl UsedNonce {
    fn spend(&mut self, count: u32) -> Result<(), Refusal> {
        if count > self.highest {
            self.window = self.window.checked_shl(count - self.highest).unwrap_or(0) | 1;
            self.highest = count;
            return Ok(());
        }
        let bit = 1_u64
            .checked_shl(self.highest - count)
            .ok_or(Refusal::Replayed)?;
        if self.window & bit != 0 {
            return Err(Refusal::Replayed);
        }
        self.window |= bit;
        Ok(())
    }
}

/// Compares in time that depends on the lengths only.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len()
        && std::hint::black_box(a.iter().zip(b).fold(0, |seen, (a, b)| seen | (a ^ b))) == 0
}
