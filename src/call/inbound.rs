//! From an INVITE to an answered call, or to a refusal that says why.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;
use time::OffsetDateTime;
use tokio::sync::mpsc;

use super::admission::Full;
use super::command::CallSnapshot;
use super::driver::{Answered, Driver};
use super::ending::ended;
use super::registry::Line;
use super::session::Session;
use super::trunk::{self, Keys};
use super::{Recorder, Services};
use crate::conversation::PhraseKind;
use crate::conversation::settings::AssistantSettings;
use crate::ids::{AssistantId, CallId};
use crate::net::media::MediaPort;
use crate::net::sip::{Incoming, LegCommand};
use crate::record::{CallRecord, CallStatus, CallType, EndedBy, EndedReason};
use crate::sdp::{self, Direction, Encryption, LocalMedia, Negotiated, SdpError};
use crate::sip::endpoint::{EndCause, Event, ExtraHeaders, IncomingCall};
use crate::store::free_space;

/// How long the database may take to take a new call's row.
const ROW_DEADLINE: Duration = Duration::from_secs(2);

/// How long a caller is asked to wait before trying a busy or broken server again.
const RETRY_AFTER_SECONDS: u32 = 10;

/// The payload type of telephone-event where the peer leaves it to us.
const TELEPHONE_EVENT: u8 = 101;

/// Takes calls until the driver of SIP is gone, each in a task of its own.
pub async fn take_calls(services: Services, mut incoming: mpsc::Receiver<Incoming>) {
    while let Some(call) = incoming.recv().await {
        tokio::spawn(take(services.clone(), call));
    }
}

/// A call that is not answered, and what the caller and the record are told.
struct Refusal {
    status: u16,
    headers: ExtraHeaders,
    reason: EndedReason,
}

impl Refusal {
    fn new(status: u16, reason: EndedReason) -> Self {
        Self {
            status,
            headers: Vec::new(),
            reason,
        }
    }

    fn retry_later(status: u16, reason: EndedReason) -> Self {
        Self {
            headers: vec![("Retry-After".to_owned(), RETRY_AFTER_SECONDS.to_string())],
            ..Self::new(status, reason)
        }
    }

    fn sdp(error: &SdpError) -> Self {
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
    phrases: HashMap<PhraseKind, Arc<[i16]>>,
    port: MediaPort,
    local: LocalMedia,
    sdp: Vec<u8>,
    negotiated: Option<Negotiated>,
    recorder: Option<Recorder>,
    keys: Keys,
}

async fn take(services: Services, incoming: Incoming) {
    let Incoming { call, mut events } = incoming;
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
    services
        .sip
        .leg(leg, LegCommand::Accept(prepared.sdp.clone()));
    let confirmed = wait_for_ack(&mut events).await;
    let negotiated = match (confirmed, prepared.negotiated) {
        (Err(cause), _) => {
            let (reason, by) = ended(&cause);
            return close(&services, record, reason, by);
        }
        (Ok(_), Some(negotiated)) => Ok(negotiated),
        (Ok(answer), None) => sdp::accept(&answer.unwrap_or_default(), &prepared.local),
    };
    let Ok(negotiated) = negotiated else {
        services
            .sip
            .leg(leg, LegCommand::Hangup(Default::default()));
        return close(
            &services,
            record,
            EndedReason::IncompatibleMedia,
            EndedBy::System,
        );
    };
    record.status = CallStatus::InProgress;
    record.started_at = Some(OffsetDateTime::now_utc());
    record.codec = Some(negotiated.codec.name().to_owned());
    record.srtp = negotiated
        .crypto
        .map(|crypto| crypto.suite.name().to_owned());
    services
        .journal
        .write(crate::store::Entry::Call(Box::new(record.clone())));
    let flow = prepared.port.flow(&negotiated);
    let (stream, ticks) = match flow {
        Ok(flow) => flow,
        Err(error) => {
            tracing::error!(call = %record.id, %error, "media cannot flow");
            services
                .sip
                .leg(leg, LegCommand::Hangup(Default::default()));
            return close(
                &services,
                record,
                EndedReason::InternalError,
                EndedBy::System,
            );
        }
    };
    let sip = services.sip.clone();
    let answered = Answered {
        vad: services.vad.stream(),
        services,
        line: prepared.line,
        session: Session::new(sip, leg, prepared.local, negotiated, stream),
        sip_events: events,
        record,
        settings: prepared.settings,
        phrases: prepared.phrases,
        ticks,
        recorder: prepared.recorder,
        keys: prepared.keys,
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
    // Calls cannot be joined yet.
    if call.replaces.is_some() {
        return Err(Refusal::new(603, EndedReason::CallRejected));
    }
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
    let port = services.media.reserve(call.source.ip()).map_err(|error| {
        tracing::error!(%error, "a call is refused with 503");
        unavailable()
    })?;
    let mut local = local_media(services, &port).map_err(|_| unavailable())?;
    if let Some(trunk) = trunk {
        local.codecs.clone_from(&trunk.codecs);
        local.encryption = trunk.encryption.for_dialog();
        if trunk.keys != Keys::Rfc4733 {
            local.telephone_event = None;
        }
    }
    let (sdp, negotiated) = match &call.offer {
        Some(offer) => {
            let (answer, negotiated) =
                sdp::answer(offer, &local).map_err(|error| Refusal::sdp(&error))?;
            (answer, Some(negotiated))
        }
        None => (sdp::offer(&local), None),
    };
    services.sip.leg(call.leg, LegCommand::Ring);
    let recorder = open_recording(services, record)
        .await
        .map_err(|()| unavailable())?;
    write_row(services, record)
        .await
        .map_err(|()| unavailable())?;
    Ok(Prepared {
        line,
        phrases: phrases(services, &settings),
        settings,
        port,
        local,
        sdp,
        negotiated,
        recorder,
        keys: trunk.map(|trunk| trunk.keys).unwrap_or_default(),
    })
}

/// The assistant's fixed phrases, as far as there is audio for them.
fn phrases(services: &Services, settings: &AssistantSettings) -> HashMap<PhraseKind, Arc<[i16]>> {
    let spoken = |(kind, text): (PhraseKind, String)| Some((kind, services.phrases.get(&text)?));
    settings.phrases().into_iter().filter_map(spoken).collect()
}

fn check_disk(services: &Services) -> Result<(), ()> {
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

fn local_media(services: &Services, port: &MediaPort) -> std::io::Result<LocalMedia> {
    Ok(LocalMedia {
        address: port.address(),
        port: port.port()?,
        codecs: services.limits.codecs.clone(),
        telephone_event: Some(TELEPHONE_EVENT),
        ptime_ms: 20,
        encryption: Encryption::Off,
        direction: Direction::SendRecv,
        session_id: u64::from(rand::rng().random::<u32>()),
        session_version: 1,
    })
}

async fn open_recording(
    services: &Services,
    record: &mut CallRecord,
) -> Result<Option<Recorder>, ()> {
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
            Ok(Some(recorder))
        }
        Ok(Err(error)) => {
            tracing::error!(%error, "the recording cannot be made: 503");
            Err(())
        }
        Err(_) => Err(()),
    }
}

async fn write_row(services: &Services, record: &CallRecord) -> Result<(), ()> {
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

/// Waits for the ACK; gives its SDP answer, where there is one, or why the leg ended.
async fn wait_for_ack(events: &mut mpsc::Receiver<Event>) -> Result<Option<Vec<u8>>, EndCause> {
    loop {
        match events.recv().await {
            Some(Event::Confirmed { answer, .. }) => return Ok(answer),
            Some(Event::Ended { cause, .. }) => return Err(cause),
            Some(_) => {}
            None => return Err(EndCause::NoAck),
        }
    }
}

/// Writes down a call that was never established.
fn close(services: &Services, mut record: CallRecord, reason: EndedReason, by: EndedBy) {
    record.status = CallStatus::Ended;
    record.ended_at = Some(OffsetDateTime::now_utc());
    record.ended_reason = Some(reason);
    record.ended_by = Some(by);
    if let (Some(recorder), Some(name)) = (&services.recorder, record.recording.take()) {
        recorder.finish(record.id);
        // An empty recording of a call that never was is no use to anybody.
        let _ = std::fs::remove_file(services.limits.data.join(name));
    }
    services.metrics.call_refused(reason);
    tracing::info!(call = %record.id, %reason, "call not established");
    services
        .journal
        .write(crate::store::Entry::Call(Box::new(record)));
}
