//! Message waiting (RFC 3842): whoever subscribed to a mailbox, or is configured to be told, is
//! told when its messages change.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::call::{Indicator, Mailboxes};
use crate::ids::MailboxName;
use crate::net::sip::{Sip, SubscriptionEvent, Subscriptions, Way};
use crate::record::MailboxCounts;
use crate::sip::endpoint::{NotifyRequest, SubscribeRequested, SubscriptionId};
use crate::sip::uri::Uri;
use crate::voicemail::{MESSAGE_SUMMARY, SIMPLE_MESSAGE_SUMMARY, message_summary};

/// Requests that may wait.
const QUEUE: usize = 256;
/// A subscriber is answered within 8 s; the database may take this of them.
const PATIENCE: Duration = Duration::from_secs(4);
/// Until somebody who did not answer is told once more.
const AGAIN: Duration = Duration::from_secs(30);

/// Whose state a subscriber is told, and under which name.
struct Subscriber {
    mailbox: MailboxName,
    account: String,
}

type Subscribers = Arc<Mutex<HashMap<SubscriptionId, Subscriber>>>;

/// Who waits for messages.
#[derive(Clone)]
pub(super) struct Indicators {
    sip: Sip,
    mailboxes: Mailboxes,
    subscribers: Subscribers,
}

/// What SIP needs to take subscriptions; nothing where there are no mailboxes.
pub(super) fn subscriptions(
    wanted: bool,
) -> (Option<Subscriptions>, mpsc::Receiver<SubscriptionEvent>) {
    let (events, queue) = mpsc::channel(QUEUE);
    let subscriptions = Subscriptions {
        packages: vec![MESSAGE_SUMMARY],
        events,
    };
    (wanted.then_some(subscriptions), queue)
}

impl Indicators {
    pub(super) fn new(sip: &Sip, mailboxes: &Mailboxes) -> Self {
        Self {
            sip: sip.clone(),
            mailboxes: mailboxes.clone(),
            subscribers: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SubscriptionId, Subscriber>> {
        // Each change is whole before anything can panic.
        self.subscribers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells everybody who waits for a mailbox's messages.
    pub(super) fn indicator(&self) -> Indicator {
        let indicators = self.clone();
        Arc::new(move |name, counts| indicators.tell(name, counts))
    }

    fn tell(&self, name: &MailboxName, counts: MailboxCounts) {
        for (id, subscriber) in self.lock().iter() {
            if subscriber.mailbox == *name {
                let body = message_summary(&subscriber.account, counts);
                self.sip.notify(*id, SIMPLE_MESSAGE_SUMMARY, body);
            }
        }
        let Some(mailbox) = self.mailboxes.get(name) else {
            return;
        };
        for target in &mailbox.settings.notify {
            // Validation has read it already.
            let Ok(uri) = target.parse::<Uri>() else {
                continue;
            };
            let (indicators, name) = (self.clone(), name.clone());
            tokio::spawn(async move { indicators.tell_unasked(&name, &uri).await });
        }
    }

    /// What is known of every mailbox at the start is told to those who are told unasked: they may
    /// show what was true before.
    pub(super) async fn tell_all(self) {
        let names: Vec<MailboxName> = self
            .mailboxes
            .iter()
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            if let Some(counts) = self.counts(&name).await {
                self.tell(&name, counts);
            }
        }
    }

    /// Answers subscriptions until SIP is gone.
    pub(super) async fn serve(self, mut events: mpsc::Receiver<SubscriptionEvent>) {
        while let Some(event) = events.recv().await {
            match event {
                SubscriptionEvent::Requested(request) => self.requested(*request).await,
                SubscriptionEvent::Ended(id) => {
                    self.lock().remove(&id);
                }
            }
        }
    }

    async fn requested(&self, request: SubscribeRequested) {
        let Some(mailbox) = self.allowed(&request) else {
            // Who may not and what is not look the same.
            return self.sip.reject_subscription(request.id, 404);
        };
        let Some(counts) = self.counts(&mailbox).await else {
            return self.sip.reject_subscription(request.id, 480);
        };
        let account = request.resource.to_string();
        let body = message_summary(&account, counts);
        let subscriber = Subscriber {
            mailbox: mailbox.clone(),
            account: account.clone(),
        };
        self.lock().insert(request.id, subscriber);
        self.sip
            .accept_subscription(request.id, SIMPLE_MESSAGE_SUMMARY, body);
        // What changed while the messages were counted was told to those who were there already.
        if let Some(now) = self.counts(&mailbox).await.filter(|now| *now != counts) {
            let body = message_summary(&account, now);
            self.sip.notify(request.id, SIMPLE_MESSAGE_SUMMARY, body);
        }
    }

    /// How many messages there are, where the database says so before the subscriber gives up.
    async fn counts(&self, mailbox: &MailboxName) -> Option<MailboxCounts> {
        let counted = tokio::time::timeout(PATIENCE, self.mailboxes.counts(mailbox)).await;
        match counted {
            Ok(Ok(counts)) => Some(counts),
            Ok(Err(error)) => {
                tracing::error!(%mailbox, %error, "messages are not counted");
                None
            }
            Err(_) => {
                tracing::error!(%mailbox, "messages are not counted: the database is too slow");
                None
            }
        }
    }

    /// Tells somebody who has not asked, by one way after another, and once more later: the state
    /// as it is then, so that nothing old comes last.
    async fn tell_unasked(&self, mailbox: &MailboxName, target: &Uri) {
        for pause in [None, Some(AGAIN)] {
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
            let ways = match self.sip.resolve(target, None).await {
                Ok(ways) => ways,
                Err(error) => {
                    tracing::warn!(%mailbox, %error, "nobody is told of its messages");
                    continue;
                }
            };
            for way in ways {
                let Some(counts) = self.counts(mailbox).await else {
                    return;
                };
                match notify(&self.sip, way, target, counts).await {
                    Some(200..=299) => return,
                    Some(status) => {
                        tracing::warn!(%mailbox, status, "whoever is told of its messages refuses");
                        return;
                    }
                    None => {}
                }
            }
        }
        tracing::warn!(%mailbox, "whoever is told of its messages does not answer");
    }

    /// The mailbox that is meant, where the subscriber may know of it: one who is asked for a
    /// password must be its own user, or named as a subscriber.
    fn allowed(&self, request: &SubscribeRequested) -> Option<MailboxName> {
        let user = request.resource.user()?;
        let name = self.mailboxes.meant_by(&user)?;
        let Some(who) = &request.authenticated else {
            return Some(name);
        };
        let settings = &self.mailboxes.get(&name)?.settings;
        let named = settings.subscribers.iter().any(|it| it == who);
        let own = self.mailboxes.meant_by(who).as_ref() == Some(&name);
        (named || own).then_some(name)
    }
}

async fn notify(sip: &Sip, way: Way, target: &Uri, counts: MailboxCounts) -> Option<u16> {
    let notify = NotifyRequest {
        transport: way.transport,
        destination: way.destination,
        target: target.clone(),
        package: MESSAGE_SUMMARY,
        kind: SIMPLE_MESSAGE_SUMMARY,
        body: message_summary(&target.to_string(), counts),
    };
    sip.notify_unsolicited(notify).await.ok().flatten()
}
