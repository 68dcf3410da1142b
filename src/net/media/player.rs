//! Clips in, frames out: the queue of what a stream plays.

use std::collections::VecDeque;
use std::time::Duration;

use crate::audio::{AnyFrame, SampleRate, Sound};

use super::{ClipKey, Played};

struct Clip {
    key: ClipKey,
    /// At the player's rate.
    sound: Sound,
    at: usize,
}

/// What a stream plays next.
pub(super) struct Player {
    rate: SampleRate,
    volume: Volume,
    clips: VecDeque<Clip>,
    fade: Option<Fade>,
    music: Option<Music>,
}

/// What plays over and over wherever no clip does.
struct Music {
    sound: Sound,
    at: usize,
}

/// Over this the music ends, in ms.
const MUSIC_FADE_MS: u32 = 100;

/// 22 dB lower: the loudest syllables are 15 dB below the mean then, too.
const LOWERED: f32 = 0.08;
/// Over this it is lowered, in ms...
const LOWERING_MS: u32 = 15;
/// ... and raised again.
const RAISING_MS: u32 = 60;

/// How loud clips are played, on its way to how loud they shall be.
#[derive(Clone, Copy, Debug)]
struct Volume {
    now: f32,
    wanted: f32,
}

impl Volume {
    const FULL: Self = Self {
        now: 1.0,
        wanted: 1.0,
    };

    fn apply(&mut self, samples: &mut [i16], rate: SampleRate) {
        if self.now >= 1.0 && self.wanted >= 1.0 {
            return;
        }
        let step = |ms: u32| {
            let samples = rate.samples_in(Duration::from_millis(ms.into())).max(1);
            (1.0 - LOWERED) / samples as f32
        };
        let (down, up) = (step(LOWERING_MS), step(RAISING_MS));
        for sample in samples {
            self.now += (self.wanted - self.now).clamp(-down, up);
            // Never louder than it was.
            *sample = (f32::from(*sample) * self.now) as i16;
        }
    }
}

/// The rest of a clip that was cut, ramped down.
struct Fade {
    samples: Vec<i16>,
    at: usize,
}

impl Player {
    /// A player of frames at `rate`.
    pub(super) fn new(rate: SampleRate) -> Self {
        Self {
            rate,
            volume: Volume::FULL,
            clips: VecDeque::new(),
            fade: None,
            music: None,
        }
    }

    /// Plays lower by 22 dB from now on, or no longer so.
    pub(super) fn duck(&mut self, lower: bool) {
        self.volume.wanted = if lower { LOWERED } else { 1.0 };
    }

    /// Goes on at another rate.
    pub(super) fn set_rate(&mut self, rate: SampleRate) {
        if rate == self.rate {
            return;
        }
        let place = |at: usize| {
            let place = at as u64 * u64::from(rate.hz()) / u64::from(self.rate.hz());
            usize::try_from(place).unwrap_or(usize::MAX)
        };
        for clip in &mut self.clips {
            clip.sound = clip.sound.at(rate);
            clip.at = place(clip.at).min(clip.sound.samples.len());
        }
        if let Some(music) = &mut self.music {
            music.sound = music.sound.at(rate);
            music.at = place(music.at) % music.sound.samples.len().max(1);
        }
        self.fade = None;
        self.rate = rate;
    }

    /// Plays after what is queued, from a sample on that is counted at 8 kHz.
    pub(super) fn push(&mut self, key: ClipKey, sound: &Sound, from: u32) {
        let sound = sound.at(self.rate);
        let at = sound.place_of(usize::try_from(from).unwrap_or(usize::MAX));
        self.clips.push_back(Clip { key, sound, at });
    }

    /// Ramps down what is playing and forgets the rest; what comes next has its full volume.
    pub(super) fn stop(&mut self, fade_ms: u32) {
        let Some(clip) = self.clips.front() else {
            return;
        };
        // A clip that was not begun yet has nothing to fade.
        let rest = if clip.at == 0 {
            &[]
        } else {
            &clip.sound.samples[clip.at..]
        };
        let mut fade = fade(rest, self.rate, fade_ms);
        self.volume.apply(&mut fade.samples, self.rate);
        self.volume = Volume::FULL;
        self.fade = Some(fade);
        self.clips.clear();
    }

    /// Plays `sound` over and over wherever no clip does, until it is told to stop (`None`).
    pub(super) fn music(&mut self, sound: Option<&Sound>) {
        let sound = sound.filter(|sound| !sound.samples.is_empty());
        let begun = sound.map(|sound| Music {
            sound: sound.at(self.rate),
            at: 0,
        });
        let ended = std::mem::replace(&mut self.music, begun);
        if let (Some(ended), None, true) = (ended, &self.music, self.clips.is_empty()) {
            let rest = &ended.sound.samples[ended.at..];
            self.fade = Some(fade(rest, self.rate, MUSIC_FADE_MS));
        }
    }

    /// The next 20 ms, and which clips they came from.
    pub(super) fn next(&mut self, played: &mut Vec<Played>) -> AnyFrame {
        let mut frame = AnyFrame::silence(self.rate);
        let out = frame.samples_mut();
        let mut filled = self.take_fade(out);
        let faded = filled;
        while filled < out.len() {
            let Some(clip) = self.clips.front_mut() else {
                break;
            };
            let rest = &clip.sound.samples[clip.at..];
            let count = rest.len().min(out.len() - filled);
            out[filled..filled + count].copy_from_slice(&rest[..count]);
            filled += count;
            clip.at += count;
            let finished = clip.at == clip.sound.samples.len();
            let samples = clip.sound.telephone_samples_to(clip.at);
            played.push(Played {
                clip: clip.key,
                samples: u32::try_from(samples).unwrap_or(u32::MAX),
                finished,
            });
            if finished {
                self.clips.pop_front();
            }
        }
        self.volume.apply(&mut out[faded..filled], self.rate);
        if let Some(music) = &mut self.music {
            music.fill(&mut out[filled..]);
        }
        frame
    }

    fn take_fade(&mut self, out: &mut [i16]) -> usize {
        let Some(fade) = &mut self.fade else {
            return 0;
        };
        let rest = &fade.samples[fade.at..];
        let count = rest.len().min(out.len());
        out[..count].copy_from_slice(&rest[..count]);
        fade.at += count;
        if fade.at == fade.samples.len() {
            self.fade = None;
        }
        count
    }
}

impl Music {
    fn fill(&mut self, out: &mut [i16]) {
        for sample in out {
            *sample = self.sound.samples[self.at];
            self.at = (self.at + 1) % self.sound.samples.len();
        }
    }
}

/// What is left of something that stops now, ramped down over `ms`.
fn fade(rest: &[i16], rate: SampleRate, ms: u32) -> Fade {
    let length = rate.samples_in(Duration::from_millis(ms.into()));
    let rest = &rest[..rest.len().min(length)];
    let samples = rest
        .iter()
        .enumerate()
        .map(|(at, sample)| ramp(*sample, length - at, length));
    Fade {
        samples: samples.collect(),
        at: 0,
    }
}

fn ramp(sample: i16, left: usize, of: usize) -> i16 {
    let left = i64::try_from(left).unwrap_or(0);
    let of = i64::try_from(of).unwrap_or(1).max(1);
    // Not larger than the sample itself.
    i16::try_from(i64::from(sample) * left / of).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clip(value: i16, samples: usize) -> Sound {
        vec![value; samples].into()
    }

    #[test]
    fn clips_follow_each_other_within_a_frame_and_report_where_they_are() {
        let mut player = Player::new(SampleRate::TELEPHONE);
        player.push(ClipKey(1), &clip(100, 200), 0);
        player.push(ClipKey(2), &clip(200, 400), 240);
        let mut played = Vec::new();
        player.next(&mut played);
        assert_eq!(played.len(), 1);
        assert!(!played[0].finished);
        played.clear();
        let frame = player.next(&mut played);
        assert_eq!(frame.samples()[39], 100);
        assert_eq!(frame.samples()[40], 200);
        assert_eq!(
            played[0],
            Played {
                clip: ClipKey(1),
                samples: 200,
                finished: true
            }
        );
        assert_eq!(
            played[1],
            Played {
                clip: ClipKey(2),
                samples: 360,
                finished: false
            }
        );
    }

    #[test]
    fn music_loops_gives_way_to_clips_and_fades_out() {
        let mut player = Player::new(SampleRate::TELEPHONE);
        let music: Vec<i16> = (0..200).collect();
        player.music(Some(&music.into()));
        let mut played = Vec::new();
        let frame = player.next(&mut played);
        assert_eq!(frame.samples()[159], 159);
        assert_eq!(player.next(&mut played).samples()[40], 0, "from the start");
        player.push(ClipKey(1), &clip(9_000, 40), 0);
        let frame = player.next(&mut played);
        assert_eq!((frame.samples()[39], frame.samples()[40]), (9_000, 120));
        player.music(None);
        let frame = player.next(&mut played);
        assert!(frame.samples()[..40].iter().any(|sample| *sample != 0));
        assert!(
            player.next(&mut played).samples()[100..]
                .iter()
                .all(|s| *s == 0)
        );
        assert_eq!(played.len(), 1, "music is no clip");
    }

    #[test]
    fn a_stop_fades_without_a_click_and_forgets_the_rest() {
        let mut player = Player::new(SampleRate::TELEPHONE);
        player.push(ClipKey(1), &clip(10_000, 1000), 0);
        player.push(ClipKey(2), &clip(10_000, 1000), 0);
        let mut played = Vec::new();
        player.next(&mut played);
        player.stop(10);
        played.clear();
        let frame = player.next(&mut played);
        assert!(played.is_empty());
        let samples = frame.samples();
        assert!(
            samples
                .windows(2)
                .all(|w| (i32::from(w[0]) - i32::from(w[1])).abs() <= 126)
        );
        assert_eq!(samples[80], 0);
        assert!(player.next(&mut played).samples().iter().all(|s| *s == 0));
    }

    #[test]
    fn a_ducked_player_is_twenty_two_decibels_lower_within_a_frame_and_a_stop_raises_it() {
        let mut player = Player::new(SampleRate::TELEPHONE);
        player.push(ClipKey(1), &clip(16_000, 8_000), 0);
        let next = |player: &mut Player| player.next(&mut Vec::new()).samples().to_vec();
        next(&mut player);
        player.duck(true);
        let lowering = next(&mut player);
        assert!(lowering[159].abs_diff(1_280) <= 1, "{}", lowering[159]);
        let steps = |frame: &[i16]| frame.windows(2).all(|w| (w[0] - w[1]).abs() < 130);
        assert!(steps(&lowering), "no click");
        player.duck(false);
        let raising: Vec<i16> = (0..3).flat_map(|_| next(&mut player)).collect();
        assert!(steps(&raising), "no click");
        assert!(raising[479] > 15_900, "{}", raising[479]);
        player.duck(true);
        next(&mut player);
        player.stop(15);
        player.push(ClipKey(2), &clip(16_000, 8_000), 0);
        let after = next(&mut player);
        assert!(after[0] <= 1_281, "the end of the first is low");
        assert_eq!(after[159], 16_000, "the next is not");
    }

    #[test]
    fn a_wideband_player_plays_both_rates_and_counts_at_eight_kilohertz() {
        let mut player = Player::new(SampleRate::WIDEBAND);
        player.push(ClipKey(1), &Sound::wide(vec![5_000; 640]), 80);
        player.push(ClipKey(2), &clip(5_000, 161), 0);
        let mut played = Vec::new();
        let frame = player.next(&mut played);
        assert_eq!(frame.rate(), SampleRate::WIDEBAND);
        assert_eq!(frame.samples(), [5_000; 320]);
        assert_eq!((played[0].samples, played[0].finished), (240, false));
        player.next(&mut played);
        assert_eq!((played[1].samples, played[1].finished), (320, true));
        assert_eq!((played[2].samples, played[2].finished), (80, false));
        player.next(&mut played);
        assert_eq!((played[3].samples, played[3].finished), (161, true));
        // The first clip began at its sample 160 of 640, the other has 322.
        assert!(player.next(&mut played).samples().iter().all(|s| *s == 0));
    }

    #[test]
    fn what_plays_goes_on_where_it_was_when_the_rate_changes() {
        let mut player = Player::new(SampleRate::TELEPHONE);
        player.push(ClipKey(1), &clip(5_000, 800), 0);
        let mut played = Vec::new();
        player.next(&mut played);
        player.set_rate(SampleRate::WIDEBAND);
        let frame = player.next(&mut played);
        assert!(frame.samples().iter().all(|s| (4_900..5_100).contains(s)));
        assert_eq!(played[1].samples, 320);
    }

    #[test]
    fn a_barge_in_fades_within_ten_to_twenty_milliseconds_at_either_rate() {
        for (rate, sound) in [
            (SampleRate::TELEPHONE, clip(10_000, 4_000)),
            (SampleRate::WIDEBAND, Sound::wide(vec![10_000; 8_000])),
        ] {
            let mut player = Player::new(rate);
            player.push(ClipKey(1), &sound, 0);
            player.next(&mut Vec::new());
            player.stop(15);
            let fading: Vec<i16> = (0..3)
                .flat_map(|_| player.next(&mut Vec::new()).samples().to_vec())
                .collect();
            let audible = fading.iter().take_while(|sample| **sample != 0).count();
            let ms = audible * 1_000 / rate.hz() as usize;
            assert!((10..=20).contains(&ms), "{ms} ms at {rate}");
            assert!(fading.windows(2).all(|pair| pair[0] >= pair[1]), "no click");
        }
    }
}
