//! Follows known speech through what was heard of it: where it broke off or was lowered, for how
//! long, and how much was said twice.
//!
//! ```text
//! Lost ──found──▶ Following ──what comes differs, or nothing comes──▶ Lost
//!  one search over a few seconds of the known speech     one comparison a frame
//! ```

use offhook::audio::FRAME_SAMPLES;
use offhook::audio::level::{is_audible, rms};

/// Speech that comes back through G.711 is nearly the same; other speech is far from it.
const ALIKE: f64 = 0.9;
/// Compared to find the place again: 60 ms.
const WINDOW: usize = 3 * FRAME_SAMPLES;
/// Looked for so far back and ahead: 4 s and 2 s.
const BACK: usize = 32_000;
const AHEAD: usize = 16_000;
/// So much lower, in dB, is heard as a dip.
const LOWERED_DB: f64 = -6.0;
const FRAME_MS: i64 = 20;
/// A shorter break is no dip, in ms.
const SHORTEST_DIP_MS: i64 = 60;

/// Speech that broke off, or became low, and went on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dip {
    /// From the beginning of what was heard.
    pub(super) at_ms: i64,
    pub(super) lasted_ms: i64,
    /// Said again after it.
    pub(super) repeated_ms: i64,
}

/// Every dip in `heard`, which is `known` from its beginning on, both at 8 kHz.
pub(super) fn dips(heard: &[i16], known: &[i16]) -> Vec<Dip> {
    let mut dips = Vec::new();
    let mut place = Place::default();
    let mut lowered: Option<usize> = None;
    for (index, frame) in heard.chunks_exact(FRAME_SAMPLES).enumerate() {
        if !is_audible(frame) {
            continue;
        }
        let expected = place.expected(index);
        let found = match compare(frame, known, expected) {
            true => Some(expected),
            false => find(&heard[index * FRAME_SAMPLES..], known, place.heard_to),
        };
        let Some(found) = found else { continue };
        if let Some(last) = place.last {
            dips.extend(between(last, index, place.heard_to, found));
        }
        place.last = Some(index);
        place.heard_to = found + FRAME_SAMPLES;
        let change = 20.0 * (rms(frame) / rms(&known[found..found + FRAME_SAMPLES])).log10();
        match (change < LOWERED_DB, lowered) {
            (true, None) => lowered = Some(index),
            (false, Some(since)) => {
                let lasted_ms = (index - since) as i64 * FRAME_MS;
                lowered = None;
                if lasted_ms >= SHORTEST_DIP_MS {
                    dips.push(Dip {
                        at_ms: since as i64 * FRAME_MS,
                        lasted_ms,
                        repeated_ms: 0,
                    });
                }
            }
            _ => {}
        }
    }
    dips
}

/// How far the known speech was heard.
#[derive(Default)]
struct Place {
    /// The last frame that was found in it.
    last: Option<usize>,
    /// Where that ended.
    heard_to: usize,
}

impl Place {
    /// Where a frame is if nothing happened since.
    fn expected(&self, index: usize) -> usize {
        let since = self.last.map_or(0, |last| index - last - 1);
        self.heard_to + since * FRAME_SAMPLES
    }
}

/// What happened between two frames that were found, apart from the pauses of the speech itself.
fn between(last: usize, index: usize, heard_to: usize, found: usize) -> Option<Dip> {
    let passed = (index - last - 1) as i64 * FRAME_MS;
    let went_on = (found as i64 - heard_to as i64) / 8;
    let lasted_ms = passed - went_on.max(0);
    (lasted_ms >= SHORTEST_DIP_MS).then_some(Dip {
        at_ms: (last as i64 + 1) * FRAME_MS,
        lasted_ms,
        repeated_ms: (-went_on).max(0),
    })
}

fn compare(frame: &[i16], known: &[i16], at: usize) -> bool {
    let there = known.get(at..at + frame.len());
    there.is_some_and(|there| likeness(frame, there) > ALIKE)
}

/// Where in the known speech this is, round what was heard last.
fn find(heard: &[i16], known: &[i16], round: usize) -> Option<usize> {
    let window = heard.get(..WINDOW)?;
    if !window.chunks(FRAME_SAMPLES).all(is_audible) {
        return None;
    }
    let from = round.saturating_sub(BACK);
    let until = (round + AHEAD + WINDOW).min(known.len());
    let candidates = known.get(from..until)?.windows(WINDOW).enumerate();
    let likely = candidates.map(|(offset, there)| (likeness(window, there), from + offset));
    let (best, at) = likely.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best > ALIKE).then_some(at)
}

/// Normalised correlation of two stretches of equal length, whatever their levels.
fn likeness(a: &[i16], b: &[i16]) -> f64 {
    let (mut product, mut of_a, mut of_b) = (0_i64, 0_i64, 0_i64);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (i64::from(*a), i64::from(*b));
        product += a * b;
        of_a += a * a;
        of_b += b * b;
    }
    match of_a > 0 && of_b > 0 {
        true => product as f64 / (of_a as f64 * of_b as f64).sqrt(),
        false => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    /// Noise with a pause of its own at 2 s.
    fn speech() -> Vec<i16> {
        let mut random = StdRng::seed_from_u64(3);
        let mut speech: Vec<i16> = (0..40_000)
            .map(|_| random.random_range(-6000..6000))
            .collect();
        speech[16_000..18_400].fill(0);
        speech
    }

    fn silence(ms: usize) -> Vec<i16> {
        vec![0; ms * 8]
    }

    #[test]
    fn speech_that_goes_on_has_no_dip_in_its_own_pauses() {
        assert_eq!(dips(&speech(), &speech()), []);
    }

    #[test]
    fn a_break_is_found_with_what_is_said_again() {
        let known = speech();
        let heard = [&known[..8000], &silence(500), &known[7200..]].concat();
        let expected = Dip {
            at_ms: 1000,
            lasted_ms: 500,
            repeated_ms: 100,
        };
        assert_eq!(dips(&heard, &known), [expected]);
    }

    #[test]
    fn a_break_in_its_own_pause_is_that_much_longer() {
        let known = speech();
        let heard = [&known[..17_000], &silence(400), &known[17_000..]].concat();
        assert_eq!(
            dips(&heard, &known),
            [Dip {
                at_ms: 2000,
                lasted_ms: 400,
                repeated_ms: 0
            }]
        );
    }

    #[test]
    fn lowered_speech_is_a_dip() {
        let mut heard = speech();
        for sample in &mut heard[8000..12_000] {
            *sample /= 5;
        }
        assert_eq!(
            dips(&heard, &speech()),
            [Dip {
                at_ms: 1000,
                lasted_ms: 500,
                repeated_ms: 0
            }]
        );
    }
}
