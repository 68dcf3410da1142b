//! Telephone audio: frames, codecs, levels, resampling, tones, gain, mixing and WAV files.
//!
//! Pure: nothing here reads a clock or keeps anything beyond what it was given. Samples are
//! signed 16-bit, mono. Between media and engines a frame is 20 ms, at 8 kHz ([`Frame`]) or, where
//! the codec has it, at 16 kHz ([`WideFrame`]); calls count time in samples at 8 kHz.

pub mod beep;
pub mod codec;
pub mod dtmf;
pub mod echo;
mod frame;
pub mod g722;
pub mod gain;
pub mod level;
pub mod mix;
pub mod music;
mod opus;
pub mod resample;
pub mod shape;
pub mod tone;
pub mod twofold;
pub mod wav;

pub use codec::{Codec, Decoder, Encoder, PayloadKind};
pub use frame::{AnyFrame, FRAME_SAMPLES, Frame, SampleRate, Sound, WIDE_FRAME_SAMPLES, WideFrame};
