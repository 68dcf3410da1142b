//! Telephone audio: frames, codecs, levels, resampling, tones, gain, mixing and WAV files.
//!
//! Pure: nothing here reads a clock or keeps anything beyond what it was given. Samples are
//! signed 16-bit, mono. Between media and engines the rate is 8 kHz and a [`Frame`] is 20 ms.

pub mod beep;
pub mod codec;
pub mod dtmf;
mod frame;
pub mod gain;
pub mod level;
pub mod mix;
pub mod music;
pub mod resample;
pub mod tone;
pub mod wav;

pub use codec::{Codec, PayloadKind};
pub use frame::{FRAME_SAMPLES, Frame, SampleRate};
