//! Messages as a ladder keeps them: the few words that place a message, read without parsing all
//! of it, and everything secret masked. What the wire layer refuses can be read here too.

/// Parameters of credentials that are no secret and help to see what went wrong. All others, the
/// proof and the nonces among them, are masked.
const PLAIN_PARAMETERS: [&[u8]; 7] = [
    b"username",
    b"realm",
    b"uri",
    b"algorithm",
    b"qop",
    b"nc",
    b"stale",
];

const CREDENTIALS: [&[u8]; 4] = [
    b"authorization",
    b"proxy-authorization",
    b"authentication-info",
    b"proxy-authentication-info",
];

/// Takes the place of each secret byte, so that lengths stay true.
const MASK: u8 = b'*';

/// The first line; what is no text in it is replaced.
pub fn first_line(message: &[u8]) -> String {
    let start = skip_line_ends(message);
    let line = message[start..].split(|byte| is_line_end(*byte)).next();
    String::from_utf8_lossy(line.unwrap_or_default())
        .trim()
        .to_owned()
}

/// The Call-ID.
pub fn call_id(message: &[u8]) -> Option<&str> {
    field(message, &[b"call-id", b"i"])
}

/// The method in CSeq.
pub fn sequence_method(message: &[u8]) -> Option<&str> {
    field(message, &[b"cseq"])?.split_ascii_whitespace().nth(1)
}

/// What follows the head.
pub fn body(message: &[u8]) -> &[u8] {
    &message[Head::of(message).end..]
}

/// Masks, in place: proofs and nonces of credentials, passwords in URIs, and the media keys of a
/// session description (RFC 4568, RFC 4567, `k=`).
pub fn redact(message: &mut [u8]) {
    let head = Head::of(message);
    for field in &head.fields {
        let name = message[field.name.0..field.name.1].to_ascii_lowercase();
        if CREDENTIALS.contains(&name.as_slice()) {
            redact_credentials(&mut message[field.value.0..field.value.1]);
        }
    }
    let (head, body) = message.split_at_mut(head.end);
    redact_uris(head);
    for line in body.split_mut(|byte| is_line_end(*byte)) {
        redact_description_line(line);
    }
}

/// Where the fields of a head lie.
struct Head {
    fields: Vec<Field>,
    /// Where the body starts.
    end: usize,
}

/// Byte ranges, from and to.
struct Field {
    name: (usize, usize),
    value: (usize, usize),
}

impl Head {
    fn of(message: &[u8]) -> Self {
        let mut at = next_line(message, skip_line_ends(message));
        let mut fields: Vec<Field> = Vec::new();
        while at < message.len() {
            let next = next_line(message, at);
            let line = &message[at..next];
            let length = line.iter().rposition(|byte| !is_line_end(*byte));
            let Some(length) = length.map(|last| last + 1) else {
                at = next;
                break;
            };
            match line.iter().position(|byte| *byte == b':') {
                _ if is_space(line[0]) => {
                    if let Some(folded) = fields.last_mut() {
                        folded.value.1 = at + length;
                    }
                }
                Some(colon) => {
                    let name = line[..colon].trim_ascii();
                    fields.push(Field {
                        name: (at, at + name.len()),
                        value: (at + colon + 1, at + length),
                    });
                }
                None => {}
            }
            at = next;
        }
        Self { fields, end: at }
    }
}

fn field<'a>(message: &'a [u8], names: &[&[u8]]) -> Option<&'a str> {
    let head = Head::of(message);
    let found = head.fields.iter().find(|field| {
        let name = &message[field.name.0..field.name.1];
        names.iter().any(|known| known.eq_ignore_ascii_case(name))
    })?;
    let value = std::str::from_utf8(&message[found.value.0..found.value.1]).ok()?;
    Some(value.trim()).filter(|value| !value.is_empty())
}

/// `Scheme name=value, name="value"`: what is not known to be plain is masked.
fn redact_credentials(value: &mut [u8]) {
    let start = value.len() - value.trim_ascii_start().len();
    let scheme = value[start..]
        .iter()
        .take_while(|b| !b.is_ascii_whitespace());
    let mut at = start + scheme.count();
    if !value[start..at].eq_ignore_ascii_case(b"digest") {
        // Another scheme, or an Authentication-Info, which has none.
        at = match value[start..at].contains(&b'=') {
            true => start,
            false => {
                value[at..].fill(MASK);
                return;
            }
        };
    }
    while at < value.len() {
        let end = parameter_end(value, at);
        redact_parameter(&mut value[at..end]);
        at = end + 1;
    }
}

/// The comma after a parameter, quoted ones apart, or the end.
fn parameter_end(value: &[u8], start: usize) -> usize {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in value.iter().enumerate().skip(start) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => return at,
            _ => {}
        }
    }
    value.len()
}

fn redact_parameter(parameter: &mut [u8]) {
    let Some(equals) = parameter.iter().position(|byte| *byte == b'=') else {
        mask_words(parameter);
        return;
    };
    let name = parameter[..equals].trim_ascii().to_ascii_lowercase();
    if !PLAIN_PARAMETERS.contains(&name.as_slice()) {
        mask_words(&mut parameter[equals + 1..]);
    }
}

/// Masks everything but quotes and white space.
fn mask_words(text: &mut [u8]) {
    for byte in text {
        if *byte != b'"' && !byte.is_ascii_whitespace() {
            *byte = MASK;
        }
    }
}

/// `sip:user:password@host`.
fn redact_uris(head: &mut [u8]) {
    for scheme in [b"sip:".as_slice(), b"sips:"] {
        let mut from = 0;
        while let Some(found) = find(&head[from..], scheme) {
            let start = from + found + scheme.len();
            let is_user = |byte: &u8| !byte.is_ascii_whitespace() && !b"<>\"@?".contains(byte);
            let user = head[start..]
                .iter()
                .take_while(|byte| is_user(byte))
                .count();
            if head.get(start + user) == Some(&b'@')
                && let Some(colon) = head[start..start + user].iter().position(|b| *b == b':')
            {
                head[start + colon + 1..start + user].fill(MASK);
            }
            from = start;
        }
    }
}

fn redact_description_line(line: &mut [u8]) {
    let starts = |with: &[u8]| {
        line.get(..with.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(with))
    };
    let secret_from = if starts(b"a=crypto:") {
        // After the tag and the suite.
        let mut words = line.iter().enumerate().filter(|(_, byte)| is_space(**byte));
        words.nth(1).map(|(at, _)| at + 1)
    } else if starts(b"a=key-mgmt:") {
        Some(b"a=key-mgmt:".len())
    } else if starts(b"k=") {
        Some(b"k=".len())
    } else {
        None
    };
    if let Some(from) = secret_from {
        line[from..].fill(MASK);
    }
}

fn find(text: &[u8], word: &[u8]) -> Option<usize> {
    text.windows(word.len())
        .position(|window| window.eq_ignore_ascii_case(word))
}

/// Where the line after the one at `start` begins.
fn next_line(message: &[u8], start: usize) -> usize {
    let rest = &message[start..];
    match rest.iter().position(|byte| is_line_end(*byte)) {
        None => message.len(),
        Some(end) if rest[end] == b'\r' && rest.get(end + 1) == Some(&b'\n') => start + end + 2,
        Some(end) => start + end + 1,
    }
}

/// Keep-alives may come before a message of a stream.
fn skip_line_ends(message: &[u8]) -> usize {
    message
        .iter()
        .take_while(|byte| is_line_end(**byte))
        .count()
}

fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(message: &str) -> String {
        let mut bytes = message.as_bytes().to_vec();
        redact(&mut bytes);
        assert_eq!(bytes.len(), message.len(), "lengths stay true");
        String::from_utf8(bytes).expect("text")
    }

    const INVITE: &str = "INVITE sip:demo:pw9@example.com SIP/2.0\r\n\
        I : abc@host\r\n\
        Authorization : Digest username=\"ann\", realm=\"off,hook\", nonce=\"n0nce\",\r\n \
        uri=\"sip:demo@example.com\", response=\"5ecret\", cnonce = \"c\\\",0\", nc=00000001, qop=auth\r\n\
        CSeq: 7 INVITE\r\n\
        \r\n\
        v=0\r\n\
        k=clear:topsecret\r\n\
        a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9|2^20|1:4\r\n\
        a=ptime:20\r\n";

    #[test]
    fn a_message_is_placed_by_its_call_id_and_method_and_its_secrets_are_masked() {
        assert_eq!(call_id(INVITE.as_bytes()), Some("abc@host"));
        assert_eq!(sequence_method(INVITE.as_bytes()), Some("INVITE"));
        let kept = redacted(INVITE);
        for secret in [
            "n0nce",
            "5ecret",
            "c\\\"",
            "pw9",
            "topsecret",
            "WVNf",
            "2^20",
        ] {
            assert!(!kept.contains(secret), "{secret} in\n{kept}");
        }
        for plain in [
            "username=\"ann\", realm=\"off,hook\", nonce=\"*****\"",
            "uri=\"sip:demo@example.com\", response=\"******\"",
            "nc=00000001, qop=auth",
            "INVITE sip:demo:***@example.com SIP/2.0",
            "a=crypto:1 AES_CM_128_HMAC_SHA1_80 ***",
            "a=ptime:20",
        ] {
            assert!(kept.contains(plain), "{plain} not in\n{kept}");
        }
        assert_eq!(
            body(kept.as_bytes()),
            &kept.as_bytes()[kept.find("v=0").expect("body")..]
        );
    }

    #[test]
    fn other_schemes_and_authentication_info_are_masked_too() {
        let kept = redacted(
            "SIP/2.0 200 OK\nProxy-Authorization: Bearer eyJhbGci.x.y\n\
             authentication-info: nextnonce=\"47364c23\", rspauth=\"6629fae4\", qop=auth\n\n",
        );
        assert_eq!(
            kept,
            "SIP/2.0 200 OK\nProxy-Authorization: Bearer*************\n\
             authentication-info: nextnonce=\"********\", rspauth=\"********\", qop=auth\n\n"
        );
        let twice = redacted("R\r\nAuthorization: Digest nonce=abc, Digest response=\"x\"\r\n\r\n");
        assert!(
            !twice.contains("abc") && !twice.contains("\"x\""),
            "{twice}"
        );
    }

    #[test]
    fn what_is_no_message_is_read_without_harm() {
        for text in [
            "",
            "\r\n\r\n",
            "x",
            "a\r\n b\r\n",
            ":",
            "A:\r\n:\n\r\n",
            "sip:a:",
        ] {
            let mut bytes = text.as_bytes().to_vec();
            redact(&mut bytes);
            call_id(&bytes);
            first_line(&bytes);
            body(&bytes);
        }
        assert_eq!(first_line(b"\r\n\r\nSIP/2.0 200 OK\r\n"), "SIP/2.0 200 OK");
        let mut unended = b"R\r\nAuthorization: Digest response=\"abc".to_vec();
        redact(&mut unended);
        assert_eq!(unended, b"R\r\nAuthorization: Digest response=\"***");
    }
}
