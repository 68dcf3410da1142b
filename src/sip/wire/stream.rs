//! Messages out of a byte stream, however it is cut (RFC 3261 section 18.3, RFC 5626).
//!
//! ```text
//!            CRLF CRLF: Ping
//!             .-----.
//!             v     |    empty line                length bytes
//!  push --> [between messages] --> [head pending body] --> Message / Invalid --> back
//!                   |                      |
//!                   `--- no length, too large, not SIP ---> [closed]: Fatal once, then nothing
//! ```

use super::head::Head;
use super::{MAX_MESSAGE_BYTES, ParseError, ParseErrorKind};
use crate::sip::headers::HeaderName;
use crate::sip::message::Message;

/// What a stream had in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamEvent {
    /// A message.
    Message(Message),
    /// A double CRLF between messages, to be answered with a single one (RFC 5626 section
    /// 3.5.1). Single ones, which answer ours, are swallowed.
    Ping,
    /// A bad message whose end is known: refuse it and go on.
    Invalid(ParseError),
    /// Where the next message begins cannot be known: refuse and close the connection.
    Fatal(ParseError),
}

/// Cuts one connection's bytes into messages. Holds at most one message and what was pushed
/// since the last [`StreamFramer::poll`] that gave `None`.
#[derive(Default)]
pub struct StreamFramer {
    buffer: Vec<u8>,
    /// Bytes of `buffer` already used up.
    start: usize,
    /// Bytes from `start` known to hold no end of a head.
    scanned: usize,
    pending: Option<Pending>,
    closed: bool,
}

/// A head whose body has not all come.
struct Pending {
    head: Head,
    total: usize,
}

impl StreamFramer {
    /// A framer at the start of a connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes in. Poll until `None` after each push.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.closed {
            return;
        }
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next event, or `None` until more bytes come.
    pub fn poll(&mut self) -> Option<StreamEvent> {
        if self.closed {
            return None;
        }
        if self.pending.is_none() {
            if self.skip_line_ends() {
                return Some(StreamEvent::Ping);
            }
            match self.take_head()? {
                Ok(pending) => self.pending = Some(pending),
                Err(error) => return Some(self.close(error)),
            }
        }
        let pending = self
            .pending
            .take_if(|pending| self.buffer.len() - self.start >= pending.total)?;
        let end = self.start + pending.total;
        let body = &self.buffer[self.start + pending.head.len..end];
        let message = pending.head.into_message(body);
        self.start = end;
        self.scanned = 0;
        Some(match message {
            Ok(message) => StreamEvent::Message(message),
            Err(error) => StreamEvent::Invalid(error),
        })
    }

    /// Whether a message has begun and not ended. Line ends between messages are none.
    pub fn is_inside_message(&self) -> bool {
        let held = &self.buffer[self.start..];
        self.pending.is_some() || held.iter().any(|byte| !b"\r\n".contains(byte))
    }

    /// Skips line ends between messages; `true` where they make a ping.
    fn skip_line_ends(&mut self) -> bool {
        loop {
            match &self.buffer[self.start..] {
                [b'\r', b'\n', b'\r', b'\n', ..] => {
                    self.start += 4;
                    return true;
                }
                // It may yet become a ping.
                [b'\r', b'\n'] | [b'\r', b'\n', b'\r'] => return false,
                [b'\r', b'\n', ..] => self.start += 2,
                [b'\n', ..] => self.start += 1,
                _ => return false,
            }
        }
    }

    /// The next head and the length of its message; an error where that cannot be known.
    fn take_head(&mut self) -> Option<Result<Pending, ParseError>> {
        let bytes = &self.buffer[self.start..];
        if bytes.first().is_none_or(|first| *first == b'\r') && bytes.len() < 4 {
            return None;
        }
        let window = &bytes[..bytes.len().min(MAX_MESSAGE_BYTES)];
        let Some(end) = find_head_end(window, self.scanned) else {
            self.scanned = window.len().saturating_sub(2);
            let too_large = bytes.len() > MAX_MESSAGE_BYTES;
            return too_large.then(|| Err(Head::read(window).reject(ParseErrorKind::TooLarge)));
        };
        Some(measure(Head::read(&bytes[..end])))
    }

    fn close(&mut self, error: ParseError) -> StreamEvent {
        *self = Self {
            closed: true,
            ..Self::default()
        };
        StreamEvent::Fatal(error)
    }
}

/// Where the body begins: after the first empty line, searched from `from`.
fn find_head_end(bytes: &[u8], from: usize) -> Option<usize> {
    (from..bytes.len()).find_map(|at| match &bytes[at..] {
        [b'\n', b'\r', b'\n', ..] => Some(at + 3),
        [b'\n', b'\n', ..] => Some(at + 2),
        _ => None,
    })
}

/// How long the message is that `head` begins, if it says so beyond doubt.
fn measure(mut head: Head) -> Result<Pending, ParseError> {
    let length = match head.headers.content_length() {
        Err(problem) => return Err(head.reject(problem.into())),
        Ok(Some(length)) => length,
        // Without the header only a message that can have no body has a known end.
        Ok(None) if head.problem().is_none() && !head.headers.has(&HeaderName::ContentType) => 0,
        Ok(None) => {
            head.fail(ParseErrorKind::LengthRequired);
            return Err(reject_with_own_problem(head));
        }
    };
    if matches!(
        head.problem(),
        Some(ParseErrorKind::NotSip | ParseErrorKind::TooManyHeaders)
    ) {
        return Err(reject_with_own_problem(head));
    }
    match head
        .len
        .checked_add(length)
        .filter(|total| *total <= MAX_MESSAGE_BYTES)
    {
        Some(total) => Ok(Pending { head, total }),
        None => Err(head.reject(ParseErrorKind::TooLarge)),
    }
}

fn reject_with_own_problem(head: Head) -> ParseError {
    let problem = head.problem().cloned().unwrap_or(ParseErrorKind::NotSip);
    head.reject(problem)
}
