//! A running Offhook and calls to it.
//!
//! ```text
//! Setup ─start─▶ Server ─place─▶ (what the caller saw, what the server kept)
//!                   │ drop: SIGTERM, SIGKILL after a while, folder removed
//!                   └ warden: SIGKILL when this program ends in whatever way
//! ```

mod keeper;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use serde::Deserialize;
use toml::Table;

use keeper::{Folder, Warden};

use crate::Result;
use crate::options::Options;
use crate::speech::Line;

/// Loading the models on a busy machine.
const START: Duration = Duration::from_secs(120);

/// Writing down a call that is over; ending when asked to.
const SHORTLY: Duration = Duration::from_secs(15);

/// Media ports of one server.
const MEDIA_PORTS: u16 = 100;

/// What the caller saw, as `offhook call --json` prints it. Times are ms from the answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Seen {
    pub(crate) codec: String,
    pub(crate) greeting_ms: Option<i64>,
    pub(crate) lines: Vec<SeenLine>,
    pub(crate) ended: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SeenLine {
    pub(crate) began_ms: Option<i64>,
    pub(crate) ended_ms: Option<i64>,
    pub(crate) holding_ms: Option<i64>,
    pub(crate) voice_to_voice_ms: Option<i64>,
}

/// What the server kept, as `offhook calls show --json` prints it. Times are ms on its clock.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Kept {
    status: String,
    pub(crate) messages: Vec<Message>,
    pub(crate) turns: Vec<Turn>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Message {
    pub(crate) role: String,
    pub(crate) message: String,
    pub(crate) start_ms: i64,
    pub(crate) turn: i64,
    pub(crate) interrupted: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Turn {
    pub(crate) turn: i64,
    pub(crate) speech_ended_ms: Option<i64>,
    pub(crate) endpoint_ms: Option<i64>,
    pub(crate) transcript_ms: Option<i64>,
    pub(crate) first_token_ms: Option<i64>,
    pub(crate) first_clause_ms: Option<i64>,
    pub(crate) first_audio_ms: Option<i64>,
    pub(crate) first_packet_ms: Option<i64>,
    pub(crate) holding_packet_ms: Option<i64>,
    pub(crate) retries: u32,
    #[serde(default)]
    pub(crate) speculations_kept: u32,
    #[serde(default)]
    pub(crate) speculations_dropped: u32,
    #[serde(default)]
    pub(crate) speculations_wasted_ms: u64,
}

impl Kept {
    /// The words of one side, from `from` up to `until`.
    pub(crate) fn said(&self, role: &str, from: i64, until: i64) -> Vec<&str> {
        let within =
            |message: &&Message| message.role == role && (from..until).contains(&message.start_ms);
        self.messages
            .iter()
            .filter(within)
            .map(|message| message.message.as_str())
            .collect()
    }

    /// The turn whose speech ended nearest to a time, if any did within a second and a half.
    pub(crate) fn turn_ended_at(&self, at: i64) -> Option<&Turn> {
        let distance = |turn: &Turn| turn.speech_ended_ms.map(|ended| (ended - at).abs());
        let near = self
            .turns
            .iter()
            .filter_map(|turn| Some((distance(turn)?, turn)));
        near.filter(|(distance, _)| *distance <= 1500)
            .min_by_key(|(distance, _)| *distance)
            .map(|(_, turn)| turn)
    }
}

/// How the caller behaves.
#[derive(Clone, Debug)]
pub(crate) struct Manner {
    pub(crate) codec: Option<String>,
    pub(crate) noise: Option<(PathBuf, f64)>,
    pub(crate) quiet_ms: u64,
    pub(crate) reply_timeout_ms: u64,
    pub(crate) interrupt_after_ms: Option<u64>,
}

impl Manner {
    /// As the options say.
    pub(crate) fn of(options: &Options, reply_timeout_ms: u64) -> Result<Self> {
        let snr = options.number("snr", 10.0)?;
        Ok(Self {
            codec: options
                .text("codec")
                .filter(|codec| *codec != "both")
                .map(str::to_owned),
            noise: options.path("noise").map(|path| (path, snr)),
            quiet_ms: options.number("quiet", 1500)?,
            reply_timeout_ms: options.number("reply-timeout", reply_timeout_ms)?,
            interrupt_after_ms: None,
        })
    }

    fn arguments(&self, command: &mut Command) {
        command.arg("--quiet").arg(self.quiet_ms.to_string());
        command
            .arg("--reply-timeout")
            .arg(self.reply_timeout_ms.to_string());
        if let Some(codec) = &self.codec {
            command.arg("--codec").arg(codec);
        }
        if let Some((noise, snr)) = &self.noise {
            command
                .arg("--noise")
                .arg(noise)
                .arg("--snr")
                .arg(snr.to_string());
        }
        if let Some(after) = self.interrupt_after_ms {
            command.arg("--interrupt-after").arg(after.to_string());
        }
    }
}

/// Who speaks the caller's lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Voice {
    /// The recordings.
    Recorded,
    /// The server's own voice model, from the text.
    Made,
}

pub(crate) fn binaries() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("OFFHOOK_BIN_DIR") {
        return Ok(folder.into());
    }
    let own = std::env::current_exe()?;
    let folder = own.parent().and_then(Path::parent);
    folder
        .map(Path::to_owned)
        .ok_or_else(|| "set OFFHOOK_BIN_DIR to the folder of the binaries".into())
}

pub(crate) fn models() -> PathBuf {
    match std::env::var_os("OFFHOOK_MODELS") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("data/models"),
    }
}

/// The `offhook` command. Settings in the environment stay; where things lie does not.
fn offhook() -> Result<Command> {
    let mut command = Command::new(binaries()?.join("offhook"));
    command
        .env_remove("OFFHOOK_CONFIG")
        .env_remove("OFFHOOK_DATA")
        .stdin(Stdio::null());
    command.env("OFFHOOK__engines__models", models());
    Ok(command)
}

/// Runs a command that must succeed.
fn run(command: &mut Command) -> Result<String> {
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if !status.success() {
        return Err(format!(
            "{command:?}: {status}\n{}",
            String::from_utf8_lossy(&stderr)
        )
        .into());
    }
    Ok(String::from_utf8(stdout)?)
}

fn wait_for<T>(
    what: &str,
    patience: Duration,
    mut ask: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let since = Instant::now();
    while since.elapsed() < patience {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(format!("waited {patience:?} in vain: {what}").into())
}

/// A port that is free now, below those that the system hands out and beside those of the tests.
fn free_port(is_free: impl Fn(u16) -> bool) -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let offset = (std::process::id() % 90) as u16 * 40;
    let ports = (0..4000).map(|_| 14_000 + (offset + NEXT.fetch_add(1, Ordering::Relaxed)) % 4000);
    ports
        .take(200)
        .find(|port| is_free(*port))
        .ok_or_else(|| "no port is free".into())
}

/// How a server is to be started.
#[derive(Debug)]
pub(crate) struct Setup {
    config: Table,
    settings: BTreeMap<String, String>,
    media_ports: u16,
}

impl Setup {
    /// As the file of `--config` says, on ports and in a folder of its own.
    pub(crate) fn new(options: &Options) -> Result<Self> {
        let config = match options.path("config") {
            Some(path) => fs::read_to_string(&path)
                .map_err(|error| format!("{}: {error}", path.display()))?
                .parse()?,
            None => Table::new(),
        };
        Ok(Self {
            config,
            settings: BTreeMap::new(),
            media_ports: MEDIA_PORTS,
        })
    }

    /// So many media ports: two for each call at once.
    pub(crate) fn media_ports(mut self, count: u16) -> Self {
        self.media_ports = count;
        self
    }

    /// A setting, as in the environment: `engines__stt`.
    pub(crate) fn set(mut self, key: &str, value: &impl ToString) -> Self {
        self.settings.insert(key.to_owned(), value.to_string());
        self
    }

    /// The assistant of that name in the configuration.
    pub(crate) fn configured(&self, name: &str) -> Option<Table> {
        self.config
            .get("assistants")?
            .get(name)?
            .as_table()
            .cloned()
    }

    /// One more assistant.
    pub(crate) fn assistant(mut self, name: &str, settings: Table) -> Self {
        let assistants = self
            .config
            .entry("assistants")
            .or_insert_with(|| Table::new().into());
        if let Some(assistants) = assistants.as_table_mut() {
            assistants.insert(name.to_owned(), settings.into());
        }
        self
    }

    /// Starts the server and waits until it takes calls.
    pub(crate) fn start(mut self) -> Result<Server> {
        let sip = free_port(|port| UdpSocket::bind(("127.0.0.1", port)).is_ok())?;
        let http = free_port(|port| TcpListener::bind(("127.0.0.1", port)).is_ok())?;
        // Below those that the system hands out.
        let media = 26_000 + (std::process::id() % 60) as u16 * MEDIA_PORTS;
        let media = media.min(32_000 - self.media_ports);
        let own = Folder::new(&format!("{}-{sip}", std::process::id()))?;
        let folder = own.0.clone();
        let last = media + self.media_ports - 1;
        self = self
            .set("sip__listen", &format!("[\"127.0.0.1:{sip}\"]"))
            .set("http__listen", &format!("127.0.0.1:{http}"))
            .set("rtp__port_min", &media)
            .set("rtp__port_max", &last);
        let file = folder.join("offhook.toml");
        fs::write(&file, toml::to_string(&self.config)?)?;
        let log = folder.join("server.log");
        let mut command = offhook()?;
        command
            .arg("serve")
            .arg("--config")
            .arg(&file)
            .arg("--data")
            .arg(folder.join("data"))
            // A bench looks for the limit itself.
            .env("OFFHOOK__limits__calibrate", "false");
        for (key, value) in &self.settings {
            command.env(format!("OFFHOOK__{key}"), value);
        }
        let output = File::create(&log)?;
        let child = command
            .current_dir(&folder)
            .stdout(Stdio::null())
            .stderr(output)
            .spawn();
        let child =
            child.map_err(|error| format!("{}: {error}", command.get_program().display()))?;
        let server = Server {
            _warden: Warden::of(child.id(), &folder)?,
            child,
            sip,
            http,
            media: media..=last,
            folder: own,
        };
        server.wait_until_ready(&log)
    }
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    _warden: Warden,
    child: Child,
    sip: u16,
    http: u16,
    /// Its media ports.
    pub(crate) media: std::ops::RangeInclusive<u16>,
    folder: Folder,
}

impl Server {
    fn wait_until_ready(mut self, log: &Path) -> Result<Self> {
        let http = self.http;
        let child = &mut self.child;
        wait_for("a server that is ready", START, || {
            if let Some(status) = child.try_wait()? {
                let said = fs::read_to_string(log).unwrap_or_default();
                return Err(format!("the server ended ({status}):\n{said}").into());
            }
            Ok(is_ready(http).then_some(()))
        })?;
        Ok(self)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it counts.
    pub(crate) fn metrics(&self) -> Result<String> {
        Ok(get(self.http, "/metrics")?)
    }

    /// `127.0.0.1:port`.
    pub(crate) fn sip(&self) -> String {
        format!("127.0.0.1:{}", self.sip)
    }

    /// `127.0.0.1:port`.
    pub(crate) fn http(&self) -> String {
        format!("127.0.0.1:{}", self.http)
    }

    /// A new key of its API, in the database of that URL.
    pub(crate) fn api_key(&self, url: Option<&str>) -> Result<String> {
        let mut command = offhook()?;
        command.args(["api-key", "create", "--name", "bench", "--data"]);
        command.arg(self.data());
        if let Some(url) = url {
            command.args(["--store", url]);
        }
        Ok(run(&mut command)?.trim().to_owned())
    }

    /// A new operator of its dashboard, in the database of that URL: the password.
    pub(crate) fn operator(&self, name: &str, url: Option<&str>) -> Result<String> {
        let mut command = offhook()?;
        command.args(["operator", "create", "--name", name, "--data"]);
        command.arg(self.data());
        if let Some(url) = url {
            command.args(["--store", url]);
        }
        Ok(run(&mut command)?.trim().to_owned())
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.0.join("data")
    }

    /// A call to `user`, without anything being read of it.
    pub(crate) fn call(
        &self,
        user: &str,
        lines: &[&Line],
        voice: Voice,
        manner: &Manner,
    ) -> Result<Seen> {
        let mut command = offhook()?;
        let target = format!("sip:{user}@127.0.0.1:{}", self.sip);
        match voice {
            Voice::Recorded => {
                command.arg("call").arg(target);
                for line in lines {
                    command.arg("--play").arg(line.recording()?);
                }
            }
            Voice::Made => {
                // The caller's speech is made before the call: at full speed, nothing waits for it.
                command
                    .arg("demo")
                    .arg(target)
                    .env("OFFHOOK__engines__scheduling", "normal");
                command.arg("--data").arg(self.data());
                for line in lines {
                    command.arg("--say").arg(line.spoken());
                }
            }
        }
        command
            .arg("--json")
            .arg("--phrases")
            .arg(self.data().join("phrases"));
        manner.arguments(&mut command);
        Ok(serde_json::from_str(&run(&mut command)?)?)
    }

    /// A call to `user` while there is no other, and what the server kept of it.
    pub(crate) fn place(
        &self,
        user: &str,
        lines: &[&Line],
        voice: Voice,
        manner: &Manner,
    ) -> Result<(Seen, Kept)> {
        let before = self.calls()?;
        let seen = self.call(user, lines, voice, manner)?;
        Ok((seen, self.kept_beside(&before)?))
    }

    fn kept_beside(&self, before: &[String]) -> Result<Kept> {
        self.kept(|call| !before.contains(&call.id))
    }

    /// What was kept of a call, once it is over.
    pub(crate) fn kept_of(&self, sip_call_id: &str) -> Result<Kept> {
        self.kept(|call| call.sip_call_id == sip_call_id)
    }

    fn kept(&self, is: impl Fn(&Listed) -> bool) -> Result<Kept> {
        wait_for("the record of a call", SHORTLY, || {
            let Some(call) = self.listed()?.into_iter().find(&is) else {
                return Ok(None);
            };
            let kept: Kept = serde_json::from_value(self.show(&call.id, &[])?)?;
            Ok((kept.status == "ended").then_some(kept))
        })
    }

    /// What `offhook calls show ID --json` prints, with more options.
    pub(crate) fn show(&self, id: &str, more: &[&str]) -> Result<serde_json::Value> {
        let mut command = offhook()?;
        command.args(["calls", "show", id, "--json"]).args(more);
        command.arg("--data").arg(self.data());
        Ok(serde_json::from_str(&run(&mut command)?)?)
    }

    /// The ids of the calls that it kept, newest first.
    pub(crate) fn calls(&self) -> Result<Vec<String>> {
        Ok(self.listed()?.into_iter().map(|call| call.id).collect())
    }

    fn listed(&self) -> Result<Vec<Listed>> {
        let mut command = offhook()?;
        command
            .args(["calls", "--json", "--limit", "1000", "--data"])
            .arg(self.data());
        Ok(serde_json::from_str(&run(&mut command)?)?)
    }

    /// A counter or gauge by its label.
    pub(crate) fn counted(&self, name: &str) -> Result<f64> {
        let metrics = self.metrics()?;
        let label = format!("\"{name}\"");
        let line = metrics.lines().find(|line| line.contains(&label));
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        value.ok_or_else(|| format!("the server does not count {name}").into())
    }
}

/// A kept call, as far as a list tells.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    id: String,
    sip_call_id: String,
}

fn get(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn is_ready(port: u16) -> bool {
    get(port, "/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

impl Drop for Server {
    fn drop(&mut self) {
        // No call is left by now, so it ends at once when asked to; if not, it is ended.
        if matches!(self.child.try_wait(), Ok(None)) {
            let asked = Command::new("kill")
                .arg("-TERM")
                .arg(self.child.id().to_string())
                .status();
            let ended = || Ok(self.child.try_wait()?.map(|_| ()));
            if asked.is_err() || wait_for("the server's end", SHORTLY, ended).is_err() {
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
        }
    }
}
