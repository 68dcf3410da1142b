//! What a caller heard, packet by packet: when speech began, when it fell silent, how loud it was.

use offhook::audio::level::{AUDIBLE_DBFS, rms_dbfs};
use offhook::audio::{Codec, Decoder, FRAME_SAMPLES, SampleRate};

/// Fewer audible packets than this in a row are a click, not speech.
const SPEECH_PACKETS: usize = 3;

/// A packet that arrived.
#[derive(Clone, Copy, Debug)]
struct Packet {
    at_ms: f64,
    level_dbfs: f32,
    /// Where its sound begins, in samples.
    place: usize,
}

/// Everything that arrived.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hearing {
    packets: Vec<Packet>,
    samples: Vec<i16>,
    last_sequence: u16,
    /// Sequence numbers that never came.
    missing: u64,
}

impl Hearing {
    pub(crate) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// A packet of µ-law.
    pub(crate) fn packet(&mut self, at_ms: f64, sequence: u16, payload: &[u8]) {
        if !self.packets.is_empty() {
            let step = sequence.wrapping_sub(self.last_sequence);
            // One that comes late or twice is not worth a jitter buffer on loopback.
            if step == 0 || step > u16::MAX / 2 {
                return;
            }
            let gap = usize::from(step - 1);
            self.missing += gap as u64;
            self.samples
                .resize(self.samples.len() + gap * FRAME_SAMPLES, 0);
        }
        self.last_sequence = sequence;
        let place = self.samples.len();
        Decoder::new(Codec::Pcmu, SampleRate::TELEPHONE).decode(payload, &mut self.samples);
        let level_dbfs = rms_dbfs(&self.samples[place..]);
        self.packets.push(Packet {
            at_ms,
            level_dbfs,
            place,
        });
    }

    /// Packets that were lost on the way.
    pub(crate) fn missing(&self) -> u64 {
        self.missing
    }

    /// How far from 20 ms after the packet before each one came, in ms.
    pub(crate) fn jitter_ms(&self) -> impl Iterator<Item = f64> + '_ {
        let pairs = self.packets.windows(2);
        pairs.map(|pair| (pair[1].at_ms - pair[0].at_ms - 20.0).abs())
    }

    fn first_at(&self, ms: i64) -> usize {
        self.packets
            .partition_point(|packet| packet.at_ms < ms as f64)
    }

    /// The first packet of speech that arrived at `since_ms` or later.
    pub(crate) fn speech_since(&self, since_ms: i64) -> Option<i64> {
        let later = &self.packets[self.first_at(since_ms)..];
        let audible = |packet: &Packet| packet.level_dbfs > AUDIBLE_DBFS;
        let run = later
            .windows(SPEECH_PACKETS)
            .find(|run| run.iter().all(audible))?;
        Some(run[0].at_ms as i64)
    }

    /// The last packet that could be heard.
    pub(crate) fn last_audible(&self) -> Option<i64> {
        let audible = |packet: &&Packet| packet.level_dbfs > AUDIBLE_DBFS;
        let last = self.packets.iter().rev().find(audible)?;
        Some(last.at_ms as i64)
    }

    /// The mean level of what could be heard, by its power.
    pub(crate) fn level_between(&self, from_ms: i64, until_ms: i64) -> Option<f32> {
        let within = &self.packets[self.first_at(from_ms)..self.first_at(until_ms)];
        let audible = within
            .iter()
            .filter(|packet| packet.level_dbfs > AUDIBLE_DBFS)
            .map(|packet| 10_f64.powf(f64::from(packet.level_dbfs) / 10.0));
        let (sum, count) = audible.fold((0.0, 0), |(sum, count), power| (sum + power, count + 1));
        (count > 0).then(|| (10.0 * (sum / f64::from(count)).log10()) as f32)
    }

    /// When it became quieter than `level_dbfs` for at least `lasting_ms`, at `since_ms` or later.
    /// The end of what arrived counts as quiet.
    pub(crate) fn quiet_since(
        &self,
        since_ms: i64,
        level_dbfs: f32,
        lasting_ms: f64,
    ) -> Option<i64> {
        let mut quiet: Option<f64> = None;
        for packet in &self.packets[self.first_at(since_ms)..] {
            if packet.level_dbfs > level_dbfs {
                quiet = None;
                continue;
            }
            let began = *quiet.get_or_insert(packet.at_ms);
            if packet.at_ms - began >= lasting_ms {
                break;
            }
        }
        quiet.map(|at| at as i64)
    }

    /// The sound of a stretch of time, 8 kHz.
    pub(crate) fn between(&self, from_ms: i64, until_ms: i64) -> &[i16] {
        let place = |ms| {
            let packet = self.packets.get(self.first_at(ms));
            packet.map_or(self.samples.len(), |packet| packet.place)
        };
        let (from, until) = (place(from_ms), place(until_ms));
        &self.samples[from..until.max(from)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets of these levels, in dBFS (square waves), every 20 ms.
    fn heard(levels: &[f64]) -> Hearing {
        let mut hearing = Hearing::default();
        for (index, level) in (0_u16..).zip(levels) {
            let amplitude = (32_767.0 * 10_f64.powf(level / 20.0)) as i16;
            let samples: Vec<i16> = (0..160)
                .map(|n| if n % 8 < 4 { amplitude } else { -amplitude })
                .collect();
            let mut payload = Vec::new();
            offhook::audio::Encoder::new(Codec::Pcmu).encode(&samples, &mut payload);
            hearing.packet(f64::from(index) * 20.0, index.wrapping_sub(3), &payload);
        }
        hearing
    }

    #[test]
    fn speech_begins_with_the_first_of_three_audible_packets() {
        let mut levels = vec![-90.0, -20.0, -90.0, -20.0, -20.0, -20.0];
        levels.extend([-90.0; 4]);
        let hearing = heard(&levels);
        assert_eq!(hearing.speech_since(0), Some(60));
        assert_eq!(hearing.speech_since(70), None, "two packets are none");
        assert_eq!(hearing.last_audible(), Some(100));
        assert_eq!(hearing.missing(), 0);
    }

    #[test]
    fn it_is_quiet_from_where_the_level_stays_down() {
        let mut levels = vec![-20.0; 10];
        levels.extend([-60.0; 3]);
        levels.extend([-20.0; 5]);
        levels.extend([-40.0; 30]);
        let hearing = heard(&levels);
        let loud = hearing.level_between(0, 200).expect("heard");
        assert!((loud + 20.0).abs() < 0.5, "{loud}");
        assert_eq!(hearing.quiet_since(100, loud - 15.0, 400.0), Some(360));
        assert_eq!(hearing.quiet_since(100, loud - 25.0, 400.0), None);
        assert_eq!(hearing.between(200, 260).len(), 480);
    }
}
