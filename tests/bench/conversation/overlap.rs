//! Sounds over the assistant that should not stop it: "mm-hm" in many voices, and noises, both 10 dB
//! below a caller's level.

use std::path::{Path, PathBuf};
use std::{fs, iter};

use offhook::audio::gain;
use offhook::audio::level::{is_audible, rms_dbfs};
use offhook::engines::tts::SPEECH_LEVEL_DBFS;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::following::{self, Dip};
use super::talker::{SPEECH, talker};
use super::{Bench, Findings, Variant, material};
use crate::Result;
use crate::caller::{Caller, Said};
use crate::report::Table;
use crate::server::Server;
use crate::statistics::{Sample, percent, whole};
use crate::watching::Watching;

/// What listeners say without wanting the turn.
const BACKCHANNELS: [&str; 6] = [HUM, "Right.", "Okay.", "Yeah.", "Uh-huh.", "Sure."];
/// Made here: voices spell it out, "em em aitch em".
const HUM: &str = "Mm-hm.";
/// Of the lowest voice that hums, and from one to the next, in Hz.
const LOWEST_HUM: f32 = 95.0;
const HUM_STEP: f32 = 9.0;
/// Below the level of a caller who speaks.
const LOWER_DB: f32 = 10.0;
/// Noises last from half a second to so long, in ms.
const NOISE_MS: std::ops::Range<usize> = 500..1500;
/// What comes of a sound shows within this.
const AFTER_MS: u64 = 2500;
/// So much of the speech is left alone at its beginning and its end, in ms.
const EDGE_MS: i64 = 4000;
const PATIENCE_MS: u64 = 15_000;

/// Something to be heard over the assistant.
struct Clip {
    name: String,
    sound: Vec<i16>,
}

struct Outcome {
    name: String,
    yielded: bool,
    dips: Vec<Dip>,
}

pub(super) fn backchannels(bench: &mut Bench<'_>) -> Result<Findings> {
    let count: usize = bench.options.number("backchannels", 100)?;
    let voices = bench.voices()?;
    let speakers = voices.speakers().to_vec();
    let mut clips = Vec::new();
    for number in 0..count {
        let text = BACKCHANNELS[number % BACKCHANNELS.len()];
        let speaker = &speakers[number / BACKCHANNELS.len() % speakers.len()];
        let sound = match text {
            HUM => hum(LOWEST_HUM + HUM_STEP * (number / BACKCHANNELS.len()) as f32),
            text => voices.say(speaker, text)?,
        };
        clips.push(Clip {
            name: text.to_owned(),
            sound: lowered(sound),
        });
    }
    voices.rest();
    measure(bench, "backchannels", clips)
}

pub(super) fn noises(bench: &mut Bench<'_>) -> Result<Findings> {
    let count: usize = bench.options.number("noises", 100)?;
    let mut random = StdRng::seed_from_u64(bench.seed()?);
    let folder = bench.options.path("noise-dir");
    let brought = || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench/noise");
    let recordings = recordings(&folder.unwrap_or_else(brought))?;
    let mut clips = Vec::new();
    for (name, recording) in recordings.iter().cycle().take(count) {
        let length = random.random_range(NOISE_MS) * 8;
        let from = random.random_range(0..=recording.len().saturating_sub(length));
        let piece = recording[from..(from + length).min(recording.len())].to_vec();
        clips.push(Clip {
            name: name.clone(),
            sound: lowered(piece),
        });
    }
    measure(bench, "noises", clips)
}

fn recordings(folder: &Path) -> Result<Vec<(String, Vec<i16>)>> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "wav"));
    files.sort();
    let read = |file: PathBuf| {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        Ok((name.into_owned(), material::read(&file)?))
    };
    let read: Vec<(String, Vec<i16>)> = files.into_iter().map(read).collect::<Result<_>>()?;
    match read.is_empty() {
        false => Ok(read),
        true => Err(format!("{}: there are no noises", folder.display()).into()),
    }
}

/// At its level: that of its audible frames.
/// "Mm-hm" at `pitch` Hz, 8 kHz: two murmurs, the second higher, with a breath between them.
fn hum(pitch: f32) -> Vec<i16> {
    let mut sound = murmur(pitch, 190);
    sound.extend([0; 8 * 50]);
    sound.extend(murmur(pitch * 1.18, 250));
    sound
}

/// A closed mouth: harmonics that fall from 300 Hz on, swelling and dying away over 40 ms.
fn murmur(pitch: f32, ms: usize) -> Vec<i16> {
    let length = 8 * ms;
    let edge = 8.0 * 40.0;
    let harmonics = (1_600.0 / pitch) as u32;
    let sample = |at: usize| {
        let time = at as f32 / 8_000.0;
        let sum: f32 = (1..=harmonics)
            .map(|k| {
                let hz = pitch * k as f32;
                (std::f32::consts::TAU * hz * time).sin() / (1.0 + (hz / 300.0).powi(2))
            })
            .sum();
        let swell = (at as f32 / edge).min((length - at) as f32 / edge).min(1.0);
        // At most some ten harmonics that halve.
        (sum * swell * 5_000.0) as i16
    };
    (0..length).map(sample).collect()
}

fn lowered(mut sound: Vec<i16>) -> Vec<i16> {
    let audible: Vec<i16> = sound
        .chunks(160)
        .filter(|frame| is_audible(frame))
        .flatten()
        .copied()
        .collect();
    let change = SPEECH_LEVEL_DBFS - LOWER_DB - rms_dbfs(&audible);
    gain::apply_db(&mut sound, change);
    sound
}

fn measure(bench: &mut Bench<'_>, kind: &'static str, mut clips: Vec<Clip>) -> Result<Findings> {
    let mut random = StdRng::seed_from_u64(bench.seed()?);
    clips.shuffle(&mut random);
    // What cannot be heard at all tries nothing.
    clips.retain(|clip| clip.sound.chunks(160).any(is_audible));
    let variant = Variant::new("talker", &talker(&bench.demo()?), &[]);
    let server = bench.server(iter::once(&variant))?;
    let key = server.api_key(None)?;
    let known = undisturbed(&server, &variant.user)?;
    let mut findings = Findings::default();
    let (mut outcomes, mut failures) = (Vec::new(), 0);
    while outcomes.len() < clips.len() && failures < 5 {
        let rest = &clips[outcomes.len()..];
        match call(&server, &key, &variant.user, rest, &known, &mut random) {
            Ok(more) => outcomes.extend(more),
            Err(error) => {
                failures += 1;
                findings.note(format!("{kind}: a call failed: {error}"));
            }
        }
        let yielded = outcomes.iter().filter(|outcome| outcome.yielded).count();
        eprintln!(
            "{kind}: {} of {}, yielded to {yielded}",
            outcomes.len(),
            clips.len()
        );
    }
    report(kind, &outcomes, &known, findings)
}

/// The whole speech as it sounds when nobody interrupts.
fn undisturbed(server: &Server, user: &str) -> Result<Vec<i16>> {
    let mut caller = Caller::dial(server, user)?;
    let began = caller.wait_for_sound(0, PATIENCE_MS)?;
    let began = began.ok_or("the assistant says nothing")?;
    caller.wait_for_quiet(2000, 120_000)?;
    let until = caller.hearing.last_audible().unwrap_or(began);
    let hearing = caller.hang_up()?;
    Ok(hearing.between(began, until + 20).to_vec())
}

/// One call, with as many of the sounds as the speech has room for, or until it yields.
fn call(
    server: &Server,
    key: &str,
    user: &str,
    clips: &[Clip],
    known: &[i16],
    random: &mut StdRng,
) -> Result<Vec<Outcome>> {
    let mut caller = Caller::dial(server, user)?;
    let watching = Watching::newest(server, key)?;
    let began = caller.wait_for_sound(0, PATIENCE_MS)?;
    let began = began.ok_or("the assistant says nothing")?;
    let lasts = i64::try_from(known.len() / 8)?;
    caller.listen(u64::try_from(EDGE_MS)? / 2)?;
    let mut said: Vec<(Said, bool)> = Vec::new();
    for clip in clips {
        if caller.now_ms() - began > lasts - EDGE_MS - i64::try_from(AFTER_MS)? {
            break;
        }
        let sound = caller.say(&clip.sound)?;
        caller.listen(AFTER_MS)?;
        let told = watching.all("user-interrupted");
        let yielded = told
            .into_iter()
            .any(|at| caller.ms_of(at) >= sound.began_ms);
        said.push((sound, yielded));
        if yielded {
            break;
        }
        caller.listen(random.random_range(0..700))?;
    }
    let hearing = caller.hang_up()?;
    let heard = hearing.between(began, i64::MAX);
    let dips = following::dips(heard, known);
    Ok(clips
        .iter()
        .zip(said)
        .map(|(clip, (said, yielded))| {
            let window = said.began_ms..said.ended_ms + i64::try_from(AFTER_MS).unwrap_or(0);
            let within = |dip: &&Dip| window.contains(&(dip.at_ms + began));
            Outcome {
                name: clip.name.clone(),
                yielded,
                dips: dips.iter().filter(within).copied().collect(),
            }
        })
        .collect())
}

fn report(
    kind: &str,
    outcomes: &[Outcome],
    known: &[i16],
    mut findings: Findings,
) -> Result<Findings> {
    let per_word = known.len() as f64 / 8.0 / SPEECH.split_whitespace().count() as f64;
    let mut names: Vec<&str> = outcomes
        .iter()
        .map(|outcome| outcome.name.as_str())
        .collect();
    names.sort_unstable();
    names.dedup();
    names.push("all");
    let mut table = Table::new(
        format!("{kind} over the assistant, 10 dB below the caller's level"),
        &[
            "SOUND",
            "CASES",
            "YIELDED TO",
            "HEARD A DIP",
            "DIP MS P50",
            "DIP MS P95",
            "DIP MS MAX",
            "WORDS REPEATED P95",
            "WORDS REPEATED MAX",
        ],
    );
    for name in names {
        let of_name: Vec<&Outcome> = outcomes
            .iter()
            .filter(|outcome| outcome.name == name || name == "all")
            .collect();
        let yielded = of_name.iter().filter(|outcome| outcome.yielded).count();
        let unyielded = || of_name.iter().filter(|outcome| !outcome.yielded);
        let dipped = unyielded()
            .filter(|outcome| !outcome.dips.is_empty())
            .count();
        let dips = || unyielded().flat_map(|outcome| &outcome.dips);
        let lasted = Sample::of_ms(dips().map(|dip| dip.lasted_ms));
        let words = Sample::new(dips().map(|dip| dip.repeated_ms as f64 / per_word));
        let decimal = |value: Option<f64>| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"))
        };
        table.row(vec![
            name.to_owned(),
            of_name.len().to_string(),
            format!("{yielded} ({})", percent(yielded, of_name.len())),
            format!("{dipped} ({})", percent(dipped, of_name.len())),
            whole(lasted.percentile(0.5)),
            whole(lasted.percentile(0.95)),
            whole(lasted.max()),
            decimal(words.percentile(0.95)),
            decimal(words.max()),
        ]);
    }
    findings.table(table);
    let to_json = |outcome: &Outcome| -> Value {
        let dips = outcome.dips.iter().map(|dip| {
            json!({ "atMs": dip.at_ms, "lastedMs": dip.lasted_ms, "repeatedMs": dip.repeated_ms })
        });
        json!({ "sound": outcome.name, "yielded": outcome.yielded, "dips": dips.collect::<Vec<_>>() })
    };
    let all: Vec<Value> = outcomes.iter().map(to_json).collect();
    findings.detail(kind, json!(all));
    Ok(findings)
}
