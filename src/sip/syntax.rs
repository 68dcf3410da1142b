//! The few lexical rules that every SIP value shares (RFC 3261 section 25.1).

use std::fmt;

/// Why a value could not be read. Names the rule that was broken, never the peer's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SyntaxError(pub &'static str);

/// Whether `text` is a non-empty `token`: a method, a header name, a tag.
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte)
}

/// Whether `character` is white space inside a header value, whose folds are already undone.
pub(super) fn is_space(character: char) -> bool {
    character == ' ' || character == '\t'
}

/// Trims white space as SIP knows it.
pub(super) fn trim(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// Writes `text` as a `quoted-string`.
pub(super) fn write_quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for character in text.chars() {
        match character {
            '"' | '\\' => write!(f, "\\{character}")?,
            // A quoted pair cannot carry these two, and they would end the header.
            '\r' | '\n' => f.write_str(" ")?,
            '\0'..='\u{1f}' | '\u{7f}' if character != '\t' => write!(f, "\\{character}")?,
            _ => write!(f, "{character}")?,
        }
    }
    f.write_str("\"")
}

/// Reads a decimal number that fits `T`; signs, blanks and overflow are errors.
pub(super) fn number<T: std::str::FromStr>(text: &str) -> Result<T, SyntaxError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(SyntaxError("not a decimal number"));
    }
    text.parse().map_err(|_| SyntaxError("number out of range"))
}

/// Splits a comma-separated list, leaving commas in quoted strings and angle brackets alone.
/// Elements come trimmed and may be empty.
pub(super) fn split_list(text: &str) -> Result<Vec<&str>, SyntaxError> {
    split_outside(text, ',')
}

/// Splits `text` at each `separator` outside quoted strings and angle brackets.
pub(super) fn split_outside(text: &str, separator: char) -> Result<Vec<&str>, SyntaxError> {
    let mut parts = Vec::new();
    let mut start = 0;
    let (mut quoted, mut escaped, mut bracketed) = (false, false, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' if !bracketed => quoted = !quoted,
            _ if quoted => {}
            '<' => bracketed = true,
            '>' => bracketed = false,
            _ if character == separator && !bracketed => {
                parts.push(trim(&text[start..at]));
                start = at + character.len_utf8();
            }
            _ => {}
        }
    }
    if quoted {
        return Err(SyntaxError("unbalanced quotes"));
    }
    if bracketed {
        return Err(SyntaxError("unbalanced angle brackets"));
    }
    parts.push(trim(&text[start..]));
    Ok(parts)
}

/// Reads a value from left to right.
pub(super) struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text }
    }

    pub(super) fn rest(&self) -> &'a str {
        self.rest
    }

    pub(super) fn is_done(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    pub(super) fn skip_space(&mut self) -> &mut Self {
        self.rest = self.rest.trim_start_matches(is_space);
        self
    }

    /// Takes `expected` if it comes next.
    pub(super) fn eat(&mut self, expected: char) -> bool {
        match self.rest.strip_prefix(expected) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Takes everything up to the first character that `stop` names, or to the end.
    pub(super) fn until(&mut self, stop: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(stop).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    /// Takes a `token`.
    pub(super) fn token(&mut self) -> Result<&'a str, SyntaxError> {
        let taken = self.until(|character| {
            u8::try_from(character).map_or(true, |byte| !byte.is_ascii() || !is_token_byte(byte))
        });
        if taken.is_empty() {
            return Err(SyntaxError("token expected"));
        }
        Ok(taken)
    }

    /// Takes a `quoted-string` and gives back what it quotes.
    pub(super) fn quoted(&mut self) -> Result<String, SyntaxError> {
        if !self.eat('"') {
            return Err(SyntaxError("quoted string expected"));
        }
        let mut text = String::new();
        let mut characters = self.rest.char_indices();
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(text);
                }
                '\\' => match characters.next() {
                    Some((_, quoted)) => text.push(quoted),
                    None => break,
                },
                _ => text.push(character),
            }
        }
        Err(SyntaxError("unbalanced quotes"))
    }
}
