//! Packet loss concealment by pitch waveform replication (ITU-T G.711 Appendix I).
//!
//! ```text
//!             lost(): find the pitch, repeat the last period
//!   Receiving -----------------------------------------------> Losing
//!       ^                                                        | lost(): 10 ms on repeat two
//!       |  received(): overlap-add the repetition                | periods, 20 ms on three; fade
//!       |  into what arrives, longer after a longer loss         | to nothing at 60 ms
//!       +--------------------------------------------------------+
//! ```
//!
//! What comes out is [`DELAY_SAMPLES`] (3.75 ms) behind what went in, so that the end of what
//! was received can still be blended into the first repetition when a loss begins.

use super::TELEPHONE_HZ;
use super::pitch::{self, LONGEST, SHORTEST};
use crate::audio::SampleRate;

/// How far the output is behind the input, in samples at 8 kHz: a quarter of the longest pitch
/// period.
pub const DELAY_SAMPLES: usize = LONGEST / 4;

// Lengths are in samples at 8 kHz; at 16 kHz they are twice as many.

/// Three of the longest periods and the overlap before them.
const HISTORY: usize = 3 * LONGEST + DELAY_SAMPLES;
/// The piece of sound whose repetition is looked for: 20 ms.
const WINDOW: usize = 160;
/// 10 ms: after each, one more period is repeated, up to [`MOST_PERIODS`].
const BLOCK: usize = 80;
const MOST_PERIODS: usize = 3;
/// Lost per sample: all of it in 60 ms. Appendix I keeps the first 10 ms as they are and then loses a
/// fifth in each 10 ms; this sounds better (PESQ), the more so where losses are alone.
const SLOW_FADE: f32 = 1.0 / (6 * BLOCK + 1) as f32;
/// Lost per sample where the sender is known to have stopped.
const QUICK_FADE: f32 = 1.0 / BLOCK as f32;
/// More overlap at the end for each further block of loss: 4 ms.
const OVERLAP_STEP: usize = 32;
/// Where sound begins after silence, there is nothing to blend with: 2.5 ms against clicks.
const ONSET: usize = 20;

/// How a gap is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fade {
    /// Packets were lost: go on about as Appendix I does, silent after 60 ms.
    Slow,
    /// The sender stopped: be silent within 10 ms.
    Quick,
}

/// Conceals the gaps of one stream of samples at 8 or 16 kHz.
#[derive(Clone, Debug)]
pub struct Concealer {
    /// Samples of the stream for one at 8 kHz.
    scale: usize,
    /// The newest samples; of them the last [`DELAY_SAMPLES`] have not come out yet.
    history: Vec<f32>,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Receiving,
    Losing(Box<Repetition>),
}

/// A loss in progress.
#[derive(Clone, Debug)]
struct Repetition {
    scale: usize,
    /// What was heard before the loss, its end blended so that it can be repeated.
    source: Vec<f32>,
    /// The last quarter period as it was heard.
    last_quarter: Vec<f32>,
    pitch: usize,
    /// Repeated periods: 1 to 3.
    periods: usize,
    /// Position in the repeated part.
    offset: usize,
    /// The old repetition's continuation while changing over to more periods.
    leaving: Vec<f32>,
    left: usize,
    /// Samples made up so far.
    made: usize,
    gain: f32,
}

impl Concealer {
    /// With silence before the first sample.
    pub fn new(rate: SampleRate) -> Self {
        let scale = (rate.hz() / TELEPHONE_HZ) as usize;
        Self {
            scale,
            history: vec![0.0; HISTORY * scale],
            state: State::Receiving,
        }
    }

    /// Takes received samples and puts in their place what is to be heard.
    pub fn received(&mut self, samples: &mut [i16]) {
        let blend = match std::mem::replace(&mut self.state, State::Receiving) {
            State::Receiving => Blend(Vec::new()),
            State::Losing(repetition) => repetition.into_blend(samples.len()),
        };
        self.push(samples, |n, sample| blend.apply(n, sample));
    }

    /// Fills `samples`, for which nothing was received.
    pub fn lost(&mut self, samples: &mut [i16], fade: Fade) {
        let mut repetition = match std::mem::replace(&mut self.state, State::Receiving) {
            State::Receiving => Box::new(Repetition::start(&mut self.history, self.scale)),
            State::Losing(repetition) => repetition,
        };
        self.push(samples, |_, _| repetition.next(fade));
        self.state = State::Losing(repetition);
    }

    /// Whether a gap has lasted so long that nothing is heard any more.
    pub fn is_silent(&self) -> bool {
        match &self.state {
            State::Receiving => false,
            State::Losing(repetition) => repetition.gain <= 0.0,
        }
    }

    /// Puts `heard(n, samples[n])` into the history and what is now due into `samples`.
    fn push(&mut self, samples: &mut [i16], mut heard: impl FnMut(usize, f32) -> f32) {
        let mut done = 0;
        let length = self.history.len();
        let out_until = length - DELAY_SAMPLES * self.scale;
        for part in samples.chunks_mut(WINDOW) {
            let new = part.len();
            self.history.copy_within(new.., 0);
            for (n, sample) in part.iter().enumerate() {
                self.history[length - new + n] = heard(done + n, f32::from(*sample));
            }
            let due = &self.history[out_until - new..out_until];
            for (sample, due) in part.iter_mut().zip(due) {
                *sample = due.round() as i16; // `as` saturates
            }
            done += new;
        }
    }
}

impl Repetition {
    /// Finds the pitch and blends the end of `history`, not all of which is out yet, into the
    /// first repetition.
    fn start(history: &mut [f32], scale: usize) -> Self {
        let (length, window) = (history.len(), WINDOW * scale);
        let lags = SHORTEST * scale..=LONGEST * scale;
        let pitch = pitch::best_lag(history, length - window, window, lags, scale);
        let last_quarter = history[length - pitch / 4..].to_vec();
        let mut repetition = Self {
            scale,
            source: history.to_vec(),
            leaving: vec![0.0; last_quarter.len()],
            last_quarter,
            pitch,
            periods: 1,
            offset: 0,
            left: 0,
            made: 0,
            gain: 1.0,
        };
        repetition.join_ends();
        let changed = length - repetition.quarter();
        history[changed..].copy_from_slice(&repetition.source[changed..]);
        repetition
    }

    fn quarter(&self) -> usize {
        self.last_quarter.len()
    }

    fn repeated(&self) -> usize {
        self.periods * self.pitch
    }

    /// Makes the end of the repeated part lead over into its start: the last quarter period goes
    /// over into the one before the start.
    fn join_ends(&mut self) {
        let (quarter, length) = (self.quarter(), self.source.len());
        let before = length - self.repeated() - quarter;
        for n in 0..quarter {
            let weight = (n + 1) as f32 / quarter as f32;
            self.source[length - quarter + n] =
                self.last_quarter[n] * (1.0 - weight) + self.source[before + n] * weight;
        }
    }

    /// Repeats one more period, since one alone soon sounds like a buzzer.
    fn lengthen(&mut self) {
        let resumed = self.offset % self.pitch;
        for n in 0..self.quarter() {
            self.leaving[n] = self.repeat();
        }
        self.left = self.quarter();
        self.offset = resumed;
        self.periods += 1;
        self.join_ends();
    }

    fn repeat(&mut self) -> f32 {
        let sample = self.source[self.source.len() - self.repeated() + self.offset];
        self.offset = (self.offset + 1) % self.repeated();
        sample
    }

    fn next(&mut self, fade: Fade) -> f32 {
        if self.gain <= 0.0 {
            return 0.0;
        }
        let block = BLOCK * self.scale;
        if self.made > 0 && self.made.is_multiple_of(block) && self.periods < MOST_PERIODS {
            self.lengthen();
        }
        let mut sample = self.repeat();
        if self.left > 0 {
            let n = self.quarter() - self.left;
            let weight = (n + 1) as f32 / self.quarter() as f32;
            sample = self.leaving[n] * (1.0 - weight) + sample * weight;
            self.left -= 1;
        }
        sample *= self.gain;
        let loss = match fade {
            Fade::Quick => QUICK_FADE,
            Fade::Slow => SLOW_FADE,
        };
        self.gain -= loss / self.scale as f32;
        self.made += 1;
        sample
    }

    /// How the repetition would go on, to blend into the first of `room` received samples.
    fn into_blend(mut self, room: usize) -> Blend {
        let block = BLOCK * self.scale;
        let further = self.made.div_ceil(block).saturating_sub(1);
        let wanted = if self.gain > 0.0 {
            self.quarter() + further * OVERLAP_STEP * self.scale
        } else {
            ONSET * self.scale
        };
        let length = wanted.min(block).min(room);
        Blend((0..length).map(|_| self.next(Fade::Slow)).collect())
    }
}

/// The end of a repetition going over into what is received.
struct Blend(Vec<f32>);

impl Blend {
    fn apply(&self, n: usize, received: f32) -> f32 {
        let Some(tail) = self.0.get(n) else {
            return received;
        };
        let weight = (n + 1) as f32 / self.0.len() as f32;
        tail * (1.0 - weight) + received * weight
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::level::rms_dbfs;

    /// A vowel-like sound: harmonics of a slowly changing pitch of about 120 Hz.
    fn vowel(samples: usize) -> Vec<i16> {
        let mut phase = 0.0f64;
        (0..samples)
            .map(|n| {
                let hz = 120.0 + 6.0 * (n as f64 / 1_600.0).sin();
                phase += std::f64::consts::TAU * hz / 8_000.0;
                let sum: f64 = (1..=12)
                    .map(|k| (f64::from(k) * phase).sin() / f64::from(k))
                    .sum();
                (4_000.0 * sum) as i16
            })
            .collect()
    }

    /// Plays `sound` in frames of 20 ms, those for which `lost` says so missing.
    fn play(sound: &[i16], lost: impl Fn(usize) -> bool) -> Vec<i16> {
        let mut concealer = Concealer::new(SampleRate::TELEPHONE);
        let mut heard = sound.to_vec();
        for (n, frame) in heard.chunks_mut(160).enumerate() {
            if lost(n) {
                frame.fill(0);
                concealer.lost(frame, Fade::Slow);
            } else {
                concealer.received(frame);
            }
        }
        heard
    }

    fn snr_db(sound: &[i16], heard: &[i16]) -> f64 {
        let delayed = heard[DELAY_SAMPLES..].iter();
        let (mut signal, mut noise) = (0.0, 0.0);
        for (a, b) in sound.iter().zip(delayed) {
            signal += f64::from(*a).powi(2);
            noise += (f64::from(*a) - f64::from(*b)).powi(2);
        }
        10.0 * (signal / noise.max(1.0)).log10()
    }

    #[test]
    fn without_loss_the_sound_is_the_same_three_and_three_quarter_milliseconds_later() {
        let sound = vowel(8_000);
        let heard = play(&sound, |_| false);
        assert_eq!(heard[DELAY_SAMPLES..], sound[..sound.len() - DELAY_SAMPLES]);
        assert_eq!(heard[..DELAY_SAMPLES], [0; DELAY_SAMPLES]);
    }

    #[test]
    fn a_steady_voice_goes_on_through_a_lost_frame() {
        let sound = vowel(16_000);
        let every_tenth = |n: usize| n % 10 == 5;
        let mut zeroed = vec![0i16; DELAY_SAMPLES];
        zeroed.extend_from_slice(&sound[..sound.len() - DELAY_SAMPLES]);
        for (n, frame) in zeroed.chunks_mut(160).enumerate() {
            if every_tenth(n) {
                frame.fill(0);
            }
        }
        let without = snr_db(&sound, &zeroed);
        let with = snr_db(&sound, &play(&sound, every_tenth));
        assert!(
            with > without + 6.0,
            "{with:.1} dB, and {without:.1} dB with silence instead"
        );
    }

    #[test]
    fn a_loss_begins_and_ends_without_a_click() {
        let sound = vowel(16_000);
        let step = |sound: &[i16]| {
            let steps = sound
                .windows(2)
                .map(|w| (i32::from(w[0]) - i32::from(w[1])).abs());
            steps.max().unwrap()
        };
        for burst in 1..=4 {
            let heard = play(&sound, |n| n % 20 > 10 && n % 20 <= 10 + burst);
            let (clean, concealed) = (step(&sound), step(&heard));
            assert!(
                concealed < clean * 5 / 4,
                "{burst} frames: {concealed} against {clean}"
            );
        }
    }

    #[test]
    fn a_long_loss_fades_to_nothing_at_sixty_milliseconds() {
        let sound = vowel(8_000);
        let heard = play(&sound, |n| n >= 20);
        let levels: Vec<f32> = heard[20 * 160..].chunks(160).map(rms_dbfs).collect();
        assert!(levels[0] > rms_dbfs(&sound) - 3.0, "{levels:?}");
        assert!(levels[1] < levels[0] && levels[2] < levels[1], "{levels:?}");
        assert!(heard[24 * 160..].iter().all(|s| *s == 0));
    }

    #[test]
    fn a_sender_that_stops_is_silent_within_ten_milliseconds() {
        let mut concealer = Concealer::new(SampleRate::TELEPHONE);
        let mut sound = vowel(1_600);
        sound
            .chunks_mut(160)
            .for_each(|frame| concealer.received(frame));
        let mut gap = [0; 160];
        concealer.lost(&mut gap, Fade::Quick);
        assert!(concealer.is_silent());
        assert!(gap[DELAY_SAMPLES + 80..].iter().all(|s| *s == 0));
    }

    #[test]
    fn gaps_and_pieces_of_any_length_are_taken() {
        let mut concealer = Concealer::new(SampleRate::TELEPHONE);
        for length in [1usize, 7, 29, 80, 81, 161, 500] {
            let mut piece = vowel(length);
            concealer.received(&mut piece);
            concealer.lost(&mut piece, Fade::Slow);
            concealer.received(&mut piece[..length.min(3)]);
        }
    }

    #[test]
    fn full_scale_noise_does_not_wrap() {
        let mut state = 1u32;
        let noise: Vec<i16> = (0..16_000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if state >> 31 == 0 { i16::MAX } else { i16::MIN }
            })
            .collect();
        let heard = play(&noise, |n| n % 3 == 0);
        assert_eq!(heard.len(), noise.len());
    }

    #[test]
    fn a_wideband_voice_goes_on_through_a_lost_frame() {
        let mut phase = 0.0f64;
        let sound: Vec<i16> = (0..32_000)
            .map(|n| {
                let hz = 120.0 + 6.0 * (f64::from(n) / 3_200.0).sin();
                phase += std::f64::consts::TAU * hz / 16_000.0;
                let sum: f64 = (1..=40)
                    .map(|k| (f64::from(k) * phase).sin() / f64::from(k))
                    .sum();
                (4_000.0 * sum) as i16
            })
            .collect();
        let play = |conceal: bool| {
            let mut concealer = Concealer::new(SampleRate::WIDEBAND);
            let mut heard = sound.clone();
            for (n, frame) in heard.chunks_mut(320).enumerate() {
                if n % 10 != 5 {
                    concealer.received(frame);
                    continue;
                }
                frame.fill(0);
                match conceal {
                    true => concealer.lost(frame, Fade::Slow),
                    false => concealer.received(frame),
                }
            }
            heard[2 * DELAY_SAMPLES..].to_vec()
        };
        let snr = |heard: &[i16]| {
            let (mut signal, mut noise) = (0.0, 0.0);
            for (a, b) in sound.iter().zip(heard) {
                signal += f64::from(*a).powi(2);
                noise += (f64::from(*a) - f64::from(*b)).powi(2);
            }
            10.0 * (signal / f64::max(noise, 1.0)).log10()
        };
        let (with, without) = (snr(&play(true)), snr(&play(false)));
        assert!(with > without + 6.0, "{with:.1} dB against {without:.1} dB");
    }
}
