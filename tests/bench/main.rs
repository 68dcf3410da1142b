//! `scripts/bench`: measures the built product from outside. Every run starts the real server with
//! its workers and models on ports and in a folder of its own, calls it with the real callers, and
//! reads what the callers saw and what the server kept.
//!
//! ```text
//! main ─▶ options ─▶ conversation | api | stt | answers | pacing | signalling | media | memory | soak
//!                        │ | pesq | talk-off                              ─▶ report (table, JSON)
//!                        │ server: one `offhook serve`, `offhook call`, `offhook calls`
//!                        │ speech: recordings with their transcripts    words: word error rate
//!                        │ statistics: percentiles                      load: who used the CPUs
//!                        │ caller: one who is told what to do when      hearing: what it heard
//!                        │ voices: synthetic speech                     cutting: recorded speech, anew
//!                        │ watching: a live call's events
//!                        └ capture: packets from tcpdump
//! ```
//!
//! - `OFFHOOK_BIN_DIR`: the binaries; where not set, the folder above this program's
//! - `OFFHOOK_MODELS`: the models; `data/models` where not set
//! - `OFFHOOK__...`: settings for every server that is started

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod answers;
mod api;
mod caller;
mod capture;
mod conversation;
mod crowd;
mod cutting;
mod generator;
mod hearing;
mod load;
mod media;
mod memory;
mod options;
mod pacing;
mod pesq;
mod report;
mod server;
mod signalling;
mod soak;
mod speech;
mod statistics;
mod strangers;
mod stt;
mod talk_off;
mod voices;
mod watching;
mod words;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use options::Options;
use report::Report;

/// Whatever went wrong, for the one who reads it.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "\
usage: bench NAME [options]        (through scripts/bench)

conversation [PART...]   people talk with the demo assistant, live, in real time: some 90 minutes for
               all parts, each of which can be run by itself (in brackets: minutes)
  sentences    [20] recordings: voice to voice and its parts; the same with speculation, partial
               transcripts, Smart Turn and all of them switched off
    --turns N            (30)
    --comparison-turns N with something off; 0 for none, in `pauses` too (as --turns)
    --turns-per-call N   (10)
    --codec PCMU|PCMA
  pauses       [50] false cut-ins: numbers and sentences with pauses of up to 900 ms inside, out of
               recordings and in synthetic voices, and the wait that is paid for it, over the
               policy's main knob
    --cases N            of each of the two (100); more of the same for another --seed
    --curve-cases N      of both for each value of the knob; 0 for no curve (30)
    --knob SETTING       a dotted one of the assistant (all waits of startSpeakingPlan by a factor)
    --knob-value X       repeat for more (0.5 0.75 1.5)
  interruption [8] the caller speaks over the assistant: until it is silent or 15 dB lower, and until
               it yields
    --interruptions N    (60)
  history      [1, after interruption] what it remembers then, against what the recogniser hears in the
               recording
    --model NAME         of the recogniser (whisper-base-q8_0)
  backchannels [7] mm-hm, right, okay, yeah, uh-huh, sure over the assistant, 10 dB below the caller's
               level: yielding, dips that are heard, words that are repeated
    --backchannels N     (100)
  noises       [7] the same with noises
    --noises N           (100)
    --noise-dir DIR      (tests/bench/noise)
  callers      [7] 1 to N callers at once
    --callers N          (6)
    --turns-per-caller N (6)
    --seed N             of what is made at random (20260)
    --voice NAME         repeat for more (the English ones that are installed)
    --made DIR           where synthetic speech is kept (bench-speech beside the binaries)
stt            word error rate through calls
    --model NAME         repeat for more; the configured one by default
    --codec PCMU|PCMA|both
    --made               also the same texts in the server's own voice
    --lines-per-call N   (8)
answers        facts asked for by voice: the share that is answered right
    --model NAME         repeat for more; the configured one by default
    --facts FILE         (tests/bench/answers/answers.toml)
    --per-call N         questions in one call (1)
pacing         spacing of outgoing packets during inference, by packet capture (needs root, tcpdump)
    --calls N            at once (4)
    --seconds N          (60)
signalling     short calls at a rising rate: set-up rate, INVITE to 180 and to 200, failures
    --rate N             calls a second; repeat for more (25 50 100 150 200 250)
    --seconds N          at each rate (10)
    --hold MS            length of a call (100)
media          many callers who talk at once: processor and memory a call, spacing of packets
    --calls N            at once; repeat for more (1 50 100 250 500)
    --seconds N          of each (10)
memory         very many short calls: whether the server's memory stays flat
    --calls N            (10000)
    --rate N             calls a second (100)
    --hold MS            length of a call (100)
api            lists, searches and filters of the API over kept calls, on SQLite and PostgreSQL
    --calls N            kept calls (50000)
    --rounds N           requests of each kind (40)
strangers      a wrong password refused for users who are known and who are not: the time it takes
    --rounds N           requests for each (3000)
soak           two long calls with a session interval of 90 s, refreshed by the caller and by the
               server (needs SIPp)
    --minutes N          (30)
pesq           loss, bursts and jitter: PESQ and delay of what is heard, against silence in the gaps
               and spandsp's concealment (installs pesq from PyPI and libspandsp2)
    --seeds N            (20)
talk-off       speech taken for keys, and keys of 60 ms in noise that are heard
    --minutes N          of people, and of the voice model, at varied speeds and levels (60)
    --voice NAME         repeat for more (piper-en-us-joe-medium)
all
    --audio DIR          folder of WAV files, with transcripts.tsv; repeat for more
                         (tests/bench/audio where it exists, else tests/calls/audio)
    --noise WAV          what is mixed under the caller's speech, and how much quieter
    --snr DB             it is (10)
    --config FILE        settings of the server beside ports and folders; an assistant `demo` in it
                         takes the place of the built-in one in `conversation`
    --reply-timeout MS   give up waiting for an answer (20000; stt 8000)
    --quiet MS           an answer is over after this much silence (1500)
    --json FILE          keep everything that was measured";

fn main() -> ExitCode {
    // `cargo bench` adds its own flag.
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let Some((name, rest)) = arguments.split_first() else {
        return Err(USAGE.into());
    };
    if matches!(name.as_str(), "-h" | "--help") {
        println!("{USAGE}");
        return Ok(());
    }
    let of_all = [
        "audio",
        "noise",
        "snr",
        "config",
        "reply-timeout",
        "quiet",
        "json",
    ];
    let parse = |own: &[&'static str], switches: &[&'static str]| {
        let valued: Vec<&'static str> = of_all.iter().chain(own).copied().collect();
        Options::parse(rest, &valued, switches)
    };
    let measured = match name.as_str() {
        "conversation" => {
            let parts = rest.iter().take_while(|word| !word.starts_with("--"));
            let parts: Vec<String> = parts.cloned().collect();
            let valued: Vec<&str> = of_all
                .iter()
                .chain(&conversation::OPTIONS)
                .copied()
                .collect();
            let options = Options::parse(&rest[parts.len()..], &valued, &[])?;
            (conversation::run(&parts, &options)?, options)
        }
        "stt" => {
            let options = parse(&["model", "codec", "lines-per-call"], &["made"])?;
            (stt::run(&options)?, options)
        }
        "answers" => {
            let options = parse(&["model", "facts", "per-call"], &[])?;
            (answers::run(&options)?, options)
        }
        "pacing" => {
            let options = parse(&["calls", "seconds"], &[])?;
            (pacing::run(&options)?, options)
        }
        "signalling" => {
            let options = parse(&["rate", "seconds", "hold"], &[])?;
            (signalling::run(&options)?, options)
        }
        "media" => {
            let options = parse(&["calls", "seconds"], &[])?;
            (media::run(&options)?, options)
        }
        "memory" => {
            let options = parse(&["calls", "rate", "hold"], &[])?;
            (memory::run(&options)?, options)
        }
        "api" => {
            let options = parse(&["calls", "rounds"], &[])?;
            (api::run(&options)?, options)
        }
        "strangers" => {
            let options = parse(&["rounds"], &[])?;
            (strangers::run(&options)?, options)
        }
        "soak" => {
            let options = parse(&["minutes"], &[])?;
            (soak::run(&options)?, options)
        }
        "pesq" => {
            let options = parse(&["seeds"], &[])?;
            (pesq::run(&options)?, options)
        }
        "talk-off" => {
            let options = parse(&["minutes", "voice"], &[])?;
            (talk_off::run(&options)?, options)
        }
        // What `pacing` starts of itself, at another priority.
        pacing::IDLE_TIMER => return pacing::idle_timer(),
        _ => return Err(format!("there is no bench {name:?}\n\n{USAGE}").into()),
    };
    let (report, options): (Report, Options) = measured;
    print!("{report}");
    match options.text("json") {
        Some(file) => report.save(Path::new(file)),
        None => Ok(()),
    }
}
