//! Who calls, and whom they first called, by the header fields that a peer is trusted in.

use serde::Deserialize;

use super::headers::{HeaderName, Headers, NameAddr};
use super::uri::{Host, Uri};

/// A header field that says who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CallerHeader {
    /// From, which anybody can write anything into.
    From,
    /// P-Asserted-Identity (RFC 3325).
    PAssertedIdentity,
    /// Remote-Party-ID, its draft predecessor.
    RemotePartyId,
}

/// Who calls: the first of `trusted` that is there and names somebody.
pub fn caller(headers: &Headers, trusted: &[CallerHeader]) -> Option<NameAddr> {
    trusted.iter().find_map(|header| {
        let found = match header {
            CallerHeader::From => headers.from().ok(),
            CallerHeader::PAssertedIdentity => headers
                .p_asserted_identity()
                .ok()
                .and_then(|all| all.into_iter().next()),
            CallerHeader::RemotePartyId => {
                let value = headers.get(&HeaderName::RemotePartyId)?;
                value.parse().ok()
            }
        };
        found.filter(|address: &NameAddr| !is_anonymous(address))
    })
}

/// Who calls, as we say it of ourselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The number that we call from, at the peer's domain.
    pub caller: Uri,
    /// What From has where `caller` must not be there: the peer knows its customers by it.
    pub account: Option<Uri>,
    /// The header field that says it, beside From.
    pub shown_in: CallerHeader,
    /// The person called shall not see it (RFC 3323, RFC 3325).
    pub hidden: bool,
}

impl Identity {
    /// From, and the header fields that go with it.
    pub fn written(&self) -> (NameAddr, Vec<(String, String)>) {
        let mut headers = Vec::new();
        let caller = &self.caller;
        match self.shown_in {
            CallerHeader::From => {}
            CallerHeader::PAssertedIdentity => {
                headers.push(("P-Asserted-Identity".to_owned(), format!("<{caller}>")));
            }
            CallerHeader::RemotePartyId => {
                let privacy = if self.hidden { "full" } else { "off" };
                let value = format!("<{caller}>;party=calling;privacy={privacy}");
                headers.push(("Remote-Party-ID".to_owned(), value));
            }
        }
        if self.hidden {
            headers.push(("Privacy".to_owned(), "id".to_owned()));
        }
        let from = match (&self.account, self.shown_in) {
            (Some(account), _) => NameAddr::new(account.clone()),
            // A peer that is told in no other way needs From.
            (None, CallerHeader::From) => NameAddr::new(caller.clone()),
            (None, _) if self.hidden => anonymous(),
            (None, _) => NameAddr::new(caller.clone()),
        };
        (from, headers)
    }
}

/// RFC 3323 section 4.1.1.3.
fn anonymous() -> NameAddr {
    let host = Host::Name("anonymous.invalid".to_owned());
    NameAddr::new(Uri::sip(Some("anonymous"), host, None)).with_display_name("Anonymous")
}

/// RFC 3323: `anonymous@anonymous.invalid` and what is like it.
fn is_anonymous(address: &NameAddr) -> bool {
    match address.uri.user() {
        None => true,
        Some(user) => ["anonymous", "unavailable", "restricted", "unknown", ""]
            .iter()
            .any(|name| user.eq_ignore_ascii_case(name)),
    }
}

/// Whom the call was for before it was diverted to us: the first diverting party, whose mailbox
/// or secretary we are (RFC 5806; RFC 7044 otherwise).
pub fn diverted_from(headers: &Headers) -> Option<NameAddr> {
    // The latest diversion is the first of the list.
    if let Some(first) = headers.diversion().ok().and_then(|mut all| all.pop()) {
        return Some(first);
    }
    let history = headers.history_info().ok()?;
    // One entry is where the call is now.
    (history.len() > 1).then(|| history.into_iter().next())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(fields: &[(HeaderName, &str)]) -> Headers {
        let mut headers = Headers::new();
        for (name, value) in fields {
            headers.push(name.clone(), value);
        }
        headers
    }

    fn user(address: Option<NameAddr>) -> Option<String> {
        Some(address?.uri.user()?.into_owned())
    }

    const ALL: [CallerHeader; 3] = [
        CallerHeader::PAssertedIdentity,
        CallerHeader::RemotePartyId,
        CallerHeader::From,
    ];

    #[test]
    fn the_caller_is_whom_the_first_trusted_header_names() {
        let headers = with(&[
            (HeaderName::From, "<sip:anonymous@anonymous.invalid>;tag=1"),
            (
                HeaderName::PAssertedIdentity,
                "\"Ann\" <sip:+15550001@c>, <tel:+15550001>",
            ),
            (HeaderName::RemotePartyId, "<sip:+15550002@c>;party=calling"),
        ]);
        assert_eq!(user(caller(&headers, &ALL)), Some("+15550001".to_owned()));
        assert_eq!(
            user(caller(&headers, &ALL[1..])),
            Some("+15550002".to_owned())
        );
        assert_eq!(user(caller(&headers, &ALL[2..])), None, "anonymous");
        let broken = with(&[
            (HeaderName::From, "<sip:200@pbx>;tag=1"),
            (HeaderName::PAssertedIdentity, "<<>"),
        ]);
        assert_eq!(user(caller(&broken, &ALL)), Some("200".to_owned()));
    }

    #[test]
    fn who_calls_is_written_where_the_peer_looks_for_it() {
        let plain = Identity {
            caller: "sip:+4930555@c".parse().expect("a URI"),
            account: None,
            shown_in: CallerHeader::From,
            hidden: false,
        };
        let (from, headers) = plain.written();
        assert_eq!(from.uri, plain.caller);
        assert!(headers.is_empty());
        let asserted = Identity {
            shown_in: CallerHeader::PAssertedIdentity,
            hidden: true,
            ..plain.clone()
        };
        let (from, headers) = asserted.written();
        assert_eq!(from.uri.to_string(), "sip:anonymous@anonymous.invalid");
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let pai = field("P-Asserted-Identity", "<sip:+4930555@c>");
        assert_eq!(headers, [pai, field("Privacy", "id")]);
        let of_account = Identity {
            account: Some("sip:200@c".parse().expect("a URI")),
            shown_in: CallerHeader::RemotePartyId,
            hidden: true,
            ..plain
        };
        let (from, headers) = of_account.written();
        assert_eq!(from.uri.to_string(), "sip:200@c", "the account stays known");
        let rpid = "<sip:+4930555@c>;party=calling;privacy=full";
        let rpid = field("Remote-Party-ID", rpid);
        assert_eq!(headers, [rpid, field("Privacy", "id")]);
    }

    #[test]
    fn the_first_diverting_party_is_whom_the_call_was_for() {
        let headers = with(&[
            (HeaderName::Diversion, "<sip:second@c>;reason=no-answer"),
            (HeaderName::Diversion, "<sip:first@c>;reason=user-busy"),
        ]);
        assert_eq!(user(diverted_from(&headers)), Some("first".to_owned()));
        let headers = with(&[(
            HeaderName::HistoryInfo,
            "<sip:first@c?Reason=SIP%3Bcause%3D302>;index=1, <sip:us@c>;index=1.1",
        )]);
        assert_eq!(user(diverted_from(&headers)), Some("first".to_owned()));
        let headers = with(&[(HeaderName::HistoryInfo, "<sip:us@c>;index=1")]);
        assert_eq!(user(diverted_from(&headers)), None);
    }
}
