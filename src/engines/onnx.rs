//! Sessions of ONNX Runtime, which is loaded from a file at run time.

use std::path::Path;

use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;

use super::EngineError;

/// Loads the runtime, once per process, and a model.
///
/// # Errors
/// [`EngineError::ModelMissing`] or [`EngineError::ModelUnusable`], naming the file.
pub fn open_session(
    model: &Path,
    onnxruntime: &Path,
    threads: usize,
) -> Result<Session, EngineError> {
    for file in [model, onnxruntime] {
        if !file.is_file() {
            let detail = format!("{} does not exist", file.display());
            return Err(EngineError::ModelMissing { detail });
        }
    }
    // `commit` says false where the runtime was set up before, in the same way.
    ort::init_from(onnxruntime)
        .map_err(|error| unusable(onnxruntime, &error))?
        .with_telemetry(false)
        .commit();
    build(model, threads).map_err(|error| unusable(model, &error))
}

fn build(model: &Path, threads: usize) -> Result<Session, ort::Error> {
    Session::builder()?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(threads)?
        .with_inter_threads(1)?
        // Spinning between runs would burn the cores that other calls need.
        .with_intra_op_spinning(false)?
        .commit_from_file(model)
}

/// A model or library file that is there but cannot be used.
pub(super) fn unusable(file: &Path, error: &impl std::fmt::Display) -> EngineError {
    EngineError::ModelUnusable {
        detail: format!("{}: {error}", file.display()),
    }
}
