//! Whether somebody speaks, by level alone: what a mailbox goes by where no engine may be needed.

use crate::audio::level::rms_dbfs;

/// Below this nothing is speech.
const QUIETEST: f32 = -52.0;
/// Speech is this much above the noise of the line.
const ABOVE_NOISE: f32 = 9.0;
/// Noise louder than this is speech.
const LOUDEST_NOISE: f32 = -36.0;
/// The noise is the quietest frame of the last blocks, of this many frames each (1 s).
const BLOCK: u32 = 50;
const BLOCKS: usize = 4;

/// Follows the noise of a line, frame by frame of 20 ms.
#[derive(Clone, Debug)]
pub(super) struct SoundGate {
    /// Quietest level of each of the last blocks; the first is being filled.
    quietest: [f32; BLOCKS],
    frames: u32,
}

impl SoundGate {
    pub(super) fn new() -> Self {
        Self {
            quietest: [f32::INFINITY; BLOCKS],
            frames: 0,
        }
    }

    /// Whether a frame holds speech, or something as loud.
    pub(super) fn hears(&mut self, samples: &[i16]) -> bool {
        let level = rms_dbfs(samples);
        let noise = self
            .quietest
            .iter()
            .copied()
            .fold(f32::INFINITY, f32::min)
            .min(LOUDEST_NOISE);
        self.quietest[0] = self.quietest[0].min(level);
        self.frames += 1;
        if self.frames == BLOCK {
            self.frames = 0;
            self.quietest.rotate_right(1);
            self.quietest[0] = f32::INFINITY;
        }
        level >= QUIETEST.max(noise + ABOVE_NOISE)
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn noise(rng: &mut StdRng, amplitude: i16) -> Vec<i16> {
        (0..160)
            .map(|_| rng.random_range(-amplitude..=amplitude))
            .collect()
    }

    #[test]
    fn speech_stands_out_of_the_noise_of_its_line_and_noise_alone_is_silence() {
        let mut rng = StdRng::seed_from_u64(1);
        for amplitude in [1, 100, 600] {
            let mut gate = SoundGate::new();
            let heard = (0..200).filter(|_| gate.hears(&noise(&mut rng, amplitude)));
            let heard = heard.count();
            assert!(heard < 5, "{heard} frames of noise of {amplitude}");
            assert!(gate.hears(&noise(&mut rng, amplitude * 5 + 400)));
        }
    }

    #[test]
    fn a_line_that_gets_noisier_is_silent_again_after_a_while() {
        let mut rng = StdRng::seed_from_u64(2);
        let mut gate = SoundGate::new();
        for _ in 0..200 {
            gate.hears(&noise(&mut rng, 10));
        }
        let heard: Vec<bool> = (0..600)
            .map(|_| gate.hears(&noise(&mut rng, 500)))
            .collect();
        assert!(heard[..100].iter().all(|heard| *heard));
        assert!(!heard[300..].iter().any(|heard| *heard));
    }
}
