//! What the model says of a call that is over: summary, success, facts.
//!
//! ```text
//!  call over ──► wanted (in the database) ──► no call is up, or it waited long ──► asked ──► kept
//!                          ▲                                                        │
//!                          └────────────── failed, up to three times ◄──────────────┘
//! ```
//!
//! One call at a time, at the engines' lowest priority, and while calls are up only what has
//! waited for long: nobody on the phone waits for this.

mod prompts;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::conversation::settings::{AnalysisPlan, AssistantSettings};
use crate::engines::hosted::Hosted;
use crate::engines::llm::{ChatMessage, GenerateRequest, GenerateSettings, Llm};
use crate::engines::{EngineError, EngineEvent, Priority};
use crate::ids::{CallId, Generation};
use crate::record::{Analysis, CallRecord};
use crate::store::{Store, StoreError};

/// How often is looked for work.
const POLL: Duration = Duration::from_secs(2);
/// How long calls go first.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long the model may take for one question, where the plan does not say.
const TIMEOUT: Duration = Duration::from_secs(120);
const MOST_ATTEMPTS: u32 = 3;
/// Longest answer, in tokens.
const MOST_TOKENS: u32 = 400;
/// Pieces of an answer that may lie unread.
const EVENTS: usize = 64;

/// Finds the settings that are in force in a kept call; `None` where there are none any more.
pub type Book = Arc<dyn Fn(CallId) -> Finding + Send + Sync>;

/// A look into the [`Book`].
pub type Finding =
    Pin<Box<dyn Future<Output = Result<Option<AssistantSettings>, StoreError>> + Send>>;

/// Looks at calls that are over.
pub struct Analyst {
    /// Where they are.
    pub store: Store,
    /// The model of this machine.
    pub llm: Llm,
    /// Models elsewhere, for assistants that name one.
    pub hosted: Hosted,
    /// What is to be found out.
    pub settings_of: Book,
    /// How many calls are up.
    pub calls_up: Arc<dyn Fn() -> usize + Send + Sync>,
}

impl Analyst {
    /// Works until it is dropped.
    pub async fn run(self) {
        loop {
            match self.next().await {
                Ok(true) => {}
                Ok(false) => tokio::time::sleep(POLL).await,
                Err(error) => {
                    tracing::warn!(%error, "analysis: the database cannot be used");
                    tokio::time::sleep(POLL * 2).await;
                }
            }
        }
    }

    /// Looks at the oldest call that waits; false where there is none.
    async fn next(&self) -> Result<bool, StoreError> {
        let Some((id, attempts)) = self.store.next_analysis().await? else {
            return Ok(false);
        };
        self.let_calls_go_first().await;
        let settings = (self.settings_of)(id).await?;
        let plan = settings
            .as_ref()
            .and_then(|settings| Some((settings, settings.analysis_plan.as_ref()?)));
        let call = self.store.call(id).await?;
        let (Some((settings, plan)), Some(call)) = (plan, call) else {
            self.store
                .save_analysis(id, Some(&Analysis::default()))
                .await?;
            return Ok(true);
        };
        if attempts >= MOST_ATTEMPTS || !plan.wants(call.messages.len()) {
            self.store
                .save_analysis(id, Some(&Analysis::default()))
                .await?;
            return Ok(true);
        }
        let found = self.find_out(settings, plan, &call).await;
        if let Err(error) = &found {
            tracing::warn!(call = %id, %error, "a call is not analysed; tried again");
        }
        self.store.save_analysis(id, found.as_ref().ok()).await?;
        Ok(true)
    }

    async fn let_calls_go_first(&self) {
        let patience = tokio::time::Instant::now() + PATIENCE;
        while (self.calls_up)() > 0 && tokio::time::Instant::now() < patience {
            tokio::time::sleep(POLL).await;
        }
    }

    async fn find_out(
        &self,
        settings: &AssistantSettings,
        plan: &AnalysisPlan,
        call: &CallRecord,
    ) -> Result<Analysis, EngineError> {
        let model = self.hosted.equip_model(settings, &self.llm);
        let facts = prompts::Facts::of(settings, call);
        let mut analysis = Analysis::default();
        if let Some(plan) = plan.summary_plan.as_ref().filter(|plan| plan.enabled) {
            let messages = prompts::summary(plan, &facts);
            let text = ask(&model, call.id, messages, plan.timeout_seconds).await?;
            analysis.summary = Some(text.trim().to_owned());
        }
        let success = plan.success_evaluation_plan.as_ref();
        if let Some(plan) = success.filter(|plan| plan.enabled) {
            let messages = prompts::success(plan, &facts);
            let text = ask(&model, call.id, messages, plan.timeout_seconds).await?;
            analysis.success_evaluation = Some(prompts::verdict(plan.rubric, &text));
        }
        let data = plan.structured_data_plan.as_ref();
        if let Some(plan) = data.filter(|plan| plan.enabled) {
            let messages = prompts::structured_data(plan, &facts);
            let text = ask(&model, call.id, messages, plan.timeout_seconds).await?;
            analysis.structured_data = prompts::object_in(&text);
        }
        self.llm.release(call.id);
        Ok(analysis)
    }
}

/// One question, and the whole answer.
async fn ask(
    model: &Llm,
    call: CallId,
    messages: Vec<ChatMessage>,
    timeout_seconds: Option<f64>,
) -> Result<String, EngineError> {
    let (sender, mut events) = mpsc::channel(EVENTS);
    let request = GenerateRequest {
        generation: Generation::from_raw(0),
        call,
        priority: Priority::Speculative,
        messages,
        settings: GenerateSettings {
            max_tokens: MOST_TOKENS,
            ..GenerateSettings::default()
        },
        seed: 0,
    };
    let limit = timeout_seconds.map_or(TIMEOUT, |seconds| {
        Duration::from_secs_f64(seconds.clamp(1.0, 600.0))
    });
    let handle = model.generate(request, sender)?;
    let answer = async {
        let mut text = String::new();
        while let Some(event) = events.recv().await {
            match event {
                EngineEvent::ReplyText { text: piece, .. } => text.push_str(&piece),
                EngineEvent::ReplyFailed { error, .. } => return Err(error),
                EngineEvent::ReplyDone { .. } => return Ok(text),
                _ => {}
            }
        }
        Err(EngineError::Cancelled)
    };
    let answered = tokio::time::timeout(limit, answer).await;
    drop(handle);
    answered.unwrap_or(Err(EngineError::TimedOut))
}

#[cfg(test)]
mod tests;
