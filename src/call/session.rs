//! One leg of a call with its session: what was offered, answered and negotiated, and the media
//! that follows from it.
//!
//! ```text
//!            hold, resume: `wanted` changes
//!                        │
//!   wanted = agreed      ▼        answer: agreed = wanted
//!  ┌─────────┐        ┌──────┐ ────────────────────────────┐
//!  │ Settled │◀───────│ Open │ 491, ours and theirs crossed │
//!  └─────────┘ refused└──────┘ ─────────▶ Waiting ──pause──▶ Open
//!       ▲              for good            (some tries)     │
//!       └───────────────────────────────────────────────────┘
//! ```
//!
//! The endpoint sees to glare on the wire (RFC 3261 14.1); `Waiting` is for offers that could not
//! even be sent because another one was open on our side.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::trunk::Keys;
use crate::audio::dtmf::Detector;
use crate::ids::TrunkName;
use crate::net::media::{MediaStream, Tick};
use crate::net::sip::{LegCommand, Sip};
use crate::record::CallRecord;
use crate::sdp::{self, Direction, LocalMedia, Negotiated};
use crate::sip::endpoint::{Event, Hangup, LegId};

/// Until an offer that met another one is made again.
const OFFER_AGAIN: Duration = Duration::from_millis(700);

/// Offers that met another one before the session is left as it is.
const MOST_TRIES: u32 = 20;

/// Where our own offer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ours {
    Settled,
    Open { direction: Direction, tries: u32 },
    Waiting { until: Instant, tries: u32 },
}

/// One leg that was answered, with everything that comes from it.
pub(super) struct Party {
    pub(super) leg: LegId,
    /// The trunk it goes through.
    pub(super) trunk: Option<TrunkName>,
    pub(super) session: Session,
    pub(super) events: mpsc::Receiver<Event>,
    pub(super) ticks: mpsc::Receiver<Tick>,
    /// How its media is encrypted, where it is.
    pub(super) srtp: Option<String>,
    /// Its codec, in SDP's spelling.
    pub(super) codec: &'static str,
    /// How it sends keys.
    pub(super) keys: Keys,
    /// It can be asked to call somebody else.
    pub(super) refer: bool,
}

impl Party {
    /// Writes down how it is spoken with.
    pub(super) fn note(&self, record: &mut CallRecord) {
        record.codec = Some(self.codec.to_owned());
        record.srtp.clone_from(&self.srtp);
    }

    /// What hears its keys, where they come as tones.
    pub(super) fn tones(&self) -> Option<Detector> {
        (self.keys == Keys::Inband).then(Detector::new)
    }
}

/// A leg that was answered.
pub(super) struct Session {
    sip: Sip,
    leg: LegId,
    /// What we say of ourselves; its direction is what we want.
    local: LocalMedia,
    negotiated: Negotiated,
    /// The direction of ours that the peer knows of.
    agreed: Direction,
    ours: Ours,
    pub(super) stream: MediaStream,
}

impl Session {
    pub(super) fn new(
        sip: Sip,
        leg: LegId,
        local: LocalMedia,
        negotiated: Negotiated,
        stream: MediaStream,
    ) -> Self {
        stream.set_sending(negotiated.direction.sends());
        let local = LocalMedia {
            encryption: if negotiated.crypto.is_some() {
                local.encryption.kept()
            } else {
                local.encryption
            },
            ..local
        };
        Self {
            sip,
            leg,
            agreed: local.direction,
            local,
            negotiated,
            ours: Ours::Settled,
            stream,
        }
    }

    /// The peer does not want to hear us.
    pub(super) fn peer_holds(&self) -> bool {
        self.negotiated.remote_hold
    }

    /// Keys come in RTP (RFC 4733).
    pub(super) fn has_key_events(&self) -> bool {
        self.negotiated.telephone_event.is_some()
    }

    /// Asks something of the leg.
    pub(super) fn send(&self, command: LegCommand) {
        self.sip.leg(self.leg, command);
    }

    /// BYE.
    pub(super) fn hang_up(&self) {
        self.send(LegCommand::Hangup(Hangup::default()));
    }

    /// Puts the peer on hold (`sendonly`) or takes it back (`sendrecv`), as soon as the wire
    /// allows it.
    pub(super) fn set_hold(&mut self, hold: bool) {
        self.local.direction = match hold {
            true => Direction::SendOnly,
            false => Direction::SendRecv,
        };
        self.offer_what_is_wanted(0);
    }

    fn offer_what_is_wanted(&mut self, tries: u32) {
        let direction = self.local.direction;
        match self.ours {
            // Its outcome is looked at first.
            Ours::Open { .. } => {}
            Ours::Settled | Ours::Waiting { .. } if direction == self.agreed => {
                self.ours = Ours::Settled;
            }
            Ours::Settled | Ours::Waiting { .. } => {
                self.local.next_version();
                let offer = sdp::offer(&self.local);
                self.ours = Ours::Open { direction, tries };
                self.send(LegCommand::Reinvite(offer));
            }
        }
    }

    /// The peer changes the session: hold, resume, another address or codec.
    pub(super) fn offered(&mut self, offer: Option<&[u8]>) {
        self.local.next_version();
        let Some(offer) = offer else {
            let ours = sdp::offer(&self.local);
            self.agreed = self.local.direction;
            return self.send(LegCommand::AnswerOffer(ours));
        };
        match sdp::answer(offer, &self.local) {
            Ok((answer, negotiated)) => {
                self.send(LegCommand::AnswerOffer(answer));
                self.agreed = self.local.direction;
                self.apply(negotiated);
            }
            Err(error) => self.send(LegCommand::RejectOffer(error.status())),
        }
    }

    /// The peer answered an offer of ours.
    pub(super) fn answered(&mut self, answer: &[u8]) {
        if let Ours::Open { direction, .. } = self.ours {
            self.agreed = direction;
            self.ours = Ours::Settled;
        }
        if let Ok(negotiated) = sdp::accept(answer, &self.local) {
            self.apply(negotiated);
        }
        // Somebody may have changed their mind meanwhile.
        self.offer_what_is_wanted(0);
    }

    /// The peer refused an offer of ours, or it crossed one of the peer's.
    pub(super) fn refused(&mut self, status: u16, now: Instant) {
        let Ours::Open { direction, tries } = self.ours else {
            return;
        };
        self.ours = Ours::Settled;
        let again = direction != self.local.direction;
        if status == 491 && tries < MOST_TRIES {
            self.ours = Ours::Waiting {
                until: now + OFFER_AGAIN,
                tries: tries + 1,
            };
        } else if again {
            self.offer_what_is_wanted(0);
        } else {
            // It goes on as it was; what we send and ignore does not depend on it.
            tracing::debug!(leg = self.leg.0, status, "the peer refuses our offer");
        }
    }

    /// When [`Self::timeout`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.ours {
            Ours::Waiting { until, .. } => Some(until),
            Ours::Settled | Ours::Open { .. } => None,
        }
    }

    /// The deadline passed.
    pub(super) fn timeout(&mut self, now: Instant) {
        if let Ours::Waiting { until, tries } = self.ours
            && until <= now
        {
            self.offer_what_is_wanted(tries);
        }
    }

    fn apply(&mut self, negotiated: Negotiated) {
        let sends = negotiated.direction.sends();
        if sends && negotiated != self.negotiated {
            self.stream.renegotiate(&negotiated);
        }
        self.stream.set_sending(sends);
        if negotiated.crypto.is_some() {
            self.local.encryption = self.local.encryption.kept();
        }
        self.negotiated = negotiated;
    }
}
