//! Which calls are taken: calls at once and calls a second, for each trunk and each assistant.
//! Lines in all are the registry's to count.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::ids::{AssistantId, TrunkName};
use crate::sip::flood::Bucket;

/// The operator's limits for a trunk or an assistant; `None` for no limit of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallRates {
    /// Calls at once.
    pub max_calls: Option<u32>,
    /// New calls a second, with bursts of two seconds' worth.
    pub calls_per_second: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Whose {
    Trunk(TrunkName),
    Assistant(AssistantId),
}

#[derive(Debug, Default)]
struct Used {
    calls: u32,
    rate: Option<Bucket>,
}

/// Why a call is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// The trunk has as many calls as it may, or too many new ones: 503, so that it tries
    /// elsewhere.
    Trunk,
    /// The assistant has: 486.
    Assistant,
}

/// The calls that were taken. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Admission {
    used: Arc<Mutex<HashMap<Whose, Used>>>,
    assistants: Arc<HashMap<AssistantId, CallRates>>,
}

/// A call's place; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    admission: Admission,
    whose: Vec<Whose>,
}

impl Admission {
    /// With the limits of assistants; those of trunks come with each call.
    pub fn new(assistants: HashMap<AssistantId, CallRates>) -> Self {
        Self {
            used: Arc::default(),
            assistants: Arc::new(assistants),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Whose, Used>> {
        // Each change below is whole before anything can panic.
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for a call.
    pub(super) fn admit(
        &self,
        now: Instant,
        trunk: Option<(&TrunkName, CallRates)>,
        assistant: &AssistantId,
    ) -> Result<Place, Full> {
        let of_assistant = self.assistants.get(assistant).copied().unwrap_or_default();
        let asked = [
            trunk.map(|(name, rates)| (Whose::Trunk(name.clone()), rates, Full::Trunk)),
            Some((
                Whose::Assistant(assistant.clone()),
                of_assistant,
                Full::Assistant,
            )),
        ];
        let mut used = self.lock();
        let mut whose = Vec::new();
        for (who, rates, full) in asked.into_iter().flatten() {
            let taken = used.entry(who.clone()).or_default().take(now, rates);
            if !taken {
                give_back(&mut used, &whose);
                return Err(full);
            }
            whose.push(who);
        }
        drop(used);
        Ok(Place {
            admission: self.clone(),
            whose,
        })
    }
}

impl Used {
    fn take(&mut self, now: Instant, rates: CallRates) -> bool {
        let line_is_free = rates.max_calls.is_none_or(|most| self.calls < most);
        let in_time = match rates.calls_per_second {
            None => true,
            Some(rate) => {
                let bucket = self.rate.get_or_insert_with(|| Bucket::new(rate, now));
                bucket.take(now)
            }
        };
        let taken = line_is_free && in_time;
        self.calls += u32::from(taken);
        taken
    }
}

fn give_back(used: &mut HashMap<Whose, Used>, whose: &[Whose]) {
    for who in whose {
        if let Some(used) = used.get_mut(who) {
            used.calls = used.calls.saturating_sub(1);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        give_back(&mut self.admission.lock(), &self.whose);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn rates(max_calls: Option<u32>, calls_per_second: Option<u32>) -> CallRates {
        CallRates {
            max_calls,
            calls_per_second,
        }
    }

    #[test]
    fn a_trunk_and_an_assistant_each_have_their_lines() {
        let reception = AssistantId::new("reception");
        let limits = HashMap::from([(reception.clone(), rates(Some(2), None))]);
        let admission = Admission::new(limits);
        let carrier = TrunkName::new("carrier");
        let now = Instant::now();
        let from_carrier =
            || admission.admit(now, Some((&carrier, rates(Some(1), None))), &reception);
        let from_elsewhere = || admission.admit(now, None, &reception);
        let first = from_carrier().expect("free");
        assert_eq!(from_carrier().expect_err("full"), Full::Trunk);
        let second = from_elsewhere().expect("free");
        assert_eq!(from_elsewhere().expect_err("full"), Full::Assistant);
        drop(first);
        let third = from_carrier().expect("free again");
        assert_eq!(from_elsewhere().expect_err("full"), Full::Assistant);
        drop((second, third));
        assert!(admission.lock().values().all(|used| used.calls == 0));
    }

    #[test]
    fn calls_that_come_too_fast_are_refused_and_a_refused_one_takes_no_line() {
        let admission = Admission::default();
        let carrier = TrunkName::new("carrier");
        let demo = AssistantId::new("demo");
        let now = Instant::now();
        let call = |now| {
            let limits = rates(Some(1000), Some(5));
            admission.admit(now, Some((&carrier, limits)), &demo)
        };
        let taken: Vec<Place> = (0..50).filter_map(|_| call(now).ok()).collect();
        assert_eq!(taken.len(), 10);
        let later = now + Duration::from_secs(1);
        let more: Vec<Place> = (0..50).filter_map(|_| call(later).ok()).collect();
        assert_eq!(more.len(), 5);
        let used = admission.lock();
        assert_eq!(used[&Whose::Trunk(carrier.clone())].calls, 15);
        drop(used);
    }
}
