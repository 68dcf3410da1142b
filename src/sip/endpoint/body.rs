//! Finds the session description in a message body (RFC 3261 section 7.4, RFC 5621).

use crate::sip::headers::{ContentType, HeaderName, Headers};

/// The media type of session descriptions.
pub(super) const SDP: &str = "application/sdp";

/// Why a body was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    /// The Content-Type or Content-Disposition is not one that we process: 415.
    UnsupportedType,
    /// The Content-Encoding is not one that we process: 415 with Accept-Encoding.
    UnsupportedEncoding,
    /// The headers that describe the body, or the parts of a multipart one, are broken: 400.
    Malformed,
}

/// The session description in `body`, which `headers` describe: the body itself or a part of a
/// multipart one. Bodies that the sender calls optional are passed over.
pub(super) fn session_description(
    headers: &Headers,
    body: &[u8],
) -> Result<Option<Vec<u8>>, BodyError> {
    if body.is_empty() {
        return Ok(None);
    }
    let optional = is_optional(headers.get(&HeaderName::ContentDisposition));
    let unsupported = |problem| if optional { Ok(None) } else { Err(problem) };
    if let Some(encoding) = headers.get(&HeaderName::ContentEncoding)
        && !encoding.eq_ignore_ascii_case("identity")
    {
        return unsupported(BodyError::UnsupportedEncoding);
    }
    match headers.content_type() {
        Ok(Some(kind)) if kind.is(SDP) => Ok(Some(body.to_vec())),
        Ok(Some(kind)) if kind.media_type.starts_with("multipart/") => {
            match description_among_parts(&kind, body)? {
                Some(description) => Ok(Some(description)),
                None => unsupported(BodyError::UnsupportedType),
            }
        }
        // RFC 3261 20.15 wants the header with any body; without it SDP is the only guess.
        Ok(None) if body.starts_with(b"v=0") => Ok(Some(body.to_vec())),
        Ok(_) => unsupported(BodyError::UnsupportedType),
        Err(_) => Err(BodyError::Malformed),
    }
}

fn is_optional(disposition: Option<&str>) -> bool {
    disposition.is_some_and(|value| {
        value
            .split(';')
            .skip(1)
            .filter_map(|parameter| parameter.split_once('='))
            .any(|(name, value)| {
                name.trim().eq_ignore_ascii_case("handling")
                    && value.trim().eq_ignore_ascii_case("optional")
            })
    })
}

fn description_among_parts(kind: &ContentType, body: &[u8]) -> Result<Option<Vec<u8>>, BodyError> {
    let boundary = kind.params.get("boundary").unwrap_or_default();
    if boundary.is_empty() || boundary.len() > 70 {
        return Err(BodyError::Malformed);
    }
    let delimiter = format!("--{boundary}");
    Ok(parts(body, delimiter.as_bytes()).find_map(description_in_part))
}

/// The parts between delimiter lines, each without the line end that belongs to the delimiter.
fn parts<'a>(body: &'a [u8], delimiter: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = after_delimiter(body, delimiter).map(|(_, rest)| rest);
    std::iter::from_fn(move || {
        let body = rest.take()?;
        let (part, next) = after_delimiter(body, delimiter)?;
        rest = Some(next);
        let part = part.strip_suffix(b"\n").unwrap_or(part);
        Some(part.strip_suffix(b"\r").unwrap_or(part))
    })
}

/// What stands before and after the first line that begins with `delimiter`.
fn after_delimiter<'a>(body: &'a [u8], delimiter: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let mut at = 0;
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(delimiter) {
            return Some((&body[..at], &body[at + line.len()..]));
        }
        at += line.len();
    }
    None
}

fn description_in_part(part: &[u8]) -> Option<Vec<u8>> {
    let mut at = 0;
    let mut is_description = false;
    for line in part.split_inclusive(|byte| *byte == b'\n') {
        at += line.len();
        let text = line.trim_ascii();
        if text.is_empty() {
            return is_description.then(|| part[at..].to_vec());
        }
        let colon = text.iter().position(|byte| *byte == b':')?;
        let (name, value) = text.split_at(colon);
        if name.trim_ascii().eq_ignore_ascii_case(b"content-type") {
            let value = value[1..].trim_ascii();
            is_description = value
                .get(..SDP.len())
                .is_some_and(|kind| kind.eq_ignore_ascii_case(SDP.as_bytes()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(fields: &[(HeaderName, &str)], body: &str) -> Result<Option<String>, BodyError> {
        let mut headers = Headers::new();
        for (name, value) in fields {
            headers.push(name.clone(), value);
        }
        let found = session_description(&headers, body.as_bytes())?;
        Ok(found.map(|body| String::from_utf8(body).unwrap()))
    }

    const DESCRIPTION: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\n";

    #[test]
    fn a_plain_description_is_taken_whatever_the_case_of_its_type() {
        let fields = [(HeaderName::ContentType, "Application/SDP;charset=utf-8")];
        assert_eq!(
            described(&fields, DESCRIPTION),
            Ok(Some(DESCRIPTION.to_owned()))
        );
        assert_eq!(described(&[], ""), Ok(None));
    }

    #[test]
    fn a_description_beside_an_isup_part_is_found() {
        let body = format!(
            "preamble\r\n--x\r\nContent-Type: application/isup\r\n\r\n\u{1}\u{2}\r\n--x\r\n\
             content-type : application/sdp\r\nContent-Disposition: session\r\n\r\n{DESCRIPTION}\r\n--x--\r\n"
        );
        let fields = [(HeaderName::ContentType, "multipart/mixed;boundary=\"x\"")];
        assert_eq!(described(&fields, &body), Ok(Some(DESCRIPTION.to_owned())));
    }

    #[test]
    fn an_unknown_body_is_refused_unless_it_is_optional() {
        let fields = [(HeaderName::ContentType, "application/unknown")];
        assert_eq!(described(&fields, "x"), Err(BodyError::UnsupportedType));
        let fields = [
            (HeaderName::ContentType, "application/unknown"),
            (HeaderName::ContentDisposition, "render; handling=optional"),
        ];
        assert_eq!(described(&fields, "x"), Ok(None));
    }

    #[test]
    fn a_compressed_body_is_refused() {
        let fields = [
            (HeaderName::ContentType, "application/sdp"),
            (HeaderName::ContentEncoding, "gzip"),
        ];
        assert_eq!(described(&fields, "x"), Err(BodyError::UnsupportedEncoding));
    }

    #[test]
    fn a_multipart_body_without_boundary_is_malformed() {
        let fields = [(HeaderName::ContentType, "multipart/mixed")];
        assert_eq!(described(&fields, "x"), Err(BodyError::Malformed));
    }
}
