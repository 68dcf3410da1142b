//! The media of a call that comes in, from its offer to the ACK.

use rand::RngExt;
use tokio::sync::mpsc;

use super::Services;
use super::ending::ended;
use super::inbound::Refusal;
use super::session::{Party, Session};
use super::trunk::{InboundTrunk, Keys, speak};
use crate::ids::TrunkName;
use crate::net::media::MediaPort;
use crate::net::sip::LegCommand;
use crate::record::{EndedBy, EndedReason};
use crate::sdp::{self, Direction, Encryption, LocalMedia, Negotiated};
use crate::sip::endpoint::{EndCause, Event, Hangup, IncomingCall, LegId};

/// The payload type of telephone-event where the peer leaves it to us.
const TELEPHONE_EVENT: u8 = 101;

/// What we say to an offer, or offer where there is none; media flows once the caller agrees.
pub(super) struct Proposed {
    port: MediaPort,
    local: LocalMedia,
    sdp: Vec<u8>,
    negotiated: Option<Negotiated>,
    trunk: Option<TrunkName>,
    keys: Keys,
    refer: bool,
}

impl Proposed {
    /// Reserves what the call needs, or says why it cannot be taken.
    pub(super) fn new(
        services: &Services,
        call: &IncomingCall,
        trunk: Option<&InboundTrunk>,
    ) -> Result<Self, Refusal> {
        let unavailable = || Refusal::retry_later(503, EndedReason::ServiceUnavailable);
        let port = services.media.reserve(call.source.ip()).map_err(|error| {
            tracing::error!(%error, "a call is refused with 503");
            unavailable()
        })?;
        let mut local = local_media(services, &port).map_err(|_| unavailable())?;
        if let Some(trunk) = trunk {
            speak(&mut local, &trunk.codecs, trunk.keys, trunk.encryption);
        }
        let (sdp, negotiated) = match &call.offer {
            Some(offer) => {
                let (answer, negotiated) =
                    sdp::answer(offer, &local).map_err(|error| Refusal::sdp(&error))?;
                (answer, Some(negotiated))
            }
            None => (sdp::offer(&local), None),
        };
        Ok(Self {
            port,
            local,
            sdp,
            negotiated,
            trunk: trunk.map(|trunk| trunk.name.clone()),
            keys: trunk.map(|trunk| trunk.keys).unwrap_or_default(),
            refer: trunk.is_none_or(|trunk| trunk.refer),
        })
    }

    /// Answers and waits for the ACK. On an error the leg is over.
    pub(super) async fn accept(
        self,
        services: &Services,
        leg: LegId,
        mut events: mpsc::Receiver<Event>,
    ) -> Result<Party, (EndedReason, EndedBy)> {
        let accept = LegCommand::Accept(self.sdp);
        services.sip.leg(leg, accept);
        let answer = wait_for_ack(&mut events)
            .await
            .map_err(|cause| ended(&cause))?;
        let hang_up = |reason| {
            services.sip.leg(leg, LegCommand::Hangup(Hangup::default()));
            (reason, EndedBy::System)
        };
        let negotiated = match self.negotiated {
            Some(negotiated) => negotiated,
            None => sdp::accept(&answer.unwrap_or_default(), &self.local)
                .map_err(|_| hang_up(EndedReason::IncompatibleMedia))?,
        };
        let (stream, ticks) = self.port.flow(&negotiated).map_err(|error| {
            tracing::error!(%error, "media cannot flow");
            hang_up(EndedReason::InternalError)
        })?;
        let codec = negotiated.codec.name();
        let srtp = suite(&negotiated);
        let sip = services.sip.clone();
        Ok(Party {
            leg,
            trunk: self.trunk,
            srtp,
            session: Session::new(sip, leg, self.local, negotiated, stream),
            events,
            ticks,
            codec,
            keys: self.keys,
            refer: self.refer,
        })
    }
}

/// The name of a session's encryption.
pub(super) fn suite(negotiated: &Negotiated) -> Option<String> {
    let crypto = negotiated.crypto.as_ref();
    crypto.map(|crypto| crypto.suite.name().to_owned())
}

/// What we say of ourselves where no trunk says otherwise.
pub(super) fn local_media(services: &Services, port: &MediaPort) -> std::io::Result<LocalMedia> {
    Ok(LocalMedia {
        address: port.address(),
        port: port.port()?,
        codecs: services.limits.codecs.clone(),
        telephone_event: Some(TELEPHONE_EVENT),
        ptime_ms: 20,
        encryption: Encryption::Off,
        direction: Direction::SendRecv,
        session_id: u64::from(rand::rng().random::<u32>()),
        session_version: 1,
    })
}

/// Waits for the ACK; gives its SDP answer, where there is one, or why the leg ended.
async fn wait_for_ack(events: &mut mpsc::Receiver<Event>) -> Result<Option<Vec<u8>>, EndCause> {
    loop {
        match events.recv().await {
            Some(Event::Confirmed { answer, .. }) => return Ok(answer),
            Some(Event::Ended { cause, .. }) => return Err(cause),
            Some(_) => {}
            None => return Err(EndCause::NoAck),
        }
    }
}
