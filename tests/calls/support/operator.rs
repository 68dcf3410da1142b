//! The operator at the command line: `offhook calls live` and what goes with it.

use std::time::Duration;

use serde_json::Value;

use super::process::{Finished, run, run_well};
use super::server::{Server, offhook};
use super::until;

/// A command answers at once; a busy machine takes its time.
const PATIENCE: Duration = Duration::from_secs(30);

impl Server {
    /// `offhook ARGUMENTS --data ...`.
    pub(crate) fn command(&self, arguments: &[&str]) -> Finished {
        let mut command = offhook();
        command.args(arguments).arg("--data").arg(&self.data);
        run(&mut command, PATIENCE)
    }

    /// The same, which must work; the JSON that it prints.
    pub(crate) fn told(&self, arguments: &[&str]) -> Value {
        let mut command = offhook();
        command.args(arguments).arg("--json");
        command.arg("--data").arg(&self.data);
        if let Some(url) = self.store_url() {
            command.env("OFFHOOK__store__url", url);
        }
        let finished = run_well(&mut command, PATIENCE);
        serde_json::from_str(&finished.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", finished.output()))
    }

    /// The live calls.
    pub(crate) fn live(&self) -> Vec<Value> {
        let calls = self.told(&["calls", "live"]);
        calls.as_array().expect("a list").clone()
    }

    /// Waits until exactly one live call is as it should be; its id.
    pub(crate) fn live_call(&self, what: &str, is: impl Fn(&Value) -> bool) -> String {
        until(what, Duration::from_secs(60), || match &self.live()[..] {
            [call] if is(call) => Some(call["id"].as_str().expect("an id").to_owned()),
            _ => None,
        })
    }

    /// Waits for a call that was answered; its id.
    pub(crate) fn answered_call(&self) -> String {
        self.live_call("a call that is answered", |call| {
            call["status"] == "in-progress"
        })
    }

    /// Waits until the assistant has said so many things, and for a moment of quiet.
    pub(crate) fn wait_for_words(&self, id: &str, messages: usize) {
        until("the assistant's words", Duration::from_secs(60), || {
            (self.call(id).said_by("bot").len() >= messages).then_some(())
        });
    }
}
