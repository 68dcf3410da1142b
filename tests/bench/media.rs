//! Many callers who talk at once: what each costs in processor and memory, how evenly the server
//! sends, and what is lost. Every frame of every call goes through voice activity detection; nobody
//! pauses, so that no turn ends and no engine has work.

use std::sync::Arc;
use std::time::Duration;

use audio_codec_algorithms::encode_ulaw;
use offhook::audio::resample;
use offhook::audio::{SampleRate, wav};
use serde_json::json;
use toml::Table as Toml;

use crate::Result;
use crate::crowd::{Crowd, Heard, socket_of, sockets};
use crate::generator::Generator;
use crate::load::{Watch, process_seconds};
use crate::memory::resident_megabytes;
use crate::options::Options;
use crate::report::{Report, Table};
use crate::server::{Server, Setup};
use crate::speech;
use crate::statistics::Sample;

/// Callers at once.
const CALLERS: [usize; 5] = [1, 50, 100, 250, 500];
/// Calls a second while they are set up.
const RATE: u32 = 100;
/// Speech of all callers, who are in different places of it.
const SPEECH_SECONDS: usize = 60;
/// Longer quiet is cut out.
const PAUSE_MS: usize = 60;
/// Frames of 10 ms below this are quiet (about -46 dBFS).
const QUIET: i64 = 164;
/// Until everybody hears everybody.
const SETTLED: Duration = Duration::from_secs(1);

const ASSISTANT: &str = r#"
firstMessage = "Hello."
silenceTimeoutSeconds = 3600
[model]
systemPrompt = "You are a receptionist."
"#;

pub(crate) fn run(options: &Options) -> Result<Report> {
    let duration = Duration::from_secs(options.number("seconds", 10)?);
    let callers = match options.all("calls") {
        [] => CALLERS.to_vec(),
        given => given
            .iter()
            .map(|count| count.parse())
            .collect::<std::result::Result<_, _>>()?,
    };
    let most = callers.iter().copied().max().unwrap_or(1);
    let speech = unbroken_speech(options)?;
    let server = server(options, most)?;
    let mut table = Table::new(
        format!(
            "Callers at once, {} s each, of G.711 in packets of 20 ms",
            duration.as_secs()
        ),
        &[
            "callers",
            "CPU %",
            "a call",
            "MB a call",
            "packets",
            "missing",
            "jitter p50",
            "p99",
            "p99.9",
            "max ms",
            "VAD",
            "late ticks",
            "lost",
        ],
    );
    let watch = Watch::start();
    let mut details = Vec::new();
    for count in callers {
        let stage = Stage::run(&server, count, duration, &speech)?;
        table.row(stage.row());
        details.push(stage.to_json());
    }
    let mut report = Report::new("media", watch.stop());
    report.table(table);
    report.note(NOTE);
    report.detail("stages", json!(details));
    Ok(report)
}

const NOTE: &str = "\
CPU is that of the server's process, of one core; the workers have nothing to do. Memory is what the
process grew by since nobody called: a caller who speaks without a pause costs 16 kB a second. VAD is
the share of the callers' frames that were judged. Missing are packets of ours that did not arrive, lost
those, ticks and frames that the server itself dropped. The generator, another process on the same
processors, takes the times of arrival.";

fn server(options: &Options, most: usize) -> Result<Server> {
    let ports = u16::try_from(2 * most + 100)?;
    Setup::new(options)?
        .assistant("short", ASSISTANT.parse::<Toml>()?)
        .media_ports(ports)
        .set("recording__enabled", &false)
        .set("limits__max_calls", &(most + 10))
        .set("limits__requests_per_second_per_source", &1_000_000)
        .set("limits__requests_per_second_of_strangers", &1_000_000)
        .start()
}

/// The recordings, without their pauses, one after another, as mu-law.
fn unbroken_speech(options: &Options) -> Result<Arc<[u8]>> {
    const FRAME: usize = 80;
    let mut samples: Vec<i16> = Vec::new();
    let wanted = SPEECH_SECONDS * 8000;
    let lines = speech::lines(options)?;
    for line in lines.iter().cycle().take(1000) {
        let file = std::fs::File::open(line.recording()?)?;
        let clip = wav::read(file)?;
        let narrow = resample::whole(&clip.samples, clip.rate, SampleRate::TELEPHONE);
        let mut quiet = 0;
        for frame in narrow.chunks_exact(FRAME) {
            let power: i64 = frame.iter().map(|s| i64::from(*s) * i64::from(*s)).sum();
            let is_quiet = power < QUIET * QUIET * FRAME as i64;
            quiet = if is_quiet { quiet + 10 } else { 0 };
            if quiet <= PAUSE_MS {
                samples.extend(frame);
            }
        }
        if samples.len() >= wanted {
            break;
        }
    }
    Ok(samples.into_iter().map(encode_ulaw).collect())
}

struct Stage {
    callers: usize,
    /// Share of one core.
    processor: f64,
    megabytes: f64,
    packets: u64,
    missing: u64,
    jitter: Sample,
    /// Frames that were judged, of those that were sent.
    judged: f64,
    late_ticks: f64,
    /// Frames and windows that calls or the detector could not take.
    lost: f64,
}

impl Stage {
    fn run(
        server: &Server,
        callers: usize,
        duration: Duration,
        speech: &Arc<[u8]>,
    ) -> Result<Self> {
        let before = resident_megabytes(server.pid())?;
        let sockets = sockets(callers)?;
        let mut generator = Generator::new(server, Duration::from_secs(3600))?;
        let media = (0..callers)
            .map(|caller| Ok(sockets[socket_of(caller)].local_addr()?.port()))
            .collect::<Result<Vec<u16>>>()?;
        let ports = generator.establish(RATE, &media)?;
        let crowd = Crowd::start(sockets, &ports, Arc::clone(speech))?;
        std::thread::sleep(SETTLED);
        let counted = Counters::read(server)?;
        let seconds = process_seconds(server.pid());
        crowd.measure();
        std::thread::sleep(duration);
        let used = process_seconds(server.pid()) - seconds;
        let after = Counters::read(server)?;
        let megabytes = resident_megabytes(server.pid())? - before;
        let Heard {
            packets,
            missing,
            jitter,
        } = crowd.finish()?;
        generator.hang_up_all()?;
        let windows = duration.as_secs_f64() * 8000.0 / 256.0 * callers as f64;
        Ok(Self {
            callers,
            processor: used / duration.as_secs_f64(),
            megabytes: megabytes / callers as f64,
            packets,
            missing,
            jitter: Sample::new(jitter),
            judged: (after.windows - counted.windows) / windows,
            late_ticks: after.late_ticks - counted.late_ticks,
            lost: after.lost - counted.lost,
        })
    }

    fn row(&self) -> Vec<String> {
        let ms = |share| {
            let value = self.jitter.percentile(share);
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"))
        };
        let percent = 100.0 * self.processor;
        vec![
            self.callers.to_string(),
            format!("{percent:.1}"),
            format!("{:.2}", percent / self.callers as f64),
            format!("{:.3}", self.megabytes),
            self.packets.to_string(),
            self.missing.to_string(),
            ms(0.5),
            ms(0.99),
            ms(0.999),
            ms(1.0),
            format!("{:.1} %", 100.0 * self.judged),
            format!("{:.0}", self.late_ticks),
            format!("{:.0}", self.lost),
        ]
    }

    fn to_json(&self) -> serde_json::Value {
        json!({
            "callers": self.callers,
            "coreShare": self.processor,
            "coreShareOfACall": self.processor / self.callers as f64,
            "megabytesOfACall": self.megabytes,
            "packets": self.packets,
            "missing": self.missing,
            "jitterMs": self.jitter.to_json(),
            "shareJudged": self.judged,
            "lateTicks": self.late_ticks,
            "lost": self.lost,
        })
    }
}

/// What the server counts.
struct Counters {
    windows: f64,
    late_ticks: f64,
    lost: f64,
}

impl Counters {
    fn read(server: &Server) -> Result<Self> {
        let of = |name| server.counted(name);
        Ok(Self {
            windows: of("vad_windows")?,
            late_ticks: of("media_late_ticks")?,
            lost: of("media_lost_ticks")? + of("media_unsent_packets")? + of("vad_dropped")?,
        })
    }
}
