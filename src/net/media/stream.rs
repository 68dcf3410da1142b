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
use std::time::{Duration, Instant};

use mio::net::UdpSocket;
use tokio::sync::mpsc;

use crate::audio::level::SILENCE_DBFS;
use crate::audio::tone::DtmfDigit;
use crate::audio::twofold::Fitter;
use crate::audio::{AnyFrame, Sound, mix};
use crate::rtp::{Digit, Received, Session};

use super::keys::KeyTones;
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
    frame: AnyFrame,
    digits: Vec<Digit>,
}

#[derive(Default)]
struct Fitters {
    relayed: Fitter,
    keys: Fitter,
    heard: Fitter,
    spoken: Fitter,
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
    /// Keys for a peer that takes no events.
    keys: KeyTones,
    /// What the stream that this one is joined to heard last.
    relayed: Option<AnyFrame>,
    /// To our rate what is relayed, and to 8 kHz what is heard and spoken.
    fitters: Fitters,
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
            remote,
            peer: Peer::Learning { since: None },
            player: Player::new(session.rate()),
            session,
            keys: KeyTones::default(),
            relayed: None,
            fitters: Fitters::default(),
            sending: true,
            ticks,
            index: 0,
            arrivals: Vec::new(),
        }
    }

    pub(super) fn play(&mut self, key: ClipKey, sound: &Sound, from: u32) {
        self.player.push(key, sound, from);
    }

    pub(super) fn duck(&mut self, lower: bool) {
        self.player.duck(lower);
    }

    pub(super) fn stop(&mut self, fade_ms: u32) {
        self.player.stop(fade_ms);
    }

    pub(super) fn music(&mut self, sound: Option<&Sound>) {
        self.player.music(sound);
    }

    /// What the other stream heard: sent with the next tick, under whatever is played.
    pub(super) fn relay(&mut self, heard: Heard) {
        self.relayed = Some(heard.frame);
        for digit in heard.digits {
            self.send_digit(digit.digit, digit.duration);
        }
    }

    pub(super) fn set_sending(&mut self, sending: bool) {
        self.sending = sending;
    }

    pub(super) fn redirect(&mut self, to: Destination) {
        self.remote = to.remote;
        self.reports.redirect(to.reports);
        self.session.reconfigure(to.config);
        self.player.set_rate(self.session.rate());
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
        if self.session.takes_digits() {
            self.session.send_digit(digit, duration);
        } else {
            self.keys.press(digit, duration);
        }
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
                self.note_loudness();
                // Keys and comfort noise are a sign of life, but no sound.
                if let Received::Digit { .. } | Received::ComfortNoise = received {
                    self.arrivals.push(Arrival {
                        at: now,
                        level_dbfs: SILENCE_DBFS,
                    });
                }
            }
            Err(_) => MediaCounters::count(&counters.bad_packets),
        }
    }

    /// Packets tell how loud they are as soon as they can be decoded.
    fn note_loudness(&mut self) {
        while let Some(loudness) = self.session.poll_loudness() {
            self.arrivals.push(Arrival {
                at: loudness.arrived,
                level_dbfs: loudness.level_dbfs,
            });
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
            let relayed = self.fitters.relayed.fit(&relayed, spoken.rate());
            mix::add(spoken.samples_mut(), relayed.samples());
        }
        if let Some(key) = self.keys.next() {
            spoken = self.fitters.keys.fit(&key.into(), spoken.rate());
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
        let heard = self.session.pull(now).frame;
        self.note_loudness();
        let tick = Tick {
            index: self.index,
            at: now,
            heard: self.fitters.heard.narrow(&heard),
            heard_wide: match &heard {
                AnyFrame::Wide(frame) => Some(frame.clone()),
                AnyFrame::Narrow(_) => None,
            },
            spoken: self.fitters.spoken.narrow(&spoken),
            arrivals: std::mem::take(&mut self.arrivals),
            played,
            digits: std::iter::from_fn(|| self.session.poll_digit()).collect(),
        };
        let heard = Heard {
            frame: heard,
            digits: tick.digits.clone(),
        };
        self.index += 1;
        if self.ticks.try_send(tick).is_err() {
            MediaCounters::count(&counters.lost_ticks);
        }
        heard
    }
}
