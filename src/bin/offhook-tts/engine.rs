//! Piper: text to samples.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use offhook::audio::{SampleRate, shape};
use offhook::engines::tts::check_text;
use offhook::engines::{EngineError, onnx};
use piper_rs::{ModelConfig, Piper};

/// espeak-ng keeps its state in globals: one text at a time.
static ESPEAK: Mutex<()> = Mutex::new(());

/// Slowest and fastest speech that is still understood.
const SPEEDS: std::ops::RangeInclusive<f32> = 0.5..=2.0;

/// One voice, ready to speak.
pub(crate) struct Engine {
    piper: Piper,
    language: String,
    rate: SampleRate,
    length_scale: f32,
    /// The phonemes that the voice can say, punctuation and stress marks left out.
    sounds: HashSet<char>,
}

impl Engine {
    /// Loads a voice.
    ///
    /// # Errors
    /// [`EngineError::ModelMissing`] or [`EngineError::ModelUnusable`], naming the file.
    pub(crate) fn load(
        model: &Path,
        description: &Path,
        onnxruntime: &Path,
        threads: usize,
    ) -> Result<Self, EngineError> {
        let config = read_description(description)?;
        let unusable = |detail: String| EngineError::ModelUnusable { detail };
        let rate = SampleRate::new(config.audio.sample_rate).ok_or_else(|| {
            let hz = config.audio.sample_rate;
            unusable(format!(
                "{}: a sample rate of {hz} Hz",
                description.display()
            ))
        })?;
        let session = onnx::open_session(model, onnxruntime, threads)?;
        let language = config.espeak.voice.clone();
        let length_scale = config.inference.length_scale;
        let sounds = config
            .phoneme_id_map
            .keys()
            .copied()
            .filter(|c| c.is_alphabetic())
            .collect();
        Ok(Self {
            piper: Piper::from_session(session, config),
            language,
            rate,
            length_scale,
            sounds,
        })
    }

    /// Rate of the model's own output, in Hz.
    pub(crate) fn sample_rate(&self) -> u32 {
        self.rate.hz()
    }

    /// What espeak-ng calls the language.
    pub(crate) fn language(&self) -> &str {
        &self.language
    }

    /// Speaks `text` at `rate`, levelled and trimmed. `cancelled` is asked between sentences.
    /// Two readings of a text differ a little: the model draws its own noise.
    ///
    /// # Errors
    /// [`EngineError::BadInput`] where nothing in the text can be spoken,
    /// [`EngineError::Cancelled`], and [`EngineError::Internal`] where Piper fails.
    pub(crate) fn speak(
        &mut self,
        text: &str,
        speed: f32,
        rate: SampleRate,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Vec<i16>, EngineError> {
        check_text(text)?;
        let speed = if speed.is_finite() { speed } else { 1.0 };
        let length_scale = self.length_scale / speed.clamp(*SPEEDS.start(), *SPEEDS.end());
        let mut samples = Vec::new();
        for sentence in self.phonemes(text)? {
            if !sentence
                .chars()
                .any(|phoneme| self.sounds.contains(&phoneme))
            {
                continue;
            }
            if cancelled() {
                return Err(EngineError::Cancelled);
            }
            let (spoken, _) = self
                .piper
                .create(&sentence, true, None, Some(length_scale), None, None)
                .map_err(|error| EngineError::Internal {
                    detail: error.to_string(),
                })?;
            samples.extend(spoken);
        }
        let shaped = shape::for_telephone(&samples, self.rate, rate);
        if shaped.is_empty() {
            let detail = "nothing in the text can be spoken by this voice".to_owned();
            return Err(EngineError::BadInput { detail });
        }
        Ok(shaped)
    }

    /// One string of phonemes for each sentence.
    fn phonemes(&self, text: &str) -> Result<Vec<String>, EngineError> {
        // A line end is a sentence's end to espeak-rs, and a NUL an error.
        let line: String = text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let _one = ESPEAK.lock().unwrap_or_else(PoisonError::into_inner);
        espeak_rs::text_to_phonemes(&line, &self.language, None).map_err(|error| {
            EngineError::ModelUnusable {
                detail: error.to_string(),
            }
        })
    }
}

fn read_description(path: &Path) -> Result<ModelConfig, EngineError> {
    let shown = path.display();
    let text = std::fs::read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => EngineError::ModelMissing {
            detail: format!("{shown} does not exist"),
        },
        _ => EngineError::ModelUnusable {
            detail: format!("{shown}: {error}"),
        },
    })?;
    serde_json::from_slice(&text).map_err(|error| EngineError::ModelUnusable {
        detail: format!("{shown}: {error}"),
    })
}
