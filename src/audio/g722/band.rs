//! One of G.722's two sub-bands: adaptive quantiser and predictor. Functions bear the names of
//! the Recommendation's blocks where they have one.

/// Lower band, 6-bit codes: the decision levels (table 14, Q6).
const DECISIONS: [i32; 29] = [
    35, 72, 110, 150, 190, 233, 276, 323, 370, 422, 473, 530, 587, 650, 714, 786, 858, 940, 1_023,
    1_121, 1_219, 1_339, 1_458, 1_612, 1_765, 1_980, 2_195, 2_557, 2_919,
];
/// Lower band: what a 6-bit code stands for (QQ6), as a share of the scale factor in 2^-15.
const VALUES_6: [i32; 64] = [
    -136, -136, -136, -136, -24_808, -21_904, -19_008, -16_704, -14_984, -13_512, -12_280, -11_192,
    -10_232, -9_360, -8_576, -7_856, -7_192, -6_576, -6_000, -5_456, -4_944, -4_464, -4_008,
    -3_576, -3_168, -2_776, -2_400, -2_032, -1_688, -1_360, -1_040, -728, 24_808, 21_904, 19_008,
    16_704, 14_984, 13_512, 12_280, 11_192, 10_232, 9_360, 8_576, 7_856, 7_192, 6_576, 6_000,
    5_456, 4_944, 4_464, 4_008, 3_576, 3_168, 2_776, 2_400, 2_032, 1_688, 1_360, 1_040, 728, 432,
    136, -432, -136,
];
/// Lower band: what its four leading bits stand for (QQ4), which is what adapts it.
const VALUES_4: [i32; 16] = [
    0, -20_456, -12_896, -8_968, -6_288, -4_240, -2_584, -1_200, 20_456, 12_896, 8_968, 6_288,
    4_240, 2_584, 1_200, 0,
];
/// Higher band: what a 2-bit code stands for (QQ2).
const VALUES_2: [i32; 4] = [-7_408, -1_616, 7_408, 1_616];
/// Higher band: its only decision level.
const DECISION_2: i32 = 564;
/// How a code changes the logarithm of the scale factor (WL by RL42, WH by RH2).
const STEPS_4: [i32; 16] = [
    -60, 3_042, 1_198, 538, 334, 172, 58, -30, 3_042, 1_198, 538, 334, 172, 58, -30, -60,
];
const STEPS_2: [i32; 4] = [798, -214, 798, -214];
/// Powers of two by their fraction in 32nds, times 2048 (ILB).
const POWERS: [i32; 32] = [
    2_048, 2_093, 2_139, 2_186, 2_233, 2_282, 2_332, 2_383, 2_435, 2_489, 2_543, 2_599, 2_656,
    2_714, 2_774, 2_834, 2_896, 2_960, 3_025, 3_091, 3_158, 3_228, 3_298, 3_371, 3_444, 3_520,
    3_597, 3_676, 3_756, 3_838, 3_922, 4_008,
];

/// What the bands differ in.
#[derive(Debug)]
pub(super) struct Kind {
    is_low: bool,
    /// The scale factor at the start.
    scale: i32,
    /// The most that its logarithm may be.
    most: i32,
    /// What its logarithm is counted from.
    octave: i32,
}

/// 0 to 4 kHz in 6 bits.
pub(super) static LOW: Kind = Kind {
    is_low: true,
    scale: 32,
    most: 18_432,
    octave: 8,
};
/// 4 to 8 kHz in 2 bits.
pub(super) static HIGH: Kind = Kind {
    is_low: false,
    scale: 8,
    most: 22_528,
    octave: 10,
};

/// The state of one band, the same on both sides.
#[derive(Clone, Debug)]
pub(super) struct Band {
    kind: &'static Kind,
    /// What the next sample is expected to be.
    predicted: i32,
    /// The share of it that comes from past differences.
    from_differences: i32,
    /// Of the last reconstructed samples, newest first.
    reconstructed: [i32; 2],
    /// The last sums of difference and zero prediction, newest first.
    partial: [i32; 2],
    /// Pole coefficients.
    poles: [i32; 2],
    /// The last differences, newest first, and the zero coefficients for them.
    differences: [i32; 6],
    zeros: [i32; 6],
    /// Logarithm of the scale factor, and the factor.
    log_scale: i32,
    scale: i32,
}

/// To 16 bits.
pub(super) fn saturated(value: i32) -> i32 {
    value.clamp(i16::MIN.into(), i16::MAX.into())
}

/// The sign bit of a 16-bit value, extended.
fn sign(value: i32) -> i32 {
    value >> 15
}

impl Band {
    pub(super) fn new(kind: &'static Kind) -> Self {
        Self {
            kind,
            predicted: 0,
            from_differences: 0,
            reconstructed: [0; 2],
            partial: [0; 2],
            poles: [0; 2],
            differences: [0; 6],
            zeros: [0; 6],
            log_scale: 0,
            scale: kind.scale,
        }
    }

    /// The code for a sample.
    pub(super) fn quantise(&mut self, sample: i32) -> u8 {
        let error = saturated(sample - self.predicted);
        let magnitude = if error >= 0 { error } else { -(error + 1) };
        let code = if self.kind.is_low {
            let above = |level: &&i32| magnitude >= (**level * self.scale) >> 12;
            let place = DECISIONS.iter().take_while(above).count() as u8;
            match (error >= 0, place) {
                // The two smallest steps of negative errors have the codes at the end.
                (true, place) => 61 - place,
                (false, place @ (0 | 1)) => 63 - place,
                (false, place) => 33 - place,
            }
        } else {
            let large = magnitude >= (DECISION_2 * self.scale) >> 12;
            u8::from(error >= 0) << 1 | u8::from(!large)
        };
        self.adapt(code);
        code
    }

    /// The sample that a code stands for.
    pub(super) fn reconstruct(&mut self, code: u8) -> i32 {
        let share = if self.kind.is_low {
            VALUES_6[usize::from(code & 63)]
        } else {
            VALUES_2[usize::from(code & 3)]
        };
        let sample = self.predicted + ((self.scale * share) >> 15);
        self.adapt(code);
        sample.clamp(-16_384, 16_383)
    }

    /// Follows what a code says (blocks 2L to 4L, 3H and 4H).
    fn adapt(&mut self, code: u8) {
        let (share, step) = if self.kind.is_low {
            let index = usize::from(code >> 2 & 15);
            (VALUES_4[index], STEPS_4[index])
        } else {
            let index = usize::from(code & 3);
            (VALUES_2[index], STEPS_2[index])
        };
        let difference = (self.scale * share) >> 15;
        self.log_scale = (((self.log_scale * 127) >> 7) + step).clamp(0, self.kind.most);
        self.scale = self.scale_factor();
        self.predict(difference);
    }

    /// SCALEL, SCALEH.
    fn scale_factor(&self) -> i32 {
        let power = POWERS[(self.log_scale >> 6 & 31) as usize];
        let octaves = self.kind.octave - (self.log_scale >> 11);
        let factor = if octaves < 0 {
            power << -octaves
        } else {
            power >> octaves
        };
        factor << 2
    }

    fn predict(&mut self, difference: i32) {
        let reconstructed = saturated(self.predicted + difference);
        let partial = saturated(self.from_differences + difference);
        self.poles = self.updated_poles(partial);
        self.zeros = self.updated_zeros(difference);
        self.partial = [partial, self.partial[0]];
        self.reconstructed = [reconstructed, self.reconstructed[0]];
        self.differences.copy_within(..5, 1);
        self.differences[0] = difference;

        let product =
            |(coefficient, value): (&i32, &i32)| (coefficient * saturated(value * 2)) >> 15;
        let from_poles: i32 = self
            .poles
            .iter()
            .zip(&self.reconstructed)
            .map(product)
            .sum();
        // Summed from the oldest on, as the Recommendation saturates on the way.
        let zeros = self.zeros.iter().zip(&self.differences).rev();
        self.from_differences = zeros
            .map(product)
            .fold(0, |sum, term| saturated(sum + term));
        self.predicted = saturated(saturated(from_poles) + self.from_differences);
    }

    /// UPPOL1, UPPOL2.
    fn updated_poles(&self, partial: i32) -> [i32; 2] {
        let [first, second] = self.poles;
        let agrees = self.partial.map(|before| sign(before) == sign(partial));
        let four_times = saturated(first * 4);
        let towards = if agrees[0] { -four_times } else { four_times };
        let leak = if agrees[1] { 128 } else { -128 };
        let new_second =
            ((towards.min(32_767) >> 7) + leak + ((second * 32_512) >> 15)).clamp(-12_288, 12_288);
        let push = if agrees[0] { 192 } else { -192 };
        let limit = saturated(15_360 - new_second);
        let new_first = saturated(push + ((first * 32_640) >> 15)).clamp(-limit, limit);
        [new_first, new_second]
    }

    /// UPZERO.
    fn updated_zeros(&self, difference: i32) -> [i32; 6] {
        let push = if difference == 0 { 0 } else { 128 };
        std::array::from_fn(|n| {
            let agrees = sign(self.differences[n]) == sign(difference);
            let push = if agrees { push } else { -push };
            saturated(push + ((self.zeros[n] * 32_640) >> 15))
        })
    }
}
