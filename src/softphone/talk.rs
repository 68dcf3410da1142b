//! A call whose caller speaks as they go, such as into a browser's microphone.
//!
//! ```text
//! Handset ──dial──▶ Ringing ──200──▶ Talking ──hung up by either side──▶ Over
//!                      └──refused, or the caller gives up──────────────────▲
//! ```

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::RngExt;
use tokio::sync::mpsc;

use super::{
    CallError, Called, Calling, describe, describe_end, invite, local_address, resolve, sip_config,
    wait_for_end,
};
use crate::audio::{Codec, SampleRate, Sound, WIDE_FRAME_SAMPLES};
use crate::net::media::{ClipKey, Media, MediaAddress, MediaConfig, MediaPort, MediaStream, Tick};
use crate::net::sip::{LegCommand, OutgoingLeg, Sip};
use crate::sdp::{self, LocalMedia};
use crate::sip::endpoint::{Credentials, Event, Hangup};

/// Rate of what a [`Talk`] is given.
pub const MICROPHONE: SampleRate = SampleRate::WIDEBAND;

/// Best first: what a microphone hears deserves a wideband codec.
const CODECS: [Codec; 3] = [Codec::G722, Codec::Pcmu, Codec::Pcma];

/// Pieces of sound and events that either side may lag behind: a second.
const QUEUE: usize = 50;

/// Frames that the media thread has ahead, so that none is missing where this task is late.
const AHEAD: usize = 2;

/// A microphone whose clock is fast, or that was held up, is caught up with at this much...
const MOST_WAITING: usize = WIDE_FRAME_SAMPLES * 12;
/// ...down to this much; and after a gap it starts again with as much.
const ENOUGH_WAITING: usize = WIDE_FRAME_SAMPLES * 3;

/// Whatever happens, such a call ends after this long.
const LONGEST: Duration = Duration::from_secs(1800);

/// A telephone with its sockets open, before it dials.
pub struct Handset {
    sip: Sip,
    // The thread that paces the port.
    _media: Media,
    port: MediaPort,
    called: Called,
}

/// What a call's caller notices.
#[derive(Clone, Debug, PartialEq)]
pub enum Noticed {
    /// The other side has answered; what is heard has this rate.
    Answered(SampleRate),
    /// 20 ms of sound.
    Heard(Vec<i16>),
    /// The call is over, in words. The last thing that is noticed.
    Over(String),
}

/// A call that was dialled. Dropping it hangs up.
pub struct Talk {
    said: mpsc::Sender<Vec<i16>>,
    noticed: mpsc::Receiver<Noticed>,
}

impl Talk {
    /// Says this, at [`MICROPHONE`]'s rate. What comes faster than it can be sent is lost.
    pub fn say(&self, samples: Vec<i16>) {
        // Full: the call is a second behind, and old sound is of no use. Closed: it is over.
        let _ = self.said.try_send(samples);
    }

    /// What is noticed next; `None` after the end.
    pub async fn next(&mut self) -> Option<Noticed> {
        self.noticed.recv().await
    }
}

impl Handset {
    /// Opens the sockets for a call to `sip:user@host[:port]`.
    ///
    /// # Errors
    /// Where the target is none, or the system has no socket or thread left.
    pub async fn open(target: &str) -> Result<Self, CallError> {
        let called = resolve(target).await?;
        let local = local_address(called.target.address)?;
        let system = |error: &dyn std::fmt::Display| CallError::System(error.to_string());
        let config = sip_config(local, called.target.protocol);
        let seed = rand::rng().random();
        let (sip, _incoming) = Sip::start(config, seed)
            .await
            .map_err(|error| system(&error))?;
        let media = Media::start(MediaConfig {
            addresses: vec![MediaAddress {
                bind: local,
                advertised: local,
            }],
            port_min: 40_000,
            port_max: 49_999,
        })
        .map_err(|error| system(&error))?;
        let port = media.reserve(local).map_err(|error| system(&error))?;
        Ok(Self {
            sip,
            _media: media,
            port,
            called,
        })
    }

    /// Where its SIP comes from; `None` over connections, which have a port of their own.
    pub fn address(&self) -> Option<SocketAddr> {
        Some(self.sip.listeners().first()?.address)
    }

    /// Dials as `caller`. `kept` is dropped when the call is over.
    pub fn dial(
        self,
        caller: String,
        credentials: Option<Credentials>,
        kept: impl Send + 'static,
    ) -> Talk {
        let (said, microphone) = mpsc::channel(QUEUE);
        let (notices, noticed) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            let _kept = kept;
            let why = self.run(caller, credentials, microphone, &notices).await;
            // Whoever listened may have gone.
            let _ = notices.send(Noticed::Over(why)).await;
        });
        Talk { said, noticed }
    }

    /// The whole call; returns why it ended.
    async fn run(
        self,
        caller: String,
        credentials: Option<Credentials>,
        mut microphone: mpsc::Receiver<Vec<i16>>,
        notices: &mpsc::Sender<Noticed>,
    ) -> String {
        let description = match describe(&self.port, CODECS.to_vec()) {
            Ok(description) => description,
            Err(error) => return error.to_string(),
        };
        let calling = Calling {
            caller: &caller,
            credentials,
            ca: None,
            description: &description,
        };
        let mut leg = match invite(&self.sip, self.called, calling).await {
            Ok(leg) => leg,
            Err(error) => return error.to_string(),
        };
        let answer = match ring(&mut leg, &mut microphone).await {
            Ok(answer) => answer,
            Err(Some(why)) => return why,
            Err(None) => {
                hang_up(&self.sip, &mut leg).await;
                return "you hung up".to_owned();
            }
        };
        let flowing = connect(self.port, &answer, &description);
        let ended = match flowing {
            Ok((stream, ticks)) => {
                let _ = notices.send(Noticed::Answered(stream.rate())).await;
                talk(stream, ticks, &mut leg, &mut microphone, notices).await
            }
            Err(error) => {
                hang_up(&self.sip, &mut leg).await;
                return error.to_string();
            }
        };
        match ended {
            Some(why) => why,
            None => {
                hang_up(&self.sip, &mut leg).await;
                "you hung up".to_owned()
            }
        }
    }
}

async fn hang_up(sip: &Sip, leg: &mut OutgoingLeg) {
    sip.leg(leg.leg, LegCommand::Hangup(Hangup::default()));
    wait_for_end(sip, leg).await;
}

fn connect(
    port: MediaPort,
    answer: &[u8],
    description: &LocalMedia,
) -> Result<(MediaStream, mpsc::Receiver<Tick>), CallError> {
    let negotiated = sdp::accept(answer, description)?;
    port.flow(&negotiated)
        .map_err(|error| CallError::System(error.to_string()))
}

/// Waits for the answer. `None` where the caller gives up, else why there is none.
async fn ring(
    leg: &mut OutgoingLeg,
    microphone: &mut mpsc::Receiver<Vec<i16>>,
) -> Result<Vec<u8>, Option<String>> {
    loop {
        tokio::select! {
            event = leg.events.recv() => match event {
                Some(Event::Answered { sdp, .. }) => return Ok(sdp),
                Some(Event::Ended { cause, .. }) => return Err(Some(describe_end(&cause))),
                Some(_) => {}
                None => return Err(Some("SIP stopped".to_owned())),
            },
            // Nobody listens yet.
            said = microphone.recv() => if said.is_none() {
                return Err(None);
            },
        }
    }
}

/// Talks until the other side ends the call (why), or the caller does (`None`).
async fn talk(
    stream: MediaStream,
    mut ticks: mpsc::Receiver<Tick>,
    leg: &mut OutgoingLeg,
    microphone: &mut mpsc::Receiver<Vec<i16>>,
    notices: &mpsc::Sender<Noticed>,
) -> Option<String> {
    let answered = Instant::now();
    let mut waiting = Waiting::default();
    loop {
        tokio::select! {
            tick = ticks.recv() => {
                let Some(tick) = tick else {
                    return Some("media stopped".to_owned());
                };
                if tick.at.saturating_duration_since(answered) > LONGEST {
                    return None;
                }
                let played = tick.played.iter().filter(|played| played.finished).count();
                for (key, frame) in waiting.frames(played) {
                    stream.play(key, Sound::wide(frame), 0);
                }
                let heard = match &tick.heard_wide {
                    Some(wide) => wide.samples().to_vec(),
                    None => tick.heard.samples().to_vec(),
                };
                // A listener who is a second behind loses what they did not take.
                let _ = notices.try_send(Noticed::Heard(heard));
            }
            event = leg.events.recv() => match event {
                Some(Event::Ended { cause, .. }) => return Some(describe_end(&cause)),
                Some(_) => {}
                None => return Some("SIP stopped".to_owned()),
            },
            said = microphone.recv() => waiting.hear(&said?),
        }
    }
}

/// What was said and not sent yet: enough that no frame is missing, and never so much that what is
/// said comes late.
#[derive(Debug, Default)]
struct Waiting {
    samples: VecDeque<i16>,
    /// Frames that the media thread has.
    ahead: usize,
    flowing: Flowing,
    next: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Flowing {
    /// Until enough has come in that it will not stop at once.
    #[default]
    Gathering,
    Yes,
}

impl Waiting {
    fn hear(&mut self, samples: &[i16]) {
        self.samples.extend(samples);
        if self.samples.len() > MOST_WAITING {
            let late = self.samples.len() - ENOUGH_WAITING;
            self.samples.drain(..late);
        }
    }

    /// The frames to send now, after so many were.
    fn frames(&mut self, played: usize) -> Vec<(ClipKey, Vec<i16>)> {
        self.ahead = self.ahead.saturating_sub(played);
        if self.samples.len() >= ENOUGH_WAITING {
            self.flowing = Flowing::Yes;
        }
        let mut frames = Vec::new();
        while self.flowing == Flowing::Yes && self.ahead < AHEAD {
            if self.samples.len() < WIDE_FRAME_SAMPLES {
                if self.ahead == 0 {
                    self.flowing = Flowing::Gathering;
                }
                break;
            }
            let frame = self.samples.drain(..WIDE_FRAME_SAMPLES).collect();
            frames.push((ClipKey(self.next), frame));
            self.next += 1;
            self.ahead += 1;
        }
        frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: usize = WIDE_FRAME_SAMPLES;

    fn numbered(frames: std::ops::Range<i16>) -> Vec<i16> {
        frames.flat_map(|n| [n; FRAME]).collect()
    }

    fn numbers(frames: &[(ClipKey, Vec<i16>)]) -> Vec<i16> {
        frames.iter().map(|(_, frame)| frame[0]).collect()
    }

    #[test]
    fn speech_flows_two_frames_ahead_once_enough_has_come_in() {
        let mut waiting = Waiting::default();
        waiting.hear(&numbered(0..2));
        assert!(waiting.frames(0).is_empty(), "gathering");
        waiting.hear(&numbered(2..3));
        assert_eq!(numbers(&waiting.frames(0)), [0, 1]);
        assert!(waiting.frames(0).is_empty(), "nothing was sent yet");
        waiting.hear(&numbered(3..4));
        assert_eq!(numbers(&waiting.frames(1)), [2]);
        assert_eq!(numbers(&waiting.frames(1)), [3]);
    }

    #[test]
    fn after_a_gap_it_gathers_again() {
        let mut waiting = Waiting::default();
        waiting.hear(&numbered(0..3));
        assert_eq!(waiting.frames(0).len(), 2);
        assert_eq!(waiting.frames(2).len(), 1);
        assert!(waiting.frames(1).is_empty(), "nothing more was said");
        waiting.hear(&numbered(3..4));
        assert!(waiting.frames(0).is_empty(), "gathering");
        waiting.hear(&numbered(4..6));
        assert_eq!(numbers(&waiting.frames(0)), [3, 4]);
    }

    #[test]
    fn a_fast_microphone_never_makes_speech_late() {
        let mut waiting = Waiting::default();
        for n in 0..200 {
            waiting.hear(&numbered(n..n + 1));
            waiting.hear(&numbered(n..n + 1));
            for (_, frame) in waiting.frames(1) {
                assert!(n - frame[0] <= 12, "frame {} at {n}", frame[0]);
            }
            assert!(waiting.samples.len() <= MOST_WAITING);
        }
    }
}
