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
//!                        └ capture: packets from tcpdump
//! ```
//!
//! - `OFFHOOK_BIN_DIR`: the binaries; where not set, the folder above this program's
//! - `OFFHOOK_MODELS`: the models; `data/models` where not set
//! - `OFFHOOK__...`: settings for every server that is started

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod answers;
mod api;
mod capture;
mod conversation;
mod crowd;
mod generator;
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

conversation   recorded people talk with the demo assistant: voice to voice and its parts
    --turns N            (30)
    --comparison-turns N without speculation, for comparison; 0 for none (as --turns)
    --turns-per-call N   (10)
    --codec PCMU|PCMA
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
            let options = parse(
                &["turns", "comparison-turns", "turns-per-call", "codec"],
                &[],
            )?;
            (conversation::run(&options)?, options)
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
