//! From bytes to messages, tolerantly (RFC 3261 sections 7, 18.3 and 25; RFC 4475; RFC 5118).
//!
//! Taken: header names compact or long in any case, folded lines, white space wherever the
//! grammar has it, line ends of a lone LF, leading CRLF, header text that is no UTF-8 (read as
//! Latin-1), bytes after the body of a datagram, a Content-Length left out of one, no
//! Max-Forwards, no branch and no From tag (RFC 2543). Not taken: whatever leaves in doubt who
//! asks what of whom, or where the body ends.

mod check;
mod head;
mod stream;

pub use stream::{StreamEvent, StreamFramer};

use std::borrow::Cow;

use super::headers::{HeaderError, Headers};
use super::message::{Message, Method, Response, StatusCode};
use super::syntax::SyntaxError;

/// The most bytes that one message may have, on any transport.
pub const MAX_MESSAGE_BYTES: usize = 65_535;
/// The most header fields that one message may have.
pub const MAX_HEADER_FIELDS: usize = 256;

/// Why bytes were not a message. The fault is always the peer's, and the same bytes would
/// fail again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct ParseError {
    /// What is wrong.
    pub kind: ParseErrorKind,
    /// What may be answered; `None` for responses, ACK, and what is not recognisably SIP.
    pub rejection: Option<Box<Rejection>>,
}

/// What is wrong with a message. The texts go out as reason phrases, so they quote nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseErrorKind {
    /// Nothing but line ends: a keep-alive, not a fault.
    #[error("Keep-Alive")]
    KeepAlive,
    /// Not SIP at all.
    #[error("Not SIP")]
    NotSip,
    /// The start line is broken.
    #[error("Malformed Start Line")]
    StartLine,
    /// The Request-URI is broken.
    #[error("Malformed Request-URI: {0}")]
    RequestUri(SyntaxError),
    /// The Request-URI's scheme is not sip, sips or tel.
    #[error("Unsupported URI Scheme")]
    UriScheme,
    /// The version is not SIP/2.0.
    #[error("Version Not Supported")]
    Version,
    /// The status code is not within 100..=699.
    #[error("Malformed Status Code")]
    StatusCode,
    /// A header line has no name or no colon.
    #[error("Malformed Header Line")]
    HeaderLine,
    /// A header that everything rests on is missing, conflicting or malformed.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The method in CSeq is not the request's.
    #[error("CSeq Method Mismatch")]
    CSeqMethod,
    /// The body is shorter than Content-Length says.
    #[error("Body Shorter Than Content-Length")]
    BodyTooShort,
    /// A stream does not say where the body ends.
    #[error("Missing Content-Length")]
    LengthRequired,
    /// More bytes than a message may have.
    #[error("Message Too Large")]
    TooLarge,
    /// More header fields than a message may have.
    #[error("Too Many Header Fields")]
    TooManyHeaders,
    /// The message ends within a header line.
    #[error("Truncated Message")]
    Truncated,
}

impl ParseErrorKind {
    /// The status that a request with this fault is answered with.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::UriScheme => StatusCode::UNSUPPORTED_URI_SCHEME,
            Self::Version => StatusCode::VERSION_NOT_SUPPORTED,
            Self::TooLarge => StatusCode::MESSAGE_TOO_LARGE,
            Self::KeepAlive
            | Self::NotSip
            | Self::StartLine
            | Self::RequestUri(_)
            | Self::StatusCode
            | Self::HeaderLine
            | Self::Header(_)
            | Self::CSeqMethod
            | Self::BodyTooShort
            | Self::LengthRequired
            | Self::TooManyHeaders
            | Self::Truncated => StatusCode::BAD_REQUEST,
        }
    }

    /// The reason phrase that tells the peer what to mend (RFC 3261 section 21.4.1).
    pub fn reason_phrase(&self) -> Cow<'static, str> {
        match self {
            Self::UriScheme | Self::Version | Self::TooLarge => {
                self.status().reason_phrase().into()
            }
            other => format!("Bad Request ({other})").into(),
        }
    }
}

/// What could be saved of a bad request: enough to refuse it statelessly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The status to refuse with.
    pub status: StatusCode,
    /// The reason phrase to refuse with.
    pub reason: String,
    /// The method, where it could be read; never ACK.
    pub method: Option<Method>,
    /// The request's Via, From, To, Call-ID and CSeq, raw, as far as they are there. At least
    /// one Via is, though it may be unreadable: then the answer goes to the source address.
    pub headers: Headers,
}

impl Rejection {
    /// The refusal to send, from no transaction. `to_tag` goes to the To header, if that can
    /// be read and has none.
    pub fn to_response(&self, to_tag: &str) -> Response {
        let mut response = Response::new(self.status);
        response.reason.clone_from(&self.reason);
        response.headers = self.headers.clone();
        response.headers.set_to_tag(to_tag);
        response
    }
}

/// Reads the one message of a datagram. Bytes after the body that Content-Length gives are
/// ignored; without Content-Length the body is the rest (RFC 3261 section 18.3).
pub fn parse_datagram(datagram: &[u8]) -> Result<Message, ParseError> {
    let bytes = head::skip_line_ends(datagram);
    if bytes.is_empty() {
        return Err(ParseError {
            kind: ParseErrorKind::KeepAlive,
            rejection: None,
        });
    }
    if bytes.len() > MAX_MESSAGE_BYTES {
        let head = head::Head::read(&bytes[..MAX_MESSAGE_BYTES]);
        return Err(head.reject(ParseErrorKind::TooLarge));
    }
    let mut head = head::Head::read(bytes);
    let rest = &bytes[head.len..];
    let body = match head.headers.content_length() {
        Ok(Some(length)) => match rest.get(..length) {
            Some(body) => body,
            None => {
                head.fail(ParseErrorKind::BodyTooShort);
                rest
            }
        },
        Ok(None) => rest,
        Err(problem) => {
            head.fail(problem.into());
            rest
        }
    };
    head.into_message(body)
}

#[cfg(test)]
mod tests;
