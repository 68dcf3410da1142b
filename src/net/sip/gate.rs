//! Who may send us anything at all. What does not pass is dropped before it is parsed.
//!
//! Beside the operator's list there are those whom we turned to ourselves, wherever DNS found
//! them: a registrar's calls and answers pass, and from whoever else we called, answers.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{PoisonError, RwLock};

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
}

impl Gate {
    pub(super) fn new(allow: Vec<IpNet>) -> Self {
        Self {
            allow: RwLock::new(allow),
            reached: RwLock::default(),
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
    pub(super) fn admits(&self, source: IpAddr, bytes: &[u8]) -> bool {
        match self.trust(source) {
            Some(Trust::All) => true,
            Some(Trust::Answers) => bytes.starts_with(RESPONSE),
            None => false,
        }
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

    #[test]
    fn strangers_are_shut_out_and_those_that_we_turned_to_may_answer() {
        let gate = Gate::new(vec!["192.0.2.0/28".parse().expect("a network")]);
        let (known, stranger) = (ip("192.0.2.1"), ip("198.51.100.1"));
        assert!(gate.admits(known, REQUEST) && gate.admits_connection(known));
        assert!(
            gate.admits(ip("::ffff:192.0.2.1"), REQUEST),
            "the same in IPv6"
        );
        for bytes in [REQUEST, ANSWER] {
            assert!(!gate.admits(stranger, bytes));
        }
        gate.reach(stranger, Trust::Answers);
        assert!(gate.admits(stranger, ANSWER));
        assert!(!gate.admits(stranger, REQUEST) && !gate.admits_connection(stranger));
        gate.reach(stranger, Trust::All);
        gate.reach(stranger, Trust::Answers);
        assert!(gate.admits(stranger, REQUEST) && gate.admits_connection(stranger));
    }

    #[test]
    fn without_a_list_everybody_passes() {
        let gate = Gate::new(Vec::new());
        assert!(gate.admits(ip("203.0.113.1"), REQUEST));
    }
}
