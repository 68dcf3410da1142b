//! Packets as the kernel saw them: tcpdump writes, this reads its format.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::Result;

/// As much of a packet as holds Ethernet, IP, UDP and RTP headers.
const SNAPSHOT: &str = "96";

/// Seconds are followed by nanoseconds in a file that begins so.
const NANOSECONDS: u32 = 0xa1b2_3c4d;

/// The link type of Ethernet, which the loopback device has as well.
const ETHERNET: u32 = 1;

/// Ethernet header.
const LINK_HEADER: usize = 14;

/// A running tcpdump.
#[derive(Debug)]
pub(crate) struct Capture {
    process: Child,
    file: PathBuf,
}

impl Capture {
    /// Captures what is sent from these UDP ports of the loopback device.
    pub(crate) fn start(ports: &RangeInclusive<u16>) -> Result<Self> {
        let file = std::env::temp_dir().join(format!("offhook-bench-{}.pcap", std::process::id()));
        let output = File::create(&file)?;
        let mut process = Command::new("tcpdump")
            .args([
                "-i",
                "lo",
                "-n",
                "-s",
                SNAPSHOT,
                "-B",
                "16384",
                "--time-stamp-precision=nano",
                "-w",
                "-",
            ])
            .arg(format!(
                "udp and src portrange {}-{}",
                ports.start(),
                ports.end()
            ))
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("tcpdump: {error}; scripts/bench installs it"))?;
        let mut said = String::new();
        let listening = match process.stderr.take() {
            Some(stderr) => {
                let mut lines = BufReader::new(stderr);
                while lines.read_line(&mut said)? > 0 && !said.contains("listening on") {}
                // It goes on writing there; read to the end so that it never waits for us.
                std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
                said.contains("listening on")
            }
            None => false,
        };
        let capture = Self { process, file };
        match listening {
            true => Ok(capture),
            false => Err(format!("tcpdump cannot capture; it needs root:\n{said}").into()),
        }
    }

    /// Ends the capture.
    pub(crate) fn stop(mut self) -> Result<Vec<Packet>> {
        let pid = self.process.id().to_string();
        Command::new("kill").args(["-INT", &pid]).status()?;
        self.process.wait()?;
        read(&fs::read(&self.file)?)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
        remove(&self.file);
    }
}

fn remove(file: &Path) {
    // One that is not there need not be removed.
    let _ = fs::remove_file(file);
}

/// The header of an RTP packet, and when it passed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet {
    /// Seconds since the epoch, and nanoseconds.
    at: (u32, u32),
    port: u16,
    source: u32,
    timestamp: u32,
}

/// A pcap file: a header of 24 bytes, then for each packet one of 16 and as much of it as was kept.
fn read(bytes: &[u8]) -> Result<Vec<Packet>> {
    if little(bytes, 0) != Some(NANOSECONDS) || little(bytes, 20) != Some(ETHERNET) {
        return Err("tcpdump wrote something else than what was asked for".into());
    }
    let mut packets = Vec::new();
    let mut rest = bytes.get(24..).unwrap_or_default();
    while let (Some(seconds), Some(nanos), Some(length)) =
        (little(rest, 0), little(rest, 4), little(rest, 8))
    {
        let end = 16 + length as usize;
        let Some(frame) = rest.get(16..end) else {
            break;
        };
        packets.extend(rtp(frame, (seconds, nanos)));
        rest = &rest[end..];
    }
    Ok(packets)
}

fn little(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(
        bytes
            .iter()
            .rev()
            .fold(0, |value, byte| (value << 8) | u32::from(*byte)),
    )
}

fn big(bytes: &[u8], at: usize, length: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + length)?;
    Some(
        bytes
            .iter()
            .fold(0, |value, byte| (value << 8) | u32::from(*byte)),
    )
}

/// RTP version 2 in UDP in IPv4 (RFC 3550 section 5.1); RTCP is left out.
fn rtp(frame: &[u8], at: (u32, u32)) -> Option<Packet> {
    let ip = frame.get(LINK_HEADER..)?;
    let first = *ip.first()?;
    if first >> 4 != 4 {
        return None;
    }
    let udp = ip.get(usize::from(first & 0xf) * 4..)?;
    let payload = udp.get(8..)?;
    let (version, payload_type) = (*payload.first()? >> 6, *payload.get(1)? & 0x7f);
    // RTCP's packet types, 200 to 204, look like these where RTP has its payload type.
    if version != 2 || (72..=76).contains(&payload_type) {
        return None;
    }
    Some(Packet {
        at,
        port: u16::try_from(big(udp, 0, 2)?).ok()?,
        timestamp: big(payload, 4, 4)?,
        source: big(payload, 8, 4)?,
    })
}

/// Streams of packets: for each, time in ms since the first packet of all, and RTP timestamp since
/// the stream's first.
pub(crate) fn streams(packets: &[Packet]) -> Vec<Vec<(f64, u32)>> {
    let Some(start) = packets.iter().map(|packet| packet.at).min() else {
        return Vec::new();
    };
    let ms = |at: (u32, u32)| {
        f64::from(at.0 - start.0) * 1e3 + (f64::from(at.1) - f64::from(start.1)) / 1e6
    };
    let mut streams: BTreeMap<(u16, u32), Vec<Packet>> = BTreeMap::new();
    for packet in packets {
        streams
            .entry((packet.port, packet.source))
            .or_default()
            .push(*packet);
    }
    let of = |packets: Vec<Packet>| {
        let first = packets.first().map_or(0, |packet| packet.timestamp);
        packets
            .iter()
            .map(|packet| (ms(packet.at), packet.timestamp.wrapping_sub(first)))
            .collect()
    };
    streams.into_values().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(seconds: u32, nanos: u32, port: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; LINK_HEADER];
        frame.push(0x45);
        frame.extend([0; 19]);
        frame.extend(port.to_be_bytes());
        frame.extend([0; 6]);
        frame.extend(payload);
        let length = u32::try_from(frame.len()).unwrap_or(0);
        let head = [seconds, nanos, length, length + 160];
        head.iter()
            .flat_map(|field| field.to_le_bytes())
            .chain(frame)
            .collect()
    }

    fn packet(timestamp: u32, source: u32) -> Vec<u8> {
        [
            vec![0x80, 0, 0, 1],
            timestamp.to_be_bytes().to_vec(),
            source.to_be_bytes().to_vec(),
        ]
        .concat()
    }

    fn file(records: &[Vec<u8>]) -> Vec<u8> {
        let head = [NANOSECONDS, 0x0004_0002, 0, 0, 96, ETHERNET];
        head.iter()
            .flat_map(|field| field.to_le_bytes())
            .chain(records.concat())
            .collect()
    }

    #[test]
    fn streams_are_told_apart_and_timed_from_the_first_packet() {
        let mut bytes = file(&[
            record(10, 999_000_000, 20_000, &packet(u32::MAX - 79, 1)),
            record(11, 1_000_000, 20_002, &packet(500, 2)),
            record(11, 19_500_000, 20_000, &packet(80, 1)),
            record(
                11,
                20_000_000,
                20_001,
                &[0x80, 200, 0, 6, 0, 0, 0, 0, 0, 0, 0, 1],
            ),
        ]);
        bytes.extend([1, 2, 3]);
        let packets = read(&bytes).unwrap_or_default();
        assert_eq!(
            streams(&packets),
            [vec![(0.0, 0), (20.5, 160)], vec![(2.0, 0)]]
        );
    }

    #[test]
    fn another_format_is_an_error() {
        assert!(read(b"no capture").is_err());
        assert!(read(&[]).is_err());
    }
}
