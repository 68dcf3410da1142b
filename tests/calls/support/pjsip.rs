//! PJSIP as a caller, through `peers/pjsip_caller.py`.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::process::run_well;
use super::server::Server;
use super::{media_ports, sources, udp_port};

/// A Python that can `import pjsua2`, and nothing else of Offhook's.
pub(crate) fn python() -> OsString {
    std::env::var_os("OFFHOOK_PJSIP_PYTHON").unwrap_or_else(|| "python3".into())
}

/// What the caller does.
pub(crate) struct Caller<'a> {
    pub(crate) codec: &'a str,
    /// Played from the answer on.
    pub(crate) play: &'a Path,
    pub(crate) record: &'a Path,
    /// Keys, pressed once the WAV file was played for this many seconds.
    pub(crate) keys: Option<(&'a str, f64)>,
    /// Hangs up after this many seconds, if it must not wait for the server to do so.
    pub(crate) hang_up: Option<f64>,
    /// User name and password, for when it is asked.
    pub(crate) credentials: Option<(&'a str, &'a str)>,
    /// Calls nobody without reliable provisional responses and session timers (of 90 s).
    pub(crate) extensions_required: bool,
}

/// What PJSIP saw.
pub(crate) struct Seen {
    pub(crate) answered: bool,
    /// The last SIP status: of a call that was not answered, why not.
    pub(crate) status: f64,
    pub(crate) codec: String,
    /// Who hung up: `local` or `remote`.
    pub(crate) ended_by: String,
    pub(crate) seconds: f64,
    pub(crate) packets_received: f64,
    pub(crate) packets_lost: f64,
}

impl Caller<'_> {
    pub(crate) fn dial(&self, server: &Server, user: &str) -> Seen {
        self.dial_uri(&server.uri(user), &[])
    }

    /// Calls a URI, with more of the script's options.
    pub(crate) fn dial_uri(&self, uri: &str, options: &[&str]) -> Seen {
        let mut command = Command::new(python());
        command
            .arg(sources().join("peers/pjsip_caller.py"))
            .arg(uri)
            .args(options);
        command.args([
            "--port",
            &udp_port().to_string(),
            "--rtp-port",
            &media_ports().to_string(),
        ]);
        command.args(["--codec", self.codec]);
        command
            .arg("--play")
            .arg(self.play)
            .arg("--record")
            .arg(self.record);
        if let Some((keys, after)) = self.keys {
            command.args(["--keys", keys, "--keys-after", &after.to_string()]);
        }
        if let Some(after) = self.hang_up {
            command.args(["--hang-up-after", &after.to_string()]);
        }
        if let Some((user, password)) = self.credentials {
            command.args(["--user", user, "--password", password]);
        }
        if self.extensions_required {
            command.arg("--require-extensions");
        }
        let finished = run_well(&mut command, Duration::from_secs(90));
        let last = finished.stdout.lines().last().unwrap_or_default();
        let seen: Value = serde_json::from_str(last)
            .unwrap_or_else(|error| panic!("{error}: {}", finished.output()));
        let number = |key: &str| {
            seen[key]
                .as_f64()
                .unwrap_or_else(|| panic!("no {key}: {seen}"))
        };
        Seen {
            answered: seen["answered"] == true,
            status: number("status"),
            codec: seen["codec"].as_str().unwrap_or_default().to_owned(),
            ended_by: seen["ended_by"].as_str().unwrap_or_default().to_owned(),
            seconds: number("seconds"),
            packets_received: number("packets_received"),
            packets_lost: number("packets_lost"),
        }
    }
}
