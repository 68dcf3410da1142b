//! The task of one call that is in a mailbox.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;
use time::OffsetDateTime;
use tokio::sync::mpsc;

use super::ToMailbox;
use super::voice::{Piece, Voice};
use crate::audio::dtmf::Detector;
use crate::audio::tone;
use crate::audio::{SampleRate, resample, wav};
use crate::call::Services;
use crate::call::command::CallCommand;
use crate::call::ending::ended;
use crate::call::finishing::{Finishing, finish};
use crate::call::inbound::check_disk;
use crate::call::recording::Tape;
use crate::call::registry::Line;
use crate::call::session::Party;
use crate::conversation::settings::AssistantSettings;
use crate::ids::VoicemailId;
use crate::net::media::{TICK_MS, Tick};
use crate::net::sip::LegCommand;
use crate::record::{
    CallRecord, CallStatus, EndedBy, EndedReason, Transcription, Voicemail, VoicemailState,
};
use crate::sip::endpoint::Event;
use crate::sip::keypad;
use crate::store::message_path;
use crate::voicemail::{
    Announcement, Deposit, DepositInput, DepositOutput, Ending, Menu, MenuInput, Refused,
};

/// Happenings that a visit may lag behind.
const HAPPENINGS: usize = 32;
/// The database may take no longer to say whether a mailbox is full.
const STORE_PATIENCE: Duration = Duration::from_secs(2);
/// The tone before a message.
const BEEP: Duration = Duration::from_millis(400);
const BEEP_DBFS: f32 = -12.0;

/// What somebody comes for.
pub(in crate::call) enum Errand {
    /// To leave a message.
    Leave(ToMailbox),
    /// To hear messages.
    Hear,
}

/// What comes back from elsewhere.
#[derive(Debug)]
pub(super) enum Happening {
    /// What was missing of what is said; empty where it cannot be spoken.
    Speech { key: u64, spoken: Vec<Arc<[i16]>> },
    /// The message cannot be written, or no further.
    KeeperFailed,
    /// The mailbox holds no more.
    Full,
    /// An answer to the owner's menu.
    Menu(MenuInput),
    /// A message that is to be played, with what is said before it.
    Message {
        before: Vec<String>,
        samples: Option<Arc<[i16]>>,
    },
}

/// A call that is in a mailbox.
pub(in crate::call) struct Visit {
    pub(in crate::call) services: Services,
    pub(in crate::call) line: Line,
    pub(in crate::call) party: Party,
    pub(in crate::call) record: CallRecord,
    /// Whose server is told.
    pub(in crate::call) told: Option<AssistantSettings>,
    pub(in crate::call) tape: Option<Tape>,
    /// Ticks of the call before this.
    pub(in crate::call) ticks_before: u64,
}

/// A message that is being left.
pub(super) struct Message {
    id: VoicemailId,
    /// The tick of its first frame.
    since: u64,
}

pub(super) enum Business {
    Leaving(Deposit, ToMailbox, Option<Message>),
    Hearing(Menu),
}

pub(super) struct Attending {
    pub(super) visit: Visit,
    pub(super) business: Business,
    pub(super) voice: Voice,
    pub(super) happenings: mpsc::Sender<Happening>,
    tones: Option<Detector>,
    /// The first tick of the stream that is this visit's, and the next one of the call.
    shift: Option<u64>,
    tick: u64,
    last_arrival: Instant,
    end: Option<(EndedReason, EndedBy)>,
    left_by_peer: bool,
}

impl Visit {
    /// Attends to the caller until the call is over.
    pub(in crate::call) async fn run(mut self, errand: Errand) {
        let (sender, mut happenings) = mpsc::channel(HAPPENINGS);
        let services = &self.services;
        let voice = Voice::new(
            services.phrases.clone(),
            services.tts.clone(),
            sender.clone(),
        );
        let business = match errand {
            Errand::Leave(to) => {
                self.record.mailbox = Some(to.name.clone());
                let settings = services.mailboxes.get(&to.name);
                let settings = settings.map(|mailbox| mailbox.settings.clone());
                Business::Leaving(Deposit::new(&settings.unwrap_or_default()), to, None)
            }
            Errand::Hear => Business::Hearing(Menu::new(self.owner())),
        };
        self.line.show(|call| call.status = CallStatus::InProgress);
        let legs = vec![(self.party.leg, self.party.trunk.clone())];
        self.line.leads(legs);
        let tones = self.party.tones();
        let tick = self.ticks_before;
        let mut attending = Attending {
            visit: self,
            business,
            voice,
            happenings: sender,
            tones,
            shift: None,
            tick,
            last_arrival: Instant::now(),
            end: None,
            left_by_peer: false,
        };
        attending.look_whether_full();
        attending.obey();
        while attending.end.is_none() {
            attending.step(&mut happenings).await;
        }
        attending.finish().await;
    }
}

impl Attending {
    async fn step(&mut self, happenings: &mut mpsc::Receiver<Happening>) {
        let deadline = self.visit.party.session.deadline();
        tokio::select! {
            biased;
            tick = self.visit.party.ticks.recv() => match tick {
                Some(tick) => self.tick(&tick),
                None => self.gone(EndedReason::InternalError, EndedBy::System),
            },
            event = self.visit.party.events.recv() => match event {
                Some(event) => self.sip_event(event),
                None => {
                    self.left_by_peer = true;
                    self.gone(EndedReason::SignallingTimedOut, EndedBy::System);
                }
            },
            Some(happening) = happenings.recv() => self.happening(happening),
            command = self.visit.line.command() => self.command(command),
            () = sleep_until(deadline) => self.visit.party.session.timeout(Instant::now()),
        }
    }

    /// The call's clock.
    pub(super) fn now(&self) -> Duration {
        Duration::from_millis(self.tick.saturating_mul(TICK_MS))
    }

    fn tick(&mut self, tick: &Tick) {
        let before = self.visit.ticks_before;
        let shift = *self.shift.get_or_insert(tick.index);
        self.tick = before + tick.index.wrapping_sub(shift);
        if !tick.arrivals.is_empty() {
            self.last_arrival = tick.at;
        }
        if let Some(tape) = &self.visit.tape {
            tape.frame(self.tick, &tick.heard, &tick.spoken);
        }
        self.visit.line.pass(&tick.heard, &tick.spoken);
        if self.voice.was_played(&tick.played) {
            self.played();
        }
        self.frame(tick);
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
        let silent = tick.at.saturating_duration_since(self.last_arrival);
        let timeout = self.visit.services.limits.media_timeout;
        if silent > timeout && !self.visit.party.session.peer_holds() {
            self.gone(EndedReason::MediaTimedOut, EndedBy::System);
        }
    }

    fn frame(&mut self, tick: &Tick) {
        let now = self.now();
        // Whoever holds us says nothing that is meant for us.
        let held = self.visit.party.session.peer_holds();
        match &mut self.business {
            Business::Leaving(..) if held => {}
            Business::Leaving(deposit, _, message) => {
                deposit.handle(DepositInput::Frame(tick.heard.samples()), now);
                let outputs = deposit.take_outputs();
                if outputs.contains(&DepositOutput::Keep)
                    && let Some(message) = message
                {
                    let place = self.tick.saturating_sub(message.since);
                    let keeper = &self.visit.services.mailboxes.keeper;
                    keeper.frame(message.id, place, &tick.heard);
                }
                self.carry_out(outputs);
            }
            Business::Hearing(menu) => {
                menu.handle(MenuInput::Tick, now);
                self.obey();
            }
        }
    }

    fn played(&mut self) {
        self.handle(DepositInput::Played, MenuInput::Played);
    }

    /// Keys that a mailbox asks for are not written down: they may be its PIN.
    fn key(&mut self, key: char) {
        self.handle(DepositInput::Key(key), MenuInput::Key(key));
    }

    fn handle(&mut self, leaving: DepositInput<'_>, hearing: MenuInput) {
        let now = self.now();
        match &mut self.business {
            Business::Leaving(deposit, ..) => deposit.handle(leaving, now),
            Business::Hearing(menu) => menu.handle(hearing, now),
        }
        self.obey();
    }

    fn obey(&mut self) {
        match &mut self.business {
            Business::Leaving(deposit, ..) => {
                let outputs = deposit.take_outputs();
                self.carry_out(outputs);
            }
            Business::Hearing(menu) => {
                let outputs = menu.take_outputs();
                self.serve(outputs);
            }
        }
    }

    fn happening(&mut self, happening: Happening) {
        match happening {
            Happening::Speech { key, spoken } => {
                let stream = &self.visit.party.session.stream;
                if !self.voice.arrived(key, &spoken, stream) {
                    self.played();
                }
            }
            Happening::KeeperFailed => self.refuse(Refused::Disk),
            Happening::Full => self.refuse(Refused::Full),
            Happening::Menu(input) => self.answered(input),
            Happening::Message { before, samples } => self.play_message(before, samples),
        }
    }

    pub(super) fn answered(&mut self, answer: MenuInput) {
        let now = self.now();
        if let Business::Hearing(menu) = &mut self.business {
            menu.handle(answer, now);
            self.obey();
        }
    }

    fn refuse(&mut self, why: Refused) {
        let now = self.now();
        if let Business::Leaving(deposit, ..) = &mut self.business {
            deposit.handle(DepositInput::Refuse(why), now);
            self.obey();
        }
    }

    /// Looks for room on the disk, and asks the database while the greeting plays. Where it does not say, there is room.
    fn look_whether_full(&self) {
        let Business::Leaving(_, to, _) = &self.business else {
            return;
        };
        if check_disk(&self.visit.services).is_err() {
            // A new visit has nothing else in its queue.
            let _ = self.happenings.try_send(Happening::KeeperFailed);
            return;
        }
        let (name, happenings) = (to.name.clone(), self.happenings.clone());
        let mailboxes = self.visit.services.mailboxes.clone();
        tokio::spawn(async move {
            let asked = tokio::time::timeout(STORE_PATIENCE, mailboxes.is_full(&name)).await;
            match asked {
                Ok(Ok(true)) => {
                    let _ = happenings.send(Happening::Full).await;
                }
                Ok(Ok(false)) => {}
                Ok(Err(error)) => {
                    tracing::error!(mailbox = %name, %error, "nobody knows whether it is full");
                }
                Err(_) => tracing::error!(mailbox = %name, "nobody knows whether it is full"),
            }
        });
    }

    fn carry_out(&mut self, outputs: Vec<DepositOutput>) {
        for output in outputs {
            match output {
                DepositOutput::Play(what) => self.announce(what),
                DepositOutput::Record | DepositOutput::Keep => {}
                DepositOutput::Finish { end, cut } => {
                    if let Some(message) = self.take_message() {
                        let keeper = &self.visit.services.mailboxes.keeper;
                        keeper.finish(message.id, end, cut);
                    }
                }
                DepositOutput::Discard => {
                    if let Some(message) = self.take_message() {
                        self.visit.services.mailboxes.keeper.discard(message.id);
                    }
                }
                DepositOutput::End(Ending::HungUp) => {
                    self.gone(EndedReason::CustomerEndedCall, EndedBy::Customer);
                }
                DepositOutput::End(Ending::Done) => {
                    self.gone(EndedReason::MailboxEndedCall, EndedBy::Assistant);
                }
            }
            if output == DepositOutput::Record {
                self.begin_message();
            }
        }
    }

    fn take_message(&mut self) -> Option<Message> {
        match &mut self.business {
            Business::Leaving(_, _, message) => message.take(),
            Business::Hearing(_) => None,
        }
    }

    fn announce(&mut self, what: Announcement) {
        let Business::Leaving(_, to, _) = &self.business else {
            return;
        };
        let piece = match what {
            Announcement::Beep => Piece::Sound(tone::beep(BEEP, BEEP_DBFS).into()),
            Announcement::Greeting => self.greeting(to),
            other => Piece::Text(
                other
                    .prompt()
                    .map(|it| it.text())
                    .unwrap_or_default()
                    .into(),
            ),
        };
        self.voice
            .say(vec![piece], &self.visit.party.session.stream);
    }

    fn greeting(&self, to: &ToMailbox) -> Piece {
        let mailbox = self.visit.services.mailboxes.get(&to.name);
        let recorded = mailbox.and_then(|mailbox| mailbox.greeting.clone());
        let text = mailbox.map(|mailbox| mailbox.settings.greeting_for(to.reason));
        match (recorded, text) {
            (Some(samples), _) => Piece::Sound(samples),
            (None, text) => Piece::Text(text.unwrap_or_default().to_owned()),
        }
    }

    /// The beep is over: what is said from now on is the message.
    fn begin_message(&mut self) {
        let record = &self.visit.record;
        let Business::Leaving(_, to, message) = &mut self.business else {
            return;
        };
        let mailboxes = &self.visit.services.mailboxes;
        let transcribe = mailboxes
            .get(&to.name)
            .is_none_or(|mailbox| mailbox.settings.transcribe);
        let id = VoicemailId::from_random(rand::rng().random());
        let draft = Voicemail {
            id,
            mailbox: to.name.clone(),
            call_id: record.id,
            customer: record.customer.clone(),
            called: record.to.clone(),
            reason: to.reason,
            state: VoicemailState::Recording,
            created_at: OffsetDateTime::now_utc(),
            duration_ms: 0,
            file: message_path(&to.name, id),
            ended: None,
            transcription: match transcribe {
                true => Transcription::Pending,
                false => Transcription::Off,
            },
            transcript: None,
        };
        mailboxes.keeper.open(draft, &self.happenings);
        *message = Some(Message {
            id,
            since: self.tick,
        });
    }

    fn sip_event(&mut self, event: Event) {
        let session = &mut self.visit.party.session;
        match event {
            Event::Offer { sdp, .. } => session.offered(sdp.as_deref()),
            Event::Answer { sdp, .. } => session.answered(&sdp),
            Event::OfferRefused { status, .. } => session.refused(status, Instant::now()),
            Event::ReferRequested(_) => session.send(LegCommand::RejectRefer(603)),
            Event::Info {
                content_type, body, ..
            } => {
                if !session.has_key_events()
                    && let Some(key) = keypad::key(&content_type, &body)
                {
                    self.key(key);
                }
            }
            Event::Ended { cause, .. } => {
                self.left_by_peer = true;
                let (reason, by) = ended(&cause);
                self.gone(reason, by);
            }
            _ => {}
        }
        // Whoever held us is there again.
        self.last_arrival = Instant::now();
    }

    fn command(&mut self, command: CallCommand) {
        match command {
            CallCommand::End { reason, by } => {
                let now = self.now();
                if let Business::Leaving(deposit, ..) = &mut self.business {
                    deposit.handle(DepositInput::Stop, now);
                }
                self.end = Some((reason, by));
                self.obey();
            }
            other => other.refuse("the caller is in a mailbox"),
        }
    }

    /// The call is over; what was said until now is the message.
    pub(super) fn gone(&mut self, reason: EndedReason, by: EndedBy) {
        if self.end.is_some() {
            return;
        }
        self.end = Some((reason, by));
        self.handle(DepositInput::HungUp, MenuInput::Tick);
    }

    async fn finish(self) {
        let Visit {
            services,
            line,
            party,
            record,
            told,
            tape,
            ..
        } = self.visit;
        let (reason, by) = self
            .end
            .unwrap_or((EndedReason::InternalError, EndedBy::System));
        let finishing = Finishing {
            services: &services,
            line: &line,
            party: &party,
            told: told.as_ref(),
            left_by_peer: self.left_by_peer,
        };
        finish(finishing, record, tape, reason, by).await;
    }
}

/// A WAV file at 8 kHz; blocks.
pub(super) fn read_message(path: &Path) -> Result<Arc<[i16]>, String> {
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let clip = wav::read(std::io::BufReader::new(file)).map_err(|error| error.to_string())?;
    Ok(resample::whole(&clip.samples, clip.rate, SampleRate::TELEPHONE).into())
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
