//! A tolerant reader of session descriptions (RFC 8866): lines in any order, ended by CR, LF or
//! both, with white space around; unknown lines, attributes and nonsense are skipped. Time and
//! memory are bounded by the limits below.

use std::net::IpAddr;

use super::crypto::CryptoLine;
use super::{Direction, SdpError};
use crate::audio::Codec;

const MAX_BYTES: usize = 16 * 1024;
const MAX_LINES: usize = 1_000;
const MAX_MEDIA: usize = 32;
/// Formats of one `m=` line that are looked at.
const MAX_FORMATS: usize = 64;
/// Usable `a=crypto` lines of one stream that are kept.
const MAX_CRYPTO: usize = 8;
/// `a=rtpmap` lines of one stream that are looked at; there are 128 payload types.
const MAX_RTPMAPS: usize = 128;

/// What a description says, borrowing its text.
#[derive(Debug, Default)]
pub(super) struct Description<'a> {
    /// The address in `o=`, the last resort where `c=` is missing.
    origin: Option<Connection>,
    connection: Option<Connection>,
    direction: Option<Direction>,
    /// `a=rtcp-xr` names VoIP metrics for every stream.
    voip_metrics: bool,
    pub(super) media: Vec<Media<'a>>,
}

/// One `m=` line and what follows it.
#[derive(Debug)]
pub(super) struct Media<'a> {
    pub(super) kind: &'a str,
    pub(super) port: u16,
    pub(super) protocol: &'a str,
    pub(super) formats: Vec<&'a str>,
    connection: Option<Connection>,
    direction: Option<Direction>,
    rtpmaps: Vec<RtpMap<'a>>,
    pub(super) ptime_ms: Option<u8>,
    pub(super) maxptime_ms: Option<u8>,
    pub(super) rtcp_port: Option<u16>,
    pub(super) rtcp_address: Option<Connection>,
    pub(super) rtcp_mux: bool,
    /// `a=rtcp-xr` names VoIP metrics.
    pub(super) voip_metrics: bool,
    pub(super) crypto: Vec<CryptoLine>,
}

/// `a=rtpmap`.
#[derive(Clone, Copy, Debug)]
pub(super) struct RtpMap<'a> {
    pub(super) payload_type: u8,
    pub(super) name: &'a str,
    pub(super) clock_rate: u32,
    pub(super) channels: u8,
}

/// What stands in `c=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connection {
    Address(IpAddr),
    /// A host name, or nothing readable.
    Other,
}

/// The transport of an `m=` line (RFC 3551, 3711, 4585).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    /// RTP/AVP, and RTP/AVPF, whose feedback is optional.
    Plain,
    /// RTP/SAVP, and RTP/SAVPF: with keys in SDP.
    Secure,
    /// Whatever else: DTLS, TCP.
    Other,
}

impl<'a> Description<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, SdpError> {
        if text.len() > MAX_BYTES {
            return Err(SdpError::TooLarge("more than 16 KiB"));
        }
        let mut description = Self::default();
        let mut recognised = false;
        for (count, line) in text
            .split(['\n', '\r'])
            .filter(|l| !l.is_empty())
            .enumerate()
        {
            if count >= MAX_LINES {
                return Err(SdpError::TooLarge("more than 1000 lines"));
            }
            let Some((field, value)) = line.split_once('=') else {
                continue;
            };
            let (field, value) = (field.trim(), value.trim());
            recognised |= matches!(field, "v" | "m");
            description.line(field, value)?;
        }
        if recognised {
            Ok(description)
        } else {
            Err(SdpError::Malformed("neither v= nor m="))
        }
    }

    fn line(&mut self, field: &str, value: &'a str) -> Result<(), SdpError> {
        let streams = self.media.len();
        match (field, self.media.last_mut()) {
            ("m", _) if streams >= MAX_MEDIA => {
                return Err(SdpError::TooLarge("more than 32 streams"));
            }
            ("m", _) => self.media.push(Media::parse(value)?),
            ("o", _) => self.origin = Some(Connection::parse(value)),
            ("c", Some(media)) => media.connection = Some(Connection::parse(value)),
            ("c", None) => self.connection = Some(Connection::parse(value)),
            ("a", Some(media)) => media.attribute(value),
            ("a", None) => match value.split_once(':') {
                Some((name, value)) if name.trim().eq_ignore_ascii_case("rtcp-xr") => {
                    self.voip_metrics |= names_voip_metrics(value);
                }
                _ => self.direction = direction(value).or(self.direction),
            },
            _ => {}
        }
        Ok(())
    }

    /// The address of a stream: its own `c=`, else the session's, else that of `o=`.
    pub(super) fn connection_of(&self, media: &Media<'_>) -> Option<Connection> {
        media.connection.or(self.connection).or(self.origin)
    }

    /// Whether VoIP metrics are asked for about a stream.
    pub(super) fn wants_voip_metrics(&self, media: &Media<'_>) -> bool {
        self.voip_metrics || media.voip_metrics
    }

    /// The direction of a stream: its own, else the session's, else both ways.
    pub(super) fn direction_of(&self, media: &Media<'_>) -> Direction {
        media.direction.or(self.direction).unwrap_or_default()
    }
}

impl<'a> Media<'a> {
    /// `audio 49170/2 RTP/AVP 0 8 101`
    fn parse(value: &'a str) -> Result<Self, SdpError> {
        let mut words = value.split_whitespace();
        let (Some(kind), Some(port), Some(protocol)) = (words.next(), words.next(), words.next())
        else {
            return Err(SdpError::Malformed("an m= line is too short"));
        };
        let port = port.split('/').next().and_then(|port| port.parse().ok());
        Ok(Self {
            kind,
            port: port.ok_or(SdpError::Malformed("an m= line has no port"))?,
            protocol,
            formats: words.take(MAX_FORMATS).collect(),
            connection: None,
            direction: None,
            rtpmaps: Vec::new(),
            ptime_ms: None,
            maxptime_ms: None,
            rtcp_port: None,
            rtcp_address: None,
            rtcp_mux: false,
            voip_metrics: false,
            crypto: Vec::new(),
        })
    }

    fn attribute(&mut self, attribute: &'a str) {
        let (name, value) = match attribute.split_once(':') {
            Some((name, value)) => (name.trim(), value.trim()),
            None => (attribute, ""),
        };
        match name.to_ascii_lowercase().as_str() {
            "rtpmap" if self.rtpmaps.len() < MAX_RTPMAPS => {
                self.rtpmaps.extend(RtpMap::parse(value));
            }
            "ptime" => self.ptime_ms = milliseconds(value).or(self.ptime_ms),
            "maxptime" => self.maxptime_ms = milliseconds(value).or(self.maxptime_ms),
            "rtcp-mux" => self.rtcp_mux = true,
            "rtcp-xr" => self.voip_metrics |= names_voip_metrics(value),
            "crypto" if self.crypto.len() < MAX_CRYPTO => {
                self.crypto.extend(CryptoLine::parse(value));
            }
            "rtcp" => {
                // RFC 3605: a port, and perhaps `IN IP4 192.0.2.1`
                let (port, address) = value.split_once(char::is_whitespace).unwrap_or((value, ""));
                self.rtcp_port = port.parse().ok().filter(|port| *port != 0);
                self.rtcp_address = (!address.is_empty()).then(|| Connection::parse(address));
            }
            _ => self.direction = direction(attribute).or(self.direction),
        }
    }

    pub(super) fn transport(&self) -> Transport {
        let is = |names: [&str; 2]| {
            let mut names = names.into_iter();
            names.any(|known| known.eq_ignore_ascii_case(self.protocol))
        };
        if is(["RTP/AVP", "RTP/AVPF"]) {
            Transport::Plain
        } else if is(["RTP/SAVP", "RTP/SAVPF"]) {
            Transport::Secure
        } else {
            Transport::Other
        }
    }

    pub(super) fn is_audio(&self) -> bool {
        self.kind.eq_ignore_ascii_case("audio")
    }

    /// The payload types of the `m=` line in the peer's order, each with its `a=rtpmap` or, for
    /// the static types that we know, what RFC 3551 says it is.
    pub(super) fn payloads(&self) -> impl Iterator<Item = RtpMap<'a>> {
        self.formats.iter().filter_map(|format| {
            let payload_type = format.parse().ok().filter(|number| *number < 128)?;
            let mapped = self
                .rtpmaps
                .iter()
                .find(|map| map.payload_type == payload_type);
            mapped.copied().or_else(|| {
                let name = match payload_type {
                    13 => "CN",
                    other => Codec::from_payload_type(other)?.name(),
                };
                Some(RtpMap {
                    payload_type,
                    name,
                    clock_rate: 8_000,
                    channels: 1,
                })
            })
        })
    }
}

impl<'a> RtpMap<'a> {
    /// `101 telephone-event/8000` or `96 L16/44100/2`
    fn parse(value: &'a str) -> Option<Self> {
        let (payload_type, encoding) = value.split_once(char::is_whitespace)?;
        let mut parts = encoding.trim().split('/').map(str::trim);
        Some(Self {
            payload_type: payload_type.parse().ok()?,
            name: parts.next()?,
            clock_rate: parts.next()?.parse().ok()?,
            channels: parts
                .next()
                .map_or(Some(1), |channels| channels.parse().ok())?,
        })
    }
}

impl Connection {
    /// `IN IP4 224.2.1.1/127`, and equally the end of an `o=` line. The IP version is taken from
    /// the address itself.
    fn parse(value: &str) -> Self {
        let address = value.split_whitespace().next_back().unwrap_or_default();
        let address = address.split('/').next().unwrap_or_default();
        let address = address.trim_start_matches('[').trim_end_matches(']');
        address.parse().map_or(Self::Other, Self::Address)
    }
}

fn direction(attribute: &str) -> Option<Direction> {
    use Direction::{Inactive, RecvOnly, SendOnly, SendRecv};
    [SendRecv, SendOnly, RecvOnly, Inactive]
        .into_iter()
        .find(|direction| direction.name().eq_ignore_ascii_case(attribute.trim()))
}

/// RFC 3611 section 5.1: `pkt-loss-rle=300 voip-metrics`.
fn names_voip_metrics(formats: &str) -> bool {
    formats
        .split_whitespace()
        .any(|format| format.eq_ignore_ascii_case("voip-metrics"))
}

/// Some write `20.0`; what is beyond 255 is not a packet of speech.
fn milliseconds(value: &str) -> Option<u8> {
    let whole = value.split('.').next()?.trim();
    whole.parse().ok().filter(|milliseconds| *milliseconds > 0)
}
