//! Which stretch of the caller's speech is transcribed when, and what its words set going.
//!
//! ```text
//!  caller    speaking ────────────────► short silence ──► turn over
//!               │ every partialSeconds      │                 │
//!               ▼                           ▼                 ▼
//!  asked     Partial (only if idle)    Turn, speculative   Turn, waited for
//!               │                           │
//!               ▼                           ▼
//!  then      the model reads ahead;    the reply is written and its first clause spoken,
//!            an interruption is one    heard only if the turn stands
//! ```

use std::time::Instant;

use crate::ids::{Generation, TurnNumber};
use crate::record::TurnLedger;

use super::Conversation;
use super::api::{AudioRange, ChatRole, Output, Progress, SamplePosition, Transcript, Urgency};
use super::evidence::{Verdict, is_sure, judge};
use super::hearing::samples;
use super::phrases::words;
use super::speech::{Speech, SpeechKind};
use super::timers::Timer;
use super::utterance::{Answered, Purpose, Transcription};

/// Audio after the last speech that is transcribed with it, in ms.
const POST_ROLL_MS: u64 = 160;
/// A part is cut here, pause or not, in ms: a recogniser hears 30 s at once.
const LONGEST_PART_MS: u64 = 28_000;
/// Speech between two looks at the words of somebody who speaks while the assistant does, in ms.
const WORD_CHECK_MS: u64 = 400;
/// Speech before the words of somebody for whom the assistant fell silent are looked at, in ms.
const FIRST_LOOK_MS: u64 = 200;
/// Half a sentence is gone by only if its words are likelier than this.
const CLEAR_LOGPROB: f32 = -1.1;
/// And between two looks, in ms.
const NEXT_LOOK_MS: u64 = 96;

impl Conversation {
    /// Asks for the transcript that is wanted next, if any.
    pub(super) fn ask_for_transcript(&mut self) {
        if !self.engines.stt {
            return;
        }
        let Some((purpose, urgency)) = self.transcript_wanted() else {
            return;
        };
        let clock = SamplePosition::at(self.clock());
        let Some(utterance) = &mut self.utterance else {
            return;
        };
        let covers = utterance.speech_end;
        if let Transcription::Asked {
            generation,
            covers: already,
            purpose: looking,
            ..
        } = &mut utterance.transcription
        {
            if *already >= covers {
                // A look at the words so far turns out to be at all of them.
                *looking = purpose;
                if urgency == Urgency::Waited
                    && let Some(generation) = utterance.wait_for_it()
                {
                    self.emit(Output::Commit { generation });
                }
                return;
            }
            let generation = *generation;
            self.emit(Output::CancelWork { generation });
        }
        self.transcribe(purpose, urgency, clock);
    }

    fn transcribe(&mut self, purpose: Purpose, urgency: Urgency, clock: SamplePosition) {
        let generation = self.next_generation();
        let Some(utterance) = &mut self.utterance else {
            return;
        };
        let covers = utterance.speech_end;
        let rolled = SamplePosition(covers.0.saturating_add(samples(POST_ROLL_MS)));
        let end = match purpose {
            Purpose::Turn | Purpose::Partial => rolled.min(clock.max(covers)),
            Purpose::Part => covers,
        };
        utterance.checked = utterance.speech;
        let earliest = SamplePosition(end.0.saturating_sub(samples(LONGEST_PART_MS + 2000)));
        let range = AudioRange {
            start: utterance.part_start.max(earliest),
            end,
        };
        utterance.transcription = Transcription::Asked {
            generation,
            purpose,
            covers,
            urgency,
        };
        self.emit(Output::Transcribe {
            generation,
            range,
            urgency,
        });
    }

    fn transcript_wanted(&self) -> Option<(Purpose, Urgency)> {
        let utterance = self.utterance.as_ref()?;
        let looking = match utterance.transcription {
            Transcription::Unknown => false,
            Transcription::Asked {
                purpose: Purpose::Partial,
                ..
            } => true,
            Transcription::Asked { .. } | Transcription::Known { .. } => return None,
        };
        if utterance.verdict().is_some() {
            return None;
        }
        let floor_is_free = self.speech.is_none() || self.suspended;
        let words_count = self.rules.num_words > 0 && self.is_interruptible();
        if utterance.ended.is_some() {
            return Some((Purpose::Turn, Urgency::Waited));
        }
        let part = utterance
            .speech_end
            .0
            .saturating_sub(utterance.part_start.0);
        if part >= samples(LONGEST_PART_MS) {
            return Some((Purpose::Part, Urgency::Speculative));
        }
        if looking && self.suspended {
            // What it finds is waited for more than the end of what may be no turn.
            return None;
        }
        if utterance.paused && (floor_is_free || words_count) {
            let urgency = match self.suspended {
                true => Urgency::Waited,
                false => Urgency::Speculative,
            };
            return Some((Purpose::Turn, urgency));
        }
        if looking {
            return None;
        }
        let (first, next, urgency) = if self.suspended {
            (
                samples(FIRST_LOOK_MS),
                samples(NEXT_LOOK_MS),
                Urgency::Glance,
            )
        } else if words_count && !floor_is_free {
            (
                self.rules.voice,
                samples(WORD_CHECK_MS),
                Urgency::Speculative,
            )
        } else if floor_is_free {
            let rhythm = self.rules.partials?;
            (rhythm, rhythm, Urgency::Spare)
        } else {
            return None;
        };
        let unchecked = utterance.speech.saturating_sub(utterance.checked);
        let due = match utterance.checked {
            0 => utterance.speech >= first,
            _ => unchecked >= next,
        };
        due.then_some((Purpose::Partial, urgency))
    }

    pub(super) fn transcript(&mut self, of: Generation, transcript: &Transcript, now: Instant) {
        let clock = self.clock();
        let Some(utterance) = &mut self.utterance else {
            return;
        };
        let Transcription::Asked {
            generation,
            purpose,
            covers,
            ..
        } = utterance.transcription
        else {
            return;
        };
        if generation != of {
            return;
        }
        self.timers.clear(Timer::Engine);
        let verdict = judge(transcript, utterance.evidence(), self.rules.other_languages);
        let refused = !words(&transcript.text).is_empty() && !matches!(verdict, Verdict::Words(_));
        let so_far = match &verdict {
            Verdict::Words(words) => Some(utterance.with_parts(words)),
            Verdict::OtherLanguage(_) | Verdict::Unclear | Verdict::Noise => None,
        };
        let stable = so_far.as_deref().map(|text| utterance.agreement.hear(text));
        match purpose {
            Purpose::Part => utterance.close_part(verdict.clone(), covers),
            Purpose::Partial => utterance.transcription = Transcription::Unknown,
            Purpose::Turn => {
                utterance.transcription = Transcription::Known {
                    verdict: verdict.clone(),
                    covers,
                    sure: is_sure(transcript),
                };
                utterance.transcript_at = Some(clock);
            }
        }
        if refused {
            self.emit(Output::Progress(Progress::TranscriptRefused));
        }
        if let Some(words) = &so_far {
            self.emit(Output::Progress(Progress::PartialTranscript(words.clone())));
        }
        match purpose {
            Purpose::Part => {}
            Purpose::Partial => {
                let clear = transcript.mean_logprob > CLEAR_LOGPROB
                    && transcript.no_speech_probability < 0.5;
                self.judge_first_words(&verdict, clear, now);
                self.read_ahead(stable.filter(|words| !words.is_empty()));
            }
            Purpose::Turn => {
                self.judge_interruption(&verdict, now);
                self.keep_what_is_answered();
            }
        }
        self.speculate();
        self.expect_pause(now);
    }

    /// The model reads what the caller has said so far.
    pub(super) fn read_ahead(&mut self, words: Option<String>) {
        let idle = self.speech.is_none() && self.engines.llm && self.rules.partials.is_some();
        let replying = self
            .utterance
            .as_ref()
            .is_some_and(|said| said.reply.is_some());
        if let Some(words) = words
            && idle
            && !replying
        {
            let messages = self.history.chat_with(ChatRole::User, &words);
            self.emit(Output::Prefill { messages });
        }
    }

    /// A reply made ahead stays where the words are still those that it answers.
    fn keep_what_is_answered(&mut self) {
        let Some(utterance) = &self.utterance else {
            return;
        };
        let same = match utterance.verdict() {
            Some(Verdict::Words(said)) => words(&said) == words(&utterance.answered.words),
            Some(Verdict::OtherLanguage(_) | Verdict::Unclear | Verdict::Noise) => false,
            None => return,
        };
        if !same {
            self.drop_speculation();
        }
    }

    /// Starts the reply to words that may turn out not to be all.
    fn speculate(&mut self) {
        if self.rules.speculation.is_none() || self.speech.is_some() {
            return;
        }
        let turn = TurnNumber(self.last_turn.0.saturating_add(1));
        let since = self.clock();
        let Some(utterance) = &mut self.utterance else {
            return;
        };
        let Some(Verdict::Words(words)) = utterance.verdict() else {
            return;
        };
        if utterance.ended.is_none() && utterance.reply.is_none() {
            let mut reply = Speech::from_model(SpeechKind::Reply, turn);
            reply.committed = false;
            reply.ledger = Some(TurnLedger {
                turn,
                ..TurnLedger::default()
            });
            utterance.reply = Some(reply);
            utterance.answered = Answered {
                words,
                speech: utterance.speech,
                since,
                whole: None,
            };
        }
    }
}
