//! Calls that take the place of another call's leg (RFC 3891): our peer was passed on to somebody
//! else, who calls us in its stead, or goes on at another telephone.
//!
//! ```text
//!  INVITE, Replaces ──▶ 200 ──▶ ACK ──▶ TakeOver to the leg's call ──▶ BYE on the old leg
//!     │ nobody's leg, or another trunk's: 603   │ that call is over, or cannot now
//!     ▼                                         ▼
//!  refused                                    BYE on the new leg
//! ```

use std::fmt;
use std::time::Instant;

use super::Services;
use super::answering::Proposed;
use super::command::{CallCommand, CommandRefusal};
use super::driver::Driver;
use super::inbound::Refusal;
use super::passing::Passing;
use super::session::Party;
use crate::conversation::{Control, Input};
use crate::net::sip::{Incoming, LegCommand};
use crate::record::EndedReason;
use crate::sip::endpoint::{Hangup, LegId};

/// A leg that takes the place of another one.
pub struct TakeOver {
    pub(super) replaced: LegId,
    pub(super) party: Party,
    pub(super) call_id: String,
}

impl fmt::Debug for TakeOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TakeOver")
            .field("replaced", &self.replaced)
            .field("leg", &self.party.leg)
            .finish_non_exhaustive()
    }
}

/// Answers an INVITE that wants the place of a leg, and gives it to the leg's call.
pub(super) async fn take_over(services: Services, incoming: Incoming, replaced: LegId) {
    let Incoming { call, events } = incoming;
    let (leg, call_id) = (call.leg, call.call_id.clone());
    let trunks = (services.trunks)();
    let trunk = trunks.of(&call);
    let name = trunk.map(|trunk| &trunk.name);
    // Who knows the tags of a call may have it, where it is of the same trunk.
    let owner = services.registry.owner(replaced, name);
    let owner = owner.ok_or_else(|| Refusal::new(603, EndedReason::CallRejected));
    let proposed = owner.and_then(|owner| Ok((owner, Proposed::new(&services, &call, trunk)?)));
    let (owner, proposed) = match proposed {
        Ok(proposed) => proposed,
        Err(refusal) => {
            let Refusal {
                status, headers, ..
            } = refusal;
            tracing::info!(status, "a call is not taken over");
            return services.sip.leg(leg, LegCommand::Reject(status, headers));
        }
    };
    // An error has ended the leg, and the old one goes on.
    let Ok(party) = proposed.accept(&services, leg, events).await else {
        return;
    };
    let take_over = Box::new(TakeOver {
        replaced,
        party,
        call_id,
    });
    let asked = services
        .registry
        .ask(owner, |reply| CallCommand::TakeOver { take_over, reply });
    if let Err(why) = asked.await {
        tracing::info!(%why, "a call is not taken over");
        services.sip.leg(leg, LegCommand::Hangup(Hangup::default()));
    }
}

impl Driver {
    /// Somebody takes the place of one side.
    pub(super) fn taken_over(&mut self, take_over: TakeOver) -> Result<(), CommandRefusal> {
        let callers = take_over.replaced == self.call.party.leg;
        match &mut self.passing {
            Passing::Joined(party) if party.leg == take_over.replaced => {
                // The old stream goes before the new one is joined.
                std::mem::replace(&mut **party, take_over.party)
                    .session
                    .hang_up();
                self.call.party.session.stream.join(&party.session.stream);
                self.last_beyond = Instant::now();
            }
            Passing::Referring(_) | Passing::Replacing(_) | Passing::Following(_) => {
                return Err(CommandRefusal::NotNow("the call is being passed on"));
            }
            _ if callers => self.replace_caller(take_over.party),
            _ => return Err(CommandRefusal::NotNow("that side is gone")),
        }
        tracing::info!(call = %self.call.record.id, "a leg was taken over");
        self.tell("Somebody else took over the call.");
        self.show_legs();
        self.leads(take_over.call_id);
        Ok(())
    }

    /// The conversation goes on with the new party where it stood.
    fn replace_caller(&mut self, party: Party) {
        self.handle(Input::Control(Control::Hold));
        self.obey();
        let old = std::mem::replace(&mut self.call.party, party);
        old.session.hang_up();
        drop(old);
        self.tones = self.call.party.tones();
        self.call.party.note(&mut self.call.record);
        self.forwarded = None;
        self.last_arrival = Instant::now();
        self.restart_ticks();
        let party = &mut self.call.party;
        self.holds.theirs = party.session.peer_holds();
        if let Passing::Joined(other) = &self.passing {
            party.session.stream.join(&other.session.stream);
        } else if self.holds.ours || self.holds.transfer {
            let music = self.call.services.limits.hold_music.clone();
            party.session.stream.music(Some(music));
        }
        if self.holds.ours {
            party.session.set_hold(true);
        }
        let held = self.holds.any();
        let silent = self.holds.silent();
        self.call.line.show(|call| call.on_hold = silent);
        if !held {
            self.handle(Input::Control(Control::Resume));
        }
    }

    /// Says which legs may be taken over.
    pub(super) fn show_legs(&self) {
        let own = &self.call.party;
        let mut legs = vec![(own.leg, own.trunk.clone())];
        if let Passing::Joined(party) = &self.passing {
            legs.push((party.leg, party.trunk.clone()));
        }
        self.call.line.leads(legs);
    }
}
