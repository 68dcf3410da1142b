//! What a session counts.

use std::time::Duration;

/// Counters of a session, over all sources that the peer used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Statistics {
    /// Packets of the stream that were received, without duplicates.
    pub received: u64,
    /// Packets that are missing in the sequence (RFC 3550 section 6.4.1).
    pub lost: u64,
    /// Packets that came after they were to be played.
    pub late: u64,
    /// Packets that were received more than once.
    pub duplicate: u64,
    /// Packets that were overtaken by a later one.
    pub reordered: u64,
    /// Packets that were dropped since too many waited.
    pub dropped: u64,
    /// Datagrams that were neither RTP nor RTCP.
    pub malformed: u64,
    /// Datagrams that were not sealed with the key that was agreed on (RFC 3711).
    pub unauthentic: u64,
    /// Packets of a payload type that was not negotiated.
    pub unknown_payload: u64,
    /// Packets of another source that no second one confirmed.
    pub stray: u64,
    /// Changes of the source, or jumps of its numbers or clock, in mid-call.
    pub sources: u64,
    /// Interarrival jitter of RFC 3550 section 6.4.1.
    pub jitter: Duration,
    /// How long playout means to wait for late packets.
    pub target_delay: Duration,
    /// Received sound that was played.
    pub played: Duration,
    /// Sound that was made up.
    pub concealed: Duration,
    /// Sound that was left out to shorten the delay or to follow the sender's clock.
    pub removed: Duration,
    /// Sound that was played twice to lengthen the delay or to follow the sender's clock.
    pub added: Duration,
    /// Packets sent.
    pub sent: u64,
    /// What the peer last said of how it receives us.
    pub remote: Option<RemoteReport>,
}

/// The peer's view of our stream, from its RTCP.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RemoteReport {
    /// Share lost since its report before, 0 to 1.
    pub fraction_lost: f32,
    /// Packets lost in all; negative where duplicates outnumber losses.
    pub lost: i32,
    /// Interarrival jitter.
    pub jitter: Duration,
    /// From us to the peer and back.
    pub round_trip: Option<Duration>,
    /// Packets that we had sent when it came.
    pub sent: u64,
    /// Packets that reached the peer too late to be heard, as far as it says so (RFC 3611).
    pub discarded: u64,
    /// How long its jitter buffer waits, where it says so.
    pub playout: Option<Duration>,
    /// The mean opinion score that it gives, where it says so.
    pub score: Option<f32>,
}
