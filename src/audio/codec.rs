//! Telephone codecs: what they are called in SDP, and an encoder and a decoder for each.
//!
//! G.711 mu-law and A-law (ITU-T G.711; RFC 3551 section 4.5.14), G.722 at 64 kbit/s
//! ([`g722`]; RFC 3551 section 4.5.2) and Opus (RFC 6716, RFC 7587).

use std::fmt;

use audio_codec_algorithms::{decode_alaw, decode_ulaw, encode_alaw, encode_ulaw};

use super::twofold::{Doubler, Halver};
use super::{SampleRate, g722, opus};

/// A speech codec, named as in SDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// G.711 mu-law.
    Pcmu,
    /// G.711 A-law.
    Pcma,
    /// G.722, wideband.
    G722,
    /// Opus, of which we speak and hear wideband.
    Opus,
}

impl Codec {
    /// All of them, the best first.
    pub const ALL: [Self; 4] = [Self::Opus, Self::G722, Self::Pcmu, Self::Pcma];

    /// The encoding name of RFC 3551 and RFC 7587, as `a=rtpmap` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
            Self::G722 => "G722",
            Self::Opus => "opus",
        }
    }

    /// The names of all of them, for messages.
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// The codec with this encoding name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|codec| codec.name().eq_ignore_ascii_case(name))
    }

    /// The payload type that our offers give it: the static one of RFC 3551 table 4 where it has
    /// one.
    pub fn payload_type(self) -> u8 {
        match self {
            Self::Pcmu => 0,
            Self::Pcma => 8,
            Self::G722 => 9,
            // Dynamic, and what most offers have.
            Self::Opus => 111,
        }
    }

    /// The codec of a static payload type.
    pub fn from_payload_type(payload_type: u8) -> Option<Self> {
        match payload_type {
            0 => Some(Self::Pcmu),
            8 => Some(Self::Pcma),
            9 => Some(Self::G722),
            _ => None,
        }
    }

    /// The rate of its sound.
    pub fn sample_rate(self) -> SampleRate {
        match self {
            Self::Pcmu | Self::Pcma => SampleRate::TELEPHONE,
            Self::G722 | Self::Opus => SampleRate::WIDEBAND,
        }
    }

    /// The RTP clock rate. For G.722 (RFC 3551 section 4.5.2) and Opus (RFC 7587 section 4.1) it is
    /// not its sample rate.
    pub fn clock_rate(self) -> SampleRate {
        match self {
            Self::Pcmu | Self::Pcma | Self::G722 => SampleRate::TELEPHONE,
            Self::Opus => SampleRate::OPUS_CLOCK,
        }
    }

    /// The channels that its `a=rtpmap` names, which for Opus are not those that are used.
    pub fn channels(self) -> u8 {
        match self {
            Self::Pcmu | Self::Pcma | Self::G722 => 1,
            Self::Opus => 2,
        }
    }

    /// What `a=fmtp` says of our side.
    pub fn format(self) -> Option<&'static str> {
        match self {
            Self::Pcmu | Self::Pcma | Self::G722 => None,
            Self::Opus => Some(opus::FORMAT),
        }
    }

    /// How many samples a payload holds, at its own rate; `None` where it is none.
    pub fn samples_in(self, payload: &[u8]) -> Option<usize> {
        match self {
            Self::Pcmu | Self::Pcma => Some(payload.len()),
            Self::G722 => Some(payload.len() * 2),
            Self::Opus => opus::samples_in(payload, self.sample_rate()),
        }
    }

    /// Whether a payload says that nothing is said, and little is sent until something is.
    pub fn is_resting(self, payload: &[u8]) -> bool {
        match self {
            Self::Pcmu | Self::Pcma | Self::G722 => false,
            Self::Opus => opus::is_resting(payload),
        }
    }

    /// Whether a packet is understood only after those before it.
    pub fn has_memory(self) -> bool {
        match self {
            Self::Pcmu | Self::Pcma => false,
            Self::G722 | Self::Opus => true,
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What an RTP payload type of a call means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PayloadKind {
    /// Speech in this codec.
    Audio(Codec),
    /// Digits (RFC 4733), their durations on this clock.
    TelephoneEvent(SampleRate),
    /// The level of silence (RFC 3389).
    ComfortNoise,
}

/// Encodes one stream.
#[derive(Debug)]
pub enum Encoder {
    /// G.711 mu-law.
    Pcmu,
    /// G.711 A-law.
    Pcma,
    /// G.722.
    G722(Box<g722::Encoder>),
    /// Opus.
    Opus(opus::Encoder),
}

impl Encoder {
    /// With silence before the first sample.
    pub fn new(codec: Codec) -> Self {
        match codec {
            Codec::Pcmu => Self::Pcmu,
            Codec::Pcma => Self::Pcma,
            Codec::G722 => Self::G722(Box::default()),
            Codec::Opus => Self::Opus(opus::Encoder::new()),
        }
    }

    /// Appends a packet's `samples` (at the codec's rate, 10 to 60 ms) to `payload`.
    pub fn encode(&mut self, samples: &[i16], payload: &mut Vec<u8>) {
        match self {
            Self::Pcmu => payload.extend(samples.iter().map(|sample| encode_ulaw(*sample))),
            Self::Pcma => payload.extend(samples.iter().map(|sample| encode_alaw(*sample))),
            Self::G722(encoder) => encoder.encode(samples, payload),
            Self::Opus(encoder) => encoder.encode(samples, payload),
        }
    }
}

/// Decodes one stream to 8 or 16 kHz, whichever its codec has.
#[derive(Debug)]
pub struct Decoder {
    codec: Codec,
    kind: Decoding,
    rate: SampleRate,
    fitting: Fitting,
    /// At the codec's own rate, where that is not asked for.
    unfit: Vec<i16>,
}

#[derive(Debug)]
enum Decoding {
    Pcmu,
    Pcma,
    G722(Box<g722::Decoder>),
    /// At the rate that is asked for.
    Opus(opus::Decoder),
}

/// From the codec's rate to the one that is asked for.
#[derive(Clone, Debug)]
enum Fitting {
    Fits,
    Double(Box<Doubler>),
    Halve(Box<Halver>),
}

impl Decoder {
    /// A decoder that gives 8 or 16 kHz, as `rate` says, with silence before the first packet.
    pub fn new(codec: Codec, rate: SampleRate) -> Self {
        let own = match codec {
            Codec::Opus => rate,
            other => other.sample_rate(),
        };
        Self {
            codec,
            kind: match codec {
                Codec::Pcmu => Decoding::Pcmu,
                Codec::Pcma => Decoding::Pcma,
                Codec::G722 => Decoding::G722(Box::default()),
                Codec::Opus => Decoding::Opus(opus::Decoder::new(rate)),
            },
            rate,
            fitting: match own.cmp(&rate) {
                std::cmp::Ordering::Less => Fitting::Double(Box::default()),
                std::cmp::Ordering::Equal => Fitting::Fits,
                std::cmp::Ordering::Greater => Fitting::Halve(Box::default()),
            },
            unfit: Vec::new(),
        }
    }

    /// What it decodes.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// How many samples [`decode`](Self::decode) makes of a payload; `None` where it is none.
    pub fn length_of(&self, codec: Codec, payload: &[u8]) -> Option<usize> {
        let own = codec.samples_in(payload)?;
        Some(own * self.rate.hz() as usize / codec.sample_rate().hz() as usize)
    }

    /// Appends the samples of the next packet.
    pub fn decode(&mut self, payload: &[u8], samples: &mut Vec<i16>) {
        let own = match self.fitting {
            Fitting::Fits => &mut *samples,
            Fitting::Double(_) | Fitting::Halve(_) => {
                self.unfit.clear();
                &mut self.unfit
            }
        };
        match &mut self.kind {
            Decoding::Pcmu => own.extend(payload.iter().map(|byte| decode_ulaw(*byte))),
            Decoding::Pcma => own.extend(payload.iter().map(|byte| decode_alaw(*byte))),
            Decoding::G722(decoder) => decoder.decode(payload, own),
            Decoding::Opus(decoder) => decoder.decode(payload, own),
        }
        match &mut self.fitting {
            Fitting::Fits => {}
            Fitting::Double(doubler) => doubler.process(&self.unfit, samples),
            Fitting::Halve(halver) => halver.process(&self.unfit, samples),
        }
    }
}

impl Decoder {
    /// Makes up what follows the packet decoded last; false where the codec has no way to.
    pub fn conceal(&mut self, samples: &mut [i16]) -> bool {
        match &mut self.kind {
            Decoding::Opus(decoder) => decoder.conceal(samples),
            Decoding::Pcmu | Decoding::Pcma | Decoding::G722(_) => return false,
        }
        true
    }

    /// Appends the `missing` samples before a packet of its codec that comes after a loss; false
    /// where the codec has no way to.
    pub fn recover(&mut self, payload: &[u8], missing: usize, samples: &mut Vec<i16>) -> bool {
        match &mut self.kind {
            Decoding::Opus(decoder) => decoder.recover(payload, missing, samples),
            Decoding::Pcmu | Decoding::Pcma | Decoding::G722(_) => return false,
        }
        true
    }
}

/// What a codec makes of `samples` at its own rate: through an encoder and a decoder.
pub fn through(codec: Codec, samples: &[i16]) -> Vec<i16> {
    let (mut payload, mut heard) = (Vec::new(), Vec::new());
    let (mut encoder, rate) = (Encoder::new(codec), codec.sample_rate());
    let mut decoder = Decoder::new(codec, rate);
    for packet in samples.chunks(rate.hz() as usize / 50) {
        payload.clear();
        encoder.encode(packet, &mut payload);
        decoder.decode(&payload, &mut heard);
    }
    heard
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAWS: [Codec; 2] = [Codec::Pcmu, Codec::Pcma];

    fn snr_db(codec: Codec, amplitude: f64) -> f64 {
        let clean: Vec<i16> = (0..8_000)
            .map(|n| (amplitude * (f64::from(n) * 0.801).sin()) as i16)
            .collect();
        let heard = through(codec, &clean);
        let (mut signal, mut noise) = (0.0, 0.0);
        for (a, b) in clean.iter().zip(&heard) {
            signal += f64::from(*a).powi(2);
            noise += (f64::from(*a) - f64::from(*b)).powi(2);
        }
        10.0 * (signal / noise).log10()
    }

    #[test]
    fn both_laws_keep_the_signal_to_noise_of_g711_over_forty_decibels_of_level() {
        for codec in LAWS {
            for amplitude in [30_000.0, 3_000.0, 300.0] {
                let snr = snr_db(codec, amplitude);
                assert!(snr > 30.0, "{codec} at {amplitude}: {snr:.1} dB");
            }
        }
    }

    #[test]
    fn every_code_of_both_laws_decodes_and_encodes_back_to_the_same_sound() {
        for codec in LAWS {
            for byte in 0..=255u8 {
                let mut samples = Vec::new();
                Decoder::new(codec, SampleRate::TELEPHONE).decode(&[byte], &mut samples);
                assert_eq!(through(codec, &samples), samples, "{codec} code {byte:#x}");
            }
        }
    }

    #[test]
    fn the_idle_codes_of_the_standard_are_silence() {
        let mut samples = Vec::new();
        let rate = SampleRate::TELEPHONE;
        Decoder::new(Codec::Pcmu, rate).decode(&[0xff, 0x7f], &mut samples);
        Decoder::new(Codec::Pcma, rate).decode(&[0xd5, 0x55], &mut samples);
        assert!(
            samples.iter().all(|sample| sample.abs() <= 8),
            "{samples:?}"
        );
    }

    #[test]
    fn names_and_numbers_lead_back_to_the_codec() {
        for codec in Codec::ALL {
            assert_eq!(Codec::from_name(&codec.name().to_lowercase()), Some(codec));
        }
        for codec in [Codec::Pcmu, Codec::Pcma, Codec::G722] {
            assert_eq!(Codec::from_payload_type(codec.payload_type()), Some(codec));
        }
        assert_eq!(Codec::from_name("G729"), None);
        assert_eq!(Codec::from_payload_type(18), None);
    }

    #[test]
    fn a_packet_has_the_length_that_was_foretold_at_either_rate() {
        for (codec, rate) in Codec::ALL
            .into_iter()
            .flat_map(|codec| [8_000, 16_000].map(|hz| (codec, hz)))
        {
            let mut decoder = Decoder::new(codec, SampleRate::new(rate).unwrap());
            let own = codec.sample_rate().hz() as usize / 50;
            let (mut payload, mut heard) = (Vec::new(), Vec::new());
            Encoder::new(codec).encode(&vec![500; own], &mut payload);
            let foretold = decoder.length_of(codec, &payload).unwrap();
            decoder.decode(&payload, &mut heard);
            assert_eq!(heard.len(), rate as usize / 50, "{codec} at {rate} Hz");
            assert_eq!(heard.len(), foretold);
        }
    }
}
