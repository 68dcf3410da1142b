//! Who may send us anything at all. What does not pass is dropped before it is parsed.
//!
//! Beside the operator's list there are those whom we turned to ourselves, wherever DNS found
//! them: a registrar's calls and answers pass, and from whoever else we called, answers. And there
//! are guests, single sockets that are let in for a while.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};

use ipnet::IpNet;

/// Addresses that we turned to and remember. Beyond it the oldest registrars stay, and answers of
/// further peers are dropped.
const MOST_REACHED: usize = 4_096;
/// How a response begins.
const RESPONSE: &[u8] = b"SIP/2.0 ";

/// What passes from an address that we turned to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trust {
    /// Responses.
    Answers,
    /// Requests, too.
    All,
}

/// The gate before the parser.
#[derive(Debug)]
pub(super) struct Gate {
    /// Empty for everybody.
    allow: RwLock<Vec<IpNet>>,
    reached: RwLock<HashMap<IpAddr, Trust>>,
    guests: RwLock<HashSet<SocketAddr>>,
}

/// Lets one socket's datagrams in for as long as this lives.
#[derive(Debug)]
pub struct Guest {
    gate: Arc<Gate>,
    address: SocketAddr,
}

impl Guest {
    pub(super) fn new(gate: &Arc<Gate>, address: SocketAddr) -> Self {
        let guests = gate.guests.write();
        guests
            .unwrap_or_else(PoisonError::into_inner)
            .insert(address);
        Self {
            gate: Arc::clone(gate),
            address,
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let guests = self.gate.guests.write();
        let mut guests = guests.unwrap_or_else(PoisonError::into_inner);
        guests.remove(&self.address);
    }
}

impl Gate {
    pub(super) fn new(allow: Vec<IpNet>) -> Self {
        Self {
            allow: RwLock::new(allow),
            reached: RwLock::default(),
            guests: RwLock::default(),
        }
    }

    /// Others are allowed from now on. A gate that is open to everybody stays so.
    pub(super) fn allow(&self, allow: Vec<IpNet>) {
        let mut current = self.allow.write().unwrap_or_else(PoisonError::into_inner);
        if !current.is_empty() && !allow.is_empty() {
            *current = allow;
        }
    }

    fn is_open(&self) -> bool {
        let allow = self.allow.read().unwrap_or_else(PoisonError::into_inner);
        allow.is_empty()
    }

    /// We turn to this address.
    pub(super) fn reach(&self, address: IpAddr, trust: Trust) {
        if self.is_open() {
            return;
        }
        let reached = self.reached.write();
        let mut reached = reached.unwrap_or_else(PoisonError::into_inner);
        let full = reached.len() >= MOST_REACHED;
        match reached.get_mut(&address.to_canonical()) {
            Some(known) => *known = trust.max(*known),
            None if full => {}
            None => {
                reached.insert(address.to_canonical(), trust);
            }
        }
    }

    /// Whether a datagram passes.
    pub(super) fn admits(&self, source: SocketAddr, bytes: &[u8]) -> bool {
        match self.trust(source.ip()) {
            Some(Trust::All) => true,
            Some(Trust::Answers) if bytes.starts_with(RESPONSE) => true,
            Some(Trust::Answers) | None => self.is_guest(source),
        }
    }

    fn is_guest(&self, source: SocketAddr) -> bool {
        let guests = self.guests.read();
        let source = SocketAddr::new(source.ip().to_canonical(), source.port());
        guests
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&source)
    }

    /// Whether a source may connect to us.
    pub(super) fn admits_connection(&self, source: IpAddr) -> bool {
        self.trust(source) == Some(Trust::All)
    }

    fn trust(&self, source: IpAddr) -> Option<Trust> {
        let source = source.to_canonical();
        let allow = self.allow.read().unwrap_or_else(PoisonError::into_inner);
        if allow.is_empty() || allow.iter().any(|net| net.contains(&source)) {
            return Some(Trust::All);
        }
        let reached = self.reached.read();
        let reached = reached.unwrap_or_else(PoisonError::into_inner);
        reached.get(&source).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &[u8] = b"INVITE sip:a@b SIP/2.0\r\n";
    const ANSWER: &[u8] = b"SIP/2.0 200 OK\r\n";

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn at(ip: IpAddr) -> SocketAddr {
        SocketAddr::new(ip, 5060)
    }

    #[test]
    fn a_guest_is_one_socket_and_stays_for_a_while() {
        let gate = Arc::new(Gate::new(vec!["192.0.2.0/28".parse().expect("a network")]));
        let socket = SocketAddr::new(ip("127.0.0.1"), 40_000);
        let guest = Guest::new(&gate, socket);
        assert!(gate.admits(socket, REQUEST));
        assert!(!gate.admits(at(ip("127.0.0.1")), REQUEST), "another socket");
        drop(guest);
        assert!(!gate.admits(socket, REQUEST));
    }

    #[test]
    fn strangers_are_shut_out_and_those_that_we_turned_to_may_answer() {
        let gate = Gate::new(vec!["192.0.2.0/28".parse().expect("a network")]);
        let (known, stranger) = (ip("192.0.2.1"), ip("198.51.100.1"));
        assert!(gate.admits(at(known), REQUEST) && gate.admits_connection(known));
        assert!(
            gate.admits(at(ip("::ffff:192.0.2.1")), REQUEST),
            "the same in IPv6"
        );
        for bytes in [REQUEST, ANSWER] {
            assert!(!gate.admits(at(stranger), bytes));
        }
        gate.reach(stranger, Trust::Answers);
        assert!(gate.admits(at(stranger), ANSWER));
        assert!(!gate.admits(at(stranger), REQUEST) && !gate.admits_connection(stranger));
        gate.reach(stranger, Trust::All);
        gate.reach(stranger, Trust::Answers);
        assert!(gate.admits(at(stranger), REQUEST) && gate.admits_connection(stranger));
    }

    #[test]
    fn without_a_list_everybody_passes() {
        let gate = Gate::new(Vec::new());
        assert!(gate.admits(at(ip("203.0.113.1")), REQUEST));
    }
}
