//! Recordings cut up and put together in other ways: single digits out of strings of them, sentences
//! with a pause where there was none.

use std::ops::Range;

use offhook::audio::gain;
use offhook::audio::level::{is_audible, rms};

/// A step of the search: 10 ms at 8 kHz.
const STEP: usize = 80;
/// Pauses, in steps, by which a string may come apart into its digits; the first that fits is taken.
const PAUSES: Range<usize> = 4..14;
/// Left before and after a piece, and faded: 20 ms.
const MARGIN: usize = 160;
/// Steps that are quiet at a cut.
const CUT: usize = 4;
/// Steps of the shortest pause at a comma.
const SPOKEN_PAUSE: usize = 5;
/// How far from where it is expected a comma may be, as a share of the whole.
const NEAR: f64 = 0.2;
/// No half of a sentence is shorter than this, in samples.
const SHORTEST_HALF: usize = 4000;

/// Samples of a pause at 8 kHz.
pub(crate) fn pause(ms: u64) -> Vec<i16> {
    vec![0; usize::try_from(ms * 8).unwrap_or(0)]
}

/// The stretches that can be heard, apart by at least `steps` of 10 ms.
fn stretches(samples: &[i16], steps: usize) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    for (step, piece) in samples.chunks(STEP).enumerate() {
        if !is_audible(piece) {
            continue;
        }
        match found.last_mut() {
            Some(last) if step - last.end < steps => last.end = step + 1,
            _ => found.push(step..step + 1),
        }
    }
    found
        .into_iter()
        .map(|steps| steps.start * STEP..(steps.end * STEP).min(samples.len()))
        .collect()
}

/// The longest stretch inside in which nothing can be heard, in ms.
pub(crate) fn longest_pause(samples: &[i16]) -> u64 {
    let stretches = stretches(samples, 2);
    let pauses = stretches.windows(2).map(|pair| pair[1].start - pair[0].end);
    pauses.max().map_or(0, |longest| longest as u64 / 8)
}

/// The single digits of a recorded string, where it comes apart into as many pieces as it has.
pub(crate) fn digits(samples: &[i16], count: usize) -> Option<Vec<Vec<i16>>> {
    let pieces = PAUSES
        .map(|steps| stretches(samples, steps))
        .find(|pieces| pieces.len() == count)?;
    Some(
        pieces
            .into_iter()
            .map(|piece| cut(samples, piece))
            .collect(),
    )
}

/// A piece with its surroundings, faded in and out.
fn cut(samples: &[i16], piece: Range<usize>) -> Vec<i16> {
    let from = piece.start.saturating_sub(MARGIN);
    let until = (piece.end + MARGIN).min(samples.len());
    let mut cut = samples[from..until].to_vec();
    let margin = MARGIN.min(cut.len() / 2);
    gain::ramp(&mut cut[..margin], 0.0, 1.0);
    let last = cut.len() - margin;
    gain::ramp(&mut cut[last..], 1.0, 0.0);
    cut
}

/// A sentence in two halves, cut where it is quietest in the middle third or so; `None` where it is
/// too short.
pub(crate) fn halves(samples: &[i16]) -> Option<(Vec<i16>, Vec<i16>)> {
    let all = stretches(samples, usize::MAX);
    let whole = all.first()?.start..all.last()?.end;
    let (from, until) = (
        whole.start + (whole.len() * 3 / 10).max(SHORTEST_HALF),
        whole.end - (whole.len() * 3 / 10).max(SHORTEST_HALF).min(whole.len()),
    );
    let quietest = (from..until.saturating_sub(CUT * STEP))
        .step_by(STEP)
        .min_by(|a, b| {
            let level = |at: usize| rms(&samples[at..at + CUT * STEP]);
            level(*a).total_cmp(&level(*b))
        })?;
    let at = quietest + CUT * STEP / 2;
    Some((cut(samples, whole.start..at), cut(samples, at..whole.end)))
}

/// What is said in two halves, cut in the longest pause near to where the first one should end, as a
/// share of the whole: a comma is longer than the silence within a consonant. `None` where there is
/// no pause.
pub(crate) fn at_pause(samples: &[i16], share: f64) -> Option<(Vec<i16>, Vec<i16>)> {
    let all = stretches(samples, SPOKEN_PAUSE);
    let (start, end) = (all.first()?.start, all.last()?.end);
    let length = (end - start) as f64;
    let expected = start as f64 + share * length;
    let pauses = all.windows(2).map(|pair| pair[0].end..pair[1].start);
    let near = |pause: &Range<usize>| {
        ((pause.start + pause.end) as f64 / 2.0 - expected).abs() <= NEAR * length
    };
    let pause = pauses.filter(near).max_by_key(Range::len)?;
    Some((
        cut(samples, start..pause.start),
        cut(samples, pause.end..end),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(samples: usize) -> Vec<i16> {
        (0..samples)
            .map(|n| (8_000.0 * (n as f64 * 0.5).sin()) as i16)
            .collect()
    }

    #[test]
    fn a_string_comes_apart_at_its_pauses_and_not_within_a_digit() {
        let six = [tone(800), pause(60), tone(800)].concat();
        let string = [
            pause(200),
            tone(2000),
            pause(150),
            six.clone(),
            pause(100),
            tone(1600),
        ]
        .concat();
        let digits = digits(&string, 3).expect("three");
        assert_eq!(digits[1].len(), six.len() + 2 * MARGIN);
        assert!(super::digits(&string, 7).is_none());
        assert_eq!(longest_pause(&string), 150);
    }

    #[test]
    fn a_sentence_comes_apart_at_its_comma_and_not_within_a_consonant() {
        let sentence = [
            tone(4000),
            pause(200),
            tone(6000),
            pause(60),
            tone(2000),
            pause(90),
            tone(4000),
        ];
        let (first, second) = at_pause(&sentence.concat(), 0.65).expect("two");
        assert!(first.len().abs_diff(14_080 + MARGIN) <= 2 * STEP);
        assert!(second.len().abs_diff(4000 + MARGIN) <= 2 * STEP);
        assert!(at_pause(&tone(8000), 0.5).is_none());
    }

    #[test]
    fn a_sentence_is_cut_where_it_is_quietest_in_its_middle() {
        let sentence = [tone(8000), pause(50), tone(8000)].concat();
        let (first, second) = halves(&sentence).expect("long enough");
        assert!(
            first.len().abs_diff(8200 + MARGIN) <= 2 * STEP,
            "{}",
            first.len()
        );
        assert!(second.len().abs_diff(8200 + MARGIN) <= 2 * STEP);
        assert!(halves(&tone(6000)).is_none());
    }
}
