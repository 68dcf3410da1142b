//! Opus (RFC 6716) for speech at 16 kHz, by libopus: with forward error correction in what is
//! sent, and loss concealed or corrected in what is received.

use std::fmt;

use opus::{Application, Bitrate, Channels, Signal};

use super::SampleRate;

/// Bits a second: wideband speech with its error correction.
const BITRATE: i32 = 28_000;
/// The loss that error correction is made for, in percent.
const EXPECTED_LOSS: i32 = 10;
/// Of 10: more costs processors that a server has better uses for.
const COMPLEXITY: i32 = 5;
/// No packet of one frame is longer (RFC 6716 section 3.4), in bytes.
const LONGEST_PACKET: usize = 1_275;
/// No packet has more sound (RFC 6716 section 3.2.5), in ms.
const LONGEST_MS: usize = 120;
/// A packet of at most this length says that nothing is said (RFC 7587 section 3.1.3), in bytes.
const RESTING: usize = 2;

/// What our side says of itself in SDP (RFC 7587 section 6.1).
pub(super) const FORMAT: &str = "maxplaybackrate=16000;sprop-maxcapturerate=16000;useinbandfec=1";

/// How many samples at `rate` a packet has; `None` where it is no packet of Opus.
pub(super) fn samples_in(packet: &[u8], rate: SampleRate) -> Option<usize> {
    let samples = opus::packet::get_nb_samples(packet, rate.hz()).ok()?;
    (1..=most_samples(rate))
        .contains(&samples)
        .then_some(samples)
}

/// Whether a packet says that nothing is said.
pub(super) fn is_resting(packet: &[u8]) -> bool {
    packet.len() <= RESTING
}

fn most_samples(rate: SampleRate) -> usize {
    rate.hz() as usize * LONGEST_MS / 1_000
}

/// Encodes one stream.
pub struct Encoder(opus::Encoder);

impl Encoder {
    /// With silence before the first sample.
    #[expect(
        clippy::expect_used,
        reason = "fails only for rates and settings that Opus does not have, and these are constants"
    )]
    pub(super) fn new() -> Self {
        let rate = SampleRate::WIDEBAND.hz();
        let make = || {
            let mut encoder = opus::Encoder::new(rate, Channels::Mono, Application::Voip)?;
            encoder.set_signal(Signal::Voice)?;
            encoder.set_bitrate(Bitrate::Bits(BITRATE))?;
            encoder.set_inband_fec(true)?;
            encoder.set_packet_loss_perc(EXPECTED_LOSS)?;
            encoder.set_complexity(COMPLEXITY)?;
            Ok::<_, opus::Error>(encoder)
        };
        Self(make().expect("settings that Opus has"))
    }

    /// Appends a packet of `samples` (16 kHz) to `payload`: 10, 20, 40 or 60 ms. Of another length
    /// there is none.
    pub(super) fn encode(&mut self, samples: &[i16], payload: &mut Vec<u8>) {
        let start = payload.len();
        payload.resize(start + LONGEST_PACKET, 0);
        let written = self.0.encode(samples, &mut payload[start..]);
        payload.truncate(start + written.unwrap_or(0));
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("opus::Encoder(_)")
    }
}

/// Decodes one stream at 8 or 16 kHz.
pub(super) struct Decoder {
    opus: opus::Decoder,
    rate: SampleRate,
    /// Made up already, and not asked for yet.
    spare: Vec<i16>,
}

impl Decoder {
    /// With silence before the first packet.
    #[expect(
        clippy::expect_used,
        reason = "fails only for rates that Opus does not have, and the rate is 8 or 16 kHz"
    )]
    pub(super) fn new(rate: SampleRate) -> Self {
        let rate = rate.min(SampleRate::WIDEBAND).max(SampleRate::TELEPHONE);
        Self {
            opus: opus::Decoder::new(rate.hz(), Channels::Mono).expect("a rate that Opus has"),
            rate,
            spare: Vec::new(),
        }
    }

    /// Appends a packet's samples; silence where it is damaged.
    pub(super) fn decode(&mut self, packet: &[u8], samples: &mut Vec<i16>) {
        self.spare.clear();
        let start = samples.len();
        samples.resize(start + most_samples(self.rate), 0);
        let decoded = self.opus.decode(packet, &mut samples[start..], false);
        let length = decoded.ok().or_else(|| samples_in(packet, self.rate));
        samples.truncate(start + length.unwrap_or(0));
    }

    /// Makes up what follows what was decoded last, in pieces of any length.
    pub(super) fn conceal(&mut self, samples: &mut [i16]) {
        // Opus makes up multiples of 2.5 ms.
        let piece = self.rate.hz() as usize / 100;
        let mut filled = 0;
        while filled < samples.len() {
            if self.spare.is_empty() {
                self.spare.resize(piece, 0);
                if self.opus.decode(&[], &mut self.spare, false).is_err() {
                    self.spare.fill(0);
                }
            }
            let count = self.spare.len().min(samples.len() - filled);
            samples[filled..filled + count].copy_from_slice(&self.spare[..count]);
            self.spare.drain(..count);
            filled += count;
        }
    }

    /// Appends the `missing` samples before `packet`, which comes after a loss: the end of them as
    /// the packet itself says, where it has that (RFC 6716 section 2.1.7), the rest made up.
    pub(super) fn recover(&mut self, packet: &[u8], missing: usize, samples: &mut Vec<i16>) {
        let start = samples.len();
        let told = samples_in(packet, self.rate).unwrap_or(0);
        let untold = missing.saturating_sub(told);
        samples.resize(start + untold, 0);
        self.conceal(&mut samples[start..]);
        self.spare.clear();
        let mut end = vec![0; told];
        if self.opus.decode(packet, &mut end, true).is_err() {
            end.fill(0);
        }
        samples.extend(&end[told.saturating_sub(missing)..]);
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "opus::Decoder({})", self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::level::{rms, rms_dbfs};

    /// A voice-like sound at 16 kHz.
    fn voice(samples: usize) -> Vec<i16> {
        let mut phase = 0.0f64;
        (0..samples)
            .map(|n| {
                phase += std::f64::consts::TAU * (130.0 + n as f64 / 2_000.0) / 16_000.0;
                let sum: f64 = (1..=30)
                    .map(|k| (f64::from(k) * phase).sin() / f64::from(k))
                    .sum();
                let envelope = 0.6 + 0.4 * (n as f64 / 3_000.0).sin();
                (4_000.0 * envelope * sum) as i16
            })
            .collect()
    }

    fn packets(sound: &[i16], frame: usize) -> Vec<Vec<u8>> {
        let mut encoder = Encoder::new();
        sound
            .chunks_exact(frame)
            .map(|frame| {
                let mut packet = Vec::new();
                encoder.encode(frame, &mut packet);
                packet
            })
            .collect()
    }

    #[test]
    fn speech_comes_through_at_either_rate_and_every_packet_length() {
        let sound = voice(32_000);
        for (frame, rate) in [160, 320, 640, 960]
            .into_iter()
            .flat_map(|frame| [8_000, 16_000].map(|rate| (frame, rate)))
        {
            let rate = SampleRate::new(rate).unwrap();
            let mut decoder = Decoder::new(rate);
            let mut heard = Vec::new();
            for packet in packets(&sound, frame) {
                let before = heard.len();
                let foretold = samples_in(&packet, rate).unwrap();
                decoder.decode(&packet, &mut heard);
                assert_eq!(heard.len() - before, foretold);
            }
            let change = rms_dbfs(&heard[heard.len() / 4..]) - rms_dbfs(&sound[8_000..]);
            assert!(change.abs() < 2.0, "{frame} at {rate}: {change:.1} dB");
        }
    }

    /// Energy of the difference to what is heard without a loss, in the lost packet.
    fn error_of_lost(fill: impl Fn(&mut Decoder, &[u8], &mut Vec<i16>)) -> f64 {
        let packets = packets(&voice(48_000), 320);
        let mut whole = Decoder::new(SampleRate::WIDEBAND);
        let mut lossy = Decoder::new(SampleRate::WIDEBAND);
        let mut error = 0.0;
        for (n, packet) in packets.iter().enumerate() {
            let (mut clean, mut heard) = (Vec::new(), Vec::new());
            whole.decode(packet, &mut clean);
            if n % 10 != 7 {
                lossy.decode(packet, &mut heard);
                continue;
            }
            fill(&mut lossy, &packets[n + 1], &mut heard);
            assert_eq!(heard.len(), 320);
            let difference: Vec<i16> = clean
                .iter()
                .zip(&heard)
                .map(|(a, b)| a.saturating_sub(*b))
                .collect();
            error += rms(&difference).powi(2);
        }
        error
    }

    #[test]
    fn the_next_packet_tells_more_of_a_lost_one_than_can_be_made_up_and_that_more_than_nothing() {
        let silence = error_of_lost(|_, _, heard| heard.resize(320, 0));
        let concealed = error_of_lost(|decoder, _, heard| {
            heard.resize(320, 0);
            // In uneven pieces, as playout asks for it.
            let (first, rest) = heard.split_at_mut(97);
            decoder.conceal(first);
            decoder.conceal(rest);
        });
        let recovered = error_of_lost(|decoder, next, heard| decoder.recover(next, 320, heard));
        assert!(concealed < silence, "{concealed:.0}, silence {silence:.0}");
        assert!(
            recovered < concealed,
            "{recovered:.0}, made up {concealed:.0}"
        );
    }

    #[test]
    fn what_is_missing_of_several_packets_is_filled_to_the_sample() {
        let packets = packets(&voice(16_000), 320);
        for missing in [0, 1, 100, 320, 321, 960, 1_000] {
            let mut decoder = Decoder::new(SampleRate::WIDEBAND);
            let mut heard = Vec::new();
            decoder.decode(&packets[0], &mut heard);
            heard.clear();
            decoder.recover(&packets[4], missing, &mut heard);
            assert_eq!(heard.len(), missing);
        }
    }

    #[test]
    fn what_is_no_packet_is_known_or_at_least_harmless() {
        let rate = SampleRate::WIDEBAND;
        assert_eq!(samples_in(&[], rate), None);
        let mut decoder = Decoder::new(rate);
        let mut state = 7u32;
        for length in 0..400 {
            let noise: Vec<u8> = (0..length)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24) as u8
                })
                .collect();
            let mut heard = Vec::new();
            decoder.decode(&noise, &mut heard);
            assert!(heard.len() <= 1_920);
            if let Some(length) = samples_in(&noise, rate) {
                assert_eq!(heard.len(), length);
            }
        }
    }
}
