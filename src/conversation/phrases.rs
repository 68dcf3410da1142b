//! Phrases compared as people hear them: without case, punctuation or spacing.

/// Vapi's default `stopSpeakingPlan.acknowledgementPhrases`, and the spellings that recognisers
/// give to the same noises.
pub(super) const ACKNOWLEDGEMENTS: &[&str] = &[
    "i understand",
    "i see",
    "i got it",
    "i hear you",
    "im listening",
    "im with you",
    "right",
    "okay",
    "ok",
    "sure",
    "alright",
    "got it",
    "understood",
    "yeah",
    "yes",
    "uh-huh",
    "mm-hmm",
    "gotcha",
    "mhmm",
    "ah",
    "yeah okay",
    "yeah sure",
    "mm",
    "mmm",
    "hmm",
    "hm",
    "mm-hm",
    "mhm",
    "uh",
    "um",
    "oh",
    "huh",
    "aha",
];

/// Vapi's default `stopSpeakingPlan.interruptionPhrases`.
pub(super) const INTERRUPTIONS: &[&str] = &[
    "stop",
    "shut",
    "up",
    "enough",
    "quiet",
    "silence",
    "but",
    "dont",
    "not",
    "no",
    "hold",
    "wait",
    "cut",
    "pause",
    "nope",
    "nah",
    "nevermind",
    "never",
    "bad",
    "actually",
];

/// Words said by people who have not finished: fillers, conjunctions, articles, prepositions.
pub(super) const UNFINISHED: &[&str] = &[
    "um",
    "uh",
    "er",
    "erm",
    "hmm",
    "and",
    "or",
    "but",
    "because",
    "if",
    "which",
    "the",
    "a",
    "an",
    "my",
    "your",
    "his",
    "their",
    "our",
    "to",
    "of",
    "with",
    "from",
    "for",
    "at",
    "whether",
    "would like",
    "i",
    "im",
    "the next",
    "need to",
    "want to",
    "let me see",
    "let me check",
    "one second",
    "one moment",
    "hold on",
];

/// The list as settings hold it.
pub(super) fn owned(list: &[&str]) -> Vec<String> {
    list.iter().map(|&phrase| phrase.to_owned()).collect()
}

/// The words of a text, lower case, without punctuation: "I'm 5, uh-huh!" is `im 5 uh huh`.
pub(super) fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    for letter in text.chars() {
        if letter.is_alphanumeric() {
            word.extend(letter.to_lowercase());
        } else if !matches!(letter, '\'' | '\u{2019}') && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// A set of phrases, each a row of words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PhraseSet {
    phrases: Vec<Vec<String>>,
}

impl PhraseSet {
    pub(super) fn new<T: AsRef<str>>(phrases: impl IntoIterator<Item = T>) -> Self {
        let phrases = phrases.into_iter().map(|phrase| words(phrase.as_ref()));
        Self {
            phrases: phrases.filter(|words| !words.is_empty()).collect(),
        }
    }

    /// One of the phrases is said somewhere in the text.
    pub(super) fn is_in(&self, text: &str) -> bool {
        let said = words(text);
        self.phrases
            .iter()
            .any(|phrase| said.windows(phrase.len()).any(|part| part == phrase))
    }

    /// The text ends with one of the phrases.
    pub(super) fn ends(&self, text: &str) -> bool {
        let said = words(text);
        self.phrases.iter().any(|phrase| said.ends_with(phrase))
    }

    /// The text is one of the phrases and nothing else.
    pub(super) fn is(&self, text: &str) -> bool {
        self.phrases.contains(&words(text))
    }

    /// The text is nothing but these phrases, one after another. An empty text is.
    pub(super) fn covers(&self, text: &str) -> bool {
        let said = words(text);
        // reachable[i]: the first i words are a row of phrases.
        let mut reachable = vec![false; said.len() + 1];
        reachable[0] = true;
        for start in 0..said.len() {
            if !reachable[start] {
                continue;
            }
            for phrase in &self.phrases {
                if said[start..].starts_with(phrase) {
                    reachable[start + phrase.len()] = true;
                }
            }
        }
        reachable[said.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_forget_case_punctuation_and_apostrophes() {
        assert_eq!(
            words("  I'm, uh-huh: Don\u{2019}t! 5 "),
            ["im", "uh", "huh", "dont", "5"]
        );
        assert_eq!(words("... !"), Vec::<String>::new());
    }

    #[test]
    fn an_acknowledgement_may_be_a_row_of_them_but_nothing_else() {
        let set = PhraseSet::new(ACKNOWLEDGEMENTS);
        for text in [
            "Mm-hmm.",
            "Yeah, okay. Right!",
            "uh huh",
            "I see... got it",
            "",
        ] {
            assert!(set.covers(text), "{text}");
        }
        for text in ["Yeah, but", "okay what about Monday", "rights"] {
            assert!(!set.covers(text), "{text}");
        }
    }

    #[test]
    fn a_phrase_is_found_only_as_whole_words() {
        let set = PhraseSet::new(["Good bye", "talk soon"]);
        assert!(set.is_in("Thanks. Good-bye!"));
        assert!(set.is_in("We talk soon, then."));
        assert!(!set.is_in("A good byelaw"));
        assert!(set.is("GOOD BYE."));
        assert!(!set.is("Good bye now"));
        assert!(set.ends("So good bye"));
    }
}
