//! From the voice activity detector's probabilities to stretches of speech.
//!
//! ```text
//!            >= startThreshold            for minSpeechSeconds
//!  Silence ────────────────────► Onset ────────────────────────► Speech
//!     ▲                            │                               │
//!     └────── < endThreshold ──────┴────────── < endThreshold ─────┘
//! ```

use super::api::{CallTime, SAMPLES_PER_MS, SamplePosition};

/// A frame above this level is sound of the caller's, dB relative to full scale.
const LOUD_DBFS: f32 = -45.0;
/// A loud frame this long after the last speech is no longer the caller's, in ms.
const SPEECH_DECAY_MS: u64 = 200;
/// Likewise on a quiet line, where a loud frame is the caller's for certain: a breath, a last
/// consonant that the detector no longer takes for speech.
const QUIET_LINE_DECAY_MS: u64 = 1500;
/// The line is quiet where its noise is at least this far below [`LOUD_DBFS`].
const QUIET_BY_DB: f32 = 12.0;
/// How fast the estimate of the noise follows a line that became louder, in dB a frame.
const NOISE_RISE_DB: f32 = 0.05;

/// A frame this far below the caller's loudest of late is a pause, in dB.
const PAUSE_BY_DB: f32 = 30.0;
/// A line is clear where its noise is at least this far below a pause, in dB.
const CLEAR_BY_DB: f32 = 6.0;
/// How fast the caller's loudest is forgotten, in dB a frame.
const LOUDEST_FALL_DB: f32 = 0.02;
/// On a clear line, silence in which sound may still be under way to the detector, in ms.
const UNDER_WAY_MS: u64 = 60;
/// The detector takes the silence after a word for speech for at most this long, in ms.
const TRAIL_MS: u64 = 300;

/// A window above this probability may be the soft beginning of speech.
const STIRS: f32 = 0.2;
/// So may be so many frames in a row at a voice's full level, whatever the detector makes of them...
const STIRRING_FRAMES: u32 = 4;
/// ... which is this, in dB relative to full scale.
const FULL_VOICE_DBFS: f32 = -18.0;
/// A beginning is none where no more signs of it follow for so long, in ms...
const STIRRING_MS: u64 = 200;
/// ... or speech is not confirmed within this.
const LONGEST_STIRRING_MS: u64 = 600;
/// On what turned out to be none, beginnings are not believed for so long, in ms.
const DISBELIEF_MS: u64 = 10_000;

/// What a window changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Heard {
    /// No speech, or too little yet.
    Silence,
    /// Speech was confirmed; it began at `start`.
    Began {
        start: SamplePosition,
        end: SamplePosition,
    },
    /// Speech went on.
    Speech { end: SamplePosition },
    /// Speech was over in this window.
    Stopped,
}

#[derive(Debug)]
pub(super) struct Hearing {
    start_threshold: f32,
    end_threshold: f32,
    min_speech: u64,
    /// Where the windows that count as speech began, and how much they are.
    run: Option<(SamplePosition, u64)>,
    heard_to: SamplePosition,
    last_loud: Option<CallTime>,
    last_speech: SamplePosition,
    /// The quietest that the line was of late, dB relative to full scale.
    noise_dbfs: f32,
    /// The loudest that the caller was of late, likewise.
    loudest_dbfs: f32,
    /// The last frame that was no pause, of speech and of anything.
    last_sounding: Option<CallTime>,
    last_of_any: CallTime,
    /// The last loud frame, of speech or not.
    last_noise: CallTime,
    /// Frames in a row at a voice's full level.
    full_voice: u32,
    /// When speech may have begun, and the last sign of it.
    stirred: Option<(CallTime, CallTime)>,
    /// No beginning before this is believed.
    disbelieves_until: CallTime,
    /// The assistant is speaking, so that a beginning that is none costs something.
    beneath: bool,
}

impl Hearing {
    /// `min_speech` in samples.
    pub(super) fn new(start_threshold: f32, end_threshold: f32, min_speech: u64) -> Self {
        Self {
            start_threshold,
            end_threshold,
            min_speech,
            run: None,
            heard_to: SamplePosition::default(),
            last_loud: None,
            last_speech: SamplePosition::default(),
            noise_dbfs: 0.0,
            loudest_dbfs: f32::NEG_INFINITY,
            last_sounding: None,
            last_of_any: CallTime::default(),
            last_noise: CallTime::default(),
            full_voice: 0,
            stirred: None,
            disbelieves_until: CallTime::default(),
            beneath: false,
        }
    }

    /// One window, `samples` long, that ends at `end`.
    pub(super) fn window(&mut self, end: SamplePosition, samples: u32, probability: f32) -> Heard {
        let stirred = self.stirred;
        let heard = self.judge(end, samples, probability);
        self.stir(end.time(), probability >= STIRS);
        match (heard, stirred) {
            // It began softly.
            (Heard::Began { start, end }, Some((since, _))) => Heard::Began {
                start: start.min(SamplePosition::at(since)),
                end,
            },
            (heard, _) => heard,
        }
    }

    fn judge(&mut self, end: SamplePosition, samples: u32, probability: f32) -> Heard {
        self.heard_to = self.heard_to.max(end);
        let samples = u64::from(samples);
        let was_speech = self.speaking();
        let threshold = if self.run.is_some() {
            self.end_threshold
        } else {
            self.start_threshold
        };
        // A probability that is no number is no speech.
        if probability.is_nan() || probability < threshold {
            self.run = None;
            return if was_speech {
                Heard::Stopped
            } else {
                Heard::Silence
            };
        }
        let window_start = SamplePosition(end.0.saturating_sub(samples));
        let (start, so_far) = self.run.unwrap_or((window_start, 0));
        self.run = Some((start, so_far.saturating_add(samples)));
        if !self.speaking() {
            return Heard::Silence;
        }
        self.last_speech = end;
        if was_speech {
            Heard::Speech { end }
        } else {
            Heard::Began { start, end }
        }
    }

    /// Notices what may be the beginning of speech, before it is known.
    fn stir(&mut self, now: CallTime, like_speech: bool) {
        let within = |ms: u64, of: CallTime| now.0 <= of.0.saturating_add(ms);
        match self.stirred {
            _ if self.speaking() => self.stirred = None,
            Some((began, sign))
                if !(within(STIRRING_MS, sign) && within(LONGEST_STIRRING_MS, began)) =>
            {
                self.stirred = None;
                if self.beneath {
                    self.disbelieves_until = CallTime(now.0.saturating_add(DISBELIEF_MS));
                }
            }
            Some((began, _)) if like_speech => self.stirred = Some((began, now)),
            Some(_) => {}
            None => {
                let after_speech = within(TRAIL_MS, self.last_speech.time());
                let sounds = within(SPEECH_DECAY_MS, self.last_noise);
                if like_speech && sounds && !after_speech && now >= self.disbelieves_until {
                    self.stirred = Some((now, now));
                }
            }
        }
    }

    /// Whether the assistant is speaking from now on.
    pub(super) fn is_beneath(&mut self, speech: bool) {
        self.beneath = speech;
    }

    /// Speech may be beginning, by signs too weak to stop for.
    pub(super) fn stirs(&self) -> bool {
        self.stirred.is_some()
    }

    /// A received frame's level.
    pub(super) fn frame(&mut self, at: CallTime, level_dbfs: f32) {
        self.noise_dbfs = level_dbfs.min(self.noise_dbfs + NOISE_RISE_DB);
        let decay = match self.noise_dbfs < LOUD_DBFS - QUIET_BY_DB {
            true => QUIET_LINE_DECAY_MS,
            false => SPEECH_DECAY_MS,
        };
        self.loudest_dbfs = level_dbfs.max(self.loudest_dbfs - LOUDEST_FALL_DB);
        if level_dbfs > self.loudest_dbfs - PAUSE_BY_DB {
            if self.is_clear() {
                self.last_of_any = at;
            }
            if self.in_speech(at, SPEECH_DECAY_MS) {
                self.last_sounding = Some(at);
            }
        }
        self.full_voice = match level_dbfs > FULL_VOICE_DBFS {
            true => self.full_voice.saturating_add(1),
            false => 0,
        };
        if level_dbfs > LOUD_DBFS {
            self.last_noise = at;
            if self.in_speech(at, decay) {
                self.last_loud = Some(at);
            }
        }
        if self.full_voice >= STIRRING_FRAMES {
            self.stir(at, true);
        }
    }

    /// Speech is going on, or was until so many ms before.
    fn in_speech(&self, at: CallTime, decay: u64) -> bool {
        self.run.is_some() || at.0 <= self.last_speech.time().0.saturating_add(decay)
    }

    /// On a clear line, the arrival of the last sound of speech that the detector heard up to
    /// `speech_end`: known at once, where the detector needs up to 200 ms.
    pub(super) fn last_sounding(&self, speech_end: SamplePosition) -> Option<CallTime> {
        // Beyond that, it is somebody who speaks low.
        let trails = |last: &CallTime| speech_end.time().0 <= last.0.saturating_add(TRAIL_MS);
        self.last_sounding
            .filter(trails)
            .filter(|_| self.is_clear())
    }

    /// Pauses can be told from speech by their level.
    fn is_clear(&self) -> bool {
        self.noise_dbfs + CLEAR_BY_DB <= self.loudest_dbfs - PAUSE_BY_DB
    }

    /// On a clear line, the last sound of the caller's, speech or not.
    pub(super) fn last_sound_of_any(&self) -> CallTime {
        self.last_of_any
    }

    /// Whether a window of speech up to `end` that comes in at `now` is only the trail of a sound
    /// that is over.
    pub(super) fn is_trail(&self, end: SamplePosition, now: CallTime) -> bool {
        self.last_sounding(end)
            .is_some_and(|last| now.0 >= last.0.saturating_add(UNDER_WAY_MS))
    }

    /// Confirmed speech is going on.
    pub(super) fn speaking(&self) -> bool {
        self.run
            .is_some_and(|(_, samples)| samples >= self.min_speech.max(1))
    }

    /// Speech is going on, or may be beginning.
    pub(super) fn may_be_speaking(&self) -> bool {
        self.run.is_some()
    }

    /// Where speech begins that is not confirmed yet; the end of what was heard where there is none.
    pub(super) fn onset(&self) -> SamplePosition {
        self.run.map_or(self.heard_to, |(start, _)| start)
    }

    /// How far the detector has come.
    pub(super) fn heard_to(&self) -> SamplePosition {
        self.heard_to
    }

    /// The last loud frame since `start`, or else where the detector heard the last speech.
    pub(super) fn speech_ended(&self, start: SamplePosition) -> CallTime {
        let loud = self.last_loud.filter(|at| *at >= start.time());
        loud.unwrap_or(self.last_speech.time())
    }

    /// The caller's last loud frame.
    pub(super) fn last_sound(&self) -> Option<CallTime> {
        self.last_loud
    }

    /// Forgets the speech going on.
    pub(super) fn reset(&mut self) {
        self.run = None;
    }
}

/// Samples in a time of ms.
pub(super) fn samples(ms: u64) -> u64 {
    ms.saturating_mul(SAMPLES_PER_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Windows of 32 ms with these probabilities.
    fn hear(hearing: &mut Hearing, probabilities: &[f32]) -> Vec<Heard> {
        let mut end = hearing.heard_to;
        let window = |probability: &f32| {
            end.0 += 256;
            hearing.window(end, 256, *probability)
        };
        probabilities.iter().map(window).collect()
    }

    fn hearing() -> Hearing {
        Hearing::new(0.5, 0.35, samples(60))
    }

    #[test]
    fn a_click_is_no_speech() {
        let mut hearing = hearing();
        assert_eq!(
            hear(&mut hearing, &[0.1, 0.9, 0.1, 0.9, 0.2]),
            [Heard::Silence; 5]
        );
    }

    #[test]
    fn speech_begins_where_its_first_window_began_and_goes_on_at_the_lower_threshold() {
        let mut hearing = hearing();
        assert_eq!(
            hear(&mut hearing, &[0.4, 0.6, 0.4, 0.36, 0.3, 0.4]),
            [
                Heard::Silence,
                Heard::Silence,
                Heard::Began {
                    start: SamplePosition(256),
                    end: SamplePosition(768)
                },
                Heard::Speech {
                    end: SamplePosition(1024)
                },
                Heard::Stopped,
                Heard::Silence,
            ]
        );
    }

    /// 320 ms of speech, silence at `noise`, and a loud frame at `late`: when the speech ended.
    fn ended_on_a_line_with(noise: f32, late: u64) -> CallTime {
        let mut hearing = hearing();
        hear(&mut hearing, &[0.9; 10]);
        for (at, level) in [(280, -20.0), (300, -30.0), (320, noise)] {
            hearing.frame(CallTime(at), level);
        }
        hear(&mut hearing, &[0.1; 40]);
        hearing.frame(CallTime(late), -44.0);
        hearing.speech_ended(SamplePosition(0))
    }

    #[test]
    fn on_a_noisy_line_speech_ends_with_the_last_loud_frame_and_not_with_a_noise_after_it() {
        assert_eq!(ended_on_a_line_with(-50.0, 700), CallTime(300));
        assert_eq!(ended_on_a_line_with(-50.0, 500), CallTime(500));
    }

    #[test]
    fn on_a_quiet_line_a_last_breath_a_second_later_is_the_callers() {
        assert_eq!(ended_on_a_line_with(-70.0, 1600), CallTime(1600));
        assert_eq!(ended_on_a_line_with(-70.0, 2000), CallTime(300));
    }

    #[test]
    fn a_line_that_becomes_noisy_is_no_longer_quiet() {
        let mut hearing = hearing();
        hearing.frame(CallTime(0), -80.0);
        for at in 1..=1000 {
            hearing.frame(CallTime(at * 20), -46.0);
        }
        hear(&mut hearing, &[0.9; 640]);
        hearing.frame(CallTime(20_480), -20.0);
        hear(&mut hearing, &[0.1; 40]);
        hearing.frame(CallTime(21_000), -44.0);
        assert_eq!(hearing.speech_ended(SamplePosition(0)), CallTime(20_480));
    }

    #[test]
    fn a_soft_beginning_stirs_at_once_and_is_not_believed_again_where_it_was_none() {
        let stirs = |hearing: &mut Hearing, at: u64, probability| {
            hearing.frame(CallTime(at), -30.0);
            hearing.window(SamplePosition::at(CallTime(at)), 256, probability);
            hearing.stirs()
        };
        let mut hearing = hearing();
        assert!(stirs(&mut hearing, 400, 0.3));
        assert!(!stirs(&mut hearing, 700, 0.1), "while nobody spoke");
        hearing.is_beneath(true);
        assert!(!stirs(&mut hearing, 1000, 0.1));
        assert!(stirs(&mut hearing, 1032, 0.3));
        assert!(stirs(&mut hearing, 1200, 0.1));
        assert!(!stirs(&mut hearing, 1240, 0.3), "it was none");
        assert!(!stirs(&mut hearing, 5000, 0.3));
        assert!(stirs(&mut hearing, 12_000, 0.3));
        for at in [12_150, 12_300, 12_450, 12_600] {
            assert!(stirs(&mut hearing, at, 0.3), "signs keep coming");
        }
        assert!(!stirs(&mut hearing, 12_650, 0.3), "but no speech");
    }

    #[test]
    fn speech_that_began_softly_is_heard_from_its_beginning() {
        let mut hearing = hearing();
        let mut window = |at: u64, probability| {
            hearing.frame(CallTime(at), -30.0);
            let heard = hearing.window(SamplePosition::at(CallTime(at)), 256, probability);
            (heard, hearing.stirs())
        };
        assert!(window(1000, 0.3).1);
        assert!(window(1032, 0.1).1);
        assert!(window(1064, 0.9).1);
        let (heard, stirs) = window(1096, 0.9);
        let expected = Heard::Began {
            start: SamplePosition(8000),
            end: SamplePosition(8768),
        };
        assert_eq!((heard, stirs), (expected, false));
        for at in [1128, 1332] {
            assert!(!window(at, 0.3).1, "the end of speech");
        }
    }

    #[test]
    fn a_voice_at_full_level_stirs_whatever_the_detector_says() {
        let mut hearing = hearing();
        for at in [1000, 1020, 1040] {
            hearing.frame(CallTime(at), -12.0);
        }
        assert!(!hearing.stirs(), "a click");
        hearing.frame(CallTime(1060), -12.0);
        assert!(hearing.stirs());
    }

    #[test]
    fn without_a_sound_nothing_stirs() {
        let mut hearing = hearing();
        hear(&mut hearing, &[0.3; 20]);
        assert!(!hearing.stirs());
    }

    #[test]
    fn a_probability_that_is_no_number_is_silence() {
        let mut hearing = hearing();
        assert_eq!(hear(&mut hearing, &[f32::NAN; 3]), [Heard::Silence; 3]);
    }
}
