//! Passing the caller on: by REFER, or by calling there ourselves and joining the two.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::command::{CommandRefusal, Manner};
use super::driver::Driver;
use super::outbound::{Authority, Dialling, Failure, Step};
use super::passing::{BRIEFING, Beyond, Briefing, Passing, Plan, Words};
use super::session::Party;
use crate::conversation::settings::SipVerb;
use crate::conversation::{Control, Input, NotThrough, TransferTo};
use crate::ids::MailboxName;
use crate::net::media::Tick;
use crate::net::sip::LegCommand;
use crate::record::{CallStatus, EndedBy, EndedReason, Message, Role, VoicemailReason};
use crate::sip::endpoint::{Event, ReferOutcome, ReferRequest, ReferTarget};
use crate::store::Entry;
use crate::webhooks::Event as Told;

/// What a person who is called hears where nothing else is configured.
const BRIEFING_WORDS: &str = "I have a caller for you.";

/// A caller's side that began a transfer and hangs up within this has done it.
const FORWARDED: Duration = Duration::from_secs(10);

/// How long the person called may think about it.
const DECISION: Duration = Duration::from_secs(15);

/// Legs after the first whose messages are kept.
const MOST_LEGS: usize = 32;

/// Over this a briefing is cut off, in ms.
const FADE_MS: u32 = 30;

/// What the person called says to a caller.
enum Decision {
    Accepted,
    Refused,
    /// Nobody is there, or only a machine.
    Silent,
}

/// What the operator wants.
pub(super) struct Wish {
    pub(super) target: String,
    pub(super) trunk: Option<String>,
    pub(super) manner: Manner,
    pub(super) briefing: Option<String>,
}

impl Driver {
    /// The operator has the caller passed on.
    pub(super) fn transfer(&mut self, wish: Wish) -> Result<(), CommandRefusal> {
        // Callers are told before they are passed on.
        self.mute(false)?;
        if !self.passing.is_idle() || self.holds.any() {
            return Err(CommandRefusal::NotNow(
                "the call is on hold or being passed on",
            ));
        }
        let routes = (self.call.services.routes)();
        let target = routes
            .find(&wish.target, wish.trunk.as_deref(), Authority::Command)
            .map_err(|error| CommandRefusal::Wrong(error.to_string()))?;
        let briefing = match wish.manner {
            Manner::Attended => Some(wish.briefing.unwrap_or(BRIEFING_WORDS.to_owned())),
            Manner::Blind | Manner::Bridge => wish.briefing,
        };
        let plan = Plan {
            target,
            briefing,
            accept: None,
            refer: self.call.party.refer && wish.manner != Manner::Bridge,
            ring_timeout: None,
            mailbox: None,
        };
        self.passing = Passing::Announced(Box::new(plan));
        self.handle(Input::Control(Control::Transfer));
        Ok(())
    }

    /// The caller was told: now it is done.
    pub(super) fn pass_on(&mut self, to: TransferTo) {
        let plan = match (to, self.passing.take()) {
            (TransferTo::Mailbox, _) => return self.go_to_own_mailbox(),
            (TransferTo::Operators, Passing::ToMailbox(name)) => {
                return self.go_to_mailbox(name, VoicemailReason::Operator);
            }
            (TransferTo::Operators, Passing::Announced(plan)) => Some(*plan),
            (TransferTo::Destination(place), _) => self.configured(place),
            (TransferTo::Operators, _) => None,
        };
        self.hold_for_transfer();
        match plan {
            Some(plan) if plan.refer && plan.briefing.is_none() => self.refer(plan),
            Some(plan) => self.dial(plan),
            None => self.come_back(NotThrough::Failed),
        }
    }

    fn configured(&self, place: u8) -> Option<Plan> {
        let transfer = self.call.settings.transfers.get(usize::from(place))?;
        let destination = &transfer.destination;
        let found = (self.call.services.routes)().find(
            destination.target(),
            destination.trunk(),
            Authority::Configuration,
        );
        let target = found
            .inspect_err(|error| {
                tracing::error!(call = %self.call.record.id, %error, "a configured transfer fails");
            })
            .ok()?;
        let plan = destination.plan();
        Some(Plan {
            target,
            briefing: plan.briefing().map(str::to_owned),
            accept: plan.accept_digit,
            refer: self.call.party.refer && plan.sip_verb == SipVerb::Refer,
            ring_timeout: Duration::try_from_secs_f64(plan.dial_timeout).ok(),
            mailbox: self.mailbox(transfer.mailbox.as_deref()),
        })
    }

    fn mailbox(&self, name: Option<&str>) -> Option<MailboxName> {
        self.call.services.mailboxes.named(name?)
    }

    /// The operator has the caller leave a message: in the mailbox of this name, or else in the
    /// assistant's.
    pub(super) fn leave_message(&mut self, name: Option<&str>) -> Result<(), CommandRefusal> {
        if !self.passing.is_idle() || self.holds.any() {
            return Err(CommandRefusal::NotNow(
                "the call is on hold or being passed on",
            ));
        }
        let own = self.call.settings.mailbox_plan.mailbox.as_deref();
        let named = name.or(own).ok_or_else(|| {
            CommandRefusal::Wrong("the assistant has no mailbox, so name one".to_owned())
        })?;
        let mailbox = self.mailbox(Some(named));
        let unknown = || CommandRefusal::Wrong(format!("there is no mailbox {named}"));
        let mailbox = mailbox.ok_or_else(unknown)?;
        self.passing = Passing::ToMailbox(mailbox);
        self.handle(Input::Control(Control::Transfer));
        Ok(())
    }

    /// The caller asked for it.
    fn go_to_own_mailbox(&mut self) {
        let own = self.call.settings.mailbox_plan.mailbox.as_deref();
        match self.mailbox(own) {
            Some(name) => self.go_to_mailbox(name, VoicemailReason::Asked),
            None => {
                self.hold_for_transfer();
                self.come_back(NotThrough::Failed);
            }
        }
    }

    /// Nobody was reached: the caller leaves a message where there is a mailbox for it, or else
    /// goes on with the assistant.
    fn not_reached(&mut self, mailbox: Option<MailboxName>, why: NotThrough) {
        let reason = match why {
            NotThrough::Busy => VoicemailReason::Busy,
            NotThrough::NoAnswer => VoicemailReason::NoAnswer,
            NotThrough::Failed => VoicemailReason::Unavailable,
        };
        match mailbox {
            Some(name) => {
                if let Some(party) = self.passing.party() {
                    party.session.hang_up();
                }
                self.go_to_mailbox(name, reason);
            }
            None => self.come_back(why),
        }
    }

    fn refer(&mut self, plan: Plan) {
        self.ask_for_call(ReferTarget::Blind(plan.target.uri()));
        self.passing = Passing::Referring(Box::new(plan));
    }

    /// Whether the caller's hang-up belongs to a transfer that their side has begun.
    pub(super) fn was_forwarded(&self) -> bool {
        self.forwarded
            .is_some_and(|since| since.elapsed() < FORWARDED)
    }

    fn ask_for_call(&self, target: ReferTarget) {
        let request = ReferRequest {
            target,
            referred_by: None,
            follow: true,
        };
        let refer = LegCommand::Refer(Box::new(request));
        self.call.party.session.send(refer);
    }

    fn dial(&mut self, plan: Plan) {
        let services = &self.call.services;
        let words = plan.briefing.as_deref().map(|text| self.speak(text));
        let target = plan.target.clone();
        let dialling = Dialling::start(services, target, None, plan.ring_timeout);
        self.passing = Passing::Dialling {
            plan: Box::new(plan),
            dialling,
            words,
        };
    }

    /// Has a text spoken without waiting for it.
    fn speak(&self, text: &str) -> oneshot::Receiver<Words> {
        let (sender, words) = oneshot::channel();
        if let Some(prepared) = self.call.services.phrases.get(text) {
            let _ = sender.send(Some(prepared));
            return words;
        }
        let (tts, text) = (self.call.services.tts.clone(), text.to_owned());
        tokio::spawn(async move {
            let _ = sender.send(tts.synthesise(&text).await.ok());
        });
        words
    }

    /// The outcome of our REFER.
    pub(super) fn referred(&mut self, outcome: ReferOutcome) {
        match (self.passing.take(), outcome) {
            (Passing::Referring(_), ReferOutcome::Completed(200..=299)) => self.passed_on(),
            (Passing::Referring(plan), ReferOutcome::Completed(status)) => {
                self.not_reached(plan.mailbox, by_status(status));
            }
            (Passing::Referring(plan), ReferOutcome::Refused(status)) => {
                tracing::info!(call = %self.call.record.id, status, "REFER is refused: bridging");
                self.dial(*plan);
            }
            (Passing::Referring(_), ReferOutcome::Unknown) => {
                self.come_back(NotThrough::Failed);
                self.forwarded = Some(Instant::now());
            }
            (Passing::Replacing(party), ReferOutcome::Completed(200..=299)) => {
                party.session.hang_up();
                self.passed_on();
            }
            (Passing::Replacing(party), _) => self.join(party),
            (other, _) => self.passing = other,
        }
    }

    fn passed_on(&mut self) {
        self.tell("The caller was transferred.");
        self.end_now(EndedReason::AssistantForwardedCall, EndedBy::Assistant);
    }

    /// Something happened on the other side.
    pub(super) fn beyond(&mut self, beyond: Beyond) {
        match beyond {
            Beyond::Step(step) => self.dialled(step),
            Beyond::Sip(event) => self.beyond_sip(event),
            Beyond::Tick(Some(tick)) => self.beyond_tick(&tick),
            Beyond::Tick(None) => self.beyond_ended(),
            Beyond::Words(words) => self.brief(words),
        }
    }

    fn dialled(&mut self, step: Step) {
        match (self.passing.take(), step) {
            (Passing::Following(dialling), step) => self.followed(dialling, step),
            (Passing::Dialling { plan, words, .. }, Step::Answered(party)) => match words {
                Some(words) => {
                    self.passing = Passing::Briefing {
                        plan,
                        party,
                        briefing: Briefing::Awaited(words),
                    };
                }
                None => self.join(party),
            },
            (Passing::Dialling { plan, .. }, Step::Failed(failure)) => {
                self.not_reached(plan.mailbox, not_through(failure));
            }
            (other, Step::Sent { call_id, .. }) => {
                self.passing = other;
                self.leads(call_id);
            }
            (other, _) => self.passing = other,
        }
    }

    /// The messages with that Call-ID are this call's, too.
    pub(super) fn leads(&mut self, call_id: String) {
        let record = &mut self.call.record;
        if record.later_call_ids.len() < MOST_LEGS {
            record.later_call_ids.push(call_id);
            let entry = Entry::Call(Box::new(record.clone()));
            self.call.services.journal.write(entry);
        }
    }

    fn brief(&mut self, words: Words) {
        let Some(words) = words else {
            // It cannot be spoken: better unprepared than not at all, unless they have to know
            // what to press.
            return match &self.passing {
                Passing::Briefing { plan, .. } if plan.accept.is_some() => {
                    self.come_back(NotThrough::Failed);
                }
                _ => self.briefed(),
            };
        };
        if let Some(party) = self.passing.party() {
            party.session.stream.play(BRIEFING, words, 0);
        }
    }

    /// The person called has heard what it is about.
    fn told(&mut self, now: Instant) {
        match &mut self.passing {
            Passing::Briefing { plan, briefing, .. } if plan.accept.is_some() => {
                let until = now + DECISION;
                *briefing = Briefing::Asked { until };
            }
            _ => self.briefed(),
        }
    }

    /// What the person called decides by their keys, where they are asked to.
    fn decision(&self, tick: &Tick) -> Option<Decision> {
        let Passing::Briefing { plan, briefing, .. } = &self.passing else {
            return None;
        };
        let accept = plan.accept?;
        let key = tick.digits.first().map(|pressed| pressed.digit.to_char());
        match (key, briefing) {
            (Some(key), _) if key == accept => Some(Decision::Accepted),
            (Some(_), _) => Some(Decision::Refused),
            (None, Briefing::Asked { until }) if *until <= tick.at => Some(Decision::Silent),
            (None, _) => None,
        }
    }

    /// The person called does not take the caller.
    fn refused(&mut self, why: NotThrough) {
        let mailbox = match &self.passing {
            Passing::Briefing { plan, .. } => plan.mailbox.clone(),
            _ => None,
        };
        self.not_reached(mailbox, why);
    }

    fn briefed(&mut self) {
        if let Some(party) = self.passing.party() {
            // They may have decided before it was said to the end.
            party.session.stream.stop(FADE_MS);
        }
        match self.passing.take() {
            Passing::Briefing { plan, party, .. } if plan.refer => {
                let target = ReferTarget::Attended {
                    leg: party.leg,
                    uri: None,
                };
                self.ask_for_call(target);
                self.passing = Passing::Replacing(party);
            }
            Passing::Briefing { party, .. } => self.join(party),
            other => self.passing = other,
        }
    }

    fn join(&mut self, party: Box<Party>) {
        let caller = &self.call.party.session.stream;
        caller.music(None);
        caller.join(&party.session.stream);
        self.last_beyond = Instant::now();
        self.passing = Passing::Joined(party);
        self.show_legs();
        self.tell("The caller was put through.");
    }

    /// A note in the transcript.
    pub(super) fn tell(&mut self, text: &str) {
        let at = self.call_time(Instant::now()).millis();
        let message = Message {
            role: Role::System,
            message: text.to_owned(),
            start_ms: at,
            end_ms: at,
            turn: crate::ids::TurnNumber::default(),
            interrupted: false,
        };
        self.message(message);
    }

    fn beyond_sip(&mut self, event: Option<Event>) {
        let Some(party) = self.passing.party() else {
            return;
        };
        match event {
            Some(Event::Offer { sdp, .. }) => party.session.offered(sdp.as_deref()),
            Some(Event::Answer { sdp, .. }) => party.session.answered(&sdp),
            Some(Event::OfferRefused { status, .. }) => {
                party.session.refused(status, Instant::now());
            }
            Some(Event::ReferRequested(_)) => party.session.send(LegCommand::RejectRefer(603)),
            Some(Event::Ended { .. }) | None => self.beyond_ended(),
            Some(_) => {}
        }
    }

    fn beyond_tick(&mut self, tick: &Tick) {
        if !tick.arrivals.is_empty() {
            self.last_beyond = tick.at;
        }
        let told = |played: &crate::net::media::Played| played.clip == BRIEFING && played.finished;
        if tick.played.iter().any(told) {
            return self.told(tick.at);
        }
        match self.decision(tick) {
            None => {}
            Some(Decision::Accepted) => return self.briefed(),
            Some(Decision::Refused) => return self.refused(NotThrough::Failed),
            Some(Decision::Silent) => return self.refused(NotThrough::NoAnswer),
        }
        let silent = tick.at.saturating_duration_since(self.last_beyond);
        let held = self
            .passing
            .party()
            .is_some_and(|party| party.session.peer_holds());
        let timeout = self.call.services.limits.media_timeout;
        if self.passing.is_joined() && !held && silent > timeout {
            self.end_now(EndedReason::MediaTimedOut, EndedBy::System);
        }
    }

    /// The person called is gone.
    fn beyond_ended(&mut self) {
        match self.passing.take() {
            Passing::Joined(_) => self.end_now(
                EndedReason::AssistantForwardedCall,
                EndedBy::TransferDestination,
            ),
            // The caller took our place there: its NOTIFY is on the way.
            Passing::Replacing(party) => {
                drop(party);
                self.passed_on();
            }
            Passing::Briefing { .. } => self.come_back(NotThrough::Failed),
            other => self.passing = other,
        }
    }

    pub(super) fn hold_for_transfer(&mut self) {
        self.holds.transfer = true;
        self.call
            .line
            .show(|call| call.status = CallStatus::Forwarding);
        self.notify(Told::Status(CallStatus::Forwarding));
        let music = Arc::clone(&self.call.services.limits.hold_music);
        self.call.party.session.stream.music(Some(music));
    }

    /// Nobody was reached: the caller is told, and the conversation goes on.
    fn come_back(&mut self, why: NotThrough) {
        if let Some(party) = self.passing.party() {
            party.session.hang_up();
        }
        self.passing = Passing::Idle;
        self.forwarded = None;
        self.call.party.session.stream.music(None);
        self.holds.transfer = false;
        self.last_arrival = Instant::now();
        self.call
            .line
            .show(|call| call.status = CallStatus::InProgress);
        self.notify(Told::Status(CallStatus::InProgress));
        self.handle(Input::Control(Control::ComeBack(why)));
        self.take_leave();
        if self.holds.any() {
            // Said when the caller takes us back.
            self.handle(Input::Control(Control::Hold));
        }
    }

    /// Ends what goes on on the other side, with the call.
    pub(super) fn leave_beyond(&mut self) {
        if let Some(party) = self.passing.party() {
            party.session.hang_up();
        }
        // A call that is still being made is given up.
        self.passing = Passing::Idle;
    }
}

fn not_through(failure: Failure) -> NotThrough {
    match failure.reason {
        EndedReason::CustomerBusy => NotThrough::Busy,
        EndedReason::CustomerDidNotAnswer => NotThrough::NoAnswer,
        _ => NotThrough::Failed,
    }
}

/// The same for what the caller's side got.
fn by_status(status: u16) -> NotThrough {
    match status {
        486 | 600 => NotThrough::Busy,
        408 | 480 | 487 => NotThrough::NoAnswer,
        _ => NotThrough::Failed,
    }
}
