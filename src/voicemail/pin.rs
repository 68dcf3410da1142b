//! The PIN of a mailbox, and how often it may be guessed.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use serde::{Deserialize, Deserializer};

use crate::ids::MailboxName;

/// Wrong PINs after which a mailbox is closed for a while, whoever calls.
const MOST_WRONG: u32 = 9;
/// How long.
const CLOSED: Duration = Duration::from_secs(900);

/// 4 to 12 digits. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Pin(String);

impl Pin {
    /// A PIN; `None` where it is not 4 to 12 digits.
    pub fn new(digits: &str) -> Option<Self> {
        let fits = (4..=12).contains(&digits.len());
        (fits && digits.bytes().all(|b| b.is_ascii_digit())).then(|| Self(digits.to_owned()))
    }

    /// Whether these keys are the PIN. How long it takes says nothing of it.
    pub fn is(&self, keys: &str) -> bool {
        let (ours, theirs) = (self.0.as_bytes(), keys.as_bytes());
        let different = ours
            .iter()
            .enumerate()
            .map(|(at, digit)| digit ^ theirs.get(at).copied().unwrap_or_default())
            .fold(0, |all, one| all | one);
        different == 0 && ours.len() == theirs.len()
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl<'de> Deserialize<'de> for Pin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).ok_or_else(|| serde::de::Error::custom("is not 4 to 12 digits in quotes"))
    }
}

/// Counts wrong PINs over all calls.
///
/// ```text
///  open ──wrong, ten times without a right one──▶ closed ──15 minutes──▶ open
/// ```
#[derive(Debug, Default)]
pub struct PinGuard {
    wrong: HashMap<MailboxName, (u32, Instant)>,
}

impl PinGuard {
    /// Whether a PIN may be tried.
    pub fn is_open(&self, mailbox: &MailboxName, now: Instant) -> bool {
        self.wrong.get(mailbox).is_none_or(|(wrong, last)| {
            *wrong < MOST_WRONG || now.saturating_duration_since(*last) >= CLOSED
        })
    }

    /// Notes what came of a try.
    pub fn tried(&mut self, mailbox: &MailboxName, right: bool, now: Instant) {
        if right {
            self.wrong.remove(mailbox);
            return;
        }
        let (wrong, last) = self.wrong.entry(mailbox.clone()).or_insert((0, now));
        if now.saturating_duration_since(*last) >= CLOSED {
            *wrong = 0;
        }
        *wrong = wrong.saturating_add(1);
        *last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_some_digits_and_only_itself() {
        let pin = Pin::new("4711").expect("a PIN");
        assert!(pin.is("4711"));
        for wrong in ["", "4", "471", "4712", "47110", "471\u{0}"] {
            assert!(!pin.is(wrong), "{wrong:?}");
        }
        for bad in ["", "123", "1234567890123", "12a4", "12 34"] {
            assert_eq!(Pin::new(bad), None, "{bad:?}");
        }
        assert_eq!(format!("{pin:?}"), "[redacted]");
    }

    #[test]
    fn a_mailbox_closes_after_many_wrong_pins_and_opens_again() {
        let (mine, other) = (MailboxName::new("mine"), MailboxName::new("other"));
        let mut guard = PinGuard::default();
        let start = Instant::now();
        for _ in 0..MOST_WRONG - 1 {
            guard.tried(&mine, false, start);
        }
        guard.tried(&mine, true, start);
        assert!(guard.is_open(&mine, start), "a right one is a new start");
        for _ in 0..MOST_WRONG {
            assert!(guard.is_open(&mine, start));
            guard.tried(&mine, false, start);
        }
        assert!(!guard.is_open(&mine, start + CLOSED / 2));
        assert!(guard.is_open(&other, start));
        assert!(guard.is_open(&mine, start + CLOSED));
        guard.tried(&mine, false, start + CLOSED);
        assert!(guard.is_open(&mine, start + CLOSED), "counted afresh");
    }
}
