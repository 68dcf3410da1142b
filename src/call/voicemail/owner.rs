//! What an owner's visit asks of the database and the disk.

use std::sync::Arc;
use std::time::Instant;

use time::OffsetDateTime;

use super::visit::{Attending, Happening, Visit, read_message};
use super::voice::Piece;
use crate::ids::VoicemailId;
use crate::record::{EndedBy, EndedReason, VoicemailState};
use crate::voicemail::{Claimed, MenuInput, MenuOutput, Owner, Prompt};

fn texts(prompts: &[Prompt]) -> Vec<String> {
    let texts = prompts.iter().map(|prompt| prompt.text().to_owned());
    texts.collect()
}

impl Visit {
    /// Whose mailbox is meant, by the number that is called from.
    pub(super) fn owner(&self) -> Owner {
        let number = self.record.customer.as_ref().map(|it| it.number.as_str());
        match self.services.mailboxes.owned_from(number) {
            Some(name) => Owner::Of(name),
            None => Owner::Unknown,
        }
    }
}

impl Attending {
    pub(super) fn serve(&mut self, outputs: Vec<MenuOutput>) {
        for output in outputs {
            match output {
                MenuOutput::Say(prompts) => {
                    let pieces = texts(&prompts).into_iter().map(Piece::Text).collect();
                    self.voice.say(pieces, &self.visit.party.session.stream);
                }
                MenuOutput::Play(before, id) => self.fetch_message(texts(&before), id),
                MenuOutput::Quiet => self.voice.quiet(&self.visit.party.session.stream),
                MenuOutput::Check { mailbox, pin } => self.check(&mailbox, &pin),
                MenuOutput::List(name) => {
                    self.visit.record.mailbox = Some(name.clone());
                    let mailboxes = self.visit.services.mailboxes.clone();
                    let now = OffsetDateTime::now_utc().unix_timestamp();
                    self.answer_later(async move { mailboxes.listed(&name, now).await });
                }
                MenuOutput::Save(id) => self.change(id, Some(VoicemailState::Saved)),
                MenuOutput::Delete(id) => self.change(id, None),
                MenuOutput::End => {
                    self.gone(EndedReason::MailboxEndedCall, EndedBy::Assistant);
                }
            }
        }
    }

    fn check(&mut self, claimed: &Claimed, pin: &str) {
        let mailboxes = &self.visit.services.mailboxes;
        let answer = mailboxes.check(claimed, pin, Instant::now());
        self.answered(answer);
    }

    fn answer_later(&self, answer: impl Future<Output = MenuInput> + Send + 'static) {
        let happenings = self.happenings.clone();
        tokio::spawn(async move {
            let answer = answer.await;
            // The owner may have hung up.
            let _ = happenings.send(Happening::Menu(answer)).await;
        });
    }

    /// Saves or deletes a message. Where that fails it is there the next time.
    fn change(&self, id: VoicemailId, state: Option<VoicemailState>) {
        let mailboxes = self.visit.services.mailboxes.clone();
        tokio::spawn(async move {
            let store = &mailboxes.store;
            let message = match store.voicemail(id).await {
                Ok(Some(message)) => message,
                // Somebody else has deleted it.
                Ok(None) => return,
                Err(error) => return tracing::error!(%id, %error, "a message is not changed"),
            };
            let changed = match state {
                Some(state) => store.mark_voicemail(id, state).await.map(|_| ()),
                None => store.delete_voicemail(&mailboxes.data, &message).await,
            };
            match changed {
                Ok(()) => mailboxes.changed(&message.mailbox),
                Err(error) => tracing::error!(%id, %error, "a message is not changed"),
            }
        });
    }

    fn fetch_message(&mut self, before: Vec<String>, id: VoicemailId) {
        self.voice.quiet(&self.visit.party.session.stream);
        let mailboxes = self.visit.services.mailboxes.clone();
        let happenings = self.happenings.clone();
        tokio::spawn(async move {
            let message = mailboxes.store.voicemail(id).await.ok().flatten();
            let path = message.map(|message| mailboxes.data.join(message.file));
            let read = tokio::task::spawn_blocking(move || {
                read_message(&path.ok_or("there is no such message")?)
            });
            let samples = read.await.unwrap_or_else(|error| Err(error.to_string()));
            if let Err(error) = &samples {
                tracing::error!(%id, error, "a message cannot be played");
            }
            let samples = samples.ok();
            let fetched = Happening::Message { before, samples };
            let _ = happenings.send(fetched).await;
        });
    }

    pub(super) fn play_message(&mut self, before: Vec<String>, samples: Option<Arc<[i16]>>) {
        let mut pieces: Vec<Piece> = before.into_iter().map(Piece::Text).collect();
        pieces.push(match samples.filter(|samples| !samples.is_empty()) {
            Some(samples) => Piece::Sound(samples),
            None => Piece::Text(Prompt::Unplayable.text().to_owned()),
        });
        self.voice.say(pieces, &self.visit.party.session.stream);
    }
}
