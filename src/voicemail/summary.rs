//! Message waiting indication (RFC 3842).

use crate::record::MailboxCounts;

/// The event package.
pub const MESSAGE_SUMMARY: &str = "message-summary";

/// The type of its bodies.
pub const SIMPLE_MESSAGE_SUMMARY: &str = "application/simple-message-summary";

/// The body of a NOTIFY (RFC 3842 section 5.2). `account` is the URI by which the mailbox is
/// known; urgent messages are not told apart.
pub fn message_summary(account: &str, counts: MailboxCounts) -> Vec<u8> {
    let waiting = if counts.new > 0 { "yes" } else { "no" };
    let MailboxCounts { new, saved } = counts;
    format!(
        "Messages-Waiting: {waiting}\r\nMessage-Account: {account}\r\n\
         Voice-Message: {new}/{saved} (0/0)\r\n"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_says_whether_and_how_many() {
        let counts = MailboxCounts { new: 2, saved: 8 };
        let body = message_summary("sip:200@pbx.example.com", counts);
        assert_eq!(
            String::from_utf8(body).expect("text"),
            "Messages-Waiting: yes\r\nMessage-Account: sip:200@pbx.example.com\r\n\
             Voice-Message: 2/8 (0/0)\r\n"
        );
        let none = message_summary("sip:a@b", MailboxCounts { new: 0, saved: 8 });
        assert!(none.starts_with(b"Messages-Waiting: no\r\n"));
    }
}
