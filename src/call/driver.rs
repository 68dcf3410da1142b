//! The task of one answered call: feeds the conversation and does what it wants.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::Services;
use super::answering_machine::MachineWatch;
use super::ending::ended;
use super::finishing::{Finishing, finish};
use super::hold::Holds;
use super::opening::Opening;
use super::passing::{Passing, Words};
use super::recording::Tape;
use super::registry::Line;
use super::session::Party;
use super::timeline::Timeline;
use super::voicemail::{Errand, ToMailbox, Visit};
use super::work::Work;
use crate::audio::dtmf::Detector;
use crate::audio::echo::EchoWatch;
use crate::audio::{FRAME_SAMPLES, Frame, SampleRate, Sound};
use crate::conversation::settings::AssistantSettings;
use crate::conversation::{
    CallTime, Control, Conversation, Engine, Input, PhraseKind, SamplePosition,
};
use crate::engines::EngineEvent;
use crate::engines::turn::TurnStream;
use crate::engines::vad::{SpeechProbability, VadStream, WINDOW_SAMPLES};
use crate::ids::MailboxName;
use crate::net::media::{TICK_MS, Tick};
use crate::record::{CallRecord, CallStatus, EndedBy, EndedReason, Fallback, VoicemailReason};
use crate::sip::endpoint::Event;
use crate::sip::keypad;
use crate::webhooks::Event as Told;

/// Engine events that a call may lag behind.
const ENGINE_EVENTS: usize = 256;

/// Lost ticks that are made up for with silence: a minute.
const MOST_LOST: u64 = 3000;

/// Below this probability nobody's speech begins.
const MAYBE_SPEECH: f32 = 0.2;

/// Everything that setting up a call produced.
pub(super) struct Answered {
    pub(super) services: Services,
    pub(super) line: Line,
    pub(super) party: Party,
    pub(super) record: CallRecord,
    pub(super) settings: AssistantSettings,
    pub(super) opening: Opening,
    pub(super) phrases: HashMap<PhraseKind, Sound>,
    pub(super) vad: VadStream,
    pub(super) turn: TurnStream,
    pub(super) tape: Option<Tape>,
}

/// How a conversation ended.
enum End {
    /// With the call.
    Over { reason: EndedReason, by: EndedBy },
    /// The caller goes on in a mailbox.
    Mailbox(ToMailbox),
}

pub(super) struct Driver {
    pub(super) call: Answered,
    pub(super) conversation: Conversation,
    pub(super) work: Work,
    engine_events: mpsc::Receiver<EngineEvent>,
    pub(super) timeline: Timeline,
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
    /// Where a hosted engine failed since the last turn was written down.
    pub(super) fallbacks: Vec<Fallback>,
    pub(super) messages: u32,
    /// What the assistant is saying, for those who watch.
    pub(super) saying: String,
    end: Option<End>,
    left_by_peer: bool,
    /// Where keys come as tones.
    pub(super) tones: Option<Detector>,
    echo: EchoWatch,
    /// In calls of ours that look for answering machines.
    pub(super) machine: Option<MachineWatch>,
    /// The message for one, while it is synthesised.
    pub(super) word: Option<oneshot::Receiver<Words>>,
}

impl Driver {
    pub(super) fn new(call: Answered) -> Self {
        let (events, engine_events) = mpsc::channel(ENGINE_EVENTS);
        let work = Work::new(
            call.record.id,
            call.services.for_assistant(&call.settings),
            events,
            call.phrases.clone(),
            call.settings.voice.speed as f32,
            call.settings.transcriber.language.parse().ok(),
        );
        let conversation = Conversation::new(&call.settings, work.prepared());
        let machine = MachineWatch::new(&call.settings, call.record.call_type);
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
            fallbacks: Vec::new(),
            messages: 0,
            saying: String::new(),
            end: None,
            left_by_peer: false,
            tones,
            echo: EchoWatch::default(),
            machine,
            word: None,
        }
    }

    /// Runs the call to its end and closes its record.
    pub(super) async fn run(mut self) {
        self.call
            .line
            .show(|call| call.status = CallStatus::InProgress);
        self.show_legs();
        self.call.services.metrics.call_started();
        self.notify(Told::Status(CallStatus::InProgress));
        let end = loop {
            if let Some(end) = self.end.take() {
                break end;
            }
            self.step().await;
            self.obey();
        };
        match end {
            End::Over { reason, by } => self.finish(reason, by).await,
            End::Mailbox(to) => self.hand_over(to).await,
        }
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
                self.watch_speech(&window);
                let input = Input::Vad {
                    end: SamplePosition(window.end),
                    samples: WINDOW_SAMPLES as u32,
                    probability: self.callers(&window),
                };
                self.handle(input);
            }
            judged = self.call.turn.next() => self.handle(Input::TurnProbability {
                end: SamplePosition(judged.end),
                probability: judged.probability,
            }),
            word = spoken(&mut self.word) => self.word_spoken(word),
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
            self.open();
        }
        let (samples, rate) = match &tick.heard_wide {
            Some(wide) => (&wide.samples()[..], SampleRate::WIDEBAND),
            None => (&tick.heard.samples()[..], SampleRate::TELEPHONE),
        };
        self.timeline.push(tick.index, samples, rate);
        let position = tick.index * FRAME_SAMPLES as u64;
        self.echo.push(position, &tick.heard, &tick.spoken);
        self.timeline.forget_before(self.conversation.asks_from());
        self.listen(tick);
        if let Some(tape) = &self.call.tape {
            tape.frame(tick.index, &tick.heard, &tick.spoken);
        }
        self.call.line.pass(&tick.heard, &tick.spoken);
        for arrival in &tick.arrivals {
            self.last_arrival = arrival.at;
            let input = Input::Frame {
                at: self.call_time(arrival.at),
                level_dbfs: arrival.level_dbfs,
            };
            self.handle(input);
        }
        self.report_playback(tick);
        self.watch_for_beeps(tick);
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

    /// How likely it is that the caller spoke: the assistant's voice, come back, is none of theirs.
    fn callers(&mut self, window: &SpeechProbability) -> f32 {
        let echo = window.probability >= MAYBE_SPEECH && self.echo.is_echo(window.end);
        match echo {
            true => 0.0,
            false => window.probability,
        }
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
        let heard = !self.holds.silent() || (self.passing.is_joined() && !self.holds.theirs);
        if heard && silent > self.call.services.limits.media_timeout {
            self.handle(Input::Control(Control::End {
                reason: EndedReason::MediaTimedOut,
                by: EndedBy::System,
                say_goodbye: false,
            }));
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
            | Event::SubscribeRequested(_)
            | Event::SubscriptionEnded { .. }
            | Event::Ping { .. } => {}
        }
    }

    fn hung_up(&mut self, reason: EndedReason, by: EndedBy) {
        self.left_by_peer = true;
        self.handle(Input::HungUp);
        self.end_now(reason, by);
    }

    pub(super) fn end_now(&mut self, reason: EndedReason, by: EndedBy) {
        self.end.get_or_insert(End::Over { reason, by });
    }

    /// The caller shall leave a message.
    pub(super) fn go_to_mailbox(&mut self, name: MailboxName, reason: VoicemailReason) {
        let to = ToMailbox { name, reason };
        self.end.get_or_insert(End::Mailbox(to));
    }

    async fn finish(mut self, reason: EndedReason, by: EndedBy) {
        self.obey();
        self.leave_beyond();
        let call = self.call;
        let (reason, by) = call.opening.reason(reason, by);
        let finishing = Finishing {
            told: Some(&call.settings),
            services: &call.services,
            line: &call.line,
            party: &call.party,
            left_by_peer: self.left_by_peer,
        };
        finish(finishing, call.record, call.tape, reason, by).await;
    }

    /// The assistant has done its part: the caller leaves a message.
    async fn hand_over(mut self, to: ToMailbox) {
        self.handle(Input::HungUp);
        self.obey();
        self.leave_beyond();
        let call = self.call;
        call.services.llm.release(call.record.id);
        call.party.session.stream.music(None);
        let visit = Visit {
            services: call.services,
            line: call.line,
            party: call.party,
            record: call.record,
            told: Some(call.settings),
            tape: call.tape,
            ticks_before: self.next_tick,
        };
        visit.run(Errand::Leave(to)).await;
    }
}

async fn spoken(word: &mut Option<oneshot::Receiver<Words>>) -> Words {
    match word {
        Some(word) => word.await.ok().flatten(),
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
