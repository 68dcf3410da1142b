//! The caller's own REFER: the assistant goes to somebody else, where the configuration permits
//! it. Nobody is called on a stranger's word.

use std::time::{Duration, Instant};

use super::driver::Driver;
use super::outbound::{Authority, Dialling, Failure, Step, Target};
use super::passing::Passing;
use super::session::Party;
use crate::conversation::{Control, Input};
use crate::net::sip::LegCommand;
use crate::numbers::{Number, Pattern, permit};
use crate::record::{CallStatus, EndedReason};
use crate::sip::endpoint::ReferRequested;
use crate::sip::uri::Uri;

/// How long the caller who sent us on may take to hang up.
const FAREWELL: Duration = Duration::from_secs(2);

impl Driver {
    /// The caller wants the assistant to talk to somebody else.
    pub(super) fn refer_requested(&mut self, request: ReferRequested) {
        let target = self.permitted(&request.refer_to.uri);
        let free = self.passing.is_idle() && !self.holds.ours;
        let Some(target) = target.filter(|_| free) else {
            tracing::info!(call = %self.call.record.id, "the caller's REFER is not permitted: 603");
            return self.call.party.session.send(LegCommand::RejectRefer(603));
        };
        self.call.party.session.send(LegCommand::AcceptRefer);
        self.handle(Input::Control(Control::Hold));
        self.obey();
        self.hold_for_transfer();
        let services = &self.call.services;
        let dialling = Dialling::start(services, target, request.replaces, None);
        self.passing = Passing::Following(dialling);
    }

    /// Where `sip.refer_targets` permits to go.
    fn permitted(&self, uri: &Uri) -> Option<Target> {
        let targets = &self.call.services.limits.refer_targets;
        let bare = bare(uri)?;
        let covers = |pattern: &String| match pattern.strip_suffix('*') {
            Some(beginning) => bare.starts_with(beginning),
            None => bare == *pattern,
        };
        let addresses = targets.iter().filter(|pattern| pattern.starts_with("sip:"));
        if addresses.into_iter().any(covers) {
            return Some(Target::Address(bare.parse().ok()?));
        }
        let numbers: Vec<Pattern> = targets.iter().filter_map(|it| it.parse().ok()).collect();
        let number: Number = uri.user()?.parse().ok()?;
        permit(&number, &numbers).ok()?;
        let routes = (self.call.services.routes)();
        let found = routes.find(number.as_str(), None, Authority::Configuration);
        found.ok()
    }

    /// How the call goes that the caller asked for.
    pub(super) fn followed(&mut self, dialling: Dialling, step: Step) {
        match step {
            Step::Answered(party) => {
                self.call.party.session.send(LegCommand::NotifyRefer(200));
                self.go_to(*party);
            }
            Step::Failed(failure) => {
                let status = status(failure);
                self.call
                    .party
                    .session
                    .send(LegCommand::NotifyRefer(status));
                self.stay();
            }
            Step::Ringing(status) => {
                self.call
                    .party
                    .session
                    .send(LegCommand::NotifyRefer(status));
                self.passing = Passing::Following(dialling);
            }
            Step::Sent { call_id, .. } => {
                self.passing = Passing::Following(dialling);
                self.leads(call_id);
            }
        }
    }

    /// The assistant talks to somebody else from now on, who is greeted.
    fn go_to(&mut self, party: Party) {
        let old = std::mem::replace(&mut self.call.party, party);
        tokio::spawn(say_farewell(old));
        self.restart_ticks();
        self.show_legs();
        self.stay();
        if let Some(text) = self.call.settings.first_message.clone() {
            self.handle(Input::Control(Control::Say {
                text,
                end_call_after_spoken: false,
            }));
        }
    }

    /// The conversation goes on.
    fn stay(&mut self) {
        self.passing = Passing::Idle;
        self.call.party.session.stream.music(None);
        self.holds.transfer = false;
        self.last_arrival = Instant::now();
        self.call
            .line
            .show(|call| call.status = CallStatus::InProgress);
        self.renegotiated();
        if !self.holds.any() {
            self.handle(Input::Control(Control::Resume));
        }
    }
}

/// Waits shortly until the leg is hung up from the other side, which is the custom.
async fn say_farewell(old: Party) {
    let Party {
        session,
        mut events,
        ticks,
        ..
    } = old;
    drop(ticks);
    let end = async { while events.recv().await.is_some() {} };
    if tokio::time::timeout(FAREWELL, end).await.is_err() {
        session.hang_up();
    }
}

/// `sip:user@host:port`, without parameters.
fn bare(uri: &Uri) -> Option<String> {
    let sip = uri.as_sip()?;
    let user = sip
        .user()
        .map(|user| format!("{user}@"))
        .unwrap_or_default();
    let port = sip.port.map(|port| format!(":{port}")).unwrap_or_default();
    Some(format!("sip:{user}{}{port}", sip.host))
}

fn status(failure: Failure) -> u16 {
    match failure.reason {
        EndedReason::CustomerBusy => 486,
        EndedReason::CustomerDidNotAnswer => 480,
        EndedReason::SipOutboundNumberInvalid => 404,
        EndedReason::CallRejected => 603,
        _ => 503,
    }
}
