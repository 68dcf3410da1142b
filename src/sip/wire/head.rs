//! A message's start line and header fields. Reads on after a fault, so that what is needed to
//! refuse the request can be saved.

use crate::sip::headers::{HeaderName, Headers};
use crate::sip::message::{Message, Method, Request, Response, StatusCode};
use crate::sip::syntax::{SyntaxError, is_space, is_token, trim};
use crate::sip::uri::Uri;

use super::check::{check_request, check_response};
use super::{MAX_HEADER_FIELDS, ParseError, ParseErrorKind, Rejection};

/// The start line as far as it could be read.
enum StartLine {
    Request {
        method: Method,
        uri: Uri,
    },
    Response {
        status: StatusCode,
        reason: String,
    },
    /// A request that is broken, but knows SIP.
    BadRequest {
        method: Option<Method>,
    },
    Unreadable,
}

/// A message up to its body.
pub(super) struct Head {
    start: StartLine,
    pub(super) headers: Headers,
    /// Bytes up to the body.
    pub(super) len: usize,
    problem: Option<ParseErrorKind>,
}

impl Head {
    /// Reads the head that `bytes` begins with; never fails, but may come with a problem.
    pub(super) fn read(bytes: &[u8]) -> Self {
        let mut head = Self {
            start: StartLine::Unreadable,
            headers: Headers::new(),
            len: 0,
            problem: None,
        };
        let Some(start) = head.next_line(bytes) else {
            return head;
        };
        let (start, problem) = parse_start_line(&start);
        head.start = start;
        head.problem = problem;
        head.read_headers(bytes);
        head
    }

    fn read_headers(&mut self, bytes: &[u8]) {
        let mut field: Option<(HeaderName, String)> = None;
        while let Some(line) = self.next_line(bytes) {
            if line.is_empty() {
                break;
            }
            if line.contains('\r') {
                self.fail(ParseErrorKind::HeaderLine);
            } else if line.starts_with(is_space) {
                match &mut field {
                    Some((_, value)) => {
                        value.push(' ');
                        value.push_str(trim(&line));
                    }
                    None => self.fail(ParseErrorKind::HeaderLine),
                }
            } else {
                self.keep(field.take());
                field = parse_header_line(&line);
                if field.is_none() {
                    self.fail(ParseErrorKind::HeaderLine);
                }
            }
        }
        self.keep(field);
    }

    fn keep(&mut self, field: Option<(HeaderName, String)>) {
        let Some((name, value)) = field else { return };
        if self.headers.len() < MAX_HEADER_FIELDS {
            self.headers.push(name, trim(&value));
        } else {
            self.fail(ParseErrorKind::TooManyHeaders);
        }
    }

    /// Takes the next line, without its end. At the very end of the bytes there is none, which
    /// lets a message pass that lacks the empty line after its last header.
    fn next_line(&mut self, bytes: &[u8]) -> Option<String> {
        let rest = bytes.get(self.len..).filter(|rest| !rest.is_empty())?;
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
            self.len = bytes.len();
            self.fail(ParseErrorKind::Truncated);
            return None;
        };
        self.len += end + 1;
        let line = &rest[..end];
        Some(decode(line.strip_suffix(b"\r").unwrap_or(line)))
    }

    /// Notes a problem; the first one counts.
    pub(super) fn fail(&mut self, problem: ParseErrorKind) {
        self.problem.get_or_insert(problem);
    }

    pub(super) fn problem(&self) -> Option<&ParseErrorKind> {
        self.problem.as_ref()
    }

    /// The error for a problem, with what may be answered.
    pub(super) fn reject(self, kind: ParseErrorKind) -> ParseError {
        let method = match self.start {
            StartLine::Request { method, .. } => Some(method),
            StartLine::BadRequest { method } => method,
            StartLine::Response { .. } | StartLine::Unreadable => {
                return ParseError {
                    kind,
                    rejection: None,
                };
            }
        };
        // An ACK is never answered (RFC 3261 section 17), nor is what names no way back.
        if method == Some(Method::Ack) || !self.headers.has(&HeaderName::Via) {
            return ParseError {
                kind,
                rejection: None,
            };
        }
        let mut headers = Headers::new();
        headers.copy_all(&self.headers, &HeaderName::Via);
        // Where a single header came twice, the answer had better not be as bad.
        for name in [
            HeaderName::From,
            HeaderName::To,
            HeaderName::CallId,
            HeaderName::CSeq,
        ] {
            if let Some(value) = self.headers.get(&name) {
                headers.push(name, value);
            }
        }
        let rejection = Rejection {
            status: kind.status(),
            reason: kind.reason_phrase().into_owned(),
            method,
            headers,
        };
        ParseError {
            kind,
            rejection: Some(Box::new(rejection)),
        }
    }

    /// The message, if nothing is wrong with the head or with what its headers say.
    pub(super) fn into_message(mut self, body: &[u8]) -> Result<Message, ParseError> {
        if let Some(problem) = self.problem.take() {
            return Err(self.reject(problem));
        }
        let checked = match &self.start {
            StartLine::Request { method, .. } => check_request(method, &self.headers),
            StartLine::Response { .. } => check_response(&self.headers),
            StartLine::BadRequest { .. } => Err(ParseErrorKind::StartLine),
            StartLine::Unreadable => Err(ParseErrorKind::NotSip),
        };
        if let Err(problem) = checked {
            return Err(self.reject(problem));
        }
        let (headers, body) = (self.headers, body.to_vec());
        match self.start {
            StartLine::Request { method, uri } => Ok(Message::Request(Request {
                method,
                uri,
                headers,
                body,
            })),
            StartLine::Response { status, reason } => Ok(Message::Response(Response {
                status,
                reason,
                headers,
                body,
            })),
            StartLine::BadRequest { .. } | StartLine::Unreadable => Err(ParseError {
                kind: ParseErrorKind::NotSip,
                rejection: None,
            }),
        }
    }
}

/// The bytes after any line ends that come before a message (RFC 3261 section 7.5).
pub(super) fn skip_line_ends(bytes: &[u8]) -> &[u8] {
    let start = bytes
        .iter()
        .position(|byte| !matches!(byte, b'\r' | b'\n'))
        .unwrap_or(bytes.len());
    &bytes[start..]
}

/// UTF-8, or else Latin-1, as old PBXs write names.
fn decode(line: &[u8]) -> String {
    match std::str::from_utf8(line) {
        Ok(text) => text.to_owned(),
        Err(_) => line.iter().copied().map(char::from).collect(),
    }
}

fn parse_header_line(line: &str) -> Option<(HeaderName, String)> {
    let (name, value) = line.split_once(':')?;
    let name = name.trim_end_matches(is_space);
    is_token(name).then(|| (HeaderName::new(name), trim(value).to_owned()))
}

fn parse_start_line(line: &str) -> (StartLine, Option<ParseErrorKind>) {
    let line = line.trim_end_matches(is_space);
    if names_sip(line) {
        return match parse_status_line(line) {
            Ok(start) => (start, None),
            Err(problem) => (StartLine::Unreadable, Some(problem)),
        };
    }
    let Some((front, version)) = line
        .rsplit_once(is_space)
        .filter(|(_, version)| names_sip(version))
    else {
        return (StartLine::Unreadable, Some(ParseErrorKind::NotSip));
    };
    let (method, uri) = front.split_once(' ').unwrap_or((front, ""));
    let method = Method::parse(method);
    match parse_request_line(method.clone(), uri, version) {
        Ok(start) => (start, None),
        Err(problem) => (StartLine::BadRequest { method }, Some(problem)),
    }
}

fn names_sip(text: &str) -> bool {
    text.get(..4)
        .is_some_and(|start| start.eq_ignore_ascii_case("SIP/"))
}

fn parse_request_line(
    method: Option<Method>,
    uri: &str,
    version: &str,
) -> Result<StartLine, ParseErrorKind> {
    if !version.eq_ignore_ascii_case("SIP/2.0") {
        return Err(ParseErrorKind::Version);
    }
    let method = method.ok_or(ParseErrorKind::StartLine)?;
    match uri.parse().map_err(ParseErrorKind::RequestUri)? {
        Uri::Other(_) => Err(ParseErrorKind::UriScheme),
        // RFC 3261 section 19.1.1, table 1.
        Uri::Sip(uri) if !uri.headers.is_empty() => Err(ParseErrorKind::RequestUri(SyntaxError(
            "headers are not allowed",
        ))),
        uri @ (Uri::Sip(_) | Uri::Tel(_)) => Ok(StartLine::Request { method, uri }),
    }
}

fn parse_status_line(line: &str) -> Result<StartLine, ParseErrorKind> {
    let (version, rest) = line.split_once(' ').unwrap_or((line, ""));
    if !version.eq_ignore_ascii_case("SIP/2.0") {
        return Err(ParseErrorKind::Version);
    }
    let (code, reason) = rest.split_once(' ').unwrap_or((rest, ""));
    let status = Some(code)
        .filter(|code| code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|code| code.parse().ok())
        .and_then(StatusCode::new)
        .ok_or(ParseErrorKind::StatusCode)?;
    if reason.contains('\r') {
        return Err(ParseErrorKind::StartLine);
    }
    Ok(StartLine::Response {
        status,
        reason: reason.to_owned(),
    })
}
