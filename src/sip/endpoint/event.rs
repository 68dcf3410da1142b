//! What the endpoint tells the owners of legs and registrations.

use std::net::SocketAddr;

use super::api::{
    EndCause, LegId, PingId, ReferOutcome, RegistrationId, RegistrationState, SubscriptionId,
    TransportId,
};
use crate::sip::headers::{Headers, NameAddr, Replaces};
use crate::sip::uri::Uri;

/// An INVITE that wants to become a call.
#[derive(Clone, Debug)]
pub struct IncomingCall {
    /// The new leg. 100 was sent already.
    pub leg: LegId,
    /// The socket it came in on.
    pub transport: TransportId,
    /// Where it came from.
    pub source: SocketAddr,
    /// Request-URI: what was dialled.
    pub request_uri: Uri,
    /// From.
    pub from: NameAddr,
    /// To.
    pub to: NameAddr,
    /// Call-ID.
    pub call_id: String,
    /// The digest user, where the call was challenged.
    pub authenticated: Option<String>,
    /// SDP offer; `None` asks that `accept` brings the offer and [`Event::Confirmed`] the answer.
    pub offer: Option<Vec<u8>>,
    /// The leg, established or an outgoing one that rings, whose place the caller wants to take (RFC 3891). Hang that leg up
    /// once this one is accepted, or refuse.
    pub replaces: Option<LegId>,
    /// All header fields, for P-Asserted-Identity, Diversion, X- headers and the like.
    pub headers: Headers,
}

/// A REFER inside a call.
#[derive(Clone, Debug)]
pub struct ReferRequested {
    /// The leg it came in on.
    pub leg: LegId,
    /// Whom to call, without the headers that the URI brought.
    pub refer_to: NameAddr,
    /// On whose behalf, as the peer claims (RFC 3892).
    pub referred_by: Option<NameAddr>,
    /// The target's dialog whose place the new call takes: give it to the INVITE.
    pub replaces: Option<Replaces>,
}

/// A SUBSCRIBE outside of dialogs.
#[derive(Clone, Debug)]
pub struct SubscribeRequested {
    /// The new subscription.
    pub id: SubscriptionId,
    /// Where it came from.
    pub source: SocketAddr,
    /// The event package, one of those that we have.
    pub package: String,
    /// Request-URI: whose state is wanted.
    pub resource: Uri,
    /// Who wants it, as they say.
    pub from: NameAddr,
    /// The digest user, where the request was challenged.
    pub authenticated: Option<String>,
}

/// What the endpoint tells. [`Event::Ended`] is the last one of a leg.
#[derive(Clone, Debug)]
pub enum Event {
    /// Somebody calls.
    IncomingCall(Box<IncomingCall>),
    /// A provisional response to our INVITE (101-199).
    Progress {
        /// The leg.
        leg: LegId,
        /// 180, 183, ...
        status: u16,
        /// Early media description.
        sdp: Option<Vec<u8>>,
    },
    /// Our INVITE was answered; the ACK is out.
    Answered {
        /// The leg.
        leg: LegId,
        /// The SDP answer. Empty where the peer sent none in the 2xx (it came in a reliable
        /// provisional response, or the peer is broken).
        sdp: Vec<u8>,
    },
    /// The ACK for our 2xx came: an incoming call is established.
    Confirmed {
        /// The leg.
        leg: LegId,
        /// The SDP answer in the ACK, where `accept` brought the offer.
        answer: Option<Vec<u8>>,
    },
    /// The peer wants to change the session (re-INVITE, UPDATE or PRACK), or brings the offer
    /// that a request of ours asked for. Reply with `answer_offer` or `reject_offer`; the peer
    /// waits, and after 64·T1, or half of that for one in a response, it is refused for you.
    /// Over a lossy network it may come before [`Event::Confirmed`].
    Offer {
        /// The leg.
        leg: LegId,
        /// The SDP offer; `None` asks that `answer_offer` brings an offer of ours, whose answer
        /// comes as [`Event::Answer`].
        sdp: Option<Vec<u8>>,
    },
    /// An offer that was not replied to yet is void (the peer cancelled it or hung up on it);
    /// keep the session as it was.
    OfferWithdrawn {
        /// The leg.
        leg: LegId,
    },
    /// The peer's answer to `reinvite`, or to the offer that `answer_offer` brought.
    Answer {
        /// The leg.
        leg: LegId,
        /// The SDP answer.
        sdp: Vec<u8>,
    },
    /// The peer refused `reinvite`; the session stays as it was.
    OfferRefused {
        /// The leg.
        leg: LegId,
        /// Its final status, 408 where none came.
        status: u16,
    },
    /// INFO in a dialog, already answered 200.
    Info {
        /// The leg.
        leg: LegId,
        /// Content-Type, lower case, without parameters.
        content_type: String,
        /// The body.
        body: Vec<u8>,
    },
    /// How far the peer's call to the target of our REFER is, told in NOTIFY.
    ReferProgress {
        /// The leg that the REFER went out on.
        leg: LegId,
        /// 100 to 199.
        status: u16,
    },
    /// Our REFER is over; comes once for each.
    ReferFinished {
        /// The leg that the REFER went out on.
        leg: LegId,
        /// How it ended.
        outcome: ReferOutcome,
    },
    /// The peer wants us to call somebody and transfer it there. Reply with `accept_refer` or
    /// `reject_refer` within 16·T1; after that it is refused for you.
    ReferRequested(Box<ReferRequested>),
    /// The leg is over; commands for it fail from now on.
    Ended {
        /// The leg.
        leg: LegId,
        /// Why.
        cause: EndCause,
    },
    /// A registration changed.
    Registration {
        /// The registration.
        id: RegistrationId,
        /// Where it stands.
        state: RegistrationState,
    },
    /// A peer wants to be told of changes. Reply with `accept_subscription` or
    /// `reject_subscription` within 16·T1; after that it is refused for you.
    SubscribeRequested(Box<SubscribeRequested>),
    /// A subscription that was accepted is over.
    SubscriptionEnded {
        /// The subscription.
        id: SubscriptionId,
    },
    /// A peer answered our OPTIONS, or NOTIFY without a subscription, or did not.
    Ping {
        /// The OPTIONS or NOTIFY.
        id: PingId,
        /// The final status, `None` where none came.
        status: Option<u16>,
    },
}

impl Event {
    /// The leg it belongs to.
    pub fn leg(&self) -> Option<LegId> {
        match self {
            Self::IncomingCall(call) => Some(call.leg),
            Self::ReferRequested(request) => Some(request.leg),
            Self::Progress { leg, .. }
            | Self::Answered { leg, .. }
            | Self::Confirmed { leg, .. }
            | Self::Offer { leg, .. }
            | Self::OfferWithdrawn { leg }
            | Self::Answer { leg, .. }
            | Self::OfferRefused { leg, .. }
            | Self::Info { leg, .. }
            | Self::ReferProgress { leg, .. }
            | Self::ReferFinished { leg, .. }
            | Self::Ended { leg, .. } => Some(*leg),
            Self::Registration { .. }
            | Self::SubscribeRequested(_)
            | Self::SubscriptionEnded { .. }
            | Self::Ping { .. } => None,
        }
    }
}
