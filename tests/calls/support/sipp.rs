//! SIPp with the scenarios of `tests/calls/sipp`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::process::{Finished, Running};
use super::server::Server;
use super::{Folder, media_ports, sources, udp_port};

/// Longer than any scenario.
const LONGEST: Duration = Duration::from_secs(120);

/// A SIPp run to be.
pub(crate) struct Sipp {
    folder: Folder,
    scenario: String,
    arguments: Vec<String>,
    port: u16,
}

impl Sipp {
    /// A scenario by its file name.
    pub(crate) fn new(scenario: &str) -> Self {
        let path = sources().join("sipp").join(format!("{scenario}.xml"));
        let text =
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self {
            folder: Folder::new("sipp"),
            scenario: text,
            arguments: Vec::new(),
            port: udp_port(),
        }
    }

    /// The same where another one listened before it.
    pub(crate) fn at(scenario: &str, address: &str) -> Self {
        let (_, port) = address.rsplit_once(':').expect("address:port");
        Self {
            port: port.parse().expect("a port"),
            ..Self::new(scenario)
        }
    }

    /// Puts a value in place of `{{NAME}}` in the scenario, where SIPp itself takes no variable.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        let place = format!("{{{{{name}}}}}");
        assert!(
            self.scenario.contains(&place),
            "the scenario has no {place}"
        );
        self.scenario = self.scenario.replace(&place, value);
        self
    }

    pub(crate) fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments
            .extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// A file in the folder that SIPp runs in.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `127.0.0.1:port`, where it can be called.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The port of that address.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    fn command(&self) -> Command {
        let scenario = self.file("scenario.xml");
        fs::write(&scenario, &self.scenario).expect("room on the disk");
        let mut command = Command::new("sipp");
        command.current_dir(self.folder.path()).env("TERM", "dumb");
        command
            .arg("-sf")
            .arg(scenario)
            .arg("-nostdin")
            .arg("-trace_err");
        command.args(["-i", "127.0.0.1", "-p", &self.port.to_string()]);
        command.args(["-mi", "127.0.0.1", "-mp", &media_ports().to_string()]);
        command.args([
            "-timeout",
            "100",
            "-timeout_error",
            "-default_behaviors",
            "all,-bye",
        ]);
        command.args(&self.arguments);
        command
    }

    /// Calls a user of a server, once unless the arguments say otherwise.
    pub(crate) fn dial(self, server: &Server, user: &str) -> Dialled {
        let mut command = self.command();
        if !self.arguments.iter().any(|argument| argument == "-m") {
            command.args(["-m", "1"]);
        }
        command.args(["-s", user, &server.sip]);
        Dialled {
            running: Running::start(&mut command),
            folder: self.folder,
        }
    }

    /// Waits to be called, once unless the arguments say otherwise.
    pub(crate) fn listen(self) -> Dialled {
        let mut command = self.command();
        if !self.arguments.iter().any(|argument| argument == "-m") {
            command.args(["-m", "1"]);
        }
        Dialled {
            running: Running::start(&mut command),
            folder: self.folder,
        }
    }
}

/// A SIPp run in progress.
pub(crate) struct Dialled {
    running: Running,
    folder: Folder,
}

impl Dialled {
    /// What the scenario has logged so far (with `-trace_logs`).
    pub(crate) fn logged(&self) -> String {
        read_all(&self.folder, "logs.log")
    }

    /// Waits for the end: every message came as the scenario has it.
    pub(crate) fn must_go_by_the_scenario(self) {
        let finished = self.running.finish(LONGEST);
        let errors = errors(&self.folder);
        assert!(finished.status.success(), "{}\n{errors}", screen(&finished));
    }
}

fn screen(finished: &Finished) -> String {
    let output = finished.output();
    let lines: Vec<&str> = output.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

fn errors(folder: &Folder) -> String {
    read_all(folder, "errors.log")
}

/// The files whose names end so.
fn read_all(folder: &Folder, ending: &str) -> String {
    let files = fs::read_dir(folder.path()).expect("the folder").flatten();
    let logs = files.filter(|file| file.file_name().to_string_lossy().ends_with(ending));
    logs.filter_map(|file| fs::read_to_string(file.path()).ok())
        .collect()
}
