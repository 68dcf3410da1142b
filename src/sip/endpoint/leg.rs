//! What the endpoint keeps of one leg.
//!
//! ```text
//!   INVITE received                          INVITE sent
//!         |                                       |
//!         v                                       v
//!   +-----------+  CANCEL, BYE, reject      +-----------+  3xx-6xx, no response,
//!   |  Ringing  |-------------------> over  |  Calling  |------------------------> over
//!   +-----------+  hangup, too long         +-----------+  hangup, ring timeout
//!         | accept                                | 2xx: ACK     (CANCEL goes on without the leg)
//!         v                                       v
//!   +--------------------------------------------------+
//!   |                   Established                    |--- BYE received ---------> over
//!   |  UAS: 2xx is sent again until ACK                |
//!   +--------------------------------------------------+
//!         | hangup, no ACK, 481 or 408 to a request of ours: Ended is told
//!         v
//!   +--------------------------------------------------+
//!   |                     Closing                      |--- BYE answered, ---------> over
//!   |  BYE waits for the ACK (RFC 3261 15) or is out   |    BYE received and
//!   +--------------------------------------------------+    ours failed
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::api::{Credentials, LegId, PingId, Reason, RegistrationId};
use super::referred::Referred;
use super::referring::Referral;
use crate::sip::auth::DigestClient;
use crate::sip::dialog::Dialog;
use crate::sip::extensions::Extensions;
use crate::sip::headers::NameAddr;
use crate::sip::message::Request;
use crate::sip::session_timer::{Proposal, SessionTimer};
use crate::sip::transaction::{ClientId, ServerId};
use crate::sip::transport::{Hop, TransportId};

/// One leg.
#[derive(Debug)]
pub(super) struct Leg {
    pub(super) path: Path,
    pub(super) call_id: String,
    pub(super) local_tag: String,
    pub(super) contact: NameAddr,
    pub(super) extensions: Extensions,
    pub(super) digest: Option<Box<DigestClient>>,
    pub(super) phase: Phase,
}

/// How the peer is reached.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    pub(super) transport: TransportId,
    /// Where its INVITE came from, or where ours went.
    pub(super) peer: SocketAddr,
    /// Its Contact is an address that only its own network knows.
    pub(super) behind_nat: bool,
    /// `peer` is the port that it connected from, where nothing listens.
    pub(super) accepted: bool,
}

#[derive(Debug)]
pub(super) enum Phase {
    Ringing(Box<Ringing>),
    Calling(Calling),
    Established(Box<Session>),
    Closing(Box<Session>),
}

/// An incoming call without a final response.
#[derive(Debug)]
pub(super) struct Ringing {
    pub(super) transaction: ServerId,
    pub(super) request: Arc<Request>,
    pub(super) session: Session,
    pub(super) offerless: bool,
    /// The last provisional response, and when it is due again (RFC 3261 13.3.1.1).
    pub(super) provisional: Option<(Arc<[u8]>, u16, Instant)>,
    pub(super) give_up_at: Instant,
}

/// An outgoing call without a final response.
#[derive(Debug)]
pub(super) struct Calling {
    pub(super) transaction: ClientId,
    pub(super) give_up_at: Instant,
}

/// A dialog with a session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) dialog: Dialog,
    /// Whether we sent the INVITE that made the dialog, and so own its Call-ID (RFC 3261 14.1).
    pub(super) caller: bool,
    pub(super) offer: OfferState,
    /// What both sides agreed on last, for a refresh that must repeat ours, and to see whether
    /// its answer changed theirs.
    pub(super) local_description: Vec<u8>,
    pub(super) remote_description: Vec<u8>,
    pub(super) timer: Option<SessionTimer>,
    /// The peer takes UPDATE.
    pub(super) peer_updates: bool,
    pub(super) handshakes: Vec<Handshake>,
    pub(super) bye: ByeState,
    /// The transfer that we asked for.
    pub(super) referral: Referral,
    /// The transfer that the peer asked for.
    pub(super) referred: Referred,
    /// It asked for one before.
    pub(super) was_referred: bool,
}

/// Which offer is open.
#[derive(Debug)]
pub(super) enum OfferState {
    /// None.
    Idle,
    /// Ours, in a re-INVITE.
    Sent {
        transaction: ClientId,
        sdp: Vec<u8>,
        attempt: u32,
        asked: Asked,
        give_up_at: Instant,
    },
    /// Ours met 491 and waits to be sent again.
    Glare {
        sdp: Vec<u8>,
        attempt: u32,
        asked: Asked,
        at: Instant,
    },
    /// Theirs: the owner of the leg has not replied yet.
    Received {
        transaction: ServerId,
        request: Arc<Request>,
        offerless: bool,
        give_up_at: Instant,
    },
    /// Ours, in a 2xx: the answer comes in the ACK.
    InResponse,
}

/// Why we make an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// The owner of the leg wants to change the session, and is told the outcome.
    ByOwner,
    /// The session's timer wants it refreshed as it is.
    ToRefresh,
}

/// A 2xx to INVITE that waits for its ACK (RFC 3261 13.3.1.4).
#[derive(Debug)]
pub(super) struct Handshake {
    pub(super) sequence: u32,
    pub(super) bytes: Arc<[u8]>,
    pub(super) hop: Hop,
    pub(super) interval: Duration,
    pub(super) resend_at: Instant,
    pub(super) fail_at: Instant,
    /// It answered the INVITE that made the dialog.
    pub(super) initial: bool,
    /// The ACK brings the answer.
    pub(super) answer_due: bool,
}

#[derive(Debug)]
pub(super) enum ByeState {
    /// The session lives.
    None,
    /// It must not be sent before the ACK.
    AwaitingAck(Option<Reason>),
    /// Sent.
    Sent,
}

impl Leg {
    /// When the leg itself wants the time, and why.
    pub(super) fn deadline(&self) -> Option<(Instant, &'static str)> {
        match &self.phase {
            Phase::Ringing(ringing) => match &ringing.provisional {
                Some((_, _, at)) if *at < ringing.give_up_at => Some((*at, "provisional again")),
                _ => Some((ringing.give_up_at, "unanswered")),
            },
            Phase::Calling(calling) => Some((calling.give_up_at, "ring timeout")),
            Phase::Established(session) | Phase::Closing(session) => session.deadline(),
        }
    }

    /// The session of an established leg.
    pub(super) fn session_mut(&mut self) -> Option<&mut Session> {
        match &mut self.phase {
            Phase::Established(session) => Some(session),
            Phase::Ringing(_) | Phase::Calling(_) | Phase::Closing(_) => None,
        }
    }
}

impl Session {
    pub(super) fn new(dialog: Dialog, caller: bool) -> Self {
        Self {
            dialog,
            caller,
            offer: OfferState::Idle,
            local_description: Vec::new(),
            remote_description: Vec::new(),
            timer: None,
            peer_updates: false,
            handshakes: Vec::new(),
            bye: ByeState::None,
            referral: Referral::None,
            referred: Referred::None,
            was_referred: false,
        }
    }

    fn deadline(&self) -> Option<(Instant, &'static str)> {
        let handshake = self
            .handshakes
            .iter()
            .map(|handshake| (handshake.resend_at.min(handshake.fail_at), "ACK"))
            .min();
        let offer = match &self.offer {
            OfferState::Glare { at, .. } => Some((*at, "glare")),
            OfferState::Sent { give_up_at, .. } | OfferState::Received { give_up_at, .. } => {
                Some((*give_up_at, "offer unanswered"))
            }
            OfferState::Idle | OfferState::InResponse => None,
        };
        let times = [
            handshake,
            offer,
            self.timer.as_ref().map(SessionTimer::deadline),
            self.referral.deadline(),
            self.referred.deadline(),
        ];
        times.into_iter().flatten().min()
    }
}

/// On whose behalf a client transaction runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Invite(LegId),
    Reinvite(LegId),
    /// UPDATE without an offer.
    Refresh(LegId),
    Bye(LegId),
    Info(LegId),
    Refer(LegId),
    Notify(LegId),
    /// BYE for a dialog that no leg has: a surplus answer, or one that met our CANCEL.
    SurplusBye,
    Cancel,
    Register(RegistrationId),
    Ping(PingId),
}

/// What goes with a client transaction.
#[derive(Debug)]
pub(super) struct Owner {
    pub(super) purpose: Purpose,
    pub(super) path: Path,
    /// INVITE: to be cancelled as soon as that is allowed, with this Reason.
    pub(super) cancel: Option<Option<Reason>>,
    /// INVITE: the ACK of each 2xx, by To tag.
    pub(super) acks: Vec<SentAck>,
    /// re-INVITE: the dialog, should the leg be gone when the 2xx comes.
    pub(super) dialog: Option<Box<Dialog>>,
    /// INVITE and surplus BYE: for a challenge when no leg is left to meet it.
    pub(super) credentials: Option<Credentials>,
    /// How often the same request was challenged.
    pub(super) challenges: u8,
    /// INVITE and UPDATE: what it asks of the session's timer.
    pub(super) proposal: Option<Proposal>,
    /// It goes by TCP for its size, and would else go here.
    pub(super) datagram: Option<Hop>,
}

/// A server can call every nonce stale; after this many challenges a request is given up.
pub(super) const MAX_CHALLENGES: u8 = 3;

impl Owner {
    pub(super) fn new(purpose: Purpose, path: Path) -> Self {
        Self {
            purpose,
            path,
            cancel: None,
            acks: Vec::new(),
            dialog: None,
            credentials: None,
            challenges: 0,
            proposal: None,
            datagram: None,
        }
    }
}

/// An ACK of ours, to be sent again for each 2xx that is.
#[derive(Clone, Debug)]
pub(super) struct SentAck {
    pub(super) to_tag: Option<String>,
    pub(super) bytes: Arc<[u8]>,
    pub(super) hop: Hop,
}
