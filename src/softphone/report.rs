//! What a test call found, for people and for programs.

use std::fmt;
use std::time::Instant;

use serde::Serialize;

use super::script::Event;

/// A finished test call. Times are ms from the answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// What was called.
    pub target: String,
    /// SIP Call-ID is kept by the server; this is the codec in use.
    pub codec: String,
    /// From INVITE to 200.
    pub setup_ms: u64,
    /// From the answer to the first audible packet.
    pub greeting_ms: Option<u64>,
    /// One for each line said.
    pub lines: Vec<LineReport>,
    /// Why the call ended, from this side.
    pub ended: String,
    /// Length of the call.
    pub duration_ms: u64,
}

/// One line and what followed it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LineReport {
    /// The file or text.
    pub line: String,
    /// First packet.
    pub began_ms: Option<u64>,
    /// Last frame of the clean line above -45 dBFS.
    pub ended_ms: Option<u64>,
    /// First audible packet of the reply itself.
    pub reply_ms: Option<u64>,
    /// First audible packet of a filler or holding phrase before it.
    pub holding_ms: Option<u64>,
    /// Last audible packet.
    pub reply_ended_ms: Option<u64>,
    /// `reply_ms - ended_ms`.
    pub voice_to_voice_ms: Option<u64>,
    /// The caller spoke over the reply at this time.
    pub interrupted_ms: Option<u64>,
}

/// What began at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Began {
    /// The reply itself.
    Reply,
    /// A known phrase, and the reply after it where one came.
    Holding { then: Option<Instant> },
}

pub(super) fn lines(
    names: &[String],
    events: &[Event],
    answered: Instant,
    what: &dyn Fn(Instant) -> Began,
) -> Vec<LineReport> {
    let ms = |at: Instant| {
        u64::try_from(at.saturating_duration_since(answered).as_millis()).unwrap_or(u64::MAX)
    };
    let mut lines: Vec<LineReport> = names
        .iter()
        .map(|name| LineReport {
            line: name.clone(),
            ..LineReport::default()
        })
        .collect();
    let next_line = |after: usize| {
        events.iter().find_map(|event| match event {
            Event::LineBegan(line, at) if *line == after + 1 => Some(*at),
            _ => None,
        })
    };
    for event in events {
        match event {
            Event::LineBegan(line, at) => lines[*line].began_ms = Some(ms(*at)),
            Event::LineEnded(line, at) => lines[*line].ended_ms = Some(ms(*at)),
            Event::AnswerBegan(line, at) => {
                let report = &mut lines[*line];
                if report.reply_ms.is_some() {
                    continue;
                }
                match what(*at) {
                    Began::Reply => report.reply_ms = Some(ms(*at)),
                    Began::Holding { then } => {
                        report.holding_ms.get_or_insert(ms(*at));
                        let its_own = |at: &Instant| next_line(*line).is_none_or(|next| *at < next);
                        report.reply_ms = then.filter(its_own).map(ms);
                    }
                }
            }
            Event::AnswerEnded(line, at) => lines[*line].reply_ended_ms = Some(ms(*at)),
            Event::Interrupted(line, at) => lines[*line].interrupted_ms = Some(ms(*at)),
            Event::GreetingBegan(_) | Event::NoAnswer(..) => {}
        }
    }
    for line in &mut lines {
        line.voice_to_voice_ms = line
            .reply_ms
            .zip(line.ended_ms)
            .map(|(reply, ended)| reply.saturating_sub(ended));
    }
    lines
}

pub(super) fn greeting(events: &[Event], answered: Instant) -> Option<u64> {
    events.iter().find_map(|event| match event {
        Event::GreetingBegan(at) => {
            let since = at.saturating_duration_since(answered);
            Some(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
        }
        _ => None,
    })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "called {} ({}), answered after {} ms",
            self.target, self.codec, self.setup_ms
        )?;
        match self.greeting_ms {
            Some(ms) => writeln!(f, "{ms:>8} ms  greeting begins")?,
            None => writeln!(f, "             no greeting was heard")?,
        }
        for line in &self.lines {
            at(f, line.began_ms, &format!("you: {}", line.line))?;
            at(f, line.ended_ms, "you have finished")?;
            at(f, line.holding_ms, "a holding phrase begins")?;
            match line.voice_to_voice_ms {
                Some(ms) => at(
                    f,
                    line.reply_ms,
                    &format!("the reply begins: {ms} ms voice to voice"),
                )?,
                None => at(f, line.ended_ms, "no reply was heard")?,
            }
            at(f, line.interrupted_ms, "you speak over it")?;
            at(f, line.reply_ended_ms, "the reply has ended")?;
        }
        write!(f, "{:>8} ms  {}", self.duration_ms, self.ended)
    }
}

fn at(f: &mut fmt::Formatter<'_>, ms: Option<u64>, what: &str) -> fmt::Result {
    match ms {
        Some(ms) => writeln!(f, "{ms:>8} ms  {what}"),
        None => Ok(()),
    }
}
