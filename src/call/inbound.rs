//! From an INVITE to an answered call, or to a refusal that says why.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rand::RngExt;
use time::OffsetDateTime;
use tokio::sync::mpsc;

use super::Services;
use super::admission::Full;
use super::answering::Proposed;
use super::command::CallSnapshot;
use super::driver::{Answered, Driver};
use super::recording::Tape;
use super::registry::Line;
use super::taking_over::take_over;
use super::trunk;
use crate::audio::{SampleRate, Sound};
use crate::conversation::PhraseKind;
use crate::conversation::settings::AssistantSettings;
use crate::ids::{AssistantId, CallId};
use crate::net::sip::{Incoming, LegCommand};
use crate::record::{CallRecord, CallStatus, CallType, EndedBy, EndedReason};
use crate::sdp::SdpError;
use crate::sip::endpoint::{ExtraHeaders, IncomingCall};
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

    pub(super) fn sdp(error: &SdpError) -> Self {
        let (code, text) = error.warning();
        Self {
            headers: vec![("Warning".to_owned(), format!("{code} offhook \"{text}\""))],
            ..Self::new(error.status(), EndedReason::IncompatibleMedia)
        }
    }
}

/// What was prepared before the answer.
struct Prepared {
    line: Line,
    settings: AssistantSettings,
    proposed: Proposed,
    tape: Option<Tape>,
}

async fn take(services: Services, incoming: Incoming) {
    if let Some(replaced) = incoming.call.replaces {
        return take_over(services, incoming, replaced).await;
    }
    let Incoming { call, events } = incoming;
    let mut record = new_record(&call);
    let leg = call.leg;
    let prepared = match prepare(&services, &call, &mut record).await {
        Ok(prepared) => prepared,
        Err(refusal) => {
            services
                .sip
                .leg(leg, LegCommand::Reject(refusal.status, refusal.headers));
            return close(&services, record, refusal.reason, EndedBy::System);
        }
    };
    let party = match prepared.proposed.accept(&services, leg, events).await {
        Ok(party) => party,
        Err((reason, by)) => return close(&services, record, reason, by),
    };
    record.status = CallStatus::InProgress;
    record.started_at = Some(OffsetDateTime::now_utc());
    party.note(&mut record);
    services
        .journal
        .write(Entry::Call(Box::new(record.clone())));
    let answered = Answered {
        vad: services.vad.stream(),
        line: prepared.line,
        record,
        phrases: phrases(&services, &prepared.settings, party.session.stream.rate()),
        party,
        settings: prepared.settings,
        tape: prepared.tape,
        services,
    };
    Driver::new(answered).run().await;
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
    }
}

/// Everything that can go wrong goes wrong here, while a SIP status can still say so.
async fn prepare(
    services: &Services,
    call: &IncomingCall,
    record: &mut CallRecord,
) -> Result<Prepared, Refusal> {
    let unavailable = || Refusal::retry_later(503, EndedReason::ServiceUnavailable);
    let trunk = services.trunks.of(call);
    trunk::describe(trunk, call, record);
    let called = trunk::called(trunk, call);
    let called: Vec<&str> = called.iter().map(String::as_str).collect();
    let (assistant, settings) =
        (services.numbers)(&called).ok_or_else(|| Refusal::new(404, EndedReason::CallRejected))?;
    record.assistant = assistant;
    if let Some((component, state)) = services.health.refusal() {
        tracing::error!(%component, ?state, "a call is refused with 503");
        return Err(unavailable());
    }
    check_disk(services).map_err(|()| unavailable())?;
    let limited = trunk.map(|trunk| (&trunk.name, trunk.limits));
    let place = services
        .admission
        .admit(Instant::now(), limited, &record.assistant)
        .map_err(|full| match full {
            Full::Trunk => Refusal::retry_later(503, EndedReason::AdmissionRefused),
            Full::Assistant => Refusal::retry_later(486, EndedReason::AdmissionRefused),
        })?;
    let mut line = services
        .registry
        .admit(CallSnapshot::of(record))
        .ok_or_else(|| Refusal::retry_later(486, EndedReason::AdmissionRefused))?;
    line.occupies(place);
    let proposed = Proposed::new(services, call, trunk)?;
    services.sip.leg(call.leg, LegCommand::Ring);
    let tape = open_recording(services, record)
        .await
        .map_err(|()| unavailable())?;
    write_row(services, record)
        .await
        .map_err(|()| unavailable())?;
    Ok(Prepared {
        line,
        settings,
        proposed,
        tape,
    })
}

/// The assistant's fixed phrases at a rate, as far as there is audio for them.
pub(super) fn phrases(
    services: &Services,
    settings: &AssistantSettings,
    rate: SampleRate,
) -> HashMap<PhraseKind, Sound> {
    let spoken =
        |(kind, text): (PhraseKind, String)| Some((kind, services.phrases.get_at(&text, rate)?));
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
                "the disk is full: 503"
            );
            Err(())
        }
        Err(error) => {
            tracing::error!(%error, "the data folder is gone: 503");
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

/// Writes down a call that was never established.
pub(super) fn close(services: &Services, mut record: CallRecord, reason: EndedReason, by: EndedBy) {
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
        .write(crate::store::Entry::Call(Box::new(record)));
}
