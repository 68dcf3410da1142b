//! Hold from either side: the conversation stands still, the caller hears music if it was us.

use std::time::Instant;

use super::command::CommandRefusal;
use super::driver::Driver;
use super::live::LiveEvent;
use crate::conversation::{ChatRole, Control, Input, PhraseKind};
use crate::net::media::ClipKey;

/// Names the announcement before the music, whose progress nobody follows.
const ANNOUNCEMENT: ClipKey = ClipKey(u64::MAX);

/// Over this an announcement is cut off, in ms.
const FADE_MS: u32 = 30;

/// Who holds whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Holds {
    /// We hold the caller.
    pub(super) ours: bool,
    /// The caller holds us.
    pub(super) theirs: bool,
    /// The caller is being passed on.
    pub(super) transfer: bool,
    /// The operator has the assistant keep still; the caller is held by nobody.
    pub(super) muted: bool,
}

impl Holds {
    /// The conversation stands still.
    pub(super) fn any(self) -> bool {
        self.ours || self.theirs || self.transfer || self.muted
    }

    /// Nothing needs to come from the caller.
    pub(super) fn silent(self) -> bool {
        self.ours || self.theirs || self.transfer
    }
}

impl Driver {
    /// The operator puts the caller on hold.
    pub(super) fn hold(&mut self) -> Result<(), CommandRefusal> {
        if self.holds.ours {
            return Err(CommandRefusal::NotNow("the caller is on hold already"));
        }
        if !self.passing.is_idle() {
            return Err(CommandRefusal::NotNow("the caller is being passed on"));
        }
        self.change_holds(|holds| holds.ours = true);
        self.call.party.session.set_hold(true);
        let session = &self.call.party.session;
        if let Some(message) = self.call.phrases.get(&PhraseKind::Hold) {
            session.stream.play(ANNOUNCEMENT, message.clone(), 0);
        }
        let music = self.call.services.limits.hold_music.clone();
        session.stream.music(Some(music));
        Ok(())
    }

    /// The operator takes the caller back.
    pub(super) fn resume(&mut self) -> Result<(), CommandRefusal> {
        if !self.holds.ours {
            return Err(CommandRefusal::NotNow("the caller is not on hold"));
        }
        self.call.party.session.stream.music(None);
        self.call.party.session.stream.stop(FADE_MS);
        self.call.party.session.set_hold(false);
        self.change_holds(|holds| holds.ours = false);
        Ok(())
    }

    /// The operator has something to say.
    pub(super) fn say(&mut self, text: String, then_end: bool) -> Result<(), CommandRefusal> {
        if self.holds.muted {
            return Err(CommandRefusal::NotNow("the assistant is muted"));
        }
        if !self.passing.is_idle() {
            return Err(CommandRefusal::NotNow("the caller is being passed on"));
        }
        if self.holds.any() {
            return Err(CommandRefusal::NotNow("the call is on hold"));
        }
        self.handle(Input::Control(Control::Say {
            text,
            end_call_after_spoken: then_end,
        }));
        Ok(())
    }

    /// The operator has something to tell the model.
    pub(super) fn add_message(
        &mut self,
        role: ChatRole,
        content: String,
        respond: bool,
    ) -> Result<(), CommandRefusal> {
        if respond && self.holds.any() {
            return Err(CommandRefusal::NotNow("the assistant is muted or on hold"));
        }
        self.handle(Input::Control(Control::AddMessage {
            role,
            content,
            respond,
        }));
        Ok(())
    }

    /// The operator has the assistant keep still, or not any more.
    pub(super) fn mute(&mut self, mute: bool) -> Result<(), CommandRefusal> {
        if mute != self.holds.muted {
            self.change_holds(|holds| holds.muted = mute);
            self.call.line.tell(LiveEvent::Muted { muted: mute });
        }
        Ok(())
    }

    /// The session was negotiated anew.
    pub(super) fn renegotiated(&mut self) {
        let theirs = self.call.party.session.peer_holds();
        if theirs != self.holds.theirs {
            self.change_holds(|holds| holds.theirs = theirs);
        }
    }

    fn change_holds(&mut self, change: impl FnOnce(&mut Holds)) {
        let before = self.holds;
        change(&mut self.holds);
        let now = self.holds;
        self.last_arrival = Instant::now();
        let control = match (before.any(), now.any()) {
            (false, true) => Control::Hold,
            (true, false) if before.ours => Control::TakeBack,
            (true, false) => Control::Resume,
            (true, true) | (false, false) => return,
        };
        self.handle(Input::Control(control));
        // What it wants silenced is silenced before anything else is played.
        self.obey();
        self.call.line.show(|call| call.on_hold = now.silent());
    }
}
