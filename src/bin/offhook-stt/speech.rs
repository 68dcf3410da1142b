//! Where in a stretch of telephone audio the speech is, and where a long one is cut.
//!
//! Only levels are looked at: whether somebody speaks at all is the voice detector's business.
//! This keeps the silence around the speech from costing time in the encoder, and from being
//! filled with invented words.

use std::ops::Range;

/// Samples in a second of telephone audio, in which lengths are given here; wideband audio has a
/// multiple, the `scale`.
pub(crate) const TELEPHONE_RATE: usize = 8_000;
/// 20 ms.
const FRAME: usize = TELEPHONE_RATE / 50;
/// A frame below this root mean square (about -60 dB) is silence on any line.
const SILENCE: f32 = 30.0;
/// How far below its loudest frame speech goes on: 36 dB.
const RANGE: f32 = 1.0 / 63.0;
/// Kept around the speech, for consonants too soft to measure.
const MARGIN: usize = TELEPHONE_RATE / 4;
/// Longest piece that Whisper takes at once, with room for its margins, in samples.
const LONGEST: usize = 28 * TELEPHONE_RATE;
/// A longer stretch is cut at a pause behind this.
const EARLIEST_CUT: usize = 16 * TELEPHONE_RATE;
/// A pause to cut in has this length: 0.3 s.
const PAUSE_FRAMES: usize = 15;

/// The part of `samples` that is not silence, with a margin; empty where all is silence.
pub(crate) fn audible(samples: &[i16], scale: usize) -> Range<usize> {
    let levels = levels(samples, scale);
    let loudest = levels.iter().copied().fold(0.0, f32::max);
    let floor = (loudest * RANGE).max(SILENCE);
    let first = levels.iter().position(|level| *level > floor);
    let last = levels.iter().rposition(|level| *level > floor);
    let (Some(first), Some(last)) = (first, last) else {
        return 0..0;
    };
    let start = (first * FRAME).saturating_sub(MARGIN) * scale;
    let end = (((last + 1) * FRAME + MARGIN) * scale).min(samples.len());
    start..end
}

/// Cuts what is too long for one pass at its quietest pauses.
pub(crate) fn pieces(samples: &[i16], scale: usize) -> Vec<&[i16]> {
    let mut pieces = Vec::new();
    let mut rest = samples;
    while rest.len() > LONGEST * scale {
        let levels = levels(&rest[EARLIEST_CUT * scale..LONGEST * scale], scale);
        let pauses = levels
            .windows(PAUSE_FRAMES)
            .map(|pause| pause.iter().sum::<f32>());
        // Of equally quiet ones the last, so that pieces are few.
        let quietest = pauses
            .enumerate()
            .min_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)));
        let at = quietest.map_or(0, |(at, _)| at) + PAUSE_FRAMES / 2;
        let (piece, behind) = rest.split_at((EARLIEST_CUT + at * FRAME) * scale);
        pieces.push(piece);
        rest = behind;
    }
    pieces.push(rest);
    pieces
}

/// Root mean square of each frame.
fn levels(samples: &[i16], scale: usize) -> Vec<f32> {
    let level = |frame: &[i16]| {
        let power: f32 = frame.iter().map(|sample| f32::from(*sample).powi(2)).sum();
        (power / frame.len() as f32).sqrt()
    };
    samples.chunks(FRAME * scale).map(level).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tone of so many ms.
    fn tone(ms: usize, amplitude: f32) -> Vec<i16> {
        let sample = |n: usize| (amplitude * (n as f32 * 0.5).sin()) as i16;
        (0..ms * 8).map(sample).collect()
    }

    #[test]
    fn silence_and_line_noise_are_not_audible() {
        assert_eq!(audible(&[], 1), 0..0);
        assert_eq!(audible(&tone(2000, 0.0), 1), 0..0);
        assert_eq!(audible(&tone(2000, 20.0), 1), 0..0);
    }

    #[test]
    fn speech_keeps_a_margin_of_the_silence_around_it() {
        let samples = [tone(1000, 0.0), tone(500, 5000.0), tone(1000, 10.0)].concat();
        assert_eq!(audible(&samples, 1), 750 * 8..1750 * 8);
        let bare = tone(300, 5000.0);
        assert_eq!(audible(&bare, 1), 0..bare.len());
    }

    #[test]
    fn a_soft_ending_is_kept() {
        let samples = [tone(500, 8000.0), tone(200, 300.0), tone(1000, 0.0)].concat();
        assert_eq!(audible(&samples, 1).end, (700 + 250) * 8);
    }

    #[test]
    fn what_fits_stays_in_one_piece() {
        let samples = tone(28_000, 5000.0);
        assert_eq!(pieces(&samples, 1), [samples.as_slice()]);
        assert_eq!(pieces(&[], 1), [&[] as &[i16]]);
    }

    #[test]
    fn a_long_stretch_is_cut_in_its_pauses_and_loses_nothing() {
        let sentence = [tone(9_000, 5000.0), tone(1_000, 0.0)].concat();
        let samples = sentence.repeat(7);
        let cut = pieces(&samples, 1);
        assert_eq!(cut.concat(), samples);
        assert!(cut.len() >= 3 && cut.iter().all(|piece| piece.len() <= LONGEST));
        for piece in &cut[..cut.len() - 1] {
            let end = &piece[piece.len() - FRAME..];
            assert!(end.iter().all(|sample| *sample == 0), "not in a pause");
        }
    }

    #[test]
    fn without_a_pause_it_is_cut_all_the_same() {
        let samples = tone(95_000, 5000.0);
        let cut = pieces(&samples, 1);
        assert_eq!(cut.concat().len(), samples.len());
        assert!(cut.iter().all(|piece| piece.len() <= LONGEST));
    }

    #[test]
    fn wideband_audio_is_cut_and_trimmed_at_the_same_times() {
        let doubled =
            |samples: &[i16]| -> Vec<i16> { samples.iter().flat_map(|s| [*s, *s]).collect() };
        let narrow = [tone(1000, 0.0), tone(500, 5000.0), tone(1000, 10.0)].concat();
        let (part, wide) = (audible(&narrow, 1), audible(&doubled(&narrow), 2));
        assert_eq!((wide.start, wide.end), (part.start * 2, part.end * 2));
        let long = [tone(9_000, 5000.0), tone(1_000, 0.0)].concat().repeat(7);
        let lengths = |cut: Vec<&[i16]>| cut.iter().map(|piece| piece.len()).collect::<Vec<_>>();
        let twice: Vec<usize> = lengths(pieces(&long, 1)).iter().map(|n| n * 2).collect();
        assert_eq!(lengths(pieces(&doubled(&long), 2)), twice);
    }
}
