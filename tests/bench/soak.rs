//! Long calls whose sessions are refreshed all the time, one by its caller and one by the server:
//! whether either is dropped. The callers are SIPp's, which send silence.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use toml::Table as Toml;

use crate::Result;
use crate::load::Watch;
use crate::memory::resident_megabytes;
use crate::options::Options;
use crate::report::{Report, Table};
use crate::server::{Server, Setup};

/// An assistant who waits for ever.
const ASSISTANT: &str = r#"
firstMessage = "Hello."
silenceTimeoutSeconds = 3600
maxDurationSeconds = 43200
messagePlan = { idleMessages = [] }
[model]
systemPrompt = "You are a receptionist."
"#;

/// Who refreshes, and the scenario in which they do.
const CALLS: [(&str, &str); 2] = [
    ("the caller", include_str!("soak/by_caller.xml")),
    ("the server", include_str!("soak/by_server.xml")),
];

/// Half of the sessions' interval of 90 s: between two refreshes.
const REFRESH: Duration = Duration::from_secs(45);
/// Beside the refreshes: setting up, hanging up, being late.
const MARGIN: Duration = Duration::from_secs(120);

pub(crate) fn run(options: &Options) -> Result<Report> {
    let minutes: u64 = options.number("minutes", 30)?;
    let rounds = (minutes * 60).div_ceil(REFRESH.as_secs());
    let server = Setup::new(options)?
        .assistant("patient", ASSISTANT.parse::<Toml>()?)
        .set("recording__enabled", &false)
        .start()?;
    let before = resident_megabytes(server.pid())?;
    let watch = Watch::start();
    let mut callers = Vec::new();
    for (refresher, scenario) in CALLS {
        callers.push((refresher, Caller::dial(&server, scenario, rounds)?));
    }
    let mut table = Table::new(
        format!("Calls of {minutes} minutes with a session interval of 90 s"),
        &[
            "refreshed by",
            "minutes",
            "refreshes",
            "ended",
            "by",
            "SIPp",
        ],
    );
    let mut details = Vec::new();
    let until = Instant::now() + REFRESH * u32::try_from(rounds)? + MARGIN;
    for (refresher, mut caller) in callers {
        let content = caller.wait(until)?;
        let call = call_of(&server, &caller.port)?;
        let messages = server.show(text(&call, "id"), &["--sip"])?;
        let updates = messages.as_array().map_or(0, |messages| {
            let requests = messages.iter().filter(|message| {
                let text = message["message"].as_str().unwrap_or_default();
                text.starts_with("UPDATE ")
            });
            requests.count()
        });
        let moment = |key| OffsetDateTime::parse(text(&call, key), &Rfc3339);
        let lasted = moment("endedAt")? - moment("startedAt")?;
        table.row(vec![
            refresher.to_owned(),
            format!("{:.1}", lasted.as_seconds_f64() / 60.0),
            updates.to_string(),
            text(&call, "endedReason").to_owned(),
            text(&call, "endedBy").to_owned(),
            if content { "content" } else { "not content" }.to_owned(),
        ]);
        details.push(json!({ "refreshedBy": refresher, "updates": updates, "call": call }));
    }
    let after = resident_megabytes(server.pid())?;
    let mut report = Report::new("soak", watch.stop());
    report.table(table);
    report.note(format!(
        "The server had {before:.1} MB in memory before and {after:.1} MB after."
    ));
    report.detail("calls", json!(details));
    report.detail("memoryMB", json!([before, after]));
    Ok(report)
}

fn text<'a>(call: &'a Value, key: &str) -> &'a str {
    call[key].as_str().unwrap_or_default()
}

/// What the server kept of the call from a port.
fn call_of(server: &Server, port: &str) -> Result<Value> {
    for id in server.calls()? {
        let call = server.show(&id, &[])?;
        if text(&call, "from").contains(port) {
            return Ok(call);
        }
    }
    Err(format!("the server kept no call from port {port}").into())
}

/// A call of SIPp's.
struct Caller {
    child: Child,
    port: String,
    folder: std::path::PathBuf,
}

impl Caller {
    fn dial(server: &Server, scenario: &str, rounds: u64) -> Result<Self> {
        let port = free_port()?;
        let folder = std::env::temp_dir().join(format!("offhook-soak-{port}"));
        fs::create_dir_all(&folder)?;
        let sound = folder.join("silence.ulaw");
        fs::write(&sound, [0xff; 8_000])?;
        let file = folder.join("scenario.xml");
        let scenario = scenario
            .replace("{{SOUND}}", path(&sound)?)
            .replace("{{ROUNDS}}", &rounds.to_string());
        fs::write(&file, scenario)?;
        let media = free_port()?;
        let child = Command::new("sipp")
            .current_dir(&folder)
            .env("TERM", "dumb")
            .args(["-sf", path(&file)?, "-m", "1", "-nostdin", "-trace_err"])
            .args(["-i", "127.0.0.1", "-p", &port])
            .args(["-mi", "127.0.0.1", "-mp", &media])
            .args(["-s", "patient", &server.sip()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("sipp (Debian: sip-tester): {error}"))?;
        Ok(Self {
            child,
            port,
            folder,
        })
    }

    /// Waits for its end; whether everything went as its scenario has it.
    fn wait(&mut self, until: Instant) -> Result<bool> {
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.success());
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        Ok(false)
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| "a path that is no text".into())
}

fn free_port() -> Result<String> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    Ok(socket.local_addr()?.port().to_string())
}
