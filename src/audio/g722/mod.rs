//! ITU-T G.722 at 64 kbit/s (mode 1; RFC 3551 section 4.5.2): 16 kHz sound in 8 bits for each
//! two samples.
//!
//! ```text
//!   encode: 16 kHz --QMF--> low  8 kHz --ADPCM, 6 bits--+--> octet (high 2 bits, low 6 bits)
//!                      +--> high 8 kHz --ADPCM, 2 bits--+
//!   decode: the other way round
//! ```
//!
//! Both directions carry state from octet to octet, and follow the Recommendation's arithmetic
//! to the bit.

mod band;

use band::{Band, HIGH, LOW};

/// The quadrature mirror filters, one half of their symmetrical 24 taps (table 11).
const QMF: [i32; 12] = [3, -11, 12, 32, -210, 951, 3_876, -805, 362, -156, 53, -11];

/// A delay line of the mirror filters.
#[derive(Clone, Debug, Default)]
struct Line([i32; 24]);

impl Line {
    fn push(&mut self, first: i32, second: i32) {
        self.0.copy_within(2.., 0);
        [self.0[22], self.0[23]] = [first, second];
    }

    /// What the taps make of the samples at even and at odd places.
    fn filtered(&self) -> (i32, i32) {
        let pairs = self.0.chunks_exact(2);
        pairs
            .zip(QMF.iter().zip(QMF.iter().rev()))
            .fold((0, 0), |(even, odd), (pair, (tap, mirrored))| {
                (even + pair[0] * tap, odd + pair[1] * mirrored)
            })
    }
}

/// Encodes one stream.
#[derive(Clone, Debug)]
pub struct Encoder {
    line: Line,
    low: Band,
    high: Band,
    /// A first sample of two.
    odd: Option<i16>,
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            line: Line::default(),
            low: Band::new(&LOW),
            high: Band::new(&HIGH),
            odd: None,
        }
    }
}

impl Encoder {
    /// Appends one octet for each two `samples` (16 kHz); a single one waits for the next.
    pub fn encode(&mut self, samples: &[i16], octets: &mut Vec<u8>) {
        for sample in samples {
            match self.odd.take() {
                None => self.odd = Some(*sample),
                Some(first) => octets.push(self.octet(first, *sample)),
            }
        }
    }

    fn octet(&mut self, first: i16, second: i16) -> u8 {
        self.line.push(first.into(), second.into());
        let (even, odd) = self.line.filtered();
        let low = self.low.quantise((even + odd) >> 14);
        let high = self.high.quantise((odd - even) >> 14);
        high << 6 | low
    }
}

/// Decodes one stream.
#[derive(Clone, Debug)]
pub struct Decoder {
    line: Line,
    low: Band,
    high: Band,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            line: Line::default(),
            low: Band::new(&LOW),
            high: Band::new(&HIGH),
        }
    }
}

impl Decoder {
    /// Appends two samples (16 kHz) for each of `octets`.
    pub fn decode(&mut self, octets: &[u8], samples: &mut Vec<i16>) {
        samples.reserve(octets.len() * 2);
        for octet in octets {
            let low = self.low.reconstruct(octet & 0x3f);
            let high = self.high.reconstruct(octet >> 6);
            self.line.push(low + high, low - high);
            let (second, first) = self.line.filtered();
            samples.extend([first, second].map(|sum| band::saturated(sum >> 11) as i16));
        }
    }
}

#[cfg(test)]
mod tests;
