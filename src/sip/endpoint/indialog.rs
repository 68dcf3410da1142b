//! Requests inside dialogs (RFC 3261 12.2.2, 14.2, 15.1.2; RFC 3311; RFC 6086).

use std::time::Instant;

use rand::RngExt;

use super::Endpoint;
use super::answering::reason_of;
use super::api::{EndCause, LegId};
use super::event::Event;
use super::leg::{ByeState, OfferState, Phase};
use super::requests::Received;
use crate::sip::dialog::Sequence;
use crate::sip::headers::HeaderName;
use crate::sip::message::{Method, Request};

impl Endpoint {
    pub(super) fn receive_in_dialog(&mut self, now: Instant, received: Received) {
        let Some(id) = self.leg_of(&received.request) else {
            return match self.subscription_of(&received.request) {
                Some(id) => self.receive_resubscribe(now, id, &received),
                None => self.answer_received(now, &received, 481, &[]),
            };
        };
        match self.take_sequence(id, &received.request) {
            None => return self.answer_received(now, &received, 481, &[]),
            Some(Sequence::OutOfOrder) => return self.answer_received(now, &received, 500, &[]),
            Some(Sequence::InOrder) => {}
        }
        let Some(leg) = self.legs.get(&id) else {
            return;
        };
        match (&leg.phase, &received.request.method) {
            (_, Method::Options) => self.answer_options(now, &received),
            // A callee may not hang up on a call that it did not answer.
            (Phase::Calling(_), Method::Bye) => self.answer_received(now, &received, 481, &[]),
            (_, Method::Bye) => self.receive_bye(now, id, &received),
            (Phase::Established(_), Method::Invite) => self.receive_offer(now, id, received),
            (Phase::Ringing(_) | Phase::Calling(_) | Phase::Established(_), Method::Update) => {
                self.receive_offer(now, id, received);
            }
            // The first INVITE has no final response yet (RFC 3261 14.2).
            (Phase::Ringing(_), Method::Invite) => self.ask_to_retry(now, &received),
            (Phase::Calling(_), Method::Invite) => self.answer_received(now, &received, 491, &[]),
            (Phase::Ringing(_) | Phase::Established(_), Method::Prack) => {
                self.receive_prack(now, id, received);
            }
            (Phase::Ringing(_) | Phase::Calling(_) | Phase::Established(_), Method::Info) => {
                self.receive_info(now, id, &received);
            }
            (Phase::Established(_), Method::Refer) => self.receive_refer(now, id, received),
            // The offer and answer of the call come first.
            (Phase::Ringing(_), Method::Refer) => self.ask_to_retry(now, &received),
            (Phase::Established(_) | Phase::Closing(_), Method::Notify) => {
                self.receive_notify(now, id, &received);
            }
            _ => self.answer_received(now, &received, 481, &[]),
        }
    }

    /// Checks the tags and the CSeq; `None` when the request is in no dialog of this leg.
    fn take_sequence(&mut self, id: LegId, request: &Request) -> Option<Sequence> {
        let from = request.headers.from().ok()?;
        let number = request.headers.cseq().ok()?.number;
        let leg = self.legs.get_mut(&id)?;
        let dialog = &mut leg.session_with(from.tag())?.dialog;
        (dialog.remote_tag() == from.tag()).then(|| dialog.take_sequence(number))
    }

    pub(super) fn ask_to_retry(&mut self, now: Instant, received: &Received) {
        let seconds: u32 = self.rng.random_range(0..=10);
        let fields = [(HeaderName::RetryAfter, seconds.to_string())];
        self.answer_received(now, received, 500, &fields);
    }

    /// BYE ends the leg whatever its state; requests that wait get 487 (RFC 3261 15.1.2).
    fn receive_bye(&mut self, now: Instant, id: LegId, received: &Received) {
        self.answer_received(now, received, 200, &[]);
        let cause = EndCause::RemoteBye {
            reason: reason_of(&received.request.headers),
        };
        match self.legs.get(&id).map(|leg| &leg.phase) {
            Some(Phase::Ringing(_)) => {
                let _ = self.refuse_call(now, id, 487, &[], cause);
            }
            Some(Phase::Established(_)) => {
                self.refuse_open_offer(now, id, 487);
                self.abandon_offer(now, id);
                self.end_transfers(now, id);
                self.forget_leg(id);
                self.emit(Event::Ended { leg: id, cause });
            }
            // Both hung up at once. Ours is answered or fails on its own.
            Some(Phase::Closing(session)) => {
                if matches!(session.bye, ByeState::AwaitingAck(_)) {
                    self.forget_leg(id);
                }
            }
            Some(Phase::Calling(_)) | None => {}
        }
    }

    fn receive_info(&mut self, now: Instant, id: LegId, received: &Received) {
        let request = &received.request;
        let content_type = match request.headers.content_type() {
            Ok(Some(kind)) => kind.media_type,
            Ok(None) => String::new(),
            Err(_) => return self.answer_received(now, received, 400, &[]),
        };
        self.answer_received(now, received, 200, &[]);
        self.emit(Event::Info {
            leg: id,
            content_type,
            body: request.body.clone(),
        });
    }

    /// An ACK for a 2xx of ours.
    pub(super) fn receive_leg_ack(&mut self, now: Instant, id: LegId, ack: &Request) {
        let Ok(cseq) = ack.headers.cseq() else {
            return;
        };
        let Some(leg) = self.legs.get_mut(&id) else {
            return;
        };
        let (Phase::Established(session) | Phase::Closing(session)) = &mut leg.phase else {
            self.counters.dropped_stray += 1;
            return;
        };
        let Some(at) = session
            .handshakes
            .iter()
            .position(|handshake| handshake.sequence == cseq.number)
        else {
            // The ACK came again, since our 2xx did.
            return;
        };
        let handshake = session.handshakes.remove(at);
        if handshake.answer_due && matches!(session.offer, OfferState::InResponse) {
            session.offer = OfferState::Idle;
        }
        let closing = matches!(leg.phase, Phase::Closing(_));
        self.refresh_leg(id);
        if closing {
            self.send_awaited_bye(now, id);
            return;
        }
        let answer = super::body::session_description(&ack.headers, &ack.body)
            .ok()
            .flatten()
            .filter(|_| handshake.answer_due);
        if let (Some(answer), Ok(session)) = (&answer, self.session(id)) {
            session.remote_description.clone_from(answer);
        }
        if handshake.initial {
            self.emit(Event::Confirmed { leg: id, answer });
        } else if let Some(sdp) = answer {
            self.emit(Event::Answer { leg: id, sdp });
        }
    }
}
