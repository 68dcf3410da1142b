//! `message/sipfrag` as NOTIFYs of a transfer carry it (RFC 3420, RFC 3515 section 2.4.5): the
//! status line of the answer that the new call got.

use super::message::StatusCode;

/// The media type.
pub const SIPFRAG: &str = "message/sipfrag";

/// The status in the first line of `body`; `None` where that is no status line.
pub fn status(body: &[u8]) -> Option<StatusCode> {
    let text = std::str::from_utf8(body).ok()?;
    let line = text.trim_start_matches(['\r', '\n']).lines().next()?;
    let (version, rest) = line.split_once(' ')?;
    if !version.eq_ignore_ascii_case("SIP/2.0") {
        return None;
    }
    let code = rest.split_ascii_whitespace().next()?;
    if code.len() != 3 {
        return None;
    }
    StatusCode::new(code.parse().ok()?)
}

/// A body that says `status`.
pub fn body(status: StatusCode) -> Vec<u8> {
    format!("SIP/2.0 {status} {}\r\n", status.reason_phrase()).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(body: &str) -> Option<u16> {
        status(body.as_bytes()).map(StatusCode::code)
    }

    #[test]
    fn the_status_line_is_read_whatever_follows() {
        assert_eq!(code("SIP/2.0 200 OK"), Some(200));
        assert_eq!(
            code("SIP/2.0 486 Busy Here\r\nServer: x\r\n\r\n"),
            Some(486)
        );
        assert_eq!(code("\r\nsip/2.0 603\r\n"), Some(603));
        assert_eq!(code("SIP/2.0  180  Ringing\r\n"), Some(180));
    }

    #[test]
    fn what_is_no_status_line_says_nothing() {
        for body in [
            "",
            "200 OK",
            "SIP/2.0",
            "SIP/2.0 ",
            "SIP/2.0 20 OK",
            "SIP/2.0 999 ?",
            "INVITE sip:a@b SIP/2.0",
            "SIP/3.0 200 OK",
        ] {
            assert_eq!(code(body), None, "{body}");
        }
        assert_eq!(status(b"SIP/2.0 200 \xff"), None);
    }

    #[test]
    fn our_own_body_is_read_back() {
        let ringing = StatusCode::new(180).unwrap();
        assert_eq!(status(&body(ringing)), Some(ringing));
    }
}
