//! What the model is told of the conversation: what was said and what was heard, nothing else.

use std::collections::VecDeque;

use super::api::{ChatMessage, ChatRole};

/// The conversation is cut at its beginning beyond this, in bytes: the prompt's share of a small
/// model's context.
const MOST_BYTES: usize = 16 * 1024;
/// From here on its beginning is summarised.
const MUCH_BYTES: usize = 6 * 1024;
/// The latest messages are never a part of a summary.
const KEPT_MESSAGES: usize = 8;
/// And beyond this many messages.
const MOST_MESSAGES: usize = 200;

#[derive(Debug)]
pub(super) struct History {
    prompt: Vec<ChatMessage>,
    said: VecDeque<ChatMessage>,
    bytes: usize,
}

impl History {
    pub(super) fn new(prompt: Vec<ChatMessage>) -> Self {
        Self {
            prompt,
            said: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Remembers words. Those of one speaker after another's are one message.
    pub(super) fn push(&mut self, role: ChatRole, words: &str) {
        let words = words.trim();
        if words.is_empty() {
            return;
        }
        self.bytes += words.len() + 1;
        match self.said.back_mut() {
            // Somebody who is never answered starts a new message some time.
            Some(last) if last.role == role && last.content.len() < MOST_BYTES / 4 => {
                last.content.push(' ');
                last.content.push_str(words);
            }
            Some(_) | None => {
                self.said.push_back(ChatMessage {
                    role,
                    content: words.to_owned(),
                });
            }
        }
        while self.said.len() > 1 && (self.bytes > MOST_BYTES || self.said.len() > MOST_MESSAGES) {
            if let Some(oldest) = self.said.pop_front() {
                self.bytes = self.bytes.saturating_sub(oldest.content.len() + 1);
            }
        }
    }

    /// What was said last by one side.
    pub(super) fn last_of(&self, role: ChatRole) -> Option<&str> {
        let mut said = self.said.iter().rev();
        said.find(|message| message.role == role)
            .map(|message| message.content.as_str())
    }

    /// All but the latest messages, once much was said.
    pub(super) fn beginning_of_much(&self) -> Option<Vec<&ChatMessage>> {
        let count = self.said.len().saturating_sub(KEPT_MESSAGES);
        (self.bytes > MUCH_BYTES && count > 1).then(|| self.said.iter().take(count).collect())
    }

    /// One message stands for the first `count`; what was dropped meanwhile is not missed.
    pub(super) fn replace_beginning(&mut self, count: usize, summary: String) {
        let count = count.min(self.said.len().saturating_sub(1));
        self.said.drain(..count);
        self.said.push_front(ChatMessage {
            role: ChatRole::System,
            content: summary,
        });
        let lengths = self.said.iter().map(|message| message.content.len() + 1);
        self.bytes = lengths.sum();
    }

    /// The messages for the model.
    pub(super) fn chat(&self) -> Vec<ChatMessage> {
        self.prompt.iter().chain(&self.said).cloned().collect()
    }

    /// The messages for the model, as if these words had been said after all others.
    pub(super) fn chat_with(&self, role: ChatRole, words: &str) -> Vec<ChatMessage> {
        let mut chat = self.chat();
        let in_prompt = self.said.is_empty();
        match chat.last_mut() {
            Some(last) if last.role == role && !in_prompt => {
                if !words.is_empty() {
                    last.content.push(' ');
                    last.content.push_str(words);
                }
            }
            Some(_) | None => chat.push(ChatMessage {
                role,
                content: words.to_owned(),
            }),
        }
        chat
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt() -> Vec<ChatMessage> {
        vec![ChatMessage {
            role: ChatRole::System,
            content: "Be brief.".to_owned(),
        }]
    }

    #[test]
    fn words_of_one_speaker_are_one_message() {
        let mut history = History::new(prompt());
        history.push(ChatRole::User, "Hello.");
        history.push(ChatRole::User, " Anybody? ");
        history.push(ChatRole::Assistant, "");
        let chat = history.chat_with(ChatRole::User, "Well?");
        assert_eq!(chat.len(), 2);
        assert_eq!(chat[1].content, "Hello. Anybody? Well?");
        assert_eq!(
            history.chat()[1].content,
            "Hello. Anybody?",
            "chat_with remembers nothing"
        );
    }

    #[test]
    fn a_long_conversation_loses_its_beginning_but_never_the_prompt() {
        let mut history = History::new(prompt());
        for turn in 0..1000 {
            history.push(
                ChatRole::User,
                &format!("question {turn} {}", "x".repeat(100)),
            );
            history.push(ChatRole::Assistant, &format!("answer {turn}"));
        }
        let chat = history.chat();
        assert_eq!(chat[0].content, "Be brief.");
        assert!(
            chat.iter()
                .map(|message| message.content.len())
                .sum::<usize>()
                < MOST_BYTES + 100
        );
        assert_eq!(chat[chat.len() - 1].content, "answer 999");
    }
}
