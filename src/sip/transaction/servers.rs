//! Server transactions, found by branch, sent-by and method, or as RFC 2543 did (RFC 3261
//! 17.2.3), and merged requests (8.2.2.2).
//!
//! Keys are kept as keyed fingerprints, so that a peer can neither fill memory with long ones
//! nor aim for collisions.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Instant;

use super::{AckAction, RequestAction, Server, ServerInvite, Tick};
use crate::sip::headers::{HeaderError, Via};
use crate::sip::message::{Method, Request};
use crate::sip::timers::{Reliability, Timers};
use crate::sip::token::MAGIC_COOKIE;
use crate::sip::transport::Hop;

/// Names a server transaction; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(u64);

/// A keyed fingerprint of what identifies a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Fingerprint(u64, u64);

/// What a request is matched by.
#[derive(Clone, Copy, Debug)]
pub struct RequestKeys {
    own: Fingerprint,
    invite: Fingerprint,
    merge: Option<Fingerprint>,
}

#[derive(Debug)]
enum Machine {
    Invite(ServerInvite),
    Other(Server),
}

/// One request that we received.
#[derive(Debug)]
pub struct ServerTransaction<O> {
    machine: Machine,
    keys: RequestKeys,
    last_response: Option<Arc<[u8]>>,
    /// Who answers it, where that takes time.
    pub owner: Option<O>,
    /// Where responses go.
    pub hop: Hop,
}

impl<O> ServerTransaction<O> {
    /// When it wants the time, and for which timer.
    pub fn deadline(&self) -> Option<(Instant, &'static str)> {
        match &self.machine {
            Machine::Invite(machine) => machine.deadline(),
            Machine::Other(machine) => machine.deadline(),
        }
    }

    /// The request came again: what to send again.
    pub fn handle_request(&mut self) -> Option<Arc<[u8]>> {
        let action = match &mut self.machine {
            Machine::Invite(machine) => machine.handle_request(),
            Machine::Other(machine) => machine.handle_request(),
        };
        match action {
            RequestAction::ResendResponse => self.last_response.clone(),
            RequestAction::Absorb => None,
        }
    }

    /// An ACK came for an INVITE.
    pub fn handle_ack(&mut self, now: Instant) -> AckAction {
        match &mut self.machine {
            Machine::Invite(machine) => machine.handle_ack(now),
            Machine::Other(_) => AckAction::Absorb,
        }
    }

    /// Takes the time; bytes to send again where there are any.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<Arc<[u8]>> {
        let tick = match &mut self.machine {
            Machine::Invite(machine) => machine.handle_timeout(now),
            Machine::Other(machine) => machine.handle_timeout(now),
        };
        match tick {
            Tick::Retransmit => self.last_response.clone(),
            Tick::Nothing | Tick::Failed => None,
        }
    }

    /// An INVITE without a final response.
    pub fn is_proceeding_invite(&self) -> bool {
        match &self.machine {
            Machine::Invite(machine) => machine.is_proceeding(),
            Machine::Other(_) => false,
        }
    }

    /// Nothing more will happen.
    pub fn is_terminated(&self) -> bool {
        match &self.machine {
            Machine::Invite(machine) => machine.is_terminated(),
            Machine::Other(machine) => machine.is_terminated(),
        }
    }
}

/// All server transactions.
#[derive(Debug)]
pub struct Servers<O> {
    timers: Timers,
    secret: [u8; 16],
    next: u64,
    held_bytes: usize,
    by_id: HashMap<ServerId, ServerTransaction<O>>,
    by_key: HashMap<Fingerprint, ServerId>,
    merging: HashMap<Fingerprint, ServerId>,
}

impl<O> Servers<O> {
    /// None yet. `secret` keys the fingerprints.
    pub fn new(timers: Timers, secret: [u8; 16]) -> Self {
        Self {
            timers,
            secret,
            next: 0,
            held_bytes: 0,
            by_id: HashMap::new(),
            by_key: HashMap::new(),
            merging: HashMap::new(),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Bytes of the responses kept to be sent again.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// What `request`, with topmost Via `via` as it was sent, is matched by.
    pub fn keys(&self, request: &Request, via: &Via) -> Result<RequestKeys, HeaderError> {
        let headers = &request.headers;
        let cseq = headers.cseq()?;
        let call_id = headers.call_id()?;
        let from = headers.from()?;
        let from_tag = from.tag().unwrap_or_default();
        // A branch names a transaction by itself, but peers exist that use one twice. What
        // repeats, ACK and CANCEL have in common with their request anyway tells those apart.
        let common = (from_tag, call_id, cseq.number);
        let (own, invite) = match modern_branch(via) {
            Some(branch) => {
                let sent_by = (
                    via.host.to_string().to_ascii_lowercase(),
                    via.port_or_default(),
                );
                let key = |method: &Method| self.fingerprint((1, branch, &sent_by, common, method));
                // An ACK belongs to the INVITE that it confirms.
                (key(acknowledged(&request.method)), key(&Method::Invite))
            }
            None => {
                let hop = (request.uri.to_string(), via.to_string());
                let key = |method: &Method| self.fingerprint((2, &hop, common, method));
                (key(acknowledged(&request.method)), key(&Method::Invite))
            }
        };
        let outside_dialog = headers.to()?.tag().is_none();
        let merges = outside_dialog && !matches!(request.method, Method::Ack | Method::Cancel);
        let merge = merges.then(|| self.fingerprint((3, common, &request.method)));
        Ok(RequestKeys { own, invite, merge })
    }

    /// A value of `text` that only the holder of the secret can compute.
    pub fn stateless_tag(&self, text: &str) -> String {
        let Fingerprint(tag, _) = self.fingerprint((4, text));
        format!("{tag:016x}")
    }

    fn fingerprint(&self, value: impl Hash) -> Fingerprint {
        let half = |salt: u8| {
            let mut hasher = DefaultHasher::new();
            (self.secret, salt).hash(&mut hasher);
            value.hash(&mut hasher);
            hasher.finish()
        };
        Fingerprint(half(0), half(1))
    }

    /// The transaction that the request repeats, or that an ACK confirms.
    pub fn find(&self, keys: &RequestKeys) -> Option<ServerId> {
        self.by_key.get(&keys.own).copied()
    }

    /// The INVITE that a CANCEL with these keys means.
    pub fn find_cancelled(&self, keys: &RequestKeys) -> Option<ServerId> {
        self.by_key.get(&keys.invite).copied()
    }

    /// Whether the same request came by another path and is still in work.
    pub fn is_merged(&self, keys: &RequestKeys) -> bool {
        keys.merge
            .is_some_and(|merge| self.merging.contains_key(&merge))
    }

    /// Starts a transaction; responses go to `hop`.
    pub fn start(
        &mut self,
        method: &Method,
        keys: RequestKeys,
        hop: Hop,
        reliability: Reliability,
    ) -> ServerId {
        let id = ServerId(self.next);
        self.next += 1;
        let machine = match method {
            Method::Invite => Machine::Invite(ServerInvite::new(self.timers, reliability)),
            _ => Machine::Other(Server::new(self.timers, reliability)),
        };
        self.by_key.insert(keys.own, id);
        if let Some(merge) = keys.merge {
            self.merging.entry(merge).or_insert(id);
        }
        self.by_id.insert(
            id,
            ServerTransaction {
                machine,
                keys,
                last_response: None,
                owner: None,
                hop,
            },
        );
        id
    }

    /// One transaction.
    pub fn get(&self, id: ServerId) -> Option<&ServerTransaction<O>> {
        self.by_id.get(&id)
    }

    /// One transaction.
    pub fn get_mut(&mut self, id: ServerId) -> Option<&mut ServerTransaction<O>> {
        self.by_id.get_mut(&id)
    }

    /// Notes a response of the user. Where it goes, unless the transaction is over or had
    /// another final response already.
    pub fn respond(
        &mut self,
        now: Instant,
        id: ServerId,
        status: u16,
        bytes: &Arc<[u8]>,
    ) -> Option<Hop> {
        let transaction = self.by_id.get_mut(&id)?;
        let taken = match &mut transaction.machine {
            Machine::Invite(machine) => machine.handle_response(now, status),
            Machine::Other(machine) => machine.handle_response(now, status),
        };
        if !taken {
            return None;
        }
        let old = transaction.last_response.replace(Arc::clone(bytes));
        self.held_bytes = self.held_bytes + bytes.len() - old.map_or(0, |old| old.len());
        Some(transaction.hop)
    }

    /// Forgets a transaction.
    pub fn remove(&mut self, id: ServerId) -> Option<ServerTransaction<O>> {
        let transaction = self.by_id.remove(&id)?;
        self.by_key.remove(&transaction.keys.own);
        if let Some(merge) = transaction.keys.merge
            && self.merging.get(&merge) == Some(&id)
        {
            self.merging.remove(&merge);
        }
        let held = transaction
            .last_response
            .as_ref()
            .map_or(0, |bytes| bytes.len());
        self.held_bytes -= held;
        Some(transaction)
    }
}

/// The branch, where it names a transaction: the magic cookie alone does not (RFC 4475 3.2.1).
fn modern_branch(via: &Via) -> Option<&str> {
    let branch = via.branch()?;
    let cookie = branch.get(..MAGIC_COOKIE.len())?;
    (cookie.eq_ignore_ascii_case(MAGIC_COOKIE) && branch.len() > MAGIC_COOKIE.len())
        .then_some(branch)
}

fn acknowledged(method: &Method) -> &Method {
    match method {
        Method::Ack => &Method::Invite,
        other => other,
    }
}
