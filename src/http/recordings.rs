//! A call's sound: both sides, mixed, or one of them, whole or a range of it; and its SIP
//! messages and log.
//!
//! Recordings are stereo WAV files, customer left. Other forms are made while they are sent.

use std::io::SeekFrom;
use std::path::Path as FilePath;

use axum::body::Body as ResponseBody;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio_util::io::ReaderStream;

use super::Api;
use super::calls::find;
use super::error::ApiError;
use super::shapes::ErrorShape;
use crate::directory::stamp;
use crate::record::pcap;

/// Bytes of a WAV header without extensions.
const HEADER: u64 = 44;
/// Frames that are read at once.
const CHUNK: u64 = 8_192;
/// Bytes of a stereo frame of 16 bits.
const FRAME: u64 = 4;

/// Which sides.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sides {
    Both,
    Mixed,
    Customer,
    Assistant,
}

impl Sides {
    fn channels(self) -> u16 {
        match self {
            Self::Both => 2,
            Self::Mixed | Self::Customer | Self::Assistant => 1,
        }
    }

    fn frame(self) -> u64 {
        u64::from(self.channels()) * 2
    }

    fn convert(self, stereo: &[u8]) -> Vec<u8> {
        let frames = stereo.chunks_exact(4);
        match self {
            Self::Both => stereo.to_vec(),
            Self::Customer => frames.flat_map(|frame| [frame[0], frame[1]]).collect(),
            Self::Assistant => frames.flat_map(|frame| [frame[2], frame[3]]).collect(),
            Self::Mixed => frames
                .flat_map(|frame| {
                    let sample = |at: usize| i16::from_le_bytes([frame[at], frame[at + 1]]);
                    // Two people seldom speak at once: the sum, cut where they shout.
                    sample(0).saturating_add(sample(2)).to_le_bytes()
                })
                .collect(),
        }
    }
}

macro_rules! recording {
    ($name:ident, $path:literal, $sides:ident, $what:literal) => {
        #[doc = $what]
        #[utoipa::path(get, path = $path, tag = "Calls", params(("id" = String, Path)),
            security(("key" = [])),
            responses((status = 200, content_type = "audio/wav"), (status = 206, content_type = "audio/wav"),
                (status = 401, body = ErrorShape), (status = 403, body = ErrorShape),
                (status = 404, body = ErrorShape), (status = 416)))]
        pub(super) async fn $name(
            State(api): State<Api>,
            headers: HeaderMap,
            Path(id): Path<String>,
        ) -> Result<Response, ApiError> {
            recording(&api, &headers, &id, Sides::$sides).await
        }
    };
}

recording!(
    mono,
    "/call/{id}/mono-recording",
    Mixed,
    "Both sides in one channel."
);
recording!(
    stereo,
    "/call/{id}/stereo-recording",
    Both,
    "The customer left, the assistant right."
);
recording!(
    customer,
    "/call/{id}/customer-recording",
    Customer,
    "The customer only."
);
recording!(
    assistant,
    "/call/{id}/assistant-recording",
    Assistant,
    "The assistant only."
);

/// An opened recording.
struct Sound {
    file: File,
    /// Where samples begin.
    start: u64,
    frames: u64,
    rate: u32,
}

async fn open(path: &FilePath) -> Option<Sound> {
    let blocking = path.to_owned();
    let (start, frames, rate) = tokio::task::spawn_blocking(move || {
        let file = std::fs::File::open(blocking).ok()?;
        let length = file.metadata().ok()?.len();
        let reader = hound::WavReader::new(std::io::BufReader::new(file)).ok()?;
        let spec = reader.spec();
        if spec.channels != 2 || spec.bits_per_sample != 16 {
            return None;
        }
        let frames = u64::from(reader.duration());
        // The reader stands at the first sample.
        let start = std::io::Seek::stream_position(&mut reader.into_inner()).ok()?;
        let there = length.saturating_sub(start) / FRAME;
        Some((start, frames.min(there), spec.sample_rate))
    })
    .await
    .ok()??;
    let file = File::open(path).await.ok()?;
    Some(Sound {
        file,
        start,
        frames,
        rate,
    })
}

fn wav_header(sides: Sides, sound: &Sound) -> Vec<u8> {
    let length = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes();
    let data = sound.frames * sides.frame();
    let frame = sides.channels() * 2;
    let mut header = Vec::with_capacity(44);
    header.extend(b"RIFF");
    header.extend(length(data + HEADER - 8));
    header.extend(b"WAVEfmt ");
    header.extend(16u32.to_le_bytes());
    header.extend(1u16.to_le_bytes());
    header.extend(sides.channels().to_le_bytes());
    header.extend(sound.rate.to_le_bytes());
    header.extend((sound.rate * u32::from(frame)).to_le_bytes());
    header.extend(frame.to_le_bytes());
    header.extend(16u16.to_le_bytes());
    header.extend(b"data");
    header.extend(length(data));
    header
}

async fn recording(
    api: &Api,
    headers: &HeaderMap,
    id: &str,
    sides: Sides,
) -> Result<Response, ApiError> {
    let call = find(api, id).await?;
    let none = || ApiError::NotFound("this call has no recording".to_owned());
    let path = api
        .data
        .join(call.record.recording.as_deref().ok_or_else(none)?);
    let sound = open(&path).await.ok_or_else(none)?;
    let total = HEADER + sound.frames * sides.frame();
    let asked = headers
        .get(header::RANGE)
        .and_then(|range| range.to_str().ok());
    let (from, to, status) = match asked.map(|range| range_of(range, total)) {
        // What cannot be understood is as if it were not there (RFC 9110, 14.2).
        None | Some(Asked::Unclear) => (0, total, StatusCode::OK),
        Some(Asked::Bytes(from, to)) => (from, to, StatusCode::PARTIAL_CONTENT),
        Some(Asked::Beyond) => {
            let range = format!("bytes */{total}");
            let headers = [(header::CONTENT_RANGE, range)];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, headers).into_response());
        }
    };
    let (reader, mut writer) = tokio::io::duplex(64 << 10);
    tokio::spawn(async move {
        // The client may go at any time.
        let _ = send(&mut writer, sound, sides, from, to).await;
    });
    let mut response = ResponseBody::from_stream(ReaderStream::new(reader)).into_response();
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("audio/wav"),
    );
    fields.insert(
        header::ACCEPT_RANGES,
        header::HeaderValue::from_static("bytes"),
    );
    fields.insert(header::CONTENT_LENGTH, header::HeaderValue::from(to - from));
    if status == StatusCode::PARTIAL_CONTENT
        && let Ok(range) = format!("bytes {from}-{}/{total}", to - 1).parse()
    {
        fields.insert(header::CONTENT_RANGE, range);
    }
    Ok(response)
}

/// Sends the bytes `from..to` of the file as it would be.
async fn send(
    writer: &mut (impl tokio::io::AsyncWrite + Unpin),
    mut sound: Sound,
    sides: Sides,
    from: u64,
    to: u64,
) -> std::io::Result<()> {
    let header = wav_header(sides, &sound);
    let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
    if from < HEADER {
        writer
            .write_all(&header[index(from)..index(to.min(HEADER))])
            .await?;
    }
    let mut at = from.max(HEADER);
    while at < to {
        let frame = (at - HEADER) / sides.frame();
        let count = CHUNK.min(sound.frames - frame);
        sound
            .file
            .seek(SeekFrom::Start(sound.start + frame * FRAME))
            .await?;
        let mut stereo = vec![0; index(count * FRAME)];
        sound.file.read_exact(&mut stereo).await?;
        let converted = sides.convert(&stereo);
        let begins = HEADER + frame * sides.frame();
        let first = index(at - begins);
        let last = converted.len().min(index(to - begins));
        writer.write_all(&converted[first..last]).await?;
        at = begins + u64::try_from(last).unwrap_or(u64::MAX);
    }
    writer.shutdown().await
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// These, the last one not among them.
    Bytes(u64, u64),
    Beyond,
    Unclear,
}

/// One range of bytes (RFC 9110, 14.1.2); several at once are answered with the whole.
fn range_of(text: &str, total: u64) -> Asked {
    let Some((first, last)) = text
        .strip_prefix("bytes=")
        .and_then(|range| range.split_once('-'))
    else {
        return Asked::Unclear;
    };
    match (
        first.trim().parse::<u64>(),
        last.trim(),
        last.trim().parse::<u64>(),
    ) {
        (Ok(first), "", _) if first < total => Asked::Bytes(first, total),
        (Ok(first), _, Ok(last)) if first <= last && first < total => {
            Asked::Bytes(first, total.min(last.saturating_add(1)))
        }
        (Ok(first), "", _) | (Ok(first), _, Ok(_)) if first >= total => Asked::Beyond,
        (Err(_), _, Ok(0)) if first.trim().is_empty() => Asked::Beyond,
        (Err(_), _, Ok(last)) if first.trim().is_empty() => {
            Asked::Bytes(total.saturating_sub(last), total)
        }
        _ => Asked::Unclear,
    }
}

/// The SIP messages of a call as a packet capture, which Wireshark reads.
#[utoipa::path(get, path = "/call/{id}/pcap", tag = "Calls", params(("id" = String, Path)),
    security(("key" = [])),
    responses((status = 200, content_type = "application/vnd.tcpdump.pcap"),
        (status = 401, body = ErrorShape), (status = 403, body = ErrorShape),
        (status = 404, body = ErrorShape)))]
pub(super) async fn packets(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let call = find(&api, &id).await?;
    let messages = api.store.sip_messages(call.record.id).await?;
    let mut capture = Vec::new();
    pcap::write(&mut capture, messages.iter().map(|kept| &kept.message))
        .map_err(|error| ApiError::Unavailable(format!("the capture cannot be made: {error}")))?;
    let kind = [(header::CONTENT_TYPE, "application/vnd.tcpdump.pcap")];
    Ok((kind, capture).into_response())
}

/// What happened in a call, in the order of time: SIP messages, words, turns. JSON, one a line.
#[utoipa::path(get, path = "/call/{id}/call-logs", tag = "Calls", params(("id" = String, Path)),
    security(("key" = [])),
    responses((status = 200, content_type = "application/jsonl"), (status = 401, body = ErrorShape),
        (status = 403, body = ErrorShape), (status = 404, body = ErrorShape)))]
pub(super) async fn log(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let call = find(&api, &id).await?;
    let record = &call.record;
    let start = record.started_at.unwrap_or(record.created_at);
    let after =
        |ms: u64| start + time::Duration::milliseconds(i64::try_from(ms).unwrap_or(i64::MAX / 2));
    let mut lines = Vec::new();
    for kept in api.store.sip_messages(record.id).await? {
        let text = String::from_utf8_lossy(&kept.message.bytes);
        let line = json!({
            "time": stamp(kept.message.at), "kind": "sip", "direction": kept.message.direction,
            "peer": kept.message.peer, "message": text.lines().next(),
        });
        lines.push((kept.message.at, line));
    }
    for message in &record.messages {
        let at = after(message.start_ms);
        let line = json!({
            "time": stamp(at), "kind": "message", "role": message.role, "message": message.message,
            "interrupted": message.interrupted,
        });
        lines.push((at, line));
    }
    for turn in &record.turns {
        let at = after(turn.speech_ended_ms.or(turn.first_packet_ms).unwrap_or(0));
        lines.push((
            at,
            json!({ "time": stamp(at), "kind": "turn", "latency": turn }),
        ));
    }
    if let Some(at) = record.ended_at {
        let line = json!({
            "time": stamp(at), "kind": "end", "endedReason": record.ended_reason,
            "endedBy": record.ended_by,
        });
        lines.push((at, line));
    }
    lines.sort_by_key(|(at, _)| *at);
    let text: String = lines.iter().map(|(_, line)| format!("{line}\n")).collect();
    Ok(([(header::CONTENT_TYPE, "application/jsonl")], text).into_response())
}

/// What was said, as text.
#[utoipa::path(get, path = "/call/{id}/transcript", tag = "Calls", params(("id" = String, Path)),
    security(("key" = [])),
    responses((status = 200, content_type = "text/plain"), (status = 401, body = ErrorShape),
        (status = 403, body = ErrorShape), (status = 404, body = ErrorShape)))]
pub(super) async fn transcript(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<String, ApiError> {
    Ok(super::call_shape::transcript(
        &find(&api, &id).await?.record,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_rfc_9110_has_them() {
        for (text, asked) in [
            ("bytes=0-", Asked::Bytes(0, 100)),
            ("bytes=10-19", Asked::Bytes(10, 20)),
            ("bytes=90-500", Asked::Bytes(90, 100)),
            ("bytes=-10", Asked::Bytes(90, 100)),
            ("bytes=-0", Asked::Beyond),
            ("bytes=100-", Asked::Beyond),
            ("bytes=20-10", Asked::Unclear),
            ("bytes=0-1,5-6", Asked::Unclear),
            ("lines=1-2", Asked::Unclear),
        ] {
            assert_eq!(range_of(text, 100), asked, "{text}");
        }
    }

    #[test]
    fn each_side_is_taken_out_of_the_stereo_file() {
        let stereo: Vec<u8> = [1i16, 2, 30_000, 30_000]
            .into_iter()
            .flat_map(i16::to_le_bytes)
            .collect();
        let samples = |sides: Sides| {
            let bytes = sides.convert(&stereo);
            let pairs = bytes.chunks_exact(2);
            pairs
                .map(|pair| i16::from_le_bytes([pair[0], pair[1]]))
                .collect::<Vec<_>>()
        };
        assert_eq!(samples(Sides::Customer), [1, 30_000]);
        assert_eq!(samples(Sides::Assistant), [2, 30_000]);
        assert_eq!(samples(Sides::Mixed), [3, i16::MAX]);
        assert_eq!(samples(Sides::Both), [1, 2, 30_000, 30_000]);
    }
}
