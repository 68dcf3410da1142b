//! What the end of a leg means for its call.

use crate::record::{EndedBy, EndedReason};
use crate::sip::endpoint::EndCause;

/// Who ended a leg, and why.
pub(super) fn ended(cause: &EndCause) -> (EndedReason, EndedBy) {
    match cause {
        EndCause::Local => (EndedReason::ManuallyCanceled, EndedBy::Operator),
        EndCause::RemoteBye { .. } => (EndedReason::CustomerEndedCall, EndedBy::Customer),
        EndCause::RemoteCancel { .. } => (EndedReason::CustomerCanceled, EndedBy::Customer),
        EndCause::Rejected {
            status: 486 | 600, ..
        } => (EndedReason::CustomerBusy, EndedBy::Customer),
        EndCause::Rejected { .. } => (EndedReason::CallRejected, EndedBy::Customer),
        EndCause::RingTimeout => (EndedReason::CustomerDidNotAnswer, EndedBy::Customer),
        EndCause::Unanswered => (EndedReason::InternalError, EndedBy::System),
        EndCause::NoResponse
        | EndCause::NoAck
        | EndCause::SessionExpired
        | EndCause::DialogLost { .. }
        | EndCause::TransportFailed => (EndedReason::SignallingTimedOut, EndedBy::System),
    }
}
