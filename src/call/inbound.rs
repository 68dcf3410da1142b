//! From an INVITE to an answered call, or to a refusal that says why.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rand::RngExt;
use time::OffsetDateTime;
use tokio::sync::mpsc;

use super::admission::Full;
use super::answering::Proposed;
use super::command::CallSnapshot;
use super::driver::{Answered, Driver};
use super::opening::Opening;
use super::recording::Tape;
use super::registry::{Kind, Line};
use super::requesting::who_answers;
use super::taking_over::take_over;
use super::trunk;
use super::voicemail::{Errand, ToMailbox, Visit};
use super::{Answers, Services};
use crate::audio::{SampleRate, Sound};
use crate::conversation::PhraseKind;
use crate::conversation::settings::AssistantSettings;
use crate::engines::turn::TurnStream;
use crate::ids::{AssistantId, CallId, MailboxName};
use crate::net::sip::{Incoming, LegCommand};
use crate::record::{
    CallDocument, CallRecord, CallStatus, CallType, EndedBy, EndedReason, VoicemailReason,
};
use crate::sdp::SdpError;
use crate::sip::endpoint::{Event, ExtraHeaders, IncomingCall};
use crate::store::{Entry, free_space};

/// How long the database may take to take a new call's row.
const ROW_DEADLINE: Duration = Duration::from_secs(2);

/// How long a caller is asked to wait before trying a busy or broken server again.
const RETRY_AFTER_SECONDS: u32 = 10;

/// Takes calls until the driver of SIP is gone, each in a task of its own.
pub async fn take_calls(services: Services, mut incoming: mpsc::Receiver<Incoming>) {
    while let Some(call) = incoming.recv().await {
        tokio::spawn(take(services.clone(), call));
    }
}

/// A call that is not answered, and what the caller and the record are told.
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) headers: ExtraHeaders,
    reason: EndedReason,
}

impl Refusal {
    pub(super) fn new(status: u16, reason: EndedReason) -> Self {
        Self {
            status,
            headers: Vec::new(),
            reason,
        }
    }

    pub(super) fn retry_later(status: u16, reason: EndedReason) -> Self {
        Self {
            headers: vec![("Retry-After".to_owned(), RETRY_AFTER_SECONDS.to_string())],
            ..Self::new(status, reason)
        }
    }

    /// Why a mailbox may take the call instead; `None` where it could do no more.
    fn for_mailbox(&self) -> Option<VoicemailReason> {
        match (self.reason, self.status) {
            (EndedReason::AdmissionRefused, 486) => Some(VoicemailReason::Busy),
            (EndedReason::ServiceUnavailable, _) => Some(VoicemailReason::Unavailable),
            _ => None,
        }
    }

    pub(super) fn sdp(error: &SdpError) -> Self {
        let (code, text) = error.warning();
        Self {
            headers: vec![("Warning".to_owned(), format!("{code} offhook \"{text}\""))],
            ..Self::new(error.status(), EndedReason::IncompatibleMedia)
        }
    }
}

/// Why a call is not answered.
pub(super) enum Unanswered {
    /// We refuse it.
    Refused(Refusal),
    /// It is over.
    Left(EndedReason, EndedBy),
}

impl From<Refusal> for Unanswered {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Who answers a call.
pub(super) struct Who {
    pub(super) id: AssistantId,
    pub(super) settings: Box<AssistantSettings>,
    pub(super) mailbox: Option<MailboxName>,
    pub(super) phone_number: Option<String>,
    pub(super) opening: Opening,
    /// Where it is no kept assistant, as it is kept.
    pub(super) document: Option<Box<CallDocument>>,
}

/// What was prepared before the answer.
struct Prepared {
    line: Line,
    proposed: Proposed,
    tape: Option<Tape>,
    then: Then,
}

/// What comes after the answer.
enum Then {
    Converse(Box<AssistantSettings>, Opening),
    Visit(Errand),
}

async fn take(services: Services, incoming: Incoming) {
    if let Some(replaced) = incoming.call.replaces {
        return take_over(services, incoming, replaced).await;
    }
    let Incoming { call, mut events } = incoming;
    let mut record = new_record(&call);
    let mut told = None;
    let leg = call.leg;
    let prepared = prepare(&services, &call, &mut events, &mut record, &mut told).await;
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(Unanswered::Refused(refusal)) => {
            services
                .sip
                .leg(leg, LegCommand::Reject(refusal.status, refusal.headers));
            let over = (refusal.reason, EndedBy::System);
            return close(&services, record, told.as_ref(), over);
        }
        Err(Unanswered::Left(reason, by)) => {
            return close(&services, record, told.as_ref(), (reason, by));
        }
    };
    let party = match prepared.proposed.accept(&services, leg, events).await {
        Ok(party) => party,
        Err(over) => return close(&services, record, told.as_ref(), over),
    };
    record.status = CallStatus::InProgress;
    record.started_at = Some(OffsetDateTime::now_utc());
    party.note(&mut record);
    services
        .journal
        .write(Entry::Call(Box::new(record.clone())));
    let (line, tape) = (prepared.line, prepared.tape);
    match prepared.then {
        Then::Converse(settings, opening) => {
            let answered = Answered {
                vad: services.vad.stream(),
                turn: TurnStream::new(services.turn.clone()),
                phrases: phrases(&services, &settings, party.session.stream.rate()),
                services,
                line,
                party,
                record,
                settings: *settings,
                opening,
                tape,
            };
            Driver::new(answered).run().await;
        }
        Then::Visit(errand) => {
            services.metrics.call_started();
            let visit = Visit {
                services,
                line,
                party,
                record,
                told,
                tape,
                ticks_before: 0,
            };
            visit.run(errand).await;
        }
    }
}

fn new_record(call: &IncomingCall) -> CallRecord {
    CallRecord {
        id: CallId::from_random(rand::rng().random()),
        call_type: CallType::InboundPhoneCall,
        status: CallStatus::Ringing,
        assistant: AssistantId::new(""),
        from: call.from.uri.to_string(),
        to: call.request_uri.to_string(),
        customer: None,
        trunk: None,
        phone_number_id: None,
        diverted_from: None,
        peer: call.source.to_string(),
        sip_call_id: call.call_id.clone(),
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
    }
}

/// Everything that can go wrong goes wrong here, while a SIP status can still say so. `told` is
/// whose server is told of it, once that is known.
async fn prepare(
    services: &Services,
    call: &IncomingCall,
    events: &mut mpsc::Receiver<Event>,
    record: &mut CallRecord,
    told: &mut Option<AssistantSettings>,
) -> Result<Prepared, Unanswered> {
    let trunks = (services.trunks)();
    let trunk = trunks.of(call);
    trunk::describe(trunk, call, record);
    let called = trunk::called(trunk, call);
    let called: Vec<&str> = called.iter().map(String::as_str).collect();
    let mailboxes = &services.mailboxes;
    let diverted = mailboxes.of_diverted(record.diverted_from.as_deref());
    if let Some(name) = diverted {
        let reason = VoicemailReason::Diverted;
        return Ok(prepare_visit(services, call, record, leave(name, reason)).await?);
    }
    let answers =
        (services.numbers)(&called).ok_or_else(|| Refusal::new(404, EndedReason::CallRejected))?;
    let who = match answers {
        Answers::Mailbox(name) => {
            let errand = leave(name, VoicemailReason::Called);
            return Ok(prepare_visit(services, call, record, errand).await?);
        }
        Answers::VoicemailMenu => {
            return Ok(prepare_visit(services, call, record, Errand::Hear).await?);
        }
        Answers::Assistant {
            id,
            settings,
            mailbox,
            phone_number,
        } => Who {
            id,
            settings,
            mailbox,
            phone_number,
            opening: Opening::Conversation,
            document: None,
        },
        Answers::Server(number) => {
            record.phone_number_id.clone_from(&number.phone_number);
            *told = Some(services.serve(Opening::settings(), record));
            who_answers(services, record, call.leg, events, *number).await?
        }
    };
    record.phone_number_id.clone_from(&who.phone_number);
    record.assistant = who.id.clone();
    let settings = services.serve((*who.settings).clone(), record);
    *told = Some(settings.clone());
    let who = Who {
        settings: Box::new(settings),
        ..who
    };
    Ok(prepare_answer(services, call, record, who).await?)
}

/// For the assistant, or for the mailbox that takes its calls.
async fn prepare_answer(
    services: &Services,
    call: &IncomingCall,
    record: &mut CallRecord,
    mut who: Who,
) -> Result<Prepared, Refusal> {
    let mailboxes = &services.mailboxes;
    let own = who.settings.mailbox_plan.mailbox.as_deref();
    let mailbox = who.mailbox.take().or_else(|| mailboxes.named(own?));
    who.settings.mailbox_plan.mailbox = mailbox.as_ref().map(ToString::to_string);
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let closed = mailboxes.closed(mailbox.as_ref(), now);
    let (name, reason) = match (mailbox, closed) {
        (Some(name), true) => (name, VoicemailReason::OutOfHours),
        (mailbox, _) => {
            let prepared = prepare_conversation(services, call, record, who).await;
            match (prepared, mailbox) {
                (Ok(prepared), _) => return Ok(prepared),
                (Err(refusal), None) => return Err(refusal),
                (Err(refusal), Some(name)) => (name, refusal.for_mailbox().ok_or(refusal)?),
            }
        }
    };
    prepare_visit(services, call, record, leave(name, reason)).await
}

fn leave(name: MailboxName, reason: VoicemailReason) -> Errand {
    Errand::Leave(ToMailbox { name, reason })
}

/// For an assistant.
async fn prepare_conversation(
    services: &Services,
    call: &IncomingCall,
    record: &mut CallRecord,
    who: Who,
) -> Result<Prepared, Refusal> {
    let unavailable = || Refusal::retry_later(503, EndedReason::ServiceUnavailable);
    if let Some((component, state)) = services.health.refusal() {
        tracing::error!(%component, ?state, "no assistant can take a call");
        return Err(unavailable());
    }
    check_disk(services).map_err(|()| unavailable())?;
    let (line, proposed) = admit(services, call, record, Kind::Conversation)?;
    let tape = open_recording(services, record)
        .await
        .map_err(|()| unavailable())?;
    write_row(services, record)
        .await
        .map_err(|()| unavailable())?;
    if let Some(document) = who.document {
        let entry = Entry::Document(record.id, document);
        services.journal.write(entry);
    }
    Ok(Prepared {
        line,
        proposed,
        tape,
        then: Then::Converse(who.settings, who.opening),
    })
}

/// For a mailbox, which needs neither engines nor database: what fails is explained in the call.
async fn prepare_visit(
    services: &Services,
    call: &IncomingCall,
    record: &mut CallRecord,
    errand: Errand,
) -> Result<Prepared, Refusal> {
    let (line, proposed) = admit(services, call, record, Kind::Visit)?;
    if write_row(services, record).await.is_err() {
        // It waits until the database can be written again.
        let entry = Entry::Call(Box::new(record.clone()));
        services.journal.write(entry);
    }
    // Begun for an assistant that could not take the call after all.
    let begun = services.recorder.clone();
    let begun = begun.filter(|_| record.recording.is_some());
    Ok(Prepared {
        line,
        proposed,
        tape: begun.map(|recorder| Tape::new(recorder, record.id)),
        then: Then::Visit(errand),
    })
}

/// A line, a port and an answer to the offer; the caller hears it ring.
fn admit(
    services: &Services,
    call: &IncomingCall,
    record: &CallRecord,
    kind: Kind,
) -> Result<(Line, Proposed), Refusal> {
    let trunks = (services.trunks)();
    let trunk = trunks.of(call);
    let limited = trunk.map(|trunk| (&trunk.name, trunk.limits));
    let nobody = AssistantId::new("");
    let whose = match kind {
        Kind::Conversation => &record.assistant,
        Kind::Visit => &nobody,
    };
    let place = services
        .admission
        .admit(Instant::now(), limited, whose)
        .map_err(|full| match full {
            Full::Trunk => Refusal::retry_later(503, EndedReason::AdmissionRefused),
            Full::Assistant => Refusal::retry_later(486, EndedReason::AdmissionRefused),
        })?;
    let mut line = services
        .registry
        .admit_to(kind, CallSnapshot::of(record))
        .ok_or_else(|| Refusal::retry_later(486, EndedReason::AdmissionRefused))?;
    line.occupies(place);
    let proposed = Proposed::new(services, call, trunk)?;
    services.sip.leg(call.leg, LegCommand::Ring);
    Ok((line, proposed))
}

/// The assistant's fixed phrases at a rate, as far as there is audio for them.
pub(super) fn phrases(
    services: &Services,
    settings: &AssistantSettings,
    rate: SampleRate,
) -> HashMap<PhraseKind, Sound> {
    let book = match services.hosted.equip_voice(settings, &services.tts) {
        Some((_, voice)) => services.phrases.in_voice(&voice),
        None => services.phrases.clone(),
    };
    let spoken = |(kind, text): (PhraseKind, String)| Some((kind, book.get_at(&text, rate)?));
    settings.phrases().into_iter().filter_map(spoken).collect()
}

pub(super) fn check_disk(services: &Services) -> Result<(), ()> {
    let limits = &services.limits;
    match free_space(&limits.data) {
        Ok(free) if free.0 >= limits.minimum_free => Ok(()),
        Ok(free) => {
            tracing::error!(
                free = free.0,
                needed = limits.minimum_free,
                "the disk is full"
            );
            Err(())
        }
        Err(error) => {
            tracing::error!(%error, "the data folder is gone");
            Err(())
        }
    }
}

pub(super) async fn open_recording(
    services: &Services,
    record: &mut CallRecord,
) -> Result<Option<Tape>, ()> {
    let Some(recorder) = services.recorder.clone() else {
        return Ok(None);
    };
    let name = format!("recordings/{}.wav", record.id);
    let path = services.limits.data.join(&name);
    let call = record.id;
    let opening = recorder.clone();
    let opened = tokio::task::spawn_blocking(move || opening.open(call, &path)).await;
    match opened {
        Ok(Ok(())) => {
            record.recording = Some(name);
            Ok(Some(Tape::new(recorder, call)))
        }
        Ok(Err(error)) => {
            tracing::error!(%error, "the recording cannot be made: 503");
            Err(())
        }
        Err(_) => Err(()),
    }
}

pub(super) async fn write_row(services: &Services, record: &CallRecord) -> Result<(), ()> {
    let written =
        tokio::time::timeout(ROW_DEADLINE, services.journal.write_now(record.clone())).await;
    match written {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            tracing::error!(%error, "the call cannot be written down: 503");
            Err(())
        }
        Err(_) => {
            tracing::error!("the database is too slow to take a call: 503");
            Err(())
        }
    }
}

/// Writes down a call that was never established, and tells whom it concerns.
pub(super) fn close(
    services: &Services,
    mut record: CallRecord,
    told: Option<&AssistantSettings>,
    (reason, by): (EndedReason, EndedBy),
) {
    record.status = CallStatus::Ended;
    record.ended_at = Some(OffsetDateTime::now_utc());
    record.ended_reason = Some(reason);
    record.ended_by = Some(by);
    if let (Some(recorder), Some(name)) = (&services.recorder, record.recording.take()) {
        drop(recorder.finish(record.id));
        // An empty recording of a call that never was is no use to anybody.
        let _ = std::fs::remove_file(services.limits.data.join(name));
    }
    services.metrics.call_refused(reason);
    tracing::info!(call = %record.id, %reason, "call not established");
    services
        .journal
        .write(Entry::Call(Box::new(record.clone())));
    if let Some(settings) = told {
        services.webhooks.ended(settings, &record);
    }
}
