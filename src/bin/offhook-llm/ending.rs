//! Whether a sentence may be over: the model, which has read how people write, says how likely its
//! words end here.

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;

/// The tokens that end a sentence or a message.
#[derive(Debug)]
pub(crate) struct Endings {
    ends: Vec<usize>,
}

impl Endings {
    /// Those of the model: an end mark, a new line, or the end of the message.
    pub(crate) fn of(model: &LlamaModel) -> Self {
        let vocab = model.vocab();
        let ends = |&id: &i32| {
            let token = LlamaToken(id);
            let piece = vocab.token_to_piece(token, false, None);
            let text = String::from_utf8_lossy(&piece);
            let first = text.trim_start_matches(' ').chars().next();
            vocab.is_eog(token) || first.is_some_and(|first| ".?!\n".contains(first))
        };
        let ends = (0..vocab.n_tokens()).filter(ends);
        Self {
            ends: ends.filter_map(|id| usize::try_from(id).ok()).collect(),
        }
    }

    /// The share of the probability that the next token is one of them, 0 to 1; `None` where the
    /// logits are no numbers.
    pub(crate) fn probability(&self, logits: &[f32]) -> Option<f32> {
        let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weight = |logit: f32| f64::from(logit - top).exp();
        let all: f64 = logits.iter().map(|&logit| weight(logit)).sum();
        let ends = self.ends.iter().filter_map(|&id| logits.get(id));
        let ends: f64 = ends.map(|&logit| weight(logit)).sum();
        let share = (ends / all) as f32;
        share.is_finite().then_some(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_end_counts_by_its_share_and_what_is_no_number_does_not() {
        let endings = Endings { ends: vec![1, 3] };
        let half = endings.probability(&[2.0, 2.0, f32::NEG_INFINITY, f32::NEG_INFINITY]);
        assert!((half.expect("a share") - 0.5).abs() < 1e-6);
        let all = endings.probability(&[-50.0, 0.0, -50.0, 0.0]);
        assert!(all.expect("a share") > 0.99);
        for broken in [[f32::NAN; 4], [f32::NEG_INFINITY; 4]] {
            assert_eq!(endings.probability(&broken), None);
        }
    }
}
