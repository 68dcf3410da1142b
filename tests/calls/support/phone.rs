//! A PJSIP telephone that calls or is called, holds, transfers and hangs up:
//! `peers/pjsip_phone.py`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::pjsip::python;
use super::process::Running;
use super::sound::Sound;
use super::{Folder, media_ports, sources, udp_port};

/// Longer than any scenario's call.
const LONGEST: Duration = Duration::from_secs(100);

/// A telephone to be.
pub(crate) struct Phone {
    command: Command,
    folder: Folder,
    port: u16,
}

impl Phone {
    pub(crate) fn new(name: &str) -> Self {
        let mut command = Command::new(python());
        let port = udp_port();
        let folder = Folder::new(name);
        command
            .arg(sources().join("peers/pjsip_phone.py"))
            .args(["--name", name, "--port", &port.to_string()])
            .args(["--rtp-port", &media_ports().to_string()])
            .arg("--record")
            .arg(folder.path().join("heard.wav"));
        Self {
            command,
            folder,
            port,
        }
    }

    /// More of the script's options.
    pub(crate) fn options(mut self, options: &[&str]) -> Self {
        self.command.args(options);
        self
    }

    /// Plays a file over and over from the answer on.
    pub(crate) fn plays(mut self, file: &Path) -> Self {
        self.command.arg("--play").arg(file);
        self
    }

    /// `sip:name@127.0.0.1:port`.
    pub(crate) fn uri(&self, name: &str) -> String {
        format!("sip:{name}@{}", self.address())
    }

    /// `127.0.0.1:port`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A path in the telephone's own folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Waits to be called.
    pub(crate) fn listen(mut self) -> Busy {
        Busy {
            running: Running::start(&mut self.command),
            folder: self.folder,
        }
    }

    /// Calls somebody.
    pub(crate) fn dial(self, uri: &str) -> Busy {
        self.options(&["--call", uri]).listen()
    }
}

/// A telephone in use.
pub(crate) struct Busy {
    running: Running,
    folder: Folder,
}

impl Busy {
    /// Waits until all its calls are over.
    pub(crate) fn finish(self) -> Seen {
        let finished = self.running.finish(LONGEST);
        assert!(finished.status.success(), "{}", finished.output());
        let events = finished.stdout.lines();
        let events = events.filter_map(|line| serde_json::from_str(line).ok());
        Seen {
            events: events.collect(),
            folder: self.folder,
        }
    }
}

/// What a telephone saw.
pub(crate) struct Seen {
    pub(crate) events: Vec<Value>,
    folder: Folder,
}

impl Seen {
    /// Everything of a kind.
    pub(crate) fn all(&self, event: &str) -> Vec<&Value> {
        let events = self.events.iter();
        events.filter(|seen| seen["event"] == event).collect()
    }

    /// The first of a kind.
    pub(crate) fn first(&self, event: &str) -> &Value {
        let all = self.all(event);
        all.first()
            .copied()
            .unwrap_or_else(|| panic!("no {event}: {:#?}", self.events))
    }

    /// What was heard in its first call.
    pub(crate) fn heard(&self) -> Sound {
        Sound::read(&self.folder.path().join("heard.wav"))
    }

    /// What was heard in another one.
    pub(crate) fn heard_in(&self, call: u32) -> Sound {
        Sound::read(&self.folder.path().join(format!("heard.wav.{call}.wav")))
    }
}
