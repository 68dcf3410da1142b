//! Registrations, their transactions, and what keeps the way back from a registrar open.

use std::sync::Arc;
use std::time::Instant;

use super::api::{CommandError, RegisterRequest, RegistrarTarget, RegistrationId};
use super::compose::is_secure;
use super::event::Event;
use super::leg::{Owner, Path, Purpose};
use super::{Endpoint, TimerKey};
use crate::sip::auth::DigestClient;
use crate::sip::message::Response;
use crate::sip::registration::{
    KeepAlive, Registrar, Registrars, Registration, RegistrationSettings, Step,
};
use crate::sip::token;
use crate::sip::transaction::ClientId;
use crate::sip::transport::Hop;

/// No message: routers on the way see it and keep the way open (RFC 5626 3.5.1).
const LINE_ENDS: &[u8] = b"\r\n\r\n";

impl Endpoint {
    pub(super) fn start_registration(
        &mut self,
        now: Instant,
        asked: RegisterRequest,
    ) -> Result<RegistrationId, CommandError> {
        let registrars = self.registrars(&asked.targets, &asked.contact_user)?;
        let digest = asked
            .credentials
            .map(|credentials| DigestClient::new(credentials.username, credentials.password));
        let (registration, first) = Registration::start(RegistrationSettings {
            registrars,
            digest,
            expires: asked.expires,
            learn_contact: asked.learn_contact,
            keep_alive: asked.keep_alive,
            patience: asked.patience,
            extensions: asked.extensions,
            call_id: token::call_id(&mut self.rng),
            local_tag: token::tag(&mut self.rng),
        });
        self.next_registration += 1;
        let id = RegistrationId(self.next_registration);
        self.registrations.insert(id, registration);
        let step = Step {
            send: Some(first),
            ..Step::default()
        };
        self.take_step(now, id, step);
        Ok(id)
    }

    fn registrars(
        &self,
        targets: &[RegistrarTarget],
        contact_user: &str,
    ) -> Result<Registrars, CommandError> {
        let registrar = |target: &RegistrarTarget| {
            let secure = is_secure(&target.registrar);
            let contact = self.contact(target.transport, Some(contact_user), secure)?;
            Some(Registrar {
                hop: Hop::new(target.transport, target.destination),
                reliability: self.protocol(target.transport).reliability(),
                registrar: target.registrar.clone(),
                address_of_record: target.address_of_record.clone(),
                contact,
            })
        };
        let list: Option<Vec<Registrar>> = targets.iter().map(registrar).collect();
        Registrars::new(list.ok_or(CommandError::UnknownTransport)?).ok_or(CommandError::NoTarget)
    }

    pub(super) fn change_registrars(
        &mut self,
        id: RegistrationId,
        targets: &[RegistrarTarget],
        contact_user: &str,
    ) -> Result<(), CommandError> {
        let registrars = self.registrars(targets, contact_user)?;
        let registration = self
            .registrations
            .get_mut(&id)
            .ok_or(CommandError::UnknownRegistration)?;
        registration.retarget(registrars);
        Ok(())
    }

    /// Registers anew, soon, what `concerns` picks: its connection is gone or our address is
    /// another.
    pub(super) fn renew_registrations(
        &mut self,
        now: Instant,
        concerns: impl Fn(&Registration) -> bool,
    ) {
        let concerned = self.registrations.iter();
        let concerned = concerned.filter(|(_, registration)| concerns(registration));
        let mut ids: Vec<RegistrationId> = concerned.map(|(id, _)| *id).collect();
        ids.sort_unstable();
        for id in ids {
            let Some(registration) = self.registrations.get(&id) else {
                continue;
            };
            let contact = |registrar: &Registrar| {
                let user = registrar.contact.uri.user();
                let secure = is_secure(&registrar.registrar);
                self.contact(registrar.hop.transport, user.as_deref(), secure)
            };
            let contacts: Vec<_> = registration.registrars().iter().map(contact).collect();
            if let Some(registration) = self.registrations.get_mut(&id) {
                registration.renew(now, &mut self.rng, contacts);
                self.deadlines
                    .set(TimerKey::Registration(id), registration.deadline());
            }
        }
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
        let (hop, patience) = (registration.hop(), registration.patience());
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
            let owner = Owner::new(Purpose::Register(id), path);
            let client = self.send_request(now, request, hop, owner);
            self.expect_response_within(now, client, patience);
        }
        match step.keep_alive {
            Some(KeepAlive::Crlf) => self.transmit(hop, LINE_ENDS.into()),
            Some(KeepAlive::Options) => self.send_keep_alive(now, id),
            Some(KeepAlive::Off) | None => {}
        }
        if let Some(state) = step.report {
            self.emit(Event::Registration { id, state });
        }
    }
    /// An OPTIONS along the way of a registration.
    fn send_keep_alive(&mut self, now: Instant, id: RegistrationId) {
        let Some(registration) = self.registrations.get(&id) else {
            return;
        };
        let (hop, peer) = (registration.hop(), registration.registrar().clone());
        // One that cannot be sent is one that is not answered.
        let sent = self.send_options(now, hop, peer, Purpose::KeepAlive(id));
        if sent.is_err() {
            self.keep_alive_answered(now, id, None);
        }
    }

    /// The registrar answered that OPTIONS, whatever it said, or it did not.
    pub(super) fn keep_alive_answered(
        &mut self,
        now: Instant,
        id: RegistrationId,
        response: Option<&Response>,
    ) {
        if let Some(registration) = self.registrations.get_mut(&id) {
            registration.handle_keep_alive(now, &mut self.rng, response);
            self.deadlines
                .set(TimerKey::Registration(id), registration.deadline());
        }
    }
}
