//! One thing that the assistant says: clauses on their way from text to played audio.
//!
//! ```text
//!  Waiting ──Speak──► Asked ──ClauseReady──► Ready ──Play──► Sent ──finished──► Played
//!     ▲                 │                      ▲               │
//!     └─ failed once ───┤                      └─ stopped ─────┘
//!                       └─ failed twice ──► Lost
//! ```

use crate::ids::{Generation, TurnNumber};
use crate::record::TurnLedger;

use super::api::{CallTime, ClipId, ClipLength, PhraseKind, SAMPLES_PER_MS, TransferTo};
use super::speakable::speakable;
use super::speech_text::ClauseCutter;

/// A reply of more clauses than this has run away; the rest is not said.
pub(super) const MOST_CLAUSES: usize = 200;

/// People answer a question before its end, by up to this, in ms.
const QUESTION_TAIL_MS: u64 = 1200;
/// The same for what is no question.
const TAIL_MS: u64 = 400;

/// What is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SpeechKind {
    /// The first message, prepared or made by the model.
    Greeting,
    /// An answer.
    Reply,
    /// A fixed phrase.
    Phrase(PhraseKind),
    /// That the caller is put through, who then is.
    Announcement(TransferTo),
    /// The operator's words; then perhaps the call ends.
    Operator { end_call: bool },
}

/// Where the text comes from.
#[derive(Debug)]
pub(super) enum Text {
    /// The model is to be asked (again).
    Wanted,
    /// The model writes it.
    Streaming {
        generation: Generation,
        cutter: ClauseCutter,
    },
    /// There is no more.
    Complete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClauseState {
    /// To be synthesised.
    Waiting,
    /// Being synthesised.
    Asked { generation: Generation },
    /// Synthesised, not given to the driver to play (any more).
    Ready { clip: ClipId, length: ClipLength },
    /// Given to the driver to play.
    Sent { clip: ClipId, length: ClipLength },
    /// Played to its end.
    Played,
    /// It cannot be synthesised.
    Lost,
}

#[derive(Debug)]
pub(super) struct Clause {
    pub(super) text: String,
    pub(super) state: ClauseState,
    /// Samples played so far.
    pub(super) played: u32,
    /// Failed attempts.
    pub(super) failures: u32,
}

impl Clause {
    fn new(text: String, state: ClauseState) -> Self {
        Self {
            text,
            state,
            played: 0,
            failures: 0,
        }
    }

    fn length(&self) -> Option<ClipLength> {
        match self.state {
            ClauseState::Ready { length, .. } | ClauseState::Sent { length, .. } => Some(length),
            ClauseState::Waiting
            | ClauseState::Asked { .. }
            | ClauseState::Played
            | ClauseState::Lost => None,
        }
    }

    /// Where to start it: at the word that was not heard whole.
    pub(super) fn resume_at(&self, language: &str) -> u32 {
        match self.length() {
            Some(length) if self.played > 0 => resume_at(&self.text, self.played, length, language),
            Some(_) | None => 0,
        }
    }

    /// The words that were played.
    pub(super) fn heard(&self, language: &str) -> String {
        match (self.state, self.length()) {
            (ClauseState::Played, _) => self.text.clone(),
            (_, Some(length)) => {
                let count = words_heard(&self.text, self.played, length, language);
                let words: Vec<&str> = self.text.split_whitespace().take(count).collect();
                words.join(" ")
            }
            (_, None) => String::new(),
        }
    }
}

/// How long each word takes, in letters as said.
fn weights<'a>(text: &'a str, language: &'a str) -> impl Iterator<Item = u64> + 'a {
    text.split_whitespace()
        .map(move |word| speakable(word, language).chars().count() as u64 + 1)
}

fn span(length: ClipLength) -> u64 {
    u64::from(length.samples.saturating_sub(length.audible_from)).max(1)
}

/// How many of the text's words are within the first `played` samples of its audio.
fn words_heard(text: &str, played: u32, length: ClipLength, language: &str) -> usize {
    let total: u64 = weights(text, language).sum();
    let sounded = u64::from(played.saturating_sub(length.audible_from));
    let ends = weights(text, language).scan(0, |end, weight| {
        *end += weight;
        Some(*end)
    });
    ends.take_while(|end| end * span(length) <= sounded * total)
        .count()
}

/// The sample at which the first word begins that was not heard whole.
fn resume_at(text: &str, played: u32, length: ClipLength, language: &str) -> u32 {
    let total: u64 = weights(text, language).sum::<u64>().max(1);
    let heard = words_heard(text, played, length, language);
    let before: u64 = weights(text, language).take(heard).sum();
    // A word begins after its predecessor's end, so this is never beyond what was played.
    let offset = u32::try_from(before * span(length) / total).unwrap_or(u32::MAX);
    if heard == 0 {
        0
    } else {
        length.audible_from.saturating_add(offset).min(played)
    }
}

#[derive(Debug)]
pub(super) struct Speech {
    pub(super) kind: SpeechKind,
    pub(super) text: Text,
    pub(super) clauses: Vec<Clause>,
    /// The turn's, unless another speech has it.
    pub(super) ledger: Option<TurnLedger>,
    pub(super) turn: TurnNumber,
    /// It may play.
    pub(super) committed: bool,
    /// The call ends after it.
    pub(super) ends_call: bool,
    /// Failed attempts to get its text.
    pub(super) failures: u32,
    /// The rest of it was given up.
    pub(super) abandoned: bool,
    /// Every generation with work or audio of it.
    pub(super) generations: Vec<Generation>,
    pub(super) first_sound: Option<CallTime>,
    pub(super) last_sound: Option<CallTime>,
}

impl Speech {
    fn new(kind: SpeechKind, turn: TurnNumber, text: Text, clauses: Vec<Clause>) -> Self {
        Self {
            kind,
            text,
            clauses,
            ledger: None,
            turn,
            committed: true,
            ends_call: false,
            failures: 0,
            abandoned: false,
            generations: Vec::new(),
            first_sound: None,
            last_sound: None,
        }
    }

    /// Text that the model is to write.
    pub(super) fn from_model(kind: SpeechKind, turn: TurnNumber) -> Self {
        Self::new(kind, turn, Text::Wanted, Vec::new())
    }

    /// A text that is known. `prepared` is its audio, where there is some.
    pub(super) fn fixed(
        kind: SpeechKind,
        turn: TurnNumber,
        text: &str,
        prepared: Option<(ClipId, ClipLength)>,
    ) -> Self {
        let clauses = match prepared {
            Some((clip, length)) => {
                vec![Clause::new(
                    text.to_owned(),
                    ClauseState::Ready { clip, length },
                )]
            }
            None => {
                let mut cutter = ClauseCutter::new();
                let mut texts = cutter.push(text);
                texts.extend(cutter.finish());
                texts.truncate(MOST_CLAUSES);
                texts
                    .into_iter()
                    .map(|text| Clause::new(text, ClauseState::Waiting))
                    .collect()
            }
        };
        Self::new(kind, turn, Text::Complete, clauses)
    }

    /// The turn's ledger, to note times in.
    pub(super) fn note(&mut self) -> Option<&mut TurnLedger> {
        self.ledger.as_mut()
    }

    pub(super) fn add_clauses(&mut self, texts: Vec<String>) {
        let room = MOST_CLAUSES.saturating_sub(self.clauses.len());
        let clauses = texts.into_iter().take(room);
        self.clauses
            .extend(clauses.map(|text| Clause::new(text, ClauseState::Waiting)));
    }

    /// The model is writing it under this generation.
    pub(super) fn is_written_by(&self, generation: Generation) -> bool {
        matches!(self.text, Text::Streaming { generation: own, .. } if own == generation)
    }

    /// The model has not begun to write it.
    pub(super) fn is_unwritten(&self) -> bool {
        let begun = self
            .ledger
            .as_ref()
            .is_some_and(|ledger| ledger.first_token_ms.is_some());
        match self.text {
            Text::Wanted | Text::Streaming { .. } => !begun,
            Text::Complete => false,
        }
    }

    /// The clause that is being synthesised under this generation.
    pub(super) fn asked(&mut self, generation: Generation, index: u32) -> Option<&mut Clause> {
        let clause = self.clauses.get_mut(index as usize)?;
        (clause.state == ClauseState::Asked { generation }).then_some(clause)
    }

    /// The clause whose clip the driver was given, or was given before it was stopped.
    pub(super) fn playing(&mut self, clip: ClipId) -> Option<&mut Clause> {
        self.clauses.iter_mut().find(|clause| match clause.state {
            ClauseState::Sent { clip: own, .. } => own == clip,
            // Late news of a clip that was stopped.
            ClauseState::Ready { clip: own, .. } => own == clip && clause.played > 0,
            ClauseState::Waiting
            | ClauseState::Asked { .. }
            | ClauseState::Played
            | ClauseState::Lost => false,
        })
    }

    /// Clips that the driver has and has not finished.
    pub(super) fn sent(&self) -> usize {
        self.clauses
            .iter()
            .filter(|clause| matches!(clause.state, ClauseState::Sent { .. }))
            .count()
    }

    /// Clauses whose audio is asked for or waits to be played.
    pub(super) fn ahead(&self) -> usize {
        let ahead = |clause: &&Clause| {
            matches!(
                clause.state,
                ClauseState::Asked { .. } | ClauseState::Ready { .. }
            )
        };
        self.clauses.iter().filter(ahead).count()
    }

    /// The driver forgot every clip that it was given.
    pub(super) fn stopped(&mut self) {
        for clause in &mut self.clauses {
            if let ClauseState::Sent { clip, length } = clause.state {
                clause.state = match clause.played >= length.samples {
                    true => ClauseState::Played,
                    false => ClauseState::Ready { clip, length },
                };
            }
        }
    }

    /// All that there is was played.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.text, Text::Complete)
            && self
                .clauses
                .iter()
                .all(|clause| matches!(clause.state, ClauseState::Played | ClauseState::Lost))
    }

    /// Something of it was heard.
    pub(super) fn was_heard(&self) -> bool {
        self.first_sound.is_some()
    }

    /// The words that were played.
    pub(super) fn heard(&self, language: &str) -> String {
        let clauses = self.clauses.iter().map(|clause| clause.heard(language));
        clauses
            .filter(|words| !words.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// The clauses so far, played or not.
    pub(super) fn written(&self) -> String {
        let clauses: Vec<&str> = self
            .clauses
            .iter()
            .map(|clause| clause.text.as_str())
            .collect();
        clauses.join(" ")
    }

    /// The caller hears nothing because the model or the voice has not delivered.
    pub(super) fn starves(&self) -> bool {
        let at_the_voice = self.clauses.iter().find_map(|clause| match clause.state {
            ClauseState::Waiting | ClauseState::Asked { .. } => Some(true),
            ClauseState::Ready { .. } | ClauseState::Sent { .. } => Some(false),
            ClauseState::Played | ClauseState::Lost => None,
        });
        at_the_voice.unwrap_or(!matches!(self.text, Text::Complete))
    }

    /// So little is left that whatever the caller says is an answer to it.
    pub(super) fn is_nearly_said(&self) -> bool {
        let Some((last, before)) = self.clauses.split_last() else {
            return false;
        };
        let all_else = matches!(self.text, Text::Complete)
            && before
                .iter()
                .all(|clause| clause.state == ClauseState::Played);
        let patience = match last.text.ends_with('?') {
            true => QUESTION_TAIL_MS,
            false => TAIL_MS,
        };
        let left = match (last.state, last.length()) {
            (ClauseState::Played, _) => 0,
            (_, Some(length)) => u64::from(length.samples.saturating_sub(last.played)),
            (_, None) => return false,
        };
        all_else && left <= patience * SAMPLES_PER_MS
    }

    /// Something failed in it.
    pub(super) fn has_failed(&self) -> bool {
        self.failures > 0 || self.clauses.iter().any(|clause| clause.failures > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: ClipLength = ClipLength {
        samples: 8000,
        audible_from: 0,
    };

    fn heard(text: &str, played: u32) -> String {
        let clip = ClipId::Phrase(PhraseKind::Greeting);
        let state = ClauseState::Sent {
            clip,
            length: SECOND,
        };
        Clause {
            played,
            ..Clause::new(text.to_owned(), state)
        }
        .heard("en")
    }

    #[test]
    fn only_words_played_whole_were_heard() {
        let text = "aaaa bbbb cccc dddd";
        assert_eq!(heard(text, 0), "");
        assert_eq!(heard(text, 1999), "");
        assert_eq!(heard(text, 2000), "aaaa");
        assert_eq!(heard(text, 5000), "aaaa bbbb");
        assert_eq!(heard(text, 8000), text);
        assert_eq!(heard(text, 9000), text);
    }

    #[test]
    fn a_number_takes_as_long_as_its_words() {
        assert_eq!(heard("1234567 now", 6000), "");
        assert_eq!(heard("1234567 now", 7500), "1234567");
    }

    #[test]
    fn silence_before_the_first_word_is_no_word() {
        let length = ClipLength {
            samples: 8000,
            audible_from: 4000,
        };
        assert_eq!(words_heard("aaaa bbbb", 4000, length, "en"), 0);
        assert_eq!(words_heard("aaaa bbbb", 6000, length, "en"), 1);
        assert_eq!(resume_at("aaaa bbbb", 7000, length, "en"), 6000);
    }

    #[test]
    fn speech_goes_on_at_the_start_of_the_word_that_was_cut() {
        assert_eq!(resume_at("aaaa bbbb cccc dddd", 1000, SECOND, "en"), 0);
        assert_eq!(resume_at("aaaa bbbb cccc dddd", 5900, SECOND, "en"), 4000);
        assert_eq!(resume_at("", 5900, SECOND, "en"), 0);
    }
}
