//! The assistant's side: from a turn to played audio.

use std::time::Instant;

use crate::ids::Generation;
use crate::record::{EndedBy, EndedReason, Message, Role, TurnLedger};

use super::api::{CallTime, ChatRole, ClipId, ClipLength, Output, PhraseKind, Urgency};
use super::evidence::Verdict;
use super::settings::FirstMessageMode;
use super::speakable::speakable;
use super::speech::{ClauseState, MOST_CLAUSES, Speech, SpeechKind, Text};
use super::timers::Timer;
use super::{Conversation, Phase};

/// Clauses synthesised ahead of the one that plays.
const CLAUSES_AHEAD: usize = 3;
/// The same for a reply that may never be played.
const CLAUSES_AHEAD_SPECULATIVE: usize = 1;
/// Clips that the driver has at a time, so that one follows another without a gap.
const CLIPS_SENT: usize = 2;

impl Conversation {
    /// The first thing said.
    pub(super) fn greet(&mut self) {
        let greeting = match self.rules.first_mode {
            FirstMessageMode::AssistantSpeaksFirst
                if self.rules.phrases.contains_key(&PhraseKind::Greeting) =>
            {
                let mut greeting = self.phrase(PhraseKind::Greeting);
                greeting.kind = SpeechKind::Greeting;
                greeting
            }
            FirstMessageMode::AssistantSpeaksFirstWithModelGeneratedMessage => {
                Speech::from_model(SpeechKind::Greeting, self.last_turn)
            }
            FirstMessageMode::AssistantSpeaksFirst | FirstMessageMode::AssistantWaitsForUser => {
                return;
            }
        };
        let ledger = TurnLedger {
            turn: self.last_turn,
            ..TurnLedger::default()
        };
        self.speech = Some(Speech {
            ledger: Some(ledger),
            ..greeting
        });
    }

    /// A fixed phrase, from its prepared audio where there is some.
    pub(super) fn phrase(&self, kind: PhraseKind) -> Speech {
        let text = self.rules.phrases.get(&kind).map_or("", String::as_str);
        let prepared = self.prepared.get(&kind).filter(|length| length.samples > 0);
        let prepared = prepared.map(|&length| (ClipId::Phrase(kind), length));
        Speech::fixed(SpeechKind::Phrase(kind), self.last_turn, text, prepared)
    }

    /// Asks the model for every reply that wants text.
    pub(super) fn ask_for_replies(&mut self) {
        if !self.engines.llm {
            return;
        }
        if self
            .speech
            .as_ref()
            .is_some_and(|speech| matches!(speech.text, Text::Wanted))
        {
            let said = self
                .speech
                .as_ref()
                .map(Speech::written)
                .unwrap_or_default();
            let messages = if said.is_empty() {
                self.history.chat()
            } else {
                self.history.chat_with(ChatRole::Assistant, &said)
            };
            let request = self.generate(messages, Urgency::Waited);
            if let Some(speech) = &mut self.speech {
                request.attach(speech);
            }
        }
        let Some(utterance) = &self.utterance else {
            return;
        };
        let wanted = utterance
            .reply
            .as_ref()
            .is_some_and(|reply| matches!(reply.text, Text::Wanted));
        if let (true, Some(Verdict::Words(words))) = (wanted, utterance.verdict()) {
            let messages = self.history.chat_with(ChatRole::User, &words);
            let request = self.generate(messages, Urgency::Speculative);
            if let Some(reply) = self.utterance.as_mut().and_then(|said| said.reply.as_mut()) {
                request.attach(reply);
            }
        }
    }

    fn generate(&mut self, messages: Vec<super::ChatMessage>, urgency: Urgency) -> Request {
        let generation = self.next_generation();
        let (max_tokens, temperature) = (self.rules.max_tokens, self.rules.temperature);
        self.emit(Output::Generate {
            generation,
            messages,
            max_tokens,
            temperature,
            urgency,
        });
        Request { generation }
    }

    /// The speech that the model writes under this generation.
    pub(super) fn written_by(&mut self, generation: Generation) -> Option<&mut Speech> {
        let reply = self
            .utterance
            .as_mut()
            .and_then(|utterance| utterance.reply.as_mut());
        let mut speeches = self.speech.iter_mut().chain(reply);
        speeches.find(|speech| speech.is_written_by(generation))
    }

    pub(super) fn reply_text(&mut self, of: Generation, piece: &str, now: Instant) {
        if self.summary_text(of, piece) {
            return;
        }
        let clock = self.clock();
        let Some(speech) = self.written_by(of) else {
            return;
        };
        if let Some(ledger) = speech.note() {
            ledger.first_token_ms.get_or_insert(clock.0);
        }
        if let Text::Streaming { cutter, .. } = &mut speech.text {
            let clauses = cutter.push(piece);
            speech.add_clauses(clauses);
        }
        if speech.clauses.len() >= MOST_CLAUSES {
            speech.text = Text::Complete;
        }
        let speculative = !speech.committed;
        self.timers.clear(Timer::Engine);
        if speculative {
            // A model that writes has said all that it says about the words it answers.
            self.expect_pause(now);
        }
    }

    pub(super) fn reply_done(&mut self, of: Generation) {
        if self.summary_done(of) {
            return;
        }
        let Some(speech) = self.written_by(of) else {
            return;
        };
        if let Text::Streaming { cutter, .. } = &mut speech.text {
            let clauses = cutter.finish();
            speech.add_clauses(clauses);
        }
        speech.text = Text::Complete;
        let empty = speech.clauses.is_empty();
        let speculative = !speech.committed;
        self.timers.clear(Timer::Engine);
        match (empty, speculative) {
            (true, true) => self.drop_speculation(),
            (true, false) => self.text_failed(true),
            (false, _) => {}
        }
    }

    /// Asks for the audio of the clauses that come next.
    pub(super) fn ask_for_audio(&mut self) {
        if !self.engines.tts {
            return;
        }
        let mut generation = self.generation;
        let mut outputs = Vec::new();
        let clock = self.clock();
        let language = &self.rules.language;
        let reply = self
            .utterance
            .as_mut()
            .and_then(|utterance| utterance.reply.as_mut());
        for speech in self.filler.iter_mut().chain(&mut self.speech).chain(reply) {
            speech.ask_for_audio(language, clock, &mut generation, &mut outputs);
        }
        self.generation = generation;
        self.outputs.extend(outputs);
    }

    pub(super) fn clause_ready(&mut self, of: Generation, index: u32, length: ClipLength) {
        let clock = self.clock();
        let reply = self
            .utterance
            .as_mut()
            .and_then(|utterance| utterance.reply.as_mut());
        for speech in self.filler.iter_mut().chain(&mut self.speech).chain(reply) {
            let Some(clause) = speech.asked(of, index) else {
                continue;
            };
            let clip = ClipId::Clause {
                generation: of,
                clause: index,
            };
            clause.state = match length.samples {
                0 => ClauseState::Played,
                _ => ClauseState::Ready { clip, length },
            };
            if let Some(ledger) = speech.note() {
                ledger.first_audio_ms.get_or_insert(clock.0);
            }
            self.timers.clear(Timer::Engine);
            return;
        }
    }

    /// Gives the driver what may be heard now.
    pub(super) fn play(&mut self) {
        if self.timers.paused() {
            return;
        }
        let caller_speaks = self.hearing.speaking();
        let polite = self.rules.num_words == 0 && self.is_interruptible();
        let mut outputs = Vec::new();
        if let Some(filler) = &mut self.filler
            && !caller_speaks
        {
            filler.play(&self.rules.language, &mut outputs);
        }
        let backing_off = self.timers.is_set(Timer::Backoff) && self.phase == Phase::Live;
        if let Some(speech) = &mut self.speech {
            let starting = speech.sent() == 0;
            let waits = self.suspended || (starting && (backing_off || (caller_speaks && polite)));
            if speech.committed && !waits {
                speech.play(&self.rules.language, &mut outputs);
            }
        }
        self.outputs.extend(outputs);
    }

    pub(super) fn playback(&mut self, clip: ClipId, played: u32, at: CallTime) {
        if let Some(filler) = &mut self.filler
            && filler.note_played(clip, played, at)
            && filler.first_sound == Some(at)
        {
            self.note_holding(at);
        }
        let Some(speech) = &mut self.speech else {
            return;
        };
        if !speech.note_played(clip, played, at) || speech.first_sound != Some(at) {
            return;
        }
        let answers = matches!(
            speech.kind,
            SpeechKind::Reply | SpeechKind::Greeting | SpeechKind::Announcement(_)
        );
        // A last breath may come after the turn was judged to be over.
        let last_sound = self
            .hearing
            .last_sound()
            .filter(|last| *last <= at && self.utterance.is_none());
        if let Some(ledger) = speech.note() {
            if let (Some(ended), Some(last)) = (&mut ledger.speech_ended_ms, last_sound) {
                *ended = last.0.max(*ended);
            }
            // A phrase instead of a reply is told apart from one.
            let noted = if answers {
                &mut ledger.first_packet_ms
            } else {
                &mut ledger.holding_packet_ms
            };
            noted.get_or_insert(at.0);
        }
    }

    fn note_holding(&mut self, at: CallTime) {
        if let Some(ledger) = self.speech.as_mut().and_then(Speech::note) {
            ledger.holding_packet_ms.get_or_insert(at.0);
        } else if let Some(utterance) = &mut self.utterance {
            utterance.holding.get_or_insert(at);
        }
    }

    pub(super) fn playback_finished(&mut self, clip: ClipId, at: CallTime) {
        self.playback(clip, u32::MAX, at);
        let speeches = self.filler.iter_mut().chain(&mut self.speech);
        for clause in speeches.filter_map(|speech| speech.playing(clip)) {
            if matches!(clause.state, ClauseState::Sent { .. }) {
                clause.state = ClauseState::Played;
                return;
            }
        }
    }

    /// Finishes what was said and starts what is next. True where something changed.
    pub(super) fn settle_speech(&mut self, now: Instant) -> bool {
        if let Some(filler) = self.filler.take_if(|filler| filler.is_done()) {
            self.record_message(&filler, false);
            self.release(&filler);
        }
        if let Some(speech) = self.speech.take_if(|speech| speech.is_done()) {
            let answers = matches!(speech.kind, SpeechKind::Reply | SpeechKind::Greeting);
            if answers && !speech.was_heard() && self.phase == Phase::Live {
                // All of it was silence.
                self.cancel(&speech);
                self.fail_turn(speech.turn, speech.ledger);
            } else {
                self.finish(speech, now);
            }
            self.expect_pause(now);
            return true;
        }
        if self.speech.is_none()
            && self.utterance.is_none()
            && let Some(next) = self.queue.pop_front()
        {
            self.speech = Some(next);
            return true;
        }
        false
    }

    /// All of it was said.
    fn finish(&mut self, speech: Speech, now: Instant) {
        let kind = speech.kind;
        let heard = speech.was_heard();
        let promised = speech.ledger.is_some();
        let said_goodbye = matches!(kind, SpeechKind::Reply | SpeechKind::Greeting)
            && self
                .rules
                .end_call_phrases
                .is_in(&speech.heard(&self.rules.language));
        let ends_call = speech.ends_call || said_goodbye;
        self.conclude(speech, false);
        self.suspended = false;
        match (self.phase, kind) {
            (Phase::Closing { .. }, _) => self.start_tail(now),
            (_, SpeechKind::Announcement(to)) => self.pass_on(to, now),
            (_, SpeechKind::Operator { end_call: true }) => {
                self.start_closing(EndedReason::ManuallyCanceled, EndedBy::Operator, now);
            }
            (_, SpeechKind::Phrase(PhraseKind::Trouble)) => {
                self.start_closing(EndedReason::InternalError, EndedBy::System, now);
            }
            _ if ends_call => {
                let reason = EndedReason::AssistantSaidEndCallPhrase;
                self.start_closing(reason, EndedBy::Assistant, now);
            }
            // Not even a phrase could be said.
            _ if promised && !heard => self.count_failed_turn(now),
            _ => {}
        }
    }

    /// Remembers what was heard of a speech that is over, and gives up its audio.
    pub(super) fn conclude(&mut self, speech: Speech, interrupted: bool) {
        self.record_message(&speech, interrupted);
        let told = match speech.kind {
            SpeechKind::Greeting
            | SpeechKind::Reply
            | SpeechKind::Announcement(_)
            | SpeechKind::Operator { .. } => true,
            SpeechKind::Phrase(_) => false,
        };
        if told {
            self.history
                .push(ChatRole::Assistant, &speech.heard(&self.rules.language));
            self.read_ahead(Some(String::new()));
            self.summarise();
        }
        if speech.kind == SpeechKind::Reply && speech.was_heard() && !speech.abandoned {
            self.failed_turns = 0;
        }
        if speech.is_done() {
            self.release(&speech);
        } else {
            self.cancel(&speech);
        }
        if let Some(ledger) = speech.ledger {
            self.emit(Output::Turn(ledger));
        }
    }

    /// The message that a speech is, where anything of it was heard.
    pub(super) fn record_message(&mut self, speech: &Speech, interrupted: bool) {
        let heard = speech.heard(&self.rules.language);
        let (Some(start), Some(end)) = (speech.first_sound, speech.last_sound) else {
            return;
        };
        if heard.is_empty() {
            return;
        }
        self.emit(Output::Message(Message {
            role: Role::Bot,
            message: heard,
            start_ms: start.0,
            end_ms: end.0,
            turn: speech.turn,
            interrupted,
        }));
    }

    pub(super) fn cancel(&mut self, speech: &Speech) {
        for &generation in &speech.generations {
            self.emit(Output::CancelWork { generation });
        }
    }

    fn release(&mut self, speech: &Speech) {
        for &generation in &speech.generations {
            self.emit(Output::Release { generation });
        }
    }
}

/// A request to the model that was just made.
struct Request {
    generation: Generation,
}

impl Request {
    fn attach(self, speech: &mut Speech) {
        let generation = self.generation;
        speech.generations.push(generation);
        speech.text = Text::Streaming {
            generation,
            cutter: Default::default(),
        };
    }
}

impl Speech {
    fn ask_for_audio(
        &mut self,
        language: &str,
        clock: CallTime,
        last: &mut Generation,
        outputs: &mut Vec<Output>,
    ) {
        let (most, urgency) = match self.committed {
            true => (CLAUSES_AHEAD, Urgency::Waited),
            false => (CLAUSES_AHEAD_SPECULATIVE, Urgency::Speculative),
        };
        for index in 0..self.clauses.len() {
            if self.ahead() >= most {
                return;
            }
            let goes_on = index + 1 < self.clauses.len() || !matches!(self.text, Text::Complete);
            let clause = &mut self.clauses[index];
            if clause.state != ClauseState::Waiting {
                continue;
            }
            // The second attempt is under a generation of its own.
            let generation = match self.generations.last() {
                Some(&own) if clause.failures == 0 => own,
                Some(_) | None => {
                    *last = last.next();
                    self.generations.push(*last);
                    *last
                }
            };
            clause.state = ClauseState::Asked { generation };
            let mut text = speakable(&clause.text, language);
            if goes_on && text.ends_with(char::is_alphanumeric) {
                // Said with the melody of a sentence that goes on.
                text.push(',');
            }
            let clause = u32::try_from(index).unwrap_or(u32::MAX);
            outputs.push(Output::Speak {
                generation,
                clause,
                text,
                urgency,
            });
            if let Some(ledger) = self.note() {
                ledger.first_clause_ms.get_or_insert(clock.0);
            }
        }
    }

    fn play(&mut self, language: &str, outputs: &mut Vec<Output>) {
        let mut sent = self.sent();
        for clause in &mut self.clauses {
            match clause.state {
                ClauseState::Ready { clip, length } if sent < CLIPS_SENT => {
                    let from = clause.resume_at(language);
                    clause.state = ClauseState::Sent { clip, length };
                    outputs.push(Output::Play { clip, from });
                    sent += 1;
                }
                ClauseState::Sent { .. } | ClauseState::Played | ClauseState::Lost => {}
                ClauseState::Ready { .. } | ClauseState::Waiting | ClauseState::Asked { .. } => {
                    return;
                }
            }
        }
    }

    /// Notes how far a clip was played. True where the clip is of this speech and is heard.
    fn note_played(&mut self, clip: ClipId, played: u32, at: CallTime) -> bool {
        let Some(clause) = self.playing(clip) else {
            return false;
        };
        let (ClauseState::Sent { length, .. } | ClauseState::Ready { length, .. }) = clause.state
        else {
            return false;
        };
        clause.played = clause.played.max(played.min(length.samples));
        if matches!(clause.state, ClauseState::Ready { .. }) && clause.played >= length.samples {
            // It was stopped too late to matter.
            clause.state = ClauseState::Played;
        }
        let audible = clause.played > length.audible_from;
        if audible {
            self.first_sound.get_or_insert(at);
            self.last_sound = Some(self.last_sound.map_or(at, |last| last.max(at)));
        }
        audible
    }
}
