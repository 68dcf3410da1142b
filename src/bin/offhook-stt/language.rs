//! Which language was spoken, by the model's own word.
//!
//! Whisper says it as the token that it wants behind the start of a transcript. Which one it is
//! told instead decides in which language it writes, not what it heard.

use offhook::engines::SpokenLanguage;
use offhook::ids::LanguageCode;

use crate::decode::log_sum_exp;
use crate::whisper::Language;

/// A probability for each of the model's languages, in its order; empty for a model that knows
/// only one.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Languages(Vec<f32>);

impl Languages {
    /// Reads the logits of the token that follows the start. Only languages count: they share all
    /// of the probability.
    pub(crate) fn of(logits: &[f32], languages: &[Language]) -> Self {
        let logit = |language: &Language| {
            let at = usize::try_from(language.token).ok();
            at.and_then(|at| logits.get(at)).copied()
        };
        let wanted: Option<Vec<f32>> = languages.iter().map(logit).collect();
        let wanted = wanted.unwrap_or_default();
        let all = log_sum_exp(&wanted);
        Self(wanted.iter().map(|logit| (logit - all).exp()).collect())
    }

    /// The mean over pieces of a stretch, each with its weight.
    pub(crate) fn mean<'a>(pieces: impl IntoIterator<Item = (&'a Self, f32)>) -> Self {
        let mut sum = Vec::new();
        let mut total = 0.0;
        for (Self(piece), weight) in pieces {
            sum.resize(piece.len().max(sum.len()), 0.0);
            for (sum, probability) in sum.iter_mut().zip(piece) {
                *sum += probability * weight;
            }
            total += weight;
        }
        Self(sum.into_iter().map(|sum| sum / total).collect())
    }

    /// What speaks for `expected`, and for the likeliest of the others; `None` where there are
    /// none, or `expected` is none that the model knows.
    pub(crate) fn beside(
        &self,
        expected: &LanguageCode,
        languages: &[Language],
    ) -> Option<SpokenLanguage> {
        let all = languages.iter().zip(&self.0);
        let (ours, others): (Vec<_>, Vec<_>) = all.partition(|(one, _)| one.code == *expected);
        let (_, expected_probability) = ours.first()?;
        let (other, probability) = others.into_iter().max_by(|a, b| a.1.total_cmp(b.1))?;
        Some(SpokenLanguage {
            expected_probability: **expected_probability,
            other: other.code.clone(),
            other_probability: *probability,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Behind two tokens that are no languages.
    fn known() -> Vec<Language> {
        let codes = ["en", "de", "fr"].into_iter().zip(2..);
        let language = |(code, token): (&str, _)| Language {
            code: code.parse().unwrap(),
            token,
        };
        codes.map(language).collect()
    }

    fn spoken(languages: &Languages, expected: &str) -> Option<SpokenLanguage> {
        languages.beside(&expected.parse().unwrap(), &known())
    }

    #[test]
    fn the_languages_share_all_of_the_probability_whatever_else_is_likely() {
        let (one, three) = (1.0_f32.ln(), 3.0_f32.ln());
        let heard = Languages::of(&[50.0, 9.0, one, three, f32::NEG_INFINITY], &known());
        let english = spoken(&heard, "en").unwrap();
        assert!((english.expected_probability - 0.25).abs() < 1e-5);
        assert_eq!(english.other.as_str(), "de");
        assert!((english.other_probability - 0.75).abs() < 1e-5);
        let german = spoken(&heard, "de").unwrap();
        assert_eq!(german.other.as_str(), "en", "the likeliest of the others");
        assert!((german.expected_probability - 0.75).abs() < 1e-5);
    }

    #[test]
    fn nothing_is_said_of_a_language_that_the_model_does_not_know() {
        let heard = Languages::of(&[0.0; 5], &known());
        assert_eq!(spoken(&heard, "tlh"), None);
        let english_only = Languages::of(&[0.0; 5], &[]);
        let english = "en".parse().unwrap();
        assert_eq!(english_only.beside(&english, &[]), None);
        let cut = Languages::of(&[0.0; 3], &known());
        assert_eq!(spoken(&cut, "en"), None, "logits of another vocabulary");
    }

    #[test]
    fn the_longer_piece_of_a_stretch_weighs_more() {
        let piece = |english: f32| Languages(vec![english, 1.0 - english, 0.0]);
        let mean = Languages::mean([(&piece(1.0), 1.0), (&piece(0.2), 3.0)]);
        let english = spoken(&mean, "en").unwrap();
        assert!((english.expected_probability - 0.4).abs() < 1e-5);
        assert_eq!(spoken(&Languages::mean([]), "en"), None);
    }
}
