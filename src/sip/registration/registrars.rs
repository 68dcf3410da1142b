//! The registrars of a registration, in the order to try.

use crate::sip::headers::NameAddr;
use crate::sip::timers::Reliability;
use crate::sip::transport::Hop;
use crate::sip::uri::Uri;

/// One registrar at one address.
#[derive(Clone, Debug)]
pub struct Registrar {
    /// Where requests go.
    pub hop: Hop,
    /// Whether a stream, which keeps itself alive, or datagrams.
    pub reliability: Reliability,
    /// Request-URI: the registrar's domain.
    pub registrar: Uri,
    /// Address of record, for From and To.
    pub address_of_record: Uri,
    /// Our Contact there.
    pub contact: NameAddr,
}

/// At least one registrar, and which of them it is the turn of.
#[derive(Debug)]
pub struct Registrars {
    list: Vec<Registrar>,
    current: usize,
    /// How many were passed over since the last that took it, or the last pause.
    passed: usize,
}

impl Registrars {
    /// In the order to try; `None` where there is none.
    pub fn new(list: Vec<Registrar>) -> Option<Self> {
        (!list.is_empty()).then_some(Self {
            list,
            current: 0,
            passed: 0,
        })
    }

    /// All of them.
    pub(super) fn list(&self) -> &[Registrar] {
        &self.list
    }

    /// All of them, to be changed but not added to.
    pub(super) fn list_mut(&mut self) -> &mut [Registrar] {
        &mut self.list
    }

    /// Whose turn it is.
    pub(super) fn current(&self) -> &Registrar {
        // Never empty, and `current` stays within.
        &self.list[self.current]
    }

    /// The next one that was not tried in this round.
    pub(super) fn pass(&mut self) -> bool {
        self.passed += 1;
        self.current = (self.current + 1) % self.list.len();
        self.passed < self.list.len()
    }

    /// Whether one is left in this round.
    pub(super) fn has_more(&self) -> bool {
        self.passed + 1 < self.list.len()
    }

    /// How many are preferred to the current one.
    pub(super) fn better(&self) -> usize {
        self.current
    }

    /// The current one took it: a new round begins when it fails.
    pub(super) fn settle(&mut self) {
        self.passed = 0;
    }

    /// Takes the one on this flow as the current one, if it is among them; whether it is.
    pub(super) fn choose(&mut self, hop: &Hop) -> bool {
        let at = self.list.iter().position(|one| one.hop.is_same_flow(hop));
        if let Some(at) = at {
            self.current = at;
        }
        at.is_some()
    }

    /// Begins with the first again.
    pub(super) fn restart(&mut self) {
        self.current = 0;
        self.passed = 0;
    }
}
