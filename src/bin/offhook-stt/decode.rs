//! Greedy decoding under rules, one token at a time.
//!
//! ```text
//!   prompt ─► step ─► forbid ─► pick ─┬─ text ──────────► repeats itself? ─► cut the tail, stop
//!               ▲                     ├─ timestamp ─────► speech is over?  ─► stop
//!               │                     └─ end of text ───────────────────────► stop
//!               └───── next token ◄── none of these, not cancelled, within the bounds
//! ```
//!
//! Trimmed to the length of the speech, Whisper's context lacks the silence that it learned to
//! end on: it starts again from the beginning, or circles in one phrase. So the end of the speech
//! is told to it: a segment that closes where the speech ends is the last one, and no timestamp
//! lies beyond it.

use crate::language::Languages;
use crate::whisper::{SpecialTokens, Token, Whisper, WhisperError};

/// Longest phrase, in tokens, that is looked for twice in a row.
const LONGEST_PERIOD: usize = 24;
/// Timestamps count in steps of 20 ms.
const TIMESTAMPS_PER_SECOND: f32 = 50.0;
/// The first segment starts at most this late, in seconds.
const LATEST_START: f32 = 1.0;
/// Probability mass that whatever is forbidden has.
const FORBIDDEN: f32 = f32::NEG_INFINITY;

/// Where logits come from.
pub(crate) trait NextToken {
    /// Feeds tokens behind the first `past` ones and returns the logits of the one that follows.
    fn next_token(&mut self, tokens: &[Token], past: usize) -> Result<&[f32], WhisperError>;
}

impl NextToken for Whisper {
    fn next_token(&mut self, tokens: &[Token], past: usize) -> Result<&[f32], WhisperError> {
        self.step(tokens, past)
    }
}

/// What of the vocabulary is never spoken.
pub(crate) struct Vocabulary {
    special: SpecialTokens,
    /// Tokens that stand for sounds and typography: `[`, `♪`, `((`.
    not_speech: Vec<Token>,
    blank: Option<Token>,
    /// All text tokens that are no figures.
    not_figures: Vec<Token>,
    pieces: Vec<Vec<u8>>,
}

impl Vocabulary {
    /// Reads a model's vocabulary.
    pub(crate) fn new(special: &SpecialTokens, pieces: &[Vec<u8>]) -> Self {
        let is_text = |at: usize| Token::try_from(at).is_ok_and(|token| token < special.end);
        let find = |wanted: &[u8]| {
            let at = pieces.iter().position(|piece| piece == wanted)?;
            is_text(at).then(|| Token::try_from(at).ok()).flatten()
        };
        let all_text = |wanted: fn(&[u8]) -> bool| -> Vec<Token> {
            let pieces = pieces.iter().enumerate();
            let found = pieces.filter(|(at, piece)| is_text(*at) && wanted(piece));
            found
                .filter_map(|(at, _)| Token::try_from(at).ok())
                .collect()
        };
        Self {
            special: special.clone(),
            not_speech: all_text(is_not_speech),
            blank: find(b" "),
            not_figures: all_text(|piece| !is_figures(piece)),
            pieces: pieces.to_vec(),
        }
    }

    /// The tokens that are no text.
    pub(crate) fn special(&self) -> &SpecialTokens {
        &self.special
    }

    fn is_text(&self, token: Token) -> bool {
        token < self.special.end
    }

    fn is_timestamp(&self, token: Token) -> bool {
        token >= self.special.first_timestamp
    }

    /// Seconds of a timestamp.
    fn seconds(&self, token: Token) -> f32 {
        (token - self.special.first_timestamp) as f32 / TIMESTAMPS_PER_SECOND
    }

    /// The text of tokens; what is no text is left out.
    pub(crate) fn text(&self, tokens: impl IntoIterator<Item = Token>) -> String {
        let mut bytes = Vec::new();
        for token in tokens.into_iter().filter(|token| self.is_text(*token)) {
            let piece = usize::try_from(token)
                .ok()
                .and_then(|at| self.pieces.get(at));
            bytes.extend_from_slice(piece.map_or(&[], Vec::as_slice));
        }
        String::from_utf8_lossy(&bytes).trim().to_owned()
    }
}

/// OpenAI's list of what annotates rather than transcribes, without its parentheses of several
/// characters, which begin with one of these.
fn is_not_speech(piece: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(piece) else {
        return false;
    };
    let text = text.strip_prefix(' ').unwrap_or(text);
    let marks = "\"#()*+/:;<=>@[\\]^_`{|}~「」『』♩♪♫♬♭♮♯";
    let dash = text == "-" || text == "'";
    (dash && piece.first() == Some(&b' '))
        || (!text.is_empty()
            && text
                .chars()
                .all(|c| marks.contains(c) || c == '-' && text.len() > 1))
}

/// A digit or two, or what stands between them in a number that was read out.
fn is_figures(piece: &[u8]) -> bool {
    let piece = piece.strip_prefix(b" ").unwrap_or(piece);
    matches!(piece, b"," | b"." | b"-")
        || (1..=2).contains(&piece.len()) && piece.iter().all(u8::is_ascii_digit)
}

/// Bounds of one decode.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Where the speech ends, in seconds; no timestamp is later than this and [`Rules::slack`].
    pub(crate) speech_end: f32,
    /// A segment that closes less than this before the end of the speech is the last.
    pub(crate) slack: f32,
    /// Most tokens of the transcript.
    pub(crate) max_tokens: usize,
    /// What may be said.
    pub(crate) alphabet: Alphabet,
}

/// What may be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alphabet {
    /// Anything.
    Words,
    /// Figures, with the marks that stand between them.
    Figures,
}

/// Why a decode ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The model ended it.
    End,
    /// A segment closed where the speech ends.
    SpeechEnd,
    /// A phrase came again and again; it was cut.
    Repetition,
    /// Too many tokens for so little audio.
    Limit,
    /// Nobody wants it any more.
    Cancelled,
}

/// What a decode came to.
#[derive(Clone, Debug)]
pub(crate) struct Decoded {
    /// All tokens, timestamps included, behind the prompt.
    pub(crate) tokens: Vec<Token>,
    /// Mean log-probability of the text tokens; 0 where there are none.
    pub(crate) mean_log_probability: f32,
    /// Probability that there is no speech at all.
    pub(crate) no_speech_probability: f32,
    /// In which language it was said.
    pub(crate) languages: Languages,
    /// Why it ended.
    pub(crate) ending: Ending,
}

/// Decodes behind `prompt`, which ends with the task tokens. `cancelled` is asked before each
/// token.
pub(crate) fn decode(
    model: &mut impl NextToken,
    vocabulary: &Vocabulary,
    prompt: &[Token],
    rules: &Rules,
    cancelled: &dyn Fn() -> bool,
) -> Result<Decoded, WhisperError> {
    let mut search = Search::new(vocabulary, rules);
    // Whether there is speech, and in which language, is said right behind the start, before
    // language and task, which an English-only model does not have.
    let start = prompt
        .iter()
        .position(|token| *token == vocabulary.special.start);
    let (head, task) = prompt.split_at(start.map_or(prompt.len(), |at| at + 1));
    let logits = model.next_token(head, 0)?;
    search.no_speech = probability_of(logits, vocabulary.special.no_speech);
    search.languages = Languages::of(logits, &vocabulary.special.languages);
    let mut past = head.len();
    let mut feed = task.to_vec();
    let mut token = task.is_empty().then(|| search.pick(logits));
    let ending = loop {
        if let Some(token) = token {
            if let Some(ending) = search.ending(token) {
                break ending;
            }
            feed = vec![token];
        }
        if cancelled() {
            break Ending::Cancelled;
        }
        let logits = model.next_token(&feed, past)?;
        past += feed.len();
        token = Some(search.pick(logits));
    };
    Ok(search.finish(ending))
}

struct Search<'a> {
    vocabulary: &'a Vocabulary,
    rules: &'a Rules,
    logits: Vec<f32>,
    tokens: Vec<Token>,
    scores: Vec<f32>,
    no_speech: f32,
    languages: Languages,
}

impl<'a> Search<'a> {
    fn new(vocabulary: &'a Vocabulary, rules: &'a Rules) -> Self {
        Self {
            vocabulary,
            rules,
            logits: Vec::new(),
            tokens: Vec::new(),
            scores: Vec::new(),
            no_speech: 0.0,
            languages: Languages::default(),
        }
    }

    /// Chooses the next token and keeps it.
    fn pick(&mut self, logits: &[f32]) -> Token {
        self.logits.clear();
        self.logits.extend_from_slice(logits);
        self.forbid();
        // What the figures are measured against: a number heard where words are likelier is
        // unlikely as a whole.
        let everything = log_sum_exp(&self.logits);
        if self.rules.alphabet == Alphabet::Figures {
            for token in &self.vocabulary.not_figures {
                forbid_range(&mut self.logits, *token, *token + 1);
            }
        }
        let special = &self.vocabulary.special;
        let first_timestamp = usize::try_from(special.first_timestamp).unwrap_or(usize::MAX);
        let split = first_timestamp.min(self.logits.len());
        let (text, times) = self.logits.split_at(split);
        let (best_text, text_logit) = maximum(text);
        let (best_time, _) = maximum(times);
        let time_mass = log_sum_exp(times);
        // As OpenAI's: a timestamp is due where all of them together outweigh the best text.
        let (at, score) = if time_mass > text_logit {
            (split + best_time, time_mass - everything)
        } else {
            (best_text, text_logit - everything)
        };
        let token = Token::try_from(at).unwrap_or(special.end);
        self.tokens.push(token);
        self.scores.push(score);
        token
    }

    /// Takes what may not come next out of the logits.
    fn forbid(&mut self) {
        let special = &self.vocabulary.special;
        for token in &self.vocabulary.not_speech {
            forbid_range(&mut self.logits, *token, *token + 1);
        }
        // Everything between the end of text and the timestamps steers, it is not said.
        forbid_range(&mut self.logits, special.end + 1, special.first_timestamp);
        if let Some(blank) = self.vocabulary.blank
            && !self
                .tokens
                .iter()
                .any(|token| self.vocabulary.is_text(*token))
        {
            forbid_range(&mut self.logits, blank, blank + 1);
        }
        let all = Token::try_from(self.logits.len()).unwrap_or(Token::MAX);
        let last = (self.rules.speech_end + self.rules.slack) * TIMESTAMPS_PER_SECOND;
        forbid_range(
            &mut self.logits,
            special.first_timestamp + 1 + last as Token,
            all,
        );
        self.forbid_by_order(all);
    }

    /// Timestamps come in pairs, except before the end, and never go back.
    fn forbid_by_order(&mut self, all: Token) {
        let vocabulary = self.vocabulary;
        let special = &vocabulary.special;
        let is_time = |token: Option<&Token>| token.is_none_or(|t| vocabulary.is_timestamp(*t));
        let mut newest_first = self.tokens.iter().rev();
        let (last, before) = (newest_first.next(), newest_first.next());
        if last.is_none() {
            let latest = special.first_timestamp + (LATEST_START * TIMESTAMPS_PER_SECOND) as Token;
            forbid_range(&mut self.logits, 0, special.first_timestamp);
            forbid_range(&mut self.logits, latest + 1, all);
        } else if is_time(last) {
            if is_time(before) {
                forbid_range(&mut self.logits, special.first_timestamp, all);
            } else {
                forbid_range(&mut self.logits, 0, special.end);
            }
        }
        let mut times = self
            .tokens
            .iter()
            .rev()
            .filter(|t| vocabulary.is_timestamp(**t));
        if let Some(latest) = times.next() {
            forbid_range(&mut self.logits, special.first_timestamp, *latest);
        }
    }

    /// Whether the token just picked is the last.
    fn ending(&mut self, token: Token) -> Option<Ending> {
        if token == self.vocabulary.special.end {
            self.tokens.pop();
            return Some(Ending::End);
        }
        if self.vocabulary.is_timestamp(token) {
            let closes = self.tokens.len() > 1;
            let over = self.vocabulary.seconds(token) > self.rules.speech_end - self.rules.slack;
            return (closes && over).then_some(Ending::SpeechEnd);
        }
        if let Some(keep) = repetition(&self.tokens, |token| self.vocabulary.is_text(token)) {
            self.tokens.truncate(keep);
            self.scores.truncate(keep);
            return Some(Ending::Repetition);
        }
        (self.tokens.len() >= self.rules.max_tokens).then_some(Ending::Limit)
    }

    fn finish(self, ending: Ending) -> Decoded {
        let scored = self.tokens.iter().zip(&self.scores);
        let text = scored.filter(|(token, _)| self.vocabulary.is_text(**token));
        let text: Vec<f32> = text.map(|(_, score)| *score).collect();
        let mean = if text.is_empty() {
            0.0
        } else {
            text.iter().sum::<f32>() / text.len() as f32
        };
        Decoded {
            tokens: self.tokens,
            mean_log_probability: mean,
            no_speech_probability: self.no_speech,
            languages: self.languages,
            ending,
        }
    }
}

/// Where tokens end in a phrase said too often in a row: how many to keep, so that it stays once.
/// Digits may repeat (555 5555), and people do say a thing twice; hence the shorter the phrase,
/// the more often.
pub(crate) fn repetition(tokens: &[Token], is_text: impl Fn(Token) -> bool) -> Option<usize> {
    (1..=LONGEST_PERIOD).find_map(|period| {
        let times = match period {
            1 => 9,
            2 => 8,
            3 => 5,
            4 | 5 => 4,
            6..=9 => 3,
            _ => 2,
        };
        let length = period * times;
        let start = tokens.len().checked_sub(length)?;
        let tail = &tokens[start..];
        let same = tail.iter().zip(&tail[period..]).all(|(a, b)| a == b);
        let worded = tail[..period].iter().any(|token| is_text(*token));
        (same && worded).then_some(start + period)
    })
}

fn forbid_range(logits: &mut [f32], from: Token, to: Token) {
    let from = usize::try_from(from).unwrap_or(0).min(logits.len());
    let to = usize::try_from(to).unwrap_or(0).clamp(from, logits.len());
    logits[from..to].fill(FORBIDDEN);
}

fn maximum(logits: &[f32]) -> (usize, f32) {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.map_or((0, FORBIDDEN), |(at, logit)| (at, *logit))
}

pub(crate) fn log_sum_exp(logits: &[f32]) -> f32 {
    let highest = logits.iter().copied().fold(FORBIDDEN, f32::max);
    if highest == FORBIDDEN {
        return FORBIDDEN;
    }
    highest
        + logits
            .iter()
            .map(|logit| (logit - highest).exp())
            .sum::<f32>()
            .ln()
}

fn probability_of(logits: &[f32], token: Token) -> f32 {
    let logit = usize::try_from(token)
        .ok()
        .and_then(|at| logits.get(at))
        .copied();
    logit.map_or(0.0, |logit| (logit - log_sum_exp(logits)).exp())
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
