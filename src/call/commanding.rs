//! What others have a live call do.

use super::command::CallCommand;
use super::driver::Driver;
use super::transfer::Wish;
use crate::conversation::{Control, Input};

impl Driver {
    /// Does it, or says why not.
    pub(super) fn command(&mut self, command: CallCommand) {
        match command {
            CallCommand::End { reason, by } => self.handle(Input::Control(Control::End {
                reason,
                by,
                say_goodbye: false,
            })),
            CallCommand::Hold(reply) => {
                // Whoever asked may have gone.
                let _ = reply.send(self.hold());
            }
            CallCommand::Resume(reply) => {
                let _ = reply.send(self.resume());
            }
            CallCommand::PauseRecording { pause, reply } => {
                let _ = reply.send(self.pause_recording(pause));
            }
            CallCommand::Say {
                text,
                then_end,
                reply,
            } => {
                let _ = reply.send(self.say(text, then_end));
            }
            CallCommand::AddMessage {
                role,
                content,
                respond,
                reply,
            } => {
                let _ = reply.send(self.add_message(role, content, respond));
            }
            CallCommand::Mute { mute, reply } => {
                let _ = reply.send(self.mute(mute));
            }
            CallCommand::LeaveMessage { mailbox, reply } => {
                let _ = reply.send(self.leave_message(mailbox.as_deref()));
            }
            CallCommand::TakeOver { take_over, reply } => {
                let _ = reply.send(self.taken_over(*take_over));
            }
            CallCommand::Transfer {
                target,
                trunk,
                manner,
                briefing,
                reply,
            } => {
                let wish = Wish {
                    target,
                    trunk,
                    manner,
                    briefing,
                };
                let _ = reply.send(self.transfer(wish));
            }
        }
    }
}
