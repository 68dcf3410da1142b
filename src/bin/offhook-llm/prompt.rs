//! From a conversation to the tokens that the model reads.

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use offhook::engines::EngineError;
use offhook::engines::llm::{ChatMessage, ChatRole};

use crate::template::{ChatTemplate, TemplateError};

/// History is dropped in blocks of this many messages, so that its beginning, which is what can
/// be kept in the cache, stays the same for several turns.
const DROPPED_AT_ONCE: usize = 8;
/// No tokenizer makes fewer tokens of a text than it has bytes divided by this; longer texts are
/// refused or dropped before they are tokenised at all.
const BYTES_PER_TOKEN: usize = 24;

/// A conversation as the model reads it.
#[derive(Debug, PartialEq)]
pub(crate) struct Prompt {
    pub(crate) tokens: Vec<LlamaToken>,
    /// How many of the tokens every conversation with the same instructions begins with.
    pub(crate) prefix: usize,
    /// Oldest messages left out.
    pub(crate) dropped: usize,
    /// How many of the tokens end with the last word of the last message, where that is wanted.
    pub(crate) words: Option<usize>,
}

/// Reads conversations for one model.
pub(crate) struct Reader<'model> {
    model: &'model LlamaModel,
    template: ChatTemplate,
    /// Most tokens of a conversation, without its reply.
    limit: usize,
}

impl<'model> Reader<'model> {
    /// A reader of conversations of up to `limit` tokens.
    ///
    /// # Errors
    /// The model's template is broken.
    pub(crate) fn new(model: &'model LlamaModel, limit: usize) -> Result<Self, TemplateError> {
        Ok(Self {
            model,
            template: ChatTemplate::of(model)?,
            limit,
        })
    }

    /// The whole conversation, or its instructions and latest messages where it is too long with
    /// `reply` more tokens. `judged` asks for [`Prompt::words`].
    ///
    /// # Errors
    /// [`EngineError::BadInput`] where even the instructions and the last message are too long,
    /// or nothing was said.
    pub(crate) fn conversation(
        &self,
        messages: &[ChatMessage],
        reply: usize,
        judged: bool,
    ) -> Result<Prompt, EngineError> {
        let limit = self.limit.saturating_sub(reply);
        let instructions = leading_instructions(messages);
        let (kept, said) = messages.split_at(instructions);
        if said.is_empty() {
            return Err(bad_input("a conversation without a message".to_owned()));
        }
        let mut dropped = 0;
        loop {
            let rest = said.get(dropped..).unwrap_or_default();
            let conversation: Vec<ChatMessage> = kept.iter().chain(rest).cloned().collect();
            let last_chance = rest.len() == 1;
            let bytes: usize = conversation
                .iter()
                .map(|message| message.content.len())
                .sum();
            if bytes <= limit * BYTES_PER_TOKEN {
                let tokens = self.tokens(&conversation)?;
                if tokens.len() <= limit {
                    let prefix = self.prefix_of(kept, &tokens)?;
                    let words = match judged {
                        true => self.end_of_words(conversation, &tokens)?,
                        false => None,
                    };
                    return Ok(Prompt {
                        tokens,
                        prefix,
                        dropped,
                        words: words.filter(|&end| end > prefix),
                    });
                }
            }
            if last_chance {
                let detail = format!(
                    "instructions and last message exceed {limit} tokens (a conversation may \
                     have {}, {reply} of them for the reply)",
                    self.limit
                );
                return Err(bad_input(detail));
            }
            dropped = (dropped + DROPPED_AT_ONCE).min(said.len() - 1);
        }
    }

    /// What conversations that start with `messages` have in common.
    ///
    /// # Errors
    /// As for [`Reader::conversation`].
    pub(crate) fn beginning(&self, messages: &[ChatMessage]) -> Result<Prompt, EngineError> {
        let bytes: usize = messages.iter().map(|message| message.content.len()).sum();
        if bytes > self.limit * BYTES_PER_TOKEN {
            return Err(bad_input(format!("longer than {} tokens", self.limit)));
        }
        let continued = |word: &str| {
            let last = ChatMessage::new(ChatRole::User, word);
            let messages: Vec<ChatMessage> = messages.iter().cloned().chain([last]).collect();
            self.tokens(&messages)
        };
        // Two continuations that have nothing in common show where the beginning ends.
        let mut tokens = continued("When")?;
        let prefix = common(&tokens, &continued("7")?);
        if prefix == 0 || prefix > self.limit {
            return Err(bad_input(format!(
                "{prefix} tokens to be kept; 1 to {}",
                self.limit
            )));
        }
        tokens.truncate(prefix);
        Ok(Prompt {
            tokens,
            prefix,
            dropped: 0,
            words: None,
        })
    }

    /// How many of the conversation's `tokens` end with the last word of its last message: what two
    /// other ways to go on after that word have in common with them.
    fn end_of_words(
        &self,
        mut conversation: Vec<ChatMessage>,
        tokens: &[LlamaToken],
    ) -> Result<Option<usize>, EngineError> {
        let Some(last) = conversation.pop() else {
            return Ok(None);
        };
        let words = last
            .content
            .trim_end_matches(|letter: char| !letter.is_alphanumeric());
        if words.is_empty() {
            return Ok(None);
        }
        let mut ways = Vec::new();
        for way in [",", " and"] {
            conversation.push(ChatMessage::new(last.role, format!("{words}{way}")));
            ways.push(self.tokens(&conversation)?);
            conversation.pop();
        }
        let end = common(&ways[0], &ways[1]);
        Ok((common(&ways[0], tokens) >= end).then_some(end))
    }

    fn prefix_of(
        &self,
        instructions: &[ChatMessage],
        tokens: &[LlamaToken],
    ) -> Result<usize, EngineError> {
        if instructions.is_empty() {
            return Ok(0);
        }
        Ok(common(&self.beginning(instructions)?.tokens, tokens))
    }

    fn tokens(&self, messages: &[ChatMessage]) -> Result<Vec<LlamaToken>, EngineError> {
        let text = self
            .template
            .render(messages)
            .map_err(|error| EngineError::ModelUnusable {
                detail: error.to_string(),
            })?;
        let vocab = self.model.vocab();
        // Some templates write the beginning of the document themselves.
        let bos = self.template.bos();
        let add_special = bos.is_empty() || !text.starts_with(bos);
        Ok(vocab.tokenize(text.as_bytes(), add_special, true))
    }
}

fn leading_instructions(messages: &[ChatMessage]) -> usize {
    messages
        .iter()
        .take_while(|message| message.role == ChatRole::System)
        .count()
}

fn common(a: &[LlamaToken], b: &[LlamaToken]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

fn bad_input(detail: String) -> EngineError {
    EngineError::BadInput { detail }
}
