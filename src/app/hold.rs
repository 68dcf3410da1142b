//! Reads what callers on hold hear.

use std::fs::File;
use std::io::BufReader;
use std::sync::Arc;

use super::ServeError;
use crate::audio::{SampleRate, music, resample, wav};
use crate::config::Config;

/// The configured file at 8 kHz, or the piece that we bring.
pub(super) fn music(config: &Config) -> Result<Arc<[i16]>, ServeError> {
    let Some(path) = &config.hold.music else {
        return Ok(music::hold_music().into());
    };
    let failed = |reason: String| ServeError::HoldMusic {
        path: path.clone(),
        reason,
    };
    let file = File::open(path).map_err(|error| failed(error.to_string()))?;
    let clip = wav::read(BufReader::new(file)).map_err(|error| failed(error.to_string()))?;
    let samples = resample::whole(&clip.samples, clip.rate, SampleRate::TELEPHONE);
    match samples.is_empty() {
        true => Err(failed("there is no sound in it".to_owned())),
        false => Ok(samples.into()),
    }
}
