//! Makes the calls that are to be made later, when their time has come and a line is free.

use std::time::Duration;

use time::OffsetDateTime;

use crate::call::{DialRefusal, NoRoute};
use crate::http::{Api, ApiError, scheduled_request};
use crate::record::{CallStatus, EndedBy, EndedReason};
use crate::store::{Entry, Journal, ScheduledCall, StoreError};
use crate::webhooks::Webhooks;

/// How often is looked for calls.
const POLL: Duration = Duration::from_secs(1);
/// Calls that are looked at at a time.
const AT_ONCE: u32 = 16;

/// Makes scheduled calls.
pub(super) struct Scheduler {
    pub(super) api: Api,
    pub(super) journal: Journal,
    pub(super) webhooks: Webhooks,
}

/// What became of a call whose time has come.
enum Made {
    /// It is made.
    Now,
    /// Not now: its trunk or its assistant has as many calls as it may.
    Later,
    /// Nor is any other: every line is in use, or an engine is down.
    NoneNow,
    /// Never.
    Never(EndedReason),
}

impl Scheduler {
    /// Works until it is dropped.
    pub(super) async fn run(self) {
        loop {
            if let Err(error) = self.make_due_calls().await {
                tracing::warn!(%error, "scheduled calls cannot be read");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn make_due_calls(&self) -> Result<(), StoreError> {
        let now = OffsetDateTime::now_utc();
        for due in self.api.store.due_calls(now, AT_ONCE).await? {
            let late = due.latest_at.is_some_and(|latest| latest < now);
            let made = match late {
                true => Made::Never(EndedReason::ScheduleExpired),
                false => self.make(&due).await,
            };
            match made {
                Made::Now | Made::Later => {}
                Made::NoneNow => break,
                Made::Never(reason) => self.give_up(due, reason).await?,
            }
        }
        Ok(())
    }

    async fn make(&self, due: &ScheduledCall) -> Made {
        let id = due.call.record.id;
        let request = match scheduled_request(&self.api, id, &due.call.document).await {
            Ok(request) => request,
            Err(ApiError::Unavailable(_)) => return Made::NoneNow,
            Err(error) => {
                tracing::warn!(call = %id, ?error, "a scheduled call cannot be made");
                return Made::Never(EndedReason::AssistantNotFound);
            }
        };
        match (self.api.dialler)(request).await {
            Ok(_) => Made::Now,
            Err(refusal) => {
                tracing::debug!(call = %id, %refusal, "a scheduled call is not made");
                match refusal {
                    DialRefusal::UnknownAssistant(_) => Made::Never(EndedReason::AssistantNotFound),
                    DialRefusal::NoRoute(NoRoute::Number { .. } | NoRoute::NoTarget) => {
                        Made::Never(EndedReason::SipOutboundNumberInvalid)
                    }
                    DialRefusal::NoRoute(_) => {
                        Made::Never(EndedReason::SipGatewayFailedToConnectCall)
                    }
                    DialRefusal::TrunkBusy | DialRefusal::AssistantBusy => Made::Later,
                    DialRefusal::Busy | DialRefusal::Unavailable(_) => Made::NoneNow,
                }
            }
        }
    }

    async fn give_up(&self, due: ScheduledCall, reason: EndedReason) -> Result<(), StoreError> {
        let mut record = due.call.record;
        record.status = CallStatus::Ended;
        record.ended_at = Some(OffsetDateTime::now_utc());
        record.ended_reason = Some(reason);
        record.ended_by = Some(EndedBy::System);
        tracing::info!(call = %record.id, %reason, "a scheduled call is given up");
        let settings = self.api.directory.settings_of(record.id).await?;
        self.journal.write(Entry::Call(Box::new(record.clone())));
        if let Some(settings) = settings {
            self.webhooks.ended(&settings, &record);
        }
        // So that it is not looked at again before it is written down.
        self.journal.flush().await;
        Ok(())
    }
}
