//! How a call sounded, as it is kept.

use std::time::Duration;

use crate::net::media::StreamReport;
use crate::record::{CallQuality, StreamQuality};
use crate::rtp;

/// What is kept of a stream's last report.
pub(super) fn kept(report: &StreamReport) -> CallQuality {
    let quality = &report.quality;
    let concealed = whole_ms(report.statistics.concealed);
    CallQuality {
        heard: quality
            .heard
            .as_ref()
            .map(|heard| stream(heard, Some(concealed))),
        spoken: quality.spoken.as_ref().map(|spoken| stream(spoken, None)),
        round_trip_ms: quality.round_trip.map(tenths_of_ms),
    }
}

fn stream(quality: &rtp::StreamQuality, concealed_ms: Option<u64>) -> StreamQuality {
    StreamQuality {
        packets: quality.expected,
        lost: quality.lost,
        late: quality.discarded,
        jitter_ms: tenths_of_ms(quality.jitter),
        delay_ms: whole_ms(quality.delay),
        concealed_ms,
        mos: (quality.mos * 100.0).round() / 100.0,
    }
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn tenths_of_ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10_000.0).round() / 10.0
}
