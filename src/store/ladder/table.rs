//! What is remembered of the SIP messages of calls that are going on. Pure; bounded in every
//! direction.
//!
//! ```text
//! INVITE ─▶ unclaimed ──the call's row──▶ claimed ──row says ended──▶ due ──▶ take_due
//!               │ 40 s, or too many         │  ▲                       │
//!               ▼                           │  └── late messages ──────┘ 35 s ─▶ forgotten
//!           forgotten                       └─ its first messages, at once ─▶ take_due
//! ```
//!
//! The first messages of a call are kept whatever follows, so they need not wait for its end.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::ids::CallId;
use crate::record::{KeptSipMessage, SipMessage};
use crate::sip::ladder::{call_id, redact, sequence_method};

/// Messages kept from the start of a call, and as many from its end.
const HALF: usize = 64;
/// Bytes of either half.
const HALF_BYTES: usize = 128 << 10;
/// Bytes of all messages that wait to be written.
const ALL_BYTES: usize = 64 << 20;
/// Call-IDs at once, finished ones included until nothing more is expected of them.
const MOST: usize = 20_000;
/// Call-IDs that no call has claimed: challenged callers, refused or hostile ones.
const MOST_UNCLAIMED: usize = 2_000;
/// How long an INVITE may wait for its call.
const UNCLAIMED: Duration = Duration::from_secs(40);
/// How long messages of a finished call may trickle in (64 x T1, and a little).
const LINGERING: Duration = Duration::from_secs(35);
/// The longest Call-ID that is kept; RFC 3261 sets no limit.
const LONGEST_CALL_ID: usize = 512;
/// Calls refused in a row whose ladder is kept, and how fast more are again.
const REFUSED_BURST: f64 = 200.0;
const REFUSED_PER_SECOND: f64 = 5.0;

/// What happened to a call's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Milestone {
    /// The row is there.
    Made,
    /// The call is over.
    Ended {
        /// Whether it was ever answered.
        answered: bool,
    },
}

/// A call's messages, ready to be written.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) call: CallId,
    pub(super) messages: Vec<KeptSipMessage>,
}

impl Due {
    /// The size of the messages.
    pub(super) fn bytes(&self) -> usize {
        let all = self.messages.iter();
        all.map(|kept| kept.message.bytes.len()).sum()
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Table {
    ladders: HashMap<String, Ladder>,
    /// Call-IDs by the time of their INVITE, claimed or not: looked at when their time is over.
    unclaimed: VecDeque<(Instant, String)>,
    /// Call-IDs by the time of their call's end.
    lingering: VecDeque<(Instant, String)>,
    /// Claimed ones with something to write.
    due: Vec<String>,
    bytes: usize,
    left_out: u64,
    refused: Bucket,
}

#[derive(Debug, Default)]
struct Ladder {
    /// Usually one. Two calls with one Call-ID share what they cannot be told apart by.
    calls: Vec<CallId>,
    ended: Option<Instant>,
    next: u32,
    /// Those of the first that were not taken yet.
    head: Vec<(u32, SipMessage)>,
    /// How many the first were, and how large.
    head_count: usize,
    head_bytes: usize,
    head_full: bool,
    is_due: bool,
    tail: VecDeque<(u32, SipMessage)>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Option<Instant>,
}

impl Bucket {
    fn take(&mut self, now: Instant) -> bool {
        let since = self.at.replace(now);
        let elapsed = since.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let refilled = elapsed
            .as_secs_f64()
            .mul_add(REFUSED_PER_SECOND, self.tokens);
        self.tokens = refilled.min(REFUSED_BURST);
        let there = self.tokens >= 1.0;
        if there {
            self.tokens -= 1.0;
        }
        there
    }
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            ladders: HashMap::new(),
            unclaimed: VecDeque::new(),
            lingering: VecDeque::new(),
            due: Vec::new(),
            bytes: 0,
            left_out: 0,
            refused: Bucket {
                tokens: REFUSED_BURST,
                at: None,
            },
        }
    }

    /// Messages of calls that were not kept for want of room.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Whether nothing is remembered.
    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.ladders.is_empty() && self.bytes == 0
    }

    /// Takes a message of any kind; only those of calls are kept.
    pub(super) fn message(&mut self, now: Instant, mut message: SipMessage) {
        let Some(id) = call_id(&message.bytes).filter(|id| id.len() <= LONGEST_CALL_ID) else {
            return;
        };
        let id = id.to_owned();
        if !self.ladders.contains_key(&id) {
            if sequence_method(&message.bytes) != Some("INVITE") {
                return;
            }
            if !self.make_room(now) {
                self.left_out += 1;
                return;
            }
            self.ladders.insert(id.clone(), Ladder::default());
            self.unclaimed.push_back((now, id.clone()));
        }
        if self.bytes + message.bytes.len() > ALL_BYTES {
            self.left_out += 1;
            return;
        }
        redact(&mut message.bytes);
        if let Some(ladder) = self.ladders.get_mut(&id) {
            let before = ladder.bytes();
            self.left_out += ladder.push(message);
            self.bytes = self.bytes - before + ladder.bytes();
            self.note_due(&id);
        }
    }

    /// Notes that there may be something to write.
    fn note_due(&mut self, id: &str) {
        if let Some(ladder) = self.ladders.get_mut(id)
            && ladder.has_something_to_write()
            && !std::mem::replace(&mut ladder.is_due, true)
        {
            self.due.push(id.to_owned());
        }
    }

    /// A call's row was written.
    pub(super) fn row(&mut self, now: Instant, id: &str, call: CallId, milestone: Milestone) {
        let Some(ladder) = self.ladders.get_mut(id) else {
            return;
        };
        if !ladder.calls.contains(&call) {
            ladder.calls.push(call);
            ladder.ended = None;
        }
        let Milestone::Ended { answered } = milestone else {
            self.note_due(id);
            return;
        };
        if !answered && !self.refused.take(now) {
            self.left_out += u64::from(ladder.next);
            self.forget(id);
            return;
        }
        if ladder.ended.replace(now).is_none() {
            self.lingering.push_back((now, id.to_owned()));
        }
        self.note_due(id);
    }

    /// What is to be written now.
    pub(super) fn take_due(&mut self) -> Vec<Due> {
        let mut all = Vec::new();
        for id in std::mem::take(&mut self.due) {
            let Some(ladder) = self.ladders.get_mut(&id) else {
                continue;
            };
            let before = ladder.bytes();
            let messages = ladder.take(&id);
            self.bytes = self.bytes - before + ladder.bytes();
            if messages.is_empty() {
                continue;
            }
            all.extend(ladder.calls.iter().map(|call| Due {
                call: *call,
                messages: messages.clone(),
            }));
        }
        all
    }

    /// Forgets what nobody will ask for any more.
    pub(super) fn forget_old(&mut self, now: Instant) {
        let over = |at: &Instant, patience| now.saturating_duration_since(*at) >= patience;
        while let Some((at, _)) = self.unclaimed.front()
            && over(at, UNCLAIMED)
        {
            self.forget_oldest_unclaimed();
        }
        while let Some((at, _)) = self.lingering.front()
            && over(at, LINGERING)
        {
            let Some((at, id)) = self.lingering.pop_front() else {
                return;
            };
            if self.ladders.get(&id).is_some_and(|l| l.ended == Some(at)) {
                self.forget(&id);
            }
        }
    }

    fn make_room(&mut self, now: Instant) -> bool {
        if self.ladders.len() >= MOST {
            self.forget_old(now);
        }
        while self.unclaimed.len() >= MOST_UNCLAIMED {
            self.forget_oldest_unclaimed();
        }
        self.ladders.len() < MOST
    }

    fn forget_oldest_unclaimed(&mut self) {
        if let Some((_, id)) = self.unclaimed.pop_front()
            && self.ladders.get(&id).is_some_and(|l| l.calls.is_empty())
        {
            self.forget(&id);
        }
    }

    fn forget(&mut self, id: &str) {
        if let Some(ladder) = self.ladders.remove(id) {
            self.bytes -= ladder.bytes();
        }
    }
}

impl Ladder {
    fn bytes(&self) -> usize {
        let all = self.head.iter().chain(&self.tail);
        all.map(|(_, message)| message.bytes.len()).sum()
    }

    fn has_something_to_write(&self) -> bool {
        let whole = self.ended.is_some() && !self.tail.is_empty();
        !self.calls.is_empty() && (whole || !self.head.is_empty())
    }

    /// Adds a message and returns how many others had to go.
    fn push(&mut self, message: SipMessage) -> u64 {
        let position = self.next;
        self.next = self.next.saturating_add(1);
        let length = message.bytes.len();
        self.head_full |= self.head_count >= HALF || self.head_bytes + length > HALF_BYTES;
        if !self.head_full {
            self.head_count += 1;
            self.head_bytes += length;
            self.head.push((position, message));
            return 0;
        }
        self.tail.push_back((position, message));
        let mut gone = 0;
        let mut bytes: usize = self.tail.iter().map(|(_, m)| m.bytes.len()).sum();
        while self.tail.len() > HALF || (bytes > HALF_BYTES && self.tail.len() > 1) {
            let Some((_, first)) = self.tail.pop_front() else {
                break;
            };
            bytes -= first.bytes.len();
            gone += 1;
        }
        gone
    }

    /// Everything that was not taken yet; of a call that goes on, of its first messages. What comes
    /// after the end is only ever a tail.
    fn take(&mut self, id: &str) -> Vec<KeptSipMessage> {
        self.is_due = false;
        let head = std::mem::take(&mut self.head);
        let mut tail = VecDeque::new();
        if self.ended.is_some() {
            self.head_full = true;
            tail = std::mem::take(&mut self.tail);
        }
        let all = head.into_iter().chain(tail);
        all.map(|(position, message)| KeptSipMessage {
            sip_call_id: id.to_owned(),
            position,
            message,
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;
    use crate::record::{SipDirection, SipTransport};

    fn message(id: &str, method: &str, extra: &str) -> SipMessage {
        let address = "127.0.0.1:5060".parse().expect("address");
        SipMessage {
            at: OffsetDateTime::UNIX_EPOCH,
            direction: SipDirection::Received,
            transport: SipTransport::Udp,
            local: address,
            peer: address,
            bytes: format!(
                "{method} sip:a SIP/2.0\r\nCall-ID: {id}\r\nCSeq: 1 {method}\r\n{extra}\r\n"
            )
            .into_bytes(),
        }
    }

    fn call(seed: u8) -> CallId {
        CallId::from_random([seed; 16])
    }

    fn answered() -> Milestone {
        Milestone::Ended { answered: true }
    }

    fn positions(due: &Due) -> Vec<u32> {
        due.messages.iter().map(|kept| kept.position).collect()
    }

    #[test]
    fn the_first_messages_of_a_call_are_written_while_it_goes_on() {
        let mut table = Table::new();
        let now = Instant::now();
        table.message(now, message("one", "INVITE", ""));
        assert!(table.take_due().is_empty(), "there is no row yet");
        table.row(now, "one", call(1), Milestone::Made);
        assert_eq!(positions(&table.take_due()[0]), [0]);
        for _ in 0..200 {
            table.message(now, message("one", "INFO", ""));
        }
        let head: Vec<u32> = (1..HALF as u32).collect();
        assert_eq!(positions(&table.take_due()[0]), head);
        table.message(now, message("one", "INFO", ""));
        assert!(table.take_due().is_empty(), "the rest waits for the end");
        table.row(now, "one", call(1), answered());
        let tail: Vec<u32> = (202 - HALF as u32..202).collect();
        assert_eq!(positions(&table.take_due()[0]), tail);
        table.forget_old(now + UNCLAIMED + LINGERING);
        assert!(table.is_empty());
    }

    #[test]
    fn a_call_is_written_until_it_ends_and_its_stragglers_after_it() {
        let mut table = Table::new();
        let now = Instant::now();
        table.message(
            now,
            message("one", "INVITE", "Authorization: Digest response=\"x\"\r\n"),
        );
        table.message(now, message("two", "OPTIONS", ""));
        table.row(now, "one", call(1), Milestone::Made);
        table.forget_old(now + UNCLAIMED);
        let due = table.take_due();
        let first = String::from_utf8_lossy(&due[0].messages[0].message.bytes).into_owned();
        assert!(first.contains("response=\"*\""), "{first}");
        table.message(now, message("one", "BYE", ""));
        table.row(now + UNCLAIMED, "one", call(1), answered());
        assert_eq!(positions(&table.take_due()[0]), [1]);
        table.message(now, message("one", "BYE", ""));
        assert_eq!(positions(&table.take_due()[0]), [2]);
        table.forget_old(now + UNCLAIMED + LINGERING);
        assert!(table.is_empty());
    }

    #[test]
    fn of_a_long_call_the_beginning_and_the_end_are_kept() {
        let mut table = Table::new();
        let now = Instant::now();
        table.message(now, message("one", "INVITE", ""));
        for _ in 0..500 {
            table.message(now, message("one", "INFO", ""));
        }
        table.message(
            now,
            message("one", "BYE", &format!("X: {}\r\n", "x".repeat(60_000))),
        );
        table.row(now, "one", call(1), answered());
        let due = table.take_due();
        let positions: Vec<u32> = due[0].messages.iter().map(|kept| kept.position).collect();
        assert_eq!(positions.len(), 2 * HALF);
        assert_eq!((positions[0], positions[HALF - 1]), (0, HALF as u32 - 1));
        assert_eq!(positions.last(), Some(&501));
        assert_eq!(table.left_out(), 502 - 2 * HALF as u64);
    }

    #[test]
    fn huge_messages_do_not_add_up() {
        let mut table = Table::new();
        let now = Instant::now();
        for _ in 0..100 {
            table.message(
                now,
                message("one", "INVITE", &format!("X: {}\r\n", "x".repeat(60_000))),
            );
        }
        assert!(table.bytes <= 2 * HALF_BYTES, "{}", table.bytes);
    }

    #[test]
    fn a_flood_of_refused_or_unanswered_invites_stays_bounded() {
        let mut table = Table::new();
        let now = Instant::now();
        for number in 0..10 * MOST_UNCLAIMED {
            table.message(now, message(&number.to_string(), "INVITE", ""));
        }
        assert!(table.ladders.len() <= MOST_UNCLAIMED);
        table.forget_old(now + UNCLAIMED);
        assert!(table.is_empty());
        let mut written = 0;
        for number in 0..1000 {
            let id = number.to_string();
            table.message(now, message(&id, "INVITE", ""));
            table.row(now, &id, call(1), Milestone::Ended { answered: false });
            written += table.take_due().len();
        }
        assert_eq!(written, 200);
    }

    #[test]
    fn two_calls_that_share_a_call_id_both_have_its_messages() {
        let mut table = Table::new();
        let now = Instant::now();
        table.message(now, message("one", "INVITE", ""));
        table.row(now, "one", call(1), Milestone::Made);
        table.row(now, "one", call(2), Milestone::Made);
        table.row(now, "one", call(2), answered());
        let calls: Vec<CallId> = table.take_due().iter().map(|due| due.call).collect();
        assert_eq!(calls, [call(1), call(2)]);
    }
}
