//! Keys as tones in the sound, for peers that take no events (RFC 4733).

use std::collections::VecDeque;
use std::time::Duration;

use crate::audio::tone::{DtmfDigit, dtmf};
use crate::audio::{FRAME_SAMPLES, Frame, SampleRate};

/// Both frequencies together: the usual level of a telephone.
const LEVEL_DBFS: f32 = -10.0;
/// ITU-T Q.24 lets receivers ignore what is shorter than 40 ms; noise and a codec cost some.
const SHORTEST: Duration = Duration::from_millis(80);
/// Nobody presses a key for longer.
const LONGEST: Duration = Duration::from_secs(5);
/// Between two keys: with less, two alike may be taken for one.
const PAUSE: Duration = Duration::from_millis(60);
/// Sound that waits at most: more presses are lost.
const MOST_WAITING: Duration = Duration::from_secs(60);

/// Key tones that are to be heard instead of anything else.
#[derive(Debug, Default)]
pub(super) struct KeyTones {
    /// At 8 kHz.
    waiting: VecDeque<i16>,
}

impl KeyTones {
    /// Sounds a key after those before it; not where too many wait.
    pub(super) fn press(&mut self, digit: DtmfDigit, duration: Duration) {
        let rate = SampleRate::TELEPHONE;
        if self.waiting.len() > rate.samples_in(MOST_WAITING) {
            return;
        }
        let tone = dtmf(digit, duration.clamp(SHORTEST, LONGEST), LEVEL_DBFS);
        self.waiting.extend(tone);
        let pause = std::iter::repeat_n(0, rate.samples_in(PAUSE));
        self.waiting.extend(pause);
    }

    /// The next 20 ms, where a key sounds.
    pub(super) fn next(&mut self) -> Option<Frame> {
        if self.waiting.is_empty() {
            return None;
        }
        let count = self.waiting.len().min(FRAME_SAMPLES);
        let samples: Vec<i16> = self.waiting.drain(..count).collect();
        Some(Frame::padded(&samples))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::Codec;
    use crate::audio::codec::through;
    use crate::audio::dtmf::Detector;
    use crate::audio::resample::whole;

    fn sounded(keys: &mut KeyTones) -> String {
        let (mut detector, mut heard) = (Detector::new(), String::new());
        while let Some(frame) = keys.next() {
            detector.push(frame.samples(), |digit| heard.push(digit.to_char()));
        }
        detector.push(&[0; 800], |digit| heard.push(digit.to_char()));
        heard
    }

    #[test]
    fn every_key_is_heard_once_however_short_it_is_pressed_and_twice_where_it_is_pressed_twice() {
        let mut keys = KeyTones::default();
        let pressed = "1123456789*0#ABCDD";
        for key in pressed.chars() {
            let digit = DtmfDigit::from_char(key).unwrap();
            keys.press(digit, Duration::from_millis(40));
        }
        assert_eq!(sounded(&mut keys), pressed);
        assert!(keys.next().is_none());
    }

    #[test]
    fn keys_are_heard_through_every_codec() {
        for codec in Codec::ALL {
            let mut keys = KeyTones::default();
            for key in "179#".chars() {
                let digit = DtmfDigit::from_char(key).unwrap();
                keys.press(digit, Duration::from_millis(100));
            }
            let sound: Vec<i16> = std::iter::from_fn(|| keys.next())
                .flat_map(|frame| frame.samples().to_vec())
                .chain([0; 1_600])
                .collect();
            let (narrow, rate) = (SampleRate::TELEPHONE, codec.sample_rate());
            let coded = through(codec, &whole(&sound, narrow, rate));
            let (mut detector, mut heard) = (Detector::new(), String::new());
            detector.push(&whole(&coded, rate, narrow), |digit| {
                heard.push(digit.to_char());
            });
            assert_eq!(heard, "179#", "{codec}");
        }
    }

    #[test]
    fn what_nobody_could_press_is_bounded() {
        let mut keys = KeyTones::default();
        let digit = DtmfDigit::from_char('5').unwrap();
        for _ in 0..1_000 {
            keys.press(digit, Duration::from_secs(3_600));
        }
        let mut frames = 0;
        while keys.next().is_some() {
            frames += 1;
        }
        assert!(frames < 66 * 50, "{frames}");
    }
}
