//! One caller who is told, step by step, what to do: sends 20 ms of G.711 at a time, notes every
//! packet that arrives, and keeps what was heard.
//!
//! ```text
//! dial ─▶ listen | say | wait for sound | wait for quiet ─▶ … ─▶ hang up
//!           └ each runs the 20 ms grid: one packet out, arrivals in
//! ```
//!
//! Times are ms from the server's first packet, which is where its own clock of the call begins.

use std::net::UdpSocket;
use std::time::{Duration, Instant, SystemTime};

use offhook::audio::level::is_audible;
use offhook::audio::{Codec, Encoder, FRAME_SAMPLES};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::Result;
use crate::generator::Generator;
use crate::hearing::Hearing;
use crate::server::Server;

const TICK: Duration = Duration::from_millis(20);
const HEADER: usize = 12;
/// G.711's µ-law for nothing.
const SILENCE: u8 = 0xff;
/// A server that sends nothing for this long has ended the call.
const GONE: Duration = Duration::from_secs(2);
/// No call of a bench is longer than this.
const LONGEST: Duration = Duration::from_secs(3600);

/// What was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// The first audible packet left.
    pub(crate) began_ms: i64,
    /// The last audible packet left.
    pub(crate) ended_ms: i64,
}

/// Somebody on the phone.
pub(crate) struct Caller {
    line: Generator,
    socket: UdpSocket,
    next: Instant,
    sequence: u16,
    /// The clock's zero.
    zero: Instant,
    /// The same by the calendar.
    zero_at: SystemTime,
    last_arrival: Instant,
    /// What arrived.
    pub(crate) hearing: Hearing,
}

impl Caller {
    /// Calls `user` and waits for the first packet.
    ///
    /// # Errors
    /// Where the call is not answered, or nothing comes.
    pub(crate) fn dial(server: &Server, user: &str) -> Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_nonblocking(true)?;
        let mut line = Generator::to(server, user, LONGEST)?;
        let ports = line.establish(1, &[socket.local_addr()?.port()])?;
        let port = ports.first().ok_or("the answer has no sound in it")?;
        socket.connect(("127.0.0.1", *port))?;
        let now = Instant::now();
        let mut caller = Self {
            line,
            socket,
            next: now,
            sequence: 0,
            zero: now,
            zero_at: SystemTime::now(),
            last_arrival: now,
            hearing: Hearing::default(),
        };
        while caller.hearing.is_empty() {
            caller.tick(&[SILENCE; FRAME_SAMPLES])?;
        }
        Ok(caller)
    }

    /// What the call is named by in SIP.
    pub(crate) fn sip_call_id(&self) -> String {
        self.line.first_call_id()
    }

    /// Now, on the call's clock.
    pub(crate) fn now_ms(&self) -> i64 {
        self.ms(Instant::now())
    }

    /// A time of the calendar on the call's clock.
    pub(crate) fn ms_of(&self, at: SystemTime) -> i64 {
        let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        match at.duration_since(self.zero_at) {
            Ok(later) => ms(later),
            Err(earlier) => -ms(earlier.duration()),
        }
    }

    fn ms(&self, at: Instant) -> i64 {
        let since = at.saturating_duration_since(self.zero).as_millis();
        i64::try_from(since).unwrap_or(i64::MAX)
    }

    /// Says nothing for so long.
    pub(crate) fn listen(&mut self, ms: u64) -> Result<()> {
        let until = self.now_ms() + i64::try_from(ms)?;
        while self.now_ms() < until {
            self.tick(&[SILENCE; FRAME_SAMPLES])?;
        }
        Ok(())
    }

    /// Says something at 8 kHz, to its last packet.
    pub(crate) fn say(&mut self, sound: &[i16]) -> Result<Said> {
        let mut encoder = Encoder::new(Codec::Pcmu);
        let mut said: Option<Said> = None;
        for frame in sound.chunks(FRAME_SAMPLES) {
            let mut samples = [0; FRAME_SAMPLES];
            samples[..frame.len()].copy_from_slice(frame);
            let mut payload = Vec::with_capacity(FRAME_SAMPLES);
            encoder.encode(&samples, &mut payload);
            let at = self.now_ms();
            self.tick(&payload)?;
            if is_audible(&samples) {
                let began_ms = said.map_or(at, |said| said.began_ms);
                said = Some(Said {
                    began_ms,
                    ended_ms: at,
                });
            }
        }
        said.ok_or_else(|| "there is nothing to hear in what was to be said".into())
    }

    /// Waits until speech begins that is not from before `since`: when it did.
    pub(crate) fn wait_for_sound(
        &mut self,
        since_ms: i64,
        patience_ms: u64,
    ) -> Result<Option<i64>> {
        let until = self.now_ms() + i64::try_from(patience_ms)?;
        loop {
            if let Some(at) = self.hearing.speech_since(since_ms) {
                return Ok(Some(at));
            }
            if self.now_ms() >= until {
                return Ok(None);
            }
            self.tick(&[SILENCE; FRAME_SAMPLES])?;
        }
    }

    /// Waits until nothing was heard for `quiet_ms`; false where it goes on for `patience_ms`.
    pub(crate) fn wait_for_quiet(&mut self, quiet_ms: u64, patience_ms: u64) -> Result<bool> {
        let quiet = i64::try_from(quiet_ms)?;
        let until = self.now_ms() + i64::try_from(patience_ms)?;
        loop {
            let now = self.now_ms();
            if self
                .hearing
                .last_audible()
                .is_none_or(|last| now - last >= quiet)
            {
                return Ok(true);
            }
            if now >= until {
                return Ok(false);
            }
            self.tick(&[SILENCE; FRAME_SAMPLES])?;
        }
    }

    /// Ends the call.
    pub(crate) fn hang_up(mut self) -> Result<Hearing> {
        self.line.hang_up_all()?;
        Ok(self.hearing)
    }

    /// One packet out, and whatever arrives until the next is due.
    fn tick(&mut self, payload: &[u8]) -> Result<()> {
        self.send(payload)?;
        self.next += TICK;
        loop {
            self.receive()?;
            let wait = self.next.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                break;
            }
            let mut sockets = [PollFd::new(&self.socket, PollFlags::IN)];
            poll(&mut sockets, Some(&Timespec::try_from(wait)?))?;
        }
        match self.last_arrival.elapsed() > GONE {
            true => Err("the server has ended the call".into()),
            false => Ok(()),
        }
    }

    fn send(&mut self, payload: &[u8]) -> Result<()> {
        let mut packet = [0; HEADER + FRAME_SAMPLES];
        packet[0] = 0x80;
        packet[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        let stamp = u32::from(self.sequence).wrapping_mul(160);
        packet[4..8].copy_from_slice(&stamp.to_be_bytes());
        packet[8..12].copy_from_slice(&1_u32.to_be_bytes());
        packet[HEADER..].fill(SILENCE);
        packet[HEADER..HEADER + payload.len()].copy_from_slice(payload);
        self.sequence = self.sequence.wrapping_add(1);
        match self.socket.send(&packet) {
            // The server has closed its port: that shows by its silence.
            Err(error) if error.kind() != std::io::ErrorKind::ConnectionRefused => {
                Err(error.into())
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn receive(&mut self) -> Result<()> {
        let mut buffer = [0; 2048];
        loop {
            let length = match self.socket.recv(&mut buffer) {
                Ok(length) => length,
                Err(error) => match error.kind() {
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::ConnectionRefused => {
                        return Ok(());
                    }
                    _ => return Err(error.into()),
                },
            };
            let now = Instant::now();
            // Payload type 0 only: no keys come from an assistant here.
            if length <= HEADER || buffer[1] & 0x7f != 0 {
                continue;
            }
            if self.hearing.is_empty() {
                (self.zero, self.zero_at) = (now, SystemTime::now());
            }
            self.last_arrival = now;
            let at_ms = now.saturating_duration_since(self.zero).as_secs_f64() * 1000.0;
            let sequence = u16::from_be_bytes([buffer[2], buffer[3]]);
            self.hearing
                .packet(at_ms, sequence, &buffer[HEADER..length]);
        }
    }
}
