//! Which packet of a stream a sequence number means, and whether it came before (RFC 3711
//! sections 3.3.1 and 3.3.2).

/// A stream's position: how often its sequence numbers wrapped, and what was received lately.
#[derive(Clone, Debug, Default)]
pub(super) struct Position {
    /// The highest packet index that was received; `None` before the first.
    highest: Option<u64>,
    /// Bit `n`: the packet `highest - n` was received.
    window: u128,
    /// The index of the first packet, where an earlier context tells its wraps.
    hint: Option<u64>,
}

impl Position {
    /// A stream that goes on from where another context saw it.
    pub(super) fn hinted(before: &Self) -> Self {
        Self {
            hint: before.highest.or(before.hint),
            ..Self::default()
        }
    }

    /// The index that a sequence number most likely has: the one nearest to the highest so far.
    pub(super) fn index_of(&self, sequence: u16) -> u64 {
        match self.highest {
            Some(highest) => nearest(highest, sequence),
            None => u64::from(sequence),
        }
    }

    /// What the first packet's index may be as well: senders differ in whether a new key starts
    /// the count of wraps anew.
    pub(super) fn alternative(&self, sequence: u16) -> Option<u64> {
        let hint = self.hint.filter(|_| self.highest.is_none())?;
        Some(nearest(hint, sequence)).filter(|index| *index != u64::from(sequence))
    }

    /// Whether a packet was received, or is too old to tell.
    pub(super) fn is_replayed(&self, index: u64) -> bool {
        match self.highest {
            Some(highest) if index <= highest => {
                let behind = highest - index;
                behind >= 128 || (self.window >> behind) & 1 == 1
            }
            Some(_) | None => false,
        }
    }

    /// The packet was authentic.
    pub(super) fn received(&mut self, index: u64) {
        let highest = *self.highest.get_or_insert(index);
        if index > highest {
            let ahead = u32::try_from(index - highest).unwrap_or(u32::MAX);
            self.window = self.window.checked_shl(ahead).unwrap_or(0);
            self.highest = Some(index);
        }
        let behind = self.highest.unwrap_or(index) - index;
        if behind < 128 {
            self.window |= 1 << behind;
        }
    }
}

fn nearest(to: u64, sequence: u16) -> u64 {
    let ahead = sequence.wrapping_sub(to as u16) as i16;
    to.checked_add_signed(i64::from(ahead))
        // Before the first packet there is none.
        .unwrap_or(u64::from(sequence))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_roll_over_in_any_order() {
        let mut position = Position::default();
        let sent = [65_533u64, 65_535, 65_534, 65_537, 65_536, 65_540, 65_532];
        for index in sent {
            assert_eq!(position.index_of(index as u16), index);
            assert!(!position.is_replayed(index));
            position.received(index);
            assert!(position.is_replayed(index));
        }
        for index in sent {
            assert!(position.is_replayed(index));
        }
        assert!(!position.is_replayed(65_538));
    }

    #[test]
    fn what_is_older_than_the_window_is_refused() {
        let mut position = Position::default();
        position.received(10);
        position.received(1_000);
        assert!(position.is_replayed(872));
        assert!(!position.is_replayed(873));
        position.received(u64::from(u32::MAX) * 10);
        assert!(position.is_replayed(1_001));
    }

    #[test]
    fn a_new_key_may_go_on_counting_or_start_anew() {
        let mut position = Position::default();
        position.received(65_536 * 3 + 7);
        let new = Position::hinted(&position);
        assert_eq!(new.index_of(8), 8);
        assert_eq!(new.alternative(8), Some(65_536 * 3 + 8));
        assert_eq!(Position::default().alternative(8), None);
    }
}
