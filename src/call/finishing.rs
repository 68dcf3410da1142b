//! The end of an answered call: hung up on, measured, written down.

use std::time::Duration;

use time::OffsetDateTime;

use super::Services;
use super::quality;
use super::recording::{self, Tape};
use super::registry::Line;
use super::session::Party;
use crate::conversation::settings::AssistantSettings;
use crate::record::{CallRecord, CallStatus, EndedBy, EndedReason};
use crate::store::Entry;

/// The media thread answers within a tick; an overloaded one is not waited for.
const REPORT_PATIENCE: Duration = Duration::from_millis(500);

/// What is left of a call that ends.
pub(super) struct Finishing<'a> {
    pub(super) services: &'a Services,
    pub(super) line: &'a Line,
    pub(super) party: &'a Party,
    /// Whose server is told.
    pub(super) told: Option<&'a AssistantSettings>,
    /// The peer has hung up already.
    pub(super) left_by_peer: bool,
}

/// Ends the call and closes its record.
pub(super) async fn finish(
    call: Finishing<'_>,
    mut record: CallRecord,
    tape: Option<Tape>,
    reason: EndedReason,
    by: EndedBy,
) {
    let Finishing {
        services,
        line,
        party,
        told,
        left_by_peer,
    } = call;
    if !left_by_peer {
        party.session.hang_up();
    }
    let report = party.session.stream.report();
    let report = tokio::time::timeout(REPORT_PATIENCE, report).await;
    record.quality = report.ok().flatten().map(|report| quality::kept(&report));
    record.status = CallStatus::Ended;
    record.ended_at = Some(OffsetDateTime::now_utc());
    record.ended_reason = Some(reason);
    record.ended_by = Some(by);
    line.show(|call| {
        call.status = CallStatus::Ended;
        call.ended_reason = Some(reason);
    });
    services.metrics.call_ended(reason);
    if let Some(quality) = &record.quality {
        services.metrics.call_quality(quality);
    }
    services.llm.release(record.id);
    tracing::info!(call = %record.id, %reason, "call ended");
    let id = record.id;
    services
        .journal
        .write(Entry::Call(Box::new(record.clone())));
    if let Some(settings) = told {
        services.webhooks.ended(settings, &record);
    }
    if let Some(tape) = tape {
        recording::finish(tape, id, &services.journal).await;
    }
}
