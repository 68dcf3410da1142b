//! What must hold of the headers before anyone acts on a message (RFC 3261 sections 8.1.1,
//! 8.2 and 16.3). Other headers are typed, and their faults found, where they are used.

use crate::sip::headers::Headers;
use crate::sip::message::Method;

use super::ParseErrorKind;

/// A request must say who, whom, which and how back; what a dialog would be built from must be
/// readable. Max-Forwards may be missing, as it is from peers of RFC 2543.
pub(super) fn check_request(method: &Method, headers: &Headers) -> Result<(), ParseErrorKind> {
    headers.vias()?;
    headers.from()?;
    headers.to()?;
    headers.call_id()?;
    if headers.cseq()?.method != *method {
        return Err(ParseErrorKind::CSeqMethod);
    }
    headers.max_forwards()?;
    headers.contacts()?;
    headers.routes()?;
    headers.record_routes()?;
    Ok(())
}

/// A response must say what it answers.
pub(super) fn check_response(headers: &Headers) -> Result<(), ParseErrorKind> {
    headers.vias()?;
    headers.from()?;
    headers.to()?;
    headers.call_id()?;
    headers.cseq()?;
    Ok(())
}
