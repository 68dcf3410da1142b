//! Name-addr values: From, To, Contact, Route and their like (RFC 3261 section 20.10).

use std::fmt;
use std::str::FromStr;

use crate::sip::params::Params;
use crate::sip::syntax::{Scanner, SyntaxError, number, trim, write_quoted};
use crate::sip::uri::Uri;

/// A URI with an optional display name and header parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameAddr {
    /// The display name without quotes and escapes.
    pub display_name: Option<String>,
    /// The URI.
    pub uri: Uri,
    /// The header's parameters, not the URI's.
    pub params: Params,
}

/// A Contact header's worth of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contacts {
    /// `*`: all bindings, in a REGISTER that removes them.
    Wildcard,
    /// Addresses, possibly none.
    List(Vec<NameAddr>),
}

impl NameAddr {
    /// Just a URI.
    pub fn new(uri: Uri) -> Self {
        Self {
            display_name: None,
            uri,
            params: Params::new(),
        }
    }

    /// The same with a display name.
    #[must_use]
    pub fn with_display_name(mut self, name: impl Into<String>) -> Self {
        self.display_name = Some(name.into());
        self
    }

    /// The same with a tag.
    #[must_use]
    pub fn with_tag(mut self, tag: impl Into<String>) -> Self {
        self.params.set("tag", tag);
        self
    }

    /// The tag; an empty one counts as none.
    pub fn tag(&self) -> Option<&str> {
        self.params.get("tag").filter(|tag| !tag.is_empty())
    }

    /// A Contact's `expires` in seconds. What is no number, or too large a one, counts as 3600
    /// (RFC 3261 section 10.2.1.1).
    pub fn expires(&self) -> Option<u32> {
        self.params
            .get("expires")
            .map(|value| number(value).unwrap_or(3600))
    }

    /// A Contact's `q` in thousandths, 0..=1000; 1000 where absent or malformed.
    pub fn q_thousandths(&self) -> u16 {
        self.params.get("q").and_then(parse_q).unwrap_or(1000)
    }

    /// A Contact's `+sip.instance` without its angle brackets (RFC 5626).
    pub fn instance(&self) -> Option<&str> {
        let value = self.params.get("+sip.instance")?;
        Some(
            value
                .strip_prefix('<')
                .and_then(|value| value.strip_suffix('>'))
                .unwrap_or(value),
        )
    }
}

fn parse_q(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let thousandths = match fraction.len() {
        0 => 0,
        1..=3 => {
            number::<u16>(fraction).ok()? * 10_u16.pow(3 - u32::try_from(fraction.len()).ok()?)
        }
        _ => return None,
    };
    match whole {
        "0" | "" => Some(thousandths),
        "1" if thousandths == 0 => Some(1000),
        _ => None,
    }
}

impl FromStr for NameAddr {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let mut scanner = Scanner::new(trim(text));
        let display_name = match scanner.peek() {
            Some('"') => {
                let name = scanner.quoted()?;
                if scanner.skip_space().peek() != Some('<') {
                    return Err(SyntaxError("angle bracket expected after a display name"));
                }
                Some(name)
            }
            // Without quotes a display name should be tokens; peers put all sorts there. A
            // bracket after both quote and semicolon is a bare URI's `+sip.instance`.
            _ => match scanner.rest().split_once('<') {
                Some((name, _)) if !(name.contains(';') && name.contains('"')) => {
                    let name = trim(scanner.until(|character| character == '<'));
                    (!name.is_empty()).then(|| name.to_owned())
                }
                Some(_) | None => return parse_bare(scanner.rest()),
            },
        };
        scanner.eat('<');
        let uri = scanner.until(|character| character == '>');
        if !scanner.eat('>') {
            return Err(SyntaxError("unbalanced angle brackets"));
        }
        let uri = trim(uri).parse()?;
        Ok(Self {
            display_name,
            uri,
            params: Params::scan(&mut scanner)?,
        })
    }
}

/// A URI without brackets: what follows its first semicolon is the header's, and it may hold
/// neither comma nor question mark (RFC 3261 section 20).
fn parse_bare(text: &str) -> Result<NameAddr, SyntaxError> {
    let mut scanner = Scanner::new(text);
    let uri = trim(scanner.until(|character| character == ';'));
    if uri.contains([',', '?']) {
        return Err(SyntaxError("URI must stand in angle brackets"));
    }
    Ok(NameAddr {
        display_name: None,
        uri: uri.parse()?,
        params: Params::scan(&mut scanner)?,
    })
}

impl fmt::Display for NameAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.display_name {
            write_quoted(f, name)?;
            f.write_str(" ")?;
        }
        write!(f, "<{}>{}", self.uri, self.params)
    }
}
