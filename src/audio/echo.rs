//! Whether what is heard is what was spoken, come back: a telephone on loudspeaker, or a line with an
//! echo.
//!
//! The last 128 ms heard are laid over everything spoken in the 600 ms before, and compared by
//! normalised cross-correlation, high frequencies raised so that pitch alone makes no likeness.
//! Voices that are none of the other's echo come to 0.4 at most (1 of 100), an echo out of a small
//! room to 0.65 at least (19 of 20), one of a line to more than 0.9. Somebody who speaks over an
//! echo is louder than it, and no longer like it.

use super::{FRAME_SAMPLES, Frame};

/// What is compared, in samples at 8 kHz: 128 ms.
const PIECE: usize = 1024;
/// How late an echo may be, in samples: 600 ms.
const LATEST: usize = 4800;
/// How far what is judged may lie behind what was pushed last, in samples: 300 ms.
const BEHIND: usize = 2400;
/// From this likeness on it is an echo.
const LIKE: f32 = 0.55;
/// An echo stays where it was, within so many samples.
const DRIFT: usize = 8;
/// Share of each sample that is taken off the next one.
const EMPHASIS: f32 = 0.9;
/// Below this a piece is silence, in sample units.
const SILENT: f32 = 20.0;
/// Sums kept apart, so that they can be added up side by side.
const LANES: usize = 16;

/// Both sides of a call, as far back as an echo goes.
#[derive(Debug, Default)]
pub struct EchoWatch {
    heard: Vec<i16>,
    spoken: Vec<i16>,
    /// One past the last sample of both, on the call's clock.
    end: u64,
    /// One past the last tick in which anything was spoken.
    spoken_until: u64,
    /// How late the last echo was, in samples, where there was one.
    late: Option<usize>,
}

impl EchoWatch {
    /// One tick, whose first sample is the `position`-th of the call.
    pub fn push(&mut self, position: u64, heard: &Frame, spoken: &Frame) {
        if position != self.end {
            self.heard.clear();
            self.spoken.clear();
        }
        keep(&mut self.heard, heard, PIECE + BEHIND);
        keep(&mut self.spoken, spoken, PIECE + LATEST + BEHIND);
        self.end = position + FRAME_SAMPLES as u64;
        if spoken.samples().iter().any(|sample| *sample != 0) {
            self.spoken_until = self.end;
        }
    }

    /// Whether what was heard up to the sample `end` of the call is an echo. False where that is
    /// not known any more. Takes a third of a millisecond where somebody else speaks.
    pub fn is_echo(&mut self, end: u64) -> bool {
        if end.saturating_sub(self.spoken_until) > (PIECE + LATEST) as u64 {
            return false;
        }
        let back = usize::try_from(self.end.saturating_sub(end)).unwrap_or(usize::MAX);
        let (Some(heard), Some(spoken)) = (
            last(&self.heard, back, PIECE),
            last(&self.spoken, back, PIECE + LATEST),
        ) else {
            return false;
        };
        let (heard, spoken) = (emphasised(heard), emphasised(spoken));
        let (strength, strengths) = (product(&heard, &heard), strengths(&spoken));
        let least = SILENT * SILENT * PIECE as f32;
        if strength < least || strengths.iter().all(|then| *then < least) {
            return false;
        }
        let latest = spoken.len() - PIECE;
        let like = |late: usize| {
            let at = latest - late;
            let most = (strength * strengths[at].max(least)).sqrt();
            product(&heard, &spoken[at..at + PIECE]).abs() >= LIKE * most
        };
        let before = self.late.is_some_and(|late| {
            let near = late.saturating_sub(DRIFT)..=(late + DRIFT).min(latest);
            near.into_iter().any(&like)
        });
        // A first syllable is like some other one: all of the piece must tell.
        let first_half = &heard[..PIECE / 2];
        let spread = product(first_half, first_half) >= strength / 8.0;
        let late = || (0..=latest).find(|late| like(*late));
        if !before
            && spread
            && let Some(late) = late()
        {
            self.late = Some(late);
            return true;
        }
        before
    }
}

fn keep(samples: &mut Vec<i16>, frame: &Frame, most: usize) {
    samples.extend_from_slice(frame.samples());
    let old = samples.len().saturating_sub(most);
    samples.drain(..old);
}

/// So many samples, or as many as there are if they are enough to compare, up to `back` before the
/// end.
fn last(samples: &[i16], back: usize, count: usize) -> Option<&[i16]> {
    let end = samples.len().checked_sub(back)?;
    let start = end.saturating_sub(count);
    (end - start >= PIECE).then(|| &samples[start..end])
}

fn emphasised(samples: &[i16]) -> Vec<f32> {
    let mut before = 0.0;
    let emphasise = |sample: &i16| {
        let sample = f32::from(*sample);
        let raised = sample - EMPHASIS * before;
        before = sample;
        raised
    };
    samples.iter().map(emphasise).collect()
}

/// Of every piece, by where it begins.
fn strengths(samples: &[f32]) -> Vec<f32> {
    let mut sum = 0.0;
    let mut sums = vec![0.0];
    sums.extend(samples.iter().map(|sample| {
        sum += f64::from(sample * sample);
        sum
    }));
    let pieces = sums[PIECE..].iter().zip(&sums);
    pieces.map(|(until, from)| (until - from) as f32).collect()
}

fn product(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; LANES];
    for (a, b) in a.chunks_exact(LANES).zip(b.chunks_exact(LANES)) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Half a second of a voice of sorts: pulses at a pitch through two resonances.
    fn voice(pitch: usize, seed: u32) -> Vec<i16> {
        let mut noise = seed;
        let mut random = move || {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f64::from(noise >> 16) / 32_768.0 - 1.0
        };
        let (mut a, mut b) = (0.0, 0.0);
        let sample = |at: usize| {
            let pulse = if at.is_multiple_of(pitch) { 1.0 } else { 0.0 };
            let next = 1.5 * a - 0.85 * b + pulse + 0.3 * random();
            (a, b) = (next, a);
            (next * 1500.0) as i16
        };
        (0..4000).map(sample).collect()
    }

    fn frames(samples: &[i16]) -> Vec<Frame> {
        let frame = |piece: &[i16]| Frame::padded(piece);
        samples.chunks_exact(FRAME_SAMPLES).map(frame).collect()
    }

    /// What is heard is the sum of these, and the last of it is judged.
    fn judged(spoken: &[i16], parts: &[(&[i16], f64, usize)]) -> bool {
        let mut heard = vec![0.0; spoken.len()];
        for (part, gain, late) in parts {
            for (sample, part) in heard[*late..].iter_mut().zip(*part) {
                *sample += gain * f64::from(*part);
            }
        }
        let heard: Vec<i16> = heard.into_iter().map(|sample| sample as i16).collect();
        pushed(&mut EchoWatch::default(), 0, &heard, spoken)
    }

    /// More of both sides; the last of what is heard is judged.
    fn pushed(watch: &mut EchoWatch, mut position: u64, heard: &[i16], spoken: &[i16]) -> bool {
        for (heard, spoken) in frames(heard).iter().zip(&frames(spoken)) {
            watch.push(position, heard, spoken);
            position += FRAME_SAMPLES as u64;
        }
        watch.is_echo(position)
    }

    #[test]
    fn what_was_spoken_is_an_echo_however_soft_and_late() {
        let spoken = voice(70, 1);
        for (gain, late) in [(0.5, 0), (0.1, 800), (-0.05, 2400)] {
            assert!(judged(&spoken, &[(&spoken, gain, late)]), "{gain} {late}");
        }
    }

    #[test]
    fn an_echo_out_of_a_room_is_one() {
        let spoken = voice(70, 1);
        let room = [
            (&spoken[..], 0.1, 400),
            (&spoken, -0.04, 437),
            (&spoken, 0.03, 512),
            (&spoken, 0.02, 650),
        ];
        assert!(judged(&spoken, &room));
    }

    #[test]
    fn another_voice_is_none_even_at_the_same_pitch_or_over_an_echo() {
        let (spoken, other) = (voice(70, 1), voice(70, 2));
        assert!(!judged(&spoken, &[(&other, 0.5, 0)]));
        assert!(!judged(&spoken, &[(&voice(55, 3), 0.5, 0)]));
        assert!(!judged(&spoken, &[(&spoken, 0.1, 800), (&other, 0.6, 0)]));
    }

    #[test]
    fn a_first_syllable_is_none_before_there_was_an_echo() {
        let spoken = voice(70, 1);
        let mut watch = EchoWatch::default();
        let silence = vec![0; spoken.len() - 480];
        let heard = [&silence, &spoken[..480]].concat();
        assert!(!pushed(&mut watch, 0, &heard, &spoken));
        assert!(pushed(&mut watch, 4000, &spoken, &spoken));
        let spoken = [&silence, &spoken[..480]].concat();
        assert!(pushed(&mut watch, 8000, &spoken, &spoken));
    }

    #[test]
    fn silence_is_none_and_nor_is_what_is_not_known() {
        let spoken = voice(70, 1);
        assert!(!judged(&spoken, &[]));
        assert!(!judged(&vec![0; 4000], &[(&spoken, 0.5, 0)]));
        let mut watch = EchoWatch::default();
        assert!(!watch.is_echo(0));
        watch.push(0, &Frame::SILENCE, &Frame::SILENCE);
        assert!(!watch.is_echo(0));
        assert!(!watch.is_echo(u64::MAX));
    }
}
