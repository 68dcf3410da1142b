//! Client transactions, found by branch and method (RFC 3261 17.1.3).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::{Client, ClientInvite, ResponseAction, Tick};
use crate::sip::message::{Method, Request};
use crate::sip::timers::{Reliability, Timers};
use crate::sip::transport::Hop;

/// Names a client transaction; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(u64);

#[derive(Debug)]
enum Machine {
    Invite(ClientInvite),
    Other(Client),
}

/// One request of ours. `O` says on whose behalf.
#[derive(Debug)]
pub struct ClientTransaction<O> {
    machine: Machine,
    branch: String,
    bytes: Arc<[u8]>,
    /// Without any response by then it has failed.
    answer_by: Option<Instant>,
    /// The request as sent, its Via included.
    pub request: Arc<Request>,
    /// Where it went.
    pub hop: Hop,
    /// On whose behalf.
    pub owner: O,
}

impl<O> ClientTransaction<O> {
    /// When it wants the time, and for which timer.
    pub fn deadline(&self) -> Option<(Instant, &'static str)> {
        let own = match &self.machine {
            Machine::Invite(machine) => machine.deadline(),
            Machine::Other(machine) => machine.deadline(),
        };
        let patience = self.answer_by.map(|at| (at, "no response"));
        own.into_iter().chain(patience).min()
    }

    /// Waits for the first response no longer than until `at`, where timer B or F would be later:
    /// there is another way to try.
    pub fn expect_response_by(&mut self, at: Instant) {
        self.answer_by = Some(at);
    }

    /// The request's bytes, to be sent again.
    pub fn bytes(&self) -> Arc<[u8]> {
        Arc::clone(&self.bytes)
    }

    /// Takes the status of a response that matched.
    pub fn handle_response(&mut self, now: Instant, status: u16) -> ResponseAction {
        self.answer_by = None;
        match &mut self.machine {
            Machine::Invite(machine) => machine.handle_response(now, status),
            Machine::Other(machine) => machine.handle_response(now, status),
        }
    }

    /// Takes the time.
    pub fn handle_timeout(&mut self, now: Instant) -> Tick {
        if self.answer_by.is_some_and(|at| at <= now) {
            return self.handle_transport_error();
        }
        match &mut self.machine {
            Machine::Invite(machine) => machine.handle_timeout(now),
            Machine::Other(machine) => machine.handle_timeout(now),
        }
    }

    /// The transport could not send.
    pub fn handle_transport_error(&mut self) -> Tick {
        self.answer_by = None;
        match &mut self.machine {
            Machine::Invite(machine) => machine.handle_transport_error(),
            Machine::Other(machine) => machine.handle_transport_error(),
        }
    }

    /// An INVITE with a provisional response and no final one.
    pub fn may_cancel(&self) -> bool {
        match &self.machine {
            Machine::Invite(machine) => machine.may_cancel(),
            Machine::Other(_) => false,
        }
    }

    /// Waits for no final response to an INVITE beyond 64·T1 from now.
    pub fn give_up(&mut self, now: Instant) {
        if let Machine::Invite(machine) = &mut self.machine {
            machine.give_up(now);
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

/// All client transactions.
#[derive(Debug)]
pub struct Clients<O> {
    timers: Timers,
    next: u64,
    by_id: HashMap<ClientId, ClientTransaction<O>>,
    by_branch: HashMap<(String, Method), ClientId>,
}

impl<O> Clients<O> {
    /// None yet.
    pub fn new(timers: Timers) -> Self {
        Self {
            timers,
            next: 0,
            by_id: HashMap::new(),
            by_branch: HashMap::new(),
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

    /// Starts a transaction with a request whose top Via has `branch`; the caller sends its
    /// [`ClientTransaction::bytes`].
    pub fn start(
        &mut self,
        now: Instant,
        branch: String,
        request: Request,
        hop: Hop,
        reliability: Reliability,
        owner: O,
    ) -> ClientId {
        let id = ClientId(self.next);
        self.next += 1;
        let machine = self.machine(now, &request, reliability);
        self.by_branch
            .insert((branch.clone(), request.method.clone()), id);
        let transaction = ClientTransaction {
            machine,
            branch,
            bytes: request.to_bytes().into(),
            answer_by: None,
            request: Arc::new(request),
            hop,
            owner,
        };
        self.by_id.insert(id, transaction);
        id
    }

    fn machine(&self, now: Instant, request: &Request, reliability: Reliability) -> Machine {
        match request.method {
            Method::Invite => Machine::Invite(ClientInvite::new(now, self.timers, reliability)),
            _ => Machine::Other(Client::new(now, self.timers, reliability)),
        }
    }

    /// Starts one anew, by another way and so with another branch; the caller sends its bytes.
    pub fn restart(
        &mut self,
        now: Instant,
        id: ClientId,
        branch: String,
        request: Request,
        hop: Hop,
        reliability: Reliability,
    ) {
        let machine = self.machine(now, &request, reliability);
        let Some(transaction) = self.by_id.get_mut(&id) else {
            return;
        };
        let method = request.method.clone();
        let before = std::mem::replace(&mut transaction.branch, branch.clone());
        transaction.machine = machine;
        transaction.bytes = request.to_bytes().into();
        transaction.request = Arc::new(request);
        transaction.hop = hop;
        self.by_branch.remove(&(before, method.clone()));
        self.by_branch.insert((branch, method), id);
    }

    /// The transaction of a response with this branch and CSeq method.
    pub fn find(&self, branch: &str, method: &Method) -> Option<ClientId> {
        self.by_branch
            .get(&(branch.to_owned(), method.clone()))
            .copied()
    }

    /// One transaction.
    pub fn get(&self, id: ClientId) -> Option<&ClientTransaction<O>> {
        self.by_id.get(&id)
    }

    /// One transaction.
    pub fn get_mut(&mut self, id: ClientId) -> Option<&mut ClientTransaction<O>> {
        self.by_id.get_mut(&id)
    }

    /// Those that sent to `hop`.
    pub fn sent_to(&self, hop: Hop) -> Vec<ClientId> {
        let mut ids: Vec<ClientId> = self
            .by_id
            .iter()
            .filter(|(_, transaction)| transaction.hop.is_same_flow(&hop))
            .map(|(id, _)| *id)
            .collect();
        ids.sort_unstable();
        ids
    }

    /// Forgets a transaction.
    pub fn remove(&mut self, id: ClientId) -> Option<ClientTransaction<O>> {
        let transaction = self.by_id.remove(&id)?;
        let key = (
            transaction.branch.clone(),
            transaction.request.method.clone(),
        );
        self.by_branch.remove(&key);
        Some(transaction)
    }
}
