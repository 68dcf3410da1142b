//! whisper.cpp behind a safe face: one model, one reused state, driven step by step.
//!
//! `whisper_full` is not used to decode. It hides the logits, cannot be stopped between tokens
//! without a callback through C++ frames, and encodes again for a second opinion. Here the caller
//! says [`Whisper::listen`], [`Whisper::encode`] and then [`Whisper::step`] as often as it likes.
//!
//! Flash attention stays off: whisper.cpp then rounds the context up to a multiple of 256 without
//! a mask, so that a trimmed context attends to what an earlier, longer utterance left there.

use std::ffi::{CStr, CString, c_char, c_void};
use std::path::Path;
use std::ptr::{self, NonNull};

use offhook::ids::LanguageCode;
use whisper_rs::whisper_rs_sys as sys;

/// Number of a token in the model's vocabulary.
pub(crate) type Token = i32;

/// Positions of the encoder's full context: 30 s.
pub(crate) const FULL_CONTEXT: usize = 1500;
/// Encoder positions in a second.
pub(crate) const POSITIONS_PER_SECOND: usize = 50;
/// Samples in a second, as Whisper wants them.
pub(crate) const RATE: usize = 16_000;

/// whisper.cpp refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WhisperError {
    /// The file is no usable model.
    #[error("the model cannot be loaded")]
    Load,
    /// Memory for the state is lacking.
    #[error("no memory for the decoder's state")]
    State,
    /// A call came back with an error.
    #[error("{call} failed with {status}")]
    Call {
        /// Which function.
        call: &'static str,
        /// Its status.
        status: i32,
    },
    /// More tokens than the text context holds.
    #[error("the text context of {0} tokens is full")]
    TextContextFull(usize),
    /// The model does not know it.
    #[error("the model does not know the language {0:?}")]
    Language(LanguageCode),
    /// Text or path that C cannot take.
    #[error("a NUL byte in the text")]
    Nul,
}

/// The tokens that are no text.
#[derive(Clone, Debug)]
pub(crate) struct SpecialTokens {
    /// Ends the transcript, `<|endoftext|>`; all text tokens are smaller.
    pub(crate) end: Token,
    /// Starts it, `<|startoftranscript|>`.
    pub(crate) start: Token,
    /// Before the text that came earlier, `<|startofprev|>`.
    pub(crate) previous: Token,
    /// `<|nospeech|>`; its probability at the first step is the no-speech probability.
    pub(crate) no_speech: Token,
    /// `<|0.00|>`; each later token is 20 ms later.
    pub(crate) first_timestamp: Token,
    /// `<|transcribe|>`, which follows the language.
    pub(crate) transcribe: Token,
    /// The languages that the model tells apart; none for an English-only model, which is told
    /// neither language nor task.
    pub(crate) languages: Vec<Language>,
}

/// A language that the model knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Language {
    pub(crate) code: LanguageCode,
    /// Stands for it behind `start`.
    pub(crate) token: Token,
}

/// A loaded model with its state. Not `Sync`; may be moved to the thread that uses it.
pub(crate) struct Whisper {
    // Declared before the context, since fields are dropped in this order.
    state: State,
    context: Context,
    threads: i32,
    special: SpecialTokens,
    pieces: Vec<Vec<u8>>,
    text_context: usize,
    used: usize,
}

struct Context(NonNull<sys::whisper_context>);

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: made by whisper_init_*, owned here alone, and the state is dropped before.
        unsafe { sys::whisper_free(self.0.as_ptr()) }
    }
}

struct State(NonNull<sys::whisper_state>);

impl Drop for State {
    fn drop(&mut self) {
        // SAFETY: made by whisper_init_state and owned here alone.
        unsafe { sys::whisper_free_state(self.0.as_ptr()) }
    }
}

// SAFETY: whisper.cpp ties neither contexts nor states to the thread that made them; all access
// goes through `&mut Whisper` or reads what does not change after loading.
unsafe impl Send for Whisper {}

impl Whisper {
    /// Loads a ggml model file, to run on `threads` threads.
    pub(crate) fn load(path: &Path, threads: usize) -> Result<Self, WhisperError> {
        let path =
            CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| WhisperError::Nul)?;
        // SAFETY: the callback is a function that lives as long as the process and takes no data.
        unsafe { sys::whisper_log_set(Some(log), ptr::null_mut()) };
        // SAFETY: no arguments, returns a plain struct.
        let mut params = unsafe { sys::whisper_context_default_params() };
        params.use_gpu = false;
        params.flash_attn = false;
        // SAFETY: `path` is NUL-terminated and outlives the call.
        let context =
            unsafe { sys::whisper_init_from_file_with_params_no_state(path.as_ptr(), params) };
        let context = Context(NonNull::new(context).ok_or(WhisperError::Load)?);
        // SAFETY: the context is alive.
        let state = unsafe { sys::whisper_init_state(context.0.as_ptr()) };
        let state = State(NonNull::new(state).ok_or(WhisperError::State)?);
        let pieces = pieces(&context);
        let special = special_tokens(&context, &pieces);
        // SAFETY: the context is alive.
        let text_context = unsafe { sys::whisper_n_text_ctx(context.0.as_ptr()) };
        let text_context = usize::try_from(text_context).unwrap_or(0);
        let threads = i32::try_from(threads.max(1)).unwrap_or(1);
        Ok(Self {
            state,
            context,
            threads,
            special,
            pieces,
            text_context,
            used: 0,
        })
    }

    /// The tokens that are no text.
    pub(crate) fn special(&self) -> &SpecialTokens {
        &self.special
    }

    /// Whether it knows more than English.
    pub(crate) fn is_multilingual(&self) -> bool {
        !self.special.languages.is_empty()
    }

    /// All tokens' bytes, in order; a character may be spread over several.
    pub(crate) fn pieces(&self) -> &[Vec<u8>] {
        &self.pieces
    }

    /// How many tokens prompt and transcript may have together.
    pub(crate) fn text_context(&self) -> usize {
        self.text_context
    }

    /// Splits text into tokens.
    pub(crate) fn tokenize(&self, text: &str) -> Result<Vec<Token>, WhisperError> {
        let text = CString::new(text).map_err(|_| WhisperError::Nul)?;
        let mut tokens = vec![0 as Token; text.as_bytes().len() + 1];
        let room = i32::try_from(tokens.len()).unwrap_or(i32::MAX);
        // SAFETY: `text` is NUL-terminated, and `tokens` has room for the number given.
        let count = unsafe {
            sys::whisper_tokenize(
                self.context.0.as_ptr(),
                text.as_ptr(),
                tokens.as_mut_ptr(),
                room,
            )
        };
        let Ok(count) = usize::try_from(count) else {
            return Err(WhisperError::Call {
                call: "whisper_tokenize",
                status: count,
            });
        };
        tokens.truncate(count);
        Ok(tokens)
    }

    /// Takes 16 kHz samples and sets how many encoder positions (of 20 ms) are looked at. What
    /// `samples` leave of them is silence.
    pub(crate) fn listen(&mut self, samples: &[f32], context: usize) -> Result<(), WhisperError> {
        // SAFETY: no preconditions; returns a plain struct.
        let mut params = unsafe {
            sys::whisper_full_default_params(sys::whisper_sampling_strategy_WHISPER_SAMPLING_GREEDY)
        };
        params.n_threads = self.threads;
        params.audio_ctx = i32::try_from(context.clamp(1, FULL_CONTEXT)).unwrap_or(0);
        // Shorter than what whisper_full bothers to decode: it stores the spectrogram and the
        // context's size, for which there is no other way in, and returns.
        params.duration_ms = 100;
        // whisper.cpp mirrors the first 200 samples and refuses under 100 ms.
        if samples.len() < RATE / 5 {
            return Err(WhisperError::Call {
                call: "listen",
                status: -1,
            });
        }
        let count = i32::try_from(samples.len()).unwrap_or(i32::MAX);
        // SAFETY: context and state are alive and belong together; `samples` holds `count` values;
        // the parameters hold no callbacks, and the language is a literal of the library.
        let status = unsafe {
            sys::whisper_full_with_state(
                self.context.0.as_ptr(),
                self.state.0.as_ptr(),
                params,
                samples.as_ptr(),
                count,
            )
        };
        self.used = 0;
        check("whisper_full_with_state", status)
    }

    /// Runs the encoder over what was listened to. Takes nearly all of the time.
    pub(crate) fn encode(&mut self) -> Result<(), WhisperError> {
        // SAFETY: context and state are alive and belong together, and `listen` came before or
        // the state's empty spectrogram is read as silence.
        let status = unsafe {
            sys::whisper_encode_with_state(
                self.context.0.as_ptr(),
                self.state.0.as_ptr(),
                0,
                self.threads,
            )
        };
        check("whisper_encode_with_state", status)
    }

    /// Feeds tokens behind the first `past` ones fed since (what was fed behind these is
    /// forgotten) and returns the logits for the token that follows.
    pub(crate) fn step(&mut self, tokens: &[Token], past: usize) -> Result<&[f32], WhisperError> {
        let past = past.min(self.used);
        if tokens.is_empty() || past + tokens.len() > self.text_context {
            return Err(WhisperError::TextContextFull(self.text_context));
        }
        let count = i32::try_from(tokens.len()).unwrap_or(i32::MAX);
        // SAFETY: context and state are alive and belong together; `tokens` holds `count` values,
        // and there is room for them in the cache.
        let status = unsafe {
            sys::whisper_decode_with_state(
                self.context.0.as_ptr(),
                self.state.0.as_ptr(),
                tokens.as_ptr(),
                count,
                i32::try_from(past).unwrap_or(0),
                self.threads,
            )
        };
        check("whisper_decode_with_state", status)?;
        self.used = past + tokens.len();
        // SAFETY: the state is alive.
        let logits = unsafe { sys::whisper_get_logits_from_state(self.state.0.as_ptr()) };
        let row = self.pieces.len();
        // SAFETY: whisper.cpp holds one row of logits for each token just fed, all in one
        // allocation. It stays until the next call, which needs `&mut self`.
        let rows = unsafe { std::slice::from_raw_parts(logits, row * tokens.len()) };
        // Only the last row has been filled in.
        Ok(&rows[row * (tokens.len() - 1)..])
    }
}

fn check(call: &'static str, status: i32) -> Result<(), WhisperError> {
    if status == 0 {
        Ok(())
    } else {
        Err(WhisperError::Call { call, status })
    }
}

fn special_tokens(context: &Context, pieces: &[Vec<u8>]) -> SpecialTokens {
    let context = context.0.as_ptr();
    let of = |function: unsafe extern "C" fn(*mut sys::whisper_context) -> Token| {
        // SAFETY: the context is alive; these functions only read the vocabulary.
        unsafe { function(context) }
    };
    // An English-only model has tokens for languages as well, and never learnt their meaning.
    let languages = match of(sys::whisper_is_multilingual) != 0 {
        true => languages(pieces),
        false => Vec::new(),
    };
    SpecialTokens {
        end: of(sys::whisper_token_eot),
        start: of(sys::whisper_token_sot),
        previous: of(sys::whisper_token_prev),
        no_speech: of(sys::whisper_token_nosp),
        first_timestamp: of(sys::whisper_token_beg),
        transcribe: of(sys::whisper_token_transcribe),
        languages,
    }
}

/// The languages by the names that whisper.cpp gives to their tokens: `[_LANG_en]`.
fn languages(pieces: &[Vec<u8>]) -> Vec<Language> {
    let language = |(at, piece): (usize, &Vec<u8>)| {
        let code = piece.strip_prefix(b"[_LANG_")?.strip_suffix(b"]")?;
        Some(Language {
            code: std::str::from_utf8(code).ok()?.parse().ok()?,
            token: Token::try_from(at).ok()?,
        })
    };
    pieces.iter().enumerate().filter_map(language).collect()
}

fn pieces(context: &Context) -> Vec<Vec<u8>> {
    // SAFETY: the context is alive.
    let count = unsafe { sys::whisper_model_n_vocab(context.0.as_ptr()) };
    let piece = |token| {
        // SAFETY: the context is alive and the token below the vocabulary's size.
        let text = unsafe { sys::whisper_token_to_str(context.0.as_ptr(), token) };
        // SAFETY: a NUL-terminated string that the vocabulary owns.
        unsafe { CStr::from_ptr(text) }.to_bytes().to_vec()
    };
    (0..count).map(piece).collect()
}

/// Receives what whisper.cpp and ggml would print.
unsafe extern "C" fn log(level: sys::ggml_log_level, text: *const c_char, _: *mut c_void) {
    if text.is_null() {
        return;
    }
    // SAFETY: not null, and NUL-terminated for the time of the call.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    let text = text.trim_end();
    match level {
        sys::ggml_log_level_GGML_LOG_LEVEL_ERROR => tracing::error!("{text}"),
        sys::ggml_log_level_GGML_LOG_LEVEL_WARN => tracing::warn!("{text}"),
        _ => tracing::trace!("{text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_are_known_by_their_tokens_names() {
        let pieces = [" en", "[_SOT_]", "[_LANG_en]", "[_LANG_haw]", "[_LANG_]"];
        let found = languages(&pieces.map(|piece| piece.as_bytes().to_vec()));
        let expected = [("en", 2), ("haw", 3)].map(|(code, token)| Language {
            code: code.parse().unwrap(),
            token,
        });
        assert_eq!(found, expected);
    }
}
