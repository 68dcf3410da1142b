//! Synthetic callers: the installed voice models, higher and lower, slower and faster.
//!
//! What was made is kept in a folder, so that every run says the same sounds and only the first
//! one waits for them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::Cursor;
use std::path::PathBuf;

use offhook::audio::{SampleRate, Sound, resample, wav};
use offhook::engines::supervisor::find_executable;
use offhook::engines::tts::{SpeakRequest, Tts, TtsConfig};
use offhook::engines::worker::Scheduling;
use offhook::engines::{EngineEvent, Priority};
use offhook::ids::{CallId, Generation};
use offhook::models::Catalog;
use sha2::{Digest, Sha256};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::Result;
use crate::options::Options;
use crate::server;

/// English voices that are used where they are installed.
const VOICES: [&str; 2] = ["piper-en-us-joe-medium", "piper-en-gb-alba-medium"];
/// Everything higher or lower by these factors, formants too, as another throat would have it.
const PITCHES: [f64; 4] = [1.0, 0.88, 1.12, 1.22];
/// Speech rates.
const PACES: [f32; 2] = [1.0, 1.18];

/// Somebody who says anything.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Speaker {
    voice: String,
    pitch: f64,
    pace: f32,
}

impl fmt::Display for Speaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x{} x{}", self.voice, self.pitch, self.pace)
    }
}

/// The voices that are installed.
pub(crate) struct Voices {
    runtime: Runtime,
    /// By name; started when first asked.
    workers: BTreeMap<String, Tts>,
    catalog: Catalog,
    kept: PathBuf,
    speakers: Vec<Speaker>,
}

impl Voices {
    /// Those of `--voice`, or all English ones that are installed.
    pub(crate) fn new(options: &Options) -> Result<Self> {
        let catalog = Catalog::embedded(server::models())?;
        let installed = |name: &&str| catalog.path_of(name).is_ok();
        let names: Vec<String> = match options.all("voice") {
            [] => VOICES
                .into_iter()
                .filter(installed)
                .map(str::to_owned)
                .collect(),
            named => named.to_vec(),
        };
        let mut speakers = Vec::new();
        for pace in PACES {
            for pitch in PITCHES {
                speakers.extend(names.iter().map(|voice| Speaker {
                    voice: voice.clone(),
                    pitch,
                    pace,
                }));
            }
        }
        if speakers.is_empty() {
            return Err("no English voice is installed: offhook models fetch".into());
        }
        let kept = match options.path("made") {
            Some(folder) => folder,
            None => server::binaries()?.join("bench-speech"),
        };
        fs::create_dir_all(&kept)?;
        Ok(Self {
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()?,
            workers: BTreeMap::new(),
            catalog,
            kept,
            speakers,
        })
    }

    /// Everybody, the plain voices first.
    pub(crate) fn speakers(&self) -> &[Speaker] {
        &self.speakers
    }

    /// A text in somebody's voice, 8 kHz.
    pub(crate) fn say(&mut self, speaker: &Speaker, text: &str) -> Result<Vec<i16>> {
        let name = Sha256::digest(format!("{speaker}\n{text}"));
        let name: String = name
            .iter()
            .take(12)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let file = self.kept.join(format!("{name}.wav"));
        if let Ok(bytes) = fs::read(&file)
            && let Ok(clip) = wav::read(Cursor::new(bytes))
        {
            return Ok(clip.samples);
        }
        let made = self.synthesise(speaker, text)?;
        let mut bytes = Cursor::new(Vec::new());
        wav::write(&mut bytes, &made, SampleRate::TELEPHONE)?;
        fs::write(&file, bytes.into_inner())
            .map_err(|error| format!("{}: {error}", file.display()))?;
        Ok(made)
    }

    fn synthesise(&mut self, speaker: &Speaker, text: &str) -> Result<Vec<i16>> {
        let tts = self.worker(&speaker.voice)?;
        let request = SpeakRequest {
            call: CallId::from_random([0; 16]),
            generation: Generation::default(),
            clause: 0,
            text: text.to_owned(),
            priority: Priority::Waiting,
            speed: speaker.pace / speaker.pitch as f32,
            rate: SampleRate::WIDEBAND,
        };
        let sound = self.runtime.block_on(async {
            let (events, mut answers) = mpsc::channel(1);
            let _handle = tts.speak(request, events)?;
            match answers.recv().await {
                Some(EngineEvent::Speech { result, .. }) => {
                    Ok::<Sound, Box<dyn std::error::Error>>(result?)
                }
                Some(_) | None => Err("the voice did not answer".into()),
            }
        })?;
        let hz = (f64::from(SampleRate::WIDEBAND.hz()) * speaker.pitch) as u32 / 40 * 40;
        let rate = SampleRate::new(hz).ok_or("there is no such pitch")?;
        Ok(resample::whole(&sound.samples, rate, SampleRate::TELEPHONE))
    }

    fn worker(&mut self, voice: &str) -> Result<Tts> {
        if let Some(tts) = self.workers.get(voice) {
            return Ok(tts.clone());
        }
        let executable = find_executable("offhook-tts", Some(&server::binaries()?))?;
        let model = self.catalog.path_of(voice)?;
        let runtime = self.catalog.path_of("onnxruntime")?;
        let mut config = TtsConfig::new(executable, model, runtime);
        config.scheduling = Scheduling::Normal;
        let _inside = self.runtime.enter();
        let tts = Tts::start(&config);
        self.workers.insert(voice.to_owned(), tts.clone());
        Ok(tts)
    }

    /// Ends the workers: nothing of the bench is to compete with what it measures.
    pub(crate) fn rest(&mut self) {
        for tts in std::mem::take(&mut self.workers).into_values() {
            self.runtime.block_on(tts.shutdown());
        }
    }
}

impl Drop for Voices {
    fn drop(&mut self) {
        self.rest();
    }
}
