//! RTCP: sender and receiver reports, source description and goodbye (RFC 3550 section 6).

use super::RtpError;
use super::source::Reception;

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const GOODBYE: u8 = 203;
const EXTENDED_REPORT: u8 = 207;
/// The SDES item that names a participant.
const CNAME: u8 = 1;
/// The extended report block that describes a telephone call (RFC 3611 section 4.7).
const VOIP_METRICS: u8 = 7;

/// Bytes of a report block.
const BLOCK: usize = 24;

/// What a sender report says of the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SenderInfo {
    /// NTP time in 2^-32 s.
    pub(super) ntp: u64,
    pub(super) rtp_timestamp: u32,
    pub(super) packets: u32,
    pub(super) octets: u32,
}

/// What one side says of what it receives from another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ReportBlock {
    pub(super) ssrc: u32,
    pub(super) fraction_lost: u8,
    /// 24 bits, signed.
    pub(super) lost: i32,
    pub(super) highest_sequence: u32,
    /// In samples.
    pub(super) jitter: u32,
    /// The middle 32 bits of the NTP time of the last sender report.
    pub(super) last_report: u32,
    /// Since then, in 2^-16 s.
    pub(super) delay: u32,
}

impl ReportBlock {
    /// A block about `reception`, without the times.
    pub(super) fn about(reception: &Reception) -> Self {
        let lost = reception.expected as i64 - reception.received as i64;
        Self {
            ssrc: reception.ssrc,
            fraction_lost: reception.fraction_lost,
            lost: lost.clamp(-0x80_0000, 0x7f_ffff) as i32,
            highest_sequence: reception.highest_sequence,
            jitter: reception.jitter_units as u32,
            last_report: 0,
            delay: 0,
        }
    }
}

/// What a received compound packet held that matters to a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Compound {
    /// The NTP time of a sender report.
    pub(super) sender_ntp: Option<u64>,
    /// Blocks about the streams of all who send.
    pub(super) blocks: Vec<ReportBlock>,
    /// Its VoIP metrics (RFC 3611).
    pub(super) voip: Option<VoipMetrics>,
    /// The sender said goodbye.
    pub(super) goodbye: bool,
}

/// What is sent, and read, of a VoIP metrics block (RFC 3611 section 4.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct VoipMetrics {
    /// Whose stream it is about.
    pub(super) ssrc: u32,
    /// Shares in 256ths.
    pub(super) loss_rate: u8,
    pub(super) discard_rate: u8,
    pub(super) burst_density: u8,
    pub(super) gap_density: u8,
    /// In ms.
    pub(super) burst_ms: u16,
    pub(super) gap_ms: u16,
    pub(super) round_trip_ms: u16,
    pub(super) end_system_ms: u16,
    /// 127 where it is unknown.
    pub(super) r_factor: u8,
    /// Tenths.
    pub(super) mos: u8,
    /// Of the jitter buffer, in ms: its delay now, and the most it allows.
    pub(super) nominal_ms: u16,
    pub(super) maximum_ms: u16,
}

impl VoipMetrics {
    const BYTES: usize = 32;
    /// "Unknown", for what we do not measure.
    const UNKNOWN: u8 = 127;
    /// Enhanced concealment (2), adaptive buffer (3), the rate of its adaptation left at 0.
    const RECEIVER: u8 = 0b1011_0000;

    /// Reads the block behind its 4 bytes of header.
    fn parse(block: &[u8]) -> Option<Self> {
        let block: &[u8; Self::BYTES] = block.get(..Self::BYTES)?.try_into().ok()?;
        let short = |at: usize| u16::from_be_bytes([block[at], block[at + 1]]);
        Some(Self {
            ssrc: u32::from_be_bytes([block[0], block[1], block[2], block[3]]),
            loss_rate: block[4],
            discard_rate: block[5],
            burst_density: block[6],
            gap_density: block[7],
            burst_ms: short(8),
            gap_ms: short(10),
            round_trip_ms: short(12),
            end_system_ms: short(14),
            r_factor: block[20],
            mos: block[22],
            nominal_ms: short(26),
            maximum_ms: short(28),
        })
    }

    fn to_bytes(self) -> [u8; 4 + Self::BYTES] {
        let mut bytes = [0; 4 + Self::BYTES];
        bytes[..4].copy_from_slice(&[VOIP_METRICS, 0, 0, (Self::BYTES / 4) as u8]);
        let block = &mut bytes[4..];
        block[..4].copy_from_slice(&self.ssrc.to_be_bytes());
        block[4..8].copy_from_slice(&[
            self.loss_rate,
            self.discard_rate,
            self.burst_density,
            self.gap_density,
        ]);
        let shorts = [
            (8, self.burst_ms),
            (10, self.gap_ms),
            (12, self.round_trip_ms),
            (14, self.end_system_ms),
            (26, self.nominal_ms),
            (28, self.maximum_ms),
            (30, self.maximum_ms),
        ];
        for (at, value) in shorts {
            block[at..at + 2].copy_from_slice(&value.to_be_bytes());
        }
        // Signal, noise and echo levels, then Gmin.
        block[16..20].copy_from_slice(&[
            Self::UNKNOWN,
            Self::UNKNOWN,
            Self::UNKNOWN,
            super::bursts::GMIN as u8,
        ]);
        // External R factor; the score holds for listening and, where delay is known, talking.
        block[20..25].copy_from_slice(&[
            self.r_factor,
            Self::UNKNOWN,
            self.mos,
            self.mos,
            Self::RECEIVER,
        ]);
        bytes
    }
}

/// Reads a compound packet: all its parts must be well-formed (RFC 3550 appendix A.2), except
/// that the first need not be a report (RFC 5506).
pub(super) fn parse(mut datagram: &[u8]) -> Result<Compound, RtpError> {
    let mut compound = Compound::default();
    if datagram.is_empty() {
        return Err(RtpError::Control);
    }
    while !datagram.is_empty() {
        let (head, rest) = datagram.split_first_chunk::<4>().ok_or(RtpError::Control)?;
        let length = usize::from(u16::from_be_bytes([head[2], head[3]])) * 4;
        if head[0] >> 6 != 2 || rest.len() < length {
            return Err(RtpError::Control);
        }
        let (body, after) = rest.split_at(length);
        let count = usize::from(head[0] & 0x1f);
        match head[1] {
            SENDER_REPORT => {
                let (info, blocks) = body.split_at_checked(24).ok_or(RtpError::Control)?;
                let ntp = info.get(4..12).and_then(|ntp| ntp.try_into().ok());
                compound.sender_ntp = ntp.map(u64::from_be_bytes);
                read_blocks(blocks, count, &mut compound.blocks)?;
            }
            RECEIVER_REPORT => {
                let (_, blocks) = body.split_at_checked(4).ok_or(RtpError::Control)?;
                read_blocks(blocks, count, &mut compound.blocks)?;
            }
            EXTENDED_REPORT => {
                let (_, blocks) = body.split_at_checked(4).ok_or(RtpError::Control)?;
                compound.voip = voip_metrics(blocks)?.or(compound.voip);
            }
            GOODBYE => compound.goodbye = true,
            _ => {}
        }
        datagram = after;
    }
    Ok(compound)
}

/// The VoIP metrics among the blocks of an extended report.
fn voip_metrics(mut blocks: &[u8]) -> Result<Option<VoipMetrics>, RtpError> {
    let mut found = None;
    while !blocks.is_empty() {
        let (head, rest) = blocks.split_first_chunk::<4>().ok_or(RtpError::Control)?;
        let length = usize::from(u16::from_be_bytes([head[2], head[3]])) * 4;
        let (block, after) = rest.split_at_checked(length).ok_or(RtpError::Control)?;
        if head[0] == VOIP_METRICS {
            found = VoipMetrics::parse(block).or(found);
        }
        blocks = after;
    }
    Ok(found)
}

fn read_blocks(bytes: &[u8], count: usize, blocks: &mut Vec<ReportBlock>) -> Result<(), RtpError> {
    let bytes = bytes.get(..count * BLOCK).ok_or(RtpError::Control)?;
    blocks.extend(bytes.as_chunks::<BLOCK>().0.iter().map(|block| {
        let word = |at: usize| {
            u32::from_be_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
        };
        ReportBlock {
            ssrc: word(0),
            fraction_lost: block[4],
            // Sign-extends the 24 bits.
            lost: (word(4) << 8) as i32 >> 8,
            highest_sequence: word(8),
            jitter: word(12),
            last_report: word(16),
            delay: word(20),
        }
    }));
    Ok(())
}

/// Writes a compound packet: a report (of the sender where it sends), the source description
/// that must accompany it, VoIP metrics, and a goodbye where asked for.
pub(super) fn write(
    ssrc: u32,
    sender: Option<SenderInfo>,
    block: Option<ReportBlock>,
    voip: Option<VoipMetrics>,
    goodbye: bool,
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(160);
    let mut report = ssrc.to_be_bytes().to_vec();
    if let Some(SenderInfo {
        ntp,
        rtp_timestamp,
        packets,
        octets,
    }) = sender
    {
        report.extend(ntp.to_be_bytes());
        for word in [rtp_timestamp, packets, octets] {
            report.extend(word.to_be_bytes());
        }
    }
    if let Some(block) = block {
        let [_, l0, l1, l2] = block.lost.to_be_bytes();
        report.extend(block.ssrc.to_be_bytes());
        report.extend([block.fraction_lost, l0, l1, l2]);
        for word in [
            block.highest_sequence,
            block.jitter,
            block.last_report,
            block.delay,
        ] {
            report.extend(word.to_be_bytes());
        }
    }
    let kind = if sender.is_some() {
        SENDER_REPORT
    } else {
        RECEIVER_REPORT
    };
    append(&mut bytes, u8::from(block.is_some()), kind, &report);

    // The name is as random as the SSRC, as RFC 7022 wants it for a short session.
    let name = format!("{ssrc:08x}");
    let mut description = ssrc.to_be_bytes().to_vec();
    description.extend([CNAME, name.len() as u8]);
    description.extend(name.as_bytes());
    // The list of items ends with a zero, and the chunk on a word.
    description.resize((description.len() + 1).next_multiple_of(4), 0);
    append(&mut bytes, 1, SOURCE_DESCRIPTION, &description);

    if let Some(voip) = voip {
        let mut report = ssrc.to_be_bytes().to_vec();
        report.extend(voip.to_bytes());
        append(&mut bytes, 0, EXTENDED_REPORT, &report);
    }
    if goodbye {
        append(&mut bytes, 1, GOODBYE, &ssrc.to_be_bytes());
    }
    bytes
}

/// `body` is a whole number of words.
fn append(bytes: &mut Vec<u8>, count: u8, kind: u8, body: &[u8]) {
    let words = (body.len() / 4) as u16;
    bytes.extend([0x80 | count, kind]);
    bytes.extend(words.to_be_bytes());
    bytes.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK_OF_OTHER: ReportBlock = ReportBlock {
        ssrc: 9,
        fraction_lost: 64,
        lost: -3,
        highest_sequence: 70_000,
        jitter: 12,
        last_report: 0xaabb_ccdd,
        delay: 65_536,
    };
    const INFO: SenderInfo = SenderInfo {
        ntp: 0x1122_3344_5566_7788,
        rtp_timestamp: 160,
        packets: 5,
        octets: 800,
    };

    #[test]
    fn a_sender_report_with_goodbye_is_read_back() {
        let bytes = write(7, Some(INFO), Some(BLOCK_OF_OTHER), None, true);
        assert_eq!(bytes.len() % 4, 0);
        let compound = parse(&bytes).unwrap();
        assert_eq!(compound.sender_ntp, Some(INFO.ntp));
        assert_eq!(compound.blocks, [BLOCK_OF_OTHER]);
        assert!(compound.goodbye);
    }

    #[test]
    fn voip_metrics_are_read_back_and_unknown_blocks_passed_over() {
        let voip = VoipMetrics {
            ssrc: 9,
            loss_rate: 12,
            discard_rate: 3,
            burst_density: 200,
            gap_density: 1,
            burst_ms: 60,
            gap_ms: 2_000,
            round_trip_ms: 43,
            end_system_ms: 44,
            r_factor: 88,
            mos: 43,
            nominal_ms: 20,
            maximum_ms: 120,
        };
        let bytes = write(7, Some(INFO), Some(BLOCK_OF_OTHER), Some(voip), true);
        assert_eq!(bytes.len() % 4, 0);
        let compound = parse(&bytes).unwrap();
        assert_eq!((compound.voip, compound.goodbye), (Some(voip), true));
        // A receiver reference time block (4) before it, and one that is cut off.
        let reference = [4, 0, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8];
        let both = [reference.as_slice(), &voip.to_bytes()].concat();
        assert_eq!(voip_metrics(&both), Ok(Some(voip)));
        assert_eq!(voip_metrics(&both[..20]), Err(RtpError::Control));
    }

    #[test]
    fn one_who_only_listens_sends_a_receiver_report() {
        let bytes = write(7, None, Some(BLOCK_OF_OTHER), None, false);
        assert_eq!(bytes[1], RECEIVER_REPORT);
        let compound = parse(&bytes).unwrap();
        assert_eq!((compound.sender_ntp, compound.goodbye), (None, false));
        assert_eq!(compound.blocks, [BLOCK_OF_OTHER]);
        let empty = parse(&write(7, None, None, None, false)).unwrap();
        assert_eq!(empty, Compound::default());
    }

    #[test]
    fn what_is_cut_or_damaged_is_refused_whole() {
        let bytes = write(7, Some(INFO), Some(BLOCK_OF_OTHER), None, true);
        let whole_parts = [52, 72];
        for length in 0..bytes.len() {
            let cut = parse(&bytes[..length]);
            assert_eq!(
                cut.is_ok(),
                whole_parts.contains(&length),
                "cut at {length}"
            );
        }
        assert_eq!(parse(&[0x9f, SENDER_REPORT, 0, 6]), Err(RtpError::Control));
        let mut claims_more_blocks = bytes;
        claims_more_blocks[0] = 0x82;
        assert_eq!(parse(&claims_more_blocks), Err(RtpError::Control));
    }
}
