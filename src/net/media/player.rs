//! Clips in, frames out: the queue of what a stream plays.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::audio::Frame;

use super::{ClipKey, Played};

/// 8 kHz.
const SAMPLES_PER_MS: usize = 8;

struct Clip {
    key: ClipKey,
    samples: Arc<[i16]>,
    at: usize,
}

/// What a stream plays next.
#[derive(Default)]
pub(super) struct Player {
    clips: VecDeque<Clip>,
    fade: Option<Fade>,
    music: Option<Music>,
}

/// What plays over and over wherever no clip does.
struct Music {
    samples: Arc<[i16]>,
    at: usize,
}

/// Over this the music ends, in ms.
const MUSIC_FADE_MS: u32 = 100;

/// The rest of a clip that was cut, ramped down.
struct Fade {
    samples: Vec<i16>,
    at: usize,
}

impl Player {
    /// Plays after what is queued.
    pub(super) fn push(&mut self, key: ClipKey, samples: Arc<[i16]>, from: u32) {
        let at = usize::try_from(from)
            .unwrap_or(usize::MAX)
            .min(samples.len());
        self.clips.push_back(Clip { key, samples, at });
    }

    /// Ramps down what is playing and forgets the rest.
    pub(super) fn stop(&mut self, fade_ms: u32) {
        let Some(clip) = self.clips.front() else {
            return;
        };
        // A clip that was not begun yet has nothing to fade.
        let rest = if clip.at == 0 {
            &[]
        } else {
            &clip.samples[clip.at..]
        };
        self.fade = Some(fade(rest, fade_ms));
        self.clips.clear();
    }

    /// Plays `samples` over and over wherever no clip does, until it is told to stop (`None`).
    pub(super) fn music(&mut self, samples: Option<Arc<[i16]>>) {
        let samples = samples.filter(|samples| !samples.is_empty());
        let ended = std::mem::replace(
            &mut self.music,
            samples.map(|samples| Music { samples, at: 0 }),
        );
        if let (Some(ended), None, true) = (ended, &self.music, self.clips.is_empty()) {
            self.fade = Some(fade(&ended.samples[ended.at..], MUSIC_FADE_MS));
        }
    }

    /// The next 20 ms, and which clips they came from.
    pub(super) fn next(&mut self, played: &mut Vec<Played>) -> Frame {
        let mut frame = Frame::SILENCE;
        let out = frame.samples_mut();
        let mut filled = self.take_fade(out);
        while filled < out.len() {
            let Some(clip) = self.clips.front_mut() else {
                break;
            };
            let rest = &clip.samples[clip.at..];
            let count = rest.len().min(out.len() - filled);
            out[filled..filled + count].copy_from_slice(&rest[..count]);
            filled += count;
            clip.at += count;
            let finished = clip.at == clip.samples.len();
            played.push(Played {
                clip: clip.key,
                samples: u32::try_from(clip.at).unwrap_or(u32::MAX),
                finished,
            });
            if finished {
                self.clips.pop_front();
            }
        }
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
            *sample = self.samples[self.at];
            self.at = (self.at + 1) % self.samples.len();
        }
    }
}

/// What is left of something that stops now, ramped down over `ms`.
fn fade(rest: &[i16], ms: u32) -> Fade {
    let length = usize::try_from(ms)
        .unwrap_or(0)
        .saturating_mul(SAMPLES_PER_MS);
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

    fn clip(value: i16, samples: usize) -> Arc<[i16]> {
        vec![value; samples].into()
    }

    #[test]
    fn clips_follow_each_other_within_a_frame_and_report_where_they_are() {
        let mut player = Player::default();
        player.push(ClipKey(1), clip(100, 200), 0);
        player.push(ClipKey(2), clip(200, 400), 240);
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
        let mut player = Player::default();
        let music: Arc<[i16]> = (0..200).collect();
        player.music(Some(music));
        let mut played = Vec::new();
        let frame = player.next(&mut played);
        assert_eq!(frame.samples()[159], 159);
        assert_eq!(player.next(&mut played).samples()[40], 0, "from the start");
        player.push(ClipKey(1), clip(9_000, 40), 0);
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
        let mut player = Player::default();
        player.push(ClipKey(1), clip(10_000, 1000), 0);
        player.push(ClipKey(2), clip(10_000, 1000), 0);
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
}
