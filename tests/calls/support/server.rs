//! A running Offhook: the real binary with the real models, on ports and in a folder of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

use super::process::{self, Held, children, run, run_well};
use super::record::Record;
use super::sound::Sound;
use super::{Folder, media_ports, tcp_port, udp_port, until};

/// Loading the models on a busy machine.
const START: Duration = Duration::from_secs(120);

/// Writing down a call that is over, saying goodbye, and the like.
const SHORTLY: Duration = Duration::from_secs(15);

/// The names of the workers' processes.
pub(crate) const WORKERS: [&str; 3] = ["offhook-llm", "offhook-stt", "offhook-tts"];

/// The folder of the binaries that are tested.
pub(crate) fn binaries() -> PathBuf {
    if let Some(folder) = std::env::var_os("OFFHOOK_BIN_DIR") {
        return folder.into();
    }
    let test = std::env::current_exe().expect("this program's path");
    test.parent()
        .and_then(Path::parent)
        .expect("target/release/deps/calls")
        .to_owned()
}

/// The folder of the models.
pub(crate) fn models() -> PathBuf {
    match std::env::var_os("OFFHOOK_MODELS") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("data/models"),
    }
}

/// The `offhook` command, as bare as a shell would have it.
pub(crate) fn offhook() -> Command {
    let mut command = Command::new(binaries().join("offhook"));
    for (name, _) in std::env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| name.starts_with("OFFHOOK"))
        {
            command.env_remove(name);
        }
    }
    command
}

/// How a server is to be started.
#[derive(Debug)]
pub(crate) struct Setup {
    name: &'static str,
    file: Option<String>,
    data: Option<PathBuf>,
    settings: BTreeMap<String, String>,
}

impl Setup {
    pub(crate) fn new(name: &'static str) -> Self {
        let media = media_ports();
        let settings = [
            ("sip__listen", format!("[\"127.0.0.1:{}\"]", udp_port())),
            ("http__listen", format!("127.0.0.1:{}", tcp_port())),
            ("rtp__port_min", media.to_string()),
            ("rtp__port_max", (media + 99).to_string()),
            ("engines__models", models().display().to_string()),
            // Threads of one engine wait for each other by spinning, which a machine of few
            // processors with other work to do, such as a second test's server, cannot afford.
            ("engines__threads", "1".to_owned()),
        ];
        Self {
            name,
            file: None,
            data: None,
            settings: settings
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
        }
    }

    /// What the configuration file says beside ports and folders.
    pub(crate) fn file(mut self, toml: &str) -> Self {
        self.file = Some(toml.to_owned());
        self
    }

    /// A data folder that outlives the server.
    pub(crate) fn data(mut self, folder: &Path) -> Self {
        self.data = Some(folder.to_owned());
        self
    }

    /// A setting in the environment: `limits__max_calls`.
    pub(crate) fn set(mut self, key: &str, value: &str) -> Self {
        self.settings.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Listeners beside the UDP one: `tls:127.0.0.1:5061`.
    pub(crate) fn listen(self, more: &[String]) -> Self {
        let first = self.setting("sip__listen");
        let first = first.trim_matches(['[', ']']).to_owned();
        let all: Vec<String> = std::iter::once(first)
            .chain(more.iter().map(|at| format!("\"{at}\"")))
            .collect();
        self.set("sip__listen", &format!("[{}]", all.join(", ")))
    }

    fn setting(&self, key: &str) -> &str {
        self.settings.get(key).map_or("", String::as_str)
    }

    /// Starts the server without waiting for anything.
    pub(crate) fn start(self) -> Server {
        let folder = Folder::new(self.name);
        let data = self
            .data
            .clone()
            .unwrap_or_else(|| folder.path().join("data"));
        let log = folder.path().join("server.log");
        let mut command = offhook();
        command
            .arg("serve")
            .arg("--data")
            .arg(&data)
            .current_dir(folder.path());
        if let Some(toml) = &self.file {
            let file = folder.path().join("offhook.toml");
            fs::write(&file, toml).expect("room on the disk");
            command.arg("--config").arg(file);
        }
        // How busy the machine is decides no test.
        command.env("OFFHOOK__limits__calibrate", "false");
        for (key, value) in &self.settings {
            command.env(format!("OFFHOOK__{key}"), value);
        }
        command.env("NO_COLOR", "1");
        let output = File::create(&log).expect("room on the disk");
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "{} cannot be started: {error}",
                    binaries().join("offhook").display()
                )
            });
        Server {
            name: self.name,
            sip: self
                .setting("sip__listen")
                .split(',')
                .next()
                .unwrap_or_default()
                .trim_matches(['[', ']', '"'])
                .to_owned(),
            http: self.setting("http__listen").to_owned(),
            settings: self.settings,
            file: self.file,
            _warden: Warden::of(child.id(), folder.path()),
            pid: child.id(),
            child: Mutex::new(child),
            data,
            log,
            folder,
        }
    }

    /// Starts the server and waits until it takes calls.
    pub(crate) fn start_ready(self) -> Server {
        let server = self.start();
        server.wait_until_ready();
        server
    }
}

/// Ends the server when this program ends in whatever way: its standard input is a pipe whose
/// other end only this program holds.
#[derive(Debug)]
struct Warden(Child);

impl Warden {
    fn of(pid: u32, folder: &Path) -> Self {
        let warden = Command::new("sh")
            .arg("-c")
            .arg("read _; kill -KILL \"$0\" 2>/dev/null; rm -rf \"$1\"")
            .arg(pid.to_string())
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh");
        Self(warden)
    }
}

impl Drop for Warden {
    fn drop(&mut self) {
        // Waiting closes the pipe, which is what it is waiting for.
        let _ = self.0.wait();
    }
}

#[derive(Debug)]
pub(crate) struct Server {
    name: &'static str,
    /// `127.0.0.1:port`.
    pub(crate) sip: String,
    pub(crate) http: String,
    settings: BTreeMap<String, String>,
    file: Option<String>,
    /// Goes before the folder that it removes.
    _warden: Warden,
    pub(crate) pid: u32,
    child: Mutex<Child>,
    pub(crate) data: PathBuf,
    log: PathBuf,
    folder: Folder,
}

impl Server {
    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it ended, if it did.
    pub(crate) fn exit(&self) -> Option<ExitStatus> {
        self.child().try_wait().expect("our own child")
    }

    /// Waits for an end that it comes to by itself.
    pub(crate) fn wait_for_exit(&self) -> ExitStatus {
        until("the server's end", Duration::from_secs(60), || self.exit())
    }

    /// SIGKILL, as from the kernel when memory runs out.
    pub(crate) fn kill(&self) {
        let mut child = self.child();
        child.kill().expect("our own child");
        child.wait().expect("our own child");
    }

    /// SIGTERM, as from the system when it shuts down.
    pub(crate) fn terminate(&self) {
        process::signal(self.pid, "TERM");
    }

    /// What it logged, without what its workers said, which is a lot.
    pub(crate) fn log(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let own = log
            .lines()
            .filter(|line| !line.contains("supervisor::process"));
        own.collect::<Vec<_>>().join("\n")
    }

    pub(crate) fn wait_until_ready(&self) {
        until("a server that is ready", START, || {
            assert!(self.exit().is_none(), "the server ended:\n{}", self.log());
            (self.get("/readyz")?.0 == 200).then_some(())
        });
    }

    /// Status and body of an HTTP answer; `None` where nobody listens (yet).
    pub(crate) fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(&self.http).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        let body = answer.split_once("\r\n\r\n")?.1.to_owned();
        Some((status, body))
    }

    /// Status and components of `/readyz`.
    pub(crate) fn readiness(&self) -> (u16, Value) {
        let (status, body) = until("an answer from /readyz", SHORTLY, || self.get("/readyz"));
        let body: Value =
            serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
        (status, body["components"].clone())
    }

    /// Waits until a component fails and returns the reason.
    pub(crate) fn wait_for_failure(&self, component: &str) -> String {
        until(
            &format!("{component} to be reported as failed"),
            START,
            || {
                let (status, components) = self.readiness();
                let reason = components[component]["reason"].as_str()?.to_owned();
                assert_eq!(status, 503, "{components}");
                Some(reason)
            },
        )
    }

    /// A value of `/metrics` by its whole name, labels included.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let (_, body) = until("an answer from /metrics", SHORTLY, || self.get("/metrics"));
        let line = body
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok())
            .unwrap_or_else(|| panic!("no {name} in\n{body}"))
    }

    /// A value that other parts count: `sip_legs`.
    pub(crate) fn counted(&self, name: &str) -> u64 {
        self.metric(&format!("offhook_internal{{name=\"{name}\"}}"))
    }

    pub(crate) fn workers(&self) -> BTreeMap<String, u32> {
        let mut workers = children(self.pid);
        workers.retain(|name, _| WORKERS.contains(&name.as_str()));
        workers
    }

    pub(crate) fn held(&self) -> Held {
        process::held(self.pid)
    }

    /// `sip:user@host:port`.
    pub(crate) fn uri(&self, user: &str) -> String {
        format!("sip:{user}@{}", self.sip)
    }

    /// `http://127.0.0.1:port`.
    pub(crate) fn base(&self) -> String {
        format!("http://{}", self.http)
    }

    /// A path in the server's own folder, for what a scenario makes.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Its PostgreSQL database, where it has one.
    pub(crate) fn store_url(&self) -> Option<&str> {
        self.settings.get("store__url").map(String::as_str)
    }

    fn calls_command(&self) -> Command {
        let mut command = offhook();
        command.arg("calls");
        command
    }

    /// The ids of the kept calls, newest first, as `offhook calls --json` lists them.
    pub(crate) fn call_ids(&self) -> Vec<String> {
        let mut command = self.calls_command();
        command
            .args(["--limit", "1000", "--json", "--data"])
            .arg(&self.data);
        let listed = run_well(&mut command, SHORTLY);
        let calls: Vec<Value> = serde_json::from_str(&listed.stdout).expect("a list of calls");
        calls
            .iter()
            .map(|call| call["id"].as_str().expect("an id").to_owned())
            .collect()
    }

    pub(crate) fn call(&self, id: &str) -> Record {
        let mut command = self.calls_command();
        command
            .args(["show", id, "--json", "--data"])
            .arg(&self.data);
        let shown = run_well(&mut command, SHORTLY);
        Record(serde_json::from_str(&shown.stdout).expect("a call"))
    }

    /// What the command line shows people of a call.
    pub(crate) fn call_for_people(&self, id: &str) -> String {
        let mut command = self.calls_command();
        command.args(["show", id, "--data"]).arg(&self.data);
        run_well(&mut command, SHORTLY).stdout
    }

    /// Makes calls and returns what `make` did with what the server kept of them, oldest first:
    /// exactly `count` calls, all of them over.
    pub(crate) fn records_of<T>(&self, count: usize, make: impl FnOnce() -> T) -> (T, Vec<Record>) {
        let before: BTreeSet<String> = self.call_ids().into_iter().collect();
        let made = make();
        let records = until(
            &format!("{count} calls that are over and kept"),
            SHORTLY,
            || {
                let ids = self.call_ids();
                let new: Vec<&String> = ids
                    .iter()
                    .rev()
                    .filter(|id| !before.contains(*id))
                    .collect();
                let records: Vec<Record> = new.into_iter().map(|id| self.call(id)).collect();
                let over = records
                    .iter()
                    .all(|record| record.text("status") == "ended");
                (over && records.len() >= count).then_some(records)
            },
        );
        assert_eq!(records.len(), count, "{records:#?}");
        (made, records)
    }

    /// The same for one call.
    pub(crate) fn record_of<T>(&self, make: impl FnOnce() -> T) -> (T, Record) {
        let (made, mut records) = self.records_of(1, make);
        (made, records.remove(0))
    }

    /// The recording of a call: caller on channel 0, assistant on channel 1.
    pub(crate) fn recording(&self, record: &Record) -> Sound {
        let path = self.data.join(record.text("recording"));
        // Its length is written when it is closed, a little after the call.
        let sound = until("a finished recording", SHORTLY, || {
            let sound = Sound::read(&path);
            (sound.seconds() > 0.0).then_some(sound)
        });
        assert_eq!(sound.channels.len(), 2, "caller and assistant");
        sound
    }

    /// The same configuration again, on the same ports and data.
    pub(crate) fn same_again(&self) -> Setup {
        Setup {
            name: self.name,
            file: self.file.clone(),
            data: Some(self.data.clone()),
            settings: self.settings.clone(),
        }
    }

    /// `offhook serve` beside this server, with another setting or two; must end by itself.
    pub(crate) fn serve_beside(
        &self,
        settings: &[(&str, String)],
        data: &Path,
    ) -> process::Finished {
        let mut command = offhook();
        command
            .arg("serve")
            .arg("--data")
            .arg(data)
            .current_dir(self.folder.path());
        let mut all = self.settings.clone();
        all.extend(
            settings
                .iter()
                .map(|(key, value)| ((*key).to_owned(), value.clone())),
        );
        for (key, value) in all {
            command.env(format!("OFFHOOK__{key}"), value);
        }
        run(&mut command, Duration::from_secs(60))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("the last words of the server {:?}:", self.name);
            tail.into_iter()
                .rev()
                .for_each(|line| eprintln!("    {line}"));
        }
        let mut child = self.child();
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// A server that scenarios share, one at a time.
pub(crate) struct Shared {
    setup: fn() -> Setup,
    server: Mutex<Option<Server>>,
}

impl Shared {
    pub(crate) const fn new(setup: fn() -> Setup) -> Self {
        Self {
            setup,
            server: Mutex::new(None),
        }
    }

    /// The server, started if it is not running, for as long as the guard lives.
    pub(crate) fn take(&self) -> Turn<'_> {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        if server.is_none() {
            *server = Some((self.setup)().start_ready());
        }
        Turn(server)
    }
}

/// A scenario's turn with a shared server. A scenario that fails takes the server with it.
pub(crate) struct Turn<'a>(MutexGuard<'a, Option<Server>>);

impl std::ops::Deref for Turn<'_> {
    type Target = Server;

    fn deref(&self) -> &Server {
        self.0.as_ref().expect("started when taken")
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.take();
        }
    }
}
