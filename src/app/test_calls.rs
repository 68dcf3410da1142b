//! Calls from the dashboard to an assistant: the softphone calls this server, as anybody does, and
//! a ticket says which assistant answers, whatever the numbers' rules are.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use rand::RngExt;
use tokio::sync::Semaphore;

use crate::call::{Answers, Assistants, NumberPlan};
use crate::config::{Config, Secret};
use crate::http::{PlacedTestCall, TestCallRefusal, TestCaller};
use crate::ids::AssistantId;
use crate::net::sip::Sip;
use crate::sip::endpoint::{Credentials, Protocol};
use crate::softphone::Handset;

/// Such calls at once: each has a thread of its own for its media.
const MOST: usize = 2;

/// Who calls.
const CALLER: &str = "dashboard";

/// What is dialled begins so.
const PREFIX: &str = "test-call-";

/// The calls that are dialled or in progress, by what is dialled. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Tickets(Arc<Mutex<HashMap<String, AssistantId>>>);

/// Takes a ticket back.
struct Ticket {
    tickets: Tickets,
    dialled: String,
}

impl Tickets {
    fn draw(&self, assistant: &str) -> Ticket {
        let dialled = format!("{PREFIX}{:016x}", rand::rng().random::<u64>());
        let mut tickets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tickets.insert(dialled.clone(), AssistantId::new(assistant));
        Ticket {
            tickets: self.clone(),
            dialled,
        }
    }

    fn assistant(&self, called: &[&str]) -> Option<AssistantId> {
        let tickets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        called
            .iter()
            .find_map(|called| tickets.get(*called).cloned())
    }

    /// Who answers: the assistant of a ticket, or else whom the plan names.
    pub(super) fn over(&self, plan: NumberPlan, assistants: Assistants) -> NumberPlan {
        let tickets = self.clone();
        Arc::new(move |called| {
            let Some(assistant) = tickets.assistant(called) else {
                return plan(called);
            };
            let (id, settings) = assistants(assistant.as_str())?;
            Some(Answers::Assistant {
                id,
                settings: Box::new(settings),
                mailbox: None,
                phone_number: None,
            })
        })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let tickets = self.tickets.0.lock();
        let mut tickets = tickets.unwrap_or_else(PoisonError::into_inner);
        tickets.remove(&self.dialled);
    }
}

/// What places them.
pub(super) fn caller(
    config: &Config,
    sip: &Sip,
    tickets: Tickets,
    assistants: Assistants,
) -> TestCaller {
    let places = Arc::new(Semaphore::new(MOST));
    // Whoever is not known by address shows a password, and so does our own telephone.
    let digest = config.sip.digest.as_ref();
    let user = digest.and_then(|digest| digest.users.iter().next());
    let credentials = user.map(|(username, password)| credentials(username, password));
    let listeners = sip.listeners().iter();
    let mut datagrams = listeners.filter(|listener| listener.protocol == Protocol::Udp);
    let target = datagrams.next().map(|listener| reachable(listener.address));
    let sip = sip.clone();
    Arc::new(move |assistant| {
        let (places, credentials) = (Arc::clone(&places), credentials.clone());
        let (sip, tickets, assistants) = (sip.clone(), tickets.clone(), Arc::clone(&assistants));
        Box::pin(async move {
            let target = target.ok_or(TestCallRefusal::NoListener)?;
            if assistants(&assistant).is_none() {
                return Err(TestCallRefusal::NoAssistant);
            }
            let place = places.try_acquire_owned();
            let place = place.map_err(|_| TestCallRefusal::Busy)?;
            let ticket = tickets.draw(&assistant);
            let dialled = ticket.dialled.clone();
            let handset = Handset::open(&format!("sip:{dialled}@{target}")).await?;
            let guest = handset.address().map(|address| sip.welcome(address));
            let talk = handset.dial(CALLER.to_owned(), credentials, (place, ticket, guest));
            Ok(PlacedTestCall { talk, dialled })
        })
    })
}

fn credentials(username: &str, password: &Secret) -> Credentials {
    Credentials {
        username: username.to_owned(),
        password: password.expose().to_owned(),
    }
}

/// Where this machine reaches a listener of its own.
fn reachable(mut listener: SocketAddr) -> SocketAddr {
    if listener.ip().is_unspecified() {
        listener.set_ip(match listener {
            SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::from(Ipv6Addr::LOCALHOST),
        });
    }
    listener
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversation::settings::AssistantSettings;

    fn name(answers: Option<Answers>) -> Option<String> {
        match answers {
            Some(Answers::Assistant { id, .. }) => Some(id.to_string()),
            _ => None,
        }
    }

    #[test]
    fn a_ticket_leads_to_its_assistant_for_as_long_as_it_is_held() {
        let tickets = Tickets::default();
        let assistants: Assistants =
            Arc::new(|name| Some((AssistantId::new(name), AssistantSettings::default())));
        let plan: NumberPlan = Arc::new(|_| None);
        let plan = tickets.over(plan, assistants);
        let ticket = tickets.draw("reception");
        let dialled = ticket.dialled.clone();
        assert_eq!(name(plan(&[&dialled])).as_deref(), Some("reception"));
        assert_eq!(name(plan(&["test-call-0000000000000000"])), None);
        drop(ticket);
        assert_eq!(name(plan(&[&dialled])), None);
    }
}
