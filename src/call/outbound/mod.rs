//! Calls that we make: an assistant calls a number through a trunk.
//!
//! ```text
//! place ─▶ assistant, route, permission, engines, disk, line, row ─▶ refused at once, or an id
//!              │
//!              ▼ a task
//!          dialling ──answered──▶ the driver, as for a call that came in
//!              └────not answered──▶ written down with a named outcome
//! ```

mod dialling;
mod outcome;
mod route;

use std::time::Instant;

use rand::RngExt;
use time::OffsetDateTime;
use tokio::sync::watch;

pub(super) use dialling::{Dialling, Failure, Step};
pub(super) use route::{Authority, Target};
pub use route::{NoRoute, Route, Routes};

use super::Services;
use super::admission::Full;
use super::command::{CallCommand, CallSnapshot};
use super::driver::{Answered, Driver};
use super::inbound::{check_disk, close, open_recording, phrases, write_row};
use super::opening::Opening;
use super::recording::Tape;
use super::registry::Line;
use super::session::Party;
use crate::conversation::settings::AssistantSettings;
use crate::engines::turn::TurnStream;
use crate::ids::{AssistantId, CallId, TrunkName};
use crate::record::{CallDocument, CallRecord, CallStatus, CallType, Customer};
use crate::sip::endpoint::LegId;
use crate::sip::uri::Uri;
use crate::store::Entry;
use crate::webhooks::Event;

/// Whom an assistant shall call.
#[derive(Clone, Debug, PartialEq)]
pub struct DialRequest {
    /// Who talks.
    pub talker: Talker,
    /// The number, as people write it.
    pub number: String,
    /// The trunk; not needed where there is only one to call through.
    pub trunk: Option<String>,
    /// The number that is called from; the trunk's own where not given.
    pub caller_id: Option<String>,
    /// That number's id in the API.
    pub phone_number_id: Option<String>,
    /// The name of who is called.
    pub customer_name: Option<String>,
    /// The call's id, where it has one already.
    pub id: Option<CallId>,
    /// What is kept of the request.
    pub document: Option<Box<CallDocument>>,
}

/// Who talks in a call of ours.
#[derive(Clone, Debug, PartialEq)]
pub enum Talker {
    /// An assistant by its key in the configuration, or its id.
    Named(String),
    /// An assistant that came with the request.
    Given(AssistantId, Box<AssistantSettings>),
}

/// A call that is being made.
#[derive(Debug)]
pub struct Placed {
    /// The call.
    pub id: CallId,
    /// What is seen of it; the last value before the channel closes is how it ended.
    pub seen: watch::Receiver<CallSnapshot>,
}

/// Why no call is made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialRefusal {
    /// The configuration has no such assistant.
    #[error("there is no assistant {0}")]
    UnknownAssistant(String),
    /// There is no way to the number, or it may not be called.
    #[error(transparent)]
    NoRoute(#[from] NoRoute),
    /// Every line is in use. Retry later.
    #[error("every line is in use (limits.max_calls)")]
    Busy,
    /// The trunk has as many calls as it may. Retry later.
    #[error("the trunk has as many calls as it may (its limits)")]
    TrunkBusy,
    /// The assistant has. Retry later.
    #[error("the assistant has as many calls as it may (limits.assistants)")]
    AssistantBusy,
    /// An engine, the disk or the database is not usable; the log says more. Retry later.
    #[error("the server is not ready for calls: {0}")]
    Unavailable(&'static str),
}

/// Begins a call, or says why not. Everything after that is the call's record's to tell.
///
/// # Errors
/// Where the call cannot be made.
pub async fn place(services: Services, request: DialRequest) -> Result<Placed, DialRefusal> {
    let DialRequest {
        talker,
        number,
        trunk,
        caller_id,
        phone_number_id,
        customer_name,
        id: call_id,
        document,
    } = request;
    let (id, settings) = match talker {
        Talker::Named(name) => {
            (services.assistants)(&name).ok_or(DialRefusal::UnknownAssistant(name))?
        }
        Talker::Given(id, settings) => (id, *settings),
    };
    let routes = (services.routes)();
    let target = routes.find(&number, trunk.as_deref(), Authority::Command)?;
    let target = target.from(caller_id);
    if let Some((component, state)) = services.health.refusal() {
        tracing::error!(%component, ?state, "a call is not made");
        return Err(DialRefusal::Unavailable("an engine is down"));
    }
    check_disk(&services).map_err(|()| DialRefusal::Unavailable("the disk is full"))?;
    let mut record = CallRecord {
        id: call_id.unwrap_or_else(|| CallId::from_random(rand::rng().random())),
        call_type: CallType::OutboundPhoneCall,
        status: CallStatus::Ringing,
        assistant: id,
        from: caller(&target),
        to: called(&target),
        customer: customer(&target, customer_name),
        trunk: trunk_of(&target),
        phone_number_id,
        diverted_from: None,
        peer: peer(&target),
        sip_call_id: String::new(),
        later_call_ids: Vec::new(),
        created_at: OffsetDateTime::now_utc(),
        started_at: None,
        ended_at: None,
        ended_reason: None,
        ended_by: None,
        greeting_ms: None,
        codec: None,
        srtp: None,
        quality: None,
        recording: None,
        recording_sha256: None,
        messages: Vec::new(),
        turns: Vec::new(),
        digits: String::new(),
        mailbox: None,
        answered_by: None,
    };
    let place = services
        .admission
        .admit(Instant::now(), target.limits(), &record.assistant)
        .map_err(|full| match full {
            Full::Trunk => DialRefusal::TrunkBusy,
            Full::Assistant => DialRefusal::AssistantBusy,
        })?;
    let line = services.registry.admit(CallSnapshot::of(&record));
    let mut line = line.ok_or(DialRefusal::Busy)?;
    line.occupies(place);
    let seen = services.registry.follow(record.id);
    let seen = seen.ok_or(DialRefusal::Unavailable("the call is gone"))?;
    let unwritable = |()| DialRefusal::Unavailable("the call cannot be written down");
    let tape = open_recording(&services, &mut record)
        .await
        .map_err(unwritable)?;
    write_row(&services, &record).await.map_err(unwritable)?;
    if let Some(document) = document {
        services.journal.write(Entry::Document(record.id, document));
    }
    let settings = services.serve(settings, &record);
    let placed = Placed {
        id: record.id,
        seen,
    };
    let dialling = Dialling::start(&services, target, None, None);
    let outgoing = Outgoing {
        services,
        line,
        settings,
        record,
        tape,
        rang: false,
    };
    tokio::spawn(outgoing.run(dialling));
    Ok(placed)
}

fn caller(target: &Target) -> String {
    match target {
        Target::Number(_, route) => route.caller_id.clone().unwrap_or_default(),
        Target::Address(_) => String::new(),
    }
}

fn called(target: &Target) -> String {
    match target {
        Target::Number(number, _) => number.to_string(),
        Target::Address(uri) => uri.to_string(),
    }
}

fn customer(target: &Target, name: Option<String>) -> Option<Customer> {
    match target {
        Target::Number(number, _) => Some(Customer {
            number: number.to_string(),
            name,
        }),
        Target::Address(_) => None,
    }
}

fn trunk_of(target: &Target) -> Option<TrunkName> {
    match target {
        Target::Number(_, route) => Some(route.trunk.clone()),
        Target::Address(_) => None,
    }
}

fn peer(target: &Target) -> String {
    match target {
        Target::Number(_, route) => Uri::Sip(route.host.clone()).to_string(),
        Target::Address(_) => String::new(),
    }
}

/// A call of ours that nobody has answered yet.
struct Outgoing {
    services: Services,
    line: Line,
    settings: AssistantSettings,
    record: CallRecord,
    tape: Option<Tape>,
    /// Its server was told that it rings.
    rang: bool,
}

impl Outgoing {
    async fn run(mut self, mut dialling: Dialling) {
        let failure = loop {
            tokio::select! {
                step = dialling.next() => match step {
                    Step::Sent { leg, call_id } => self.sent(leg, call_id),
                    Step::Ringing(_) => self.rings(),
                    Step::Answered(party) => return self.answered(*party).await,
                    Step::Failed(failure) => break failure,
                },
                command = self.line.command() => match command {
                    CallCommand::End { reason, by } => break Failure { reason, by },
                    // Whom we call has somebody else take the call.
                    CallCommand::TakeOver { take_over, reply } => {
                        let _ = reply.send(Ok(()));
                        drop(dialling);
                        self.record.later_call_ids.push(take_over.call_id);
                        return self.answered(take_over.party).await;
                    }
                    command => command.refuse("nobody has answered yet"),
                },
            }
        };
        // Whoever still rings there stops ringing.
        drop(dialling);
        self.not_answered(failure);
    }

    /// From now on the ladder knows whose messages these are.
    fn sent(&mut self, leg: LegId, call_id: String) {
        self.line.leads(vec![(leg, self.record.trunk.clone())]);
        self.record.sip_call_id = call_id;
        let entry = Entry::Call(Box::new(self.record.clone()));
        self.services.journal.write(entry);
    }

    fn rings(&mut self) {
        if !std::mem::replace(&mut self.rang, true) {
            let ringing = Event::Status(CallStatus::Ringing);
            let webhooks = &self.services.webhooks;
            webhooks.tell(&self.settings, &self.record, ringing);
        }
    }

    async fn answered(mut self, party: Party) {
        self.record.status = CallStatus::InProgress;
        self.record.started_at = Some(OffsetDateTime::now_utc());
        party.note(&mut self.record);
        let entry = Entry::Call(Box::new(self.record.clone()));
        self.services.journal.write(entry);
        let answered = Answered {
            vad: self.services.vad.stream(),
            turn: TurnStream::new(self.services.turn.clone()),
            phrases: phrases(&self.services, &self.settings, party.session.stream.rate()),
            services: self.services,
            line: self.line,
            party,
            record: self.record,
            settings: self.settings,
            opening: Opening::Conversation,
            tape: self.tape,
        };
        Driver::new(answered).run().await;
    }

    fn not_answered(self, failure: Failure) {
        let Failure { reason, by } = failure;
        self.line.show(|call| {
            call.status = CallStatus::Ended;
            call.ended_reason = Some(reason);
        });
        let told = Some(&self.settings);
        close(&self.services, self.record, told, (reason, by));
    }
}
