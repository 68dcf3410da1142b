//! A call in which a whole recording is said as it was, whatever the other side says meanwhile.

use std::time::{Duration, Instant};

use crate::audio::Sound;
use crate::audio::level::AUDIBLE_DBFS;
use crate::net::media::{ClipKey, Tick};

use super::{CallError, describe_end, dial, hang_up};

/// The one clip.
const RECORDING: ClipKey = ClipKey(0);

/// After the recording the other side may answer for so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// Calls `target`, plays `recording` from the first packet on, and hangs up when the other side has
/// been quiet for `quiet` after it. Says why the call ended where the other side ended it.
///
/// # Errors
/// Where it could not be made or was not answered.
pub async fn recite(
    target: &str,
    recording: Sound,
    quiet: Duration,
) -> Result<Option<String>, CallError> {
    let mut line = dial(target, None, None).await?;
    line.stream.play(RECORDING, recording, 0);
    let mut recital = Recital::new(quiet);
    let ended = loop {
        tokio::select! {
            tick = line.ticks.recv() => match tick {
                Some(tick) => if recital.is_over(&tick) {
                    break None;
                },
                None => break Some("media stopped".to_owned()),
            },
            event = line.leg.events.recv() => match event {
                Some(super::Event::Ended { cause, .. }) => break Some(describe_end(&cause)),
                Some(_) => {}
                None => break Some("SIP stopped".to_owned()),
            },
        }
    };
    if ended.is_none() {
        hang_up(&line.sip, &mut line.leg).await;
    }
    Ok(ended)
}

/// When to hang up.
struct Recital {
    quiet: Duration,
    /// The recording was played to its end then.
    said: Option<Instant>,
    last_heard: Option<Instant>,
}

impl Recital {
    fn new(quiet: Duration) -> Self {
        Self {
            quiet,
            said: None,
            last_heard: None,
        }
    }

    fn is_over(&mut self, tick: &Tick) -> bool {
        let audible = |at: &&crate::net::media::Arrival| at.level_dbfs > AUDIBLE_DBFS;
        let heard = tick.arrivals.iter().rev().find(audible);
        self.last_heard = heard.map(|arrival| arrival.at).or(self.last_heard);
        if tick.played.iter().any(|played| played.finished) {
            self.said.get_or_insert(tick.at);
        }
        let Some(said) = self.said else {
            return false;
        };
        let since = self.last_heard.map_or(said, |heard| heard.max(said));
        let quiet = tick.at.saturating_duration_since(since) >= self.quiet;
        quiet || tick.at.saturating_duration_since(said) >= PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::Frame;
    use crate::net::media::{Arrival, Played};

    fn tick(at: Instant, level_dbfs: f32, finished: bool) -> Tick {
        let played = Played {
            clip: RECORDING,
            samples: 0,
            finished,
        };
        Tick {
            index: 0,
            at,
            heard: Frame::SILENCE,
            heard_wide: None,
            spoken: Frame::SILENCE,
            arrivals: vec![Arrival { at, level_dbfs }],
            played: vec![played],
            digits: Vec::new(),
        }
    }

    #[test]
    fn it_is_over_when_the_answer_to_the_last_words_is() {
        let start = Instant::now();
        let mut recital = Recital::new(Duration::from_secs(3));
        let mut over = |second, level, finished| {
            recital.is_over(&tick(start + Duration::from_secs(second), level, finished))
        };
        assert!(!over(0, -20.0, false));
        assert!(!over(60, -90.0, false), "the caller still speaks");
        assert!(!over(61, -90.0, true));
        assert!(!over(63, -20.0, false), "an answer");
        assert!(!over(65, -90.0, false));
        assert!(over(66, -90.0, false));
    }

    #[test]
    fn an_answer_without_end_is_cut_off() {
        let start = Instant::now();
        let mut recital = Recital::new(Duration::from_secs(3));
        assert!(!recital.is_over(&tick(start, -20.0, true)));
        let later = start + PATIENCE;
        assert!(recital.is_over(&tick(later, -20.0, false)));
    }
}
