//! A bad network between a caller and a server: the signalling goes through whole, the sound
//! loses packets and comes late.
//!
//! ```text
//!  caller ──SIP──▶ relay ──SIP, its SDP naming the relay──▶ server
//!  caller ──RTP──▶ relay ──some lost, all delayed─────────▶ server
//! ```
//!
//! Ports have five digits on every side, so that a description keeps its length.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{media_ports, udp_port};

/// What happens to sound on its way to the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// Share of packets that are lost, from 0 to 1.
    pub(crate) loss: f64,
    /// The others are delayed by up to this.
    pub(crate) jitter: Duration,
    pub(crate) seed: u64,
}

/// Sockets and counts that the threads share.
struct Shared {
    over: AtomicBool,
    signalling: UdpSocket,
    /// Faces the caller, and the server.
    media: [UdpSocket; 2],
    server: SocketAddr,
    caller: Mutex<Option<SocketAddr>>,
    /// Where the caller's sound comes from and goes to, and the server's: ports.
    ports: [AtomicU16; 2],
    passed: AtomicU32,
    lost: AtomicU32,
}

/// What one of its threads does.
type Work = Box<dyn FnOnce(&Shared) + Send>;

/// A relay for one call.
pub(crate) struct Relay {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Relay {
    /// Before a server at `127.0.0.1:port`.
    pub(crate) fn before(server: &str, weather: Weather) -> Self {
        let bind = |port: u16| {
            let socket = UdpSocket::bind(("127.0.0.1", port)).expect("a free port");
            let patience = Some(Duration::from_millis(20));
            socket.set_read_timeout(patience).expect("a timeout");
            socket
        };
        let media = media_ports();
        let shared = Arc::new(Shared {
            over: AtomicBool::new(false),
            signalling: bind(udp_port()),
            media: [bind(media), bind(media + 2)],
            server: server.parse().expect("an address"),
            caller: Mutex::new(None),
            ports: [AtomicU16::new(0), AtomicU16::new(0)],
            passed: AtomicU32::new(0),
            lost: AtomicU32::new(0),
        });
        let (delayed, queue) = mpsc::channel();
        let workers: [Work; 4] = [
            Box::new(signalling),
            Box::new(move |shared| to_server(shared, weather, &delayed)),
            Box::new(to_caller),
            Box::new(move |shared| deliver(shared, &queue)),
        ];
        let threads = workers.map(|work| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || work(&shared))
        });
        Self {
            shared,
            threads: threads.into(),
        }
    }

    /// `sip:user@127.0.0.1:port`, by which the server is reached through it.
    pub(crate) fn uri(&self, user: &str) -> String {
        let address = self.shared.signalling.local_addr().expect("bound");
        format!("sip:{user}@{address}")
    }

    /// Packets of sound that came through, and that were lost.
    pub(crate) fn counts(&self) -> (u32, u32) {
        let count = |counter: &AtomicU32| counter.load(Ordering::Relaxed);
        (count(&self.shared.passed), count(&self.shared.lost))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }
}

/// Passes messages on; each side is told the relay's port for its sound.
fn signalling(shared: &Shared) {
    let mut buffer = [0; 65_535];
    while shared.goes_on() {
        let Ok((length, source)) = shared.signalling.recv_from(&mut buffer) else {
            continue;
        };
        let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let from_server = source == shared.server;
        let mut caller = shared.caller.lock().expect("no panic");
        let (to, side) = match from_server {
            true => (*caller, 1),
            false => (Some(shared.server), 0),
        };
        if !from_server {
            caller.get_or_insert(source);
        }
        drop(caller);
        // What comes from the caller names its port, and shall name the one that faces the server.
        let ours = shared.media[1 - side].local_addr().expect("bound").port();
        let message = renamed(&message, &shared.ports[side], ours);
        if let Some(to) = to {
            let _ = shared.signalling.send_to(message.as_bytes(), to);
        }
    }
}

fn renamed(message: &str, theirs: &AtomicU16, ours: u16) -> String {
    const MEDIA: &str = "\r\nm=audio ";
    let Some((before, after)) = message.split_once(MEDIA) else {
        return message.to_owned();
    };
    let (port, rest) = after.split_once(' ').expect("a media line");
    theirs.store(port.parse().expect("a port"), Ordering::Relaxed);
    assert_eq!(
        port.len(),
        ours.to_string().len(),
        "the length must not change"
    );
    format!("{before}{MEDIA}{ours} {rest}")
}

type Delayed = (Reverse<Instant>, Vec<u8>);

fn to_server(shared: &Shared, weather: Weather, delayed: &mpsc::Sender<Delayed>) {
    let mut rng = StdRng::seed_from_u64(weather.seed);
    let mut buffer = [0; 2048];
    while shared.goes_on() {
        let Ok((length, _)) = shared.media[0].recv_from(&mut buffer) else {
            continue;
        };
        if rng.random_bool(weather.loss) {
            shared.lost.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        shared.passed.fetch_add(1, Ordering::Relaxed);
        let delay = weather.jitter.mul_f64(rng.random());
        let packet = (Reverse(Instant::now() + delay), buffer[..length].to_vec());
        let _ = delayed.send(packet);
    }
}

fn deliver(shared: &Shared, queue: &mpsc::Receiver<Delayed>) {
    let mut waiting: BinaryHeap<Delayed> = BinaryHeap::new();
    while shared.goes_on() {
        let patience = waiting.peek().map_or(Duration::from_millis(20), |(at, _)| {
            at.0.saturating_duration_since(Instant::now())
        });
        waiting.extend(queue.recv_timeout(patience).ok());
        while waiting.peek().is_some_and(|(at, _)| at.0 <= Instant::now()) {
            let (_, packet) = waiting.pop().expect("one waits");
            let port = shared.ports[1].load(Ordering::Relaxed);
            let _ = shared.media[1].send_to(&packet, ("127.0.0.1", port));
        }
    }
}

fn to_caller(shared: &Shared) {
    let mut buffer = [0; 2048];
    while shared.goes_on() {
        if let Ok((length, _)) = shared.media[1].recv_from(&mut buffer) {
            let port = shared.ports[0].load(Ordering::Relaxed);
            let _ = shared.media[0].send_to(&buffer[..length], ("127.0.0.1", port));
        }
    }
}
