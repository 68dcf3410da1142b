//! The language model's worker: llama.cpp, serving all calls with one decode loop.

mod cache;
mod ending;
mod engine;
mod prompt;
mod reply;
mod request;
mod sampling;
mod schedule;
mod template;
mod text;

use std::num::NonZeroU32;
use std::process::ExitCode;

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::{LogOptions, send_logs_to_tracing};
use offhook::engines::EngineError;
use offhook::engines::llm::{LlmFacts, LlmProtocol, LlmWorkerSettings};
use offhook::engines::worker::{self, Loaded};

use crate::cache::{Cache, CacheSize};
use crate::engine::Engine;
use crate::prompt::Reader;
use crate::schedule::StepSize;

/// Prompts that are kept for all calls.
const PREFIXES: u32 = 8;
/// About 0.2 s of reading on two slow cores, which is how long a cancelled request can go on.
const STEP_SIZE: StepSize = StepSize {
    alone: 64,
    beside_replies: 16,
};

fn main() -> ExitCode {
    worker::run::<LlmProtocol, _>(load, |loaded: LoadedModel, jobs| {
        match loaded.engine() {
            Ok(engine) => engine.serve(&jobs),
            // What `load` tried once works again.
            Err(error) => tracing::error!(%error, "cannot start the decode loop"),
        }
    })
}

/// A model that was read and proved usable.
struct LoadedModel {
    backend: LlamaBackend,
    model: LlamaModel,
    settings: LlmWorkerSettings,
}

fn load() -> Result<Loaded<LlmProtocol, LoadedModel>, EngineError> {
    let settings = settings()?;
    send_logs_to_tracing(LogOptions::default());
    let unusable = |detail: String| EngineError::ModelUnusable { detail };
    let path = &settings.model;
    if !path.is_file() {
        let detail = format!("{} is not there; fetch the models first", path.display());
        return Err(EngineError::ModelMissing { detail });
    }
    let backend = LlamaBackend::init().map_err(|error| unusable(error.to_string()))?;
    let params = LlamaModelParams::default().with_n_gpu_layers(settings.gpu_layers);
    let model = LlamaModel::load_from_file(&backend, path, &params)
        .map_err(|error| unusable(format!("{}: {error}", path.display())))?;
    let facts = LlmFacts {
        context_tokens: settings.context_tokens,
        conversation_tokens: conversation_tokens(&settings, &model),
        conversations: settings.conversations,
        has_template: model.chat_template(None).is_ok(),
    };
    let name = model
        .meta_val_str("general.name")
        .ok()
        .filter(|name| !name.is_empty());
    let file = path
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned());
    let loaded = LoadedModel {
        backend,
        model,
        settings,
    };
    // Tried here, where a failure can still be reported as the reason.
    loaded.engine()?;
    let model = name.or(file).unwrap_or_default();
    Ok(Loaded {
        engine: loaded,
        model,
        facts,
    })
}

fn settings() -> Result<LlmWorkerSettings, EngineError> {
    let mistake = |detail: String| EngineError::BadInput { detail };
    let argument = std::env::args().nth(1);
    let argument =
        argument.ok_or_else(|| mistake("no settings; started by offhook only".into()))?;
    let settings: LlmWorkerSettings =
        serde_json::from_str(&argument).map_err(|error| mistake(format!("settings: {error}")))?;
    if settings.conversations == 0 || settings.context_tokens == 0 {
        return Err(mistake("settings: room for no conversation".into()));
    }
    Ok(settings)
}

fn conversation_tokens(settings: &LlmWorkerSettings, model: &LlamaModel) -> u32 {
    settings
        .conversation_tokens
        .min(settings.context_tokens)
        .min(model.n_ctx_train())
}

impl LoadedModel {
    fn engine(&self) -> Result<Engine<'_>, EngineError> {
        let unusable = |detail: String| EngineError::ModelUnusable { detail };
        let context = self.context()?;
        let settings = &self.settings;
        let limit = conversation_tokens(settings, &self.model) as usize;
        let reader =
            Reader::new(&self.model, limit).map_err(|error| unusable(error.to_string()))?;
        let cache = Cache::new(CacheSize {
            cells: settings.context_tokens as usize,
            calls: settings.conversations as usize,
            prefixes: PREFIXES as usize,
            divisible: !self.model.is_recurrent() && !self.model.is_hybrid(),
        });
        Ok(Engine::new(&self.model, context, reader, cache, STEP_SIZE))
    }

    fn context(&self) -> Result<LlamaContext<'_>, EngineError> {
        let settings = &self.settings;
        let sequences = settings.conversations.saturating_add(PREFIXES);
        let batch = u32::try_from(STEP_SIZE.alone).unwrap_or(u32::MAX).max(1) + sequences;
        let threads = i32::try_from(settings.threads.max(1)).unwrap_or(1);
        let params = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(settings.context_tokens))
            .with_n_batch(batch)
            .with_n_ubatch(batch)
            .with_n_seq_max(sequences)
            .with_n_threads(threads)
            .with_n_threads_batch(threads)
            // Without it each sequence has a cache of its own and nothing can be shared.
            .with_kv_unified(true);
        self.model
            .new_context(&self.backend, params)
            .map_err(|error| EngineError::ModelUnusable {
                detail: error.to_string(),
            })
    }
}
