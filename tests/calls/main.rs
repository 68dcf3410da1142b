//! Calls between real programs: the `offhook` that was built, with its workers and models, and
//! its own caller, PJSIP, baresip, SIPp, kamailio and sipvicious at the other end. `scripts/test` installs and fetches
//! all of that, and says where it is:
//!
//! - `OFFHOOK_BIN_DIR`: the binaries; where not set, the folder above this program's
//! - `OFFHOOK_MODELS`: the models; `data/models` where not set
//! - `OFFHOOK_PJSIP_PYTHON`: a Python with pjsua2; `python3` where not set
//! - `OFFHOOK_BROWSER_MODULES`: a folder with playwright-core and axe-core; `target/browser` where
//!   not set. `OFFHOOK_SCREENSHOTS` keeps the screenshots in a folder, and `OFFHOOK_UI` names one
//!   with pages in place of those that are built in
//!
//! Everything happens on 127.0.0.1 and in temporary folders. Waiting is bounded by generous
//! patience, so that a broken run ends; how fast the product is, is measured elsewhere.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

mod answering_machines;
mod api;
mod api_trunks;
mod commands;
mod control;
mod conversations;
mod credentials;
mod dashboard;
mod dialogs;
mod encryption;
mod failures;
mod files;
mod hold;
mod hosted;
mod ladders;
mod outbound;
mod packaging;
mod replay;
mod scanners;
mod signalling;
mod slow_peers;
mod support;
mod telephones;
mod transfers;
mod transports;
mod trunks;
mod voicemail;
mod webhooks;
mod wideband;

use std::sync::{Mutex, MutexGuard, PoisonError};

use support::server::{Setup, Shared};

/// The server as `offhook serve` starts it with nothing configured but its ports.
static PLAIN: Shared = Shared::new(|| Setup::new("plain"));

/// A server with assistants who say little, so that calls are short.
static OFFICE: Shared = Shared::new(|| {
    Setup::new("office").file(
        r#"
        [assistants.reception]
        firstMessage = "Hello there."
        endCallMessage = "Until next time."
        endCallPhrases = ["thank you very much"]
        [assistants.reception.model]
        systemPrompt = "You are the receptionist of a small shop. Answer with one short sentence."
        maxTokens = 30

        [assistants.talker]
        firstMessage = "Hello, this is the bakery in Station Road. We are open from Tuesday to Saturday, from six in the morning until two. Bread and cakes can be ordered by telephone until noon. What would you like?"
        firstMessageInterruptionsEnabled = true
        [assistants.talker.messagePlan]
        idleMessages = []

        [assistants.brief]
        firstMessage = "Hello there."
        maxDurationSeconds = 10
        "#,
    )
});

/// One conversation at a time: two at once compete for the processor, and this is no load test.
fn in_peace() -> MutexGuard<'static, ()> {
    static PEACE: Mutex<()> = Mutex::new(());
    PEACE.lock().unwrap_or_else(PoisonError::into_inner)
}
