//! What calls are routed by: the configuration as it is now, the API's objects in it.

use std::sync::Arc;

use tokio::sync::watch;

use super::{outbound, signalling, trunks};
use crate::call::{self, Answers, Routes, ServedNumber, Trunks};
use crate::config::{Answer, Config, Number, Service};
use crate::conversation::settings::{AssistantSettings, Server};
use crate::engines::hosted::Hosted;
use crate::engines::phrases::PhraseBook;
use crate::engines::tts::Tts;
use crate::ids::{AssistantId, MailboxName};
use crate::net::sip::Sip;
use crate::sip::endpoint::KnownPeers;

/// The newest configuration. Cheap to clone.
#[derive(Clone)]
pub(super) struct Published(watch::Receiver<Arc<Config>>);

impl Published {
    pub(super) fn new(receiver: watch::Receiver<Arc<Config>>) -> Self {
        Self(receiver)
    }

    fn now(&self) -> Arc<Config> {
        Arc::clone(&self.0.borrow())
    }

    pub(super) fn number_plan(&self) -> call::NumberPlan {
        let published = self.clone();
        Arc::new(move |called| {
            let config = published.now();
            Some(match config.answer_for(called)? {
                Answer::Assistant {
                    id,
                    settings,
                    mailbox,
                    phone_number,
                } => Answers::Assistant {
                    id,
                    settings: Box::new(settings.clone()),
                    mailbox,
                    phone_number,
                },
                Answer::Server { server, number } => {
                    Answers::Server(Box::new(served(&config, server, number)))
                }
                Answer::Mailbox(name) => Answers::Mailbox(name),
                Answer::Service(Service::VoicemailMenu) => Answers::VoicemailMenu,
            })
        })
    }

    pub(super) fn assistant_book(&self) -> call::Assistants {
        let published = self.clone();
        Arc::new(move |name| {
            let config = published.now();
            let settings = config.assistants.get(name)?;
            Some((AssistantId::new(name), settings.clone()))
        })
    }

    pub(super) fn servers(&self) -> call::Servers {
        let published = self.clone();
        Arc::new(move |phone_number| published.now().server_of(phone_number))
    }

    pub(super) fn trunks(&self) -> Arc<dyn Fn() -> Trunks + Send + Sync> {
        let published = self.clone();
        Arc::new(move || trunks::inbound(&published.now()))
    }

    pub(super) fn routes(&self) -> Arc<dyn Fn() -> Routes + Send + Sync> {
        let published = self.clone();
        Arc::new(move || outbound::routes(&published.now()))
    }

    /// Lets new trunks' addresses in, and has new assistants' fixed phrases spoken ahead; what is
    /// not ready when a call needs it is spoken then.
    pub(super) async fn follow(mut self, sip: Sip, phrases: PhraseBook, tts: Tts, hosted: Hosted) {
        loop {
            let config = Arc::clone(&self.0.borrow_and_update());
            let peers = KnownPeers {
                trusted: signalling::known_sources(&config),
                extensions: trunks::extensions(&config),
            };
            // An error means that SIP is gone.
            let _ = sip.know(peers).await;
            let texts: Vec<String> = config
                .assistants
                .values()
                .flat_map(AssistantSettings::phrases)
                .map(|(_, text)| text)
                .collect();
            let missing = phrases.load(&texts).await;
            if !missing.is_empty() && tts.ready().await.is_ok() {
                for (_, error) in phrases.prepare(&tts, &missing).await {
                    tracing::warn!(%error, "a phrase is not spoken ahead");
                }
            }
            say_in_hosted_voices(&config, &phrases, &tts, &hosted).await;
            if self.0.changed().await.is_err() {
                return;
            }
        }
    }
}

fn served(config: &Config, server: &Server, number: &Number) -> ServedNumber {
    let fallback = config.webhooks.fallback_assistant.as_deref();
    let fallback = fallback.and_then(|name| config.assistants.get_key_value(name));
    ServedNumber {
        server: server.clone(),
        mailbox: number.mailbox.as_deref().map(MailboxName::new),
        phone_number: Some(number.id().to_owned()),
        fallback: number.fallback.clone().map(Box::new),
        fallback_assistant: fallback
            .map(|(name, settings)| (AssistantId::new(name), Box::new(settings.clone()))),
    }
}

/// Has the fixed phrases of assistants with a hosted voice spoken in it. The local voice says what
/// is missing.
async fn say_in_hosted_voices(config: &Config, phrases: &PhraseBook, tts: &Tts, hosted: &Hosted) {
    for (name, assistant) in &config.assistants {
        let Some((tts, voice)) = hosted.equip_voice(assistant, tts) else {
            continue;
        };
        let texts = assistant.phrases().into_iter().map(|(_, text)| text);
        let texts: Vec<_> = texts.collect();
        let failed = phrases.in_voice(&voice).prepare(&tts, &texts).await;
        if let Some((_, error)) = failed.first() {
            let missing = failed.len();
            tracing::warn!(assistant = name, missing, %error, "its voice does not say its phrases");
        }
    }
}
