//! Peers that want to be told of changes (RFC 6665), and those that are told unasked.

use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use super::gate::Trust;
use super::{Command, Driver, Sip, SipGone};
use crate::sip::endpoint::{CommandError, NotifyRequest, SubscribeRequested, SubscriptionId};

/// What peers may subscribe to, and who is asked.
#[derive(Clone, Debug)]
pub struct Subscriptions {
    /// The event packages.
    pub packages: Vec<&'static str>,
    /// Gets what happens. A full queue refuses.
    pub events: mpsc::Sender<SubscriptionEvent>,
}

/// What happens to subscriptions.
#[derive(Clone, Debug)]
pub enum SubscriptionEvent {
    /// A peer asks: accept or reject it soon.
    Requested(Box<SubscribeRequested>),
    /// One that was accepted is over.
    Ended(SubscriptionId),
}

/// What is asked of a subscription.
#[derive(Debug)]
pub(super) enum SubscriptionCommand {
    Accept(&'static str, Vec<u8>),
    Reject(u16),
    Notify(&'static str, Vec<u8>),
}

impl Sip {
    /// Takes a subscription and tells it the state: a body of this type. One that is over is no
    /// matter.
    pub fn accept_subscription(&self, id: SubscriptionId, kind: &'static str, body: Vec<u8>) {
        self.subscription(id, SubscriptionCommand::Accept(kind, body));
    }

    /// Refuses a subscription.
    pub fn reject_subscription(&self, id: SubscriptionId, status: u16) {
        self.subscription(id, SubscriptionCommand::Reject(status));
    }

    /// Tells a subscriber the state as it is now.
    pub fn notify(&self, id: SubscriptionId, kind: &'static str, body: Vec<u8>) {
        self.subscription(id, SubscriptionCommand::Notify(kind, body));
    }

    fn subscription(&self, id: SubscriptionId, command: SubscriptionCommand) {
        let command = Command::Subscription(id, command);
        if self.commands.try_send(command).is_err() {
            self.dropped.commands.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Tells somebody who has not subscribed: their final status, `None` where none came.
    ///
    /// # Errors
    /// Where the driver is gone.
    pub async fn notify_unsolicited(&self, notify: NotifyRequest) -> Result<Option<u16>, SipGone> {
        self.gate.reach(notify.destination.ip(), Trust::Answers);
        let (reply, answer) = oneshot::channel();
        let command = Command::NotifyUnsolicited(Box::new(notify), reply);
        self.send(command).await?;
        answer.await.map_err(|_| SipGone)
    }
}

impl Driver {
    pub(super) fn subscription_command(
        &mut self,
        now: Instant,
        id: SubscriptionId,
        command: SubscriptionCommand,
    ) -> Result<(), CommandError> {
        let endpoint = &mut self.endpoint;
        match command {
            SubscriptionCommand::Accept(kind, body) => {
                endpoint.accept_subscription(now, id, kind, body)
            }
            SubscriptionCommand::Reject(status) => endpoint.reject_subscription(now, id, status),
            SubscriptionCommand::Notify(kind, body) => endpoint.notify(now, id, kind, body),
        }
    }

    pub(super) fn notify_unsolicited(
        &mut self,
        now: Instant,
        notify: NotifyRequest,
        answer: oneshot::Sender<Option<u16>>,
    ) {
        match self.endpoint.notify_unsolicited(now, notify) {
            Ok(id) => {
                self.pings.insert(id, answer);
            }
            Err(error) => {
                tracing::debug!(%error, "NOTIFY not sent");
                // Whoever asked may have gone.
                let _ = answer.send(None);
            }
        }
    }

    /// Tells the owner of subscriptions.
    pub(super) fn subscription_event(&mut self, event: SubscriptionEvent) {
        let asked = match &event {
            SubscriptionEvent::Requested(request) => Some(request.id),
            SubscriptionEvent::Ended(_) => None,
        };
        let events = self.subscriptions.as_ref();
        let told = events.is_some_and(|it| it.events.try_send(event).is_ok());
        if let (Some(id), false) = (asked, told) {
            // Nobody can say whether it may.
            let _ = self.endpoint.reject_subscription(Instant::now(), id, 480);
        }
    }
}
