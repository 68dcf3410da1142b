//! A caller for people without a phone: calls an assistant over SIP, says lines from WAV files,
//! listens, and tells how long each answer took, from its own packets.

mod heard;
mod recital;
mod report;
mod script;
mod talk;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::RngExt;
use tokio::sync::mpsc;

use crate::audio::level::is_audible;
use crate::audio::tone::DtmfDigit;
use crate::audio::{Codec, FRAME_SAMPLES, SampleRate, Sound, mix, wav};
use crate::net::local::advertised_address;
use crate::net::media::{ClipKey, Media, MediaAddress, MediaConfig, MediaPort, MediaStream, Tick};
use crate::net::resolve::{Resolver, Target};
use crate::net::sip::{LegCommand, OutgoingLeg, Sip, SipConfig, Snapshot, TlsSettings};
use crate::sdp::{self, Direction, Encryption, LocalMedia, Negotiated};
use crate::sip::endpoint::{Credentials, EndCause, Event, Hangup, InviteRequest, Limits, Protocol};
use crate::sip::headers::NameAddr;
use crate::sip::uri::Uri;

use heard::Heard;
pub use recital::recite;
use report::Began;
pub use report::{LineReport, Report};
pub use script::Manners;
use script::{Action, Script};
pub use talk::{Handset, MICROPHONE, Noticed, Talk};

/// How long the phone may ring.
const RING: Duration = Duration::from_secs(60);

/// Length of a key press.
const KEY: Duration = Duration::from_millis(120);

/// Noise goes on for this long after a line.
const NOISE_TAIL: Duration = Duration::from_secs(1);

/// Whatever happens, a test call ends after this long.
const LONGEST: Duration = Duration::from_secs(600);

/// The test call could not be made. The message says whose fault it is.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The target is no SIP URI with a host that we can reach.
    #[error("{target:?} is not a SIP URI that can be called: {why}")]
    Target {
        /// What was given.
        target: String,
        /// What is wrong.
        why: String,
    },
    /// A file cannot be read or written.
    #[error("{}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// No socket or thread can be had on this machine.
    #[error("cannot open what a call needs: {0}")]
    System(String),
    /// The other side refused or did not answer.
    #[error("the call was not answered: {0}")]
    NotAnswered(String),
    /// The answer has nothing that we speak.
    #[error("the answer cannot be used: {0}")]
    Answer(#[from] sdp::SdpError),
}

/// A line to say, with a name for the report.
#[derive(Clone, Debug)]
pub struct Line {
    /// For the report.
    pub name: String,
    /// The clean speech at 8 kHz, by which it is measured.
    samples: Vec<i16>,
    /// The same as it is.
    sound: Sound,
}

impl Line {
    /// A line that sounds so.
    pub fn new(name: impl Into<String>, sound: Sound) -> Self {
        Self {
            name: name.into(),
            samples: sound.at(SampleRate::TELEPHONE).samples.to_vec(),
            sound,
        }
    }

    /// Reads any PCM WAV file.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn from_file(path: &Path) -> Result<Self, CallError> {
        Ok(Self::new(path.display().to_string(), read_sound(path)?))
    }

    /// Where the sound ends: one past the last frame above -45 dBFS.
    fn audible_end(&self) -> usize {
        let frames = self.samples.chunks(FRAME_SAMPLES);
        let as_sent = |frame: &[i16]| {
            let mut sent = [0; FRAME_SAMPLES];
            sent[..frame.len()].copy_from_slice(frame);
            is_audible(&sent)
        };
        let last = frames
            .clone()
            .rposition(as_sent)
            .map_or(frames.len(), |last| last + 1);
        last * FRAME_SAMPLES
    }
}

/// Reads a WAV file at 8 kHz.
///
/// # Errors
/// Where it cannot be read.
pub fn read_wav(path: &Path) -> Result<Vec<i16>, CallError> {
    let sound = read_sound(path)?;
    Ok(sound.at(SampleRate::TELEPHONE).samples.to_vec())
}

/// Reads a WAV file at its own rate.
///
/// # Errors
/// Where it cannot be read.
pub fn read_sound(path: &Path) -> Result<Sound, CallError> {
    let failed = |why: String| CallError::File {
        path: path.to_owned(),
        why,
    };
    let file = std::fs::File::open(path).map_err(|error| failed(error.to_string()))?;
    let clip = wav::read(io::BufReader::new(file)).map_err(|error| failed(error.to_string()))?;
    Ok(Sound {
        rate: clip.rate,
        samples: clip.samples.into(),
    })
}

/// A test call.
#[derive(Clone, Debug)]
pub struct CallPlan {
    /// `sip:user@host[:port]`, with `;transport=tcp` or `tls` for those; or `sips:`.
    pub target: String,
    /// PEM file of the certificates that the target's must lead to, in TLS; the system's where
    /// `None`.
    pub ca: Option<PathBuf>,
    /// What to say.
    pub lines: Vec<Line>,
    /// Keys to press after the greeting.
    pub keys: String,
    /// How to behave.
    pub manners: Manners,
    /// Noise under the lines (repeated), and how much quieter it is, in dB.
    pub noise: Option<(Sound, f32)>,
    /// The only codec to offer; G.711 where `None`.
    pub codec: Option<Codec>,
    /// Clips that are fillers or holding phrases, at 8 kHz.
    pub phrases: Vec<Vec<i16>>,
    /// Where to keep what was heard.
    pub record: Option<PathBuf>,
}

/// Makes a test call and reports.
///
/// # Errors
/// Where it could not be made or was not answered.
pub async fn call(plan: &CallPlan) -> Result<Report, CallError> {
    let mut line = dial(&plan.target, plan.ca.as_deref(), plan.codec).await?;
    let mut phone = Phone::new(plan, line.stream, line.answered);
    let ended = phone.talk(line.ticks, &mut line.leg).await;
    if ended.is_none() {
        hang_up(&line.sip, &mut line.leg).await;
    }
    phone.report(plan, &line.negotiated, line.dialled, ended)
}

/// A call that was answered.
struct Answered {
    sip: Sip,
    leg: OutgoingLeg,
    stream: MediaStream,
    ticks: mpsc::Receiver<Tick>,
    negotiated: Negotiated,
    dialled: Instant,
    answered: Instant,
}

async fn dial(
    target: &str,
    ca: Option<&Path>,
    codec: Option<Codec>,
) -> Result<Answered, CallError> {
    let called = resolve(target).await?;
    let local = local_address(called.target.address)?;
    let system = |error: &dyn std::fmt::Display| CallError::System(error.to_string());
    let (sip, _incoming) = Sip::start(
        sip_config(local, called.target.protocol),
        rand::rng().random(),
    )
    .await
    .map_err(|error| system(&error))?;
    let media = Media::start(MediaConfig {
        addresses: vec![MediaAddress {
            bind: local,
            advertised: local,
        }],
        port_min: 40_000,
        port_max: 49_999,
    })
    .map_err(|error| system(&error))?;
    let port = media.reserve(local).map_err(|error| system(&error))?;
    let codecs = codec.map_or_else(|| vec![Codec::Pcmu, Codec::Pcma], |codec| vec![codec]);
    let description = describe(&port, codecs).map_err(|error| system(&error))?;
    let calling = Calling {
        caller: "caller",
        credentials: None,
        ca,
        description: &description,
    };
    let dialled = Instant::now();
    let mut leg = invite(&sip, called, calling).await?;
    let answer = wait_for_answer(&sip, &mut leg).await?;
    let answered = Instant::now();
    let negotiated = sdp::accept(&answer, &description)?;
    let (stream, ticks) = port.flow(&negotiated).map_err(|error| system(&error))?;
    Ok(Answered {
        sip,
        leg,
        stream,
        ticks,
        negotiated,
        dialled,
        answered,
    })
}

async fn hang_up(sip: &Sip, leg: &mut OutgoingLeg) {
    sip.leg(leg.leg, LegCommand::Hangup(Hangup::default()));
    wait_for_end(sip, leg).await;
}

/// Whom to call, and the first way to try.
struct Called {
    uri: Uri,
    host: String,
    target: Target,
}

async fn resolve(target: &str) -> Result<Called, CallError> {
    let failed = |why: String| CallError::Target {
        target: target.to_owned(),
        why,
    };
    let uri: Uri = target.parse().map_err(|error| failed(format!("{error}")))?;
    let sip = uri
        .as_sip()
        .ok_or_else(|| failed("it is no sip: URI".to_owned()))?;
    let resolver = Resolver::new(None).map_err(|error| failed(error.to_string()))?;
    let spoken = [Protocol::Udp, Protocol::Tcp, Protocol::Tls];
    let found = resolver.resolve(sip, &spoken).await;
    let targets = found.map_err(|error| failed(error.to_string()))?;
    let target = targets.into_iter().next();
    let target = target.ok_or_else(|| failed("its host has no address".to_owned()))?;
    let host = sip.host.to_string();
    Ok(Called { uri, host, target })
}

/// The address of ours from which the target is reached.
fn local_address(destination: SocketAddr) -> Result<IpAddr, CallError> {
    let unspecified: IpAddr = match destination {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    if destination.ip().is_loopback() {
        return Ok(destination.ip());
    }
    Ok(advertised_address(unspecified, None))
}

fn sip_config(local: IpAddr, protocol: Protocol) -> SipConfig {
    SipConfig {
        listen: vec![(protocol, SocketAddr::new(local, 0))],
        tls: TlsSettings::default(),
        name_server: None,
        public_address: None,
        allow: Vec::new(),
        user_agent: concat!("Offhook-call/", env!("CARGO_PKG_VERSION")).to_owned(),
        extensions: Vec::new(),
        authentication: None,
        limits: Limits::default(),
        flood: None,
        witness: None,
        subscriptions: None,
    }
}

fn describe(port: &MediaPort, codecs: Vec<Codec>) -> io::Result<LocalMedia> {
    Ok(LocalMedia {
        address: port.address(),
        port: port.port()?,
        codecs,
        telephone_event: Some(101),
        ptime_ms: 20,
        encryption: Encryption::Off,
        direction: Direction::SendRecv,
        session_id: u64::from(rand::rng().random::<u32>()),
        session_version: 1,
    })
}

/// Who calls, and with what.
struct Calling<'a> {
    caller: &'a str,
    credentials: Option<Credentials>,
    ca: Option<&'a Path>,
    description: &'a LocalMedia,
}

async fn invite(sip: &Sip, called: Called, calling: Calling<'_>) -> Result<OutgoingLeg, CallError> {
    let Called { uri, host, target } = called;
    let Target { protocol, address } = target;
    let transport = sip
        .reach(protocol, address, &host, calling.ca)
        .await
        .map_err(|error| CallError::System(error.to_string()))?;
    let Some(listener) = sip.listeners().first() else {
        return Err(CallError::System("no SIP socket".to_owned()));
    };
    let from: Uri = format!("sip:{}@{}", calling.caller, listener.address)
        .parse()
        .map_err(|error| CallError::System(format!("{error}")))?;
    let request = InviteRequest {
        transport,
        destination: address,
        request_uri: uri.clone(),
        from: NameAddr::new(from),
        to: NameAddr::new(uri),
        route: Vec::new(),
        credentials: calling.credentials,
        headers: Vec::new(),
        extensions: None,
        replaces: None,
        sdp: Some(sdp::offer(calling.description)),
        patience: None,
        ring_timeout: RING,
    };
    sip.invite(request).await.map_err(|error| match error {
        Some(error) => CallError::System(error.to_string()),
        None => CallError::System("SIP stopped".to_owned()),
    })
}

async fn wait_for_answer(sip: &Sip, leg: &mut OutgoingLeg) -> Result<Vec<u8>, CallError> {
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    loop {
        tokio::select! {
            event = leg.events.recv() => match event {
                Some(Event::Answered { sdp, .. }) => return Ok(sdp),
                Some(Event::Ended { cause, .. }) => return Err(CallError::NotAnswered(describe_end(&cause))),
                Some(_) => {}
                None => return Err(CallError::NotAnswered("SIP stopped".to_owned())),
            },
            _ = &mut interrupted => {
                hang_up(sip, leg).await;
                return Err(CallError::NotAnswered("cancelled".to_owned()));
            }
        }
    }
}

/// Waits shortly until a leg that was hung up is over on the wire as well: its last event comes
/// before the BYE or CANCEL is answered, and over a connection even before it is sent.
async fn wait_for_end(sip: &Sip, leg: &mut OutgoingLeg) {
    let end = async {
        while leg.events.recv().await.is_some() {}
        while let Ok(Snapshot { stats, .. }) = sip.snapshot().await
            && stats.legs + stats.lingering_legs > 0
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    // A peer that does not answer a BYE is not worth waiting for.
    let _ = tokio::time::timeout(Duration::from_secs(2), end).await;
}

fn describe_end(cause: &EndCause) -> String {
    match cause {
        EndCause::Rejected {
            status,
            phrase,
            retry_after,
            ..
        } => match retry_after {
            Some(seconds) => format!("{status} {phrase} (try again in {seconds} s)"),
            None => format!("{status} {phrase}"),
        },
        EndCause::NoResponse => "nobody answers SIP there".to_owned(),
        EndCause::TransportFailed => "nothing listens there".to_owned(),
        EndCause::RingTimeout => "it rang too long".to_owned(),
        EndCause::RemoteBye { .. } => "the other side hung up".to_owned(),
        EndCause::DialogLost { .. } => "the other side lost the call".to_owned(),
        EndCause::Local
        | EndCause::RemoteCancel { .. }
        | EndCause::Unanswered
        | EndCause::NoAck
        | EndCause::SessionExpired => "the call is over".to_owned(),
    }
}

struct Phone<'a> {
    lines: &'a [Line],
    keys: &'a str,
    noise: Option<&'a (Sound, f32)>,
    script: Script,
    heard: Heard,
    stream: MediaStream,
    answered: Instant,
    last: Instant,
    line_began: bool,
    line_ended: bool,
}

impl<'a> Phone<'a> {
    fn new(plan: &'a CallPlan, stream: MediaStream, answered: Instant) -> Self {
        Self {
            lines: &plan.lines,
            keys: &plan.keys,
            noise: plan.noise.as_ref(),
            script: Script::new(
                plan.manners,
                plan.lines.len(),
                !plan.keys.is_empty(),
                answered,
            ),
            heard: Heard::new(plan.phrases.clone()),
            stream,
            answered,
            last: answered,
            line_began: false,
            line_ended: false,
        }
    }

    /// Talks until the script is over (`None`) or the other side ends the call (its reason).
    async fn talk(
        &mut self,
        mut ticks: mpsc::Receiver<Tick>,
        leg: &mut OutgoingLeg,
    ) -> Option<String> {
        let interrupted = tokio::signal::ctrl_c();
        tokio::pin!(interrupted);
        loop {
            tokio::select! {
                tick = ticks.recv() => {
                    let Some(tick) = tick else {
                        return Some("media stopped".to_owned());
                    };
                    if self.tick(&tick) || tick.at.saturating_duration_since(self.answered) > LONGEST {
                        return None;
                    }
                }
                event = leg.events.recv() => match event {
                    Some(Event::Ended { cause, .. }) => return Some(describe_end(&cause)),
                    Some(_) => {}
                    None => return Some("SIP stopped".to_owned()),
                },
                _ = &mut interrupted => return None,
            }
        }
    }

    /// True when it is time to hang up.
    fn tick(&mut self, tick: &Tick) -> bool {
        self.last = tick.at;
        self.heard.tick(tick);
        for arrival in &tick.arrivals {
            self.heard.arrived(arrival.at, arrival.level_dbfs);
            self.script.heard(arrival.at, arrival.level_dbfs);
        }
        if let Some(line) = self.script.speaking() {
            self.said(line, tick);
        }
        let heard = &self.heard;
        let is_answer = |at| heard.what(at) != Began::Holding { then: None };
        match self.script.tick(tick.at, &is_answer) {
            None => false,
            Some(Action::HangUp) => true,
            Some(Action::PressKeys) => {
                for key in self.keys.chars().filter_map(DtmfDigit::from_char) {
                    self.stream.send_digit(key, KEY);
                }
                false
            }
            Some(Action::Say(line)) => {
                self.say(line);
                false
            }
        }
    }

    fn say(&mut self, line: usize) {
        self.line_began = false;
        self.line_ended = false;
        let rate = self.stream.rate();
        let mut sound = self.lines[line].sound.at(rate);
        if let Some((noise, snr_db)) = self.noise {
            let mut long = sound.samples.to_vec();
            let tail = rate.samples_in(NOISE_TAIL);
            long.extend(std::iter::repeat_n(0, tail));
            sound.samples = mix::at_snr(&long, &noise.at(rate).samples, *snr_db).into();
        }
        let clip = ClipKey(u64::try_from(line).unwrap_or(u64::MAX));
        self.stream.play(clip, sound, 0);
    }

    fn said(&mut self, line: usize, tick: &Tick) {
        let key = ClipKey(u64::try_from(line).unwrap_or(u64::MAX));
        for played in tick.played.iter().filter(|played| played.clip == key) {
            if !self.line_began {
                self.line_began = true;
                self.script.line_began(line, tick.at);
            }
            let sounded =
                usize::try_from(played.samples).unwrap_or(0) >= self.lines[line].audible_end();
            if (sounded || played.finished) && !self.line_ended {
                self.line_ended = true;
                self.script.line_ended(line, tick.at);
            }
        }
    }

    fn report(
        self,
        plan: &CallPlan,
        negotiated: &Negotiated,
        dialled: Instant,
        ended: Option<String>,
    ) -> Result<Report, CallError> {
        let events = self.script.into_events();
        let names: Vec<String> = plan.lines.iter().map(|line| line.name.clone()).collect();
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let report = Report {
            target: plan.target.clone(),
            codec: negotiated.codec.name().to_owned(),
            setup_ms: millis(self.answered.saturating_duration_since(dialled)),
            greeting_ms: report::greeting(&events, self.answered),
            lines: report::lines(&names, &events, self.answered, &|at| self.heard.what(at)),
            ended: ended.unwrap_or_else(|| "you hang up".to_owned()),
            duration_ms: millis(self.last.saturating_duration_since(self.answered)),
        };
        if let Some(path) = &plan.record {
            write_wav(path, &self.heard.recording())?;
        }
        Ok(report)
    }
}

fn write_wav(path: &Path, sound: &Sound) -> Result<(), CallError> {
    let failed = |why: String| CallError::File {
        path: path.to_owned(),
        why,
    };
    let file = std::fs::File::create(path).map_err(|error| failed(error.to_string()))?;
    wav::write(io::BufWriter::new(file), &sound.samples, sound.rate)
        .map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scrap_of_a_frame_that_ends_a_file_counts_as_it_is_sent() {
        let mut samples = vec![1000; 2 * FRAME_SAMPLES];
        samples.extend([0; FRAME_SAMPLES]);
        // Audible by itself, but not with the silence that fills its packet.
        samples.extend([250; 27]);
        let line = Line::new("a breath", samples.into());
        assert_eq!(line.audible_end(), 2 * FRAME_SAMPLES);
    }
}
