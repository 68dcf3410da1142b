//! What the end of an unanswered call of ours is called.

use crate::record::{EndedBy, EndedReason};
use crate::sip::endpoint::EndCause;

/// The outcome of a call of ours that was not answered. `rang` is whether a provisional response
/// said that somebody's telephone rang.
pub(in crate::call) fn outcome(cause: &EndCause, rang: bool) -> (EndedReason, EndedBy) {
    match cause {
        EndCause::Local => (EndedReason::ManuallyCanceled, EndedBy::Operator),
        EndCause::Rejected { status, .. } => rejected(*status, rang),
        // Not even a provisional response: nobody is there.
        EndCause::RingTimeout if !rang => {
            (EndedReason::SipGatewayFailedToConnectCall, EndedBy::System)
        }
        EndCause::RingTimeout => (EndedReason::CustomerDidNotAnswer, EndedBy::Customer),
        EndCause::RemoteBye { .. } => (EndedReason::CustomerEndedCall, EndedBy::Customer),
        EndCause::NoResponse
        | EndCause::TransportFailed
        | EndCause::DialogLost { .. }
        | EndCause::RemoteCancel { .. }
        | EndCause::Unanswered
        | EndCause::SessionExpired
        | EndCause::NoAck => (EndedReason::SipGatewayFailedToConnectCall, EndedBy::System),
    }
}

/// RFC 3261 section 21, and what carriers make of it.
fn rejected(status: u16, rang: bool) -> (EndedReason, EndedBy) {
    match status {
        // The trunk wants somebody else to be called, and that is not allowed.
        300..=399 => (EndedReason::SipOutboundRedirectRefused, EndedBy::System),
        // Our credentials, or our right to call this number.
        401 | 402 | 403 | 407 => (EndedReason::SipOutboundForbidden, EndedBy::System),
        404 | 410 | 414 | 416 | 484 | 485 | 604 => {
            (EndedReason::SipOutboundNumberInvalid, EndedBy::System)
        }
        408 if !rang => (EndedReason::SipGatewayFailedToConnectCall, EndedBy::System),
        408 | 480 | 487 => (EndedReason::CustomerDidNotAnswer, EndedBy::Customer),
        486 | 600 => (EndedReason::CustomerBusy, EndedBy::Customer),
        415 | 488 | 606 => (EndedReason::IncompatibleMedia, EndedBy::System),
        430 | 500..=599 => (EndedReason::SipOutboundServerFailed, EndedBy::System),
        _ => (EndedReason::CallRejected, EndedBy::Customer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(status: u16, rang: bool) -> String {
        rejected(status, rang).0.to_string()
    }

    #[test]
    fn every_failure_has_a_name() {
        let cases = [
            (302, "sip-outbound-redirect-refused"),
            (403, "sip-outbound-forbidden"),
            (407, "sip-outbound-forbidden"),
            (404, "sip-outbound-number-invalid"),
            (484, "sip-outbound-number-invalid"),
            (604, "sip-outbound-number-invalid"),
            (480, "customer-did-not-answer"),
            (486, "customer-busy"),
            (600, "customer-busy"),
            (488, "incompatible-media"),
            (500, "sip-outbound-server-failed"),
            (503, "sip-outbound-server-failed"),
            (603, "call-rejected"),
            (433, "call-rejected"),
        ];
        for (status, name) in cases {
            assert_eq!(named(status, true), name, "{status}");
        }
        assert_eq!(named(408, true), "customer-did-not-answer");
        assert_eq!(named(408, false), "sip-gateway-failed-to-connect-call");
    }
}
