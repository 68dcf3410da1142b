//! Registrations and their transactions.

use std::sync::Arc;
use std::time::Instant;

use super::api::{CommandError, RegisterRequest, RegistrationId};
use super::compose::is_secure;
use super::event::Event;
use super::leg::{Owner, Path, Purpose};
use super::{Endpoint, TimerKey};
use crate::sip::auth::DigestClient;
use crate::sip::message::Response;
use crate::sip::registration::{Registration, RegistrationSettings, Step};
use crate::sip::token;
use crate::sip::transaction::ClientId;
use crate::sip::transport::Hop;

impl Endpoint {
    pub(super) fn start_registration(
        &mut self,
        now: Instant,
        asked: RegisterRequest,
    ) -> Result<RegistrationId, CommandError> {
        let contact = self
            .contact(
                asked.transport,
                Some(&asked.contact_user),
                is_secure(&asked.registrar),
            )
            .ok_or(CommandError::UnknownTransport)?;
        let digest = asked
            .credentials
            .map(|credentials| DigestClient::new(credentials.username, credentials.password));
        let (registration, first) = Registration::start(RegistrationSettings {
            hop: Hop::new(asked.transport, asked.destination),
            registrar: asked.registrar,
            address_of_record: asked.address_of_record,
            contact,
            digest,
            expires: asked.expires,
            learn_contact: asked.learn_contact,
            call_id: token::call_id(&mut self.rng),
            local_tag: token::tag(&mut self.rng),
        });
        self.next_registration += 1;
        let id = RegistrationId(self.next_registration);
        self.registrations.insert(id, registration);
        let step = Step {
            send: Some(first),
            report: None,
        };
        self.take_step(now, id, step);
        Ok(id)
    }

    pub(super) fn stop_registration(
        &mut self,
        now: Instant,
        id: RegistrationId,
    ) -> Result<(), CommandError> {
        let registration = self
            .registrations
            .get_mut(&id)
            .ok_or(CommandError::UnknownRegistration)?;
        let step = registration.stop(&mut self.rng);
        self.take_step(now, id, step);
        Ok(())
    }

    pub(super) fn register_answered(
        &mut self,
        now: Instant,
        client: ClientId,
        id: RegistrationId,
        response: &Response,
    ) {
        let (Some(transaction), Some(registration)) =
            (self.clients.get(client), self.registrations.get_mut(&id))
        else {
            return;
        };
        let sent = Arc::clone(&transaction.request);
        let step = registration.handle_response(now, &mut self.rng, &sent, response);
        self.take_step(now, id, step);
    }

    pub(super) fn register_failed(&mut self, now: Instant, id: RegistrationId) {
        if let Some(registration) = self.registrations.get_mut(&id) {
            let step = registration.handle_failure(now, &mut self.rng);
            self.take_step(now, id, step);
        }
    }

    pub(super) fn registration_timeout(&mut self, now: Instant, id: RegistrationId) {
        if let Some(registration) = self.registrations.get_mut(&id) {
            let step = registration.handle_timeout(now, &mut self.rng);
            self.take_step(now, id, step);
        }
    }

    fn take_step(&mut self, now: Instant, id: RegistrationId, step: Step) {
        let Some(registration) = self.registrations.get(&id) else {
            return;
        };
        let hop = registration.hop();
        self.deadlines
            .set(TimerKey::Registration(id), registration.deadline());
        if registration.is_over() {
            self.registrations.remove(&id);
        }
        if let Some(request) = step.send {
            let path = Path {
                transport: hop.transport,
                peer: hop.address,
                behind_nat: false,
                accepted: false,
            };
            self.send_request(now, request, hop, Owner::new(Purpose::Register(id), path));
        }
        if let Some(state) = step.report {
            self.emit(Event::Registration { id, state });
        }
    }
}
