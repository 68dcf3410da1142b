//! What is asked of the model, and how far it has come.

use std::time::Instant;

use llama_cpp_2::token::LlamaToken;
use offhook::engines::ReplyUsage;
use offhook::engines::llm::{GenerateSettings, LlmEnd, LlmFinish, LlmProtocol};
use offhook::engines::worker::Responder;

use crate::cache::{Owner, Sequence};
use crate::prompt::Prompt;
use crate::reply::Reply;
use crate::schedule::Want;

/// A request whose conversation was read into tokens.
pub(crate) struct Request {
    pub(crate) responder: Responder<LlmProtocol>,
    pub(crate) owner: Owner,
    pub(crate) prompt: Prompt,
    pub(crate) purpose: Purpose,
    /// Nobody waits for it yet.
    pub(crate) ahead: bool,
    pub(crate) received: Instant,
    pub(crate) heard_of: Instant,
}

/// What for.
pub(crate) enum Purpose {
    /// Reading the prompt was all.
    Read,
    Write {
        settings: GenerateSettings,
        seed: u64,
    },
}

impl Request {
    /// Tokens that its reply may have.
    pub(crate) fn reply_tokens(&self) -> usize {
        match &self.purpose {
            Purpose::Read => 0,
            Purpose::Write { settings, .. } => settings.max_tokens as usize,
        }
    }

    /// Tokens of the prompt that are to be read even where the cache has them.
    pub(crate) fn unread(&self) -> usize {
        let Prompt { tokens, words, .. } = &self.prompt;
        words.map_or(1, |words| tokens.len() + 1 - words)
    }

    /// What is said of it at its end.
    pub(crate) fn end(&self, finish: Option<LlmFinish>, cached: usize) -> LlmEnd {
        let usage = ReplyUsage {
            prompt_tokens: count(self.prompt.tokens.len()),
            cached_tokens: count(cached),
            completion_tokens: 0,
            first_token_ms: 0,
            total_ms: milliseconds(self.received),
        };
        LlmEnd {
            finish,
            usage,
            dropped_messages: count(self.prompt.dropped),
        }
    }
}

/// A request that has a sequence.
pub(crate) struct Active {
    pub(crate) request: Request,
    pub(crate) sequence: Sequence,
    /// Tokens of the prompt that were in the cache.
    pub(crate) cached: usize,
    /// Tokens of the prompt that are in the cache now.
    pub(crate) read: usize,
    /// Once the prompt is read.
    pub(crate) reply: Option<Reply>,
    pub(crate) first_token_ms: u32,
    /// The call has ended, or there is none.
    pub(crate) forget_at_end: bool,
}

impl Active {
    /// What it wants of the next step.
    pub(crate) fn want(&self) -> Want {
        let left = self.request.prompt.tokens.len() - self.read;
        if left == 0 {
            Want::Decode
        } else {
            Want::Prefill {
                tokens: left,
                ahead: self.request.ahead,
            }
        }
    }

    /// Whether a reply is wanted.
    pub(crate) fn writes(&self) -> bool {
        matches!(self.request.purpose, Purpose::Write { .. })
    }

    /// The next tokens, at most `most`. A portion ends where the shared beginning ends, since the
    /// state there is what is kept.
    pub(crate) fn next_tokens(&self, most: usize) -> &[LlamaToken] {
        if let Some(reply) = &self.reply {
            return &reply.undecoded()[..most.min(1)];
        }
        let Prompt { tokens, prefix, .. } = &self.request.prompt;
        let end = match self.read < *prefix {
            true => *prefix,
            false => tokens.len(),
        };
        &tokens[self.read..end.min(self.read + most)]
    }

    /// The place among the next `count` tokens of the last word, whose logits are wanted.
    pub(crate) fn last_word(&self, count: usize) -> Option<usize> {
        let words = self.request.prompt.words.filter(|_| self.reply.is_none())?;
        let place = words.checked_sub(self.read + 1)?;
        (place < count).then_some(place)
    }

    /// Whether it is still reading what other calls' conversations begin with too.
    pub(crate) fn reads_prefix(&self) -> bool {
        self.read < self.request.prompt.prefix
    }
}

pub(crate) fn count(tokens: usize) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

pub(crate) fn milliseconds(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_millis()).unwrap_or(u32::MAX)
}
