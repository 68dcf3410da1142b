//! A long conversation's beginning becomes a summary before the model's context is full.
//!
//! ```text
//!  None ──the assistant has spoken, and much was said──► Asked ──done──► the beginning is replaced,
//!   ▲                                                      │            and read ahead by the model
//!   └───────────── failed: the next time ◄─────────────────┘
//! ```

use crate::ids::Generation;

use super::Conversation;
use super::api::{ChatMessage, ChatRole, Output};

/// What is asked of the model.
const INSTRUCTIONS: &str = "Summarise this part of a telephone call for the assistant who goes on \
    with it. Name every name, number, date and wish that was mentioned, and what was agreed. At \
    most six short sentences. Add nothing.";
/// How the summary is put before the rest.
const INTRODUCTION: &str = "Earlier in this call:";
/// A summary's length, in tokens.
const MOST_TOKENS: u32 = 160;
/// And in bytes, should the model not keep to it.
const MOST_BYTES: usize = 1200;

/// A summary that is being written.
#[derive(Debug)]
pub(super) struct Summary {
    generation: Generation,
    /// How many messages it takes the place of.
    messages: usize,
    text: String,
}

impl Conversation {
    /// Asks for a summary where the conversation became long.
    pub(super) fn summarise(&mut self) {
        if self.summary.is_some() || !self.engines.llm {
            return;
        }
        let Some(beginning) = self.history.beginning_of_much() else {
            return;
        };
        let lines = beginning.iter().map(|message| {
            let who = match message.role {
                ChatRole::User => "Caller",
                ChatRole::Assistant => "Assistant",
                ChatRole::System => "Note",
            };
            format!("{who}: {}", message.content)
        });
        let (messages, said) = (beginning.len(), lines.collect::<Vec<_>>().join("\n"));
        let message = |role, content: &str| ChatMessage {
            role,
            content: content.to_owned(),
        };
        let generation = self.next_generation();
        self.summary = Some(Summary {
            generation,
            messages,
            text: String::new(),
        });
        self.emit(Output::Summarise {
            generation,
            messages: vec![
                message(ChatRole::System, INSTRUCTIONS),
                message(ChatRole::User, &said),
            ],
            max_tokens: MOST_TOKENS,
        });
    }

    /// A piece of it, or of something else. True where it was.
    pub(super) fn summary_text(&mut self, of: Generation, piece: &str) -> bool {
        let summary = self.summary.as_mut().filter(|own| own.generation == of);
        if let Some(summary) = summary {
            if summary.text.len() < MOST_BYTES {
                summary.text.push_str(piece);
            }
            return true;
        }
        false
    }

    /// It is complete, or something else is. True where it is.
    pub(super) fn summary_done(&mut self, of: Generation) -> bool {
        let Some(summary) = self.summary.take_if(|own| own.generation == of) else {
            return false;
        };
        self.emit(Output::Release { generation: of });
        let text = summary.text.trim();
        if !text.is_empty() {
            let text = format!("{INTRODUCTION} {text}");
            self.history.replace_beginning(summary.messages, text);
            self.read_ahead(Some(String::new()));
        }
        true
    }

    /// It failed, or something else did. True where it did: tried again when more was said.
    pub(super) fn summary_failed(&mut self, of: Generation) -> bool {
        let failed = self.summary.take_if(|own| own.generation == of).is_some();
        if failed {
            self.emit(Output::Release { generation: of });
        }
        failed
    }
}
