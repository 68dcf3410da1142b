//! Keys heard in the sound: how often speech is taken for one (talk-off), and how many true ones are
//! heard.
//!
//! ```text
//! recordings, and the same texts in the voice model ─▶ speeds ─▶ levels ─▶ G.711 ─▶ detector: none
//! keys of 60 ms, twisted, in noise                                       ─▶ G.711 ─▶ detector: all
//! ```

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use offhook::audio::codec::through;
use offhook::audio::dtmf::Detector;
use offhook::audio::level::rms_dbfs;
use offhook::audio::tone::{DtmfDigit, tone};
use offhook::audio::{Codec, SampleRate, gain, resample, wav};
use offhook::engines::supervisor::find_executable;
use offhook::engines::tts::{Tts, TtsConfig};
use offhook::engines::worker::Scheduling;
use offhook::models::Catalog;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use crate::Result;
use crate::load::Watch;
use crate::options::Options;
use crate::report::{Report, Table};
use crate::speech;

/// Played faster and slower, which moves every frequency.
const SPEEDS: [f64; 5] = [1.0, 0.87, 0.94, 1.07, 1.15];
/// Level of the speech, dBFS.
const LEVELS: [f32; 3] = [-20.0, -12.0, -30.0];
/// What the voice says where there are no transcripts of its own.
const SENTENCES: [&str; 4] = [
    "We are open from nine to five on weekdays, and on Saturdays until noon.",
    "Nobody knows who whistled the tune, but everyone remembered it.",
    "Please hold the line while I look that up for you.",
    "Two, four, six, eight, who do we appreciate?",
];

pub(crate) fn run(options: &Options) -> Result<Report> {
    let minutes: f64 = options.number("minutes", 60.0)?;
    let watch = Watch::start();
    let recorded = recordings(options)?;
    let made = voices(options)?;
    let mut table = Table::new(
        "speech taken for keys",
        &["SPEECH", "MINUTES", "OF THEM APART", "FALSE KEYS", "WHICH"],
    );
    let mut false_keys = Vec::new();
    for (name, speech) in [("people", &recorded), ("voice model", &made)] {
        let apart: usize = speech.iter().map(Vec::len).sum();
        let (fed, keys) = fed(speech, minutes);
        table.row(vec![
            name.to_owned(),
            format!("{fed:.0}"),
            format!("{:.1}", apart as f64 / 8_000.0 / 60.0),
            keys.len().to_string(),
            keys.clone(),
        ]);
        false_keys.push(json!({ "speech": name, "minutes": fed, "keys": keys }));
    }
    let mut true_keys = Table::new(
        "keys of 60 ms that are heard",
        &["SNR", "TWIST", "PRESSED", "MISSED", "WRONG"],
    );
    let mut heard = Vec::new();
    for (snr_db, twist_db) in [(30.0, 0.0), (15.0, -4.0), (15.0, 0.0), (15.0, 4.0)] {
        let (pressed, missed, wrong) = pressed(snr_db, twist_db);
        let cells = [pressed, missed, wrong].map(|count| count.to_string());
        let named = [format!("{snr_db:.0} dB"), format!("{twist_db:.0} dB")];
        true_keys.row(named.into_iter().chain(cells).collect());
        heard.push(json!({
            "snrDb": snr_db, "twistDb": twist_db, "pressed": pressed, "missed": missed, "wrong": wrong,
        }));
    }
    let mut report = Report::new("talk-off", watch.stop());
    report.table(table);
    report.table(true_keys);
    report.note(
        "Minutes are of speech at different speeds (0.87 to 1.15), levels (-30 to -12 dBFS) and \
         both laws of G.711; those apart, before that.",
    );
    report.detail("falseKeys", json!(false_keys));
    report.detail("trueKeys", json!(heard));
    Ok(report)
}

fn recordings(options: &Options) -> Result<Vec<Vec<i16>>> {
    let read = |line: &speech::Line| -> Result<Vec<i16>> {
        let clip = wav::read(File::open(line.recording()?)?)?;
        Ok(resample::whole(
            &clip.samples,
            clip.rate,
            SampleRate::TELEPHONE,
        ))
    };
    speech::lines(options)?.iter().map(read).collect()
}

/// The texts of the recordings and some more, spoken by every voice that is there at three speeds.
fn voices(options: &Options) -> Result<Vec<Vec<i16>>> {
    let models =
        std::env::var_os("OFFHOOK_MODELS").map_or_else(|| "data/models".into(), PathBuf::from);
    let catalog = Catalog::embedded(models)?;
    let mut texts: Vec<String> = SENTENCES.map(str::to_owned).to_vec();
    texts.extend(
        speech::lines(options)?
            .iter()
            .map(speech::Line::spoken)
            .filter(|text| !text.is_empty()),
    );
    let voices: Vec<PathBuf> = match options.all("voice") {
        [] => vec![catalog.path_of("piper-en-us-joe-medium")?],
        named => named
            .iter()
            .map(|name| Ok(catalog.path_of(name)?))
            .collect::<Result<_>>()?,
    };
    let folder = std::env::var_os("OFFHOOK_BIN_DIR").map(PathBuf::from);
    let executable = find_executable("offhook-tts", folder.as_deref())?;
    let runtime = catalog.path_of("onnxruntime")?;
    let asynchronous = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    asynchronous.block_on(async {
        let mut spoken = Vec::new();
        for voice in voices {
            let mut config = TtsConfig::new(&executable, voice, &runtime);
            config.scheduling = Scheduling::Normal;
            let tts = Tts::start(&config);
            for text in &texts {
                spoken.push(tts.synthesise(text).await?.to_vec());
            }
            tts.shutdown().await;
        }
        Ok(spoken)
    })
}

/// Feeds speech to a detector in every variation, over and over, for so many minutes: how many were
/// fed, and the keys that it heard.
fn fed(speech: &[Vec<i16>], minutes: f64) -> (f64, String) {
    let (mut samples, mut keys) = (0, String::new());
    let variations = LEVELS.into_iter().flat_map(|level| {
        SPEEDS
            .into_iter()
            .flat_map(move |speed| [Codec::Pcmu, Codec::Pcma].map(|codec| (level, speed, codec)))
    });
    for (level, speed, codec) in variations.cycle() {
        let mut detector = Detector::new();
        for piece in speech {
            let mut piece = at_speed(piece, speed);
            let change = level - rms_dbfs(&piece);
            gain::apply_db(&mut piece, change);
            let piece = through(codec, &piece);
            detector.push(&piece, |digit| keys.push(digit.to_char()));
            samples += piece.len();
            if samples as f64 >= minutes * 60.0 * 8_000.0 {
                return (samples as f64 / 8_000.0 / 60.0, keys);
            }
        }
        if samples == 0 {
            break; // nothing is said at all
        }
    }
    (0.0, keys)
}

/// The same sound as if it were played faster or slower.
fn at_speed(samples: &[i16], speed: f64) -> Vec<i16> {
    let rate = SampleRate::new((8_000.0 * speed) as u32 / 20 * 20);
    match rate {
        Some(rate) if rate != SampleRate::TELEPHONE => {
            resample::whole(samples, rate, SampleRate::TELEPHONE)
        }
        _ => samples.to_vec(),
    }
}

/// Every key many times for 60 ms, in noise and twisted: pressed, missed, and heard as others.
fn pressed(snr_db: f64, twist_db: f32) -> (usize, usize, usize) {
    let mut rng = StdRng::seed_from_u64(23);
    let (mut count, mut missed, mut wrong) = (0, 0, 0);
    for (round, key) in
        (0..500).flat_map(|round| "1234567890*#ABCD".chars().map(move |key| (round, key)))
    {
        let Some((low, high)) = DtmfDigit::from_char(key).map(DtmfDigit::frequencies) else {
            continue;
        };
        let length = Duration::from_millis(60);
        let (low, high) = (
            tone(&[low], length, -18.0),
            tone(&[high], length, -18.0 + twist_db),
        );
        let mut sound = vec![0i16; 400 + rng.random_range(0..80)];
        sound.extend(low.iter().zip(&high).map(|(a, b)| a.saturating_add(*b)));
        sound.extend([0; 640]);
        let power = 10f64.powf(-1.8) + 10f64.powf(f64::from(-18.0 + twist_db) / 10.0);
        let noise = 32_768.0 * (power / 10f64.powf(snr_db / 10.0)).sqrt();
        for sample in &mut sound {
            let (a, b): (f64, f64) = (rng.random_range(1e-12..1.0), rng.random());
            let gaussian = (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos();
            *sample = (f64::from(*sample) + noise * gaussian) as i16; // `as` saturates
        }
        let codec = if round % 2 == 0 {
            Codec::Pcmu
        } else {
            Codec::Pcma
        };
        let mut heard = String::new();
        Detector::new().push(&through(codec, &sound), |digit| heard.push(digit.to_char()));
        count += 1;
        missed += usize::from(!heard.contains(key));
        wrong += heard.chars().filter(|other| *other != key).count()
            + heard.matches(key).count().saturating_sub(1);
    }
    (count, missed, wrong)
}
