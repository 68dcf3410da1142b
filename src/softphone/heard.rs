//! What the caller heard, and whether a stretch of it is a phrase known beforehand.

use std::time::{Duration, Instant};

use crate::audio::level::{AUDIBLE_DBFS, is_audible};
use crate::audio::{FRAME_SAMPLES, Sound};
use crate::net::media::Tick;

use super::report::Began;

/// As much of a phrase's beginning as is compared: 400 ms.
const COMPARED: usize = 3200;

/// How far the jitter buffer may have moved what arrived: 240 ms.
const SEARCHED: usize = 1920;

/// Phrases come back through G.711 and the level control nearly unchanged; two different
/// sentences of one voice stay far below.
const ALIKE: f64 = 0.85;

/// Speech that comes this long after a phrase's end belongs to it: its last sounds, late.
const AFTERGLOW: Duration = Duration::from_millis(60);

/// Everything heard, on the clock of the ticks.
pub(super) struct Heard {
    started: Option<Instant>,
    samples: Vec<i16>,
    /// At 16 kHz, as far as it came so.
    wide: Vec<i16>,
    audible: Vec<Instant>,
    phrases: Vec<Vec<i16>>,
}

impl Heard {
    /// `phrases` are the clips that are no replies, at 8 kHz.
    pub(super) fn new(phrases: Vec<Vec<i16>>) -> Self {
        Self {
            started: None,
            samples: Vec::new(),
            wide: Vec::new(),
            audible: Vec::new(),
            phrases,
        }
    }

    /// Everything at the rate of the codec that was spoken at last.
    pub(super) fn recording(self) -> Sound {
        match self.wide.is_empty() {
            true => self.samples.into(),
            false => Sound::wide(self.wide),
        }
    }

    pub(super) fn tick(&mut self, tick: &Tick) {
        self.started.get_or_insert(tick.at);
        let place = usize::try_from(tick.index).unwrap_or(0) * FRAME_SAMPLES;
        add(&mut self.samples, place, tick.heard.samples());
        if let Some(wide) = &tick.heard_wide {
            add(&mut self.wide, place * 2, wide.samples());
        }
    }

    pub(super) fn arrived(&mut self, at: Instant, level_dbfs: f32) {
        if level_dbfs > AUDIBLE_DBFS {
            self.audible.push(at);
        }
    }

    /// What the speech that began to arrive at `at` is.
    pub(super) fn what(&self, at: Instant) -> Began {
        let Some(length) = self
            .phrases
            .iter()
            .find_map(|phrase| self.length_if_heard(phrase, at))
        else {
            return Began::Reply;
        };
        let over = at + length + AFTERGLOW;
        Began::Holding {
            then: self
                .audible
                .iter()
                .copied()
                .find(|audible| *audible >= over),
        }
    }

    /// How long a phrase sounds, where it is what was heard from `at` on.
    fn length_if_heard(&self, phrase: &[i16], at: Instant) -> Option<Duration> {
        let first = phrase.chunks(80).position(is_audible)? * 80;
        let last = phrase.chunks(80).rposition(is_audible)? * 80 + 80;
        let sounding = &phrase[first..last.min(phrase.len())];
        let opening = &sounding[..sounding.len().min(COMPARED)];
        let since = at.saturating_duration_since(self.started?);
        let place = usize::try_from(since.as_millis())
            .unwrap_or(usize::MAX)
            .saturating_mul(8);
        let from = place.saturating_sub(SEARCHED / 2);
        let until = (place + SEARCHED + opening.len()).min(self.samples.len());
        let window = self.samples.get(from..until)?;
        let alike = window
            .windows(opening.len())
            .any(|heard| likeness(heard, opening) > ALIKE);
        let millis = u64::try_from(sounding.len() / 8).unwrap_or(0);
        alike.then_some(Duration::from_millis(millis))
    }
}

/// Normalised correlation of two stretches of equal length.
fn likeness(a: &[i16], b: &[i16]) -> f64 {
    let (mut product, mut of_a, mut of_b) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (f64::from(*a), f64::from(*b));
        product += a * b;
        of_a += a * a;
        of_b += b * b;
    }
    match of_a > 0.0 && of_b > 0.0 {
        true => product / (of_a * of_b).sqrt(),
        false => 0.0,
    }
}

/// Adds what was heard at a place; what is missing before it is silence, unless it is a mistake.
fn add(samples: &mut Vec<i16>, place: usize, frame: &[i16]) {
    if place > samples.len() && place - samples.len() < 16_000 * 60 {
        samples.resize(place, 0);
    }
    samples.extend_from_slice(frame);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::Frame;

    fn noise(seed: u32, samples: usize) -> Vec<i16> {
        let mut state = seed;
        let next = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            i16::try_from(i32::from((state >> 16) as u16) - 32_768).expect("in range") / 4
        };
        (0..samples).map(next).collect()
    }

    #[test]
    fn a_known_phrase_is_told_from_the_reply_that_follows_it() {
        let phrase = noise(1, 8000);
        let start = Instant::now();
        let mut heard = Heard::new(vec![phrase.clone()]);
        let mut line = vec![0; 8000];
        line.extend(phrase);
        line.extend(vec![0; 2400]);
        line.extend(noise(2, 8000));
        for (index, frame) in (0u64..).zip(line.chunks(FRAME_SAMPLES)) {
            let at = start + Duration::from_millis(20 * index);
            heard.tick(&Tick {
                index,
                at,
                heard: Frame::padded(frame),
                heard_wide: None,
                spoken: Frame::SILENCE,
                arrivals: Vec::new(),
                played: Vec::new(),
                digits: Vec::new(),
            });
            heard.arrived(at, if is_audible(frame) { -10.0 } else { -90.0 });
        }
        let began = start + Duration::from_millis(1000);
        let Began::Holding { then: Some(reply) } = heard.what(began) else {
            panic!("a holding phrase with a reply after it");
        };
        assert_eq!(reply.duration_since(start).as_millis(), 2300);
        assert_eq!(heard.what(reply), Began::Reply);
    }
}
