//! Media sockets and the thread that paces them.
//!
//! ```text
//! call task ──Play, Stop, …──▶ ┌──────────────┐ ──20 ms grid──▶ one packet out per stream
//! sockets ─────packets───────▶ │ media thread │ ──try_send────▶ one Tick per stream to its call
//!                              └──────────────┘
//! ```
//!
//! One thread of its own serves every call, so that neither the async runtime nor model inference
//! can delay a packet: its timer is a timerfd on an absolute 20 ms grid, and it asks for
//! SCHED_FIFO. It never blocks and never waits for a call: a call that does not take its ticks
//! loses them, and they are counted.

mod keys;
mod pacer;
mod player;
mod ports;
mod reports;
mod stream;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc as blocking;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use mio::Waker;
use tokio::sync::{mpsc, oneshot};

use std::time::Duration;

use rand::RngExt;

use crate::audio::tone::DtmfDigit;
use crate::audio::{Frame, SampleRate, Sound, WideFrame};
use crate::rtp::{
    Digit, MasterKey, Quality, Session, SessionConfig, SrtpKeys, Statistics, StreamConfig, Tag,
};
use crate::sdp::{Crypto, CryptoSuite, Negotiated};

pub use ports::NoPort;
use ports::{Pair, Ports};
use reports::{ReportRoute, Reports};
use stream::Stream;

/// Ticks that a call may lag behind before they are lost: one second.
const TICKS: usize = 50;

/// Length of a tick.
pub const TICK_MS: u64 = 20;

/// Names one stream of the media thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct StreamId(usize);

/// Names a clip within its stream; the call chooses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClipKey(pub u64);

/// An address of ours for media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaAddress {
    /// Address to bind to.
    pub bind: IpAddr,
    /// What peers are told in SDP; of the same family.
    pub advertised: IpAddr,
}

/// Where media sockets live.
#[derive(Clone, Debug)]
pub struct MediaConfig {
    /// One for each family that we speak.
    pub addresses: Vec<MediaAddress>,
    /// First port.
    pub port_min: u16,
    /// Last port.
    pub port_max: u16,
}

/// A packet of speech that arrived.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arrival {
    /// When it was read from the socket.
    pub at: Instant,
    /// Level of its samples, dB relative to full scale.
    pub level_dbfs: f32,
}

/// How far a clip was played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Played {
    /// The clip.
    pub clip: ClipKey,
    /// Samples of it played so far, from its start, as many as they are at 8 kHz.
    pub samples: u32,
    /// That was all of it.
    pub finished: bool,
}

/// 20 ms of a call, both ways.
#[derive(Clone, Debug)]
pub struct Tick {
    /// Counts from 0; sample `index * 160` of the call's clock starts here.
    pub index: u64,
    /// When this tick's packet was sent.
    pub at: Instant,
    /// What the caller said, out of the jitter buffer; silence where there is nothing.
    pub heard: Frame,
    /// The same at 16 kHz, 1.5 ms earlier, where the codec is wideband.
    pub heard_wide: Option<WideFrame>,
    /// What was sent.
    pub spoken: Frame,
    /// Packets that arrived since the last tick.
    pub arrivals: Vec<Arrival>,
    /// Clips that were played in this tick.
    pub played: Vec<Played>,
    /// Keys pressed (RFC 4733).
    pub digits: Vec<Digit>,
}

/// What the media thread counts, for metrics and benches.
#[derive(Debug, Default)]
pub struct MediaCounters {
    /// Ticks of the grid.
    pub ticks: AtomicU64,
    /// Ticks that ran more than 5 ms after their time.
    pub late_ticks: AtomicU64,
    /// The worst lateness, in µs.
    pub worst_lateness_us: AtomicU64,
    /// Ticks that a call did not take.
    pub lost_ticks: AtomicU64,
    /// Packets that the socket did not take.
    pub unsent_packets: AtomicU64,
    /// Packets from sources that are not the stream's peer.
    pub stranger_packets: AtomicU64,
    /// Packets that are not RTP of the session.
    pub bad_packets: AtomicU64,
}

impl MediaCounters {
    fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

enum Command {
    Add(StreamId, Box<Stream>),
    Remove(StreamId),
    Play(StreamId, ClipKey, Sound, u32),
    Duck(StreamId, bool),
    Stop(StreamId, u32),
    Redirect(StreamId, Box<Destination>),
    SendDigit(StreamId, DtmfDigit, Duration),
    Music(StreamId, Option<Sound>),
    SetSending(StreamId, bool),
    Join(StreamId, StreamId),
    Report(StreamId, oneshot::Sender<StreamReport>),
}

/// Where a stream goes, and how.
struct Destination {
    remote: SocketAddr,
    reports: ReportRoute,
    config: StreamConfig,
}

/// How a stream has fared so far.
#[derive(Clone, Copy, Debug)]
pub struct StreamReport {
    /// What was counted.
    pub statistics: Statistics,
    /// What it amounts to.
    pub quality: Quality,
}

/// A handle to the media thread. Cheap to clone; the thread ends with the last handle or stream.
#[derive(Clone, Debug)]
pub struct Media {
    link: Arc<Link>,
    ports: Arc<Ports>,
}

#[derive(Debug)]
struct Link {
    commands: blocking::Sender<Command>,
    waker: Waker,
    counters: Arc<MediaCounters>,
    next_stream: AtomicU64,
}

impl Link {
    fn send(&self, command: Command) {
        // The thread lives as long as this link does.
        if self.commands.send(command).is_ok() {
            let _ = self.waker.wake();
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Wakes the thread to find its channel closed.
        let _ = self.waker.wake();
    }
}

impl Media {
    /// Starts the media thread.
    ///
    /// # Errors
    /// Where the system has no epoll, timerfd or thread left for us.
    pub fn start(config: MediaConfig) -> io::Result<Self> {
        let counters = Arc::<MediaCounters>::default();
        let (commands, waker) = pacer::start(Arc::clone(&counters))?;
        let link = Link {
            commands,
            waker,
            counters,
            next_stream: AtomicU64::new(0),
        };
        Ok(Self {
            link: Arc::new(link),
            ports: Arc::new(Ports::new(config)),
        })
    }

    /// Binds a media port for a peer at `peer`, whose family it has, for the SDP, and the next one
    /// for RTCP. They are given back when dropped.
    ///
    /// # Errors
    /// Where no port of the range is free, or media has no address of that family.
    pub fn reserve(&self, peer: IpAddr) -> Result<MediaPort, NoPort> {
        Ok(MediaPort {
            link: Arc::clone(&self.link),
            pair: self.ports.bind(peer)?,
        })
    }

    /// What was counted so far.
    pub fn counters(&self) -> &MediaCounters {
        &self.link.counters
    }
}

/// A bound port that does not flow yet.
#[derive(Debug)]
pub struct MediaPort {
    link: Arc<Link>,
    pair: Pair,
}

impl MediaPort {
    /// What the SDP says of its address.
    pub fn address(&self) -> IpAddr {
        self.pair.advertised
    }

    /// The port that peers send to.
    ///
    /// # Errors
    /// Where the socket is gone.
    pub fn port(&self) -> io::Result<u16> {
        Ok(self.pair.rtp.local_addr()?.port())
    }

    /// Lets media flow as negotiated: one packet out every 20 ms, silence where nothing is
    /// played. The first tick is index 0. The stream ends when the returned handle is dropped.
    ///
    /// # Errors
    /// Where the socket cannot be made non-blocking.
    pub fn flow(self, negotiated: &Negotiated) -> io::Result<(MediaStream, mpsc::Receiver<Tick>)> {
        let Pair { rtp, rtcp, .. } = self.pair;
        rtp.set_nonblocking(true)?;
        rtcp.set_nonblocking(true)?;
        let mut random = rand::rng();
        let session = Session::new(SessionConfig {
            ssrc: random.random(),
            first_sequence: random.random(),
            first_timestamp: random.random(),
            stream: stream_config(negotiated),
        });
        let (ticks, receiver) = mpsc::channel(TICKS);
        let socket = mio::net::UdpSocket::from_std(rtp);
        let rtcp = mio::net::UdpSocket::from_std(rtcp);
        let reports = Reports::new(rtcp, ReportRoute::of(negotiated));
        let number = self.link.next_stream.fetch_add(1, Ordering::Relaxed);
        // 64-bit targets only; a counter of streams does not wrap.
        let id = StreamId(usize::try_from(number).unwrap_or(usize::MAX));
        let stream = Stream::new(socket, reports, session, negotiated.remote, ticks);
        self.link.send(Command::Add(id, Box::new(stream)));
        let stream = MediaStream {
            link: self.link,
            id,
            rate: Mutex::new(negotiated.codec.sample_rate()),
        };
        Ok((stream, receiver))
    }
}

/// A flowing stream; dropping it ends the flow and frees the port.
#[derive(Debug)]
pub struct MediaStream {
    link: Arc<Link>,
    id: StreamId,
    /// What the codec has.
    rate: Mutex<SampleRate>,
}

impl MediaStream {
    /// The rate of its sound: 8 kHz, or 16 kHz where the codec is wideband. Sound at that rate is
    /// played as it is.
    pub fn rate(&self) -> SampleRate {
        *self.rate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plays `sound` from a sample on that is counted at 8 kHz, after what was asked for before.
    pub fn play(&self, clip: ClipKey, sound: impl Into<Sound>, from: u32) {
        // Here rather than in the media thread, which has no time to spare.
        let sound = sound.into().at(self.rate());
        self.link.send(Command::Play(self.id, clip, sound, from));
    }

    /// Plays clips lower by 22 dB from now on, or no longer so. [`MediaStream::stop`] ends it, too.
    pub fn duck(&self, lower: bool) {
        self.link.send(Command::Duck(self.id, lower));
    }

    /// Fades out over `fade_ms` and forgets every clip.
    pub fn stop(&self, fade_ms: u32) {
        self.link.send(Command::Stop(self.id, fade_ms));
    }

    /// Plays samples (8 kHz) over and over wherever no clip plays, until `None`.
    pub fn music(&self, samples: Option<Arc<[i16]>>) {
        let sound = samples.map(|samples| Sound::from(samples).at(self.rate()));
        self.link.send(Command::Music(self.id, sound));
    }

    /// Whether sound is sent. What is played goes on unheard, and is reported, while it is not.
    pub fn set_sending(&self, sending: bool) {
        self.link.send(Command::SetSending(self.id, sending));
    }

    /// Joins two streams: what one hears, sound and keys, is sent by the other from now on, 20 ms
    /// later. It ends with either stream.
    pub fn join(&self, other: &Self) {
        self.link.send(Command::Join(self.id, other.id));
    }

    /// The session was negotiated anew: media goes where and how it says from now on, and the
    /// peer may be learned afresh.
    pub fn renegotiate(&self, negotiated: &Negotiated) {
        *self.rate.lock().unwrap_or_else(PoisonError::into_inner) = negotiated.codec.sample_rate();
        let destination = Destination {
            remote: negotiated.remote,
            reports: ReportRoute::of(negotiated),
            config: stream_config(negotiated),
        };
        self.link
            .send(Command::Redirect(self.id, Box::new(destination)));
    }

    /// Sends a key after those asked for before: as an event (RFC 4733) where the peer takes those,
    /// else as a tone.
    pub fn send_digit(&self, digit: DtmfDigit, duration: Duration) {
        self.link.send(Command::SendDigit(self.id, digit, duration));
    }

    /// How the stream has fared so far; `None` where the media thread is gone.
    pub async fn report(&self) -> Option<StreamReport> {
        let (sender, report) = oneshot::channel();
        self.link.send(Command::Report(self.id, sender));
        report.await.ok()
    }
}

impl Drop for MediaStream {
    fn drop(&mut self) {
        self.link.send(Command::Remove(self.id));
    }
}

/// What SDP agreed on, in RTP's terms.
fn stream_config(negotiated: &Negotiated) -> StreamConfig {
    StreamConfig {
        codec: negotiated.codec,
        payload_type: negotiated.payload_type,
        telephone_event: negotiated.telephone_event,
        receive: negotiated.receive.clone(),
        ptime_ms: negotiated.ptime_ms,
        voip_metrics: negotiated.voip_metrics,
        srtp: negotiated.crypto.map(srtp_keys),
    }
}

fn srtp_keys(crypto: Crypto) -> SrtpKeys {
    SrtpKeys {
        tag: match crypto.suite {
            CryptoSuite::AesCm128HmacSha1_80 => Tag::Bits80,
            CryptoSuite::AesCm128HmacSha1_32 => Tag::Bits32,
        },
        ours: MasterKey(crypto.ours.0),
        theirs: MasterKey(crypto.theirs.0),
    }
}

#[cfg(test)]
mod tests;
