//! Picks the next token from the model's logits, and notices a model that repeats itself.
//!
//! llama.cpp's own samplers sort and hash the whole vocabulary (152,000 entries for Qwen) for
//! every token of every call; here one pass over the logits is enough, since only the tokens of
//! the reply itself are ever penalised and at most [`TOP_K`] candidates survive.

use llama_cpp_2::token::LlamaToken;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Candidates that stay in the draw when the temperature is above zero.
const TOP_K: usize = 40;
/// How far back the repetition penalty looks, in tokens of the reply.
const PENALTY_WINDOW: usize = 64;
/// The longest phrase, in tokens, whose repetition is noticed.
const LONGEST_LOOP: usize = 48;
/// A phrase of this many tokens may not be said twice in a row.
const LONG_PHRASE: usize = 16;
/// A shorter phrase, said over and over, may cover this many tokens; a telephone number with
/// repeated digits stays below it.
const SHORT_PHRASES: usize = 20;

/// How a reply's tokens are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sampling {
    /// 0 takes the likeliest token.
    pub(crate) temperature: f32,
    /// Share of the probability that stays in the draw, above 0 and up to 1.
    pub(crate) top_p: f32,
    /// Divides the score of tokens that the reply already contains; 1 leaves them alone.
    pub(crate) repetition_penalty: f32,
    /// Seeds the draw.
    pub(crate) seed: u64,
}

/// Draws the tokens of one reply.
#[derive(Debug)]
pub(crate) struct Sampler {
    sampling: Sampling,
    rng: StdRng,
    reply: Vec<LlamaToken>,
}

impl Sampler {
    /// A sampler for a new reply.
    pub(crate) fn new(sampling: Sampling) -> Self {
        Self {
            sampling,
            rng: StdRng::seed_from_u64(sampling.seed),
            reply: Vec::new(),
        }
    }

    /// The next token; `None` when no logit is a number, which a broken model or build does.
    pub(crate) fn pick(&mut self, logits: &[f32]) -> Option<LlamaToken> {
        let token = if self.sampling.temperature <= 0.0 {
            self.likeliest(logits)
        } else {
            self.draw(logits)
        }?;
        self.reply.push(token);
        Some(token)
    }

    /// Whether the reply has begun to go round in circles.
    pub(crate) fn is_looping(&self) -> bool {
        is_looping(&self.reply)
    }

    /// Tokens drawn so far.
    pub(crate) fn drawn(&self) -> usize {
        self.reply.len()
    }

    fn score(&self, id: usize, logit: f32, recent: &[LlamaToken]) -> f32 {
        let penalty = self.sampling.repetition_penalty;
        let seen = || {
            recent
                .iter()
                .any(|token| usize::try_from(token.0) == Ok(id))
        };
        // `recent` is empty where no penalty is set, which keeps the common case one compare.
        if recent.is_empty() || !seen() {
            logit
        } else if logit > 0.0 {
            logit / penalty
        } else {
            logit * penalty
        }
    }

    fn recent(&self) -> &[LlamaToken] {
        if (self.sampling.repetition_penalty - 1.0).abs() < f32::EPSILON {
            return &[];
        }
        &self.reply[self.reply.len().saturating_sub(PENALTY_WINDOW)..]
    }

    fn likeliest(&self, logits: &[f32]) -> Option<LlamaToken> {
        self.best(logits, 1).first().map(|&(id, _)| id)
    }

    /// The `count` best candidates, best first.
    fn best(&self, logits: &[f32], count: usize) -> Vec<(LlamaToken, f32)> {
        let recent = self.recent();
        let mut best: Vec<(LlamaToken, f32)> = Vec::with_capacity(count + 1);
        for (id, &logit) in logits.iter().enumerate() {
            let full = best.len() == count;
            // A penalty above 1 only lowers a score, so the raw logit is an upper bound.
            let bound = if full {
                best[count - 1].1
            } else {
                f32::NEG_INFINITY
            };
            let may_rise = self.sampling.repetition_penalty < 1.0;
            if logit.is_nan() || (full && logit <= bound && !may_rise) {
                continue;
            }
            let score = self.score(id, logit, recent);
            if score == f32::NEG_INFINITY || (full && score <= bound) {
                continue;
            }
            let Ok(id) = i32::try_from(id) else { break };
            let at = best.partition_point(|&(_, other)| other >= score);
            best.insert(at, (LlamaToken(id), score));
            best.truncate(count);
        }
        best
    }

    fn draw(&mut self, logits: &[f32]) -> Option<LlamaToken> {
        let best = self.best(logits, TOP_K);
        let top = best.first()?.1;
        let weights: Vec<f32> = best
            .iter()
            .map(|&(_, score)| ((score - top) / self.sampling.temperature).exp())
            .collect();
        let total: f32 = weights.iter().sum();
        let mut kept = 0.0;
        let mut count = 0;
        for weight in &weights {
            kept += weight;
            count += 1;
            if kept >= total * self.sampling.top_p {
                break;
            }
        }
        let mut left = self.rng.random::<f32>() * kept;
        for (&(token, _), weight) in best.iter().zip(&weights).take(count) {
            left -= weight;
            if left <= 0.0 {
                return Some(token);
            }
        }
        // Rounding may leave a sliver; it belongs to the last candidate kept.
        best.get(count.saturating_sub(1)).map(|&(token, _)| token)
    }
}

/// Whether `reply` ends in a phrase said twice in a row (a long one) or over and over (a short
/// one).
fn is_looping(reply: &[LlamaToken]) -> bool {
    (1..=LONGEST_LOOP).any(|period| {
        let (times, least) = if period >= LONG_PHRASE {
            (2, 0)
        } else {
            (3, SHORT_PHRASES)
        };
        let length = (period * times).max(least);
        let Some(start) = reply.len().checked_sub(length) else {
            return false;
        };
        let tail = &reply[start..];
        tail.iter().zip(&tail[period..]).all(|(a, b)| a == b)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREEDY: Sampling = Sampling {
        temperature: 0.0,
        top_p: 1.0,
        repetition_penalty: 1.0,
        seed: 1,
    };

    fn tokens(ids: &[i32]) -> Vec<LlamaToken> {
        ids.iter().copied().map(LlamaToken).collect()
    }

    #[test]
    fn zero_temperature_takes_the_likeliest_and_skips_nan() {
        let mut sampler = Sampler::new(GREEDY);
        assert_eq!(
            sampler.pick(&[0.5, f32::NAN, 2.0, 1.0]),
            Some(LlamaToken(2))
        );
        assert_eq!(sampler.pick(&[f32::NAN, f32::NEG_INFINITY]), None);
        assert_eq!(sampler.pick(&[]), None);
    }

    #[test]
    fn a_penalty_makes_a_said_token_lose_against_a_close_second() {
        let mut sampler = Sampler::new(Sampling {
            repetition_penalty: 1.5,
            ..GREEDY
        });
        let logits = [1.0, 3.0, 2.5];
        assert_eq!(sampler.pick(&logits), Some(LlamaToken(1)));
        assert_eq!(
            sampler.pick(&logits),
            Some(LlamaToken(2)),
            "3.0 / 1.5 is below 2.5"
        );
        let negative = [-4.0, -1.0, -1.2];
        assert_eq!(
            sampler.pick(&negative),
            Some(LlamaToken(1)),
            "both said: -1.5 against -1.8"
        );
    }

    #[test]
    fn the_same_seed_draws_the_same_reply_and_other_seeds_differ() {
        let logits: Vec<f32> = (0..100).map(|id| (id % 7) as f32).collect();
        let reply = |seed| {
            let sampling = Sampling {
                temperature: 1.0,
                seed,
                ..GREEDY
            };
            let mut sampler = Sampler::new(sampling);
            (0..20).map(|_| sampler.pick(&logits)).collect::<Vec<_>>()
        };
        assert_eq!(reply(7), reply(7));
        assert_ne!(reply(7), reply(8));
    }

    #[test]
    fn a_small_top_p_leaves_only_the_likeliest() {
        let sampling = Sampling {
            temperature: 2.0,
            top_p: 0.01,
            ..GREEDY
        };
        let mut sampler = Sampler::new(sampling);
        for _ in 0..50 {
            assert_eq!(sampler.pick(&[1.0, 1.5, 1.2]), Some(LlamaToken(1)));
        }
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let sampling = Sampling {
            temperature: 1.0,
            ..GREEDY
        };
        let mut sampler = Sampler::new(sampling);
        // exp(ln 3) : 1 is three to one.
        let logits = [3.0_f32.ln(), 0.0];
        let first = (0..4000)
            .filter(|_| sampler.pick(&logits) == Some(LlamaToken(0)))
            .count();
        assert!((2850..3150).contains(&first), "{first} of 4000");
    }

    #[test]
    fn a_sentence_said_twice_is_a_loop() {
        let mut reply: Vec<i32> = (100..120).collect();
        reply.extend(100..119);
        assert!(
            !is_looping(&tokens(&reply)),
            "one token short of a second time"
        );
        reply.push(119);
        assert!(is_looping(&tokens(&reply)));
    }

    #[test]
    fn a_word_said_over_and_over_is_a_loop_but_a_telephone_number_is_not() {
        assert!(!is_looping(&tokens(&[5, 5, 5, 0, 0, 0, 0, 0, 0, 0])));
        assert!(!is_looping(&tokens(&[1, 2, 1, 2, 1, 2, 1, 2])));
        assert!(is_looping(&tokens(&[7; 24])));
        let twice: Vec<i32> = [9, 8].repeat(12);
        assert!(is_looping(&tokens(&twice)));
    }
}
