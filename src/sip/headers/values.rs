//! The smaller typed header values.

use std::fmt;
use std::str::FromStr;

use crate::sip::message::Method;
use crate::sip::params::Params;
use crate::sip::syntax::{Scanner, SyntaxError, is_space, number};

/// CSeq (RFC 3261 section 20.16).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CSeq {
    /// The sequence number.
    pub number: u32,
    /// The method.
    pub method: Method,
}

impl FromStr for CSeq {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let mut words = text.split(is_space).filter(|word| !word.is_empty());
        match (
            words.next(),
            words.next().and_then(Method::parse),
            words.next(),
        ) {
            (Some(digits), Some(method), None) => Ok(Self {
                number: number(digits)?,
                method,
            }),
            _ => Err(SyntaxError("number and method expected")),
        }
    }
}

impl fmt::Display for CSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number, self.method)
    }
}

/// RAck, which reliable provisional answer is confirmed (RFC 3262 section 7.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RAck {
    /// The RSeq of that answer.
    pub response_number: u32,
    /// The CSeq of that answer.
    pub cseq: CSeq,
}

impl FromStr for RAck {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let (first, rest) = text
            .trim_start_matches(is_space)
            .split_once(is_space)
            .ok_or(SyntaxError("three words expected"))?;
        Ok(Self {
            response_number: number(first)?,
            cseq: rest.parse()?,
        })
    }
}

impl fmt::Display for RAck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.response_number, self.cseq)
    }
}

/// Who refreshes a session (RFC 4028).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresher {
    /// The side that sent the request.
    Uac,
    /// The side that answered it.
    Uas,
}

/// Session-Expires (RFC 4028 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionExpires {
    /// The session interval in seconds.
    pub interval: u32,
    /// Who refreshes, where it is said.
    pub refresher: Option<Refresher>,
}

impl FromStr for SessionExpires {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let mut scanner = Scanner::new(text);
        let digits = scanner
            .skip_space()
            .until(|character| is_space(character) || character == ';');
        let interval = number(digits)?;
        let params = Params::scan(&mut scanner)?;
        let refresher = match params
            .get("refresher")
            .map(str::to_ascii_lowercase)
            .as_deref()
        {
            Some("uac") => Some(Refresher::Uac),
            Some("uas") => Some(Refresher::Uas),
            Some(_) => return Err(SyntaxError("unknown refresher")),
            None => None,
        };
        Ok(Self {
            interval,
            refresher,
        })
    }
}

impl fmt::Display for SessionExpires {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.interval.fmt(f)?;
        match self.refresher {
            Some(Refresher::Uac) => f.write_str(";refresher=uac"),
            Some(Refresher::Uas) => f.write_str(";refresher=uas"),
            None => Ok(()),
        }
    }
}

/// Replaces, the dialog that a new one takes the place of (RFC 3891). Tags are from the
/// receiver's point of view: `to_tag` is its local tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaces {
    /// The Call-ID.
    pub call_id: String,
    /// The receiver's tag.
    pub to_tag: String,
    /// The other side's tag.
    pub from_tag: String,
    /// Whether only an early dialog may be replaced.
    pub early_only: bool,
}

impl FromStr for Replaces {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let mut scanner = Scanner::new(text);
        let call_id = scanner
            .skip_space()
            .until(|character| is_space(character) || character == ';')
            .to_owned();
        let params = Params::scan(&mut scanner)?;
        let tag = |name| {
            params
                .get(name)
                .map(str::to_owned)
                .ok_or(SyntaxError("tag missing"))
        };
        if call_id.is_empty() {
            return Err(SyntaxError("Call-ID missing"));
        }
        Ok(Self {
            call_id,
            to_tag: tag("to-tag")?,
            from_tag: tag("from-tag")?,
            early_only: params.has("early-only"),
        })
    }
}

impl fmt::Display for Replaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{};to-tag={};from-tag={}",
            self.call_id, self.to_tag, self.from_tag
        )?;
        f.write_str(if self.early_only { ";early-only" } else { "" })
    }
}

/// One value of Reason (RFC 3326).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReasonValue {
    /// `SIP`, `Q.850` or another.
    pub protocol: String,
    /// The protocol's cause.
    pub cause: Option<u16>,
    /// The text, for people.
    pub text: Option<String>,
}

impl FromStr for ReasonValue {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let mut scanner = Scanner::new(text);
        let protocol = scanner.skip_space().token()?.to_owned();
        let params = Params::scan(&mut scanner)?;
        Ok(Self {
            protocol,
            cause: params.get("cause").map(number).transpose()?,
            text: params.get("text").map(str::to_owned),
        })
    }
}

impl fmt::Display for ReasonValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut params = Params::new();
        if let Some(cause) = self.cause {
            params.set("cause", cause.to_string());
        }
        if let Some(text) = &self.text {
            params.set_quoted("text", text);
        }
        write!(f, "{}{params}", self.protocol)
    }
}

/// Content-Type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentType {
    /// Type and subtype in lower case, such as `application/sdp`.
    pub media_type: String,
    /// Parameters, such as `boundary`.
    pub params: Params,
}

impl ContentType {
    /// Whether this is `media_type`, in any case.
    pub fn is(&self, media_type: &str) -> bool {
        self.media_type.eq_ignore_ascii_case(media_type)
    }
}

impl FromStr for ContentType {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let mut scanner = Scanner::new(text);
        let kind = scanner.skip_space().token()?;
        if !scanner.skip_space().eat('/') {
            return Err(SyntaxError("slash expected in a media type"));
        }
        let subtype = scanner.skip_space().token()?;
        let media_type = format!("{kind}/{subtype}").to_ascii_lowercase();
        Ok(Self {
            media_type,
            params: Params::scan(&mut scanner)?,
        })
    }
}

impl fmt::Display for ContentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.media_type, self.params)
    }
}

/// Event (RFC 6665 section 8.2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The event package, such as `refer`.
    pub package: String,
    /// Parameters, such as `id`.
    pub params: Params,
}

impl FromStr for Event {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let mut scanner = Scanner::new(text);
        let package = scanner.skip_space().token()?.to_owned();
        Ok(Self {
            package,
            params: Params::scan(&mut scanner)?,
        })
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.package, self.params)
    }
}

/// Subscription-State (RFC 6665 section 8.2.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionState {
    /// `active`, `pending`, `terminated` or another, in lower case.
    pub state: String,
    /// Parameters: `expires`, `reason`, `retry-after`.
    pub params: Params,
}

impl SubscriptionState {
    /// Whether no further NOTIFY comes.
    pub fn is_terminated(&self) -> bool {
        self.state == "terminated"
    }
}

impl FromStr for SubscriptionState {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let mut scanner = Scanner::new(text);
        let state = scanner.skip_space().token()?.to_ascii_lowercase();
        Ok(Self {
            state,
            params: Params::scan(&mut scanner)?,
        })
    }
}

impl fmt::Display for SubscriptionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.state, self.params)
    }
}
