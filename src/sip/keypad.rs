//! Keys in INFO: `application/dtmf-relay` and `application/dtmf`, as PBXs send them.

/// The key that an INFO says was pressed.
pub fn key(content_type: &str, body: &[u8]) -> Option<char> {
    let text = std::str::from_utf8(body).ok()?;
    let value = match content_type {
        "application/dtmf-relay" => text.lines().find_map(|line| {
            let (name, value) = line.split_once('=')?;
            name.trim().eq_ignore_ascii_case("signal").then_some(value)
        })?,
        "application/dtmf" => text,
        _ => return None,
    };
    match value.trim() {
        "10" => Some('*'),
        "11" => Some('#'),
        value => {
            let mut letters = value.chars();
            let key = letters.next()?.to_ascii_uppercase();
            let known = matches!(key, '0'..='9' | '*' | '#' | 'A'..='D');
            (known && letters.next().is_none()).then_some(key)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_in_two_forms_and_nothing_else_is_one() {
        let relay = "application/dtmf-relay";
        assert_eq!(key(relay, b"Signal=5\r\nDuration=160\r\n"), Some('5'));
        assert_eq!(key(relay, b"Duration=160\r\nsignal = * \r\n"), Some('*'));
        assert_eq!(key(relay, b"Signal=11\r\n"), Some('#'));
        assert_eq!(key("application/dtmf", b"d"), Some('D'));
        for (kind, body) in [
            (relay, b"Duration=160".as_slice()),
            (relay, b"Signal=\r\n".as_slice()),
            (relay, b"Signal=123".as_slice()),
            ("application/dtmf", b"\xff".as_slice()),
            ("text/plain", b"5".as_slice()),
        ] {
            assert_eq!(key(kind, body), None, "{kind} {body:?}");
        }
    }
}
