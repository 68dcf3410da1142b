//! One reply: from logits to text that may be spoken.

use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::vocab::LlamaVocab;
use offhook::engines::EngineError;
use offhook::engines::llm::{GenerateSettings, LlmFinish};

use crate::sampling::{Sampler, Sampling};
use crate::text::{Passed, StopStrings, Utf8Joiner};

/// A reply that is being written.
#[derive(Debug)]
pub(crate) struct Reply {
    sampler: Sampler,
    joiner: Utf8Joiner,
    stops: StopStrings,
    max_tokens: usize,
    /// Drawn and not decoded yet.
    undecoded: Option<LlamaToken>,
    ended: Option<Ended>,
}

#[derive(Clone, Copy, Debug)]
enum Ended {
    As(LlmFinish),
    NoLogits,
}

/// What comes of one token.
#[derive(Debug)]
pub(crate) enum Next {
    /// Text to pass on, possibly none yet.
    More(String),
    /// The last text, possibly none.
    End(String),
}

impl Reply {
    /// A reply to be written as `settings` say.
    pub(crate) fn new(settings: &GenerateSettings, seed: u64) -> Self {
        let sampling = Sampling {
            temperature: settings.temperature,
            top_p: settings.top_p,
            repetition_penalty: settings.repetition_penalty,
            seed,
        };
        Self {
            sampler: Sampler::new(sampling),
            joiner: Utf8Joiner::default(),
            stops: StopStrings::new(settings.stop.iter().cloned()),
            max_tokens: settings.max_tokens as usize,
            undecoded: None,
            ended: None,
        }
    }

    /// Draws the next token.
    pub(crate) fn take_logits(&mut self, logits: &[f32], vocab: &LlamaVocab<'_>) -> Next {
        let Some(token) = self.sampler.pick(logits) else {
            return self.end(Ended::NoLogits);
        };
        if vocab.is_eog(token) {
            return self.end(Ended::As(LlmFinish::Stop));
        }
        // Control tokens that do not end the reply have no text.
        let text = self.joiner.push(&vocab.token_to_piece(token, false, None));
        let text = match self.stops.push(&text) {
            Passed::Text(text) => text,
            Passed::Stopped(text) => {
                self.ended = Some(Ended::As(LlmFinish::StopText));
                return Next::End(text);
            }
        };
        let finish = if self.sampler.is_looping() {
            LlmFinish::Repetition
        } else if self.sampler.drawn() >= self.max_tokens {
            LlmFinish::Length
        } else {
            self.undecoded = Some(token);
            return Next::More(text);
        };
        match self.end(Ended::As(finish)) {
            Next::More(rest) | Next::End(rest) => Next::End(text + &rest),
        }
    }

    /// The token to be decoded next.
    pub(crate) fn undecoded(&self) -> &[LlamaToken] {
        self.undecoded.as_slice()
    }

    /// Tokens drawn, the one that ended the reply included.
    pub(crate) fn tokens(&self) -> usize {
        self.sampler.drawn()
    }

    /// How it ended.
    ///
    /// # Errors
    /// The model gave no probabilities: it or its file is broken.
    pub(crate) fn finish(&self) -> Result<LlmFinish, EngineError> {
        match self.ended {
            Some(Ended::As(finish)) => Ok(finish),
            None | Some(Ended::NoLogits) => {
                let detail = "the model's output is not a number".to_owned();
                Err(EngineError::Internal { detail })
            }
        }
    }

    fn end(&mut self, ended: Ended) -> Next {
        self.ended = Some(ended);
        self.undecoded = None;
        Next::End(self.stops.finish())
    }
}
