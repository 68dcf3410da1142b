//! Telephone codecs: G.711 mu-law and A-law (ITU-T G.711; RFC 3551 section 4.5.14).

use std::fmt;

use audio_codec_algorithms::{decode_alaw, decode_ulaw, encode_alaw, encode_ulaw};

use super::SampleRate;

/// A speech codec, named as in SDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// G.711 mu-law.
    Pcmu,
    /// G.711 A-law.
    Pcma,
}

impl Codec {
    /// The encoding name of RFC 3551, as `a=rtpmap` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
        }
    }

    /// The codec with this encoding name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Pcmu, Self::Pcma]
            .into_iter()
            .find(|codec| codec.name().eq_ignore_ascii_case(name))
    }

    /// The static payload type of RFC 3551 table 4.
    pub fn payload_type(self) -> u8 {
        match self {
            Self::Pcmu => 0,
            Self::Pcma => 8,
        }
    }

    /// The codec of a static payload type.
    pub fn from_payload_type(payload_type: u8) -> Option<Self> {
        match payload_type {
            0 => Some(Self::Pcmu),
            8 => Some(Self::Pcma),
            _ => None,
        }
    }

    /// The RTP clock rate, which for G.711 is the sample rate.
    pub fn clock_rate(self) -> SampleRate {
        match self {
            Self::Pcmu | Self::Pcma => SampleRate::TELEPHONE,
        }
    }

    /// Appends the decoded samples of `payload` (one a byte) to `samples`.
    pub fn decode(self, payload: &[u8], samples: &mut Vec<i16>) {
        let decode = match self {
            Self::Pcmu => decode_ulaw,
            Self::Pcma => decode_alaw,
        };
        samples.extend(payload.iter().map(|byte| decode(*byte)));
    }

    /// Appends the encoded bytes of `samples` (one a sample) to `payload`.
    pub fn encode(self, samples: &[i16], payload: &mut Vec<u8>) {
        let encode = match self {
            Self::Pcmu => encode_ulaw,
            Self::Pcma => encode_alaw,
        };
        payload.extend(samples.iter().map(|sample| encode(*sample)));
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
    /// Digits (RFC 4733).
    TelephoneEvent,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snr_db(codec: Codec, amplitude: f64) -> f64 {
        let clean: Vec<i16> = (0..8_000)
            .map(|n| (amplitude * (f64::from(n) * 0.801).sin()) as i16)
            .collect();
        let (mut bytes, mut heard) = (Vec::new(), Vec::new());
        codec.encode(&clean, &mut bytes);
        codec.decode(&bytes, &mut heard);
        let (mut signal, mut noise) = (0.0, 0.0);
        for (a, b) in clean.iter().zip(&heard) {
            signal += f64::from(*a).powi(2);
            noise += (f64::from(*a) - f64::from(*b)).powi(2);
        }
        10.0 * (signal / noise).log10()
    }

    #[test]
    fn both_laws_keep_the_signal_to_noise_of_g711_over_forty_decibels_of_level() {
        for codec in [Codec::Pcmu, Codec::Pcma] {
            for amplitude in [30_000.0, 3_000.0, 300.0] {
                let snr = snr_db(codec, amplitude);
                assert!(snr > 30.0, "{codec} at {amplitude}: {snr:.1} dB");
            }
        }
    }

    #[test]
    fn every_code_decodes_and_encodes_back_to_the_same_sound() {
        for codec in [Codec::Pcmu, Codec::Pcma] {
            for byte in 0..=255u8 {
                let mut samples = Vec::new();
                codec.decode(&[byte], &mut samples);
                let mut again = Vec::new();
                codec.encode(&samples, &mut again);
                let mut heard = Vec::new();
                codec.decode(&again, &mut heard);
                assert_eq!(samples, heard, "{codec} code {byte:#x}");
            }
        }
    }

    #[test]
    fn the_idle_codes_of_the_standard_are_silence() {
        let mut samples = Vec::new();
        Codec::Pcmu.decode(&[0xff, 0x7f], &mut samples);
        Codec::Pcma.decode(&[0xd5, 0x55], &mut samples);
        assert!(
            samples.iter().all(|sample| sample.abs() <= 8),
            "{samples:?}"
        );
    }

    #[test]
    fn names_and_numbers_lead_back_to_the_codec() {
        for codec in [Codec::Pcmu, Codec::Pcma] {
            assert_eq!(Codec::from_name(&codec.name().to_lowercase()), Some(codec));
            assert_eq!(Codec::from_payload_type(codec.payload_type()), Some(codec));
        }
        assert_eq!(Codec::from_name("G729"), None);
        assert_eq!(Codec::from_payload_type(18), None);
    }
}
