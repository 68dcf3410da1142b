//! One call's media: its socket, its RTP session and what it plays.
//!
//! Whose packets are taken (RTP latching, SIP.md; AST-2017-005, AST-2017-008):
//!
//! ```text
//! Learning ──packet from the signalled address──────────▶ Locked(signalled)
//!    │  └───packet from elsewhere, within the window────▶ Locked(there), sent to from now on
//!    └──────window over─────────────────────────────────▶ only the signalled address
//! Locked ───new offer or answer────────────────────────▶ Learning
//! ```

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::UdpSocket;
use tokio::sync::mpsc;

use crate::audio::level::SILENCE_DBFS;
use crate::audio::tone::DtmfDigit;
use crate::audio::{Frame, mix};
use crate::rtp::{Digit, Received, Session};

use super::pacer::Port;
use super::player::Player;
use super::reports::{Reports, ntp_now};
use super::{Arrival, ClipKey, Destination, MediaCounters, StreamReport, Tick};

/// How long a peer behind NAT may take to show its real address.
const LEARNING_WINDOW: Duration = Duration::from_secs(10);

/// Packets read at once from one socket, so that a flood on one cannot starve the others.
const READ_BATCH: usize = 64;

/// The longest packet looked at: 60 ms of G.711 with room for header extensions.
const PACKET: usize = 2048;

/// What a stream heard in one tick.
pub(super) struct Heard {
    frame: Frame,
    digits: Vec<Digit>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    Learning { since: Option<Instant> },
    Locked,
}

pub(super) struct Stream {
    pub(super) socket: UdpSocket,
    pub(super) reports: Reports,
    session: Session,
    remote: SocketAddr,
    peer: Peer,
    player: Player,
    /// What the stream that this one is joined to heard last.
    relayed: Option<Frame>,
    /// False while the peer wants to get nothing (RFC 3264 section 8.4).
    sending: bool,
    ticks: mpsc::Sender<Tick>,
    index: u64,
    arrivals: Vec<Arrival>,
}

impl Stream {
    pub(super) fn new(
        socket: UdpSocket,
        reports: Reports,
        session: Session,
        remote: SocketAddr,
        ticks: mpsc::Sender<Tick>,
    ) -> Self {
        Self {
            socket,
            reports,
            session,
            remote,
            peer: Peer::Learning { since: None },
            player: Player::default(),
            relayed: None,
            sending: true,
            ticks,
            index: 0,
            arrivals: Vec::new(),
        }
    }

    pub(super) fn play(&mut self, key: ClipKey, samples: Arc<[i16]>, from: u32) {
        self.player.push(key, samples, from);
    }

    pub(super) fn stop(&mut self, fade_ms: u32) {
        self.player.stop(fade_ms);
    }

    pub(super) fn music(&mut self, samples: Option<Arc<[i16]>>) {
        self.player.music(samples);
    }

    /// What the other stream heard: sent with the next tick, under whatever is played.
    pub(super) fn relay(&mut self, heard: Heard) {
        self.relayed = Some(heard.frame);
        for digit in heard.digits {
            self.session.send_digit(digit.digit, digit.duration);
        }
    }

    pub(super) fn set_sending(&mut self, sending: bool) {
        self.sending = sending;
    }

    pub(super) fn redirect(&mut self, to: Destination) {
        self.remote = to.remote;
        self.reports.redirect(to.reports);
        self.session.reconfigure(to.config);
        self.peer = Peer::Learning { since: None };
    }

    pub(super) fn report(&self) -> StreamReport {
        StreamReport {
            statistics: self.session.statistics(),
            quality: self.session.quality(),
        }
    }

    /// Tells the peer that the stream ends (RFC 3550 section 6.6).
    pub(super) fn say_goodbye(&mut self) {
        if let Some(goodbye) = self.session.goodbye(Instant::now(), ntp_now()) {
            // The call is over; nobody waits for it.
            let _ = self.reports.send(&goodbye, (&self.socket, self.remote));
        }
    }

    pub(super) fn send_digit(&mut self, digit: DtmfDigit, duration: Duration) {
        self.session.send_digit(digit, duration);
    }

    /// Reads what arrived on one of the sockets. True where more may wait.
    pub(super) fn read(&mut self, port: Port, counters: &MediaCounters) -> bool {
        let mut buffer = [0; PACKET];
        for _ in 0..READ_BATCH {
            let read = match port {
                Port::Rtp => self.socket.recv_from(&mut buffer),
                Port::Rtcp => self.reports.socket.recv_from(&mut buffer),
            };
            match read {
                Ok((length, source)) => {
                    let datagram = &buffer[..length];
                    match port {
                        Port::Rtp => self.received(datagram, source, counters),
                        Port::Rtcp => self.received_control(datagram, source, counters),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                // ICMP about an earlier packet; the next read goes on.
                Err(_) => {}
            }
        }
        true
    }

    fn received_control(&mut self, datagram: &[u8], source: SocketAddr, counters: &MediaCounters) {
        if !self.reports.is_peer(source, self.remote) {
            MediaCounters::count(&counters.stranger_packets);
            return;
        }
        match self.session.receive_control(Instant::now(), datagram) {
            Ok(_) => self.reports.heard_from(source),
            Err(_) => MediaCounters::count(&counters.bad_packets),
        }
    }

    fn received(&mut self, packet: &[u8], source: SocketAddr, counters: &MediaCounters) {
        let now = Instant::now();
        if !self.is_peer(source, now) {
            MediaCounters::count(&counters.stranger_packets);
            return;
        }
        match self.session.receive(now, packet) {
            Ok(received) => {
                if self.remote != source {
                    self.remote = source;
                    self.reports.follow(source);
                }
                self.peer = Peer::Locked;
                let arrival = match received {
                    Received::Voice { level_dbfs, .. } => Some(level_dbfs),
                    // Keys and comfort noise are a sign of life, but no sound.
                    Received::Digit { .. } | Received::ComfortNoise => Some(SILENCE_DBFS),
                    Received::Control { .. } | Received::Duplicate | Received::Ignored => None,
                };
                if let Some(level_dbfs) = arrival {
                    self.arrivals.push(Arrival {
                        at: now,
                        level_dbfs,
                    });
                }
            }
            Err(_) => MediaCounters::count(&counters.bad_packets),
        }
    }

    fn is_peer(&mut self, source: SocketAddr, now: Instant) -> bool {
        if source == self.remote {
            return true;
        }
        match &mut self.peer {
            Peer::Locked => false,
            Peer::Learning { since } => {
                now.duration_since(*since.get_or_insert(now)) < LEARNING_WINDOW
            }
        }
    }

    /// Sends this tick's packet and hands the tick to the call; what was heard in it.
    pub(super) fn tick(&mut self, counters: &MediaCounters) -> Heard {
        let mut played = Vec::new();
        let mut spoken = self.player.next(&mut played);
        if let Some(relayed) = self.relayed.take() {
            mix::add(spoken.samples_mut(), relayed.samples());
        }
        let now = Instant::now();
        let sound = self.sending.then_some(&spoken);
        self.session.send(sound, |packet| {
            if self.socket.send_to(packet, self.remote).is_err() {
                MediaCounters::count(&counters.unsent_packets);
            }
        });
        if let Some(report) = self.session.poll_control(now, ntp_now()) {
            let sent = self.reports.send(&report, (&self.socket, self.remote));
            if sent.is_err() {
                MediaCounters::count(&counters.unsent_packets);
            }
        }
        if let Peer::Learning { since } = &mut self.peer {
            since.get_or_insert(now);
        }
        let heard = self.session.pull(now);
        let tick = Tick {
            index: self.index,
            at: now,
            heard: heard.frame,
            spoken,
            arrivals: std::mem::take(&mut self.arrivals),
            played,
            digits: std::iter::from_fn(|| self.session.poll_digit()).collect(),
        };
        let heard = Heard {
            frame: tick.heard.clone(),
            digits: tick.digits.clone(),
        };
        self.index += 1;
        if self.ticks.try_send(tick).is_err() {
            MediaCounters::count(&counters.lost_ticks);
        }
        heard
    }
}
