//! WAV files, read into mono and written as mono 16-bit PCM.

use std::io::{Read, Seek, Write};

use hound::{SampleFormat, WavReader, WavSpec, WavWriter};
use thiserror::Error;

use super::SampleRate;

/// The longest clip that is read: 4 hours at 48 kHz. A header may claim anything.
const MAX_SAMPLES: usize = 4 * 3_600 * 48_000;

/// Mono audio with its rate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clip {
    /// The samples.
    pub samples: Vec<i16>,
    /// Their rate.
    pub rate: SampleRate,
}

/// Why a WAV file could not be read or written. Retrying does not help, except after
/// [`WavError::Io`]; the fault is the file's.
#[derive(Debug, Error)]
pub enum WavError {
    /// The file ended early or could not be read or written.
    #[error("the WAV file could not be read or written: {0}")]
    Io(#[source] std::io::Error),
    /// Not a WAV file, or a damaged one.
    #[error("not a readable WAV file: {0}")]
    Damaged(&'static str),
    /// A WAV file that holds something else than integer or 32-bit float PCM.
    #[error("the WAV file does not hold PCM: only 8, 16, 24 and 32 bit PCM can be read")]
    NotPcm,
    /// More or fewer channels than can be mixed, or a rate outside 1 kHz to 384 kHz.
    #[error("the WAV file has {channels} channels at {hz} Hz, which is not speech")]
    Implausible {
        /// Channels by the header.
        channels: u16,
        /// Sample rate by the header.
        hz: u32,
    },
    /// Longer than is accepted.
    #[error("the WAV file is longer than 4 hours")]
    TooLong,
}

impl From<hound::Error> for WavError {
    fn from(error: hound::Error) -> Self {
        match error {
            hound::Error::IoError(error) => Self::Io(error),
            hound::Error::FormatError(what) => Self::Damaged(what),
            hound::Error::TooWide => Self::Damaged("a sample is wider than the format says"),
            hound::Error::UnfinishedSample => Self::Damaged("it ends within a sample"),
            hound::Error::Unsupported | hound::Error::InvalidSampleFormat => Self::NotPcm,
        }
    }
}

/// Reads PCM of 8, 16, 24 or 32 bits or 32-bit float, any number of channels (averaged).
///
/// # Errors
/// [`WavError`] says what is wrong with the file.
pub fn read(reader: impl Read) -> Result<Clip, WavError> {
    let reader = WavReader::new(reader)?;
    let WavSpec {
        channels,
        sample_rate,
        bits_per_sample,
        sample_format,
    } = reader.spec();
    let implausible = WavError::Implausible {
        channels,
        hz: sample_rate,
    };
    let Some(rate) = SampleRate::new(sample_rate) else {
        return Err(implausible);
    };
    if channels == 0 || channels > 64 {
        return Err(implausible);
    }
    if reader.duration() as usize > MAX_SAMPLES {
        return Err(WavError::TooLong);
    }
    let channels = usize::from(channels);
    let samples = match sample_format {
        SampleFormat::Float => mono(reader.into_samples::<f32>(), channels)?,
        SampleFormat::Int => {
            let full_scale = 2f32.powi(i32::from(bits_per_sample) - 1);
            let scaled = reader
                .into_samples::<i32>()
                .map(|sample| sample.map(|value| value as f32 / full_scale));
            mono(scaled, channels)?
        }
    };
    Ok(Clip { samples, rate })
}

/// Averages interleaved channels of -1..1 into 16-bit samples.
fn mono(
    samples: impl Iterator<Item = Result<f32, hound::Error>>,
    channels: usize,
) -> Result<Vec<i16>, WavError> {
    let mut output = Vec::new();
    let (mut sum, mut summed) = (0.0, 0);
    for sample in samples {
        sum += sample?;
        summed += 1;
        if summed == channels {
            // `as` saturates
            output.push((sum / channels as f32 * 32_768.0).round() as i16);
            (sum, summed) = (0.0, 0);
        }
    }
    Ok(output)
}

/// Writes a mono 16-bit PCM file.
///
/// # Errors
/// [`WavError::Io`] where the writer fails.
pub fn write(writer: impl Write + Seek, samples: &[i16], rate: SampleRate) -> Result<(), WavError> {
    let spec = WavSpec {
        channels: 1,
        sample_rate: rate.hz(),
        bits_per_sample: 16,
        sample_format: SampleFormat::Int,
    };
    let mut wav = WavWriter::new(writer, spec)?;
    for sample in samples {
        wav.write_sample(*sample)?;
    }
    wav.finalize()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn file(spec: WavSpec, values: &[i32]) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        let mut writer = WavWriter::new(&mut bytes, spec).unwrap();
        for value in values {
            match spec.sample_format {
                SampleFormat::Int => writer.write_sample(*value).unwrap(),
                SampleFormat::Float => writer.write_sample(*value as f32 / 32_768.0).unwrap(),
            }
        }
        writer.finalize().unwrap();
        bytes.into_inner()
    }

    fn spec(channels: u16, bits_per_sample: u16, sample_format: SampleFormat) -> WavSpec {
        WavSpec {
            channels,
            sample_rate: 22_050,
            bits_per_sample,
            sample_format,
        }
    }

    #[test]
    fn what_was_written_is_read_back() {
        let samples = vec![0, 1, -1, i16::MAX, i16::MIN, 1_234];
        let mut bytes = Cursor::new(Vec::new());
        write(&mut bytes, &samples, SampleRate::TELEPHONE).unwrap();
        let clip = read(bytes.into_inner().as_slice()).unwrap();
        assert_eq!(
            clip,
            Clip {
                samples,
                rate: SampleRate::TELEPHONE
            }
        );
    }

    #[test]
    fn every_width_of_pcm_is_brought_to_sixteen_bits() {
        for (bits, shift) in [(8, 8), (16, 0)] {
            let bytes = file(spec(1, bits, SampleFormat::Int), &[64 << 8 >> shift]);
            assert_eq!(
                read(bytes.as_slice()).unwrap().samples,
                [64 << 8],
                "{bits} bits"
            );
        }
        for (bits, shift) in [(24, 8), (32, 16)] {
            let bytes = file(spec(1, bits, SampleFormat::Int), &[64 << 8 << shift]);
            assert_eq!(
                read(bytes.as_slice()).unwrap().samples,
                [64 << 8],
                "{bits} bits"
            );
        }
        let bytes = file(spec(1, 32, SampleFormat::Float), &[64 << 8]);
        assert_eq!(read(bytes.as_slice()).unwrap().samples, [64 << 8]);
    }

    #[test]
    fn channels_are_averaged() {
        let bytes = file(spec(2, 16, SampleFormat::Int), &[1_000, 3_000, -5, 5]);
        assert_eq!(read(bytes.as_slice()).unwrap().samples, [2_000, 0]);
    }

    #[test]
    fn what_is_not_a_wav_file_says_so() {
        assert!(matches!(read(&b""[..]), Err(WavError::Io(_))));
        assert!(matches!(
            read(&b"ID3\x03 this is an MP3 file"[..]),
            Err(WavError::Damaged(_))
        ));
    }

    #[test]
    fn a_compressed_wav_file_says_that_it_is_not_pcm() {
        let mut bytes = file(spec(1, 16, SampleFormat::Int), &[0; 100]);
        bytes[20] = 7; // format tag: mu-law
        assert!(matches!(read(bytes.as_slice()), Err(WavError::NotPcm)));
    }

    #[test]
    fn a_cut_file_or_random_bytes_are_an_error_and_never_a_panic() {
        let whole = file(spec(2, 16, SampleFormat::Int), &[7; 500]);
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_err(), "cut at {length}");
        }
        let mut damaged = whole.clone();
        for index in 0..60 {
            for value in [0, 1, 0x7f, 0xff] {
                damaged[index] = value;
                let _outcome = read(damaged.as_slice());
                damaged[index] = whole[index];
            }
        }
    }
}
