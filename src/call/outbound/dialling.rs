//! A call of ours until somebody answers: a task of its own, so that whoever waits for the
//! answer can do other things meanwhile.
//!
//! ```text
//!            180          183 with SDP: media is opened, nothing is played
//!  INVITE ────────▶ ringing ───────────▶ ringing, heard ──200──▶ Answered (handed over)
//!    ▲  │                                                  └─── refused ──▶ Failed
//!    └──┘ 3xx inside the allow-list
//!  dropped by its owner: CANCEL, or BYE where a 200 crosses it (the endpoint's business)
//! ```

use std::time::Duration;

use tokio::sync::mpsc;

use super::outcome::outcome;
use super::route::{Invitation, Target};
use crate::call::Services;
use crate::call::answering::{local_media, suite};
use crate::call::session::{Party, Session};
use crate::net::media::{MediaPort, MediaStream, Tick};
use crate::net::sip::{LegCommand, OutgoingLeg, Way};
use crate::numbers::{Number, permit};
use crate::record::{EndedBy, EndedReason};
use crate::sdp::{self, LocalMedia, Negotiated};
use crate::sip::endpoint::{EndCause, Event, Hangup, InviteRequest, LegId};
use crate::sip::headers::{NameAddr, Replaces};
use crate::sip::uri::Uri;

/// Redirections that are followed.
const MOST_REDIRECTIONS: usize = 3;

/// Why nobody was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::call) struct Failure {
    pub(in crate::call) reason: EndedReason,
    pub(in crate::call) by: EndedBy,
}

impl Failure {
    fn system(reason: EndedReason) -> Self {
        Self {
            reason,
            by: EndedBy::System,
        }
    }
}

/// How far the call is.
pub(in crate::call) enum Step {
    /// The INVITE is out.
    Sent { leg: LegId, call_id: String },
    /// A telephone rings there.
    Ringing(u16),
    /// Somebody answered.
    Answered(Box<Party>),
    /// Nobody will. The last step.
    Failed(Failure),
}

/// A call that is being made. Dropping it gives the call up.
pub(in crate::call) struct Dialling {
    steps: mpsc::Receiver<Step>,
}

impl Dialling {
    /// Calls somebody. `replaces` is the dialog whose place the call takes (RFC 3891).
    pub(in crate::call) fn start(
        services: &Services,
        target: Target,
        replaces: Option<Replaces>,
        ring_timeout: Option<Duration>,
    ) -> Self {
        let (sender, steps) = mpsc::channel(8);
        let attempt = Attempt {
            services: services.clone(),
            ring_timeout: ring_timeout.unwrap_or(target.ring_timeout()),
            target,
            replaces,
            steps: sender,
            rang: false,
        };
        tokio::spawn(attempt.run());
        Self { steps }
    }

    /// The next step. Losing the wait loses nothing.
    pub(in crate::call) async fn next(&mut self) -> Step {
        let lost = Failure::system(EndedReason::InternalError);
        self.steps.recv().await.unwrap_or(Step::Failed(lost))
    }
}

struct Attempt {
    services: Services,
    target: Target,
    replaces: Option<Replaces>,
    ring_timeout: Duration,
    steps: mpsc::Sender<Step>,
    rang: bool,
}

/// Media that flows before the answer.
struct Early {
    stream: MediaStream,
    ticks: mpsc::Receiver<Tick>,
    negotiated: Negotiated,
}

impl Attempt {
    async fn run(mut self) {
        let mut redirections = 0;
        let failure = loop {
            match self.call().await {
                Ok(()) => return,
                Err(Next::Failed(failure) | Next::Unreached(failure)) => break failure,
                Err(Next::Redirected(contacts)) => {
                    redirections += 1;
                    let allowed = self.redirected(&contacts);
                    match allowed.filter(|_| redirections <= MOST_REDIRECTIONS) {
                        Some(target) => self.target = target,
                        None => {
                            break Failure::system(EndedReason::SipOutboundRedirectRefused);
                        }
                    }
                }
            }
        };
        let _ = self.steps.send(Step::Failed(failure)).await;
    }

    /// Where a 3xx leads that may be followed: another number that the same trunk may call.
    fn redirected(&self, contacts: &[Uri]) -> Option<Target> {
        let Target::Number(_, route) = &self.target else {
            return None;
        };
        let numbers = contacts.iter().filter_map(|contact| contact.user());
        let mut numbers = numbers.filter_map(|user| user.parse::<Number>().ok());
        let number = numbers.find(|number| permit(number, &route.destinations).is_ok())?;
        Some(Target::Number(number, route.clone()))
    }

    /// Calls by one way after another, as long as nobody was reached (RFC 3263 section 4.3).
    async fn call(&mut self) -> Result<(), Next> {
        let sip = self.services.sip.clone();
        let invitations = self.target.invitations(&sip).await.map_err(|why| {
            tracing::warn!(why, "a call cannot be made");
            Next::failed(EndedReason::SipGatewayFailedToConnectCall)
        })?;
        let mut outcome = Err(Next::failed(EndedReason::SipGatewayFailedToConnectCall));
        let mut left: usize = invitations.iter().map(|found| found.ways.len()).sum();
        for (invitation, way) in all_ways(&invitations) {
            left -= 1;
            let patience = (left > 0).then(|| self.target.patience());
            outcome = self.call_by(invitation, way, patience).await;
            if !matches!(&outcome, Err(Next::Unreached(_))) {
                break;
            }
        }
        outcome
    }

    async fn call_by(
        &mut self,
        invitation: &Invitation,
        way: Way,
        patience: Option<Duration>,
    ) -> Result<(), Next> {
        let unavailable = || Next::failed(EndedReason::ServiceUnavailable);
        let peer = way.destination.ip();
        let port = self.services.media.reserve(peer).map_err(|error| {
            tracing::error!(%error, "a call cannot be made");
            unavailable()
        })?;
        let mut local = local_media(&self.services, &port)
            .map_err(|_| Next::failed(EndedReason::InternalError))?;
        self.target.prepare(&mut local);
        let request = InviteRequest {
            patience,
            ..self.request(invitation, way, sdp::offer(&local))
        };
        let leg = self.services.sip.invite(request).await.map_err(|error| {
            tracing::error!(?error, "a call cannot be made");
            unavailable()
        })?;
        let sent = Step::Sent {
            leg: leg.leg,
            call_id: leg.call_id.clone(),
        };
        let _ = self.steps.send(sent).await;
        self.wait(leg, port, local).await
    }

    fn request(&self, invitation: &Invitation, way: Way, sdp: Vec<u8>) -> InviteRequest {
        InviteRequest {
            transport: way.transport,
            destination: way.destination,
            to: NameAddr::new(invitation.request_uri.clone()),
            request_uri: invitation.request_uri.clone(),
            from: invitation.from.clone(),
            route: Vec::new(),
            credentials: invitation.credentials.clone(),
            headers: invitation.headers.clone(),
            extensions: self.target.extensions(),
            replaces: self.replaces.clone(),
            sdp: Some(sdp),
            patience: None,
            ring_timeout: self.ring_timeout,
        }
    }

    /// Waits for the answer. The leg is given up where nobody waits with us any more.
    async fn wait(
        &mut self,
        mut leg: OutgoingLeg,
        port: MediaPort,
        local: LocalMedia,
    ) -> Result<(), Next> {
        let (mut port, mut early) = (Some(port), None);
        loop {
            let event = tokio::select! {
                event = leg.events.recv() => event,
                () = self.steps.closed() => {
                    self.hang_up(leg.leg);
                    return Ok(());
                }
                // What is heard before the answer is nobody's words.
                Some(_) = early_tick(&mut early) => continue,
            };
            match event {
                Some(Event::Progress { status, sdp, .. }) => {
                    self.rang |= matches!(status, 180 | 183);
                    if let Some(sdp) = sdp
                        && self.open(&sdp, &local, &mut port, &mut early).is_err()
                    {
                        // The answer decides.
                        tracing::debug!(status, "early media cannot be had");
                    }
                    let _ = self.steps.send(Step::Ringing(status)).await;
                }
                Some(Event::Answered { sdp, .. }) => {
                    if !sdp.is_empty() {
                        let opened = self.open(&sdp, &local, &mut port, &mut early);
                        opened.inspect_err(|_| self.hang_up(leg.leg))?;
                    }
                    let Some(early) = early else {
                        self.hang_up(leg.leg);
                        return Err(Next::failed(EndedReason::IncompatibleMedia));
                    };
                    self.hand_over(leg, local, early).await;
                    return Ok(());
                }
                Some(Event::Ended { cause, .. }) => return Err(self.ended(cause)),
                Some(_) => {}
                None => return Err(Next::failed(EndedReason::InternalError)),
            }
        }
    }

    /// Opens the media that a description agrees on, or turns it where it flows already.
    fn open(
        &self,
        sdp: &[u8],
        local: &LocalMedia,
        port: &mut Option<MediaPort>,
        early: &mut Option<Early>,
    ) -> Result<(), Next> {
        let negotiated =
            sdp::accept(sdp, local).map_err(|_| Next::failed(EndedReason::IncompatibleMedia))?;
        if let Some(early) = early {
            if early.negotiated != negotiated {
                early.stream.renegotiate(&negotiated);
                early.negotiated = negotiated;
            }
            return Ok(());
        }
        let Some(port) = port.take() else {
            return Ok(());
        };
        let (stream, ticks) = port.flow(&negotiated).map_err(|error| {
            tracing::error!(%error, "media cannot flow");
            Next::failed(EndedReason::InternalError)
        })?;
        *early = Some(Early {
            stream,
            ticks,
            negotiated,
        });
        Ok(())
    }

    async fn hand_over(&self, leg: OutgoingLeg, local: LocalMedia, early: Early) {
        let codec = early.negotiated.codec.name();
        let srtp = suite(&early.negotiated);
        let sip = self.services.sip.clone();
        let session = Session::new(sip, leg.leg, local, early.negotiated, early.stream);
        let party = Party {
            leg: leg.leg,
            trunk: self.target.limits().map(|(trunk, _)| trunk.clone()),
            srtp,
            session,
            events: leg.events,
            ticks: early.ticks,
            codec,
            keys: self.target.keys(),
            refer: self.target.refers(),
        };
        let answered = Step::Answered(Box::new(party));
        if self.steps.send(answered).await.is_err() {
            self.hang_up(leg.leg);
        }
    }

    fn ended(&self, cause: EndCause) -> Next {
        match cause {
            EndCause::Rejected {
                status: 300..=399,
                contacts,
                ..
            } => Next::Redirected(contacts),
            cause => {
                let (reason, by) = outcome(&cause, self.rang);
                let failure = Failure { reason, by };
                match cause {
                    EndCause::NoResponse
                    | EndCause::TransportFailed
                    | EndCause::Rejected { status: 503, .. } => Next::Unreached(failure),
                    _ => Next::Failed(failure),
                }
            }
        }
    }

    fn hang_up(&self, leg: LegId) {
        let hangup = LegCommand::Hangup(Hangup::default());
        self.services.sip.leg(leg, hangup);
    }
}

/// Each way with what is said on it, in the order to try.
fn all_ways(invitations: &[Invitation]) -> Vec<(&Invitation, Way)> {
    let mut all = Vec::new();
    for invitation in invitations {
        all.extend(invitation.ways.iter().map(|way| (invitation, *way)));
    }
    all
}

async fn early_tick(early: &mut Option<Early>) -> Option<Tick> {
    match early {
        Some(early) => early.ticks.recv().await,
        None => std::future::pending().await,
    }
}

/// What comes after an attempt that was not answered.
enum Next {
    /// The call has its outcome.
    Failed(Failure),
    /// Nobody was reached by this way; another one may lead there.
    Unreached(Failure),
    /// Somebody else shall be called.
    Redirected(Vec<Uri>),
}

impl Next {
    fn failed(reason: EndedReason) -> Self {
        Self::Failed(Failure::system(reason))
    }
}
