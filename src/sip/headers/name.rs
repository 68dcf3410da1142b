//! Header names in their canonical and compact forms.

use std::fmt;
use std::hash::{Hash, Hasher};

macro_rules! header_names {
    ($($variant:ident $canonical:literal $(/ $compact:literal)?)*) => {
        /// A header's name. Compares without regard to case; a compact form is its long form.
        #[derive(Clone, Debug)]
        pub enum HeaderName {
            $(
                #[doc = concat!("`", $canonical, "`")]
                $variant,
            )*
            /// Any other name, as it was spelt.
            Other(String),
        }

        impl HeaderName {
            /// The name for this text, in any case, long or compact.
            pub fn new(text: &str) -> Self {
                const KNOWN: &[(&str, HeaderName)] = &[
                    $(
                        ($canonical, HeaderName::$variant),
                        $(($compact, HeaderName::$variant),)?
                    )*
                ];
                KNOWN
                    .iter()
                    .find(|(name, _)| name.eq_ignore_ascii_case(text))
                    .map_or_else(|| Self::Other(text.to_owned()), |(_, name)| name.clone())
            }

            /// The canonical spelling; for a name we do not know, the peer's.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $canonical,)*
                    Self::Other(name) => name,
                }
            }
        }
    };
}

header_names! {
    Accept "Accept"
    AcceptContact "Accept-Contact" / "a"
    AcceptEncoding "Accept-Encoding"
    AcceptLanguage "Accept-Language"
    AlertInfo "Alert-Info"
    Allow "Allow"
    AllowEvents "Allow-Events" / "u"
    Authorization "Authorization"
    CallId "Call-ID" / "i"
    CallInfo "Call-Info"
    Contact "Contact" / "m"
    ContentDisposition "Content-Disposition"
    ContentEncoding "Content-Encoding" / "e"
    ContentLength "Content-Length" / "l"
    ContentType "Content-Type" / "c"
    CSeq "CSeq"
    Date "Date"
    Diversion "Diversion"
    Event "Event" / "o"
    Expires "Expires"
    From "From" / "f"
    HistoryInfo "History-Info"
    Identity "Identity" / "y"
    IdentityInfo "Identity-Info" / "n"
    InfoPackage "Info-Package"
    MaxForwards "Max-Forwards"
    MinExpires "Min-Expires"
    MinSe "Min-SE"
    MimeVersion "MIME-Version"
    Organization "Organization"
    PAssertedIdentity "P-Asserted-Identity"
    PPreferredIdentity "P-Preferred-Identity"
    Path "Path"
    Privacy "Privacy"
    ProxyAuthenticate "Proxy-Authenticate"
    ProxyAuthorization "Proxy-Authorization"
    ProxyRequire "Proxy-Require"
    RAck "RAck"
    Reason "Reason"
    RecordRoute "Record-Route"
    RecvInfo "Recv-Info"
    ReferSub "Refer-Sub"
    ReferTo "Refer-To" / "r"
    ReferredBy "Referred-By" / "b"
    RejectContact "Reject-Contact" / "j"
    RemotePartyId "Remote-Party-ID"
    Replaces "Replaces"
    RequestDisposition "Request-Disposition" / "d"
    Require "Require"
    RetryAfter "Retry-After"
    Route "Route"
    RSeq "RSeq"
    Server "Server"
    ServiceRoute "Service-Route"
    SessionExpires "Session-Expires" / "x"
    Subject "Subject" / "s"
    SubscriptionState "Subscription-State"
    Supported "Supported" / "k"
    Timestamp "Timestamp"
    To "To" / "t"
    Unsupported "Unsupported"
    UserAgent "User-Agent"
    Via "Via" / "v"
    Warning "Warning"
    WwwAuthenticate "WWW-Authenticate"
}

impl PartialEq for HeaderName {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Other(a), Self::Other(b)) => a.eq_ignore_ascii_case(b),
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

impl Eq for HeaderName {}

impl Hash for HeaderName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        if let Self::Other(name) = self {
            name.to_ascii_lowercase().hash(state);
        }
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
