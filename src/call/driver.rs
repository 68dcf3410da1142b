//! The task of one answered call: feeds the conversation and does what it wants.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use tokio::sync::mpsc;

use super::Services;
use super::command::CallCommand;
use super::ending::ended;
use super::hold::Holds;
use super::passing::Passing;
use super::quality;
use super::recording::{Tape, finish};
use super::registry::Line;
use super::session::Party;
use super::timeline::Timeline;
use super::transfer::Wish;
use super::work::{Work, engine_name};
use crate::audio::dtmf::Detector;
use crate::audio::{Frame, SampleRate, Sound};
use crate::conversation::settings::AssistantSettings;
use crate::conversation::{
    CallTime, Control, Conversation, Engine, Input, Output, PhraseKind, SamplePosition, Transcript,
    Work as Failing,
};
use crate::engines::llm::GenerateSettings;
use crate::engines::vad::{VadStream, WINDOW_SAMPLES};
use crate::engines::{EngineError, EngineEvent, Transcript as Heard};
use crate::ids::Generation;
use crate::net::media::{TICK_MS, Tick};
use crate::record::{CallRecord, CallStatus, EndedBy, EndedReason};
use crate::sip::endpoint::Event;
use crate::sip::keypad;
use crate::store::Entry;

/// Engine events that a call may lag behind.
const ENGINE_EVENTS: usize = 256;

/// The media thread answers within a tick; an overloaded one is not waited for.
const REPORT_PATIENCE: Duration = Duration::from_millis(500);

/// Lost ticks that are made up for with silence: a minute.
const MOST_LOST: u64 = 3000;

/// Everything that setting up a call produced.
pub(super) struct Answered {
    pub(super) services: Services,
    pub(super) line: Line,
    pub(super) party: Party,
    pub(super) record: CallRecord,
    pub(super) settings: AssistantSettings,
    pub(super) phrases: HashMap<PhraseKind, Sound>,
    pub(super) vad: VadStream,
    pub(super) tape: Option<Tape>,
}

/// How a call ended.
struct End {
    reason: EndedReason,
    by: EndedBy,
}

pub(super) struct Driver {
    pub(super) call: Answered,
    conversation: Conversation,
    pub(super) work: Work,
    engine_events: mpsc::Receiver<EngineEvent>,
    timeline: Timeline,
    epoch: Option<Instant>,
    next_tick: u64,
    /// From a stream's count of ticks to the call's.
    shift: Option<u64>,
    pub(super) last_arrival: Instant,
    pub(super) holds: Holds,
    pub(super) passing: Passing,
    /// The last packet from the person that the caller talks to.
    pub(super) last_beyond: Instant,
    /// The caller's side agreed to call somebody else, and said no more.
    pub(super) forwarded: Option<Instant>,
    engines_up: [bool; 3],
    pub(super) messages: u32,
    end: Option<End>,
    left_by_peer: bool,
    /// Where keys come as tones.
    pub(super) tones: Option<Detector>,
}

impl Driver {
    pub(super) fn new(call: Answered) -> Self {
        let (events, engine_events) = mpsc::channel(ENGINE_EVENTS);
        let work = Work::new(
            call.record.id,
            call.services.clone(),
            events,
            call.phrases.clone(),
            call.settings.voice.speed as f32,
        );
        let conversation = Conversation::new(&call.settings, work.prepared());
        let tones = call.party.tones();
        Self {
            call,
            conversation,
            work,
            engine_events,
            timeline: Timeline::default(),
            epoch: None,
            next_tick: 0,
            shift: None,
            last_arrival: Instant::now(),
            holds: Holds::default(),
            passing: Passing::Idle,
            last_beyond: Instant::now(),
            forwarded: None,
            engines_up: [true; 3],
            messages: 0,
            end: None,
            left_by_peer: false,
            tones,
        }
    }

    /// Runs the call to its end and closes its record.
    pub(super) async fn run(mut self) {
        self.call
            .line
            .show(|call| call.status = CallStatus::InProgress);
        self.show_legs();
        self.call.services.metrics.call_started();
        while self.end.is_none() {
            self.step().await;
            self.obey();
        }
        self.finish().await;
    }

    async fn step(&mut self) {
        let conversation = self.conversation.deadline().map(|(at, _)| at);
        let session = self.call.party.session.deadline();
        let deadline = conversation.into_iter().chain(session).min();
        tokio::select! {
            biased;
            tick = self.call.party.ticks.recv() => match tick {
                Some(tick) => self.tick(tick),
                None => self.end_now(EndedReason::InternalError, EndedBy::System),
            },
            event = self.call.party.events.recv() => match event {
                Some(event) => self.sip_event(event),
                None => self.hung_up(EndedReason::SignallingTimedOut, EndedBy::System),
            },
            Some(event) = self.engine_events.recv() => self.engine_event(event),
            window = self.call.vad.next() => {
                let input = Input::Vad {
                    end: SamplePosition(window.end),
                    samples: WINDOW_SAMPLES as u32,
                    probability: window.probability,
                };
                self.handle(input);
            }
            beyond = self.passing.next() => self.beyond(beyond),
            command = self.call.line.command() => self.command(command),
            () = sleep_until(deadline) => self.time(),
        }
    }

    fn time(&mut self) {
        self.call.party.session.timeout(Instant::now());
        self.handle(Input::Timeout);
    }

    pub(super) fn handle(&mut self, input: Input) {
        self.conversation.handle(input, Instant::now());
    }

    pub(super) fn call_time(&self, at: Instant) -> CallTime {
        let since = self
            .epoch
            .map_or(Duration::ZERO, |epoch| at.saturating_duration_since(epoch));
        CallTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn tick(&mut self, mut tick: Tick) {
        // Media may have flown before the call's clock began to run.
        let place = tick.index.wrapping_sub(self.next_tick);
        let shift = *self.shift.get_or_insert(place);
        tick.index = tick.index.wrapping_sub(shift);
        let tick = &tick;
        if self.epoch.is_none() {
            let before = Duration::from_millis(tick.index * TICK_MS);
            self.epoch = Some(tick.at.checked_sub(before).unwrap_or(tick.at));
            self.last_arrival = tick.at;
            self.handle(Input::MediaStarted);
        }
        let (samples, rate) = match &tick.heard_wide {
            Some(wide) => (&wide.samples()[..], SampleRate::WIDEBAND),
            None => (&tick.heard.samples()[..], SampleRate::TELEPHONE),
        };
        self.timeline.push(tick.index, samples, rate);
        self.timeline.forget_before(self.conversation.asks_from());
        self.listen(tick);
        if let Some(tape) = &self.call.tape {
            tape.frame(tick.index, &tick.heard, &tick.spoken);
        }
        for arrival in &tick.arrivals {
            self.last_arrival = arrival.at;
            let input = Input::Frame {
                at: self.call_time(arrival.at),
                level_dbfs: arrival.level_dbfs,
            };
            self.handle(input);
        }
        self.report_playback(tick);
        for digit in &tick.digits {
            self.key(digit.digit.to_char());
        }
        let mut toned = Vec::new();
        if let Some(detector) = &mut self.tones {
            detector.push(tick.heard.samples(), |digit| toned.push(digit.to_char()));
        }
        for key in toned {
            self.key(key);
        }
        self.watch_engines();
        self.watch_media(tick.at);
    }

    /// Gives the detector the tick's samples, and silence for ticks that were lost.
    fn listen(&mut self, tick: &Tick) {
        let lost = tick.index.saturating_sub(self.next_tick);
        for _ in 0..lost.min(MOST_LOST) {
            self.call.vad.push(Frame::SILENCE.samples());
        }
        match &tick.heard_wide {
            _ if self.passing.is_joined() => {}
            Some(wide) => self.call.vad.push_wide(wide.samples()),
            None => self.call.vad.push(tick.heard.samples()),
        }
        self.next_tick = tick.index + 1;
    }

    /// Another stream's ticks follow, which count from their own start.
    pub(super) fn restart_ticks(&mut self) {
        self.shift = None;
        let now = self.call_time(Instant::now()).millis() / TICK_MS;
        self.next_tick = self.next_tick.max(now);
    }

    fn report_playback(&mut self, tick: &Tick) {
        let at = self.call_time(tick.at);
        for played in &tick.played {
            let Some(clip) = self.work.playing(played.clip) else {
                continue;
            };
            self.handle(Input::Playback {
                clip,
                played: played.samples,
                at,
            });
            if played.finished {
                self.work.played(played.clip);
                self.handle(Input::PlaybackFinished { clip, at });
            }
        }
    }

    fn watch_engines(&mut self) {
        let services = &self.call.services;
        let up = [
            services.stt.state().borrow().is_ready(),
            services.llm.state().borrow().is_ready(),
            services.tts.state().borrow().is_ready(),
        ];
        let engines = [Engine::Stt, Engine::Llm, Engine::Tts];
        for (index, engine) in engines.into_iter().enumerate() {
            if self.engines_up[index] != up[index] {
                self.engines_up[index] = up[index];
                self.handle(Input::EngineState {
                    engine,
                    up: up[index],
                });
            }
        }
    }

    fn watch_media(&mut self, now: Instant) {
        let silent = now.saturating_duration_since(self.last_arrival);
        let heard = !self.holds.any() || (self.passing.is_joined() && !self.holds.theirs);
        if heard && silent > self.call.services.limits.media_timeout {
            self.handle(Input::Control(Control::End {
                reason: EndedReason::MediaTimedOut,
                by: EndedBy::System,
                say_goodbye: false,
            }));
        }
    }

    fn command(&mut self, command: CallCommand) {
        match command {
            CallCommand::End { reason, by } => self.handle(Input::Control(Control::End {
                reason,
                by,
                say_goodbye: false,
            })),
            CallCommand::Hold(reply) => {
                // Whoever asked may have gone.
                let _ = reply.send(self.hold());
            }
            CallCommand::Resume(reply) => {
                let _ = reply.send(self.resume());
            }
            CallCommand::PauseRecording { pause, reply } => {
                let _ = reply.send(self.pause_recording(pause));
            }
            CallCommand::Say { text, reply } => {
                let _ = reply.send(self.say(text));
            }
            CallCommand::TakeOver { take_over, reply } => {
                let _ = reply.send(self.taken_over(*take_over));
            }
            CallCommand::Transfer {
                target,
                trunk,
                manner,
                briefing,
                reply,
            } => {
                let wish = Wish {
                    target,
                    trunk,
                    manner,
                    briefing,
                };
                let _ = reply.send(self.transfer(wish));
            }
        }
    }

    /// Keys in INFO count only where none come in RTP, or peers that send both would press twice.
    fn info(&mut self, content_type: &str, body: &[u8]) {
        if !self.call.party.session.has_key_events()
            && let Some(key) = keypad::key(content_type, body)
        {
            self.key(key);
        }
    }

    fn key(&mut self, key: char) {
        self.call.record.digits.push(key);
        self.handle(Input::Digit(key));
    }

    fn sip_event(&mut self, event: Event) {
        match event {
            Event::Offer { sdp, .. } => {
                self.call.party.session.offered(sdp.as_deref());
                self.renegotiated();
            }
            Event::Answer { sdp, .. } => {
                self.call.party.session.answered(&sdp);
                self.renegotiated();
            }
            Event::OfferRefused { status, .. } => {
                self.call.party.session.refused(status, Instant::now());
            }
            Event::Ended { cause, .. } => {
                let (reason, by) = match self.was_forwarded() {
                    true => (EndedReason::AssistantForwardedCall, EndedBy::Assistant),
                    false => ended(&cause),
                };
                self.hung_up(reason, by);
            }
            Event::ReferRequested(request) => self.refer_requested(*request),
            Event::ReferProgress { .. } => self.forwarded = Some(Instant::now()),
            Event::ReferFinished { outcome, .. } => self.referred(outcome),
            Event::Info {
                content_type, body, ..
            } => self.info(&content_type, &body),
            Event::Confirmed { .. }
            | Event::OfferWithdrawn { .. }
            | Event::Progress { .. }
            | Event::Answered { .. }
            | Event::IncomingCall(_)
            | Event::Registration { .. }
            | Event::Ping { .. } => {}
        }
    }

    fn hung_up(&mut self, reason: EndedReason, by: EndedBy) {
        self.left_by_peer = true;
        self.handle(Input::HungUp);
        self.end_now(reason, by);
    }

    pub(super) fn end_now(&mut self, reason: EndedReason, by: EndedBy) {
        self.end.get_or_insert(End { reason, by });
    }

    fn engine_event(&mut self, event: EngineEvent) {
        let generation = event.generation();
        let input = match event {
            EngineEvent::Transcript {
                result: Ok(heard), ..
            } => Input::Transcript {
                generation,
                transcript: transcript(heard),
            },
            EngineEvent::Transcript {
                result: Err(error), ..
            } => {
                return self.failed(Engine::Stt, generation, Failing::Transcribe, &error);
            }
            EngineEvent::ReplyText { text, .. } => Input::ReplyText { generation, text },
            EngineEvent::ReplyDone { .. } => Input::ReplyDone { generation },
            EngineEvent::ReplyFailed { error, .. } => {
                return self.failed(Engine::Llm, generation, Failing::Generate, &error);
            }
            EngineEvent::Speech {
                clause,
                result: Ok(sound),
                ..
            } => match self.work.spoken(generation, clause, sound) {
                Some(length) => Input::ClauseReady {
                    generation,
                    clause,
                    length,
                },
                None => return,
            },
            EngineEvent::Speech {
                clause,
                result: Err(error),
                ..
            } => return self.failed(Engine::Tts, generation, Failing::Speak { clause }, &error),
        };
        self.handle(input);
    }

    fn failed(
        &mut self,
        engine: Engine,
        generation: Generation,
        work: Failing,
        error: &EngineError,
    ) {
        let engine = engine_name(engine);
        self.call
            .services
            .metrics
            .engine_failed(engine, error.label());
        tracing::warn!(call = %self.call.record.id, engine, %error, "an engine failed");
        self.handle(Input::Failed {
            generation,
            work,
            retryable: error.is_retryable(),
        });
    }

    /// Does everything that the conversation wants by now.
    pub(super) fn obey(&mut self) {
        while let Some(output) = self.conversation.poll() {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Transcribe {
                generation,
                range,
                urgency,
            } => {
                let audio = self.timeline.slice(range);
                let asked = self.work.transcribe(generation, audio, urgency);
                self.check(asked, Engine::Stt, generation, Failing::Transcribe);
            }
            Output::Generate {
                generation,
                messages,
                max_tokens,
                temperature,
                urgency,
            } => {
                let settings = GenerateSettings {
                    temperature,
                    max_tokens,
                    ..GenerateSettings::default()
                };
                let asked = self.work.generate(generation, &messages, settings, urgency);
                self.check(asked, Engine::Llm, generation, Failing::Generate);
            }
            Output::Speak {
                generation,
                clause,
                text,
                urgency,
            } => {
                let rate = self.call.party.session.stream.rate();
                let asked = self.work.speak(generation, clause, text, rate, urgency);
                self.check(asked, Engine::Tts, generation, Failing::Speak { clause });
            }
            Output::Play { clip, from } => match self.work.clip(clip) {
                Some((key, sound)) => self.call.party.session.stream.play(key, sound, from),
                None => {
                    let at = self.call_time(Instant::now());
                    self.handle(Input::PlaybackFinished { clip, at });
                }
            },
            Output::StopPlayback { fade_ms } => {
                self.call.party.session.stream.stop(fade_ms);
                self.work.silenced();
            }
            Output::Commit { generation } => self.work.commit(generation),
            Output::CancelWork { generation } | Output::Release { generation } => {
                self.work.cancel(generation);
            }
            Output::Transfer(to) => self.pass_on(to),
            Output::EndCall { reason, by } => self.end_now(reason, by),
            Output::Message(message) => {
                let entry = Entry::Message(self.call.record.id, self.messages, message);
                self.messages += 1;
                self.call.services.journal.write(entry);
            }
            Output::Turn(turn) => {
                self.call.services.metrics.turn(&turn);
                if turn.turn.0 == 0 {
                    self.call.record.greeting_ms = turn.first_packet_ms;
                }
                let entry = Entry::Turn(self.call.record.id, turn);
                self.call.services.journal.write(entry);
            }
            Output::Progress(progress) => {
                tracing::debug!(call = %self.call.record.id, ?progress, "progress");
            }
        }
    }

    fn check(
        &mut self,
        asked: Result<(), EngineError>,
        engine: Engine,
        generation: Generation,
        work: Failing,
    ) {
        if let Err(error) = asked {
            self.failed(engine, generation, work, &error);
        }
    }

    async fn finish(mut self) {
        self.obey();
        self.leave_beyond();
        let End { reason, by } = self.end.take().unwrap_or(End {
            reason: EndedReason::InternalError,
            by: EndedBy::System,
        });
        if !self.left_by_peer {
            self.call.party.session.hang_up();
        }
        let report = self.call.party.session.stream.report();
        let report = tokio::time::timeout(REPORT_PATIENCE, report).await;
        let record = &mut self.call.record;
        record.quality = report.ok().flatten().map(|report| quality::kept(&report));
        record.status = CallStatus::Ended;
        record.ended_at = Some(OffsetDateTime::now_utc());
        record.ended_reason = Some(reason);
        record.ended_by = Some(by);
        self.call.line.show(|call| {
            call.status = CallStatus::Ended;
            call.ended_reason = Some(reason);
        });
        let services = &self.call.services;
        services.metrics.call_ended(reason);
        if let Some(quality) = &record.quality {
            services.metrics.call_quality(quality);
        }
        services.llm.release(record.id);
        tracing::info!(call = %record.id, %reason, "call ended");
        services
            .journal
            .write(Entry::Call(Box::new(record.clone())));
        if let Some(tape) = self.call.tape.take() {
            finish(tape, record.id, &services.journal).await;
        }
    }
}

fn transcript(heard: Heard) -> Transcript {
    Transcript {
        text: heard.text,
        mean_logprob: heard.mean_log_probability,
        no_speech_probability: heard.no_speech_probability,
        repeated: heard.repetition_cut,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
