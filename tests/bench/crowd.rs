//! Many callers who talk without a pause: their packets, sent and received by two threads.
//!
//! ```text
//! speech ─▶ sender: each call every 20 ms, at its own place in them ─▶ server's ports
//!           receiver: when each packet came, and which are missing ◀── server's pacer
//! ```

use std::collections::HashMap;
use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use thread_priority::{
    RealtimeThreadSchedulePolicy, ScheduleParams, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

use crate::Result;

/// Callers who share a socket; its buffer holds some ticks of theirs.
const PER_SOCKET: usize = 40;
/// Samples, and bytes of G.711, in a packet.
const PACKET: usize = 160;
const HEADER: usize = 12;
const TICK: Duration = Duration::from_millis(20);
/// Times at which the sender wakes within a tick.
const SLOTS: u32 = 10;

/// One caller's way to the server.
#[derive(Clone, Copy, Debug)]
struct Caller {
    /// Which of the sockets.
    socket: usize,
    /// The server's port for them.
    port: u16,
}

/// Sockets for the media of that many callers.
pub(crate) fn sockets(callers: usize) -> Result<Vec<UdpSocket>> {
    let count = callers.div_ceil(PER_SOCKET);
    let sockets = (0..count).map(|_| UdpSocket::bind("127.0.0.1:0"));
    Ok(sockets.collect::<io::Result<_>>()?)
}

/// The socket of a caller.
pub(crate) fn socket_of(caller: usize) -> usize {
    caller / PER_SOCKET
}

/// What was heard while it was measured.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) packets: u64,
    /// Sequence numbers that never came.
    pub(crate) missing: u64,
    /// How far from 20 ms after the packet before each one came, in ms.
    pub(crate) jitter: Vec<f64>,
}

/// Callers in conversation, for as long as it is held.
pub(crate) struct Crowd {
    over: Arc<AtomicBool>,
    measuring: Arc<AtomicBool>,
    sender: JoinHandle<io::Result<()>>,
    receiver: JoinHandle<io::Result<Heard>>,
}

impl Crowd {
    /// `ports` are the server's, by caller; `speech` is G.711 that all of them speak, each from
    /// another place on.
    pub(crate) fn start(sockets: Vec<UdpSocket>, ports: &[u16], speech: Arc<[u8]>) -> Result<Self> {
        let over = Arc::<AtomicBool>::default();
        let measuring = Arc::<AtomicBool>::default();
        let callers = ports.iter().enumerate().map(|(index, port)| Caller {
            socket: socket_of(index),
            port: *port,
        });
        let callers: Vec<Caller> = callers.collect();
        let sending = sockets
            .iter()
            .map(UdpSocket::try_clone)
            .collect::<io::Result<Vec<_>>>()?;
        let known = callers.clone();
        let receiver = {
            let (over, measuring) = (Arc::clone(&over), Arc::clone(&measuring));
            std::thread::spawn(move || receive(sockets, &known, &over, &measuring))
        };
        let sender = {
            let over = Arc::clone(&over);
            std::thread::spawn(move || send(&sending, &callers, &speech, &over))
        };
        Ok(Self {
            over,
            measuring,
            sender,
            receiver,
        })
    }

    /// From now on what is heard counts.
    pub(crate) fn measure(&self) {
        self.measuring.store(true, Ordering::Relaxed);
    }

    /// Ends the measurement and the talking.
    pub(crate) fn finish(self) -> Result<Heard> {
        self.measuring.store(false, Ordering::Relaxed);
        self.over.store(true, Ordering::Relaxed);
        let gone = |_| "a thread of the generator panicked";
        self.sender.join().map_err(gone)??;
        Ok(self.receiver.join().map_err(gone)??)
    }
}

fn send(
    sockets: &[UdpSocket],
    callers: &[Caller],
    speech: &[u8],
    over: &AtomicBool,
) -> io::Result<()> {
    let began = Instant::now();
    let mut packet = [0; HEADER + PACKET];
    packet[0] = 0x80;
    let packets = speech.len() / PACKET;
    for tick in 0u32.. {
        for slot in 0..SLOTS {
            let at = began + TICK * tick + TICK * slot / SLOTS;
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            if over.load(Ordering::Relaxed) {
                return Ok(());
            }
            let of_slot = (slot as usize..callers.len()).step_by(SLOTS as usize);
            for index in of_slot {
                let caller = callers[index];
                packet[2..4].copy_from_slice(&(tick as u16).to_be_bytes());
                packet[4..8].copy_from_slice(&(tick.wrapping_mul(PACKET as u32)).to_be_bytes());
                packet[8..12].copy_from_slice(&(index as u32 + 1).to_be_bytes());
                // Each is elsewhere in the text.
                let place = (tick as usize + index * 37) % packets * PACKET;
                packet[HEADER..].copy_from_slice(&speech[place..place + PACKET]);
                sockets[caller.socket].send_to(&packet, ("127.0.0.1", caller.port))?;
            }
        }
    }
    Ok(())
}

/// The last packet of a caller.
struct Last {
    at: Instant,
    sequence: u16,
}

fn receive(
    sockets: Vec<UdpSocket>,
    callers: &[Caller],
    over: &AtomicBool,
    measuring: &AtomicBool,
) -> io::Result<Heard> {
    // Or the generator's own delays would be measured; without the permission it is tried as it is.
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
    let priority = ThreadPriority::from_posix(ScheduleParams { sched_priority: 15 });
    let _ = set_thread_priority_and_policy(thread_native_id(), priority, policy);
    let mut poll = Poll::new()?;
    let mut sockets = sockets
        .into_iter()
        .map(|socket| {
            socket.set_nonblocking(true)?;
            Ok(mio::net::UdpSocket::from_std(socket))
        })
        .collect::<io::Result<Vec<_>>>()?;
    for (index, socket) in sockets.iter_mut().enumerate() {
        poll.registry()
            .register(socket, Token(index), Interest::READABLE)?;
    }
    let by_port: HashMap<u16, usize> = callers
        .iter()
        .enumerate()
        .map(|(index, caller)| (caller.port, index))
        .collect();
    let mut last: Vec<Option<Last>> = callers.iter().map(|_| None).collect();
    let mut events = Events::with_capacity(256);
    let mut heard = Heard::default();
    let mut buffer = [0; 2048];
    while !over.load(Ordering::Relaxed) {
        poll.poll(&mut events, Some(Duration::from_millis(100)))?;
        for event in &events {
            let socket = &sockets[event.token().0];
            loop {
                let (length, source) = match socket.recv_from(&mut buffer) {
                    Ok(read) => read,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                };
                let Some(caller) = by_port.get(&source.port()).filter(|_| length >= HEADER) else {
                    continue;
                };
                let now = Last {
                    at: Instant::now(),
                    sequence: u16::from_be_bytes([buffer[2], buffer[3]]),
                };
                if let Some(before) = &last[*caller]
                    && measuring.load(Ordering::Relaxed)
                {
                    heard.note(before, &now);
                }
                last[*caller] = Some(now);
            }
        }
    }
    Ok(heard)
}

impl Heard {
    fn note(&mut self, before: &Last, now: &Last) {
        self.packets += 1;
        let step = now.sequence.wrapping_sub(before.sequence);
        self.missing += u64::from(step.saturating_sub(1));
        let expected = TICK * u32::from(step);
        let distance = (now.at - before.at).as_secs_f64() - expected.as_secs_f64();
        self.jitter.push(distance.abs() * 1000.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_that_is_missing_is_counted_and_does_not_count_as_jitter() {
        let began = Instant::now();
        let last = |ms, sequence| Last {
            at: began + Duration::from_millis(ms),
            sequence,
        };
        let mut heard = Heard::default();
        heard.note(&last(0, 65_535), &last(20, 0));
        heard.note(&last(20, 0), &last(63, 2));
        assert_eq!((heard.packets, heard.missing), (2, 1));
        assert!(heard.jitter[0] < 1e-6);
        assert!((heard.jitter[1] - 3.0).abs() < 1e-6);
    }
}
