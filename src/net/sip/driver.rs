//! The task that owns the endpoint.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use super::stream::{Closed, ConnectionId, Told};
use super::tls::ClientTls;
use super::transports::{Inputs, Made, TlsPeer, Transports, local_transport};
use super::udp::Datagram;
use super::witness::Shown;
use super::{
    Command, Dropped, Incoming, LEG_EVENTS, LegCommand, Listener, OutgoingLeg, Registration,
    Snapshot, SubscriptionEvent, Subscriptions,
};
use crate::record::SipDirection;
use crate::sip::endpoint::{
    CommandError, Endpoint, Event, Hangup, Hop, IncomingCall, LegId, LocalTransport, Output,
    PingId, RegistrationId, RegistrationState, TransportId,
};
use crate::sip::flood::Flood;

/// How often we look whether this machine's address is another.
const ADDRESS_LOOK: Duration = Duration::from_secs(15);

pub(super) struct Driver {
    pub(super) endpoint: Endpoint,
    pub(super) transports: Transports,
    pub(super) listeners: Arc<[Listener]>,
    pub(super) public_address: Option<IpAddr>,
    /// How the listeners look to peers.
    pub(super) locals: Vec<LocalTransport>,
    pub(super) legs: HashMap<LegId, mpsc::Sender<Event>>,
    pub(super) registrations: HashMap<RegistrationId, watch::Sender<Option<RegistrationState>>>,
    pub(super) pings: HashMap<PingId, oneshot::Sender<Option<u16>>>,
    pub(super) subscriptions: Option<Subscriptions>,
    pub(super) incoming: mpsc::Sender<Incoming>,
    pub(super) dropped: Arc<Dropped>,
    pub(super) flood: Option<Flood>,
    pub(super) shown: Shown,
}

impl Driver {
    pub(super) async fn run(mut self, mut inputs: Inputs, mut commands: mpsc::Receiver<Command>) {
        let mut look_at_address = tokio::time::interval(ADDRESS_LOOK);
        loop {
            let deadline = self.endpoint.deadline().map(|(at, _)| at);
            tokio::select! {
                Some(datagram) = inputs.datagrams.recv() => self.receive(datagram),
                Some(accepted) = inputs.accepted.recv() => self.transports.accept(accepted),
                Some((id, told)) = inputs.told.recv() => self.told(id, told),
                command = commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => return,
                },
                _ = look_at_address.tick() => self.look_at_address(),
                () = sleep_until(deadline) => self.endpoint.handle_timeout(Instant::now()),
            }
            self.drain().await;
        }
    }

    /// Where a listener takes what comes to any address of this machine, which one peers use may
    /// change.
    fn look_at_address(&mut self) {
        for index in 0..self.locals.len() {
            let Some(listener) = self.listeners.get(index) else {
                continue;
            };
            let fresh = local_transport(listener, self.public_address);
            // Without a way out there is only the loopback address, which nobody could use.
            let no_way_out = fresh
                .advertised_host
                .ip()
                .is_some_and(|ip| ip.is_loopback());
            if fresh == self.locals[index] || no_way_out {
                continue;
            }
            tracing::info!(host = %fresh.advertised_host, "our address changed");
            for id in self.transports.family(fresh.id) {
                let host = fresh.advertised_host.clone();
                self.shown.moved(id, &host);
                self.endpoint.move_transport(Instant::now(), id, host);
            }
            self.locals[index] = fresh;
        }
    }

    fn receive(&mut self, datagram: Datagram) {
        let Datagram {
            transport,
            source,
            bytes,
        } = datagram;
        if let Some(flood) = &mut self.flood
            && !flood.admits(Instant::now(), source.ip(), &bytes)
        {
            self.dropped.flooded.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.endpoint
            .handle_datagram(Instant::now(), transport, source, &bytes);
        self.shown
            .show(SipDirection::Received, transport, source, || bytes);
    }

    fn told(&mut self, id: ConnectionId, told: Told) {
        let Some((transport, peer)) = self.transports.peer(id) else {
            return;
        };
        match told {
            Told::Message(message) => {
                if let Ok(message) = &message {
                    let bytes = message.to_bytes();
                    if let Some(flood) = &mut self.flood
                        && !flood.admits(Instant::now(), peer.ip(), &bytes)
                    {
                        self.dropped.flooded.fetch_add(1, Ordering::Relaxed);
                        return;
                    }
                    self.shown
                        .show(SipDirection::Received, transport, peer, || bytes);
                }
                self.endpoint
                    .handle_message(Instant::now(), transport, peer, message);
            }
            Told::Idle if self.endpoint.uses(transport, peer) => {}
            Told::Idle => self.close(id, &Closed::ByUs),
            Told::Closed(why) => self.close(id, &why),
        }
    }

    fn close(&mut self, id: ConnectionId, why: &Closed) {
        if let Some((transport, names)) = self.transports.close(id, why) {
            self.unreachable(transport, names);
        }
    }

    fn unreachable(&mut self, transport: TransportId, names: Vec<SocketAddr>) {
        for name in names {
            self.endpoint
                .handle_transmit_failed(Instant::now(), transport, name);
        }
    }

    async fn drain(&mut self) {
        while let Some(output) = self.endpoint.poll() {
            match output {
                Output::Transmit {
                    transport,
                    destination,
                    reconnect,
                    bytes,
                } => {
                    let hop = Hop {
                        transport,
                        address: destination,
                        reconnect,
                    };
                    self.shown
                        .show(SipDirection::Sent, transport, destination, || {
                            bytes.to_vec()
                        });
                    let failed = self.transports.send(hop, bytes).await;
                    self.unreachable(transport, failed);
                }
                Output::Event(event) => self.deliver(event),
            }
        }
    }

    /// The transport for connections to a TLS peer of that name. `None` where its base is no
    /// TLS listener or there are too many.
    fn tls_peer(&mut self, peer: &TlsPeer, client: ClientTls) -> Option<TransportId> {
        let local = self.locals.iter().find(|local| local.id == peer.0)?.clone();
        let (id, made) = self.transports.tls_peer(peer, client)?;
        if made == Made::Now {
            let local = LocalTransport { id, ..local };
            self.shown.add(&local);
            self.endpoint.add_transport(local);
        }
        Some(id)
    }

    fn deliver(&mut self, event: Event) {
        match event {
            Event::IncomingCall(call) => self.introduce(call),
            Event::Registration { id, state } => {
                if let Some(watch) = self.registrations.get(&id) {
                    let over = state == RegistrationState::Unregistered;
                    watch.send_replace(Some(state));
                    if over {
                        self.registrations.remove(&id);
                    }
                }
            }
            Event::Ping { id, status } => {
                if let Some(asked) = self.pings.remove(&id) {
                    // Whoever asked may have gone.
                    let _ = asked.send(status);
                }
            }
            Event::SubscribeRequested(request) => {
                self.subscription_event(SubscriptionEvent::Requested(request));
            }
            Event::SubscriptionEnded { id } => {
                self.subscription_event(SubscriptionEvent::Ended(id));
            }
            Event::Ended { leg, .. } => {
                self.forward(leg, event);
                self.legs.remove(&leg);
            }
            event => {
                if let Some(leg) = event.leg() {
                    self.forward(leg, event);
                }
            }
        }
    }

    fn introduce(&mut self, call: Box<IncomingCall>) {
        let leg = call.leg;
        let (sender, events) = mpsc::channel(LEG_EVENTS);
        match self.incoming.try_send(Incoming { call, events }) {
            Ok(()) => {
                self.legs.insert(leg, sender);
            }
            Err(_) => {
                // Nobody takes calls: say so instead of letting it ring out.
                let _ = self.endpoint.reject(Instant::now(), leg, 503, Vec::new());
            }
        }
    }

    fn forward(&mut self, leg: LegId, event: Event) {
        let Some(events) = self.legs.get(&leg) else {
            return;
        };
        if events.try_send(event).is_err() {
            self.dropped.events.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn command(&mut self, command: Command) {
        let now = Instant::now();
        match command {
            Command::Leg(leg, command) => {
                if let Err(error) = self.leg_command(now, leg, command) {
                    tracing::debug!(leg = leg.0, %error, "leg command not carried out");
                }
            }
            Command::Invite(request, reply) => {
                let result = self.endpoint.invite(now, *request).map(|leg| {
                    let (sender, events) = mpsc::channel(LEG_EVENTS);
                    self.legs.insert(leg, sender);
                    let call_id = self.endpoint.call_id(leg).unwrap_or_default().to_owned();
                    OutgoingLeg {
                        leg,
                        call_id,
                        events,
                    }
                });
                // An asker that gave up drops the leg's events, and hangs nothing: end the leg.
                if let Err(Ok(unwanted)) = reply.send(result) {
                    let _ = self.endpoint.hangup(now, unwanted.leg, Hangup::default());
                }
            }
            Command::Register(request, reply) => {
                let result = self.endpoint.register(now, *request).map(|id| {
                    let (sender, state) = watch::channel(None);
                    self.registrations.insert(id, sender);
                    Registration { id, state }
                });
                let _ = reply.send(result);
            }
            Command::Retarget(id, targets, contact_user) => {
                // An error means that it is over.
                let _ = self.endpoint.retarget(id, &targets, &contact_user);
            }
            Command::Ping(request, answer) => match self.endpoint.ping(now, *request) {
                Ok(id) => {
                    self.pings.insert(id, answer);
                }
                Err(error) => {
                    tracing::debug!(%error, "OPTIONS not sent");
                    let _ = answer.send(None);
                }
            },
            Command::Subscription(id, command) => {
                if let Err(error) = self.subscription_command(now, id, command) {
                    tracing::debug!(%error, "subscription command not carried out");
                }
            }
            Command::NotifyUnsolicited(notify, answer) => {
                self.notify_unsolicited(now, *notify, answer);
            }
            Command::Unregister(id) => {
                let _ = self.endpoint.unregister(now, id);
            }
            Command::Know(peers) => {
                if let Some(flood) = &mut self.flood {
                    flood.know(peers.trusted.clone());
                }
                self.endpoint.know(peers);
            }
            Command::SetAccepting(accepting) => self.endpoint.set_accepting(accepting),
            Command::TlsPeer(peer, client, reply) => {
                let _ = reply.send(self.tls_peer(&peer, client));
            }
            Command::Snapshot(reply) => {
                let snapshot = Snapshot {
                    stats: self.endpoint.stats(),
                    counters: self.endpoint.counters(),
                    connections: self.transports.connections(),
                };
                let _ = reply.send(snapshot);
            }
        }
    }

    fn leg_command(
        &mut self,
        now: Instant,
        leg: LegId,
        command: LegCommand,
    ) -> Result<(), CommandError> {
        let endpoint = &mut self.endpoint;
        match command {
            LegCommand::Ring => endpoint.ring(now, leg),
            LegCommand::Progress(sdp) => endpoint.progress(now, leg, 183, sdp),
            LegCommand::Accept(sdp) => endpoint.accept(now, leg, sdp),
            LegCommand::Reject(status, headers) => endpoint.reject(now, leg, status, headers),
            LegCommand::Hangup(hangup) => endpoint.hangup(now, leg, hangup),
            LegCommand::AnswerOffer(sdp) => endpoint.answer_offer(now, leg, sdp),
            LegCommand::RejectOffer(status) => endpoint.reject_offer(now, leg, status),
            LegCommand::Reinvite(sdp) => match endpoint.reinvite(now, leg, sdp) {
                Err(CommandError::OfferPending | CommandError::LimitReached) => {
                    self.forward(leg, Event::OfferRefused { leg, status: 491 });
                    Ok(())
                }
                done => done,
            },
            LegCommand::Refer(refer) => endpoint.refer(now, leg, *refer),
            LegCommand::AcceptRefer => endpoint.accept_refer(now, leg),
            LegCommand::RejectRefer(status) => endpoint.reject_refer(now, leg, status),
            LegCommand::NotifyRefer(status) => endpoint.notify_refer(now, leg, status),
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
