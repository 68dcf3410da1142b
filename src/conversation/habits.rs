//! How a caller has paused in this call, for the policy of [`super::endpointing`].

use std::collections::VecDeque;
use std::time::Duration;

/// How this caller has spoken so far in this call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ways {
    /// How long they pause inside sentences.
    pub(super) in_sentences: Duration,
    /// How long they pause while they read something out.
    pub(super) in_numbers: Duration,
    /// How often they went on as soon as they were answered.
    pub(super) cut_ins: u32,
}

/// The longest pause inside each of the latest turns.
#[derive(Clone, Debug, Default)]
struct Pauses(VecDeque<Duration>);

/// What [`Ways`] is drawn from.
#[derive(Clone, Debug, Default)]
pub(super) struct Habits {
    sentences: Pauses,
    numbers: Pauses,
    /// The longest two of the turn in the making.
    current: [Duration; 2],
    cut_ins: u32,
}

/// A shorter pause is a gap between words.
const NOTABLE_PAUSE: Duration = Duration::from_millis(300);
/// A longer one is a turn of its own.
const LONGEST_PAUSE: Duration = Duration::from_millis(2000);
/// How many turns back a habit goes.
const REMEMBERED_TURNS: usize = 6;

impl Pauses {
    fn remember(&mut self, longest: Duration) {
        if self.0.len() >= REMEMBERED_TURNS {
            self.0.pop_front();
        }
        self.0.push_back(longest);
    }

    /// One long pause is none; two are a habit.
    fn habit(&self, current: [Duration; 2]) -> Duration {
        let mut pauses: Vec<Duration> = self.0.iter().copied().chain(current).collect();
        pauses.sort_unstable();
        pauses.iter().rev().nth(1).copied().unwrap_or_default()
    }
}

impl Habits {
    /// The caller went on after a pause.
    pub(super) fn paused(&mut self, pause: Duration) {
        if (NOTABLE_PAUSE..=LONGEST_PAUSE).contains(&pause) {
            let [first, second] = self.current;
            self.current = [first.max(pause), second.max(first.min(pause))];
        }
    }

    /// The turn is over; it was something read out, or else sentences.
    pub(super) fn turn_over(&mut self, read_out: bool) {
        let [longest, _] = std::mem::take(&mut self.current);
        match read_out {
            true => self.numbers.remember(longest),
            false => self.sentences.remember(longest),
        }
    }

    /// The caller went on although the assistant had begun to answer.
    pub(super) fn was_cut_short(&mut self) {
        self.cut_ins = self.cut_ins.saturating_add(1);
    }

    pub(super) fn ways(&self) -> Ways {
        Ways {
            in_sentences: self.sentences.habit(self.current),
            in_numbers: self.numbers.habit(self.current),
            cut_ins: self.cut_ins,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn two_turns_with_pauses_are_a_habit_of_their_kind_until_six_turns_went_by_without() {
        let mut habits = Habits::default();
        let turn = |habits: &mut Habits, pauses: &[u64], read_out| {
            for &pause in pauses {
                habits.paused(MS(pause));
            }
            habits.turn_over(read_out);
        };
        turn(&mut habits, &[100, 700, 5000], false);
        assert_eq!(habits.ways(), Ways::default(), "one is none");
        turn(&mut habits, &[900], true);
        assert_eq!(habits.ways(), Ways::default(), "of another kind");
        turn(&mut habits, &[600], false);
        assert_eq!(habits.ways().in_sentences, MS(600));
        assert_eq!(habits.ways().in_numbers, Duration::ZERO);
        for _ in 0..5 {
            turn(&mut habits, &[], false);
        }
        assert_eq!(habits.ways(), Ways::default());
    }

    #[test]
    fn two_pauses_in_one_turn_count_within_it() {
        let mut habits = Habits::default();
        habits.paused(MS(500));
        habits.paused(MS(800));
        assert_eq!(habits.ways().in_sentences, MS(500));
        habits.turn_over(false);
        assert_eq!(habits.ways(), Ways::default());
    }
}
