//! The client's side: answers challenges and authorises later requests ahead of them.

use std::fmt;

use rand::rngs::StdRng;

use super::{Hash, Proof};
use crate::sip::headers::{
    Challenge, Credentials, DigestChallenge, DigestCredentials, HeaderError, HeaderName, Headers,
    Protection, QualityOfProtection,
};
use crate::sip::message::{Request, Response, StatusCode};
use crate::sip::token;

/// The most realms remembered; of more, the one learnt first is forgotten.
const MAX_SESSIONS: usize = 8;

/// Why a challenge cannot be met.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientAuthError {
    /// The server refused our credentials: user name or password is wrong. Ours to mend in the
    /// configuration; trying again only locks the account.
    #[error("the server refused the user name or password")]
    Refused,
    /// No challenge is one that we can answer: the server asks for an algorithm or quality of
    /// protection that we do not speak. Not worth another try.
    #[error("no supported digest challenge")]
    Unsupported,
    /// The server's challenge cannot be read.
    #[error(transparent)]
    Header(#[from] HeaderError),
}

/// One user's credentials and what servers have challenged them with.
pub struct DigestClient {
    username: String,
    password: String,
    sessions: Vec<Session>,
}

/// A realm's current nonce.
struct Session {
    header: HeaderName,
    challenge: DigestChallenge,
    hash: Hash,
    uses: u32,
}

impl DigestClient {
    /// Credentials that meet any realm's challenge.
    pub fn new(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self {
            username: username.into(),
            password: password.into(),
            sessions: Vec::new(),
        }
    }

    /// Takes in the challenges of a 401 or 407 to `request`: for each realm the strongest that
    /// we speak. Then [`DigestClient::authorize`] a copy of the request with a new CSeq and
    /// branch. A caller should give up when one request is challenged a third time, since a
    /// server can call every nonce stale.
    pub fn learn(&mut self, request: &Request, response: &Response) -> Result<(), ClientAuthError> {
        let (header, challenges) = if response.status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            (
                HeaderName::ProxyAuthorization,
                response.headers.proxy_authenticate()?,
            )
        } else {
            (
                HeaderName::Authorization,
                response.headers.www_authenticate()?,
            )
        };
        let strongest = strongest_of_each_realm(challenges);
        if strongest.is_empty() {
            return Err(ClientAuthError::Unsupported);
        }
        for (hash, challenge) in strongest {
            if was_refused(&request.headers, &header, &challenge) {
                return Err(ClientAuthError::Refused);
            }
            self.sessions.retain(|session| {
                session.header != header || session.challenge.realm != challenge.realm
            });
            if self.sessions.len() >= MAX_SESSIONS {
                self.sessions.remove(0);
            }
            self.sessions.push(Session {
                header: header.clone(),
                challenge,
                hash,
                uses: 0,
            });
        }
        Ok(())
    }

    /// Puts credentials for every realm learnt so far into `request`, in place of those it has.
    /// Does nothing before the first challenge. An ACK takes its INVITE's credentials instead,
    /// and a CANCEL none (RFC 3261 section 22.1).
    pub fn authorize(&mut self, request: &mut Request, rng: &mut StdRng) {
        request.headers.remove(&HeaderName::Authorization);
        request.headers.remove(&HeaderName::ProxyAuthorization);
        for session in &mut self.sessions {
            let credentials = session.credentials(&self.username, &self.password, request, rng);
            request.headers.push(session.header.clone(), credentials);
        }
    }
}

impl fmt::Debug for DigestClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DigestClient")
            .field("realms", &self.sessions.len())
            .finish_non_exhaustive()
    }
}

impl Session {
    fn credentials(
        &mut self,
        username: &str,
        password: &str,
        request: &Request,
        rng: &mut StdRng,
    ) -> DigestCredentials {
        self.uses = self.uses.saturating_add(1);
        let protection = self
            .challenge
            .qop
            .contains(&QualityOfProtection::Auth)
            .then(|| Protection {
                qop: QualityOfProtection::Auth,
                cnonce: token::cnonce(rng),
                nonce_count: self.uses,
            });
        let uri = request.uri.to_string();
        let response = Proof {
            hash: self.hash,
            username,
            realm: &self.challenge.realm,
            password,
            method: request.method.as_str(),
            uri: &uri,
            nonce: &self.challenge.nonce,
            protection: protection.as_ref(),
        }
        .response();
        DigestCredentials {
            username: username.to_owned(),
            realm: self.challenge.realm.clone(),
            nonce: self.challenge.nonce.clone(),
            uri,
            response,
            algorithm: self.hash.algorithm(),
            opaque: self.challenge.opaque.clone(),
            protection,
        }
    }
}

/// RFC 8760 lets servers list one realm several times, once for each algorithm.
fn strongest_of_each_realm(challenges: Vec<Challenge>) -> Vec<(Hash, DigestChallenge)> {
    let mut strongest: Vec<(Hash, DigestChallenge)> = Vec::new();
    for challenge in challenges {
        let Challenge::Digest(challenge) = challenge else {
            continue;
        };
        let Some(hash) = Hash::of(&challenge.algorithm) else {
            continue;
        };
        if !challenge.qop.is_empty() && !challenge.qop.contains(&QualityOfProtection::Auth) {
            continue;
        }
        match strongest
            .iter_mut()
            .find(|(_, other)| other.realm == challenge.realm)
        {
            Some(best) if hash > best.0 => *best = (hash, challenge),
            Some(_) => {}
            None => strongest.push((hash, challenge)),
        }
    }
    strongest
}

/// Whether `challenge` says no to credentials that `request` carried. A nonce in its first use
/// cannot have aged; one used before may have, and not all servers say `stale`.
fn was_refused(headers: &Headers, header: &HeaderName, challenge: &DigestChallenge) -> bool {
    let sent = match header {
        HeaderName::ProxyAuthorization => headers.proxy_authorization(),
        _ => headers.authorization(),
    };
    sent.unwrap_or_default()
        .iter()
        .any(|credentials| match credentials {
            Credentials::Digest(sent) if sent.realm == challenge.realm && !challenge.stale => {
                let first_use = sent
                    .protection
                    .as_ref()
                    .is_none_or(|protection| protection.nonce_count == 1);
                first_use || sent.nonce == challenge.nonce
            }
            Credentials::Digest(_) | Credentials::Other(_) => false,
        })
}
