//! Sample rate conversion, in pieces of any size, without clicks between them.
//!
//! ```text
//!   process(piece) --> [ pending input < 1 block ] --> FFT block --> [ drop the filter's delay ] --> output
//!   flush()        --> zeros until everything put in has come out --> back to the first state
//! ```

use rubato::audioadapter_buffers::direct::SequentialSlice;
use rubato::{Fft, FixedSync, Resampler as _, WindowFunction};

use super::SampleRate;

/// Converts one stream of samples from one rate to another.
///
/// State is kept from one [`process`](Self::process) to the next, so the clauses of a sentence
/// join without a click. The input is taken in blocks of at least 20 ms (the smallest that both
/// rates divide); the filter's own delay of half a block is taken off the front. So output sample
/// `i` always belongs at time `i / to` (to a quarter of a sample, where a block is odd), at any moment at most one and a half blocks (30 ms for
/// the usual rates) of input have not come out yet, and after [`flush`](Self::flush) `n` input
/// samples have given exactly `ceil(n * to / from)`.
pub struct Resampler {
    from: SampleRate,
    to: SampleRate,
    /// `None` where the rates are the same.
    filter: Option<Filter>,
    consumed: u64,
    produced: u64,
}

struct Filter {
    fft: Fft<f32>,
    /// Input not yet a whole block.
    pending: Vec<f32>,
    /// One block of output.
    block: Vec<f32>,
    /// Output samples still to be dropped: the filter's delay.
    leading: usize,
}

impl Resampler {
    /// A converter from one rate to another, with silence before the first sample.
    pub fn new(from: SampleRate, to: SampleRate) -> Self {
        Self {
            from,
            to,
            filter: (from != to).then(|| Filter::new(from, to)),
            consumed: 0,
            produced: 0,
        }
    }

    /// Puts `samples` in and returns what is ready.
    pub fn process(&mut self, samples: &[i16]) -> Vec<i16> {
        let Some(filter) = &mut self.filter else {
            return samples.to_vec();
        };
        self.consumed += samples.len() as u64;
        let mut output = Vec::new();
        filter.run(samples.iter().map(|s| f32::from(*s)), &mut output);
        self.produced += output.len() as u64;
        output
    }

    /// Returns what is still inside and forgets everything, ready for another stream.
    pub fn flush(&mut self) -> Vec<i16> {
        let Some(filter) = &mut self.filter else {
            return Vec::new();
        };
        let (from, to) = (u64::from(self.from.hz()), u64::from(self.to.hz()));
        let missing = (self.consumed * to).div_ceil(from) - self.produced;
        let missing = usize::try_from(missing).unwrap_or(usize::MAX);
        let mut output = Vec::with_capacity(missing);
        while output.len() < missing {
            let block = filter.fft.input_frames_next();
            filter.run(std::iter::repeat_n(0.0, block), &mut output);
        }
        output.truncate(missing);
        filter.reset();
        (self.consumed, self.produced) = (0, 0);
        output
    }
}

impl Filter {
    #[expect(
        clippy::expect_used,
        reason = "fails only for a rate or a block of zero, which `SampleRate` and `max(1)` rule out"
    )]
    fn new(from: SampleRate, to: SampleRate) -> Self {
        let (from, to) = (from.hz() as usize, to.hz() as usize);
        let fft = Fft::new_custom(
            from,
            to,
            (from / 50).max(1),
            1,
            1,
            WindowFunction::BlackmanHarris2,
            FixedSync::Both,
        )
        .expect("rates and block are not zero");
        Self {
            pending: Vec::with_capacity(fft.input_frames_next()),
            block: vec![0.0; fft.output_frames_next()],
            leading: fft.output_delay(),
            fft,
        }
    }

    /// Runs `input` through, appending what comes out behind the filter's delay.
    fn run(&mut self, input: impl Iterator<Item = f32>, output: &mut Vec<i16>) {
        for sample in input {
            self.pending.push(sample);
            if self.pending.len() == self.fft.input_frames_next() {
                self.run_block();
                let dropped = self.leading.min(self.block.len());
                self.leading -= dropped;
                // `as` saturates, so overshoot at full scale clips.
                output.extend(self.block[dropped..].iter().map(|s| s.round() as i16));
                self.pending.clear();
            }
        }
    }

    #[expect(
        clippy::expect_used,
        reason = "fails only for buffers of another size than the filter asked for, and both have exactly that"
    )]
    fn run_block(&mut self) {
        let frames = self.block.len();
        let input = SequentialSlice::new(&self.pending, 1, self.pending.len())
            .expect("one channel of the slice's own length");
        let mut output = SequentialSlice::new_mut(&mut self.block, 1, frames)
            .expect("one channel of the slice's own length");
        self.fft
            .process_into_buffer(&input, &mut output, None)
            .expect("both buffers have the filter's block size");
    }

    fn reset(&mut self) {
        self.fft.reset();
        self.pending.clear();
        self.leading = self.fft.output_delay();
    }
}

/// A whole clip at another rate: exactly `ceil(n * to / from)` samples, in place (no delay).
pub fn whole(samples: &[i16], from: SampleRate, to: SampleRate) -> Vec<i16> {
    let mut resampler = Resampler::new(from, to);
    let mut output = resampler.process(samples);
    output.append(&mut resampler.flush());
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: [u32; 9] = [
        8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000,
    ];

    fn rate(hz: u32) -> SampleRate {
        SampleRate::new(hz).unwrap()
    }

    fn sine(hz: f64, at: SampleRate, samples: usize) -> Vec<i16> {
        let step = std::f64::consts::TAU * hz / f64::from(at.hz());
        (0..samples)
            .map(|n| (12_000.0 * (n as f64 * step).sin()).round() as i16)
            .collect()
    }

    /// Amplitude of the component at `hz`, away from the edges, with a window so that other
    /// components do not leak in.
    fn amplitude(samples: &[i16], hz: f64, at: SampleRate) -> f64 {
        let middle = &samples[samples.len() / 8..samples.len() * 7 / 8];
        let (mut re, mut im, mut weight) = (0.0, 0.0, 0.0);
        for (n, sample) in middle.iter().enumerate() {
            let t = n as f64 / middle.len() as f64 * std::f64::consts::TAU;
            let window =
                0.35875 - 0.48829 * t.cos() + 0.14128 * (2.0 * t).cos() - 0.01168 * (3.0 * t).cos();
            let phase = std::f64::consts::TAU * hz * n as f64 / f64::from(at.hz());
            re += f64::from(*sample) * window * phase.cos();
            im += f64::from(*sample) * window * phase.sin();
            weight += window;
        }
        2.0 * (re * re + im * im).sqrt() / weight
    }

    fn decibels(ratio: f64) -> f64 {
        20.0 * ratio.max(1e-9).log10()
    }

    #[test]
    fn a_whole_clip_has_exactly_the_length_of_its_duration() {
        for (from, to) in RATES.iter().flat_map(|a| RATES.map(|b| (*a, b))) {
            for length in [0usize, 1, 79, 160, 441, 1_000, 12_345] {
                let out = whole(&vec![100; length], rate(from), rate(to));
                let expected = (length * to as usize).div_ceil(from as usize);
                assert_eq!(out.len(), expected, "{length} samples, {from} to {to}");
            }
        }
    }

    #[test]
    fn pieces_of_any_size_give_what_the_whole_gives() {
        let (from, to) = (rate(22_050), SampleRate::TELEPHONE);
        let clip = sine(700.0, from, 30_000);
        let expected = whole(&clip, from, to);
        let mut resampler = Resampler::new(from, to);
        for size in [1, 37, 441, 5_000] {
            let mut pieces = Vec::new();
            for piece in clip.chunks(size) {
                pieces.extend(resampler.process(piece));
            }
            pieces.extend(resampler.flush());
            assert_eq!(pieces, expected, "pieces of {size}");
        }
    }

    #[test]
    fn the_delay_is_compensated_to_less_than_a_quarter_of_a_sample() {
        for (from, to) in [
            (22_050, 8_000),
            (24_000, 8_000),
            (8_000, 16_000),
            (48_000, 8_000),
        ] {
            let (from, to) = (rate(from), rate(to));
            let hz = 500.0;
            let out = whole(&sine(hz, from, from.hz() as usize), from, to);
            let expected = sine(hz, to, to.hz() as usize);
            let middle = to.hz() as usize / 4..to.hz() as usize * 3 / 4;
            let worst = middle
                .map(|n| (i32::from(out[n]) - i32::from(expected[n])).abs())
                .max()
                .unwrap();
            // The steepest slope of this sine, times a quarter of a sample.
            let quarter = 12_000.0 * std::f64::consts::TAU * hz / f64::from(to.hz()) / 4.0;
            assert!(f64::from(worst) < quarter, "{from} to {to}: off by {worst}");
        }
    }

    #[test]
    fn telephone_speech_band_passes_within_half_a_decibel() {
        for from in [16_000, 22_050, 24_000, 44_100, 48_000].map(rate) {
            for hz in [100.0, 300.0, 1_000.0, 2_000.0, 3_000.0, 3_400.0] {
                let out = whole(
                    &sine(hz, from, from.hz() as usize),
                    from,
                    SampleRate::TELEPHONE,
                );
                let gain = decibels(amplitude(&out, hz, SampleRate::TELEPHONE) / 12_000.0);
                assert!(gain.abs() < 0.5, "{hz} Hz from {from}: {gain:.2} dB");
            }
        }
    }

    #[test]
    fn what_does_not_fit_the_lower_rate_is_rejected_by_more_than_sixty_decibels() {
        let to = SampleRate::TELEPHONE;
        for from in [16_000, 22_050, 24_000, 48_000].map(rate) {
            for hz in [4_300.0, 5_000.0, 6_100.0, 7_500.0] {
                let out = whole(&sine(hz, from, from.hz() as usize), from, to);
                let folded = 8_000.0 - hz;
                let rejection = -decibels(amplitude(&out, folded, to) / 12_000.0);
                assert!(rejection > 60.0, "{hz} Hz from {from}: {rejection:.1} dB");
            }
        }
    }

    #[test]
    fn images_above_the_lower_rate_are_rejected_by_more_than_sixty_decibels() {
        let from = SampleRate::TELEPHONE;
        for to in [16_000, 24_000, 48_000].map(rate) {
            for hz in [300.0, 1_000.0, 3_000.0, 3_400.0] {
                let out = whole(&sine(hz, from, 8_000), from, to);
                let rejection = -decibels(amplitude(&out, 8_000.0 - hz, to) / 12_000.0);
                assert!(rejection > 60.0, "{hz} Hz to {to}: {rejection:.1} dB");
            }
        }
    }

    #[test]
    fn full_scale_clips_instead_of_wrapping() {
        let square: Vec<i16> = (0..8_000)
            .map(|n| if n / 20 % 2 == 0 { i16::MAX } else { i16::MIN })
            .collect();
        let out = whole(&square, SampleRate::TELEPHONE, SampleRate::WIDEBAND);
        for (n, pair) in out.windows(2).enumerate() {
            let step = (i32::from(pair[0]) - i32::from(pair[1])).abs();
            assert!(step < 50_000, "wrapped at {n}: {pair:?}");
        }
    }
}
