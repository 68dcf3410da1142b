//! Who holds which cells of the KV cache. Bookkeeping only: the engine does to llama.cpp's
//! cache what is decided here.
//!
//! ```text
//!            admit                      finish
//!   free ───────────► busy (call) ───────────────► idle (call)
//!    ▲                    ▲                            │   │
//!    │                    └────────────────────────────┘   │
//!    │                       admit: next turn, only the    │
//!    │                       new tokens are read           │
//!    └─────────────────────────────────────────────────────┘
//!       release at the call's end, or eviction of the call idle the longest
//! ```
//!
//! Beside the calls' sequences there are *prefixes*: system prompts (and greetings) read once.
//! A call's sequence starts as a copy of one, which costs no cells, since llama.cpp's unified
//! cache lets sequences share them.

use llama_cpp_2::token::LlamaToken;
use offhook::ids::CallId;

/// A llama.cpp sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Sequence(pub(crate) usize);

/// Whom a sequence serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Owner {
    /// A call, by whatever the server calls it.
    Call(CallId),
    /// A prompt that is read ahead for all calls; gone when it is finished.
    Warming,
}

#[derive(Debug, Default)]
struct Slot {
    owner: Option<Owner>,
    /// What llama.cpp's sequence holds.
    tokens: Vec<LlamaToken>,
    /// The prefix whose cells it shares, and how many of them.
    prefix: Option<(Sequence, usize)>,
    /// The length that it may grow to while it is busy.
    reserved: Option<usize>,
    last_used: u64,
}

impl Slot {
    /// Cells that nobody else holds, counting those promised to it.
    fn cells(&self) -> usize {
        let shared = self.prefix.map_or(0, |(_, length)| length);
        self.tokens
            .len()
            .max(self.reserved.unwrap_or(0))
            .saturating_sub(shared)
    }
}

/// How the cache is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CacheSize {
    /// Cells (tokens) in all.
    pub(crate) cells: usize,
    /// Sequences for calls.
    pub(crate) calls: usize,
    /// Sequences for prefixes.
    pub(crate) prefixes: usize,
    /// Whether a sequence can be cut anywhere. A recurrent model's state cannot.
    pub(crate) divisible: bool,
}

/// What to do to llama.cpp's cache before a prompt is read, in this order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Admission {
    /// Sequences to clear.
    pub(crate) clear: Vec<Sequence>,
    /// The sequence that the prompt goes to.
    pub(crate) sequence: Sequence,
    /// Where the beginning of the prompt is copied from, if it is not there already.
    pub(crate) copy_from: Option<Sequence>,
    /// How many tokens of the prompt are in the cache then; anything behind them in the
    /// sequence is to be removed.
    pub(crate) cached: usize,
}

/// Why a prompt is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Calls that are being answered hold the cache; try again when one is finished.
    Full,
    /// It could not fit into an empty cache.
    TooLong,
}

/// The bookkeeping.
#[derive(Debug)]
pub(crate) struct Cache {
    size: CacheSize,
    /// Calls first, then prefixes.
    slots: Vec<Slot>,
    uses: u64,
}

impl Cache {
    /// An empty cache.
    pub(crate) fn new(size: CacheSize) -> Self {
        let slots = (0..size.calls + size.prefixes)
            .map(|_| Slot::default())
            .collect();
        Self {
            size,
            slots,
            uses: 0,
        }
    }

    /// Finds room for `prompt` and `reply` more tokens. At least `unread` tokens of the prompt are
    /// left to be read, since logits are wanted from the first of them on.
    ///
    /// # Errors
    /// [`Refusal`]; nothing was changed then.
    pub(crate) fn admit(
        &mut self,
        owner: Owner,
        prompt: &[LlamaToken],
        unread: usize,
        reply: usize,
    ) -> Result<Admission, Refusal> {
        let length = prompt.len() + reply;
        if length > self.size.cells || prompt.is_empty() {
            return Err(Refusal::TooLong);
        }
        let (sequence, mut clear) = self.sequence_for(owner).ok_or(Refusal::Full)?;
        let own = if clear.is_empty() {
            self.usable(sequence, prompt, unread)
        } else {
            0
        };
        let prefix = self
            .best_prefix(prompt, unread)
            .filter(|&(_, cached)| cached > own);
        let shared = match prefix {
            Some(shared) => Some(shared),
            None => self.slots[sequence.0]
                .prefix
                .map(|(from, length)| (from, length.min(own))),
        };
        let needed = length - shared.map_or(0, |(_, length)| length);
        let spared = [Some(sequence), shared.map(|(from, _)| from)];
        clear.extend(
            self.make_room(needed, &spared, &clear)
                .ok_or(Refusal::Full)?,
        );

        for &evicted in &clear {
            self.slots[evicted.0] = Slot::default();
        }
        if prefix.is_some() && !clear.contains(&sequence) {
            clear.push(sequence);
        }
        let cached = prefix.map_or(own, |(_, cached)| cached);
        self.uses += 1;
        let last_used = self.uses;
        let slot = &mut self.slots[sequence.0];
        slot.owner = Some(owner);
        slot.tokens.clear();
        slot.tokens.extend_from_slice(&prompt[..cached]);
        slot.prefix = shared.filter(|&(_, length)| length > 0);
        slot.reserved = Some(length);
        slot.last_used = last_used;
        if let Some((from, _)) = shared {
            self.slots[from.0].last_used = last_used;
        }
        Ok(Admission {
            clear,
            sequence,
            copy_from: prefix.map(|(from, _)| from),
            cached,
        })
    }

    /// Tokens were decoded into `sequence`.
    pub(crate) fn extend(&mut self, sequence: Sequence, tokens: &[LlamaToken]) {
        self.slots[sequence.0].tokens.extend_from_slice(tokens);
    }

    /// The sequence was emptied although it is in use: its prompt is read from the start.
    pub(crate) fn truncate(&mut self, sequence: Sequence) {
        let slot = &mut self.slots[sequence.0];
        slot.tokens.clear();
        slot.prefix = None;
    }

    /// Number of tokens in `sequence`.
    pub(crate) fn length(&self, sequence: Sequence) -> usize {
        self.slots[sequence.0].tokens.len()
    }

    /// The sequence is idle from now on, and its promised cells are free.
    pub(crate) fn finish(&mut self, sequence: Sequence) {
        self.slots[sequence.0].reserved = None;
    }

    /// Forgets what `sequence` held; it is to be cleared.
    pub(crate) fn forget(&mut self, sequence: Sequence) {
        self.slots[sequence.0] = Slot::default();
    }

    /// The idle sequence of a call that has ended, which is to be cleared.
    pub(crate) fn release(&mut self, call: CallId) -> Option<Sequence> {
        let sequence = self.calls().find(|&at| {
            let slot = &self.slots[at.0];
            slot.owner == Some(Owner::Call(call)) && slot.reserved.is_none()
        })?;
        self.forget(sequence);
        Some(sequence)
    }

    /// Whether `tokens` are kept as a prefix, or the beginning of one.
    pub(crate) fn has_prefix(&self, tokens: &[LlamaToken]) -> bool {
        self.prefixes().any(|at| {
            let held = &self.slots[at.0].tokens;
            if self.size.divisible {
                held.starts_with(tokens)
            } else {
                held == tokens
            }
        })
    }

    /// Keeps the first `length` tokens of `from` as a prefix: returns the sequence that they are
    /// to be copied to, after clearing it. `None` where all prefixes are in use.
    pub(crate) fn keep_prefix(&mut self, from: Sequence, length: usize) -> Option<Sequence> {
        let tokens = self.slots[from.0].tokens.get(..length)?.to_vec();
        // A prefix that the new one continues is of no more use, unless calls still share it.
        let to = self
            .prefixes()
            .filter(|&at| !self.is_shared(at) && Some(at) != self.slots[from.0].prefix.map(|p| p.0))
            .min_by_key(|&at| (self.slots[at.0].owner.is_some(), self.slots[at.0].last_used))?;
        self.uses += 1;
        self.slots[to.0] = Slot {
            owner: Some(Owner::Warming),
            tokens,
            last_used: self.uses,
            ..Slot::default()
        };
        self.slots[from.0].prefix = Some((to, length));
        Some(to)
    }

    /// Cells in use or promised.
    #[cfg(test)]
    pub(crate) fn cells_used(&self) -> usize {
        self.slots.iter().map(Slot::cells).sum()
    }

    fn calls(&self) -> impl Iterator<Item = Sequence> + use<> {
        (0..self.size.calls).map(Sequence)
    }

    fn prefixes(&self) -> impl Iterator<Item = Sequence> + use<> {
        (self.size.calls..self.size.calls + self.size.prefixes).map(Sequence)
    }

    /// The owner's sequence, a free one, or the one idle the longest (which is to be cleared).
    fn sequence_for(&self, owner: Owner) -> Option<(Sequence, Vec<Sequence>)> {
        let idle = |at: &Sequence| self.slots[at.0].reserved.is_none();
        let owned = |at: &Sequence| self.slots[at.0].owner == Some(owner);
        if matches!(owner, Owner::Call(_))
            && let Some(own) = self.calls().filter(idle).find(owned)
        {
            return Some((own, Vec::new()));
        }
        if let Some(free) = self.calls().find(|at| self.slots[at.0].owner.is_none()) {
            return Some((free, Vec::new()));
        }
        let oldest = self
            .calls()
            .filter(idle)
            .min_by_key(|at| self.slots[at.0].last_used)?;
        Some((oldest, vec![oldest]))
    }

    /// How many tokens of `prompt` the sequence already holds and may keep, with `unread` left.
    fn usable(&self, at: Sequence, prompt: &[LlamaToken], unread: usize) -> usize {
        let held = &self.slots[at.0].tokens;
        let common = held.iter().zip(prompt).take_while(|(a, b)| a == b).count();
        if self.size.divisible {
            common.min(prompt.len() - unread.clamp(1, prompt.len()))
        } else if common == held.len() && common < prompt.len() {
            common
        } else {
            0
        }
    }

    fn best_prefix(&self, prompt: &[LlamaToken], unread: usize) -> Option<(Sequence, usize)> {
        self.prefixes()
            .map(|at| (at, self.usable(at, prompt, unread)))
            .max_by_key(|&(_, cached)| cached)
    }

    fn is_shared(&self, prefix: Sequence) -> bool {
        self.slots
            .iter()
            .any(|slot| slot.prefix.is_some_and(|(from, _)| from == prefix))
    }

    /// Which idle sequences have to go so that `needed` cells are free beside `spared[0]`, the
    /// sequence that will hold them. Calls go first, the one idle the longest before the
    /// others: reading a call's history again is little work, a system prompt much.
    fn make_room(
        &self,
        needed: usize,
        spared: &[Option<Sequence>],
        cleared: &[Sequence],
    ) -> Option<Vec<Sequence>> {
        let counted = |at: usize| {
            spared.first() != Some(&Some(Sequence(at))) && !cleared.contains(&Sequence(at))
        };
        let cells = |at: usize| self.slots[at].cells();
        let used: usize = (0..self.slots.len())
            .filter(|&at| counted(at))
            .map(cells)
            .sum();
        let mut excess = (used + needed).saturating_sub(self.size.cells);
        let mut evicted: Vec<Sequence> = Vec::new();
        let by_age = |candidates: &mut Vec<Sequence>| {
            candidates.sort_by_key(|at| self.slots[at.0].last_used);
        };
        let evictable = |at: &Sequence| {
            counted(at.0)
                && !spared.contains(&Some(*at))
                && self.slots[at.0].owner.is_some()
                && self.slots[at.0].reserved.is_none()
        };
        let mut calls: Vec<Sequence> = self.calls().filter(evictable).collect();
        let mut prefixes: Vec<Sequence> = self.prefixes().filter(evictable).collect();
        by_age(&mut calls);
        by_age(&mut prefixes);
        for at in calls.into_iter().chain(prefixes) {
            if excess == 0 {
                break;
            }
            // A prefix's cells stay as long as a call shares them.
            let held = |slot: usize| {
                self.slots[slot].prefix.is_some_and(|(from, _)| from == at)
                    && !evicted.contains(&Sequence(slot))
                    && !cleared.contains(&Sequence(slot))
            };
            if (0..self.slots.len()).any(held) {
                continue;
            }
            excess = excess.saturating_sub(self.slots[at.0].cells());
            evicted.push(at);
        }
        (excess == 0).then_some(evicted)
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
