//! What the endpoint keeps of one leg.
//!
//! ```text
//!   INVITE received                          INVITE sent: an early dialog for each callee
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

use super::api::{Credentials, LegId, PingId, Reason, RegistrationId, SubscriptionId};
use super::offered::Reply;
use super::provisional::ReliableResponses;
use super::referred::Referred;
use super::referring::Referral;
use crate::sip::auth::DigestClient;
use crate::sip::dialog::Dialog;
use crate::sip::extensions::Extensions;
use crate::sip::headers::{NameAddr, RAck};
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
    pub(super) reliable: ReliableResponses,
    /// The last provisional response, and when it is due again (RFC 3261 13.3.1.1).
    pub(super) provisional: Option<(Arc<[u8]>, u16, Instant)>,
    pub(super) give_up_at: Instant,
}

/// An outgoing call without a final response.
#[derive(Debug)]
pub(super) struct Calling {
    pub(super) transaction: ClientId,
    /// Without any response by then another way is tried.
    pub(super) answer_by: Option<Instant>,
    pub(super) give_up_at: Instant,
    pub(super) early: Vec<Early>,
}

/// What one callee of an outgoing call said so far.
#[derive(Debug)]
pub(super) struct Early {
    pub(super) session: Session,
    /// RSeq of its last reliable response.
    pub(super) last_reliable: Option<u32>,
    /// Its last description of the session, reliable or not.
    pub(super) described: Option<Vec<u8>>,
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
    /// A reliable provisional response whose PRACK was not there before our 2xx.
    pub(super) unconfirmed: Option<RAck>,
}

/// Which offer is open.
#[derive(Debug)]
pub(super) enum OfferState {
    /// None.
    Idle,
    /// That of the INVITE that makes the dialog, or the one that it asked for.
    Invited,
    /// Ours, in a re-INVITE or UPDATE.
    Sent {
        transaction: ClientId,
        draft: Draft,
        give_up_at: Instant,
    },
    /// Ours met 491 and waits to be sent again.
    Glare { draft: Draft, at: Instant },
    /// Theirs: the owner of the leg has not replied yet.
    Received {
        transaction: ServerId,
        request: Arc<Request>,
        offerless: bool,
        give_up_at: Instant,
    },
    /// Ours, in a response: the answer comes in the ACK or PRACK.
    InResponse,
    /// Theirs, in a response to a request of ours without one: our answer goes into the ACK or
    /// PRACK, and the owner of the leg has not given it yet.
    InTheirResponse {
        reply: Reply,
        offer: Vec<u8>,
        give_up_at: Instant,
    },
}

impl OfferState {
    pub(super) fn deadline(&self) -> Option<(Instant, &'static str)> {
        match self {
            Self::Glare { at, .. } => Some((*at, "glare")),
            Self::Sent { give_up_at, .. }
            | Self::Received { give_up_at, .. }
            | Self::InTheirResponse { give_up_at, .. } => Some((*give_up_at, "offer unanswered")),
            Self::Idle | Self::Invited | Self::InResponse => None,
        }
    }
}

/// An offer that we make.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    /// `None` asks the peer for one.
    pub(super) sdp: Option<Vec<u8>>,
    pub(super) means: Means,
    pub(super) asked: Asked,
    /// How often it was sent before.
    pub(super) attempt: u32,
}

/// The request that carries an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Means {
    Reinvite,
    Update,
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
            Phase::Ringing(ringing) => {
                let again = ringing.provisional.as_ref();
                let times = [
                    Some((ringing.give_up_at, "unanswered")),
                    again.map(|(_, _, at)| (*at, "provisional again")),
                    ringing.reliable.deadline(),
                    ringing.session.offer.deadline(),
                ];
                times.into_iter().flatten().min()
            }
            Phase::Calling(calling) => {
                let early = calling.early.iter();
                early
                    .filter_map(|early| early.session.offer.deadline())
                    .chain([(calling.give_up_at, "ring timeout")])
                    .chain(calling.answer_by.map(|at| (at, "no response")))
                    .min()
            }
            Phase::Established(session) | Phase::Closing(session) => session.deadline(),
        }
    }

    /// The sessions that may have an open offer.
    pub(super) fn sessions_mut(&mut self) -> impl Iterator<Item = &mut Session> {
        let (single, early): (_, &mut [Early]) = match &mut self.phase {
            Phase::Established(session) => (Some(session.as_mut()), &mut []),
            Phase::Ringing(ringing) => (Some(&mut ringing.session), &mut []),
            Phase::Calling(calling) => (None, &mut calling.early),
            Phase::Closing(_) => (None, &mut []),
        };
        let early = early.iter_mut().map(|early| &mut early.session);
        single.into_iter().chain(early)
    }

    /// The dialog with this remote tag. A leg has more than one only while it is calling.
    pub(super) fn dialog_with(&self, tag: Option<&str>) -> Option<&Dialog> {
        match &self.phase {
            Phase::Established(session) | Phase::Closing(session) => Some(&session.dialog),
            Phase::Ringing(ringing) => Some(&ringing.session.dialog),
            Phase::Calling(calling) => calling
                .early
                .iter()
                .map(|early| &early.session.dialog)
                .find(|dialog| dialog.remote_tag() == tag),
        }
    }

    /// The session of that dialog.
    pub(super) fn session_with(&mut self, tag: Option<&str>) -> Option<&mut Session> {
        match &mut self.phase {
            Phase::Established(session) | Phase::Closing(session) => Some(session),
            Phase::Ringing(ringing) => Some(&mut ringing.session),
            Phase::Calling(calling) => calling.early_with(tag).map(|early| &mut early.session),
        }
    }

    /// The session that a request of the peer's is in.
    pub(super) fn session_of(&mut self, request: &Request) -> Option<&mut Session> {
        let from = request.headers.from().ok()?;
        self.session_with(from.tag())
    }

    /// The early dialog of an outgoing call with this remote tag.
    pub(super) fn early_with(&mut self, tag: Option<&str>) -> Option<&mut Early> {
        match &mut self.phase {
            Phase::Calling(calling) => calling.early_with(tag),
            Phase::Ringing(_) | Phase::Established(_) | Phase::Closing(_) => None,
        }
    }

    /// The session with an offer that the owner has to reply to.
    pub(super) fn offered_session(&mut self) -> Option<&mut Session> {
        self.sessions_mut().find(|session| {
            matches!(
                session.offer,
                OfferState::Received { .. } | OfferState::InTheirResponse { .. }
            )
        })
    }

    /// The session that an offer of ours would change: the one there is, or the first that is
    /// settled while several ring.
    pub(super) fn free_session(&mut self) -> Option<&mut Session> {
        let calling = matches!(self.phase, Phase::Calling(_));
        self.sessions_mut()
            .find(|session| !calling || matches!(session.offer, OfferState::Idle))
    }

    /// The session of an established leg.
    pub(super) fn session_mut(&mut self) -> Option<&mut Session> {
        match &mut self.phase {
            Phase::Established(session) => Some(session),
            Phase::Ringing(_) | Phase::Calling(_) | Phase::Closing(_) => None,
        }
    }
}

impl Calling {
    fn early_with(&mut self, tag: Option<&str>) -> Option<&mut Early> {
        self.early
            .iter_mut()
            .find(|early| early.session.dialog.remote_tag() == tag)
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
            unconfirmed: None,
        }
    }

    fn deadline(&self) -> Option<(Instant, &'static str)> {
        let handshake = self
            .handshakes
            .iter()
            .map(|handshake| (handshake.resend_at.min(handshake.fail_at), "ACK"))
            .min();
        let times = [
            handshake,
            self.offer.deadline(),
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
    /// UPDATE with an offer.
    Update(LegId),
    /// UPDATE without one.
    Refresh(LegId),
    Prack(LegId),
    Bye(LegId),
    Info(LegId),
    Refer(LegId),
    Notify(LegId),
    /// BYE for a dialog that no leg has: a surplus answer, or one that met our CANCEL.
    SurplusBye,
    Cancel,
    Register(RegistrationId),
    /// OPTIONS to a registrar.
    KeepAlive(RegistrationId),
    Ping(PingId),
    /// NOTIFY in a subscription of its own.
    Tell(SubscriptionId),
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
    /// `None` while it waits for an answer of ours.
    pub(super) bytes: Option<Arc<[u8]>>,
    pub(super) hop: Hop,
}
