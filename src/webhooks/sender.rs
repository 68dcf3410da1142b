//! Sends what waits: a few at once, one of each call.

use std::collections::HashSet;
use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use time::OffsetDateTime;
use tokio::task::JoinSet;
use url::Url;

use super::{Book, body, posting};
use crate::conversation::settings::{Backoff, Server};
use crate::ids::CallId;
use crate::observe::Metrics;
use crate::record::{WebhookDelivery, WebhookOutcome};
use crate::store::{Store, StoreError};
use crate::web::Client;

/// Messages that are under way at once.
const AT_ONCE: usize = 8;
/// Waiting ones that are looked at: beside those under way some are always left.
const LOOKED_AT: u32 = 64;
const LONGEST_PAUSE: f64 = 300.0;
const SHORTEST_PAUSE: f64 = 0.1;
/// Until the analysis of a call is looked for again.
const ANALYSIS_PAUSE: Duration = Duration::from_secs(2);
/// A report goes without its analysis then.
const ANALYSIS_PATIENCE: Duration = Duration::from_secs(1800);
/// How long what is done with is kept to be looked at, and how often that is seen to.
const KEPT: Duration = Duration::from_secs(7 * 86_400);
const SWEEP: Duration = Duration::from_secs(3600);

/// What an operator says about sending.
#[derive(Clone, Debug)]
pub struct SenderSettings {
    /// What could not be delivered for this long is given up.
    pub give_up: Duration,
    /// How often is looked for messages.
    pub poll: Duration,
    /// Messages that may wait, for all receivers together; see
    /// [`Store::drop_webhooks_over`].
    pub most_waiting: u64,
    /// This server's own URL, for the links in reports; without it they have none.
    pub base: Option<String>,
}

/// Sends what waits in the database.
#[derive(Clone)]
pub struct Sender {
    /// Where it waits.
    pub store: Store,
    /// Connects only where it may.
    pub client: Client,
    /// Whose server is where.
    pub settings_of: Book,
    /// What is counted.
    pub metrics: Metrics,
    /// How.
    pub settings: SenderSettings,
}

impl Sender {
    /// Sends until it is dropped. What is under way then is sent again by the next one.
    pub async fn run(self) {
        let mut busy = HashSet::new();
        let mut under_way = JoinSet::new();
        let mut swept = tokio::time::Instant::now();
        let mut counted = tokio::time::Instant::now();
        loop {
            if counted.elapsed() >= self.settings.poll {
                counted = tokio::time::Instant::now();
                self.keep_to_the_limit().await;
            }
            match self.begin(&mut busy, &mut under_way).await {
                Ok(()) => {}
                Err(error) => tracing::warn!(%error, "webhooks: cannot be read"),
            }
            if swept.elapsed() > SWEEP {
                swept = tokio::time::Instant::now();
                self.sweep().await;
            }
            tokio::select! {
                Some(done) = under_way.join_next() => match done {
                    Ok(call) => drop(busy.remove(&call)),
                    Err(error) => tracing::error!(%error, "webhooks: an attempt broke off"),
                },
                () = tokio::time::sleep(self.settings.poll) => {}
            }
        }
    }

    async fn begin(
        &self,
        busy: &mut HashSet<CallId>,
        under_way: &mut JoinSet<CallId>,
    ) -> Result<(), StoreError> {
        if under_way.len() >= AT_ONCE {
            return Ok(());
        }
        let now = OffsetDateTime::now_utc();
        for delivery in self.store.due_webhooks(now, LOOKED_AT).await? {
            if under_way.len() < AT_ONCE && busy.insert(delivery.call) {
                under_way.spawn(self.clone().attend_to(delivery));
            }
        }
        Ok(())
    }

    /// A receiver that is gone for good, or too slow, must not fill the disk.
    async fn keep_to_the_limit(&self) {
        let most = self.settings.most_waiting;
        match self.store.drop_webhooks_over(most).await {
            Ok(None) => {}
            Ok(Some((dropped, receiver))) => {
                self.metrics.webhooks("dropped", dropped);
                tracing::warn!(
                    dropped,
                    receiver,
                    "webhooks: too many wait, the oldest are dropped"
                );
            }
            Err(error) => tracing::warn!(%error, "webhooks: cannot be counted"),
        }
    }

    async fn sweep(&self) {
        let before = OffsetDateTime::now_utc() - KEPT;
        if let Err(error) = self.store.sweep_webhooks(before).await {
            tracing::warn!(%error, "webhooks: what is done with cannot be deleted");
        }
    }

    async fn attend_to(self, delivery: WebhookDelivery) -> CallId {
        let outcome = self.outcome(&delivery).await;
        let (call, kind) = (delivery.call, delivery.kind);
        match &outcome {
            WebhookOutcome::Delivered => self.metrics.webhook("delivered"),
            WebhookOutcome::Later { .. } => {}
            WebhookOutcome::Again { why, .. } => {
                self.metrics.webhook("failed");
                tracing::info!(%call, kind, why, "webhook: tried again later");
            }
            WebhookOutcome::GivenUp { why } => {
                self.metrics.webhook("given_up");
                tracing::warn!(%call, kind, why, "webhook: given up");
            }
        }
        if let Err(error) = self.store.webhook_tried(delivery.id, &outcome).await {
            tracing::warn!(%error, "webhooks: an outcome cannot be written down");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        call
    }

    async fn outcome(&self, delivery: &WebhookDelivery) -> WebhookOutcome {
        let given_up = |why: &str| WebhookOutcome::GivenUp {
            why: why.to_owned(),
        };
        let settings = match (self.settings_of)(delivery.call).await {
            Ok(settings) => settings.and_then(|settings| settings.server),
            Err(error) => {
                return self.again(delivery, &Server::default(), None, &error.to_string());
            }
        };
        let found = settings.as_ref();
        let found = found.and_then(|server| Some((server, posting::url_of(server)?)));
        let Some((server, url)) = found else {
            return given_up("the assistant has no server any more");
        };
        let body = match self.body(delivery).await {
            Ok(Some(body)) => body,
            Ok(None) => {
                return WebhookOutcome::Later {
                    at: OffsetDateTime::now_utc() + ANALYSIS_PAUSE,
                };
            }
            Err(error) => return self.again(delivery, server, None, &error.to_string()),
        };
        match self.post(delivery, server, url, body).await {
            Attempt::Done => WebhookOutcome::Delivered,
            Attempt::Refused(why) => given_up(&why),
            Attempt::Failed { why, pause } => self.again(delivery, server, pause, &why),
        }
    }

    /// What is sent; `None` while the call's analysis is waited for.
    async fn body(&self, delivery: &WebhookDelivery) -> Result<Option<String>, StoreError> {
        if !delivery.body.is_empty() {
            return Ok(Some(delivery.body.clone()));
        }
        let analysis = self.store.analysis(delivery.call).await?;
        let now = OffsetDateTime::now_utc();
        if matches!(analysis, Some(None)) && now - delivery.created_at < ANALYSIS_PATIENCE {
            return Ok(None);
        }
        let call = self.store.call(delivery.call).await?;
        Ok(call.map(|call| {
            let base = self.settings.base.as_deref();
            body::report(&call, analysis.flatten().as_ref(), base, now)
        }))
    }

    fn again(
        &self,
        delivery: &WebhookDelivery,
        server: &Server,
        pause: Option<Duration>,
        why: &str,
    ) -> WebhookOutcome {
        let now = OffsetDateTime::now_utc();
        let plan = &server.backoff_plan;
        let often = plan
            .max_retries
            .is_some_and(|most| delivery.attempts >= most);
        if often || now - delivery.created_at > self.settings.give_up {
            return WebhookOutcome::GivenUp {
                why: why.to_owned(),
            };
        }
        let doubled = match plan.kind {
            Backoff::Fixed => 1.0,
            Backoff::Exponential => 2f64.powi(delivery.attempts.min(20).cast_signed()),
        };
        let longest = (plan.base_delay_seconds * doubled).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        // So that what failed together does not come back together.
        let jittered = longest * (0.5 + rand::random::<f64>() / 2.0);
        let own = Duration::from_secs_f64(jittered);
        WebhookOutcome::Again {
            at: now + own.max(pause.unwrap_or_default()),
            why: why.to_owned(),
        }
    }

    async fn post(
        &self,
        delivery: &WebhookDelivery,
        server: &Server,
        url: Url,
        body: String,
    ) -> Attempt {
        let id = delivery.id.to_string();
        let sent = match posting::request(&self.client, server, url, &id, body) {
            Ok(request) => request.send().await,
            Err(refused) => return Attempt::Refused(refused.to_string()),
        };
        match sent {
            // What the answer says is of no interest, and so is not read.
            Ok(answer) => Attempt::of_answer(&answer, server),
            Err(error) if error.is_timeout() => Attempt::failed("no answer in time"),
            Err(error) if error.is_connect() => Attempt::failed("no connection"),
            Err(_) => Attempt::failed("the answer broke off"),
        }
    }
}

enum Attempt {
    Done,
    Refused(String),
    Failed {
        why: String,
        pause: Option<Duration>,
    },
}

impl Attempt {
    fn failed(why: &str) -> Self {
        Self::Failed {
            why: why.to_owned(),
            pause: None,
        }
    }

    fn of_answer(answer: &reqwest::Response, server: &Server) -> Self {
        let status = answer.status();
        let code = status.as_u16();
        let excluded = server.backoff_plan.excluded_status_codes.contains(&code);
        let why = format!("answered with status {code}");
        match code {
            200..=299 => Self::Done,
            // Gone (RFC 9110 15.5.11): it says so itself.
            410 => Self::Refused(why),
            _ if excluded => Self::Refused(why),
            _ => {
                let after = answer.headers().get(RETRY_AFTER);
                let seconds = after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
                let pause = seconds.map(|seconds: u64| Duration::from_secs(seconds.min(3600)));
                Self::Failed { why, pause }
            }
        }
    }
}
