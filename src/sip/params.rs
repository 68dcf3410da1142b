//! `;name=value` parameters of URIs and header values.

use std::fmt;

use super::syntax::{Scanner, SyntaxError, is_space, is_token, write_quoted};
use super::uri::decode;

/// The most parameters that one value may have: comparing them costs the square of it.
const MAX_PARAMS: usize = 128;

/// Parameters in their order. Names compare without regard to case. Values of URI parameters
/// are kept as they were escaped; quoted header values are kept without their quotes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(Vec<Param>);

/// One parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// The name as it was spelt.
    pub name: String,
    /// The value, if there is an equals sign.
    pub value: Option<String>,
    quoted: bool,
}

impl Params {
    /// No parameters.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All parameters in order.
    pub fn iter(&self) -> impl Iterator<Item = &Param> {
        self.0.iter()
    }

    /// Whether `name` is there, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The value of `name`; `None` both where it is absent and where it has no value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.find(name).and_then(|param| param.value.as_deref())
    }

    /// Sets or replaces `name`; a value that is no token or host is written in quotes.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let value = value.into();
        let quoted = !value.bytes().all(is_bare_byte) || value.is_empty();
        self.put(Param {
            name: name.into(),
            value: Some(value),
            quoted,
        });
    }

    /// Sets or replaces `name` with a value that is always written in quotes.
    pub fn set_quoted(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.put(Param {
            name: name.into(),
            value: Some(value.into()),
            quoted: true,
        });
    }

    /// Sets or replaces `name`, without a value.
    pub fn set_flag(&mut self, name: impl Into<String>) {
        self.put(Param {
            name: name.into(),
            value: None,
            quoted: false,
        });
    }

    /// Takes `name` away.
    pub fn remove(&mut self, name: &str) {
        self.0
            .retain(|param| !param.name.eq_ignore_ascii_case(name));
    }

    fn find(&self, name: &str) -> Option<&Param> {
        self.0
            .iter()
            .find(|param| param.name.eq_ignore_ascii_case(name))
    }

    fn put(&mut self, new: Param) {
        match self
            .0
            .iter_mut()
            .find(|param| param.name.eq_ignore_ascii_case(&new.name))
        {
            Some(param) => *param = new,
            None => self.0.push(new),
        }
    }

    fn add(&mut self, param: Param) -> Result<(), SyntaxError> {
        if self.0.len() >= MAX_PARAMS {
            return Err(SyntaxError("too many parameters"));
        }
        self.0.push(param);
        Ok(())
    }

    /// Reads header parameters to the end of the value. White space round `;` and `=` is
    /// allowed, as is one semicolon too many at the very end, which is common.
    pub(super) fn scan(scanner: &mut Scanner<'_>) -> Result<Self, SyntaxError> {
        let mut params = Self::new();
        while !scanner.skip_space().is_done() {
            if !scanner.eat(';') {
                return Err(SyntaxError("semicolon expected before a parameter"));
            }
            if scanner.skip_space().is_done() {
                break;
            }
            params.add(scan_header_param(scanner)?)?;
        }
        Ok(params)
    }

    /// Reads URI parameters: `name[=value]` separated by semicolons, with no white space.
    pub(super) fn parse_uri(text: &str) -> Result<Self, SyntaxError> {
        let mut params = Self::new();
        let mut parts = text.split(';').peekable();
        while let Some(part) = parts.next() {
            if part.is_empty() {
                match parts.peek() {
                    None => break,
                    Some(_) => return Err(SyntaxError("empty URI parameter")),
                }
            }
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (part, None),
            };
            if name.is_empty() {
                return Err(SyntaxError("URI parameter without a name"));
            }
            let name = plain_name(name);
            params.add(Param {
                name,
                value,
                quoted: false,
            })?;
        }
        Ok(params)
    }
}

/// The name without needless escapes, so that `%6C%72` is found as `lr`.
fn plain_name(name: &str) -> String {
    match String::from_utf8(decode(name)) {
        Ok(plain) if is_token(&plain) && !plain.contains('%') => plain,
        Ok(_) | Err(_) => name.to_owned(),
    }
}

fn scan_header_param(scanner: &mut Scanner<'_>) -> Result<Param, SyntaxError> {
    let name = scanner.until(|character| is_space(character) || ";=\"<>,".contains(character));
    if !is_token(name) {
        return Err(SyntaxError("parameter name is no token"));
    }
    let name = name.to_owned();
    if !scanner.skip_space().eat('=') {
        return Ok(Param {
            name,
            value: None,
            quoted: false,
        });
    }
    if scanner.skip_space().peek() == Some('"') {
        return Ok(Param {
            name,
            value: Some(scanner.quoted()?),
            quoted: true,
        });
    }
    let value = scanner.until(|character| is_space(character) || ";\"<>,".contains(character));
    Ok(Param {
        name,
        value: Some(value.to_owned()),
        quoted: false,
    })
}

/// What a `token` or `host` may hold, so that it needs no quotes.
fn is_bare_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-.!%*_+`'~[]:".contains(&byte)
}

/// Writes each parameter with its leading semicolon.
impl fmt::Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for param in &self.0 {
            write!(f, ";{}", param.name)?;
            match &param.value {
                Some(value) if param.quoted => {
                    f.write_str("=")?;
                    write_quoted(f, value)?;
                }
                Some(value) => write!(f, "={value}")?,
                None => {}
            }
        }
        Ok(())
    }
}
