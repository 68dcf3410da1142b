//! What owners of legs and registrations ask for.

use std::time::Instant;

use super::Endpoint;
use super::api::{
    CommandError, EndCause, ExtraHeaders, Hangup, InviteRequest, KnownPeers, LegId, ReferRequest,
    RegisterRequest, RegistrarTarget, RegistrationId,
};
use super::leg::{Asked, Draft, Means, OfferState, Phase};
use crate::sip::headers::HeaderName;

impl Endpoint {
    /// Peers are known from now on; calls that are there keep what they began with.
    pub fn know(&mut self, peers: KnownPeers) {
        if let Some(policy) = &mut self.config.authentication {
            policy.trusted = peers.trusted;
        }
        self.config.extensions_by_source = peers.extensions;
    }

    /// Sends 180 Ringing for an incoming call. It is sent again every minute by itself.
    pub fn ring(&mut self, now: Instant, leg: LegId) -> Result<(), CommandError> {
        self.send_provisional(now, leg, 180, None)
    }

    /// Sends a provisional response (101-199), with early media where `sdp` is given.
    pub fn progress(
        &mut self,
        now: Instant,
        leg: LegId,
        status: u16,
        sdp: Option<Vec<u8>>,
    ) -> Result<(), CommandError> {
        self.send_provisional(now, leg, status, sdp)
    }

    /// Answers an incoming call with 200 and `sdp`: the answer, or the offer where the INVITE
    /// had none. The session is established with [`Event::Confirmed`](super::Event::Confirmed).
    pub fn accept(&mut self, now: Instant, leg: LegId, sdp: Vec<u8>) -> Result<(), CommandError> {
        self.accept_call(now, leg, sdp)
    }

    /// Refuses an incoming call with a status from 300 to 699, which ends the leg.
    pub fn reject(
        &mut self,
        now: Instant,
        leg: LegId,
        status: u16,
        headers: ExtraHeaders,
    ) -> Result<(), CommandError> {
        let fields: Vec<(HeaderName, String)> = headers
            .into_iter()
            .map(|(name, value)| (HeaderName::new(&name), value))
            .collect();
        self.refuse_call(now, leg, status, &fields, EndCause::Local)
    }

    /// Ends a leg in any state: final response, CANCEL (as soon as it is allowed) or BYE (after
    /// the ACK, where one is due). [`Event::Ended`](super::Event::Ended) comes at once; what
    /// the wire still needs goes on by itself.
    pub fn hangup(&mut self, now: Instant, leg: LegId, hangup: Hangup) -> Result<(), CommandError> {
        let phase = &self.legs.get(&leg).ok_or(CommandError::UnknownLeg)?.phase;
        match phase {
            Phase::Ringing(_) => {
                let reason = hangup
                    .reason
                    .map(|reason| (HeaderName::Reason, reason.to_string()));
                let fields: Vec<_> = reason.into_iter().collect();
                self.refuse_call(now, leg, hangup.status, &fields, EndCause::Local)
            }
            Phase::Calling(_) => {
                self.abandon_invite(now, leg, hangup, EndCause::Local);
                Ok(())
            }
            Phase::Established(_) => {
                self.close_session(now, leg, hangup.reason, EndCause::Local);
                Ok(())
            }
            Phase::Closing(_) => Err(CommandError::UnknownLeg),
        }
    }

    /// Accepts the peer's open offer with `sdp`: the answer, or our offer where it asked for
    /// one.
    pub fn answer_offer(
        &mut self,
        now: Instant,
        leg: LegId,
        sdp: Vec<u8>,
    ) -> Result<(), CommandError> {
        self.accept_offer(now, leg, sdp)
    }

    /// Refuses the peer's open offer, usually with 488; the session stays as it was. An offer
    /// that came in a response cannot be refused: the leg ends.
    pub fn reject_offer(
        &mut self,
        now: Instant,
        leg: LegId,
        status: u16,
    ) -> Result<(), CommandError> {
        if !(300..=699).contains(&status) {
            return Err(CommandError::BadStatus(status));
        }
        let offered = self.legs.get_mut(&leg).ok_or(CommandError::UnknownLeg)?;
        if let Phase::Closing(_) = offered.phase {
            return Err(CommandError::UnknownLeg);
        }
        let offered = offered.offered_session().ok_or(CommandError::WrongState)?;
        if let OfferState::InTheirResponse { .. } = offered.offer {
            self.decline_reply(now, leg);
            return Ok(());
        }
        self.refuse_open_offer(now, leg, status);
        self.release_acceptance(now, leg);
        Ok(())
    }

    /// Offers a changed session in a re-INVITE. Glare (491) is retried by itself; the outcome is
    /// [`Event::Answer`](super::Event::Answer) or
    /// [`Event::OfferRefused`](super::Event::OfferRefused).
    pub fn reinvite(&mut self, now: Instant, leg: LegId, sdp: Vec<u8>) -> Result<(), CommandError> {
        self.offer_by(now, leg, Means::Reinvite, Some(sdp))
    }

    /// Asks the peer for an offer by a re-INVITE without one (RFC 3261 14.1). It comes as
    /// [`Event::Offer`](super::Event::Offer).
    pub fn request_offer(&mut self, now: Instant, leg: LegId) -> Result<(), CommandError> {
        self.offer_by(now, leg, Means::Reinvite, None)
    }

    /// Offers a changed session in an UPDATE (RFC 3311), which is possible before a call is
    /// answered too, once offer and answer of its INVITE were exchanged in reliable provisional
    /// responses. The peer has to know UPDATE. Outcomes are those of `reinvite`.
    pub fn update(&mut self, now: Instant, leg: LegId, sdp: Vec<u8>) -> Result<(), CommandError> {
        self.offer_by(now, leg, Means::Update, Some(sdp))
    }

    fn offer_by(
        &mut self,
        now: Instant,
        leg: LegId,
        means: Means,
        sdp: Option<Vec<u8>>,
    ) -> Result<(), CommandError> {
        let draft = Draft {
            sdp,
            means,
            asked: Asked::ByOwner,
            attempt: 0,
        };
        self.send_offer(now, leg, draft)
    }

    /// Sends INFO in the dialog, such as `application/dtmf-relay`. A refusal is ignored, unless
    /// it shows that the dialog is gone.
    pub fn send_info(
        &mut self,
        now: Instant,
        leg: LegId,
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<(), CommandError> {
        self.send_info_request(now, leg, content_type, body)
    }

    /// Asks the peer of an established leg to call somebody else: a transfer. Ends with
    /// [`Event::ReferFinished`](super::Event::ReferFinished); the leg stays up, and its owner
    /// hangs it up where the transfer is done.
    pub fn refer(
        &mut self,
        now: Instant,
        leg: LegId,
        refer: ReferRequest,
    ) -> Result<(), CommandError> {
        self.send_refer(now, leg, refer)
    }

    /// Agrees to the transfer that the peer asked for: 202, and a NOTIFY that we are trying. Say
    /// with `notify_refer` how the new call goes.
    pub fn accept_refer(&mut self, now: Instant, leg: LegId) -> Result<(), CommandError> {
        self.agree_to_refer(now, leg)
    }

    /// Refuses the transfer that the peer asked for, with a status from 300 to 699.
    pub fn reject_refer(
        &mut self,
        now: Instant,
        leg: LegId,
        status: u16,
    ) -> Result<(), CommandError> {
        self.decline_refer(now, leg, status)
    }

    /// Tells the peer which response the new call of an accepted transfer got. A final one is
    /// the last.
    pub fn notify_refer(
        &mut self,
        now: Instant,
        leg: LegId,
        status: u16,
    ) -> Result<(), CommandError> {
        self.report_referred(now, leg, status)
    }

    /// The Call-ID of a leg that has an owner.
    pub fn call_id(&self, leg: LegId) -> Option<&str> {
        self.legs.get(&leg).map(|leg| leg.call_id.as_str())
    }

    /// Calls somebody.
    pub fn invite(&mut self, now: Instant, call: InviteRequest) -> Result<LegId, CommandError> {
        self.start_invite(now, call)
    }

    /// Registers and keeps the registration alive; failures are retried with a growing,
    /// jittered pause.
    pub fn register(
        &mut self,
        now: Instant,
        registration: RegisterRequest,
    ) -> Result<RegistrationId, CommandError> {
        self.start_registration(now, registration)
    }

    /// What is now known of a registration's registrars, as when DNS was asked again. The one
    /// that it is registered with stays its choice as long as it is among them.
    pub fn retarget(
        &mut self,
        id: RegistrationId,
        targets: &[RegistrarTarget],
        contact_user: &str,
    ) -> Result<(), CommandError> {
        self.change_registrars(id, targets, contact_user)
    }

    /// Removes a registration's binding, at shutdown for one. Ends with
    /// [`RegistrationState::Unregistered`](super::RegistrationState::Unregistered) whether or
    /// not the registrar answers.
    pub fn unregister(&mut self, now: Instant, id: RegistrationId) -> Result<(), CommandError> {
        self.stop_registration(now, id)
    }
}
