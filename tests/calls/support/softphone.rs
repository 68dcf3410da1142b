//! `offhook call`: the caller that the product brings.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::process::Running;
use super::server::{Server, offhook};

/// Longer than any scenario's call.
const LONGEST: Duration = Duration::from_secs(180);

/// A test call in progress.
pub(crate) struct Softphone(Running);

impl Softphone {
    pub(crate) fn dial(server: &Server, user: &str, lines: &[PathBuf], options: &[&str]) -> Self {
        Self::dial_uri(server, &server.uri(user), lines, options)
    }

    /// Calls a URI at which the server can be reached.
    pub(crate) fn dial_uri(
        server: &Server,
        uri: &str,
        lines: &[PathBuf],
        options: &[&str],
    ) -> Self {
        let mut command = offhook();
        command.arg("call").arg(uri).arg("--json");
        command.arg("--phrases").arg(server.data.join("phrases"));
        for line in lines {
            command.arg("--play").arg(line);
        }
        command.args(options);
        Self::start(&mut command)
    }

    fn start(command: &mut Command) -> Self {
        Self(Running::start(command))
    }

    /// Waits for the end of the call; its report.
    pub(crate) fn report(self) -> Report {
        let finished = self.0.finish(LONGEST);
        assert!(
            finished.status.success(),
            "the call failed:\n{}",
            finished.output()
        );
        Report(
            serde_json::from_str(&finished.stdout)
                .unwrap_or_else(|error| panic!("{error}: {}", finished.output())),
        )
    }

    /// Waits for the end of a call that must not be answered; what it says.
    pub(crate) fn refusal(self) -> String {
        let finished = self.0.finish(LONGEST);
        assert_eq!(finished.status.code(), Some(1), "{}", finished.output());
        finished.stderr
    }
}

/// Makes a call that must be answered.
pub(crate) fn call(server: &Server, user: &str, lines: &[PathBuf], options: &[&str]) -> Report {
    Softphone::dial(server, user, lines, options).report()
}

/// Makes a call that must be refused; what the caller is told.
pub(crate) fn refused(server: &Server, user: &str) -> String {
    Softphone::dial(server, user, &[], &[]).refusal()
}

/// What `offhook call --json` prints. Times are ms from the answer.
#[derive(Clone, Debug)]
pub(crate) struct Report(pub(crate) Value);

impl Report {
    pub(crate) fn lines(&self) -> &[Value] {
        self.0["lines"].as_array().expect("lines")
    }

    pub(crate) fn heard_greeting(&self) -> bool {
        self.0["greetingMs"].is_u64()
    }

    /// The lines to which no reply was heard.
    pub(crate) fn unanswered(&self) -> Vec<&Value> {
        self.lines()
            .iter()
            .filter(|line| !line["replyMs"].is_u64())
            .collect()
    }
}

/// As an argument.
pub(crate) fn argument(path: &Path) -> &str {
    path.to_str().expect("a path in ASCII")
}
