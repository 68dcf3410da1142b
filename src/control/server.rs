//! The server's end of the control socket.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::{
    Answer, Ask, LONGEST_LINE, LONGEST_TEXT, Refusal, Request, Response, VERSION, socket_path,
};
use crate::call::{
    CallCommand, CommandRefusal, DialRefusal, DialRequest, Dialler, Lookup, Placed, Registry,
    Reply, Talker,
};
use crate::ids::CallId;
use crate::observe::TrunkBoard;
use crate::record::{CallStatus, EndedBy, EndedReason};

/// Clients at once; the next one waits.
const CLIENTS: usize = 16;

/// A client that says nothing for this long is dropped.
const PATIENCE: Duration = Duration::from_secs(30);

/// A call that says nothing to a command for this long is stuck.
const CALL_PATIENCE: Duration = Duration::from_secs(10);

/// The socket cannot be made: the operator's to mend.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the control socket {}: {source}", path.display())]
pub struct ControlError {
    /// Where.
    pub path: PathBuf,
    /// Why not.
    pub source: io::Error,
}

/// What the operator can reach.
#[derive(Clone)]
pub struct Desk {
    /// Begins calls.
    pub dialler: Dialler,
    /// The live calls.
    pub registry: Registry,
    /// Where the trunks stand.
    pub trunks: TrunkBoard,
    /// Is told of a mailbox that was changed in the database; false where there is no such one.
    pub mailbox_changed: Arc<dyn Fn(&str) -> bool + Send + Sync>,
}

/// The socket, and its file for as long as this lives.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Makes the socket of a data folder, in place of one that a server left behind when it was
    /// killed. The caller holds the folder's lock, so that nobody listens there.
    ///
    /// # Errors
    /// Where something else is in the way, or the folder cannot be written to.
    pub fn bind(data: &Path) -> Result<Self, ControlError> {
        let path = socket_path(data);
        match bind(data, &path) {
            Ok(listener) => Ok(Self { listener, path }),
            Err(source) => Err(ControlError { path, source }),
        }
    }

    /// Serves until it is dropped.
    pub async fn serve(self, desk: Desk) {
        let places = Arc::new(Semaphore::new(CLIENTS));
        loop {
            // The semaphore is never closed.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let desk = desk.clone();
                    tokio::spawn(async move {
                        if let Err(error) = attend(stream, &desk).await {
                            tracing::debug!(%error, "a control client went away");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    // Out of file descriptors, most likely: calls need them more.
                    tracing::warn!(%error, "a control client was not taken");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Binds in a folder that nobody else can enter and moves the socket into place when its mode is
/// right, so that it is never open to others.
fn bind(data: &Path, path: &Path) -> io::Result<UnixListener> {
    if let Ok(there) = fs::symlink_metadata(path)
        && !there.file_type().is_socket()
    {
        return Err(io::Error::other("something that is no socket is there"));
    }
    let private = data.join(".ctl");
    let _ = fs::remove_dir_all(&private);
    fs::create_dir(&private)?;
    fs::set_permissions(&private, Permissions::from_mode(0o700))?;
    let inside = private.join("s");
    let bound = UnixListener::bind(&inside).and_then(|listener| {
        fs::set_permissions(&inside, Permissions::from_mode(0o600))?;
        fs::rename(&inside, path)?;
        Ok(listener)
    });
    fs::remove_dir_all(&private)?;
    bound
}

/// Answers one client's lines until it hangs up.
async fn attend(stream: UnixStream, desk: &Desk) -> io::Result<()> {
    let client = stream.peer_cred()?.uid();
    let own = rustix::process::geteuid().as_raw();
    if client != own && client != 0 {
        tracing::warn!(client, "another user's control client is turned away");
        return Ok(());
    }
    let (reading, mut writing) = stream.into_split();
    let mut reading = BufReader::new(reading);
    while let Some(line) = read_line(&mut reading).await? {
        let answer = match understand(&line) {
            Ok(ask) => desk.answer(ask).await,
            Err(message) => refused(Refusal::BadRequest, message),
        };
        write_line(&mut writing, answer).await?;
    }
    Ok(())
}

/// The next line; `None` where the client is gone, says nothing, or says too much.
async fn read_line(reading: &mut BufReader<OwnedReadHalf>) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let mut bounded = reading.take(LONGEST_LINE);
    match tokio::time::timeout(PATIENCE, bounded.read_until(b'\n', &mut line)).await {
        Ok(read) => {
            read?;
            Ok(line.ends_with(b"\n").then_some(line))
        }
        Err(_) => Ok(None),
    }
}

async fn write_line(writing: &mut OwnedWriteHalf, answer: Answer) -> io::Result<()> {
    let response = Response {
        version: VERSION,
        answer,
    };
    let mut line = serde_json::to_vec(&response)?;
    line.push(b'\n');
    writing.write_all(&line).await
}

fn understand(line: &[u8]) -> Result<Ask, String> {
    let request: Request = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    match request.version {
        VERSION => Ok(request.ask),
        other => Err(format!(
            "version {other} is not spoken here, but {VERSION} is"
        )),
    }
}

fn refused(refusal: Refusal, message: impl Into<String>) -> Answer {
    Answer::Refused {
        refusal,
        message: message.into(),
    }
}

impl Desk {
    async fn answer(&self, ask: Ask) -> Answer {
        match ask {
            Ask::Calls => Answer::Calls(self.registry.snapshots()),
            Ask::Trunks => Answer::Trunks(self.trunks.snapshot()),
            Ask::Hold { id } => self.tell(&id, CallCommand::Hold).await,
            Ask::Resume { id } => self.tell(&id, CallCommand::Resume).await,
            Ask::PauseRecording { id } => self.pause_recording(&id, true).await,
            Ask::ResumeRecording { id } => self.pause_recording(&id, false).await,
            Ask::Hangup { id } => self.hang_up(&id),
            Ask::Say { id, text } => self.say(&id, text).await,
            Ask::Transfer {
                id,
                target,
                trunk,
                manner,
                briefing,
            } => {
                let transfer = |reply| CallCommand::Transfer {
                    target,
                    trunk,
                    manner,
                    briefing,
                    reply,
                };
                self.tell(&id, transfer).await
            }
            Ask::LeaveMessage { id, mailbox } => {
                let leave = |reply| CallCommand::LeaveMessage { mailbox, reply };
                self.tell(&id, leave).await
            }
            Ask::MailboxChanged { mailbox } => match (self.mailbox_changed)(&mailbox) {
                true => Answer::Noted,
                false => refused(
                    Refusal::NotAllowed,
                    format!("there is no mailbox {mailbox}"),
                ),
            },
            Ask::Dial {
                assistant,
                number,
                trunk,
                wait,
            } => {
                let request = DialRequest {
                    talker: Talker::Named(assistant),
                    number,
                    trunk,
                    caller_id: None,
                    phone_number_id: None,
                    customer_name: None,
                    id: None,
                    document: None,
                };
                self.dial(request, wait).await
            }
        }
    }

    fn find(&self, prefix: &str) -> Result<CallId, Answer> {
        self.registry.find(prefix).map_err(|lookup| match lookup {
            Lookup::None => refused(
                Refusal::UnknownCall,
                format!("there is no live call {prefix}"),
            ),
            Lookup::Many => refused(
                Refusal::AmbiguousCall,
                format!("more than one live call's id begins with {prefix}"),
            ),
        })
    }

    async fn tell(&self, prefix: &str, command: impl FnOnce(Reply) -> CallCommand) -> Answer {
        let id = match self.find(prefix) {
            Ok(id) => id,
            Err(answer) => return answer,
        };
        let told = tokio::time::timeout(CALL_PATIENCE, self.registry.ask(id, command)).await;
        match told {
            Ok(Ok(())) => Answer::Done { id },
            Ok(Err(CommandRefusal::Gone)) => {
                refused(Refusal::UnknownCall, format!("call {id} is over"))
            }
            Ok(Err(CommandRefusal::NotNow(why))) => refused(Refusal::NotNow, why),
            Ok(Err(CommandRefusal::Wrong(why))) => refused(Refusal::NotAllowed, why),
            Err(_) => refused(Refusal::NotNow, "the call is not answered yet"),
        }
    }

    async fn dial(&self, request: DialRequest, wait: bool) -> Answer {
        let Placed { id, mut seen } = match (self.dialler)(request).await {
            Ok(placed) => placed,
            Err(refusal) => {
                let kind = match refusal {
                    DialRefusal::Busy
                    | DialRefusal::TrunkBusy
                    | DialRefusal::AssistantBusy
                    | DialRefusal::Unavailable(_) => Refusal::NotNow,
                    DialRefusal::UnknownAssistant(_) | DialRefusal::NoRoute(_) => {
                        Refusal::NotAllowed
                    }
                };
                return refused(kind, refusal.to_string());
            }
        };
        if !wait {
            return Answer::Done { id };
        }
        let mut answered = false;
        while seen.changed().await.is_ok() {
            answered |= seen.borrow_and_update().status == CallStatus::InProgress;
        }
        let ended_reason = seen.borrow().ended_reason;
        Answer::Over {
            id,
            answered,
            ended_reason,
        }
    }

    fn hang_up(&self, prefix: &str) -> Answer {
        let id = match self.find(prefix) {
            Ok(id) => id,
            Err(answer) => return answer,
        };
        let end = CallCommand::End {
            reason: EndedReason::ManuallyCanceled,
            by: EndedBy::Operator,
        };
        match self.registry.send(id, end) {
            true => Answer::Done { id },
            false => refused(Refusal::UnknownCall, format!("call {id} is over")),
        }
    }

    async fn pause_recording(&self, prefix: &str, pause: bool) -> Answer {
        let command = |reply| CallCommand::PauseRecording { pause, reply };
        self.tell(prefix, command).await
    }

    async fn say(&self, prefix: &str, text: String) -> Answer {
        let text = text.trim().to_owned();
        if text.is_empty() || text.chars().count() > LONGEST_TEXT {
            return refused(
                Refusal::BadRequest,
                format!("a text to say has from 1 to {LONGEST_TEXT} characters"),
            );
        }
        let say = |reply| CallCommand::Say {
            text,
            then_end: false,
            reply,
        };
        self.tell(prefix, say).await
    }
}

#[cfg(test)]
mod tests;
