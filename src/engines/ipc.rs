//! Frames between the server and a worker process, over the worker's stdin and stdout.
//!
//! ```text
//!  worker -> server, once:   8 bytes MAGIC
//!  both ways, repeated:      u32 LE  length of all that follows
//!                            u32 LE  length of the header
//!                            header  JSON of ToWorker or FromWorker
//!                            payload raw bytes, for audio: 16-bit LE samples
//! ```
//!
//! The worker speaks first: MAGIC, then [`FromWorker::Hello`] or [`FromWorker::StartFailed`].
//! Whatever stands before MAGIC (libraries that print while they load) is skipped, up to
//! [`MAX_PREAMBLE_BYTES`]. From then on every byte must be part of a frame; a worker that sends
//! anything else is killed. Lengths are bounded before anything is allocated.

use std::io::{self, Read};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::EngineError;

/// Version of the frames and messages here; a worker of another version is refused.
pub const PROTOCOL_VERSION: u32 = 1;
/// Starts a worker's output.
pub const MAGIC: [u8; 8] = *b"\x01OFFHOOK";
/// How much a worker may print before [`MAGIC`].
pub const MAX_PREAMBLE_BYTES: usize = 16 * 1024;
/// Largest JSON header: a language model's prompt with a long history fits.
pub const MAX_HEADER_BYTES: usize = 1024 * 1024;
/// Largest payload: four minutes of 16 kHz audio fit.
pub const MAX_PAYLOAD_BYTES: usize = 8 * 1024 * 1024;

/// What one engine and its worker say to each other.
pub trait Protocol: Send + Sync + 'static {
    /// The engine's name in logs, metrics and the handshake: `stt`, `llm`, `tts`.
    const ENGINE: &'static str;
    /// What is asked. Audio goes into the payload beside it.
    type Request: Serialize + DeserializeOwned + Send + 'static;
    /// What comes back, once or as several parts.
    type Response: Serialize + DeserializeOwned + Send + 'static;
    /// What a worker says about itself when it is ready (sample rate, languages, ...).
    type Facts: Serialize + DeserializeOwned + Clone + Send + Sync + 'static;
}

/// Names one request between the server and one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(pub u64);

/// Who goes first. Of several requests with the same priority, the call that was served the
/// longest ago goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Priority {
    /// Only worth the time of an engine that has nothing else to do; refused otherwise.
    Spare,
    /// May be thrown away: partial transcripts, replies to a turn that may not be over, phrases
    /// made ahead.
    Speculative,
    /// A caller is waiting for it.
    Waiting,
}

/// From the server. The payload of [`ToWorker::Request`] is the request's.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToWorker<Q> {
    /// Do this.
    Request {
        /// Names the request in all answers.
        id: RequestId,
        /// For a worker that serves several at once.
        priority: Priority,
        /// What to do.
        body: Q,
    },
    /// Stop working on it. Answered by the request's end, whichever comes first.
    Cancel {
        /// Of the request.
        id: RequestId,
    },
    /// Are you there?
    Ping {
        /// Comes back in [`FromWorker::Pong`].
        nonce: u64,
    },
}

/// From the worker. The payloads of [`FromWorker::Part`] and [`FromWorker::Done`] are the
/// response's.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromWorker<R, F> {
    /// The model is loaded.
    Hello {
        /// Must be [`PROTOCOL_VERSION`].
        protocol: u32,
        /// Must be [`Protocol::ENGINE`].
        engine: String,
        /// Name of the model, for people.
        model: String,
        /// What the engine's handle needs to know.
        facts: F,
    },
    /// The worker cannot work and ends.
    StartFailed {
        /// Why.
        error: EngineError,
    },
    /// A piece of an answer; more follow.
    Part {
        /// Of the request.
        id: RequestId,
        /// The piece.
        body: R,
    },
    /// Nothing to hand out yet, but the engine is working on it.
    Progress {
        /// Of the request.
        id: RequestId,
    },
    /// The last piece of an answer.
    Done {
        /// Of the request.
        id: RequestId,
        /// The piece.
        body: R,
    },
    /// There will be no (more) answer.
    Failed {
        /// Of the request.
        id: RequestId,
        /// Why.
        error: EngineError,
    },
    /// Answer to [`ToWorker::Ping`].
    Pong {
        /// Of the ping.
        nonce: u64,
    },
}

/// The stream between server and worker broke; the worker has to go.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Reading or writing failed, or the stream ended inside a frame.
    #[error("pipe: {0}")]
    Io(#[from] io::Error),
    /// Lengths that contradict each other or exceed the bounds.
    #[error("frame of {total} bytes with a header of {header}")]
    BadLength {
        /// Announced length of the frame.
        total: usize,
        /// Announced length of its header.
        header: usize,
    },
    /// The header is no message of this protocol.
    #[error("header: {0}")]
    BadHeader(#[from] serde_json::Error),
    /// No [`MAGIC`] within [`MAX_PREAMBLE_BYTES`].
    #[error("the output does not start a frame stream")]
    NoMagic,
}

/// One frame as it was read, header not yet understood.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// JSON.
    pub header: Vec<u8>,
    /// Raw bytes.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Understands the header.
    ///
    /// # Errors
    /// [`FrameError::BadHeader`] where it is not an `H`.
    pub fn message<H: DeserializeOwned>(&self) -> Result<H, FrameError> {
        Ok(serde_json::from_slice(&self.header)?)
    }
}

/// Builds a frame's bytes.
///
/// # Errors
/// Header or payload exceed the bounds, or the header does not serialise.
pub fn encode<H: Serialize>(header: &H, payload: &[u8]) -> Result<Vec<u8>, FrameError> {
    let header = serde_json::to_vec(header)?;
    let total = 4 + header.len() + payload.len();
    let lengths = (u32::try_from(total), u32::try_from(header.len()));
    let (Ok(total_field), Ok(header_field)) = lengths else {
        return Err(FrameError::BadLength {
            total,
            header: header.len(),
        });
    };
    check_lengths(total, header.len())?;
    let mut bytes = Vec::with_capacity(4 + total);
    bytes.extend_from_slice(&total_field.to_le_bytes());
    bytes.extend_from_slice(&header_field.to_le_bytes());
    bytes.extend_from_slice(&header);
    bytes.extend_from_slice(payload);
    Ok(bytes)
}

fn check_lengths(total: usize, header: usize) -> Result<usize, FrameError> {
    let payload = total
        .checked_sub(4)
        .and_then(|rest| rest.checked_sub(header));
    match payload {
        Some(payload) if header <= MAX_HEADER_BYTES && payload <= MAX_PAYLOAD_BYTES => Ok(payload),
        Some(_) | None => Err(FrameError::BadLength { total, header }),
    }
}

fn lengths(prefix: [u8; 8]) -> Result<(usize, usize), FrameError> {
    let [a, b, c, d, e, f, g, h] = prefix;
    let total = u32::from_le_bytes([a, b, c, d]) as usize;
    let header = u32::from_le_bytes([e, f, g, h]) as usize;
    let payload = check_lengths(total, header)?;
    Ok((header, payload))
}

/// Reads one frame; `None` where the stream ends between two frames. Not cancellation-safe: a
/// dropped future may have consumed half a frame.
///
/// # Errors
/// See [`FrameError`]; the stream cannot be used any more.
pub async fn read_frame<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Option<Frame>, FrameError> {
    let mut prefix = [0u8; 8];
    if stream.read(&mut prefix[..1]).await? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut prefix[1..]).await?;
    let (header, payload) = lengths(prefix)?;
    let mut frame = Frame {
        header: vec![0; header],
        payload: vec![0; payload],
    };
    stream.read_exact(&mut frame.header).await?;
    stream.read_exact(&mut frame.payload).await?;
    Ok(Some(frame))
}

/// As [`read_frame`], for the worker's side.
///
/// # Errors
/// See [`FrameError`]; the stream cannot be used any more.
pub fn read_frame_blocking<S: Read>(stream: &mut S) -> Result<Option<Frame>, FrameError> {
    let mut prefix = [0u8; 8];
    loop {
        match stream.read(&mut prefix[..1]) {
            Ok(0) => return Ok(None),
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    stream.read_exact(&mut prefix[1..])?;
    let (header, payload) = lengths(prefix)?;
    let mut frame = Frame {
        header: vec![0; header],
        payload: vec![0; payload],
    };
    stream.read_exact(&mut frame.header)?;
    stream.read_exact(&mut frame.payload)?;
    Ok(Some(frame))
}

/// Skips to the first byte behind [`MAGIC`] and returns how many bytes stood before it.
///
/// # Errors
/// [`FrameError::NoMagic`] where it does not come in time, [`FrameError::Io`] where the stream
/// ends before it.
pub async fn skip_preamble<S: AsyncRead + Unpin>(stream: &mut S) -> Result<usize, FrameError> {
    let mut window = [0u8; MAGIC.len()];
    let mut seen = 0usize;
    while seen < MAX_PREAMBLE_BYTES {
        let byte = stream.read_u8().await?;
        window.rotate_left(1);
        window[MAGIC.len() - 1] = byte;
        seen += 1;
        if window == MAGIC {
            return Ok(seen - MAGIC.len());
        }
    }
    Err(FrameError::NoMagic)
}

/// Samples as a payload.
pub fn samples_to_payload(samples: &[i16]) -> Vec<u8> {
    samples
        .iter()
        .flat_map(|sample| sample.to_le_bytes())
        .collect()
}

/// A payload as samples; an odd last byte is ignored.
pub fn payload_to_samples(payload: &[u8]) -> Vec<i16> {
    payload
        .chunks_exact(2)
        .map(|pair| i16::from_le_bytes([pair[0], pair[1]]))
        .collect()
}

#[cfg(test)]
mod tests;
