//! Offers, answers, and what they add up to (RFC 3264).

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use super::crypto::{Side, protection};
use super::parse::{Connection, Description, Media, RtpMap};
use super::{Crypto, Direction, LocalMedia, Negotiated, SdpError};
use crate::audio::{Codec, PayloadKind, SampleRate};

/// The packet lengths that we send, in ms.
const SENDABLE_PTIMES: [u8; 4] = [60, 40, 20, 10];

/// The events of RFC 4733 section 3.2 that we take: the 16 keys and flash.
const EVENTS: &str = "0-16";

/// An offer of one audio stream with all our codecs (RFC 3264 section 5).
pub fn offer(local: &LocalMedia) -> Vec<u8> {
    let codecs: Vec<(u8, Codec)> = offered(local).collect();
    let (protocol, crypto) = local.encryption.offered();
    let mut text = session_lines(local);
    audio_lines(
        &mut text,
        local,
        &Stream {
            protocol,
            crypto: &crypto,
            codecs: &codecs,
            comfort_noise: None,
            telephone_events: &offered_events(local),
            direction: local.direction,
            rtcp_mux: false,
            voip_metrics: false,
        },
    );
    text.into_bytes()
}

/// Our answer to an offer, and what it makes of the session (RFC 3264 section 6).
///
/// The first acceptable audio stream is taken and every other stream refused with port 0. Of the
/// codecs, the first of [`LocalMedia::codecs`] that is offered. Its number and that of
/// `telephone-event` are the peer's. One codec is answered, so that no peer changes it in mid-call
/// without a re-INVITE, and comfort noise where it is offered.
///
/// # Errors
/// [`SdpError`] where nothing fits, with the SIP status to refuse the offer with.
pub fn answer(offer: &[u8], local: &LocalMedia) -> Result<(Vec<u8>, Negotiated), SdpError> {
    let offer = String::from_utf8_lossy(offer);
    let description = Description::parse(&offer)?;
    let (index, negotiated) = choose(&description, local, Side::Offer)?;
    let crypto: Vec<String> = negotiated.crypto.iter().map(Crypto::answered).collect();
    let mut text = session_lines(local);
    for (at, media) in description.media.iter().enumerate() {
        if at == index {
            audio_lines(
                &mut text,
                local,
                &Stream {
                    protocol: media.protocol,
                    crypto: &crypto,
                    codecs: &[(negotiated.payload_type, negotiated.codec)],
                    comfort_noise: number_of(&negotiated, PayloadKind::ComfortNoise),
                    telephone_events: &negotiated_events(&negotiated),
                    direction: negotiated.direction,
                    rtcp_mux: negotiated.rtcp_mux,
                    voip_metrics: negotiated.voip_metrics,
                },
            );
        } else {
            refused_line(&mut text, media);
        }
    }
    Ok((text.into_bytes(), negotiated))
}

/// What the peer's answer makes of the offer that [`offer`] wrote from the same `local`
/// (RFC 3264 section 7).
///
/// # Errors
/// [`SdpError`] where the answer refuses the stream or holds nothing that was offered.
pub fn accept(answer: &[u8], local: &LocalMedia) -> Result<Negotiated, SdpError> {
    let answer = String::from_utf8_lossy(answer);
    let description = Description::parse(&answer)?;
    let mut audio = description
        .media
        .iter()
        .filter(|media| media.is_audio())
        .peekable();
    if audio.peek().is_some() && audio.all(|media| media.port == 0) {
        return Err(SdpError::Refused);
    }
    let (_, mut negotiated) = choose(&description, local, Side::Answer)?;
    // We did not offer to share a port.
    negotiated.rtcp_mux = false;
    // The answer's numbers are those the peer wants to get; it sends with ours, or, where it is
    // careless, with its own.
    let ours = offered(local).map(|(number, codec)| (number, PayloadKind::Audio(codec)));
    let events = offered_events(local)
        .into_iter()
        .map(|(number, clock)| (number, PayloadKind::TelephoneEvent(clock)));
    let mut receive: Vec<(u8, PayloadKind)> = ours.chain(events).collect();
    for (number, kind) in negotiated.receive {
        if receive.iter().all(|(known, _)| *known != number) {
            receive.push((number, kind));
        }
    }
    negotiated.receive = receive;
    Ok(negotiated)
}

/// Our codecs with the payload types that we offer.
fn offered(local: &LocalMedia) -> impl Iterator<Item = (u8, Codec)> {
    local
        .codecs
        .iter()
        .map(|codec| (codec.payload_type(), *codec))
}

/// Digits in our offer, on the clock of every codec in it (RFC 4733 section 2.5.1.1).
fn offered_events(local: &LocalMedia) -> Vec<(u8, SampleRate)> {
    let mut events: Vec<(u8, SampleRate)> = Vec::new();
    for clock in local.codecs.iter().map(|codec| codec.clock_rate()) {
        if events.iter().all(|(_, known)| *known != clock) {
            events.push((0, clock));
        }
    }
    // The lowest clock, which every peer knows, has the number that was asked for.
    events.sort_by_key(|(_, clock)| *clock);
    let numbers = local.telephone_event.into_iter().flat_map(|first| first..);
    let numbered = events.iter().zip(numbers);
    numbered
        .map(|((_, clock), number)| (number, *clock))
        .collect()
}

fn negotiated_events(negotiated: &Negotiated) -> Vec<(u8, SampleRate)> {
    let events = negotiated.receive.iter();
    let events = events.filter_map(|(number, kind)| match kind {
        PayloadKind::TelephoneEvent(clock) => Some((*number, *clock)),
        PayloadKind::Audio(_) | PayloadKind::ComfortNoise => None,
    });
    events.collect()
}

fn number_of(negotiated: &Negotiated, wanted: PayloadKind) -> Option<u8> {
    let mut receive = negotiated.receive.iter();
    let found = receive.find(|(_, kind)| *kind == wanted);
    found.map(|(number, _)| *number)
}

/// The first stream of the peer's that we can use, and what comes of it. Where there is none,
/// the reason is that of the stream that came closest.
fn choose(
    description: &Description<'_>,
    local: &LocalMedia,
    side: Side,
) -> Result<(usize, Negotiated), SdpError> {
    let mut reason = SdpError::NoAudio;
    for (index, media) in description.media.iter().enumerate() {
        if !media.is_audio() || media.port == 0 {
            continue;
        }
        match negotiate(description, media, local, side) {
            Ok(negotiated) => return Ok((index, negotiated)),
            Err(closer) if closeness(&closer) > closeness(&reason) => reason = closer,
            Err(_) => {}
        }
    }
    Err(reason)
}

fn closeness(error: &SdpError) -> u8 {
    match error {
        SdpError::NoAudio | SdpError::TooLarge(_) | SdpError::Refused => 1,
        SdpError::Transport | SdpError::Encryption => 2,
        SdpError::Codec => 3,
        SdpError::Address(_) | SdpError::Malformed(_) => 4,
    }
}

fn negotiate(
    description: &Description<'_>,
    media: &Media<'_>,
    local: &LocalMedia,
    side: Side,
) -> Result<Negotiated, SdpError> {
    let crypto = protection(media, &local.encryption, side)?;
    let (payload_type, codec) = chosen_codec(media, local, side).ok_or(SdpError::Codec)?;
    let telephone_event = local.telephone_event.and(events_of(media, codec));
    let address = usable(description.connection_of(media), local)?;
    let remote = SocketAddr::new(address, media.port);

    // Before RFC 3264, an unspecified address was how one put a call on hold.
    let theirs = description.direction_of(media);
    let theirs = Direction::from_parts(
        theirs.sends(),
        theirs.receives() && !address.is_unspecified(),
    );
    let digits =
        telephone_event.map(|(number, clock)| (number, PayloadKind::TelephoneEvent(clock)));
    let mut payloads = media.payloads();
    let comfort_noise = payloads.find(|map| is_comfort_noise(map, codec));
    let comfort_noise = comfort_noise.map(|map| (map.payload_type, PayloadKind::ComfortNoise));
    Ok(Negotiated {
        remote,
        remote_rtcp: rtcp_address(media, remote),
        rtcp_mux: media.rtcp_mux,
        voip_metrics: description.wants_voip_metrics(media),
        codec,
        payload_type,
        telephone_event: telephone_event.map(|(number, _)| number),
        receive: [(payload_type, PayloadKind::Audio(codec))]
            .into_iter()
            .chain(comfort_noise)
            .chain(digits)
            .collect(),
        crypto,
        ptime_ms: sending_ptime(media, local),
        direction: theirs.mirrored().limited_to(local.direction),
        remote_hold: !theirs.receives(),
    })
}

/// Of an offer, the codec that we like best; of an answer, the one that the peer does.
fn chosen_codec(media: &Media<'_>, local: &LocalMedia, side: Side) -> Option<(u8, Codec)> {
    let ours = |map: RtpMap<'_>| Some((map.payload_type, codec_of(&map, local)?));
    let mut usable = media.payloads().filter_map(ours);
    match side {
        Side::Answer => usable.next(),
        Side::Offer => {
            let liked = |codec: Codec| local.codecs.iter().position(|known| *known == codec);
            usable.min_by_key(|(_, codec)| liked(*codec))
        }
    }
}

fn codec_of(map: &RtpMap<'_>, local: &LocalMedia) -> Option<Codec> {
    let codec = Codec::from_name(map.name)?;
    let fits = map.clock_rate == codec.clock_rate().hz() && map.channels == codec.channels();
    (fits && local.codecs.contains(&codec)).then_some(codec)
}

/// Digits on the codec's clock, as they must be; else on 8 kHz, as some peers have them beside
/// any codec.
fn events_of(media: &Media<'_>, codec: Codec) -> Option<(u8, SampleRate)> {
    [codec.clock_rate(), SampleRate::TELEPHONE]
        .into_iter()
        .find_map(|clock| {
            let fits = |map: &RtpMap<'_>| {
                map.name.eq_ignore_ascii_case("telephone-event") && map.clock_rate == clock.hz()
            };
            let map = media.payloads().find(fits)?;
            Some((map.payload_type, clock))
        })
}

/// RFC 3389: at 8 kHz, and so beside codecs on that clock.
fn is_comfort_noise(map: &RtpMap<'_>, codec: Codec) -> bool {
    map.name.eq_ignore_ascii_case("CN")
        && map.clock_rate == SampleRate::TELEPHONE.hz()
        && codec.clock_rate() == SampleRate::TELEPHONE
}

fn usable(connection: Option<Connection>, local: &LocalMedia) -> Result<IpAddr, SdpError> {
    match connection {
        None => Err(SdpError::Malformed("no c= line")),
        Some(Connection::Other) => Err(SdpError::Address("not an IP address")),
        Some(Connection::Address(address)) if address.is_multicast() => {
            Err(SdpError::Address("multicast"))
        }
        Some(Connection::Address(address)) if address.is_ipv4() != local.address.is_ipv4() => {
            Err(SdpError::Address("of the other IP version"))
        }
        Some(Connection::Address(address)) => Ok(address),
    }
}

/// RFC 5761, else RFC 3605, else the next port (RFC 3550 section 11).
fn rtcp_address(media: &Media<'_>, rtp: SocketAddr) -> SocketAddr {
    if media.rtcp_mux {
        return rtp;
    }
    let address = match media.rtcp_address {
        Some(Connection::Address(address)) if !address.is_multicast() => address,
        Some(_) | None => rtp.ip(),
    };
    let port = media.rtcp_port.unwrap_or(rtp.port().saturating_add(1));
    SocketAddr::new(address, port)
}

/// The longest packet that we send within what the peer asks for. 30 ms becomes 20: packets
/// leave on a 20 ms grid.
fn sending_ptime(media: &Media<'_>, local: &LocalMedia) -> u8 {
    let wanted = media.ptime_ms.unwrap_or(local.ptime_ms);
    let wanted = wanted.min(media.maxptime_ms.unwrap_or(u8::MAX));
    SENDABLE_PTIMES
        .into_iter()
        .find(|ptime| *ptime <= wanted)
        .unwrap_or(10)
}

/// What our `m=` line and its attributes say.
struct Stream<'a> {
    protocol: &'a str,
    /// Attribute lines.
    crypto: &'a [String],
    codecs: &'a [(u8, Codec)],
    comfort_noise: Option<u8>,
    /// With the clock of each.
    telephone_events: &'a [(u8, SampleRate)],
    direction: Direction,
    rtcp_mux: bool,
    voip_metrics: bool,
}

fn session_lines(local: &LocalMedia) -> String {
    let LocalMedia {
        address,
        session_id,
        session_version,
        ..
    } = local;
    let version = if address.is_ipv4() { 4 } else { 6 };
    format!(
        "v=0\r\n\
         o=- {session_id} {session_version} IN IP{version} {address}\r\n\
         s=-\r\n\
         c=IN IP{version} {address}\r\n\
         t=0 0\r\n"
    )
}

fn audio_lines(text: &mut String, local: &LocalMedia, stream: &Stream<'_>) {
    let line = |text: &mut String, arguments: std::fmt::Arguments<'_>| {
        // Writing to a String does not fail.
        let _ok = text.write_fmt(arguments);
    };
    line(
        text,
        format_args!("m=audio {} {}", local.port, stream.protocol),
    );
    let numbers = stream.codecs.iter().map(|(number, _)| *number);
    let events = stream.telephone_events.iter().map(|(number, _)| *number);
    for number in numbers.chain(stream.comfort_noise).chain(events) {
        line(text, format_args!(" {number}"));
    }
    text.push_str("\r\n");
    for (number, codec) in stream.codecs {
        let rate = codec.clock_rate().hz();
        match codec.channels() {
            1 => line(text, format_args!("a=rtpmap:{number} {codec}/{rate}\r\n")),
            channels => line(
                text,
                format_args!("a=rtpmap:{number} {codec}/{rate}/{channels}\r\n"),
            ),
        }
        if let Some(format) = codec.format() {
            line(text, format_args!("a=fmtp:{number} {format}\r\n"));
        }
    }
    if let Some(number) = stream.comfort_noise {
        line(text, format_args!("a=rtpmap:{number} CN/8000\r\n"));
    }
    for (number, clock) in stream.telephone_events {
        let rate = clock.hz();
        line(
            text,
            format_args!("a=rtpmap:{number} telephone-event/{rate}\r\n"),
        );
        line(text, format_args!("a=fmtp:{number} {EVENTS}\r\n"));
    }
    text.extend(stream.crypto.iter().map(String::as_str));
    line(text, format_args!("a=ptime:{}\r\n", local.ptime_ms));
    line(text, format_args!("a={}\r\n", stream.direction.name()));
    if stream.rtcp_mux {
        text.push_str("a=rtcp-mux\r\n");
    }
    if stream.voip_metrics {
        text.push_str("a=rtcp-xr:voip-metrics\r\n");
    }
}

/// A stream is refused by port 0 with its transport and a format repeated (RFC 3264 section 6).
fn refused_line(text: &mut String, media: &Media<'_>) {
    let format = media.formats.first().copied().unwrap_or("0");
    let words = ["m=", media.kind, " 0 ", media.protocol, " ", format, "\r\n"];
    text.extend(words);
}
