//! A call's connection to Deepgram's streaming recogniser.
//!
//! ```text
//!             start, utterance                     utterance
//!   Apart ────────────────────► connecting ──► Ready ───────► Hearing
//!     ▲                             │           │ ▲  KeepAlive   │ results, from_finalize
//!     │                             │           │ └──────────────┘
//!     └── failed, cut, deadline ────┴───────────┴────────────────┘
//! ```
//!
//! One connection serves a call from its start, so that an utterance costs no handshake. The task
//! that owns it ends with the last handle.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::AUTHORIZATION;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use url::Url;

use super::breaker::Gate;
use super::deepgram::{self, Hearing, Progress, RATE};
use super::error::{HostedError, Stage};
use super::request::{self, Clock};
use super::settings::{ApiKey, Deadlines};
use crate::audio::{SampleRate, Sound, resample};
use crate::engines::ipc::samples_to_payload;
use crate::engines::stt::{Stt, TranscribeRequest};
use crate::engines::supervisor::RequestHandle;
use crate::engines::{EngineEvent, Transcript};
use crate::web;

/// Utterances that may wait; a call has one, and speculation another.
const WAITING: usize = 4;
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(4);
/// An eighth of a second.
const AUDIO_MESSAGE_BYTES: usize = 4000;
/// No message of the protocol comes near this.
const LONGEST_MESSAGE: usize = 256 * 1024;

/// Where a recogniser is, and how it is asked.
#[derive(Debug)]
pub(super) struct Recogniser {
    /// With model, language and format.
    pub(super) url: Url,
    pub(super) key: ApiKey,
    pub(super) deadlines: Deadlines,
    pub(super) gate: Gate,
}

/// A call's way to its recogniser. The connection closes with the last clone.
#[derive(Debug)]
pub(crate) struct Listener {
    utterances: mpsc::Sender<Utterance>,
}

struct Utterance {
    audio: Sound,
    answer: oneshot::Sender<Result<Transcript, HostedError>>,
}

trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// An open connection, and how much audio went over it.
struct Line {
    socket: WebSocketStream<Box<dyn Wire>>,
    sent_samples: u64,
}

impl Listener {
    /// Connects in the background.
    pub(super) fn start(recogniser: Recogniser) -> Arc<Self> {
        let (utterances, waiting) = mpsc::channel(WAITING);
        tokio::spawn(serve(recogniser, waiting));
        Arc::new(Self { utterances })
    }

    /// Hears an utterance. What comes back is as from [`Stt::transcribe`], with a
    /// [`EngineEvent::FellBack`] where `local` has to hear it.
    pub(crate) fn transcribe(
        self: &Arc<Self>,
        local: Stt,
        request: TranscribeRequest,
        events: mpsc::Sender<EngineEvent>,
    ) -> RequestHandle {
        let listener = Arc::clone(self);
        request::start(request.priority, |serving| async move {
            let generation = request.generation;
            let error = match listener.hear(request.audio.clone()).await {
                Ok(transcript) => {
                    let result = Ok(transcript);
                    // Whoever asked may have gone.
                    let _ = events
                        .send(EngineEvent::Transcript { generation, result })
                        .await;
                    return;
                }
                Err(error) => error,
            };
            let event = EngineEvent::FellBack {
                generation,
                engine: "stt",
                error,
            };
            if events.send(event).await.is_err() {
                return;
            }
            let answers = events.clone();
            let asked = serving.fall_back(|priority| {
                let request = TranscribeRequest {
                    priority,
                    ..request
                };
                local.transcribe_here(request, answers)
            });
            if let Err(error) = asked {
                let result = Err(error);
                let _ = events
                    .send(EngineEvent::Transcript { generation, result })
                    .await;
            }
        })
    }

    async fn hear(&self, audio: Sound) -> Result<Transcript, HostedError> {
        let (answer, answered) = oneshot::channel();
        let utterance = Utterance { audio, answer };
        // Where as many wait as may, the recogniser is too slow for this call.
        self.utterances
            .try_send(utterance)
            .map_err(|_| HostedError::Resting)?;
        answered.await.unwrap_or(Err(HostedError::Cut))
    }
}

/// Owns the connection until the call is over.
async fn serve(recogniser: Recogniser, mut waiting: mpsc::Receiver<Utterance>) {
    // Before the first word, so that it finds the line open. A failure shows with that word.
    let mut line = match recogniser.gate.enter() {
        Ok(_) => recogniser
            .connect(&Clock::start(recogniser.deadlines))
            .await
            .ok(),
        Err(_) => None,
    };
    loop {
        let next = match &mut line {
            Some(open) => open.rest(&mut waiting).await,
            None => Rested::Asked(waiting.recv().await),
        };
        match next {
            Rested::Dead => line = None,
            Rested::Asked(None) => break,
            // The turn was thrown away before its turn came.
            Rested::Asked(Some(utterance)) if utterance.answer.is_closed() => {}
            Rested::Asked(Some(utterance)) => {
                let heard = recogniser.hear(&mut line, &utterance.audio).await;
                if heard.is_err() {
                    line = None;
                }
                // Whoever asked may have gone.
                let _ = utterance.answer.send(heard);
            }
        }
    }
    if let Some(mut line) = line {
        let _ = line.say(deepgram::CLOSE_STREAM).await;
        let _ = line.socket.close(None).await;
    }
}

enum Rested {
    Asked(Option<Utterance>),
    Dead,
}

impl Line {
    /// Keeps the line open until there is something to hear.
    async fn rest(&mut self, waiting: &mut mpsc::Receiver<Utterance>) -> Rested {
        loop {
            tokio::select! {
                utterance = waiting.recv() => return Rested::Asked(utterance),
                message = self.socket.next() => match message {
                    // Late results of what was heard before.
                    Some(Ok(message)) if !message.is_close() => {}
                    Some(_) | None => return Rested::Dead,
                },
                () = tokio::time::sleep(KEEP_ALIVE_EVERY) => {
                    if self.say(deepgram::KEEP_ALIVE).await.is_err() {
                        return Rested::Dead;
                    }
                }
            }
        }
    }

    async fn say(&mut self, text: &'static str) -> Result<(), HostedError> {
        let message = Message::text(text);
        self.socket
            .send(message)
            .await
            .map_err(|_| HostedError::Cut)
    }

    async fn send(&mut self, audio: &[i16]) -> Result<(), HostedError> {
        let bytes = samples_to_payload(audio);
        for piece in bytes.chunks(AUDIO_MESSAGE_BYTES) {
            let message = Message::binary(piece.to_vec());
            let sent = self.socket.feed(message).await;
            sent.map_err(|_| HostedError::Cut)?;
        }
        self.sent_samples += audio.len() as u64;
        self.say(deepgram::FINALIZE).await
    }

    fn seconds(&self) -> f64 {
        self.sent_samples as f64 / f64::from(RATE)
    }

    async fn collect(
        &mut self,
        mut hearing: Hearing,
        clock: &Clock,
    ) -> Result<Hearing, HostedError> {
        let mut stage = Stage::First;
        loop {
            let message = clock.within(stage, self.socket.next()).await?;
            let text = match message {
                Some(Ok(Message::Text(text))) => text,
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                Some(Ok(Message::Binary(_))) => {
                    return Err(HostedError::Garbage("audio from a recogniser"));
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(HostedError::Cut),
            };
            match hearing.take(text.as_str()) {
                Ok(Progress::Complete) => return Ok(hearing),
                Ok(Progress::Waiting) => stage = Stage::Between,
                Err(_) => return Err(HostedError::Garbage("no message of the recogniser's")),
            }
        }
    }
}

impl Recogniser {
    async fn hear(
        &self,
        line: &mut Option<Line>,
        audio: &Sound,
    ) -> Result<Transcript, HostedError> {
        let permit = self.gate.enter()?;
        let heard = self.transcript(line, audio).await;
        match &heard {
            Ok(_) => permit.served(),
            Err(error) => permit.failed(error),
        }
        heard
    }

    async fn transcript(
        &self,
        line: &mut Option<Line>,
        audio: &Sound,
    ) -> Result<Transcript, HostedError> {
        let started = tokio::time::Instant::now();
        let clock = Clock::start(self.deadlines);
        let open = match line {
            Some(open) => open,
            None => line.insert(self.connect(&clock).await?),
        };
        let start = open.seconds();
        let samples = resample::whole(&audio.samples, audio.rate, SampleRate::WIDEBAND);
        clock.within(Stage::Whole, open.send(&samples)).await??;
        let hearing = Hearing::new(start, open.seconds());
        let (text, mean_log_probability) = open.collect(hearing, &clock).await?.words();
        let millis = |millis: u128| u32::try_from(millis).unwrap_or(u32::MAX);
        Ok(Transcript {
            no_speech_probability: if text.is_empty() { 1.0 } else { 0.0 },
            text,
            mean_log_probability,
            repetition_cut: false,
            language: None,
            audio_ms: millis(samples.len() as u128 * 1000 / u128::from(RATE)),
            decode_ms: millis(started.elapsed().as_millis()),
        })
    }

    async fn connect(&self, clock: &Clock) -> Result<Line, HostedError> {
        clock.within(Stage::Connect, self.shake_hands()).await?
    }

    async fn shake_hands(&self) -> Result<Line, HostedError> {
        let wire = self.wire().await.ok_or(HostedError::Unreachable)?;
        let mut request = self
            .url
            .as_str()
            .into_client_request()
            .map_err(|_| HostedError::Unreachable)?;
        let mut token = HeaderValue::from_str(&format!("Token {}", self.key.expose()))
            .map_err(|_| HostedError::Unauthorised)?;
        token.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, token);
        let config = WebSocketConfig::default()
            .max_message_size(Some(LONGEST_MESSAGE))
            .max_frame_size(Some(LONGEST_MESSAGE));
        let shaken = tokio_tungstenite::client_async_with_config(request, wire, Some(config)).await;
        match shaken {
            Ok((socket, _)) => Ok(Line {
                socket,
                sent_samples: 0,
            }),
            Err(tungstenite::Error::Http(answer)) => {
                let error = HostedError::of_status(answer.status(), answer.headers());
                Err(error.unwrap_or(HostedError::Garbage("no WebSocket")))
            }
            Err(_) => Err(HostedError::Unreachable),
        }
    }

    async fn wire(&self) -> Option<Box<dyn Wire>> {
        let host = self.url.host_str()?.trim_matches(['[', ']']);
        let port = self.url.port_or_known_default()?;
        let stream = TcpStream::connect((host, port)).await.ok()?;
        stream.set_nodelay(true).ok()?;
        if self.url.scheme() != "wss" {
            return Some(Box::new(stream));
        }
        let name = ServerName::try_from(host.to_owned()).ok()?;
        let connector = TlsConnector::from(Arc::clone(web::tls()));
        let stream = connector.connect(name, stream).await.ok()?;
        Some(Box::new(stream))
    }
}
